/* SPDX-License-Identifier: (GPL-3.0-or-later OR BSD-2-Clause OR GPL-2.0) */
/*
 * common/congestion_map.h - what common/congestion.bpf.c and common/congestion.c both see
 */
#ifndef VNAS_COMMON_CONGESTION_MAP_H
#define VNAS_COMMON_CONGESTION_MAP_H

#include <linux/types.h>

/* Not kept between runs: no number in its name (common/tc_program.h). */
#define CONGESTION_WISHES congestion_wishes

/* In the storage of a socket that is being restored. */
struct congestion_wish {
	__u32 window; /* packets, not 0 */
};

#endif
