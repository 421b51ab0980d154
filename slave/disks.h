/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/disks.h - the disks of this node: which there are, and those that are volumes
 *
 * Watches the kernel for disks that come and go. An empty one is offered to the master, and made a volume by order, or by itself if
 * the configuration says so. One that was formatted here is found again by the UUID of its file system, mounted below
 * <state_dir>/mnt, and its directory "volume" is a volume with that UUID. One that holds anything else is shown and never touched.
 *
 * A disk in the life of a volume:
 *
 *	               order            mkfs, mount             fails, or is pulled out
 *	   EMPTY ---------> FORMATTING -----------> VOLUME ------------------------------> AWAY
 *	     ^                  |    |                 ^                                     |
 *	     |      mkfs fails  |    | the daemon dies |        it is back, and mounted      |
 *	     +------------------+    v                 +-------------------------------------+
 *	                        UNFINISHED ---> FORMATTING, by another order
 *
 * Clients of a disk that is AWAY get NFS3ERR_IO; of one that has not been looked for yet, NFS3ERR_JUKEBOX.
 *
 * Threads: the control loop's. What waits for a disk is done by workers.
 */
#ifndef VNAS_SLAVE_DISKS_H
#define VNAS_SLAVE_DISKS_H

#include "scp/scp.h"
#include "slave/disk_probe.h"

struct disks;
struct event_base;
struct settings;
struct volumes;
struct workers;

struct disks_options {
	struct event_base *base;
	const struct settings *settings; /* borrowed for life */
	struct workers *workers;
	struct volumes *volumes;
	void (*on_volumes)(void *arg); /* a volume has come, or is back: open it, offer it */
	void (*on_change)(void *arg);  /* disks_describe() says something else than before */
	void *arg;
};

/* Volumes that are on disks wait from now on; looking for them begins. -EINVAL if the record is damaged (logged); -ENOMEM */
int disks_new(const struct disks_options *options, struct disks **out);

/* While the workers run: end what takes long. Nothing is begun any more. */
void disks_stop(struct disks *disks);

/* When the volumes are closed. @for_good: unmount */
void disks_free(struct disks *disks, bool for_good);

/* Look again, also at what SMART says. What is found comes by on_change. */
void disks_rescan(struct disks *disks);

/* @why: a sentence, if @result is an error */
typedef void (*disks_begun)(int result, const char *why, void *arg);

/**
 * disks_format() - make an empty disk a volume
 * @device:	as it was described
 * @type:	of file system; "": as configured
 * @on_begun:	called once, perhaps before this returns: the format has begun, or why not. How it ends shows in the description
 */
void disks_format(struct disks *disks, const char *device, const char *type, disks_begun on_begun, void *arg);

/* A volume was removed from the cluster: if it is on such a disk, let go of that. Its files stay. */
void disks_forget(struct disks *disks, const uint8_t uuid[static UUID_BYTES]);

/* @out: borrows until the next turn of the loop. 0; -ENOMEM */
int disks_describe(struct disks *disks, scp_disks *out);

#endif
