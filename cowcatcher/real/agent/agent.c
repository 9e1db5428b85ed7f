// SPDX-License-Identifier: Apache-2.0
/*
 * The agent: executes litmus tests in ordered form on the kernel it runs on.
 *
 * Tests come as text on standard input, results leave as text on standard output (both are described in
 * real/lower.py, their only writer and reader). For each test the coordinator (this program's first process) forks
 * process 0; every process and thread of the test then executes one request at a time from its own socket pair, so
 * that the order of the test's statements is exactly the order in which the coordinator sends them.
 *
 *  - Every test process is made with CLONE_PARENT, hence a child of the coordinator: one waitpid() loop reaps the
 *    whole family, every exit status is known, and PR_SET_PDEATHSIG, which is about the *parent*, takes the family
 *    down if the coordinator dies, yet not when some process in the middle of the family exits.
 *  - Nothing is reaped before the test is over. A zombie has lost its memory already, which is all that the tests are
 *    about, and keeps its pid and the process group from being given to somebody else in the meantime.
 *  - "Devices" live in the coordinator, which never maps the memory under test: io_uring rings whose fixed buffers the
 *    test processes register, and pipes into which they vmsplice.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef PR_SET_PTRACER
#define PR_SET_PTRACER 0x59616d61
#endif

enum {
	PAGE = 4096,
	MAX_ACTORS = 16,
	MAX_SLOTS = 16, /* mappings of a test */
	MAX_PAGES = 8,
	MAX_CELLS = 64, /* initial values of a test */
	MAX_PINS = 16,
	MAX_STEPS = 1024,
	WHOLE = -1, /* page number: the whole mapping */
	STACK_SIZE = 64 << 10,
	REAP_MS = 5000, /* what a SIGKILLed process may take to disappear before the agent gives up on the machine */
	FLUSH_MS = 2,
	EXIT_UNKILLABLE = 3,
};

/* Mapping s lies at BASE + s * SLOT_DISTANCE; each mremap() moves a page on by MOVE_DISTANCE. Fits a 39-bit space. */
#define BASE 0x1000000000ull
#define SLOT_DISTANCE (64ull << 20)
#define MOVE_DISTANCE (4ull << 30)

/* ---- what the coordinator asks of an actor ------------------------------------------------------------------------ */

/* The names, as they stand in the text, are in the same order below. */
enum op {
	/* executed by the actor */
	LOAD, STORE, FORK, VFORK, EXIT, EXEC, MUNMAP, MPROTECT, MREMAP, MLOCK, MADVISE, CLEAR_REFS, URING_PIN, PIPE_PIN,
	VM_READ, VM_WRITE, MEM_READ, MEM_WRITE, HANG, CRASH,
	/* executed by the coordinator */
	WAIT, POST, AWAIT, UNPIN, DMA_READ, DMA_WRITE,
	/* not in the text */
	MMAP, RESIDENT, THP_DISABLE, SPAWN,
	N_OPS = MMAP,
};

static const char *const op_names[N_OPS] = {
	"load", "store", "fork", "vfork", "exit", "exec", "munmap", "mprotect", "mremap", "mlock", "madvise", "clear_refs",
	"uring_pin", "pipe_pin", "vm_read", "vm_write", "mem_read", "mem_write", "hang", "crash",
	"wait", "post", "await", "unpin", "dma_read", "dma_write",
};

struct request {
	enum op op;
	bool fatal; /* a SIGSEGV or SIGBUS is to be died of */
	int fd; /* or -1 */
	pid_t pid; /* another process */
	uint64_t addr, len, value;
};

enum answer { VALUE, ERROR, SIGNAL, /* never sent by an actor: */ KILLED, NOT_RUN, BLOCKED };
static const char *const answer_names[] = {"value", "error", "signal", "killed", "not_run", "blocked"};

struct reply {
	enum answer kind;
	uint64_t value; /* the value, the errno, the signal */
};

/* ---- one test ----------------------------------------------------------------------------------------------------- */

enum actor_kind { PROCESS = 'p', THREAD = 't', DEVICE = 'd' };
enum life { UNBORN, ALIVE, ENDED };

struct actor {
	enum actor_kind kind;
	int owner; /* the process of a thread; itself for a process */
	int near, far; /* its socket pair: the coordinator's end, its own */
	enum life life;
	bool stuck; /* waits for something that can no longer come */
	int suspends; /* the actor that waits in vfork() for this one, or -1 */
	int mm; /* the process whose address space it runs on: another than its own between vfork() and exec() */
	pid_t pid; /* processes only, as the rest below */
	int pidfd;
};

struct mapping {
	char kind[16];
	char touch; /* 'w', 'r' or '-' */
	int pages, prot, backing;
	uint64_t stride, length; /* from page to page, of the whole */
};

struct cell { int slot, offset; uint64_t value; };
struct step { int actor, op, slot, page, offset, target; uint64_t value; int fatal; };

enum pin_state { UNUSED, ON_RING, IN_PIPE };
struct pin { enum pin_state state; uint64_t addr, stride; int pipe[2]; };

