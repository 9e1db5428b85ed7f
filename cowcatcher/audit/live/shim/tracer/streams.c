/*
 * For strace alone. With -DD it goes to a process group of its own and is nobody that the program knows, but it keeps the
 * program's standard streams: whoever reads its output to the end would wait for strace, which lives as long as any daemon
 * that the program leaves behind.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((visibility("default"))) int setpgid(pid_t pid, pid_t group)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd < 3 && null > 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	return syscall(SYS_setpgid, pid, group);
}
