/* A multilayer perceptron as the kernels see it: torch's own parameters, and where their packed copies lie. Over rows that
 * are padded there may be heads alone, without a hidden layer.
 *
 * Work goes by blocks of BLOCK rows, whose activations stay in the first two cache levels. Inside a block, hidden
 * layers are row-major, (BLOCK, width), with the width padded to a multiple of PAD; outputs lie the other way round,
 * (outputs, BLOCK), so that losses run along rows. Padded columns are zero from end to end.
 *
 * Matrices are packed in panels of one register tile's width: `forward` (in, out) and `backward` (out, in). Gradients
 * are summed in the shape of `forward` for hidden layers and of `backward` for the heads. */
#ifndef PUFFER_IL_NETWORK_H
#define PUFFER_IL_NETWORK_H

#include <stddef.h>
#include <stdint.h>

enum { MAX_HIDDEN = 8, MAX_HEADS = 2, BLOCK = 48, PAD = 16, TILE_ROWS = 6, NARROW_HEAD = 8 };
enum { IDENTITY, TANH, RELU, SILU, ELU };
enum { FLOATS, BF16, BF16_EMULATED };  // operands of products; sums are floats, and so is all else
enum {
    LEAST_BF16 = 32, MOST_BF16 = 8192,
    DENSE_PAIRS = 1 << 15,                  // pairs of rows' neighbours that are rounded at once
    OUTER_ROWS = 144, OUTER_COLUMNS = 384,  // rows and columns of a product over rows that are
};

/* Operands of a layer's products, where `wanted` are asked for: rounding them pays from LEAST_BF16 on (bench
 * bf16), and rows of more than MOST_BF16 numbers do not fit into the room for it. Heads keep floats. */
static inline int32_t operands_of(int32_t wanted, int32_t inputs, int32_t width) {
    const int32_t less = inputs < width ? inputs : width, more = inputs < width ? width : inputs;
    return less >= LEAST_BF16 && more <= MOST_BF16 ? wanted : FLOATS;
}

typedef struct {
    int32_t activation, num_hidden, num_heads, inputs;
    int32_t operands;  // that are asked for
    int32_t padded;  // the rows of inputs that it reads are padded as hidden layers are
    int32_t hidden[MAX_HIDDEN], head_outputs[MAX_HEADS];
    const float *weights[MAX_HIDDEN], *biases[MAX_HIDDEN];  // (hidden, inputs) row-major, (hidden,)
    const float *head_weights[MAX_HEADS], *head_biases[MAX_HEADS];  // outputs of all heads stand side by side
} Network;

/* What a packed copy is for. */
enum { FOR_FORWARD = 1, FOR_BACKWARD = 2, FOR_INPUT_GRADIENT = 4 };

/* Where gradients go: laid out as the Network's parameters are. */
typedef struct {
    float *weights[MAX_HIDDEN], *biases[MAX_HIDDEN], *head_weights[MAX_HEADS], *head_biases[MAX_HEADS];
} Gradients;

/* Sizes and offsets, in floats. */
typedef struct {
    int32_t activation, num_hidden, inputs, outputs, input_width, output_width;
    int32_t width[MAX_HIDDEN], operands[MAX_HIDDEN];
    const float *direct[MAX_HIDDEN];  // torch's own weights where a forward pass reads those instead of a packed copy,
    int32_t direct_rows;              // and how many rows it then computes
    ptrdiff_t forward[MAX_HIDDEN], bias[MAX_HIDDEN], backward[MAX_HIDDEN];
    ptrdiff_t head_forward, head_backward, head_bias, packed;  // head_forward only for more than NARROW_HEAD outputs
    ptrdiff_t weight_sum[MAX_HIDDEN], bias_sum[MAX_HIDDEN], head_sum, head_bias_sum, sums;
    ptrdiff_t parameters;
} Plan;

/* One block's activations. `z`, the sums before the activation, are kept only for SiLU, whose slope needs them. */
typedef struct {
    float *h[MAX_HIDDEN], *z[MAX_HIDDEN];
} Tape;

/* Of layers that are normalised before their activation: the normalised sums (BLOCK, width), and 1 / std (BLOCK,). */
typedef struct {
    float *n[MAX_HIDDEN], *inverse[MAX_HIDDEN];
} NormTape;

/* Work space of one thread, for one block. */
typedef struct {
    float *x, *tangent, *wide, *outputs, *output_gradients, *input_gradient;
    Tape tape;
    float *d[MAX_HIDDEN], *v[MAX_HIDDEN], *a[MAX_HIDDEN], *b[MAX_HIDDEN];
} Scratch;

