/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

static const struct {
	const char *name;
	int priority; /* of syslog(3), as the journal's prefix has it: sd-daemon(3) */
} levels[] = {
	[LOG_LEVEL_ERR] = { "err", LOG_ERR },
	[LOG_LEVEL_WARN] = { "warn", LOG_WARNING },
	[LOG_LEVEL_INFO] = { "info", LOG_INFO },
	[LOG_LEVEL_DEBUG] = { "debug", LOG_DEBUG },
};

enum { LEVEL_COUNT = sizeof(levels) / sizeof(levels[0]) };

static _Atomic enum log_level max_level = LOG_LEVEL_INFO;
static atomic_bool for_journal;

/* Line number n (they count from 0) is in ring[n % LOG_KEEP] while lines_ever - n <= LOG_KEEP. */
static pthread_mutex_t ring_lock = PTHREAD_MUTEX_INITIALIZER;
static struct log_line ring[LOG_KEEP];
static uint64_t lines_ever;

void log_open(enum log_level level)
{
	max_level = level;
	for_journal = getenv("JOURNAL_STREAM") != NULL;
}

int log_level_parse(const char *name, enum log_level *level)
{
	for (size_t i = 0; i < LEVEL_COUNT; i++)
		if (strcmp(name, levels[i].name) == 0) {
			*level = (enum log_level)i;
			return 0;
		}
	return -EINVAL;
}

const char *log_level_name(enum log_level level)
{
	return levels[level].name;
}

/* What a peer sent may be part of the text: no line breaks and no terminal control. */
static void make_printable(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

static void keep(struct log_line *line)
{
	pthread_mutex_lock(&ring_lock);
	line->number = lines_ever;
	ring[lines_ever++ % LOG_KEEP] = *line;
	pthread_mutex_unlock(&ring_lock);
}

/* One write(2) per line, so that lines of several threads do not mix. */
static void emit(const struct log_line *line)
{
	char out[LOG_LINE_MAX + sizeof("<7>\n")];
	int len;

	if (for_journal)
		len = snprintf(out, sizeof(out), "<%d>%s\n", levels[line->level].priority, line->text);
	else
		len = snprintf(out, sizeof(out), "%s\n", line->text);
	if (write(STDERR_FILENO, out, (size_t)len) < 0)
		return; /* Nobody left to tell; the line is kept in the ring. */
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void log_write(enum log_level level, const char *area, const char *format, ...)
{
	int saved_errno = errno;
	struct log_line line = { .level = level };
	va_list args;
	int head;

	if (level > max_level)
		return;
	line.time_ns = now_ns();
	head = snprintf(line.text, sizeof(line.text), "%s %s: ", levels[level].name, area);
	if (head > 0 && (size_t)head < sizeof(line.text)) {
		errno = saved_errno; /* for "%m" */
		va_start(args, format);
		vsnprintf(line.text + head, sizeof(line.text) - (size_t)head, format, args);
		va_end(args);
	}
	make_printable(line.text);
	keep(&line);
	emit(&line);
	errno = saved_errno;
}

uint64_t log_end(void)
{
	uint64_t end;

	pthread_mutex_lock(&ring_lock);
	end = lines_ever;
	pthread_mutex_unlock(&ring_lock);
	return end;
}

/* A copy is given: the line may be overwritten the next moment. */
bool log_next(uint64_t *number, uint64_t *missed, struct log_line *out)
{
	uint64_t oldest, wanted;
	bool is_there;

	pthread_mutex_lock(&ring_lock);
	oldest = lines_ever > LOG_KEEP ? lines_ever - LOG_KEEP : 0;
	wanted = *number > oldest ? *number : oldest;
	is_there = wanted < lines_ever;
	if (is_there)
		*out = ring[wanted % LOG_KEEP];
	pthread_mutex_unlock(&ring_lock);
	if (missed)
		*missed = wanted - *number;
	if (is_there)
		*number = wanted + 1;
	return is_there;
}

bool log_bug(const char *file, int line, const char *condition)
{
	log_err("bug", "at=%s:%d condition=\"%s\": a mistake in vnas; please report it", file, line, condition);
	return true;
}
