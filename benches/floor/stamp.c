// What a container of the network measurements runs: prints when its first instruction ran, in nanoseconds of CLOCK_MONOTONIC, and,
// if it is given ADDRESS PORT, when a TCP connection to there was established. Tries once: the first packet goes through, or this fails.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv) {
  long long begun = now(), connected = 0;
  if (argc > 2) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    if (inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) return 2;
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0 || connect(s, (void *)&to, sizeof to)) {
      perror("connect");
      return 1;
    }
    connected = now();
  }
  printf("%lld %lld\n", begun, connected);
  return 0;
}
