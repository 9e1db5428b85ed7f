// SPDX-License-Identifier: Apache-2.0
/*
 * Direct I/O, held in flight until told: the near side, which all backends of that kind share.
 *
 * A request that was submitted, and is not answered, holds the pages of its buffer by whatever reference this kernel takes
 * for direct I/O. A pin is a set of such requests, all submitted by hold(): a *keeper* for each page, so that every page
 * stays held until the pin is released, and one for each dma_read and dma_write that the test has for this pin. A server
 * (agent.h) completes one of these when its step is due, and fails all that are left when the pin is released, which
 * changes no memory. Requests are 512 bytes, so that other cells of a page are nobody's business.
 *
 * They are submitted by io_submit(), because that returns as soon as the pages are held, and because such requests need
 * nothing of the process any more: how they end is told by an eventfd of the coordinator's.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

enum {
	MAX_FLIGHTS = 64, /* requests of one pin */
	KEEPER = -1,
	LAST_CHANCE_MS = 2000, /* for requests that are failed when the test's time is over */
	TRIAL_MS = 2000,
};

struct flight {
	int line, step; /* step: which of the test completes it, or KEEPER */
	uint64_t offset; /* from the start of what is pinned */
	bool over;
};

static struct {
	struct flight flights[MAX_FLIGHTS];
	int n;
} of_pin[MAX_PINS];

/* How many of a pin's requests were submitted. Shared with the test processes, one of which does that. */
static int *submitted;

/* ---- lines ---- */

int keep_private(int fd)
{
	int kept = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FIRST_PRIVATE), error = errno;

	if (fd >= 0)
		close(fd);
	errno = error;
	return kept;
}

/* What fails when its last descriptor is closed must not be kept open by those who wait for that. */
void leave_private(void)
{
	syscall(SYS_close_range, FIRST_PRIVATE, ~0U, 0);
}

/* Out of the way of the descriptors that have fixed numbers; open beyond exec(), after which one can still try to pin. */
static int keep_shared(int fd)
{
	int kept = fd < 0 ? -1 : fcntl(fd, F_DUPFD, FIRST_LINE), error = errno;

	if (fd >= 0)
		close(fd);
	errno = error;
	return kept;
}

static int make_line(struct server *server)
{
	struct line *line = &server->lines[server->n_lines];
	int error, fd;

	if (server->n_lines == MAX_LINES)
		return EMFILE;
	line->event = keep_shared(eventfd(0, EFD_NONBLOCK));
	if (line->event < 0)
		return errno;
	error = server->make(server->n_lines, &fd);
	line->fd = error ? -1 : keep_shared(fd);
	if (!error && line->fd < 0)
		error = errno;
	if (error)
		close(line->event);
	else
		server->n_lines++;
	return error;
}

/* A line that nobody uses; -1 with errno. */
static int take_line(struct server *server)
{
	int i = 0;

	while (i < server->n_lines && server->lines[i].used)
		i++;
	if (i == server->n_lines && (errno = make_line(server)))
		return -1;
	server->lines[i].used = true;
	return i;
}

bool readable(int fd, int milliseconds)
{
	struct pollfd some = {.fd = fd, .events = POLLIN};
	uint64_t give_up = now_us() + milliseconds * 1000ull;
	int n;

	while ((n = poll(&some, 1, milliseconds)) < 0 && errno == EINTR && now_us() < give_up)
		; /* a kernel may say so without any signal */
	return n > 0;
}

bool wait_for(pid_t pid)
{
	pid_t got = -1;

	while (pid > 0 && (got = waitpid(pid, NULL, 0)) < 0 && errno == EINTR)
		;
	return got > 0;
}

/* How many requests of the line have ended since this was asked last. */
static int count_ended(const struct line *line)
{
	uint64_t n;

	return read(line->event, &n, sizeof(n)) == sizeof(n) ? (int)n : 0;
}

int await(struct server *server, int line, int n)
{
	uint64_t last_chance = now_us() + LAST_CHANCE_MS * 1000ull;
	uint64_t deadline = test.deadline > last_chance ? test.deadline : last_chance;

	for (;;) {
		uint64_t now = now_us();

		n -= count_ended(&server->lines[line]);
		if (n <= 0)
			return 0;
		if (now >= deadline || !readable(server->lines[line].event, (int)((deadline - now) / 1000) + 1))
			return ETIMEDOUT;
	}
}

/* ---- submission ---- */

