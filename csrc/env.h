/* The contract of an environment. `<name>.h` includes this file and defines
 *
 *     typedef struct { … } Env;                     its state: plain values, no pointers
 *     static inline void c_reset(Env *env, Io io);  starts an episode and writes its first observations
 *     static inline void c_step(Env *env, Io io);   one step with io.actions
 *
 * Before it, glue.py generates from env.toml: the constants ENV_AGENTS, ENV_OBS_SIZE and ENV_ACTION_SIZE, the types
 * Obs and Action of one element, and the struct Params with a field per parameter. There may be no global state and
 * no rand(): whatever changes lives in Env, whatever is random comes from io.rng.
 *
 * The glue does the rest: it clips actions into their bounds (a NaN becomes the lower one), clears rewards and ends
 * before c_step, cuts episodes at the time limit, keeps final observations, and starts the next episode. */
#ifndef PUFFER_IL_ENV_H
#define PUFFER_IL_ENV_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "rng.h"

/* All that an environment may touch besides its own struct. */
typedef struct {
    const Params *params;
    Rng *rng;
    const Action *actions;    // [ENV_AGENTS][ENV_ACTION_SIZE]; not there in c_reset
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
