/* SPDX-License-Identifier: MIT */
/*
 * faults: the fault engine of faults.h.  Errors and stalls go through the ring's hook; short transfers, altered
 * bytes and the refusal of io_uring stand in front of the libraries' own functions, which this program's hide.
 * One set of rules for the process, guarded by a mutex that is not held while anything is done.  Called by the
 * threads that do swap I/O.
 */
#include "tests/fault/faults.h"

#include "fuse-fs/fs.h"
#include "swapstore/swapstore.h"

#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FAULT_RULES 16

enum fault_op { FAULT_READ = RING_READ, FAULT_WRITE = RING_WRITE, FAULT_CREATE };
enum fault { FAULT_ERROR, FAULT_SHORT, FAULT_ALTERED, FAULT_STALL };

struct fault_rule {
	enum fault_op op;
	enum fault fault;
	int error;
	unsigned ms;
	unsigned every; /* 1: always; 0: once */
	int area;	/* -1: any */
	unsigned long seen;
};

static struct {
	pthread_mutex_t lock;
	struct fault_rule rule[FAULT_RULES];
	unsigned count;
	struct timespec changed;
	off_t size;
} faults = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void __attribute__((noreturn)) faults_die(const char *line)
{
	fprintf(stderr, "spillfs-faults: cannot make sense of: %s\n", line);
	_exit(3);
}

static bool faults_parse(const char *line, struct fault_rule *rule)
{
	char op[16] = "", fault[16] = "", when[16] = "always";
	unsigned n = 1;
	const char *area = strstr(line, " area ");
	int at = 0;

	*rule = (struct fault_rule){ .every = 1, .area = area ? atoi(area + 6) : -1 };
	if (sscanf(line, "%15s %15s%n", op, fault, &at) != 2)
		return false;
	rule->op = strcmp(op, "read") == 0 ? FAULT_READ : strcmp(op, "write") == 0 ? FAULT_WRITE : FAULT_CREATE;
	if (strcmp(fault, "ENOSPC") == 0)
		rule->error = -ENOSPC;
	else if (strcmp(fault, "EIO") == 0)
		rule->error = -EIO;
	else if (strcmp(fault, "short") == 0)
		rule->fault = FAULT_SHORT;
	else if (strcmp(fault, "altered") == 0)
		rule->fault = FAULT_ALTERED;
	else if (strcmp(fault, "stall") == 0 && sscanf(line + at, "%u%n", &rule->ms, &n) == 1)
		rule->fault = FAULT_STALL, at += (int)n;
	else
		return false;
	n = 1;
	if (sscanf(line + at, "%15s %u", when, &n) < 1 || strcmp(when, "always") == 0)
		n = 1;
	else if (strcmp(when, "once") == 0)
		n = 0;
	else if (strcmp(when, "every") != 0 || n == 0)
		return false;
	rule->every = n;
	return true;
}

/* Reads the file again if it is another one than before. */
static void faults_read_locked(void)
{
	const char *path = getenv("SPILLFS_FAULTS");
	char line[128];
	struct stat st;
	FILE *f;

	if (!path || stat(path, &st) != 0 ||
	    (st.st_size == faults.size && memcmp(&st.st_mtim, &faults.changed, sizeof(st.st_mtim)) == 0))
		return;
	faults.changed = st.st_mtim;
	faults.size = st.st_size;
	faults.count = 0;
	f = fopen(path, "re");
	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, "setup", 5) == 0)
			continue;
		if (faults.count == FAULT_RULES || !faults_parse(line, &faults.rule[faults.count++]))
			faults_die(line);
	}
	fclose(f);
}

/* Does a fault of this sort strike now?  *rule: a copy of it. */
static bool faults_strike(enum fault_op op, int area, bool (*sort)(enum fault), struct fault_rule *rule)
{
	bool struck = false;

	pthread_mutex_lock(&faults.lock);
	faults_read_locked();
	for (unsigned i = 0; i < faults.count && !struck; i++) {
		struct fault_rule *r = &faults.rule[i];

		if (r->op != op || !sort(r->fault) || (r->area >= 0 && r->area != area))
			continue;
		r->seen++;
		struck = r->every == 0 ? r->seen == 1 : r->seen % r->every == 0;
		*rule = *r;
	}
	pthread_mutex_unlock(&faults.lock);
	return struck;
}

static bool faults_before_io(enum fault fault)
{
	return fault == FAULT_ERROR || fault == FAULT_STALL;
}

static void faults_stall(const struct fault_rule *rule)
{
	nanosleep(&(struct timespec){ rule->ms / 1000, rule->ms % 1000 * 1000000L }, NULL);
}

