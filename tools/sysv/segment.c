/* SPDX-License-Identifier: MIT */
/*
 * segment.c: the files of segments: creating, finding, locking and removing them, and the slots of their attaches
 * (segment.h has the whole idea).  Holds no state of its own; what changes is in the books, each guarded by its
 * own OFD lock, SEG_BYTE_BOOK.  Called by sysv.c and attach.c.
 */
#include "tools/sysv/segment.h"

#include "fuse-fs/ctl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <time.h>
#include <unistd.h>

#define SEG_MAGIC     "spillsh1"
#define SEG_PAGE      4096
#define SEG_SLOTS_AT  SEG_PAGE /* of the book: where the pids begin */
#define SEG_BYTE_BOOK 0
#define SEG_BYTE_SLOT 4096 /* and onwards */
#define SEG_CHUNK     256  /* pids read at a time */

/* --- locks ------------------------------------------------------------------------------------------------ */

static int seg_lock(int fd, int cmd, short type, off_t byte)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	while (fcntl(fd, cmd, &lock) != 0) {
		if (errno != EINTR)
			return -errno;
	}
	return cmd == F_OFD_GETLK && lock.l_type != F_UNLCK ? -EAGAIN : 0;
}

/* Is somebody attached by this slot?  The descriptor is not the one that holds it. */
static bool seg_slot_locked(int fd, unsigned slot)
{
	return seg_lock(fd, F_OFD_GETLK, F_WRLCK, SEG_BYTE_SLOT + (off_t)slot) == -EAGAIN;
}

/* --- names ------------------------------------------------------------------------------------------------ */

static void seg_book_name(char name[static 32], int id)
{
	snprintf(name, 32, ".SYSV.%d", id);
}

static void seg_data_name(char name[static 32], key_t key, int id)
{
	if (key == IPC_PRIVATE)
		snprintf(name, 32, "SYSV%08x.%d", 0U, id);
	else
		snprintf(name, 32, "SYSV%08x", (unsigned)key);
}

static int seg_id_of(const struct stat *st)
{
	return (int)(st->st_ino & INT_MAX);
}

