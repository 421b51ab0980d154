/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/uuid.h - UUIDs (RFC 9562) as 16 bytes and as text
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_UUID_H
#define VNAS_COMMON_UUID_H

#include <stdint.h>

enum { UUID_BYTES = 16, UUID_TEXT_MAX = 37 };

/* A random one (version 4). 0; -EIO if the kernel gives no random bytes. */
int uuid_make(uint8_t uuid[static UUID_BYTES]);

/* "f81d4fae-7dec-11d0-a765-00a0c91e6bf6". Returns @text. */
const char *uuid_text(const uint8_t uuid[static UUID_BYTES], char text[static UUID_TEXT_MAX]);

/* 0; -EINVAL. @uuid: untouched on failure. */
int uuid_parse(const char *text, uint8_t uuid[static UUID_BYTES]);

#endif
