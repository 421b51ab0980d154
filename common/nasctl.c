/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nasctl.h"

#include "common/admin.h"
#include "common/admin_commands.h"
#include "common/bytes.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, CELL_GAP = 2, NESTED_INDENT = 2 };

static const char default_socket[] = "/run/vnas/admin.sock";

struct invocation {
	const char *socket;
	bool wants_json, wants_help, wants_version;
	int count;
	char **words; /* the arguments without options that are common to all commands */
};

static void __attribute__((format(printf, 1, 2))) complain(const char *format, ...)
{
	va_list args;

	fputs("nasctl: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

/* Without memory there is nothing left to do for a command. */
static void __attribute__((noreturn)) die_without_memory(void)
{
	complain("no memory");
	exit(EXIT_FAILED);
}

static void *array_new(size_t count, size_t size)
{
	void *array = calloc(count + 1, size);

	if (!array)
		die_without_memory();
	return array;
}

static char *__attribute__((format(printf, 1, 2))) text_new(const char *format, ...)
{
	char *text;
	va_list args;
	int len;

	va_start(args, format);
	len = vasprintf(&text, format, args);
	va_end(args);
	if (len < 0)
		die_without_memory();
	return text;
}

/* Values for people */

static char *bytes_text(json_int_t value)
{
	static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double scaled = (double)value;
	size_t power = 0;

	for (; scaled >= (power ? 1023.95 : 1024); power++) /* never "1024.0 KiB" */
		scaled /= 1024;
	return text_new("%.*f %s", power ? 1 : 0, scaled, names[power]);
}

static char *microseconds_text(json_int_t value)
{
	if (value < 1000)
		return text_new("%" JSON_INTEGER_FORMAT " us", value);
	if (value < 999950)
		return text_new("%.1f ms", (double)value / 1e3);
	return text_new("%.1f s", (double)value / 1e6);
}

static char *wall_time_text(json_int_t value)
{
	time_t seconds = value / 1000000000;
	struct tm local;
	char date[64];

	if (value == 0 || !localtime_r(&seconds, &local))
		return text_new("-"); /* never */
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &local);
	return text_new("%s", date);
}

static const struct unit {
	const char *suffix; /* of a name */
	char *(*text)(json_int_t value);
} units[] = {
	{ "_bytes", bytes_text },
	{ "_us", microseconds_text },
	{ "_ns", wall_time_text },
};

static const struct unit *unit_of(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t suffix_len = strlen(units[i].suffix);

		if (len > suffix_len && strcmp(name + len - suffix_len, units[i].suffix) == 0)
			return &units[i];
	}
	return NULL;
}

/* "used_bytes" is shown as "used": the value says the unit. */
static char *label_text(const char *name)
{
	const struct unit *unit = unit_of(name);
	char *label = text_new("%.*s", (int)(strlen(name) - (unit ? strlen(unit->suffix) : 0)), name);

	for (char *p = label; *p; p++)
		if (*p == '_')
			*p = ' ';
	return label;
}

