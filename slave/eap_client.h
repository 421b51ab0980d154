/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/eap_client.h - a disk node's end of EAP datagrams
 *
 * Asks the switch's fabric program, which answers in microseconds. Whoever gets no answer, or not the wanted one, asks
 * again over SCP, where the switch's daemon decides.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_EAP_CLIENT_H
#define VNAS_SLAVE_EAP_CLIENT_H

#include "scp/eap.h"

#include <stdint.h>

struct eap_client;
struct event_base;

enum {
	EAP_CLIENT_PATIENCE_MS = 5, /* for an answer */
	EAP_CLIENT_ASKS_MAX = 256,  /* without an answer yet */
};

struct eap_client_counters {
	uint64_t asked, answered, unanswered;
	uint64_t forged; /* answers that are none */
	uint64_t answer_us; /* sum of the times from question to answer */
};

/* How an ask ended: 0, an errno value that the switch sent, negative, or -ETIMEDOUT. */
typedef void (*eap_client_fn)(const struct eap *eap, int result, void *arg);

/* Return: 0; -ENOMEM */
int eap_client_new(struct event_base *base, eap_client_fn on_end, void *arg, struct eap_client **out);
void eap_client_free(struct eap_client *client);

/**
 * eap_client_set_key() - from now on, ask this way
 * @address:	the switch's, numeric; @port: of UDP
 *
 * Return: 0; -EINVAL if that is no address, or what the kernel said; then there is no way
 */
int eap_client_set_key(struct eap_client *client, const uint8_t key[static EAP_KEY_BYTES], const char *address,
		       uint16_t port);

/* The key is not valid any more. What was asked ends as unanswered. */
void eap_client_forget_key(struct eap_client *client);

/**
 * eap_client_ask() - send a request
 *
 * Its end comes later, never within the call.
 *
 * Return: 0; -ENOKEY; -EBUSY (too many are without an answer); -EINVAL; or what the kernel said: then nothing comes
 */
int eap_client_ask(struct eap_client *client, const struct eap *eap);

const struct eap_client_counters *eap_client_counters(const struct eap_client *client);

#endif
