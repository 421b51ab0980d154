/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * posix_suite - what programs expect of a file system, one line for each promise
 *
 * Usage: posix_suite [--without PART]... DIR SMALL LARGE
 *
 * DIR is an empty directory that root may do everything in, SMALL one on another file system with a few MiB, LARGE one with
 * LARGE_ENTRIES files f0, f1, ... and nothing else. What is made is taken away again. Run as root; alice (1000) and bob
 * (1001) are played, too.
 *
 * Output, in the manner of TAP: "ok PART: PROMISE" or "not ok PART: PROMISE (what came instead)", at the end
 * "1..N". What it prints depends on the file system alone, so two runs can be compared.
 * Exit status: 0; 1 a promise was broken; 2 wrong usage, or the ground under a part is missing.
 */
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include <grp.h>

enum { ROOT = 0, ALICE = 1000, BOB = 1001, STAFF = 5000, LARGE_ENTRIES = 20000 };

static const char *part, *dir_path, *small_path, *large_path;
static unsigned int promises, broken;

/* --- saying what came out --- */

static void say(bool kept, const char *instead, const char *format, va_list args)
{
	printf("%s %s: ", kept ? "ok" : "not ok", part);
	vprintf(format, args);
	printf(kept ? "\n" : " (%s)\n", instead);
	fflush(stdout);
	promises++;
	broken += !kept;
}

/* A promise that is kept or not. */
__attribute__((format(printf, 2, 3))) static void promise(bool kept, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(kept, "it is not so", format, args);
	va_end(args);
}

/* A call that succeeds: returns no negative number. */
__attribute__((format(printf, 2, 3))) static void works(long rc, const char *format, ...)
{
	char instead[80];
	va_list args;

	snprintf(instead, sizeof(instead), "%s", strerror(errno));
	va_start(args, format);
	say(rc >= 0, instead, format, args);
	va_end(args);
}

/* A call that fails with this error. */
__attribute__((format(printf, 3, 4))) static void refused(long rc, int error, const char *format, ...)
{
	bool kept = rc < 0 && errno == error;
	char instead[80];
	va_list args;

	snprintf(instead, sizeof(instead), "%s", rc < 0 ? strerror(errno) : "it was done");
	va_start(args, format);
	say(kept, instead, format, args);
	va_end(args);
}

/* A number that is another. */
__attribute__((format(printf, 3, 4))) static void same(long long got, long long wanted, const char *format, ...)
{
	char instead[80];
	va_list args;

	snprintf(instead, sizeof(instead), "%lld instead of %lld", got, wanted);
	va_start(args, format);
	say(got == wanted, instead, format, args);
	va_end(args);
}

/* Without this the part can't go on: say why and stop everything. */
static void need(long rc, const char *what)
{
	if (rc >= 0)
		return;
	printf("Bail out! %s: %s: %s\n", part, what, strerror(errno));
	exit(2);
}

/* --- the ground --- */

/* File access is from now on as this user, in a group of his own. */
static void become(uid_t uid)
{
	need(seteuid(ROOT), "seteuid");
	need(setgroups(0, NULL), "setgroups");
	need(setegid(uid), "setegid");
	need(seteuid(uid), "seteuid");
}

static void become_member(uid_t uid, gid_t gid)
{
	need(seteuid(ROOT), "seteuid");
	need(setgroups(1, &gid), "setgroups");
	need(setegid(uid), "setegid");
	need(seteuid(uid), "seteuid");
}

static void make(const char *name, const char *text, mode_t mode)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	need(fd, name);
	need(write(fd, text, strlen(text)), name);
	need(fchmod(fd, mode), name);
	need(close(fd), name);
}

static bool holds(const char *name, const char *text)
{
	char bytes[4096];
	int fd = open(name, O_RDONLY);
	ssize_t len = fd < 0 ? -1 : read(fd, bytes, sizeof(bytes));

	if (fd >= 0)
		close(fd);
	return len == (ssize_t)strlen(text) && !memcmp(bytes, text, (size_t)len);
}

static struct stat facts(const char *name)
{
	struct stat st = { 0 };

	need(lstat(name, &st), name);
	return st;
}

static bool is_there(const char *name)
{
	struct stat st;

	return !lstat(name, &st);
}

static mode_t mode_of(const char *name)
{
	return facts(name).st_mode & 07777;
}

static int touch(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);

	return fd < 0 ? -1 : close(fd);
}

static void remove_all(const char *name)
{
	struct dirent *entry;
	DIR *dir;

	if (!unlink(name) || errno == ENOENT)
		return;
	dir = opendir(name);
	while (dir && (entry = readdir(dir))) {
		char path[PATH_MAX];

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(path, sizeof(path), "%s/%s", name, entry->d_name);
		remove_all(path);
	}
	if (dir)
		closedir(dir);
	rmdir(name);
}

/* Runs a function in a process of its own. Its exit status is wait_for()'s. */
static pid_t spawn(int (*run)(int argument), int argument)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	need(child, "fork");
	if (child == 0)
		_exit(run(argument));
	return child;
}