/* File names of clients must not control the terminal. */
static char *printable_text(const char *string)
{
	char *text = text_new("%s", string);

	for (char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	return text;
}

static char *value_text(const char *name, const json_t *value);

static char *list_text(const char *name, const json_t *list)
{
	char *text = text_new("%s", "");
	const json_t *element;
	size_t i;

	json_array_foreach(list, i, element) {
		char *before = text, *more = value_text(name, element);

		text = text_new("%s%s%s", before, i ? ", " : "", more);
		free(before);
		free(more);
	}
	return text;
}

static char *object_text(const json_t *object)
{
	char *json = json_dumps(object, JSON_COMPACT), *text = text_new("%s", json ? json : "?");

	free(json);
	return text;
}

static char *value_text(const char *name, const json_t *value)
{
	const struct unit *unit = unit_of(name);

	switch (json_typeof(value)) {
	case JSON_STRING:
		return printable_text(json_string_value(value));
	case JSON_INTEGER:
		if (unit)
			return unit->text(json_integer_value(value));
		return text_new("%" JSON_INTEGER_FORMAT, json_integer_value(value));
	case JSON_REAL:
		return text_new("%.1f", json_real_value(value));
	case JSON_TRUE:
		return text_new("yes");
	case JSON_FALSE:
		return text_new("no");
	case JSON_NULL:
		return text_new("-");
	case JSON_ARRAY:
		return list_text(name, value);
	case JSON_OBJECT:
		return object_text(value);
	}
	return text_new("?");
}

/* Tables */

static void print_padding(size_t count)
{
	for (; count; count--)
		putchar(' ');
}

/* In characters, not bytes; good enough for names that are not Chinese. */
static size_t width_of(const char *text)
{
	size_t width = 0;

	for (; *text; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

struct shown_column {
	char *title;
	char **cells; /* by row */
	size_t width;
	bool is_number; /* aligned to the right */
};

static struct shown_column show_column(const json_t *column, const json_t *rows)
{
	const char *name = json_string_value(json_object_get(column, "name"));
	const char *title = json_string_value(json_object_get(column, "title"));
	struct shown_column shown = { .is_number = json_array_size(rows) > 0 };
	const json_t *row;
	size_t i;

	name = name ? name : "";
	shown.title = printable_text(title ? title : name);
	shown.width = width_of(shown.title);
	shown.cells = array_new(json_array_size(rows), sizeof(*shown.cells));
	json_array_foreach(rows, i, row) {
		const json_t *value = json_object_get(row, name);

		shown.cells[i] = value ? value_text(name, value) : text_new("-");
		shown.is_number &= !value || json_is_null(value) || json_is_number(value);
		if (width_of(shown.cells[i]) > shown.width)
			shown.width = width_of(shown.cells[i]);
	}
	return shown;
}

static void print_cell(const struct shown_column *column, const char *text, bool is_last)
{
	size_t padding = column->width - width_of(text);

	print_padding(column->is_number ? padding : 0);
	fputs(text, stdout);
	if (!is_last)
		print_padding((column->is_number ? 0 : padding) + CELL_GAP);
}

static void print_line(const struct shown_column *columns, size_t count, const size_t *row, size_t indent)
{
	print_padding(indent);
	for (size_t i = 0; i < count; i++)
		print_cell(&columns[i], row ? columns[i].cells[*row] : columns[i].title, i == count - 1);
	putchar('\n');
}

static void free_columns(struct shown_column *columns, size_t count, size_t row_count)
{
	for (size_t i = 0; i < count; i++) {
		for (size_t row = 0; row < row_count; row++)
			free(columns[i].cells[row]);
		free(columns[i].cells);
		free(columns[i].title);
	}
	free(columns);
}

/* @columns: [{"name", "title"}...] */
static void print_table(const json_t *columns, const json_t *rows, size_t indent)
{
	size_t count = json_array_size(columns), row_count = json_array_size(rows);
	struct shown_column *shown = array_new(count, sizeof(*shown));

	for (size_t i = 0; i < count; i++)
		shown[i] = show_column(json_array_get(columns, i), rows);
	print_line(shown, count, NULL, indent);
	for (size_t row = 0; row < row_count; row++)
		print_line(shown, count, &row, indent);
	free_columns(shown, count, row_count);
}

/* Records */

static bool has_column(const json_t *columns, const char *name)
{
	const json_t *column;
	size_t i;

	json_array_foreach(columns, i, column)
		if (strcmp(json_string_value(json_object_get(column, "name")), name) == 0)
			return true;
	return false;
}

/* A list in a record has no columns of its own: every name that occurs in it is one. */
static json_t *columns_of(const json_t *rows)
{
	json_t *columns = json_array(), *row, *value;
	const char *name;
	size_t i;

	json_array_foreach(rows, i, row)
		json_object_foreach(row, name, value) {
			char *label = label_text(name);

			if (!has_column(columns, name))
				json_array_append_new(columns, json_pack("{s:s, s:s}", "name", name, "title", label));
			free(label);
		}
	return columns;
}

static bool is_list_of_objects(const json_t *value)
{
	return json_is_object(json_array_get(value, 0));
}

static void print_record(json_t *record, size_t indent);

static void print_member(const char *name, json_t *value, size_t indent)
{
	char *label = label_text(name), *text = NULL;
	json_t *columns = NULL;

	print_padding(indent);
	if (is_list_of_objects(value)) {
		columns = columns_of(value);
		printf("%s:\n", label);
		print_table(columns, value, indent + NESTED_INDENT);
	} else if (json_object_size(value) > 0) {
		printf("%s:\n", label);
		print_record(value, indent + NESTED_INDENT);
	} else if (json_is_object(value) || (json_is_array(value) && json_array_size(value) == 0)) {
		printf("%s: none\n", label);
	} else {
		text = value_text(name, value);
		printf("%s: %s\n", label, text);
	}
	json_decref(columns);
	free(text);
	free(label);
}

static void print_record(json_t *record, size_t indent)
{
	const char *name;
	json_t *value;

	json_object_foreach(record, name, value)
		print_member(name, value, indent);
}

/* Answers. Gives the exit status. */

static int print_json(const json_t *answer)
{
	const json_t *rows = json_object_get(answer, "rows"), *record = json_object_get(answer, "record");

	if (json_dumpf(rows ? rows : record ? record : answer, stdout, JSON_INDENT(2)) < 0)
		return EXIT_FAILED;
	putchar('\n');
	return 0;
}

static int print_text(const json_t *answer)
{
	const json_t *rows = json_object_get(answer, "rows");
	json_t *record = json_object_get(answer, "record");
	const char *done = json_string_value(json_object_get(answer, "done"));
	char *sentence;

	if (rows) {
		print_table(json_object_get(answer, "columns"), rows, 0);
	} else if (record) {
		print_record(record, 0);
	} else if (done) {
		sentence = printable_text(done);
		puts(sentence);
		free(sentence);
	} else {
		complain("vnasd gave an answer that this nasctl doesn't know; are they of the same version?");
		return EXIT_FAILED;
	}
	return 0;
}

static int print_answer(const json_t *answer, bool as_json)
{
	const char *error = json_string_value(json_object_get(answer, "error"));
	int status;

	if (error) {
		char *sentence = printable_text(error);

		complain("%s", sentence);
		free(sentence);
		return EXIT_FAILED;
	}
	status = as_json ? print_json(answer) : print_text(answer);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		complain("the answer can't be written: %m");
		return EXIT_FAILED;
	}
	return status;
}

/* Asking vnasd */

static void complain_unreachable(const char *path, int error)
{
	if (error == EACCES || error == EPERM)
		complain("no permission for %s; be root, or in the group vnas", path);
	else
		complain("can't reach vnasd at %s: %s\nIs it not running? See `systemctl status vnas-master` (a disk node: "
			 "vnas-slave), or name its socket with --socket.", path, strerror(error));
}

/* A descriptor, or negative errno. */
static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, rc;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* A failure is not looked at: vnasd may have refused the request half read, and its answer says why. */
static void send_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

		if (n < 0)
			return;
		bytes += n;
		len -= (size_t)n;
	}
}

