/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/disk_commands.h"

#include "master/commands_internal.h"
#include "slave/disks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* By way of XDR, which knows what it owns. */
void disk_commands_report(scp_disks *kept, const scp_disks *disks)
{
	u_int size = (u_int)xdr_sizeof((xdrproc_t)xdr_scp_disks, (void *)disks);
	char *bytes = malloc(size);
	scp_disks copy = { 0 };
	XDR xdr;

	xdr_free((xdrproc_t)xdr_scp_disks, (char *)kept);
	memset(kept, 0, sizeof(*kept));
	if (!bytes)
		return;
	xdrmem_create(&xdr, bytes, size, XDR_ENCODE);
	if (xdr_scp_disks(&xdr, (scp_disks *)disks)) {
		xdrmem_create(&xdr, bytes, size, XDR_DECODE);
		if (xdr_scp_disks(&xdr, &copy))
			*kept = copy;
		else
			xdr_free((xdrproc_t)xdr_scp_disks, (char *)&copy);
	}
	free(bytes);
}

static const char *state_text(scp_disk_state state)
{
	static const char *const texts[] = {
		[SCP_DISK_EMPTY] = "empty",
		[SCP_DISK_HOLDS] = "holds",
		[SCP_DISK_IN_USE] = "in use",
		[SCP_DISK_FORMATTING] = "formatting",
		[SCP_DISK_UNFINISHED] = "unfinished",
		[SCP_DISK_VOLUME] = "volume",
		[SCP_DISK_AWAY] = "away",
	};

	return (size_t)state < sizeof(texts) / sizeof(texts[0]) && texts[state] ? texts[state] : "?";
}

static const char *health_text(scp_disk_health health)
{
	return health == SCP_DISK_HEALTH_PASSED ? "passed" : health == SCP_DISK_HEALTH_FAILED ? "failed" : "unknown";
}

static json_t *disk_row(struct master *master, const ns_node *node, const scp_disk *disk)
{
	const ns_volume *volume = namespace_volume_by_uuid(master_ns(master), (const uint8_t *)disk->uuid);
	const ns_entry *place = volume ? namespace_place(master_ns(master), volume->id) : NULL;
	char path[NS_TEXT_MAX] = "";

	if (place)
		namespace_path(master_ns(master), place, path);
	return json_pack("{s:I, s:o, s:o, s:I, s:o, s:o, s:s, s:s, s:I, s:o, s:o}", "node", (json_int_t)node->id, "node_name",
			 admin_text(node->name), "device", admin_text(disk->device), "size_bytes", (json_int_t)disk->bytes,
			 "serial", admin_text(disk->serial), "model", admin_text(disk->model), "smart",
			 health_text(disk->health), "state", state_text(disk->state), "volume",
			 (json_int_t)(volume ? volume->id : 0), "place", admin_text(path), "note", admin_text(disk->note));
}

/* Those of nodes that are away are not shown: who knows what they have now. */
void disk_command_list(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	json_t *table = admin_table("node:Node node_name:Name device:Device size_bytes:Size serial:Serial model:Model smart:SMART "
				    "state:State place:Place note:Note");
	const ns_node *node;

	(void)argc, (void)argv;
	for (size_t at = 0; (node = namespace_next_node(master_ns(master), &at));) {
		const scp_disks *disks = master_disks(master, node->id);

		for (u_int i = 0; commands_node_is_up(master, node->id) && i < disks->disks.disks_len; i++)
			admin_row(table, disk_row(master, node, &disks->disks.disks_val[i]));
	}
	admin_answer(request, table);
}

static const scp_disk *find_disk(struct master *master, uint32_t node, const char *device)
{
	const scp_disks *disks = master_disks(master, node);

	for (u_int i = 0; i < disks->disks.disks_len; i++)
		if (*device && strcmp(disks->disks.disks_val[i].device, device) == 0)
			return &disks->disks.disks_val[i];
	return NULL;
}

/* Typed by whoever is sure: the name of the device, without its folder. */
static const char *word_of(const char *device)
{
	const char *slash = strrchr(device, '/');

	return slash ? slash + 1 : device;
}

static void ask_first(struct admin_request *request, const ns_node *node, const scp_disk *disk, const char *type)
{
	char size[32];

	snprintf(size, sizeof(size), "%.1f GB", (double)disk->bytes / 1e9);
	/* Names of devices change from boot to boot; what is written on the disk does not. */
	admin_confirm(request, *disk->serial ? disk->serial : word_of(disk->device), "%s of node %u (%s), %s%s%s%s%s, gets %s%s, and is a volume then. What is on it is lost.",
		      disk->device, node->id, node->name, size, *disk->model ? ", " : "", disk->model,
		      *disk->serial ? ", serial number " : ", without a serial number", disk->serial, *type ? "a file system of type " : "a file system", type);
}

