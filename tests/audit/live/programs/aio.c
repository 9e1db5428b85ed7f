/* Forks with a libaio read in flight, and once after it. argv[1]: a file. */
#include <fcntl.h>
#include <libaio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (8 << 20)

static void forks(void)
{
	if (!fork())
		_exit(0);
	wait(NULL);
}

int main(int argc, char **argv)
{
	int fd = open(argv[1], O_RDWR | O_CREAT | O_DIRECT, 0600);
	struct iocb block, *list = &block;
	io_context_t context = 0;
	struct io_event event;
	void *buffer;

	(void)argc;
	if (fd < 0 || posix_memalign(&buffer, 4096, SIZE) || io_setup(1, &context))
		return 77;
	memset(buffer, 1, SIZE);
	if (pwrite(fd, buffer, SIZE, 0) != SIZE)
		return 77;
	printf("%p\n", buffer);
	fflush(stdout);
	io_prep_pread(&block, fd, buffer, SIZE, 0);
	if (io_submit(context, 1, &list) != 1)
		return 2;
	forks();
	if (io_getevents(context, 1, 1, &event, NULL) != 1)
		return 3;
	forks();
	return 0;
}
