// SPDX-License-Identifier: Apache-2.0
/*
 * MSG_ZEROCOPY: what is sent stays in the process's own pages, plain references for reading, until it has left.
 *
 * A corked UDP socket keeps what it was given. Uncorked, it sends that to a socket of the coordinator's over the loopback
 * device, which is when it is copied: the network's read. So a pin is a set of datagrams that wait, one for each page, so
 * that it stays held, and one for each dma_read of the test. Sent, they are gone, and with them their references.
 *
 * UDP_SEGMENT, since without it a corked socket copies at once: only a datagram that it need not put together itself can
 * have its checksum left to the device (__ip_append_data()).
 */
#define _GNU_SOURCE
#include "agent.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum {
	LEAD = 256, /* bytes before a word that are sent with it: old kernels copy the first ones at once */
	DATAGRAM = LEAD + sizeof(uint64_t),
	MAX_DATAGRAMS = 64, /* of all pins of a test */
	SEGMENT = 1024, /* any size that is no less than a datagram's */
	KEEPER = -1,
	DATAGRAM_MS = 2000,
};

struct datagram {
	int pin, step; /* step: the dma_read that is to have it sent, or KEEPER */
	uint64_t offset; /* of its word, from the start of what is pinned */
};

static struct datagram datagrams[MAX_DATAGRAMS];
static int n_datagrams; /* of the test at hand */
static bool *waiting; /* each of them; shared with the test processes, one of which makes it wait */
static struct { int out, in; } sockets[MAX_DATAGRAMS];
static int n_sockets; /* kept from test to test */

static int connected(int fd, const struct sockaddr_in *to)
{
	return connect(fd, (const struct sockaddr *)to, sizeof(*to));
}

/* Two that know each other and nobody else; an errno or 0. */
static int make_pair(int *out, int *in)
{
	const int on = 1, segment = SEGMENT;
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, there = here;
	socklen_t len = sizeof(here);

	*out = socket(AF_INET, SOCK_DGRAM, 0); /* a program started by exec() can send memory too */
	*in = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (*out < 0 || *in < 0 || bind(*out, (struct sockaddr *)&here, len) < 0 ||
	    bind(*in, (struct sockaddr *)&there, len) < 0 || getsockname(*out, (struct sockaddr *)&here, &len) < 0 ||
	    getsockname(*in, (struct sockaddr *)&there, &len) < 0 || connected(*out, &there) < 0 ||
	    connected(*in, &here) < 0 || setsockopt(*out, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)) < 0 ||
	    setsockopt(*out, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment)) < 0)
		return errno;
	return 0;
}

static int make_sockets(int n)
{
	int error = 0;

	if (n <= n_sockets)
		return 0;
	error = own_network();
	if (error && error != EPERM) /* an ordinary user has to do with the network that there is */
		return error;
	for (error = 0; n_sockets < n && !error; n_sockets += !error) {
		int out, in;

		error = make_pair(&out, &in);
		if (error) {
			close(out);
			close(in);
			break;
		}
		sockets[n_sockets].out = out;
		sockets[n_sockets].in = in;
	}
	return network_back() ? errno : error;
}

static struct reply send_word(int out, uint64_t addr)
{
	const int on = 1;

	if (setsockopt(out, SOL_UDP, UDP_CORK, &on, sizeof(on)) < 0)
		return failure(errno);
	return outcome(send(out, (void *)(uintptr_t)(addr - LEAD), DATAGRAM, MSG_ZEROCOPY | MSG_DONTWAIT));
}

/* Have it sent, and look at what arrives. The kernel's notices that pages are free again are of no use here. */
static struct reply deliver(int index)
{
	struct pollfd in = {.fd = sockets[index].in, .events = POLLIN};
	const int off = 0;
	char notice[256], bytes[DATAGRAM];
	uint64_t value;
	struct msghdr notices = {.msg_control = notice, .msg_controllen = sizeof(notice)};

