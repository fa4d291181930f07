/* SPDX-License-Identifier: MIT */
/*
 * session: one FUSE connection and the threads that serve it.
 *
 * A fixed pool of worker threads, each with its own pre-faulted request buffer and a small pre-faulted stack,
 * reads requests and answers them, waiting for its own swap I/O (crew.h says how many are about at a time); two more
 * threads talk to the kernel's caches, which a worker must not: a flush waits for writes that only a worker can serve.
 *
 *   main thread:  INIT, then waits for a signal or for the end of the connection
 *   worker 1..T:  read request -> operation -> reply
 *   notifier:     have the kernel forget attributes, move the BDI's window; never waits for writes
 *   flusher:      have the kernel write back what it caches, then tell whoever asked
 */
#ifndef FUSE_FS_SESSION_H
#define FUSE_FS_SESSION_H

#include "fuse-fs/fs.h"
#include "fuse-fs/guard.h"
#include "fuse-fs/options.h"

/* Bytes of memory that a session with these many workers and this largest request holds (for ram_taken). */
uint64_t session_bytes(unsigned workers, size_t io_bytes);

/*
 * Mounts; fs must be ready to serve.  io_bytes: the largest read or write, a power of two from 64 KiB to 1 MiB.
 * On failure -errno and one line in why.  Nothing serves yet.
 */
int session_mount(struct fs *fs, const struct options *opt, unsigned workers, size_t io_bytes, struct session **out,
		  char *why, size_t why_len);

/* Tells the guard what it guards. */
void session_guard(const struct session *se, const struct guard *guard);

/*
 * Serves until the mount goes away or a SIGTERM, SIGINT or SIGHUP asks for an end; calls ready(ctx) once, when
 * the kernel's INIT has been answered and all workers run.  The caller has blocked those signals before its
 * first thread.  Returns 0 or -errno (one line in why).
 */
int session_serve(struct session *se, void (*ready)(void *ctx), void *ctx, char *why, size_t why_len);

/* Unmounts (if still mounted) and frees everything. */
void session_destroy(struct session *se);

/*
 * The calling worker's memory for the data of a request, page-aligned, with room for the largest one and a page: free
 * to be used while it serves one that brought no data.  NULL: the caller is no worker.
 */
void *session_buffer(const struct session *se, size_t *bytes);

/* --- what operations may ask of the two ---------------------------------------------------------------------- */

/* A flush that is asked for: memory of the caller's, who frees it in done(). */
struct session_flush {
	struct session_flush *next; /* the flusher's */
	fuse_ino_t ino;
	void (*done)(struct session_flush *flush);
};

/*
 * Has the kernel write back what it caches of the file and forget it, then calls done() in the flusher's
 * thread.  Never blocks the caller and never fails; when the session ends first, done() is called all the same.
 * For SEEK_DATA and SEEK_HOLE under the writeback cache, where the kernel asks without having flushed.
 */
void session_flush_inode(struct session *se, struct session_flush *flush);

/* The same for the flusher's own thread, in done(): returns when it is written.  Nothing once the session ends. */
void session_flush_now(struct session *se, fuse_ino_t ino);

/*
 * Has the kernel write back all files that are open for writing, and waits for it.  Only from a flush's done().
 */
void session_flush_writers(struct session *se);

/*
 * Has the kernel ask again (GETATTR) before the next write() to any file that is open for writing; see DESIGN 4.4.
 * Cheap to call often; the notifier does the work.
 */
void session_invalidate_writers(struct session *se);

/*
 * The kernel's attributes of this inode are out of date, as of now: for a file that is opened near a limit, and for a
 * mode that a write has changed, which the kernel would go on using (for exec, too).  A worker may call it, before it
 * replies: unlike the above this touches no page, and the inode is in use, so nothing in the kernel waits for us.
 */
void session_attrs_changed(struct session *se, fuse_ino_t ino);

/* Does path (absolute) lie in this mount, as far as its name, and what it resolves to here, can tell? */
bool session_holds_path(const struct session *se, const char *path);

/*
 * Before session_serve(), or in the notifier's thread: how many bytes of dirty pages the kernel allows this mount by
 * itself, 0 where it does not tell, and whether that is ours to change; and sets another limit, as bdi_set_window().
 */
uint64_t session_window_bytes(const struct session *se, bool *ours);
bool session_set_window(struct session *se, uint64_t millionths);

/* How many requests can be served at the same time. */
unsigned session_workers(const struct session *se);

/* Has the kernel allow this mount as many dirty pages as fs->window_now says.  Cheap, as above. */
void session_adjust_window(struct session *se);

#endif
