/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * main.c - vnasd, and nasctl when called by that name
 *
 * Map of the tree, which tests/check_map compares with the tree. A module is NAME.c and NAME.h; some have NAME.x (messages),
 * NAME.bpf.c (BPF programs) or NAME_internal.h (for its neighbours NAME_*).
 *
 * common/		knows no role
 *   admin		the administration socket
 *   admin_commands	the table of nasctl's commands
 *   admission		which machines become devices without being asked about
 *   backend		what a protocol engine asks of a file system
 *   bare_ack		acknowledgments that no socket sends
 *   bpf_half		packets of a connection of which two devices have a half each
 *   bpf_packet		packets, as BPF programs read them
 *   bytes		cursors over bytes
 *   certificates	the cluster's authority and TLS
 *   certificate_age	when a certificate is to be renewed
 *   client_call	calls that a server makes to its clients: NLM call-backs, NSM notices
 *   client_caller	... over UDP or TCP, from a VIP
 *   clock		monotonic and wall
 *   clock_offset		how much another clock differs from ours
 *   conn		clients' TCP connections
 *   conn_memory		what they hold together, and who goes on when that is much
 *   conn_moves		what tch may do with them
 *   duplicate_requests	answers to calls that change something, for those sent again
 *   export_rules		the clients of an export and their rights, as exports(5) writes them
 *   events		what has happened: a ring and a journal
 *   examination_facts	what is so on a device, for `nasctl check`
 *   examination_machine	... how its machine is set up
 *   examination_names	... its users and groups
 *   examination_probe	... what only the network can tell
 *   exports		which client may do what where
 *   dhcp_option		how DHCP names the master
 *   file_service	NFSv3 and its side protocols: from a call to a volume's backend
 *   flow		flows, as BPF and user space see them
 *   group_commit	does this thread make several changes durable at once?
 *   group_set		the groups that a user is in, looked up here
 *   handle		file handles
 *   ip_network		networks, as people write them
 *   kernel_helper	moving a connection out of and into this kernel: the door to the next six
 *   congestion, congestion_map	a restored connection goes on with its congestion window
 *   node, node_map	the BPF program on every device's interfaces, and its maps
 *   park		the TAP that keeps packets of held flows
 *   packet_orders	the order of packets in a flow that has just come here
 *   tc_program		attaching BPF programs
 *   tcp_repair		reading and restoring sockets
 *   tcp_statistics	what TCP counts, of one connection and of many
 *   latency		how long many things took
 *   lock_table		who holds which bytes of which file, and who waits
 *   log		lines for people
 *   loop		event loops: the control loop, and one per core for connections
 *   machine		what is changed on this machine, and undone
 *   member_state		how another device fares, judged by what is heard of it
 *   metrics, metric_families	what a device counts, for people and for Prometheus
 *   metrics_http		... over HTTP
 *   mount3		the MOUNT protocol
 *   mount_table		who has mounted what
 *   name_service		host names, netgroups and users' groups, without waiting
 *   namespace		the replica of nodes, volumes, tree, exports, users and groups
 *   nasctl		the administrator's command
 *   nasctl_ask		... its end of the administration socket
 *   nasctl_complete	... what may follow a word: for the shells
 *   nasctl_confirm	... asks whether he is sure
 *   nasctl_password	... asks for a password
 *   nasctl_print		... prints answers, for people or as JSON
 *   nasctl_text		... complaints, and values for people
 *   nasctl_top		... nasctl top on a terminal
 *   nlm			the Network Lock Manager
 *   nlm_wire		... its arguments and results, in three versions
 *   nlm_granted		... its call-backs of those who waited for a lock
 *   nsm			the Network Status Monitor: clients to tell of our restart
 *   nfs3, nfs3_*	the NFSv3 protocol: its messages, and one file per group of procedures
 *   nfs_acl		the NFSACL protocol: POSIX ACLs beside it
 *   output		what is to be written to a stream
 *   page_pipe		bytes of a file on their way to a socket, without being copied
 *   patience		may this thread wait for a disk?
 *   placement		where a session should be
 *   portmap		the port mapper, our own or the machine's
 *   priorities		classes of clients: whose work goes first, and how much of it there may be
 *   pseudo		the virtual root's backend
 *   record		RPC records in a stream
 *   replica		following the master's name space
 *   rpc		ONC RPC calls and replies
 *   rquota		the RQUOTA protocol
 *   service_manager	what systemd is told
 *   settings		the configuration file
 *   workers		threads for work that may wait for a disk
 *   spread		what is in the spread directories: which entry is on which volume
 *   spread_call		a call that changes one
 *   spread_directory	... the backend of the directory itself
 *   siphash		the keyed hash, for BPF and user space
 *   stored_file	small files that survive a crash whole
 *   tch, tch_*		moving sessions: what a server calls
 *   tch_machine, tch_options	... its pure states, and the facts of a session as options
 *   tch_message		its messages in a byte stream
 *   udp		the UDP transport
 *   user_checks		which names, numbers and passwords users and groups may have
 *   user_groups		the groups of the cluster's users
 *   uuid		UUIDs
 * scp/			what devices say to each other
 *   backoff		how long to wait before the next try
 *   eap, eap_wire	the datagram that changes where a flow goes; as BPF sees it
 *   log_once		one line for many failures in a row
 *   scp, scp_link	sessions between devices
 *   scp_enrol		asking to become a device
 *   scp_message	messages as bytes
 *   tls_stream		TLS over a socket of the loop
 * slave/		the device that serves
 *   candidate		a machine that waits to become a node
 *   device_commands	the commands of every device
 *   device_log		... nasctl log
 *   device_metrics	what every device counts
 *   child		another program, run to its end
 *   disks		the disks of this node: which there are, and those that are volumes
 *   disk_scan		... one look at all of them
 *   disk_probe		... what is on them, and what SMART says
 *   disk_identity	... their serial numbers and models
 *   disk_format	... making file systems, and mounting them
 *   disk_record	... which were formatted here
 *   eap_client		asking the switch by datagram
 *   examiner		a device examines itself, for `nasctl check`
 *   local, local_*	the backend of a directory tree of this node
 *   listeners		who connects during a restart waits
 *   load		how busy this machine is, and how much room its volumes have
 *   locks		NLM and NSM of a device: who sends their calls, who is told what
 *   made_volumes	volumes that were made by pattern, inside others
 *   members		the other devices, as this one sees them
 *   placing		sessions follow their data
 *   relay		calls for other devices' volumes
 *   renewal		this device renews its certificate in time
 *   serving		the NFS service of a device
 *   session_look		what a device can tell of a session's connection
 *   slave		a device, put together
 *   spread		a device's part in spread directories
 *   succession		sessions outlive a restart of the daemon
 *   timekeeping		this machine's clock follows the master's
 *   uplink		a slave's session with its master
 *   volumes		the volumes of this node
 * master/		the switch
 *   automount		which places volumes get in the tree
 *   balance		which disk node should have more, and which less
 *   candidates		machines that have applied to become devices
 *   certificate_commands	nasctl certificate: who has which, until when
 *   chronicle		what has happened in the cluster, in words
 *   class_commands	nasctl class: priorities among clients
 *   cluster_config	what administrators have set, as one document
 *   commands		the master's commands
 *   dhcp_config		dnsmasq as the DHCP server of disk nodes
 *   disk_commands	nasctl disk ...
 *   draining		a disk node is emptied of sessions
 *   eap_service		datagrams that the fabric has answered, or refused
 *   examination_rules	what is wrong in a cluster, by the facts of its devices
 *   examination_ids	... with its users and groups
 *   examination_machines	... with one machine
 *   examination_network	... with one machine's interfaces and addresses
 *   examining		nasctl check
 *   fabric, fabric_map	the forwarding table, and the BPF program that consults it
 *   fabric_call	whose volume a call over UDP is about (BPF)
 *   fabric_filter		which networks may reach which service
 *   fabric_fragment	which fragments belong together (BPF)
 *   fabric_icmp		which flow an ICMP error is about (BPF)
 *   fabric_track		how far the ends of a connection have come (BPF)
 *   fabric_traffic	how much each client and each device moves
 *   first_device		who gets clients' new connections
 *   flow_sweep		entries of the table that nobody speaks for
 *   issuing		certificates are signed and taken back
 *   joining		how machines become devices: by token, approval or policy
 *   leases		addresses that a DHCP server has given out
 *   load_rows		the load of nodes, as nasctl shows it
 *   making		directories that are made where there is room
 *   master		the switch, put together
 *   master_metrics	what the switch counts
 *   node_log		nasctl log of another device
 *   rates		how fast counters grow
 *   sessions		where the clients' sessions are
 *   shifting		sessions leave a device that is too busy
 *   spread		spread directories: calls that change them, and what devices are told
 *   spread_check		... branches compared with what is known
 *   spread_commands	nasctl spread, nasctl volume check
 *   spread_store		... what is known, in SQLite
 *   tickle		waking up clients whose device is gone
 *   top			nasctl top: what goes on now
 *   user_commands	nasctl user and nasctl group: the cluster's own users
 *   volume_commands	nasctl volume ...
 *   vroot		the virtual root's book-keeping in SQLite
 * etc/, systemd/, docs/, tests/
 */
