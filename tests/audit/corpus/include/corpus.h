/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs of the corpus share: a way to say which bytes they mean, io_uring without a library, children that
 * live until told. Everything that an audit looks at is in the programs themselves, or is what a library would do.
 */
#ifndef CORPUS_H
#define CORPUS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define UNAVAILABLE 77 /* exit status: this machine lacks something */

/* Stops the program unless `ok`. What was printed so far is kept; what it says is no part of what is compared. */
__attribute__((unused)) static void need(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(errno == ENOSYS || errno == EPERM || errno == EACCES || errno == EOPNOTSUPP ? UNAVAILABLE : 1);
}

/*
 * Writes down that `name` is this range, where the test wants to know. Nothing is printed: the output must be the same
 * with and without an audit.
 */
__attribute__((unused)) static void say(const char *name, const void *start, size_t size)
{
	const char *path = getenv("CORPUS_RANGES");
	char line[128];
	int n, fd;

	if (!path)
		return;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	need(fd >= 0, path);
	n = snprintf(line, sizeof(line), "%s %#lx-%#lx\n", name, (long)start, (long)start + (long)size);
	need(write(fd, line, (size_t)n) == n, path);
	close(fd);
}

/* Pages of their own, private, written to. */
__attribute__((unused)) static char *pages(size_t n)
{
	char *p = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	need(p != MAP_FAILED, "mmap");
	memset(p, 'a', n * PAGE);
	return p;
}

/* Long enough to be looked at: what only /proc shows is looked at a little after the call that gives reason for it. */
__attribute__((unused)) static void be_seen(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 150000000}, NULL);
}

__attribute__((unused)) static char *page_of(const void *p)
{
	return (char *)((uintptr_t)p & ~(uintptr_t)(PAGE - 1));
}

/* ---- io_uring ---- */

__attribute__((unused)) static int ring_open(void)
{
	struct io_uring_params params = {0};
	int ring = (int)syscall(SYS_io_uring_setup, 4, &params);

	need(ring >= 0, "io_uring_setup");
	return ring;
}

__attribute__((unused)) static void ring_register(int ring, void *start, size_t size)
{
	struct iovec buffer = {start, size};

	need(!syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1), "IORING_REGISTER_BUFFERS");
}

__attribute__((unused)) static void ring_unregister(int ring)
{
	need(!syscall(SYS_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL, 0), "IORING_UNREGISTER_BUFFERS");
}

/* ---- children ---- */

struct child {
	pid_t pid;
	int go;
};

/* Prints how it ended. */
__attribute__((unused)) static void reap(pid_t pid)
{
	int status = 0;

	need(waitpid(pid, &status, 0) == pid, "waitpid");
	if (WIFSIGNALED(status))
		printf("child: killed by signal %d\n", WTERMSIG(status));
	else
		printf("child: exit %d\n", WEXITSTATUS(status));
}

/* A fork()ed child that touches nothing and lives until let_go(). */
__attribute__((unused)) static struct child fork_waiting(void)
{
	int ends[2];
	struct child child;
	char c;

	need(!pipe2(ends, O_CLOEXEC), "pipe2");
	fflush(stdout);
	child.pid = fork();
	need(child.pid >= 0, "fork");
	if (!child.pid) {
		close(ends[1]);
		_exit(read(ends[0], &c, 1) != 0);
	}
	close(ends[0]);
	child.go = ends[1];
	return child;
}

__attribute__((unused)) static void let_go(struct child child)
{
	close(child.go);
	reap(child.pid);
}

#endif
