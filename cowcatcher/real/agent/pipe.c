// SPDX-License-Identifier: Apache-2.0
/* Pipes: vmsplice() takes plain references, for reading; whoever reads the pipe is the device. */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int read_end[MAX_PINS], write_end[MAX_PINS];

static const char *pipe_probe(void)
{
	return NULL; /* no kernel is without */
}

static int pipe_open(int pin)
{
	int ends[2];

	if (pipe2(ends, O_NONBLOCK) < 0)
		return errno;
	read_end[pin] = ends[0];
	test.pins[pin].fd = write_end[pin] = ends[1];
	return 0;
}

/* Where a page in the middle cannot be had, vmsplice() takes those before it; the error comes with the next call. */
static struct reply pipe_hold(const struct request *rq)
{
	struct iovec range = {(void *)(uintptr_t)rq->addr, rq->len};

	if (range.iov_len > MAX_PAGES * PAGE) /* of a huge page the beginning: it is referenced as a whole */
		range.iov_len = PAGE;
	while (range.iov_len) {
		ssize_t n = vmsplice(rq->fd, &range, 1, SPLICE_F_NONBLOCK);

		if (n < 0)
			return failure(errno);
		range.iov_base = (char *)range.iov_base + n;
		range.iov_len -= (size_t)n;
	}
	return success(0);
}

/* What the pipe's pages hold at an offset from its start. tee() first: reading would end the references under test. */
static struct reply pipe_dma(int pin, const struct step *step)
{
	static char bytes[MAX_PAGES * PAGE];
	size_t offset = pin_offset(step), need = offset + sizeof(uint64_t);
	struct reply reply = failure(EIO);
	int copy[2];

	if (step->op == DMA_WRITE)
		return reply;
	if (need > sizeof(bytes) || pipe2(copy, O_CLOEXEC | O_NONBLOCK) < 0)
		return failure(errno);
	if (tee(read_end[pin], copy[1], need, SPLICE_F_NONBLOCK) == (ssize_t)need &&
	    read(copy[0], bytes, need) == (ssize_t)need) {
		uint64_t value;

		memcpy(&value, bytes + offset, sizeof(value));
		reply = success(value);
	}
	close(copy[0]);
	close(copy[1]);
	return reply;
}

/* Drained, not closed: the test processes have inherited the descriptors. */
static struct reply pipe_release(int pin)
{
	char page[PAGE];

	while (read(read_end[pin], page, sizeof(page)) > 0)
		;
	return success(0);
}

static void pipe_close(int pin)
{
	close(read_end[pin]);
	close(write_end[pin]);
}

const struct backend pipe_backend = {
	.name = "pipe",
	.probe = pipe_probe,
	.open = pipe_open,
	.hold = pipe_hold,
	.dma = pipe_dma,
	.release = pipe_release,
	.close = pipe_close,
};
