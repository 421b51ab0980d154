/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, an administrator or his scripts misread what vnasd says, take a failure for a success, or find a
 * command that the manual doesn't have.
 *
 * nasctl runs in a child process with its output in files; vnasd's end is a real administration socket.
 */
#include "config.h"

#include "common/admin.h"
#include "common/admin_commands.h"
#include "common/log.h"
#include "common/nasctl.h"
#include "common/nasctl_password.h"
#include "tests/unit/golden_hex.h"

#include <arpa/inet.h>
#include <check.h>
#include <crypt.h>
#include <event2/event.h>
#include <limits.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <utmp.h>

enum { OUTPUT_MAX = 1 << 16 };

static struct event_base *base;
static struct admin *admin;
static char folder[] = "/tmp/test_nasctl.XXXXXX";
static char path[sizeof(folder) + 16];

/* What the last run of nasctl wrote. */
static char output[OUTPUT_MAX], errors[OUTPUT_MAX];

/* The answer of every command, as JSON. */
static const char *canned;

static void serve(struct admin_request *request, int argc, char **argv, void *arg)
{
	json_t *answer = json_loads(canned, 0, NULL);
	const char *error = json_string_value(json_object_get(answer, "error"));
	const char *done = json_string_value(json_object_get(answer, "done"));

	(void)argc, (void)argv, (void)arg;
	ck_assert_msg(answer != NULL, "%s", canned);
	if (error)
		admin_error(request, "%s", error);
	else if (done)
		admin_done(request, "%s", done);
	else if (json_object_get(answer, "record"))
		admin_record(request, json_incref(json_object_get(answer, "record")));
	else
		admin_answer(request, json_incref(answer));
	json_decref(answer);
}

static void serve_arguments(struct admin_request *request, int argc, char **argv, void *arg)
{
	json_t *record = json_object();
	json_t *list = json_array();

	(void)arg;
	for (int i = 0; i < argc; i++)
		json_array_append_new(list, json_string(argv[i]));
	json_object_set_new(record, "got", list);
	admin_record(request, record);
}

static const struct admin_handler handlers[] = {
	{ "status", serve },
	{ "log", serve_arguments },
	{ "export set", serve_arguments },
	{ "user passwd", serve_arguments },
	{ "node list", serve },
	{ NULL, NULL },
};

static json_t *run_local(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "bad") == 0)
		return json_pack("{s:s}", "error", "no such name");
	return json_pack("{s:s+}", "done", "made cluster ", argc == 2 ? argv[1] : "");
}

static const struct nasctl_local locals[] = { { "cluster init", run_local }, { NULL, NULL } };

