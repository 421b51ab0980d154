/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/dhcp_option.h - how DHCP names the master: vendor-specific information of the vendor class "vnas-disk"
 *
 * DHCP option 43, in encapsulated options (RFC 2132, 8.4), as a server sends it to a client whose class (option 60) it knows:
 *
 *	code	length	value
 *	1	4	the master's IPv4 address
 *	2	2	its SCP port; without it, the usual one
 *
 * Others are stepped over. DHCP clients hand options they don't know to their scripts in hexadecimal.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_DHCP_OPTION_H
#define VNAS_COMMON_DHCP_OPTION_H

enum { DHCP_OPTION_MASTER = 1, DHCP_OPTION_PORT = 2, DHCP_OPTION_TEXT = 24 };

/**
 * dhcp_option_master() - the master in option 43
 * @hex:	"01040a000101" (udhcpc, networkd), "1:4:a:0:1:1" (dhclient), or with a colon after each two digits
 * @master:	out: "ADDRESS" or "ADDRESS:PORT"; untouched on failure
 *
 * Return: 0; -EBADMSG if it is malformed; -ENOENT if it names no master
 */
int dhcp_option_master(const char *hex, char master[static DHCP_OPTION_TEXT]);

#endif
