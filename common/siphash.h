/* SPDX-License-Identifier: (GPL-3.0-or-later OR BSD-2-Clause OR GPL-2.0) */
/*
 * common/siphash.h - SipHash-2-4, for user space and BPF
 *
 * The keyed hash of file handles and of EAP datagrams. Written as one header with bounded loops so that the BPF
 * verifier takes it too; OpenSSL's would cost a context per handle and does not exist in BPF.
 *
 * Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012); test vectors from its appendix A.
 */
#ifndef VNAS_COMMON_SIPHASH_H
#define VNAS_COMMON_SIPHASH_H

#ifdef __bpf__
#include <linux/types.h>
typedef __u64 siphash_word;
typedef __u8 siphash_byte;
#else
#include <endian.h>
#include <stdint.h>
#include <string.h>
typedef uint64_t siphash_word;
typedef uint8_t siphash_byte;
#endif

enum { SIPHASH_KEY_BYTES = 16 };

struct siphash_state {
	siphash_word v0, v1, v2, v3;
};

#define SIPHASH_ROTATE(x, bits) (((x) << (bits)) | ((x) >> (64 - (bits))))

static inline __attribute__((always_inline)) void siphash_round(struct siphash_state *s)
{
	s->v0 += s->v1;
	s->v1 = SIPHASH_ROTATE(s->v1, 13) ^ s->v0;
	s->v0 = SIPHASH_ROTATE(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = SIPHASH_ROTATE(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = SIPHASH_ROTATE(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = SIPHASH_ROTATE(s->v1, 17) ^ s->v2;
	s->v2 = SIPHASH_ROTATE(s->v2, 32);
}

static inline __attribute__((always_inline)) siphash_word siphash_load(const siphash_byte *p, unsigned int count)
{
	siphash_word word = 0;

#ifndef __bpf__
	if (count == sizeof(word)) { /* one load; the loop below stays eight */
		memcpy(&word, p, sizeof(word));
		return le64toh(word);
	}
#endif
	for (unsigned int i = 0; i < count; i++)
		word |= (siphash_word)p[i] << (8 * i);
	return word;
}

/**
 * siphash() - SipHash-2-4 of some bytes
 * @key:	SIPHASH_KEY_BYTES bytes
 * @data:	the bytes
 * @len:	how many; in BPF a constant
 *
 * Return: the 64-bit hash; its bytes in little-endian order are what the paper prints
 */
static inline __attribute__((always_inline)) siphash_word siphash(const siphash_byte *key, const siphash_byte *data,
								  unsigned int len)
{
	siphash_word k0 = siphash_load(key, 8), k1 = siphash_load(key + 8, 8);
	struct siphash_state s = {
		.v0 = k0 ^ 0x736f6d6570736575ull,
		.v1 = k1 ^ 0x646f72616e646f6dull,
		.v2 = k0 ^ 0x6c7967656e657261ull,
		.v3 = k1 ^ 0x7465646279746573ull,
	};
	siphash_word word;
	unsigned int at = 0;

	for (; at + 8 <= len; at += 8) {
		word = siphash_load(data + at, 8);
		s.v3 ^= word;
		siphash_round(&s);
		siphash_round(&s);
		s.v0 ^= word;
	}
	word = (siphash_word)len << 56 | siphash_load(data + at, len - at);
	s.v3 ^= word;
	siphash_round(&s);
	siphash_round(&s);
	s.v0 ^= word;
	s.v2 ^= 0xff;
	for (int i = 0; i < 4; i++)
		siphash_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

#endif
