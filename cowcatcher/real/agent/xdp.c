// SPDX-License-Identifier: Apache-2.0
/*
 * AF_XDP in copy mode: registering a packet area takes writable long-term pins.
 *
 * Each pin has a network namespace with a loopback device of its own, since a device's queue serves one packet area only.
 * The device reads by sending a frame out of the area: a packet socket sees what it holds. It writes by receiving one: a
 * packet socket sends it, a BPF program redirects it to the AF_XDP socket, and it is copied XDP_PACKET_HEADROOM bytes
 * behind the address that the fill ring names. So the first bytes of the area cannot be written (real/backends.py).
 *
 * The socket is the pin: nothing else can end the registration. No test process keeps its descriptor, the one that
 * registers fetches it for that time.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/if_xdp.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	LOOPBACK = 1, /* its index in every namespace */
	CHUNK = 2048, /* the least there may be */
	HEADROOM = 256, /* XDP_PACKET_HEADROOM */
	RING = 2, /* entries; one is in use at a time */
	READ_FRAME = 64, WRITE_FRAME = 128, /* bytes: the program tells them apart by that */
	FRAME_MS = 2000,
	RELEASE_MS = 10, /* a worker's time to let go of the pages of a socket that is closed */
	BIND_TRIES = 200,
};

struct ring {
	void *map;
	size_t len;
	uint32_t *producer, *consumer;
	void *entries;
};

struct area {
	int net, program, map; /* the namespace, the program on its loopback device, and the map of sockets */
	int packets; /* a packet socket */
	int xdp; /* or -1 */
	struct ring rx, tx, fill, completion;
};

static struct area areas[MAX_PINS];

static int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/* Frames of WRITE_FRAME bytes to the socket in the map, all others on their way. */
static int load_program(int map)
{
	const struct bpf_insn code[] = {
		{.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 1, .off = offsetof(struct xdp_md, data_end)},
		{.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 3, .src_reg = 1, .off = offsetof(struct xdp_md, data)},
		{.code = BPF_ALU64 | BPF_SUB | BPF_X, .dst_reg = 2, .src_reg = 3},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = XDP_PASS},
		{.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = 2, .off = 5, .imm = WRITE_FRAME},
		{.code = BPF_LD | BPF_IMM | BPF_DW, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map},
		{0}, /* the second half of the one before */
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .imm = 0},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = XDP_DROP},
		{.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map},
		{.code = BPF_JMP | BPF_EXIT},
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_XDP,
		.insns = (uintptr_t)code,
		.insn_cnt = sizeof(code) / sizeof(code[0]),
		.license = (uintptr_t)"Apache-2.0",
	};

	return bpf(BPF_PROG_LOAD, &attr);
}

static int attach_program(int program)
{
	union bpf_attr attr = {.link_create = {
		.prog_fd = (uint32_t)program,
		.target_ifindex = LOOPBACK,
		.attach_type = BPF_XDP,
		.flags = XDP_FLAGS_SKB_MODE,
	}};

	return bpf(BPF_LINK_CREATE, &attr);
}

/* Once, in a namespace that was just made. */
static bool furnish(struct area *a)
{
	union bpf_attr attr = {.map_type = BPF_MAP_TYPE_XSKMAP, .key_size = 4, .value_size = 4, .max_entries = 1};
	struct sockaddr_ll everything = {
		.sll_family = AF_PACKET, .sll_protocol = __builtin_bswap16(ETH_P_ALL), .sll_ifindex = LOOPBACK};
	int program;

	a->net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	a->packets = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (a->net < 0 || a->packets < 0 ||
	    bind(a->packets, (struct sockaddr *)&everything, sizeof(everything)) < 0)
		return false;
	a->map = bpf(BPF_MAP_CREATE, &attr);
	program = a->map < 0 ? -1 : load_program(a->map);
	a->program = program < 0 ? -1 : attach_program(program);
	if (program >= 0)
		close(program);
	return a->program >= 0;
}

static int make_namespace(struct area *a)
{
	int error = own_network();

	if (!error && !furnish(a)) {
		const int made[] = {a->net, a->packets, a->map, a->program};

		error = errno;
		for (int i = 0; i < 4; i++)
			if (made[i] > 0)
				close(made[i]);
		memset(a, 0, sizeof(*a)); /* to be tried again */
	}
	return network_back() ? errno : error;
}

