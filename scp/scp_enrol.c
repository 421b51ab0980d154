/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The token says where the master is, proves to it that an administrator sent us (SECRET), and to us that it is the
 * right one (FINGERPRINT of the cluster's authority).
 */
#include "config.h"

#include "scp/scp_enrol.h"

#include "common/certificates.h"
#include "scp/scp.h"
#include "scp/scp_message.h"
#include "scp/tls_stream.h"

#include <errno.h>
#include <event2/event.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * Addresses
 */

/* Copy [@from, @to) as text. */
static bool text_cut(const char *from, const char *to, char *out, size_t size)
{
	size_t len = (size_t)(to - from);

	if (!len || len >= size)
		return false;
	memcpy(out, from, len);
	out[len] = '\0';
	return true;
}

static bool port_parse(const char *text, uint16_t *port)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || !number || number > UINT16_MAX)
		return false;
	*port = (uint16_t)number;
	return true;
}

int scp_address_split(const char *text, char address[static SCP_ADDRESS_MAX], uint16_t *port)
{
	const char *end = text + strlen(text), *colon = strchr(text, ':');
	const char *bracket = *text == '[' ? strchr(text, ']') : NULL;

	if (*text == '[' && !bracket)
		return -EINVAL;
	if (bracket) {
		text++;
		end = bracket;
		colon = bracket[1] ? bracket + 1 : NULL;
		if (colon && *colon != ':')
			return -EINVAL;
	} else if (colon && !strchr(colon + 1, ':')) {
		end = colon;
	} else {
		colon = NULL; /* none, or an IPv6 address without brackets */
	}
	if (!text_cut(text, end, address, SCP_ADDRESS_MAX) || (colon && !port_parse(colon + 1, port)))
		return -EINVAL;
	if (!colon)
		*port = SCP_PORT;
	return 0;
}

/* Numeric: a name server could take longer than our time. */
static int address_find(const char *address, uint16_t port, struct sockaddr_storage *out, socklen_t *len)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM };
	struct addrinfo *found;
	char service[8];

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(address, service, &hints, &found))
		return -EINVAL;
	memcpy(out, found->ai_addr, found->ai_addrlen);
	*len = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

/*
 * One question
 */

struct scp_enrolment {
	struct scp_enrolment_options options; /* its texts and question are not ours beyond the start */
	char address[SCP_ADDRESS_MAX];
	char authority[CERTIFICATES_FINGERPRINT_TEXT];
	SSL_CTX *tls;
	struct tls_stream *stream;
	struct event *timer; /* time is over; or, when it has ended, says so outside the stream's callbacks */
	bool is_asked, has_ended;
	int rc;
	char why[SCP_ENROLMENT_WHY_MAX];
	uint8_t *question; /* until it is sent */
	size_t question_len;
	uint8_t head[SCP_HEADER_BYTES], *body; /* of the answer */
	struct scp_header header;
	size_t received;
	scp_message answer;
};

static void __attribute__((format(printf, 3, 4))) end(struct scp_enrolment *enrolment, int rc, const char *format, ...)
{
	va_list args;

	if (enrolment->has_ended)
		return;
	enrolment->has_ended = true;
	enrolment->rc = rc;
	va_start(args, format);
	vsnprintf(enrolment->why, sizeof(enrolment->why), format, args);
	va_end(args);
	tls_stream_close(enrolment->stream);
	event_active(enrolment->timer, 0, 0);
}

static void end_by_stream(struct scp_enrolment *enrolment, int rc)
{
	const char *address = enrolment->address, *why = tls_stream_why(enrolment->stream);

	if (rc == -EKEYREJECTED)
		end(enrolment, rc, "the device at %s is not of the cluster that the token is for (%s); nothing was sent to it",
		    address, why);
	else if (rc == -EPROTO)
		end(enrolment, rc, "the device at %s does not speak TLS as we do: %s", address, why);
	else if (!enrolment->is_asked && rc)
		end(enrolment, rc, "can't connect to %s port %u: %s", address, enrolment->options.port, why);
	else
		end(enrolment, rc ? rc : -ECONNRESET, "%s closed the connection", address);
}

static void end_strangely(struct scp_enrolment *enrolment)
{
	end(enrolment, -EPROTO, "%s gave an answer that is not understood: is its software of another age?",
	    enrolment->address);
}

static void take_reply(struct scp_enrolment *enrolment, const scp_enrol_reply *reply)
{
	int rc = reply->result > 0 && reply->result < 4096 ? -reply->result : reply->result ? -EPROTO : 0;

	if (rc == 0)
		end(enrolment, 0, "%s", "");
	else
		end(enrolment, rc, "%s says: %s", enrolment->address, reply->reason[0] ? reply->reason : strerror(-rc));
}

