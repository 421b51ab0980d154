/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/eap_service.h - the switch's end of EAP datagrams
 *
 * The fabric's program performs and answers them (master/fabric.bpf.c). What is left for the daemon: to give devices their
 * keys, over SCP; to hear what was performed, so that the table of sessions is right; to log what was refused.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_EAP_SERVICE_H
#define VNAS_MASTER_EAP_SERVICE_H

#include <stdint.h>

struct eap_service;
struct event_base;
struct fabric;
struct scp;
struct sessions;

enum {
	EAP_SERVICE_LOOK_MS = 1000,
	EAP_SERVICE_QUIET_MS = 60000, /* one line in the log for each reason in this time */
};

/* All are borrowed for life. Return: 0; -ENOMEM */
int eap_service_new(struct event_base *base, struct fabric *fabric, struct sessions *sessions,
		    struct eap_service **out);

/* Before the fabric. NULL is allowed. */
void eap_service_free(struct eap_service *service);

/*
 * Tell the table of sessions now what the program has done. To be called before that table is asked or told what may have
 * come later. NULL is allowed.
 */
void eap_service_catch_up(struct eap_service *service);

/*
 * A device was refused over SCP, by a negative errno value: count it, and log it once as long as it goes on. NULL is allowed:
 * nobody can change owners then.
 */
void eap_service_refused(struct eap_service *service, uint32_t node, int error);

/* How often that was. */
uint64_t eap_service_refused_count(const struct eap_service *service);

/* A device wants a key: make one, and send it. */
void eap_service_give_key(struct eap_service *service, struct scp *scp, uint32_t node, uint32_t request);

#endif
