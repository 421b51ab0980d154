/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, an administrator gets no answer, the answer to another question, or stops vnasd with a malformed one.
 *
 * The server runs in the event loop of the test; clients are plain sockets beside it.
 */
#include "config.h"

#include "common/admin.h"
#include "common/admin_commands.h"
#include "common/log.h"
#include "tests/unit/golden_hex.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <grp.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct event_base *base;
static struct admin *admin;
static char folder[] = "/tmp/test_admin.XXXXXX";
static char path[sizeof(folder) + 16];

/* What the handlers saw and hold. */
static struct admin_request *held[8];
static int held_count;
static int served;

static void serve_done(struct admin_request *request, int argc, char **argv, void *arg)
{
	ck_assert_ptr_eq(arg, &served);
	served++;
	admin_done(request, "%d arguments, first=%s last=%s", argc, argc ? argv[0] : "", argc ? argv[argc - 1] : "");
}

static void serve_error(struct admin_request *request, int argc, char **argv, void *arg)
{
	(void)argc, (void)argv, (void)arg;
	admin_error(request, "disk %s is \"full\"", "a\xff");
}

static void serve_table(struct admin_request *request, int argc, char **argv, void *arg)
{
	json_t *table = admin_table("id:Number used_bytes:Used_of_disk");

	(void)argc, (void)argv, (void)arg;
	admin_row(table, json_pack("{s:i, s:I}", "id", 1, "used_bytes", (json_int_t)1 << 40));
	admin_row(table, json_pack("{s:s}", "id", "\xff"));
	admin_row(table, json_pack("{s:i, s:n}", "id", 2, "used_bytes"));
	admin_answer(request, table);
}

static void serve_record(struct admin_request *request, int argc, char **argv, void *arg)
{
	(void)argc, (void)argv, (void)arg;
	admin_record(request, json_pack("{s:s}", "name", "a"));
}

static void serve_later(struct admin_request *request, int argc, char **argv, void *arg)
{
	(void)argc, (void)argv, (void)arg;
	held[held_count++] = request;
}

static void serve_large(struct admin_request *request, int argc, char **argv, void *arg)
{
	json_t *table = admin_table("text:Text");

	(void)argc, (void)argv, (void)arg;
	for (int i = 0; i < 10000; i++)
		admin_row(table, json_pack("{s:s+}", "text", "0123456789012345678901234567890123456789",
					   "0123456789012345678901234567890123456789"));
	admin_answer(request, table);
}

/* An answer that goes on: numbers up to `stream_end`, each a row with much text, as the reader takes them. */
struct numbers {
	int at;
};
static int stream_end, streams_ended;

static json_t *next_number(void *state)
{
	struct numbers *numbers = state;
	char text[2000];

	if (numbers->at == stream_end)
		return NULL;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	return json_pack("{s:[{s:i, s:s}]}", "rows", "number", numbers->at++, "text", text);
}

static void end_numbers(void *state)
{
	free(state);
	streams_ended++;
}

static void serve_stream(struct admin_request *request, int argc, char **argv, void *arg)
{
	static const struct admin_source source = { .next = next_number, .end = end_numbers };

	(void)argc, (void)argv, (void)arg;
	admin_stream(request, admin_table("number:Number"), &source, calloc(1, sizeof(struct numbers)));
}

static const struct admin_handler handlers[] = {
	{ "volume add", serve_done },	{ "export set", serve_done }, { "cluster token", serve_done },
	{ "node list", serve_error },	{ "volume list", serve_table }, { "status", serve_record },
	{ "session list", serve_later }, { "node drain", serve_later }, { "user passwd", serve_done }, { "node approve", serve_error },
	{ "counters", serve_large },   { "log", serve_stream },
	{ NULL, NULL },
};

