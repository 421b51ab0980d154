/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a spread directory's listing skips or repeats entries while others come and go, a name leads to the wrong file or to two,
 * the master forgets over a restart what is on volumes that are away, a call reaches a branch changed, or what a branch answers
 * crashes the master.
 */
#include "config.h"

#include "common/spread.h"

#include "common/nfs3_xdr.h"
#include "common/spread_call.h"
#include "common/spread_directory.h"
#include "master/spread.h"
#include "master/spread_store.h"
#include "slave/spread.h"

#include <check.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MANY = 3000, BRANCH = 4 };

static struct spread *spread;

static struct spread_entry entry_of(uint64_t id, const char *name)
{
	return (struct spread_entry){
		.id = id,
		.name = name,
		.is_there = true,
		.type = S_IFDIR,
		.fileid = 0x0010000000000000 + id,
		.handle = { .type = HANDLE_LOCAL, .volume = BRANCH, .backend_type = 1, .backend_len = 8, .backend = "backend" },
	};
}

static void put(uint64_t id, const char *name)
{
	struct spread_entry entry = entry_of(id, name);

	ck_assert_int_eq(spread_put(spread, &entry), 0);
}

static void expect_handle(const struct handle *got, const struct handle *wanted)
{
	ck_assert_int_eq(got->type, wanted->type);
	ck_assert_uint_eq(got->volume, wanted->volume);
	ck_assert_uint_eq(got->backend_type, wanted->backend_type);
	ck_assert_uint_eq(got->backend_len, wanted->backend_len);
	ck_assert_mem_eq(got->backend, wanted->backend, wanted->backend_len);
}

static void setup(void)
{
	spread = spread_new();
	ck_assert_ptr_nonnull(spread);
}

static void teardown(void)
{
	spread_free(spread);
}

/* "id=name ..." in the order of the ids */
static const char *content(void)
{
	static char text[1024];
	const struct spread_entry *entry;
	size_t len = 0;

	text[0] = '\0';
	for (uint64_t id = 0; (entry = spread_after(spread, id)); id = entry->id)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%ju=%s", len ? " " : "", (uintmax_t)entry->id, entry->name);
	return text;
}

START_TEST(a_name_and_an_id_are_there_once)
{
	put(3, "c");
	put(1, "a");
	put(2, "b");
	ck_assert_str_eq(content(), "1=a 2=b 3=c");
	put(2, "renamed");
	ck_assert_str_eq(content(), "1=a 2=renamed 3=c");
	ck_assert_ptr_null(spread_by_name(spread, "b"));
	put(3, "a"); /* replaces what had the name */
	ck_assert_str_eq(content(), "2=renamed 3=a");
	ck_assert_uint_eq(spread_by_name(spread, "a")->id, 3);
	spread_remove(spread, 17);
	spread_remove(spread, 2);
	ck_assert_str_eq(content(), "3=a");
	ck_assert_uint_eq(spread_entries(spread), 1);
}
END_TEST

/* What is put may borrow from the very entry that it replaces. */
START_TEST(an_entry_can_be_put_back)
{
	struct spread_entry entry;

	put(1, "a");
	entry = *spread_by_name(spread, "a");
	entry.fileid = 7;
	ck_assert_int_eq(spread_put(spread, &entry), 0);
	ck_assert_uint_eq(spread_by_name(spread, "a")->fileid, 7);
}
END_TEST

static const char *const bad_names[] = { "", ".", "..", "a/b" };

START_TEST(what_is_no_name_is_refused)
{
	struct spread_entry entry = entry_of(1, bad_names[_i]);

	ck_assert_int_eq(spread_put(spread, &entry), -EINVAL);
	ck_assert_uint_eq(spread_entries(spread), 0);
}
END_TEST

