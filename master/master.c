/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/master.h"

#include "common/certificates.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/machine.h"
#include "common/stored_file.h"
#include "common/uuid.h"
#include "master/automount.h"
#include "master/chronicle.h"
#include "master/disk_commands.h"
#include "master/draining.h"
#include "master/examining.h"
#include "master/eap_service.h"
#include "master/fabric.h"
#include "master/first_device.h"
#include "master/flow_sweep.h"
#include "master/issuing.h"
#include "master/joining.h"
#include "master/making.h"
#include "master/node_log.h"
#include "master/sessions.h"
#include "master/shifting.h"
#include "master/spread.h"
#include "master/tickle.h"
#include "master/top.h"
#include "master/vroot.h"
#include "slave/disks.h"
#include "scp/eap.h"
#include "slave/load.h"
#include "slave/made_volumes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	TICK_MS = 1000,
	ORPHAN_MS = 2000,	    /* a device may be away this long before its flows are taken back */
	ORPHAN_AT_START_MS = 15000, /* after a restart of the switch, devices have longer to come back */
	FLOW_AGE_S = 30,	    /* entries of closed flows are kept this long */
	COLLECT_MS = 15000, /* a table of a million places takes milliseconds to go through, also an empty one */
	PART_MS = 20, /* between two parts of the table */
	REPORT_AGE_MS = 3000,	    /* a device's report is recent */
};

struct master {
	struct slave_role role;
	const struct settings *settings;
	struct event_base *base;
	struct namespace *ns;
	struct vroot *vroot;
	struct automount *automount;
	struct making *making;
	struct spreading *spreading;
	struct fabric *fabric;
	struct eap_service *eap; /* NULL: no datagrams */
	struct sessions *sessions;
	struct issuing *issuing;
	struct chronicle *chronicle;
	struct top *top;
	struct joining *joining;
	struct draining *draining;
	struct examining *examining;
	struct first_device *first_device;
	struct shifting *shifting;
	struct slave *slave;
	struct event *tick;
	struct event *part; /* pending while there is more of the table to go through */
	struct fabric_walk collection;
	struct flow_sweep sweep;
	bool is_collecting, is_sweeping;
	uint64_t started_ms, collected_ms, swept_ms;
	bool claims_ended; /* of what an earlier run was handing over */
	struct member members[FABRIC_DEVICES_MAX];
	struct load *loads[FABRIC_DEVICES_MAX]; /* owned; NULL: not told (yet) */
	scp_disks disks[FABRIC_DEVICES_MAX]; /* of each device, as it said last; owned */
};

static struct scp *scp_of(struct master *master)
{
	return slave_scp(master->slave);
}

/* The name space goes out */

static void send_snapshot(struct master *master, uint32_t node)
{
	scp_message message = { .type = SCP_SNAPSHOT };
	uint8_t *bytes;
	size_t len;

	if (namespace_snapshot(master->ns, &bytes, &len) < 0)
		return; /* the slave asks again */
	message.scp_message_u.snapshot.snapshot.snapshot_val = (char *)bytes;
	message.scp_message_u.snapshot.snapshot.snapshot_len = (u_int)len;
	scp_send(scp_of(master), node, SCP_CONTROL, 0, &message);
	free(bytes);
}

static void assign_datagrams(struct master *master);

static void witness(const ns_change *change, void *arg)
{
	struct master *master = arg;

	chronicle_changing(master->chronicle, change);
}

static void publish(const ns_change *change, void *arg)
{
	struct master *master = arg;
	scp_message message = { .type = SCP_CHANGE };
	char bytes[SCP_PEM_MAX];
	const ns_node *node;
	XDR xdr;

	chronicle_changed(master->chronicle);
	if (!master->slave)
		return;
	xdrmem_create(&xdr, bytes, sizeof(bytes), XDR_ENCODE);
	if (BUG_IF(!xdr_ns_change(&xdr, (ns_change *)change)))
		return; /* the next change makes the slaves ask for a snapshot */
	message.scp_message_u.change.change.change_val = bytes;
	message.scp_message_u.change.change.change_len = xdr_getpos(&xdr);
	for (size_t at = 0; (node = namespace_next_node(master->ns, &at));)
		if (node->id != NAMESPACE_MASTER && scp_is_up(scp_of(master), node->id, SCP_CONTROL))
			scp_send(scp_of(master), node->id, SCP_CONTROL, 0, &message);
	slave_follow(master->slave);
	if (master->fabric)
		assign_datagrams(master);
}

/* Owners of flows */

static int give_flow(struct master *master, const struct flow_key *flow, uint32_t from, uint32_t node,
		     uint16_t transaction, uint32_t *generation)
{
	int rc;

	*generation = 0;
	if (!master->fabric)
		return -EOPNOTSUPP;
	eap_service_catch_up(master->eap);
	if (sessions_is_late(master->sessions, flow, transaction))
		return -ESTALE;
	rc = fabric_flow_give(master->fabric, flow, from, node, transaction, generation);
	if (rc == -EALREADY)
		return 0; /* it was told of that; this may be anybody's word */
	return rc < 0 ? rc : sessions_moved(master->sessions, flow, node, transaction);
}

/* Its flows are the switch's, for good or until it is back. */
static bool is_gone(struct master *master, uint32_t node)
{
	return !namespace_node(master->ns, node) || (node < FABRIC_DEVICES_MAX && master->members[node].orphaned);
}

static bool has_said_that_it_has(struct master *master, uint32_t node, const struct flow_key *flow)
{
	const struct member *member = &master->members[node];

	return member->up && clock_monotonic_ms() - member->reported_ms < REPORT_AGE_MS &&
	       sessions_is_with(master->sessions, flow, node);
}

/*
 * @from can't give the flow to @node: @error. Is that so for ever? Not while the owner may be one who gave the flow to @from, or
 * to somebody who did, and is still to say so; but he has no session then, and what the switch gives is said at once.
 */
static bool is_moot(struct master *master, const struct flow_key *flow, uint32_t from, uint32_t node, int error)
{
	struct fabric_flow entry;

	if (error == -ENODEV)
		return is_gone(master, node);
	if (error != -EPERM || fabric_flow_get(master->fabric, flow, &entry) || entry.device == from)
		return false;
	return entry.device == FABRIC_SWITCH || has_said_that_it_has(master, entry.device, flow);
}

/* The flow is the switch's. Its client hears of it now, else at its next retransmission. */
static int wake_client(struct master *master, const struct fabric_flow *flow)
{
	slave_flow_taken_back(master->slave, &flow->flow);
	return tickle_client(flow);
}

