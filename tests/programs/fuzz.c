/* A hostile program for the bare-metal machine: processes that do anything at all, beside one whose memory must not change.
 *
 *     fuzz [SECONDS [SEED]]
 *
 * Runs as the first process and refuses to run as another, since it ends every process there is. It goes in rounds. In each, children make
 * random system calls with random arguments, touch random addresses, execute random bytes, change a small arena of pages from
 * several threads, and fork; one that ends is replaced, one that stands still is interrupted and in the end killed. Every third round
 * one process takes all memory there is, in each way that there is. A guard keeps a known pattern in its own memory and in a file,
 * and checks all of it all the time. After a round everything is killed, and as much memory has to be free as after the first
 * rounds. The exit code is 0 if the guard's memory held and all memory came back.
 *
 * Children make no call that a root user's program may use against another: signals go to nobody else, limits stay as they are. */
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

/* ---- The guard. ---- */

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

/* ---- The children. ---- */

/* What a child tells of itself; it may destroy it, so its parent believes nothing that cannot be. */
struct account {
	volatile uint64_t calls, steps, faults;
};

#define ARENA_PAGES 128
#define ARENA_BYTES (ARENA_PAGES * PAGE)
#define BUFFER_BYTES (4 * PAGE)

static struct account *account;
static char *arena, *buffer;
static __thread sigjmp_buf back;
static __thread int depth;

static const char *const paths[] = {
	"a", "b", "d", "d/a", "d/b", DIRECTORY "/a", "/proc/self/maps", "/proc/self/smaps", "/proc/self/pagemap",
	"/proc/self/fd/3", "/proc/self/exe", "/proc/self/status", "/dev/zero", "/dev/null", "/proc/meminfo", PROGRAM,
};
#define NR_PATHS (sizeof paths / sizeof *paths)

/* A value that a call may take for an address, a size, a descriptor or flags. */
static uint64_t value(uint64_t *r)
{
	static const uint64_t edges[] = {
		0x7ffffffff000, 0x7fffffffe000, 0x800000000000, 0xffff7fffffffffff, 0xffff800000000000, 0xffff888000000000,
		0xffffc90000000000, 0xffffffff80000000, 0xfffffffffffff000, 0x8000000000000000, 0x7fffffff, 0x80000000,
		0xffffffff, 0x100000000, 0x10000, 0x400000,
	};
	switch (below(r, 16)) {
	case 0: return below(r, 8);
	case 1: return below(r, 24);
	case 2: return PAGE * below(r, ARENA_PAGES);
	case 3: return edges[below(r, sizeof edges / sizeof *edges)] + (below(r, 2) ? 0 : below(r, 0x2000) - 0x1000);
	case 4: return 1ull << below(r, 64);
	case 5: return -below(r, 4096);
	case 6: return next(r);
	case 7: return (uint64_t)&depth + below(r, 64);
	case 8: return (uint64_t)buffer + below(r, BUFFER_BYTES);
	case 9: return (uint64_t)buffer + 64 * below(r, NR_PATHS);
	case 10: return (uint64_t)buffer + 1024 + 8 * below(r, 256);
	case 11: return (uint64_t)arena + below(r, ARENA_BYTES + 8);
	case 12: case 13: return (uint64_t)arena + PAGE * below(r, ARENA_PAGES);
	case 14: return below(r, 0x1000);
	default: return 0;
	}
}

/* Fills the buffer that calls read their structures from: paths first, then values. */
static void scatter(uint64_t *r)
{
	for (size_t path = 0; path < NR_PATHS; path++)
		strncpy(buffer + 64 * path, paths[path], 63);
	for (size_t at = 1024; at < BUFFER_BYTES; at += 8) {
		uint64_t word = value(r);
		memcpy(buffer + at, &word, 8);
	}
}

static int any_file(uint64_t *r)
{
	return below(r, 4) ? (int)below(r, 10) : -1;
}

