/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/fuzz/replay.c - main() of a fuzzer where there is no libFuzzer: runs the files of its saved corpus
 *
 * Usage: fuzz_NAME [FILE...]; without files those of tests/fuzz/corpus/NAME
 *
 * As libFuzzer does, calls LLVMFuzzerInitialize() first where there is one; it may exit with 77, "skipped".
 */
#include "config.h"

#include "common/stored_file.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static int replay(const char *path)
{
	uint8_t *stored, *alone;
	size_t len;
	int rc = stored_file_read(path, &stored, &len);

	if (rc < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(-rc));
		return rc;
	}
	alone = malloc(len + !len); /* without the NUL behind it, so that reading past the end is seen */
	if (!alone)
		abort();
	memcpy(alone, stored, len);
	free(stored);
	LLVMFuzzerTestOneInput(alone, len);
	free(alone);
	return 0;
}

static int is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static int replay_corpus(const char *program)
{
	const char *srcdir = getenv("srcdir"), *name = strstr(program, "fuzz_");
	char path[PATH_MAX];
	struct dirent **entries;
	int count, failed = 0;

	while (name && strstr(name + 1, "fuzz_"))
		name = strstr(name + 1, "fuzz_");
	snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/%s", srcdir ? srcdir : ".", name ? name + 5 : program);
	count = scandir(path, &entries, is_visible, alphasort);
	if (count <= 0) {
		fprintf(stderr, "%s: no corpus\n", path);
		return EXIT_FAILURE;
	}
	for (int i = 0; i < count; i++) {
		char file[2 * PATH_MAX];

		snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
		failed |= replay(file) < 0;
		free(entries[i]);
	}
	free(entries);
	printf("%s: %d inputs\n", path, count);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	int failed = 0;

	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	if (argc == 1)
		return replay_corpus(argv[0]);
	for (int i = 1; i < argc; i++)
		failed |= replay(argv[i]) < 0;
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
