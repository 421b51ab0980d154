/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/shifting.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/namespace.h"
#include "common/placement.h"
#include "common/settings.h"
#include "master/balance.h"
#include "master/first_device.h"
#include "master/master.h"
#include "master/sessions.h"
#include "slave/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	PERCENT_PERMILLE = 10,
	SHIFTED_MAX = 4096,
	SURVEY_MS = 2000, /* until each device has said what its sessions have done since */
};

/* A session as it was when its device got busy. */
struct surveyed {
	uint64_t id;
	scp_volume_share *shares; /* owned, to be compared with */
	u_int share_count;
};

struct watched {
	struct balance_watch watch;
	struct surveyed *survey; /* by id; NULL: none was made */
	size_t count, room;
};

struct shifting {
	struct master *master;
	struct watched devices[FABRIC_DEVICES_MAX];
	struct {
		uint64_t id, ms;
	} shifted[SHIFTED_MAX]; /* the last ones, in turn */
	uint64_t shifted_count;
};

static unsigned int bound_permille(const struct shifting *shifting)
{
	return master_settings(shifting->master)->busy_percent * PERCENT_PERMILLE;
}

/* Surveys */

static void survey_forget(struct watched *device)
{
	for (size_t i = 0; i < device->count; i++)
		free(device->survey[i].shares);
	free(device->survey);
	device->survey = NULL;
	device->count = device->room = 0;
}

static bool survey_make_room(struct watched *device)
{
	size_t room = device->room ? 2 * device->room : 64;
	struct surveyed *survey;

	if (device->count < device->room)
		return true;
	survey = reallocarray(device->survey, room, sizeof(*survey));
	if (!survey)
		return false;
	device->survey = survey;
	device->room = room;
	return true;
}

struct surveying {
	struct watched *device;
	uint32_t node;
};

/* Without memory the session is none of those that may go. */
static void survey_add(const struct session_entry *entry, void *arg)
{
	struct surveying *surveying = arg;
	u_int count = entry->info.shares.shares_len;
	struct watched *device = surveying->device;
	scp_volume_share *shares;

	if (entry->node != surveying->node || !entry->info.id || !survey_make_room(device))
		return;
	shares = calloc(count + 1, sizeof(*shares));
	if (!shares)
		return;
	if (count)
		memcpy(shares, entry->info.shares.shares_val, count * sizeof(*shares));
	device->survey[device->count++] = (struct surveyed){ entry->info.id, shares, count };
}

