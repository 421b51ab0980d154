/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, devices of a cluster can't reach each other, or a stranger passes for one of them.
 */
#include "config.h"

#include "common/certificates.h"

#include <check.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t cluster[16] = "cluster number 1", other_cluster[16] = "cluster number 2";
enum { YEAR_S = 31557600, AUTHORITY_LIFE_S = 10 * YEAR_S, LIFE_S = 5 * YEAR_S };

static char top[PATH_MAX], master[PATH_MAX], slave[PATH_MAX], foreign[PATH_MAX];

static void setup(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(top, sizeof(top) / 2, "%s/vnas-certificates-XXXXXX", tmp ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(top));
	snprintf(master, sizeof(master), "%.*s/master", PATH_MAX / 2, top);
	snprintf(slave, sizeof(slave), "%.*s/slave", PATH_MAX / 2, top);
	snprintf(foreign, sizeof(foreign), "%.*s/foreign", PATH_MAX / 2, top);
	ck_assert_int_eq(certificates_init(master, cluster, AUTHORITY_LIFE_S, LIFE_S), 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void teardown(void)
{
	nftw(top, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static int sign(const char *dir, const char *request, uint32_t node, char *certificate)
{
	static uint64_t number;
	struct certificates_terms terms = { .node = node, .number = ++number, .life_s = LIFE_S };

	return certificates_sign(dir, request, cluster, &terms, certificate);
}

static int self(const char *dir, uint32_t *node, uint8_t found[static 16])
{
	struct certificates_facts facts;
	int rc = certificates_self(dir, &facts);

	if (rc == 0) {
		*node = facts.node;
		memcpy(found, facts.cluster, 16);
	}
	return rc;
}

static int peer_of(const SSL *ssl, uint32_t *node, uint8_t found[static 16])
{
	struct certificates_facts facts;
	int rc = certificates_peer(ssl, &facts);

	if (rc == 0) {
		*node = facts.node;
		memcpy(found, facts.cluster, 16);
	}
	return rc;
}

/* What enrolment does, without the network. */
static void enrol(const char *dir, uint32_t node)
{
	char request[CERTIFICATES_PEM_MAX], certificate[CERTIFICATES_PEM_MAX], authority[CERTIFICATES_PEM_MAX];

	ck_assert_int_eq(certificates_request(dir, request), 0);
	ck_assert_int_eq(sign(master, request, node, certificate), 0);
	ck_assert_int_eq(certificates_authority(master, authority), 0);
	ck_assert_int_eq(certificates_install(dir, certificate, authority), 0);
}

static X509 *load(const char *dir, const char *name)
{
	char path[PATH_MAX + 16];
	FILE *file;
	X509 *certificate;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "r");
	ck_assert_ptr_nonnull(file);
	certificate = PEM_read_X509(file, NULL, NULL, NULL);
	fclose(file);
	ck_assert_ptr_nonnull(certificate);
	return certificate;
}

START_TEST(init_makes_an_authority_and_node_1)
{
	static const char *const names[] = { "ca.crt", "ca.key", "node.crt", "node.key" };
	char path[PATH_MAX + 16];
	uint8_t found[16];
	uint32_t node;
	struct stat st;

	for (size_t i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s/%s", master, names[i]);
		ck_assert_int_eq(stat(path, &st), 0);
		ck_assert_int_eq(st.st_mode & 07777, 0600);
	}
	ck_assert_int_eq(self(master, &node, found), 0);
	ck_assert_uint_eq(node, 1);
	ck_assert_mem_eq(found, cluster, 16);
}
END_TEST

START_TEST(init_changes_nothing_where_an_authority_is)
{
	char before[CERTIFICATES_FINGERPRINT_TEXT], after[CERTIFICATES_FINGERPRINT_TEXT];

	ck_assert_int_eq(certificates_fingerprint(master, before), 0);
	ck_assert_int_eq(certificates_init(master, other_cluster, AUTHORITY_LIFE_S, LIFE_S), -EEXIST);
	ck_assert_int_eq(certificates_fingerprint(master, after), 0);
	ck_assert_str_eq(before, after);
	ck_assert_uint_eq(strlen(before), 64);
}
END_TEST

/* Years from now until the certificate ends. */
static double years_left(const X509 *certificate)
{
	int days, seconds;

	ck_assert(ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate)));
	return days / 365.25;
}

START_TEST(certificates_say_what_they_are_for)
{
	X509 *authority = load(master, "ca.crt"), *node = load(master, "node.crt");
	char subject[256];

	ck_assert(X509_check_ca(authority));
	ck_assert(!X509_check_ca(node));
	ck_assert_uint_eq(X509_get_key_usage(authority), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
	ck_assert_uint_eq(X509_get_key_usage(node), KU_DIGITAL_SIGNATURE);
	ck_assert_uint_eq(X509_get_extended_key_usage(node), XKU_SSL_SERVER | XKU_SSL_CLIENT);
	ck_assert_double_eq_tol(years_left(authority), 10, 0.1);
	ck_assert_double_eq_tol(years_left(node), 5, 0.1);
	X509_NAME_oneline(X509_get_subject_name(node), subject, sizeof(subject));
	ck_assert_str_eq(subject, "/O=636c7573746572206e756d6265722031/CN=node-1");
	ck_assert_int_eq(X509_check_issued(authority, node), X509_V_OK);
	X509_free(node);
	X509_free(authority);
}
END_TEST

START_TEST(a_device_joins)
{
	char own[CERTIFICATES_FINGERPRINT_TEXT], masters[CERTIFICATES_FINGERPRINT_TEXT];
	uint8_t found[16];
	uint32_t node;

	enrol(slave, 4000000000u);
	ck_assert_int_eq(self(slave, &node, found), 0);
	ck_assert_uint_eq(node, 4000000000u);
	ck_assert_mem_eq(found, cluster, 16);
	ck_assert_int_eq(certificates_fingerprint(slave, own), 0);
	ck_assert_int_eq(certificates_fingerprint(master, masters), 0);
	ck_assert_str_eq(own, masters);
}
END_TEST

START_TEST(a_request_keeps_its_key)
{
	char first[CERTIFICATES_PEM_MAX], second[CERTIFICATES_PEM_MAX];
	char certificate[CERTIFICATES_PEM_MAX], authority[CERTIFICATES_PEM_MAX];

	ck_assert_int_eq(certificates_request(slave, first), 0);
	ck_assert_int_eq(certificates_request(slave, second), 0);
	ck_assert_int_eq(sign(master, first, 2, certificate), 0);
	ck_assert_int_eq(certificates_authority(master, authority), 0);
	ck_assert_int_eq(certificates_install(slave, certificate, authority), 0);
}
END_TEST

START_TEST(only_the_authority_signs_and_only_requests)
{
	char request[CERTIFICATES_PEM_MAX], certificate[CERTIFICATES_PEM_MAX];
	char *at;

	enrol(slave, 2);
	ck_assert_int_eq(certificates_request(slave, request), 0);
	ck_assert_int_eq(sign(slave, request, 3, certificate), -ENOKEY);
	ck_assert_int_eq(sign(foreign, request, 3, certificate), -ENOKEY);
	ck_assert_int_eq(sign(master, "", 3, certificate), -EBADMSG);
	ck_assert_int_eq(sign(master, "no request", 3, certificate), -EBADMSG);
	at = strstr(request, "-----END") - 8; /* within the signature */
	*at = *at == 'A' ? 'B' : 'A';
	ck_assert_int_eq(sign(master, request, 3, certificate), -EBADMSG);
}
END_TEST

static EVP_PKEY *rsa_key(void) { return EVP_RSA_gen(2048); }
static EVP_PKEY *binary_curve_key(void) { return EVP_EC_gen("sect571r1"); }
static EVP_PKEY *large_curve_key(void) { return EVP_EC_gen("P-521"); }
static EVP_PKEY *other_curve_key(void) { return EVP_EC_gen("secp256k1"); }

static EVP_PKEY *(*const strange_keys[])(void) = { rsa_key, binary_curve_key, large_curve_key, other_curve_key };

/* Strangers send requests: what their keys cost, all that the master does waits for. */
START_TEST(keys_that_devices_never_make_are_refused)
{
	char request[CERTIFICATES_PEM_MAX] = "", certificate[CERTIFICATES_PEM_MAX];
	uint8_t digest[CERTIFICATES_KEY_BYTES];
	EVP_PKEY *key = strange_keys[_i]();
	X509_REQ *asked = X509_REQ_new();
	BIO *bio = BIO_new(BIO_s_mem());

	ck_assert(key && asked && bio);
	ck_assert(X509_REQ_set_pubkey(asked, key) && X509_REQ_sign(asked, key, EVP_sha256()));
	ck_assert(PEM_write_bio_X509_REQ(bio, asked));
	ck_assert_int_gt(BIO_read(bio, request, sizeof(request) - 1), 0);
	ck_assert_int_eq(certificates_request_key(request, digest), -EBADMSG);
	ck_assert_int_eq(sign(master, request, 3, certificate), -EBADMSG);
	BIO_free(bio);
	X509_REQ_free(asked);
	EVP_PKEY_free(key);
}
END_TEST

START_TEST(what_does_not_fit_is_not_installed)
{
	char request[CERTIFICATES_PEM_MAX], certificate[CERTIFICATES_PEM_MAX];
	char authority[CERTIFICATES_PEM_MAX], strange[CERTIFICATES_PEM_MAX];
	uint8_t found[16];
	uint32_t node;

	ck_assert_int_eq(certificates_init(foreign, other_cluster, AUTHORITY_LIFE_S, LIFE_S), 0);
	ck_assert_int_eq(certificates_authority(master, authority), 0);
	ck_assert_int_eq(certificates_authority(foreign, strange), 0);
	ck_assert_int_eq(certificates_request(slave, request), 0);
	ck_assert_int_eq(sign(master, request, 2, certificate), 0);
	ck_assert_int_eq(certificates_install(slave, certificate, strange), -EKEYREJECTED);
	ck_assert_int_eq(certificates_install(slave, authority, authority), -EKEYREJECTED);
	ck_assert_int_eq(certificates_install(slave, "", authority), -EBADMSG);
	ck_assert_int_eq(certificates_install(foreign, certificate, authority), -EKEYREJECTED); /* not its key */
	ck_assert_int_eq(self(slave, &node, found), -ENOENT);
	ck_assert_int_eq(self(foreign, &node, found), 0);
	ck_assert_mem_eq(found, other_cluster, 16);
}
END_TEST

/* Nobody would ask for a certificate that is there; and without its authority it is of no use. */
START_TEST(half_an_installation_is_none)
{
	char request[CERTIFICATES_PEM_MAX], certificate[CERTIFICATES_PEM_MAX], authority[CERTIFICATES_PEM_MAX];
	char in_the_way[PATH_MAX + 16];
	uint8_t found[16];
	uint32_t node;

	ck_assert_int_eq(certificates_request(slave, request), 0);
	ck_assert_int_eq(sign(master, request, 2, certificate), 0);
	ck_assert_int_eq(certificates_authority(master, authority), 0);
	snprintf(in_the_way, sizeof(in_the_way), "%s/ca.crt.new", slave);
	ck_assert_int_eq(mkdir(in_the_way, 0700), 0);
	ck_assert_int_lt(certificates_install(slave, certificate, authority), 0);
	ck_assert_int_eq(self(slave, &node, found), -ENOENT);
	ck_assert_int_eq(rmdir(in_the_way), 0);
	ck_assert_int_eq(certificates_install(slave, certificate, authority), 0);
	ck_assert_int_eq(self(slave, &node, found), 0);
}
END_TEST

START_TEST(a_device_in_no_cluster_has_no_tls)
{
	char pem[CERTIFICATES_PEM_MAX], fingerprint[CERTIFICATES_FINGERPRINT_TEXT];
	SSL_CTX *tls;

	ck_assert_int_eq(certificates_tls(slave, &tls), -ENOENT);
	ck_assert_int_eq(certificates_authority(slave, pem), -ENOENT);
	ck_assert_int_eq(certificates_fingerprint(slave, fingerprint), -ENOENT);
}
END_TEST

static void copy(const char *from_dir, const char *to_dir, const char *name)
{
	char command[2 * PATH_MAX + 64];

	snprintf(command, sizeof(command), "cp '%s/%s' '%s/%s'", from_dir, name, to_dir, name);
	ck_assert_int_eq(system(command), 0);
}

START_TEST(files_that_do_not_fit_give_no_tls)
{
	SSL_CTX *tls;

	enrol(slave, 2);
	ck_assert_int_eq(certificates_tls(slave, &tls), 0);
	SSL_CTX_free(tls);
	copy(master, slave, "node.key");
	ck_assert_int_eq(certificates_tls(slave, &tls), -EKEYREJECTED);
	ck_assert_int_eq(certificates_init(foreign, other_cluster, AUTHORITY_LIFE_S, LIFE_S), 0);
	copy(foreign, master, "ca.crt");
	ck_assert_int_eq(certificates_tls(master, &tls), -EKEYREJECTED);
}
END_TEST

/* A handshake in memory. */
struct pair {
	SSL *client, *server;
};

static SSL *side(SSL_CTX *tls, BIO *in, BIO *out)
{
	SSL *ssl = SSL_new(tls);

	BIO_up_ref(in);
	BIO_up_ref(out);
	SSL_set_bio(ssl, in, out);
	return ssl;
}

/* Return: did both ends finish? Takes both contexts. */
static bool shake_hands(struct pair *pair, SSL_CTX *client, SSL_CTX *server)
{
	BIO *up = BIO_new(BIO_s_mem()), *down = BIO_new(BIO_s_mem());
	int client_done = 0, server_done = 0;

	pair->client = side(client, down, up);
	pair->server = side(server, up, down);
	SSL_set_connect_state(pair->client);
	SSL_set_accept_state(pair->server);
	for (int i = 0; i < 4; i++) {
		client_done = SSL_do_handshake(pair->client);
		server_done = SSL_do_handshake(pair->server);
	}
	BIO_free(up);
	BIO_free(down);
	SSL_CTX_free(client);
	SSL_CTX_free(server);
	return client_done == 1 && server_done == 1;
}

static void pair_fini(struct pair *pair)
{
	SSL_free(pair->client);
	SSL_free(pair->server);
}

static SSL_CTX *tls_of(const char *dir)
{
	SSL_CTX *tls = NULL;

	ck_assert_int_eq(certificates_tls(dir, &tls), 0);
	return tls;
}

START_TEST(devices_know_each_other)
{
	struct pair pair;
	uint8_t found[16];
	uint32_t node;

	enrol(slave, 2);
	ck_assert(shake_hands(&pair, tls_of(slave), tls_of(master)));
	ck_assert_str_eq(SSL_get_version(pair.client), "TLSv1.3");
	ck_assert_int_eq(peer_of(pair.client, &node, found), 0);
	ck_assert_uint_eq(node, 1);
	ck_assert_int_eq(peer_of(pair.server, &node, found), 0);
	ck_assert_uint_eq(node, 2);
	ck_assert_mem_eq(found, cluster, 16);
	pair_fini(&pair);
}
END_TEST

START_TEST(clusters_do_not_mix)
{
	struct pair pair;

	ck_assert_int_eq(certificates_init(foreign, other_cluster, AUTHORITY_LIFE_S, LIFE_S), 0);
	ck_assert(!shake_hands(&pair, tls_of(foreign), tls_of(master)));
	pair_fini(&pair);
}
END_TEST

START_TEST(old_tls_is_refused)
{
	struct pair pair;
	SSL_CTX *old = tls_of(master);

	SSL_CTX_set_min_proto_version(old, TLS1_2_VERSION);
	SSL_CTX_set_max_proto_version(old, TLS1_2_VERSION);
	ck_assert(!shake_hands(&pair, old, tls_of(master)));
	pair_fini(&pair);
}
END_TEST

static SSL_CTX *enrolling(const char *dir)
{
	char fingerprint[CERTIFICATES_FINGERPRINT_TEXT];
	SSL_CTX *tls = NULL;

	ck_assert_int_eq(certificates_fingerprint(dir, fingerprint), 0);
	ck_assert_int_eq(certificates_tls_enrol(fingerprint, &tls), 0);
	return tls;
}

START_TEST(a_token_opens_its_cluster_only)
{
	struct pair pair;
	uint8_t found[16];
	uint32_t node;

	ck_assert(shake_hands(&pair, enrolling(master), tls_of(master)));
	ck_assert_int_eq(peer_of(pair.server, &node, found), -ENOENT);
	ck_assert_int_eq(peer_of(pair.client, &node, found), 0);
	pair_fini(&pair);
	ck_assert_int_eq(certificates_init(foreign, other_cluster, AUTHORITY_LIFE_S, LIFE_S), 0);
	ck_assert(!shake_hands(&pair, enrolling(foreign), tls_of(master)));
	pair_fini(&pair);
}
END_TEST

/* Somebody who has seen the public authority certificate can show it, but nothing that it signed. */
START_TEST(a_shown_authority_is_not_enough)
{
	struct pair pair;
	SSL_CTX *liar;
	X509 *authority = load(master, "ca.crt");

	ck_assert_int_eq(certificates_init(foreign, other_cluster, AUTHORITY_LIFE_S, LIFE_S), 0);
	liar = tls_of(foreign);
	ck_assert(SSL_CTX_add1_chain_cert(liar, authority));
	ck_assert(!shake_hands(&pair, enrolling(master), liar));
	pair_fini(&pair);
	X509_free(authority);
}
END_TEST

/* Without a token any authority will do; what people compare then is another one if either end is not who it seems. */
START_TEST(without_a_token_people_compare)
{
	char request[CERTIFICATES_PEM_MAX], of_master[CERTIFICATES_FINGERPRINT_TEXT], seen[CERTIFICATES_FINGERPRINT_TEXT];
	char of_foreign[CERTIFICATES_FINGERPRINT_TEXT], ours[CERTIFICATES_PAIR_TEXT], theirs[CERTIFICATES_PAIR_TEXT];
	uint8_t key[CERTIFICATES_KEY_BYTES], other_key[CERTIFICATES_KEY_BYTES];
	char authority[CERTIFICATES_PEM_MAX];
	struct pair pair;
	SSL_CTX *tls;

	ck_assert_int_eq(certificates_init(foreign, other_cluster, AUTHORITY_LIFE_S, LIFE_S), 0);
	ck_assert_int_eq(certificates_fingerprint(master, of_master), 0);
	ck_assert_int_eq(certificates_fingerprint(foreign, of_foreign), 0);
	ck_assert_int_eq(certificates_tls_enrol(NULL, &tls), 0);
	ck_assert(shake_hands(&pair, tls, tls_of(master)));
	ck_assert_int_eq(certificates_peer_authority(pair.client, seen), 0);
	ck_assert_str_eq(seen, of_master);
	ck_assert_int_eq(certificates_peer_authority(pair.server, seen), -ENOENT);
	pair_fini(&pair);
	ck_assert_int_eq(certificates_authority(master, authority), 0);
	ck_assert_int_eq(certificates_fingerprint_of(authority, seen), 0);
	ck_assert_str_eq(seen, of_master);
	ck_assert_int_eq(certificates_fingerprint_of("PEM", seen), -EBADMSG);

	ck_assert_int_eq(certificates_request(slave, request), 0);
	ck_assert_int_eq(certificates_request_key(request, key), 0);
	ck_assert_int_eq(certificates_request(slave, request), 0); /* another request, the same key */
	ck_assert_int_eq(certificates_request_key(request, other_key), 0);
	ck_assert_mem_eq(key, other_key, sizeof(key));
	ck_assert_int_eq(certificates_pair(of_master, key, ours), 0);
	ck_assert_uint_eq(strlen(ours), CERTIFICATES_PAIR_TEXT - 1);
	ck_assert_int_eq(certificates_pair(of_foreign, key, theirs), 0);
	ck_assert_str_ne(ours, theirs);
	other_key[31] ^= 1;
	ck_assert_int_eq(certificates_pair(of_master, other_key, theirs), 0);
	ck_assert_str_ne(ours, theirs);
	ck_assert_int_eq(certificates_request_key("PEM", key), -EBADMSG);
	*strstr(request, "\n-----END") = 'A'; /* its signature */
	ck_assert_int_eq(certificates_request_key(request, key), -EBADMSG);
}
END_TEST

START_TEST(certificates_are_counted)
{
	char request[CERTIFICATES_PEM_MAX], certificate[CERTIFICATES_PEM_MAX];
	struct certificates_terms terms = { .node = 7, .number = 0x2a, .life_s = 600 };
	struct certificates_facts facts;

	ck_assert_int_eq(certificates_request(slave, request), 0);
	ck_assert_int_eq(certificates_sign(master, request, cluster, &terms, certificate), 0);
	ck_assert_int_eq(certificates_facts_of(certificate, &facts), 0);
	ck_assert_uint_eq(facts.node, 7);
	ck_assert_uint_eq(facts.number, 0x2a);
	ck_assert_uint_eq(strlen(facts.serial), 32);
	ck_assert_int_eq(strncmp(facts.serial, "000000000000002a", 16), 0);
	ck_assert_int_le(llabs(facts.issued_s - (int64_t)time(NULL)), 5);
	ck_assert_int_eq(facts.expires_s - facts.issued_s, 600);
	ck_assert_int_eq(certificates_facts_of("PEM", &facts), -EBADMSG);
}
END_TEST

START_TEST(a_certificate_ends_with_its_authority)
{
	struct certificates_facts facts, authority;

	ck_assert_int_eq(certificates_init(foreign, cluster, 100, 1000), 0);
	ck_assert_int_eq(certificates_self(foreign, &facts), 0);
	ck_assert_int_eq(certificates_authority_facts(foreign, &authority), 0);
	ck_assert_uint_eq(authority.node, 0);
	ck_assert_int_eq(facts.expires_s, authority.expires_s);
}
END_TEST

/* Certificates of a cluster that is older than their numbers. */
START_TEST(random_serials_have_no_number)
{
	struct certificates_facts facts;
	X509 *old = load(master, "node.crt");
	char pem[CERTIFICATES_PEM_MAX] = "";
	BIO *bio = BIO_new(BIO_s_mem());
	BIGNUM *serial = BN_new();

	ck_assert(BN_rand(serial, 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY));
	ck_assert(BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(old)) && PEM_write_bio_X509(bio, old));
	ck_assert_int_gt(BIO_read(bio, pem, sizeof(pem) - 1), 0);
	ck_assert_int_eq(certificates_facts_of(pem, &facts), 0);
	ck_assert_uint_eq(facts.number, 0);
	BN_free(serial);
	BIO_free(bio);
	X509_free(old);
}
END_TEST

/* What a master does with a request. */
static void sign_renewal(uint32_t node, char *certificate, char *authority)
{
	char request[CERTIFICATES_PEM_MAX];

	ck_assert_int_eq(certificates_renewal_request(slave, request), 0);
	ck_assert_int_eq(sign(master, request, node, certificate), 0);
	ck_assert_int_eq(certificates_authority(master, authority), 0);
}

static bool is_trusted_by_master(const char *dir)
{
	struct pair pair;
	bool is_done = shake_hands(&pair, tls_of(dir), tls_of(master));

	pair_fini(&pair);
	return is_done;
}

static bool exists(const char *dir, const char *name)
{
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return access(path, F_OK) == 0;
}

START_TEST(a_certificate_is_renewed)
{
	char certificate[CERTIFICATES_PEM_MAX], authority[CERTIFICATES_PEM_MAX];
	uint8_t key[CERTIFICATES_KEY_BYTES], next_key[CERTIFICATES_KEY_BYTES];
	char request[CERTIFICATES_PEM_MAX];
	struct certificates_facts before, after;

	enrol(slave, 2);
	ck_assert_int_eq(certificates_request(slave, request), 0);
	ck_assert_int_eq(certificates_request_key(request, key), 0);
	ck_assert_int_eq(certificates_self(slave, &before), 0);
	sign_renewal(2, certificate, authority);
	ck_assert(is_trusted_by_master(slave)); /* by the old one, meanwhile */
	ck_assert_int_eq(certificates_renew(slave, certificate, authority), 0);
	ck_assert_int_eq(certificates_self(slave, &after), 0);
	ck_assert_uint_eq(after.node, 2);
	ck_assert_uint_gt(after.number, before.number);
	ck_assert_str_ne(after.serial, before.serial);
	ck_assert_int_eq(certificates_request(slave, request), 0);
	ck_assert_int_eq(certificates_request_key(request, next_key), 0);
	ck_assert_mem_ne(key, next_key, sizeof(key));
	ck_assert(!exists(slave, "node.key.next"));
	ck_assert(is_trusted_by_master(slave));
}
END_TEST

/* Of a file that can't be written, a disk that is full or a machine that stops then makes no difference to what is there. */
static const char *const steps[] = { "node.key.next.new", "ca.crt.new", "node.crt.new" };

START_TEST(a_renewal_that_stops_changes_nothing)
{
	char certificate[CERTIFICATES_PEM_MAX], authority[CERTIFICATES_PEM_MAX], request[CERTIFICATES_PEM_MAX];
	struct certificates_facts before, after;
	char in_the_way[PATH_MAX + 32];
	int rc;

	enrol(slave, 2);
	ck_assert_int_eq(certificates_renew_authority(master, cluster, AUTHORITY_LIFE_S + YEAR_S), 0);
	ck_assert_int_eq(certificates_self(slave, &before), 0);
	snprintf(in_the_way, sizeof(in_the_way), "%s/%s", slave, steps[_i]);
	ck_assert_int_eq(mkdir(in_the_way, 0700), 0);
	rc = certificates_renewal_request(slave, request);
	if (rc == 0) {
		ck_assert_int_eq(sign(master, request, 2, certificate), 0);
		ck_assert_int_eq(certificates_authority(master, authority), 0);
		rc = certificates_renew(slave, certificate, authority);
	}
	ck_assert_int_lt(rc, 0);
	ck_assert_int_eq(certificates_self(slave, &after), 0);
	ck_assert_str_eq(after.serial, before.serial);
	ck_assert(is_trusted_by_master(slave));
	ck_assert_int_eq(rmdir(in_the_way), 0);
	sign_renewal(2, certificate, authority);
	ck_assert_int_eq(certificates_renew(slave, certificate, authority), 0);
	ck_assert(is_trusted_by_master(slave));
}
END_TEST

/* Back to before the last step: the certificate is the new one, its key is in node.key.next. */
static void stop_after_commit(const char *dir)
{
	char command[5 * PATH_MAX];

	snprintf(command, sizeof(command), "mv '%s/node.key' '%s/node.key.next' && mv '%s/old.key' '%s/node.key'", dir, dir, dir, dir);
	ck_assert_int_eq(system(command), 0);
}

START_TEST(a_renewal_that_stops_at_its_end_is_finished)
{
	char certificate[CERTIFICATES_PEM_MAX], authority[CERTIFICATES_PEM_MAX], command[2 * PATH_MAX + 64];
	struct certificates_facts renewed, found;

	enrol(slave, 2);
	snprintf(command, sizeof(command), "cp '%s/node.key' '%s/old.key'", slave, slave);
	ck_assert_int_eq(system(command), 0);
	sign_renewal(2, certificate, authority);
	ck_assert_int_eq(certificates_renew(slave, certificate, authority), 0);
	ck_assert_int_eq(certificates_self(slave, &renewed), 0);
	stop_after_commit(slave);
	if (_i) /* the next thing is another renewal, which must not lose the key */
		sign_renewal(2, certificate, authority);
	ck_assert(is_trusted_by_master(slave));
	ck_assert_int_eq(certificates_self(slave, &found), 0);
	ck_assert_str_eq(found.serial, renewed.serial);
}
END_TEST

START_TEST(what_does_not_fit_is_not_taken_for_a_renewal)
{
	char certificate[CERTIFICATES_PEM_MAX], authority[CERTIFICATES_PEM_MAX], strange[CERTIFICATES_PEM_MAX];
	char own[CERTIFICATES_PEM_MAX], request[CERTIFICATES_PEM_MAX];
	struct certificates_facts before, after;

	enrol(slave, 2);
	ck_assert_int_eq(certificates_self(slave, &before), 0);
	ck_assert_int_eq(certificates_init(foreign, cluster, AUTHORITY_LIFE_S, LIFE_S), 0); /* the cluster's name, another key */
	ck_assert_int_eq(certificates_authority(foreign, strange), 0);
	ck_assert_int_eq(certificates_request(slave, request), 0);
	ck_assert_int_eq(sign(master, request, 2, own), 0);
	ck_assert_int_eq(certificates_authority(master, authority), 0);
	ck_assert_int_eq(certificates_renew(slave, own, authority), -ENOENT); /* none was asked for */
	ck_assert_int_eq(certificates_renewal_request(slave, request), 0);
	ck_assert_int_eq(sign(foreign, request, 2, certificate), 0);
	ck_assert_int_eq(certificates_renew(slave, certificate, strange), -EKEYREJECTED);
	ck_assert_int_eq(certificates_renew(slave, certificate, authority), -EKEYREJECTED);
	ck_assert_int_eq(certificates_renew(slave, own, authority), -EKEYREJECTED); /* of the former key */
	ck_assert_int_eq(certificates_renew(slave, authority, authority), -EKEYREJECTED);
	ck_assert_int_eq(certificates_renew(slave, "", authority), -EBADMSG);
	ck_assert_int_eq(certificates_self(slave, &after), 0);
	ck_assert_str_eq(after.serial, before.serial);
	ck_assert(is_trusted_by_master(slave));
}
END_TEST

START_TEST(an_authority_is_renewed)
{
	char certificate[CERTIFICATES_PEM_MAX], authority[CERTIFICATES_PEM_MAX];
	char old[CERTIFICATES_FINGERPRINT_TEXT], renewed[CERTIFICATES_FINGERPRINT_TEXT], seen[CERTIFICATES_FINGERPRINT_TEXT];

	enrol(slave, 2);
	ck_assert_int_eq(certificates_fingerprint(master, old), 0);
	ck_assert_int_eq(certificates_renew_authority(slave, cluster, YEAR_S), -ENOKEY);
	ck_assert_int_eq(certificates_renew_authority(master, cluster, AUTHORITY_LIFE_S + YEAR_S), 0);
	ck_assert_int_eq(certificates_fingerprint(master, renewed), 0);
	ck_assert_str_ne(old, renewed);
	ck_assert(is_trusted_by_master(slave)); /* and the other way round, for both verify */
	sign_renewal(2, certificate, authority);
	ck_assert_int_eq(certificates_renew(slave, certificate, authority), 0);
	ck_assert_int_eq(certificates_fingerprint(slave, seen), 0);
	ck_assert_str_eq(seen, renewed);
	ck_assert(is_trusted_by_master(slave));
}
END_TEST

/* Its clock may be wrong: then it is of use when the clock is right again. */
/* Whatever the master's clock says. */
START_TEST(certificates_begin_with_their_authority)
{
	X509 *authority = load(master, "ca.crt"), *renewed, *node;

	enrol(slave, 2);
	sleep(1);
	ck_assert_int_eq(certificates_renew_authority(master, cluster, 1000), 0);
	renewed = load(master, "ca.crt");
	node = load(slave, "node.crt");
	ck_assert_int_eq(ASN1_TIME_compare(X509_get0_notBefore(authority), X509_get0_notBefore(renewed)), 0);
	ck_assert_int_eq(ASN1_TIME_compare(X509_get0_notBefore(authority), X509_get0_notBefore(node)), 0);
	X509_free(node);
	X509_free(renewed);
	X509_free(authority);
}
END_TEST

START_TEST(an_expired_certificate_is_for_others_to_judge)
{
	char request[CERTIFICATES_PEM_MAX], certificate[CERTIFICATES_PEM_MAX], authority[CERTIFICATES_PEM_MAX];
	struct certificates_terms terms = { .node = 2, .number = 1, .life_s = 0 };
	SSL_CTX *tls;

	ck_assert_int_eq(certificates_request(slave, request), 0);
	ck_assert_int_eq(certificates_sign(master, request, cluster, &terms, certificate), 0);
	ck_assert_int_eq(certificates_authority(master, authority), 0);
	ck_assert_int_eq(certificates_install(slave, certificate, authority), 0);
	sleep(2); /* X.509 counts in seconds */
	ck_assert_int_eq(certificates_tls(slave, &tls), 0);
	SSL_CTX_free(tls);
	ck_assert(!is_trusted_by_master(slave));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("certificates");
	TCase *tcase = tcase_create("certificates");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, init_makes_an_authority_and_node_1);
	tcase_add_test(tcase, init_changes_nothing_where_an_authority_is);
	tcase_add_test(tcase, certificates_say_what_they_are_for);
	tcase_add_test(tcase, a_device_joins);
	tcase_add_test(tcase, a_request_keeps_its_key);
	tcase_add_test(tcase, only_the_authority_signs_and_only_requests);
	tcase_add_loop_test(tcase, keys_that_devices_never_make_are_refused, 0,
			    sizeof(strange_keys) / sizeof(strange_keys[0]));
	tcase_add_test(tcase, what_does_not_fit_is_not_installed);
	tcase_add_test(tcase, half_an_installation_is_none);
	tcase_add_test(tcase, a_device_in_no_cluster_has_no_tls);
	tcase_add_test(tcase, files_that_do_not_fit_give_no_tls);
	tcase_add_test(tcase, devices_know_each_other);
	tcase_add_test(tcase, clusters_do_not_mix);
	tcase_add_test(tcase, old_tls_is_refused);
	tcase_add_test(tcase, a_token_opens_its_cluster_only);
	tcase_add_test(tcase, a_shown_authority_is_not_enough);
	tcase_add_test(tcase, without_a_token_people_compare);
	tcase_add_test(tcase, certificates_are_counted);
	tcase_add_test(tcase, a_certificate_ends_with_its_authority);
	tcase_add_test(tcase, random_serials_have_no_number);
	tcase_add_test(tcase, a_certificate_is_renewed);
	tcase_add_loop_test(tcase, a_renewal_that_stops_changes_nothing, 0, sizeof(steps) / sizeof(steps[0]));
	tcase_add_loop_test(tcase, a_renewal_that_stops_at_its_end_is_finished, 0, 2);
	tcase_add_test(tcase, what_does_not_fit_is_not_taken_for_a_renewal);
	tcase_add_test(tcase, an_authority_is_renewed);
	tcase_add_test(tcase, certificates_begin_with_their_authority);
	tcase_add_test(tcase, an_expired_certificate_is_for_others_to_judge);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
