/* A whole rollout of a compiled environment in one call: normalise, forward, sample, step, store, on threads.
 *
 * Environments are independent, so each slice of them goes through all steps by itself, and threads meet only at the
 * end. The environments write their observations, rewards and flags straight into the buffer. Row for row the result is
 * what stepping the whole vector gives: noise depends on (seed, step, row) alone. */
#ifndef PUFFER_IL_ROLLOUT_H
#define PUFFER_IL_ROLLOUT_H

#include "../vec_api.h"
#include "chunks.h"
#include "recall.h"

enum { SLICE_ROWS = 4 * BLOCK };

typedef void (*StepFunction)(const VecEnv *vec, int64_t lo, int64_t hi);

/* Where step t of row i goes: arrays (steps, rows, …) of the rollout buffer. */
typedef struct {
    char *obs;
    void *actions;
    float *rewards, *env_rewards, *logprobs, *values, *final_values;
    bool *terminations, *truncations, *valid, *episode_starts;
} RolloutArrays;

/* Episodes that ended in one slice, in the order of their ends. */
typedef struct {
    int64_t count, room;
    int64_t *index;     // step * rows + row
    double *returns;
    int64_t *lengths;
    char *final_obs;    // obs.bytes each
    double *logs;       // 1 + log_size each, if there are some: the environment's `vec.logs` thereafter
    float *states;      // of a policy with a memory, as many floats each as it remembers: what it did then
} Ends;

typedef struct {
    int networks;
    Pass pass[2];
    Observations obs;  // `data` is not used
    Distribution dist;
    Noise noise;
    Recall memory;     // without a state: the policy has none
    Chunks *chunks;    // of a policy that predicts by a mixture, a flow, or several steps; its likelihoods and values
                       // are written as 0. NULL: `dist` is all there is
    int32_t dims;      // numbers of an action
    int32_t log_size;  // numbers that an episode logs, of which `vec.logs` has the sums
    bool greedy;       // the likeliest action instead of a sample
    VecEnv vec;        // whose observations hold what to act on first, and at the end what follows
    StepFunction step;
    RolloutArrays to;
    int64_t steps, rows, agents, slice;
    bool *starts;      // (rows,) carried from one rollout to the next
    double *returns;
    int64_t *lengths;
    Ends *ends;        // one per slice
    atomic_bool failed;
} Rollout;

/* Room for twice as many ends; false if there is no memory, and then nothing is lost. */
static inline bool more_room(Ends *ends, size_t obs_bytes, size_t log_bytes, size_t state_bytes) {
    const size_t room = ends->room ? 2 * (size_t)ends->room : 64;
    void *more;
#define GROW(field, bytes) ((more = realloc(ends->field, room * (bytes))) != NULL && (ends->field = more, true))
    const bool grown = GROW(index, sizeof *ends->index) && GROW(returns, sizeof *ends->returns) &&
                       GROW(lengths, sizeof *ends->lengths) && GROW(final_obs, obs_bytes) &&
                       (log_bytes == 0 || GROW(logs, log_bytes)) && (state_bytes == 0 || GROW(states, state_bytes));
#undef GROW
    ends->room = grown ? (int64_t)room : ends->room;
    return grown;
}

static inline bool keep_end(Ends *ends, const Rollout *r, int64_t t, int64_t row) {
    const size_t bytes = (size_t)r->obs.bytes;
    const size_t logged = r->log_size ? (size_t)(1 + r->log_size) : 0;
    const size_t kept = r->memory.state ? (size_t)r->memory.plan.state : 0;
    if (ends->count == ends->room && !more_room(ends, bytes, sizeof(double) * logged, sizeof(float) * kept))
        return false;
    if (kept)
        memcpy(ends->states + (size_t)ends->count * kept, r->memory.state + (size_t)row * kept, sizeof(float) * kept);
    if (logged)
        memcpy(ends->logs + (size_t)ends->count * logged,
               r->vec.logs + (size_t)(row / r->agents * r->agents) * logged, sizeof(double) * logged);
    ends->index[ends->count] = t * r->rows + row;
    ends->returns[ends->count] = r->returns[row];
    ends->lengths[ends->count] = r->lengths[row];
    memcpy(ends->final_obs + (size_t)ends->count * bytes, (const char *)r->vec.final_observations + row * r->obs.bytes,
           bytes);
    ends->count++;
    return true;
}

