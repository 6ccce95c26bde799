/* Noise and samples of one block, for one instruction set. */

/* Four words of Philox4x32-10 for each of the counters (row + i, group, step). */
INLINE void V(philox)(Noise noise, uint32_t row, uint32_t group, I words[4]) {
    uint32_t key0 = (uint32_t)noise.seed, key1 = (uint32_t)(noise.seed >> 32);
    for (int i = 0; i < LANES; i++)
        words[0][i] = (int32_t)(row + (uint32_t)i);
    words[1] = (I){0} + (int32_t)group;
    words[2] = (I){0} + (int32_t)(uint32_t)noise.step;
    words[3] = (I){0} + (int32_t)(uint32_t)(noise.step >> 32);
    for (int round = 0; round < 10; round++) {
        I high0, low0, high1, low1;
        V(multiply_wide)(words[0], 0xD2511F53u, &high0, &low0);
        V(multiply_wide)(words[2], 0xCD9E8D57u, &high1, &low1);
        words[0] = high1 ^ words[1] ^ (int32_t)key0;
        words[1] = low1;
        words[2] = high0 ^ words[3] ^ (int32_t)key1;
        words[3] = low0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

/* [0, 1), 24 bits. */
INLINE F V(uniform)(I bits) {
    return __builtin_convertvector((bits >> 8) & 0xffffff, F) * 0x1p-24f;
}

/* sin(2 pi x) for |x| <= 1/4; Taylor's polynomial, absolute error below 1e-6. */
INLINE F V(sin_turn)(F x) {
    const F y = x * x;
    return x * (V(all)(6.2831853072f) + y * (V(all)(-41.3417022404f) + y * (V(all)(81.6052492761f) +
           y * (V(all)(-76.7058597531f) + y * (V(all)(42.0586939449f) + y * V(all)(-15.0946425768f))))));
}

/* Two standard normals from two uniforms (Box and Muller 1958). */
INLINE void V(normals)(F u, F v, F *first, F *second) {
    const F square = V(all)(-2) * V(vlog)(V(all)(1) - u);  // 1 - u is never 0
    float radius[LANES];
    for (int i = 0; i < LANES; i++)
        radius[i] = sqrtf(square[i] > 0 ? square[i] : 0);
    const F x = v - 0.5f, zero = V(all)(0), size = V(where_greater)(x, zero, x, -x), quarter = V(all)(0.25f);
    const F beyond = size - quarter, fold = quarter - V(where_greater)(beyond, zero, beyond, -beyond);
    const F sine = V(sin_turn)(fold);
    *first = V(load)(radius) * V(where_greater)(x, zero, sine, -sine);
    *second = V(load)(radius) * V(sin_turn)(quarter - size);
}

static void V(sample_categorical)(const Distribution *dist, const float *params, Noise noise, uint32_t row, int r,
                                  RowBlock *out) {
    I words[4];
    for (int k = 0; k < dist->dims; params += dist->choices[k++] * BLOCK) {
        if (k % 4 == 0)
            V(philox)(noise, row + (uint32_t)r, (uint32_t)k / 4, words);
        const int n = dist->choices[k];
        const V(Softmax) s = V(softmax)(params + r, n);
        const F sum = V(vexp)(s.log_sum), target = V(uniform)(words[k % 4]) * sum;
        F below = V(all)(0), chosen = V(all)(0);
        for (int a = 0; a < n - 1; a++) {
            below += V(vexp)(V(load)(params + a * BLOCK + r) - s.largest);
            chosen = V(where_greater)(below, target, chosen, V(all)((float)(a + 1)));
        }
        V(store_ints)(out->chosen[k] + r, __builtin_convertvector(chosen, I));
    }
}

static void V(sample_gaussian)(const Distribution *dist, const float *params, Noise noise, uint32_t row, int r,
                               RowBlock *out) {
    I words[4];
    F pair[2];
    for (int k = 0; k < dist->dims; k++) {
        if (k % 4 == 0)
            V(philox)(noise, row + (uint32_t)r, (uint32_t)k / 4, words);
        if (k % 2 == 0)
            V(normals)(V(uniform)(words[k % 4]), V(uniform)(words[k % 4 + 1]), &pair[0], &pair[1]);
        F std = V(all)(dist->std[k]), free;
        if (dist->state_std)
            std = V(vexp)(V(log_std_of)(dist, params, k, r, &free));
        const F unit = V(load)(params + k * BLOCK + r) + std * pair[k % 2];
        V(store)(out->actions[k] + r, V(action_of)(dist, k, unit));
    }
}

/* The likeliest actions of BLOCK rows, and their log-probabilities. */
static void V(mode_block)(const Distribution *dist, const float *params, RowBlock *out) {
    for (int r = 0; r < BLOCK; r += LANES) {
        const float *logits = params + r;
        for (int k = 0; k < dist->dims; logits += (dist->gaussian ? 1 : dist->choices[k]) * BLOCK, k++) {
            if (dist->gaussian) {
                V(store)(out->actions[k] + r, V(action_of)(dist, k, V(load)(logits)));
                continue;
            }
            F best = V(load)(logits), chosen = V(all)(0);
            for (int a = 1; a < dist->choices[k]; a++) {
                const F logit = V(load)(logits + a * BLOCK);
                chosen = V(where_greater)(logit, best, V(all)((float)a), chosen);
                best = V(where_greater)(logit, best, logit, best);
            }
            V(store_ints)(out->chosen[k] + r, __builtin_convertvector(chosen, I));
        }
        F entropy;
        V(store)(out->logprobs + r, V(log_prob)(dist, params, out, r, &entropy));
    }
}

/* Draws actions of BLOCK rows, the first of them `row` in the whole vector, and their log-probabilities. */
static void V(sample_block)(const Distribution *dist, const float *params, Noise noise, uint32_t row, RowBlock *out) {
    for (int r = 0; r < BLOCK; r += LANES) {
        F entropy;
        if (dist->gaussian)
            V(sample_gaussian)(dist, params, noise, row, r, out);
        else
            V(sample_categorical)(dist, params, noise, row, r, out);
        V(store)(out->logprobs + r, V(log_prob)(dist, params, out, r, &entropy));
    }
}
