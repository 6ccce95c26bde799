/* Forward, backward and double-backward passes of one block, for one instruction set (see simd.h, network.h). */

/* Packed copies of the parameters that the passes in `use` read. */
static void V(pack_network)(const Network *net, const Plan *plan, int use, float *packed) {
    int inputs = net->inputs;
    for (int l = 0; l < net->num_hidden; l++) {
        const int outputs = net->hidden[l], padded_inputs = inputs_of(plan, l);
        if (use & FOR_FORWARD && !plan->direct[l])
            V(pack_as)(plan->operands[l], net->weights[l], true, inputs, outputs, padded_inputs, plan->width[l],
                       packed + plan->forward[l]);
        memset(packed + plan->bias[l], 0, sizeof(float) * (size_t)plan->width[l]);
        memcpy(packed + plan->bias[l], net->biases[l], sizeof(float) * (size_t)outputs);
        if (use & (l ? FOR_BACKWARD : FOR_INPUT_GRADIENT))
            V(pack_as)(plan->operands[l], net->weights[l], false, outputs, inputs, plan->width[l],
                       padded(padded_inputs), packed + plan->backward[l]);
        inputs = outputs;
    }
    const int last = last_width(plan);
    memset(packed + plan->head_bias, 0, sizeof(float) * (size_t)plan->output_width);
    if (plan->outputs > NARROW_HEAD)
        memset(packed + plan->head_forward, 0, sizeof(float) * (size_t)last * plan->output_width);
    for (int head = 0, first = 0; head < net->num_heads; first += net->head_outputs[head++]) {
        const float *weights = net->head_weights[head];
        memcpy(packed + plan->head_bias + first, net->head_biases[head],
               sizeof(float) * (size_t)net->head_outputs[head]);
        for (int j = 0; j < last; j += TILE * LANES) {
            int filled;
            const int panel = V(panel_at)(j, last, inputs, &filled);
            float *rows = packed + plan->head_backward + (ptrdiff_t)j * plan->outputs + (ptrdiff_t)first * panel;
            memset(rows, 0, sizeof(float) * (size_t)panel * net->head_outputs[head]);
            for (int o = 0; filled && o < net->head_outputs[head]; o++)
                memcpy(rows + (ptrdiff_t)o * panel, weights + (ptrdiff_t)o * inputs + j, sizeof(float) * (size_t)filled);
        }
        for (int o = 0; plan->outputs > NARROW_HEAD && o < net->head_outputs[head]; o++) {
            const int column = first + o, j = column / (TILE * LANES) * TILE * LANES;
            int filled;
            const int panel = V(panel_at)(j, plan->output_width, plan->outputs, &filled);
            for (int k = 0; k < inputs; k++)
                packed[plan->head_forward + (ptrdiff_t)j * last + (ptrdiff_t)k * panel + column - j] =
                    weights[(ptrdiff_t)o * inputs + k];
        }
    }
}

/* Sums of gradients → torch's layout. */
static void V(unpack_gradients)(const Network *net, const Plan *plan, const float *sums, const Gradients *to) {
    int inputs = net->inputs;
    for (int l = 0; l < net->num_hidden; l++) {
        const int outputs = net->hidden[l];
        V(unpack)(sums + plan->weight_sum[l], inputs, outputs, inputs_of(plan, l), plan->width[l], to->weights[l]);
        memcpy(to->biases[l], sums + plan->bias_sum[l], sizeof(float) * (size_t)outputs);
        inputs = outputs;
    }
    const int last = last_width(plan);
    for (int head = 0, first = 0; head < net->num_heads; first += net->head_outputs[head++]) {
        memcpy(to->head_biases[head], sums + plan->head_bias_sum + first,
               sizeof(float) * (size_t)net->head_outputs[head]);
        for (int j = 0; j < last; j += TILE * LANES) {
            int filled;
            const int panel = V(panel_at)(j, last, inputs, &filled);
            const float *rows = sums + plan->head_sum + (ptrdiff_t)j * plan->outputs + (ptrdiff_t)first * panel;
            for (int o = 0; filled && o < net->head_outputs[head]; o++)
                memcpy(to->head_weights[head] + (ptrdiff_t)o * inputs + j, rows + (ptrdiff_t)o * panel,
                       sizeof(float) * (size_t)filled);
        }
    }
}

