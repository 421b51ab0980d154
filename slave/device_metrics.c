/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/device_metrics.h"

#include "common/conn.h"
#include "common/conn_memory.h"
#include "common/duplicate_requests.h"
#include "common/file_service.h"
#include "common/kernel_helper.h"
#include "slave/eap_client.h"
#include "slave/locks.h"
#include "slave/slave.h"
#include "slave/uplink.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static int64_t microseconds(const struct timeval *time)
{
	return time->tv_sec * INT64_C(1000000) + time->tv_usec;
}

static void put_process(bool is_switch, struct metrics *metrics)
{
	FILE *in = fopen("/proc/self/statm", "re");
	unsigned long resident;
	struct rusage used;

	metrics_put_of_two(metrics, METRIC_INFO, PACKAGE_VERSION, is_switch ? "master" : "slave", 1);
	if (getrusage(RUSAGE_SELF, &used) == 0)
		metrics_put(metrics, METRIC_CPU, microseconds(&used.ru_utime) + microseconds(&used.ru_stime));
	if (in && fscanf(in, "%*u %lu", &resident) == 1)
		metrics_put(metrics, METRIC_RESIDENT, (int64_t)resident * sysconf(_SC_PAGESIZE));
	if (in)
		fclose(in);
}

static void put_files(struct slave *slave, struct metrics *metrics)
{
	static const char *const operations[FILE_SERVICE_NOPERATIONS] = {
		[FILE_SERVICE_LOOK] = "look",	[FILE_SERVICE_LIST] = "list",	  [FILE_SERVICE_READ] = "read",
		[FILE_SERVICE_WRITE] = "write", [FILE_SERVICE_COMMIT] = "commit", [FILE_SERVICE_CHANGE] = "change",
	};
	const struct file_service_counters counters = slave_file_counters(slave);

	for (uint32_t i = 0; i < NFS3_PROCEDURES; i++)
		metrics_put_of(metrics, METRIC_NFS_CALLS, file_service_procedure_name(NFS_PROGRAM, i), (int64_t)counters.nfs3[i]);
	for (uint32_t i = 0; i < NFS_ACL_PROCEDURES; i++)
		metrics_put_of(metrics, METRIC_NFS_ACL_CALLS, file_service_procedure_name(NFS_ACL_PROGRAM, i),
			       (int64_t)counters.nfs_acl[i]);
	for (size_t i = 0; i < FILE_SERVICE_NOPERATIONS; i++)
		metrics_put_latency(metrics, METRIC_NFS_LATENCY, operations[i], &counters.latency[i]);
	metrics_put(metrics, METRIC_NFS_RELAYED, (int64_t)counters.relayed);
	metrics_put(metrics, METRIC_NFS_BAD_HANDLES, (int64_t)counters.bad_handle);
	metrics_put(metrics, METRIC_NFS_STALE_HANDLES, (int64_t)counters.stale_handle);
	metrics_put(metrics, METRIC_NFS_DENIED, (int64_t)counters.access_denied);
	metrics_put(metrics, METRIC_NFS_READ_BYTES, (int64_t)counters.read_bytes);
	metrics_put(metrics, METRIC_NFS_WRITTEN_BYTES, (int64_t)counters.written_bytes);
}

static void put_duplicates(struct slave *slave, struct metrics *metrics)
{
	static const char *const caches[] = { [FILE_SERVICE_CHANGES] = "changes", [FILE_SERVICE_WRITES] = "writes" };

	for (enum file_service_cache cache = FILE_SERVICE_CHANGES; cache <= FILE_SERVICE_WRITES; cache++) {
		const struct duplicate_requests_counters counters = file_service_duplicates(slave_files(slave), cache);

		metrics_put_of(metrics, METRIC_DUPLICATES_ANSWERED, caches[cache], (int64_t)counters.answered);
		metrics_put_of(metrics, METRIC_DUPLICATES_WAITED, caches[cache], (int64_t)counters.waited);
		metrics_put_of(metrics, METRIC_DUPLICATES_REFUSED, caches[cache], (int64_t)counters.refused);
		metrics_put_of(metrics, METRIC_DUPLICATES_ENTRIES, caches[cache], (int64_t)counters.entries);
		metrics_put_of(metrics, METRIC_DUPLICATES_BYTES, caches[cache], (int64_t)counters.bytes);
	}
}

