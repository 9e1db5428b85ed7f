/* An allocator as a library, without malloc_usable_size(): before a large block there is no memory. */
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#define LARGE 4096

static char heap[16 << 20] __attribute__((aligned(4096)));
static size_t used;

void *malloc(size_t size)
{
	size_t room = (size + 4095) & ~(size_t)4095;
	char *block;

	if (size < LARGE)
		return heap + __atomic_fetch_add(&used, (size + 31) & ~(size_t)15, __ATOMIC_RELAXED);
	block = mmap(NULL, room + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(block + 4096, room, PROT_READ | PROT_WRITE);
	return block + 4096;
}

void free(void *block)
{
	(void)block;
}

void *calloc(size_t count, size_t size)
{
	return malloc(count * size);
}

void *realloc(void *block, size_t size)
{
	void *new = malloc(size);

	return block ? memcpy(new, block, size < 64 ? size : 64) : new;
}

void *aligned_alloc(size_t alignment, size_t size)
{
	(void)alignment;
	return malloc(size < LARGE ? LARGE : size);
}
