/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Everything there is to know about an option is its row in `options`. The parser, the printer, the messages and the
 * tests of the sample configuration and the man page walk that table.
 */
#include "config.h"

#include "common/settings.h"

#include "common/admission.h"
#include "common/uuid.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <event2/util.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

struct option;

/* A kind of value. */
struct kind {
	const char *takes; /* what is right, for messages; NULL: the option's choices */
	int (*parse)(const struct option *option, const char *text, void *field); /* 0 or -EINVAL */
	void (*print)(const struct option *option, const void *field, FILE *out); /* prints nothing if it has no value */
};

struct option {
	const char *section, *key;
	const struct kind *kind;
	size_t offset; /* in struct settings; in one of a series, for the sections that may be repeated */
	size_t size;   /* of the field; of one element, if it is a list */

	const char *const *choices; /* by value, ended by NULL after the last; the first may be "": not set */
	uint64_t min, max;	    /* of a number; max 0: any */
	bool is_live;		    /* counts when the file is read again */
	size_t count_offset;	    /* of a list: its unsigned int count in struct settings */
	unsigned int count_max;	    /* 0: not a list */
};

/* Sections that may be repeated: an array in struct settings, and how many there are. */
struct series {
	const char *section;
	size_t array, count, size;
	unsigned int max;
	const char *key, *example; /* what each must have */
	size_t line;		   /* of an unsigned int that gets the section's line; NO_LINE: it has none */
};

#define NO_LINE SIZE_MAX

struct parser {
	const char *path;
	unsigned int line;
	char *why;
	struct settings *settings;
	const char *section;	   /* of `options`; NULL before the first */
	unsigned int section_line; /* where it began */
	unsigned int *seen;	   /* by option: the line that set it, or 0 */
};

static const char blanks[] = " \t\r\n";

/* Kinds of values */

static int choice_parse(const struct option *option, const char *text, void *field)
{
	for (unsigned int i = 0; option->choices[i]; i++)
		if (*text && strcmp(text, option->choices[i]) == 0) {
			*(unsigned int *)field = i;
			return 0;
		}
	return -EINVAL;
}

static void choice_print(const struct option *option, const void *field, FILE *out)
{
	fputs(option->choices[*(const unsigned int *)field], out);
}

static int yes_no_parse(const struct option *option, const char *text, void *field)
{
	unsigned int value;

	if (choice_parse(option, text, &value))
		return -EINVAL;
	*(bool *)field = value;
	return 0;
}

static void yes_no_print(const struct option *option, const void *field, FILE *out)
{
	fputs(option->choices[*(const bool *)field], out);
}

static int text_copy(const struct option *option, const char *text, void *field)
{
	if (strlen(text) >= option->size)
		return -EINVAL;
	strcpy(field, text);
	return 0;
}

static void text_print(const struct option *option, const void *field, FILE *out)
{
	(void)option;
	fputs(field, out);
}

/* Not all digits: nasctl takes the name or the number of a node. */
static int host_name_parse(const struct option *option, const char *text, void *field)
{
	if (!isalnum((unsigned char)*text) || text[strspn(text, "0123456789")] == '\0')
		return -EINVAL;
	for (const char *p = text; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr(".-_", *p))
			return -EINVAL;
	return text_copy(option, text, field);
}

static int directory_parse(const struct option *option, const char *text, void *field)
{
	return *text == '/' ? text_copy(option, text, field) : -EINVAL;
}

/* A name in the virtual root: no doubled or trailing slash and no component that path look-up would take away. */
static int place_parse(const struct option *option, const char *text, void *field)
{
	for (const char *p = text; *p; p += strcspn(p, "/")) {
		size_t len;

		if (*p++ != '/')
			return -EINVAL;
		len = strcspn(p, "/");
		if (len > NAME_MAX || (len <= 2 && strspn(p, ".") == len))
			return -EINVAL;
	}
	return text_copy(option, text, field);
}

/* Of the automount map: the only pattern is a "*" for the last name. */
static int map_place_parse(const struct option *option, const char *text, void *field)
{
	size_t special = strcspn(text, "*?[");
	bool is_pattern = special > 2 && strcmp(text + special - 1, "/*") == 0;

	return text[special] && !is_pattern ? -EINVAL : place_parse(option, text, field);
}

static int pattern_parse(const struct option *option, const char *text, void *field)
{
	return *text ? text_copy(option, text, field) : -EINVAL;
}

static int device_parse(const struct option *option, const char *text, void *field)
{
	return strncmp(text, "/dev/", 5) == 0 ? text_copy(option, text, field) : -EINVAL;
}

static int volume_uuid_parse(const struct option *option, const char *text, void *field)
{
	uint8_t uuid[16];

	return uuid_parse(text, uuid) < 0 ? -EINVAL : text_copy(option, text, field);
}

static int address_parse(const struct option *option, const char *text, void *field)
{
	unsigned char address[16];
	char canonical[INET6_ADDRSTRLEN] = "";

	for (size_t i = 0; *text && i < 2 && !*canonical; i++) {
		int family = i ? AF_INET6 : AF_INET;

		if (inet_pton(family, text, address) == 1)
			inet_ntop(family, address, canonical, sizeof(canonical));
	}
	if ((*text && !*canonical) || strcmp(canonical, "0.0.0.0") == 0 || strcmp(canonical, "::") == 0)
		return -EINVAL;
	return text_copy(option, canonical, field);
}