static int compare_ids(const void *a, const void *b)
{
	const struct surveyed *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

static void survey_make(struct shifting *shifting, uint32_t node)
{
	struct surveying surveying = { &shifting->devices[node], node };

	survey_forget(surveying.device);
	sessions_visit(master_sessions(shifting->master), survey_add, &surveying);
	if (surveying.device->count)
		qsort(surveying.device->survey, surveying.device->count, sizeof(struct surveyed), compare_ids);
}

static const struct surveyed *survey_find(const struct watched *device, uint64_t id)
{
	const struct surveyed wanted = { .id = id };

	return device->count ? bsearch(&wanted, device->survey, device->count, sizeof(wanted), compare_ids) : NULL;
}

/* What sessions have done since */

static uint64_t work_of(const scp_volume_share *share)
{
	return share->bytes + share->requests * PLACEMENT_REQUEST_BYTES;
}

/* For the volume of @now; all of it, if it was not there then. */
static uint64_t work_since(const struct surveyed *then, const scp_volume_share *now)
{
	for (u_int i = 0; i < then->share_count; i++)
		if (then->shares[i].volume == now->volume && work_of(&then->shares[i]) <= work_of(now))
			return work_of(now) - work_of(&then->shares[i]);
	return work_of(now);
}

/* The last ones first: asked of each session of a busy device, this may not go through those that are long over. */
static bool was_shifted(const struct shifting *shifting, uint64_t id, uint64_t now_ms)
{
	for (uint64_t i = 1; i <= SHIFTED_MAX && i <= shifting->shifted_count; i++) {
		size_t at = (shifting->shifted_count - i) % SHIFTED_MAX;

		if (now_ms - shifting->shifted[at].ms >= BALANCE_STAY_MS)
			return false;
		if (shifting->shifted[at].id == id)
			return true;
	}
	return false;
}

/* The virtual root (volume 0) is on every device: what was done there says nothing. */
static struct balance_session describe(const struct shifting *shifting, uint32_t node, const scp_session *now,
				       const struct surveyed *then)
{
	struct balance_session out = { .id = now->id, .was_shifted = was_shifted(shifting, now->id, clock_monotonic_ms()) };
	uint64_t most = 0;

	for (u_int i = 0; i < now->shares.shares_len; i++) {
		const scp_volume_share *share = &now->shares.shares_val[i];
		const ns_volume *volume = share->volume ? namespace_volume(master_ns(shifting->master), share->volume) : NULL;
		uint64_t work = volume ? work_since(then, share) : 0;

		if (work && volume->node == node) {
			out.here += work;
			continue;
		}
		out.elsewhere += work;
		if (work > most) {
			most = work;
			out.owner = volume->node;
		}
	}
	return out;
}

/* Giving */

struct giving {
	const struct shifting *shifting;
	uint32_t node;
	size_t count;
	struct balance_session chosen[SHIFTING_BUDGET]; /* who goes first is first */
};

static bool goes_before(const struct balance_session *a, const struct balance_session *b)
{
	enum balance_reason x = balance_reason_of(a), y = balance_reason_of(b);

	return x != y ? x < y : a->elsewhere > b->elsewhere;
}

static void choose(const struct session_entry *entry, void *arg)
{
	struct giving *giving = arg;
	const struct surveyed *then = entry->node == giving->node ?
					      survey_find(&giving->shifting->devices[giving->node], entry->info.id) : NULL;
	struct balance_session session;
	size_t at;

	if (!then)
		return;
	session = describe(giving->shifting, giving->node, &entry->info, then);
	if (balance_reason_of(&session) > BALANCE_IDLE)
		return;
	for (at = giving->count; at > 0 && goes_before(&session, &giving->chosen[at - 1]); at--)
		if (at < SHIFTING_BUDGET)
			giving->chosen[at] = giving->chosen[at - 1];
	if (at < SHIFTING_BUDGET)
		giving->chosen[at] = session;
	if (giving->count < SHIFTING_BUDGET)
		giving->count++;
}

static void on_given(uint64_t session, uint32_t node, int result, uint32_t duration_us, void *arg)
{
	(void)session, (void)node, (void)result, (void)duration_us, (void)arg;
}

static bool order(struct shifting *shifting, uint32_t node, uint64_t session, uint32_t target)
{
	struct slave *slave = master_slave(shifting->master);
	struct scp *scp = slave_scp(slave);
	scp_message message = { .type = SCP_HANDOFF_ORDER };
	scp_special_order own = { .session = session, .node = target };

	if (node == NAMESPACE_MASTER)
		return slave_handoff(slave, &own, on_given, NULL) == 0;
	message.scp_message_u.handoff_order.session = session;
	message.scp_message_u.handoff_order.node = target;
	return scp_send(scp, node, SCP_CONTROL, scp_next_request(scp), &message) == 0;
}

/* So that the next one is not sent there only because nobody has told us of this one yet. */
static void note_given(struct balance_device *devices, size_t count, uint32_t target)
{
	for (size_t i = 0; i < count; i++)
		devices[i].sessions += devices[i].device == target;
}

static void give(struct shifting *shifting, uint32_t node)
{
	struct giving giving = { .shifting = shifting, .node = node };
	struct balance_device devices[FABRIC_DEVICES_MAX];
	size_t count = first_device_candidates(master_first_device(shifting->master), devices), given = 0;

	for (size_t i = 0; i < count; i++)
		if (devices[i].device == node)
			devices[i--] = devices[--count];
	sessions_visit(master_sessions(shifting->master), choose, &giving);
	for (size_t i = 0; i < giving.count; i++) {
		uint32_t target = balance_target(&giving.chosen[i], devices, count, bound_permille(shifting));

		if (!target || !order(shifting, node, giving.chosen[i].id, target))
			continue;
		note_given(devices, count, target);
		shifting->shifted[shifting->shifted_count % SHIFTED_MAX].id = giving.chosen[i].id;
		shifting->shifted[shifting->shifted_count++ % SHIFTED_MAX].ms = clock_monotonic_ms();
		given++;
	}
	if (given)
		log_info("member", "node=%u is too busy: sessions=%zu go to others", node, given);
}

/* A look at each device */

static unsigned int busy_permille(const struct shifting *shifting, uint32_t node)
{
	return first_device_busy_permille(shifting->master, node);
}

static void look_at(struct shifting *shifting, uint32_t node, uint64_t now_ms)
{
	struct watched *device = &shifting->devices[node];
	bool was_busy = device->watch.is_busy, gives;

	gives = balance_watch(&device->watch, busy_permille(shifting, node), bound_permille(shifting), now_ms);
	if (device->watch.is_busy != was_busy)
		log_info("member", "node=%u is %s", node, was_busy ? "not too busy any more" : "too busy");
	if (gives)
		give(shifting, node);
	if (!device->watch.since_ms)
		survey_forget(device);
	else if (gives || !device->survey)
		survey_make(shifting, node);
}

/* What says nothing of itself is not known to be busy. */
static bool is_known(const struct shifting *shifting, uint32_t node)
{
	const ns_node *known = namespace_node(master_ns(shifting->master), node);
	const struct load *load = master_load(shifting->master, node);

	return known && namespace_is_member(known) && (node == NAMESPACE_MASTER || (load && load->knows_cpu));
}

void shifting_tick(struct shifting *shifting)
{
	uint64_t now_ms = clock_monotonic_ms();

	if (bound_permille(shifting))
		master_refresh_sessions(shifting->master);
	for (uint32_t node = NAMESPACE_MASTER; node < FABRIC_DEVICES_MAX; node++) {
		if (bound_permille(shifting) && is_known(shifting, node)) {
			look_at(shifting, node, now_ms);
			continue;
		}
		shifting->devices[node].watch = (struct balance_watch){ 0 };
		survey_forget(&shifting->devices[node]);
	}
}

uint64_t shifting_count(const struct shifting *shifting)
{
	return shifting->shifted_count;
}

const char *shifting_why(const struct shifting *shifting, const struct session_entry *entry, uint32_t node,
			 char text[static SHIFTING_WHY_MAX])
{
	const struct watched *device = &shifting->devices[node % FABRIC_DEVICES_MAX];
	const struct surveyed *then = survey_find(device, entry->info.id);
	unsigned int busy = busy_permille(shifting, node) / PERCENT_PERMILLE, bound = bound_permille(shifting) / PERCENT_PERMILLE;
	struct balance_session session;

	if (!bound) {
		snprintf(text, SHIFTING_WHY_MAX, "no: sessions don't leave busy nodes ([balance], busy = 0)");
	} else if (!device->watch.since_ms) {
		snprintf(text, SHIFTING_WHY_MAX, "no: node %u is %u %% busy, and may be %u %%", node, busy, bound);
	} else if (clock_monotonic_ms() - device->watch.since_ms < SURVEY_MS) {
		snprintf(text, SHIFTING_WHY_MAX, "not now: node %u is %u %% busy, and what its sessions do is being looked at", node, busy);
	} else if (!then) {
		snprintf(text, SHIFTING_WHY_MAX, "not yet: node %u is %u %% busy, but the session has just come", node, busy);
	} else {
		session = describe(shifting, node, &entry->info, then);
		snprintf(text, SHIFTING_WHY_MAX, "node %u is %u %% busy, and may be %u %%; of the session: %s", node, busy, bound,
			 balance_reason_text(balance_reason_of(&session)));
	}
	return text;
}

struct shifting *shifting_new(struct master *master)
{
	struct shifting *shifting = calloc(1, sizeof(*shifting));

	if (shifting)
		shifting->master = master;
	return shifting;
}

void shifting_free(struct shifting *shifting)
{
	if (!shifting)
		return;
	for (size_t node = 0; node < FABRIC_DEVICES_MAX; node++)
		survey_forget(&shifting->devices[node]);
	free(shifting);
}
