/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, Prometheus refuses what a device says or reads other numbers in it, nasctl counters shows something else than
 * Prometheus gets, a metric is documented otherwise than it is, or somebody who reads metrics gets more than that.
 */
#include "config.h"

#include "common/metrics.h"
#include "common/metrics_http.h"

#include <arpa/inet.h>
#include <check.h>
#include <ctype.h>
#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TEXT_MAX = 1 << 17 };

static struct metrics *metrics;

static void begin(void)
{
	metrics = metrics_new();
	ck_assert_ptr_nonnull(metrics);
}

static void end(void)
{
	metrics_free(metrics);
}

static const char *text(void)
{
	static char copy[TEXT_MAX];
	char *written;
	size_t len;

	ck_assert_int_eq(metrics_text(metrics, &written, &len), 0);
	ck_assert_uint_lt(len, sizeof(copy));
	memcpy(copy, written, len);
	copy[len] = '\0';
	free(written);
	return copy;
}

static void add_line(json_t *row, void *arg)
{
	const char *group, *name;
	json_int_t value;
	char *lines = arg;

	ck_assert_int_eq(json_unpack(row, "{s:s, s:s, s:I}", "group", &group, "name", &name, "value", &value), 0);
	sprintf(lines + strlen(lines), "%s %s %lld\n", group, name, (long long)value);
	json_decref(row);
}

static const char *rows(void)
{
	static char lines[TEXT_MAX];

	lines[0] = '\0';
	ck_assert_int_eq(metrics_rows(metrics, add_line, lines), 0);
	return lines;
}

START_TEST(nothing_is_nothing)
{
	ck_assert_str_eq(text(), "");
	ck_assert_str_eq(rows(), "");
}
END_TEST

START_TEST(both_have_the_same)
{
	metrics_put(metrics, METRIC_NFS_READ_BYTES, INT64_MAX);
	metrics_put_of(metrics, METRIC_NFS_CALLS, "READ", 7);
	metrics_put_of(metrics, METRIC_NFS_CALLS, "WRITE", 8);
	metrics_put_of(metrics, METRIC_DUPLICATES_ENTRIES, "changes", 9);
	metrics_put_of_two(metrics, METRIC_VOLUME_UP, "/disk0", "2", 1);
	ck_assert_str_eq(text(), "# HELP vnas_nfs_calls_total Calls of NFS version 3\n"
				 "# TYPE vnas_nfs_calls_total counter\n"
				 "vnas_nfs_calls_total{procedure=\"READ\"} 7\n"
				 "vnas_nfs_calls_total{procedure=\"WRITE\"} 8\n"
				 "# HELP vnas_nfs_read_bytes_total Data that were read by clients\n"
				 "# TYPE vnas_nfs_read_bytes_total counter\n"
				 "vnas_nfs_read_bytes_total 9223372036854775807\n"
				 "# HELP vnas_duplicate_requests_entries Answers that are kept\n"
				 "# TYPE vnas_duplicate_requests_entries gauge\n"
				 "vnas_duplicate_requests_entries{cache=\"changes\"} 9\n"
				 "# HELP vnas_volume_up Master: 1 if the volume's device can be reached\n"
				 "# TYPE vnas_volume_up gauge\n"
				 "vnas_volume_up{volume=\"/disk0\",node=\"2\"} 1\n");
	ck_assert_str_eq(rows(), "nfs3 READ 7\nnfs3 WRITE 8\nfiles read_bytes 9223372036854775807\n"
				 "duplicate_changes entries 9\n");
}
END_TEST

/* Names of nodes and places are what administrators and clients make them. */
static const struct {
	const char *label, *escaped;
} labels[] = {
	{ "plain", "plain" },
	{ "", "" },
	{ "a\"b", "a\\\"b" },
	{ "a\\b", "a\\\\b" },
	{ "\\n", "\\\\n" },
	{ "a\nb", "a\\nb" },
	{ "a} 1\nvnas_sessions 2\n# x", "a} 1\\nvnas_sessions 2\\n# x" },
	{ "\xc3\xa4 \xe2\x82\xac", "\xc3\xa4 \xe2\x82\xac" },
	{ "\xff\xfe \x80", "?? ?" },
	{ "\xc3", "?" },
	{ "%s%n", "%s%n" },
};