static void start(void)
{
	strcpy(folder, "/tmp/test_nasctl.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	sprintf(path, "%s/sock", folder);
	signal(SIGPIPE, SIG_IGN);
	log_open(LOG_LEVEL_ERR);
	base = event_base_new();
	ck_assert_int_eq(admin_new(base, path, handlers, NULL, &admin), 0);
	setenv("VNAS_SOCKET", path, 1);
	setenv("TZ", "UTC", 1);
	tzset();
}

static void stop(void)
{
	admin_free(admin);
	event_base_free(base);
	ck_assert_int_eq(rmdir(folder), 0);
}

static void read_back(FILE *file, char text[static OUTPUT_MAX])
{
	ssize_t len = pread(fileno(file), text, OUTPUT_MAX - 1, 0);

	ck_assert_int_ge(len, 0);
	text[len] = '\0';
	fclose(file);
}

/* What nasctl reads, if it does. */
static const char *typed = "";
static size_t typed_len; /* 0: as a string */

/* Of nasctl with the arguments in @line, separated by blanks. */
static int exit_status(const char *line)
{
	FILE *out = tmpfile(), *err = tmpfile(), *in = tmpfile();
	char *argv[32] = { "nasctl" }, *words = strdup(line), *rest;
	int argc = 1, status;
	pid_t child;

	for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		argv[argc++] = word;
	fwrite(typed, 1, typed_len ? typed_len : strlen(typed), in);
	rewind(in);
	fflush(NULL);
	child = fork();
	if (child == 0) {
		dup2(fileno(in), STDIN_FILENO);
		dup2(fileno(out), STDOUT_FILENO);
		dup2(fileno(err), STDERR_FILENO);
		status = nasctl_main(argc, argv, locals);
		fflush(NULL);
		_exit(status);
	}
	while (waitpid(child, &status, WNOHANG) == 0) {
		struct timeval moment = { .tv_usec = 1000 };

		event_base_loopexit(base, &moment);
		event_base_dispatch(base);
	}
	read_back(out, output);
	read_back(err, errors);
	fclose(in);
	free(words);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static const struct {
	const char *arguments, *answer;
	int status;
	const char *output, *errors;
} answers[] = {
	{ "status", "{\"done\": \"it is \\\"so\\\"\\u001b[2J\"}", 0, "it is \"so\"?[2J\n", "" },
	{ "--json status", "{\"done\": \"so\"}", 0, "{\n  \"done\": \"so\"\n}\n", "" },
	{ "status", "{\"error\": \"disk a: full\\n\"}", 1, "", "nasctl: disk a: full?\n" },
	{ "status --json", "{\"error\": \"disk a: full\"}", 1, "", "nasctl: disk a: full\n" },
	{ "status",
	  "{\"columns\": [{\"name\": \"name\", \"title\": \"Name\"}, {\"name\": \"used_bytes\", \"title\": \"Used\"},"
	  "{\"name\": \"up\", \"title\": \"Up\"}, {\"name\": \"note\", \"title\": \"A note\"}], \"rows\": ["
	  "{\"name\": \"a\", \"used_bytes\": 1258291, \"up\": true, \"note\": \"x\\ty\"},"
	  "{\"name\": \"l\xc3\xa4nger\", \"used_bytes\": 5, \"up\": false, \"note\": null},"
	  "{\"name\": \"c\"}]}", 0,
	  "Name       Used  Up   A note\n"
	  "a       1.2 MiB  yes  x?y\n"
	  "l\xc3\xa4nger      5 B  no   -\n"
	  "c             -  -    -\n", "" },
	{ "status", "{\"columns\": [{\"name\": \"a\", \"title\": \"A\"}], \"rows\": []}", 0, "A\n", "" },
	{ "--json status",
	  "{\"columns\": [{\"name\": \"a\", \"title\": \"A\"}], \"rows\": [{\"a\": 1, \"b_bytes\": 2048}]}", 0,
	  "[\n  {\n    \"a\": 1,\n    \"b_bytes\": 2048\n  }\n]\n", "" },
	{ "--json status", "{\"columns\": [], \"rows\": []}", 0, "[]\n", "" },
	{ "status",
	  "{\"record\": {\"name\": \"a\", \"round_trip_us\": 1234, \"up_since_ns\": 1700000000000000000, \"load\": 0.25,"
	  "\"vips\": [\"10.0.0.1\", \"fd00::1\"], \"peers\": [], \"limits\": {\"free_bytes\": 1024, \"of\": {}},"
	  "\"volumes\": [{\"place\": \"/disk1\", \"size_bytes\": 1073741824}, {\"place\": \"/d\", \"state\": \"gone\"}]}}", 0,
	  "name: a\n"
	  "round trip: 1.2 ms\n"
	  "up since: 2023-11-14 22:13:20\n"
	  "load: 0.2\n"
	  "vips: 10.0.0.1, fd00::1\n"
	  "peers: none\n"
	  "limits:\n"
	  "  free: 1.0 KiB\n"
	  "  of: none\n"
	  "volumes:\n"
	  "  place      size  state\n"
	  "  /disk1  1.0 GiB  -\n"
	  "  /d            -  gone\n", "" },
	{ "status --json", "{\"record\": {\"name\": \"a\", \"free_bytes\": 1024}}", 0,
	  "{\n  \"name\": \"a\",\n  \"free_bytes\": 1024\n}\n", "" },
	{ "status", "{\"new kind\": 1}", 1, "",
	  "nasctl: vnasd gave an answer that this nasctl doesn't know; are they of the same version?\n" },
};

START_TEST(answer_is_printed)
{
	canned = answers[_i].answer;
	ck_assert_int_eq(exit_status(answers[_i].arguments), answers[_i].status);
	ck_assert_str_eq(output, answers[_i].output);
	ck_assert_str_eq(errors, answers[_i].errors);
}
END_TEST

static const struct {
	const char *name, *value, *text;
} values[] = {
	{ "a_bytes", "0", "0 B" },
	{ "a_bytes", "1023", "1023 B" },
	{ "a_bytes", "1024", "1.0 KiB" },
	{ "a_bytes", "1048575", "1.0 MiB" },
	{ "a_bytes", "9223372036854775807", "8.0 EiB" },
	{ "a_bytes", "\"unknown\"", "unknown" },
	{ "a_us", "999", "999 us" },
	{ "a_us", "1000", "1.0 ms" },
	{ "a_us", "999949", "999.9 ms" },
	{ "a_us", "999950", "1.0 s" },
	{ "a_us", "[1, 2000]", "1 us, 2.0 ms" },
	{ "a_ns", "0", "-" },
	{ "a_ns", "1000000000", "1970-01-01 00:00:01" },
};

START_TEST(value_has_its_unit)
{
	char record[256], line[256];

	snprintf(record, sizeof(record), "{\"record\": {\"%s\": %s}}", values[_i].name, values[_i].value);
	canned = record;
	ck_assert_int_eq(exit_status("status"), 0);
	snprintf(line, sizeof(line), "a: %s\n", values[_i].text);
	ck_assert_str_eq(output, line);
}
END_TEST

static const struct {
	const char *arguments;
	int status;
	const char *output, *errors; /* parts of them */
} lines[] = {
	{ "", 2, "Usage: nasctl", "" },
	{ "help", 0, "cluster token [--pending] [--lifetime MINUTES]", "" },
	{ "--help", 0, "Usage: nasctl", "" },
	{ "help volume move", 0, "  volume move VOLUME PLACE  show", "" },
	{ "volume move --help", 0, "  volume move VOLUME PLACE  show", "" },
	{ "volume move 3 /p --help", 0, "  volume move VOLUME PLACE  show", "" },
	{ "volume --help", 0, "  volume remove VOLUME         stop", "" },
	{ "help nonsense", 2, "", "there is no command \"nonsense\"; see `nasctl help`" },
	{ "--version", 0, "nasctl ", "" },
	{ "stauts", 2, "", "there is no command \"stauts\"; did you mean \"status\"?" },
	{ "volme list", 2, "", "there is no command \"volme list\"; did you mean \"volume list\"?" },
	{ "hndoff 1-2a 3", 2, "", "did you mean \"handoff\"?" },
	{ "node", 2, "", "  node approve NODE" },
	{ "--jsn status", 2, "", "there is no command \"--jsn status\"" },
	{ "--socket", 2, "", "there is no command \"--socket\"" },
	{ "volume add 3", 2, "", "Usage: nasctl volume add NODE DIR [PLACE]\n" },
	{ "status now", 2, "", "Usage: nasctl status\n" },
	{ "stop", 1, "", "stop: not on this kind of device" },
	{ "log", 0, "got: none\n", "" },
	{ "log -n 5", 0, "got: -n, 5\n", "" },
	{ "log -n -- --json", 0, "got: -n, --json\n", "" },
	{ "export set /a b c d", 0, "got: /a, b, c, d\n", "" },
	{ "export set /a \xff", 1, "", "is not UTF-8 text" },
	{ "cluster init", 0, "made cluster \n", "" },
	{ "cluster init --name x", 0, "made cluster x\n", "" },
	{ "cluster init --name bad", 1, "", "nasctl: no such name\n" },
	{ "--socket=/nowhere/sock cluster init", 0, "made cluster", "" },
	{ "--socket /nowhere/sock status", 1, "",
	  "can't reach vnasd at /nowhere/sock: No such file or directory\nIs it not running? See `systemctl status "
	  "vnas-master` (a disk node: vnas-slave), or name its socket with --socket." },
};

START_TEST(line_is_understood)
{
	ck_assert_int_eq(exit_status(lines[_i].arguments), lines[_i].status);
	ck_assert_msg(strstr(output, lines[_i].output) != NULL, "%s", output);
	ck_assert_msg(strstr(errors, lines[_i].errors) != NULL, "%s", errors);
	ck_assert_msg(*lines[_i].errors || !*errors, "%s", errors);
	ck_assert_msg(*lines[_i].output || !*output, "%s", output);
}
END_TEST

/* vnasd gets its hash; the password is nowhere. */
START_TEST(password_is_hashed)
{
	char *hash;

	typed = "correct horse\n";
	ck_assert_int_eq(exit_status("user passwd anna"), 0);
	ck_assert_ptr_nonnull(strstr(output, "got: anna, $y$"));
	hash = strstr(output, "$y$");
	hash[strcspn(hash, "\n")] = '\0';
	ck_assert_str_eq(crypt("correct horse", hash), hash);
	ck_assert_str_ne(crypt("correct hors", hash), hash);
}
END_TEST

static const struct {
	const char *arguments, *typed;
	int status;
	const char *output, *errors; /* parts of them */
} passwords[] = {
	{ "user passwd anna --lock", "", 0, "got: anna, --lock\n", "" },
	{ "user passwd anna $y$hash", "", 0, "got: anna, $y$hash\n", "" },
	{ "user passwd anna", "", 1, "", "no password was given; the password was not changed" },
	{ "user passwd anna", "\n", 1, "", "at least one character" },
	{ "user passwd anna",
	  "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
	  "01234567890123456789012345678\n", 1, "", "at most 128 characters" },
};

START_TEST(password_is_asked_for)
{
	typed = passwords[_i].typed;
	ck_assert_int_eq(exit_status(passwords[_i].arguments), passwords[_i].status);
	ck_assert_msg(strstr(output, passwords[_i].output) != NULL, "%s", output);
	ck_assert_msg(strstr(errors, passwords[_i].errors) != NULL, "%s", errors);
}
END_TEST

/* A sanitizer sees who looks for the end of the line before its beginning. */
static bool shows_what_is_typed(int terminal)
{
	struct termios now;

	ck_assert_int_eq(tcgetattr(terminal, &now), 0);
	return now.c_lflag & ECHO;
}

/* Whoever thinks better of it, and presses Ctrl-C, sees what he types next. */
START_TEST(password_is_given_up)
{
	int terminal, other_end, status;
	pid_t child;

	ck_assert_int_eq(openpty(&terminal, &other_end, NULL, NULL, NULL), 0); /* which stays open, or its modes would go */
	child = fork();
	if (child == 0) {
		login_tty(other_end);
		_exit(nasctl_password_ask() ? 0 : 1);
	}
	while (shows_what_is_typed(terminal))
		usleep(1000);
	ck_assert_int_eq(write(terminal, "secr\x03", 5), 5);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
	ck_assert(shows_what_is_typed(terminal));
	close(other_end);
	close(terminal);
}
END_TEST

START_TEST(password_begins_with_zero)
{
	typed = "\0\n";
	typed_len = 2;
	ck_assert_int_eq(exit_status("user passwd anna"), 1);
	ck_assert_ptr_nonnull(strstr(errors, "at least one character"));
}
END_TEST

START_TEST(long_request_is_refused)
{
	char *line = malloc(ADMIN_REQUEST_MAX + 100);

	strcpy(line, "export set /a ");
	memset(line + strlen(line), 'x', ADMIN_REQUEST_MAX);
	line[ADMIN_REQUEST_MAX] = '\0';
	ck_assert_int_eq(exit_status(line), 1);
	ck_assert_str_eq(errors, "nasctl: a request has at most 4194304 bytes\n");
	free(line);
}
END_TEST

/* vnasd died, or something else has the socket. */
static const struct {
	const char *bytes;
	size_t len;
} broken[] = {
	{ "", 0 }, { "\0\0", 2 }, { "\0\0\0\5{", 5 }, { "\xff\xff\xff\xff", 4 }, { "\0\0\0\3{\"a", 7 }, { "\0\0\0\0", 4 },
};

static void serve_broken(int listener, const char *bytes, size_t len)
{
	char request[256];
	int fd = accept(listener, NULL, NULL);

	ck_assert_int_gt(recv(fd, request, sizeof(request), 0), 0);
	ck_assert_int_eq(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
	close(fd);
}

/* A socket beside the real one. */
static int listen_beside(struct sockaddr_un *address)
{
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(address->sun_path, sizeof(address->sun_path), "%s/beside", folder);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)address, sizeof(*address)), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	return listener;
}

/* An answer that goes on, as vnasd sends it. */
static void send_messages(int listener, const char *const *messages)
{
	char request[256];
	int fd = accept(listener, NULL, NULL);

	ck_assert_int_gt(recv(fd, request, sizeof(request), 0), 0);
	for (; *messages; messages++) {
		uint32_t len = htonl((uint32_t)strlen(*messages));

		ck_assert_int_eq(send(fd, &len, sizeof(len), MSG_NOSIGNAL), sizeof(len));
		ck_assert_int_eq(send(fd, *messages, strlen(*messages), MSG_NOSIGNAL), (ssize_t)strlen(*messages));
	}
	close(fd);
}

#define FOLLOWS "{\"columns\": [{\"name\": \"at_bytes\", \"title\": \"At\"}, {\"name\": \"line\", \"title\": \"Line\"}], " \
		"\"rows\": [{\"at_bytes\": 1048576, \"line\": \"a\"}], \"follows\": true}"

static const struct {
	const char *arguments, *messages[5], *output, *errors;
} followed[] = {
	{ "status", { FOLLOWS, "{\"rows\": [{\"at_bytes\": 1, \"line\": \"b\"}, {\"at_bytes\": 2, \"line\": \"c\"}]}" },
	  "     At  Line\n1.0 MiB  a\n    1 B  b\n    2 B  c\n",
	  "nasctl: vnasd says no more: it was stopped, or has dropped a reader that was too slow\n" },
	{ "status", { FOLLOWS, "{\"rows\": [{\"at_bytes\": 1, \"line\": \"b\"}], \"missed\": 7}", "{\"error\": \"disk2 is gone\"}" },
	  "     At  Line\n1.0 MiB  a\n(7 more are not there any more)\n    1 B  b\n", "nasctl: disk2 is gone\n" },
	{ "status --json", { FOLLOWS, "{\"rows\": [{\"at_bytes\": 1, \"line\": \"b\"}], \"missed\": 7}", "{\"error\": \"gone\"}" },
	  "{\"at_bytes\":1048576,\"line\":\"a\"}\n{\"missed\":7}\n{\"at_bytes\":1,\"line\":\"b\"}\n", "nasctl: gone\n" },
};

START_TEST(following_answer_is_printed)
{
	struct sockaddr_un address;
	int listener = listen_beside(&address);
	char line[256];
	pid_t child;

	child = fork();
	if (child == 0) {
		send_messages(listener, followed[_i].messages);
		_exit(0);
	}
	snprintf(line, sizeof(line), "%s --socket %s", followed[_i].arguments, address.sun_path);
	ck_assert_int_eq(exit_status(line), 1);
	ck_assert_str_eq(output, followed[_i].output);
	ck_assert_str_eq(errors, followed[_i].errors);
	waitpid(child, NULL, 0);
	close(listener);
	unlink(address.sun_path);
}
END_TEST

START_TEST(broken_answer_is_a_failure)
{
	struct sockaddr_un address;
	int listener = listen_beside(&address);
	char line[256];
	pid_t child;

	child = fork();
	if (child == 0) {
		serve_broken(listener, broken[_i].bytes, broken[_i].len);
		_exit(0);
	}
	snprintf(line, sizeof(line), "status --socket %s", address.sun_path);
	ck_assert_int_eq(exit_status(line), 1);
	ck_assert_ptr_nonnull(strstr(errors, "vnasd gave no answer"));
	waitpid(child, NULL, 0);
	close(listener);
	unlink(address.sun_path);
}
END_TEST

/* Answers with what a vnasd once said; what it was asked goes into @asked. Return: 0 if all went well */
static int serve_golden(int listener, int asked)
{
	uint8_t request[ADMIN_HEADER_BYTES + ADMIN_REQUEST_MAX], answer[GOLDEN_HEX_MAX];
	ssize_t answer_len = (ssize_t)golden_hex_read("admin_answer", answer);
	int fd = accept(listener, NULL, NULL);
	size_t len;

	if (recv(fd, request, ADMIN_HEADER_BYTES, MSG_WAITALL) != ADMIN_HEADER_BYTES ||
	    admin_header_decode(request, &len) ||
	    recv(fd, request + ADMIN_HEADER_BYTES, len, MSG_WAITALL) != (ssize_t)len)
		return 1;
	len += ADMIN_HEADER_BYTES;
	return write(asked, request, len) != (ssize_t)len ||
	       send(fd, answer, (size_t)answer_len, MSG_NOSIGNAL) != answer_len;
}

/* The other half is in tests/unit/test_admin.c: nasctl of one version and vnasd of another understand each other. */
START_TEST(messages_are_golden)
{
	struct sockaddr_un address;
	int listener = listen_beside(&address), status;
	FILE *asked = tmpfile();
	uint8_t request[GOLDEN_HEX_MAX];
	ssize_t len;
	char line[256];
	pid_t child;

	child = fork();
	if (child == 0)
		_exit(serve_golden(listener, fileno(asked)));
	snprintf(line, sizeof(line), "volume add disk7 /srv/a --socket %s", address.sun_path);
	ck_assert_int_eq(exit_status(line), 0);
	ck_assert_str_eq(output, "2 arguments, first=disk7 last=/srv/a\n");
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	len = pread(fileno(asked), request, sizeof(request), 0);
	ck_assert_int_ge(len, 0);
	golden_hex_check("admin_request", request, (size_t)len);
	fclose(asked);
	close(listener);
	unlink(address.sun_path);
}
END_TEST

START_TEST(full_disk_is_a_failure)
{
	int status;

	canned = "{\"done\": \"so\"}";
	fflush(NULL);
	if (fork() == 0) {
		char *argv[] = { "nasctl", "cluster", "init", NULL };

		ck_assert_ptr_nonnull(freopen("/dev/full", "w", stdout));
		ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr));
		_exit(nasctl_main(3, argv, locals));
	}
	ck_assert_int_gt(wait(&status), 0);
	ck_assert_int_eq(WEXITSTATUS(status), 1);
}
END_TEST

