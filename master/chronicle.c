/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/chronicle.h"

#include "common/member_state.h"
#include "common/settings.h"
#include "master/commands_internal.h"
#include "master/sessions.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HANDOFFS_S = 600, BATCH = 100 };

/* In a cluster at work there are some in each of these times: they may not be all that is kept, the week's other events being gone. */
_Static_assert((int)EVENTS_KEEP * HANDOFFS_S >= 6 * 24 * 3600, "events of handoffs crowd out the others");

struct chronicle {
	struct events *events;
	const struct namespace *ns;
	const struct sessions *sessions;
	struct event *tick;
	uint64_t moves; /* of sessions, when that was told of last */
	struct {
		enum events_kind kind;
		uint32_t node;
		char text[EVENTS_TEXT_MAX]; /* empty: not worth telling */
	} change; /* that is being made */
};

/* Changes of the name space */

static void __attribute__((format(printf, 4, 5)))
describe(struct chronicle *chronicle, enum events_kind kind, uint32_t node, const char *format, ...)
{
	va_list args;

	chronicle->change.kind = kind;
	chronicle->change.node = node;
	va_start(args, format);
	vsnprintf(chronicle->change.text, sizeof(chronicle->change.text), format, args);
	va_end(args);
}

static void describe_state(struct chronicle *chronicle, const ns_node *node, const char *what)
{
	describe(chronicle, EVENTS_NODE, node->id, "node=%u name=%s %s", node->id, node->name, what);
}

static void describe_node(struct chronicle *chronicle, const ns_node *node)
{
	const ns_node *old = namespace_node(chronicle->ns, node->id);

	if (!old)
		describe_state(chronicle, node, node->state == NS_NODE_PENDING ? "waits for approval" : "is a new member");
	else if (node->state == NS_NODE_DRAINING && old->state != node->state)
		describe_state(chronicle, node, "is being drained");
	else if (node->state != old->state)
		describe_state(chronicle, node, old->state == NS_NODE_PENDING ? "was approved" : "is not drained any more");
	else if (strcmp(node->name, old->name) != 0)
		describe(chronicle, EVENTS_NODE, node->id, "node=%u name=%s was called %s", node->id, node->name, old->name);
	else if (old->address[0] && strcmp(node->address, old->address) != 0)
		describe(chronicle, EVENTS_NODE, node->id, "node=%u name=%s address=%s was %s", node->id, node->name, node->address,
			 old->address);
}

static void describe_volume(struct chronicle *chronicle, const ns_volume *volume)
{
	const ns_volume *old = namespace_volume(chronicle->ns, volume->id);

	if (!old)
		describe(chronicle, EVENTS_VOLUME, volume->node, "volume=%u node=%u path=%s is new", volume->id, volume->node,
			 volume->path);
	else if (old->node != volume->node)
		describe(chronicle, EVENTS_VOLUME, volume->node, "volume=%u node=%u path=%s was with node=%u", volume->id,
			 volume->node, volume->path, old->node);
	else if (strcmp(old->path, volume->path) != 0)
		describe(chronicle, EVENTS_VOLUME, volume->node, "volume=%u node=%u path=%s was path=%s", volume->id, volume->node,
			 volume->path, old->path);
}

/* Of entries, the places of volumes are told of: directories of the virtual root change with each of them. */
static void describe_place(struct chronicle *chronicle, const ns_entry *entry)
{
	const ns_entry *old = namespace_entry(chronicle->ns, entry->id), *parent = namespace_entry(chronicle->ns, entry->parent);
	const ns_volume *volume = namespace_volume(chronicle->ns, entry->volume);
	char above[NS_TEXT_MAX] = "", before[NS_TEXT_MAX] = "";
	uint32_t node = volume ? volume->node : 0;

	if (!entry->volume || (old && old->parent == entry->parent && strcmp(old->name, entry->name) == 0))
		return;
	if (parent)
		namespace_path(chronicle->ns, parent, above);
	if (old)
		namespace_path(chronicle->ns, old, before);
	describe(chronicle, EVENTS_PLACE, node, "volume=%u is at %s/%s%s%s", entry->volume, strcmp(above, "/") == 0 ? "" : above,
		 entry->name, old ? ", was at " : "", before);
}

