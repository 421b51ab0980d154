/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/tch.h - Transport Connection Handoff: how a TCP server's sessions move between devices
 *
 * This is the page for the author of a server. A session is a client's connection with all that is needed to go on with it on
 * another device: what the kernel knows (read and restored here, by common/kernel_helper.h), the bytes that are on their way
 * through the server, and what the server itself knows of it. The client notices nothing.
 *
 * The server gives two tables of functions: about its sessions (struct tch_server), and about the devices (struct
 * tch_network). It says what has happened by the functions under "Events". And it handles handoffs by functions with the names
 * of the source's socket options, and their meaning:
 *
 *	SO_HND		tch_so_hnd()		a device gets ready for a session, or need not any more
 *	SO_SET		tch_so_set()		hand it off, now
 *	SO_TIMER	tch_so_timer()		the connection's timers, which move with it
 *	SO_STATE	tch_so_state()		how a session's handoff stands; what else moves: struct tch_facts
 *	SO_IPTOS	tch_so_iptos()		the type of service of its packets, which moves with it
 *	SO_TERMINATE	tch_so_terminate()	end the client's session
 *
 * docs/examples/echo_server.c is a whole server with all of this; our own is slave/slave.c with common/conn_moves.h.
 * Behind it: common/tch_machine.h decides, common/tch_options.h has the bytes. Also kept here: the flows that this device
 * still relays after it gave them away, and asking the switch until it has confirmed the change of owner.
 *
 * Knows no role, nor what the bytes mean.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_TCH_H
#define VNAS_COMMON_TCH_H

#include "common/flow.h"
#include "common/kernel_helper.h"
#include "common/tcp_statistics.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct loops;
struct tch;

enum {
	TCH_GRACE_MS = 5000, /* so long late packets of a flow that was given away are relayed */
	TCH_ASK_MS = 1000,   /* between questions to the switch */
	/*
	 * Longest wait for kernel_helper_is_settled(). A restored socket sends the last lost packet again after 1 s and the
	 * others 3 s later; if it were moved sooner, they would begin to wait anew.
	 */
	TCH_SETTLE_MS = 8000,
	TCH_CANDIDATES_MAX = 4,	   /* devices that are ready for one session */
	TCH_PREDICTION_MS = 10000, /* unless tch_so_hnd() says it again, a device need not be ready any more */
	TCH_OPTIONS_MAX = 4096,
	TCH_ITEMS_MAX = 3072,
};

/* What is handed off: all of the connection, or first one half of it (Fig. 7 and 8). Numbers are those of the wire (option half). */
enum tch_kind_of_handoff {
	TCH_FULL = 0,
	TCH_HALF_TO_DEVICES = 1, /* the second device receives; the first one sends what it has to send */
	TCH_HALF_TO_CLIENT = 2,	 /* the second device sends; the first one receives, and acknowledges through it */
	TCH_NKINDS
};

/*
 * What a device can do in a handoff. The first one says it in Open, the second one in Open Response what it can of that; only this
 * is done. Bits of the wire (option capabilities); those that a device does not know are nothing to it.
 */
enum tch_capability {
	TCH_CAN_FULL = 1 << TCH_FULL,
	TCH_CAN_HALF_TO_DEVICES = 1 << TCH_HALF_TO_DEVICES,
	TCH_CAN_HALF_TO_CLIENT = 1 << TCH_HALF_TO_CLIENT,
	TCH_CAN_PREPARE = 1 << 3,
	TCH_CAN_STATISTICS = 1 << 4,	    /* a session that moved is counted once */
	TCH_CAN_CONGESTION = 1 << 5,	    /* the congestion window is restored */
	TCH_CAN_TELL_COMPLETED = 1 << 6, /* an Acknowledgment says by END whether it is that of Complete */
	TCH_CAN_HALVES = TCH_CAN_HALF_TO_DEVICES | TCH_CAN_HALF_TO_CLIENT,
	/* What those can that say nothing of it. Of halves and predictions find_node() has still to be asked. */
	TCH_CAN_FORMERLY = TCH_CAN_FULL | TCH_CAN_HALVES | TCH_CAN_PREPARE | TCH_CAN_STATISTICS | TCH_CAN_CONGESTION,
};

/*
 * Application and vendor state: what the server wants to be told of the session where it goes on. Each item has a name and up
 * to some 240 bytes; a name may come several times. Who does not know a name steps over it.
 */
enum tch_item_kind {
	TCH_ITEM_VENDOR = 239,	    /* of those who extend a server; the name begins with theirs */
	TCH_ITEM_APPLICATION = 240, /* of the server */
	TCH_ITEM_SHARE = 246,	    /* has no name: what a session did with one volume (common/conn_moves.c) */
};

/* Items as bytes. Begins with zeros. */
struct tch_items {
	size_t len;
	uint8_t bytes[TCH_ITEMS_MAX];
};

