/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nasctl.h"

#include "common/admin.h"
#include "common/admin_commands.h"
#include "common/nasctl_ask.h"
#include "common/nasctl_complete.h"
#include "common/nasctl_confirm.h"
#include "common/nasctl_password.h"
#include "common/nasctl_print.h"
#include "common/nasctl_text.h"
#include "common/nasctl_top.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

static const char default_socket[] = "/run/vnas/admin.sock";

struct invocation {
	const char *socket;
	bool wants_json, wants_help, wants_version;
	int count;
	char **words; /* the arguments without options that are common to all commands */
};

/* Help */

static char *usage_of(const struct admin_command *command)
{
	return nasctl_text_new("%s%s%s", command->name, *command->arguments ? " " : "", command->arguments);
}

/* Does @name begin with these words, the last of them possibly cut short? */
static bool begins_with(const char *name, int count, char *const *words)
{
	for (int i = 0; i < count; i++) {
		size_t len = strlen(words[i]);

		if (!len || strncmp(name, words[i], len) != 0 || (i < count - 1 && name[len] != ' '))
			return false;
		name += len + (name[len] == ' ');
	}
	return true;
}

/* One line for each command that begins with @words. Gives how many. */
static int print_commands(FILE *out, int count, char *const *words)
{
	size_t width = 0;
	int shown = 0;

	for (size_t i = 0; i < ADMIN_COMMAND_COUNT; i++) {
		size_t len = strlen(admin_commands[i].name) + 1 + strlen(admin_commands[i].arguments);

		if (begins_with(admin_commands[i].name, count, words) && len > width)
			width = len;
	}
	for (size_t i = 0; i < ADMIN_COMMAND_COUNT; i++) {
		char *usage = usage_of(&admin_commands[i]);

		if (begins_with(admin_commands[i].name, count, words)) {
			fprintf(out, "  %-*s  %s\n", (int)width, usage, admin_commands[i].help);
			shown++;
		}
		free(usage);
	}
	return shown;
}

/* How many letters to add, drop or change to make @a into @b: Levenshtein's, for short words. */
static unsigned int distance(const char *a, const char *b)
{
	unsigned int row[32], len = (unsigned int)strlen(b);

	if (len >= sizeof(row) / sizeof(row[0]))
		return len;
	for (unsigned int j = 0; j <= len; j++)
		row[j] = j;
	for (unsigned int i = 0; a[i]; i++) {
		unsigned int diagonal = row[0]++;

		for (unsigned int j = 1; j <= len; j++) {
			unsigned int changed = diagonal + (a[i] != b[j - 1]);

			diagonal = row[j];
			row[j] = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
			row[j] = changed < row[j] ? changed : row[j];
		}
	}
	return row[len];
}

/* The command that was most probably meant; NULL: no idea. */
static const struct admin_command *nearest(const char *typed)
{
	const struct admin_command *best = NULL;
	unsigned int least = 3;

	for (size_t i = 0; i < ADMIN_COMMAND_COUNT; i++) {
		unsigned int d = distance(typed, admin_commands[i].name);

		if (d < least) {
			least = d;
			best = &admin_commands[i];
		}
	}
	return best;
}

static int complain_unknown(int count, char *const *words)
{
	char *typed = nasctl_text_new("%s%s%s", words[0], count > 1 ? " " : "", count > 1 ? words[1] : "");
	const struct admin_command *meant = nearest(typed) ?: nearest(words[0]);

	if (meant) {
		nasctl_complain("there is no command \"%s\"; did you mean \"%s\"?", typed, meant->name);
	} else {
		nasctl_complain("there is no command \"%s\"; see `nasctl help`", typed);
		print_commands(stderr, 1, words);
	}
	free(typed);
	return NASCTL_USAGE;
}

static int help(int count, char *const *words)
{
	int name_words;
	const struct admin_command *command = admin_command_find(count, words, &name_words);

	if (count == 0)
		printf("Usage: nasctl [--json] [--socket PATH] [--config FILE] COMMAND [ARGUMENT...]\n\n");
	if (command)
		count = name_words;
	if (print_commands(stdout, count, words) == 0)
		return complain_unknown(count, words);
	if (count == 0)
		printf("\nNODE is a number or a name; VOLUME a number, a place or a UUID; SESSION an id such as 1-2a.\n"
		       "See nasctl(8).\n");
	return 0;
}