START_TEST(label_is_escaped)
{
	char wanted[256];

	metrics_put_of_two(metrics, METRIC_VOLUME_UP, labels[_i].label, "2", 1);
	snprintf(wanted, sizeof(wanted), "\nvnas_volume_up{volume=\"%s\",node=\"2\"} 1\n", labels[_i].escaped);
	ck_assert_msg(strstr(text(), wanted) != NULL, "%s", text());
}
END_TEST

/* In base units, and exact. */
static const struct {
	enum metric metric;
	int64_t value;
	const char *line;
} values[] = {
	{ METRIC_HANDOFF_LAST, 0, "\nvnas_handoff_last_seconds 0.000000\n" },
	{ METRIC_HANDOFF_LAST, 1, "\nvnas_handoff_last_seconds 0.000001\n" },
	{ METRIC_HANDOFF_LAST, 1234567, "\nvnas_handoff_last_seconds 1.234567\n" },
	{ METRIC_HANDOFF_LAST, INT64_MAX, "\nvnas_handoff_last_seconds 9223372036854.775807\n" },
	{ METRIC_NODE_CPU, 1000, "\nvnas_node_cpu_ratio{node=\"2\",name=\"a\"} 1.000\n" },
	{ METRIC_NODE_TEMPERATURE, -10500, "\nvnas_node_temperature_celsius{node=\"2\",name=\"a\"} -10.500\n" },
	{ METRIC_NODE_CLOCK, -1, "\nvnas_node_clock_offset_seconds{node=\"2\",name=\"a\"} -0.000000001\n" },
	{ METRIC_NODE_CLOCK, INT64_MIN, "\nvnas_node_clock_offset_seconds{node=\"2\",name=\"a\"} -9223372036.854775808\n" },
};

START_TEST(value_is_exact)
{
	if (metric_families[values[_i].metric].labels[0])
		metrics_put_of_two(metrics, values[_i].metric, "2", "a", values[_i].value);
	else
		metrics_put(metrics, values[_i].metric, values[_i].value);
	ck_assert_msg(strstr(text(), values[_i].line) != NULL, "%s", text());
}
END_TEST

static const struct {
	uint64_t us;
	size_t bucket;
} latencies[] = {
	{ 0, 0 }, { 1, 0 }, { 2, 0 }, { 16, 0 }, { 17, 1 }, { 32, 1 }, { 33, 2 }, { 1024, 6 }, { 1025, 7 },
	{ 1 << 23, 19 }, { (1 << 23) + 1, 20 }, { UINT64_MAX, 20 },
};

START_TEST(latency_has_its_bucket)
{
	size_t bucket = latency_bucket(latencies[_i].us);

	ck_assert_uint_eq(bucket, latencies[_i].bucket);
	if (bucket < LATENCY_BUCKETS)
		ck_assert_uint_le(latencies[_i].us, latency_bound_us(bucket));
	if (bucket)
		ck_assert_uint_gt(latencies[_i].us, latency_bound_us(bucket - 1));
}
END_TEST

START_TEST(histogram_adds_up)
{
	struct latency latency = { 0 }, more = { 0 };
	const char *said;

	latency_note(&latency, 10);
	latency_note(&latency, 20);
	latency_note(&more, 20);
	latency_note(&more, UINT64_C(10) << 23);
	latency_add(&latency, &more);
	metrics_put_latency(metrics, METRIC_NFS_LATENCY, "read", &latency);
	said = text();
	ck_assert_ptr_nonnull(strstr(said, "# TYPE vnas_nfs_latency_seconds histogram\n"
					   "vnas_nfs_latency_seconds_bucket{operations=\"read\",le=\"0.000016\"} 1\n"
					   "vnas_nfs_latency_seconds_bucket{operations=\"read\",le=\"0.000032\"} 3\n"
					   "vnas_nfs_latency_seconds_bucket{operations=\"read\",le=\"0.000064\"} 3\n"));
	ck_assert_ptr_nonnull(strstr(said, "vnas_nfs_latency_seconds_bucket{operations=\"read\",le=\"8.388608\"} 3\n"
					   "vnas_nfs_latency_seconds_bucket{operations=\"read\",le=\"+Inf\"} 4\n"
					   "vnas_nfs_latency_seconds_sum{operations=\"read\"} 83.886130\n"
					   "vnas_nfs_latency_seconds_count{operations=\"read\"} 4\n"));
	ck_assert_str_eq(rows(), "latency read_calls 4\nlatency read_us 83886130\n");
}
END_TEST