/* A call on the arena that is likely to do something. */
static long memory_call(uint64_t *r)
{
	static const int kinds[] = { MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED };
	uint64_t page = below(r, ARENA_PAGES), pages = 1 + below(r, below(r, 4) ? 8 : ARENA_PAGES - page);
	uint64_t a[6] = { (uint64_t)arena + page * PAGE, pages * PAGE, below(r, 8), 0, 0, 0 };
	switch (below(r, 12)) {
	case 0: case 1: case 2:
		a[3] = MAP_FIXED | kinds[below(r, 4)] | (below(r, 4) ? 0 : MAP_POPULATE) | (below(r, 8) ? 0 : MAP_LOCKED);
		a[4] = any_file(r);
		a[5] = PAGE * below(r, 64);
		return raw_call(SYS_mmap, a);
	case 3: return raw_call(SYS_munmap, a);
	case 4: case 5: return raw_call(SYS_mprotect, a);
	case 6:
		a[2] = (1 + below(r, 16)) * PAGE;
		a[3] = below(r, 8);
		a[4] = (uint64_t)arena + PAGE * below(r, ARENA_PAGES - 16);
		return raw_call(SYS_mremap, a);
	case 7: case 8:
		a[2] = below(r, 26);
		return raw_call(SYS_madvise, a);
	case 9: return raw_call(below(r, 2) ? SYS_mlock : SYS_munlock, a);
	case 10:
		a[2] = below(r, 8);
		return raw_call(SYS_msync, a);
	default:
		a[2] = 0;
		a[3] = below(r, 64);
		return raw_call(SYS_remap_file_pages, a);
	}
}

/* Takes from a call what would be no attack on the kernel but a root user's right. */
static void spare_others(long number, uint64_t *a, uint64_t *r)
{
	switch (number) {
	case SYS_kill: case SYS_tkill: case SYS_tgkill: case SYS_rt_sigqueueinfo: case SYS_rt_tgsigqueueinfo:
	case SYS_setpgid: case SYS_prlimit64: case SYS_process_vm_readv: case SYS_process_vm_writev: case SYS_ptrace:
	case SYS_pidfd_open: case SYS_setpriority: case SYS_kcmp: case SYS_migrate_pages: case SYS_move_pages:
		a[0] = below(r, 4) ? (uint64_t)getpid() : 1000000000 + below(r, 4);
		/* Nobody else's thread, and the own one seldom to the end. */
		if (number == SYS_tgkill || number == SYS_rt_tgsigqueueinfo)
			a[1] = a[0];
		if (number == SYS_prlimit64)
			a[2] = 0;
		break;
	case SYS_setrlimit:
		a[0] = 16;
		break;
	case SYS_reboot:
		a[0] = 0;
		break;
	default:
		break;
	}
}

static int makes_a_process(long number)
{
	return number == SYS_fork || number == SYS_vfork || number == SYS_clone || number == 435;
}

static long random_call(uint64_t *r)
{
	static const uint64_t bases[] = { 0, 0x40000000, 0x100000000, 0x8000000000000000 };
	uint64_t a[6];
	long number = below(r, 471);
	if ((number == SYS_exit || number == SYS_exit_group || number == SYS_arch_prctl) && below(r, 16))
		return 0;
	for (int i = 0; i < 6; i++)
		a[i] = value(r);
	spare_others(number, a, r);
	if (makes_a_process(number) && depth > 2)
		return 0;
	account->calls++;
	long result = raw_call(number + (below(r, 64) ? 0 : bases[below(r, 4)]), a);
	if (result == 0 && makes_a_process(number))
		depth++;
	return result;
}

static void touch(uint64_t *r)
{
	volatile char *at = (volatile char *)value(r);
	if (below(r, 2))
		at = arena + below(r, ARENA_BYTES);
	if (below(r, 2))
		*at = (char)next(r);
	else
		(void)*at;
}

