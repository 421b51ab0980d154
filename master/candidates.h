/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/candidates.h - machines that have applied to become devices, and wait for a decision
 *
 * Pure: takes values and the time, knows no socket, no database and no certificate (master/joining.h). Bounded, because
 * strangers fill it: CANDIDATES_MAX in all, CANDIDATES_EACH from one address; who has not asked again for
 * CANDIDATES_SILENCE_MS is gone. A machine is its key; what else it says may be anybody's.
 *
 * Threads: the owner's.
 */
#ifndef VNAS_MASTER_CANDIDATES_H
#define VNAS_MASTER_CANDIDATES_H

#include "common/certificates.h"
#include "scp/scp_xdr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CANDIDATES_MAX = 64,
	CANDIDATES_EACH = 4,
	CANDIDATES_SILENCE_MS = 60000,
	CANDIDATES_TEXT_MAX = 65,
	CANDIDATES_ADDRESS_MAX = 64,
	CANDIDATES_PREFIX = 9, /* so much of a fingerprint names a candidate: "3f2a-91bc" */
};

struct candidate {
	bool is_used;
	bool is_rejected; /* and asks again: shown, so that it can still be approved */
	uint8_t key[CERTIFICATES_KEY_BYTES];
	char pair[CERTIFICATES_PAIR_TEXT]; /* what people compare */
	char name[CANDIDATES_TEXT_MAX], serial[CANDIDATES_TEXT_MAX], vendor_class[CANDIDATES_TEXT_MAX];
	uint8_t mac[6];
	char address[CANDIDATES_ADDRESS_MAX]; /* from which it asks */
	uint64_t first_ms, heard_ms;	      /* monotonic */
};

/* What is known of who applies, beside what he says. */
struct candidate_origin {
	uint8_t key[CERTIFICATES_KEY_BYTES];
	char pair[CERTIFICATES_PAIR_TEXT];
	const char *address; /* borrowed */
	bool is_rejected;
};

struct candidates {
	struct candidate list[CANDIDATES_MAX];
};

/* Can a device be called so? A host name, of fewer than CANDIDATES_TEXT_MAX characters. */
bool candidates_is_name(const char *name);

/* Are an application's texts such as can be shown and logged? Name: a host name; the others: visible characters. */
bool candidates_is_sound(const scp_apply *apply);

/**
 * candidates_note() - a machine has applied, for the first time or again
 * @apply:	sound
 * @is_new:	out: it was not on the list
 *
 * Return: it, until the next call; NULL if the list is full, or has enough from this address
 */
const struct candidate *candidates_note(struct candidates *candidates, const scp_apply *apply,
					const struct candidate_origin *origin, uint64_t now_ms, bool *is_new);

/**
 * candidates_find() - the one whom a person means
 * @who:	its name, or the beginning of its fingerprint (at least CANDIDATES_PREFIX characters); rejected ones are meant only
 *		if there is no other
 *
 * Return: 0; -ENOENT; -ENOTUNIQ if there are several
 */
int candidates_find(const struct candidates *candidates, const char *who, uint64_t now_ms, const struct candidate **out);

/* Decided. */
void candidates_remove(struct candidates *candidates, const uint8_t key[static CERTIFICATES_KEY_BYTES]);

/* Those who wait, one after the other; begin with *at = 0. NULL: no more */
const struct candidate *candidates_next(const struct candidates *candidates, uint64_t now_ms, size_t *at);

#endif
