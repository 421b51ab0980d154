/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/tickle.h"

#include "common/bare_ack.h"

int tickle_client(const struct flow_key *flow)
{
	return bare_ack_send(flow, &(struct bare_ack){ 0 });
}
