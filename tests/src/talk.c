/*
 * The two ends of a conversation over a network, for tests: who answers, whom it sees, and from which address.
 *
 *   serve NAME PORT...                       answers on TCP and UDP, both families, with "NAME PEER PEERPORT LOCAL"
 *   ask MS {tcp|udp ADDRESS PORT}...         asks all at once; a line for each: the answer, or "! REASON"
 *   hold ADDRESS PORT                        prints the greeting, then the echo of each line of its standard input
 *   move get|put BYTES ADDRESS PORT          the milliseconds that so many bytes take
 *   send FROMPORT ADDRESS PORT COUNT MS      datagrams from one port, one every MS; prints each answer
 *
 * Over TCP the server speaks first, then echoes lines; "get N" is answered with N bytes, "put N" with "done" after N.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MANY = 1024 };

static void die(const char *what) {
  perror(what);
  exit(1);
}

static long now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000L + t.tv_nsec / 1000000;
}

static void text(const struct in6_addr *a, char *to) {
  if (IN6_IS_ADDR_V4MAPPED(a))
    inet_ntop(AF_INET, &a->s6_addr[12], to, INET6_ADDRSTRLEN);
  else
    inet_ntop(AF_INET6, a, to, INET6_ADDRSTRLEN);
}

/* IPv4 sockets are used for IPv4 addresses, so that a namespace without IPv6 is served as well. */
static socklen_t parse(const char *address, const char *port, struct sockaddr_storage *to) {
  struct sockaddr_in *four = (void *)to;
  struct sockaddr_in6 *six = (void *)to;
  memset(to, 0, sizeof *to);
  if (inet_pton(AF_INET, address, &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(atoi(port));
    return sizeof *four;
  }
  if (inet_pton(AF_INET6, address, &six->sin6_addr) != 1) {
    fprintf(stderr, "no address: %s\n", address);
    exit(2);
  }
  six->sin6_family = AF_INET6;
  six->sin6_port = htons(atoi(port));
  return sizeof *six;
}

static int listener(int type, int port) {
  struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_port = htons(port)};
  int on = 1, off = 0, fd = socket(AF_INET6, type, 0);
  if (fd >= 0) {
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (void *)&any, sizeof any)) die("bind");
  } else {
    if ((fd = socket(AF_INET, type, 0)) < 0) die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (void *)&any4, sizeof any4)) die("bind");
  }
  if (type == SOCK_STREAM && listen(fd, 128)) die("listen");
  return fd;
}

static void speak(int fd, const char *name) {
  struct sockaddr_in6 peer, local;
  socklen_t length = sizeof peer;
  char theirs[INET6_ADDRSTRLEN] = "?", ours[INET6_ADDRSTRLEN] = "?", line[256], bulk[65536];
  if (getpeername(fd, (void *)&peer, &length)) return;
  length = sizeof local;
  getsockname(fd, (void *)&local, &length);
  text(&peer.sin6_addr, theirs);
  text(&local.sin6_addr, ours);
  dprintf(fd, "%s %s %d %s\n", name, theirs, ntohs(peer.sin6_port), ours);
  memset(bulk, 'x', sizeof bulk);
  FILE *in = fdopen(dup(fd), "r");
  while (fgets(line, sizeof line, in)) {
    long left;
    if (sscanf(line, "get %ld", &left) == 1) {
      while (left > 0) {
        ssize_t n = write(fd, bulk, left < (long)sizeof bulk ? left : (long)sizeof bulk);
        if (n <= 0) return;
        left -= n;
      }
    } else if (sscanf(line, "put %ld", &left) == 1) {
      while (left > 0) {
        size_t n = fread(bulk, 1, left < (long)sizeof bulk ? left : (long)sizeof bulk, in);
        if (n == 0) return;
        left -= n;
      }
      dprintf(fd, "done\n");
    } else if (write(fd, line, strlen(line)) < 0)
      return;
  }
}

static void answer(int fd, const char *name) {
  char in[2048], out[256], theirs[INET6_ADDRSTRLEN], ours[INET6_ADDRSTRLEN] = "?";
  union {
    char space[CMSG_SPACE(sizeof(struct in6_pktinfo))];
    struct cmsghdr align;
  } control;
  struct sockaddr_in6 peer = {0};
  struct iovec part = {in, sizeof in};
  struct msghdr message = {&peer, sizeof peer, &part, 1, control.space, sizeof control.space, 0};
  if (recvmsg(fd, &message, 0) < 0) return;
  text(&peer.sin6_addr, theirs);
  struct cmsghdr *c = CMSG_FIRSTHDR(&message);
  if (c && c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
    struct in6_pktinfo *info = (void *)CMSG_DATA(c);
    text(&info->ipi6_addr, ours);
    /* The route decides the device. */
    info->ipi6_ifindex = 0;
  }
  part.iov_base = out;
  part.iov_len = snprintf(out, sizeof out, "%s %s %d %s\n", name, theirs, ntohs(peer.sin6_port), ours);
  sendmsg(fd, &message, 0);
}

