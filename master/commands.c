/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/commands.c - the commands of nasctl, as the master answers them
 *
 * Those that a disk node has to carry out wait here, by the number of the SCP request, for its answer.
 */
#include "config.h"

#include "common/certificates.h"
#include "common/clock.h"
#include "common/exports.h"
#include "common/uuid.h"
#include "master/eap_service.h"
#include "master/fabric.h"
#include "master/master.h"
#include "master/sessions.h"
#include "master/vroot.h"
#include "slave/device_commands.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

enum {
	ANSWER_MS = 16000, /* a handoff that fails at the end takes 13 s: HANDOFF_SETTLE_MS, TCH_OPEN_MS, ... */
	HANDOFF_TRIES = 3,
	TOKEN_LIFETIME_MINUTES = 60,
};

static struct master *master_of(void *arg)
{
	return ((struct device *)arg)->master;
}

/* Waiting for a node */

struct waiting {
	LIST_ENTRY(waiting) link;
	struct master *master;
	struct admin_request *request;
	uint32_t number; /* of the request; 0: none of a node's is waited for */
	uint32_t node;
	struct event *timer;
	char text[128]; /* the answer when all is well */
	/* of a handoff */
	uint64_t session;
	uint32_t to;
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
		admin_error(request, "no memory");
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
		admin_error(waiting->request, "node %u can't be reached: %s", waiting->node, strerror(-rc));
		waiting_free(waiting);
		return;
	}
	event_add(waiting->timer, &(struct timeval){ .tv_sec = ANSWER_MS / 1000 });
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

static const ns_volume *find_volume(struct master *master, const char *text)
{
	struct namespace *ns = master_ns(master);
	uint8_t uuid[NS_UUID_BYTES];
	const ns_entry *entry;
	const char *rest;
	char *end;
	unsigned long id = strtoul(text, &end, 10);

	if (*text && !*end)
		return namespace_volume(ns, (uint32_t)id);
	if (uuid_parse(text, uuid) == 0)
		return namespace_volume_by_uuid(ns, uuid);
	entry = text[0] == '/' ? namespace_walk(ns, text, &rest) : NULL;
	return entry && entry->volume && !*rest ? namespace_volume(ns, entry->volume) : NULL;
}

static const ns_node *need_node(struct master *master, struct admin_request *request, const char *text)
{
	const ns_node *node = find_node(master, text);

	if (!node)
		admin_error(request, "there is no node \"%s\"; nasctl node list shows them", text);
	return node;
}

static const ns_volume *need_volume(struct master *master, struct admin_request *request, const char *text)
{
	const ns_volume *volume = find_volume(master, text);

	if (!volume)
		admin_error(request, "there is no volume \"%s\"; nasctl volume list shows them", text);
	return volume;
}

/* Nodes */

static bool node_is_up(struct master *master, uint32_t id)
{
	return id == NAMESPACE_MASTER || master_member(master, id)->up;
}

static const char *node_state(struct master *master, const ns_node *node)
{
	if (node->state == NS_NODE_PENDING)
		return "pending";
	return node_is_up(master, node->id) ? "up" : "down";
}

static const char *away_reason(const struct member *member)
{
	return member->known ? member->reason : "not seen since the master started";
}

static size_t node_sessions(struct master *master, uint32_t id)
{
	struct conn_server *conns = slave_conns(master_slave(master));

	if (id == NAMESPACE_MASTER)
		return conns ? conn_count(conns) : 0;
	return node_is_up(master, id) ? master_member(master, id)->beat.sessions : 0;
}

static json_t *node_row(struct master *master, const ns_node *node)
{
	const struct member *member = master_member(master, node->id);
	bool self = node->id == NAMESPACE_MASTER;
	bool handoffs = self ? slave_kernel_helper(master_slave(master)) != NULL :
			       member->up && member->capabilities & SCP_CAN_HANDOFF;

	return json_pack("{s:I, s:o, s:o, s:s, s:b, s:I, s:o}", "id", (json_int_t)node->id, "name",
			 admin_text(node->name), "address", admin_text(node->address), "state", node_state(master, node),
			 "handoffs", handoffs, "sessions",
			 (json_int_t)node_sessions(master, node->id), "reason",
			 admin_text(self || member->up ? "" : away_reason(member)));
}

static void node_list(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	json_t *table = admin_table("id:Node name:Name address:Address state:State handoffs:Handoffs sessions:Sessions "
				    "reason:Reason");
	const ns_node *node;

	(void)argc, (void)argv;
	for (size_t at = 0; (node = namespace_next_node(master_ns(master), &at));)
		admin_row(table, node_row(master, node));
	admin_answer(request, table);
}

