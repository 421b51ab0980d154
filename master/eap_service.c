/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/eap_service.h"

#include "common/clock.h"
#include "common/log.h"
#include "master/fabric.h"
#include "master/sessions.h"
#include "scp/eap.h"
#include "scp/log_once.h"
#include "scp/scp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* What was said about one reason. */
struct complaint {
	const char *reason; /* NULL: not used yet */
	uint64_t count;
	uint64_t said_ms; /* monotonic clock */
};

struct eap_service {
	struct fabric *fabric;
	struct sessions *sessions;
	struct event *moves, *look;
	struct complaint complaints[FABRIC_REFUSALS_MAX];
	uint64_t refused; /* over SCP */
	struct log_once once;
};

/* ESTALE: the devices' reports were faster. */
static void on_move(const struct fabric_move *move, void *arg)
{
	struct eap_service *service = arg;
	char text[FLOW_TEXT_MAX];

	log_debug("eap", "flow=%s from node=%u to node=%u handoff=%u", flow_text(&move->flow, text), move->from,
		  move->device, move->transaction);
	sessions_moved(service->sessions, &move->flow, move->device, move->transaction);
}

void eap_service_catch_up(struct eap_service *service)
{
	if (service)
		fabric_moves_read(service->fabric, on_move, service);
}

static void on_moves(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	eap_service_catch_up(arg);
}

/* Refusals */

static struct complaint *find_complaint(struct eap_service *service, const char *reason)
{
	struct complaint *complaint = service->complaints;

	while (complaint->reason && strcmp(complaint->reason, reason) != 0)
		complaint++;
	complaint->reason = reason;
	return complaint;
}

static void complain(const struct fabric_refusal *refusal, uint64_t more)
{
	const uint8_t *mac = refusal->mac;
	char address[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET6, refusal->address, address, sizeof(address));
	log_warn("fabric",
		 "reason=%s packets=%ju refused; the last: mac=%02x:%02x:%02x:%02x:%02x:%02x node=%u address=%s",
		 refusal->reason, (uintmax_t)more, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], refusal->device,
		 address);
}

/* Counters that have grown since the last line about them; a table that was taken up begins with news. */
static void on_refusal(const struct fabric_refusal *refusal, void *arg)
{
	struct eap_service *service = arg;
	struct complaint *complaint = find_complaint(service, refusal->reason);
	uint64_t now_ms = clock_monotonic_ms();

	if (refusal->count == complaint->count ||
	    (complaint->said_ms && now_ms - complaint->said_ms < EAP_SERVICE_QUIET_MS))
		return;
	complain(refusal, refusal->count - complaint->count);
	complaint->count = refusal->count;
	complaint->said_ms = now_ms;
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	struct eap_service *service = arg;

	(void)fd, (void)what;
	fabric_refusals(service->fabric, on_refusal, service);
}

void eap_service_refused(struct eap_service *service, uint32_t node, int error)
{
	char name[16];

	if (!service)
		return;
	service->refused++;
	snprintf(name, sizeof(name), "%u", node);
	if (log_once_is_new(&service->once, name, strerror(-error), clock_monotonic_ms()))
		log_warn("eap", "node=%u refused: %s", node, strerror(-error));
}

uint64_t eap_service_refused_count(const struct eap_service *service)
{
	return service ? service->refused : 0;
}

/* Keys */

void eap_service_give_key(struct eap_service *service, struct scp *scp, uint32_t node, uint32_t request)
{
	scp_message message = { .type = SCP_EAP_KEY };
	uint8_t *key = (uint8_t *)message.scp_message_u.eap_key.key;
	int rc = getrandom(key, EAP_KEY_BYTES, 0) == EAP_KEY_BYTES ? 0 : -errno;

	if (rc == 0)
		rc = fabric_key_set(service->fabric, node, key);
	if (rc == 0)
		rc = scp_send(scp, node, SCP_CONTROL, request, &message);
	if (rc < 0)
		log_warn("eap", "node=%u gets no key: %s; it asks over SCP", node, strerror(-rc));
}

/* Life */

int eap_service_new(struct event_base *base, struct fabric *fabric, struct sessions *sessions, struct eap_service **out)
{
	struct eap_service *service = calloc(1, sizeof(*service));

	if (!service)
		return -ENOMEM;
	service->fabric = fabric;
	service->sessions = sessions;
	service->moves = event_new(base, fabric_moves_fd(fabric), EV_READ | EV_PERSIST, on_moves, service);
	service->look = event_new(base, -1, EV_PERSIST, on_look, service);
	if (!service->moves || !service->look) {
		eap_service_free(service);
		return -ENOMEM;
	}
	event_add(service->moves, NULL);
	event_add(service->look, &(struct timeval){ .tv_sec = EAP_SERVICE_LOOK_MS / 1000 });
	eap_service_catch_up(service);
	*out = service;
	return 0;
}

void eap_service_free(struct eap_service *service)
{
	if (!service)
		return;
	if (service->moves)
		event_free(service->moves);
	if (service->look)
		event_free(service->look);
	free(service);
}
