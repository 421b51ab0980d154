/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/user_checks.h"

#include "common/namespace.h"

#include <crypt.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	NOBODY = 65534,
	NOBODY_16_BITS = 65535,
	LEAST_HASH = 22, /* characters of 6 bits: the shortest hash of those that are still recommended */
};

static int __attribute__((format(printf, 2, 3))) refuse(char *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, USER_CHECKS_WHY_MAX, format, args);
	va_end(args);
	return -EINVAL;
}

int user_checks_name(const char *name, char why[static USER_CHECKS_WHY_MAX])
{
	static const char first[] = "abcdefghijklmnopqrstuvwxyz_", others[] = "abcdefghijklmnopqrstuvwxyz_0123456789-";
	size_t len = strlen(name);

	if (len > NS_USER_NAME_MAX)
		return refuse(why, "the name \"%.*s...\" is longer than %d characters", NS_USER_NAME_MAX, name,
			      NS_USER_NAME_MAX);
	if (len > 1 && name[len - 1] == '$')
		len--; /* a machine's account in a Windows domain */
	if (!len || !strchr(first, name[0]) || strspn(name, others) != len)
		return refuse(why, "\"%s\" is no name: it begins with a small letter or _, and goes on with small letters, "
				   "digits, _ and -", name);
	return 0;
}

int user_checks_id(const char *text, uint32_t *out, char why[static USER_CHECKS_WHY_MAX])
{
	unsigned long long id;
	char *end;

	errno = 0;
	id = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || *end || errno || id >= UINT32_MAX)
		return refuse(why, "\"%.64s\" is no id: a number from 1 to 4294967294", text);
	if (id == 0 || id == NOBODY || id == NOBODY_16_BITS)
		return refuse(why, "the id %llu is %s on every device", id, id ? "nobody's" : "root's");
	*out = (uint32_t)id;
	return 0;
}

int user_checks_comment(const char *comment, char why[static USER_CHECKS_WHY_MAX])
{
	if (strlen(comment) > NS_NAME_MAX)
		return refuse(why, "a comment has at most %d bytes", NS_NAME_MAX);
	for (const char *c = comment; *c; c++)
		if (*c == ':' || iscntrl((unsigned char)*c))
			return refuse(why, "a comment has neither colons nor control characters");
	return 0;
}

int user_checks_password(const char *hash, char why[static USER_CHECKS_WHY_MAX])
{
	static const char digits[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	const char *last;

	hash += *hash == '!';
	last = strrchr(hash, '$');
	/* crypt_checksalt() looks at the method alone. */
	if (strlen(hash) >= CRYPT_OUTPUT_SIZE || crypt_checksalt(hash) != CRYPT_SALT_OK || !last ||
	    strlen(last + 1) < LEAST_HASH || last[1 + strspn(last + 1, digits)] || strpbrk(hash, ": \n"))
		return refuse(why, "that is no hash of a password that crypt(3) still recommends; let nasctl ask for the "
				   "password");
	return 0;
}