START_TEST(many_are_found_and_counted)
{
	char name[16];

	for (uint64_t id = MANY; id > 0; id--) {
		snprintf(name, sizeof(name), "n%ju", (uintmax_t)id);
		put(id, name);
	}
	ck_assert_uint_eq(spread_directories(spread), MANY);
	for (uint64_t id = 1; id <= MANY; id += 2)
		spread_remove(spread, id);
	ck_assert_uint_eq(spread_entries(spread), MANY / 2);
	ck_assert_uint_eq(spread_directories(spread), MANY / 2);
	for (uint64_t id = 1; id <= MANY; id++) {
		snprintf(name, sizeof(name), "n%ju", (uintmax_t)id);
		ck_assert_int_eq(spread_by_name(spread, name) != NULL, id % 2 == 0);
	}
	ck_assert_uint_eq(spread_after(spread, 10)->id, 12);
	ck_assert_uint_eq(spread_after(spread, 11)->id, 12);
	ck_assert_ptr_null(spread_after(spread, MANY));
	ck_assert_ptr_null(spread_after(spread, UINT64_MAX));
}
END_TEST

START_TEST(an_entry_survives_the_wire)
{
	struct spread_entry entry = entry_of(1, "a"), back;
	scp_spread_entry wire;

	spread_entry_to_wire(&entry, &wire);
	ck_assert_int_eq(spread_entry_from_wire(&wire, &back), 0);
	ck_assert_uint_eq(back.id, entry.id);
	ck_assert_str_eq(back.name, entry.name);
	ck_assert_int_eq(back.is_there, entry.is_there);
	ck_assert_uint_eq(back.type, entry.type);
	ck_assert_uint_eq(back.fileid, entry.fileid);
	expect_handle(&back.handle, &entry.handle);
	wire.volume = 0;
	ck_assert_int_eq(spread_entry_from_wire(&wire, &back), -EINVAL);
}
END_TEST

/* The store */

static char directory[64], database[96];
static struct spread_store *store;