/* outputs[o][r] = bias[o] + h[r] · w[o]: whole rows against a row, LANES sums at a time. */
static void V(narrow_head)(const float *h, int width, const float *panels, int outputs, const float *bias, float *out,
                           int rows) {
    for (int o = 0; o < outputs; o++)
        for (int r = 0; r < rows; r += LANES) {
            F sum[LANES];
            for (int i = 0; i < LANES; i++)
                sum[i] = V(all)(0);
            for (int panel = 0; panel < width; panel += TILE * LANES) {
                const int panel_width = width - panel < TILE * LANES ? width - panel : TILE * LANES;
                const float *w = panels + (ptrdiff_t)panel * outputs + (ptrdiff_t)o * panel_width;
                for (int j = 0; j < panel_width; j += LANES) {
                    const F part = V(load)(w + j);
#pragma GCC unroll 16
                    for (int i = 0; i < LANES; i++)
                        sum[i] += part * V(load)(h + (ptrdiff_t)(r + i) * width + panel + j);
                }
            }
            V(store)(out + o * BLOCK + r, V(sums)(sum) + V(all)(bias ? bias[o] : 0));
        }
}

static void V(head)(const Plan *plan, const float *packed, const float *h, bool biased, Scratch *s, float *out,
                    int rows) {
    const int last = last_width(plan);
    const float *bias = biased ? packed + plan->head_bias : NULL;
    if (plan->outputs <= NARROW_HEAD) {
        V(narrow_head)(h, last, packed + plan->head_backward, plan->outputs, bias, out, rows);
        return;
    }
    V(dense)(h, last, 1, last, packed + plan->head_forward, bias, s->wide, plan->output_width, rows,
             (Epilogue){.kind = STORE});
    for (int o = 0; o < plan->outputs; o++)
        for (int r = 0; r < rows; r++)
            out[o * BLOCK + r] = s->wide[r * plan->output_width + o];
}

/* out[r][j] = x[r] · w[j] with torch's own weights (width, n): rows against rows, which needs no packing and so suits
 * few rows of wide layers. n and width are multiples of PAD. With `rounded` operands are rounded to bf16 first. */
INLINE void V(direct_products)(const float *x, int n, const float *w, float *out, int width, int rows,
                               const bool rounded) {
    enum { ROWS = 2, COLUMNS = LANES / ROWS };
    for (int j = 0; j < width; j += COLUMNS)
        for (int r = 0; r < rows; r += ROWS) {
            F sum[LANES];
            for (int i = 0; i < LANES; i++)
                sum[i] = V(all)(0);
            for (int k = 0; k < n; k += LANES) {
                F part[ROWS];
                for (int i = 0; i < ROWS; i++) {
                    part[i] = V(load)(x + (ptrdiff_t)(r + i) * n + k);
                    part[i] = rounded ? V(round_number)(part[i]) : part[i];
                }
#pragma GCC unroll 8
                for (int c = 0; c < COLUMNS; c++) {
                    F weight = V(load)(w + (ptrdiff_t)(j + c) * n + k);
                    weight = rounded ? V(round_number)(weight) : weight;
                    for (int i = 0; i < ROWS; i++)
                        sum[i * COLUMNS + c] += part[i] * weight;
                }
            }
            float sums[LANES];
            V(store)(sums, V(sums)(sum));
            for (int i = 0; i < ROWS; i++)
                for (int c = 0; c < COLUMNS; c++)
                    out[(ptrdiff_t)(r + i) * width + j + c] = sums[i * COLUMNS + c];
        }
}

/* As a hidden layer's dense, by direct_products. */
static void V(direct_dense)(int operands, const float *x, int n, const float *w, const float *bias, float *out,
                            int width, int rows, int activation, float *z) {
    if (operands == FLOATS)
        V(direct_products)(x, n, w, out, width, rows, false);
    else
        V(direct_products)(x, n, w, out, width, rows, true);
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < width; j += LANES) {
            const ptrdiff_t here = (ptrdiff_t)r * width + j;
            const F sum = V(load)(bias + j) + V(load)(out + here);
            if (z)
                V(store)(z + here, sum);
            V(store)(out + here, V(activate)(activation, sum));
        }
}

