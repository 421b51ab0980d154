/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "master/joining.h"

#include "common/admission.h"
#include "common/certificates.h"
#include "common/clock.h"
#include "common/flow.h"
#include "common/ip_network.h"
#include "common/log.h"
#include "master/candidates.h"
#include "master/issuing.h"
#include "master/leases.h"
#include "master/master.h"
#include "master/vroot.h"
#include "scp/log_once.h"
#include "slave/device_commands.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct joining {
	struct master *master;
	struct candidates candidates;
	struct leases leases;
	struct log_once once;
	char pki[PATH_MAX];
};

struct joining *joining_new(struct master *master)
{
	struct joining *joining = calloc(1, sizeof(*joining));

	if (!joining)
		return NULL;
	joining->master = master;
	snprintf(joining->pki, sizeof(joining->pki), "%.4000s/pki", master_settings(master)->state_dir);
	return joining;
}

void joining_free(struct joining *joining)
{
	free(joining);
}

/* A new node */

static bool is_anothers(const struct namespace *ns, uint32_t id, const char *name)
{
	const ns_node *node;

	for (size_t at = 0; (node = namespace_next_node(ns, &at));)
		if (node->id != id && strcmp(node->name, name) == 0)
			return true;
	return false;
}

void joining_name(const struct namespace *ns, uint32_t id, const char *wanted, char name[static NS_NAME_MAX + 1])
{
	char number[16];

	snprintf(name, NS_NAME_MAX + 1, "%s", wanted);
	if (!is_anothers(ns, id, name))
		return;
	snprintf(number, sizeof(number), "-%u", id);
	snprintf(name, NS_NAME_MAX + 1, "%.*s%s", (int)(NS_NAME_MAX - strlen(number)), wanted, number);
}

static int admit(struct joining *joining, const char *name, const char *serial, bool pending, uint32_t *id)
{
	struct vroot *vroot = master_vroot(joining->master);
	ns_item item = { .kind = NS_NODE };
	char unique[NS_NAME_MAX + 1];
	uint64_t next;
	int rc = vroot_next_id(vroot, NS_NODE, &next);

	if (rc < 0)
		return rc;
	if (next >= FABRIC_DEVICES_MAX)
		return -ENOSPC;
	joining_name(master_ns(joining->master), (uint32_t)next, name, unique);
	if (strcmp(unique, name) != 0)
		log_info("member", "node=%ju is called %s, for another node is called %s", (uintmax_t)next, unique, name);
	item.ns_item_u.node = (ns_node){
		.id = (u_int)next,
		.name = unique,
		.state = pending ? NS_NODE_PENDING : NS_NODE_APPROVED,
		.address = (char *)"",
		.serial = (char *)serial,
	};
	*id = (uint32_t)next;
	return vroot_change(vroot, NS_PUT, &item);
}

/* Make a candidate, who may or may not wait on the list, a node. */
static int admit_candidate(struct joining *joining, const uint8_t key[static CERTIFICATES_KEY_BYTES], const char *name,
			   const char *serial, uint32_t *id)
{
	int rc = admit(joining, name, serial, false, id);

	if (rc == 0)
		rc = vroot_candidate_set(master_vroot(joining->master), key, *id);
	if (rc == 0)
		candidates_remove(&joining->candidates, key);
	return rc;
}

/* Answers. Their texts are freed with free(). */

static void answer(scp_enrol_reply *reply, int rc, const char *reason)
{
	reply->result = -rc;
	reply->reason = strdup(reason);
}

static int answer_signed(struct joining *joining, const char *request, uint32_t id, scp_enrol_reply *reply)
{
	char certificate[CERTIFICATES_PEM_MAX], authority[CERTIFICATES_PEM_MAX];
	int rc = issuing_sign(master_issuing(joining->master), request, id, certificate, authority);

	if (rc < 0)
		return rc;
	reply->node = id;
	reply->certificate = strdup(certificate);
	reply->authority = strdup(authority);
	return 0;
}

/* With a token */

static const char *enrol_reason(int rc)
{
	switch (rc) {
	case 0:
		return "";
	case -EACCES:
		return "the token is unknown or was used; make a new one with nasctl cluster token on the master";
	case -ETIME:
		return "the token has expired; make a new one with nasctl cluster token on the master";
	case -EBADMSG:
		return "the request is malformed: a name that is no host's, or a false signature";
	case -EKEYREVOKED:
		return "its certificates were revoked; remove the node, and let the machine make itself a new key: vnasd(8)";
	case -ENOSPC:
		return "the cluster has no node numbers left";
	default:
		return "the master could not enrol the node; its log says why";
	}
}

