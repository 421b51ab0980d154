/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/stored_file.h - small files that survive a crash whole
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_STORED_FILE_H
#define VNAS_COMMON_STORED_FILE_H

#include <stddef.h>
#include <stdint.h>

/* Replace a file: temporary name, fsync, rename, fsync of the directory. Mode 0600. 0 or a negative errno value. */
int stored_file_write(const char *path, const void *bytes, size_t len);

/* Read a whole file. @bytes: out: to be freed; a NUL follows its end. 0; -ENOENT; -EFBIG (over 1 GiB); ... */
int stored_file_read(const char *path, uint8_t **bytes, size_t *len);

/* Make a directory and its parents, mode 0755. 0 or a negative errno value. */
int stored_file_make_directory(const char *path);

#endif
