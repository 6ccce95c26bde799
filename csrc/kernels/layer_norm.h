/* Hidden layers that are normalised before their activation (Ba, Kiros and Hinton 2016, arXiv:1607.06450), for one
 * instruction set: n = (z - mean z) / std z over a row's units, h = activation(scale n + shift).
 *
 * `affine` holds, layer after layer, scale and shift, padded with zeros: so padded columns of n and h are zero. */

#define NORM_EPS 1e-5f

/* Σ_j x[r][j], or Σ_j x[r][j] y[r][j] with `y`, of LANES rows. */
INLINE F V(row_sums)(const float *x, const float *y, int width) {
    F sum[LANES];
    for (int i = 0; i < LANES; i++) {
        F part = V(all)(0);
        for (int j = 0; j < width; j += LANES) {
            F one = V(load)(x + (ptrdiff_t)i * width + j);
            if (y)
                one *= V(load)(y + (ptrdiff_t)i * width + j);
            part += one;
        }
        sum[i] = part;
    }
    return V(sums)(sum);
}

/* z (rows, width) less its rows' means, padded columns staying zero; the variances of LANES rows. */
INLINE F V(centre_rows)(int units, int width, const float *there, float *z) {
    float mean[LANES];
    F square[LANES];
    V(store)(mean, V(row_sums)(z, NULL, width) * (1.0f / (float)units));
    for (int i = 0; i < LANES; i++) {
        float *row = z + (ptrdiff_t)i * width;
        const F middle = V(all)(mean[i]);
        F sum = V(all)(0);
        int j = 0;
        for (; j < width - PAD; j += LANES) {
            const F d = V(load)(row + j) - middle;
            V(store)(row + j, d);
            sum += d * d;
        }
        for (; j < width; j += LANES) {
            const F d = (V(load)(row + j) - middle) * V(load)(there + j - (width - PAD));
            V(store)(row + j, d);
            sum += d * d;
        }
        square[i] = sum;
    }
    return V(sums)(square) * (1.0f / (float)units);
}

/* In z (rows, width) the sums before the normalisation, which become n; h, and 1 / std of each row. */
INLINE void V(normalise_rows)(const int activation, int units, int width, const float *affine, float *z, float *inverse,
                              float *h, int rows) {
    float there[PAD];  // 1 for those of the last PAD columns that are units
    for (int i = 0; i < PAD; i++)
        there[i] = width - PAD + i < units;
    for (int first = 0; first < rows; first += LANES) {
        const F variance = V(centre_rows)(units, width, there, z + (ptrdiff_t)first * width);
        for (int i = 0; i < LANES; i++)
            inverse[first + i] = 1 / sqrtf(variance[i] + NORM_EPS);
        for (int i = first; i < first + LANES; i++) {
            const F factor = V(all)(inverse[i]);
            for (int j = 0; j < width; j += LANES) {
                const F n = V(load)(z + (ptrdiff_t)i * width + j) * factor;
                V(store)(z + (ptrdiff_t)i * width + j, n);
                V(store)(h + (ptrdiff_t)i * width + j,
                         V(activate)(activation, n * V(load)(affine + j) + V(load)(affine + width + j)));
            }
        }
    }
}

/* d (rows, width) is the gradient by h and becomes that by the sums before the normalisation; `sums`, laid out as
 * `affine`, gain the gradients by scale and shift, unless they are NULL. */
INLINE void V(through_norm)(const int activation, int units, int width, const float *affine, const float *n,
                            const float *inverse, const float *h, float *d, float *sums, int rows) {
    for (int j = 0; j < width; j += LANES) {
        const F scale = V(load)(affine + j), shift = V(load)(affine + width + j);
        F by_scale = V(all)(0), by_shift = V(all)(0);
        for (ptrdiff_t r = 0; r < rows; r++) {
            const F normed = V(load)(n + r * width + j);
            const F slope = V(slope)(activation, V(load)(h + r * width + j), normed * scale + shift);
            const F by_sum = V(load)(d + r * width + j) * slope;
            by_scale += by_sum * normed;
            by_shift += by_sum;
            V(store)(d + r * width + j, by_sum * scale);
        }
        if (sums) {
            V(store)(sums + j, V(load)(sums + j) + by_scale);
            V(store)(sums + width + j, V(load)(sums + width + j) + by_shift);
        }
    }
    for (int first = 0; first < rows; first += LANES) {
        const ptrdiff_t at = (ptrdiff_t)first * width;
        float mean[LANES], along[LANES];
        V(store)(mean, V(row_sums)(d + at, NULL, width) * (1.0f / (float)units));
        V(store)(along, V(row_sums)(d + at, n + at, width) * (1.0f / (float)units));
        for (int i = 0; i < LANES; i++) {
            const F factor = V(all)(inverse[first + i]), middle = V(all)(mean[i]), share = V(all)(along[i]);
            for (ptrdiff_t j = at + (ptrdiff_t)i * width; j < at + (ptrdiff_t)(i + 1) * width; j += LANES)
                V(store)(d + j, factor * (V(load)(d + j) - middle - V(load)(n + j) * share));
        }
    }
}

#define EACH_ACTIVATION(call)            \
    switch (plan->activation) {          \
    case TANH: V(call)(TANH, ARGUMENTS); break; \
    case RELU: V(call)(RELU, ARGUMENTS); break; \
    case SILU: V(call)(SILU, ARGUMENTS); break; \
    case ELU: V(call)(ELU, ARGUMENTS); break;   \
    }

/* As block_forward; `units` are the widths without padding. */
static void V(normed_forward)(const Plan *plan, const int32_t *units, const float *packed, const float *affine,
                              const float *x, Tape tape, NormTape norm, Scratch *s, int rows) {
    for (int l = 0; l < plan->num_hidden; l++) {
        const int n = inputs_of(plan, l), width = plan->width[l];
        V(multiply)(plan->operands[l], l ? tape.h[l - 1] : x, n, packed + plan->forward[l], packed + plan->bias[l],
                    norm.n[l], width, rows, (Epilogue){.kind = STORE});
#define ARGUMENTS units[l], width, affine, norm.n[l], norm.inverse[l], tape.h[l], rows
        EACH_ACTIVATION(normalise_rows)
#undef ARGUMENTS
        affine += 2 * width;
    }
    V(head)(plan, packed, tape.h[plan->num_hidden - 1], true, s, s->outputs, rows);
}

/* As backward_data; `sums` may be NULL. */
static void V(normed_backward)(const Plan *plan, const int32_t *units, const float *packed, const float *affine,
                               Tape tape, NormTape norm, Scratch *s, float *sums, int rows) {
    const int last = plan->num_hidden - 1;
    ptrdiff_t place = 0;
    for (int l = 0; l <= last; l++)
        place += 2 * plan->width[l];
    for (int l = last; l >= 0; l--) {
        const int width = plan->width[l];
        const Epilogue plain = {.kind = STORE};
        place -= 2 * width;
        if (l == last)
            V(dense)(s->output_gradients, 1, BLOCK, plan->outputs, packed + plan->head_backward, NULL, s->d[l], width,
                     rows, plain);
        else
            V(multiply)(plan->operands[l + 1], s->d[l + 1], plan->width[l + 1], packed + plan->backward[l + 1], NULL,
                        s->d[l], width, rows, plain);
#define ARGUMENTS units[l], width, affine + place, norm.n[l], norm.inverse[l], tape.h[l], s->d[l], \
                  sums ? sums + place : NULL, rows
        EACH_ACTIVATION(through_norm)
#undef ARGUMENTS
    }
}

#undef EACH_ACTIVATION
#undef NORM_EPS
