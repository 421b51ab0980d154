/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/node_log.h"

#include "common/clock.h"
#include "master/commands_internal.h"
#include "slave/device_log.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

enum { ANSWER_MS = 10000, PAUSE_MS = 500 };

/*
 *	FIRST ---- the last lines are all here; -f ----> FOLLOWING ---- nasctl has gone ----> freed
 *	  |                                                  ^ | the device comes and goes
 *	  +---- all here; away; silent ----> answered, freed +-+
 */
struct reader {
	LIST_ENTRY(reader) link;
	struct master *master;
	struct admin_request *request; /* NULL in FOLLOWING */
	struct event *timer;	       /* of FIRST */
	uint32_t node;
	bool follows;
	scp_log_look next; /* what to ask for */
	uint32_t asked;	   /* number of the question that is not answered; 0: none */
	uint64_t asked_ms;
	json_t *rows; /* that nasctl has not got */
	uint64_t missed;
};

static LIST_HEAD(, reader) readers = LIST_HEAD_INITIALIZER(readers);

static void reader_free(void *state)
{
	struct reader *reader = state;

	LIST_REMOVE(reader, link);
	event_free(reader->timer);
	json_decref(reader->rows);
	free(reader);
}

/* 0; what scp_send() says */
static int ask(struct reader *reader)
{
	struct scp *scp = slave_scp(master_slave(reader->master));
	scp_message message = { .type = SCP_LOG_LOOK, .scp_message_u.log_look = reader->next };
	uint32_t number = scp_next_request(scp);
	int rc = scp_send(scp, reader->node, SCP_CONTROL, number, &message);

	reader->asked = rc < 0 ? 0 : number;
	reader->asked_ms = clock_monotonic_ms();
	return rc;
}

/* FOLLOWING */

/* One that is away, or has lost the question, is asked again. */
static json_t *next_lines(void *state)
{
	struct reader *reader = state;
	uint64_t waited_ms = clock_monotonic_ms() - reader->asked_ms;
	json_t *message = NULL;

	if (json_array_size(reader->rows) > 0 || reader->missed) {
		message = admin_rows(reader->rows, reader->missed);
		reader->rows = json_array();
		reader->missed = 0;
		ask(reader);
	} else if (waited_ms >= (reader->asked ? ANSWER_MS : PAUSE_MS)) {
		ask(reader);
	}
	return message;
}

static const struct admin_source lines_source = { .next = next_lines, .end = reader_free };

/* FIRST */

/* Answers, and frees unless it goes on. */
static void first_is_there(struct reader *reader)
{
	json_t *table = admin_table(DEVICE_LOG_COLUMNS);
	struct admin_request *request = reader->request;

	json_object_set_new(table, "rows", reader->rows);
	reader->rows = json_array();
	reader->request = NULL;
	reader->missed = 0; /* of what was asked for */
	event_del(reader->timer);
	if (reader->follows) {
		admin_stream(request, table, &lines_source, reader);
	} else {
		reader_free(reader);
		admin_answer(request, table);
	}
}

static void first_fails(struct reader *reader, const char *why)
{
	admin_error(reader->request, "node %u %s; nasctl node show %u tells how it fares", reader->node, why, reader->node);
	reader_free(reader);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	first_fails(arg, "does not answer");
}

static void begin(struct master *master, struct admin_request *request, uint32_t node, const struct device_log_wanted *wanted)
{
	struct reader *reader = calloc(1, sizeof(*reader));
	int rc;

	if (reader)
		reader->timer = evtimer_new(master_base(master), on_timer, reader);
	if (!reader || !reader->timer) {
		free(reader);
		admin_error(request, "there is no memory for that now; try again later");
		return;
	}
	reader->master = master;
	reader->request = request;
	reader->node = node;
	reader->follows = wanted->follows;
	reader->rows = json_array();
	reader->next.lines = (u_int)(wanted->lines < LOG_KEEP ? wanted->lines : LOG_KEEP);
	reader->next.level = wanted->level;
	LIST_INSERT_HEAD(&readers, reader, link);
	event_add(reader->timer, &(struct timeval){ .tv_sec = ANSWER_MS / 1000 });
	rc = ask(reader);
	if (rc == -EPROTONOSUPPORT)
		first_fails(reader, "is of a version that can't be asked for its log: update it");
	else if (rc < 0)
		first_fails(reader, "can't be reached");
}

/* Both */

static void take_lines(struct reader *reader, const scp_log_lines *lines)
{
	for (u_int i = 0; i < lines->lines.lines_len; i++) {
		const scp_log_line *line = &lines->lines.lines_val[i];
		enum log_level level = line->level <= LOG_LEVEL_DEBUG ? (enum log_level)line->level : LOG_LEVEL_DEBUG;

		json_array_append_new(reader->rows, device_log_row(line->number, line->time_ns, level, line->text));
	}
	reader->missed += lines->missed;
	reader->next.run = lines->run;
	reader->next.number = lines->next;
	reader->asked = 0;
}

void node_log_received(uint32_t node, uint32_t request, const scp_log_lines *lines)
{
	struct reader *reader;

	LIST_FOREACH(reader, &readers, link)
		if (request && reader->asked == request && reader->node == node)
			break;
	if (!reader)
		return; /* nasctl has gone */
	take_lines(reader, lines);
	if (!reader->request)
		return; /* next_lines() finds them */
	/* A device that logs all the time does not keep nasctl waiting for more than it asked for. */
	if (lines->lines.lines_len < SCP_LOG_LINES_MAX || json_array_size(reader->rows) >= reader->next.lines)
		first_is_there(reader);
	else if (ask(reader) < 0)
		first_fails(reader, "has gone");
}

void node_log_lost(uint32_t node)
{
	struct reader *reader, *next;

	for (reader = LIST_FIRST(&readers); reader; reader = next) {
		next = LIST_NEXT(reader, link);
		if (reader->node != node)
			continue;
		reader->asked = 0;
		if (reader->request)
			first_fails(reader, "has gone before it answered");
	}
}

void node_log_command(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	struct device_log_wanted wanted;
	const ns_node *node;

	if (device_log_parse(request, argc, argv, &wanted) < 0)
		return;
	if (!wanted.node) {
		device_log_answer(request, &wanted);
		return;
	}
	node = commands_need_node(master, request, wanted.node);
	if (node && node->id == NAMESPACE_MASTER)
		device_log_answer(request, &wanted);
	else if (node)
		begin(master, request, node->id, &wanted);
}
