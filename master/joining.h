/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/joining.h - how machines become devices of the cluster: by token, by a person's word, by `auto_approve`
 *
 * The shell around master/candidates.h (who waits) and master/leases.h (who has an address): answers strangers' ENROL and
 * APPLY, keeps decisions in the database, signs certificates. docs/protocol.md, Joining, has the rules and what they are worth.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_JOINING_H
#define VNAS_MASTER_JOINING_H

#include "common/admin.h"
#include "common/namespace.h"
#include "scp/scp_xdr.h"

#include <stdint.h>

struct joining;
struct master;

/**
 * joining_name() - what a node is called here
 * @id:		its number
 * @wanted:	as it calls itself
 * @name:	out: the same; or, if another node has that name, with the number behind it: "disk2-5"
 */
void joining_name(const struct namespace *ns, uint32_t id, const char *wanted, char name[static NS_NAME_MAX + 1]);

/* @master: borrowed for life. NULL: no memory */
struct joining *joining_new(struct master *master);
void joining_free(struct joining *joining);

/* As on_enrol of struct slave_role: ENROL, with a token, or APPLY. */
void joining_answer(struct joining *joining, const scp_message *question, const char *peer, scp_enrol_reply *reply);

/**
 * joining_approve() - a candidate becomes a node
 * @who:	as candidates_find()
 * @node:	out: its number
 *
 * Return: 0; -ENOENT; -ENOTUNIQ; -ENOSPC (no node numbers left); -EIO
 */
int joining_approve(struct joining *joining, const char *who, uint32_t *node);

/* It is refused until it is approved, or has made itself a new key. As joining_approve(). */
int joining_reject(struct joining *joining, const char *who);

/* For node list: candidates, and machines with an address that have not applied. */
void joining_add_rows(struct joining *joining, json_t *table);

/* For status: sentences that say what a person should do. */
void joining_add_problems(struct joining *joining, json_t *list);

/* `nasctl dhcp lease add|del|list`; @arg as in master/commands.c */
void joining_command_lease_add(struct admin_request *request, int argc, char **argv, void *arg);
void joining_command_lease_del(struct admin_request *request, int argc, char **argv, void *arg);
void joining_command_lease_list(struct admin_request *request, int argc, char **argv, void *arg);

#endif
