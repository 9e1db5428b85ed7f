/* A family: a child by fork(), one by vfork(), one by posix_spawn(), a thread that forks, a daemon that forks twice. */
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void *forks(void *none)
{
	if (!fork())
		_exit(3);
	wait(NULL);
	return none;
}

int main(void)
{
	char *arguments[] = { "true", NULL };
	pthread_t thread;
	pid_t child;

	if (!fork())
		_exit(1);
	if (!vfork())
		_exit(2);
	posix_spawnp(&child, "true", NULL, NULL, arguments, environ);
	pthread_create(&thread, NULL, forks, NULL);
	pthread_join(thread, NULL);
	if (!fork()) {
		setsid();
		if (!fork()) {
			usleep(200000);
			_exit(4);
		}
		_exit(0);
	}
	while (wait(NULL) > 0)
		;
	return 5;
}
