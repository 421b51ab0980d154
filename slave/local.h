/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/local.h - the backend for a directory tree of this node
 *
 * Files are named by the kernel's own handles (name_to_handle_at(2)), so that they stay valid across restarts and
 * reboots. Every operation runs with the client's identity (setfsuid(2) and friends, for the calling thread only),
 * so that the kernel checks permissions. What a reply promises is on stable storage before the function returns.
 *
 * Needs CAP_DAC_READ_SEARCH (open_by_handle_at) and CAP_SETUID, CAP_SETGID.
 *
 * Threads: a volume may be used from several threads at once. A thread other than the process's first one keeps the
 * identity of its last operation: it must do nothing else.
 */
#ifndef VNAS_SLAVE_LOCAL_H
#define VNAS_SLAVE_LOCAL_H

#include "common/backend.h"

/* The kernel's name of a volume's root directory, known before the volume has an id. */
struct local_root {
	uint16_t backend_type;
	uint8_t backend_len;
	uint8_t backend[HANDLE_BACKEND_MAX];
};

/**
 * local_probe() - see whether a directory can be a volume
 * @path:	the directory
 * @root:	out: its kernel handle; untouched on failure
 * @why:	out: on failure what is wrong and what would be right, for the administrator; borrowed static text
 *
 * Return: 0; -ENOENT, -ENOTDIR, -EOPNOTSUPP (no file handles here), -EOVERFLOW (handle longer than HANDLE_BACKEND_MAX),
 * -EPERM (a capability is missing) or what the kernel said
 */
int local_probe(const char *path, struct local_root *root, const char **why);

/**
 * local_open() - make a volume of a directory
 * @path:	the directory
 * @id:		the volume's id in the cluster, not 0
 * @fsid:	its fsid, stable for ever
 * @out:	out: the volume; freed with local_close()
 *
 * Return: 0 or a negative errno value
 */
int local_open(const char *path, uint32_t id, uint64_t fsid, struct volume **out);

/*
 * In a volume's root, the directory for what is kept there beside its files: volumes that were made by pattern
 * (slave/made_volumes.h). To clients of the volume there is nothing by that name, and there can't be.
 */
#define LOCAL_RESERVED ".vnas-volumes"

/*
 * Make an empty directory in a volume's reserved one, durable; or remove an empty one. That it is there, or not, already is fine.
 * @path, @root: of the volume. May wait for the disk. 0; -ENOTEMPTY; -EIO: the volume is not there; -EPERM: what has the reserved name
 * is not ours; -ENOSPC, ...
 */
int local_reserved_make(const char *path, const struct local_root *root, const char *name);
int local_reserved_remove(const char *path, const struct local_root *root, const char *name);

/* What makes a volume a branch of a spread directory, common to all of them but for the mask. */
struct local_branch {
	uint32_t spread;
	uint64_t fsid, fileid_mask;
	uint32_t mode, uid, gid; /* of the directory, and so of the root */
};

/* Before it is used. May wait for the disk. 0, or what the kernel said */
int local_become_branch(struct volume *volume, const struct local_branch *branch);

/* May wait for the disk. */
void local_close(struct volume *volume);

/* Close objects that were not used for some seconds; to be called each second. May wait for the disk. */
void local_tidy(struct volume *volume);

#endif
