/*
 * A disk that fails, is slow, and remembers: LD_PRELOAD of the service under test. Linux.
 *
 * It looks at the calls that write to or flush the database's files (those whose name ends in .db, -wal or -journal) and does two
 * things with them:
 *
 *  - it follows a plan: a file of 64-bit integers named by FAULTY_DISK_PLAN, mapped into both this process and the one that runs the
 *    test, so that the plan can be changed at any time (`struct plan`): let the n-th matching call fail, be slow, or be the last
 *    thing that the process does;
 *  - it writes down, in the file named by FAULTY_DISK_LOG, what reached the disk and when: every write with its bytes, every flush,
 *    and the answers that leave for clients, in one order (`struct record`). From that a test makes the disk as a power cut would
 *    have left it, at any moment.
 *
 * What a record says has happened has happened, except answers: they are written down before they leave, so that whatever has to be
 * durable by then stands before them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SYNC = 1, WRITE = 2, TRUNCATE = 4, UNLINK = 8 };   /* kinds of calls, as bits */
enum { DATABASE = 1, WAL = 2 };                           /* files, as bits */
enum { FAIL = 0, KILL = 1, DELAY = 2 };                   /* what befalls a call */

struct plan {
    int64_t calls;        /* which kinds of calls, as bits; 0: none */
    int64_t files;        /* of which files, as bits */
    int64_t first, last;  /* the matching calls that it befalls, counted from 1 */
    int64_t action;
    int64_t error;        /* errno of those that fail */
    int64_t delay_us;
    _Atomic int64_t seen; /* matching calls so far */
    _Atomic int64_t hit;  /* how many of them it befell */
};

struct record {
    int32_t kind;         /* 'W'rite, 'T'runcate, 'S'ync, 'F'ailed sync, 'U'nlink, 'A'nswer */
    int32_t file;         /* DATABASE or WAL; 0 with an answer */
    int64_t offset;       /* of a write; the new length of a truncated file */
    int64_t length;       /* bytes that follow */
};

static struct plan *plan;
static int log_file = -1;

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("FAULTY_DISK_PLAN");
    int file = name ? open(name, O_RDWR) : -1;
    if (file >= 0) {
        void *mapped = mmap(NULL, sizeof(struct plan), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        plan = mapped == MAP_FAILED ? NULL : mapped;
        close(file);
    }
    name = getenv("FAULTY_DISK_LOG");
    if (name)
        log_file = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

#define REAL(type, name, ...)                          \
    static type (*name##_)(__VA_ARGS__);               \
    if (!name##_)                                      \
        name##_ = (type(*)(__VA_ARGS__))real(#name)

static int ends_in(const char *name, const char *end)
{
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && !strcmp(name + length - tail, end);
}

static int file_by_name(const char *name)
{
    return ends_in(name, ".db") ? DATABASE : ends_in(name, "-wal") ? WAL : 0;
}

static int file_of(int descriptor)
{
    char link[40], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length <= 0)
        return 0;
    name[length] = 0;
    return file_by_name(name);
}

/* One record in one call: appends of several threads never mix. */
static void note(int kind, int file, int64_t offset, const struct iovec *parts, int count)
{
    struct record record = {kind, file, offset, 0};
    struct iovec all[65] = {{&record, sizeof record}};
    if (log_file < 0)
        return;
    for (int i = 0; i < count && i < 64; i++) {
        all[i + 1] = parts[i];
        record.length += (int64_t)parts[i].iov_len;
    }
    if (syscall(SYS_writev, log_file, all, (count < 64 ? count : 64) + 1) < 0)
        abort(); /* a log with holes proves nothing */
}

/* What the plan has for this call: 0 to go on, or the errno to fail with. */
static int befallen(int call, int file)
{
    if (!plan || !(plan->calls & call) || !(plan->files & file))
        return 0;
    int64_t number = atomic_fetch_add(&plan->seen, 1) + 1;
    if (number < plan->first || number > plan->last)
        return 0;
    atomic_fetch_add(&plan->hit, 1);
    if (plan->action == KILL)
        kill(getpid(), SIGKILL);
    if (plan->action == DELAY)
        usleep((useconds_t)plan->delay_us);
    return plan->action == FAIL ? (int)plan->error : 0;
}

static int flush(int descriptor, int (*really)(int))
{
    int file = file_of(descriptor);
    if (!file)
        return really(descriptor);
    errno = befallen(SYNC, file);
    int result = errno ? -1 : really(descriptor), error = errno;
    note(result ? 'F' : 'S', file, 0, NULL, 0);
    errno = error;
    return result;
}

int fsync(int descriptor)
{
    REAL(int, fsync, int);
    return flush(descriptor, fsync_);
}

int fdatasync(int descriptor)
{
    REAL(int, fdatasync, int);
    return flush(descriptor, fdatasync_);
}

ssize_t pwrite64(int descriptor, const void *data, size_t length, off64_t offset)
{
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    int file = file_of(descriptor);
    if (file && (errno = befallen(WRITE, file)))
        return -1;
    ssize_t written = pwrite64_(descriptor, data, length, offset);
    if (file && written > 0) {
        struct iovec part = {(void *)data, (size_t)written};
        note('W', file, offset, &part, 1);
    }
    return written;
}

ssize_t pwrite(int descriptor, const void *data, size_t length, off_t offset)
{
    return pwrite64(descriptor, data, length, offset);
}

int ftruncate64(int descriptor, off64_t length)
{
    REAL(int, ftruncate64, int, off64_t);
    int file = file_of(descriptor);
    if (file && (errno = befallen(TRUNCATE, file)))
        return -1;
    int result = ftruncate64_(descriptor, length);
    if (file && !result)
        note('T', file, length, NULL, 0);
    return result;
}

int ftruncate(int descriptor, off_t length)
{
    return ftruncate64(descriptor, length);
}

int unlink(const char *name)
{
    REAL(int, unlink, const char *);
    int file = file_by_name(name);
    if (file && (errno = befallen(UNLINK, file)))
        return -1;
    int result = unlink_(name);
    if (file && !result)
        note('U', file, 0, NULL, 0);
    return result;
}

/* Answers: whatever leaves through a socket. */

static int is_socket(int descriptor)
{
    struct stat found;
    return log_file >= 0 && !fstat(descriptor, &found) && S_ISSOCK(found.st_mode);
}

ssize_t write(int descriptor, const void *data, size_t length)
{
    REAL(ssize_t, write, int, const void *, size_t);
    if (is_socket(descriptor)) {
        struct iovec part = {(void *)data, length};
        note('A', 0, 0, &part, 1);
    }
    return write_(descriptor, data, length);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    REAL(ssize_t, writev, int, const struct iovec *, int);
    if (is_socket(descriptor))
        note('A', 0, 0, parts, count);
    return writev_(descriptor, parts, count);
}

ssize_t sendmsg(int descriptor, const struct msghdr *message, int flags)
{
    REAL(ssize_t, sendmsg, int, const struct msghdr *, int);
    if (is_socket(descriptor))
        note('A', 0, 0, message->msg_iov, (int)message->msg_iovlen);
    return sendmsg_(descriptor, message, flags);
}

ssize_t send(int descriptor, const void *data, size_t length, int flags)
{
    REAL(ssize_t, send, int, const void *, size_t, int);
    if (is_socket(descriptor)) {
        struct iovec part = {(void *)data, length};
        note('A', 0, 0, &part, 1);
    }
    return send_(descriptor, data, length, flags);
}