/* @from has closed its end, and nobody has another. */
static void take_flow_back(struct master *master, const struct flow_key *flow, uint32_t from)
{
	struct fabric_flow entry;
	uint32_t generation;

	if (fabric_flow_get(master->fabric, flow, &entry) || entry.device != from ||
	    fabric_flow_set(master->fabric, flow, FABRIC_SWITCH, &generation))
		return;
	sessions_forget(master->sessions, flow);
	wake_client(master, &entry);
}

/* What @from is told about what became of its give_flow(): 0; -ESTALE: it need not ask again; or @error */
static int answer(struct master *master, const struct flow_key *flow, uint32_t from, uint32_t node, int error)
{
	if (!is_moot(master, flow, from, node, error))
		return error;
	if (error == -ENODEV)
		take_flow_back(master, flow, from);
	return -ESTALE;
}

/* This machine is the first device. */
static void change_owner(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg)
{
	struct master *master = arg;
	uint32_t generation;
	int rc = give_flow(master, flow, FABRIC_SWITCH, node, transaction, &generation);

	rc = answer(master, flow, FABRIC_SWITCH, node, rc);
	if (rc == 0 || rc == -ESTALE)
		slave_owner_changed(master->slave, flow, node, transaction);
	else
		log_warn("fabric", "the owner of a flow was not changed to node=%u: %s; it is tried again", node,
			 strerror(-rc));
}

static void announce_owner(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg)
{
	struct master *master = arg;

	(void)transaction; /* nobody who knows of a later one is asked */
	if (master->fabric)
		fabric_flow_announce(master->fabric, flow, FABRIC_SWITCH, node);
}

static int perform_eap(struct master *master, uint32_t node, const struct eap *eap, uint32_t *generation)
{
	*generation = 0;
	if (eap->cluster != namespace_cluster(master->ns)->id || eap->nonce != node)
		return -EACCES;
	if (eap->operation != EAP_CHANGE)
		return -EOPNOTSUPP;
	return give_flow(master, &eap->flow, node, eap->device, eap->transaction, generation);
}

static void received_eap(struct master *master, uint32_t node, uint32_t request, const scp_eap *wire)
{
	scp_message reply = { .type = SCP_EAP_REPLY };
	scp_eap_reply *out = &reply.scp_message_u.eap_reply;
	struct eap eap = { 0 };
	int rc = eap_decode((const uint8_t *)wire->message.message_val, wire->message.message_len, &eap);

	if (rc == 0)
		rc = perform_eap(master, node, &eap, &out->generation);
	if (rc < 0 && rc != -ESTALE)
		eap_service_refused(master->eap, node, rc);
	out->result = -answer(master, &eap.flow, node, eap.device, rc);
	out->message.message_val = wire->message.message_val;
	out->message.message_len = wire->message.message_len;
	scp_send(scp_of(master), node, SCP_CONTROL, request, &reply);
}

/*
 * A client that crashed comes back by the same port, and @node has the new session. Whoever has its old one would wait for hours,
 * and report it.
 */
static void drop_old_session(struct master *master, const struct flow_key *flow, uint32_t node)
{
	scp_message message = { .type = SCP_DROP_FLOWS };
	scp_drop_flows *drop = &message.scp_message_u.drop_flows;
	uint32_t holder;
	scp_flow wire;

	eap_service_catch_up(master->eap);
	holder = sessions_holder(master->sessions, flow);
	sessions_forget(master->sessions, flow);
	slave_flow_to_wire(flow, &wire);
	drop->flows.flows_val = &wire;
	drop->flows.flows_len = 1;
	if (node != NAMESPACE_MASTER && slave_conns(master->slave))
		slave_drop_flows(master->slave, drop); /* this device's own are not always in the table */
	if (holder != 0 && holder != NAMESPACE_MASTER && holder != node)
		scp_send(scp_of(master), holder, SCP_CONTROL, 0, &message);
}

/*
 * A client's SYN came to the switch: whatever was known of this flow is over. Its entry is made now, so that the way back to
 * the client (port and MAC) is learned before a handoff needs it.
 */
static void on_accept(int fd, void *arg)
{
	struct master *master = arg;
	struct sockaddr_storage client, vip;
	socklen_t client_len = sizeof(client), vip_len = sizeof(vip);
	struct flow_key flow;
	uint32_t generation;

	if (getpeername(fd, (struct sockaddr *)&client, &client_len) == 0 &&
	    getsockname(fd, (struct sockaddr *)&vip, &vip_len) == 0 &&
	    flow_from_sockets(&client, &vip, IPPROTO_TCP, &flow) == 0) {
		drop_old_session(master, &flow, NAMESPACE_MASTER);
		if (master->fabric)
			fabric_flow_set(master->fabric, &flow, FABRIC_SWITCH, &generation);
	}
}

uint32_t master_flow_owner(struct master *master, const struct flow_key *flow, uint32_t otherwise)
{
	struct fabric_flow entry;

	if (master->fabric && fabric_flow_get(master->fabric, flow, &entry) == 0)
		return entry.device;
	return otherwise;
}

/* Certificates */

static void answer_own(const scp_certificate *answer, void *arg)
{
	struct master *master = arg;

	slave_certified(master->slave, answer);
}

/* This machine asks itself. */
static int ask_certificate(const char *request, void *arg)
{
	struct master *master = arg;

	issuing_answer(master->issuing, request, NAMESPACE_MASTER, answer_own, master);
	return 0;
}

struct certificate_asker {
	struct master *master;
	uint32_t node, request;
};

static void answer_node(const scp_certificate *answer, void *arg)
{
	const struct certificate_asker *asker = arg;
	scp_message message = { .type = SCP_CERTIFICATE };

	message.scp_message_u.certificate = *answer;
	scp_send(scp_of(asker->master), asker->node, SCP_CONTROL, asker->request, &message);
}

static void received_certificate_request(struct master *master, uint32_t node, uint32_t request, const char *pem)
{
	struct certificate_asker asker = { master, node, request };

	issuing_answer(master->issuing, pem, node, answer_node, &asker);
}

/* Sessions */

void master_refresh_sessions(struct master *master)
{
	scp_sessions own;

	if (slave_describe_sessions(master->slave, &own) < 0)
		return;
	sessions_report(master->sessions, NAMESPACE_MASTER, &own);
	xdr_free((xdrproc_t)xdr_scp_sessions, (char *)&own);
}

