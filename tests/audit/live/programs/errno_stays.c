/* Calls that succeed leave errno alone, calls that fail set it; with pins, advice and direct files about. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define STAYS(call)                                                                                                    \
	do {                                                                                                           \
		errno = 1234;                                                                                          \
		if ((long)(call) < 0 || errno != 1234)                                                                 \
			return printf("%d: errno %d after %s\n", __LINE__, errno, #call), 1;                           \
	} while (0)
#define FAILS(call, code)                                                                                              \
	do {                                                                                                           \
		errno = 0;                                                                                             \
		if ((long)(call) != -1 || errno != code)                                                               \
			return printf("%d: errno %d after %s\n", __LINE__, errno, #call), 1;                           \
	} while (0)

static int forked(void)
{
	pid_t child = fork();

	if (!child)
		_exit(errno == 1234 ? 0 : 9);
	return child;
}

int main(int argc, char **argv)
{
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *block = malloc(300000);
	struct iovec iov = { page, 4096 };
	int fd, ends[2], status;

	(void)argc;
	STAYS(fd = open(argv[1], O_RDWR | O_CREAT | O_DIRECT, 0640));
	STAYS(pwrite(fd, page, 4096, 0));
	STAYS(pread(fd, page, 4096, 0));
	STAYS(preadv2(fd, &iov, 1, 0, 0));
	STAYS(madvise(page, 4096, MADV_DONTFORK));
	STAYS(forked());
	wait(&status);
	if (status)
		return 2;
	STAYS(madvise(page, 4096, MADV_DOFORK));
	STAYS(pipe(ends));
	STAYS(vmsplice(ends[1], &iov, 1, 0));
	STAYS(fcntl(fd, F_SETFL, 0));
	STAYS(fcntl(fd, F_DUPFD, 100));
	STAYS(dup2(fd, 101));
	STAYS(close(101));
	STAYS(ioctl(ends[0], FIONREAD, &status));
	STAYS(syscall(SYS_getpid));
	STAYS(prctl(PR_GET_DUMPABLE));
	STAYS((memset(block, 1, 300000), free(block), 0));
	STAYS(munmap(page, 4096));
	FAILS(open("/nonexistent/file", O_RDONLY), ENOENT);
	FAILS(openat(-1, "file", O_RDONLY), EBADF);
	FAILS(read(-1, page, 1), EBADF);
	FAILS(write(1000, page, 1), EBADF);
	FAILS(close(1000), EBADF);
	FAILS(madvise((void *)1, 4096, MADV_DONTFORK), EINVAL);
	FAILS(munmap((void *)1, 4096), EINVAL);
	FAILS(mmap((void *)1, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
	FAILS(fcntl(1000, F_GETFL), EBADF);
	FAILS(ioctl(1000, FIONREAD, &status), EBADF);
	FAILS(syscall(SYS_close, 1000), EBADF);
	FAILS(vmsplice(1000, &iov, 1, 0), EBADF);
	FAILS(send(1000, page, 1, 0), EBADF);
	FAILS(setsockopt(1000, 1, 1, page, 4), EBADF);
	/* The mode of a new file is passed on. */
	STAYS(syscall(SYS_fchmod, fd, 0600));
	STAYS(close(fd));
	return 0;
}
