/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/exports.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOBODY = 65534, PRIVILEGED_PORTS = 1024, WORD_MAX = 52, WHY_MAX = 160 };

#define BLANKS " \t\r\n"

/* An address of either family; IPv4 is kept IPv4-mapped. */
struct address {
	uint8_t bytes[16];
	uint16_t port;
};

/* "CLIENT(OPTION,...)" taken apart. */
struct rule {
	struct address network;
	unsigned int prefix_bits; /* 0: any client */
	struct export_rights rights;
};

static void map_ipv4(const void *ipv4, uint8_t out[static 16])
{
	memset(out, 0, 10);
	out[10] = out[11] = 0xff;
	memcpy(out + 12, ipv4, 4);
}

static int address_of(const struct sockaddr_storage *client, struct address *out)
{
	const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)client;
	const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)client;

	switch (client->ss_family) {
	case AF_INET:
		map_ipv4(&ipv4->sin_addr, out->bytes);
		out->port = ntohs(ipv4->sin_port);
		return 0;
	case AF_INET6:
		memcpy(out->bytes, &ipv6->sin6_addr, sizeof(out->bytes));
		out->port = ntohs(ipv6->sin6_port);
		return 0;
	default:
		return -EACCES;
	}
}

static bool matches(const struct rule *rule, const struct address *client)
{
	unsigned int whole = rule->prefix_bits / 8, rest = rule->prefix_bits % 8;
	uint8_t mask = (uint8_t)(0xff00 >> rest);

	if (memcmp(rule->network.bytes, client->bytes, whole) != 0)
		return false;
	return !rest || ((rule->network.bytes[whole] ^ client->bytes[whole]) & mask) == 0;
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

/* "24" or "255.255.255.0". Return: the bits; -EINVAL */
static int prefix_parse(const char *text, unsigned int family_bits)
{
	unsigned long bits;
	struct in_addr mask;
	uint32_t holes;

	if (number_parse(text, family_bits, &bits) == 0)
		return (int)bits;
	if (family_bits != 32 || inet_pton(AF_INET, text, &mask) != 1)
		return -EINVAL;
	holes = ~ntohl(mask.s_addr);
	if (holes & (holes + 1))
		return -EINVAL;
	return 32 - __builtin_popcount(holes);
}

static int client_parse(char *text, struct rule *rule)
{
	char *slash = strchr(text, '/');
	unsigned int family_bits = 128;
	struct in_addr ipv4;
	int bits;

	if (strcmp(text, "*") == 0) {
		rule->prefix_bits = 0;
		return 0;
	}
	if (slash)
		*slash = '\0';
	if (inet_pton(AF_INET, text, &ipv4) == 1) {
		map_ipv4(&ipv4, rule->network.bytes);
		family_bits = 32;
	} else if (inet_pton(AF_INET6, text, rule->network.bytes) != 1) {
		return -EINVAL;
	}
	bits = slash ? prefix_parse(slash + 1, family_bits) : (int)family_bits;
	if (bits < 0)
		return bits;
	rule->prefix_bits = (unsigned int)bits + 128 - family_bits;
	return 0;
}

static int anonymous_parse(const char *number, uint32_t *out)
{
	unsigned long value;

	if (number_parse(number, UINT32_MAX, &value) < 0)
		return -EINVAL;
	*out = (uint32_t)value;
	return 0;
}

static int option_parse(const char *option, struct export_rights *rights)
{
	const struct {
		const char *name;
		bool *flag;
		bool value;
	} flags[] = {
		{ "ro", &rights->may_write, false },
		{ "rw", &rights->may_write, true },
		{ "root_squash", &rights->root_squash, true },
		{ "no_root_squash", &rights->root_squash, false },
		{ "all_squash", &rights->all_squash, true },
		{ "no_all_squash", &rights->all_squash, false },
		{ "secure", &rights->secure, true },
		{ "insecure", &rights->secure, false },
	};

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (strcmp(option, flags[i].name) == 0) {
			*flags[i].flag = flags[i].value;
			return 0;
		}
	}
	if (strncmp(option, "anonuid=", 8) == 0)
		return anonymous_parse(option + 8, &rights->anonymous_uid);
	if (strncmp(option, "anongid=", 8) == 0)
		return anonymous_parse(option + 8, &rights->anonymous_gid);
	return -EINVAL;
}

/* The next word of @text up to one of @ends; one that is too long ends in "...", as nothing valid does. Moves @text. */
static void word_take(const char **text, const char *ends, char out[static WORD_MAX])
{
	size_t len = strcspn(*text, ends);
	bool fits = len < WORD_MAX;

	snprintf(out, WORD_MAX, "%.*s%s", fits ? (int)len : WORD_MAX - 4, *text, fits ? "" : "...");
	*text += len;
}

