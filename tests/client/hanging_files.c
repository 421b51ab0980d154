/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/client/hanging_files.c - a file system whose disk stops to answer when it is told to
 *
 * Usage: hanging_files DIRECTORY
 *
 * Mounts at DIRECTORY a file system (FUSE) with one file, "file", of 64 KiB. Nothing of it is kept by the kernel: every
 * operation comes here. Commands are lines on standard input:
 *
 *	hang	from now on no operation is answered
 *	slow	from now on each takes five seconds
 *	busy N	from now on N at a time have their turn, in the order in which they came, of five milliseconds each
 *	go	all of them are answered at once, also those that waited
 *
 * Prints "ready" when it is mounted, and after each command its word. Ends with standard input, and unmounts. Exit
 * status: 0; 1 it failed; 2 wrong usage.
 */
#define FUSE_USE_VERSION 35
#include <errno.h>
#include <fuse.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FILE_BYTES = 64 * 1024, SLOW_S = 5, TURN_NS = 5000000, TURNS_MAX = 64 };

static const char file_path[] = "/file";

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static enum { GO, SLOW, HANG, BUSY } how;
static unsigned int at_a_time;		/* BUSY */
static uint64_t free_ns[TURNS_MAX]; /* ... when each of those that go on at a time ends; CLOCK_MONOTONIC */

/* With the mutex. Return: when the turn of whoever comes now ends */
static uint64_t take_turn(void)
{
	struct timespec now;
	uint64_t now_ns, *first = &free_ns[0];

	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	for (unsigned int i = 1; i < at_a_time; i++)
		if (free_ns[i] < *first)
			first = &free_ns[i];
	*first = (*first > now_ns ? *first : now_ns) + TURN_NS;
	return *first;
}

/* Whether it was. */
static bool wait_for_turn(void)
{
	struct timespec end;
	uint64_t end_ns;

	pthread_mutex_lock(&mutex);
	if (how != BUSY) {
		pthread_mutex_unlock(&mutex);
		return false;
	}
	end_ns = take_turn();
	pthread_mutex_unlock(&mutex);
	end = (struct timespec){ .tv_sec = (time_t)(end_ns / 1000000000u), .tv_nsec = (long)(end_ns % 1000000000u) };
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
		;
	return true;
}

static void disk(void)
{
	struct timespec end;

	if (wait_for_turn())
		return;
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += SLOW_S;
	pthread_mutex_lock(&mutex);
	while (how == SLOW || how == HANG)
		if (how == HANG)
			pthread_cond_wait(&changed, &mutex);
		else if (pthread_cond_timedwait(&changed, &mutex, &end) == ETIMEDOUT)
			break;
	pthread_mutex_unlock(&mutex);
}

static void set_how(int value)
{
	pthread_mutex_lock(&mutex);
	how = value;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
}

static void *on_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
	(void)connection;
	config->attr_timeout = config->entry_timeout = config->negative_timeout = 0;
	config->direct_io = 1;
	return NULL;
}

static int on_getattr(const char *path, struct stat *st, struct fuse_file_info *file)
{
	(void)file;
	disk();
	memset(st, 0, sizeof(*st));
	if (strcmp(path, "/") == 0) {
		*st = (struct stat){ .st_mode = S_IFDIR | 0755, .st_nlink = 2 };
		return 0;
	}
	if (strcmp(path, file_path) != 0)
		return -ENOENT;
	*st = (struct stat){ .st_mode = S_IFREG | 0644, .st_nlink = 1, .st_size = FILE_BYTES };
	return 0;
}

static int on_readdir(const char *path, void *list, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *file,
		      enum fuse_readdir_flags flags)
{
	(void)path, (void)offset, (void)file, (void)flags;
	disk();
	fill(list, ".", NULL, 0, 0);
	fill(list, "..", NULL, 0, 0);
	fill(list, file_path + 1, NULL, 0, 0);
	return 0;
}

static int on_read(const char *path, char *bytes, size_t len, off_t offset, struct fuse_file_info *file)
{
	(void)path, (void)file;
	disk();
	if (offset >= FILE_BYTES)
		return 0;
	if (len > (size_t)(FILE_BYTES - offset))
		len = (size_t)(FILE_BYTES - offset);
	memset(bytes, 'h', len);
	return (int)len;
}

static const struct fuse_operations operations = {
	.init = on_init,
	.getattr = on_getattr,
	.readdir = on_readdir,
	.read = on_read,
};

static void *serve(void *fuse)
{
	struct fuse_loop_config config = { .max_idle_threads = 10 };

	fuse_loop_mt(fuse, &config);
	return NULL;
}

static void set_busy(unsigned long count)
{
	if (count < 1 || count > TURNS_MAX)
		exit(2);
	pthread_mutex_lock(&mutex);
	at_a_time = (unsigned int)count;
	pthread_mutex_unlock(&mutex);
	set_how(BUSY);
}

static void obey(void)
{
	char line[16];

	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "busy ", 5) == 0)
			set_busy(strtoul(line + 5, NULL, 10));
		else if (strcmp(line, "hang") == 0 || strcmp(line, "slow") == 0 || strcmp(line, "go") == 0)
			set_how(line[0] == 'h' ? HANG : line[0] == 's' ? SLOW : GO);
		else
			exit(2);
		puts(line);
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	char *words[] = { argv[0], "-o", "allow_other,default_permissions", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, words);
	pthread_t thread;
	struct fuse *fuse;

	if (argc != 2) {
		fputs("Usage: hanging_files DIRECTORY\n", stderr);
		return 2;
	}
	fuse = fuse_new(&args, &operations, sizeof(operations), NULL);
	if (!fuse || fuse_mount(fuse, argv[1]) || pthread_create(&thread, NULL, serve, fuse)) {
		fprintf(stderr, "hanging_files: %s: can't be mounted\n", argv[1]);
		return 1;
	}
	puts("ready");
	fflush(stdout);
	obey();
	set_how(GO);
	fuse_exit(fuse);
	fuse_unmount(fuse); /* whoever waits for a request is woken by that */
	pthread_join(thread, NULL);
	fuse_destroy(fuse);
	fuse_opt_free_args(&args);
	return 0;
}
