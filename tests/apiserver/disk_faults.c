/* What a process under test is told by its disk and its clock: preloaded by tests/apiserver/test_log_faults.py.
 *
 * FAULTS names a file of three 64-bit numbers that the test writes at any time: read-only (0 or 1), milliseconds that a sync
 * takes, seconds by which the wall clock is off. They hold for the folder FAULTS_UNDER alone; the clock is everybody's.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t nothing[3];
static volatile int64_t *told = nothing;
static const char *under = "";
enum { READ_ONLY, SYNC_MILLISECONDS, CLOCK_SECONDS };

__attribute__((constructor)) static void begin(void) {
    const char *control = getenv("FAULTS"), *folder = getenv("FAULTS_UNDER");
    int fd = control && folder ? (int)syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof nothing, PROT_READ, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) {
        under = strdup(folder);
        told = map;
    }
    close(fd);
}

static int path_is_under(const char *path) {
    return *under && path && strncmp(path, under, strlen(under)) == 0;
}

static int is_under(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return path_is_under(path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define REFUSE(condition) \
    if (told[READ_ONLY] && (condition)) { \
        errno = EROFS; \
        return -1; \
    }

static int opened(const char *path, int flags, mode_t mode) {
    REFUSE((flags & (O_WRONLY | O_RDWR | O_CREAT)) && path_is_under(path))
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = (flags & O_CREAT) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        return opened(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *data, size_t size) {
    REFUSE(is_under(fd))
    return syscall(SYS_write, fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REFUSE(is_under(fd))
    return syscall(SYS_pwrite64, fd, data, size, at);
}

int ftruncate64(int fd, off64_t size) {
    REFUSE(is_under(fd))
    return (int)syscall(SYS_ftruncate, fd, size);
}

int unlink(const char *path) {
    REFUSE(path_is_under(path))
    return REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode) {
    REFUSE(path_is_under(path))
    return REAL(mkdir)(path, mode);
}

int rmdir(const char *path) {
    REFUSE(path_is_under(path))
    return REAL(rmdir)(path);
}

int fdatasync(int fd) {
    if (is_under(fd))
        for (int64_t waited = 0; waited < told[SYNC_MILLISECONDS]; waited += 20)
            usleep(20000);
    return (int)syscall(SYS_fdatasync, fd);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = (int)syscall(SYS_clock_gettime, clock, now);
    if (done == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += told[CLOCK_SECONDS];
    return done;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into)
        *into = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict into, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    into->tv_sec = now.tv_sec;
    into->tv_usec = now.tv_nsec / 1000;
    return 0;
}
