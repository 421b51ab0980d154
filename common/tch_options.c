/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/tch_options.h"

#include "common/bytes.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

/* Kinds: those of TCP where TCP has one (RFC 9293, 3.2; RFC 7323; RFC 2018), our own from 254 downwards. */
enum option_kind {
	OPTION_END = 0,
	OPTION_NOP = 1,
	OPTION_MSS = 2,
	OPTION_WINDOW_SCALE = 3, /* both directions: ours, the client's */
	OPTION_SACK_PERMITTED = 4,
	OPTION_TIMESTAMPS = 8,
	OPTION_CAPABILITIES = 238, /* of Open and its answer */
	OPTION_VENDOR = TCH_ITEM_VENDOR,
	OPTION_APPLICATION = TCH_ITEM_APPLICATION,
	OPTION_IPTOS = 241,	 /* absent: 0 */
	OPTION_SOCKET_TIMERS = 242, /* absent: the machine's */
	OPTION_TIMERS = 243,
	OPTION_STATISTICS = 244,
	OPTION_HALF = 245,	 /* enum tch_kind_of_handoff; absent: full */
	OPTION_SHARE = TCH_ITEM_SHARE,
	OPTION_SESSION = 247,
	OPTION_BUFFERS = 248,
	OPTION_WINDOW = 249,
	OPTION_TIMESTAMP = 250,
	OPTION_VIRTUAL = 251,	/* the VIP and its port, as the endpoint option has the client's */
	OPTION_VIRTUAL6 = 252,
	OPTION_ENDPOINT6 = 253,
	OPTION_UPDATE = 254,	/* Fig. 4B, 481 */
	OPTION_ENDPOINT = 255,	/* Fig. 4B, 471 */
};

enum { OPTION_HEADER = 2 };

/* Kind and length of an option with @len bytes of value. */
static void option_begin(struct bytes_writer *w, enum option_kind kind, size_t len)
{
	bytes_put_u8(w, (uint8_t)kind);
	bytes_put_u8(w, (uint8_t)(OPTION_HEADER + len));
}

static void put_endpoint(struct bytes_writer *w, enum option_kind kind4, enum option_kind kind6, bool ipv4,
			 const __u8 address[16], __be16 port)
{
	size_t len = ipv4 ? 4 : 16;

	option_begin(w, ipv4 ? kind4 : kind6, 2 + len);
	bytes_put_be16(w, ntohs(port));
	bytes_put(w, address + 16 - len, len);
}

static void put_kernel(struct bytes_writer *w, const struct kernel_helper_state *state)
{
	const struct kernel_helper_static *fixed = &state->fixed;

	/* "The update option should be preceded by two NOPs ... to ensure that the fields are 32-bit aligned." */
	bytes_put_u8(w, OPTION_NOP);
	bytes_put_u8(w, OPTION_NOP);
	option_begin(w, OPTION_UPDATE, 8);
	bytes_put_be32(w, state->send_unacknowledged);
	bytes_put_be32(w, state->receive_next);
	option_begin(w, OPTION_MSS, 2);
	bytes_put_be16(w, (uint16_t)fixed->mss_clamp);
	if (fixed->has_wscale) {
		option_begin(w, OPTION_WINDOW_SCALE, 2);
		bytes_put_u8(w, fixed->send_wscale);
		bytes_put_u8(w, fixed->receive_wscale);
	}
	if (fixed->has_sack)
		option_begin(w, OPTION_SACK_PERMITTED, 0);
	if (fixed->has_timestamps)
		option_begin(w, OPTION_TIMESTAMPS, 0);
	option_begin(w, OPTION_TIMESTAMP, 4);
	bytes_put_be32(w, state->timestamp);
	option_begin(w, OPTION_WINDOW, 20);
	bytes_put_be32(w, state->window_snd_wl1);
	bytes_put_be32(w, state->window_snd_wnd);
	bytes_put_be32(w, state->window_max_window);
	bytes_put_be32(w, state->window_rcv_wnd);
	bytes_put_be32(w, state->window_rcv_wup);
	option_begin(w, OPTION_BUFFERS, 12);
	bytes_put_be32(w, state->receive_buffer);
	bytes_put_be32(w, state->send_buffer);
	bytes_put_be32(w, state->congestion_window);
	option_begin(w, OPTION_TIMERS, 16);
	bytes_put_be32(w, state->timers.round_trip_us);
	bytes_put_be32(w, state->timers.round_trip_variance_us);
	bytes_put_be32(w, state->timers.retransmission_us);
	bytes_put_be32(w, state->timers.slow_start_threshold);
}

