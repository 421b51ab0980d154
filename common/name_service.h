/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/name_service.h - host names, netgroups and users' groups, without waiting for them
 *
 * What this machine's name service (nsswitch.conf(5)) says, kept for a while. What is not known is looked up on a thread
 * of its own, which a dead name server may hold up; who asked is told by name_service_wait() and asks again.
 *
 * An answer is good for NAME_SERVICE_KEPT_MS. From NAME_SERVICE_FRESH_MS on the next question has it looked up again
 * meanwhile, so that nobody who comes often waits twice. If that fails, the old answer stays for its time. Of
 * each kind at most NAME_SERVICE_ENTRIES answers are kept, those used last.
 *
 * A client's own name is believed only if it leads back to its address.
 *
 * Threads: questions come from any; who waits does so in the loop that it was made for.
 */
#ifndef VNAS_COMMON_NAME_SERVICE_H
#define VNAS_COMMON_NAME_SERVICE_H

#include "common/group_set.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

enum {
	NAME_SERVICE_FRESH_MS = 60 * 1000,
	NAME_SERVICE_KEPT_MS = 600 * 1000,
	NAME_SERVICE_RETRY_MS = 5 * 1000, /* after a failure */
	NAME_SERVICE_ENTRIES = 8192,
	NAME_SERVICE_ASKED_MAX = 1024, /* look-ups at once, of each kind; what is asked beyond fails */
	NAME_SERVICE_THREADS = 8,
	NAME_SERVICE_NAME_MAX = 255,
};

struct event_base;
struct name_service;

enum name_answer {
	NAME_NO,
	NAME_YES,
	NAME_ASKED,  /* is being looked up: name_service_wait() */
	NAME_FAILED, /* the name service does not answer */
};

/* Who waits for answers. Embedded by its owner. */
struct name_waiter {
	TAILQ_ENTRY(name_waiter) link;
	void (*told)(struct name_waiter *waiter); /* once; it is nobody's waiter any more */
};

/* 0; -ENOMEM, -EAGAIN (no threads, no random bytes) */
int name_service_new(struct event_base *base, struct name_service **out);

/* Ends the threads: waits for look-ups that run. Those who wait are told. What is not known fails then. */
void name_service_stop(struct name_service *names);

/* Stops before. NULL is allowed. */
void name_service_free(struct name_service *names);

/* Is @address (IPv4 is IPv4-mapped) one of the host's? */
enum name_answer name_service_is_host(struct name_service *names, const char *host, const uint8_t address[static 16]);

/* Does the name of @address match a wildcard? */
enum name_answer name_service_matches(struct name_service *names, const uint8_t address[static 16],
				      const char *wildcard);

/* Is @address in a netgroup, by its text, its name or the first part of its name? */
enum name_answer name_service_is_in_netgroup(struct name_service *names, const uint8_t address[static 16],
					     const char *netgroup);

/**
 * name_service_groups() - the groups that a user is in
 * @without_root:	leave group 0 out
 * @out:		out: on NAME_YES, a reference, the caller's. A user that is not known is in no group
 *
 * Return: NAME_YES, NAME_ASKED, NAME_FAILED
 */
enum name_answer name_service_groups(struct name_service *names, uint32_t uid, bool without_root,
				     struct group_set **out);

/*
 * Be told when that has been looked up of which NAME_ASKED was said last to the loop: in this turn of it. There may be as many who
 * wait as there are calls, and each begins anew when told, so nobody is told of what another asked.
 */
void name_service_wait(struct name_service *names, struct name_waiter *waiter);

#endif
