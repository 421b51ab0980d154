/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nasctl_confirm.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool nasctl_confirm(const char *sentence, const char *word)
{
	char line[256] = "";

	if (!isatty(STDIN_FILENO)) {
		fprintf(stderr, "nasctl: %s Nothing was done: say --yes to do it\n", sentence);
		return false;
	}
	fprintf(stderr, "%s\nType %s to go on: ", sentence, word);
	if (fgets(line, sizeof(line), stdin))
		line[strcspn(line, "\n")] = '\0';
	if (strcmp(line, word) == 0)
		return true;
	fprintf(stderr, "nasctl: nothing was done\n");
	return false;
}
