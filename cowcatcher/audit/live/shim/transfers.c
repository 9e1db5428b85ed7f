/* Transfers with O_DIRECT that are in flight when the process forks. In between nothing is said. */
#include "shim.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#define SLOTS 1024
#define IOVS 8
#define SAID_MOST 64

/* A thread has one synchronous transfer at a time: its slot is found by the address of its thread-local storage. */
struct slot {
	atomic_uintptr_t owner;
	atomic_uint turn; /* odd: in flight */
	bool writes;	  /* to the file */
	int fd, tid;
	int count;
	struct iovec iov[IOVS];
};

static struct slot slots[SLOTS];
static atomic_bool claimed;
static _Thread_local struct slot *mine __attribute__((tls_model("initial-exec")));
static _Thread_local char me __attribute__((tls_model("initial-exec")));

static struct slot *claim(void)
{
	uintptr_t owner = (uintptr_t)&me;
	size_t at = (owner >> 6) * 0x9e3779b97f4a7c15ull >> 54;

	for (size_t i = 0; i < SLOTS; i++) {
		struct slot *s = &slots[(at + i) % SLOTS];
		uintptr_t free_slot = 0;

		if (atomic_load(&s->owner) == owner || atomic_compare_exchange_strong(&s->owner, &free_slot, owner)) {
			atomic_store_explicit(&claimed, true, memory_order_relaxed);
			take_interest();
			s->tid = raw3(SYS_gettid, 0, 0, 0);
			return mine = s;
		}
	}
	return NULL;
}

/* One buffer is ours to read; several are where the program says, which the kernel is yet to judge. */
static __attribute__((noinline)) int copy_iov(struct iovec *to, const struct iovec *from, long count)
{
	if (count > IOVS)
		count = IOVS;
	return count > 0 && peek(to, from, count * sizeof(*to)) ? count : 0;
}

/* A thread's storage is another thread's, later: then the slot is, too. Only the number has to be right again. */
static struct slot *begin(int fd, bool writes, const struct iovec *iov, int count, bool one)
{
	struct slot *s = mine ? mine : claim();

	if (!s)
		return NULL;
	s->fd = fd;
	s->writes = writes;
	if (one)
		s->iov[0] = *iov;
	s->count = one ? 1 : copy_iov(s->iov, iov, count);
	atomic_store_explicit(&s->turn, (atomic_load_explicit(&s->turn, memory_order_relaxed) + 1) | 1,
			      memory_order_release);
	return s;
}

static void end(struct slot *s)
{
	if (s)
		atomic_store_explicit(&s->turn, (atomic_load_explicit(&s->turn, memory_order_relaxed) + 1) & ~1u,
				      memory_order_release);
}

static unsigned char ask_kind(int fd)
{
	long flags = raw3(SYS_fcntl, fd, F_GETFL, 0);
	unsigned char kind = flags >= 0 && flags & O_DIRECT ? DIRECT : PLAIN;

	if (flags >= 0)
		set_kind(fd, kind);
	return kind;
}

static inline bool direct(int fd)
{
	unsigned char kind;

	if (unlikely(fd < 0 || fd >= FD_MAX))
		return fd >= FD_MAX && ask_kind(fd) == DIRECT;
	kind = atomic_load_explicit(&fd_kind[fd], memory_order_relaxed);
	if (unlikely(kind == UNKNOWN))
		kind = ask_kind(fd);
	return unlikely(kind == DIRECT);
}

/* What may come back odd (a pipe with O_DIRECT, a number that is another file by now) is asked for when it matters. */
static bool really_direct(int fd)
{
	long flags = raw3(SYS_fcntl, fd, F_GETFL, 0);
	struct statx st;

	if (flags < 0 || !(flags & O_DIRECT))
		return false;
	/* As far as it is known already: whoever serves a file system over a wire, or from this program, is not asked. */
	if (raw6(SYS_statx, fd, (long)"", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, (long)&st, 0))
		return true;
	return S_ISREG(st.stx_mode) || S_ISBLK(st.stx_mode);
}

#define VIA(fd, writes, iov, count, one, call)                                                                         \
	({                                                                                                             \
		__typeof__(call) ret_;                                                                                 \
		if (likely(!direct(fd))) {                                                                             \
			ret_ = call;                                                                                   \
		} else {                                                                                               \
			struct slot *slot_ = begin(fd, writes, iov, count, one);                                       \
			ret_ = call;                                                                                   \
			end(slot_);                                                                                    \
		}                                                                                                      \
		ret_;                                                                                                  \
	})
#define THROUGH(fd, writes, iov, count, call) VIA(fd, writes, iov, count, false, call)
#define THROUGH_ONE(fd, writes, buf, len, call) VIA(fd, writes, ONE(buf, len), 1, true, call)
#define ONE(buf, len) (&(struct iovec){ (void *)(uintptr_t)(buf), len })