/* One request. What cannot get at its memory ends at once: then why, else 0. */
static int submit(aio_context_t context, int fd, int event, bool device_writes, uint64_t addr)
{
	struct iocb request = {
		.aio_lio_opcode = device_writes ? IOCB_CMD_PREAD : IOCB_CMD_PWRITE,
		.aio_fildes = (uint32_t)fd,
		.aio_buf = addr,
		.aio_nbytes = SECTOR,
		.aio_flags = event < 0 ? 0 : IOCB_FLAG_RESFD,
		.aio_resfd = (uint32_t)event,
	}, *requests[] = {&request};
	const struct timespec no_time = {0};
	struct io_event ended;

	if (syscall(SYS_io_submit, context, 1, requests) != 1)
		return errno;
	if (syscall(SYS_io_getevents, context, 0, 1, &ended, &no_time) != 1)
		return 0;
	/* Block devices up to v5.16 say EIO to asynchronous requests for whatever happens before they are sent. */
	return ended.res >= 0 ? EPROTO : ended.res == -EIO ? EFAULT : (int)-ended.res;
}

struct reply inflight_hold(const struct request *rq)
{
	aio_context_t context = 0;
	int error = 0;

	if (syscall(SYS_io_setup, MAX_FLIGHTS, &context) < 0)
		return failure(errno);
	if (!submitted) /* a new program, which has nothing of the test's memory: no other answer than that */
		return failure(submit(context, rq->fd, -1, rq->writable, rq->addr));
	for (int i = 0; i < of_pin[rq->pin].n && !error; i++) {
		const struct flight *flight = &of_pin[rq->pin].flights[i];
		const struct line *line = &backends[rq->backend]->server->lines[flight->line];

		error = submit(context, line->fd, line->event, rq->writable, rq->addr + flight->offset);
		submitted[rq->pin]++;
	}
	return error ? failure(error) : success(0);
}

/* ---- the life of a pin ---- */

static int add_flight(int pin, int line, int step, uint64_t offset)
{
	if (of_pin[pin].n == MAX_FLIGHTS)
		return ENOBUFS;
	of_pin[pin].flights[of_pin[pin].n++] = (struct flight){line, step, offset, false};
	return 0;
}

/* What the test will want of this pin is known beforehand. Keepers first: if a page cannot be had, it is they that fail. */
static int plan_flights(int pin)
{
	struct server *server = test.pins[pin].backend->server;
	uint64_t stride = 0;
	int line, error = 0;

	for (int i = 0; i < test.n_steps && !error; i++) {
		const struct step *step = &test.steps[i];

		if (step->op != PIN || step->target != pin)
			continue;
		stride = test.maps[step->slot].stride;
		if ((line = take_line(server)) < 0)
			return errno;
		test.pins[pin].fd = server->lines[line].fd;
		for (int page = 0; page < (step->page == WHOLE ? test.maps[step->slot].pages : 1) && !error; page++)
			error = add_flight(pin, line, KEEPER, page * stride);
	}
	for (int i = 0; i < test.n_steps && !error; i++) {
		const struct step *step = &test.steps[i];

		if ((step->op != DMA_READ && step->op != DMA_WRITE) || step->target != pin)
			continue;
		if ((line = take_line(server)) < 0)
			return errno;
		error = add_flight(pin, line, i, step->page * stride + step->offset);
	}
	return error;
}

int inflight_open(int pin)
{
	int error;

	submitted[pin] = of_pin[pin].n = 0;
	error = plan_flights(pin);
	if (error)
		inflight_close(pin); /* the lines that were taken are the next test's */
	return error;
}

struct reply inflight_dma(int pin, const struct step *step)
{
	struct server *server = test.pins[pin].backend->server;
	bool device_writes = step->op == DMA_WRITE;
	uint64_t value = step->value;
	char sector[SECTOR] = {0};

	memcpy(sector, &value, sizeof(value));
	for (int i = 0; i < of_pin[pin].n; i++) {
		struct flight *flight = &of_pin[pin].flights[i];
		int error;

		if (flight->step != step - test.steps || device_writes != test.pins[pin].writable)
			continue;
		error = server->complete(flight->line, device_writes, sector);
		if (error)
			return failure(error);
		flight->over = true;
		memcpy(&value, sector, sizeof(value));
		return success(value);
	}
	return failure(EIO);
}

/* All that is still in flight comes back without effect. */
struct reply inflight_release(int pin)
{
	struct server *server = test.pins[pin].backend->server;
	int error = 0;

	for (int line = 0; line < server->n_lines; line++) {
		int n = 0;

		for (int i = 0; i < submitted[pin]; i++)
			n += of_pin[pin].flights[i].line == line && !of_pin[pin].flights[i].over;
		if (n)
			n -= count_ended(&server->lines[line]); /* those that never got anywhere */
		if (n > 0 && server->fail(line, n))
			error = ETIMEDOUT;
	}
	for (int i = 0; i < submitted[pin] && !error; i++)
		of_pin[pin].flights[i].over = true;
	return error ? failure(error) : success(0);
}

