/* Records what a program does to the files under a directory, in order: loaded before libc (LD_PRELOAD), it performs each call and
 * appends it to a trace. With SLIPWAY_FAIL_SYNC=N the Nth sync under the directory, and every later one, fails with EIO.
 *
 * One record: op (1 byte), offset (8), length of the path (4), length of the data (8), path, data; little-endian machine order.
 * Only what Slipway and RocksDB use is covered; a memory map would go unseen (RocksDB's are off). Errors are not recorded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static const char *root;
static size_t root_len;
static int trace = -1;
static long fail_sync, syncs;

#define REAL(type, name, ...) static type (*real_##name)(__VA_ARGS__)
REAL(int, open, const char *, int, ...);
REAL(int, openat, int, const char *, int, ...);
REAL(ssize_t, write, int, const void *, size_t);
REAL(ssize_t, writev, int, const struct iovec *, int);
REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
REAL(int, fsync, int);
REAL(int, fdatasync, int);
REAL(int, sync_file_range, int, off_t, off_t, unsigned);
REAL(int, ftruncate, int, off_t);
REAL(int, rename, const char *, const char *);
REAL(int, unlink, const char *);
#define FIND(name) real_##name = dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    FIND(open); FIND(openat); FIND(write); FIND(writev); FIND(pwrite); FIND(fsync); FIND(fdatasync); FIND(sync_file_range);
    FIND(ftruncate); FIND(rename); FIND(unlink);
    const char *fail = getenv("SLIPWAY_FAIL_SYNC");
    fail_sync = fail ? atol(fail) : 0;
    const char *path = getenv("SLIPWAY_TRACE");
    if (path) trace = real_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    root = getenv("SLIPWAY_TRACE_ROOT");
    root_len = root ? strlen(root) : 0;
}

static int ours(const char *path) { return root && strncmp(path, root, root_len) == 0 && path[root_len] == '/'; }

/* The path behind a descriptor now; renames are seen. */
static int where(int fd, char *path) {
    char link[64];
    if (!root) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return (ours(path) || strcmp(path, root) == 0) && !strstr(path, " (deleted)");
}

static void all(const void *data, size_t len) {
    const char *at = data;
    while (len) {
        ssize_t n = real_write(trace, at, len);
        if (n <= 0) abort();
        at += n; len -= (size_t)n;
    }
}

static void record(char op, uint64_t offset, const char *path, const void *data, uint64_t len) {
    if (trace < 0) return;
    uint32_t path_len = (uint32_t)strlen(path);
    all(&op, 1); all(&offset, 8); all(&path_len, 4); all(&len, 8); all(path, path_len); all(data, len);
}

static int opened(int dir, const char *path, int flags, mode_t mode) {
    pthread_mutex_lock(&turn);
    int there = (flags & O_CREAT) && faccessat(dir, path, F_OK, 0) == 0;
    int fd = real_openat(dir, path, flags, mode), kept = errno;
    char real[PATH_MAX];
    if (fd >= 0 && (flags & (O_CREAT | O_TRUNC)) && !(flags & O_DIRECTORY) && where(fd, real)) {
        if ((flags & O_CREAT) && !there) record('C', 0, real, "", 0);
        else if (flags & O_TRUNC) record('T', 0, real, "", 0);
    }
    pthread_mutex_unlock(&turn);
    errno = kept;
    return fd;
}

#define MODE(flags) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list a; va_start(a, flags); mode = va_arg(a, mode_t); va_end(a); }
int open(const char *p, int flags, ...) { MODE(flags) return opened(AT_FDCWD, p, flags, mode); }
int open64(const char *p, int flags, ...) { MODE(flags) return opened(AT_FDCWD, p, flags | O_LARGEFILE, mode); }
int openat(int d, const char *p, int flags, ...) { MODE(flags) return opened(d, p, flags, mode); }
int openat64(int d, const char *p, int flags, ...) { MODE(flags) return opened(d, p, flags | O_LARGEFILE, mode); }
int creat(const char *p, mode_t mode) { return opened(AT_FDCWD, p, O_CREAT | O_WRONLY | O_TRUNC, mode); }

static void wrote(int fd, const void *data, ssize_t n, off_t offset) {
    int kept = errno;
    char path[PATH_MAX];
    if (n > 0 && fd != trace && where(fd, path)) {
        if (offset < 0) offset = lseek(fd, 0, SEEK_CUR) - n;
        record('W', (uint64_t)offset, path, data, (uint64_t)n);
    }
    errno = kept;
}

ssize_t write(int fd, const void *data, size_t len) {
    if (!root || fd <= 2) return real_write(fd, data, len);
    pthread_mutex_lock(&turn);
    ssize_t n = real_write(fd, data, len);
    wrote(fd, data, n, -1);
    pthread_mutex_unlock(&turn);
    return n;
}
/* A short result is allowed: the caller writes the rest. */
ssize_t writev(int fd, const struct iovec *v, int n) {
    if (!root || fd <= 2) return real_writev(fd, v, n);
    for (int i = 0; i < n; i++) if (v[i].iov_len) return write(fd, v[i].iov_base, v[i].iov_len);
    return 0;
}
ssize_t pwrite(int fd, const void *data, size_t len, off_t offset) {
    pthread_mutex_lock(&turn);
    ssize_t n = real_pwrite(fd, data, len, offset);
    wrote(fd, data, n, offset);
    pthread_mutex_unlock(&turn);
    return n;
}
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset) { return pwrite(fd, data, len, offset); }

static int synced(int fd, int (*real)(int)) {
    char path[PATH_MAX];
    pthread_mutex_lock(&turn);
    int there = where(fd, path), result;
    if (there && fail_sync && ++syncs >= fail_sync) { result = -1; errno = EIO; }
    else result = real(fd);
    int kept = errno;
    if (there && result == 0) record('S', 0, path, "", 0);
    pthread_mutex_unlock(&turn);
    errno = kept;
    return result;
}
int fsync(int fd) { return synced(fd, real_fsync); }
int fdatasync(int fd) { return synced(fd, real_fdatasync); }
/* Starts writing out, makes nothing durable: no sync in the model. */
int sync_file_range(int fd, off_t offset, off_t n, unsigned flags) { return real_sync_file_range(fd, offset, n, flags); }

int ftruncate(int fd, off_t len) {
    char path[PATH_MAX];
    pthread_mutex_lock(&turn);
    int result = real_ftruncate(fd, len), kept = errno;
    if (result == 0 && where(fd, path)) record('T', (uint64_t)len, path, "", 0);
    pthread_mutex_unlock(&turn);
    errno = kept;
    return result;
}
int ftruncate64(int fd, off64_t len) { return ftruncate(fd, len); }

int rename(const char *from, const char *to) {
    pthread_mutex_lock(&turn);
    int result = real_rename(from, to), kept = errno;
    if (result == 0 && ours(from)) record('R', 0, from, to, strlen(to));
    pthread_mutex_unlock(&turn);
    errno = kept;
    return result;
}

int unlink(const char *path) {
    pthread_mutex_lock(&turn);
    int result = real_unlink(path), kept = errno;
    if (result == 0 && ours(path)) record('U', 0, path, "", 0);
    pthread_mutex_unlock(&turn);
    errno = kept;
    return result;
}