static void on_enrol(struct joining *joining, const scp_enrol *enrol, const char *peer, scp_enrol_reply *reply)
{
	uint8_t key[CERTIFICATES_KEY_BYTES];
	bool pending = false;
	uint32_t id = 0;
	/* Before the token is used up, which opens once. */
	int rc = candidates_is_name(enrol->name) ? certificates_request_key(enrol->request, key) : -EBADMSG;

	if (rc == 0)
		rc = vroot_token_use(master_vroot(joining->master), enrol->token, &pending);
	if (rc == 0)
		rc = admit(joining, enrol->name, "", pending, &id);
	if (rc == 0)
		rc = answer_signed(joining, enrol->request, id, reply);
	if (rc < 0)
		log_warn("member", "peer=%s name=%s was not enrolled: %s", peer,
			 candidates_is_name(enrol->name) ? enrol->name : "?", enrol_reason(rc));
	else
		log_info("member", "node=%u name=%s address=%s enrolled%s", id, enrol->name, peer,
			 pending ? ", waits for approval" : "");
	answer(reply, rc, enrol_reason(rc));
}

/* Without one */

static const char *apply_reason(int rc)
{
	switch (rc) {
	case 0:
		return "";
	case -EAGAIN:
		return "it waits for nasctl node approve on the master";
	case -EACCES:
		return "it was rejected on the master; nasctl node approve there changes that";
	case -EBADMSG:
		return "the application is malformed: a name, serial number or vendor class that can't be shown, or a false signature";
	case -ENOBUFS:
		return "too many machines wait for approval; nasctl node list on the master shows them";
	default:
		return enrol_reason(rc);
	}
}

/* The rule by which it may join unasked; NULL: none */
static const char *find_rule(struct joining *joining, const scp_apply *apply, const char *peer)
{
	const struct settings *settings = master_settings(joining->master);
	struct admission_facts facts = {
		.name = apply->name, .serial = apply->serial, .vendor_class = apply->vendor_class
	};
	struct ip_network network;

	if (ip_network_parse(peer, &network) < 0)
		return NULL;
	memcpy(facts.address, network.address, sizeof(facts.address));
	memcpy(facts.mac, apply->mac, sizeof(facts.mac));
	for (unsigned int i = 0; i < settings->auto_approve_count; i++)
		if (admission_holds(settings->auto_approve[i], &facts))
			return settings->auto_approve[i];
	return NULL;
}

static int originate(struct joining *joining, const scp_apply *apply, const char *peer, struct candidate_origin *out)
{
	char authority[CERTIFICATES_FINGERPRINT_TEXT];
	int rc = candidates_is_sound(apply) ? certificates_request_key(apply->request, out->key) : -EBADMSG;

	out->address = peer;
	if (rc == 0)
		rc = certificates_fingerprint(joining->pki, authority);
	return rc < 0 ? rc : certificates_pair(authority, out->key, out->pair);
}

/* What nasctl node approve knows it by: its name; or, if a node or another candidate could be meant, the beginning of its fingerprint. */
static const char *approve_as(const struct joining *joining, const struct candidate *candidate,
			      char prefix[static CANDIDATES_PREFIX + 1])
{
	const char *name = candidate->name;
	const struct candidate *meant = NULL;

	snprintf(prefix, CANDIDATES_PREFIX + 1, "%.*s", CANDIDATES_PREFIX, candidate->pair);
	candidates_find(&joining->candidates, name, clock_monotonic_ms(), &meant);
	if (meant != candidate || namespace_node_by_name(master_ns(joining->master), name))
		return prefix;
	return name[strspn(name, "0123456789")] ? name : prefix; /* a number is a node's */
}

/* -EAGAIN; -EACCES: it was rejected; -ENOBUFS */
static int wait_for_approval(struct joining *joining, const scp_apply *apply, const struct candidate_origin *origin)
{
	char prefix[CANDIDATES_PREFIX + 1];
	const struct candidate *candidate;
	bool is_new;

	candidate = candidates_note(&joining->candidates, apply, origin, clock_monotonic_ms(), &is_new);
	if (origin->is_rejected)
		return -EACCES;
	if (candidate && is_new)
		log_info("member", "name=%s address=%s serial=%s vendor_class=%s fingerprint=%s wants to join: "
			 "nasctl node approve %s, if it shows the same fingerprint", candidate->name, candidate->address,
			 candidate->serial, candidate->vendor_class, candidate->pair, approve_as(joining, candidate, prefix));
	return candidate ? -EAGAIN : -ENOBUFS;
}