struct tch_item {
	enum tch_item_kind kind;
	const char *name; /* not terminated */
	size_t name_len;
	const uint8_t *bytes;
	size_t len;
};

/* @name: NULL for a share. Return: 0; -EMSGSIZE if name and bytes are too long together; -ENOSPC */
int tch_items_put(struct tch_items *items, enum tch_item_kind kind, const char *name, const void *bytes, size_t len);

/* The item at *@at, which begins with 0 and moves on. @out: out: borrows from @items. Return: false after the last one */
bool tch_items_next(const struct tch_items *items, size_t *at, struct tch_item *out);

bool tch_item_is(const struct tch_item *item, enum tch_item_kind kind, const char *name);

/* Of the connection's socket, as tcp(7) has them; 0: the machine's own. */
struct tch_timers {
	uint32_t user_timeout_ms;
	uint32_t keepalive_idle_s, keepalive_interval_s, keepalive_count;
};

/* The facts of a session that travel with it. */
struct tch_facts {
	uint64_t session;  /* its id, unique in the cluster: birth node << 32 | a number that it gives once */
	uint64_t since_ns; /* wall clock of the accept */
	uint64_t requests; /* that were answered */
	uint32_t handoffs; /* so far; counted here, the server only keeps it */
	struct tcp_statistics statistics; /* of its earlier sockets, on all devices; not of the present one */
	struct tch_items items;
	/* Read from the socket and given to the next one: not the server's business. */
	uint8_t iptos;
	struct tch_timers timers;
};

/* What the server (not the kernel) holds of a quiet session. */
struct tch_carried {
	struct tch_facts facts;
	uint8_t *input; /* read, and not consumed */
	size_t input_len;
	uint8_t *output; /* written, and not taken by the kernel */
	size_t output_len;
};

/* A session as it is now. */
struct tch_session {
	void *own; /* the server's; borrowed for the call in which it was found, unless the session is closed */
	uint64_t id;
	int fd;
	struct flow_key flow;
	struct kernel_helper_static fixed; /* from kernel_helper_adopt(), or import() */
	size_t restored_len;		   /* as import() was told; 0 if it was accepted here */
	uint32_t handoffs;
	bool is_movable; /* kernel_helper_adopt() has succeeded, or it has come from another device */
	bool is_half;	 /* import() of a half, not yet taken over */
};

/*
 * What a server can do with its sessions. All are called with the loops (struct tch_setup) paused. @session is tch_session.own.
 *
 *	     quiesce()            tch_session_quiet()
 *	SERVING -----> (QUIESCING) -------> QUIET ---> export(), surrender(): it is elsewhere
 *	   ^                                  |
 *	   +------------- resume() -----------+
 */
struct tch_server {
	/* The session with this id, or this flow, if it is here. @out: out */
	bool (*find)(uint64_t id, struct tch_session *out, void *arg);
	bool (*find_flow)(const struct flow_key *flow, struct tch_session *out, void *arg);

	/*
	 * Stop reading and writing. Return: 0: now; -EINPROGRESS: requests are being worked on, and tch_session_quiet() will be
	 * called, with @tch; else why it can't be
	 */
	int (*quiesce)(void *session, struct tch *tch, void *arg);

	/*
	 * Quiet, and about to be frozen: what is not with the client yet would have to go with the session, while the client
	 * waits. Write what there is to write. Called again and again, for some milliseconds. Return: whether little is left. NULL:
	 * it always is
	 */
	bool (*write_out)(void *session, void *arg);

	/* Go on after quiesce(), or drain(). */
	void (*resume)(void *session, void *arg);

	/* Copy out what a quiet session holds; memory by malloc(). @out: out: zeros before. Return: 0; -ENOMEM, ... */
	int (*export)(void *session, struct tch_carried *out, void *arg);

	/* Forget the session. Return: its descriptor, which is the caller's */
	int (*surrender)(void *session, void *arg);

	/* Close it; tch_session_closed() follows. @reset: with RST */
	void (*close)(void *session, bool reset, void *arg);

	/**
	 * import() - go on with a session that comes from another device
	 * @session:	id, flow, fixed, restored_len; fd: non-blocking, taken on success
	 * @state:	borrowed: the input is to be consumed first, the output to be sent first, from the next loop turn on
	 * @kind:	TCH_FULL; or the half that comes. TCH_HALF_TO_DEVICES: consume, but send nothing before take_over(); if the
	 *		client closes, call tch_session_closed() and wait for surrender()
	 *
	 * Return: 0; -EEXIST, -ENOMEM; -EBADMSG if the items are not what they should be
	 */
	int (*import)(const struct tch_session *session, const struct tch_carried *state, enum tch_kind_of_handoff kind,
		      void *arg);

