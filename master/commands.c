/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/commands.c - the commands of nasctl, as the master answers them
 *
 * Those that a disk node has to carry out wait here, by the number of the SCP request, for its answer.
 */
#include "config.h"

#include "common/certificates.h"
#include "common/clock.h"
#include "common/conn.h"
#include "common/exports.h"
#include "common/member_state.h"
#include "common/uuid.h"
#include "master/commands_internal.h"
#include "master/certificate_commands.h"
#include "master/chronicle.h"
#include "master/class_commands.h"
#include "master/cluster_config.h"
#include "master/disk_commands.h"
#include "master/draining.h"
#include "master/examining.h"
#include "master/fabric.h"
#include "master/fabric_traffic.h"
#include "master/first_device.h"
#include "master/joining.h"
#include "master/load_rows.h"
#include "master/making.h"
#include "master/master.h"
#include "master/master_metrics.h"
#include "master/node_log.h"
#include "master/sessions.h"
#include "master/shifting.h"
#include "master/spread_commands.h"
#include "master/top.h"
#include "master/user_commands.h"
#include "master/volume_commands.h"
#include "master/vroot.h"
#include "slave/device_commands.h"
#include "slave/load.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

enum {
	ANSWER_MS = 26000, /* a handoff that fails at the end takes 23 s: TCH_SETTLE_MS, TCH_OPEN_MS, TCH_HALF_MS, ... */
	HANDOFF_TRIES = 3,
	TOKEN_LIFETIME_MINUTES = 60,
};

/* Waiting for a node */

struct waiting {
	LIST_ENTRY(waiting) link;
	struct master *master;
	struct admin_request *request;
	uint32_t number; /* of the request; 0: none of a node's is waited for */
	uint32_t node;
	struct event *timer;
	char text[256]; /* the answer when all is well */
	/* of a handoff */
	uint64_t session;
	uint32_t to;
	unsigned int special; /* scp_special, or 0 */
	unsigned int tries;
};

static LIST_HEAD(, waiting) waiting_list = LIST_HEAD_INITIALIZER(waiting_list);

static void waiting_free(struct waiting *waiting)
{
	LIST_REMOVE(waiting, link);
	event_free(waiting->timer);
	free(waiting);
}

static void waiting_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct waiting *waiting = arg;

	(void)fd, (void)what;
	admin_error(waiting->request, "node %u did not answer within %d s; nasctl node show %u tells how it fares",
		    waiting->node, ANSWER_MS / 1000, waiting->node);
	waiting_free(waiting);
}

/* Takes @request when it returns an object; otherwise the request was answered. */
static struct waiting *waiting_new(struct master *master, struct admin_request *request, uint32_t node)
{
	struct waiting *waiting = calloc(1, sizeof(*waiting));

	if (waiting)
		waiting->timer = evtimer_new(master_base(master), waiting_on_timer, waiting);
	if (!waiting || !waiting->timer) {
		free(waiting);
		admin_error(request, "there is no memory for that now; try again later");
		return NULL;
	}
	waiting->master = master;
	waiting->request = request;
	waiting->node = node;
	LIST_INSERT_HEAD(&waiting_list, waiting, link);
	return waiting;
}

static void waiting_send(struct waiting *waiting, const scp_message *message)
{
	struct scp *scp = slave_scp(master_slave(waiting->master));
	int rc;

	waiting->number = scp_next_request(scp);
	rc = scp_send(scp, waiting->node, SCP_CONTROL, waiting->number, message);
	if (rc < 0) {
		admin_error(waiting->request, "node %u can't be reached: %s; nasctl node show %u tells how it fares", waiting->node,
			    strerror(-rc), waiting->node);
		waiting_free(waiting);
		return;
	}
	event_add(waiting->timer, &(struct timeval){ .tv_sec = ANSWER_MS / 1000 });
}

void commands_ask(struct master *master, struct admin_request *request, uint32_t node, const scp_message *message,
		  const char *done)
{
	struct waiting *waiting = waiting_new(master, request, node);

	if (!waiting)
		return;
	snprintf(waiting->text, sizeof(waiting->text), "%s", done);
	waiting_send(waiting, message);
}

void commands_node_lost(uint32_t node)
{
	struct waiting *waiting, *next;

	for (waiting = LIST_FIRST(&waiting_list); waiting; waiting = next) {
		next = LIST_NEXT(waiting, link);
		if (waiting->node != node || !waiting->number)
			continue;
		admin_error(waiting->request, "node %u has gone before it answered; nasctl node show %u tells how it fares",
			    node, node);
		waiting_free(waiting);
	}
}

const char *commands_change_problem(int rc)
{
	return rc == -EIO    ? "the database can't be written; is its disk full? nasctl log says more" :
	       rc == -ENOMEM ? "there is no memory for that now; try again later" :
			       "the name space does not take it; nasctl log says more";
}

/* Finding what the administrator named */

