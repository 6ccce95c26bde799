/* The contract of an environment. `<name>.h` includes this file and defines
 *
 *     typedef struct { … } Env;                     its state: plain values, no pointers
 *     static inline void c_reset(Env *env, Io io);  starts an episode and writes its first observations
 *     static inline void c_step(Env *env, Io io);   one step with io.actions
 *
 * Before it, glue.py generates from env.toml: the constants ENV_AGENTS, ENV_OBS_SIZE and ENV_ACTION_SIZE, the types
 * Obs and Action of one element, and the structs
 *     Params  a field per parameter: int64_t for true or false, whole numbers and choices (enum { NAME_CHOICE, … }),
 *             double for numbers
 *     Data    for each array `x` of [data]: its first element `x` and its number of elements `x_size`
 *     Log     a float per name in `log`
 * There may be no global state and no rand(): whatever changes lives in Env, whatever is random comes from io.rng.
 *
 * The glue does the rest: it clips actions into their bounds (a NaN becomes the lower one), clears rewards and ends
 * before c_step, cuts episodes at the time limit, keeps final observations, and starts the next episode: where c_reset
 * says or, after it, in a state that c_set_state is given.
 *
 * More functions may be there, and the glue finds them by their names:
 *
 *     static inline void c_expert(const Env *env, Io io, Action *actions);
 *         What a scripted expert does now, [ENV_AGENTS][ENV_ACTION_SIZE]. io.rng is a generator of the expert's own.
 *     static inline void c_get_state(const Env *env, Io io, double *state);
 *     static inline void c_set_state(Env *env, Io io, const double *state);
 *         All of an episode's state but generator and clock as `state` numbers (env.toml). Setting it writes the
 *         observations, and the environment then goes on to the bit as the one that it was got from. The numbers may come
 *         from somebody's file: clip what becomes an index, a count or an integer, for nothing may be written or read
 *         elsewhere, whatever they are; the caller refuses a state that is not the same when it is got again. Both may be left
 *         out where Env has only fields of type double, as many as `state` says, and c_observe is there: Env is copied.
 *     static inline void c_observe(const Env *env, Io io);
 *         Writes the observations.
 *     static inline void c_mask(const Env *env, Io io, uint8_t *mask);
 *         Which actions may be taken now, [ENV_AGENTS][ENV_CHOICES], the choices of each part of a discrete action side by
 *         side: all are 1 when it is called, and a 0 is written for what may not be done (vec_mask.h).
 *     static void c_render(const Env *env, Io io, Canvas *canvas);
 *         A picture of [render] width × height (canvas.h).
 *     static const char *c_share(const Params *params, const Data *data, void **shared);
 *     static void c_unshare(void *shared);
 *         Once for all environments of a batch: what they share, read-only, as io.shared. An error is one line of
 *         static text, NULL if all is well.
 *     static const char *c_open(Env *env, Io io);
 *     static void c_close(Env *env);
 *         Once for each environment: memory of its own, to which Env may then point. c_get_state and c_set_state must
 *         be there too, because copying the bytes of Env no longer saves it.
 *
 * io.observations are the current ones in all of them, and io.actions, in c_render, those of the last step as they were
 * given; c_expert, c_get_state and c_render change nothing. */
#ifndef PUFFER_IL_ENV_H
#define PUFFER_IL_ENV_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "canvas.h"
#include "rng.h"

/* A second copy of a function for processors with AVX2, chosen at load time; without fused operations both give the same
 * bits. c_step has it as a part of the batch loop. What is too large to become a part of that asks for a copy itself. */
#if defined(__SANITIZE_THREAD__)  // is not there yet when the choice is made
#define CLONED
#elif defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define CLONED __attribute__((target_clones("avx2", "default")))
#else
#define CLONED
#endif

/* All that an environment may touch besides its own struct. */
typedef struct {
    const Params *params;
    const Data *data;
    void *shared;             // from c_share
    Rng *rng;
    Log *log;                 // of the running episode, zero when it starts; the mean over episodes is reported
    const Action *actions;    // [ENV_AGENTS][ENV_ACTION_SIZE]; not there in c_reset
    const Action *given;      // in c_step the same before they were clipped, for what charges for that; never a NaN.
                              // The clipped ones where the caller wants it so, as training does
    Obs *observations;        // [ENV_AGENTS][ENV_OBS_SIZE] to be written
    Obs *final_observations;  // the same; only where env.toml says autoreset = false: c_step then restarts the agents
                              // that it ends, and writes here what they saw last
    float *rewards;           // [ENV_AGENTS] to be written by c_step, as are
    bool *terminations;       // [ENV_AGENTS] the agent's episode is over
    bool *truncations;        // [ENV_AGENTS] it is cut short, for a reason other than the time limit
} Io;

/* x in [low, high]; a NaN becomes low. */
static inline double clip(double x, double low, double high) {
    x = x > low ? x : low;
    return x < high ? x : high;
}

#endif
