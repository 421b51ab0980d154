/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "docs/examples/devices.h"

#include "common/bytes.h"
#include "common/tch_message.h"
#include "master/fabric.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* What is said: a byte that tells what, then that. Except for TCH messages the length is fixed. */
enum { SAY_HELLO = 'h', SAY_TCH = 't', SAY_ANNOUNCE = 'a', SAY_CHANGE_OWNER = 'c', SAY_CHANGED = 'd', AGAIN_MS = 100 };
enum { FLOWS_MAX = 1024 };
enum { HELLO_BYTES = 4 + 6, OWNER_BYTES = sizeof(struct flow_key) + 4 + 2 };

struct peer {
	struct devices *all;
	uint32_t node; /* 0: has not said */
	uint8_t mac[6];
	struct bufferevent *stream; /* NULL: not connected */
	struct event *again;
};

struct devices {
	struct devices_options options;
	uint32_t next_session;
	struct kernel_helper *helper;
	struct fabric *fabric; /* the switch's, else NULL */
	struct evconnlistener *listener;
	struct tch *tch; /* what comes goes there */
	uint8_t mac[6];
	struct peer peers[DEVICES + 1]; /* by number */
	struct peer strangers[DEVICES]; /* have connected, and not said who they are */
};

static struct peer *up(struct devices *devices, uint32_t node)
{
	struct peer *peer = node >= 1 && node <= DEVICES ? &devices->peers[node] : NULL;

	return peer && peer->stream && peer->node ? peer : NULL;
}

static void say(struct peer *peer, uint8_t what, const void *bytes, size_t len)
{
	struct evbuffer *out = bufferevent_get_output(peer->stream);

	evbuffer_add(out, &what, 1);
	evbuffer_add(out, bytes, len);
}

static void say_owner(struct peer *peer, uint8_t what, const struct flow_key *flow, uint32_t node, uint16_t transaction)
{
	uint8_t bytes[OWNER_BYTES];
	struct bytes_writer w = bytes_writer_init(bytes, sizeof(bytes));

	bytes_put(&w, flow, sizeof(*flow));
	bytes_put_be32(&w, node);
	bytes_put_be16(&w, transaction);
	say(peer, what, bytes, sizeof(bytes));
}

/* At the switch. If it has given the flow away since, there is nothing left to be asked. */
static bool give(struct devices *devices, uint32_t from, const struct flow_key *flow, uint32_t node, uint16_t transaction)
{
	uint32_t generation;
	int rc = fabric_flow_give(devices->fabric, flow, from, node, transaction, &generation);

	return rc == 0 || rc == -EALREADY || rc == -ESTALE;
}

/* struct tch_network */

static int send_message(uint32_t node, const struct tch_message *message, void *arg)
{
	struct peer *peer = up(arg, node);
	uint8_t *bytes;
	int len;

	if (!peer)
		return -ENOTCONN;
	len = tch_message_encode(message, &bytes);
	if (len < 0)
		return len;
	say(peer, SAY_TCH, bytes, (size_t)len);
	free(bytes);
	return 0;
}

static int find_node(uint32_t node, bool is_special, uint8_t mac[static 6], unsigned int *ifindex, void *arg)
{
	struct devices *devices = arg;
	struct peer *peer = up(devices, node);

	(void)is_special; /* all are of one version */
	if (!peer)
		return -EHOSTDOWN;
	memcpy(mac, peer->mac, 6);
	*ifindex = if_nametoindex(devices->options.interface);
	return *ifindex ? 0 : -ENODEV;
}

static void change_owner(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg)
{
	struct devices *devices = arg;
	struct peer *peer = up(devices, DEVICES_SWITCH);

	if (devices->fabric && give(devices, devices->options.self, flow, node, transaction))
		tch_confirmed(devices->tch, flow, node, transaction);
	else if (peer)
		say_owner(peer, SAY_CHANGE_OWNER, flow, node, transaction);
	/* else it will be asked again */
}

/* The switch lets nobody speak whom it does not expect to. */
static void announce_owner(const struct flow_key *flow, uint32_t node, uint16_t transaction, void *arg)
{
	struct devices *devices = arg;
	struct peer *peer = up(devices, DEVICES_SWITCH);

	if (devices->fabric)
		fabric_flow_announce(devices->fabric, flow, devices->options.self, node);
	else if (peer)
		say_owner(peer, SAY_ANNOUNCE, flow, node, transaction);
}