static void take_answer(struct scp_enrolment *enrolment)
{
	if (scp_body_decode(&enrolment->header, enrolment->body, &enrolment->answer))
		end_strangely(enrolment);
	else if (enrolment->answer.type == SCP_REFUSE)
		end(enrolment, -EACCES, "%s says: %s", enrolment->address, enrolment->answer.scp_message_u.refuse.reason);
	else
		take_reply(enrolment, &enrolment->answer.scp_message_u.enrol_reply);
}

/* The header is there. */
static void take_header(struct scp_enrolment *enrolment)
{
	struct scp_header *header = &enrolment->header;

	if (scp_header_decode(enrolment->head, header) ||
	    (header->type != SCP_ENROL_REPLY && header->type != SCP_REFUSE)) {
		end_strangely(enrolment);
		return;
	}
	enrolment->body = malloc(header->length + 1);
	if (!enrolment->body)
		end(enrolment, -ENOMEM, "no memory");
	else if (header->length == 0)
		take_answer(enrolment);
}

static void receive(struct scp_enrolment *enrolment)
{
	while (!enrolment->has_ended) {
		size_t received = enrolment->received;
		bool is_head = received < SCP_HEADER_BYTES;
		size_t need = is_head ? SCP_HEADER_BYTES : SCP_HEADER_BYTES + (size_t)enrolment->header.length;
		uint8_t *at = is_head ? enrolment->head + received : enrolment->body + received - SCP_HEADER_BYTES;
		ssize_t n = tls_stream_read(enrolment->stream, at, need - received);

		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			end_by_stream(enrolment, (int)n);
			return;
		}
		enrolment->received += (size_t)n;
		if (enrolment->received < need)
			continue;
		if (is_head)
			take_header(enrolment);
		else
			take_answer(enrolment);
	}
}

static void ask(struct scp_enrolment *enrolment)
{
	int rc = certificates_peer_authority(tls_stream_ssl(enrolment->stream), enrolment->authority);

	if (rc == 0)
		rc = tls_stream_write(enrolment->stream, enrolment->question, enrolment->question_len);
	if (rc < 0) {
		end(enrolment, rc, "%s can't be asked: %s", enrolment->address, strerror(-rc));
		return;
	}
	enrolment->question = NULL;
	enrolment->is_asked = true;
}

static void on_progress(void *arg)
{
	struct scp_enrolment *enrolment = arg;

	if (!enrolment->is_asked && tls_stream_is_open(enrolment->stream))
		ask(enrolment);
	receive(enrolment);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct scp_enrolment *enrolment = arg;
	struct scp_enrolment_end told = { .authority = enrolment->authority, .why = enrolment->why };

	(void)fd, (void)what;
	if (!enrolment->has_ended) {
		end(enrolment, -ETIMEDOUT, "%s did not answer within %d s", enrolment->address, SCP_ENROLMENT_MS / 1000);
		return; /* and comes back */
	}
	told.rc = enrolment->rc;
	if (enrolment->answer.type == SCP_ENROL_REPLY)
		told.reply = &enrolment->answer.scp_message_u.enrol_reply;
	enrolment->options.on_end(&told, enrolment->options.arg);
}

static int connect_begin(const struct scp_enrolment_options *options)
{
	struct sockaddr_storage address = { 0 };
	socklen_t len;
	int fd, rc = address_find(options->address, options->port, &address, &len);

	if (rc < 0)
		return rc;
	fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, len) == 0 || errno == EINPROGRESS)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

static int open_stream(struct scp_enrolment *enrolment)
{
	struct tls_stream_options options = {
		.base = enrolment->options.base, .tls = enrolment->tls, .on_progress = on_progress, .arg = enrolment
	};
	int fd = connect_begin(&enrolment->options);

	return fd < 0 ? fd : tls_stream_new(&options, fd, &enrolment->stream);
}

int scp_enrolment_start(const struct scp_enrolment_options *options, struct scp_enrolment **out)
{
	struct scp_enrolment *enrolment = calloc(1, sizeof(*enrolment));
	int rc;

	if (!enrolment)
		return -ENOMEM;
	enrolment->options = *options;
	snprintf(enrolment->address, sizeof(enrolment->address), "%s", options->address);
	rc = scp_message_encode(1, options->question, &enrolment->question, &enrolment->question_len);
	if (rc == 0)
		rc = certificates_tls_enrol(options->fingerprint, &enrolment->tls);
	if (rc == 0) {
		enrolment->timer = evtimer_new(options->base, on_timer, enrolment);
		rc = enrolment->timer ? open_stream(enrolment) : -ENOMEM;
	}
	if (rc < 0) {
		scp_enrolment_free(enrolment);
		return rc;
	}
	event_add(enrolment->timer, &(struct timeval){ .tv_sec = SCP_ENROLMENT_MS / 1000 });
	*out = enrolment;
	return 0;
}

