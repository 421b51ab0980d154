/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Joining a cluster, from the side of the device that joins: one question, one answer, blocking.
 *
 * The token says where the master is, proves to it that an administrator sent us (SECRET), and to us that it is the
 * right one (FINGERPRINT of the cluster's authority).
 */
#include "config.h"

#include "scp/scp.h"

#include "common/certificates.h"
#include "scp/scp_message.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { JOIN_MS = 10000, ADDRESS_TEXT = 64, SECRET_TEXT = SCP_NAME_MAX + 1 };

struct token {
	char secret[SECRET_TEXT];
	char fingerprint[CERTIFICATES_FINGERPRINT_TEXT];
	char address[ADDRESS_TEXT];
	char port[8];
};

/* An attempt to join. */
struct join {
	struct token token;
	uint64_t until_ms; /* monotonic */
	int fd;
	SSL_CTX *tls;
	SSL *ssl;
	char *why; /* the caller's */
	size_t why_size;
};

static int __attribute__((format(printf, 3, 4))) fail(struct join *join, int rc, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(join->why, join->why_size, format, args);
	va_end(args);
	return rc;
}

/*
 * The token: vnas1-SECRET-FINGERPRINT@ADDRESS[:PORT], an IPv6 address with a port in brackets
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

static bool address_split(const char *text, struct token *out)
{
	const char *end = text + strlen(text), *colon = strchr(text, ':');

	if (*text == '[') {
		const char *bracket = strchr(text, ']');

		if (!bracket || !text_cut(text + 1, bracket, out->address, sizeof(out->address)))
			return false;
		if (!bracket[1])
			return true;
		return bracket[1] == ':' && text_cut(bracket + 2, end, out->port, sizeof(out->port));
	}
	if (!colon || strchr(colon + 1, ':')) /* none, or an IPv6 address without brackets */
		return text_cut(text, end, out->address, sizeof(out->address));
	return text_cut(text, colon, out->address, sizeof(out->address)) &&
	       text_cut(colon + 1, end, out->port, sizeof(out->port));
}

static bool token_parse(const char *text, struct token *out)
{
	const size_t fingerprint_len = CERTIFICATES_FINGERPRINT_TEXT - 1;
	const char *at = strchr(text, '@'), *fingerprint;

	if (!at || strncmp(text, "vnas1-", 6) != 0 || (size_t)(at - text) < 6 + 2 + fingerprint_len)
		return false;
	fingerprint = at - fingerprint_len;
	if (fingerprint[-1] != '-' || strspn(fingerprint, "0123456789abcdefABCDEF") != fingerprint_len)
		return false;
	snprintf(out->port, sizeof(out->port), "%d", SCP_PORT);
	return text_cut(text + 6, fingerprint - 1, out->secret, sizeof(out->secret)) &&
	       text_cut(fingerprint, at, out->fingerprint, sizeof(out->fingerprint)) && address_split(at + 1, out);
}

/*
 * Connecting and TLS, within the time
 */

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int wait_for(struct join *join, short events)
{
	struct pollfd poller = { .fd = join->fd, .events = events };
	uint64_t now = now_ms();
	int n = now < join->until_ms ? poll(&poller, 1, (int)(join->until_ms - now)) : 0;

	if (n < 0 && errno != EINTR)
		return fail(join, -errno, "poll failed: %s", strerror(errno));
	if (n == 0)
		return fail(join, -ETIMEDOUT, "%s did not answer within %d s", join->token.address, JOIN_MS / 1000);
	return 0;
}

static int socket_error(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	return -error;
}

static int connect_to(struct join *join, const struct addrinfo *to)
{
	int rc = 0;

	join->fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (join->fd < 0)
		return fail(join, -errno, "no socket: %s", strerror(errno));
	if (connect(join->fd, to->ai_addr, to->ai_addrlen) < 0)
		rc = -errno;
	if (rc == -EINPROGRESS) {
		rc = wait_for(join, POLLOUT);
		if (rc)
			return rc;
		rc = socket_error(join->fd);
	}
	if (rc)
		return fail(join, rc, "can't connect to %s port %s: %s", join->token.address, join->token.port,
			    strerror(-rc));
	return 0;
}

/* Numeric, as nasctl prints it: a name server could take longer than our time. */
static int join_connect(struct join *join)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM };
	struct addrinfo *found;
	int rc;

	if (getaddrinfo(join->token.address, join->token.port, &hints, &found))
		return fail(join, -EINVAL, "the token's part after @ is not ADDRESS[:PORT] with a numeric address");
	rc = connect_to(join, found);
	freeaddrinfo(found);
	return rc;
}

static int tls_failed(struct join *join)
{
	unsigned long error = ERR_peek_error();
	const char *why = ERR_reason_error_string(error);

	if (SSL_get_verify_result(join->ssl) != X509_V_OK)
		return fail(join, -EKEYREJECTED,
			    "the device at %s is not of the cluster that the token is for (%s); nothing was sent to it",
			    join->token.address, X509_verify_cert_error_string(SSL_get_verify_result(join->ssl)));
	return fail(join, -EPROTO, "the device at %s does not speak TLS as we do: %s", join->token.address,
		    why ? why : "closed the connection");
}