/* Of the session: its sockets before this one, and this one. */
static void put_statistics(struct bytes_writer *w, const struct tcp_statistics *before, const struct tcp_statistics *now)
{
	static const struct tcp_statistics none;
	struct tcp_statistics all = *before;

	tcp_statistics_add(&all, now);
	if (memcmp(&all, &none, sizeof(all)) == 0)
		return;
	option_begin(w, OPTION_STATISTICS, 40);
	bytes_put_be64(w, all.segments_in);
	bytes_put_be64(w, all.segments_out);
	bytes_put_be64(w, all.segments_retransmitted);
	bytes_put_be64(w, all.bytes_in);
	bytes_put_be64(w, all.bytes_out);
}

/* Items are options already. */
static void put_facts(struct bytes_writer *w, const struct tch_facts *facts)
{
	option_begin(w, OPTION_SESSION, 28);
	bytes_put_be64(w, facts->session);
	bytes_put_be64(w, facts->since_ns);
	bytes_put_be64(w, facts->requests);
	bytes_put_be32(w, facts->handoffs);
	bytes_put(w, facts->items.bytes, facts->items.len);
}

static void put_socket(struct bytes_writer *w, const struct tch_facts *facts)
{
	const struct tch_timers *timers = &facts->timers;

	if (facts->iptos) {
		option_begin(w, OPTION_IPTOS, 1);
		bytes_put_u8(w, facts->iptos);
	}
	if (timers->user_timeout_ms || timers->keepalive_idle_s || timers->keepalive_interval_s || timers->keepalive_count) {
		option_begin(w, OPTION_SOCKET_TIMERS, 16);
		bytes_put_be32(w, timers->user_timeout_ms);
		bytes_put_be32(w, timers->keepalive_idle_s);
		bytes_put_be32(w, timers->keepalive_interval_s);
		bytes_put_be32(w, timers->keepalive_count);
	}
}

int tch_options_encode(const struct kernel_helper_state *state, const struct tch_facts *facts,
		       enum tch_kind_of_handoff kind, uint8_t out[static TCH_OPTIONS_MAX])
{
	struct bytes_writer w = bytes_writer_init(out, TCH_OPTIONS_MAX);
	bool ipv4 = flow_is_ipv4(&state->flow);

	put_endpoint(&w, OPTION_ENDPOINT, OPTION_ENDPOINT6, ipv4, state->flow.client, state->flow.client_port);
	put_endpoint(&w, OPTION_VIRTUAL, OPTION_VIRTUAL6, ipv4, state->flow.vip, state->flow.vip_port);
	put_kernel(&w, state);
	put_statistics(&w, &facts->statistics, &state->statistics);
	put_facts(&w, facts);
	put_socket(&w, facts);
	if (kind != TCH_FULL) {
		option_begin(&w, OPTION_HALF, 1);
		bytes_put_u8(&w, (uint8_t)kind);
	}
	bytes_put_u8(&w, OPTION_END);
	return w.failed ? -ENOSPC : (int)w.written;
}

/* What was decoded so far; bit n of `seen` stands for option kind n. */
struct decoding {
	struct kernel_helper_state *state;
	struct tch_facts *facts;
	enum tch_kind_of_handoff kind;
	unsigned int capabilities;
	uint64_t seen[4];
};

static bool seen(const struct decoding *d, unsigned int kind)
{
	return d->seen[kind / 64] >> (kind % 64) & 1;
}

static void get_endpoint(struct bytes_reader *r, bool ipv4, __u8 address[16], __be16 *port)
{
	size_t len = ipv4 ? 4 : 16;
	const uint8_t *p;

	*port = htons(bytes_get_be16(r));
	p = bytes_take(r, len);
	if (!p)
		return;
	memset(address, 0, 16);
	if (ipv4)
		address[10] = address[11] = 0xff;
	memcpy(address + 16 - len, p, len);
}

static void get_statistics(struct bytes_reader *r, struct tcp_statistics *statistics)
{
	statistics->segments_in = bytes_get_be64(r);
	statistics->segments_out = bytes_get_be64(r);
	statistics->segments_retransmitted = bytes_get_be64(r);
	statistics->bytes_in = bytes_get_be64(r);
	statistics->bytes_out = bytes_get_be64(r);
}

/* Names and bytes are looked at by the server, who also says how many it takes. */
static void get_item(struct bytes_reader *r, unsigned int kind, struct tch_items *items)
{
	struct bytes_writer w = bytes_writer_init(items->bytes + items->len, sizeof(items->bytes) - items->len);
	size_t len = r->left;
	const uint8_t *value = bytes_take(r, len);

	if (kind != OPTION_SHARE && (len == 0 || value[0] > len - 1)) {
		r->failed = true;
		return;
	}
	option_begin(&w, kind, len);
	bytes_put(&w, value, len);
	r->failed = w.failed;
	items->len += w.failed ? 0 : w.written;
}

