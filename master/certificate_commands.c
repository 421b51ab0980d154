/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/certificate_commands.h"

#include "common/certificate_age.h"
#include "common/clock.h"
#include "master/commands_internal.h"
#include "master/issuing.h"
#include "master/vroot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SERIAL_DIGITS = CERTIFICATES_SERIAL_TEXT - 1 };

/* What there is */

/* All certificates, as the database has them: of each node the last first. */
struct listing {
	struct certificates_facts *items;
	size_t count, room;
	bool is_short; /* of memory */
};

static void collect(const struct certificates_facts *certificate, void *arg)
{
	struct listing *listing = arg;

	if (listing->count == listing->room) {
		size_t room = listing->room ? 2 * listing->room : 64;
		struct certificates_facts *items = reallocarray(listing->items, room, sizeof(*items));

		if (!items) {
			listing->is_short = true;
			return;
		}
		listing->items = items;
		listing->room = room;
	}
	listing->items[listing->count++] = *certificate;
}

/* 0; -EIO; -ENOMEM. @out->items: freed by the caller, also on failure */
static int listing_read(struct master *master, struct listing *out)
{
	int rc;

	*out = (struct listing){ 0 };
	rc = vroot_certificates_visit(master_vroot(master), collect, out);
	return rc == 0 && out->is_short ? -ENOMEM : rc;
}

static bool is_last(const struct listing *listing, size_t i)
{
	return i == 0 || listing->items[i - 1].node != listing->items[i].node;
}

static const struct certificates_facts *find_last(const struct listing *listing, uint32_t node)
{
	for (size_t i = 0; i < listing->count; i++)
		if (listing->items[i].node == node)
			return &listing->items[i];
	return NULL;
}

static bool is_revoked(struct master *master, const struct certificates_facts *certificate)
{
	return namespace_is_revoked(master_ns(master), certificate->node, certificate->number);
}

static enum certificate_age age_of(const struct certificates_facts *certificate)
{
	return certificate_age(certificate, (int64_t)(clock_wall_ns() / 1000000000u));
}

static const char *state_of(struct master *master, const struct certificates_facts *certificate, bool last)
{
	if (is_revoked(master, certificate))
		return "revoked";
	return last || age_of(certificate) == CERTIFICATE_EXPIRED ? certificate_age_name(age_of(certificate)) : "replaced";
}

/* By which the device has its control session, which is not ended because there is a later one. NULL: it has none */
static const struct certificates_facts *shown_by(struct master *master, uint32_t node)
{
	struct slave *slave = master_slave(master);

	return node == NAMESPACE_MASTER ? slave_certificate(slave) : scp_certificate_of(slave_scp(slave), node);
}

static bool is_in_use(struct master *master, const struct certificates_facts *certificate)
{
	const struct certificates_facts *shown = shown_by(master, certificate->node);

	return shown && strcmp(shown->serial, certificate->serial) == 0;
}

/* By which a device is judged. One that was signed while a clock was wrong may not have been taken. NULL: none is known */
static const struct certificates_facts *find_best(struct master *master, const struct listing *listing, uint32_t node)
{
	const struct certificates_facts *last = find_last(listing, node), *shown = shown_by(master, node);

	return last && shown && shown->expires_s > last->expires_s ? shown : last;
}

static json_t *row_of(struct master *master, const struct certificates_facts *certificate, bool last)
{
	const ns_node *node = namespace_node(master_ns(master), certificate->node);

	return json_pack("{s:I, s:o, s:s, s:I, s:s, s:b}", "node", (json_int_t)certificate->node, "name",
			 admin_text(node ? node->name : "?"), "serial", certificate->serial, "valid_until_ns",
			 (json_int_t)(certificate->expires_s * 1000000000), "state", state_of(master, certificate, last),
			 "in_use", is_in_use(master, certificate));
}

static json_t *authority_row(const struct certificates_facts *authority)
{
	return json_pack("{s:n, s:s, s:s, s:I, s:s, s:b}", "node", "name", "authority", "serial", authority->serial,
			 "valid_until_ns", (json_int_t)(authority->expires_s * 1000000000), "state",
			 certificate_age_name(age_of(authority)), "in_use", true);
}