/* Step t of rows [lo, hi): what is done there, how likely it was, what it is worth. */
static inline void act_rows(const Rollout *r, Scratch scratch[2], int64_t t, int64_t lo, int64_t hi, int thread) {
    const Kernels *kernels = r->pass[0].kernels;
    Scratch *actor = &scratch[0];
    const float *values = r->networks == 1 ? actor->outputs + (ptrdiff_t)r->dist.num_params * BLOCK
                                           : scratch[1].outputs;
    const int dims = r->dist.dims;
    Observations obs = r->obs;
    obs.data = r->to.obs + t * r->rows * obs.bytes;
    RowBlock block;
    for (int64_t first = lo; first < hi; first += BLOCK) {
        const int64_t count = least(BLOCK, hi - first), at = t * r->rows + first;
        const float *x = actor->x;
        int rows;
        if (r->memory.state)
            x = recall(&r->memory, kernels, &obs, r->starts, first, count, thread, &rows);
        else
            rows = read_observations(&obs, first, count, actor->x);
        for (int i = 0; i < r->networks; i++)
            kernels->block_forward(&r->pass[i].plan, r->pass[i].packed, x, scratch[i].tape, &scratch[i], rows);
        if (r->greedy)
            kernels->mode_block(&r->dist, actor->outputs, &block);
        else
            kernels->sample_block(&r->dist, actor->outputs, (Noise){r->noise.seed, r->noise.step + (uint64_t)t},
                                  (uint32_t)first, &block);
        memcpy(r->to.logprobs + at, block.logprobs, sizeof(float) * (size_t)count);
        memcpy(r->to.values + at, values, sizeof(float) * (size_t)count);
        int32_t *actions = (int32_t *)r->to.actions + at * dims;  // float ones are as wide
        for (int64_t i = 0; i < count; i++)
            for (int k = 0; k < dims; k++)
                actions[i * dims + k] = block.chosen[k][i];
    }
}

/* The same for a policy of `chunks`; the networks run for the blocks in which some row needs a new chunk. */
static inline void act_on_chunks(const Rollout *r, Scratch *scratch, int64_t t, int64_t lo, int64_t hi) {
    const Chunks *c = r->chunks;
    const Noise noise = {r->noise.seed, r->noise.step + (uint64_t)t};
    Observations obs = r->obs;
    obs.data = r->to.obs + t * r->rows * obs.bytes;
    RowBlock block;
    float action[MAX_DIMS];
    for (int64_t first = lo; first < hi; first += BLOCK) {
        const int64_t count = least(BLOCK, hi - first), at = t * r->rows + first;
        bool due = c->state_dim == 0 || c->ensemble > 0;
        for (int64_t i = 0; c->state_dim && i < count; i++) {
            float *state = c->state + (first + i) * c->state_dim;
            if (r->starts[first + i])
                memset(state, 0, sizeof(float) * (size_t)c->state_dim);
            due |= state[0] == 0;
        }
        if (due)
            predict(&r->pass[0], scratch, c, &obs, noise, first, count, r->greedy, &block);
        memset(r->to.logprobs + at, 0, sizeof(float) * (size_t)count);
        memset(r->to.values + at, 0, sizeof(float) * (size_t)count);
        for (int64_t i = 0; i < count; i++) {
            follow(c, &block, i, c->state + (first + i) * c->state_dim, action);
            int32_t *whole = (int32_t *)r->to.actions + (at + i) * c->dim;
            for (int k = 0; r->dist.gaussian == 0 && k < c->dim; k++)
                whole[k] = (int32_t)action[k];
            if (r->dist.gaussian)
                memcpy(whole, action, sizeof(float) * (size_t)c->dim);
        }
    }
}