static void get_socket_timers(struct bytes_reader *r, struct tch_timers *timers)
{
	timers->user_timeout_ms = bytes_get_be32(r);
	timers->keepalive_idle_s = bytes_get_be32(r);
	timers->keepalive_interval_s = bytes_get_be32(r);
	timers->keepalive_count = bytes_get_be32(r);
}

static bool is_repeated(unsigned int kind)
{
	return kind == OPTION_SHARE || kind == OPTION_APPLICATION || kind == OPTION_VENDOR;
}

static void get_option(struct decoding *d, unsigned int kind, struct bytes_reader *r)
{
	struct kernel_helper_state *state = d->state;

	switch (kind) {
	case OPTION_ENDPOINT:
	case OPTION_ENDPOINT6:
		get_endpoint(r, kind == OPTION_ENDPOINT, state->flow.client, &state->flow.client_port);
		break;
	case OPTION_VIRTUAL:
	case OPTION_VIRTUAL6:
		get_endpoint(r, kind == OPTION_VIRTUAL, state->flow.vip, &state->flow.vip_port);
		break;
	case OPTION_UPDATE:
		state->send_unacknowledged = bytes_get_be32(r);
		state->receive_next = bytes_get_be32(r);
		break;
	case OPTION_MSS:
		state->fixed.mss_clamp = bytes_get_be16(r);
		break;
	case OPTION_WINDOW_SCALE:
		state->fixed.send_wscale = bytes_get_u8(r);
		state->fixed.receive_wscale = bytes_get_u8(r);
		state->fixed.has_wscale = true;
		/* RFC 7323, 2.3 */
		if (state->fixed.send_wscale > 14 || state->fixed.receive_wscale > 14)
			r->failed = true;
		break;
	case OPTION_SACK_PERMITTED:
		state->fixed.has_sack = true;
		break;
	case OPTION_TIMESTAMPS:
		state->fixed.has_timestamps = true;
		break;
	case OPTION_TIMESTAMP:
		state->timestamp = bytes_get_be32(r);
		break;
	case OPTION_WINDOW:
		state->window_snd_wl1 = bytes_get_be32(r);
		state->window_snd_wnd = bytes_get_be32(r);
		state->window_max_window = bytes_get_be32(r);
		state->window_rcv_wnd = bytes_get_be32(r);
		state->window_rcv_wup = bytes_get_be32(r);
		break;
	case OPTION_BUFFERS:
		state->receive_buffer = bytes_get_be32(r);
		state->send_buffer = bytes_get_be32(r);
		state->congestion_window = bytes_get_be32(r);
		break;
	case OPTION_TIMERS:
		state->timers.round_trip_us = bytes_get_be32(r);
		state->timers.round_trip_variance_us = bytes_get_be32(r);
		state->timers.retransmission_us = bytes_get_be32(r);
		state->timers.slow_start_threshold = bytes_get_be32(r);
		break;
	case OPTION_SESSION:
		d->facts->session = bytes_get_be64(r);
		d->facts->since_ns = bytes_get_be64(r);
		d->facts->requests = bytes_get_be64(r);
		d->facts->handoffs = bytes_get_be32(r);
		break;
	case OPTION_HALF:
		d->kind = bytes_get_u8(r);
		if (d->kind == TCH_FULL || d->kind >= TCH_NKINDS)
			r->failed = true;
		break;
	case OPTION_CAPABILITIES:
		d->capabilities = bytes_get_be32(r);
		bytes_take(r, r->left);
		break;
	case OPTION_STATISTICS:
		get_statistics(r, &d->facts->statistics);
		break;
	case OPTION_IPTOS:
		d->facts->iptos = bytes_get_u8(r);
		break;
	case OPTION_SOCKET_TIMERS:
		get_socket_timers(r, &d->facts->timers);
		break;
	case OPTION_SHARE:
	case OPTION_APPLICATION:
	case OPTION_VENDOR:
		get_item(r, kind, &d->facts->items);
		break;
	default:
		bytes_take(r, r->left);
	}
}

/* One option at the cursor. 1; 0 at the end; -EBADMSG. */
static int next_option(struct decoding *d, struct bytes_reader *r)
{
	unsigned int kind, len;
	struct bytes_reader value;

	if (r->left == 0)
		return 0;
	kind = bytes_get_u8(r);
	if (kind == OPTION_END)
		return 0;
	if (kind == OPTION_NOP)
		return 1;
	len = bytes_get_u8(r);
	if (r->failed || len < OPTION_HEADER || len - OPTION_HEADER > r->left)
		return -EBADMSG;
	value = bytes_reader_init(bytes_take(r, len - OPTION_HEADER), len - OPTION_HEADER);
	if (seen(d, kind) && !is_repeated(kind))
		return 1;
	get_option(d, kind, &value);
	d->seen[kind / 64] |= 1ull << (kind % 64);
	return value.failed || value.left ? -EBADMSG : 1;
}

