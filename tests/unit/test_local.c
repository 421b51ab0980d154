/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * If this fails, clients of a disk node see wrong files or wrong errors, reach what their users may not, or lose data
 * that they were told is safe.
 *
 * Needs root, and a directory ($TMPDIR, /tmp or the current one) on a file system with file handles.
 */
#include "config.h"

#include "slave/local.h"

#include "common/group_commit.h"
#include "common/page_pipe.h"
#include "common/patience.h"
#include "slave/local_cache.h"
#include "slave/local_internal.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/quota.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIP = 77, VOLUME_ID = 7, ALICE = 1000, BOB = 1001, STAFF = 5000 };

static const struct credentials root_user = { 0 };
static const struct credentials alice = { .uid = ALICE, .gid = ALICE };
static const struct credentials bob = { .uid = BOB, .gid = BOB };
static const struct credentials staff_member = {
	.uid = 1002, .gid = 1002, .group_count = 2, .groups = { 4999, STAFF },
};
static const struct backend_set no_set;

/* --- the disk: counts what is made durable, and can fail --- */

static int sync_count, sync_error;
static int (*on_next_sync)(void); /* its error, or 0 */

/* Return: whether the disk takes it; else errno says why not */
static bool may_sync(void)
{
	int (*decide)(void) = on_next_sync, error = sync_error;

	sync_count++;
	on_next_sync = NULL;
	if (decide)
		error = decide();
	if (error)
		errno = error;
	return !error;
}

static int disk_sync(long number, int fd)
{
	return may_sync() ? (int)syscall(number, fd) : -1;
}

/* These take the place of the C library's in this program. */
int fsync(int fd)
{
	return disk_sync(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	return disk_sync(SYS_fdatasync, fd);
}

int syncfs(int fd)
{
	return disk_sync(SYS_syncfs, fd);
}

/* A process that may have no descriptor to keep. */
static bool has_descriptors = true;

int getrlimit(__rlimit_resource_t resource, struct rlimit *limit)
{
	int rc = prlimit(0, resource, NULL, limit);

	if (resource == RLIMIT_NOFILE && !has_descriptors)
		limit->rlim_cur = 0;
	return rc;
}

/* A kernel that knows letters; few do, and this one may not. And Btrfs has its own way to make changes durable. */
static bool ignores_case;

int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *arg;
	int rc;

	va_start(arguments, request);
	arg = va_arg(arguments, void *);
	va_end(arguments);
	if (request == BTRFS_IOC_WAIT_SYNC && !may_sync())
		return -1;
	rc = (int)syscall(SYS_ioctl, fd, request, arg);
	if (request != FS_IOC_GETFLAGS || !ignores_case)
		return rc;
	*(int *)arg |= FS_CASEFOLD_FL;
	return 0;
}

/* --- a volume for each test --- */

static char directory[PATH_MAX];
static struct volume *volume;
static const struct backend *backend;

