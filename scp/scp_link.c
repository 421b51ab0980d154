/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One session:
 *
 *	              TLS is set up         hello accepted
 *	HANDSHAKE --+--------------> GREETING ----------> UP
 *	            |                   |                  |
 *	            | came in           | refused by us    | refused by us, replaced,
 *	            | without a         |                  | scp_disconnect()
 *	            | certificate       v                  |
 *	            +--> STRANGER --> PARTING <------------+
 *	              answered or       |
 *	              refused           | the peer has read it, or PARTING_MS
 *	                                v
 *	any ------------------------> CLOSED
 *	  refused by the peer, failure, silence, time is over
 *
 * The device that came in says hello second, and only if it accepts the other's hello: so a refused device sees one
 * refusal and no session that goes up and down.
 */
#include "config.h"

#include "scp/scp_internal.h"

#include "common/certificates.h"
#include "common/log.h"
#include "scp/tls_stream.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	PARTING_MS = 1000,
	INBOX_START = 16 * 1024,   /* a TLS record */
	INBOX_KEEP = 4 * 1024 * 1024, /* an empty inbox above this is given back */
	TURN_BYTES = 1024 * 1024,  /* read from one peer before the others have their turn */
	KEEPALIVE_IDLE_S = 2,
	KEEPALIVE_INTERVAL_S = 1,
};

static void link_move(struct scp_link *link, enum link_state next);

/*
 * Saying why
 */

/* What can happen again at every retry of the peer is said once. */
static void link_warn_once(struct scp_link *link, const char *what, const char *reason)
{
	if (!log_once_is_new(&link->scp->once, link->address, reason, scp_now_ms()))
		return;
	if (link->node)
		log_warn("scp", "node=%u address=%s %s: %s", link->node, link->address, what, reason);
	else
		log_warn("scp", "address=%s %s: %s", link->address, what, reason);
}

/* The first reason counts. */
static void link_set_reason(struct scp_link *link, const char *reason)
{
	if (!link->reason[0])
		snprintf(link->reason, sizeof(link->reason), "%s", reason);
}

void scp_link_part(struct scp_link *link, const char *reason)
{
	scp_message refuse = { .type = SCP_REFUSE };

	if (link->state >= LINK_PARTING)
		return;
	if (!tls_stream_is_open(link->tls)) {
		scp_link_close(link, reason);
		return;
	}
	link_set_reason(link, reason);
	refuse.scp_message_u.refuse.reason = link->reason;
	scp_link_send(link, 0, &refuse);
	link_move(link, LINK_PARTING);
}

/* The peer may not be here, or not do this. */
static void __attribute__((format(printf, 2, 3))) link_refuse(struct scp_link *link, const char *format, ...)
{
	char reason[SCP_REASON_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	link->scp->counters.refused++;
	link_warn_once(link, "refused", reason);
	scp_link_part(link, reason);
}

static void link_is_malformed(struct scp_link *link, const char *what)
{
	link->scp->counters.malformed++;
	link_refuse(link, "malformed: %s", what);
}

void scp_link_close(struct scp_link *link, const char *reason)
{
	if (link->state == LINK_CLOSED)
		return;
	link_set_reason(link, reason);
	if (link->state < LINK_UP && link->is_outgoing)
		link_warn_once(link, "no session", reason);
	else if (link->state < LINK_UP)
		log_debug("scp", "address=%s no session: %s", link->address, reason);
	link_move(link, LINK_CLOSED);
}

/* tls_stream_read() returned @rc <= 0. */
static void link_has_failed(struct scp_link *link, ssize_t rc)
{
	const char *why = tls_stream_why(link->tls);
	char reason[SCP_REASON_MAX];

	switch (rc) {
	case -EKEYREJECTED:
		link->scp->counters.refused++;
		snprintf(reason, sizeof(reason), "peer %s is of another cluster or rejects our certificate (%s)",
			 link->address, why);
		break;
	case -EPROTO:
		link->scp->counters.malformed++;
		snprintf(reason, sizeof(reason), "peer %s does not speak TLS as we do (%s)", link->address, why);
		break;
	default:
		scp_link_close(link, why);
		return;
	}
	if (link->state < LINK_UP && !link->is_outgoing)
		link_warn_once(link, "no session", reason);
	scp_link_close(link, reason);
}

/*
 * States and their timers
 */

static const char *const state_names[LINK_NSTATES] = {
	[LINK_HANDSHAKE] = "HANDSHAKE", [LINK_GREETING] = "GREETING", [LINK_STRANGER] = "STRANGER",
	[LINK_UP] = "UP",		[LINK_PARTING] = "PARTING",   [LINK_CLOSED] = "CLOSED",
};

static void link_arm(struct scp_link *link, uint32_t ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000 };

	evtimer_add(link->timer, &tv);
}

