/* SPDX-License-Identifier: MIT */
/*
 * fs: the structures that all of fuse-fs shares, and the locks that guard them.
 *
 * Names, attributes and byte ranges live here; pages live in swapstore.  The kernel is the only client and
 * caches names and attributes without end, because nobody else can change them.
 *
 *   inode table (tree: ino -> inode)     dentry: (parent, name) -> inode     directory: tree cookie -> dentry
 *
 * Lock order, each edge with the function that takes it:
 *   fs->ns (rwlock: namespace)   -> inode->lock          fs_unlink and most of namei.c
 *   fs->quota.lock               -> an object's lock     quota_transfer; taken with nothing of fuse-fs held
 *   inode->lock (attributes)     -> nothing of fuse-fs; swapstore's own locks are leaves
 *   two inode locks are never held at once
 * No lock is held across a FUSE reply, a wait for memory (ss_alloc, ss_stash_fill) or swap I/O.  The one
 * exception: fs->ns may be read-held while readdir copies names into a reply buffer (memory only).
 */
#ifndef FUSE_FS_FS_H
#define FUSE_FS_FS_H

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 18)

#include "fuse-fs/ctl.h"
#include "fuse-fs/writers.h"
#include "swapstore/swapstore.h"

#include <assert.h>
#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>
#include <uthash.h>

#define FS_NAME_MAX 255
/* Names and attributes are ours alone: the kernel may keep them for ever (seconds). */
#define FS_TIMEOUT_FOREVER 1.0e9
/* As tmpfs: what a directory says of its size. */
#define FS_DIRENT_BYTES 20

/*
 * A flag of setxattr, beside XATTR_CREATE and XATTR_REPLACE: the caller may not keep the file's sgid.  The kernel sends
 * it in a word that libfuse does not hand on, so session.c puts it here.
 */
#define FS_SETXATTR_KILL_SGID (1 << 30)

struct fs;
struct options;
struct session; /* session.c: the FUSE connection and its threads */

/* One extended attribute, in a list that begins at inode->xattrs. */
struct xattr {
	struct xattr *next;
	_Atomic uint32_t refs; /* the list's, and one for each reply that is being made from data[] */
	uint32_t name_len;
	uint32_t value_len;
	char data[]; /* name, then value; neither terminated */
};

struct dentry {
	UT_hash_handle hh;	/* fs->dentries, keyed by the bytes from parent_ino on */
	struct inode *inode;
	uint64_t cookie;	/* its place in the directory, never used again */
	uint16_t name_len;
	/* the key: these two, 8 + name_len bytes */
	uint64_t parent_ino __attribute__((packed, aligned(2)));
	char name[];
};

struct inode {
	/* set at creation */
	uint64_t ino;
	struct timespec btime;
	dev_t rdev;
	/* atomic */
	_Atomic uint64_t nlookup;   /* references that the kernel holds: lookup replies less forgets */
	_Atomic uint32_t writers;   /* open handles that may write; needs fs->writers.lock to change */
	uint32_t writing;	    /* under that lock, while there are any: the place in fs->writers */
	_Atomic mode_t mode;	    /* needs lock to change; the type bits never do */
	/* under lock */
	pthread_mutex_t lock;
	uid_t uid;
	gid_t gid;
	uint32_t nlink;		    /* also needs fs->ns held for writing to change */
	uint64_t size;		    /* bytes; directories: FS_DIRENT_BYTES an entry, as tmpfs */
	struct timespec atime, mtime, ctime;
	struct xattr *xattrs;
	_Atomic(struct quota_owner *) owner; /* quota.c: who pays; NULL without quotas; written under its lock */
	_Atomic uint8_t flags;	    /* flags.c: chattr's; changed under lock, read without */
	bool has_capability;	    /* security.capability is among them: a write must drop it */
	uint32_t generation;	    /* set with ino: how often numbers began anew before it */
	union {
		_Atomic(struct ss_object *) object; /* S_IFREG; NULL until file_object() is first asked */
		char *target;		  /* S_IFLNK; size bytes and a NUL; set at creation */
		struct {		  /* S_IFDIR; under fs->ns */
			struct tree entries; /* cookie -> struct dentry * */
			uint64_t next_cookie;
			uint64_t parent_ino;
			uint32_t nentries;
		} dir;
	};
};

