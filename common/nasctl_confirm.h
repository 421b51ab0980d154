/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/nasctl_confirm.h - asking an administrator whether he is sure
 *
 * Threads: the only one of its process.
 */
#ifndef VNAS_COMMON_NASCTL_CONFIRM_H
#define VNAS_COMMON_NASCTL_CONFIRM_H

#include <stdbool.h>

/* Show what would be done, and have @word typed. Without a terminal nobody is sure. Return: false, which was said on standard error */
bool nasctl_confirm(const char *sentence, const char *word);

#endif
