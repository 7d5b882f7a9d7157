// The least that a container costs: the namespaces, mounts, device nodes, masks, control groups with their device rules, loopback
// device, keyring, capabilities and system call filter of a usual container, made by one clone and nothing else: no configuration,
// no state, no errors worth reading.
//
//   floor [-c DIR,DIR...] [-2] [-s FILTER] ROOTFS COMMAND...        run
//   floor -e PID [-c DIR,DIR...] [-2] [-s FILTER] COMMAND...        exec in the namespaces of a process
//   floor -w SOCKET -n NAME [-c ...] [-2] [-s ...] ROOTFS COMMAND.. create: a process waits at SOCKET; its id into SOCKET.pid
//   floor -o SOCKET                                                 start: lets it go, and returns when it has executed
//   floor -d -n NAME -c DIR,DIR...                                  delete: removes the groups
//
// -n  the groups' name (otherwise made of the process's id)
// -c  control groups (one directory a hierarchy): run makes and removes a child of each, exec joins them. The child writes itself
//     into `tasks`, which spares the grace period that the kernel makes a parent wait that writes `cgroup.procs`.
// -2  the one directory is of cgroup v2: the child is cloned into it
// -s  file of struct sock_filter, loaded last
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))

enum { GROUPS = 16 };
static char groups[GROUPS][300];
static int group_count, tasks[GROUPS];
static struct sock_fprog filter;

static void die(const char *what) {
  fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
  _exit(99);
}

static void attach(const char *source, const char *target, const char *type, unsigned long flags, const char *data) {
  if (mount(source, target, type, flags, data)) die(target);
}

static void make_dev(void) {
  static const struct { const char *path; int major, minor; } nodes[] = {
    {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0},
  };
  static const char *const links[][2] = {
    {"pts/ptmx", "dev/ptmx"}, {"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"},
    {"/proc/self/fd/1", "dev/stdout"}, {"/proc/self/fd/2", "dev/stderr"},
  };
  attach("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
  for (size_t i = 0; i < LENGTH(nodes); i++) {
    if (mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor))) die(nodes[i].path);
    chmod(nodes[i].path, 0666);
  }
  for (size_t i = 0; i < LENGTH(links); i++)
    if (symlink(links[i][0], links[i][1])) die(links[i][1]);
  mkdir("dev/pts", 0755);
  mkdir("dev/shm", 0755);
  mkdir("dev/mqueue", 0755);
  attach("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
  attach("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=1777,size=65536k");
  attach("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, 0);
}

// A path that this kernel lacks is nothing to hide.
static void hide_paths(void) {
  static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
  static const char *const masked[] = {"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts",
    "/sys/firmware", "/sys/devices/virtual/powercap"};
  struct stat status;
  for (size_t i = 0; i < LENGTH(read_only); i++)
    if (!mount(read_only[i], read_only[i], 0, MS_BIND | MS_REC, 0))
      mount(0, read_only[i], 0, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, 0);
  for (size_t i = 0; i < LENGTH(masked); i++) {
    if (stat(masked[i], &status)) continue;
    if (S_ISDIR(status.st_mode)) mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, 0);
    else mount("/dev/null", masked[i], 0, MS_BIND, 0);
  }
}

// As every runtime: the container's own group of each hierarchy, read-only, below a small tmpfs; alone, where there is only v2.
static void show_groups(int v2) {
  const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  char target[400];
  if (v2) {
    attach(groups[0], "sys/fs/cgroup", 0, MS_BIND, 0);
    attach(0, "sys/fs/cgroup", 0, MS_BIND | MS_REMOUNT | MS_RDONLY | flags, 0);
    return;
  }
  attach("cgroup", "sys/fs/cgroup", "tmpfs", flags, "mode=755");
  for (int i = 0; i < group_count; i++) {
    // DIR is /sys/fs/cgroup/CONTROLLER/…
    char name[64] = "";
    sscanf(groups[i], "/sys/fs/cgroup/%63[^/]", name);
    snprintf(target, sizeof target, "sys/fs/cgroup/%s", name);
    mkdir(target, 0755);
    attach(groups[i], target, 0, MS_BIND, 0);
    attach(0, target, 0, MS_BIND | MS_REMOUNT | MS_RDONLY | flags, 0);
  }
  attach(0, "sys/fs/cgroup", 0, MS_BIND | MS_REMOUNT | MS_RDONLY | flags, 0);
}

static void loopback_up(void) {
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request)) die("lo");
  close(fd);
}

// docker's: what it drops is taken out of the bounding set, the rest is permitted and effective.
static void drop_privileges(void) {
  const uint64_t kept = 0xa80425fb;
  syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "floor");
  for (int i = 0; i <= CAP_LAST_CAP; i++)
    if (!(kept >> i & 1) && prctl(PR_CAPBSET_DROP, i)) break;
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{kept, kept, 0}, {0, 0, 0}};
  if (filter.len && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter)) die("seccomp");
  if (syscall(SYS_capset, &header, data)) die("capset");
}

