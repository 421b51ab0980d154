/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/cluster_config.h - what administrators have set in a cluster, as one document
 *
 * Exports, users with the hashes of their passwords, groups, classes and the places of volumes, in JSON, for a backup or another cluster. An
 * import makes the cluster as the document says: what it does not name is taken away. Nodes and volumes are named, too, so that
 * a reader knows what a place is of, but don't come by it: a node joins with a token and brings its volumes.
 *
 * The plan is pure: values in, changes out. Who carries it out has checked all of it before.
 *
 * Ownership: a plan owns its changes.
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_CLUSTER_CONFIG_H
#define VNAS_MASTER_CLUSTER_CONFIG_H

#include "common/admin.h"
#include "common/namespace.h"

enum { CLUSTER_CONFIG_VERSION = 1, CLUSTER_CONFIG_WHY_MAX = 512 };

/* One step. A new export or class has id 0: who carries it out gives it one. */
struct cluster_config_step {
	enum { CLUSTER_CONFIG_PUT, CLUSTER_CONFIG_DELETE, CLUSTER_CONFIG_PLACE, CLUSTER_CONFIG_UNPLACE } what;
	ns_item item;	 /* put, delete */
	uint64_t entry;	 /* unplace */
	uint32_t volume; /* place */
	char *path;	 /* the same */
};

struct cluster_config_plan {
	struct cluster_config_step *steps;
	size_t count;
	size_t unknown_volumes; /* named in the document, but not here: their places are left out */
};

/* NULL: no memory. Gives the document. */
json_t *cluster_config_export(const struct namespace *ns);

/**
 * cluster_config_plan_make() - what is to be changed so that the cluster is as a document says
 * @text:	of the document; borrowed
 * @out:	out: free with cluster_config_plan_fini(); untouched on failure
 * @why:	out: on failure where and what is wrong, CLUSTER_CONFIG_WHY_MAX bytes
 *
 * In an order in which no file is open to more clients in between than before or afterwards: exports come before others
 * whose path leads to them, and go when all have come.
 *
 * Return: 0; -EINVAL; -ENOMEM
 */
int cluster_config_plan_make(const char *text, const struct namespace *ns, struct cluster_config_plan *out, char *why);
void cluster_config_plan_fini(struct cluster_config_plan *plan);

/* nasctl config export and import; @arg: struct device. */
void cluster_config_command_export(struct admin_request *request, int argc, char **argv, void *arg);
void cluster_config_command_import(struct admin_request *request, int argc, char **argv, void *arg);

#endif
