/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/uplink.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/replica.h"
#include "common/stored_file.h"
#include "scp/eap.h"
#include "slave/disks.h"
#include "slave/eap_client.h"
#include "slave/made_volumes.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SCP_ASKS_MAX = 64 };

struct uplink {
	struct slave_role role;
	const struct settings *settings;
	struct namespace *ns;
	struct replica replica;
	struct slave *slave; /* NULL before uplink_start() */
	struct event *report;
	struct eap_client *eap; /* datagrams */
	struct scp_ask {
		uint32_t request;
		uint64_t asked_us; /* monotonic clock */
	} scp_asks[SCP_ASKS_MAX]; /* the last ones, by request; for the counters only */
	struct uplink_eap_counters scp_counters;
	char replica_file[PATH_MAX], key_file[PATH_MAX];
	char address[SETTINGS_ADDRESS_MAX];
	uint16_t port;
};

static int send_to_master(struct uplink *uplink, uint32_t request, const scp_message *message)
{
	return scp_send(slave_scp(uplink->slave), NAMESPACE_MASTER, SCP_CONTROL, request, message);
}

/* EAP: by datagram, which the switch's kernel answers; else over SCP, and the daemon does */

static void ask_over_scp(struct uplink *uplink, const struct eap *eap)
{
	uint32_t request = scp_next_request(slave_scp(uplink->slave));
	scp_message message = { .type = SCP_EAP };
	uint8_t bytes[EAP_BYTES];

	if (BUG_IF(eap_encode(eap, bytes) < 0))
		return;
	message.scp_message_u.eap.message.message_val = (char *)bytes;
	message.scp_message_u.eap.message.message_len = sizeof(bytes);
	uplink->scp_asks[request % SCP_ASKS_MAX] = (struct scp_ask){ request, clock_monotonic_us() };
	/* Without a master the flow stays relayed and this is asked again. */
	if (send_to_master(uplink, request, &message) == 0)
		uplink->scp_counters.asked++;
}

/* ESTALE: the switch knows of a later handoff of this flow. That owner is right, so asking is over too. */
static bool is_settled(int error)
{
	return error == 0 || error == ESTALE;
}

/*
 * What the program refuses, the daemon may still know how to do. Announcements don't go over SCP: they would be late, and the
 * program expects none of a device that sends no datagrams.
 */
static void on_eap_end(const struct eap *eap, int result, void *arg)
{
	struct uplink *uplink = arg;

	if (eap->operation != EAP_CHANGE)
		return;
	if (is_settled(-result))
		slave_owner_changed(uplink->slave, &eap->flow, eap->device, eap->transaction);
	else
		ask_over_scp(uplink, eap);
}

static struct eap make_eap(struct uplink *uplink, enum eap_operation operation, const struct flow_key *flow,
			   uint32_t node, uint16_t transaction)
{
	return (struct eap){
		.operation = operation,
		.nonce = slave_self(uplink->slave),
		.transaction = transaction,
		.cluster = namespace_cluster(uplink->ns)->id,
		.device = node,
		.flow = *flow,
	};
}

static void change_owner(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg)
{
	struct uplink *uplink = arg;
	struct eap eap = make_eap(uplink, EAP_CHANGE, flow, node, transaction);

	if (eap_client_ask(uplink->eap, &eap) < 0)
		ask_over_scp(uplink, &eap);
}

static void announce_owner(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg)
{
	struct uplink *uplink = arg;
	struct eap eap = make_eap(uplink, EAP_SET, flow, node, transaction);

	eap_client_ask(uplink->eap, &eap);
}

/* Certificates */

static int ask_certificate(const char *request, void *arg)
{
	struct uplink *uplink = arg;
	scp_message message = { .type = SCP_CERTIFICATE_REQUEST };

	if (!uplink->slave)
		return -ENOTCONN;
	message.scp_message_u.certificate_request.request = (char *)request;
	return send_to_master(uplink, scp_next_request(slave_scp(uplink->slave)), &message);
}

static void count_eap_reply(struct uplink *uplink, uint32_t request)
{
	const struct scp_ask *ask = &uplink->scp_asks[request % SCP_ASKS_MAX];

	if (ask->request != request)
		return;
	uplink->scp_counters.answered++;
	uplink->scp_counters.answer_us += clock_monotonic_us() - ask->asked_us;
}

static void received_eap_reply(struct uplink *uplink, uint32_t request, const scp_eap_reply *reply)
{
	struct eap eap;

	count_eap_reply(uplink, request);

	if (eap_decode((const uint8_t *)reply->message.message_val, reply->message.message_len, &eap) < 0) {
		log_warn("eap", "the master's answer can't be decoded");
		return;
	}
	if (is_settled(reply->result))
		slave_owner_changed(uplink->slave, &eap.flow, eap.device, eap.transaction);
	else
		log_warn("eap", "the switch did not change the owner of a flow to node=%u: %s; it is asked again",
			 eap.device, strerror(reply->result));
}

