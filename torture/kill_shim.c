/* Preloaded into a process, it kills the process at its n-th call that writes since
   `kill_shim_arm(n, after)`: before that call, or right after it. `kill_shim_count()` says how many
   there were. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;
static long fatal;
static int is_after;

void kill_shim_arm(long number, int after) {
    fatal = 0;
    atomic_store(&calls, 0);
    is_after = after;
    fatal = number;
}

long kill_shim_count(void) { return atomic_load(&calls); }

static void die_if(int is_now) {
    if (is_now) kill(getpid(), SIGKILL);
}

#define KILLING(type, name, parameters, arguments)             \
    type name parameters {                                     \
        static type(*real) parameters;                         \
        if (!real) real = dlsym(RTLD_NEXT, #name);             \
        int is_last = atomic_fetch_add(&calls, 1) + 1 == fatal; \
        die_if(is_last && !is_after);                          \
        type result = real arguments;                          \
        die_if(is_last && is_after);                           \
        return result;                                         \
    }

KILLING(ssize_t, write, (int file, const void *data, size_t size), (file, data, size))
KILLING(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
KILLING(ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at))
KILLING(ssize_t, send, (int file, const void *data, size_t size, int flags), (file, data, size, flags))
KILLING(ssize_t, sendto,
        (int file, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length),
        (file, data, size, flags, to, length))
KILLING(int, fsync, (int file), (file))
KILLING(int, fdatasync, (int file), (file))
KILLING(int, ftruncate, (int file, off_t size), (file, size))
KILLING(int, ftruncate64, (int file, off64_t size), (file, size))
KILLING(int, unlink, (const char *path), (path))
