/* Which pages a program wrote to since it asked: /proc/self/clear_refs and bit 55 of /proc/self/pagemap, checked from inside.
 *
 * Built statically with any C library; `cargo xtask qemu --test` runs it on the bare-metal machine. It needs a kernel with marks of writes (on Linux:
 * CONFIG_MEM_SOFT_DIRTY). Each check prints its name before it runs; the first that fails says where and ends with code 1. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define PAGES 64

/* Writes to clear_refs; returns what write returns. */
static long clear_refs(const char *text)
{
	int fd = open("/proc/self/clear_refs", O_WRONLY);
	CHECK(fd >= 0);
	long written = write(fd, text, strlen(text));
	int error = errno;
	close(fd);
	errno = error;
	return written;
}

static int is_marked(volatile char *start, int page)
{
	uint64_t entry;
	int fd = open("/proc/self/pagemap", O_RDONLY);
	CHECK(fd >= 0 && pread(fd, &entry, 8, ((uintptr_t)start / PAGE + page) * 8) == 8);
	close(fd);
	return entry >> 55 & 1;
}

/* The marks of up to 64 pages, as bits. */
static uint64_t marks(volatile char *start)
{
	static uint64_t entries[PAGES];
	uint64_t found = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY);
	CHECK(fd >= 0 && pread(fd, entries, sizeof entries, (uintptr_t)start / PAGE * 8) == sizeof entries);
	close(fd);
	for (int page = 0; page < PAGES; page++)
		found |= (entries[page] >> 55 & 1) << page;
	return found;
}

/* Reads a whole file; returns its length. */
static long slurp(const char *path, char *text, long room)
{
	long length = 0, count;
	int fd = open(path, O_RDONLY);
	CHECK(fd >= 0);
	while ((count = read(fd, text + length, room - length)) > 0)
		length += count;
	CHECK(count == 0 && length < room);
	close(fd);
	return length;
}

static void touch(volatile char *start, uint64_t pages)
{
	for (int page = 0; page < PAGES; page++)
		if (pages >> page & 1)
			start[page * PAGE + 17]++;
}

static void private_and_shared(void)
{
	static char before[65536], after[65536];
	const uint64_t first = 0x00ff00ff00ff00ff, second = 0x8000000100f00ff1;
	static const int kinds[] = { MAP_PRIVATE, MAP_SHARED };
	for (int kind = 0; kind < 2; kind++) {
		volatile char *start = map(PAGES * PAGE, kinds[kind]);
		CHECK(marks(start) == UINT64_MAX);
		touch(start, first);
		CHECK(start[20 * PAGE] == 0 && start[2 * PAGE + 17] == 1);
		long length = slurp("/proc/self/maps", before, sizeof before);
		CHECK(clear_refs("4") == 1 && marks(start) == 0);
		CHECK(slurp("/proc/self/maps", after, sizeof after) == length && !memcmp(before, after, length));
		for (int page = 0; page < PAGES; page++)
			CHECK(start[page * PAGE + 17] == (int)(first >> page & 1));
		CHECK(marks(start) == 0);
		touch(start, second);
		CHECK(marks(start) == second);
		touch(start, second);
		for (int page = 0; page < PAGES; page++)
			CHECK(start[page * PAGE + 17] == (int)((first >> page & 1) + 2 * (second >> page & 1)));
		CHECK(marks(start) == second && clear_refs("4\n") == 2 && marks(start) == 0);
		CHECK(slurp("/proc/self/maps", after, sizeof after) == length && !memcmp(before, after, length));
		CHECK(munmap((void *)start, PAGES * PAGE) == 0);
	}
}

static void kernel_writes(void)
{
	volatile char *start = map(PAGES * PAGE, MAP_PRIVATE);
	int ends[2];
	touch(start, UINT64_MAX);
	CHECK(pipe(ends) == 0 && write(ends[1], "ab", 2) == 2 && clear_refs("4") == 1);
	CHECK(read(ends[0], (void *)(start + 9 * PAGE - 1), 2) == 2 && start[9 * PAGE] == 'b');
	CHECK(marks(start) == 3ull << 8);
	close(ends[0]);
	close(ends[1]);
	CHECK(munmap((void *)start, PAGES * PAGE) == 0);
}