/* x (rows, inputs) → tape and s->outputs. `rows` is a multiple of TILE_ROWS and LANES, at most BLOCK. */
static void V(block_forward)(const Plan *plan, const float *packed, const float *x, Tape tape, Scratch *s, int rows) {
    const bool keep = plan->activation == SILU;
    for (int l = 0; l < plan->num_hidden; l++) {
        const int n = inputs_of(plan, l);
        float *z = keep ? tape.z[l] : NULL;
        if (plan->direct[l])
            V(direct_dense)(plan->operands[l], tape.h[l - 1], n, plan->direct[l], packed + plan->bias[l], tape.h[l],
                            plan->width[l], plan->direct_rows, plan->activation, z);
        else
            V(multiply)(plan->operands[l], l ? tape.h[l - 1] : x, n, packed + plan->forward[l], packed + plan->bias[l],
                        tape.h[l], plan->width[l], rows, (Epilogue){ACTIVATE, plan->activation, z, NULL, NULL});
    }
    V(head)(plan, packed, last_rows(plan, x, tape), true, s, s->outputs, rows);
}

/* From s->output_gradients (outputs, BLOCK) to s->d, whose d[l] is the gradient before layer l's activation. */
static void V(backward_data)(const Plan *plan, const float *packed, Tape tape, Scratch *s, int rows) {
    for (int l = plan->num_hidden - 1; l >= 0; l--) {
        const Epilogue e = {TIMES_SLOPE, plan->activation, NULL, tape.h[l], tape.z[l]};
        if (l == plan->num_hidden - 1)
            V(dense)(s->output_gradients, 1, BLOCK, plan->outputs, packed + plan->head_backward, NULL, s->d[l],
                     plan->width[l], rows, e);
        else
            V(multiply)(plan->operands[l + 1], s->d[l + 1], plan->width[l + 1], packed + plan->backward[l + 1], NULL,
                        s->d[l], plan->width[l], rows, e);
    }
}

static void V(input_gradient)(const Plan *plan, const float *packed, const float *d, float *dx, int rows) {
    V(multiply)(plan->operands[0], d, plan->width[0], packed + plan->backward[0], NULL, dx, plan->input_width, rows,
                (Epilogue){.kind = STORE});
}

static void V(add_head_gradients)(const Plan *plan, const float *g, const float *h, float *sums, int rows) {
    const int last = last_width(plan);
    V(outer)(g, 1, BLOCK, plan->outputs, h, last, sums + plan->head_sum, rows);
}

/* Adds to `sums` the block's gradients by the parameters, once s->d is that of backward_data. */
static void V(add_gradients)(const Plan *plan, const float *x, Tape tape, const Scratch *s, float *sums, int rows) {
    V(add_head_gradients)(plan, s->output_gradients, last_rows(plan, x, tape), sums, rows);
    for (int o = 0; o < plan->outputs; o++) {
        F sum = V(all)(0);
        for (int r = 0; r < rows; r += LANES)
            sum += V(load)(s->output_gradients + o * BLOCK + r);
        sums[plan->head_bias_sum + o] += V(sum)(sum);
    }
    for (int l = 0; l < plan->num_hidden; l++) {
        const int n = inputs_of(plan, l);
        V(multiply_rows)(plan->operands[l], l ? tape.h[l - 1] : x, n, s->d[l], plan->width[l],
                         sums + plan->weight_sum[l], rows);
        V(add_columns)(s->d[l], plan->width[l], sums + plan->bias_sum[l], rows);
    }
}

/* Adds the block's gradients to `sums`, which may be NULL; s->input_gradient (rows, input_width) if wanted. Rows that
 * do not count have output gradients of zero and a finite tape. */
static void V(block_backward)(const Plan *plan, const float *packed, const float *x, Tape tape, Scratch *s, float *sums,
                              bool input_gradient, int rows) {
    V(backward_data)(plan, packed, tape, s, rows);
    if (input_gradient && plan->num_hidden)
        V(input_gradient)(plan, packed, s->d[0], s->input_gradient, rows);
    else if (input_gradient)
        V(dense)(s->output_gradients, 1, BLOCK, plan->outputs, packed + plan->head_backward, NULL, s->input_gradient,
                 plan->input_width, rows, (Epilogue){.kind = STORE});
    if (sums)
        V(add_gradients)(plan, x, tape, s, sums, rows);
}

/* The first layer's weights of the last `count` inputs, for `last_inputs_gradient`: (count, width) in panels. */
static void V(pack_last_inputs)(const Network *net, const Plan *plan, int count, float *panels) {
    for (int j = 0; j < plan->width[0]; j += TILE * LANES) {
        int filled;
        const int panel = V(panel_at)(j, plan->width[0], net->hidden[0], &filled);
        for (int k = 0; k < count; k++, panels += panel)
            for (int i = 0; i < panel; i++)
                panels[i] = i < filled ? net->weights[0][(ptrdiff_t)(j + i + 1) * net->inputs - count + k] : 0;
    }
}

