// SPDX-License-Identifier: Apache-2.0
/* io_uring's fixed buffers. */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * One ring per pin, kept from test to test. The coordinator owns ring and queues; a test process that inherited the
 * descriptor registers its memory as the ring's fixed buffer, which takes a writable long-term pin. READ_FIXED and
 * WRITE_FIXED between that buffer and a memfd are then the device's accesses.
 */
struct ring {
	int fd;
	unsigned *sq_tail, *sq_array, *cq_head, *cq_tail;
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

static int ring_open(int pin)
{
	struct ring *r = &rings[pin];
	struct io_uring_params p = {0};
	char *sq, *cq;

	test.pins[pin].fd = r->fd;
	if (r->fd >= 0) {
		/* Of somebody who was killed while he registered; usually there is nothing. */
		syscall(SYS_io_uring_register, r->fd, IORING_UNREGISTER_BUFFERS, NULL, 0);
		return 0;
	}
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
	test.pins[pin].fd = r->fd;
	return 0;
}

/* IORING_REGISTER_BUFFERS takes long-term pins, always for writing, never against a protection. */
static struct reply ring_hold(const struct request *rq)
{
	struct iovec range = {(void *)(uintptr_t)rq->addr, rq->len};

	return outcome(syscall(SYS_io_uring_register, rq->fd, IORING_REGISTER_BUFFERS, &range, 1));
}

static struct reply ring_release(int pin)
{
	return outcome(syscall(SYS_io_uring_register, rings[pin].fd, IORING_UNREGISTER_BUFFERS, NULL, 0));
}

/* One word between the fixed buffer, at the address it had when it was registered, and the bounce file. */
static struct reply ring_dma(int pin, const struct step *step)
{
	struct ring *r = &rings[pin];
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

	if (!error)
		return NULL;
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
};
