// SPDX-License-Identifier: Apache-2.0
/*
 * Direct I/O to a network block device with a server of our own at the other end of a socket pair. The data of a direct write
 * leaves with the request, so the device can only be made to write memory at a chosen moment. A cross-check for dm.c and
 * loop.c, with which it has no code of the kernel's in common below the block layer.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <endian.h>
#include <fcntl.h>
#include <linux/nbd.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	DEVICE_SIZE = 1 << 20,
	ANSWER_MS = 2000, /* for a request that is on its way */
};

static int sockets[MAX_LINES];
static struct server server;

/* Serves the device: the ioctl lasts as long as that does. */
static void *run_device(void *arg)
{
	ioctl((int)(intptr_t)arg, NBD_DO_IT);
	return NULL;
}

static bool next(int line, struct nbd_request *request, int milliseconds)
{
	return readable(sockets[line], milliseconds) &&
	       recv(sockets[line], request, sizeof(*request), MSG_WAITALL) == sizeof(*request) &&
	       request->magic == htobe32(NBD_REQUEST_MAGIC);
}

static bool reply(int line, const struct nbd_request *request, int error, const char *data, size_t size)
{
	struct nbd_reply header = {.magic = htobe32(NBD_REPLY_MAGIC), .error = htobe32((uint32_t)error)};

	memcpy(&header.handle, &request->handle, sizeof(header.handle));
	return send(sockets[line], &header, sizeof(header), MSG_NOSIGNAL) == sizeof(header) &&
	       send(sockets[line], data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

/* Somebody looks what is on a new device: nothing. */
static bool serve(int line, const struct nbd_request *request)
{
	static const char zeros[64 << 10];
	uint32_t size = be32toh(request->len);
	bool fits = size <= sizeof(zeros);

	return reply(line, request, fits ? 0 : EIO, zeros, fits ? size : 0);
}

/* The next request that is ours to hold. */
static bool next_held(int line, struct nbd_request *request)
{
	while (next(line, request, ANSWER_MS)) {
		if (be32toh(request->len) == SECTOR)
			return true;
		if (!serve(line, request))
			return false;
	}
	return false;
}

struct opening {
	char path[32];
	int fd;
	bool over;
};

static void *open_device(void *arg)
{
	struct opening *opening = arg;

	opening->fd = open(opening->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	__atomic_store_n(&opening->over, true, __ATOMIC_RELEASE);
	return NULL;
}

/* With EBUSY in errno, when a client serves it already. */
static bool in_use(int line)
{
	char path[40];

	snprintf(path, sizeof(path), "/sys/block/nbd%d/pid", line);
	errno = EBUSY;
	return access(path, F_OK) == 0;
}

/* Both threads end with the device, which ends with the sockets. */
static int make(int line, int *fd)
{
	struct opening opening = {.fd = -1};
	struct nbd_request request;
	int device, ends[2];
	pthread_t runner, opener;
	uint64_t give_up;

	snprintf(opening.path, sizeof(opening.path), "/dev/nbd%d", line);
	device = keep_private(open(opening.path, O_RDWR | O_CLOEXEC));
	if (device < 0 || in_use(line) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return errno;
	sockets[line] = keep_private(ends[0]);
	/* The socket first: it is refused if the device is somebody else's. The size is not, and would change his. */
	if (ioctl(device, NBD_SET_SOCK, (unsigned long)ends[1]) < 0 ||
	    ioctl(device, NBD_SET_BLKSIZE, (unsigned long)SECTOR) < 0 ||
	    ioctl(device, NBD_SET_SIZE_BLOCKS, (unsigned long)(DEVICE_SIZE / SECTOR)) < 0) {
		int error = errno;

		close(ends[1]);
		close(sockets[line]);
		close(device);
		return error;
	}
	close(ends[1]);
	if (pthread_create(&runner, NULL, run_device, (void *)(intptr_t)device) ||
	    pthread_create(&opener, NULL, open_device, &opening))
		return EAGAIN;
	pthread_detach(runner);
	give_up = now_us() + ANSWER_MS * 1000ull;
	while (!__atomic_load_n(&opening.over, __ATOMIC_ACQUIRE) && now_us() < give_up)
		if (next(line, &request, 1))
			serve(line, &request);
	if (!__atomic_load_n(&opening.over, __ATOMIC_ACQUIRE))
		shutdown(sockets[line], SHUT_RDWR);
	pthread_join(opener, NULL);
	*fd = opening.fd;
	return opening.fd < 0 ? EIO : 0;
}

static int answer(int line, int n, int error, const char *data, size_t size)
{
	struct nbd_request request;

	for (int i = 0; i < n; i++) {
		if (!next_held(line, &request))
			return ETIMEDOUT;
		if (!reply(line, &request, error, data, size))
			return errno;
	}
	return await(&server, line, n);
}

static int complete(int line, bool device_writes, char sector[SECTOR])
{
	return device_writes ? answer(line, 1, 0, sector, SECTOR) : EPROTO;
}

static int fail(int line, int n)
{
	return answer(line, n, EIO, NULL, 0);
}

static const char *probe_nbd(void)
{
	int fd = open("/dev/nbd0", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT || errno == ENXIO ? "there is no /dev/nbd0 (modprobe nbd)" : "/dev/nbd0 may not be opened";
	close(fd);
	return NULL;
}

static struct server server = {
	.probe = probe_nbd,
	.make = make,
	.complete = complete,
	.fail = fail,
	.writes = true,
};

DIRECT_IO_BACKEND(nbd, server);
