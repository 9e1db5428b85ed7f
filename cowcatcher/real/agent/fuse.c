// SPDX-License-Identifier: Apache-2.0
/*
 * Direct I/O to a FUSE file system of our own: it holds one file, its root, and is mounted nowhere. A request stays in
 * the kernel's queue, and what it writes in the process's memory, until somebody reads the queue; nobody does before
 * the request is to be answered. As queues are first in, first out, every line has a file system of its own.
 */
#define _GNU_SOURCE
#include "agent.h"
#include "fuse.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* linux/mount.h and sys/mount.h do not get on with each other */
#ifndef SYS_fsopen
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif
enum { SET_STRING = 1, CREATE = 6, OPEN_CLOEXEC = 1 };
#ifndef FOPEN_NOFLUSH
#define FOPEN_NOFLUSH (1 << 5)
#endif

enum {
	FILE_SIZE = 1 << 20,
	ROOM = 16 << 10, /* the kernel wants 8 KiB at least */
	FOREVER = 1 << 30, /* seconds */
	QUEUE_MS = 2000, /* for a request that is on its way into the queue */
};

static char room[ROOM] __attribute__((aligned(8)));

static bool reply(int queue, uint64_t unique, int error, const void *data, size_t size)
{
	struct fuse_out_header header = {(uint32_t)(sizeof(header) + size), -error, unique};
	struct iovec parts[] = {{&header, sizeof(header)}, {(void *)data, size}};

	return writev(queue, parts, 2) == (ssize_t)header.len;
}

static bool reply_init(int queue, const struct fuse_in_header *in)
{
	const struct fuse_init_in *wanted = (const void *)(in + 1);
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = wanted->minor < FUSE_KERNEL_MINOR_VERSION ? wanted->minor : FUSE_KERNEL_MINOR_VERSION,
		.flags = wanted->flags & FUSE_ASYNC_DIO,
		.max_background = MAX_LINES,
		.congestion_threshold = MAX_LINES,
		.max_write = PAGE,
		.time_gran = 1,
	};

	return reply(queue, in->unique, 0, &out, sizeof(out));
}

/* Everything but the requests that are to be held. Asked never to flush, the kernel does not do so when a process ends. */
static bool serve(int queue, const struct fuse_in_header *in)
{
	static const struct fuse_attr_out attributes = {
		.attr_valid = FOREVER,
		.attr = {.ino = FUSE_ROOT_ID, .size = FILE_SIZE, .mode = S_IFREG | 0600, .nlink = 1, .blksize = PAGE},
	};
	static const struct fuse_open_out opened = {.open_flags = FOPEN_DIRECT_IO | FOPEN_NOFLUSH};
	static const char zeros[ROOM / 2];

	switch (in->opcode) {
	case FUSE_INIT:
		return reply_init(queue, in);
	case FUSE_GETATTR:
		return reply(queue, in->unique, 0, &attributes, sizeof(attributes));
	case FUSE_OPEN:
		return reply(queue, in->unique, 0, &opened, sizeof(opened));
	case FUSE_READ: { /* somebody looks what is on a new block device */
		const struct fuse_read_in *range = (const void *)(in + 1);

		return reply(queue, in->unique, 0, zeros, range->size < sizeof(zeros) ? range->size : sizeof(zeros));
	}
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		return true; /* these want no reply */
	default:
		return reply(queue, in->unique, ENOSYS, NULL, 0);
	}
}

/* The next request, in `room`; NULL if there is none within this time. */
static const struct fuse_in_header *next(int queue, int milliseconds)
{
	ssize_t n;

	if (!readable(queue, milliseconds))
		return NULL;
	while ((n = read(queue, room, sizeof(room))) < 0 && errno == EINTR)
		;
	return n >= (ssize_t)sizeof(struct fuse_in_header) ? (const void *)room : NULL;
}

/* The next request that is ours to hold. */
static const struct fuse_in_header *next_held(int queue)
{
	const struct fuse_in_header *in;

	while ((in = next(queue, QUEUE_MS))) {
		const struct fuse_read_in *range = (const void *)(in + 1); /* begins like fuse_write_in */

		if ((in->opcode == FUSE_READ || in->opcode == FUSE_WRITE) && range->size == SECTOR)
			return in;
		if (!serve(queue, in))
			return NULL;
	}
	return NULL;
}

/* ---- making one ---- */

struct opening {
	int (*use)(int file);
	int mount, fd, error;
	bool over;
};