/* The switch's daemon died while it handed the session to @node, which has it now. One that had the flow before that has an older one. */
static bool is_claim(struct master *master, uint32_t node, const struct flow_key *flow, const struct fabric_flow *entry)
{
	return entry->device == FABRIC_SWITCH && !fabric_flow_was_with(master->fabric, flow, node) &&
	       tch_claimed(slave_tch(master->slave), flow, node);
}

static void on_unclaimed(const struct flow_key *flow, void *arg)
{
	struct master *master = arg;
	struct fabric_flow entry;

	if (fabric_flow_get(master->fabric, flow, &entry) == 0)
		wake_client(master, &entry);
}

/* Whoever may have a session that was on its way when the daemon died has said so, or has had time to. */
static void end_claims(struct master *master, uint64_t now_ms)
{
	const ns_node *node;

	if (master->claims_ended)
		return;
	for (size_t at = 0; (node = namespace_next_node(master->ns, &at));)
		if (node->id != NAMESPACE_MASTER && !master->members[node->id].reconciled &&
		    now_ms - master->started_ms < ORPHAN_AT_START_MS)
			return;
	master->claims_ended = true;
	tch_unclaimed(slave_tch(master->slave), on_unclaimed, master);
}

/*
 * The first report after a device came (back). A flow that the fabric does not know was lost with the map: learn it. One
 * that the switch has taken back meanwhile must not be spoken in any more.
 */
static void reconcile(struct master *master, uint32_t node, const scp_sessions *report)
{
	scp_message message = { .type = SCP_DROP_FLOWS };
	scp_drop_flows *drop = &message.scp_message_u.drop_flows;
	uint32_t generation, learned = 0;

	drop->flows.flows_val = calloc(report->sessions.sessions_len + 1, sizeof(scp_flow));
	if (!drop->flows.flows_val)
		return;
	for (u_int i = 0; i < report->sessions.sessions_len; i++) {
		const scp_session *session = &report->sessions.sessions_val[i];
		struct fabric_flow entry = { 0 };
		struct flow_key flow;

		slave_flow_from_wire(&session->flow, &flow);
		if (fabric_flow_get(master->fabric, &flow, &entry) == -ENOENT || is_claim(master, node, &flow, &entry))
			learned += fabric_flow_set(master->fabric, &flow, node, &generation) == 0;
		else if (entry.device == FABRIC_SWITCH)
			drop->flows.flows_val[drop->flows.flows_len++] = session->flow;
	}
	if (learned)
		log_info("fabric", "node=%u flows=%u learned again", node, learned);
	if (drop->flows.flows_len)
		scp_send(scp_of(master), node, SCP_CONTROL, 0, &message);
	free(drop->flows.flows_val);
}

/* The holder of a session had it after @owner, as far as was heard. */
static bool is_later(struct master *master, uint32_t owner, const struct flow_key *flow, const scp_session *held)
{
	return !sessions_is_with(master->sessions, flow, owner) ||
	       !sessions_is_late(master->sessions, flow, (uint16_t)(held->handoffs - 1));
}

/*
 * Has the owner said that it does not have the flow, or nothing for long? One that is gone need not say it: it won't take up what it
 * has handed on, and before the switch takes the flow back it is given to who has it (ORPHAN_MS; reports come each second).
 */
static bool is_without(struct master *master, uint32_t owner, const struct flow_key *flow, const scp_session *held)
{
	const struct member *member = &master->members[owner];
	uint64_t since_ms = member->known ? member->since_ms : master->started_ms;

	if (!member->up)
		return clock_monotonic_ms() - since_ms >= ORPHAN_MS || is_later(master, owner, flow, held);
	return member->reconciled && !sessions_is_with(master->sessions, flow, owner);
}

/*
 * A session went through several hands while the switch was away. Those who gave it on tell in any order, and only the owner
 * may give a flow; there may be a gap, too, for whoever took it back forgets that it gave it. So when the owner does not
 * have it, the holder's own word counts.
 */
static void believe_holder(struct master *master, uint32_t node, const scp_session *session)
{
	struct fabric_flow entry;
	struct flow_key flow;
	uint32_t generation;

	slave_flow_from_wire(&session->flow, &flow);
	if (fabric_flow_get(master->fabric, &flow, &entry) || entry.device == node || entry.device == FABRIC_SWITCH ||
	    sessions_is_late(master->sessions, &flow, (uint16_t)session->handoffs) ||
	    !is_without(master, entry.device, &flow, session))
		return;
	if (fabric_flow_set(master->fabric, &flow, node, &generation) == 0)
		log_info("fabric", "session=%jx is with node=%u: the switch did not hear of each handoff",
			 (uintmax_t)session->id, node);
}

/* It may have been opened at @node, by a flow that had another session before, in which another device still believes. */
static void note_opened(struct master *master, uint32_t node, const scp_session *session)
{
	struct fabric_flow entry;
	struct flow_key flow;

	slave_flow_from_wire(&session->flow, &flow);
	if (sessions_id(master->sessions, &flow) != session->id &&
	    fabric_flow_get(master->fabric, &flow, &entry) == 0 && entry.device == node)
		drop_old_session(master, &flow, node);
}

static void received_sessions(struct master *master, uint32_t node, const scp_sessions *wire)
{
	struct member *member = &master->members[node];
	scp_sessions report = *wire;

	eap_service_catch_up(master->eap);
	if (!member->reconciled && master->fabric)
		reconcile(master, node, wire);
	for (u_int i = 0; master->fabric && i < wire->sessions.sessions_len; i++) {
		believe_holder(master, node, &wire->sessions.sessions_val[i]);
		if (master->settings->first_device != SETTINGS_FIRST_SWITCH)
			note_opened(master, node, &wire->sessions.sessions_val[i]);
	}
	member->reconciled = true;
	member->reported_ms = clock_monotonic_ms();
	first_device_reported(master->first_device, node, wire->sessions.sessions_len);
	sessions_report(master->sessions, node, &report); /* takes out of *wire what it keeps */
}

/* Volumes */

/* A branch of a spread directory is where that is. */
static int place_volume(struct master *master, uint32_t id, const scp_volume_offer *offer)
{
	if (spreading_offered(master->spreading, (const uint8_t *)offer->uuid))
		return 0;
	return automount_place(master->automount, id, offer->place);
}

