/*
 * Programs that take libibverbs' functions by dlsym() or dlvsym(), as NCCL does, get ours: libibverbs calls itself by name
 * when it registers memory, but not when it deregisters.
 *
 * For all other names the C library's function is jumped to, as if we were not there: what it finds depends on its caller.
 */
#include "shim.h"

#include <elf.h>
#include <link.h>
#include <string.h>

#if defined(__x86_64__)
void *(*cowcatcher_next_dlsym)(void *, const char *) __attribute__((visibility("hidden")));
void *(*cowcatcher_next_dlvsym)(void *, const char *, const char *) __attribute__((visibility("hidden")));
void cowcatcher_find_dl(void) __attribute__((visibility("hidden")));
void *cowcatcher_dlsym(void *library, const char *name) __attribute__((visibility("hidden")));
void *cowcatcher_dlvsym(void *library, const char *name, const char *version) __attribute__((visibility("hidden")));

#define LOOKUP(name)                                                                                                   \
	__asm__(".globl " #name "\n"                                                                                   \
		".type " #name ", @function\n" #name ":\n"                                                             \
		"	.cfi_startproc\n"                                                                              \
		"	cmpq $0, cowcatcher_next_" #name "(%rip)\n"                                                    \
		"	jne 1f\n"                                                                                      \
		"	push %rdi\n"                                                                                   \
		"	push %rsi\n"                                                                                   \
		"	push %rdx\n"                                                                                   \
		"	.cfi_adjust_cfa_offset 24\n"                                                                   \
		"	call cowcatcher_find_dl\n"                                                                     \
		"	pop %rdx\n"                                                                                    \
		"	pop %rsi\n"                                                                                    \
		"	pop %rdi\n"                                                                                    \
		"	.cfi_adjust_cfa_offset -24\n"                                                                  \
		"1:	cmpb $'i', (%rsi)\n"                                                                           \
		"	jne 2f\n"                                                                                      \
		"	cmpb $'b', 1(%rsi)\n"                                                                          \
		"	jne 2f\n"                                                                                      \
		"	cmpb $'v', 2(%rsi)\n"                                                                          \
		"	jne 2f\n"                                                                                      \
		"	test %rdi, %rdi\n" /* RTLD_DEFAULT: that finds us anyway */                                   \
		"	je 2f\n"                                                                                       \
		"	cmp $-1, %rdi\n" /* RTLD_NEXT */                                                               \
		"	je 2f\n"                                                                                       \
		"	jmp cowcatcher_" #name "\n"                                                                    \
		"2:	jmp *cowcatcher_next_" #name "(%rip)\n"                                                        \
		"	.cfi_endproc\n"                                                                                \
		".size " #name ", . - " #name "\n")
LOOKUP(dlsym);
LOOKUP(dlvsym);

/* Without dlsym(), which is ours: by the hash table that the loader itself uses. */
struct tables {
	const ElfW(Sym) *symbols;
	const char *names;
	const uint32_t *hash;
};

static uint32_t hash_of(const char *name)
{
	uint32_t hash = 5381;

	for (; *name; name++)
		hash = hash * 33 + (unsigned char)*name;
	return hash;
}

static void *find_in(const struct tables *t, uintptr_t base, const char *name)
{
	uint32_t buckets = t->hash[0], first = t->hash[1], wanted = hash_of(name);
	const uint32_t *bucket = (const uint32_t *)((const ElfW(Addr) *)(t->hash + 4) + t->hash[2]);
	const uint32_t *chain = bucket + buckets;
	uint32_t i = bucket[wanted % buckets];

	for (; i >= first; i++) {
		const ElfW(Sym) *symbol = &t->symbols[i];

		if ((chain[i - first] | 1) == (wanted | 1) && symbol->st_shndx && !strcmp(t->names + symbol->st_name, name))
			return (void *)(base + symbol->st_value);
		if (chain[i - first] & 1)
			break;
	}
	return NULL;
}

static int look_into(struct dl_phdr_info *info, size_t size, void *unused)
{
	struct tables t = { 0 };
	const ElfW(Dyn) *entry = NULL;

	(void)size, (void)unused;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + part->p_vaddr;

		if (part->p_type == PT_LOAD && (uintptr_t)look_into - start < part->p_memsz)
			return 0; /* this library itself */
		if (part->p_type == PT_DYNAMIC)
			entry = (const void *)start;
	}
	for (; entry && entry->d_tag; entry++) {
		/* Some loaders leave these as they are in the file. */
		const void *at = (const void *)(entry->d_un.d_ptr + (entry->d_un.d_ptr < info->dlpi_addr) * info->dlpi_addr);

		if (entry->d_tag == DT_SYMTAB)
			t.symbols = at;
		else if (entry->d_tag == DT_STRTAB)
			t.names = at;
		else if (entry->d_tag == DT_GNU_HASH)
			t.hash = at;
	}
	if (!t.symbols || !t.names || !t.hash)
		return 0;
	if (!cowcatcher_next_dlvsym)
		cowcatcher_next_dlvsym = find_in(&t, info->dlpi_addr, "dlvsym");
	if (!cowcatcher_next_dlsym)
		cowcatcher_next_dlsym = find_in(&t, info->dlpi_addr, "dlsym");
	return cowcatcher_next_dlsym && cowcatcher_next_dlvsym;
}

void cowcatcher_find_dl(void)
{
	dl_iterate_phdr(look_into, NULL);
}

void *libibverbs_own(void *library, const char *name)
{
	if (!cowcatcher_next_dlsym)
		cowcatcher_find_dl();
	return cowcatcher_next_dlsym(library, name);
}

/* A function of ours for one that is there; of the ABI before rdma-core's, none. */
static void *ours(void *found, const char *name, const char *version)
{
	if (!found || (version && !strcmp(version, "IBVERBS_1.0")))
		return found;
	for (const struct verb *v = verbs_of_ours; v->name; v++)
		if (!strcmp(v->name, name))
			return v->function;
	return found;
}

void *cowcatcher_dlsym(void *library, const char *name)
{
	return ours(cowcatcher_next_dlsym(library, name), name, NULL);
}

void *cowcatcher_dlvsym(void *library, const char *name, const char *version)
{
	return ours(cowcatcher_next_dlvsym(library, name, version), name, version);
}
#else
void *libibverbs_own(void *library, const char *name)
{
	return dlsym(library, name);
}
#endif
