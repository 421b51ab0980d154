/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/log.h - the daemon's log
 *
 * One event per line: "LEVEL area: key=value ...", object id first. `err` needs a person, `warn` was handled,
 * `info` changes how the node behaves, `debug` is for us. What a client can trigger at will is counted, not logged.
 * The last LOG_KEEP lines are kept in memory for `nasctl log`.
 *
 * Threads: call from anywhere. errno survives every call.
 */
#ifndef VNAS_COMMON_LOG_H
#define VNAS_COMMON_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum { LOG_KEEP = 1000, LOG_LINE_MAX = 512 };

enum log_level { LOG_LEVEL_ERR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/**
 * log_open() - choose what is logged
 * @level:	the most talkative level that is still written
 *
 * Lines go to standard error, where systemd's journal takes them; with a "<N>" priority prefix when
 * $JOURNAL_STREAM is set.
 */
void log_open(enum log_level level);

/**
 * log_level_parse() - a level by its name
 * @name:	"err", "warn", "info" or "debug"
 * @level:	out: untouched on failure
 *
 * Return: 0; -EINVAL if there is no such level
 */
int log_level_parse(const char *name, enum log_level *level);

void log_write(enum log_level level, const char *area, const char *format, ...) __attribute__((format(printf, 3, 4)));

#define log_err(area, ...) log_write(LOG_LEVEL_ERR, area, __VA_ARGS__)
#define log_warn(area, ...) log_write(LOG_LEVEL_WARN, area, __VA_ARGS__)
#define log_info(area, ...) log_write(LOG_LEVEL_INFO, area, __VA_ARGS__)
#define log_debug(area, ...) log_write(LOG_LEVEL_DEBUG, area, __VA_ARGS__)

struct log_line {
	uint64_t number;  /* they count from 0, of all levels that are written */
	uint64_t time_ns; /* wall clock, since 1970 */
	enum log_level level;
	char text[LOG_LINE_MAX];
};

/* The number of the line that will be written next. */
uint64_t log_end(void);

/**
 * log_next() - a line that is kept, by its number
 * @number:	in: the line that is wanted; out: that behind the one that was found
 * @missed:	out: how many from @number on are not kept any more; or NULL
 * @out:	out: the line; untouched if there is none
 *
 * Return: whether there is one
 */
bool log_next(uint64_t *number, uint64_t *missed, struct log_line *out);

/* The name of a level. */
const char *log_level_name(enum log_level level);

/*
 * BUG_IF() - a condition that only our own mistake can make true
 *
 * Logs file and line and yields the condition, so that the caller can still recover: `if (BUG_IF(x)) return -EIO;`
 */
#define BUG_IF(condition) (__builtin_expect(!!(condition), 0) ? log_bug(__FILE__, __LINE__, #condition) : false)

bool log_bug(const char *file, int line, const char *condition);

#endif