/* What becomes of a product before it is stored: activation (its input kept in `z` if that is given), or multiplication
 * by the slope at h and z. */
typedef struct {
    enum { STORE, ACTIVATE, TIMES_SLOPE } kind;
    int activation;
    float *z;
    const float *slope_h, *slope_z;
} Epilogue;

static inline int32_t padded(int32_t n) {
    return (n + PAD - 1) / PAD * PAD;
}

static inline ptrdiff_t place(ptrdiff_t *offset, ptrdiff_t floats) {
    const ptrdiff_t start = *offset;
    *offset += (floats + PAD - 1) / PAD * PAD;
    return start;
}

static inline int32_t inputs_of(const Plan *plan, int layer) {
    return layer ? plan->width[layer - 1] : plan->inputs;
}

/* Width of what the heads read: the last hidden layer or, without one, the inputs, whose rows must then be padded. */
static inline int32_t last_width(const Plan *plan) {
    return plan->num_hidden ? plan->width[plan->num_hidden - 1] : plan->input_width;
}

/* The same rows themselves. */
static inline const float *last_rows(const Plan *plan, const float *x, Tape tape) {
    return plan->num_hidden ? tape.h[plan->num_hidden - 1] : x;
}

static inline Plan plan_network(const Network *net) {
    Plan plan = {.activation = net->activation, .num_hidden = net->num_hidden, .input_width = padded(net->inputs)};
    plan.inputs = net->padded ? plan.input_width : net->inputs;
    for (int head = 0; head < net->num_heads; head++)
        plan.outputs += net->head_outputs[head];
    plan.output_width = padded(plan.outputs);
    int32_t inputs = net->inputs;
    for (int l = 0; l < net->num_hidden; l++) {
        plan.width[l] = padded(net->hidden[l]);
        plan.parameters += (ptrdiff_t)(inputs + 1) * net->hidden[l];
        inputs = net->hidden[l];
    }
    plan.parameters += (ptrdiff_t)(inputs + 1) * plan.outputs;
    for (int l = 0; l < net->num_hidden; l++) {
        const ptrdiff_t floats = (ptrdiff_t)inputs_of(&plan, l) * plan.width[l];
        plan.operands[l] = operands_of(net->operands, inputs_of(&plan, l), plan.width[l]);
        plan.forward[l] = place(&plan.packed, floats);
        plan.bias[l] = place(&plan.packed, plan.width[l]);
        plan.backward[l] = place(&plan.packed, (ptrdiff_t)plan.width[l] * padded(inputs_of(&plan, l)));
        plan.weight_sum[l] = place(&plan.sums, floats);
        plan.bias_sum[l] = place(&plan.sums, plan.width[l]);
    }
    const int32_t last = last_width(&plan);
    plan.head_backward = place(&plan.packed, (ptrdiff_t)plan.outputs * last);
    plan.head_forward = place(&plan.packed, plan.outputs > NARROW_HEAD ? (ptrdiff_t)last * plan.output_width : 0);
    plan.head_bias = place(&plan.packed, plan.output_width);
    plan.head_sum = place(&plan.sums, (ptrdiff_t)plan.outputs * last);
    plan.head_bias_sum = place(&plan.sums, plan.output_width);
    return plan;
}

/* Lays a Scratch out from `memory` on; with memory NULL it only counts. Returns the floats it takes. */
static inline ptrdiff_t lay_scratch(const Plan *plan, float *memory, Scratch *scratch) {
    ptrdiff_t used = 0;
#define TAKE(field, columns) scratch->field = memory + place(&used, (ptrdiff_t)BLOCK * (columns))
    TAKE(x, plan->inputs);
    TAKE(tangent, plan->inputs);
    TAKE(wide, plan->output_width);
    TAKE(outputs, plan->outputs);
    TAKE(output_gradients, plan->outputs);
    TAKE(input_gradient, plan->input_width);
    for (int l = 0; l < plan->num_hidden; l++) {
        TAKE(tape.h[l], plan->width[l]);
        TAKE(tape.z[l], plan->activation == SILU ? plan->width[l] : 0);
        TAKE(d[l], plan->width[l]);
        TAKE(v[l], plan->width[l]);
        TAKE(a[l], plan->width[l]);
        TAKE(b[l], plan->width[l]);
    }
#undef TAKE
    return used;
}

#endif
