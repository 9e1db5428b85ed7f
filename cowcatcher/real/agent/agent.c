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
 *  - "Devices" live in the coordinator, which never maps the memory under test: see struct backend in agent.h.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

static const char *const op_names[N_OPS] = {
	[LOAD] = "load", [STORE] = "store", [FORK] = "fork", [VFORK] = "vfork", [EXIT] = "exit", [EXEC] = "exec",
	[MUNMAP] = "munmap", [MPROTECT] = "mprotect", [MREMAP] = "mremap", [MLOCK] = "mlock", [MADVISE] = "madvise",
	[CLEAR_REFS] = "clear_refs", [UFFD_WP] = "uffd_wp", [UFFD_WP_RESOLVE] = "uffd_wp_resolve", [PIN] = "pin", [VM_READ] = "vm_read", [VM_WRITE] = "vm_write",
	[MEM_READ] = "mem_read", [MEM_WRITE] = "mem_write", [MIGRATE] = "migrate", [HANG] = "hang", [CRASH] = "crash",
	[WAIT] = "wait", [POST] = "post", [AWAIT] = "await", [UNPIN] = "unpin", [DMA_READ] = "dma_read",
	[DMA_WRITE] = "dma_write", [KSM_SCAN] = "ksm_scan",
};

const char *const answer_names[] = {
	[VALUE] = "value", [ERROR] = "error", [SIGNAL] = "signal", [KILLED] = "killed", [NOT_RUN] = "not_run",
	[BLOCKED] = "blocked", [IOMMU_FAULT] = "iommu_fault", [REFUSED] = "refused",
};

struct test test;
pid_t coordinator;
bool own_machine;
static const char *files_dir; /* where file mappings get their files; NULL: memory */

uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

/* What an actor is asked to do for this step, now. */
struct request request_of(const struct step *st)
{
	bool remote = st->op == VM_READ || st->op == VM_WRITE || st->op == MEM_READ || st->op == MEM_WRITE;
	bool child = st->op == FORK || st->op == VFORK;
	const struct actor *there = &test.actors[remote ? st->target : test.actors[st->actor].owner];
	const struct mapping *map = &test.maps[st->slot];
	struct request rq = {.op = st->op, .fatal = st->fatal, .fd = -1, .pid = remote ? there->pid : 0};

	rq.value = child ? (uint64_t)st->target : st->value;
	rq.addr = address(there->mm, st->slot, st->page) + st->offset;
	rq.len = st->page == WHOLE ? map->length : map->stride;
	if ((st->op == PIN || st->op == MIGRATE) && st->page == WHOLE)
		rq.len = map->pages * map->stride; /* the named pages, not all of the huge page that they begin */
	if (st->op == MIGRATE)
		rq.value = map->stride;
	if (st->op == PIN) {
		const struct pin *pin = &test.pins[st->target];

		rq.pin = st->target;
		rq.backend = backend_of(pin->backend->name);
		rq.writable = pin->writable;
		rq.fd = pin->fd;
	}
	return rq;
}

/* mremap() has moved what the step names. */
void moved(const struct step *st)
{
	int mm = test.actors[test.actors[st->actor].owner].mm;

	for (int page = 0; page < test.maps[st->slot].pages; page++)
		if (st->page == WHOLE || st->page == page)
			test.moves[mm][st->slot][page]++;
}

/* ---- the coordinator: asking one actor ---- */

