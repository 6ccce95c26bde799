/* Soft actor-critic on minibatches: targets, both critics, the actor through the lesser of them, Adam and the networks
 * that follow, update after update. off_policy.py has the equations, and the same in torch.
 *
 * What an update adds up, it adds in an order that follows from its rows alone, not from the number of threads. */
#ifndef PUFFER_IL_SAC_H
#define PUFFER_IL_SAC_H

#include <math.h>

#include "critics.h"

enum { CRITIC_ROWS = 288, ACTOR_ROWS = 144, MOST_PARTS = 16 };  // rows that have gradient sums of their own
enum { CRITIC_LOSS, ACTOR_LOSS, MEAN_Q, NEGENTROPY, ALPHA, GRADIENT_NORM, SAC_STATS };

/* Rows of all updates, one minibatch behind the other: observations; actions (dims,) in units of their range; noise of
 * each update (2, rows, dims), for the successors and for the actor. */
typedef struct {
    Observations obs, next_obs;
    const float *actions, *rewards, *noise;
    const uint8_t *ends;
} SacRows;

/* A policy near which the actor is kept, if `bound` is not 0 (see anchor.py). */
typedef struct {
    Network net;
    Distribution dist;
    float *log_price, *distance;
    float bound, rate, least, most;
} Anchor;

typedef struct {
    Critic critic[2], target[2];
    Optimizer *critics_optimizer;
    float *followers;
    Network actor;
    Gradients actor_gradients;
    const float *log_std;
    float *log_std_gradient;
    Optimizer *actor_optimizer;
    Distribution dist;
    Optimizer *alpha_optimizer;  // of log alpha, which is learned if `target_negentropy` is not 0
    Anchor anchor;
    float gamma, tau, end_value, most, target_negentropy;
    bool move;  // or only the critics learn
} SacJob;

/* What one thread needs beside the networks' own work space; rows as columns of BLOCK. */
typedef struct {
    Scratch actor, critic[2];
    NormTape norm[2];
    float *seen, *x, *noise, *actions, *negentropy, *weights, *part, *by_actions, *origin;
} Space;

typedef struct {
    const Kernels *kernels;
    const SacJob *job;
    SacRows at;
    int64_t rows;
    Pass actor, origin;
    CriticPass critic[2], target[2];
    Distribution dist;  // with log_std as it is now
    float alpha, price;
    ptrdiff_t space_floats;
    float *spaces, *seen, *x, *wanted, *log_std_sums;  // the minibatch's observations, the critics' rows, their targets
    double *block_stats, *critic_stats, *actor_stats;  // (blocks, 1), (tasks, 2), (chunks, 3)
} Sac;

static inline ptrdiff_t lay_norm_tape(const Plan *plan, float *memory, NormTape *tape) {
    ptrdiff_t used = 0;
    for (int l = 0; l < plan->num_hidden; l++) {
        tape->n[l] = memory + place(&used, (ptrdiff_t)BLOCK * plan->width[l]);
        tape->inverse[l] = memory + place(&used, BLOCK);
    }
    return used;
}

static inline ptrdiff_t lay_space(const Sac *sac, float *memory, Space *space) {
    const Plan *plan = &sac->critic[0].pass.plan, *actor = &sac->actor.plan;
    const ptrdiff_t dims = sac->job->dist.dims;
    ptrdiff_t used = round_up(lay_scratch(actor, memory, &space->actor), PAD);
    for (int c = 0; c < 2; c++) {
        used += round_up(lay_scratch(plan, memory + used, &space->critic[c]), PAD);
        used += sac->critic[0].affine_floats ? lay_norm_tape(plan, memory + used, &space->norm[c]) : 0;
    }
#define TAKE(field, columns) space->field = memory + place(&used, BLOCK * (ptrdiff_t)(columns))
    TAKE(seen, actor->inputs);
    TAKE(x, plan->inputs);
    TAKE(noise, dims);
    TAKE(actions, dims);
    TAKE(negentropy, 1);
    TAKE(weights, 1);
    TAKE(part, dims);
    TAKE(by_actions, dims);
    TAKE(origin, actor->outputs);
#undef TAKE
    return used;
}

static inline Space space_of(const Sac *sac, int thread) {
    Space space;
    lay_space(sac, sac->spaces + thread * sac->space_floats, &space);
    return space;
}

