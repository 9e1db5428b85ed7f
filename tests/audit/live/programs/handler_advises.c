/* A handler that comes at any instruction makes calls whose caller is looked for. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

static char *page;
static volatile int times;

static void on_alarm(int number)
{
	(void)number;
	madvise(page, 4096, times++ & 1 ? MADV_DONTFORK : MADV_DOFORK);
}

static int compare(const void *a, const void *b)
{
	return *(const char *)a - *(const char *)b;
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct itimerval often = { { 0, 200 }, { 0, 200 } };
	char text[4096];
	double number = 1;

	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	while (times < 3000) {
		snprintf(text, sizeof(text), "%f %s", number, "text");
		free(malloc(100000 + times));
		qsort(text, 100, 1, compare);
		number *= 1.1;
	}
	puts("done");
	return 0;
}
