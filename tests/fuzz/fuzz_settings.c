/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a configuration file crashes the daemon, or what `vnasd --check` prints is not what it read.
 *
 * Input: a configuration file.
 */
#include "config.h"

#include "common/settings.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* Return: 0 and the canonical form; or what settings_parse() said */
static int canonical(const void *bytes, size_t len, char **text, size_t *text_len)
{
	FILE *in = fmemopen((void *)bytes, len, "r"), *out;
	char why[SETTINGS_WHY_MAX] = "";
	struct settings settings;
	int rc;

	if (!in)
		abort();
	rc = settings_parse("fuzz", in, &settings, why);
	fclose(in);
	if (rc < 0) {
		if (!why[0] || !memchr(why, '\0', sizeof(why)))
			abort();
		return rc;
	}
	settings_validate(&settings, why);
	out = open_memstream(text, text_len);
	settings_print(&settings, out);
	fclose(out);
	settings_fini(&settings);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	char *once, *twice;
	size_t once_len, twice_len;

	if (len == 0 || canonical(bytes, len, &once, &once_len) < 0)
		return 0;
	if (canonical(once, once_len, &twice, &twice_len) < 0 || once_len != twice_len ||
	    memcmp(once, twice, once_len) != 0)
		abort();
	free(once);
	free(twice);
	return 0;
}
