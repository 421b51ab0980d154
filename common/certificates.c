/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/certificates.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	CLUSTER_BYTES = 16,
	CLUSTER_TEXT = 2 * CLUSTER_BYTES + 1,
	NAME_TEXT = 64,
	DAY_S = 24 * 3600,
	AUTHORITY_DAYS = 3652,
	NODE_DAYS = 1826,
	EXPIRY_WARNING_DAYS = 60,
	CLOCK_SKEW_S = DAY_S, /* a node whose clock is behind must not find its new certificate "not yet valid" */
};

static const char authority_file[] = "ca.crt";
static const char authority_key_file[] = "ca.key";
static const char node_file[] = "node.crt";
static const char node_key_file[] = "node.key";

/* OpenSSL's latest complaint, in words; forgets it and those before. */
static const char *openssl_why(void)
{
	unsigned long error = ERR_peek_last_error();
	const char *why = error ? ERR_reason_error_string(error) : NULL;

	ERR_clear_error();
	return why ? why : "unknown error";
}

static int openssl_failed(const char *what)
{
	log_err("certificates", "%s failed: %s", what, openssl_why());
	return -EIO;
}

/*
 * Files
 */

static int path_of(const char *dir, const char *name, const char *suffix, char path[static PATH_MAX])
{
	return snprintf(path, PATH_MAX, "%s/%s%s", dir, name, suffix) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int dir_sync(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

static int dir_make(const char *dir)
{
	if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
		int rc = -errno;

		log_err("certificates", "dir=%s can't be made: %s", dir, strerror(-rc));
		return rc;
	}
	return 0;
}

static int write_all(int fd, const char *text)
{
	size_t left = strlen(text);

	while (left) {
		ssize_t n = write(fd, text, left);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			text += n;
			left -= (size_t)n;
		}
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* All or nothing, also when the machine stops in between. */
static int file_write(const char *dir, const char *name, const char *text)
{
	char path[PATH_MAX], temporary[PATH_MAX];
	int rc, fd = -1;

	rc = path_of(dir, name, "", path);
	if (!rc)
		rc = path_of(dir, name, ".new", temporary);
	if (rc)
		goto out;
	if (unlink(temporary) < 0 && errno != ENOENT) {
		rc = -errno;
		goto out;
	}
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		rc = -errno;
		goto out;
	}
	rc = write_all(fd, text);
	close(fd);
	if (rc) {
		unlink(temporary);
		goto out;
	}
	rc = rename(temporary, path) < 0 ? -errno : dir_sync(dir);
out:
	if (rc)
		log_err("certificates", "file=%s/%s can't be written: %s", dir, name, strerror(-rc));
	return rc;
}

/* @text: CERTIFICATES_PEM_MAX bytes. Return: 0; -ENOENT, quietly; -EFBIG; other errors */
static int file_read(const char *dir, const char *name, char *text)
{
	char path[PATH_MAX];
	ssize_t n;
	int fd, rc;

	rc = path_of(dir, name, "", path);
	if (rc)
		return rc;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, CERTIFICATES_PEM_MAX);
	rc = n < 0 ? -errno : n == CERTIFICATES_PEM_MAX ? -EFBIG : 0;
	close(fd);
	if (!rc)
		text[n] = '\0';
	return rc;
}

static bool file_exists(const char *dir, const char *name)
{
	char path[PATH_MAX];

	return path_of(dir, name, "", path) == 0 && access(path, F_OK) == 0;
}

/*
 * PEM
 */

static int bio_to_text(BIO *bio, char *text)
{
	char *data;
	long len = BIO_get_mem_data(bio, &data);

	if (len <= 0 || len >= CERTIFICATES_PEM_MAX)
		return -EFBIG;
	memcpy(text, data, (size_t)len);
	text[len] = '\0';
	return 0;
}

static int certificate_to_text(X509 *certificate, char *text)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int rc;

	rc = bio && PEM_write_bio_X509(bio, certificate) ? bio_to_text(bio, text) : openssl_failed("writing PEM");
	BIO_free(bio);
	return rc;
}

static int request_to_text(X509_REQ *request, char *text)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int rc;

	rc = bio && PEM_write_bio_X509_REQ(bio, request) ? bio_to_text(bio, text) : openssl_failed("writing PEM");
	BIO_free(bio);
	return rc;
}