/* How many rows have gradient sums of their own: `few`, or so many that there are at most MOST_PARTS. */
static inline int64_t rows_of_sums(int64_t rows, int64_t few) {
    const int64_t most = round_up((rows + MOST_PARTS - 1) / MOST_PARTS, BLOCK);
    return few > most ? few : most;
}

static inline ptrdiff_t lay_actor(const Kernels *kernels, const Network *net, int64_t rows, bool learns, float *memory,
                                  Pass *pass) {
    ptrdiff_t used = 0;
    size_t unused;
    *pass = size_pass(kernels, net, rows, 1, learns, &unused);
    set_chunk(pass, rows_of_sums(rows, ACTOR_ROWS), 1, learns);
    pass->packed = memory + place(&used, pass->plan.packed);
    pass->sums = memory + place(&used, learns ? pass->chunks * pass->plan.sums : 0);
    return used;
}

/* Lays all out from `memory` on; with memory NULL it only counts. Returns the floats it takes. */
static inline ptrdiff_t lay_sac(Sac *sac, int threads, float *memory) {
    const SacJob *job = sac->job;
    const int64_t rows = sac->rows, chunk = rows_of_sums(rows, CRITIC_ROWS);
    const int dims = job->dist.dims;
    ptrdiff_t used = lay_actor(sac->kernels, &job->actor, rows, true, memory, &sac->actor);
    if (job->anchor.bound > 0)
        used += lay_actor(sac->kernels, &job->anchor.net, rows, false, memory + used, &sac->origin);
    for (int c = 0; c < 2; c++) {
        used += lay_critic(sac->kernels, &job->critic[c], rows, chunk, true, dims, memory + used, &sac->critic[c]);
        used += lay_critic(sac->kernels, &job->target[c], rows, chunk, false, 0, memory + used, &sac->target[c]);
    }
    Space unused;
    sac->space_floats = round_up(lay_space(sac, NULL, &unused), PAD);
    sac->spaces = memory + place(&used, threads * sac->space_floats);
    sac->seen = memory + place(&used, round_up(rows, BLOCK) * sac->actor.plan.inputs);
    sac->x = memory + place(&used, rows * sac->critic[0].pass.plan.inputs);
    sac->wanted = memory + place(&used, rows);
    sac->log_std_sums = memory + place(&used, sac->actor.chunks * dims);
    sac->block_stats = (double *)(memory + place(&used, 2 * chunks_of(rows, BLOCK)));
    sac->critic_stats = (double *)(memory + place(&used, 2 * 4 * sac->critic[0].pass.chunks));
    sac->actor_stats = (double *)(memory + place(&used, 2 * 3 * sac->actor.chunks));
    return used;
}

/* ---- the parts of an update ---- */

/* Rows (obs, actions) of a critic, actions (dims, BLOCK); zeros fill the tile behind them. */
static inline void critic_rows(const float *obs, const float *actions, int64_t count, int rows, int inputs, int dims,
                               float *x) {
    const int columns = inputs - dims;
    for (int64_t r = 0; r < count; r++) {
        memcpy(x + r * inputs, obs + r * columns, sizeof(float) * (size_t)columns);
        for (int k = 0; k < dims; k++)
            x[r * inputs + columns + k] = actions[k * BLOCK + r];
    }
    memset(x + count * inputs, 0, sizeof(float) * (size_t)((rows - count) * inputs));
}

/* Lets the actor act on `count` of `rows` rows of obs with noise (count, dims): its parameters in space->actor.outputs,
 * actions, negentropy and the critics' rows in the space. */
static inline void act_on_block(const Sac *sac, const float *obs, const float *noise, int64_t count, int rows,
                                Space *space) {
    const Pass *pass = &sac->actor;
    const Distribution *dist = &sac->dist;
    sac->kernels->block_forward(&pass->plan, pass->packed, obs, space->actor.tape, &space->actor, rows);
    clear_tail(space->actor.outputs, pass->plan.outputs, count);
    turn_in(noise, count, dist->dims, space->noise);
    sac->kernels->squash_block(dist, space->actor.outputs, space->noise, space->actions, space->negentropy);
    critic_rows(obs, space->actions, count, rows, sac->critic[0].pass.plan.inputs, dist->dims, space->x);
}

