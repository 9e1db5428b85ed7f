// SPDX-License-Identifier: Apache-2.0
/*
 * Direct I/O to a block device, held up by device mapper: each line is a device that is suspended, with a few sectors of the
 * ram disk below it. Requests wait in front of it as they are. Resumed, it lets them through to the ram disk, or, with the
 * target `error` in its table, fails them.
 *
 * A suspended device does not go away with its last descriptor, and a process with a request in it cannot die: so a
 * process stands by that fails and removes what is left when the coordinator ends, of whatever.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define RAM_DISK "/dev/ram0"
enum {
	LINE_SECTORS = PAGE / SECTOR,
	REMOVE_TRIES = 50, /* of 20 ms each */
};

static int control = -1, ram_disk = -1;
static struct stat ram_disk_stat;
static enum target { LINEAR, FAILING } targets[MAX_LINES]; /* what is in the table, or will be once it is resumed */
static struct server server;

/* One of device mapper's ioctls on the device of this line. */
static int command(unsigned long request, int line, unsigned flags, struct dm_ioctl *arg, size_t size)
{
	arg->version[0] = DM_VERSION_MAJOR;
	arg->data_size = (uint32_t)size;
	arg->data_start = sizeof(*arg);
	arg->flags = flags;
	snprintf(arg->name, sizeof(arg->name), "cowcatcher-%d-%d", coordinator, line);
	return ioctl(control, request, arg) < 0 ? errno : 0;
}

static int simple(unsigned long request, int line, unsigned flags)
{
	struct dm_ioctl arg = {0};

	return command(request, line, flags, &arg, sizeof(arg));
}

static int suspend(int line)
{
	return simple(DM_DEV_SUSPEND, line, DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG | DM_NOFLUSH_FLAG);
}

static int resume(int line)
{
	return simple(DM_DEV_SUSPEND, line, 0);
}

/* The table that the next resume() puts in. */
static int load(int line, enum target target)
{
	struct {
		struct dm_ioctl dm;
		struct dm_target_spec spec;
		char parameters[64];
	} table = {.dm.target_count = 1, .spec.length = LINE_SECTORS};
	int error;

	strcpy(table.spec.target_type, target == LINEAR ? "linear" : "error");
	if (target == LINEAR)
		snprintf(table.parameters, sizeof(table.parameters), "%u:%u %d", major(ram_disk_stat.st_rdev),
			 minor(ram_disk_stat.st_rdev), line * LINE_SECTORS);
	error = command(DM_TABLE_LOAD, line, 0, &table.dm, sizeof(table));
	if (!error)
		targets[line] = target;
	return error;
}

/*
 * What is in the line comes to its end in the given way, and the line is ready again. Suspending waits for the worker that
 * lets the requests through, so nothing of them is left afterwards.
 */
static int let_through(int line, enum target target, int n)
{
	int error = targets[line] == target ? 0 : load(line, target);

	if (!error)
		error = resume(line);
	if (!error)
		error = await(&server, line, n);
	return error ? error : suspend(line);
}

static int complete(int line, bool device_writes, char sector[SECTOR])
{
	static char buffer[SECTOR] __attribute__((aligned(SECTOR)));
	off_t at = (off_t)line * LINE_SECTORS * SECTOR;
	int error;

	memcpy(buffer, sector, SECTOR);
	if (device_writes && pwrite(ram_disk, buffer, SECTOR, at) != SECTOR)
		return errno;
	error = let_through(line, LINEAR, 1);
	if (!error && !device_writes && pread(ram_disk, buffer, SECTOR, at) != SECTOR)
		error = errno;
	memcpy(sector, buffer, SECTOR);
	return error;
}

static int fail(int line, int n)
{
	return let_through(line, FAILING, n);
}

/* ---- how it begins and ends ---- */

static void remove_all(void)
{
	static const char zeroes[SECTOR] __attribute__((aligned(SECTOR)));

	for (int line = 0; line < MAX_LINES; line++) {
		int error = load(line, FAILING);

		if (error == ENXIO)
			break;
		resume(line);
		for (int i = 0; i < REMOVE_TRIES && simple(DM_DEV_REMOVE, line, 0) == EBUSY; i++)
			poll(NULL, 0, 20);
		/* As it was found: the next one looks whether the disk is empty. */
		if (pwrite(ram_disk, zeroes, SECTOR, (off_t)line * LINE_SECTORS * SECTOR) != SECTOR)
			break;
	}
}

static void remove_mine(void)
{
	if (getpid() != coordinator)
		return;
	for (int line = 0; line < server.n_lines; line++)
		close(server.lines[line].fd);
	remove_all();
}

/* Nobody's child and in nobody's group; holds nothing open but what it needs. */
static int stand_by(void)
{
	int ends[2];
	pid_t pid;
	char none;

	if (pipe(ends) < 0)
		return errno;
	pid = fork();
	if (pid == 0) {
		if (fork())
			_exit(0);
		setsid();
		for (int fd = 0; fd < FIRST_PRIVATE; fd++)
			if (fd != ends[0])
				close(fd);
		control = dup(control); /* to where they are not closed next */
		ram_disk = dup(ram_disk);
		leave_private();
		if (read(ends[0], &none, 1) == 0)
			remove_all();
		_exit(0);
	}
	close(ends[0]);
	if (keep_private(ends[1]) < 0 || !wait_for(pid))
		return errno;
	atexit(remove_mine);
	return 0;
}

static int make(int line, int *fd)
{
	struct dm_ioctl arg = {0};
	char path[32];
	int error;

	error = line ? 0 : stand_by();
	if (!error)
		error = command(DM_DEV_CREATE, line, 0, &arg, sizeof(arg));
	if (!error)
		error = load(line, LINEAR);
	if (!error)
		error = resume(line);
	if (error)
		return error;
	snprintf(path, sizeof(path), "/dev/dm-%u", minor(arg.dev));
	*fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	return *fd < 0 ? errno : suspend(line);
}

/* Only a ram disk that nobody has anything on: what is not all zero, or in use, is somebody's. */
static const char *probe_disk(void)
{
	static char begin[MAX_LINES * PAGE] __attribute__((aligned(PAGE)));
	int fd = open(RAM_DISK, O_RDWR | O_EXCL | O_DIRECT | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT   ? "there is no " RAM_DISK " (modprobe brd)"
		       : errno == EBUSY  ? RAM_DISK " is in use"
					 : RAM_DISK " may not be opened";
	if (read(fd, begin, sizeof(begin)) != sizeof(begin))
		begin[0] = 1;
	for (size_t i = 0; i < sizeof(begin); i++)
		if (begin[i]) {
			close(fd);
			return RAM_DISK " is not empty";
		}
	close(fd);
	ram_disk = keep_private(open(RAM_DISK, O_RDWR | O_DIRECT | O_CLOEXEC));
	return ram_disk < 0 || fstat(ram_disk, &ram_disk_stat) < 0 ? RAM_DISK " could not be opened" : NULL;
}

static const char *probe_mapper(void)
{
	control = keep_private(open("/dev/mapper/control", O_RDWR | O_CLOEXEC));
	if (control < 0)
		return errno == EACCES ? "/dev/mapper/control may not be opened"
				       : "there is no device mapper (modprobe dm_mod)";
	return probe_disk();
}

static struct server server = {
	.probe = probe_mapper,
	.make = make,
	.complete = complete,
	.fail = fail,
	.writes = true,
	.reads = true,
};

DIRECT_IO_BACKEND(dm, server);