/* One word to a line, with an end of line in front. */
static bool is_completed(const char *words, const char *wanted)
{
	char line[256], found[256];

	snprintf(line, sizeof(line), "complete -- %s", words);
	snprintf(found, sizeof(found), "\n%s\n", wanted);
	ck_assert_int_eq(exit_status(line), 0);
	ck_assert_str_eq(errors, "");
	memmove(output + 1, output, strlen(output) + 1);
	output[0] = '\n';
	return strstr(output, found) != NULL;
}

/* Each word of each command, by those in front of it; and none of another. */
START_TEST(commands_are_completed)
{
	for (size_t i = 0; i < ADMIN_COMMAND_COUNT; i++) {
		char words[128], *word = words;

		strcpy(words, admin_commands[i].name);
		while (*word) {
			char end, before[128];
			size_t len = strcspn(word, " ");

			end = word[len];
			word[len] = '\0';
			snprintf(before, sizeof(before), "%.*s", (int)(word - words), words);
			ck_assert_msg(is_completed(before, word), "\"%s\" behind \"%s\"", word, before);
			word[len] = end;
			word += len + (end == ' ');
		}
	}
	ck_assert(!is_completed("node", "token"));
	ck_assert(!is_completed("", "token"));
}
END_TEST

static const struct {
	const char *words, *completion; /* NULL: none at all */
} completions[] = {
	{ "node show", "disk-a" },
	{ "node show disk-a", NULL },
	{ "handoff 1-2a", "disk-a" },
	{ "handoff 1-2a", "--kind" },
	{ "handoff 1-2a disk-a --kind", "to-client" },
	{ "handoff --kind full 1-2a", "disk-a" },
	{ "handoff 1-2a disk-a", "--kind" },
	{ "cluster token --lifetime", NULL },
	{ "cluster token --lifetime 5", "--pending" },
	{ "user passwd anna", "--lock" },
	{ "nonsense", NULL },
	{ "node nonsense", NULL },
};

