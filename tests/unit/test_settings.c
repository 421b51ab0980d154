/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, vnasd runs with a configuration that the administrator did not write, refuses one that he did, leaves
 * him without a hint what is wrong, or is documented otherwise than it is.
 *
 * The printed form of tests/golden/settings_*.conf is in settings_*.canonical, which GOLDEN_UPDATE=1 in the environment
 * writes anew.
 */
#include "config.h"

#include "common/settings.h"

#include <check.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Text files are small; what does not fit fails. */
enum { TEXT_MAX = 1 << 16 };

static const char *path_of(const char *name)
{
	static char path[PATH_MAX];
	const char *srcdir = getenv("srcdir");

	snprintf(path, sizeof(path), "%s/%s", srcdir ? srcdir : ".", name);
	return path;
}

static char *read_text(const char *name)
{
	static char text[TEXT_MAX];
	FILE *in = fopen(path_of(name), "r");
	size_t len;

	ck_assert_msg(in != NULL, "%s: %m", path_of(name));
	len = fread(text, 1, sizeof(text) - 1, in);
	ck_assert(feof(in));
	fclose(in);
	text[len] = '\0';
	return text;
}

static int parse_bytes(const char *text, size_t len, struct settings *settings, char *why)
{
	FILE *in = len ? fmemopen((void *)text, len, "r") : fopen("/dev/null", "r");
	int rc;

	ck_assert_ptr_nonnull(in);
	*why = '\0';
	rc = settings_parse("f", in, settings, why);
	fclose(in);
	return rc;
}

static int parse(const char *text, struct settings *settings, char *why)
{
	return parse_bytes(text, strlen(text), settings, why);
}

static const char *print(const struct settings *settings)
{
	static char text[TEXT_MAX];
	FILE *out = fmemopen(text, sizeof(text), "w");

	ck_assert_ptr_nonnull(out);
	settings_print(settings, out);
	ck_assert_int_eq(fclose(out), 0);
	return text;
}

