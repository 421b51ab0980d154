/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/slave.h"

#include "common/certificates.h"
#include "common/clock.h"
#include "common/file_service.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/machine.h"
#include "common/stored_file.h"
#include "common/workers.h"
#include "slave/locks.h"
#include "slave/placing.h"
#include "slave/relay.h"
#include "slave/serving.h"

#include <errno.h>
#include <event2/event.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

enum { NODES_MAX = 256, VIPS_MAX = SETTINGS_VIPS_MAX };

struct slave {
	struct slave_options options;
	struct placing *placing;
	struct volumes *volumes;
	struct workers *workers;
	struct loop *control; /* for letters of data loops */
	struct event *tidy;   /* each second */
	struct file_service *files;
	struct locks *locks;
	struct relay *relay;
	struct machine *machine;
	struct kernel_helper *helper; /* NULL: this device relays only */
	struct handoffs *handoffs;
	struct serving *serving;
	struct scp *scp;
	SSL_CTX *tls;
	bool serves;
	bool keeps_sessions; /* slave_keep_sessions() */
	uint32_t capabilities[NODES_MAX]; /* of the devices that we have a session with */
	uint64_t beat_ns, beat_used_ns;	  /* when cpu_permille was measured, and CPU time until then */
	uint32_t cpu_permille;
	char address[NI_MAXHOST];	  /* where others reach us */
	uint8_t mac[6];
};

static const char *slave_interface(const struct settings *settings)
{
	return settings->mode == SETTINGS_MODE_MASTER ? settings->disk_interfaces[0] : settings->interface;
}

/* Files */

static struct volume *find_volume(uint32_t id, void *arg)
{
	struct slave *slave = arg;

	return volumes_find(slave->volumes, id);
}

static void on_tidy(evutil_socket_t fd, short what, void *arg)
{
	struct slave *slave = arg;

	(void)fd, (void)what;
	volumes_tidy(slave->volumes);
}

static void relay_to(uint32_t node, struct rpc_call *call, void *arg)
{
	struct slave *slave = arg;

	relay_call(slave->relay, node, call);
}

/* Connections */

static bool on_accept(int fd, struct kernel_helper_static *fixed, void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	if (role->on_accept)
		role->on_accept(fd, role->arg);
	return slave->helper && kernel_helper_adopt(slave->helper, fd, fixed) == 0;
}

/* A session that its data loop wants handed off. */
struct move {
	struct letter letter;
	struct slave *slave;
	uint64_t session;
	uint32_t node;
};

static void move_open(struct letter *letter)
{
	struct move *move = (struct move *)letter;

	if (move->slave->handoffs)
		handoff_start(move->slave->handoffs, move->session, move->node, NULL, NULL);
	free(move);
}

/* Without memory it stays, until its next try. */
static void ask_to_move(struct slave *slave, struct conn *conn, uint32_t node)
{
	struct move *move = malloc(sizeof(*move));

	if (!move)
		return;
	*move = (struct move){
		.letter.open = move_open,
		.slave = slave,
		.session = conn_facts(conn)->session,
		.node = node,
	};
	loop_post(slave->control, &move->letter);
}

/* By location: the session follows its file data. In a data loop: `handoffs` is there before there are connections. */
static void on_work(struct conn *conn, const struct rpc_call *call, void *arg)
{
	struct slave *slave = arg;
	const ns_volume *volume;
	uint32_t node;

	if (!call->moved_data || !slave->handoffs || !conn_is_movable(conn))
		return;
	volume = namespace_volume(slave->options.ns, call->volume);
	node = volume ? placing_work(slave->placing, conn, volume->node, call->data_bytes) : 0;
	if (node)
		ask_to_move(slave, conn, node);
}

static void on_closed(uint64_t session, void *arg)
{
	struct slave *slave = arg;

	if (slave->handoffs)
		handoffs_conn_closed(slave->handoffs, session);
}

static const struct conn_handlers conn_handlers = {
	.on_accept = on_accept,
	.on_work = on_work,
	.on_closed = on_closed,
};

/* Handoffs */

