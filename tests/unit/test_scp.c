/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, devices lose each other, a stranger gets in, or an administrator looks at a cluster that does not form
 * and a log that does not say why.
 *
 * Devices are several struct scp in one loop, over the loopback interface. A peer that behaves as no device of ours
 * does is a script in a thread with blocking calls.
 */
#include "config.h"

#include "scp/scp.h"

#include "common/certificates.h"
#include "common/log.h"
#include "scp/log_once.h"
#include "scp/scp_enrol.h"
#include "scp/scp_message.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <ftw.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MS = 8000, HISTORY = 256, RECORD_BYTES = 1024 * 1024 };

static const uint8_t cluster[16] = "cluster number 1", other_cluster[16] = "cluster number 2";
static char top[64];
static struct event_base *base;
static struct event *ticker;

/* A device, and what its role was told. */
struct device {
	char pki[96];
	uint32_t node;
	SSL_CTX *tls;
	struct scp *scp;
	struct scp_handlers handlers;
	char history[HISTORY]; /* U and D per up and down on the control channel, u and d on the relay channel */
	char down_reason[512];
	char peer_software[64];
	const char *refuse; /* may_join() says this */
	uint64_t first_good; /* may_show() refuses certificates of lower numbers */
	bool disconnect_on_message;
	bool echo;
	unsigned int messages, beats;
	struct {
		scp_type type;
		uint32_t node, request;
		scp_channel channel;
		size_t record_len;
		uint64_t record_sum;
	} last; /* message that was no heartbeat */
	uint32_t beat_ms, silence_ms, hello_ms;
};

static struct device master, slave, foreign;

/*
 * The role
 */

static void fill_hello(scp_hello *hello, void *arg)
{
	static char software[] = "vnas of the test";

	(void)arg;
	hello->software = software;
	hello->revision = 77;
}

static int may_join(uint32_t node, const scp_hello *hello, char *reason, size_t size, void *arg)
{
	struct device *device = arg;

	ck_assert_uint_eq(hello->node, node);
	if (!device->refuse)
		return 0;
	snprintf(reason, size, "%s", device->refuse);
	return -EACCES;
}

static void note(struct device *device, char what)
{
	size_t len = strlen(device->history);

	ck_assert_uint_lt(len + 1, HISTORY);
	device->history[len] = what;
}

static int may_show(const struct certificates_facts *certificate, char *reason, size_t size, void *arg)
{
	const struct device *device = arg;

	if (certificate->number >= device->first_good)
		return 0;
	snprintf(reason, size, "certificate %s was revoked", certificate->serial);
	return -EKEYREVOKED;
}

static void on_up(uint32_t node, scp_channel channel, const scp_hello *hello, void *arg)
{
	struct device *device = arg;

	ck_assert(scp_is_up(device->scp, node, channel));
	ck_assert_uint_eq(hello->revision, 77);
	snprintf(device->peer_software, sizeof(device->peer_software), "%s", hello->software);
	note(device, channel == SCP_CONTROL ? 'U' : 'u');
}

static void on_down(uint32_t node, scp_channel channel, const char *reason, void *arg)
{
	struct device *device = arg;

	(void)node;
	snprintf(device->down_reason, sizeof(device->down_reason), "%s", reason);
	note(device, channel == SCP_CONTROL ? 'D' : 'd');
}

static uint64_t sum(const char *bytes, size_t len)
{
	uint64_t s = 0;

	for (size_t i = 0; i < len; i++)
		s = s * 31 + (uint8_t)bytes[i];
	return s;
}

static void note_record(struct device *device, const char *bytes, size_t len)
{
	device->last.record_len = len;
	device->last.record_sum = sum(bytes, len);
}

static void on_message(uint32_t node, scp_channel channel, uint32_t request, const scp_message *message, void *arg)
{
	struct device *device = arg;

	if (message->type == SCP_HEARTBEAT) {
		device->beats++;
		return;
	}
	device->messages++;
	device->last.type = message->type;
	device->last.node = node;
	device->last.request = request;
	device->last.channel = channel;
	if (message->type == SCP_RELAY_CALL)
		note_record(device, message->scp_message_u.relay_call.record.record_val,
			    message->scp_message_u.relay_call.record.record_len);
	if (message->type == SCP_SNAPSHOT)
		note_record(device, message->scp_message_u.snapshot.snapshot.snapshot_val,
			    message->scp_message_u.snapshot.snapshot.snapshot_len);
	if (device->echo)
		ck_assert_int_eq(scp_send(device->scp, node, channel, request, message), 0);
	if (device->disconnect_on_message)
		scp_disconnect(device->scp, node, "seen enough");
}

static void fill_heartbeat(scp_heartbeat *heartbeat, void *arg)
{
	(void)arg;
	heartbeat->cpu_permille = 5;
}

static int sign(const char *pki, const char *request, uint32_t node, char *certificate)
{
	static uint64_t number;
	const struct certificates_terms terms = { .node = node, .number = ++number, .life_s = 3600 };

	return certificates_sign(pki, request, cluster, &terms, certificate);
}

static void on_enrol(const scp_message *question, const char *address, scp_enrol_reply *reply, void *arg)
{
	const scp_enrol *enrol = &question->scp_message_u.enrol;
	struct device *device = arg;
	char pem[CERTIFICATES_PEM_MAX];

	ck_assert_str_eq(address, "127.0.0.1");
	if (question->type == SCP_APPLY) {
		reply->result = EAGAIN;
		reply->reason = strdup(question->scp_message_u.apply.vendor_class);
		return;
	}
	if (strcmp(enrol->token, "GOOD-TOKEN") != 0) {
		reply->result = EACCES;
		reply->reason = strdup("the token has expired");
		return;
	}
	reply->node = 3;
	reply->result = -sign(device->pki, enrol->request, reply->node, pem);
	reply->certificate = strdup(pem);
	ck_assert_int_eq(certificates_authority(device->pki, pem), 0);
	reply->authority = strdup(pem);
}

/*
 * Devices
 */

static void device_start(struct device *device, uint16_t port)
{
	struct scp_options options = {
		.base = base,
		.tls = device->tls,
		.self = device->node,
		.listen_address = "127.0.0.1",
		.listen_port = port,
		.beat_ms = device->beat_ms ? device->beat_ms : 50,
		.silence_ms = device->silence_ms,
		.hello_ms = device->hello_ms,
		.handlers = &device->handlers,
		.arg = device,
	};

	memcpy(options.cluster, device == &foreign ? other_cluster : cluster, 16);
	ck_assert_int_eq(scp_new(&options, &device->scp), 0);
}

static void device_stop(struct device *device)
{
	scp_free(device->scp);
	device->scp = NULL;
}

static void device_init(struct device *device, const char *name, uint32_t node)
{
	*device = (struct device){ .node = node };
	device->handlers = (struct scp_handlers){
		.fill_hello = fill_hello,
		.may_join = may_join,
		.may_show = may_show,
		.on_up = on_up,
		.on_down = on_down,
		.on_message = on_message,
		.on_enrol = node == 1 ? on_enrol : NULL,
		.fill_heartbeat = fill_heartbeat,
	};
	snprintf(device->pki, sizeof(device->pki), "%s/%s", top, name);
}

