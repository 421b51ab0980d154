/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/platform/netns.h - network namespaces without names
 *
 * Namespaces, veth pairs and a bpffs that only this process sees: whatever way it ends, the kernel removes them. Names
 * could be left behind.
 */
#ifndef VNAS_TESTS_PLATFORM_NETNS_H
#define VNAS_TESTS_PLATFORM_NETNS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define NETNS_BPFFS "/sys/fs/bpf"

/* Exit with 77, "skipped", and say why. */
void skip(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Exit with 1 and say why. */
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#define CHECK(condition) \
	((condition) ? (void)0 : fail("%s:%d: not true: %s", __FILE__, __LINE__, #condition))

/* Expects 0 from a function of ours. */
#define CHECK_OK(call) check_ok(__FILE__, __LINE__, #call, (call))

void check_ok(const char *file, int line, const char *what, int err);

/* Skip unless namespaces may be made here; a bpffs of our own at NETNS_BPFFS if @with_bpf. */
void netns_setup(bool with_bpf);

/* A new namespace with lo up and the settings of a disk node (handoff.md 5.1). Stays in the caller's. */
int netns_new(void);

void netns_enter(int netns);

/* A veth pair between two namespaces, both ends up, offloads as veth has them. */
void netns_link(int netns_a, const char *name_a, int netns_b, const char *name_b);

/* Run a shell command in a namespace; fail unless it returns 0. */
void netns_run(int netns, const char *format, ...) __attribute__((format(printf, 2, 3)));

void netns_sysctl(int netns, const char *path, const char *value);

void netns_mac(int netns, const char *interface, uint8_t mac[static 6]);

/* A counter of /proc/net/netstat or snmp, "TcpExt TCPTimeouts", "Tcp OutRsts". */
uint64_t netns_counter(int netns, const char *group, const char *name);

/* "10.0.0.1" or "2001:db8::1" and a port. Returns the length. */
socklen_t netns_address(const char *address, uint16_t port, struct sockaddr_storage *out);

/* A listening socket, and a connected blocking one. Namespace -1: the caller's. */
int netns_listen(int netns, const char *address, uint16_t port);
int netns_connect(int netns, const char *address, uint16_t port);

#endif