/* A write() that was allowed near full: it may take so many pages that the kernel has not sent yet. */
struct space_promise {
	uint64_t ino;
	uint64_t at_ms;
	uint64_t arrived; /* of the file, then */
	uint64_t pages;
	const struct quota_owner *payer; /* of whose limits it counts against, too; NULL: nobody's */
	pid_t pid;  /* the thread that asked */
	bool done;  /* it has returned from that write() */
	bool flushed; /* and the flush under way began after that */
};

/* What is known of a file that is written to near full. */
struct space_file {
	uint64_t ino;
	uint64_t used_ms;
	uint64_t arrived;	   /* pages that came in acknowledged writes, since it is watched */
	uint64_t arrived_at_flush; /* and until the last flush */
	uint64_t write_pages;	   /* the most that one write() was seen to take */
	uint32_t asked;		   /* write()s allowed since the last flush */
	bool counting;		   /* it began with a flush, or with nothing to flush, so that the count means something */
};

/* Room that is about to be taken; on the stack of whoever takes it.  Private to claim.c; under lock once it is made. */
struct space_claim {
	struct space_claim *next;
	const struct quota_owner *payer;
	uint64_t pages;
	bool made;     /* among fs->space.claims */
	bool squeezes; /* counts in fs->space.squeezed */
};

#define SPACE_PROMISES 128
#define SPACE_FILES    64

/* Private to space.c and claim.c; all under lock. */
struct space {
	pthread_mutex_t lock;
	unsigned count, nfiles;
	unsigned waiting; /* workers that wait for a claim to be settled */
	struct space_claim *claims;
	_Atomic unsigned linked;   /* how many; read without lock */
	_Atomic unsigned squeezed; /* claims for which all have to ask; not under lock */
	struct space_file file[SPACE_FILES];
	struct space_promise promise[SPACE_PROMISES];
};

enum quota_kind { QUOTA_USER, QUOTA_GROUP, QUOTA_KINDS };

/* What quota.c keeps of users, or of groups. */
struct quota_table {
	/* set before the session starts */
	bool on;
	uint64_t pages_limit, inodes_limit; /* of whoever has no own one; 0: none */
	/* under fs->quota.lock */
	struct tree ids; /* uid or gid -> struct quota_id * */
};

struct fs {
	/* set before the session starts */
	struct swapstore *store;
	struct session *session;
	enum spillfs_cache cache;
	uid_t mounter;
	bool acl; /* wanted; and after INIT, whether the kernel enforces ACLs, without which none may be set */
	struct options *options; /* as mounted; read only, but for placement.c */
	struct options_groups *groups; /* our memory cgroups */
	_Atomic enum spillfs_atime atime; /* the kernel leaves access times to us, so the rules are ours to obey */
	_Atomic bool nodiratime;
	_Atomic bool inode32;	  /* inode numbers stay below 2^32 */
	_Atomic uint64_t flush_pages;	  /* window.c: dirty pages that the kernel allows a mount by itself, at most */
	uint64_t window_kernel;		  /* window.c: the same exactly, before we changed it; 0: not ours to change */
	_Atomic uint64_t window_pages;	  /* window.c: dirty pages to allow the kernel while far from full; 0: never more */
	_Atomic uint64_t window_least;	  /* window.c: the fewest that it is ever held to; 0: its default */
	_Atomic uint64_t ram_bytes;	  /* the store's cap */
	void (*getattr)(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi); /* space.c: behind its own */

	/* namespace: under ns */
	pthread_rwlock_t ns;
	struct tree inodes;	 /* ino -> struct inode * */
	struct dentry *dentries; /* uthash: (parent_ino, name) */
	void *dentry_reserve;	 /* dentry.c: memory that the hash table is about to grow into */
	uint64_t next_ino;
	uint32_t generation;	 /* of next_ino: 1, and one more each time that 32 bits of numbers are used up */
	struct inode *root;

	uint64_t hash_seed;	      /* set by fs_init: nobody outside can aim at one bucket */
	_Atomic size_t dentry_wanted; /* dentry.c: bytes that the hash table would like to have, 0 = as it is */
	_Atomic bool inodes_out;      /* inode.c: that inodes ran out has been logged */
	_Atomic uint64_t inodes_used;
	_Atomic uint64_t inodes_limit; /* 0: none */
	_Atomic bool changing;	 /* change.c: a worker is at it */
	_Atomic int64_t swapoff_ms;   /* swapctl.c: when a swapoff was last begun */
	_Atomic int64_t removed_ms;   /* inode.c: when a file was last removed that the kernel still knows */
	_Atomic bool near_full;	 /* space.c */
	_Atomic uint64_t window_now; /* window.c: dirty pages that the kernel is allowed at this moment; 0: its default */
	_Atomic bool ending;	 /* set by session.c: who writes must ask, so that it hears of the end */
	struct space space;	 /* space.c */
	struct writers writers;
	struct {
		struct quota_table kind[QUOTA_KINDS];
		_Atomic bool limits_pages; /* somebody's pages are limited, or were */
		pthread_mutex_t lock;
		struct tree owners; /* uid << 32 | gid -> struct quota_owner * */
	} quota; /* quota.c */
	_Atomic uint64_t requests[SPILLFS_CTL_OPCODES]; /* by opcode, counted by session.c as they arrive */
};

