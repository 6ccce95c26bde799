/* Distributions and losses of one block, for one instruction set. Parameters of a distribution are (num_params, BLOCK). */

#define EACH_VECTOR(r) for (int r = 0; r < BLOCK; r += LANES)

typedef struct {
    F largest, log_sum, entropy;
} V(Softmax);

/* log Σ exp and entropy of `n` logits that stand BLOCK apart. */
INLINE V(Softmax) V(softmax)(const float *logits, int n) {
    F largest = V(load)(logits);
    for (int a = 1; a < n; a++)
        largest = V(vmax)(largest, V(load)(logits + a * BLOCK));
    F sum = V(all)(0), weighted = V(all)(0);
    for (int a = 0; a < n; a++) {
        const F z = V(load)(logits + a * BLOCK) - largest, e = V(vexp)(z);
        sum += e;
        weighted += e * z;
    }
    const F log_sum = V(vlog)(sum);
    return (V(Softmax)){largest, log_sum, log_sum - weighted * V(reciprocal)(sum)};
}

/* log π of the given actions and the entropy, for the LANES rows from `r` on. */
INLINE F V(categorical_log_prob)(const Distribution *dist, const float *params, const RowBlock *rows, int r, F *entropy) {
    F log_prob = V(all)(0);
    *entropy = V(all)(0);
    for (int k = 0; k < dist->dims; params += dist->choices[k++] * BLOCK) {
        const V(Softmax) s = V(softmax)(params + r, dist->choices[k]);
        const I chosen = V(load_ints)(rows->chosen[k] + r);
        F logit = V(load)(params + r);
        for (int a = 1; a < dist->choices[k]; a++)
            logit = V(where_equal)(chosen, (I){0} + a, V(load)(params + a * BLOCK + r), logit);
        log_prob += logit - s.largest - s.log_sum;
        *entropy += s.entropy;
    }
    return log_prob;
}

/* Gradient of sum(by_log_prob * log π + by_entropy * entropy). */
INLINE void V(categorical_gradient)(const Distribution *dist, const float *params, const RowBlock *rows, int r,
                                    F by_log_prob, F by_entropy, float *gradient) {
    for (int k = 0; k < dist->dims; k++) {
        const V(Softmax) s = V(softmax)(params + r, dist->choices[k]);
        const I chosen = V(load_ints)(rows->chosen[k] + r);
        for (int a = 0; a < dist->choices[k]; a++) {
            const F log_p = V(load)(params + a * BLOCK + r) - s.largest - s.log_sum, p = V(vexp)(log_p);
            const F hit = V(where_equal)(chosen, (I){0} + a, V(all)(1), V(all)(0));
            V(store)(gradient + a * BLOCK + r, by_log_prob * (hit - p) - by_entropy * p * (log_p + s.entropy));
        }
        params += dist->choices[k] * BLOCK;
        gradient += dist->choices[k] * BLOCK;
    }
}

INLINE F V(log_prob)(const Distribution *dist, const float *params, const RowBlock *rows, int r, F *entropy) {
    if (!dist->gaussian)
        return V(categorical_log_prob)(dist, params, rows, r, entropy);
    if (dist->squash || dist->state_std)
        return V(bent_log_prob)(dist, params, rows, r, entropy);
    *entropy = V(all)(dist->entropy);
    return V(gaussian_log_prob)(dist, params, rows, r);
}

INLINE void V(distribution_gradient)(const Distribution *dist, const float *params, const RowBlock *rows, int r,
                                     F by_log_prob, F by_entropy, float *gradient, float *log_std) {
    if (dist->gaussian && (dist->squash || dist->state_std))
        V(bent_gradient)(dist, params, rows, r, by_log_prob, by_entropy, gradient, log_std);
    else if (dist->gaussian)
        V(gaussian_gradient)(dist, params, rows, r, by_log_prob, by_entropy, gradient, log_std);
    else
        V(categorical_gradient)(dist, params, rows, r, by_log_prob, by_entropy, gradient);
}

/* PPO's loss (losses.py has the equations): gradients with respect to `params` and `values`, the sums of PPO_STATS
 * added to `stats`, gradients of log_std to `log_std`. */