START_TEST(arguments_are_completed)
{
	canned = "{\"columns\": [{\"name\": \"name\", \"title\": \"Name\"}],"
		 " \"rows\": [{\"name\": \"switch\"}, {\"name\": \"disk-a\"}]}";
	if (completions[_i].completion)
		ck_assert_msg(is_completed(completions[_i].words, completions[_i].completion), "%s", output);
	else
		ck_assert_msg(!is_completed(completions[_i].words, "") && strcmp(output, "\n") == 0, "%s", output);
}
END_TEST

/* Without vnasd there are no names, and no noise in the shell. */
START_TEST(completion_needs_no_daemon)
{
	setenv("VNAS_SOCKET", "/nowhere/sock", 1);
	ck_assert(is_completed("node", "show"));
	ck_assert(!is_completed("node show", "disk-a"));
}
END_TEST

static const char *man_page(void)
{
	static char text[OUTPUT_MAX];
	const char *srcdir = getenv("srcdir");
	char name[PATH_MAX];
	FILE *in;

	snprintf(name, sizeof(name), "%s/docs/man/nasctl.8", srcdir ? srcdir : ".");
	in = fopen(name, "r");
	ck_assert_msg(in != NULL, "%s: %m", name);
	text[fread(text, 1, sizeof(text) - 1, in)] = '\0';
	fclose(in);
	return text;
}