static bool map_ring(int fd, struct ring *r, size_t entry, const struct xdp_ring_offset *at, uint64_t offset)
{
	r->len = at->desc + RING * entry;
	r->map = mmap(NULL, r->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (off_t)offset);
	if (r->map == MAP_FAILED) {
		r->map = NULL;
		return false;
	}
	madvise(r->map, r->len, MADV_DONTFORK); /* it would keep the socket open, and with it the pin */
	r->producer = (uint32_t *)((char *)r->map + at->producer);
	r->consumer = (uint32_t *)((char *)r->map + at->consumer);
	r->entries = (char *)r->map + at->desc;
	return true;
}

static bool make_rings(struct area *a)
{
	const int kinds[] = {XDP_RX_RING, XDP_TX_RING, XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING}, size = RING;
	struct xdp_mmap_offsets at;
	socklen_t len = sizeof(at);

	for (int i = 0; i < 4; i++)
		if (setsockopt(a->xdp, SOL_XDP, kinds[i], &size, sizeof(size)) < 0)
			return false;
	return getsockopt(a->xdp, SOL_XDP, XDP_MMAP_OFFSETS, &at, &len) == 0 &&
	       map_ring(a->xdp, &a->rx, sizeof(struct xdp_desc), &at.rx, XDP_PGOFF_RX_RING) &&
	       map_ring(a->xdp, &a->tx, sizeof(struct xdp_desc), &at.tx, XDP_PGOFF_TX_RING) &&
	       map_ring(a->xdp, &a->fill, sizeof(uint64_t), &at.fr, XDP_UMEM_PGOFF_FILL_RING) &&
	       map_ring(a->xdp, &a->completion, sizeof(uint64_t), &at.cr, XDP_UMEM_PGOFF_COMPLETION_RING);
}

static bool enter_in_map(const struct area *a)
{
	const uint32_t key = 0;
	union bpf_attr attr = {
		.map_fd = (uint32_t)a->map, .key = (uintptr_t)&key, .value = (uintptr_t)&a->xdp, .flags = BPF_ANY};

	return bpf(BPF_MAP_UPDATE_ELEM, &attr) == 0;
}

/* A socket belongs to the namespace in which it was made. */
static int make_socket(struct area *a)
{
	int error = enter_network(a->net);

	if (error)
		return error;
	a->xdp = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (a->xdp < 0 || !make_rings(a) || !enter_in_map(a))
		error = errno;
	return network_back() ? errno : error;
}

static void drop_socket(struct area *a)
{
	for (struct ring *r = &a->rx; r <= &a->completion; r++)
		if (r->map)
			munmap(r->map, r->len);
	memset(&a->rx, 0, 4 * sizeof(a->rx));
	if (a->xdp >= 0)
		close(a->xdp);
	a->xdp = -1;
}

static int xdp_open(int pin)
{
	struct area *a = &areas[pin];
	int error = a->net ? 0 : make_namespace(a);

	a->xdp = -1;
	if (!error)
		error = make_socket(a);
	test.pins[pin].fd = a->xdp;
	if (error)
		drop_socket(a);
	return error;
}

static void xdp_disown(void)
{
	for (int pin = 0; pin < test.n_pins; pin++)
		if (test.pins[pin].backend == &xdp)
			close(areas[pin].xdp);
}

static int fetch(int fd)
{
	int from = (int)syscall(SYS_pidfd_open, coordinator, 0);
	int here = from < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, from, fd, 0);

	if (from >= 0)
		close(from);
	return here;
}

/* The queue of a socket that was closed a moment ago is busy until a worker has been at it. */
static int bind_to_loopback(int fd)
{
	const struct sockaddr_xdp queue = {.sxdp_family = AF_XDP, .sxdp_flags = XDP_COPY, .sxdp_ifindex = LOOPBACK};
	const struct timespec nap = {.tv_nsec = 5 * 1000 * 1000};
	int rc;

	for (int tries = 0; (rc = bind(fd, (struct sockaddr *)&queue, sizeof(queue))) < 0 && errno == EBUSY; tries++) {
		if (tries == BIND_TRIES)
			break;
		nanosleep(&nap, NULL);
	}
	return rc;
}

static struct reply xdp_hold(const struct request *rq)
{
	const struct xdp_umem_reg area = {
		.addr = rq->addr, .len = rq->len, .chunk_size = CHUNK, .flags = XDP_UMEM_UNALIGNED_CHUNK_FLAG};
	struct reply reply;
	int fd = fetch(rq->fd);

