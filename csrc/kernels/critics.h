/* Critics of actions: MLPs of rows (obs, actions) with one output, whose hidden layers may be normalised, over whole
 * minibatches; and one step of Adam shared out to threads. */
#ifndef PUFFER_IL_CRITICS_H
#define PUFFER_IL_CRITICS_H

#include "training.h"

enum { PIECE = 1 << 14 };  // parameters of one task of a step of Adam

/* `scale` and `shift` of each hidden layer's normalisation, or of their gradients, (hidden,) each; NULL: there is none. */
typedef struct {
    float *scale[MAX_HIDDEN], *shift[MAX_HIDDEN];
} Affine;

typedef struct {
    Network net;
    Affine affine;
    Gradients gradients;  // where those of the parameters go, and of `affine`
    Affine affine_gradients;
} Critic;

/* One critic's passes: its packed parameters, and the sums of its gradients in each chunk of rows. */
typedef struct {
    Pass pass;
    const Critic *critic;
    ptrdiff_t affine_floats;               // 0: its layers are not normalised
    float *affine, *affine_sums, *actions;  // as layer_norm.h lays them out, of each chunk; see pack_last_inputs
    int last_inputs;
} CriticPass;

static inline ptrdiff_t affine_floats(const Critic *critic, const Plan *plan) {
    ptrdiff_t floats = 0;
    for (int l = 0; critic->affine.scale[0] && l < plan->num_hidden; l++)
        floats += 2 * plan->width[l];
    return floats;
}

/* Lays a critic's memory out from `memory` on, for gradients too if it learns; with memory NULL it only counts. `chunk` is
 * how many rows have sums of their own, `last_inputs` how many inputs are actions. Returns the floats it takes. */
static inline ptrdiff_t lay_critic(const Kernels *kernels, const Critic *critic, int64_t rows, int64_t chunk, bool learns,
                                   int last_inputs, float *memory, CriticPass *side) {
    ptrdiff_t used = 0;
    size_t unused;
    side->critic = critic;
    side->pass = size_pass(kernels, &critic->net, rows, 1, learns, &unused);
    set_chunk(&side->pass, chunk, 1, learns);
    side->affine_floats = affine_floats(critic, &side->pass.plan);
    side->last_inputs = learns ? last_inputs : 0;
    const ptrdiff_t chunks = learns ? side->pass.chunks : 0;
    side->pass.packed = memory + place(&used, side->pass.plan.packed);
    side->pass.sums = memory + place(&used, chunks * side->pass.plan.sums);
    side->affine = memory + place(&used, side->affine_floats);
    side->affine_sums = memory + place(&used, chunks * side->affine_floats);
    side->actions = memory + place(&used, (ptrdiff_t)side->last_inputs * side->pass.plan.width[0]);
    return used;
}

/* Reads the parameters as they are now. */
static inline void pack_critic(CriticPass *side, int use) {
    const Plan *plan = &side->pass.plan;
    const Network *net = &side->critic->net;
    const Affine *affine = &side->critic->affine;
    float *to = side->affine;
    side->pass.kernels->pack_network(net, plan, use, side->pass.packed);
    if (side->last_inputs)
        side->pass.kernels->pack_last_inputs(net, plan, side->last_inputs, side->actions);
    for (int l = 0; side->affine_floats && l < plan->num_hidden; to += 2 * plan->width[l++]) {
        memset(to, 0, sizeof(float) * 2 * (size_t)plan->width[l]);
        memcpy(to, affine->scale[l], sizeof(float) * (size_t)net->hidden[l]);
        memcpy(to + plan->width[l], affine->shift[l], sizeof(float) * (size_t)net->hidden[l]);
    }
}

