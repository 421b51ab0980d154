/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/tickle.h - wake up a client whose connection has lost its device
 *
 * A client whose device fell silent hears of the new owner of its flow, by RST, when it sends its next segment. That is
 * its next retransmission, as far away as the silence was long, or in minutes if it waits for an answer. An ACK that
 * fits nothing makes its stack answer at once (RFC 9293, 3.10.7.4: an unacceptable segment draws an ACK); that answer draws
 * the RST, and the client connects again.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_MASTER_TICKLE_H
#define VNAS_MASTER_TICKLE_H

#include "common/flow.h"

/**
 * tickle_client() - send the client of a TCP flow that ACK, from the VIP
 *
 * Return: 0, whether or not it arrives; -EAFNOSUPPORT if the flow is not TCP; -EPERM without CAP_NET_RAW; -EADDRNOTAVAIL
 * if the VIP is not here
 */
int tickle_client(const struct flow_key *flow);

#endif
