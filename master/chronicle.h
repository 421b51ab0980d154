/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/chronicle.h - what has happened in the cluster: nasctl events
 *
 * Says in words what the master's parts do, and keeps it (common/events.h): changes of the name space, which are nodes, volumes, places,
 * exports, users and classes; how other devices fare; administrators' commands; how many handoffs there were.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_CHRONICLE_H
#define VNAS_MASTER_CHRONICLE_H

#include "common/admin.h"
#include "common/events.h"
#include "common/namespace.h"

struct chronicle;
struct event_base;
struct member_life;
struct sessions;
struct settings;

/**
 * chronicle_new() - go on where the last run ended
 * @ns, @sessions: borrowed for life
 *
 * Return: 0; -ENOMEM
 */
int chronicle_new(struct event_base *base, const struct settings *settings, const struct namespace *ns,
		  const struct sessions *sessions, struct chronicle **out);

/* NULL is allowed, here and below. */
void chronicle_free(struct chronicle *chronicle, bool for_good);

/* A change of the name space: before it is made, which it may yet not be, and after. */
void chronicle_changing(struct chronicle *chronicle, const ns_change *change);
void chronicle_changed(struct chronicle *chronicle);

/* Another device fares otherwise now. */
void chronicle_member(struct chronicle *chronicle, uint32_t node, const struct member_life *life);

/* The flows of a device that stayed away are the switch's again. */
void chronicle_taken_back(struct chronicle *chronicle, uint32_t node, unsigned int flows);

/* The configuration was read again: lists of what changed, and of what needs a restart; or why it was not */
void chronicle_reloaded(struct chronicle *chronicle, const json_t *changed, const json_t *after_restart);
void chronicle_not_reloaded(struct chronicle *chronicle, const char *why);

/* An administrator's command, for admin_watch(). @arg: the chronicle */
void chronicle_deed(const struct admin_deed *deed, void *arg);

/* nasctl events */
void chronicle_command_events(struct admin_request *request, int argc, char **argv, void *arg);

#endif
