/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/admin.h"

#include "common/admin_commands.h"
#include "common/bytes.h"
#include "common/log.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 16, PATIENCE_S = 30, ACCEPT_AGAIN_S = 1, STREAM_PATIENCE_S = 600, STREAM_LOOK_MS = 200 };

/*
 * A connection reads one request, waits for its answer, writes that and is closed:
 *
 *	reading ---- request whole ----> waiting ---- answered ----> writing ----> closed
 *	   |                                |                           |            ^
 *	   +-- not a request: writing       +----- nasctl has gone -----+------------+
 *	                                    |                                        |
 *	                                    +-- answer goes on --> streaming --------+
 *
 * Streaming, the source is asked for a message whenever all before it has left for the kernel: when it has, and each
 * STREAM_LOOK_MS. So what waits for a reader is one message at most, however slow he is.
 * Its request outlives it if nasctl goes while a handler works: request->connection is NULL then.
 */
struct connection {
	struct admin *admin;
	struct bufferevent *stream;
	struct admin_request *request; /* NULL but in waiting */
	bool is_answered;
	const struct admin_source *source; /* NULL but in streaming */
	void *state;			   /* its */
	LIST_ENTRY(connection) link;
};

enum { SAID_MAX = 256 };

struct admin_request {
	struct connection *connection; /* NULL: nasctl has gone */
	struct admin *admin;	       /* NULL: that has gone, too */
	LIST_ENTRY(admin_request) link;
	bool is_told; /* of, when it is answered */
	uid_t uid;
	char said[SAID_MAX]; /* the command, as far as it may be told */
};

struct admin {
	struct event_base *base;
	struct evconnlistener *listener;
	struct event *accept_again; /* after accept(2) failed, for lack of descriptors most likely */
	const struct admin_handler *handlers;
	void *arg;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	LIST_HEAD(, connection) connections;
	LIST_HEAD(, admin_request) requests;
	void (*watch)(const struct admin_deed *deed, void *arg); /* or NULL */
	void *watch_arg;
	unsigned int connection_count, stream_count;
	struct event *look; /* for what streams have to say; pending while there are any */
};

/* Commands */

static const char *next_word(const char *text, size_t *len)
{
	text += strspn(text, " ");
	*len = strcspn(text, " ");
	return *len ? text : NULL;
}

/* How many words @name has, if @words begin with them; else 0. */
static int match_name(const char *name, int count, char *const *words)
{
	size_t len;
	int n = 0;

	for (; (name = next_word(name, &len)); name += len, n++)
		if (n == count || strlen(words[n]) != len || strncmp(words[n], name, len) != 0)
			return 0;
	return n;
}

const struct admin_command *admin_command_find(int count, char *const *words, int *name_words)
{
	for (size_t i = 0; i < ADMIN_COMMAND_COUNT; i++) {
		*name_words = match_name(admin_commands[i].name, count, words);
		if (*name_words)
			return &admin_commands[i];
	}
	return NULL;
}

bool admin_command_takes(const struct admin_command *command, int argc)
{
	int least = 0, most = 0;
	bool is_optional = false, is_open = false;
	size_t len;

	for (const char *word = command->arguments; (word = next_word(word, &len)); word += len) {
		is_optional |= *word == '[';
		least += !is_optional;
		most++;
		if (word[len - 1] == ']')
			is_optional = false;
		is_open |= len > 3 && strncmp(word + len - 3, "...", 3) == 0;
	}
	return argc >= least && (argc <= most || is_open);
}

static const struct admin_command *find_command(const char *name)
{
	for (size_t i = 0; i < ADMIN_COMMAND_COUNT; i++)
		if (strcmp(admin_commands[i].name, name) == 0)
			return &admin_commands[i];
	return NULL;
}

static admin_function find_function(const struct admin *admin, const struct admin_command *command)
{
	for (const struct admin_handler *handler = admin->handlers; handler->command; handler++)
		if (strcmp(handler->command, command->name) == 0)
			return handler->function;
	return NULL;
}

/* Requests */

