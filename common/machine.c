/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/machine.h"

#include "common/log.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <libgen.h>
#include <libmnl/libmnl.h>
#include <limits.h>
#include <linux/if_addr.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { SYSCTL_VALUE_MAX = 256, CHANGE_MAX = 512, QUEUE_KIND_MAX = 16, NETLINK_ROOM = 512 };

#define RECORD_MAGIC "vnas-machine-1"

struct machine {
	char *path;
	int fd;		/* of the record, appending */
	char **changes; /* the lines of the record after the first, oldest first, without line breaks */
	size_t change_count;
};

struct address {
	int family;
	unsigned char bytes[16];
	unsigned char len; /* of bytes: 4 or 16 */
};

/* Sysctls */

static int sysctl_open(const char *name, int flags)
{
	char path[PATH_MAX];
	int fd;

	if ((size_t)snprintf(path, sizeof(path), "/proc/sys/%s", name) >= sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int sysctl_read(const char *name, char value[static SYSCTL_VALUE_MAX])
{
	int fd = sysctl_open(name, O_RDONLY), rc = 0;
	ssize_t len;

	if (fd < 0)
		return fd;
	len = read(fd, value, SYSCTL_VALUE_MAX - 1);
	if (len < 0)
		rc = -errno;
	else
		value[len] = '\0';
	close(fd);
	if (rc == 0)
		value[strcspn(value, "\n")] = '\0';
	return rc;
}

static int sysctl_write(const char *name, const char *value)
{
	int fd = sysctl_open(name, O_WRONLY), rc = 0;

	if (fd < 0)
		return fd;
	if (write(fd, value, strlen(value)) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

/* Interfaces and addresses */

static int interface_ioctl(const char *interface, unsigned long request, struct ifreq *ifr)
{
	int fd, rc = 0;

	if (strlen(interface) >= sizeof(ifr->ifr_name))
		return -ENODEV;
	strcpy(ifr->ifr_name, interface);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, request, ifr) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

static int interface_is_up(const char *interface, bool *is_up)
{
	struct ifreq ifr = { 0 };
	int rc = interface_ioctl(interface, SIOCGIFFLAGS, &ifr);

	if (rc == 0)
		*is_up = ifr.ifr_flags & IFF_UP;
	return rc;
}

static int interface_set_up(const char *interface, bool up)
{
	struct ifreq ifr = { 0 };
	int rc = interface_ioctl(interface, SIOCGIFFLAGS, &ifr);

	if (rc)
		return rc;
	ifr.ifr_flags = (short)(up ? ifr.ifr_flags | IFF_UP : ifr.ifr_flags & ~IFF_UP);
	return interface_ioctl(interface, SIOCSIFFLAGS, &ifr);
}

int machine_mac(const char *interface, unsigned char mac[static 6])
{
	struct ifreq ifr = { 0 };
	int rc = interface_ioctl(interface, SIOCGIFHWADDR, &ifr);

	if (rc == 0)
		memcpy(mac, ifr.ifr_hwaddr.sa_data, 6);
	return rc;
}

void machine_serial(const char *configured, char serial[static MACHINE_SERIAL_TEXT])
{
	FILE *in = *configured ? NULL : fopen("/sys/class/dmi/id/product_serial", "re");
	size_t len = 0;
	int c;

	snprintf(serial, MACHINE_SERIAL_TEXT, "%s", configured);
	if (!in)
		return;
	while (len < MACHINE_SERIAL_TEXT - 1 && (c = fgetc(in)) != EOF)
		if (isgraph(c))
			serial[len++] = (char)c;
	serial[len] = '\0';
	fclose(in);
}

static int address_parse(const char *text, struct address *address)
{
	*address = (struct address){ .family = AF_INET, .len = 4 };
	if (inet_pton(AF_INET, text, address->bytes) == 1)
		return 0;
	*address = (struct address){ .family = AF_INET6, .len = 16 };
	return inet_pton(AF_INET6, text, address->bytes) == 1 ? 0 : -EINVAL;
}

static bool is_address(const struct sockaddr *sa, const struct address *address)
{
	if (!sa || sa->sa_family != address->family)
		return false;
	if (sa->sa_family == AF_INET)
		return memcmp(&((const struct sockaddr_in *)sa)->sin_addr, address->bytes, address->len) == 0;
	return memcmp(&((const struct sockaddr_in6 *)sa)->sin6_addr, address->bytes, address->len) == 0;
}

/* With whatever prefix length. getifaddrs(3) appends a label to the name: "eth0:1". */
static int address_is_there(const char *interface, const struct address *address, bool *is_there)
{
	struct ifaddrs *list;
	size_t len = strlen(interface);

	if (getifaddrs(&list) < 0)
		return -errno;
	*is_there = false;
	for (struct ifaddrs *ifa = list; ifa && !*is_there; ifa = ifa->ifa_next)
		*is_there = strncmp(ifa->ifa_name, interface, len) == 0 && strchr(":", ifa->ifa_name[len]) &&
			    is_address(ifa->ifa_addr, address);
	freeifaddrs(list);
	return 0;
}

/* Send a request, and take the answer: an acknowledgment, or a message that @take gets. */
static int netlink_ask_for(const struct nlmsghdr *request, mnl_cb_t take, void *arg)
{
	char reply[8192]; /* an acknowledgment repeats the request */
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	ssize_t len;
	int rc = 0;

	if (!nl)
		return -errno;
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 || mnl_socket_sendto(nl, request, request->nlmsg_len) < 0 ||
	    (len = mnl_socket_recvfrom(nl, reply, sizeof(reply))) < 0 ||
	    mnl_cb_run(reply, (size_t)len, request->nlmsg_seq, mnl_socket_get_portid(nl), take, arg) < 0)
		rc = -errno;
	mnl_socket_close(nl);
	return rc;
}

static int netlink_ask(const struct nlmsghdr *request)
{
	return netlink_ask_for(request, NULL, NULL);
}

/* The header of a request in @room, of NETLINK_ROOM bytes. */
static struct nlmsghdr *netlink_begin(void *room, unsigned short type, unsigned short flags)
{
	struct nlmsghdr *header = mnl_nlmsg_put_header(room);

	header->nlmsg_type = type;
	header->nlmsg_flags = NLM_F_REQUEST | flags;
	header->nlmsg_seq = 1;
	return header;
}

static int address_ask(unsigned short type, unsigned short flags, const char *interface, const struct address *address)
{
	char request[NETLINK_ROOM];
	struct nlmsghdr *header = netlink_begin(request, type, NLM_F_ACK | flags);
	struct ifaddrmsg *message;
	unsigned int index = if_nametoindex(interface);

	if (!index)
		return -ENODEV;
	message = mnl_nlmsg_put_extra_header(header, sizeof(*message));
	message->ifa_family = (unsigned char)address->family;
	message->ifa_prefixlen = (unsigned char)(address->len * 8);
	message->ifa_flags = address->family == AF_INET6 ? IFA_F_NODAD : 0;
	message->ifa_index = index;
	mnl_attr_put(header, IFA_LOCAL, address->len, address->bytes);
	mnl_attr_put(header, IFA_ADDRESS, address->len, address->bytes);
	return netlink_ask(header);
}

/* Queues */

/* By it we know ours again: "564e:", VN. The kernel's own have 0, those of others are rarely so large. */
#define QUEUE_HANDLE TC_H_MAKE(0x564e << 16, 0)

static int take_kind(const struct nlmsghdr *header, void *kind)
{
	const struct nlattr *attribute;

	mnl_attr_for_each(attribute, header, sizeof(struct ifinfomsg))
		if (mnl_attr_get_type(attribute) == IFLA_QDISC && mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) == 0)
			snprintf(kind, QUEUE_KIND_MAX, "%s", mnl_attr_get_str(attribute));
	return MNL_CB_OK;
}

/* What kind an interface's root queue is: "noqueue", "mq". */
static int queue_kind(const char *interface, char kind[static QUEUE_KIND_MAX])
{
	char request[NETLINK_ROOM];
	struct nlmsghdr *header = netlink_begin(request, RTM_GETLINK, 0);
	struct ifinfomsg *message;

	*kind = '\0';
	message = mnl_nlmsg_put_extra_header(header, sizeof(*message));
	message->ifi_family = AF_UNSPEC;
	message->ifi_index = (int)if_nametoindex(interface);
	return message->ifi_index ? netlink_ask_for(header, take_kind, kind) : -ENODEV;
}

static int queue_ask(unsigned short type, unsigned short flags, const char *interface)
{
	char request[NETLINK_ROOM];
	struct nlmsghdr *header = netlink_begin(request, type, NLM_F_ACK | flags);
	struct tcmsg *message;
	unsigned int index = if_nametoindex(interface);

	if (!index)
		return -ENODEV;
	message = mnl_nlmsg_put_extra_header(header, sizeof(*message));
	message->tcm_family = AF_UNSPEC;
	message->tcm_ifindex = (int)index;
	message->tcm_parent = TC_H_ROOT;
	message->tcm_handle = QUEUE_HANDLE;
	mnl_attr_put_strz(header, TCA_KIND, "pfifo_fast");
	return netlink_ask(header);
}

/* Undoing: functions get what follows the word in the record, theirs to cut. What is gone already is undone. */

/* Cut @text at its first blank. Gives what follows. */
static char *cut(char *text)
{
	text += strcspn(text, " ");
	if (*text)
		*text++ = '\0';
	return text;
}

static int undo_sysctl(char *name)
{
	char *old_value = cut(name);
	int rc = sysctl_write(name, old_value);

	return rc == -ENOENT ? 0 : rc;
}

static int undo_address(char *interface)
{
	char *text = cut(interface);
	struct address address;
	int rc = address_parse(text, &address) ?: address_ask(RTM_DELADDR, 0, interface, &address);

	return rc == -ENODEV || rc == -EADDRNOTAVAIL ? 0 : rc;
}

static int undo_up(char *interface)
{
	int rc = interface_set_up(interface, false);

	return rc == -ENODEV ? 0 : rc;
}

/* The kernel puts its own back. EINVAL: another handle, so it is not ours. */
static int undo_queue(char *interface)
{
	int rc = queue_ask(RTM_DELQDISC, 0, interface);

	return rc == -ENODEV || rc == -ENOENT || rc == -EINVAL ? 0 : rc;
}

static const struct {
	const char *word;
	int (*undo)(char *rest);
} kinds_of_change[] = {
	{ "sysctl ", undo_sysctl },
	{ "address ", undo_address },
	{ "up ", undo_up },
	{ "queue ", undo_queue },
};

enum { KIND_COUNT = sizeof(kinds_of_change) / sizeof(kinds_of_change[0]) };

/* KIND_COUNT: none. */
static size_t kind_of(const char *change)
{
	size_t i;

	for (i = 0; i < KIND_COUNT; i++)
		if (strncmp(change, kinds_of_change[i].word, strlen(kinds_of_change[i].word)) == 0)
			break;
	return i;
}

static void undo(const char *change)
{
	size_t kind = kind_of(change);
	char *rest = strdup(change + strlen(kinds_of_change[kind].word));
	int rc = rest ? kinds_of_change[kind].undo(rest) : -ENOMEM;

	if (rc)
		log_err("machine", "change=\"%s\": can't be undone: %s; undo it by hand", change, strerror(-rc));
	else
		log_info("machine", "change=\"%s\": undone", change);
	free(rest);
}

/* The record */

static int keep_change(struct machine *machine, const char *change)
{
	char **changes = reallocarray(machine->changes, machine->change_count + 1, sizeof(*changes));

	if (!changes)
		return -ENOMEM;
	machine->changes = changes;
	changes[machine->change_count] = strdup(change);
	if (!changes[machine->change_count])
		return -ENOMEM;
	machine->change_count++;
	return 0;
}

/* Append a line and sync, or leave the file as it was. */
static int append(int fd, const char *line)
{
	off_t end = lseek(fd, 0, SEEK_END);
	int rc = 0;

	errno = 0; /* stays 0 if not everything was written, on a full disk */
	if (dprintf(fd, "%s\n", line) != (int)strlen(line) + 1 || fdatasync(fd) < 0)
		rc = errno ? -errno : -ENOSPC;
	if (rc && ftruncate(fd, end) < 0)
		log_warn("machine", "line=\"%s\": half written to the record: %m", line);
	return rc;
}

static bool is_recorded(const struct machine *machine, const char *what)
{
	size_t len = strlen(what);

	for (size_t i = 0; i < machine->change_count; i++)
		if (strncmp(machine->changes[i], what, len) == 0 && strchr(" ", machine->changes[i][len]))
			return true;
	return false;
}

/*
 * Record a change that is about to be made: @what ("sysctl NAME") and, if not "", the @old_value. If an earlier run
 * recorded it and somebody undid it since, what that run found is what to go back to.
 */
static int record_change(struct machine *machine, const char *what, const char *old_value)
{
	char change[CHANGE_MAX];
	int rc;

	if (is_recorded(machine, what))
		return 0;
	if (snprintf(change, sizeof(change), "%s%s%s", what, *old_value ? " " : "", old_value) >= CHANGE_MAX)
		return -ENAMETOOLONG;
	rc = append(machine->fd, change) ?: keep_change(machine, change);
	if (rc)
		log_err("machine", "change=\"%s\" record=%s: not made, as it can't be recorded: %s", change, machine->path,
			strerror(-rc));
	return rc;
}

/* The first line of a record of this boot. */
static int headline(char line[static CHANGE_MAX])
{
	char boot_id[SYSCTL_VALUE_MAX];
	int rc = sysctl_read("kernel/random/boot_id", boot_id);

	if (rc == 0)
		snprintf(line, CHANGE_MAX, RECORD_MAGIC " boot=%s", boot_id);
	return rc;
}

/* Take one line of the record. One without a line break was torn by a crash, before its change was made. */
static int take_line(struct machine *machine, char *line, off_t *end)
{
	char *line_break = strchr(line, '\n');

	if (!line_break)
		return 0;
	*end += line_break - line + 1;
	*line_break = '\0';
	return kind_of(line) < KIND_COUNT ? keep_change(machine, line) : -EBADMSG;
}

/* Take up what an earlier run recorded. @end: out: of the last whole line; 0: there is no record of this boot. */
static int read_record(struct machine *machine, const char *head, off_t *end)
{
	FILE *in = fopen(machine->path, "re");
	char *line = NULL;
	size_t capacity = 0;
	int rc = 0;

	*end = 0;
	if (!in)
		return -errno;
	if (getline(&line, &capacity, in) < 0 || !strchr(line, '\n'))
		goto out;
	if (strncmp(line, RECORD_MAGIC " ", strlen(RECORD_MAGIC " ")) != 0) {
		rc = -EBADMSG;
		goto out;
	}
	if (strncmp(line, head, strlen(head)) != 0)
		goto out;
	*end = (off_t)strlen(line);
	while (rc == 0 && getline(&line, &capacity, in) >= 0)
		rc = take_line(machine, line, end);
out:
	free(line);
	fclose(in);
	return rc;
}

static int sync_folder(const char *path)
{
	char folder[PATH_MAX];
	int fd, rc = 0;

	snprintf(folder, sizeof(folder), "%s", path);
	fd = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

static int open_record(struct machine *machine)
{
	char head[CHANGE_MAX];
	off_t end;
	int rc = headline(head);

	if (rc)
		return rc;
	machine->fd = open(machine->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (machine->fd < 0)
		return -errno;
	rc = read_record(machine, head, &end);
	if (rc)
		return rc;
	if (ftruncate(machine->fd, end) < 0)
		return -errno;
	if (end > 0)
		return 0;
	return append(machine->fd, head) ?: sync_folder(machine->path);
}

int machine_open(const char *record, struct machine **out)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	int rc = -ENOMEM;

	if (!machine)
		return -ENOMEM;
	machine->fd = -1;
	machine->path = strdup(record);
	if (machine->path)
		rc = open_record(machine);
	if (rc) {
		log_err("machine", "record=%s: can't be used: %s%s", record, strerror(-rc),
			rc == -EBADMSG ? "; undo by hand what it lists and remove it" : "");
		machine_close(machine, 0);
		return rc;
	}
	if (machine->change_count)
		log_info("machine", "record=%s changes=%zu: taken up from an earlier run", record, machine->change_count);
	*out = machine;
	return 0;
}

void machine_close(struct machine *machine, int undo_all)
{
	if (!machine)
		return;
	for (size_t i = machine->change_count; undo_all && i-- > 0;)
		undo(machine->changes[i]);
	if (undo_all && unlink(machine->path) < 0)
		log_err("machine", "record=%s: can't be removed: %m; remove it", machine->path);
	for (size_t i = 0; i < machine->change_count; i++)
		free(machine->changes[i]);
	free(machine->changes);
	if (machine->fd >= 0)
		close(machine->fd);
	free(machine->path);
	free(machine);
}

/* Changing */

int machine_sysctl(struct machine *machine, const char *name, const char *value)
{
	char old_value[SYSCTL_VALUE_MAX], what[CHANGE_MAX];
	int rc = sysctl_read(name, old_value);

	if (rc == 0 && strcmp(old_value, value) == 0)
		return 0;
	snprintf(what, sizeof(what), "sysctl %s", name);
	if (rc == 0)
		rc = record_change(machine, what, old_value) ?: sysctl_write(name, value);
	if (rc)
		log_err("machine", "sysctl=%s value=%s: can't be set: %s", name, value, strerror(-rc));
	else
		log_info("machine", "sysctl=%s value=%s old=%s: set", name, value, old_value);
	return rc;
}

static int add_address(struct machine *machine, const char *interface, const char *text, bool *is_there)
{
	char what[CHANGE_MAX];
	struct address address;
	int rc = address_parse(text, &address);

	*is_there = false;
	if (rc == 0 && !if_nametoindex(interface))
		rc = -ENODEV;
	if (rc == 0)
		rc = address_is_there(interface, &address, is_there);
	if (rc || *is_there)
		return rc;
	snprintf(what, sizeof(what), "address %s %s", interface, text);
	return record_change(machine, what, "") ?:
	       address_ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, interface, &address);
}

int machine_address(struct machine *machine, const char *interface, const char *address)
{
	bool is_there;
	int rc = add_address(machine, interface, address, &is_there);

	if (rc)
		log_err("machine", "address=%s interface=%s: can't be added: %s", address, interface, strerror(-rc));
	else if (!is_there)
		log_info("machine", "address=%s interface=%s: added", address, interface);
	return rc;
}

static int have_up(struct machine *machine, const char *interface)
{
	char what[CHANGE_MAX];
	bool is_up;
	int rc = interface_is_up(interface, &is_up);

	if (rc == 0 && is_up)
		return 0;
	snprintf(what, sizeof(what), "up %s", interface);
	if (rc == 0)
		rc = record_change(machine, what, "") ?: interface_set_up(interface, true);
	if (rc)
		log_err("machine", "interface=%s: can't be brought up: %s", interface, strerror(-rc));
	else
		log_info("machine", "interface=%s: brought up", interface);
	return rc;
}

/* EEXIST: it is not the kernel's own. A card with many queues ("mq") would be left with one. */
static int change_queue(struct machine *machine, const char *interface, const char *what)
{
	char kind[QUEUE_KIND_MAX];
	int rc = queue_kind(interface, kind);

	if (rc == 0 && strcmp(kind, "mq") == 0)
		return -EEXIST;
	return rc ?: record_change(machine, what, "") ?: queue_ask(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, interface);
}

int machine_queue(struct machine *machine, const char *interface)
{
	char what[CHANGE_MAX];
	bool was_ours;
	int rc;

	snprintf(what, sizeof(what), "queue %s", interface);
	was_ours = is_recorded(machine, what);
	rc = change_queue(machine, interface, what);
	if (rc == 0)
		log_info("machine", "interface=%s: its queue serves by priority", interface);
	else if (rc == -EEXIST && !was_ours)
		log_info("machine", "interface=%s: has several queues, or one that is configured: left alone; let it serve "
			 "priority 6 first", interface);
	else if (rc != -EEXIST)
		log_err("machine", "interface=%s: its queue can't be changed: %s", interface, strerror(-rc));
	return rc == -EEXIST ? 0 : rc;
}

/*
 * A VIP is on several machines: ARP answers for it only where it is, and asks never with it. Packets of one client come
 * in by several interfaces: the reverse path filter would drop them. It takes the larger of "all" and the interface's
 * own value, so both are cleared, and "default" for interfaces that are made later (the parking TAP).
 */
static const struct {
	const char *name, *value;
	bool is_for_later; /* interfaces, too */
} interface_sysctls[] = {
	{ "arp_ignore", "1", false },
	{ "arp_announce", "2", false },
	{ "rp_filter", "0", true },
};

enum { SYSCTL_COUNT = sizeof(interface_sysctls) / sizeof(interface_sysctls[0]) };

/* @interface: or "all", or "default", which is for interfaces that are made later */
static int set_sysctls(struct machine *machine, const char *interface, bool is_for_later)
{
	char name[CHANGE_MAX];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < SYSCTL_COUNT; i++) {
		if (is_for_later && !interface_sysctls[i].is_for_later)
			continue;
		snprintf(name, sizeof(name), "net/ipv4/conf/%s/%s", interface, interface_sysctls[i].name);
		rc = machine_sysctl(machine, name, interface_sysctls[i].value);
	}
	return rc;
}

static int set_up_interface(struct machine *machine, const char *interface)
{
	if (if_nametoindex(interface))
		return set_sysctls(machine, interface, false);
	log_err("machine", "interface=%s: there is none; name another of `ip link` in vnasd.conf", interface);
	return -ENODEV;
}

/* The sysctls come first: from the moment a VIP is on an interface, ARP would answer for it. */
static int set_up(struct machine *machine, const char *const *interfaces, size_t interface_count,
		  const char *vip_interface, const char *const *vips, size_t vip_count)
{
	int rc = set_sysctls(machine, "all", false) ?: set_sysctls(machine, "default", true);

	for (size_t i = 0; rc == 0 && i < interface_count; i++)
		rc = set_up_interface(machine, interfaces[i]);
	if (rc == 0)
		rc = have_up(machine, "lo");
	for (size_t i = 0; rc == 0 && i < vip_count; i++)
		rc = machine_address(machine, vip_interface, vips[i]);
	return rc;
}

int machine_setup_slave(struct machine *machine, const char *interface, const char *const *vips, size_t vip_count)
{
	return set_up(machine, &interface, *interface ? 1 : 0, "lo", vips, vip_count);
}

int machine_setup_master(struct machine *machine, const char *client_interface, const char *const *interfaces,
			 size_t interface_count, const char *const *vips, size_t vip_count)
{
	int rc = set_up_interface(machine, client_interface);

	return rc ?: set_up(machine, interfaces, interface_count, client_interface, vips, vip_count);
}
