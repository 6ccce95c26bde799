/* Threads that share the work of one call, and memory that calls use again.
 *
 * Threads look for work for some microseconds, then sleep: on shared cores waiting threads must not keep others from
 * running. One call at a time has them; a call from another thread meanwhile does its work alone. A process that was
 * forked starts threads of its own. */
#ifndef PUFFER_IL_POOL_H
#define PUFFER_IL_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_THREADS = 256, LOOKS = 4000 };  // looks for work before a thread sleeps, some 20 to 50 microseconds

typedef void (*Task)(void *context, int64_t index, int thread);

typedef struct {
    pthread_mutex_t busy, lock;
    pthread_cond_t wake, done;
    pid_t process;
    int threads;              // that have been started
    atomic_long round;        // raised for each call
    atomic_int wanted;        // threads of this call that have not yet come for it
    atomic_int working;       // threads still in it
    atomic_long next;
    int64_t count;
    Task task;
    void *context;
} Pool;

/* A call's hold on the pool and its memory. */
typedef struct {
    bool alone;
    int threads;
    void *memory;
} Work;

static Pool pool = {.busy = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER,
                    .wake = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
static void *pool_memory;
static size_t pool_bytes;

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static inline void take_tasks(int thread) {
    for (int64_t i; (i = atomic_fetch_add(&pool.next, 1)) < pool.count;)
        pool.task(pool.context, i, thread);
}

static void *pool_thread(void *unused) {
    (void)unused;
    long seen = 0;
    for (;;) {
        for (int look = 0; look < LOOKS && atomic_load(&pool.round) == seen; look++)
            relax();
        if (atomic_load(&pool.round) == seen) {
            pthread_mutex_lock(&pool.lock);
            while (atomic_load(&pool.round) == seen)
                pthread_cond_wait(&pool.wake, &pool.lock);
            pthread_mutex_unlock(&pool.lock);
        }
        seen = atomic_load(&pool.round);
        const int ticket = atomic_fetch_sub(&pool.wanted, 1);
        if (ticket <= 0)
            continue;
        take_tasks(ticket);
        if (atomic_fetch_sub(&pool.working, 1) == 1) {
            pthread_mutex_lock(&pool.lock);
            pthread_cond_signal(&pool.done);
            pthread_mutex_unlock(&pool.lock);
        }
    }
    return NULL;
}

/* Threads that could be started, up to `wanted` besides the caller. */
static int start_threads(int wanted) {
    if (pool.process != getpid()) {
        pool.process = getpid();
        pool.threads = 0;
        // Whoever slept at these, or held the lock, was left behind.
        pool.wake = pool.done = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
        pool.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    }
    while (pool.threads < wanted) {
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        const int failed = pthread_create(&thread, &attributes, pool_thread, NULL);
        pthread_attr_destroy(&attributes);
        if (failed)
            break;
        pool.threads++;
    }
    return pool.threads < wanted ? pool.threads : wanted;
}

static inline void *aligned_memory(size_t bytes) {
    return aligned_alloc(64, (bytes + 4095) / 4096 * 4096);
}

/* Takes the pool, with at most `threads` threads and `bytes` of memory (NULL if there is none). Every begin is followed
 * by an end. */
static Work begin_work(int threads, size_t bytes) {
    Work work = {.alone = pthread_mutex_trylock(&pool.busy) != 0, .threads = 1};
    if (work.alone) {
        work.memory = aligned_memory(bytes);
        return work;
    }
    if (bytes > pool_bytes) {
        free(pool_memory);
        pool_memory = aligned_memory(bytes);
        pool_bytes = pool_memory ? bytes : 0;
    }
    work.memory = pool_memory;
    work.threads = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
    return work;
}

/* task(context, i, thread) for i in [0, count), each once, thread < work->threads telling who runs it. */
static void run_tasks(const Work *work, int64_t count, Task task, void *context) {
    int helpers = work->threads - 1 < count - 1 ? work->threads - 1 : (int)(count - 1);
    if (helpers > 0 && !work->alone)
        helpers = start_threads(helpers);
    if (helpers <= 0 || work->alone) {
        for (int64_t i = 0; i < count; i++)
            task(context, i, 0);
        return;
    }
    pool.task = task;
    pool.context = context;
    pool.count = count;
    atomic_store(&pool.next, 0);
    atomic_store(&pool.working, helpers);
    atomic_store(&pool.wanted, helpers);
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.round, 1);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    take_tasks(0);
    // Whoever has not come by now need not come any more.
    const int absent = atomic_exchange(&pool.wanted, 0);
    if (absent > 0)
        atomic_fetch_sub(&pool.working, absent);
    for (int look = 0; look < LOOKS && atomic_load(&pool.working) > 0; look++)
        relax();
    if (atomic_load(&pool.working) > 0) {
        pthread_mutex_lock(&pool.lock);
        while (atomic_load(&pool.working) > 0)
            pthread_cond_wait(&pool.done, &pool.lock);
        pthread_mutex_unlock(&pool.lock);
    }
}

static void end_work(Work *work) {
    if (work->alone)
        free(work->memory);
    else
        pthread_mutex_unlock(&pool.busy);
}

#endif
