/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a snapshot or a change crashes a device, or what was accepted is not a tree.
 *
 * Input: a snapshot (XDR of ns_snapshot), then changes (ns_change), whose revisions are made to follow.
 */
#include "config.h"

#include "common/namespace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* Each entry's path leads to it, unless it is below a mount point that it should not be below. */
static void check_tree(const struct namespace *ns)
{
	const ns_entry *entry;
	char path[NS_TEXT_MAX];
	const char *rest;

	for (size_t at = 0; (entry = namespace_next_entry(ns, &at));) {
		int rc = namespace_path(ns, entry, path);

		if (rc == 0 && (namespace_walk(ns, path, &rest) != entry || *rest))
			abort();
		if (rc < 0 && rc != -ENAMETOOLONG)
			abort();
	}
}

/* Another replica, fed by this one, is the same. */
static void check_copy(const struct namespace *ns)
{
	struct namespace *copy = namespace_new();
	uint8_t *once, *twice;
	size_t once_len, twice_len;

	if (!copy || namespace_snapshot(ns, &once, &once_len) || namespace_load(copy, once, once_len) ||
	    namespace_snapshot(copy, &twice, &twice_len))
		abort();
	if (once_len != twice_len || memcmp(once, twice, once_len) != 0)
		abort();
	free(once);
	free(twice);
	namespace_free(copy);
}

static void apply_changes(struct namespace *ns, XDR *xdr)
{
	for (;;) {
		ns_change change = { 0 };
		bool decoded = xdr_ns_change(xdr, &change);

		change.revision = namespace_revision(ns) + 1;
		if (decoded && namespace_apply(ns, &change) == 0)
			check_tree(ns);
		xdr_free((xdrproc_t)xdr_ns_change, (char *)&change);
		if (!decoded)
			return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct namespace *ns = namespace_new();
	ns_snapshot snapshot = { 0 };
	XDR xdr;

	if (!ns)
		abort();
	if (namespace_load(ns, bytes, len) == 0) {
		check_tree(ns);
		check_copy(ns);
		/* Where the snapshot ends. */
		xdrmem_create(&xdr, (char *)bytes, (u_int)len, XDR_DECODE);
		if (!xdr_ns_snapshot(&xdr, &snapshot))
			abort();
		xdr_free((xdrproc_t)xdr_ns_snapshot, (char *)&snapshot);
		apply_changes(ns, &xdr);
		check_copy(ns);
	}
	namespace_free(ns);
	return 0;
}
