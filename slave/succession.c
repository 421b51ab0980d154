/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "slave/succession.h"

#include "common/bytes.h"
#include "common/conn.h"
#include "common/conn_moves.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/service_manager.h"
#include "common/tch_options.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_OF_SOCKETS "session"
#define NAME_OF_RECORDS "records"

enum { FORMAT = 2, FORMAT_BYTES = 4, LOOK_MS = 10 };

struct succession {
	struct conn_server *conns;
	struct loops *loops;
	struct event *look;
	void (*on_rest)(void *arg);
	void *arg;
	unsigned int looks;
	uint64_t resting[SUCCESSION_SESSIONS_MAX];
	size_t resting_count;
};

/* Records */

size_t succession_encoded_max(const struct tch_carried *carried)
{
	return SUCCESSION_RECORD_FIXED + TCH_OPTIONS_MAX + carried->input_len + carried->output_len;
}

static void put_counted(struct bytes_writer *w, const void *bytes, size_t len)
{
	bytes_put_be32(w, (uint32_t)len);
	bytes_put(w, bytes, len);
}

static uint8_t *get_counted(struct bytes_reader *r, size_t *len)
{
	*len = bytes_get_be32(r);
	return (uint8_t *)bytes_take(r, *len); /* who reads it does not write into it */
}

long succession_encode(const struct tch_session *session, const struct tch_carried *carried, uint8_t *out, size_t room)
{
	const struct kernel_helper_state state = { .flow = session->flow, .fixed = session->fixed };
	struct bytes_writer w = bytes_writer_init(out, room);
	uint8_t options[TCH_OPTIONS_MAX];
	int len = tch_options_encode(&state, &carried->facts, TCH_FULL, options);

	if (len < 0)
		return len;
	put_counted(&w, options, (size_t)len);
	bytes_put_be32(&w, session->fixed.send_base);
	bytes_put_be32(&w, session->fixed.receive_base);
	bytes_put_be32(&w, session->is_movable);
	put_counted(&w, carried->input, carried->input_len);
	put_counted(&w, carried->output, carried->output_len);
	return w.failed ? -ENOSPC : (long)w.written;
}

long succession_decode(const uint8_t *bytes, size_t len, struct tch_session *session, struct tch_carried *carried)
{
	struct bytes_reader r = bytes_reader_init(bytes, len);
	enum tch_kind_of_handoff kind;
	struct kernel_helper_state state = { 0 };
	size_t options_len;
	const uint8_t *options = get_counted(&r, &options_len);
	uint32_t send_base = bytes_get_be32(&r), receive_base = bytes_get_be32(&r), is_movable = bytes_get_be32(&r);

	*carried = (struct tch_carried){ 0 };
	carried->input = get_counted(&r, &carried->input_len);
	carried->output = get_counted(&r, &carried->output_len);
	if (r.failed || tch_options_decode(options, options_len, &state, &carried->facts, &kind) < 0 || kind != TCH_FULL)
		return -EBADMSG;
	*session = (struct tch_session){
		.id = carried->facts.session,
		.fd = -1,
		.flow = state.flow,
		.fixed = state.fixed,
	};
	session->fixed.send_base = send_base;
	session->fixed.receive_base = receive_base;
	session->is_movable = is_movable;
	return (long)(len - r.left);
}

/* Coming to rest */

static void note_resting(struct succession *succession, const struct conn *conn)
{
	if (succession->resting_count < SUCCESSION_SESSIONS_MAX)
		succession->resting[succession->resting_count++] = conn_facts((struct conn *)conn)->session;
}

static void on_quiet(struct conn *conn, void *arg)
{
	note_resting(arg, conn);
}

static int compare_ids(const void *a, const void *b)
{
	uint64_t id_a = *(const uint64_t *)a, id_b = *(const uint64_t *)b;

	return id_a < id_b ? -1 : id_a > id_b;
}

/* One of those that were noted may have closed since: it is the others that count. */
static bool do_all_rest(struct succession *succession)
{
	struct conn *conn = NULL;

	qsort(succession->resting, succession->resting_count, sizeof(succession->resting[0]), compare_ids);
	while ((conn = conn_next(succession->conns, conn)))
		if (!conn_is_half(conn) && !bsearch(&conn_facts(conn)->session, succession->resting, succession->resting_count,
						    sizeof(succession->resting[0]), compare_ids))
			return false;
	return true;
}

