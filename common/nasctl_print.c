/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nasctl_print.h"

#include "common/nasctl_ask.h"
#include "common/nasctl_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CELL_GAP = 2, NESTED_INDENT = 2 };

/* Tables */

static void print_padding(FILE *out, size_t count)
{
	for (; count; count--)
		fputc(' ', out);
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

/* @least_width: of what was printed above it */
static struct shown_column show_column(const json_t *column, const json_t *rows, size_t least_width)
{
	const char *name = json_string_value(json_object_get(column, "name"));
	const char *title = json_string_value(json_object_get(column, "title"));
	struct shown_column shown = { .is_number = json_array_size(rows) > 0, .width = least_width };
	const json_t *row;
	size_t i;

	name = name ? name : "";
	shown.title = nasctl_printable_text(title ? title : name);
	if (width_of(shown.title) > shown.width)
		shown.width = width_of(shown.title);
	shown.cells = nasctl_array_new(json_array_size(rows), sizeof(*shown.cells));
	json_array_foreach(rows, i, row) {
		const json_t *value = json_object_get(row, name);

		shown.cells[i] = value ? nasctl_value_text(name, value) : nasctl_text_new("-");
		shown.is_number &= !value || json_is_null(value) || json_is_number(value);
		if (width_of(shown.cells[i]) > shown.width)
			shown.width = width_of(shown.cells[i]);
	}
	return shown;
}

static void print_cell(FILE *out, const struct shown_column *column, const char *text, bool is_last)
{
	size_t padding = column->width - width_of(text);

	print_padding(out, column->is_number ? padding : 0);
	fputs(text, out);
	if (!is_last)
		print_padding(out, (column->is_number ? 0 : padding) + CELL_GAP);
}

static void print_line(FILE *out, const struct shown_column *columns, size_t count, const size_t *row, size_t indent)
{
	print_padding(out, indent);
	for (size_t i = 0; i < count; i++)
		print_cell(out, &columns[i], row ? columns[i].cells[*row] : columns[i].title, i == count - 1);
	fputc('\n', out);
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

/*
 * @columns: [{"name", "title"}...]. @widths: of the columns, for a table that comes in parts: zeros before its first part, which has the
 * titles; NULL: it is whole
 */
static void print_part(FILE *out, const json_t *columns, const json_t *rows, size_t indent, size_t *widths)
{
	size_t count = json_array_size(columns), row_count = json_array_size(rows);
	struct shown_column *shown = nasctl_array_new(count, sizeof(*shown));
	bool is_first = !widths || !widths[0];

	for (size_t i = 0; i < count; i++) {
		shown[i] = show_column(json_array_get(columns, i), rows, widths ? widths[i] : 0);
		if (widths)
			widths[i] = shown[i].width;
	}
	if (is_first)
		print_line(out, shown, count, NULL, indent);
	for (size_t row = 0; row < row_count; row++)
		print_line(out, shown, count, &row, indent);
	free_columns(shown, count, row_count);
}

static void print_table(FILE *out, const json_t *columns, const json_t *rows, size_t indent)
{
	print_part(out, columns, rows, indent, NULL);
}

void nasctl_print_table(FILE *out, const json_t *columns, const json_t *rows)
{
	print_table(out, columns, rows, 0);
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
			char *label = nasctl_label_text(name);

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
	char *label = nasctl_label_text(name), *text = NULL;
	json_t *columns = NULL;

	print_padding(stdout, indent);
	if (is_list_of_objects(value)) {
		columns = columns_of(value);
		printf("%s:\n", label);
		print_table(stdout, columns, value, indent + NESTED_INDENT);
	} else if (json_object_size(value) > 0) {
		printf("%s:\n", label);
		print_record(value, indent + NESTED_INDENT);
	} else if (json_is_object(value) || (json_is_array(value) && json_array_size(value) == 0)) {
		printf("%s: none\n", label);
	} else {
		text = nasctl_value_text(name, value);
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

static int complain_unwritten(void)
{
	nasctl_complain("the answer can't be written: %m");
	return NASCTL_FAILED;
}

/* Each on its line, for those who read a line at a time. */
static void print_json_lines(const json_t *rows)
{
	const json_t *row;
	size_t i;

	json_array_foreach(rows, i, row) {
		json_dumpf(row, stdout, JSON_COMPACT);
		putchar('\n');
	}
}

static int print_json(const json_t *answer)
{
	const json_t *rows = json_object_get(answer, "rows"), *record = json_object_get(answer, "record");

	if (json_is_true(json_object_get(answer, "lines"))) {
		print_json_lines(rows);
		return 0;
	}
	if (json_dumpf(rows ? rows : record ? record : answer, stdout, JSON_INDENT(2)) < 0)
		return NASCTL_FAILED;
	putchar('\n');
	return 0;
}

static int print_text(const json_t *answer)
{
	const json_t *rows = json_object_get(answer, "rows");
	json_t *record = json_object_get(answer, "record");
	const char *done = json_string_value(json_object_get(answer, "done"));
	const char *text = json_string_value(json_object_get(answer, "text"));
	char *sentence;

	if (text) {
		fputs(text, stdout); /* lines of vnasd's making */
	} else if (rows) {
		print_table(stdout, json_object_get(answer, "columns"), rows, 0);
	} else if (record) {
		print_record(record, 0);
	} else if (done) {
		sentence = nasctl_printable_text(done);
		puts(sentence);
		free(sentence);
	} else {
		nasctl_complain("vnasd gave an answer that this nasctl doesn't know; are they of the same version?");
		return NASCTL_FAILED;
	}
	return 0;
}

static int print_error(const char *error)
{
	char *sentence = nasctl_printable_text(error);

	nasctl_complain("%s", sentence);
	free(sentence);
	return NASCTL_FAILED;
}

int nasctl_print_answer(const json_t *answer, bool as_json)
{
	const char *error = json_string_value(json_object_get(answer, "error"));
	int status;

	if (error)
		return print_error(error);
	status = as_json ? print_json(answer) : print_text(answer);
	if (status == 0 && json_is_true(json_object_get(answer, "is_bad")))
		status = NASCTL_FAILED;
	return fflush(stdout) != 0 || ferror(stdout) ? complain_unwritten() : status;
}

/* Answers that go on */

/* What was missed came before the rows. */
static void print_missed(const json_t *message, bool as_json)
{
	json_int_t missed = json_integer_value(json_object_get(message, "missed"));

	if (!missed)
		return;
	if (as_json)
		printf("{\"missed\":%" JSON_INTEGER_FORMAT "}\n", missed);
	else
		printf("(%" JSON_INTEGER_FORMAT " more are not there any more)\n", missed);
}

/* False: it is the last one. */
static bool print_following(const json_t *message, const json_t *columns, size_t *widths, bool as_json)
{
	const char *error = json_string_value(json_object_get(message, "error"));
	const json_t *rows = json_object_get(message, "rows");

	if (error) {
		print_error(error);
		return false;
	}
	print_missed(message, as_json);
	if (as_json)
		print_json_lines(rows);
	else
		print_part(stdout, columns, rows, 0, widths);
	if (fflush(stdout) == 0 && !ferror(stdout))
		return true;
	complain_unwritten();
	return false;
}

int nasctl_print_following(const json_t *answer, int more, bool as_json)
{
	const json_t *columns = json_object_get(answer, "columns");
	size_t *widths = nasctl_array_new(json_array_size(columns), sizeof(*widths));
	bool goes_on = print_following(answer, columns, widths, as_json);

	while (goes_on) {
		json_t *message = nasctl_ask_next(more);

		if (!message)
			nasctl_complain("vnasd says no more: it was stopped, or has dropped a reader that was too slow");
		goes_on = message && print_following(message, columns, widths, as_json);
		json_decref(message);
	}
	free(widths);
	return NASCTL_FAILED;
}