/* Instructions that a program must not get anything out of, each of which is followed by random bytes. */
static const char *const snippets[] = {
	"", "\x0f\x05", "\xcd\x80", "\xcd\x03", "\xf4", "\xfa", "\x0f\x22\xd8", "\x0f\x20\xc0", "\x0f\x30", "\x0f\x32", "\x0f\x01\xf8",
	"\x0f\x01\x10", "\x0f\x00\xd8", "\xee", "\xec", "\x48\xcf", "\x48\x0f\x07", "\x0f\x34", "\xcc", "\xf1", "\x0f\x0b", "\x0f\x09",
	/* push; popf: the trap flag, the nested-task flag, alignment check, privilege level, direction. */
	"\x68\x00\x01\x00\x00\x9d\x0f\x05", "\x68\x00\x40\x00\x00\x9d\x0f\x05", "\x68\x00\x00\x04\x00\x9d\x0f\x05",
	"\x68\x00\x30\x00\x00\x9d\xfa", "\x68\x00\x04\x00\x00\x9d\x0f\x05", "\x68\x00\x01\x00\x00\x9d\xcc",
	/* Segment registers from eax: ds, es, fs, gs, ss. */
	"\x8e\xd8", "\x8e\xc0", "\x8e\xe0", "\x8e\xe8", "\x8e\xd0",
	/* A jump through a far pointer at rax, ldmxcsr, fldcw and fxrstor from rax, clac, stac, xsetbv, mov to dr7, wrfsbase, swapgs. */
	"\xff\x28", "\x0f\xae\x10", "\xd9\x28", "\x0f\xae\x08", "\x0f\x01\xca", "\x0f\x01\xcb", "\x0f\x01\xd1", "\x0f\x23\xf8",
	"\xf3\x48\x0f\xae\xd0", "\x0f\x01\xf8\x0f\x05",
	/* A stack pointer from nowhere, and then a call, a push, a breakpoint, a return from a signal. */
	"\x48\x89\xc4\x0f\x05", "\x48\x89\xc4\x50", "\x48\x89\xc4\xcc", "\x48\x89\xc4\x6a\x0f\x58\x0f\x05",
};

static void execute(uint64_t *r)
{
	static const size_t lengths[] = { 0, 2, 2, 2, 1, 1, 3, 3, 2, 2, 3, 3, 3, 1, 1, 2, 3, 2, 1, 1, 2, 2, 8, 8, 8, 7, 8, 7,
		2, 2, 2, 2, 2, 2, 3, 2, 3, 3, 3, 3, 3, 5, 5, 5, 4, 4, 8 };
	_Static_assert(sizeof lengths / sizeof *lengths == sizeof snippets / sizeof *snippets, "a length for each snippet");
	char *code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED)
		return;
	size_t which = below(r, sizeof lengths / sizeof *lengths), at = below(r, 2) ? PAGE - 24 : below(r, PAGE - 64);
	memcpy(code + at, snippets[which], lengths[which]);
	for (size_t byte = at + lengths[which]; byte < PAGE && byte < at + 64; byte++)
		code[byte] = (char)next(r);
	uint64_t a[6] = { value(r), value(r), value(r), value(r), value(r), value(r) };
	uint64_t start = (uint64_t)code + at;
	__asm__ volatile("call *%[start]" : "+a"(a[0]), "+D"(a[1]), "+S"(a[2]), "+d"(a[3]), "+c"(a[4])
			 : [start] "b"(start) : "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
	munmap(code, PAGE);
}

static void step(uint64_t *r)
{
	switch (below(r, 16)) {
	case 0: case 1: case 2: case 3: case 4:
		memory_call(r);
		account->calls++;
		break;
	case 5: case 6:
		touch(r);
		break;
	case 7:
		if (below(r, 4) == 0)
			execute(r);
		break;
	case 8:
		if (below(r, 32) == 0)
			scatter(r);
		break;
	default:
		random_call(r);
	}
}

static void on_fault(int signal)
{
	account->faults += signal != SIGUSR1;
	siglongjmp(back, 1);
}

