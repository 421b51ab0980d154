/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/file_service_internal.h - shared by file_service.c and the engines: NFS and NFSACL (nfs3*.c, nfs_acl.c),
 * MOUNT (mount3.c), RQUOTA (rquota.c)
 */
#ifndef VNAS_COMMON_FILE_SERVICE_INTERNAL_H
#define VNAS_COMMON_FILE_SERVICE_INTERNAL_H

#include "common/exports.h"
#include "common/file_service.h"

#include <sys/queue.h>

enum { FILE_SERVICE_PROGRAMS = 4 };

struct file_service {
	struct file_service_options options;
	struct file_service *whole; /* NULL: this is the control loop's */
	struct rpc_server *control; /* of a part: answers what it does not */
	struct loop *loop;	    /* of a part: where its work comes home to; NULL: the control loop */
	LIST_HEAD(, file_service) parts;
	LIST_ENTRY(file_service) link; /* in `parts` */
	struct exports *exports;
	struct user_groups *users;
	struct priorities *priorities;
	LIST_HEAD(, delayed_call) delayed; /* file_service.c's */
	bool stopping;
	struct file_service_counters counters;

	/* Of the whole one; a data loop's borrows them. */
	struct name_service *names; /* NULL without an event_base */
	struct mount_table *mounts;
	struct priorities_meters *meters;
	struct duplicate_requests *changes; /* of names and attributes */
	struct duplicate_requests *writes;  /* apart, so that many writes do not have those forgotten */

	struct volume root; /* the virtual root, as of the last file_service_find() */
	struct volume spread; /* a spread directory, as of the last one that found it */
	SLIST_HEAD(, nfs3_work) spare_works; /* nfs3_work.c's, as the next */
	size_t spare_work_count;
	struct rpc_program programs[FILE_SERVICE_PROGRAMS];
};

/**
 * file_service_find() - where a volume is served
 * @id:		volume id
 * @transport:	how the call came
 * @here:	out: the volume, if this device serves it; else NULL
 * @node:	out: otherwise the device to relay to
 *
 * Return: 0; -ESTALE if there is no such volume; -EINPROGRESS if it can't be served at this moment: its disk is not
 * open, there is no way to its owner, or a relayed call came here because replicas differ (never relayed twice)
 */
int file_service_find(struct file_service *service, uint32_t id, enum rpc_transport transport, struct volume **here,
		      uint32_t *node);

/**
 * file_service_groups() - the groups that this server knows a user to be in, if the export says so: of the cluster's users
 * first, then of this device's
 * @who:	after squashing; borrows them on success
 * @out:	out: a reference to them, the caller's; NULL if those that the client said count
 *
 * Return: 0; EXPORTS_UNKNOWN; -EINPROGRESS
 */
int file_service_groups(struct file_service *service, const struct rpc_call *call, const struct export_rights *rights,
			struct credentials *who, struct group_set **out);

void file_service_relay(struct file_service *service, uint32_t node, struct rpc_call *call);

/**
 * file_service_wait() - have a call wait until something was looked up
 * @resume:	answers the call, or has it wait again
 *
 * Return: 0; -ENOMEM: nothing has happened
 */
int file_service_wait(struct file_service *service, struct rpc_call *call,
		      void (*resume)(struct file_service *service, struct rpc_call *call));

/**
 * file_service_delay() - have a call wait for a time
 * @resume:	goes on with the call
 *
 * Return: 0; -ENOMEM: nothing has happened
 */
int file_service_delay(struct file_service *service, struct rpc_call *call, uint32_t wait_ms,
		       void (*resume)(struct file_service *service, struct rpc_call *call));

/* RFC 1813, appendix I */
enum mount_number {
	MOUNT_NULL,
	MOUNT_MNT,
	MOUNT_DUMP,
	MOUNT_UMNT,
	MOUNT_UMNTALL,
	MOUNT_EXPORT,
	MOUNT_EXPORTALL, /* not in version 3 */
	MOUNT_NUMBERS,
};

/* Answer a call; rpc_program.dispatch. nfs3_dispatch() takes NFS and NFSACL. */
void nfs3_dispatch(const struct rpc_program *program, struct rpc_call *call);
void mount3_dispatch(const struct rpc_program *program, struct rpc_call *call);
void rquota_dispatch(const struct rpc_program *program, struct rpc_call *call);

/* Free what nfs3_work.c keeps for this service. */
void nfs3_work_free_spare(struct file_service *service);

/* Whether a call changes what it would not find again. WRITE may be run again: it writes the same. */
bool nfs3_runs_once(const struct rpc_call *call);

/* Answer a call whose volume's owner can't be reached. */
void nfs3_unreachable(struct rpc_call *call);
void mount3_unreachable(struct rpc_call *call);

#endif