static const struct {
	const char *text, *why; /* after "f:" */
} wrong[] = {
	{ "[vnsa]\n", "1: there is no section [vnsa]; there are: vnas, network, fabric, nfs, membership, time, metrics, placement, balance, automount, map, filter, disks, volume" },
	{ "\n# x\n[vnas\n", "3: a section's line ends after its name in brackets: [network]" },
	{ "[vnas] # x\n", "1: a section's line ends after its name in brackets: [network]" },
	{ "[]\n", "1: there is no section []; there are: vnas, network, fabric, nfs, membership, time, metrics, placement, balance, automount, map, filter, disks, volume" },
	{ "port = 1\n", "1: port is before the first section; begin with one such as [vnas]" },
	{ "[nfs]\nprot = 1\n", "2: there is no option prot in [nfs]; there are: port, portmapper, memory, data_loops" },
	{ "[vnas]\nvip = 10.0.0.1\n", "2: vip is not an option of [vnas]; it belongs in [network]" },
	{ "[nfs]\nport\n", "2: \"port\" is neither [section] nor key = value" },
	{ "[nfs]\n= 5\n", "2: there is no option  in [nfs]; there are: port, portmapper, memory, data_loops" },
	{ "[nfs]\nport = 0\n", "2: port can't be \"0\"; it takes a port number from 1 to 65535" },
	{ "[nfs]\nport = 65536\n", "2: port can't be \"65536\"; it takes a port number from 1 to 65535" },
	{ "[nfs]\nport = -1\n", "2: port can't be \"-1\"; it takes a port number from 1 to 65535" },
	{ "[nfs]\nport = +1\n", "2: port can't be \"+1\"; it takes a port number from 1 to 65535" },
	{ "[nfs]\nport = 0x10\n", "2: port can't be \"0x10\"; it takes a port number from 1 to 65535" },
	{ "[nfs]\nport = 18446744073709551617\n",
	  "2: port can't be \"18446744073709551617\"; it takes a port number from 1 to 65535" },
	{ "[nfs]\nport =\n", "2: port can't be \"\"; it takes a port number from 1 to 65535" },
	{ "[nfs]\nport = 1\nport = 2\n", "3: port is set already, in line 2; remove one of the two" },
	{ "[nfs]\nport = 1\n[vnas]\n[nfs]\nport = 1\n", "5: port is set already, in line 2; remove one of the two" },
	{ "[nfs]\nport = 1 # not 2\n", "2: port is followed by a comment; a comment needs a line of its own" },
	{ "[volume]\npath = /srv/a\t; first\n", "2: path is followed by a comment; a comment needs a line of its own" },
	{ "[network]\nclient_interfaces = eth0,;first\n", "2: client_interfaces is followed by a comment; a comment needs a line of its own" },
	{ "[vnas]\nmode = both\n", "2: mode can't be \"both\"; it takes one of: master, slave" },
	{ "[vnas]\nmode =\n", "2: mode can't be \"\"; it takes one of: master, slave" },
	{ "[vnas]\nname = 17\n",
	  "2: name can't be \"17\"; it takes a host name of letters, digits, '-', '.' and '_', not only digits" },
	{ "[vnas]\nname = a b\n",
	  "2: name can't be \"a b\"; it takes a host name of letters, digits, '-', '.' and '_', not only digits" },
	{ "[vnas]\nrun_dir = run\n", "2: run_dir can't be \"run\"; it takes a path that begins with /" },
	{ "[vnas]\nlog_level = all\n", "2: log_level can't be \"all\"; it takes one of: err, warn, info, debug" },
	{ "[network]\nhandoff = true\n", "2: handoff can't be \"true\"; it takes one of: no, yes" },
	{ "[network]\nvip = 10.0.0.1, host\n", "2: vip can't be \"host\"; it takes an IPv4 or IPv6 address such as 10.0.0.1" },
	{ "[network]\nvip = 10.0.0.1/32\n",
	  "2: vip can't be \"10.0.0.1/32\"; it takes an IPv4 or IPv6 address such as 10.0.0.1" },
	{ "[network]\nvip = 0.0.0.0\n", "2: vip can't be \"0.0.0.0\"; it takes an IPv4 or IPv6 address such as 10.0.0.1" },
	{ "[network]\nvip = fd00::1, FD00:0::1\n", "2: vip has FD00:0::1 twice; once is enough" },
	{ "[network]\nvip = 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.7 10.0.0.8 10.0.0.9\n",
	  "2: vip has too many values; it takes at most 8" },
	{ "[network]\ninterface = abcdefghijklmnop\n",
	  "2: interface can't be \"abcdefghijklmnop\"; it takes the name of a network interface, at most 15 characters" },
	{ "[network]\ninterface = ../lo\n",
	  "2: interface can't be \"../lo\"; it takes the name of a network interface, at most 15 characters" },
	{ "[network]\nclient_interfaces = eth0 ..\n",
	  "2: client_interfaces can't be \"..\"; it takes the name of a network interface, at most 15 characters" },
	{ "[placement]\nbytes = 1X\n",
	  "2: bytes can't be \"1X\"; it takes a number of bytes such as 4096, 64K, 1M or 2G" },
	{ "[placement]\nbytes = M\n", "2: bytes can't be \"M\"; it takes a number of bytes such as 4096, 64K, 1M or 2G" },
	{ "[placement]\nbytes = 16777216T\n",
	  "2: bytes can't be \"16777216T\"; it takes a number of bytes such as 4096, 64K, 1M or 2G" },
	{ "[placement]\nwindow = 0\n", "2: window can't be \"0\"; it takes a number of milliseconds from 1 to 3600000" },
	{ "[metrics]\nlisten = 127.0.0.1\n",
	  "2: listen can't be \"127.0.0.1\"; it takes off, or an address with a port such as 127.0.0.1:2051 or [::1]:2051" },
	{ "[metrics]\nlisten = localhost:80\n",
	  "2: listen can't be \"localhost:80\"; it takes off, or an address with a port such as 127.0.0.1:2051 or [::1]:2051" },
	{ "[metrics]\nlisten = [::1]:0\n",
	  "2: listen can't be \"[::1]:0\"; it takes off, or an address with a port such as 127.0.0.1:2051 or [::1]:2051" },
	{ "[metrics]\nlisten = 10.0.0.1:65536\n",
	  "2: listen can't be \"10.0.0.1:65536\"; it takes off, or an address with a port such as 127.0.0.1:2051 or [::1]:2051" },
	{ "[volume]\nplace = /a\n", "1: this [volume] has no path; add path = DIRECTORY" },
	{ "\n[volume]\n[nfs]\n", "2: this [volume] has no path; add path = DIRECTORY" },
	{ "[volume]\npath = /a\npath = /b\n", "3: path is set already, in line 2; remove one of the two" },
	{ "[volume]\nplace = home\n",
	  "2: place can't be \"home\"; it takes a path such as /home, without //, /. or /.. in it" },
	{ "[volume]\nplace = /\n", "2: place can't be \"/\"; it takes a path such as /home, without //, /. or /.. in it" },
	{ "[volume]\nplace = /a/\n", "2: place can't be \"/a/\"; it takes a path such as /home, without //, /. or /.. in it" },
	{ "[volume]\nplace = /a/../b\n",
	  "2: place can't be \"/a/../b\"; it takes a path such as /home, without //, /. or /.. in it" },
	{ "[volume]\nplace = /.\n", "2: place can't be \"/.\"; it takes a path such as /home, without //, /. or /.. in it" },
	{ "[fabric]\ndscp = 64\n", "2: dscp can't be \"64\"; it takes none or a number from 0 to 63" },
	{ "[fabric]\ndscp = -1\n", "2: dscp can't be \"-1\"; it takes none or a number from 0 to 63" },
	{ "[fabric]\ndscp =\n", "2: dscp can't be \"\"; it takes none or a number from 0 to 63" },
	{ "[disks]\ndevices = sdb\n", "2: devices can't be \"sdb\"; it takes a device or a shell pattern such as /dev/sd[b-z]" },
	{ "[disks]\nformat = yes\n", "2: format can't be \"yes\"; it takes one of: ask, empty" },
	{ "[disks]\ntype = btrfs\n", "2: type can't be \"btrfs\"; it takes one of: ext4, xfs" },
	{ "[automount]\nnames = uuid\n", "2: names can't be \"uuid\"; it takes one of: number, serial" },
	{ "[map]\nnode = a\n", "1: this [map] has no places; add places = /home" },
	{ "[map]\nplaces = /home/a*\n",
	  "2: places can't be \"/home/a*\"; it takes a path such as /home or /home/*, without other patterns and without //, /. or /.. in it" },
	{ "[map]\nplaces = /*\n",
	  "2: places can't be \"/*\"; it takes a path such as /home or /home/*, without other patterns and without //, /. or /.. in it" },
	{ "[map]\nplaces = /home/*\nvolume = least-room\n", "3: volume can't be \"least-room\"; it takes one of: most-room" },
	{ "[map]\nplaces = /a /a\n", "2: places has /a twice; once is enough" },
	{ "[map]\nplaces = /a\nserial =\n", "3: serial can't be \"\"; it takes a name or a shell pattern such as disk-*" },
	{ "[map]\nplaces = /a\nuuid = 17\n", "3: uuid can't be \"17\"; it takes a UUID as nasctl volume list shows it" },
	{ "[filter]\nservices = nfs\n", "1: this [filter] has no network; add network = 10.0.0.0/8" },
	{ "[filter]\nnetwork = 10.0.0.1/8\n",
	  "2: network can't be \"10.0.0.1/8\"; it takes a network such as 10.0.0.0/8 or fd00::/8, without bits beyond its length" },
	{ "[filter]\nnetwork = 10.0.0.0/33\n",
	  "2: network can't be \"10.0.0.0/33\"; it takes a network such as 10.0.0.0/8 or fd00::/8, without bits beyond its length" },
	{ "[filter]\nnetwork = fd00::/129\n",
	  "2: network can't be \"fd00::/129\"; it takes a network such as 10.0.0.0/8 or fd00::/8, without bits beyond its length" },
	{ "[filter]\nnetwork = host\n",
	  "2: network can't be \"host\"; it takes a network such as 10.0.0.0/8 or fd00::/8, without bits beyond its length" },
	{ "[filter]\nnetwork = ::/0\nservices = nfs, smb\n",
	  "3: services can't be \"smb\"; it takes one of: nfs, portmapper, scp" },
	{ "[filter]\nnetwork = ::/0\nservices = nfs nfs\n", "3: services has nfs twice; once is enough" },
	{ "[nfs]\nport = 1\033[2J\n", "2: this line has control characters; is it a text file?" },
	{ "\177ELF\n", "1: this line has control characters; is it a text file?" },
};

