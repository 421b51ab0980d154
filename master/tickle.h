/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/tickle.h - wake up a client whose connection has lost its device
 *
 * A client whose device fell silent hears of the new owner of its flow, by RST, when it sends its next segment. That is
 * its next retransmission, as far away as the silence was long, or in minutes if it waits for an answer. So it gets two
 * segments:
 *
 * - a RST with the sequence number that the client waits for, as the switch has seen it (inline): the client connects again at
 *   once. If a segment was lost on its way to the client, it answers with an ACK (RFC 5961, 3.2), as to the other one;
 * - an ACK that fits nothing, which makes its stack answer at once (RFC 9293, 3.10.7.4: an unacceptable segment draws an ACK);
 *   that answer draws the RST of the switch's stack, which fits.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_MASTER_TICKLE_H
#define VNAS_MASTER_TICKLE_H

#include "master/fabric.h"

/**
 * tickle_client() - send them to the client of a TCP flow, from the VIP
 *
 * Return: 0, whether or not they arrive; -EAFNOSUPPORT if the flow is not TCP; -EPERM without CAP_NET_RAW; -EADDRNOTAVAIL
 * if the VIP is not here
 */
int tickle_client(const struct fabric_flow *flow);

#endif
