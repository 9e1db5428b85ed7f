// SPDX-License-Identifier: Apache-2.0
/*
 * Direct I/O to a block device on any machine: loop devices with direct I/O to files of our own (fuse.c). Such a device
 * sends the pages of a request on as they are, so what the file's server holds up is the request to the device.
 */
#define _GNU_SOURCE
#include "agent.h"
#include "fuse.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef LOOP_CONFIGURE
#define LOOP_CONFIGURE 0x4C0A
struct loop_config {
	__u32 fd, block_size;
	struct loop_info64 info;
	__u64 reserved[8];
};
#endif

enum { TRIES = 8 }; /* others look for free devices too */

static int queues[MAX_LINES];
static struct server server;

static const char *probe_loop(void)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

	if (control < 0)
		return errno == EACCES || errno == EPERM ? "/dev/loop-control may not be opened"
							 : "there is no /dev/loop-control (modprobe loop)";
	close(control);
	return fuse_lacks();
}

/* A device on this file, which goes when nobody has it open any more. Making it, the kernel asks the file's server a lot. */
static int attach(int file)
{
	struct loop_config config = {
		.fd = (uint32_t)file,
		.block_size = SECTOR,
		.info.lo_flags = LO_FLAGS_DIRECT_IO | LO_FLAGS_AUTOCLEAR,
	};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), fd = -1;

	for (int i = 0; i < TRIES && fd < 0; i++) {
		char path[32];

		snprintf(path, sizeof(path), "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
		fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
		if (fd < 0 || ioctl(fd, LOOP_CONFIGURE, &config) == 0)
			break;
		close(fd);
		fd = -1;
		if (errno != EBUSY)
			break;
	}
	close(control);
	return fd;
}

static int make(int line, int *fd)
{
	return fuse_make(&queues[line], attach, fd);
}

/* Answered from this processor, to which the request belongs, it ends in this call: nothing is left when that returns. */
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
	.probe = probe_loop,
	.make = make,
	.complete = complete,
	.fail = fail,
	.writes = true,
	.reads = true,
};

DIRECT_IO_BACKEND(loop, server);