/* "off", or an address and a port: 127.0.0.1:2051, [::1]:2051. */
static int listen_parse(const struct option *option, const char *text, void *field)
{
	struct sockaddr_storage address;
	int len = sizeof(address);

	if (strcmp(text, "off") == 0)
		return text_copy(option, text, field);
	if (evutil_parse_sockaddr_port(text, (struct sockaddr *)&address, &len) < 0 ||
	    ((struct sockaddr_in *)&address)->sin_port == 0) /* where sin6_port is, too */
		return -EINVAL;
	return text_copy(option, text, field);
}

/* "dhcp", or an address. */
static int master_parse(const struct option *option, const char *text, void *field)
{
	return strcmp(text, "dhcp") == 0 ? text_copy(option, text, field) : address_parse(option, text, field);
}

/* What may go into logs and tables, and be a word of a rule (common/admission.h). */
static int label_parse(const struct option *option, const char *text, void *field)
{
	for (const char *p = text; *p; p++)
		if (!isgraph((unsigned char)*p))
			return -EINVAL;
	return text_copy(option, text, field);
}

static int rule_parse(const struct option *option, const char *text, void *field)
{
	return admission_is_rule(text) ? text_copy(option, text, field) : -EINVAL;
}

/* As dev_valid_name() in Linux. */
static int interface_parse(const struct option *option, const char *text, void *field)
{
	if (strcmp(text, ".") == 0 || strcmp(text, "..") == 0 || text[strcspn(text, "/: \t")] != '\0')
		return -EINVAL;
	return text_copy(option, text, field);
}

static int network_parse(const struct option *option, const char *text, void *field)
{
	struct ip_network network;

	(void)option;
	if (ip_network_parse(text, &network) < 0 || !ip_network_is_exact(&network))
		return -EINVAL;
	*(struct ip_network *)field = network;
	return 0;
}

static void network_print(const struct option *option, const void *field, FILE *out)
{
	char text[IP_NETWORK_TEXT_MAX];

	(void)option;
	fputs(ip_network_text(field, text), out);
}

/* One of the choices, kept as a text. */
static int word_parse(const struct option *option, const char *text, void *field)
{
	unsigned int value;

	return choice_parse(option, text, &value) ? -EINVAL : text_copy(option, text, field);
}

static int digits_parse(const struct option *option, const char *text, uint64_t unit, uint64_t *value)
{
	char *end;
	uint64_t number;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || errno || number > UINT64_MAX / unit)
		return -EINVAL;
	number *= unit;
	if (number < option->min || (option->max && number > option->max))
		return -EINVAL;
	*value = number;
	return 0;
}

static int port_parse(const struct option *option, const char *text, void *field)
{
	uint64_t value;

	if (digits_parse(option, text, 1, &value))
		return -EINVAL;
	*(uint16_t *)field = (uint16_t)value;
	return 0;
}

static void port_print(const struct option *option, const void *field, FILE *out)
{
	(void)option;
	fprintf(out, "%u", *(const uint16_t *)field);
}

static int number_parse(const struct option *option, const char *text, void *field)
{
	uint64_t value;

	if (digits_parse(option, text, 1, &value))
		return -EINVAL;
	*(unsigned int *)field = (unsigned int)value;
	return 0;
}

static void number_print(const struct option *option, const void *field, FILE *out)
{
	(void)option;
	fprintf(out, "%u", *(const unsigned int *)field);
}

static int dscp_parse(const struct option *option, const char *text, void *field)
{
	uint64_t value;

	if (strcmp(text, "none") == 0) {
		*(int *)field = -1;
		return 0;
	}
	if (digits_parse(option, text, 1, &value))
		return -EINVAL;
	*(int *)field = (int)value;
	return 0;
}

static void dscp_print(const struct option *option, const void *field, FILE *out)
{
	int value = *(const int *)field;

	(void)option;
	if (value < 0)
		fputs("none", out);
	else
		fprintf(out, "%d", value);
}

static const char size_suffixes[] = "KMGT";

static int size_parse(const struct option *option, const char *text, void *field)
{
	char digits[32];
	size_t len = strlen(text);
	const char *suffix = len ? strchr(size_suffixes, toupper((unsigned char)text[len - 1])) : NULL;
	uint64_t unit = suffix ? 1ULL << 10 * (suffix - size_suffixes + 1) : 1;

	if (len >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, text, len + 1);
	if (suffix)
		digits[len - 1] = '\0';
	return digits_parse(option, digits, unit, field);
}

static void size_print(const struct option *option, const void *field, FILE *out)
{
	uint64_t value = *(const uint64_t *)field;
	int power = 0;

	(void)option;
	for (; value && value % 1024 == 0 && size_suffixes[power]; power++)
		value /= 1024;
	fprintf(out, "%" PRIu64 "%.*s", value, power > 0, &size_suffixes[power > 0 ? power - 1 : 0]);
}

static const struct {
	char suffix;
	uint32_t seconds;
} time_units[] = { { 'd', 86400 }, { 'h', 3600 }, { 'm', 60 }, { 's', 1 } };

static int life_parse(const struct option *option, const char *text, void *field)
{
	char digits[32];
	size_t len = strlen(text);
	uint64_t value;

	if (len == 0 || len >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, text, len - 1);
	digits[len - 1] = '\0';
	for (size_t i = 0; i < sizeof(time_units) / sizeof(time_units[0]); i++)
		if (text[len - 1] == time_units[i].suffix) {
			if (digits_parse(option, digits, time_units[i].seconds, &value) < 0)
				return -EINVAL;
			*(uint32_t *)field = (uint32_t)value;
			return 0;
		}
	return -EINVAL;
}

static void life_print(const struct option *option, const void *field, FILE *out)
{
	uint32_t value = *(const uint32_t *)field;
	size_t i = 0;

	(void)option;
	while (value % time_units[i].seconds)
		i++;
	fprintf(out, "%" PRIu32 "%c", value / time_units[i].seconds, time_units[i].suffix);
}

