/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nasctl_password.h"

#include <crypt.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* With its end of line and its zero. */
enum { LINE_BYTES = NASCTL_PASSWORD_MAX + 2 };

static int refuse(const char *why)
{
	fprintf(stderr, "nasctl: %s; the password was not changed\n", why);
	return -EINVAL;
}

static int read_line(char line[static LINE_BYTES])
{
	size_t len;

	if (!fgets(line, LINE_BYTES, stdin))
		return refuse("no password was given");
	len = strlen(line);
	if (len == LINE_BYTES - 1 && line[len - 1] != '\n')
		return refuse("a password has at most 128 characters");
	line[strcspn(line, "\n")] = '\0';
	return *line ? 0 : refuse("a password has at least one character");
}

/* The terminal as it was; for whoever ends this program while it is different. */
static struct termios seen;

static const int ends[] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP };
enum { ENDS = sizeof(ends) / sizeof(ends[0]) };

/* Both calls may be made in a handler: signal-safety(7). The handler was for one time. */
static void on_end(int number)
{
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &seen);
	raise(number);
}

/* What is ignored stays so. @before: out: for restore_ends() */
static void catch_ends(struct sigaction before[static ENDS])
{
	const struct sigaction caught = { .sa_handler = on_end, .sa_flags = SA_RESETHAND };

	for (size_t i = 0; i < ENDS; i++)
		if (sigaction(ends[i], NULL, &before[i]) == 0 && before[i].sa_handler != SIG_IGN)
			sigaction(ends[i], &caught, NULL);
}

static void restore_ends(const struct sigaction before[static ENDS])
{
	for (size_t i = 0; i < ENDS; i++)
		sigaction(ends[i], &before[i], NULL);
}

/* One line from the terminal, unseen. */
static int read_unseen(const char *prompt, char line[static LINE_BYTES])
{
	struct sigaction before[ENDS];
	struct termios unseen;
	int rc = -EIO;

	if (tcgetattr(STDIN_FILENO, &seen) < 0)
		return -EIO;
	unseen = seen;
	unseen.c_lflag &= ~(tcflag_t)ECHO;
	catch_ends(before);
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &unseen) == 0) {
		fputs(prompt, stderr);
		rc = read_line(line);
		fputc('\n', stderr);
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &seen);
	}
	restore_ends(before);
	return rc;
}

static int read_twice(char password[static LINE_BYTES])
{
	char again[LINE_BYTES] = "";
	int rc = read_unseen("New password: ", password);

	if (rc == 0)
		rc = read_unseen("The same again: ", again);
	if (rc == 0 && strcmp(password, again) != 0)
		rc = refuse("they are not the same");
	explicit_bzero(again, sizeof(again));
	return rc;
}

/* NULL: it can't be made */
static char *make_hash(const char *password)
{
	char setting[CRYPT_GENSALT_OUTPUT_SIZE], *hash = NULL;
	struct crypt_data data = { 0 };

	/* NULL: the preferred method, with random bytes of the kernel's. */
	if (crypt_gensalt_rn(NULL, 0, NULL, 0, setting, sizeof(setting)) &&
	    crypt_rn(password, setting, &data, sizeof(data)))
		hash = strdup(data.output);
	explicit_bzero(&data, sizeof(data));
	return hash;
}

char *nasctl_password_ask(void)
{
	char password[LINE_BYTES] = "", *hash = NULL;
	int rc = isatty(STDIN_FILENO) ? read_twice(password) : read_line(password);

	if (rc == 0)
		hash = make_hash(password);
	if (rc == -EIO || (rc == 0 && !hash))
		perror("nasctl: the password can't be read or hashed");
	explicit_bzero(password, sizeof(password));
	return hash;
}