static void use_key(struct uplink *uplink, const uint8_t key[static EAP_KEY_BYTES])
{
	const ns_node *master = namespace_node(uplink->ns, NAMESPACE_MASTER);
	bool is_known = master && master->address[0];
	int rc = eap_client_set_key(uplink->eap, key, is_known ? master->address : uplink->address,
				    is_known ? (uint16_t)master->port : uplink->port);

	if (rc < 0)
		log_warn("eap", "no datagrams to the switch: %s; it is asked over SCP", strerror(-rc));
}

/* After a restart while the switch's daemon is away: its kernel still knows the key. */
static void load_key(struct uplink *uplink)
{
	uint8_t *key;
	size_t len;

	if (stored_file_read(uplink->key_file, &key, &len) < 0)
		return;
	if (len == EAP_KEY_BYTES)
		use_key(uplink, key);
	explicit_bzero(key, len);
	free(key);
}

/*
 * A key for each session with the master. The old one is forgotten before the new one is asked for, so that the switch never
 * sees a datagram that is signed with a key which it has replaced.
 */
static void ask_key(struct uplink *uplink)
{
	scp_message message = { .type = SCP_EAP_KEY_REQUEST };

	eap_client_forget_key(uplink->eap);
	unlink(uplink->key_file);
	/* A master that is too old to know of datagrams is not told. */
	send_to_master(uplink, scp_next_request(slave_scp(uplink->slave)), &message);
}

static void received_key(struct uplink *uplink, const scp_eap_key *wire)
{
	const uint8_t *key = (const uint8_t *)wire->key;
	int rc = stored_file_write(uplink->key_file, key, EAP_KEY_BYTES);

	if (rc < 0)
		log_warn("eap", "%s can't be written: %s; after a restart this node waits for the master's next key",
			 uplink->key_file, strerror(-rc));
	use_key(uplink, key);
}

/* The replica */

static void replica_save(struct uplink *uplink)
{
	uint8_t *bytes;
	size_t len;
	int rc = namespace_snapshot(uplink->ns, &bytes, &len);

	if (rc == 0) {
		rc = stored_file_write(uplink->replica_file, bytes, len);
		free(bytes);
	}
	if (rc < 0)
		log_err("replica", "%s can't be written: %s; after a restart this node waits for the master",
			uplink->replica_file, strerror(-rc));
}

static void replica_load(struct uplink *uplink)
{
	uint8_t *bytes;
	size_t len;
	int rc = stored_file_read(uplink->replica_file, &bytes, &len);

	if (rc == -ENOENT)
		return;
	if (rc == 0) {
		rc = namespace_load(uplink->ns, bytes, len);
		free(bytes);
	}
	if (rc < 0)
		log_warn("replica", "%s can't be used: %s; waiting for the master's", uplink->replica_file,
			 strerror(-rc));
}

static void replica_changed(struct uplink *uplink)
{
	const ns_node *master = namespace_node(uplink->ns, NAMESPACE_MASTER);

	replica_save(uplink);
	if (slave_follow(uplink->slave) < 0)
		log_err("serving", "this node does not serve; it tries again when the name space changes");
	if (master && master->address[0])
		scp_connect(slave_scp(uplink->slave), NAMESPACE_MASTER, master->address, (uint16_t)master->port);
}

static void ask_snapshot(struct uplink *uplink)
{
	scp_message message = { .type = SCP_SNAPSHOT_REQUEST };

	message.scp_message_u.snapshot_request.revision = namespace_revision(uplink->ns);
	send_to_master(uplink, 0, &message);
}

static void follow(struct uplink *uplink, enum replica_next next)
{
	switch (next) {
	case REPLICA_NOTHING:
		break;
	case REPLICA_CHANGED:
		replica_changed(uplink);
		break;
	case REPLICA_ASK:
		ask_snapshot(uplink);
		break;
	}
}

static void received_snapshot(struct uplink *uplink, const scp_snapshot *snapshot)
{
	enum replica_next next = REPLICA_NOTHING;
	int rc = replica_snapshot(&uplink->replica, snapshot->snapshot.snapshot_val, snapshot->snapshot.snapshot_len, &next);

	if (rc < 0)
		log_err("replica", "the master's snapshot can't be used: %s; it is asked for again", strerror(-rc));
	else
		log_info("replica", "revision=%ju snapshot loaded", (uintmax_t)namespace_revision(uplink->ns));
	follow(uplink, next);
}