static int new_volume(struct master *master, uint32_t node, const scp_volume_offer *offer)
{
	ns_item item = { .kind = NS_VOLUME };
	ns_volume *volume = &item.ns_item_u.volume;
	uint64_t id;
	int rc = vroot_next_id(master->vroot, NS_VOLUME, &id);

	if (rc < 0)
		return rc;
	volume->id = (u_int)id;
	memcpy(volume->uuid, offer->uuid, sizeof(volume->uuid));
	volume->node = node;
	volume->path = offer->path;
	volume->root_type = offer->root_type;
	volume->root.root_val = offer->root.root_val;
	volume->root.root_len = offer->root.root_len;
	rc = vroot_change(master->vroot, NS_PUT, &item);
	if (rc == 0)
		rc = place_volume(master, (uint32_t)id, offer);
	if (rc == 0)
		log_info("volumes", "volume=%ju node=%u path=%s is new", (uintmax_t)id, node, offer->path);
	return rc;
}

/* The same volume, perhaps on another node or path than last time. */
static int known_volume(struct master *master, const ns_volume *known, uint32_t node, const scp_volume_offer *offer)
{
	ns_item item = { .kind = NS_VOLUME, .ns_item_u.volume = *known };
	ns_volume *volume = &item.ns_item_u.volume;
	uint32_t id = known->id;
	int rc;

	if (known->node == node && strcmp(known->path, offer->path) == 0 && known->root_type == offer->root_type &&
	    known->root.root_len == offer->root.root_len &&
	    memcmp(known->root.root_val, offer->root.root_val, offer->root.root_len) == 0)
		return place_volume(master, id, offer);
	volume->node = node;
	volume->path = offer->path;
	volume->root_type = offer->root_type;
	volume->root.root_val = offer->root.root_val;
	volume->root.root_len = offer->root.root_len;
	rc = vroot_change(master->vroot, NS_PUT, &item);
	return rc < 0 ? rc : place_volume(master, id, offer);
}

void master_offered(struct master *master, uint32_t node, const scp_volume_offer *offer)
{
	const ns_volume *known = namespace_volume_by_uuid(master->ns, (const uint8_t *)offer->uuid);
	int rc;

	if (making_refuses(master->making, node, offer))
		return;
	rc = known ? known_volume(master, known, node, offer) : new_volume(master, node, offer);

	if (rc < 0)
		log_err("volumes", "node=%u path=%s is not in the tree: %s", node, offer->path, strerror(-rc));
}

/* This machine's own volumes. */
static void on_volumes(void *arg)
{
	struct master *master = arg;
	const struct volume_offer *volume;

	for (size_t at = 0; (volume = volumes_next(slave_volumes(master->slave), &at));) {
		scp_volume_offer offer = {
			.path = (char *)volume->path,
			.place = (char *)volume->place,
			.root_type = volume->root.backend_type,
			.root = { .root_val = (char *)volume->root.backend, .root_len = volume->root.backend_len },
		};

		memcpy(offer.uuid, volume->uuid, sizeof(offer.uuid));
		automount_note_serial(master->automount, volume->uuid, volume->serial);
		if (offer.root.root_len)
			master_offered(master, NAMESPACE_MASTER, &offer);
	}
}

static void on_volume_gone(const uint8_t uuid[static NS_UUID_BYTES], void *arg)
{
	struct master *master = arg;

	making_gone(master->making, NAMESPACE_MASTER, uuid);
}

static void change_spread(struct spread_call *call, void *arg)
{
	struct master *master = arg;

	spreading_change(master->spreading, call);
}

static void on_stop(void *arg)
{
	struct master *master = arg;

	spreading_stop(master->spreading);
}

/* Disks */

static void on_disks(void *arg)
{
	struct master *master = arg;
	scp_disks disks;

	if (master->slave && disks_describe(slave_disks(master->slave), &disks) == 0)
		disk_commands_report(master_disks(master, NAMESPACE_MASTER), &disks);
}

/* New connections */

/* It serves once it knows the name space, which its heartbeats tell; and hands on what it should not have. */
static bool may_take_connections(struct master *master, uint32_t id)
{
	const ns_node *node = namespace_node(master->ns, id);
	const struct member *member = &master->members[id];

	return id != NAMESPACE_MASTER && node && node->state == NS_NODE_APPROVED && member->up &&
	       member_gets_work(slave_member(master->slave, id)) && member->beat.revision != 0 && (member->capabilities & SCP_CAN_HANDOFF);
}

static bool may_take_datagrams(struct master *master, uint32_t id)
{
	return may_take_connections(master, id) && (master->members[id].capabilities & SCP_TAKES_DATAGRAMS);
}

static size_t count_volumes(struct master *master)
{
	size_t count = 0;

	for (size_t at = 0; namespace_next_volume(master->ns, &at);)
		count++;
	return count;
}

/* Whenever a member or a volume comes or goes. Calls about volumes whose device is away are answered by the switch, too. */
static void assign_datagrams(struct master *master)
{
	size_t max = count_volumes(master), count = 0;
	struct fabric_volume *volumes = calloc(max + 1, sizeof(*volumes));
	const ns_volume *volume;
	int rc = volumes ? 0 : -ENOMEM;

	for (size_t at = 0; rc == 0 && (volume = namespace_next_volume(master->ns, &at));)
		if (may_take_datagrams(master, volume->node % FABRIC_DEVICES_MAX))
			volumes[count++] = (struct fabric_volume){ volume->id, volume->node };
	if (rc == 0)
		rc = fabric_volumes_set(master->fabric, volumes, count);
	if (rc < 0)
		log_warn("fabric", "volumes=%zu are not all in the forwarding table: %s; calls over UDP are relayed", max,
			 strerror(-rc));
	free(volumes);
}

/* Whenever a member comes or goes. */
static void assign_connections(struct master *master)
{
	if (!master->fabric)
		return;
	first_device_assign(master->first_device);
	assign_datagrams(master);
}

void master_assign_connections(struct master *master)
{
	assign_connections(master);
}

bool master_gets_work(struct master *master, uint32_t node)
{
	return may_take_connections(master, node % FABRIC_DEVICES_MAX);
}

bool master_takes_connections(struct master *master, uint32_t node)
{
	bool is_any = false;

	if (!master->fabric || master->settings->first_device == SETTINGS_FIRST_SWITCH)
		return node == NAMESPACE_MASTER;
	if (node != NAMESPACE_MASTER)
		return may_take_connections(master, node % FABRIC_DEVICES_MAX);
	for (uint32_t id = 0; id < FABRIC_DEVICES_MAX; id++)
		is_any |= may_take_connections(master, id);
	return !is_any || master->settings->first_device == SETTINGS_FIRST_CLIENT;
}