static const struct tch_network network = {
	.send = send_message,
	.find_node = find_node,
	.change_owner = change_owner,
	.announce_owner = announce_owner,
};

/* Connections */

static void peer_close(struct peer *peer)
{
	uint32_t node = peer->node;

	bufferevent_free(peer->stream);
	peer->stream = NULL;
	peer->node = 0;
	if (node && peer->all->tch)
		tch_node_lost(peer->all->tch, node);
	if (peer->again)
		event_add(peer->again, &(struct timeval){ .tv_usec = AGAIN_MS * 1000 });
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
	(void)stream;
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		peer_close(arg);
}

static bool all_are_up(struct devices *devices)
{
	for (uint32_t node = 1; node <= DEVICES; node++)
		if (node != devices->options.self && !up(devices, node))
			return false;
	return true;
}

static void on_readable(struct bufferevent *stream, void *arg);

/* From now on it is known by its number. */
static int heard_hello(struct peer *peer, struct bytes_reader *r)
{
	struct devices *devices = peer->all;
	struct peer *known;
	uint32_t node = bytes_get_be32(r);

	if (node < 1 || node > DEVICES || node == devices->options.self || peer->node)
		return -EBADMSG;
	known = &devices->peers[node];
	if (known != peer) {
		if (known->stream)
			peer_close(known);
		known->stream = peer->stream;
		peer->stream = NULL;
		bufferevent_setcb(known->stream, on_readable, NULL, on_event, known);
	}
	known->node = node;
	memcpy(known->mac, bytes_take(r, 6), 6);
	if (devices->fabric &&
	    fabric_device_set(devices->fabric, node, known->mac, devices->options.interface) < 0)
		return -EIO;
	if (all_are_up(devices))
		devices->options.on_ready();
	return 0;
}

static void heard_owner(struct peer *peer, uint8_t what, struct bytes_reader *r)
{
	struct devices *devices = peer->all;
	struct flow_key flow;
	uint32_t node;
	uint16_t transaction;

	memcpy(&flow, bytes_take(r, sizeof(flow)), sizeof(flow));
	node = bytes_get_be32(r);
	transaction = bytes_get_be16(r);
	if (what == SAY_CHANGED && devices->tch)
		tch_confirmed(devices->tch, &flow, node, transaction);
	else if (what == SAY_ANNOUNCE && devices->fabric)
		fabric_flow_announce(devices->fabric, &flow, peer->node, node);
	else if (what == SAY_CHANGE_OWNER && devices->fabric && give(devices, peer->node, &flow, node, transaction))
		say_owner(peer, SAY_CHANGED, &flow, node, transaction);
}

/* Return: the bytes of what the input begins with; 0: not all is there; a negative errno value: nonsense */
static int hear(struct peer *peer, const uint8_t *bytes, size_t len)
{
	struct bytes_reader r = bytes_reader_init(bytes + 1, len - 1);
	struct tch_message message;
	size_t need;
	int rc;

	if (bytes[0] == SAY_TCH && peer->node) {
		rc = tch_message_decode(bytes + 1, len - 1, &message);
		if (rc > 0 && peer->all->tch)
			tch_received(peer->all->tch, peer->node, &message);
		return rc > 0 ? rc + 1 : rc;
	}
	need = bytes[0] == SAY_HELLO ? HELLO_BYTES : OWNER_BYTES;
	if (bytes[0] != SAY_HELLO &&
	    !(peer->node && (bytes[0] == SAY_ANNOUNCE || bytes[0] == SAY_CHANGE_OWNER || bytes[0] == SAY_CHANGED)))
		return -EBADMSG;
	if (len - 1 < need)
		return 0;
	if (bytes[0] != SAY_HELLO)
		heard_owner(peer, bytes[0], &r);
	else if ((rc = heard_hello(peer, &r)) < 0)
		return rc;
	return (int)need + 1;
}