static const ns_node *find_node(struct master *master, const char *text)
{
	char *end;
	unsigned long id = strtoul(text, &end, 10);

	if (*text && !*end)
		return namespace_node(master_ns(master), (uint32_t)id);
	return namespace_node_by_name(master_ns(master), text);
}

const ns_node *commands_need_node(struct master *master, struct admin_request *request, const char *text)
{
	const ns_node *node = find_node(master, text);

	if (!node)
		admin_error(request, "there is no node \"%s\"; nasctl node list shows them", text);
	return node;
}

/* Nodes */

/* Its files can be reached: also while it is suspect or held down. */
bool commands_node_is_up(struct master *master, uint32_t id)
{
	return id == NAMESPACE_MASTER || slave_member(master_slave(master), id)->state != MEMBER_DOWN;
}

const char *commands_node_state(struct master *master, const ns_node *node)
{
	if (node->state == NS_NODE_PENDING)
		return "pending";
	if (node->id == NAMESPACE_MASTER)
		return "up";
	if (node->state == NS_NODE_DRAINING && commands_node_is_up(master, node->id))
		return draining_state(master, node);
	return member_state_name(slave_member(master_slave(master), node->id)->state);
}

/* On the wall clock; 0: since the daemon started. */
static uint64_t node_since_ns(struct master *master, uint32_t id)
{
	const struct member_life *life = slave_member(master_slave(master), id);

	return life->changes ? clock_wall_ns() - (clock_monotonic_ms() - life->since_ms) * UINT64_C(1000000) : 0;
}

size_t commands_node_sessions(struct master *master, uint32_t id)
{
	struct conn_server *conns = slave_conns(master_slave(master));

	if (id == NAMESPACE_MASTER)
		return conns ? conn_count(conns) : 0;
	return commands_node_is_up(master, id) ? master_member(master, id)->beat.sessions : 0;
}

const struct load *commands_node_load(struct master *master, uint32_t id, struct load *own)
{
	if (id != NAMESPACE_MASTER)
		return master_load(master, id);
	slave_load(master_slave(master), own);
	return own;
}

static json_t *node_row(struct master *master, const ns_node *node)
{
	const struct member *member = master_member(master, node->id);
	bool self = node->id == NAMESPACE_MASTER;
	bool handoffs = self ? slave_kernel_helper(master_slave(master)) != NULL :
			       member->up && member->capabilities & SCP_CAN_HANDOFF;
	struct load own;
	json_t *row;

	row = json_pack("{s:I, s:o, s:o, s:s, s:I, s:b, s:b, s:I, s:o}", "id", (json_int_t)node->id, "name",
			 admin_text(node->name), "address", admin_text(node->address), "state", commands_node_state(master, node),
			 "since_ns", (json_int_t)node_since_ns(master, node->id), "handoffs", handoffs, "first_device",
			 master_takes_connections(master, node->id), "sessions", (json_int_t)commands_node_sessions(master, node->id),
			 "reason", admin_text(self ? "" : slave_member(master_slave(master), node->id)->reason));
	if (!row)
		return NULL;
	if (!self) {
		json_object_set_new(row, "weight", json_integer(first_device_weight(master_first_device(master), node->id)));
		json_object_set_new(row, "connections_given", json_integer((json_int_t)first_device_given(
								      master_first_device(master), node->id)));
	}
	load_rows_set(row, commands_node_load(master, node->id, &own));
	return row;
}

static void node_list(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	json_t *table = admin_table("id:Node name:Name address:Address state:State since_ns:Since handoffs:Handoffs "
				    "first_device:New_sessions sessions:Sessions " LOAD_COLUMNS " reason:Reason");
	const ns_node *node;

	(void)argc, (void)argv;
	for (size_t at = 0; (node = namespace_next_node(master_ns(master), &at));)
		admin_row(table, node_row(master, node));
	joining_add_rows(master_joining(master), table);
	admin_answer(request, table);
}

static void node_show(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const ns_node *node = commands_need_node(master, request, argv[0]);
	const struct member *member;
	const ns_volume *volume;
	json_t *record, *volumes, *row;
	struct load own;

	(void)argc;
	if (!node)
		return;
	member = master_member(master, node->id);
	record = node_row(master, node);
	volumes = json_array();
	for (size_t at = 0; (volume = namespace_next_volume(master_ns(master), &at));)
		if (volume->node == node->id) {
			row = volume_commands_row(master, volume);
			if (row)
				load_rows_set_volume(row, commands_node_load(master, node->id, &own), volume->id);
			json_array_append_new(volumes, row);
		}
	if (member->up) {
		load_rows_set_clock(record, master_load(master, node->id));
		json_object_set_new(record, "software", admin_text(member->software));
		json_object_set_new(record, "silent_ms", json_integer((json_int_t)scp_silence_ms(
								 slave_scp(master_slave(master)), node->id)));
		json_object_set_new(record, "daemon_permille", json_integer((json_int_t)member->beat.cpu_permille));
		json_object_set_new(record, "read_bytes", json_integer((json_int_t)member->beat.read_bytes));
		json_object_set_new(record, "written_bytes", json_integer((json_int_t)member->beat.written_bytes));
		json_object_set_new(record, "operations", json_integer((json_int_t)member->beat.operations));
	}
	certificate_commands_add_facts(master, node->id, record);
	json_object_set_new(record, "volumes", volumes);
	admin_record(request, record);
}

