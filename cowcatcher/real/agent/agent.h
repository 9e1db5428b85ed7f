/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the agent share: the test, the requests, the answers. See agent.c for the whole picture. */
#ifndef AGENT_H
#define AGENT_H

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum {
	PAGE = 4096,
	MAX_ACTORS = 16,
	MAX_SLOTS = 16, /* mappings of a test */
	MAX_PAGES = 8,
	MAX_CELLS = 64, /* initial values of a test */
	MAX_PINS = 16,
	MAX_STEPS = 1024,
	MAX_PREPARED = 640, /* requests of the setup: every cell of every page, and a few for each mapping */
	WHOLE = -1, /* page number: the whole mapping */
	FIRST_CHANNEL = 200, /* fixed, so that a program started by exec() finds all of them */
	SHARED_FD = FIRST_CHANNEL - 1, /* see race.c */
	DOORBELL_FD = FIRST_CHANNEL - 2,
	FIRST_LINE = 256, /* where direct I/O is sent; inherited like the rest below FIRST_PRIVATE */
	FIRST_PRIVATE = 512, /* from here on the devices' own ends, which no test process may keep open */
	MAX_LINES = 64,
	SECTOR = 512,
	STACK_SIZE = 64 << 10,
	REAP_MS = 5000, /* what a SIGKILLed process may take to disappear before the agent gives up on the machine */
	FLUSH_MS = 10, /* what was done before is told this much later, whatever is waited for: that may be a crash */
	EXIT_UNKILLABLE = 3,
};

/* Mapping s lies at BASE + s * SLOT_DISTANCE; each mremap() moves a page on by MOVE_DISTANCE. Fits a 39-bit space. */
#define BASE 0x1000000000ull
#define SLOT_DISTANCE (64ull << 20)
#define MOVE_DISTANCE (4ull << 30)

/* Their names in the text: op_names in agent.c. */
enum op {
	/* executed by the actor */
	LOAD, STORE, FORK, VFORK, EXIT, EXEC, MUNMAP, MPROTECT, MREMAP, MLOCK, MADVISE, CLEAR_REFS, UFFD_WP,
	UFFD_WP_RESOLVE, PIN, VM_READ, VM_WRITE,
	MEM_READ, MEM_WRITE, MIGRATE, HANG, CRASH,
	/* executed by the coordinator */
	WAIT, POST, AWAIT, UNPIN, DMA_READ, DMA_WRITE, KSM_SCAN,
	/* not in the text */
	MMAP, PREPARE, RESIDENT, THP_DISABLE, SPAWN, LET_GO, RACE,
	N_OPS = MMAP,
};

struct request {
	enum op op;
	bool fatal; /* a SIGSEGV or SIGBUS is to be died of */
	int fd; /* or -1 */
	int pin, backend; /* PIN and LET_GO: which pin, and whose hold() takes it */
	bool writable; /* PIN: the device may write, see struct pin */
	pid_t pid; /* another process */
	uint64_t addr, len, value; /* value: MIGRATE: from page to page */
};

enum answer {
	VALUE, ERROR, SIGNAL,
	/* never sent by an actor */
	KILLED, NOT_RUN, BLOCKED, IOMMU_FAULT, REFUSED,
};

struct reply {
	enum answer kind;
	uint64_t value; /* the value, the errno, the signal */
};

enum actor_kind { PROCESS = 'p', THREAD = 't', DEVICE = 'd' };
enum life { UNBORN, ALIVE, ENDED };