static void link_enter(struct scp_link *link)
{
	switch (link->state) {
	case LINK_HANDSHAKE:
		link_arm(link, link->scp->options.hello_ms);
		break;
	case LINK_GREETING:
	case LINK_STRANGER:
		break; /* within the time that is running */
	case LINK_UP:
		evtimer_del(link->timer);
		link->up_ms = link->beat_ms = scp_now_ms();
		if (link->channel == SCP_CONTROL)
			link_arm(link, link->scp->options.beat_ms);
		break;
	case LINK_PARTING:
		tls_stream_finish(link->tls);
		link_arm(link, PARTING_MS);
		break;
	case LINK_CLOSED:
		evtimer_del(link->timer);
		tls_stream_close(link->tls);
		scp_reap_later(link->scp);
		break;
	case LINK_NSTATES:
		break;
	}
}

static void link_uncount(struct scp_link *link)
{
	if (link->is_counted)
		link->scp->strangers--;
	link->is_counted = false;
}

/* The only writer of the state. A state is never left for an earlier one. */
static void link_move(struct scp_link *link, enum link_state next)
{
	enum link_state last = link->state;

	if (BUG_IF(next <= last))
		return;
	log_debug("scp", "address=%s node=%u %s -> %s", link->address, link->node, state_names[last],
		  state_names[next]);
	link->state = next;
	link_enter(link);
	if (next == LINK_UP || next == LINK_CLOSED)
		link_uncount(link);
	if (last < LINK_PARTING && next >= LINK_PARTING)
		scp_link_has_left(link, last == LINK_UP);
}

/*
 * Sending
 */

int scp_link_send(struct scp_link *link, uint32_t request, const scp_message *message)
{
	uint8_t *bytes;
	size_t len;
	int rc;

	if (tls_stream_queued(link->tls) > SCP_QUEUE_MAX)
		return -ENOBUFS;
	rc = scp_message_encode(request, message, &bytes, &len);
	if (rc)
		return rc;
	rc = tls_stream_write(link->tls, bytes, len);
	if (rc) {
		free(bytes);
		return rc;
	}
	link->scp->counters.messages_out++;
	link->scp->counters.bytes_out += len;
	return 0;
}

static char no_text[] = "";

/* XDR knows no NULL string. */
static char *text_or_none(char *text)
{
	return text ? text : no_text;
}

static void link_say_hello(struct scp_link *link)
{
	const struct scp_options *options = &link->scp->options;
	scp_message message = { .type = SCP_HELLO };
	scp_hello *hello = &message.scp_message_u.hello;

	options->handlers->fill_hello(hello, options->arg);
	hello->protocol_low = SCP_PROTOCOL_LOW;
	hello->protocol_high = SCP_PROTOCOL_HIGH;
	hello->channel = link->channel;
	hello->node = options->self;
	memcpy(hello->cluster, options->cluster, sizeof(hello->cluster));
	hello->software = text_or_none(hello->software);
	hello->name = text_or_none(hello->name);
	hello->address = text_or_none(hello->address);
	hello->serial = text_or_none(hello->serial);
	if (BUG_IF(scp_link_send(link, 0, &message) == -EINVAL))
		scp_link_close(link, "our hello can't be encoded");
}

static void link_beat(struct scp_link *link)
{
	const struct scp_options *options = &link->scp->options;
	scp_message message = { .type = SCP_HEARTBEAT };

	options->handlers->fill_heartbeat(&message.scp_message_u.heartbeat, options->arg);
	scp_link_send(link, 0, &message);
	if (options->handlers->on_beat)
		options->handlers->on_beat(link->node, options->arg);
}

/* If it was us who stood still, what the peer sent meanwhile is still to be read. */
static bool link_was_late(const struct scp_link *link, uint64_t now)
{
	return now - link->beat_ms > 2 * (uint64_t)link->scp->options.beat_ms;
}

