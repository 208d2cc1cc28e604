/* A hostile process: random system calls, accesses and instructions, on several threads and with children of its own. */
#pragma once
#include "common.h"

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
	"/proc/self/fd/3", "/proc/self/exe", "/proc/self/status", "/proc/self/fd/1", "d/../b", "/proc/meminfo", PROGRAM,
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