/* Before bytes are put into a pipe, or taken out of one. */
static inline void pipe_may_move(int fd, bool out)
{
	if (unlikely(atomic_load_explicit(&watched_bytes, memory_order_relaxed))) {
		int saved = errno;

		if (out)
			compare_before_reading(fd);
		else
			compare_pipe(fd);
		errno = saved;
	}
}

EXPORT ssize_t read(int fd, void *buf, size_t len)
{
	pipe_may_move(fd, true);
	return THROUGH_ONE(fd, false, buf, len, NEXT(read)(fd, buf, len));
}

EXPORT ssize_t pread(int fd, void *buf, size_t len, off_t at)
{
	return THROUGH_ONE(fd, false, buf, len, NEXT(pread)(fd, buf, len, at));
}

EXPORT ssize_t pread64(int fd, void *buf, size_t len, off64_t at)
{
	return THROUGH_ONE(fd, false, buf, len, NEXT(pread64)(fd, buf, len, at));
}

EXPORT ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
	return THROUGH_ONE(fd, true, buf, len, NEXT(pwrite)(fd, buf, len, at));
}

EXPORT ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t at)
{
	return THROUGH_ONE(fd, true, buf, len, NEXT(pwrite64)(fd, buf, len, at));
}

static ssize_t appended(int fd, ssize_t ret)
{
	if (unlikely(atomic_load_explicit(&watched_bytes, memory_order_relaxed))) {
		int saved = errno;

		pipe_grew(fd, ret);
		errno = saved;
	}
	return ret;
}

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
	pipe_may_move(fd, false);
	return appended(fd, THROUGH_ONE(fd, true, buf, len, NEXT(write)(fd, buf, len)));
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int count)
{
	pipe_may_move(fd, true);
	return THROUGH(fd, false, iov, count, NEXT(readv)(fd, iov, count));
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int count)
{
	pipe_may_move(fd, false);
	return appended(fd, THROUGH(fd, true, iov, count, NEXT(writev)(fd, iov, count)));
}

#define VECTOR(name, writes)                                                                                           \
	EXPORT ssize_t name(int fd, const struct iovec *iov, int count, off64_t at)                                    \
	{                                                                                                              \
		return THROUGH(fd, writes, iov, count, NEXT(name)(fd, iov, count, at));                                \
	}
#define VECTOR2(name, writes)                                                                                          \
	EXPORT ssize_t name(int fd, const struct iovec *iov, int count, off64_t at, int flags)                         \
	{                                                                                                              \
		return THROUGH(fd, writes, iov, count, NEXT(name)(fd, iov, count, at, flags));                         \
	}
VECTOR(preadv, false)
VECTOR(preadv64, false)
VECTOR(pwritev, true)
VECTOR(pwritev64, true)
VECTOR2(preadv2, false)
VECTOR2(preadv64v2, false)
VECTOR2(pwritev2, true)
VECTOR2(pwritev64v2, true)

/* What _FORTIFY_SOURCE makes of them. */
ssize_t __read_chk(int fd, void *buf, size_t len, size_t size);
ssize_t __pread_chk(int fd, void *buf, size_t len, off_t at, size_t size);
ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t at, size_t size);

EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size)
{
	pipe_may_move(fd, true);
	return THROUGH_ONE(fd, false, buf, len, NEXT(__read_chk)(fd, buf, len, size));
}

EXPORT ssize_t __pread_chk(int fd, void *buf, size_t len, off_t at, size_t size)
{
	return THROUGH_ONE(fd, false, buf, len, NEXT(__pread_chk)(fd, buf, len, at, size));
}

EXPORT ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t at, size_t size)
{
	return THROUGH_ONE(fd, false, buf, len, NEXT(__pread64_chk)(fd, buf, len, at, size));
}

/* --- libaio --------------------------------------------------------------------------------------------------------- */

#define BLOCKS 4096
enum { AIO_PREAD = 0, AIO_PWRITE = 1, AIO_PREADV = 7, AIO_PWRITEV = 8 };

/* libaio's struct iocb, on machines of 64 bits and little-endian. */
struct iocb {
	void *data;
	uint32_t key, rw_flags;
	int16_t opcode, priority;
	uint32_t fd;
	void *buf;
	uint64_t len;
	int64_t offset;
};
struct io_event {
	void *data;
	struct iocb *block;
	unsigned long result, result2;
};

/* Found by the control block's address; busy slots are passed over, a few at most. */
static struct block {
	_Atomic(struct iocb *) block;
	atomic_uint turn;
	void *context;
	int fd, tid;
	bool writes;
	int count;
	struct iovec iov[IOVS];
} blocks[BLOCKS];
static atomic_int blocks_used;
#define PROBES 32

static size_t place(const struct iocb *block)
{
	return ((uintptr_t)block >> 3) * 0x9e3779b97f4a7c15ull >> 52;
}

