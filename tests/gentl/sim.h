/* What the modules of the simulated camera share: the one lock, time, the ledger and the limits.
 *
 * Every exported GenTL function holds sim_lock while it runs; so do the camera threads and the
 * script thread, except while pixels are copied. All waiting is done on condition variables that
 * release it. */
#ifndef SEALREC_SIM_H
#define SEALREC_SIM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum { MAX_CAMERAS = 8, MAX_BUFFERS = 512, MAX_EVENTS = 64, TEXT = 64 };

#define NS_PER_S 1000000000LL
#define NEVER INT64_MAX

extern pthread_mutex_t sim_lock;

/* CLOCK_MONOTONIC: on Linux the clock of Python's time.perf_counter_ns(). */
int64_t now_ns(void);

/* Condition variables on CLOCK_MONOTONIC. wait_until returns false once until_ns has passed. */
void condition_init(pthread_cond_t *condition);
bool wait_until(pthread_cond_t *condition, int64_t until_ns);

/* A thread that takes no signals: those belong to the program that loaded the library. */
bool thread_start(pthread_t *thread, void *(*body)(void *), void *argument);

/* The ledger named by SEALREC_SIM_LEDGER: one CSV row per write(2), so that no row is lost when the
 * process is killed. Columns: host_ns,pid,camera,what,acquisition,frame_id,timestamp_ns,detail. */
void ledger_open(void);
void ledger_close(void);
void ledger_frame(int camera, const char *what, int64_t acquisition, int64_t frame_id,
                  int64_t timestamp_ns, const char *detail);
void ledger_event(int camera, const char *what, const char *detail);

#endif
