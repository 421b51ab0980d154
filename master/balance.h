/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/balance.h - which disk node should have more, and which less
 *
 * Two decisions, both pure: values in, values out.
 *
 * New connections: a list of turns for the fabric (fabric_first_set()), in which each device is as often as it should get some,
 * spread evenly. By weight the list is good for ever. By load it is a plan for the next moment: each turn is the device's that has
 * least then, with what the turns before have given it.
 *
 * Sessions that are there: when a device has been busy for a while, some of them should go. First those that only pass it, on their
 * way to another device's data; then those that do a good part of their work elsewhere; then those that do nothing. Those whose work is
 * here stay: wherever else they were, it would come back by relay.
 *
 * Against ping-pong: a device gets nothing unless it is a good deal less busy than the one that gives; a device that was relieved
 * is watched for a while before it may give again; and a session that was shifted stays for BALANCE_STAY_MS.
 *
 * Source: "Determination of whether to proceed with a handoff": workload.
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_MASTER_BALANCE_H
#define VNAS_MASTER_BALANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BALANCE_TURNS_MAX = 1024,
	BALANCE_WEIGHT = 100, /* of a device of which nobody has said anything else */
	BALANCE_WEIGHT_MAX = 1000,
	BALANCE_RELIEF_PERMILLE = 200, /* so much less than the bound, and the device is busy no longer; and may get more */
	BALANCE_AFTER_MS = 5000,       /* busy for so long, and it gives */
	BALANCE_STAY_MS = 60000,       /* a session that was shifted is left where it is */
};

/* A disk node that may get work. */
struct balance_device {
	uint32_t device;
	unsigned int weight;	    /* 1 to BALANCE_WEIGHT_MAX */
	uint64_t sessions;	    /* that it has */
	unsigned int busy_permille; /* the busiest of its processors together and its disks; 1000: busy, or not known */
};

/* So many turns as devices' weights say, or BALANCE_TURNS_MAX. Return: how many; 0 without devices */
size_t balance_by_weight(const struct balance_device *devices, size_t count, uint32_t turns[static BALANCE_TURNS_MAX]);

/*
 * Turns go to whoever has fewest sessions for its weight and for what of it is idle: one that is half idle counts as half as large.
 * Return: how many; 0 without devices
 */
size_t balance_by_load(const struct balance_device *devices, size_t count, uint32_t turns[static BALANCE_TURNS_MAX]);

/* Is a device too busy? All zero at first. */
struct balance_watch {
	uint64_t since_ms; /* it has been at the bound, or has given; 0: neither */
	bool is_busy;
};

/**
 * balance_watch() - look at a device again
 * @busy_permille: its own
 * @bound_permille: what is too busy
 * @now_ms:	monotonic clock; not 0
 *
 * Too busy is who was at the bound for BALANCE_AFTER_MS without a break, until he is below it by more than BALANCE_RELIEF_PERMILLE. He
 * gives at once, and again each BALANCE_AFTER_MS: so long it takes until it shows what that was worth.
 *
 * Return: whether it should give sessions away now
 */
bool balance_watch(struct balance_watch *watch, unsigned int busy_permille, unsigned int bound_permille, uint64_t now_ms);

/* What a session did lately: bytes, of which each request is worth some. */
struct balance_session {
	uint64_t id;
	uint64_t here;	     /* of the data of the device that has it */
	uint64_t elsewhere;  /* of others' */
	uint32_t owner;	     /* the device that most of that is of; 0: nobody who may get it */
	bool was_shifted;    /* less than BALANCE_STAY_MS ago */
};

enum balance_reason {
	BALANCE_PASSES,	    /* most of its work is elsewhere */
	BALANCE_MIXED,	    /* a quarter at least */
	BALANCE_IDLE,	    /* it does nothing */
	BALANCE_WORKS_HERE, /* and stays */
	BALANCE_SHIFTED,    /* it was, lately, and stays */
	BALANCE_NREASONS
};

/* What a session is to a busy device. The earlier ones go first. */
enum balance_reason balance_reason_of(const struct balance_session *session);

/* For people: "it only passes that node ...". Static. */
const char *balance_reason_text(enum balance_reason reason);

/**
 * balance_target() - where should a session of a busy device go?
 * @session:	one that does not stay
 * @devices:	that may get it; without the one that has it
 * @bound_permille: what is too busy
 *
 * To the device that it works for, if that has room; else to the one that has most.
 *
 * Return: the device; 0: all are too busy
 */
uint32_t balance_target(const struct balance_session *session, const struct balance_device *devices, size_t count,
			unsigned int bound_permille);

#endif
