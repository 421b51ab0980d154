/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/rpc.h - ONC RPC calls and replies (RFC 5531)
 *
 * A call arrives as one whole record (common/record.h cuts it out of a stream, common/udp.c takes a datagram, a relay
 * gets it from another device), is parsed, goes to its program, and is answered now or later. Knows nothing of sockets
 * and nothing of what a procedure does.
 *
 * Ownership: the transport makes the call and borrows it to rpc_dispatch() until `done` is called, exactly once, perhaps
 * before rpc_dispatch() returns. `record` stays valid until
 * rpc_dispatch() returns, or longer after rpc_call_keep(). The reply belongs to the call; rpc_call_fini()
 * frees it.
 * Threads: a call is used by one thread at a time. Whoever answers it may be on another than the transport: `done` is called
 * in the call's home, the loop in which it was dispatched first.
 */
#ifndef VNAS_COMMON_RPC_H
#define VNAS_COMMON_RPC_H

#include "common/backend.h"
#include "common/bytes.h"
#include "common/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
	RPC_DATA_MAX = 1024 * 1024,		  /* payload of one READ or WRITE */
	RPC_RECORD_MAX = RPC_DATA_MAX + 4096,	  /* a call or a reply without its record mark */
	RPC_REPLY_HEADROOM = 4,			  /* in front of every reply, for the record mark */
};

enum rpc_transport { RPC_TCP, RPC_UDP, RPC_RELAYED };

/* RFC 5531, 8.2 */
enum rpc_flavor { RPC_AUTH_NONE = 0, RPC_AUTH_SYS = 1 };

/* What a reply says before its results; RFC 5531, 9. */
enum rpc_accept {
	RPC_ACCEPT_SUCCESS,
	RPC_ACCEPT_PROG_UNAVAIL,
	RPC_ACCEPT_PROG_MISMATCH,
	RPC_ACCEPT_PROC_UNAVAIL,
	RPC_ACCEPT_GARBAGE_ARGS,
	RPC_ACCEPT_SYSTEM_ERR,
};

struct rpc_call {
	/* Filled by the transport. */
	const uint8_t *record; /* the call message, without record mark */
	size_t record_len;
	enum rpc_transport transport;
	bool may_be_repeated; /* over a connection that is new, or here again: another device may have had it */
	bool takes_pages; /* a part of the reply may be in a pipe: common/page_pipe.h */
	struct sockaddr_storage client; /* who called; for a relayed call the client itself, not the device between */
	struct sockaddr_storage server; /* the address it was sent to */
	void (*done)(struct rpc_call *call); /* a reply is there; or reply_len is 0: answer nothing */
	uint8_t *(*give_record)(struct rpc_call *call); /* the memory that `record` is in, to be freed; or NULL */
	void *transport_state;
	bool is_passing; /* true: rpc_pass_on() waits for rpc_send_on() */

	/* Filled by rpc_dispatch(). */
	struct loop *home; /* or NULL: there are no others */
	uint32_t xid, program, version, procedure;
	enum rpc_flavor flavor;
	struct credentials who; /* as the client says, before squashing; AUTH_NONE: 65534 */
	struct bytes_reader args;

	struct group_set *group_set; /* what `who` borrows after squashing, or NULL; put by rpc_call_fini() */
	uint8_t *kept; /* the record's memory after rpc_call_keep() */

	/* The reply: RPC_REPLY_HEADROOM bytes of room, then reply_len bytes of message, then what is in `pages`. */
	uint8_t *reply;
	size_t reply_room; /* bytes at `reply`; kept for the next call if the transport uses the struct again */
	size_t reply_len;
	struct page_pipe *pages; /* of a transport that says it takes_pages; XDR's padding follows them; or NULL */

	/* For the program: called when there is a reply, or is none, before `done`, by who answers and on that thread. */
	void (*on_reply)(struct rpc_call *call, void *arg);
	void *on_reply_arg;
	struct rpc_call *next_duplicate; /* waits for the same answer */

