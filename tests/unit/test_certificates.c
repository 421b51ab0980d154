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
static char top[PATH_MAX], master[PATH_MAX], slave[PATH_MAX], foreign[PATH_MAX];

static void setup(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(top, sizeof(top) / 2, "%s/vnas-certificates-XXXXXX", tmp ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(top));
	snprintf(master, sizeof(master), "%.*s/master", PATH_MAX / 2, top);
	snprintf(slave, sizeof(slave), "%.*s/slave", PATH_MAX / 2, top);
	snprintf(foreign, sizeof(foreign), "%.*s/foreign", PATH_MAX / 2, top);
	ck_assert_int_eq(certificates_init(master, cluster), 0);
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

/* What enrolment does, without the network. */
static void enrol(const char *dir, uint32_t node)
{
	char request[CERTIFICATES_PEM_MAX], certificate[CERTIFICATES_PEM_MAX], authority[CERTIFICATES_PEM_MAX];

	ck_assert_int_eq(certificates_request(dir, request), 0);
	ck_assert_int_eq(certificates_sign(master, request, cluster, node, certificate), 0);
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
	ck_assert_int_eq(certificates_self(master, &node, found), 0);
	ck_assert_uint_eq(node, 1);
	ck_assert_mem_eq(found, cluster, 16);
}
END_TEST

START_TEST(init_changes_nothing_where_an_authority_is)
{
	char before[CERTIFICATES_FINGERPRINT_TEXT], after[CERTIFICATES_FINGERPRINT_TEXT];

	ck_assert_int_eq(certificates_fingerprint(master, before), 0);
	ck_assert_int_eq(certificates_init(master, other_cluster), -EEXIST);
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
	ck_assert_int_eq(certificates_self(slave, &node, found), 0);
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
	ck_assert_int_eq(certificates_sign(master, first, cluster, 2, certificate), 0);
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
	ck_assert_int_eq(certificates_sign(slave, request, cluster, 3, certificate), -ENOKEY);
	ck_assert_int_eq(certificates_sign(foreign, request, cluster, 3, certificate), -ENOKEY);
	ck_assert_int_eq(certificates_sign(master, "", cluster, 3, certificate), -EBADMSG);
	ck_assert_int_eq(certificates_sign(master, "no request", cluster, 3, certificate), -EBADMSG);
	at = strstr(request, "-----END") - 8; /* within the signature */
	*at = *at == 'A' ? 'B' : 'A';
	ck_assert_int_eq(certificates_sign(master, request, cluster, 3, certificate), -EBADMSG);
}
END_TEST

START_TEST(what_does_not_fit_is_not_installed)
{
	char request[CERTIFICATES_PEM_MAX], certificate[CERTIFICATES_PEM_MAX];
	char authority[CERTIFICATES_PEM_MAX], strange[CERTIFICATES_PEM_MAX];
	uint8_t found[16];
	uint32_t node;

	ck_assert_int_eq(certificates_init(foreign, other_cluster), 0);
	ck_assert_int_eq(certificates_authority(master, authority), 0);
	ck_assert_int_eq(certificates_authority(foreign, strange), 0);
	ck_assert_int_eq(certificates_request(slave, request), 0);
	ck_assert_int_eq(certificates_sign(master, request, cluster, 2, certificate), 0);
	ck_assert_int_eq(certificates_install(slave, certificate, strange), -EKEYREJECTED);
	ck_assert_int_eq(certificates_install(slave, authority, authority), -EKEYREJECTED);
	ck_assert_int_eq(certificates_install(slave, "", authority), -EBADMSG);
	ck_assert_int_eq(certificates_install(foreign, certificate, authority), -EKEYREJECTED); /* not its key */
	ck_assert_int_eq(certificates_self(slave, &node, found), -ENOENT);
	ck_assert_int_eq(certificates_self(foreign, &node, found), 0);
	ck_assert_mem_eq(found, other_cluster, 16);
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
	ck_assert_int_eq(certificates_init(foreign, other_cluster), 0);
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
	ck_assert_int_eq(certificates_peer(pair.client, &node, found), 0);
	ck_assert_uint_eq(node, 1);
	ck_assert_int_eq(certificates_peer(pair.server, &node, found), 0);
	ck_assert_uint_eq(node, 2);
	ck_assert_mem_eq(found, cluster, 16);
	pair_fini(&pair);
}
END_TEST

START_TEST(clusters_do_not_mix)
{
	struct pair pair;

	ck_assert_int_eq(certificates_init(foreign, other_cluster), 0);
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
	ck_assert_int_eq(certificates_peer(pair.server, &node, found), -ENOENT);
	ck_assert_int_eq(certificates_peer(pair.client, &node, found), 0);
	pair_fini(&pair);
	ck_assert_int_eq(certificates_init(foreign, other_cluster), 0);
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

	ck_assert_int_eq(certificates_init(foreign, other_cluster), 0);
	liar = tls_of(foreign);
	ck_assert(SSL_CTX_add1_chain_cert(liar, authority));
	ck_assert(!shake_hands(&pair, enrolling(master), liar));
	pair_fini(&pair);
	X509_free(authority);
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
	tcase_add_test(tcase, what_does_not_fit_is_not_installed);
	tcase_add_test(tcase, a_device_in_no_cluster_has_no_tls);
	tcase_add_test(tcase, files_that_do_not_fit_give_no_tls);
	tcase_add_test(tcase, devices_know_each_other);
	tcase_add_test(tcase, clusters_do_not_mix);
	tcase_add_test(tcase, old_tls_is_refused);
	tcase_add_test(tcase, a_token_opens_its_cluster_only);
	tcase_add_test(tcase, a_shown_authority_is_not_enough);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
