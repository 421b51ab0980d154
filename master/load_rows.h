/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * master/load_rows.h - the load of nodes, as nasctl shows it
 *
 * What is unknown is null. Threads: the control loop's.
 */
#ifndef VNAS_MASTER_LOAD_ROWS_H
#define VNAS_MASTER_LOAD_ROWS_H

#include <jansson.h>
#include <stdint.h>

struct load;

/* Columns of a table, and the members of a row for them. @load: NULL: nothing is known */
#define LOAD_COLUMNS "cpu_permille:CPU busy_permille:Disks free_bytes:Free temperature_millicelsius:Temperature clock_us:Clock"
void load_rows_set(json_t *row, const struct load *load);

/* Of a record: how well the clock is known, and who keeps it. */
void load_rows_set_clock(json_t *record, const struct load *load);

/* The members of a volume's row. */
void load_rows_set_volume(json_t *row, const struct load *load, uint32_t volume);

#endif