int admin_header_decode(const uint8_t header[static ADMIN_HEADER_BYTES], size_t *len)
{
	struct bytes_reader reader = bytes_reader_init(header, ADMIN_HEADER_BYTES);
	uint32_t said = bytes_get_be32(&reader);

	if (said > ADMIN_REQUEST_MAX)
		return -EMSGSIZE;
	*len = said;
	return 0;
}

static bool is_command(const json_t *command)
{
	const json_t *word;
	size_t i;

	if (json_array_size(command) == 0 || json_array_size(command) > ADMIN_WORDS_MAX)
		return false;
	json_array_foreach(command, i, word)
		if (!json_is_string(word))
			return false;
	return true;
}

int admin_words_decode(const char *text, size_t len, struct admin_words *out)
{
	json_error_t error;
	json_t *message = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	const json_t *command = json_object_get(message, "command"), *word;
	size_t i;

	if (!is_command(command)) {
		json_decref(message);
		return -EBADMSG;
	}
	json_array_foreach(command, i, word)
		out->words[i] = (char *)json_string_value(word);
	out->count = (int)i;
	out->message = message;
	return 0;
}

void admin_words_fini(struct admin_words *words)
{
	json_decref(words->message);
}

/* Connections */

static void stream_end(struct connection *connection);
static void stream_go_on(struct connection *connection);

/* The request, if a handler still has it, goes on without a connection. */
static void connection_close(struct connection *connection)
{
	if (connection->request)
		connection->request->connection = NULL;
	if (connection->source)
		stream_end(connection);
	LIST_REMOVE(connection, link);
	connection->admin->connection_count--;
	bufferevent_free(connection->stream);
	free(connection);
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
	(void)stream, (void)what; /* the end of the stream, an error, or out of patience */
	connection_close(arg);
}

static void on_written(struct bufferevent *stream, void *arg)
{
	struct connection *connection = arg;

	(void)stream;
	if (connection->source)
		stream_go_on(connection);
	else if (connection->is_answered)
		connection_close(connection);
}

json_t *admin_rows(json_t *rows, uint64_t missed)
{
	if (json_array_size(rows) == 0 && missed == 0) {
		json_decref(rows);
		return NULL;
	}
	return json_pack("{s:o, s:I}", "rows", rows, "missed", (json_int_t)missed);
}

json_t *admin_text(const char *text)
{
	json_t *string = json_string(text);
	char *plain;

	if (string)
		return string;
	plain = strdup(text);
	for (char *p = plain; p && *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	string = plain ? json_string(plain) : NULL;
	free(plain);
	return string;
}

static void connection_write(struct connection *connection, const char *text)
{
	uint8_t header[ADMIN_HEADER_BYTES];
	struct bytes_writer writer = bytes_writer_init(header, sizeof(header));
	struct timeval patience = { .tv_sec = connection->source ? STREAM_PATIENCE_S : PATIENCE_S };
	size_t len = strlen(text);

	bytes_put_be32(&writer, (uint32_t)len);
	connection->is_answered = true;
	bufferevent_set_timeouts(connection->stream, NULL, &patience);
	bufferevent_write(connection->stream, header, sizeof(header));
	bufferevent_write(connection->stream, text, len);
}

/* Takes @answer. */
static void connection_answer(struct connection *connection, json_t *answer)
{
	char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;

	connection_write(connection, text && strlen(text) <= ADMIN_ANSWER_MAX ?
				     text : "{\"error\": \"the answer is too large, or has no memory\"}");
	free(text);
	json_decref(answer);
}

static void __attribute__((format(printf, 2, 3)))
connection_refuse(struct connection *connection, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	connection_answer(connection, json_pack("{s:o}", "error", admin_text(text)));
}

/* Requests and who watches them */

static uid_t peer_of(const struct connection *connection)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(peer);

	getsockopt(bufferevent_getfd(connection->stream), SOL_SOCKET, SO_PEERCRED, &peer, &len);
	return peer.uid;
}

static struct admin_request *request_new(struct connection *connection, const struct admin_command *command, int argc,
					 char *const *argv)
{
	struct admin_request *request = calloc(1, sizeof(*request));
	size_t len;

	if (!request)
		return NULL;
	request->connection = connection;
	request->admin = connection->admin;
	request->is_told = command->effect != ADMIN_QUIET;
	request->uid = peer_of(connection);
	len = (size_t)snprintf(request->said, sizeof(request->said), "%s", command->name);
	for (int i = 0; command->effect == ADMIN_CHANGES && i < argc && len < sizeof(request->said); i++)
		len += (size_t)snprintf(request->said + len, sizeof(request->said) - len, " %s", argv[i]);
	LIST_INSERT_HEAD(&connection->admin->requests, request, link);
	return request;
}

