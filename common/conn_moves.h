/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/conn_moves.h - what common/tch.h may do with NFS clients' connections (common/conn.h)
 *
 * The application state of an NFS session is its shares: what it did with each volume.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_CONN_MOVES_H
#define VNAS_COMMON_CONN_MOVES_H

#include "common/tch.h"

/* tch_setup.server; server_arg is the struct conn_server. */
extern const struct tch_server conn_moves;

#endif