static void on_readable(struct bufferevent *stream, void *arg)
{
	struct peer *peer = arg;
	struct evbuffer *in = bufferevent_get_input(stream);
	size_t len;

	while ((len = evbuffer_get_length(in))) {
		int rc = hear(peer, evbuffer_pullup(in, -1), len);

		if (rc > 0)
			evbuffer_drain(in, (size_t)rc);
		if (rc < 0)
			peer_close(peer);
		if (rc <= 0 || peer->stream != stream) {
			if (rc > 0 && evbuffer_get_length(in)) /* the rest is for its number */
				bufferevent_trigger(stream, EV_READ, BEV_OPT_DEFER_CALLBACKS);
			return;
		}
	}
}

static void peer_begin(struct peer *peer, struct bufferevent *stream)
{
	uint8_t hello[HELLO_BYTES];
	struct bytes_writer w = bytes_writer_init(hello, sizeof(hello));
	int fd = bufferevent_getfd(stream);

	peer->stream = stream;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	bufferevent_setcb(stream, on_readable, NULL, on_event, peer);
	bufferevent_enable(stream, EV_READ | EV_WRITE);
	bytes_put_be32(&w, peer->all->options.self);
	bytes_put(&w, peer->all->mac, 6);
	say(peer, SAY_HELLO, hello, sizeof(hello));
}

static struct sockaddr_in peer_address(const struct devices *devices, uint32_t node)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(DEVICES_PORT) };

	inet_pton(AF_INET, devices->options.addresses[node], &address.sin_addr);
	return address;
}

static void peer_connect(evutil_socket_t fd, short what, void *arg)
{
	struct peer *peer = arg;
	struct sockaddr_in address = peer_address(peer->all, (uint32_t)(peer - peer->all->peers));
	struct bufferevent *stream = bufferevent_socket_new(peer->all->options.base, -1, BEV_OPT_CLOSE_ON_FREE);

	(void)fd, (void)what;
	if (stream && bufferevent_socket_connect(stream, (struct sockaddr *)&address, sizeof(address)) == 0) {
		peer_begin(peer, stream);
		return;
	}
	if (stream)
		bufferevent_free(stream);
	event_add(peer->again, &(struct timeval){ .tv_usec = AGAIN_MS * 1000 });
}

static void on_connection(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int len, void *arg)
{
	struct devices *devices = arg;
	struct bufferevent *stream;

	(void)listener, (void)address, (void)len;
	for (int i = 0; i < DEVICES; i++) {
		if (devices->strangers[i].stream)
			continue;
		stream = bufferevent_socket_new(devices->options.base, fd, BEV_OPT_CLOSE_ON_FREE);
		if (stream) {
			peer_begin(&devices->strangers[i], stream);
			return;
		}
	}
	close(fd);
}

static int read_mac(const char *interface, uint8_t mac[static 6])
{
	struct ifreq request = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

	strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
	rc = ioctl(fd, SIOCGIFHWADDR, &request) < 0 ? -errno : 0;
	memcpy(mac, request.ifr_hwaddr.sa_data, 6);
	close(fd);
	return rc;
}

static int start_connections(struct devices *devices)
{
	struct sockaddr_in address = peer_address(devices, devices->options.self);
	int rc = read_mac(devices->options.interface, devices->mac);

	if (rc < 0)
		return rc;
	for (uint32_t node = 1; node < devices->options.self; node++) {
		devices->peers[node].again = evtimer_new(devices->options.base, peer_connect, &devices->peers[node]);
		if (!devices->peers[node].again)
			return -ENOMEM;
		event_add(devices->peers[node].again, &(struct timeval){ 0 });
	}
	devices->listener = evconnlistener_new_bind(devices->options.base, on_connection, devices,
						    LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE | LEV_OPT_CLOSE_ON_EXEC, -1,
						    (struct sockaddr *)&address, sizeof(address));
	return devices->listener ? 0 : -EADDRNOTAVAIL;
}

/* The kernel's part. */

static int start_helper(struct devices *devices)
{
	const struct devices_options *options = &devices->options;
	struct kernel_helper_options helper = { .park_name = "vnas-park", .interface_count = options->client_interface ? 2 : 1 };
	char pin_dir[256];

	snprintf(pin_dir, sizeof(pin_dir), "%s/device-%u", options->pin_dir, options->self);
	helper.pin_dir = pin_dir;
	snprintf(helper.interfaces[0], IFNAMSIZ, "%s", options->interface);
	snprintf(helper.interfaces[1], IFNAMSIZ, "%s", options->client_interface ?: "");
	return kernel_helper_new(options->base, &helper, &devices->helper);
}

