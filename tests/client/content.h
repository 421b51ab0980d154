/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/client/content.h - contents of files that tell where they belong
 *
 * What a block of a file contains follows from a seed, the file, the block and the number of times it was written. So a byte
 * that is lost, late, doubled or misplaced is seen without keeping what was written.
 */
#ifndef VNAS_TESTS_CLIENT_CONTENT_H
#define VNAS_TESTS_CLIENT_CONTENT_H

#include <stddef.h>
#include <stdint.h>

enum { CONTENT_WORD_BYTES = 8 };

/* Every bit of the result hangs on every bit of @x. */
uint64_t content_mix(uint64_t x);

/* What the following functions know a block by. */
uint64_t content_key(uint64_t seed, uint64_t file, uint64_t block, uint32_t version);

/* The word at @index of a block. */
uint64_t content_word(uint64_t key, size_t index);

/* @out: the first @len_bytes of a block */
void content_fill(uint64_t key, unsigned char *out, size_t len_bytes);

/* The first wrong byte of what should be the first @len_bytes of a block, or @len_bytes. */
size_t content_check(uint64_t key, const unsigned char *in, size_t len_bytes);

/* ... of what should be @len_bytes from @offset on, a multiple of CONTENT_WORD_BYTES. */
size_t content_check_from(uint64_t key, size_t offset, const unsigned char *in, size_t len_bytes);

#endif