struct test {
	long id, timeout_ms;
	int trace;
	int n_actors, n_slots, n_cells, n_steps;
	struct actor actors[MAX_ACTORS];
	struct mapping maps[MAX_SLOTS];
	struct cell cells[MAX_CELLS];
	struct step steps[MAX_STEPS];
	struct pin pins[MAX_PINS];
	int events[MAX_ACTORS * 4];
	unsigned moves[MAX_ACTORS][MAX_SLOTS][MAX_PAGES]; /* per mm: how often mremap() moved the page */
	pid_t group;
	uint64_t deadline;
};

static struct test test;
static const char *files_dir; /* where file mappings get their files; NULL: memory */
static char vfork_stacks[MAX_ACTORS][STACK_SIZE] __attribute__((aligned(16)));

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

static struct reply success(uint64_t value)
{
	return (struct reply){VALUE, value};
}

static struct reply failure(int error)
{
	return (struct reply){ERROR, error};
}

static struct reply outcome(long rc)
{
	return rc < 0 ? failure(errno) : success(0);
}

/* ---- the actor's side --------------------------------------------------------------------------------------------- */

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
	uint64_t value = 0;
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
	n = rq->op == MEM_READ ? pread(fd, &value, sizeof(value), rq->addr) : pwrite(fd, &value, sizeof(value), rq->addr);
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

/* Is this page in memory? Only another one was touched: then both are a huge page's. */
static struct reply resident(const struct request *rq)
{
	unsigned char in_core = 0;
	int rc = mincore((void *)(uintptr_t)rq->addr, PAGE, &in_core);

	return rc < 0 ? failure(errno) : success(in_core & 1);
}

_Noreturn static void serve(int actor);

_Noreturn static void start_process(int actor)
{
	struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_PTRACER, -1); /* Yama: let the other actors use /proc/PID/mem and process_vm_* */
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	serve(actor);
}

static int start_process_fn(void *arg)
{
	start_process((int)(intptr_t)arg);
}

static void *start_thread(void *arg)
{
	serve((int)(intptr_t)arg);
}

/* clone() itself, not fork(): glibc's wrapper cannot pass CLONE_PARENT. */
static struct reply do_fork(int child)
{
	pid_t pid = syscall(SYS_clone, (unsigned long)CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		start_process(child);
	return outcome(pid);
}

/* The child gets a stack of its own: it outlives this call frame's next statement, unlike a C program's vfork(). */
static struct reply do_vfork(int child)
{
	return outcome(clone(start_process_fn, vfork_stacks[child] + STACK_SIZE, CLONE_VM | CLONE_VFORK | CLONE_PARENT | SIGCHLD,
			     (void *)(intptr_t)child));
}

static struct reply do_exec(int actor)
{
	char actor_arg[12], channel_arg[12];
	char *argv[] = {"agent", "--actor", actor_arg, channel_arg, NULL};

	snprintf(actor_arg, sizeof(actor_arg), "%d", actor);
	snprintf(channel_arg, sizeof(channel_arg), "%d", test.actors[actor].far);
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

static struct reply execute(int actor, const struct request *rq)
{
	void *at = (void *)(uintptr_t)rq->addr;
	struct iovec range = {at, rq->len};

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
	case RESIDENT:
		return resident(rq);
	case THP_DISABLE:
		return outcome(prctl(PR_SET_THP_DISABLE, rq->value, 0, 0, 0));
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
	case URING_PIN:
		return outcome(syscall(SYS_io_uring_register, rq->fd, IORING_REGISTER_BUFFERS, &range, 1));
	case PIPE_PIN: {
		ssize_t n = vmsplice(rq->fd, &range, 1, SPLICE_F_NONBLOCK);

		return n < 0 ? failure(errno) : (size_t)n < rq->len ? failure(EAGAIN) : success(0);
	}
	case VM_READ:
	case VM_WRITE:
		return process_vm(rq);
	case MEM_READ:
	case MEM_WRITE:
		return proc_mem(rq);
	case HANG: /* for the agent's own tests */
		for (;;)
			pause();
	case CRASH:
		abort();
	default:
		return failure(ENOSYS);
	}
}

/* Answer requests until told to end. The first answer says that the actor exists, and its pid. */
static void serve(int actor)
{
	int channel = test.actors[actor].far;
	struct reply reply = success((uint64_t)getpid());
	struct request rq;

	for (;;) {
		if (send(channel, &reply, sizeof(reply), MSG_NOSIGNAL) != sizeof(reply) ||
		    recv(channel, &rq, sizeof(rq), 0) != sizeof(rq))
			_exit(1);
		reply = execute(actor, &rq);
		if (reply.kind == SIGNAL && rq.fatal) {
			/* Say why, then die of the same signal, sent rather than caused: the kernel logs caused ones. */
			send(channel, &reply, sizeof(reply), MSG_NOSIGNAL);
			signal((int)reply.value, SIG_DFL);
			kill(getpid(), (int)reply.value);
		}
	}
}

/* ---- devices: io_uring -------------------------------------------------------------------------------------------- */

/*
 * One ring per pin, kept from test to test. The coordinator owns ring and queues; a test process that inherited the
 * descriptor registers its memory as the ring's fixed buffer, which takes a writable long-term pin. READ_FIXED and
 * WRITE_FIXED between that buffer and a memfd are then the device's accesses.
 */
struct ring {
	int fd, error; /* error: why there is no ring, errno */
	unsigned *sq_tail, *sq_array, *cq_head;
	unsigned *cq_tail;
	unsigned sq_mask, cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static struct ring rings[MAX_PINS] = {[0 ... MAX_PINS - 1] = {.fd = -1}};
static int bounce = -1; /* one word of "device memory" */

static void *ring_map(int fd, size_t len, uint64_t offset)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (off_t)offset);

