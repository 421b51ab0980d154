/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/examiner.h - a device examines itself, for `nasctl check`
 *
 * Finds facts (common/examination_facts.h) and judges nothing: the master does, over those of all devices (master/examination_rules.h).
 * What may wait (files, the name service, the network) is done by workers, in parts: if one takes longer than EXAMINER_PATIENCE_MS, the
 * others' facts are told without it.
 *
 *	area		subject			value
 *	setting		handoff, nfs_port, ...	as the daemon runs with it
 *	serves		""			yes, no
 *	handoffs	""			yes, no: is there a kernel helper?
 *	member		number			how this device sees another one: up, suspect, down, held down
 *	volume		number			room FREE SIZE FREE_FILES FILES; silent: its file system does not answer; away
 *	certificate	node, authority		from when until when it is valid, seconds since 1970
 *	late		a part			not found in time
 *	cut		""			there were more facts than there is room for
 * and those of the parts: common/examination_machine.h, common/examination_probe.h, common/examination_names.h.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_EXAMINER_H
#define VNAS_SLAVE_EXAMINER_H

#include "common/examination_facts.h"
#include "scp/scp_xdr.h"

enum {
	EXAMINER_PATIENCE_MS = 6000,
	EXAMINER_RUNS_MAX = 2, /* one of which may hang */
};

struct event_base;
struct examiner;
struct namespace;
struct settings;
struct slave;
struct workers;

struct examiner_options {
	struct event_base *base;
	const struct settings *settings;
	const struct namespace *ns;
	struct workers *workers;
	struct slave *slave;
};

/* All is borrowed for life. NULL without memory */
struct examiner *examiner_new(const struct examiner_options *options);

/* Before the workers end: who waits is told what is known, and nobody is examined any more. */
void examiner_stop(struct examiner *examiner);

/* When the workers have ended. NULL is allowed. */
void examiner_free(struct examiner *examiner);

/* @facts: borrowed */
typedef void (*examiner_done_fn)(const struct examination_facts *facts, void *arg);

/**
 * examiner_find() - find this device's facts
 * @names:	the users and groups one by one, and nothing else
 * @on_done:	called once, later, unless an error was returned
 *
 * Return: 0; -EBUSY if EXAMINER_RUNS_MAX are under way, or it was stopped; -ENOMEM
 */
int examiner_find(struct examiner *examiner, bool names, examiner_done_fn on_done, void *arg);

/* As SCP says it. @out borrows the texts; free(out->facts.facts_val). -ENOMEM */
int examination_to_wire(const struct examination_facts *facts, scp_examined *out);
void examination_from_wire(const scp_examined *wire, struct examination_facts *out);

#endif