static void link_check(struct scp_link *link)
{
	uint64_t now = scp_now_ms(), silence = now - link->heard_ms;
	bool was_late = link_was_late(link, now);
	char reason[64];

	link->beat_ms = now;
	if (silence > link->scp->options.silence_ms && !was_late) {
		snprintf(reason, sizeof(reason), "silent for %llu ms", (unsigned long long)silence);
		scp_peer_is_silent(link->line->peer, reason);
		return;
	}
	link_beat(link);
	link_arm(link, link->scp->options.beat_ms);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct scp_link *link = arg;
	char reason[64];

	(void)fd;
	(void)what;
	switch (link->state) {
	case LINK_HANDSHAKE:
	case LINK_GREETING:
	case LINK_STRANGER:
		snprintf(reason, sizeof(reason), "no hello within %u ms", link->scp->options.hello_ms);
		scp_link_close(link, reason);
		break;
	case LINK_UP:
		link_check(link);
		break;
	case LINK_PARTING:
		scp_link_close(link, "");
		break;
	case LINK_CLOSED:
	case LINK_NSTATES:
		break;
	}
}

/*
 * Who is there: after the handshake, and after the hello
 */

static bool link_likes_certificate(struct scp_link *link)
{
	const struct scp_options *options = &link->scp->options;
	char reason[SCP_REASON_MAX] = "";
	int rc = 0;

	if (options->handlers->may_show)
		rc = options->handlers->may_show(&link->certificate, reason, sizeof(reason), options->arg);
	if (rc)
		link_refuse(link, "%s", reason[0] ? reason : strerror(-rc));
	return rc == 0;
}

void scp_link_review(struct scp_link *link)
{
	if (link->node && link->state < LINK_PARTING)
		link_likes_certificate(link);
}

static void link_authenticate(struct scp_link *link)
{
	int rc = certificates_peer(tls_stream_ssl(link->tls), &link->certificate);

	if (rc == -ENOENT && !link->is_outgoing) {
		link_move(link, LINK_STRANGER);
		return;
	}
	link_move(link, LINK_GREETING);
	if (rc) {
		link_refuse(link, "your certificate is not a device's");
		return;
	}
	link->node = link->certificate.node;
	if (memcmp(link->certificate.cluster, link->scp->options.cluster, sizeof(link->certificate.cluster)) != 0)
		link_refuse(link, "your certificate is of another cluster");
	else if (link_likes_certificate(link) && link->is_outgoing)
		link_say_hello(link);
}

static bool link_likes_protocol(struct scp_link *link, const scp_hello *hello)
{
	if (hello->protocol_low <= SCP_PROTOCOL_HIGH && hello->protocol_high >= SCP_PROTOCOL_LOW)
		return true;
	link_refuse(link,
		    "no common protocol version: node %u speaks %u to %u, node %u speaks %u to %u; update the older",
		    link->scp->options.self, SCP_PROTOCOL_LOW, SCP_PROTOCOL_HIGH, hello->node, hello->protocol_low,
		    hello->protocol_high);
	return false;
}

static bool link_likes_node(struct scp_link *link, const scp_hello *hello)
{
	if (memcmp(hello->cluster, link->scp->options.cluster, sizeof(hello->cluster)) != 0)
		link_refuse(link, "you are of another cluster");
	else if (hello->node != link->node)
		link_refuse(link, "your hello says node %u, your certificate node %u", hello->node, link->node);
	else if (hello->node == link->scp->options.self)
		link_refuse(link, "we are both node %u: one was copied from the other", hello->node);
	else if (link->is_outgoing && hello->node != link->line->peer->node)
		link_refuse(link, "expected node %u at %s, found node %u", link->line->peer->node, link->address,
			    hello->node);
	else
		return true;
	return false;
}

static bool link_likes_channel(struct scp_link *link, const scp_hello *hello)
{
	if (hello->channel <= SCP_RELAY && (!link->is_outgoing || hello->channel == link->channel))
		return true;
	link_refuse(link, "unexpected channel %u", hello->channel);
	return false;
}

static bool link_may_join(struct scp_link *link, const scp_hello *hello)
{
	const struct scp_options *options = &link->scp->options;
	char reason[SCP_REASON_MAX] = "";
	int rc = options->handlers->may_join(hello->node, hello, reason, sizeof(reason), options->arg);

	if (rc)
		link_refuse(link, "%s", reason[0] ? reason : strerror(-rc));
	return rc == 0;
}

static void link_on_hello(struct scp_link *link, const scp_hello *hello)
{
	if (!link_likes_protocol(link, hello) || !link_likes_node(link, hello) || !link_likes_channel(link, hello) ||
	    !link_may_join(link, hello))
		return;
	link->channel = hello->channel;
	link->protocol = hello->protocol_high < SCP_PROTOCOL_HIGH ? hello->protocol_high : SCP_PROTOCOL_HIGH;
	if (!link->is_outgoing)
		link_say_hello(link);
	if (link->state != LINK_GREETING)
		return;
	link_move(link, LINK_UP);
	scp_link_is_up(link, hello);
}