void certificate_command_list(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	struct listing listing;
	json_t *table;
	int rc = listing_read(master, &listing);

	(void)argc, (void)argv;
	if (rc < 0) {
		admin_error(request, "the certificates can't be read: %s; nasctl log says more", strerror(-rc));
		free(listing.items);
		return;
	}
	table = admin_table("node:Node name:Name serial:Serial valid_until_ns:Valid_until state:State in_use:In_use");
	admin_row(table, authority_row(issuing_authority(master_issuing(master))));
	for (size_t i = 0; i < listing.count; i++)
		if (is_last(&listing, i) || age_of(&listing.items[i]) != CERTIFICATE_EXPIRED)
			admin_row(table, row_of(master, &listing.items[i], is_last(&listing, i)));
	free(listing.items);
	admin_answer(request, table);
}

void certificate_commands_add_facts(struct master *master, uint32_t node, json_t *record)
{
	const struct certificates_facts *best;
	struct listing listing;

	best = listing_read(master, &listing) == 0 ? find_best(master, &listing, node) : NULL;
	if (best) {
		json_object_set_new(record, "certificate", json_string(state_of(master, best, true)));
		json_object_set_new(record, "certificate_until_ns", json_integer((json_int_t)(best->expires_s * 1000000000)));
	}
	free(listing.items);
}

static void add_problem(struct master *master, const ns_node *node, const struct certificates_facts *best, json_t *list)
{
	if (is_revoked(master, best))
		json_array_append_new(list, json_sprintf("node %u (%s): its certificates were revoked; remove it, and let it join again "
							 "with a new key: vnasd(8)", node->id, node->name));
	else if (age_of(best) == CERTIFICATE_EXPIRED)
		json_array_append_new(list, json_sprintf("node %u (%s): its certificate has expired; if all clocks are right, remove it, "
							 "and let it join again: vnasd(8)", node->id, node->name));
	else if (age_of(best) == CERTIFICATE_EXPIRING)
		json_array_append_new(list, json_sprintf("node %u (%s): its certificate expires soon and was not renewed; its log says "
							 "why; nasctl certificate renew %u", node->id, node->name, node->id));
}

void certificate_commands_add_problems(struct master *master, json_t *list)
{
	const struct certificates_facts *authority = issuing_authority(master_issuing(master));
	const ns_node *node;
	struct listing listing;

	if (listing_read(master, &listing) == 0)
		for (size_t at = 0; (node = namespace_next_node(master_ns(master), &at));) {
			const struct certificates_facts *best = find_best(master, &listing, node->id);

			if (best)
				add_problem(master, node, best, list);
		}
	free(listing.items);
	if (age_of(authority) >= CERTIFICATE_EXPIRING)
		json_array_append_new(list, json_string("the authority's certificate expires soon, or has expired, and was not renewed; "
							"nasctl log says why; nasctl certificate renew authority"));
}

/* New ones */

static void on_own_end(int result, const char *why, void *arg)
{
	struct admin_request *request = arg;

	if (result < 0)
		admin_error(request, "this device's certificate was not renewed: %s", why);
	else
		admin_done(request, "this device has a new certificate");
}

static void renew_own(struct master *master, struct admin_request *request)
{
	if (slave_renew_certificate(master_slave(master), on_own_end, request) < 0)
		admin_error(request, "this device is renewing its certificate already; nasctl certificate list shows it");
}

static void renew_authority(struct master *master, struct admin_request *request)
{
	int rc = issuing_renew_authority(master_issuing(master));

	if (rc < 0)
		admin_error(request, "the authority's certificate was not renewed: %s; nasctl log says more", strerror(-rc));
	else
		renew_own(master, request); /* which begins to show the new one */
}

static void on_one_end(int result, const char *why, void *arg)
{
	(void)result, (void)why, (void)arg; /* which the log says */
}

