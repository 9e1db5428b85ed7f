/* Loads argv[1] for itself alone, as plugins are, and runs what it has. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	int (*run)(void);

	(void)argc;
	if (!library)
		return puts(dlerror()), 76;
	run = (int (*)(void))dlsym(library, "plugin");
	return run ? run() : 75;
}
