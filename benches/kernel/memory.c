/*
 * What memory operations cost, in guest instructions under QEMU's -icount, where one tick of the time-stamp counter is one instruction.
 *
 * Static, for any x86-64 kernel with Linux's system calls: `cargo xtask bench kernel` runs it on mmkit and prints the rows beside Linux's.
 * A row is one line: `row NAME MEDIAN`. Each operation is measured by itself, less what two readings of the counter cost.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define MIB (1ul << 20)
#define HUGE (2 * MIB)
#define MAX_SAMPLES 16384
#define ANYWHERE NULL

static uint64_t samples[MAX_SAMPLES];
static int nr_samples;
static uint64_t overhead;

static inline uint64_t now(void)
{
	uint32_t low, high;

	asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

/* A system call without the C library's errno handling. */
static inline long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 asm("r10") = d;
	register long r8 asm("r8") = e;
	register long r9 asm("r9") = f;
	long result;

	asm volatile("syscall"
		     : "=a"(result)
		     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return result;
}

static void fail(const char *what)
{
	printf("failed %s\n", what);
	exit(1);
}

static void sample(uint64_t start, uint64_t end)
{
	if (nr_samples < MAX_SAMPLES)
		samples[nr_samples++] = end - start - overhead;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t median(void)
{
	qsort(samples, nr_samples, sizeof samples[0], by_value);
	return samples[nr_samples / 2];
}

static void row(const char *name)
{
	if (!nr_samples)
		fail(name);
	printf("row %s %lu\n", name, median());
	nr_samples = 0;
}

/* A row of an operation that was measured once, for many pages together. */
static void row_per_page(const char *name, uint64_t total, uint64_t pages)
{
	printf("row %s %lu\n", name, total / pages);
}

/* Private anonymous memory in small pages. */
static char *memory(size_t bytes)
{
	char *at = mmap(ANYWHERE, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		fail("mmap");
	madvise(at, bytes, MADV_NOHUGEPAGE);
	return at;
}

static void touch(char *at, size_t bytes)
{
	for (size_t offset = 0; offset < bytes; offset += PAGE)
		at[offset] = 1;
}

static void sample_writes(char *at, size_t bytes)
{
	for (size_t offset = 0; offset < bytes; offset += PAGE) {
		uint64_t start = now();
		((volatile char *)at)[offset] = 2;
		sample(start, now());
	}
}

static void sample_reads(const char *at, size_t bytes, size_t stride)
{
	for (size_t offset = 0; offset < bytes; offset += stride) {
		uint64_t start = now();
		(void)((const volatile char *)at)[offset];
		sample(start, now());
	}
}

static void calibrate(void)
{
	for (int i = 0; i < 1000; i++) {
		uint64_t start = now();
		sample(start, now());
	}
	overhead = median();
	nr_samples = 0;
	for (int i = 0; i < 1000; i++) {
		uint64_t start = now();
		call(SYS_getppid, 0, 0, 0, 0, 0, 0);
		sample(start, now());
	}
	row("getppid");
}

static void anonymous_faults(void)
{
	size_t bytes = 16 * MIB;
	char *at = memory(bytes);
	uint64_t start;

	sample_writes(at, bytes);
	row("anon_write_fault");
	start = now();
	call(SYS_madvise, (long)at, bytes, MADV_DONTNEED, 0, 0, 0);
	row_per_page("dontneed_page", now() - start, bytes / PAGE);
	sample_reads(at, bytes, PAGE);
	row("anon_read_fault");
	sample_writes(at, bytes);
	row("write_over_zero_page");
	start = now();
	call(SYS_munmap, (long)at, bytes, 0, 0, 0, 0);
	row_per_page("munmap_page", now() - start, bytes / PAGE);
	at = memory(bytes);
	start = now();
	call(SYS_madvise, (long)at, bytes, MADV_POPULATE_WRITE, 0, 0, 0);
	row_per_page("populate_write_page", now() - start, bytes / PAGE);
	munmap(at, bytes);
}

static void huge_faults(void)
{
	size_t bytes = 32 * MIB;
	char *room = mmap(ANYWHERE, bytes + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at = (char *)(((uintptr_t)room + HUGE - 1) & ~(HUGE - 1));

	madvise(at, bytes, MADV_HUGEPAGE);
	for (size_t offset = 0; offset < bytes; offset += HUGE) {
		uint64_t start = now();
		((volatile char *)at)[offset] = 1;
		sample(start, now());
	}
	row("huge_fault");
	munmap(room, bytes + HUGE);
}

static void file_faults(void)
{
	static char block[65536];
	size_t bytes = 8 * MIB;
	int file = memfd_create("memory", 0);
	char *at;

	memset(block, 1, sizeof block);
	for (size_t offset = 0; offset < bytes; offset += sizeof block)
		if (write(file, block, sizeof block) != sizeof block)
			fail("write");
	at = mmap(ANYWHERE, bytes, PROT_READ, MAP_SHARED, file, 0);
	sample_reads(at, bytes, 16 * PAGE);
	row("shared_read_fault_around");
	munmap(at, bytes);
	for (size_t page = 0; page < 1000; page++) {
		uint64_t start;

		at = mmap(ANYWHERE, PAGE, PROT_READ, MAP_SHARED, file, page * PAGE);
		start = now();
		(void)*(volatile char *)at;
		sample(start, now());
		munmap(at, PAGE);
	}
	row("file_read_fault_one_page");
	at = mmap(ANYWHERE, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	sample_writes(at, bytes);
	row("shared_write_fault");
	munmap(at, bytes);
	at = mmap(ANYWHERE, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	sample_writes(at, bytes);
	row("private_write_fault");
	munmap(at, bytes);
	close(file);
}

static void copies_after_fork(void)
{
	size_t bytes = 8 * MIB;
	char *at = memory(bytes);
	int go[2], status;
	pid_t child;
	char byte;

	touch(at, bytes);
	if (pipe(go))
		fail("pipe");
	child = fork();
	if (!child) {
		close(go[1]);
		(void)!read(go[0], &byte, 1);
		_exit(0);
	}
	close(go[0]);
	sample_writes(at, bytes);
	row("cow_copy");
	close(go[1]);
	waitpid(child, &status, 0);
	child = fork();
	if (!child)
		_exit(0);
	waitpid(child, &status, 0);
	sample_writes(at, bytes);
	row("cow_reuse");
	munmap(at, bytes);
}

static long map_page(void)
{
	return call(SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void maps(void)
{
	for (int i = 0; i < 2000; i++) {
		uint64_t start = now();
		long at = map_page();
		call(SYS_munmap, at, PAGE, 0, 0, 0, 0);
		sample(start, now());
	}
	row("mmap_munmap");
	for (int i = 0; i < 2000; i++) {
		uint64_t start = now();
		long at = map_page();
		*(volatile char *)at = 1;
		call(SYS_munmap, at, PAGE, 0, 0, 0, 0);
		sample(start, now());
	}
	row("mmap_touch_munmap");
	for (int i = 0; i < 300; i++) {
		uint64_t start = now();
		long at = call(SYS_mmap, 0, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		touch((char *)at, 64 * PAGE);
		call(SYS_munmap, at, 64 * PAGE, 0, 0, 0, 0);
		sample(start, now());
	}
	row("mmap_touch_64_munmap");
}

/* Measures two calls that undo each other, one row each. */
#define PAIR(first_name, first, second_name, second)                              \
	do {                                                                      \
		static uint64_t others[1000];                                     \
		for (int i = 0; i < 1000; i++) {                                  \
			uint64_t start = now();                                   \
			first;                                                    \
			sample(start, now());                                     \
			start = now();                                            \
			second;                                                   \
			others[i] = now() - start - overhead;                     \
		}                                                                 \
		row(first_name);                                                  \
		memcpy(samples, others, sizeof others);                           \
		nr_samples = 1000;                                                \
		row(second_name);                                                 \
	} while (0)

static void protections(void)
{
	char *at = memory(64 * PAGE), *middle = at + 32 * PAGE;
	size_t bytes = 16 * MIB;
	uint64_t start;

	PAIR("mprotect_split", call(SYS_mprotect, (long)middle, PAGE, PROT_READ, 0, 0, 0),
	     "mprotect_merge", call(SYS_mprotect, (long)middle, PAGE, PROT_READ | PROT_WRITE, 0, 0, 0));
	munmap(at, 64 * PAGE);
	at = memory(bytes);
	touch(at, bytes);
	start = now();
	call(SYS_mprotect, (long)at, bytes, PROT_READ, 0, 0, 0);
	row_per_page("mprotect_read_page", now() - start, bytes / PAGE);
	start = now();
	call(SYS_mprotect, (long)at, bytes, PROT_READ | PROT_WRITE, 0, 0, 0);
	row_per_page("mprotect_write_page", now() - start, bytes / PAGE);
	munmap(at, bytes);
}

static void sample_moves(char *from, char *to, size_t bytes, int times)
{
	for (int i = 0; i < times; i++) {
		uint64_t start = now();
		call(SYS_mremap, (long)from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, (long)to, 0);
		sample(start, now());
		char *back = from;
		from = to;
		to = back;
	}
	munmap(from, bytes);
}

static void remaps(void)
{
	int fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	char *room = memory(64 * MIB), *at, *to;

	munmap(room, 64 * MIB);
	at = (char *)(((uintptr_t)room + HUGE) & ~(HUGE - 1));
	to = at + 8 * MIB;
	mmap(at, PAGE, PROT_READ | PROT_WRITE, fixed, -1, 0);
	PAIR("mremap_grow", call(SYS_mremap, (long)at, PAGE, 2 * PAGE, 0, 0, 0),
	     "mremap_shrink", call(SYS_mremap, (long)at, 2 * PAGE, PAGE, 0, 0, 0));
	touch(at, PAGE);
	sample_moves(at, to, PAGE, 1000);
	row("mremap_move_page");
	mmap(at, MIB, PROT_READ | PROT_WRITE, fixed, -1, 0);
	madvise(at, MIB, MADV_NOHUGEPAGE);
	touch(at, MIB);
	sample_moves(at, to, MIB, 200);
	row("mremap_move_256_pages");
}

static void heap(void)
{
	long start_of_heap = (call(SYS_brk, 0, 0, 0, 0, 0, 0) + PAGE - 1) & ~(PAGE - 1);
	long end;

	call(SYS_brk, start_of_heap + PAGE, 0, 0, 0, 0, 0);
	end = start_of_heap + PAGE;
	PAIR("brk_grow", call(SYS_brk, end + PAGE, 0, 0, 0, 0, 0), "brk_shrink", call(SYS_brk, end, 0, 0, 0, 0, 0));
}

static void forks(const char *name, size_t bytes, int times)
{
	char *at = bytes ? memory(bytes) : NULL;

	if (at)
		touch(at, bytes);
	for (int i = 0; i < times; i++) {
		int status;
		uint64_t start = now();
		long child = call(SYS_fork, 0, 0, 0, 0, 0, 0);

		if (!child)
			call(SYS_exit, 0, 0, 0, 0, 0, 0);
		call(SYS_wait4, child, (long)&status, 0, 0, 0, 0);
		sample(start, now());
	}
	row(name);
	if (at)
		munmap(at, bytes);
}

/* Faults at random places among areas of which no two can become one. */
static void many_areas(int areas)
{
	size_t bytes = (size_t)areas * 2 * PAGE;
	char *at = mmap(ANYWHERE, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint32_t seed = 12345;
	int writable = areas / 2;

	if (at == MAP_FAILED)
		fail("mmap");
	madvise(at, bytes, MADV_NOHUGEPAGE);
	for (int i = 0; i < areas; i += 2) {
		char *area = at + (size_t)i * 2 * PAGE;

		if (mprotect(area, 2 * PAGE, PROT_READ | PROT_WRITE))
			fail("mprotect");
		*area = 1;
	}
	for (int i = 0; i < 2000; i++) {
		uint64_t start, end;
		volatile char *page;

		seed = seed * 1664525u + 1013904223u;
		page = at + ((uint64_t)seed * writable >> 32) * 4 * PAGE + PAGE;
		start = now();
		*page = 1;
		end = now();
		/* A page that was drawn before costs nothing. */
		if (end - start > overhead + 100)
			sample(start, end);
	}
	row("fault_among_60000_areas");
	munmap(at, bytes);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	memset(samples, 1, sizeof samples);
	calibrate();
	anonymous_faults();
	huge_faults();
	file_faults();
	copies_after_fork();
	maps();
	protections();
	remaps();
	heap();
	forks("fork_small", 0, 50);
	forks("fork_1_mib", MIB, 50);
	forks("fork_64_mib", 64 * MIB, 5);
	many_areas(60000);
	puts("done");
	return 0;
}