#include "config.h"

#include "common/admin.h"
#include "common/certificates.h"
#include "common/dhcp_option.h"
#include "common/log.h"
#include "common/machine.h"
#include "common/metrics_http.h"
#include "common/nasctl.h"
#include "common/rpc.h"
#include "common/service_manager.h"
#include "common/settings.h"
#include "common/stored_file.h"
#include "master/chronicle.h"
#include "master/dhcp_config.h"
#include "master/master.h"
#include "master/master_metrics.h"
#include "slave/candidate.h"
#include "slave/device_commands.h"
#include "slave/device_metrics.h"
#include "slave/uplink.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define DEFAULT_CONFIG "/etc/vnas/vnasd.conf"

enum { EXIT_USAGE = 2 };

/* Settings, from the file and the command line */

/* @why: out: on failure a sentence, SETTINGS_WHY_MAX bytes */
static int load_settings(const char *path, bool required, struct settings *settings, char *why)
{
	FILE *in = fopen(path, "re");
	int rc;

	if (!in && errno == ENOENT && !required) {
		settings_init(settings);
		return 0;
	}
	if (!in) {
		rc = -errno;
		snprintf(why, SETTINGS_WHY_MAX, "%.400s: %s", path, strerror(-rc));
		return rc;
	}
	rc = settings_parse(path, in, settings, why);
	fclose(in);
	return rc;
}

