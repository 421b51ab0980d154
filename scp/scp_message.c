/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "scp/scp_message.h"

#include "common/bytes.h"
#include "scp/scp.h"

#include <errno.h>
#include <stdlib.h>

/* What a body has besides its large part, generously. */
enum { ROOM = 8192, SESSIONS_MAX = SCP_LIST_MAX * 1400, FLOWS_MAX = SCP_LIST_MAX * 44, TCH_MAX = 3 * SCP_TCH_DATA_MAX,
       LOAD_MAX = SCP_LOAD_VOLUMES_MAX * 32, DISKS_MAX = SCP_DISKS_MAX * 2048, LOG_MAX = SCP_LOG_LINES_MAX * 536,
       FACTS_MAX = 4 * 1024 * 1024, SPREAD_MAX = SCP_SPREAD_ENTRIES_MAX * (SCP_NAME_MAX + 128) };

#define BOTH (SCP_ON_CONTROL | SCP_ON_RELAY)

static const struct scp_message_rule rules[] = {
	/* type                     name                 direction        channels        since body_max            at */
	[SCP_HELLO]            = { "HELLO",            SCP_EITHER_WAY,  BOTH,           1, ROOM,                    0 },
	[SCP_REFUSE]           = { "REFUSE",           SCP_EITHER_WAY,  BOTH,           1, ROOM,                    0 },
	[SCP_ENROL]            = { "ENROL",            SCP_TO_MASTER,   SCP_ON_CONTROL, 1, SCP_PEM_MAX + ROOM,      0 },
	[SCP_ENROL_REPLY]      = { "ENROL_REPLY",      SCP_FROM_MASTER, SCP_ON_CONTROL, 1, 2 * SCP_PEM_MAX + ROOM,  0 },
	[SCP_APPLY]            = { "APPLY",            SCP_TO_MASTER,   SCP_ON_CONTROL, 1, SCP_PEM_MAX + ROOM,      0 },
	[SCP_CERTIFICATE_REQUEST] = { "CERTIFICATE_REQUEST", SCP_TO_MASTER, SCP_ON_CONTROL, 4, SCP_PEM_MAX + ROOM,  0 },
	[SCP_CERTIFICATE]      = { "CERTIFICATE",      SCP_FROM_MASTER, SCP_ON_CONTROL, 4, 2 * SCP_PEM_MAX + ROOM,  0 },
	[SCP_CERTIFICATE_RENEW] = { "CERTIFICATE_RENEW", SCP_FROM_MASTER, SCP_ON_CONTROL, 4, ROOM,                  0 },
	[SCP_SNAPSHOT]         = { "SNAPSHOT",         SCP_FROM_MASTER, SCP_ON_CONTROL, 1, SCP_SNAPSHOT_MAX + ROOM, 4 },
	[SCP_CHANGE]           = { "CHANGE",           SCP_FROM_MASTER, SCP_ON_CONTROL, 1, SCP_PEM_MAX + ROOM,      4 },
	[SCP_SNAPSHOT_REQUEST] = { "SNAPSHOT_REQUEST", SCP_TO_MASTER,   SCP_ON_CONTROL, 1, ROOM,                    0 },
	[SCP_HEARTBEAT]        = { "HEARTBEAT",        SCP_EITHER_WAY,  SCP_ON_CONTROL, 1, ROOM,                    0 },
	[SCP_SESSIONS]         = { "SESSIONS",         SCP_TO_MASTER,   SCP_ON_CONTROL, 1, SESSIONS_MAX + ROOM,     4 },
	[SCP_DROP_FLOWS]       = { "DROP_FLOWS",       SCP_FROM_MASTER, SCP_ON_CONTROL, 1, FLOWS_MAX + ROOM,        4 },
	[SCP_LOAD]             = { "LOAD",             SCP_TO_MASTER,   SCP_ON_CONTROL, 4, LOAD_MAX + ROOM,        0 },
	[SCP_TIME_REQUEST]     = { "TIME_REQUEST",     SCP_TO_MASTER,   SCP_ON_CONTROL, 4, ROOM,                    0 },
	[SCP_TIME]             = { "TIME",             SCP_FROM_MASTER, SCP_ON_CONTROL, 4, ROOM,                    0 },
	[SCP_VOLUME_OFFER]     = { "VOLUME_OFFER",     SCP_TO_MASTER,   SCP_ON_CONTROL, 1, ROOM,                    0 },
	[SCP_VOLUME_OPEN]      = { "VOLUME_OPEN",      SCP_FROM_MASTER, SCP_ON_CONTROL, 1, ROOM,                    0 },
	[SCP_VOLUME_CLOSE]     = { "VOLUME_CLOSE",     SCP_FROM_MASTER, SCP_ON_CONTROL, 1, ROOM,                    0 },
	[SCP_RESULT]           = { "RESULT",           SCP_EITHER_WAY,  SCP_ON_CONTROL, 1, ROOM,                    0 },
	[SCP_HANDOFF_ORDER]    = { "HANDOFF_ORDER",    SCP_FROM_MASTER, SCP_ON_CONTROL, 1, ROOM,                    0 },
	[SCP_HANDOFF_RESULT]   = { "HANDOFF_RESULT",   SCP_TO_MASTER,   SCP_ON_CONTROL, 1, ROOM,                    0 },
	[SCP_WHY]              = { "WHY",              SCP_FROM_MASTER, SCP_ON_CONTROL, 1, ROOM,                    0 },
	[SCP_WHY_RESULT]       = { "WHY_RESULT",       SCP_TO_MASTER,   SCP_ON_CONTROL, 1, ROOM,                    0 },
	[SCP_SPECIAL_ORDER]    = { "SPECIAL_ORDER",    SCP_FROM_MASTER, SCP_ON_CONTROL, 3, ROOM,                    0 },
	[SCP_SESSION_LOOK]     = { "SESSION_LOOK",     SCP_FROM_MASTER, SCP_ON_CONTROL, 4, ROOM,                    0 },
	[SCP_SESSION_FACTS]    = { "SESSION_FACTS",    SCP_TO_MASTER,   SCP_ON_CONTROL, 4, ROOM,                    0 },
	[SCP_LOG_LOOK]         = { "LOG_LOOK",         SCP_FROM_MASTER, SCP_ON_CONTROL, 4, ROOM,                    0 },
	[SCP_LOG_LINES]        = { "LOG_LINES",        SCP_TO_MASTER,   SCP_ON_CONTROL, 4, LOG_MAX + ROOM,         28 },
	[SCP_TCH]              = { "TCH",              SCP_EITHER_WAY,  SCP_ON_CONTROL, 1, TCH_MAX + ROOM,          0 },
	[SCP_EAP]              = { "EAP",              SCP_TO_MASTER,   SCP_ON_CONTROL, 1, ROOM,                    0 },
	[SCP_EAP_REPLY]        = { "EAP_REPLY",        SCP_FROM_MASTER, SCP_ON_CONTROL, 1, ROOM,                    0 },
	[SCP_EAP_KEY_REQUEST]  = { "EAP_KEY_REQUEST",  SCP_TO_MASTER,   SCP_ON_CONTROL, 2, ROOM,                    0 },
	[SCP_EAP_KEY]          = { "EAP_KEY",          SCP_FROM_MASTER, SCP_ON_CONTROL, 2, ROOM,                    0 },
	[SCP_RELAY_CALL]       = { "RELAY_CALL",       SCP_EITHER_WAY,  SCP_ON_RELAY,   1, SCP_RECORD_MAX + ROOM,  40 },
	[SCP_RELAY_REPLY]      = { "RELAY_REPLY",      SCP_EITHER_WAY,  SCP_ON_RELAY,   1, SCP_RECORD_MAX + ROOM,   8 },
	[SCP_CLIENT_CALL]      = { "CLIENT_CALL",      SCP_TO_MASTER,   SCP_ON_CONTROL, 1, ROOM,                    0 },
	[SCP_CLIENT_ANSWER]    = { "CLIENT_ANSWER",    SCP_FROM_MASTER, SCP_ON_CONTROL, 1, ROOM,                    0 },
	[SCP_CLIENT_REBOOTED]  = { "CLIENT_REBOOTED",  SCP_EITHER_WAY,  SCP_ON_CONTROL, 1, ROOM,                    0 },
	[SCP_VOLUME_SERIAL]    = { "VOLUME_SERIAL",    SCP_TO_MASTER,   SCP_ON_CONTROL, 4, ROOM,                    0 },
	[SCP_DISKS]            = { "DISKS",            SCP_TO_MASTER,   SCP_ON_CONTROL, 4, DISKS_MAX + ROOM,        4 },
	[SCP_DISK_FORMAT]      = { "DISK_FORMAT",      SCP_FROM_MASTER, SCP_ON_CONTROL, 4, ROOM,                    0 },
	[SCP_DISK_RESCAN]      = { "DISK_RESCAN",      SCP_FROM_MASTER, SCP_ON_CONTROL, 4, ROOM,                    0 },
	[SCP_VOLUME_MAKE]      = { "VOLUME_MAKE",      SCP_FROM_MASTER, SCP_ON_CONTROL, 4, ROOM,                    0 },
	[SCP_VOLUME_UNMAKE]    = { "VOLUME_UNMAKE",    SCP_FROM_MASTER, SCP_ON_CONTROL, 4, ROOM,                    0 },
	[SCP_VOLUME_GONE]      = { "VOLUME_GONE",      SCP_TO_MASTER,   SCP_ON_CONTROL, 4, ROOM,                    0 },
	[SCP_EXAMINE]          = { "EXAMINE",          SCP_FROM_MASTER, SCP_ON_CONTROL, 4, ROOM,                    0 },
	[SCP_EXAMINED]         = { "EXAMINED",         SCP_TO_MASTER,   SCP_ON_CONTROL, 4, FACTS_MAX + ROOM,        4 },
	[SCP_SPREAD_UPDATE]    = { "SPREAD_UPDATE",    SCP_FROM_MASTER, SCP_ON_CONTROL, 4, SPREAD_MAX + ROOM,      32 },
	[SCP_SPREAD_REACHED]   = { "SPREAD_REACHED",   SCP_TO_MASTER,   SCP_ON_CONTROL, 4, ROOM,                    0 },
	[SCP_SPREAD_LIST]      = { "SPREAD_LIST",      SCP_FROM_MASTER, SCP_ON_CONTROL, 4, ROOM,                    0 },
	[SCP_SPREAD_LISTING]   = { "SPREAD_LISTING",   SCP_TO_MASTER,   SCP_ON_CONTROL, 4, SPREAD_MAX + ROOM,      24 },
};

