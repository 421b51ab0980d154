/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/device_commands.h - the commands of nasctl that every device answers
 *
 * status (a disk node's), session list and show (this device's own), policy, why, log, counters, reload, stop. The master answers more
 * (master/commands.c) and some of these for the whole cluster.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_DEVICE_COMMANDS_H
#define VNAS_SLAVE_DEVICE_COMMANDS_H

#include "common/admin.h"
#include "slave/slave.h"

struct metrics;
struct self_candidate;
struct uplink;

/* What the commands look at; handed to admin_new() as their argument. */
struct device {
	struct event_base *base;
	struct namespace *ns;
	struct slave *slave;
	struct uplink *uplink; /* NULL on the switch */
	struct self_candidate *candidate; /* NULL but while a machine waits to become a node */
	void *master;	       /* struct master; NULL on a disk node */

	/*
	 * Read the configuration again. @report: out: a record of what has changed, the caller's; @why: out: on failure, when nothing
	 * has, SETTINGS_WHY_MAX bytes. 0; -EINVAL
	 */
	int (*reload)(void *arg, json_t **report, char *why);
	void *reload_arg;
};

enum { DEVICE_SESSION_TEXT = 24, DEVICE_ADDRESS_TEXT = 64 };

/* "1-2a": birth node and counter, hexadecimal. Returns @text. */
const char *device_session_text(uint64_t session, char text[static DEVICE_SESSION_TEXT]);

/* 0; -EINVAL */
int device_session_parse(const char *text, uint64_t *session);

/* "10.0.0.2:801", "[fd00::2]:801". Returns @text. */
const char *device_address_text(const uint8_t address[static 16], uint16_t port, char text[static DEVICE_ADDRESS_TEXT]);

/* A row of session list, and the shares for session show. */
json_t *device_session_row(const struct namespace *ns, const scp_session *session, uint32_t node);
json_t *device_session_shares(const struct namespace *ns, const scp_session *session);
#define DEVICE_SESSION_COLUMNS                                                                        \
	"id:Session client:Client vip:Address node:Node node_name:Name handoffs:Handoffs "            \
	"last_handoff_us:Last_took requests:Requests bytes:Data since_ns:Since"

/* The answer to counters. @metrics: NULL: there was no memory */
void device_answer_counters(struct admin_request *request, const struct metrics *metrics);

/* Adds what the session's device says of its connection. */
void device_session_facts(json_t *record, const scp_session_facts *facts);

/* The answer to why. @node: which device has the session. @balance: would it leave a busy node; NULL: that is the master's to know */
void device_why_answer(struct admin_request *request, const struct namespace *ns, uint32_t node,
		       const scp_why_result *result, const char *balance);

void device_command_policy(struct admin_request *request, int argc, char **argv, void *arg);
void device_command_reload(struct admin_request *request, int argc, char **argv, void *arg);
void device_command_stop(struct admin_request *request, int argc, char **argv, void *arg);

/* The commands of a disk node; the last row has no command. */
extern const struct admin_handler device_commands[];

#endif