/* The table */

static bool ends_with(const char *name, const char *end_of_it)
{
	size_t len = strlen(name), end_len = strlen(end_of_it);

	return len >= end_len && strcmp(name + len - end_len, end_of_it) == 0;
}

/* What Prometheus' naming conventions ask for, and its format. */
START_TEST(family_is_as_prometheus_wants_it)
{
	const struct metric_family *family = &metric_families[_i];

	ck_assert_msg(ends_with(family->name, "_total") == (family->type == METRIC_COUNTER), "%s", family->name);
	ck_assert_msg((family->decimals >= 6 || ends_with(family->name, "_timestamp_seconds")) ==
		      (strstr(family->name, "_seconds") != NULL), "%s", family->name);
	ck_assert_msg(strpbrk(family->help, "\n\\") == NULL && *family->help, "%s", family->name);
	for (const char *p = family->name; *p; p++)
		ck_assert_msg(islower((unsigned char)*p) || *p == '_', "%s", family->name);
	for (int i = 0; i < _i; i++)
		ck_assert_str_ne(metric_families[i].name, family->name);
	if (family->rows)
		ck_assert_msg(strchr(family->rows, '*') == NULL || family->labels[0], "%s", family->name);
}
END_TEST

static char *read_page(const char *path)
{
	static char page[2 * TEXT_MAX];
	const char *srcdir = getenv("srcdir");
	char name[PATH_MAX];
	FILE *in;

	snprintf(name, sizeof(name), "%s/%s", srcdir ? srcdir : ".", path);
	in = fopen(name, "r");
	ck_assert_msg(in != NULL, "%s: %m", name);
	page[fread(page, 1, sizeof(page) - 1, in)] = '\0';
	ck_assert(feof(in));
	fclose(in);
	return page;
}

static char *man_page(void)
{
	return read_page("docs/man/vnas-metrics.7");
}

/* As the page has it. */
static const char *entry_of(const struct metric_family *family)
{
	static const char *const types[] = {
		[METRIC_COUNTER] = "Counter", [METRIC_GAUGE] = "Gauge", [METRIC_HISTOGRAM] = "Histogram",
	};
	static char entry[1024];

	snprintf(entry, sizeof(entry), "\n.TP\n.B %s%s%s%s%s%s\n%s.%s%s%s\n%s.\n", family->name, family->labels[0] ? "{" : "",
		 family->labels[0] ? family->labels[0] : "", family->labels[1] ? "," : "",
		 family->labels[1] ? family->labels[1] : "", family->labels[0] ? "}" : "", types[family->type],
		 family->rows ? " nasctl counters: " : "", family->rows ? family->rows : "", family->rows ? "." : "",
		 family->help);
	return entry;
}

START_TEST(family_is_documented)
{
	const char *entry = entry_of(&metric_families[_i]);

	ck_assert_msg(strstr(man_page(), entry) != NULL, "vnas-metrics(7) has no%s", entry);
}
END_TEST

/* A family's, or that of a series of a histogram. */
static bool is_name(const char *name)
{
	for (size_t i = 0; i < METRIC_COUNT; i++) {
		const struct metric_family *family = &metric_families[i];
		size_t len = strlen(family->name);

		if (strncmp(family->name, name, len) != 0)
			continue;
		if (!name[len])
			return true;
		if (family->type == METRIC_HISTOGRAM && (strcmp(name + len, "_bucket") == 0 || strcmp(name + len, "_sum") == 0 ||
							 strcmp(name + len, "_count") == 0))
			return true;
	}
	return false;
}

