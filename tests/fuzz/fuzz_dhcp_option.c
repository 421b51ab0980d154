/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a DHCP server, or whoever pretends to be one, crashes what hands the master's address to a new disk node, or
 * has it write something else than an address.
 *
 * Input: option 43 in hexadecimal.
 */
#include "config.h"

#include "common/dhcp_option.h"
#include "scp/scp_enrol.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	char *hex = strndup((const char *)bytes, len), master[DHCP_OPTION_TEXT] = "untouched", address[SCP_ADDRESS_MAX];
	struct in_addr in;
	uint16_t port;
	int rc;

	if (!hex)
		abort();
	rc = dhcp_option_master(hex, master);
	if (rc == 0 && (scp_address_split(master, address, &port) || inet_pton(AF_INET, address, &in) != 1))
		abort();
	if (rc < 0 && ((rc != -EBADMSG && rc != -ENOENT) || strcmp(master, "untouched") != 0))
		abort();
	free(hex);
	return 0;
}
