/* Gaussians of one block, for one instruction set: as they are, and bent by tanh or with a spread that depends on the
 * observation. Parameters are (num_params, BLOCK). distributions.py has the equations. */

INLINE F V(gaussian_log_prob)(const Distribution *dist, const float *params, const RowBlock *rows, int r) {
    F log_prob = V(all)(0);
    for (int k = 0; k < dist->dims; k++) {
        const F unit = (V(load)(rows->actions[k] + r) - dist->center[k]) / dist->scale[k];
        const F z = (unit - V(load)(params + k * BLOCK + r)) * dist->inverse_std[k];
        log_prob += V(all)(-0.5f) * z * z - dist->log_norm[k];
    }
    return log_prob;
}

/* The same for a Gaussian; gradients of log_std (dims,) are added to `log_std`. */
INLINE void V(gaussian_gradient)(const Distribution *dist, const float *params, const RowBlock *rows, int r,
                                 F by_log_prob, F by_entropy, float *gradient, float *log_std) {
    for (int k = 0; k < dist->dims; k++) {
        const float inverse = dist->inverse_std[k];
        const F unit = (V(load)(rows->actions[k] + r) - dist->center[k]) / dist->scale[k];
        const F z = (unit - V(load)(params + k * BLOCK + r)) * inverse;
        V(store)(gradient + k * BLOCK + r, by_log_prob * z * inverse);
        log_std[k] += V(sum)(by_log_prob * (z * z - 1) + by_entropy);
    }
}

/* The log standard deviation of dimension k, and in `free` 1 where it may move, 0 where it is held at a bound. */
INLINE F V(log_std_of)(const Distribution *dist, const float *params, int k, int r, F *free) {
    const F one = V(all)(1), zero = V(all)(0), base = V(all)(dist->log_std[k]);
    *free = one;
    if (!dist->state_std)
        return base;
    const F raw = base + V(load)(params + (dist->dims + k) * BLOCK + r), low = V(all)(MIN_LOG_STD),
            high = V(all)(MAX_LOG_STD);
    *free = V(where_greater)(raw, high, zero, V(where_greater)(low, raw, zero, one));
    return V(vmin)(high, V(vmax)(low, raw));
}

/* log(1 - tanh(u)²), stable for large |u|. */
INLINE F V(log_tanh_slope)(F u) {
    return V(all)(2) * (V(all)(0.69314718055994531f) - u - V(softplus)(V(all)(-2) * u));
}

/* Where the Gaussian of dimension k is for an action, and in `correction` the log of the action's slope by it. */
INLINE F V(before_squash)(const Distribution *dist, const RowBlock *rows, int k, int r, F *correction) {
    const F unit = (V(load)(rows->actions[k] + r) - dist->center[k]) / dist->scale[k];
    *correction = V(all)(dist->log_scale[k]);
    if (!dist->squash)
        return unit;
    const F x = V(vmin)(V(all)(SQUASH_LIMIT), V(vmax)(V(all)(-SQUASH_LIMIT), unit));
    const F above = V(vlog)(V(all)(1) + x), below = V(vlog)(V(all)(1) - x);
    *correction += above + below;
    return V(all)(0.5f) * (above - below);
}

/* E log(1 - tanh(u)²) of a Gaussian u by quadrature, and its slopes by mean and log standard deviation. */
INLINE F V(expected_slope)(F mean, F std, F *by_mean, F *by_log_std) {
    // Gauss and Hermite's nodes above 0, and the weights of all from there on; ∫ f(x) N(x; 0, 1) dx = Σ w f(n)
    static const float nodes[4] = {0, 1.1544053947399682f, 2.3667594107345416f, 3.7504397177257425f};
    static const float weights[4] = {0.45714285714285713f, 0.24012317860501271f, 0.030757123967586501f,
                                     0.00054826885597221783f};
    F total = V(all)(0);
    *by_mean = *by_log_std = total;
    for (int side = -1; side <= 1; side += 2)
        for (int i = side < 0 ? 1 : 0; i < 4; i++) {
            const F step = std * ((float)side * nodes[i]), u = mean + step, weight = V(all)(weights[i]);
            const F slope = V(all)(-2) * weight * V(vtanh)(u);
            total += weight * V(log_tanh_slope)(u);
            *by_mean += slope;
            *by_log_std += slope * step;
        }
    return total;
}

/* log π and the entropy of squashed actions, or of a spread that depends on the observation. */
static F V(bent_log_prob)(const Distribution *dist, const float *params, const RowBlock *rows, int r, F *entropy) {
    const float half_log_2pi = 0.91893853320467274f;
    F log_prob = V(all)(0), free, correction, unused;
    *entropy = V(all)(0);
    for (int k = 0; k < dist->dims; k++) {
        const F mean = V(load)(params + k * BLOCK + r), log_std = V(log_std_of)(dist, params, k, r, &free);
        const F z = (V(before_squash)(dist, rows, k, r, &correction) - mean) * V(vexp)(-log_std);
        log_prob -= V(all)(0.5f) * z * z + log_std + half_log_2pi + correction;
        *entropy += log_std + (0.5f + half_log_2pi + dist->log_scale[k]);
        if (dist->squash)
            *entropy += V(expected_slope)(mean, V(vexp)(log_std), &unused, &unused);
    }
    return log_prob;
}

/* The gradient of sum(by_log_prob * log π + by_entropy * entropy); those of log_std (dims,) are added to `log_std`. */
static void V(bent_gradient)(const Distribution *dist, const float *params, const RowBlock *rows, int r, F by_log_prob,
                             F by_entropy, float *gradient, float *log_std) {
    for (int k = 0; k < dist->dims; k++) {
        F free, correction, slope_by_mean = V(all)(0), slope_by_log_std = V(all)(0);
        const F mean = V(load)(params + k * BLOCK + r), own = V(log_std_of)(dist, params, k, r, &free);
        const F inverse = V(vexp)(-own);
        const F z = (V(before_squash)(dist, rows, k, r, &correction) - mean) * inverse;
        if (dist->squash)
            V(expected_slope)(mean, V(vexp)(own), &slope_by_mean, &slope_by_log_std);
        const F by_log_std = free * (by_log_prob * (z * z - 1) + by_entropy * (slope_by_log_std + 1));
        V(store)(gradient + k * BLOCK + r, by_log_prob * z * inverse + by_entropy * slope_by_mean);
        if (dist->state_std)
            V(store)(gradient + (dist->dims + k) * BLOCK + r, by_log_std);
        log_std[k] += V(sum)(by_log_std);
    }
}

/* The action of dimension k, of what the Gaussian gives. */
INLINE F V(action_of)(const Distribution *dist, int k, F unit) {
    if (dist->squash)
        unit = V(vmin)(V(all)(SQUASH_LIMIT), V(vmax)(V(all)(-SQUASH_LIMIT), V(vtanh)(unit)));
    return dist->center[k] + dist->scale[k] * unit;
}