struct actor {
	char kind; /* an actor_kind */
	int owner; /* the process of a thread; itself for a process */
	int near; /* the coordinator's end of its socket pair; its own is descriptor FIRST_CHANNEL + its number */
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

/* A request of the setup, and what to call it should it fail. */
struct preparation { int slot; const char *what; struct request rq; };

/*
 * A pin of the test. What is set by the backend: `fd`, for the actor that will take the pin, inherited and not closed on
 * exec(); -1 if it needs none.
 */
struct pin {
	const struct backend *backend;
	bool writable; /* the device may write the memory, so the kernel has to be asked for that */
	bool opened, taken, held; /* taken: held now or once */
	int fd, taker; /* taker: the actor that took it */
	uint64_t addr, len, stride; /* what was pinned, since it was */
	uint64_t key; /* what hold() answered */
	int mm; /* of which process */
};

/*
 * A way to have memory held, and read or written, by something that has no page table: device.c lists them all. All but
 * hold() are called in the coordinator, which never maps the memory under test.
 */
struct backend {
	const char *name; /* in the text: real/backends.py */
	const char *(*probe)(void); /* once, before the first use: what this machine lacks for it, or NULL */
	int (*open)(int pin); /* before the test's processes exist: what a pin needs beforehand; an errno or 0 */
	struct reply (*hold)(const struct request *rq); /* in the actor: pin rq->addr, rq->len by way of rq->fd */
	struct reply (*dma)(int pin, const struct step *step); /* one word, read or written by the device */
	struct reply (*release)(int pin); /* the pin ends; also called when hold() failed */
	void (*close)(int pin); /* after the test, its processes gone; may be NULL */
	/* what few of them need */
	void (*disown)(void); /* in the test's first process: close what is the coordinator's alone */
	struct reply (*let_go)(const struct request *rq); /* in the actor that took it: see ask_to_let_go() */
	bool late; /* the device can be told to use memory after its release, and shows what comes of it */
	struct server *server; /* direct I/O only: who answers it */
};

/* Where requests are sent: made when first needed, kept from test to test. */
struct line {
	int fd;
	int event; /* an eventfd: counts the requests that have ended */
	bool used;
};

/*
 * The far side of direct I/O, which keeps requests in flight until told. See inflight.c, which is the near side and the
 * only caller; errors are errnos, 0 is success. complete() and fail() return when the requests have ended altogether,
 * with nothing of the kernel's left to do for them: they await() them.
 */
struct server {
	/* What this machine lacks for it, or NULL; asked once, then a line is made and tried in whatever direction it has. */
	const char *(*probe)(void);
	/* Line number `line` (they are made in order): *fd to a file or device of its own, open with O_DIRECT, 4 KiB or more. */
	int (*make)(int line, int *fd);
	/* The one request on the line succeeds: the device has written the sector to memory, or read it from there *now*. */
	int (*complete)(int line, bool device_writes, char sector[SECTOR]);
	/* All n requests on the line, which may be alike, end with EIO; memory stays as it is. */
	int (*fail)(int line, int n);
	bool writes, reads; /* the device can be made to write, to read at a chosen moment */
	struct line lines[MAX_LINES];
	int n_lines;
};

struct test {
	long id, timeout_ms;
	int trace;
	bool batched; /* pages stay in the per-CPU LRU batches into which touching put them */
	int n_actors, n_slots, n_cells, n_steps, n_pins, n_prepared;
	struct actor actors[MAX_ACTORS];
	struct mapping maps[MAX_SLOTS];
	struct pin pins[MAX_PINS];
	int events[MAX_ACTORS * 4];
	unsigned moves[MAX_ACTORS][MAX_SLOTS][MAX_PAGES]; /* per mm: how often mremap() moved the page */
	pid_t group;
	uint64_t deadline;
	bool over; /* what is released now is nobody's business any more */
	int failed; /* the first preparation that did not succeed */
	/* Not cleared between two tests: as many count as the n_ of each says. */
	struct preparation prepared[MAX_PREPARED];
	struct cell cells[MAX_CELLS];
	struct step steps[MAX_STEPS];
} __attribute__((aligned(PAGE))); /* shared by the family: see race.c */

extern struct test test; /* the one at hand */
extern const char *const answer_names[];
extern pid_t coordinator;
extern bool own_machine; /* nothing but us runs here, and nothing after us */
uint64_t now_us(void);

static inline struct reply success(uint64_t value)
{
	return (struct reply){VALUE, value};
}

static inline struct reply failure(int error)
{
	return (struct reply){ERROR, error};
}

static inline struct reply outcome(long rc)
{
	return rc < 0 ? failure(errno) : success(0);
}

static inline uint64_t address(int mm, int slot, int page)
{
	if (page == WHOLE)
		page = 0;
	return BASE + slot * SLOT_DISTANCE + test.moves[mm][slot][page] * MOVE_DISTANCE + page * test.maps[slot].stride;
}

/* agent.c */
bool ask_to_let_go(int pin); /* have the actor that took the pin call let_go(); false if that gave 0, or it cannot */
bool begin_run(void); /* false, with the reason printed, when the test could not be set up */
void clean_up(void);
_Noreturn void unkillable(void);
void flush_lru_batches(void);
bool something_happens(struct pollfd *fds, nfds_t n); /* false when the time is over */
void tell(int actor, const struct request *rq);
struct request request_of(const struct step *st);
void moved(const struct step *st);
void print_ends(FILE *to);

/* actor.c */
_Noreturn void start_process(int actor);
struct reply execute(int actor, const struct request *rq);
_Noreturn void die_of(int sig);

/* race.c */
void share_with_family(bool anew);
bool racing(void);
void race_on(int actor);
const char *run_races(uint64_t runs, uint64_t seed, uint64_t *made);
uint64_t number_of_frame(uint64_t frame);

/* ksm.c */
struct reply ksm_scan(void); /* ETIMEDOUT: the test's time is over */

/* init.c */
_Noreturn void run_as_init(void);
void load_modules(void);

/* userland.c */
_Noreturn void run_userland(void);

/* channel.c */
int open_channel_memory(void);
bool tell_through_memory(int fd);

/* device.c */
extern const struct backend *const backends[];
int backend_of(const char *name); /* or -1 */
bool open_pins(void); /* false, with the reason printed, when a pin of the test cannot be had on this machine */
void disown_pins(void);
void close_pins(void);
struct reply hold(const struct request *rq);
struct reply let_go(const struct request *rq);
struct reply dma(const struct step *step);
struct reply unpin(int pin);
void print_backends(void);

/* The offset of the word that a DMA step is about, from the start of what was pinned. */
static inline uint64_t pin_offset(const struct step *step)
{
	return step->page * test.pins[step->target].stride + step->offset;
}

/* One each in a file of its name */
extern const struct backend uring, vfio, rxe, rxe_odp, xdp, vivid, pipe_backend, zerocopy, dm, loop, nbd, fuse, nfs;

/* inflight.c: what every backend with a server has for its functions */
const char *inflight_probe(struct server *server);
int inflight_open(int pin);
struct reply inflight_hold(const struct request *rq);
struct reply inflight_dma(int pin, const struct step *step);
struct reply inflight_release(int pin);
void inflight_close(int pin);
bool ends_with_io(int mm); /* would a process wait, if its address space were to end now? */

/* A backend that is nothing but its server; the probe is a function for each, since it is given no argument. */
#define DIRECT_IO_BACKEND(name_, server_)                                                                              \
	static const char *probe_server(void)                                                                          \
	{                                                                                                              \
		return inflight_probe(&server_);                                                                       \
	}                                                                                                              \
	const struct backend name_ = {                                                                                 \
		.name = #name_,                                                                                        \
		.probe = probe_server,                                                                                 \
		.open = inflight_open,                                                                                 \
		.hold = inflight_hold,                                                                                 \
		.dma = inflight_dma,                                                                                   \
		.release = inflight_release,                                                                           \
		.close = inflight_close,                                                                               \
		.server = &server_,                                                                                    \
	}

/* for servers */
int await(struct server *server, int line, int n); /* n requests of the line have ended: 0 or ETIMEDOUT */
bool readable(int fd, int milliseconds); /* within this time? */
bool wait_for(pid_t pid); /* a child has ended; false if there is none */
void leave_private(void); /* in a new test process */
int keep_private(int fd); /* the same file, where test processes do not keep it; -1 with errno */

/* net.c; errnos, or 0 */
int loopback_up(void); /* of the namespace that we are in */
int own_network(void); /* enter a namespace with a loopback device and nothing else */
int enter_network(int net); /* one made so before */
int network_back(void); /* if in such a one, return to the one that the agent was started in */

/* pages.c */
void open_kernel_files(void);
void print_pages(int step);
void tell_pages(FILE *to); /* as print_pages(), with frames numbered instead of named */
int open_pagemap(pid_t pid);
void read_frames(int pagemap, const struct pin *pin, uint64_t *frames); /* 0: none, or not to be had */
struct frames { int n; uint64_t of[MAX_PAGES]; };
void remember_frames(pid_t pid, uint64_t addr, uint64_t len, struct frames *frames);
void await_writeback(const struct frames *frames);
void print_pin(int step, int index, pid_t pid, uint64_t addr, uint64_t len, uint64_t stride);

#endif
