/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/nasctl_print.h - answers of vnasd, printed for people or as JSON
 *
 * Threads: the only one of its process.
 */
#ifndef VNAS_COMMON_NASCTL_PRINT_H
#define VNAS_COMMON_NASCTL_PRINT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/**
 * nasctl_print_answer() - an answer on standard output, or, if it is an error, on standard error
 * @answer:	as common/admin.h has it; borrowed
 *
 * Return: exit status
 */
int nasctl_print_answer(const json_t *answer, bool as_json);

/* A table with its titles. @columns, @rows: as in an answer */
void nasctl_print_table(FILE *out, const json_t *columns, const json_t *rows);

/**
 * nasctl_print_following() - an answer that goes on, to its end
 * @answer:	its beginning, a table; borrowed
 * @more:	of nasctl_ask()
 *
 * Rows are printed as they come; as JSON each on a line of its own.
 *
 * Return: exit status: an answer that goes on ends only when vnasd does, so 1
 */
int nasctl_print_following(const json_t *answer, int more, bool as_json);

#endif
