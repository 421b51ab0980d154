/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/handle.h"

#include "common/bytes.h"

#include <errno.h>

enum { MAC_AT = 8, MAC_BYTES = 8 };

static siphash_word mac(const struct handle_key *key, const uint8_t *bytes, size_t len)
{
	uint8_t covered[HANDLE_MAX - MAC_BYTES];
	size_t behind = len - HANDLE_HEADER_BYTES;

	memcpy(covered, bytes, MAC_AT);
	memcpy(covered + MAC_AT, bytes + HANDLE_HEADER_BYTES, behind);
	return siphash(key->bytes, covered, (unsigned int)(MAC_AT + behind));
}

size_t handle_encode(const struct handle_key *key, const struct handle *handle, uint8_t out[static HANDLE_MAX])
{
	struct bytes_writer w = bytes_writer_init(out, HANDLE_MAX);
	struct bytes_writer mac_at;

	bytes_put_u8(&w, HANDLE_VERSION);
	bytes_put_u8(&w, (uint8_t)handle->type);
	bytes_put_be16(&w, handle->backend_type);
	bytes_put_be32(&w, handle->volume);
	mac_at = w;
	bytes_put_be64(&w, 0);
	bytes_put(&w, handle->backend, handle->backend_len);
	bytes_put_be64(&mac_at, mac(key, out, w.written));
	return w.written;
}

int handle_decode(const struct handle_key *key, const uint8_t *bytes, size_t len, struct handle *out)
{
	struct bytes_reader r = bytes_reader_init(bytes, len);
	struct handle handle = { 0 };
	uint8_t version;

	if (len < HANDLE_HEADER_BYTES || len > HANDLE_MAX)
		return -EBADMSG;
	version = bytes_get_u8(&r);
	handle.type = bytes_get_u8(&r);
	handle.backend_type = bytes_get_be16(&r);
	handle.volume = bytes_get_be32(&r);
	if (version != HANDLE_VERSION || handle.type < HANDLE_PSEUDO || handle.type > HANDLE_SPREAD)
		return -EBADMSG;
	if (handle.type == HANDLE_LOCAL_IN && r.left % 2)
		return -EBADMSG;
	/* One comparison of machine words: its time says nothing about which byte was wrong. */
	if (bytes_get_be64(&r) != mac(key, bytes, len))
		return -EBADMSG;
	handle.backend_len = (uint8_t)r.left;
	memcpy(handle.backend, r.p, r.left);
	*out = handle;
	return 0;
}

int handle_join(const struct handle *file, const struct handle *directory, struct handle *out)
{
	if (file->type != HANDLE_LOCAL || directory->type != HANDLE_LOCAL || file->volume != directory->volume ||
	    file->backend_type != directory->backend_type || file->backend_len != directory->backend_len ||
	    2 * file->backend_len > HANDLE_BACKEND_MAX)
		return -EOVERFLOW;
	*out = *file;
	out->type = HANDLE_LOCAL_IN;
	memcpy(out->backend + file->backend_len, directory->backend, directory->backend_len);
	out->backend_len *= 2;
	return 0;
}

void handle_split(const struct handle *both, struct handle *file, struct handle *directory)
{
	struct handle half = *both;

	half.type = HANDLE_LOCAL;
	half.backend_len /= 2;
	*file = *directory = half;
	memcpy(directory->backend, both->backend + half.backend_len, half.backend_len);
}