/* In a thread, since it waits for answers: opens the file, and has everything asked that is asked only once. */
static void *open_file(void *arg)
{
	struct opening *opening = arg;
	char path[32];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", opening->mount);
	opening->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	opening->error = opening->fd < 0 ? errno : 0;
	if (opening->fd >= 0) {
		fstat(opening->fd, &st);
		close(dup(opening->fd));
	}
	if (opening->fd >= 0 && opening->use) {
		int file = opening->fd;

		opening->fd = opening->use(file);
		opening->error = opening->fd < 0 ? errno : 0;
		close(file);
	}
	__atomic_store_n(&opening->over, true, __ATOMIC_RELEASE);
	return NULL;
}

static int option(int context, const char *name, const char *value)
{
	return (int)syscall(SYS_fsconfig, context, SET_STRING, name, value, 0);
}

/* A mount that is attached nowhere, so that it is gone with its last descriptor; -1 with errno. */
static int make_mount(int queue)
{
	int context = (int)syscall(SYS_fsopen, "fuse", OPEN_CLOEXEC), mount = -1, error;
	char number[12];

	if (context < 0)
		return -1;
	snprintf(number, sizeof(number), "%d", queue);
	if (option(context, "fd", number) == 0 && option(context, "rootmode", "100600") == 0 &&
	    option(context, "user_id", "0") == 0 && option(context, "group_id", "0") == 0 &&
	    syscall(SYS_fsconfig, context, CREATE, NULL, NULL, 0) == 0)
		mount = (int)syscall(SYS_fsmount, context, OPEN_CLOEXEC, 0);
	error = errno;
	close(context);
	errno = error;
	return mount;
}

int fuse_make(int *queue, int (*use)(int file), int *fd)
{
	struct opening opening = {.use = use, .fd = -1, .error = EAGAIN};
	const struct fuse_in_header *in;
	pthread_t thread;

	*queue = keep_private(open("/dev/fuse", O_RDWR | O_CLOEXEC));
	if (*queue < 0)
		return errno;
	opening.mount = make_mount(*queue);
	if (opening.mount < 0)
		opening.error = errno;
	else if (!(opening.error = pthread_create(&thread, NULL, open_file, &opening))) {
		uint64_t give_up = now_us() + QUEUE_MS * 1000ull;

		while (!__atomic_load_n(&opening.over, __ATOMIC_ACQUIRE) && now_us() < give_up)
			if ((in = next(*queue, 1)))
				serve(*queue, in);
		if (!__atomic_load_n(&opening.over, __ATOMIC_ACQUIRE))
			close(*queue), *queue = -1; /* all that still waits for an answer fails */
		pthread_join(thread, NULL);
	}
	if (opening.mount >= 0)
		close(opening.mount);
	if (opening.error && *queue >= 0)
		close(*queue);
	*fd = opening.fd;
	return opening.error;
}

const char *fuse_lacks(void)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	const char *lack = fd >= 0 ? NULL
			   : errno == EACCES || errno == EPERM ? "/dev/fuse may not be opened"
							       : "there is no /dev/fuse (modprobe fuse)";

	if (fd >= 0)
		close(fd);
	return lack;
}

/* ---- answering ---- */

int fuse_complete(int queue, bool device_writes, char sector[SECTOR])
{
	const struct fuse_in_header *in = next_held(queue);
	struct fuse_write_out written = {.size = SECTOR};

	if (!in)
		return ETIMEDOUT;
	if (in->opcode != (device_writes ? FUSE_READ : FUSE_WRITE))
		return EPROTO;
	if (device_writes)
		return reply(queue, in->unique, 0, sector, SECTOR) ? 0 : errno;
	memcpy(sector, (const char *)(in + 1) + sizeof(struct fuse_write_in), SECTOR);
	return reply(queue, in->unique, 0, &written, sizeof(written)) ? 0 : errno;
}

int fuse_fail(int queue, int n)
{
	while (n--) {
		const struct fuse_in_header *in = next_held(queue);

		if (!in)
			return ETIMEDOUT;
		if (!reply(queue, in->unique, EIO, NULL, 0))
			return errno;
	}
	return 0;
}

static int queues[MAX_LINES];
static struct server server;

static int make(int line, int *fd)
{
	return fuse_make(&queues[line], NULL, fd);
}

/* The kernel lets go of the pages before it says that a request has ended: fuse_aio_complete_req(). */
static int complete(int line, bool device_writes, char sector[SECTOR])
{
	int error = fuse_complete(queues[line], device_writes, sector);

	return error ? error : await(&server, line, 1);
}

static int fail(int line, int n)
{
	int error = fuse_fail(queues[line], n);

	return error ? error : await(&server, line, n);
}

static struct server server = {
	.probe = fuse_lacks,
	.make = make,
	.complete = complete,
	.fail = fail,
	.writes = true,
	.reads = true,
};

DIRECT_IO_BACKEND(fuse, server);