static char *directory_new(void)
{
	const char *parents[] = { getenv("TMPDIR"), "/tmp", "." };

	for (size_t i = 0; i < sizeof(parents) / sizeof(parents[0]); i++) {
		if (!parents[i])
			continue;
		snprintf(directory, sizeof(directory), "%s/vnas-local-XXXXXX", parents[i]);
		if (mkdtemp(directory))
			return directory;
	}
	return NULL;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void directory_remove(void)
{
	nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void volume_open(const char *path)
{
	ck_assert_int_eq(local_open(path, VOLUME_ID, 99, &volume), 0);
	backend = volume->backend;
}

static int descriptors_before;

static int count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void setup(void)
{
	umask(077);
	sync_error = 0;
	descriptors_before = count_descriptors();
	ck_assert_ptr_nonnull(directory_new());
	ck_assert_int_eq(chmod(directory, 01777), 0);
	volume_open(directory);
}

static void teardown(void)
{
	local_close(volume);
	directory_remove();
	ck_assert_int_eq(count_descriptors(), descriptors_before);
}

/* A path below the volume, for looking behind the backend's back. Each call overwrites what the last but 3 returned. */
static const char *at(const char *name)
{
	static char paths[4][2 * PATH_MAX];
	static unsigned int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

static struct backend_set mode_set(uint32_t mode)
{
	return (struct backend_set){ .set_mode = true, .mode = mode };
}

static struct backend_set size_set(uint64_t size)
{
	return (struct backend_set){ .set_size = true, .size = size };
}

static struct handle make_file_in(const struct handle *dir, const char *name, const struct credentials *who,
				  uint32_t mode)
{
	struct backend_set set = mode_set(mode);
	struct backend_change change;
	struct backend_found found;

	ck_assert_int_eq(backend->create(volume, who, dir, name, BACKEND_CREATE_GUARDED, &set, NULL, &found, &change), 0);
	return found.handle;
}

static struct handle make_file(const char *name, const struct credentials *who, uint32_t mode)
{
	return make_file_in(&volume->root, name, who, mode);
}

static struct handle make_dir(const char *name, const struct credentials *who, uint32_t mode)
{
	struct backend_set set = mode_set(mode);
	struct backend_change change;
	struct backend_found found;

	ck_assert_int_eq(backend->mkdir(volume, who, &volume->root, name, &set, &found, &change), 0);
	return found.handle;
}

static struct handle make_symlink(const char *name, const char *target, const struct credentials *who)
{
	struct backend_change change;
	struct backend_found found;

	ck_assert_int_eq(backend->symlink(volume, who, &volume->root, name, target, &no_set, &found, &change), 0);
	return found.handle;
}

static int look_in(const struct handle *dir, const char *name, struct handle *out)
{
	struct backend_attributes after;
	struct backend_found found;
	int rc = backend->lookup(volume, &root_user, dir, name, &found, &after);

	if (!rc && out)
		*out = found.handle;
	return rc;
}

static int look(const char *name)
{
	return look_in(&volume->root, name, NULL);
}

static struct stat attributes(const struct handle *handle)
{
	struct stat st;

	ck_assert_int_eq(backend->getattr(volume, handle, &st), 0);
	return st;
}

static int set_as(const struct credentials *who, const struct handle *handle, const struct backend_set *set)
{
	struct backend_change change;

	return backend->setattr(volume, who, handle, set, NULL, &change);
}

static int write_as(const struct credentials *who, const struct handle *handle, uint64_t offset, const char *text)
{
	enum backend_stability stability = BACKEND_UNSTABLE;
	struct backend_change change;
	size_t written;
	int rc = backend->write(volume, who, handle, offset, text, strlen(text), &stability, &written, &change);

	if (!rc)
		ck_assert_uint_eq(written, strlen(text));
	return rc;
}

static int read_as(const struct credentials *who, const struct handle *handle, uint64_t offset, char *data, size_t len,
		   size_t *got, bool *end)
{
	struct backend_attributes after;

	return backend->read(volume, who, handle, offset, data, len, got, end, &after);
}

static int read_any(const struct credentials *who, const struct handle *handle)
{
	char data[16];
	size_t got;
	bool end;

	return read_as(who, handle, 0, data, sizeof(data), &got, &end);
}

static bool is_same_handle(const struct handle *a, const struct handle *b)
{
	return a->type == b->type && a->volume == b->volume && a->backend_type == b->backend_type &&
	       a->backend_len == b->backend_len && !memcmp(a->backend, b->backend, a->backend_len);
}

/* --- opening --- */

static const struct {
	const char *path;
	int rc;
} probe_cases[] = {
	{ "/nowhere/at/all", -ENOENT },
	{ "/dev/null", -ENOTDIR },
	{ "/proc", -EOPNOTSUPP },
};

START_TEST(probe_says_why_not)
{
	struct local_root found = { .backend_len = 33 };
	const char *why = NULL;

	ck_assert_int_eq(local_probe(probe_cases[_i].path, &found, &why), probe_cases[_i].rc);
	ck_assert_ptr_nonnull(why);
	ck_assert_uint_eq(found.backend_len, 33);
}
END_TEST

START_TEST(probe_knows_the_root_before_the_volume_has_an_id)
{
	struct local_root found;
	const char *why = NULL;

	ck_assert_int_eq(local_probe(directory, &found, &why), 0);
	ck_assert_uint_eq(found.backend_type, volume->root.backend_type);
	ck_assert_uint_eq(found.backend_len, volume->root.backend_len);
	ck_assert_mem_eq(found.backend, volume->root.backend, found.backend_len);
	ck_assert_uint_eq(volume->id, VOLUME_ID);
	ck_assert_uint_eq(volume->root.volume, VOLUME_ID);
	ck_assert_uint_eq(volume->fsid, 99);
}
END_TEST

START_TEST(probe_misses_capabilities)
{
	struct local_root found;
	const char *why = NULL;
	int status;
	pid_t child = fork();

	if (child == 0) {
		if (setuid(ALICE))
			_exit(1);
		_exit(local_probe(directory, &found, &why) == -EPERM && why ? 0 : 2);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(handles_survive_a_restart)
{
	struct handle file = make_file("file", &alice, 0644), dir = make_dir("dir", &alice, 0755);
	uint64_t verifier = volume->write_verifier;

	ck_assert_int_eq(write_as(&alice, &file, 0, "text"), 0);
	local_close(volume);
	volume_open(directory);
	ck_assert_int_eq(attributes(&file).st_size, 4);
	ck_assert(S_ISDIR(attributes(&dir).st_mode));
	ck_assert_int_eq(look_in(&dir, "..", NULL), 0);
	ck_assert_uint_ne(volume->write_verifier, verifier);
}
END_TEST

START_TEST(handles_go_stale)
{
	struct handle file = make_file("file", &alice, 0644), dir = make_dir("dir", &alice, 0755), other = file;
	struct backend_change change;
	struct stat st;

	ck_assert_int_eq(backend->remove(volume, &alice, &volume->root, "file", &change), 0);
	ck_assert_int_eq(backend->rmdir(volume, &alice, &volume->root, "dir", &change), 0);
	make_file("file", &alice, 0644);
	ck_assert_int_eq(backend->getattr(volume, &file, &st), -ESTALE);
	ck_assert_int_eq(backend->getattr(volume, &dir, &st), -ESTALE);
	ck_assert_int_eq(write_as(&alice, &file, 0, "x"), -ESTALE);
	ck_assert_int_eq(look_in(&dir, "x", NULL), -ESTALE);

	other = volume->root;
	other.volume++;
	ck_assert_int_eq(backend->getattr(volume, &other, &st), -ESTALE);
	other = volume->root;
	other.type = HANDLE_PSEUDO;
	ck_assert_int_eq(backend->getattr(volume, &other, &st), -ESTALE);
	other = volume->root;
	other.backend_len = 0;
	ck_assert_int_eq(backend->getattr(volume, &other, &st), -ESTALE);
}
END_TEST

/* --- finding --- */

START_TEST(lookup_finds)
{
	struct handle dir = make_dir("dir", &alice, 0755), file = make_file_in(&dir, "file", &alice, 0640), found;
	struct backend_attributes after;
	struct backend_found facts;

	ck_assert_int_eq(backend->lookup(volume, &alice, &dir, "file", &facts, &after), 0);
	ck_assert(is_same_handle(&facts.handle, &file));
	ck_assert(facts.attributes.valid && after.valid);
	ck_assert_uint_eq(facts.attributes.st.st_mode, S_IFREG | 0640);
	ck_assert(S_ISDIR(after.st.st_mode));

	ck_assert_int_eq(look_in(&dir, ".", &found), 0);
	ck_assert(is_same_handle(&found, &dir));
	ck_assert_int_eq(look_in(&dir, "..", &found), 0);
	ck_assert(is_same_handle(&found, &volume->root));
	ck_assert_int_eq(look_in(&volume->root, "..", &found), 0);
	ck_assert(is_same_handle(&found, &volume->root));

	ck_assert_int_eq(look_in(&dir, "nothing", NULL), -ENOENT);
	ck_assert_int_eq(look_in(&file, "x", NULL), -ENOTDIR);
}
END_TEST

START_TEST(lookup_needs_search_permission)
{
	struct handle dir = make_dir("dir", &alice, 0700);
	struct backend_attributes after;
	struct backend_found found;

	make_file_in(&dir, "file", &alice, 0666);
	ck_assert_int_eq(backend->lookup(volume, &bob, &dir, "file", &found, &after), -EACCES);
	ck_assert(after.valid);
	ck_assert_int_eq(backend->lookup(volume, &alice, &dir, "file", &found, &after), 0);
}
END_TEST

/* An administrator moves a directory out of the volume while a client has it. */
START_TEST(parent_outside_the_volume_is_hidden)
{
	struct handle dir, below;

	ck_assert_int_eq(mkdir(at("volume"), 0755), 0);
	ck_assert_int_eq(mkdir(at("volume/dir"), 0755), 0);
	ck_assert_int_eq(mkdir(at("volumes"), 0755), 0);
	local_close(volume);
	volume_open(at("volume"));
	ck_assert_int_eq(look_in(&volume->root, "dir", &dir), 0);
	ck_assert_int_eq(look_in(&dir, "..", &below), 0);
	ck_assert_int_eq(rename(at("volume/dir"), at("volumes/dir")), 0);
	ck_assert_int_eq(look_in(&dir, "..", &below), -EACCES);
}
END_TEST

/* A volume opened before is in the mount namespace left behind, and must be opened anew. */
static bool private_mounts(void)
{
	if (!unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return true;
	fprintf(stderr, "test_local: no mounts allowed here (%s), a part is left out\n", strerror(errno));
	return false;
}

static bool count_found(const struct backend_entry *entry, void *arg)
{
	if (entry->has_found)
		(*(int *)arg)++;
	return true;
}

START_TEST(mount_points_are_not_crossed)
{
	struct handle dir = make_dir("mount", &root_user, 0755), file = make_file("bind", &root_user, 0644);
	struct backend_set set = size_set(0);
	struct backend_attributes after;
	struct backend_change change;
	struct backend_found found;
	uint64_t verifier = 0;
	int count = 0;
	bool end;

	ck_assert_int_eq(write_as(&root_user, &file, 0, "text"), 0);
	if (!private_mounts() || mount("none", at("mount"), "tmpfs", 0, NULL))
		return;
	local_close(volume);
	volume_open(directory);
	ck_assert_int_eq(look("mount"), -EACCES);
	/* the directory below it is still there */
	ck_assert_uint_eq(attributes(&dir).st_dev, attributes(&volume->root).st_dev);

	make_file("target", &root_user, 0644);
	ck_assert_int_eq(mount(at("bind"), at("target"), NULL, MS_BIND, NULL), 0);
	ck_assert_int_eq(look("target"), -EACCES);
	ck_assert_int_eq(backend->create(volume, &root_user, &volume->root, "target", BACKEND_CREATE_UNCHECKED, &set, NULL,
					 &found, &change), -EACCES);
	ck_assert_int_eq(attributes(&file).st_size, 4);

	ck_assert_int_eq(backend->readdir(volume, &root_user, &volume->root, 0, &verifier, true, count_found, &count, &end,
					  &after), 0);
	ck_assert_int_eq(count, 3); /* ".", "..", "bind" */
	umount2(at("target"), MNT_DETACH);
	umount2(at("mount"), MNT_DETACH);
}
END_TEST

/* --- attributes --- */

static const struct {
	uint32_t mode;
	const struct credentials *who;
	int allowed;
} access_cases[] = {
	/* the file is alice's, of the group staff */
	{ 0640, &alice, R_OK | W_OK },
	{ 0640, &bob, 0 },
	{ 0640, &staff_member, R_OK },
	{ 0070, &staff_member, R_OK | W_OK | X_OK },
	{ 0070, &alice, 0 },
	{ 0007, &staff_member, 0 },
	{ 0005, &bob, R_OK | X_OK },
	{ 0000, &root_user, R_OK | W_OK },
	{ 0100, &root_user, R_OK | W_OK | X_OK },
};

START_TEST(access_tells)
{
	struct handle file = make_file("file", &alice, access_cases[_i].mode);
	struct backend_set set = { .set_gid = true, .gid = STAFF };
	struct stat st;
	int allowed = -1;

	ck_assert_int_eq(set_as(&root_user, &file, &set), 0);
	ck_assert_int_eq(backend->access(volume, access_cases[_i].who, &file, R_OK | W_OK | X_OK, &allowed, &st), 0);
	ck_assert_int_eq(allowed, access_cases[_i].allowed);
	ck_assert_uint_eq(st.st_uid, ALICE);
	ck_assert_int_eq(backend->access(volume, access_cases[_i].who, &file, W_OK, &allowed, &st), 0);
	ck_assert_int_eq(allowed, access_cases[_i].allowed & W_OK);
}
END_TEST

/* The file is alice's, mode 0644, with 4 bytes. */
static const struct {
	const char *what;
	const struct credentials *who;
	struct backend_set set;
	int rc;
	mode_t mode; /* afterwards */
	uid_t uid;
	off_t size;
} setattr_cases[] = {
	{ "nothing", &bob, { 0 }, 0, 0644, ALICE, 4 },
	{ "own mode", &alice, { .set_mode = true, .mode = 0600 }, 0, 0600, ALICE, 4 },
	{ "another's mode", &bob, { .set_mode = true, .mode = 0600 }, -EPERM, 0644, ALICE, 4 },
	{ "setuid", &alice, { .set_mode = true, .mode = 04755 }, 0, 04755, ALICE, 4 },
	{ "give away", &alice, { .set_uid = true, .uid = BOB }, -EPERM, 0644, ALICE, 4 },
	{ "root gives away", &root_user, { .set_uid = true, .uid = BOB }, 0, 0644, BOB, 4 },
	{ "to nobody at all", &root_user, { .set_uid = true, .uid = UINT32_MAX }, -EINVAL, 0644, ALICE, 4 },
	{ "owner and setuid", &root_user, { .set_uid = true, .uid = BOB, .set_mode = true, .mode = 04711 }, 0, 04711, BOB,
	  4 },
	{ "foreign group", &alice, { .set_gid = true, .gid = STAFF }, -EPERM, 0644, ALICE, 4 },
	{ "cut", &alice, { .set_size = true, .size = 1 }, 0, 0644, ALICE, 1 },
	{ "grow", &alice, { .set_size = true, .size = 5u << 30 }, 0, 0644, ALICE, 5u << 30 },
	{ "grow far", &alice, { .set_size = true, .size = 5ull << 30 }, 0, 0644, ALICE, 5ll << 30 },
	{ "too far", &alice, { .set_size = true, .size = UINT64_MAX }, -EFBIG, 0644, ALICE, 4 },
	{ "cut another's", &bob, { .set_size = true, .size = 1 }, -EACCES, 0644, ALICE, 4 },
	{ "now", &alice, { .set_mtime = BACKEND_TIME_SERVER }, 0, 0644, ALICE, 4 },
	{ "another's now", &bob, { .set_mtime = BACKEND_TIME_SERVER }, -EACCES, 0644, ALICE, 4 },
	{ "another's then", &bob, { .set_mtime = BACKEND_TIME_CLIENT, .mtime = { 7, 7 } }, -EPERM, 0644, ALICE, 4 },
	{ "no time", &alice, { .set_mtime = BACKEND_TIME_CLIENT, .mtime = { 7, UTIME_NOW } }, -EINVAL, 0644, ALICE, 4 },
};

START_TEST(setattr_sets)
{
	struct handle file = make_file("file", &alice, 0644);
	struct backend_change change;
	struct stat st;

	ck_assert_int_eq(write_as(&alice, &file, 0, "text"), 0);
	ck_assert_msg(backend->setattr(volume, setattr_cases[_i].who, &file, &setattr_cases[_i].set, NULL, &change) ==
			      setattr_cases[_i].rc, "%s", setattr_cases[_i].what);
	st = attributes(&file);
	ck_assert_uint_eq(st.st_mode & 07777, setattr_cases[_i].mode);
	ck_assert_uint_eq(st.st_uid, setattr_cases[_i].uid);
	ck_assert_int_eq(st.st_size, setattr_cases[_i].size);
	ck_assert(change.before.valid && change.after.valid);
	ck_assert_int_eq(change.before.st.st_size, 4);
	ck_assert_int_eq(change.after.st.st_size, st.st_size);
}
END_TEST

START_TEST(setattr_sets_times)
{
	struct handle file = make_file("file", &alice, 0666), link = make_symlink("link", "file", &alice);
	struct backend_set set = {
		.set_atime = BACKEND_TIME_CLIENT, .atime = { 1000, 1 },
		.set_mtime = BACKEND_TIME_CLIENT, .mtime = { 2000, 999999999 },
	};
	struct backend_set now = { .set_mtime = BACKEND_TIME_SERVER };
	struct stat st;

	ck_assert_int_eq(set_as(&alice, &file, &set), 0);
	st = attributes(&file);
	ck_assert_int_eq(st.st_atim.tv_sec, 1000);
	ck_assert_int_eq(st.st_atim.tv_nsec, 1);
	ck_assert_int_eq(st.st_mtim.tv_sec, 2000);
	ck_assert_int_eq(st.st_mtim.tv_nsec, 999999999);

	/* One time to now, by one who may write: what a client sends for open(O_TRUNC) of another's file. */
	now.set_size = true;
	ck_assert_int_eq(set_as(&bob, &file, &now), 0);
	st = attributes(&file);
	ck_assert_int_eq(st.st_atim.tv_sec, 1000);
	ck_assert_int_gt(st.st_mtim.tv_sec, 2000);

	ck_assert_int_eq(set_as(&alice, &link, &set), 0);
	ck_assert_int_eq(attributes(&link).st_mtim.tv_sec, 2000);
	ck_assert_int_gt(attributes(&file).st_mtim.tv_sec, 2000);
}
END_TEST

START_TEST(setattr_guards)
{
	struct handle file = make_file("file", &alice, 0644);
	struct backend_set set = mode_set(0600);
	struct timespec guard = attributes(&file).st_ctim, wrong = guard;
	struct backend_change change;

	wrong.tv_nsec ^= 1;
	ck_assert_int_eq(backend->setattr(volume, &alice, &file, &set, &wrong, &change), -EAGAIN);
	ck_assert_uint_eq(attributes(&file).st_mode & 07777, 0644);
	ck_assert_int_eq(backend->setattr(volume, &alice, &file, &set, &guard, &change), 0);
	ck_assert_uint_eq(attributes(&file).st_mode & 07777, 0600);
}
END_TEST

START_TEST(symlinks_are_never_followed)
{
	struct handle file = make_file("file", &alice, 0644), link = make_symlink("link", "file", &alice);
	struct backend_set mode = mode_set(0600), size = size_set(0), owner = { .set_uid = true, .uid = BOB };
	struct backend_attributes after;
	struct backend_change change;
	struct backend_found found;
	char target[PATH_MAX];

	ck_assert_int_eq(write_as(&alice, &file, 0, "text"), 0);
	ck_assert(S_ISLNK(attributes(&link).st_mode));
	ck_assert_int_eq(backend->readlink(volume, &bob, &link, target, &after), 0);
	ck_assert_str_eq(target, "file");
	ck_assert_int_eq(backend->readlink(volume, &bob, &file, target, &after), -EINVAL);

	ck_assert_int_eq(read_any(&alice, &link), -EINVAL);
	ck_assert_int_eq(write_as(&alice, &link, 0, "x"), -EINVAL);
	ck_assert_int_eq(set_as(&alice, &link, &size), -EINVAL);
	ck_assert_int_eq(set_as(&alice, &link, &mode), 0);
	ck_assert_int_eq(set_as(&root_user, &link, &owner), 0);
	ck_assert_uint_eq(attributes(&link).st_uid, BOB);
	ck_assert_int_eq(look_in(&link, "x", NULL), -ENOTDIR);
	for (enum backend_create_mode how = BACKEND_CREATE_UNCHECKED; how <= BACKEND_CREATE_EXCLUSIVE; how++)
		ck_assert_int_eq(backend->create(volume, &alice, &volume->root, "link", how, &size,
						 (const uint8_t *)"verifier", &found, &change), -EEXIST);
	ck_assert_int_eq(attributes(&file).st_size, 4);
	ck_assert_uint_eq(attributes(&file).st_uid, ALICE);
	ck_assert_uint_eq(attributes(&file).st_mode & 07777, 0644);
}
END_TEST

/* --- data --- */

static const struct {
	uid_t owner;
	uint32_t mode;
	const struct credentials *who;
	int read_rc, write_rc;
} data_cases[] = {
	{ 0, 0600, &alice, -EACCES, -EACCES },
	{ 0, 0644, &alice, 0, -EACCES },
	{ 0, 0622, &alice, -EACCES, 0 },
	{ 0, 0611, &alice, 0, -EACCES }, /* may execute: may read */
	{ ALICE, 0000, &alice, 0, 0 },	 /* the owner may */
	{ ALICE, 0444, &alice, 0, 0 },
	{ ALICE, 0000, &bob, -EACCES, -EACCES },
	{ ALICE, 0000, &root_user, 0, 0 },
	{ BOB, 0060, &staff_member, 0, 0 },
	{ BOB, 0060, &alice, -EACCES, -EACCES },
};

START_TEST(data_is_for_whom_it_is)
{
	struct handle file = make_file("file", &root_user, 0644);
	struct backend_set set = { .set_uid = true, .uid = data_cases[_i].owner, .set_gid = true, .gid = STAFF,
				   .set_mode = true, .mode = data_cases[_i].mode };

	ck_assert_int_eq(write_as(&root_user, &file, 0, "text"), 0);
	ck_assert_int_eq(set_as(&root_user, &file, &set), 0);
	ck_assert_int_eq(read_any(data_cases[_i].who, &file), data_cases[_i].read_rc);
	ck_assert_int_eq(write_as(data_cases[_i].who, &file, 0, "x"), data_cases[_i].write_rc);
}
END_TEST

START_TEST(writing_takes_the_setuid_bit)
{
	struct handle own = make_file("own", &alice, 04577), foreign = make_file("foreign", &root_user, 04777);

	ck_assert_uint_eq(attributes(&own).st_mode & 07777, 04577);
	ck_assert_int_eq(write_as(&alice, &own, 0, "x"), 0);
	ck_assert_int_eq(write_as(&alice, &foreign, 0, "x"), 0);
	ck_assert_uint_eq(attributes(&own).st_mode & 07777, 0577);
	ck_assert_uint_eq(attributes(&foreign).st_mode & 07777, 0777);
}
END_TEST

static const struct {
	uint64_t offset;
	size_t len, got;
	bool end;
} read_cases[] = {
	/* of 10 bytes */
	{ 0, 4, 4, false },
	{ 0, 10, 10, true },
	{ 0, 11, 10, true },
	{ 6, 4, 4, true },
	{ 6, 3, 3, false },
	{ 9, 100, 1, true },
	{ 10, 1, 0, true },
	{ 10, 0, 0, true },
	{ 3, 0, 0, false },
	{ 1ull << 40, 8, 0, true },
	{ INT64_MAX, 8, 0, true },
	{ UINT64_MAX, 8, 0, true },
};

START_TEST(read_knows_the_end)
{
	static const char text[] = "0123456789";
	struct handle file = make_file("file", &alice, 0644);
	size_t got = 99;
	char data[128];
	bool end;

	ck_assert_int_eq(write_as(&alice, &file, 0, text), 0);
	ck_assert_int_eq(read_as(&alice, &file, read_cases[_i].offset, data, read_cases[_i].len, &got, &end), 0);
	ck_assert_uint_eq(got, read_cases[_i].got);
	ck_assert_int_eq(end, read_cases[_i].end);
	if (got)
		ck_assert_mem_eq(data, text + read_cases[_i].offset, got);
}
END_TEST

/* Descriptors of this process for files that have no name any more: what they hold is lost to everybody. */
static size_t deleted_files_open(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	size_t count = 0;

	while ((entry = readdir(dir))) {
		char path[64], target[PATH_MAX];
		ssize_t len;

		snprintf(path, sizeof(path), "/proc/self/fd/%.20s", entry->d_name);
		len = readlink(path, target, sizeof(target) - 1);
		if (len < 0)
			continue;
		target[len] = '\0';
		count += strstr(target, directory) == target && strstr(target, " (deleted)");
	}
	closedir(dir);
	return count;
}

START_TEST(what_is_removed_gives_back_its_space)
{
	struct handle file = make_file("file", &alice, 0644), other = make_file("other", &alice, 0644);
	struct backend_change change, to_change;
	struct stat st;

	ck_assert_int_eq(write_as(&alice, &file, 0, "text"), 0);
	ck_assert_int_eq(read_any(&alice, &file), 0);
	ck_assert_int_eq(read_any(&alice, &other), 0);
	ck_assert_int_eq(backend->remove(volume, &alice, &volume->root, "file", &change), 0);
	ck_assert_uint_eq(deleted_files_open(), 0);
	ck_assert_int_eq(backend->getattr(volume, &file, &st), -ESTALE);

	file = make_file("file", &alice, 0644);
	ck_assert_int_eq(read_any(&alice, &file), 0);
	ck_assert_int_eq(backend->rename(volume, &alice, &volume->root, "file", &volume->root, "other", &change,
					 &to_change), 0);
	ck_assert_uint_eq(deleted_files_open(), 0);
	ck_assert_int_eq(backend->getattr(volume, &other, &st), -ESTALE);
	ck_assert_int_eq(backend->getattr(volume, &file, &st), 0);
}
END_TEST

/* The last close gives back a file's space, which may take long: the loop leaves it to others. */
START_TEST(without_patience_nothing_removed_is_closed)
{
	struct handle file = make_file("file", &alice, 0644);
	struct backend_change change;
	struct local_object object;

	ck_assert_int_eq(local_object_open(volume, &file, &object), 0);
	ck_assert_int_eq(backend->remove(volume, &alice, &volume->root, "file", &change), 0);
	patience_set(false);
	local_object_close(&object);
	patience_set(true);
	ck_assert_uint_eq(deleted_files_open(), 1);
	local_tidy(volume);
	ck_assert_uint_eq(deleted_files_open(), 0);
}
END_TEST

/* By a program on this machine: the next client notices; if none comes, local_tidy() does after a while. */
START_TEST(what_others_remove_is_noticed)
{
	struct handle file = make_file("file", &alice, 0644);
	struct stat st;

	ck_assert_int_eq(write_as(&alice, &file, 0, "text"), 0);
	ck_assert_int_eq(read_any(&alice, &file), 0);
	ck_assert_int_eq(unlink(at("file")), 0);
	ck_assert_int_eq(backend->getattr(volume, &file, &st), -ESTALE);
	ck_assert_uint_eq(deleted_files_open(), 0);
}
END_TEST

/* A descriptor that was opened for one user is no right of another's, nor of the same one's later. */
START_TEST(rights_are_asked_for_each_time)
{
	struct handle file = make_file("file", &alice, 0644);

	ck_assert_int_eq(write_as(&alice, &file, 0, "text"), 0);
	ck_assert_int_eq(read_any(&bob, &file), 0);
	ck_assert_int_eq(write_as(&bob, &file, 0, "text"), -EACCES);
	ck_assert_int_eq(chmod(at("file"), 0600), 0);
	ck_assert_int_eq(read_any(&bob, &file), -EACCES);
	ck_assert_int_eq(read_any(&alice, &file), 0);
}
END_TEST

/* The loop asks without patience: it gets an answer from memory, or none. */
START_TEST(without_patience_only_memory_answers)
{
	struct handle file = make_file("file", &alice, 0644);
	struct backend_attributes after;
	struct backend_found found;
	struct stat st;
	int allowed;

	ck_assert_int_eq(write_as(&alice, &file, 0, "text"), 0);
	local_close(volume);
	volume_open(directory);
	ck_assert(patience_set(false));
	ck_assert_int_eq(backend->getattr(volume, &file, &st), -ERESTART);
	ck_assert_int_eq(backend->access(volume, &alice, &file, R_OK, &allowed, &st), -ERESTART);
	ck_assert_int_eq(read_any(&alice, &file), -ERESTART);
	ck_assert_int_eq(backend->lookup(volume, &alice, &volume->root, "file", &found, &after), -ERESTART);
	patience_set(true);
	ck_assert_int_eq(backend->lookup(volume, &alice, &volume->root, "file", &found, &after), 0);
	patience_set(false);
	ck_assert_int_eq(backend->getattr(volume, &file, &st), 0); /* what was looked for stays open */
	ck_assert_int_eq(read_any(&alice, &file), -ERESTART);
	patience_set(true);
	ck_assert_int_eq(read_any(&alice, &file), 0);
	patience_set(false);
	ck_assert_int_eq(backend->getattr(volume, &file, &st), 0);
	ck_assert_int_eq(backend->access(volume, &alice, &file, R_OK, &allowed, &st), 0);
	ck_assert_int_eq(allowed, R_OK);
	ck_assert_int_eq(backend->lookup(volume, &alice, &volume->root, "file", &found, &after), 0);
	ck_assert(is_same_handle(&found.handle, &file));
	patience_set(true);
}
END_TEST

/* Whether the file system can be told not to wait for data; tmpfs can't, and without that the loop reads nothing. */
static bool reads_from_memory(const char *name)
{
	char byte;
	struct iovec part = { &byte, 1 };
	int fd = open(at(name), O_RDONLY);
	bool can = preadv2(fd, &part, 1, 0, RWF_NOWAIT) >= 0;

	close(fd);
	if (!can)
		fprintf(stderr, "test_local: this file system does not know RWF_NOWAIT, a part is left out\n");
	return can;
}

static void set_atime(const char *name, time_t seconds)
{
	struct timespec times[2] = { { .tv_sec = seconds }, { .tv_nsec = UTIME_OMIT } };

	ck_assert_int_eq(utimensat(AT_FDCWD, at(name), times, 0), 0);
}

/* A reader changes the time of the last access, for which some file systems wait. Where none is kept, nobody does. */
START_TEST(without_patience_no_access_is_noted)
{
	struct handle file = make_file("file", &alice, 0644);
	int fd, flags;

	if (!reads_from_memory("file"))
		return;
	set_atime("file", 1000);
	ck_assert_int_eq(read_any(&alice, &file), 0);
	ck_assert_int_gt(attributes(&file).st_atim.tv_sec, 1000);
	set_atime("file", 1000);
	patience_set(false);
	ck_assert_int_eq(read_any(&alice, &file), -ERESTART);
	ck_assert_int_eq(attributes(&file).st_atim.tv_sec, 1000);
	set_atime("file", time(NULL) + 10);
	ck_assert_int_eq(read_any(&alice, &file), 0);
	patience_set(true);

	fd = open(at("file"), O_RDONLY);
	ck_assert(!ioctl(fd, FS_IOC_GETFLAGS, &flags));
	flags |= FS_NOATIME_FL;
	ck_assert(!ioctl(fd, FS_IOC_SETFLAGS, &flags));
	close(fd);
	set_atime("file", 1000);
	ck_assert_int_eq(read_any(&alice, &file), 0);
	patience_set(false);
	ck_assert_int_eq(read_any(&alice, &file), 0);
	patience_set(true);
	ck_assert_int_eq(attributes(&file).st_atim.tv_sec, 1000);
}
END_TEST

/*
 * An ACL may have to be read from the disk, once: the kernel keeps it as long as the object is open. It does not look at it for
 * the owner, nor if the group has no rights.
 */
START_TEST(without_patience_no_acl_is_read)
{
	struct handle file = make_file("file", &alice, 0644), private = make_file("private", &alice, 0600);
	struct stat st;
	int allowed;

	local_close(volume);
	volume_open(directory);
	ck_assert_int_eq(look("file"), 0);
	ck_assert_int_eq(look("private"), 0);
	patience_set(false);
	ck_assert_int_eq(backend->access(volume, &alice, &file, R_OK, &allowed, &st), 0);
	ck_assert_int_eq(backend->access(volume, &bob, &private, R_OK, &allowed, &st), 0);
	ck_assert_int_eq(backend->access(volume, &bob, &file, R_OK, &allowed, &st), -ERESTART);
	patience_set(true);
	if (!reads_from_memory("file"))
		return;
	ck_assert_int_eq(read_any(&alice, &file), 0);
	set_atime("file", time(NULL) + 10);
	patience_set(false);
	ck_assert_int_eq(read_any(&alice, &file), 0);
	ck_assert_int_eq(read_any(&bob, &file), -ERESTART);
	patience_set(true);
	ck_assert_int_eq(read_any(&bob, &file), 0);
	patience_set(false);
	ck_assert_int_eq(read_any(&bob, &file), 0);
	ck_assert_int_eq(backend->access(volume, &bob, &file, R_OK, &allowed, &st), 0);
	patience_set(true);
}
END_TEST

/* What stays open is bounded by descriptors: as many objects as there are, if each needs one only. */
START_TEST(an_eighth_of_the_descriptors_stays_open)
{
	enum { EIGHTH = 40, FILES = 60 };
	struct rlimit limit = { .rlim_cur = 8 * EIGHTH, .rlim_max = 8 * EIGHTH };
	struct handle files[FILES];
	struct stat st;
	int before;

	for (int i = 0; i < FILES; i++) {
		char name[16];

		snprintf(name, sizeof(name), "file%d", i);
		files[i] = make_file(name, &alice, 0644);
		ck_assert_int_eq(write_as(&alice, &files[i], 0, "text"), 0);
	}
	local_close(volume);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	volume_open(directory);
	before = count_descriptors();

	for (int i = 0; i < EIGHTH; i++)
		ck_assert_int_eq(backend->getattr(volume, &files[i], &st), 0);
	ck_assert_int_eq(count_descriptors(), before + EIGHTH);
	patience_set(false);
	for (int i = 0; i < EIGHTH; i++)
		ck_assert_int_eq(backend->getattr(volume, &files[i], &st), 0);
	patience_set(true);

	for (int i = 0; i < FILES; i++) {
		ck_assert_int_eq(read_any(&alice, &files[i]), 0);
		ck_assert_int_eq(write_as(&alice, &files[i], 0, "text"), 0);
		ck_assert_int_le(count_descriptors(), before + EIGHTH);
	}
	local_cache_shrink(((struct local_volume *)volume->state)->cache);
	ck_assert_int_eq(count_descriptors(), before);
	for (int i = 0; i < EIGHTH; i++)
		ck_assert_int_eq(backend->getattr(volume, &files[i], &st), 0);
	ck_assert_int_eq(count_descriptors(), before + EIGHTH);
}
END_TEST

/* READ without copying says the same as READ. */
START_TEST(pages_are_what_read_reads)
{
	struct handle file = make_file("file", &alice, 0600);
	struct page_pipe *pages = page_pipe_get();
	struct backend_attributes after;
	char text[9000], data[9000], copy[9000];
	size_t got, pages_got;
	bool end, pages_end;

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	text[4096] = 'y';
	ck_assert_int_eq(write_as(&alice, &file, 0, text), 0);
	for (uint64_t offset = 0; offset <= 3 * 4096; offset += 4096) {
		for (size_t len = 1; len <= sizeof(data); len += 1000) {
			ck_assert_int_eq(read_as(&alice, &file, offset, data, len, &got, &end), 0);
			ck_assert_int_eq(backend->read_pages(volume, &alice, &file, offset, pages, len, &pages_got,
							     &pages_end, &after), 0);
			ck_assert_uint_eq(pages_got, got);
			ck_assert_int_eq(pages_end, end);
			ck_assert_uint_eq(page_pipe_len(pages), got);
			ck_assert_int_eq(page_pipe_copy(pages, (uint8_t *)copy), 0);
			ck_assert(memcmp(copy, data, got) == 0);
			page_pipe_put(pages);
			pages = page_pipe_get();
		}
	}
	ck_assert_int_eq(backend->read_pages(volume, &bob, &file, 0, pages, 10, &got, &end, &after), -EACCES);
	ck_assert_int_eq(backend->read_pages(volume, &alice, &file, 0, pages, 10, &got, &end, &after), 0);
	page_pipe_put(pages); /* not empty: it is closed, and no descriptor stays */
}
END_TEST

START_TEST(data_needs_a_regular_file)
{
	struct handle dir = make_dir("dir", &alice, 0755), fifo;
	enum backend_stability stability = BACKEND_UNSTABLE;
	struct backend_change change = { 0 };
	struct backend_found found;
	size_t written;

	ck_assert_int_eq(backend->mknod(volume, &alice, &volume->root, "fifo", S_IFIFO, 0, 0, &no_set, &found, &change), 0);
	fifo = found.handle;
	ck_assert_int_eq(read_any(&alice, &dir), -EINVAL);
	ck_assert_int_eq(write_as(&alice, &dir, 0, "x"), -EINVAL);
	ck_assert_int_eq(read_any(&alice, &fifo), -EINVAL);
	ck_assert_int_eq(backend->write(volume, &alice, &fifo, 0, "x", 1, &stability, &written, &change), -EINVAL);
	ck_assert(change.before.valid && change.after.valid);
	ck_assert_int_eq(backend->commit(volume, &alice, &fifo, 0, 0, &change), -EINVAL);
}
END_TEST

/* The file is alice's and of the group staff. */
static const struct {
	const struct credentials *who;
	uint32_t mode;
	int rc;
} lock_cases[] = {
	{ &alice, 0000, 0 },	     { &bob, 0600, -EACCES },	     { &bob, 0604, 0 },
	{ &bob, 0602, 0 },	     { &bob, 0601, 0 },		     { &staff_member, 0640, 0 },
	{ &staff_member, 0604, -EACCES }, { &root_user, 0000, 0 },
};

START_TEST(who_may_use_a_file_may_lock_it)
{
	struct handle file = make_file("file", &alice, lock_cases[_i].mode);
	struct backend_set set = { .set_gid = true, .gid = STAFF };
	struct flock lock = { .l_type = F_WRLCK, .l_start = 1, .l_len = 1 };
	int fd = -1;

	ck_assert_int_eq(set_as(&root_user, &file, &set), 0);
	ck_assert_int_eq(backend->open_locks(volume, lock_cases[_i].who, &file, &fd), lock_cases[_i].rc);
	if (lock_cases[_i].rc)
		return;
	ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &lock), 0); /* for writing, whatever that client may do */
	close(fd);
}
END_TEST

START_TEST(only_files_are_locked)
{
	struct handle dir = make_dir("dir", &alice, 0777), link = make_symlink("link", "file", &alice);
	int fd;

	make_file("file", &alice, 0666);
	ck_assert_int_lt(backend->open_locks(volume, &alice, &dir, &fd), 0);
	ck_assert_int_lt(backend->open_locks(volume, &alice, &link, &fd), 0);
	ck_assert_int_eq(unlink(at("file")), 0);
}
END_TEST

START_TEST(files_are_sparse_and_large)
{
	struct handle file = make_file("file", &alice, 0644);
	uint64_t offset = (5ull << 30) + 1;
	char data[8] = { 0 };
	size_t got;
	bool end;

	ck_assert_int_eq(write_as(&alice, &file, offset, "far"), 0);
	ck_assert_int_eq(attributes(&file).st_size, (off_t)offset + 3);
	ck_assert_int_lt(attributes(&file).st_blocks, 100);
	ck_assert_int_eq(read_as(&alice, &file, offset - 1, data, sizeof(data), &got, &end), 0);
	ck_assert_uint_eq(got, 4);
	ck_assert_mem_eq(data, "\0far", 4);
	ck_assert_int_eq(write_as(&alice, &file, UINT64_MAX - 1, "x"), -EFBIG);
	ck_assert_int_eq(write_as(&alice, &file, INT64_MAX, "x"), -EFBIG);
}
END_TEST

static const struct {
	enum backend_stability stability;
	int syncs;
} stability_cases[] = { { BACKEND_UNSTABLE, 0 }, { BACKEND_DATA_SYNC, 1 }, { BACKEND_FILE_SYNC, 1 } };

START_TEST(write_is_as_stable_as_asked)
{
	struct handle file = make_file("file", &alice, 0644);
	enum backend_stability stability = stability_cases[_i].stability;
	struct backend_change change;
	size_t written = 0;

	sync_count = 0;
	ck_assert_int_eq(backend->write(volume, &alice, &file, 0, "text", 4, &stability, &written, &change), 0);
	ck_assert_int_eq(sync_count, stability_cases[_i].syncs);
	ck_assert_int_ge(stability, stability_cases[_i].stability);
	ck_assert_uint_eq(written, 4);
	ck_assert_int_eq(change.before.st.st_size, 0);
	ck_assert_int_eq(change.after.st.st_size, 4);

	ck_assert_int_eq(backend->write(volume, &alice, &file, 9, "", 0, &stability, &written, &change), 0);
	ck_assert_uint_eq(written, 0);
	ck_assert_int_eq(attributes(&file).st_size, 4);
}
END_TEST

START_TEST(commit_is_for_anyone)
{
	struct handle file = make_file("file", &alice, 0600);
	uint64_t verifier = volume->write_verifier;
	struct backend_change change;

	ck_assert_int_eq(write_as(&alice, &file, 0, "text"), 0);
	sync_count = 0;
	ck_assert_int_eq(backend->commit(volume, &bob, &file, 0, 0, &change), 0);
	ck_assert_int_eq(sync_count, 1);
	ck_assert(change.before.valid && change.after.valid);
	ck_assert_uint_eq(volume->write_verifier, verifier);
}
END_TEST

START_TEST(lost_data_changes_the_verifier)
{
	struct handle file = make_file("file", &alice, 0644);
	enum backend_stability stability = BACKEND_FILE_SYNC;
	uint64_t verifier = volume->write_verifier;
	struct backend_set set = mode_set(0600);
	struct backend_change change;
	size_t written = 77;

	ck_assert_int_eq(write_as(&bob, &file, 0, "refused"), -EACCES);
	ck_assert_uint_eq(volume->write_verifier, verifier);

	sync_error = EIO;
	ck_assert_int_eq(backend->commit(volume, &alice, &file, 0, 0, &change), -EIO);
	ck_assert_uint_ne(volume->write_verifier, verifier);
	verifier = volume->write_verifier;
	ck_assert_int_eq(backend->write(volume, &alice, &file, 0, "text", 4, &stability, &written, &change), -EIO);
	ck_assert_uint_eq(written, 77);
	ck_assert_uint_ne(volume->write_verifier, verifier);
	verifier = volume->write_verifier;
	ck_assert_int_eq(set_as(&alice, &file, &set), -EIO);
	ck_assert_uint_ne(volume->write_verifier, verifier);

	sync_error = 0;
	ck_assert_int_eq(backend->commit(volume, &alice, &file, 0, 0, &change), 0);
}
END_TEST

static struct local_cache *cache_of_volume(void)
{
	return ((struct local_volume *)volume->state)->cache;
}

/* Whoever closes the last descriptor of a file is the last to hear that the disk lost something of it. */
START_TEST(what_was_written_is_not_closed_unheard)
{
	struct handle file = make_file("file", &alice, 0644);
	uint64_t verifier = volume->write_verifier;
	struct backend_attributes after;
	struct backend_change change;

	ck_assert_int_eq(write_as(&alice, &file, 0, "text"), 0);
	sync_error = EIO;
	local_cache_shrink(cache_of_volume());
	ck_assert_uint_ne(volume->write_verifier, verifier);
	sync_error = 0;

	ck_assert_int_eq(write_as(&alice, &file, 0, "text"), 0);
	ck_assert_int_eq(backend->commit(volume, &alice, &file, 0, 0, &change), 0);
	sync_count = 0;
	local_cache_shrink(cache_of_volume());
	ck_assert_int_eq(sync_count, 0);

	ck_assert_int_eq(write_as(&alice, &file, 0, "text"), 0);
	ck_assert_int_eq(backend->link(volume, &alice, &file, &volume->root, "more", &after, &change), 0);
	verifier = volume->write_verifier;
	sync_count = 0;
	ck_assert_int_eq(backend->remove(volume, &alice, &volume->root, "more", &change), 0);
	ck_assert_int_eq(sync_count, 2); /* the directory, and what is left of the file */
	ck_assert_int_eq(write_as(&alice, &file, 0, "text"), 0);
	sync_count = 0;
	ck_assert_int_eq(backend->remove(volume, &alice, &volume->root, "file", &change), 0);
	ck_assert_int_eq(sync_count, 1); /* the directory */
	ck_assert_uint_eq(volume->write_verifier, verifier);
}
END_TEST

START_TEST(what_was_written_is_synchronized_when_it_rests)
{
	struct handle file = make_file("file", &alice, 0644);
	uint64_t verifier = volume->write_verifier;
	struct backend_change change;

	ck_assert_int_eq(write_as(&alice, &file, 0, "text"), 0);
	usleep(1000 * (LOCAL_CACHE_WRITE_IDLE_MS + 1));
	sync_error = EIO;
	local_tidy(volume);
	ck_assert_uint_ne(volume->write_verifier, verifier);
	sync_error = 0;
	sync_count = 0;
	local_cache_shrink(cache_of_volume());
	ck_assert_int_eq(sync_count, 0);
	ck_assert_int_eq(backend->commit(volume, &alice, &file, 0, 0, &change), 0);
}
END_TEST

/* A file that can't stay open: what is written is made durable while it is. */
START_TEST(what_does_not_stay_open_is_stable)
{
	enum backend_stability stability = BACKEND_UNSTABLE;
	struct backend_change change;
	struct handle file;
	size_t written;

	local_close(volume);
	has_descriptors = false;
	volume_open(directory);
	has_descriptors = true;
	file = make_file("file", &alice, 0644);
	sync_count = 0;
	ck_assert_int_eq(backend->write(volume, &alice, &file, 0, "text", 4, &stability, &written, &change), 0);
	ck_assert_int_eq(sync_count, 1);
	ck_assert_int_eq(stability, BACKEND_DATA_SYNC);
}
END_TEST

/* Another client's call on the same file, while one's is told of a loss. */
struct other_call {
	struct handle file;
	bool commits;
	int rc;
	uint64_t verifier; /* when it was over */
};

static struct other_call *other_call;
static pthread_t other_thread;

static void *make_other_call(void *arg)
{
	struct other_call *call = arg;
	enum backend_stability stability = BACKEND_FILE_SYNC;
	struct backend_change change;
	size_t written;

	if (call->commits)
		call->rc = backend->commit(volume, &alice, &call->file, 0, 0, &change);
	else
		call->rc = backend->write(volume, &alice, &call->file, 4, "more", 4, &stability, &written, &change);
	call->verifier = volume->write_verifier;
	return NULL;
}

/* The kernel tells one of the two; the other has written before, and has all the time to be wrong. */
static int lose_while_other_calls(void)
{
	char path[PATH_MAX];
	struct stat st = { 0 };

	ck_assert_int_lt(snprintf(path, sizeof(path), "%s/file", directory), (int)sizeof(path));
	ck_assert_int_eq(pthread_create(&other_thread, NULL, make_other_call, other_call), 0);
	for (int i = 0; i < 10000 && !other_call->commits && st.st_size < 8; i++) {
		usleep(1000);
		ck_assert_int_eq(stat(path, &st), 0);
	}
	usleep(100000);
	return EIO;
}

/* Who is not told must not take his own success for a proof that nothing was lost. */
START_TEST(a_loss_is_known_before_anyone_succeeds)
{
	struct other_call call = { .file = make_file("file", &alice, 0644), .commits = _i };
	uint64_t verifier = volume->write_verifier;
	struct backend_change change;

	other_call = &call;
	ck_assert_int_eq(write_as(&alice, &call.file, 0, "text"), 0);
	on_next_sync = lose_while_other_calls;
	ck_assert_int_eq(backend->commit(volume, &alice, &call.file, 0, 0, &change), -EIO);
	pthread_join(other_thread, NULL);
	ck_assert_uint_ne(call.verifier, verifier);
	ck_assert_int_eq(call.rc, call.commits ? 0 : -EIO); /* COMMIT's answer has the verifier, that of a stable WRITE is believed */
}
END_TEST

START_TEST(full_disk_says_so)
{
	enum backend_stability stability = BACKEND_UNSTABLE;
	static const char block[65536];
	struct backend_change change;
	struct statvfs facts;
	struct backend_attributes after;
	struct handle file;
	uint64_t offset = 0;
	size_t written;
	int rc = 0;

	if (!private_mounts() || mount("none", directory, "tmpfs", 0, "size=256k,mode=1777"))
		return;
	local_close(volume);
	volume_open(directory);
	file = make_file("file", &alice, 0644);
	while (!rc && offset < 1 << 20) {
		rc = backend->write(volume, &alice, &file, offset, block, sizeof(block), &stability, &written, &change);
		offset += rc ? 0 : written;
	}
	ck_assert_int_eq(rc, -ENOSPC);
	ck_assert(change.after.valid);
	ck_assert_int_eq(attributes(&file).st_size, (off_t)offset);
	ck_assert_int_eq(backend->statfs(volume, &alice, &volume->root, &facts, &after), 0);
	ck_assert_uint_eq(facts.f_bfree, 0);
	umount2(directory, MNT_DETACH);
}
END_TEST

/* --- places --- */

static int link_in(const struct handle *object, const struct handle *dir, const char *name)
{
	struct backend_attributes after;
	struct backend_change change;

	return backend->link(volume, &root_user, object, dir, name, &after, &change);
}

static int remove_from(const struct handle *dir, const char *name)
{
	struct backend_change change;

	return backend->remove(volume, &root_user, dir, name, &change);
}

/* "" if there is none; until the next call */
static const char *place_of(const struct handle *object, const struct handle *dir)
{
	static char path[PATH_MAX];
	int rc = backend->place(volume, object, dir, path);

	if (rc) {
		ck_assert_int_eq(rc, -ESTALE);
		path[0] = '\0';
	}
	return path;
}

START_TEST(places_follow_what_is_moved)
{
	struct handle dir = make_dir("dir", &root_user, 0755), file = make_file_in(&dir, "file", &root_user, 0644);

	ck_assert_str_eq(place_of(&volume->root, NULL), "");
	ck_assert_str_eq(place_of(&dir, NULL), "dir");
	ck_assert_str_eq(place_of(&file, NULL), "dir/file");
	ck_assert_int_eq(rename(at("dir"), at("other")), 0);
	ck_assert_str_eq(place_of(&dir, NULL), "other");
	ck_assert_str_eq(place_of(&file, &dir), "other/file");
	ck_assert_int_eq(rename(at("other/file"), at("file")), 0);
	ck_assert_str_eq(place_of(&file, &dir), "file");
	ck_assert_int_eq(rmdir(at("other")), 0);
	ck_assert_str_eq(place_of(&file, &dir), "file");
}
END_TEST

/* Of several names the one counts in the directory where the client found it. */
START_TEST(places_of_hard_links)
{
	struct handle a = make_dir("a", &root_user, 0755), b = make_dir("b", &root_user, 0755);
	struct handle file = make_file_in(&a, "file", &root_user, 0644);

	ck_assert_int_eq(link_in(&file, &b, "second"), 0);
	ck_assert_int_eq(link_in(&file, &b, "third"), 0);
	for (unsigned int restarts = 0; restarts < 2; restarts++) {
		ck_assert_str_eq(place_of(&file, &a), "a/file");
		ck_assert(!strncmp(place_of(&file, &b), "b/", 2));
		ck_assert_str_eq(place_of(&file, &a), "a/file");
		ck_assert_str_eq(place_of(&file, &volume->root), "");
		local_close(volume);
		volume_open(directory);
	}
}
END_TEST

/* Nobody keeps a right to a file by a name that it has no more. */
START_TEST(a_name_that_was_removed_is_no_place)
{
	struct handle a = make_dir("a", &root_user, 0755), b = make_dir("b", &root_user, 0755);
	struct handle file = make_file_in(&a, "file", &root_user, 0644);

	ck_assert_int_eq(link_in(&file, &b, "second"), 0);
	ck_assert_str_eq(place_of(&file, &a), "a/file");
	if (_i)
		ck_assert_int_eq(remove_from(&a, "file"), 0);
	else
		ck_assert_int_eq(unlink(at("a/file")), 0);
	ck_assert(strncmp(place_of(&file, &a), "a/", 2) != 0);
	ck_assert(strncmp(place_of(&file, NULL), "a/", 2) != 0);
	ck_assert_str_eq(place_of(&file, &b), "b/second");
}
END_TEST

/* What the kernel writes behind the path of something that is gone may also be a part of a name. */
START_TEST(a_file_may_be_called_deleted)
{
	struct handle dir = make_dir("dir (deleted)", &root_user, 0755);
	struct handle file = make_file_in(&dir, "file (deleted)", &root_user, 0644);

	ck_assert_str_eq(place_of(&dir, NULL), "dir (deleted)");
	ck_assert_str_eq(place_of(&file, NULL), "dir (deleted)/file (deleted)");
	ck_assert_str_eq(place_of(&file, &dir), "dir (deleted)/file (deleted)");
}
END_TEST

/* --- access control lists and quotas --- */

static int get_acl(const struct handle *handle, enum backend_acl_kind kind, struct backend_acl *acl)
{
	struct backend_attributes after;

	return backend->get_acl(volume, handle, kind, acl, &after);
}

static int set_acl(const struct credentials *who, const struct handle *handle, const struct backend_acl *access,
		   const struct backend_acl *default_acl)
{
	struct backend_attributes after;

	return backend->set_acl(volume, who, handle, access, default_acl, &after);
}

static const struct backend_acl for_bob = { 5, {
	{ BACKEND_ACL_USER_OBJ, 6, 0 },
	{ BACKEND_ACL_USER, 4, BOB },
	{ BACKEND_ACL_GROUP_OBJ, 0, 0 },
	{ BACKEND_ACL_MASK, 4, 0 },
	{ BACKEND_ACL_OTHER, 0, 0 },
} };

START_TEST(acls_are_obeyed)
{
	struct handle file = make_file("file", &alice, 0640);
	static const struct backend_acl none;
	struct backend_acl acl;
	struct stat st;
	int allowed;

	ck_assert_int_eq(get_acl(&file, BACKEND_ACL_ACCESS, &acl), 0);
	ck_assert_uint_eq(acl.count, 3);
	ck_assert_uint_eq(acl.entries[0].permissions, 6);
	ck_assert_uint_eq(acl.entries[1].permissions, 4);
	ck_assert_int_eq(read_any(&bob, &file), -EACCES);
	ck_assert_int_eq(set_acl(&bob, &file, &for_bob, NULL), -EPERM);
	sync_count = 0;
	ck_assert_int_eq(set_acl(&alice, &file, &for_bob, NULL), 0);
	ck_assert_int_gt(sync_count, 0);
	ck_assert_int_eq(read_any(&bob, &file), 0);
	ck_assert_int_eq(backend->access(volume, &bob, &file, R_OK | W_OK | X_OK, &allowed, &st), 0);
	ck_assert_int_eq(allowed, R_OK);
	ck_assert_int_eq(backend->access(volume, &staff_member, &file, R_OK | W_OK | X_OK, &allowed, &st), 0);
	ck_assert_int_eq(allowed, 0);
	ck_assert_int_eq(get_acl(&file, BACKEND_ACL_ACCESS, &acl), 0);
	ck_assert_uint_eq(acl.count, 5);
	ck_assert_int_eq(acl.entries[1].tag, BACKEND_ACL_USER);
	ck_assert_uint_eq(acl.entries[1].id, BOB);
	ck_assert_uint_eq(acl.entries[2].id, 0);
	ck_assert_int_eq(attributes(&file).st_mode & 0777, 0640); /* the group's bits show the mask */
	ck_assert_int_eq(set_acl(&alice, &file, &none, NULL), 0);
	ck_assert_int_eq(set_acl(&alice, &file, &none, NULL), 0); /* none is there: not an error */
	ck_assert_int_eq(read_any(&bob, &file), -EACCES);
}
END_TEST

START_TEST(default_acls_are_inherited)
{
	struct handle dir = make_dir("dir", &alice, 0700), file;
	static const struct backend_acl none;
	struct backend_acl acl;

	ck_assert_int_eq(get_acl(&dir, BACKEND_ACL_DEFAULT, &acl), 0);
	ck_assert_uint_eq(acl.count, 0);
	ck_assert_int_eq(set_acl(&alice, &dir, NULL, &for_bob), 0);
	ck_assert_int_eq(get_acl(&dir, BACKEND_ACL_ACCESS, &acl), 0);
	ck_assert_uint_eq(acl.count, 3);
	file = make_file_in(&dir, "file", &alice, 0666);
	ck_assert_int_eq(get_acl(&file, BACKEND_ACL_ACCESS, &acl), 0);
	ck_assert_uint_eq(acl.count, 5);
	ck_assert_int_eq(read_any(&bob, &file), 0);
	ck_assert_int_eq(set_acl(&alice, &file, NULL, &none), 0); /* a file has no default ACL, so this is nothing */
	ck_assert_int_eq(set_acl(&alice, &file, NULL, &for_bob), -EACCES);
}
END_TEST

START_TEST(acls_that_the_kernel_refuses)
{
	struct handle file = make_file("file", &alice, 0640), link = make_symlink("link", "file", &alice);
	static const struct backend_acl half = { 1, { { BACKEND_ACL_USER_OBJ, 6, 0 } } };
	struct backend_acl acl;

	ck_assert_int_eq(set_acl(&alice, &file, &half, NULL), -EINVAL);
	ck_assert_int_eq(set_acl(&alice, &link, &for_bob, NULL), -EINVAL);
	ck_assert_int_eq(get_acl(&link, BACKEND_ACL_ACCESS, &acl), 0);
	ck_assert_uint_eq(acl.count, 3);
	ck_assert_int_eq(get_acl(&file, BACKEND_ACL_ACCESS, &acl), 0);
	ck_assert_uint_eq(acl.count, 3); /* the link was not followed */
}
END_TEST

/* A small ext4 that keeps quotas, on the volume's directory; false if this machine can't. */
static bool mount_with_quotas(void)
{
	char command[3 * PATH_MAX];

	snprintf(command, sizeof(command),
		 "image=$(mktemp) && truncate -s 8M $image && "
		 "mkfs.ext4 -q -O quota -E quotatype=usrquota:grpquota $image 2>/dev/null && "
		 "mount -o loop $image %s 2>/dev/null; status=$?; rm -f $image; exit $status", directory);
	return private_mounts() && system(command) == 0;
}

struct question_of_worker {
	struct handle object;
	int rc;
};

/* On a thread that served Alice last, as a worker of many clients has served somebody. */
static void *ask_after_alice(void *arg)
{
	struct question_of_worker *question = arg;
	struct backend_quota quota;
	struct stat st;
	int allowed;

	ck_assert_int_eq(backend->access(volume, &alice, &question->object, R_OK, &allowed, &st), 0);
	question->rc = backend->quota(volume, BACKEND_QUOTA_USER, 4242, &quota);
	return NULL;
}

/* Without quotas, too: who may ask is told that there are none, who may not is not told. */
START_TEST(quotas_are_told_whoever_was_served_before)
{
	struct question_of_worker question = { .object = volume->root };
	struct backend_quota quota;
	pthread_t worker;

	ck_assert_int_eq(pthread_create(&worker, NULL, ask_after_alice, &question), 0);
	ck_assert_int_eq(pthread_join(worker, NULL), 0);
	ck_assert_int_eq(question.rc, backend->quota(volume, BACKEND_QUOTA_USER, 4242, &quota));
}
END_TEST

START_TEST(quotas_are_those_of_the_file_system)
{
	struct dqblk limits = { .dqb_bhardlimit = 300, .dqb_bsoftlimit = 100, .dqb_ihardlimit = 10,
				.dqb_valid = QIF_LIMITS };
	static const char block[200000];
	enum backend_stability stability = BACKEND_FILE_SYNC;
	struct backend_change change;
	struct backend_quota quota;
	struct handle file;
	size_t written;
	int fd;

	ck_assert_int_lt(backend->quota(volume, BACKEND_QUOTA_USER, 4242, &quota), 0);
	if (!mount_with_quotas())
		return;
	local_close(volume);
	volume_open(directory);
	ck_assert_int_eq(chmod(directory, 0777), 0);
	fd = open(directory, O_RDONLY | O_DIRECTORY);
	ck_assert_int_eq(syscall(SYS_quotactl_fd, fd, QCMD(Q_QUOTAON, USRQUOTA), 0, NULL), 0);
	ck_assert_int_eq(syscall(SYS_quotactl_fd, fd, QCMD(Q_SETQUOTA, USRQUOTA), ALICE, &limits), 0);
	close(fd);
	file = make_file("file", &alice, 0644);
	ck_assert_int_eq(backend->write(volume, &alice, &file, 0, block, sizeof(block), &stability, &written, &change), 0);
	ck_assert_int_eq(backend->quota(volume, BACKEND_QUOTA_USER, ALICE, &quota), 0);
	ck_assert_uint_eq(quota.byte_hard, 300 * 1024);
	ck_assert_uint_eq(quota.byte_soft, 100 * 1024);
	ck_assert_uint_ge(quota.bytes, sizeof(block));
	ck_assert_uint_eq(quota.file_hard, 10);
	ck_assert_uint_eq(quota.file_soft, 0);
	ck_assert_uint_eq(quota.files, 1);
	ck_assert_uint_gt(quota.byte_grace_end, 0); /* more than the soft limit */
	ck_assert_uint_eq(quota.file_grace_end, 0);
	ck_assert_int_eq(backend->write(volume, &alice, &file, sizeof(block), block, sizeof(block), &stability, &written,
					&change), -EDQUOT);
	ck_assert_int_eq(backend->quota(volume, BACKEND_QUOTA_GROUP, ALICE, &quota), 0);
	ck_assert_uint_eq(quota.byte_hard, 0);
	umount2(directory, MNT_DETACH);
}
END_TEST

/* --- making --- */

static const struct {
	enum backend_create_mode mode;
	int rc;
	off_t size;
} again_cases[] = {
	{ BACKEND_CREATE_UNCHECKED, 0, 1 },
	{ BACKEND_CREATE_GUARDED, -EEXIST, 4 },
	{ BACKEND_CREATE_EXCLUSIVE, -EEXIST, 4 },
};

START_TEST(create_on_an_existing_file)
{
	struct handle file = make_file("file", &alice, 0644);
	struct backend_set set = { .set_mode = true, .mode = 0777, .set_size = true, .size = 1 };
	struct backend_change change;
	struct backend_found found;

	ck_assert_int_eq(write_as(&alice, &file, 0, "text"), 0);
	ck_assert_int_eq(backend->create(volume, &alice, &volume->root, "file", again_cases[_i].mode, &set,
					 (const uint8_t *)"verifier", &found, &change), again_cases[_i].rc);
	ck_assert_int_eq(attributes(&file).st_size, again_cases[_i].size);
	ck_assert_uint_eq(attributes(&file).st_mode & 07777, 0644);
	if (!again_cases[_i].rc)
		ck_assert(is_same_handle(&found.handle, &file));
	ck_assert(change.before.valid && change.after.valid);
}
END_TEST

START_TEST(create_unchecked_obeys_permissions)
{
	struct handle file = make_file("file", &alice, 0644);
	struct backend_set cut = size_set(0);
	struct backend_change change;
	struct backend_found found;

	make_dir("dir", &alice, 0755);
	ck_assert_int_eq(write_as(&alice, &file, 0, "text"), 0);
	ck_assert_int_eq(backend->create(volume, &bob, &volume->root, "file", BACKEND_CREATE_UNCHECKED, &cut, NULL, &found,
					 &change), -EACCES);
	ck_assert_int_eq(backend->create(volume, &bob, &volume->root, "file", BACKEND_CREATE_UNCHECKED, &no_set, NULL,
					 &found, &change), 0);
	ck_assert_int_eq(backend->create(volume, &alice, &volume->root, "dir", BACKEND_CREATE_UNCHECKED, &no_set, NULL,
					 &found, &change), -EEXIST);
	ck_assert_int_eq(attributes(&file).st_size, 4);
}
END_TEST

START_TEST(create_sets_attributes)
{
	struct backend_set set = {
		.set_mode = true, .mode = 0754, .set_size = true, .size = 3, .set_uid = true, .uid = BOB,
		.set_mtime = BACKEND_TIME_CLIENT, .mtime = { 1234, 5 },
	};
	struct backend_change change;
	struct backend_found found;
	struct stat st;

	ck_assert_int_eq(backend->create(volume, &alice, &volume->root, "a", BACKEND_CREATE_UNCHECKED, &set, NULL, &found,
					 &change), 0);
	st = attributes(&found.handle);
	ck_assert_uint_eq(st.st_mode, S_IFREG | 0754);
	ck_assert_uint_eq(st.st_uid, ALICE);
	ck_assert_uint_eq(st.st_gid, ALICE);
	ck_assert_int_eq(st.st_size, 3);
	ck_assert_int_eq(st.st_mtim.tv_sec, 1234);
	ck_assert(found.attributes.valid);
	ck_assert_int_eq(found.attributes.st.st_mtim.tv_sec, 1234);
	ck_assert(change.before.st.st_mtim.tv_sec != change.after.st.st_mtim.tv_sec ||
		  change.before.st.st_mtim.tv_nsec != change.after.st.st_mtim.tv_nsec);

	ck_assert_int_eq(backend->create(volume, &root_user, &volume->root, "b", BACKEND_CREATE_GUARDED, &set, NULL, &found,
					 &change), 0);
	ck_assert_uint_eq(attributes(&found.handle).st_uid, BOB);
}
END_TEST

START_TEST(create_needs_permission)
{
	struct handle dir = make_dir("dir", &alice, 0755), file = make_file("file", &alice, 0644);
	struct backend_change change;
	struct backend_found found;

	ck_assert_int_eq(backend->create(volume, &bob, &dir, "x", BACKEND_CREATE_UNCHECKED, &no_set, NULL, &found, &change),
			 -EACCES);
	ck_assert_int_eq(backend->mkdir(volume, &bob, &dir, "x", &no_set, &found, &change), -EACCES);
	ck_assert_int_eq(backend->symlink(volume, &bob, &dir, "x", "y", &no_set, &found, &change), -EACCES);
	ck_assert_int_eq(backend->mkdir(volume, &alice, &file, "x", &no_set, &found, &change), -ENOTDIR);
	ck_assert(change.before.valid && change.after.valid);
	ck_assert_int_eq(look_in(&dir, "x", NULL), -ENOENT);
}
END_TEST

START_TEST(exclusive_create_may_be_repeated)
{
	static const uint8_t first[8] = { 0xff, 1, 2, 3, 0x7e, 5, 6, 7 };
	struct backend_set times = { .set_atime = BACKEND_TIME_CLIENT, .set_mtime = BACKEND_TIME_CLIENT };
	struct backend_found found, again;
	struct backend_change change;
	const struct handle *root = &volume->root;

	ck_assert_int_eq(backend->create(volume, &alice, root, "x", BACKEND_CREATE_EXCLUSIVE, &no_set, first, &found,
					 &change), 0);
	ck_assert_int_eq(backend->create(volume, &alice, root, "x", BACKEND_CREATE_EXCLUSIVE, &no_set, first, &again,
					 &change), 0);
	ck_assert(is_same_handle(&found.handle, &again.handle));
	for (int bit = 0; bit < 64; bit++) { /* all of them count */
		uint8_t other[8];

		memcpy(other, first, sizeof(other));
		other[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_int_eq(backend->create(volume, &alice, root, "x", BACKEND_CREATE_EXCLUSIVE, &no_set, other,
						 &again, &change), -EEXIST);
	}

	/* Used since, even if its times happen to match. */
	times.atime = found.attributes.st.st_atim;
	times.mtime = found.attributes.st.st_mtim;
	ck_assert_int_eq(write_as(&alice, &found.handle, 0, "used"), 0);
	ck_assert_int_eq(set_as(&alice, &found.handle, &times), 0);
	ck_assert_int_eq(backend->create(volume, &alice, root, "x", BACKEND_CREATE_EXCLUSIVE, &no_set, first, &again,
					 &change), -EEXIST);
}
END_TEST

START_TEST(directories_are_made_and_removed)
{
	struct handle dir = make_dir("dir", &alice, 0777);
	struct backend_change change;
	struct backend_found found;

	ck_assert_uint_eq(attributes(&dir).st_mode, S_IFDIR | 0777);
	ck_assert_uint_eq(attributes(&dir).st_uid, ALICE);
	ck_assert_int_eq(backend->mkdir(volume, &alice, &volume->root, "dir", &no_set, &found, &change), -EEXIST);
	make_file_in(&dir, "file", &alice, 0644);
	ck_assert_int_eq(backend->rmdir(volume, &alice, &volume->root, "dir", &change), -ENOTEMPTY);
	ck_assert_int_eq(backend->remove(volume, &alice, &volume->root, "dir", &change), -EISDIR);
	ck_assert_int_eq(backend->rmdir(volume, &alice, &dir, "file", &change), -ENOTDIR);
	ck_assert_int_eq(backend->remove(volume, &bob, &dir, "file", &change), 0);
	ck_assert_int_eq(backend->remove(volume, &bob, &dir, "file", &change), -ENOENT);
	ck_assert_int_eq(backend->rmdir(volume, &bob, &volume->root, "dir", &change), -EPERM); /* sticky */
	ck_assert_int_eq(backend->rmdir(volume, &alice, &volume->root, "dir", &change), 0);
	if (change.before.st.st_nlink != 1) /* Btrfs does not count them */
		ck_assert_uint_eq(change.before.st.st_nlink, change.after.st.st_nlink + 1);
}
END_TEST

static const struct {
	mode_t type;
	const struct credentials *who;
	int rc;
} node_cases[] = {
	{ S_IFIFO, &alice, 0 },	       { S_IFSOCK, &alice, 0 },	   { S_IFCHR, &alice, -EPERM }, { S_IFBLK, &alice, -EPERM },
	{ S_IFCHR, &root_user, 0 },    { S_IFBLK, &root_user, 0 }, { S_IFREG, &alice, -EINVAL },
	{ S_IFDIR, &alice, -EINVAL },
};

START_TEST(nodes_are_made)
{
	struct backend_set set = { .set_mode = true, .mode = 0666, .set_mtime = BACKEND_TIME_CLIENT, .mtime = { 5, 0 } };
	struct backend_change change;
	struct backend_found found;
	struct stat st;

	ck_assert_int_eq(backend->mknod(volume, node_cases[_i].who, &volume->root, "node", node_cases[_i].type, 1, 300, &set,
					&found, &change), node_cases[_i].rc);
	if (node_cases[_i].rc)
		return;
	st = attributes(&found.handle);
	ck_assert_uint_eq(st.st_mode, node_cases[_i].type | 0666);
	ck_assert_int_eq(st.st_mtim.tv_sec, 5);
	if (node_cases[_i].type == S_IFCHR || node_cases[_i].type == S_IFBLK)
		ck_assert_uint_eq(st.st_rdev, makedev(1, 300));
}
END_TEST

START_TEST(links_are_made)
{
	struct handle file = make_file("file", &alice, 0666), dir = make_dir("dir", &alice, 0755), other;
	struct handle link = make_symlink("link", "file", &alice);
	struct backend_attributes after;
	struct backend_change change;

	ck_assert_int_eq(backend->link(volume, &alice, &file, &dir, "other", &after, &change), 0);
	ck_assert(after.valid && change.before.valid && change.after.valid);
	ck_assert_uint_eq(after.st.st_nlink, 2);
	ck_assert_int_eq(look_in(&dir, "other", &other), 0);
	ck_assert(is_same_handle(&file, &other));

	ck_assert_int_eq(backend->link(volume, &alice, &link, &dir, "link2", &after, &change), 0);
	ck_assert_int_eq(look_in(&dir, "link2", &other), 0);
	ck_assert(is_same_handle(&link, &other));

	ck_assert_int_eq(backend->link(volume, &alice, &file, &dir, "other", &after, &change), -EEXIST);
	ck_assert_int_eq(backend->link(volume, &bob, &file, &dir, "third", &after, &change), -EACCES);
	ck_assert_int_eq(backend->link(volume, &alice, &dir, &dir, "third", &after, &change), -EPERM);
	ck_assert_uint_eq(attributes(&file).st_nlink, 2);
}
END_TEST

START_TEST(names_are_changed)
{
	struct handle file = make_file("file", &alice, 0644), dir = make_dir("dir", &alice, 0755), found;
	struct backend_change from, to;
	const struct handle *root = &volume->root;

	ck_assert_int_eq(backend->rename(volume, &alice, root, "file", &dir, "moved", &from, &to), 0);
	ck_assert(from.before.valid && from.after.valid && to.before.valid && to.after.valid);
	ck_assert_uint_eq(from.after.st.st_ino, attributes(root).st_ino);
	ck_assert_uint_eq(to.after.st.st_ino, attributes(&dir).st_ino);
	ck_assert_int_eq(look("file"), -ENOENT);
	ck_assert_int_eq(look_in(&dir, "moved", &found), 0);
	ck_assert(is_same_handle(&found, &file));

	make_file("victim", &alice, 0644);
	ck_assert_int_eq(backend->rename(volume, &alice, &dir, "moved", root, "victim", &from, &to), 0);
	ck_assert_int_eq(look_in(root, "victim", &found), 0);
	ck_assert(is_same_handle(&found, &file));

	ck_assert_int_eq(backend->rename(volume, &alice, root, "victim", root, "again", &from, &to), 0);
	ck_assert_int_eq(backend->rename(volume, &alice, root, "nothing", root, "x", &from, &to), -ENOENT);
	ck_assert_int_eq(backend->rename(volume, &alice, root, "again", root, "dir", &from, &to), -EISDIR);
	ck_assert_int_eq(backend->rename(volume, &alice, root, "dir", &dir, "below", &from, &to), -EINVAL);
	ck_assert_int_eq(backend->rename(volume, &bob, root, "again", root, "mine", &from, &to), -EPERM);
	ck_assert(from.after.valid && to.after.valid);
}
END_TEST

/* Every change of metadata is durable when the function returns. */
START_TEST(changes_are_synchronized)
{
	struct handle dir = make_dir("dir", &alice, 0755), file;
	struct backend_set set = mode_set(0600);
	struct backend_change change, change2;
	struct backend_attributes after;
	struct backend_found found;
	const struct handle *root = &volume->root;

#define SYNCS(count, call)                                \
	do {                                              \
		sync_count = 0;                           \
		ck_assert_int_eq(call, 0);                \
		ck_assert_int_eq(sync_count, count);      \
	} while (0)

	SYNCS(1, backend->create(volume, &alice, root, "a", BACKEND_CREATE_GUARDED, &set, NULL, &found, &change));
	file = found.handle;
	SYNCS(2, backend->create(volume, &alice, root, "b", BACKEND_CREATE_EXCLUSIVE, &set, (const uint8_t *)"verifier",
				 &found, &change));
	SYNCS(1, backend->mkdir(volume, &alice, root, "c", &set, &found, &change));
	SYNCS(1, backend->symlink(volume, &alice, root, "d", "x", &no_set, &found, &change));
	SYNCS(1, backend->mknod(volume, &alice, root, "e", S_IFIFO, 0, 0, &no_set, &found, &change));
	SYNCS(1, backend->setattr(volume, &alice, &file, &set, NULL, &change));
	SYNCS(1, backend->setattr(volume, &alice, &found.handle, &set, NULL, &change));
	SYNCS(0, backend->setattr(volume, &alice, &file, &no_set, NULL, &change));
	SYNCS(1, backend->link(volume, &alice, &file, root, "f", &after, &change));
	SYNCS(1, backend->rename(volume, &alice, root, "f", root, "g", &change, &change2));
	SYNCS(2, backend->rename(volume, &alice, root, "g", &dir, "h", &change, &change2));
	SYNCS(1, backend->remove(volume, &alice, root, "a", &change));
	SYNCS(1, backend->rmdir(volume, &alice, root, "c", &change));

	sync_error = EIO;
	ck_assert_int_eq(backend->mkdir(volume, &alice, root, "i", &set, &found, &change), -EIO);
	ck_assert_int_eq(backend->rename(volume, &alice, root, "b", &dir, "j", &change, &change2), -EIO);
#undef SYNCS
}
END_TEST

/* What is done in a group is made durable by one sync of the object, and what belongs to others by themselves. */
START_TEST(a_group_is_synchronized_at_its_end)
{
	struct handle dir = make_dir("dir", &alice, 0755), file = make_file("file", &alice, 0644);
	enum backend_stability stability = BACKEND_FILE_SYNC;
	uint64_t verifier = volume->write_verifier;
	struct backend_set set = mode_set(0600);
	struct backend_change change;
	struct backend_found found;
	size_t written;

	sync_count = 0;
	group_commit_set(true);
	ck_assert_int_eq(backend->create(volume, &alice, &dir, "a", BACKEND_CREATE_GUARDED, &set, NULL, &found, &change), 0);
	ck_assert_int_eq(backend->symlink(volume, &alice, &dir, "b", "x", &no_set, &found, &change), 0);
	ck_assert_int_eq(backend->remove(volume, &alice, &dir, "a", &change), 0);
	ck_assert_int_eq(backend->remove(volume, &alice, &dir, "b", &change), 0);
	ck_assert_int_eq(backend->setattr(volume, &alice, &file, &set, NULL, &change), 0);
	ck_assert_int_eq(backend->write(volume, &alice, &file, 0, "text", 4, &stability, &written, &change), 0);
	ck_assert_int_eq(stability, BACKEND_FILE_SYNC);
	ck_assert_int_eq(sync_count, 0);
	ck_assert_int_eq(backend->create(volume, &alice, &dir, "c", BACKEND_CREATE_EXCLUSIVE, &set,
					 (const uint8_t *)"verifier", &found, &change), 0);
	ck_assert_int_eq(sync_count, 1);
	ck_assert_int_eq(backend->remove(volume, &alice, &dir, "c", &change), 0);
	group_commit_set(false);

	sync_count = 0;
	ck_assert_int_eq(backend->sync(volume, &dir), 0);
	ck_assert_int_eq(sync_count, 1);
	ck_assert_int_eq(backend->sync(volume, &file), 0);
	ck_assert_int_eq(sync_count, 2);
	ck_assert_uint_eq(volume->write_verifier, verifier);
	sync_error = EIO;
	ck_assert_int_eq(backend->sync(volume, &file), -EIO);
	ck_assert_uint_ne(volume->write_verifier, verifier);
	sync_error = 0;

	ck_assert_int_eq(backend->rmdir(volume, &alice, &volume->root, "dir", &change), 0);
	sync_count = 0;
	ck_assert_int_eq(backend->sync(volume, &dir), 0);
	ck_assert_int_ge(sync_count, 1);
}
END_TEST

/* --- listing --- */

static char longest[256];

static const char *const names[] = { "plain", "\xff\xfe\x80", "new\nline", " ", "\\", "...", "-rf", longest };

START_TEST(names_are_bytes)
{
	const char *name = names[_i];
	struct backend_attributes after;
	struct backend_change change;
	struct handle file, found;
	uint64_t verifier = 0;
	int count = 0;
	bool end;

	memset(longest, 'n', sizeof(longest) - 1);
	file = make_file(name, &alice, 0644);
	ck_assert_int_eq(look_in(&volume->root, name, &found), 0);
	ck_assert(is_same_handle(&file, &found));
	ck_assert_int_eq(backend->readdir(volume, &alice, &volume->root, 0, &verifier, true, count_found, &count, &end,
					  &after), 0);
	ck_assert_int_eq(count, 3);
	ck_assert_int_eq(backend->remove(volume, &alice, &volume->root, name, &change), 0);
}
END_TEST

START_TEST(names_have_a_length)
{
	char name[257] = { 0 };
	struct backend_change change;
	struct backend_found found;

	memset(name, 'n', 256);
	ck_assert_int_eq(look(name), -ENAMETOOLONG);
	ck_assert_int_eq(backend->mkdir(volume, &alice, &volume->root, name, &no_set, &found, &change), -ENAMETOOLONG);
}
END_TEST

enum { ENTRIES = 3000, PIECE = 37 };

struct walk {
	int left; /* of this piece */
	uint64_t cookie;
	int dots;
	int seen[ENTRIES];
};

static bool walk_entry(const struct backend_entry *entry, void *arg)
{
	struct walk *walk = arg;
	int number;

	if (walk->left == 0)
		return false;
	walk->left--;
	walk->cookie = entry->cookie;
	ck_assert_uint_ne(entry->cookie, 0);
	if (sscanf(entry->name, "entry-%d", &number) == 1)
		walk->seen[number]++;
	else
		walk->dots++;
	return true;
}

/* A client lists a directory in pieces while another one removes every other file of it, and the server restarts. */
START_TEST(listing_continues)
{
	static struct walk walk;
	uint64_t verifier = 0;
	struct backend_attributes after;
	bool end = false;
	char name[32];
	int removed = 0, pieces = 0;

	for (int i = 0; i < ENTRIES; i++) {
		snprintf(name, sizeof(name), "entry-%d", i);
		ck_assert_int_eq(mknod(at(name), S_IFREG | 0644, 0), 0);
	}
	while (!end) {
		walk.left = PIECE;
		ck_assert_int_eq(backend->readdir(volume, &alice, &volume->root, walk.cookie, &verifier, false, walk_entry,
						  &walk, &end, &after), 0);
		for (int i = 0; i < PIECE && removed < ENTRIES; i++, removed += 2) {
			snprintf(name, sizeof(name), "entry-%d", removed);
			ck_assert_int_eq(unlink(at(name)), 0);
		}
		if (++pieces == 10) {
			local_close(volume);
			volume_open(directory);
		}
	}
	ck_assert_int_gt(pieces, 40);
	ck_assert_int_eq(walk.dots, 2);
	for (int i = 0; i < ENTRIES; i++) {
		ck_assert_int_le(walk.seen[i], 1);
		if (i % 2)
			ck_assert_int_eq(walk.seen[i], 1);
	}
}
END_TEST

struct listed {
	int count;
	uint64_t fileids[8];
	char names[8][256];
	struct backend_found found[8];
};

static bool keep_entry(const struct backend_entry *entry, void *arg)
{
	struct listed *listed = arg;

	ck_assert(entry->has_found);
	ck_assert_int_lt(listed->count, 8);
	strcpy(listed->names[listed->count], entry->name);
	listed->fileids[listed->count] = entry->fileid;
	listed->found[listed->count++] = entry->found;
	return true;
}

static void check_listing(const struct handle *dir, int count)
{
	struct listed listed = { 0 };
	struct backend_attributes after;
	struct handle found;
	uint64_t verifier = 0;
	bool end = false;

	ck_assert_int_eq(backend->readdir(volume, &alice, dir, 0, &verifier, true, keep_entry, &listed, &end, &after), 0);
	ck_assert(end && after.valid);
	ck_assert_uint_eq(verifier, 0);
	ck_assert_int_eq(listed.count, count);
	for (int i = 0; i < count; i++) {
		ck_assert(listed.found[i].attributes.valid);
		ck_assert_uint_eq(listed.fileids[i], listed.found[i].attributes.st.st_ino);
		ck_assert_int_eq(look_in(dir, listed.names[i], &found), 0);
		ck_assert(is_same_handle(&found, &listed.found[i].handle));
	}
}

START_TEST(listing_carries_handles)
{
	struct handle dir = make_dir("dir", &alice, 0755);

	make_file_in(&dir, "file", &alice, 0644);
	make_symlink("link", "nowhere", &alice);
	check_listing(&volume->root, 4);
	check_listing(&dir, 3);
}
END_TEST

/* Return: whether the file system has subvolumes; then there are "one", with "file", and "two", which is a copy of it */
static bool make_subvolumes(void)
{
	struct btrfs_ioctl_vol_args one = { .name = "one" };
	struct btrfs_ioctl_vol_args_v2 two = { .name = "two" };
	int fd = open(directory, O_RDONLY);
	bool can = !ioctl(fd, BTRFS_IOC_SUBVOL_CREATE, &one);

	if (can) {
		ck_assert_int_eq(chmod(at("one"), 0755), 0);
		ck_assert_int_eq(mknod(at("one/file"), S_IFREG | 0644, 0), 0);
		two.fd = open(at("one"), O_RDONLY);
		ck_assert_int_eq(ioctl(fd, BTRFS_IOC_SNAP_CREATE_V2, &two), 0);
		close((int)two.fd);
	} else {
		fprintf(stderr, "test_local: this file system has no subvolumes, a part is left out\n");
	}
	close(fd);
	return can;
}

/* Who finds the same number twice in one file system takes two files for one. */
START_TEST(a_snapshot_has_files_of_its_own)
{
	struct handle root = volume->root, one, two, file, copy;
	uint64_t number;

	if (!make_subvolumes())
		return;
	ck_assert_int_eq(look_in(&root, "one", &one), 0);
	ck_assert_int_eq(look_in(&root, "two", &two), 0);
	ck_assert_int_eq(look_in(&one, "file", &file), 0);
	ck_assert_int_eq(look_in(&two, "file", &copy), 0);
	ck_assert_uint_ne(attributes(&root).st_ino, attributes(&one).st_ino);
	ck_assert_uint_ne(attributes(&one).st_ino, attributes(&two).st_ino);
	ck_assert_uint_ne(attributes(&file).st_ino, attributes(&copy).st_ino);
	check_listing(&root, 4);
	check_listing(&one, 3);
	check_listing(&two, 3);
	make_file_in(&two, "new", &root_user, 0644);
	check_listing(&two, 4);

	number = attributes(&copy).st_ino;
	local_close(volume);
	volume_open(directory);
	ck_assert_uint_eq(attributes(&copy).st_ino, number);
}
END_TEST

START_TEST(listing_needs_permission)
{
	struct handle dir = make_dir("dir", &alice, 0700), file = make_file("file", &alice, 0644);
	struct backend_set readable = mode_set(0744);
	struct backend_attributes after;
	uint64_t verifier = 0;
	int count = 0;
	bool end;

	ck_assert_int_eq(backend->readdir(volume, &bob, &dir, 0, &verifier, true, count_found, &count, &end, &after), -EACCES);
	ck_assert(after.valid);
	ck_assert_int_eq(backend->readdir(volume, &alice, &file, 0, &verifier, true, count_found, &count, &end, &after),
			 -ENOTDIR);
	ck_assert_int_eq(backend->readdir(volume, &alice, &dir, UINT64_MAX, &verifier, true, count_found, &count, &end,
					  &after), -EINVAL);
	/* may be read, but not searched: names without handles */
	ck_assert_int_eq(set_as(&alice, &dir, &readable), 0);
	ck_assert_int_eq(backend->readdir(volume, &bob, &dir, 0, &verifier, true, count_found, &count, &end, &after), 0);
	ck_assert_int_eq(count, 0);
}
END_TEST

START_TEST(limits_are_those_of_the_file_system)
{
	struct backend_attributes after;
	struct backend_limits limits;
	struct statvfs facts, truth;

	ck_assert_int_eq(backend->limits(volume, &volume->root, &limits, &after), 0);
	ck_assert(after.valid && limits.has_links && limits.has_symlinks && !limits.case_insensitive);
	ck_assert_uint_eq(limits.name_max, 255);
	ck_assert_uint_gt(limits.link_max, 127); /* what the C library says of file systems that it does not know */
	ck_assert_uint_gt(limits.file_size_max, 1ull << 40);
	ck_assert_int_eq(backend->statfs(volume, &bob, &volume->root, &facts, &after), 0);
	ck_assert(after.valid);
	ck_assert_int_eq(statvfs(directory, &truth), 0);
	ck_assert_uint_gt(truth.f_blocks, 0);
	ck_assert_uint_eq(facts.f_blocks * facts.f_frsize, truth.f_blocks * truth.f_frsize);
	ck_assert_uint_eq(facts.f_files, truth.f_files);
	ck_assert_uint_eq(facts.f_namemax, truth.f_namemax);
}
END_TEST

static struct backend_limits limits_of_volume(void)
{
	struct backend_attributes after;
	struct backend_limits limits;

	ck_assert_int_eq(backend->limits(volume, &volume->root, &limits, &after), 0);
	return limits;
}

START_TEST(the_longest_file_is_as_long_as_said)
{
	struct backend_set longest_of_all = size_set(limits_of_volume().file_size_max);
	struct backend_set too_long = size_set(longest_of_all.size + 1);
	struct handle file = make_file("file", &alice, 0644);

	ck_assert_int_eq(set_as(&alice, &file, &longest_of_all), 0);
	ck_assert_uint_eq(attributes(&file).st_size, longest_of_all.size);
	ck_assert_int_eq(set_as(&alice, &file, &too_long), -EFBIG);
}
END_TEST

/* A time that is a multiple of the least difference is kept, others are not. */
START_TEST(times_are_as_fine_as_said)
{
	struct timespec delta = limits_of_volume().time_delta;
	uint64_t delta_ns = (uint64_t)delta.tv_sec * 1000000000 + (uint64_t)delta.tv_nsec;
	struct backend_set set = { .set_mtime = BACKEND_TIME_CLIENT, .mtime = { .tv_sec = 1000000000 } };
	struct handle file = make_file("file", &alice, 0644);

	ck_assert_uint_gt(delta_ns, 0);
	set.mtime.tv_sec += (time_t)(delta_ns / 1000000000);
	set.mtime.tv_nsec = (long)(delta_ns % 1000000000);
	ck_assert_int_eq(set_as(&alice, &file, &set), 0);
	ck_assert(local_time_is(&(struct timespec){ attributes(&file).st_mtim.tv_sec, attributes(&file).st_mtim.tv_nsec },
				&set.mtime));
	set.mtime.tv_nsec = delta_ns > 1 ? (long)(delta_ns - 1) : 999999999;
	ck_assert_int_eq(set_as(&alice, &file, &set), 0);
	ck_assert_int_eq(attributes(&file).st_mtim.tv_nsec == set.mtime.tv_nsec, delta_ns == 1);
}
END_TEST

/* Where that can be tried out. */
START_TEST(a_file_has_as_many_links_as_said)
{
	uint32_t link_max = limits_of_volume().link_max;
	struct handle file = make_file("file", &alice, 0644);
	struct backend_attributes after;
	struct backend_change change;
	char name[16];

	if (link_max > UINT16_MAX)
		return;
	for (uint32_t i = 1; i < link_max; i++) {
		snprintf(name, sizeof(name), "%u", i);
		ck_assert_int_eq(link(at("file"), at(name)), 0);
	}
	ck_assert_uint_eq(attributes(&file).st_nlink, link_max);
	ck_assert_int_eq(backend->link(volume, &alice, &file, &volume->root, "more", &after, &change), -EMLINK);
}
END_TEST

START_TEST(a_directory_may_ignore_case)
{
	struct handle file = make_file("file", &root_user, 0644);
	struct backend_attributes after;
	struct backend_limits limits;

	ignores_case = true;
	ck_assert_int_eq(backend->limits(volume, &volume->root, &limits, &after), 0);
	ck_assert(limits.case_insensitive && limits.case_preserving);
	ck_assert_int_eq(backend->limits(volume, &file, &limits, &after), 0);
	ck_assert(!limits.case_insensitive && limits.case_preserving);
	ignores_case = false;
}
END_TEST

/* --- identity --- */

START_TEST(impossible_identities_are_refused)
{
	static const struct credentials cases[] = { { .uid = UINT32_MAX, .gid = 1 }, { .uid = 1, .gid = UINT32_MAX } };
	struct handle file = make_file("file", &root_user, 0600);

	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(read_any(&cases[i], &file), -EACCES);
	ck_assert_int_eq(read_any(&root_user, &file), 0);
}
END_TEST

START_TEST(nothing_of_a_client_stays_behind)
{
	struct handle file = make_file("file", &staff_member, 0600);

	ck_assert_int_eq(read_any(&bob, &file), -EACCES);
	ck_assert_int_eq(read_any(&staff_member, &file), 0);
	ck_assert_int_eq(setfsuid((uid_t)-1), 0);
	ck_assert_int_eq(setfsgid((gid_t)-1), 0);
	/* Supplementary groups may stay: they mean nothing to root. */
	ck_assert_uint_eq(umask(077), 077);
}
END_TEST

static void *make_and_set_umask(void *arg)
{
	(void)arg;
	make_file("file", &alice, 0644);
	umask(0123);
	return NULL;
}

/* While one thread makes a file for a client, others make the daemon's own with the daemon's umask. */
START_TEST(umask_is_the_threads_own)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, make_and_set_umask, NULL), 0);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(umask(077), 077);
}
END_TEST

struct worker {
	const struct credentials *who;
	struct handle own, foreign;
	int wrong;
};

static void *work(void *arg)
{
	struct worker *worker = arg;

	for (int i = 0; i < 2000; i++) {
		worker->wrong += write_as(worker->who, &worker->own, 0, "mine") != 0;
		worker->wrong += write_as(worker->who, &worker->foreign, 0, "mine") != -EACCES;
	}
	return NULL;
}

/* The identity belongs to the thread: users served side by side don't mix. */
enum { MAKERS = 4, DIRECTORIES = 25 };

struct maker {
	char name;
	int wrong;
};

/* Each new directory is one more link of its parent, so what others made in between would be seen. */
static void *make_directories(void *arg)
{
	struct maker *maker = arg;
	struct backend_change change;
	struct backend_found found;
	char name[16];

	for (int i = 0; i < DIRECTORIES; i++) {
		snprintf(name, sizeof(name), "%c%d", maker->name, i);
		maker->wrong += backend->mkdir(volume, &alice, &volume->root, name, &no_set, &found, &change) != 0;
		maker->wrong += change.after.st.st_nlink != change.before.st.st_nlink + 1;
		maker->wrong += backend->rmdir(volume, &alice, &volume->root, name, &change) != 0;
		maker->wrong += change.after.st.st_nlink != change.before.st.st_nlink - 1;
	}
	return NULL;
}

START_TEST(attributes_before_and_after_are_of_one_operation)
{
	struct maker makers[MAKERS];
	pthread_t threads[MAKERS];
	nlink_t links = attributes(&volume->root).st_nlink;

	make_dir("one", &alice, 0755);
	if (attributes(&volume->root).st_nlink == links) {
		fprintf(stderr, "test_local: this file system does not count links of directories, a part is left out\n");
		return;
	}
	for (int i = 0; i < MAKERS; i++) {
		makers[i] = (struct maker){ .name = (char)('a' + i) };
		ck_assert_int_eq(pthread_create(&threads[i], NULL, make_directories, &makers[i]), 0);
	}
	for (int i = 0; i < MAKERS; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_int_eq(makers[i].wrong, 0);
	}
}
END_TEST

enum { WRITES = 5000 };

struct writer {
	struct handle file;
	uint64_t offset; /* odd or even ones */
	int wrong;
};

/* Each byte makes the file so long, or leaves it longer. */
static void *write_bytes(void *arg)
{
	struct writer *writer = arg;
	enum backend_stability stability = BACKEND_UNSTABLE;
	struct backend_change change;
	size_t written;

	for (int i = 0; i < WRITES; i++, writer->offset += 2) {
		off_t end = (off_t)writer->offset + 1;

		writer->wrong += backend->write(volume, &alice, &writer->file, writer->offset, "x", 1, &stability,
						&written, &change) != 0;
		if (change.before.st.st_size > end)
			end = change.before.st.st_size;
		writer->wrong += change.after.st.st_size != end;
	}
	return NULL;
}

START_TEST(attributes_before_and_after_a_write)
{
	struct handle file = make_file("file", &alice, 0644);
	struct writer writers[2] = { { .file = file }, { .file = file, .offset = 1 } };
	pthread_t threads[2];
	struct backend_change change;

	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_bytes, &writers[i]), 0);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_int_eq(writers[i].wrong, 0);
	}
	ck_assert_int_eq(backend->commit(volume, &alice, &file, 0, 0, &change), 0);
	ck_assert(change.before.valid && change.after.valid);
	ck_assert_int_eq(change.before.st.st_size, 2 * WRITES);
}
END_TEST

