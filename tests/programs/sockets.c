/* Pairs of sockets between parent and child: bytes in a row, messages, ends.
 *
 * Built statically with any C library; `cargo xtask qemu --test` runs it on the bare-metal machine, and it passes on Linux as well. */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"

#define MUCH 300000

static void make(int kind, int ends[2])
{
	CHECK(socketpair(AF_UNIX, kind, 0, ends) == 0 && ends[0] >= 0 && ends[1] >= 0);
}

static void end_of(pid_t child, int code)
{
	int status;
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == code);
}

/* More than a socket holds goes there and comes back changed. */
static void bytes_in_a_row(void)
{
	int ends[2];
	char *bytes = map(MUCH, MAP_PRIVATE);
	long done = 0, count;
	make(SOCK_STREAM, ends);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		close(ends[0]);
		while (done < MUCH && (count = read(ends[1], bytes + done, MUCH - done)) > 0)
			done += count;
		for (long i = 0; i < MUCH; i++)
			bytes[i]++;
		_exit(done == MUCH && write(ends[1], bytes, MUCH) == MUCH ? 3 : 1);
	}
	close(ends[1]);
	for (long i = 0; i < MUCH; i++)
		bytes[i] = i % 101;
	CHECK(write(ends[0], bytes, MUCH) == MUCH);
	while (done < MUCH && (count = read(ends[0], bytes + done, MUCH - done)) > 0)
		done += count;
	CHECK(done == MUCH && read(ends[0], bytes, 1) == 0);
	for (long i = 0; i < MUCH; i++)
		CHECK(bytes[i] == i % 101 + 1);
	end_of(child, 3);
	CHECK(close(ends[0]) == 0);
	CHECK(munmap(bytes, MUCH) == 0);
}

static void messages(void)
{
	int ends[2];
	char text[100];
	struct pollfd polled = { .events = POLLIN | POLLOUT };
	make(SOCK_SEQPACKET, ends);
	polled.fd = ends[1];
	CHECK(poll(&polled, 1, 0) == 1 && polled.revents == POLLOUT);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		usleep(10000);
		_exit(write(ends[0], "first one", 9) == 9 && send(ends[0], "second", 6, 0) == 6 ? 4 : 1);
	}
	CHECK(read(ends[1], text, 5) == 5 && !memcmp(text, "first", 5));
	CHECK(recv(ends[1], text, sizeof text, 0) == 6 && !memcmp(text, "second", 6));
	CHECK(recv(ends[1], text, sizeof text, MSG_DONTWAIT) == -1 && errno == EAGAIN);
	end_of(child, 4);
	CHECK(write(ends[0], "", 0) == 0);
	CHECK(close(ends[0]) == 0 && poll(&polled, 1, 0) == 1 && (polled.revents & (POLLIN | POLLHUP)) == (POLLIN | POLLHUP));
	CHECK(close(ends[1]) == 0);
}

static void ends_and_errors(void)
{
	int ends[2];
	char text[10];
	struct stat facts;
	make(SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, ends);
	CHECK(fstat(ends[0], &facts) == 0 && S_ISSOCK(facts.st_mode) && lseek(ends[0], 0, SEEK_SET) == -1 && errno == ESPIPE);
	CHECK(read(ends[0], text, 1) == -1 && errno == EAGAIN);
	CHECK(send(ends[0], "all", 3, 0) == 3 && shutdown(ends[0], SHUT_WR) == 0);
	CHECK(send(ends[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
	CHECK(read(ends[1], text, 10) == 3 && read(ends[1], text, 10) == 0 && write(ends[1], "back", 4) == 4);
	CHECK(close(ends[0]) == 0 && read(ends[1], text, 10) == -1 && errno == ECONNRESET && read(ends[1], text, 10) == 0);
	pid_t child = fork();
	int status;
	CHECK(child >= 0);
	if (child == 0) {
		write(ends[1], "x", 1);
		_exit(1);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
	CHECK(close(ends[1]) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 6, ends) == -1 && errno == EPROTONOSUPPORT);
	CHECK(socketpair(0, SOCK_STREAM, 0, ends) == -1 && errno == EAFNOSUPPORT);
	CHECK(send(1, "x", 1, 0) == -1 && errno == ENOTSOCK);
}

int main(void)
{
	static const struct check checks[] = {
		{ "bytes in a row", bytes_in_a_row }, { "messages", messages }, { "ends and errors", ends_and_errors },
	};
	RUN_ALL(checks);
	printf("all sockets end as they should\n");
	return 0;
}