/* Volumes and sessions */

/* Before the volume itself, whose name may depend on it. A master that is too old to ask for it is not told. */
static void tell_serial(struct uplink *uplink, const struct volume_offer *volume)
{
	scp_message message = { .type = SCP_VOLUME_SERIAL };
	scp_volume_serial *wire = &message.scp_message_u.volume_serial;

	memcpy(wire->uuid, volume->uuid, sizeof(wire->uuid));
	wire->serial = (char *)volume->serial;
	send_to_master(uplink, 0, &message);
}

static void offer(struct uplink *uplink, const struct volume_offer *volume)
{
	scp_message message = { .type = SCP_VOLUME_OFFER };
	scp_volume_offer *wire = &message.scp_message_u.volume_offer;

	memcpy(wire->uuid, volume->uuid, sizeof(wire->uuid));
	wire->path = (char *)volume->path;
	wire->place = (char *)volume->place;
	wire->root_type = volume->root.backend_type;
	wire->root.root_val = (char *)volume->root.backend;
	wire->root.root_len = volume->root.backend_len;
	tell_serial(uplink, volume);
	send_to_master(uplink, 0, &message);
}

static void on_volumes(void *arg)
{
	struct uplink *uplink = arg;
	const struct volume_offer *volume;

	for (size_t at = 0; (volume = volumes_next(slave_volumes(uplink->slave), &at));)
		if (volume->root.backend_len)
			offer(uplink, volume);
}

static void on_volume_gone(const uint8_t uuid[static NS_UUID_BYTES], void *arg)
{
	scp_message message = { .type = SCP_VOLUME_GONE };

	memcpy(message.scp_message_u.volume_gone.uuid, uuid, NS_UUID_BYTES);
	send_to_master(arg, 0, &message); /* a master that is away is told at the next contact */
}

/* A master that is too old to know of them is not told. */
static void on_disks(void *arg)
{
	struct uplink *uplink = arg;
	scp_message message = { .type = SCP_DISKS };

	if (uplink_is_up(uplink) && disks_describe(slave_disks(uplink->slave), &message.scp_message_u.disks) == 0)
		send_to_master(uplink, 0, &message);
}

static void report_sessions(evutil_socket_t fd, short what, void *arg)
{
	struct uplink *uplink = arg;
	scp_message message = { .type = SCP_SESSIONS };

	(void)fd, (void)what;
	if (!uplink_is_up(uplink) || slave_describe_sessions(uplink->slave, &message.scp_message_u.sessions) < 0)
		return;
	send_to_master(uplink, 0, &message);
	xdr_free((xdrproc_t)xdr_scp_sessions, (char *)&message.scp_message_u.sessions);
}

/* SCP */

static int may_join(uint32_t node, const scp_hello *hello, char *reason, size_t size, void *arg)
{
	struct uplink *uplink = arg;
	const ns_node *known = namespace_node(uplink->ns, node);

	(void)hello;
	if (node == NAMESPACE_MASTER || namespace_is_member(known))
		return 0;
	snprintf(reason, size, "node %u is not an approved member of the cluster that this node knows", node);
	return -EACCES;
}

static void on_up(uint32_t node, scp_channel channel, const scp_hello *hello, void *arg)
{
	struct uplink *uplink = arg;

	(void)hello;
	if (channel != SCP_CONTROL)
		return;
	if (node != NAMESPACE_MASTER)
		return;
	replica_connected(&uplink->replica);
	ask_key(uplink);
	on_disks(uplink);
	on_volumes(uplink);
	made_volumes_resume(slave_made_volumes(uplink->slave));
	report_sessions(-1, 0, uplink);
}

/* What comes of it is common to all devices. */
static void on_down(uint32_t node, scp_channel channel, const char *reason, void *arg)
{
	(void)node, (void)channel, (void)reason, (void)arg;
}

static void on_message(uint32_t node, uint32_t request, const scp_message *message, void *arg)
{
	struct uplink *uplink = arg;

	if (node != NAMESPACE_MASTER)
		return;
	switch (message->type) {
	case SCP_SNAPSHOT:
		received_snapshot(uplink, &message->scp_message_u.snapshot);
		break;
	case SCP_CHANGE:
		follow(uplink, replica_change(&uplink->replica, message->scp_message_u.change.change.change_val,
					      message->scp_message_u.change.change.change_len));
		break;
	case SCP_HEARTBEAT:
		follow(uplink, replica_beat(&uplink->replica, message->scp_message_u.heartbeat.revision));
		break;
	case SCP_EAP_REPLY:
		received_eap_reply(uplink, request, &message->scp_message_u.eap_reply);
		break;
	case SCP_EAP_KEY:
		received_key(uplink, &message->scp_message_u.eap_key);
		break;
	default:
		break; /* what only a master is told */
	}
}

