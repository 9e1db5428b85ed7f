/* A library whose constructor waits for a thread: dlopen() holds the dynamic linker's lock all the while. */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static void *work(void *unused)
{
	int zero = open("/dev/zero", O_RDONLY), bytes = 0;
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), c;

	(void)unused;
	ioctl(zero, FIONREAD, &bytes);
	if (pread(zero, &c, 1, 0) != 1 || dup2(zero, 99) != 99)
		exit(3);
	close(zero);
	madvise(page, 4096, MADV_DONTFORK);
	munmap(page, 4096);
	return NULL;
}

__attribute__((constructor)) static void start(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, work, NULL);
	pthread_join(thread, NULL);
}