static void received_heartbeat(struct master *master, uint32_t node, const scp_heartbeat *beat)
{
	struct member *member = &master->members[node];
	bool took = may_take_connections(master, node);

	member->beat = *beat;
	if (may_take_connections(master, node) != took)
		assign_connections(master);
}

static void forget_load(struct master *master, uint32_t node)
{
	free(master->loads[node]);
	master->loads[node] = NULL;
}

/* Said when it begins and when it is over, with some distance between the two. */
static void watch_clock(struct master *master, uint32_t node, const scp_clock *clock)
{
	const ns_node *known = namespace_node(master->ns, node);
	struct member *member = &master->members[node];
	int64_t off_ms = clock->offset_ns / 1000000, bound_ms = master->settings->clock_bound_ms;
	bool is_off = llabs(off_ms) > (member->clock_is_off ? bound_ms / 2 : bound_ms);

	if (is_off && !member->clock_is_off)
		log_warn("time", "node=%u name=%s clock is %jd ms ahead of the master's, which is more than %jd ms%s", node,
			 known ? known->name : "?", (intmax_t)off_ms, (intmax_t)bound_ms,
			 clock->is_corrected ? "; it is being slewed" : "; set it, or run a time service");
	else if (!is_off && member->clock_is_off)
		log_info("time", "node=%u name=%s clock is %jd ms ahead of the master's, which is in order", node,
			 known ? known->name : "?", (intmax_t)off_ms);
	member->clock_is_off = is_off;
}

static void received_load(struct master *master, uint32_t node, const scp_load *wire)
{
	if (wire->clock)
		watch_clock(master, node, wire->clock);
	if (!master->loads[node])
		master->loads[node] = malloc(sizeof(*master->loads[node]));
	if (master->loads[node])
		load_from_wire(wire, master->loads[node]);
}

/* Members */

static int may_join(uint32_t id, const scp_hello *hello, char *reason, size_t size, void *arg)
{
	struct master *master = arg;
	const ns_node *node = namespace_node(master->ns, id);

	(void)hello;
	if (!node || id >= FABRIC_DEVICES_MAX) {
		snprintf(reason, size, "node %u is not a member of this cluster (any more); join again with a new token",
			 id);
		return -EACCES;
	}
	if (!namespace_is_member(node)) {
		snprintf(reason, size, "node %u waits for approval: nasctl node approve %u on the master", id, id);
		return -EAGAIN;
	}
	return 0;
}

/* What the node says of itself goes into the name space, where the other nodes find it. */
static int update_node(struct master *master, uint32_t id, const scp_hello *hello)
{
	const ns_node *known = namespace_node(master->ns, id);
	ns_item item = { .kind = NS_NODE };
	ns_node *node = &item.ns_item_u.node;
	char name[NS_NAME_MAX + 1];

	joining_name(master->ns, id, hello->name, name);
	if (strcmp(known->name, name) == 0 && strcmp(known->address, hello->address) == 0 &&
	    known->port == hello->port && memcmp(known->mac, hello->mac, sizeof(known->mac)) == 0 &&
	    strcmp(known->serial, hello->serial) == 0)
		return 0;
	*node = (ns_node){
		.id = id,
		.name = name,
		.state = known->state,
		.address = hello->address,
		.port = hello->port,
		.serial = hello->serial,
	};
	memcpy(node->mac, hello->mac, sizeof(node->mac));
	return vroot_change(master->vroot, NS_PUT, &item);
}

static void on_up(uint32_t node, scp_channel channel, const scp_hello *hello, void *arg)
{
	struct master *master = arg;
	struct member *member = &master->members[node];
	int rc;

	if (channel != SCP_CONTROL)
		return;
	issuing_note(master->issuing, scp_certificate_of(scp_of(master), node));
	*member = (struct member){
		.known = true, .up = true, .since_ms = clock_monotonic_ms(), .capabilities = hello->capabilities
	};
	snprintf(member->software, sizeof(member->software), "%s", hello->software);
	rc = update_node(master, node, hello);
	if (rc < 0)
		log_err("member", "node=%u can't be recorded: %s", node, strerror(-rc));
	if (master->fabric) {
		rc = fabric_device_set(master->fabric, node, (const uint8_t *)hello->mac,
				       master->settings->disk_interfaces[0]);
		if (rc < 0)
			log_err("fabric", "node=%u is not in the forwarding table: %s", node, strerror(-rc));
	}
	send_snapshot(master, node);
	spreading_node_up(master->spreading, node);
}

static void on_down(uint32_t node, scp_channel channel, const char *reason, void *arg)
{
	struct master *master = arg;
	struct member *member = &master->members[node];

	(void)reason;
	if (channel != SCP_CONTROL)
		return;
	member->up = false;
	member->since_ms = clock_monotonic_ms();
	forget_load(master, node);
	commands_node_lost(node);
	node_log_lost(node);
	examining_node_lost(master->examining, node);
	spreading_node_down(master->spreading, node);
}

static void on_member(uint32_t node, void *arg)
{
	struct master *master = arg;

	chronicle_member(master->chronicle, node, slave_member(master->slave, node));
	assign_connections(master);
}

static void on_message(uint32_t node, uint32_t request, const scp_message *message, void *arg)
{
	struct master *master = arg;

	switch (message->type) {
	case SCP_EAP:
		received_eap(master, node, request, &message->scp_message_u.eap);
		break;
	case SCP_CERTIFICATE_REQUEST:
		received_certificate_request(master, node, request, message->scp_message_u.certificate_request.request);
		break;
	case SCP_EAP_KEY_REQUEST:
		if (master->eap)
			eap_service_give_key(master->eap, scp_of(master), node, request);
		break;
	case SCP_SESSIONS:
		received_sessions(master, node, &message->scp_message_u.sessions);
		break;
	case SCP_VOLUME_OFFER:
		master_offered(master, node, &message->scp_message_u.volume_offer);
		break;
	case SCP_VOLUME_SERIAL:
		automount_note_serial(master->automount, (const uint8_t *)message->scp_message_u.volume_serial.uuid,
				      message->scp_message_u.volume_serial.serial);
		break;
	case SCP_VOLUME_GONE:
		making_gone(master->making, node, (const uint8_t *)message->scp_message_u.volume_gone.uuid);
		break;
	case SCP_SPREAD_REACHED:
	case SCP_SPREAD_LISTING:
		spreading_received(master->spreading, node, request, message);
		break;
	case SCP_DISKS:
		disk_commands_report(master_disks(master, node), &message->scp_message_u.disks);
		break;
	case SCP_SNAPSHOT_REQUEST:
		send_snapshot(master, node);
		break;
	case SCP_HEARTBEAT:
		received_heartbeat(master, node, &message->scp_message_u.heartbeat);
		break;
	case SCP_LOAD:
		received_load(master, node, &message->scp_message_u.load);
		break;
	case SCP_LOG_LINES:
		node_log_received(node, request, &message->scp_message_u.log_lines);
		break;
	case SCP_RESULT:
	case SCP_HANDOFF_RESULT:
	case SCP_WHY_RESULT:
	case SCP_SESSION_FACTS:
		commands_result(node, request, message);
		if (message->type == SCP_RESULT)
			examining_received(master->examining, node, request, message);
		break;
	case SCP_EXAMINED:
		examining_received(master->examining, node, request, message);
		break;
	default:
		break; /* what only a slave is told */
	}
}