static int key_to_text(EVP_PKEY *key, char *text)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int rc;

	rc = bio && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) ? bio_to_text(bio, text) :
										    openssl_failed("writing PEM");
	BIO_free(bio);
	return rc;
}

/* Keys are kept without a pass phrase; OpenSSL would ask the terminal for one. */
static int no_pass_phrase(char *buffer, int size, int writing, void *arg)
{
	(void)buffer;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

/* The three below give NULL if @text is no such thing. */
static X509 *certificate_from_text(const char *text)
{
	BIO *bio = BIO_new_mem_buf(text, -1);
	X509 *certificate = bio ? PEM_read_bio_X509(bio, NULL, no_pass_phrase, NULL) : NULL;

	BIO_free(bio);
	ERR_clear_error();
	return certificate;
}

static X509_REQ *request_from_text(const char *text)
{
	BIO *bio = BIO_new_mem_buf(text, -1);
	X509_REQ *request = bio ? PEM_read_bio_X509_REQ(bio, NULL, no_pass_phrase, NULL) : NULL;

	BIO_free(bio);
	ERR_clear_error();
	return request;
}

static EVP_PKEY *key_from_text(const char *text)
{
	BIO *bio = BIO_new_mem_buf(text, -1);
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_pass_phrase, NULL) : NULL;

	BIO_free(bio);
	ERR_clear_error();
	return key;
}

static int certificate_load(const char *dir, const char *name, X509 **out)
{
	char text[CERTIFICATES_PEM_MAX];
	int rc = file_read(dir, name, text);

	if (rc)
		return rc;
	*out = certificate_from_text(text);
	if (!*out) {
		log_err("certificates", "file=%s/%s is not a certificate", dir, name);
		return -EBADMSG;
	}
	return 0;
}

static int key_load(const char *dir, const char *name, EVP_PKEY **out)
{
	char text[CERTIFICATES_PEM_MAX];
	int rc = file_read(dir, name, text);

	if (rc)
		return rc;
	*out = key_from_text(text);
	OPENSSL_cleanse(text, sizeof(text));
	if (!*out) {
		log_err("certificates", "file=%s/%s is not a private key", dir, name);
		return -EBADMSG;
	}
	return 0;
}

static int certificate_store(const char *dir, const char *name, X509 *certificate)
{
	char text[CERTIFICATES_PEM_MAX];
	int rc = certificate_to_text(certificate, text);

	return rc ? rc : file_write(dir, name, text);
}

static int key_store(const char *dir, const char *name, EVP_PKEY *key)
{
	char text[CERTIFICATES_PEM_MAX];
	int rc = key_to_text(key, text);

	if (!rc)
		rc = file_write(dir, name, text);
	OPENSSL_cleanse(text, sizeof(text));
	return rc;
}

static int key_make(const char *dir, const char *name, EVP_PKEY **out)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	int rc;

	if (!key)
		return openssl_failed("making a key");
	rc = key_store(dir, name, key);
	if (rc) {
		EVP_PKEY_free(key);
		return rc;
	}
	*out = key;
	return 0;
}

static int key_load_or_make(const char *dir, const char *name, EVP_PKEY **out)
{
	int rc = key_load(dir, name, out);

	return rc == -ENOENT ? key_make(dir, name, out) : rc;
}

/*
 * Names
 */