static void describe_export(struct chronicle *chronicle, const ns_export *export)
{
	describe(chronicle, EVENTS_EXPORT, 0, "%s is exported to %s", export->path, export->clients);
}

static void describe_user(struct chronicle *chronicle, const ns_user *user)
{
	describe(chronicle, EVENTS_USER, 0, "user=%s uid=%u %s", user->name, user->uid,
		 namespace_user(chronicle->ns, user->uid) ? "was changed" : "is new");
}

static void describe_group(struct chronicle *chronicle, const ns_group *group)
{
	describe(chronicle, EVENTS_USER, 0, "group=%s gid=%u %s", group->name, group->gid,
		 namespace_group(chronicle->ns, group->gid) ? "was changed" : "is new");
}

static void describe_put(struct chronicle *chronicle, const ns_item *item)
{
	switch (item->kind) {
	case NS_CLUSTER:
		describe(chronicle, EVENTS_CLUSTER, 0, "vips=\"%s\" was \"%s\"", item->ns_item_u.cluster.vips,
			 namespace_cluster(chronicle->ns)->vips);
		break;
	case NS_NODE:
		describe_node(chronicle, &item->ns_item_u.node);
		break;
	case NS_VOLUME:
		describe_volume(chronicle, &item->ns_item_u.volume);
		break;
	case NS_ENTRY:
		describe_place(chronicle, &item->ns_item_u.entry);
		break;
	case NS_EXPORT:
		describe_export(chronicle, &item->ns_item_u.export_);
		break;
	case NS_USER:
		describe_user(chronicle, &item->ns_item_u.user);
		break;
	case NS_GROUP:
		describe_group(chronicle, &item->ns_item_u.group);
		break;
	case NS_CLASS:
		describe(chronicle, EVENTS_CLASS, 0, "class=%s members=\"%s\" weight=%u operations=%ju bytes=%ju",
			 item->ns_item_u.class_.name, item->ns_item_u.class_.members, item->ns_item_u.class_.weight,
			 (uintmax_t)item->ns_item_u.class_.operations, (uintmax_t)item->ns_item_u.class_.bytes);
		break;
	case NS_REVOCATION:
		describe(chronicle, EVENTS_NODE, item->ns_item_u.revocation.node, "node=%u certificates before number=%ju are revoked",
			 item->ns_item_u.revocation.node, (uintmax_t)item->ns_item_u.revocation.first_good);
		break;
	case NS_SPREAD:
		describe(chronicle, EVENTS_VOLUME, 0, "volume=%u is a spread directory", item->ns_item_u.spread.id);
		break;
	case NS_BRANCH:
		describe(chronicle, EVENTS_VOLUME, 0, "volume=%u branch=%u has weight=%u", item->ns_item_u.branch.spread,
			 item->ns_item_u.branch.id, item->ns_item_u.branch.weight);
		break;
	}
}

/* Deleting looks at the item's id alone: what it is called is in the name space. */

static void describe_unplacing(struct chronicle *chronicle, const ns_entry *entry)
{
	char path[NS_TEXT_MAX];

	if (entry && entry->volume && namespace_path(chronicle->ns, entry, path) == 0)
		describe(chronicle, EVENTS_PLACE, 0, "volume=%u is not at %s any more", entry->volume, path);
}

static void describe_unexporting(struct chronicle *chronicle, uint32_t id)
{
	const ns_export *export;

	for (size_t at = 0; (export = namespace_next_export(chronicle->ns, &at));)
		if (export->id == id)
			describe(chronicle, EVENTS_EXPORT, 0, "%s is not exported any more", export->path);
}

static void describe_unclassing(struct chronicle *chronicle, uint32_t id)
{
	const ns_class *class;

	for (size_t at = 0; (class = namespace_next_class(chronicle->ns, &at));)
		if (class->id == id)
			describe(chronicle, EVENTS_CLASS, 0, "class=%s is no class any more", class->name);
}