static int wait_for(pid_t child)
{
	int status = -1;

	need(waitpid(child, &status, 0), "waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* --- making --- */

static void part_create(void)
{
	int fd;

	umask(022);
	works(fd = open("new", O_RDWR | O_CREAT, 0666), "open with O_CREAT makes a file");
	same(mode_of("new"), 0644, "its mode obeys the umask");
	works(write(fd, "text", 4), "it can be written");
	works(close(fd), "and closed");
	promise(holds("new", "text"), "and has what was written");
	refused(open("new", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST, "O_EXCL refuses an existing file");
	works(fd = open("new", O_WRONLY | O_CREAT | O_TRUNC, 0600), "O_TRUNC empties it");
	same(facts("new").st_size, 0, "to nothing");
	same(mode_of("new"), 0644, "and leaves its mode");
	close(fd);
	works(fd = open("read only", O_RDWR | O_CREAT, 0444), "a file may be made read only and open for writing");
	works(write(fd, "text", 4), "and be written by who made it");
	works(close(fd), "and closed");
	need(symlink("target", "link"), "symlink");
	refused(open("link", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST, "O_EXCL refuses a dangling symbolic link");
	works(fd = open("link", O_WRONLY | O_CREAT, 0644), "O_CREAT follows it");
	close(fd);
	promise(is_there("target"), "and makes its target");
	refused(open("none", O_RDONLY), ENOENT, "without O_CREAT there must be a file");
	refused(open("none/file", O_WRONLY | O_CREAT, 0644), ENOENT, "a directory on the way must be there");
	refused(open("new/file", O_WRONLY | O_CREAT, 0644), ENOTDIR, "and be one");
	works(mkdir("dir", 0777), "mkdir makes a directory");
	same(mode_of("dir"), 0755, "its mode obeys the umask");
	same(facts("dir").st_nlink, 2, "it has two links");
	works(mkdir("dir/sub", 0755), "a directory in it can be made");
	same(facts("dir").st_nlink, 3, "which is a third link");
	refused(mkdir("dir", 0755), EEXIST, "mkdir refuses what is there: a directory");
	refused(mkdir("new", 0755), EEXIST, "a file");
	refused(mkdir("link", 0755), EEXIST, "a link");
	refused(mkdir("none/dir", 0755), ENOENT, "mkdir needs a parent");
	refused(open("dir", O_WRONLY), EISDIR, "a directory can't be opened for writing");
	need(chown("dir", ROOT, STAFF) | chmod("dir", 02775), "a directory with the set-group-id bit");
	works(touch("dir/file"), "in a directory with the set-group-id bit a file is made");
	same(facts("dir/file").st_gid, STAFF, "of the directory's group");
	works(mkdir("dir/inherits", 0755), "and a directory");
	same(mode_of("dir/inherits") & 02000, 02000, "with that bit");
	umask(0);
	works(close(open("all bits", O_WRONLY | O_CREAT, 06777)), "without a umask all bits can be set");
	same(mode_of("all bits"), 06777, "and are");
	umask(022);
}

static void part_link(void)
{
	char target[PATH_MAX];

	make("file", "text", 0644);
	works(link("file", "second"), "link makes a second name");
	same(facts("file").st_nlink, 2, "both names count");
	same((long long)facts("second").st_ino, (long long)facts("file").st_ino, "and mean one file");
	make("second", "other text", 0644);
	promise(holds("file", "other text"), "what is written by one name is read by the other");
	works(unlink("file"), "one name can be taken away");
	promise(holds("second", "other text"), "the file stays");
	same(facts("second").st_nlink, 1, "with one name");
	need(mkdir("dir", 0755) | symlink("second", "symlink"), "a directory and a link");
	refused(link("dir", "dir2"), EPERM, "a directory gets no second name");
	refused(link("second", "dir"), EEXIST, "link refuses what is there: a directory");
	refused(link("second", "symlink"), EEXIST, "a link");
	refused(link("second", "second"), EEXIST, "the file itself");
	refused(link("none", "third"), ENOENT, "link needs a file");
	works(linkat(AT_FDCWD, "symlink", AT_FDCWD, "symlink2", 0), "a symbolic link can have two names");
	same(readlink("symlink2", target, sizeof(target)), 6, "and both read the same");
	works(linkat(AT_FDCWD, "symlink", AT_FDCWD, "third", AT_SYMLINK_FOLLOW), "AT_SYMLINK_FOLLOW links its target");
	same(facts("second").st_nlink, 2, "which counts it");
	snprintf(target, sizeof(target), "%s/link", small_path);
	refused(link("second", target), EXDEV, "no link into another file system");
	works(link("second", "dir/fourth"), "a link into another directory");
	works(rename("dir/fourth", "dir/fifth"), "which can be renamed");
	same(facts("second").st_nlink, 3, "and counts");
}

/* What a name may stand for, before a rename. */
enum thing { NOTHING, A_FILE, EMPTY, FULL, A_LINK, A_FIFO, THINGS };

static const char *const thing_names[] = { "nothing", "a file", "an empty directory", "a full directory",
					   "a symbolic link", "a FIFO" };

static bool is_directory(enum thing thing)
{
	return thing == EMPTY || thing == FULL;
}

static void make_thing(const char *name, enum thing thing)
{
	char inside[64];

	snprintf(inside, sizeof(inside), "%s/inside", name);
	if (thing == A_FILE)
		make(name, name, 0644);
	else if (is_directory(thing))
		need(mkdir(name, 0755), name);
	else if (thing == A_LINK)
		need(symlink(name, name), name);
	else if (thing == A_FIFO)
		need(mkfifo(name, 0644), name);
	if (thing == FULL)
		make(inside, name, 0644);
}

/* What POSIX says of renaming one onto the other. */
static int rename_error(enum thing from, enum thing to)
{
	if (from == NOTHING)
		return ENOENT;
	if (to == NOTHING)
		return 0;
	if (is_directory(from) && !is_directory(to))
		return ENOTDIR;
	if (!is_directory(from) && is_directory(to))
		return EISDIR;
	return to == FULL ? ENOTEMPTY : 0;
}

/* One of all combinations, in one directory or from one to another. */
static void rename_one(enum thing from, enum thing to, const char *to_name)
{
	int error = rename_error(from, to);
	const char *where = strchr(to_name, '/') ? "into another directory" : "in one directory";
	ino_t number = 0;

	make_thing("from", from);
	make_thing(to_name, to);
	if (from != NOTHING)
		number = facts("from").st_ino;
	if (error) {
		refused(rename("from", to_name), error, "%s onto %s, %s, is refused", thing_names[from], thing_names[to],
			where);
		promise(is_there("from") == (from != NOTHING) && is_there(to_name) == (to != NOTHING), "and both stay");
	} else {
		works(rename("from", to_name), "%s becomes %s, %s", thing_names[to], thing_names[from], where);
		promise(!is_there("from") && facts(to_name).st_ino == number, "and the old name is gone");
	}
	remove_all("from");
	remove_all(to_name);
}

static void part_rename(void)
{
	char there[PATH_MAX];
	struct stat before;
	int fd;

	need(mkdir("elsewhere", 0755), "mkdir");
	for (enum thing from = NOTHING; from < THINGS; from++)
		for (enum thing to = NOTHING; to < THINGS; to++) {
			rename_one(from, to, "to");
			rename_one(from, to, "elsewhere/to");
		}
	make("file", "text", 0644);
	need(link("file", "same") | mkdir("dir", 0755) | mkdir("dir/sub", 0755), "a tree");
	works(rename("file", "file"), "a file can be renamed to itself");
	works(rename("dir", "dir"), "so can a directory");
	works(rename("file", "same"), "a file onto another name of it is no error");
	promise(is_there("file") && is_there("same"), "and both names stay");
	refused(rename("dir", "dir/sub/below"), EINVAL, "a directory can't go below itself");
	refused(rename("dir", "dir/sub"), EINVAL, "nor onto what is below it");
	refused(rename("dir/sub", "dir"), ENOTEMPTY, "nor onto what is above it");
	refused(rename("dir/.", "other"), EBUSY, "\".\" can't be renamed");
	refused(rename("file", "none/file"), ENOENT, "the new directory must be there");
	refused(rename("file", "same/file"), ENOTDIR, "and be one");
	before = facts("elsewhere");
	works(rename("dir/sub", "elsewhere/sub"), "a directory moves to another one");
	same(facts("elsewhere").st_nlink, before.st_nlink + 1, "which has a link more");
	same(facts("dir").st_nlink, 2, "the old one has a link less");
	same((long long)facts("elsewhere/sub/..").st_ino, (long long)before.st_ino, "its \"..\" is the new one");
	make("new", "new", 0644);
	make("old", "old", 0644);
	need(fd = open("old", O_RDONLY), "open");
	works(rename("new", "old"), "a file onto one that is open");
	promise(holds("old", "new"), "the name means the new one");
	same(read(fd, there, sizeof(there)), 3, "the old one can still be read");
	promise(!memcmp(there, "old", 3), "as it was");
	close(fd);
	snprintf(there, sizeof(there), "%s/file", small_path);
	refused(rename("file", there), EXDEV, "nothing moves to another file system");
}

/* --- taking away --- */

static unsigned int silly_names(void)
{
	unsigned int count = 0;
	struct dirent *entry;
	DIR *dir = opendir(".");

	while (dir && (entry = readdir(dir)))
		count += !strncmp(entry->d_name, ".nfs", 4);
	if (dir)
		closedir(dir);
	return count;
}

/* Linux takes the name away after close(2) has returned, by a call of its own that nobody waits for. */
static unsigned int silly_names_left(void)
{
	for (int i = 0; i < 100 && silly_names() > 0; i++)
		usleep(20000);
	return silly_names();
}

static void part_unlink(void)
{
	char bytes[16] = "";
	struct stat st;
	int fd;

	make("file", "text", 0644);
	need(mkdir("dir", 0755) | mkdir("full", 0755) | touch("full/file") | symlink("dir", "link"), "a tree");
	refused(unlink("none"), ENOENT, "unlink needs a name");
	refused(unlink("dir"), EISDIR, "unlink is not for directories");
	refused(rmdir("file"), ENOTDIR, "rmdir is not for files");
	refused(rmdir("link"), ENOTDIR, "nor for links to directories");
	refused(rmdir("full"), ENOTEMPTY, "nor for directories with entries");
	refused(rmdir("dir/."), EINVAL, "nor for \".\"");
	refused(rmdir("none"), ENOENT, "rmdir needs a name");
	works(rmdir("dir"), "rmdir takes an empty directory away");
	works(unlink("link"), "unlink takes a dangling link away");

	need(fd = open("file", O_RDWR), "open");
	works(unlink("file"), "a file that is open can be taken away");
	promise(!is_there("file"), "its name is gone");
	same(read(fd, bytes, 4), 4, "it can still be read");
	promise(!memcmp(bytes, "text", 4), "as it was");
	works(pwrite(fd, "more", 4, 4), "and written");
	works(fsync(fd), "safely");
	same(pread(fd, bytes, sizeof(bytes), 0), 8, "and read again");
	works(fstat(fd, &st), "it still has attributes");
	same(st.st_size, 8, "with its new size");
	works(touch("file"), "its name is free for another file");
	same(facts("file").st_size, 0, "which is empty");
	close(fd);
	same(silly_names_left(), 0, "nothing of it is left when it is closed");
	need(fd = open("file", O_RDONLY), "open");
	works(unlink("file"), "the same for a file open for reading");
	close(fd);
	same(silly_names_left(), 0, "it leaves nothing either");
	need(fd = open("full", O_RDONLY | O_DIRECTORY), "open");
	works(unlink("full/file") | rmdir("full"), "a directory that is open can be taken away");
	promise(!is_there("full"), "its name is gone");
	close(fd);
}

static bool is_zero(const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i])
			return false;
	return true;
}

static void part_truncate(void)
{
	static char bytes[100000];
	struct stat before;
	int fd;

	make("file", "0123456789", 0644);
	works(truncate("file", 4), "truncate cuts a file");
	promise(holds("file", "0123"), "to its beginning");
	works(truncate("file", 90000), "and extends it");
	same(facts("file").st_size, 90000, "to a size");
	need(fd = open("file", O_RDWR), "open");
	same(read(fd, bytes, sizeof(bytes)), 90000, "of which all can be read");
	promise(!memcmp(bytes, "0123", 4) && is_zero(bytes + 4, 89996), "as zeros, not as what was there");
	works(ftruncate(fd, 0), "ftruncate cuts an open file");
	same(lseek(fd, 0, SEEK_CUR), 90000, "and leaves its offset");
	works(write(fd, "end", 3), "so that the next write goes there");
	same(facts("file").st_size, 90003, "and leaves a hole");
	same(pread(fd, bytes, 10, 0), 10, "which can be read");
	promise(is_zero(bytes, 10), "as zeros");
	refused(ftruncate(fd, -1), EINVAL, "no file has a negative size");
	before = facts("file");
	usleep(20000);
	works(ftruncate(fd, 5), "cutting it changes");
	promise(facts("file").st_mtim.tv_nsec != before.st_mtim.tv_nsec ||
			facts("file").st_mtim.tv_sec != before.st_mtim.tv_sec, "its time of modification");
	close(fd);
	need(fd = open("file", O_RDONLY), "open");
	refused(ftruncate(fd, 0), EINVAL, "a file open for reading can't be cut");
	close(fd);
	need(mkdir("dir", 0755), "mkdir");
	refused(truncate("dir", 0), EISDIR, "nor can a directory");
	refused(truncate("none", 0), ENOENT, "nor what is not there");
	need(chmod("file", 0444), "chmod");
	become(ALICE);
	refused(truncate("file", 0), EACCES, "nor what one may not write");
	become(ROOT);
}

/* --- who may do what --- */

/* Return: 0 if the directory's names can be read; -1 and errno */
static int list(const char *name)
{
	DIR *dir = opendir(name);

	return dir ? closedir(dir) : -1;
}

static void part_permissions(void)
{
	int fd;

	need(mkdir("open", 01777) | chmod("open", 01777) | mkdir("closed", 0700) | chown("closed", ALICE, ALICE), "dirs");
	become(ALICE);
	umask(0);
	make("open/private", "text", 0600);
	make("open/group", "text", 0640);
	make("open/none", "text", 0000);
	make("open/all", "text", 0666);
	make("closed/file", "text", 0666);
	same(facts("open/private").st_uid, ALICE, "what a user makes is his");
	same(facts("open/private").st_gid, ALICE, "and his group's");
	refused(open("open/none", O_RDONLY), EACCES, "without permission not even the owner opens a file");
	works(chmod("open/none", 0400), "but he may change its mode");
	works(close(open("open/none", O_RDONLY)), "and then open it");
	refused(open("open/none", O_WRONLY), EACCES, "for reading only");
	refused(chown("open/all", BOB, (gid_t)-1), EPERM, "he can't give it away");
	refused(chown("open/all", (uid_t)-1, STAFF), EPERM, "nor to a group that is not his");
	works(chown("open/all", (uid_t)-1, ALICE), "to his own he may");
	become_member(ALICE, STAFF);
	works(chown("open/group", (uid_t)-1, STAFF), "and to another one that he is in");
	works(chmod("open/group", 02750), "then with the set-group-id bit");
	same(mode_of("open/group"), 02750, "which stays");
	need(chmod("open/group", 0640), "chmod");

	become(BOB);
	refused(open("open/private", O_RDONLY), EACCES, "another user does not read what is private");
	refused(open("open/group", O_RDONLY), EACCES, "nor what is for a group");
	works(close(open("open/all", O_RDWR)), "but what is for all");
	refused(faccessat(AT_FDCWD, "open/private", R_OK, AT_EACCESS), EACCES, "access(2) says so");
	refused(chmod("open/all", 0777), EPERM, "he changes no mode of another's file");
	refused(chown("open/all", BOB, BOB), EPERM, "nor takes it");
	refused(open("closed/file", O_RDONLY), EACCES, "he does not get through a private directory");
	refused(list("closed"), EACCES, "nor sees what is in it");
	refused(touch("closed/new"), EACCES, "nor makes something in it");
	refused(unlink("open/all"), EPERM, "nor takes another's file out of a sticky directory");
	refused(rename("open/all", "open/mine"), EPERM, "nor renames it");
	become_member(BOB, STAFF);
	works(close(open("open/group", O_RDONLY)), "a member of the file's group reads it");
	refused(open("open/group", O_WRONLY), EACCES, "but does not write it");

	become(ROOT);
	need(chmod("closed", 0711), "chmod");
	become(BOB);
	works(close(open("closed/file", O_RDONLY)), "with the x bit alone one gets through a directory");
	refused(list("closed"), EACCES, "but does not see what is in it");
	become(ROOT);
	need(chmod("closed", 0744), "chmod");
	become(BOB);
	works(list("closed"), "with the r bit alone one sees the names");
	refused(open("closed/file", O_RDONLY), EACCES, "but gets no further");

	become(ROOT);
	works(close(open("open/none", O_RDWR)), "root may all");
	need(chmod("open/all", 06777), "chmod");
	become(BOB);
	need(fd = open("open/all", O_WRONLY), "open");
	works(write(fd, "x", 1) | fsync(fd) | close(fd), "who writes another's file");
	same(mode_of("open/all") & 04000, 0, "takes its set-user-id bit");
	become(ROOT);
	need(chmod("open/all", 06777), "chmod");
	works(chown("open/all", BOB, BOB), "root gives a file away");
	same(mode_of("open/all"), 0777, "which takes both bits");
	umask(022);
}

/* --- times --- */

static bool is_time(struct timespec got, time_t sec, long nsec)
{
	return got.tv_sec == sec && got.tv_nsec == nsec;
}

static bool is_later(struct timespec a, struct timespec b)
{
	return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

/* Whether something has changed these times of a file. */
static void moves_times(const char *name, struct stat before, bool modified, const char *what)
{
	struct stat after = facts(name);

	promise(is_later(after.st_ctim, before.st_ctim), "%s changes the time of change", what);
	same(is_later(after.st_mtim, before.st_mtim), modified, "and the time of modification: %s",
	     modified ? "yes" : "no");
	usleep(20000); /* longer than a tick of the server's clock */
}

static void part_times(void)
{
	const struct timespec past[2] = { { 1000000001, 123456789 }, { 1000000002, 987654321 } };
	const struct timespec far[2] = { { 4294967294, 999999999 }, { 4102444800, 1 } };
	const struct timespec now[2] = { { 0, UTIME_NOW }, { 0, UTIME_NOW } };
	const struct timespec omit[2] = { { 5, UTIME_OMIT }, { 1, 1 } };
	struct stat st;
	int fd;

	make("file", "text", 0666);
	works(utimensat(AT_FDCWD, "file", past, 0), "times can be set");
	st = facts("file");
	promise(is_time(st.st_atim, 1000000001, 123456789) && is_time(st.st_mtim, 1000000002, 987654321),
		"to the nanosecond");
	works(utimensat(AT_FDCWD, "file", omit, 0), "one of them alone");
	st = facts("file");
	promise(is_time(st.st_atim, 1000000001, 123456789) && is_time(st.st_mtim, 1, 1), "and the other stays");
	works(utimensat(AT_FDCWD, "file", far, 0), "times after 2038");
	promise(is_time(facts("file").st_atim, 4294967294, 999999999), "nearly to the end of what the protocol can say");
	need(utimensat(AT_FDCWD, "file", past, 0), "utimensat");
	works(utimensat(AT_FDCWD, "file", now, 0), "to now");
	promise(is_later(facts("file").st_mtim, past[1]), "which is later");
	need(symlink("file", "link"), "symlink");
	works(utimensat(AT_FDCWD, "link", past, AT_SYMLINK_NOFOLLOW), "those of a symbolic link");
	promise(is_time(facts("link").st_mtim, 1000000002, 987654321), "are its own");
	become(ALICE);
	refused(utimensat(AT_FDCWD, "file", past, 0), EPERM, "only the owner sets a time");
	works(utimensat(AT_FDCWD, "file", NULL, 0), "who may write sets them to now");
	become(ROOT);
	need(chmod("file", 0644), "chmod");
	become(ALICE);
	refused(utimensat(AT_FDCWD, "file", NULL, 0), EACCES, "who may not does not");
	become(ROOT);

	st = facts("file");
	usleep(20000);
	need(fd = open("file", O_WRONLY), "open");
	need(write(fd, "x", 1) | fsync(fd) | close(fd), "write");
	moves_times("file", st, true, "a write");
	st = facts("file");
	need(chmod("file", 0600), "chmod");
	moves_times("file", st, false, "chmod");
	st = facts("file");
	need(link("file", "file2"), "link");
	moves_times("file", st, false, "link");
	st = facts("file");
	need(unlink("file2"), "unlink");
	moves_times("file", st, false, "unlink of another name");
	st = facts(".");
	need(touch("entry"), "touch");
	moves_times(".", st, true, "a new entry of a directory");
	st = facts(".");
	need(rename("entry", "entry2"), "rename");
	moves_times(".", st, true, "a renamed one");
	st = facts(".");
	need(unlink("entry2"), "unlink");
	moves_times(".", st, true, "one that is taken away");
	st = facts("file");
	promise(holds("file", "xext"), "reading");
	same(is_later(facts("file").st_ctim, st.st_ctim), false, "changes no time of change");
}

/* --- several processes --- */

enum { RECORDS = 200, RECORD = 64, NAMES = 50 };

static int append_records(int number)
{
	char record[RECORD];
	int fd = open("log", O_WRONLY | O_APPEND);

	memset(record, 'a' + number, sizeof(record));
	record[RECORD - 1] = '\n';
	for (int i = 0; i < RECORDS; i++)
		if (write(fd, record, sizeof(record)) != sizeof(record))
			return 1;
	return close(fd) ? 1 : 0;
}

/* Return: how many names this process was the first to make */
static int make_names(int number)
{
	char name[16];
	int won = 0;

	(void)number;
	for (int i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "name%d", i);
		won += !touch(name);
	}
	return won;
}

static unsigned int whole_records(const char *bytes, size_t len, char letter)
{
	unsigned int count = 0;

	for (size_t at = 0; at + RECORD <= len; at += RECORD) {
		bool whole = bytes[at + RECORD - 1] == '\n';

		for (size_t i = 0; i < RECORD - 1; i++)
			whole = whole && bytes[at + i] == letter;
		count += whole;
	}
	return count;
}

static void part_append(void)
{
	static char bytes[2 * RECORDS * RECORD + 1];
	pid_t a, b;
	int fd, won;

	make("log", "", 0666);
	a = spawn(append_records, 0);
	b = spawn(append_records, 1);
	same(wait_for(a) + wait_for(b), 0, "two processes append to one file");
	need(fd = open("log", O_RDONLY), "open");
	same(read(fd, bytes, sizeof(bytes)), 2 * RECORDS * RECORD, "it has what both wrote");
	close(fd);
	same(whole_records(bytes, sizeof(bytes), 'a'), RECORDS, "the first's records whole");
	same(whole_records(bytes, sizeof(bytes), 'b'), RECORDS, "the second's records whole");
	need(fd = open("log", O_RDWR | O_APPEND), "open");
	works(pwrite(fd, "!", 1, 0) + lseek(fd, 0, SEEK_SET) + write(fd, "?", 1), "O_APPEND writes go to the end");
	same(facts("log").st_size, 2 * RECORDS * RECORD + 2, "wherever the offset is");
	close(fd);
	a = spawn(make_names, 0);
	b = spawn(make_names, 1);
	won = wait_for(a);
	same(won + wait_for(b), NAMES, "of two processes that make a file with O_EXCL one succeeds");
}

/* --- locks --- */

static int lock(int fd, int command, short type, off_t start, off_t len)
{
	struct flock wanted = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };

	return fcntl(fd, command, &wanted);
}

/* In another process: the errno value with which a lock of bytes of "file" is refused, or 0. */
static int try_lock(int bytes)
{
	int fd = open("file", O_RDWR);

	return lock(fd, F_SETLK, bytes & 0x100 ? F_RDLCK : F_WRLCK, bytes & 0xff, 10) ? errno : 0;
}

static int another_locks(int bytes)
{
	return wait_for(spawn(try_lock, bytes));
}

static int try_flock(int operation)
{
	int fd = open("file", O_RDWR);

	return flock(fd, operation | LOCK_NB) ? errno : 0;
}

static int wait_and_mark(int number)
{
	int fd = open("file", O_RDWR);

	(void)number;
	if (lock(fd, F_SETLKW, F_WRLCK, 0, 10))
		return 1;
	return is_there("released") ? 0 : 2;
}

static int hold_and_die(int number)
{
	int fd = open("file", O_RDWR);

	(void)number;
	return lock(fd, F_SETLK, F_WRLCK, 0, 10) ? 1 : 0;
}

static int holder_is_parent(int number)
{
	struct flock found = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 1 };
	int fd = open("file", O_RDWR);

	(void)number;
	if (fcntl(fd, F_GETLK, &found))
		return 1;
	return found.l_type == F_WRLCK && found.l_pid == getppid() && found.l_start == 0 && found.l_len == 10 ? 0 : 2;
}