	if (setsockopt(sockets[index].out, SOL_UDP, UDP_CORK, &off, sizeof(off)) < 0)
		return failure(errno);
	if (poll(&in, 1, DATAGRAM_MS) != 1 || recv(in.fd, bytes, sizeof(bytes), 0) != sizeof(bytes))
		return failure(EIO);
	memcpy(&value, bytes + LEAD, sizeof(value));
	while (recvmsg(sockets[index].out, &notices, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0)
		notices.msg_controllen = sizeof(notice);
	return success(value);
}

static int add_datagram(int pin, int step, uint64_t offset)
{
	if (n_datagrams == MAX_DATAGRAMS)
		return ENOBUFS;
	datagrams[n_datagrams++] = (struct datagram){pin, step, offset};
	return 0;
}

/* The pin is taken by this step: so the pages and their distance are known beforehand. */
static const struct step *taking(int pin)
{
	const struct step *st = test.steps;

	while (st < test.steps + test.n_steps && (st->op != PIN || st->target != pin))
		st++;
	return st;
}

static int zerocopy_open(int pin)
{
	const struct step *taken = taking(pin);
	const struct mapping *map = &test.maps[taken->slot];
	int pages = taken->page == WHOLE ? map->pages : 1, error = 0;

	if (!n_datagrams || datagrams[n_datagrams - 1].pin >= pin) /* pins are opened in order: this is another test's first */
		n_datagrams = 0;
	test.pins[pin].stride = map->stride;
	for (int page = 0; page < pages && !error; page++)
		error = add_datagram(pin, KEEPER, (uint64_t)page * map->stride + LEAD);
	for (int i = 0; i < test.n_steps && !error; i++)
		if (test.steps[i].op == DMA_READ && test.steps[i].target == pin)
			error = add_datagram(pin, i, pin_offset(&test.steps[i]));
	return error ? error : make_sockets(n_datagrams);
}

/* Nothing is mapped for a pin in a program just started by exec(); the one that tries has no test to look into either. */
static struct reply zerocopy_hold(const struct request *rq)
{
	struct reply reply = failure(EFAULT);

	for (int i = 0; i < n_datagrams; i++) {
		if (datagrams[i].pin != rq->pin)
			continue;
		reply = send_word(sockets[i].out, rq->addr + datagrams[i].offset);
		if (reply.kind != VALUE)
			break;
		waiting[i] = true;
	}
	return reply;
}

static struct reply zerocopy_dma(int pin, const struct step *step)
{
	for (int i = 0; i < n_datagrams; i++) {
		if (datagrams[i].pin != pin || datagrams[i].step != step - test.steps || !waiting[i])
			continue;
		waiting[i] = false;
		return deliver(i);
	}
	return failure(EIO);
}

/* All that still wait are sent, to nobody's interest. */
static struct reply zerocopy_release(int pin)
{
	for (int i = 0; i < n_datagrams; i++) {
		if (datagrams[i].pin != pin || !waiting[i])
			continue;
		waiting[i] = false;
		deliver(i);
	}
	return success(0);
}

/* Is what waits really the page, and not a copy of what it held? */
static bool waits_in_place(void)
{
	static uint64_t page[PAGE / sizeof(uint64_t)] __attribute__((aligned(PAGE)));
	volatile uint64_t *word = page + LEAD / sizeof(*page);

	*word = 1;
	if (send_word(sockets[0].out, (uintptr_t)word).kind != VALUE)
		return false;
	*word = 2;
	return deliver(0).value == 2;
}

static const char *zerocopy_probe(void)
{
	waiting = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (waiting == MAP_FAILED || make_sockets(1))
		return "two UDP sockets that send in place to each other are not to be had";
	return waits_in_place() ? NULL : "the kernel copies what a corked socket is given";
}

const struct backend zerocopy = {
	.name = "zerocopy",
	.probe = zerocopy_probe,
	.open = zerocopy_open,
	.hold = zerocopy_hold,
	.dma = zerocopy_dma,
	.release = zerocopy_release,
};
