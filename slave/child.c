/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/child.h"

#include "common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int find_program(const char *name, char path[static PATH_MAX])
{
	static const char *const folders[] = { "/usr/sbin", "/sbin", "/usr/bin" };

	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		snprintf(path, PATH_MAX, "%s/%s", folders[i], name);
		if (access(path, X_OK) == 0)
			return 0;
	}
	return -ENOENT;
}

/* In the child, beside which other threads' locks may be held for ever: system calls only. */
static void __attribute__((noreturn)) become(const char *path, const char *const argv[], int out, pid_t parent)
{
	static char *const environment[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", (char *)"LC_ALL=C", NULL };
	sigset_t none;
	int in;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	in = open("/dev/null", O_RDONLY);
	if (in < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		_exit(127);
	execve(path, (char *const *)argv, environment);
	_exit(127);
}

/* Return: 0 when the other end is closed; -ETIME */
static int read_all(int fd, uint64_t deadline_ms, char *output, size_t size)
{
	size_t len = 0;

	for (;;) {
		uint64_t now = clock_monotonic_ms();
		struct pollfd wanted = { .fd = fd, .events = POLLIN };
		char more[512];
		ssize_t got;

		if (deadline_ms && now >= deadline_ms)
			return -ETIME;
		if (poll(&wanted, 1, deadline_ms ? (int)(deadline_ms - now) : -1) <= 0)
			continue;
		got = read(fd, more, sizeof(more));
		if (got <= 0)
			return 0;
		/* What there is no room for is read all the same, or the program would wait. */
		if ((size_t)got > size - 1 - len)
			got = (ssize_t)(size - 1 - len);
		memcpy(output + len, more, (size_t)got);
		len += (size_t)got;
		output[len] = '\0';
	}
}

static int wait_for(struct child *child, pid_t pid)
{
	int status;
	siginfo_t info;

	/* Its number stays taken until nobody can kill it by that any more. */
	while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
		;
	atomic_store(&child->pid, 0);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

int child_run(struct child *child, const char *const argv[], int timeout_ms, char *output, size_t size)
{
	uint64_t deadline_ms = timeout_ms < 0 ? 0 : clock_monotonic_ms() + (uint64_t)timeout_ms;
	pid_t pid, parent = getpid();
	char path[PATH_MAX];
	int ends[2], rc, status;

	output[0] = '\0';
	rc = find_program(argv[0], path);
	if (rc < 0)
		return rc;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		become(path, argv, ends[1], parent);
	rc = pid < 0 ? -errno : 0;
	close(ends[1]);
	if (rc < 0)
		goto out;
	atomic_store(&child->pid, pid);
	if (atomic_load(&child->is_ended))
		kill(pid, SIGKILL);
	rc = read_all(ends[0], deadline_ms, output, size);
	if (rc < 0)
		kill(pid, SIGKILL);
	status = wait_for(child, pid);
	if (rc == 0)
		rc = atomic_load(&child->is_ended) ? -ECANCELED : status;
out:
	close(ends[0]);
	return rc;
}

void child_kill(struct child *child)
{
	pid_t pid;

	atomic_store(&child->is_ended, 1);
	pid = atomic_load(&child->pid);
	if (pid > 0)
		kill(pid, SIGKILL);
}
