/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * scp/scp_internal.h - what scp.c (devices, listening, keeping up) and scp_link.c (one session) share
 *
 * A *link* is one TLS session in our hands; "session" alone is a client's in scp.x. A *line* is what there should be
 * between us and a device on one channel: at most one link that is up, and at most one on its way.
 *
 * Ownership: the scp owns links and peers. A link is closed at once and freed at the end of the loop turn by the
 * reaper, which also calls on_down: so neither happens below a caller who still holds the link.
 */
#ifndef VNAS_SCP_SCP_INTERNAL_H
#define VNAS_SCP_SCP_INTERNAL_H

#include "scp/log_once.h"
#include "scp/scp.h"
#include "scp/scp_message.h"

#include <netinet/in.h>
#include <sys/queue.h>

enum {
	SCP_CHANNELS = SCP_RELAY + 1,
	SCP_ADDRESS_TEXT = 80,
	SCP_REASON_MAX = 512,
	SCP_QUEUE_MAX = 64 * 1024 * 1024,
};

struct event;
struct evconnlistener;
struct tls_stream;

/* Drawn and explained in scp_link.c. */
enum link_state { LINK_HANDSHAKE, LINK_GREETING, LINK_STRANGER, LINK_UP, LINK_PARTING, LINK_CLOSED, LINK_NSTATES };

struct scp_line {
	struct scp_peer *peer;
	scp_channel channel;
	struct scp_link *up;	 /* or NULL */
	struct scp_link *trying; /* outgoing and not up yet, or NULL */
	struct event *retry;
	unsigned int backoff_ms; /* before the next try */
};

/* A device that we were told to connect to, or that has come by itself. Kept until the end. */
struct scp_peer {
	LIST_ENTRY(scp_peer) entry;
	struct scp *scp;
	uint32_t node;
	bool wanted;			 /* between scp_connect() and scp_disconnect() */
	struct sockaddr_storage address; /* while wanted */
	struct scp_line lines[SCP_CHANNELS];
};

/* Received bytes from the start of a message on; grows with what arrives, not with what is promised. */
struct scp_inbox {
	uint8_t *bytes;
	size_t len, size;
	size_t need; /* of the message that is not complete yet */
};

struct scp_link {
	TAILQ_ENTRY(scp_link) entry;
	struct scp *scp;
	struct scp_line *line; /* outgoing: from the start; incoming: when up */
	enum link_state state;
	bool is_outgoing;
	bool is_counted;     /* in scp->strangers */
	bool is_announced;   /* on_up was called */
	bool owes_down;	     /* and on_down is due */
	uint32_t node;	     /* the certificate's; 0: not known yet */
	struct certificates_facts certificate; /* the peer's, when node is known */
	scp_channel channel; /* valid when outgoing or up */
	unsigned int protocol;
	char address[SCP_ADDRESS_TEXT]; /* the peer's, without port */
	char reason[SCP_REASON_MAX];	/* why it is no more */
	uint64_t up_ms, heard_ms, beat_ms; /* monotonic: since when up; last bytes from the peer; last beat of ours */
	struct tls_stream *tls;
	struct event *timer; /* of the state */
	struct scp_inbox inbox;
};

struct scp {
	struct scp_options options;
	struct evconnlistener *listener;
	struct event *listen_again; /* after the system had no descriptors left */
	struct event *reaper;
	LIST_HEAD(scp_peers, scp_peer) peers;
	TAILQ_HEAD(scp_links, scp_link) links;
	unsigned int strangers; /* incoming links whose peer has not proved to be a device yet */
	bool is_stopping;
	uint32_t last_request;
	struct scp_counters counters;
	struct log_once once;
};

uint64_t scp_now_ms(void);

/*
 * scp_link.c
 */

/**
 * scp_link_new() - a session begins
 * @fd:		non-blocking, connected or being connected; taken, also on failure
 * @line:	for an outgoing one; NULL: it came in
 *
 * Return: 0; -ENOMEM
 */
int scp_link_new(struct scp *scp, int fd, const struct sockaddr *address, struct scp_line *line, struct scp_link **out);

/* Only for the reaper and scp_free(). */
void scp_link_free(struct scp_link *link);

/* See scp_send(). */
int scp_link_send(struct scp_link *link, uint32_t request, const scp_message *message);

/* Not wanted any more: tell the peer why, close when it has read that. */
void scp_link_part(struct scp_link *link, const char *reason);

/* Has the peer's certificate become bad? */
void scp_link_review(struct scp_link *link);

/* Close at once. May be called twice. */
void scp_link_close(struct scp_link *link, const char *reason);

/*
 * scp.c
 */

/* The peer has proved to be a device that may join: the link takes its place on its line. Calls on_up. */
void scp_link_is_up(struct scp_link *link, const scp_hello *hello);

/* The link is parting or closed: its line does without it. If on_up was called for it, on_down is due. */
void scp_link_has_left(struct scp_link *link, bool was_up);

/* Nothing came from the peer for too long: what else is up with it is of no use either. */
void scp_peer_is_silent(struct scp_peer *peer, const char *reason);

void scp_reap_later(struct scp *scp);

/* The numeric address without port; an IPv4-mapped one as IPv4. Returns @text. */
const char *scp_address_text(const struct sockaddr *address, char text[static SCP_ADDRESS_TEXT]);

#endif