static json_t *volume_row(struct master *master, const ns_volume *volume)
{
	struct namespace *ns = master_ns(master);
	const ns_entry *place = namespace_place(ns, volume->id);
	const ns_node *node = namespace_node(ns, volume->node);
	char uuid[UUID_TEXT_MAX], path[NS_TEXT_MAX] = "";

	if (place)
		namespace_path(ns, place, path);
	return json_pack("{s:I, s:o, s:I, s:o, s:o, s:s, s:s}", "id", (json_int_t)volume->id, "place",
			 admin_text(path), "node", (json_int_t)volume->node, "node_name",
			 admin_text(node ? node->name : "removed"), "path", admin_text(volume->path),
			 "state", node ? node_is_up(master, node->id) ? "up" : "away" : "away", "uuid",
			 uuid_text((const uint8_t *)volume->uuid, uuid));
}

static void node_show(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	const ns_node *node = need_node(master, request, argv[0]);
	const struct member *member;
	const ns_volume *volume;
	json_t *record, *volumes;

	(void)argc;
	if (!node)
		return;
	member = master_member(master, node->id);
	record = node_row(master, node);
	volumes = json_array();
	for (size_t at = 0; (volume = namespace_next_volume(master_ns(master), &at));)
		if (volume->node == node->id)
			json_array_append_new(volumes, volume_row(master, volume));
	if (member->up) {
		json_object_set_new(record, "software", admin_text(member->software));
		json_object_set_new(record, "silent_ms", json_integer((json_int_t)scp_silence_ms(
								 slave_scp(master_slave(master)), node->id)));
		json_object_set_new(record, "cpu_permille", json_integer((json_int_t)member->beat.cpu_permille));
		json_object_set_new(record, "read_bytes", json_integer((json_int_t)member->beat.read_bytes));
		json_object_set_new(record, "written_bytes", json_integer((json_int_t)member->beat.written_bytes));
		json_object_set_new(record, "operations", json_integer((json_int_t)member->beat.operations));
	}
	json_object_set_new(record, "volumes", volumes);
	admin_record(request, record);
}

static void node_approve(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	const ns_node *node = need_node(master, request, argv[0]);
	ns_item item = { .kind = NS_NODE };
	uint32_t id;
	int rc;

	(void)argc;
	if (!node)
		return;
	id = node->id;
	if (node->state == NS_NODE_APPROVED) {
		admin_done(request, "node %u is approved already", id);
		return;
	}
	item.ns_item_u.node = *node;
	item.ns_item_u.node.state = NS_NODE_APPROVED;
	rc = vroot_change(master_vroot(master), NS_PUT, &item);
	if (rc < 0)
		admin_error(request, "node %u was not approved: %s", id, strerror(-rc));
	else
		admin_done(request, "node %u is approved; it joins within seconds", id);
}

static void node_remove(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	const ns_node *node = need_node(master, request, argv[0]);
	ns_item item = { .kind = NS_NODE };
	const ns_volume *volume;
	uint32_t id;
	int rc;

	(void)argc;
	if (!node)
		return;
	id = node->id;
	if (id == NAMESPACE_MASTER) {
		admin_error(request, "node 1 is the master itself");
		return;
	}
	for (size_t at = 0; (volume = namespace_next_volume(master_ns(master), &at));)
		if (volume->node == id) {
			admin_error(request, "node %u still has volume %u; nasctl volume remove %u first", id, volume->id,
				    volume->id);
			return;
		}
	item.ns_item_u.node = (ns_node){ .id = id, .name = (char *)"", .address = (char *)"", .serial = (char *)"" };
	rc = vroot_change(master_vroot(master), NS_DELETE, &item);
	if (rc < 0) {
		admin_error(request, "node %u was not removed: %s", id, strerror(-rc));
		return;
	}
	scp_disconnect(slave_scp(master_slave(master)), id, "the node was removed from the cluster");
	if (master_fabric(master))
		fabric_device_remove(master_fabric(master), id);
	sessions_forget_node(master_sessions(master), id); /* it will not report their end */
	admin_done(request, "node %u is no member any more", id);
}

/* Volumes */

static void volume_list(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	json_t *table = admin_table("id:Volume place:Place node:Node node_name:Name path:Directory state:State "
				    "uuid:UUID");
	const ns_volume *volume;

	(void)argc, (void)argv;
	for (size_t at = 0; (volume = namespace_next_volume(master_ns(master), &at));)
		admin_row(table, volume_row(master, volume));
	admin_answer(request, table);
}

static void volume_add_here(struct master *master, struct admin_request *request, const char *path, const char *place)
{
	struct slave *slave = master_slave(master);
	char why[512];

	if (volumes_add(slave_volumes(slave), path, place, why, sizeof(why)) < 0) {
		admin_error(request, "%s", why);
		return;
	}
	master_role(master)->on_volumes(master);
	admin_done(request, "%s of node 1 is a volume; nasctl volume list shows its place", path);
}

