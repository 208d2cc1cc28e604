/* What a process chooses for its memory: names, no huge pages, nothing that becomes executable, pages that may be dropped.
 *
 * Built statically with any C library; `cargo xtask qemu --test` runs it on the bare-metal machine, and it passes on Linux from 6.11 on as well. Each check prints its
 * name before it runs; the first that fails says where and ends with code 1. */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "check.h"

#define ALIGNED (2ul << 20)
/* Numbers that the C library may be too old to know. */
#define DROPPABLE 8
#define PAGEOUT 21
#define COLLAPSE 25
#define SET_MDWE 65
#define GET_MDWE 66
#define REFUSE_EXEC_GAIN 1ul
#define NO_INHERIT 2ul
#define SET_VMA 0x53564d41

static int choose(int option, unsigned long value)
{
	return prctl(option, value, 0ul, 0ul, 0ul);
}

/* Runs `check` in a child, so that its choices end with it. */
static void in_child(void (*check)(void))
{
	int status;
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		check();
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* Given, kept by a child and by parts, joined, taken. Refused where the kernel was built without names. */
static void names_of_areas(void)
{
	char *area = map(8 * PAGE, MAP_PRIVATE);
	const char *maps = "/proc/self/maps";
	struct utsname system;
	int done = syscall(SYS_prctl, SET_VMA, 0ul, area, 4 * PAGE, "part one");
	CHECK(uname(&system) == 0 && (done == 0 || (errno == EINVAL && !strstr(system.release, "mmkit"))));
	if (done != 0)
		return;
	CHECK(number_behind(maps, "[anon:part one]") == 0 && number_behind(maps, "[anon:part two]") == -1);
	CHECK(syscall(SYS_prctl, SET_VMA, 0ul, area + 4 * PAGE, 4 * PAGE, "part two") == 0);
	CHECK(munmap(area + PAGE, PAGE) == 0 && number_behind(maps, "[anon:part one]") == 0);
	CHECK(syscall(SYS_prctl, SET_VMA, 0ul, area + 2 * PAGE, 2 * PAGE, "part two") == 0 && number_behind(maps, "[anon:part two]") == 0);
	CHECK(syscall(SYS_prctl, SET_VMA, 0ul, area, PAGE, NULL) == 0 && number_behind(maps, "[anon:part one]") == -1);
	CHECK(syscall(SYS_prctl, SET_VMA, 0ul, area, PAGE, "not [this]") == -1 && errno == EINVAL);
	CHECK(syscall(SYS_prctl, SET_VMA, 0ul, area, PAGE, (char *)8) == -1 && errno == EFAULT);
	CHECK(munmap(area, 8 * PAGE) == 0 && number_behind(maps, "[anon:part two]") == -1);
}

static char *map_with(int prot)
{
	return mmap(NULL, PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void gains_are_refused(void)
{
	char *code = map_with(PROT_READ | PROT_EXEC), *data = map(PAGE, MAP_PRIVATE);
	CHECK(choose(SET_MDWE, REFUSE_EXEC_GAIN) == 0 && choose(GET_MDWE, 0) == (int)REFUSE_EXEC_GAIN);
	CHECK(map_with(PROT_READ | PROT_WRITE | PROT_EXEC) == MAP_FAILED && errno == EACCES);
	CHECK(mmap(data, PAGE, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED && errno == EACCES);
	*data = 1;
	CHECK(mprotect(data, PAGE, PROT_READ | PROT_EXEC) == -1 && errno == EACCES);
	CHECK(mprotect(code, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == -1 && errno == EACCES);
	CHECK(mprotect(code, PAGE, PROT_EXEC) == 0 && map_with(PROT_READ | PROT_EXEC) != MAP_FAILED);
	CHECK(mprotect(code, PAGE, PROT_READ) == 0 && mprotect(code, PAGE, PROT_READ | PROT_EXEC) == -1 && errno == EACCES);
	CHECK(choose(SET_MDWE, 0) == -1 && errno == EPERM);
	CHECK(choose(SET_MDWE, REFUSE_EXEC_GAIN | NO_INHERIT) == -1 && errno == EPERM);
}

static void a_child_goes_without(void)
{
	CHECK(choose(GET_MDWE, 0) == 0 && map_with(PROT_WRITE | PROT_EXEC) != MAP_FAILED);
}

static void a_child_is_bound(void)
{
	CHECK(choose(GET_MDWE, 0) == (int)REFUSE_EXEC_GAIN && map_with(PROT_WRITE | PROT_EXEC) == MAP_FAILED);
}

static void gains_and_children(void)
{
	gains_are_refused();
	in_child(a_child_is_bound);
}

static void gains_but_not_of_children(void)
{
	CHECK(choose(SET_MDWE, REFUSE_EXEC_GAIN | NO_INHERIT) == 0 && choose(GET_MDWE, 0) == 3);
	in_child(a_child_goes_without);
}

static void executable_memory(void)
{
	CHECK(choose(GET_MDWE, 0) == 0 && choose(SET_MDWE, 0) == 0);
	CHECK(choose(SET_MDWE, NO_INHERIT) == -1 && errno == EINVAL);
	CHECK(choose(SET_MDWE, 4) == -1 && errno == EINVAL);
	CHECK(prctl(SET_MDWE, REFUSE_EXEC_GAIN, 1ul, 0ul, 0ul) == -1 && errno == EINVAL);
	CHECK(prctl(GET_MDWE, 0ul, 0ul, 0ul, 1ul) == -1 && errno == EINVAL);
	in_child(gains_and_children);
	in_child(gains_but_not_of_children);
}

/* Returns kB of huge pages in the process. */
static long huge(void)
{
	return number_behind("/proc/self/smaps_rollup", "AnonHugePages:");
}

static void without_huge_pages(void)
{
	CHECK(choose(PR_SET_THP_DISABLE, 1) == 0 && choose(PR_GET_THP_DISABLE, 0) == 1);
	CHECK(number_behind("/proc/self/status", "THP_enabled:") == 0);
	char *start = map(2 * ALIGNED, MAP_PRIVATE), *block = (char *)(((uintptr_t)start + ALIGNED - 1) & -ALIGNED);
	long before = huge();
	CHECK(madvise(block, ALIGNED, MADV_HUGEPAGE) == 0);
	*block = 1;
	CHECK(huge() == before && madvise(block, ALIGNED, COLLAPSE) == -1 && errno == EINVAL);
	CHECK(choose(PR_SET_THP_DISABLE, 0) == 0 && choose(PR_GET_THP_DISABLE, 0) == 0);
	CHECK(number_behind("/proc/self/status", "THP_enabled:") == 1);
	CHECK(munmap(start, 2 * ALIGNED) == 0);
}

static void a_child_has_none(void)
{
	CHECK(choose(PR_GET_THP_DISABLE, 0) == 1);
}

static void huge_pages(void)
{
	CHECK(prctl(PR_GET_THP_DISABLE, 1ul, 0ul, 0ul, 0ul) == -1 && errno == EINVAL);
	CHECK(prctl(PR_SET_THP_DISABLE, 1ul, 0ul, 1ul, 0ul) == -1 && errno == EINVAL);
	without_huge_pages();
	CHECK(choose(PR_SET_THP_DISABLE, 7) == 0);
	in_child(a_child_has_none);
	CHECK(choose(PR_SET_THP_DISABLE, 0) == 0);
}

static void dropped_pages(void)
{
	size_t bytes = 64 * PAGE;
	char *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | DROPPABLE, -1, 0);
	CHECK(start != MAP_FAILED);
	/* What somebody looks at meanwhile stays; another try finds it free. */
	for (int tries = 0; tries < 100; tries++) {
		memset(start, 'a', bytes);
		CHECK(madvise(start + PAGE, bytes - 2 * PAGE, PAGEOUT) == 0);
		CHECK(start[0] == 'a' && start[bytes - 1] == 'a');
		if (!memchr(start + PAGE, 'a', bytes - 2 * PAGE))
			break;
		usleep(10000);
	}
	CHECK(!memchr(start + PAGE, 'a', bytes - 2 * PAGE) && munmap(start, bytes) == 0);
}

int main(void)
{
	static const struct check checks[] = {
		{ "names of areas", names_of_areas }, { "executable memory", executable_memory },
		{ "huge pages", huge_pages }, { "dropped pages", dropped_pages },
	};
	RUN_ALL(checks);
	printf("all choices kept\n");
	return 0;
}
