/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/export_rules.h"

#include "common/ip_network.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLANKS " \t\r\n"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

/* A text while it is read, and the first thing that is wrong with it. */
struct reader {
	const char *text, *at;
	char *why;
	size_t why_size;
};

__attribute__((format(printf, 3, 4))) static int complain(const struct reader *r, const char *at, const char *format, ...)
{
	char reason[EXPORT_WHY_MAX];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	snprintf(r->why, r->why_size, "column %zu: %s", (size_t)(at - r->text) + 1, reason);
	return -EINVAL;
}

/* A decimal number that is nothing else. Return: 0; -EINVAL */
static int number_parse(const char *text, unsigned long max, unsigned long *out)
{
	char *end;
	unsigned long value;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (*end || errno || value > max)
		return -EINVAL;
	*out = value;
	return 0;
}

/* --- options --- */

enum option_kind { RIGHT, ACCEPTED, REFUSED };

/*
 * Those of exports(5). Accepted without effect is what is so anyway; refused, with the reason, is what would promise
 * something that is not done.
 */
static const struct option {
	const char *name;
	enum option_kind kind;
	size_t flag; /* offset in struct export_rights */
	bool value;
	const char *why;
} options[] = {
	{ "ro", RIGHT, offsetof(struct export_rights, may_write), false, NULL },
	{ "rw", RIGHT, offsetof(struct export_rights, may_write), true, NULL },
	{ "root_squash", RIGHT, offsetof(struct export_rights, root_squash), true, NULL },
	{ "no_root_squash", RIGHT, offsetof(struct export_rights, root_squash), false, NULL },
	{ "all_squash", RIGHT, offsetof(struct export_rights, all_squash), true, NULL },
	{ "no_all_squash", RIGHT, offsetof(struct export_rights, all_squash), false, NULL },
	{ "secure", RIGHT, offsetof(struct export_rights, secure), true, NULL },
	{ "insecure", RIGHT, offsetof(struct export_rights, secure), false, NULL },
	{ "manage_gids", RIGHT, offsetof(struct export_rights, manage_gids), true, NULL },
	{ "no_manage_gids", RIGHT, offsetof(struct export_rights, manage_gids), false, NULL },
	{ "sync", ACCEPTED, 0, false, NULL },		  /* always */
	{ "subtree_check", ACCEPTED, 0, false, NULL },	  /* where it makes a difference */
	{ "no_subtree_check", ACCEPTED, 0, false, NULL }, /* a permission to check less, of which no use is made */
	{ "wdelay", ACCEPTED, 0, false, NULL },		  /* says something of async writes only */
	{ "no_wdelay", ACCEPTED, 0, false, NULL },
	{ "sec=sys", ACCEPTED, 0, false, NULL },
	{ "async", REFUSED, 0, false, "an answer would promise what a crash undoes; vnas is always sync" },
	{ "sec=", REFUSED, 0, false, "there is only sec=sys" },
	{ "fsid=", REFUSED, 0, false, "a volume has an fsid of its own" },
	{ "crossmnt", REFUSED, 0, false, "what is mounted inside a volume is never shown" },
	{ "nohide", REFUSED, 0, false, "what is mounted inside a volume is never shown" },
};

static int anonymous_parse(const struct reader *r, const char *at, const char *option, uint32_t *out)
{
	unsigned long value;

	/* The last one is the kernel's word for none. */
	if (number_parse(option + strlen("anonuid="), UINT32_MAX - 1, &value) < 0)
		return complain(r, at, "\"%s\": a number is missing, 0 to 4294967294", option);
	*out = (uint32_t)value;
	return 0;
}

static bool is_option(const struct option *known, const char *option)
{
	size_t len = strlen(known->name);

	return known->name[len - 1] == '=' ? strncmp(known->name, option, len) == 0 : strcmp(known->name, option) == 0;
}

static int option_parse(const struct reader *r, const char *at, const char *option, struct export_rights *rights)
{
	if (strncmp(option, "anonuid=", 8) == 0)
		return anonymous_parse(r, at, option, &rights->anonymous_uid);
	if (strncmp(option, "anongid=", 8) == 0)
		return anonymous_parse(r, at, option, &rights->anonymous_gid);
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		const struct option *known = &options[i];

		if (!is_option(known, option))
			continue;
		if (known->kind == REFUSED)
			return complain(r, at, "\"%s\" is refused: %s", option, known->why);
		if (known->kind == RIGHT)
			*(bool *)((char *)rights + known->flag) = known->value;
		return 0;
	}
	return complain(r, at, "\"%s\" is no option; there are ro, rw, [no_]root_squash, [no_]all_squash, anonuid=N, "
			"anongid=N, [in]secure, [no_]manage_gids, sync", option);
}

/* The next word up to one of @ends; one that is too long ends in "...", as nothing valid does. */
static void word_take(struct reader *r, const char *ends, char out[static EXPORT_NAME_MAX + 1])
{
	size_t len = strcspn(r->at, ends);
	bool fits = len <= EXPORT_NAME_MAX;

	snprintf(out, EXPORT_NAME_MAX + 1, "%.*s%s", fits ? (int)len : 40, r->at, fits ? "" : "...");
	r->at += len;
}

