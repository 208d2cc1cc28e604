/* What all parts of the hostile program use: limits, random numbers, time, system calls without errno. */
#pragma once
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define CHILDREN 6
#define STEPS_OF_A_CHILD 3000
#define ROUND_MS 2000
#define POLL_MS 10
/* A child that makes no step for so many polls is interrupted, or killed. */
#define POLLS_TO_INTERRUPT 2
#define POLLS_TO_KILL 40
/* A round ends early when less is free. */
#define LEAST_FREE_KIB (48ul << 10)
#define CHILD_BYTES (16ul << 20)
/* What may be missing after a round: tables of the kernel that grow and stay. */
#define MISSING_KIB 512
#define DIRECTORY "/tmp/fuzz"
#define PROGRAM DIRECTORY "/program"
/* How a child ends that could not be executed. */
#define NOT_EXECUTED 77

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t below(uint64_t *state, uint64_t end)
{
	return next(state) % end;
}

static uint64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

static void sleep_ms(long ms)
{
	struct timespec wait = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
	nanosleep(&wait, NULL);
}

/* A system call without errno, which lies in memory that the program may have lost. */
static inline long raw_call(long number, const uint64_t *a)
{
	long result;
	register uint64_t r10 __asm__("r10") = a[3];
	register uint64_t r8 __asm__("r8") = a[4];
	register uint64_t r9 __asm__("r9") = a[5];
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
