/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a disk or a smartctl(8) that says nonsense crashes a disk node's daemon.
 *
 * Input: what `smartctl --json` writes.
 */
#include "config.h"

#include "slave/disk_probe.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	enum disk_health health = disk_health_parse((const char *)bytes, len);

	if (health != DISK_HEALTH_UNKNOWN && health != DISK_HEALTH_PASSED && health != DISK_HEALTH_FAILED)
		abort();
	return 0;
}
