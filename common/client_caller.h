/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/client_caller.h - calls to clients, from a VIP
 *
 * For each call: where is the program? (the client's port mapper, over UDP, or TCP if that is not answered; version 2 for IPv4, rpcbind version 3 for
 * IPv6), then the call itself, each sent again until it is answered, CLIENT_CALLER_TRIES times. Every call has a socket of its
 * own, bound to the VIP and connected to the client: the kernel leaves out what others send and tells when nothing listens
 * there. The port is a reserved one if any is free: some clients take no other.
 *
 * Over UDP, if the client's program listens there, and almost every one does: nothing has to be set up and taken down.
 * If its port mapper knows no such port, it is asked for one of TCP, and the call has a connection of its own:
 *
 *	port of UDP? ------> call, 4 times --> results
 *	   |     |
 *	   |     +--none--> port of TCP? --+--> connect, call once --> results
 *	   |                               |
 *	   +--no answer--> port of TCP? ---+
 *	                   (over TCP)
 *
 * What is sent to a VIP reaches the switch, over UDP always and over TCP where the switch has made the connection,
 * whoever has those that the client has made.
 *
 * Threads: the loop's. When CLIENT_CALLER_CALLS_MAX are on their way, a call is answered with -EAGAIN before it returns.
 */
#ifndef VNAS_COMMON_CLIENT_CALLER_H
#define VNAS_COMMON_CLIENT_CALLER_H

#include "common/client_call.h"

enum {
	CLIENT_CALLER_CALLS_MAX = 256, /* at once */
	CLIENT_CALLER_FIRST_MS = 500,  /* until it is sent again; then twice as long, and so on */
	CLIENT_CALLER_TRIES = 4,       /* 7.5 s in all, for each question of a port and for the call */
	CLIENT_CALLER_STREAM_MS = 4000, /* to connect and be answered, over TCP */
};

struct client_caller;
struct event_base;

struct client_caller_counters {
	uint64_t calls, answered, resent, timed_out, refused;
};

/* @portmap_port: PORTMAP_PORT; tests have their own */
struct client_caller *client_caller_new(struct event_base *base, uint16_t portmap_port);

/* Ends all calls; nobody is answered. */
void client_caller_free(struct client_caller *caller);

/* A `call` of struct client_call_way; @arg is the client_caller. */
void client_caller_call(const struct client_call *call, const struct client_call_done *done, void *arg);

const struct client_caller_counters *client_caller_counters(const struct client_caller *caller);

/**
 * client_caller_parse_reply() - the results in an RPC reply
 * @xid:	of the call
 * @results:	out: borrows @datagram
 *
 * Return: 0; -EBADMSG if it is no reply to that call; -EPROTO if it says no; -ENOENT if there is no such program
 */
int client_caller_parse_reply(uint32_t xid, const uint8_t *datagram, size_t datagram_len, const uint8_t **results,
			      size_t *len);

/**
 * client_caller_parse_port() - the port in a port mapper's results
 *
 * Return: 0; -EBADMSG; -ENOENT if the program is not there
 */
int client_caller_parse_port(const uint8_t *results, size_t len, int is_rpcbind, uint16_t *port);

#endif
