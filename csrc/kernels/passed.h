/* Passes over rows that lie in a mapped file, which may be larger than memory: what was passed does not stay resident. */
#ifndef PUFFER_IL_PASSED_H
#define PUFFER_IL_PASSED_H

#include <sys/mman.h>

#include "pool.h"

enum {
    PASSED_BYTES = 1 << 27,  // of rows between two times that the mapping's pages are let go of
    AROUND = 1 << 21,        // bytes that the system may map together where one of them is asked for
};

/* Takes `bytes` of a mapped file from `from` on out of the process's memory; they are read again where they are asked
 * for. Only for what is never written to: of a private mapping, changes would be lost. */
static inline void let_go(const void *from, int64_t bytes) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)from & ~(page - 1);
    if (bytes > 0)
        madvise((void *)begin, (uintptr_t)from + (uintptr_t)bytes - begin, MADV_DONTNEED);
}

typedef struct {
    Task task;
    void *context;
    int64_t first;
} PassedTasks;

static void passed_task(void *context, int64_t index, int thread) {
    const PassedTasks *some = context;
    some->task(some->context, some->first + index, thread);
}

/* Tasks `first` to before `stop`, after which the `mapped` bytes from `rows` on are let go of. */
static void run_passed(const Work *work, int64_t first, int64_t stop, Task task, void *context, const void *rows,
                       int64_t mapped) {
    PassedTasks some = {task, context, first};
    run_tasks(work, stop - first, passed_task, &some);
    let_go(rows, mapped);
}

/* As run_tasks, of tasks that read `bytes` each of the rows from `rows` on, of which `mapped` bytes lie in a mapped file
 * (0: none). The tasks are the same, and so is what they sum up. */
static void run_pass(const Work *work, int64_t count, Task task, void *context, int64_t bytes, const void *rows,
                     int64_t mapped) {
    const int64_t few = PASSED_BYTES / bytes, least_few = few > work->threads ? few : work->threads;
    const int64_t together = mapped ? least_few : count;
    for (int64_t first = 0; first < count; first += together)
        run_passed(work, first, first + together < count ? first + together : count, task, context, rows, mapped);
}

#endif
