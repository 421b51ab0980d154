/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nasctl_ask.h"

#include "common/admin.h"
#include "common/bytes.h"
#include "common/nasctl_text.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void complain_unreachable(const char *path, int error)
{
	if (error == EACCES || error == EPERM)
		nasctl_complain("no permission for %s; be root, or in the group vnas", path);
	else
		nasctl_complain("can't reach vnasd at %s: %s\nIs it not running? See `systemctl status vnas-master` (a disk node: "
			 "vnas-slave), or name its socket with --socket.", path, strerror(error));
}

/* A descriptor, or negative errno. */
static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, rc;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* A failure is not looked at: vnasd may have refused the request half read, and its answer says why. */
static void send_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

		if (n < 0)
			return;
		bytes += n;
		len -= (size_t)n;
	}
}

/* Signals may cut a wait short: those of a terminal whose size changes. */
static bool receive_all(int fd, void *bytes, size_t len)
{
	for (size_t have = 0; have < len;) {
		ssize_t n = recv(fd, (char *)bytes + have, len - have, MSG_WAITALL);

		if (n == 0 || (n < 0 && errno != EINTR))
			return false;
		have += n < 0 ? 0 : (size_t)n;
	}
	return true;
}

json_t *nasctl_ask_next(int fd)
{
	uint8_t header[ADMIN_HEADER_BYTES];
	struct bytes_reader reader = bytes_reader_init(header, sizeof(header));
	json_t *answer = NULL;
	uint32_t len;
	char *text;

	if (!receive_all(fd, header, sizeof(header)))
		return NULL;
	len = bytes_get_be32(&reader);
	if (len > ADMIN_ANSWER_MAX)
		return NULL;
	text = nasctl_array_new(len, 1);
	if (receive_all(fd, text, len))
		answer = json_loadb(text, len, 0, NULL);
	free(text);
	return answer;
}

static char *request_text(int count, char *const *words)
{
	json_t *command = json_array();
	char *text = NULL;

	for (int i = 0; i < count; i++)
		if (json_array_append_new(command, json_string(words[i])) < 0) {
			nasctl_complain("\"%s\" is not UTF-8 text", words[i]);
			json_decref(command);
			return NULL;
		}
	command = json_pack("{s:o}", "command", command);
	if (command)
		text = json_dumps(command, JSON_COMPACT);
	json_decref(command);
	return text;
}

static void send_request(int fd, const char *text)
{
	uint8_t header[ADMIN_HEADER_BYTES];
	struct bytes_writer writer = bytes_writer_init(header, sizeof(header));

	bytes_put_be32(&writer, (uint32_t)strlen(text));
	send_all(fd, (const char *)header, sizeof(header));
	send_all(fd, text, strlen(text));
}

json_t *nasctl_ask_quietly(const char *socket, int count, char *const *words)
{
	char *text = request_text(count, words);
	json_t *answer = NULL;
	int fd;

	if (!text)
		return NULL;
	fd = connect_to(socket);
	if (fd >= 0) {
		send_request(fd, text);
		answer = nasctl_ask_next(fd);
		close(fd);
	}
	free(text);
	return answer;
}

json_t *nasctl_ask(const char *socket, int count, char *const *words, int *more)
{
	char *text = request_text(count, words);
	json_t *answer;
	int fd;

	*more = -1;
	if (!text)
		return NULL;
	fd = connect_to(socket);
	if (fd < 0) {
		complain_unreachable(socket, -fd);
		free(text);
		return NULL;
	}
	send_request(fd, text);
	answer = nasctl_ask_next(fd);
	if (!answer)
		nasctl_complain("vnasd gave no answer; its log may say why: journalctl -u vnas-master (a disk node: vnas-slave)");
	if (json_is_true(json_object_get(answer, "follows")))
		*more = fd;
	else
		close(fd);
	free(text);
	return answer;
}