enum { RENAMES = 50 };

struct renamer {
	struct handle from, to;
	int done;
};

static void *rename_there(void *arg)
{
	struct renamer *renamer = arg;
	struct backend_change from, to;

	for (int i = 0; i < RENAMES; i++)
		renamer->done += backend->rename(volume, &root_user, &renamer->from, "x", &renamer->to, "x", &from, &to) == 0;
	return NULL;
}

/* In opposite directions: nobody waits for ever. */
START_TEST(renames_cross)
{
	struct renamer there = { .from = make_dir("a", &alice, 0755), .to = make_dir("b", &alice, 0755) };
	struct renamer back = { .from = there.to, .to = there.from };
	pthread_t threads[2];

	make_file_in(&there.from, "x", &alice, 0644);
	ck_assert_int_eq(pthread_create(&threads[0], NULL, rename_there, &there), 0);
	ck_assert_int_eq(pthread_create(&threads[1], NULL, rename_there, &back), 0);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	ck_assert_int_gt(there.done, 0);
	ck_assert_int_le(abs(there.done - back.done), 1);
}
END_TEST

START_TEST(threads_have_identities_of_their_own)
{
	struct worker workers[2] = { { .who = &alice }, { .who = &bob } };
	pthread_t threads[2];

	workers[0].own = workers[1].foreign = make_file("alice", &alice, 0600);
	workers[1].own = workers[0].foreign = make_file("bob", &bob, 0600);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_int_eq(workers[i].wrong, 0);
	}
}
END_TEST

