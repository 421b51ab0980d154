/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/slave.h"

#include "common/certificates.h"
#include "common/clock.h"
#include "common/conn_moves.h"
#include "common/file_service.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/machine.h"
#include "common/stored_file.h"
#include "common/workers.h"
#include "slave/examiner.h"
#include "slave/load.h"
#include "slave/locks.h"
#include "slave/made_volumes.h"
#include "slave/spread.h"
#include "slave/members.h"
#include "slave/placing.h"
#include "slave/device_log.h"
#include "slave/disks.h"
#include "slave/relay.h"
#include "slave/renewal.h"
#include "slave/serving.h"
#include "slave/session_look.h"
#include "slave/succession.h"
#include "slave/timekeeping.h"

#include <errno.h>
#include <event2/event.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

enum { NODES_MAX = MEMBERS_MAX, VIPS_MAX = SETTINGS_VIPS_MAX };

enum { HELD_AT_SWITCH_MS = 20000 }; /* the master knows earlier that nobody has what an earlier run held */

struct slave {
	struct slave_options options;
	struct placing *placing;
	struct volumes *volumes;
	struct workers *workers;
	struct disks *disks;
	struct loop *control; /* for letters of data loops */
	struct made_volumes *made;
	struct spreads *spreads;
	struct spread_follower *spread_follower;
	struct event *tidy;   /* each second */
	struct file_service *files;
	struct locks *locks;
	struct relay *relay;
	struct machine *machine;
	struct kernel_helper *helper; /* NULL: this device relays only */
	struct tch *tch;
	struct serving *serving;
	struct succession *succession; /* while it comes to rest for the next run */
	struct scp *scp;
	struct members *members;
	struct load_meter *load;
	struct timekeeping *timekeeping;
	struct renewal *renewal;
	struct examiner *examiner;
	SSL_CTX *tls;
	char pki[PATH_MAX];
	bool serves;
	bool keeps_sessions; /* slave_keep_sessions() */
	uint32_t capabilities[NODES_MAX]; /* of the devices that we have a session with */
	uint64_t beat_ns, beat_used_ns;	  /* when cpu_permille was measured, and CPU time until then */
	uint32_t cpu_permille;
	char address[NI_MAXHOST];	  /* where others reach us */
	uint8_t mac[6];
	char serial[MACHINE_SERIAL_TEXT];
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

static void measure_load(struct slave *slave)
{
	const ns_volume *volume;

	for (size_t at = 0; (volume = namespace_next_volume(slave->options.ns, &at));)
		if (volume->node == slave->options.self && volumes_find(slave->volumes, volume->id) &&
		    !made_volumes_is_path(volume->path)) /* whose room is that of the volume it is on */
			load_meter_want(slave->load, volume->id, volume->path);
	load_meter_measure(slave->load);
}

static bool has_left(uint32_t id, void *arg)
{
	struct slave *slave = arg;

	return volumes_has_left(slave->volumes, slave->options.ns, id);
}

static void on_tidy(evutil_socket_t fd, short what, void *arg)
{
	struct slave *slave = arg;

	(void)fd, (void)what;
	volumes_tidy(slave->volumes);
	measure_load(slave);
}

static void relay_to(uint32_t node, struct rpc_call *call, void *arg)
{
	struct slave *slave = arg;

	relay_call(slave->relay, node, call);
}

void slave_carry(struct slave *slave, uint32_t node, struct rpc_call *call)
{
	if (node == slave->options.self)
		rpc_dispatch(serving_rpc(slave->serving), call);
	else
		relay_call(slave->relay, node, call);
}

static void change_spread(struct spread_call *call, void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	role->change_spread(call, role->arg);
}

static void tell_of_spread(uint32_t request, const scp_message *message, void *arg)
{
	struct slave *slave = arg;

	scp_send(slave->scp, NAMESPACE_MASTER, SCP_CONTROL, request, message);
}

static bool is_settled(void *arg)
{
	struct slave *slave = arg;

	return relay_is_settled(slave->relay, NAMESPACE_MASTER);
}

static int start_spreads(struct slave *slave)
{
	struct spread_follower_options options = {
		.volumes = slave->volumes,
		.workers = slave->workers,
		.send = tell_of_spread,
		.is_settled = is_settled,
		.arg = slave,
	};

	slave->spreads = spreads_new(slave->options.ns);
	options.spreads = slave->spreads;
	slave->spread_follower = slave->spreads ? spread_follower_new(&options) : NULL;
	return slave->spread_follower ? 0 : -ENOMEM;
}

/* Connections */

/*
 * Of TCP the kernel keeps the interface that the SYN came in by (ip(7), IP_PKTOPTIONS; IPv6 has it under its old name, RFC 2292).
 * Return: its index; 0: it does not say
 */
static unsigned int incoming_interface(int fd, bool is_ipv6)
{
	const int level = is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, wanted = is_ipv6 ? IPV6_RECVPKTINFO : IP_PKTINFO;
	union {
		struct cmsghdr header;
		char bytes[256];
	} buffer;
	socklen_t len = sizeof(buffer);
	struct msghdr message = { .msg_control = &buffer };
	unsigned int found = 0;

	if (setsockopt(fd, level, wanted, &(int){ 1 }, sizeof(int)) ||
	    getsockopt(fd, level, is_ipv6 ? IPV6_2292PKTOPTIONS : IP_PKTOPTIONS, &buffer, &len))
		len = 0;
	setsockopt(fd, level, wanted, &(int){ 0 }, sizeof(int));
	message.msg_controllen = len;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
			found = (unsigned int)((struct in_pktinfo *)CMSG_DATA(c))->ipi_ifindex;
		else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
			found = ((struct in6_pktinfo *)CMSG_DATA(c))->ipi6_ifindex;
	return found;
}

/* To this machine's own clients the interface looks like that of the address (ip_route_output_key(), Linux). */
static bool is_own_address(const struct sockaddr_storage *address)
{
	struct sockaddr_storage any_port = *address;
	bool is_own;
	int fd;

	if (address->ss_family == AF_INET6)
		((struct sockaddr_in6 *)&any_port)->sin6_port = 0;
	else
		((struct sockaddr_in *)&any_port)->sin_port = 0;
	fd = socket(address->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	is_own = fd < 0 || bind(fd, (struct sockaddr *)&any_port, sizeof(any_port)) == 0;
	if (fd >= 0)
		close(fd);
	return is_own;
}

static bool is_one_of(unsigned int ifindex, const char (*names)[IFNAMSIZ], unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		if (if_nametoindex(names[i]) == ifindex)
			return true;
	return false;
}

/*
 * Does what the client sends pass our BPF programs? Not if the client is this machine itself, or comes by an interface that the
 * configuration does not name, as the VLAN of one that it does. Elsewhere nobody would hear of such a client.
 */
static bool came_by_our_ports(const struct slave *slave, int fd)
{
	const struct settings *settings = slave->options.settings;
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	unsigned int ifindex;

	if (getpeername(fd, (struct sockaddr *)&address, &len) || is_own_address(&address))
		return false;
	ifindex = incoming_interface(fd, address.ss_family == AF_INET6);
	if (settings->mode == SETTINGS_MODE_MASTER)
		return is_one_of(ifindex, settings->client_interfaces, settings->client_interface_count);
	return is_one_of(ifindex, &settings->interface, 1);
}

static bool on_accept(int fd, struct kernel_helper_static *fixed, void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	if (role->on_accept)
		role->on_accept(fd, role->arg);
	return slave->helper && came_by_our_ports(slave, fd) && kernel_helper_adopt(slave->helper, fd, fixed) == 0;
}

/* A session that its data loop wants handed off. */
struct move {
	struct letter letter;
	struct slave *slave;
	uint64_t session;
	uint32_t node;
	bool only_prepare;
	enum tch_kind_of_handoff kind;
};

/* What others could do as well is not given to a device that may be going, or that is being drained. */
static bool gets_work(const struct slave *slave, uint32_t node)
{
	const ns_node *known = namespace_node(slave->options.ns, node);

	return node == slave->options.self ||
	       (member_gets_work(slave_member(slave, node)) && known && known->state != NS_NODE_DRAINING);
}

static void move_open(struct letter *letter)
{
	struct move *move = (struct move *)letter;
	struct tch *tch = gets_work(move->slave, move->node) ? move->slave->tch : NULL;

	if (tch && move->only_prepare)
		tch_so_hnd(tch, move->session, move->node, true);
	else if (tch)
		tch_so_set(tch, move->session, move->node, move->kind, NULL, NULL);
	free(move);
}

/* Much that is still to be sent need not be carried over. */
static enum tch_kind_of_handoff kind_for(const struct slave *slave, const struct conn *conn)
{
	uint64_t halve = placing_policy(slave->placing)->halve;

	return halve && conn_sending_len(conn) > halve ? TCH_HALF_TO_DEVICES : TCH_FULL;
}

/* Without memory it stays, until its next try. */
static void ask_to_move(struct slave *slave, struct conn *conn, const struct placing_advice *advice)
{
	struct move *move = malloc(sizeof(*move));

	if (!move)
		return;
	*move = (struct move){
		.letter.open = move_open,
		.slave = slave,
		.session = conn_facts(conn)->session,
		.node = advice->node,
		.only_prepare = !advice->moves,
		.kind = kind_for(slave, conn),
	};
	loop_post(slave->control, &move->letter);
}

/* By location: the session follows its file data. In a data loop: `tch` is there before there are connections. */
static void on_work(struct conn *conn, const struct rpc_call *call, void *arg)
{
	struct slave *slave = arg;
	struct placing_advice advice = { 0 };
	const ns_volume *volume;

	if (!call->moved_data || !slave->tch || !conn_is_movable(conn))
		return;
	volume = namespace_volume(slave->options.ns, call->volume);
	if (volume)
		placing_work(slave->placing, conn, volume->node, call->data_bytes, &advice);
	if (advice.node)
		ask_to_move(slave, conn, &advice);
}

static void on_closed(uint64_t session, void *arg)
{
	struct slave *slave = arg;

	if (slave->tch)
		tch_session_closed(slave->tch, session);
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

	if (slave->tch)
		tch_received(slave->tch, node, &tch);
	else if (tch.kind == TCH_KIND_OPEN)
		refuse_tch(slave, node, &tch);
}

static int find_node(uint32_t id, bool is_special, uint8_t mac[static 6], unsigned int *ifindex, void *arg)
{
	struct slave *slave = arg;
	const ns_node *node = namespace_node(slave->options.ns, id);

	if (!node || id >= NODES_MAX || !slave->scp || !scp_is_up(slave->scp, id, SCP_CONTROL))
		return -EHOSTDOWN;
	if (!(slave->capabilities[id] & SCP_CAN_HANDOFF) || (is_special && !(slave->capabilities[id] & SCP_CAN_SHARE)))
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

static const struct tch_network tch_network = {
	.send = send_tch,
	.find_node = find_node,
	.change_owner = change_owner,
	.announce_owner = announce_owner,
};

/* Calls that come by way of another device, whose session could as well be here. */
static void on_relayed_work(uint32_t node, const struct flow_key *from, uint64_t data_bytes, void *arg)
{
	struct slave *slave = arg;
	struct flow_key flow = *from;

	flow.vip_port = htons(slave->options.settings->nfs_port);
	flow.protocol = IPPROTO_TCP;
	if (slave->tch && placing_relayed(slave->placing, &flow, node, data_bytes))
		tch_request(slave->tch, &flow, node);
}

void slave_owner_changed(struct slave *slave, const struct flow_key *flow, uint32_t node, uint16_t transaction)
{
	if (slave->tch)
		tch_confirmed(slave->tch, flow, node, transaction);
}

void slave_flow_taken_back(struct slave *slave, const struct flow_key *flow)
{
	if (slave->tch)
		tch_taken_back(slave->tch, flow);
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

_Static_assert((int)SCP_HALF_TO_DEVICES == (int)TCH_HALF_TO_DEVICES && (int)SCP_HALF_TO_CLIENT == (int)TCH_HALF_TO_CLIENT,
	       "an order names the kinds as TCH does");

int slave_handoff(struct slave *slave, const scp_special_order *order, tch_done_fn on_done, void *arg)
{
	int rc;

	if (!slave->tch)
		return -EOPNOTSUPP;
	if (!gets_work(slave, order->node))
		return -EHOSTDOWN;
	if (order->special != SCP_PREPARE)
		return tch_so_set(slave->tch, order->session, order->node, (enum tch_kind_of_handoff)order->special,
				     on_done, arg);
	rc = tch_so_hnd(slave->tch, order->session, order->node, true);
	if (rc == 0)
		on_done(order->session, order->node, 0, 0, arg);
	return rc;
}

static void received_order(struct slave *slave, uint32_t node, uint32_t request, const scp_special_order *wire)
{
	struct order *order = malloc(sizeof(*order));
	int rc;

	if (!order)
		return;
	*order = (struct order){ .slave = slave, .node = node, .request = request };
	rc = slave_handoff(slave, wire, order_done, order);
	if (rc < 0)
		order_answer(order, wire->session, rc, 0);
}

static void received_full_order(struct slave *slave, uint32_t node, uint32_t request, const scp_handoff_order *wire)
{
	scp_special_order order = { .session = wire->session, .node = wire->node };

	received_order(slave, node, request, &order);
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

void slave_session_look(struct slave *slave, uint64_t session, scp_session_facts *out)
{
	session_look(slave_conns(slave), serving_loops(slave->serving), slave->tch, session, out);
}

static void received_session_look(struct slave *slave, uint32_t node, uint32_t request, const scp_session_look *wire)
{
	scp_message message = { .type = SCP_SESSION_FACTS };

	slave_session_look(slave, wire->session, &message.scp_message_u.session_facts);
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

/* Who is to be told what became of an order. */
struct asked {
	struct slave *slave;
	uint32_t node, request;
};

static void asked_done(int result, const char *why, void *arg)
{
	struct asked *asked = arg;

	send_result(asked->slave, asked->node, asked->request, result, result < 0 ? why : "");
	free(asked);
}

/* NULL: there is no memory, and that was said. */
static struct asked *asked_new(struct slave *slave, uint32_t node, uint32_t request)
{
	struct asked *asked = malloc(sizeof(*asked));

	if (asked)
		*asked = (struct asked){ slave, node, request };
	else
		send_result(slave, node, request, -ENOMEM, "no memory");
	return asked;
}

static void received_volume_make(struct slave *slave, uint32_t node, uint32_t request, const scp_volume_make *wire)
{
	struct asked *asked = asked_new(slave, node, request);

	if (asked)
		made_volumes_make(slave->made, (const uint8_t *)wire->uuid, (const uint8_t *)wire->on, wire->place, asked_done, asked);
}

static void received_volume_unmake(struct slave *slave, uint32_t node, uint32_t request, const scp_volume_unmake *wire)
{
	struct asked *asked = asked_new(slave, node, request);

	if (asked)
		made_volumes_unmake(slave->made, (const uint8_t *)wire->uuid, asked_done, asked);
}

static void made_volume_gone(const uint8_t uuid[static NS_UUID_BYTES], void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	role->on_volume_gone(uuid, role->arg);
}

static void received_volume_close(struct slave *slave, uint32_t node, uint32_t request, const scp_volume_close *wire)
{
	int rc = slave_forget_volume(slave, (const uint8_t *)wire->uuid);

	send_result(slave, node, request, rc, rc < 0 ? strerror(-rc) : "");
}

int slave_forget_volume(struct slave *slave, const uint8_t uuid[static NS_UUID_BYTES])
{
	int rc = volumes_forget(slave->volumes, uuid);

	made_volumes_forget(slave->made, uuid);
	disks_forget(slave->disks, uuid);
	return rc;
}

/* Disks */

static void disk_volumes_changed(void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	made_volumes_follow(slave->made);
	volumes_follow(slave->volumes, slave->options.ns, slave->options.self);
	role->on_volumes(role->arg);
	made_volumes_resume(slave->made);
}

static int start_made_volumes(struct slave *slave)
{
	char record[PATH_MAX];
	const struct made_volumes_options made = {
		.state_file = record,
		.workers = slave->workers,
		.volumes = slave->volumes,
		.on_volumes = disk_volumes_changed,
		.on_gone = made_volume_gone,
		.arg = slave,
	};

	snprintf(record, sizeof(record), "%.4000s/made", slave->options.settings->state_dir);
	return made_volumes_new(&made, &slave->made);
}

static void disks_changed(void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	role->on_disks(role->arg);
}

static int start_disks(struct slave *slave)
{
	const struct disks_options disks = {
		.base = slave->options.base,
		.settings = slave->options.settings,
		.workers = slave->workers,
		.volumes = slave->volumes,
		.on_volumes = disk_volumes_changed,
		.on_change = disks_changed,
		.arg = slave,
	};

	return disks_new(&disks, &slave->disks);
}

static void received_disk_format(struct slave *slave, uint32_t node, uint32_t request, const scp_disk_format *wire)
{
	struct asked *asked = asked_new(slave, node, request);

	if (asked)
		disks_format(slave->disks, wire->device, wire->type, asked_done, asked);
}

/* An examination by the master */

/* Takes @asked. */
static void tell_facts(const struct examination_facts *facts, void *arg)
{
	scp_message message = { .type = SCP_EXAMINED };
	struct asked *asked = arg;

	if (examination_to_wire(facts, &message.scp_message_u.examined) == 0) {
		scp_send(asked->slave->scp, asked->node, SCP_CONTROL, asked->request, &message);
		free(message.scp_message_u.examined.facts.facts_val);
	}
	free(asked);
}

static void received_examine(struct slave *slave, uint32_t node, uint32_t request, const scp_examine *wire)
{
	struct asked *asked = asked_new(slave, node, request);
	int rc = asked ? examiner_find(slave->examiner, wire->names, tell_facts, asked) : -ENOMEM;

	if (!asked || rc == 0)
		return;
	send_result(slave, node, request, rc, strerror(-rc));
	free(asked);
}

struct examiner *slave_examiner(struct slave *slave)
{
	return slave->examiner;
}

/* Sessions */

/* Certificates */

static int ask_certificate(const char *request, void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	return role->ask_certificate(request, role->arg);
}

/* SCP keeps what it still uses. */
static void on_renewed(SSL_CTX *tls, void *arg)
{
	struct slave *slave = arg;

	scp_use_tls(slave->scp, tls);
	SSL_CTX_free(slave->tls);
	slave->tls = tls;
}

struct renewal_order {
	struct slave *slave;
	uint32_t node, request;
};

static void on_order_end(int result, const char *why, void *arg)
{
	struct renewal_order *order = arg;

	send_result(order->slave, order->node, order->request, result, why);
	free(order);
}

static void received_certificate_renew(struct slave *slave, uint32_t node, uint32_t request)
{
	struct renewal_order *order = malloc(sizeof(*order));
	int rc = -ENOMEM;

	if (order) {
		*order = (struct renewal_order){ slave, node, request };
		rc = slave_renew_certificate(slave, on_order_end, order);
	}
	if (rc < 0) {
		send_result(slave, node, request, rc, rc == -EBUSY ? "it is renewing its certificate already" : strerror(-rc));
		free(order);
	}
}

void slave_certified(struct slave *slave, const scp_certificate *answer)
{
	renewal_answered(slave->renewal, answer);
}

int slave_renew_certificate(struct slave *slave, void (*on_end)(int result, const char *why, void *arg), void *arg)
{
	return renewal_order(slave->renewal, on_end, arg);
}

const struct certificates_facts *slave_certificate(const struct slave *slave)
{
	return renewal_certificate(slave->renewal);
}

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
		if (!conn_is_half(conn)) /* else the other device reports it */
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
	hello->capabilities = SCP_CAN_RELAY | SCP_TAKES_DATAGRAMS |
			      (settings->handoff ? SCP_CAN_HANDOFF | SCP_CAN_SHARE : 0);
	/* A slave knows whether it can only after its first snapshot; it says so when asked to open (Fail). */
	if (slave->serves && !slave->helper)
		hello->capabilities &= ~(u_int)SCP_CAN_HANDOFF;
	hello->revision = namespace_revision(slave->options.ns);
	hello->serial = slave->serial;
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

static void send_load(struct slave *slave)
{
	scp_load_volume volumes[LOAD_VOLUMES_MAX];
	scp_message message = { .type = SCP_LOAD };
	struct load load;

	slave_load(slave, &load);
	load_to_wire(&load, &message.scp_message_u.load, volumes);
	/* A master that is too old for it is not told. */
	scp_send(slave->scp, NAMESPACE_MASTER, SCP_CONTROL, 0, &message);
}

static void ask_time(struct slave *slave)
{
	scp_message message = { .type = SCP_TIME_REQUEST };

	timekeeping_ask(slave->timekeeping, &message.scp_message_u.time_request);
	scp_send(slave->scp, NAMESPACE_MASTER, SCP_CONTROL, 0, &message); /* as above */
}

static void tell_time(struct slave *slave, uint32_t node, const scp_time_request *request)
{
	scp_message message = { .type = SCP_TIME };

	timekeeping_answer(request, clock_wall_ns(), &message.scp_message_u.time);
	scp_send(slave->scp, node, SCP_CONTROL, 0, &message);
}

static void on_beat(uint32_t node, void *arg)
{
	if (node != NAMESPACE_MASTER)
		return;
	send_load(arg);
	ask_time(arg);
}

static int may_join(uint32_t node, const scp_hello *hello, char *reason, size_t size, void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	return role->may_join(node, hello, reason, size, role->arg);
}

/* Of who is no member something else is said: may_join(). */
static int may_show(const struct certificates_facts *certificate, char *reason, size_t size, void *arg)
{
	const struct slave *slave = arg;

	if (!namespace_is_revoked(slave->options.ns, certificate->node, certificate->number) ||
	    !namespace_node(slave->options.ns, certificate->node))
		return 0;
	snprintf(reason, size, "certificate %s of node %u was revoked; vnasd(8) says what to do", certificate->serial,
		 certificate->node);
	return -EKEYREVOKED;
}

static void on_up(uint32_t node, scp_channel channel, const scp_hello *hello, void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	if (node < NODES_MAX)
		slave->capabilities[node] = hello->capabilities;
	if (channel == SCP_RELAY)
		relay_node_found(slave->relay);
	else
		relay_node_began(slave->relay, node);
	role->on_up(node, channel, hello, role->arg);
	if (channel == SCP_CONTROL)
		members_connected(slave->members, node);
	if (channel == SCP_CONTROL && node == NAMESPACE_MASTER && slave->renewal)
		renewal_connected(slave->renewal);
}

static void on_down(uint32_t node, scp_channel channel, const char *reason, void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	if (channel == SCP_RELAY)
		relay_node_lost(slave->relay, node);
	else
		locks_node_lost(slave->locks, node);
	if (channel == SCP_CONTROL && slave->tch)
		tch_node_lost(slave->tch, node);
	role->on_down(node, channel, reason, role->arg);
	if (channel == SCP_CONTROL && node == NAMESPACE_MASTER)
		timekeeping_lost(slave->timekeeping);
	if (channel == SCP_CONTROL)
		members_lost(slave->members, node, reason);
}

static void on_member(uint32_t node, void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	if (role->on_member)
		role->on_member(node, role->arg);
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
			received_full_order(slave, node, request, &message->scp_message_u.handoff_order);
		break;
	case SCP_SPECIAL_ORDER:
		if (from_master)
			received_order(slave, node, request, &message->scp_message_u.special_order);
		break;
	case SCP_TIME_REQUEST:
		tell_time(slave, node, &message->scp_message_u.time_request);
		break;
	case SCP_TIME:
		if (from_master)
			timekeeping_answered(slave->timekeeping, &message->scp_message_u.time);
		break;
	case SCP_WHY:
		if (from_master)
			received_why(slave, node, request, &message->scp_message_u.why);
		break;
	case SCP_SESSION_LOOK:
		if (from_master)
			received_session_look(slave, node, request, &message->scp_message_u.session_look);
		break;
	case SCP_LOG_LOOK:
		if (from_master)
			device_log_reply(slave->scp, node, request, &message->scp_message_u.log_look);
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
	case SCP_VOLUME_MAKE:
		if (from_master)
			received_volume_make(slave, node, request, &message->scp_message_u.volume_make);
		break;
	case SCP_VOLUME_UNMAKE:
		if (from_master)
			received_volume_unmake(slave, node, request, &message->scp_message_u.volume_unmake);
		break;
	case SCP_EXAMINE:
		if (from_master)
			received_examine(slave, node, request, &message->scp_message_u.examine);
		break;
	case SCP_SPREAD_UPDATE:
	case SCP_SPREAD_LIST:
		if (from_master)
			spread_follower_received(slave->spread_follower, request, message);
		break;
	case SCP_DISK_FORMAT:
		if (from_master)
			received_disk_format(slave, node, request, &message->scp_message_u.disk_format);
		break;
	case SCP_DISK_RESCAN:
		if (from_master) {
			disks_rescan(slave->disks);
			send_result(slave, node, request, 0, "");
		}
		break;
	case SCP_CERTIFICATE:
		if (from_master)
			slave_certified(slave, &message->scp_message_u.certificate);
		break;
	case SCP_CERTIFICATE_RENEW:
		if (from_master)
			received_certificate_renew(slave, node, request);
		break;
	case SCP_DROP_FLOWS:
		if (from_master && slave_conns(slave))
			slave_drop_flows(slave, &message->scp_message_u.drop_flows);
		break;
	default:
		role->on_message(node, request, message, role->arg);
	}
}

static void on_enrol(const scp_message *question, const char *peer, scp_enrol_reply *reply, void *arg)
{
	struct slave *slave = arg;
	const struct slave_role *role = slave->options.role;

	role->on_enrol(question, peer, reply, role->arg);
}

static const struct scp_handlers slave_handlers = {
	.fill_hello = fill_hello,
	.may_join = may_join,
	.may_show = may_show,
	.on_up = on_up,
	.on_down = on_down,
	.on_message = on_message,
	.on_beat = on_beat,
	.fill_heartbeat = fill_heartbeat,
};

static const struct scp_handlers master_handlers = {
	.fill_hello = fill_hello,
	.may_join = may_join,
	.may_show = may_show,
	.on_up = on_up,
	.on_down = on_down,
	.on_message = on_message,
	.on_enrol = on_enrol,
	.fill_heartbeat = fill_heartbeat,
};

int slave_start_scp(struct slave *slave)
{
	const struct settings *settings = slave->options.settings;
	struct renewal_options renewal = {
		.base = slave->options.base,
		.pki = slave->pki,
		.ask = ask_certificate,
		.on_renewed = on_renewed,
		.arg = slave,
	};
	struct scp_options options = {
		.base = slave->options.base,
		.self = slave->options.self,
		.listen_port = settings->scp_port,
		.silence_ms = settings->membership.down_ms,
		.handlers = settings->mode == SETTINGS_MODE_MASTER ? &master_handlers : &slave_handlers,
		.arg = slave,
	};
	int rc;

	snprintf(slave->pki, sizeof(slave->pki), "%.4000s/pki", settings->state_dir);
	rc = certificates_tls(slave->pki, &slave->tls);
	if (rc == 0)
		rc = renewal_new(&renewal, &slave->renewal);
	if (rc < 0) {
		log_err("scp", "no certificate in %s: %s", slave->pki, strerror(-rc));
		return rc;
	}
	options.tls = slave->tls;
	memcpy(options.cluster, slave->options.cluster, sizeof(options.cluster));
	rc = scp_new(&options, &slave->scp);
	if (rc < 0)
		return rc;
	relay_set_scp(slave->relay, slave->scp);
	locks_set_scp(slave->locks, slave->scp);
	members_set_scp(slave->members, slave->scp);
	return 0;
}

/* Serving */

/* Sessions are made by the device with the higher id; the master is everybody's, and uplink.c keeps that one. */
static void slave_meet_others(struct slave *slave)
{
	const ns_node *node;

	for (size_t at = 0; slave->scp && (node = namespace_next_node(slave->options.ns, &at));)
		if (node->id != NAMESPACE_MASTER && node->id < slave->options.self && namespace_is_member(node) &&
		    node->address[0])
			scp_connect(slave->scp, node->id, node->address, (uint16_t)node->port);
}

/* A node that was removed has a good certificate still: whoever has a session with it ends that. */
static void slave_leave_removed(struct slave *slave)
{
	for (uint32_t id = NAMESPACE_MASTER + 1; slave->scp && id < NODES_MAX; id++) {
		const ns_node *node = namespace_node(slave->options.ns, id);

		if (id != slave->options.self && !namespace_is_member(node))
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
	for (size_t i = 0; settings->serve_first && i < count; i++)
		machine_queue(slave->machine, interfaces[i]); /* without it all goes, if not first; it has said so */
	return machine_setup_master(slave->machine, settings->client_interfaces[0], interfaces, count, vips, vip_count);
}

static int make_kernel_helper(struct event_base *base, const struct settings *settings, struct kernel_helper **out)
{
	struct kernel_helper_options options = { .pin_dir = settings->bpf_dir, .park_name = "vnas-park" };

	options.interface_count = all_interfaces(settings, options.interfaces);
	if (settings->mode == SETTINGS_MODE_MASTER)
		options.held_ms = HELD_AT_SWITCH_MS;
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
	struct tch_setup setup = {
		.base = slave->options.base,
		.self = slave->options.self,
		.server = &conn_moves,
		.server_arg = slave_conns(slave),
		.network = &tch_network,
		.network_arg = slave,
		.loops = serving_loops(slave->serving),
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
	setup.helper = slave->helper;
	slave->tch = tch_new(&setup);
}

static void stop_handoffs(struct slave *slave)
{
	tch_free(slave->tch);
	slave->tch = NULL;
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
	if (rc == 0)
		succession_enter(slave_conns(slave), serving_loops(slave->serving));
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

	made_volumes_follow(slave->made);
	volumes_follow(slave->volumes, slave->options.ns, slave->options.self);
	spreads_follow(slave->spreads);
	locks_follow(slave->locks);
	slave_meet_others(slave);
	slave_leave_removed(slave);
	if (slave->scp)
		scp_review(slave->scp);
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
	machine_serial(settings->serial, slave->serial);
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

/* Volumes and disks, and what is known of this machine. */
static int start_storage(struct slave *slave)
{
	const struct settings *settings = slave->options.settings;
	struct examiner_options examiner = { .base = slave->options.base, .settings = settings, .ns = slave->options.ns, .slave = slave };
	char record[PATH_MAX];
	int rc = open_volumes(slave);

	if (rc < 0)
		return rc;
	snprintf(record, sizeof(record), "%.4000s/machine", settings->state_dir);
	rc = machine_open(record, &slave->machine);
	if (rc < 0)
		return rc;
	rc = workers_new(slave->options.base, WORKERS_DEFAULT, &slave->workers);
	if (rc < 0)
		return rc;
	examiner.workers = slave->workers;
	slave->load = load_meter_new(slave->workers, "");
	slave->timekeeping = timekeeping_new(settings->correct == SETTINGS_CORRECT_AUTO);
	slave->examiner = examiner_new(&examiner);
	if (!slave->load || !slave->timekeeping || !slave->examiner)
		return -ENOMEM;
	rc = start_disks(slave);
	if (rc == 0)
		rc = start_made_volumes(slave);
	return rc < 0 ? rc : start_spreads(slave);
}

/* Who else there is, and when sessions go there. */
static int start_watching(struct slave *slave)
{
	const struct settings *settings = slave->options.settings;
	struct members_options members = {
		.base = slave->options.base,
		.limits = &settings->membership,
		.ns = slave->options.ns,
		.on_change = on_member,
		.arg = slave,
	};
	int rc = loop_new(slave->options.base, &slave->control);

	if (rc < 0)
		return rc;
	slave->tidy = event_new(slave->options.base, -1, EV_PERSIST, on_tidy, slave);
	if (!slave->tidy || event_add(slave->tidy, &(struct timeval){ .tv_sec = 1 }))
		return -ENOMEM;
	slave->members = members_new(&members);
	slave->placing = placing_new(&settings->placement, slave->options.self);
	return slave->members && slave->placing ? 0 : -ENOMEM;
}

/* Files, locks, and the connections by which clients and other devices ask for them. */
static int start_service(struct slave *slave)
{
	const struct slave_options *options = &slave->options;
	struct file_service_options files = {
		.base = options->base,
		.ns = options->ns,
		.self = options->self,
		.workers = slave->workers,
		.spreads = slave->spreads,
		.change_spread = options->role->change_spread ? change_spread : NULL,
		.find_volume = find_volume,
		.has_left = has_left,
		.relay = relay_to,
		.arg = slave,
	};
	int rc;

	slave->files = file_service_new(&files);
	if (!slave->files)
		return -ENOMEM;
	rc = start_locks(slave);
	if (rc < 0)
		return rc;
	slave->serving = serving_new(options->base, options->settings, slave->files, slave->locks);
	if (!slave->serving)
		return -ENOMEM;
	share_with_data_loops(slave);
	slave->relay = relay_new(options->base, serving_rpc(slave->serving));
	if (!slave->relay)
		return -ENOMEM;
	relay_on_served(slave->relay, on_relayed_work, slave);
	return 0;
}

int slave_new(const struct slave_options *options, struct slave **out)
{
	struct slave *slave = calloc(1, sizeof(*slave));
	int rc;

	if (!slave)
		return -ENOMEM;
	slave->options = *options;
	find_own_address(slave);
	rc = start_storage(slave);
	if (rc == 0)
		rc = start_watching(slave);
	if (rc == 0)
		rc = start_service(slave);
	if (rc < 0) {
		slave_free(slave, false);
		return rc;
	}
	*out = slave;
	return 0;
}

int slave_rest(struct slave *slave, void (*on_rest)(void *arg), void *arg)
{
	int rc;

	if (!slave || !slave->serves)
		return -ENOTCONN;
	rc = succession_begin(slave->options.base, slave_conns(slave), serving_loops(slave->serving), on_rest, arg, &slave->succession);
	if (rc == 0)
		serving_stop_accepting(slave->serving);
	return rc;
}

static void leave_sessions(struct slave *slave)
{
	int count;

	if (!slave->succession)
		return;
	count = succession_leave(slave->succession);
	if (count >= 0 && serving_leave_listeners(slave->serving) < 0)
		log_warn("succession", "who connects before the next run listens is refused");
	if (count < 0)
		log_warn("succession", "the next run can't take over the clients' sessions: %s; the clients reconnect", strerror(-count));
	else if (count > 0)
		log_info("succession", "sessions=%d left to the next run", count);
	succession_free(slave->succession);
	slave->succession = NULL;
}

void slave_free(struct slave *slave, bool for_good)
{
	if (!slave)
		return;
	leave_sessions(slave);
	loops_pause(serving_loops(slave->serving));
	tch_free(slave->tch);
	slave->tch = NULL;
	loops_continue(serving_loops(slave->serving));
	serving_stop(slave->serving);
	namespace_set_guard(slave->options.ns, NULL);
	if (slave->volumes)
		volumes_use(slave->volumes, NULL, NULL);
	loop_free(slave->control);
	if (slave->tidy)
		event_free(slave->tidy);
	if (slave->disks)
		disks_stop(slave->disks);
	if (slave->made)
		made_volumes_stop(slave->made);
	if (slave->examiner)
		examiner_stop(slave->examiner);
	if (slave->options.role && slave->options.role->on_stop)
		slave->options.role->on_stop(slave->options.role->arg);
	/* First, or what the workers have found would begin work that nobody does any more. */
	if (slave->files)
		file_service_stop(slave->files);
	workers_free(slave->workers);
	load_meter_free(slave->load);
	if (slave->relay)
		relay_set_scp(slave->relay, NULL);
	if (slave->locks) {
		locks_drain(slave->locks);
		locks_set_scp(slave->locks, NULL);
	}
	if (slave->members)
		members_set_scp(slave->members, NULL);
	renewal_free(slave->renewal);
	if (slave->scp)
		scp_free(slave->scp);
	examiner_free(slave->examiner); /* is asked, and says no, while sessions end: the master's examination goes on without them */
	members_free(slave->members);
	timekeeping_free(slave->timekeeping);
	relay_free(slave->relay);
	serving_free(slave->serving);
	locks_free(slave->locks);
	placing_free(slave->placing);
	kernel_helper_free(slave->helper, for_good);
	if (slave->files)
		file_service_free(slave->files);
	made_volumes_free(slave->made);
	spread_follower_free(slave->spread_follower);
	spreads_free(slave->spreads);
	volumes_close(slave->volumes);
	disks_free(slave->disks, for_good);
	if (slave->machine)
		machine_close(slave->machine, for_good);
	SSL_CTX_free(slave->tls);
	free(slave);
}

struct spreads *slave_spreads(struct slave *slave)
{
	return slave->spreads;
}

struct spread_follower *slave_spread_follower(struct slave *slave)
{
	return slave->spread_follower;
}

struct made_volumes *slave_made_volumes(struct slave *slave)
{
	return slave->made;
}

struct scp *slave_scp(struct slave *slave)
{
	return slave->scp;
}

void slave_load(const struct slave *slave, struct load *out)
{
	load_meter_read(slave->load, clock_monotonic_ms(), out);
	out->knows_clock = timekeeping_read(slave->timekeeping, &out->clock);
}

const struct member_life *slave_member(const struct slave *slave, uint32_t node)
{
	return members_life(slave->members, node);
}

struct disks *slave_disks(struct slave *slave)
{
	return slave->disks;
}

struct volumes *slave_volumes(struct slave *slave)
{
	return slave->volumes;
}

struct tch *slave_tch(struct slave *slave)
{
	return slave->tch;
}

struct conn_server *slave_conns(struct slave *slave)
{
	return serving_conns(slave->serving);
}

struct conn_memory_counters slave_memory(struct slave *slave)
{
	return serving_memory(slave->serving);
}

void slave_pause(struct slave *slave)
{
	loops_pause(serving_loops(slave->serving));
}

void slave_continue(struct slave *slave)
{
	loops_continue(serving_loops(slave->serving));
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

void slave_tcp_totals(struct slave *slave, struct conn_totals *out)
{
	struct loops *loops = serving_loops(slave->serving);

	loops_pause(loops);
	conn_server_totals(slave_conns(slave), out);
	loops_continue(loops);
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
