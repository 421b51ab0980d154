/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include "common/nasctl_top.h"

#include "common/admin.h"
#include "common/nasctl_ask.h"
#include "common/nasctl_print.h"
#include "common/nasctl_text.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

/* By what rows are sorted, the largest first; "s" goes on to the next. */
static const struct sorting {
	const char *name, *member;
} sortings[] = {
	{ "bytes", "moved_bytes_per_s" },
	{ "operations", "operations_per_s" },
	{ "sessions", "sessions" },
	{ "name", NULL }, /* as they come */
};

enum { SORTINGS = sizeof(sortings) / sizeof(sortings[0]) };

/* What is shown below the first line, in this order. */
static const struct section {
	const char *member, *columns;
} sections[] = {
	{ "nodes", "name:Node state:State cpu_permille:CPU busy_permille:Disks operations_per_s:Operations read_bytes_per_s:Read "
		   "written_bytes_per_s:Written sessions:Sessions free_bytes:Free" },
	{ "volumes", "place:Volume node_name:Node state:State operations_per_s:Operations moved_bytes_per_s:Data busy_permille:Disk "
		     "free_bytes:Free" },
	{ "sessions", "id:Session client:Client node_name:Node operations_per_s:Operations moved_bytes_per_s:Data handoffs:Handoffs "
		      "since_ns:Since" },
};

enum { SECTIONS = sizeof(sections) / sizeof(sections[0]), LINES_DEFAULT = 24, COLUMNS_DEFAULT = 80 };

struct screen {
	bool is_on;
	struct termios before;
	int signals; /* a signalfd */
};

struct view {
	size_t sorting;	      /* of `sortings` */
	unsigned long rounds; /* to show; 0: no end */
	bool as_json, is_screen;
	json_t *round; /* the latest; NULL: none yet */
	struct screen screen;
};

/* Arguments. 0; an exit status, having complained */

static int parse_count(const char *text, unsigned long *out)
{
	char *end;

	errno = 0;
	*out = strtoul(text, &end, 10);
	if (*text >= '1' && *text <= '9' && !*end && !errno)
		return 0;
	nasctl_complain("--count %s: say how many rounds, as in nasctl top --count 1", text);
	return NASCTL_USAGE;
}

static int parse_sorting(const char *text, size_t *out)
{
	for (size_t i = 0; i < SORTINGS; i++)
		if (strcmp(sortings[i].name, text) == 0) {
			*out = i;
			return 0;
		}
	nasctl_complain("--sort %s: rows are sorted by bytes, operations, sessions or name", text);
	return NASCTL_USAGE;
}

static int parse(int argc, char **argv, struct view *view)
{
	int status = 0;

	for (int i = 0; status == 0 && i < argc; i += 2) {
		if (strcmp(argv[i], "--count") == 0 && i + 1 < argc) {
			status = parse_count(argv[i + 1], &view->rounds);
		} else if (strcmp(argv[i], "--sort") == 0 && i + 1 < argc) {
			status = parse_sorting(argv[i + 1], &view->sorting);
		} else {
			nasctl_complain("\"%s\" is no option of top, or lacks its value; nasctl help top shows them", argv[i]);
			status = NASCTL_USAGE;
		}
	}
	return status;
}

/* Rows */

/* What is unknown is less than all that is known. */
static json_int_t figure(const json_t *row, const char *member)
{
	const json_t *value = json_object_get(row, member);

	return json_is_integer(value) ? json_integer_value(value) : -1;
}

/* A new list, stable: rows with the same figure stay in their order. */
static json_t *sorted(const json_t *rows, const char *member)
{
	json_t *list = json_array(), *row;
	size_t i;

	json_array_foreach(rows, i, row) {
		size_t at = json_array_size(list);

		while (member && at > 0 && figure(json_array_get(list, at - 1), member) < figure(row, member))
			at--;
		json_array_insert(list, at, row);
	}
	return list;
}

/* Text */

static void print_sum(FILE *out, const char *title, const char *member, const json_t *round)
{
	const json_t *value = json_object_get(round, member);
	char *text = value ? nasctl_value_text(member, value) : nasctl_text_new("-");

	fprintf(out, "%s %s", title, text);
	free(text);
}

