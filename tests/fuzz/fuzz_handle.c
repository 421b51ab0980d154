/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, a file handle crashes a device, or a client can change one so that it names another file.
 *
 * Input: a handle. Since no fuzzer guesses a keyed hash, its parts are also made a right handle, and one bit of that is
 * turned: the one that the last byte of the input says.
 */
#include "config.h"

#include "common/bytes.h"
#include "common/handle.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static const struct handle_key key = { .bytes = "fuzz_handle key" };

static void check_as_sent(const uint8_t *bytes, size_t len)
{
	uint8_t again[HANDLE_MAX];
	struct handle handle;

	if (handle_decode(&key, bytes, len, &handle))
		return;
	if (handle_encode(&key, &handle, again) != len || memcmp(again, bytes, len) != 0)
		abort();
}

static void check_made(const struct handle *handle, unsigned int bit)
{
	uint8_t bytes[HANDLE_MAX];
	size_t len = handle_encode(&key, handle, bytes);
	struct handle back;

	if (len != HANDLE_HEADER_BYTES + (size_t)handle->backend_len || handle_decode(&key, bytes, len, &back))
		abort();
	if (back.type != handle->type || back.volume != handle->volume || back.backend_type != handle->backend_type ||
	    back.backend_len != handle->backend_len || memcmp(back.backend, handle->backend, back.backend_len) != 0)
		abort();
	bytes[bit / 8 % len] ^= (uint8_t)(1 << bit % 8);
	if (handle_decode(&key, bytes, len, &back) == 0)
		abort();
}

/* A file and its directory, of the two halves of a handle. */
static void check_joined(const struct handle *handle, unsigned int bit)
{
	struct handle both = *handle, file, directory, again;

	both.type = HANDLE_LOCAL_IN;
	both.backend_len &= ~1u;
	handle_split(&both, &file, &directory);
	if (handle_join(&file, &directory, &again) || again.backend_len != both.backend_len ||
	    memcmp(again.backend, both.backend, both.backend_len) != 0)
		abort();
	check_made(&both, bit);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct bytes_reader r = bytes_reader_init(bytes, len);
	struct handle handle;

	check_as_sent(bytes, len);
	if (len < 8)
		return 0;
	handle.type = bytes_get_u8(&r) % 2 ? HANDLE_LOCAL : HANDLE_PSEUDO;
	handle.backend_type = bytes_get_be16(&r);
	handle.volume = bytes_get_be32(&r);
	handle.backend_len = (uint8_t)(r.left < HANDLE_BACKEND_MAX ? r.left : HANDLE_BACKEND_MAX);
	memcpy(handle.backend, r.p, handle.backend_len);
	check_made(&handle, bytes[len - 1] * 8u + bytes[len - 2] % 8);
	check_joined(&handle, bytes[len - 1] * 8u + bytes[len - 2] % 8);
	return 0;
}
