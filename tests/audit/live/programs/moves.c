/* Writes a page, says where; after a line of input puts it elsewhere: the old frame is kept busy meanwhile. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

int main(void)
{
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *other = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	page[0] = 1;
	printf("%p\n", page);
	fflush(stdout);
	getchar();
	other[0] = 2;
	mremap(other, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, page);
	puts("moved");
	fflush(stdout);
	getchar();
	return 0;
}