START_TEST(documented_families_exist)
{
	char name[64];
	size_t found = 0;

	for (char *rest, *line = strtok_r(man_page(), "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		if (sscanf(line, ".B %63[a-z_]", name) != 1 || !strchr(name, '_'))
			continue;
		ck_assert_msg(is_name(name), "vnas-metrics(7) has %s, which is no metric", name);
		found++;
	}
	ck_assert_uint_eq(found, METRIC_COUNT);
}
END_TEST

static const char *const pages[] = { "docs/administration.md", "docs/architecture.md", "docs/protocol.md", "docs/man/vnas-metrics.7" };

/* Whatever begins so, but for the package, vnas_0.1_amd64.deb. */
START_TEST(mentioned_metrics_exist)
{
	char name[64];

	for (const char *at = read_page(pages[_i]); (at = strstr(at, "vnas_")); at += strlen(name)) {
		ck_assert_int_eq(sscanf(at, "%63[a-z_]", name), 1);
		ck_assert_msg(is_name(name) || strcmp(name, "vnas_") == 0, "%s has %s, which is no metric", pages[_i], name);
	}
}
END_TEST

/* HTTP */

enum { READERS = 2 * METRICS_HTTP_CONNECTIONS_MAX, TURNS = 5000, TURN_US = 1000 };

static struct event_base *base;
static struct metrics_http *http;
static unsigned int gathered;
static struct sockaddr_in address = { .sin_family = AF_INET };

static void fill(struct metrics *list, void *arg)
{
	(void)arg;
	gathered++;
	metrics_put(list, METRIC_SESSIONS, 5);
}

/* A port that is free at the moment. */
static void choose_port(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof(address);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address.sin_port = 0;
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	close(fd);
}

static void http_begin(void)
{
	char listen[32];

	signal(SIGPIPE, SIG_IGN);
	gathered = 0;
	base = event_base_new();
	choose_port();
	snprintf(listen, sizeof(listen), "127.0.0.1:%u", ntohs(address.sin_port));
	ck_assert_int_eq(metrics_http_new(base, listen, fill, NULL, &http), 0);
}

static void http_end(void)
{
	metrics_http_free(http);
	event_base_free(base);
}

static int connected(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void say(int fd, const char *request)
{
	ck_assert_int_eq(send(fd, request, strlen(request), 0), (ssize_t)strlen(request));
}

/* All that comes before the end; NULL if it does not come. */
static const char *answer(int fd)
{
	static char received[TEXT_MAX];
	size_t len = 0;

	for (int i = 0; i < TURNS; i++) {
		ssize_t got = recv(fd, received + len, sizeof(received) - 1 - len, MSG_DONTWAIT);

		if (got == 0) {
			received[len] = '\0';
			return received;
		}
		len += got > 0 ? (size_t)got : 0;
		event_base_loop(base, EVLOOP_NONBLOCK);
		if (got < 0)
			usleep(TURN_US);
	}
	return NULL;
}

#define HOST "\r\nHost: x\r\n\r\n"

static const struct {
	const char *request, *begin, *body;
} requests[] = {
	{ "GET /metrics HTTP/1.1" HOST, "HTTP/1.1 200 OK\r\n",
	  "\r\n\r\n# HELP vnas_sessions Clients' sessions that are with this device\n# TYPE vnas_sessions gauge\nvnas_sessions 5\n" },
	{ "GET /metrics?x=1 HTTP/1.1" HOST, "HTTP/1.1 200 OK\r\n", "\nvnas_sessions 5\n" },
	{ "GET /metrics HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n", "\nvnas_sessions 5\n" },
	{ "GET / HTTP/1.1" HOST, "HTTP/1.1 200 OK\r\n", "<a href=\"/metrics\">" },
	{ "GET /other HTTP/1.1" HOST, "HTTP/1.1 404 ", "" },
	{ "GET /../etc/passwd HTTP/1.1" HOST, "HTTP/1.1 404 ", "" },
	{ "POST /metrics HTTP/1.1\r\nContent-Length: 0" HOST, "HTTP/1.1 501 ", "" },
	{ "PUT /metrics HTTP/1.1" HOST, "HTTP/1.1 501 ", "" },
	{ "DELETE /metrics HTTP/1.1" HOST, "HTTP/1.1 501 ", "" },
	{ "GET /metrics HTTP/1.1\r\nContent-Length: 100000000" HOST, "HTTP/1.1 413 ", "" },
	{ "EHLO here\r\n\r\n", "HTTP/1.1 400 ", "" },
};

START_TEST(request_is_answered)
{
	int fd = connected();
	const char *said;

	say(fd, requests[_i].request);
	said = answer(fd);
	ck_assert_ptr_nonnull(said);
	ck_assert_msg(strncmp(said, requests[_i].begin, strlen(requests[_i].begin)) == 0, "%s", said);
	ck_assert_msg(strstr(said, requests[_i].body) != NULL, "%s", said);
	ck_assert_uint_eq(gathered, strstr(said, "vnas_sessions") ? 1 : 0);
	close(fd);
}
END_TEST

START_TEST(content_type_is_said)
{
	int fd = connected();
	const char *said;

	say(fd, "GET /metrics HTTP/1.1" HOST);
	said = answer(fd);
	ck_assert_ptr_nonnull(said);
	ck_assert_ptr_nonnull(strstr(said, "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
	close(fd);
}
END_TEST

/* More than there is room for. All are answered, for those before them go. */
START_TEST(crowd_is_served)
{
	int fds[READERS];

	for (int i = 0; i < READERS; i++) {
		fds[i] = connected();
		event_base_loop(base, EVLOOP_NONBLOCK);
		if (i < METRICS_HTTP_CONNECTIONS_MAX)
			continue; /* silent ones */
		say(fds[i], "GET /metrics HTTP/1.1" HOST);
	}
	for (int i = 0; i < METRICS_HTTP_CONNECTIONS_MAX; i++)
		close(fds[i]);
	for (int i = METRICS_HTTP_CONNECTIONS_MAX; i < READERS; i++) {
		ck_assert_ptr_nonnull(answer(fds[i]));
		close(fds[i]);
	}
}
END_TEST

START_TEST(silent_ones_keep_others_waiting_only)
{
	int fds[METRICS_HTTP_CONNECTIONS_MAX], late;

	for (int i = 0; i < METRICS_HTTP_CONNECTIONS_MAX; i++) {
		fds[i] = connected();
		event_base_loop(base, EVLOOP_NONBLOCK);
	}
	late = connected();
	say(late, "GET /metrics HTTP/1.1" HOST);
	for (int i = 0; i < 100; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_uint_eq(gathered, 0);
	close(fds[0]);
	ck_assert_ptr_nonnull(answer(late));
	close(late);
	for (int i = 1; i < METRICS_HTTP_CONNECTIONS_MAX; i++)
		close(fds[i]);
}
END_TEST

static const struct {
	const char *listen;
	int rc;
} addresses[] = {
	{ "nowhere", -EINVAL },
	{ "127.0.0.1:70000", -EINVAL },
	{ "192.0.2.1:2051", -EADDRNOTAVAIL },
};

START_TEST(wrong_address_is_refused)
{
	struct metrics_http *other = NULL;

	ck_assert_int_eq(metrics_http_new(base, addresses[_i].listen, fill, NULL, &other), addresses[_i].rc);
	ck_assert_ptr_null(other);
}
END_TEST

static TCase *cases(const char *name, void (*before)(void), void (*after)(void))
{
	TCase *tcase = tcase_create(name);

	tcase_add_checked_fixture(tcase, before, after);
	tcase_set_timeout(tcase, 30);
	return tcase;
}

int main(void)
{
	Suite *suite = suite_create("metrics");
	TCase *list = cases("list", begin, end), *server = cases("http", http_begin, http_end);
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, list);
	tcase_add_test(list, nothing_is_nothing);
	tcase_add_test(list, both_have_the_same);
	tcase_add_loop_test(list, label_is_escaped, 0, sizeof(labels) / sizeof(labels[0]));
	tcase_add_loop_test(list, value_is_exact, 0, sizeof(values) / sizeof(values[0]));
	tcase_add_loop_test(list, latency_has_its_bucket, 0, sizeof(latencies) / sizeof(latencies[0]));
	tcase_add_test(list, histogram_adds_up);
	tcase_add_loop_test(list, family_is_as_prometheus_wants_it, 0, METRIC_COUNT);
	tcase_add_loop_test(list, family_is_documented, 0, METRIC_COUNT);
	tcase_add_test(list, documented_families_exist);
	tcase_add_loop_test(list, mentioned_metrics_exist, 0, sizeof(pages) / sizeof(pages[0]));
	suite_add_tcase(suite, server);
	tcase_add_loop_test(server, request_is_answered, 0, sizeof(requests) / sizeof(requests[0]));
	tcase_add_test(server, content_type_is_said);
	tcase_add_test(server, crowd_is_served);
	tcase_add_test(server, silent_ones_keep_others_waiting_only);
	tcase_add_loop_test(server, wrong_address_is_refused, 0, sizeof(addresses) / sizeof(addresses[0]));
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