static inline void step_rows(const Rollout *r, int64_t t, int64_t lo, int64_t hi) {
    const int64_t at = t * r->rows;
    VecEnv vec = r->vec;
    vec.actions = (const int32_t *)r->to.actions + at * r->dims;
    vec.rewards = r->to.env_rewards + at;
    vec.terminals = r->to.terminations + at;
    vec.truncations = r->to.truncations + at;
    vec.masks = r->to.valid + at;
    char *here = r->to.obs + at * r->obs.bytes;
    if (t + 1 < r->steps)
        vec.observations = here + r->rows * r->obs.bytes;
    // An environment may write only what has changed.
    memcpy((char *)vec.observations + lo * r->obs.bytes, here + lo * r->obs.bytes,
           (size_t)((hi - lo) * r->obs.bytes));
    r->step(&vec, lo / r->agents, hi / r->agents);
}

static inline bool keep_outcome(const Rollout *r, Ends *ends, int64_t t, int64_t lo, int64_t hi) {
    const int64_t at = t * r->rows;
    memcpy(r->to.rewards + at + lo, r->to.env_rewards + at + lo, sizeof(float) * (size_t)(hi - lo));
    memset(r->to.final_values + at + lo, 0, sizeof(float) * (size_t)(hi - lo));
    memcpy(r->to.episode_starts + at + lo, r->starts + lo, (size_t)(hi - lo));
    const bool *terminations = r->to.terminations + at, *truncations = r->to.truncations + at, *valid = r->to.valid + at;
    const float *rewards = r->to.env_rewards + at;
    int any = 0;
    for (int64_t i = lo; i < hi; i++) {
        const int counts = valid[i], ended = (terminations[i] | truncations[i]) & counts;
        r->returns[i] += counts ? rewards[i] : 0;
        r->lengths[i] += counts;
        r->starts[i] = ended | !counts;
        any |= ended;
    }
    for (int64_t i = lo; any && i < hi; i++)
        if ((terminations[i] | truncations[i]) & valid[i]) {
            if (!keep_end(ends, r, t, i))
                return false;
            r->returns[i] = 0;
            r->lengths[i] = 0;
        }
    return true;
}

static void rollout_slice(void *context, int64_t slice, int thread) {
    Rollout *r = context;
    const int64_t lo = slice * r->slice, hi = least(lo + r->slice, r->rows);
    Scratch scratch[2];
    for (int i = 0; i < r->networks; i++)
        scratch[i] = scratch_of(&r->pass[i], thread);
    memcpy(r->to.obs + lo * r->obs.bytes, (const char *)r->vec.observations + lo * r->obs.bytes,
           (size_t)((hi - lo) * r->obs.bytes));
    for (int64_t t = 0; t < r->steps; t++) {
        if (r->chunks)
            act_on_chunks(r, scratch, t, lo, hi);
        else
            act_rows(r, scratch, t, lo, hi, thread);
        step_rows(r, t, lo, hi);
        if (!keep_outcome(r, &r->ends[slice], t, lo, hi)) {
            atomic_store(&r->failed, true);
            return;
        }
    }
}

/* Rows of a slice, whole environments: SLICE_ROWS, or fewer where some thread would have none otherwise. */
static inline int64_t slice_rows(int64_t rows, int64_t agents, int threads) {
    const int64_t share = chunks_of(chunks_of(rows, threads), BLOCK) * BLOCK;
    return chunks_of(least(SLICE_ROWS, share), agents) * agents;
}

static void free_ends(Ends *ends, int64_t slices) {
    for (int64_t i = 0; i < slices; i++) {
        free(ends[i].index);
        free(ends[i].returns);
        free(ends[i].lengths);
        free(ends[i].final_obs);
        free(ends[i].logs);
        free(ends[i].states);
    }
}

