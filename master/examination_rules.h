/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/examination_rules.h - what is wrong in a cluster, by the facts of its devices
 *
 * A table of examinations. Each looks at facts (common/examination_facts.h) and says what it finds: how bad, where, what, and what to do
 * about it. Reads no file, asks nobody, knows no clock. What is not known is no finding, but where somebody should have said it.
 *
 * To the facts of each device (slave/examiner.h) the master adds what it knows of it itself:
 *
 *	area		subject			value
 *	state		""			as nasctl node list says it
 *	reason		""			why
 *	report		""			yes; late: it did not answer; old: its software is older than the question; another word: why not
 *	software	""			name and version
 *	mac		""			by which it is reached
 *	clock		offset_ns, bound_ms	how much it is ahead of the master's, how much it may
 *	disk		device			of those that fail by SMART: model and serial number
 *
 * and of the cluster:
 *
 *	vips		""			separated by a blank
 *	place		volume			where it is in the tree
 *	manage_gids	""			yes: an export says so
 *	user, group	name			number, of the cluster's own
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_MASTER_EXAMINATION_RULES_H
#define VNAS_MASTER_EXAMINATION_RULES_H

#include "common/examination_facts.h"

enum {
	EXAMINATION_FINDINGS_MAX = 4096, /* more are left out */
	EXAMINATION_NAMERS_MAX = 16,	 /* devices whose users and groups are compared one by one */
};

enum examination_severity {
	EXAMINATION_NOTE,    /* worth knowing */
	EXAMINATION_WARNING, /* something works worse than it could, or will not for long */
	EXAMINATION_ERROR,   /* something does not work */
	EXAMINATION_SEVERITIES
};

struct examination_device {
	uint32_t id;
	const char *name; /* borrowed */
	bool is_switch;
	struct examination_facts facts;
};

struct examination_cluster {
	struct examination_device *devices;
	size_t count;
	struct examination_facts facts; /* of the cluster as a whole */
	int64_t now_s;			/* wall clock */
};

struct examination_finding {
	enum examination_severity severity;
	const char *examination;		 /* its name in the table */
	const struct examination_device *device; /* NULL: the cluster as a whole */
	char *what;
	char *remedy; /* one command or setting */
};

/* All zero: none. */
struct examination_findings {
	struct examination_finding *items;
	size_t count, room;
	const char *examination; /* the one that looks now */
};

struct examination {
	const char *name;
	/* Either looks at each device that has reported, or at all of them together. */
	void (*of_device)(const struct examination_cluster *cluster, const struct examination_device *device,
			  struct examination_findings *out);
	void (*of_cluster)(const struct examination_cluster *cluster, struct examination_findings *out);
};

/* All examinations; the last has no name. */
extern const struct examination examinations[];

/* How many examinations there are. */
size_t examination_count(void);

/* All examinations; what they find is in @out, the worst first, of one severity by device. */
void examination_judge(const struct examination_cluster *cluster, struct examination_findings *out);
void examination_findings_fini(struct examination_findings *findings);

/* "note", "warning", "error" */
const char *examination_severity_name(enum examination_severity severity);

/**
 * examination_namers() - whose users and groups are to be compared one by one, because their digests differ
 * @namers:	out: one device for each digest that there is, EXAMINATION_NAMERS_MAX at most; their facts of areas "user" and "group"
 *		are what "ids" needs
 *
 * Return: how many; 0: they don't differ
 */
size_t examination_namers(const struct examination_cluster *cluster,
			  struct examination_device *namers[static EXAMINATION_NAMERS_MAX]);

/* For those who examine: @format: "what\nremedy" */
void examination_found(struct examination_findings *out, enum examination_severity severity,
		       const struct examination_device *device, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Has it told its facts? */
bool examination_has_report(const struct examination_device *device);

/* master/examination_machines.c: of one device, what its machine is like */
void examine_kernel(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_capabilities(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_limits(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_clock(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_certificates(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_service(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_volumes(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_disks(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);

/* master/examination_network.c */
void examine_ports(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_local_ports(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_links(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_mtu(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_paths(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_vips(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_duplicates(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_arp(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_reverse_path(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_forwarding(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);
void examine_tracking(const struct examination_cluster *, const struct examination_device *, struct examination_findings *);

/* master/examination_ids.c */
void examine_ids(const struct examination_cluster *, struct examination_findings *);

#endif