static int send_tch(uint32_t node, const struct tch_message *tch, void *arg)
{
	struct slave *slave = arg;
	scp_message message = { .type = SCP_TCH };
	scp_tch *wire = &message.scp_message_u.tch;

	if (!slave->scp)
		return -ENOTCONN;
	wire->kind = (scp_tch_kind)tch->kind;
	wire->flags = tch->flags;
	wire->id = tch->id;
	wire->session = tch->session;
	wire->result = tch->result;
	wire->options.options_val = (char *)tch->options;
	wire->options.options_len = (u_int)tch->options_len;
	wire->sent.sent_val = (char *)tch->sent;
	wire->sent.sent_len = (u_int)tch->sent_len;
	wire->unsent.unsent_val = (char *)tch->unsent;
	wire->unsent.unsent_len = (u_int)tch->unsent_len;
	wire->received.received_val = (char *)tch->received;
	wire->received.received_len = (u_int)tch->received_len;
	return scp_send(slave->scp, node, SCP_CONTROL, 0, &message);
}

/* This device serves no connections (yet). */
static void refuse_tch(struct slave *slave, uint32_t node, const struct tch_message *open)
{
	struct tch_message fail = {
		.kind = TCH_KIND_FAIL,
		.flags = TCH_FLAG_HND,
		.id = open->id,
		.session = open->session,
		.result = -EOPNOTSUPP,
	};

	send_tch(node, &fail, slave);
}

static void received_tch(struct slave *slave, uint32_t node, const scp_tch *wire)
{
	struct tch_message tch = {
		.kind = (enum tch_kind)wire->kind,
		.flags = wire->flags,
		.id = wire->id,
		.session = wire->session,
		.result = wire->result,
		.options = (const uint8_t *)wire->options.options_val,
		.options_len = wire->options.options_len,
		.sent = (const uint8_t *)wire->sent.sent_val,
		.sent_len = wire->sent.sent_len,
		.unsent = (const uint8_t *)wire->unsent.unsent_val,
		.unsent_len = wire->unsent.unsent_len,
		.received = (const uint8_t *)wire->received.received_val,
		.received_len = wire->received.received_len,
	};

	if (slave->handoffs)
		handoffs_received(slave->handoffs, node, &tch);
	else if (tch.kind == TCH_KIND_OPEN)
		refuse_tch(slave, node, &tch);
}

static int find_node(uint32_t id, uint8_t mac[static 6], unsigned int *ifindex, void *arg)
{
	struct slave *slave = arg;
	const ns_node *node = namespace_node(slave->options.ns, id);

	if (!node || id >= NODES_MAX || !slave->scp || !scp_is_up(slave->scp, id, SCP_CONTROL))
		return -EHOSTDOWN;
	if (!(slave->capabilities[id] & SCP_CAN_HANDOFF))
		return -EOPNOTSUPP;
	memcpy(mac, node->mac, 6);
	*ifindex = if_nametoindex(slave_interface(slave->options.settings));
	return *ifindex ? 0 : -ENODEV;
}

static void change_owner(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	role->change_owner(flow, node, transaction, role->arg);
}

static void announce_owner(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	role->announce_owner(flow, node, transaction, role->arg);
}

static const struct handoff_functions handoff_functions = {
	.send = send_tch,
	.find_node = find_node,
	.change_owner = change_owner,
	.announce_owner = announce_owner,
};

void slave_owner_changed(struct slave *slave, const struct flow_key *flow, uint32_t node, uint16_t transaction)
{
	if (slave->handoffs)
		handoffs_confirmed(slave->handoffs, flow, node, transaction);
}

struct order {
	struct slave *slave;
	uint32_t node, request;
};

static void order_answer(struct order *order, uint64_t session, int result, uint32_t duration_us)
{
	scp_message message = { .type = SCP_HANDOFF_RESULT };
	scp_handoff_result *wire = &message.scp_message_u.handoff_result;

	wire->session = session;
	wire->result = -result;
	wire->reason = (char *)(result < 0 ? strerror(-result) : "");
	wire->duration_us = duration_us;
	scp_send(order->slave->scp, order->node, SCP_CONTROL, order->request, &message);
	free(order);
}

static void order_done(uint64_t session, uint32_t node, int result, uint32_t duration_us, void *arg)
{
	(void)node;
	order_answer(arg, session, result, duration_us);
}

static void received_order(struct slave *slave, uint32_t node, uint32_t request, const scp_handoff_order *wire)
{
	struct order *order = malloc(sizeof(*order));
	int rc;

	if (!order)
		return;
	*order = (struct order){ .slave = slave, .node = node, .request = request };
	rc = slave->handoffs ? handoff_start(slave->handoffs, wire->session, wire->node, order_done, order) :
			       -EOPNOTSUPP;
	if (rc < 0)
		order_answer(order, wire->session, rc, 0);
}

