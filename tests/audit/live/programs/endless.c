/* Runs until somebody ends it. SIGUSR1: exits with 3. Says its number once it is ready. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void leave(int number)
{
	(void)number;
	_exit(3);
}

int main(void)
{
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	madvise(page, 4096, MADV_DONTFORK);
	signal(SIGUSR1, leave);
	printf("%d %p\n", getpid(), page);
	fflush(stdout);
	for (;;) {
		madvise(page + 4096, 4096, MADV_DONTNEED);
		usleep(20000);
	}
}
