/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/mount_table.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

struct entry {
	struct mounted seen; /* first, so that one can be had from the other */
	TAILQ_ENTRY(entry) link;
	char path[];
};

struct mount_table {
	TAILQ_HEAD(entries, entry) entries; /* the newest first */
	size_t count;
};

struct mount_table *mount_table_new(void)
{
	struct mount_table *table = calloc(1, sizeof(*table));

	if (table)
		TAILQ_INIT(&table->entries);
	return table;
}

static void entry_free(struct mount_table *table, struct entry *entry)
{
	TAILQ_REMOVE(&table->entries, entry, link);
	table->count--;
	free(entry);
}

void mount_table_free(struct mount_table *table)
{
	if (!table)
		return;
	while (!TAILQ_EMPTY(&table->entries))
		entry_free(table, TAILQ_FIRST(&table->entries));
	free(table);
}

static void client_text(const struct sockaddr_storage *client, char text[static INET6_ADDRSTRLEN])
{
	const struct in_addr *ipv4 = &((const struct sockaddr_in *)client)->sin_addr;
	const struct in6_addr *ipv6 = &((const struct sockaddr_in6 *)client)->sin6_addr;

	text[0] = '\0';
	if (client->ss_family == AF_INET)
		inet_ntop(AF_INET, ipv4, text, INET6_ADDRSTRLEN);
	else if (IN6_IS_ADDR_V4MAPPED(ipv6))
		inet_ntop(AF_INET, ipv6->s6_addr + 12, text, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, ipv6, text, INET6_ADDRSTRLEN);
}

static void make_room(struct mount_table *table, const char *client)
{
	struct entry *entry, *oldest = NULL;
	size_t own = 0;

	TAILQ_FOREACH(entry, &table->entries, link) {
		if (strcmp(entry->seen.client, client) != 0)
			continue;
		oldest = entry;
		own++;
	}
	if (own >= MOUNT_TABLE_CLIENT_MAX)
		entry_free(table, oldest);
	else if (table->count >= MOUNT_TABLE_MAX)
		entry_free(table, TAILQ_LAST(&table->entries, entries));
}

void mount_table_add(struct mount_table *table, const struct sockaddr_storage *client, const char *path)
{
	size_t len = strlen(path) + 1;
	struct entry *entry;

	mount_table_remove(table, client, path);
	entry = calloc(1, sizeof(*entry) + len);
	if (!entry)
		return;
	memcpy(entry->path, path, len);
	entry->seen.path = entry->path;
	client_text(client, entry->seen.client);
	make_room(table, entry->seen.client);
	TAILQ_INSERT_HEAD(&table->entries, entry, link);
	table->count++;
}

void mount_table_remove(struct mount_table *table, const struct sockaddr_storage *client, const char *path)
{
	char text[INET6_ADDRSTRLEN];
	struct entry *entry, *next;

	client_text(client, text);
	for (entry = TAILQ_FIRST(&table->entries); entry; entry = next) {
		next = TAILQ_NEXT(entry, link);
		if (strcmp(entry->seen.client, text) == 0 && (!path || strcmp(entry->path, path) == 0))
			entry_free(table, entry);
	}
}

const struct mounted *mount_table_next(const struct mount_table *table, const struct mounted *at)
{
	const struct entry *entry = at ? TAILQ_NEXT((const struct entry *)at, link) : TAILQ_FIRST(&table->entries);

	return entry ? &entry->seen : NULL;
}