static bool faults_is_short(enum fault fault)
{
	return fault == FAULT_SHORT;
}

static bool faults_is_altered(enum fault fault)
{
	return fault == FAULT_ALTERED;
}

static int faults_before(void *ctx, const struct ring_req *req)
{
	struct fault_rule rule;

	(void)ctx;
	if (!faults_strike((enum fault_op)req->op, (int)req->file, faults_before_io, &rule))
		return 0;
	if (rule.fault == FAULT_ERROR)
		return rule.error;
	faults_stall(&rule);
	return 0;
}

void faults_install(struct swapstore *store)
{
	swapstore_set_io_hook(store, &(struct ring_hook){ faults_before, NULL });
}

/* --- in front of libc, liburing and libfuse ------------------------------------------------------------------ */

/* A transfer of op moved res bytes to or from data: what the caller is told of it. */
static ssize_t faults_moved(enum fault_op op, char *data, ssize_t res)
{
	struct fault_rule rule;

	if (res > 512 && faults_strike(op, -1, faults_is_short, &rule))
		res = res / 2 / 512 * 512 > 0 ? res / 2 / 512 * 512 : 512;
	if (res > 0 && op == FAULT_READ && data && faults_strike(op, -1, faults_is_altered, &rule))
		data[0] ^= 1;
	return res;
}

ssize_t preadv64(int fd, const struct iovec *iov, int iovcnt, off_t offset)
{
	return faults_moved(FAULT_READ, iov->iov_base, syscall(SYS_preadv, fd, iov, iovcnt, (long)offset, 0L));
}

ssize_t pwritev64(int fd, const struct iovec *iov, int iovcnt, off_t offset)
{
	return faults_moved(FAULT_WRITE, NULL, syscall(SYS_pwritev, fd, iov, iovcnt, (long)offset, 0L));
}

/* What the queue holds, by user data, which the ring counts from 0: is it a read, and where does it go? */
static void faults_look_at(const struct io_uring_sqe *sqe, bool *reads, char **data)
{
	*reads = sqe->opcode == IORING_OP_READ || sqe->opcode == IORING_OP_READV ||
		 sqe->opcode == IORING_OP_READ_FIXED;
	*data = (char *)(uintptr_t)sqe->addr;
	if (sqe->opcode == IORING_OP_READV)
		*data = ((const struct iovec *)(uintptr_t)sqe->addr)->iov_base;
}

#define FAULT_DEPTH 256

int io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr)
{
	static _Thread_local struct {
		bool reads;
		char *data;
	} flying[FAULT_DEPTH]; /* a ring has nothing in flight when its context changes threads */
	int (*real)(struct io_uring *, unsigned) = NULL;
	struct io_uring_cqe *cqe;
	unsigned head;
	int rc;

	*(void **)&real = dlsym(RTLD_NEXT, "io_uring_submit_and_wait");
	for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++) {
		const struct io_uring_sqe *sqe = &ring->sq.sqes[i & ring->sq.ring_mask];

		if (sqe->user_data < FAULT_DEPTH)
			faults_look_at(sqe, &flying[sqe->user_data].reads, &flying[sqe->user_data].data);
	}
	rc = real(ring, wait_nr);
	io_uring_for_each_cqe(ring, head, cqe) {
		if (cqe->user_data < FAULT_DEPTH && cqe->res > 0)
			cqe->res = (int)faults_moved(flying[cqe->user_data].reads ? FAULT_READ : FAULT_WRITE,
						     flying[cqe->user_data].data, cqe->res);
	}
	return rc;
}

int io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *p)
{
	int (*real)(unsigned, struct io_uring *, struct io_uring_params *) = NULL;
	const char *path = getenv("SPILLFS_FAULTS");
	FILE *f = path ? fopen(path, "re") : NULL;
	char line[128] = "";
	bool refused = false;

	while (f && fgets(line, sizeof(line), f))
		refused |= strncmp(line, "setup EPERM", 11) == 0;
	if (f)
		fclose(f);
	*(void **)&real = dlsym(RTLD_NEXT, "io_uring_queue_init_params");
	return refused ? -EPERM : real(entries, ring, p);
}

/* The linker puts it in the place of fuse_reply_create(): libfuse may be a part of this program. */
int __real_fuse_reply_create(fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi);
int __wrap_fuse_reply_create(fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi);

int __wrap_fuse_reply_create(fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi)
{
	struct fault_rule rule;

	if (faults_strike(FAULT_CREATE, -1, faults_before_io, &rule))
		faults_stall(&rule);
	return __real_fuse_reply_create(req, e, fi);
}