static int read_settings(const char *path, bool required, struct settings *settings)
{
	char why[SETTINGS_WHY_MAX];
	int rc = load_settings(path, required, settings, why);

	if (rc < 0)
		fprintf(stderr, "vnasd: %s\n", why);
	return rc;
}

/* nasctl */

static const char *nasctl_config = NULL;

static json_t *local_cluster_init(int argc, char **argv)
{
	struct settings settings;
	char why[256];
	const char *name;
	json_t *answer;
	int rc;

	if (read_settings(nasctl_config ? nasctl_config : DEFAULT_CONFIG, nasctl_config != NULL, &settings) < 0)
		return json_pack("{s:s}", "error", "the configuration can't be read");
	name = settings.name;
	if (argc == 2 && strcmp(argv[0], "--name") == 0)
		name = argv[1];
	rc = master_create_cluster(&settings, name, why, sizeof(why));
	answer = rc < 0 ? json_pack("{s:s}", "error", why) :
			  json_pack("{s:o}", "done",
				    json_sprintf("this machine is the master of the new cluster \"%s\"; start it: "
						 "systemctl start vnas-master, or vnasd --mode=master", name));
	settings_fini(&settings);
	return answer;
}

/* Settings of this machine, whether vnasd runs or not. NULL; or an answer that says why there are none */
static json_t *local_settings(struct settings *settings)
{
	char why[SETTINGS_WHY_MAX];
	const char *path = nasctl_config ? nasctl_config : DEFAULT_CONFIG;

	return load_settings(path, nasctl_config != NULL, settings, why) < 0 ? json_pack("{s:s}", "error", why) : NULL;
}

static json_t *local_dhcp_config(int argc, char **argv)
{
	struct settings settings;
	char why[SETTINGS_WHY_MAX], *text;
	json_t *answer = local_settings(&settings);

	if (answer)
		return answer;
	if (argc == 1)
		answer = json_pack("{s:s}", "error", "say the first and the last address, or neither");
	else if (dhcp_config_text(&settings, argc ? argv : NULL, &text, why) < 0)
		answer = json_pack("{s:s}", "error", why);
	if (!answer) {
		answer = json_pack("{s:s}", "text", text);
		free(text);
	}
	settings_fini(&settings);
	return answer;
}

