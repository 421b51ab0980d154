/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/replica.h"

#include <errno.h>

void replica_connected(struct replica *replica)
{
	replica->is_in_step = false;
	replica->waiting = REPLICA_PATIENCE_BEATS;
}

static enum replica_next ask(struct replica *replica)
{
	replica->is_in_step = false;
	if (replica->waiting)
		return REPLICA_NOTHING; /* it has been */
	replica->waiting = REPLICA_PATIENCE_BEATS;
	return REPLICA_ASK;
}

int replica_snapshot(struct replica *replica, const void *bytes, size_t len, enum replica_next *next)
{
	int rc = namespace_load(replica->ns, bytes, len);

	if (rc < 0)
		return rc;
	replica->is_in_step = true;
	replica->waiting = 0;
	*next = REPLICA_CHANGED;
	return 0;
}

/* 0, as namespace_apply(); 1: we have it already */
static int apply(struct replica *replica, const ns_change *change)
{
	return change->revision <= namespace_revision(replica->ns) ? 1 : namespace_apply(replica->ns, change);
}

enum replica_next replica_change(struct replica *replica, const void *bytes, size_t len)
{
	ns_change change = { 0 };
	int rc = -EBADMSG;
	XDR xdr;

	if (!replica->is_in_step)
		return REPLICA_NOTHING; /* a snapshot is under way that has it, or a beat will ask for one */
	xdrmem_create(&xdr, (char *)(uintptr_t)bytes, (u_int)len, XDR_DECODE);
	if (xdr_ns_change(&xdr, &change))
		rc = apply(replica, &change);
	xdr_free((xdrproc_t)xdr_ns_change, (char *)&change);
	if (rc < 0)
		return ask(replica);
	return rc == 0 ? REPLICA_CHANGED : REPLICA_NOTHING;
}

enum replica_next replica_beat(struct replica *replica, uint64_t revision)
{
	if (replica->is_in_step && revision == namespace_revision(replica->ns))
		return REPLICA_NOTHING;
	if (replica->waiting)
		replica->waiting--;
	return ask(replica);
}
