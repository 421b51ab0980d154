/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/load_rows.h"

#include "slave/load.h"

static json_t *number_if(bool is_known, uint64_t value)
{
	return is_known ? json_integer((json_int_t)value) : json_null();
}

/* Of all volumes: the busiest disk, and the room together. */
static struct load_volume sum_up(const struct load *load)
{
	struct load_volume sum = { 0 };

	for (size_t i = 0; i < load->volume_count; i++) {
		const struct load_volume *volume = &load->volumes[i];

		if (volume->knows_busy && volume->busy_permille >= sum.busy_permille)
			sum.busy_permille = volume->busy_permille;
		sum.knows_busy |= volume->knows_busy;
		sum.knows_room |= volume->knows_room;
		sum.free_bytes += volume->knows_room ? volume->free_bytes : 0;
		sum.size_bytes += volume->knows_room ? volume->size_bytes : 0;
	}
	return sum;
}

static void set_volume(json_t *row, const struct load_volume *volume)
{
	json_object_set_new(row, "busy_permille", number_if(volume->knows_busy, volume->busy_permille));
	json_object_set_new(row, "free_bytes", number_if(volume->knows_room, volume->free_bytes));
	json_object_set_new(row, "size_bytes", number_if(volume->knows_room, volume->size_bytes));
}

void load_rows_set(json_t *row, const struct load *load)
{
	static const struct load unknown;
	struct load_volume sum = sum_up(load ? load : &unknown);
	json_t *temperature = NULL;

	if (load && load->knows_temperature)
		temperature = json_integer(load->temperature_millicelsius);
	json_object_set_new(row, "cpu_permille", number_if(load && load->knows_cpu, load ? load->cpu_permille : 0));
	json_object_set_new(row, "temperature_millicelsius", temperature ? temperature : json_null());
	json_object_set_new(row, "clock_us", load && load->knows_clock ? json_integer(load->clock.offset_ns / 1000) : json_null());
	set_volume(row, &sum);
}

void load_rows_set_clock(json_t *record, const struct load *load)
{
	if (!load || !load->knows_clock)
		return;
	json_object_set_new(record, "clock_error_us", json_integer((json_int_t)(load->clock.delay_ns / 2000)));
	json_object_set_new(record, "clock_is_slewed", json_boolean(load->clock.is_corrected));
}

void load_rows_set_volume(json_t *row, const struct load *load, uint32_t volume)
{
	struct load_volume none = { 0 };

	for (size_t i = 0; load && i < load->volume_count; i++)
		if (load->volumes[i].volume == volume) {
			set_volume(row, &load->volumes[i]);
			return;
		}
	set_volume(row, &none);
}