static void cluster_to_text(const uint8_t cluster[static CLUSTER_BYTES], char text[static CLUSTER_TEXT])
{
	for (size_t i = 0; i < CLUSTER_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", cluster[i]);
}

static bool cluster_from_text(const char *text, uint8_t cluster[static CLUSTER_BYTES])
{
	uint8_t bytes[CLUSTER_BYTES];

	if (strlen(text) != CLUSTER_TEXT - 1 || strspn(text, "0123456789abcdef") != CLUSTER_TEXT - 1)
		return false;
	for (size_t i = 0; i < CLUSTER_BYTES; i++) {
		unsigned int byte;

		sscanf(text + 2 * i, "%2x", &byte);
		bytes[i] = (uint8_t)byte;
	}
	memcpy(cluster, bytes, sizeof(bytes));
	return true;
}

static bool node_from_text(const char *text, uint32_t *node)
{
	unsigned long value;
	char *end;

	if (strncmp(text, "node-", 5) != 0 || text[5] < '1' || text[5] > '9')
		return false;
	errno = 0;
	value = strtoul(text + 5, &end, 10);
	if (errno || *end || value > UINT32_MAX)
		return false;
	*node = (uint32_t)value;
	return true;
}

/* Return: 0; -EBADMSG if the subject is not O=<cluster UUID>, CN=node-<id> */
static int subject_decode(const X509 *certificate, uint32_t *node, uint8_t cluster[static CLUSTER_BYTES])
{
	X509_NAME *subject = X509_get_subject_name(certificate);
	char organization[NAME_TEXT], common[NAME_TEXT];
	uint8_t found[CLUSTER_BYTES];

	if (X509_NAME_get_text_by_NID(subject, NID_organizationName, organization, sizeof(organization)) < 0 ||
	    X509_NAME_get_text_by_NID(subject, NID_commonName, common, sizeof(common)) < 0)
		return -EBADMSG;
	if (!cluster_from_text(organization, found) || !node_from_text(common, node))
		return -EBADMSG;
	memcpy(cluster, found, sizeof(found));
	return 0;
}

/*
 * Issuing
 */

struct extension {
	int nid;
	const char *value;
};

static const struct extension authority_extensions[] = {
	{ NID_basic_constraints, "critical,CA:TRUE,pathlen:0" },
	{ NID_key_usage, "critical,keyCertSign,cRLSign" },
	{ NID_subject_key_identifier, "hash" },
	{ 0, NULL },
};

/* Between two devices either may be the server. */
static const struct extension node_extensions[] = {
	{ NID_basic_constraints, "critical,CA:FALSE" },
	{ NID_key_usage, "critical,digitalSignature" },
	{ NID_ext_key_usage, "serverAuth,clientAuth" },
	{ NID_subject_key_identifier, "hash" },
	{ NID_authority_key_identifier, "keyid" },
	{ 0, NULL },
};

struct issue {
	const uint8_t *cluster;
	const char *common_name;
	EVP_PKEY *key;	    /* the subject's, public part */
	X509 *issuer;	    /* NULL: the certificate itself */
	EVP_PKEY *issuer_key;
	int days;
	const struct extension *extensions;
};

static bool add_name(X509_NAME *name, const char *field, const char *value)
{
	return X509_NAME_add_entry_by_txt(name, field, MBSTRING_ASC, (const unsigned char *)value, -1, -1, 0);
}

static bool set_subject(X509 *certificate, const struct issue *issue)
{
	X509_NAME *subject = X509_get_subject_name(certificate);
	char cluster[CLUSTER_TEXT];

	cluster_to_text(issue->cluster, cluster);
	return add_name(subject, "O", cluster) && add_name(subject, "CN", issue->common_name);
}

/* Random, so that no two certificates of a cluster share a number though nobody counts them. */
static bool set_serial(X509 *certificate)
{
	BIGNUM *number = BN_new();
	bool done = number && BN_rand(number, 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) &&
		    BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));

	BN_free(number);
	return done;
}

static bool set_validity(X509 *certificate, int days)
{
	return X509_gmtime_adj(X509_getm_notBefore(certificate), -CLOCK_SKEW_S) &&
	       X509_gmtime_adj(X509_getm_notAfter(certificate), (long)days * DAY_S);
}

static bool add_extensions(X509 *certificate, X509 *issuer, const struct extension *extension)
{
	X509V3_CTX context;

	X509V3_set_ctx_nodb(&context);
	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	for (; extension->value; extension++) {
		X509_EXTENSION *made = X509V3_EXT_conf_nid(NULL, &context, extension->nid, extension->value);
		bool added = made && X509_add_ext(certificate, made, -1);

		X509_EXTENSION_free(made);
		if (!added)
			return false;
	}
	return true;
}

static int certificate_issue(const struct issue *issue, X509 **out)
{
	X509 *certificate = X509_new();
	X509 *issuer = issue->issuer ? issue->issuer : certificate;

	if (!certificate || !X509_set_version(certificate, X509_VERSION_3) || !set_serial(certificate) ||
	    !set_validity(certificate, issue->days) || !set_subject(certificate, issue) ||
	    !X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) ||
	    !X509_set_pubkey(certificate, issue->key) || !add_extensions(certificate, issuer, issue->extensions) ||
	    !X509_sign(certificate, issue->issuer_key, EVP_sha256())) {
		X509_free(certificate);
		return openssl_failed("issuing a certificate");
	}
	*out = certificate;
	return 0;
}