/* --- inode.c: inodes, their table, attributes -------------------------------------------------------------- */

/*
 * Creates the locks, the tables and fs->root with this mode and owner; *fs is all zeroes but for what is "set
 * before the session starts".  And frees every inode and dentry at the end (threads have ended).
 */
int fs_init(struct fs *fs, mode_t root_mode, uid_t uid, gid_t gid);
void fs_destroy(struct fs *fs);

/* Checks names, tables, link counts and sizes against each other (asserts), at rest; for tests.  No lock held. */
void fs_check(struct fs *fs);

/*
 * The inode of a number the kernel gave us, or NULL.  It stays while the kernel holds a reference, so until the
 * request is replied to, and not a moment longer: the forget may overtake the return of the reply.  Takes fs->ns
 * for reading: do not call with it held in any way.
 */
struct inode *inode_get(struct fs *fs, fuse_ino_t ino);

/* The same with fs->ns held. */
struct inode *inode_find_locked(struct fs *fs, uint64_t ino);

/*
 * A new inode with nlink 0, not in the table yet: mode, owner, device, times = now, an object for a regular
 * file.  Counts against inodes_limit.  May wait for memory: call with no lock.  -ENOSPC.
 */
int inode_new(struct fs *fs, mode_t mode, uid_t uid, gid_t gid, dev_t rdev, struct inode **out);

/* Frees an inode that is not (or no longer) in the table, and all it owns.  May wait for I/O: no lock held. */
void inode_free(struct fs *fs, struct inode *inode);

/* Gives the inode its number and puts it into the table.  fs->ns held for writing; stash as tree_replace(). */
int inode_insert_locked(struct fs *fs, struct inode *inode, struct tree_stash *stash);

/*
 * If neither a name nor a reference of the kernel is left: takes the inode out of the table and returns true;
 * the caller passes it to inode_free() after unlocking.  fs->ns held for writing.
 */
bool inode_detach_if_dead_locked(struct fs *fs, struct inode *inode, struct tree_stash *stash);

/* Fills *st from the inode.  Takes inode->lock. */
void inode_stat(struct inode *inode, struct stat *st);

/*
 * One more reference of the kernel: before the reply that tells it of the inode, with fs->ns held (so that the
 * inode cannot go first).  If that reply fails: inode_forget(fs, ino, 1).
 */
void inode_hold_locked(struct fs *fs, struct inode *inode);

/* Fills an entry reply for an inode that is held (or fs->ns is).  Takes inode->lock. */
void inode_entry(struct fs *fs, struct inode *inode, struct fuse_entry_param *e);

/*
 * Drops n references of the kernel; frees the inode if that was the last and no name is left.  May wait for
 * I/O: no lock held.
 */
void inode_forget(struct fs *fs, uint64_t ino, uint64_t n);

/*
 * A file was removed just now, and what it held may come free yet, when the kernel says that it has forgotten it: waits a
 * moment.  False: not so, or too long ago.  No lock held.
 */
bool inode_wait_for_removed(struct fs *fs);

/*
 * Sets the given times to now, by CLOCK_REALTIME_COARSE: the clock that the kernel stamps with under the
 * writeback cache, so that stamps of both makers order as the events did.  lock held; and the same taking it.
 */
enum inode_times { TOUCH_ATIME = 1, TOUCH_MTIME = 2, TOUCH_CTIME = 4 };
void inode_touch_locked(struct inode *inode, unsigned which);
void inode_touch(struct inode *inode, unsigned which);

/* Something read the inode: moves atime by the rule in force.  Takes the lock. */
void inode_touch_read(struct fs *fs, struct inode *inode);

