// Times one command, and counts the processor time of everything that it sets off.
//
//   sample [-m MOUNT_NAMESPACE] [-r REST_MS] [-s] CPU_FILE COMMAND [ARGUMENT...]
//
// CPU_FILE is the box's cpuacct.usage (cgroup v1) or cpu.stat (v2). Rests, runs the command, and then waits until the box is quiet
// again (not with -s), so that what daemons and supervisors do after the answer counts too. Prints on descriptor 9:
// wall, processor time (both in microseconds), peak resident size of the command (KiB), wait status, and when it was started
// (microseconds of CLOCK_MONOTONIC).
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { QUIET_STEP_MS = 20, QUIET_STEPS_MAX = 100, QUIET_CPU_US = 1000 };

static double microseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static double cpu_used(int file) {
  char text[256] = "";
  if (pread(file, text, sizeof text - 1, 0) <= 0) { perror("sample: processor time"); exit(125); }
  const char *v2 = strstr(text, "usage_usec ");
  return v2 ? atof(v2 + strlen("usage_usec ")) : atof(text) / 1e3;
}

// Three steps in a row with next to no work: a daemon that waits for a grace period is not mistaken for one that is done.
static void wait_until_quiet(int file) {
  double before = cpu_used(file);
  for (int step = 0, quiet = 0; step < QUIET_STEPS_MAX && quiet < 3; step++) {
    usleep(QUIET_STEP_MS * 1000);
    double now = cpu_used(file);
    quiet = now - before < QUIET_CPU_US ? quiet + 1 : 0;
    before = now;
  }
}

int main(int count, char **arguments) {
  int option, rest_ms = 0, mounts = -1, settle = 1;
  while ((option = getopt(count, arguments, "+m:r:s")) != -1) {
    if (option == 'r') rest_ms = atoi(optarg);
    else if (option == 's') settle = 0;
    else if (option == 'm') mounts = open(optarg, O_RDONLY | O_CLOEXEC);
    else return 125;
  }
  int file = open(arguments[optind], O_RDONLY | O_CLOEXEC);
  if (file < 0 || optind + 1 >= count) { perror("sample"); return 125; }
  if (mounts >= 0 && setns(mounts, CLONE_NEWNS)) { perror("sample: setns"); return 125; }
  fcntl(9, F_SETFD, FD_CLOEXEC);
  usleep(rest_ms * 1000);

  char **command = arguments + optind + 1;
  double cpu = cpu_used(file), start = microseconds();
  pid_t child;
  int status;
  struct rusage usage;
  if (posix_spawnp(&child, command[0], 0, 0, command, environ)) { perror(command[0]); return 127; }
  if (wait4(child, &status, 0, &usage) < 0) { perror("sample: wait"); return 125; }
  double wall = microseconds() - start;
  if (settle) wait_until_quiet(file);
  dprintf(9, "%.1f %.1f %ld %d %.1f\n", wall, cpu_used(file) - cpu, usage.ru_maxrss, status, start);
  return 0;
}