static void describe_delete(struct chronicle *chronicle, const ns_item *item)
{
	const struct namespace *ns = chronicle->ns;
	const ns_volume *volume;
	const ns_group *group;
	const ns_node *node;
	const ns_user *user;

	switch (item->kind) {
	case NS_CLUSTER:
		break; /* never */
	case NS_NODE:
		if ((node = namespace_node(ns, item->ns_item_u.node.id)))
			describe_state(chronicle, node, "is no member any more");
		break;
	case NS_VOLUME:
		if ((volume = namespace_volume(ns, item->ns_item_u.volume.id)))
			describe(chronicle, EVENTS_VOLUME, volume->node, "volume=%u node=%u path=%s is no volume any more", volume->id,
				 volume->node, volume->path);
		break;
	case NS_ENTRY:
		describe_unplacing(chronicle, namespace_entry(ns, item->ns_item_u.entry.id));
		break;
	case NS_EXPORT:
		describe_unexporting(chronicle, item->ns_item_u.export_.id);
		break;
	case NS_USER:
		if ((user = namespace_user(ns, item->ns_item_u.user.uid)))
			describe(chronicle, EVENTS_USER, 0, "user=%s uid=%u was removed", user->name, user->uid);
		break;
	case NS_GROUP:
		if ((group = namespace_group(ns, item->ns_item_u.group.gid)))
			describe(chronicle, EVENTS_USER, 0, "group=%s gid=%u was removed", group->name, group->gid);
		break;
	case NS_CLASS:
		describe_unclassing(chronicle, item->ns_item_u.class_.id);
		break;
	case NS_REVOCATION:
		break; /* they have expired */
	case NS_SPREAD:
		describe(chronicle, EVENTS_VOLUME, 0, "volume=%u is no spread directory any more", item->ns_item_u.spread.id);
		break;
	case NS_BRANCH:
		describe(chronicle, EVENTS_VOLUME, 0, "branch=%u is none any more", item->ns_item_u.branch.id);
		break;
	}
}

void chronicle_changing(struct chronicle *chronicle, const ns_change *change)
{
	if (!chronicle)
		return;
	chronicle->change.text[0] = '\0';
	if (change->operation == NS_PUT)
		describe_put(chronicle, &change->item);
	else
		describe_delete(chronicle, &change->item);
}

void chronicle_changed(struct chronicle *chronicle)
{
	if (chronicle && chronicle->change.text[0])
		events_note(chronicle->events, chronicle->change.kind, chronicle->change.node, "%s", chronicle->change.text);
}

/* What else happens */

void chronicle_member(struct chronicle *chronicle, uint32_t node, const struct member_life *life)
{
	const ns_node *known = chronicle ? namespace_node(chronicle->ns, node) : NULL;

	if (chronicle)
		events_note(chronicle->events, EVENTS_NODE, node, "node=%u name=%s is %s: %s", node, known ? known->name : "?",
			    member_state_name(life->state), life->reason);
}

void chronicle_taken_back(struct chronicle *chronicle, uint32_t node, unsigned int flows)
{
	if (chronicle && flows)
		events_note(chronicle->events, EVENTS_NODE, node, "node=%u stays away: its sessions=%u are the switch's, clients reconnect",
			    node, flows);
}

static void note_list(char *text, size_t size, const json_t *list)
{
	const json_t *name;
	size_t i, len = 0;

	snprintf(text, size, "nothing");
	json_array_foreach(list, i, name)
		if (len < size)
			len += (size_t)snprintf(text + len, size - len, "%s%s", i ? ", " : "", json_string_value(name));
}

void chronicle_reloaded(struct chronicle *chronicle, const json_t *changed, const json_t *after_restart)
{
	char now[EVENTS_TEXT_MAX], later[EVENTS_TEXT_MAX];

	if (!chronicle)
		return;
	note_list(now, sizeof(now), changed);
	note_list(later, sizeof(later), after_restart);
	events_note(chronicle->events, EVENTS_SETTINGS, NAMESPACE_MASTER, "the configuration was read again: changed: %s; after a restart: %s",
		    now, later);
}

