/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * common/congestion.bpf.c - a restored connection goes on with the congestion window that it had
 *
 * Runs for the daemon's cgroup. connect(2) of a socket in repair mode ends in ACTIVE_ESTABLISHED, like any other, right after the kernel has
 * set the window to its initial value. Which one it should be the daemon has written into the socket's own storage; other
 * sockets have none.
 */
#include "common/congestion_map.h"

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

enum { SOL_TCP = 6 };

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct congestion_wish);
} CONGESTION_WISHES SEC(".maps");

SEC("sockops")
int congestion_restore(struct bpf_sock_ops *ops)
{
	struct bpf_sock *socket = ops->sk;
	struct congestion_wish *wish;
	int window;

	if (ops->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || !socket)
		return 1;
	wish = bpf_sk_storage_get(&CONGESTION_WISHES, socket, 0, 0);
	if (!wish)
		return 1;
	window = (int)wish->window;
	bpf_setsockopt(ops, SOL_TCP, TCP_BPF_IW, &window, sizeof(window));
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
