/* Steps of an LSTM forward and backward, for one instruction set (see simd.h, memory.h).
 *
 *     c = f c' + i g,   h = o tanh c;   i, f, o = sigmoid(z),  g = tanh(z),  z = W [x, h'] + b
 *
 * Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000, as torch has it. */

/* Packed copies of the parameters that forward passes and, if asked for, backward passes read. */
static void V(pack_memory)(const Memory *m, const MemoryPlan *plan, bool backward, float *packed) {
    float *joined = packed + plan->joined;
    join_biases(m, plan, packed + plan->bias);
    join_weights(m, plan, joined);
    V(pack)(joined, true, plan->row, plan->gates, plan->row, plan->gates, packed + plan->forward);
    if (!backward)
        return;
    join_rows(m, plan, m->state_weights, m->units, joined);
    V(pack)(joined, false, plan->gates, m->units, plan->gates, plan->width, packed + plan->backward);
    join_rows(m, plan, m->input_weights, m->inputs, joined);
    V(pack)(joined, false, plan->gates, m->inputs, plan->gates, padded(m->inputs), packed + plan->inputs_backward);
}

/* Sums of gradients → torch's layout; `joined` (gates, row) is room. */
static void V(unpack_memory)(const Memory *m, const MemoryPlan *plan, const float *sums, float *joined,
                             const MemoryGradients *to) {
    V(unpack)(sums + plan->weight_sum, plan->row, plan->gates, plan->row, plan->gates, joined);
    part_gradients(m, plan, joined, sums + plan->bias_sum, to);
}

/* `z` (whole tiles, gates) is room. */
static void V(memory_forward)(const MemoryPlan *plan, const float *packed, const MemoryStep *s, float *z) {
    const int rows = (s->count + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS, width = plan->width;
    V(dense)(s->read, plan->row, 1, plan->row, packed + plan->forward, packed + plan->bias, z, plan->gates, rows,
             (Epilogue){.kind = STORE});
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

/* From the gradient by this step's hidden state, in `s->hidden`, and by what later steps make of it and of the cell,
 * `later` and `carry` (count, width), to those by the gates' sums, in `s->gates`, and by the state before: `carry` and,
 * with `further`, `later` (readable and writable up to whole tiles). `cut` (count,) is set where the next step begins an
 * episode, NULL after the last step: nothing comes back from there. */
static void V(memory_backward)(const MemoryPlan *plan, const float *packed, const MemoryStep *s, const uint8_t *cut,
                               float *later, float *carry, bool further) {
    const int rows = (s->count + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS, width = plan->width;
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
    if (further)
        V(dense)(s->gates, plan->gates, 1, plan->gates, packed + plan->backward, NULL, later, width, rows,
                 (Epilogue){.kind = STORE});
}

/* Gradients by the gates' sums (rows, gates), readable up to whole tiles → by the inputs (rows, padded inputs), whole
 * tiles of them. */
static void V(memory_inputs)(const MemoryPlan *plan, const float *packed, const float *by_gates, float *by_inputs,
                             int rows) {
    V(dense)(by_gates, plan->gates, 1, plan->gates, packed + plan->inputs_backward, NULL, by_inputs,
             padded(plan->inputs), (rows + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS, (Epilogue){.kind = STORE});
}

/* Adds to `sums` the gradients of `rows` rows, of one step or of several that follow one another: what was read
 * (rows, row), and the gradients by the gates' sums (rows, gates). */
static void V(memory_gradients)(const MemoryPlan *plan, const float *read, const float *by_gates, float *sums, int rows) {
    V(outer)(read, plan->row, 1, plan->row, by_gates, plan->gates, sums + plan->weight_sum, rows);
    V(add_columns)(by_gates, plan->gates, sums + plan->bias_sum, rows);
}
