/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a document that somebody wrote crashes the master, or was accepted and can't be carried out.
 *
 * Input: a cluster's configuration, JSON.
 */
#include "config.h"

#include "master/cluster_config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* With nothing in it but a root. */
static struct namespace *empty_cluster(void)
{
	ns_item items[2] = { { .kind = NS_CLUSTER }, { .kind = NS_ENTRY } };
	ns_snapshot snapshot = { .revision = 1, .items = { .items_len = 2, .items_val = items } };
	struct namespace *ns = namespace_new();
	char encoded[512];
	XDR xdr;

	items[0].ns_item_u.cluster = (ns_cluster){ .name = (char *)"test", .vips = (char *)"" };
	items[1].ns_item_u.entry = (ns_entry){ .id = 1, .parent = 1, .name = (char *)"" };
	xdrmem_create(&xdr, encoded, sizeof(encoded), XDR_ENCODE);
	if (!ns || !xdr_ns_snapshot(&xdr, &snapshot) || namespace_load(ns, encoded, xdr_getpos(&xdr)))
		abort();
	return ns;
}

static void carry_out(struct namespace *ns, struct cluster_config_plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		struct cluster_config_step *step = &plan->steps[i];
		ns_change change = { .revision = namespace_revision(ns) + 1, .operation = NS_PUT, .item = step->item };

		if (step->what != CLUSTER_CONFIG_PUT)
			abort(); /* there is nothing to take away */
		if (change.item.kind == NS_EXPORT)
			change.item.ns_item_u.export_.id = (u_int)i + 1;
		if (change.item.kind == NS_CLASS)
			change.item.ns_item_u.class_.id = (u_int)i + 1;
		if (namespace_apply(ns, &change))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct namespace *ns = empty_cluster();
	char *text = malloc(len + 1), why[CLUSTER_CONFIG_WHY_MAX];
	struct cluster_config_plan plan;

	if (!text)
		abort();
	memcpy(text, bytes, len);
	text[len] = '\0';
	if (cluster_config_plan_make(text, ns, &plan, why) == 0) {
		carry_out(ns, &plan);
		cluster_config_plan_fini(&plan);
		/* It is as the document says now. */
		if (cluster_config_plan_make(text, ns, &plan, why) || plan.count)
			abort();
		cluster_config_plan_fini(&plan);
	}
	free(text);
	namespace_free(ns);
	return 0;
}
