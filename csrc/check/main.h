/* The program of `env check`, at the end of a generated translation unit:
 *
 *     program INPUT REPORT TRACE FILL SECONDS PATIENCE all|run|crafted
 *
 * INPUT holds the parameters, the arrays and the observations' bounds; REPORT gets a line for all that is found, its
 * fields between tabs; TRACE hashes of every step; FILL is the byte that memory holds before it is written. A program
 * that does not end by itself within PATIENCE seconds of work in one function ends, and says where it is. */
#ifndef PUFFER_IL_CHECK_MAIN_H
#define PUFFER_IL_CHECK_MAIN_H

#include <signal.h>
#include <sys/time.h>

#include "crafted.h"
#include "hooks.h"

enum { CHECK_TICKS = 10, CHECK_LONG_WAIT = 12 };  // of the watchdog per second; seconds

static int64_t check_patience;  // ticks

static void check_tell_where(const char *how) {
    check_say("died\t%s\t%s\t%s\t%lld", how, check_where.phase, check_where.function, (long long)check_where.step);
}

#if CHECK_SANITIZED
void __sanitizer_set_death_callback(void (*callback)(void));
void __sanitizer_print_stack_trace(void);
int __asan_report_present(void);
void *__asan_get_report_address(void);
size_t __asan_get_report_access_size(void);

static void check_sanitizer_died(void) {
    check_done = true;
    check_tell_where("sanitizer");
    if (__asan_report_present())
        check_tell_region(__asan_get_report_address(), __asan_get_report_access_size());
}
#endif

static void check_died(int number) {
    static const struct {
        int number;
        const char *name;
    } names[] = {{SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"}, {SIGFPE, "SIGFPE"}, {SIGILL, "SIGILL"},
                 {SIGABRT, "SIGABRT"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == number)
            check_tell_where(names[i].name);
    _Exit(5);
}

/* Called ten times in a second of processor time. */
static void check_tick(int number) {
    static int64_t calls = -1, idle;
    (void)number;
    idle = calls == check_where.calls ? idle + 1 : 0;
    calls = check_where.calls;
    if (idle > check_patience) {
        check_tell_where("endless");
#if CHECK_SANITIZED
        __sanitizer_print_stack_trace();
#endif
        _Exit(6);
    }
}

/* Called every second, so that what waits is found as well. */
static void check_second(int number) {
    static int64_t calls = -1, idle;
    (void)number;
    idle = calls == check_where.calls ? idle + 1 : 0;
    calls = check_where.calls;
    if (idle >= CHECK_LONG_WAIT) {
        check_tell_where("blocked");
        _Exit(6);
    }
}

static void check_exited(void) {
    if (!check_done)
        check_tell_where("exit");
}

static void check_watch(void) {
    static uint8_t stack[1 << 16];  // for the handler, if the program's own has run out
    const int deadly[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
#if CHECK_SANITIZED
    __sanitizer_set_death_callback(check_sanitizer_died);
#else
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++)
        sigaction(deadly[i], &(struct sigaction){.sa_handler = check_died, .sa_flags = SA_ONSTACK}, NULL);
#endif
    (void)stack, (void)deadly, (void)check_died;
    atexit(check_exited);
    sigaction(SIGPROF, &(struct sigaction){.sa_handler = check_tick, .sa_flags = SA_RESTART}, NULL);
    const struct timeval tick = {0, 1000000 / CHECK_TICKS};
    setitimer(ITIMER_PROF, &(struct itimerval){tick, tick}, NULL);
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = check_second, .sa_flags = SA_RESTART}, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){{1, 0}, {1, 0}}, NULL);
}

static void check_read(FILE *input, void *to, size_t bytes) {
    if (bytes && fread(to, bytes, 1, input) != 1)
        check_quit(4);
}

static Params *check_read_input(FILE *input) {
    Params *params = check_new("params", check_api->params_bytes);
    check_read(input, params, (size_t)check_api->params_bytes);
    struct {
        void *at;
        int64_t count;
    } *arrays = check_new("data", check_api->data_bytes);
    memset(arrays, 0, (size_t)check_api->data_bytes);
    for (int64_t i = 0; i < check_api->data_bytes / (int64_t)sizeof *arrays; i++) {
        int64_t bytes;
        check_read(input, &bytes, sizeof bytes);
        check_read(input, &arrays[i].count, sizeof arrays[i].count);
        arrays[i].at = check_new("data", bytes);
        check_read(input, arrays[i].at, (size_t)bytes);
    }
    double *bounds = check_new("bounds", 2 * ENV_OBS_SIZE * (int64_t)sizeof(double));
    check_read(input, bounds, 2 * ENV_OBS_SIZE * sizeof(double));
    check_data = arrays;
    check_low = bounds;
    check_high = bounds + ENV_OBS_SIZE;
    return params;
}

/* A hash of what is the same for all and may not be written. */
static uint64_t check_constants(void) {
    uint64_t hash = check_hash(0, check_params, (size_t)check_api->params_bytes);
    for (int i = 0; i < check_used; i++)
        if (!strcmp(check_blocks[i].name, "data"))
            hash = check_hash(hash, check_blocks[i].at, check_blocks[i].size);
    return hash;
}

int main(int argc, char **argv) {
    if (argc != 8)
        return 4;
    FILE *input = fopen(argv[1], "rb"), *trace = fopen(argv[3], "wb");
    check_out = fopen(argv[2], "w");
    if (!input || !check_out || !trace)
        return 4;
    check_fill = (int)strtol(argv[4], NULL, 0);
    const double seconds = strtod(argv[5], NULL);
    check_patience = (int64_t)(strtod(argv[6], NULL) * CHECK_TICKS);
    check_watch();
    Params *params = check_read_input(input), *short_params = check_new("params", check_api->params_bytes);
    memcpy(short_params, params, sizeof *params);
    short_params->max_episode_steps = ENV_AUTORESET ? 37 : 0;
    check_params = params;
    check_short_params = short_params;
    VecEnv first = {.params = params, .data = check_data};
    const char *wrong = check_api->share ? check_api->share(&first) : NULL;
    if (wrong) {
        check_say("refused\tc_share\t%s", wrong);
        check_quit(3);
    }
    check_shared = first.shared;
    const uint64_t before = check_constants();
    if (strcmp(argv[7], "crafted"))
        check_run(trace, seconds / 2);
    else
        check_crafted(seconds);
    if (!strcmp(argv[7], "all")) {
        check_sharing(seconds / 8);
        check_resets(seconds / 8);
        check_states(seconds / 8);
        check_idle(seconds / 8);
        check_walks(seconds / 3 > 0.15 ? seconds / 3 : 0.15);
        check_expert(seconds / 8);
        check_render(seconds / 8);
        check_fresh_memory(seconds / 8);
    }
    if (check_constants() != before)
        check_say("changed\tit\tparams or data");
    if (check_api->unshare)
        check_api->unshare(&first);
    check_guards();
    check_say("done");
    check_done = true;
    return 0;
}

#endif