START_TEST(root_in_another_group)
{
	static const struct credentials root_of_staff = { .uid = 0, .gid = STAFF };
	struct handle file = make_file("file", &root_of_staff, 0644);

	ck_assert_uint_eq(attributes(&file).st_gid, STAFF);
	ck_assert_uint_eq(attributes(&file).st_uid, 0);
}
END_TEST

/* --- the list --- */

#define COUNT(cases) (sizeof(cases) / sizeof((cases)[0]))

static TCase *volume_case(Suite *suite, const char *name)
{
	TCase *tc = tcase_create(name);

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	suite_add_tcase(suite, tc);
	return tc;
}

static void add_opening(TCase *tc)
{
	tcase_add_loop_test(tc, probe_says_why_not, 0, COUNT(probe_cases));
	tcase_add_test(tc, probe_knows_the_root_before_the_volume_has_an_id);
	tcase_add_test(tc, probe_misses_capabilities);
	tcase_add_test(tc, handles_survive_a_restart);
	tcase_add_test(tc, handles_go_stale);
	tcase_add_test(tc, lookup_finds);
	tcase_add_test(tc, lookup_needs_search_permission);
	tcase_add_test(tc, parent_outside_the_volume_is_hidden);
	tcase_add_test(tc, mount_points_are_not_crossed);
}