/* What the critics should say of a block of rows: r + gamma (min Q' - alpha negentropy) of what follows. */
static void targets_of_block(void *context, int64_t block, int thread) {
    const Sac *sac = context;
    const SacJob *job = sac->job;
    const int dims = job->dist.dims, columns = sac->actor.plan.inputs, inputs = columns + dims;
    const int64_t first = block * BLOCK, count = least(BLOCK, sac->rows - first);
    Space space = space_of(sac, thread);
    const float *q[2];
    const int rows = read_observations(&sac->at.next_obs, first, count, space.seen);
    act_on_block(sac, space.seen, sac->at.noise + first * dims, count, rows, &space);
    for (int c = 0; c < 2; c++) {
        critic_forward(&sac->target[c], space.x, &space.critic[c], space.norm[c], rows);
        q[c] = space.critic[c].outputs;
    }
    read_observations(&sac->at.obs, first, count, sac->seen + first * columns);
    double negentropy = 0;
    for (int64_t r = 0; r < count; r++) {
        const float lesser = q[0][r] < q[1][r] ? q[0][r] : q[1][r];
        const float following = sac->at.ends[first + r] ? job->end_value : lesser - sac->alpha * space.negentropy[r];
        const float wanted = sac->at.rewards[first + r] + job->gamma * following;
        sac->wanted[first + r] = wanted > job->most ? job->most : wanted;
        negentropy += space.negentropy[r];
        float *const x = sac->x + (first + r) * inputs;
        memcpy(x, sac->seen + (first + r) * columns, sizeof(float) * (size_t)columns);
        memcpy(x + columns, sac->at.actions + (first + r) * dims, sizeof(float) * (size_t)dims);
    }
    sac->block_stats[block] = negentropy;
}

/* Gradients of one critic on one chunk of rows: tasks are (chunks, 2). */
static void learn_critic(void *context, int64_t task, int thread) {
    const Sac *sac = context;
    const CriticPass *side = &sac->critic[task % 2];
    const Plan *plan = &side->pass.plan;
    const int64_t chunk = task / 2, stop = least((chunk + 1) * side->pass.chunk, sac->rows);
    const float share = 1.0f / (float)sac->rows;
    Space space = space_of(sac, thread);
    Scratch *s = &space.critic[0];
    float *sums = sums_of(&side->pass, chunk);
    float *affine = side->affine_floats ? side->affine_sums + chunk * side->affine_floats : NULL;
    double loss = 0, value = 0;
    memset(sums, 0, sizeof(float) * (size_t)plan->sums);
    memset(side->affine_sums + chunk * side->affine_floats, 0, sizeof(float) * (size_t)side->affine_floats);
    for (int64_t first = chunk * side->pass.chunk; first < stop; first += BLOCK) {
        const int64_t count = least(BLOCK, stop - first);
        int rows;
        const float *x = whole_rows(sac->x + first * plan->inputs, count, plan->inputs, s->x, &rows);
        critic_forward(side, x, s, space.norm[0], rows);
        memset(s->output_gradients, 0, sizeof(float) * BLOCK);
        for (int64_t r = 0; r < count; r++) {
            const float error = s->outputs[r] - sac->wanted[first + r];
            s->output_gradients[r] = error * share;
            loss += 0.5 * error * error;
            value += s->outputs[r];
        }
        critic_backward(side, s, space.norm[0], affine, rows);
        sac->kernels->add_gradients(plan, x, s->tape, s, sums, rows);
    }
    sac->critic_stats[2 * task] = loss;
    sac->critic_stats[2 * task + 1] = value;
}

static void finish_side(void *context, int64_t side, int thread) {
    (void)thread;
    finish_critic(&((Sac *)context)->critic[side]);
}

/* The critics as they are now, and those that follow them. */
static void pack_side(void *context, int64_t task, int thread) {
    (void)thread;
    Sac *sac = context;
    if (task < 2)
        pack_critic(&sac->critic[task], FOR_FORWARD | FOR_BACKWARD);
    else
        pack_critic(&sac->target[task - 2], FOR_FORWARD);
}

/* The gradient by the actions of -share min Q over a block's rows, in space->by_actions; each critic goes back through
 * the rows alone in which it is the lesser. Returns -Σ min Q. */
