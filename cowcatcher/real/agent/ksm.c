// SPDX-License-Identifier: Apache-2.0
/* ksm_scan(): let ksmd look at everything that is advised to be mergeable. In a machine of our own only. */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define KSM "/sys/kernel/mm/ksm/"

enum {
	FULL_SCANS = 4, /* the one under way, one that takes checksums, one that compares them, one to merge the last */
	LOOK_US = 2000,
};

static long read_number(const char *path)
{
	char text[24] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	return n > 0 ? atol(text) : -1;
}

static int write_run(const char *value)
{
	int fd = open(KSM "run", O_WRONLY | O_CLOEXEC);
	int error = fd < 0 || write(fd, value, 1) != 1 ? errno : 0;

	if (fd >= 0)
		close(fd);
	return error;
}

/*
 * ksmd sleeps while no process has advised anything, and then counts no scans: the coordinator has a page of its own for
 * it, which is like no other. How fast it scans is for init.c to say.
 */
struct reply ksm_scan(void)
{
	uint64_t *own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long wanted = read_number(KSM "full_scans") + FULL_SCANS;
	struct reply reply;

	if (own == MAP_FAILED)
		return failure(errno);
	own[0] = now_us();
	own[PAGE / sizeof(*own) - 1] = (uint64_t)getpid();
	reply = outcome(madvise(own, PAGE, MADV_MERGEABLE));
	if (reply.kind == VALUE && (errno = write_run("1")))
		reply = failure(errno);
	while (reply.kind == VALUE && read_number(KSM "full_scans") < wanted) {
		if (now_us() >= test.deadline)
			reply = failure(ETIMEDOUT);
		fflush(stdout);
		usleep(LOOK_US);
	}
	write_run("0"); /* what was merged stays so */
	munmap(own, PAGE);
	return reply;
}