void scp_enrolment_free(struct scp_enrolment *enrolment)
{
	if (!enrolment)
		return;
	tls_stream_free(enrolment->stream);
	if (enrolment->timer)
		event_free(enrolment->timer);
	SSL_CTX_free(enrolment->tls);
	scp_message_fini(&enrolment->answer);
	if (enrolment->question) /* it may have a token's secret */
		OPENSSL_cleanse(enrolment->question, enrolment->question_len);
	free(enrolment->question);
	free(enrolment->body);
	free(enrolment);
}

/*
 * With a token: vnas1-SECRET-FINGERPRINT@ADDRESS[:PORT]
 */

enum { SECRET_TEXT = SCP_NAME_MAX + 1 };

struct token {
	char secret[SECRET_TEXT];
	char fingerprint[CERTIFICATES_FINGERPRINT_TEXT];
	char address[SCP_ADDRESS_MAX];
	uint16_t port;
};

static bool token_parse(const char *text, struct token *out)
{
	const size_t fingerprint_len = CERTIFICATES_FINGERPRINT_TEXT - 1;
	const char *at = strchr(text, '@'), *fingerprint;

	if (!at || strncmp(text, "vnas1-", 6) != 0 || (size_t)(at - text) < 6 + 2 + fingerprint_len)
		return false;
	fingerprint = at - fingerprint_len;
	if (fingerprint[-1] != '-' || strspn(fingerprint, "0123456789abcdefABCDEF") != fingerprint_len)
		return false;
	return text_cut(text + 6, fingerprint - 1, out->secret, sizeof(out->secret)) &&
	       text_cut(fingerprint, at, out->fingerprint, sizeof(out->fingerprint)) &&
	       scp_address_split(at + 1, out->address, &out->port) == 0;
}

/* An attempt to join. */
struct join {
	struct event_base *base;
	const char *pki_dir;
	char *why; /* the caller's */
	size_t why_size;
	int rc;
};

static int __attribute__((format(printf, 3, 4))) fail(struct join *join, int rc, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(join->why, join->why_size, format, args);
	va_end(args);
	return rc;
}

static void on_joined(const struct scp_enrolment_end *end, void *arg)
{
	struct join *join = arg;

	event_base_loopbreak(join->base);
	join->rc = end->rc;
	if (end->rc == 0)
		join->rc = certificates_install(join->pki_dir, end->reply->certificate, end->reply->authority);
	if (end->rc < 0)
		fail(join, end->rc, "%s", end->why);
	else if (join->rc < 0)
		fail(join, join->rc, "the certificate can't be kept in %s: %s", join->pki_dir, strerror(-join->rc));
}

static int join_ask(struct join *join, struct token *token, char *name, char *request)
{
	scp_message question = { .type = SCP_ENROL };
	struct scp_enrolment_options options = {
		.base = join->base,
		.address = token->address,
		.port = token->port,
		.fingerprint = token->fingerprint,
		.question = &question,
		.on_end = on_joined,
		.arg = join,
	};
	struct scp_enrolment *enrolment;
	int rc;

	question.scp_message_u.enrol = (scp_enrol){ .token = token->secret, .name = name, .request = request };
	rc = scp_enrolment_start(&options, &enrolment);
	if (rc == -EINVAL)
		return fail(join, rc, "the token's part after @ is not ADDRESS[:PORT] with a numeric address, or is too long");
	if (rc < 0)
		return fail(join, rc, "can't connect to %s port %u: %s", token->address, token->port, strerror(-rc));
	event_base_dispatch(join->base);
	scp_enrolment_free(enrolment);
	return join->rc;
}

static int join_run(struct join *join, struct token *token, const char *name)
{
	char request[CERTIFICATES_PEM_MAX], host[SCP_NAME_MAX + 1];
	int rc = certificates_request(join->pki_dir, request);

	if (rc)
		return fail(join, rc, "no key can be made in %s: %s", join->pki_dir, strerror(-rc));
	snprintf(host, sizeof(host), "%s", name);
	join->base = event_base_new();
	if (!join->base)
		return fail(join, -ENOMEM, "no memory");
	rc = join_ask(join, token, host, request);
	event_base_free(join->base);
	return rc;
}

int scp_join(const char *token, const char *pki_dir, const char *name, char *why, size_t why_size)
{
	struct join join = { .pki_dir = pki_dir, .why = why, .why_size = why_size };
	struct token parsed;
	int rc;

	signal(SIGPIPE, SIG_IGN); /* as in scp_new() */
	if (!token_parse(token, &parsed))
		return fail(&join, -EINVAL,
			    "the token is not vnas1-SECRET-FINGERPRINT@ADDRESS[:PORT]: was it copied whole?");
	rc = join_run(&join, &parsed, name);
	OPENSSL_cleanse(&parsed, sizeof(parsed));
	return rc;
}
