/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/events.h - what has happened, in order: a ring in memory and a journal on disk
 *
 * The last EVENTS_KEEP events, numbered from 1 on without a gap. Each is appended to a journal, so that a restart goes on where the last
 * run ended. It is not synchronized to the disk: a power failure may take the last events with it, and their numbers are used
 * again. The journal is two files, `PATH` and `PATH.old`, of at most EVENTS_FILE_MAX bytes each; a line is an event as a JSON object.
 * Knows nothing of what events are about.
 *
 * Threads: one.
 */
#ifndef VNAS_COMMON_EVENTS_H
#define VNAS_COMMON_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EVENTS_KEEP = 1000, EVENTS_TEXT_MAX = 512, EVENTS_FILE_MAX = 512 * 1024 };

enum events_kind {
	EVENTS_MASTER,	 /* its daemon has started, or stops */
	EVENTS_COMMAND,	 /* an administrator changed something, or tried to */
	EVENTS_SETTINGS, /* the configuration was read again */
	EVENTS_NODE,
	EVENTS_VOLUME,
	EVENTS_PLACE, /* of a volume, in the tree */
	EVENTS_EXPORT,
	EVENTS_USER, /* and groups */
	EVENTS_CLASS,
	EVENTS_CLUSTER,
	EVENTS_HANDOFFS, /* how many there were */
	EVENTS_KINDS
};

struct events_entry {
	uint64_t id;
	uint64_t time_ns; /* wall clock, since 1970 */
	enum events_kind kind;
	uint32_t node; /* that it is about; 0: none */
	char text[EVENTS_TEXT_MAX];
};

struct events;

const char *events_kind_name(enum events_kind kind);

/* 0; -EINVAL if there is no such kind */
int events_kind_parse(const char *name, enum events_kind *out);

/**
 * events_open() - the events of earlier runs, and those to come
 * @path:	of the journal; copied
 *
 * A journal that can't be read costs the events of earlier runs, and a line of the log. One that can't be written (a full disk) is
 * tried again with each event, and gets then what it lacks; a restart before that forgets it. Lines of it that are no
 * events, such as one that a crash has cut off, are left out.
 *
 * Return: 0; -ENOMEM
 */
int events_open(const char *path, struct events **out);

/* NULL is allowed. */
void events_close(struct events *events);

/* Something has happened. Control characters become "?", what is too long is cut. Nothing happens for NULL. */
void events_note(struct events *events, enum events_kind kind, uint32_t node, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* The id of the next event. */
uint64_t events_end(const struct events *events);

/**
 * events_next() - an event that is kept, by its number
 * @id:		in: the event that is wanted; out: that behind the one that was found
 * @missed:	out: how many from @id on are not kept any more; or NULL
 *
 * Return: borrowed until the next events_note(); NULL: there is none yet
 */
const struct events_entry *events_next(const struct events *events, uint64_t *id, uint64_t *missed);

#endif