static int options_parse(const char **text, struct export_rights *rights, char why[static WHY_MAX])
{
	char option[WORD_MAX];

	do {
		++*text; /* the parenthesis or the comma */
		word_take(text, ",()" BLANKS, option);
		if (option_parse(option, rights) < 0) {
			snprintf(why, WHY_MAX, "\"%s\" is no option; there are ro, rw, [no_]root_squash, "
				 "[no_]all_squash, anonuid=N, anongid=N, secure, insecure", option);
			return -EINVAL;
		}
	} while (**text == ',');
	if (**text != ')') {
		snprintf(why, WHY_MAX, "\")\" is missing after option \"%s\"", option);
		return -EINVAL;
	}
	++*text;
	return 0;
}

/**
 * rule_parse() - the next "CLIENT(OPTION,...)" of a list
 * @text:	moved behind it
 * @why:	out: on failure, for the administrator
 *
 * Return: 1; 0 at the end of the list; -EINVAL
 */
static int rule_parse(const char **text, struct rule *rule, char why[static WHY_MAX])
{
	char client[WORD_MAX], copy[WORD_MAX];

	*text += strspn(*text, BLANKS);
	if (!**text)
		return 0;
	*rule = (struct rule){
		.rights = {
			.root_squash = true,
			.secure = true,
			.anonymous_uid = NOBODY,
			.anonymous_gid = NOBODY,
		},
	};
	word_take(text, "()," BLANKS, client);
	memcpy(copy, client, sizeof(copy));
	if (client_parse(copy, rule) < 0) {
		snprintf(why, WHY_MAX,
			 "\"%s\" is no client; write an address, a network as 10.0.0.0/8 or fd00::/8, or *", client);
		return -EINVAL;
	}
	if (**text == '(' && options_parse(text, &rule->rights, why) < 0)
		return -EINVAL;
	if (**text && !strchr(BLANKS, **text)) {
		snprintf(why, WHY_MAX, "a blank is missing after client \"%s\"", client);
		return -EINVAL;
	}
	return 1;
}

int exports_check(const char *clients, char *why, size_t why_size)
{
	char reason[WHY_MAX] = "no client; write for example 10.0.0.0/8(rw)";
	unsigned int rules = 0;
	struct rule rule;
	int rc;

	while ((rc = rule_parse(&clients, &rule, reason)) > 0)
		rules++;
	if (rc == 0 && rules)
		return 0;
	snprintf(why, why_size, "%s", reason);
	return -EINVAL;
}

/* The rights that the first matching client of @clients has. Return: 0; -EACCES */
static int list_rights(const char *clients, const struct address *client, struct export_rights *out)
{
	char why[WHY_MAX];
	struct rule rule;

	while (rule_parse(&clients, &rule, why) > 0) {
		if (!matches(&rule, client))
			continue;
		if (rule.rights.secure && client->port >= PRIVILEGED_PORTS)
			return -EACCES;
		*out = rule.rights;
		return 0;
	}
	return -EACCES; /* nobody matched, or a list that exports_check() would not have let in */
}

/* Whoever may enter any export may walk the way there, and change nothing. */
static int root_rights(const struct namespace *ns, const struct address *client, struct export_rights *out)
{
	const ns_export *export;
	struct export_rights rights;

	for (size_t at = 0; (export = namespace_next_export(ns, &at));) {
		if (list_rights(export->clients, client, &rights))
			continue;
		rights.may_write = false;
		*out = rights;
		return 0;
	}
	return -EACCES;
}

static bool is_prefix(const char *prefix, const char *path)
{
	size_t len = strlen(prefix);

	while (len && prefix[len - 1] == '/')
		len--;
	return strncmp(prefix, path, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static const ns_export *export_of(const struct namespace *ns, const char *path)
{
	const ns_export *export, *longest = NULL;

	for (size_t at = 0; (export = namespace_next_export(ns, &at));)
		if (is_prefix(export->path, path) && (!longest || strlen(export->path) > strlen(longest->path)))
			longest = export;
	return longest;
}

int exports_rights(const struct namespace *ns, uint32_t volume, const struct sockaddr_storage *client,
		   struct export_rights *out)
{
	const ns_entry *place;
	const ns_export *export;
	struct address address;
	char path[NS_TEXT_MAX];

	if (address_of(client, &address) < 0)
		return -EACCES;
	if (volume == NAMESPACE_ROOT_VOLUME)
		return root_rights(ns, &address, out);
	place = namespace_place(ns, volume);
	if (!place || namespace_path(ns, place, path) < 0)
		return -EACCES;
	export = export_of(ns, path);
	return export ? list_rights(export->clients, &address, out) : -EACCES;
}

void exports_squash(const struct export_rights *rights, struct credentials *who)
{
	if (rights->all_squash) {
		*who = (struct credentials){ .uid = rights->anonymous_uid, .gid = rights->anonymous_gid };
		return;
	}
	if (!rights->root_squash)
		return;
	if (who->uid == 0)
		who->uid = rights->anonymous_uid;
	if (who->gid == 0)
		who->gid = rights->anonymous_gid;
	for (uint32_t i = 0; i < who->group_count; i++)
		if (who->groups[i] == 0)
			who->groups[i] = rights->anonymous_gid;
}
