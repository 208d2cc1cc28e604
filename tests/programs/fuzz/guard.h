/* The process whose memory must not change: a pattern in private memory, in a file and in private mappings of it, checked all the time. */
#pragma once
#include "common.h"

#define GUARD_PAGES 64
#define GUARD_WORDS (GUARD_PAGES * PAGE / 8)

static volatile sig_atomic_t guard_ends;
static uint64_t *guard_private, *guard_shared, *guard_copy;
static int guard_file;

static void on_end(int signal)
{
	(void)signal;
	guard_ends = 1;
}

static uint64_t pattern(uint64_t kind, uint64_t word, uint64_t generation)
{
	return (word + kind * GUARD_WORDS + 1) * 0x9e3779b97f4a7c15ull ^ generation << 56;
}

static void wrong(const char *what, uint64_t word, uint64_t found, uint64_t wanted)
{
	printf("fuzz: GUARD HARMED: %s, word %#lx is %#lx, not %#lx\n", what, (long)word, (long)found, (long)wanted);
	fflush(stdout);
	_exit(1);
}

static void check_words(const char *what, uint64_t kind, const uint64_t *words, const uint8_t *generation)
{
	for (uint64_t word = 0; word < GUARD_WORDS; word++) {
		uint64_t wanted = pattern(kind, word, generation[word * 8 / PAGE]);
		if (words[word] != wanted)
			wrong(what, word, words[word], wanted);
	}
}

static void fill_page(uint64_t kind, uint64_t *words, uint64_t page, uint8_t generation)
{
	for (uint64_t word = page * PAGE / 8; word < (page + 1) * PAGE / 8; word++)
		words[word] = pattern(kind, word, generation);
}

/* Reads the file again through a descriptor; no memory for it is no harm. */
static void check_file(uint64_t page, uint8_t generation)
{
	static uint64_t words[PAGE / 8];
	if (pread(guard_file, words, PAGE, page * PAGE) != (ssize_t)PAGE)
		return;
	for (uint64_t word = 0; word < PAGE / 8; word++) {
		uint64_t wanted = pattern(1, page * PAGE / 8 + word, generation);
		if (words[word] != wanted)
			wrong("file", word, words[word], wanted);
	}
}

/* A child writes over its copy of the guard's private memory; the guard's stays. */
static void check_copy(const uint8_t *generation)
{
	pid_t child = fork();
	if (child < 0)
		return;
	if (child == 0) {
		check_words("memory after fork", 0, guard_private, generation);
		memset(guard_private, 0x5a, GUARD_PAGES * PAGE);
		_exit(0);
	}
	int status = 0;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status))
		_exit(1);
}

static uint64_t *guard_map(int flags, int file)
{
	uint64_t *words = mmap(NULL, GUARD_PAGES * PAGE, PROT_READ | PROT_WRITE, flags | MAP_POPULATE, file, 0);
	if (words == MAP_FAILED) {
		perror("fuzz: guard's memory");
		_exit(2);
	}
	return words;
}

/* Whether memory is to run out: who takes a page then may be killed for it, so the guard and the first process take none. */
enum scarcity { PLENTY, NONE };

/* Runs until it is told to end; writes the number of its checks to `report`. */
static void guard(int report, uint64_t seed, enum scarcity scarcity)
{
	static uint8_t own[GUARD_PAGES], file[GUARD_PAGES];
	struct sigaction action = { .sa_handler = on_end };
	uint64_t checks = 0;
	sigaction(SIGTERM, &action, NULL);
	guard_file = memfd_create("guard", 0);
	if (guard_file < 0 || ftruncate(guard_file, GUARD_PAGES * PAGE) != 0)
		_exit(2);
	guard_private = guard_map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	guard_shared = guard_map(MAP_SHARED, guard_file);
	for (uint64_t page = 0; page < GUARD_PAGES; page++) {
		fill_page(0, guard_private, page, 0);
		fill_page(1, guard_shared, page, 0);
	}
	guard_copy = guard_map(MAP_PRIVATE, guard_file);
	mlockall(MCL_CURRENT);
	while (!guard_ends) {
		uint64_t page = below(&seed, GUARD_PAGES);
		check_words("private memory", 0, guard_private, own);
		check_words("shared file", 1, guard_shared, file);
		check_words("private file", 1, guard_copy, file);
		check_file(below(&seed, GUARD_PAGES), 0);
		fill_page(0, guard_private, page, ++own[page]);
		if (++checks % 16 == 0 && scarcity == PLENTY)
			check_copy(own);
		sleep_ms(1);
	}
	check_words("private memory", 0, guard_private, own);
	check_words("shared file", 1, guard_shared, file);
	_exit(write(report, &checks, sizeof checks) == sizeof checks ? 0 : 2);
}
