/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/certificates.h"

#include "common/bytes.h"
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
	SERIAL_BYTES = 16,
	NUMBER_BYTES = 8, /* of the serial number; the rest is random */
	CLOCK_SKEW_S = 24 * 3600, /* a node whose clock is behind must not find the new authority "not yet valid" */
};

#define AUTHORITY_NAME "vnas authority"
#define KEY_GROUP "prime256v1" /* of all keys */

/* Serial numbers were all random once, with this bit set. */
#define NUMBER_END (UINT64_C(1) << 62)

static const char authority_file[] = "ca.crt";
static const char authority_key_file[] = "ca.key";
static const char node_file[] = "node.crt";
static const char node_key_file[] = "node.key";
static const char next_key_file[] = "node.key.next"; /* while a certificate for it is asked for */

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

/* Of these, those named _from_text() give NULL if @text is no such thing. */
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

/*
 * Its public key, which belongs to it; NULL if it is not such as key_make() makes, or is not what has signed the request. Strangers
 * send these: a key of another kind may take a hundred times as long to check, while all else waits.
 */
static EVP_PKEY *request_key(X509_REQ *request)
{
	EVP_PKEY *key = request ? X509_REQ_get0_pubkey(request) : NULL;
	char group[sizeof(KEY_GROUP)] = "";
	bool is_ours = key && EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) && strcmp(group, KEY_GROUP) == 0 &&
		       X509_REQ_verify(request, key) == 1;

	ERR_clear_error();
	return is_ours ? key : NULL;
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
	EVP_PKEY *key = EVP_EC_gen(KEY_GROUP);
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

/* Is the subject O=<cluster UUID>, CN=node-<id>; or the authority's, whose node is 0? */
static bool subject_decode(const X509 *certificate, uint32_t *node, uint8_t cluster[static CLUSTER_BYTES])
{
	X509_NAME *subject = X509_get_subject_name(certificate);
	char organization[NAME_TEXT], common[NAME_TEXT];

	if (X509_NAME_get_text_by_NID(subject, NID_organizationName, organization, sizeof(organization)) < 0 ||
	    X509_NAME_get_text_by_NID(subject, NID_commonName, common, sizeof(common)) < 0 ||
	    !cluster_from_text(organization, cluster))
		return false;
	*node = 0;
	return strcmp(common, AUTHORITY_NAME) == 0 || node_from_text(common, node);
}

static bool serial_decode(const X509 *certificate, struct certificates_facts *out)
{
	BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
	uint8_t bytes[SERIAL_BYTES];
	struct bytes_reader r = bytes_reader_init(bytes, sizeof(bytes));
	bool is_ours = serial && BN_bn2binpad(serial, bytes, SERIAL_BYTES) == SERIAL_BYTES;

	BN_free(serial);
	if (!is_ours)
		return false;
	for (size_t i = 0; i < SERIAL_BYTES; i++)
		snprintf(out->serial + 2 * i, 3, "%02x", bytes[i]);
	out->number = bytes_get_be64(&r);
	if (out->number >= NUMBER_END)
		out->number = 0;
	return true;
}

static bool time_decode(const ASN1_TIME *time, int64_t *out_s)
{
	struct tm tm;

	if (!time || !ASN1_TIME_to_tm(time, &tm))
		return false;
	*out_s = timegm(&tm);
	return true;
}

/* Those that were made before this was written into them began a day before. */
static bool issued_decode(const X509 *certificate, int64_t *out_s)
{
	PKEY_USAGE_PERIOD *period = X509_get_ext_d2i(certificate, NID_private_key_usage_period, NULL, NULL);
	bool decoded;

	if (period && period->notBefore) {
		decoded = time_decode(period->notBefore, out_s);
	} else {
		decoded = time_decode(X509_get0_notBefore(certificate), out_s);
		*out_s += decoded ? CLOCK_SKEW_S : 0;
	}
	PKEY_USAGE_PERIOD_free(period);
	return decoded;
}

/* Return: 0; -EBADMSG if it is not such as certificate_issue() makes */
static int facts_decode(const X509 *certificate, struct certificates_facts *out)
{
	struct certificates_facts facts = { 0 };
	bool is_ours = subject_decode(certificate, &facts.node, facts.cluster) && serial_decode(certificate, &facts) &&
		       issued_decode(certificate, &facts.issued_s) &&
		       time_decode(X509_get0_notAfter(certificate), &facts.expires_s);

	ERR_clear_error();
	if (!is_ours)
		return -EBADMSG;
	*out = facts;
	return 0;
}