/* Without waiting for an answer. */
void tell(int actor, const struct request *rq)
{
	send(test.actors[actor].near, rq, sizeof(*rq), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static struct actor *process_of(struct actor *who)
{
	return &test.actors[who->owner];
}

/* WAITS: a process ends, or changes its program, while its direct I/O is in flight: it would wait for that first */
enum heard { HEARD, DIED, LATE, WAITS };

static sigset_t waiting; /* the signals that are blocked while something is waited for: all that ever are but SIGALRM */

/*
 * poll() until something happens or the time is over. Not by a time limit of poll()'s own, which would program a timer
 * each time: SIGALRM comes every FLUSH_MS, and only here. What takes long may be a crash: say first how far we got.
 */
bool something_happens(struct pollfd *fds, nfds_t n)
{
	while (ppoll(fds, n, NULL, &waiting) < 0) {
		fflush(stdout);
		if (now_us() >= test.deadline)
			return false;
	}
	return true;
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
	if (parent < 0 || test.actors[parent].life != ALIVE) /* exec() or exit() of its process ended it meanwhile */
		return HEARD;
	return hear(&test.actors[parent], &ignored);
}

static enum heard await_end(struct actor *process)
{
	if (!something_happens(&(struct pollfd){.fd = process->pidfd, .events = POLLIN}, 1))
		return LATE;
	buried(process);
	return release_vfork(process) == LATE ? LATE : DIED;
}

static enum heard ask(int actor, const struct request *rq, struct reply *reply)
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

/* ---- the coordinator: one step ---- */

/* A failing fork answers on its caller's channel alone, a working vfork on its child's alone: listen to both. */
static enum heard begin_child(const struct step *st, struct reply *reply)
{
	struct actor *parent = &test.actors[st->actor], *child = &test.actors[st->target];
	struct request rq = request_of(st);
	struct pollfd fds[] = {{.fd = parent->near, .events = POLLIN},
			       {.fd = child->near, .events = POLLIN},
			       {.fd = process_of(parent)->pidfd, .events = POLLIN}};
	bool answered = false;
	enum heard heard;

	tell(st->actor, &rq);
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
	*reply = success(0);
	return heard == HEARD ? spawn_threads(st->target) : heard;
}

static enum heard take_pin(int index, const struct step *st, struct request *rq, struct reply *reply)
{
	struct pin *pin = &test.pins[st->target];
	enum heard heard;

	pin->taker = st->actor;
	pin->addr = rq->addr;
	pin->len = rq->len;
	pin->stride = test.maps[st->slot].stride;
	pin->mm = process_of(&test.actors[st->actor])->mm;
	heard = ask(st->actor, rq, reply);
	pin->taken = pin->held = heard == HEARD && reply->kind == VALUE;
	pin->key = pin->held ? reply->value : 0;
	if (pin->held)
		print_pin(index, st->target, process_of(&test.actors[st->actor])->pid, rq->addr, rq->len, pin->stride);
	else
		pin->backend->release(st->target); /* no pin, so none of its pages either */
	return heard;
}

bool ask_to_let_go(int index)
{
	const struct pin *pin = &test.pins[index];
	struct request rq = {
		.op = LET_GO, .pin = index, .backend = backend_of(pin->backend->name), .fd = pin->fd, .len = pin->len};
	struct reply reply;

	if (racing())
		return false; /* it has its own statements to execute */
	for (int a = 0; a < test.n_actors; a++)
		if (test.actors[a].life == ALIVE && test.actors[a].suspends == pin->taker)
			return false; /* in vfork(): it would not answer */
	return test.actors[pin->taker].life == ALIVE && ask(pin->taker, &rq, &reply) == HEARD && reply.kind == VALUE &&
	       reply.value;
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
	struct request rq = request_of(st);
	int mm = process_of(who)->mm;
	struct frames frames = {0};
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
	case KSM_SCAN:
	case DMA_READ:
	case DMA_WRITE:
		*reply = st->op == KSM_SCAN ? ksm_scan() : dma(st);
		return reply->kind == ERROR && reply->value == ETIMEDOUT ? LATE : HEARD;
	case FORK:
	case VFORK:
		return begin_child(st, reply);
	case EXEC:
		return ends_with_io(mm) ? WAITS : do_exec_step(st->actor, &rq, reply);
	case EXIT:
		if (ends_with_io(mm))
			return WAITS;
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
		break;
	case PIN:
		return take_pin(index, st, &rq, reply);
	}
	if (st->op == MADVISE && st->value == MADV_PAGEOUT)
		remember_frames(process_of(who)->pid, rq.addr, rq.len, &frames);
	heard = ask(st->actor, &rq, reply);
	await_writeback(&frames);
	if (heard == HEARD && reply->kind == SIGNAL && st->fatal && ends_with_io(mm))
		return WAITS;
	if (heard == HEARD && reply->kind == SIGNAL && st->fatal)
		heard = await_end(process_of(who)) == LATE ? LATE : HEARD;
	if (heard == HEARD && st->op == MREMAP && reply->kind == VALUE)
		moved(st);
	return heard;
}

/* ---- the coordinator: one test ---- */

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
	for (const struct cell *cell = test.cells; cell < test.cells + test.n_cells; cell++)
		for (int page = 0; page < map->pages && cell->slot == slot; page++)
			if (pwrite(fd, &cell->value, sizeof(cell->value), page * map->stride + cell->offset) < 0)
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

/* One more request of the setup for process 0, which executes them all at once: each message costs two changes of memory. */
static void prepare(int slot, const char *what, struct request rq)
{
	if (test.n_prepared < MAX_PREPARED)
		test.prepared[test.n_prepared++] = (struct preparation){slot, what, rq};
}

/* False, with the reason printed, when one of them does not succeed: test.failed. */
static bool do_prepared(void)
{
	struct request rq = {.op = PREPARE};
	struct reply reply = {ERROR, ETIMEDOUT};
	const struct preparation *failed = &test.prepared[0];

	if (ask(0, &rq, &reply) == HEARD && reply.kind == VALUE)
		return true;
	failed += test.failed;
	printf("setup %d %s %s %" PRIu64 "\n", failed->slot, failed->what, answer_names[reply.kind], reply.value);
	return false;
}

static void touch_page(int slot, int page)
{
	const struct mapping *map = &test.maps[slot];
	uint64_t at = address(0, slot, page);

	if (map->touch == 'r')
		prepare(slot, "touch", (struct request){.op = LOAD, .addr = at});
	for (const struct cell *cell = test.cells; cell < test.cells + test.n_cells && map->touch == 'w'; cell++) {
		struct request rq = {.op = STORE, .addr = at + cell->offset, .value = cell->value};

		if (cell->slot == slot)
			prepare(slot, "touch", rq);
	}
}

static void map_one(int slot)
{
	const struct mapping *map = &test.maps[slot];
	bool thp = is_thp(map);
	uint64_t at = address(0, slot, 0), last_page = at + map->length - PAGE;
	struct request mmap_rq = {
		.op = MMAP, .fd = map->backing, .addr = at, .len = map->length, .value = (uint64_t)map_flags(map)};
	struct request huge_rq = {.op = MADVISE, .addr = at, .len = map->length, .value = MADV_HUGEPAGE};
	struct request protect_rq = {.op = MPROTECT, .addr = at, .len = map->length, .value = (uint64_t)map->prot};

	prepare(slot, "mmap", mmap_rq);
	if (thp)
		prepare(slot, "madvise", huge_rq);
	for (int page = 0; page < map->pages; page++)
		touch_page(slot, page);
	if (thp && map->touch == 'w')
		prepare(slot, "huge_page", (struct request){.op = RESIDENT, .addr = last_page});
	if (map->prot != (PROT_READ | PROT_WRITE))
		prepare(slot, "mprotect", protect_rq);
}

/* What is not meant to be huge must not become so on a machine where huge pages are handed out unasked. */
static bool map_all(void)
{
	test.n_prepared = 0;
	for (int huge = 0; huge < 2; huge++) {
		prepare(0, "prctl", (struct request){.op = THP_DISABLE, .value = !huge});
		for (int slot = 0; slot < test.n_slots; slot++)
			if (is_thp(&test.maps[slot]) == huge)
				map_one(slot);
	}
	return do_prepared();
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
		if (dup2(pair[1], FIRST_CHANNEL + a) < 0) {
			printf("setup 0 dup2 error %d\n", errno);
			return false;
		}
		close(pair[1]);
	}
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		disown_pins();
		start_process(0);
	}
	if (pid < 0) {
		printf("setup 0 fork error %d\n", errno);
		return false;
	}
	setpgid(pid, pid); /* both sides do it: whoever is first, it is done when either goes on */
	test.group = pid;
	errno = ETIMEDOUT;
	if (greet(&test.actors[0]) != HEARD) {
		printf("setup 0 start error %d\n", errno);
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
	if (!open_pins() || !start_family())
		return false;
	return map_all() && spawn_threads(0) == HEARD;
}