static const struct kind choice = { NULL, choice_parse, choice_print };
static const struct kind yes_no = { NULL, yes_no_parse, yes_no_print };
static const struct kind host_name = { "a host name of letters, digits, '-', '.' and '_', not only digits",
				       host_name_parse, text_print };
static const struct kind directory = { "a path that begins with /", directory_parse, text_print };
static const struct kind place = { "a path such as /home, without //, /. or /.. in it", place_parse, text_print };
static const struct kind map_place = { "a path such as /home or /home/*, without other patterns and without //, /. or /.. in it", map_place_parse,
				       text_print };
static const struct kind pattern = { "a name or a shell pattern such as disk-*", pattern_parse, text_print };
static const struct kind device = { "a device or a shell pattern such as /dev/sd[b-z]", device_parse, text_print };
static const struct kind volume_uuid = { "a UUID as nasctl volume list shows it", volume_uuid_parse, text_print };
static const struct kind address = { "an IPv4 or IPv6 address such as 10.0.0.1", address_parse, text_print };
static const struct kind master_address = { "dhcp, or an IPv4 or IPv6 address such as 10.0.0.1", master_parse, text_print };
static const struct kind listen_at = { "off, or an address with a port such as 127.0.0.1:2051 or [::1]:2051", listen_parse, text_print };
static const struct kind label = { "at most 64 letters, digits and signs, without blanks", label_parse, text_print };
static const struct kind rule = { "conditions network:10.0.2.0/24, vendor-class:vnas-disk, serial:WD-*, mac:52:54:00:* or name:disk-*, "
				  "joined by + where all must hold", rule_parse, text_print };
static const struct kind interface = { "the name of a network interface, at most 15 characters", interface_parse,
				       text_print };
static const struct kind network = { "a network such as 10.0.0.0/8 or fd00::/8, without bits beyond its length", network_parse,
				     network_print };
static const struct kind one_word = { NULL, word_parse, text_print };
static const struct kind port = { "a port number", port_parse, port_print };
static const struct kind dscp = { "none or a number", dscp_parse, dscp_print };
static const struct kind milliseconds = { "a number of milliseconds", number_parse, number_print };
static const struct kind percent = { "a number of percent", number_parse, number_print };
static const struct kind per_second = { "a number of handoffs per second", number_parse, number_print };
static const struct kind entries = { "a number of entries", number_parse, number_print };
static const struct kind departures = { "a number of departures", number_parse, number_print };
static const struct kind threads = { "a number of threads", number_parse, number_print };
static const struct kind life = { "a time such as 1826d, 12h, 90m or 60s, in seconds", life_parse, life_print };
static const struct kind size = { "a number of bytes such as 4096, 64K, 1M or 2G", size_parse, size_print };

/* Values of choices, indexed as their enum */

