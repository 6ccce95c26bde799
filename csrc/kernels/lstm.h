/* An LSTM's rows of one step forward and backward, for one instruction set (see simd.h, memory.h).
 *
 *     c = f c' + i g,   h = o tanh c;   i, f, o = sigmoid(z),  g = tanh(z),  z = W [x, h'] + b
 *
 * Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000, as torch has it. */

static void V(lstm_rows)(const MemoryPlan *plan, const MemoryStep *s, const float *z) {
    const int width = plan->width;
    for (int r = 0; r < s->count; r++, z += plan->gates) {
        const bool begins = s->starts && s->starts[r];
        float *gates = s->gates + (ptrdiff_t)r * plan->gates;
        const ptrdiff_t at = (ptrdiff_t)r * width;
        for (int j = 0; j < width; j += LANES) {
            const F i = V(sigmoid)(V(load)(z + j)), f = V(sigmoid)(V(load)(z + width + j));
            const F g = V(vtanh)(V(load)(z + 2 * width + j)), o = V(sigmoid)(V(load)(z + 3 * width + j));
            const F before = begins ? V(all)(0) : V(load)(s->before + at + j);
            const F cell = f * before + i * g;
            V(store)(gates + j, i);
            V(store)(gates + width + j, f);
            V(store)(gates + 2 * width + j, g);
            V(store)(gates + 3 * width + j, o);
            V(store)(s->cell + at + j, cell);
            V(store)(s->hidden + at + j, o * V(vtanh)(cell));
        }
    }
}

static void V(lstm_rows_back)(const MemoryPlan *plan, const MemoryStep *s, const uint8_t *cut, const float *later,
                              float *carry) {
    const int width = plan->width;
    const F zero = V(all)(0), one = V(all)(1);
    for (int r = 0; r < s->count; r++) {
        const bool begins = s->starts && s->starts[r], follows = cut && !cut[r];
        float *gates = s->gates + (ptrdiff_t)r * plan->gates;
        const ptrdiff_t at = (ptrdiff_t)r * width;
        for (int j = 0; j < width; j += LANES) {
            const F i = V(load)(gates + j), f = V(load)(gates + width + j);
            const F g = V(load)(gates + 2 * width + j), o = V(load)(gates + 3 * width + j);
            const F squashed = V(vtanh)(V(load)(s->cell + at + j));
            const F before = begins ? zero : V(load)(s->before + at + j);
            const F by_hidden = V(load)(s->hidden + at + j) + (follows ? V(load)(later + at + j) : zero);
            const F by_cell = (follows ? V(load)(carry + at + j) : zero) + by_hidden * o * (one - squashed * squashed);
            V(store)(gates + j, by_cell * g * i * (one - i));
            V(store)(gates + width + j, by_cell * before * f * (one - f));
            V(store)(gates + 2 * width + j, by_cell * i * (one - g * g));
            V(store)(gates + 3 * width + j, by_hidden * squashed * o * (one - o));
            V(store)(carry + at + j, by_cell * f);
        }
    }
}