static void block_begin(void *context, struct iocb *at, int memory)
{
	struct iocb copy, *block = &copy;
	bool vector;

	if (!read_memory(memory, &copy, at, sizeof(copy)))
		return;
	vector = block->opcode == AIO_PREADV || block->opcode == AIO_PWRITEV;
	if (!(vector || block->opcode == AIO_PREAD || block->opcode == AIO_PWRITE) || !direct(block->fd))
		return;
	for (size_t i = 0; i < PROBES; i++) {
		struct block *b = &blocks[(place(at) + i) % BLOCKS];
		struct iocb *none = NULL;

		if (atomic_load(&b->block) != at && !atomic_compare_exchange_strong(&b->block, &none, at))
			continue;
		take_interest();
		if (!none)
			atomic_fetch_add_explicit(&blocks_used, 1, memory_order_relaxed);
		b->context = context;
		b->fd = block->fd;
		b->tid = 0;
		b->writes = block->opcode == AIO_PWRITE || block->opcode == AIO_PWRITEV;
		b->iov[0] = *ONE(block->buf, block->len);
		b->count = vector ? copy_iov(b->iov, block->buf, block->len < IOVS ? block->len : IOVS) : 1;
		atomic_fetch_add_explicit(&b->turn, 1, memory_order_release);
		return;
	}
}

static void block_end(const struct iocb *block)
{
	for (size_t i = 0; i < PROBES; i++) {
		struct block *b = &blocks[(place(block) + i) % BLOCKS];

		if (atomic_load_explicit(&b->block, memory_order_relaxed) != block)
			continue;
		atomic_store_explicit(&b->block, NULL, memory_order_release);
		atomic_fetch_sub_explicit(&blocks_used, 1, memory_order_relaxed);
		return;
	}
}

/* Before they are submitted: another thread may fetch them before this one is back. */
static void list_begins(void *context, long count, struct iocb **list)
{
	int memory = count > 0 ? open_memory() : -1;
	struct iocb *block;

	for (long i = 0; i < count && read_memory(memory, &block, list + i, sizeof(block)); i++)
		block_begin(context, block, memory);
	close_memory(memory);
}

/* Of count that were to be submitted so many were not. */
static void list_refused(long taken, long count, struct iocb **list)
{
	long i = taken > 0 ? taken : 0;
	int memory;
	struct iocb *block;

	if (likely(i >= count) || atomic_load_explicit(&blocks_used, memory_order_relaxed) <= 0)
		return;
	memory = open_memory();
	for (; i < count && read_memory(memory, &block, list + i, sizeof(block)); i++)
		block_end(block);
	close_memory(memory);
}

int io_submit(void *context, long count, struct iocb **list);
int io_getevents(void *context, long least, long most, struct io_event *events, struct timespec *timeout);
int io_pgetevents(void *context, long least, long most, struct io_event *events, struct timespec *timeout,
		  sigset_t *mask);
int io_cancel(void *context, struct iocb *block, struct io_event *event);
int io_destroy(void *context);

EXPORT int io_submit(void *context, long count, struct iocb **list)
{
	__typeof__(&io_submit) next = NEXT(io_submit);
	long taken;

	if (!next)
		return -ENOSYS;
	list_begins(context, count, list);
	taken = next(context, count, list);
	list_refused(taken, count, list);
	return taken;
}

static int ended(const struct io_event *events, int count)
{
	for (int i = 0; i < count && atomic_load_explicit(&blocks_used, memory_order_relaxed) > 0; i++)
		block_end(events[i].block);
	return count;
}

EXPORT int io_getevents(void *context, long least, long most, struct io_event *events, struct timespec *timeout)
{
	__typeof__(&io_getevents) next = NEXT(io_getevents);

	return next ? ended(events, next(context, least, most, events, timeout)) : -ENOSYS;
}

EXPORT int io_pgetevents(void *context, long least, long most, struct io_event *events, struct timespec *timeout,
			 sigset_t *mask)
{
	__typeof__(&io_pgetevents) next = NEXT(io_pgetevents);

	return next ? ended(events, next(context, least, most, events, timeout, mask)) : -ENOSYS;
}

EXPORT int io_cancel(void *context, struct iocb *block, struct io_event *event)
{
	__typeof__(&io_cancel) next = NEXT(io_cancel);
	int ret = next ? next(context, block, event) : -ENOSYS;

	if (!ret)
		block_end(block);
	return ret;
}

static void forget_context(const void *context)
{
	for (size_t i = 0; i < BLOCKS && atomic_load(&blocks_used) > 0; i++) {
		struct iocb *block = atomic_load(&blocks[i].block);

		if (block && blocks[i].context == context)
			block_end(block);
	}
}

