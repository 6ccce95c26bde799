/* Soft Q-learning on minibatches: targets, gradients, Adam, and the network that follows, update after update. */
#ifndef PUFFER_IL_SOFTQ_H
#define PUFFER_IL_SOFTQ_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "training.h"

enum { SOFT_Q_STATS = 5 };  // loss, value, q of the actions taken, negentropy, gradient norm

typedef struct {
    float alpha, gamma, tau, end_value;
} SoftQSettings;

/* Rows of all updates, one minibatch behind the other: obs and next_obs (inputs,) each, what a network reads. */
typedef struct {
    const float *obs, *next_obs, *rewards;
    const int32_t *actions;
    const uint8_t *ends;
} SoftQRows;

/* alpha log mean exp(q / alpha); `negentropy` of the softmax of q / alpha if that is given. */
static inline float soft_value(const float *q, int actions, float alpha, float *negentropy) {
    float most = q[0], sum = 0, mean = 0;
    for (int k = 1; k < actions; k++)
        most = q[k] > most ? q[k] : most;
    for (int k = 0; k < actions; k++) {
        const float weight = expf((q[k] - most) / alpha);
        sum += weight;
        mean += weight * (q[k] - most);
    }
    const float above = alpha * logf(sum / (float)actions);  // of the largest q
    if (negentropy)
        *negentropy = (mean / sum - above) / alpha;
    return most + above;
}

/* The loss's gradient by q (rows, actions), from values of what follows; adds to `stats`. */
static inline void soft_q_errors(const SoftQSettings *set, const SoftQRows *at, int64_t rows, int actions,
                                 const float *next_q, const float *q, float *gradient, double *stats) {
    memset(gradient, 0, sizeof(float) * (size_t)(rows * actions));
    for (int64_t r = 0; r < rows; r++) {
        const float *own = q + r * actions;
        const float *next = next_q + r * actions;
        const float following = at->ends[r] ? set->end_value : soft_value(next, actions, set->alpha, NULL);
        const float error = own[at->actions[r]] - (at->rewards[r] + set->gamma * following);
        float negentropy;
        gradient[r * actions + at->actions[r]] = error / (float)rows;
        stats[0] += 0.5 * error * error / (double)rows;
        stats[1] += soft_value(own, actions, set->alpha, &negentropy) / (double)rows;
        stats[2] += own[at->actions[r]] / (double)rows;
        stats[3] += negentropy / (double)rows;
    }
}

/* `updates` minibatches of `rows` rows; `followers` go with the optimizer's parameters. `stats` are the means over the
 * updates. False if there is no memory. */
static bool soft_q_updates(const Kernels *kernels, const Network *net, const Network *target,
                           const Gradients *gradients, Optimizer *optimizer, float *followers, SoftQRows at,
                           SoftQSettings set, int64_t updates, int64_t rows, double stats[SOFT_Q_STATS], int threads) {
    const Plan plan = plan_network(net);
    const int actions = plan.outputs;
    const size_t saved = (size_t)saved_floats(&plan, rows), outputs = (size_t)(rows * actions);
    const size_t bytes = sizeof(float) * (saved + 3 * outputs);
    float *const memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    float *const next_q = memory + saved, *const q = next_q + outputs, *const gradient = q + outputs;
    bool done = memory != NULL;
    memset(stats, 0, sizeof(double) * SOFT_Q_STATS);
    for (int64_t u = 0; done && u < updates; u++) {
        done = network_forward(kernels, target, at.next_obs, rows, next_q, NULL, threads) &&
               network_forward(kernels, net, at.obs, rows, q, memory, threads);
        if (done)
            soft_q_errors(&set, &at, rows, actions, next_q, q, gradient, stats);
        done = done && network_backward(kernels, net, at.obs, memory, gradient, rows, gradients, NULL, threads);
        if (!done)
            break;
        stats[4] += optimizer_step(kernels, optimizer);
        for (int64_t i = 0; i < optimizer->count; i++)
            followers[i] += set.tau * (optimizer->parameters[i] - followers[i]);
        at = (SoftQRows){at.obs + rows * net->inputs, at.next_obs + rows * net->inputs, at.rewards + rows,
                         at.actions + rows, at.ends + rows};
    }
    for (int k = 0; k < SOFT_Q_STATS; k++)
        stats[k] /= (double)updates;
    free(memory);
    return done;
}

#endif
