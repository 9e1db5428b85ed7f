// SPDX-License-Identifier: Apache-2.0
/* The devices: io_uring rings with fixed buffers, and pipes. Both belong to the coordinator. */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
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

int ring_open(int pin)
{
	struct ring *r = &rings[pin];
	struct io_uring_params p = {0};
	char *sq, *cq;

	if (r->fd >= 0)
		return 0;
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

int ring_fd(int pin)
{
	return rings[pin].fd;
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
	return success(value);
}

/* What the pipe's pages hold at an offset from its start. tee() first: reading would end the references under test. */
static struct reply pipe_read(const struct pin *pin, size_t offset)
{
	static char bytes[MAX_PAGES * PAGE];
	size_t need = offset + sizeof(uint64_t);
	struct reply reply = failure(EIO);
	int copy[2];

	if (need > sizeof(bytes) || pipe2(copy, O_CLOEXEC | O_NONBLOCK) < 0)
		return failure(errno);
	if (tee(pin->pipe[0], copy[1], need, SPLICE_F_NONBLOCK) == (ssize_t)need &&
	    read(copy[0], bytes, need) == (ssize_t)need) {
		uint64_t value;

		memcpy(&value, bytes + offset, sizeof(value));
		reply = success(value);
	}
	close(copy[0]);
	close(copy[1]);
	return reply;
}

struct reply unpin(int index)
{
	struct pin *pin = &test.pins[index];
	struct reply reply = success(0);

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

struct reply dma(const struct step *step)
{
	const struct pin *pin = &test.pins[step->target];
	uint64_t offset = step->page * pin->stride + step->offset;

	if (pin->state == ON_RING)
		return ring_dma(&rings[step->target], step->op == DMA_WRITE, pin->addr + offset, step->value);
	if (pin->state == IN_PIPE && step->op == DMA_READ)
		return pipe_read(pin, offset);
	return failure(EIO); /* there is no such pin: it was not taken */
}
