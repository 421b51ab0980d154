/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/leases.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int leases_mac_parse(const char *text, uint8_t mac[static 6])
{
	uint8_t bytes[6];

	for (unsigned int i = 0; i < 6; i++, text += 3) {
		const char end = i < 5 ? ':' : '\0';

		if (!isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1]) || text[2] != end)
			return -EINVAL;
		bytes[i] = (uint8_t)strtoul((char[]){ text[0], text[1], '\0' }, NULL, 16);
	}
	memcpy(mac, bytes, sizeof(bytes));
	return 0;
}

static void copy_visible(char out[static LEASES_TEXT_MAX], const char *text)
{
	snprintf(out, LEASES_TEXT_MAX, "%s", text);
	for (char *p = out; *p; p++)
		if (!isgraph((unsigned char)*p))
			*p = '?';
}

static struct lease *find(struct leases *leases, const uint8_t address[static 16])
{
	for (size_t i = 0; i < LEASES_MAX; i++)
		if (leases->list[i].is_used && memcmp(leases->list[i].address, address, 16) == 0)
			return &leases->list[i];
	return NULL;
}

static struct lease *find_room(struct leases *leases)
{
	struct lease *oldest = &leases->list[0];

	for (size_t i = 0; i < LEASES_MAX; i++) {
		if (!leases->list[i].is_used)
			return &leases->list[i];
		if (leases->list[i].since_ms < oldest->since_ms)
			oldest = &leases->list[i];
	}
	return oldest;
}

void leases_add(struct leases *leases, const uint8_t mac[static 6], const uint8_t address[static 16], const char *name,
		const char *vendor_class, uint64_t now_ms)
{
	struct lease *lease = find(leases, address);

	if (!lease || memcmp(lease->mac, mac, sizeof(lease->mac)) != 0) {
		lease = lease ? lease : find_room(leases);
		*lease = (struct lease){ .is_used = true, .since_ms = now_ms };
	}
	memcpy(lease->mac, mac, sizeof(lease->mac));
	memcpy(lease->address, address, sizeof(lease->address));
	copy_visible(lease->name, name);
	copy_visible(lease->vendor_class, vendor_class);
}

bool leases_remove(struct leases *leases, const uint8_t mac[static 6], const uint8_t address[static 16])
{
	struct lease *lease = find(leases, address);

	if (!lease || memcmp(lease->mac, mac, sizeof(lease->mac)) != 0)
		return false;
	lease->is_used = false;
	return true;
}

const struct lease *leases_next(const struct leases *leases, size_t *at)
{
	while (*at < LEASES_MAX) {
		const struct lease *lease = &leases->list[(*at)++];

		if (lease->is_used)
			return lease;
	}
	return NULL;
}