static void part_locks(void)
{
	pid_t waiting;
	int fd, other;

	make("file", "0123456789012345678901234567890123456789", 0666);
	need(fd = open("file", O_RDWR), "open");
	works(lock(fd, F_SETLK, F_WRLCK, 0, 10), "a process locks a range");
	same(another_locks(5), EAGAIN, "another can't lock what overlaps");
	same(another_locks(0x100 | 5), EAGAIN, "not even for reading");
	same(another_locks(10), 0, "but what does not");
	same(wait_for(spawn(holder_is_parent, 0)), 0, "F_GETLK tells who holds which range");
	works(lock(fd, F_SETLK, F_RDLCK, 0, 10), "the lock becomes one for reading");
	same(another_locks(0x100 | 5), 0, "which others may have, too");
	same(another_locks(5), EAGAIN, "but not one for writing");
	works(lock(fd, F_SETLK, F_UNLCK, 0, 5), "a part of it is given back");
	same(another_locks(0x100 | 0), 0, "what is held is the rest");
	works(lock(fd, F_SETLK, F_WRLCK, 0, 10), "all of it for writing again");
	waiting = spawn(wait_and_mark, 0);
	usleep(300000);
	need(touch("released"), "touch");
	works(lock(fd, F_SETLK, F_UNLCK, 0, 10), "it is given back");
	same(wait_for(waiting), 0, "and who waited has it, not before");
	same(wait_for(spawn(hold_and_die, 0)), 0, "a process locks and ends");
	works(lock(fd, F_SETLK, F_WRLCK, 0, 10), "its lock has ended, too");
	need(other = open("file", O_RDONLY), "open");
	close(other);
	same(another_locks(5), 0, "any descriptor that is closed ends a process's locks");
	works(flock(fd, LOCK_EX), "flock locks a file");
	same(wait_for(spawn(try_flock, LOCK_EX)), EWOULDBLOCK, "another can't");
	same(wait_for(spawn(try_flock, LOCK_SH)), EWOULDBLOCK, "not even to share it");
	works(flock(fd, LOCK_SH), "shared");
	same(wait_for(spawn(try_flock, LOCK_SH)), 0, "another may share it");
	same(wait_for(spawn(try_flock, LOCK_EX)), EWOULDBLOCK, "but not have it alone");
	works(flock(fd, LOCK_UN), "given back");
	same(wait_for(spawn(try_flock, LOCK_EX)), 0, "it is free");
	close(fd);
}

