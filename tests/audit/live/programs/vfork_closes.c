/* The child of vfork() closes all descriptors: the parent's ring, and what is registered with it, stay. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	char parameters[120] = { 0 }, *block = aligned_alloc(4096, 8192);
	int ring = syscall(SYS_io_uring_setup, 4, parameters);
	struct iovec iov = { block, 8192 };
	pid_t child;

	memset(block, 1, 8192);
	if (ring < 0 || syscall(SYS_io_uring_register, ring, 0L, &iov, 1L))
		return 77;
	if (!(child = vfork())) {
		for (int i = 3; i < 64; i++)
			close(i);
		execl("/bin/true", "true", (char *)NULL);
		_exit(1);
	}
	waitpid(child, NULL, 0);
	free(block);
	puts("done");
	return 0;
}