/* Some may have died while nobody asked them anything, of a lack of memory for instance. */
static void bury_the_dead(void)
{
	for (int a = 0; a < test.n_actors; a++) {
		struct pollfd end = {.fd = test.actors[a].pidfd, .events = POLLIN};

		if (test.actors[a].kind == PROCESS && test.actors[a].life == ALIVE && poll(&end, 1, 0) > 0)
			buried(&test.actors[a]);
	}
}

/*
 * Pages touched a moment ago sit in per-CPU batches on their way to the LRU lists, and each batch holds a reference, which
 * old kernels take for a sharer's. By chance some are flushed and some are not: flush them all. Any MADV_COLD does that.
 */
void flush_lru_batches(void)
{
	static char page[PAGE] __attribute__((aligned(PAGE)));

	if (!test.batched)
		madvise(page, PAGE, MADV_COLD);
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
		flush_lru_batches();
		if (who->stuck)
			reply.kind = BLOCKED;
		else if (who->kind == DEVICE || who->life == ALIVE)
			heard = do_step(i, st, &reply);
		if (heard == LATE || heard == WAITS)
			return heard == LATE ? "timeout" : "waits";
		if (heard == DIED)
			reply.kind = KILLED;
		if (reply.kind == BLOCKED)
			who->stuck = true;
		printf("step %d %s %" PRIu64 "\n", i, answer_names[reply.kind], reply.value);
		if (test.trace)
			print_pages(i);
	}
	bury_the_dead();
	flush_lru_batches(); /* MADV_FREE's too: until then its pages do not show it */
	if (!test.trace)
		print_pages(test.n_steps - 1);
	return "done";
}