	/* What the call was about, for the placement of its session; filled by the program. */
	uint32_t volume;      /* 0: the virtual root or none */
	uint32_t data_bytes;  /* bytes of file data read or written */
	uint32_t reply_bytes; /* of data or entries that were asked for: what is outstanding is limited by it */
	bool has_waited;      /* for its class (common/priorities.h); the program's */
	uint64_t since_us;    /* when the program first saw it, on the monotonic clock; the program's */
	bool moved_data;      /* READ, WRITE or COMMIT: such work may move a session, metadata never */

	/* This module's. */
	struct letter letter;
	struct rpc_server *passed_to;
};

struct rpc_program {
	uint32_t number, version_low, version_high;
	const char *name;
	uint32_t long_answers; /* bit N: an answer of procedure N may be as long as RPC_RECORD_MAX; else it is short */
	/* Answers @call, now or later, through the functions below. */
	void (*dispatch)(const struct rpc_program *program, struct rpc_call *call);
	void *state; /* the program's own */
};

/* The programs of this device, as one of its loops answers them; the last has number 0. */
struct rpc_server {
	const struct rpc_program *programs;
	struct loop *loop; /* where they are dispatched; NULL: there is no other */
};

/**
 * rpc_dispatch() - parse a call and have it answered
 * @server:	borrowed until the call is done
 * @call:	filled by the transport, the rest zero
 *
 * Unknown programs, versions (RPC_ACCEPT_PROG_MISMATCH with the range) and bad credentials are answered here. A message that
 * is no call at all is not answered: `done` is called with reply_len 0, and a stream transport closes.
 */
void rpc_dispatch(struct rpc_server *server, struct rpc_call *call);

/**
 * rpc_pass_on() - have a call answered in another loop, from the beginning
 * @to:	whose loop it is
 *
 * For a program's `dispatch`, or later. While the transport has set `is_passing`, the call stays its own until it says
 * rpc_send_on(). Without memory to keep the record (rpc_call_keep()) it is not answered.
 */
void rpc_pass_on(struct rpc_call *call, struct rpc_server *to);

/* The transport has done with the call what is to be done after rpc_dispatch(). */
void rpc_send_on(struct rpc_call *call);

/* May the call whose record begins with these bytes have a long answer? Looks at nothing else. */
bool rpc_answers_long(const struct rpc_server *server, const uint8_t *record, size_t len);

/**
 * rpc_reply_begin() - start the reply of a successful call
 * @results_max:	room for the results, bytes
 * @out:	out: a writer at the start of the results
 *
 * Return: 0; -ENOMEM (the call was then answered RPC_ACCEPT_SYSTEM_ERR and is done)
 */
int rpc_reply_begin(struct rpc_call *call, size_t results_max, struct bytes_writer *out);

/* The results are written: send them. A failed writer becomes RPC_ACCEPT_SYSTEM_ERR (our bug). */
void rpc_reply_end(struct rpc_call *call, const struct bytes_writer *out);

/* Answer with an accept status other than success. @low, @high: for RPC_ACCEPT_PROG_MISMATCH, else 0. */
void rpc_reply_error(struct rpc_call *call, enum rpc_accept status, uint32_t low, uint32_t high);

/* Answer with a reply message made elsewhere (a relay's), copied. */
void rpc_reply_whole(struct rpc_call *call, const void *message, size_t len);

/* The same in two steps: copy it, under whose lock it may be, and then answer with what was copied, or could not be. */
void rpc_reply_copy(struct rpc_call *call, const void *message, size_t len);
void rpc_reply_copied(struct rpc_call *call);

/* Do not answer at all; a stream transport closes its connection so that the client tries again. */
void rpc_reply_nothing(struct rpc_call *call);

/**
 * rpc_call_keep() - copy the record, which a stream transport takes back when rpc_dispatch() returns
 *
 * For a call that is answered later and still needs its record or arguments: `record` and `args` point into the copy
 * afterwards. A transport that has the record in memory of its own gives that away instead (`give_record`): a long WRITE
 * is not copied. Does nothing the second time. Return: 0; -ENOMEM
 */
int rpc_call_keep(struct rpc_call *call);

/* Free what rpc_call_keep() kept, of a call that is answered: its answer may wait for long. */
void rpc_call_drop(struct rpc_call *call);

void rpc_call_fini(struct rpc_call *call);

#endif
