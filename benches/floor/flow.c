// Traffic for the network measurements.
//   flow serve PORT               one child for each connection; its first byte says what is wanted
//   flow bulk ADDRESS PORT SECS   one stream of 128 KiB writes: prints bits per second, as counted by the server
//   flow trip ADDRESS PORT SECS   one byte there and back: prints round trips per second, median and 99th percentile in µs
//   flow open ADDRESS PORT SECS   connections opened, used for one byte and closed: prints their number per second
//   flow names SERVER NAME SECS   queries for A records over UDP, one at a time: prints answers per second, median and p99 in µs
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LARGE = 128 << 10, MOST = 4000000 };
static char buffer[LARGE];
static double taken[MOST];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void report(long n, double seconds) {
  qsort(taken, n, sizeof *taken, compare);
  printf("%.1f %.2f %.2f\n", n / seconds, taken[n / 2], taken[n * 99 / 100]);
}

static void converse(int s) {
  int one = 1;
  char byte;
  setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (recv(s, &byte, 1, 0) != 1) return;
  if (byte == 'b') {
    uint64_t total = 0;
    double begun = now();
    for (ssize_t n; (n = recv(s, buffer, LARGE, 0)) > 0;) total += n;
    double seconds = now() - begun;
    uint64_t rate = total * 8 / seconds;
    send(s, &rate, sizeof rate, MSG_NOSIGNAL);
    return;
  }
  do {
    if (send(s, &byte, 1, MSG_NOSIGNAL) != 1) return;
  } while (recv(s, &byte, 1, 0) == 1);
}

static int serve(int port) {
  int one = 1, s = socket(AF_INET6, SOCK_STREAM, 0);
  struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(s, (void *)&at, sizeof at) || listen(s, 1024)) fail("listen");
  signal(SIGCHLD, SIG_IGN);
  for (;;) {
    int k = accept(s, 0, 0);
    if (k < 0) continue;
    char byte;
    // A connection that is only opened must not cost a process.
    if (recv(k, &byte, 1, MSG_PEEK) == 1 && byte == 'o') {
      if (recv(k, &byte, 1, 0) == 1) send(k, &byte, 1, MSG_NOSIGNAL);
    } else if (!fork()) {
      close(s);
      converse(k);
      _exit(0);
    }
    close(k);
  }
}

static int dial(const char *address, const char *port) {
  struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
  struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(port))};
  int is4 = inet_pton(AF_INET, address, &v4.sin_addr) == 1, one = 1;
  if (!is4 && inet_pton(AF_INET6, address, &v6.sin6_addr) != 1) exit(2);
  int s = socket(is4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
  if (connect(s, is4 ? (void *)&v4 : (void *)&v6, is4 ? sizeof v4 : sizeof v6)) fail("connect");
  setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return s;
}

static void bulk(int s, double seconds) {
  uint64_t rate = 0;
  send(s, "b", 1, 0);
  for (double end = now() + seconds; now() < end;)
    if (send(s, buffer, LARGE, MSG_NOSIGNAL) < 0) fail("send");
  shutdown(s, SHUT_WR);
  if (recv(s, &rate, sizeof rate, MSG_WAITALL) != sizeof rate) fail("rate");
  printf("%llu\n", (unsigned long long)rate);
}

static void trip(int s, double seconds) {
  char byte = 't';
  double begun = now(), last = begun;
  long n = 0;
  while (last - begun < seconds && n < MOST) {
    if (send(s, &byte, 1, 0) != 1 || recv(s, &byte, 1, 0) != 1) fail("round trip");
    double t = now();
    taken[n++] = (t - last) * 1e6;
    last = t;
  }
  report(n, last - begun);
}

static void open_many(const char *address, const char *port, double seconds) {
  double begun = now(), t = begun;
  long n = 0;
  char byte;
  // Ports run out: 28,000 of them, each held for a minute by whoever closes first.
  for (; t - begun < seconds && n < 20000; n++) {
    int s = dial(address, port);
    if (send(s, "o", 1, 0) != 1 || recv(s, &byte, 1, 0) != 1) fail("open");
    close(s);
    t = now();
  }
  printf("%.1f\n", n / (t - begun));
}

static void names(const char *server, const char *name, double seconds) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)};
  if (inet_pton(AF_INET, server, &to.sin_addr) != 1) exit(2);
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  struct timeval patience = {.tv_sec = 2};
  setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (connect(s, (void *)&to, sizeof to)) fail("connect");
  unsigned char query[300] = {0, 0, 1, 0, 0, 1}, answer[1500];
  size_t at = 12;
  for (const char *label = name; *label;) {
    size_t length = strcspn(label, ".");
    query[at++] = length;
    memcpy(query + at, label, length);
    at += length;
    label += length + (label[length] == '.');
  }
  at++;
  query[at + 1] = 1;
  query[at + 3] = 1;
  at += 4;
  double begun = now(), last = begun;
  long n = 0;
  while (last - begun < seconds && n < MOST) {
    query[0] = n >> 8;
    query[1] = n;
    if (send(s, query, at, 0) < 0) fail("query");
    ssize_t got = recv(s, answer, sizeof answer, 0);
    if (got < 12 || memcmp(query, answer, 2)) fail("answer");
    if ((answer[3] & 15) || !(answer[6] | answer[7])) {
      fprintf(stderr, "%s has no address (code %d)\n", name, answer[3] & 15);
      exit(1);
    }
    double t = now();
    taken[n++] = (t - last) * 1e6;
    last = t;
  }
  report(n, last - begun);
}

int main(int argc, char **argv) {
  if (argc == 3 && !strcmp(argv[1], "serve")) return serve(atoi(argv[2]));
  if (argc != 5) return 2;
  double seconds = atof(argv[4]);
  if (!strcmp(argv[1], "names"))
    names(argv[2], argv[3], seconds);
  else if (!strcmp(argv[1], "open"))
    open_many(argv[2], argv[3], seconds);
  else {
    int s = dial(argv[2], argv[3]);
    if (!strcmp(argv[1], "bulk"))
      bulk(s, seconds);
    else
      trip(s, seconds);
  }
  return 0;
}