void print_ends(FILE *to)
{
	for (int a = 0; a < test.n_actors; a++) {
		siginfo_t info = {0};

		if (test.actors[a].kind != PROCESS || test.actors[a].life != ENDED)
			continue;
		if (waitid(P_PID, test.actors[a].pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid)
			fprintf(to, "end %d %s %d\n", a, info.si_code == CLD_EXITED ? "exit" : "signal", info.si_status);
	}
}

/* The rest is for a fresh agent, or a fresh machine. */
_Noreturn void unkillable(void)
{
	printf("unkillable %ld\n", test.id);
	fflush(stdout);
	_exit(EXIT_UNKILLABLE);
}

/* Nothing of a test outlives it: processes first, since what they hold can hold up the rest. */
void clean_up(void)
{
	uint64_t give_up = now_us() + REAP_MS * 1000ull;
	sigset_t either;
	pid_t pid;
	int sig;

	sigemptyset(&either);
	sigaddset(&either, SIGCHLD);
	sigaddset(&either, SIGALRM);
	test.over = true;
	for (int i = 0; i < test.n_pins; i++)
		unpin(i); /* what a device holds up cannot die */
	if (test.group > 0)
		kill(-test.group, SIGKILL);
	while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0) {
		if (pid > 0)
			continue;
		if (now_us() > give_up)
			unkillable();
		sigwait(&either, &sig);
	}
	close_pins();
	for (int a = 0; a < test.n_actors; a++) {
		if (test.actors[a].near >= 0)
			close(test.actors[a].near);
		if (test.actors[a].pidfd >= 0)
			close(test.actors[a].pidfd);
		close(FIRST_CHANNEL + a);
	}
	for (int slot = 0; slot < test.n_slots; slot++)
		if (test.maps[slot].backing >= 0)
			close(test.maps[slot].backing);
}

