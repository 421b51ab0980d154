/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "scp/tls_stream.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	WHY_MAX = 160,
	COPY_MAX = 4096,
	DRAIN_MAX = 64,
	RECORD_MAX = 16384, /* plain bytes in a TLS record, RFC 8446, 5.1 */
	READ_AHEAD = 4 * (RECORD_MAX + 256), /* with their headers; what a bulk of records comes in */
};

struct tls_stream {
	struct tls_stream_options options;
	SSL *ssl;
	int fd;			/* -1: closed */
	bool open;		/* the handshake is done */
	bool finishing;		/* nothing more to write but what is queued */
	bool finished;		/* the peer was told so */
	int error;		/* negative errno: the stream has failed */
	char why[WHY_MAX];
	struct event *readable, *writable;
	struct event *later;	/* a timer: goes through the loop's poll, so that other sockets get their turn */
	struct evbuffer *out;
};

static const struct timeval at_once = { 0 };

static void fail(struct tls_stream *stream, int error, const char *why)
{
	if (stream->error)
		return;
	stream->error = error;
	snprintf(stream->why, sizeof(stream->why), "%s", why);
	event_del(stream->readable);
	event_del(stream->writable);
	evtimer_add(stream->later, &at_once);
}

/* Is it a complaint about a certificate, theirs or (an alert that came in) ours? */
static bool is_about_certificates(int reason)
{
	switch (reason) {
	case SSL_R_CERTIFICATE_VERIFY_FAILED:
	case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
	case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
	case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
	case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
		return true;
	default:
		return false;
	}
}

static void fail_by_tls(struct tls_stream *stream)
{
	unsigned long error = ERR_peek_error();
	int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
	const char *text = ERR_reason_error_string(error);

	if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		fail(stream, -ECONNRESET, "closed by the peer");
	else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
		fail(stream, -EKEYREJECTED, X509_verify_cert_error_string(SSL_get_verify_result(stream->ssl)));
	else
		fail(stream, is_about_certificates(reason) ? -EKEYREJECTED : -EPROTO, text ? text : "TLS failed");
}

/* What SSL_ERROR_SYSCALL means depends on errno, which 0 leaves at "end of file". */
static void fail_by_socket(struct tls_stream *stream, int error)
{
	fail(stream, error ? -error : -ECONNRESET, error ? strerror(error) : "closed by the peer");
}

/*
 * After an SSL_ function returned @rc <= 0: arrange to be called when it can go on, or fail. @error: errno after it.
 *
 * Return: -EAGAIN; 0: the peer closed in order; or the stream's error
 */