/* What a write, a truncate or a change of owner does to suid, sgid and file capabilities.  lock held. */
enum inode_kill {
	INODE_KEEP_BITS,
	INODE_KILL_BITS,	  /* sgid stays where the group may not execute: it is no privilege there */
	INODE_KILL_OUTSIDER, /* also that, as the caller is not of the group */
};
void inode_kill_suidgid_locked(struct inode *inode, enum inode_kill kill);
void inode_kill_capability(struct fs *fs, struct inode *inode); /* takes the lock; cheap when there is none */

/* --- dentry.c: names; all under fs->ns -------------------------------------------------------------------- */

/* Creates and frees the table; the threads have not begun, or have ended.  0 or -ENOSPC. */
int dentry_init(struct fs *fs);
void dentry_destroy(struct fs *fs);

struct dentry *dentry_find_locked(struct fs *fs, uint64_t parent_ino, const char *name, size_t len);

/*
 * Memory for a name, no lock held (may wait); NULL = -ENOSPC.  Grows the hash table on the way when it is due.
 * And frees one that is not in use; no lock held, as the table may shrink then.
 */
struct dentry *dentry_new(struct fs *fs, const char *name, size_t len);
void dentry_free(struct fs *fs, struct dentry *de);

/*
 * Puts de into dir under the next cookie, pointing at inode; updates dir's size and count, not its times or
 * nlink.  stash: TREE_MAX_DEPTH nodes.  0 or -ENOSPC (nothing changed).
 */
int dentry_link_locked(struct fs *fs, struct inode *dir, struct dentry *de, struct inode *inode,
		       struct tree_stash *stash);
/* Takes de out of its directory; the caller frees it after unlocking. */
void dentry_unlink_locked(struct fs *fs, struct inode *dir, struct dentry *de, struct tree_stash *stash);

/* The first name of dir whose cookie is at least cookie, or NULL: in order of creation.  fs->ns held. */
struct dentry *dentry_next_locked(struct fs *fs, struct inode *dir, uint64_t cookie);

/* --- the operations, one file each for names, attributes, data, directories, xattrs, control -------------- */

void fs_ops_names(struct fuse_lowlevel_ops *ops);  /* namei.c: lookup forget* create mknod mkdir ...; rename.c */
void fs_ops_attrs(struct fuse_lowlevel_ops *ops);  /* attr.c: getattr setattr statx statfs readlink */
void fs_ops_dirs(struct fuse_lowlevel_ops *ops);   /* readdir.c: opendir readdir readdirplus releasedir fsyncdir */
void fs_ops_xattrs(struct fuse_lowlevel_ops *ops); /* xattr.c */
void fs_ops_files(struct fuse_lowlevel_ops *ops);  /* file.c: open release read write fsync fallocate lseek copy */
void fs_ops_ctl(struct fuse_lowlevel_ops *ops);	   /* ctl.c: ioctl */

/* ctl.c's ioctls on swap areas: replies, or hands the request on to the flusher.  False: not one of them.  swapctl.c */
bool swapctl_ioctl(fuse_req_t req, unsigned cmd, const void *in, size_t in_len, size_t out_len);

/* ctl.c's ioctls on regular files: replies, or hands the request on to the notifier.  False: not one of them.  filectl.c */
bool change_ioctl(fuse_req_t req, unsigned cmd, const void *in, size_t in_len, size_t out_len);
bool filectl_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, const void *in, size_t in_len, size_t out_len);

/*
 * What open, create and tmpfile answer about caching; and what they note about writers.  file_closed() takes
 * that back: at release, or when the reply failed (-ENOENT: the opener was interrupted), as no release follows
 * then.  file_opened(): 0 or -ENOMEM, and then nothing has happened.  file.c
 */
int file_opened(struct fs *fs, struct inode *inode, struct fuse_file_info *fi);
void file_closed(struct fs *fs, struct inode *inode, const struct fuse_file_info *fi);

/* Sets a file's length (setattr, O_TRUNC), times and suid bits included.  May wait for I/O.  file.c */
int file_truncate(struct fs *fs, struct inode *inode, uint64_t size, enum inode_kill kill);

/* What a write or a truncate by the caller, who may not keep these bits, does to them.  Takes the lock.  file.c */
enum inode_kill file_kill(fuse_req_t req, struct inode *inode, bool kill);