/* For the scripts of DHCP clients. */
static json_t *local_dhcp_master(int argc, char **argv)
{
	char path[PATH_MAX], master[DHCP_OPTION_TEXT];
	struct settings settings;
	json_t *answer = local_settings(&settings);
	int rc;

	(void)argc;
	if (answer)
		return answer;
	snprintf(path, sizeof(path), "%.4000s/" CANDIDATE_DHCP_FILE, settings.run_dir);
	rc = dhcp_option_master(argv[0], master);
	if (rc < 0) {
		answer = json_pack("{s:s}", "error", "this is no option 43 that names a vnas master; see etc/dhcp/README.md");
	} else {
		rc = stored_file_make_directory(settings.run_dir);
		if (rc == 0)
			rc = stored_file_write(path, master, strlen(master));
		answer = rc < 0 ? json_pack("{s:o}", "error", json_sprintf("%s can't be written: %s", path, strerror(-rc))) :
				  json_pack("{s:o}", "done", json_sprintf("the master is at %s", master));
	}
	settings_fini(&settings);
	return answer;
}

static const struct nasctl_local nasctl_locals[] = {
	{ "cluster init", local_cluster_init },
	{ "dhcp config", local_dhcp_config },
	{ "dhcp master", local_dhcp_master },
	{ NULL, NULL },
};

/* `--config FILE` says where the daemon's files, and so its socket, are. Removed from @argv. */
static int nasctl_take_config(int *argc, char **argv)
{
	struct settings settings;
	char socket[PATH_MAX];
	int kept = 1;

	for (int i = 1; i < *argc; i++) {
		if (strcmp(argv[i], "--config") == 0 && i + 1 < *argc)
			nasctl_config = argv[++i];
		else
			argv[kept++] = argv[i];
	}
	*argc = kept;
	argv[kept] = NULL;
	if (!nasctl_config)
		return 0;
	if (read_settings(nasctl_config, true, &settings) < 0)
		return -EINVAL;
	snprintf(socket, sizeof(socket), "%.4000s/admin.sock", settings.run_dir);
	setenv("VNAS_SOCKET", socket, 0);
	settings_fini(&settings);
	return 0;
}

/* vnasd */

struct options {
	const char *config, *join;
	enum settings_mode mode;
	bool check, undo;
};

static void usage(FILE *out)
{
	fputs("usage: vnasd [--mode=master|slave] [--config FILE] [--join TOKEN@ADDRESS]\n"
	      "             [--check] [--undo] [--version] [--help]\n"
	      "  --mode      master on the switch, slave on a disk node (default: the configuration's)\n"
	      "  --config    default " DEFAULT_CONFIG "\n"
	      "  --join      become a node of a cluster; nasctl cluster token on the master makes TOKEN\n"
	      "  --check     print the canonical configuration, or what is wrong with it, and exit\n"
	      "  --undo      undo what an earlier run left on this machine, and exit\n"
	      "vnasd stays in the foreground. See vnasd(8).\n",
	      out);
}

static int parse_mode(const char *text, enum settings_mode *mode)
{
	*mode = strcmp(text, "master") == 0 ? SETTINGS_MODE_MASTER :
		strcmp(text, "slave") == 0  ? SETTINGS_MODE_SLAVE :
					      SETTINGS_MODE_UNSET;
	if (*mode != SETTINGS_MODE_UNSET)
		return 0;
	fprintf(stderr, "vnasd: --mode=%s: it is master or slave\n", text);
	return -EINVAL;
}