/* After an SSL_ function returned @rc <= 0: wait until it can go on. */
static int tls_wait(struct join *join, int rc)
{
	switch (SSL_get_error(join->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		return wait_for(join, POLLIN);
	case SSL_ERROR_WANT_WRITE:
		return wait_for(join, POLLOUT);
	case SSL_ERROR_SYSCALL:
	case SSL_ERROR_ZERO_RETURN:
		return fail(join, -ECONNRESET, "%s closed the connection", join->token.address);
	default:
		return tls_failed(join);
	}
}

static int join_handshake(struct join *join)
{
	int done, rc;

	rc = certificates_tls_enrol(join->token.fingerprint, &join->tls);
	if (rc)
		return fail(join, rc, "TLS can't be set up: %s", strerror(-rc));
	join->ssl = SSL_new(join->tls);
	if (!join->ssl || !SSL_set_fd(join->ssl, join->fd))
		return fail(join, -ENOMEM, "no memory for TLS");
	ERR_clear_error();
	while ((done = SSL_connect(join->ssl)) != 1) {
		rc = tls_wait(join, done);
		if (rc)
			return rc;
		ERR_clear_error();
	}
	return 0;
}

static int send_all(struct join *join, const uint8_t *bytes, size_t len)
{
	size_t n;
	int done, rc;

	ERR_clear_error();
	while ((done = SSL_write_ex(join->ssl, bytes, len, &n)) != 1) {
		rc = tls_wait(join, done);
		if (rc)
			return rc;
		ERR_clear_error();
	}
	return 0; /* without SSL_MODE_ENABLE_PARTIAL_WRITE it is all or nothing */
}

static int receive_all(struct join *join, uint8_t *bytes, size_t len)
{
	while (len) {
		size_t n = 0;
		int done, rc;

		ERR_clear_error();
		done = SSL_read_ex(join->ssl, bytes, len, &n);
		if (done != 1) {
			rc = tls_wait(join, done);
			if (rc)
				return rc;
		}
		bytes += n;
		len -= n;
	}
	return 0;
}

/*
 * The question and the answer
 */

static int join_ask(struct join *join, char *name, char *request)
{
	scp_message message = { .type = SCP_ENROL };
	uint8_t *bytes;
	size_t len;
	int rc;

	message.scp_message_u.enrol = (scp_enrol){ .token = join->token.secret, .name = name, .request = request };
	rc = scp_message_encode(1, &message, &bytes, &len);
	if (rc)
		return fail(join, rc, "host name or token is too long");
	rc = send_all(join, bytes, len);
	free(bytes);
	return rc;
}

static int strange_answer(struct join *join)
{
	return fail(join, -EPROTO, "%s gave an answer that is not understood: is its software of another age?",
		    join->token.address);
}

static int join_receive(struct join *join, scp_message *out)
{
	uint8_t head[SCP_HEADER_BYTES], *body;
	struct scp_header header;
	int rc;

	rc = receive_all(join, head, sizeof(head));
	if (rc)
		return rc;
	if (scp_header_decode(head, &header) || (header.type != SCP_ENROL_REPLY && header.type != SCP_REFUSE))
		return strange_answer(join);
	body = malloc(header.length + 1);
	if (!body)
		return fail(join, -ENOMEM, "no memory");
	rc = receive_all(join, body, header.length);
	if (!rc && scp_body_decode(&header, body, out))
		rc = strange_answer(join);
	free(body);
	return rc;
}

static int join_accept(struct join *join, const char *pki_dir, const scp_message *answer)
{
	const scp_enrol_reply *reply = &answer->scp_message_u.enrol_reply;
	int rc;

	if (answer->type == SCP_REFUSE)
		return fail(join, -EACCES, "%s says: %s", join->token.address, answer->scp_message_u.refuse.reason);
	if (reply->result)
		return fail(join, reply->result > 0 && reply->result < 4096 ? -reply->result : -EPROTO, "%s says: %s",
			    join->token.address, reply->reason[0] ? reply->reason : strerror(reply->result));
	rc = certificates_install(pki_dir, reply->certificate, reply->authority);
	if (rc)
		return fail(join, rc, "the certificate from %s can't be kept in %s: %s", join->token.address, pki_dir,
			    strerror(-rc));
	return 0;
}

static int join_run(struct join *join, const char *pki_dir, const char *name)
{
	char request[CERTIFICATES_PEM_MAX], host[SCP_NAME_MAX + 1];
	scp_message answer = { 0 };
	int rc;

	rc = certificates_request(pki_dir, request);
	if (rc)
		return fail(join, rc, "no key can be made in %s: %s", pki_dir, strerror(-rc));
	snprintf(host, sizeof(host), "%s", name);
	rc = join_connect(join);
	if (!rc)
		rc = join_handshake(join);
	if (!rc)
		rc = join_ask(join, host, request);
	if (!rc)
		rc = join_receive(join, &answer);
	if (rc)
		return rc;
	rc = join_accept(join, pki_dir, &answer);
	scp_message_fini(&answer);
	return rc;
}

int scp_join(const char *token, const char *pki_dir, const char *name, char *why, size_t why_size)
{
	struct join join = { .fd = -1, .until_ms = now_ms() + JOIN_MS, .why = why, .why_size = why_size };
	int rc;

	signal(SIGPIPE, SIG_IGN); /* as in scp_new() */
	if (!token_parse(token, &join.token))
		return fail(&join, -EINVAL,
			    "the token is not vnas1-SECRET-FINGERPRINT@ADDRESS[:PORT]: was it copied whole?");
	rc = join_run(&join, pki_dir, name);
	SSL_free(join.ssl);
	SSL_CTX_free(join.tls);
	if (join.fd >= 0)
		close(join.fd);
	ERR_clear_error();
	OPENSSL_cleanse(&join.token, sizeof(join.token));
	return rc;
}