/*
 * The ENOSPC protocol of the writeback cache (DESIGN 4.4).  space.c
 * file_may_write: may a GETATTR with this handle succeed?  0, or -ENOSPC or -EDQUOT: the handle may write and no page
 * is left.
 * fs_attr_timeout: how long the kernel may keep this inode's attributes, in seconds; after file_opened().  May be
 * called with fs->ns held, so it takes neither that nor inode->lock.  fs_attr_timeout_late: the same for a reply that
 * the kernel takes whatever it was told meanwhile.
 * space_init: sets the windows, ram_bytes being the store's cap; space_mounted: as far as the kernel lets us, before
 * the session serves; space_resize: anew, after the cap or another limit changed; space_changed: after pages were
 * written, erased or set aside; cheap.
 * space_arrived: so much of this inode came in a write that was acknowledged before.
 * space_ask: from now on the kernel asks before each write() to a file that is near a limit.
 * space_opened: the first handle that may write; space_closed: no handle of this inode writes any more, and the kernel
 * holds nothing unsent of it.
 * space_claim: before something takes room that has not asked for it as write()s do: what is promised goes first.
 *   May wait; no lock held.  Only by workers.  space_claimed: that room is counted now, or was not taken.  claim.c
 * fs_ops_space: puts itself in front of getattr; after all other fs_ops_*.
 */
void space_arrived(struct fs *fs, struct inode *inode, size_t bytes);
void space_ask(struct fs *fs);
void space_opened(struct fs *fs, struct inode *inode);
void space_closed(struct fs *fs, struct inode *inode);
void space_claim(struct fs *fs, fuse_req_t req, struct inode *inode, uint64_t bytes, struct space_claim *claim);
void space_claimed(struct fs *fs, struct space_claim *claim);
void fs_ops_space(struct fs *fs, struct fuse_lowlevel_ops *ops);
int file_may_write(fuse_req_t req, struct inode *inode, const struct fuse_file_info *fi);
double fs_attr_timeout(struct fs *fs, struct inode *inode);
double fs_attr_timeout_late(struct fs *fs, struct inode *inode);
void space_init(struct fs *fs, uint64_t ram_bytes);
void space_mounted(struct fs *fs);
void space_resize(struct fs *fs, uint64_t ram_bytes);
void space_changed(struct fs *fs);
/* Fewer pages left than this is "near full". */
static inline uint64_t space_near_pages(struct fs *fs)
{
	return 2 * atomic_load_explicit(&fs->flush_pages, memory_order_relaxed);
}
/* Must a write() to this inode ask first?  Because the mount is near full, or one of its owner's quotas. */
bool space_is_near(struct fs *fs, const struct inode *inode);
/* The same, but not because somebody is about to take much at once: that is soon over. */
bool space_stays_near(struct fs *fs, const struct inode *inode);

/*
 * How many dirty pages the kernel may have of this mount.  window.c
 * window_init: before the store; window_open: where the BDI is ours to set, more than by itself, or fewer in a small
 * memory cgroup, before the session serves; window_resize: after the cap changed; window_adjust: so many pages are left
 * in all; window_refused: the kernel did not take window_now, and has its own.
 * window_millionths: window_now as bdi_set_window() takes it.  The kernel's limit for all dirty pages moves with the
 * memory that is available; of the most it can be, the share that is asked for is never more than window_now.
 * window_pages: how many it may have at this moment, as far as we know; any thread.
 */
void window_init(struct fs *fs);
void window_open(struct fs *fs);
void window_resize(struct fs *fs);
void window_refused(struct fs *fs);
uint64_t window_millionths(struct fs *fs);
void window_adjust(struct fs *fs, uint64_t left);
uint64_t window_pages(struct fs *fs);

void xattrs_free(struct fs *fs, struct inode *inode);	     /* xattr.c: all of them; the inode is dying */
bool xattr_drop_capability(struct fs *fs, struct inode *in); /* xattr.c: takes the lock */

/* For the first line of a function whose name ends in _locked: somebody holds the lock. */
static inline void fs_assert_ns_held(struct fs *fs)
{
	assert(pthread_rwlock_trywrlock(&fs->ns) != 0);
	(void)fs;
}

static inline void fs_assert_ns_held_for_writing(struct fs *fs)
{
	assert(pthread_rwlock_tryrdlock(&fs->ns) != 0);
	(void)fs;
}

static inline void inode_assert_locked(struct inode *inode)
{
	assert(pthread_mutex_trylock(&inode->lock) != 0);
	(void)inode;
}

/* The struct fs of a request, and the one place where 0 or -errno becomes a FUSE error reply. */
static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline void fs_reply(fuse_req_t req, int err)
{
	fuse_reply_err(req, -err);
}

#endif
