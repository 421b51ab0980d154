/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * scp/scp.h - sessions of the Slave Control Protocol
 *
 * Between each pair of devices one TLS 1.3 session per channel (control, relay), made by the device with the higher
 * node id, kept up with back-off, checked by heartbeats. Carries scp_message (scp/scp.x) behind a 16-byte header:
 *
 *	offset	bytes	field
 *	0	4	magic "SCP1"
 *	4	2	type, enum scp_type
 *	6	2	zero
 *	8	4	request: an answer carries the number of its question; 0: no answer wanted
 *	12	4	length of the XDR body in bytes
 *
 * Knows nothing of what messages do: a role gives a table of functions.
 *
 * Ownership: messages are borrowed for the callback.
 * Threads: the control loop's. No callback is called from within scp_send(), scp_connect() or scp_disconnect().
 */
#ifndef VNAS_SCP_SCP_H
#define VNAS_SCP_SCP_H

#include "common/certificates.h"
#include "scp/scp_xdr.h" /* made by rpcgen from scp/scp.x */

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SCP_PORT = 2050,
	SCP_HEADER_BYTES = 16,
	SCP_MAGIC = 0x53435031,
	SCP_BEAT_MS = 1000,    /* between heartbeats */
	SCP_SILENCE_MS = 5000, /* without a byte from the peer: the session is down */
	SCP_HELLO_MS = 10000,  /* for handshake and hello */
};

struct event_base;
struct scp;

/* All are needed but those that say otherwise. */
struct scp_handlers {
	/* Fill our own hello before it is sent (everything but protocol, channel and node). Text is borrowed. */
	void (*fill_hello)(scp_hello *hello, void *arg);

	/* May this authenticated device of our cluster have a session? 0, or negative errno with a text for it. */
	int (*may_join)(uint32_t node, const scp_hello *hello, char *reason, size_t reason_size, void *arg);

	/*
	 * A device has shown this certificate, which is the cluster's and has not expired: is it still good? Asked again by
	 * scp_review(). 0, or negative errno with a text for the device. NULL: all are.
	 */
	int (*may_show)(const struct certificates_facts *certificate, char *reason, size_t reason_size, void *arg);

	/* A session is up (hellos exchanged), or down with a reason in words: once for each on_up. */
	void (*on_up)(uint32_t node, scp_channel channel, const scp_hello *hello, void *arg);
	void (*on_down)(uint32_t node, scp_channel channel, const char *reason, void *arg);

	/* Any other message but HELLO, REFUSE, ENROL, APPLY and ENROL_REPLY. HEARTBEAT comes here too, after it was noted. */
	void (*on_message)(uint32_t node, scp_channel channel, uint32_t request, const scp_message *message, void *arg);

	/*
	 * Master only: a stranger wants to join, by ENROL or APPLY. Fill @reply; its strings are freed with free(). NULL
	 * elsewhere, which also tells which messages may come here: those to a master or those from one.
	 */
	void (*on_enrol)(const scp_message *question, const char *peer_address, scp_enrol_reply *reply, void *arg);

	/* A heartbeat was sent: what goes along with it. May be NULL. */
	void (*on_beat)(uint32_t node, void *arg);

	/* Fill a heartbeat before it is sent. */
	void (*fill_heartbeat)(scp_heartbeat *heartbeat, void *arg);
};

struct scp_options {
	struct event_base *base;
	SSL_CTX *tls;		/* borrowed for the life of the scp */
	uint32_t self;
	uint8_t cluster[16];
	const char *listen_address; /* textual; NULL: any, IPv4 and IPv6 */
	uint16_t listen_port; /* 0: any free one, see scp_port() */
	uint32_t beat_ms, silence_ms, hello_ms; /* 0: SCP_BEAT_MS, SCP_SILENCE_MS, SCP_HELLO_MS */
	const struct scp_handlers *handlers;
	void *arg;
};

/* Return: 0; -EADDRINUSE and others, logged with what to do */
int scp_new(const struct scp_options *options, struct scp **out);

/* Ends all sessions, telling the peers; on_down is called for those that were up. Not from a callback. */
void scp_free(struct scp *scp);

/* The port that it listens on. */
uint16_t scp_port(const struct scp *scp);

/**
 * scp_connect() - have and keep sessions (both channels) with a device
 * @address:	numeric, may change with a later call
 *
 * Called on the device with the higher node id; retries with back-off (0.1 s to 5 s, scp/backoff.h) until scp_disconnect().
 *
 * Return: 0; -EINVAL (no such address); -ENOMEM
 */
int scp_connect(struct scp *scp, uint32_t node, const char *address, uint16_t port);

/* End sessions with a device, telling it why. No reconnect from here. */
void scp_disconnect(struct scp *scp, uint32_t node, const char *reason);

bool scp_is_up(const struct scp *scp, uint32_t node, scp_channel channel);

/* The certificate by which the node has its control session. NULL: it has none. Borrowed until the loop's turn ends. */
const struct certificates_facts *scp_certificate_of(const struct scp *scp, uint32_t node);

/* For the sessions that begin from now on; those that are up go on with what they have. @tls: as in struct scp_options. */
void scp_use_tls(struct scp *scp, SSL_CTX *tls);

/* Some certificates may not be good any more: sessions by them are ended, and their devices told why. */
void scp_review(struct scp *scp);

/* Milliseconds since anything came from the node on its control session; UINT64_MAX if it is down. */
uint64_t scp_silence_ms(const struct scp *scp, uint32_t node);

/* A fresh request number, never 0. */
uint32_t scp_next_request(struct scp *scp);

/**
 * scp_send() - send a message
 * @message:	borrowed; encoded before the call returns
 *
 * Written to the socket at once if it takes it, else queued.
 *
 * Return: 0; -ENOTCONN; -ENOBUFS if the peer does not read (more than 64 MiB queued); -EINVAL (can't be encoded, or not
 * for this channel); -EPROTONOSUPPORT (newer than the protocol agreed on with this peer)
 */
int scp_send(struct scp *scp, uint32_t node, scp_channel channel, uint32_t request, const scp_message *message);

/**
 * scp_join() - join a cluster, blocking, before any loop runs
 * @token:	"TOKEN@ADDRESS[:PORT]" as nasctl cluster token prints it ("vnas1-SECRET-FINGERPRINT")
 * @pki_dir:	where key and certificates are kept
 * @name:	this host's name
 * @why:	out: on failure a sentence for the administrator, at least 256 bytes
 *
 * Return: 0; -EINVAL (token malformed), -EKEYREJECTED (not the cluster of the token), -EACCES (token unknown, used or
 * expired), -ETIMEDOUT, -ECONNREFUSED, ...
 */
int scp_join(const char *token, const char *pki_dir, const char *name, char *why, size_t why_size);

/* The counters of all sessions. */
struct scp_counters {
	uint64_t messages_in, messages_out, bytes_in, bytes_out, refused, malformed;
};
const struct scp_counters *scp_counters(const struct scp *scp);

#endif
