/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/patience.h - may this thread wait for a disk?
 *
 * The loop asks a backend without patience first: what memory can answer is answered at once, and what can't fails with
 * -ERESTART and has done nothing. The same call is made again on a worker's thread then, which has patience. So has every
 * thread that says nothing.
 *
 * A backend that knows nothing of this may wait in any case; it is the one that serves a disk that must know.
 *
 * Threads: each has its own.
 */
#ifndef VNAS_COMMON_PATIENCE_H
#define VNAS_COMMON_PATIENCE_H

#include <stdbool.h>

bool patience_may_wait(void);

/* Return: how it was */
bool patience_set(bool may_wait);

#endif
