/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/patience.h"

static _Thread_local bool is_impatient;

bool patience_may_wait(void)
{
	return !is_impatient;
}

bool patience_set(bool may_wait)
{
	bool before = !is_impatient;

	is_impatient = !may_wait;
	return before;
}
