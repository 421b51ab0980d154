/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, what a device says of itself crashes the master that examines it.
 *
 * Input: facts, each a byte that says whose it is (0 to 2, of the devices, else of the cluster), then area, subject and value, each
 * ended by a zero byte.
 */
#include "config.h"

#include "master/examination_rules.h"

#include <stdlib.h>
#include <string.h>

enum { DEVICES = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* The next text; NULL: there is none */
static const char *next_text(const uint8_t **bytes, size_t *left)
{
	const char *text = (const char *)*bytes;
	const uint8_t *end = memchr(*bytes, '\0', *left);

	if (!end)
		return NULL;
	*left -= (size_t)(end + 1 - *bytes);
	*bytes = end + 1;
	return text;
}

static void read_facts(const uint8_t *bytes, size_t left, struct examination_cluster *cluster)
{
	while (left > 1) {
		struct examination_facts *facts = *bytes < DEVICES ? &cluster->devices[*bytes].facts : &cluster->facts;
		const char *area, *subject, *value;

		bytes++;
		left--;
		area = next_text(&bytes, &left);
		subject = area ? next_text(&bytes, &left) : NULL;
		value = subject ? next_text(&bytes, &left) : NULL;
		if (!value)
			return;
		examination_put(facts, area, subject, "%s", value);
	}
}

static void judge(struct examination_cluster *cluster)
{
	struct examination_findings findings = { 0 };
	struct examination_device *namers[EXAMINATION_NAMERS_MAX];

	if (examination_namers(cluster, namers) > cluster->count)
		abort();
	examination_judge(cluster, &findings);
	for (size_t i = 0; i < findings.count; i++)
		if (!*findings.items[i].what || !findings.items[i].remedy || !*findings.items[i].remedy)
			abort();
	examination_findings_fini(&findings);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct examination_device devices[DEVICES] = { { .id = 1, .name = "switch", .is_switch = true },
						       { .id = 2, .name = "disk1" },
						       { .id = 3, .name = "disk2" } };
	struct examination_cluster cluster = { .devices = devices, .count = DEVICES, .now_s = 1800000000 };

	read_facts(bytes, len, &cluster);
	judge(&cluster);
	for (size_t i = 0; i < DEVICES; i++)
		examination_facts_fini(&devices[i].facts);
	examination_facts_fini(&cluster.facts);
	return 0;
}
