/* A tanh-squashed Gaussian over one block, for one instruction set; actions are in units of their range, and all arrays
 * (columns, BLOCK). off_policy.py has the equations. */

#define EACH_VECTOR(r) for (int r = 0; r < BLOCK; r += LANES)

/* actions = tanh(u), u = mean + std noise, and negentropy (BLOCK,) = log π + dims log 2, a sample of it:
 * log π = Σ -½ noise² - log std - ½ log 2π - 2 (log 2 - u - softplus(-2u)). */
static void V(squash_block)(const Distribution *dist, const float *params, const float *noise, float *actions,
                            float *negentropy) {
    const float half_log_2pi = 0.91893853320467274f, log_2 = 0.69314718055994531f;
    EACH_VECTOR(r) {
        F total = V(all)(0), free;
        for (int k = 0; k < dist->dims; k++) {
            const F normal = V(load)(noise + k * BLOCK + r), log_std = V(log_std_of)(dist, params, k, r, &free);
            const F u = V(load)(params + k * BLOCK + r) + V(vexp)(log_std) * normal;
            total += V(all)(log_2 - half_log_2pi) - V(all)(0.5f) * normal * normal - log_std - V(log_tanh_slope)(u);
            V(store)(actions + k * BLOCK + r, V(vtanh)(u));
        }
        V(store)(negentropy + r, total);
    }
}

/* Gradients by params of Σ_r weights[r] alpha negentropy[r] + f(actions), `by_actions` being that of f by actions; those
 * by log_std (dims,) are added to `log_std`. */
static void V(squash_gradient_block)(const Distribution *dist, float alpha, const float *params, const float *noise,
                                     const float *actions, const float *by_actions, const float *weights,
                                     float *gradient, float *log_std) {
    const F one = V(all)(1);
    EACH_VECTOR(r) {
        const F price = V(load)(weights + r) * alpha;
        for (int k = 0; k < dist->dims; k++) {
            F free;
            const F std = V(vexp)(V(log_std_of)(dist, params, k, r, &free));
            const F action = V(load)(actions + k * BLOCK + r);
            const F by_u = V(load)(by_actions + k * BLOCK + r) * (one - action * action) + V(all)(2) * price * action;
            const F by_log_std = free * (by_u * std * V(load)(noise + k * BLOCK + r) - price);
            V(store)(gradient + k * BLOCK + r, by_u);
            if (dist->state_std)
                V(store)(gradient + (dist->dims + k) * BLOCK + r, by_log_std);
            log_std[k] += V(sum)(by_log_std);
        }
    }
}

/* Adds the gradients of price Σ_r weights[r] KL(π ‖ origin)[r] to `gradient` and `log_std`; returns the sum itself
 * without the price. */
static double V(anchor_block)(const Distribution *dist, const Distribution *origin, float price, const float *params,
                              const float *origin_params, const float *weights, float *gradient, float *log_std) {
    double distance = 0;
    EACH_VECTOR(r) {
        const F weight = V(load)(weights + r), pull = weight * price;
        F total = V(all)(0);
        for (int k = 0; k < dist->dims; k++) {
            F free, unused;
            const F own = V(log_std_of)(dist, params, k, r, &free);
            const F given = V(log_std_of)(origin, origin_params, k, r, &unused);
            const F way = V(load)(params + k * BLOCK + r) - V(load)(origin_params + k * BLOCK + r);
            const F inverse = V(vexp)(V(all)(-2) * given), ratio = V(vexp)(V(all)(2) * (own - given));
            total += given - own + V(all)(0.5f) * (ratio + way * way * inverse) - 0.5f;
            const F by_log_std = free * pull * (ratio - 1);
            V(store)(gradient + k * BLOCK + r, V(load)(gradient + k * BLOCK + r) + pull * way * inverse);
            if (dist->state_std) {
                float *at = gradient + (dist->dims + k) * BLOCK + r;
                V(store)(at, V(load)(at) + by_log_std);
            }
            log_std[k] += V(sum)(by_log_std);
        }
        distance += V(sum)(weight * total);
    }
    return distance;
}

#undef EACH_VECTOR