static void permissions_moves_and_new_areas(void)
{
	volatile char *start = map(PAGES * PAGE, MAP_PRIVATE), *moved = map(PAGES * PAGE, MAP_PRIVATE);
	touch(start, UINT64_MAX);
	CHECK(clear_refs("4") == 1);
	touch(start, 1 << 3);
	CHECK(mprotect((void *)start, PAGES * PAGE, PROT_READ) == 0);
	CHECK(mprotect((void *)start, PAGES * PAGE, PROT_READ | PROT_WRITE) == 0 && marks(start) == 1 << 3);
	touch(start, 3 << 3);
	CHECK(marks(start) == 3 << 3);
	/* What moves is marked; where it was is not. */
	CHECK(mremap((void *)start, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)moved) == moved);
	CHECK((marks(moved) & 0xf) == 0xf && moved[17] == 1 && is_marked(start, 4) && !is_marked(start, 5));
	/* Mapped again in its place, all of the area is new. */
	CHECK(mmap((void *)(start + 8 * PAGE), PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == start + 8 * PAGE);
	CHECK(is_marked(start, 8) && is_marked(start, 20));
	CHECK(munmap((void *)start, PAGES * PAGE) == 0 && munmap((void *)moved, PAGES * PAGE) == 0);
}

static void children(void)
{
	volatile char *start = map(PAGES * PAGE, MAP_PRIVATE);
	int status;
	touch(start, UINT64_MAX);
	CHECK(clear_refs("4") == 1);
	touch(start, 1 << 5);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		CHECK(marks(start) == 1 << 5);
		touch(start, 1 << 6);
		CHECK(marks(start) == 3 << 5 && clear_refs("4") == 1 && marks(start) == 0);
		touch(start, 1 << 7);
		_exit(marks(start) == 1 << 7 ? 0 : 1);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(marks(start) == 1 << 5);
	touch(start, 1 << 8);
	CHECK(marks(start) == (1 << 5 | 1 << 8));
	CHECK(munmap((void *)start, PAGES * PAGE) == 0);
}

/* Another thread writes to one page all the time: after each clearing its next write is noticed, whatever its CPU remembers. */
static volatile int stop;
static volatile unsigned long rounds;

static void *write_on(void *at)
{
	while (!stop) {
		(*(volatile char *)at)++;
		rounds++;
	}
	return NULL;
}

static void a_thread_that_writes_on(void)
{
	volatile char *start = map(PAGES * PAGE, MAP_PRIVATE);
	pthread_t writer;
	touch(start, UINT64_MAX);
	CHECK(pthread_create(&writer, NULL, write_on, (void *)(start + 7 * PAGE)) == 0);
	for (int round = 0; round < 50; round++) {
		CHECK(clear_refs("4") == 1);
		unsigned long seen = rounds;
		while (rounds < seen + 2)
			sched_yield();
		CHECK(marks(start) == 1 << 7);
	}
	stop = 1;
	CHECK(pthread_join(writer, NULL) == 0 && munmap((void *)start, PAGES * PAGE) == 0);
}

static void other_numbers_and_errors(void)
{
	volatile char *start = map(PAGES * PAGE, MAP_PRIVATE);
	char byte;
	touch(start, UINT64_MAX);
	/* Pages of the program's file stay as they are, and there may be many. */
	long before = number_behind("/proc/self/smaps_rollup", "Referenced:");
	CHECK(before >= PAGES * 4);
	CHECK(clear_refs("2") == 1 && number_behind("/proc/self/smaps_rollup", "Referenced:") <= before - PAGES * 4);
	CHECK(clear_refs("1") == 1 && clear_refs(" 3") == 2 && marks(start) == UINT64_MAX);
	CHECK(munmap((void *)start, PAGES * PAGE) == 0);
	long peak = number_behind("/proc/self/status", "VmHWM:");
	CHECK(clear_refs("5") == 1 && number_behind("/proc/self/status", "VmHWM:") < peak);
	CHECK(clear_refs("0") == -1 && errno == EINVAL);
	CHECK(clear_refs("6") == -1 && errno == EINVAL);
	CHECK(clear_refs("four") == -1 && errno == EINVAL);
	CHECK(clear_refs("2147483648") == -1 && errno == ERANGE);
	CHECK(clear_refs("000000000001 and the rest") == 12);
	int fd = open("/proc/self/clear_refs", O_WRONLY);
	CHECK(write(fd, (void *)start, 1) == -1 && errno == EFAULT && read(fd, &byte, 1) == -1 && errno == EBADF);
	close(fd);
	CHECK(access("/proc/self/clear_refs", W_OK) == 0);
}

int main(void)
{
	static const struct check checks[] = {
		{ "private and shared memory", private_and_shared }, { "writes by the kernel", kernel_writes },
		{ "permissions, moves, new areas", permissions_moves_and_new_areas }, { "children", children },
		{ "a thread that writes on", a_thread_that_writes_on }, { "other numbers and errors", other_numbers_and_errors },
	};
	RUN_ALL(checks);
	printf("all watched writes found\n");
	return 0;
}