static inline double descend_critics(const Sac *sac, int64_t count, Space *space) {
    const int dims = sac->job->dist.dims;
    const float share = 1.0f / (float)sac->rows;
    const float *q[2] = {space->critic[0].outputs, space->critic[1].outputs};
    int chosen[2][BLOCK], counts[2] = {0, 0};
    float slopes[2][BLOCK];
    double loss = 0;
    for (int r = 0; r < count; r++) {
        const bool same = q[0][r] == q[1][r];
        const int lesser = q[0][r] < q[1][r] ? 0 : 1;
        loss -= q[lesser][r];
        for (int c = 0; c < 2; c++)
            if (same || c == lesser) {
                slopes[c][counts[c]] = same ? -0.5f * share : -share;
                chosen[c][counts[c]++] = r;
            }
    }
    memset(space->by_actions, 0, sizeof(float) * (size_t)dims * BLOCK);
    for (int c = 0; c < 2; c++) {
        const CriticPass *side = &sac->critic[c];
        Scratch *s = &space->critic[c];
        const int rows = keep_rows(&side->pass.plan, chosen[c], counts[c], side->affine_floats != 0, s->tape,
                                   space->norm[c]);
        memset(s->output_gradients, 0, sizeof(float) * BLOCK);
        memcpy(s->output_gradients, slopes[c], sizeof(float) * (size_t)counts[c]);
        critic_backward(side, s, space->norm[c], NULL, rows);
        sac->kernels->last_inputs_gradient(&side->pass.plan, side->actions, dims, s->d[0], space->part, rows);
        for (int k = 0; k < dims; k++)
            for (int i = 0; i < counts[c]; i++)
                space->by_actions[k * BLOCK + chosen[c][i]] += space->part[k * BLOCK + i];
    }
    return loss;
}

/* Gradients of the actor on one chunk of rows. */
static void learn_actor(void *context, int64_t chunk, int thread) {
    const Sac *sac = context;
    const SacJob *job = sac->job;
    const Kernels *k = sac->kernels;
    const Pass *pass = &sac->actor;
    const int dims = job->dist.dims, columns = pass->plan.inputs;
    const int64_t stop = least((chunk + 1) * pass->chunk, sac->rows);
    Space space = space_of(sac, thread);
    Scratch *s = &space.actor;
    float *sums = sums_of(pass, chunk), *log_std = sac->log_std_sums + chunk * dims;
    double loss = 0, negentropy = 0, distance = 0;
    memset(sums, 0, sizeof(float) * (size_t)pass->plan.sums);
    memset(log_std, 0, sizeof(float) * (size_t)dims);
    for (int64_t first = chunk * pass->chunk; first < stop; first += BLOCK) {
        const int64_t count = least(BLOCK, stop - first);
        const float *obs = sac->seen + first * columns;
        const int rows = (int)round_up(count, TILE_ROWS);
        if (job->anchor.bound > 0) {
            k->block_forward(&sac->origin.plan, sac->origin.packed, obs, s->tape, s, rows);
            clear_tail(s->outputs, pass->plan.outputs, count);
            memcpy(space.origin, s->outputs, sizeof(float) * (size_t)pass->plan.outputs * BLOCK);
        }
        act_on_block(sac, obs, sac->at.noise + (sac->rows + first) * dims, count, rows, &space);
        for (int c = 0; c < 2; c++)
            critic_forward(&sac->critic[c], space.x, &space.critic[c], space.norm[c], rows);
        loss += descend_critics(sac, count, &space);
        for (int r = 0; r < BLOCK; r++) {
            space.weights[r] = r < count ? 1.0f / (float)sac->rows : 0;
            negentropy += r < count ? space.negentropy[r] : 0;
        }
        k->squash_gradient_block(&sac->dist, sac->alpha, s->outputs, space.noise, space.actions, space.by_actions,
                                 space.weights, s->output_gradients, log_std);
        if (job->anchor.bound > 0)
            distance += k->anchor_block(&sac->dist, &job->anchor.dist, sac->price, s->outputs, space.origin, space.weights,
                                        s->output_gradients, log_std);
        k->block_backward(&pass->plan, pass->packed, obs, s->tape, s, sums, false, rows);
    }
    double *stats = sac->actor_stats + 3 * chunk;
    stats[0] = loss, stats[1] = negentropy, stats[2] = distance;
}

/* ---- an update ---- */

static inline void update_critics(Sac *sac, const Work *work, double *stats) {
    const SacJob *job = sac->job;
    const double share = 1 / (double)sac->rows;
    const int64_t blocks = chunks_of(sac->rows, BLOCK), tasks = 2 * sac->critic[0].pass.chunks;
    run_tasks(work, blocks, targets_of_block, sac);
    run_tasks(work, tasks, learn_critic, sac);
    run_tasks(work, 2, finish_side, sac);
    stats[GRADIENT_NORM] += share_step(sac->kernels, job->critics_optimizer, job->followers, job->tau, work);
    run_tasks(work, 4, pack_side, sac);
    for (int64_t task = 0; task < tasks; task++) {
        stats[CRITIC_LOSS] += sac->critic_stats[2 * task] * share;
        stats[MEAN_Q] += 0.5 * sac->critic_stats[2 * task + 1] * share;
    }
    for (int64_t block = 0; !job->move && block < blocks; block++)
        stats[NEGENTROPY] += sac->block_stats[block] * share;
}

