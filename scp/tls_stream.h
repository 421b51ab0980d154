/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * scp/tls_stream.h - a TLS connection on a non-blocking socket in an event loop
 *
 * Shakes hands, gives received bytes, takes bytes to send. Knows nothing of messages (scp/scp_link.c).
 *
 * Ownership: the stream owns its socket and what waits to be sent.
 * Threads: the control loop's. on_progress is called from the loop only, never from within the functions below.
 */
#ifndef VNAS_SCP_TLS_STREAM_H
#define VNAS_SCP_TLS_STREAM_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct event_base;
struct tls_stream;

struct tls_stream_options {
	struct event_base *base;
	SSL_CTX *tls;
	bool is_server;
	/* The handshake is done, there may be bytes to read, or the stream has failed: tls_stream_read() tells. */
	void (*on_progress)(void *arg);
	void *arg;
};

/**
 * tls_stream_new() - speak TLS on a socket
 * @fd:		non-blocking, connected or being connected; taken, also on failure
 *
 * Return: 0; -ENOMEM
 */
int tls_stream_new(const struct tls_stream_options *options, int fd, struct tls_stream **out);

/* At once, dropping what is queued. Nothing happens afterwards. May be called twice. */
void tls_stream_close(struct tls_stream *stream);

/* Not from on_progress. */
void tls_stream_free(struct tls_stream *stream);

/* Is the handshake done? */
bool tls_stream_is_open(const struct tls_stream *stream);

/* For certificates_peer(). */
const SSL *tls_stream_ssl(const struct tls_stream *stream);

/**
 * tls_stream_read() - take received bytes
 *
 * Return: how many; 0: the peer closed; -EAGAIN: none now, on_progress will be called; -EKEYREJECTED: one end did not
 * accept the other's certificate; -EPROTO: the peer does not speak TLS 1.3; or what the socket said. See
 * tls_stream_why()
 */
ssize_t tls_stream_read(struct tls_stream *stream, void *buffer, size_t size);

/* Were bytes received that were not taken yet? If not, the loop says when some come. Part of a record counts. */
bool tls_stream_has_more(const struct tls_stream *stream);

/* The reason of the failure in words. */
const char *tls_stream_why(const struct tls_stream *stream);

/* Call on_progress again soon though nothing may arrive: the reader stopped while there was more. */
void tls_stream_read_later(struct tls_stream *stream);

/**
 * tls_stream_write() - send bytes: at once what the socket takes, the rest when it can
 * @bytes:	taken if 0 is returned, then freed with free()
 *
 * Return: 0; -ENOTCONN if the stream has failed or is not open; -ENOMEM
 */
int tls_stream_write(struct tls_stream *stream, uint8_t *bytes, size_t len);

/* Bytes that wait to be sent. */
size_t tls_stream_queued(const struct tls_stream *stream);

/* Nothing more will be written: the peer reads what is queued, then the end. Reading goes on. */
void tls_stream_finish(struct tls_stream *stream);

#endif