	/* How long the handoff took by which it came, from freeze to acknowledgment. NULL: not wanted */
	void (*note_duration)(void *session, uint32_t duration_us, void *arg);

	/* Half handoffs: all four, or NULL for a server that takes no halves. */
	void (*drain)(void *session, void *arg);   /* quiet: the other device receives; send what is to be sent, read nothing */
	void (*discard)(void *session, void *arg); /* quiet: the other device sends; send nothing, throw away what comes */
	bool (*is_drained)(void *session, void *arg); /* has the client acknowledged all that this device had to send? */
	void (*take_over)(void *session, void *arg);  /* an imported half becomes a whole: what was kept back goes out */
};

struct tch_message;

/* The other devices, and the switch. */
struct tch_network {
	/* Send to a device. @message: borrowed. Return: 0; -ENOTCONN */
	int (*send)(uint32_t node, const struct tch_message *message, void *arg);

	/*
	 * May a session be handed to this device, and where is it? @is_special: a half, or a prediction, which not all versions know.
	 * Return: 0; -EHOSTDOWN, -EOPNOTSUPP
	 */
	int (*find_node)(uint32_t node, bool is_special, uint8_t mac[static 6], unsigned int *ifindex, void *arg);

	/*
	 * Ask the switch to give the flow to @node. @transaction counts the session's handoffs. Answered, now or later, or
	 * never, through tch_confirmed().
	 */
	void (*change_owner)(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg);

	/*
	 * Tell the switch that @node may speak in the flow soon, before it is the owner. Not answered, nor waited for. May be
	 * NULL; then the switch drops what a device says first to whom a session comes back, and the client waits for a retransmission.
	 */
	void (*announce_owner)(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg);
};

struct tch_setup {
	struct event_base *base;
	uint32_t self;
	struct kernel_helper *helper; /* NULL: this device makes and takes no handoffs */
	const struct tch_server *server;
	void *server_arg;
	const struct tch_network *network;
	void *network_arg;
	struct loops *loops; /* of the sessions: paused by all that looks at one; NULL: there are none */
};

/* Borrows what @setup points to, for life. Return: NULL: no memory */
struct tch *tch_new(const struct tch_setup *setup);

/* What is being handed off goes on here. NULL is allowed. */
void tch_free(struct tch *tch);

/*
 * SO_HND: a session may soon be handed to this device, or will not be.
 * @open:	true: it has a socket ready from now on, until the session is handed to it, which is faster then, or to another one, or
 *		closes; or for TCH_PREDICTION_MS, unless it is said again. false: it need not any more
 *
 * Return: 0; -EBUSY (TCH_CANDIDATES_MAX devices are ready, or it is being handed off); else as tch_so_set(); -ENOENT if there is
 * nothing to be closed
 */
int tch_so_hnd(struct tch *tch, uint64_t session, uint32_t node, bool open);

/* How a handoff ended: @result 0 or a negative errno value; @duration_us from freeze to acknowledgment. */
typedef void (*tch_done_fn)(uint64_t session, uint32_t node, int result, uint32_t duration_us, void *arg);

/*
 * SO_SET: hand a session of this device off.
 * @kind:	all of it, or first one half: then it ends when the client has all that this device had to send
 * @on_done:	called once unless an error was returned; may be NULL
 *
 * Begins at once; or when the session has arrived here, if it is just being handed to this device; or when packets to the
 * client that were lost have been sent again (kernel_helper_is_settled()).
 *
 * Return: 0; -ENOENT (no such session here), -EALREADY (being handed off, or here), -EOPNOTSUPP (no kernel helper here or there, a
 * half of a server that takes none, a device that is ready and can't do that, or the connection can't be moved), -EHOSTDOWN (no session with that device), -EINVAL (it is
 * this device)
 */
int tch_so_set(struct tch *tch, uint64_t session, uint32_t node, enum tch_kind_of_handoff kind, tch_done_fn on_done,
	       void *arg);

/*
 * Ask the device that has a session to hand it to this one: the second device's request. That one gets this one ready, as by
 * SO_HND, and hands the session off if it can. What comes of it is in the counters, and in the log of who denies it.
 *
 * Return: 0; -EOPNOTSUPP (no kernel helper, or that device knows no requests), -EHOSTDOWN
 */
int tch_request(struct tch *tch, const struct flow_key *flow, uint32_t first_device);

/*
 * SO_TIMER: the timers of a session's connection. What is set here, or on its socket, moves with it.
 * @set:	NULL: only look
 * @get:	out: as they are then; NULL: not wanted
 *
 * Return: 0; -ENOENT; -EINVAL as setsockopt(2)
 */
int tch_so_timer(struct tch *tch, uint64_t session, const struct tch_timers *set, struct tch_timers *get);

