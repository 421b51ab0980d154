/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/admin.h - the administration socket, vnasd's end
 *
 * <run_dir>/admin.sock, for root and the group "vnas". A request is a command with arguments, an answer is an error
 * sentence or a table; nasctl (common/nasctl.c) prints it for people or as JSON. On the socket: a 32-bit length in
 * network byte order, then JSON: {"command": ["session", "list"]} and {"error": "..."} or {"done": "..."} or
 * {"columns": [{"name", "title"}...], "rows": [{...}...]} or {"record": {...}}. A table may have "text", which people get in its
 * place, and "is_bad": true, which makes nasctl's exit status 1. One request for each connection, which is closed after the
 * answer; unless that has "follows": true: then messages follow until either end closes the connection.
 *
 * The commands are one table (common/admin_commands.h) that nasctl, its help and the daemon share; a role gives the
 * functions.
 *
 * Ownership: an admin_request lives until it is answered, once, also when nasctl or the admin has gone.
 * Threads: the control loop's, in a process that ignores SIGPIPE.
 */
#ifndef VNAS_COMMON_ADMIN_H
#define VNAS_COMMON_ADMIN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	ADMIN_HEADER_BYTES = 4,
	ADMIN_REQUEST_MAX = 4 * 1024 * 1024, /* bytes of JSON: a configuration to import is the longest */
	ADMIN_WORDS_MAX = 1024,		     /* of a request */
	ADMIN_ANSWER_MAX = 256 * 1024 * 1024, /* the same */
	ADMIN_CLIENTS_MAX = 64,
	ADMIN_STREAMS_MAX = 16, /* of these: answers that go on */
};

/* A request taken apart: the command and its arguments. */
struct admin_words {
	int count; /* at least 1 */
	char *words[ADMIN_WORDS_MAX];
	json_t *message; /* what the words belong to */
};

/**
 * admin_header_decode() - how long a request is
 * @len:	out: bytes of JSON behind the header; untouched on failure
 *
 * Return: 0; -EMSGSIZE if there are more than ADMIN_REQUEST_MAX
 */
int admin_header_decode(const uint8_t header[static ADMIN_HEADER_BYTES], size_t *len);

/**
 * admin_words_decode() - the words of a request
 * @text:	JSON, without an end of its own; borrowed
 * @out:	out: free with admin_words_fini(); untouched on failure
 *
 * Return: 0; -EBADMSG if it is no request, or there is no memory for it
 */
int admin_words_decode(const char *text, size_t len, struct admin_words *out);
void admin_words_fini(struct admin_words *words);

struct event_base;
struct admin;
struct admin_request;

/*
 * One command's function: answers @request now or later. @argv: what follows the command's words, as many as its
 * arguments in the table allow; borrowed.
 */
typedef void (*admin_function)(struct admin_request *request, int argc, char **argv, void *arg);

struct admin_handler {
	const char *command; /* "session list", as in common/admin_commands.h */
	admin_function function;
};

/**
 * admin_new() - listen
 * @path:	of the socket; a stale one is replaced, a live one is -EADDRINUSE
 * @handlers:	the last has command NULL; commands that are missing answer "not on this kind of device"; borrowed for
 *		the life of the admin
 *
 * Return: 0; -EADDRINUSE; -EEXIST if something else than a socket is there; -ENOENT if its folder is not; others
 */
int admin_new(struct event_base *base, const char *path, const struct admin_handler *handlers, void *arg,
	      struct admin **out);
void admin_free(struct admin *admin);

/* What an administrator did, or tried to. */
struct admin_deed {
	const char *command; /* with its arguments, unless they are secret; may be cut */
	uid_t uid;	     /* whose nasctl it was */
	bool is_done;
	const char *outcome; /* the sentence of the answer; NULL: it had none */
};

/*
 * Call @watch for each command that may have changed something, when it is answered, also if nasctl has gone. What it gets is borrowed. NULL:
 * nobody any more.
 */
void admin_watch(struct admin *admin, void (*watch)(const struct admin_deed *deed, void *arg), void *arg);

/* Answer with an error: what failed, on what, why, what to do. */
void admin_error(struct admin_request *request, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Answer "done", with a sentence. */
void admin_done(struct admin_request *request, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Answer with a question: nasctl shows the sentence, and sends the command again with --yes when @word has been typed. Without a
 * terminal it ends, as with an error.
 */
void admin_confirm(struct admin_request *request, const char *word, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Text of others (file names, names of devices) for JSON: what is no UTF-8 has "?" for each byte above 0x7f. */
json_t *admin_text(const char *text);

/*
 * A table: @columns is "name:Title name:Title ..." ('_' in a title becomes a space); add rows (takes the object: its
 * members are the names; NULL, as json_pack() gives for text that isn't UTF-8, is left out with a warning), then answer
 * (takes the table).
 *
 * nasctl shows people what a name's end says: _bytes as "1.2 MiB", _us as "3.4 ms", _ns (since 1970) as local time,
 * _bytes_per_s as "1.2 MiB/s", _per_s as "7/s", _permille as "5.6 %", _millicelsius as "41.5 C"; null, which is unknown, as "-".
 */
json_t *admin_table(const char *columns);
void admin_row(json_t *table, json_t *row);
void admin_answer(struct admin_request *request, json_t *table);

/*
 * An answer that goes on: @table, and then what the source has, message by message, until nasctl or the admin has gone. Messages are
 * {"rows": [...]}, with "missed": N if N rows before them were lost to a reader who was too slow, {"record": {...}}, or {"error": "..."}
 * at the end. A source keeps a place in something bounded, not a queue: nothing is asked of it until all before has been
 * read, and whoever reads nothing for ten minutes is dropped.
 */
struct admin_source {
	/* The next message, the caller's; NULL: nothing is new. Not called from within the functions of this header. */
	json_t *(*next)(void *state);

	/* Once: @state can go. */
	void (*end)(void *state);
};

/* A message of @rows, which it takes; NULL if there are none, and @missed is 0. For admin_source.next. */
json_t *admin_rows(json_t *rows, uint64_t missed);

/* Takes @request, @table and @state. More than ADMIN_STREAMS_MAX are answered with an error. */
void admin_stream(struct admin_request *request, json_t *table, const struct admin_source *source, void *state);

/*
 * The same, but people get @text, which is lines, in place of the table. @is_bad: nasctl's exit status is 1. Takes @table.
 */
void admin_report(struct admin_request *request, json_t *table, const char *text, bool is_bad);

/* One record, printed as "name: value" lines. Takes @record. */
void admin_record(struct admin_request *request, json_t *record);

#endif