static void say_undecided(struct admin_request *request, const char *who, int rc)
{
	if (rc == -ENOENT)
		admin_error(request, "nobody called \"%s\" asks to join; nasctl node list shows who does", who);
	else if (rc == -ENOTUNIQ)
		admin_error(request, "several machines called \"%s\" ask to join; name one by the beginning of its fingerprint, "
			    "which nasctl node list shows", who);
	else
		admin_error(request, "%s was not decided about: %s", who, strerror(-rc));
}

/* One that applied, without a token. */
static void candidate_approve(struct master *master, struct admin_request *request, const char *who)
{
	uint32_t id;
	int rc = joining_approve(master_joining(master), who, &id);

	if (rc < 0)
		say_undecided(request, who, rc);
	else
		admin_done(request, "%s is approved as node %u; it joins within seconds", who, id);
}

static void node_reject(struct admin_request *request, int argc, char **argv, void *arg)
{
	int rc = joining_reject(master_joining(commands_master(arg)), argv[0]);

	(void)argc;
	if (rc < 0)
		say_undecided(request, argv[0], rc);
	else
		admin_done(request, "%s is rejected and will not be let in unless it makes itself a new key", argv[0]);
}

static void node_approve(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const ns_node *node = find_node(master, argv[0]);
	ns_item item = { .kind = NS_NODE };
	uint32_t id;
	int rc;

	(void)argc;
	if (!node) {
		candidate_approve(master, request, argv[0]);
		return;
	}
	id = node->id;
	if (namespace_is_member(node)) {
		admin_done(request, "node %u is approved already", id);
		return;
	}
	item.ns_item_u.node = *node;
	item.ns_item_u.node.state = NS_NODE_APPROVED;
	rc = vroot_change(master_vroot(master), NS_PUT, &item);
	if (rc < 0)
		admin_error(request, "node %u was not approved: %s", id, commands_change_problem(rc));
	else
		admin_done(request, "node %u is approved; it joins within seconds", id);
}

static void node_drain(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const ns_node *node = commands_need_node(master, request, argv[0]);

	(void)argc;
	if (node)
		draining_drain(master_draining(master), request, node);
}

static void node_undrain(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const ns_node *node = commands_need_node(master, request, argv[0]);

	(void)argc;
	if (node)
		draining_undrain(master_draining(master), request, node);
}

static size_t count_volumes_of(struct master *master, uint32_t node)
{
	const ns_volume *volume;
	size_t count = 0;

	for (size_t at = 0; (volume = namespace_next_volume(master_ns(master), &at));)
		count += volume->node == node;
	return count;
}

/* Volumes stay, with their ids: a disk that comes back in whatever machine has its places, and clients their handles. */
static void node_remove(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const ns_node *node = commands_need_node(master, request, argv[0]);
	ns_item item = { .kind = NS_NODE };
	size_t volumes;
	uint32_t id;
	int rc;

	(void)argc;
	if (!node)
		return;
	id = node->id;
	if (id == NAMESPACE_MASTER) {
		admin_error(request, "node 1 is the master itself, without which there is no cluster; nasctl stop ends its serving");
		return;
	}
	volumes = count_volumes_of(master, id);
	item.ns_item_u.node = (ns_node){ .id = id, .name = (char *)"", .address = (char *)"", .serial = (char *)"" };
	rc = vroot_change(master_vroot(master), NS_DELETE, &item);
	if (rc < 0) {
		admin_error(request, "node %u was not removed: %s", id, commands_change_problem(rc));
		return;
	}
	scp_disconnect(slave_scp(master_slave(master)), id, "the node was removed from the cluster");
	if (master_fabric(master))
		fabric_device_remove(master_fabric(master), id);
	sessions_forget_node(master_sessions(master), id); /* it will not report their end */
	if (volumes)
		admin_done(request, "node %u is no member any more; its volumes (%zu) keep their places and wait for a node that has "
			   "them; nasctl volume remove gives them up", id, volumes);
	else
		admin_done(request, "node %u is no member any more", id);
}

/* Exports */

static void export_list(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	json_t *table = admin_table("path:Path clients:Clients");
	const ns_export *export;

	(void)argc, (void)argv;
	for (size_t at = 0; (export = namespace_next_export(master_ns(master), &at));)
		admin_row(table, json_pack("{s:s, s:s}", "path", export->path, "clients", export->clients));
	admin_answer(request, table);
}

static const ns_export *find_export(struct master *master, const char *path)
{
	const ns_export *export;

	for (size_t at = 0; (export = namespace_next_export(master_ns(master), &at));)
		if (strcmp(export->path, path) == 0)
			return export;
	return NULL;
}

