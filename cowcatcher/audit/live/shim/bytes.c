/*
 * MSG_ZEROCOPY and vmsplice(): the kernel reads the program's pages later. A checksum of what was submitted is compared
 * when the completion is fetched, or, for a pipe, while everything that was put there is still in it.
 */
#include "shim.h"

#include <fcntl.h>
#include <string.h>
#include <linux/errqueue.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define ENTRIES 64
#define IOVS 8
#define HASHED_WHOLE (64 * 1024)
#define SAMPLES 16

struct entry {
	int fd; /* -1: free */
	bool pipe;
	unsigned int turn; /* no two entries' */
	uint64_t inode;	 /* the pipe's */
	uint32_t id;	 /* the send's number on its socket */
	int queued;	 /* bytes in the pipe when all of ours were in it */
	size_t len, sum; /* hashed bytes, and their sum */
	int count;
	struct iovec iov[IOVS];
};

static struct entry entries[ENTRIES];
static size_t oldest;
static unsigned int turns;
atomic_int watched_bytes;
static struct lock lock = { ATOMIC_FLAG_INIT };
/* Somebody had to change the entries, and could not: they are worth nothing. */
static atomic_bool spoiled;

/*
 * How many sends with MSG_ZEROCOPY a socket has seen: that is how the kernel numbers them. A child that shares the
 * socket cannot know how far its parent counts, and does not count on.
 */
static struct {
	int fd;
	uint32_t next;
	bool shared;
} sockets[ENTRIES];

static void finish(struct entry *e)
{
	e->count = 0;
	e->fd = -1;
	atomic_fetch_sub(&watched_bytes, 1);
}

static void finish_all(void)
{
	for (size_t i = 0; i < ENTRIES; i++) {
		if (entries[i].count)
			finish(&entries[i]);
		sockets[i].shared = true;
	}
}

/* False: it is another process's, or the lock cannot be had. Nothing is hashed, nor said, while it is held. */
static bool take(void)
{
	if (!own_process())
		return false;
	if (!try_lock(&lock)) {
		atomic_store(&spoiled, true);
		LOST_ONCE("bytes in flight were used while they were looked at: whether they change is not seen");
		return false;
	}
	if (unlikely(atomic_exchange(&spoiled, false)))
		finish_all();
	return true;
}

static void drop(void)
{
	unlock(&lock);
}

static size_t hash_more(size_t sum, const unsigned char *bytes, size_t len)
{
	for (; len >= 8; bytes += 8, len -= 8) {
		uint64_t piece;

		memcpy(&piece, bytes, 8);
		sum = (sum ^ piece) * 0x9e3779b97f4a7c15ull;
		sum ^= sum >> 29;
	}
	for (; len; bytes++, len--)
		sum = (sum ^ *bytes) * 0x100000001b3ull;
	return sum;
}

static bool hash_part(int memory, const struct iovec *iov, int count, size_t from, size_t len, size_t *sum)
{
	unsigned char piece[512]; /* the stack may be a handler's, or a coroutine's */

	for (int i = 0; i < count && len; i++) {
		size_t part = iov[i].iov_len;

		if (from >= part) {
			from -= part;
			continue;
		}
		while (len && from < part) {
			size_t n = part - from < len ? part - from : len;

			n = n < sizeof(piece) ? n : sizeof(piece);
			if (!read_memory(memory, piece, (const char *)iov[i].iov_base + from, n))
				return false;
			*sum = hash_more(*sum, piece, n);
			from += n;
			len -= n;
		}
		from = 0;
	}
	return true;
}

/* All of it, or of a lot so many pages, evenly spread, the first and the last among them. */
static bool hash(const struct iovec *iov, int count, size_t len, size_t *sum)
{
	int memory = open_memory();
	bool fine = memory >= 0;

	*sum = len;
	if (len <= HASHED_WHOLE)
		fine = fine && hash_part(memory, iov, count, 0, len, sum);
	else
		for (size_t i = 0; i < SAMPLES && fine; i++)
			fine = hash_part(memory, iov, count, (len - PAGE) / (SAMPLES - 1) * i, PAGE, sum);
	close_memory(memory);
	return fine;
}

static size_t total(const struct iovec *iov, int count)
{
	size_t len = 0;

	for (int i = 0; i < count; i++)
		len += iov[i].iov_len;
	return len;
}

