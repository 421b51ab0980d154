/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/candidate.h"

#include "common/certificates.h"
#include "common/log.h"
#include "common/machine.h"
#include "common/stored_file.h"
#include "scp/scp_enrol.h"
#include "slave/device_commands.h"
#include "slave/device_log.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	LOOK_MS = 250,	     /* for a file that a DHCP hook writes */
	WAIT_MS = 2000,	     /* until asked again, if nothing was decided */
	REJECTED_MS = 30000, /* ... if it was rejected */
	RETRY_MIN_MS = 500,  /* ... if there was no answer */
	RETRY_MAX_MS = 5000,
};

struct self_candidate {
	struct event_base *base;
	const struct settings *settings;
	void (*on_admitted)(const char *master, void *arg);
	void *arg;
	struct event *timer; /* pending while no question is on its way */
	struct scp_enrolment *enrolment;
	unsigned int retry_ms;
	char pki[PATH_MAX], dhcp_file[PATH_MAX];
	char request[CERTIFICATES_PEM_MAX], serial[SETTINGS_LABEL_MAX];
	uint8_t key[CERTIFICATES_KEY_BYTES];
	char master[2 * SCP_ADDRESS_MAX];		 /* who is asked, ADDRESS[:PORT]; "": nobody known */
	char authority[CERTIFICATES_FINGERPRINT_TEXT]; /* the first one that answered */
	char pair[CERTIFICATES_PAIR_TEXT];
	char state[SCP_ENROLMENT_WHY_MAX]; /* for people: why it still waits */
};

static void again_in(struct self_candidate *candidate, unsigned int ms)
{
	struct timeval after = { .tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000 };

	event_add(candidate->timer, &after);
}

/* Said once, not at each try. */
static void note_state(struct self_candidate *candidate, enum log_level level, const char *state)
{
	if (strcmp(candidate->state, state) == 0)
		return;
	snprintf(candidate->state, sizeof(candidate->state), "%s", state);
	if (candidate->pair[0])
		log_write(level, "joining", "fingerprint=%s %s", candidate->pair, state);
	else
		log_write(level, "joining", "%s", state);
}

/* Whom to ask */

/* One line, if a hook has written one. */
static void read_dhcp_file(struct self_candidate *candidate)
{
	uint8_t *text;
	size_t len;

	candidate->master[0] = '\0';
	if (stored_file_read(candidate->dhcp_file, &text, &len) < 0)
		return;
	snprintf(candidate->master, sizeof(candidate->master), "%.*s", (int)strcspn((char *)text, "\r\n"), (char *)text);
	free(text);
}

static void find_master(struct self_candidate *candidate)
{
	const struct settings *settings = candidate->settings;

	if (strcmp(settings->master, "dhcp") == 0)
		read_dhcp_file(candidate);
	else
		snprintf(candidate->master, sizeof(candidate->master), strchr(settings->master, ':') ? "[%s]:%u" : "%s:%u",
			 settings->master, settings->scp_port);
}

/* The answer */

/* The first authority that answers: from now on no other one will do. */
static void believe(struct self_candidate *candidate, const char *authority)
{
	if (candidate->authority[0] || !authority[0])
		return;
	snprintf(candidate->authority, sizeof(candidate->authority), "%s", authority);
	certificates_pair(authority, candidate->key, candidate->pair);
}

/* The certificate's authority must be the one that TLS has shown. */
static int keep(struct self_candidate *candidate, const scp_enrol_reply *reply)
{
	char authority[CERTIFICATES_FINGERPRINT_TEXT];
	int rc = certificates_fingerprint_of(reply->authority, authority);

	if (rc == 0 && strcmp(authority, candidate->authority) != 0)
		rc = -EKEYREJECTED;
	return rc < 0 ? rc : certificates_install(candidate->pki, reply->certificate, reply->authority);
}

static void retry(struct self_candidate *candidate)
{
	again_in(candidate, candidate->retry_ms);
	candidate->retry_ms = candidate->retry_ms * 2 < RETRY_MAX_MS ? candidate->retry_ms * 2 : RETRY_MAX_MS;
}

static void admitted(struct self_candidate *candidate, const scp_enrol_reply *reply)
{
	int rc = keep(candidate, reply);

	if (rc < 0) {
		log_err("joining", "the certificate from %s can't be kept in %s: %s; it is asked for again", candidate->master,
			candidate->pki, strerror(-rc));
		retry(candidate);
		return;
	}
	log_info("joining", "fingerprint=%s master=%s has let this machine in as node %u", candidate->pair,
		 candidate->master, reply->node);
	candidate->on_admitted(candidate->master, candidate->arg);
}

