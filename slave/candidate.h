/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/candidate.h - a disk node to be: asks the master to let it in, without a token, and waits
 *
 * Its key is made once (<state_dir>/pki/node.key); so what a person decides about it counts however often it asks, and after a
 * restart. The first authority that answers is the only one that it believes from then on, until it is started anew: what
 * a person has compared stays true. docs/protocol.md, Joining.
 *
 *	        master known            answer: not decided yet
 *	LOOKING -------------> ASKING ---------------------------> ASKING again after 2 s
 *	   ^                     |---- no answer ----------------> after 0.5 to 5 s
 *	   |  another by DHCP    |---- rejected -----------------> after 30 s
 *	   +---------------------+---- certificate --------------> kept; on_admitted
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_CANDIDATE_H
#define VNAS_SLAVE_CANDIDATE_H

#include "common/admin.h"
#include "common/settings.h"

/* What DHCP hooks write and candidates read, in run_dir: "ADDRESS[:PORT]" of the master. */
#define CANDIDATE_DHCP_FILE "dhcp_master"

struct event_base;
struct self_candidate;

/**
 * self_candidate_new() - begin to ask
 * @settings:	borrowed for life; has `master`
 * @on_admitted: key and certificate are kept; @master is who gave it, as uplink_new() takes it. May free the candidate
 *
 * Return: 0; -ENOMEM; what prevents a key from being made (logged)
 */
int self_candidate_new(struct event_base *base, const struct settings *settings,
		       void (*on_admitted)(const char *master, void *arg), void *arg, struct self_candidate **out);
void self_candidate_free(struct self_candidate *candidate);

/* The commands of nasctl meanwhile; their argument is the struct device (slave/device_commands.h), with its candidate. */
extern const struct admin_handler candidate_commands[];

#endif