_Static_assert(sizeof(rules) / sizeof(rules[0]) == SCP_SPREAD_LISTING + 1, "a new message needs a row");

const struct scp_message_rule *scp_message_rule(scp_type type)
{
	if ((size_t)type >= sizeof(rules) / sizeof(rules[0]) || !rules[type].name)
		return NULL;
	return &rules[type];
}

const char *scp_message_name(scp_type type)
{
	const struct scp_message_rule *rule = scp_message_rule(type);

	return rule ? rule->name : NULL;
}

bool scp_message_is_for_session(scp_type type)
{
	return type == SCP_HELLO || type == SCP_REFUSE || type == SCP_ENROL || type == SCP_APPLY ||
	       type == SCP_ENROL_REPLY;
}

bool scp_message_may_travel(scp_type type, scp_channel channel, unsigned int protocol)
{
	const struct scp_message_rule *rule = scp_message_rule(type);

	return rule && channel <= SCP_RELAY && rule->channels & 1u << channel && protocol >= rule->first_version;
}

static void header_encode(const struct scp_header *header, uint8_t *out)
{
	struct bytes_writer w = bytes_writer_init(out, SCP_HEADER_BYTES);

	bytes_put_be32(&w, SCP_MAGIC);
	bytes_put_be16(&w, (uint16_t)header->type);
	bytes_put_be16(&w, 0);
	bytes_put_be32(&w, header->request);
	bytes_put_be32(&w, header->length);
}