/* Adds the chunks' sums up, in their order, and writes the gradients out. */
static inline void finish_critic(CriticPass *side) {
    const Plan *plan = &side->pass.plan;
    const Network *net = &side->critic->net;
    const Affine *to = &side->critic->affine_gradients;
    for (int64_t chunk = 1; chunk < side->pass.chunks; chunk++) {
        add_sums(side->pass.sums, sums_of(&side->pass, chunk), plan->sums);
        add_sums(side->affine_sums, side->affine_sums + chunk * side->affine_floats, side->affine_floats);
    }
    side->pass.kernels->unpack_gradients(net, plan, side->pass.sums, &side->critic->gradients);
    const float *from = side->affine_sums;
    for (int l = 0; side->affine_floats && l < plan->num_hidden; from += 2 * plan->width[l++]) {
        memcpy(to->scale[l], from, sizeof(float) * (size_t)net->hidden[l]);
        memcpy(to->shift[l], from + plan->width[l], sizeof(float) * (size_t)net->hidden[l]);
    }
}

/* ---- blocks ---- */

static inline void critic_forward(const CriticPass *side, const float *x, Scratch *s, NormTape norm, int rows) {
    const Pass *pass = &side->pass;
    if (side->affine_floats)
        pass->kernels->normed_forward(&pass->plan, side->critic->net.hidden, pass->packed, side->affine, x, s->tape, norm,
                                      s, rows);
    else
        pass->kernels->block_forward(&pass->plan, pass->packed, x, s->tape, s, rows);
}

/* From s->output_gradients to s->d; the gradients by scale and shift are added to `sums`, which may be NULL. */
static inline void critic_backward(const CriticPass *side, Scratch *s, NormTape norm, float *sums, int rows) {
    const Pass *pass = &side->pass;
    if (side->affine_floats)
        pass->kernels->normed_backward(&pass->plan, side->critic->net.hidden, pass->packed, side->affine, s->tape, norm,
                                       s, sums, rows);
    else
        pass->kernels->backward_data(&pass->plan, pass->packed, s->tape, s, rows);
}

/* Moves the rows that `chosen` (count,) lists, in rising order, to the front of what a forward pass left; returns how
 * many rows a backward pass then has to do, the last ones without meaning. */
static inline int keep_rows(const Plan *plan, const int *chosen, int count, bool normed, Tape tape, NormTape norm) {
    for (int l = 0; l < plan->num_hidden; l++) {
        float *const rows[] = {tape.h[l], plan->activation == SILU ? tape.z[l] : NULL, normed ? norm.n[l] : NULL};
        const ptrdiff_t width = plan->width[l];
        for (int i = 0; i < count; i++) {
            if (chosen[i] == i)
                continue;
            for (int k = 0; k < 3; k++)
                if (rows[k])
                    memcpy(rows[k] + i * width, rows[k] + chosen[i] * width, sizeof(float) * (size_t)width);
            if (normed)
                norm.inverse[l][i] = norm.inverse[l][chosen[i]];
        }
    }
    return (int)round_up(count, TILE_ROWS);
}

/* ---- Adam ---- */

typedef struct {
    const Kernels *kernels;
    const Optimizer *optimizer;
    float factor, tau, *followers;
} Step;

static void step_piece(void *context, int64_t piece, int thread) {
    (void)thread;
    const Step *s = context;
    const Optimizer *o = s->optimizer;
    const int64_t at = piece * PIECE, n = least(PIECE, o->count - at);
    if (s->followers)
        s->kernels->adam_followed(&o->settings, o->step, s->factor, n, o->parameters + at, o->gradient + at,
                                  o->mean + at, o->square + at, s->followers + at, s->tau);
    else
        s->kernels->adam(&o->settings, o->step, s->factor, n, o->parameters + at, o->gradient + at, o->mean + at,
                         o->square + at);
}

/* One step, after which `followers`, unless they are NULL, go the share `tau` of the way to the parameters. Returns the
 * gradient's norm before it was clipped. */
static inline double share_step(const Kernels *kernels, Optimizer *o, float *followers, float tau,
                                const Work *work) {
    const double norm = sqrt(kernels->square_sum(o->gradient, o->count));
    o->step += 1;
    Step step = {kernels, o, clipping_factor(o, norm), tau, followers};
    run_tasks(work, chunks_of(o->count, PIECE), step_piece, &step);
    return norm;
}

#endif