/* 0; -ENOENT */
static int judge(struct slave *slave, uint64_t session, struct placement_verdict *verdict)
{
	struct loops *loops = serving_loops(slave->serving);
	struct conn *conn;

	loops_pause(loops);
	conn = slave_conns(slave) ? conn_find(slave_conns(slave), session) : NULL;
	if (conn)
		placing_judge(slave->placing, conn, verdict);
	loops_continue(loops);
	return conn ? 0 : -ENOENT;
}

void slave_why(struct slave *slave, uint64_t session, struct slave_why *out)
{
	struct placement_verdict verdict = { 0 };
	int rc = judge(slave, session, &verdict);

	out->result = (scp_why_result){
		.session = session,
		.result = -rc,
		.node = verdict.node,
		.moves = verdict.moves,
		.findings = { PLACEMENT_NCRITERIA, out->findings },
	};
	for (int i = 0; i < PLACEMENT_NCRITERIA; i++)
		out->findings[i] = (scp_finding){
			.criterion = (char *)placement_criterion_name((enum placement_criterion)i),
			.unit = (char *)placement_criterion_unit((enum placement_criterion)i),
			.have = verdict.findings[i].have,
			.limit = verdict.findings[i].limit,
			.used = verdict.findings[i].is_used,
			.met = verdict.findings[i].is_met,
		};
}

static void received_why(struct slave *slave, uint32_t node, uint32_t request, const scp_why *wire)
{
	scp_message message = { .type = SCP_WHY_RESULT };
	struct slave_why why;

	slave_why(slave, wire->session, &why);
	message.scp_message_u.why_result = why.result;
	scp_send(slave->scp, node, SCP_CONTROL, request, &message);
}

const struct placement_policy *slave_policy(const struct slave *slave)
{
	return placing_policy(slave->placing);
}

/* Volumes by order of the master */

static void send_result(struct slave *slave, uint32_t node, uint32_t request, int result, const char *reason)
{
	scp_message message = { .type = SCP_RESULT };

	message.scp_message_u.result.result = -result;
	message.scp_message_u.result.reason = (char *)reason;
	scp_send(slave->scp, node, SCP_CONTROL, request, &message);
}

static void received_volume_open(struct slave *slave, uint32_t node, uint32_t request, const scp_volume_open *wire)
{
	const struct slave_role *role = slave->options.role;
	char why[SCP_TEXT_MAX] = "";
	int rc = volumes_add(slave->volumes, wire->path, wire->place, why, sizeof(why));

	send_result(slave, node, request, rc, why);
	if (rc == 0)
		role->on_volumes(role->arg);
}

static void received_volume_close(struct slave *slave, uint32_t node, uint32_t request, const scp_volume_close *wire)
{
	int rc = volumes_forget(slave->volumes, (const uint8_t *)wire->uuid);

	send_result(slave, node, request, rc, rc < 0 ? strerror(-rc) : "");
}

/* Sessions */

void slave_flow_to_wire(const struct flow_key *flow, scp_flow *wire)
{
	memcpy(wire->client, flow->client, sizeof(wire->client));
	memcpy(wire->vip, flow->vip, sizeof(wire->vip));
	wire->client_port = ntohs(flow->client_port);
	wire->vip_port = ntohs(flow->vip_port);
	wire->protocol = flow->protocol;
}

void slave_flow_from_wire(const scp_flow *wire, struct flow_key *flow)
{
	memset(flow, 0, sizeof(*flow));
	memcpy(flow->client, wire->client, sizeof(flow->client));
	memcpy(flow->vip, wire->vip, sizeof(flow->vip));
	flow->client_port = htons((uint16_t)wire->client_port);
	flow->vip_port = htons((uint16_t)wire->vip_port);
	flow->protocol = (__u8)wire->protocol;
}

static void describe_session(struct conn *conn, scp_session *out)
{
	const struct conn_facts *facts = conn_facts(conn);

	memset(out, 0, sizeof(*out));
	out->id = facts->session;
	slave_flow_to_wire(conn_flow(conn), &out->flow);
	out->since_ns = facts->since_ns;
	out->requests = facts->requests;
	out->handoffs = facts->handoffs;
	out->last_handoff_us = facts->last_handoff_us;
	out->shares.shares_val = calloc(facts->share_count + 1, sizeof(scp_volume_share));
	if (!out->shares.shares_val)
		return;
	out->shares.shares_len = (u_int)facts->share_count;
	for (size_t i = 0; i < facts->share_count; i++) {
		out->shares.shares_val[i].volume = facts->shares[i].volume;
		out->shares.shares_val[i].bytes = facts->shares[i].bytes;
		out->shares.shares_val[i].requests = facts->shares[i].requests;
	}
}

