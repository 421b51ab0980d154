/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/dhcp_config.h - a dnsmasq configuration that makes the switch the DHCP server of its disk nodes
 *
 * `nasctl dhcp config`. Only vnas disks are answered; they are told the master's address (common/dhcp_option.h) and, inline,
 * the way to the clients.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_MASTER_DHCP_CONFIG_H
#define VNAS_MASTER_DHCP_CONFIG_H

#include "common/settings.h"

#include <stddef.h>
#include <stdint.h>

/**
 * dhcp_config_range() - which addresses of a network are given out
 * @address, @bits: the switch's own address there, host order, and its network's prefix
 * @first, @last: out: the upper half of the network, or what is left of it beside the switch's own address
 *
 * Return: 0; -ERANGE if the network is smaller than 8 addresses
 */
int dhcp_config_range(uint32_t address, unsigned int bits, uint32_t *first, uint32_t *last);

/**
 * dhcp_config_text() - the configuration file
 * @range:	two addresses, or NULL: dhcp_config_range()
 * @text:	out: to be freed
 * @why:	out: on failure a sentence, SETTINGS_WHY_MAX bytes
 *
 * Return: 0; -EINVAL: the settings, or the range, don't allow it; -ENODEV: the interface has not the address; -ENOMEM
 */
int dhcp_config_text(const struct settings *settings, char *const range[2], char **text, char *why);

#endif
