/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/events.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* With six bytes for a character at worst, and the other members. */
enum { LINE_MAX_BYTES = 6 * EVENTS_TEXT_MAX + 256 };

struct events {
	struct events_entry ring[EVENTS_KEEP]; /* event n is in ring[n % EVENTS_KEEP] */
	uint64_t first, end;		       /* of those that are kept; ids begin at 1 */
	uint64_t saved;			       /* those before are in the journal */
	char path[PATH_MAX];
	int fd;	       /* the journal; -1: it can't be written now */
	size_t written; /* bytes in it */
	bool is_told;  /* that it can't be written */
};

static const char *const kinds[] = {
	[EVENTS_MASTER] = "master", [EVENTS_COMMAND] = "command", [EVENTS_SETTINGS] = "settings", [EVENTS_NODE] = "node",
	[EVENTS_VOLUME] = "volume", [EVENTS_PLACE] = "place",	  [EVENTS_EXPORT] = "export",	  [EVENTS_USER] = "user",
	[EVENTS_CLASS] = "class",   [EVENTS_CLUSTER] = "cluster", [EVENTS_HANDOFFS] = "handoffs",
};

_Static_assert(sizeof(kinds) / sizeof(kinds[0]) == EVENTS_KINDS, "a kind needs a name");

const char *events_kind_name(enum events_kind kind)
{
	return kinds[kind];
}

int events_kind_parse(const char *name, enum events_kind *out)
{
	for (enum events_kind kind = 0; kind < EVENTS_KINDS; kind++)
		if (strcmp(kinds[kind], name) == 0) {
			*out = kind;
			return 0;
		}
	return -EINVAL;
}

/* The ring */

static void keep(struct events *events, const struct events_entry *entry)
{
	events->ring[entry->id % EVENTS_KEEP] = *entry;
	events->end = entry->id + 1;
	if (events->end - events->first > EVENTS_KEEP)
		events->first = events->end - EVENTS_KEEP;
}

uint64_t events_end(const struct events *events)
{
	return events->end;
}

const struct events_entry *events_next(const struct events *events, uint64_t *id, uint64_t *missed)
{
	uint64_t wanted = *id > events->first ? *id : events->first;

	if (missed)
		*missed = wanted - *id;
	if (wanted >= events->end)
		return NULL;
	*id = wanted + 1;
	return &events->ring[wanted % EVENTS_KEEP];
}

/* The journal */

static void give_up(struct events *events)
{
	if (!events->is_told)
		log_warn("events", "%s can't be written: %m; it is tried again with each event, and a restart forgets those that are "
				   "not in it", events->path);
	events->is_told = true;
	if (events->fd >= 0)
		close(events->fd);
	events->fd = -1;
}