static int go_on(struct tls_stream *stream, int rc, int error)
{
	switch (SSL_get_error(stream->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		return -EAGAIN; /* `readable` is persistent */
	case SSL_ERROR_WANT_WRITE:
		event_add(stream->writable, NULL);
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		fail_by_socket(stream, error);
		break;
	default:
		fail_by_tls(stream);
	}
	ERR_clear_error();
	return stream->error;
}

static void handshake(struct tls_stream *stream)
{
	int rc;

	ERR_clear_error();
	errno = 0;
	rc = SSL_do_handshake(stream->ssl);
	if (rc == 1)
		stream->open = true;
	else if (go_on(stream, rc, errno) == 0)
		fail_by_socket(stream, 0);
}

/* Return: bytes written; -EAGAIN; another error, and the stream has failed */
static ssize_t write_some(struct tls_stream *stream, const void *bytes, size_t len)
{
	size_t written;
	int rc;

	ERR_clear_error();
	errno = 0;
	rc = SSL_write_ex(stream->ssl, bytes, len, &written);
	if (rc == 1)
		return (ssize_t)written;
	rc = go_on(stream, rc, errno);
	if (rc == 0) { /* a write never ends in order */
		fail_by_socket(stream, 0);
		return stream->error;
	}
	return rc;
}

static void say_goodbye(struct tls_stream *stream)
{
	if (stream->finished)
		return;
	stream->finished = true;
	if (stream->open && !stream->error)
		SSL_shutdown(stream->ssl);
	ERR_clear_error();
	shutdown(stream->fd, SHUT_WR);
}

static void flush(struct tls_stream *stream)
{
	while (!stream->error && evbuffer_get_length(stream->out)) {
		size_t left = evbuffer_get_length(stream->out);
		struct evbuffer_iovec part;
		ssize_t n;

		/*
		 * A record that OpenSSL could not write whole must be offered again at least as long ("bad length"),
		 * and the queue may have split it into pieces.
		 */
		if (!evbuffer_pullup(stream->out, (ev_ssize_t)(left < RECORD_MAX ? left : RECORD_MAX))) {
			fail(stream, -ENOMEM, "no memory");
			return;
		}
		evbuffer_peek(stream->out, -1, NULL, &part, 1);
		n = write_some(stream, part.iov_base, part.iov_len);
		if (n < 0)
			return;
		evbuffer_drain(stream->out, (size_t)n);
	}
	if (stream->finishing)
		say_goodbye(stream);
}

static void step(evutil_socket_t fd, short what, void *arg)
{
	struct tls_stream *stream = arg;

	(void)fd;
	(void)what;
	if (!stream->error && !stream->open)
		handshake(stream);
	if (stream->open)
		flush(stream);
	if (stream->open || stream->error)
		stream->options.on_progress(stream->options.arg);
}

static bool has_events(const struct tls_stream *stream)
{
	return stream->readable && stream->writable && stream->later && stream->out;
}

int tls_stream_new(const struct tls_stream_options *options, int fd, struct tls_stream **out)
{
	struct tls_stream *stream = calloc(1, sizeof(*stream));

	if (!stream) {
		close(fd);
		return -ENOMEM;
	}
	stream->options = *options;
	stream->fd = fd;
	stream->ssl = SSL_new(options->tls);
	stream->readable = event_new(options->base, fd, EV_READ | EV_PERSIST, step, stream);
	stream->writable = event_new(options->base, fd, EV_WRITE, step, stream);
	stream->later = evtimer_new(options->base, step, stream);
	stream->out = evbuffer_new();
	if (!stream->ssl || !has_events(stream) || !SSL_set_fd(stream->ssl, fd)) {
		tls_stream_free(stream);
		return -ENOMEM;
	}
	/* What could not be written is tried again from the queue, at another address. */
	SSL_set_mode(stream->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* Else each record takes two calls: its header, then the rest. */
	SSL_set_read_ahead(stream->ssl, 1);
	SSL_set_default_read_buffer_len(stream->ssl, READ_AHEAD);
	if (options->is_server)
		SSL_set_accept_state(stream->ssl);
	else
		SSL_set_connect_state(stream->ssl);
	event_add(stream->readable, NULL);
	event_add(stream->writable, NULL); /* starts the handshake */
	*out = stream;
	return 0;
}

void tls_stream_finish(struct tls_stream *stream)
{
	stream->finishing = true;
	if (stream->fd >= 0 && !evbuffer_get_length(stream->out))
		say_goodbye(stream);
}

/* A socket closed with bytes unread sends RST, which may overtake what the peer was to read last. */
static void drain(int fd)
{
	char waste[4096];

	for (int i = 0; i < DRAIN_MAX && recv(fd, waste, sizeof(waste), MSG_DONTWAIT) > 0; i++)
		;
}

void tls_stream_close(struct tls_stream *stream)
{
	if (stream->fd < 0)
		return;
	say_goodbye(stream);
	event_del(stream->readable);
	event_del(stream->writable);
	event_del(stream->later);
	drain(stream->fd);
	close(stream->fd);
	stream->fd = -1;
	if (!stream->error)
		stream->error = -ENOTCONN;
}

void tls_stream_free(struct tls_stream *stream)
{
	if (!stream)
		return;
	if (has_events(stream) && stream->ssl)
		tls_stream_close(stream);
	if (stream->readable)
		event_free(stream->readable);
	if (stream->writable)
		event_free(stream->writable);
	if (stream->later)
		event_free(stream->later);
	if (stream->out)
		evbuffer_free(stream->out);
	SSL_free(stream->ssl);
	if (stream->fd >= 0)
		close(stream->fd);
	free(stream);
}

bool tls_stream_is_open(const struct tls_stream *stream)
{
	return stream->open;
}

const SSL *tls_stream_ssl(const struct tls_stream *stream)
{
	return stream->ssl;
}

ssize_t tls_stream_read(struct tls_stream *stream, void *buffer, size_t size)
{
	size_t n;
	int rc;

	if (stream->error)
		return stream->error;
	ERR_clear_error();
	errno = 0;
	rc = SSL_read_ex(stream->ssl, buffer, size, &n);
	if (rc == 1)
		return (ssize_t)n;
	rc = go_on(stream, rc, errno);
	if (rc == 0)
		snprintf(stream->why, sizeof(stream->why), "closed by the peer");
	return rc;
}

bool tls_stream_has_more(const struct tls_stream *stream)
{
	return !stream->error && SSL_has_pending(stream->ssl);
}

const char *tls_stream_why(const struct tls_stream *stream)
{
	return stream->why;
}

void tls_stream_read_later(struct tls_stream *stream)
{
	if (!stream->error)
		evtimer_add(stream->later, &at_once);
}

static void free_bytes(const void *bytes, size_t len, void *arg)
{
	(void)bytes; /* only a part of the allocation */
	(void)len;
	free(arg);
}

/* Small messages are copied: together they make fewer and fuller TLS records. */
static int queue(struct tls_stream *stream, uint8_t *bytes, size_t from, size_t len)
{
	if (len - from > COPY_MAX)
		return evbuffer_add_reference(stream->out, bytes + from, len - from, free_bytes, bytes) ? -ENOMEM : 0;
	if (evbuffer_add(stream->out, bytes + from, len - from))
		return -ENOMEM;
	free(bytes);
	return 0;
}

int tls_stream_write(struct tls_stream *stream, uint8_t *bytes, size_t len)
{
	size_t done = 0;
	int rc;

	if (!stream->open || stream->error || stream->finishing)
		return -ENOTCONN;
	while (!evbuffer_get_length(stream->out) && done < len) {
		ssize_t n = write_some(stream, bytes + done, len - done);

		if (n == -EAGAIN)
			break;
		if (n < 0)
			return -ENOTCONN;
		done += (size_t)n;
	}
	rc = queue(stream, bytes, done, len);
	if (rc && done)
		fail(stream, rc, "no memory"); /* the peer has half a message */
	return rc;
}

size_t tls_stream_queued(const struct tls_stream *stream)
{
	return evbuffer_get_length(stream->out);
}
