// SPDX-License-Identifier: Apache-2.0
/* The actor's side: one process or thread of a test, which executes requests until it is told to end. */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef PR_SET_PTRACER
#define PR_SET_PTRACER 0x59616d61
#endif

static char vfork_stacks[MAX_ACTORS][STACK_SIZE] __attribute__((aligned(16)));

static __thread sigjmp_buf fault_return;
static __thread volatile sig_atomic_t fault_expected;

static void on_fault(int sig)
{
	if (fault_expected)
		siglongjmp(fault_return, sig);
	signal(sig, SIG_DFL); /* a fault of the agent's own: die of it */
}

/* One load or store, with a fault turned into an answer. */
static struct reply touch(const struct request *rq)
{
	volatile uint64_t *word = (volatile uint64_t *)(uintptr_t)rq->addr;
	volatile uint64_t value = 0; /* lives across the jump */
	int sig = sigsetjmp(fault_return, 0); /* the handler is SA_NODEFER: no mask to restore, no system call here */

	if (!sig) {
		fault_expected = 1;
		if (rq->op == LOAD)
			value = *word;
		else
			*word = rq->value;
	}
	fault_expected = 0;
	return sig ? (struct reply){SIGNAL, (uint64_t)sig} : success(value);
}

static struct reply proc_mem(const struct request *rq)
{
	uint64_t value = rq->value;
	struct reply reply;
	char path[32];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", rq->pid);
	fd = open(path, O_RDWR);
	if (fd < 0)
		return failure(errno == ENOENT ? ESRCH : errno);
	n = rq->op == MEM_READ ? pread(fd, &value, sizeof(value), rq->addr)
			       : pwrite(fd, &value, sizeof(value), rq->addr);
	reply = n < 0 ? failure(errno) : n == 0 ? failure(ESRCH) /* its memory is gone */ : success(value);
	close(fd);
	return reply;
}

static struct reply process_vm(const struct request *rq)
{
	uint64_t value = rq->value;
	struct iovec here = {&value, sizeof(value)}, there = {(void *)(uintptr_t)rq->addr, sizeof(value)};
	ssize_t n = rq->op == VM_READ ? process_vm_readv(rq->pid, &here, 1, &there, 1, 0)
				      : process_vm_writev(rq->pid, &here, 1, &there, 1, 0);

	return n < 0 ? failure(errno) : success(value);
}

static struct reply clear_refs(void)
{
	int fd = open("/proc/self/clear_refs", O_WRONLY);
	struct reply reply = outcome(fd < 0 ? -1 : write(fd, "4", 1));

	if (fd >= 0)
		close(fd);
	return reply;
}

/*
 * UFFDIO_WRITEPROTECT, by a descriptor of this process's own: one that is inherited speaks for the parent's memory. Nobody
 * listens to it; a write that waits does so until the range is resolved.
 */
static struct reply uffd_writeprotect(const struct request *rq)
{
	static int fd = -1;
	static pid_t owner;
	struct uffdio_register range = {.range = {rq->addr, rq->len}, .mode = UFFDIO_REGISTER_MODE_WP};
	struct uffdio_writeprotect protect = {.range = {rq->addr, rq->len}};

	if (owner != getpid()) {
		struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP};

		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
		if (fd < 0)
			fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC); /* before 5.11 */
		if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0)
			return failure(errno);
		owner = getpid();
	}
	if (rq->op == UFFD_WP) {
		protect.mode = UFFDIO_WRITEPROTECT_MODE_WP;
		if (ioctl(fd, UFFDIO_REGISTER, &range) < 0)
			return failure(errno);
	}
	return outcome(ioctl(fd, UFFDIO_WRITEPROTECT, &protect));
}

/*
 * Each page to the other of two memory nodes, whoever else maps it. Of a page that could be isolated and then not be moved
 * the kernel tells nothing but a count of one: it is EBUSY here. Which nodes is asked first, for two may be one huge page.
 */
static struct reply migrate(const struct request *rq)
{
	struct reply reply = success(0);
	int nodes[MAX_PAGES], n = (int)(rq->len / rq->value);
	void *pages[MAX_PAGES];

	for (int i = 0; i < n; i++)
		pages[i] = (void *)(uintptr_t)(rq->addr + i * rq->value);
	if (syscall(SYS_move_pages, 0, n, pages, NULL, nodes, 0) < 0)
		return failure(errno);
	for (int i = 0; i < n; i++) {
		int to = !nodes[i], status = nodes[i] < 0 ? nodes[i] : -EBUSY;

		if (nodes[i] >= 0 && syscall(SYS_move_pages, 0, 1, &pages[i], &to, &status, MPOL_MF_MOVE_ALL) < 0)
			status = -errno;
		if (status < 0 && reply.kind == VALUE)
			reply = failure(-status);
	}
	return reply;
}

/* Is this page in memory? Only another one was touched: then both are a huge page's. ENODATA if not. */
static struct reply resident(const struct request *rq)
{
	unsigned char in_core = 0;
	int rc = mincore((void *)(uintptr_t)rq->addr, PAGE, &in_core);

	return rc < 0 ? failure(errno) : in_core & 1 ? success(0) : failure(ENODATA);
}