/* --- directories --- */

enum { STAYING = 400, COMING = 300 };

/* The number behind a prefix in a name, or -1. */
static int number_in(const char *name, char prefix, int limit)
{
	char *end;
	long number;

	if (name[0] != prefix || !name[1])
		return -1;
	number = strtol(name + 1, &end, 10);
	return *end || number < 0 || number >= limit ? -1 : (int)number;
}

static void make_numbered(char prefix, int count)
{
	char name[16];

	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%c%d", prefix, i);
		need(touch(name), name);
	}
}

/* Counts of each of the files f0, f1, ... in a directory. Returns how many entries there were that are none. */
static unsigned int read_numbered(DIR *dir, uint8_t *seen, int limit)
{
	unsigned int others = 0;
	struct dirent *entry;

	while ((entry = readdir(dir))) {
		int number = number_in(entry->d_name, 'f', limit);

		if (number >= 0)
			seen[number]++;
		else
			others++;
	}
	return others;
}

static unsigned int not_once(const uint8_t *seen, int limit)
{
	unsigned int wrong = 0;

	for (int i = 0; i < limit; i++)
		wrong += seen[i] != 1;
	return wrong;
}

static void read_large(void)
{
	static uint8_t seen[LARGE_ENTRIES];
	DIR *dir = opendir(large_path);
	struct dirent *entry;
	char name[NAME_MAX + 1];
	long place;

	need(dir ? 0 : -1, large_path);
	same(read_numbered(dir, seen, LARGE_ENTRIES), 2, "beside %d files a directory has \".\" and \"..\"", LARGE_ENTRIES);
	same(not_once(seen, LARGE_ENTRIES), 0, "and each file once");
	rewinddir(dir);
	memset(seen, 0, sizeof(seen));
	for (int i = 0; i < LARGE_ENTRIES / 2; i++)
		readdir(dir);
	place = telldir(dir);
	entry = readdir(dir);
	snprintf(name, sizeof(name), "%s", entry ? entry->d_name : "");
	for (int i = 0; i < 2000; i++)
		readdir(dir);
	seekdir(dir, place);
	entry = readdir(dir);
	promise(entry && !strcmp(entry->d_name, name), "seekdir goes back to where telldir was");
	closedir(dir);
}