static void export_set(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const ns_export *known = find_export(master, argv[0]);
	char clients[NS_TEXT_MAX] = "", path[NS_TEXT_MAX], why[EXPORT_WHY_MAX];
	ns_item item = { .kind = NS_EXPORT };
	uint64_t id = known ? known->id : 0;
	size_t len = 0;
	int rc = 0;

	for (int i = 1; i < argc && len < sizeof(clients); i++)
		len += (size_t)snprintf(clients + len, sizeof(clients) - len, "%s%s", i > 1 ? " " : "", argv[i]);
	if (len >= sizeof(clients) || strlen(argv[0]) >= sizeof(path) || argv[0][0] != '/') {
		admin_error(request, "the path must be absolute, the list of clients at most %d bytes long",
			    (int)sizeof(clients) - 1);
		return;
	}
	if (exports_check(clients, why, sizeof(why)) < 0) {
		admin_error(request, "%s", why);
		return;
	}
	snprintf(path, sizeof(path), "%s", argv[0]);
	if (!id)
		rc = vroot_next_id(master_vroot(master), NS_EXPORT, &id);
	item.ns_item_u.export_ = (ns_export){ .id = (u_int)id, .path = path, .clients = clients };
	if (rc == 0)
		rc = vroot_change(master_vroot(master), NS_PUT, &item);
	if (rc < 0)
		admin_error(request, "%s was not exported: %s", path, commands_change_problem(rc));
	else
		admin_done(request, "%s is exported to %s", path, clients);
}

static void export_remove(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const ns_export *known = find_export(master, argv[0]);
	ns_item item = { .kind = NS_EXPORT };
	int rc;

	(void)argc;
	if (!known) {
		admin_error(request, "%s is not exported; nasctl export list shows what is", argv[0]);
		return;
	}
	item.ns_item_u.export_ = (ns_export){ .id = known->id, .path = (char *)"/", .clients = (char *)"" };
	rc = vroot_change(master_vroot(master), NS_DELETE, &item);
	if (rc < 0)
		admin_error(request, "%s is still exported: %s", argv[0], commands_change_problem(rc));
	else
		admin_done(request, "%s is not exported any more", argv[0]);
}

/* Sessions */

struct session_listing {
	struct master *master;
	json_t *table;
};

static void list_session(const struct session_entry *entry, void *arg)
{
	struct session_listing *listing = arg;
	uint32_t node = master_flow_owner(listing->master, &entry->flow, entry->node);

	if (entry->info.id)
		admin_row(listing->table, device_session_row(master_ns(listing->master), &entry->info, node));
}

static void session_list(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct session_listing listing = { .master = commands_master(arg), .table = admin_table(DEVICE_SESSION_COLUMNS) };

	(void)argc, (void)argv;
	master_refresh_sessions(listing.master);
	sessions_visit(master_sessions(listing.master), list_session, &listing);
	admin_answer(request, listing.table);
}

static const struct session_entry *need_session(struct master *master, struct admin_request *request, const char *text)
{
	const struct session_entry *entry = NULL;
	uint64_t id;

	if (device_session_parse(text, &id) == 0) {
		master_refresh_sessions(master);
		entry = sessions_find(master_sessions(master), id);
	}
	if (!entry)
		admin_error(request, "there is no session \"%s\"; nasctl session list shows them", text);
	return entry;
}

/* What the switch has seen of one end, in numbers that begin at 0. */
static json_t *describe_end(const struct fabric_flow_end *end, const struct fabric_flow_end *other)
{
	json_t *record = json_pack("{s:I, s:I, s:b}", "unacknowledged_bytes",
				   (json_int_t)(int32_t)(end->next - other->acknowledged), "window_bytes",
				   (json_int_t)end->window << (end->has_syn && other->has_syn ? end->scale : 0), "closed",
				   end->has_closed);

	if (record && end->has_syn) {
		json_object_set_new(record, "sent_bytes", json_integer((json_int_t)(end->next - end->first - 1)));
		json_object_set_new(record, "mss_bytes", json_integer(end->mss));
		json_object_set_new(record, "sack", json_boolean(end->has_sack));
		json_object_set_new(record, "timestamps", json_boolean(end->has_timestamps));
	}
	return record;
}

/* Inline only: one-arm the switch does not see what devices send. */
static void add_ends(struct master *master, const struct session_entry *entry, json_t *record)
{
	struct fabric_flow flow;

	if (!master_fabric(master) || fabric_flow_get(master_fabric(master), &entry->flow, &flow) ||
	    !flow.client.is_known || !flow.server.is_known)
		return;
	json_object_set_new(record, "from_client", describe_end(&flow.client, &flow.server));
	json_object_set_new(record, "to_client", describe_end(&flow.server, &flow.client));
}

