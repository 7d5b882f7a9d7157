/*
 * Datagrams from whatever address is wanted, and who hears them; for tests. As root, or with CAP_NET_RAW.
 *
 *   send PORT {FROM TO TEXT}...   one UDP datagram for each, its IP header made here; %DEVICE may follow a TO of fe80::
 *   hear PORT                     prints the text of each datagram that comes to this port, of both families
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned add(const void *from, size_t n, unsigned sum) {
  const unsigned char *p = from;
  for (size_t i = 0; i < n; i++) sum += i % 2 ? p[i] : p[i] << 8;
  return sum;
}

static unsigned short fold(unsigned sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return htons(~sum & 0xffff);
}

static void send_one(int port, const char *from, char *to, const char *text) {
  unsigned char packet[256] = {0};
  size_t size = sizeof(struct udphdr) + strlen(text);
  char *device = strchr(to, '%');
  if (device) *device++ = 0;
  if (strchr(to, ':')) {
    struct ip6_hdr *h = (void *)packet;
    struct udphdr *u = (void *)(h + 1);
    struct sockaddr_in6 where = {.sin6_family = AF_INET6};
    h->ip6_flow = htonl(6u << 28);
    h->ip6_plen = htons(size);
    h->ip6_nxt = IPPROTO_UDP;
    h->ip6_hlim = 64;
    inet_pton(AF_INET6, from, &h->ip6_src);
    inet_pton(AF_INET6, to, &h->ip6_dst);
    where.sin6_addr = h->ip6_dst;
    where.sin6_scope_id = device ? if_nametoindex(device) : 0;
    u->source = u->dest = htons(port);
    u->len = htons(size);
    memcpy(u + 1, text, strlen(text));
    u->check = fold(add(&h->ip6_src, 32, add(u, size, size + IPPROTO_UDP)));
    int s = socket(AF_INET6, SOCK_RAW, IPPROTO_RAW);
    if (sendto(s, packet, sizeof *h + size, 0, (void *)&where, sizeof where) < 0) perror(text);
    close(s);
  } else {
    struct iphdr *h = (void *)packet;
    struct udphdr *u = (void *)(h + 1);
    struct sockaddr_in where = {.sin_family = AF_INET};
    h->version = 4;
    h->ihl = 5;
    h->ttl = 64;
    h->id = 1;
    h->protocol = IPPROTO_UDP;
    inet_pton(AF_INET, from, &h->saddr);
    inet_pton(AF_INET, to, &h->daddr);
    where.sin_addr.s_addr = h->daddr;
    u->source = u->dest = htons(port);
    u->len = htons(size);
    memcpy(u + 1, text, strlen(text));
    u->check = fold(add(&h->saddr, 8, add(u, size, size + IPPROTO_UDP)));
    int s = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
    if (sendto(s, packet, sizeof *h + size, 0, (void *)&where, sizeof where) < 0) perror(text);
    close(s);
  }
}

static int hear(int port) {
  struct sockaddr_in6 all = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  char text[256];
  int s = socket(AF_INET6, SOCK_DGRAM, 0);
  if (bind(s, (void *)&all, sizeof all)) return perror("bind"), 1;
  puts("ready");
  for (;;) {
    fflush(stdout);
    ssize_t n = recv(s, text, sizeof text - 1, 0);
    if (n < 0) return perror("recv"), 1;
    text[n] = 0;
    puts(text);
  }
}

int main(int argc, char **argv) {
  if (argc >= 3 && !strcmp(argv[1], "send")) {
    for (int i = 3; i + 2 < argc; i += 3) send_one(atoi(argv[2]), argv[i], argv[i + 1], argv[i + 2]);
    return 0;
  }
  if (argc == 3 && !strcmp(argv[1], "hear")) return hear(atoi(argv[2]));
  return 2;
}
