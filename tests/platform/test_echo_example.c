/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, the author of a server who does as docs/examples says gets one whose clients notice that they are moved.
 *
 * docs/examples/echo_server on a switch and two nodes; clients that look at every byte, while their connections go around.
 */
#include "config.h"

#include "common/log.h"
#include "tests/platform/cluster.h"
#include "tests/platform/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PORT = 7, MOVES = 100, PATIENCE_S = 120 };

static const char *const addresses[CLUSTER_DEVICES] = { "10.10.0.1", "10.10.0.12", "10.10.0.13" };

static struct server {
	pid_t pid;
	FILE *output;
} servers[CLUSTER_DEVICES];

static struct {
	unsigned int moved, ready, ended;
} seen;

static void exec_server(const struct cluster *c, int i, int output)
{
	char number[16], interfaces[64], path[256];

	netns_enter(c->devices[i].netns);
	snprintf(number, sizeof(number), "%d", i + 1);
	snprintf(interfaces, sizeof(interfaces), "%s%s", c->devices[i].interface, i == 0 ? ",clients" : "");
	snprintf(path, sizeof(path), "%s/docs/examples/echo_server", getenv("builddir") ?: ".");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(output, STDOUT_FILENO);
	execl(path, path, number, cluster_families[0].vip, NETNS_BPFFS, interfaces, addresses[0], addresses[1], addresses[2],
	      NULL);
	fail("%s: %s", path, strerror(errno));
}

static void start_server(const struct cluster *c, int i)
{
	int ends[2];

	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	servers[i].pid = fork();
	CHECK(servers[i].pid >= 0);
	if (servers[i].pid == 0)
		exec_server(c, i, ends[1]);
	close(ends[1]);
	servers[i].output = fdopen(ends[0], "r");
	setvbuf(servers[i].output, NULL, _IONBF, 0);
}

/* What a session was told where it began, it is told everywhere. */
static void hear(const char *line)
{
	seen.ready += strcmp(line, "ready\n") == 0;
	seen.moved += strncmp(line, "moved ", 6) == 0;
	seen.ended += strcmp(line, "ended\n") == 0;
	if (strncmp(line, "moving ", 7) != 0)
		return;
	if (!strstr(line, " tos=32 user_timeout_ms=30000 ") ||
	    !(strstr(line, " state=OPEN ") || strstr(line, " state=ACTIVE ") || strstr(line, " state=IDLE ")))
		fail("%s", line);
}

static void hear_until(const unsigned int *count, unsigned int enough)
{
	char line[256];

	while (*count < enough) {
		struct pollfd poll_fds[CLUSTER_DEVICES];

		for (int i = 0; i < CLUSTER_DEVICES; i++)
			poll_fds[i] = (struct pollfd){ .fd = fileno(servers[i].output), .events = POLLIN };
		CHECK(poll(poll_fds, CLUSTER_DEVICES, PATIENCE_S * 1000) > 0);
		for (int i = 0; i < CLUSTER_DEVICES; i++)
			if (poll_fds[i].revents) {
				CHECK(fgets(line, sizeof(line), servers[i].output));
				hear(line);
			}
	}
}

static void move_around(struct cluster *c, size_t message_len, size_t window)
{
	uint64_t resets = netns_counter(c->client, "Tcp", "OutRsts");
	struct load_client load = load_start(c->client, cluster_families[0].vip, PORT, message_len, window);
	unsigned int before = seen.moved;
	struct load_result result;

	hear_until(&seen.moved, before + MOVES);
	load_stop(&load);
	result = load_wait(&load);
	printf("ok: %zu bytes x %zu: %u moves, %llu messages, longest gap %llu us\n", message_len, window, seen.moved - before,
	       (unsigned long long)result.messages, (unsigned long long)result.longest_gap_us);
	CHECK(netns_counter(c->client, "Tcp", "OutRsts") == resets);
}

static int connect_and_echo(const struct cluster *c)
{
	int fd = netns_connect(c->client, cluster_families[0].vip, PORT);
	char byte = 'x';

	CHECK(write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1 && byte == 'x');
	return fd;
}

static void stop_servers(void)
{
	int status;

	for (int i = 0; i < CLUSTER_DEVICES; i++) {
		kill(servers[i].pid, SIGTERM);
		CHECK(waitpid(servers[i].pid, &status, 0) == servers[i].pid);
		if (status != 0)
			fail("server %d: status %d", i + 1, status);
		fclose(servers[i].output);
	}
}

static void wait_until_sent_again(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	while (info.tcpi_total_retrans < 2) {
		usleep(10000);
		CHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
		CHECK(info.tcpi_state == TCP_ESTABLISHED);
	}
}

/* SO_TERMINATE. Silently: whatever the client says then, nobody answers; not even the stack, by RST. */
static void end_sessions(struct cluster *c)
{
	uint64_t resets = netns_counter(c->devices[0].netns, "Tcp", "OutRsts");
	int silent = connect_and_echo(c), reset;
	char byte;

	CHECK(kill(servers[0].pid, SIGUSR1) == 0);
	hear_until(&seen.ended, 1);
	CHECK(write(silent, "x", 1) == 1);
	wait_until_sent_again(silent);
	CHECK(recv(silent, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	CHECK(netns_counter(c->devices[0].netns, "Tcp", "OutRsts") == resets);
	close(silent);
	reset = connect_and_echo(c);
	stop_servers();
	CHECK(read(reset, &byte, 1) < 0 && errno == ECONNRESET);
	close(reset);
}

int main(void)
{
	struct cluster cluster;

	log_open(LOG_LEVEL_WARN);
	netns_setup(true);
	cluster_make(&cluster, false);
	/* The servers bring their own. */
	cluster_stop_kernel(&cluster);
	for (int i = 0; i < CLUSTER_DEVICES; i++)
		start_server(&cluster, i);
	hear_until(&seen.ready, CLUSTER_DEVICES);
	move_around(&cluster, 128, 1);
	move_around(&cluster, 4096, 8);
	move_around(&cluster, 65536, 4);
	end_sessions(&cluster);
	cluster_remove(&cluster);
	return 0;
}