static void add_file(TCase *tc)
{
	tcase_add_loop_test(tc, access_tells, 0, COUNT(access_cases));
	tcase_add_loop_test(tc, setattr_sets, 0, COUNT(setattr_cases));
	tcase_add_test(tc, setattr_sets_times);
	tcase_add_test(tc, setattr_guards);
	tcase_add_test(tc, symlinks_are_never_followed);
	tcase_add_loop_test(tc, data_is_for_whom_it_is, 0, COUNT(data_cases));
	tcase_add_test(tc, writing_takes_the_setuid_bit);
	tcase_add_loop_test(tc, read_knows_the_end, 0, COUNT(read_cases));
	tcase_add_test(tc, pages_are_what_read_reads);
	tcase_add_test(tc, what_is_removed_gives_back_its_space);
	tcase_add_test(tc, without_patience_nothing_removed_is_closed);
	tcase_add_test(tc, what_others_remove_is_noticed);
	tcase_add_test(tc, rights_are_asked_for_each_time);
	tcase_add_test(tc, without_patience_only_memory_answers);
	tcase_add_test(tc, without_patience_no_acl_is_read);
	tcase_add_test(tc, without_patience_no_access_is_noted);
	tcase_add_test(tc, an_eighth_of_the_descriptors_stays_open);
	tcase_add_test(tc, data_needs_a_regular_file);
	tcase_add_loop_test(tc, who_may_use_a_file_may_lock_it, 0, sizeof(lock_cases) / sizeof(lock_cases[0]));
	tcase_add_test(tc, only_files_are_locked);
	tcase_add_test(tc, files_are_sparse_and_large);
	tcase_add_loop_test(tc, write_is_as_stable_as_asked, 0, COUNT(stability_cases));
	tcase_add_test(tc, commit_is_for_anyone);
	tcase_add_test(tc, lost_data_changes_the_verifier);
	tcase_add_test(tc, what_was_written_is_not_closed_unheard);
	tcase_add_test(tc, what_was_written_is_synchronized_when_it_rests);
	tcase_add_test(tc, what_does_not_stay_open_is_stable);
	tcase_add_loop_test(tc, a_loss_is_known_before_anyone_succeeds, 0, 2);
	tcase_add_test(tc, full_disk_says_so);
	tcase_add_test(tc, a_group_is_synchronized_at_its_end);
	tcase_add_test(tc, acls_are_obeyed);
	tcase_add_test(tc, default_acls_are_inherited);
	tcase_add_test(tc, acls_that_the_kernel_refuses);
	tcase_add_test(tc, places_follow_what_is_moved);
	tcase_add_test(tc, places_of_hard_links);
	tcase_add_loop_test(tc, a_name_that_was_removed_is_no_place, 0, 2);
	tcase_add_test(tc, a_file_may_be_called_deleted);
	tcase_add_test(tc, quotas_are_those_of_the_file_system);
	tcase_add_test(tc, quotas_are_told_whoever_was_served_before);
}

