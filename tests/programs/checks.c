/* What an ordinary Linux program relies on, checked from inside: memory calls, signals, threads, processes, files.
 *
 * Built statically with any C library; `cargo xtask qemu --test` runs it on the bare-metal machine, and it passes on Linux as well.
 * Each check prints its name before it runs; the first that fails says where and ends with code 1. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "check.h"

/* Faults: the handler notes what it was told and goes back to `resume`. */
static sigjmp_buf resume;
static volatile int seen_signal, seen_code;
static void *volatile seen_addr;
static char *volatile seen_stack;

static void on_fault(int signal, siginfo_t *info, void *context)
{
	char here;
	(void)context;
	seen_signal = signal;
	seen_code = info->si_code;
	seen_addr = info->si_addr;
	seen_stack = &here;
	siglongjmp(resume, 1);
}

static void handle_faults(int flags)
{
	struct sigaction action = { .sa_flags = SA_SIGINFO | flags };
	action.sa_sigaction = on_fault;
	CHECK(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0);
}

#define FAULTS(access, signal, code, addr) do { \
	seen_signal = 0; \
	if (!sigsetjmp(resume, 1)) { access; fail("no fault: " #access, __LINE__); } \
	CHECK(seen_signal == (signal) && seen_code == (code) && seen_addr == (void *)(addr)); \
} while (0)

static void faults(void)
{
	volatile char *page = map(2 * PAGE, MAP_PRIVATE);
	handle_faults(0);
	FAULTS(*(volatile char *)16 = 1, SIGSEGV, SEGV_MAPERR, 16);
	page[5] = 7;
	CHECK(mprotect((void *)page, PAGE, PROT_READ) == 0 && page[5] == 7);
	FAULTS(page[6] = 1, SIGSEGV, SEGV_ACCERR, page + 6);
	CHECK(mprotect((void *)page, PAGE, PROT_NONE) == 0);
	FAULTS((void)page[7], SIGSEGV, SEGV_ACCERR, page + 7);
	CHECK(munmap((void *)page, PAGE) == 0);
	FAULTS((void)page[8], SIGSEGV, SEGV_MAPERR, page + 8);
	page[PAGE] = 1;
	/* Behind the end of a file. */
	int fd = memfd_create("short", 0);
	CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
	volatile char *file = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(file != MAP_FAILED);
	file[0] = 1;
	FAULTS(file[PAGE] = 1, SIGBUS, BUS_ADRERR, file + PAGE);
	close(fd);
}

static void alternate_stack(void)
{
	static char stack[65536];
	stack_t wanted = { .ss_sp = stack, .ss_size = sizeof stack }, found;
	CHECK(sigaltstack(&wanted, NULL) == 0);
	handle_faults(SA_ONSTACK);
	FAULTS(*(volatile char *)32 = 1, SIGSEGV, SEGV_MAPERR, 32);
	CHECK(seen_stack > stack && seen_stack < stack + sizeof stack);
	CHECK(sigaltstack(NULL, &found) == 0 && found.ss_sp == stack && !(found.ss_flags & SS_ONSTACK));
	handle_faults(0);
}

static void memory_calls(void)
{
	char *area = map(64 * PAGE, MAP_PRIVATE), *moved;
	unsigned char resident[64];
	for (int page = 0; page < 64; page += 2)
		area[page * PAGE] = page;
	CHECK(mincore(area, 64 * PAGE, resident) == 0);
	for (int page = 0; page < 64; page++)
		CHECK((resident[page] & 1) == (page % 2 == 0));
	CHECK(madvise(area, 8 * PAGE, MADV_DONTNEED) == 0 && area[2 * PAGE] == 0 && area[10 * PAGE] == 10);
	moved = mremap(area, 64 * PAGE, 256 * PAGE, MREMAP_MAYMOVE);
	CHECK(moved != MAP_FAILED && moved[62 * PAGE] == 62 && moved[255 * PAGE] == 0);
	CHECK(munmap(moved + 8 * PAGE, PAGE) == 0 && moved[10 * PAGE] == 10);
	CHECK(mlock(moved, PAGE) == 0 && munlock(moved, PAGE) == 0 && msync(moved, PAGE, MS_SYNC) == 0);
	errno = 0;
	CHECK(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
	char *heap = (char *)syscall(SYS_brk, 0), *end = heap + 100 * PAGE;
	CHECK((char *)syscall(SYS_brk, end) == end);
	memset(heap, 3, 100 * PAGE);
	CHECK((char *)syscall(SYS_brk, heap) == heap);
	char *large = malloc(8 << 20);
	CHECK(large);
	memset(large, 9, 8 << 20);
	free(large);
}

/* A child writes to what it shares and to what it has copied. */
static void copy_on_write(void)
{
	char *private = map(16 * PAGE, MAP_PRIVATE);
	char *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	CHECK(shared != MAP_FAILED);
	memset(private, 1, 16 * PAGE);
	pid_t child = fork();
	if (child == 0) {
		for (int page = 0; page < 16; page++) {
			if (private[page * PAGE] != 1)
				_exit(2);
			private[page * PAGE] = 2;
		}
		shared[0] = 42;
		_exit(7);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
	CHECK(shared[0] == 42);
	for (int page = 0; page < 16; page++)
		CHECK(private[page * PAGE] == 1);
}

static void pipes(void)
{
	int there[2], back[2];
	static char block[200000];
	CHECK(pipe(there) == 0 && pipe(back) == 0);
	if (fork() == 0) {
		unsigned sum = 0;
		char byte;
		close(there[1]);
		while (read(there[0], &byte, 1) == 1)
			sum += byte;
		CHECK(write(back[1], &sum, sizeof sum) == sizeof sum);
		_exit(0);
	}
	close(there[0]);
	memset(block, 3, sizeof block);
	/* More than a pipe holds: waits in between, and comes back whole. */
	CHECK(write(there[1], block, sizeof block) == sizeof block);
	close(there[1]);
	unsigned sum;
	struct pollfd wait = { .fd = back[0], .events = POLLIN };
	CHECK(poll(&wait, 1, 10000) == 1 && (wait.revents & POLLIN));
	CHECK(read(back[0], &sum, sizeof sum) == sizeof sum && sum == 3 * sizeof block);
	CHECK(wait4(-1, NULL, 0, NULL) > 0);
	CHECK(poll(&wait, 1, 10) == 0);
	signal(SIGPIPE, SIG_IGN);
	close(back[0]);
	CHECK(write(back[1], &sum, 1) == -1 && errno == EPIPE);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long counter;
static int turn;
static __thread int own;

static void *count(void *number)
{
	own = (int)(intptr_t)number;
	for (int i = 0; i < 20000; i++) {
		pthread_mutex_lock(&mutex);
		counter++;
		pthread_mutex_unlock(&mutex);
	}
	char *touched = map(64 * PAGE, MAP_PRIVATE);
	for (int page = 0; page < 64; page++)
		touched[page * PAGE] = own;
	munmap(touched, 64 * PAGE);
	return (void *)(intptr_t)own;
}

static void *take_turns(void *number)
{
	for (int i = 0; i < 200; i++) {
		pthread_mutex_lock(&mutex);
		while (turn != (int)(intptr_t)number)
			pthread_cond_wait(&changed, &mutex);
		turn = !turn;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&mutex);
	}
	return NULL;
}

static void threads(void)
{
	pthread_t thread[4];
	void *result;
	for (intptr_t i = 0; i < 4; i++)
		CHECK(pthread_create(&thread[i], NULL, count, (void *)(i + 1)) == 0);
	for (intptr_t i = 0; i < 4; i++)
		CHECK(pthread_join(thread[i], &result) == 0 && (intptr_t)result == i + 1);
	CHECK(counter == 80000 && own == 0);
	for (intptr_t i = 0; i < 2; i++)
		CHECK(pthread_create(&thread[i], NULL, take_turns, (void *)i) == 0);
	for (int i = 0; i < 2; i++)
		CHECK(pthread_join(thread[i], NULL) == 0);
}

static volatile sig_atomic_t got_child, got_alarm;

static void on_child(int signal)
{
	(void)signal;
	got_child++;
}

static void signals(void)
{
	struct sigaction action = { .sa_handler = on_child, .sa_flags = SA_RESTART };
	sigset_t set, old, pending;
	int status;
	CHECK(sigaction(SIGCHLD, &action, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	CHECK(sigprocmask(SIG_BLOCK, &set, &old) == 0 && raise(SIGUSR1) == 0 && got_child == 0);
	CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1));
	sigsuspend(&old);
	CHECK(got_child == 1);
	CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
	double before = 1.5, product = before;
	pid_t child = fork();
	if (child == 0) {
		for (int i = 0; i < 1000000; i++)
			product = product * 1.0000001;
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(got_child == 2 && product == 1.5);
	child = fork();
	if (child == 0)
		for (;;)
			pause();
	CHECK(kill(child, SIGTERM) == 0 && waitpid(child, &status, 0) == child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	child = fork();
	if (child == 0)
		for (;;)
			;
	CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGKILL);
	signal(SIGCHLD, SIG_DFL);
}

static void files(void)
{
	char buffer[100] = { 0 };
	struct stat stat_before, stat_after;
	CHECK(mkdir("/tmp/d", 0755) == 0 && chdir("/tmp/d") == 0);
	int fd = open("f", O_RDWR | O_CREAT | O_EXCL, 0640);
	CHECK(fd >= 0 && write(fd, "0123456789", 10) == 10 && pwrite(fd, "x", 1, 5000) == 1);
	CHECK(fstat(fd, &stat_before) == 0 && stat_before.st_size == 5001 && (stat_before.st_mode & 0777) == 0640);
	char *mapped = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(mapped != MAP_FAILED && !memcmp(mapped, "0123456789", 10) && mapped[5000] == 'x' && mapped[4999] == 0);
	mapped[1] = '!';
	CHECK(pread(fd, buffer, 3, 0) == 3 && !memcmp(buffer, "0!2", 3));
	char *own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	own[0] = 'p';
	CHECK(pread(fd, buffer, 1, 0) == 1 && buffer[0] == '0');
	CHECK(rename("f", "g") == 0 && stat("f", &stat_after) == -1 && errno == ENOENT);
	CHECK(symlink("g", "l") == 0 && stat("l", &stat_after) == 0 && stat_after.st_ino == stat_before.st_ino);
	CHECK(unlink("g") == 0 && unlink("l") == 0 && chdir("/") == 0 && rmdir("/tmp/d") == 0);
	CHECK(ftruncate(fd, 3) == 0 && lseek(fd, 0, SEEK_END) == 3 && mapped[2] == '2');
	close(fd);
	munmap(mapped, 2 * PAGE);
	fd = open("/proc/self/maps", O_RDONLY);
	CHECK(fd >= 0 && read(fd, buffer, 99) > 0);
	close(fd);
	FILE *status = fopen("/proc/self/status", "r");
	long resident = 0;
	while (fgets(buffer, sizeof buffer, status))
		sscanf(buffer, "VmRSS: %ld", &resident);
	CHECK(resident > 10);
	fclose(status);
}

/* Every call that takes an address refuses a bad one. */
static void bad_addresses(void)
{
	char *bad[] = { (char *)8, (char *)-8, (char *)0x7ffffffff000, map(PAGE, MAP_PRIVATE) };
	munmap(bad[3], PAGE);
	int ends[2];
	CHECK(pipe(ends) == 0 && write(ends[1], "12345", 5) == 5);
	for (int i = 0; i < 4; i++) {
		char *at = bad[i];
		CHECK(syscall(SYS_read, ends[0], at, 5) == -1 && errno == EFAULT);
		CHECK(syscall(SYS_write, ends[1], at, 5) == -1 && errno == EFAULT);
		CHECK(syscall(SYS_open, at, 0) == -1 && errno == EFAULT);
		CHECK(syscall(SYS_pipe, at) == -1 && errno == EFAULT);
		CHECK(syscall(SYS_uname, at) == -1 && errno == EFAULT);
		CHECK(syscall(SYS_clock_gettime, 1, at) == -1 && errno == EFAULT);
		CHECK(syscall(SYS_rt_sigaction, SIGUSR2, at, NULL, 8) == -1 && errno == EFAULT);
		CHECK(syscall(SYS_nanosleep, at, NULL) == -1 && errno == EFAULT);
		CHECK(syscall(SYS_execve, at, NULL, NULL) == -1 && errno == EFAULT);
	}
}

/* A program that goes on where no code can be gets a signal, however it says so. */
static void on_signal_elsewhere(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = (greg_t)0x8000000000000000ull;
}

static void wild_jumps(void)
{
	int status;
	for (int kind = 0; kind < 3; kind++) {
		pid_t child = fork();
		if (child == 0) {
			struct sigaction action = { .sa_flags = SA_SIGINFO };
			signal(SIGSEGV, SIG_DFL);
			action.sa_sigaction = kind == 0 ? on_signal_elsewhere : (void *)0x8000000000000000ull;
			if (kind == 2)
				((void (*)(void))0x7ffffffff000)();
			sigaction(SIGUSR1, &action, NULL);
			raise(SIGUSR1);
			_exit(1);
		}
		CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	}
	/* Bases of fs and gs that the processor would refuse. */
	CHECK(syscall(SYS_arch_prctl, 0x1001, 0x8000000000000000ull) == -1 && errno == EPERM);
	CHECK(syscall(SYS_clone, 0x80000 | SIGCHLD, 0, 0, 0, 0x8000000000000000ull) == -1 && errno == EPERM);
}

static void time_passes(void)
{
	struct timespec before, after, wait = { .tv_nsec = 20000000 };
	CHECK(clock_gettime(CLOCK_MONOTONIC, &before) == 0 && nanosleep(&wait, NULL) == 0);
	CHECK(clock_gettime(CLOCK_MONOTONIC, &after) == 0);
	long long passed = (after.tv_sec - before.tv_sec) * 1000000000ll + after.tv_nsec - before.tv_nsec;
	CHECK(passed >= 20000000);
}

/* vfork and exec of this program, which is told to end with a code. */
static void execute(void)
{
	int status;
	char *arguments[] = { "checks", "end-with", "9", NULL };
	pid_t child = vfork();
	if (child == 0) {
		execv("/proc/self/exe", arguments);
		_exit(1);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 9);
}

static char *map_file(int fd, size_t pages, int prot, int flags)
{
	char *start = mmap(NULL, pages * PAGE, prot, flags, fd, 0);
	CHECK(start != MAP_FAILED);
	return start;
}

/* Runs a check in a child; true if it returned true there. */
static int in_child(int (*check)(void *), void *argument)
{
	int status;
	pid_t child = fork();
	if (child == 0)
		_exit(check(argument) ? 0 : 1);
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
	return WEXITSTATUS(status) == 0;
}

static int reads_zero(void *page)
{
	return *(volatile char *)page == 0;
}

static int is_not_mapped(void *page)
{
	unsigned char resident;
	return mincore(page, PAGE, &resident) == -1 && errno == ENOMEM;
}

static void advice(void)
{
	char *area = map(16 * PAGE, MAP_PRIVATE);
	unsigned char resident[16];
	CHECK(madvise(area, 4 * PAGE, 23) == 0 && mincore(area, 16 * PAGE, resident) == 0);
	CHECK((resident[3] & 1) && !(resident[4] & 1));
	memset(area, 7, 4 * PAGE);
	CHECK(madvise(area, PAGE, MADV_COLD) == 0 && madvise(area, PAGE, MADV_PAGEOUT) == 0 && area[5] == 7);
	CHECK(madvise(area, PAGE, MADV_FREE) == 0 && (area[0] == 7 || area[0] == 0));
	CHECK(madvise(area + PAGE, PAGE, MADV_WIPEONFORK) == 0 && madvise(area + 2 * PAGE, PAGE, MADV_DONTFORK) == 0);
	CHECK(in_child(reads_zero, area + PAGE) && in_child(is_not_mapped, area + 2 * PAGE) && area[2 * PAGE] == 7);
	CHECK(madvise(area + PAGE, PAGE, MADV_KEEPONFORK) == 0 && !in_child(reads_zero, area + PAGE));
	CHECK(madvise(area, PAGE, 77) == -1 && errno == EINVAL);
	/* Advice of a process on itself, by a descriptor. */
	int self = syscall(434, getpid(), 0);
	struct iovec parts[] = { { area, PAGE }, { area + 3 * PAGE, 2 * PAGE } };
	CHECK(self >= 0 && syscall(440, self, parts, 2ul, MADV_COLD, 0) == 3 * (long)PAGE);
	CHECK(syscall(440, self, parts, 2ul, MADV_COLD, 1) == -1 && errno == EINVAL);
	CHECK(syscall(440, 0, parts, 2ul, MADV_COLD, 0) == -1 && errno == EBADF);
	close(self);
}

static void mappings_of_files(void)
{
	int fd = memfd_create("pages", 0);
	CHECK(fd >= 0 && ftruncate(fd, 4 * PAGE) == 0);
	char *pages = map_file(fd, 4, PROT_READ | PROT_WRITE, MAP_SHARED);
	for (int page = 0; page < 4; page++)
		pages[page * PAGE] = 'a' + page;
	CHECK(syscall(SYS_remap_file_pages, pages, PAGE, 0, 2ul, 0) == 0 && pages[0] == 'c' && pages[PAGE] == 'b');
	CHECK(syscall(SYS_remap_file_pages, pages, PAGE, PROT_READ, 2ul, 0) == -1 && errno == EINVAL);
	close(fd);
	/* A file that was opened for reading is never written through a shared mapping, through a private one as one likes. */
	fd = open("/tmp/read-only", O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0 && write(fd, "text", 4) == 4 && close(fd) == 0);
	fd = open("/tmp/read-only", O_RDONLY);
	CHECK(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EACCES);
	char *shared = map_file(fd, 1, PROT_READ, MAP_SHARED), *private = map_file(fd, 1, PROT_READ, MAP_PRIVATE);
	CHECK(mprotect(shared, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES && shared[1] == 'e');
	CHECK(mprotect(private, PAGE, PROT_READ | PROT_WRITE) == 0);
	private[0] = 'T';
	CHECK(shared[0] == 't' && unlink("/tmp/read-only") == 0);
	close(fd);
	/* Protection keys, where the processor has them, and the key -1 everywhere. */
	int key = syscall(330, 0ul, 0ul);
	CHECK(key >= 0 || errno == EINVAL || errno == ENOSPC);
	CHECK(syscall(329, private, PAGE, PROT_READ, -1) == 0 && syscall(329, private, PAGE, PROT_READ, 14) == -1 && errno == EINVAL);
	CHECK(key < 0 || syscall(331, key) == 0);
	CHECK(syscall(331, 14) == -1 && errno == EINVAL);
}

static void memfds(void)
{
	char byte;
	int fd = memfd_create("sealed", MFD_ALLOW_SEALING), plain = memfd_create("plain", 0);
	CHECK(fd >= 0 && fcntl(fd, F_GET_SEALS) == 0 && fcntl(plain, F_GET_SEALS) == F_SEAL_SEAL);
	CHECK(fcntl(plain, F_ADD_SEALS, F_SEAL_GROW) == -1 && errno == EPERM);
	CHECK(ftruncate(fd, 3 * PAGE) == 0 && pwrite(fd, "xyz", 3, PAGE) == 3);
	/* A hole, pages within the file, and pages behind its end. */
	struct stat facts;
	CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, PAGE) == 0);
	CHECK(pread(fd, &byte, 1, PAGE) == 1 && byte == 0 && fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, PAGE) == 0);
	CHECK(fstat(fd, &facts) == 0 && facts.st_size == 3 * (off_t)PAGE && fallocate(fd, 0, 0, 4 * PAGE) == 0);
	CHECK(fstat(fd, &facts) == 0 && facts.st_size == 4 * (off_t)PAGE);
	CHECK(fallocate(fd, 0, 0, 0) == -1 && errno == EINVAL && fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 1) == -1 && errno == EOPNOTSUPP);
	struct { uint32_t mask, blksize; uint64_t attributes; uint32_t nlink, uid, gid; uint16_t mode, spare; uint64_t ino, size; uint64_t rest[25]; } more;
	CHECK(syscall(SYS_statx, fd, "", 0x1000, 0x7ff, &more) == 0 && more.size == 4 * PAGE && more.ino == facts.st_ino);
	CHECK(more.mode == facts.st_mode && (more.mask & 0x7ff) == 0x7ff && more.nlink == facts.st_nlink);
	CHECK(syscall(SYS_statx, fd, "", 1, 0x7ff, &more) == -1 && errno == EINVAL);
	/* What is sealed stays. */
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	CHECK(ftruncate(fd, PAGE) == -1 && errno == EPERM && ftruncate(fd, 5 * PAGE) == -1 && errno == EPERM);
	char *shared = map_file(fd, 3, PROT_READ | PROT_WRITE, MAP_SHARED);
	CHECK(munmap(shared + PAGE, PAGE) == 0 && in_child(reads_zero, shared) && munmap(shared, PAGE) == 0);
	CHECK(mprotect(shared + 2 * PAGE, PAGE, PROT_READ) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == -1 && errno == EBUSY);
	CHECK(munmap(shared, 3 * PAGE) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) == 0);
	CHECK(write(fd, "x", 1) == -1 && errno == EPERM && fcntl(fd, F_ADD_SEALS, 32) == -1 && errno == EPERM);
	CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
	CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE) == -1 && errno == EPERM);
	close(fd);
	close(plain);
}

