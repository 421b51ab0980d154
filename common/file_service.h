/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/file_service.h - NFSv3, its ACLs, MOUNT and RQUOTA as this device serves them
 *
 * Finds for each call the volume its file handle names and has it answered: by the pseudo backend (virtual root, any
 * device), by a backend of this device, or, whole, by the device that owns the volume. Knows no role: which
 * volumes are here and how a call reaches another device come as functions.
 *
 * Programs: NFS v3 (100003), MOUNT v1 and v3 (100005), NFSACL v3 (100227), RQUOTA v1 and v2 (100011).
 *
 * Each loop has its own, so that none waits for another: that of the control loop answers everything, those of data loops what
 * is of volumes here, and share with it what must be one (the caches of duplicate requests, names).
 *
 * Threads: its loop's; what may wait for a disk runs on workers meanwhile. The name space and the volumes change only while
 * no data loop runs (common/loop.h).
 */
#ifndef VNAS_COMMON_FILE_SERVICE_H
#define VNAS_COMMON_FILE_SERVICE_H

#include "common/backend.h"
#include "common/latency.h"
#include "common/namespace.h"
#include "common/rpc.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	NFS_PORT = 2049,
	NFS_PROGRAM = 100003,
	MOUNT_PROGRAM = 100005,
	RQUOTA_PROGRAM = 100011,
	NFS_ACL_PROGRAM = 100227,
	NFS3_PROCEDURES = 22,
	NFS_ACL_PROCEDURES = 3,
};

struct duplicate_requests_counters;
struct event_base;
struct file_service;
struct loop;
struct spread_call;
struct spreads;
struct workers;

struct file_service_options {
	/* For looking up names. NULL: it is never known whether an export to a name lets a client in. */
	struct event_base *base;

	const struct namespace *ns; /* borrowed for the service's life */
	uint32_t self;		    /* this device's node id */

	/* The open volume with this id on this device, or NULL. */
	struct volume *(*find_volume)(uint32_t id, void *arg);

	/* Is its disk known to have gone? Asked of a volume of this device that is not open. NULL: never */
	bool (*has_left)(uint32_t id, void *arg);

	/*
	 * Carry @call to @node and its reply back. Answers @call itself, now or later; when the node can't be reached,
	 * through file_service_unreachable(). NULL if this device can't relay.
	 */
	void (*relay)(uint32_t node, struct rpc_call *call, void *arg);

	/* What is in the spread directories; borrowed for the service's life. NULL: nothing is known of them. */
	const struct spreads *spreads;

	/* Takes a call that changes a spread directory. NULL: the master does that, to which such calls are relayed. */
	void (*change_spread)(struct spread_call *call, void *arg);
	void *arg;

	/* Where calls run that may wait for a disk; borrowed for the service's life. NULL: in the loop. */
	struct workers *workers;
};

/* What kind of work a call of NFS or NFSACL is. */
enum file_service_operations {
	FILE_SERVICE_LOOK,   /* attributes, names, rights, ACLs */
	FILE_SERVICE_LIST,   /* READDIR, READDIRPLUS */
	FILE_SERVICE_READ,
	FILE_SERVICE_WRITE,
	FILE_SERVICE_COMMIT,
	FILE_SERVICE_CHANGE, /* names, attributes, ACLs */
	FILE_SERVICE_NOPERATIONS
};

/* Calls answered, by procedure. */
struct file_service_counters {
	uint64_t nfs3[NFS3_PROCEDURES];
	uint64_t nfs_acl[NFS_ACL_PROCEDURES];
	uint64_t relayed, bad_handle, stale_handle, access_denied, read_bytes, written_bytes;
	struct latency latency[FILE_SERVICE_NOPERATIONS]; /* from call to answer, waiting for names and turns included */
};

/* As RFC 1813 calls it; of NFS_PROGRAM or NFS_ACL_PROGRAM. @procedure: there is one */
const char *file_service_procedure_name(uint32_t program, uint32_t procedure);

/* NULL: no memory, or no threads */
struct file_service *file_service_new(const struct file_service_options *options);

/**
 * file_service_new_part() - for a data loop
 * @whole:	the control loop's, for which there are no calls yet; freed after all of its parts
 * @loop:	whose it is; borrowed
 * @control:	what passes on what a data loop does not answer; borrowed
 *
 * Return: NULL: no memory
 */
struct file_service *file_service_new_part(struct file_service *whole, struct loop *loop, struct rpc_server *control);

/*
 * With all parts. Calls that wait for a name get no answer, nor do those whose objects' places are being sought. There must come no more calls, and
 * the workers must still be there: their work is called done later.
 */
void file_service_stop(struct file_service *service);
void file_service_free(struct file_service *service);

/* The programs to put into an rpc_server, valid as long as the service. */
const struct rpc_program *file_service_programs(struct file_service *service, size_t *count);

/**
 * file_service_unreachable() - answer a call whose volume's owner can't be reached
 *
 * NFS: NFS3ERR_JUKEBOX, so that a hard mount waits and tries again (RFC 1813, 2.6); NLM: as nlm_unreachable(); NULL
 * procedures and MOUNT: an error of their own.
 */
void file_service_unreachable(struct rpc_call *call);

/**
 * file_service_runs_once() - must a call keep its xid once it may have been run?
 *
 * If so, file_service_unreachable() is no answer after the call was sent to its owner: the client would ask again with
 * another xid, and the owner could not know it as a duplicate.
 */
bool file_service_runs_once(const struct rpc_call *call);

/*
 * Is file_service_unreachable() an error to the program that waits for the call? Linux knows NFS3ERR_JUKEBOX of NFS, not of NFSACL: there it
 * is handed on ("Unknown error 528"), by open(2) with O_CREAT, too, which asks for the directory's ACL.
 */
bool file_service_is_awaited(const struct rpc_call *call);

/* Of the service and of those that name it as theirs: from the control loop, while data loops are paused. */
struct file_service_counters file_service_counters(const struct file_service *service);

/* The caches of duplicate requests: changes of names and attributes, and writes. */
enum file_service_cache { FILE_SERVICE_CHANGES, FILE_SERVICE_WRITES };

struct duplicate_requests_counters file_service_duplicates(const struct file_service *service,
							   enum file_service_cache cache);

#endif
