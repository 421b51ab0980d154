/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/file_service.h"

#include "common/file_service_internal.h"
#include "common/mount_table.h"
#include "common/pseudo.h"

#include <errno.h>
#include <stdlib.h>

struct file_service *file_service_new(const struct file_service_options *options)
{
	struct file_service *service = calloc(1, sizeof(*service));

	if (!service)
		return NULL;
	service->mounts = mount_table_new();
	if (!service->mounts) {
		free(service);
		return NULL;
	}
	service->options = *options;
	service->programs[0] = (struct rpc_program){
		.number = NFS_PROGRAM,
		.version_low = 3, /* version 4, which Linux asks for first, is answered with this range: it takes 3 */
		.version_high = 3,
		.name = "nfs",
		.dispatch = nfs3_dispatch,
		.state = service,
	};
	service->programs[1] = (struct rpc_program){
		.number = MOUNT_PROGRAM,
		.version_low = 1,
		.version_high = 3,
		.name = "mountd",
		.dispatch = mount3_dispatch,
		.state = service,
	};
	return service;
}

void file_service_free(struct file_service *service)
{
	if (!service)
		return;
	mount_table_free(service->mounts);
	free(service);
}

const struct rpc_program *file_service_programs(struct file_service *service, size_t *count)
{
	*count = FILE_SERVICE_PROGRAMS;
	return service->programs;
}

const struct file_service_counters *file_service_counters(const struct file_service *service)
{
	return &service->counters;
}

int file_service_find(struct file_service *service, uint32_t id, enum rpc_transport transport, struct volume **here,
		      uint32_t *node)
{
	const struct file_service_options *options = &service->options;
	const ns_volume *volume;

	*here = NULL;
	if (!namespace_cluster(options->ns))
		return -EINPROGRESS;
	if (id == NAMESPACE_ROOT_VOLUME) {
		pseudo_open(options->ns, &service->root);
		*here = &service->root;
		return 0;
	}
	volume = namespace_volume(options->ns, id);
	if (!volume)
		return -ESTALE;
	if (volume->node == options->self) {
		*here = options->find_volume(id, options->arg);
		return *here ? 0 : -EINPROGRESS;
	}
	if (transport == RPC_RELAYED || !options->relay)
		return -EINPROGRESS;
	*node = volume->node;
	return 0;
}

void file_service_relay(struct file_service *service, uint32_t node, struct rpc_call *call)
{
	service->counters.relayed++;
	service->options.relay(node, call, service->options.arg);
}

void file_service_unreachable(struct rpc_call *call)
{
	if (call->program == NFS_PROGRAM)
		nfs3_unreachable(call);
	else if (call->program == MOUNT_PROGRAM)
		mount3_unreachable(call);
	else
		rpc_reply_error(call, RPC_ACCEPT_SYSTEM_ERR, 0, 0);
}