/* ENROL or APPLY */
static void link_on_stranger(struct scp_link *link, uint32_t request, const scp_message *question)
{
	const struct scp_options *options = &link->scp->options;
	scp_message message = { .type = SCP_ENROL_REPLY };
	scp_enrol_reply reply = { 0 };

	if (!options->handlers->on_enrol) {
		link_refuse(link, "node %u is not the master: enrol there", options->self);
		return;
	}
	options->handlers->on_enrol(question, link->address, &reply, options->arg);
	message.scp_message_u.enrol_reply = (scp_enrol_reply){
		.result = reply.result,
		.reason = text_or_none(reply.reason),
		.node = reply.node,
		.certificate = text_or_none(reply.certificate),
		.authority = text_or_none(reply.authority),
	};
	if (!BUG_IF(scp_link_send(link, request, &message) == -EINVAL))
		link_move(link, LINK_PARTING);
	else
		link_refuse(link, "the answer can't be encoded");
	free(reply.reason);
	free(reply.certificate);
	free(reply.authority);
}

/*
 * Receiving
 */

static bool may_come_this_way(const struct scp *scp, scp_type type)
{
	bool is_master = scp->options.handlers->on_enrol != NULL;
	enum scp_direction direction = scp_message_rule(type)->direction;

	return direction == SCP_EITHER_WAY || direction == (is_master ? SCP_TO_MASTER : SCP_FROM_MASTER);
}

/* Is such a message in order now? Asked before there is memory for its body. */
static bool link_expects(const struct scp_link *link, scp_type type)
{
	switch (link->state) {
	case LINK_GREETING:
		return type == SCP_HELLO || type == SCP_REFUSE;
	case LINK_STRANGER:
		return type == SCP_ENROL || type == SCP_APPLY;
	case LINK_UP:
		if (scp_message_is_for_session(type))
			return type == SCP_REFUSE;
		return scp_message_may_travel(type, link->channel, link->protocol) &&
		       may_come_this_way(link->scp, type);
	default:
		return false;
	}
}

static void link_deliver(struct scp_link *link, uint32_t request, const scp_message *message)
{
	const struct scp_options *options = &link->scp->options;
	char reason[SCP_REASON_MAX];

	switch (message->type) {
	case SCP_HELLO:
		link_on_hello(link, &message->scp_message_u.hello);
		break;
	case SCP_REFUSE:
		snprintf(reason, sizeof(reason), "the peer says: %s", message->scp_message_u.refuse.reason);
		if (!link->is_outgoing && link->state < LINK_UP)
			link_warn_once(link, "no session", reason);
		scp_link_close(link, reason);
		break;
	case SCP_ENROL:
	case SCP_APPLY:
		link_on_stranger(link, request, message);
		break;
	default:
		options->handlers->on_message(link->node, link->channel, request, message, options->arg);
	}
}

static void link_take(struct scp_link *link, const struct scp_header *header, const uint8_t *body)
{
	scp_message message;

	if (scp_body_decode(header, body, &message)) {
		link_is_malformed(link, scp_message_name(header->type));
		return;
	}
	link->scp->counters.messages_in++;
	link->scp->counters.bytes_in += SCP_HEADER_BYTES + header->length;
	link_deliver(link, header->request, &message);
	scp_message_fini(&message);
}

/* Return: bytes of the message at the front of the inbox, taken; 0: it is not complete, or not wanted */
static size_t link_take_next(struct scp_link *link, const uint8_t *bytes, size_t len)
{
	struct scp_header header;

	link->inbox.need = SCP_HEADER_BYTES;
	if (len < SCP_HEADER_BYTES)
		return 0;
	if (scp_header_decode(bytes, &header)) {
		link_is_malformed(link, "no header of a message");
		return 0;
	}
	if (!link_expects(link, header.type)) {
		if (link->state == LINK_STRANGER)
			link_refuse(link, "without a certificate of this cluster only ENROL is accepted, not %s",
				    scp_message_name(header.type));
		else
			link_is_malformed(link, scp_message_name(header.type));
		return 0;
	}
	link->inbox.need = SCP_HEADER_BYTES + header.length;
	if (len < link->inbox.need)
		return 0;
	link_take(link, &header, bytes + SCP_HEADER_BYTES);
	return SCP_HEADER_BYTES + header.length;
}