/* Those that came since the last look, too, and those of which a handoff came to nothing. Return: do all rest? */
static bool bring_to_rest(struct succession *succession)
{
	struct conn *conn = NULL;
	bool is_done;

	loops_pause(succession->loops);
	while ((conn = conn_next(succession->conns, conn)))
		if (!conn_is_half(conn) && conn_quiesce(conn, on_quiet, succession) == 0)
			note_resting(succession, conn);
	is_done = do_all_rest(succession);
	loops_continue(succession->loops);
	return is_done;
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval again = { .tv_usec = LOOK_MS * 1000 };
	struct succession *succession = arg;

	(void)fd, (void)what;
	if (bring_to_rest(succession) || ++succession->looks > SUCCESSION_REST_MS / LOOK_MS)
		succession->on_rest(succession->arg);
	else
		event_add(succession->look, &again);
}

int succession_begin(struct event_base *base, struct conn_server *conns, struct loops *loops, void (*on_rest)(void *arg), void *arg,
		     struct succession **out)
{
	struct succession *succession;

	if (!service_manager_keeps())
		return -ENOTCONN;
	succession = calloc(1, sizeof(*succession));
	if (!succession)
		return -ENOMEM;
	*succession = (struct succession){ .conns = conns, .loops = loops, .on_rest = on_rest, .arg = arg };
	succession->look = evtimer_new(base, on_look, succession);
	if (!succession->look) {
		free(succession);
		return -ENOMEM;
	}
	event_active(succession->look, 0, 0);
	*out = succession;
	return 0;
}

void succession_free(struct succession *succession)
{
	if (!succession)
		return;
	event_free(succession->look);
	free(succession);
}

/* Leaving */