static const char *const modes[] = {
	[SETTINGS_MODE_UNSET] = "", [SETTINGS_MODE_MASTER] = "master", [SETTINGS_MODE_SLAVE] = "slave", NULL
};
static const char *const log_levels[] = {
	[LOG_LEVEL_ERR] = "err", [LOG_LEVEL_WARN] = "warn", [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug", NULL
};
static const char *const first_devices[] = {
	[SETTINGS_FIRST_SWITCH] = "switch", [SETTINGS_FIRST_ROUND_ROBIN] = "round-robin",
	[SETTINGS_FIRST_WEIGHT] = "weight",	[SETTINGS_FIRST_LEAST_LOAD] = "least-load",
	[SETTINGS_FIRST_CLIENT] = "client",	NULL
};
static const char *const formats[] = {
	[SETTINGS_FORMAT_ASK] = "ask", [SETTINGS_FORMAT_EMPTY] = "empty", [SETTINGS_FORMAT_EMPTY + 1] = NULL
};
static const char *const types[] = { "ext4", "xfs", NULL };
static const char *const names[] = {
	[SETTINGS_NAMES_NUMBER] = "number", [SETTINGS_NAMES_SERIAL] = "serial", [SETTINGS_NAMES_SERIAL + 1] = NULL
};
static const char *const map_volumes[] = { "most-room", NULL };
static const char *const portmappers[] = {
	[SETTINGS_PORTMAPPER_AUTO] = "auto",	   [SETTINGS_PORTMAPPER_BUILTIN] = "builtin",
	[SETTINGS_PORTMAPPER_RPCBIND] = "rpcbind", [SETTINGS_PORTMAPPER_NONE] = "none", NULL
};
static const char *const corrects[] = { [SETTINGS_CORRECT_AUTO] = "auto", [SETTINGS_CORRECT_NO] = "no", NULL };
static const char *const services[] = { "nfs", "portmapper", "scp", NULL };
static const char *const no_yes[] = { "no", "yes", NULL };

_Static_assert(sizeof(enum settings_mode) == sizeof(unsigned int) && sizeof(enum log_level) == sizeof(unsigned int),
	       "choice_parse() stores an unsigned int");

#define SIZE_OF(type, member) sizeof(((type *)0)->member)
#define FIELD_OF(type, member) .offset = offsetof(type, member), .size = SIZE_OF(type, member)
#define FIELD(member) FIELD_OF(struct settings, member)
#define OF_VOLUME(member) FIELD_OF(struct settings_volume, member)
#define OF_FILTER(member) FIELD_OF(struct settings_filter, member)
#define OF_MAP(member) FIELD_OF(struct settings_map, member)
#define LIST_OF(type, member, count)                                                               \
	.offset = offsetof(type, member), .size = SIZE_OF(type, member[0]),                        \
	.count_offset = offsetof(type, count), .count_max = SIZE_OF(type, member) / SIZE_OF(type, member[0])
#define LIVE .is_live = true
#define LIST(member, count) LIST_OF(struct settings, member, count)

static const struct option options[] = {
	{ "vnas", "mode", &choice, FIELD(mode), .choices = modes },
	{ "vnas", "name", &host_name, FIELD(name) },
	{ "vnas", "serial", &label, FIELD(serial) },
	{ "vnas", "state_dir", &directory, FIELD(state_dir) },
	{ "vnas", "run_dir", &directory, FIELD(run_dir) },
	{ "vnas", "bpf_dir", &directory, FIELD(bpf_dir) },
	{ "vnas", "log_level", &choice, FIELD(log_level), .choices = log_levels, LIVE },
	{ "network", "vip", &address, LIST(vips, vip_count) },
	{ "network", "address", &address, FIELD(address) },
	{ "network", "scp_port", &port, FIELD(scp_port), .min = 1, .max = UINT16_MAX },
	{ "network", "client_interfaces", &interface, LIST(client_interfaces, client_interface_count) },
	{ "network", "disk_interfaces", &interface, LIST(disk_interfaces, disk_interface_count) },
	{ "network", "interface", &interface, FIELD(interface) },
	{ "network", "master", &master_address, FIELD(master) },
	{ "network", "vendor_class", &label, FIELD(vendor_class) },
	{ "network", "handoff", &yes_no, FIELD(handoff), .choices = no_yes },
	{ "fabric", "first_device", &choice, FIELD(first_device), .choices = first_devices },
	{ "fabric", "flows", &entries, FIELD(flows), .min = 1024, .max = 1 << 24 },
	{ "fabric", "dscp", &dscp, FIELD(dscp), .max = 63 },
	{ "fabric", "serve_first", &yes_no, FIELD(serve_first), .choices = no_yes },
	{ "nfs", "port", &port, FIELD(nfs_port), .min = 1, .max = UINT16_MAX },
	{ "nfs", "portmapper", &choice, FIELD(portmapper), .choices = portmappers },
	{ "nfs", "memory", &size, FIELD(memory), .min = 128 << 20, .max = 1ULL << 40 },
	{ "nfs", "data_loops", &threads, FIELD(data_loops), .max = 256 },
	{ "membership", "auto_approve", &rule, LIST(auto_approve, auto_approve_count) },
	{ "membership", "suspect", &milliseconds, FIELD(membership.suspect_ms), .min = 1500, .max = 3600000 },
	{ "membership", "down", &milliseconds, FIELD(membership.down_ms), .min = 2000, .max = 3600000 },
	{ "membership", "flaps", &departures, FIELD(membership.flaps), .max = MEMBER_FLAPS_MAX },
	{ "membership", "window", &milliseconds, FIELD(membership.flap_window_ms), .min = 1, .max = 86400000 },
	{ "membership", "hold", &milliseconds, FIELD(membership.hold_ms), .min = 1, .max = 86400000 },
	{ "membership", "hold_max", &milliseconds, FIELD(membership.hold_max_ms), .min = 1, .max = 86400000 },
	{ "membership", "certificate_life", &life, FIELD(certificate_life_s), .min = 10, .max = 36500 * 86400ULL, LIVE },
	{ "membership", "authority_life", &life, FIELD(authority_life_s), .min = 10, .max = 36500 * 86400ULL, LIVE },
	{ "time", "correct", &choice, FIELD(correct), .choices = corrects },
	{ "time", "bound", &milliseconds, FIELD(clock_bound_ms), .min = 1, .max = 86400000 },
	{ "metrics", "listen", &listen_at, FIELD(metrics) },
	{ "placement", "bytes", &size, FIELD(placement.bytes), LIVE },
	{ "placement", "elsewhere", &size, FIELD(placement.elsewhere), LIVE },
	{ "placement", "prepare", &percent, FIELD(placement.prepare), .max = 100, LIVE },
	{ "placement", "request", &size, FIELD(placement.request), LIVE },
	{ "placement", "ratio", &percent, FIELD(placement.ratio), .max = 1000000, LIVE },
	{ "placement", "workload", &percent, FIELD(placement.workload), .max = 100, LIVE },
	{ "placement", "window", &milliseconds, FIELD(placement.window_ms), .min = 1, .max = 3600000, LIVE },
	{ "placement", "stay", &milliseconds, FIELD(placement.stay_ms), .max = 3600000, LIVE },
	{ "placement", "budget", &per_second, FIELD(placement.budget), .max = 1000000, LIVE },
	{ "placement", "queue", &size, FIELD(placement.queue), LIVE },
	{ "placement", "halve", &size, FIELD(placement.halve), LIVE },
	{ "placement", "per_client", &yes_no, FIELD(placement.per_client), .choices = no_yes, LIVE },
	{ "balance", "busy", &percent, FIELD(busy_percent), .max = 100, LIVE },
	{ "automount", "names", &choice, FIELD(names), .choices = names, LIVE },
	{ "map", "places", &map_place, LIST_OF(struct settings_map, places, place_count), LIVE },
	{ "map", "uuid", &volume_uuid, OF_MAP(uuid), LIVE },
	{ "map", "serial", &pattern, OF_MAP(serial), LIVE },
	{ "map", "node", &pattern, OF_MAP(node), LIVE },
	{ "map", "volume", &one_word, OF_MAP(volume), .choices = map_volumes, LIVE },
	{ "filter", "network", &network, OF_FILTER(network), LIVE },
	{ "filter", "services", &one_word, LIST_OF(struct settings_filter, services, service_count), .choices = services,
	  LIVE },
	{ "disks", "devices", &device, LIST(devices, device_count) },
	{ "disks", "format", &choice, FIELD(format), .choices = formats },
	{ "disks", "type", &one_word, FIELD(type), .choices = types },
	{ "volume", "path", &directory, OF_VOLUME(path) },
	{ "volume", "place", &place, OF_VOLUME(place) },
};

enum { OPTION_COUNT = sizeof(options) / sizeof(options[0]) };

const char *settings_first_device_name(enum settings_first_device first_device)
{
	return first_devices[first_device];
}

#define SERIES(name, array, count, max, key, example, line)                                       \
	{ name, offsetof(struct settings, array), offsetof(struct settings, count),                \
	  sizeof(*((struct settings *)0)->array), max, key, example, line }

static const struct series all_series[] = {
	SERIES("map", maps, map_count, SETTINGS_MAPS_MAX, "places", "/home", offsetof(struct settings_map, line)),
	SERIES("filter", filters, filter_count, SETTINGS_FILTERS_MAX, "network", "10.0.0.0/8", NO_LINE),
	SERIES("volume", volumes, volume_count, SETTINGS_VOLUMES_MAX, "path", "DIRECTORY", NO_LINE),
};

enum { SERIES_COUNT = sizeof(all_series) / sizeof(all_series[0]) };

/* NULL: the section is there once */
static const struct series *series_of(const char *section)
{
	for (size_t i = 0; i < SERIES_COUNT; i++)
		if (strcmp(all_series[i].section, section) == 0)
			return &all_series[i];
	return NULL;
}

static void **array_of(const struct series *series, const struct settings *settings)
{
	return (void **)((char *)settings + series->array);
}

static unsigned int *count_of(const struct series *series, const struct settings *settings)
{
	return (unsigned int *)((char *)settings + series->count);
}

bool settings_option(size_t number, const char **section, const char **key)
{
	if (number >= OPTION_COUNT)
		return false;
	*section = options[number].section;
	*key = options[number].key;
	return true;
}

/* Defaults */

void settings_init(struct settings *settings)
{
	static const struct option name_option = { .size = SIZE_OF(struct settings, name) };
	char name[SETTINGS_NAME_MAX] = "";

	*settings = (struct settings){
		.name = "vnas",
		.state_dir = "/var/lib/vnas",
		.run_dir = "/run/vnas",
		.bpf_dir = "/sys/fs/bpf/vnas",
		.log_level = LOG_LEVEL_INFO,
		.scp_port = 2050,
		.vendor_class = "vnas-disk",
		.handoff = true,
		.flows = 1000000,
		.dscp = -1,
		.type = "ext4",
		.nfs_port = 2049,
		.portmapper = SETTINGS_PORTMAPPER_AUTO,
		.memory = 256 << 20,
		.membership = {
			.suspect_ms = 2500,
			.down_ms = 5000,
			.flaps = 5,
			.flap_window_ms = 60000,
			.hold_ms = 10000,
			.hold_max_ms = 300000,
		},
		.certificate_life_s = 1826 * 86400,
		.authority_life_s = 3652 * 86400,
		.clock_bound_ms = 1000,
		.metrics = "127.0.0.1:2051",
		.placement = {
			.bytes = 1 << 20,
			.prepare = 50,
			.ratio = 200,
			.window_ms = 500,
			.stay_ms = 200,
			.budget = 1000,
			.queue = 4 << 20,
		},
	};
	/* A host may be called what we would not take ("(none)", or only digits): then "vnas" remains. */
	if (gethostname(name, sizeof(name) - 1) == 0)
		host_name_parse(&name_option, name, settings->name);
}

void settings_fini(struct settings *settings)
{
	for (size_t i = 0; i < SERIES_COUNT; i++) {
		free(*array_of(&all_series[i], settings));
		*array_of(&all_series[i], settings) = NULL;
		*count_of(&all_series[i], settings) = 0;
	}
}

/* Reading */

static int __attribute__((format(printf, 2, 3))) fail(const struct parser *parser, const char *format, ...)
{
	int head = snprintf(parser->why, SETTINGS_WHY_MAX, "%s:%u: ", parser->path, parser->line);
	va_list args;

	if (head > 0 && head < SETTINGS_WHY_MAX) {
		va_start(args, format);
		vsnprintf(parser->why + head, SETTINGS_WHY_MAX - (size_t)head, format, args);
		va_end(args);
	}
	return -EINVAL;
}

/* "a, b, c" into @text, which is large enough for all that the tables hold. */
static void enumerate(char *text, const char *name)
{
	if (*text)
		strcat(text, ", ");
	strcat(text, name);
}

static int fail_section(const struct parser *parser, const char *name)
{
	char known[SETTINGS_WHY_MAX] = "";

	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (i == 0 || strcmp(options[i].section, options[i - 1].section) != 0)
			enumerate(known, options[i].section);
	return fail(parser, "there is no section [%.64s]; there are: %s", name, known);
}

static int fail_key(const struct parser *parser, const char *key)
{
	char known[SETTINGS_WHY_MAX] = "";

	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (strcmp(options[i].key, key) == 0)
			return fail(parser, "%s is not an option of [%s]; it belongs in [%s]", key, parser->section,
				    options[i].section);
	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (strcmp(options[i].section, parser->section) == 0)
			enumerate(known, options[i].key);
	return fail(parser, "there is no option %.64s in [%s]; there are: %s", key, parser->section, known);
}

static int fail_value(const struct parser *parser, const struct option *option, const char *value)
{
	char takes[SETTINGS_WHY_MAX] = "one of: ";

	if (option->kind->takes)
		snprintf(takes, sizeof(takes), "%s", option->kind->takes);
	else
		for (unsigned int i = 0, shown = 0; option->choices[i]; i++)
			if (*option->choices[i])
				sprintf(takes + strlen(takes), "%s%s", shown++ ? ", " : "", option->choices[i]);
	if (option->max)
		sprintf(takes + strlen(takes), " from %" PRIu64 " to %" PRIu64, option->min, option->max);
	return fail(parser, "%s can't be \"%.128s\"; it takes %s", option->key, value, takes);
}

/* The struct that @option's offsets are in. */
static void *base_of(const struct option *option, const struct settings *settings, unsigned int number)
{
	const struct series *series = series_of(option->section);

	return series ? (char *)*array_of(series, settings) + number * series->size : (char *)settings;
}

static bool is_listed(const struct option *option, const char *elements, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		if (strcmp(elements + i * option->size, elements + count * option->size) == 0)
			return true;
	return false;
}

static int fail_comment(const struct parser *parser, const char *key)
{
	return fail(parser, "%s is followed by a comment; a comment needs a line of its own", key);
}

/* Elements of lists are texts. */
static int parse_list(const struct parser *parser, const struct option *option, char *value, char *base)
{
	static const char separators[] = ", \t";
	unsigned int *count = (unsigned int *)(base + option->count_offset);
	char *elements = base + option->offset, *rest = NULL;

	*count = 0;
	for (char *word = strtok_r(value, separators, &rest); word; word = strtok_r(NULL, separators, &rest)) {
		if (*word == '#' || *word == ';') /* after a comma without a space */
			return fail_comment(parser, option->key);
		if (*count == option->count_max)
			return fail(parser, "%s has too many values; it takes at most %u", option->key, option->count_max);
		if (option->kind->parse(option, word, elements + *count * option->size))
			return fail_value(parser, option, word);
		if (is_listed(option, elements, *count))
			return fail(parser, "%s has %s twice; once is enough", option->key, word);
		++*count;
	}
	return 0;
}

static const struct option *find_option(const char *section, const char *key)
{
	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (strcmp(options[i].section, section) == 0 && strcmp(options[i].key, key) == 0)
			return &options[i];
	return NULL;
}

static int parse_value(const struct parser *parser, const char *key, char *value)
{
	const struct option *option = find_option(parser->section, key);
	const struct series *series = series_of(parser->section);
	unsigned int *seen;
	char *base;

	if (!option)
		return fail_key(parser, key);
	seen = &parser->seen[option - options];
	if (*seen)
		return fail(parser, "%s is set already, in line %u; remove one of the two", key, *seen);
	*seen = parser->line;
	if (strstr(value, " #") || strstr(value, " ;") || strstr(value, "\t#") || strstr(value, "\t;"))
		return fail_comment(parser, key);
	base = base_of(option, parser->settings, series ? *count_of(series, parser->settings) - 1 : 0);
	if (option->count_max)
		return parse_list(parser, option, value, base);
	return option->kind->parse(option, value, base + option->offset) ? fail_value(parser, option, value) : 0;
}

static int add_to(struct parser *parser, const struct series *series)
{
	void **array = array_of(series, parser->settings);
	unsigned int *count = count_of(series, parser->settings);
	char *fresh;
	void *more;

	if (*count == series->max)
		return fail(parser, "too many [%s] sections; %u is the most", series->section, series->max);
	more = reallocarray(*array, *count + 1, series->size);
	if (!more)
		return fail(parser, "no memory for another [%s]; free some", series->section);
	*array = more;
	fresh = (char *)more + (*count)++ * series->size;
	memset(fresh, 0, series->size);
	if (series->line != NO_LINE)
		*(unsigned int *)(fresh + series->line) = parser->line;
	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (strcmp(options[i].section, series->section) == 0)
			parser->seen[i] = 0;
	return 0;
}

static int end_section(struct parser *parser)
{
	const struct series *series = parser->section ? series_of(parser->section) : NULL;

	if (!series || parser->seen[find_option(series->section, series->key) - options])
		return 0;
	parser->line = parser->section_line;
	return fail(parser, "this [%s] has no %s; add %s = %s", series->section, series->key, series->key,
		    series->example);
}

static int parse_section(struct parser *parser, char *text)
{
	char *end = strchr(text, ']');
	const struct series *series;

	if (!end || end[1])
		return fail(parser, "a section's line ends after its name in brackets: [network]");
	*end = '\0';
	parser->section = NULL;
	for (size_t i = 0; i < OPTION_COUNT && !parser->section; i++)
		if (strcmp(options[i].section, text) == 0)
			parser->section = options[i].section;
	if (!parser->section)
		return fail_section(parser, text);
	parser->section_line = parser->line;
	series = series_of(parser->section);
	return series ? add_to(parser, series) : 0;
}

static char *trim(char *text)
{
	char *end;

	text += strspn(text, blanks);
	for (end = text + strlen(text); end > text && strchr(blanks, end[-1]); end--)
		;
	*end = '\0';
	return text;
}

static bool has_control(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (iscntrl((unsigned char)text[i]) && !strchr("\t\r\n", text[i]))
			return true;
	return memchr(text, '\0', len) != NULL;
}

static int parse_line(struct parser *parser, char *line, size_t len)
{
	char *text, *equals;

	if (has_control(line, len))
		return fail(parser, "this line has control characters; is it a text file?");
	text = trim(line);
	if (!*text || *text == '#' || *text == ';')
		return 0;
	if (*text == '[')
		return end_section(parser) ?: parse_section(parser, text + 1);
	equals = strchr(text, '=');
	if (!equals)
		return fail(parser, "\"%.128s\" is neither [section] nor key = value", text);
	*equals = '\0';
	text = trim(text);
	if (!parser->section)
		return fail(parser, "%.64s is before the first section; begin with one such as [vnas]", text);
	return parse_value(parser, text, trim(equals + 1));
}

int settings_parse(const char *path, FILE *in, struct settings *out, char *why)
{
	unsigned int seen[OPTION_COUNT] = { 0 };
	struct settings settings;
	struct parser parser = { .path = path, .why = why, .settings = &settings, .seen = seen };
	char *line = NULL;
	size_t capacity = 0;
	ssize_t len;
	int rc = 0;

	settings_init(&settings);
	while (rc == 0 && (len = getline(&line, &capacity, in)) >= 0) {
		parser.line++;
		rc = parse_line(&parser, line, (size_t)len);
	}
	if (rc == 0 && ferror(in))
		rc = fail(&parser, "can't be read to its end: %m");
	if (rc == 0)
		rc = end_section(&parser);
	if (rc)
		settings_fini(&settings);
	else
		*out = settings;
	free(line);
	return rc;
}

/* What only shows when all is known */

static int __attribute__((format(printf, 2, 3))) refuse(char *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, SETTINGS_WHY_MAX, format, args);
	va_end(args);
	return -EINVAL;
}