/* Nobody has said anything about it yet. */
static int decide(struct joining *joining, const scp_apply *apply, const struct candidate_origin *origin, uint32_t *id)
{
	const char *rule = find_rule(joining, apply, origin->address);
	int rc;

	if (!rule)
		return wait_for_approval(joining, apply, origin);
	rc = admit_candidate(joining, origin->key, apply->name, apply->serial, id);
	if (rc == 0)
		log_info("member", "node=%u name=%s address=%s fingerprint=%s joins by auto_approve = %s", *id, apply->name,
			 origin->address, origin->pair, rule);
	return rc;
}

static int consider(struct joining *joining, const scp_apply *apply, const char *peer, uint32_t *id)
{
	struct candidate_origin origin = { 0 };
	int rc = originate(joining, apply, peer, &origin);

	if (rc < 0)
		return rc;
	rc = vroot_candidate_get(master_vroot(joining->master), origin.key, id);
	if (rc == -ENOENT)
		return decide(joining, apply, &origin, id);
	origin.is_rejected = rc == 0 && *id == 0;
	return origin.is_rejected ? wait_for_approval(joining, apply, &origin) : rc;
}

static void on_apply(struct joining *joining, const scp_apply *apply, const char *peer, scp_enrol_reply *reply)
{
	uint32_t id = 0;
	int rc = consider(joining, apply, peer, &id);

	if (rc == 0)
		rc = answer_signed(joining, apply->request, id, reply);
	if (rc == 0)
		log_info("member", "node=%u address=%s has its certificate", id, peer);
	else if (rc != -EAGAIN && log_once_is_new(&joining->once, peer, apply_reason(rc), clock_monotonic_ms()))
		log_warn("member", "address=%s does not join: %s", peer, apply_reason(rc));
	answer(reply, rc, apply_reason(rc));
}

void joining_answer(struct joining *joining, const scp_message *question, const char *peer, scp_enrol_reply *reply)
{
	if (question->type == SCP_ENROL)
		on_enrol(joining, &question->scp_message_u.enrol, peer, reply);
	else
		on_apply(joining, &question->scp_message_u.apply, peer, reply);
}

/* What a person says */

int joining_approve(struct joining *joining, const char *who, uint32_t *node)
{
	const struct candidate *candidate;
	int rc = candidates_find(&joining->candidates, who, clock_monotonic_ms(), &candidate);

	if (rc < 0)
		return rc;
	log_info("member", "name=%s address=%s fingerprint=%s was approved", candidate->name, candidate->address,
		 candidate->pair);
	return admit_candidate(joining, candidate->key, candidate->name, candidate->serial, node);
}

int joining_reject(struct joining *joining, const char *who)
{
	const struct candidate *candidate;
	int rc = candidates_find(&joining->candidates, who, clock_monotonic_ms(), &candidate);

	if (rc == 0)
		rc = vroot_candidate_set(master_vroot(joining->master), candidate->key, 0);
	if (rc < 0)
		return rc;
	log_info("member", "name=%s address=%s fingerprint=%s was rejected", candidate->name, candidate->address,
		 candidate->pair);
	candidates_remove(&joining->candidates, candidate->key);
	return 0;
}

/* What a person sees */

#define MAC_FORMAT "%02x:%02x:%02x:%02x:%02x:%02x"
#define MAC_BYTES(mac) (mac)[0], (mac)[1], (mac)[2], (mac)[3], (mac)[4], (mac)[5]

static json_t *candidate_row(const struct joining *joining, const struct candidate *candidate)
{
	const char *state = candidate->is_rejected ? "rejected" : "pending";
	char prefix[CANDIDATES_PREFIX + 1];

	return json_pack("{s:n, s:s, s:s, s:s, s:b, s:b, s:i, s:o, s:s, s:s, s:s, s:o}", "id", "name", candidate->name,
			 "address", candidate->address, "state", state, "handoffs", false, "first_device", false,
			 "sessions", 0, "reason",
			 json_sprintf("%s nasctl node approve %s; fingerprint %s", candidate->is_rejected ? "unless" : "waits for",
				      approve_as(joining, candidate, prefix), candidate->pair),
			 "fingerprint", candidate->pair, "serial", candidate->serial, "vendor_class",
			 candidate->vendor_class, "mac", json_sprintf(MAC_FORMAT, MAC_BYTES(candidate->mac)));
}

static bool has_applied(struct joining *joining, const char *address)
{
	const struct candidate *candidate;
	const ns_node *node;

	for (size_t at = 0; (node = namespace_next_node(master_ns(joining->master), &at));)
		if (strcmp(node->address, address) == 0)
			return true;
	for (size_t at = 0; (candidate = candidates_next(&joining->candidates, clock_monotonic_ms(), &at));)
		if (strcmp(candidate->address, address) == 0)
			return true;
	return false;
}

