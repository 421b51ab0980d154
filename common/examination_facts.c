/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/examination_facts.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fact_fini(struct examination_fact *fact)
{
	free(fact->area);
	free(fact->subject);
	free(fact->value);
}

void examination_facts_fini(struct examination_facts *facts)
{
	for (size_t i = 0; i < facts->count; i++)
		fact_fini(&facts->items[i]);
	free(facts->items);
	*facts = (struct examination_facts){ 0 };
}

/* A copy of at most @size - 1 bytes that can be shown; NULL without memory */
static char *shown(const char *text, size_t size)
{
	char *copy = strndup(text, size - 1);

	for (char *p = copy; p && *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	return copy;
}

/* Room for one more. */
static bool make_room(struct examination_facts *facts)
{
	size_t room = facts->room ? facts->room * 2 : 64;
	struct examination_fact *items;

	if (facts->count < facts->room)
		return true;
	if (facts->count == EXAMINATION_FACTS_MAX)
		return false;
	items = reallocarray(facts->items, room, sizeof(*items));
	if (!items)
		return false;
	facts->items = items;
	facts->room = room;
	return true;
}

static void put(struct examination_facts *facts, struct examination_fact fact)
{
	if (fact.area && fact.subject && fact.value && make_room(facts)) {
		facts->items[facts->count++] = fact;
		return;
	}
	facts->is_cut = true;
	fact_fini(&fact);
}

void examination_put(struct examination_facts *facts, const char *area, const char *subject, const char *format, ...)
{
	char value[EXAMINATION_VALUE_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(value, sizeof(value), format, args);
	va_end(args);
	put(facts, (struct examination_fact){ .area = shown(area, EXAMINATION_AREA_MAX),
					      .subject = shown(subject, EXAMINATION_SUBJECT_MAX),
					      .value = shown(value, sizeof(value)) });
}

void examination_facts_move(struct examination_facts *to, struct examination_facts *from)
{
	for (size_t i = 0; i < from->count; i++)
		put(to, from->items[i]);
	to->is_cut |= from->is_cut;
	from->count = 0;
	examination_facts_fini(from);
}

const char *examination_value(const struct examination_facts *facts, const char *area, const char *subject)
{
	const struct examination_fact *fact;

	for (size_t at = 0; (fact = examination_next(facts, area, &at));)
		if (strcmp(fact->subject, subject) == 0)
			return fact->value;
	return NULL;
}

bool examination_is(const struct examination_facts *facts, const char *area, const char *subject)
{
	const char *value = examination_value(facts, area, subject);

	return value && strcmp(value, "yes") == 0;
}

bool examination_number(const struct examination_facts *facts, const char *area, const char *subject, int64_t *out)
{
	const char *value = examination_value(facts, area, subject);
	long long number;
	char *end;

	if (!value || !*value)
		return false;
	errno = 0;
	number = strtoll(value, &end, 10);
	if (errno || *end)
		return false;
	*out = number;
	return true;
}

const struct examination_fact *examination_next(const struct examination_facts *facts, const char *area, size_t *at)
{
	while (*at < facts->count) {
		const struct examination_fact *fact = &facts->items[(*at)++];

		if (strcmp(fact->area, area) == 0)
			return fact;
	}
	return NULL;
}