int seg_find(int dir, key_t key, int *id, struct stat *st)
{
	char name[32];

	seg_data_name(name, key, 0);
	if (fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	if (!S_ISREG(st->st_mode))
		return -EINVAL;
	*id = seg_id_of(st);
	return 0;
}

/* Opens the data file if it is under the name that goes with this key. */
static int seg_find_data(struct seg *seg, key_t key)
{
	seg_data_name(seg->data_name, key, seg->id);
	seg->data = openat(seg->dir, seg->data_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (seg->data < 0)
		return -errno;
	/* A second name would make us change or hand out somebody else's file. */
	if (fstat(seg->data, &seg->st) == 0 && S_ISREG(seg->st.st_mode) && seg->st.st_ino == seg->head.data_ino &&
	    seg->st.st_nlink == 1)
		return 0;
	close(seg->data);
	seg->data = -1;
	return -ENOENT;
}

/* --- creation --------------------------------------------------------------------------------------------- */

/* Whoever may read or write the data may also write to its book: to attach is to say so there. */
static mode_t seg_book_mode(mode_t mode)
{
	return 0600 | ((mode & 060) != 0 ? 060 : 0) | ((mode & 06) != 0 ? 06 : 0);
}

/* A file without a name; what dies before it gets one leaves nothing behind. */
static int seg_tmpfile(int dir, mode_t mode)
{
	int fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), err;

	if (fd < 0)
		return -errno;
	if (fchmod(fd, mode) == 0) /* whatever the umask is */
		return fd;
	err = errno;
	close(fd);
	return -err;
}

static int seg_name(int fd, int dir, const char *name)
{
	char proc[32];

	if (linkat(fd, "", dir, name, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno == EEXIST)
		return -EEXIST;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, proc, dir, name, AT_SYMLINK_FOLLOW) == 0 ? 0 : -errno;
}

/* Room for the data is set aside at once, since the kernel cannot refuse a store to a mapping later. */
static int seg_fill_data(int fd, size_t size, bool reserve)
{
	off_t rounded = (off_t)((size + SEG_PAGE - 1) & ~(size_t)(SEG_PAGE - 1));

	if (size > (size_t)INT64_MAX - SEG_PAGE)
		return -EINVAL;
	if (ftruncate(fd, rounded) != 0)
		return errno == EFBIG ? -EINVAL : -errno;
	if (reserve && fallocate(fd, 0, 0, rounded) != 0 && errno != EOPNOTSUPP)
		return -errno;
	return 0;
}

static int seg_write_head(int fd, const struct seg_head *head)
{
	ssize_t n = pwrite(fd, head, sizeof(*head), 0);

	return n < 0 ? -errno : n == (ssize_t)sizeof(*head) ? 0 : -ENOSPC;
}

/* Gives both files their names: the book first, so that what has data always has a book. */
static int seg_publish(int dir, int book, int data, const struct seg_head *head)
{
	char book_name[32], data_name[32];
	int rc;

	seg_book_name(book_name, head->id);
	seg_data_name(data_name, head->key, head->id);
	/* Held until the data has its name, or a sweep would take the book for a dead one. */
	rc = seg_lock(book, F_OFD_SETLKW, F_WRLCK, SEG_BYTE_BOOK);
	if (rc == 0)
		rc = seg_name(book, dir, book_name);
	if (rc != 0)
		return rc == -EEXIST ? -EAGAIN : rc; /* only after 2^31 files on this mount: another inode, then */
	rc = seg_name(data, dir, data_name);
	if (rc != 0)
		unlinkat(dir, book_name, 0);
	/* By hand: if another thread forks now, its child has this descriptor as well. */
	seg_lock(book, F_OFD_SETLK, F_UNLCK, SEG_BYTE_BOOK);
	return rc;
}

static int seg_create_with(int dir, int book, int data, key_t key, size_t size, int flags, int *id)
{
	struct seg_head head = {
		.magic = SEG_MAGIC,
		.key = key,
		.size = size,
		.cuid = geteuid(),
		.cgid = getegid(),
		.cpid = getpid(),
		.ctime = time(NULL),
	};
	struct stat st;
	int rc = seg_fill_data(data, size, !(flags & SHM_NORESERVE));

	if (rc != 0)
		return rc;
	if (fstat(data, &st) != 0)
		return -errno;
	head.data_ino = st.st_ino;
	*id = head.id = seg_id_of(&st);
	rc = seg_write_head(book, &head);
	return rc != 0 ? rc : seg_publish(dir, book, data, &head);
}

int seg_create(int dir, key_t key, size_t size, int flags, int *id)
{
	mode_t mode = (mode_t)flags & 0777;
	int rc, book, data;

	do {
		data = seg_tmpfile(dir, mode);
		if (data < 0)
			return data;
		book = seg_tmpfile(dir, seg_book_mode(mode));
		rc = book < 0 ? book : seg_create_with(dir, book, data, key, size, flags, id);
		if (book >= 0)
			close(book);
		close(data);
	} while (rc == -EAGAIN);
	return rc;
}

/* --- books ------------------------------------------------------------------------------------------------ */

static int seg_pids(struct seg *seg, unsigned first, int32_t pids[static SEG_CHUNK], unsigned *count)
{
	unsigned n = seg->head.nslots - first < SEG_CHUNK ? seg->head.nslots - first : SEG_CHUNK;
	ssize_t got = pread(seg->fd, pids, n * sizeof(*pids), SEG_SLOTS_AT + (off_t)(first * sizeof(*pids)));

	if (got < 0)
		return -errno;
	memset((char *)pids + got, 0, n * sizeof(*pids) - (size_t)got);
	*count = n;
	return 0;
}

static int seg_write_pid(int fd, unsigned slot, int32_t pid)
{
	ssize_t n = pwrite(fd, &pid, sizeof(pid), SEG_SLOTS_AT + (off_t)(slot * sizeof(pid)));

	return n < 0 ? -errno : n == (ssize_t)sizeof(pid) ? 0 : -ENOSPC;
}

int seg_save(struct seg *seg)
{
	return seg_write_head(seg->fd, &seg->head);
}

void seg_clear_slot(struct seg *seg, unsigned slot, int32_t pid)
{
	seg_write_pid(seg->fd, slot, 0);
	seg->head.lpid = pid;
	seg->head.dtime = time(NULL);
}

/* Counts the attaches, and drops those whose process is gone. */
static int seg_count(struct seg *seg)
{
	int32_t pids[SEG_CHUNK];
	bool dropped = false;
	unsigned n;

	seg->attached = 0;
	for (unsigned first = 0; first < seg->head.nslots; first += n) {
		int rc = seg_pids(seg, first, pids, &n);

		if (rc != 0)
			return rc;
		for (unsigned i = 0; i < n; i++) {
			if (pids[i] == 0)
				continue;
			if (seg_slot_locked(seg->fd, first + i)) {
				seg->attached++;
			} else {
				seg_clear_slot(seg, first + i, pids[i]);
				dropped = true;
			}
		}
	}
	return dropped ? seg_save(seg) : 0;
}

/* Nothing in a book is believed that could lead elsewhere: everyone who may read the segment can write to it. */
static int seg_read_book(struct seg *seg)
{
	struct stat st;
	ssize_t n = pread(seg->fd, &seg->head, sizeof(seg->head), 0);

	if (n < 0 || fstat(seg->fd, &st) != 0)
		return -errno;
	if (st.st_nlink == 0 || !S_ISREG(st.st_mode) || n != (ssize_t)sizeof(seg->head) ||
	    memcmp(seg->head.magic, SEG_MAGIC, sizeof(seg->head.magic)) != 0 || seg->head.id != seg->id ||
	    seg->head.nslots > SEG_MOST_SLOTS)
		return -EINVAL;
	if (seg_find_data(seg, seg->head.key) != 0 && seg_find_data(seg, IPC_PRIVATE) != 0) {
		char name[32];

		seg_book_name(name, seg->id);
		unlinkat(seg->dir, name, 0);
		return -EINVAL;
	}
	if (seg->head.size + SEG_PAGE <= (uint64_t)seg->st.st_size || seg->head.size > (uint64_t)seg->st.st_size)
		seg->head.size = (uint64_t)seg->st.st_size;
	return seg_count(seg);
}

int seg_open(struct seg *seg, int dir, int id)
{
	char name[32];
	int rc;

	*seg = (struct seg){ .dir = dir, .data = -1, .id = id };
	seg_book_name(name, id);
	seg->fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (seg->fd < 0)
		return errno == ENOENT || errno == ELOOP ? -EINVAL : -errno;
	rc = seg_lock(seg->fd, F_OFD_SETLKW, F_WRLCK, SEG_BYTE_BOOK);
	if (rc == 0)
		rc = seg_read_book(seg);
	if (rc == 0 && (seg->head.flags & SHM_DEST) && seg->attached == 0) {
		seg_destroy(seg);
		rc = -EINVAL;
	}
	if (rc != 0)
		seg_close(seg);
	return rc;
}

void seg_close(struct seg *seg)
{
	/* By hand: if another thread forks now, its child has this descriptor as well. */
	seg_lock(seg->fd, F_OFD_SETLK, F_UNLCK, SEG_BYTE_BOOK);
	close(seg->fd);
	if (seg->data >= 0)
		close(seg->data);
}

/* --- slots ------------------------------------------------------------------------------------------------ */

/* Locks the slot by a page of the book.  A descriptor of its own: seg's own would not see the lock any more. */
static int seg_make_token(struct seg *seg, unsigned slot, void **token)
{
	char name[32];
	int fd, rc;

	seg_book_name(name, seg->id);
	fd = openat(seg->dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = seg_lock(fd, F_OFD_SETLK, F_WRLCK, SEG_BYTE_SLOT + (off_t)slot);
	if (rc == 0) {
		*token = mmap(NULL, SEG_PAGE, PROT_NONE, MAP_PRIVATE, fd, 0);
		rc = *token == MAP_FAILED ? -errno : 0;
	}
	close(fd);
	return rc;
}

int seg_take_slot(struct seg *seg, int32_t pid, unsigned *slot, void **token)
{
	int32_t pids[SEG_CHUNK];
	unsigned n;
	int rc;

	for (unsigned first = 0; first < SEG_MOST_SLOTS; first += SEG_CHUNK) {
		n = 0;
		rc = first < seg->head.nslots ? seg_pids(seg, first, pids, &n) : 0;
		for (unsigned i = 0; rc == 0 && i < SEG_CHUNK; i++) {
			*slot = first + i;
			if (i < n && pids[i] != 0)
				continue;
			rc = seg_make_token(seg, *slot, token);
			if (rc == -EAGAIN) { /* still held by a child that was cloned behind our back */
				rc = 0;
				continue;
			}
			if (rc == 0)
				rc = seg_write_pid(seg->fd, *slot, pid);
			if (rc == 0 && *slot >= seg->head.nslots)
				seg->head.nslots = *slot + 1;
			seg->attached += rc == 0;
			return rc;
		}
		if (rc != 0)
			return rc;
	}
	return -ENOMEM;
}

int seg_hand_slot(int dir, int id, unsigned slot, int32_t pid)
{
	char name[32];
	int fd, rc;

	seg_book_name(name, id);
	fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = seg_write_pid(fd, slot, pid);
	close(fd);
	return rc;
}

/* --- what becomes of a segment ----------------------------------------------------------------------------- */

int seg_destroy(struct seg *seg)
{
	char name[32];

	if (unlinkat(seg->dir, seg->data_name, 0) != 0 && errno != ENOENT) {
		int rc = -errno, fd = seg_open_data(seg, O_RDWR);

		/* In a sticky directory the name is its owner's to remove; the memory can go at least. */
		if (fd >= 0) {
			if (ftruncate(fd, 0) != 0)
				rc = -errno;
			close(fd);
		}
		return rc;
	}
	seg_book_name(name, seg->id);
	return unlinkat(seg->dir, name, 0) == 0 ? 0 : -errno;
}

int seg_doom(struct seg *seg)
{
	char name[32];

	seg_data_name(name, IPC_PRIVATE, seg->id);
	if (renameat(seg->dir, seg->data_name, seg->dir, name) != 0)
		return errno == EACCES ? -EPERM : -errno;
	memcpy(seg->data_name, name, sizeof(name));
	seg->head.key = IPC_PRIVATE;
	seg->head.flags |= SHM_DEST;
	return seg_save(seg);
}

int seg_open_data(struct seg *seg, int flags)
{
	int fd = openat(seg->dir, seg->data_name, flags | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && st.st_ino == seg->st.st_ino)
		return fd;
	close(fd);
	return -EIDRM;
}

int seg_pin(struct seg *seg, bool pin)
{
	struct spillfs_file_walk walk = { .next_page = SPILLFS_WALK_BEGIN };
	int fd = seg_open_data(seg, O_RDONLY), rc = 0;

	if (fd < 0)
		return fd;
	if (pin && fsync(fd) != 0) /* only what the daemon has can be pinned there */
		rc = -errno;
	while (rc == 0 && !walk.done) {
		walk.version = SPILLFS_CTL_VERSION;
		if (ioctl(fd, pin ? SPILLFS_IOC_FILE_PIN : SPILLFS_IOC_FILE_UNPIN, &walk) != 0 && errno != EINTR)
			rc = -errno;
	}
	close(fd);
	return rc;
}

int seg_pages(struct seg *seg, unsigned long *resident, unsigned long *swapped)
{
	struct spillfs_file_stat st = { .version = SPILLFS_CTL_VERSION };
	int fd = seg_open_data(seg, O_RDONLY), rc = 0;

	if (fd < 0)
		return fd;
	if (ioctl(fd, SPILLFS_IOC_FILE_STAT, &st) != 0)
		rc = -errno;
	*resident = st.resident_pages;
	*swapped = st.swapped_pages;
	close(fd);
	return rc;
}

/* By descriptor, never by name: root may be asked to change what a user put there. */
static int seg_set_file(int fd, uid_t uid, gid_t gid, mode_t mode)
{
	char proc[32];
	struct stat st;

	if (fstat(fd, &st) != 0)
		return -errno;
	if ((st.st_uid != uid || st.st_gid != gid) && fchownat(fd, "", uid, gid, AT_EMPTY_PATH) != 0)
		return -errno;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd); /* fchmod() refuses O_PATH */
	return chmod(proc, mode) == 0 ? 0 : -errno;
}

int seg_set_owner(struct seg *seg, uid_t uid, gid_t gid, mode_t mode)
{
	int rc = seg_set_file(seg->fd, uid, gid, seg_book_mode(mode));

	if (rc == 0)
		rc = seg_set_file(seg->data, uid, gid, mode & 0777);
	if (rc == 0 && fstat(seg->data, &seg->st) != 0)
		rc = -errno;
	return rc;
}

/* --- the directory ---------------------------------------------------------------------------------------- */

static int seg_compare(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

int seg_list(int dir, int **ids)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), count = 0, room = 0;
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	*ids = NULL;
	if (stream == NULL)
		return -errno;
	while ((de = readdir(stream)) != NULL) {
		char name[32];
		int id;

		if (sscanf(de->d_name, ".SYSV.%d", &id) != 1)
			continue;
		seg_book_name(name, id);
		if (strcmp(name, de->d_name) != 0)
			continue;
		if (count == room) {
			int *more = realloc(*ids, (size_t)(room = room * 2 + 16) * sizeof(**ids));

			if (more == NULL) {
				count = -ENOMEM;
				break;
			}
			*ids = more;
		}
		(*ids)[count++] = id;
	}
	closedir(stream);
	if (count > 0)
		qsort(*ids, (size_t)count, sizeof(**ids), seg_compare);
	return count;
}