/* OPTION,OPTION... */
static int options_parse(struct reader *r, struct export_rights *rights)
{
	char option[EXPORT_NAME_MAX + 1];

	for (;; r->at++) {
		const char *at = r->at;
		int rc;

		word_take(r, ",()" BLANKS, option);
		rc = option_parse(r, at, option, rights);
		if (rc < 0 || *r->at != ',')
			return rc;
	}
}

/* --- clients --- */

static int address_parse(const char *text, struct export_rule *rule)
{
	struct ip_network network;

	if (ip_network_parse(text, &network) < 0)
		return -EINVAL;
	rule->client = strchr(text, '/') ? EXPORT_NETWORK : EXPORT_HOST;
	rule->prefix_bits = network.bits;
	memcpy(rule->address, network.address, sizeof(rule->address));
	return 0;
}

/* Name or wildcard; something in it must tell it from a mistyped address. */
static int name_parse(const char *text, struct export_rule *rule)
{
	bool wild = strpbrk(text, "*?[") != NULL;
	const char *open = strchr(text, '[');

	if (!strpbrk(text, LETTERS) || text[strspn(text, LETTERS DIGITS ".-_*?[]!^")])
		return -EINVAL;
	if ((open && !strchr(open, ']')) || (!open && strpbrk(text, "]!^")))
		return -EINVAL;
	rule->client = wild ? EXPORT_WILDCARD : EXPORT_HOST;
	snprintf(rule->name, sizeof(rule->name), "%s", text);
	return 0;
}

static int client_parse(const char *text, struct export_rule *rule)
{
	char copy[EXPORT_NAME_MAX + 1];

	if (strcmp(text, "*") == 0) {
		rule->client = EXPORT_ANYBODY;
		return 0;
	}
	if (text[0] == '@') {
		rule->client = EXPORT_NETGROUP;
		snprintf(rule->name, sizeof(rule->name), "%s", text + 1);
		return text[1] ? 0 : -EINVAL;
	}
	snprintf(copy, sizeof(copy), "%s", text);
	if (address_parse(copy, rule) == 0)
		return 0;
	return name_parse(text, rule);
}

static int rule_parse(struct reader *r, const struct export_rights *defaults, struct export_rule *rule)
{
	char client[EXPORT_NAME_MAX + 1];
	const char *at = r->at;
	size_t len;
	int rc = 0;

	*rule = (struct export_rule){ .rights = *defaults };
	word_take(r, "()," BLANKS, client);
	len = (size_t)(r->at - at);
	if (len > EXPORT_NAME_MAX || client_parse(client, rule) < 0)
		return complain(r, at, "\"%s\" is no client; write an address, a network as 10.0.0.0/8 or fd00::/8, "
				"a host name, also with wildcards, @netgroup, or *", client);
	if (*r->at == '(') {
		r->at++;
		rc = options_parse(r, &rule->rights);
		if (rc == 0 && *r->at != ')')
			return complain(r, r->at, "\")\" is missing");
		r->at += rc == 0;
	}
	if (rc == 0 && *r->at && !strchr(BLANKS, *r->at))
		return complain(r, r->at, "a blank is missing after client \"%s\"", client);
	return rc;
}

static int rule_compare(const void *a, const void *b)
{
	const struct export_rule *rule_a = a, *rule_b = b;

	return (int)rule_a->client - (int)rule_b->client;
}

/* Stable, unlike qsort(): few, and nearly in order. */
static void rules_sort(struct export_rule *rules, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		struct export_rule rule = rules[i];
		size_t at = i;

		for (; at > 0 && rule_compare(&rules[at - 1], &rule) > 0; at--)
			rules[at] = rules[at - 1];
		rules[at] = rule;
	}
}

/* Options behind a dash: for the clients that follow. */
static int defaults_parse(struct reader *r, struct export_rights *defaults)
{
	int rc;

	r->at++;
	rc = options_parse(r, defaults);
	if (rc == 0 && *r->at && !strchr(BLANKS, *r->at))
		return complain(r, r->at, "a blank is missing after the options");
	return rc;
}

static int list_parse(struct reader *r, struct export_rule **rules, size_t *count)
{
	struct export_rights defaults = {
		.root_squash = true,
		.secure = true,
		.anonymous_uid = EXPORT_NOBODY,
		.anonymous_gid = EXPORT_NOBODY,
	};
	int rc = 0;

	while (rc == 0 && *(r->at += strspn(r->at, BLANKS))) {
		struct export_rule *more;

		if (*r->at == '-') {
			rc = defaults_parse(r, &defaults);
			continue;
		}
		more = reallocarray(*rules, *count + 1, sizeof(**rules));
		if (!more)
			return -ENOMEM;
		*rules = more;
		rc = rule_parse(r, &defaults, &more[*count]);
		*count += rc == 0;
	}
	if (rc == 0 && !*count)
		return complain(r, r->at, "no client; write for example 10.0.0.0/8(rw)");
	return rc;
}

int export_rules_parse(const char *text, struct export_rule **rules, size_t *count, char *why, size_t why_size)
{
	struct reader r = { .text = text, .at = text, .why = why, .why_size = why_size };
	struct export_rule *parsed = NULL;
	size_t parsed_count = 0;
	int rc = list_parse(&r, &parsed, &parsed_count);

	if (rc < 0) {
		if (rc == -ENOMEM)
			snprintf(why, why_size, "no memory");
		free(parsed);
		return rc;
	}
	rules_sort(parsed, parsed_count);
	*rules = parsed;
	*count = parsed_count;
	return 0;
}
