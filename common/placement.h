/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/placement.h - where a session's work lives, and whether it should move there
 *
 * Counts the file data of the last moments per device (metadata never counts), over one session or over all sessions of a
 * client, and decides by a table of criteria. Pure: takes values and times, returns a verdict with its figures;
 * common/tch.h acts on it.
 *
 * Source: "Determination of whether to proceed with a handoff": data from elsewhere, from one specific other device,
 * relative amounts, workload, one session or more than one. "Optimally, a handoff will occur at a point in system activity
 * when the cluster to client communication is relatively idle."
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_PLACEMENT_H
#define VNAS_COMMON_PLACEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PLACEMENT_NODES_MAX = 8,
	PLACEMENT_REQUEST_BYTES = 16 * 1024, /* what a request weighs beside its bytes */
};

/* A number that is 0 switches its criterion off. */
struct placement_policy {
	uint64_t bytes;		/* of one other device's data */
	uint64_t elsewhere;	/* of all other devices' data together, instead of `bytes` */
	unsigned int prepare;	/* percent of `bytes` or `elsewhere`: enough to prepare that device */
	uint64_t request;	/* of this device's data, that another one has had relayed for a session: enough to ask for it */
	unsigned int ratio;	/* percent: that device's data against this one's */
	unsigned int workload;	/* percent of one core: how much busier than this one that device may be */
	unsigned int window_ms; /* figures are halved as often as this */
	unsigned int stay_ms;	/* a session stays at least this long after a move */
	unsigned int budget;	/* handoffs that this device begins in a second */
	uint64_t queue;		/* bytes of replies that wait: more is no good moment */
	uint64_t halve;		/* bytes that the client has not acknowledged: more is not carried over, but sent from here first */
	bool per_client;	/* count all sessions of a client together */
};

/* What has been counted. All zero at the start. */
struct placement {
	uint64_t halved_ms, moved_ms; /* monotonic clock */
	uint64_t prepared_ms;
	uint32_t prepared; /* the device that was prepared last, since the last move; 0: none */
	struct placement_share {
		uint32_t node;
		uint64_t bytes;
	} shares[PLACEMENT_NODES_MAX];
};

/* The handoffs that a device has begun in this second. All zero at the start. */
struct placement_budget {
	uint64_t since_ms;
	unsigned int begun;
};

enum placement_criterion {
	PLACEMENT_ONE_DEVICE,
	PLACEMENT_ELSEWHERE,
	PLACEMENT_RATIO,
	PLACEMENT_WORKLOAD,
	PLACEMENT_STAY,
	PLACEMENT_BUDGET,
	PLACEMENT_QUEUE,
	PLACEMENT_NCRITERIA
};

/* What a verdict depends on beside the counts. */
struct placement_situation {
	uint32_t self;		 /* this device's node id */
	uint64_t now_ms;	 /* monotonic clock */
	uint64_t moved_ms;	 /* when the session last moved or tried to */
	uint64_t queued;	 /* bytes of replies that wait */
	const uint32_t *permille; /* how busy devices are, by node id; borrowed */
	size_t permille_count;
	const struct placement_budget *budget;
};

struct placement_finding {
	uint64_t have, limit;
	bool is_used; /* false: switched off */
	bool is_met;
};

struct placement_verdict {
	uint32_t node; /* the other device with most of the data; 0: none */
	bool moves;
	bool prepares; /* it may soon */
	struct placement_finding findings[PLACEMENT_NCRITERIA];
};

/* A request moved @bytes of @node's data. */
void placement_note(struct placement *placement, const struct placement_policy *policy, uint32_t node, uint64_t bytes,
		    uint64_t now_ms);

/**
 * placement_judge() - should the session move?
 * @placement:	its counts, or its client's
 * @verdict:	out
 *
 * It moves, or may soon, to the device that most of the others' data is of, if that is enough by `bytes` or by `elsewhere`, and nothing else
 * speaks against it.
 */
void placement_judge(const struct placement *placement, const struct placement_policy *policy,
		     const struct placement_situation *situation, struct placement_verdict *verdict);

/* A handoff was begun. */
void placement_spend(struct placement_budget *budget, uint64_t now_ms);

/* "bytes from one other device", with what its figures count: "B", "%", "ms", "/s". Static. */
const char *placement_criterion_name(enum placement_criterion criterion);
const char *placement_criterion_unit(enum placement_criterion criterion);

/* Counts by client address, for as many clients as fit; the one that was longest away goes first. */
struct placement_clients;

/* NULL: no memory */
struct placement_clients *placement_clients_new(size_t clients_max);
void placement_clients_free(struct placement_clients *clients);

/* The client's counts, made if it has none. Borrowed until the next call. NULL: no memory */
struct placement *placement_of_client(struct placement_clients *clients, const uint8_t address[static 16]);

#endif