static void request_free(struct admin_request *request)
{
	if (request->admin)
		LIST_REMOVE(request, link);
	free(request);
}

/* A question is no answer yet: the command comes again. */
static void tell(const struct admin_request *request, const json_t *answer)
{
	const struct admin *admin = request->admin;
	const char *error = json_string_value(json_object_get(answer, "error"));
	const char *done = json_string_value(json_object_get(answer, "done"));
	const struct admin_deed deed = { request->said, request->uid, error == NULL, error ? error : done };

	if (admin && admin->watch && request->is_told && !json_object_get(answer, "confirm"))
		admin->watch(&deed, admin->watch_arg);
}

void admin_watch(struct admin *admin, void (*watch)(const struct admin_deed *deed, void *arg), void *arg)
{
	admin->watch = watch;
	admin->watch_arg = arg;
}

static void run_command(struct connection *connection, int count, char **words)
{
	struct admin *admin = connection->admin;
	int name_words;
	const struct admin_command *command = admin_command_find(count, words, &name_words);
	admin_function function = command ? find_function(admin, command) : NULL;
	struct admin_request *request;

	if (!command) {
		connection_refuse(connection, "this vnasd has no command \"%.64s%s%.64s\"; see `nasctl help`", words[0],
				  count > 1 ? " " : "", count > 1 ? words[1] : "");
	} else if (!function) {
		connection_refuse(connection, "%s: not on this kind of device", command->name);
	} else if (!admin_command_takes(command, count - name_words)) {
		connection_refuse(connection, "usage: nasctl %s %s", command->name, command->arguments);
	} else if (!(request = request_new(connection, command, count - name_words, words + name_words))) {
		connection_refuse(connection, "%s: no memory", command->name);
	} else {
		connection->request = request;
		function(request, count - name_words, words + name_words, admin->arg);
	}
}

static void run_message(struct connection *connection, const char *text, size_t len)
{
	struct admin_words words;

	if (admin_words_decode(text, len, &words)) {
		connection_refuse(connection, "this is not a request; it is {\"command\": [\"WORD\", ...]}");
		return;
	}
	run_command(connection, words.count, words.words);
	admin_words_fini(&words);
}

static void on_readable(struct bufferevent *stream, void *arg)
{
	struct connection *connection = arg;
	struct evbuffer *input = bufferevent_get_input(stream);
	uint8_t header[ADMIN_HEADER_BYTES];
	size_t len;

	if (connection->request || connection->is_answered) {
		evbuffer_drain(input, evbuffer_get_length(input)); /* more than one request is not looked at */
		return;
	}
	if (evbuffer_copyout(input, header, sizeof(header)) < ADMIN_HEADER_BYTES)
		return;
	if (admin_header_decode(header, &len)) {
		connection_refuse(connection, "a request has at most %d bytes", ADMIN_REQUEST_MAX);
	} else if (evbuffer_get_length(input) >= ADMIN_HEADER_BYTES + len) {
		bufferevent_set_timeouts(stream, NULL, NULL);
		evbuffer_drain(input, ADMIN_HEADER_BYTES);
		run_message(connection, (const char *)evbuffer_pullup(input, (ev_ssize_t)len), len);
	}
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *peer, int peer_len,
		      void *arg)
{
	struct admin *admin = arg;
	struct connection *connection = calloc(1, sizeof(*connection));
	struct timeval patience = { .tv_sec = PATIENCE_S };

	(void)listener, (void)peer, (void)peer_len;
	if (connection)
		connection->stream = bufferevent_socket_new(admin->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!connection || !connection->stream) {
		free(connection);
		close(fd);
		return;
	}
	connection->admin = admin;
	LIST_INSERT_HEAD(&admin->connections, connection, link);
	bufferevent_setcb(connection->stream, on_readable, on_written, on_event, connection);
	bufferevent_setwatermark(connection->stream, EV_READ, 0, ADMIN_HEADER_BYTES + ADMIN_REQUEST_MAX);
	bufferevent_set_timeouts(connection->stream, &patience, NULL);
	bufferevent_enable(connection->stream, EV_READ | EV_WRITE);
	if (++admin->connection_count > ADMIN_CLIENTS_MAX)
		connection_refuse(connection, "vnasd has %d commands in hand; try again later", ADMIN_CLIENTS_MAX);
}

