/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/client_call.h - the calls that a server makes to its clients
 *
 * NLM call-backs and NSM notices. Who makes one says what and to whom; how it gets there differs by device: only the
 * switch speaks for a VIP, so it sends its own (common/client_caller.h) and, asked over SCP, those of the others.
 */
#ifndef VNAS_COMMON_CLIENT_CALL_H
#define VNAS_COMMON_CLIENT_CALL_H

#include <stddef.h>
#include <stdint.h>

enum { CLIENT_CALL_ARGS_MAX = 4096, CLIENT_CALL_RESULTS_MAX = 2048 };

struct client_call {
	uint8_t client[16], vip[16]; /* IPv4-mapped; the call leaves from @vip */
	uint32_t program, version, procedure;
	const uint8_t *args; /* XDR; borrowed */
	size_t args_len;     /* at most CLIENT_CALL_ARGS_MAX */
};

/*
 * Who gets the answer, copied. @fn is called once, perhaps before the call has been made; not if the caller was freed.
 * @result: 0, then @results are the XDR results, borrowed; or -ETIMEDOUT, -ECONNREFUSED (the program is not there),
 * -EPROTO (an RPC error), -EHOSTUNREACH, -EAGAIN (too many calls at once), ...
 */
struct client_call_done {
	void (*fn)(uint64_t id, int result, const uint8_t *results, size_t len, void *arg); /* NULL: nobody */
	void *arg;
	uint64_t id;
};

struct client_call_way {
	void (*call)(const struct client_call *call, const struct client_call_done *done, void *arg);
	void *arg;
};

#endif