static void volume_add(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	const ns_node *node = need_node(master, request, argv[0]);
	scp_message message = { .type = SCP_VOLUME_OPEN };
	const char *place = argc > 2 ? argv[2] : "";
	struct waiting *waiting;

	if (!node)
		return;
	if (place[0] && place[0] != '/') {
		admin_error(request, "the place \"%s\" is not an absolute path of the tree, like /projects/a", place);
		return;
	}
	if (node->id == NAMESPACE_MASTER) {
		volume_add_here(master, request, argv[1], place);
		return;
	}
	waiting = waiting_new(master, request, node->id);
	if (!waiting)
		return;
	snprintf(waiting->text, sizeof(waiting->text), "%.60s of node %u is a volume; nasctl volume list shows its place",
		 argv[1], node->id);
	message.scp_message_u.volume_open.path = argv[1];
	message.scp_message_u.volume_open.place = (char *)place;
	waiting_send(waiting, &message);
}

static void volume_remove(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	const ns_volume *volume = need_volume(master, request, argv[0]);
	scp_message message = { .type = SCP_VOLUME_CLOSE };
	ns_item item = { .kind = NS_VOLUME };
	uint32_t id, node;
	int rc;

	(void)argc;
	if (!volume)
		return;
	id = volume->id;
	node = volume->node;
	memcpy(message.scp_message_u.volume_close.uuid, volume->uuid, NS_UUID_BYTES);
	item.ns_item_u.volume = (ns_volume){ .id = id, .path = (char *)"" };
	rc = vroot_remove_places(master_vroot(master), id);
	if (rc == 0)
		rc = vroot_change(master_vroot(master), NS_DELETE, &item);
	if (rc < 0) {
		admin_error(request, "volume %u was not removed: %s", id, strerror(-rc));
		return;
	}
	if (node == NAMESPACE_MASTER)
		volumes_forget(slave_volumes(master_slave(master)), (uint8_t *)message.scp_message_u.volume_close.uuid);
	else
		scp_send(slave_scp(master_slave(master)), node, SCP_CONTROL, 0, &message);
	admin_done(request, "volume %u is not served any more; its data stay where they are", id);
}

static const char *place_problem(int rc)
{
	switch (rc) {
	case -EEXIST:
		return "something else is there";
	case -ENOTDIR:
		return "a volume is on the way; places can't be inside volumes";
	case -EINVAL:
		return "a place is an absolute path other than /, like /projects/a";
	default:
		return strerror(-rc);
	}
}

static void volume_move(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	const ns_volume *volume = need_volume(master, request, argv[0]);
	char old[NS_TEXT_MAX] = "";
	const ns_entry *entry;
	uint32_t id;
	int rc;

	(void)argc;
	if (!volume)
		return;
	id = volume->id;
	entry = namespace_place(master_ns(master), id);
	if (entry)
		namespace_path(master_ns(master), entry, old);
	if (strcmp(old, argv[1]) == 0) {
		admin_done(request, "volume %u is at %s already", id, argv[1]);
		return;
	}
	rc = vroot_remove_places(master_vroot(master), id);
	if (rc == 0)
		rc = vroot_make_place(master_vroot(master), id, argv[1][0] ? argv[1] : "/");
	if (rc < 0) {
		admin_error(request, "volume %u can't be at %s: %s", id, argv[1], place_problem(rc));
		vroot_make_place(master_vroot(master), id, old);
		return;
	}
	admin_done(request, "volume %u is at %s", id, argv[1]);
}

/* Exports */

static void export_list(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
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
	struct master *master = master_of(arg);
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
		admin_error(request, "%s was not exported: %s", path, strerror(-rc));
	else
		admin_done(request, "%s is exported to %s", path, clients);
}