/* @facts: what the session's device says; NULL, or an error in it: nothing */
static void session_answer(struct master *master, struct admin_request *request, const struct session_entry *entry,
			   const scp_session_facts *facts)
{
	json_t *record = device_session_row(master_ns(master), &entry->info,
					    master_flow_owner(master, &entry->flow, entry->node));

	json_object_set_new(record, "volumes", device_session_shares(master_ns(master), &entry->info));
	add_ends(master, entry, record);
	if (facts && !facts->result)
		device_session_facts(record, facts);
	admin_record(request, record);
}

static void received_session_facts(struct waiting *waiting, const scp_session_facts *facts)
{
	const struct session_entry *entry = sessions_find(master_sessions(waiting->master), waiting->session);

	if (entry)
		session_answer(waiting->master, waiting->request, entry, facts);
	else
		admin_error(waiting->request, "the session has just ended; nasctl session list shows those there are");
}

/* A device of a former version can't be asked. */
static void session_ask(struct master *master, struct admin_request *request, const struct session_entry *entry, uint32_t node)
{
	struct scp *scp = slave_scp(master_slave(master));
	scp_message message = { .type = SCP_SESSION_LOOK };
	struct waiting *waiting = waiting_new(master, request, node);

	if (!waiting)
		return;
	waiting->session = message.scp_message_u.session_look.session = entry->info.id;
	waiting->number = scp_next_request(scp);
	if (scp_send(scp, node, SCP_CONTROL, waiting->number, &message) == 0) {
		event_add(waiting->timer, &(struct timeval){ .tv_sec = ANSWER_MS / 1000 });
		return;
	}
	waiting_free(waiting);
	session_answer(master, request, entry, NULL);
}

static void session_show(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const struct session_entry *entry = need_session(master, request, argv[0]);
	scp_session_facts facts;
	uint32_t node;

	(void)argc;
	if (!entry)
		return;
	node = master_flow_owner(master, &entry->flow, entry->node);
	if (node != NAMESPACE_MASTER) {
		session_ask(master, request, entry, node);
		return;
	}
	slave_session_look(master_slave(master), entry->info.id, &facts);
	session_answer(master, request, entry, &facts);
}

static const char *handoff_problem(int rc)
{
	switch (-rc) {
	case ENOENT:
		return "it has just ended; nasctl session list shows those there are";
	case EBUSY:
	case EAGAIN:
	case EALREADY:
		return "it is on its way already, or in the middle of a call; try again";
	case EHOSTDOWN:
	case ENOTCONN:
		return "that device is away, or is to have no sessions; nasctl node list shows how it fares";
	case EOPNOTSUPP:
		return "one of the two devices can't hand off, or this connection can't be moved; nasctl node list shows the devices that "
		       "can, and nasctl log --node says what is special about the connection";
	case ETIMEDOUT:
		return "the other device did not answer in time; nasctl log of both says more";
	default:
		return strerror(-rc);
	}
}

static void handoff_answer(struct waiting *waiting, int result, uint32_t duration_us)
{
	char session[DEVICE_SESSION_TEXT];

	device_session_text(waiting->session, session);
	if (result < 0)
		admin_error(waiting->request, "session %s was not handed off to node %u: %s", session, waiting->to,
			    handoff_problem(result));
	else
		admin_record(waiting->request, json_pack("{s:s, s:I, s:I}", "session", session, "node",
							 (json_int_t)waiting->to, "duration_us",
							 (json_int_t)duration_us));
	waiting_free(waiting);
}

static void handoff_done_here(uint64_t session, uint32_t node, int result, uint32_t duration_us, void *arg)
{
	(void)session, (void)node;
	handoff_answer(arg, result, duration_us);
}

static void handoff_order(struct waiting *waiting)
{
	struct master *master = waiting->master;
	const struct session_entry *entry = sessions_find(master_sessions(master), waiting->session);
	scp_special_order order = { waiting->session, waiting->to, (scp_special)waiting->special };
	scp_message message = { .type = waiting->special ? SCP_SPECIAL_ORDER : SCP_HANDOFF_ORDER };
	int rc;

	if (!entry) {
		handoff_answer(waiting, -ENOENT, 0);
		return;
	}
	waiting->node = master_flow_owner(master, &entry->flow, entry->node);
	if (waiting->node == waiting->to) {
		handoff_answer(waiting, 0, 0);
		return;
	}
	if (waiting->node == NAMESPACE_MASTER) {
		/* Ours takes its time and says so itself: no answer of a node, nor the lack of one, may end the wait. */
		waiting->number = 0;
		event_del(waiting->timer);
		rc = slave_handoff(master_slave(master), &order, handoff_done_here, waiting);
		if (rc < 0)
			handoff_answer(waiting, rc, 0);
		return;
	}
	if (waiting->special) {
		message.scp_message_u.special_order = order;
	} else {
		message.scp_message_u.handoff_order.session = waiting->session;
		message.scp_message_u.handoff_order.node = waiting->to;
	}
	waiting_send(waiting, &message);
}