/* In the page, a dash of an option is "\-" and an argument is in italics: both are taken out. */
static char *plain(const char *page)
{
	char *text = strdup(page), *out = text;

	for (const char *p = page; *p;) {
		if (strncmp(p, "\\fI", 3) == 0 || strncmp(p, "\\fR", 3) == 0)
			p += 3;
		else if (*p == '\\')
			p++;
		else
			*out++ = *p++;
	}
	*out = '\0';
	return text;
}

START_TEST(commands_are_documented)
{
	char *page = plain(man_page()), entry[256];

	ck_assert_int_eq(exit_status("help"), 0);
	for (size_t i = 0; i < ADMIN_COMMAND_COUNT; i++) {
		const char *arguments = admin_commands[i].arguments;

		snprintf(entry, sizeof(entry), "\n.B %s%s%s\n", admin_commands[i].name, *arguments ? " " : "", arguments);
		ck_assert_msg(strstr(page, entry) != NULL, "nasctl(8) has no%s", entry);
		snprintf(entry, sizeof(entry), "\n  %s%s%s  ", admin_commands[i].name, *arguments ? " " : "", arguments);
		ck_assert_msg(strstr(output, entry) != NULL, "nasctl help has no%s", entry);
		ck_assert_msg(strstr(output, admin_commands[i].help) != NULL, "%s", admin_commands[i].help);
	}
	free(page);
}
END_TEST

