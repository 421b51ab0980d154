/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "content.h"

#include <string.h>

/* The finalizer of splitmix64. */
uint64_t content_mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

uint64_t content_key(uint64_t seed, uint64_t file, uint64_t block, uint32_t version)
{
	return content_mix(content_mix(content_mix(content_mix(seed) + file) + block) + version);
}

uint64_t content_word(uint64_t key, size_t index)
{
	return content_mix(key + index * UINT64_C(0x9e3779b97f4a7c15));
}

void content_fill(uint64_t key, unsigned char *out, size_t len_bytes)
{
	for (size_t at = 0; at < len_bytes; at += CONTENT_WORD_BYTES) {
		uint64_t word = content_word(key, at / CONTENT_WORD_BYTES);

		memcpy(out + at, &word, len_bytes - at < CONTENT_WORD_BYTES ? len_bytes - at : CONTENT_WORD_BYTES);
	}
}

size_t content_check(uint64_t key, const unsigned char *in, size_t len_bytes)
{
	return content_check_from(key, 0, in, len_bytes);
}

size_t content_check_from(uint64_t key, size_t offset, const unsigned char *in, size_t len_bytes)
{
	for (size_t at = 0; at < len_bytes; at += CONTENT_WORD_BYTES) {
		size_t n = len_bytes - at < CONTENT_WORD_BYTES ? len_bytes - at : CONTENT_WORD_BYTES;
		uint64_t word = content_word(key, (offset + at) / CONTENT_WORD_BYTES);

		if (memcmp(in + at, &word, n) == 0)
			continue;
		for (size_t i = 0; i < n; i++)
			if (in[at + i] != ((unsigned char *)&word)[i])
				return at + i;
	}
	return len_bytes;
}