static int describe_sessions(struct conn_server *conns, scp_sessions *out)
{
	size_t count = conns ? conn_count(conns) : 0;

	memset(out, 0, sizeof(*out));
	out->sessions.sessions_val = calloc(count + 1, sizeof(scp_session));
	if (!out->sessions.sessions_val)
		return -ENOMEM;
	for (struct conn *conn = conns ? conn_next(conns, NULL) : NULL;
	     conn && out->sessions.sessions_len < count && out->sessions.sessions_len < SCP_LIST_MAX;
	     conn = conn_next(conns, conn))
		describe_session(conn, &out->sessions.sessions_val[out->sessions.sessions_len++]);
	return 0;
}

int slave_describe_sessions(struct slave *slave, scp_sessions *out)
{
	struct loops *loops = serving_loops(slave->serving);
	int rc;

	loops_pause(loops);
	rc = describe_sessions(slave_conns(slave), out);
	loops_continue(loops);
	return rc;
}

static void drop_flow(struct slave *slave, const scp_flow *wire)
{
	struct flow_key flow;
	struct conn *conn;
	char text[FLOW_TEXT_MAX];

	slave_flow_from_wire(wire, &flow);
	conn = conn_find_flow(slave_conns(slave), &flow);
	if (!conn)
		return;
	log_warn("session", "session=%jx flow=\"%s\" dropped: the switch has given the flow to another device",
		 (uintmax_t)conn_facts(conn)->session, flow_text(&flow, text));
	conn_close(conn, true);
}

void slave_drop_flows(struct slave *slave, const scp_drop_flows *drop)
{
	struct loops *loops = serving_loops(slave->serving);

	loops_pause(loops);
	for (u_int i = 0; i < drop->flows.flows_len; i++)
		drop_flow(slave, &drop->flows.flows_val[i]);
	loops_continue(loops);
}

/* SCP */

static void fill_hello(scp_hello *hello, void *arg)
{
	struct slave *slave = arg;
	const struct settings *settings = slave->options.settings;

	hello->software = (char *)PACKAGE_STRING;
	hello->name = (char *)settings->name;
	hello->address = slave->address;
	hello->port = settings->scp_port;
	memcpy(hello->mac, slave->mac, sizeof(hello->mac));
	hello->capabilities = SCP_CAN_RELAY | (settings->handoff ? SCP_CAN_HANDOFF : 0);
	/* A slave knows whether it can only after its first snapshot; it says so when asked to open (Fail). */
	if (slave->serves && !slave->helper)
		hello->capabilities &= ~(u_int)SCP_CAN_HANDOFF;
	hello->revision = namespace_revision(slave->options.ns);
	hello->serial = (char *)"";
}

/* Of one core, since the last round of heartbeats; the same for all devices that are told in one round. */
static uint32_t cpu_permille(struct slave *slave)
{
	uint64_t now_ns = clock_ns(CLOCK_MONOTONIC), used_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	uint64_t elapsed_ns = now_ns - slave->beat_ns;

	if (elapsed_ns < SCP_BEAT_MS * 1000000ull / 2)
		return slave->cpu_permille;
	slave->cpu_permille = (uint32_t)((used_ns - slave->beat_used_ns) * 1000 / elapsed_ns);
	slave->beat_ns = now_ns;
	slave->beat_used_ns = used_ns;
	return slave->cpu_permille;
}

static void fill_heartbeat(scp_heartbeat *beat, void *arg)
{
	struct slave *slave = arg;
	struct file_service_counters counters = slave_file_counters(slave);

	beat->revision = namespace_revision(slave->options.ns);
	beat->time_ns = clock_wall_ns();
	beat->cpu_permille = cpu_permille(slave);
	placing_note_workload(slave->placing, slave->options.self, beat->cpu_permille);
	beat->sessions = slave_conns(slave) ? (u_int)conn_count(slave_conns(slave)) : 0;
	beat->read_bytes = counters.read_bytes;
	beat->written_bytes = counters.written_bytes;
	for (size_t i = 0; i < NFS3_PROCEDURES; i++)
		beat->operations += counters.nfs3[i];
}