/* The XDR routines are made for both directions and so take no const. */
static scp_message *mutable(const scp_message *message)
{
	return (scp_message *)(uintptr_t)message;
}

static bool body_encode(const scp_message *message, uint8_t *body, uint32_t length)
{
	bool done;
	XDR xdr;

	xdrmem_create(&xdr, (char *)body, length, XDR_ENCODE);
	done = xdr_scp_message(&xdr, mutable(message)) && xdr_getpos(&xdr) == length;
	xdr_destroy(&xdr);
	return done;
}

int scp_message_encode(uint32_t request, const scp_message *message, uint8_t **out, size_t *len)
{
	const struct scp_message_rule *rule = scp_message_rule(message->type);
	struct scp_header header = { .type = message->type, .request = request };
	unsigned long body_len;
	uint8_t *bytes;

	if (!rule)
		return -EINVAL;
	body_len = xdr_sizeof((xdrproc_t)xdr_scp_message, mutable(message));
	if (!body_len || body_len > rule->body_max)
		return -EINVAL;
	bytes = malloc(SCP_HEADER_BYTES + body_len);
	if (!bytes)
		return -ENOMEM;
	header.length = (uint32_t)body_len;
	header_encode(&header, bytes);
	if (!body_encode(message, bytes + SCP_HEADER_BYTES, header.length)) {
		free(bytes);
		return -EINVAL;
	}
	*out = bytes;
	*len = SCP_HEADER_BYTES + body_len;
	return 0;
}