/* How a handoff stands. */
struct tch_standing {
	const char *state; /* of Fig. 9, "IDLE" if it is not being handed off */
	uint32_t node;	   /* the other device, 0: none */
	bool is_first;	   /* device */
	bool is_wanted;	   /* false: the other one is only ready */
	enum tch_kind_of_handoff kind;
	unsigned int capabilities; /* that both devices have: enum tch_capability; 0 until Open is answered */
	struct kernel_helper_state sketch; /* of the connection: flow, fixed facts (MSS, window scales), buffers */
};

/* SO_STATE: @out: out. Return: 0; -ENOENT, -EOPNOTSUPP */
int tch_so_state(struct tch *tch, uint64_t session, struct tch_standing *out);

/* SO_IPTOS: @tos: 0 to 255, without the bits for ECN; -1: only look. Return: what it is then; -ENOENT, -EINVAL */
int tch_so_iptos(struct tch *tch, uint64_t session, int tos);

enum tch_end {
	TCH_END_SILENT, /* without a packet: the client learns of it when it next says something, some seconds from now */
	TCH_END_RESET,	/* with RST */
};

/* SO_TERMINATE: Return: 0; -ENOENT; if silently, also -EOPNOTSUPP, -EBUSY (it is being handed off) */
int tch_so_terminate(struct tch *tch, uint64_t session, enum tch_end how);

/* Events: what has happened. */

/* A message came from a device. */
void tch_received(struct tch *tch, uint32_t node, const struct tch_message *message);

/* The session with a device is gone, and what was sent by it may not have come. */
void tch_node_lost(struct tch *tch, uint32_t node);

/* A session of this device has closed; not after surrender(). */
void tch_session_closed(struct tch *tch, uint64_t session);

/* It is quiet now, after quiesce() has returned -EINPROGRESS; not if it was resumed first. The loops are paused. */
void tch_session_quiet(struct tch *tch, uint64_t session);

/* The switch has changed the flow's owner as asked, or knows of a later one. An answer to an earlier question is ignored. */
void tch_confirmed(struct tch *tch, const struct flow_key *flow, uint32_t node, uint16_t transaction);

/*
 * The switch, which is this device, has taken a flow back from whoever had it. What was relayed there for its grace time would be
 * lost, and our stack could not tell the client by RST.
 */
void tch_taken_back(struct tch *tch, const struct flow_key *flow);

/*
 * A device says that it has a flow, of which the switch holds this device for the owner. Did an earlier run of this device die while it
 * handed it over, so that its packets are held here, or relayed? Then they go there. Return: whether
 */
bool tch_claimed(struct tch *tch, const struct flow_key *flow, uint32_t node);

/* Whoever has such a flow has said so. @on_flow: called for each that nobody has; see kernel_helper_release_inherited() */
void tch_unclaimed(struct tch *tch, void (*on_flow)(const struct flow_key *flow, void *arg), void *arg);

struct tch_counters {
	uint64_t given, taken, failed, reset;
	uint64_t halves;    /* of those given: first one half */
	uint64_t predicted; /* ... to a device that was ready */
	uint64_t prepared;  /* sockets made ready here */
	uint64_t asked, granted, denied; /* requests of this device; of other ones */
	uint64_t last_us, sum_us; /* freeze to acknowledgment, of those given */
};

const struct tch_counters *tch_counters(const struct tch *tch);

/* Messages: for who carries them. */

/* The packets: Open, Open Response, and Message with its kinds. Numbers are those of the wire. */
enum tch_kind {
	TCH_KIND_OPEN = 1,
	TCH_KIND_OPEN_RESPONSE = 2,
	TCH_KIND_UPDATE = 3,
	TCH_KIND_HANDOFF = 4,
	TCH_KIND_COMPLETE = 5,
	TCH_KIND_ACKNOWLEDGMENT = 6,
	TCH_KIND_DONE = 7,
	TCH_KIND_FAIL = 8,
	TCH_KIND_HANDOFF_COMPLETE = 9, /* Handoff and Complete in one packet */
	TCH_KIND_REQUEST = 10,	       /* of the second device: Done, or Fail, tells whether a handoff has begun */
	TCH_KIND_COUNT
};

/* Flags of the first embodiment, carried as bits. */
enum tch_flags { TCH_FLAG_HND = 1, TCH_FLAG_SET = 2, TCH_FLAG_END = 4 };

/* A packet between two devices. Memory is the sender's or the receiver's; nothing here owns it. */
struct tch_message {
	enum tch_kind kind;
	uint32_t flags;
	uint64_t id; /* of the handoff: first device's node id << 32 | its counter */
	uint64_t session;
	int result; /* TCH_KIND_FAIL: a negative errno value; TCH_KIND_DONE: freeze to acknowledgment in microseconds */
	const uint8_t *options;
	size_t options_len;
	const uint8_t *sent, *unsent, *received;
	size_t sent_len, unsent_len, received_len;
};

#endif
