/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/dhcp_option.h"

#include "common/bytes.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_MAX = 255, PAD = 0, END = 255 };

/* The byte at *text, of one digit or two, and what may be behind it. */
static bool take_byte(const char **text, bool has_colons, uint8_t *byte)
{
	size_t digits = strspn(*text, "0123456789abcdefABCDEF");
	char pair[3] = "";

	if (!has_colons && digits > 2)
		digits = 2;
	if (digits == 0 || digits > 2 || (!has_colons && digits != 2))
		return false;
	memcpy(pair, *text, digits);
	*byte = (uint8_t)strtoul(pair, NULL, 16);
	*text += digits;
	if (has_colons && **text == ':')
		return *++*text != '\0';
	return true;
}

/* Return: how many bytes; -EBADMSG */
static int bytes_of(const char *hex, uint8_t bytes[static OPTION_MAX])
{
	bool has_colons = strchr(hex, ':') != NULL;
	int len = 0;

	for (; *hex; len++)
		if (len == OPTION_MAX || !take_byte(&hex, has_colons, &bytes[len]))
			return -EBADMSG;
	return len;
}

struct found {
	uint8_t address[4];
	bool has_address;
	uint16_t port;
};

static int take_option(struct bytes_reader *reader, uint8_t code, struct found *found)
{
	size_t len = bytes_get_u8(reader);
	const uint8_t *value = bytes_take(reader, len);

	if (reader->failed || (code == DHCP_OPTION_MASTER && len != 4) || (code == DHCP_OPTION_PORT && len != 2))
		return -EBADMSG;
	if (code == DHCP_OPTION_MASTER)
		memcpy(found->address, value, 4);
	if (code == DHCP_OPTION_PORT)
		found->port = (uint16_t)(value[0] << 8 | value[1]);
	found->has_address |= code == DHCP_OPTION_MASTER;
	return 0;
}

static int find(const uint8_t *bytes, size_t len, struct found *found)
{
	struct bytes_reader reader = bytes_reader_init(bytes, len);
	int rc = 0;

	while (rc == 0 && reader.left) {
		uint8_t code = bytes_get_u8(&reader);

		if (code == END)
			break;
		if (code != PAD)
			rc = take_option(&reader, code, found);
	}
	return rc;
}

int dhcp_option_master(const char *hex, char master[static DHCP_OPTION_TEXT])
{
	static const uint8_t none[4];
	char address[INET_ADDRSTRLEN];
	uint8_t bytes[OPTION_MAX];
	struct found found = { 0 };
	int len = bytes_of(hex, bytes), rc = len < 0 ? len : find(bytes, (size_t)len, &found);

	if (rc < 0)
		return rc;
	if (!found.has_address || memcmp(found.address, none, sizeof(none)) == 0)
		return -ENOENT;
	inet_ntop(AF_INET, found.address, address, sizeof(address));
	if (found.port)
		snprintf(master, DHCP_OPTION_TEXT, "%s:%u", address, found.port);
	else
		snprintf(master, DHCP_OPTION_TEXT, "%s", address);
	return 0;
}
