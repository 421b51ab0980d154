/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/master.h"

#include "common/certificates.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/machine.h"
#include "common/stored_file.h"
#include "common/uuid.h"
#include "master/eap_service.h"
#include "master/fabric.h"
#include "master/flow_sweep.h"
#include "master/sessions.h"
#include "master/tickle.h"
#include "master/vroot.h"
#include "scp/eap.h"

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
	FLOWS_MAX = 1000000,
	REPORT_AGE_MS = 3000,	    /* a device's report is recent */
};

struct master {
	struct slave_role role;
	const struct settings *settings;
	struct event_base *base;
	struct namespace *ns;
	struct vroot *vroot;
	struct fabric *fabric;
	struct eap_service *eap; /* NULL: no datagrams */
	struct sessions *sessions;
	struct slave *slave;
	struct event *tick;
	struct flow_sweep sweep;
	uint64_t started_ms, swept_ms;
	struct member members[FABRIC_DEVICES_MAX];
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

static void publish(const ns_change *change, void *arg)
{
	struct master *master = arg;
	scp_message message = { .type = SCP_CHANGE };
	char bytes[SCP_PEM_MAX];
	const ns_node *node;
	XDR xdr;

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

/* @from has closed its end, and nobody has another. */
static void take_flow_back(struct master *master, const struct flow_key *flow, uint32_t from)
{
	struct fabric_flow entry;
	uint32_t generation;

	if (fabric_flow_get(master->fabric, flow, &entry) || entry.device != from ||
	    fabric_flow_set(master->fabric, flow, FABRIC_SWITCH, &generation))
		return;
	sessions_forget(master->sessions, flow);
	tickle_client(flow); /* else it reconnects at its next retransmission */
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

/* A client that crashed comes back by the same port. Whoever has its old session would wait for hours, and report it. */
static void drop_old_session(struct master *master, const struct flow_key *flow)
{
	scp_message message = { .type = SCP_DROP_FLOWS };
	scp_drop_flows *drop = &message.scp_message_u.drop_flows;
	uint32_t node;
	scp_flow wire;

	eap_service_catch_up(master->eap);
	node = sessions_holder(master->sessions, flow);
	sessions_forget(master->sessions, flow);
	if (node == 0 || node == NAMESPACE_MASTER)
		return;
	slave_flow_to_wire(flow, &wire);
	drop->flows.flows_val = &wire;
	drop->flows.flows_len = 1;
	scp_send(scp_of(master), node, SCP_CONTROL, 0, &message);
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
		drop_old_session(master, &flow);
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

/* Sessions */

void master_refresh_sessions(struct master *master)
{
	scp_sessions own;

	if (slave_describe_sessions(master->slave, &own) < 0)
		return;
	sessions_report(master->sessions, NAMESPACE_MASTER, &own);
	xdr_free((xdrproc_t)xdr_scp_sessions, (char *)&own);
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
		if (fabric_flow_get(master->fabric, &flow, &entry) == -ENOENT)
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

/* Has the device said that it does not have the flow, or nothing for long? */
static bool is_without(struct master *master, uint32_t node, const struct flow_key *flow)
{
	const struct member *member = &master->members[node];
	uint64_t since_ms = member->known ? member->since_ms : master->started_ms;

	if (!member->up)
		return clock_monotonic_ms() - since_ms >= ORPHAN_MS;
	return member->reconciled && !sessions_is_with(master->sessions, flow, node);
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
	    !is_without(master, entry.device, &flow))
		return;
	if (fabric_flow_set(master->fabric, &flow, node, &generation) == 0)
		log_info("fabric", "session=%jx is with node=%u: the switch did not hear of each handoff",
			 (uintmax_t)session->id, node);
}

static void received_sessions(struct master *master, uint32_t node, const scp_sessions *wire)
{
	struct member *member = &master->members[node];
	scp_sessions report = *wire;

	eap_service_catch_up(master->eap);
	if (!member->reconciled && master->fabric)
		reconcile(master, node, wire);
	for (u_int i = 0; master->fabric && i < wire->sessions.sessions_len; i++)
		believe_holder(master, node, &wire->sessions.sessions_val[i]);
	member->reconciled = true;
	member->reported_ms = clock_monotonic_ms();
	sessions_report(master->sessions, node, &report); /* takes out of *wire what it keeps */
}

/* Volumes */

static int place_volume(struct master *master, uint32_t volume, const char *place)
{
	int rc = vroot_make_place(master->vroot, volume, place);

	if (rc == -EIO || rc == 0)
		return rc;
	log_warn("volumes", "volume=%u can't be at %s: %s; it gets the next /diskN; nasctl volume move changes that",
		 volume, place, strerror(-rc));
	return vroot_make_place(master->vroot, volume, "");
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
		rc = place_volume(master, (uint32_t)id, offer->place);
	if (rc == 0)
		log_info("volumes", "volume=%ju node=%u path=%s is new", (uintmax_t)id, node, offer->path);
	return rc;
}

/* The same volume, perhaps on another node or path than last time. */
static int known_volume(struct master *master, const ns_volume *known, uint32_t node, const scp_volume_offer *offer)
{
	ns_item item = { .kind = NS_VOLUME, .ns_item_u.volume = *known };
	ns_volume *volume = &item.ns_item_u.volume;

	if (known->node == node && strcmp(known->path, offer->path) == 0 && known->root_type == offer->root_type &&
	    known->root.root_len == offer->root.root_len &&
	    memcmp(known->root.root_val, offer->root.root_val, offer->root.root_len) == 0)
		return 0;
	volume->node = node;
	volume->path = offer->path;
	volume->root_type = offer->root_type;
	volume->root.root_val = offer->root.root_val;
	volume->root.root_len = offer->root.root_len;
	return vroot_change(master->vroot, NS_PUT, &item);
}

void master_offered(struct master *master, uint32_t node, const scp_volume_offer *offer)
{
	const ns_volume *known = namespace_volume_by_uuid(master->ns, (const uint8_t *)offer->uuid);
	int rc = known ? known_volume(master, known, node, offer) : new_volume(master, node, offer);

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
		if (offer.root.root_len)
			master_offered(master, NAMESPACE_MASTER, &offer);
	}
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
	if (node->state != NS_NODE_APPROVED) {
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

	if (strcmp(known->name, hello->name) == 0 && strcmp(known->address, hello->address) == 0 &&
	    known->port == hello->port && memcmp(known->mac, hello->mac, sizeof(known->mac)) == 0 &&
	    strcmp(known->serial, hello->serial) == 0)
		return 0;
	*node = (ns_node){
		.id = id,
		.name = hello->name,
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
	log_info("member", "node=%u name=%s address=%s is up", node, hello->name, hello->address);
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
}

static void on_down(uint32_t node, scp_channel channel, const char *reason, void *arg)
{
	struct master *master = arg;
	struct member *member = &master->members[node];

	if (channel != SCP_CONTROL)
		return;
	log_warn("member", "node=%u is down: %s; its volumes wait for it", node, reason);
	member->up = false;
	member->since_ms = clock_monotonic_ms();
	snprintf(member->reason, sizeof(member->reason), "%s", reason);
}

static void on_message(uint32_t node, uint32_t request, const scp_message *message, void *arg)
{
	struct master *master = arg;

	switch (message->type) {
	case SCP_EAP:
		received_eap(master, node, request, &message->scp_message_u.eap);
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
	case SCP_SNAPSHOT_REQUEST:
		send_snapshot(master, node);
		break;
	case SCP_HEARTBEAT:
		master->members[node].beat = message->scp_message_u.heartbeat;
		break;
	case SCP_RESULT:
	case SCP_HANDOFF_RESULT:
	case SCP_WHY_RESULT:
		commands_result(node, request, message);
		break;
	default:
		break; /* what only a slave is told */
	}
}

/* Enrolment */

static int admit(struct master *master, const scp_enrol *enrol, bool pending, uint32_t *id)
{
	ns_item item = { .kind = NS_NODE };
	ns_node *node = &item.ns_item_u.node;
	uint64_t next;
	int rc = vroot_next_id(master->vroot, NS_NODE, &next);

	if (rc < 0)
		return rc;
	if (next >= FABRIC_DEVICES_MAX)
		return -ENOSPC;
	*node = (ns_node){
		.id = (u_int)next,
		.name = enrol->name,
		.state = pending ? NS_NODE_PENDING : NS_NODE_APPROVED,
		.address = (char *)"",
		.serial = (char *)"",
	};
	*id = (uint32_t)next;
	return vroot_change(master->vroot, NS_PUT, &item);
}

static const char *enrol_reason(int rc)
{
	switch (rc) {
	case -EACCES:
		return "the token is unknown or was used; make a new one with nasctl cluster token on the master";
	case -ETIME:
		return "the token has expired; make a new one with nasctl cluster token on the master";
	case -EBADMSG:
		return "the certificate request is malformed";
	case -ENOSPC:
		return "the cluster has no node numbers left";
	default:
		return "the master could not enrol the node; its log says why";
	}
}

static void on_enrol(const scp_enrol *enrol, const char *peer, scp_enrol_reply *reply, void *arg)
{
	struct master *master = arg;
	const ns_cluster *cluster = namespace_cluster(master->ns);
	char pki[PATH_MAX], certificate[CERTIFICATES_PEM_MAX] = "", authority[CERTIFICATES_PEM_MAX] = "";
	bool pending = false;
	uint32_t id = 0;
	int rc = vroot_token_use(master->vroot, enrol->token, &pending);

	snprintf(pki, sizeof(pki), "%.4000s/pki", master->settings->state_dir);
	if (rc == 0)
		rc = admit(master, enrol, pending, &id);
	if (rc == 0)
		rc = certificates_sign(pki, enrol->request, (const uint8_t *)cluster->uuid, id, certificate);
	if (rc == 0)
		rc = certificates_authority(pki, authority);
	if (rc < 0)
		log_warn("member", "peer=%s name=%s was not enrolled: %s", peer, enrol->name, enrol_reason(rc));
	else
		log_info("member", "node=%u name=%s address=%s enrolled%s", id, enrol->name, peer,
			 pending ? ", waits for approval" : "");
	reply->result = -rc;
	reply->reason = strdup(rc < 0 ? enrol_reason(rc) : "");
	reply->node = id;
	reply->certificate = strdup(rc < 0 ? "" : certificate);
	reply->authority = strdup(rc < 0 ? "" : authority);
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

static void sweep_flows(struct master *master, uint64_t now_ms)
{
	size_t removed;

	if (now_ms - master->swept_ms < FLOW_SWEEP_MS)
		return;
	master->swept_ms = now_ms;
	master_refresh_sessions(master);
	removed = flow_sweep_run(&master->sweep, master->fabric, may_be_dead, master);
	if (removed)
		log_info("fabric", "flows=%zu removed: no device speaks for them", removed);
}

struct tickling {
	unsigned int flows, failed;
	int error; /* the last one's */
};

static void on_orphan(const struct flow_key *flow, void *arg)
{
	struct tickling *tickling = arg;
	int rc = tickle_client(flow);

	tickling->flows++;
	if (rc < 0) {
		tickling->failed++;
		tickling->error = rc;
	}
}

/* The device may still be there, cut off from us: fencing is the fabric's. */
static void take_flows_back(struct master *master, uint32_t node, uint64_t away_ms)
{
	struct tickling tickling = { 0 };

	fabric_device_orphan(master->fabric, node, on_orphan, &tickling);
	sessions_forget_node(master->sessions, node);
	log_warn("fabric", "node=%u has been away for %ju ms: its flows=%u are the switch's again, clients reconnect",
		 node, (uintmax_t)away_ms, tickling.flows);
	if (tickling.failed)
		log_warn("fabric", "clients=%u can't be woken up: %s; they reconnect at their next retransmission",
			 tickling.failed, strerror(-tickling.error));
}

/* Every second: flows of devices that stayed away, and of closed sessions. */
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct master *master = arg;
	uint64_t now_ms = clock_monotonic_ms();
	const ns_node *node;

	(void)fd, (void)what;
	if (!master->fabric)
		return;
	fabric_collect(master->fabric, FLOW_AGE_S);
	sweep_flows(master, now_ms);
	for (size_t at = 0; (node = namespace_next_node(master->ns, &at));) {
		struct member *member = &master->members[node->id];
		uint64_t away_ms = now_ms - (member->known ? member->since_ms : master->started_ms);

		if (node->id == NAMESPACE_MASTER || member->up ||
		    away_ms < (member->known ? ORPHAN_MS : ORPHAN_AT_START_MS))
			continue;
		if (member->orphaned && !sessions_any_with(master->sessions, node->id))
			continue; /* else it was given some more, by who had not heard that it is gone */
		member->orphaned = true;
		take_flows_back(master, node->id, away_ms);
	}
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

static int make_fabric(const struct settings *settings, uint32_t cluster, struct fabric **out)
{
	struct fabric_options options = { .pin_dir = settings->bpf_dir, .flows_max = FLOWS_MAX, .cluster = cluster };

	for (unsigned int i = 0; i < settings->client_interface_count; i++)
		memcpy(options.client_ports[options.client_port_count++], settings->client_interfaces[i], IFNAMSIZ);
	for (unsigned int i = 0; i < settings->disk_interface_count; i++)
		memcpy(options.device_ports[options.device_port_count++], settings->disk_interfaces[i], IFNAMSIZ);
	for (unsigned int i = 0; i < settings->vip_count; i++)
		if (parse_address(settings->vips[i], options.vips[options.vip_count]) == 0)
			options.vip_count++;
	if (settings->address[0])
		parse_address(settings->address, options.eap_address);
	options.eap_port = settings->scp_port;
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
		slave_keep_sessions(master->slave);
		return;
	}
	if (eap_service_new(master->base, master->fabric, master->sessions, &master->eap) < 0)
		log_warn("eap", "no memory for datagrams: devices ask over SCP");
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
	rc = record_vips(master);
	if (rc == 0)
		rc = record_self(master);
	if (rc == 0)
		rc = slave_follow(slave);
	if (rc < 0)
		return rc;
	on_volumes(master);
	event_add(master->tick, &(struct timeval){ .tv_sec = TICK_MS / 1000 });
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
		rc = certificates_init(pki, cluster);
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
		.on_accept = on_accept,
		.may_join = may_join,
		.on_up = on_up,
		.on_down = on_down,
		.on_message = on_message,
		.on_enrol = on_enrol,
		.on_volumes = on_volumes,
		.arg = master,
	};
	snprintf(database, sizeof(database), "%.4000s/" MASTER_DATABASE, settings->state_dir);
	master->sessions = sessions_new();
	master->tick = event_new(base, -1, EV_PERSIST, on_tick, master);
	if (!master->sessions || !master->tick)
		goto fail;
	rc = vroot_open(database, ns, publish, master, &master->vroot);
	if (rc == -ENOENT)
		log_err("master", "there is no cluster in %s; make one with nasctl cluster init", settings->state_dir);
	if (rc < 0)
		goto fail;
	*out = master;
	return 0;
fail:
	master_free(master, false);
	return rc;
}

void master_free(struct master *master, bool for_good)
{
	if (!master)
		return;
	if (master->tick)
		event_free(master->tick);
	flow_sweep_fini(&master->sweep);
	eap_service_free(master->eap);
	fabric_free(master->fabric, for_good);
	sessions_free(master->sessions);
	vroot_close(master->vroot);
	free(master);
}

const struct slave_role *master_role(struct master *master)
{
	return &master->role;
}

struct namespace *master_ns(struct master *master)
{
	return master->ns;
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

struct sessions *master_sessions(struct master *master)
{
	return master->sessions;
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

struct event_base *master_base(struct master *master)
{
	return master->base;
}
