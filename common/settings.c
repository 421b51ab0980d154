/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Everything there is to know about an option is its row in `options`. The parser, the printer, the messages and the
 * tests of the sample configuration and the man page walk that table.
 */
#include "config.h"

#include "common/settings.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
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
	size_t offset; /* in struct settings; in struct settings_volume for section "volume" */
	size_t size;   /* of the field; of one element, if it is a list */

	const char *const *choices; /* by value, ended by NULL after the last; the first may be "": not set */
	uint64_t min, max;	    /* of a number; max 0: any */
	size_t count_offset;	    /* of a list: its unsigned int count in struct settings */
	unsigned int count_max;	    /* 0: not a list */
};

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

/* As dev_valid_name() in Linux. */
static int interface_parse(const struct option *option, const char *text, void *field)
{
	if (strcmp(text, ".") == 0 || strcmp(text, "..") == 0 || text[strcspn(text, "/: \t")] != '\0')
		return -EINVAL;
	return text_copy(option, text, field);
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

static const struct kind choice = { NULL, choice_parse, choice_print };
static const struct kind yes_no = { NULL, yes_no_parse, yes_no_print };
static const struct kind host_name = { "a host name of letters, digits, '-', '.' and '_', not only digits",
				       host_name_parse, text_print };
static const struct kind directory = { "a path that begins with /", directory_parse, text_print };
static const struct kind place = { "a path such as /home, without //, /. or /.. in it", place_parse, text_print };
static const struct kind address = { "an IPv4 or IPv6 address such as 10.0.0.1", address_parse, text_print };
static const struct kind interface = { "the name of a network interface, at most 15 characters", interface_parse,
				       text_print };
static const struct kind port = { "a port number", port_parse, port_print };
static const struct kind milliseconds = { "a number of milliseconds", number_parse, number_print };
static const struct kind percent = { "a number of percent", number_parse, number_print };
static const struct kind per_second = { "a number of handoffs per second", number_parse, number_print };
static const struct kind threads = { "a number of threads", number_parse, number_print };
static const struct kind size = { "a number of bytes such as 4096, 64K, 1M or 2G", size_parse, size_print };

/* Values of choices, indexed as their enum */

static const char *const modes[] = {
	[SETTINGS_MODE_UNSET] = "", [SETTINGS_MODE_MASTER] = "master", [SETTINGS_MODE_SLAVE] = "slave", NULL
};
static const char *const log_levels[] = {
	[LOG_LEVEL_ERR] = "err", [LOG_LEVEL_WARN] = "warn", [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug", NULL
};
static const char *const portmappers[] = {
	[SETTINGS_PORTMAPPER_AUTO] = "auto",	   [SETTINGS_PORTMAPPER_BUILTIN] = "builtin",
	[SETTINGS_PORTMAPPER_RPCBIND] = "rpcbind", [SETTINGS_PORTMAPPER_NONE] = "none", NULL
};
static const char *const no_yes[] = { "no", "yes", NULL };

_Static_assert(sizeof(enum settings_mode) == sizeof(unsigned int) && sizeof(enum log_level) == sizeof(unsigned int),
	       "choice_parse() stores an unsigned int");

#define SIZE_OF(type, member) sizeof(((type *)0)->member)
#define FIELD_OF(type, member) .offset = offsetof(type, member), .size = SIZE_OF(type, member)
#define FIELD(member) FIELD_OF(struct settings, member)
#define OF_VOLUME(member) FIELD_OF(struct settings_volume, member)
#define LIST(member, count)                                                                        \
	.offset = offsetof(struct settings, member), .size = SIZE_OF(struct settings, member[0]),  \
	.count_offset = offsetof(struct settings, count),                                          \
	.count_max = SIZE_OF(struct settings, member) / SIZE_OF(struct settings, member[0])

static const struct option options[] = {
	{ "vnas", "mode", &choice, FIELD(mode), .choices = modes },
	{ "vnas", "name", &host_name, FIELD(name) },
	{ "vnas", "state_dir", &directory, FIELD(state_dir) },
	{ "vnas", "run_dir", &directory, FIELD(run_dir) },
	{ "vnas", "bpf_dir", &directory, FIELD(bpf_dir) },
	{ "vnas", "log_level", &choice, FIELD(log_level), .choices = log_levels },
	{ "network", "vip", &address, LIST(vips, vip_count) },
	{ "network", "address", &address, FIELD(address) },
	{ "network", "scp_port", &port, FIELD(scp_port), .min = 1, .max = UINT16_MAX },
	{ "network", "client_interfaces", &interface, LIST(client_interfaces, client_interface_count) },
	{ "network", "disk_interfaces", &interface, LIST(disk_interfaces, disk_interface_count) },
	{ "network", "interface", &interface, FIELD(interface) },
	{ "network", "handoff", &yes_no, FIELD(handoff), .choices = no_yes },
	{ "nfs", "port", &port, FIELD(nfs_port), .min = 1, .max = UINT16_MAX },
	{ "nfs", "portmapper", &choice, FIELD(portmapper), .choices = portmappers },
	{ "nfs", "memory", &size, FIELD(memory), .min = 128 << 20, .max = 1ULL << 40 },
	{ "nfs", "data_loops", &threads, FIELD(data_loops), .max = 256 },
	{ "placement", "bytes", &size, FIELD(placement.bytes) },
	{ "placement", "elsewhere", &size, FIELD(placement.elsewhere) },
	{ "placement", "ratio", &percent, FIELD(placement.ratio), .max = 1000000 },
	{ "placement", "workload", &percent, FIELD(placement.workload), .max = 100 },
	{ "placement", "window", &milliseconds, FIELD(placement.window_ms), .min = 1, .max = 3600000 },
	{ "placement", "stay", &milliseconds, FIELD(placement.stay_ms), .max = 3600000 },
	{ "placement", "budget", &per_second, FIELD(placement.budget), .max = 1000000 },
	{ "placement", "queue", &size, FIELD(placement.queue) },
	{ "placement", "per_client", &yes_no, FIELD(placement.per_client), .choices = no_yes },
	{ "volume", "path", &directory, OF_VOLUME(path) },
	{ "volume", "place", &place, OF_VOLUME(place) },
};

enum { OPTION_COUNT = sizeof(options) / sizeof(options[0]) };

static bool is_of_volume(const char *section)
{
	return strcmp(section, "volume") == 0;
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
		.handoff = true,
		.nfs_port = 2049,
		.portmapper = SETTINGS_PORTMAPPER_AUTO,
		.memory = 256 << 20,
		.placement = {
			.bytes = 1 << 20,
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
	free(settings->volumes);
	settings->volumes = NULL;
	settings->volume_count = 0;
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
static void *base_of(const struct option *option, const struct settings *settings, unsigned int volume)
{
	return is_of_volume(option->section) ? (void *)&settings->volumes[volume] : (void *)settings;
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
	base = base_of(option, parser->settings, parser->settings->volume_count - 1);
	if (option->count_max)
		return parse_list(parser, option, value, base);
	return option->kind->parse(option, value, base + option->offset) ? fail_value(parser, option, value) : 0;
}

static int add_volume(struct parser *parser)
{
	struct settings *settings = parser->settings;
	struct settings_volume *volumes;

	if (settings->volume_count == SETTINGS_VOLUMES_MAX)
		return fail(parser, "too many [volume] sections; %d is the most", SETTINGS_VOLUMES_MAX);
	volumes = reallocarray(settings->volumes, settings->volume_count + 1, sizeof(*volumes));
	if (!volumes)
		return fail(parser, "no memory for another [volume]; free some");
	settings->volumes = volumes;
	volumes[settings->volume_count++] = (struct settings_volume){ 0 };
	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (is_of_volume(options[i].section))
			parser->seen[i] = 0;
	return 0;
}

static int end_section(struct parser *parser)
{
	if (!parser->section || !is_of_volume(parser->section) ||
	    *parser->settings->volumes[parser->settings->volume_count - 1].path)
		return 0;
	parser->line = parser->section_line;
	return fail(parser, "this [volume] has no path; add path = DIRECTORY");
}

static int parse_section(struct parser *parser, char *text)
{
	char *end = strchr(text, ']');

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
	return is_of_volume(parser->section) ? add_volume(parser) : 0;
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

static void print_option(const struct option *option, const struct settings *settings, unsigned int volume, FILE *out)
{
	char *value = NULL;
	size_t len;
	FILE *text = open_memstream(&value, &len);

	if (!text)
		return;
	print_value(option, base_of(option, settings, volume), text);
	fclose(text);
	if (value && *value)
		fprintf(out, "%s = %s\n", option->key, value);
	else
		fprintf(out, "#%s =\n", option->key);
	free(value);
}

static void print_section(const char *section, const struct settings *settings, unsigned int volume, FILE *out)
{
	fprintf(out, "%s[%s]\n", strcmp(section, options[0].section) == 0 ? "" : "\n", section);
	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (strcmp(options[i].section, section) == 0)
			print_option(&options[i], settings, volume, out);
}

void settings_print(const struct settings *settings, FILE *out)
{
	const char *section = NULL;

	for (size_t i = 0; i < OPTION_COUNT; i++) {
		unsigned int sections;

		if (section && strcmp(section, options[i].section) == 0)
			continue;
		section = options[i].section;
		sections = is_of_volume(section) ? settings->volume_count : 1;
		for (unsigned int j = 0; j < sections; j++)
			print_section(section, settings, j, out);
	}
}