/* Return: -1 to go on, or an exit status */
static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option longs[] = {
		{ "mode", required_argument, NULL, 'm' },   { "config", required_argument, NULL, 'c' },
		{ "join", required_argument, NULL, 'j' },   { "check", no_argument, NULL, 'n' },
		{ "undo", no_argument, NULL, 'u' },	    { "version", no_argument, NULL, 'V' },
		{ "foreground", no_argument, NULL, 'f' },   { "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "nh", longs, NULL)) != -1) {
		switch (c) {
		case 'm':
			if (parse_mode(optarg, &options->mode) < 0)
				return EXIT_USAGE;
			break;
		case 'c':
			options->config = optarg;
			break;
		case 'j':
			options->join = optarg;
			break;
		case 'n':
			options->check = true;
			break;
		case 'u':
			options->undo = true;
			break;
		case 'f':
			break; /* there is no other way */
		case 'V':
			puts(PACKAGE_STRING);
			return 0;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (optind == argc)
		return -1;
	fprintf(stderr, "vnasd: \"%s\" is no option; administration is nasctl's\n", argv[optind]);
	return EXIT_USAGE;
}

struct daemon {
	struct settings settings;
	const struct options *options;
	struct event_base *base;
	struct event *signals[4];
	struct event *trim;
	struct namespace *ns;
	struct slave *slave;
	struct master *master;
	struct uplink *uplink;
	struct self_candidate *candidate; /* until this machine is a node */
	struct admin *admin;
	struct metrics_http *metrics;
	struct service_manager *service_manager;
	struct device device;
	int failed; /* negative errno: why the loop ended */
	bool keep; /* leave the machine as it is, for the next run */
	int lock;
};

static void on_rest(void *arg)
{
	struct daemon *daemon = arg;

	event_base_loopbreak(daemon->base);
}

static void on_stop(evutil_socket_t signal, short what, void *arg)
{
	struct daemon *daemon = arg;

	(void)what;
	if (daemon->keep) /* it is at it */
		return;
	service_manager_stopping();
	daemon->keep = signal == SIGUSR1;
	log_info("main", "stopping%s", daemon->keep ? "; addresses, programs and forwarding stay for the next run" : "");
	if (!daemon->keep || slave_rest(daemon->slave, on_rest, daemon) < 0)
		event_base_loopbreak(daemon->base);
}

static const char *config_of(const struct options *options)
{
	return options->config ? options->config : DEFAULT_CONFIG;
}

/* The file once more, as at the start. */
static int load_again(const struct daemon *daemon, struct settings *fresh, char *why)
{
	const struct options *options = daemon->options;
	int rc = load_settings(config_of(options), options->config != NULL, fresh, why);

	if (rc < 0)
		return rc;
	if (options->mode != SETTINGS_MODE_UNSET)
		fresh->mode = options->mode;
	rc = settings_validate(fresh, why);
	if (rc == 0 && fresh->mode != daemon->settings.mode) {
		snprintf(why, SETTINGS_WHY_MAX, "mode is another; restart vnasd to change it");
		rc = -EINVAL;
	}
	if (rc == 0 && daemon->master)
		rc = master_check_maps(daemon->master, fresh, why);
	if (rc < 0)
		settings_fini(fresh);
	return rc;
}

static void take_settings(struct daemon *daemon, struct settings *fresh)
{
	/* A candidate is no device yet. */
	if (daemon->slave)
		slave_pause(daemon->slave);
	settings_take(&daemon->settings, fresh);
	if (daemon->slave)
		slave_continue(daemon->slave);
	log_open(daemon->settings.log_level);
}

/*
 * 0; -EINVAL, with a sentence in @why. What is in force is what nasctl shows, and what filters are made by: the ports that are served
 * now, not those of the next start.
 */
static int put_in_force(struct daemon *daemon, struct settings *fresh, char *why)
{
	int rc;

	take_settings(daemon, fresh);
	rc = daemon->master ? master_set_filters(daemon->master, &daemon->settings) : 0;
	if (rc == 0) {
		if (daemon->master)
			master_follow_maps(daemon->master);
		return 0;
	}
	snprintf(why, SETTINGS_WHY_MAX, "filters=%u can't be put in force: %s", daemon->settings.filter_count,
		 strerror(-rc));
	take_settings(daemon, fresh);
	return -EINVAL;
}

/* What differs between two of the live ones, or of the others, as "[section] key". */
static json_t *differences(const struct settings *a, const struct settings *b, bool live)
{
	json_t *list = json_array();
	const char *section, *key;

	for (size_t i = 0; settings_option(i, &section, &key); i++)
		if (settings_option_is_live(i) == live && settings_option_differs(i, a, b))
			json_array_append_new(list, json_sprintf("[%s] %s", section, key));
	return list;
}

/* Whole or not at all. @report: out: what changed, and what needs a restart; @why: out, on failure */
static int reload(void *arg, json_t **report, char *why)
{
	struct daemon *daemon = arg;
	struct settings fresh;
	json_t *live, *others;
	int rc = load_again(daemon, &fresh, why);

	if (rc == 0) {
		live = differences(&daemon->settings, &fresh, true);
		others = differences(&daemon->settings, &fresh, false);
		rc = put_in_force(daemon, &fresh, why);
		settings_fini(&fresh);
		if (rc == 0) {
			log_info("main", "configuration read again: changed=%zu, for which vnasd must be restarted=%zu",
				 json_array_size(live), json_array_size(others));
			if (daemon->master)
				chronicle_reloaded(master_chronicle(daemon->master), live, others);
			*report = json_pack("{s:O, s:O}", "changed", live, "after_restart", others);
		}
		json_decref(live);
		json_decref(others);
	}
	if (rc < 0) {
		log_err("main", "configuration not read again, nothing has changed: %s", why);
		if (daemon->master)
			chronicle_not_reloaded(master_chronicle(daemon->master), why);
	}
	return rc;
}

static void on_reload(evutil_socket_t signal, short what, void *arg)
{
	char why[SETTINGS_WHY_MAX];
	json_t *report = NULL;

	(void)signal, (void)what;
	service_manager_reloading();
	if (reload(arg, &report, why) == 0)
		json_decref(report);
	service_manager_reloaded();
}

static int catch_signals(struct daemon *daemon)
{
	static const struct {
		int number;
		event_callback_fn function;
	} caught[] = { { SIGTERM, on_stop }, { SIGINT, on_stop }, { SIGUSR1, on_stop }, { SIGHUP, on_reload } };

	_Static_assert(sizeof(caught) / sizeof(caught[0]) == sizeof(daemon->signals) / sizeof(daemon->signals[0]),
		       "one event for each signal");
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++) {
		daemon->signals[i] = evsignal_new(daemon->base, caught[i].number, caught[i].function, daemon);
		if (!daemon->signals[i] || evsignal_add(daemon->signals[i], NULL) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Thousands of clients: as many descriptors as this machine allows. */
static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < 1048576)
			limit.rlim_max = 1048576;
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0) {
			limit.rlim_cur = limit.rlim_max;
			setrlimit(RLIMIT_NOFILE, &limit);
		}
	}
}

