/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/examination_names.h - users and groups of this machine's name service, as facts
 *
 *	area		subject			value
 *	digest		users, groups		of all names and numbers, in whatever order the name service has them
 *	user, group	name			number
 *
 * Those of people: from EXAMINATION_ID_LEAST on, without "nobody". Numbers below are given out by each machine as it likes, and files
 * of clients don't have them. At most EXAMINATION_NAMES_MAX of each are looked at; if there are more there is no digest.
 *
 * Threads: call from any, one at a time goes on; it waits for the name service.
 */
#ifndef VNAS_COMMON_EXAMINATION_NAMES_H
#define VNAS_COMMON_EXAMINATION_NAMES_H

#include "common/examination_facts.h"

enum { EXAMINATION_ID_LEAST = 1000, EXAMINATION_NAMES_MAX = 4096 };

/* @one_by_one: not the digests, but the users and groups themselves */
void examination_names_find(bool one_by_one, struct examination_facts *out);

#endif