/* "ADDRESS[:PORT]", an IPv6 address in brackets if a port follows. */
static int parse_master(struct uplink *uplink, const char *text)
{
	const char *colon = strrchr(text, ':'), *end = colon;
	bool bracketed = text[0] == '[';
	long port = SCP_PORT;

	if (bracketed) {
		text++;
		end = strchr(text, ']');
		colon = end && end[1] == ':' ? end + 1 : NULL;
	} else if (colon && strchr(text, ':') != colon) {
		end = colon = NULL; /* an IPv6 address alone */
	}
	if (colon)
		port = strtol(colon + 1, NULL, 10);
	snprintf(uplink->address, sizeof(uplink->address), "%.*s", end ? (int)(end - text) : (int)strcspn(text, "\n"),
		 text);
	uplink->port = (uint16_t)port;
	return port > 0 && port <= UINT16_MAX && uplink->address[0] ? 0 : -EINVAL;
}

static int find_master(struct uplink *uplink, const char *master)
{
	char path[PATH_MAX];
	uint8_t *kept = NULL;
	size_t len;
	int rc;

	snprintf(path, sizeof(path), "%.4000s/master", uplink->settings->state_dir);
	if (master) {
		rc = parse_master(uplink, master);
		return rc < 0 ? rc : stored_file_write(path, master, strlen(master));
	}
	rc = stored_file_read(path, &kept, &len);
	if (rc == 0)
		rc = parse_master(uplink, (const char *)kept);
	free(kept);
	if (rc < 0)
		log_err("scp", "%s does not name the master; join with vnasd --join TOKEN@ADDRESS, or set master in [network]", path);
	return rc;
}

int uplink_new(struct event_base *base, const struct settings *settings, struct namespace *ns, const char *master,
	       struct uplink **out)
{
	struct uplink *uplink = calloc(1, sizeof(*uplink));
	int rc;

	if (!uplink)
		return -ENOMEM;
	uplink->settings = settings;
	uplink->ns = ns;
	uplink->replica.ns = ns;
	uplink->role = (struct slave_role){
		.change_owner = change_owner,
		.announce_owner = announce_owner,
		.ask_certificate = ask_certificate,
		.may_join = may_join,
		.on_up = on_up,
		.on_down = on_down,
		.on_message = on_message,
		.on_volumes = on_volumes,
		.on_volume_gone = on_volume_gone,
		.on_disks = on_disks,
		.arg = uplink,
	};
	snprintf(uplink->replica_file, sizeof(uplink->replica_file), "%.4000s/replica", settings->state_dir);
	snprintf(uplink->key_file, sizeof(uplink->key_file), "%.4000s/eap_key", settings->state_dir);
	rc = find_master(uplink, master);
	if (rc == 0) {
		uplink->report = event_new(base, -1, EV_PERSIST, report_sessions, uplink);
		rc = uplink->report ? eap_client_new(base, on_eap_end, uplink, &uplink->eap) : -ENOMEM;
	}
	if (rc < 0) {
		uplink_free(uplink);
		return rc;
	}
	replica_load(uplink);
	load_key(uplink);
	*out = uplink;
	return 0;
}

void uplink_free(struct uplink *uplink)
{
	if (!uplink)
		return;
	if (uplink->report)
		event_free(uplink->report);
	eap_client_free(uplink->eap);
	free(uplink);
}

const struct slave_role *uplink_role(struct uplink *uplink)
{
	return &uplink->role;
}

int uplink_start(struct uplink *uplink, struct slave *slave)
{
	int rc = 0;

	uplink->slave = slave;
	event_add(uplink->report, &(struct timeval){ .tv_sec = UPLINK_REPORT_MS / 1000 });
	if (namespace_cluster(uplink->ns))
		rc = slave_follow(slave);
	if (rc == 0)
		rc = scp_connect(slave_scp(slave), NAMESPACE_MASTER, uplink->address, uplink->port);
	return rc;
}

bool uplink_is_up(const struct uplink *uplink)
{
	return uplink->slave && scp_is_up(slave_scp(uplink->slave), NAMESPACE_MASTER, SCP_CONTROL);
}

const struct eap_client_counters *uplink_eap_datagrams(const struct uplink *uplink)
{
	return eap_client_counters(uplink->eap);
}

const struct uplink_eap_counters *uplink_eap_over_scp(const struct uplink *uplink)
{
	return &uplink->scp_counters;
}
