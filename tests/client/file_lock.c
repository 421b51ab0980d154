/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * file_lock - hold a lock by fcntl(2), for tests in a guest that has no other program for it
 *
 * Usage: file_lock try|wait FILE START LENGTH [START LENGTH]
 *
 * Locks for writing, says "locked", and holds it until it is killed. With a second range: waits for SIGUSR1, then for a lock of
 * that. Exit status 1: somebody else has it (try) or a lock failed, with the reason; 2: wrong usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void lock(const char *path, int fd, int command, char *const range[2])
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = atoll(range[0]), .l_len = atoll(range[1]) };

	if (fd < 0 || fcntl(fd, command, &lock) < 0) {
		printf("%s: %s\n", path, strerror(errno));
		exit(1);
	}
	puts("locked");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	sigset_t go_on;
	int fd, number;

	if ((argc != 5 && argc != 7) || (strcmp(argv[1], "try") != 0 && strcmp(argv[1], "wait") != 0)) {
		fprintf(stderr, "usage: file_lock try|wait FILE START LENGTH [START LENGTH]\n");
		return 2;
	}
	sigemptyset(&go_on);
	sigaddset(&go_on, SIGUSR1);
	sigprocmask(SIG_BLOCK, &go_on, NULL);
	fd = open(argv[2], O_RDWR);
	lock(argv[2], fd, strcmp(argv[1], "try") == 0 ? F_SETLK : F_SETLKW, argv + 3);
	if (argc == 7) {
		sigwait(&go_on, &number);
		lock(argv[2], fd, F_SETLKW, argv + 5);
	}
	for (;;)
		pause();
}