static void waiting_for_children(void)
{
	uint64_t arguments[8] = { [4] = SIGCHLD };
	siginfo_t info;
	pid_t child = syscall(435, arguments, sizeof arguments);
	if (child == 0)
		for (;;)
			pause();
	CHECK(child > 0);
	int pidfd = syscall(434, child, 0);
	struct pollfd end = { .fd = pidfd, .events = POLLIN };
	memset(&info, 1, sizeof info);
	CHECK(waitid(P_PID, child, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0 && poll(&end, 1, 0) == 0);
	CHECK(kill(child, SIGTERM) == 0 && poll(&end, 1, 10000) == 1);
	CHECK(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) == 0 && info.si_pid == child && info.si_code == CLD_KILLED);
	CHECK(waitid(3, pidfd, &info, WEXITED) == 0 && info.si_pid == child && info.si_status == SIGTERM);
	CHECK(waitid(P_PID, child, &info, WEXITED) == -1 && errno == ECHILD && waitid(P_ALL, 0, &info, 0) == -1 && errno == EINVAL);
	arguments[5] = 16;
	CHECK(syscall(435, arguments, sizeof arguments) == -1 && errno == EINVAL && syscall(435, arguments, 8ul) == -1 && errno == EINVAL);
	close(pidfd);
	/* Barriers. */
	CHECK((syscall(SYS_membarrier, 0, 0) & 0x19) == 0x19 && syscall(SYS_membarrier, 1, 0) == 0);
	CHECK(syscall(SYS_membarrier, 16, 0) == 0 && syscall(SYS_membarrier, 8, 0) == 0);
	CHECK(syscall(SYS_membarrier, 1 << 20, 0) == -1 && errno == EINVAL);
}