/* "--kind KIND". 0; -EINVAL, answered */
static int special_of(struct admin_request *request, int argc, char **argv, unsigned int *special)
{
	static const char *const kinds[] = { "full", "to-devices", "to-client", "prepare" };

	*special = 0;
	if (argc == 2)
		return 0;
	if (argc == 4 && strcmp(argv[2], "--kind") == 0)
		for (*special = 0; *special < sizeof(kinds) / sizeof(kinds[0]); ++*special)
			if (strcmp(argv[3], kinds[*special]) == 0)
				return 0;
	admin_error(request, "the kind of a handoff is one of: --kind full, to-devices, to-client, prepare");
	return -EINVAL;
}

static void handoff(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const struct session_entry *entry = need_session(master, request, argv[0]);
	const ns_node *node = entry ? commands_need_node(master, request, argv[1]) : NULL;
	struct waiting *waiting;
	unsigned int special;

	if (!node || special_of(request, argc, argv, &special) < 0)
		return;
	waiting = waiting_new(master, request, node->id);
	if (!waiting)
		return;
	waiting->session = entry->info.id;
	waiting->to = node->id;
	waiting->special = special;
	handoff_order(waiting);
}

static void why_answer(struct master *master, struct admin_request *request, uint32_t node, const scp_why_result *result)
{
	const struct session_entry *entry = sessions_find(master_sessions(master), result->session);
	char balance[SHIFTING_WHY_MAX];

	if (result->result || !entry)
		admin_error(request, "the session has just left node %u; try again", node);
	else
		device_why_answer(request, master_ns(master), node, result,
				  shifting_why(master_shifting(master), entry, node, balance));
}

static void received_handoff_result(struct waiting *waiting, const scp_handoff_result *result)
{
	/* It moved by itself between our look and the order: look again. */
	if ((result->result == ENOENT || result->result == EALREADY) && ++waiting->tries < HANDOFF_TRIES) {
		handoff_order(waiting);
		return;
	}
	handoff_answer(waiting, -result->result, result->duration_us);
}

static void why(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const struct session_entry *entry = need_session(master, request, argv[0]);
	scp_message message = { .type = SCP_WHY };
	struct waiting *waiting;
	struct slave_why here;
	uint32_t node;

	(void)argc;
	if (!entry)
		return;
	node = master_flow_owner(master, &entry->flow, entry->node);
	if (node == NAMESPACE_MASTER) {
		slave_why(master_slave(master), entry->info.id, &here);
		why_answer(master, request, node, &here.result);
		return;
	}
	waiting = waiting_new(master, request, node);
	if (!waiting)
		return;
	message.scp_message_u.why.session = entry->info.id;
	waiting_send(waiting, &message);
}

void commands_result(uint32_t node, uint32_t request, const scp_message *message)
{
	struct waiting *waiting;

	LIST_FOREACH(waiting, &waiting_list, link)
		if (waiting->number == request && waiting->node == node)
			break;
	if (!waiting || !request)
		return; /* it came too late, or nobody asked */
	if (message->type == SCP_HANDOFF_RESULT) {
		received_handoff_result(waiting, &message->scp_message_u.handoff_result);
		return;
	}
	if (message->type == SCP_SESSION_FACTS)
		received_session_facts(waiting, &message->scp_message_u.session_facts);
	else if (message->type == SCP_WHY_RESULT)
		why_answer(waiting->master, waiting->request, node, &message->scp_message_u.why_result);
	else if (message->scp_message_u.result.result)
		admin_error(waiting->request, "node %u: %s", waiting->node, message->scp_message_u.result.reason);
	else
		admin_done(waiting->request, "%s", waiting->text);
	waiting_free(waiting);
}

/* The whole */

static void __attribute__((format(printf, 2, 3))) add_problem(json_t *list, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	json_array_append_new(list, admin_text(text));
}

/* What a person should know or do. */
static json_t *problems(struct master *master)
{
	struct namespace *ns = master_ns(master);
	json_t *list = json_array();
	const ns_node *node;
	size_t first = 0;

	for (size_t at = 0; (node = namespace_next_node(ns, &at));)
		if (node->state == NS_NODE_PENDING)
			add_problem(list, "node %u (%s) waits for approval: nasctl node approve %u", node->id, node->name,
				    node->id);
		else if (!commands_node_is_up(master, node->id))
			add_problem(list, "node %u (%s) is down: %s; its volumes wait for it", node->id, node->name,
				    slave_member(master_slave(master), node->id)->reason);
		else if (node->id != NAMESPACE_MASTER && !member_gets_work(slave_member(master_slave(master), node->id)))
			add_problem(list, "node %u (%s) is %s: %s", node->id, node->name, commands_node_state(master, node),
				    slave_member(master_slave(master), node->id)->reason);
		else if (master_member(master, node->id)->clock_is_off)
			add_problem(list, "node %u (%s): its clock differs from the master's by more than %u ms; nasctl node "
				    "show %u", node->id, node->name, master_settings(master)->clock_bound_ms, node->id);
	certificate_commands_add_problems(master, list);
	joining_add_problems(master_joining(master), list);
	if (!namespace_next_export(ns, &first))
		add_problem(list, "nothing is exported: nasctl export set / '*(rw)'");
	if (!master_fabric(master) && master_settings(master)->handoff && master_settings(master)->vip_count)
		add_problem(list, "no forwarding table: work is relayed and sessions do not move; nasctl log says why");
	return list;
}

