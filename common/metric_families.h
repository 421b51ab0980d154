/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/metric_families.h - the table of metrics
 *
 * One row per family: its enum in common/metrics.h, `nasctl counters`, the text for Prometheus and vnas-metrics(7), which
 * tests/unit/test_metrics.c compares, follow it.
 *
 *	X(ENUM, name, type, decimals, labels, rows of nasctl counters, what it is)
 *
 * The name is Prometheus': its unit is the base unit, and what only grows ends in _total. Values are whole numbers with so many
 * decimals: microseconds have 6. Rows: "group/name", in which "*" stands for the first label; NULL: nasctl shows it elsewhere.
 */
#ifndef VNAS_COMMON_METRIC_FAMILIES_H
#define VNAS_COMMON_METRIC_FAMILIES_H

#define NO_LABELS { NULL, NULL }
#define LABEL(name) { name, NULL }
#define LABELS(first, second) { first, second }

/* clang-format off */
#define METRIC_FAMILIES(X) \
	/* The process */ \
	X(INFO, "vnas_info", GAUGE, 0, LABELS("version", "role"), NULL, "Always 1: what runs, as master or slave") \
	X(CPU, "process_cpu_seconds_total", COUNTER, 6, NO_LABELS, "process/cpu_us", "Time of processors that vnasd has used") \
	X(RESIDENT, "process_resident_memory_bytes", GAUGE, 0, NO_LABELS, "process/resident_bytes", "Memory of vnasd") \
	/* NFS, by this device: what it relays is counted where it is answered */ \
	X(NFS_CALLS, "vnas_nfs_calls_total", COUNTER, 0, LABEL("procedure"), "nfs3/*", "Calls of NFS version 3") \
	X(NFS_ACL_CALLS, "vnas_nfs_acl_calls_total", COUNTER, 0, LABEL("procedure"), "nfs_acl/*", "Calls of NFSACL") \
	X(NFS_LATENCY, "vnas_nfs_latency_seconds", HISTOGRAM, 6, LABEL("operations"), "latency/*", \
	  "Time from a call of NFS or NFSACL to its answer, of volumes of this device") \
	X(NFS_RELAYED, "vnas_nfs_relayed_calls_total", COUNTER, 0, NO_LABELS, "files/relayed", "Calls that other devices were asked to answer") \
	X(NFS_BAD_HANDLES, "vnas_nfs_bad_handles_total", COUNTER, 0, NO_LABELS, "files/bad_handle", "Calls with a handle that was never given out") \
	X(NFS_STALE_HANDLES, "vnas_nfs_stale_handles_total", COUNTER, 0, NO_LABELS, "files/stale_handle", "Calls with a handle whose file is gone") \
	X(NFS_DENIED, "vnas_nfs_denied_calls_total", COUNTER, 0, NO_LABELS, "files/access_denied", "Calls that the exports don't allow") \
	X(NFS_READ_BYTES, "vnas_nfs_read_bytes_total", COUNTER, 0, NO_LABELS, "files/read_bytes", "Data that were read by clients") \
	X(NFS_WRITTEN_BYTES, "vnas_nfs_written_bytes_total", COUNTER, 0, NO_LABELS, "files/written_bytes", "Data that were written by clients") \
	X(DUPLICATES_ANSWERED, "vnas_duplicate_requests_answered_total", COUNTER, 0, LABEL("cache"), "duplicate_*/answered", \
	  "Calls that came again and got the first one's answer") \
	X(DUPLICATES_WAITED, "vnas_duplicate_requests_waited_total", COUNTER, 0, LABEL("cache"), "duplicate_*/waited", \
	  "Calls that came again while the first one was in progress") \
	X(DUPLICATES_REFUSED, "vnas_duplicate_requests_refused_total", COUNTER, 0, LABEL("cache"), "duplicate_*/refused", \
	  "Calls that had to wait because too many were in progress") \
	X(DUPLICATES_ENTRIES, "vnas_duplicate_requests_entries", GAUGE, 0, LABEL("cache"), "duplicate_*/entries", "Answers that are kept") \
	X(DUPLICATES_BYTES, "vnas_duplicate_requests_bytes", GAUGE, 0, LABEL("cache"), "duplicate_*/bytes", "Memory of the answers that are kept") \
	/* What all connections hold together */ \
	X(MEMORY_HELD, "vnas_connection_memory_bytes", GAUGE, 0, NO_LABELS, "memory/held_bytes", "Memory that clients' requests and answers hold") \
	X(MEMORY_MOST, "vnas_connection_memory_most_bytes", GAUGE, 0, NO_LABELS, "memory/most_bytes", "The most that it ever was") \
	X(MEMORY_WAITED, "vnas_connection_memory_waits_total", COUNTER, 0, NO_LABELS, "memory/waited", "How often a connection was not read for lack of it") \
	X(MEMORY_TURNS, "vnas_connection_memory_turns_total", COUNTER, 0, NO_LABELS, "memory/turns", "How often one that waited got its turn") \
	X(MEMORY_CLOSED, "vnas_connection_memory_closed_total", COUNTER, 0, NO_LABELS, "memory/closed", "Connections that were closed because they did not let go") \
	X(MEMORY_REFUSED, "vnas_connection_memory_refused_total", COUNTER, 0, NO_LABELS, "memory/refused", "New connections that were refused") \
	/* Locks */ \
	X(NLM_CALLS, "vnas_nlm_calls_total", COUNTER, 0, LABEL("procedure"), "nlm/*", "Calls of NLM") \
	X(NLM_GRANTED, "vnas_nlm_granted_total", COUNTER, 0, NO_LABELS, "nlm/granted", "Locks that were granted") \
	X(NLM_DENIED, "vnas_nlm_denied_total", COUNTER, 0, NO_LABELS, "nlm/denied", "Locks that were denied") \
	X(NLM_BLOCKED, "vnas_nlm_blocked_total", COUNTER, 0, NO_LABELS, "nlm/blocked", "Locks that had to be waited for") \
	X(NLM_CALL_BACKS, "vnas_nlm_call_backs_total", COUNTER, 0, NO_LABELS, "nlm/call_backs", "Clients that were told that they have a lock now") \
	X(NLM_CALL_BACKS_FAILED, "vnas_nlm_call_backs_failed_total", COUNTER, 0, NO_LABELS, "nlm/call_backs_failed", "Clients that could not be told so") \
	X(NLM_FREED, "vnas_nlm_freed_clients_total", COUNTER, 0, NO_LABELS, "nlm/freed_clients", "Clients whose locks were freed after their restart") \
	X(LOCK_CLIENTS, "vnas_lock_clients", GAUGE, 0, NO_LABELS, "locks/clients", "Clients that have locks") \
	X(LOCK_FILES, "vnas_lock_files", GAUGE, 0, NO_LABELS, "locks/files", "Files that are locked") \
	X(LOCKS, "vnas_locks", GAUGE, 0, NO_LABELS, "locks/entries", "Locks that are held") \
	X(LOCK_WAITERS, "vnas_lock_waiters", GAUGE, 0, NO_LABELS, "locks/waiters", "Locks that are waited for") \
	X(NSM_CLIENTS, "vnas_nsm_clients", GAUGE, 0, NO_LABELS, "nsm/recorded", "Clients that will be told of a restart") \
	X(NSM_NOTIFIED, "vnas_nsm_notified_total", COUNTER, 0, NO_LABELS, "nsm/notified", "Clients that were told of a restart") \
	X(NSM_UNREACHABLE, "vnas_nsm_unreachable_total", COUNTER, 0, NO_LABELS, "nsm/unreachable", "Clients that were told of a restart, and did not answer") \
	X(NSM_REBOOTED, "vnas_nsm_rebooted_total", COUNTER, 0, NO_LABELS, "nsm/rebooted", "Restarts that clients told of") \
	/* Sessions and their moves */ \
	X(SESSIONS, "vnas_sessions", GAUGE, 0, NO_LABELS, "sessions/here", "Clients' sessions that are with this device") \
	X(HANDOFFS_GIVEN, "vnas_handoffs_given_total", COUNTER, 0, NO_LABELS, "handoffs/given", "Sessions that were given to other devices") \
	X(HANDOFFS_TAKEN, "vnas_handoffs_taken_total", COUNTER, 0, NO_LABELS, "handoffs/taken", "Sessions that were taken from other devices") \
	X(HANDOFFS_ASKED, "vnas_handoffs_asked_total", COUNTER, 0, NO_LABELS, "handoffs/asked", "Sessions that other devices were asked for") \
	X(HANDOFFS_GRANTED, "vnas_handoffs_granted_total", COUNTER, 0, NO_LABELS, "handoffs/granted", "Requests of other devices that were granted") \
	X(HANDOFFS_DENIED, "vnas_handoffs_denied_total", COUNTER, 0, NO_LABELS, "handoffs/denied", "Requests of other devices that were denied") \
	X(HANDOFFS_HALVES, "vnas_handoffs_halves_total", COUNTER, 0, NO_LABELS, "handoffs/halves", "Of those given: one half first") \
	X(HANDOFFS_PREDICTED, "vnas_handoffs_predicted_total", COUNTER, 0, NO_LABELS, "handoffs/predicted", "Of those given: to a device that was ready") \
	X(HANDOFFS_PREPARED, "vnas_handoffs_prepared_total", COUNTER, 0, NO_LABELS, "handoffs/prepared", "Sockets that were made ready here") \
	X(HANDOFFS_FAILED, "vnas_handoffs_failed_total", COUNTER, 0, NO_LABELS, "handoffs/failed", "Handoffs that failed; the session went on here") \
	X(HANDOFFS_RESET, "vnas_handoffs_reset_total", COUNTER, 0, NO_LABELS, "handoffs/reset", "Handoffs that cost the client its connection") \
	X(HANDOFF_LAST, "vnas_handoff_last_seconds", GAUGE, 6, NO_LABELS, "handoffs/last_us", "How long the last one given took, from freeze to acknowledgment") \
	X(HANDOFF_SUM, "vnas_handoff_seconds_total", COUNTER, 6, NO_LABELS, "handoffs/sum_us", "How long all of those given took together") \
	X(SHIFTED, "vnas_shifted_sessions_total", COUNTER, 0, NO_LABELS, "balance/sessions_shifted", "Master: sessions that were ordered away from busy devices") \
	/* TCP. Gauges, for a session takes along what was counted for it: only the sum over all devices grows */ \
	X(TCP_OPENS, "vnas_tcp_passive_opens", GAUGE, 0, NO_LABELS, "tcp/passive_opens", "tcpPassiveOpens of clients' connections") \
	X(TCP_RESETS, "vnas_tcp_established_resets", GAUGE, 0, NO_LABELS, "tcp/established_resets", "tcpEstabResets of clients' connections") \
	X(TCP_ESTABLISHED, "vnas_tcp_established", GAUGE, 0, NO_LABELS, "tcp/established", "tcpCurrEstab of clients' connections") \
	X(TCP_SEGMENTS_IN, "vnas_tcp_segments_in", GAUGE, 0, NO_LABELS, "tcp/segments_in", "tcpInSegs of clients' connections") \
	X(TCP_SEGMENTS_OUT, "vnas_tcp_segments_out", GAUGE, 0, NO_LABELS, "tcp/segments_out", "tcpOutSegs of clients' connections, with those sent again") \
	X(TCP_RETRANSMITTED, "vnas_tcp_segments_retransmitted", GAUGE, 0, NO_LABELS, "tcp/segments_retransmitted", "tcpRetransSegs of clients' connections") \
	X(TCP_BYTES_IN, "vnas_tcp_in_bytes", GAUGE, 0, NO_LABELS, "tcp/bytes_in", "Data from clients, in order") \
	X(TCP_BYTES_OUT, "vnas_tcp_out_bytes", GAUGE, 0, NO_LABELS, "tcp/bytes_out", "Data to clients, acknowledged by them") \
	/* Between devices */ \
	X(SCP_MESSAGES_IN, "vnas_scp_messages_in_total", COUNTER, 0, NO_LABELS, "scp/messages_in", "Messages from other devices") \
	X(SCP_MESSAGES_OUT, "vnas_scp_messages_out_total", COUNTER, 0, NO_LABELS, "scp/messages_out", "Messages to other devices") \
	X(SCP_BYTES_IN, "vnas_scp_in_bytes_total", COUNTER, 0, NO_LABELS, "scp/bytes_in", "Bytes from other devices") \
	X(SCP_BYTES_OUT, "vnas_scp_out_bytes_total", COUNTER, 0, NO_LABELS, "scp/bytes_out", "Bytes to other devices") \
	X(SCP_REFUSED, "vnas_scp_refused_total", COUNTER, 0, NO_LABELS, "scp/refused", "Sessions of devices that were refused") \
	X(SCP_MALFORMED, "vnas_scp_malformed_total", COUNTER, 0, NO_LABELS, "scp/malformed", "Messages that were malformed and ended their session") \
	X(EAP_ASKED, "vnas_eap_asked_total", COUNTER, 0, NO_LABELS, "eap/asked", "Changes of owner that the switch was asked for by datagram") \
	X(EAP_ANSWERED, "vnas_eap_answered_total", COUNTER, 0, NO_LABELS, "eap/answered", "Datagrams that the switch has answered") \
	X(EAP_TIME, "vnas_eap_answer_seconds_total", COUNTER, 6, NO_LABELS, "eap/answer_us", "Time from datagram to answer, of all of them") \
	X(EAP_UNANSWERED, "vnas_eap_unanswered_total", COUNTER, 0, NO_LABELS, "eap/unanswered", "Datagrams that got no answer") \
	X(EAP_FORGED, "vnas_eap_forged_total", COUNTER, 0, NO_LABELS, "eap/forged", "Answers to datagrams that were none") \
	X(EAP_SCP_ASKED, "vnas_eap_over_scp_asked_total", COUNTER, 0, NO_LABELS, "eap/scp_asked", "Changes of owner that the switch was asked for over SCP") \
	X(EAP_SCP_ANSWERED, "vnas_eap_over_scp_answered_total", COUNTER, 0, NO_LABELS, "eap/scp_answered", "Questions over SCP that the switch has answered") \
	X(EAP_SCP_TIME, "vnas_eap_over_scp_answer_seconds_total", COUNTER, 6, NO_LABELS, "eap/scp_answer_us", "Time from question to answer, of all of them") \
	X(EAP_REFUSED, "vnas_eap_over_scp_refused_total", COUNTER, 0, NO_LABELS, "eap/refused_over_scp", "Master: changes of owner that were refused") \
	/* Programs in the kernel */ \
	X(NODE_PROGRAM, "vnas_node_program_packets_total", COUNTER, 0, LABEL("way"), "node/*", "Packets that went this way through the node program") \
	X(FABRIC_PACKETS, "vnas_fabric_packets_total", COUNTER, 0, LABEL("way"), "fabric/*", "Master: packets that went this way through the fabric program") \
	X(FABRIC_DROPPED, "vnas_fabric_dropped_packets_total", COUNTER, 0, LABEL("reason"), "fabric/*", "Master: packets that the fabric program dropped") \
	X(FABRIC_FLOWS, "vnas_fabric_flows", GAUGE, 0, NO_LABELS, "fabric/flows", "Master: entries of the forwarding table when it was last gone through") \
	/* The cluster, as the master sees it */ \
	X(NODES, "vnas_nodes", GAUGE, 0, LABEL("state"), NULL, "Master: devices of the cluster") \
	X(VOLUMES, "vnas_volumes", GAUGE, 0, NO_LABELS, NULL, "Master: volumes of the cluster") \
	X(NODE_UP, "vnas_node_up", GAUGE, 0, LABELS("node", "name"), NULL, "Master: 1 if the device's files can be reached") \
	X(NODE_GIVEN, "vnas_node_connections_given_total", COUNTER, 0, LABELS("node", "name"), NULL, "Master: new connections that the fabric gave the device straight away") \
	X(NODE_SESSIONS, "vnas_node_sessions", GAUGE, 0, LABELS("node", "name"), NULL, "Master: clients' sessions that are with the device") \
	X(NODE_CPU, "vnas_node_cpu_ratio", GAUGE, 3, LABELS("node", "name"), NULL, "Master: how busy the device's processors are") \
	X(NODE_TEMPERATURE, "vnas_node_temperature_celsius", GAUGE, 3, LABELS("node", "name"), NULL, "Master: of what is hottest in the device") \
	X(NODE_CLOCK, "vnas_node_clock_offset_seconds", GAUGE, 9, LABELS("node", "name"), NULL, "Master: how much the device's clock is ahead of the master's") \
	X(AUTHORITY_EXPIRY, "vnas_authority_expiry_timestamp_seconds", GAUGE, 0, NO_LABELS, NULL, "Master: when the certificate of the cluster's authority expires, since 1970") \
	X(NODE_EXPIRY, "vnas_node_certificate_expiry_timestamp_seconds", GAUGE, 0, LABELS("node", "name"), NULL, "Master: when the certificate expires that the device shows, since 1970") \
	X(NODE_OPERATIONS, "vnas_node_operations_total", COUNTER, 0, LABELS("node", "name"), NULL, "Master: calls of NFS version 3 that the device has answered") \
	X(NODE_READ_BYTES, "vnas_node_read_bytes_total", COUNTER, 0, LABELS("node", "name"), NULL, "Master: data that clients have read from the device") \
	X(NODE_WRITTEN_BYTES, "vnas_node_written_bytes_total", COUNTER, 0, LABELS("node", "name"), NULL, "Master: data that clients have written to the device") \
	X(NODE_PACKETS_IN, "vnas_node_client_in_packets_total", COUNTER, 0, LABELS("node", "name"), NULL, "Master: packets from clients to the device") \
	X(NODE_BYTES_IN, "vnas_node_client_in_bytes_total", COUNTER, 0, LABELS("node", "name"), NULL, "Master: bytes of packets from clients to the device") \
	X(NODE_PACKETS_OUT, "vnas_node_client_out_packets_total", COUNTER, 0, LABELS("node", "name"), NULL, "Master: packets from the device to clients, by the switch") \
	X(NODE_BYTES_OUT, "vnas_node_client_out_bytes_total", COUNTER, 0, LABELS("node", "name"), NULL, "Master: bytes of packets from the device to clients, by the switch") \
	X(VOLUME_UP, "vnas_volume_up", GAUGE, 0, LABELS("volume", "node"), NULL, "Master: 1 if the volume's device can be reached") \
	X(VOLUME_BUSY, "vnas_volume_busy_ratio", GAUGE, 3, LABELS("volume", "node"), NULL, "Master: part of the time in which the volume's disk had work") \
	X(VOLUME_FREE, "vnas_volume_free_bytes", GAUGE, 0, LABELS("volume", "node"), NULL, "Master: room in the volume's file system for users") \
	X(VOLUME_SIZE, "vnas_volume_size_bytes", GAUGE, 0, LABELS("volume", "node"), NULL, "Master: size of the volume's file system")
/* clang-format on */

#endif