/* Fills the arrays; `ends` (one per slice, zeroed) tells which episodes ended. `memory` is what the networks stand on, or
 * NULL. False if there is no memory. */
static bool run_rollout(const Kernels *kernels, const ActorCritic *ac, const Memory *memory, Rollout *r, int threads) {
    prepare_distribution(&r->dist);
    if (r->chunks)
        prepare_chunks(r->chunks);
    r->networks = ac->networks;
    size_t bytes = memory ? size_recall(&r->memory, memory, threads) : 0, part;
    for (int i = 0; i < ac->networks; i++) {
        Network net = ac->net[i];
        net.padded = memory != NULL;
        r->pass[i] = size_pass(kernels, &net, r->rows, threads, false, &part);
        read_directly(&r->pass[i], &net, false);  // so that it rounds as a pass of all rows does
        bytes += part;
    }
    Work work = begin_work(threads, bytes);
    bool done = work.memory != NULL;
    if (done) {
        float *at = memory ? begin_recall(&r->memory, kernels, memory, threads, work.memory) : work.memory;
        for (int i = 0; i < ac->networks; i++)
            at = lay_pass(&r->pass[i], &ac->net[i], threads, FOR_FORWARD, false, at);
        run_tasks(&work, chunks_of(r->rows, r->slice), rollout_slice, r);
        done = !atomic_load(&r->failed);
    }
    end_work(&work);
    return done;
}

/* ---- samples alone, for vectors that are stepped otherwise ---- */

typedef struct {
    const Kernels *kernels;
    Distribution dist;
    Noise noise;
    const float *params;
    int32_t *actions;
    float *logprobs;
    int64_t rows, first_row;
} Samples;

static void sample_chunk(void *context, int64_t chunk, int thread) {
    (void)thread;
    const Samples *s = context;
    const int n = s->dist.num_params, dims = s->dist.dims;
    float params[BLOCK * MAX_PARAMS];
    RowBlock block;
    const int64_t stop = least((chunk + 1) * 32 * BLOCK, s->rows);
    for (int64_t first = chunk * 32 * BLOCK; first < stop; first += BLOCK) {
        const int64_t count = least(BLOCK, stop - first);
        turn_in(s->params + first * n, count, n, params);
        s->kernels->sample_block(&s->dist, params, s->noise, (uint32_t)(s->first_row + first), &block);
        memcpy(s->logprobs + first, block.logprobs, sizeof(float) * (size_t)count);
        for (int64_t i = 0; i < count; i++)
            for (int k = 0; k < dims; k++)
                s->actions[(first + i) * dims + k] = block.chosen[k][i];
    }
}

/* params (rows, num_params) → actions (rows, dims) of int32 or float, logprobs (rows,). */
static void sample_rows(Samples *samples, int threads) {
    prepare_distribution(&samples->dist);
    Work work = begin_work(threads, 0);
    run_tasks(&work, chunks_of(samples->rows, 32 * BLOCK), sample_chunk, samples);
    end_work(&work);
}

/* One step of a batch. Slow environments take a turn each: how long one needs differs from step to step. */
typedef struct {
    const VecEnv *vec;
    StepFunction step;
    int64_t envs, turn;
} BatchStep;

static void step_turn(void *context, int64_t turn, int thread) {
    const BatchStep *b = context;
    (void)thread;
    b->step(b->vec, turn * b->turn, least((turn + 1) * b->turn, b->envs));
}

static void step_on_threads(const VecEnv *vec, StepFunction step, int64_t envs, int threads) {
    BatchStep batch = {vec, step, envs, envs / (16 * threads) + 1};
    Work work = begin_work(threads, 0);
    run_tasks(&work, chunks_of(envs, batch.turn), step_turn, &batch);
    end_work(&work);
}

#endif
