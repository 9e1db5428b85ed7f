/* Starts `true` with an environment that has nothing of ours, in each way that there is. */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char *arguments[] = { "true", NULL }, *empty[] = { NULL }, *some[] = { "A=1", "LD_PRELOAD=", "B=2", NULL };

static void replaced(int way)
{
	if (way == 0)
		execve("/bin/true", arguments, empty);
	else if (way == 1)
		execvpe("true", arguments, some);
	else if (way == 2)
		execle("/bin/true", "true", (char *)NULL, empty);
	clearenv();
	if (way == 3)
		execv("/bin/true", arguments);
	else
		execlp("/bin/true", "true", (char *)NULL);
	_exit(1);
}

int main(void)
{
	int status, failed = 0;
	pid_t pid;

	for (int way = 0; way < 7; way++) {
		if (way == 5)
			failed |= posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, empty);
		else if (way == 6)
			failed |= posix_spawnp(&pid, "true", NULL, NULL, arguments, some);
		else if (!(pid = vfork()))
			replaced(way);
		failed |= waitpid(pid, &status, 0) != pid || status;
	}
	return failed;
}