/* One that its DHCP client has called a disk of ours, and which has not asked for more than an address yet. */
static bool is_awaited(struct joining *joining, const struct lease *lease)
{
	const char *ours = master_settings(joining->master)->vendor_class;
	char address[FLOW_ADDRESS_MAX];

	return strncasecmp(lease->vendor_class, ours, strlen(ours)) == 0 &&
	       !has_applied(joining, flow_address_text(lease->address, address));
}

static json_t *lease_row(const struct lease *lease)
{
	char address[FLOW_ADDRESS_MAX];

	return json_pack("{s:n, s:s, s:s, s:s, s:b, s:b, s:i, s:o, s:s, s:o}", "id", "name", lease->name, "address",
			 flow_address_text(lease->address, address), "state", "leased", "handoffs", false, "first_device",
			 false, "sessions", 0, "reason",
			 json_sprintf("a vnas disk has had this address by DHCP for %llu s, and has not asked to join",
				      (unsigned long long)(clock_monotonic_ms() - lease->since_ms) / 1000),
			 "vendor_class", lease->vendor_class, "mac", json_sprintf(MAC_FORMAT, MAC_BYTES(lease->mac)));
}

void joining_add_rows(struct joining *joining, json_t *table)
{
	const struct candidate *candidate;
	const struct lease *lease;

	for (size_t at = 0; (candidate = candidates_next(&joining->candidates, clock_monotonic_ms(), &at));)
		admin_row(table, candidate_row(joining, candidate));
	for (size_t at = 0; (lease = leases_next(&joining->leases, &at));)
		if (is_awaited(joining, lease))
			admin_row(table, lease_row(lease));
}

void joining_add_problems(struct joining *joining, json_t *list)
{
	char prefix[CANDIDATES_PREFIX + 1];
	const struct candidate *candidate;

	for (size_t at = 0; (candidate = candidates_next(&joining->candidates, clock_monotonic_ms(), &at));)
		if (!candidate->is_rejected)
			json_array_append_new(list, json_sprintf("%s at %s (fingerprint %s) waits for approval: nasctl node approve %s",
								 candidate->name, candidate->address, candidate->pair,
								 approve_as(joining, candidate, prefix)));
}

/* nasctl dhcp lease */

static struct joining *joining_of(void *arg)
{
	return master_joining(((struct device *)arg)->master);
}

/* 0; -EINVAL, answered */
static int parse_lease(struct admin_request *request, char **argv, uint8_t mac[static 6], uint8_t address[static 16])
{
	struct ip_network network;

	if (leases_mac_parse(argv[0], mac) < 0) {
		admin_error(request, "\"%s\" is no MAC address such as 52:54:00:12:34:56", argv[0]);
		return -EINVAL;
	}
	if (ip_network_parse(argv[1], &network) < 0 || network.bits != 128) {
		admin_error(request, "\"%s\" is no address such as 10.0.1.100", argv[1]);
		return -EINVAL;
	}
	memcpy(address, network.address, 16);
	return 0;
}

void joining_command_lease_add(struct admin_request *request, int argc, char **argv, void *arg)
{
	struct joining *joining = joining_of(arg);
	uint8_t mac[6], address[16];

	if (parse_lease(request, argv, mac, address) < 0)
		return;
	leases_add(&joining->leases, mac, address, argc > 2 ? argv[2] : "", argc > 3 ? argv[3] : "", clock_monotonic_ms());
	log_debug("member", "address=%s mac=%s has a lease", argv[1], argv[0]);
	admin_done(request, "%s has the address %s", argv[0], argv[1]);
}

void joining_command_lease_del(struct admin_request *request, int argc, char **argv, void *arg)
{
	uint8_t mac[6], address[16];

	(void)argc;
	if (parse_lease(request, argv, mac, address) < 0)
		return;
	admin_done(request, leases_remove(&joining_of(arg)->leases, mac, address) ? "%s does not have the address %s any more" :
										    "%s did not have the address %s",
		   argv[0], argv[1]);
}

void joining_command_lease_list(struct admin_request *request, int argc, char **argv, void *arg)
{
	json_t *table = admin_table("address:Address mac:MAC name:Name vendor_class:Vendor_class seconds:Seconds");
	const struct lease *lease;
	char address[FLOW_ADDRESS_MAX];

	(void)argc, (void)argv;
	for (size_t at = 0; (lease = leases_next(&joining_of(arg)->leases, &at));)
		admin_row(table, json_pack("{s:s, s:o, s:s, s:s, s:I}", "address", flow_address_text(lease->address, address),
					   "mac", json_sprintf(MAC_FORMAT, MAC_BYTES(lease->mac)), "name", lease->name,
					   "vendor_class", lease->vendor_class, "seconds",
					   (json_int_t)((clock_monotonic_ms() - lease->since_ms) / 1000)));
	admin_answer(request, table);
}