static void on_enrol(const scp_message *question, const char *peer, scp_enrol_reply *reply, void *arg)
{
	struct master *master = arg;

	joining_answer(master->joining, question, peer, reply);
}

/* No device speaks for the flow, and its owner has had its say lately. */
static bool may_be_dead(const struct fabric_flow *flow, void *arg)
{
	struct master *master = arg;
	const struct member *owner = &master->members[flow->device % FABRIC_DEVICES_MAX];
	bool heard = flow->device == FABRIC_SWITCH ||
		     (owner->up && clock_monotonic_ms() - owner->reported_ms < REPORT_AGE_MS);

	return heard && !sessions_is_with(master->sessions, &flow->flow, flow->device);
}

/* What goes through the whole table does so in parts: a table may have a million entries, and the loop has other things to do. */

static bool is_due(uint64_t *last_ms, uint64_t now_ms, unsigned int each_ms)
{
	if (now_ms - *last_ms < each_ms)
		return false;
	*last_ms = now_ms;
	return true;
}

/* Return: whether there is more to do */
static bool collect_part(struct master *master)
{
	size_t removed = 0;

	if (master->is_collecting)
		master->is_collecting = !fabric_collect(master->fabric, FLOW_AGE_S, &master->collection, &removed);
	return master->is_collecting;
}

static bool sweep_part(struct master *master)
{
	size_t removed = 0;

	if (master->is_sweeping)
		master->is_sweeping = !flow_sweep_part(&master->sweep, master->fabric, may_be_dead, master, &removed);
	if (removed)
		log_info("fabric", "flows=%zu removed: no device speaks for them", removed);
	return master->is_sweeping;
}

struct tickling {
	struct master *master;
	struct member *member;
};

static void on_orphan(const struct fabric_flow *flow, void *arg)
{
	struct tickling *tickling = arg;
	struct member *member = tickling->member;
	int rc = wake_client(tickling->master, flow);

	member->taking_back.flows++;
	if (rc < 0) {
		member->taking_back.failed++;
		member->taking_back.error = rc;
	}
}

static void say_taken_back(struct master *master, uint32_t node)
{
	const struct member *member = &master->members[node];

	chronicle_taken_back(master->chronicle, node, member->taking_back.flows);
	log_warn("fabric", "node=%u has been away for %ju ms: its flows=%u are the switch's again, clients reconnect",
		 node, (uintmax_t)member->taking_back.away_ms, member->taking_back.flows);
	if (member->taking_back.failed)
		log_warn("fabric", "clients=%u can't be woken up: %s; they reconnect at their next retransmission",
			 member->taking_back.failed, strerror(-member->taking_back.error));
}

/* The device may still be there, cut off from us: fencing is the fabric's. If it comes back, what it still has it keeps. */
static bool take_back_part(struct master *master, uint32_t node)
{
	struct member *member = &master->members[node];
	struct tickling tickling = { master, member };

	if (!member->taking_back.is_under_way)
		return false;
	member->taking_back.is_under_way =
		!fabric_device_orphan(master->fabric, node, &member->taking_back.walk, on_orphan, &tickling);
	if (!member->taking_back.is_under_way)
		say_taken_back(master, node);
	return member->taking_back.is_under_way;
}

static void begin_to_take_back(struct master *master, uint32_t node, uint64_t away_ms)
{
	struct member *member = &master->members[node];

	member->orphaned = true;
	memset(&member->taking_back, 0, sizeof(member->taking_back));
	member->taking_back.is_under_way = true;
	member->taking_back.away_ms = away_ms;
	sessions_forget_node(master->sessions, node);
}

static void on_part(evutil_socket_t fd, short what, void *arg)
{
	struct master *master = arg;
	bool is_more = collect_part(master);

	(void)fd, (void)what;
	is_more = sweep_part(master) || is_more;
	for (uint32_t node = 0; node < FABRIC_DEVICES_MAX; node++)
		is_more = take_back_part(master, node) || is_more;
	if (is_more)
		event_add(master->part, &(struct timeval){ .tv_usec = PART_MS * 1000 });
}

static void look_for_orphans(struct master *master, uint64_t now_ms)
{
	const ns_node *node;

	for (size_t at = 0; (node = namespace_next_node(master->ns, &at));) {
		struct member *member = &master->members[node->id];
		uint64_t away_ms = now_ms - (member->known ? member->since_ms : master->started_ms);

		if (node->id == NAMESPACE_MASTER || member->up || member->taking_back.is_under_way ||
		    away_ms < (member->known ? ORPHAN_MS : ORPHAN_AT_START_MS))
			continue;
		if (member->orphaned && !sessions_any_with(master->sessions, node->id))
			continue; /* else it was given some more, by who had not heard that it is gone */
		begin_to_take_back(master, node->id, away_ms);
	}
}

/* Every second: flows of devices that stayed away, and of closed sessions. */
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct master *master = arg;
	uint64_t now_ms = clock_monotonic_ms();

	(void)fd, (void)what;
	if (!master->fabric)
		return;
	if (!master->is_collecting)
		master->is_collecting = is_due(&master->collected_ms, now_ms, COLLECT_MS);
	if (!master->is_sweeping && is_due(&master->swept_ms, now_ms, FLOW_SWEEP_MS)) {
		master->is_sweeping = true;
		master_refresh_sessions(master);
	}
	first_device_tick(master->first_device);
	shifting_tick(master->shifting);
	look_for_orphans(master, now_ms);
	end_claims(master, now_ms);
	if (!evtimer_pending(master->part, NULL))
		on_part(-1, 0, master);
}

