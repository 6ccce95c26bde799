/* What the kernels of rollouts and losses are told: plain structs, filled by the caller. */
#ifndef PUFFER_IL_JOBS_H
#define PUFFER_IL_JOBS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "network.h"

enum { MAX_DIMS = 256, MAX_PARAMS = 1024, MAX_LOG_RATIO = 20, MIN_LOG_STD = -5, MAX_LOG_STD = 2 };

#define SQUASH_LIMIT (1 - 1e-6f)  // float cannot tell tanh(u) from 1 beyond |u| of about 8

/* Action distribution: a softmax per dimension (`choices` gives their sizes) or a diagonal Gaussian in units of the
 * action range, action = center + scale * unit, where `squash` unit = tanh(Gaussian). With `state_std` the parameters are
 * the means and, beside them, what is added to log_std, which is then held between MIN_LOG_STD and MAX_LOG_STD. */
typedef struct {
    int32_t gaussian, squash, state_std, dims, num_params;
    int32_t choices[MAX_DIMS];
    float center[MAX_DIMS], scale[MAX_DIMS], log_std[MAX_DIMS];
    float std[MAX_DIMS], inverse_std[MAX_DIMS], log_norm[MAX_DIMS], log_scale[MAX_DIMS], entropy;  // by prepare_distribution
} Distribution;

/* What follows from log_std and scale, which change only between passes. */
static inline void prepare_distribution(Distribution *dist) {
    const float half_log_2pi = 0.91893853320467274f;
    dist->entropy = 0;
    for (int k = 0; dist->gaussian && k < dist->dims; k++) {
        dist->std[k] = expf(dist->log_std[k]);
        dist->inverse_std[k] = expf(-dist->log_std[k]);
        dist->log_scale[k] = logf(dist->scale[k]);
        dist->log_norm[k] = dist->log_std[k] + half_log_2pi + dist->log_scale[k];
        dist->entropy += dist->log_norm[k] + 0.5f;
    }
}

/* Philox4x32-10 (Salmon et al. 2011): row and step are the counter, so that a row's noise does not depend on who draws
 * it, when, or beside which others. */
typedef struct {
    uint64_t seed, step;
} Noise;

typedef struct {
    float clip_coef, vf_clip_coef, ent_coef, vf_coef;
    float advantage_mean, advantage_scale;  // normalised: (A - mean) * scale
    float share;                            // 1 / sum of the weights
} PpoSettings;

/* Behaviour cloning's loss: negative log-likelihood, or squared distances (losses.py has both); `class_weights`
 * (num_params,) multiply a discrete dimension's by that of the action taken, NULL: none. */
typedef struct {
    float ent_coef, label_smoothing;
    int32_t squares;
    const float *class_weights;
} CloningLoss;

/* Adam with decoupled weight decay (Kingma and Ba 2015; Loshchilov and Hutter 2019) after clipping the gradient's norm. */
typedef struct {
    float learning_rate, beta1, beta2, eps, weight_decay, max_grad_norm;  // 0: not clipped
} AdamSettings;

enum { CROSS_ENTROPY, LEAST_SQUARES, WASSERSTEIN };  // losses of a discriminator
enum { PPO_POLICY, PPO_VALUE, PPO_ENTROPY, PPO_KL, PPO_CLIPPED, PPO_STATS };
enum { CLONING_LOSS, CLONING_NLL, CLONING_ENTROPY, CLONING_STATS };

/* One block's rows beside their observations; rows that do not count have weight 0. `present` is 1 for rows of whatever
 * weight, 0 for what fills the block behind them. */
typedef struct {
    float logprobs[BLOCK], values[BLOCK], advantages[BLOCK], returns[BLOCK], weights[BLOCK], present[BLOCK];
    union {
        int32_t chosen[MAX_DIMS][BLOCK];
        float actions[MAX_DIMS][BLOCK];
    };
} RowBlock;

#endif
