/* A program that checks what it sees: each check prints its name before it runs; the first that fails says where and ends with code 1. */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ul
#define CHECK(condition) do { if (!(condition)) fail(#condition, __LINE__); } while (0)
#define RUN_ALL(checks) run_all(checks, sizeof checks / sizeof *checks)

struct check {
	const char *name;
	void (*run)(void);
};

static void fail(const char *what, int line)
{
	printf("FAILED, line %d: %s (errno %d)\n", line, what, errno);
	fflush(stdout);
	_exit(1);
}

/* Maps anonymous memory that can be read and written. */
static char *map(size_t bytes, int sharing)
{
	char *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
	CHECK(start != MAP_FAILED);
	return start;
}

/* Returns the number behind the first place where a file of /proc has `word`; -1 without it. */
static inline long number_behind(const char *path, const char *word)
{
	char line[512];
	long number = -1;
	FILE *file = fopen(path, "r");
	CHECK(file);
	while (number < 0 && fgets(line, sizeof line, file)) {
		char *found = strstr(line, word);
		if (found)
			number = strtol(found + strlen(word), NULL, 10);
	}
	fclose(file);
	return number;
}

static void run_all(const struct check *checks, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		printf("check: %s\n", checks[i].name);
		fflush(stdout);
		checks[i].run();
	}
}