static void say_overwritten(const struct entry *e)
{
	struct word w;

	for (int i = 0; i < e->count; i++) {
		word(&w, "overwritten");
		add_text(&w, "how", e->pipe ? "vmsplice" : "msg_zerocopy");
		add_int(&w, "fd", e->fd);
		add_hex(&w, "addr", (uintptr_t)e->iov[i].iov_base);
		add_int(&w, "len", e->iov[i].iov_len);
		say(&w);
	}
}

/* Of what was an entry a moment ago: whether its bytes are others now. */
static __attribute__((noinline)) bool differs(const struct entry *e)
{
	size_t sum;

	return hash(e->iov, e->count, e->len, &sum) && sum != e->sum;
}

static void remember(const struct entry *new)
{
	struct entry *e = &entries[oldest++ % ENTRIES];

	if (!new->len || !new->count)
		return;
	if (!e->count)
		atomic_fetch_add(&watched_bytes, 1);
	*e = *new;
	e->turn = ++turns;
}

static bool make(struct entry *e, int fd, const struct iovec *iov, int count)
{
	int memory;
	bool fine;

	if (count <= 0 || count > IOVS)
		return false;
	memory = open_memory();
	fine = memory >= 0 && read_memory(memory, e->iov, iov, count * sizeof(*iov));
	close_memory(memory);
	if (!fine)
		return false;
	e->fd = fd;
	e->count = count;
	e->len = total(e->iov, count);
	return e->len > 0 && hash(e->iov, count, e->len, &e->sum);
}

/* Only what was taken can be overwritten in flight. */
static void cut(struct entry *e, size_t taken)
{
	int i;

	if (taken < e->len) {
		e->len = taken;
		if (!hash(e->iov, e->count, taken, &e->sum))
			e->len = 0;
	}
	for (i = 0; i < e->count && taken; i++) {
		if (e->iov[i].iov_len > taken)
			e->iov[i].iov_len = taken;
		taken -= e->iov[i].iov_len;
	}
	e->count = i;
}

/* --- pipes ---------------------------------------------------------------------------------------------------------- */

static int queued(int fd)
{
	int bytes = 0;

	return raw3(SYS_ioctl, fd, FIONREAD, &bytes) < 0 ? -1 : bytes;
}

static uint64_t inode_of(int fd)
{
	struct stat st;

	return raw3(SYS_fstat, fd, &st, 0) ? 0 : st.st_ino;
}

/* Fewer: the reader has begun to take them. More: somebody else wrote. Of neither can anything be said. */
static bool still_whole(struct entry *e)
{
	if (queued(e->fd) == e->queued)
		return true;
	finish(e);
	return false;
}

/* It is hashed without the lock, and what came of it counts if the entry is the same still, and whole. */
static __attribute__((noinline)) void compare_entry_of_pipe(struct entry *e)
{
	struct entry copy;
	bool whole;

	if (!take())
		return;
	copy = *e;
	whole = copy.count && copy.pipe && still_whole(e);
	drop();
	if (!whole || !differs(&copy) || !take())
		return;
	whole = e->count && e->turn == copy.turn && still_whole(e);
	if (whole)
		finish(e);
	drop();
	if (whole)
		say_overwritten(&copy);
}

/* fd -1: all of them. */
void compare_pipe(int fd)
{
	for (size_t i = 0; i < ENTRIES; i++)
		if (entries[i].count && entries[i].pipe && (fd < 0 || entries[i].fd == fd))
			compare_entry_of_pipe(&entries[i]);
}

/* The pipe's other end has another number. */
void compare_before_reading(int fd)
{
	uint64_t inode = 0;

	for (size_t i = 0; i < ENTRIES; i++) {
		if (!entries[i].count || !entries[i].pipe)
			continue;
		if (!inode && !(inode = inode_of(fd)))
			return;
		if (entries[i].inode == inode)
			compare_entry_of_pipe(&entries[i]);
	}
}

void compare_all_pipes(void)
{
	if (atomic_load_explicit(&watched_bytes, memory_order_relaxed))
		compare_pipe(-1);
}

/* So many bytes were put behind those that were there just before. */
void pipe_grew(int fd, ssize_t by)
{
	if (by <= 0 || !take())
		return;
	for (size_t i = 0; i < ENTRIES; i++)
		if (entries[i].count && entries[i].pipe && entries[i].fd == fd)
			entries[i].queued += by;
	drop();
}

