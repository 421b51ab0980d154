/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/device_log.h - nasctl log: the last lines of this device's log, and those that come
 *
 * Lines are read from the ring in memory (common/log.h), a batch at a time, so that a log that is followed never waits for who
 * follows it: he is told how many lines he missed.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_DEVICE_LOG_H
#define VNAS_SLAVE_DEVICE_LOG_H

#include "common/admin.h"
#include "common/log.h"
#include "scp/scp.h"

enum { DEVICE_LOG_BATCH = SCP_LOG_LINES_MAX }; /* lines of a message */

/* What the administrator asked for. */
struct device_log_wanted {
	size_t lines; /* the last ones */
	enum log_level level; /* the most talkative */
	bool follows;
	const char *node; /* another device's log; NULL: this one's. Borrowed */
};

/* The arguments of nasctl log. 0; -EINVAL, and @request was answered */
int device_log_parse(struct admin_request *request, int argc, char **argv, struct device_log_wanted *out);

/* The number of the first of the last @lines lines of @level. */
uint64_t device_log_first(size_t lines, enum log_level level);

/* Rows go into a table of these columns. Gives the row. */
#define DEVICE_LOG_COLUMNS "time_ns:Time line:Line"
json_t *device_log_row(uint64_t number, uint64_t time_ns, enum log_level level, const char *text);

/* Answer with this device's lines. */
void device_log_answer(struct admin_request *request, const struct device_log_wanted *wanted);

/* Answer the master, which asks for these lines. */
void device_log_reply(struct scp *scp, uint32_t node, uint32_t request, const scp_log_look *look);

/* The command, where other devices can't be asked. */
void device_command_log(struct admin_request *request, int argc, char **argv, void *arg);

#endif
