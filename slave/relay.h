/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slave/relay.h - carry a call to the device that owns its volume, and the reply back
 *
 * Calls travel whole, as the client sent them, with the client's address, over the relay channel of SCP; any number at
 * once, but more bytes than a session can carry wait here. At the owner they are dispatched like any other, as RPC_RELAYED.
 *
 * A call that must not run twice (file_service_runs_once()) is sent again after RELAY_TIMEOUT_MS, and over the next session
 * when its session is lost: the owner knows it by its xid (common/duplicate_requests.h). One that may
 * be repeated (struct rpc_call) is treated like that from the beginning: another device, or an earlier life of this one, may have
 * sent it.
 *
 * Ownership: a call that was taken is answered exactly once: by its reply, or through file_service_unreachable() when
 * the owner goes away or is silent for RELAY_TIMEOUT_MS. One that must not run twice and may have been run is then
 * answered nothing, so that the client asks again with the same xid.
 * Threads: the control loop's.
 */
#ifndef VNAS_SLAVE_RELAY_H
#define VNAS_SLAVE_RELAY_H

#include "common/flow.h"
#include "common/rpc.h"
#include "scp/scp.h"

enum {
	RELAY_TIMEOUT_MS = 20000, /* for an answer */
	RELAY_CONNECT_MS = 3000,  /* for a relay session with a device whose control session is up */
};

struct event_base;
struct relay;

struct relay *relay_new(struct event_base *base, struct rpc_server *rpc);
void relay_free(struct relay *relay);

/* The sessions to carry calls over; borrowed. NULL: none any more (every call is unreachable). */
void relay_set_scp(struct relay *relay, struct scp *scp);

/* A call of @node, with data, was served here. @flow: its client's, without protocol and the VIP's port */
typedef void (*relay_served_fn)(uint32_t node, const struct flow_key *flow, uint64_t data_bytes, void *arg);
void relay_on_served(struct relay *relay, relay_served_fn on_served, void *arg);

/* Carry @call to @node. */
void relay_call(struct relay *relay, uint32_t node, struct rpc_call *call);

/* SCP_RELAY_CALL and SCP_RELAY_REPLY as they come. */
void relay_received(struct relay *relay, uint32_t node, uint32_t request, const scp_message *message);

/* A relay channel is up: calls may have waited for it. */
void relay_node_found(struct relay *relay);

/*
 * A session with a device begins. What an earlier life of it has asked for may still be under way here: relay_is_settled() when
 * that has ended.
 */
void relay_node_began(struct relay *relay, uint32_t node);
bool relay_is_settled(const struct relay *relay, uint32_t node);

/* The relay channel with a device is gone: its calls are unreachable. */
void relay_node_lost(struct relay *relay, uint32_t node);

#endif
