/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/metrics.h"

#include "common/admin.h"
#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define METRIC_ROW(id, name, type, decimals, labels, rows, help)                                  \
	[METRIC_##id] = { name, METRIC_##type, decimals, labels, rows, help },
const struct metric_family metric_families[METRIC_COUNT] = { METRIC_FAMILIES(METRIC_ROW) };
#undef METRIC_ROW

struct sample {
	STAILQ_ENTRY(sample) link;
	json_t *labels[METRIC_LABELS_MAX]; /* strings, which are UTF-8; NULL after the last */
	int64_t value;
	struct latency latency; /* of a histogram, instead */
};

struct metrics {
	STAILQ_HEAD(samples, sample) families[METRIC_COUNT];
	bool has_failed; /* something is missing */
};

struct metrics *metrics_new(void)
{
	struct metrics *metrics = calloc(1, sizeof(*metrics));

	for (size_t i = 0; metrics && i < METRIC_COUNT; i++)
		STAILQ_INIT(&metrics->families[i]);
	return metrics;
}

static void sample_free(struct sample *sample)
{
	for (size_t i = 0; i < METRIC_LABELS_MAX; i++)
		json_decref(sample->labels[i]);
	free(sample);
}

void metrics_free(struct metrics *metrics)
{
	if (!metrics)
		return;
	for (size_t i = 0; i < METRIC_COUNT; i++)
		while (!STAILQ_EMPTY(&metrics->families[i])) {
			struct sample *sample = STAILQ_FIRST(&metrics->families[i]);

			STAILQ_REMOVE_HEAD(&metrics->families[i], link);
			sample_free(sample);
		}
	free(metrics);
}

static struct sample *sample_new(const struct metric_family *family, const char *const labels[static METRIC_LABELS_MAX])
{
	struct sample *sample = calloc(1, sizeof(*sample));

	for (size_t i = 0; sample && i < METRIC_LABELS_MAX; i++) {
		if (BUG_IF(!family->labels[i] != !labels[i]) || !labels[i])
			break;
		sample->labels[i] = admin_text(labels[i]);
		if (!sample->labels[i]) {
			sample_free(sample);
			return NULL;
		}
	}
	return sample;
}

/* Return: to be filled; NULL: no memory, which is noted */
static struct sample *add(struct metrics *metrics, enum metric metric, const char *label, const char *second)
{
	const char *const labels[METRIC_LABELS_MAX] = { label, second };
	struct sample *sample = sample_new(&metric_families[metric], labels);

	if (sample)
		STAILQ_INSERT_TAIL(&metrics->families[metric], sample, link);
	else
		metrics->has_failed = true;
	return sample;
}

void metrics_put_of_two(struct metrics *metrics, enum metric metric, const char *label, const char *second, int64_t value)
{
	struct sample *sample = add(metrics, metric, label, second);

	if (sample)
		sample->value = value;
}

void metrics_put_of(struct metrics *metrics, enum metric metric, const char *label, int64_t value)
{
	metrics_put_of_two(metrics, metric, label, NULL, value);
}

void metrics_put(struct metrics *metrics, enum metric metric, int64_t value)
{
	metrics_put_of_two(metrics, metric, NULL, NULL, value);
}

void metrics_put_latency(struct metrics *metrics, enum metric metric, const char *label, const struct latency *latency)
{
	struct sample *sample = add(metrics, metric, label, NULL);

	if (sample)
		sample->latency = *latency;
}

static uint64_t count_of(const struct latency *latency)
{
	uint64_t count = 0;

	for (size_t i = 0; i <= LATENCY_BUCKETS; i++)
		count += latency->counts[i];
	return count;
}

/* Rows */

/* @part of "group/name" with the first label for "*". */
static json_t *fill_in(const char *part, size_t len, const struct sample *sample, const char *end)
{
	const char *star = memchr(part, '*', len);

	if (!star)
		return json_sprintf("%.*s%s", (int)len, part, end);
	return json_sprintf("%.*s%s%.*s%s", (int)(star - part), part, json_string_value(sample->labels[0]),
			    (int)(part + len - star - 1), star + 1, end);
}

/* NULL: no memory */
static json_t *row(const struct metric_family *family, const struct sample *sample, const char *end, int64_t value)
{
	size_t group = strcspn(family->rows, "/");
	const char *name = family->rows + group + 1;

	return json_pack("{s:o, s:o, s:I}", "group", fill_in(family->rows, group, sample, ""), "name",
			 fill_in(name, strlen(name), sample, end), "value", (json_int_t)value);
}

static bool add_rows(const struct metric_family *family, const struct sample *sample,
		     void (*add_row)(json_t *row, void *arg), void *arg)
{
	bool is_histogram = family->type == METRIC_HISTOGRAM;
	json_t *first = is_histogram ? row(family, sample, "_calls", (int64_t)count_of(&sample->latency)) :
				       row(family, sample, "", sample->value);
	json_t *second = is_histogram ? row(family, sample, "_us", (int64_t)sample->latency.sum_us) : NULL;

	if (!first || (is_histogram && !second)) {
		json_decref(first);
		json_decref(second);
		return false;
	}
	add_row(first, arg);
	if (second)
		add_row(second, arg);
	return true;
}

int metrics_rows(const struct metrics *metrics, void (*add_row)(json_t *row, void *arg), void *arg)
{
	const struct sample *sample;

	if (metrics->has_failed)
		return -ENOMEM;
	for (size_t i = 0; i < METRIC_COUNT; i++) {
		if (!metric_families[i].rows)
			continue;
		STAILQ_FOREACH(sample, &metrics->families[i], link)
			if (!add_rows(&metric_families[i], sample, add_row, arg))
				return -ENOMEM;
	}
	return 0;
}

/* Text */

static void print_escaped(const char *text, FILE *out)
{
	for (; *text; text++)
		if (*text == '\n')
			fputs("\\n", out);
		else if (*text == '\\' || *text == '"')
			fprintf(out, "\\%c", *text);
		else
			fputc(*text, out);
}

/* @value with a point in it. */
static void print_value(int64_t value, unsigned int decimals, FILE *out)
{
	uint64_t size = value < 0 ? -(uint64_t)value : (uint64_t)value, unit = 1;

	for (unsigned int i = 0; i < decimals; i++)
		unit *= 10;
	fprintf(out, "%s%" PRIu64, value < 0 ? "-" : "", size / unit);
	if (decimals)
		fprintf(out, ".%0*" PRIu64, (int)decimals, size % unit);
}

/* Name and labels. @end: of the name; @bound: NULL, or the value of the label "le" */
static void print_head(const struct metric_family *family, const struct sample *sample, const char *end,
		       const uint64_t *bound_us, FILE *out)
{
	const char *separator = "{";

	fprintf(out, "%s%s", family->name, end);
	for (size_t i = 0; i < METRIC_LABELS_MAX && sample->labels[i]; i++) {
		fprintf(out, "%s%s=\"", separator, family->labels[i]);
		print_escaped(json_string_value(sample->labels[i]), out);
		fputc('"', out);
		separator = ",";
	}
	if (bound_us) {
		fprintf(out, "%sle=\"", separator);
		if (*bound_us == UINT64_MAX)
			fputs("+Inf", out);
		else
			print_value((int64_t)*bound_us, family->decimals, out);
		fputc('"', out);
		separator = ",";
	}
	fputs(*separator == '{' ? " " : "} ", out);
}

static void print_line(const struct metric_family *family, const struct sample *sample, const char *end, int64_t value,
		       unsigned int decimals, FILE *out)
{
	print_head(family, sample, end, NULL, out);
	print_value(value, decimals, out);
	fputc('\n', out);
}

/* Each bucket counts what is in those before it, too. */
static void print_histogram(const struct metric_family *family, const struct sample *sample, FILE *out)
{
	const struct latency *latency = &sample->latency;
	uint64_t count = 0;

	for (size_t i = 0; i <= LATENCY_BUCKETS; i++) {
		uint64_t bound_us = i < LATENCY_BUCKETS ? latency_bound_us(i) : UINT64_MAX;

		count += latency->counts[i];
		print_head(family, sample, "_bucket", &bound_us, out);
		fprintf(out, "%" PRIu64 "\n", count);
	}
	print_line(family, sample, "_sum", (int64_t)latency->sum_us, family->decimals, out);
	print_line(family, sample, "_count", (int64_t)count, 0, out);
}

static void print_family(const struct metric_family *family, const struct samples *samples, FILE *out)
{
	static const char *const types[] = {
		[METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram",
	};
	const struct sample *sample;

	if (STAILQ_EMPTY(samples))
		return;
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name, types[family->type]);
	STAILQ_FOREACH(sample, samples, link)
		if (family->type == METRIC_HISTOGRAM)
			print_histogram(family, sample, out);
		else
			print_line(family, sample, "", sample->value, family->decimals, out);
}

int metrics_text(const struct metrics *metrics, char **text, size_t *len)
{
	char *written = NULL;
	size_t written_len;
	FILE *out = metrics->has_failed ? NULL : open_memstream(&written, &written_len);
	bool has_failed;

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < METRIC_COUNT; i++)
		print_family(&metric_families[i], &metrics->families[i], out);
	has_failed = ferror(out);
	if (fclose(out) || has_failed) {
		free(written);
		return -ENOMEM;
	}
	*text = written;
	*len = written_len;
	return 0;
}