static void part_readdir(void)
{
	static uint8_t seen[STAYING];
	struct dirent *entry;
	unsigned int gone = 0, types = 0;
	char name[16];
	DIR *dir;

	read_large();
	make_numbered('f', STAYING);
	make_numbered('g', COMING);
	dir = opendir(".");
	need(dir ? 0 : -1, "opendir");
	while ((entry = readdir(dir))) {
		int number = number_in(entry->d_name, 'f', STAYING);

		types += entry->d_type == (entry->d_name[0] == '.' ? DT_DIR : DT_REG) || entry->d_type == DT_UNKNOWN;
		if (number < 0)
			continue;
		seen[number]++;
		if (number < COMING) {
			snprintf(name, sizeof(name), "h%d", number);
			touch(name);
			snprintf(name, sizeof(name), "g%d", number);
			unlink(name);
		}
	}
	closedir(dir);
	same(not_once(seen, STAYING), 0, "each file that stays is seen once while others come and go");
	promise(types > STAYING, "with its type");

	dir = opendir(".");
	need(dir ? 0 : -1, "opendir");
	while ((entry = readdir(dir)))
		gone += !unlink(entry->d_name);
	closedir(dir);
	same(gone, STAYING + COMING, "a loop of readdir and unlink");
	dir = opendir(".");
	same(read_numbered(dir, seen, 0), 2, "leaves an empty directory");
	closedir(dir);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "d%d", i);
		need(mkdir(name, 0755), name);
	}
	same(facts(".").st_nlink, 102, "a directory counts its subdirectories");
}