static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	struct admin *admin = arg;
	struct timeval pause = { .tv_sec = ACCEPT_AGAIN_S };

	log_warn("admin", "socket=%s: can't accept: %m; trying again in %d s", admin->path, ACCEPT_AGAIN_S);
	evconnlistener_disable(listener);
	evtimer_add(admin->accept_again, &pause);
}

static void on_accept_again(evutil_socket_t fd, short what, void *arg)
{
	struct admin *admin = arg;

	(void)fd, (void)what;
	evconnlistener_enable(admin->listener);
}

/* Streams */

static void stream_end(struct connection *connection)
{
	struct admin *admin = connection->admin;

	connection->source->end(connection->state);
	connection->source = NULL;
	if (--admin->stream_count == 0)
		event_del(admin->look);
}

static void stream_go_on(struct connection *connection)
{
	json_t *message;

	if (evbuffer_get_length(bufferevent_get_output(connection->stream)) > 0)
		return; /* on_written() comes back */
	message = connection->source->next(connection->state);
	if (message)
		connection_answer(connection, message);
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	struct admin *admin = arg;
	struct connection *connection;

	(void)fd, (void)what;
	LIST_FOREACH(connection, &admin->connections, link)
		if (connection->source)
			stream_go_on(connection);
}

static void stream_begin(struct connection *connection, json_t *first, const struct admin_source *source, void *state)
{
	struct admin *admin = connection->admin;

	connection->source = source;
	connection->state = state;
	if (admin->stream_count++ == 0)
		event_add(admin->look, &(struct timeval){ .tv_usec = STREAM_LOOK_MS * 1000 });
	connection_answer(connection, first);
}

/* The socket */

/* Remove what a daemon that was killed left behind. */
static int remove_stale(const struct sockaddr_un *address)
{
	struct stat st;
	int fd, rc = 0;

	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno != ECONNREFUSED)
		rc = -EADDRINUSE;
	else if (unlink(address->sun_path) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

/* For root and the group, if there is one: closed to others from the moment it appears. */
static int bind_for_group(int fd, const struct sockaddr_un *address)
{
	const struct group *group = getgrnam("vnas");

	if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		return -errno;
	if (group && chown(address->sun_path, (uid_t)-1, group->gr_gid) < 0)
		log_warn("admin", "socket=%s: can't be given to the group vnas: %m", address->sun_path);
	return chmod(address->sun_path, 0660) < 0 ? -errno : 0;
}

static int listen_at(struct admin *admin)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, rc;

	strcpy(address.sun_path, admin->path);
	rc = remove_stale(&address);
	if (rc)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	rc = bind_for_group(fd, &address);
	if (rc)
		goto err_close;
	rc = -ENOMEM;
	admin->listener = evconnlistener_new(admin->base, on_accept, admin, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC,
					     BACKLOG, fd);
	if (!admin->listener)
		goto err_close;
	evconnlistener_set_error_cb(admin->listener, on_accept_error);
	return 0;
err_close:
	close(fd);
	return rc;
}

int admin_new(struct event_base *base, const char *path, const struct admin_handler *handlers, void *arg,
	      struct admin **out)
{
	struct admin *admin;
	int rc;

	for (const struct admin_handler *handler = handlers; handler->command; handler++)
		if (BUG_IF(!find_command(handler->command)))
			return -EINVAL;
	if (strlen(path) >= sizeof(admin->path))
		return -ENAMETOOLONG;
	admin = calloc(1, sizeof(*admin));
	if (!admin)
		return -ENOMEM;
	admin->base = base;
	admin->handlers = handlers;
	admin->arg = arg;
	strcpy(admin->path, path);
	LIST_INIT(&admin->connections);
	LIST_INIT(&admin->requests);
	admin->accept_again = evtimer_new(base, on_accept_again, admin);
	admin->look = event_new(base, -1, EV_PERSIST, on_look, admin);
	rc = admin->accept_again && admin->look ? listen_at(admin) : -ENOMEM;
	if (rc) {
		admin_free(admin);
		return rc;
	}
	*out = admin;
	return 0;
}