/* The gradient by the last `count` inputs alone, (count, BLOCK), from d = s->d[0]. */
static void V(last_inputs_gradient)(const Plan *plan, const float *panels, int count, const float *d, float *gradient,
                                    int rows) {
    V(narrow_head)(d, plan->width[0], panels, count, NULL, gradient, rows);
}

/* Gradients of c · ∂(g · y)/∂x, where y are the outputs, g = s->output_gradients and c (rows, inputs) is given, with
 * respect to parameters (added to `sums`, may be NULL), x (s->input_gradient, if wanted) and g (s->outputs, if wanted).
 * The tape and s->d of the backward pass must be there.
 *
 * v[l] is d[l] before its slope; a[l] the gradient with respect to d[l], b[l] = a[l] slope with respect to v[l]; then
 * d[l] becomes the gradient with respect to the sums before layer l's activation, which only its curvature passes on. */
static void V(block_double_backward)(const Plan *plan, const float *packed, const float *x, const float *c, Tape tape,
                                     Scratch *s, float *sums, bool input_gradient, bool output_gradient, int rows) {
    const int hidden = plan->num_hidden, act = plan->activation;
    const Epilogue plain = {.kind = STORE};
    for (int l = 0; l < hidden; l++) {
        const int width = plan->width[l], n = inputs_of(plan, l);
        const float *tangent = l ? s->b[l - 1] : c;
        if (sums)
            V(multiply_rows)(plan->operands[l], tangent, n, s->d[l], width, sums + plan->weight_sum[l], rows);
        V(multiply)(plan->operands[l], tangent, n, packed + plan->forward[l], NULL, s->a[l], width, rows, plain);
        for (ptrdiff_t i = 0; i < (ptrdiff_t)rows * width; i += LANES) {
            const F h = V(load)(tape.h[l] + i), z = act == SILU ? V(load)(tape.z[l] + i) : h;
            V(store)(s->b[l] + i, V(load)(s->a[l] + i) * V(slope)(act, h, z));
        }
        if (l == hidden - 1)
            V(dense)(s->output_gradients, 1, BLOCK, plan->outputs, packed + plan->head_backward, NULL, s->v[l], width,
                     rows, plain);
        else
            V(multiply)(plan->operands[l + 1], s->d[l + 1], plan->width[l + 1], packed + plan->backward[l + 1], NULL,
                        s->v[l], width, rows, plain);
    }
    if (sums)
        V(add_head_gradients)(plan, s->output_gradients, s->b[hidden - 1], sums, rows);
    if (output_gradient)
        V(head)(plan, packed, s->b[hidden - 1], false, s, s->outputs, rows);
    if (act == RELU) {  // piecewise linear: no curvature, nothing further depends on x or the biases
        if (input_gradient)
            memset(s->input_gradient, 0, sizeof(float) * (size_t)rows * plan->input_width);
        return;
    }
    for (int l = hidden - 1; l >= 0; l--) {
        const int width = plan->width[l], n = inputs_of(plan, l);
        if (l < hidden - 1)
            V(multiply)(plan->operands[l + 1], s->d[l + 1], plan->width[l + 1], packed + plan->backward[l + 1], NULL,
                        s->d[l], width, rows, (Epilogue){TIMES_SLOPE, act, NULL, tape.h[l], tape.z[l]});
        for (ptrdiff_t i = 0; i < (ptrdiff_t)rows * width; i += LANES) {
            const F h = V(load)(tape.h[l] + i), z = act == SILU ? V(load)(tape.z[l] + i) : h;
            const F bent = V(load)(s->a[l] + i) * V(load)(s->v[l] + i) * V(curvature)(act, h, z);
            V(store)(s->d[l] + i, bent + (l < hidden - 1 ? V(load)(s->d[l] + i) : V(all)(0)));
        }
        if (sums) {
            V(multiply_rows)(plan->operands[l], l ? tape.h[l - 1] : x, n, s->d[l], width, sums + plan->weight_sum[l],
                             rows);
            V(add_columns)(s->d[l], width, sums + plan->bias_sum[l], rows);
        }
    }
    if (input_gradient)
        V(input_gradient)(plan, packed, s->d[0], s->input_gradient, rows);
}