static void add_directory(TCase *tc)
{
	tcase_add_loop_test(tc, create_on_an_existing_file, 0, COUNT(again_cases));
	tcase_add_test(tc, create_unchecked_obeys_permissions);
	tcase_add_test(tc, create_sets_attributes);
	tcase_add_test(tc, create_needs_permission);
	tcase_add_test(tc, exclusive_create_may_be_repeated);
	tcase_add_test(tc, directories_are_made_and_removed);
	tcase_add_loop_test(tc, nodes_are_made, 0, COUNT(node_cases));
	tcase_add_test(tc, links_are_made);
	tcase_add_test(tc, names_are_changed);
	tcase_add_test(tc, changes_are_synchronized);
	tcase_add_loop_test(tc, names_are_bytes, 0, COUNT(names));
	tcase_add_test(tc, names_have_a_length);
	tcase_add_test(tc, listing_continues);
	tcase_add_test(tc, listing_carries_handles);
	tcase_add_test(tc, a_snapshot_has_files_of_its_own);
	tcase_add_test(tc, listing_needs_permission);
}

static void add_limits(TCase *tc)
{
	tcase_add_test(tc, limits_are_those_of_the_file_system);
	tcase_add_test(tc, a_directory_may_ignore_case);
	tcase_add_test(tc, the_longest_file_is_as_long_as_said);
	tcase_add_test(tc, times_are_as_fine_as_said);
	tcase_add_test(tc, a_file_has_as_many_links_as_said);
}