static void enrol(struct device *device)
{
	char request[CERTIFICATES_PEM_MAX], certificate[CERTIFICATES_PEM_MAX], authority[CERTIFICATES_PEM_MAX];

	ck_assert_int_eq(certificates_request(device->pki, request), 0);
	ck_assert_int_eq(sign(master.pki, request, device->node, certificate), 0);
	ck_assert_int_eq(certificates_authority(master.pki, authority), 0);
	ck_assert_int_eq(certificates_install(device->pki, certificate, authority), 0);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

static void setup(void)
{
	static const struct timeval tick = { .tv_usec = 5000 };

	log_open(LOG_LEVEL_INFO);
	snprintf(top, sizeof(top), "/tmp/vnas-scp-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(top));
	device_init(&master, "master", 1);
	device_init(&slave, "slave", 2);
	device_init(&foreign, "foreign", 1);
	ck_assert_int_eq(certificates_init(master.pki, cluster, 36000, 3600), 0);
	ck_assert_int_eq(certificates_init(foreign.pki, other_cluster, 36000, 3600), 0);
	enrol(&slave);
	ck_assert_int_eq(certificates_tls(master.pki, &master.tls), 0);
	ck_assert_int_eq(certificates_tls(slave.pki, &slave.tls), 0);
	ck_assert_int_eq(certificates_tls(foreign.pki, &foreign.tls), 0);
	base = event_base_new();
	ticker = event_new(base, -1, EV_PERSIST, on_tick, NULL);
	event_add(ticker, &tick);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void teardown(void)
{
	struct device *const devices[] = { &slave, &master, &foreign };

	for (size_t i = 0; i < 3; i++) {
		device_stop(devices[i]);
		SSL_CTX_free(devices[i]->tls);
	}
	event_free(ticker);
	event_base_free(base);
	nftw(top, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

#define RUN_UNTIL(condition)                                                                     \
	do {                                                                                     \
		uint64_t until = now_ms() + WAIT_MS;                                             \
		while (!(condition) && now_ms() < until)                                         \
			event_base_loop(base, EVLOOP_ONCE);                                      \
		ck_assert_msg(condition, "never: %s; master %s, slave %s", #condition,           \
			      master.history, slave.history);                                    \
	} while (0)

static void run_for(uint64_t ms)
{
	uint64_t until = now_ms() + ms;

	while (now_ms() < until)
		event_base_loop(base, EVLOOP_ONCE);
}

static bool both_up(void)
{
	return scp_is_up(master.scp, 2, SCP_CONTROL) && scp_is_up(master.scp, 2, SCP_RELAY) &&
	       scp_is_up(slave.scp, 1, SCP_CONTROL) && scp_is_up(slave.scp, 1, SCP_RELAY);
}

static bool none_up(void)
{
	return !scp_is_up(master.scp, 2, SCP_CONTROL) && !scp_is_up(master.scp, 2, SCP_RELAY) &&
	       !scp_is_up(slave.scp, 1, SCP_CONTROL) && !scp_is_up(slave.scp, 1, SCP_RELAY);
}

static void start_both(void)
{
	device_start(&master, 0);
	device_start(&slave, 0);
	ck_assert_int_eq(scp_connect(slave.scp, 1, "127.0.0.1", scp_port(master.scp)), 0);
}

static void bring_up(void)
{
	start_both();
	RUN_UNTIL(both_up());
}

/* Lines of the log that contain this. */
static unsigned int logged(const char *text)
{
	struct log_line line;
	unsigned int found = 0;

	for (uint64_t number = 0; log_next(&number, NULL, &line);)
		found += strstr(line.text, text) != NULL;
	return found;
}

/*
 * Peers with a script, in a thread
 */

struct raw {
	int fd;
	SSL *ssl;
};

static int tcp_open(uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct timeval patience = { .tv_sec = WAIT_MS / 1000 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static bool raw_open(struct raw *raw, SSL_CTX *tls, uint16_t port)
{
	raw->fd = tcp_open(port);
	raw->ssl = SSL_new(tls);
	SSL_set_fd(raw->ssl, raw->fd);
	return SSL_connect(raw->ssl) == 1;
}

static void raw_close(struct raw *raw)
{
	SSL_free(raw->ssl);
	close(raw->fd);
}

static bool raw_send(struct raw *raw, const scp_message *message)
{
	uint8_t *bytes;
	size_t len;
	bool sent;

	if (scp_message_encode(1, message, &bytes, &len))
		return false;
	sent = SSL_write(raw->ssl, bytes, (int)len) == (int)len;
	free(bytes);
	return sent;
}

static bool raw_read(struct raw *raw, uint8_t *bytes, size_t len)
{
	for (size_t n; len; bytes += n, len -= n)
		if (SSL_read_ex(raw->ssl, bytes, len, &n) != 1)
			return false;
	return true;
}

/* The next message that is no heartbeat. */
static bool raw_receive(struct raw *raw, scp_message *message)
{
	uint8_t head[SCP_HEADER_BYTES], body[65536];
	struct scp_header header;

	do {
		if (!raw_read(raw, head, sizeof(head)) || scp_header_decode(head, &header) ||
		    header.length > sizeof(body) || !raw_read(raw, body, header.length))
			return false;
	} while (header.type == SCP_HEARTBEAT);
	return scp_body_decode(&header, body, message) == 0;
}

/* Return: the text of the refusal that comes next, static; or why there is none */
static const char *raw_refusal(struct raw *raw)
{
	static char text[SCP_TEXT_MAX + 1];
	scp_message message;

	if (!raw_receive(raw, &message))
		return "(nothing)";
	snprintf(text, sizeof(text), "%s",
		 message.type == SCP_REFUSE ? message.scp_message_u.refuse.reason : scp_message_name(message.type));
	scp_message_fini(&message);
	return text;
}

/* A hello as node 2 would send it. */
static scp_message hello_of_slave(void)
{
	static char none[] = "";
	scp_message message = { .type = SCP_HELLO };

	message.scp_message_u.hello = (scp_hello){ .protocol_low = 1,
						   .protocol_high = 1,
						   .node = 2,
						   .software = none,
						   .name = none,
						   .address = none,
						   .serial = none,
						   .revision = 77 };
	memcpy(message.scp_message_u.hello.cluster, cluster, 16);
	return message;
}

static bool raw_greet(struct raw *raw)
{
	scp_message hello = hello_of_slave(), answer;
	bool greeted;

	if (!raw_open(raw, slave.tls, scp_port(master.scp)) || !raw_send(raw, &hello) || !raw_receive(raw, &answer))
		return false;
	greeted = answer.type == SCP_HELLO;
	scp_message_fini(&answer);
	return greeted;
}

struct play {
	const char *(*script)(int i);
	int i;
	const char *said;
	atomic_bool ended;
};

static void *play_in_thread(void *arg)
{
	struct play *play = arg;

	play->said = play->script(play->i);
	atomic_store(&play->ended, true);
	return NULL;
}

/* Return: what the script says, after it has ended; the loop runs meanwhile */
static const char *play(const char *(*script)(int i), int i)
{
	struct play play = { .script = script, .i = i };
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, play_in_thread, &play), 0);
	RUN_UNTIL(atomic_load(&play.ended));
	pthread_join(thread, NULL);
	return play.said;
}

/*
 * Devices among themselves
 */

START_TEST(sessions_come_up)
{
	bring_up();
	ck_assert_uint_eq(strlen(master.history), 2);
	ck_assert_uint_eq(strlen(slave.history), 2);
	ck_assert_str_eq(master.peer_software, "vnas of the test");
	ck_assert_uint_lt(scp_silence_ms(slave.scp, 1), 1000);
	ck_assert_uint_eq(scp_silence_ms(slave.scp, 9), UINT64_MAX);
	RUN_UNTIL(master.beats > 1 && slave.beats > 1);
	ck_assert_uint_eq(logged("node=2 channel=control address=127.0.0.1 up"), 1);
	ck_assert_int_eq(scp_connect(slave.scp, 2, "127.0.0.1", 1), -EINVAL); /* itself */
	ck_assert_int_eq(scp_connect(slave.scp, 1, "no address", 1), -EINVAL);
}
END_TEST

static scp_message relay_call(char *record, size_t len)
{
	scp_message message = { .type = SCP_RELAY_CALL };

	for (size_t i = 0; i < len; i++)
		record[i] = (char)(i * 7 + i / 251);
	message.scp_message_u.relay_call.record.record_val = record;
	message.scp_message_u.relay_call.record.record_len = (u_int)len;
	return message;
}

START_TEST(messages_pass_both_ways_on_both_channels)
{
	scp_message result = { .type = SCP_RESULT, .scp_message_u.result.reason = "" }, call;
	static char record[RECORD_BYTES];

	bring_up();
	ck_assert_int_eq(scp_send(master.scp, 2, SCP_CONTROL, 5, &result), 0);
	RUN_UNTIL(slave.messages == 1);
	ck_assert_int_eq(slave.last.type, SCP_RESULT);
	ck_assert_uint_eq(slave.last.request, 5);
	ck_assert_uint_eq(slave.last.node, 1);
	ck_assert_int_eq(scp_send(slave.scp, 1, SCP_CONTROL, 6, &result), 0);
	RUN_UNTIL(master.messages == 1);
	ck_assert_int_eq(master.last.channel, SCP_CONTROL);
	call = relay_call(record, sizeof(record));
	for (unsigned int i = 0; i < 10; i++)
		ck_assert_int_eq(scp_send(slave.scp, 1, SCP_RELAY, 7, &call), 0);
	ck_assert_int_eq(scp_send(master.scp, 2, SCP_RELAY, 8, &call), 0);
	ck_assert_uint_eq(slave.messages, 1); /* no callback from within scp_send() */
	RUN_UNTIL(master.messages == 11 && slave.messages == 2);
	ck_assert_int_eq(master.last.channel, SCP_RELAY);
	ck_assert_uint_eq(master.last.record_len, sizeof(record));
	ck_assert_uint_eq(master.last.record_sum, sum(record, sizeof(record)));
	ck_assert_uint_eq(slave.last.request, 8);
	ck_assert_uint_eq(slave.last.record_sum, sum(record, sizeof(record)));
}
END_TEST

START_TEST(answers_may_be_sent_from_the_callback)
{
	scp_message result = { .type = SCP_RESULT, .scp_message_u.result.reason = "echo" };

	bring_up();
	master.echo = true;
	for (uint32_t i = 1; i <= 100; i++)
		ck_assert_int_eq(scp_send(slave.scp, 1, SCP_CONTROL, i, &result), 0);
	RUN_UNTIL(slave.messages == 100);
	ck_assert_uint_eq(slave.last.request, 100);
}
END_TEST

START_TEST(what_can_not_be_sent_is_said_so)
{
	scp_message result = { .type = SCP_RESULT, .scp_message_u.result.reason = "" };
	scp_message refuse = { .type = SCP_REFUSE, .scp_message_u.refuse.reason = "" };
	char text[SCP_TEXT_MAX + 2] = "";

	device_start(&master, 0);
	ck_assert_int_eq(scp_send(master.scp, 2, SCP_CONTROL, 0, &result), -ENOTCONN);
	device_stop(&master);
	bring_up();
	ck_assert_int_eq(scp_send(master.scp, 2, SCP_RELAY, 0, &result), -EINVAL);
	ck_assert_int_eq(scp_send(master.scp, 2, SCP_CONTROL, 0, &refuse), -EINVAL);
	ck_assert_int_eq(scp_send(master.scp, 9, SCP_CONTROL, 0, &result), -ENOTCONN);
	memset(text, 'a', sizeof(text) - 1);
	result.scp_message_u.result.reason = text;
	ck_assert_int_eq(scp_send(master.scp, 2, SCP_CONTROL, 0, &result), -EINVAL);
}
END_TEST

static scp_message snapshot(char *bytes, size_t len)
{
	scp_message message = { .type = SCP_SNAPSHOT };

	message.scp_message_u.snapshot.snapshot.snapshot_val = bytes;
	message.scp_message_u.snapshot.snapshot.snapshot_len = (u_int)len;
	return message;
}

START_TEST(a_queue_has_an_end)
{
	const size_t len = 20 * 1024 * 1024;
	char *bytes = calloc(1, len);
	scp_message message = snapshot(bytes, len);
	unsigned int sent = 0;
	int rc;

	bytes[len - 1] = 1;
	bring_up();
	while ((rc = scp_send(master.scp, 2, SCP_CONTROL, 0, &message)) == 0 && sent < 100)
		sent++;
	ck_assert_int_eq(rc, -ENOBUFS);
	ck_assert_uint_ge(sent, 4);
	RUN_UNTIL(slave.messages == sent); /* nothing of what was taken is lost */
	ck_assert_uint_eq(slave.last.record_len, len);
	ck_assert_uint_eq(slave.last.record_sum, sum(bytes, len));
	ck_assert(both_up());
	free(bytes);
}
END_TEST

START_TEST(request_numbers_are_never_0)
{
	uint32_t first;

	device_start(&master, 0);
	first = scp_next_request(master.scp);
	ck_assert_uint_ne(first, 0);
	ck_assert_uint_ne(scp_next_request(master.scp), first);
}
END_TEST

/*
 * Ends and new beginnings
 */

START_TEST(a_restarted_device_is_found_again)
{
	uint16_t port;

	bring_up();
	port = scp_port(master.scp);
	device_stop(&master);
	ck_assert_uint_eq(strlen(master.history), 4); /* an on_down for each on_up */
	RUN_UNTIL(strlen(slave.history) == 4);
	ck_assert_str_eq(slave.down_reason, "the peer says: node 1 is stopping");
	run_for(500); /* refused connections: the back-off grows, the log does not */
	ck_assert_uint_eq(logged("Connection refused"), 1);
	device_start(&master, port);
	RUN_UNTIL(both_up());
	ck_assert_uint_eq(strlen(slave.history), 6);
}
END_TEST

START_TEST(a_device_may_come_later_than_it_is_wanted)
{
	uint16_t port;

	device_start(&master, 0);
	port = scp_port(master.scp);
	device_stop(&master);
	device_start(&slave, 0);
	ck_assert_int_eq(scp_connect(slave.scp, 1, "127.0.0.1", port), 0);
	run_for(250);
	device_start(&master, port);
	RUN_UNTIL(both_up());
}
END_TEST

START_TEST(a_device_is_found_at_its_new_address)
{
	device_start(&master, 0);
	device_start(&slave, 0);
	ck_assert_int_eq(scp_connect(slave.scp, 1, "127.0.0.1", 1), 0);
	run_for(100);
	ck_assert_int_eq(scp_connect(slave.scp, 1, "127.0.0.1", scp_port(master.scp)), 0);
	RUN_UNTIL(both_up());
}
END_TEST

START_TEST(a_disconnected_device_learns_why)
{
	bring_up();
	scp_disconnect(slave.scp, 1, "we move out");
	ck_assert(!scp_is_up(slave.scp, 1, SCP_CONTROL));
	ck_assert_uint_eq(strlen(slave.history), 2); /* no callback from within scp_disconnect() */
	RUN_UNTIL(strlen(master.history) == 4 && strlen(slave.history) == 4);
	ck_assert_str_eq(master.down_reason, "the peer says: we move out");
	ck_assert_str_eq(slave.down_reason, "we move out");
	run_for(300);
	ck_assert(none_up());
	ck_assert_int_eq(scp_connect(slave.scp, 1, "127.0.0.1", scp_port(master.scp)), 0);
	RUN_UNTIL(both_up());
}
END_TEST

START_TEST(a_session_may_be_ended_from_its_callback)
{
	scp_message result = { .type = SCP_RESULT, .scp_message_u.result.reason = "" };

	bring_up();
	slave.disconnect_on_message = true;
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(scp_send(master.scp, 2, SCP_CONTROL, 0, &result), 0);
	RUN_UNTIL(strlen(master.history) == 4 && strlen(slave.history) == 4);
	ck_assert_uint_eq(slave.messages, 1); /* nothing after the end */
}
END_TEST

START_TEST(a_silent_device_is_down)
{
	slave.beat_ms = 60000;
	slave.silence_ms = 60000;
	master.silence_ms = 300;
	bring_up();
	RUN_UNTIL(strlen(master.history) >= 4);
	ck_assert_msg(strncmp(master.down_reason, "silent for ", 11) == 0, "%s", master.down_reason);
	ck_assert_int_ge(atoi(master.down_reason + 11), 300);
	ck_assert_uint_eq(logged("channel=relay address=127.0.0.1 down: silent"), 1);
}
END_TEST

static const char *come_twice(int i)
{
	struct raw first, second;
	const char *said;

	(void)i;
	if (!raw_greet(&first) || !raw_greet(&second))
		return "not greeted";
	said = raw_refusal(&first);
	raw_close(&first);
	raw_close(&second);
	return said;
}

START_TEST(a_newer_session_replaces_the_older)
{
	device_start(&master, 0);
	ck_assert_str_eq(play(come_twice, 0), "replaced by a newer session from 127.0.0.1");
	RUN_UNTIL(strlen(master.history) == 4);
	ck_assert_str_eq(master.history, "UDUD");
}
END_TEST

/*
 * Refusals
 */

START_TEST(a_device_that_may_not_join_learns_why)
{
	master.refuse = "this device was removed: enrol it again";
	start_both();
	RUN_UNTIL(scp_counters(master.scp)->refused >= 6);
	ck_assert(none_up());
	ck_assert_str_eq(slave.history, "");
	ck_assert_uint_eq(logged("node=2 address=127.0.0.1 refused: this device was removed: enrol it again"), 1);
	ck_assert_uint_eq(logged("the peer says: this device was removed: enrol it again"), 1);
	master.refuse = NULL;
	RUN_UNTIL(both_up());
}
END_TEST

/* What a renewal does, without waiting for one. Return: the new certificate's number */
static uint64_t renew(struct device *device)
{
	char request[CERTIFICATES_PEM_MAX], certificate[CERTIFICATES_PEM_MAX], authority[CERTIFICATES_PEM_MAX];
	struct certificates_facts facts;
	SSL_CTX *tls;

	ck_assert_int_eq(certificates_renewal_request(device->pki, request), 0);
	ck_assert_int_eq(sign(master.pki, request, device->node, certificate), 0);
	ck_assert_int_eq(certificates_authority(master.pki, authority), 0);
	ck_assert_int_eq(certificates_renew(device->pki, certificate, authority), 0);
	ck_assert_int_eq(certificates_tls(device->pki, &tls), 0);
	scp_use_tls(device->scp, tls);
	SSL_CTX_free(device->tls); /* sessions that are up keep what they need */
	device->tls = tls;
	ck_assert_int_eq(certificates_self(device->pki, &facts), 0);
	return facts.number;
}

static bool master_sees(uint64_t number)
{
	const struct certificates_facts *certificate = scp_certificate_of(master.scp, 2);

	return certificate && certificate->number == number;
}

START_TEST(a_renewed_certificate_ends_no_session)
{
	uint64_t before, after;

	bring_up();
	before = scp_certificate_of(master.scp, 2)->number;
	after = renew(&slave);
	ck_assert_uint_gt(after, before);
	master.beats = 0;
	RUN_UNTIL(master.beats > 2);
	ck_assert(both_up() && master_sees(before));
	ck_assert_uint_eq(strlen(master.history), 2);

	/* Taken back, the former one is of no use, and the new one is. */
	master.first_good = after;
	scp_review(master.scp);
	RUN_UNTIL(both_up() && master_sees(after));
	ck_assert_uint_eq(logged(" was revoked"), 1 + 2 * 2); /* refused; down, of each channel at each end */
	ck_assert_uint_eq(strlen(master.history), 6);
}
END_TEST

START_TEST(a_revoked_certificate_is_refused)
{
	bring_up();
	slave.first_good = 1; /* the master's own has no number */
	scp_review(slave.scp);
	RUN_UNTIL(none_up());
	RUN_UNTIL(scp_counters(slave.scp)->refused >= 6);
	ck_assert(none_up());
	slave.first_good = 0;
	RUN_UNTIL(both_up());
	master.first_good = 1000;
	scp_review(master.scp);
	RUN_UNTIL(scp_counters(master.scp)->refused >= 6);
	ck_assert(none_up());
}
END_TEST

START_TEST(clusters_do_not_mix)
{
	device_start(&master, 0);
	device_start(&foreign, 0);
	foreign.node = 2;
	ck_assert_int_eq(scp_connect(foreign.scp, 2, "127.0.0.1", scp_port(master.scp)), 0);
	RUN_UNTIL(scp_counters(foreign.scp)->refused >= 4 && scp_counters(master.scp)->refused >= 4);
	ck_assert_uint_eq(logged("node=") - logged("up"), 0);
	/* Once at each end: by what it found itself, and by the other's alert. */
	ck_assert_uint_eq(logged("peer 127.0.0.1 is of another cluster or rejects our certificate"), 2);
	ck_assert_uint_eq(logged("alert unknown ca"), 1);
	ck_assert_str_eq(master.history, "");
}
END_TEST

START_TEST(a_device_at_a_wrong_address_is_refused)
{
	device_start(&master, 0);
	device_start(&slave, 0);
	ck_assert_int_eq(scp_connect(slave.scp, 7, "127.0.0.1", scp_port(master.scp)), 0);
	RUN_UNTIL(scp_counters(slave.scp)->refused >= 2);
	ck_assert_uint_eq(logged("refused: expected node 7 at 127.0.0.1, found node 1"), 1);
	RUN_UNTIL(logged("down: the peer says: expected node 7 at 127.0.0.1, found node 1"));
	ck_assert_str_eq(slave.history, "");
}
END_TEST

static void newer_protocol(scp_hello *hello) { hello->protocol_low = 90, hello->protocol_high = 99; }
static void older_protocol(scp_hello *hello) { hello->protocol_low = hello->protocol_high = 0; }
static void wrong_cluster(scp_hello *hello) { memcpy(hello->cluster, other_cluster, 16); }
static void wrong_node(scp_hello *hello) { hello->node = 3; }
static void wrong_channel(scp_hello *hello) { hello->channel = (scp_channel)2; }

static const struct {
	void (*change)(scp_hello *hello);
	const char *refusal;
} hellos[] = {
	{ newer_protocol, "no common protocol version: node 1 speaks 1 to 4, node 2 speaks 90 to 99; update the older" },
	{ older_protocol, "no common protocol version: node 1 speaks 1 to 4, node 2 speaks 0 to 0; update the older" },
	{ wrong_cluster, "you are of another cluster" },
	{ wrong_node, "your hello says node 3, your certificate node 2" },
	{ wrong_channel, "unexpected channel 2" },
};

static const char *say_changed_hello(int i)
{
	scp_message hello = hello_of_slave();
	const char *said = "no TLS";
	struct raw raw;

	hellos[i].change(&hello.scp_message_u.hello);
	if (raw_open(&raw, slave.tls, scp_port(master.scp)) && raw_send(&raw, &hello))
		said = raw_refusal(&raw);
	raw_close(&raw);
	return said;
}

START_TEST(a_wrong_hello_is_refused)
{
	device_start(&master, 0);
	ck_assert_str_eq(play(say_changed_hello, _i), hellos[_i].refusal);
	ck_assert_uint_eq(logged(hellos[_i].refusal), 1);
	ck_assert_uint_eq(scp_counters(master.scp)->refused, 1);
	ck_assert_str_eq(master.history, "");
}
END_TEST

/* A device of another version, which knows of LOAD and TIME or not. */
static const struct {
	unsigned int low, high;
	int told;	      /* what scp_send() of TIME, which came with version 4, says of it */
	const char *answered; /* to LOAD */
} versions[] = {
	{ 1, 1, -EPROTONOSUPPORT, "malformed: LOAD" },
	{ 1, 3, -EPROTONOSUPPORT, "malformed: LOAD" },
	{ 1, 4, 0, "TIME" },
	{ 1, 99, 0, "TIME" },
	{ 4, 99, 0, "TIME" },
};

static int told;

static void tell_time(uint32_t node, void *arg)
{
	struct device *device = arg;
	scp_message message = { .type = SCP_TIME };

	told = scp_send(device->scp, node, SCP_CONTROL, 0, &message);
}

/* Heartbeats and nothing else between them. */
static bool raw_hears_only_beats(struct raw *raw, int count)
{
	uint8_t head[SCP_HEADER_BYTES], body[1024];
	struct scp_header header;

	for (int i = 0; i < count; i++)
		if (!raw_read(raw, head, sizeof(head)) || scp_header_decode(head, &header) || header.type != SCP_HEARTBEAT ||
		    header.length > sizeof(body) || !raw_read(raw, body, header.length))
			return false;
	return true;
}

static const char *talk_in_version(int i)
{
	scp_message hello = hello_of_slave(), load = { .type = SCP_LOAD }, answer = { 0 };
	const char *said = "no session";
	struct raw raw;

	hello.scp_message_u.hello.protocol_low = versions[i].low;
	hello.scp_message_u.hello.protocol_high = versions[i].high;
	if (raw_open(&raw, slave.tls, scp_port(master.scp)) && raw_send(&raw, &hello) && raw_receive(&raw, &answer) &&
	    answer.type == SCP_HELLO && (versions[i].told == 0 || raw_hears_only_beats(&raw, 2)) && raw_send(&raw, &load))
		said = raw_refusal(&raw);
	scp_message_fini(&answer);
	raw_close(&raw);
	return said;
}

START_TEST(devices_of_other_versions_are_talked_to)
{
	told = 1;
	master.handlers.on_beat = tell_time;
	device_start(&master, 0);
	ck_assert_str_eq(play(talk_in_version, _i), versions[_i].answered);
	if (versions[_i].told == 0) {
		RUN_UNTIL(master.messages == 1 && told == 0);
		ck_assert_int_eq(master.last.type, SCP_LOAD);
	}
	ck_assert_int_eq(told, versions[_i].told);
	ck_assert_uint_eq(master.messages, versions[_i].told == 0);
}
END_TEST

/* As the master would be greeted by a copy of itself. */
static const char *say_hello_as_master(int i)
{
	scp_message hello = hello_of_slave();
	const char *said = "no TLS";
	struct raw raw;

	(void)i;
	hello.scp_message_u.hello.node = 1;
	if (raw_open(&raw, master.tls, scp_port(master.scp)) && raw_send(&raw, &hello))
		said = raw_refusal(&raw);
	raw_close(&raw);
	return said;
}

START_TEST(a_copy_of_ourselves_is_refused)
{
	device_start(&master, 0);
	ck_assert_str_eq(play(say_hello_as_master, 0), "we are both node 1: one was copied from the other");
}
END_TEST

/*
 * Peers that misbehave
 */

static const char *say_snapshot(int i)
{
	scp_message message = snapshot("abcd", 4);
	const char *said = "not greeted";
	struct raw raw;

	(void)i;
	if (raw_greet(&raw) && raw_send(&raw, &message))
		said = raw_refusal(&raw);
	raw_close(&raw);
	return said;
}

static const char *say_garbage(int i)
{
	const char *said = "not greeted";
	struct raw raw;

	(void)i;
	if (raw_greet(&raw) && SSL_write(raw.ssl, "sixteen bytes of noise", 22) == 22)
		said = raw_refusal(&raw);
	raw_close(&raw);
	return said;
}

static const char *say_bad_body(int i)
{
	static const uint8_t bytes[] = { 'S', 'C', 'P', '1', 0, 43, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 43 };
	const char *said = "not greeted";
	struct raw raw;

	(void)i;
	if (raw_greet(&raw) && SSL_write(raw.ssl, bytes, sizeof(bytes)) == sizeof(bytes))
		said = raw_refusal(&raw);
	raw_close(&raw);
	return said;
}

static const struct {
	const char *(*script)(int i);
	const char *refusal;
} misdeeds[] = {
	{ say_snapshot, "malformed: SNAPSHOT" }, /* that way only the master's go */
	{ say_garbage, "malformed: no header of a message" },
	{ say_bad_body, "malformed: RESULT" },
};

START_TEST(malformed_messages_end_the_session)
{
	device_start(&master, 0);
	ck_assert_str_eq(play(misdeeds[_i].script, 0), misdeeds[_i].refusal);
	RUN_UNTIL(strlen(master.history) == 2);
	ck_assert_str_eq(master.history, "UD");
	ck_assert_str_eq(master.down_reason, misdeeds[_i].refusal);
	ck_assert_uint_eq(scp_counters(master.scp)->malformed, 1);
	ck_assert_uint_eq(master.messages, 0);
}
END_TEST

/* A master that promises a large snapshot to node 2 and sends its first bytes. */
static const char *promise_much(int i)
{
	static const uint8_t bytes[64] = { 'S', 'C', 'P', '1', 0, SCP_SNAPSHOT, 0, 0, 0, 0, 0, 0, 0x0f };
	scp_message hello = hello_of_slave(), answer;
	const char *said = "not greeted";
	struct mallinfo2 memory;
	struct raw raw;

	(void)i;
	hello.scp_message_u.hello.node = 1;
	if (raw_open(&raw, master.tls, scp_port(slave.scp)) && raw_send(&raw, &hello) && raw_receive(&raw, &answer)) {
		scp_message_fini(&answer);
		SSL_write(raw.ssl, bytes, sizeof(bytes));
		usleep(100 * 1000);
		memory = mallinfo2();
		said = memory.arena + memory.hblkhd < 64 * 1024 * 1024 ? "little memory" : "much memory";
	}
	raw_close(&raw);
	return said;
}

START_TEST(memory_follows_bytes_not_promises)
{
	device_start(&slave, 0);
	ck_assert_str_eq(play(promise_much, 0), "little memory");
	RUN_UNTIL(strlen(slave.history) == 2);
}
END_TEST

static const char *say_http(int i)
{
	char bytes[256];
	int fd = tcp_open(scp_port(master.scp));
	const char *said = "still open";

	(void)i;
	if (send(fd, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL) == 18) {
		while (recv(fd, bytes, sizeof(bytes), 0) > 0)
			;
		said = "closed";
	}
	close(fd);
	return said;
}

START_TEST(who_speaks_no_tls_is_closed_and_counted)
{
	device_start(&master, 0);
	for (int i = 0; i < 3; i++)
		ck_assert_str_eq(play(say_http, 0), "closed");
	ck_assert_uint_eq(scp_counters(master.scp)->malformed, 3);
	ck_assert_uint_eq(logged("does not speak TLS as we do"), 1);
}
END_TEST

static const char *say_nothing(int i)
{
	int fd = tcp_open(scp_port(master.scp));
	char byte;
	const char *said = recv(fd, &byte, 1, 0) == 0 ? "closed" : "still open";

	(void)i;
	close(fd);
	return said;
}

START_TEST(who_says_nothing_is_closed)
{
	master.hello_ms = 200;
	device_start(&master, 0);
	ck_assert_str_eq(play(say_nothing, 0), "closed");
}
END_TEST

/* 256 peers may wait to be recognized; one more takes the place of the oldest, and a device gets in among them. */
static int crowd[257];

static const char *come_in_crowds(int i)
{
	char byte;

	(void)i;
	for (size_t n = 0; n < sizeof(crowd) / sizeof(crowd[0]); n++)
		crowd[n] = tcp_open(scp_port(master.scp));
	if (recv(crowd[0], &byte, 1, 0) != 0)
		return "the oldest is still open";
	return recv(crowd[1], &byte, 1, MSG_DONTWAIT) < 0 ? "the oldest was closed" : "another was closed, too";
}

START_TEST(strangers_are_limited)
{
	device_start(&master, 0);
	device_start(&slave, 0);
	ck_assert_str_eq(play(come_in_crowds, 0), "the oldest was closed");
	ck_assert_uint_eq(scp_counters(master.scp)->refused, 1);
	ck_assert_uint_eq(logged("crowd the port"), 1);
	ck_assert_int_eq(scp_connect(slave.scp, 1, "127.0.0.1", scp_port(master.scp)), 0);
	RUN_UNTIL(both_up());
	for (size_t n = 0; n < sizeof(crowd) / sizeof(crowd[0]); n++)
		close(crowd[n]);
}
END_TEST

/*
 * Without a certificate
 */

static struct device *asked; /* by the stranger */

static const char *say_without_certificate(int i)
{
	char fingerprint[CERTIFICATES_FINGERPRINT_TEXT], none[] = "";
	scp_message messages[] = { hello_of_slave(), { .type = SCP_SNAPSHOT_REQUEST }, { .type = SCP_ENROL } };
	const char *said = "no TLS";
	SSL_CTX *tls;
	struct raw raw;

	messages[2].scp_message_u.enrol = (scp_enrol){ .token = none, .name = none, .request = none };
	if (certificates_fingerprint(master.pki, fingerprint) || certificates_tls_enrol(fingerprint, &tls))
		return "no context";
	if (raw_open(&raw, tls, scp_port(asked->scp)) && raw_send(&raw, &messages[i]))
		said = raw_refusal(&raw);
	raw_close(&raw);
	SSL_CTX_free(tls);
	return said;
}

START_TEST(a_stranger_may_only_enrol)
{
	device_start(&master, 0);
	device_start(&slave, 0);
	asked = &master;
	ck_assert_str_eq(play(say_without_certificate, 0),
			 "without a certificate of this cluster only ENROL is accepted, not HELLO");
	ck_assert_str_eq(play(say_without_certificate, 1),
			 "without a certificate of this cluster only ENROL is accepted, not SNAPSHOT_REQUEST");
	ck_assert_uint_eq(scp_counters(master.scp)->refused, 2);
	ck_assert_str_eq(play(say_without_certificate, 2), "ENROL_REPLY");
	asked = &slave;
	ck_assert_str_eq(play(say_without_certificate, 2), "node 2 is not the master: enrol there");
	ck_assert_str_eq(master.history, "");
}
END_TEST

static char token[256], join_why[256];
static struct device joining;

static const char *join(int i)
{
	(void)i;
	if (scp_join(token, joining.pki, "disk3", join_why, sizeof(join_why)))
		return join_why;
	return "joined";
}

static int join_rc;

static const char *join_for_rc(int i)
{
	(void)i;
	join_rc = scp_join(token, joining.pki, "disk3", join_why, sizeof(join_why));
	return join_why;
}

static void make_token(const char *secret, const struct device *of, uint16_t port)
{
	char fingerprint[CERTIFICATES_FINGERPRINT_TEXT];

	ck_assert_int_eq(certificates_fingerprint(of->pki, fingerprint), 0);
	snprintf(token, sizeof(token), "vnas1-%s-%s@127.0.0.1:%u", secret, fingerprint, port);
}

START_TEST(a_device_joins_with_a_token)
{
	device_start(&master, 0);
	device_init(&joining, "joining", 3);
	make_token("GOOD-TOKEN", &master, scp_port(master.scp));
	ck_assert_str_eq(play(join, 0), "joined");
	ck_assert_int_eq(certificates_tls(joining.pki, &joining.tls), 0);
	device_start(&joining, 0);
	ck_assert_int_eq(scp_connect(joining.scp, 1, "127.0.0.1", scp_port(master.scp)), 0);
	RUN_UNTIL(scp_is_up(master.scp, 3, SCP_CONTROL) && scp_is_up(joining.scp, 1, SCP_CONTROL));
	device_stop(&joining);
	SSL_CTX_free(joining.tls);
}
END_TEST

START_TEST(a_wrong_token_is_refused)
{
	device_start(&master, 0);
	device_init(&joining, "joining", 3);
	make_token("OLD-TOKEN", &master, scp_port(master.scp));
	ck_assert_str_eq(play(join_for_rc, 0), "127.0.0.1 says: the token has expired");
	ck_assert_int_eq(join_rc, -EACCES);
	make_token("GOOD-TOKEN", &foreign, scp_port(master.scp));
	play(join_for_rc, 0);
	ck_assert_int_eq(join_rc, -EKEYREJECTED);
	ck_assert_ptr_nonnull(strstr(join_why, "not of the cluster that the token is for"));
	ck_assert_int_eq(certificates_tls(joining.pki, &joining.tls), -ENOENT);
}
END_TEST

START_TEST(nobody_there_to_join)
{
	device_start(&master, 0);
	device_init(&joining, "joining", 3);
	make_token("GOOD-TOKEN", &master, scp_port(master.scp));
	device_stop(&master);
	play(join_for_rc, 0);
	ck_assert_int_eq(join_rc, -ECONNREFUSED);
}
END_TEST

static struct scp_enrolment *applying;
static char applied_authority[CERTIFICATES_FINGERPRINT_TEXT], applied_why[SCP_ENROLMENT_WHY_MAX];
static int applied_rc;
static unsigned int applied;

static void on_applied(const struct scp_enrolment_end *end, void *arg)
{
	ck_assert_ptr_eq(arg, &joining);
	applied++;
	applied_rc = end->rc;
	snprintf(applied_authority, sizeof(applied_authority), "%s", end->authority);
	snprintf(applied_why, sizeof(applied_why), "%s", end->why);
	ck_assert(end->rc != -EAGAIN || end->reply);
	scp_enrolment_free(applying); /* allowed here */
	applying = NULL;
}

static int apply(uint16_t port, const char *fingerprint)
{
	static char none[] = "", class[] = "vnas-disk";
	scp_message question = { .type = SCP_APPLY };
	struct scp_enrolment_options options = {
		.base = base, .address = "127.0.0.1", .port = port, .fingerprint = fingerprint, .question = &question,
		.on_end = on_applied, .arg = &joining,
	};

	question.scp_message_u.apply = (scp_apply){ .name = none, .serial = none, .vendor_class = class, .request = none };
	applied = 0;
	return scp_enrolment_start(&options, &applying);
}

/* Without a token any authority will do, but it is told which one it was; and the next time it must be the same. */
START_TEST(a_machine_applies_without_a_token)
{
	char of_master[CERTIFICATES_FINGERPRINT_TEXT], of_foreign[CERTIFICATES_FINGERPRINT_TEXT];

	device_start(&master, 0);
	ck_assert_int_eq(certificates_fingerprint(master.pki, of_master), 0);
	ck_assert_int_eq(certificates_fingerprint(foreign.pki, of_foreign), 0);
	ck_assert_int_eq(apply(scp_port(master.scp), NULL), 0);
	RUN_UNTIL(applied);
	ck_assert_int_eq(applied_rc, -EAGAIN);
	ck_assert_str_eq(applied_why, "127.0.0.1 says: vnas-disk");
	ck_assert_str_eq(applied_authority, of_master);
	ck_assert_int_eq(apply(scp_port(master.scp), of_master), 0);
	RUN_UNTIL(applied);
	ck_assert_int_eq(applied_rc, -EAGAIN);
	ck_assert_int_eq(apply(scp_port(master.scp), of_foreign), 0);
	RUN_UNTIL(applied);
	ck_assert_int_eq(applied_rc, -EKEYREJECTED);
	ck_assert_str_eq(applied_authority, "");
}
END_TEST

START_TEST(an_application_that_is_given_up)
{
	device_start(&master, 0);
	ck_assert_int_eq(apply(scp_port(master.scp), NULL), 0);
	scp_enrolment_free(applying);
	RUN_UNTIL(scp_counters(master.scp)->messages_in == 0);
	ck_assert_uint_eq(applied, 0);
	ck_assert_int_eq(apply(1, NULL), 0);
	RUN_UNTIL(applied);
	ck_assert_int_eq(applied_rc, -ECONNREFUSED);
}
END_TEST

static const struct {
	const char *text, *address; /* NULL: none */
	uint16_t port;
} addresses[] = {
	{ "10.0.0.1", "10.0.0.1", SCP_PORT },	   { "10.0.0.1:3050", "10.0.0.1", 3050 },
	{ "fd00::1", "fd00::1", SCP_PORT },	   { "[fd00::1]", "fd00::1", SCP_PORT },
	{ "[fd00::1]:3050", "fd00::1", 3050 },	   { "", NULL, 0 },
	{ "[fd00::1", NULL, 0 },		   { "[fd00::1]3050", NULL, 0 },
	{ "10.0.0.1:", NULL, 0 },		   { "10.0.0.1:0", NULL, 0 },
	{ "10.0.0.1:65536", NULL, 0 },		   { "10.0.0.1:-1", NULL, 0 },
	{ ":3050", NULL, 0 },			   { "[]:3050", NULL, 0 },
};

START_TEST(addresses_are_split)
{
	char address[SCP_ADDRESS_MAX] = "";
	uint16_t port = 0;

	ck_assert_int_eq(scp_address_split(addresses[_i].text, address, &port), addresses[_i].address ? 0 : -EINVAL);
	if (addresses[_i].address) {
		ck_assert_str_eq(address, addresses[_i].address);
		ck_assert_uint_eq(port, addresses[_i].port);
	}
}
END_TEST

#define PRINT "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const char *const malformed_tokens[] = {
	"",
	"vnas1-",
	"@127.0.0.1",
	"vnas1-S-" PRINT,
	"vnas1-S-" PRINT "@",
	"vnas1-S-" PRINT "@name.example",
	"vnas1-S-" PRINT "@127.0.0.1:",
	"vnas1-S-" PRINT "@127.0.0.1:x",
	"vnas1-S-" PRINT "@[::1",
	"vnas1-S-" PRINT "@[::1]2050",
	"vnas1--" PRINT "@127.0.0.1",
	"vnas1-" PRINT "@127.0.0.1",
	"vnas2-S-" PRINT "@127.0.0.1",
	"vnas1-S-x" PRINT "@127.0.0.1",
	"vnas1-S-g123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef@127.0.0.1",
};

START_TEST(a_malformed_token_is_refused)
{
	device_init(&joining, "joining", 3);
	join_why[0] = '\0';
	ck_assert_msg(scp_join(malformed_tokens[_i], joining.pki, "disk3", join_why, sizeof(join_why)) == -EINVAL,
		      "%s: %s", malformed_tokens[_i], join_why);
	ck_assert_str_ne(join_why, "");
}
END_TEST

/* An address that is understood fails only because nobody listens there. */
static const char *const understood_tokens[] = {
	"vnas1-S-" PRINT "@127.0.0.1:1",
	"vnas1-S-WITH-DASHES-" PRINT "@127.0.0.1:1",
	"vnas1-S-" PRINT "@[::ffff:127.0.0.1]:1",
};

START_TEST(forms_of_tokens_are_understood)
{
	device_init(&joining, "joining", 3);
	ck_assert_msg(scp_join(understood_tokens[_i], joining.pki, "disk3", join_why, sizeof(join_why)) ==
			      -ECONNREFUSED,
		      "%s: %s", understood_tokens[_i], join_why);
}
END_TEST

START_TEST(an_address_in_use_is_said_so)
{
	struct scp_options options = {
		.base = base, .tls = slave.tls, .self = 2, .listen_address = "127.0.0.1", .handlers = &slave.handlers
	};
	struct scp *scp;

	device_start(&master, 0);
	options.listen_port = scp_port(master.scp);
	ck_assert_int_eq(scp_new(&options, &scp), -EADDRINUSE);
	ck_assert_uint_eq(logged("is another vnasd running?"), 1);
	options.listen_address = "nowhere";
	ck_assert_int_eq(scp_new(&options, &scp), -EINVAL);
	options.listen_address = NULL;
	options.listen_port = 0;
	ck_assert_int_eq(scp_new(&options, &scp), 0);
	ck_assert_uint_ne(scp_port(scp), 0);
	scp_free(scp);
}
END_TEST

/* Who makes up addresses can't fill the log, and a cause that comes back later is said again. */
START_TEST(causes_are_logged_once)
{
	struct log_once once = { 0 };
	unsigned int said = 0;
	char object[16];

	ck_assert(log_once_is_new(&once, "a", "x", 1));
	ck_assert(!log_once_is_new(&once, "a", "x", 2));
	ck_assert(log_once_is_new(&once, "a", "y", 2));
	ck_assert(log_once_is_new(&once, "b", "x", 2));
	log_once_forget(&once, "a");
	ck_assert(log_once_is_new(&once, "a", "x", 3));
	ck_assert(!log_once_is_new(&once, "b", "x", 3));
	for (int i = 0; i < 1000; i++) {
		snprintf(object, sizeof(object), "%d", i);
		said += log_once_is_new(&once, object, "x", 4);
	}
	ck_assert_uint_lt(said, LOG_ONCE_KEEP);
	ck_assert(log_once_is_new(&once, "c", "x", 4 + LOG_ONCE_KEEP_MS));
}
END_TEST

#define COUNT(table) (int)(sizeof(table) / sizeof((table)[0]))

int main(void)
{
	Suite *suite = suite_create("scp");
	TCase *tcase = tcase_create("scp");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_set_timeout(tcase, 30);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, sessions_come_up);
	tcase_add_test(tcase, messages_pass_both_ways_on_both_channels);
	tcase_add_test(tcase, answers_may_be_sent_from_the_callback);
	tcase_add_test(tcase, what_can_not_be_sent_is_said_so);
	tcase_add_test(tcase, a_queue_has_an_end);
	tcase_add_test(tcase, request_numbers_are_never_0);
	tcase_add_test(tcase, a_restarted_device_is_found_again);
	tcase_add_test(tcase, a_device_may_come_later_than_it_is_wanted);
	tcase_add_test(tcase, a_device_is_found_at_its_new_address);
	tcase_add_test(tcase, a_disconnected_device_learns_why);
	tcase_add_test(tcase, a_session_may_be_ended_from_its_callback);
	tcase_add_test(tcase, a_silent_device_is_down);
	tcase_add_test(tcase, a_newer_session_replaces_the_older);
	tcase_add_test(tcase, a_device_that_may_not_join_learns_why);
	tcase_add_test(tcase, a_renewed_certificate_ends_no_session);
	tcase_add_test(tcase, a_revoked_certificate_is_refused);
	tcase_add_test(tcase, clusters_do_not_mix);
	tcase_add_test(tcase, a_device_at_a_wrong_address_is_refused);
	tcase_add_loop_test(tcase, a_wrong_hello_is_refused, 0, COUNT(hellos));
	tcase_add_loop_test(tcase, devices_of_other_versions_are_talked_to, 0, COUNT(versions));
	tcase_add_test(tcase, a_copy_of_ourselves_is_refused);
	tcase_add_loop_test(tcase, malformed_messages_end_the_session, 0, COUNT(misdeeds));
	tcase_add_test(tcase, memory_follows_bytes_not_promises);
	tcase_add_test(tcase, who_speaks_no_tls_is_closed_and_counted);
	tcase_add_test(tcase, who_says_nothing_is_closed);
	tcase_add_test(tcase, strangers_are_limited);
	tcase_add_test(tcase, a_stranger_may_only_enrol);
	tcase_add_test(tcase, a_machine_applies_without_a_token);
	tcase_add_test(tcase, an_application_that_is_given_up);
	tcase_add_loop_test(tcase, addresses_are_split, 0, (int)(sizeof(addresses) / sizeof(addresses[0])));
	tcase_add_test(tcase, a_device_joins_with_a_token);
	tcase_add_test(tcase, a_wrong_token_is_refused);
	tcase_add_test(tcase, nobody_there_to_join);
	tcase_add_loop_test(tcase, a_malformed_token_is_refused, 0, COUNT(malformed_tokens));
	tcase_add_loop_test(tcase, forms_of_tokens_are_understood, 0, COUNT(understood_tokens));
	tcase_add_test(tcase, an_address_in_use_is_said_so);
	tcase_add_test(tcase, causes_are_logged_once);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
