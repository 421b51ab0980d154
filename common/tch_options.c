/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/bytes.h"
#include "common/tch.h"

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
	OPTION_SHARE = 246,
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
}

static void put_facts(struct bytes_writer *w, const struct conn_facts *facts)
{
	option_begin(w, OPTION_SESSION, 28);
	bytes_put_be64(w, facts->session);
	bytes_put_be64(w, facts->since_ns);
	bytes_put_be64(w, facts->requests);
	bytes_put_be32(w, facts->handoffs);
	for (size_t i = 0; i < facts->share_count; i++) {
		option_begin(w, OPTION_SHARE, 20);
		bytes_put_be32(w, facts->shares[i].volume);
		bytes_put_be64(w, facts->shares[i].bytes);
		bytes_put_be64(w, facts->shares[i].requests);
	}
}

int tch_options_encode(const struct kernel_helper_state *state, const struct conn_facts *facts,
		       uint8_t out[static TCH_OPTIONS_MAX])
{
	struct bytes_writer w = bytes_writer_init(out, TCH_OPTIONS_MAX);
	bool ipv4 = flow_is_ipv4(&state->flow);

	put_endpoint(&w, OPTION_ENDPOINT, OPTION_ENDPOINT6, ipv4, state->flow.client, state->flow.client_port);
	put_endpoint(&w, OPTION_VIRTUAL, OPTION_VIRTUAL6, ipv4, state->flow.vip, state->flow.vip_port);
	put_kernel(&w, state);
	put_facts(&w, facts);
	bytes_put_u8(&w, OPTION_END);
	return w.failed ? -ENOSPC : (int)w.written;
}

/* What was decoded so far; bit n of `seen` stands for option kind n. */
struct decoding {
	struct kernel_helper_state *state;
	struct conn_facts *facts;
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

static void get_share(struct bytes_reader *r, struct conn_facts *facts)
{
	struct conn_share share;

	share.volume = bytes_get_be32(r);
	share.bytes = bytes_get_be64(r);
	share.requests = bytes_get_be64(r);
	if (!r->failed && facts->share_count < CONN_SHARES_MAX)
		facts->shares[facts->share_count++] = share;
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
	case OPTION_SESSION:
		d->facts->session = bytes_get_be64(r);
		d->facts->since_ns = bytes_get_be64(r);
		d->facts->requests = bytes_get_be64(r);
		d->facts->handoffs = bytes_get_be32(r);
		break;
	case OPTION_SHARE:
		get_share(r, d->facts);
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
	if (seen(d, kind) && kind != OPTION_SHARE)
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

int tch_options_decode(const uint8_t *options, size_t len, struct kernel_helper_state *state, struct conn_facts *facts)
{
	struct kernel_helper_state fresh_state = { .flow.protocol = IPPROTO_TCP };
	struct conn_facts fresh_facts = { 0 };
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
	*state = fresh_state;
	*facts = fresh_facts;
	return 0;
}
