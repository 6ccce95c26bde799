/* Steps of a recurrent layer, for one instruction set (see simd.h, memory.h). */

/* Packed copies of the parameters that forward passes and, if asked for, backward passes read. */
static void V(pack_memory)(const Memory *m, const MemoryPlan *plan, bool backward, float *packed) {
    float *joined = packed + plan->joined;
    join_biases(m, plan, packed + plan->bias);
    join_weights(m, plan, joined);
    V(pack_as)(plan->operands, joined, true, plan->row, plan->gates, plan->row, plan->gates, packed + plan->forward);
    if (!backward)
        return;
    join_rows(plan, m->state_weights, true, m->units, m->units, joined);
    V(pack_as)(plan->operands, joined, false, plan->gates, m->units, plan->gates, plan->width, packed + plan->backward);
    join_rows(plan, m->input_weights, false, m->inputs, m->inputs, joined);
    V(pack_as)(plan->operands, joined, false, plan->gates, m->inputs, plan->gates, padded(m->inputs),
               packed + plan->inputs_backward);
}

/* Sums of gradients → torch's layout; `joined` (gates, row) is room. */
static void V(unpack_memory)(const MemoryPlan *plan, const float *sums, float *joined,
                             const MemoryGradients *to) {
    V(unpack)(sums + plan->weight_sum, plan->row, plan->gates, plan->row, plan->gates, joined);
    part_gradients(plan, joined, sums + plan->bias_sum, to);
}

/* `z` (whole tiles, gates) is room. */
static void V(memory_forward)(const MemoryPlan *plan, const float *packed, const MemoryStep *s, float *z) {
    const int rows = (s->count + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    V(multiply)(plan->operands, s->read, plan->row, packed + plan->forward, packed + plan->bias, z, plan->gates, rows,
                (Epilogue){.kind = STORE});
    if (plan->kind == LSTM)
        V(lstm_rows)(plan, s, z);
    else
        V(gru_rows)(plan, s, z);
}

/* From the gradient by this step's hidden state, in `s->hidden`, and by what later steps make of it and of the cell,
 * `later` and `carry` (count, width), to those by the gates' sums, in `s->gates`, and by the state before: `carry` and,
 * with `further`, `later` (readable and writable up to whole tiles). `cut` (count,) is set where the next step begins an
 * episode, NULL after the last step: nothing comes back from there. */
static void V(memory_backward)(const MemoryPlan *plan, const float *packed, const MemoryStep *s, const uint8_t *cut,
                               float *later, float *carry, bool further) {
    if (plan->kind == LSTM)
        V(lstm_rows_back)(plan, s, cut, later, carry);
    else
        V(gru_rows_back)(plan, s, cut, later, carry);
    if (further)
        V(multiply)(plan->operands, s->gates, plan->gates, packed + plan->backward, NULL, later, plan->width,
                    (s->count + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS, (Epilogue){.kind = STORE});
}

/* Gradients by the gates' sums (rows, gates), readable up to whole tiles → by the inputs (rows, padded inputs), whole
 * tiles of them. */
static void V(memory_inputs)(const MemoryPlan *plan, const float *packed, const float *by_gates, float *by_inputs,
                             int rows) {
    V(multiply)(plan->operands, by_gates, plan->gates, packed + plan->inputs_backward, NULL, by_inputs,
                padded(plan->inputs), (rows + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS, (Epilogue){.kind = STORE});
}

/* Adds to `sums` the gradients of `rows` rows, of one step or of several that follow one another: what was read
 * (rows, row), and the gradients by the gates' sums (rows, gates). */
static void V(memory_gradients)(const MemoryPlan *plan, const float *read, const float *by_gates, float *sums, int rows) {
    V(multiply_rows)(plan->operands, read, plan->row, by_gates, plan->gates, sums + plan->weight_sum, rows);
    V(add_columns)(by_gates, plan->gates, sums + plan->bias_sum, rows);
}
