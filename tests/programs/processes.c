/* What one process sees of another and does to it: its memory, its files of /proc, its end.
 *
 * Built statically with any C library; `cargo xtask qemu --test` runs it on the bare-metal machine, and as root it passes on Linux as well. Each check prints its name
 * before it runs; the first that fails says where and ends with code 1. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define PAGES 64
#define COLD 20

/* Pages that both sides see: what they tell each other. */
static volatile int *shared;

static void wait_for(int value)
{
	while (*shared != value)
		sched_yield();
}

static void end(pid_t child)
{
	int status;
	CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
}

static void bytes_of_another(void)
{
	volatile char *start = map(PAGES * PAGE, MAP_PRIVATE);
	static char copy[3 * PAGE];
	*shared = 0;
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		for (int page = 0; page < PAGES; page++)
			start[page * PAGE + 5] = page;
		*shared = 1;
		wait_for(2);
		_exit(start[9 * PAGE - 1] == 'a' && start[9 * PAGE] == 'b' ? 7 : 1);
	}
	wait_for(1);
	struct iovec own[] = { { copy, 100 }, { copy + 100, 3 * PAGE - 100 } };
	struct iovec other[] = { { (void *)(start + 7 * PAGE), 2 * PAGE }, { NULL, 0 }, { (void *)(start + 20 * PAGE), PAGE } };
	CHECK(process_vm_readv(child, own, 2, other, 3, 0) == 3 * PAGE);
	CHECK(copy[5] == 7 && copy[PAGE + 5] == 8 && copy[2 * PAGE + 5] == 20 && start[7 * PAGE + 5] == 0);
	struct iovec text = { "ab", 2 }, place = { (void *)(start + 9 * PAGE - 1), 2 };
	CHECK(process_vm_writev(child, &text, 1, &place, 1, 0) == 2 && start[9 * PAGE] == 0);
	place.iov_base = (void *)bytes_of_another;
	CHECK(process_vm_writev(child, &text, 1, &place, 1, 0) == -1 && errno == EFAULT);
	CHECK(process_vm_readv(child, &text, 1, &place, 1, 1) == -1 && errno == EINVAL);
	*shared = 2;
	int status;
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
	CHECK(process_vm_readv(child, own, 1, other, 1, 0) == -1 && errno == ESRCH);
	CHECK(munmap((void *)start, PAGES * PAGE) == 0);
}

/* By force: a debugger writes to what nobody may write to; then it is the process's own, and still read-only. */
static void memory_by_force(void)
{
	char *own = map(2 * PAGE, MAP_PRIVATE), *others = map(PAGE, MAP_SHARED), got[6];
	int fd = open("/proc/self/mem", O_RDWR), status;
	const char *code = (const char *)(uintptr_t)end;
	CHECK(fd >= 0 && pread(fd, got, 6, (uintptr_t)code) == 6 && !memcmp(got, code, 6) && pwrite(fd, got, 6, (uintptr_t)code) == 6);
	memcpy(own, "before", 6);
	CHECK(mprotect(own, PAGE, PROT_READ) == 0 && mprotect(own + PAGE, PAGE, PROT_NONE) == 0 && mprotect(others, PAGE, PROT_READ) == 0);
	CHECK(pwrite(fd, "forced", 6, (uintptr_t)own) == 6 && !memcmp(own, "forced", 6));
	CHECK(pwrite(fd, "hidden", 6, (uintptr_t)own + PAGE) == 6 && pread(fd, got, 6, (uintptr_t)own + PAGE) == 6 && !memcmp(got, "hidden", 6));
	CHECK(pwrite(fd, "forced", 6, (uintptr_t)others) == -1 && errno == EIO && others[0] == 0);
	struct iovec from = { got, 6 }, to = { own, 6 }, hidden = { own + PAGE, 6 };
	CHECK(process_vm_writev(getpid(), &from, 1, &to, 1, 0) == -1 && errno == EFAULT);
	CHECK(process_vm_readv(getpid(), &from, 1, &hidden, 1, 0) == -1 && errno == EFAULT);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		*(volatile char *)own = 'x';
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	CHECK(close(fd) == 0 && munmap(own, 2 * PAGE) == 0 && munmap(others, PAGE) == 0);
}

static void advice_to_another(void)
{
	volatile char *start = map(PAGES * PAGE, MAP_PRIVATE);
	memset((void *)start, 3, PAGES * PAGE);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0)
		for (;;)
			pause();
	CHECK(munmap((void *)start, PAGES * PAGE) == 0);
	int pidfd = syscall(SYS_pidfd_open, child, 0);
	struct iovec parts[] = { { (void *)start, 4 * PAGE }, { (void *)(start + 8 * PAGE), PAGE }, { (void *)PAGE, PAGE } };
	CHECK(pidfd >= 0);
	CHECK(syscall(SYS_process_madvise, pidfd, parts, 3, COLD, 0) == 5 * PAGE);
	CHECK(syscall(SYS_process_madvise, pidfd, parts + 2, 1, COLD, 0) == -1 && errno == ENOMEM);
	CHECK(syscall(SYS_process_madvise, pidfd, parts, 1, MADV_DONTNEED, 0) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_process_madvise, pidfd, parts, 1, COLD, 1) == -1 && errno == EINVAL);
	end(child);
	CHECK(syscall(SYS_process_madvise, pidfd, parts, 1, COLD, 0) == -1 && errno == ESRCH);
	close(pidfd);
}

