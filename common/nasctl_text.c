/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nasctl_text.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void nasctl_complain(const char *format, ...)
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
	nasctl_complain("no memory");
	exit(NASCTL_FAILED);
}

void *nasctl_array_new(size_t count, size_t size)
{
	void *array = calloc(count + 1, size);

	if (!array)
		die_without_memory();
	return array;
}

char *nasctl_text_new(const char *format, ...)
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
	return nasctl_text_new("%.*f %s", power ? 1 : 0, scaled, names[power]);
}

static char *bytes_per_second_text(json_int_t value)
{
	char *bytes = bytes_text(value), *text = nasctl_text_new("%s/s", bytes);

	free(bytes);
	return text;
}

static char *per_second_text(json_int_t value)
{
	return nasctl_text_new("%" JSON_INTEGER_FORMAT "/s", value);
}

static char *microseconds_text(json_int_t value)
{
	if (value < 1000 && value > -1000)
		return nasctl_text_new("%" JSON_INTEGER_FORMAT " us", value);
	if (value < 999950 && value > -999950)
		return nasctl_text_new("%.1f ms", (double)value / 1e3);
	return nasctl_text_new("%.1f s", (double)value / 1e6);
}

static char *percent_text(json_int_t value)
{
	return nasctl_text_new("%" JSON_INTEGER_FORMAT ".%" JSON_INTEGER_FORMAT " %%", value / 10, value % 10);
}

static char *celsius_text(json_int_t value)
{
	return nasctl_text_new("%.1f C", (double)value / 1e3);
}

static char *wall_time_text(json_int_t value)
{
	time_t seconds = value / 1000000000;
	struct tm local;
	char date[64];

	if (value == 0 || !localtime_r(&seconds, &local))
		return nasctl_text_new("-"); /* never */
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &local);
	return nasctl_text_new("%s", date);
}

static const struct unit {
	const char *suffix; /* of a name */
	char *(*text)(json_int_t value);
} units[] = {
	{ "_bytes_per_s", bytes_per_second_text },
	{ "_per_s", per_second_text },
	{ "_bytes", bytes_text },
	{ "_us", microseconds_text },
	{ "_ns", wall_time_text },
	{ "_permille", percent_text },
	{ "_millicelsius", celsius_text },
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

char *nasctl_label_text(const char *name)
{
	const struct unit *unit = unit_of(name);
	char *label = nasctl_text_new("%.*s", (int)(strlen(name) - (unit ? strlen(unit->suffix) : 0)), name);

	for (char *p = label; *p; p++)
		if (*p == '_')
			*p = ' ';
	return label;
}

char *nasctl_printable_text(const char *string)
{
	char *text = nasctl_text_new("%s", string);

	for (char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	return text;
}

static char *list_text(const char *name, const json_t *list)
{
	char *text = nasctl_text_new("%s", "");
	const json_t *element;
	size_t i;

	json_array_foreach(list, i, element) {
		char *before = text, *more = nasctl_value_text(name, element);

		text = nasctl_text_new("%s%s%s", before, i ? ", " : "", more);
		free(before);
		free(more);
	}
	return text;
}

static char *object_text(const json_t *object)
{
	char *json = json_dumps(object, JSON_COMPACT), *text = nasctl_text_new("%s", json ? json : "?");

	free(json);
	return text;
}

char *nasctl_value_text(const char *name, const json_t *value)
{
	const struct unit *unit = unit_of(name);

	switch (json_typeof(value)) {
	case JSON_STRING:
		return nasctl_printable_text(json_string_value(value));
	case JSON_INTEGER:
		if (unit)
			return unit->text(json_integer_value(value));
		return nasctl_text_new("%" JSON_INTEGER_FORMAT, json_integer_value(value));
	case JSON_REAL:
		return nasctl_text_new("%.1f", json_real_value(value));
	case JSON_TRUE:
		return nasctl_text_new("yes");
	case JSON_FALSE:
		return nasctl_text_new("no");
	case JSON_NULL:
		return nasctl_text_new("-");
	case JSON_ARRAY:
		return list_text(name, value);
	case JSON_OBJECT:
		return object_text(value);
	}
	return nasctl_text_new("?");
}
