/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/disk_record.h"

#include "common/log.h"
#include "common/stored_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char ready[] = "ready", formatting[] = "formatting";

static int load_line(struct disk_records *records, const char *line)
{
	struct disk_record record = { 0 };
	char uuid[UUID_TEXT_MAX], state[16];
	int end = 0;

	if (sscanf(line, "%36s %15s %15s%n", uuid, state, record.type, &end) != 3 || line[end] ||
	    uuid_parse(uuid, record.uuid) < 0 || (strcmp(state, ready) != 0 && strcmp(state, formatting) != 0) ||
	    disk_records_find(records, record.uuid) || records->count == DISK_RECORDS_MAX)
		return -EINVAL;
	record.is_ready = strcmp(state, ready) == 0;
	records->list[records->count++] = record;
	return 0;
}

int disk_records_load(const char *path, struct disk_records *out)
{
	uint8_t *text;
	size_t len;
	int number = 1, rc = stored_file_read(path, &text, &len);

	out->count = 0;
	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return rc;
	for (char *rest = (char *)text, *line; rc == 0 && (line = strsep(&rest, "\n")); number++)
		if (line[0])
			rc = load_line(out, line);
	if (rc < 0)
		log_err("disks", "%s:%d: not \"UUID ready|formatting TYPE\"; mend the line, or remove it: the disk is not touched",
			path, number - 1);
	free(text);
	return rc;
}

int disk_records_save(const char *path, const struct disk_records *records)
{
	char uuid[UUID_TEXT_MAX], *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int rc;

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < records->count; i++)
		fprintf(out, "%s %s %s\n", uuid_text(records->list[i].uuid, uuid), records->list[i].is_ready ? ready : formatting,
			records->list[i].type);
	fclose(out);
	rc = text ? stored_file_write(path, text, len) : -ENOMEM;
	free(text);
	return rc;
}

struct disk_record *disk_records_find(struct disk_records *records, const uint8_t uuid[static UUID_BYTES])
{
	for (size_t i = 0; i < records->count; i++)
		if (memcmp(records->list[i].uuid, uuid, UUID_BYTES) == 0)
			return &records->list[i];
	return NULL;
}

struct disk_record *disk_records_add(struct disk_records *records, const uint8_t uuid[static UUID_BYTES], const char *type)
{
	struct disk_record *record;

	if (records->count == DISK_RECORDS_MAX)
		return NULL;
	record = &records->list[records->count++];
	*record = (struct disk_record){ 0 };
	memcpy(record->uuid, uuid, UUID_BYTES);
	snprintf(record->type, sizeof(record->type), "%s", type);
	return record;
}

void disk_records_remove(struct disk_records *records, const uint8_t uuid[static UUID_BYTES])
{
	struct disk_record *record = disk_records_find(records, uuid);

	if (record)
		memmove(record, record + 1, (size_t)(&records->list[--records->count] - record) * sizeof(*record));
}