/*
 * Replies to READ are a megabyte and live for a moment. Left alone, malloc() gives each back to the kernel, which then
 * clears every page of the next one. What a burst has left is given back by and by.
 */
enum { KEEP_BYTES = 64 * RPC_DATA_MAX, TRIM_S = 2 };

static void on_trim(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what, (void)arg;
	if (mallinfo2().fordblks > KEEP_BYTES)
		malloc_trim(KEEP_BYTES);
}

static int keep_memory(struct daemon *daemon)
{
	mallopt(M_MMAP_THRESHOLD, 4 * RPC_DATA_MAX);
	mallopt(M_TRIM_THRESHOLD, KEEP_BYTES);
	daemon->trim = event_new(daemon->base, -1, EV_PERSIST, on_trim, NULL);
	return daemon->trim ? event_add(daemon->trim, &(struct timeval){ .tv_sec = TRIM_S }) : -ENOMEM;
}

/* One daemon for one state directory. */
static int lock_state(struct daemon *daemon)
{
	char path[PATH_MAX];
	int rc = stored_file_make_directory(daemon->settings.state_dir);

	if (rc == 0)
		rc = stored_file_make_directory(daemon->settings.run_dir);
	if (rc < 0) {
		log_err("main", "%s or %s can't be made: %s", daemon->settings.state_dir, daemon->settings.run_dir,
			strerror(-rc));
		return rc;
	}
	snprintf(path, sizeof(path), "%.4000s/lock", daemon->settings.state_dir);
	daemon->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (daemon->lock < 0 || flock(daemon->lock, LOCK_EX | LOCK_NB) < 0) {
		log_err("main", "%s: %s", path,
			errno == EWOULDBLOCK ? "another vnasd uses this directory" : strerror(errno));
		return -errno;
	}
	return 0;
}

static int start_admin(struct daemon *daemon)
{
	const struct admin_handler *handlers = daemon->candidate ? candidate_commands :
					       daemon->master	 ? master_commands :
								   device_commands;
	char path[PATH_MAX];
	int rc;

	snprintf(path, sizeof(path), "%.4000s/admin.sock", daemon->settings.run_dir);
	daemon->device = (struct device){
		.base = daemon->base,
		.ns = daemon->ns,
		.slave = daemon->slave,
		.uplink = daemon->uplink,
		.master = daemon->master,
		.candidate = daemon->candidate,
		.reload = reload,
		.reload_arg = daemon,
	};
	rc = admin_new(daemon->base, path, handlers, &daemon->device, &daemon->admin);
	if (rc < 0)
		log_err("admin", "%s: %s", path, strerror(-rc));
	else if (daemon->master)
		admin_watch(daemon->admin, chronicle_deed, master_chronicle(daemon->master));
	return rc;
}

static void put_metrics(struct metrics *metrics, void *arg)
{
	struct daemon *daemon = arg;

	if (daemon->master)
		master_metrics_put(daemon->master, metrics);
	else
		device_metrics_put(daemon->slave, daemon->uplink, metrics);
}

