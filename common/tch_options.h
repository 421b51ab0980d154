/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/tch_options.h - a session's facts as options (Fig. 4B)
 *
 * Pure: bytes from values and back. docs/protocol.md lists the options.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_TCH_OPTIONS_H
#define VNAS_COMMON_TCH_OPTIONS_H

#include "common/tch.h"

/**
 * tch_options_encode() - a session's facts as options
 * @state:	the kernel's; its queues travel beside the options
 * @facts:	the server's, and what its socket is told
 * @kind:	of the handoff
 * @out:	TCH_OPTIONS_MAX bytes of room
 *
 * Return: bytes; -ENOSPC
 * Source: Fig. 4B: endpoint option (kind 255, boxes 470-474), update option (kind 254, boxes 480-484); the rest in the
 * same form, docs/protocol.md lists them
 */
int tch_options_encode(const struct kernel_helper_state *state, const struct tch_facts *facts,
		       enum tch_kind_of_handoff kind, uint8_t out[static TCH_OPTIONS_MAX]);

/**
 * tch_options_decode() - and back
 * @state, @facts, @kind: out: the parts that options carry; untouched on failure
 *
 * Unknown options are stepped over ("unrecognized options ... are to be discarded"), the first of a kind counts.
 *
 * Return: 0; -ENOENT if the endpoint or update option is missing; -EBADMSG if an option runs past @len or has a
 * wrong length or value
 */
int tch_options_decode(const uint8_t *options, size_t len, struct kernel_helper_state *state, struct tch_facts *facts,
		       enum tch_kind_of_handoff *kind);

enum { TCH_CAPABILITIES_BYTES = 7 };

/* What a device can (enum tch_capability) as options of Open, or of its answer. Return: bytes */
int tch_capabilities_encode(unsigned int capabilities, uint8_t out[static TCH_CAPABILITIES_BYTES]);

/**
 * tch_capabilities_decode() - and back
 * @out:	out: also bits that this version does not know; untouched on failure
 *
 * What follows the bits in the option is left to later versions.
 *
 * Return: 0; -ENOENT if nothing is said of it; -EBADMSG as tch_options_decode()
 */
int tch_capabilities_decode(const uint8_t *options, size_t len, unsigned int *out);

#endif