/* The same for a device's. */
static int device_facts_decode(const X509 *certificate, struct certificates_facts *out)
{
	struct certificates_facts facts;
	int rc = facts_decode(certificate, &facts);

	if (rc < 0 || !facts.node)
		return -EBADMSG;
	*out = facts;
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
	const ASN1_TIME *begins; /* NULL: now */
	uint64_t number;
	uint32_t life_s;
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

/* The random part keeps numbers apart that a database has given twice, because it was restored from a backup. */
static bool set_serial(X509 *certificate, uint64_t number)
{
	uint8_t bytes[SERIAL_BYTES];
	struct bytes_writer w = bytes_writer_init(bytes, sizeof(bytes));
	BIGNUM *serial = NULL;
	bool done;

	bytes_put_be64(&w, number);
	done = RAND_bytes(bytes + NUMBER_BYTES, SERIAL_BYTES - NUMBER_BYTES) == 1;
	if (done)
		serial = BN_bin2bn(bytes, SERIAL_BYTES, NULL);
	done = serial && BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(certificate));
	BN_free(serial);
	return done;
}

/*
 * All certificates of an authority begin with it, so that none is ever "not yet valid" because the master's clock was ahead when it was
 * made; none is good for longer than the authority.
 */
static bool set_validity(X509 *certificate, const struct issue *issue, time_t now)
{
	const ASN1_TIME *begins = issue->issuer ? X509_get0_notBefore(issue->issuer) : issue->begins;
	const ASN1_TIME *end = issue->issuer ? X509_get0_notAfter(issue->issuer) : NULL;
	time_t expires = now + (time_t)issue->life_s;

	if (begins ? !X509_set1_notBefore(certificate, begins) :
		     !ASN1_TIME_set(X509_getm_notBefore(certificate), now - CLOCK_SKEW_S))
		return false;
	if (end && X509_cmp_time(end, &expires) < 0)
		return X509_set1_notAfter(certificate, end);
	return ASN1_TIME_set(X509_getm_notAfter(certificate), expires);
}

