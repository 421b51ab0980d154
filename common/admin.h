/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/admin.h - the administration socket, vnasd's end
 *
 * <run_dir>/admin.sock, for root and the group "vnas". A request is a command with arguments, an answer is an error
 * sentence or a table; nasctl (common/nasctl.c) prints it for people or as JSON. On the socket: a 32-bit length, then
 * JSON: {"command": ["session", "list"]} and {"error": "..."} or {"columns": [{"name", "title"}...], "rows":
 * [{...}...]} or {"record": {...}}.
 *
 * The commands are one table (common/admin_commands.h) that nasctl, its help and the daemon share; a role gives the
 * functions.
 *
 * Ownership: an admin_request lives until it is answered, once, also when nasctl has gone.
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_ADMIN_H
#define VNAS_COMMON_ADMIN_H

#include <jansson.h>
#include <stddef.h>

struct event_base;
struct admin;
struct admin_request;

/* One command's function: answers @request now or later. @argv: what follows the command's words; borrowed. */
typedef void (*admin_function)(struct admin_request *request, int argc, char **argv, void *arg);

struct admin_handler {
	const char *command; /* "session list", as in common/admin_commands.h */
	admin_function function;
};

/**
 * admin_new() - listen
 * @path:	of the socket; a stale one is replaced, a live one is -EADDRINUSE
 * @handlers:	the last has command NULL; commands that are missing answer "not on this kind of device"
 */
int admin_new(struct event_base *base, const char *path, const struct admin_handler *handlers, void *arg,
	      struct admin **out);
void admin_free(struct admin *admin);

/* Answer with an error: what failed, on what, why, what to do. */
void admin_error(struct admin_request *request, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Answer "done", with a sentence. */
void admin_done(struct admin_request *request, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * A table: @columns is "name:Title name:Title ..." ('_' in a title becomes a space); add rows (takes the object: its
 * members are the names), then answer.
 */
json_t *admin_table(const char *columns);
void admin_row(json_t *table, json_t *row);
void admin_answer(struct admin_request *request, json_t *table);

/* One record, printed as "name: value" lines. Takes @record. */
void admin_record(struct admin_request *request, json_t *record);

#endif
