// SPDX-License-Identifier: Apache-2.0
/*
 * Racing: the actors of a test execute their statements by themselves, all at once, many times over.
 *
 * Each run has processes and memory of its own, set up as for the ordered form. Then all actors that exist are let go
 * together; a forked process begins with its own first statement. Between two statements an actor does nothing for a
 * time that is drawn anew each time, from none to some thousand system calls' worth. Nothing else is chosen: what the kernel
 * makes of it is the outcome. Outcomes are told only once, with their number.
 *
 * Actors share `test` and `race` with the coordinator, by a memfd that all of them inherit and that has nothing to do
 * with the memory under test. Devices are threads of the coordinator. A run is over when nobody can do anything any more:
 * every actor has come to its end, or waits for what nobody is left to do (see settled()).
 */
#define _GNU_SOURCE
#include "agent.h"

#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	MAX_OUTCOMES = 1024, /* told apart; further ones are only counted */
	SPINS = 2000, /* looks at an event before sleeping on it */
	CALIBRATION = 2000,
	PROGRESS_US = 1000000,
	LOOK_MS = 100, /* a device that waits for a process looks whether the run is over */
};

enum doing {
	ABSENT, /* not born */
	ACTIVE,
	AWAITING, /* for an event */
	WAITING, /* for a process to end */
	SUSPENDED, /* in vfork() */
	FINISHED, /* at the end of its statements, and still there */
	LEAVING, /* on its way out: exit() or a deadly signal */
};

/* Kept by the actor itself. */
struct runner {
	enum doing doing;
	int step; /* the statement it is at */
	int target; /* AWAITING: the event; WAITING, SUSPENDED: the process */
	bool executing; /* exec() */
	int call; /* 0, or what the coordinator is to do for it: UNPIN, or PIN for one that failed */
	int pin; /* with which pin */
	struct reply answer;
};

struct race {
	bool on;
	int ready, go, over;
	unsigned changes; /* grows with everything that may let somebody go on */
	uint64_t seed;
	unsigned unit; /* iterations of an empty loop that take as long as a system call */
	int placement; /* an enum placement */
	cpu_set_t cpus;
	struct runner runners[MAX_ACTORS];
	struct reply results[MAX_STEPS];
	bool taking[MAX_PINS], released[MAX_PINS];
	uint64_t frames[MAX_PINS][MAX_PAGES];
} __attribute__((aligned(PAGE)));

enum placement { ANYWHERE, APART, TOGETHER };

static struct race race;
static pthread_mutex_t device_lock = PTHREAD_MUTEX_INITIALIZER; /* one access by a device at a time */

/* ---- shared memory, futexes, chance ---- */

static void share(void *at, size_t size, off_t offset)
{
	if (mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, SHARED_FD, offset) == MAP_FAILED)
		_exit(2);
}

/* In the coordinator before anything else, and in a program that an actor has exec()uted. */
void share_with_family(bool anew)
{
	if (anew) {
		int fd = memfd_create("agent", 0);

		if (fd < 0 || ftruncate(fd, sizeof(test) + sizeof(race)) < 0 || dup2(fd, SHARED_FD) < 0)
			_exit(2);
		close(fd);
	}
	share(&test, sizeof(test), 0);
	share(&race, sizeof(race), sizeof(test));
	if (anew)
		sched_getaffinity(0, sizeof(race.cpus), &race.cpus);
}

bool racing(void)
{
	return race.on;
}

