/* Loads a library. */
#include <dlfcn.h>
#include <stdio.h>

int main(int count, char **words)
{
	puts(count > 1 && dlopen(words[1], RTLD_NOW) ? "done" : "not loaded");
	return 0;
}
