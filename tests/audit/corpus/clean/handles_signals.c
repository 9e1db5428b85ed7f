/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A garbage collector's barrier: a page is protected, the write to it gets SIGSEGV, the handler opens the page and goes on. Timers
 * go off meanwhile. None of that is anybody's fault.
 *
 * allow: -
 */
#include "corpus.h"

#include <sys/time.h>

static char *page;
static volatile sig_atomic_t ticks, barriers;

static void barrier(int number, siginfo_t *info, void *context)
{
	(void)number, (void)context;
	if (page_of(info->si_addr) != page)
		_exit(3);
	barriers++;
	mprotect(page, PAGE, PROT_READ | PROT_WRITE);
}

static void tick(int number)
{
	(void)number;
	ticks++;
}

int main(void)
{
	struct sigaction write_barrier = {.sa_sigaction = barrier, .sa_flags = SA_SIGINFO}, timer = {.sa_handler = tick};
	struct itimerval often = {{0, 1000}, {0, 1000}};

	page = pages(1);
	sigaction(SIGSEGV, &write_barrier, NULL);
	sigaction(SIGALRM, &timer, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (int i = 0; i < 10; i++) {
		need(!mprotect(page, PAGE, PROT_READ), "mprotect");
		*(volatile char *)page = 'b';
	}
	while (ticks < 5)
		pause();
	printf("%d barriers\n", (int)barriers);
	return 7;
}