void chronicle_not_reloaded(struct chronicle *chronicle, const char *why)
{
	if (chronicle)
		events_note(chronicle->events, EVENTS_SETTINGS, NAMESPACE_MASTER, "the configuration was not read again: %s", why);
}

void chronicle_deed(const struct admin_deed *deed, void *arg)
{
	struct chronicle *chronicle = arg;

	events_note(chronicle->events, EVENTS_COMMAND, 0, "uid=%d nasctl %s: %s%s", (int)deed->uid, deed->command,
		    deed->is_done ? "" : "failed: ", deed->outcome ? deed->outcome : "done");
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct chronicle *chronicle = arg;
	uint64_t moves = sessions_moves(chronicle->sessions);

	(void)fd, (void)what;
	if (moves != chronicle->moves)
		events_note(chronicle->events, EVENTS_HANDOFFS, 0, "handoffs=%ju in %d s", (uintmax_t)(moves - chronicle->moves),
			    HANDOFFS_S);
	chronicle->moves = moves;
}

/* The command */

/* Where a reader is. */
struct place {
	struct chronicle *chronicle;
	uint64_t id;
	enum events_kind kind; /* EVENTS_KINDS: all */
};

static json_t *event_row(const struct chronicle *chronicle, const struct events_entry *entry)
{
	const ns_node *node = namespace_node(chronicle->ns, entry->node);

	return json_pack("{s:I, s:I, s:s, s:o, s:o, s:s}", "id", (json_int_t)entry->id, "time_ns", (json_int_t)entry->time_ns, "kind",
			 events_kind_name(entry->kind), "node", entry->node ? json_integer(entry->node) : json_null(), "node_name",
			 node ? admin_text(node->name) : json_null(), "text", entry->text);
}

/* Rows of the events behind @place, at most @most. Gives how many there were not any more. */
static uint64_t read_events(struct place *place, size_t most, json_t *rows)
{
	const struct events_entry *entry;
	uint64_t missed_now, missed = 0;

	while (json_array_size(rows) < most && (entry = events_next(place->chronicle->events, &place->id, &missed_now))) {
		missed += missed_now;
		if (place->kind == EVENTS_KINDS || place->kind == entry->kind)
			json_array_append_new(rows, event_row(place->chronicle, entry));
	}
	return missed;
}

static json_t *next_events(void *state)
{
	json_t *rows = json_array();
	uint64_t missed = read_events(state, BATCH, rows);

	return admin_rows(rows, missed);
}

static void end_of_reader(void *state)
{
	free(state);
}

static const struct admin_source events_source = { .next = next_events, .end = end_of_reader };

struct wanted {
	bool follows, has_count;
	uint64_t count, after;
	enum events_kind kind;
};

static int parse_number(struct admin_request *request, const char *option, const char *text, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	if (*text >= '0' && *text <= '9' && !*end && !errno)
		return 0;
	admin_error(request, "%s %s: a number belongs here", option, text);
	return -EINVAL;
}

static int parse_kind(struct admin_request *request, const char *text, enum events_kind *out)
{
	char kinds[256] = "";

	if (events_kind_parse(text, out) == 0)
		return 0;
	for (enum events_kind kind = 0; kind < EVENTS_KINDS; kind++)
		snprintf(kinds + strlen(kinds), sizeof(kinds) - strlen(kinds), "%s%s", kind ? ", " : "", events_kind_name(kind));
	admin_error(request, "--kind %s: there are events of the kinds %s", text, kinds);
	return -EINVAL;
}