/* A device that can't show what it counts serves all the same. */
static void start_metrics(struct daemon *daemon)
{
	const char *listen = daemon->settings.metrics;
	int rc;

	if (strcmp(listen, "off") == 0)
		return;
	rc = metrics_http_new(daemon->base, listen, put_metrics, daemon, &daemon->metrics);
	if (rc < 0)
		log_warn("metrics", "listen=%s: %s; nobody gets the metrics of this device, change it in [metrics]", listen,
			 strerror(-rc));
}

/* The first time, with a token; later runs know where their master is. */
static int join_cluster(struct daemon *daemon, const char *token)
{
	const char *at = strchr(token, '@');
	char pki[PATH_MAX], why[512];
	struct certificates_facts self;
	int rc;

	snprintf(pki, sizeof(pki), "%.4000s/pki", daemon->settings.state_dir);
	if (certificates_self(pki, &self) == 0) {
		log_err("main", "this machine is node %u of a cluster already; to join anew remove %s first", self.node, pki);
		return -EEXIST;
	}
	rc = scp_join(token, pki, daemon->settings.name, why, sizeof(why));
	if (rc < 0) {
		log_err("main", "not joined: %s", why);
		return rc;
	}
	return uplink_new(daemon->base, &daemon->settings, daemon->ns, at + 1, &daemon->uplink);
}

static int start_role(struct daemon *daemon, const char *join)
{
	const struct settings *settings = &daemon->settings;

	if (settings->mode == SETTINGS_MODE_MASTER)
		return master_new(daemon->base, settings, daemon->ns, &daemon->master);
	if (join)
		return join_cluster(daemon, join);
	return uplink_new(daemon->base, settings, daemon->ns, NULL, &daemon->uplink);
}

/* The role is there: be a device. */
static int start_device(struct daemon *daemon)
{
	struct slave_options options = { .settings = &daemon->settings };
	struct certificates_facts self;
	char pki[PATH_MAX];
	int rc;

	snprintf(pki, sizeof(pki), "%.4000s/pki", daemon->settings.state_dir);
	rc = certificates_self(pki, &self);
	if (rc < 0) {
		log_err("main", "%s holds no certificate of this machine: %s; %s", pki, strerror(-rc),
			daemon->master ? "nasctl cluster init" : "join with vnasd --join TOKEN@ADDRESS");
		return rc;
	}
	options.self = self.node;
	memcpy(options.cluster, self.cluster, sizeof(options.cluster));
	options.base = daemon->base;
	options.ns = daemon->ns;
	options.role = daemon->master ? master_role(daemon->master) : uplink_role(daemon->uplink);
	rc = slave_new(&options, &daemon->slave);
	if (rc == 0)
		rc = slave_start_scp(daemon->slave);
	if (rc == 0)
		rc = daemon->master ? master_start(daemon->master, daemon->slave) :
				      uplink_start(daemon->uplink, daemon->slave);
	if (rc == 0)
		rc = start_admin(daemon);
	if (rc == 0)
		start_metrics(daemon);
	return rc;
}

/* The candidate has become a node. */
static void on_admitted(const char *master, void *arg)
{
	struct daemon *daemon = arg;
	int rc = uplink_new(daemon->base, &daemon->settings, daemon->ns, master, &daemon->uplink);

	self_candidate_free(daemon->candidate);
	daemon->candidate = NULL;
	admin_free(daemon->admin);
	daemon->admin = NULL;
	if (rc == 0)
		rc = start_device(daemon);
	if (rc < 0) {
		log_err("main", "not started: %s", strerror(-rc));
		daemon->failed = rc;
		event_base_loopbreak(daemon->base);
	}
}

/* A disk node that has never been one, and may ask without a token. */
static bool is_candidate(const struct daemon *daemon)
{
	struct certificates_facts self;
	char pki[PATH_MAX];

	snprintf(pki, sizeof(pki), "%.4000s/pki", daemon->settings.state_dir);
	return daemon->settings.mode == SETTINGS_MODE_SLAVE && daemon->settings.master[0] &&
	       certificates_self(pki, &self) == -ENOENT;
}

static int start(struct daemon *daemon, const char *join)
{
	int rc;

	if (!join && is_candidate(daemon)) {
		rc = self_candidate_new(daemon->base, &daemon->settings, on_admitted, daemon, &daemon->candidate);
		return rc < 0 ? rc : start_admin(daemon);
	}
	rc = start_role(daemon, join);
	return rc < 0 ? rc : start_device(daemon);
}