static bool receive_all(int fd, void *bytes, size_t len)
{
	return recv(fd, bytes, len, MSG_WAITALL) == (ssize_t)len;
}

static json_t *receive_answer(int fd)
{
	uint8_t header[ADMIN_HEADER_BYTES];
	struct bytes_reader reader = bytes_reader_init(header, sizeof(header));
	json_t *answer = NULL;
	uint32_t len;
	char *text;

	if (!receive_all(fd, header, sizeof(header)))
		return NULL;
	len = bytes_get_be32(&reader);
	if (len > ADMIN_ANSWER_MAX)
		return NULL;
	text = array_new(len, 1);
	if (receive_all(fd, text, len))
		answer = json_loadb(text, len, 0, NULL);
	free(text);
	return answer;
}

static char *request_text(int count, char *const *words)
{
	json_t *command = json_array();
	char *text = NULL;

	for (int i = 0; i < count; i++)
		if (json_array_append_new(command, json_string(words[i])) < 0) {
			complain("\"%s\" is not UTF-8 text", words[i]);
			json_decref(command);
			return NULL;
		}
	command = json_pack("{s:o}", "command", command);
	if (command)
		text = json_dumps(command, JSON_COMPACT);
	json_decref(command);
	return text;
}

/* NULL: none, and it has been said why. */
static json_t *ask(const char *path, const char *text)
{
	uint8_t header[ADMIN_HEADER_BYTES];
	struct bytes_writer writer = bytes_writer_init(header, sizeof(header));
	int fd = connect_to(path);
	json_t *answer;

	if (fd < 0) {
		complain_unreachable(path, -fd);
		return NULL;
	}
	bytes_put_be32(&writer, (uint32_t)strlen(text));
	send_all(fd, (const char *)header, sizeof(header));
	send_all(fd, text, strlen(text));
	answer = receive_answer(fd);
	if (!answer)
		complain("vnasd gave no answer; its log may say why: journalctl -u vnas-master (a disk node: vnas-slave)");
	close(fd);
	return answer;
}