void admin_free(struct admin *admin)
{
	if (!admin)
		return;
	if (admin->listener) {
		evconnlistener_free(admin->listener);
		unlink(admin->path);
	}
	while (!LIST_EMPTY(&admin->connections))
		connection_close(LIST_FIRST(&admin->connections));
	while (!LIST_EMPTY(&admin->requests)) {
		LIST_FIRST(&admin->requests)->admin = NULL;
		LIST_REMOVE(LIST_FIRST(&admin->requests), link);
	}
	if (admin->accept_again)
		event_free(admin->accept_again);
	if (admin->look)
		event_free(admin->look);
	free(admin);
}

/* Answers */

/* Takes @answer, and the request. */
static void answer_request(struct admin_request *request, json_t *answer)
{
	tell(request, answer);
	if (request->connection) {
		request->connection->request = NULL;
		connection_answer(request->connection, answer);
	} else {
		json_decref(answer);
	}
	request_free(request);
}

static void answer_sentence(struct admin_request *request, const char *kind, const char *format, va_list args)
{
	char *text = NULL;

	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	answer_request(request, text ? json_pack("{s:o}", kind, admin_text(text)) : NULL);
	free(text);
}

void admin_error(struct admin_request *request, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	answer_sentence(request, "error", format, args);
	va_end(args);
}

void admin_done(struct admin_request *request, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	answer_sentence(request, "done", format, args);
	va_end(args);
}

void admin_confirm(struct admin_request *request, const char *word, const char *format, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	answer_request(request, text ? json_pack("{s:o, s:o}", "confirm", admin_text(text), "word", admin_text(word)) : NULL);
	free(text);
}

/* "name:Title" */
static json_t *column(const char *text, size_t len)
{
	size_t name_len = strcspn(text, ":");
	char *title = strndup(text + name_len + 1, len - name_len - 1);
	json_t *object = NULL;

	if (!title)
		return NULL;
	for (char *p = title; *p; p++)
		if (*p == '_')
			*p = ' ';
	object = json_pack("{s:s%, s:s}", "name", text, name_len, "title", title);
	free(title);
	return object;
}

json_t *admin_table(const char *columns)
{
	json_t *list = json_array();
	size_t len;

	for (; (columns = next_word(columns, &len)); columns += len)
		if (BUG_IF(!memchr(columns, ':', len)) || json_array_append_new(list, column(columns, len)) < 0)
			break;
	return json_pack("{s:o, s:[]}", "columns", list, "rows");
}

void admin_row(json_t *table, json_t *row)
{
	if (json_array_append_new(json_object_get(table, "rows"), row) < 0)
		log_warn("admin", "a row of a table is left out: it is no valid text, or there is no memory");
}

void admin_answer(struct admin_request *request, json_t *table)
{
	answer_request(request, table);
}

void admin_report(struct admin_request *request, json_t *table, const char *text, bool is_bad)
{
	json_object_set_new(table, "text", admin_text(text));
	json_object_set_new(table, "is_bad", json_boolean(is_bad));
	answer_request(request, table);
}

void admin_record(struct admin_request *request, json_t *record)
{
	answer_request(request, json_pack("{s:o}", "record", record));
}

void admin_stream(struct admin_request *request, json_t *table, const struct admin_source *source, void *state)
{
	struct connection *connection = request->connection;

	if (!connection) {
		source->end(state);
		answer_request(request, table);
	} else if (connection->admin->stream_count >= ADMIN_STREAMS_MAX) {
		source->end(state);
		json_decref(table);
		admin_error(request, "vnasd is followed by %d others already; end one of them", ADMIN_STREAMS_MAX);
	} else {
		json_object_set_new(table, "follows", json_true());
		connection->request = NULL;
		request_free(request);
		stream_begin(connection, table, source, state);
	}
}