/* Life */

static int record_vips(struct master *master)
{
	const ns_cluster *known = namespace_cluster(master->ns);
	char vips[NS_TEXT_MAX] = "";
	ns_item item = { .kind = NS_CLUSTER, .ns_item_u.cluster = *known };
	size_t len = 0;

	for (unsigned int i = 0; i < master->settings->vip_count; i++)
		len += (size_t)snprintf(vips + len, sizeof(vips) - len, "%s%s", i ? " " : "", master->settings->vips[i]);
	if (strcmp(known->vips, vips) == 0)
		return 0;
	item.ns_item_u.cluster.vips = vips;
	return vroot_change(master->vroot, NS_PUT, &item);
}

/* The master's own row: what others need to reach it. */
static int record_self(struct master *master)
{
	const struct settings *settings = master->settings;
	scp_hello hello = {
		.name = (char *)settings->name,
		.address = (char *)settings->address,
		.port = settings->scp_port,
		.serial = (char *)"",
	};

	if (settings->disk_interface_count)
		machine_mac(settings->disk_interfaces[0], (unsigned char *)hello.mac);
	return update_node(master, NAMESPACE_MASTER, &hello);
}

static int parse_address(const char *text, uint8_t out[static 16])
{
	if (inet_pton(AF_INET6, text, out) == 1)
		return 0;
	memset(out, 0, 16);
	out[10] = out[11] = 0xff;
	return inet_pton(AF_INET, text, out + 12) == 1 ? 0 : -EINVAL;
}

static uint32_t services_of(const struct settings_filter *filter)
{
	static const char *const names[] = { "nfs", "portmapper", "scp" }; /* bits 0, 1, 2 of enum fabric_service */
	uint32_t services = 0;

	for (unsigned int i = 0; i < filter->service_count; i++)
		for (unsigned int bit = 0; bit < sizeof(names) / sizeof(names[0]); bit++)
			if (strcmp(filter->services[i], names[bit]) == 0)
				services |= 1u << bit;
	return services;
}

static size_t read_filters(const struct settings *settings, struct fabric_filter_rule rules[static FABRIC_FILTERS_MAX])
{
	size_t count = 0;

	for (; count < settings->filter_count && count < FABRIC_FILTERS_MAX; count++)
		rules[count] = (struct fabric_filter_rule){
			.network = settings->filters[count].network,
			.services = services_of(&settings->filters[count]),
		};
	return count;
}

int master_set_filters(struct master *master, const struct settings *settings)
{
	struct fabric_filter_rule rules[FABRIC_FILTERS_MAX];

	if (!master->fabric)
		return settings->filter_count ? -EOPNOTSUPP : 0;
	return fabric_filters_set(master->fabric, rules, read_filters(settings, rules));
}

static int make_fabric(const struct settings *settings, uint32_t cluster, struct fabric **out)
{
	struct fabric_filter_rule filters[FABRIC_FILTERS_MAX];
	struct fabric_options options = {
		.pin_dir = settings->bpf_dir,
		.flows_max = settings->flows,
		.cluster = cluster,
		.nfs_port = settings->nfs_port,
		.serves_first = settings->serve_first,
		.marks = settings->dscp >= 0,
		.dscp = (uint8_t)settings->dscp,
		.filters = filters,
	};

	for (unsigned int i = 0; i < settings->client_interface_count; i++)
		memcpy(options.client_ports[options.client_port_count++], settings->client_interfaces[i], IFNAMSIZ);
	for (unsigned int i = 0; i < settings->disk_interface_count; i++)
		memcpy(options.device_ports[options.device_port_count++], settings->disk_interfaces[i], IFNAMSIZ);
	for (unsigned int i = 0; i < settings->vip_count; i++)
		if (parse_address(settings->vips[i], options.vips[options.vip_count]) == 0)
			options.vip_count++;
	options.filter_count = read_filters(settings, filters);
	if (settings->address[0])
		parse_address(settings->address, options.eap_address);
	options.eap_port = settings->scp_port;
	options.nfs_port = settings->nfs_port;
	return fabric_new(&options, out);
}

void master_remove_fabric(const struct settings *settings)
{
	struct fabric *fabric;

	if (make_fabric(settings, 0, &fabric) == 0)
		fabric_free(fabric, true);
}

static void start_fabric(struct master *master)
{
	const struct settings *settings = master->settings;
	const ns_node *node;
	int rc;

	if (!settings->handoff || !settings->vip_count)
		return;
	rc = make_fabric(settings, namespace_cluster(master->ns)->id, &master->fabric);
	if (rc < 0) {
		if (rc != -ENODEV) /* then nothing will work, for the same reason */
			log_warn("fabric", "no forwarding table: %s; the cluster works by relaying only", strerror(-rc));
		if (settings->filter_count)
			log_err("fabric", "filters=%u are not in force without a forwarding table", settings->filter_count);
		slave_keep_sessions(master->slave);
		return;
	}
	if (eap_service_new(master->base, master->fabric, master->sessions, &master->eap) < 0)
		log_warn("eap", "no memory for datagrams: devices ask over SCP");
	assign_connections(master);
	for (size_t at = 0; (node = namespace_next_node(master->ns, &at));)
		if (node->id != NAMESPACE_MASTER && node->address[0])
			fabric_device_set(master->fabric, node->id, (const uint8_t *)node->mac,
					  settings->disk_interfaces[0]);
}

int master_start(struct master *master, struct slave *slave)
{
	int rc;

	master->slave = slave;
	start_fabric(master);
	rc = spreading_start(master->spreading);
	if (rc == 0)
		rc = record_vips(master);
	if (rc == 0)
		rc = record_self(master);
	if (rc == 0)
		rc = slave_follow(slave);
	if (rc < 0)
		return rc;
	automount_apply(master->automount);
	on_volumes(master);
	made_volumes_resume(slave_made_volumes(slave));
	issuing_start(master->issuing);
	event_add(master->tick, &(struct timeval){ .tv_sec = TICK_MS / 1000 });
	draining_start(master->draining);
	return 0;
}