/* Handlers, signal mask and the stack for signals, whose calls take them away now and then. */
static void take_signals(char *stack_start)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGUSR1, SIGSYS, SIGABRT };
	struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_ONSTACK };
	stack_t stack = { .ss_sp = stack_start, .ss_size = 4 * PAGE };
	sigset_t none;
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
		sigaction(faults[i], &action, NULL);
	sigaltstack(&stack, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void run(uint64_t seed, uint64_t steps)
{
	volatile uint64_t left = steps;
	/* Not on the stack's registers: a jump back must not undo what was drawn. */
	uint64_t *state = malloc(sizeof *state);
	if (!state)
		_exit(0);
	*state = seed | 1;
	char *stack = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack == MAP_FAILED)
		_exit(0);
	while (left && depth < 4) {
		if (left-- % 16 == 0 || left + 1 == steps)
			take_signals(stack);
		/* A process that a call made does a little. */
		if (depth && left > 20)
			left = 20;
		if (!sigsetjmp(back, 1)) {
			account->steps++;
			step(state);
		}
	}
}

static void *racer(void *seed)
{
	run((uint64_t)seed, STEPS_OF_A_CHILD);
	return NULL;
}

/* A child's program: this one, executed anew, so that a jump to wherever finds nothing of its parent on the stack. */
static void child(int accounts, int slot, uint64_t seed)
{
	struct rlimit memory = { CHILD_BYTES, CHILD_BYTES };
	setpgid(0, 0);
	setrlimit(RLIMIT_AS, &memory);
	account = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, accounts, PAGE * slot);
	if (account == MAP_FAILED)
		_exit(0);
	for (int fd = 0; fd < 20; fd++)
		close(fd);
	open("/dev/null", O_RDWR);
	open("/dev/zero", O_RDWR);
	int file = memfd_create("fuzz", MFD_ALLOW_SEALING), ends[2];
	if (file >= 0 && ftruncate(file, 48 * PAGE) == 0 && pipe(ends) == 0)
		open("/proc/self/exe", O_RDONLY);
	open("a", O_RDWR | O_CREAT, 0700);
	arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	buffer = mmap(NULL, BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (arena == MAP_FAILED || buffer == MAP_FAILED)
		_exit(0);
	scatter(&seed);
	for (uint64_t threads = below(&seed, 3); threads; threads--) {
		pthread_t thread;
		pthread_create(&thread, NULL, racer, (void *)next(&seed));
	}
	run(next(&seed), STEPS_OF_A_CHILD);
	_exit(0);
}

/* ---- The process that takes all memory. ---- */

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

/* ---- The first process. ---- */

/* Sums the numbers behind a word in a file of /proc. */
static unsigned long sum_of(const char *path, const char *word)
{
	char line[256];
	unsigned long sum = 0;
	FILE *file = fopen(path, "r");
	while (file && fgets(line, sizeof line, file)) {
		char *found = strstr(line, word);
		if (found)
			sum += strtoul(found + strlen(word), NULL, 10);
	}
	if (file)
		fclose(file);
	return sum;
}

/* KiB that are free: in the zones, in the lists of CPUs, and in what the kernel keeps objects and tables in. */
static unsigned long free_kib(void)
{
	static const char *const kinds[] = { "MemFree:", "Slab:", "PageTables:", "Percpu:" };
	unsigned long kib = 4 * sum_of("/proc/zoneinfo", " count:");
	for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++)
		kib += sum_of("/proc/meminfo", kinds[kind]);
	return kib;
}

static void remove_all(const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	while (directory && (entry = readdir(directory))) {
		char name[4096];
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
		if (unlink(name) != 0 && errno == EISDIR) {
			remove_all(name);
			rmdir(name);
		}
	}
	if (directory)
		closedir(directory);
}

/* Makes the file that children are executed from: they may do to it what they like. */
static void copy_program(void)
{
	static char block[65536];
	ssize_t bytes;
	unlink(PROGRAM);
	int from = open("/proc/self/exe", O_RDONLY), to = open(PROGRAM, O_WRONLY | O_CREAT | O_EXCL, 0755);
	while ((bytes = read(from, block, sizeof block)) > 0)
		if (write(to, block, bytes) != bytes)
			break;
	close(from);
	close(to);
}

struct totals {
	uint64_t calls, faults, children, killed, hogs, starved, checks, rounds;
};

