/* A coroutine as small libraries make them: a painted stack, entered by a jump, never returned from. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__x86_64__)
static void *main_stack, *its_stack;
static char *page;

__attribute__((naked, noinline)) void switch_to(void **save, void *to);
void switch_to(void **save, void *to)
{
	__asm__("push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15;"
		"mov %rsp, (%rdi); mov %rsi, %rsp;"
		"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp; ret");
}

static void entry(void)
{
	if (madvise(page, 4096, MADV_DONTFORK))
		abort();
	switch_to(&its_stack, main_stack);
	abort();
}

int main(int count, char **words)
{
	size_t size = count > 1 ? strtoul(words[1], NULL, 0) : 65536;
	char *stack = mmap(NULL, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void **top = (void **)(stack + 4096 + size);

	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(stack, 4096, PROT_NONE);
	memset(stack + 4096, 0xaa, size);
	top[-10] = entry;
	memset(top - 16, 0, 6 * sizeof(*top));
	switch_to(&main_stack, top - 16);
	puts("done");
	return 0;
}
#else
int main(void)
{
	return 77;
}
#endif
