/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/device_log.h"

#include "common/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Arguments */

static int parse_lines(struct admin_request *request, const char *text, size_t *out)
{
	char *end;
	unsigned long lines;

	errno = 0;
	lines = strtoul(text, &end, 10);
	if (*text >= '0' && *text <= '9' && !*end && !errno) {
		*out = lines;
		return 0;
	}
	admin_error(request, "-n %s: say how many lines, as in nasctl log -n 20; %d are kept", text, LOG_KEEP);
	return -EINVAL;
}

static int parse_level(struct admin_request *request, const char *text, enum log_level *out)
{
	if (log_level_parse(text, out) == 0)
		return 0;
	admin_error(request, "--level %s: levels are err, warn, info and debug; each includes those before it", text);
	return -EINVAL;
}

int device_log_parse(struct admin_request *request, int argc, char **argv, struct device_log_wanted *out)
{
	struct device_log_wanted wanted = { .lines = LOG_KEEP, .level = LOG_LEVEL_DEBUG };
	int rc = 0;

	for (int i = 0; rc == 0 && i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "-f") == 0) {
			wanted.follows = true;
			continue;
		}
		if (strcmp(argv[i], "-n") == 0 && value) {
			rc = parse_lines(request, value, &wanted.lines);
		} else if (strcmp(argv[i], "--level") == 0 && value) {
			rc = parse_level(request, value, &wanted.level);
		} else if (strcmp(argv[i], "--node") == 0 && value) {
			wanted.node = value;
		} else {
			admin_error(request, "\"%s\" is no option of log, or lacks its value; nasctl help log shows them", argv[i]);
			rc = -EINVAL;
		}
		i++;
	}
	if (rc == 0)
		*out = wanted;
	return rc;
}

/* Lines */

uint64_t device_log_first(size_t lines, enum log_level level)
{
	size_t have = 0, skip;
	struct log_line line;

	for (uint64_t number = 0; log_next(&number, NULL, &line);)
		have += line.level <= level;
	skip = have > lines ? have - lines : 0;
	for (uint64_t number = 0; log_next(&number, NULL, &line);)
		if (line.level <= level && skip-- == 0)
			return line.number;
	return log_end();
}

json_t *device_log_row(uint64_t number, uint64_t time_ns, enum log_level level, const char *text)
{
	return json_pack("{s:I, s:I, s:s, s:o}", "number", (json_int_t)number, "time_ns", (json_int_t)time_ns, "level",
			 log_level_name(level), "line", admin_text(text));
}

/* Where a reader is in the log. */
struct place {
	uint64_t number;
	enum log_level level;
};

/* Rows of the lines behind @place, at most @most. Gives how many there were not any more. */
static uint64_t read_lines(struct place *place, size_t most, json_t *rows)
{
	uint64_t missed_now, missed = 0;
	struct log_line line;

	while (json_array_size(rows) < most && log_next(&place->number, &missed_now, &line)) {
		missed += missed_now;
		if (line.level <= place->level)
			json_array_append_new(rows, device_log_row(line.number, line.time_ns, line.level, line.text));
	}
	return missed;
}

static json_t *next_lines(void *state)
{
	json_t *rows = json_array();
	uint64_t missed = read_lines(state, DEVICE_LOG_BATCH, rows);

	return admin_rows(rows, missed);
}

static void end_of_reader(void *state)
{
	free(state);
}

static const struct admin_source lines_source = { .next = next_lines, .end = end_of_reader };

void device_log_answer(struct admin_request *request, const struct device_log_wanted *wanted)
{
	struct place *place = malloc(sizeof(*place));
	json_t *table = admin_table(DEVICE_LOG_COLUMNS);

	if (!place) {
		json_decref(table);
		admin_error(request, "there is no memory for that now; try again later");
		return;
	}
	*place = (struct place){ device_log_first(wanted->lines, wanted->level), wanted->level };
	read_lines(place, SIZE_MAX, json_object_get(table, "rows"));
	if (wanted->follows) {
		admin_stream(request, table, &lines_source, place);
	} else {
		free(place);
		admin_answer(request, table);
	}
}

/* Each run of the daemon has numbers of its own. */
static uint64_t this_run(void)
{
	static uint64_t run;

	run = run ? run : clock_wall_ns();
	return run;
}

struct reply {
	scp_message message;
	scp_log_line lines[DEVICE_LOG_BATCH];
	struct log_line kept[DEVICE_LOG_BATCH]; /* whose text the lines borrow */
};

static void fill_reply(struct reply *reply, struct place place)
{
	scp_log_lines *out = &reply->message.scp_message_u.log_lines;
	uint64_t missed;
	u_int count = 0;

	reply->message.type = SCP_LOG_LINES;
	out->missed = 0;
	while (count < DEVICE_LOG_BATCH && log_next(&place.number, &missed, &reply->kept[count])) {
		struct log_line *line = &reply->kept[count];

		out->missed += missed;
		if (line->level > place.level)
			continue;
		reply->lines[count++] = (scp_log_line){ line->number, line->time_ns, line->level, line->text };
	}
	out->run = this_run();
	out->next = place.number;
	out->lines.lines_val = reply->lines;
	out->lines.lines_len = count;
}

void device_log_reply(struct scp *scp, uint32_t node, uint32_t request, const scp_log_look *look)
{
	struct reply *reply = malloc(sizeof(*reply));
	struct place place = { .level = look->level < LOG_LEVEL_DEBUG ? (enum log_level)look->level : LOG_LEVEL_DEBUG };

	if (!reply)
		return; /* the master asks again, or says that there is no answer */
	if (look->run == 0)
		place.number = device_log_first(look->lines, place.level);
	else if (look->run == this_run())
		place.number = look->number;
	fill_reply(reply, place);
	scp_send(scp, node, SCP_CONTROL, request, &reply->message);
	free(reply);
}

void device_command_log(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct device_log_wanted wanted;

	(void)arg;
	if (device_log_parse(request, argc, argv, &wanted) < 0)
		return;
	if (wanted.node)
		admin_error(request, "only the switch can ask another device for its log: run nasctl log --node %s there",
			    wanted.node);
	else
		device_log_answer(request, &wanted);
}