/* Help */

static char *usage_of(const struct admin_command *command)
{
	return text_new("%s%s%s", command->name, *command->arguments ? " " : "", command->arguments);
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
	char *typed = text_new("%s%s%s", words[0], count > 1 ? " " : "", count > 1 ? words[1] : "");
	const struct admin_command *meant = nearest(typed) ?: nearest(words[0]);

	if (meant) {
		complain("there is no command \"%s\"; did you mean \"%s\"?", typed, meant->name);
	} else {
		complain("there is no command \"%s\"; see `nasctl help`", typed);
		print_commands(stderr, 1, words);
	}
	free(typed);
	return EXIT_USAGE;
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

static json_t *ask_with_words(const struct invocation *invocation)
{
	char *text = request_text(invocation->count, invocation->words);
	json_t *answer = text ? ask(invocation->socket, text) : NULL;

	free(text);
	return answer;
}

static int perform(const struct invocation *invocation, const struct nasctl_local *locals)
{
	int name_words, status;
	const struct admin_command *command = admin_command_find(invocation->count, invocation->words, &name_words);
	const struct nasctl_local *local;
	json_t *answer;

	if (!command)
		return complain_unknown(invocation->count, invocation->words);
	if (!admin_command_takes(command, invocation->count - name_words)) {
		char *usage = usage_of(command);

		fprintf(stderr, "Usage: nasctl %s\n", usage);
		free(usage);
		return EXIT_USAGE;
	}
	local = find_local(locals, command->name);
	if (local)
		answer = local->run(invocation->count - name_words, invocation->words + name_words);
	else
		answer = ask_with_words(invocation);
	status = answer ? print_answer(answer, invocation->wants_json) : EXIT_FAILED;
	json_decref(answer);
	return status;
}

int nasctl_main(int argc, char **argv, const struct nasctl_local *locals)
{
	struct invocation invocation = { .socket = default_path() };
	int status = 0;

	invocation.words = array_new((size_t)argc, sizeof(*invocation.words));
	read_arguments(argc, argv, &invocation);
	if (invocation.wants_version)
		puts("nasctl " PACKAGE_VERSION);
	else if (invocation.wants_help)
		status = help(invocation.count, invocation.words);
	else if (invocation.count > 0 && strcmp(invocation.words[0], "help") == 0)
		status = help(invocation.count - 1, invocation.words + 1);
	else if (invocation.count > 0)
		status = perform(&invocation, locals);
	else
		status = help(0, NULL) ?: EXIT_USAGE;
	free(invocation.words);
	return status;
}
