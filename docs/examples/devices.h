/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * docs/examples/devices.h - a small cluster for a server of your own: three devices, of which the first is the switch
 *
 * All that a server needs beside itself: the kernel's part, the switch's forwarding table, a way between the devices, and the struct
 * tch on top of them. Each pair of devices has a plain TCP connection, made by the one with the higher number. Who is on their
 * network is believed: a real server encrypts and authenticates (ours: scp/scp.h).
 */
#ifndef VNAS_EXAMPLES_DEVICES_H
#define VNAS_EXAMPLES_DEVICES_H

#include "common/tch.h"

enum { DEVICES = 3, DEVICES_PORT = 2050, DEVICES_SWITCH = 1 };

struct event_base;
struct devices;
struct sockaddr;

struct devices_options {
	struct event_base *base;
	const struct tch_server *server; /* server_arg: NULL */
	void (*on_ready)(void);		 /* all devices are connected */
	uint32_t self;
	const char *vip;
	const char *pin_dir;		  /* on a bpffs */
	const char *interface;		  /* towards the other devices */
	const char *client_interface;	  /* the switch's */
	const char *addresses[DEVICES + 1]; /* by number */
};

#define DEVICES_USAGE "DEVICE VIP PIN_DIR INTERFACE[,CLIENT_INTERFACE] ADDRESS ADDRESS ADDRESS"

/* Arguments of a program as in DEVICES_USAGE. @out: out: borrows them. Return: 0; -EINVAL */
int devices_parse(int argc, char **argv, struct devices_options *out);

/* 0 or a negative errno value */
int devices_new(const struct devices_options *options, struct devices **out);
void devices_free(struct devices *devices);

struct tch *devices_tch(struct devices *devices);

/* A connection was accepted. @out: out: all but own. Return: 0; -EAFNOSUPPORT, ... */
int devices_adopt(struct devices *devices, int fd, const struct sockaddr *client, struct tch_session *out);

#endif