static int may_join(uint32_t node, const scp_hello *hello, char *reason, size_t size, void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	return role->may_join(node, hello, reason, size, role->arg);
}

static void on_up(uint32_t node, scp_channel channel, const scp_hello *hello, void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	if (node < NODES_MAX)
		slave->capabilities[node] = hello->capabilities;
	if (channel == SCP_RELAY)
		relay_node_found(slave->relay);
	role->on_up(node, channel, hello, role->arg);
}

static void on_down(uint32_t node, scp_channel channel, const char *reason, void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	if (channel == SCP_RELAY)
		relay_node_lost(slave->relay, node);
	else
		locks_node_lost(slave->locks, node);
	if (channel == SCP_CONTROL && slave->handoffs)
		handoffs_node_lost(slave->handoffs, node);
	role->on_down(node, channel, reason, role->arg);
}

static void on_message(uint32_t node, scp_channel channel, uint32_t request, const scp_message *message, void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;
	bool from_master = node == NAMESPACE_MASTER;

	switch (message->type) {
	case SCP_RELAY_CALL:
	case SCP_RELAY_REPLY:
		if (channel == SCP_RELAY)
			relay_received(slave->relay, node, request, message);
		break;
	case SCP_CLIENT_CALL:
	case SCP_CLIENT_ANSWER:
	case SCP_CLIENT_REBOOTED:
		locks_received(slave->locks, node, request, message);
		break;
	case SCP_TCH:
		received_tch(slave, node, &message->scp_message_u.tch);
		break;
	case SCP_HANDOFF_ORDER:
		if (from_master)
			received_order(slave, node, request, &message->scp_message_u.handoff_order);
		break;
	case SCP_WHY:
		if (from_master)
			received_why(slave, node, request, &message->scp_message_u.why);
		break;
	case SCP_HEARTBEAT:
		placing_note_workload(slave->placing, node, message->scp_message_u.heartbeat.cpu_permille);
		role->on_message(node, request, message, role->arg);
		break;
	case SCP_VOLUME_OPEN:
		if (from_master)
			received_volume_open(slave, node, request, &message->scp_message_u.volume_open);
		break;
	case SCP_VOLUME_CLOSE:
		if (from_master)
			received_volume_close(slave, node, request, &message->scp_message_u.volume_close);
		break;
	case SCP_DROP_FLOWS:
		if (from_master && slave_conns(slave))
			slave_drop_flows(slave, &message->scp_message_u.drop_flows);
		break;
	default:
		role->on_message(node, request, message, role->arg);
	}
}

static void on_enrol(const scp_enrol *enrol, const char *peer, scp_enrol_reply *reply, void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	role->on_enrol(enrol, peer, reply, role->arg);
}

static const struct scp_handlers slave_handlers = {
	.fill_hello = fill_hello,
	.may_join = may_join,
	.on_up = on_up,
	.on_down = on_down,
	.on_message = on_message,
	.fill_heartbeat = fill_heartbeat,
};

static const struct scp_handlers master_handlers = {
	.fill_hello = fill_hello,
	.may_join = may_join,
	.on_up = on_up,
	.on_down = on_down,
	.on_message = on_message,
	.on_enrol = on_enrol,
	.fill_heartbeat = fill_heartbeat,
};

int slave_start_scp(struct slave *slave)
{
	const struct settings *settings = slave->options.settings;
	char pki[PATH_MAX];
	struct scp_options options = {
		.base = slave->options.base,
		.self = slave->options.self,
		.listen_port = settings->scp_port,
		.handlers = settings->mode == SETTINGS_MODE_MASTER ? &master_handlers : &slave_handlers,
		.arg = slave,
	};
	int rc;

	snprintf(pki, sizeof(pki), "%.4000s/pki", settings->state_dir);
	rc = certificates_tls(pki, &slave->tls);
	if (rc < 0) {
		log_err("scp", "no certificate in %s: %s", pki, strerror(-rc));
		return rc;
	}
	options.tls = slave->tls;
	memcpy(options.cluster, slave->options.cluster, sizeof(options.cluster));
	rc = scp_new(&options, &slave->scp);
	if (rc < 0)
		return rc;
	relay_set_scp(slave->relay, slave->scp);
	locks_set_scp(slave->locks, slave->scp);
	return 0;
}

