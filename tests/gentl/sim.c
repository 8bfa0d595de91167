/* Lock, time and ledger: see sim.h. */
#include "sim.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

pthread_mutex_t sim_lock = PTHREAD_MUTEX_INITIALIZER;

static int ledger_fd = -1;

int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

void condition_init(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

bool wait_until(pthread_cond_t *condition, int64_t until_ns) {
    if (until_ns == NEVER) {
        pthread_cond_wait(condition, &sim_lock);
        return true;
    }
    if (now_ns() >= until_ns) return false;
    struct timespec until = {.tv_sec = until_ns / NS_PER_S, .tv_nsec = until_ns % NS_PER_S};
    pthread_cond_timedwait(condition, &sim_lock, &until);
    return true;
}

bool thread_start(pthread_t *thread, void *(*body)(void *), void *argument) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(thread, NULL, body, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return !failed;
}

void ledger_open(void) {
    const char *path = getenv("SEALREC_SIM_LEDGER");
    if (path && *path) ledger_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
}

void ledger_close(void) {
    if (ledger_fd >= 0) close(ledger_fd);
    ledger_fd = -1;
}

static void ledger_write(const char *row, int length, size_t room) {
    if (ledger_fd < 0 || length <= 0) return;
    const size_t size = (size_t)length < room ? (size_t)length : room - 1;
    /* O_APPEND makes one write one whole row, also beside other processes' rows. */
    if (write(ledger_fd, row, size) < 0) perror("SEALREC_SIM_LEDGER");
}

void ledger_frame(int camera, const char *what, int64_t acquisition, int64_t frame_id,
                  int64_t timestamp_ns, const char *detail) {
    char row[256];
    const int length = snprintf(row, sizeof row,
                                "%" PRId64 ",%d,%d,%s,%" PRId64 ",%" PRId64 ",%" PRId64 ",%s\n",
                                now_ns(), (int)getpid(), camera, what, acquisition, frame_id,
                                timestamp_ns, detail);
    ledger_write(row, length, sizeof row);
}

void ledger_event(int camera, const char *what, const char *detail) {
    char row[256];
    const int length = snprintf(row, sizeof row, "%" PRId64 ",%d,%d,%s,,,,%s\n", now_ns(),
                                (int)getpid(), camera, what, detail);
    ledger_write(row, length, sizeof row);
}
