/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A slow disk: a file, open with O_DIRECT, whose reads and writes wait until they are let go. It is a FUSE file system
 * of the program's own, one file and no more, served by a thread; it is mounted nowhere, and gone with its descriptor.
 * No time is involved: held_await() returns when a request is in flight, held_let_go() lets it end.
 */
#ifndef HELD_H
#define HELD_H

#include "corpus.h"

#include <linux/fuse.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/stat.h>

#ifndef SYS_fsopen /* linux/mount.h and sys/mount.h do not get on with each other */
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif

static struct {
	int queue;
	sem_t arrived, go;
} held;

static void held_reply(uint64_t unique, int error, const void *data, size_t size)
{
	struct fuse_out_header header = {(uint32_t)(sizeof(header) + size), -error, unique};
	struct iovec parts[] = {{&header, sizeof(header)}, {(void *)data, size}};

	(void)!writev(held.queue, parts, 2);
}

static void held_transfer(const struct fuse_in_header *in)
{
	const struct fuse_read_in *range = (const void *)(in + 1); /* fuse_write_in begins like it */
	static char disk[1 << 20];
	struct fuse_write_out written = {.size = range->size};

	sem_post(&held.arrived);
	while (sem_wait(&held.go) && errno == EINTR)
		;
	memset(disk, 'D', sizeof(disk));
	if (in->opcode == FUSE_READ)
		held_reply(in->unique, 0, disk, range->size < sizeof(disk) ? range->size : sizeof(disk));
	else
		held_reply(in->unique, 0, &written, sizeof(written));
}

static void *held_serve(void *unused)
{
	static char room[256 << 10] __attribute__((aligned(8)));
	const struct fuse_in_header *in = (const void *)room;
	struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .flags = FUSE_ASYNC_DIO, .max_background = 16,
				     .congestion_threshold = 16, .max_write = 128 << 10, .time_gran = 1};
	const struct fuse_attr_out attributes = {
		.attr_valid = 1 << 30,
		.attr = {.ino = FUSE_ROOT_ID, .size = 1 << 20, .mode = S_IFREG | 0600, .nlink = 1, .blksize = PAGE}};
	const struct fuse_open_out opened = {.open_flags = FOPEN_DIRECT_IO | (1 << 5) /* FOPEN_NOFLUSH */};

	while (read(held.queue, room, sizeof(room)) > 0)
		switch (in->opcode) {
		case FUSE_INIT:
			init.minor = ((const struct fuse_init_in *)(in + 1))->minor;
			if (init.minor > FUSE_KERNEL_MINOR_VERSION)
				init.minor = FUSE_KERNEL_MINOR_VERSION;
			held_reply(in->unique, 0, &init, sizeof(init));
			break;
		case FUSE_GETATTR:
			held_reply(in->unique, 0, &attributes, sizeof(attributes));
			break;
		case FUSE_OPEN:
			held_reply(in->unique, 0, &opened, sizeof(opened));
			break;
		case FUSE_READ:
		case FUSE_WRITE:
			held_transfer(in);
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			break;
		case FUSE_RELEASE:
			held_reply(in->unique, 0, NULL, 0);
			break;
		default:
			held_reply(in->unique, ENOSYS, NULL, 0);
		}
	return unused;
}

/* The file's descriptor. */
__attribute__((unused)) static int held_open(void)
{
	char number[12], path[32];
	struct stat attributes;
	pthread_t server;
	int context, mount, fd;

	held.queue = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	need(held.queue >= 0, "/dev/fuse");
	context = (int)syscall(SYS_fsopen, "fuse", 1 /* close on exec */);
	need(context >= 0, "fsopen");
	snprintf(number, sizeof(number), "%d", held.queue);
	need(!syscall(SYS_fsconfig, context, 1, "fd", number, 0) && !syscall(SYS_fsconfig, context, 1, "rootmode", "100600", 0) &&
		     !syscall(SYS_fsconfig, context, 1, "user_id", "0", 0) &&
		     !syscall(SYS_fsconfig, context, 1, "group_id", "0", 0) &&
		     !syscall(SYS_fsconfig, context, 6 /* create */, NULL, NULL, 0),
	     "fsconfig");
	mount = (int)syscall(SYS_fsmount, context, 1, 0);
	need(mount >= 0, "fsmount");
	close(context);
	sem_init(&held.arrived, 0, 0);
	sem_init(&held.go, 0, 0);
	need(!pthread_create(&server, NULL, held_serve, NULL), "pthread_create");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", mount);
	fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	need(fd >= 0 && !fstat(fd, &attributes), path); /* an asynchronous read wants to know where the file ends */
	close(mount);
	return fd;
}

/* Until a read or write is in flight. */
__attribute__((unused)) static void held_await(void)
{
	while (sem_wait(&held.arrived) && errno == EINTR)
		;
}

/* One of those in flight, or the next one, may end. */
__attribute__((unused)) static void held_let_go(void)
{
	sem_post(&held.go);
}

#endif
