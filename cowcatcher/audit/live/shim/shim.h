/*
 * What an audited program does with memory that strace cannot see, or could see only by stopping it too often.
 *
 * The library is preloaded. It speaks through the trace itself: mq_unlink("/cowcatcher:WORD key=value ...") always fails
 * (a slash is no part of a queue's name), does nothing, and strace prints it in order with the program's own calls.
 * Values are percent-encoded; numbers are 0x... or decimal. The words:
 *
 *   hello version=1                            after exec, once
 *   exe path=                                  which program it is, before the first word that names a stack
 *   module path=                               a library in the stack of the next word
 *   env NAME=value                             RDMAV_*, IBV_*, FI_*, UCX_* in this program's environment
 *   library name= version= path=               libibverbs is there
 *   site call= stack=                          the same thread calls this next; frames innermost first, '<' between them:
 *                                              FILE!+OFFSET of the return address in the loaded file
 *   site call=vmsplice|process_vm_... addr= len= addr= len= ... stack=    with its buffers, which strace prints too late,
 *                                              or only what is in them; of process_vm_... the other process's
 *   vma start= end= prot=rw- shared=0 page= what=   how memory is mapped that the next word, or call, is about: looked
 *                                              at, not made. It replaces nothing that is known already
 *   reg_mr h= addr= len= access= stack=        after success
 *   dereg_mr h=                                after success
 *   fork_init rc= stack=
 *   direct fd= fs= path=                       opened with, or switched to, O_DIRECT
 *   inflight id= op=dio_read|dio_write fd= addr= len= tid= fs= seen=sync|aio   fork() begins; one for each
 *                                              buffer. tid=0: of the process
 *   still id=                                  in the parent, after it: was in flight all the while
 *   settled                                    no more of them: what was inflight and not still, is over
 *   freed addr= len= h= stack=                 the allocator was given memory inside pin h
 *   overwritten how=msg_zerocopy|vmsplice fd= addr= len=
 *   pin h= interface=vfio_map|xdp_umem addr= len= writes= fd= stack=    after success
 *   unpin h=
 *   closed fd=                                 the fd of a ring, of a VFIO container or of an AF_XDP socket is gone,
 *                                              and with it its pins
 *   unmapped addr= len= stack=                 munmap() comes next, or mmap() over it was: strace does not stop there
 *   lost why=
 *
 * It must be harmless: errno as the program would find it, no allocation, no lock that is waited for for long (where it
 * cannot be had, something is not seen, and `lost` says so), none of the dynamic linker's once our constructor ran, no
 * look at memory that the kernel has not read before, little stack, no system call after the program has filtered its
 * own; it works before its own constructor ran, and in the children of fork(), vfork() and _Fork().
 *
 * Whoever listens (strace, or bpftrace's watch.bt) may take a word for at most 999 bytes, with zeros behind it.
 */
#ifndef COWCATCHER_SHIM_H
#define COWCATCHER_SHIM_H

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define PAGE 4096ul

/*
 * The function that the program would have called without us. Not found: NULL. All are looked up when this library starts:
 * later another thread may hold the dynamic linker's lock, and wait for this one.
 */