_Noreturn static void serve(int actor);

_Noreturn void start_process(int actor)
{
	struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != coordinator) /* it died before that took effect */
		_exit(1);
	prctl(PR_SET_PTRACER, -1); /* Yama: let the other actors use /proc/PID/mem and process_vm_* */
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	if (racing())
		race_on(actor);
	serve(actor);
}

static int start_process_fn(void *arg)
{
	start_process((int)(intptr_t)arg);
}

static void *start_thread(void *arg)
{
	if (racing())
		race_on((int)(intptr_t)arg);
	serve((int)(intptr_t)arg);
}

/* clone() itself, not fork(): glibc's wrapper cannot pass CLONE_PARENT. */
static struct reply do_fork(int child)
{
	pid_t pid = syscall(SYS_clone, (unsigned long)CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		start_process(child);
	return pid < 0 ? failure(errno) : success((uint64_t)pid);
}

/* The child gets a stack of its own: it outlives this call frame's next statement, unlike a C program's vfork(). */
static struct reply do_vfork(int child)
{
	int flags = CLONE_VM | CLONE_VFORK | CLONE_PARENT | SIGCHLD;

	return outcome(clone(start_process_fn, vfork_stacks[child] + STACK_SIZE, flags, (void *)(intptr_t)child));
}

static struct reply do_exec(int actor)
{
	char number[12];
	char *argv[] = {"agent", "--actor", number, NULL};

	snprintf(number, sizeof(number), "%d", actor);
	execve("/proc/self/exe", argv, NULL);
	return failure(errno);
}

static struct reply spawn(int actor)
{
	pthread_attr_t attr;
	pthread_t thread;
	int error;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	error = pthread_create(&thread, &attr, start_thread, (void *)(intptr_t)actor);
	return error ? failure(error) : success(0);
}

struct reply execute(int actor, const struct request *rq)
{
	void *at = (void *)(uintptr_t)rq->addr;

	switch (rq->op) {
	case LOAD:
	case STORE:
		return touch(rq);
	case FORK:
		return do_fork((int)rq->value);
	case VFORK:
		return do_vfork((int)rq->value);
	case SPAWN:
		return spawn((int)rq->value);
	case EXIT:
		_exit(0);
	case EXEC:
		return do_exec(actor);
	case MMAP: {
		void *got = mmap(at, rq->len, PROT_READ | PROT_WRITE, (int)rq->value | MAP_FIXED_NOREPLACE, rq->fd, 0);

		return got == MAP_FAILED ? failure(errno) : got != at ? failure(EEXIST) : success(0);
	}
	case PREPARE: {
		struct reply reply = success(0);

		for (int i = 0; i < test.n_prepared && reply.kind == VALUE; i++) {
			test.failed = i;
			reply = execute(actor, &test.prepared[i].rq);
		}
		return reply;
	}
	case RESIDENT:
		return resident(rq);
	case THP_DISABLE:
		return outcome(prctl(PR_SET_THP_DISABLE, rq->value, 0, 0, 0));
	case RACE:
		race_on(actor);
		return success(0);
	case MUNMAP:
		return outcome(munmap(at, rq->len));
	case MPROTECT:
		return outcome(mprotect(at, rq->len, (int)rq->value));
	case MREMAP: {
		void *to = (char *)at + MOVE_DISTANCE;

		return outcome(mremap(at, rq->len, rq->len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED ? -1 : 0);
	}
	case MLOCK:
		return outcome(mlock(at, rq->len));
	case MADVISE:
		return outcome(madvise(at, rq->len, (int)rq->value));
	case CLEAR_REFS:
		return clear_refs();
	case UFFD_WP:
	case UFFD_WP_RESOLVE:
		return uffd_writeprotect(rq);
	case PIN:
		return hold(rq);
	case LET_GO:
		return let_go(rq);
	case VM_READ:
	case VM_WRITE:
		return process_vm(rq);
	case MEM_READ:
	case MEM_WRITE:
		return proc_mem(rq);
	case MIGRATE:
		return migrate(rq);
	case HANG: /* for the agent's own tests */
		for (;;)
			pause();
	case CRASH:
		abort();
	default:
		return failure(ENOSYS);
	}
}

/*
 * Sent, not caused: the kernel logs caused ones. To this thread, as a caused one would be: another one may be deaf to it,
 * in vfork().
 */
_Noreturn void die_of(int sig)
{
	signal(sig, SIG_DFL);
	syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), sig);
	_exit(1);
}

/* Answer requests until told to end. The first answer says that the actor exists, and its pid. */
static void serve(int actor)
{
	int channel = FIRST_CHANNEL + actor;
	struct reply reply = success((uint64_t)getpid());
	struct request rq;

	for (;;) {
		if (send(channel, &reply, sizeof(reply), MSG_NOSIGNAL) != sizeof(reply) ||
		    recv(channel, &rq, sizeof(rq), 0) != sizeof(rq))
			_exit(1);
		reply = execute(actor, &rq);
		if (reply.kind == SIGNAL && rq.fatal) {
			send(channel, &reply, sizeof(reply), MSG_NOSIGNAL); /* say why first */
			die_of((int)reply.value);
		}
	}
}