/* Serving */

/* Sessions are made by the device with the higher id; the master is everybody's, and uplink.c keeps that one. */
static void slave_meet_others(struct slave *slave)
{
	const ns_node *node;

	for (size_t at = 0; slave->scp && (node = namespace_next_node(slave->options.ns, &at));)
		if (node->id != NAMESPACE_MASTER && node->id < slave->options.self && node->state == NS_NODE_APPROVED &&
		    node->address[0])
			scp_connect(slave->scp, node->id, node->address, (uint16_t)node->port);
}

/* A node that was removed has a good certificate still: whoever has a session with it ends that. */
static void slave_leave_removed(struct slave *slave)
{
	for (uint32_t id = NAMESPACE_MASTER + 1; slave->scp && id < NODES_MAX; id++) {
		const ns_node *node = namespace_node(slave->options.ns, id);

		if (id != slave->options.self && (!node || node->state != NS_NODE_APPROVED))
			scp_disconnect(slave->scp, id, "the node was removed from the cluster");
	}
}

/* The cluster's VIPs, split: pointers into @text. */
static size_t split_vips(char *text, const char *vips[VIPS_MAX])
{
	size_t count = 0;

	for (char *vip; count < VIPS_MAX && (vip = strsep(&text, " "));)
		if (vip[0])
			vips[count++] = vip;
	return count;
}

static size_t all_interfaces(const struct settings *settings, char names[KERNEL_HELPER_INTERFACES_MAX][IFNAMSIZ])
{
	size_t count = 0;

	if (settings->mode == SETTINGS_MODE_SLAVE) {
		memcpy(names[0], settings->interface, IFNAMSIZ);
		return 1;
	}
	for (size_t i = 0; i < settings->client_interface_count && count < KERNEL_HELPER_INTERFACES_MAX; i++)
		memcpy(names[count++], settings->client_interfaces[i], IFNAMSIZ);
	for (size_t i = 0; i < settings->disk_interface_count && count < KERNEL_HELPER_INTERFACES_MAX; i++) {
		size_t j = 0;

		while (j < count && strcmp(names[j], settings->disk_interfaces[i]) != 0)
			j++;
		if (j == count)
			memcpy(names[count++], settings->disk_interfaces[i], IFNAMSIZ);
	}
	return count;
}

static int set_up_machine(struct slave *slave, const char *const *vips, size_t vip_count)
{
	const struct settings *settings = slave->options.settings;
	char names[KERNEL_HELPER_INTERFACES_MAX][IFNAMSIZ];
	const char *interfaces[KERNEL_HELPER_INTERFACES_MAX];
	size_t count = all_interfaces(settings, names);

	for (size_t i = 0; i < count; i++)
		interfaces[i] = names[i];
	if (settings->mode == SETTINGS_MODE_SLAVE)
		return machine_setup_slave(slave->machine, settings->interface, vips, vip_count);
	return machine_setup_master(slave->machine, settings->client_interfaces[0], interfaces, count, vips, vip_count);
}

static int make_kernel_helper(struct event_base *base, const struct settings *settings, struct kernel_helper **out)
{
	struct kernel_helper_options options = { .pin_dir = settings->bpf_dir, .park_name = "vnas-park" };

	options.interface_count = all_interfaces(settings, options.interfaces);
	return kernel_helper_new(base, &options, out);
}

void slave_remove_kernel_helper(struct event_base *base, const struct settings *settings)
{
	struct kernel_helper *helper;

	if (make_kernel_helper(base, settings, &helper) == 0)
		kernel_helper_free(helper, true);
}

static void start_handoffs(struct slave *slave)
{
	const struct settings *settings = slave->options.settings;
	struct handoffs_options handoffs = {
		.base = slave->options.base,
		.self = slave->options.self,
		.conns = slave_conns(slave),
		.loops = serving_loops(slave->serving),
		.functions = &handoff_functions,
		.arg = slave,
	};
	const char *why_not = !settings->handoff     ? "handoff = no in the configuration" :
			      slave->keeps_sessions ? "there is no forwarding table" :
						      NULL;
	int rc = -EOPNOTSUPP;

	if (!why_not)
		rc = make_kernel_helper(slave->options.base, settings, &slave->helper);
	if (rc < 0)
		log_warn("tch", "this device makes and takes no handoffs, all work for other devices is relayed: %s",
			 why_not ? why_not : strerror(-rc));
	handoffs.helper = slave->helper;
	slave->handoffs = handoffs_new(&handoffs);
}