START_TEST(wrong_file_is_refused)
{
	struct settings settings, before;
	char why[SETTINGS_WHY_MAX];

	memset(&settings, 0x5a, sizeof(settings));
	before = settings;
	ck_assert_int_eq(parse(wrong[_i].text, &settings, why), -EINVAL);
	ck_assert(strncmp(why, "f:", 2) == 0);
	ck_assert_str_eq(why + 2, wrong[_i].why);
	ck_assert_mem_eq(&settings, &before, sizeof(settings));
}
END_TEST

START_TEST(binary_file_is_refused)
{
	static const char zeros[] = "[nfs]\nport = 2049\0 1\n";
	struct settings settings;
	char why[SETTINGS_WHY_MAX];

	ck_assert_int_eq(parse_bytes(zeros, sizeof(zeros) - 1, &settings, why), -EINVAL);
	ck_assert_str_eq(why, "f:2: this line has control characters; is it a text file?");
}
END_TEST

START_TEST(long_values_are_refused)
{
	struct settings settings;
	char why[SETTINGS_WHY_MAX], text[3 * PATH_MAX];
	static const char *const keys[] = { "[vnas]\nname = ", "[vnas]\nrun_dir = /", "[network]\nvip = ",
					    "[volume]\nplace = /", "[placement]\nbytes = ", "[", "[vnas]\n" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		memset(text, '1', sizeof(text));
		memcpy(text, keys[i], strlen(keys[i]));
		text[sizeof(text) - 1] = '\0';
		ck_assert_int_eq(parse(text, &settings, why), -EINVAL);
		ck_assert_uint_lt(strlen(why), SETTINGS_WHY_MAX - 1);
	}
}
END_TEST

