// SPDX-License-Identifier: Apache-2.0
/*
 * The agent as the first process of a virtual machine that runs a program of the host's (`--userland`): real/userland.py
 * is the other side.
 *
 * The host's file system comes by 9p, read-only, below a file system in memory that takes what is written. A second,
 * OUT, is the host's to read: SCRIPT is there, and what comes of it, file by file, as it comes: "stdout", "stderr", and at
 * the end "status", as wait(2) has it. The console is left to the kernel and to complaints.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOST "/host"
#define WRITTEN "/written"
#define WHOLE_ROOT "/whole"
#define OUT "/run/out" /* in the machine; real/userland.py knows it */
#define SCRIPT OUT "/script"

static void attach(const char *type, const char *source, const char *where, unsigned long flags, const char *options)
{
	mkdir(where, 0755);
	if (mount(source, where, type, flags, options) < 0 && errno != EBUSY)
		fprintf(stderr, "init: %s at %s: %m\n", type, where);
}

/* From the host as little as possible: loose, for nobody changes it meanwhile. What comes back is written at once. */
static void make_root(void)
{
	attach("9p", "host", HOST, MS_RDONLY, "trans=virtio,version=9p2000.L,msize=262144,cache=loose");
	attach("tmpfs", "tmpfs", WRITTEN, 0, "");
	mkdir(WRITTEN "/upper", 0755);
	mkdir(WRITTEN "/work", 0755);
	attach("overlay", "overlay", WHOLE_ROOT, 0, "lowerdir=" HOST ",upperdir=" WRITTEN "/upper,workdir=" WRITTEN "/work");
	if (chroot(WHOLE_ROOT) < 0 || chdir("/") < 0)
		perror("init: " WHOLE_ROOT);
	attach("devtmpfs", "devtmpfs", "/dev", 0, "");
	attach("tmpfs", "tmpfs", "/dev/shm", 0, "");
	attach("devpts", "devpts", "/dev/pts", 0, "");
	attach("sysfs", "sysfs", "/sys", 0, "");
	attach("proc", "proc", "/proc", 0, "");
	attach("tmpfs", "tmpfs", "/tmp", 0, "mode=1777");
	attach("tmpfs", "tmpfs", "/run", 0, "");
	attach("9p", "out", OUT, 0, "trans=virtio,version=9p2000.L,msize=262144");
}

static void open_as(int fd, const char *path, int flags)
{
	int opened = open(path, flags, 0644);

	if (opened < 0)
		perror(path);
	else if (opened != fd)
		dup3(opened, fd, 0), close(opened);
}

static _Noreturn void become_script(void)
{
	static char *const environment[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "OUT=" OUT, NULL};

	setsid();
	open_as(STDIN_FILENO, "/dev/null", O_RDONLY);
	open_as(STDOUT_FILENO, OUT "/stdout", O_WRONLY | O_CREAT | O_APPEND);
	open_as(STDERR_FILENO, OUT "/stderr", O_WRONLY | O_CREAT | O_APPEND);
	execle("/bin/sh", "sh", SCRIPT, NULL, environment);
	perror("/bin/sh");
	_exit(127);
}

static void leave_status(int status)
{
	FILE *file = fopen(OUT "/status", "we");

	if (file)
		fprintf(file, "%d\n", status);
	if (!file || fclose(file) < 0)
		perror(OUT "/status");
}

_Noreturn void run_userland(void)
{
	int status = 0;
	pid_t script, pid;

	attach("devtmpfs", "devtmpfs", "/dev", 0, "");
	load_modules();
	make_root();
	script = fork();
	if (script == 0)
		become_script();
	while ((pid = wait(&status)) != script && (pid >= 0 || errno == EINTR))
		; /* an orphan of the script's */
	leave_status(status);
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