/* A line on which something is left is not used again. */
void inflight_close(int pin)
{
	struct server *server = test.pins[pin].backend->server;

	for (int i = 0; i < of_pin[pin].n; i++)
		if (i >= submitted[pin] || of_pin[pin].flights[i].over)
			server->lines[of_pin[pin].flights[i].line].used = false;
	of_pin[pin].n = submitted[pin] = 0;
}

/* The kernel ends an address space when the last process leaves it, and waits for its direct I/O first (exit_aio()). */
bool ends_with_io(int mm)
{
	int users = 0;

	for (int a = 0; a < test.n_actors; a++)
		users += test.actors[a].kind == PROCESS && test.actors[a].life == ALIVE && test.actors[a].mm == mm;
	for (int pin = 0; pin < test.n_pins && users == 1; pin++)
		if (test.pins[pin].held && test.pins[pin].mm == mm && test.pins[pin].backend->server)
			return true;
	return false;
}

/* ---- does it work here? ---- */

/* A test process in small: its page, shared with the coordinator, and what came of its request. */
struct trial {
	char page[PAGE];
	int told; /* an eventfd */
	int error;
};

/*
 * One request of a process that is none of ours any more: should it stay in flight for ever, then so be it. It must not be
 * the coordinator's own, which could not end then, nor the server with it. Memory is all `a` at first.
 */
static bool begin_trial(struct trial *trial, const struct line *line, bool device_writes)
{
	uint64_t one = 1;
	pid_t pid;

	memset(trial->page, 'a', sizeof(trial->page));
	trial->error = EAGAIN;
	pid = fork();
	if (pid == 0) {
		aio_context_t context = 0;

		if (fork())
			_exit(0);
		leave_private();
		if (syscall(SYS_io_setup, 1, &context) < 0)
			trial->error = errno;
		else
			trial->error = submit(context, line->fd, line->event, device_writes, (uintptr_t)trial->page);
		if (write(trial->told, &one, sizeof(one)) < 0)
			_exit(1);
		_exit(0); /* as soon as it can: see ends_with_io() */
	}
	if (!wait_for(pid) || !readable(trial->told, TRIAL_MS))
		return false;
	return read(trial->told, &one, sizeof(one)) == sizeof(one) && !trial->error;
}

/* The device writes: nothing arrives before it is told to, all of it then, and nothing at all when the request fails. */
static const char *try_writing(struct server *server, struct trial *trial)
{
	char sector[SECTOR];

	memset(sector, 'b', sizeof(sector));
	if (!begin_trial(trial, &server->lines[0], true) || trial->page[0] != 'a')
		return "a direct read is not kept in flight";
	if (server->complete(0, true, sector) || memcmp(trial->page, sector, SECTOR) || trial->page[SECTOR] != 'a')
		return "a direct read does not arrive";
	if (!begin_trial(trial, &server->lines[0], true) || server->fail(0, 1) || trial->page[0] != 'a')
		return "a direct read cannot be failed";
	return NULL;
}

/* The device reads: what memory holds when it is told to, and not what it held when the request was made. */
static const char *try_reading(struct server *server, struct trial *trial)
{
	char sector[SECTOR] = {0};

	if (!begin_trial(trial, &server->lines[0], false))
		return "a direct write is not kept in flight";
	memset(trial->page, 'b', sizeof(trial->page));
	if (server->complete(0, false, sector))
		return "a direct write does not arrive";
	if (memcmp(sector, trial->page, SECTOR))
		return "a direct write takes its data too early";
	if (!begin_trial(trial, &server->lines[0], false) || server->fail(0, 1))
		return "a direct write cannot be failed";
	return NULL;
}

static void *shared_memory(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

const char *inflight_probe(struct server *server)
{
	struct trial *trial = shared_memory(sizeof(*trial));
	const char *lack = server->probe();
	int error;

	if (!submitted)
		submitted = shared_memory(PAGE);
	if (lack || !trial || !submitted)
		return lack ? lack : "no memory";
	error = make_line(server);
	if (error)
		return error == EPERM || error == EACCES ? "only root may make one" : "it could not be made";
	trial->told = eventfd(0, 0);
	if (server->writes)
		lack = try_writing(server, trial);
	if (!lack && server->reads)
		lack = try_reading(server, trial);
	close(trial->told);
	munmap(trial, sizeof(*trial));
	return lack;
}
