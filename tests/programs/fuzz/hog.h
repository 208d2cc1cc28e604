/* The process that takes all memory, a way a time. */
#pragma once
#include "common.h"

static void touch_each(char *start, uint64_t bytes, uint64_t distance)
{
	for (uint64_t at = 0; at < bytes; at += distance)
		start[at] = 1;
}

static void take_memory(uint64_t distance, int flags)
{
	uint64_t bytes = distance << 17;
	char *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
	if (start != MAP_FAILED)
		touch_each(start, bytes, distance);
}

static void take_by_files(void)
{
	static char block[65536];
	int file = memfd_create("hog", 0);
	while (write(file, block, sizeof block) > 0)
		;
	take_memory(PAGE, MAP_PRIVATE);
}

static void take_by_pipes(void)
{
	static char block[4096];
	int ends[2];
	for (int pid = fork(); pid >= 0 && pipe2(ends, O_NONBLOCK) == 0; pid = pid == 0 ? 0 : fork())
		while (write(ends[1], block, sizeof block) > 0)
			;
	take_memory(PAGE, MAP_PRIVATE);
}

static void take_by_forks(void)
{
	pid_t pid;
	take_memory(64, MAP_PRIVATE);
	while ((pid = fork()) > 0)
		;
	take_memory(64, MAP_PRIVATE);
	pause();
}

/* Waits until the first process has nothing left to copy, then takes memory until it is killed for it. */
static void hog(uint64_t seed)
{
	setpgid(0, 0);
	sleep_ms(100);
	switch (seed % 6) {
	case 0: take_memory(PAGE, MAP_PRIVATE); break;
	case 1: take_memory(PAGE, MAP_SHARED); break;
	/* Page tables above all. */
	case 2: take_memory(2ul << 20, MAP_PRIVATE); break;
	case 3: take_by_files(); break;
	case 4: take_by_pipes(); break;
	default: take_by_forks(); break;
	}
	_exit(3);
}