/* Startup, backwards. */
static void stop(struct daemon *daemon)
{
	bool for_good = !daemon->keep;

	service_manager_free(daemon->service_manager);
	metrics_http_free(daemon->metrics);
	if (daemon->admin)
		admin_free(daemon->admin);
	self_candidate_free(daemon->candidate);
	master_stopping(daemon->master, for_good);
	slave_free(daemon->slave, for_good);
	master_free(daemon->master, for_good);
	uplink_free(daemon->uplink);
	namespace_free(daemon->ns);
	for (size_t i = 0; i < sizeof(daemon->signals) / sizeof(daemon->signals[0]); i++)
		if (daemon->signals[i])
			event_free(daemon->signals[i]);
	if (daemon->trim)
		event_free(daemon->trim);
	if (daemon->base)
		event_base_free(daemon->base);
	if (daemon->lock >= 0)
		close(daemon->lock);
}

static int serve(struct daemon *daemon, const char *join)
{
	int rc = lock_state(daemon);

	if (rc < 0)
		return EXIT_FAILURE;
	service_manager_start();
	raise_limits();
	daemon->base = event_base_new();
	daemon->ns = namespace_new();
	rc = daemon->base && daemon->ns ? catch_signals(daemon) : -ENOMEM;
	if (rc == 0)
		rc = keep_memory(daemon);
	if (rc == 0)
		rc = start(daemon, join);
	if (rc == 0)
		rc = service_manager_ready(daemon->base, "serving; nasctl status says more", &daemon->service_manager);
	if (rc == 0) {
		log_info("main", "%s %s runs", PACKAGE_STRING, daemon->master ? "master" : daemon->candidate ? "slave, which waits to be let in" : "slave");
		event_base_dispatch(daemon->base);
		rc = daemon->failed;
	} else {
		log_err("main", "not started: %s", strerror(-rc));
	}
	stop(daemon);
	return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/*
 * What a killed run left on this machine. Addresses and sysctls are on record; programs, maps and the TAP are taken up as a
 * restart would, and then let go for good. Not under a vnasd that runs.
 */
static int undo(struct daemon *daemon)
{
	const struct settings *settings = &daemon->settings;
	struct event_base *base;
	struct machine *machine;
	char record[PATH_MAX];
	int rc = lock_state(daemon);

	if (rc < 0)
		return EXIT_FAILURE;
	base = event_base_new();
	if (!base)
		return EXIT_FAILURE;
	slave_remove_kernel_helper(base, settings);
	if (settings->mode == SETTINGS_MODE_MASTER)
		master_remove_fabric(settings);
	event_base_free(base);
	snprintf(record, sizeof(record), "%.4000s/machine", settings->state_dir);
	rc = machine_open(record, &machine);
	if (rc < 0) {
		log_err("main", "%s: %s", record, strerror(-rc));
		return EXIT_FAILURE;
	}
	machine_close(machine, 1);
	return EXIT_SUCCESS;
}

static int vnasd_main(int argc, char **argv)
{
	struct options options = { 0 };
	struct daemon daemon = { .lock = -1, .options = &options };
	char why[SETTINGS_WHY_MAX];
	int status = parse_options(argc, argv, &options);

	if (status >= 0)
		return status;
	if (read_settings(config_of(&options), options.config != NULL, &daemon.settings) < 0)
		return EXIT_USAGE;
	if (options.mode != SETTINGS_MODE_UNSET)
		daemon.settings.mode = options.mode;
	log_open(daemon.settings.log_level);
	if (options.undo) {
		status = undo(&daemon);
	} else if (settings_validate(&daemon.settings, why) < 0) {
		fprintf(stderr, "vnasd: %s\n", why);
		status = EXIT_USAGE;
	} else if (options.check) {
		settings_print(&daemon.settings, stdout);
		status = EXIT_SUCCESS;
	} else {
		status = serve(&daemon, options.join);
	}
	settings_fini(&daemon.settings);
	return status;
}

int main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/');

	if (strcmp(slash ? slash + 1 : argv[0], "nasctl") != 0)
		return vnasd_main(argc, argv);
	if (nasctl_take_config(&argc, argv) < 0)
		return EXIT_USAGE;
	return nasctl_main(argc, argv, nasctl_locals);
}
