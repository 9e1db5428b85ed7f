// SPDX-License-Identifier: Apache-2.0
/* io_uring's fixed buffers. */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * One ring per pin, kept from test to test. The coordinator owns ring and queues; a test process that inherited the
 * descriptor registers its memory as the ring's fixed buffer, which takes a writable long-term pin. READ_FIXED and
 * WRITE_FIXED between that buffer and a memfd are then the device's accesses.
 *
 * Up to 6.1 or so a kernel waits for RCU when a buffer is released, longer than a test takes. What a test leaves behind is
 * released by a thread there, while the next test has another ring.
 */
enum {
	SLOW_US = 2000, /* a release that takes longer has waited */
	N_RINGS = MAX_PINS + 4,
};

struct ring {
	int fd;
	_Atomic bool used;
	bool left; /* with a buffer, by a test that is over */
	unsigned *sq_tail, *sq_array, *cq_head, *cq_tail;
	unsigned sq_mask, cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static struct ring rings[N_RINGS] = {[0 ... N_RINGS - 1] = {.fd = -1}};
static struct ring *ring_of[MAX_PINS];
static int bounce = -1; /* one word of "device memory" */
static bool slow; /* does this kernel wait? */
static int to_release[2] = {-1, -1}; /* a pipe: numbers of rings, to the thread that releases their buffers */

static void *ring_map(int fd, size_t len, uint64_t offset)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (off_t)offset);

	if (p != MAP_FAILED)
		madvise(p, len, MADV_DONTFORK); /* none of a test process's business */
	return p;
}

static long unregister(struct ring *r)
{
	uint64_t start = now_us();
	long rc = syscall(SYS_io_uring_register, r->fd, IORING_UNREGISTER_BUFFERS, NULL, 0);

	if (now_us() - start > SLOW_US)
		slow = true;
	return rc;
}

static void *release_rings(void *unused)
{
	unsigned char number;

	(void)unused;
	while (read(to_release[0], &number, 1) == 1) {
		unregister(&rings[number]);
		rings[number].used = false;
	}
	return NULL;
}

/* Have it released by the thread. False if that cannot be. */
static bool release_later(struct ring *r)
{
	unsigned char number = (unsigned char)(r - rings);
	pthread_t thread;

	if (to_release[1] < 0) {
		if (pipe2(to_release, O_CLOEXEC) < 0)
			return false;
		for (int i = 0; i < 2; i++)
			to_release[i] = keep_private(to_release[i]);
		if (pthread_create(&thread, NULL, release_rings, NULL)) {
			close(to_release[0]);
			close(to_release[1]);
			to_release[1] = -1;
			return false;
		}
	}
	return write(to_release[1], &number, 1) == 1;
}

/* One that is open if there is one, and nobody's. */
static struct ring *take_ring(void)
{
	struct ring *found = NULL;

	while (!found) {
		for (int i = 0; i < N_RINGS && (!found || found->fd < 0); i++)
			if (!rings[i].used && (!found || rings[i].fd >= 0))
				found = &rings[i];
		if (!found) /* there are more of them than pins: some are being released */
			sched_yield();
	}
	found->used = true;
	return found;
}

static int make_ring(struct ring *r)
{
	struct io_uring_params p = {0};
	char *sq, *cq;

	if (bounce < 0 && ((bounce = memfd_create("bounce", MFD_CLOEXEC)) < 0 || ftruncate(bounce, PAGE) < 0))
		return errno;
	r->fd = (int)syscall(SYS_io_uring_setup, 1, &p);
	if (r->fd < 0)
		return errno;
	fcntl(r->fd, F_SETFD, 0); /* a program started by exec() can pin memory too */
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

static int ring_open(int pin)
{
	struct ring *r = take_ring();
	int error = 0;

	if (r->fd >= 0)
		unregister(r); /* of somebody who was killed while he registered; usually there is nothing */
	else
		error = make_ring(r);
	ring_of[pin] = r;
	r->left = false;
	r->used = !error;
	test.pins[pin].fd = r->fd;
	return error;
}

/* IORING_REGISTER_BUFFERS takes long-term pins, always for writing, never against a protection. */
static struct reply ring_hold(const struct request *rq)
{
	struct iovec range = {(void *)(uintptr_t)rq->addr, rq->len};

	return outcome(syscall(SYS_io_uring_register, rq->fd, IORING_REGISTER_BUFFERS, &range, 1));
}

static struct reply ring_release(int pin)
{
	if (test.over && slow) {
		ring_of[pin]->left = true;
		return success(0);
	}
	return outcome(unregister(ring_of[pin]));
}

static void ring_close(int pin)
{
	struct ring *r = ring_of[pin];

	if (r->left && release_later(r))
		return;
	if (r->left)
		unregister(r);
	r->used = false;
}

/* One word between the fixed buffer, at the address it had when it was registered, and the bounce file. */
static struct reply ring_dma(int pin, const struct step *step)
{
	struct ring *r = ring_of[pin];
	bool device_writes = step->op == DMA_WRITE;
	uint64_t value = step->value;
	unsigned tail = *r->sq_tail, index = tail & r->sq_mask, head = *r->cq_head;
	struct io_uring_sqe *sqe = &r->sqes[index];
	int result, submit = 1;

	if (device_writes && pwrite(bounce, &value, sizeof(value), 0) != sizeof(value))
		return failure(errno);
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = device_writes ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
	sqe->fd = bounce;
	sqe->addr = test.pins[pin].addr + pin_offset(step);
	sqe->len = sizeof(value);
	r->sq_array[index] = index;
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
	/* The wait may end early, and what was submitted is the answer then: the completion is what counts. */
	while (head == __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE)) {
		long entered = syscall(SYS_io_uring_enter, r->fd, submit, 1, IORING_ENTER_GETEVENTS, NULL, 0);

		if (entered < 0 && errno != EINTR)
			return failure(errno);
		if (entered > 0)
			submit = 0;
	}
	result = r->cqes[head & r->cq_mask].res;
	__atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
	if (result != sizeof(value))
		return failure(result < 0 ? -result : EIO);
	if (!device_writes && pread(bounce, &value, sizeof(value), 0) != sizeof(value))
		return failure(errno);
	return success(value);
}

static const char *ring_probe(void)
{
	int error = ring_open(0);

	if (!error) {
		ring_close(0);
		return NULL;
	}
	return error == ENOMEM ? "io_uring_setup() gave ENOMEM: see ulimit -l"
	       : error == ENOSYS ? "the kernel has no io_uring"
				 : "io_uring is not allowed here: see /proc/sys/kernel/io_uring_disabled";
}

const struct backend uring = {
	.name = "uring",
	.probe = ring_probe,
	.open = ring_open,
	.hold = ring_hold,
	.dma = ring_dma,
	.release = ring_release,
	.close = ring_close,
};