static void put_memory(struct slave *slave, struct metrics *metrics)
{
	const struct conn_memory_counters counters = slave_memory(slave);

	metrics_put(metrics, METRIC_MEMORY_HELD, (int64_t)counters.held);
	metrics_put(metrics, METRIC_MEMORY_MOST, (int64_t)counters.most);
	metrics_put(metrics, METRIC_MEMORY_WAITED, (int64_t)counters.waited);
	metrics_put(metrics, METRIC_MEMORY_TURNS, (int64_t)counters.turns);
	metrics_put(metrics, METRIC_MEMORY_CLOSED, (int64_t)counters.closed);
	metrics_put(metrics, METRIC_MEMORY_REFUSED, (int64_t)counters.refused);
}

static void put_locks(struct slave *slave, struct metrics *metrics)
{
	const struct lock_table_counters *held = nlm_table_counters(locks_nlm(slave_locks(slave)));
	const struct nlm_counters *nlm = nlm_counters(locks_nlm(slave_locks(slave)));
	const struct nsm_counters *nsm = nsm_counters(locks_nsm(slave_locks(slave)));

	for (size_t i = 0; i < NLM_PROCEDURES; i++)
		metrics_put_of(metrics, METRIC_NLM_CALLS, nlm_procedure_name(i), (int64_t)nlm->calls[i]);
	metrics_put(metrics, METRIC_NLM_GRANTED, (int64_t)nlm->granted);
	metrics_put(metrics, METRIC_NLM_DENIED, (int64_t)nlm->denied);
	metrics_put(metrics, METRIC_NLM_BLOCKED, (int64_t)nlm->blocked);
	metrics_put(metrics, METRIC_NLM_CALL_BACKS, (int64_t)nlm->call_backs);
	metrics_put(metrics, METRIC_NLM_CALL_BACKS_FAILED, (int64_t)nlm->call_backs_failed);
	metrics_put(metrics, METRIC_NLM_FREED, (int64_t)nlm->freed_clients);
	metrics_put(metrics, METRIC_LOCK_CLIENTS, (int64_t)held->clients);
	metrics_put(metrics, METRIC_LOCK_FILES, (int64_t)held->files);
	metrics_put(metrics, METRIC_LOCKS, (int64_t)held->entries);
	metrics_put(metrics, METRIC_LOCK_WAITERS, (int64_t)held->waiters);
	metrics_put(metrics, METRIC_NSM_CLIENTS, (int64_t)nsm->recorded);
	metrics_put(metrics, METRIC_NSM_NOTIFIED, (int64_t)nsm->notified);
	metrics_put(metrics, METRIC_NSM_UNREACHABLE, (int64_t)nsm->unreachable);
	metrics_put(metrics, METRIC_NSM_REBOOTED, (int64_t)nsm->rebooted);
}

static void put_handoffs(struct slave *slave, struct metrics *metrics)
{
	const struct tch_counters *counters;

	if (!slave_tch(slave))
		return;
	counters = tch_counters(slave_tch(slave));
	metrics_put(metrics, METRIC_HANDOFFS_GIVEN, (int64_t)counters->given);
	metrics_put(metrics, METRIC_HANDOFFS_TAKEN, (int64_t)counters->taken);
	metrics_put(metrics, METRIC_HANDOFFS_ASKED, (int64_t)counters->asked);
	metrics_put(metrics, METRIC_HANDOFFS_GRANTED, (int64_t)counters->granted);
	metrics_put(metrics, METRIC_HANDOFFS_DENIED, (int64_t)counters->denied);
	metrics_put(metrics, METRIC_HANDOFFS_HALVES, (int64_t)counters->halves);
	metrics_put(metrics, METRIC_HANDOFFS_PREDICTED, (int64_t)counters->predicted);
	metrics_put(metrics, METRIC_HANDOFFS_PREPARED, (int64_t)counters->prepared);
	metrics_put(metrics, METRIC_HANDOFFS_FAILED, (int64_t)counters->failed);
	metrics_put(metrics, METRIC_HANDOFFS_RESET, (int64_t)counters->reset);
	metrics_put(metrics, METRIC_HANDOFF_LAST, (int64_t)counters->last_us);
	metrics_put(metrics, METRIC_HANDOFF_SUM, (int64_t)counters->sum_us);
}

