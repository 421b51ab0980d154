/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/unit/fake_volume.h - a volume in memory, and a small cluster around it, for tests of the protocol engines
 *
 * The cluster, seen from node 1:
 *
 *	/		volume 0
 *	/disk0		volume 1, here; fsid FAKE_FSID
 *	/projects	volume 0
 *	/projects/a	volume 2, at node 2
 *	/gone		volume 3, here, but its disk is not open
 *
 * Exports: "/" to 10.0.0.0/8 (rw, secure, root squashed) and 10.9.0.0/16 (rw, insecure, no_root_squash); "/projects" to
 * 10.9.0.0/16 read only.
 */
#ifndef VNAS_TESTS_FAKE_VOLUME_H
#define VNAS_TESTS_FAKE_VOLUME_H

#include "common/backend.h"
#include "common/namespace.h"

enum { FAKE_FSID = 0x1234, FAKE_NODES_MAX = 64, FAKE_FILE_MAX = 4096, FAKE_ROOT = 100, FAKE_ACL_MAX = 8 };

/* The write verifier is 0x5678. */
struct volume *fake_volume_new(void);
void fake_volume_free(struct volume *volume);

/* How many bytes the files hold, for a look behind the protocol. */
size_t fake_volume_bytes(const struct volume *volume);

struct namespace *fake_namespace_new(void);

#endif