static void start(void)
{
	strcpy(folder, "/tmp/test_admin.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	sprintf(path, "%s/sock", folder);
	log_open(LOG_LEVEL_ERR);
	signal(SIGPIPE, SIG_IGN);
	base = event_base_new();
	ck_assert_int_eq(admin_new(base, path, handlers, &served, &admin), 0);
}

static void stop(void)
{
	admin_free(admin);
	event_base_free(base);
	ck_assert_int_eq(rmdir(folder), 0);
}

/* Let the server do what it can. */
static void turn(void)
{
	for (int i = 0; i < 20; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

static int try_connect(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

static int connected(void)
{
	int fd = try_connect();

	ck_assert_int_ge(fd, 0);
	return fd;
}

static void send_bytes(int fd, const void *bytes, size_t len)
{
	ck_assert_int_eq(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void send_message(int fd, const char *text)
{
	uint32_t len = htonl((uint32_t)strlen(text));

	send_bytes(fd, &len, sizeof(len));
	send_bytes(fd, text, strlen(text));
}

/* The answer; NULL: nothing has come. Closes @fd after an answer, having seen that the server does. */
static const char *received(int fd)
{
	static char text[2 << 20];
	size_t len = 0;
	ssize_t n;

	for (int i = 0; i < 1000; i++, turn())
		while ((n = recv(fd, text + len, sizeof(text) - 1 - len, 0)) > 0)
			len += (size_t)n;
	if (len == 0 && n < 0 && errno == EAGAIN)
		return NULL;
	ck_assert_uint_ge(len, 4);
	ck_assert_uint_eq(ntohl(*(uint32_t *)text), len - 4);
	ck_assert(n == 0 || (n < 0 && errno == ECONNRESET));
	close(fd);
	text[len] = '\0';
	return text + 4;
}

static const char *asked(const char *text)
{
	int fd = connected();

	send_message(fd, text);
	return received(fd);
}

#define NOT_A_REQUEST "{\"error\":\"this is not a request; it is {\\\"command\\\": [\\\"WORD\\\", ...]}\"}"

static const struct {
	const char *request, *answer;
} answers[] = {
	{ "{\"command\": [\"status\"]}", "{\"record\":{\"name\":\"a\"}}" },
	{ "{\"command\": [\"volume\", \"list\"]}",
	  "{\"columns\":[{\"name\":\"id\",\"title\":\"Number\"},{\"name\":\"used_bytes\",\"title\":\"Used of disk\"}],"
	  "\"rows\":[{\"id\":1,\"used_bytes\":1099511627776},{\"id\":2,\"used_bytes\":null}]}" },
	{ "{\"command\": [\"node\", \"list\"]}", "{\"error\":\"disk a? is \\\"full\\\"\"}" },
	{ "{\"command\": [\"volume\", \"add\", \"n\", \"/d\"]}", "{\"done\":\"2 arguments, first=n last=/d\"}" },
	{ "{\"command\": [\"volume\", \"add\", \"n\", \"/d\", \"/p\"]}", "{\"done\":\"3 arguments, first=n last=/p\"}" },
	{ "{\"command\": [\"volume\", \"add\", \"n\"]}", "{\"error\":\"usage: nasctl volume add NODE DIR [PLACE]\"}" },
	{ "{\"command\": [\"volume\", \"add\", \"n\", \"/d\", \"/p\", \"/q\"]}",
	  "{\"error\":\"usage: nasctl volume add NODE DIR [PLACE]\"}" },
	{ "{\"command\": [\"stop\"]}", "{\"error\":\"stop: not on this kind of device\"}" },
	{ "{\"command\": [\"volume\"]}", "{\"error\":\"this vnasd has no command \\\"volume\\\"; see `nasctl help`\"}" },
	{ "{\"command\": [\"\", \"\"]}", "{\"error\":\"this vnasd has no command \\\" \\\"; see `nasctl help`\"}" },
	{ "{\"command\": [\"volume list\"]}",
	  "{\"error\":\"this vnasd has no command \\\"volume list\\\"; see `nasctl help`\"}" },
	{ "{\"command\": []}", NOT_A_REQUEST },
	{ "{\"command\": \"status\"}", NOT_A_REQUEST },
	{ "{\"command\": [1]}", NOT_A_REQUEST },
	{ "{\"command\": [\"status\", null]}", NOT_A_REQUEST },
	{ "{\"command\": [\"stat\\u0000us\"]}", NOT_A_REQUEST },
	{ "{}", NOT_A_REQUEST },
	{ "[]", NOT_A_REQUEST },
	{ "", NOT_A_REQUEST },
	{ "{\"command\": [\"status\"]", NOT_A_REQUEST },
	{ "{\"command\": [\"status\"]} {}", NOT_A_REQUEST },
	{ "{\"command\": [\"status\"], \"command\": [\"stop\"]}", NOT_A_REQUEST },
	{ "{\"command\": [\"\xff\"]}", NOT_A_REQUEST },
};

START_TEST(request_is_answered)
{
	ck_assert_str_eq(asked(answers[_i].request), answers[_i].answer);
}
END_TEST

/* tests/unit/test_nasctl.c makes the request and reads the answer. */
START_TEST(messages_are_golden)
{
	uint8_t request[GOLDEN_HEX_MAX];
	size_t len = golden_hex_read("admin_request", request);
	int fd = connected();
	const char *text;

	send_bytes(fd, request, len);
	text = received(fd);
	ck_assert_str_eq(text, "{\"done\":\"2 arguments, first=disk7 last=/srv/a\"}");
	golden_hex_check("admin_answer", (const uint8_t *)text - ADMIN_HEADER_BYTES, ADMIN_HEADER_BYTES + strlen(text));
}
END_TEST

START_TEST(request_comes_in_pieces)
{
	static const char request[] = "\0\0\0\x17{\"command\": [\"status\"]}";
	int fd = connected();

	for (size_t i = 0; i < sizeof(request) - 1; i++) {
		turn();
		send_bytes(fd, request + i, 1);
	}
	ck_assert_str_eq(received(fd), "{\"record\":{\"name\":\"a\"}}");
}
END_TEST

START_TEST(second_request_is_not_looked_at)
{
	int fd = connected();

	send_message(fd, "{\"command\": [\"session\", \"list\"]}");
	send_message(fd, "{\"command\": [\"session\", \"list\"]}");
	turn();
	send_message(fd, "{\"command\": [\"session\", \"list\"]}");
	turn();
	ck_assert_int_eq(held_count, 1);
	admin_done(held[0], "once");
	ck_assert_str_eq(received(fd), "{\"done\":\"once\"}");
}
END_TEST

static const struct {
	const char *bytes;
	size_t len;
} hostile[] = {
	{ "\0\x40\0\1", 4 }, { "\xff\xff\xff\xff", 4 }, { "GET / HTTP/1.1\r\n\r\n", 18 },
};

START_TEST(too_long_is_refused)
{
	int fd = connected();

	send_bytes(fd, hostile[_i].bytes, hostile[_i].len);
	ck_assert_str_eq(received(fd), "{\"error\":\"a request has at most 4194304 bytes\"}");
}
END_TEST

/* Arrays in arrays, and as many words as fit. */
START_TEST(odd_json_is_refused)
{
	enum { DEEP = 65536 };
	char *text = malloc(DEEP + 1);

	memset(text, '[', DEEP);
	text[DEEP] = '\0';
	ck_assert_str_eq(asked(text), NOT_A_REQUEST);
	strcpy(text, "{\"command\": [\"export\", \"set\", \"/\"");
	for (int i = 0; i < 1021; i++)
		strcat(text, ",\"1\"");
	strcat(text, "]}");
	ck_assert_str_eq(asked(text), "{\"done\":\"1022 arguments, first=/ last=1\"}");
	strcpy(text + strlen(text) - 2, ",\"1\"]}");
	ck_assert_str_eq(asked(text), NOT_A_REQUEST);
	free(text);
}
END_TEST

START_TEST(answers_find_their_requests)
{
	int fds[3];

	for (int i = 0; i < 3; i++) {
		fds[i] = connected();
		send_message(fds[i], "{\"command\": [\"session\", \"list\"]}");
		turn();
	}
	ck_assert_int_eq(held_count, 3);
	ck_assert_str_eq(asked("{\"command\": [\"status\"]}"), "{\"record\":{\"name\":\"a\"}}");
	ck_assert_ptr_null(received(fds[0]));
	admin_done(held[2], "c");
	admin_done(held[0], "a");
	ck_assert_str_eq(received(fds[0]), "{\"done\":\"a\"}");
	ck_assert_ptr_null(received(fds[1]));
	ck_assert_str_eq(received(fds[2]), "{\"done\":\"c\"}");
	admin_error(held[1], "b");
	ck_assert_str_eq(received(fds[1]), "{\"error\":\"b\"}");
}
END_TEST

/* Messages that have come, added to @bytes. */
struct stream {
	int fd;
	size_t len;
	uint8_t bytes[1 << 16];
};

/* The next message, the caller's; NULL: none has come within some turns of the loop */
static json_t *next_message(struct stream *stream)
{
	for (int i = 0; i < 100; i++, turn()) {
		ssize_t n = recv(stream->fd, stream->bytes + stream->len, sizeof(stream->bytes) - stream->len, 0);
		size_t len = 0;

		if (n > 0)
			stream->len += (size_t)n;
		if (stream->len >= 4)
			len = 4 + (size_t)(stream->bytes[2] << 8 | stream->bytes[3]);
		if (len && stream->len >= len) {
			json_t *message = json_loadb((char *)stream->bytes + 4, len - 4, 0, NULL);

			stream->len -= len;
			memmove(stream->bytes, stream->bytes + len, stream->len);
			return message;
		}
	}
	return NULL;
}

static int number_of(json_t *message)
{
	int number = (int)json_integer_value(json_object_get(json_array_get(json_object_get(message, "rows"), 0), "number"));

	ck_assert_ptr_nonnull(message);
	json_decref(message);
	return number;
}

static struct stream follow(void)
{
	struct stream stream = { .fd = connected() };
	json_t *first;

	send_message(stream.fd, "{\"command\": [\"log\", \"-f\"]}");
	first = next_message(&stream);
	ck_assert(json_is_true(json_object_get(first, "follows")));
	ck_assert_uint_eq(json_array_size(json_object_get(first, "columns")), 1);
	json_decref(first);
	return stream;
}

START_TEST(answer_goes_on)
{
	static struct stream stream;

	stream_end = 3;
	stream = follow();
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(number_of(next_message(&stream)), i);
	ck_assert_ptr_null(next_message(&stream));
	stream_end = 4; /* nobody tells the server: it looks */
	for (int i = 0; i < 100 && stream.len == 0; i++) {
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
		stream.len = recv(stream.fd, stream.bytes, 1, MSG_PEEK) > 0;
	}
	stream.len = 0;
	ck_assert_int_eq(number_of(next_message(&stream)), 3);
	ck_assert_int_eq(streams_ended, 0);
	close(stream.fd);
	turn();
	ck_assert_int_eq(streams_ended, 1);
}
END_TEST

/* What is not read is not made: no queue grows, others are served, and he who reads again finds it all. */
START_TEST(slow_reader_costs_one_message)
{
	static struct stream stream;
	size_t before, after;

	stream_end = 1000000;
	stream = follow();
	for (int i = 0; i < 200; i++)
		turn();
	before = mallinfo2().uordblks;
	for (int i = 0; i < 200; i++)
		turn();
	after = mallinfo2().uordblks;
	ck_assert_uint_le(after, before + 4096);
	ck_assert_str_eq(asked("{\"command\": [\"status\"]}"), "{\"record\":{\"name\":\"a\"}}");
	for (int i = 0; i < 1000; i++)
		ck_assert_int_eq(number_of(next_message(&stream)), i);
	close(stream.fd);
	turn();
	ck_assert_int_eq(streams_ended, 1);
}
END_TEST

START_TEST(streams_leave_room_for_commands)
{
	static struct stream streams[ADMIN_STREAMS_MAX];

	for (int i = 0; i < ADMIN_STREAMS_MAX; i++)
		streams[i] = follow();
	ck_assert_str_eq(asked("{\"command\": [\"log\", \"-f\"]}"),
			 "{\"error\":\"vnasd is followed by 16 others already; end one of them\"}");
	ck_assert_int_eq(streams_ended, 1);
	ck_assert_str_eq(asked("{\"command\": [\"status\"]}"), "{\"record\":{\"name\":\"a\"}}");
	close(streams[0].fd);
	turn();
	streams[0] = follow();
	for (int i = 0; i < ADMIN_STREAMS_MAX; i++)
		close(streams[i].fd);
	turn();
	ck_assert_int_eq(streams_ended, 2 + ADMIN_STREAMS_MAX);
}
END_TEST

START_TEST(streams_end_with_the_admin)
{
	struct stream stream = follow();

	admin_free(admin);
	admin = NULL;
	ck_assert_int_eq(streams_ended, 1);
	close(stream.fd);
}
END_TEST

/* A disk whose directory has an old Latin-1 name must not be missing in the list of volumes. */
START_TEST(text_of_others_is_shown)
{
	static const struct {
		const char *text, *shown;
	} cases[] = {
		{ "plain", "plain" }, { "caf\xc3\xa9", "caf\xc3\xa9" }, { "caf\xe9", "caf?" }, { "", "" },
		{ "cut \xc3", "cut ?" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *text = admin_text(cases[i].text);

		ck_assert_str_eq(json_string_value(text), cases[i].shown);
		json_decref(text);
	}
}
END_TEST

START_TEST(client_goes_before_the_answer)
{
	int fd = connected();

	send_message(fd, "{\"command\": [\"session\", \"list\"]}");
	turn();
	close(fd);
	turn();
	admin_done(held[0], "for nobody");
	fd = connected();
	send_message(fd, "{\"command\": [\"counters\"]}");
	close(fd);
	turn();
	fd = connected();
	send_bytes(fd, "\0\0", 2);
	close(fd);
	turn();
	ck_assert_str_eq(asked("{\"command\": [\"status\"]}"), "{\"record\":{\"name\":\"a\"}}");
}
END_TEST

START_TEST(admin_goes_before_the_answer)
{
	int fd = connected();
	char byte;

	send_message(fd, "{\"command\": [\"session\", \"list\"]}");
	turn();
	admin_free(admin);
	admin = NULL;
	turn();
	ck_assert_int_eq(recv(fd, &byte, 1, 0), 0);
	close(fd);
	admin_answer(held[0], admin_table("a:A"));
}
END_TEST

START_TEST(large_answer_arrives)
{
	json_t *answer = json_loads(asked("{\"command\": [\"counters\"]}"), 0, NULL);

	ck_assert_ptr_nonnull(answer);
	ck_assert_uint_eq(json_array_size(json_object_get(answer, "rows")), 10000);
	json_decref(answer);
}
END_TEST

START_TEST(clients_have_a_limit)
{
	int fds[ADMIN_CLIENTS_MAX + 1];

	for (int i = 0; i <= ADMIN_CLIENTS_MAX; i++) {
		fds[i] = connected();
		turn();
	}
	ck_assert_str_eq(received(fds[ADMIN_CLIENTS_MAX]),
			 "{\"error\":\"vnasd has 64 commands in hand; try again later\"}");
	for (int i = 0; i < ADMIN_CLIENTS_MAX; i++)
		close(fds[i]);
	turn();
	ck_assert_str_eq(asked("{\"command\": [\"status\"]}"), "{\"record\":{\"name\":\"a\"}}");
}
END_TEST

START_TEST(socket_is_for_the_group)
{
	const struct group *group = getgrnam("vnas");
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0660);
	if (group && geteuid() == 0)
		ck_assert_uint_eq(st.st_gid, group->gr_gid);
}
END_TEST

START_TEST(live_socket_is_left_alone)
{
	struct admin *second = NULL;

	ck_assert_int_eq(admin_new(base, path, handlers, &served, &second), -EADDRINUSE);
	ck_assert_ptr_null(second);
	turn();
	ck_assert_str_eq(asked("{\"command\": [\"status\"]}"), "{\"record\":{\"name\":\"a\"}}");
}
END_TEST

START_TEST(stale_socket_is_replaced)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct admin *second = NULL;

	sprintf(address.sun_path, "%s.stale", path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	ck_assert_int_eq(admin_new(base, address.sun_path, handlers, &served, &second), 0);
	admin_free(second);
	ck_assert_int_lt(access(address.sun_path, F_OK), 0);
}
END_TEST

/* What was told last, and how often. */
static char told[512];
static int told_count;

static void note_deed(const struct admin_deed *deed, void *arg)
{
	ck_assert_ptr_eq(arg, &told_count);
	ck_assert_uint_eq(deed->uid, getuid());
	told_count++;
	snprintf(told, sizeof(told), "%s %s: %s", deed->is_done ? "done" : "failed", deed->command, deed->outcome);
}

/* Who changed what is told once, in the words he used, but for passwords; who only looks is not. */
START_TEST(deeds_are_told)
{
	static const struct {
		const char *request, *told;
	} cases[] = {
		{ "{\"command\": [\"status\"]}", NULL },
		{ "{\"command\": [\"volume\", \"list\"]}", NULL },
		{ "{\"command\": [\"volume\", \"add\", \"n\", \"/d\"]}", "done volume add n /d: 2 arguments, first=n last=/d" },
		{ "{\"command\": [\"node\", \"approve\", \"n\"]}", "failed node approve n: disk a? is \"full\"" },
		{ "{\"command\": [\"user\", \"passwd\", \"u\", \"$y$\"]}", "done user passwd: 2 arguments, first=u last=$y$" },
		{ "{\"command\": [\"volume\", \"add\", \"n\"]}", NULL }, /* it was not run */
	};

	admin_watch(admin, note_deed, &told_count);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		told_count = 0;
		asked(cases[i].request);
		ck_assert_int_eq(told_count, cases[i].told != NULL);
		if (cases[i].told)
			ck_assert_str_eq(told, cases[i].told);
	}
}
END_TEST

START_TEST(deed_is_told_when_its_doer_has_gone)
{
	int fd = connected();

	admin_watch(admin, note_deed, &told_count);
	send_message(fd, "{\"command\": [\"node\", \"drain\", \"disk1\"]}");
	turn();
	close(fd);
	turn();
	ck_assert_int_eq(told_count, 0);
	admin_done(held[0], "drained");
	ck_assert_str_eq(told, "done node drain disk1: drained");
	ck_assert_int_eq(told_count, 1);
}
END_TEST

START_TEST(wrong_places_are_refused)
{
	static const struct admin_handler misspelled[] = { { "volumes list", serve_table }, { NULL, NULL } };
	char name[256], too_long[200];
	struct admin *second = NULL;

	snprintf(name, sizeof(name), "%s.file", path);
	close(open(name, O_CREAT | O_WRONLY, 0600));
	ck_assert_int_eq(admin_new(base, name, handlers, NULL, &second), -EEXIST);
	ck_assert_int_eq(unlink(name), 0);
	ck_assert_int_eq(admin_new(base, "/nowhere/sock", handlers, NULL, &second), -ENOENT);
	memset(too_long, 'x', sizeof(too_long) - 1);
	too_long[sizeof(too_long) - 1] = '\0';
	ck_assert_int_eq(admin_new(base, too_long, handlers, NULL, &second), -ENAMETOOLONG);
	ck_assert_int_eq(admin_new(base, name, misspelled, NULL, &second), -EINVAL);
	ck_assert_ptr_null(second);
}
END_TEST

static const struct {
	const char *arguments;
	int argc;
	bool is_taken;
} counts[] = {
	{ "", 0, true },	  { "", 1, false },	   { "NODE", 0, false },
	{ "NODE", 1, true },	  { "NODE", 2, false },	   { "NODE DIR [PLACE]", 1, false },
	{ "NODE DIR [PLACE]", 2, true }, { "NODE DIR [PLACE]", 3, true }, { "NODE DIR [PLACE]", 4, false },
	{ "PATH CLIENTS...", 1, false }, { "PATH CLIENTS...", 2, true },  { "PATH CLIENTS...", 200, true },
	{ "[-n LINES]", 0, true }, { "[-n LINES]", 2, true }, { "[-n LINES]", 3, false },
	{ "[--pending] [--lifetime MINUTES]", 3, true }, { "[--pending] [--lifetime MINUTES]", 4, false },
};

START_TEST(arguments_are_counted)
{
	struct admin_command command = { "x", counts[_i].arguments, "", ADMIN_QUIET };

	ck_assert_int_eq(admin_command_takes(&command, counts[_i].argc), counts[_i].is_taken);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("admin");
	TCase *tcase = tcase_create("admin");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_checked_fixture(tcase, start, stop);
	tcase_add_loop_test(tcase, request_is_answered, 0, sizeof(answers) / sizeof(answers[0]));
	tcase_add_test(tcase, messages_are_golden);
	tcase_add_test(tcase, request_comes_in_pieces);
	tcase_add_test(tcase, second_request_is_not_looked_at);
	tcase_add_loop_test(tcase, too_long_is_refused, 0, sizeof(hostile) / sizeof(hostile[0]));
	tcase_add_test(tcase, odd_json_is_refused);
	tcase_add_test(tcase, answers_find_their_requests);
	tcase_add_test(tcase, client_goes_before_the_answer);
	tcase_add_test(tcase, answer_goes_on);
	tcase_add_test(tcase, slow_reader_costs_one_message);
	tcase_add_test(tcase, streams_leave_room_for_commands);
	tcase_add_test(tcase, streams_end_with_the_admin);
	tcase_add_test(tcase, deeds_are_told);
	tcase_add_test(tcase, deed_is_told_when_its_doer_has_gone);
	tcase_add_test(tcase, text_of_others_is_shown);
	tcase_add_test(tcase, admin_goes_before_the_answer);
	tcase_add_test(tcase, large_answer_arrives);
	tcase_add_test(tcase, clients_have_a_limit);
	tcase_add_test(tcase, socket_is_for_the_group);
	tcase_add_test(tcase, live_socket_is_left_alone);
	tcase_add_test(tcase, stale_socket_is_replaced);
	tcase_add_test(tcase, wrong_places_are_refused);
	tcase_add_loop_test(tcase, arguments_are_counted, 0, sizeof(counts) / sizeof(counts[0]));
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
