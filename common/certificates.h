/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/certificates.h - the cluster's own certificate authority and the TLS that rests on it
 *
 * The one door to OpenSSL's certificates. A cluster has one authority (EC P-256, made by `nasctl cluster init`); each
 * device has one certificate whose subject is O=<cluster UUID>, CN=node-<id>. Files in <state_dir>/pki, mode 0600:
 * ca.crt and (master) ca.key, node.crt, node.key, and node.key.next while a certificate for a new key is asked for. Written to a
 * temporary name, synced and renamed.
 *
 * A certificate's serial number is a 16-byte integer: the number that the cluster gave it, which counts up, then 8 random bytes.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_CERTIFICATES_H
#define VNAS_COMMON_CERTIFICATES_H

#include <openssl/ssl.h>
#include <stdint.h>

enum {
	CERTIFICATES_FINGERPRINT_TEXT = 65, /* SHA-256 in hexadecimal, and NUL */
	CERTIFICATES_KEY_BYTES = 32,	    /* SHA-256 of a public key */
	CERTIFICATES_PAIR_TEXT = 40,	    /* eight groups of four hexadecimal digits, and NUL */
	CERTIFICATES_PEM_MAX = 16384,
	CERTIFICATES_SERIAL_TEXT = 33,	    /* 16 bytes in hexadecimal, and NUL */
};

/* What is written in a certificate. */
struct certificates_facts {
	uint32_t node; /* 0: the authority's */
	uint8_t cluster[16];
	uint64_t number; /* of a device's certificates the later has the higher; 0: made before they were counted, or with the cluster */
	char serial[CERTIFICATES_SERIAL_TEXT];
	int64_t issued_s, expires_s; /* wall clock */
};

/* What the authority writes into one. */
struct certificates_terms {
	uint32_t node;
	uint64_t number;
	uint32_t life_s; /* it ends with the authority's at the latest */
};

/**
 * certificates_init() - make the authority and node 1's certificate
 * @dir:	<state_dir>/pki, made if missing
 * @cluster:	the cluster's UUID, 16 bytes
 * @authority_life_s, @life_s: of the two certificates
 *
 * Return: 0; -EEXIST if there is an authority already (nothing is changed); or what failed, logged
 */
int certificates_init(const char *dir, const uint8_t cluster[static 16], uint32_t authority_life_s, uint32_t life_s);

/* Make node.key if it is missing and a PKCS#10 request for it. @pem: CERTIFICATES_PEM_MAX bytes. 0 or negative errno. */
int certificates_request(const char *dir, char *pem);

/**
 * certificates_sign() - the authority signs a node's request
 * @request:	PEM; only its public key is used, its signature is checked
 * @certificate: CERTIFICATES_PEM_MAX bytes of room
 *
 * Return: 0; -EBADMSG if the request is malformed, or its key not such as certificates_request() makes; -ENOKEY if this
 * device is not the authority
 */
int certificates_sign(const char *dir, const char *request, const uint8_t cluster[static 16],
		      const struct certificates_terms *terms, char *certificate);

/* Whose request it is: SHA-256 of its public key (SubjectPublicKeyInfo, DER). -EBADMSG if it is not signed by that key,
 * or the key is not such as certificates_request() makes. */
int certificates_request_key(const char *request, uint8_t key[static CERTIFICATES_KEY_BYTES]);

/**
 * certificates_pair() - what people compare when there is no token: "3f2a-91bc-...", of a key and an authority together
 * @authority:	its fingerprint
 * @key:	certificates_request_key() of who wants to join
 *
 * If both ends show the same, nobody between them has put his own key or his own authority in the place of theirs: 128 bits
 * of SHA-256 over both.
 *
 * Return: 0; -EIO (logged)
 */
int certificates_pair(const char *authority, const uint8_t key[static CERTIFICATES_KEY_BYTES],
		      char text[static CERTIFICATES_PAIR_TEXT]);

/* Keep a signed certificate and its authority. -EKEYREJECTED if they do not fit node.key or each other. */
int certificates_install(const char *dir, const char *certificate, const char *authority);

/**
 * certificates_renewal_request() - ask for a certificate that follows the present one
 * @pem:	out: CERTIFICATES_PEM_MAX bytes of room: a request for a key that is new with each call
 *
 * Return: 0; or what failed, logged
 */
int certificates_renewal_request(const char *dir, char *pem);

/**
 * certificates_renew() - take the certificate that was signed for the last certificates_renewal_request()
 * @authority:	the authority's certificate, perhaps renewed; must have the key that we trust
 *
 * If the machine stops at any moment, this device has its old key and certificate or the new ones.
 *
 * Return: 0; -EBADMSG; -EKEYREJECTED if they do not fit each other, the key or the authority; or what failed, logged
 */
int certificates_renew(const char *dir, const char *certificate, const char *authority);

/**
 * certificates_renew_authority() - a new certificate for the authority's key
 *
 * What it has signed remains good, also to devices that have only its former certificate.
 *
 * Return: 0; -ENOKEY if this device is not the authority; or what failed, logged
 */
int certificates_renew_authority(const char *dir, const uint8_t cluster[static 16], uint32_t life_s);

/* The authority's certificate as PEM. -ENOENT if this device is in no cluster. */
int certificates_authority(const char *dir, char *pem);

/* SHA-256 of the authority's certificate (DER). */
int certificates_fingerprint(const char *dir, char text[static CERTIFICATES_FINGERPRINT_TEXT]);

/* The same of one that came as PEM. -EBADMSG if it is none. */
int certificates_fingerprint_of(const char *authority, char text[static CERTIFICATES_FINGERPRINT_TEXT]);

/* This device's own certificate. -ENOENT if it has none. */
int certificates_self(const char *dir, struct certificates_facts *out);

/* The authority's, as this device has it. -ENOENT */
int certificates_authority_facts(const char *dir, struct certificates_facts *out);

/* A device's that is at hand as PEM. -EBADMSG */
int certificates_facts_of(const char *certificate, struct certificates_facts *out);

/**
 * certificates_tls() - a TLS 1.3 context with this device's certificate
 * @out:	out: for both ends; requires TLS 1.3, verifies peers by the cluster's authority. A server accepts peers
 *		without a certificate too: they may only enrol (scp/scp.c)
 *
 * Also if it has expired by this clock, which may be wrong: that is for the peers to judge.
 *
 * Return: 0; -ENOENT if this device is in no cluster; -EKEYREJECTED
 */
int certificates_tls(const char *dir, SSL_CTX **out);

/* A context for enrolling: no certificate of its own, accepts only an authority with this fingerprint; NULL: any one. */
int certificates_tls_enrol(const char *fingerprint, SSL_CTX **out);

/* The fingerprint of the authority by which the peer of an established session was accepted. -ENOENT: by none. */
int certificates_peer_authority(const SSL *ssl, char text[static CERTIFICATES_FINGERPRINT_TEXT]);

/* Who the peer of an established session is. -ENOENT: it showed no certificate. -EBADMSG: not one of ours. */
int certificates_peer(const SSL *ssl, struct certificates_facts *out);

#endif