static void status(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	struct namespace *ns = master_ns(master);
	const ns_cluster *cluster = namespace_cluster(ns);
	size_t nodes = 0, up = 0, volumes = 0, sessions = 0;
	json_t *list = problems(master);
	const ns_node *node;

	(void)argc, (void)argv;
	for (size_t at = 0; (node = namespace_next_node(ns, &at)); nodes++) {
		up += commands_node_is_up(master, node->id);
		sessions += commands_node_sessions(master, node->id);
	}
	while (namespace_next_volume(ns, &volumes))
		;
	admin_record(request,
		     json_pack("{s:s, s:o, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:b, s:s, s:o}", "role", "master", "cluster",
			       admin_text(cluster->name), "vip", cluster->vips, "health", json_array_size(list) ? "degraded" : "good",
			       "nodes", (json_int_t)nodes, "nodes_up", (json_int_t)up, "volumes", (json_int_t)volumes,
			       "sessions", (json_int_t)sessions, "revision", (json_int_t)namespace_revision(ns),
			       "handoffs", slave_kernel_helper(master_slave(master)) != NULL, "first_device",
			       settings_first_device_name(master_settings(master)->first_device), "problems", list));
}

static void counters(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct metrics *metrics = metrics_new();

	(void)argc, (void)argv;
	if (metrics)
		master_metrics_put(commands_master(arg), metrics);
	device_answer_counters(request, metrics);
	metrics_free(metrics);
}

/* Return: the switch's fabric; NULL: it has none, and @request was told so */
static struct fabric *need_fabric(struct master *master, struct admin_request *request)
{
	if (!master_fabric(master))
		admin_error(request, "packets are neither counted nor filtered without a forwarding table; nasctl log says why there is none");
	return master_fabric(master);
}

/* The settings of this run, which are what is in force. */
static void filter_list(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const struct settings *settings = master_settings(master);
	struct fabric *fabric = need_fabric(master, request);
	json_t *table;

	(void)argc, (void)argv;
	if (!fabric)
		return;
	table = admin_table("network:Network services:May_reach refused:Refused");
	for (unsigned int i = 0; i < settings->filter_count; i++) {
		const struct settings_filter *filter = &settings->filters[i];
		char network[IP_NETWORK_TEXT_MAX], services[SETTINGS_SERVICES_MAX * (SETTINGS_SERVICE_MAX + 2)] = "";

		for (unsigned int j = 0; j < filter->service_count; j++)
			sprintf(services + strlen(services), "%s%s", j ? ", " : "", filter->services[j]);
		admin_row(table, json_pack("{s:s, s:s, s:I}", "network", ip_network_text(&filter->network, network),
					   "services", services, "refused",
					   (json_int_t)fabric_filter_refused(fabric, &filter->network)));
	}
	admin_answer(request, table);
}

#define SUMS_COLUMNS "received_packets:Packets_in received_bytes:Data_in sent_packets:Packets_out sent_bytes:Data_out"

static void set_sums(json_t *row, const struct fabric_sums *sums)
{
	json_object_set_new(row, "received_packets", json_integer((json_int_t)sums->received_packets));
	json_object_set_new(row, "received_bytes", json_integer((json_int_t)sums->received_bytes));
	json_object_set_new(row, "sent_packets", json_integer((json_int_t)sums->sent_packets));
	json_object_set_new(row, "sent_bytes", json_integer((json_int_t)sums->sent_bytes));
}

static void traffic_nodes(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	struct fabric *fabric = need_fabric(master, request);
	const ns_node *node;
	json_t *table;

	(void)argc, (void)argv;
	if (!fabric)
		return;
	table = admin_table("node:Node name:Name " SUMS_COLUMNS);
	for (size_t at = 0; (node = namespace_next_node(master_ns(master), &at));) {
		json_t *row = json_pack("{s:I, s:o}", "node", (json_int_t)node->id, "name", admin_text(node->name));
		struct fabric_sums sums = { 0 };

		if (row && fabric_device_sums(fabric, node->id, &sums) == 0)
			set_sums(row, &sums);
		admin_row(table, row);
	}
	admin_answer(request, table);
}