/* 0; -EINVAL, and @request was answered */
static int parse(struct admin_request *request, int argc, char **argv, struct wanted *out)
{
	int rc = 0;

	*out = (struct wanted){ .kind = EVENTS_KINDS };
	for (int i = 0; rc == 0 && i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "-f") == 0) {
			out->follows = true;
			continue;
		}
		if (strcmp(argv[i], "-n") == 0 && value) {
			rc = parse_number(request, argv[i], value, &out->count);
			out->has_count = true;
		} else if (strcmp(argv[i], "--after") == 0 && value) {
			rc = parse_number(request, argv[i], value, &out->after);
		} else if (strcmp(argv[i], "--kind") == 0 && value) {
			rc = parse_kind(request, value, &out->kind);
		} else {
			admin_error(request, "\"%s\" is no option of events, or lacks its value; nasctl help events shows them", argv[i]);
			rc = -EINVAL;
		}
		i++;
	}
	return rc;
}

/* The id from which on there are @count events of the kind. */
static uint64_t first_of_last(struct chronicle *chronicle, enum events_kind kind, uint64_t count)
{
	const struct events_entry *entry;
	uint64_t have = 0;

	for (uint64_t id = 0; (entry = events_next(chronicle->events, &id, NULL));)
		have += kind == EVENTS_KINDS || kind == entry->kind;
	for (uint64_t id = 0; (entry = events_next(chronicle->events, &id, NULL));)
		if ((kind == EVENTS_KINDS || kind == entry->kind) && have-- <= count)
			return entry->id;
	return events_end(chronicle->events);
}

void chronicle_command_events(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct chronicle *chronicle = master_chronicle(commands_master(arg));
	struct wanted wanted;
	struct place *place;
	uint64_t missed;
	json_t *table;

	if (parse(request, argc, argv, &wanted) < 0)
		return;
	place = malloc(sizeof(*place));
	if (!place) {
		admin_error(request, "there is no memory for that now; try again later");
		return;
	}
	*place = (struct place){ chronicle, 0, wanted.kind };
	if (wanted.has_count)
		place->id = first_of_last(chronicle, wanted.kind, wanted.count);
	if (wanted.after >= place->id)
		place->id = wanted.after < UINT64_MAX ? wanted.after + 1 : wanted.after;
	table = admin_table("id:Event time_ns:Time kind:Kind node_name:Node text:What");
	json_object_set_new(table, "lines", json_true());
	missed = read_events(place, EVENTS_KEEP, json_object_get(table, "rows"));
	if (wanted.after && missed)
		json_object_set_new(table, "missed", json_integer((json_int_t)missed));
	if (wanted.follows) {
		admin_stream(request, table, &events_source, place);
	} else {
		free(place);
		admin_answer(request, table);
	}
}

/* Life */

int chronicle_new(struct event_base *base, const struct settings *settings, const struct namespace *ns,
		  const struct sessions *sessions, struct chronicle **out)
{
	struct chronicle *chronicle = calloc(1, sizeof(*chronicle));
	char path[PATH_MAX];
	int rc = -ENOMEM;

	if (!chronicle)
		return -ENOMEM;
	chronicle->ns = ns;
	chronicle->sessions = sessions;
	snprintf(path, sizeof(path), "%.4000s/events", settings->state_dir);
	chronicle->tick = event_new(base, -1, EV_PERSIST, on_tick, chronicle);
	if (chronicle->tick && event_add(chronicle->tick, &(struct timeval){ .tv_sec = HANDOFFS_S }) == 0)
		rc = events_open(path, &chronicle->events);
	if (rc < 0) {
		chronicle_free(chronicle, false);
		return rc;
	}
	events_note(chronicle->events, EVENTS_MASTER, NAMESPACE_MASTER, "the master has started: %s", PACKAGE_STRING);
	*out = chronicle;
	return 0;
}

void chronicle_free(struct chronicle *chronicle, bool for_good)
{
	if (!chronicle)
		return;
	events_note(chronicle->events, EVENTS_MASTER, NAMESPACE_MASTER, "the master stops%s", for_good ? "" : ", for a restart");
	events_close(chronicle->events);
	if (chronicle->tick)
		event_free(chronicle->tick);
	free(chronicle);
}