static void stop_handoffs(struct slave *slave)
{
	handoffs_free(slave->handoffs);
	slave->handoffs = NULL;
	kernel_helper_free(slave->helper, true);
	slave->helper = NULL;
}

static int start_serving(struct slave *slave)
{
	const ns_cluster *cluster = namespace_cluster(slave->options.ns);
	const char *vips[VIPS_MAX];
	char *text = strdup(cluster->vips);
	struct serving_options options = {
		.self = slave->options.self,
		.handlers = &conn_handlers,
		.vips = vips,
		.arg = slave,
	};
	int rc = -ENOMEM;

	if (!text)
		return -ENOMEM;
	options.vip_count = split_vips(text, vips);
	if (options.vip_count) {
		rc = set_up_machine(slave, vips, options.vip_count); /* says itself what is wrong */
		if (rc < 0)
			goto out;
	}
	rc = serving_prepare(slave->serving, &options);
	if (rc == 0 && options.vip_count)
		start_handoffs(slave);
	if (rc == 0)
		rc = serving_listen(slave->serving);
	if (rc < 0) /* the connections that they would be about are gone; the next try makes new ones */
		stop_handoffs(slave);
	slave->serves = rc == 0;
out:
	free(text);
	return rc;
}

void slave_keep_sessions(struct slave *slave)
{
	slave->keeps_sessions = true;
}

int slave_follow(struct slave *slave)
{
	int rc = 0;

	volumes_follow(slave->volumes, slave->options.ns, slave->options.self);
	locks_follow(slave->locks);
	slave_meet_others(slave);
	slave_leave_removed(slave);
	if (!slave->serves)
		rc = start_serving(slave);
	return rc;
}

/* Life */

static void find_own_address(struct slave *slave)
{
	const struct settings *settings = slave->options.settings;
	struct ifaddrs *all, *at;

	snprintf(slave->address, sizeof(slave->address), "%s", settings->address);
	machine_mac(slave_interface(settings), slave->mac);
	if (slave->address[0] || getifaddrs(&all) < 0)
		return;
	for (at = all; at && !slave->address[0]; at = at->ifa_next)
		if (at->ifa_addr && at->ifa_addr->sa_family == AF_INET &&
		    strcmp(at->ifa_name, slave_interface(settings)) == 0)
			getnameinfo(at->ifa_addr, sizeof(struct sockaddr_in), slave->address, sizeof(slave->address),
				    NULL, 0, NI_NUMERICHOST);
	freeifaddrs(all);
}

static int open_volumes(struct slave *slave)
{
	const struct settings *settings = slave->options.settings;
	char path[PATH_MAX], why[512];
	int rc;

	snprintf(path, sizeof(path), "%.4000s/volumes", settings->state_dir);
	rc = volumes_open(path, &slave->volumes);
	for (unsigned int i = 0; rc == 0 && i < settings->volume_count; i++) {
		const struct settings_volume *volume = &settings->volumes[i];

		if (volumes_add(slave->volumes, volume->path, volume->place, why, sizeof(why)) < 0)
			log_err("volumes", "%s; this volume is left out until the daemon starts again", why);
	}
	return rc;
}

static int start_locks(struct slave *slave)
{
	const struct settings *settings = slave->options.settings;
	struct locks_options locks = {
		.base = slave->options.base,
		.ns = slave->options.ns,
		.files = slave->files,
		.workers = slave->workers,
		.state_dir = settings->state_dir,
		.self = slave->options.self,
		.is_switch = settings->mode == SETTINGS_MODE_MASTER,
	};

	return locks_new(&locks, &slave->locks);
}

static void before_change(void *arg)
{
	loops_pause(arg);
}

static void after_change(void *arg)
{
	loops_continue(arg);
}

/* What they read changes while they are paused. */
static void share_with_data_loops(struct slave *slave)
{
	struct loops *loops = serving_loops(slave->serving);
	const struct namespace_guard guard = { .before = before_change, .after = after_change, .arg = loops };

	volumes_use(slave->volumes, slave->workers, loops);
	namespace_set_guard(slave->options.ns, &guard);
}

