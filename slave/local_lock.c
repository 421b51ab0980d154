/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/local_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Who may read or write a file may lock it: a reader needs to keep writers out, and both their locks. */
static int check_rights(const struct local_object *file, const struct credentials *who)
{
	int fd = local_object_reopen_as(file, who, O_RDONLY);

	if (fd == -EACCES)
		fd = local_object_reopen_as(file, who, O_WRONLY);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

/* The descriptor serves all who lock the file, so it is root's. */
static int open_for_all(const struct local_object *file)
{
	int fd = local_object_reopen(file, O_RDWR | O_NONBLOCK);

	if (fd == -EROFS || fd == -ETXTBSY || fd == -EPERM || fd == -EACCES)
		fd = local_object_reopen(file, O_RDONLY | O_NONBLOCK);
	return fd;
}

int local_open_locks(struct volume *volume, const struct credentials *who, const struct handle *object, int *fd)
{
	struct backend_attributes after;
	struct local_object file;
	int rc = local_begin(volume, who, object, &file, &after);

	if (rc)
		return rc;
	rc = local_object_need_regular(&file);
	if (!rc)
		rc = check_rights(&file, who);
	local_identity_root();
	if (!rc) {
		rc = open_for_all(&file);
		if (rc >= 0)
			*fd = rc;
	}
	return local_end(&file, &after, rc < 0 ? rc : 0);
}