/* Whatever an earlier run of this test has left is forgotten. */
bool begin_run(void)
{
	for (int a = 0; a < test.n_actors; a++) {
		struct actor *who = &test.actors[a];

		*who = (struct actor){who->kind, who->owner, .near = -1, .pidfd = -1, .suspends = -1, .mm = who->owner};
	}
	for (int slot = 0; slot < test.n_slots; slot++)
		test.maps[slot].backing = -1;
	for (int i = 0; i < test.n_pins; i++)
		test.pins[i] = (struct pin){test.pins[i].backend, test.pins[i].writable, .fd = -1};
	memset(test.events, 0, sizeof(test.events));
	memset(test.moves, 0, sizeof(test.moves));
	test.group = 0;
	test.over = false;
	test.deadline = now_us() + test.timeout_ms * 1000ull;
	return set_up();
}

static void race_test(uint64_t runs, uint64_t seed)
{
	uint64_t start = now_us(), made;
	const char *status;

	printf("test %ld\n", test.id);
	fflush(stdout);
	status = run_races(runs, seed, &made);
	printf("done %ld %s %" PRIu64 " %" PRIu64 "\n", test.id, status, made, now_us() - start);
	fflush(stdout);
}

static void run_test(void)
{
	uint64_t start = now_us();
	const char *status = "setup";
	int last = -1;

	printf("test %ld\n", test.id);
	if (begin_run())
		status = run_steps(&last);
	print_ends(stdout);
	clean_up();
	printf("done %ld %s %d %" PRIu64 "\n", test.id, status, last, now_us() - start);
	fflush(stdout);
}

/* ---- reading the text ---- */

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
	memset(&test, 0, offsetof(struct test, prepared)); /* the rest is long */
	for (int slot = 0; slot < MAX_SLOTS; slot++)
		test.maps[slot].backing = -1;
	if (sscanf(line, "test %ld %ld %d", &test.id, &test.timeout_ms, &test.trace) != 3)
		syntax(line);
}

static bool in(int value, int end)
{
	return value >= 0 && value < end;
}

static bool read_actor(const char *line)
{
	struct actor *who = &test.actors[test.n_actors];

	if (!in(test.n_actors, MAX_ACTORS))
		return false;
	*who = (struct actor){.near = -1, .pidfd = -1, .suspends = -1};
	if (sscanf(line, "actor %c %d", &who->kind, &who->owner) != 2 || !in(who->owner, MAX_ACTORS))
		return false;
	who->mm = who->owner;
	test.n_actors++;
	return true;
}

static bool read_map(const char *line)
{
	struct mapping *map = &test.maps[test.n_slots];

	if (!in(test.n_slots, MAX_SLOTS) ||
	    sscanf(line, "map %15s %c %d %" SCNu64 " %" SCNu64 " %d", map->kind, &map->touch, &map->pages, &map->stride,
		   &map->length, &map->prot) != 6 ||
	    map->pages < 1 || map->pages > MAX_PAGES)
		return false;
	test.n_slots++;
	return true;
}

static bool read_cell(const char *line)
{
	struct cell *cell = &test.cells[test.n_cells];

	if (!in(test.n_cells, MAX_CELLS) ||
	    sscanf(line, "cell %d %d %" SCNu64, &cell->slot, &cell->offset, &cell->value) != 3)
		return false;
	test.n_cells++;
	return true;
}

static bool read_pin(const char *line)
{
	struct pin *pin = &test.pins[test.n_pins];
	char name[16], direction;
	int backend;

	if (!in(test.n_pins, MAX_PINS) || sscanf(line, "pin %15s %c", name, &direction) != 2 ||
	    (backend = backend_of(name)) < 0)
		return false;
	*pin = (struct pin){.backend = backends[backend], .writable = direction == 'w', .fd = -1};
	test.n_pins++;
	return true;
}