/* --- data --- */

static void part_sparse(void)
{
	const off_t far = (off_t)5 << 30;
	char bytes[16];
	off_t data, hole;
	int fd;

	need(fd = open("file", O_RDWR | O_CREAT, 0644), "open");
	works(pwrite(fd, "begin", 5, 0), "a file's beginning is written");
	works(pwrite(fd, "end", 3, far), "and 5 GiB later its end");
	works(fsync(fd), "safely");
	same(facts("file").st_size, far + 3, "it has that size");
	promise(facts("file").st_blocks < 1 << 20, "but does not take it");
	same(pread(fd, bytes, 16, far - 8), 11, "the end of the hole can be read");
	promise(is_zero(bytes, 8) && !memcmp(bytes + 8, "end", 3), "as zeros, then the end");
	works(pwrite(fd, "high", 4, ((off_t)1 << 32) - 2), "bytes across the 4 GiB");
	same(pread(fd, bytes, 4, ((off_t)1 << 32) - 2), 4, "are there");
	promise(!memcmp(bytes, "high", 4), "as written");
	same(pread(fd, bytes, 5, 0), 5, "and not at the beginning");
	promise(!memcmp(bytes, "begin", 5), "which is as it was");
	data = lseek(fd, 0, SEEK_DATA);
	hole = lseek(fd, 0, SEEK_HOLE);
	same(data, 0, "there is data at the beginning");
	promise(hole >= 5 && hole <= far + 3, "and a hole behind it, at the end at the latest");
	works(ftruncate(fd, (off_t)1 << 40), "it can be extended to 1 TiB");
	same(lseek(fd, 0, SEEK_END), (off_t)1 << 40, "and has that size");
	refused(ftruncate(fd, INT64_MAX), EFBIG, "but not beyond what the file system can");
	close(fd);
}

enum { MODEL = 256 * 1024, STEPS = 250, STEP_MAX = 40000 };

/* The same numbers in each run. */
static uint32_t draw(uint32_t limit)
{
	static uint64_t state = 88172645463325252u;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 16) % limit;
}

struct model {
	char bytes[MODEL];
	size_t size;
	int fd;
};

static bool model_write(struct model *model)
{
	size_t at = draw(MODEL - STEP_MAX), len = 1 + draw(STEP_MAX);

	if (at > model->size)
		memset(model->bytes + model->size, 0, at - model->size);
	for (size_t i = 0; i < len; i++)
		model->bytes[at + i] = (char)draw(256);
	if (at + len > model->size)
		model->size = at + len;
	return pwrite(model->fd, model->bytes + at, len, (off_t)at) == (ssize_t)len;
}

static bool model_cut(struct model *model)
{
	size_t size = draw(MODEL);

	if (size > model->size)
		memset(model->bytes + model->size, 0, size - model->size);
	model->size = size;
	return !ftruncate(model->fd, (off_t)size);
}

static bool model_map(struct model *model)
{
	size_t len = model->size ? 1 + draw((uint32_t)model->size) : 0;
	char *map;

	if (!len)
		return true;
	map = mmap(NULL, model->size, PROT_READ | PROT_WRITE, MAP_SHARED, model->fd, 0);
	if (map == MAP_FAILED)
		return false;
	for (size_t at = model->size - len; at < model->size; at += 1000)
		map[at] = model->bytes[at] = (char)draw(256);
	return !munmap(map, model->size);
}

static bool model_reopen(struct model *model)
{
	if (fsync(model->fd) || close(model->fd))
		return false;
	model->fd = open("file", O_RDWR | (draw(2) ? O_SYNC : 0));
	return model->fd >= 0;
}

static bool model_read(struct model *model)
{
	static char bytes[MODEL];
	ssize_t len = pread(model->fd, bytes, sizeof(bytes), 0);

	return len == (ssize_t)model->size && !memcmp(bytes, model->bytes, model->size);
}

static void part_data(void)
{
	static bool (*const steps[])(struct model *) = { model_write, model_write, model_write, model_cut,
							  model_map, model_read, model_reopen };
	static struct model model;
	unsigned int wrong = 0;

	need(model.fd = open("file", O_RDWR | O_CREAT, 0644), "open");
	for (int i = 0; i < STEPS; i++)
		wrong += !steps[draw(sizeof(steps) / sizeof(steps[0]))](&model);
	same(wrong, 0, "%d writes, cuts, mappings, readings, in any order", STEPS);
	promise(model_reopen(&model) && model_read(&model), "and the file is what it should be");
	same(facts("file").st_size, (long long)model.size, "in its size, too");
	close(model.fd);
}

static char *map_file(int fd, int flags)
{
	return mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, flags, fd, 0);
}

static int write_through_map(int number)
{
	int fd = open("file", O_RDWR);
	char *map = map_file(fd, MAP_SHARED);

	(void)number;
	if (map == MAP_FAILED)
		return 1;
	map[4096] = 'c';
	return 0;
}

static int touch_beyond(int number)
{
	int fd = open("file", O_RDWR);
	volatile char *map = map_file(fd, MAP_SHARED);

	(void)number;
	return map[2 * 4096];
}

static void part_mmap(void)
{
	static char bytes[2 * 4096] __attribute__((aligned(4096)));
	char *map, *private;
	int fd;

	need(fd = open("file", O_RDWR | O_CREAT, 0644), "open");
	memset(bytes, '.', sizeof(bytes));
	need(write(fd, bytes, sizeof(bytes)), "write");
	map = map_file(fd, MAP_SHARED);
	private = map_file(fd, MAP_PRIVATE);
	promise(map != MAP_FAILED && private != MAP_FAILED, "a file can be mapped");
	need(map == MAP_FAILED || private == MAP_FAILED ? -1 : 0, "mmap");
	map[0] = 's';
	private[1] = 'p';
	works(msync(map, 3 * 4096, MS_SYNC), "what is written to memory is made safe");
	same(pread(fd, bytes, 2, 0), 2, "and read");
	promise(bytes[0] == 's' && bytes[1] == '.', "if it is shared, not if it is private");
	same(wait_for(spawn(write_through_map, 0)), 0, "another process maps it");
	promise(map[4096] == 'c', "and what it writes is seen");
	need(pwrite(fd, "w", 1, 4097), "pwrite");
	promise(map[4097] == 'w', "as is what is written to the file");
	same(wait_for(spawn(touch_beyond, 0)), 1000 + SIGBUS, "there is no memory behind the end of the file");
	munmap(private, 3 * 4096);
	works(munmap(map, 3 * 4096), "it is unmapped");
	close(fd);
	need(fd = open("file", O_RDONLY | O_DIRECT), "open");
	same(pread(fd, bytes, 8192, 0), 8192, "read past the cache");
	promise(bytes[0] == 's' && bytes[4096] == 'c' && bytes[4097] == 'w', "it is what was written");
	close(fd);
}