static void export_remove(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
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
		admin_error(request, "%s is still exported: %s", argv[0], strerror(-rc));
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
	struct session_listing listing = { .master = master_of(arg), .table = admin_table(DEVICE_SESSION_COLUMNS) };

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

static void session_show(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	const struct session_entry *entry = need_session(master, request, argv[0]);
	json_t *record;

	(void)argc;
	if (!entry)
		return;
	record = device_session_row(master_ns(master), &entry->info,
				    master_flow_owner(master, &entry->flow, entry->node));
	json_object_set_new(record, "volumes", device_session_shares(master_ns(master), &entry->info));
	admin_record(request, record);
}

static void handoff_answer(struct waiting *waiting, int result, uint32_t duration_us)
{
	char session[DEVICE_SESSION_TEXT];

	device_session_text(waiting->session, session);
	if (result < 0)
		admin_error(waiting->request, "session %s was not handed off to node %u: %s", session, waiting->to,
			    strerror(-result));
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
	scp_message message = { .type = SCP_HANDOFF_ORDER };
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
		if (!slave_handoffs(master_slave(master))) {
			handoff_answer(waiting, -EOPNOTSUPP, 0);
			return;
		}
		/* Ours takes its time and says so itself: no answer of a node, nor the lack of one, may end the wait. */
		waiting->number = 0;
		event_del(waiting->timer);
		rc = handoff_start(slave_handoffs(master_slave(master)), waiting->session, waiting->to,
				   handoff_done_here, waiting);
		if (rc < 0)
			handoff_answer(waiting, rc, 0);
		return;
	}
	message.scp_message_u.handoff_order.session = waiting->session;
	message.scp_message_u.handoff_order.node = waiting->to;
	waiting_send(waiting, &message);
}

static void handoff(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	const struct session_entry *entry = need_session(master, request, argv[0]);
	const ns_node *node = entry ? need_node(master, request, argv[1]) : NULL;
	struct waiting *waiting;

	(void)argc;
	if (!node)
		return;
	waiting = waiting_new(master, request, node->id);
	if (!waiting)
		return;
	waiting->session = entry->info.id;
	waiting->to = node->id;
	handoff_order(waiting);
}

static void why_answer(struct master *master, struct admin_request *request, uint32_t node, const scp_why_result *result)
{
	if (result->result)
		admin_error(request, "the session has just left node %u; try again", node);
	else
		device_why_answer(request, master_ns(master), node, result);
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
	struct master *master = master_of(arg);
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
	if (message->type == SCP_WHY_RESULT)
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
		else if (!node_is_up(master, node->id))
			add_problem(list, "node %u (%s) is down: %s; its volumes wait for it", node->id, node->name,
				    away_reason(master_member(master, node->id)));
	if (!namespace_next_export(ns, &first))
		add_problem(list, "nothing is exported: nasctl export set / '*(rw)'");
	if (!master_fabric(master) && master_settings(master)->handoff && master_settings(master)->vip_count)
		add_problem(list, "no forwarding table: work is relayed and sessions do not move; nasctl log says why");
	return list;
}

static void status(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	struct namespace *ns = master_ns(master);
	const ns_cluster *cluster = namespace_cluster(ns);
	size_t nodes = 0, up = 0, volumes = 0, sessions = 0;
	json_t *list = problems(master);
	const ns_node *node;

	(void)argc, (void)argv;
	for (size_t at = 0; (node = namespace_next_node(ns, &at)); nodes++) {
		up += node_is_up(master, node->id);
		sessions += node_sessions(master, node->id);
	}
	while (namespace_next_volume(ns, &volumes))
		;
	admin_record(request,
		     json_pack("{s:s, s:o, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:b, s:o}", "role", "master", "cluster",
			       admin_text(cluster->name), "vip", cluster->vips, "health", json_array_size(list) ? "degraded" : "good",
			       "nodes", (json_int_t)nodes, "nodes_up", (json_int_t)up, "volumes", (json_int_t)volumes,
			       "sessions", (json_int_t)sessions, "revision", (json_int_t)namespace_revision(ns),
			       "handoffs", slave_kernel_helper(master_slave(master)) != NULL, "problems", list));
}

static void counters(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
	json_t *table = admin_table(DEVICE_COUNTER_COLUMNS);

	(void)argc, (void)argv;
	device_counters(master_slave(master), table);
	if (master_fabric(master)) {
		size_t count;
		const struct fabric_counter *fabric = fabric_counters(master_fabric(master), &count);

		for (size_t i = 0; i < count; i++)
			device_counter(table, "fabric", fabric[i].name, fabric[i].packets);
		device_counter(table, "eap", "refused_over_scp", eap_service_refused_count(master_eap(master)));
	}
	admin_answer(request, table);
}

static void cluster_token(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = master_of(arg);
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
		admin_error(request, "no token was made: %s", strerror(-rc));
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
	{ "node remove", node_remove },
	{ "volume list", volume_list },
	{ "volume add", volume_add },
	{ "volume remove", volume_remove },
	{ "volume move", volume_move },
	{ "export list", export_list },
	{ "export set", export_set },
	{ "export remove", export_remove },
	{ "session list", session_list },
	{ "session show", session_show },
	{ "handoff", handoff },
	{ "policy", device_command_policy },
	{ "why", why },
	{ "log", device_command_log },
	{ "cluster token", cluster_token },
	{ "counters", counters },
	{ "stop", device_command_stop },
	{ NULL, NULL },
};