struct authority {
	X509 *certificate;
	EVP_PKEY *key;
};

static void authority_fini(struct authority *authority)
{
	X509_free(authority->certificate);
	EVP_PKEY_free(authority->key);
}

static int node_issue(const struct authority *authority, const uint8_t *cluster, uint32_t node, EVP_PKEY *key,
		      X509 **out)
{
	char name[NAME_TEXT];
	struct issue issue = {
		.cluster = cluster,
		.common_name = name,
		.key = key,
		.issuer = authority->certificate,
		.issuer_key = authority->key,
		.days = NODE_DAYS,
		.extensions = node_extensions,
	};

	snprintf(name, sizeof(name), "node-%u", node);
	return certificate_issue(&issue, out);
}

/* The key is new even if a broken-off attempt left one: nobody trusts that one yet. */
static int authority_make(const char *dir, const uint8_t *cluster, struct authority *out)
{
	struct issue issue = {
		.cluster = cluster,
		.common_name = "vnas authority",
		.days = AUTHORITY_DAYS,
		.extensions = authority_extensions,
	};
	int rc;

	rc = key_make(dir, authority_key_file, &out->key);
	if (rc)
		return rc;
	issue.key = issue.issuer_key = out->key;
	return certificate_issue(&issue, &out->certificate);
}

int certificates_init(const char *dir, const uint8_t cluster[static 16])
{
	struct authority authority = { 0 };
	EVP_PKEY *key = NULL;
	X509 *node = NULL;
	int rc;

	rc = dir_make(dir);
	if (rc)
		return rc;
	if (file_exists(dir, authority_file))
		return -EEXIST;
	rc = authority_make(dir, cluster, &authority);
	if (rc)
		goto out;
	rc = key_load_or_make(dir, node_key_file, &key);
	if (rc)
		goto out;
	rc = node_issue(&authority, cluster, 1, key, &node);
	if (rc)
		goto out;
	rc = certificate_store(dir, node_file, node);
	/* Last: where this file is, the others are. */
	if (!rc)
		rc = certificate_store(dir, authority_file, authority.certificate);
out:
	X509_free(node);
	EVP_PKEY_free(key);
	authority_fini(&authority);
	return rc;
}

int certificates_request(const char *dir, char *pem)
{
	X509_REQ *request = NULL;
	EVP_PKEY *key = NULL;
	int rc;

	rc = dir_make(dir);
	if (rc)
		return rc;
	rc = key_load_or_make(dir, node_key_file, &key);
	if (rc)
		return rc;
	request = X509_REQ_new();
	if (request && X509_REQ_set_version(request, X509_REQ_VERSION_1) && X509_REQ_set_pubkey(request, key) &&
	    X509_REQ_sign(request, key, EVP_sha256()))
		rc = request_to_text(request, pem);
	else
		rc = openssl_failed("making a certificate request");
	X509_REQ_free(request);
	EVP_PKEY_free(key);
	return rc;
}

static int authority_load(const char *dir, struct authority *out)
{
	int rc = key_load(dir, authority_key_file, &out->key);

	if (!rc)
		rc = certificate_load(dir, authority_file, &out->certificate);
	return rc == -ENOENT ? -ENOKEY : rc;
}

int certificates_sign(const char *dir, const char *request, const uint8_t cluster[static 16], uint32_t node,
		      char *certificate)
{
	struct authority authority = { 0 };
	X509_REQ *asked = NULL;
	EVP_PKEY *key = NULL; /* belongs to the request */
	X509 *signed_one = NULL;
	int rc;

	rc = authority_load(dir, &authority);
	if (rc)
		goto out;
	asked = request_from_text(request);
	key = asked ? X509_REQ_get0_pubkey(asked) : NULL;
	if (!key || X509_REQ_verify(asked, key) != 1) {
		ERR_clear_error();
		rc = -EBADMSG;
		goto out;
	}
	rc = node_issue(&authority, cluster, node, key, &signed_one);
	if (!rc)
		rc = certificate_to_text(signed_one, certificate);
out:
	X509_free(signed_one);
	X509_REQ_free(asked);
	authority_fini(&authority);
	return rc;
}