static bool link_listens(const struct scp_link *link)
{
	return link->state == LINK_GREETING || link->state == LINK_STRANGER || link->state == LINK_UP;
}

static void inbox_drop(struct scp_inbox *inbox, size_t len)
{
	inbox->len -= len;
	memmove(inbox->bytes, inbox->bytes + len, inbox->len);
	if (!inbox->len && inbox->size > INBOX_KEEP) {
		free(inbox->bytes);
		*inbox = (struct scp_inbox){ 0 };
	}
}

static void link_take_all(struct scp_link *link)
{
	struct scp_inbox *inbox = &link->inbox;
	size_t at = 0, taken = 1;

	while (taken && link_listens(link)) {
		taken = link_take_next(link, inbox->bytes + at, inbox->len - at);
		at += taken;
	}
	inbox_drop(inbox, link_listens(link) ? at : inbox->len);
}

static int inbox_make_room(struct scp_inbox *inbox)
{
	size_t need = inbox->need > INBOX_START ? inbox->need : INBOX_START;
	size_t size = inbox->size ? 2 * inbox->size : INBOX_START;
	uint8_t *bytes;

	if (inbox->len < inbox->size)
		return 0;
	if (size > need)
		size = need;
	bytes = realloc(inbox->bytes, size);
	if (!bytes)
		return -ENOMEM;
	inbox->bytes = bytes;
	inbox->size = size;
	return 0;
}

/* Return: bytes read; 0: no more now, or the link is closed */
static size_t link_read(struct scp_link *link)
{
	struct scp_inbox *inbox = &link->inbox;
	ssize_t n;

	if (inbox_make_room(inbox)) {
		scp_link_close(link, "no memory");
		return 0;
	}
	n = tls_stream_read(link->tls, inbox->bytes + inbox->len, inbox->size - inbox->len);
	if (n > 0) {
		link->heard_ms = scp_now_ms();
		inbox->len += (size_t)n;
		return (size_t)n;
	}
	if (n != -EAGAIN)
		link_has_failed(link, n);
	return 0;
}

static void on_progress(void *arg)
{
	struct scp_link *link = arg;
	size_t n, total = 0;
	bool more;

	if (link->state == LINK_HANDSHAKE && tls_stream_is_open(link->tls))
		link_authenticate(link);
	do {
		n = link_read(link);
		total += n;
		if (n)
			link_take_all(link);
		more = n && link->state != LINK_CLOSED && tls_stream_has_more(link->tls);
	} while (more && total < TURN_BYTES);
	if (more)
		tls_stream_read_later(link->tls);
}

/*
 * Beginning and end
 */

/*
 * Heartbeats go over the control session only. An idle relay session whose peer vanished, or closed it while the network
 * was away, is found by TCP's own probes: after the user time-out, or by the RST that answers one.
 */
static void socket_prepare(int fd, uint32_t silence_ms)
{
	int on = 1, idle_s = KEEPALIVE_IDLE_S, interval_s = KEEPALIVE_INTERVAL_S;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms, sizeof(silence_ms));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

int scp_link_new(struct scp *scp, int fd, const struct sockaddr *address, struct scp_line *line, struct scp_link **out)
{
	struct scp_link *link = calloc(1, sizeof(*link));
	struct tls_stream_options options = {
		.base = scp->options.base,
		.tls = scp->options.tls,
		.is_server = !line,
		.on_progress = on_progress,
		.arg = link,
	};
	int rc = -ENOMEM;

	if (!link) {
		close(fd);
		return -ENOMEM;
	}
	socket_prepare(fd, scp->options.silence_ms);
	rc = tls_stream_new(&options, fd, &link->tls);
	if (rc)
		goto fail;
	link->timer = evtimer_new(scp->options.base, on_timer, link);
	if (!link->timer) {
		rc = -ENOMEM;
		goto fail;
	}
	link->scp = scp;
	link->line = line;
	link->is_outgoing = line;
	link->is_counted = !line;
	link->channel = line ? line->channel : SCP_CONTROL;
	link->heard_ms = scp_now_ms();
	scp_address_text(address, link->address);
	scp->strangers += link->is_counted;
	TAILQ_INSERT_TAIL(&scp->links, link, entry);
	link_enter(link);
	*out = link;
	return 0;
fail:
	tls_stream_free(link->tls);
	free(link);
	return rc;
}

void scp_link_free(struct scp_link *link)
{
	TAILQ_REMOVE(&link->scp->links, link, entry);
	link_uncount(link);
	event_free(link->timer);
	tls_stream_free(link->tls);
	free(link->inbox.bytes);
	free(link);
}
