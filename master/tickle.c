/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/tickle.h"

#include "common/bare_ack.h"

int tickle_client(const struct fabric_flow *flow)
{
	const struct bare_ack unacceptable = { 0 }, reset = {
		.sequence = flow->server.next,
		.acknowledgment = flow->client.next,
		.resets = true,
	};
	struct bare_ack_sockets sockets = BARE_ACK_NO_SOCKETS;
	int rc = 0;

	if (flow->server.is_known && flow->client.is_known)
		rc = bare_ack_send(&sockets, &flow->flow, &reset);
	if (rc == 0)
		rc = bare_ack_send(&sockets, &flow->flow, &unacceptable);
	bare_ack_sockets_fini(&sockets);
	return rc;
}