/* Memory that is unmapped is nobody's any more: what comes to its place is not what was handed over. */
void bytes_gone(uintptr_t start, uintptr_t end)
{
	if (!take())
		return;
	for (size_t i = 0; i < ENTRIES; i++) {
		bool hit = false;

		for (int k = 0; k < entries[i].count; k++) {
			uintptr_t at = (uintptr_t)entries[i].iov[k].iov_base;

			hit |= at < end && at + entries[i].iov[k].iov_len > start;
		}
		if (hit)
			finish(&entries[i]);
	}
	drop();
}

/* strace prints what is in the buffers, and not where they are. */
static void say_vmsplice(const struct entry *e, size_t count)
{
	struct word w;

	word(&w, "site");
	add_text(&w, "call", "vmsplice");
	add_int(&w, "fd", e->fd);
	for (int i = 0; i < e->count; i++) {
		add_hex(&w, "addr", (uintptr_t)e->iov[i].iov_base);
		add_int(&w, "len", e->iov[i].iov_len);
	}
	add_stack(&w);
	say(&w);
	if (count > IOVS)
		lost("vmsplice() of more than 8 buffers: only the first are known");
}

EXPORT ssize_t vmsplice(int fd, const struct iovec *iov, size_t count, unsigned int flags)
{
	int saved = errno;
	struct entry e = { .pipe = true };
	bool made;
	ssize_t ret;

	take_interest();
	compare_pipe(fd);
	made = make(&e, fd, iov, count < IOVS ? (int)count : IOVS);
	for (int i = 0; made && i < e.count; i++)
		report_vma(e.iov[i].iov_base, e.iov[i].iov_len);
	if (made)
		say_vmsplice(&e, count);
	errno = saved;
	ret = NEXT(vmsplice)(fd, iov, count, flags);
	saved = errno;
	made = made && count <= IOVS;
	/* From the pipe's other end vmsplice() reads: nothing of the program's is in flight then. */
	if (made && ret > 0 && (raw3(SYS_fcntl, fd, F_GETFL, 0) & O_ACCMODE) != O_RDONLY) {
		cut(&e, ret);
		e.queued = queued(fd);
		e.inode = inode_of(fd);
		pipe_grew(fd, ret);
		if (e.queued >= (int)e.len && take()) {
			remember(&e);
			drop();
		}
	} else if (ret > 0) {
		pipe_grew(fd, ret);
	}
	errno = saved;
	return ret;
}

/* --- sockets -------------------------------------------------------------------------------------------------------- */

#ifndef MSG_ZEROCOPY
#define MSG_ZEROCOPY 0x4000000
#endif
#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY 60
#endif

static uint32_t *counter(int fd, bool make_one)
{
	for (size_t i = 0; i < ENTRIES; i++)
		if (sockets[i].next && sockets[i].fd == fd)
			return sockets[i].shared ? NULL : &sockets[i].next;
	for (size_t i = 0; i < ENTRIES && make_one; i++)
		if (!sockets[i].next) {
			sockets[i].fd = fd;
			/* One ahead, so that 0 means: nobody. */
			sockets[i].next = 1;
			sockets[i].shared = false;
			return &sockets[i].next;
		}
	return NULL;
}

static bool zerocopy(int fd, int flags)
{
	int on = 0;
	socklen_t size = sizeof(on);

	if (likely(!(flags & MSG_ZEROCOPY)))
		return false;
	return !raw6(SYS_getsockopt, fd, SOL_SOCKET, SO_ZEROCOPY, (long)&on, (long)&size, 0) && on;
}

static void sent(struct entry *e, ssize_t ret)
{
	uint32_t *next;

	cut(e, ret);
	if (!take())
		return;
	if ((next = counter(e->fd, true))) {
		e->id = *next - 1;
		if (!++*next)
			*next = 1;
		remember(e);
	}
	drop();
}

static bool make_of_message(struct entry *e, int fd, const struct msghdr *from)
{
	struct msghdr msg;

	return peek(&msg, from, sizeof(msg)) && msg.msg_iovlen <= IOVS && make(e, fd, msg.msg_iov, msg.msg_iovlen);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct entry e = { 0 };
	bool made = zerocopy(fd, flags) && make_of_message(&e, fd, msg);
	ssize_t ret = NEXT(sendmsg)(fd, msg, flags);

	if (unlikely(made) && ret > 0) {
		int saved = errno;

		sent(&e, ret);
		errno = saved;
	}
	return ret;
}

