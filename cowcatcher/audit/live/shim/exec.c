/*
 * A program that is started with an environment made for it, as daemons and `env -i` are, lacks LD_PRELOAD, and would run
 * unseen: it is put back. Below one that filters its system calls it is taken away. All is on the stack, since the caller may be the child of vfork(), with its parent's memory.
 */
#include "shim.h"

#include <alloca.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <string.h>

#define LINES 1024

static const char name[] = "LD_PRELOAD=";
static char self[512]; /* this library's path, from where it was loaded */

extern char **environ;

void find_self(void)
{
	struct module module;

	if (find_module(self, &module) && *module.path == '/' && strlen(module.path) < sizeof(self))
		strcpy(self, module.path);
}

/* How many filters of system calls are there without the program's own: the library's name ends with "-filters-N.so". */
int known_filters(void)
{
	static const char before[] = "-filters-";
	const char *at = strstr(self, before);

	return at ? at[sizeof(before) - 1] - '0' : -1;
}

static const char *preloaded(char *const *env)
{
	for (; env && *env; env++)
		if (!strncmp(*env, name, sizeof(name) - 1))
			return *env + sizeof(name) - 1;
	return "";
}

/* Bytes for an environment with us; 0 where nothing is to be done, or can be: behind chroot() we would not be found. */
static size_t lacking(char *const *env)
{
	const char *theirs = preloaded(env);
	size_t lines = 2;

	/* A filter that the program has made is its child's, too, which would be killed for our first word. */
	if (*self && atomic_load(&silent))
		lines = strstr(theirs, self) ? lines : LINES;
	else if (!*self || strstr(theirs, self) || raw6(SYS_faccessat, AT_FDCWD, (long)self, R_OK, 0, 0, 0))
		return 0;
	while (env && *env++)
		lines++;
	return lines < LINES ? lines * sizeof(char *) + sizeof(name) + strlen(self) + 1 + strlen(theirs) : 0;
}

static char *const *with_self(char *const *env, char **room, size_t size)
{
	const char *theirs = preloaded(env);
	size_t used = 1;
	char *text;

	if (!room)
		return env;
	for (; env && *env; env++)
		if (strncmp(*env, name, sizeof(name) - 1))
			room[used++] = *env;
	room[used] = NULL;
	text = (char *)room + size - (sizeof(name) + strlen(self) + 1 + strlen(theirs));
	if (atomic_load(&silent)) {
		const char *at = strstr(theirs, self), *after = at + strlen(self);

		room[0] = memcpy(text, name, sizeof(name));
		strncat(text, theirs, at - theirs);
		strcat(text, *after == ':' ? after + 1 : after);
		return room;
	}
	room[0] = strcat(strcpy(text, name), self);
	if (*theirs)
		strcat(strcat(text, ":"), theirs);
	return room;
}

#define ROOM                                                                                                           \
	size_t size = lacking(env);                                                                                    \
	char **room = size ? alloca(size) : NULL

EXPORT int execve(const char *path, char *const argv[], char *const env[])
{
	ROOM;

	return NEXT(execve)(path, argv, with_self(env, room, size));
}

EXPORT int execvpe(const char *file, char *const argv[], char *const env[])
{
	ROOM;

	return NEXT(execvpe)(file, argv, with_self(env, room, size));
}

EXPORT int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

EXPORT int execvp(const char *file, char *const argv[])
{
	return execvpe(file, argv, environ);
}

/* The C library's own call their next one by a name that is nobody else's. */
#define LISTED(last, call)                                                                                             \
	va_list list, again;                                                                                           \
	size_t count = 1;                                                                                              \
	va_start(list, first);                                                                                         \
	va_copy(again, list);                                                                                          \
	while (va_arg(again, char *))                                                                                  \
		count++;                                                                                               \
	va_end(again);                                                                                                 \
	char *argv[count + 1];                                                                                         \
	argv[0] = (char *)(uintptr_t)first;                                                                            \
	for (size_t i = 1; i <= count; i++)                                                                            \
		argv[i] = va_arg(list, char *);                                                                        \
	char *const *env = last;                                                                                       \
	va_end(list);                                                                                                  \
	return call(file, argv, env)

EXPORT int execl(const char *file, const char *first, ...)
{
	LISTED(environ, execve);
}

EXPORT int execlp(const char *file, const char *first, ...)
{
	LISTED(environ, execvpe);
}

EXPORT int execle(const char *file, const char *first, ...)
{
	LISTED(va_arg(list, char *const *), execve);
}

EXPORT int fexecve(int fd, char *const argv[], char *const env[])
{
	ROOM;

	return NEXT(fexecve)(fd, argv, with_self(env, room, size));
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attributes, char *const argv[], char *const env[])
{
	ROOM;

	return NEXT(posix_spawn)(pid, path, actions, attributes, argv, with_self(env, room, size));
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
			const posix_spawnattr_t *attributes, char *const argv[], char *const env[])
{
	ROOM;

	return NEXT(posix_spawnp)(pid, file, actions, attributes, argv, with_self(env, room, size));
}
