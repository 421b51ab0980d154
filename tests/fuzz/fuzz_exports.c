/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, an export that an administrator mistyped crashes the daemons, or means something else than it says: if a list
 * is refused, the reason says where; if it is taken, the clients come out in the order of their precedence.
 *
 * Input: a list of clients.
 */
#include "config.h"

#include "common/export_rules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void check_rule(const struct export_rule *rule)
{
	bool has_name = rule->name[0] != '\0';

	if (!memchr(rule->name, '\0', sizeof(rule->name)) || rule->prefix_bits > 128)
		abort();
	if ((rule->client == EXPORT_WILDCARD || rule->client == EXPORT_NETGROUP) && !has_name)
		abort();
	if ((rule->client == EXPORT_NETWORK || rule->client == EXPORT_ANYBODY) && has_name)
		abort();
	if (rule->rights.anonymous_uid == UINT32_MAX || rule->rights.anonymous_gid == UINT32_MAX)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	char why[EXPORT_WHY_MAX] = "", *text = strndup((const char *)bytes, len);
	struct export_rule *rules = NULL;
	size_t count = 0;
	int rc;

	if (!text)
		abort();
	rc = export_rules_parse(text, &rules, &count, why, sizeof(why));
	if (rc == -EINVAL && strncmp(why, "column ", 7) != 0)
		abort();
	if ((rc == 0) != (rules != NULL) || (rc == 0) != (count > 0))
		abort();
	for (size_t i = 0; i < count; i++) {
		check_rule(&rules[i]);
		if (i > 0 && rules[i - 1].client > rules[i].client)
			abort();
	}
	free(rules);
	free(text);
	return 0;
}