int scp_header_decode(const uint8_t *bytes, struct scp_header *out)
{
	struct bytes_reader r = bytes_reader_init(bytes, SCP_HEADER_BYTES);
	const struct scp_message_rule *rule;
	uint32_t magic = bytes_get_be32(&r);
	struct scp_header header = { .type = (scp_type)bytes_get_be16(&r) };
	uint16_t zero = bytes_get_be16(&r);

	header.request = bytes_get_be32(&r);
	header.length = bytes_get_be32(&r);
	rule = scp_message_rule(header.type);
	if (magic != SCP_MAGIC || zero || !rule || header.length > rule->body_max)
		return -EBADMSG;
	*out = header;
	return 0;
}

/*
 * libtirpc asks for memory as a count says, before it looks whether so much is there. No element of a list takes less
 * than a byte, so a count above what is left is a lie.
 */
static bool has_plausible_count(const struct scp_header *header, const uint8_t *body)
{
	uint32_t at = scp_message_rule(header->type)->count_at;
	struct bytes_reader r = bytes_reader_init(body, header->length);

	if (!at)
		return true;
	bytes_take(&r, at);
	return bytes_get_be32(&r) <= r.left && !r.failed;
}

/*
 * An XDR stream that encodes by comparing with bytes that are there: x_private is the next one, x_handy how many are
 * left. It finds what has a second encoding without memory for it.
 */
static bool_t compare_bytes(XDR *xdr, const char *bytes, u_int len)
{
	if (len > xdr->x_handy || memcmp(xdr->x_private, bytes, len) != 0)
		return FALSE;
	xdr->x_private = (char *)xdr->x_private + len;
	xdr->x_handy -= len;
	return TRUE;
}

static bool_t compare_long(XDR *xdr, const long *value)
{
	uint32_t be = htonl((uint32_t)*value);

	return compare_bytes(xdr, (const char *)&be, sizeof(be));
}

/* "There is no buffer to write to in place": the routines use the two above. */
static int32_t *compare_inline(XDR *xdr, u_int len)
{
	(void)xdr;
	(void)len;
	return NULL;
}

static bool encodes_to(const scp_message *message, const uint8_t *body, uint32_t length)
{
	static const struct xdr_ops ops = {
		.x_putlong = compare_long,
		.x_putbytes = compare_bytes,
		.x_inline = compare_inline,
	};
	XDR xdr = { .x_op = XDR_ENCODE, .x_ops = &ops, .x_private = (void *)(uintptr_t)body, .x_handy = length };

	return xdr_scp_message(&xdr, mutable(message)) && xdr.x_handy == 0;
}

int scp_body_decode(const struct scp_header *header, const uint8_t *body, scp_message *out)
{
	scp_message message = { 0 };
	bool whole;
	XDR xdr;

	if (!has_plausible_count(header, body))
		return -EBADMSG;
	xdrmem_create(&xdr, (char *)(uintptr_t)body, header->length, XDR_DECODE);
	whole = xdr_scp_message(&xdr, &message);
	xdr_destroy(&xdr);
	if (!whole || message.type != header->type || !encodes_to(&message, body, header->length)) {
		scp_message_fini(&message);
		return -EBADMSG;
	}
	*out = message;
	return 0;
}

void scp_message_fini(scp_message *message)
{
	xdr_free((xdrproc_t)xdr_scp_message, (char *)message);
	memset(message, 0, sizeof(*message));
}