static void not_yet(struct self_candidate *candidate, const struct scp_enrolment_end *end)
{
	switch (end->rc) {
	case -EAGAIN:
		note_state(candidate, LOG_LEVEL_INFO, end->why);
		candidate->retry_ms = RETRY_MIN_MS;
		again_in(candidate, WAIT_MS);
		break;
	case -EACCES:
		note_state(candidate, LOG_LEVEL_WARN, end->why);
		again_in(candidate, REJECTED_MS);
		break;
	case -EKEYREJECTED:
		note_state(candidate, LOG_LEVEL_ERR, "another cluster's master answers than before, or somebody in between; "
			   "if that is meant, restart vnasd");
		again_in(candidate, REJECTED_MS);
		break;
	default:
		note_state(candidate, LOG_LEVEL_WARN, end->why);
		retry(candidate);
	}
}

static void on_answer(const struct scp_enrolment_end *end, void *arg)
{
	struct self_candidate *candidate = arg;
	struct scp_enrolment *enrolment = candidate->enrolment;

	candidate->enrolment = NULL; /* on_admitted may free the candidate */
	believe(candidate, end->authority);
	if (end->rc == 0)
		admitted(candidate, end->reply);
	else
		not_yet(candidate, end);
	scp_enrolment_free(enrolment);
}

/* The question */

static int ask(struct self_candidate *candidate)
{
	const struct settings *settings = candidate->settings;
	scp_message question = { .type = SCP_APPLY };
	scp_apply *apply = &question.scp_message_u.apply;
	char address[SCP_ADDRESS_MAX];
	struct scp_enrolment_options options = {
		.base = candidate->base,
		.address = address,
		.fingerprint = candidate->authority[0] ? candidate->authority : NULL,
		.question = &question,
		.on_end = on_answer,
		.arg = candidate,
	};

	*apply = (scp_apply){
		.name = (char *)settings->name,
		.serial = candidate->serial,
		.vendor_class = (char *)settings->vendor_class,
		.request = candidate->request,
	};
	machine_mac(settings->interface, (unsigned char *)apply->mac); /* else it has none to show */
	if (scp_address_split(candidate->master, address, &options.port) < 0)
		return -EINVAL;
	return scp_enrolment_start(&options, &candidate->enrolment);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct self_candidate *candidate = arg;
	char state[SCP_ENROLMENT_WHY_MAX];
	int rc;

	(void)fd, (void)what;
	find_master(candidate);
	if (!candidate->master[0]) {
		snprintf(state, sizeof(state), "no DHCP client has named the master in %.400s yet", candidate->dhcp_file);
		note_state(candidate, LOG_LEVEL_INFO, state);
		again_in(candidate, LOOK_MS);
		return;
	}
	rc = ask(candidate);
	if (rc < 0) {
		snprintf(state, sizeof(state), "the master at %s can't be asked: %s", candidate->master, strerror(-rc));
		note_state(candidate, LOG_LEVEL_WARN, state);
		retry(candidate);
	}
}

/* Life */

static int make_key(struct self_candidate *candidate)
{
	int rc = certificates_request(candidate->pki, candidate->request);

	return rc < 0 ? rc : certificates_request_key(candidate->request, candidate->key);
}

int self_candidate_new(struct event_base *base, const struct settings *settings,
		       void (*on_admitted)(const char *master, void *arg), void *arg, struct self_candidate **out)
{
	struct self_candidate *candidate = calloc(1, sizeof(*candidate));
	int rc;

	if (!candidate)
		return -ENOMEM;
	signal(SIGPIPE, SIG_IGN); /* as in scp_new() */
	*candidate = (struct self_candidate){
		.base = base, .settings = settings, .on_admitted = on_admitted, .arg = arg, .retry_ms = RETRY_MIN_MS
	};
	snprintf(candidate->pki, sizeof(candidate->pki), "%.4000s/pki", settings->state_dir);
	snprintf(candidate->dhcp_file, sizeof(candidate->dhcp_file), "%.4000s/" CANDIDATE_DHCP_FILE, settings->run_dir);
	machine_serial(settings->serial, candidate->serial);
	candidate->timer = evtimer_new(base, on_timer, candidate);
	rc = candidate->timer ? make_key(candidate) : -ENOMEM;
	if (rc < 0) {
		log_err("joining", "no key can be made in %s: %s", candidate->pki, strerror(-rc));
		self_candidate_free(candidate);
		return rc;
	}
	again_in(candidate, 0);
	*out = candidate;
	return 0;
}

void self_candidate_free(struct self_candidate *candidate)
{
	if (!candidate)
		return;
	scp_enrolment_free(candidate->enrolment);
	if (candidate->timer)
		event_free(candidate->timer);
	free(candidate);
}

static void command_status(struct admin_request *request, int argc, char **argv, void *arg)
{
	const struct self_candidate *candidate = ((struct device *)arg)->candidate;

	(void)argc, (void)argv;
	admin_record(request, json_pack("{s:s, s:o, s:s, s:o}", "role", "candidate", "master", admin_text(candidate->master),
					"fingerprint", candidate->pair, "waits", admin_text(candidate->state)));
}

const struct admin_handler candidate_commands[] = {
	{ "status", command_status },
	{ "log", device_command_log },
	{ "stop", device_command_stop },
	{ NULL, NULL },
};