int seg_sweep(int dir)
{
	int *ids, count = seg_list(dir, &ids), left = 0;

	for (int i = 0; i < count; i++) {
		struct seg seg;
		int rc = seg_open(&seg, dir, ids[i]);

		if (rc == 0)
			seg_close(&seg);
		left += rc != -EINVAL;
	}
	free(ids);
	return count < 0 ? count : left;
}

/* --- permissions ------------------------------------------------------------------------------------------ */

static bool seg_in_group(gid_t gid)
{
	gid_t groups[1024];
	int n;

	if (gid == getegid())
		return true;
	n = getgroups(1024, groups);
	for (int i = 0; i < n; i++) {
		if (groups[i] == gid)
			return true;
	}
	return false;
}

bool seg_permits(const struct stat *st, const struct seg_head *head, int bits)
{
	unsigned asked = (unsigned)(bits >> 6 | bits >> 3 | bits), granted = st->st_mode;

	if (geteuid() == 0)
		return true;
	if (geteuid() == st->st_uid || (head != NULL && geteuid() == head->cuid))
		granted >>= 6;
	else if (seg_in_group(st->st_gid) || (head != NULL && seg_in_group(head->cgid)))
		granted >>= 3;
	return (asked & ~granted & 7) == 0;
}

bool seg_owned(const struct seg *seg)
{
	return geteuid() == 0 || geteuid() == seg->st.st_uid || geteuid() == seg->head.cuid;
}