static int validate_master(const struct settings *settings, char *why)
{
	if (*settings->interface)
		return refuse(why, "interface = %s is for slaves; a master has client_interfaces and disk_interfaces",
			      settings->interface);
	if (*settings->master)
		return refuse(why, "master = %s is for slaves; remove it", settings->master);
	if (settings->vip_count && !settings->client_interface_count)
		return refuse(why, "vip = %s has no interface; name in client_interfaces where the clients are",
			      settings->vips[0]);
	if (!settings->vip_count && settings->client_interface_count + settings->disk_interface_count)
		return refuse(why, "interfaces are given but no vip; set vip, or remove client_interfaces and "
				   "disk_interfaces to serve at every address of this machine");
	return 0;
}

static int validate_slave(const struct settings *settings, char *why)
{
	if (settings->map_count)
		return refuse(why, "line %u: [map] is for the master, which makes the tree; remove it", settings->maps[0].line);
	if (settings->filter_count)
		return refuse(why, "[filter] is for the master, by which clients' packets come; remove it");
	if (settings->auto_approve_count)
		return refuse(why, "auto_approve is for the master, which decides who joins; remove it");
	if (settings->vip_count)
		return refuse(why, "vip = %s is for the master, from which slaves learn it; remove it", settings->vips[0]);
	if (settings->client_interface_count + settings->disk_interface_count)
		return refuse(why, "client_interfaces and disk_interfaces are for the master; a slave has interface");
	if (settings->handoff && !*settings->interface)
		return refuse(why, "handoff = yes needs interface, the one towards the switch; set it, or handoff = no");
	return 0;
}

