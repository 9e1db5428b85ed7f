// SPDX-License-Identifier: Apache-2.0
/* What the kernel tells about the pages under test: /proc/PID/pagemap, and to root about their frames. */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PM_SWAP = 62, PM_PRESENT = 63 }; /* bits of a /proc/PID/pagemap entry */
enum { KPF_WRITEBACK = 8 }; /* bit of a /proc/kpageflags entry */
#define PM_PFN ((UINT64_C(1) << 55) - 1)

static int kpagecount = -1, kpageflags = -1; /* root only */

void open_kernel_files(void)
{
	kpagecount = open("/proc/kpagecount", O_RDONLY | O_CLOEXEC);
	kpageflags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
}

static uint64_t word_of(int fd, uint64_t index)
{
	uint64_t word = 0;

	return fd >= 0 && pread(fd, &word, sizeof(word), index * sizeof(word)) == sizeof(word) ? word : 0;
}

int open_pagemap(pid_t pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* The text of /proc/PID/maps; what does not fit is of no interest, the test's mappings come first. */
static const char *maps_of(pid_t pid)
{
	static char text[16 << 10];
	size_t length = 0;
	char path[32];
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && (n = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
		length += (size_t)n;
	if (fd >= 0)
		close(fd);
	text[length] = 0;
	return text;
}

/* Is anything mapped there at all? */
static bool in_maps(const char *maps, uint64_t addr)
{
	while (*maps) {
		char *end;
		uint64_t from = strtoull(maps, &end, 16), to = strtoull(end + 1, NULL, 16);

		if (from <= addr && addr < to)
			return true;
		maps += strcspn(maps, "\n");
		maps += *maps == '\n';
	}
	return false;
}

/* `maps` is read once for all pages of a process, and only if one of them is not there. */
static const char *state_of(const struct actor *who, uint64_t addr, int pagemap, const char **maps, uint64_t *pfn)
{
	uint64_t entry = word_of(pagemap, addr / PAGE);

	*pfn = 0;
	if (pagemap < 0)
		return "unknown";
	if (entry >> PM_PRESENT & 1) {
		*pfn = entry & PM_PFN;
		return "present";
	}
	if (entry >> PM_SWAP & 1)
		return "swapped";
	if (!*maps)
		*maps = maps_of(who->pid);
	return in_maps(*maps, addr) ? "empty" : "none";
}

static void print_page(int step, int actor, int slot, int page, int pagemap, const char **maps)
{
	const struct actor *who = &test.actors[actor];
	uint64_t pfn;
	const char *state = state_of(who, address(who->mm, slot, page), pagemap, maps, &pfn);

	printf("page %d %d %d %d %s", step, actor, slot, page, state);
	printf(" %" PRIx64 " %" PRIu64 " %" PRIx64 "\n", pfn, pfn ? word_of(kpagecount, pfn) : 0,
	       pfn ? word_of(kpageflags, pfn) : 0);
}

/* page STEP ACTOR SLOT PAGE STATE PFN MAPCOUNT FLAGS, for every page of every living process */
void print_pages(int step)
{
	for (int a = 0; a < test.n_actors; a++) {
		const char *maps = NULL;
		int pagemap;

		if (test.actors[a].kind != PROCESS || test.actors[a].life != ALIVE)
			continue;
		pagemap = open_pagemap(test.actors[a].pid);
		for (int slot = 0; slot < test.n_slots; slot++)
			for (int page = 0; page < test.maps[slot].pages; page++)
				print_page(step, a, slot, page, pagemap, &maps);
		if (pagemap >= 0)
			close(pagemap);
	}
}

void tell_pages(FILE *to)
{
	for (int a = 0; a < test.n_actors; a++) {
		const struct actor *who = &test.actors[a];
		const char *maps = NULL;
		int pagemap;

		if (who->kind != PROCESS || who->life != ALIVE)
			continue;
		pagemap = open_pagemap(who->pid);
		for (int slot = 0; slot < test.n_slots; slot++) {
			for (int page = 0; page < test.maps[slot].pages; page++) {
				uint64_t pfn;
				const char *state = state_of(who, address(who->mm, slot, page), pagemap, &maps, &pfn);

				fprintf(to, "page 0 %d %d %d %s %" PRIx64 " 0 0\n", a, slot, page, state,
					number_of_frame(pfn));
			}
		}
		if (pagemap >= 0)
			close(pagemap);
	}
}

static uint64_t frame_at(int pagemap, uint64_t addr)
{
	uint64_t entry = word_of(pagemap, addr / PAGE);

	return entry >> PM_PRESENT & 1 ? entry & PM_PFN : 0;
}

void read_frames(int pagemap, const struct pin *pin, uint64_t *frames)
{
	for (uint64_t page = 0; page * pin->stride < pin->len && page < MAX_PAGES; page++)
		frames[page] = frame_at(pagemap, pin->addr + page * pin->stride);
}

/* The frames of a few small pages, before they may be swapped out. */
void remember_frames(pid_t pid, uint64_t addr, uint64_t len, struct frames *frames)
{
	int pagemap = kpageflags < 0 ? -1 : open_pagemap(pid);

	frames->n = 0;
	for (; pagemap >= 0 && frames->n < MAX_PAGES && len >= PAGE; addr += PAGE, len -= PAGE)
		frames->of[frames->n++] = frame_at(pagemap, addr);
	if (pagemap >= 0)
		close(pagemap);
}

/*
 * Until it is written, a page that was swapped out stays in the swap cache, whoever wants it back: the kernel cannot free its
 * slot. When that is over is chance, so it is waited for; not where it cannot be seen, nor beyond the test's time.
 */
void await_writeback(const struct frames *frames)
{
	for (int i = 0; i < frames->n; i++)
		while (frames->of[i] && word_of(kpageflags, frames->of[i]) >> KPF_WRITEBACK & 1 && now_us() < test.deadline)
			sched_yield(); /* to the worker that writes it */
}

/* pin STEP PIN PAGE PFN, right after the pin was taken, when its owner's page table still leads to it */
void print_pin(int step, int index, pid_t pid, uint64_t addr, uint64_t len, uint64_t stride)
{
	int fd = open_pagemap(pid);

	for (uint64_t page = 0; page * stride < len && page < MAX_PAGES; page++) {
		uint64_t entry = word_of(fd, (addr + page * stride) / PAGE);

		printf("pin %d %d %" PRIu64 " %" PRIx64 "\n", step, index, page,
		       entry >> PM_PRESENT & 1 ? entry & PM_PFN : UINT64_C(0));
	}
	if (fd >= 0)
		close(fd);
}