/* Reads a file of a process from its start, as a string; returns its length, or -1. */
static char text[65536];

static long slurp(pid_t pid, const char *name)
{
	char path[64];
	long length = 0, count;
	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return -1;
	while ((count = read(fd, text + length, sizeof text - 1 - length)) > 0)
		length += count;
	int error = errno;
	close(fd);
	errno = error;
	text[length] = 0;
	return count < 0 ? -1 : length;
}

static int is_listed(pid_t pid)
{
	char name[16];
	int found = 0;
	snprintf(name, sizeof name, "%d", pid);
	int fd = open("/proc", O_RDONLY | O_DIRECTORY);
	CHECK(fd >= 0);
	for (;;) {
		long count = syscall(SYS_getdents64, fd, text, 4096);
		CHECK(count >= 0);
		if (count == 0)
			break;
		for (long at = 0; at < count; at += *(unsigned short *)(text + at + 16))
			found |= strcmp(text + at + 19, name) == 0;
	}
	close(fd);
	return found;
}

/* Files of a process that writes to its memory all the time, then of its remains. */
static void files_of_another(void)
{
	static const char *const empty[] = { "maps", "smaps", "numa_maps", "cmdline" };
	volatile char *start = map(PAGES * PAGE, MAP_PRIVATE);
	char line[64], path[64];
	*shared = 0;
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		*shared = 1;
		for (unsigned i = 0; ; i++)
			start[i % PAGES * PAGE + 1] = i;
	}
	wait_for(1);
	for (int round = 0; round < 20; round++) {
		snprintf(line, sizeof line, "%lx-", (unsigned long)start);
		CHECK(slurp(child, "maps") > 0 && strstr(text, line));
		CHECK(slurp(child, "smaps") > 0 && strstr(text, line) && slurp(child, "smaps_rollup") > 0);
		CHECK(slurp(child, "status") > 0 && strstr(text, "State:\tR (running)") && strstr(text, "VmRSS:"));
		snprintf(line, sizeof line, "%lx default", (unsigned long)start);
		CHECK(slurp(child, "numa_maps") > 0 && strstr(text, line));
		sched_yield();
	}
	CHECK(slurp(child, "cmdline") > 0 && slurp(child, "limits") > 0 && slurp(child, "auxv") > 0 && is_listed(child));
	snprintf(path, sizeof path, "/proc/%d/mem", child);
	int mem = open(path, O_RDWR);
	CHECK(mem >= 0 && pwrite(mem, "told", 4, (uintptr_t)start + 64) == 4);
	CHECK(pread(mem, line, 4, (uintptr_t)start + 64) == 4 && !memcmp(line, "told", 4) && start[64] == 0);
	CHECK(pread(mem, line, 4, PAGE) == -1 && errno == EIO);
	snprintf(path, sizeof path, "/proc/%d/pagemap", child);
	int pagemap = open(path, O_RDONLY);
	static uint64_t entries[PAGES];
	CHECK(pread(pagemap, entries, sizeof entries, (uintptr_t)start / PAGE * 8) == sizeof entries && entries[0] >> 63);
	siginfo_t info;
	CHECK(kill(child, SIGKILL) == 0 && waitid(P_PID, child, &info, WEXITED | WNOWAIT) == 0);
	for (size_t i = 0; i < sizeof empty / sizeof *empty; i++)
		CHECK(slurp(child, empty[i]) == 0);
	CHECK(slurp(child, "status") > 0 && strstr(text, "Z (zombie)") && !strstr(text, "VmRSS:") && is_listed(child));
	CHECK(slurp(child, "statm") > 0 && !strcmp(text, "0 0 0 0 0 0 0\n"));
	CHECK(pread(mem, line, 4, (uintptr_t)start) == 0 && pread(pagemap, entries, 8, 0) == 0);
	CHECK(waitpid(child, NULL, 0) == child && slurp(child, "maps") == -1 && errno == ENOENT && !is_listed(child));
	CHECK(pread(mem, line, 4, (uintptr_t)start) == 0 && close(mem) == 0 && close(pagemap) == 0);
	CHECK(munmap((void *)start, PAGES * PAGE) == 0);
}

static volatile sig_atomic_t got, got_value, got_code;

static void note(int number, siginfo_t *info, void *context)
{
	(void)context;
	got = number;
	got_value = info->si_value.sival_int;
	got_code = info->si_code;
}

static long clone3(uint64_t arguments[11], size_t size)
{
	return syscall(435, arguments, size);
}