static int serve(int count, char **args) {
  struct pollfd fds[MANY];
  int n = 0;
  signal(SIGCHLD, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  for (int i = 1; i < count && n + 2 <= MANY; i++) {
    fds[n++] = (struct pollfd){listener(SOCK_STREAM, atoi(args[i])), POLLIN, 0};
    fds[n++] = (struct pollfd){listener(SOCK_DGRAM, atoi(args[i])), POLLIN, 0};
  }
  puts("ready");
  fflush(stdout);
  while (poll(fds, n, -1) >= 0 || errno == EINTR)
    for (int i = 0; i < n; i++) {
      if (!(fds[i].revents & POLLIN)) continue;
      if (i % 2) {
        answer(fds[i].fd, args[0]);
        continue;
      }
      int fd = accept(fds[i].fd, NULL, NULL);
      if (fd >= 0 && fork() == 0) {
        speak(fd, args[0]);
        _exit(0);
      }
      if (fd >= 0) close(fd);
    }
  return 1;
}

static int ask(int count, char **args) {
  static char said[MANY][256];
  struct pollfd fds[MANY];
  long end = now_ms() + atoi(args[0]);
  int n = (count - 1) / 3, open = 0;
  for (int i = 0; i < n && i < MANY; i++) {
    char **target = args + 1 + 3 * i;
    struct sockaddr_storage to;
    socklen_t length = parse(target[1], target[2], &to);
    int tcp = !strcmp(target[0], "tcp");
    int fd = socket(to.ss_family, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK, 0);
    fds[i] = (struct pollfd){fd, POLLIN, 0};
    if (fd < 0 || (connect(fd, (void *)&to, length) && errno != EINPROGRESS) || (!tcp && send(fd, "?", 1, 0) < 0)) {
      snprintf(said[i], sizeof said[i], "! %s", strerror(errno));
      fds[i].fd = -1;
    } else
      open++;
  }
  while (open > 0) {
    long left = end - now_ms();
    if (left <= 0 || poll(fds, n, left) <= 0) break;
    for (int i = 0; i < n; i++) {
      if (fds[i].fd < 0 || !fds[i].revents) continue;
      ssize_t got = recv(fds[i].fd, said[i], sizeof said[i] - 1, 0);
      if (got < 0 && errno == EAGAIN) continue;
      if (got <= 0) snprintf(said[i], sizeof said[i], "! %s", got ? strerror(errno) : "closed");
      said[i][strcspn(said[i], "\n")] = 0;
      close(fds[i].fd);
      fds[i].fd = -1;
      open--;
    }
  }
  for (int i = 0; i < n; i++) printf("%s\n", said[i][0] ? said[i] : "! no answer");
  return 0;
}

static FILE *conversation(const char *address, const char *port, int *fd) {
  struct sockaddr_storage to;
  socklen_t length = parse(address, port, &to);
  *fd = socket(to.ss_family, SOCK_STREAM, 0);
  if (*fd < 0 || connect(*fd, (void *)&to, length)) die("connect");
  return fdopen(dup(*fd), "r");
}

static int hold(char **args) {
  char line[256];
  int fd;
  FILE *in = conversation(args[0], args[1], &fd);
  while (fgets(line, sizeof line, in)) {
    fputs(line, stdout);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) return 0;
    if (write(fd, line, strlen(line)) < 0) die("write");
  }
  puts("closed");
  return 1;
}

static int move(char **args) {
  char line[256];
  static char bulk[65536];
  int fd;
  long left = atol(args[1]), begin;
  FILE *in = conversation(args[2], args[3], &fd);
  if (!fgets(line, sizeof line, in)) die("greeting");
  begin = now_ms();
  dprintf(fd, "%s %ld\n", args[0], left);
  while (left > 0) {
    size_t part = left < (long)sizeof bulk ? (size_t)left : sizeof bulk;
    ssize_t n = !strcmp(args[0], "get") ? (ssize_t)fread(bulk, 1, part, in) : write(fd, bulk, part);
    if (n <= 0) die(args[0]);
    left -= n;
  }
  if (!strcmp(args[0], "put") && !fgets(line, sizeof line, in)) die("answer");
  printf("%ld\n", now_ms() - begin);
  return 0;
}

static int send_from(char **args) {
  struct sockaddr_storage to, from;
  socklen_t length = parse(args[1], args[2], &to);
  int fd = socket(to.ss_family, SOCK_DGRAM, 0);
  socklen_t own = parse(to.ss_family == AF_INET ? "0.0.0.0" : "::", args[0], &from);
  if (fd < 0 || bind(fd, (void *)&from, own)) die("bind");
  for (int i = 0; i < atoi(args[3]); i++) {
    char line[256];
    struct pollfd p = {fd, POLLIN, 0};
    sendto(fd, "?", 1, 0, (void *)&to, length);
    ssize_t n = poll(&p, 1, atoi(args[4])) > 0 ? recv(fd, line, sizeof line - 1, 0) : -1;
    line[n < 0 ? 0 : n] = 0;
    printf("%s%s", line, n < 0 ? "!\n" : "");
    fflush(stdout);
    if (n >= 0) usleep(atoi(args[4]) * 1000);
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc > 3 && !strcmp(argv[1], "serve")) return serve(argc - 2, argv + 2);
  if (argc > 2 && !strcmp(argv[1], "ask")) return ask(argc - 2, argv + 2);
  if (argc == 4 && !strcmp(argv[1], "hold")) return hold(argv + 2);
  if (argc == 6 && !strcmp(argv[1], "move")) return move(argv + 2);
  if (argc == 7 && !strcmp(argv[1], "send")) return send_from(argv + 2);
  fprintf(stderr, "usage: see the head of talk.c\n");
  return 2;
}