static void futex_wait(int *word, int value)
{
	syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void futex_wake(int *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void changed(void)
{
	__atomic_add_fetch(&race.changes, 1, __ATOMIC_SEQ_CST);
}

static void ring_coordinator(void)
{
	const uint64_t one = 1;

	if (write(DOORBELL_FD, &one, sizeof(one)) < 0)
		return; /* full: it has been rung */
}

static void pause_once(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("" ::: "memory");
#endif
}

static void spin(unsigned long iterations)
{
	while (iterations--)
		pause_once();
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static unsigned measure_unit(void)
{
	uint64_t start = now_ns(), between, end;

	for (int i = 0; i < CALIBRATION; i++)
		syscall(SYS_getppid);
	between = now_ns();
	spin(CALIBRATION);
	end = now_ns();
	return (unsigned)((between - start) / ((end - between) / CALIBRATION + 1) / CALIBRATION) + 1;
}

/* splitmix64 */
static uint64_t drawn(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

/* How this actor dawdles in this run: never, or for at most so many system calls' time before each statement. */
struct pace { uint64_t state; unsigned most; bool yields, sleeps; };

static struct pace pace_of(int actor)
{
	static const unsigned most[] = {0, 0, 4, 16, 64, 256, 1024};
	struct pace pace = {.state = race.seed + (uint64_t)actor * 0x632be59bd9b4e019ull};

	pace.most = most[drawn(&pace.state) % (sizeof(most) / sizeof(most[0]))];
	pace.yields = CPU_COUNT(&race.cpus) == 1 || drawn(&pace.state) % 8 == 0;
	pace.sleeps = drawn(&pace.state) % 8 == 0;
	return pace;
}

static void dawdle(struct pace *pace)
{
	if (pace->most)
		spin(drawn(&pace->state) % (pace->most * (unsigned long)race.unit));
	if (pace->yields && drawn(&pace->state) % 2)
		sched_yield();
	if (pace->sleeps && drawn(&pace->state) % 2)
		nanosleep(&(struct timespec){.tv_nsec = (long)(drawn(&pace->state) % 50000)}, NULL);
}

static void take_place(int actor)
{
	int wanted = race.placement == APART ? actor % CPU_COUNT(&race.cpus) : 0;
	cpu_set_t set = race.cpus;

	for (int cpu = 0, n = 0; race.placement != ANYWHERE && cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &race.cpus) && n++ != wanted)
			CPU_CLR(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	prctl(PR_SET_TIMERSLACK, 1);
}

/* ---- an actor ---- */

static struct runner *runner(int actor)
{
	return &race.runners[actor];
}

static void becomes(int actor, enum doing doing)
{
	__atomic_store_n(&runner(actor)->doing, doing, __ATOMIC_SEQ_CST);
	changed();
	if (doing != ACTIVE)
		ring_coordinator();
}

static bool take_event(int *event)
{
	int n = __atomic_load_n(event, __ATOMIC_SEQ_CST);

	while (n > 0)
		if (__atomic_compare_exchange_n(event, &n, n - 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			return true;
	return false;
}

static struct reply await_event(int actor, int target)
{
	int *event = &test.events[target];

	for (int i = CPU_COUNT(&race.cpus) > 1 ? SPINS : 1; i; i--) {
		if (take_event(event))
			return success(0);
		pause_once();
	}
	runner(actor)->target = target;
	for (;;) {
		becomes(actor, AWAITING);
		futex_wait(event, 0);
		becomes(actor, ACTIVE);
		if (race.over)
			return (struct reply){NOT_RUN, 0};
		if (take_event(event))
			return success(0);
	}
}

static struct reply post_event(int target)
{
	__atomic_add_fetch(&test.events[target], 1, __ATOMIC_SEQ_CST);
	changed();
	futex_wake(&test.events[target]);
	return success(0);
}

/* Until it has been born and has ended: its pid stays its own, since nothing is reaped during a run. */
static struct reply await_end(int actor, int target)
{
	int *pid = &test.actors[target].pid;
	struct pollfd end = {.events = POLLIN};

	runner(actor)->target = target;
	becomes(actor, WAITING);
	while (!__atomic_load_n(pid, __ATOMIC_SEQ_CST) && !race.over)
		futex_wait(pid, 0);
	if (race.over)
		return (struct reply){NOT_RUN, 0};
	end.fd = (int)syscall(SYS_pidfd_open, *pid, 0);
	while (!race.over && poll(&end, 1, LOOK_MS) <= 0)
		;
	close(end.fd);
	becomes(actor, ACTIVE);
	return success(0);
}

static void is_born(int child, pid_t pid)
{
	__atomic_store_n(&test.actors[child].pid, pid, __ATOMIC_SEQ_CST);
	changed();
	futex_wake(&test.actors[child].pid);
}

static struct reply make_child(int actor, const struct step *st, const struct request *rq)
{
	int child = st->target, mm = test.actors[test.actors[actor].owner].mm;
	struct reply reply;

	if (st->op == VFORK)
		test.actors[child].mm = mm;
	else
		memcpy(test.moves[child], test.moves[mm], sizeof(test.moves[0]));
	runner(child)->doing = ACTIVE;
	if (st->op == VFORK) {
		runner(actor)->target = child;
		becomes(actor, SUSPENDED);
	}
	reply = execute(actor, rq);
	if (st->op == VFORK)
		becomes(actor, ACTIVE);
	if (reply.kind != VALUE)
		becomes(child, ABSENT);
	else if (st->op == FORK)
		is_born(child, (pid_t)reply.value);
	return reply.kind == VALUE ? success(0) : reply;
}

/* The coordinator does it: pins are the devices' business. */
static struct reply call(int actor, enum op op, int pin)
{
	struct runner *me = runner(actor);

	me->pin = pin;
	__atomic_store_n(&me->call, op, __ATOMIC_SEQ_CST);
	ring_coordinator();
	while (__atomic_load_n(&me->call, __ATOMIC_SEQ_CST))
		futex_wait(&me->call, op);
	return me->answer;
}

static struct reply release(int pin)
{
	struct reply reply;

	pthread_mutex_lock(&device_lock);
	race.released[pin] |= test.pins[pin].held;
	reply = unpin(pin);
	pthread_mutex_unlock(&device_lock);
	return reply;
}

/* Is this address space nobody else's to change? Then what its page table says after the pin was taken is what was pinned. */
static bool is_alone(int process)
{
	for (int a = 0; a < test.n_actors; a++)
		if (test.actors[a].kind == THREAD && test.actors[a].owner == process)
			return false;
	for (int i = 0; i < test.n_steps; i++)
		if ((test.steps[i].op == VM_WRITE || test.steps[i].op == MEM_WRITE) && test.steps[i].target == process)
			return false;
	return true;
}

static struct reply take_pin(int actor, const struct step *st, const struct request *rq)
{
	struct pin *pin = &test.pins[st->target];
	uint64_t before[MAX_PAGES], after[MAX_PAGES];
	int pages = (int)(rq->len / test.maps[st->slot].stride), pagemap = open_pagemap(getpid());
	bool alone = is_alone(test.actors[actor].owner);
	struct reply reply;

	pin->taker = actor;
	pin->addr = rq->addr;
	pin->len = rq->len;
	pin->stride = test.maps[st->slot].stride;
	read_frames(pagemap, pin, before);
	race.taking[st->target] = true;
	reply = execute(actor, rq);
	read_frames(pagemap, pin, after);
	if (pagemap >= 0)
		close(pagemap);
	for (int page = 0; page < pages && page < MAX_PAGES; page++)
		race.frames[st->target][page] = alone || before[page] == after[page] ? after[page] : 0;
	if (reply.kind != VALUE) {
		call(actor, PIN, st->target);
		return reply;
	}
	pin->key = reply.value;
	pin->taken = true;
	__atomic_store_n(&pin->held, true, __ATOMIC_SEQ_CST);
	race.taking[st->target] = false;
	return reply;
}

static struct reply device_access(const struct step *st)
{
	struct reply reply;

	pthread_mutex_lock(&device_lock);
	reply = race.released[st->target] && !test.pins[st->target].backend->late ? (struct reply){REFUSED, 0} : dma(st);
	pthread_mutex_unlock(&device_lock);
	return reply;
}

static struct reply perform(int actor, int index)
{
	const struct step *st = &test.steps[index];
	bool device = test.actors[actor].kind == DEVICE;
	struct request rq = request_of(st);
	struct reply reply;

	switch (st->op) {
	case POST:
		return post_event(st->target);
	case AWAIT:
		return await_event(actor, st->target);
	case WAIT:
		return await_end(actor, st->target);
	case DMA_READ:
	case DMA_WRITE:
		return device_access(st);
	case UNPIN:
		return device ? release(st->target) : call(actor, UNPIN, st->target);
	case PIN:
		return take_pin(actor, st, &rq);
	case FORK:
	case VFORK:
		return make_child(actor, st, &rq);
	case VM_READ:
	case VM_WRITE:
	case MEM_READ:
	case MEM_WRITE:
		return rq.pid ? execute(actor, &rq) : failure(ESRCH);
	case EXIT:
		race.results[index] = success(0);
		becomes(actor, LEAVING);
		break;
	case EXEC:
		runner(actor)->executing = true;
		reply = execute(actor, &rq);
		runner(actor)->executing = false;
		return reply;
	case MREMAP:
		reply = execute(actor, &rq);
		if (reply.kind == VALUE)
			moved(st);
		return reply;
	}
	return execute(actor, &rq);
}

static void run_statements(int actor)
{
	struct runner *me = runner(actor);
	struct pace pace = pace_of(actor);

	for (; me->step < test.n_steps && !race.over; me->step++) {
		const struct step *st = &test.steps[me->step];
		struct reply reply;

		if (st->actor != actor)
			continue;
		dawdle(&pace);
		reply = perform(actor, me->step);
		race.results[me->step] = reply;
		if (reply.kind == SIGNAL && st->fatal) {
			becomes(actor, LEAVING);
			die_of((int)reply.value);
		}
		if (st->op != POST && st->op != AWAIT && st->op != WAIT)
			flush_lru_batches();
	}
	becomes(actor, FINISHED);
}

/* A process or thread of the family, from its start, from the end of the setup, or from its exec() on. */
void race_on(int actor)
{
	struct actor *who = &test.actors[actor];
	struct runner *me = runner(actor);

	if (me->executing) {
		me->executing = false;
		for (int a = 0; a < test.n_actors; a++) /* exec() has ended them */
			if (test.actors[a].kind == THREAD && test.actors[a].owner == actor)
				runner(a)->doing = ABSENT;
		memset(test.moves[actor], 0, sizeof(test.moves[0]));
		who->mm = actor;
		race.results[me->step++] = success(0);
		changed();
	} else if (who->kind == PROCESS && actor > 0) {
		is_born(actor, getpid());
		if (race.placement == APART)
			take_place(actor);
		for (int a = 0; a < test.n_actors; a++) {
			if (test.actors[a].kind != THREAD || test.actors[a].owner != actor)
				continue;
			runner(a)->doing = ACTIVE;
			if (execute(actor, &(struct request){.op = SPAWN, .value = (uint64_t)a}).kind != VALUE)
				becomes(a, ABSENT);
		}
	} else if (!race.go) {
		take_place(actor);
		__atomic_add_fetch(&race.ready, 1, __ATOMIC_SEQ_CST);
		ring_coordinator();
		for (int i = CPU_COUNT(&race.cpus) > 1 ? SPINS * 10 : 1; i && !__atomic_load_n(&race.go, __ATOMIC_SEQ_CST); i--)
			pause_once();
		while (!__atomic_load_n(&race.go, __ATOMIC_SEQ_CST))
			futex_wait(&race.go, 0);
	}
	run_statements(actor);
}

static void *device_thread(void *arg)
{
	sigset_t clock;

	sigemptyset(&clock);
	sigaddset(&clock, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &clock, NULL); /* it is the coordinator's: see something_happens() */
	race_on((int)(intptr_t)arg);
	return NULL;
}

/* ---- the coordinator ---- */

static bool is_dead(int process)
{
	struct actor *who = &test.actors[process];
	struct pollfd end = {.events = POLLIN};

	if (who->life == ENDED || !who->pid)
		return who->life == ENDED;
	if (who->pidfd < 0)
		who->pidfd = (int)syscall(SYS_pidfd_open, who->pid, 0);
	end.fd = who->pidfd;
	who->life = poll(&end, 1, 0) > 0 ? ENDED : ALIVE;
	if (who->life == ENDED)
		changed(); /* whoever waits for it may have been looked at before */
	return who->life == ENDED;
}

/* Can this one do anything now, or will it soon? */
static bool is_going(int actor)
{
	const struct runner *it = runner(actor);
	enum doing doing = __atomic_load_n(&it->doing, __ATOMIC_SEQ_CST);

	if (doing == ABSENT || doing == FINISHED)
		return false;
	if (test.actors[actor].kind != DEVICE && is_dead(test.actors[actor].owner))
		return false;
	switch (doing) {
	case AWAITING:
		return __atomic_load_n(&test.events[it->target], __ATOMIC_SEQ_CST) > 0;
	case WAITING:
		return is_dead(it->target);
	case SUSPENDED: /* until the child has memory of its own, or none */
		return is_dead(it->target) || test.actors[it->target].mm == it->target;
	default:
		return true;
	}
}

/* Has everybody come to an end, or to a place from where nobody can bring him on? Nothing may change while we look. */
static bool settled(void)
{
	unsigned before;

	do {
		before = __atomic_load_n(&race.changes, __ATOMIC_SEQ_CST);
		for (int a = 0; a < test.n_actors; a++)
			if (is_going(a))
				return false;
	} while (before != __atomic_load_n(&race.changes, __ATOMIC_SEQ_CST));
	return true;
}

static void answer_calls(void)
{
	for (int a = 0; a < test.n_actors; a++) {
		struct runner *it = runner(a);
		int op = __atomic_load_n(&it->call, __ATOMIC_SEQ_CST);

		if (!op)
			continue;
		if (op == UNPIN)
			it->answer = release(it->pin);
		else {
			pthread_mutex_lock(&device_lock);
			it->answer = test.pins[it->pin].backend->release(it->pin);
			pthread_mutex_unlock(&device_lock);
			race.taking[it->pin] = false;
		}
		__atomic_store_n(&it->call, 0, __ATOMIC_SEQ_CST);
		futex_wake(&it->call);
	}
}

/* Until the doorbell rings or a process ends; false when the time is over. */
static bool anything_happens(void)
{
	struct pollfd fds[MAX_ACTORS + 1] = {{.fd = DOORBELL_FD, .events = POLLIN}};
	uint64_t rung;
	int n = 1;

	for (int a = 0; a < test.n_actors; a++)
		if (test.actors[a].kind == PROCESS && test.actors[a].life == ALIVE && test.actors[a].pidfd >= 0)
			fds[n++] = (struct pollfd){.fd = test.actors[a].pidfd, .events = POLLIN};
	if (!something_happens(fds, (nfds_t)n))
		return false;
	if (fds[0].revents && read(DOORBELL_FD, &rung, sizeof(rung)) < 0)
		return true;
	return true;
}

static void start_all(int n_runners)
{
	while (__atomic_load_n(&race.ready, __ATOMIC_SEQ_CST) < n_runners)
		if (!anything_happens())
			break;
	flush_lru_batches();
	__atomic_store_n(&race.go, 1, __ATOMIC_SEQ_CST);
	futex_wake(&race.go);
}

static bool join(pthread_t thread)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += REAP_MS / 1000;
	return !pthread_timedjoin_np(thread, NULL, &until);
}

/* The others are told apart by what they wait for. */
static void tell_hangs(void)
{
	for (int a = 0; a < test.n_actors; a++)
		if (is_going(a))
			printf("hangs %d %d\n", a, runner(a)->step);
}

/* ---- outcomes ---- */

static struct { char *text; uint64_t count, first; } outcomes[MAX_OUTCOMES];
static int n_outcomes;
static uint64_t uncounted;

/* Frames differ from run to run; which of them are the same does not: they are numbered as they come. */
static uint64_t numbered_frames[MAX_PINS * MAX_PAGES + MAX_ACTORS * MAX_SLOTS * MAX_PAGES];
static int n_frames;

uint64_t number_of_frame(uint64_t frame)
{
	int i = 0;

	if (!frame)
		return 0;
	while (i < n_frames && numbered_frames[i] != frame)
		i++;
	if (i == n_frames)
		numbered_frames[n_frames++] = frame;
	return (uint64_t)i + 1;
}

static enum answer answer_of(int index)
{
	const struct step *st = &test.steps[index];
	enum doing doing = runner(st->actor)->doing;
	bool waits = doing == AWAITING || doing == WAITING || doing == SUSPENDED;
	bool there = test.actors[st->actor].kind == DEVICE || !is_dead(test.actors[st->actor].owner);

	if (waits && there && index >= runner(st->actor)->step)
		return BLOCKED;
	return race.results[index].kind;
}

/* As lines of the answers; see real/lower.py. */
static char *tell_outcome(void)
{
	char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);

	n_frames = 0;
	for (int a = 0; a < test.n_actors; a++)
		if (test.actors[a].kind == PROCESS)
			is_dead(a); /* so that it is known of all of them */
	for (int i = 0; i < test.n_pins; i++)
		for (int page = 0; page < MAX_PAGES; page++)
			if (race.frames[i][page])
				fprintf(to, "pin 0 %d %d %" PRIx64 "\n", i, page, number_of_frame(race.frames[i][page]));
	for (int i = 0; i < test.n_steps; i++)
		fprintf(to, "step %d %s %" PRIu64 "\n", i, answer_names[answer_of(i)], race.results[i].value);
	tell_pages(to);
	print_ends(to);
	fclose(to);
	return text;
}

static void count(char *text, uint64_t run)
{
	int i = 0;

	while (i < n_outcomes && strcmp(outcomes[i].text, text))
		i++;
	if (i == MAX_OUTCOMES) {
		uncounted++;
		free(text);
		return;
	}
	if (i < n_outcomes)
		free(text);
	else {
		outcomes[i].text = text;
		outcomes[i].count = 0;
		outcomes[i].first = run;
		n_outcomes++;
	}
	outcomes[i].count++;
}

/* False when the time was over. */
static bool run_once(uint64_t run)
{
	pthread_t threads[MAX_ACTORS];
	uint64_t chance = race.seed;
	int n_runners = 0;
	bool in_time = true;

	race.placement = (int)(drawn(&chance) % 8);
	race.placement = race.placement < 4 ? ANYWHERE : race.placement < 7 ? APART : TOGETHER;
	race.on = true;
	for (int a = 0; a < test.n_actors; a++) {
		struct request rq = {.op = RACE};

		if (test.actors[a].kind != DEVICE && test.actors[a].owner != 0)
			continue;
		runner(a)->doing = ACTIVE;
		n_runners++;
		if (test.actors[a].kind != DEVICE)
			tell(a, &rq);
		else if (pthread_create(&threads[a], NULL, device_thread, (void *)(intptr_t)a))
			unkillable(); /* those that were made wait for a start that will not come */
	}
	start_all(n_runners);
	while (!settled()) {
		answer_calls();
		if (!anything_happens()) {
			in_time = false;
			break;
		}
	}
	if (in_time)
		count(tell_outcome(), run); /* as long as those who wait are still waiting */
	else
		tell_hangs();
	race.over = 1;
	for (int e = 0; e < MAX_ACTORS * 4; e++)
		futex_wake(&test.events[e]);
	for (int a = 0; a < test.n_actors; a++)
		futex_wake(&test.actors[a].pid);
	for (int a = 0; a < test.n_actors; a++)
		if (test.actors[a].kind == DEVICE && !join(threads[a]))
			unkillable();
	return in_time;
}

static void tell_outcomes(void)
{
	for (int i = 0; i < n_outcomes; i++) {
		printf("outcome %" PRIu64 " %" PRIu64 "\n%s", outcomes[i].count, outcomes[i].first, outcomes[i].text);
		free(outcomes[i].text);
	}
	if (uncounted)
		printf("uncounted %" PRIu64 "\n", uncounted);
	n_outcomes = 0;
	uncounted = 0;
}

/* ---- all runs ---- */

static void forget_run(uint64_t seed)
{
	race.seed = seed;
	race.ready = race.go = race.over = 0;
	memset(race.runners, 0, sizeof(race.runners));
	memset(race.taking, 0, sizeof(race.taking));
	memset(race.released, 0, sizeof(race.released));
	memset(race.frames, 0, sizeof(race.frames));
	for (int i = 0; i < test.n_steps; i++)
		race.results[i] = (struct reply){NOT_RUN, 0};
}

/* Taken, and its owner killed before it could say so. */
static void drop_half_taken_pins(void)
{
	for (int i = 0; i < test.n_pins; i++)
		if (race.taking[i])
			test.pins[i].backend->release(i);
}

/* `runs` times the test at hand; the status, *made: how many runs came to an end. */
const char *run_races(uint64_t runs, uint64_t seed, uint64_t *made)
{
	int doorbell = eventfd(0, EFD_NONBLOCK);
	const char *status = "done";
	uint64_t told = now_ns();

	dup2(doorbell, DOORBELL_FD);
	close(doorbell);
	race.unit = race.unit ?: measure_unit();
	for (*made = 0; *made < runs; ++*made) {
		uint64_t mixed = seed + *made * 0x9e3779b97f4a7c15ull;

		forget_run(drawn(&mixed));
		if (!begin_run()) {
			status = "setup";
			break;
		}
		if (!run_once(*made))
			status = "timeout";
		drop_half_taken_pins();
		clean_up();
		race.on = false;
		if (!strcmp(status, "timeout"))
			break;
		if (now_ns() - told > PROGRESS_US * 1000ull) {
			told = now_ns();
			printf("at %" PRIu64 "\n", *made);
			fflush(stdout);
		}
	}
	tell_outcomes();
	close(DOORBELL_FD);
	return status;
}