struct own_format {
	struct admin_request *request;
	char device[SCP_NAME_MAX + 1];
};

#define BEGUN "%s of node %u is being formatted; nasctl disk list shows how it goes on"

static void own_format_begun(int result, const char *why, void *arg)
{
	struct own_format *own = arg;

	if (result < 0)
		admin_error(own->request, "%s", why);
	else
		admin_done(own->request, BEGUN, own->device, NAMESPACE_MASTER);
	free(own);
}

static void format_here(struct master *master, struct admin_request *request, const char *device, const char *type)
{
	struct own_format *own = calloc(1, sizeof(*own));

	if (!own) {
		admin_error(request, "there is no memory for that now; try again later");
		return;
	}
	own->request = request;
	snprintf(own->device, sizeof(own->device), "%s", device);
	disks_format(slave_disks(master_slave(master)), device, type, own_format_begun, own);
}

struct format_arguments {
	const char *type;
	bool is_sure;
};

/* Return: false if they are wrong */
static bool parse_format(int argc, char **argv, struct format_arguments *out)
{
	*out = (struct format_arguments){ .type = "" };
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "--yes") == 0)
			out->is_sure = true;
		else if (strcmp(argv[i], "--type") == 0 && i + 1 < argc)
			out->type = argv[++i];
		else
			return false;
	}
	return !*out->type || strcmp(out->type, "ext4") == 0 || strcmp(out->type, "xfs") == 0;
}

void disk_command_format(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	const ns_node *node = commands_need_node(master, request, argv[0]);
	scp_message message = { .type = SCP_DISK_FORMAT };
	struct format_arguments arguments;
	const scp_disk *disk;
	char done[256];

	if (!node)
		return;
	if (!parse_format(argc, argv, &arguments)) {
		admin_error(request, "usage: nasctl disk format NODE DEVICE [--type ext4|xfs] [--yes]");
		return;
	}
	disk = find_disk(master, node->id, argv[1]);
	if (!commands_node_is_up(master, node->id) || !disk) {
		admin_error(request, "node %u has no disk %s, or is down; nasctl disk list shows what there is", node->id, argv[1]);
		return;
	}
	if (disk->state != SCP_DISK_EMPTY && disk->state != SCP_DISK_UNFINISHED) {
		admin_error(request, "%s of node %u %s%s%s%s; only an empty disk is formatted, and wipefs(8) on the node makes it one",
			    disk->device, node->id, disk->state == SCP_DISK_HOLDS ? "" : disk->state == SCP_DISK_VOLUME ? "is a " : "is ", state_text(disk->state),
			    *disk->note ? " " : "", disk->note);
		return;
	}
	if (!arguments.is_sure) {
		ask_first(request, node, disk, arguments.type);
		return;
	}
	if (node->id == NAMESPACE_MASTER) {
		format_here(master, request, argv[1], arguments.type);
		return;
	}
	snprintf(done, sizeof(done), BEGUN, argv[1], node->id);
	message.scp_message_u.disk_format = (scp_disk_format){ .device = argv[1], .type = (char *)arguments.type };
	commands_ask(master, request, node->id, &message, done);
}

static void rescan_all(struct master *master, const scp_message *message)
{
	const ns_node *node;

	disks_rescan(slave_disks(master_slave(master)));
	for (size_t at = 0; (node = namespace_next_node(master_ns(master), &at));)
		if (node->id != NAMESPACE_MASTER && commands_node_is_up(master, node->id))
			scp_send(slave_scp(master_slave(master)), node->id, SCP_CONTROL, 0, message);
}

void disk_command_rescan(struct admin_request *request, int argc, char **argv, void *arg)
{
	static const char done[] = "disks are being looked for; nasctl disk list shows what is found";
	struct master *master = commands_master(arg);
	const ns_node *node = argc ? commands_need_node(master, request, argv[0]) : NULL;
	scp_message message = { .type = SCP_DISK_RESCAN };

	if (argc && !node)
		return;
	if (node && node->id != NAMESPACE_MASTER) {
		commands_ask(master, request, node->id, &message, done);
		return;
	}
	if (node)
		disks_rescan(slave_disks(master_slave(master)));
	else
		rescan_all(master, &message);
	admin_done(request, "%s", done);
}