/* "status" for ".B status", if it is a command; "" if the line is something else. */
static const char *entry_of(const char *line)
{
	return strncmp(line, ".B ", 3) == 0 ? line + 3 : "";
}

static bool is_command(const char *entry)
{
	char known[256];

	for (size_t i = 0; i < ADMIN_COMMAND_COUNT; i++) {
		const char *arguments = admin_commands[i].arguments;

		snprintf(known, sizeof(known), "%s%s%s", admin_commands[i].name, *arguments ? " " : "", arguments);
		if (strcmp(known, entry) == 0)
			return true;
	}
	return false;
}

/* Each paragraph of the section COMMANDS begins with one; what is between .RS and .RE explains a paragraph. */
START_TEST(documented_commands_exist)
{
	char *page = plain(man_page()), *rest, *begin = strstr(page, "\n.SH COMMANDS\n"), *end = strstr(begin + 1, "\n.SH ");
	bool is_paragraph = false;
	size_t commands = 0;
	int depth = 0;

	ck_assert_ptr_nonnull(end);
	*end = '\0';
	for (char *line = strtok_r(begin, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		depth += (strcmp(line, ".RS") == 0) - (strcmp(line, ".RE") == 0);
		if (is_paragraph && depth == 0) {
			ck_assert_msg(is_command(entry_of(line)), "nasctl(8) has \"%s\", which is no command", line);
			commands++;
		}
		is_paragraph = strcmp(line, ".TP") == 0;
	}
	ck_assert_uint_eq(commands, ADMIN_COMMAND_COUNT);
	free(page);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nasctl");
	TCase *tcase = tcase_create("nasctl");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, tcase);
	tcase_add_checked_fixture(tcase, start, stop);
	tcase_add_loop_test(tcase, answer_is_printed, 0, sizeof(answers) / sizeof(answers[0]));
	tcase_add_loop_test(tcase, value_has_its_unit, 0, sizeof(values) / sizeof(values[0]));
	tcase_add_loop_test(tcase, line_is_understood, 0, sizeof(lines) / sizeof(lines[0]));
	tcase_add_test(tcase, password_is_hashed);
	tcase_add_test(tcase, password_begins_with_zero);
	tcase_add_test(tcase, password_is_given_up);
	tcase_add_loop_test(tcase, password_is_asked_for, 0, sizeof(passwords) / sizeof(passwords[0]));
	tcase_add_test(tcase, long_request_is_refused);
	tcase_add_loop_test(tcase, broken_answer_is_a_failure, 0, sizeof(broken) / sizeof(broken[0]));
	tcase_add_loop_test(tcase, following_answer_is_printed, 0, sizeof(followed) / sizeof(followed[0]));
	tcase_add_test(tcase, messages_are_golden);
	tcase_add_test(tcase, full_disk_is_a_failure);
	tcase_add_test(tcase, commands_are_completed);
	tcase_add_loop_test(tcase, arguments_are_completed, 0, sizeof(completions) / sizeof(completions[0]));
	tcase_add_test(tcase, completion_needs_no_daemon);
	tcase_add_test(tcase, commands_are_documented);
	tcase_add_test(tcase, documented_commands_exist);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
