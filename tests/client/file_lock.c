/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * file_lock - hold a lock by fcntl(2), for tests in a guest that has no other program for it
 *
 * Usage: file_lock try|wait FILE START LENGTH
 *
 * Locks for writing, says "locked", and holds it until it is killed. Exit status 1: somebody else has it (try) or the
 * lock failed, with the reason; 2: wrong usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd;

	if (argc != 5 || (strcmp(argv[1], "try") != 0 && strcmp(argv[1], "wait") != 0)) {
		fprintf(stderr, "usage: file_lock try|wait FILE START LENGTH\n");
		return 2;
	}
	lock.l_start = atoll(argv[3]);
	lock.l_len = atoll(argv[4]);
	fd = open(argv[2], O_RDWR);
	if (fd < 0 || fcntl(fd, strcmp(argv[1], "try") == 0 ? F_SETLK : F_SETLKW, &lock) < 0) {
		printf("%s: %s\n", argv[2], strerror(errno));
		return 1;
	}
	puts("locked");
	fflush(stdout);
	for (;;)
		pause();
}