static void traffic_clients(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct fabric *fabric = need_fabric(commands_master(arg), request);
	struct fabric_client_sums *clients;
	size_t count;
	json_t *table;
	int rc;

	(void)argc, (void)argv;
	if (!fabric)
		return;
	rc = fabric_client_sums(fabric, &clients, &count);
	if (rc < 0) {
		admin_error(request, "the counters can't be read: %s; nasctl log says more", strerror(-rc));
		return;
	}
	table = admin_table("client:Client " SUMS_COLUMNS);
	for (size_t i = 0; i < count; i++) {
		char text[FLOW_ADDRESS_MAX];
		json_t *row = json_pack("{s:s}", "client", flow_address_text(clients[i].address, text));

		if (row)
			set_sums(row, &clients[i].sums);
		admin_row(table, row);
	}
	free(clients);
	admin_answer(request, table);
}

static void cluster_token(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const struct settings *settings = master_settings(master);
	const ns_node *self = namespace_node(master_ns(master), NAMESPACE_MASTER);
	char pki[PATH_MAX], fingerprint[CERTIFICATES_FINGERPRINT_TEXT], secret[VROOT_TOKEN_TEXT];
	long minutes = TOKEN_LIFETIME_MINUTES;
	bool pending = false;
	int rc;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--pending") == 0)
			pending = true;
		else if (strcmp(argv[i], "--lifetime") == 0 && i + 1 < argc)
			minutes = strtol(argv[++i], NULL, 10);
		else
			minutes = 0;
	}
	if (minutes < 1 || minutes > 60 * 24 * 365) {
		admin_error(request, "usage: nasctl cluster token [--pending] [--lifetime MINUTES], 1 to 525600 minutes");
		return;
	}
	snprintf(pki, sizeof(pki), "%.4000s/pki", settings->state_dir);
	rc = certificates_fingerprint(pki, fingerprint);
	if (rc == 0)
		rc = vroot_token_make(master_vroot(master), (unsigned int)minutes * 60, pending, secret);
	if (rc < 0) {
		admin_error(request, "no token was made: %s; nasctl log says more", strerror(-rc));
		return;
	}
	admin_record(request, json_pack("{s:o, s:I, s:o}", "token", json_sprintf("vnas1-%s-%s", secret, fingerprint),
					"minutes", (json_int_t)minutes, "command",
					json_sprintf("vnasd --mode=slave --join vnas1-%s-%s@%s", secret, fingerprint,
						     self && self->address[0] ? self->address : "THIS-ADDRESS")));
}

const struct admin_handler master_commands[] = {
	{ "status", status },
	{ "node list", node_list },
	{ "node show", node_show },
	{ "node approve", node_approve },
	{ "node reject", node_reject },
	{ "node drain", node_drain },
	{ "node undrain", node_undrain },
	{ "node weight", first_device_command_weight },
	{ "node remove", node_remove },
	{ "volume list", volume_command_list },
	{ "volume add", volume_command_add },
	{ "volume remove", volume_command_remove },
	{ "volume move", volume_command_move },
	{ "volume place", volume_command_place },
	{ "volume unplace", volume_command_unplace },
	{ "volume check", spread_command_check },
	{ "spread list", spread_command_list },
	{ "spread show", spread_command_show },
	{ "spread make", spread_command_make },
	{ "spread add", spread_command_add },
	{ "mkdir", making_command_mkdir },
	{ "rmdir", making_command_rmdir },
	{ "disk list", disk_command_list },
	{ "disk format", disk_command_format },
	{ "disk rescan", disk_command_rescan },
	{ "export list", export_list },
	{ "export set", export_set },
	{ "export remove", export_remove },
	{ "user list", user_command_list },
	{ "user show", user_command_show },
	{ "user add", user_command_add },
	{ "user set", user_command_set },
	{ "user remove", user_command_remove },
	{ "user passwd", user_command_passwd },
	{ "group list", group_command_list },
	{ "group show", group_command_show },
	{ "group add", group_command_add },
	{ "group remove", group_command_remove },
	{ "group member add", group_command_member_add },
	{ "group member remove", group_command_member_remove },
	{ "class list", class_command_list },
	{ "class set", class_command_set },
	{ "class remove", class_command_remove },
	{ "config export", cluster_config_command_export },
	{ "config import", cluster_config_command_import },
	{ "session list", session_list },
	{ "session show", session_show },
	{ "handoff", handoff },
	{ "policy", device_command_policy },
	{ "why", why },
	{ "log", node_log_command },
	{ "events", chronicle_command_events },
	{ "top", top_command },
	{ "cluster token", cluster_token },
	{ "certificate list", certificate_command_list },
	{ "certificate renew", certificate_command_renew },
	{ "certificate revoke", certificate_command_revoke },
	{ "check", examining_command_check },
	{ "counters", counters },
	{ "dhcp lease add", joining_command_lease_add },
	{ "dhcp lease del", joining_command_lease_del },
	{ "dhcp lease list", joining_command_lease_list },
	{ "filter list", filter_list },
	{ "traffic nodes", traffic_nodes },
	{ "traffic clients", traffic_clients },
	{ "reload", device_command_reload },
	{ "stop", device_command_stop },
	{ NULL, NULL },
};