static void chosen_numbers_and_descriptors(void)
{
	struct sigaction action = { .sa_sigaction = note, .sa_flags = SA_SIGINFO }, before;
	int pidfd = -1, chosen = 31000, status, taken = getpid();
	siginfo_t info;
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	/* CLONE_PIDFD and CLONE_CLEAR_SIGHAND, with a number and SIGCHLD at the end. */
	uint64_t arguments[11] = { 0x1000 | 0x100000000, (uintptr_t)&pidfd, 0, 0, SIGCHLD, 0, 0, 0, (uintptr_t)&chosen, 1, 0 };
	pid_t child = clone3(arguments, 88);
	if (child == 0) {
		/* Handlers are gone; the descriptor is the parent's alone. */
		int fine = sigaction(SIGUSR1, NULL, &before) == 0 && before.sa_handler == SIG_DFL && fcntl(pidfd, F_GETFD) == -1;
		_exit(fine && getpid() == 31000 ? 5 : 1);
	}
	CHECK(child == 31000 && fcntl(pidfd, F_GETFD) == FD_CLOEXEC);
	struct pollfd end_of_child = { .fd = pidfd, .events = POLLIN };
	CHECK(poll(&end_of_child, 1, 10000) == 1 && end_of_child.revents == POLLIN);
	CHECK(waitid(3, pidfd, &info, WEXITED) == 0 && info.si_pid == child && info.si_status == 5);
	CHECK(poll(&end_of_child, 1, 0) == 1 && end_of_child.revents == (POLLIN | POLLHUP));
	CHECK(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == -1 && errno == ESRCH);
	CHECK(close(pidfd) == 0);
	arguments[8] = (uintptr_t)&taken;
	CHECK(clone3(arguments, 88) == -1 && errno == EEXIST);
	CHECK(fcntl(pidfd, F_GETFD) == -1);
	arguments[9] = 2;
	CHECK(clone3(arguments, 88) == -1 && errno == EINVAL);
	uint64_t nowhere[11] = { 0x1000, 8, 0, 0, SIGCHLD };
	CHECK(clone3(nowhere, 64) == -1 && errno == EFAULT && waitpid(-1, &status, 0) == -1 && errno == ECHILD);
	/* clone puts the descriptor where the parent's number would go. */
	child = syscall(SYS_clone, 0x1000 | SIGCHLD, 0, &pidfd, 0, 0);
	if (child == 0)
		for (;;)
			pause();
	CHECK(child > 0 && syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0);
	memset(&info, 0, sizeof info);
	info.si_signo = SIGTERM;
	CHECK(syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, &info, 0) == -1 && errno == EPERM);
	CHECK(syscall(SYS_pidfd_send_signal, pidfd, SIGUSR2, &info, 0) == -1 && errno == EINVAL);
	info.si_code = SI_QUEUE;
	CHECK(syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, &info, 0) == 0);
	CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM && close(pidfd) == 0);
	pidfd = syscall(SYS_pidfd_open, getpid(), 0);
	info.si_signo = SIGUSR1;
	info.si_value.sival_int = 77;
	CHECK(syscall(SYS_pidfd_send_signal, pidfd, SIGUSR1, &info, 0) == 0);
	CHECK(got == SIGUSR1 && got_value == 77 && got_code == SI_QUEUE && close(pidfd) == 0);
}

/* Executes a file in a child; returns its exit code, or 100 and the error. */
static int run(const char *path)
{
	int status;
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		execl(path, path, "ends", (char *)NULL);
		_exit(100 + errno);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void busy_programs(void)
{
	const char *copy = "/tmp/copy-of-processes";
	long count;
	CHECK(open("/proc/self/exe", O_WRONLY) == -1 && errno == ETXTBSY);
	CHECK(open("/proc/self/exe", O_RDONLY | O_TRUNC) == -1 && errno == ETXTBSY);
	CHECK(truncate("/proc/self/exe", 0) == -1 && errno == ETXTBSY);
	int from = open("/proc/self/exe", O_RDONLY), to = open(copy, O_RDWR | O_CREAT | O_TRUNC, 0755);
	CHECK(from >= 0 && to >= 0);
	while ((count = read(from, text, sizeof text)) > 0)
		CHECK(write(to, text, count) == count);
	CHECK(count == 0 && close(from) == 0 && run(copy) == 100 + ETXTBSY);
	CHECK(close(to) == 0 && run(copy) == 9);
	to = open(copy, O_WRONLY);
	CHECK(to >= 0 && close(to) == 0 && unlink(copy) == 0);
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "ends"))
		return 9;
	static const struct check checks[] = {
		{ "bytes of another process", bytes_of_another }, { "memory by force", memory_by_force }, { "advice to another process", advice_to_another },
		{ "files of another process", files_of_another }, { "chosen numbers and descriptors", chosen_numbers_and_descriptors },
		{ "busy programs", busy_programs },
	};
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(shared != MAP_FAILED);
	RUN_ALL(checks);
	printf("all that others see is right\n");
	return 0;
}