/* By the names of RFC 1213, as far as it has them. */
static void put_tcp(struct slave *slave, struct metrics *metrics)
{
	struct conn_totals totals;

	if (!slave_conns(slave))
		return;
	slave_tcp_totals(slave, &totals);
	metrics_put(metrics, METRIC_SESSIONS, (int64_t)conn_count(slave_conns(slave)));
	metrics_put(metrics, METRIC_TCP_OPENS, (int64_t)totals.passive_opens);
	metrics_put(metrics, METRIC_TCP_RESETS, (int64_t)totals.established_resets);
	metrics_put(metrics, METRIC_TCP_ESTABLISHED, (int64_t)totals.established);
	metrics_put(metrics, METRIC_TCP_SEGMENTS_IN, (int64_t)totals.tcp.segments_in);
	metrics_put(metrics, METRIC_TCP_SEGMENTS_OUT, (int64_t)totals.tcp.segments_out);
	metrics_put(metrics, METRIC_TCP_RETRANSMITTED, (int64_t)totals.tcp.segments_retransmitted);
	metrics_put(metrics, METRIC_TCP_BYTES_IN, (int64_t)totals.tcp.bytes_in);
	metrics_put(metrics, METRIC_TCP_BYTES_OUT, (int64_t)totals.tcp.bytes_out);
}

static void put_scp(struct slave *slave, struct metrics *metrics)
{
	const struct scp_counters *counters;

	if (!slave_scp(slave))
		return;
	counters = scp_counters(slave_scp(slave));
	metrics_put(metrics, METRIC_SCP_MESSAGES_IN, (int64_t)counters->messages_in);
	metrics_put(metrics, METRIC_SCP_MESSAGES_OUT, (int64_t)counters->messages_out);
	metrics_put(metrics, METRIC_SCP_BYTES_IN, (int64_t)counters->bytes_in);
	metrics_put(metrics, METRIC_SCP_BYTES_OUT, (int64_t)counters->bytes_out);
	metrics_put(metrics, METRIC_SCP_REFUSED, (int64_t)counters->refused);
	metrics_put(metrics, METRIC_SCP_MALFORMED, (int64_t)counters->malformed);
}

static void put_eap(const struct uplink *uplink, struct metrics *metrics)
{
	const struct eap_client_counters *datagrams = uplink_eap_datagrams(uplink);
	const struct uplink_eap_counters *over_scp = uplink_eap_over_scp(uplink);

	metrics_put(metrics, METRIC_EAP_ASKED, (int64_t)datagrams->asked);
	metrics_put(metrics, METRIC_EAP_ANSWERED, (int64_t)datagrams->answered);
	metrics_put(metrics, METRIC_EAP_UNANSWERED, (int64_t)datagrams->unanswered);
	metrics_put(metrics, METRIC_EAP_FORGED, (int64_t)datagrams->forged);
	metrics_put(metrics, METRIC_EAP_TIME, (int64_t)datagrams->answer_us);
	metrics_put(metrics, METRIC_EAP_SCP_ASKED, (int64_t)over_scp->asked);
	metrics_put(metrics, METRIC_EAP_SCP_ANSWERED, (int64_t)over_scp->answered);
	metrics_put(metrics, METRIC_EAP_SCP_TIME, (int64_t)over_scp->answer_us);
}

static void put_node_program(struct slave *slave, struct metrics *metrics)
{
	const struct kernel_helper_counter *ways;
	size_t count;

	if (!slave_kernel_helper(slave))
		return;
	ways = kernel_helper_counters(slave_kernel_helper(slave), &count);
	for (size_t i = 0; i < count; i++)
		metrics_put_of(metrics, METRIC_NODE_PROGRAM, ways[i].name, (int64_t)ways[i].packets);
}

void device_metrics_put(struct slave *slave, const struct uplink *uplink, struct metrics *metrics)
{
	put_process(!uplink, metrics);
	put_files(slave, metrics);
	put_duplicates(slave, metrics);
	put_memory(slave, metrics);
	put_locks(slave, metrics);
	put_handoffs(slave, metrics);
	put_tcp(slave, metrics);
	put_scp(slave, metrics);
	if (uplink)
		put_eap(uplink, metrics);
	put_node_program(slave, metrics);
}