/*
 * Trust
 */

static bool is_signed_by(X509 *certificate, X509 *authority)
{
	X509_STORE_CTX *context = X509_STORE_CTX_new();
	X509_STORE *store = X509_STORE_new();
	bool verified = context && store && X509_STORE_add_cert(store, authority) &&
			X509_STORE_CTX_init(context, store, certificate, NULL) && X509_verify_cert(context) == 1;

	X509_STORE_CTX_free(context);
	X509_STORE_free(store);
	ERR_clear_error();
	return verified;
}

int certificates_install(const char *dir, const char *certificate, const char *authority)
{
	X509 *node = certificate_from_text(certificate), *root = certificate_from_text(authority);
	EVP_PKEY *key = NULL;
	uint8_t cluster[CLUSTER_BYTES];
	uint32_t id;
	int rc = -EBADMSG;

	if (!node || !root)
		goto out;
	rc = key_load(dir, node_key_file, &key);
	if (rc)
		goto out;
	rc = -EKEYREJECTED;
	if (X509_check_private_key(node, key) != 1 || !is_signed_by(node, root) || subject_decode(node, &id, cluster))
		goto out;
	rc = certificate_store(dir, node_file, node);
	if (!rc)
		rc = certificate_store(dir, authority_file, root);
out:
	ERR_clear_error();
	EVP_PKEY_free(key);
	X509_free(root);
	X509_free(node);
	return rc;
}

int certificates_authority(const char *dir, char *pem)
{
	return file_read(dir, authority_file, pem);
}

static int fingerprint_of(const X509 *certificate, char text[static CERTIFICATES_FINGERPRINT_TEXT])
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned int len;

	if (!X509_digest(certificate, EVP_sha256(), digest, &len))
		return openssl_failed("hashing a certificate");
	for (unsigned int i = 0; i < len; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
	return 0;
}

int certificates_fingerprint(const char *dir, char text[static CERTIFICATES_FINGERPRINT_TEXT])
{
	X509 *authority = NULL;
	int rc;

	rc = certificate_load(dir, authority_file, &authority);
	if (rc)
		return rc;
	rc = fingerprint_of(authority, text);
	X509_free(authority);
	return rc;
}

int certificates_self(const char *dir, uint32_t *node, uint8_t cluster[static 16])
{
	X509 *certificate = NULL;
	int rc;

	rc = certificate_load(dir, node_file, &certificate);
	if (rc)
		return rc;
	rc = subject_decode(certificate, node, cluster);
	X509_free(certificate);
	return rc;
}

/*
 * TLS
 */

static void warn_of_expiry(const char *dir, const X509 *certificate)
{
	time_t then = time(NULL) + (time_t)EXPIRY_WARNING_DAYS * DAY_S;

	if (X509_cmp_time(X509_get0_notAfter(certificate), &then) < 0)
		log_warn("certificates", "file=%s/%s expires in less than %d days: enrol this device again", dir,
			 node_file, EXPIRY_WARNING_DAYS);
}

/*
 * What both contexts share. Sessions are not resumed: links are long, and a peer's certificate is to be checked each
 * time. AES-128 comes first because relayed file data passes through it.
 */
static SSL_CTX *context_new(void)
{
	SSL_CTX *context = SSL_CTX_new(TLS_method());

	if (!context)
		return NULL;
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	if (!SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) || !SSL_CTX_set_num_tickets(context, 0) ||
	    !SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
					       "TLS_CHACHA20_POLY1305_SHA256")) {
		SSL_CTX_free(context);
		return NULL;
	}
	return context;
}

struct identity {
	X509 *node;
	X509 *authority;
	EVP_PKEY *key;
};

static void identity_fini(struct identity *identity)
{
	X509_free(identity->node);
	X509_free(identity->authority);
	EVP_PKEY_free(identity->key);
}

static int identity_load(const char *dir, struct identity *out)
{
	int rc;

	rc = certificate_load(dir, authority_file, &out->authority);
	if (!rc)
		rc = certificate_load(dir, node_file, &out->node);
	if (!rc)
		rc = key_load(dir, node_key_file, &out->key);
	return rc;
}