struct slot {
	pid_t pid;
	uint64_t steps, still;
};

static int accounts_file;

/* Starts this program anew, as `what`. */
static pid_t execute_as(const char *what, int slot, uint64_t seed)
{
	pid_t pid = fork();
	if (pid == 0) {
		char words[3][24], name[8];
		char *arguments[] = { "fuzz", name, words[0], words[1], words[2], NULL };
		snprintf(name, sizeof name, "%s", what);
		snprintf(words[0], sizeof *words, "%d", accounts_file);
		snprintf(words[1], sizeof *words, "%d", slot);
		snprintf(words[2], sizeof *words, "%lu", (long)seed);
		execv(PROGRAM, arguments);
		_exit(NOT_EXECUTED);
	}
	return pid;
}

static void start(int slot, struct slot *slots, struct account *accounts, uint64_t *seed, struct totals *totals)
{
	struct account *own = (struct account *)((char *)accounts + PAGE * slot);
	own->calls = own->steps = own->faults = 0;
	pid_t pid = execute_as("child", slot, next(seed));
	slots[slot] = (struct slot){ .pid = pid > 0 ? pid : 0 };
	totals->children += pid > 0;
}

/* Adds what a child says it did, unless it cannot have done that. */
static void take_account(int slot, struct account *accounts, struct totals *totals)
{
	struct account *own = (struct account *)((char *)accounts + PAGE * slot);
	if (own->calls <= own->steps && own->steps < 100 * STEPS_OF_A_CHILD && own->faults <= own->steps) {
		totals->calls += own->calls;
		totals->faults += own->faults;
	}
}

/* Interrupts a child that makes no step, and in the end kills it. */
static void watch(int slot, struct slot *slots, struct account *accounts, struct totals *totals)
{
	struct account *own = (struct account *)((char *)accounts + PAGE * slot);
	struct slot *one = &slots[slot];
	one->still = own->steps == one->steps ? one->still + 1 : 0;
	one->steps = own->steps;
	if (one->still >= POLLS_TO_KILL) {
		totals->killed++;
		kill(one->pid, SIGKILL);
	} else if (one->steps && one->still && one->still % POLLS_TO_INTERRUPT == 0) {
		kill(one->pid, SIGUSR1);
	}
}

static void fail(const char *what, int status)
{
	printf("fuzz: FAILED: %s (status %#x)\n", what, status);
	exit(1);
}

/* Waits for one process or, without it, for all of them. */
static void await(pid_t wanted, const char *what)
{
	uint64_t end = now_ms() + 30000;
	int status;
	for (;;) {
		pid_t pid = waitpid(-1, &status, WNOHANG);
		if (wanted && pid == wanted) {
			if (status)
				fail(what, status);
			return;
		}
		if (pid < 0 && errno == ECHILD) {
			if (wanted)
				fail(what, 0);
			return;
		}
		if (now_ms() > end)
			fail(what, -1);
		if (pid == 0)
			sleep_ms(1);
	}
}

static void fight(struct account *accounts, pid_t guard_pid, uint64_t *seed, struct totals *totals)
{
	struct slot slots[CHILDREN] = { 0 };
	uint64_t end = now_ms() + ROUND_MS;
	while (now_ms() < end && sum_of("/proc/meminfo", "MemFree:") > LEAST_FREE_KIB) {
		int status;
		pid_t pid;
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			if (pid == guard_pid)
				fail("the guard ended", status);
			for (int slot = 0; slot < CHILDREN; slot++)
				if (slots[slot].pid == pid) {
					take_account(slot, accounts, totals);
					slots[slot].pid = 0;
					if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_EXECUTED)
						copy_program();
				}
		}
		for (int slot = 0; slot < CHILDREN; slot++)
			if (slots[slot].pid)
				watch(slot, slots, accounts, totals);
			else
				start(slot, slots, accounts, seed, totals);
		sleep_ms(POLL_MS);
	}
	for (int slot = 0; slot < CHILDREN; slot++)
		if (slots[slot].pid)
			take_account(slot, accounts, totals);
}