static void setup_store(void)
{
	const char *tmp = getenv("TMPDIR");

	setup();
	snprintf(directory, sizeof(directory), "%.40s/test_spread.XXXXXX", tmp ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(database, sizeof(database), "%s/spread.sqlite", directory);
	ck_assert_int_eq(spread_store_open(database, &store), 0);
}

static void teardown_store(void)
{
	char command[100];

	spread_store_close(store);
	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	ck_assert_int_eq(system(command), 0);
	teardown();
}

static uint64_t load_again(uint32_t id)
{
	uint64_t last_id;

	spread_store_close(store);
	ck_assert_int_eq(spread_store_open(database, &store), 0);
	spread_free(spread);
	spread = spread_new();
	ck_assert_int_eq(spread_store_load(store, id, spread, &last_id), 0);
	return last_id;
}

static void keep(uint32_t id, uint64_t entry_id, const char *name)
{
	struct spread_entry entry = entry_of(entry_id, name);

	ck_assert_int_eq(spread_store_put(store, id, &entry), 0);
}

START_TEST(what_is_kept_is_there_again)
{
	struct spread_entry wanted = entry_of(1, "a\xff b");
	const struct spread_entry *entry;

	keep(6, 1, wanted.name);
	keep(7, 1, "another directory's");
	ck_assert_int_eq(spread_store_changed(store, 6, 0x1112131415161718), 0);
	ck_assert_uint_eq(load_again(6), 1);
	entry = spread_by_name(spread, wanted.name);
	ck_assert_ptr_nonnull(entry);
	ck_assert_uint_eq(entry->fileid, wanted.fileid);
	ck_assert_uint_eq(entry->type, wanted.type);
	ck_assert(entry->is_there);
	expect_handle(&entry->handle, &wanted.handle);
	ck_assert_uint_eq(spread_changed_ns(spread), 0x1112131415161718);
	ck_assert_uint_eq(spread_entries(spread), 1);
}
END_TEST

/* A cookie that a client still has must not be another entry's. */
START_TEST(ids_are_not_given_out_again)
{
	keep(6, 5, "a");
	ck_assert_int_eq(spread_store_remove(store, 6, 5), 0);
	ck_assert_uint_eq(load_again(6), 5);
	ck_assert_str_eq(content(), "");
}
END_TEST

START_TEST(a_rename_replaces_the_other_name)
{
	keep(6, 1, "a");
	keep(6, 2, "b");
	keep(6, 1, "b");
	load_again(6);
	ck_assert_str_eq(content(), "1=b");
}
END_TEST

START_TEST(what_was_not_ended_has_not_happened)
{
	keep(6, 1, "a");
	ck_assert_int_eq(spread_store_begin(store), 0);
	keep(6, 2, "b");
	load_again(6);
	ck_assert_str_eq(content(), "1=a");
	ck_assert_int_eq(spread_store_begin(store), 0);
	keep(6, 2, "b");
	ck_assert_int_eq(spread_store_end(store), 0);
	ck_assert_int_eq(spread_store_forget(store, 7), 0);
	load_again(6);
	ck_assert_str_eq(content(), "1=a 2=b");
	ck_assert_int_eq(spread_store_forget(store, 6), 0);
	ck_assert_uint_eq(load_again(6), 0);
	ck_assert_str_eq(content(), "");
}
END_TEST

/* Choosing */

static const struct {
	const char *what;
	ns_spread_policy policy;
	uint32_t last;
	struct spread_candidate candidates[3];
	uint32_t chosen; /* 0: none */
} choices[] = {
	{ "the most room", NS_SPREAD_MOST_ROOM, 0, { { 1, true, 10, 100, 0 }, { 2, true, 30, 100, 9 }, { 3, true, 20, 100, 0 } }, 2 },
	{ "a room that is known", NS_SPREAD_MOST_ROOM, 0, { { 1, false, 0, 100, 0 }, { 2, true, 1, 100, 0 } }, 2 },
	{ "no room that is known", NS_SPREAD_MOST_ROOM, 0, { { 1, false, 0, 100, 0 }, { 2, false, 0, 100, 0 } }, 1 },
	{ "all are full", NS_SPREAD_MOST_ROOM, 0, { { 1, true, 0, 100, 0 }, { 2, true, 0, 100, 0 } }, 0 },
	{ "none gets new ones", NS_SPREAD_MOST_ROOM, 0, { { 1, true, 9, 0, 0 } }, 0 },
	{ "the first in turn", NS_SPREAD_ROUND_ROBIN, 0, { { 1, true, 1, 100, 0 }, { 2, true, 9, 100, 0 }, { 7, true, 9, 100, 0 } }, 1 },
	{ "the next in turn", NS_SPREAD_ROUND_ROBIN, 2, { { 1, true, 1, 100, 0 }, { 2, true, 9, 100, 0 }, { 7, true, 9, 100, 0 } }, 7 },
	{ "and round", NS_SPREAD_ROUND_ROBIN, 7, { { 1, true, 1, 100, 0 }, { 2, true, 9, 100, 0 }, { 7, true, 9, 100, 0 } }, 1 },
	{ "a turn of one that is full", NS_SPREAD_ROUND_ROBIN, 1, { { 1, true, 1, 100, 0 }, { 2, true, 0, 100, 0 }, { 7, true, 9, 100, 0 } }, 7 },
	{ "least for its weight", NS_SPREAD_WEIGHT, 0, { { 1, true, 1, 100, 10 }, { 2, true, 1, 300, 20 }, { 3, true, 1, 100, 9 } }, 2 },
	{ "an empty one of little weight", NS_SPREAD_WEIGHT, 0, { { 1, true, 1, 1000, 9 }, { 2, true, 1, 50, 0 } }, 1 },
};

START_TEST(policies_choose)
{
	const struct spread_candidate *candidates = choices[_i].candidates, *chosen;
	size_t count = 0;

	while (count < 3 && candidates[count].branch)
		count++;
	chosen = spread_choose(choices[_i].policy, candidates, count, choices[_i].last);
	ck_assert_msg((chosen ? chosen->branch : 0) == choices[_i].chosen, "%s: %u", choices[_i].what, chosen ? chosen->branch : 0);
}
END_TEST

/* Calls */

static const struct handle_key key = { "0123456789abcdef" };
static const struct handle root = { .type = HANDLE_LOCAL, .volume = BRANCH, .backend_type = 1, .backend_len = 8, .backend = "theroot" };

/* A call message: some header, then the arguments. */
static struct rpc_call call_with(uint8_t *record, size_t room, int handles, const char *tail, size_t tail_len)
{
	struct handle self = namespace_spread_handle(6);
	struct bytes_writer w = bytes_writer_init(record, room);
	struct rpc_call call = { .record = record };
	uint8_t bytes[HANDLE_MAX];

	bytes_put(&w, "header and credentials..", 24);
	for (int i = 0; i < handles; i++) {
		size_t len = handle_encode(&key, &self, bytes);

		bytes_put_be32(&w, (uint32_t)len);
		bytes_put(&w, bytes, len);
		bytes_put_be32(&w, 5);
		bytes_put(&w, i ? "other\0\0\0" : "alice\0\0\0", 8);
	}
	bytes_put(&w, tail, tail_len);
	call.record_len = w.written;
	call.args = bytes_reader_init(record + 24, w.written - 24);
	return call;
}

static void expect_bytes(struct bytes_reader *r, const void *wanted, size_t len)
{
	const uint8_t *bytes = bytes_take(r, len);

	ck_assert_ptr_nonnull(bytes);
	ck_assert_mem_eq(bytes, wanted, len);
}

static void expect_root(struct bytes_reader *r)
{
	uint8_t bytes[HANDLE_MAX];
	size_t len = handle_encode(&key, &root, bytes);

	ck_assert_uint_eq(bytes_get_be32(r), len);
	expect_bytes(r, bytes, len);
}

START_TEST(a_branch_gets_the_same_call)
{
	uint8_t record[512], *composed;
	struct rpc_call call = call_with(record, sizeof(record), 1, "attributes..", 12);
	struct spread_call own = { .kind = SPREAD_CALL_MAKE, .call = &call, .key = key };
	struct bytes_reader r;
	size_t len;

	ck_assert_int_eq(spread_call_compose(&own, &root, &composed, &len), 0);
	r = bytes_reader_init(composed, len);
	expect_bytes(&r, "header and credentials..", 24);
	expect_root(&r);
	ck_assert_uint_eq(bytes_get_be32(&r), 5);
	expect_bytes(&r, "alice\0\0\0attributes..", 20);
	ck_assert_uint_eq(r.left, 0);
	free(composed);
}
END_TEST

START_TEST(a_rename_has_two_handles)
{
	uint8_t record[512], *composed;
	struct rpc_call call = call_with(record, sizeof(record), 2, "", 0);
	struct spread_call own = { .kind = SPREAD_CALL_RENAME, .call = &call, .key = key };
	struct bytes_reader r;
	size_t len;

	ck_assert_int_eq(spread_call_compose(&own, &root, &composed, &len), 0);
	r = bytes_reader_init(composed, len);
	bytes_take(&r, 24);
	expect_root(&r);
	bytes_take(&r, 12);
	expect_root(&r);
	ck_assert_uint_eq(bytes_get_be32(&r), 5);
	expect_bytes(&r, "other\0\0\0", 8);
	ck_assert_uint_eq(r.left, 0);
	free(composed);
}
END_TEST

START_TEST(a_call_that_is_cut_off_is_refused)
{
	uint8_t record[512], *composed;
	struct rpc_call whole = call_with(record, sizeof(record), 2, "", 0);
	size_t len;

	for (size_t cut = 1; cut < whole.args.left; cut++) {
		struct rpc_call call = whole;
		struct spread_call own = { .kind = SPREAD_CALL_RENAME, .call = &call, .key = key };

		call.record_len -= cut;
		call.args.left -= cut;
		ck_assert_int_eq(spread_call_compose(&own, &root, &composed, &len), -EBADMSG);
	}
}
END_TEST

/* The reply to a MKDIR, as the engine writes it. Return: its length */
static size_t make_reply(uint8_t *reply, size_t room)
{
	struct handle made = { .type = HANDLE_LOCAL, .volume = BRANCH, .backend_type = 1, .backend_len = 8, .backend = "is made" };
	struct bytes_writer w = bytes_writer_init(reply, room);
	uint8_t bytes[HANDLE_MAX];
	size_t len = handle_encode(&key, &made, bytes);

	for (int i = 0; i < 6; i++)
		bytes_put_be32(&w, i == 0 ? 7 : i == 1); /* xid, REPLY, accepted, verifier, success */
	bytes_put_be32(&w, NFS3_OK);
	bytes_put_be32(&w, true);
	bytes_put_be32(&w, (uint32_t)len);
	bytes_put(&w, bytes, len);
	bytes_put_be32(&w, true);
	bytes_put_be32(&w, NF3DIR);
	for (int i = 0; i < 4; i++)
		bytes_put_be32(&w, 0);
	for (int i = 0; i < 3; i++)
		bytes_put_be64(&w, 0); /* size, used, device */
	bytes_put_be64(&w, 1); /* fsid */
	bytes_put_be64(&w, 0x0010000000000011);
	for (int i = 0; i < 3; i++)
		bytes_put_be64(&w, 0);
	return w.written;
}

START_TEST(what_a_branch_answers_is_read)
{
	struct spread_call own = { .kind = SPREAD_CALL_MAKE, .key = key };
	struct spread_result result;
	uint8_t reply[512];
	size_t len = make_reply(reply, sizeof(reply));

	ck_assert_int_eq(spread_call_result(&own, reply, len, &result), 0);
	ck_assert_uint_eq(result.status, NFS3_OK);
	ck_assert(result.has_made);
	ck_assert_uint_eq(result.type, S_IFDIR);
	ck_assert_uint_eq(result.fileid, 0x0010000000000011);
	ck_assert_uint_eq(result.handle.volume, BRANCH);
	ck_assert_mem_eq(result.handle.backend, "is made", 8);
	ck_assert_uint_eq(result.results_len, len - 28);
}
END_TEST

START_TEST(an_answer_that_is_cut_off_is_none)
{
	struct spread_call own = { .kind = SPREAD_CALL_MAKE, .key = key };
	struct spread_result result;
	uint8_t reply[512];
	size_t len = make_reply(reply, sizeof(reply));

	for (size_t cut = 0; cut < len; cut++) {
		uint8_t *exact = malloc(cut + 1); /* so that reading too far is seen */

		memcpy(exact, reply, cut);
		ck_assert_int_eq(spread_call_result(&own, exact, cut, &result), -EBADMSG);
		free(exact);
	}
}
END_TEST

/* Nobody else's file is taken for what was made. */
START_TEST(a_handle_that_is_none_is_not_believed)
{
	struct spread_call own = { .kind = SPREAD_CALL_MAKE, .key = key };
	struct spread_result result;
	uint8_t reply[512];
	size_t len = make_reply(reply, sizeof(reply));

	reply[28 + 8 + 4 + 3]++; /* its volume */
	ck_assert_int_eq(spread_call_result(&own, reply, len, &result), -EBADMSG);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("spread");
	TCase *index = tcase_create("index"), *kept = tcase_create("store"), *calls = tcase_create("calls");

	tcase_add_checked_fixture(index, setup, teardown);
	tcase_add_test(index, a_name_and_an_id_are_there_once);
	tcase_add_test(index, an_entry_can_be_put_back);
	tcase_add_loop_test(index, what_is_no_name_is_refused, 0, (int)(sizeof(bad_names) / sizeof(bad_names[0])));
	tcase_add_test(index, many_are_found_and_counted);
	tcase_add_test(index, an_entry_survives_the_wire);
	suite_add_tcase(s, index);
	tcase_add_checked_fixture(kept, setup_store, teardown_store);
	tcase_add_test(kept, what_is_kept_is_there_again);
	tcase_add_test(kept, ids_are_not_given_out_again);
	tcase_add_test(kept, a_rename_replaces_the_other_name);
	tcase_add_test(kept, what_was_not_ended_has_not_happened);
	suite_add_tcase(s, kept);
	tcase_add_loop_test(calls, policies_choose, 0, (int)(sizeof(choices) / sizeof(choices[0])));
	tcase_add_test(calls, a_branch_gets_the_same_call);
	tcase_add_test(calls, a_rename_has_two_handles);
	tcase_add_test(calls, a_call_that_is_cut_off_is_refused);
	tcase_add_test(calls, what_a_branch_answers_is_read);
	tcase_add_test(calls, an_answer_that_is_cut_off_is_none);
	tcase_add_test(calls, a_handle_that_is_none_is_not_believed);
	suite_add_tcase(s, calls);
	return s;
}

int main(void)
{
	SRunner *runner = srunner_create(suite());
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
