/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/park.h"

#include "common/bytes.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	RING_FRAMES = 10000, /* txqueuelen: the ring's length */
	DRAIN_MAX = 2 * RING_FRAMES,
	FRAME_MAX = 128 * 1024, /* a super-packet and its headers */
	BUCKETS = 1024,
};

/* As read from the TAP: struct virtio_net_hdr, then Ethernet. Written back unchanged, so offloads survive. */
struct frame {
	TAILQ_ENTRY(frame) next;
	uint32_t sequence, sequence_end; /* host byte order */
	size_t len;
	uint8_t bytes[];
};

struct kept_flow {
	LIST_ENTRY(kept_flow) next; /* in its bucket */
	LIST_ENTRY(kept_flow) waiting; /* while it has frames */
	struct flow_key flow;
	TAILQ_HEAD(frames, frame) frames;
};

LIST_HEAD(bucket, kept_flow);

struct park {
	int fd;
	int control; /* for interface ioctls in our network namespace */
	unsigned int ifindex;
	char name[IFNAMSIZ];
	size_t kept_bytes;
	struct park_counters counters;
	LIST_HEAD(, kept_flow) waiting;
	struct bucket buckets[BUCKETS];
	uint8_t buffer[FRAME_MAX];
};

static int park_ioctl(struct park *park, unsigned long request, struct ifreq *ifr)
{
	snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", park->name);
	return ioctl(park->control, request, ifr) ? -errno : 0;
}

static int open_tap(struct park *park)
{
	unsigned int offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
	int header = sizeof(struct virtio_net_hdr), sndbuf = INT_MAX;
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

	park->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (park->fd < 0)
		return -errno;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", park->name);
	if (ioctl(park->fd, TUNSETIFF, &ifr) || ioctl(park->fd, TUNSETOFFLOAD, offloads) ||
	    ioctl(park->fd, TUNSETVNETHDRSZ, &header) || ioctl(park->fd, TUNSETSNDBUF, &sndbuf) ||
	    ioctl(park->fd, TUNSETPERSIST, 1))
		return -errno;
	park->ifindex = if_nametoindex(park->name);
	return 0;
}

/* MAC and MTU of the interface that the frames come by; -ENODEV if there is none. */
static int dress_tap(struct park *park, const char *like)
{
	struct ifreq ifr = { 0 };
	int err;

	err = park_ioctl(park, SIOCGIFFLAGS, &ifr);
	if (err)
		return err;
	ifr.ifr_flags &= (short)~IFF_UP;
	err = park_ioctl(park, SIOCSIFFLAGS, &ifr);
	if (err)
		return err;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", like);
	if (ioctl(park->control, SIOCGIFHWADDR, &ifr))
		return -errno;
	err = park_ioctl(park, SIOCSIFHWADDR, &ifr);
	if (err)
		return err;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", like);
	if (ioctl(park->control, SIOCGIFMTU, &ifr))
		return -errno;
	err = park_ioctl(park, SIOCSIFMTU, &ifr);
	ifr.ifr_qlen = RING_FRAMES;
	return err ? err : park_ioctl(park, SIOCSIFTXQLEN, &ifr);
}