START_TEST(volumes_have_a_limit)
{
	struct settings settings;
	char why[SETTINGS_WHY_MAX], text[TEXT_MAX] = "";

	for (int i = 0; i < SETTINGS_VOLUMES_MAX; i++)
		sprintf(text + strlen(text), "[volume]\npath = /srv/%d\n", i);
	ck_assert_int_eq(parse(text, &settings, why), 0);
	ck_assert_uint_eq(settings.volume_count, SETTINGS_VOLUMES_MAX);
	ck_assert_str_eq(settings.volumes[255].path, "/srv/255");
	settings_fini(&settings);
	strcat(text, "[volume]\n");
	ck_assert_int_eq(parse(text, &settings, why), -EINVAL);
	ck_assert_str_eq(why, "f:513: too many [volume] sections; 256 is the most");
}
END_TEST

START_TEST(empty_file_is_defaults)
{
	struct settings settings, defaults;
	char why[SETTINGS_WHY_MAX], *printed;

	settings_init(&defaults);
	ck_assert_int_eq(defaults.mode, SETTINGS_MODE_UNSET);
	ck_assert_uint_eq(defaults.nfs_port, 2049);
	ck_assert_int_eq(defaults.dscp, -1);
	ck_assert_uint_eq(defaults.flows, 1000000);
	ck_assert(!defaults.serve_first);
	ck_assert_uint_eq(defaults.placement.bytes, 1048576);
	printed = strdup(print(&defaults));
	ck_assert_int_eq(parse("", &settings, why), 0);
	ck_assert_str_eq(print(&settings), printed);
	settings_fini(&settings);
	settings_fini(&defaults);
	free(printed);
}
END_TEST