static int validate_volumes(const struct settings *settings, char *why)
{
	const struct settings_volume *volumes = settings->volumes;

	for (unsigned int i = 0; i < settings->volume_count; i++)
		for (unsigned int j = 0; j < i; j++) {
			if (strcmp(volumes[i].path, volumes[j].path) == 0)
				return refuse(why, "two volumes have path = %.200s; remove one", volumes[i].path);
			if (*volumes[i].place && strcmp(volumes[i].place, volumes[j].place) == 0)
				return refuse(why, "two volumes have place = %.200s; move one", volumes[i].place);
		}
	return 0;
}

/* The same place, or one inside the other: places can't be inside volumes. */
static bool is_place_in(const char *inner, const char *outer)
{
	size_t len = strlen(outer);

	return strncmp(inner, outer, len) == 0 && (inner[len] == '\0' || inner[len] == '/');
}

static int validate_map_places(const struct settings_map *map, const struct settings_map *other, char *why)
{
	for (unsigned int i = 0; i < map->place_count; i++)
		for (unsigned int j = 0; j < other->place_count; j++) {
			const char *a = map->places[i], *b = other->places[j];

			if (map == other && i == j)
				continue;
			if (is_place_in(a, b))
				return refuse(why, "lines %u and %u: the place %.150s is %s %.150s; a [map] needs places of its own",
					      other->line, map->line, a, strlen(a) == strlen(b) ? "also" : "inside", b);
		}
	return 0;
}

