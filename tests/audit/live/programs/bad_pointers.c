/* Hands the kernel pointers to no memory, which it answers with an error. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static void say(const char *what, long ret)
{
	printf("%s: %ld %s\n", what, ret, ret < 0 ? strerror(errno) : "");
}

int main(int count, char **words)
{
	int fd = count > 1 ? open(words[1], O_RDWR | O_CREAT | O_DIRECT, 0600) : -1, on = 1;
	int local = socket(AF_INET, SOCK_STREAM, 0), ends[2];
	char parameters[120] = { 0 };
	int ring = syscall(SYS_io_uring_setup, 4, parameters);
	void *nowhere = (void *)16, *list[1] = { nowhere };
	unsigned long context = 0;

	if (fd < 0 || pipe(ends))
		return 77;
	say("readv", readv(fd, nowhere, 2));
	say("writev", writev(fd, nowhere, 2));
	say("preadv", preadv(fd, nowhere, 2, 0));
	say("writev of fewer than none", writev(fd, nowhere, -1));
	say("vmsplice", vmsplice(ends[1], nowhere, 1, 0));
	say("io_setup", syscall(SYS_io_setup, 8, &context));
	say("io_submit", syscall(SYS_io_submit, context, 1L, nowhere));
	say("io_submit", syscall(SYS_io_submit, context, 1L, list));
	say("io_submit", syscall(SYS_io_submit, context, 1L << 40, list));
	say("socket", setsockopt(local, SOL_SOCKET, 60, &on, sizeof(on)));
	say("sendmsg", sendmsg(local, nowhere, 0x4000000));
	if (ring >= 0) {
		say("register", syscall(SYS_io_uring_register, ring, 0L, nowhere, 2L));
		say("register", syscall(SYS_io_uring_register, ring, 15L, nowhere, 32L));
		say("register", syscall(SYS_io_uring_register, ring, 16L, nowhere, 32L));
	}
	return 0;
}