static void V(ppo_block)(const Distribution *dist, const PpoSettings *ppo, const float *params, const float *values,
                         const RowBlock *rows, float *params_gradient, float *values_gradient, double *stats,
                         float *log_std) {
    const F zero = V(all)(0), one = V(all)(1);
    F sums[PPO_STATS] = {zero, zero, zero, zero, zero};
    EACH_VECTOR(r) {
        const F weight = V(load)(rows->weights + r) * ppo->share;
        const F advantage = (V(load)(rows->advantages + r) - ppo->advantage_mean) * ppo->advantage_scale;
        F entropy;
        const F log_prob = V(log_prob)(dist, params, rows, r, &entropy);
        const F raw = log_prob - V(load)(rows->logprobs + r), most = V(all)(MAX_LOG_RATIO);
        const F log_ratio = V(vmin)(most, raw), ratio = V(vexp)(log_ratio), change = V(vexpm1)(log_ratio);
        const F bounded = V(vmin)(V(all)(1 + ppo->clip_coef), V(vmax)(V(all)(1 - ppo->clip_coef), ratio));
        const F free = ratio * advantage, held = bounded * advantage;
        sums[PPO_POLICY] -= weight * V(vmin)(free, held);
        sums[PPO_ENTROPY] += weight * entropy;
        sums[PPO_KL] += weight * (change - log_ratio);
        const F distance = V(where_greater)(change, zero, change, -change);
        sums[PPO_CLIPPED] += weight * V(where_greater)(distance, V(all)(ppo->clip_coef), one, zero);
        // Where the clipped product is the smaller one, or the ratio is bounded, nothing depends on log π.
        F by_log_prob = V(where_greater)(free, held, zero, -weight * free);
        by_log_prob = V(where_greater)(raw, most, zero, by_log_prob);
        V(distribution_gradient)(dist, params, rows, r, by_log_prob, -weight * ppo->ent_coef, params_gradient, log_std);

        const F value = V(load)(values + r), old = V(load)(rows->values + r), target = V(load)(rows->returns + r);
        const F error = value - target;
        F square = error * error, slope = error;
        if (ppo->vf_clip_coef > 0) {
            const F limit = V(all)(ppo->vf_clip_coef), move = value - old;
            const F step = V(vmin)(limit, V(vmax)(-limit, move)), late = old + step - target;
            const F size = V(where_greater)(move, zero, move, -move);
            slope = V(where_greater)(late * late, square, V(where_greater)(size, limit, zero, late), slope);
            square = V(vmax)(late * late, square);
        }
        sums[PPO_VALUE] += V(all)(0.5f) * weight * square;
        V(store)(values_gradient + r, weight * ppo->vf_coef * slope);
    }
    for (int k = 0; k < PPO_STATS; k++)
        stats[k] += V(sum)(sums[k]);
}

/* Loss of scores of one side (1 the expert's, -1 the policy's) with their label, less ent_coef times the entropy of
 * sigmoid(score); rows weigh `weights`. Cross-entropy; squares of the distance to 2 label - 1; -side * score. stats: sums
 * of the loss and of the scores, and how many scores are on their side, all weighted. */
static void V(verdict_block)(int kind, const float *scores, float side, float label, const float *weights,
                             float ent_coef, float *gradient, double *stats) {
    const F zero = V(all)(0), one = V(all)(1), y = V(all)(label), target = V(all)(2 * label - 1);
    F total = zero, sum = zero, right = zero;
    EACH_VECTOR(r) {
        const F z = V(load)(scores + r), weight = V(load)(weights + r);
        const F s = V(sigmoid)(z);
        F loss, slope;
        if (kind == CROSS_ENTROPY) {
            loss = y * V(softplus)(-z) + (one - y) * V(softplus)(z);
            slope = s - y;
        } else if (kind == LEAST_SQUARES) {
            loss = (z - target) * (z - target);
            slope = V(all)(2) * (z - target);
        } else {
            loss = -side * z;
            slope = V(all)(-side);
        }
        total += weight * loss;
        sum += weight * z;
        right += weight * V(where_greater)(side * z, zero, one, zero);
        V(store)(gradient + r, weight * (slope + ent_coef * z * s * (one - s)));
    }
    stats[0] += V(sum)(total);
    stats[1] += V(sum)(sum);
    stats[2] += V(sum)(right);
}

/* One step of Adam on parameters [0, n), the gradient being scaled by `factor` before; step counts from 1. `followers`
 * go the share `tau` of the way to what the parameters become. */
INLINE void V(adam_step)(const AdamSettings *adam, double step, float factor, int64_t n, float *restrict p,
                         const float *restrict g, float *restrict m, float *restrict v, const bool followed,
                         float *restrict followers, float tau) {
    const float rate = (float)(adam->learning_rate / (1 - pow(adam->beta1, step)));
    const float correction = (float)(1 / sqrt(1 - pow(adam->beta2, step)));
    const float decay = 1 - adam->learning_rate * adam->weight_decay;
    for (int64_t i = 0; i < n; i++) {
        const float gradient = g[i] * factor;
        m[i] += (1 - adam->beta1) * (gradient - m[i]);
        v[i] = adam->beta2 * v[i] + (1 - adam->beta2) * gradient * gradient;
        p[i] = p[i] * decay - rate * m[i] / (sqrtf(v[i]) * correction + adam->eps);
        if (followed)
            followers[i] += tau * (p[i] - followers[i]);
    }
}

static void V(adam)(const AdamSettings *adam, double step, float factor, int64_t n, float *p, const float *g, float *m,
                    float *v) {
    V(adam_step)(adam, step, factor, n, p, g, m, v, false, NULL, 0);
}

static void V(adam_followed)(const AdamSettings *adam, double step, float factor, int64_t n, float *p, const float *g,
                             float *m, float *v, float *followers, float tau) {
    V(adam_step)(adam, step, factor, n, p, g, m, v, true, followers, tau);
}

/* Σ x², of many numbers in pieces that float still adds well. */
static double V(square_sum)(const float *x, int64_t n) {
    enum { STEP = 4 * LANES, MOST = 1024 };
    double total = 0;
    int64_t i = 0;
    while (n - i >= STEP) {
        const int64_t left = (n - i) / STEP * STEP, stop = i + (left < MOST ? left : MOST);
        F sum[4] = {V(all)(0), V(all)(0), V(all)(0), V(all)(0)};
        for (; i < stop; i += STEP)
            for (int k = 0; k < 4; k++) {
                const F part = V(load)(x + i + k * LANES);
                sum[k] += part * part;
            }
        total += V(sum)((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
    for (; i < n; i++)
        total += x[i] * x[i];
    return total;
}

#undef EACH_VECTOR
