/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/metrics.h - what a device counts, in one list for people and for Prometheus
 *
 * The families are rows of common/metric_families.h. Who counts fills a list with samples of them (slave/device_metrics.h,
 * master/master_metrics.h); metrics_rows() makes `nasctl counters` of it and metrics_text() what common/metrics_http.h serves.
 * Knows nothing of where the numbers come from.
 *
 * Ownership: a list copies what it is given.
 * Threads: no shared state; one at a time for a list.
 */
#ifndef VNAS_COMMON_METRICS_H
#define VNAS_COMMON_METRICS_H

#include "common/latency.h"
#include "common/metric_families.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define METRIC_ENUM(id, name, type, decimals, labels, rows, help) METRIC_##id,
enum metric { METRIC_FAMILIES(METRIC_ENUM) METRIC_COUNT };
#undef METRIC_ENUM

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

enum { METRIC_LABELS_MAX = 2 };

struct metric_family {
	const char *name;
	enum metric_type type;
	unsigned int decimals;			/* of the values */
	const char *labels[METRIC_LABELS_MAX];	/* their names; NULL after the last */
	const char *rows;			/* "group/name" in nasctl counters; or NULL */
	const char *help;
};

extern const struct metric_family metric_families[METRIC_COUNT];

struct metrics;

/* Return: an empty list; NULL: no memory */
struct metrics *metrics_new(void);
void metrics_free(struct metrics *metrics);

/*
 * A sample of a family without labels, with one and with two. @value: with the decimals of the family. @label, ...: any text; what
 * is no UTF-8 has "?" for each byte above 0x7f. Each sample of a family has other labels.
 *
 * Without memory the whole list is of no use, which metrics_rows() and metrics_text() say.
 */
void metrics_put(struct metrics *metrics, enum metric metric, int64_t value);
void metrics_put_of(struct metrics *metrics, enum metric metric, const char *label, int64_t value);
void metrics_put_of_two(struct metrics *metrics, enum metric metric, const char *label, const char *second, int64_t value);

/* Of a family that is a histogram, with one label. */
void metrics_put_latency(struct metrics *metrics, enum metric metric, const char *label, const struct latency *latency);

/**
 * metrics_rows() - as nasctl counters shows them
 * @add:	called for each row {group, name, value}; takes it. A histogram is two rows, of its count and its sum
 *
 * Families in their order, the samples of each in that in which they were put. Return: 0; -ENOMEM
 */
int metrics_rows(const struct metrics *metrics, void (*add)(json_t *row, void *arg), void *arg);

/* The content type of the text. */
#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/**
 * metrics_text() - in Prometheus' text format
 * @text:	out: to be freed
 * @len:	out: its bytes
 *
 * Families without samples are left out. Return: 0; -ENOMEM
 */
int metrics_text(const struct metrics *metrics, char **text, size_t *len);

#endif
