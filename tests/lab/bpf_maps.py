# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/bpf_maps.py - what is in the pinned BPF maps of a lab's host
"""

import ctypes
import ipaddress
import os
import struct

FLOW_KEY_BYTES = 40    # struct flow_key, common/flow.h


NODE_FLOW_BYTES = 104  # struct node_flow, common/node_map.h; the first is its state
HOLD = 1


def held(host):
    """[(client's address, port)...]: what the node program of a host in the plan parks packets of"""
    value = ctypes.create_string_buffer(NODE_FLOW_BYTES)

    def is_held(libbpf, fd, key):
        return libbpf.bpf_map_lookup_elem(fd, key, value) == 0 and value.raw[0] == HOLD
    return flows(host, "node_flows", is_held)


def flows(host, name, is_wanted=lambda libbpf, fd, key: True):
    """[(client's address, port)...]: the keys of the pinned map @name, a map of flows; host as in the plan"""
    libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    fd = libbpf.bpf_obj_get(os.path.join(host["bpffs"], "vnas", name).encode())
    if fd < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    found, key, after = [], None, ctypes.create_string_buffer(FLOW_KEY_BYTES)
    try:
        while libbpf.bpf_map_get_next_key(fd, key, after) == 0:
            key = ctypes.create_string_buffer(after.raw, FLOW_KEY_BYTES)
            if is_wanted(libbpf, fd, key):
                found.append(client_of(after.raw))
    finally:
        os.close(fd)
    return found


def client_of(key):
    address = ipaddress.IPv6Address(key[:16])
    return str(address.ipv4_mapped or address), struct.unpack_from(">H", key, 32)[0]