/* All or nothing: what stands behind half a record could not be read. */
static int append(int file, const uint8_t *bytes, size_t len)
{
	off_t end = lseek(file, 0, SEEK_CUR);
	size_t done = 0;

	while (end >= 0 && done < len) {
		ssize_t n = write(file, bytes + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (done == len)
		return 0;
	if (end >= 0 && ftruncate(file, end) == 0)
		lseek(file, end, SEEK_SET);
	return -ENOSPC;
}

/* One record to the end of @file. */
static int write_record(int file, const struct tch_session *session, const struct tch_carried *carried)
{
	size_t room = succession_encoded_max(carried);
	uint8_t *bytes = malloc(room);
	long len = bytes ? succession_encode(session, carried, bytes, room) : -ENOMEM;
	int rc = len < 0 ? (int)len : append(file, bytes, (size_t)len);

	free(bytes);
	return rc;
}

/* Return: its socket, now the caller's; or a negative errno value: it is here still */
static int leave_session(struct succession *succession, uint64_t id, int file)
{
	struct tch_session session;
	struct tch_carried carried = { 0 };
	int rc;

	if (!conn_moves.find(id, &session, succession->conns))
		return -ENOENT;
	rc = conn_moves.export(session.own, &carried, succession->conns);
	if (rc == 0)
		rc = write_record(file, &session, &carried);
	free(carried.input);
	free(carried.output);
	return rc < 0 ? rc : conn_moves.surrender(session.own, succession->conns);
}

static int new_records(void)
{
	static const uint8_t format[FORMAT_BYTES] = { [FORMAT_BYTES - 1] = FORMAT };
	int file = memfd_create(NAME_OF_RECORDS, MFD_CLOEXEC);

	if (file >= 0 && write(file, format, sizeof(format)) != sizeof(format)) {
		close(file);
		return -ENOSPC;
	}
	return file < 0 ? -errno : file;
}

int succession_leave(struct succession *succession)
{
	int *sockets = calloc(succession->resting_count + 1, sizeof(*sockets));
	int file = sockets ? new_records() : -ENOMEM, rc = file;
	size_t count = 0;

	if (file < 0)
		goto out;
	loops_pause(succession->loops);
	for (size_t i = 0; i < succession->resting_count; i++) {
		int fd = leave_session(succession, succession->resting[i], file);

		if (fd >= 0)
			sockets[count++] = fd;
	}
	loops_continue(succession->loops);
	rc = service_manager_keep(NAME_OF_RECORDS, &file, 1);
	if (rc == 0)
		rc = service_manager_keep(NAME_OF_SOCKETS, sockets, count);
	for (size_t i = 0; i < count; i++)
		close(sockets[i]);
	close(file);
out:
	free(sockets);
	return rc < 0 ? rc : (int)count;
}

/* Entering */

struct inherited {
	struct flow_key flow;
	int fd; /* -1: taken */
};

static int compare_flows(const void *a, const void *b)
{
	return memcmp(&((const struct inherited *)a)->flow, &((const struct inherited *)b)->flow, sizeof(struct flow_key));
}

/* A socket that is not connected any more has no name: nobody finds it. */
static void name_socket(int fd, struct inherited *out)
{
	struct sockaddr_storage client, local;
	socklen_t client_len = sizeof(client), local_len = sizeof(local);

	*out = (struct inherited){ .fd = fd };
	if (getpeername(fd, (struct sockaddr *)&client, &client_len) == 0 &&
	    getsockname(fd, (struct sockaddr *)&local, &local_len) == 0)
		flow_from_sockets(&client, &local, IPPROTO_TCP, &out->flow);
}

static void enter_session(struct conn_server *conns, struct tch_session *session, const struct tch_carried *carried,
			  struct inherited *sockets, size_t count)
{
	const struct inherited wanted = { .flow = session->flow };
	struct inherited *found = bsearch(&wanted, sockets, count, sizeof(*sockets), compare_flows);

	if (!found || found->fd < 0)
		return;
	session->fd = found->fd;
	if (conn_moves.import(session, carried, TCH_FULL, conns) == 0)
		found->fd = -1;
}

static void enter_all(struct conn_server *conns, const uint8_t *records, size_t len, struct inherited *sockets, size_t count)
{
	struct bytes_reader r = bytes_reader_init(records, len);

	if (bytes_get_be32(&r) != FORMAT)
		return;
	while (r.left) {
		struct tch_session session;
		struct tch_carried carried;
		long used = succession_decode(r.p, r.left, &session, &carried);

		if (used < 0)
			return;
		bytes_take(&r, (size_t)used);
		enter_session(conns, &session, &carried, sockets, count);
	}
}

/* NULL: there are none, or they can't be read. */
static const uint8_t *map_records(int file, size_t *len)
{
	struct stat status;
	void *bytes;

	if (fstat(file, &status) < 0 || status.st_size == 0)
		return NULL;
	bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
	*len = (size_t)status.st_size;
	return bytes == MAP_FAILED ? NULL : bytes;
}

static void enter_from(struct conn_server *conns, struct loops *loops, int file, struct inherited *sockets, size_t count)
{
	size_t len, left = 0;
	const uint8_t *records = map_records(file, &len);

	qsort(sockets, count, sizeof(*sockets), compare_flows);
	if (records) {
		loops_pause(loops);
		enter_all(conns, records, len, sockets, count);
		loops_continue(loops);
		munmap((void *)records, len);
	}
	for (size_t i = 0; i < count; i++) {
		if (sockets[i].fd < 0)
			continue;
		close(sockets[i].fd);
		left++;
	}
	if (count > 0)
		log_info("succession", "sessions=%zu of %zu taken up from the daemon before", count - left, count);
}

void succession_enter(struct conn_server *conns, struct loops *loops)
{
	int *files = NULL, *fds = NULL;
	size_t file_count = service_manager_take(NAME_OF_RECORDS, &files);
	size_t count = service_manager_take(NAME_OF_SOCKETS, &fds);
	struct inherited *sockets = calloc(count + 1, sizeof(*sockets));

	for (size_t i = 0; sockets && i < count; i++)
		name_socket(fds[i], &sockets[i]);
	/* Two, if the daemon between them came to nothing: then which belongs to which is unknown. */
	if (sockets && file_count == 1)
		enter_from(conns, loops, files[0], sockets, count);
	else
		for (size_t i = 0; i < count; i++)
			close(fds[i]);
	for (size_t i = 0; i < file_count; i++)
		close(files[i]);
	free(sockets);
	free(fds);
	free(files);
}