	if (fd < 0)
		return failure(errno);
	reply = outcome(setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &area, sizeof(area)));
	if (reply.kind == VALUE)
		reply = outcome(bind_to_loopback(fd));
	close(fd);
	return reply;
}

static struct reply xdp_release(int pin)
{
	const struct timespec nap = {.tv_nsec = RELEASE_MS * 1000 * 1000};

	drop_socket(&areas[pin]);
	if (!test.pins[pin].taken)
		return success(0);
	syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0); /* the socket goes with RCU, and then by way of a worker */
	nanosleep(&nap, NULL);
	return success(0);
}

static void xdp_close(int pin)
{
	drop_socket(&areas[pin]);
}

/* Hand one entry to the kernel, and tell where to write it. */
static uint32_t slot_of(const struct ring *r)
{
	return *r->producer & (RING - 1);
}

static void produced(struct ring *r)
{
	__atomic_store_n(r->producer, *r->producer + 1, __ATOMIC_RELEASE);
}

/* Take back what the kernel has produced; false if there is nothing. */
static bool consume(struct ring *r)
{
	uint32_t there = __atomic_load_n(r->producer, __ATOMIC_ACQUIRE);
	bool any = there != *r->consumer;

	__atomic_store_n(r->consumer, there, __ATOMIC_RELEASE);
	return any;
}

/* The next frame that came in, not one that went out; its length, or -1. */
static ssize_t frame_in(int packets, void *frame, size_t size, int patience)
{
	struct sockaddr_ll from = {0};
	socklen_t len = sizeof(from);
	ssize_t n;

	do {
		struct pollfd fd = {.fd = packets, .events = POLLIN};

		if (poll(&fd, 1, patience) != 1)
			return -1;
		n = recvfrom(packets, frame, size, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
	} while (n >= 0 && from.sll_pkttype == PACKET_OUTGOING);
	return n;
}

static struct reply read_area(struct area *a, uint64_t offset)
{
	struct xdp_desc *entry = (struct xdp_desc *)a->tx.entries + slot_of(&a->tx);
	char frame[READ_FRAME];
	uint64_t value;

	while (frame_in(a->packets, frame, sizeof(frame), 0) >= 0)
		; /* what is left from before */
	*entry = (struct xdp_desc){.addr = offset, .len = READ_FRAME};
	produced(&a->tx);
	if (sendto(a->xdp, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0)
		return failure(errno);
	if (frame_in(a->packets, frame, sizeof(frame), FRAME_MS) != READ_FRAME || !consume(&a->completion))
		return failure(EIO);
	memcpy(&value, frame, sizeof(value));
	return success(value);
}

static struct reply write_area(struct area *a, uint64_t offset, uint64_t value)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = LOOPBACK, .sll_halen = ETH_ALEN};
	struct pollfd received = {.fd = a->xdp, .events = POLLIN};
	char frame[WRITE_FRAME] = {0};

	if (offset < HEADROOM)
		return failure(EFAULT);
	((uint64_t *)a->fill.entries)[slot_of(&a->fill)] = offset - HEADROOM;
	produced(&a->fill);
	memcpy(frame, &value, sizeof(value));
	if (sendto(a->packets, frame, sizeof(frame), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		return failure(errno);
	if (poll(&received, 1, FRAME_MS) != 1 || !consume(&a->rx))
		return failure(EIO);
	return success(0);
}

static struct reply xdp_dma(int pin, const struct step *step)
{
	struct area *a = &areas[pin];

	return step->op == DMA_WRITE ? write_area(a, pin_offset(step), step->value) : read_area(a, pin_offset(step));
}

static const char *xdp_probe(void)
{
	int error = xdp_open(0);

	drop_socket(&areas[0]);
	return !error			 ? NULL
	       : error == EPERM		 ? "it takes CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_BPF: run as root"
	       : error == EAFNOSUPPORT	 ? "the kernel has no AF_XDP"
	       : error == ENOSYS	 ? "the kernel has no bpf()"
					 : "a namespace with an AF_XDP socket and its program could not be made";
}

const struct backend xdp = {
	.name = "xdp",
	.probe = xdp_probe,
	.open = xdp_open,
	.disown = xdp_disown,
	.hold = xdp_hold,
	.dma = xdp_dma,
	.release = xdp_release,
	.close = xdp_close,
};