/* The price of the distance from the anchor rises while the actor is further away than the bound. */
static inline void update_price(const Anchor *anchor, double distance) {
    const float excess = (float)distance / anchor->bound - 1;
    const float price = *anchor->log_price + anchor->rate * (excess < -1 ? -1 : excess > 1 ? 1 : excess);
    *anchor->distance = (float)distance;
    *anchor->log_price = price < anchor->least ? anchor->least : price > anchor->most ? anchor->most : price;
}

static inline void update_actor(Sac *sac, const Work *work, double *stats) {
    const SacJob *job = sac->job;
    const int dims = job->dist.dims;
    const double share = 1 / (double)sac->rows;
    double loss = 0, negentropy = 0, distance = 0;
    run_tasks(work, sac->actor.chunks, learn_actor, sac);
    finish_gradients(&sac->actor, work, &job->actor, &job->actor_gradients);
    memset(job->log_std_gradient, 0, sizeof(float) * (size_t)dims);
    for (int64_t chunk = 0; chunk < sac->actor.chunks; chunk++) {
        add_sums(job->log_std_gradient, sac->log_std_sums + chunk * dims, dims);
        loss += sac->actor_stats[3 * chunk] * share;
        negentropy += sac->actor_stats[3 * chunk + 1] * share;
        distance += sac->actor_stats[3 * chunk + 2];
    }
    stats[ACTOR_LOSS] += loss + sac->alpha * negentropy + sac->price * distance;
    stats[NEGENTROPY] += negentropy;
    share_step(sac->kernels, job->actor_optimizer, NULL, 0, work);
    sac->kernels->pack_network(&job->actor, &sac->actor.plan, FOR_FORWARD | FOR_BACKWARD, sac->actor.packed);
    if (job->anchor.bound > 0)
        update_price(&job->anchor, distance);
    if (job->target_negentropy > 0) {
        *job->alpha_optimizer->gradient = job->target_negentropy - (float)negentropy;
        optimizer_step(sac->kernels, job->alpha_optimizer);
    }
}

/* `updates` minibatches of `rows` rows. `stats` are the means over the updates. False if there is no memory. */
static bool sac_updates(const Kernels *kernels, const SacJob *job, SacRows at, int64_t updates, int64_t rows,
                        double stats[SAC_STATS], int threads) {
    Sac sac = {.kernels = kernels, .job = job, .at = at, .rows = rows, .dist = job->dist};
    Work work = begin_work(threads, sizeof(float) * (size_t)lay_sac(&sac, threads, NULL));
    const bool done = work.memory != NULL;
    const int64_t dims = job->dist.dims;
    memset(stats, 0, sizeof(double) * SAC_STATS);
    if (done) {
        lay_sac(&sac, threads, work.memory);
        run_tasks(&work, 4, pack_side, &sac);
        kernels->pack_network(&job->actor, &sac.actor.plan, FOR_FORWARD | FOR_BACKWARD, sac.actor.packed);
        if (job->anchor.bound > 0)
            kernels->pack_network(&job->anchor.net, &sac.origin.plan, FOR_FORWARD, sac.origin.packed);
    }
    for (int64_t u = 0; done && u < updates; u++) {
        memcpy(sac.dist.log_std, job->log_std, sizeof(float) * (size_t)dims);
        sac.alpha = expf(*job->alpha_optimizer->parameters);
        sac.price = job->anchor.bound > 0 ? expf(*job->anchor.log_price) : 0;
        stats[ALPHA] += sac.alpha;
        update_critics(&sac, &work, stats);
        if (job->move)
            update_actor(&sac, &work, stats);
        sac.at.obs.data = (const char *)sac.at.obs.data + rows * at.obs.bytes;
        sac.at.next_obs.data = (const char *)sac.at.next_obs.data + rows * at.next_obs.bytes;
        sac.at.actions += rows * dims;
        sac.at.rewards += rows;
        sac.at.noise += 2 * rows * dims;
        sac.at.ends += rows;
    }
    for (int k = 0; k < SAC_STATS; k++)
        stats[k] /= (double)updates;
    end_work(&work);
    return done;
}

#endif
