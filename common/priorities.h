/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/priorities.h - classes of clients: whose work goes first, and how much of it there may be
 *
 * The classes of the name space (nasctl class), each with members, a weight and perhaps limits. The first class, by number, that means
 * a call has it; calls of none are class 0, with PRIORITIES_WEIGHT. Weights order what waits for workers (common/workers.h); limits
 * make calls wait before that. Limits are of this device: each counts for itself.
 *
 * The table is made when the name space has changed, and at no other time. Without classes a call costs one comparison.
 *
 * Threads: each loop has a table of its own; the meters are shared by all, without a lock.
 */
#ifndef VNAS_COMMON_PRIORITIES_H
#define VNAS_COMMON_PRIORITIES_H

#include "common/namespace.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
	PRIORITIES_MAX = 15, /* classes, beside that of all others */
	PRIORITIES_MEMBERS_MAX = 64, /* of a class */
	PRIORITIES_WEIGHT = 100,
	PRIORITIES_WEIGHT_MAX = 1000,
	PRIORITIES_WHY_MAX = 256,
};

/* A limit as large as the next is none. */
#define PRIORITIES_LIMIT_MAX UINT64_C(1000000000000)

struct priorities;

/* How much of its limits each class has used, by number modulo. Shared; zero at first. */
struct priorities_meters {
	struct {
		uint64_t operations_ns, bytes_ns; /* when what was let through is used up; atomic */
	} classes[PRIORITIES_MAX + 1];
};

/* @ns, @meters: borrowed for its life. NULL: no memory */
struct priorities *priorities_new(const struct namespace *ns, struct priorities_meters *meters);

/* NULL is allowed. */
void priorities_free(struct priorities *priorities);

/* Of whom a call is. */
struct priorities_call {
	const struct sockaddr_storage *client;
	uint32_t volume;
	uint32_t uid; /* as the client says */
	uint64_t bytes; /* of data that it moves */
	bool has_waited; /* for its limits, and does not do so again */
};

/* A call's place among others. */
struct priorities_place {
	uint8_t number; /* of its class here; 0: none */
	uint16_t weight;
	uint32_t wait_ms; /* before it may go on; UINT32_MAX: too much waits already, it should come again */
};

/**
 * priorities_note() - whose turn a call has
 * @now_us:	the monotonic clock, asked only where there are limits
 *
 * What has to wait is counted at once: who is told to wait must come only once.
 */
struct priorities_place priorities_note(struct priorities *priorities, const struct priorities_call *call,
					uint64_t (*now_us)(void));

/**
 * priorities_check() - are a class's members well-formed
 * @members:	"network=10.0.0.0/8 user=10001 export=/disk0 ...", separated by one space
 * @why:	out: on failure what is wrong and what would be right
 *
 * Return: 0; -EINVAL
 */
int priorities_check(const char *members, char why[static PRIORITIES_WHY_MAX]);

#endif
