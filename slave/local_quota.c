/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/local_internal.h"

#include <errno.h>
#include <sys/quota.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LIMIT_BYTES = 1024 }; /* the unit of struct dqblk's limits; linux/quota.h, QIF_DQBLKSIZE */

static const int types[] = {
	[BACKEND_QUOTA_USER] = USRQUOTA,
	[BACKEND_QUOTA_GROUP] = GRPQUOTA,
};

/* By a descriptor, because a path of the device need not be known; glibc has no wrapper. */
int local_quota(struct volume *volume, enum backend_quota_kind kind, uint32_t id, struct backend_quota *out)
{
	const struct local_volume *local = volume->state;
	struct dqblk found = { 0 };

	/* Of others than oneself the kernel tells CAP_SYS_ADMIN only; a worker may have none since its last client. */
	local_identity_root();
	if (syscall(SYS_quotactl_fd, local->root_fd, QCMD((unsigned int)Q_GETQUOTA, types[kind]), id, &found))
		return -errno;
	*out = (struct backend_quota){
		.byte_hard = found.dqb_bhardlimit * LIMIT_BYTES,
		.byte_soft = found.dqb_bsoftlimit * LIMIT_BYTES,
		.bytes = found.dqb_curspace,
		.file_hard = found.dqb_ihardlimit,
		.file_soft = found.dqb_isoftlimit,
		.files = found.dqb_curinodes,
		.byte_grace_end = found.dqb_btime,
		.file_grace_end = found.dqb_itime,
	};
	return 0;
}
