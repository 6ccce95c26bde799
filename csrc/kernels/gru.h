/* A GRU's rows of one step forward and backward, for one instruction set (see simd.h, memory.h).
 *
 *     h = (1 - u) n + u h';   r, u = sigmoid(z),  n = tanh(a + r b);
 *     z = W [x, h'] + c,   a = W_x x + c_x,   b = W_h h' + c_h
 *
 * Cho et al. 2014, with the reset gate behind the product, as torch and cuDNN have it. The four blocks of gates are r, u,
 * n and b; the cell is the hidden state. */

static void V(gru_rows)(const MemoryPlan *plan, const MemoryStep *s, const float *z) {
    const int width = plan->width;
    for (int k = 0; k < s->count; k++, z += plan->gates) {
        const bool begins = s->starts && s->starts[k];
        float *gates = s->gates + (ptrdiff_t)k * plan->gates;
        const ptrdiff_t at = (ptrdiff_t)k * width;
        for (int j = 0; j < width; j += LANES) {
            const F r = V(sigmoid)(V(load)(z + j)), u = V(sigmoid)(V(load)(z + width + j));
            const F b = V(load)(z + 3 * width + j), n = V(vtanh)(V(load)(z + 2 * width + j) + r * b);
            const F before = begins ? V(all)(0) : V(load)(s->before + at + j);
            const F hidden = n + u * (before - n);
            V(store)(gates + j, r);
            V(store)(gates + width + j, u);
            V(store)(gates + 2 * width + j, n);
            V(store)(gates + 3 * width + j, b);
            V(store)(s->cell + at + j, hidden);
            V(store)(s->hidden + at + j, hidden);
        }
    }
}

static void V(gru_rows_back)(const MemoryPlan *plan, const MemoryStep *s, const uint8_t *cut, const float *later,
                             float *carry) {
    const int width = plan->width;
    const F zero = V(all)(0), one = V(all)(1);
    for (int k = 0; k < s->count; k++) {
        const bool begins = s->starts && s->starts[k], follows = cut && !cut[k];
        float *gates = s->gates + (ptrdiff_t)k * plan->gates;
        const ptrdiff_t at = (ptrdiff_t)k * width;
        for (int j = 0; j < width; j += LANES) {
            const F r = V(load)(gates + j), u = V(load)(gates + width + j);
            const F n = V(load)(gates + 2 * width + j), b = V(load)(gates + 3 * width + j);
            const F before = begins ? zero : V(load)(s->before + at + j);
            F by_hidden = V(load)(s->hidden + at + j);
            if (follows)
                by_hidden += V(load)(later + at + j) + V(load)(carry + at + j);
            const F by_sum = by_hidden * (one - u) * (one - n * n);
            V(store)(gates + j, by_sum * b * r * (one - r));
            V(store)(gates + width + j, by_hidden * (before - n) * u * (one - u));
            V(store)(gates + 2 * width + j, by_sum);
            V(store)(gates + 3 * width + j, by_sum * r);
            V(store)(carry + at + j, by_hidden * u);
        }
    }
}
