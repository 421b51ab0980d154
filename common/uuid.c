/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/uuid.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

int uuid_make(uint8_t uuid[static UUID_BYTES])
{
	if (getrandom(uuid, UUID_BYTES, 0) != UUID_BYTES)
		return -EIO;
	uuid[6] = (uuid[6] & 0x0f) | 0x40; /* version 4 */
	uuid[8] = (uuid[8] & 0x3f) | 0x80; /* variant */
	return 0;
}

const char *uuid_text(const uint8_t uuid[static UUID_BYTES], char text[static UUID_TEXT_MAX])
{
	char *out = text;

	for (int i = 0; i < UUID_BYTES; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*out++ = '-';
		out += sprintf(out, "%02x", uuid[i]);
	}
	return text;
}

int uuid_parse(const char *text, uint8_t uuid[static UUID_BYTES])
{
	uint8_t bytes[UUID_BYTES];
	char again[UUID_TEXT_MAX];
	const char *p = text;

	for (int i = 0; i < UUID_BYTES; i++) {
		unsigned int byte;

		if (*p == '-')
			p++;
		if (!isxdigit((unsigned char)p[0]) || !isxdigit((unsigned char)p[1]) || sscanf(p, "%2x", &byte) != 1)
			return -EINVAL;
		bytes[i] = (uint8_t)byte;
		p += 2;
	}
	if (strcasecmp(uuid_text(bytes, again), text) != 0)
		return -EINVAL;
	memcpy(uuid, bytes, UUID_BYTES);
	return 0;
}