static void add_identity(TCase *tc)
{
	tcase_add_test(tc, impossible_identities_are_refused);
	tcase_add_test(tc, nothing_of_a_client_stays_behind);
	tcase_add_test(tc, umask_is_the_threads_own);
	tcase_add_test(tc, attributes_before_and_after_are_of_one_operation);
	tcase_add_test(tc, attributes_before_and_after_a_write);
	tcase_add_test(tc, renames_cross);
	tcase_add_test(tc, threads_have_identities_of_their_own);
	tcase_add_test(tc, root_in_another_group);
}

/* What is missing for this test, or NULL. */
static const char *missing(void)
{
	struct local_root found;
	const char *why = NULL;

	if (geteuid() != 0)
		return "root";
	if (!directory_new())
		return "a directory to write to";
	if (!local_probe(directory, &found, &why))
		why = NULL;
	directory_remove();
	return why;
}

int main(void)
{
	Suite *suite = suite_create("local");
	const char *lack = missing();
	SRunner *runner;
	int failed;

	if (lack) {
		fprintf(stderr, "test_local: skipped, missing: %s\n", lack);
		return SKIP;
	}
	add_opening(volume_case(suite, "opening"));
	add_file(volume_case(suite, "file"));
	add_directory(volume_case(suite, "directory"));
	add_limits(volume_case(suite, "limits"));
	add_identity(volume_case(suite, "identity"));
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