static bool identity_fits(const struct identity *identity)
{
	bool fits = X509_check_private_key(identity->node, identity->key) == 1 &&
		    is_signed_by(identity->node, identity->authority);

	ERR_clear_error();
	return fits;
}

/* The authority is sent along, so that an enrolling device can see whether it is the one of its token. */
static bool context_identify(SSL_CTX *context, const struct identity *identity)
{
	return SSL_CTX_use_certificate(context, identity->node) && SSL_CTX_use_PrivateKey(context, identity->key) &&
	       SSL_CTX_add1_chain_cert(context, identity->authority) &&
	       X509_STORE_add_cert(SSL_CTX_get_cert_store(context), identity->authority);
}

int certificates_tls(const char *dir, SSL_CTX **out)
{
	struct identity identity = { 0 };
	SSL_CTX *context = NULL;
	int rc;

	rc = identity_load(dir, &identity);
	if (rc)
		goto out;
	if (!identity_fits(&identity)) {
		log_err("certificates", "dir=%s %s, %s and %s do not fit each other, or have expired: enrol again",
			dir, node_file, node_key_file, authority_file);
		rc = -EKEYREJECTED;
		goto out;
	}
	context = context_new();
	if (!context || !context_identify(context, &identity)) {
		rc = openssl_failed("setting up TLS");
		goto out;
	}
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	warn_of_expiry(dir, identity.node);
	*out = context;
	context = NULL;
out:
	SSL_CTX_free(context);
	identity_fini(&identity);
	return rc;
}

/* Where a context for enrolling keeps its fingerprint; freed with the context. */
static int fingerprint_index = -1;

static void fingerprint_free(void *parent, void *text, CRYPTO_EX_DATA *data, int index, long argl, void *argp)
{
	(void)parent;
	(void)data;
	(void)index;
	(void)argl;
	(void)argp;
	free(text);
}

/* Return: the certificate with this fingerprint among those that the peer sent, borrowed; or NULL */
static X509 *find_by_fingerprint(STACK_OF(X509) *certificates, const char *fingerprint)
{
	char text[CERTIFICATES_FINGERPRINT_TEXT];

	for (int i = 0; i < sk_X509_num(certificates); i++) {
		X509 *certificate = sk_X509_value(certificates, i);

		if (fingerprint_of(certificate, text) == 0 && strcasecmp(text, fingerprint) == 0)
			return certificate;
	}
	return NULL;
}

/* Verifies as usual, but with the one certificate for an authority that has the token's fingerprint. */
static int verify_by_fingerprint(X509_STORE_CTX *context, void *fingerprint)
{
	X509 *authority = find_by_fingerprint(X509_STORE_CTX_get0_untrusted(context), fingerprint);
	STACK_OF(X509) *trusted = sk_X509_new_null();
	int verified = 0;

	if (!authority || !trusted || !sk_X509_push(trusted, authority)) {
		X509_STORE_CTX_set_error(context, X509_V_ERR_CERT_UNTRUSTED);
		goto out;
	}
	X509_STORE_CTX_set0_trusted_stack(context, trusted);
	verified = X509_verify_cert(context) == 1;
out:
	sk_X509_free(trusted);
	return verified;
}

int certificates_tls_enrol(const char fingerprint[static CERTIFICATES_FINGERPRINT_TEXT], SSL_CTX **out)
{
	SSL_CTX *context = context_new();
	char *kept = strdup(fingerprint);

	if (fingerprint_index < 0)
		fingerprint_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, fingerprint_free);
	if (!context || !kept || !SSL_CTX_set_ex_data(context, fingerprint_index, kept)) {
		free(kept);
		SSL_CTX_free(context);
		return openssl_failed("setting up TLS");
	}
	SSL_CTX_set_cert_verify_callback(context, verify_by_fingerprint, kept);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	*out = context;
	return 0;
}

int certificates_peer(const SSL *ssl, uint32_t *node, uint8_t cluster[static 16])
{
	const X509 *certificate = SSL_get0_peer_certificate(ssl);

	if (!certificate)
		return -ENOENT;
	if (SSL_get_verify_result(ssl) != X509_V_OK)
		return -EBADMSG;
	return subject_decode(certificate, node, cluster);
}
