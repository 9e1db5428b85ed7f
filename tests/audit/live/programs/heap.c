/* Blocks of known sizes: in the main heap, in a thread's arena, with a mapping of its own. Says where, and waits. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* So that the compiler leaves no block out. */
static void *volatile kept[8];

static void *in_thread(void *none)
{
	char *before = malloc(1000), *block = malloc(2000), *after = malloc(500);

	kept[0] = before;
	kept[1] = after;
	free(kept[0]);
	printf("%p\n", block);
	fflush(stdout);
	pause();
	free(after);
	return none;
}

int main(void)
{
	char *before = malloc(3000), *block = malloc(5000), *after = malloc(100), *big = malloc(200000);
	pthread_t thread;

	kept[2] = before;
	kept[3] = after;
	free(kept[2]);
	printf("%p\n%p\n", block, big);
	fflush(stdout);
	pthread_create(&thread, NULL, in_thread, NULL);
	pause();
	free(after);
	return 0;
}