int slave_new(const struct slave_options *options, struct slave **out)
{
	const struct settings *settings = options->settings;
	struct slave *slave = calloc(1, sizeof(*slave));
	struct file_service_options files = {
		.base = options->base,
		.ns = options->ns,
		.self = options->self,
		.find_volume = find_volume,
		.relay = relay_to,
		.arg = slave,
	};
	char record[PATH_MAX];
	int rc;

	if (!slave)
		return -ENOMEM;
	slave->options = *options;
	find_own_address(slave);
	rc = open_volumes(slave);
	if (rc < 0)
		goto fail;
	snprintf(record, sizeof(record), "%.4000s/machine", settings->state_dir);
	rc = machine_open(record, &slave->machine);
	if (rc < 0)
		goto fail;
	rc = workers_new(options->base, WORKERS_DEFAULT, &slave->workers);
	if (rc < 0)
		goto fail;
	files.workers = slave->workers;
	rc = loop_new(options->base, &slave->control);
	if (rc < 0)
		goto fail;
	rc = -ENOMEM;
	slave->tidy = event_new(options->base, -1, EV_PERSIST, on_tidy, slave);
	if (!slave->tidy || event_add(slave->tidy, &(struct timeval){ .tv_sec = 1 }))
		goto fail;
	slave->placing = placing_new(&settings->placement, options->self);
	if (!slave->placing)
		goto fail;
	slave->files = file_service_new(&files);
	if (!slave->files)
		goto fail;
	rc = start_locks(slave);
	if (rc < 0)
		goto fail;
	rc = -ENOMEM;
	slave->serving = serving_new(options->base, settings, slave->files, slave->locks);
	if (!slave->serving)
		goto fail;
	share_with_data_loops(slave);
	slave->relay = relay_new(options->base, serving_rpc(slave->serving));
	if (!slave->relay)
		goto fail;
	*out = slave;
	return 0;
fail:
	slave_free(slave, false);
	return rc;
}

void slave_free(struct slave *slave, bool for_good)
{
	if (!slave)
		return;
	loops_pause(serving_loops(slave->serving));
	handoffs_free(slave->handoffs);
	slave->handoffs = NULL;
	loops_continue(serving_loops(slave->serving));
	serving_stop(slave->serving);
	namespace_set_guard(slave->options.ns, NULL);
	if (slave->volumes)
		volumes_use(slave->volumes, NULL, NULL);
	loop_free(slave->control);
	if (slave->tidy)
		event_free(slave->tidy);
	/* First, or what the workers have found would begin work that nobody does any more. */
	if (slave->files)
		file_service_stop(slave->files);
	workers_free(slave->workers);
	if (slave->relay)
		relay_set_scp(slave->relay, NULL);
	if (slave->locks) {
		locks_drain(slave->locks);
		locks_set_scp(slave->locks, NULL);
	}
	if (slave->scp)
		scp_free(slave->scp);
	relay_free(slave->relay);
	serving_free(slave->serving);
	locks_free(slave->locks);
	placing_free(slave->placing);
	kernel_helper_free(slave->helper, for_good);
	if (slave->files)
		file_service_free(slave->files);
	volumes_close(slave->volumes);
	if (slave->machine)
		machine_close(slave->machine, for_good);
	SSL_CTX_free(slave->tls);
	free(slave);
}

struct scp *slave_scp(struct slave *slave)
{
	return slave->scp;
}

struct volumes *slave_volumes(struct slave *slave)
{
	return slave->volumes;
}

struct handoffs *slave_handoffs(struct slave *slave)
{
	return slave->handoffs;
}

struct conn_server *slave_conns(struct slave *slave)
{
	return serving_conns(slave->serving);
}

struct conn_memory_counters slave_memory(struct slave *slave)
{
	return serving_memory(slave->serving);
}

struct file_service_counters slave_file_counters(struct slave *slave)
{
	struct loops *loops = serving_loops(slave->serving);
	struct file_service_counters counters;

	loops_pause(loops);
	counters = file_service_counters(slave->files);
	loops_continue(loops);
	return counters;
}

struct file_service *slave_files(struct slave *slave)
{
	return slave->files;
}

struct locks *slave_locks(struct slave *slave)
{
	return slave->locks;
}

struct kernel_helper *slave_kernel_helper(struct slave *slave)
{
	return slave->helper;
}

struct machine *slave_machine(struct slave *slave)
{
	return slave->machine;
}

uint32_t slave_self(const struct slave *slave)
{
	return slave->options.self;
}