/* A child waits at a word that it sees at another address than its parent, who wakes it. */
static void words_between_processes(void)
{
	int fd = memfd_create("words", 0), status;
	CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
	int *here = (int *)map_file(fd, 1, PROT_READ | PROT_WRITE, MAP_SHARED);
	int *there = (int *)map_file(fd, 1, PROT_READ | PROT_WRITE, MAP_SHARED);
	pid_t child = fork();
	if (child == 0) {
		while (__atomic_load_n(there + 3, __ATOMIC_SEQ_CST) == 0)
			syscall(SYS_futex, there + 3, 0, 0, NULL, NULL, 0);
		_exit(5);
	}
	/* Not through the name of a private word. */
	usleep(20000);
	CHECK(syscall(SYS_futex, here + 3, 1 | 128, 1, NULL, NULL, 0) == 0);
	long woken = 0;
	for (int i = 0; i < 1000 && woken == 0; i++) {
		usleep(1000);
		woken = syscall(SYS_futex, here + 3, 1, 1, NULL, NULL, 0);
	}
	CHECK(woken == 1);
	__atomic_store_n(here + 3, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, here + 3, 1, 1, NULL, NULL, 0);
	CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5);
	close(fd);
}

static void own_memory_in_proc(void)
{
	char *area = map(512 * PAGE, MAP_PRIVATE);
	uint64_t entries[2];
	/* Refused where there are no large pages. */
	madvise(area, 512 * PAGE, MADV_NOHUGEPAGE);
	memset(area, 1, 256 * PAGE);
	long size = number_behind("/proc/self/status", "VmSize:"), peak = number_behind("/proc/self/status", "VmPeak:");
	CHECK(size > 2048 && peak >= size && number_behind("/proc/self/status", "VmRSS:") >= 1024);
	CHECK(number_behind("/proc/self/status", "VmHWM:") >= 1024 && number_behind("/proc/self/status", "RssAnon:") >= 1024);
	CHECK(number_behind("/proc/self/status", "VmPTE:") > 0 && number_behind("/proc/self/status", "VmExe:") > 0);
	CHECK(number_behind("/proc/self/statm", "") * 4 >= 2048);
	CHECK(number_behind("/proc/self/smaps_rollup", "Rss:") >= 1024 && number_behind("/proc/self/smaps_rollup", "Pss_Anon:") >= 1024);
	CHECK(number_behind("/proc/self/smaps", "KernelPageSize:") == 4 && number_behind("/proc/self/maps", "[stack]") == 0);
	int fd = open("/proc/self/pagemap", O_RDONLY);
	CHECK(fd >= 0 && pread(fd, entries, 16, ((uintptr_t)area / PAGE + 255) * 8) == 16);
	CHECK(entries[0] >> 63 == 1 && entries[1] >> 63 == 0);
	close(fd);
	munmap(area, 512 * PAGE);
}

int main(int argc, char **argv)
{
	static const struct check checks[] = {
		{ "faults", faults }, { "alternate stack", alternate_stack }, { "memory calls", memory_calls },
		{ "copy on write", copy_on_write }, { "pipes", pipes }, { "threads", threads }, { "signals", signals },
		{ "files", files }, { "bad addresses", bad_addresses }, { "wild jumps", wild_jumps },
		{ "time", time_passes }, { "advice", advice }, { "mappings of files", mappings_of_files }, { "memfds", memfds },
		{ "waiting for children", waiting_for_children }, { "words between processes", words_between_processes },
		{ "own memory in /proc", own_memory_in_proc }, { "execute", execute },
	};
	if (argc == 3 && !strcmp(argv[1], "end-with"))
		return atoi(argv[2]);
	RUN_ALL(checks);
	printf("all checks passed\n");
	return 0;
}
