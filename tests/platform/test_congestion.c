/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a connection that was handed off is slow for some round trips, as if it were new; or one that has nothing to do with
 * handoffs begins with somebody else's congestion window; or a daemon that was killed leaves its program on the cgroup.
 *
 * In a cgroup of its own, so that nobody else's programs are counted. One connection on lo with a window that has grown is moved into a
 * new socket, with and without the program.
 */
#include "config.h"

#include "common/congestion.h"
#include "common/tcp_repair.h"
#include "tests/platform/connection.h"
#include "tests/platform/netns.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/tcp.h>
#include <mntent.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { INITIAL_WINDOW = CONGESTION_WINDOW_INITIAL, CHUNK = 64 * 1024, CHUNKS = 200, PORT = 2049, PROGRAMS_MAX = 16 };

/* ---- A cgroup of our own ---- */

static char cgroup_path[PATH_MAX], cgroup_root[PATH_MAX];

static void join(const char *cgroup)
{
	char path[PATH_MAX + 32];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, "0", 1) != 1)
		skip("no cgroup of one's own: %s: %s", path, strerror(errno));
	close(fd);
}

static void enter_cgroup(void)
{
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	const struct mntent *mount;

	while (mounts && (mount = getmntent(mounts)) && strcmp(mount->mnt_type, "cgroup2") != 0)
		;
	if (!mounts || !mount)
		skip("no cgroups of version 2");
	snprintf(cgroup_root, sizeof(cgroup_root), "%s", mount->mnt_dir);
	endmntent(mounts);
	CHECK((size_t)snprintf(cgroup_path, sizeof(cgroup_path), "%s/vnas-test-%d", cgroup_root, (int)getpid()) <
	      sizeof(cgroup_path));
	if (mkdir(cgroup_path, 0755))
		skip("%s: %s", cgroup_path, strerror(errno));
	join(cgroup_path);
}

static void leave_cgroup(void)
{
	join(cgroup_root);
	CHECK(rmdir(cgroup_path) == 0);
}

static unsigned int programs_on_cgroup(void)
{
	int fd = open(cgroup_path, O_RDONLY | O_DIRECTORY);
	uint32_t ids[PROGRAMS_MAX], count = PROGRAMS_MAX;

	CHECK(fd >= 0 && bpf_prog_query(fd, BPF_CGROUP_SOCK_OPS, 0, NULL, ids, &count) == 0);
	close(fd);
	return count;
}

static uint32_t window_of(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
	return info.tcpi_snd_cwnd;
}

static void receive_all(int fd, size_t len)
{
	static char bytes[CHUNK];

	while (len > 0) {
		ssize_t got = recv(fd, bytes, len < sizeof(bytes) ? len : sizeof(bytes), 0);

		CHECK(got > 0);
		len -= (size_t)got;
	}
}

static void grow(const struct connection *c)
{
	static const char bytes[CHUNK];

	for (int i = 0; i < CHUNKS; i++) {
		CHECK(send(c->server, bytes, sizeof(bytes), MSG_NOSIGNAL) == CHUNK);
		receive_all(c->client, CHUNK);
	}
	CHECK(window_of(c->server) > INITIAL_WINDOW);
}

static void move(struct connection *c, struct congestion *congestion, uint32_t window)
{
	struct kernel_helper_state state;

	CHECK_OK(tcp_repair_freeze(c->server, &c->flow, &c->fixed, false, &state));
	CHECK(state.congestion_window == window_of(c->server));
	state.congestion_window = window;
	tcp_repair_silence(c->server);
	CHECK_OK(tcp_repair_restore(&state, congestion, -1, &c->server));
	c->fixed.send_base = state.send_unacknowledged;
	c->fixed.receive_base = state.receive_next;
	kernel_helper_state_fini(&state);
}

static void expect_alive(const struct connection *c)
{
	CHECK(send(c->server, "alive", 5, MSG_NOSIGNAL) == 5);
	receive_all(c->client, 5);
}

static void close_both(struct connection *c)
{
	close(c->client);
	close(c->server);
}

/* ---- Cases ---- */

static void test_window(int netns, int listener, struct congestion *congestion)
{
	struct connection c = connection_make(netns, listener, "127.0.0.1"), other;
	uint32_t window;

	grow(&c);
	window = window_of(c.server);
	move(&c, congestion, window);
	CHECK(window_of(c.server) == window);
	expect_alive(&c);

	/* Smaller, after losses; too large for anybody; unknown: an older device does not say. */
	move(&c, congestion, 2);
	CHECK(window_of(c.server) == 2);
	move(&c, congestion, UINT32_MAX);
	CHECK(window_of(c.server) == CONGESTION_WINDOW_MAX);
	move(&c, congestion, 0);
	CHECK(window_of(c.server) == INITIAL_WINDOW);
	expect_alive(&c);

	/* What is connected in the ordinary way is left alone. */
	other = connection_make(netns, listener, "127.0.0.1");
	CHECK(window_of(other.client) == INITIAL_WINDOW);
	close_both(&other);
	close_both(&c);
	printf("ok: a window of %u\n", window);
}

static void test_without(int netns, int listener)
{
	struct connection c = connection_make(netns, listener, "127.0.0.1");

	grow(&c);
	move(&c, NULL, window_of(c.server));
	CHECK(window_of(c.server) == INITIAL_WINDOW);
	expect_alive(&c);
	close_both(&c);
	printf("ok: without the program\n");
}

/* However the process ends. */
static void test_killed(void)
{
	struct congestion *congestion;
	int ready[2], status;
	pid_t pid;

	CHECK(pipe(ready) == 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK_OK(congestion_new(&congestion));
		CHECK(write(ready[1], "r", 1) == 1);
		pause();
	}
	CHECK(read(ready[0], &status, 1) == 1);
	CHECK(programs_on_cgroup() == 1);
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
	CHECK(programs_on_cgroup() == 0);
	close(ready[0]);
	close(ready[1]);
	printf("ok: killed\n");
}

int main(void)
{
	struct congestion *congestion;
	int netns, listener, err;

	netns_setup(true);
	netns = netns_new();
	listener = netns_listen(netns, "127.0.0.1", PORT);
	enter_cgroup();
	netns_enter(netns);
	err = congestion_new(&congestion);
	if (err) {
		leave_cgroup();
		skip("no sockops programs here: %s", strerror(-err));
	}
	CHECK(programs_on_cgroup() == 1);
	test_window(netns, listener, congestion);
	congestion_free(congestion);
	CHECK(programs_on_cgroup() == 0);
	test_without(netns, listener);
	test_killed();
	leave_cgroup();
	return 0;
}
