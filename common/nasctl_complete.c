/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nasctl_complete.h"

#include "common/admin_commands.h"

#include <stdbool.h>
#include <string.h>

enum { WORD_MAX = 128 };

/* Arguments that vnasd knows by name: the members @member of the rows that @command answers with. */
static const struct {
	const char *argument, *command, *member;
} names[] = {
	{ "NODE", "node list", "name" },     { "VOLUME", "volume list", "place" }, { "SESSION", "session list", "id" },
	{ "USER", "user list", "name" },     { "GROUP", "group list", "name" },	   { "PATH", "export list", "path" },
};

static const struct {
	const char *argument, *word;
} choices[] = {
	{ "KIND", "full" },
	{ "KIND", "to-devices" },
	{ "KIND", "to-client" },
	{ "KIND", "prepare" },
	{ "LEVEL", "err" },
	{ "LEVEL", "warn" },
	{ "LEVEL", "info" },
	{ "LEVEL", "debug" },
	{ "COLUMN", "bytes" },
	{ "COLUMN", "operations" },
	{ "COLUMN", "sessions" },
	{ "COLUMN", "name" },
};

static void find_names(const struct nasctl_complete *complete, const char *command, const char *member)
{
	json_t *answer = complete->ask(command, complete->arg), *row;
	const char *word;
	size_t i;

	json_array_foreach(json_object_get(answer, "rows"), i, row)
		if ((word = json_string_value(json_object_get(row, member))) && *word)
			complete->found(word, complete->arg);
	json_decref(answer);
}

static void find_argument(const struct nasctl_complete *complete, const char *argument)
{
	if (argument[0] == '-')
		complete->found(argument, complete->arg);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i].argument, argument) == 0)
			find_names(complete, names[i].command, names[i].member);
	for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++)
		if (strcmp(choices[i].argument, argument) == 0)
			complete->found(choices[i].word, complete->arg);
}

/* One of the words of a command's arguments, of which a stroke separates alternatives: "[--lock|HASH]". */
static void find_alternatives(const struct nasctl_complete *complete, const char *argument, size_t len)
{
	char copy[WORD_MAX], *rest = NULL;

	if (len >= sizeof(copy))
		return;
	memcpy(copy, argument, len);
	copy[len] = '\0';
	for (char *word = strtok_r(copy, "[]|.", &rest); word; word = strtok_r(NULL, "[]|.", &rest))
		find_argument(complete, word);
}

static bool is_option(const char *word, size_t len)
{
	return len > 3 && word[0] == '[' && word[1] == '-' && word[len - 1] != ']';
}

/* The value of the option that the last word is: the word behind it. False: it is none */
static bool find_value(const struct nasctl_complete *complete, const char *arguments, const char *last)
{
	size_t len;

	for (const char *word = arguments; *(word += strspn(word, " ")); word += len) {
		len = strcspn(word, " ");
		if (is_option(word, len) && strlen(last) == len - 1 && strncmp(word + 1, last, len - 1) == 0) {
			word += len + 1;
			find_alternatives(complete, word, strcspn(word, " "));
			return true;
		}
	}
	return false;
}

/* How many of the words are neither options nor their values. */
static int count_positions(const char *arguments, int count, char *const *words)
{
	int positions = 0;

	for (int i = 0; i < count; i++) {
		char option[WORD_MAX];

		if (words[i][0] != '-') {
			positions++;
			continue;
		}
		/* "[--kind" in the arguments: a value follows. */
		if (strlen(words[i]) + 2 < sizeof(option)) {
			option[0] = '[';
			strcpy(option + 1, words[i]);
			strcat(option, " ");
			i += strstr(arguments, option) != NULL;
		}
	}
	return positions;
}

static void find_arguments(const struct nasctl_complete *complete, const char *arguments, int count, char *const *words)
{
	int wanted = count_positions(arguments, count, words), position = 0;
	size_t len, last_len = 0;
	const char *last = NULL;

	if (count && find_value(complete, arguments, words[count - 1]))
		return;
	for (const char *word = arguments; *(word += strspn(word, " ")); word += len) {
		len = strcspn(word, " ");
		if (word[0] == '[' && word[1] == '-') {
			find_alternatives(complete, word, len);
			if (is_option(word, len)) /* and over its value */
				len += 1 + strcspn(word + len + 1, " ");
			continue;
		}
		if (position++ == wanted)
			find_alternatives(complete, word, len);
		last = word;
		last_len = len;
	}
	/* "USER...": one more of them */
	if (wanted >= position && last && last_len > 3 && strncmp(last + last_len - 3, "...", 3) == 0)
		find_alternatives(complete, last, last_len);
}

/* The word of a command's name behind these; NULL: they are not its beginning. Borrowed, @len long */
static const char *next_of_name(const char *name, int count, char *const *words, size_t *len)
{
	for (int i = 0; i < count; i++) {
		*len = strcspn(name, " ");
		if (strlen(words[i]) != *len || strncmp(name, words[i], *len) != 0)
			return NULL;
		name += *len + (name[*len] == ' ');
	}
	*len = strcspn(name, " ");
	return *len ? name : NULL;
}

static void find_commands(const struct nasctl_complete *complete, int count, char *const *words)
{
	char word[WORD_MAX], before[WORD_MAX] = "";
	size_t len;

	for (size_t i = 0; i < ADMIN_COMMAND_COUNT; i++) {
		const char *next = next_of_name(admin_commands[i].name, count, words, &len);

		if (!next || len >= sizeof(word))
			continue;
		memcpy(word, next, len);
		word[len] = '\0';
		/* The commands of one object are together in the table. */
		if (strcmp(word, before) != 0)
			complete->found(word, complete->arg);
		strcpy(before, word);
	}
}

void nasctl_complete(const struct nasctl_complete *complete, int count, char *const *words)
{
	int name_words;
	const struct admin_command *command = admin_command_find(count, words, &name_words);

	if (command)
		find_arguments(complete, command->arguments, count - name_words, words + name_words);
	else
		find_commands(complete, count, words);
}