static void print_first_line(FILE *out, const struct view *view)
{
	char *time = nasctl_value_text("time_ns", json_object_get(view->round, "time_ns"));

	print_sum(out, "cluster", "cluster", view->round);
	fprintf(out, ", %s, ", time);
	print_sum(out, "operations", "operations_per_s", view->round);
	print_sum(out, ", data", "moved_bytes_per_s", view->round);
	print_sum(out, ", sessions", "sessions_in_all", view->round);
	print_sum(out, ", handoffs", "handoffs_per_s", view->round);
	fprintf(out, ", by %s\n", sortings[view->sorting].name);
	free(time);
}

static void print_section(FILE *out, const struct view *view, const struct section *section)
{
	json_t *rows = sorted(json_object_get(view->round, section->member), sortings[view->sorting].member);
	json_t *table = admin_table(section->columns);

	nasctl_print_table(out, json_object_get(table, "columns"), rows);
	json_decref(table);
	json_decref(rows);
}

static void print_round(const struct view *view)
{
	if (view->as_json) {
		json_dumpf(view->round, stdout, JSON_COMPACT);
		putchar('\n');
		return;
	}
	print_first_line(stdout, view);
	for (size_t i = 0; i < SECTIONS; i++) {
		putchar('\n');
		print_section(stdout, view, &sections[i]);
	}
	putchar('\n');
}

/* The screen */

static void write_all(const char *text, size_t len)
{
	for (ssize_t n; len > 0; text += n, len -= (size_t)n) {
		n = write(STDOUT_FILENO, text, len);
		if (n < 0 && errno != EINTR)
			return;
		n = n < 0 ? 0 : n;
	}
}

/* Another screen than the shell's, without a cursor; keys come as they are typed, but for Ctrl-C and the like. */
static void screen_enter(struct screen *screen)
{
	static const char enter[] = "\033[?1049h\033[?25l";
	struct termios raw = screen->before;

	raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	write_all(enter, sizeof(enter) - 1);
	screen->is_on = true;
}

static void screen_leave(struct screen *screen)
{
	static const char leave[] = "\033[?25h\033[?1049l";

	if (!screen->is_on)
		return;
	screen->is_on = false;
	write_all(leave, sizeof(leave) - 1);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &screen->before);
}

