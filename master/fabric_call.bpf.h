/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * master/fabric_call.bpf.h - whose volume a call over UDP is about
 *
 * Reads an ONC RPC call (RFC 5531, 9) as far as the first file handle in its arguments, and of that the volume id (docs/protocol.md,
 * File handles). Who is to answer must check all of it again: this only chooses who that is.
 *
 * There is a handle in all procedures of NFS version 3 and NFSACL but NULL, where it comes first, and in those of NLM that are about
 * a file, behind a cookie and a client's name, both of bounded length. MOUNT, NSM and RQUOTA have none.
 *
 * Part of master/fabric.bpf.c.
 */
#ifndef VNAS_MASTER_FABRIC_CALL_BPF_H
#define VNAS_MASTER_FABRIC_CALL_BPF_H

#include "common/bpf_packet.h"

enum {
	CALL_NFS = 100003,
	CALL_NFS_ACL = 100227,
	CALL_NLM = 100021,
	CALL_RPC_VERSION = 2,
	CALL_AUTH_MAX = 400,	/* RFC 5531, 8.2 */
	CALL_NETOBJ_MAX = 1024, /* XNFS, 10 */
	CALL_HANDLE_MIN = 16,
	CALL_HANDLE_MAX = 64,
	CALL_HANDLE_VERSION = 1,
};

/* What all calls begin with. */
struct call_header {
	__be32 xid, type, rpc_version, program, version, procedure;
};

struct call_handle {
	__be32 len;
	__u8 version, type;
	__be16 kernel_type;
	__be32 volume;
};

static __always_inline long call_skip_opaque(struct __sk_buff *skb, __u32 *at, __u32 max)
{
	__be32 wire;
	__u32 len;

	if (bpf_skb_load_bytes(skb, *at, &wire, sizeof(wire)))
		return -1;
	len = bpf_ntohl(wire);
	if (len > max)
		return -1;
	*at += sizeof(wire) + ((len + 3) & ~3u);
	return 0;
}

/* Booleans between the cookie and the lock or share in the arguments of an NLM procedure, or of its _MSG; -1: no handle */
static __always_inline int call_nlm_flags(__u32 procedure)
{
	switch (procedure) {
	case 1: /* TEST */
	case 6:
		return 1;
	case 2: /* LOCK */
	case 7:
	case 3: /* CANCEL */
	case 8:
	case 22: /* NM_LOCK */
		return 2;
	case 4: /* UNLOCK */
	case 9:
	case 20: /* SHARE */
	case 21: /* UNSHARE */
		return 0;
	default:
		return -1;
	}
}

static __always_inline long call_skip_to_lock(struct __sk_buff *skb, __u32 procedure, __u32 *at)
{
	int flags = call_nlm_flags(procedure);

	if (flags < 0 || call_skip_opaque(skb, at, CALL_NETOBJ_MAX))
		return -1;
	*at += (__u32)flags * sizeof(__be32);
	return call_skip_opaque(skb, at, CALL_NETOBJ_MAX);
}

/* @at: in: the arguments; out: the handle in them */
static __always_inline long call_find_handle(struct __sk_buff *skb, const struct call_header *header, __u32 *at)
{
	__u32 procedure = bpf_ntohl(header->procedure), version = bpf_ntohl(header->version);

	switch (bpf_ntohl(header->program)) {
	case CALL_NFS:
	case CALL_NFS_ACL:
		return version == 3 && procedure ? 0 : -1;
	case CALL_NLM:
		return call_skip_to_lock(skb, procedure, at);
	default:
		return -1;
	}
}

/* @at: where the datagram's data begin. Return: 0: the virtual root's; or there is no telling */
static __always_inline __u32 call_volume(struct __sk_buff *skb, __u32 at)
{
	struct call_header header;
	struct call_handle handle;
	__u32 len;

	if (bpf_skb_load_bytes(skb, at, &header, sizeof(header)) || header.type ||
	    header.rpc_version != bpf_htonl(CALL_RPC_VERSION))
		return 0;
	at += sizeof(header) + sizeof(__be32); /* credentials: flavor, body; verifier: the same */
	if (call_skip_opaque(skb, &at, CALL_AUTH_MAX))
		return 0;
	at += sizeof(__be32);
	if (call_skip_opaque(skb, &at, CALL_AUTH_MAX) || call_find_handle(skb, &header, &at) ||
	    bpf_skb_load_bytes(skb, at, &handle, sizeof(handle)))
		return 0;
	len = bpf_ntohl(handle.len);
	if (len < CALL_HANDLE_MIN || len > CALL_HANDLE_MAX || handle.version != CALL_HANDLE_VERSION)
		return 0;
	return bpf_ntohl(handle.volume);
}

#endif
