/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/congestion.h - restored connections go on with the congestion window that they had
 *
 * Linux has no socket option for it: a connection made in repair mode begins with ten packets. So a sockops program
 * (common/congestion.bpf.c) on this process's cgroup sets the window inside connect(2), and only of sockets that it was asked for.
 * It is held by a link that ends with the process: nothing is pinned, nothing stays.
 *
 * Part of the kernel helper. Knows nothing of packets or of repair mode.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_CONGESTION_H
#define VNAS_COMMON_CONGESTION_H

#include <stdint.h>

/* Packets. */
enum {
	CONGESTION_WINDOW_INITIAL = 10, /* the kernel's own (RFC 6928) */
	CONGESTION_WINDOW_MAX = 65535,	/* 90 MiB under way are enough for any network */
};

struct congestion;

/**
 * congestion_new() - load the program and put it on this process's cgroup
 * @out:	out: untouched on failure
 *
 * Return: 0; -ENOENT if there is no cgroup (version 2) that can be seen from here; or what the kernel said
 */
int congestion_new(struct congestion **out);

/* NULL is allowed. */
void congestion_free(struct congestion *congestion);

/**
 * congestion_wish() - with which window a socket begins
 * @congestion:	NULL: with the kernel's
 * @fd:		a TCP socket that is not connected yet
 * @window:	packets, as TCP_INFO says of the connection's old socket; more than CONGESTION_WINDOW_MAX is that; 0: the kernel's
 *
 * Return: 0; -ENOMEM or what the kernel said: then it begins with the kernel's
 */
int congestion_wish(struct congestion *congestion, int fd, uint32_t window);

#endif