	if (p != MAP_FAILED)
		madvise(p, len, MADV_DONTFORK); /* none of a test process's business */
	return p;
}

static int ring_open(struct ring *r)
{
	struct io_uring_params p = {0};
	char *sq, *cq;

	if (r->fd >= 0)
		return 0;
	if (bounce < 0 && ((bounce = memfd_create("bounce", MFD_CLOEXEC)) < 0 || ftruncate(bounce, PAGE) < 0))
		return errno;
	r->fd = (int)syscall(SYS_io_uring_setup, 1, &p);
	if (r->fd < 0)
		return errno;
	sq = ring_map(r->fd, p.sq_off.array + p.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
	cq = ring_map(r->fd, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
	r->sqes = ring_map(r->fd, p.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || r->sqes == MAP_FAILED) {
		int error = errno;

		close(r->fd);
		r->fd = -1;
		return error;
	}
	r->sq_tail = (unsigned *)(sq + p.sq_off.tail);
	r->sq_array = (unsigned *)(sq + p.sq_off.array);
	r->sq_mask = *(unsigned *)(sq + p.sq_off.ring_mask);
	r->cq_head = (unsigned *)(cq + p.cq_off.head);
	r->cq_tail = (unsigned *)(cq + p.cq_off.tail);
	r->cq_mask = *(unsigned *)(cq + p.cq_off.ring_mask);
	r->cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
	return 0;
}

/* One word between the fixed buffer, at the address it had when it was registered, and the bounce file. */
static struct reply ring_dma(struct ring *r, bool device_writes, uint64_t addr, uint64_t value)
{
	unsigned tail = *r->sq_tail, index = tail & r->sq_mask, head = *r->cq_head;
	struct io_uring_sqe *sqe = &r->sqes[index];
	int result;

	if (device_writes && pwrite(bounce, &value, sizeof(value), 0) != sizeof(value))
		return failure(errno);
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = device_writes ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
	sqe->fd = bounce;
	sqe->addr = addr;
	sqe->len = sizeof(value);
	r->sq_array[index] = index;
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		return failure(errno);
	if (head == __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE))
		return failure(EIO);
	result = r->cqes[head & r->cq_mask].res;
	__atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
	if (result != sizeof(value))
		return failure(result < 0 ? -result : EIO);
	if (!device_writes && pread(bounce, &value, sizeof(value), 0) != sizeof(value))
		return failure(errno);
	return (struct reply){VALUE, device_writes ? 0 : value};
}

/* ---- devices: pipes ----------------------------------------------------------------------------------------------- */

/* What the pipe's pages hold at an offset from its start. tee() first: reading would end the references under test. */
static struct reply pipe_read(const struct pin *pin, size_t offset)
{
	static char bytes[MAX_PAGES * PAGE];
	size_t need = offset + sizeof(uint64_t);
	struct reply reply = failure(EIO);
	int copy[2];

	if (need > sizeof(bytes) || pipe2(copy, O_CLOEXEC | O_NONBLOCK) < 0)
		return failure(errno);
	if (tee(pin->pipe[0], copy[1], need, SPLICE_F_NONBLOCK) == (ssize_t)need && read(copy[0], bytes, need) == (ssize_t)need) {
		uint64_t value;

		memcpy(&value, bytes + offset, sizeof(value));
		reply = success(value);
	}
	close(copy[0]);
	close(copy[1]);
	return reply;
}

static struct reply unpin(int index)
{
	struct pin *pin = &test.pins[index];
	struct reply reply = {VALUE, 0};

	if (pin->state == ON_RING)
		reply = outcome(syscall(SYS_io_uring_register, rings[index].fd, IORING_UNREGISTER_BUFFERS, NULL, 0));
	else if (pin->state == IN_PIPE) {
		/* Drained, not closed: the test processes have inherited the descriptors. */
		char page[PAGE];

		while (read(pin->pipe[0], page, sizeof(page)) > 0)
			;
	} else
		return failure(EINVAL);
	pin->state = UNUSED;
	return reply;
}

/* ---- what the page tables say ------------------------------------------------------------------------------------- */

enum { PM_SWAP = 62, PM_PRESENT = 63 }; /* bits of a /proc/PID/pagemap entry */
#define PM_PFN ((UINT64_C(1) << 55) - 1)

static int kpagecount = -1, kpageflags = -1; /* root only */

static uint64_t word_of(int fd, uint64_t index)
{
	uint64_t word = 0;

	return fd >= 0 && pread(fd, &word, sizeof(word), index * sizeof(word)) == sizeof(word) ? word : 0;
}

static int open_pagemap(pid_t pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static uint64_t address(int mm, int slot, int page)
{
	if (page == WHOLE)
		page = 0;
	return BASE + slot * SLOT_DISTANCE + test.moves[mm][slot][page] * MOVE_DISTANCE + page * test.maps[slot].stride;
}

/* Is anything mapped there at all? */
static bool in_maps(pid_t pid, uint64_t addr)
{
	char path[32], line[512];
	uint64_t from, to;
	bool found = false;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	while (maps && !found && fgets(line, sizeof(line), maps))
		found = sscanf(line, "%" SCNx64 "-%" SCNx64, &from, &to) == 2 && from <= addr && addr < to;
	if (maps)
		fclose(maps);
	return found;
}

/* page STEP ACTOR SLOT PAGE present|swapped|empty|none|unknown PFN MAPCOUNT FLAGS, for every page of every living process */
static void print_pages(int step)
{
	for (int a = 0; a < test.n_actors; a++) {
		const struct actor *who = &test.actors[a];
		int fd;

		if (who->kind != PROCESS || who->life != ALIVE)
			continue;
		fd = open_pagemap(who->pid);
		for (int slot = 0; slot < test.n_slots; slot++) {
			for (int page = 0; page < test.maps[slot].pages; page++) {
				uint64_t addr = address(who->mm, slot, page), entry = word_of(fd, addr / PAGE);
				bool present = entry >> PM_PRESENT & 1;
				uint64_t pfn = present ? entry & PM_PFN : 0;
				const char *state = fd < 0 ? "unknown" : present ? "present" : entry >> PM_SWAP & 1 ? "swapped"
						    : in_maps(who->pid, addr) ? "empty" : "none";

				printf("page %d %d %d %d %s %" PRIx64 " %" PRIu64 " %" PRIx64 "\n", step, a, slot, page, state, pfn,
				       pfn ? word_of(kpagecount, pfn) : 0, pfn ? word_of(kpageflags, pfn) : 0);
			}
		}
		if (fd >= 0)
			close(fd);
	}
}

/* pin STEP PIN PAGE PFN, right after the pin was taken, when its owner's page table still leads to it */
static void print_pin(int step, int index, pid_t pid, uint64_t addr, uint64_t len, uint64_t stride)
{
	int fd = open_pagemap(pid);

	for (uint64_t page = 0; page * stride < len && page < MAX_PAGES; page++) {
		uint64_t entry = word_of(fd, (addr + page * stride) / PAGE);

		printf("pin %d %d %" PRIu64 " %" PRIx64 "\n", step, index, page,
		       entry >> PM_PRESENT & 1 ? entry & PM_PFN : UINT64_C(0));
	}
	if (fd >= 0)
		close(fd);
}

/* ---- the coordinator: asking one actor ---------------------------------------------------------------------------- */

static struct actor *process_of(struct actor *who)
{
	return &test.actors[who->owner];
}

enum heard { HEARD, DIED, LATE };

/* poll() until something happens or the test's time is over. What takes long may be a crash: say first how far we got. */
static bool something_happens(struct pollfd *fds, nfds_t n)
{
	uint64_t now;

	if (poll(fds, n, FLUSH_MS) > 0)
		return true;
	fflush(stdout);
	now = now_us();
	return now < test.deadline && poll(fds, n, (int)((test.deadline - now) / 1000) + 1) > 0;
}

static enum heard hear(struct actor *who, struct reply *reply)
{
	struct pollfd fds[] = {{.fd = who->near, .events = POLLIN}, {.fd = process_of(who)->pidfd, .events = POLLIN}};

	while (something_happens(fds, 2)) {
		if (fds[0].revents && recv(who->near, reply, sizeof(*reply), MSG_DONTWAIT) == sizeof(*reply))
			return HEARD;
		if (fds[1].revents)
			return DIED;
	}
	return LATE;
}

/* Everything that runs in this process has come to its end. */
static void buried(struct actor *process)
{
	int index = (int)(process - test.actors);

	for (int a = 0; a < test.n_actors; a++)
		if (test.actors[a].owner == index && test.actors[a].life == ALIVE)
			test.actors[a].life = ENDED;
}

/* The one that called vfork() runs on, now that its child has an address space of its own or none at all. */
static enum heard release_vfork(struct actor *child)
{
	struct reply ignored;
	int parent = child->suspends;

	child->suspends = -1;
	return parent < 0 ? HEARD : hear(&test.actors[parent], &ignored);
}

static enum heard await_end(struct actor *process)
{
	if (!something_happens(&(struct pollfd){.fd = process->pidfd, .events = POLLIN}, 1))
		return LATE;
	buried(process);
	return release_vfork(process) == LATE ? LATE : DIED;
}

static enum heard ask(int actor, struct request *rq, struct reply *reply)
{
	struct actor *who = &test.actors[actor];
	enum heard heard;

	if (send(who->near, rq, sizeof(*rq), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return await_end(process_of(who));
	heard = hear(who, reply);
	return heard == DIED ? await_end(process_of(who)) : heard;
}

/* A new process announces itself on its own channel. */
static enum heard greet(struct actor *process)
{
	struct reply hello;
	enum heard heard = hear(process, &hello);

	if (heard != HEARD)
		return heard;
	process->pid = (pid_t)hello.value;
	process->pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
	process->life = ALIVE;
	return process->pidfd < 0 ? DIED : HEARD;
}

static enum heard spawn_threads(int process)
{
	enum heard heard = HEARD;

	for (int a = 0; a < test.n_actors && heard == HEARD; a++) {
		struct actor *who = &test.actors[a];
		struct request rq = {.op = SPAWN, .value = a};
		struct reply reply;

		if (who->kind != THREAD || who->owner != process)
			continue;
		heard = ask(process, &rq, &reply);
		if (heard == HEARD && reply.kind == VALUE)
			heard = hear(who, &reply);
		if (heard == HEARD)
			who->life = ALIVE;
	}
	return heard;
}

/* ---- the coordinator: one step ------------------------------------------------------------------------------------ */

/* A failing fork answers on its caller's channel alone, a working vfork on its child's alone: listen to both. */
static enum heard begin_child(const struct step *st, struct reply *reply)
{
	struct actor *parent = &test.actors[st->actor], *child = &test.actors[st->target];
	struct request rq = {.op = st->op, .value = st->target};
	struct pollfd fds[] = {{.fd = parent->near, .events = POLLIN},
			       {.fd = child->near, .events = POLLIN},
			       {.fd = process_of(parent)->pidfd, .events = POLLIN}};
	bool answered = false;
	enum heard heard;

	send(parent->near, &rq, sizeof(rq), MSG_NOSIGNAL | MSG_DONTWAIT);
	if (!something_happens(fds, 3))
		return LATE;
	if (fds[0].revents) {
		heard = hear(parent, reply);
		if (heard != HEARD || reply->kind != VALUE)
			return heard;
		answered = true;
	} else if (fds[2].revents)
		return await_end(process_of(parent));
	heard = greet(child);
	if (heard != HEARD)
		return heard;
	if (st->op == VFORK) {
		child->suspends = st->actor;
		child->mm = process_of(parent)->mm;
		*reply = success(0);
		return HEARD;
	}
	memcpy(test.moves[st->target], test.moves[process_of(parent)->mm], sizeof(test.moves[0]));
	if (!answered)
		heard = hear(parent, reply);
	return heard == HEARD ? spawn_threads(st->target) : heard;
}

static enum heard do_dma(const struct step *st, struct reply *reply)
{
	const struct pin *pin = &test.pins[st->target];
	uint64_t offset = st->page * pin->stride + st->offset;

	*reply = failure(EIO); /* there is no such pin: it was not taken */
	if (pin->state == ON_RING)
		*reply = ring_dma(&rings[st->target], st->op == DMA_WRITE, pin->addr + offset, st->value);
	else if (pin->state == IN_PIPE && st->op == DMA_READ)
		*reply = pipe_read(pin, offset);
	return HEARD;
}

static enum heard take_pin(int index, const struct step *st, struct request *rq, struct reply *reply)
{
	struct actor *who = &test.actors[st->actor];
	struct pin *pin = &test.pins[st->target];
	enum heard heard;

	rq->fd = st->op == URING_PIN ? rings[st->target].fd : pin->pipe[1];
	if (st->op == PIPE_PIN && st->page == WHOLE) /* a pipe has few slots: the named pages, not a whole huge page */
		rq->len = test.maps[st->slot].pages * test.maps[st->slot].stride;
	heard = ask(st->actor, rq, reply);
	if (heard == HEARD && reply->kind == VALUE) {
		pin->state = st->op == URING_PIN ? ON_RING : IN_PIPE;
		pin->addr = rq->addr;
		pin->stride = test.maps[st->slot].stride;
		print_pin(index, st->target, process_of(who)->pid, rq->addr, rq->len, pin->stride);
	}
	return heard;
}

static enum heard do_exec_step(int actor, struct request *rq, struct reply *reply)
{
	struct actor *who = &test.actors[actor];
	enum heard heard = ask(actor, rq, reply); /* the new program's greeting, or why there is none */

	if (heard != HEARD || reply->kind != VALUE)
		return heard;
	reply->value = 0;
	for (int a = 0; a < test.n_actors; a++)
		if (test.actors[a].kind == THREAD && test.actors[a].owner == who->owner)
			test.actors[a].life = ENDED;
	process_of(who)->mm = who->owner;
	memset(test.moves[who->owner], 0, sizeof(test.moves[0]));
	return release_vfork(process_of(who));
}

static enum heard do_step(int index, const struct step *st, struct reply *reply)
{
	struct actor *who = &test.actors[st->actor];
	const struct mapping *map = &test.maps[st->slot];
	struct request rq = {.op = st->op, .fatal = st->fatal, .fd = -1, .value = st->value};
	int mm = process_of(who)->mm;
	enum heard heard;

	*reply = (struct reply){ERROR, 0};
	switch (st->op) {
	case POST:
		test.events[st->target]++;
		*reply = success(0);
		return HEARD;
	case AWAIT:
		*reply = (struct reply){test.events[st->target] ? VALUE : BLOCKED, 0};
		if (test.events[st->target])
			test.events[st->target]--;
		return HEARD;
	case WAIT:
		*reply = (struct reply){test.actors[st->target].life == ENDED ? VALUE : BLOCKED, 0};
		return HEARD;
	case UNPIN:
		*reply = unpin(st->target);
		return HEARD;
	case DMA_READ:
	case DMA_WRITE:
		return do_dma(st, reply);
	case FORK:
	case VFORK:
		return begin_child(st, reply);
	case EXEC:
		return do_exec_step(st->actor, &rq, reply);
	case EXIT:
		heard = ask(st->actor, &rq, reply);
		*reply = success(0);
		return heard == DIED ? HEARD : heard;
	case VM_READ:
	case VM_WRITE:
	case MEM_READ:
	case MEM_WRITE:
		if (test.actors[st->target].life == UNBORN) {
			*reply = failure(ESRCH);
			return HEARD;
		}
		rq.pid = test.actors[st->target].pid;
		mm = test.actors[st->target].mm;
		break;
	}
	rq.addr = address(mm, st->slot, st->page) + st->offset;
	rq.len = st->page == WHOLE ? map->length : map->stride;
	if (st->op == URING_PIN || st->op == PIPE_PIN)
		return take_pin(index, st, &rq, reply);
	heard = ask(st->actor, &rq, reply);
	if (heard == HEARD && reply->kind == SIGNAL && st->fatal)
		heard = await_end(process_of(who)) == LATE ? LATE : HEARD;
	if (heard == HEARD && st->op == MREMAP && reply->kind == VALUE)
		for (int page = 0; page < map->pages; page++)
			if (st->page == WHOLE || st->page == page)
				test.moves[mm][st->slot][page]++;
	return heard;
}

/* ---- the coordinator: one test ------------------------------------------------------------------------------------ */

/* A file of the mapping's contents, or -1 for anonymous memory. *error is set when there should be one and is not. */
static int make_backing(int slot, int *error)
{
	const struct mapping *map = &test.maps[slot];
	bool file = !strncmp(map->kind, "file", 4);
	int fd = -1;

	if (!file && strcmp(map->kind, "memfd"))
		return -1;
	if (file && files_dir)
		fd = open(files_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	else
		fd = memfd_create("backing", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, (off_t)map->length) < 0) {
		*error = errno;
		return fd;
	}
	for (int c = 0; c < test.n_cells; c++)
		for (int page = 0; page < map->pages && test.cells[c].slot == slot; page++)
			if (pwrite(fd, &test.cells[c].value, sizeof(uint64_t), page * map->stride + test.cells[c].offset) < 0)
				*error = errno;
	return fd;
}

static bool is_thp(const struct mapping *map)
{
	return !strcmp(map->kind, "thp");
}

static int map_flags(const struct mapping *map)
{
	bool huge = !strncmp(map->kind, "hugetlb", 7);
	bool private = !strcmp(map->kind, "anon") || is_thp(map) || strstr(map->kind, "private");

	return (private ? MAP_PRIVATE : MAP_SHARED) | (map->backing < 0 ? MAP_ANONYMOUS : 0) | (huge ? MAP_HUGETLB : 0);
}

/* One request of the setup to process 0; false, with the reason printed, when it does not succeed. */
static bool prepare(struct request rq, int slot, const char *what)
{
	struct reply reply = {ERROR, ETIMEDOUT};

	if (ask(0, &rq, &reply) == HEARD && reply.kind == VALUE && (rq.op != RESIDENT || reply.value))
		return true;
	printf("setup %d %s %s %" PRIu64 "\n", slot, what, answer_names[reply.kind], reply.value);
	return false;
}

static bool map_one(int slot)
{
	const struct mapping *map = &test.maps[slot];
	uint64_t at = address(0, slot, 0);
	bool thp = is_thp(map);

	/* What is not meant to be huge must not become so on a machine where huge pages are handed out unasked. */
	if (!prepare((struct request){.op = THP_DISABLE, .value = !thp}, slot, "prctl") ||
	    !prepare((struct request){.op = MMAP, .fd = map->backing, .addr = at, .len = map->length, .value = map_flags(map)},
		     slot, "mmap"))
		return false;
	if (thp && !prepare((struct request){.op = MADVISE, .addr = at, .len = map->length, .value = MADV_HUGEPAGE}, slot, "madvise"))
		return false;
	for (int page = 0; page < map->pages; page++) {
		uint64_t page_at = address(0, slot, page);

		if (map->touch == 'r' && !prepare((struct request){.op = LOAD, .addr = page_at}, slot, "touch"))
			return false;
		for (int c = 0; c < test.n_cells && map->touch == 'w'; c++) {
			struct request rq = {.op = STORE, .addr = page_at + test.cells[c].offset, .value = test.cells[c].value};

			if (test.cells[c].slot == slot && !prepare(rq, slot, "touch"))
				return false;
		}
	}
	if (thp && map->touch == 'w' &&
	    !prepare((struct request){.op = RESIDENT, .addr = at + map->length - PAGE}, slot, "huge_page"))
		return false;
	if (map->prot != (PROT_READ | PROT_WRITE) &&
	    !prepare((struct request){.op = MPROTECT, .addr = at, .len = map->length, .value = map->prot}, slot, "mprotect"))
		return false;
	return true;
}

static bool make_devices(void)
{
	for (int i = 0; i < test.n_steps; i++) {
		const struct step *st = &test.steps[i];
		struct pin *pin = &test.pins[st->target];
		int error = 0;

		if (st->op == URING_PIN)
			error = ring_open(&rings[st->target]);
		else if (st->op == PIPE_PIN && pin->pipe[0] < 0 && pipe2(pin->pipe, O_CLOEXEC | O_NONBLOCK) < 0)
			error = errno;
		if (error) {
			printf("setup %d %s error %d\n", st->slot, st->op == URING_PIN ? "io_uring_setup" : "pipe", error);
			return false;
		}
	}
	return true;
}

static bool start_family(void)
{
	pid_t pid;

	for (int a = 0; a < test.n_actors; a++) {
		int pair[2];

		if (test.actors[a].kind == DEVICE)
			continue;
		/* No SOCK_CLOEXEC: exec() is one of the statements, and its actor goes on answering. */
		if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0) {
			printf("setup 0 socketpair error %d\n", errno);
			return false;
		}
		test.actors[a].near = pair[0];
		test.actors[a].far = pair[1];
	}
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		start_process(0);
	}
	if (pid < 0) {
		printf("setup 0 fork error %d\n", errno);
		return false;
	}
	setpgid(pid, pid); /* both sides do it: whoever is first, it is done when either goes on */
	test.group = pid;
	if (greet(&test.actors[0]) != HEARD) {
		printf("setup 0 start error %d\n", ETIMEDOUT);
		return false;
	}
	return true;
}

static bool set_up(void)
{
	for (int slot = 0; slot < test.n_slots; slot++) {
		int error = 0;

		test.maps[slot].backing = make_backing(slot, &error);
		if (error) {
			printf("setup %d backing error %d\n", slot, error);
			return false;
		}
	}
	if (!make_devices() || !start_family())
		return false;
	/* Huge mappings last: see map_one(). */
	for (int huge = 0; huge < 2; huge++)
		for (int slot = 0; slot < test.n_slots; slot++)
			if (is_thp(&test.maps[slot]) == huge && !map_one(slot))
				return false;
	return spawn_threads(0) == HEARD;
}

/* The status of the test; *last is the step it ended with. */
static const char *run_steps(int *last)
{
	for (int i = 0; i < test.n_steps; i++) {
		const struct step *st = &test.steps[i];
		struct actor *who = &test.actors[st->actor];
		struct reply reply = {NOT_RUN, 0};
		enum heard heard = HEARD;

		*last = i;
		if (who->stuck)
			reply.kind = BLOCKED;
		else if (who->kind == DEVICE || who->life == ALIVE)
			heard = do_step(i, st, &reply);
		if (heard == LATE)
			return "timeout";
		if (heard == DIED)
			reply.kind = KILLED;
		if (reply.kind == BLOCKED)
			who->stuck = true;
		printf("step %d %s %" PRIu64 "\n", i, answer_names[reply.kind], reply.value);
		if (test.trace)
			print_pages(i);
	}
	if (!test.trace)
		print_pages(test.n_steps - 1);
	return "done";
}

static void print_ends(void)
{
	for (int a = 0; a < test.n_actors; a++) {
		siginfo_t info = {0};

		if (test.actors[a].kind != PROCESS || test.actors[a].life != ENDED)
			continue;
		if (waitid(P_PID, test.actors[a].pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid)
			printf("end %d %s %d\n", a, info.si_code == CLD_EXITED ? "exit" : "signal", info.si_status);
	}
}

/* Nothing of a test outlives it: processes first, since what they hold can hold up the rest. */
static void clean_up(void)
{
	uint64_t give_up = now_us() + REAP_MS * 1000ull;
	const struct timespec nap = {.tv_nsec = 20 * 1000 * 1000};
	sigset_t chld;
	pid_t pid;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	if (test.group > 0)
		kill(-test.group, SIGKILL);
	while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0) {
		if (pid > 0)
			continue;
		if (now_us() > give_up) {
			printf("unkillable %ld\n", test.id);
			fflush(stdout);
			_exit(EXIT_UNKILLABLE); /* the rest is for a fresh agent, or a fresh machine */
		}
		sigtimedwait(&chld, NULL, &nap);
	}
	for (int i = 0; i < MAX_PINS; i++) {
		struct pin *pin = &test.pins[i];

		if (pin->state != UNUSED)
			unpin(i);
		if (pin->pipe[0] >= 0) {
			close(pin->pipe[0]);
			close(pin->pipe[1]);
		}
	}
	for (int a = 0; a < test.n_actors; a++) {
		const int fds[] = {test.actors[a].near, test.actors[a].far, test.actors[a].pidfd};

		for (int i = 0; i < 3; i++)
			if (fds[i] >= 0)
				close(fds[i]);
	}
	for (int slot = 0; slot < test.n_slots; slot++)
		if (test.maps[slot].backing >= 0)
			close(test.maps[slot].backing);
}

static void run_test(void)
{
	uint64_t start = now_us();
	const char *status = "setup";
	int last = -1;

	printf("test %ld\n", test.id);
	test.deadline = start + test.timeout_ms * 1000ull;
	if (set_up())
		status = run_steps(&last);
	print_ends();
	clean_up();
	printf("done %ld %s %d %" PRIu64 "\n", test.id, status, last, now_us() - start);
	fflush(stdout);
}

/* ---- reading the text --------------------------------------------------------------------------------------------- */

static void syntax(const char *line) __attribute__((noreturn));
static void syntax(const char *line)
{
	fprintf(stderr, "agent: cannot read: %s", line);
	_exit(2);
}

static int op_of(const char *name)
{
	for (int op = 0; op < N_OPS; op++)
		if (!strcmp(name, op_names[op]))
			return op;
	return -1;
}

static void new_test(const char *line)
{
	memset(&test, 0, sizeof(test));
	for (int i = 0; i < MAX_PINS; i++)
		test.pins[i].pipe[0] = test.pins[i].pipe[1] = -1;
	for (int slot = 0; slot < MAX_SLOTS; slot++)
		test.maps[slot].backing = -1;
	if (sscanf(line, "test %ld %ld %d", &test.id, &test.timeout_ms, &test.trace) != 3)
		syntax(line);
}

static bool in(int value, int end)
{
	return value >= 0 && value < end;
}

static void read_line(const char *line)
{
	struct mapping *map = &test.maps[test.n_slots];
	struct step *st = &test.steps[test.n_steps];
	struct cell *cell = &test.cells[test.n_cells];
	char name[16], kind;
	int owner;

	if (sscanf(line, "actor %c %d", &kind, &owner) == 2 && in(test.n_actors, MAX_ACTORS) && in(owner, MAX_ACTORS)) {
		test.actors[test.n_actors] = (struct actor){
			.kind = kind, .owner = owner, .mm = owner, .near = -1, .far = -1, .pidfd = -1, .suspends = -1};
		test.n_actors++;
	} else if (in(test.n_slots, MAX_SLOTS) &&
		   sscanf(line, "map %15s %c %d %" SCNu64 " %" SCNu64 " %d", map->kind, &map->touch, &map->pages, &map->stride,
			  &map->length, &map->prot) == 6 && map->pages > 0 && map->pages <= MAX_PAGES) {
		test.n_slots++;
	} else if (in(test.n_cells, MAX_CELLS) &&
		   sscanf(line, "cell %d %d %" SCNu64, &cell->slot, &cell->offset, &cell->value) == 3) {
		test.n_cells++;
	} else if (in(test.n_steps, MAX_STEPS) &&
		   sscanf(line, "step %d %15s %d %d %d %d %" SCNu64 " %d", &st->actor, name, &st->slot, &st->page, &st->offset,
			  &st->target, &st->value, &st->fatal) == 8 && in(st->actor, test.n_actors) && in(st->slot, MAX_SLOTS) &&
		   st->page >= WHOLE && st->page < MAX_PAGES && in(st->target, MAX_ACTORS)) {
		st->op = op_of(name);
		if (st->op < 0)
			syntax(line);
		test.n_steps++;
	} else
		syntax(line);
}

int main(int argc, char **argv)
{
	char line[256];
	sigset_t chld;

	if (argc == 4 && !strcmp(argv[1], "--actor")) { /* see do_exec() */
		test.actors[atoi(argv[2])].far = atoi(argv[3]);
		start_process(atoi(argv[2]));
	}
	if (argc == 3 && !strcmp(argv[1], "--files"))
		files_dir = argv[2];
	else if (argc != 1) {
		fprintf(stderr, "usage: %s [--files DIRECTORY] < TESTS\n", argv[0]);
		return 2;
	}
	if (sysconf(_SC_PAGESIZE) != PAGE) {
		fprintf(stderr, "agent: pages of %ld bytes; it knows 4096 only\n", sysconf(_SC_PAGESIZE));
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* with the host's runner; the test processes then follow this one */
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL); /* clean_up() waits for it with a time limit */
	if (isatty(STDOUT_FILENO)) /* a console: after a crash of the machine its last line tells where */
		setvbuf(stdout, NULL, _IOLBF, 0);
	else
		setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	kpagecount = open("/proc/kpagecount", O_RDONLY | O_CLOEXEC);
	kpageflags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	while (fgets(line, sizeof(line), stdin)) {
		if (!strncmp(line, "test ", 5))
			new_test(line);
		else if (!strcmp(line, "run\n"))
			run_test();
		else
			read_line(line);
	}
	return 0;
}
