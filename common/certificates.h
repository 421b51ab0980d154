/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/certificates.h - the cluster's own certificate authority and the TLS that rests on it
 *
 * The one door to OpenSSL's certificates. A cluster has one authority (EC P-256, made by `nasctl cluster init`); each
 * device has one certificate whose subject is O=<cluster UUID>, CN=node-<id>. Files in <state_dir>/pki, mode 0600:
 * ca.crt and (master) ca.key, node.crt, node.key. Written to a temporary name, synced and renamed.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_CERTIFICATES_H
#define VNAS_COMMON_CERTIFICATES_H

#include <openssl/ssl.h>
#include <stdint.h>

enum {
	CERTIFICATES_FINGERPRINT_TEXT = 65, /* SHA-256 in hexadecimal, and NUL */
	CERTIFICATES_PEM_MAX = 16384,
};

/**
 * certificates_init() - make the authority and node 1's certificate
 * @dir:	<state_dir>/pki, made if missing
 * @cluster:	the cluster's UUID, 16 bytes
 *
 * Return: 0; -EEXIST if there is an authority already (nothing is changed); or what failed, logged
 */
int certificates_init(const char *dir, const uint8_t cluster[static 16]);

/* Make node.key if it is missing and a PKCS#10 request for it. @pem: CERTIFICATES_PEM_MAX bytes. 0 or negative errno. */
int certificates_request(const char *dir, char *pem);

/**
 * certificates_sign() - the authority signs a node's request
 * @request:	PEM; only its public key is used, its signature is checked
 * @certificate: CERTIFICATES_PEM_MAX bytes of room
 *
 * Return: 0; -EBADMSG if the request is malformed; -ENOKEY if this device is not the authority
 */
int certificates_sign(const char *dir, const char *request, const uint8_t cluster[static 16], uint32_t node,
		      char *certificate);

/* Keep a signed certificate and its authority. -EKEYREJECTED if they do not fit node.key or each other. */
int certificates_install(const char *dir, const char *certificate, const char *authority);

/* The authority's certificate as PEM. -ENOENT if this device is in no cluster. */
int certificates_authority(const char *dir, char *pem);

/* SHA-256 of the authority's certificate (DER). */
int certificates_fingerprint(const char *dir, char text[static CERTIFICATES_FINGERPRINT_TEXT]);

/* The node id and cluster of this device's own certificate. -ENOENT if it has none. */
int certificates_self(const char *dir, uint32_t *node, uint8_t cluster[static 16]);

/**
 * certificates_tls() - a TLS 1.3 context with this device's certificate
 * @out:	out: for both ends; requires TLS 1.3, verifies peers by the cluster's authority. A server accepts peers
 *		without a certificate too: they may only enrol (scp/scp.c)
 *
 * Return: 0; -ENOENT if this device is in no cluster; -EKEYREJECTED
 */
int certificates_tls(const char *dir, SSL_CTX **out);

/* A context for enrolling: no certificate of its own, accepts only an authority with this fingerprint. */
int certificates_tls_enrol(const char fingerprint[static CERTIFICATES_FINGERPRINT_TEXT], SSL_CTX **out);

/* Who the peer of an established session is. -ENOENT: it showed no certificate. -EBADMSG: not one of ours. */
int certificates_peer(const SSL *ssl, uint32_t *node, uint8_t cluster[static 16]);

#endif
