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
 *   backend		what a protocol engine asks of a file system
 *   bare_ack		acknowledgments that no socket sends
 *   bpf_packet		packets, as BPF programs read them
 *   bytes		cursors over bytes
 *   certificates	the cluster's authority and TLS
 *   client_call	calls that a server makes to its clients: NLM call-backs, NSM notices
 *   client_caller	... over UDP or TCP, from a VIP
 *   clock		monotonic and wall
 *   conn		clients' TCP connections
 *   conn_memory		what they hold together, and who goes on when that is much
 *   duplicate_requests	answers to calls that change something, for those sent again
 *   export_rules		the clients of an export and their rights, as exports(5) writes them
 *   exports		which client may do what where
 *   file_service	NFSv3 and its side protocols: from a call to a volume's backend
 *   flow		flows, as BPF and user space see them
 *   group_commit	does this thread make several changes durable at once?
 *   group_set		the groups that a user is in, looked up here
 *   handle		file handles
 *   handoff		moving sessions: the shell around tch
 *   kernel_helper	moving a connection out of and into this kernel: the door to the next five
 *   node, node_map	the BPF program on every device's interfaces, and its maps
 *   park		the TAP that keeps packets of held flows
 *   packet_orders	the order of packets in a flow that has just come here
 *   tc_program		attaching BPF programs
 *   tcp_repair		reading and restoring sockets
 *   lock_table		who holds which bytes of which file, and who waits
 *   log		lines for people
 *   loop		event loops: the control loop, and one per core for connections
 *   machine		what is changed on this machine, and undone
 *   mount3		the MOUNT protocol
 *   mount_table		who has mounted what
 *   name_service		host names, netgroups and users' groups, without waiting
 *   namespace		the replica of nodes, volumes, tree and exports
 *   nasctl		the administrator's command
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
 *   pseudo		the virtual root's backend
 *   record		RPC records in a stream
 *   rpc		ONC RPC calls and replies
 *   rquota		the RQUOTA protocol
 *   settings		the configuration file
 *   workers		threads for work that may wait for a disk
 *   siphash		the keyed hash, for BPF and user space
 *   stored_file	small files that survive a crash whole
 *   tch, tch_options	moving sessions: the pure states, messages and options
 *   udp		the UDP transport
 *   uuid		UUIDs
 * scp/			what devices say to each other
 *   eap, eap_wire	the datagram that changes where a flow goes; as BPF sees it
 *   log_once		one line for many failures in a row
 *   scp, scp_link	sessions between devices
 *   scp_enrol		joining a cluster
 *   scp_message	messages as bytes
 *   tls_stream		TLS over a socket of the loop
 * slave/		the device that serves
 *   device_commands	the commands of every device
 *   eap_client		asking the switch by datagram
 *   local, local_*	the backend of a directory tree of this node
 *   locks		NLM and NSM of a device: who sends their calls, who is told what
 *   placing		sessions follow their data
 *   relay		calls for other devices' volumes
 *   serving		the NFS service of a device
 *   slave		a device, put together
 *   uplink		a slave's session with its master
 *   volumes		the volumes of this node
 * master/		the switch
 *   commands		the master's commands
 *   eap_service		datagrams that the fabric has answered, or refused
 *   fabric, fabric_map	the forwarding table, and the BPF program that consults it
 *   flow_sweep		entries of the table that nobody speaks for
 *   master		the switch, put together
 *   sessions		where the clients' sessions are
 *   tickle		waking up clients whose device is gone
 *   vroot		the virtual root's book-keeping in SQLite
 * etc/, systemd/, docs/, tests/
 */
#include "config.h"

#include "common/admin.h"
#include "common/certificates.h"
#include "common/log.h"
#include "common/machine.h"
#include "common/nasctl.h"
#include "common/rpc.h"
#include "common/settings.h"
#include "common/stored_file.h"
#include "master/master.h"
#include "slave/device_commands.h"
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