struct next {
	const char *name;
	void *function;
};
void *next_symbol(const char *name);
void find_all_next(void);
#define NEXT(name)                                                                                                     \
	({                                                                                                             \
		static struct next next_##name                                                                         \
			__attribute__((section("cowcatcher_next"), used, aligned(16))) = { #name, NULL };              \
		if (unlikely(!next_##name.function))                                                                   \
			next_##name.function = next_symbol(#name);                                                     \
		(__typeof__(&name))next_##name.function;                                                               \
	})

/* Nothing is said any more, nor asked: this program has forbidden itself system calls. */
extern atomic_bool silent;

/* System calls that touch no errno and that no wrapper sees. kernel6() is for the program's own. */
#if defined(__x86_64__)
static inline long kernel6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
#elif defined(__aarch64__)
static inline long kernel6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
#else
static inline long kernel6(long nr, long a, long b, long c, long d, long e, long f)
{
	int saved = errno;
	long ret = syscall(nr, a, b, c, d, e, f);

	if (ret < 0)
		ret = -errno;
	errno = saved;
	return ret;
}
#endif
/* For what we want to know. The program's own filter may kill it for a call that it does not expect. */
static inline long raw6(long nr, long a, long b, long c, long d, long e, long f)
{
	if (unlikely(atomic_load_explicit(&silent, memory_order_relaxed)))
		return -EPERM;
	return kernel6(nr, a, b, c, d, e, f);
}
#define kernel3(nr, a, b, c) kernel6(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define raw3(nr, a, b, c) raw6(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)

/* words.c: how a word is put together and said. */
struct word {
	size_t len;
	char text[640]; /* the stack may be a handler's, or a coroutine's */
};

void word(struct word *w, const char *name);
void add_hex(struct word *w, const char *key, uintptr_t value);
void add_int(struct word *w, const char *key, long value);
void add_text(struct word *w, const char *key, const char *value);
void add_stack(struct word *w);
void say(struct word *w);
void say_site(const char *call);
void add_filesystem(struct word *w, int fd);
void lost(const char *why);
void introduce(void);

struct module {
	uintptr_t base;
	const char *path; /* "": the program itself */
};
bool find_module(const void *pc, struct module *module);
bool same_module(const void *one, const void *other);

/* Said once in a program, and not for each time. */
#define LOST_ONCE(why)                                                                                                 \
	do {                                                                                                           \
		static atomic_bool told_;                                                                              \
		if (!atomic_exchange(&told_, true))                                                                    \
			lost(why);                                                                                     \
	} while (0)

/*
 * Whoever holds a lock may be interrupted by a signal whose handler comes here, wait for a CPU behind a thread of higher
 * priority that comes here, or be left behind by _Fork(): nobody waits for one for long. False: it cannot be had.
 */
struct lock {
	atomic_flag held;
};
bool try_lock(struct lock *lock);
void unlock(struct lock *lock);

/*
 * Not the child of vfork(), which has its parent's memory and its own descriptors, nor one of _Fork(): what is remembered
 * here is not theirs to change.
 */
bool own_process(void);
void new_process(void);

/* Something in this process makes fork() worth a word: a pin, an O_DIRECT file, advice about fork(). */
extern atomic_bool interesting;
void take_interest(void);

/*
 * words.c: what a program hands to the kernel may be no memory at all, or none any more: that is EFAULT for the program,
 * and must not be the end of it here. A descriptor of it, or less than 0.
 */
int open_memory(void);
void close_memory(int memory);
bool read_memory(int memory, void *to, const void *from, size_t len);
/* One thing of it. */
bool peek(void *to, const void *from, size_t len);

/* exec.c: where this library is, and what that says. */
void find_self(void);
int known_filters(void);

/* pins.c: what is pinned here, how it is mapped, what was freed in it. */
extern atomic_int pins;
void pin(uintptr_t handle, const void *addr, size_t len);
void unpin(uintptr_t handle);
void unpin_fd(int fd);
void freeing(const void *block, size_t len);
void report_vma(const void *addr, size_t len);
void forget_vma(void);
void gone(const void *addr, size_t len);
void find_allocator(void);
void pins_in_child(void);
/* The low half is the descriptor. */
#define HANDLE_OF_FD(fd) ((uintptr_t)(uint32_t)(fd) | (uintptr_t)1 << 62)

/* Functions that stand for libibverbs' own. The last has no name. */
struct verb {
	const char *name;
	void *function;
};
extern const struct verb verbs_of_ours[];
/* lookup.c: dlsym(), which gives the library's own function and not ours. */
void *libibverbs_own(void *library, const char *name);

/* transfers.c: O_DIRECT in flight. */
enum { UNKNOWN, PLAIN, DIRECT, HOLDER };
#define FD_MAX 65536
extern atomic_uchar fd_kind[FD_MAX];
void set_kind(int fd, unsigned char kind);
struct iocb;
struct io_event;
int aio_syscall_begins(long nr, long context, long count, struct iocb **list);
void aio_syscall_ended(long nr, long context, long count, struct iocb **list, struct io_event *events, long ret);
void transfers_before_fork(void);
void transfers_in_parent(void);
void transfers_in_child(void);

/* bytes.c: MSG_ZEROCOPY and vmsplice(), compared. */
extern atomic_int watched_bytes;
void compare_pipe(int fd);
void compare_before_reading(int fd);
void compare_all_pipes(void);
void pipe_grew(int fd, ssize_t by);
void bytes_gone(uintptr_t start, uintptr_t end);
void bytes_closed(int fd);
void bytes_in_child(void);

#endif