START_TEST(values_arrive)
{
	struct settings settings;
	char why[SETTINGS_WHY_MAX];

	ck_assert_msg(parse(read_text("tests/golden/settings_full.conf"), &settings, why) == 0, "%s", why);
	ck_assert_int_eq(settings.mode, SETTINGS_MODE_MASTER);
	ck_assert_str_eq(settings.name, "switch-1.example.org");
	ck_assert_str_eq(settings.state_dir, "/srv/state of vnas");
	ck_assert_int_eq(settings.log_level, LOG_LEVEL_DEBUG);
	ck_assert_uint_eq(settings.vip_count, 3);
	ck_assert_str_eq(settings.vips[0], "10.0.0.1");
	ck_assert_str_eq(settings.vips[1], "fd00::1");
	ck_assert_str_eq(settings.vips[2], "192.0.2.7");
	ck_assert_str_eq(settings.address, "10.0.1.1");
	ck_assert_uint_eq(settings.scp_port, 12050);
	ck_assert_uint_eq(settings.client_interface_count, 2);
	ck_assert_str_eq(settings.client_interfaces[1], "eth2");
	ck_assert_uint_eq(settings.disk_interface_count, 1);
	ck_assert_str_eq(settings.interface, "bond0.17");
	ck_assert(!settings.handoff);
	ck_assert_int_eq(settings.first_device, SETTINGS_FIRST_ROUND_ROBIN);
	ck_assert_uint_eq(settings.flows, 2000000);
	ck_assert_int_eq(settings.dscp, 34);
	ck_assert(settings.serve_first);
	ck_assert_uint_eq(settings.nfs_port, 12049);
	ck_assert_int_eq(settings.portmapper, SETTINGS_PORTMAPPER_NONE);
	ck_assert_str_eq(settings.metrics, "[fd00::7]:9100");
	ck_assert_uint_eq(settings.placement.bytes, 3 << 20);
	ck_assert_uint_eq(settings.placement.window_ms, 50);
	ck_assert_uint_eq(settings.placement.stay_ms, 0);
	ck_assert_uint_eq(settings.filter_count, 3);
	ck_assert_uint_eq(settings.filters[0].network.bits, 96 + 8);
	ck_assert_uint_eq(settings.filters[0].service_count, 2);
	ck_assert_str_eq(settings.filters[0].services[1], "portmapper");
	ck_assert_uint_eq(settings.filters[1].network.bits, 96);
	ck_assert_uint_eq(settings.filters[1].service_count, 0);
	ck_assert_uint_eq(settings.filters[2].network.bits, 16);
	ck_assert_uint_eq(settings.volume_count, 2);
	ck_assert_str_eq(settings.volumes[0].path, "/srv/a b");
	ck_assert_str_eq(settings.volumes[0].place, "/home");
	ck_assert_str_eq(settings.volumes[1].place, "");
	settings_fini(&settings);
}
END_TEST

static void update_golden(const char *name, const char *text)
{
	FILE *out = fopen(path_of(name), "w");

	ck_assert_ptr_nonnull(out);
	fputs(text, out);
	ck_assert_int_eq(fclose(out), 0);
}

START_TEST(printing_parses_back)
{
	struct settings settings;
	char why[SETTINGS_WHY_MAX], *printed;

	ck_assert_int_eq(parse(read_text("tests/golden/settings_full.conf"), &settings, why), 0);
	printed = strdup(print(&settings));
	settings_fini(&settings);
	if (getenv("GOLDEN_UPDATE"))
		update_golden("tests/golden/settings_full.canonical", printed);
	ck_assert_str_eq(printed, read_text("tests/golden/settings_full.canonical"));
	ck_assert_msg(parse(printed, &settings, why) == 0, "%s", why);
	ck_assert_str_eq(print(&settings), printed);
	settings_fini(&settings);
	free(printed);
}
END_TEST

#define MASTER "[vnas]\nmode = master\n"
#define SLAVE "[vnas]\nmode = slave\n"
#define LONG "1234567890123456789012345678901234567890123456789"