/* Writes until there is no room. Returns the error that says so, at the latest when the file is made safe; 0: none. */
static int fill(int fd)
{
	static const char block[65536] = { 1 };

	for (int i = 0; i < 1024; i++)
		if (write(fd, block, sizeof(block)) < 0)
			return errno;
	return fsync(fd) ? errno : 0;
}

static void part_full(void)
{
	char name[PATH_MAX];
	struct statvfs before, after;
	int fd;

	snprintf(name, sizeof(name), "%s/file", small_path);
	need(statvfs(small_path, &before), "statvfs");
	need(fd = open(name, O_WRONLY | O_CREAT, 0644), name);
	same(fill(fd), ENOSPC, "a file system that is full says so");
	fsync(fd);
	close(fd);
	need(statvfs(small_path, &after), "statvfs");
	promise(after.f_bavail * 4 < before.f_bavail, "and has next to no room");
	promise(facts(name).st_size > 0, "what had room is there");
	works(truncate(name, 0), "a file that is cut");
	need(fd = open(name, O_WRONLY | O_TRUNC), name);
	works(write(fd, "text", 4) | fsync(fd) | close(fd), "makes room");
	promise(holds(name, "text"), "for others");
	works(unlink(name), "which can be taken away");
	need(statvfs(small_path, &after), "statvfs");
	promise(after.f_bavail * 10 > before.f_bavail * 9, "and then there is as much room as before");
}

/* --- names and kinds --- */

static void part_names(void)
{
	static const char *const odd[] = { " ", "  two ", "-rf", "a\nb", "\t", "\xff\xfe", "\xc3\x84", "*?[", "\\", "\"'",
					   "...", ".hidden", "~", "a:b", "\x7f", "\x01", "CON", "a.", "%s%n" };
	char name[300], back[4096];
	unsigned int made = 0;
	struct statvfs fs;

	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		make(odd[i], odd[i], 0644);
		promise(holds(odd[i], odd[i]), "odd name %zu", i);
	}
	need(mkdir("bytes", 0755) | chdir("bytes"), "bytes");
	for (int byte = 1; byte < 256; byte++) {
		snprintf(name, sizeof(name), "x%c", byte);
		made += byte != '/' && !touch(name);
	}
	same(made, 254, "a name may have any byte but one");
	for (int byte = 1; byte < 256; byte++) {
		snprintf(name, sizeof(name), "x%c", byte);
		made -= byte != '/' && !unlink(name);
	}
	same(made, 0, "by which it is found again");
	need(chdir(".."), "chdir");
	memset(name, 'n', sizeof(name));
	name[255] = '\0';
	works(touch(name), "a name may have 255 bytes");
	works(unlink(name), "and be found");
	name[255] = 'n';
	name[256] = '\0';
	refused(touch(name), ENAMETOOLONG, "but not 256");
	refused(mkdir(name, 0755), ENAMETOOLONG, "nor may a directory's");
	need(statvfs(".", &fs), "statvfs");
	same((long long)fs.f_namemax, 255, "as the file system says");
	make("Case", "upper", 0644);
	make("case", "lower", 0644);
	promise(holds("Case", "upper") && holds("case", "lower"), "upper and lower case are two names");
	memset(back, 0, sizeof(back));
	for (int depth = 0; depth < 60; depth++) {
		need(mkdir("deep", 0755), "mkdir");
		need(chdir("deep"), "chdir");
	}
	promise(getcwd(back, sizeof(back)) && strlen(back) > 60 * 5, "directories may be 60 deep");
	need(chdir(dir_path) | chdir(part), "chdir");
}

static void part_symlinks(void)
{
	char target[1100], back[2048];

	make("file", "text", 0644);
	memset(target, 't', sizeof(target));
	target[1000] = '\0';
	works(symlink("file", "link"), "symlink makes a link");
	promise(S_ISLNK(facts("link").st_mode), "which is one");
	same(facts("link").st_size, 4, "of its target's length");
	promise(holds("link", "text"), "and leads to it");
	same(readlink("link", back, sizeof(back)), 4, "readlink gives the target");
	promise(!memcmp(back, "file", 4), "as it was said");
	same(readlink("link", back, 2), 2, "as much as fits");
	refused(readlink("file", back, sizeof(back)), EINVAL, "and refuses a file");
	works(symlink(target, "long"), "a target may have 1000 bytes");
	same(readlink("long", back, sizeof(back)), 1000, "of which none is lost");
	works(symlink("loop", "loop"), "a link to itself can be made");
	refused(open("loop", O_RDONLY), ELOOP, "but not be followed");
	refused(open("link", O_RDONLY | O_NOFOLLOW), ELOOP, "O_NOFOLLOW follows none");
	refused(symlink("other", "link"), EEXIST, "symlink refuses what is there");
	need(chmod("link", 0600), "chmod");
	same(mode_of("file"), 0600, "chmod goes to the target");
	works(lchown("link", ALICE, BOB), "lchown to the link");
	promise(facts("link").st_uid == ALICE && facts("file").st_uid == ROOT, "alone");
	need(mkdir("dir", 0755) | symlink("../file", "dir/up") | symlink("dir", "dirlink"), "more links");
	promise(holds("dirlink/up", "text"), "links are followed on the way, too");
	works(unlink("link"), "unlink takes the link away");
	promise(holds("file", "text"), "not the target");
}

/* What reads a FIFO in another process. */
static int read_fifo(int number)
{
	char bytes[8];
	int fd = open("fifo", O_RDONLY);

	(void)number;
	return read(fd, bytes, sizeof(bytes)) == 4 && !memcmp(bytes, "text", 4) ? 0 : 1;
}

