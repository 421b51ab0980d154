/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a user of the group vnas crashes the daemon at its administration socket, or a command gets other words
 * than were sent.
 *
 * Input: a request with its length, and what follows it.
 */
#include "config.h"

#include "common/admin.h"
#include "common/admin_commands.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* Sent again, they are the same. */
static void check_again(const struct admin_words *words)
{
	json_t *command = json_array();
	struct admin_words again;
	char *text;

	for (int i = 0; i < words->count; i++)
		if (json_array_append_new(command, json_string(words->words[i])) < 0)
			abort(); /* not the UTF-8 that it was */
	command = json_pack("{s:o}", "command", command);
	text = json_dumps(command, JSON_COMPACT);
	if (!text || admin_words_decode(text, strlen(text), &again) || again.count != words->count)
		abort();
	for (int i = 0; i < words->count; i++)
		if (strcmp(words->words[i], again.words[i]) != 0)
			abort();
	admin_words_fini(&again);
	free(text);
	json_decref(command);
}

static void check_words(const struct admin_words *words)
{
	int name_words;
	const struct admin_command *command = admin_command_find(words->count, words->words, &name_words);

	if (words->count < 1 || words->count > ADMIN_WORDS_MAX)
		abort();
	if (!command)
		return;
	if (name_words < 1 || name_words > words->count)
		abort();
	admin_command_takes(command, words->count - name_words);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct admin_words words;
	size_t text_len;
	char *text;

	if (len < ADMIN_HEADER_BYTES || admin_header_decode(bytes, &text_len) || text_len > len - ADMIN_HEADER_BYTES)
		return 0;
	text = malloc(text_len + !text_len); /* alone, so that reading past it is seen */
	if (!text)
		abort();
	memcpy(text, bytes + ADMIN_HEADER_BYTES, text_len);
	if (admin_words_decode(text, text_len, &words) == 0) {
		check_words(&words);
		check_again(&words);
		admin_words_fini(&words);
	}
	free(text);
	return 0;
}