/* The command line */

/* Does argument *@i say option @name, with a value here or in the next? */
static bool takes_value(int argc, char **argv, int *i, const char *name, const char **value)
{
	size_t len = strlen(name);

	if (strncmp(argv[*i], name, len) == 0 && argv[*i][len] == '=') {
		*value = argv[*i] + len + 1;
		return true;
	}
	if (strcmp(argv[*i], name) != 0 || *i + 1 == argc)
		return false;
	*value = argv[++*i];
	return true;
}

/* Sort the arguments into options and words, which stay in @argv's order. */
static void read_arguments(int argc, char **argv, struct invocation *invocation)
{
	bool has_options = true;

	for (int i = 1; i < argc; i++) {
		if (!has_options)
			invocation->words[invocation->count++] = argv[i];
		else if (strcmp(argv[i], "--") == 0)
			has_options = false;
		else if (strcmp(argv[i], "--json") == 0)
			invocation->wants_json = true;
		else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			invocation->wants_help = true;
		else if (strcmp(argv[i], "--version") == 0)
			invocation->wants_version = true;
		else if (!takes_value(argc, argv, &i, "--socket", &invocation->socket))
			invocation->words[invocation->count++] = argv[i];
	}
}

static const char *default_path(void)
{
	const char *path = getenv("VNAS_SOCKET");

	return path && *path ? path : default_socket;
}

static const struct nasctl_local *find_local(const struct nasctl_local *locals, const char *name)
{
	for (; locals && locals->command; locals++)
		if (strcmp(locals->command, name) == 0)
			return locals;
	return NULL;
}

/* Words that are not typed: asked for, or read. Return: to be freed; NULL: none, and it has been said why */

static char *ask_password(const char *argument)
{
	(void)argument;
	return nasctl_password_ask();
}

/* @name: NULL: standard input */
static char *read_file(const char *name)
{
	FILE *in = name ? fopen(name, "r") : stdin;
	char *text = nasctl_array_new(ADMIN_REQUEST_MAX, 1);
	size_t len = in ? fread(text, 1, ADMIN_REQUEST_MAX, in) : 0;

	if (!in || ferror(in) || len == ADMIN_REQUEST_MAX) {
		nasctl_complain("%s can't be read: %s", name ? name : "standard input",
			 len == ADMIN_REQUEST_MAX ? "it is too long for a configuration" : strerror(errno));
		free(text);
		text = NULL;
	}
	if (in && name)
		fclose(in);
	return text;
}

static const struct addition {
	const char *command;
	int argument_count;
	int replaced; /* how many of the last arguments the word takes the place of */
	char *(*make)(const char *argument);
} additions[] = {
	{ "user passwd", 1, 0, ask_password },
	{ "config import", 0, 0, read_file },
	{ "config import", 1, 1, read_file },
};

static const struct addition *addition_of(const char *command, int argument_count)
{
	for (size_t i = 0; i < sizeof(additions) / sizeof(additions[0]); i++)
		if (strcmp(additions[i].command, command) == 0 && additions[i].argument_count == argument_count)
			return &additions[i];
	return NULL;
}

/* @more: out: as nasctl_ask() */
static json_t *ask_with_words(const struct invocation *invocation, const struct addition *addition, int *more)
{
	int count = invocation->count - (addition ? addition->replaced : 0);
	char **words = nasctl_array_new((size_t)invocation->count + 1, sizeof(*words)), *added = NULL;
	json_t *answer = NULL;

	memcpy(words, invocation->words, (size_t)count * sizeof(*words));
	if (addition)
		words[count] = added = addition->make(addition->replaced ? invocation->words[count] : NULL);
	if (added || !addition)
		answer = nasctl_ask(invocation->socket, count + !!added, words, more);
	free(added);
	free(words);
	return answer;
}