static void renew_all(struct master *master, struct admin_request *request)
{
	const scp_message message = { .type = SCP_CERTIFICATE_RENEW };
	struct scp *scp = slave_scp(master_slave(master));
	unsigned int asked = 1, away = 0;
	const ns_node *node;

	slave_renew_certificate(master_slave(master), on_one_end, NULL); /* or it is at it */
	for (size_t at = 0; (node = namespace_next_node(master_ns(master), &at));) {
		if (node->id == NAMESPACE_MASTER)
			continue;
		if (scp_send(scp, node->id, SCP_CONTROL, 0, &message) == 0)
			asked++;
		else
			away++;
	}
	if (away)
		admin_done(request, "%u devices renew their certificates; %u are away or too old for it, and renew theirs in time; nasctl "
			   "certificate list shows all", asked, away);
	else
		admin_done(request, "%u devices renew their certificates; nasctl certificate list shows them", asked);
}

void certificate_command_renew(struct admin_request *request, int argc, char **argv, void *arg)
{
	const scp_message message = { .type = SCP_CERTIFICATE_RENEW };
	struct master *master = commands_master(arg);
	const ns_node *node;
	char done[64];

	if (!argc || strcmp(argv[0], "all") == 0) {
		renew_all(master, request);
		return;
	}
	if (strcmp(argv[0], "authority") == 0) {
		renew_authority(master, request);
		return;
	}
	node = commands_need_node(master, request, argv[0]);
	if (!node)
		return;
	if (node->id == NAMESPACE_MASTER) {
		renew_own(master, request);
		return;
	}
	snprintf(done, sizeof(done), "node %u has a new certificate", node->id);
	commands_ask(master, request, node->id, &message, done);
}

/* Taking back */

static bool is_serial(const char *text)
{
	return strlen(text) == SERIAL_DIGITS && strspn(text, "0123456789abcdef") == SERIAL_DIGITS;
}

static void take_back(struct master *master, struct admin_request *request, uint32_t node, uint64_t number, bool is_last_one)
{
	int rc = issuing_revoke(master_issuing(master), node, number);

	if (rc < 0)
		admin_error(request, "nothing was revoked: %s; nasctl log says more", strerror(-rc));
	else if (is_last_one)
		admin_done(request, "node %u has no good certificate any more; nasctl node remove %u, and it can join again with a new key: "
			   "vnasd(8)", node, node);
	else
		admin_done(request, "this certificate of node %u and those before it are refused from now on; the last one is good", node);
}

static void take_back_serial(struct master *master, struct admin_request *request, const char *serial, const struct listing *listing)
{
	const struct certificates_facts *certificate;
	size_t at = 0;

	while (at < listing->count && strcmp(listing->items[at].serial, serial) != 0)
		at++;
	if (at == listing->count) {
		admin_error(request, "no certificate has the serial number %s; nasctl certificate list shows them", serial);
		return;
	}
	certificate = &listing->items[at];
	if (!is_last(listing, at))
		take_back(master, request, certificate->node, certificate->number, false);
	else if (certificate->node == NAMESPACE_MASTER)
		admin_error(request, "this is the master's own certificate; first nasctl certificate renew 1");
	else
		take_back(master, request, certificate->node, UINT64_MAX, true);
}

void certificate_command_revoke(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct master *master = commands_master(arg);
	struct listing listing;
	const ns_node *node;
	int rc;

	(void)argc;
	if (is_serial(argv[0])) {
		rc = listing_read(master, &listing);
		if (rc < 0)
			admin_error(request, "the certificates can't be read: %s; nasctl log says more", strerror(-rc));
		else
			take_back_serial(master, request, argv[0], &listing);
		free(listing.items);
		return;
	}
	node = commands_need_node(master, request, argv[0]);
	if (!node)
		return;
	if (node->id == NAMESPACE_MASTER)
		admin_error(request, "node 1 is the master itself; nasctl certificate renew 1, and then revoke the former one by its serial "
			    "number");
	else
		take_back(master, request, node->id, UINT64_MAX, true);
}