static void enter_rootfs(const char *rootfs, int v2) {
  sethostname("floor", 5);
  loopback_up();
  attach(0, "/", 0, MS_REC | MS_PRIVATE, 0);
  attach(rootfs, rootfs, 0, MS_BIND | MS_REC, 0);
  if (chdir(rootfs)) die(rootfs);
  attach("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0);
  attach("sysfs", "sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, 0);
  make_dev();
  show_groups(v2);
  if (syscall(SYS_pivot_root, ".", ".")) die("pivot_root");
  if (umount2(".", MNT_DETACH) || chdir("/")) die("old root");
  hide_paths();
}

static void load_filter_file(const char *path) {
  struct stat status;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0 || fstat(file, &status)) die(path);
  filter.len = status.st_size / sizeof *filter.filter;
  filter.filter = malloc(status.st_size);
  if (read(file, filter.filter, status.st_size) != status.st_size) die(path);
  close(file);
}

static void parse_groups(char *list, const char *name, int run) {
  char own[32];
  snprintf(own, sizeof own, "floor%d", getpid());
  for (char *dir = strtok(list, ","); dir && group_count < GROUPS; dir = strtok(0, ",")) {
    if (run) snprintf(groups[group_count], sizeof *groups, "%s/%s", dir, name ? name : own);
    else snprintf(groups[group_count], sizeof *groups, "%s", dir);
    group_count++;
  }
}

// What a create leaves behind waits here; close-on-exec, so that the end of the connection says that the program runs.
static int gate(const char *path, int listening) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  if (listening ? bind(fd, (void *)&address, sizeof address) || listen(fd, 1) : connect(fd, (void *)&address, sizeof address))
    die(path);
  return fd;
}

static int open_gate(const char *path) {
  char byte;
  int fd = gate(path, 0);
  if (send(fd, "g", 1, 0) != 1 || read(fd, &byte, 1) != 0) die(path);
  return 0;
}

static void wait_at_gate(int listening, int ready) {
  char byte;
  close(ready);
  int fd = accept4(listening, 0, 0, SOCK_CLOEXEC);
  if (fd < 0 || read(fd, &byte, 1) != 1) die("gate");
}

// docker's, in the files of v1.
static void set_rules(int dir) {
  static const char *const allowed[] = {"c 1:5 rwm", "c 1:3 rwm", "c 1:9 rwm", "c 1:8 rwm", "c 5:0 rwm", "c 5:1 rwm", "c *:* m",
    "b *:* m", "c 1:7 rwm", "c 5:2 rwm", "c 136:* rwm", "c 10:200 rwm"};
  int file = openat(dir, "devices.deny", O_WRONLY | O_CLOEXEC);
  if (write(file, "a", 1) != 1) die("devices.deny");
  close(file);
  file = openat(dir, "devices.allow", O_WRONLY | O_CLOEXEC);
  for (size_t i = 0; i < LENGTH(allowed); i++)
    if (write(file, allowed[i], strlen(allowed[i])) < 1) die(allowed[i]);
  close(file);
}

static void open_groups(int make, int v2) {
  for (int i = 0; i < group_count; i++) {
    if (make && mkdir(groups[i], 0755) && errno != EEXIST) die(groups[i]);
    int dir = open(groups[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
    tasks[i] = v2 ? dir : openat(dir, "tasks", O_WRONLY | O_CLOEXEC);
    if (tasks[i] < 0) die(groups[i]);
    if (make && !v2 && strstr(groups[i], "/devices/")) set_rules(dir);
  }
}

int main(int count, char **arguments) {
  int option, v2 = 0, target = 0, delete = 0, listening = -1, ready[2] = {-1, -1};
  char *list = 0, *name = 0, *socket_path = 0;
  while ((option = getopt(count, arguments, "+c:2s:e:w:o:n:d")) != -1) switch (option) {
    case 'c': list = optarg; break;
    case '2': v2 = 1; break;
    case 's': load_filter_file(optarg); break;
    case 'e': target = atoi(optarg); break;
    case 'w': listening = gate(socket_path = optarg, 1); break;
    case 'o': return open_gate(optarg);
    case 'n': name = optarg; break;
    case 'd': delete = 1; break;
    default: return 2;
  }
  if (list) parse_groups(list, name, !target);
  if (delete) {
    for (int i = 0; i < group_count; i++)
      if (rmdir(groups[i])) die(groups[i]);
    return 0;
  }
  const char *rootfs = target ? 0 : arguments[optind++];
  char **command = arguments + optind;
  open_groups(!target, v2);
  if (listening >= 0 && pipe2(ready, O_CLOEXEC)) die("pipe");

  struct clone_args clone = {.exit_signal = SIGCHLD};
  const uint64_t namespaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET;
  if (target) {
    int process = syscall(SYS_pidfd_open, target, 0);
    if (process < 0 || setns(process, namespaces | CLONE_NEWCGROUP)) die("setns");
  } else {
    clone.flags = namespaces;
  }
  if (v2 && group_count) {
    clone.flags |= CLONE_INTO_CGROUP;
    clone.cgroup = tasks[0];
  }
  pid_t child = syscall(SYS_clone3, &clone, sizeof clone);
  if (child < 0) die("clone3");
  if (!child) {
    for (int i = 0; !v2 && i < group_count; i++)
      if (write(tasks[i], "0", 1) != 1) die(groups[i]);
    if (!target) {
      if (unshare(CLONE_NEWCGROUP)) die("unshare");
      enter_rootfs(rootfs, v2);
    }
    if (listening >= 0) wait_at_gate(listening, ready[1]);
    drop_privileges();
    execve(command[0], command, environ);
    die(command[0]);
  }
  if (listening >= 0) {
    char byte;
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 0) die("ready");
    char path[120];
    snprintf(path, sizeof path, "%s.pid", socket_path);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0 || dprintf(file, "%d", child) < 1) die(path);
    return 0;
  }
  int status;
  if (waitpid(child, &status, 0) < 0) die("wait");
  for (int i = 0; !target && i < group_count; i++) rmdir(groups[i]);
  return status ? 1 : 0;
}