static bool read_step(const char *line)
{
	struct step *st = &test.steps[test.n_steps];
	char name[16];

	if (!in(test.n_steps, MAX_STEPS) ||
	    sscanf(line, "step %d %15s %d %d %d %d %" SCNu64 " %d", &st->actor, name, &st->slot, &st->page, &st->offset,
		   &st->target, &st->value, &st->fatal) != 8 ||
	    !in(st->actor, test.n_actors) || !in(st->slot, MAX_SLOTS) || !in(st->page - WHOLE, MAX_PAGES - WHOLE) ||
	    !in(st->target, MAX_ACTORS))
		return false;
	st->op = op_of(name);
	test.n_steps++;
	return st->op >= 0;
}

/* The whole family on one CPU: the kernel's per-CPU batches look the same every time, and no answer wakes another. */
static void stay_on_one_cpu(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
}

static void nothing(int sig)
{
	(void)sig;
}

/* SIGCHLD is waited for by clean_up(), SIGALRM by something_happens() too; neither interrupts anything else. */
static void start_clock(void)
{
	const struct sigaction action = {.sa_handler = nothing};
	const struct itimerval often = {{0, FLUSH_MS * 1000}, {0, FLUSH_MS * 1000}};
	sigset_t always;

	sigemptyset(&waiting);
	sigaddset(&waiting, SIGCHLD);
	always = waiting;
	sigaddset(&always, SIGALRM);
	sigprocmask(SIG_BLOCK, &always, NULL);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
}

int main(int argc, char **argv)
{
	char line[256];
	bool shared = false;
	uint64_t runs, seed;

	coordinator = getpid();
	if (argc >= 2 && !strcmp(argv[1], "--init"))
		run_as_init();
	if (argc >= 2 && !strcmp(argv[1], "--userland"))
		run_userland();
	if (argc >= 3 && !strcmp(argv[1], "--tied")) { /* another program, which shall not outlive its caller */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execv(argv[2], argv + 2);
		perror(argv[2]);
		return 127;
	}
	if (argc == 3 && !strcmp(argv[1], "--actor")) { /* see do_exec() */
		coordinator = getppid();
		share_with_family(false);
		start_process(atoi(argv[2]));
	}
	if (argc == 2 && !strcmp(argv[1], "--backends")) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		print_backends();
		return 0;
	}
	if (argc == 5 && !strcmp(argv[4], "--shared")) /* see channel.c */
		shared = true, argc--;
	if (argc == 4 && !strcmp(argv[3], "--own-machine"))
		own_machine = true, argc--;
	if (argc == 3 && !strcmp(argv[1], "--files"))
		files_dir = argv[2];
	else if (argc != 1) {
		fprintf(stderr, "usage: %s [--files DIRECTORY] < TESTS, or %s --backends\n", argv[0], argv[0]);
		return 2;
	}
	if (sysconf(_SC_PAGESIZE) != PAGE) {
		fprintf(stderr, "agent: pages of %ld bytes; it knows 4096 only\n", sysconf(_SC_PAGESIZE));
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* with the host's runner; the test processes then follow this one */
	share_with_family(true);
	stay_on_one_cpu();
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	start_clock();
	if (shared && !tell_through_memory(STDOUT_FILENO)) {
		perror("agent: the shared memory");
		return 2;
	}
	if (isatty(STDOUT_FILENO)) /* a console: after a crash of the machine its last line tells where */
		setvbuf(stdout, NULL, _IOLBF, 0);
	else if (!shared)
		setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	open_kernel_files();
	while (fgets(line, sizeof(line), stdin)) {
		if (!strncmp(line, "test ", 5))
			new_test(line);
		else if (!strcmp(line, "run\n"))
			run_test();
		else if (sscanf(line, "race %" SCNu64 " %" SCNu64, &runs, &seed) == 2)
			race_test(runs, seed);
		else if (!strcmp(line, "batched\n"))
			test.batched = true;
		else if (!read_actor(line) && !read_map(line) && !read_cell(line) && !read_pin(line) &&
			 !read_step(line))
			syntax(line);
	}
	return 0;
}