static int start_fabric(struct devices *devices)
{
	const struct devices_options *options = &devices->options;
	struct fabric_options fabric = { .client_port_count = 1, .device_port_count = 1, .vip_count = 1, .flows_max = FLOWS_MAX };
	char pin_dir[256];

	snprintf(pin_dir, sizeof(pin_dir), "%s/fabric", options->pin_dir);
	fabric.pin_dir = pin_dir;
	snprintf(fabric.client_ports[0], IFNAMSIZ, "%s", options->client_interface ?: "");
	snprintf(fabric.device_ports[0], IFNAMSIZ, "%s", options->interface);
	fabric.vips[0][10] = fabric.vips[0][11] = 0xff;
	inet_pton(AF_INET, options->vip, fabric.vips[0] + 12);
	return fabric_new(&fabric, &devices->fabric);
}

/* The whole */

static int start(struct devices *devices)
{
	struct tch_setup setup = {
		.base = devices->options.base,
		.self = devices->options.self,
		.server = devices->options.server,
		.network = &network,
		.network_arg = devices,
	};
	int rc = start_helper(devices);

	if (rc == 0 && devices->options.self == DEVICES_SWITCH)
		rc = start_fabric(devices);
	if (rc == 0)
		rc = start_connections(devices);
	if (rc < 0)
		return rc;
	setup.helper = devices->helper;
	devices->tch = tch_new(&setup);
	return devices->tch ? 0 : -ENOMEM;
}

int devices_parse(int argc, char **argv, struct devices_options *out)
{
	if (argc != 5 + DEVICES)
		return -EINVAL;
	out->self = (uint32_t)atoi(argv[1]);
	out->vip = argv[2];
	out->pin_dir = argv[3];
	out->interface = strtok(argv[4], ",");
	out->client_interface = strtok(NULL, ",");
	memcpy(&out->addresses[1], &argv[5], DEVICES * sizeof(argv[0]));
	return out->self >= 1 && out->self <= DEVICES && out->interface ? 0 : -EINVAL;
}

int devices_new(const struct devices_options *options, struct devices **out)
{
	struct devices *devices = calloc(1, sizeof(*devices));
	int rc;

	if (!devices)
		return -ENOMEM;
	devices->options = *options;
	devices->next_session = (uint32_t)time(NULL); /* ids of an earlier run may live on elsewhere */
	for (int i = 0; i < DEVICES; i++)
		devices->strangers[i].all = devices->peers[i + 1].all = devices;
	rc = start(devices);
	if (rc < 0)
		devices_free(devices);
	else
		*out = devices;
	return rc;
}

static void peer_free(struct peer *peer)
{
	if (peer->stream)
		bufferevent_free(peer->stream);
	if (peer->again)
		event_free(peer->again);
}

void devices_free(struct devices *devices)
{
	if (!devices)
		return;
	tch_free(devices->tch);
	for (int i = 0; i < DEVICES; i++) {
		peer_free(&devices->strangers[i]);
		peer_free(&devices->peers[i + 1]);
	}
	if (devices->listener)
		evconnlistener_free(devices->listener);
	fabric_free(devices->fabric, true);
	kernel_helper_free(devices->helper, true);
	free(devices);
}

struct tch *devices_tch(struct devices *devices)
{
	return devices->tch;
}

/* The switch's table has it from now on: as its own. */
int devices_adopt(struct devices *devices, int fd, const struct sockaddr *client, struct tch_session *out)
{
	struct tch_session now = { .id = (uint64_t)devices->options.self << 32 | devices->next_session++, .fd = fd };
	struct sockaddr_storage remote = { 0 }, local = { 0 };
	socklen_t len = sizeof(local);
	uint32_t generation;
	int rc;

	if (getsockname(fd, (struct sockaddr *)&local, &len) < 0)
		return -errno;
	memcpy(&remote, client, client->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
	rc = flow_from_sockets(&remote, &local, IPPROTO_TCP, &now.flow);
	if (rc < 0)
		return rc;
	now.is_movable = kernel_helper_adopt(devices->helper, fd, &now.fixed) == 0;
	if (devices->fabric)
		fabric_flow_set(devices->fabric, &now.flow, FABRIC_SWITCH, &generation);
	*out = now;
	return 0;
}