/* When it was made: the private key is used from then on (id-ce-privateKeyUsagePeriod). */
static bool add_issued(X509 *certificate, time_t now)
{
	PKEY_USAGE_PERIOD *period = PKEY_USAGE_PERIOD_new();
	bool added = false;

	if (period)
		period->notBefore = ASN1_GENERALIZEDTIME_set(NULL, now);
	if (period && period->notBefore)
		added = X509_add1_ext_i2d(certificate, NID_private_key_usage_period, period, 0, X509V3_ADD_DEFAULT) == 1;
	PKEY_USAGE_PERIOD_free(period);
	return added;
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
	time_t now = time(NULL);

	if (!certificate || !X509_set_version(certificate, X509_VERSION_3) || !set_serial(certificate, issue->number) ||
	    !set_validity(certificate, issue, now) || !set_subject(certificate, issue) ||
	    !X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) ||
	    !X509_set_pubkey(certificate, issue->key) || !add_extensions(certificate, issuer, issue->extensions) || !add_issued(certificate, now) ||
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

static int node_issue(const struct authority *authority, const uint8_t *cluster, const struct certificates_terms *terms,
		      EVP_PKEY *key, X509 **out)
{
	char name[NAME_TEXT];
	struct issue issue = {
		.cluster = cluster,
		.common_name = name,
		.key = key,
		.issuer = authority->certificate,
		.issuer_key = authority->key,
		.number = terms->number,
		.life_s = terms->life_s,
		.extensions = node_extensions,
	};

	snprintf(name, sizeof(name), "node-%u", terms->node);
	return certificate_issue(&issue, out);
}

/* @begins: NULL: now */
static int authority_issue(const uint8_t *cluster, uint32_t life_s, EVP_PKEY *key, const ASN1_TIME *begins, X509 **out)
{
	struct issue issue = {
		.cluster = cluster,
		.common_name = AUTHORITY_NAME,
		.key = key,
		.issuer_key = key,
		.begins = begins,
		.life_s = life_s,
		.extensions = authority_extensions,
	};

	return certificate_issue(&issue, out);
}

/* The key is new even if a broken-off attempt left one: nobody trusts that one yet. */
static int authority_make(const char *dir, const uint8_t *cluster, uint32_t life_s, struct authority *out)
{
	int rc = key_make(dir, authority_key_file, &out->key);

	return rc ? rc : authority_issue(cluster, life_s, out->key, NULL, &out->certificate);
}

int certificates_init(const char *dir, const uint8_t cluster[static 16], uint32_t authority_life_s, uint32_t life_s)
{
	const struct certificates_terms terms = { .node = 1, .life_s = life_s };
	struct authority authority = { 0 };
	EVP_PKEY *key = NULL;
	X509 *node = NULL;
	int rc;

	rc = dir_make(dir);
	if (rc)
		return rc;
	if (file_exists(dir, authority_file))
		return -EEXIST;
	rc = authority_make(dir, cluster, authority_life_s, &authority);
	if (rc)
		goto out;
	rc = key_load_or_make(dir, node_key_file, &key);
	if (rc)
		goto out;
	rc = node_issue(&authority, cluster, &terms, key, &node);
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

static int request_make(EVP_PKEY *key, char *pem)
{
	X509_REQ *request = X509_REQ_new();
	int rc;

	if (request && X509_REQ_set_version(request, X509_REQ_VERSION_1) && X509_REQ_set_pubkey(request, key) &&
	    X509_REQ_sign(request, key, EVP_sha256()))
		rc = request_to_text(request, pem);
	else
		rc = openssl_failed("making a certificate request");
	X509_REQ_free(request);
	return rc;
}

int certificates_request(const char *dir, char *pem)
{
	EVP_PKEY *key = NULL;
	int rc;

	rc = dir_make(dir);
	if (!rc)
		rc = key_load_or_make(dir, node_key_file, &key);
	if (!rc)
		rc = request_make(key, pem);
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

int certificates_sign(const char *dir, const char *request, const uint8_t cluster[static 16],
		      const struct certificates_terms *terms, char *certificate)
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
	key = request_key(asked);
	if (!key) {
		rc = -EBADMSG;
		goto out;
	}
	rc = node_issue(&authority, cluster, terms, key, &signed_one);
	if (!rc)
		rc = certificate_to_text(signed_one, certificate);
out:
	X509_free(signed_one);
	X509_REQ_free(asked);
	authority_fini(&authority);
	return rc;
}

int certificates_renew_authority(const char *dir, const uint8_t cluster[static 16], uint32_t life_s)
{
	struct authority authority = { 0 };
	X509 *renewed = NULL;
	int rc = authority_load(dir, &authority);

	if (!rc)
		rc = authority_issue(cluster, life_s, authority.key, X509_get0_notBefore(authority.certificate), &renewed);
	if (!rc)
		rc = certificate_store(dir, authority_file, renewed);
	X509_free(renewed);
	authority_fini(&authority);
	return rc;
}

int certificates_request_key(const char *request, uint8_t key[static CERTIFICATES_KEY_BYTES])
{
	X509_REQ *asked = request_from_text(request);
	EVP_PKEY *public = request_key(asked);
	unsigned int len = CERTIFICATES_KEY_BYTES;
	unsigned char *der = NULL;
	int der_len = 0, rc = -EBADMSG;

	if (public)
		der_len = i2d_PUBKEY(public, &der);
	if (der_len > 0 && EVP_Digest(der, (size_t)der_len, key, &len, EVP_sha256(), NULL) == 1)
		rc = 0;
	OPENSSL_free(der);
	X509_REQ_free(asked);
	ERR_clear_error();
	return rc;
}

int certificates_pair(const char *authority, const uint8_t key[static CERTIFICATES_KEY_BYTES],
		      char text[static CERTIFICATES_PAIR_TEXT])
{
	char both[CERTIFICATES_FINGERPRINT_TEXT + CERTIFICATES_KEY_BYTES] = "";
	uint8_t digest[EVP_MAX_MD_SIZE];
	size_t len = 0;

	snprintf(both, CERTIFICATES_FINGERPRINT_TEXT, "%s", authority);
	memcpy(both + CERTIFICATES_FINGERPRINT_TEXT, key, CERTIFICATES_KEY_BYTES);
	if (EVP_Digest(both, sizeof(both), digest, NULL, EVP_sha256(), NULL) != 1)
		return openssl_failed("hashing a key");
	for (unsigned int i = 0; i < 8; i++)
		len += (size_t)sprintf(text + len, "%s%02x%02x", i ? "-" : "", digest[2 * i], digest[2 * i + 1]);
	return 0;
}

/*
 * Trust
 */

/* At any time: whether it has expired is another question. */
static bool is_signed_by(X509 *certificate, X509 *authority)
{
	X509_STORE_CTX *context = X509_STORE_CTX_new();
	X509_STORE *store = X509_STORE_new();
	bool verified = context && store && X509_STORE_add_cert(store, authority) &&
			X509_STORE_set_flags(store, X509_V_FLAG_NO_CHECK_TIME) &&
			X509_STORE_CTX_init(context, store, certificate, NULL) && X509_verify_cert(context) == 1;

	X509_STORE_CTX_free(context);
	X509_STORE_free(store);
	ERR_clear_error();
	return verified;
}

int certificates_install(const char *dir, const char *certificate, const char *authority)
{
	X509 *node = certificate_from_text(certificate), *root = certificate_from_text(authority);
	struct certificates_facts facts;
	EVP_PKEY *key = NULL;
	int rc = -EBADMSG;

	if (!node || !root)
		goto out;
	rc = key_load(dir, node_key_file, &key);
	if (rc)
		goto out;
	rc = -EKEYREJECTED;
	if (X509_check_private_key(node, key) != 1 || !is_signed_by(node, root) ||
	    device_facts_decode(node, &facts))
		goto out;
	rc = certificate_store(dir, authority_file, root);
	/* Last: where this file is, nobody asks for another (certificates_self()). */
	if (!rc)
		rc = certificate_store(dir, node_file, node);
out:
	ERR_clear_error();
	EVP_PKEY_free(key);
	X509_free(root);
	X509_free(node);
	return rc;
}

/* Is it the authority that we trust, with the same certificate or a renewed one? */
static bool is_same_authority(const X509 *ours, const X509 *theirs)
{
	return X509_NAME_cmp(X509_get_subject_name(ours), X509_get_subject_name(theirs)) == 0 &&
	       EVP_PKEY_eq(X509_get0_pubkey(ours), X509_get0_pubkey(theirs)) == 1;
}

/* One that ends earlier comes from a master that was restored from a backup. */
static int authority_update(const char *dir, const X509 *ours, X509 *theirs)
{
	if (ASN1_TIME_compare(X509_get0_notAfter(theirs), X509_get0_notAfter(ours)) <= 0)
		return 0;
	return certificate_store(dir, authority_file, theirs);
}

/* The next key becomes the key: once node.crt is of the next key, at any later time. */
static int next_key_adopt(const char *dir)
{
	char from[PATH_MAX], to[PATH_MAX];
	int rc = path_of(dir, next_key_file, "", from);

	if (!rc)
		rc = path_of(dir, node_key_file, "", to);
	if (!rc)
		rc = rename(from, to) < 0 ? -errno : dir_sync(dir);
	if (rc)
		log_err("certificates", "file=%s/%s can't be renamed to %s: %s", dir, next_key_file, node_key_file, strerror(-rc));
	return rc;
}

/*
 * Three steps, each of which is a rename. A machine that stops after the first has the old certificate, which the renewed authority
 * has signed, too; after the second, the commit point, the new one, whose key identity_load() finds.
 */
int certificates_renew(const char *dir, const char *certificate, const char *authority)
{
	X509 *node = certificate_from_text(certificate), *theirs = certificate_from_text(authority), *ours = NULL;
	struct certificates_facts facts;
	EVP_PKEY *key = NULL;
	int rc = -EBADMSG;

	if (!node || !theirs)
		goto out;
	rc = certificate_load(dir, authority_file, &ours);
	if (!rc)
		rc = key_load(dir, next_key_file, &key);
	if (rc)
		goto out;
	rc = -EKEYREJECTED;
	if (X509_check_private_key(node, key) != 1 || !is_same_authority(ours, theirs) || !is_signed_by(node, theirs) ||
	    device_facts_decode(node, &facts))
		goto out;
	rc = authority_update(dir, ours, theirs);
	if (!rc)
		rc = certificate_store(dir, node_file, node);
	if (!rc)
		rc = next_key_adopt(dir);
out:
	ERR_clear_error();
	EVP_PKEY_free(key);
	X509_free(ours);
	X509_free(theirs);
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

int certificates_fingerprint_of(const char *authority, char text[static CERTIFICATES_FINGERPRINT_TEXT])
{
	X509 *certificate = certificate_from_text(authority);
	int rc = certificate ? fingerprint_of(certificate, text) : -EBADMSG;

	X509_free(certificate);
	ERR_clear_error();
	return rc;
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

/* The machine may have stopped in the middle of certificates_renew(). */
static int identity_finish_renewal(const char *dir, struct identity *identity)
{
	EVP_PKEY *next = NULL;
	int rc;

	if (X509_check_private_key(identity->node, identity->key) == 1)
		return 0;
	rc = key_load(dir, next_key_file, &next);
	if (rc == 0 && X509_check_private_key(identity->node, next) == 1) {
		EVP_PKEY_free(identity->key);
		identity->key = next;
		return next_key_adopt(dir);
	}
	EVP_PKEY_free(next);
	ERR_clear_error();
	return rc == -ENOENT ? 0 : rc; /* then they don't fit: identity_fits() */
}

static int identity_load(const char *dir, struct identity *out)
{
	int rc;

	rc = certificate_load(dir, authority_file, &out->authority);
	if (!rc)
		rc = certificate_load(dir, node_file, &out->node);
	if (!rc)
		rc = key_load(dir, node_key_file, &out->key);
	return rc ? rc : identity_finish_renewal(dir, out);
}

/* A renewal that is not finished needs its key still. */
int certificates_renewal_request(const char *dir, char *pem)
{
	struct identity identity = { 0 };
	EVP_PKEY *key = NULL;
	int rc = identity_load(dir, &identity);

	if (!rc)
		rc = key_make(dir, next_key_file, &key);
	if (!rc)
		rc = request_make(key, pem);
	EVP_PKEY_free(key);
	identity_fini(&identity);
	return rc;
}

static int facts_load(const char *dir, const char *name, struct certificates_facts *out)
{
	X509 *certificate = NULL;
	int rc = certificate_load(dir, name, &certificate);

	if (rc)
		return rc;
	rc = facts_decode(certificate, out);
	X509_free(certificate);
	return rc;
}

int certificates_self(const char *dir, struct certificates_facts *out)
{
	return facts_load(dir, node_file, out);
}

int certificates_authority_facts(const char *dir, struct certificates_facts *out)
{
	return facts_load(dir, authority_file, out);
}

int certificates_facts_of(const char *certificate, struct certificates_facts *out)
{
	X509 *decoded = certificate_from_text(certificate);
	int rc = decoded ? device_facts_decode(decoded, out) : -EBADMSG;

	X509_free(decoded);
	return rc;
}

/*
 * TLS
 */

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
		log_err("certificates", "dir=%s %s, %s and %s do not fit each other: enrol again", dir, node_file,
			node_key_file, authority_file);
		rc = -EKEYREJECTED;
		goto out;
	}
	context = context_new();
	if (!context || !context_identify(context, &identity)) {
		rc = openssl_failed("setting up TLS");
		goto out;
	}
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
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

static bool is_wanted(X509 *certificate, const char *fingerprint)
{
	char text[CERTIFICATES_FINGERPRINT_TEXT];

	if (!fingerprint[0])
		return X509_check_issued(certificate, certificate) == X509_V_OK;
	return fingerprint_of(certificate, text) == 0 && strcasecmp(text, fingerprint) == 0;
}

/* Return: the certificate with this fingerprint ("": that is its own issuer) among those that the peer sent, borrowed; or NULL */
static X509 *find_by_fingerprint(STACK_OF(X509) *certificates, const char *fingerprint)
{
	for (int i = 0; i < sk_X509_num(certificates); i++)
		if (is_wanted(sk_X509_value(certificates, i), fingerprint))
			return sk_X509_value(certificates, i);
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

int certificates_tls_enrol(const char *fingerprint, SSL_CTX **out)
{
	SSL_CTX *context = context_new();
	char *kept = strdup(fingerprint ? fingerprint : "");

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

int certificates_peer(const SSL *ssl, struct certificates_facts *out)
{
	const X509 *certificate = SSL_get0_peer_certificate(ssl);

	if (!certificate)
		return -ENOENT;
	if (SSL_get_verify_result(ssl) != X509_V_OK)
		return -EBADMSG;
	return device_facts_decode(certificate, out);
}

/* The chain is there only if the peer was accepted: SSL_get0_verified_chain(3). */
int certificates_peer_authority(const SSL *ssl, char text[static CERTIFICATES_FINGERPRINT_TEXT])
{
	STACK_OF(X509) *chain = SSL_get0_verified_chain(ssl);
	int count = chain ? sk_X509_num(chain) : 0;

	if (count == 0 || SSL_get_verify_result(ssl) != X509_V_OK)
		return -ENOENT;
	return fingerprint_of(sk_X509_value(chain, count - 1), text);
}