static const struct {
	const char *text, *why; /* NULL: it is right */
} whole[] = {
	{ "", "mode is not set; set it to master or slave in [vnas], or say --mode=master or --mode=slave" },
	{ MASTER, NULL },
	{ MASTER "[network]\nvip = 10.0.0.1\nclient_interfaces = eth0\n", NULL },
	{ MASTER "[network]\nvip = 10.0.0.1\n",
	  "vip = 10.0.0.1 has no interface; name in client_interfaces where the clients are" },
	{ MASTER "[network]\ndisk_interfaces = eth0\n",
	  "interfaces are given but no vip; set vip, or remove client_interfaces and disk_interfaces to serve at every "
	  "address of this machine" },
	{ MASTER "[network]\ninterface = eth0\n",
	  "interface = eth0 is for slaves; a master has client_interfaces and disk_interfaces" },
	{ MASTER "run_dir = /" LONG LONG "\n", "run_dir is too long for a socket in it; it takes at most 96 characters" },
	{ MASTER "run_dir = /" LONG "/123456789012345678901234567890123456789012345\n", NULL },
	{ MASTER "[network]\nscp_port = 2049\n", "scp_port and the port of [nfs] are both 2049; change one" },
	{ MASTER "[membership]\ndown = 2500\n",
	  "suspect = 2500 is not less than down = 2500; a device is suspect before it is down" },
	{ MASTER "[membership]\nhold = 300001\n", "hold = 300001 is more than hold_max = 300000; raise the latter" },
	{ MASTER "[volume]\npath = /a\n[volume]\npath = /b\n", NULL },
	{ MASTER "[volume]\npath = /a\n[volume]\npath = /a\n", "two volumes have path = /a; remove one" },
	{ MASTER "[volume]\npath = /a\nplace = /p\n[volume]\npath = /b\nplace = /p\n",
	  "two volumes have place = /p; move one" },
	{ MASTER "[network]\nvip = 10.0.0.1\nclient_interfaces = eth0\n"
	  "[filter]\nnetwork = 10.0.0.0/8\n[filter]\nnetwork = 10.0.0.0/9\nservices = nfs\n", NULL },
	{ MASTER "[network]\nvip = 10.0.0.1\nclient_interfaces = eth0\n"
	  "[filter]\nnetwork = 10.0.0.0/8\n[filter]\nnetwork = 10.0.0.0/255.0.0.0\nservices = nfs\n",
	  "two filters have network = 10.0.0.0/8; remove one" },
	{ MASTER "[network]\nvip = 10.0.0.1\nclient_interfaces = eth0\nhandoff = no\n[filter]\nnetwork = ::/0\n",
	  "[filter] needs a vip and handoff = yes: the forwarding table drops the packets" },
	{ MASTER "[map]\nplaces = /a, /b\nuuid = 6c1aa52e-0000-4000-8000-0123456789ab\n[map]\nplaces = /ab /c/d\nnode = x\n", NULL },
	{ MASTER "[map]\nplaces = /a\n", "line 3: this [map] says of no volume; add uuid, serial or node" },
	{ MASTER "[map]\nplaces = /a/*, /b/c/*\nvolume = most-room\n[map]\nplaces = /a/b\nnode = x\n", NULL },
	{ MASTER "[map]\nplaces = /a/*\nvolume = most-room\nnode = disk-*\n", NULL },
	{ MASTER "[map]\nplaces = /a/*\nnode = x\n", "line 3: /a/* is of no volume; add volume = most-room" },
	{ MASTER "[map]\nplaces = /a\nvolume = most-room\n",
	  "line 3: with volume = most-room a place is a pattern, such as /a/*" },
	{ MASTER "[map]\nplaces = /a/*\nvolume = most-room\n[map]\nplaces = /a\nnode = x\n",
	  "lines 6 and 3: the place /a/* is inside /a; a [map] needs places of its own" },
	{ MASTER "[map]\nnode = x\nplaces =\n", "line 3: places is empty; add at least one, such as /home" },
	{ MASTER "[map]\nplaces = /a\nnode = x\n[map]\nplaces = /b /a\nnode = y\n",
	  "lines 6 and 3: the place /a is also /a; a [map] needs places of its own" },
	{ MASTER "[map]\nplaces = /a/b\nnode = x\n[map]\nplaces = /a\nnode = y\n",
	  "lines 6 and 3: the place /a/b is inside /a; a [map] needs places of its own" },
	{ SLAVE "[network]\ninterface = eth0\n[map]\nplaces = /a\nnode = x\n",
	  "line 5: [map] is for the master, which makes the tree; remove it" },
	{ SLAVE "[network]\ninterface = eth0\n[filter]\nnetwork = ::/0\n",
	  "[filter] is for the master, by which clients' packets come; remove it" },
	{ SLAVE, "handoff = yes needs interface, the one towards the switch; set it, or handoff = no" },
	{ SLAVE "[network]\nhandoff = no\n", NULL },
	{ SLAVE "[network]\ninterface = eth0\n", NULL },
	{ SLAVE "[network]\ninterface = eth0\nvip = 10.0.0.1\n",
	  "vip = 10.0.0.1 is for the master, from which slaves learn it; remove it" },
	{ SLAVE "[network]\nclient_interfaces = eth0\n",
	  "client_interfaces and disk_interfaces are for the master; a slave has interface" },
};