/* Signals are read, not caught: nothing ends the process while the terminal is not as it was. */
static int screen_start(struct screen *screen)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH };
	sigset_t set;

	if (tcgetattr(STDIN_FILENO, &screen->before) < 0)
		return -errno;
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaddset(&set, numbers[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	screen->signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (screen->signals < 0)
		return -errno;
	screen_enter(screen);
	return 0;
}

/* As much of a line as fits, without its end. Characters, not bytes; none of them is wider than one column. */
static size_t cut(const char *line, size_t columns)
{
	size_t len = 0;

	for (size_t width = 0; line[len] && line[len] != '\n'; len++) {
		width += ((unsigned char)line[len] & 0xc0) != 0x80;
		if (width > columns)
			break;
	}
	return len;
}

/* At most @lines lines of @text; the first one stands out. Gives how many. */
static size_t draw_lines(FILE *out, const char *text, size_t lines, size_t columns)
{
	size_t drawn = 0;

	for (; *text && drawn < lines; drawn++) {
		size_t len = cut(text, columns);

		fprintf(out, "%s%.*s\033[0m\033[K\n", drawn == 0 ? "\033[1m" : "", (int)len, text);
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	return drawn;
}

static size_t count_lines(const char *text)
{
	size_t lines = 0;

	for (; (text = strchr(text, '\n')); text++)
		lines++;
	return lines;
}

/* Each section has a line above it, and gets what those below it leave: at least its title and three rows, if it has so many. */
static size_t share_of(char *const *texts, size_t section, size_t left)
{
	size_t below = 0;

	for (size_t i = section + 1; i < SECTIONS; i++) {
		size_t lines = count_lines(texts[i]);

		below += 1 + (lines < 4 ? lines : 4);
	}
	return left > below ? left - below : left;
}

static void draw_sections(FILE *out, const struct view *view, size_t left, size_t columns)
{
	char *texts[SECTIONS];
	size_t len;

	for (size_t i = 0; i < SECTIONS; i++) {
		FILE *text = open_memstream(&texts[i], &len);

		if (!text)
			exit(NASCTL_FAILED);
		print_section(text, view, &sections[i]);
		fclose(text);
	}
	for (size_t i = 0; i < SECTIONS; i++) {
		if (left > 1) {
			fputs("\033[K\n", out);
			left--;
			left -= draw_lines(out, texts[i], share_of(texts, i, left), columns);
		}
		free(texts[i]);
	}
}

static void draw(struct view *view)
{
	struct winsize size = { 0 };
	char *text, *line;
	size_t len, line_len, lines, columns;
	FILE *out = open_memstream(&text, &len), *first = open_memstream(&line, &line_len);

	if (!out || !first)
		return;
	ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	lines = size.ws_row ? size.ws_row : LINES_DEFAULT;
	columns = size.ws_col ? size.ws_col : COLUMNS_DEFAULT;
	if (view->round)
		print_first_line(first, view);
	else
		fputs("nasctl top: rates are known in two seconds\n", first);
	fclose(first);
	fputs("\033[H", out);
	draw_lines(out, line, 1, columns);
	if (view->round && lines > 2)
		draw_sections(out, view, lines - 2, columns); /* the last one stays free: a line end there would scroll */
	fputs("\033[J", out);
	if (lines > 2)
		fprintf(out, "\033[%zu;1Hq: quit  s: sort by another column", lines);
	fclose(out);
	write_all(text, len);
	free(text);
	free(line);
}

/* What happens */

enum step { GO_ON, END_WELL, END_BADLY };

static enum step on_round(struct view *view, int more)
{
	json_t *message = nasctl_ask_next(more);
	json_t *round = json_object_get(message, "record");

	if (!round) {
		screen_leave(&view->screen);
		nasctl_complain("vnasd says no more: it was stopped, or has dropped a reader that was too slow");
		json_decref(message);
		return END_BADLY;
	}
	json_decref(view->round);
	view->round = json_incref(round);
	json_decref(message);
	if (view->is_screen)
		draw(view);
	else
		print_round(view);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		nasctl_complain("the answer can't be written: %m");
		return END_BADLY;
	}
	return view->rounds && --view->rounds == 0 ? END_WELL : GO_ON;
}

static enum step on_key(struct view *view)
{
	char key;

	if (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q')
		return END_WELL;
	if (key == 's')
		view->sorting = (view->sorting + 1) % SORTINGS;
	draw(view);
	return GO_ON;
}

static enum step on_signal(struct view *view)
{
	struct signalfd_siginfo signal;

	if (read(view->screen.signals, &signal, sizeof(signal)) != (ssize_t)sizeof(signal))
		return END_BADLY;
	if (signal.ssi_signo == SIGTSTP) {
		screen_leave(&view->screen);
		raise(SIGSTOP);
		screen_enter(&view->screen);
	} else if (signal.ssi_signo != SIGWINCH) {
		return END_WELL;
	}
	draw(view);
	return GO_ON;
}

static enum step screen_step(struct view *view, int more)
{
	struct pollfd polled[] = {
		{ .fd = more, .events = POLLIN },
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = view->screen.signals, .events = POLLIN },
	};
	enum step step = GO_ON;

	if (poll(polled, sizeof(polled) / sizeof(polled[0]), -1) < 0)
		return errno == EINTR ? GO_ON : END_BADLY;
	if (polled[2].revents)
		step = on_signal(view);
	if (step == GO_ON && polled[1].revents)
		step = on_key(view);
	if (step == GO_ON && polled[0].revents)
		step = on_round(view, more);
	return step;
}

static enum step show(struct view *view, int more)
{
	enum step step = GO_ON;
	int rc;

	if (view->is_screen) {
		rc = screen_start(&view->screen);
		if (rc < 0) {
			nasctl_complain("this terminal can't be used: %s; nasctl top --count 1 prints a round", strerror(-rc));
			return END_BADLY;
		}
		draw(view);
	}
	while (step == GO_ON)
		step = view->is_screen ? screen_step(view, more) : on_round(view, more);
	screen_leave(&view->screen);
	return step;
}

int nasctl_top(const char *socket, int argc, char **argv, bool as_json)
{
	struct view view = { .as_json = as_json };
	char *words[] = { (char *)"top" };
	int more, status = parse(argc, argv, &view);
	json_t *answer;

	if (status)
		return status;
	view.is_screen = !as_json && !view.rounds && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	answer = nasctl_ask(socket, 1, words, &more);
	if (more < 0)
		status = answer ? nasctl_print_answer(answer, as_json) : NASCTL_FAILED;
	else
		status = show(&view, more) == END_WELL ? 0 : NASCTL_FAILED;
	if (more >= 0)
		close(more);
	json_decref(view.round);
	json_decref(answer);
	return status;
}