static void part_special(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "socket" };
	int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0), fd;
	pid_t reader;

	umask(0);
	works(mkfifo("fifo", 0604), "a FIFO can be made");
	promise(S_ISFIFO(facts("fifo").st_mode), "and is one");
	same(mode_of("fifo"), 0604, "with its mode");
	reader = spawn(read_fifo, 0);
	need(fd = open("fifo", O_WRONLY), "open");
	works(write(fd, "text", 4), "it can be written");
	close(fd);
	same(wait_for(reader), 0, "and read by another process");
	works(mknod("char", S_IFCHR | 0600, makedev(4095, 1048575)), "a character device can be made");
	promise(S_ISCHR(facts("char").st_mode) && facts("char").st_rdev == makedev(4095, 1048575), "with its numbers");
	works(mknod("block", S_IFBLK | 0600, makedev(7, 3)), "a block device can be made");
	promise(S_ISBLK(facts("block").st_mode) && facts("block").st_rdev == makedev(7, 3), "with its numbers");
	works(bind(server, (struct sockaddr *)&address, sizeof(address)), "a socket can be bound");
	promise(S_ISSOCK(facts("socket").st_mode), "and is one");
	need(listen(server, 1), "listen");
	works(connect(client, (struct sockaddr *)&address, sizeof(address)), "and connected to");
	need(chmod(".", 0777), "chmod");
	become(ALICE);
	refused(mknod("device", S_IFCHR | 0600, makedev(1, 3)), EPERM, "users make no devices");
	works(mkfifo("fifo2", 0600), "but FIFOs");
	become(ROOT);
	works(link("fifo", "fifo3"), "a FIFO can have two names");
	works(unlink("fifo") | unlink("char") | unlink("block") | unlink("socket"), "all can be taken away");
	close(server);
	close(client);
	umask(022);
}

/* --- access control lists --- */

struct acl_entry {
	uint16_t tag, permissions;
	uint32_t id;
};

enum { TAG_USER_OBJ = 1, TAG_USER = 2, TAG_GROUP_OBJ = 4, TAG_MASK = 16, TAG_OTHER = 32, NO_ID = -1 };

/* As the kernel wants it in an extended attribute: a version, then the entries, little-endian. */
static int set_acl(const char *name, const char *attribute, const struct acl_entry *entries, size_t count)
{
	uint32_t bytes[1 + 2 * 8] = { htole32(2) };

	for (size_t i = 0; i < count; i++) {
		bytes[1 + 2 * i] = htole32((uint32_t)entries[i].tag | (uint32_t)entries[i].permissions << 16);
		bytes[2 + 2 * i] = htole32(entries[i].id);
	}
	return setxattr(name, attribute, bytes, 4 + 8 * count, 0);
}

static bool has_acl(const char *name, const char *attribute, const struct acl_entry *entries, size_t count)
{
	uint32_t bytes[1 + 2 * 8];
	ssize_t len = getxattr(name, attribute, bytes, sizeof(bytes));

	if (len != (ssize_t)(4 + 8 * count))
		return false;
	for (size_t i = 0; i < count; i++)
		if (le32toh(bytes[1 + 2 * i]) != ((uint32_t)entries[i].tag | (uint32_t)entries[i].permissions << 16) ||
		    le32toh(bytes[2 + 2 * i]) != entries[i].id)
			return false;
	return true;
}

static void part_acl(void)
{
	static const char access_acl[] = "system.posix_acl_access", default_acl[] = "system.posix_acl_default";
	static const struct acl_entry for_bob[] = {
		{ TAG_USER_OBJ, 6, NO_ID }, { TAG_USER, 6, BOB },   { TAG_GROUP_OBJ, 4, NO_ID },
		{ TAG_MASK, 6, NO_ID },	    { TAG_OTHER, 0, NO_ID },
	};
	char bytes[64];

	make("file", "text", 0640);
	refused(getxattr("file", access_acl, bytes, sizeof(bytes)), ENODATA, "a file has no ACL to start with");
	become(BOB);
	refused(open("file", O_RDONLY), EACCES, "and bob can't read it");
	refused(set_acl("file", access_acl, for_bob, 5), EPERM, "nor give himself the right");
	become(ROOT);
	works(set_acl("file", access_acl, for_bob, 5), "its owner gives bob rights");
	promise(has_acl("file", access_acl, for_bob, 5), "and sees what he gave");
	same(mode_of("file"), 0660, "the mode's group bits show the mask");
	become(BOB);
	works(close(open("file", O_RDWR)), "bob reads and writes it");
	become(ALICE);
	refused(open("file", O_RDONLY), EACCES, "alice does not");
	become(ROOT);
	works(chmod("file", 0640), "chmod cuts the mask");
	become(BOB);
	refused(open("file", O_WRONLY), EACCES, "and bob's rights with it");
	works(close(open("file", O_RDONLY)), "he still reads");
	become(ROOT);
	works(removexattr("file", access_acl), "the ACL is taken away");
	refused(getxattr("file", access_acl, bytes, sizeof(bytes)), ENODATA, "and is gone");
	become(BOB);
	refused(open("file", O_RDONLY), EACCES, "with bob's rights");
	become(ROOT);
	refused(set_acl("file", access_acl, for_bob, 4), EINVAL, "half an ACL is refused");
	need(mkdir("dir", 0755), "mkdir");
	works(set_acl("dir", default_acl, for_bob, 5), "a directory has an ACL for what is made in it");
	promise(has_acl("dir", default_acl, for_bob, 5), "which can be seen");
	refused(getxattr("dir", access_acl, bytes, sizeof(bytes)), ENODATA, "and is not its own");
	umask(077);
	make("dir/file", "text", 0660);
	umask(022);
	promise(has_acl("dir/file", access_acl, for_bob, 5), "a file made in it has that ACL");
	works(mkdir("dir/sub", 0777), "a directory made in it");
	promise(has_acl("dir/sub", default_acl, for_bob, 5), "hands it on");
	refused(set_acl("file", default_acl, for_bob, 5), EACCES, "a file has no ACL for others");
	works(removexattr("dir", default_acl), "it is taken away");
	refused(getxattr("dir", default_acl, bytes, sizeof(bytes)), ENODATA, "and is gone");
}

/* --- all of it --- */

static const struct {
	const char *name;
	void (*run)(void);
} parts[] = {
	{ "create", part_create },	 { "link", part_link },		{ "rename", part_rename },
	{ "unlink", part_unlink },	 { "truncate", part_truncate }, { "permissions", part_permissions },
	{ "times", part_times },	 { "append", part_append },	{ "locks", part_locks },
	{ "readdir", part_readdir },	 { "sparse", part_sparse },	{ "data", part_data },
	{ "mmap", part_mmap },		 { "full", part_full },		{ "names", part_names },
	{ "symlinks", part_symlinks },	 { "special", part_special },	{ "acl", part_acl },
};

static bool is_left_out(const char *name, int count, char **names)
{
	for (int i = 0; i + 1 < count; i += 2)
		if (!strcmp(names[i], "--without") && !strcmp(names[i + 1], name))
			return true;
	return false;
}

static void run_part(size_t i)
{
	part = parts[i].name;
	need(chdir(dir_path), dir_path);
	remove_all(part);
	need(mkdir(part, 0755), part);
	need(chdir(part), part);
	parts[i].run();
	need(chdir(dir_path), dir_path);
	remove_all(part);
	promise(!is_there(part), "all of it is taken away");
}

int main(int argc, char **argv)
{
	if (argc < 4 || argc % 2) {
		fprintf(stderr, "usage: posix_suite [--without PART]... DIR SMALL LARGE\n");
		return 2;
	}
	dir_path = argv[argc - 3];
	small_path = argv[argc - 2];
	large_path = argv[argc - 1];
	umask(022);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (!is_left_out(parts[i].name, argc - 4, argv + 1))
			run_part(i);
	printf("1..%u\n", promises);
	return broken ? 1 : 0;
}