/* A machine without IPv6 has no such file; nothing is lost. */
static void set_sysctl(const struct park *park, const char *family, const char *key, const char *value)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, park->name, key);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		log_debug("park", "sysctl=%s not set: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* Parked packets come back in by the TAP with clients' addresses; IPv6 stays on for them, but has nothing to say. */
static void quiet_tap(const struct park *park)
{
	set_sysctl(park, "ipv4", "rp_filter", "0");
	set_sysctl(park, "ipv6", "addr_gen_mode", "1"); /* no link-local address */
	set_sysctl(park, "ipv6", "accept_ra", "0");
	set_sysctl(park, "ipv6", "router_solicitations", "0");
}

int park_open(const char *name, const char *like, struct park **out)
{
	struct park *park = calloc(1, sizeof(*park));
	int err;

	if (!park)
		return -ENOMEM;
	park->fd = -1;
	snprintf(park->name, sizeof(park->name), "%s", name);
	park->control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	err = park->control < 0 ? -errno : open_tap(park);
	if (!err)
		err = dress_tap(park, like);
	if (err) {
		log_err("park", "interface=%s not made: %s%s", name, strerror(-err),
			err == -EBUSY ? "; is another vnasd running?" : "");
		park_close(park, park->ifindex != 0);
		return err;
	}
	quiet_tap(park);
	log_info("park", "interface=%s ready for parked packets", name);
	*out = park;
	return 0;
}

int park_start(struct park *park)
{
	struct ifreq ifr = { 0 };
	int err;

	err = park_ioctl(park, SIOCGIFFLAGS, &ifr);
	if (!err) {
		ifr.ifr_flags |= IFF_UP;
		err = park_ioctl(park, SIOCSIFFLAGS, &ifr);
	}
	if (err)
		log_err("park", "interface=%s not brought up: %s", park->name, strerror(-err));
	return err;
}

static void take_frame(struct park *park, struct kept_flow *kept, struct frame *frame)
{
	TAILQ_REMOVE(&kept->frames, frame, next);
	park->kept_bytes -= frame->len;
	if (TAILQ_EMPTY(&kept->frames))
		LIST_REMOVE(kept, waiting);
}

static void drop_frames(struct park *park, struct kept_flow *kept)
{
	struct frame *frame;

	while ((frame = TAILQ_FIRST(&kept->frames))) {
		take_frame(park, kept, frame);
		park->counters.discarded++;
		free(frame);
	}
}

static void drop_flow(struct park *park, struct kept_flow *kept)
{
	drop_frames(park, kept);
	LIST_REMOVE(kept, next);
	free(kept);
}

void park_close(struct park *park, bool for_good)
{
	if (!park)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		while (!LIST_EMPTY(&park->buckets[i]))
			drop_flow(park, LIST_FIRST(&park->buckets[i]));
	if (for_good && park->fd >= 0 && ioctl(park->fd, TUNSETPERSIST, 0) == 0)
		log_info("park", "interface=%s removed", park->name);
	if (park->fd >= 0)
		close(park->fd);
	if (park->control >= 0)
		close(park->control);
	free(park);
}

int park_fd(const struct park *park)
{
	return park->fd;
}

unsigned int park_ifindex(const struct park *park)
{
	return park->ifindex;
}

const struct park_counters *park_counters(const struct park *park)
{
	return &park->counters;
}

static struct bucket *bucket_of(struct park *park, const struct flow_key *flow)
{
	return &park->buckets[flow_hash(flow) % BUCKETS];
}

static struct kept_flow *find_flow(struct park *park, const struct flow_key *flow)
{
	struct kept_flow *kept;

	LIST_FOREACH(kept, bucket_of(park, flow), next)
		if (memcmp(&kept->flow, flow, sizeof(*flow)) == 0)
			return kept;
	return NULL;
}

int park_keep(struct park *park, const struct flow_key *flow)
{
	struct kept_flow *kept;

	if (find_flow(park, flow))
		return 0;
	kept = calloc(1, sizeof(*kept));
	if (!kept)
		return -ENOMEM;
	kept->flow = *flow;
	TAILQ_INIT(&kept->frames);
	LIST_INSERT_HEAD(bucket_of(park, flow), kept, next);
	return 0;
}

void park_forget(struct park *park, const struct flow_key *flow)
{
	struct kept_flow *kept = find_flow(park, flow);

	if (kept)
		drop_flow(park, kept);
}

/* Both return how long TCP is: a frame may be padded, and longer than IP can say (then what there is). */
static int read_ipv4(struct bytes_reader *r, struct flow_key *flow, size_t *tcp_len)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	const uint8_t *ip = bytes_take(r, 20);
	size_t header, total;

	if (!ip || (ip[0] & 0x0f) < 5 || !bytes_take(r, (ip[0] & 0x0fu) * 4 - 20))
		return -EBADMSG;
	if ((ip[6] & 0x3f) || ip[7])
		return -EBADMSG;
	memcpy(flow->client, mapped, 12);
	memcpy(flow->client + 12, ip + 12, 4);
	memcpy(flow->vip, mapped, 12);
	memcpy(flow->vip + 12, ip + 16, 4);
	flow->protocol = ip[9];
	header = (ip[0] & 0x0fu) * 4;
	total = (size_t)ip[2] << 8 | ip[3];
	*tcp_len = total > header ? total - header : r->left;
	return 0;
}

static int read_ipv6(struct bytes_reader *r, struct flow_key *flow, size_t *tcp_len)
{
	const uint8_t *ip = bytes_take(r, 40);

	if (!ip)
		return -EBADMSG;
	memcpy(flow->client, ip + 8, 16);
	memcpy(flow->vip, ip + 24, 16);
	flow->protocol = ip[6];
	*tcp_len = (size_t)ip[4] << 8 | ip[5];
	if (*tcp_len == 0)
		*tcp_len = r->left;
	return 0;
}

static int read_tcp(struct bytes_reader *r, size_t tcp_len, struct park_frame *facts)
{
	size_t header;
	uint8_t flags;

	facts->flow.client_port = htons(bytes_get_be16(r));
	facts->flow.vip_port = htons(bytes_get_be16(r));
	facts->sequence = bytes_get_be32(r);
	bytes_get_be32(r); /* acknowledgment */
	header = (bytes_get_u8(r) >> 4) * 4u;
	flags = bytes_get_u8(r);
	if (r->failed)
		return -EBADMSG;
	facts->sequence_end = facts->sequence + (uint32_t)(tcp_len > header ? tcp_len - header : 0) + !!(flags & TH_FIN);
	return 0;
}