static void open_journal(struct events *events)
{
	struct stat st;

	events->fd = open(events->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (events->fd < 0 || fstat(events->fd, &st) < 0) {
		give_up(events);
		return;
	}
	events->written = (size_t)st.st_size;
}

/* What a crash has cut off must not take the next event with it. */
static void end_last_line(struct events *events)
{
	char last;

	if (events->fd >= 0 && events->written > 0 &&
	    (pread(events->fd, &last, 1, (off_t)events->written - 1) != 1 || last != '\n')) {
		if (write(events->fd, "\n", 1) == 1)
			events->written++;
		else
			give_up(events);
	}
}

static void old_path(const struct events *events, char path[static PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.4000s.old", events->path);
}

/* The full one becomes the old one, whose events are the ring's no more. */
static void turn_over(struct events *events)
{
	char old[PATH_MAX];

	old_path(events, old);
	close(events->fd);
	events->fd = -1;
	if (rename(events->path, old) < 0)
		give_up(events);
	else
		open_journal(events);
}

/* False: the journal does not have it. */
static bool append(struct events *events, const struct events_entry *entry)
{
	char line[LINE_MAX_BYTES];
	json_t *object = json_pack("{s:I, s:I, s:I, s:s, s:s}", "id", (json_int_t)entry->id, "time_ns",
				   (json_int_t)entry->time_ns, "node", (json_int_t)entry->node, "kind", kinds[entry->kind],
				   "text", entry->text);
	size_t len = object ? json_dumpb(object, line, sizeof(line) - 1, JSON_COMPACT | JSON_ENSURE_ASCII) : 0;

	json_decref(object);
	if (len == 0 || len >= sizeof(line))
		return true; /* no memory, or no text: never to be had */
	line[len++] = '\n';
	if (events->fd >= 0 && events->written + len > EVENTS_FILE_MAX)
		turn_over(events);
	if (events->fd < 0)
		return false;
	if (write(events->fd, line, len) != (ssize_t)len) {
		give_up(events);
		return false;
	}
	events->written += len;
	return true;
}

/* What a full disk kept out of the journal gets there when there is room again. */
static void save(struct events *events)
{
	if (events->fd < 0) {
		open_journal(events);
		end_last_line(events);
	}
	if (events->saved < events->first)
		events->saved = events->first;
	while (events->saved < events->end && append(events, &events->ring[events->saved % EVENTS_KEEP]))
		events->saved++;
	if (events->saved == events->end && events->is_told) {
		events->is_told = false;
		log_info("events", "%s is written again", events->path);
	}
}

/* False: it is no event, or not a later one than those before it. */
static bool decode(const char *line, const struct events *events, struct events_entry *out)
{
	json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
	const char *kind, *text;
	json_int_t id, time_ns, node;
	bool is_event;

	is_event = json_unpack(object, "{s:I, s:I, s:I, s:s, s:s}", "id", &id, "time_ns", &time_ns, "node", &node, "kind", &kind,
			       "text", &text) == 0 &&
		   id > 0 && id < INT64_MAX && (uint64_t)id >= events->end && time_ns >= 0 && node >= 0 && node <= UINT32_MAX &&
		   events_kind_parse(kind, &out->kind) == 0;
	if (is_event) {
		out->id = (uint64_t)id;
		out->time_ns = (uint64_t)time_ns;
		out->node = (uint32_t)node;
		snprintf(out->text, sizeof(out->text), "%s", text);
	}
	json_decref(object);
	return is_event;
}

/* Of events that are not all there, those before the gap are given up: the ring has none. */
static void take(struct events *events, const struct events_entry *entry)
{
	if (entry->id != events->end)
		events->first = entry->id;
	keep(events, entry);
}

static void read_journal(struct events *events, const char *path)
{
	FILE *in = fopen(path, "re");
	struct events_entry entry;
	char line[LINE_MAX_BYTES];

	if (!in) {
		if (errno != ENOENT)
			log_warn("events", "%s can't be read: %m; nasctl events does not show what is in it", path);
		return;
	}
	while (fgets(line, sizeof(line), in))
		if (decode(line, events, &entry))
			take(events, &entry);
	fclose(in);
}

int events_open(const char *path, struct events **out)
{
	struct events *events = calloc(1, sizeof(*events));
	char old[PATH_MAX];

	if (!events)
		return -ENOMEM;
	events->first = events->end = 1;
	snprintf(events->path, sizeof(events->path), "%.4000s", path);
	old_path(events, old);
	read_journal(events, old);
	read_journal(events, events->path);
	events->saved = events->end;
	open_journal(events);
	end_last_line(events);
	*out = events;
	return 0;
}

void events_close(struct events *events)
{
	if (events && events->fd >= 0)
		close(events->fd);
	free(events);
}

/* Names of clients and machines may be part of it: neither terminal control nor what is no UTF-8. */
static void make_printable(char *text)
{
	json_t *string;

	for (char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	string = json_string(text);
	for (char *p = text; !string && *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	json_decref(string);
}

void events_note(struct events *events, enum events_kind kind, uint32_t node, const char *format, ...)
{
	struct events_entry entry = { .kind = kind, .node = node, .time_ns = clock_wall_ns() };
	va_list args;

	if (!events)
		return;
	va_start(args, format);
	vsnprintf(entry.text, sizeof(entry.text), format, args);
	va_end(args);
	make_printable(entry.text);
	entry.id = events->end;
	keep(events, &entry);
	save(events);
}