/* Is @answer a question? Then ask it, and send the command again. Takes @answer. NULL: it was not confirmed, or as nasctl_ask() */
static json_t *answer_after_confirming(const struct invocation *invocation, json_t *answer, int *more)
{
	const char *sentence = json_string_value(json_object_get(answer, "confirm"));
	const char *word = json_string_value(json_object_get(answer, "word"));
	char *shown, *typed, **words;
	bool is_sure;

	if (!sentence || !word)
		return answer;
	shown = nasctl_printable_text(sentence);
	typed = nasctl_printable_text(word);
	is_sure = nasctl_confirm(shown, typed);
	free(shown);
	free(typed);
	json_decref(answer);
	if (!is_sure)
		return NULL;
	words = nasctl_array_new((size_t)invocation->count + 1, sizeof(*words));
	memcpy(words, invocation->words, (size_t)invocation->count * sizeof(*words));
	words[invocation->count] = (char *)"--yes";
	answer = nasctl_ask(invocation->socket, invocation->count + 1, words, more);
	free(words);
	return answer;
}

static json_t *ask(const struct invocation *invocation, const struct addition *addition, int *more)
{
	*more = -1;
	return answer_after_confirming(invocation, ask_with_words(invocation, addition, more), more);
}

/* A document that is to be read again is in JSON for people, too. */
static bool is_json(const struct invocation *invocation, const struct admin_command *command)
{
	return invocation->wants_json || strcmp(command->name, "config export") == 0;
}

static int perform(const struct invocation *invocation, const struct nasctl_local *locals)
{
	int name_words, more = -1, status = NASCTL_FAILED;
	const struct admin_command *command = admin_command_find(invocation->count, invocation->words, &name_words);
	const struct nasctl_local *local;
	json_t *answer;

	if (!command)
		return complain_unknown(invocation->count, invocation->words);
	if (!admin_command_takes(command, invocation->count - name_words)) {
		char *usage = usage_of(command);

		fprintf(stderr, "Usage: nasctl %s\n", usage);
		free(usage);
		return NASCTL_USAGE;
	}
	if (strcmp(command->name, "top") == 0)
		return nasctl_top(invocation->socket, invocation->count - name_words, invocation->words + name_words,
				  invocation->wants_json);
	local = find_local(locals, command->name);
	if (local)
		answer = local->run(invocation->count - name_words, invocation->words + name_words);
	else
		answer = ask(invocation, addition_of(command->name, invocation->count - name_words), &more);
	if (more >= 0) {
		status = nasctl_print_following(answer, more, invocation->wants_json);
		close(more);
	} else if (answer) {
		status = nasctl_print_answer(answer, is_json(invocation, command));
	}
	json_decref(answer);
	return status;
}

/* Completion: a shell shows what is found, and no reasons. */

static json_t *ask_quietly(const char *command, void *arg)
{
	const struct invocation *invocation = arg;
	char *copy = nasctl_text_new("%s", command), *rest = NULL, *words[4];
	json_t *answer;
	int count = 0;

	for (char *word = strtok_r(copy, " ", &rest); word && count < 4; word = strtok_r(NULL, " ", &rest))
		words[count++] = word;
	answer = nasctl_ask_quietly(invocation->socket, count, words);
	free(copy);
	return answer;
}

static void print_candidate(const char *word, void *arg)
{
	(void)arg;
	puts(word);
}

static int complete(struct invocation *invocation)
{
	const struct nasctl_complete complete = { .ask = ask_quietly, .found = print_candidate, .arg = invocation };

	nasctl_complete(&complete, invocation->count - 1, invocation->words + 1);
	return 0;
}

int nasctl_main(int argc, char **argv, const struct nasctl_local *locals)
{
	struct invocation invocation = { .socket = default_path() };
	int status = 0;

	invocation.words = nasctl_array_new((size_t)argc, sizeof(*invocation.words));
	read_arguments(argc, argv, &invocation);
	if (invocation.wants_version)
		puts("nasctl " PACKAGE_VERSION);
	else if (invocation.wants_help)
		status = help(invocation.count, invocation.words);
	else if (invocation.count > 0 && strcmp(invocation.words[0], "help") == 0)
		status = help(invocation.count - 1, invocation.words + 1);
	else if (invocation.count > 0 && strcmp(invocation.words[0], "complete") == 0)
		status = complete(&invocation);
	else if (invocation.count > 0)
		status = perform(&invocation, locals);
	else
		status = help(0, NULL) ?: NASCTL_USAGE;
	free(invocation.words);
	return status;
}
