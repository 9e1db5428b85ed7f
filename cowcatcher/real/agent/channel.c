// SPDX-License-Identifier: Apache-2.0
/*
 * Standard output in a virtual machine: memory that it shares with QEMU's caller, as the second region of a PCI device
 * (ivshmem-plain; real/qemu.py reads it). What is written there costs no system call, no exit to QEMU and no interrupt,
 * needs no module, and is still there when the machine is not: each line is told before the next step begins.
 *
 * The memory is a ring. The first two words count the bytes that were ever written and ever read; the text begins
 * at TEXT.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices/*"
#define VENDOR "0x1af4\n"
#define DEVICE "0x1110\n"

enum { TEXT = PAGE };

static struct { _Atomic uint64_t written, read; } *counts;
static char *text;
static uint64_t size;

static bool says(const char *directory, const char *file, const char *expected)
{
	char path[128], word[16] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, word, sizeof(word) - 1) < 0)
		word[0] = 0;
	close(fd);
	return !strcmp(word, expected);
}

/* The device's memory, open; -1 if this machine has no such device. */
int open_channel_memory(void)
{
	char path[128];
	glob_t found;
	int fd = -1;

	if (glob(DEVICES, GLOB_NOSORT, NULL, &found))
		return -1;
	for (size_t i = 0; i < found.gl_pathc && fd < 0; i++) {
		if (!says(found.gl_pathv[i], "vendor", VENDOR) || !says(found.gl_pathv[i], "device", DEVICE))
			continue;
		snprintf(path, sizeof(path), "%s/enable", found.gl_pathv[i]);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd >= 0 && write(fd, "1", 1) < 0)
			perror(path);
		close(fd);
		snprintf(path, sizeof(path), "%s/resource2", found.gl_pathv[i]);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	globfree(&found);
	return fd;
}

static ssize_t put(void *cookie, const char *from, size_t length)
{
	const struct timespec nap = {.tv_nsec = 1000 * 1000};
	size_t done = 0;

	(void)cookie;
	while (done < length) {
		uint64_t at = counts->written, n = size - (at - counts->read); /* what there is room for … */

		if (n > size - at % size)
			n = size - at % size; /* … before the ring begins again */
		if (n > length - done)
			n = length - done;
		memcpy(text + at % size, from + done, n);
		counts->written = at + n;
		done += n;
		if (!n)
			nanosleep(&nap, NULL);
	}
	return (ssize_t)length;
}

/* Make standard output a stream into the memory that descriptor is; line by line. */
bool tell_through_memory(int fd)
{
	struct stat st;
	char *memory;
	FILE *stream;

	if (fstat(fd, &st) < 0)
		return false;
	memory = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return false;
	madvise(memory, (size_t)st.st_size, MADV_DONTFORK); /* none of a test process's business */
	counts = (void *)memory;
	text = memory + TEXT;
	size = (uint64_t)st.st_size - TEXT;
	stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = put});
	if (!stream)
		return false;
	setvbuf(stream, NULL, _IOLBF, BUFSIZ);
	stdout = stream;
	return true;
}
