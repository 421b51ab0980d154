/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/first_device.h - who gets clients' new connections
 *
 * Carries out `[fabric] first_device`: writes the fabric's list of turns (master/balance.h) whenever a device, its weight or, for
 * `least-load`, its load is another. Keeps the weights of devices (nasctl node weight), which the database has.
 *
 * A device's sessions are those that it reported last, and the connections that the fabric has given it since. So a burst of
 * clients between two reports is spread as well.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_MASTER_FIRST_DEVICE_H
#define VNAS_MASTER_FIRST_DEVICE_H

#include "common/admin.h"

#include <stddef.h>
#include <stdint.h>

struct balance_device;
struct first_device;
struct master;

/* @master: borrowed for life; its database is open. NULL: no memory, or the database can't be read (logged) */
struct first_device *first_device_new(struct master *master);
void first_device_free(struct first_device *first);

/* Devices that may get connections have changed; or the fabric is new. */
void first_device_assign(struct first_device *first);

/* Each second: loads have changed. */
void first_device_tick(struct first_device *first);

/* A device has just said how many sessions it has. */
void first_device_reported(struct first_device *first, uint32_t node, size_t sessions);

unsigned int first_device_weight(const struct first_device *first, uint32_t node);

/* New connections that a device was given straight away, since the table was made. */
uint64_t first_device_given(const struct first_device *first, uint32_t node);

/* The devices that may get work, as they are now, FABRIC_DEVICES_MAX at most. Return: how many */
size_t first_device_candidates(const struct first_device *first, struct balance_device *out);

/* How busy a device is: the busiest of its processors together and its disks, permille; 1000 if that is not known. */
unsigned int first_device_busy_permille(struct master *master, uint32_t node);

/* `nasctl node weight` */
void first_device_command_weight(struct admin_request *request, int argc, char **argv, void *arg);

#endif
