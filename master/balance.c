/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/balance.h"

enum {
	DEVICES_MAX = 256,
	PERMILLE = 1000,
	IDLE_LEAST = 50, /* permille: also the busiest gets some, or all would go to one that is hardly less busy */
};

/* Turns */

static unsigned int greatest_divisor(unsigned int a, unsigned int b)
{
	while (b) {
		unsigned int rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* After so many turns each device has had what its weight says, exactly. */
static size_t round_of(const struct balance_device *devices, size_t count)
{
	unsigned int divisor = 0;
	size_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		divisor = greatest_divisor(devices[i].weight, divisor);
		sum += devices[i].weight;
	}
	return divisor ? sum / divisor : 0;
}

size_t balance_by_weight(const struct balance_device *devices, size_t count, uint32_t turns[static BALANCE_TURNS_MAX])
{
	size_t turn, round = round_of(devices, count);
	int64_t credits[DEVICES_MAX] = { 0 }, sum = 0;

	if (count > DEVICES_MAX)
		return 0;
	for (size_t i = 0; i < count; i++)
		sum += devices[i].weight;
	/* In each turn everybody is given his weight; who has most pays for all. So those with much come often, not in a row. */
	for (turn = 0; turn < round && turn < BALANCE_TURNS_MAX; turn++) {
		size_t richest = 0;

		for (size_t i = 0; i < count; i++) {
			credits[i] += devices[i].weight;
			if (credits[i] > credits[richest])
				richest = i;
		}
		credits[richest] -= sum;
		turns[turn] = devices[richest].device;
	}
	return turn;
}

/* How much of it there is to be had. */
static uint64_t room_of(const struct balance_device *device)
{
	unsigned int idle = device->busy_permille < PERMILLE ? PERMILLE - device->busy_permille : 0;

	return (uint64_t)(idle > IDLE_LEAST ? idle : IDLE_LEAST) * device->weight;
}

/* @given, @given_best: what turns before have given them */
static bool has_less(const struct balance_device *device, uint64_t given, const struct balance_device *best, uint64_t given_best)
{
	return (device->sessions + given + 1) * room_of(best) < (best->sessions + given_best + 1) * room_of(device);
}

size_t balance_by_load(const struct balance_device *devices, size_t count, uint32_t turns[static BALANCE_TURNS_MAX])
{
	uint64_t given[DEVICES_MAX] = { 0 };

	if (count == 0 || count > DEVICES_MAX)
		return 0;
	for (size_t turn = 0; turn < BALANCE_TURNS_MAX; turn++) {
		size_t best = 0;

		for (size_t i = 1; i < count; i++)
			if (has_less(&devices[i], given[i], &devices[best], given[best]))
				best = i;
		given[best]++;
		turns[turn] = devices[best].device;
	}
	return BALANCE_TURNS_MAX;
}

/* Sessions that are there */

static unsigned int relief_of(unsigned int bound_permille)
{
	return bound_permille > BALANCE_RELIEF_PERMILLE ? bound_permille - BALANCE_RELIEF_PERMILLE : 0;
}

bool balance_watch(struct balance_watch *watch, unsigned int busy_permille, unsigned int bound_permille, uint64_t now_ms)
{
	if (busy_permille < (watch->is_busy ? relief_of(bound_permille) : bound_permille)) {
		*watch = (struct balance_watch){ 0 };
		return false;
	}
	if (!watch->since_ms)
		watch->since_ms = now_ms;
	if (now_ms - watch->since_ms < BALANCE_AFTER_MS)
		return false;
	watch->is_busy = true;
	watch->since_ms = now_ms;
	return true;
}

enum balance_reason balance_reason_of(const struct balance_session *session)
{
	if (session->was_shifted)
		return BALANCE_SHIFTED;
	if (session->here == 0 && session->elsewhere == 0)
		return BALANCE_IDLE;
	if (session->elsewhere > session->here)
		return BALANCE_PASSES;
	return session->elsewhere * 3 >= session->here ? BALANCE_MIXED : BALANCE_WORKS_HERE;
}

const char *balance_reason_text(enum balance_reason reason)
{
	static const char *const texts[BALANCE_NREASONS] = {
		[BALANCE_PASSES] = "most of its work is for other nodes, so it would be one of the first to go",
		[BALANCE_MIXED] = "a good part of its work is for other nodes, so it might go",
		[BALANCE_IDLE] = "it does nothing, so it might go",
		[BALANCE_WORKS_HERE] = "its work is here, so it stays",
		[BALANCE_SHIFTED] = "it was shifted within the last minute, so it stays",
	};

	return texts[reason];
}

static bool may_get_more(const struct balance_device *device, unsigned int bound_permille)
{
	return device->busy_permille < relief_of(bound_permille);
}

uint32_t balance_target(const struct balance_session *session, const struct balance_device *devices, size_t count,
			unsigned int bound_permille)
{
	const struct balance_device *best = NULL;

	for (size_t i = 0; i < count; i++) {
		if (!may_get_more(&devices[i], bound_permille))
			continue;
		if (devices[i].device == session->owner)
			return session->owner;
		if (!best || has_less(&devices[i], 0, best, 0))
			best = &devices[i];
	}
	return best ? best->device : 0;
}
