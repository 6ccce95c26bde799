/* Behaviour cloning's loss on one block, for one instruction set: nn/losses.py has the equations (categorical_loss).
 * Parameters of a distribution are (num_params, BLOCK). */

/* What one vector of rows adds to the sums of CLONING_STATS, before it is weighted. */
typedef struct {
    F loss, log_prob, entropy;
} V(Cloned);

/* One softmax's loss with its gradient, `weight` times that of the loss and `by_entropy` times that of the entropy.
 *
 *     q = (1 - x) onehot + x / n;  L = -sum q log p: p - q;  L = sum (p - q)²: 2 p (p - q - sum (p - q) p) */
INLINE void V(clone_choice)(const CloningLoss *how, const float *logits, int n, I chosen, F class_weight, F weight,
                            F by_entropy, float *gradient, V(Cloned) *sum) {
    const V(Softmax) s = V(softmax)(logits, n);
    const F shift = s.largest + s.log_sum, rest = V(all)(how->label_smoothing / (float)n);
    const F full = V(all)(1 - how->label_smoothing) + rest, by_loss = weight * class_weight;
    F taken = V(all)(0), all_log_p = V(all)(0), square = V(all)(0), inner = V(all)(0);
    for (int a = 0; a < n; a++) {
        const F log_p = V(load)(logits + a * BLOCK) - shift, p = V(vexp)(log_p);
        const I here = (I){0} + a;
        const F off = p - V(where_equal)(chosen, here, full, rest);
        taken = V(where_equal)(chosen, here, log_p, taken);
        all_log_p += log_p;
        square += off * off;
        inner += off * p;
        V(store)(gradient + a * BLOCK, by_loss * off - by_entropy * p * (log_p + s.entropy));
    }
    for (int a = 0; how->squares && a < n; a++) {
        const F log_p = V(load)(logits + a * BLOCK) - shift, p = V(vexp)(log_p);
        const F off = p - V(where_equal)(chosen, (I){0} + a, full, rest);
        V(store)(gradient + a * BLOCK,
                 by_loss * 2 * p * (off - inner) - by_entropy * p * (log_p + s.entropy));
    }
    const F likelihood = -(full - rest) * taken - rest * all_log_p;
    sum->loss += class_weight * (how->squares ? square : likelihood);
    sum->log_prob += taken;
    sum->entropy += s.entropy;
}

/* The LANES rows from `r` on. */
INLINE V(Cloned) V(clone_categorical)(const Distribution *dist, const CloningLoss *how, const float *params,
                                      const RowBlock *rows, int r, F weight, F by_entropy, float *gradient) {
    V(Cloned) sum = {V(all)(0), V(all)(0), V(all)(0)};
    const float *class_weights = how->class_weights;
    for (int k = 0; k < dist->dims; k++) {
        const int n = dist->choices[k];
        const I chosen = V(load_ints)(rows->chosen[k] + r);
        F class_weight = V(all)(1);
        for (int a = 0; class_weights && a < n; a++)
            class_weight = V(where_equal)(chosen, (I){0} + a, V(all)(class_weights[a]), class_weight);
        V(clone_choice)(how, params + r, n, chosen, class_weight, weight, by_entropy, gradient + r, &sum);
        params += n * BLOCK;
        gradient += n * BLOCK;
        class_weights = class_weights ? class_weights + n : NULL;
    }
    return sum;
}

/* The same for a Gaussian; its squared distance is that of its mode in units of the range, and of the spread it says
 * nothing. Gradients of log_std (dims,) are added to `log_std`. */
INLINE V(Cloned) V(clone_gaussian)(const Distribution *dist, const CloningLoss *how, const float *params,
                                   const RowBlock *rows, int r, F weight, F by_entropy, float *gradient,
                                   float *log_std) {
    F square = V(all)(0), entropy;
    const F log_prob = V(log_prob)(dist, params, rows, r, &entropy);
    if (!how->squares) {
        V(distribution_gradient)(dist, params, rows, r, -weight, by_entropy, gradient, log_std);
        return (V(Cloned)){-log_prob, log_prob, entropy};
    }
    V(distribution_gradient)(dist, params, rows, r, V(all)(0), by_entropy, gradient, log_std);
    for (int k = 0; k < dist->dims; k++) {
        const F unit = (V(load)(rows->actions[k] + r) - dist->center[k]) / dist->scale[k];
        F mode = V(load)(params + k * BLOCK + r), slope = V(all)(1);
        if (dist->squash) {
            mode = V(vtanh)(mode);
            slope -= mode * mode;
        }
        const F off = mode - unit;
        square += off * off;
        V(store)(gradient + k * BLOCK + r, V(load)(gradient + k * BLOCK + r) + weight * 2 * off * slope);
    }
    return (V(Cloned)){square, log_prob, entropy};
}

/* L = sum share * weight * (loss - ent_coef * entropy), with its gradients by `params` and, added, by log_std. `stats`:
 * sums of weight * loss, and over the rows that are present of -log π and of the entropy, all times share. */
static void V(cloning_block)(const Distribution *dist, const CloningLoss *how, float share, const float *params,
                             const RowBlock *rows, float *params_gradient, double *stats, float *log_std) {
    F sums[CLONING_STATS] = {V(all)(0), V(all)(0), V(all)(0)};
    for (int r = 0; r < BLOCK; r += LANES) {
        const F weight = V(load)(rows->weights + r) * share, present = V(load)(rows->present + r) * share;
        const F by_entropy = -weight * how->ent_coef;
        const V(Cloned) of = dist->gaussian
            ? V(clone_gaussian)(dist, how, params, rows, r, weight, by_entropy, params_gradient, log_std)
            : V(clone_categorical)(dist, how, params, rows, r, weight, by_entropy, params_gradient);
        sums[CLONING_LOSS] += weight * of.loss;
        sums[CLONING_NLL] -= present * of.log_prob;
        sums[CLONING_ENTROPY] += present * of.entropy;
    }
    for (int k = 0; k < CLONING_STATS; k++)
        stats[k] += V(sum)(sums[k]);
}