/* Either all of its places are patterns, or none. */
static int validate_map_pattern(const struct settings_map *map, char *why)
{
	for (unsigned int i = 0; i < map->place_count; i++) {
		bool is_pattern = strchr(map->places[i], '*') != NULL;

		if (is_pattern && !*map->volume)
			return refuse(why, "line %u: %.150s is of no volume; add volume = most-room", map->line, map->places[i]);
		if (!is_pattern && *map->volume)
			return refuse(why, "line %u: with volume = %s a place is a pattern, such as %.150s/*", map->line, map->volume,
				      map->places[i]);
	}
	return 0;
}

static int validate_maps(const struct settings *settings, char *why)
{
	const struct settings_map *maps = settings->maps;

	for (unsigned int i = 0; i < settings->map_count; i++) {
		int rc;

		if (!maps[i].place_count)
			return refuse(why, "line %u: places is empty; add at least one, such as /home", maps[i].line);
		rc = validate_map_pattern(&maps[i], why);
		if (rc < 0)
			return rc;
		if (!*maps[i].uuid && !*maps[i].serial && !*maps[i].node && !*maps[i].volume)
			return refuse(why, "line %u: this [map] says of no volume; add uuid, serial or node", maps[i].line);
		for (unsigned int j = 0; j < settings->map_count; j++) {
			rc = validate_map_places(&maps[i], &maps[j], why);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

static int validate_filters(const struct settings *settings, char *why)
{
	const struct settings_filter *filters = settings->filters;
	char text[IP_NETWORK_TEXT_MAX];

	if (settings->filter_count && (!settings->handoff || !settings->vip_count))
		return refuse(why, "[filter] needs a vip and handoff = yes: the forwarding table drops the packets");
	for (unsigned int i = 0; i < settings->filter_count; i++)
		for (unsigned int j = 0; j < i; j++)
			if (ip_network_is_same(&filters[i].network, &filters[j].network))
				return refuse(why, "two filters have network = %s; remove one",
					      ip_network_text(&filters[i].network, text));
	return 0;
}

static int validate_membership(const struct member_limits *limits, char *why)
{
	if (limits->suspect_ms >= limits->down_ms)
		return refuse(why, "suspect = %u is not less than down = %u; a device is suspect before it is down",
			      limits->suspect_ms, limits->down_ms);
	if (limits->hold_ms > limits->hold_max_ms)
		return refuse(why, "hold = %u is more than hold_max = %u; raise the latter", limits->hold_ms,
			      limits->hold_max_ms);
	return 0;
}

int settings_validate(const struct settings *settings, char *why)
{
	int rc;

	if (settings->mode == SETTINGS_MODE_UNSET)
		return refuse(why, "mode is not set; set it to master or slave in [vnas], or say --mode=master or "
				   "--mode=slave");
	if (strlen(settings->run_dir) + sizeof("/admin.sock") > SIZE_OF(struct sockaddr_un, sun_path))
		return refuse(why, "run_dir is too long for a socket in it; it takes at most %zu characters",
			      SIZE_OF(struct sockaddr_un, sun_path) - sizeof("/admin.sock"));
	if (settings->scp_port == settings->nfs_port)
		return refuse(why, "scp_port and the port of [nfs] are both %u; change one", settings->nfs_port);
	rc = settings->mode == SETTINGS_MODE_MASTER ? validate_master(settings, why) : validate_slave(settings, why);
	rc = rc ?: validate_membership(&settings->membership, why);
	rc = rc ?: validate_maps(settings, why);
	rc = rc ?: validate_filters(settings, why);
	return rc ?: validate_volumes(settings, why);
}

/* Printing */

static void print_value(const struct option *option, const char *base, FILE *out)
{
	unsigned int count;

	if (!option->count_max) {
		option->kind->print(option, base + option->offset, out);
		return;
	}
	count = *(const unsigned int *)(base + option->count_offset);
	for (unsigned int i = 0; i < count; i++) {
		fputs(i ? ", " : "", out);
		option->kind->print(option, base + option->offset + i * option->size, out);
	}
}

static void print_option(const struct option *option, const struct settings *settings, unsigned int number, FILE *out)
{
	char *value = NULL;
	size_t len;
	FILE *text = open_memstream(&value, &len);

	if (!text)
		return;
	print_value(option, base_of(option, settings, number), text);
	fclose(text);
	if (value && *value)
		fprintf(out, "%s = %s\n", option->key, value);
	else
		fprintf(out, "#%s =\n", option->key);
	free(value);
}

static void print_section(const char *section, const struct settings *settings, unsigned int number, FILE *out)
{
	fprintf(out, "%s[%s]\n", strcmp(section, options[0].section) == 0 ? "" : "\n", section);
	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (strcmp(options[i].section, section) == 0)
			print_option(&options[i], settings, number, out);
}

void settings_print(const struct settings *settings, FILE *out)
{
	const char *section = NULL;

	for (size_t i = 0; i < OPTION_COUNT; i++) {
		const struct series *series;
		unsigned int sections;

		if (section && strcmp(section, options[i].section) == 0)
			continue;
		section = options[i].section;
		series = series_of(section);
		sections = series ? *count_of(series, settings) : 1;
		for (unsigned int j = 0; j < sections; j++)
			print_section(section, settings, j, out);
	}
}

/* Two of them */

bool settings_option_is_live(size_t number)
{
	return options[number].is_live;
}

/* What settings_print() would say of it; to be freed. NULL: no memory */
static char *option_text(const struct option *option, const struct settings *settings)
{
	const struct series *series = series_of(option->section);
	unsigned int sections = series ? *count_of(series, settings) : 1;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	for (unsigned int i = 0; i < sections; i++)
		print_option(option, settings, i, out);
	fclose(out);
	return text;
}

bool settings_option_differs(size_t number, const struct settings *a, const struct settings *b)
{
	char *text_a = option_text(&options[number], a), *text_b = option_text(&options[number], b);
	bool differs = !text_a || !text_b || strcmp(text_a, text_b) != 0;

	free(text_a);
	free(text_b);
	return differs;
}

static void exchange(void *a, void *b, size_t len)
{
	char *byte_a = a, *byte_b = b;

	for (size_t i = 0; i < len; i++) {
		char kept = byte_a[i];

		byte_a[i] = byte_b[i];
		byte_b[i] = kept;
	}
}

void settings_take(struct settings *in_force, struct settings *fresh)
{
	for (size_t i = 0; i < OPTION_COUNT; i++) {
		const struct option *option = &options[i];
		const struct series *series = series_of(option->section);

		/* A list outside of such a section would take its count along; none is live. */
		if (!option->is_live)
			continue;
		if (!series) {
			exchange((char *)in_force + option->offset, (char *)fresh + option->offset, option->size);
		} else if (strcmp(series->key, option->key) == 0) {
			/* All of a section at once, with the key that each has. */
			exchange(array_of(series, in_force), array_of(series, fresh), sizeof(void *));
			exchange(count_of(series, in_force), count_of(series, fresh), sizeof(unsigned int));
		}
	}
}