/* One process takes all memory, a way a time. Nothing here needs more. */
static void starve(pid_t guard_pid, struct totals *totals)
{
	int status = 0;
	pid_t hog_pid = execute_as("hog", 0, totals->hogs);
	uint64_t end = now_ms() + 15000;
	while (waitpid(hog_pid, &status, WNOHANG) == 0 && now_ms() < end)
		sleep_ms(POLL_MS);
	/* Its children may live. */
	sleep_ms(500);
	kill(-hog_pid, SIGKILL);
	if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_EXECUTED)
		fail("the hog could not be started", status);
	if (kill(guard_pid, 0))
		fail("the guard ended", 0);
	totals->hogs++;
	totals->starved += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static void play_round(uint64_t *seed, struct totals *totals)
{
	int report[2];
	uint64_t checks = 0;
	accounts_file = memfd_create("accounts", 0);
	if (ftruncate(accounts_file, PAGE * CHILDREN))
		fail("no file for accounts", errno);
	struct account *accounts = mmap(NULL, PAGE * CHILDREN, PROT_READ | PROT_WRITE, MAP_SHARED, accounts_file, 0);
	if (accounts == MAP_FAILED || mkdir(DIRECTORY, 0755) || chdir(DIRECTORY) || pipe(report))
		fail("no means for a round", errno);
	copy_program();
	enum scarcity scarcity = totals->rounds % 3 == 2 ? NONE : PLENTY;
	pid_t guard_pid = fork();
	if (guard_pid == 0)
		guard(report[1], next(seed), scarcity);
	if (guard_pid < 0)
		fail("no guard", errno);
	next(seed);
	if (scarcity == NONE)
		starve(guard_pid, totals);
	else
		fight(accounts, guard_pid, seed, totals);
	kill(guard_pid, SIGTERM);
	await(guard_pid, "the guard");
	if (read(report[0], &checks, sizeof checks) != sizeof checks || checks == 0)
		fail("the guard checked nothing", 0);
	kill(-1, SIGKILL);
	await(0, "processes that do not end");
	close(report[0]);
	close(report[1]);
	close(accounts_file);
	munmap(accounts, PAGE * CHILDREN);
	if (chdir("/"))
		fail("no root", errno);
	remove_all(DIRECTORY);
	rmdir(DIRECTORY);
	totals->checks += checks;
	totals->rounds++;
}

int main(int argc, char **argv)
{
	uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 0) : 10, seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	struct totals totals = { 0 };
	if (argc == 5 && !strcmp(argv[1], "child"))
		child(atoi(argv[2]), atoi(argv[3]), strtoull(argv[4], NULL, 10));
	if (argc == 5 && !strcmp(argv[1], "hog"))
		hog(strtoull(argv[4], NULL, 10));
	if (getpid() != 1)
		return 2;
	printf("fuzz: %lu seconds from seed %lu\n", (long)seconds, (long)seed);
	fflush(stdout);
	seed = seed * 0x9e3779b97f4a7c15ull | 1;
	uint64_t end = now_ms() + seconds * 1000;
	unsigned long first = 0, last;
	do {
		play_round(&seed, &totals);
		last = free_kib();
		if (totals.rounds <= 3)
			first = last;
		if (last + MISSING_KIB < first)
			break;
	} while (now_ms() < end);
	printf("fuzz: %lu rounds, %lu children, %lu of them killed, %lu calls, %lu faults, %lu checks of the guard\n",
	       (long)totals.rounds, (long)totals.children, (long)totals.killed, (long)totals.calls, (long)totals.faults,
	       (long)totals.checks);
	printf("fuzz: %lu processes tried to take all memory, %lu of them were killed for it\n", (long)totals.hogs, (long)totals.starved);
	if (totals.hogs && !totals.starved)
		fail("memory never ran out", 0);
	printf("fuzz: %lu KiB free after the first rounds, %lu after the last\n", first, last);
	if (last + MISSING_KIB < first)
		fail("memory is missing", 0);
	printf("fuzz: the guard's memory held\n");
	return 0;
}
