/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/mount_table.h - which client has mounted what, for MOUNT's DUMP
 *
 * As rpc.mountd's rmtab: a client that mounts is entered, one that unmounts is taken out, one that vanishes stays. So it
 * is for people to look at and nothing depends on it. Unlike rmtab it is in memory only and begins empty.
 *
 * Bounded: a client has at most MOUNT_TABLE_CLIENT_MAX entries, all together MOUNT_TABLE_MAX; a new one takes the place
 * of the client's, or of everybody's, oldest.
 *
 * Source: RFC 1813, 5.2.1 to 5.2.4.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_MOUNT_TABLE_H
#define VNAS_COMMON_MOUNT_TABLE_H

#include <netinet/in.h>
#include <sys/socket.h>

enum { MOUNT_TABLE_MAX = 4096, MOUNT_TABLE_CLIENT_MAX = 64 };

struct mount_table;

/* What is seen of an entry; borrowed until the table is changed. */
struct mounted {
	char client[INET6_ADDRSTRLEN]; /* its address; an IPv4-mapped one as IPv4 */
	const char *path;	       /* as the client said it */
};

/* Return: NULL without memory */
struct mount_table *mount_table_new(void);
void mount_table_free(struct mount_table *table);

/* Enter a mount; one that is there already becomes the newest. Without memory it is not entered. */
void mount_table_add(struct mount_table *table, const struct sockaddr_storage *client, const char *path);

/* Take out a client's mount of @path; NULL: all of the client's. */
void mount_table_remove(struct mount_table *table, const struct sockaddr_storage *client, const char *path);

/**
 * mount_table_next() - go through the table, the newest first
 * @at:		NULL: from the start; else what the last call returned
 *
 * Return: the next entry; NULL at the end
 */
const struct mounted *mount_table_next(const struct mount_table *table, const struct mounted *at);

#endif
