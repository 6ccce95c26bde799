/* What a compiled environment offers to its callers, Python or C: one exported table, `vec_api`.
 *
 * A caller owns all memory. It fills a VecEnv, calls `share` and `open` where they are there, `seed` and `reset` once,
 * then writes actions and calls `step`. Every function with a range works on the environments [lo, hi) only, so that
 * threads can share a batch, and a caller that moves the buffers between calls (a copy of the VecEnv with other
 * pointers) has its rows written where it wants them. A row is one agent: row = environment * agents + agent.
 * Functions for which the environment has no hook (see env.h) are NULL. */
#ifndef PUFFER_IL_VEC_API_H
#define PUFFER_IL_VEC_API_H

#include <stdbool.h>
#include <stdint.h>

#define VEC_ABI_VERSION 4  // raise it with every change of these structs, in native/vec_api.py too

typedef struct {
    void *envs;                // num_envs * env_bytes: the states
    void *clocks;              // num_envs * clock_bytes: their generators and episode clocks. Both are plain values:
                               // copying the bytes of both saves and restores an environment exactly, unless it has
                               // memory of its own (`open`)
    const void *params;        // params_bytes, the same for all
    const void *data;          // data_bytes, the same for all: address and number of elements of each array
    void *shared;              // what `share` has made
    const void *actions;       // (rows, action_size) float or int32_t
    void *observations;        // (rows, obs_size)
    float *rewards;            // (rows,)
    bool *terminals;           // (rows,) the action ended the episode
    bool *truncations;         // (rows,) a limit cut it; never together with a termination
    bool *masks;               // (rows,) false where an agent was already gone and its action ignored
    void *final_observations;  // (rows, obs_size) written for rows that ended, otherwise left alone
    double *logs;              // (rows, 1 + log_size) of an environment's first agent: how many episodes have ended,
                               // and the sums of what they logged. NULL where log_size is 0
    const double *starts;      // (start_count, state_size): states in which episodes may begin, as of `get_state`. With
    int64_t start_count;       // start_share, an episode's probability to begin in one of them (each is as likely),
    double start_share;        // not where c_reset begins. 0: none does; not used where there is no `set_state`
} VecEnv;

typedef struct {
    int32_t abi_version;  // VEC_ABI_VERSION; read nothing else where it differs
    int32_t agents;
    int64_t env_bytes;     // one environment, as
    int64_t clock_bytes;
    int64_t params_bytes;
    int64_t data_bytes;
    int64_t obs_bytes;     // one row
    int64_t action_bytes;  // one row
    int64_t state_size;    // numbers of get_state
    int64_t log_size;
    int64_t render_width, render_height;
    const char *source_hash;  // of all that was compiled
    void (*seed)(const VecEnv *vec, uint64_t seed, uint64_t first_env, int64_t lo, int64_t hi);
    void (*reset)(const VecEnv *vec, int64_t lo, int64_t hi);
    void (*step)(const VecEnv *vec, int64_t lo, int64_t hi);  // under actions that are clipped into their bounds
    // under actions as they are, which an environment may charge for beyond their bounds; a NaN is the lower one
    void (*step_unclipped)(const VecEnv *vec, int64_t lo, int64_t hi);
    // (rows, action_size) float or int32_t for whole environments
    void (*expert)(const VecEnv *vec, void *actions, int64_t lo, int64_t hi);
    void (*get_state)(const VecEnv *vec, double *states, int64_t lo, int64_t hi);        // (num_envs, state_size)
    void (*set_state)(const VecEnv *vec, const double *states, int64_t lo, int64_t hi);
    void (*render)(const VecEnv *vec, int64_t env, uint8_t *pixels);                     // (height, width, 3)
    const char *(*share)(VecEnv *vec);  // NULL, or what is wrong, as for
    const char *(*open)(const VecEnv *vec, int64_t lo, int64_t hi);
    void (*close)(const VecEnv *vec, int64_t lo, int64_t hi);  // what `open` has opened
    void (*unshare)(VecEnv *vec);
} VecApi;

#endif
