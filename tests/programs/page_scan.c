/* Pages of a process by category (PAGEMAP_SCAN), and the memory of a process that was killed (process_mrelease).
 *
 * Built statically with any C library; `cargo xtask qemu --test` runs it on the bare-metal machine, and it passes on Linux from 6.7 on as well. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "check.h"

#define SCAN 0xc0606610ul
#define IS_FILE 4ul
#define IS_PRESENT 8ul
#define IS_ZERO 32ul

struct request {
	uint64_t size, flags, start, end, stopped, regions, room, max_pages, inverted, all, any, shown;
};

struct region {
	uint64_t start, end, categories;
};

static int pagemap;
static char *area;
static struct region found[16];

/* Scans the area for pages that are there. */
static int scan(struct request *request)
{
	request->size = sizeof *request;
	request->start = (uintptr_t)area;
	request->end = request->start + 8 * PAGE;
	request->regions = (uintptr_t)found;
	request->shown = IS_PRESENT | IS_ZERO | IS_FILE;
	return ioctl(pagemap, SCAN, request);
}

static int is_region(int number, int first, int last, uint64_t categories)
{
	const struct region *region = &found[number];
	uint64_t start = (uintptr_t)area;
	return region->start == start + first * PAGE && region->end == start + last * PAGE && region->categories == categories;
}

static void pages_by_category(void)
{
	area = map(8 * PAGE, MAP_PRIVATE);
	madvise(area, 8 * PAGE, MADV_NOHUGEPAGE);
	memset(area, 1, 3 * PAGE);
	CHECK(*(volatile char *)(area + 3 * PAGE) == 0);
	char *shared = mmap(area + 6 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(shared == area + 6 * PAGE);
	*shared = 1;
	pagemap = open("/proc/self/pagemap", O_RDONLY);
	struct request all = { .room = 16, .all = IS_PRESENT };
	CHECK(pagemap >= 0 && scan(&all) == 3 && all.stopped == (uintptr_t)area + 8 * PAGE);
	CHECK(is_region(0, 0, 3, IS_PRESENT) && is_region(1, 3, 4, IS_PRESENT | IS_ZERO) && is_region(2, 6, 7, IS_PRESENT | IS_FILE));
	struct request absent = { .room = 16, .all = IS_PRESENT, .inverted = IS_PRESENT };
	CHECK(scan(&absent) == 2 && is_region(0, 4, 6, 0) && is_region(1, 7, 8, 0));
	struct request little = { .room = 1, .all = IS_PRESENT }, few = { .room = 16, .all = IS_PRESENT, .max_pages = 2 };
	CHECK(scan(&little) == 1 && little.stopped == (uintptr_t)area + 3 * PAGE);
	CHECK(scan(&few) == 1 && few.stopped == (uintptr_t)area + 2 * PAGE && is_region(0, 0, 2, IS_PRESENT));
	struct request unknown = { .room = 16, .flags = 4 }, unwatched = { .room = 16, .flags = 3 };
	CHECK(scan(&unknown) == -1 && errno == EINVAL && scan(&unwatched) == -1 && errno == EPERM);
	CHECK(ioctl(pagemap, SCAN, NULL) == -1 && errno == EFAULT && close(pagemap) == 0 && munmap(area, 8 * PAGE) == 0);
}

static void memory_of_the_killed(void)
{
	volatile int *shared = (int *)map(PAGE, MAP_SHARED);
	int status, result;
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		memset(map(1024 * PAGE, MAP_PRIVATE), 1, 1024 * PAGE);
		*shared = 1;
		for (;;)
			pause();
	}
	while (*shared != 1)
		sched_yield();
	int pidfd = syscall(SYS_pidfd_open, child, 0);
	CHECK(pidfd >= 0 && syscall(SYS_process_mrelease, pidfd, 1) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_process_mrelease, pidfd, 0) == -1 && errno == EINVAL);
	CHECK(kill(child, SIGKILL) == 0);
	/* The child may have ended first. */
	result = syscall(SYS_process_mrelease, pidfd, 0);
	CHECK(result == 0 || errno == ESRCH);
	CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
	CHECK(syscall(SYS_process_mrelease, pidfd, 0) == -1 && errno == ESRCH && close(pidfd) == 0);
	CHECK(syscall(SYS_process_mrelease, -1, 0) == -1 && errno == EBADF);
	CHECK(munmap((void *)shared, PAGE) == 0);
}

int main(void)
{
	static const struct check checks[] = {
		{ "pages by category", pages_by_category }, { "memory of the killed", memory_of_the_killed },
	};
	RUN_ALL(checks);
	printf("all pages found\n");
	return 0;
}