int master_create_cluster(const struct settings *settings, const char *name, char *why, size_t why_size)
{
	char database[PATH_MAX], pki[PATH_MAX];
	uint8_t cluster[NS_UUID_BYTES];
	int rc = stored_file_make_directory(settings->state_dir);

	snprintf(database, sizeof(database), "%.4000s/" MASTER_DATABASE, settings->state_dir);
	snprintf(pki, sizeof(pki), "%.4000s/pki", settings->state_dir);
	if (rc == 0)
		rc = vroot_create(database, name, cluster);
	if (rc == 0)
		rc = certificates_init(pki, cluster, settings->authority_life_s, settings->certificate_life_s);
	if (rc == -EEXIST)
		snprintf(why, why_size, "%s holds a cluster already; remove that directory to begin a new one",
			 settings->state_dir);
	else if (rc < 0)
		snprintf(why, why_size, "%s: %s", settings->state_dir, strerror(-rc));
	return rc;
}

int master_new(struct event_base *base, const struct settings *settings, struct namespace *ns, struct master **out)
{
	struct master *master = calloc(1, sizeof(*master));
	char database[PATH_MAX];
	int rc = -ENOMEM;

	if (!master)
		return -ENOMEM;
	master->base = base;
	master->settings = settings;
	master->ns = ns;
	master->started_ms = clock_monotonic_ms();
	master->role = (struct slave_role){
		.change_owner = change_owner,
		.announce_owner = announce_owner,
		.ask_certificate = ask_certificate,
		.on_accept = on_accept,
		.may_join = may_join,
		.on_up = on_up,
		.on_down = on_down,
		.on_member = on_member,
		.on_message = on_message,
		.on_enrol = on_enrol,
		.on_volumes = on_volumes,
		.on_volume_gone = on_volume_gone,
		.change_spread = change_spread,
		.on_stop = on_stop,
		.on_disks = on_disks,
		.arg = master,
	};
	snprintf(database, sizeof(database), "%.4000s/" MASTER_DATABASE, settings->state_dir);
	master->sessions = sessions_new();
	master->joining = joining_new(master);
	master->draining = draining_new(master);
	master->top = top_new(master);
	master->examining = examining_new(master);
	master->making = making_new(master);
	master->shifting = shifting_new(master);
	master->tick = event_new(base, -1, EV_PERSIST, on_tick, master);
	master->part = evtimer_new(base, on_part, master);
	if (!master->sessions || !master->joining || !master->draining || !master->examining || !master->top || !master->making || !master->shifting || !master->tick ||
	    !master->part)
		goto fail;
	rc = vroot_open(database, ns, publish, master, &master->vroot);
	if (rc == -ENOENT)
		log_err("master", "there is no cluster in %s; make one with nasctl cluster init", settings->state_dir);
	if (rc == 0)
		rc = chronicle_new(base, settings, ns, master->sessions, &master->chronicle);
	if (rc == 0)
		vroot_set_witness(master->vroot, witness, master);
	if (rc == 0)
		rc = issuing_new(master, &master->issuing);
	if (rc == 0)
		rc = automount_new(settings, master->vroot, ns, &master->automount);
	if (rc == 0 && !(master->first_device = first_device_new(master)))
		rc = -ENOMEM;
	snprintf(database, sizeof(database), "%.4000s/spread.sqlite", settings->state_dir);
	if (rc == 0)
		rc = spreading_new(master, database, &master->spreading);
	if (rc < 0)
		goto fail;
	*out = master;
	return 0;
fail:
	master_free(master, false);
	return rc;
}

void master_stopping(struct master *master, bool for_good)
{
	if (!master)
		return;
	chronicle_free(master->chronicle, for_good);
	master->chronicle = NULL;
}

void master_free(struct master *master, bool for_good)
{
	if (!master)
		return;
	if (master->tick)
		event_free(master->tick);
	if (master->part)
		event_free(master->part);
	flow_sweep_fini(&master->sweep);
	master_stopping(master, for_good);
	eap_service_free(master->eap);
	fabric_free(master->fabric, for_good);
	sessions_free(master->sessions);
	top_free(master->top);
	for (size_t i = 0; i < FABRIC_DEVICES_MAX; i++)
		xdr_free((xdrproc_t)xdr_scp_disks, (char *)&master->disks[i]);
	making_free(master->making);
	spreading_free(master->spreading);
	automount_free(master->automount);
	joining_free(master->joining);
	issuing_free(master->issuing);
	draining_free(master->draining);
	examining_free(master->examining);
	first_device_free(master->first_device);
	shifting_free(master->shifting);
	vroot_close(master->vroot);
	for (uint32_t node = 0; node < FABRIC_DEVICES_MAX; node++)
		forget_load(master, node);
	free(master);
}

int master_check_maps(struct master *master, const struct settings *settings, char *why)
{
	return automount_check(master->automount, settings, why);
}

void master_follow_maps(struct master *master)
{
	automount_apply(master->automount);
}

const struct slave_role *master_role(struct master *master)
{
	return &master->role;
}

struct namespace *master_ns(struct master *master)
{
	return master->ns;
}

scp_disks *master_disks(struct master *master, uint32_t node)
{
	return &master->disks[node];
}

struct automount *master_automount(struct master *master)
{
	return master->automount;
}

struct spreading *master_spreading(struct master *master)
{
	return master->spreading;
}

struct making *master_making(struct master *master)
{
	return master->making;
}

struct vroot *master_vroot(struct master *master)
{
	return master->vroot;
}

struct fabric *master_fabric(struct master *master)
{
	return master->fabric;
}

struct eap_service *master_eap(struct master *master)
{
	return master->eap;
}

struct top *master_top(struct master *master)
{
	return master->top;
}

struct chronicle *master_chronicle(struct master *master)
{
	return master->chronicle;
}

struct sessions *master_sessions(struct master *master)
{
	return master->sessions;
}

struct examining *master_examining(struct master *master)
{
	return master->examining;
}

struct draining *master_draining(struct master *master)
{
	return master->draining;
}

struct first_device *master_first_device(struct master *master)
{
	return master->first_device;
}

struct issuing *master_issuing(struct master *master)
{
	return master->issuing;
}

struct shifting *master_shifting(struct master *master)
{
	return master->shifting;
}

struct joining *master_joining(struct master *master)
{
	return master->joining;
}

struct slave *master_slave(struct master *master)
{
	return master->slave;
}

const struct settings *master_settings(struct master *master)
{
	return master->settings;
}

const struct member *master_member(struct master *master, uint32_t node)
{
	return &master->members[node % FABRIC_DEVICES_MAX];
}

const struct load *master_load(struct master *master, uint32_t node)
{
	return master->loads[node % FABRIC_DEVICES_MAX];
}

struct event_base *master_base(struct master *master)
{
	return master->base;
}
