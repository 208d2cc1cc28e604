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
#include "fuzz/child.h"
#include "fuzz/guard.h"
#include "fuzz/hog.h"

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
	unsigned long first = 0, last, files_first = 0, files_last;
	do {
		play_round(&seed, &totals);
		last = free_kib();
		files_last = sum_of("/proc/meminfo", "Cached:");
		if (totals.rounds <= 3) {
			first = last;
			files_first = files_last;
		}
		if (last + MISSING_KIB < first)
			break;
	} while (now_ms() < end);
	printf("fuzz: %lu rounds, %lu children, %lu of them killed, %lu calls, %lu faults, %lu checks of the guard\n",
	       (long)totals.rounds, (long)totals.children, (long)totals.killed, (long)totals.calls, (long)totals.faults,
	       (long)totals.checks);
	printf("fuzz: %lu processes tried to take all memory, %lu of them were killed for it\n", (long)totals.hogs, (long)totals.starved);
	if (totals.hogs && !totals.starved)
		fail("memory never ran out", 0);
	printf("fuzz: %lu KiB free after the first rounds, %lu after the last; files had %lu and have %lu\n", first, last,
	       files_first, files_last);
	if (last + MISSING_KIB < first)
		fail("memory is missing", 0);
	printf("fuzz: the guard's memory held\n");
	return 0;
}