START_TEST(whole_is_validated)
{
	struct settings settings;
	char why[SETTINGS_WHY_MAX];

	ck_assert_msg(parse(whole[_i].text, &settings, why) == 0, "%s", why);
	ck_assert_int_eq(settings_validate(&settings, why), whole[_i].why ? -EINVAL : 0);
	if (whole[_i].why)
		ck_assert_str_eq(why, whole[_i].why);
	settings_fini(&settings);
}
END_TEST

/* An option that is commented out begins with "#", a remark with "# ". */
static bool is_option_line(const char *line)
{
	return line[0] == '#' && (line[1] == '[' || isalpha((unsigned char)line[1]));
}

START_TEST(sample_shows_every_option)
{
	struct settings settings;
	char why[SETTINGS_WHY_MAX], active[TEXT_MAX] = "\n", wanted[256];
	const char *section, *key;

	for (char *rest, *line = strtok_r(read_text("etc/vnasd.conf"), "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		sprintf(active + strlen(active), "%s\n", is_option_line(line) ? line + 1 : line);
	ck_assert_msg(parse(active, &settings, why) == 0, "%s", why);
	settings_fini(&settings);
	for (size_t i = 0; settings_option(i, &section, &key); i++) {
		const char *at;

		snprintf(wanted, sizeof(wanted), "\n[%s]\n", section);
		at = strstr(active, wanted);
		ck_assert_msg(at != NULL, "etc/vnasd.conf has no [%s]", section);
		snprintf(wanted, sizeof(wanted), "\n%s = ", key);
		ck_assert_msg(strstr(at, wanted) != NULL, "etc/vnasd.conf has no %s in [%s]", key, section);
	}
}
END_TEST

START_TEST(sample_shows_defaults)
{
	struct settings settings, defaults;
	char why[SETTINGS_WHY_MAX], *sample = strdup(read_text("etc/vnasd.conf")), wanted[256];
	bool is_example = false;

	settings_init(&defaults);
	ck_assert_msg(parse(sample, &settings, why) == 0, "%s", why);
	ck_assert_int_eq(settings.mode, SETTINGS_MODE_UNSET);
	for (char *rest, *line = strtok_r(sample, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		if (is_option_line(line) && line[1] != '[' && !is_example) {
			snprintf(wanted, sizeof(wanted), "\n%s\n", line + 1);
			ck_assert_msg(strstr(print(&defaults), wanted) != NULL, "not the default: %s", line + 1);
		}
		is_example = strlen(line) > 8 && strcmp(line + strlen(line) - 8, "Example:") == 0;
	}
	settings_fini(&settings);
	settings_fini(&defaults);
	free(sample);
}
END_TEST

static void parse_or_fail(const char *text, struct settings *out)
{
	char copy[1024], why[SETTINGS_WHY_MAX];

	snprintf(copy, sizeof(copy), "%s", text);
	ck_assert_msg(parse(copy, out, why) == 0, "%s", why);
}

/* Those that differ, each as "section.key ", the live ones with a + in front. */
static const char *differing(const struct settings *a, const struct settings *b)
{
	static char text[TEXT_MAX];
	const char *section, *key;

	text[0] = '\0';
	for (size_t i = 0; settings_option(i, &section, &key); i++)
		if (settings_option_differs(i, a, b))
			sprintf(text + strlen(text), "%s%s.%s ", settings_option_is_live(i) ? "+" : "", section, key);
	return text;
}

/* What is read again while vnasd runs: what can't change must not, and nothing may be left of what was. */
START_TEST(live_options_are_taken)
{
	struct settings in_force, fresh;

	parse_or_fail("[vnas]\nmode = master\nlog_level = info\n[nfs]\nport = 2049\n[filter]\nnetwork = 10.0.0.0/8\n", &in_force);
	parse_or_fail("[vnas]\nmode = master\nlog_level = debug\n[nfs]\nport = 2051\n[placement]\nbytes = 2M\nper_client = yes\n"
		      "[filter]\nnetwork = 10.0.0.0/8\nservices = nfs\n[filter]\nnetwork = fd00::/8\n", &fresh);
	ck_assert_str_eq(differing(&in_force, &fresh), "+vnas.log_level nfs.port +placement.bytes +placement.per_client "
						       "+filter.network +filter.services ");
	settings_take(&in_force, &fresh);
	ck_assert_str_eq(differing(&in_force, &fresh), "+vnas.log_level nfs.port +placement.bytes +placement.per_client "
						       "+filter.network +filter.services ");
	ck_assert_int_eq(in_force.log_level, LOG_LEVEL_DEBUG);
	ck_assert_uint_eq(in_force.nfs_port, 2049);
	ck_assert_uint_eq(in_force.placement.bytes, 2 << 20);
	ck_assert_uint_eq(in_force.filter_count, 2);
	ck_assert_str_eq(in_force.filters[0].services[0], "nfs");
	ck_assert_uint_eq(fresh.filter_count, 1);
	settings_fini(&in_force);
	settings_fini(&fresh);
}
END_TEST

START_TEST(the_same_does_not_differ)
{
	struct settings a, b;

	settings_init(&a);
	settings_init(&b);
	ck_assert_str_eq(differing(&a, &b), "");
	settings_fini(&a);
	settings_fini(&b);
}
END_TEST

START_TEST(man_page_has_every_option)
{
	char page[TEXT_MAX], wanted[256];
	const char *section, *key;

	strcpy(page, read_text("docs/man/vnasd.conf.5"));
	for (size_t i = 0; settings_option(i, &section, &key); i++) {
		char *at, *end, *entry;

		snprintf(wanted, sizeof(wanted), "\n.SS [%s]\n", section);
		at = strstr(page, wanted);
		ck_assert_msg(at != NULL, "vnasd.conf(5) has no [%s]", section);
		end = strstr(at + 1, "\n.S");
		snprintf(wanted, sizeof(wanted), "\n.BI \"%s = \" ", key);
		entry = strstr(at, wanted);
		ck_assert_msg(entry != NULL && entry < end, "vnasd.conf(5) has no %s in [%s]", key, section);
	}
}
END_TEST

static bool is_option(const char *section, const char *key)
{
	const char *known_section, *known_key;

	for (size_t i = 0; settings_option(i, &known_section, &known_key); i++)
		if (strcmp(known_section, section) == 0 && strcmp(known_key, key) == 0)
			return true;
	return false;
}

START_TEST(man_page_has_no_other_option)
{
	char page[TEXT_MAX], section[32] = "", key[64];
	size_t options = 0;

	strcpy(page, read_text("docs/man/vnasd.conf.5"));
	for (char *rest, *line = strtok_r(page, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		sscanf(line, ".SS [%31[^]]", section);
		if (sscanf(line, ".BI \"%63[a-z_] = \"", key) != 1)
			continue;
		ck_assert_msg(is_option(section, key), "vnasd.conf(5) has %s in [%s], which is no option", key, section);
		options++;
	}
	ck_assert_uint_gt(options, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("settings");
	TCase *tcase = tcase_create("settings");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(tcase, wrong_file_is_refused, 0, sizeof(wrong) / sizeof(wrong[0]));
	tcase_add_test(tcase, binary_file_is_refused);
	tcase_add_test(tcase, long_values_are_refused);
	tcase_add_test(tcase, volumes_have_a_limit);
	tcase_add_test(tcase, empty_file_is_defaults);
	tcase_add_test(tcase, values_arrive);
	tcase_add_test(tcase, printing_parses_back);
	tcase_add_loop_test(tcase, whole_is_validated, 0, sizeof(whole) / sizeof(whole[0]));
	tcase_add_test(tcase, sample_shows_every_option);
	tcase_add_test(tcase, sample_shows_defaults);
	tcase_add_test(tcase, live_options_are_taken);
	tcase_add_test(tcase, the_same_does_not_differ);
	tcase_add_test(tcase, man_page_has_every_option);
	tcase_add_test(tcase, man_page_has_no_other_option);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
