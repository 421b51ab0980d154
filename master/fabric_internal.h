/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/fabric_internal.h - what the files of the fabric's user space share
 *
 * master/fabric.c owns the programs and maps.
 */
#ifndef VNAS_MASTER_FABRIC_INTERNAL_H
#define VNAS_MASTER_FABRIC_INTERNAL_H

#include "master/fabric.h"

#define FABRIC_STRING(x) FABRIC_STRING_(x)
#define FABRIC_STRING_(x) #x

/* The descriptor of one of the maps in master/fabric_map.h, by its macro. */
#define FABRIC_MAP_FD(fabric, map) fabric_map_fd(fabric, FABRIC_STRING(map))

int fabric_map_fd(struct fabric *fabric, const char *map);

#endif