/* A connection has both ends in one family; the restored socket could not be bound otherwise. */
static bool families_agree(const struct flow_key *flow)
{
	struct flow_key reverse = *flow;

	memcpy(reverse.client, flow->vip, sizeof(reverse.client));
	return flow_is_ipv4(flow) == flow_is_ipv4(&reverse);
}

int tch_options_decode(const uint8_t *options, size_t len, struct kernel_helper_state *state, struct tch_facts *facts,
		       enum tch_kind_of_handoff *kind)
{
	struct kernel_helper_state fresh_state = { .flow.protocol = IPPROTO_TCP };
	struct tch_facts fresh_facts = { 0 };
	struct decoding d = { .state = &fresh_state, .facts = &fresh_facts };
	struct bytes_reader r = bytes_reader_init(options, len);
	int rc;

	while ((rc = next_option(&d, &r)) > 0)
		;
	if (rc < 0)
		return rc;
	if (!seen(&d, OPTION_UPDATE) || !(seen(&d, OPTION_ENDPOINT) || seen(&d, OPTION_ENDPOINT6)) ||
	    !(seen(&d, OPTION_VIRTUAL) || seen(&d, OPTION_VIRTUAL6)))
		return -ENOENT;
	if (!families_agree(&fresh_state.flow))
		return -EBADMSG;
	fresh_state.fixed.send_base = fresh_state.send_unacknowledged;
	fresh_state.fixed.receive_base = fresh_state.receive_next;
	*state = fresh_state;
	*facts = fresh_facts;
	*kind = d.kind;
	return 0;
}

/* Capabilities */

int tch_capabilities_encode(unsigned int capabilities, uint8_t out[static TCH_CAPABILITIES_BYTES])
{
	struct bytes_writer w = bytes_writer_init(out, TCH_CAPABILITIES_BYTES);

	option_begin(&w, OPTION_CAPABILITIES, 4);
	bytes_put_be32(&w, capabilities);
	bytes_put_u8(&w, OPTION_END);
	return (int)w.written;
}

int tch_capabilities_decode(const uint8_t *options, size_t len, unsigned int *out)
{
	struct kernel_helper_state state;
	struct tch_facts facts = { 0 };
	struct decoding d = { .state = &state, .facts = &facts };
	struct bytes_reader r = bytes_reader_init(options, len);
	int rc;

	while ((rc = next_option(&d, &r)) > 0)
		;
	if (rc < 0)
		return rc;
	if (!seen(&d, OPTION_CAPABILITIES))
		return -ENOENT;
	*out = d.capabilities;
	return 0;
}

/* Items */

int tch_items_put(struct tch_items *items, enum tch_item_kind kind, const char *name, const void *bytes, size_t len)
{
	struct bytes_writer w = bytes_writer_init(items->bytes + items->len, sizeof(items->bytes) - items->len);
	size_t name_len = name ? strlen(name) : 0, value_len = (name ? 1 + name_len : 0) + len;

	if (value_len > UINT8_MAX - OPTION_HEADER)
		return -EMSGSIZE;
	option_begin(&w, (enum option_kind)kind, value_len);
	if (name) {
		bytes_put_u8(&w, (uint8_t)name_len);
		bytes_put(&w, name, name_len);
	}
	bytes_put(&w, bytes, len);
	if (w.failed)
		return -ENOSPC;
	items->len += w.written;
	return 0;
}

bool tch_items_next(const struct tch_items *items, size_t *at, struct tch_item *out)
{
	struct bytes_reader r = bytes_reader_init(items->bytes + *at, items->len - *at);
	struct tch_item item = { .kind = (enum tch_item_kind)bytes_get_u8(&r) };
	size_t len = bytes_get_u8(&r);

	if (r.failed || len < OPTION_HEADER || len - OPTION_HEADER > r.left)
		return false;
	item.len = len - OPTION_HEADER;
	if (item.kind != TCH_ITEM_SHARE) {
		item.name_len = bytes_get_u8(&r);
		item.name = (const char *)bytes_take(&r, item.name_len);
		item.len -= 1 + item.name_len;
	}
	item.bytes = bytes_take(&r, item.len);
	*at += len;
	*out = item;
	return !r.failed;
}

bool tch_item_is(const struct tch_item *item, enum tch_item_kind kind, const char *name)
{
	return item->kind == kind && item->name_len == strlen(name) && memcmp(item->name, name, item->name_len) == 0;
}
