// Lists a tree, one line for each file, with everything that a layer says of it. Usage: lister DIRECTORY...
//
//   PATH TYPE MODE UID:GID SIZE MTIME DEVICE XATTRS CONTENT LINK
//
// Bytes that are not plain are \xNN. CONTENT is a hash of the parts that are not zero, with their places, so that a
// hole and zeros are the same. LINK is where a symbolic link leads, or the first name of a file with several.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static struct { ino_t ino; dev_t dev; char *path; } seen[100000];
static int seen_count;

static void escaped(const char *text, size_t length) {
  for (size_t i = 0; i < length; i++) {
    unsigned char c = text[i];
    if (c <= ' ' || c >= 127 || c == '\\') printf("\\x%02x", c);
    else putchar(c);
  }
}

static int by_text(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

static void xattrs(const char *path) {
  static char names[1 << 16], value[1 << 16];
  char *sorted[256];
  int count = 0;
  ssize_t length = llistxattr(path, names, sizeof names);
  for (ssize_t at = 0; at < length; at += strlen(names + at) + 1)
    if (strncmp(names + at, "trusted.overlay.", 16) && count < 256) sorted[count++] = names + at;
  qsort(sorted, count, sizeof *sorted, by_text);
  printf(" [");
  for (int i = 0; i < count; i++) {
    ssize_t n = lgetxattr(path, sorted[i], value, sizeof value);
    printf("%s%s=", i ? "," : "", sorted[i]);
    if (n < 0) printf("errno%d", errno);
    else escaped(value, n);
  }
  printf("]");
}

static void content(const char *path, off_t size) {
  static char buffer[1 << 20];
  uint64_t hash = 14695981039346656037u;
  int fd = open(path, O_RDONLY);
  if (fd < 0) {
    printf(" errno%d", errno);
    return;
  }
  off_t at = 0;
  while (at < size) {
    off_t data = lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    if (data > at) at = data / 4096 * 4096;
    ssize_t n = pread(fd, buffer, sizeof buffer, at);
    if (n <= 0) {
      printf(" short%lld", (long long)at);
      break;
    }
    for (ssize_t i = 0; i < n; i++)
      if (buffer[i]) {
        hash = (hash ^ (unsigned char)buffer[i]) * 1099511628211u;
        hash = (hash ^ (uint64_t)(at + i)) * 1099511628211u;
      }
    at += n;
  }
  close(fd);
  printf(" %016llx", (unsigned long long)hash);
}

static void list(const char *path);

static void children(const char *path) {
  struct dirent **names;
  int count = scandir(path, &names, NULL, alphasort);
  for (int i = 0; i < count; i++) {
    const char *name = names[i]->d_name;
    if (strcmp(name, ".") && strcmp(name, "..")) {
      char *child;
      if (asprintf(&child, "%s/%s", path, name) > 0) list(child);
    }
  }
}

static void list(const char *path) {
  struct stat s;
  escaped(path, strlen(path));
  if (lstat(path, &s)) {
    printf(" errno%d\n", errno);
    return;
  }
  printf(" %o %o %u:%u %lld %lld.%09ld", s.st_mode >> 12, s.st_mode & 07777, s.st_uid, s.st_gid,
         S_ISREG(s.st_mode) ? (long long)s.st_size : 0LL, (long long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
  if (S_ISCHR(s.st_mode) || S_ISBLK(s.st_mode)) printf(" %u,%u", major(s.st_rdev), minor(s.st_rdev));
  else printf(" -");
  xattrs(path);
  if (S_ISREG(s.st_mode)) content(path, s.st_size);
  if (S_ISLNK(s.st_mode)) {
    char target[4097];
    ssize_t n = readlink(path, target, sizeof target);
    printf(" -> ");
    escaped(target, n > 0 ? n : 0);
  } else if (!S_ISDIR(s.st_mode) && s.st_nlink > 1) {
    int i = 0;
    while (i < seen_count && (seen[i].ino != s.st_ino || seen[i].dev != s.st_dev)) i++;
    if (i == seen_count && seen_count < 100000) {
      seen[i].ino = s.st_ino, seen[i].dev = s.st_dev, seen[i].path = strdup(path);
      seen_count++;
    }
    printf(" = ");
    escaped(seen[i].path, strlen(seen[i].path));
  }
  printf("\n");
  if (S_ISDIR(s.st_mode)) children(path);
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) list(argv[i]);
  return 0;
}
