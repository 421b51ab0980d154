/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/machine.h - what vnasd changes on the machine it runs on
 *
 * VIP addresses and the sysctls that ARP, neighbour discovery and the reverse path filter need (../shared/handoff.md
 * section 5). Each change is logged and recorded in a file first, with the old value, so that it can be undone by
 * this process, by the next one, or by hand. Uses rtnetlink and /proc/sys.
 *
 * The record is text: a line with the boot it is of (a reboot undoes everything, so a record of an earlier boot is
 * forgotten), then one line for each change, synced to the disk before the change is made:
 *
 *	sysctl NAME OLD-VALUE
 *	address INTERFACE ADDRESS
 *	up INTERFACE
 *	queue INTERFACE
 *
 * A call that fails has logged why. What it did before it failed stays in force and recorded.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_MACHINE_H
#define VNAS_COMMON_MACHINE_H

#include <stddef.h>

struct machine;

/**
 * machine_open() - begin or continue to change the machine
 * @record:	path of the file of changes; what an earlier run recorded is taken up
 *
 * Return: 0; -EBADMSG if @record is something else than a record; other negative errno values of its file
 */
int machine_open(const char *record, struct machine **out);

/* @undo: put everything back, newest first, and remove the record; otherwise leave all in force. */
void machine_close(struct machine *machine, int undo);

/**
 * machine_sysctl() - set one
 * @name:	"net/ipv4/conf/all/arp_ignore"
 *
 * Return: 0, also if it has the value already (nothing recorded); -ENOENT; -EACCES
 */
int machine_sysctl(struct machine *machine, const char *name, const char *value);

/**
 * machine_address() - have an address on an interface
 * @address:	textual; prefix length 32 or 128; IPv6 with nodad
 *
 * Return: 0, also if it is there already (nothing recorded); -ENODEV; -EPERM
 */
int machine_address(struct machine *machine, const char *interface, const char *address);

/**
 * machine_queue() - have an interface's queue serve packets by their priority
 *
 * Its root becomes pfifo_fast: three bands, each served when those before it are empty (tc-prio(8), "priomap"). Only in place of what
 * the kernel itself has put there; a queue that somebody has configured, and a card with several queues, are left alone, and the
 * log says so.
 *
 * Return: 0, also if it is there already or was left alone; -ENODEV; -EPERM
 */
int machine_queue(struct machine *machine, const char *interface);

/*
 * What a disk node needs: the VIPs on lo, not announced by @interface; ARP and reverse path settings. @interface may be
 * "", without handoffs: the settings for all interfaces keep ARP quiet, too.
 *
 * Source: ../shared/handoff.md, 5.1
 */
int machine_setup_slave(struct machine *machine, const char *interface, const char *const *vips, size_t vip_count);

/* What the switch needs: the VIPs on the first client interface; settings on all of @interfaces. */
int machine_setup_master(struct machine *machine, const char *client_interface, const char *const *interfaces,
			 size_t interface_count, const char *const *vips, size_t vip_count);

/* The MAC address of an interface. 0; -ENODEV */
int machine_mac(const char *interface, unsigned char mac[static 6]);

enum { MACHINE_SERIAL_TEXT = 65 };

/*
 * The machine's serial number: @configured; if that is "", what its firmware says, of which visible characters are kept; else "".
 */
void machine_serial(const char *configured, char serial[static MACHINE_SERIAL_TEXT]);

#endif
