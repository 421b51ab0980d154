/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/examination_facts.h - what is so on a device, as a list for whoever judges it
 *
 * A fact has an area, a subject and a value, all text: "sysctl", "net/ipv4/ip_forward", "0". Those who find facts judge nothing, and
 * those who judge them (master/examination_rules.h) read no file and ask nobody. A fact that could not be found is not there.
 *
 * Bounded: what is too long is cut, what is too much is left out, and is_cut says so. Without memory a fact is left out, too.
 *
 * Ownership: the list owns its texts; what is looked up is borrowed until the list changes.
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_EXAMINATION_FACTS_H
#define VNAS_COMMON_EXAMINATION_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	EXAMINATION_FACTS_MAX = 16384,
	EXAMINATION_AREA_MAX = 32, /* bytes of text, NUL included */
	EXAMINATION_SUBJECT_MAX = 256,
	EXAMINATION_VALUE_MAX = 1024,
};

struct examination_fact {
	char *area, *subject, *value;
};

/* All zero: an empty list. */
struct examination_facts {
	struct examination_fact *items;
	size_t count, room;
	bool is_cut;
};

void examination_facts_fini(struct examination_facts *facts);

/* Control characters become "?", so that a fact can be shown. @subject: may be "" */
void examination_put(struct examination_facts *facts, const char *area, const char *subject, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Moves all of @from behind those of @to. */
void examination_facts_move(struct examination_facts *to, struct examination_facts *from);

/* The value; NULL: there is no such fact. Of several the first. */
const char *examination_value(const struct examination_facts *facts, const char *area, const char *subject);

/* "yes" */
bool examination_is(const struct examination_facts *facts, const char *area, const char *subject);

/* The value as a number. Return: false if there is none; @out is untouched then */
bool examination_number(const struct examination_facts *facts, const char *area, const char *subject, int64_t *out);

/* The facts of an area, one after the other. @at: 0 at first. NULL after the last */
const struct examination_fact *examination_next(const struct examination_facts *facts, const char *area, size_t *at);

#endif