EXPORT ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	struct iovec iov = { (void *)(uintptr_t)buf, len };
	struct entry e = { 0 };
	bool made = zerocopy(fd, flags) && make(&e, fd, &iov, 1);
	ssize_t ret = NEXT(send)(fd, buf, len, flags);

	if (unlikely(made) && ret > 0) {
		int saved = errno;

		sent(&e, ret);
		errno = saved;
	}
	return ret;
}

static __attribute__((noinline)) void completed_entry(struct entry *e, int fd, uint32_t first, uint32_t last)
{
	struct entry copy;

	if (!take())
		return;
	copy = *e;
	if (!copy.count || copy.pipe || copy.fd != fd || copy.id - first > last - first) {
		drop();
		return;
	}
	finish(e);
	drop();
	/* Not once it may be somebody else's memory. */
	if (differs(&copy) && !atomic_load(&spoiled))
		say_overwritten(&copy);
}

static void completed(int fd, uint32_t first, uint32_t last)
{
	for (size_t i = 0; i < ENTRIES; i++)
		if (entries[i].count && !entries[i].pipe && entries[i].fd == fd)
			completed_entry(&entries[i], fd, first, last);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t ret = NEXT(recvmsg)(fd, msg, flags);
	int saved = errno;

	if (likely(!(flags & MSG_ERRQUEUE)) || ret < 0)
		return ret;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		const struct sock_extended_err *err = (const void *)CMSG_DATA(c);

		if (c->cmsg_len >= CMSG_LEN(sizeof(*err)) && err->ee_origin == SO_EE_ORIGIN_ZEROCOPY && !err->ee_errno)
			completed(fd, err->ee_info, err->ee_data);
	}
	errno = saved;
	return ret;
}

void bytes_closed(int fd)
{
	compare_pipe(fd);
	if (!take())
		return;
	for (size_t i = 0; i < ENTRIES; i++) {
		if (entries[i].count && entries[i].fd == fd)
			finish(&entries[i]);
		if (sockets[i].next && sockets[i].fd == fd)
			sockets[i].next = 0;
	}
	drop();
}

void bytes_in_child(void)
{
	unlock(&lock);
	finish_all();
}

/* --- process_vm_readv() and _writev() ------------------------------------------------------------------------------- */

/*
 * The other process's memory, which is referred to: strace prints its addresses when the call returns, which may be after
 * a fork. That process may be this one.
 */
static void say_remote(const char *call, pid_t pid, const struct iovec *iov, size_t count)
{
	struct entry e = { 0 };
	int saved = errno;
	int memory = open_memory();
	bool own = pid == raw3(SYS_getpid, 0, 0, 0);
	struct word w;

	e.count = count < IOVS ? (int)count : IOVS;
	if (memory >= 0 && read_memory(memory, e.iov, iov, e.count * sizeof(*iov))) {
		for (int i = 0; i < e.count && own; i++)
			report_vma(e.iov[i].iov_base, e.iov[i].iov_len);
		introduce();
		word(&w, "site");
		add_text(&w, "call", call);
		for (int i = 0; i < e.count; i++) {
			add_hex(&w, "addr", (uintptr_t)e.iov[i].iov_base);
			add_int(&w, "len", e.iov[i].iov_len);
		}
		add_stack(&w);
		say(&w);
	}
	close_memory(memory);
	errno = saved;
}

EXPORT ssize_t process_vm_readv(pid_t pid, const struct iovec *local, unsigned long locals, const struct iovec *remote,
				unsigned long remotes, unsigned long flags)
{
	say_remote("process_vm_readv", pid, remote, remotes);
	return NEXT(process_vm_readv)(pid, local, locals, remote, remotes, flags);
}

EXPORT ssize_t process_vm_writev(pid_t pid, const struct iovec *local, unsigned long locals, const struct iovec *remote,
				 unsigned long remotes, unsigned long flags)
{
	say_remote("process_vm_writev", pid, remote, remotes);
	return NEXT(process_vm_writev)(pid, local, locals, remote, remotes, flags);
}