int park_frame_read(const uint8_t *frame, size_t len, struct park_frame *out)
{
	struct bytes_reader r = bytes_reader_init(frame, len);
	struct park_frame facts = { 0 };
	size_t tcp_len = 0;
	int err = -EBADMSG;

	bytes_take(&r, 2 * ETH_ALEN);
	switch (bytes_get_be16(&r)) {
	case ETHERTYPE_IP:
		err = read_ipv4(&r, &facts.flow, &tcp_len);
		break;
	case ETHERTYPE_IPV6:
		err = read_ipv6(&r, &facts.flow, &tcp_len);
		break;
	}
	if (err || facts.flow.protocol != IPPROTO_TCP || read_tcp(&r, tcp_len, &facts))
		return -EBADMSG;
	*out = facts;
	return 0;
}

static bool is_after(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

static void write_frame(struct park *park, const uint8_t *bytes, size_t len)
{
	if (write(park->fd, bytes, len) == (ssize_t)len)
		park->counters.written++;
	else
		park->counters.write_failed++;
}

/* Mostly at the end. */
static void insert_frame(struct park *park, struct kept_flow *kept, struct frame *frame)
{
	struct frame *before;

	if (TAILQ_EMPTY(&kept->frames))
		LIST_INSERT_HEAD(&park->waiting, kept, waiting);
	TAILQ_FOREACH_REVERSE(before, &kept->frames, frames, next)
		if (!is_after(before->sequence, frame->sequence)) {
			TAILQ_INSERT_AFTER(&kept->frames, before, frame, next);
			return;
		}
	TAILQ_INSERT_HEAD(&kept->frames, frame, next);
}

static void keep_frame(struct park *park, struct kept_flow *kept, const struct park_frame *facts, size_t len)
{
	struct frame *frame = NULL;

	if (park->kept_bytes + len <= PARK_BYTES_MAX)
		frame = malloc(sizeof(*frame) + len);
	if (!frame) {
		park->counters.overflowed++;
		return;
	}
	frame->sequence = facts->sequence;
	frame->sequence_end = facts->sequence_end;
	frame->len = len;
	memcpy(frame->bytes, park->buffer, len);
	insert_frame(park, kept, frame);
	park->kept_bytes += len;
	park->counters.kept++;
}

/* A frame of a flow that is not held any more is late: the node program knows where to send it. */
static void sort_frame(struct park *park, size_t len)
{
	const size_t header = sizeof(struct virtio_net_hdr);
	struct kept_flow *kept;
	struct park_frame facts;

	if (len < header || park_frame_read(park->buffer + header, len - header, &facts)) {
		park->counters.unreadable++;
		return;
	}
	kept = find_flow(park, &facts.flow);
	if (kept)
		keep_frame(park, kept, &facts, len);
	else
		write_frame(park, park->buffer, len);
}

/* Bounded, so that a flood of one flow cannot keep the loop here: what remains raises the next event. */
void park_drain(struct park *park)
{
	for (int i = 0; i < DRAIN_MAX; i++) {
		ssize_t len = read(park->fd, park->buffer, sizeof(park->buffer));

		if (len < 0 && errno != EINTR)
			return;
		if (len > 0)
			sort_frame(park, (size_t)len);
	}
}

size_t park_waiting(const struct park *park, struct flow_key *flows, size_t max)
{
	const struct kept_flow *kept;
	size_t count = 0;

	LIST_FOREACH(kept, &park->waiting, waiting) {
		if (count == max)
			break;
		flows[count++] = kept->flow;
	}
	return count;
}

bool park_first_sequence(struct park *park, const struct flow_key *flow, uint32_t *sequence)
{
	struct kept_flow *kept = find_flow(park, flow);
	struct frame *frame = kept ? TAILQ_FIRST(&kept->frames) : NULL;

	if (frame)
		*sequence = frame->sequence;
	return frame;
}

static void write_first(struct park *park, struct kept_flow *kept)
{
	struct frame *frame = TAILQ_FIRST(&kept->frames);

	take_frame(park, kept, frame);
	write_frame(park, frame->bytes, frame->len);
	free(frame);
}

void park_write_back(struct park *park, const struct flow_key *flow)
{
	struct kept_flow *kept = find_flow(park, flow);

	while (kept && !TAILQ_EMPTY(&kept->frames))
		write_first(park, kept);
}

unsigned int park_write_next(struct park *park, const struct flow_key *flow, uint32_t *next_sequence)
{
	struct kept_flow *kept = find_flow(park, flow);
	struct frame *frame;
	unsigned int written = 0;

	while (kept && (frame = TAILQ_FIRST(&kept->frames)) && !is_after(frame->sequence, *next_sequence)) {
		if (is_after(frame->sequence_end, *next_sequence))
			*next_sequence = frame->sequence_end;
		write_first(park, kept);
		written++;
	}
	return written;
}