static int read_settings(const char *path, bool required, struct settings *settings)
{
	char why[SETTINGS_WHY_MAX];
	FILE *in = fopen(path, "re");
	int rc;

	if (!in && errno == ENOENT && !required) {
		settings_init(settings);
		return 0;
	}
	if (!in) {
		fprintf(stderr, "vnasd: %s: %s\n", path, strerror(errno));
		return -errno;
	}
	rc = settings_parse(path, in, settings, why);
	fclose(in);
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

static const struct nasctl_local nasctl_locals[] = {
	{ "cluster init", local_cluster_init },
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
	struct event_base *base;
	struct event *signals[4];
	struct event *trim;
	struct namespace *ns;
	struct slave *slave;
	struct master *master;
	struct uplink *uplink;
	struct admin *admin;
	struct device device;
	bool keep; /* leave the machine as it is, for the next run */
	int lock;
};

static void on_stop(evutil_socket_t signal, short what, void *arg)
{
	struct daemon *daemon = arg;

	(void)what;
	daemon->keep = signal == SIGUSR1;
	log_info("main", "stopping%s", daemon->keep ? "; addresses, programs and forwarding stay for the next run" : "");
	event_base_loopbreak(daemon->base);
}

static int catch_signals(struct daemon *daemon)
{
	static const int stopping[] = { SIGTERM, SIGINT, SIGUSR1 };

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof(stopping) / sizeof(stopping[0]); i++) {
		daemon->signals[i] = evsignal_new(daemon->base, stopping[i], on_stop, daemon);
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
	const struct admin_handler *handlers = daemon->master ? master_commands : device_commands;
	char path[PATH_MAX];
	int rc;

	snprintf(path, sizeof(path), "%.4000s/admin.sock", daemon->settings.run_dir);
	daemon->device = (struct device){
		.base = daemon->base,
		.ns = daemon->ns,
		.slave = daemon->slave,
		.uplink = daemon->uplink,
		.master = daemon->master,
	};
	rc = admin_new(daemon->base, path, handlers, &daemon->device, &daemon->admin);
	if (rc < 0)
		log_err("admin", "%s: %s", path, strerror(-rc));
	return rc;
}

/* The first time, with a token; later runs know where their master is. */
static int join_cluster(struct daemon *daemon, const char *token)
{
	const char *at = strchr(token, '@');
	char pki[PATH_MAX], why[512];
	uint8_t cluster[16];
	uint32_t self;
	int rc;

	snprintf(pki, sizeof(pki), "%.4000s/pki", daemon->settings.state_dir);
	if (certificates_self(pki, &self, cluster) == 0) {
		log_err("main", "this machine is node %u of a cluster already; to join anew remove %s first", self, pki);
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

static int start(struct daemon *daemon, const char *join)
{
	struct slave_options options = { .settings = &daemon->settings };
	char pki[PATH_MAX];
	int rc;

	rc = start_role(daemon, join);
	if (rc < 0)
		return rc;
	snprintf(pki, sizeof(pki), "%.4000s/pki", daemon->settings.state_dir);
	rc = certificates_self(pki, &options.self, options.cluster);
	if (rc < 0) {
		log_err("main", "%s holds no certificate of this machine: %s; %s", pki, strerror(-rc),
			daemon->master ? "nasctl cluster init" : "join with vnasd --join TOKEN@ADDRESS");
		return rc;
	}
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
	return rc;
}

/* Startup, backwards. */
static void stop(struct daemon *daemon)
{
	bool for_good = !daemon->keep;

	if (daemon->admin)
		admin_free(daemon->admin);
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
	raise_limits();
	daemon->base = event_base_new();
	daemon->ns = namespace_new();
	rc = daemon->base && daemon->ns ? catch_signals(daemon) : -ENOMEM;
	if (rc == 0)
		rc = keep_memory(daemon);
	if (rc == 0)
		rc = start(daemon, join);
	if (rc == 0) {
		log_info("main", "%s %s runs", PACKAGE_STRING, daemon->master ? "master" : "slave");
		event_base_dispatch(daemon->base);
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
	struct daemon daemon = { .lock = -1 };
	struct options options = { 0 };
	char why[SETTINGS_WHY_MAX];
	int status = parse_options(argc, argv, &options);

	if (status >= 0)
		return status;
	if (read_settings(options.config ? options.config : DEFAULT_CONFIG, options.config != NULL, &daemon.settings) < 0)
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
