/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/admission.h"

#include "common/ip_network.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

enum { VALUE_MAX = 128 };

static bool is_like(const char *pattern, const char *text)
{
	return *text && fnmatch(pattern, text, FNM_NOESCAPE | FNM_CASEFOLD) == 0;
}

static bool is_pattern(const char *text)
{
	return *text != '\0';
}

static bool is_network(const char *text)
{
	struct ip_network network;

	return ip_network_parse(text, &network) == 0 && ip_network_is_exact(&network);
}

static bool has_network(const char *text, const struct admission_facts *facts)
{
	struct ip_network network;
	unsigned int bytes, bits;

	if (ip_network_parse(text, &network) < 0)
		return false;
	bytes = network.bits / 8;
	bits = network.bits % 8;
	return memcmp(network.address, facts->address, bytes) == 0 &&
	       (bits == 0 || (network.address[bytes] ^ facts->address[bytes]) >> (8 - bits) == 0);
}

static bool has_vendor_class(const char *pattern, const struct admission_facts *facts)
{
	return is_like(pattern, facts->vendor_class);
}

static bool has_serial(const char *pattern, const struct admission_facts *facts)
{
	return is_like(pattern, facts->serial);
}

static bool has_name(const char *pattern, const struct admission_facts *facts)
{
	return is_like(pattern, facts->name);
}

static bool has_mac(const char *pattern, const struct admission_facts *facts)
{
	const uint8_t *mac = facts->mac;
	char text[18];

	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return is_like(pattern, text);
}

static const struct condition {
	const char *name;
	bool (*is_value)(const char *text);
	bool (*holds)(const char *text, const struct admission_facts *facts);
} conditions[] = {
	{ "network", is_network, has_network }, { "vendor-class", is_pattern, has_vendor_class },
	{ "serial", is_pattern, has_serial },	{ "mac", is_pattern, has_mac },
	{ "name", is_pattern, has_name },
};

/* The condition of @len bytes at @text, its value into @value; NULL if it is none. */
static const struct condition *find(const char *text, size_t len, char value[static VALUE_MAX])
{
	const char *colon = memchr(text, ':', len);
	size_t name_len = colon ? (size_t)(colon - text) : len;

	if (!colon || len - name_len > VALUE_MAX)
		return NULL;
	snprintf(value, VALUE_MAX, "%.*s", (int)(len - name_len - 1), colon + 1);
	for (size_t i = 0; i < sizeof(conditions) / sizeof(conditions[0]); i++)
		if (strlen(conditions[i].name) == name_len && memcmp(conditions[i].name, text, name_len) == 0)
			return conditions[i].is_value(value) ? &conditions[i] : NULL;
	return NULL;
}

/* @facts: NULL: is it a rule at all? */
static bool check(const char *rule, const struct admission_facts *facts)
{
	char value[VALUE_MAX];

	for (const char *at = rule;; at++) {
		size_t len = strcspn(at, "+");
		const struct condition *condition = find(at, len, value);

		if (!condition || (facts && !condition->holds(value, facts)))
			return false;
		at += len;
		if (!*at)
			return true;
	}
}

bool admission_is_rule(const char *rule)
{
	return check(rule, NULL);
}

bool admission_holds(const char *rule, const struct admission_facts *facts)
{
	return admission_is_rule(rule) && check(rule, facts);
}