EXPORT int io_destroy(void *context)
{
	__typeof__(&io_destroy) next = NEXT(io_destroy);
	int ret = next ? next(context) : -ENOSYS;

	if (!ret)
		forget_context(context);
	return ret;
}

/* Programs without libaio make these calls by syscall(). Nonzero: nr is not one of them. */
int aio_syscall_begins(long nr, long context, long count, struct iocb **list)
{
	if (nr != SYS_io_submit)
		return nr != SYS_io_getevents && nr != SYS_io_destroy;
	list_begins((void *)context, count, list);
	return 0;
}

void aio_syscall_ended(long nr, long context, long count, struct iocb **list, struct io_event *events, long ret)
{
	if (nr == SYS_io_getevents && ret > 0)
		ended(events, ret);
	else if (nr == SYS_io_destroy && !ret)
		forget_context((void *)context);
	else if (nr == SYS_io_submit)
		list_refused(ret, count, list);
}

/* --- fork ----------------------------------------------------------------------------------------------------------- */

/* What was said before the fork; only one thread is between the two handlers, for the C library holds a lock. */
static struct {
	atomic_uint *turn;
	unsigned int was;
	_Atomic(struct iocb *) *block;
	struct iocb *was_block;
} told[SAID_MOST];
static int told_count;

static void say_inflight(int fd, bool writes, int tid, const char *seen, const struct iovec *iov, int count)
{
	struct word w;

	for (int i = 0; i < count; i++) {
		report_vma(iov[i].iov_base, iov[i].iov_len);
		word(&w, "inflight");
		add_int(&w, "id", told_count);
		/* dio_read: the device writes memory. */
		add_text(&w, "op", writes ? "dio_write" : "dio_read");
		add_int(&w, "fd", fd);
		add_hex(&w, "addr", (uintptr_t)iov[i].iov_base);
		add_int(&w, "len", iov[i].iov_len);
		add_int(&w, "tid", tid);
		add_filesystem(&w, fd);
		add_text(&w, "seen", seen);
		say(&w);
	}
}

static void say_slot(struct slot *s, int self)
{
	unsigned int turn = atomic_load_explicit(&s->turn, memory_order_acquire);

	/* This thread forks, so what its slot says is left from a transfer that a signal cut short. */
	if (!(turn & 1) || s->tid == self || !really_direct(s->fd))
		return;
	if (raw3(SYS_tgkill, raw3(SYS_getpid, 0, 0, 0), s->tid, 0))
		return;
	say_inflight(s->fd, s->writes, s->tid, "sync", s->iov, s->count);
	told[told_count].turn = &s->turn;
	told[told_count].was = turn;
	told[told_count++].block = NULL;
}

static void say_block(struct block *b)
{
	struct iocb *block = atomic_load(&b->block);

	if (!block || !really_direct(b->fd))
		return;
	say_inflight(b->fd, b->writes, 0, "aio", b->iov, b->count);
	told[told_count].turn = &b->turn;
	told[told_count].was = atomic_load(&b->turn);
	told[told_count].was_block = block;
	told[told_count++].block = &b->block;
}

void transfers_before_fork(void)
{
	int self = raw3(SYS_gettid, 0, 0, 0);

	told_count = 0;
	if (!atomic_load_explicit(&claimed, memory_order_relaxed) && atomic_load(&blocks_used) <= 0)
		return;
	for (size_t i = 0; i < SLOTS && told_count < SAID_MOST; i++)
		if (atomic_load_explicit(&slots[i].owner, memory_order_relaxed))
			say_slot(&slots[i], self);
	for (size_t i = 0; i < BLOCKS && atomic_load(&blocks_used) > 0 && told_count < SAID_MOST; i++)
		say_block(&blocks[i]);
	if (told_count == SAID_MOST)
		lost("more than 64 transfers in flight at a fork: the others are not named");
}

void transfers_in_parent(void)
{
	struct word w;

	for (int i = 0; i < told_count; i++) {
		if (atomic_load(told[i].turn) != told[i].was)
			continue;
		if (told[i].block && atomic_load(told[i].block) != told[i].was_block)
			continue;
		word(&w, "still");
		add_int(&w, "id", i);
		say(&w);
	}
	if (told_count) {
		word(&w, "settled");
		say(&w);
	}
	told_count = 0;
}

void transfers_in_child(void)
{
	/* Its only thread is the one that forked. */
	for (size_t i = 0; i < SLOTS; i++)
		if (atomic_load_explicit(&slots[i].owner, memory_order_relaxed)) {
			atomic_store(&slots[i].turn, 0);
			atomic_store(&slots[i].owner, 0);
		}
	mine = NULL;
	told_count = 0;
	for (size_t i = 0; i < BLOCKS && atomic_load(&blocks_used) > 0; i++)
		atomic_store(&blocks[i].block, NULL);
	atomic_store(&blocks_used, 0);
}
