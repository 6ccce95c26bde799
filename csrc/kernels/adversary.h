/* The discriminator's rows and its gradients: a loss of expert against policy rows, and the gradient penalty. */
#ifndef PUFFER_IL_ADVERSARY_H
#define PUFFER_IL_ADVERSARY_H

#include "training.h"

/* Pairs as a discriminator sees them: observation; action features (one-hot, or clipped to [low, high] and scaled), or
 * the next observation, or nothing; a zero that stands for "not absorbing". */
typedef struct {
    Observations obs;
    const void *next;     // observations; NULL: none
    Distribution dist;
    const void *actions;  // NULL: none
    const float *low, *high;
    const int64_t *index;  // NULL: all rows in order
    int64_t rows, stride;  // floats from one row of `out` to the next
    int32_t width;
    float *out;
} Pairs;

static inline void action_features(const Pairs *p, int64_t row, float *to) {
    const Distribution *dist = &p->dist;
    if (dist->gaussian) {
        const float *action = (const float *)p->actions + row * dist->dims;
        for (int k = 0; k < dist->dims; k++) {
            const float bounded = action[k] < p->low[k] ? p->low[k] : action[k] > p->high[k] ? p->high[k] : action[k];
            to[k] = (bounded - dist->center[k]) / dist->scale[k];
        }
        return;
    }
    const int32_t *action = (const int32_t *)p->actions + row * dist->dims;
    memset(to, 0, sizeof(float) * (size_t)dist->num_params);
    for (int k = 0; k < dist->dims; to += dist->choices[k++])
        to[action[k]] = 1;
}

enum { PAIR_ROWS = 1024 };

/* Pairs number [first, stop), `stride` floats apart from `to` on. */
static inline void write_pairs(const Pairs *p, int64_t first, int64_t stop, int64_t stride, float *to) {
    const int columns = p->obs.columns;
    for (int64_t i = first; i < stop; i++, to += stride) {
        const int64_t row = p->index ? p->index[i] : i;
        to_floats(p->obs.dtype, (const char *)p->obs.data + row * p->obs.bytes, columns, to);
        normalise(&p->obs, columns, to);
        if (p->next) {
            to_floats(p->obs.dtype, (const char *)p->next + row * p->obs.bytes, columns, to + columns);
            normalise(&p->obs, columns, to + columns);
        }
        if (p->actions)
            action_features(p, row, to + columns);
        to[p->width - 1] = 0;
    }
}

static void pair_chunk(void *context, int64_t chunk, int thread) {
    (void)thread;
    const Pairs *p = context;
    const int64_t first = chunk * PAIR_ROWS;
    write_pairs(p, first, least(first + PAIR_ROWS, p->rows), p->stride, p->out + first * p->stride);
}

static void make_pairs(Pairs *pairs, int threads) {
    Work work = begin_work(threads, 0);
    run_tasks(&work, chunks_of(pairs->rows, PAIR_ROWS), pair_chunk, pairs);
    end_work(&work);
}

typedef struct {
    Pass pass;
    Pairs pairs;
} PairLogits;

static void logit_chunk(void *context, int64_t chunk, int thread) {
    const PairLogits *l = context;
    const Pass *pass = &l->pass;
    Scratch s = scratch_of(pass, thread);
    const int64_t stop = least((chunk + 1) * pass->chunk, pass->rows);
    for (int64_t first = chunk * pass->chunk; first < stop; first += BLOCK) {
        const int64_t count = least(BLOCK, stop - first);
        write_pairs(&l->pairs, first, first + count, l->pairs.width, s.x);
        int rows;
        const float *x = whole_rows(s.x, count, pass->plan.inputs, s.tangent, &rows);
        pass->kernels->block_forward(&pass->plan, pass->packed, x, s.tape, &s, rows);
        memcpy(l->pairs.out + first, s.outputs, sizeof(float) * (size_t)count);
    }
}

/* The network's only output for every pair, into `pairs->out` (rows,), without the inputs ever being in memory. */
static bool pair_logits(const Kernels *kernels, const Network *net, const Pairs *pairs, int threads) {
    size_t bytes;
    PairLogits l = {size_pass(kernels, net, pairs->rows, threads, false, &bytes), *pairs};
    Work work = begin_work(threads, bytes);
    const bool done = work.memory != NULL;
    if (done) {
        lay_pass(&l.pass, net, threads, FOR_FORWARD, false, work.memory);
        run_tasks(&work, l.pass.chunks, logit_chunk, &l);
    }
    end_work(&work);
    return done;
}

enum { NO_PENALTY, INTERPOLATED, ZERO_CENTRED };
enum { DISC_LOSS, DISC_RIGHT_EXPERT, DISC_RIGHT_POLICY, DISC_LOGIT_EXPERT, DISC_LOGIT_POLICY, DISC_PENALTY, DISC_NORM,
       DISC_STATS };

typedef struct {
    float label_smoothing, ent_coef, penalty_coef, penalty_target;
    int32_t penalty, loss;
} DiscSettings;

/* A logit is a sum of networks' only outputs, each times a weight, less a number that the row brings along: of gail's
 * discriminator one network that reads whole rows, of airl's g(s, a) + gamma h(s') - h(s) - log pi. */
enum { MAX_TERMS = 3, MAX_NETWORKS = 2 };

typedef struct {
    int32_t network, first, last;  // it reads the columns from `first` on, and as its last input the column `last`
    float weight;
} Term;

typedef struct {
    int32_t networks, terms, width, offset;  // of a row; the column that is subtracted, -1: none
    Network net[MAX_NETWORKS];
    Gradients gradients[MAX_NETWORKS];
    Term term[MAX_TERMS];
} Logit;

typedef struct {
    const Logit *logit;
    Pass pass[MAX_NETWORKS];
    DiscSettings settings;
    const float *expert, *policy, *mix;
    double *stats;  // (chunks, DISC_STATS)
    float *slopes;  // (threads, width)
} DiscPass;

static inline const Pass *pass_of(const DiscPass *p, int term) {
    return &p->pass[p->logit->term[term].network];
}

/* What a term reads of `count` rows, or with `mix` of points between them and those of `others`: where they are if that
 * will do, or else in `copy`, with zeros after them. */
static inline const float *read_term(const Logit *logit, const Term *term, int inputs, const float *from,
                                     const float *others, const float *mix, int64_t count, float *copy, int *rows) {
    if (inputs == logit->width && !mix)
        return whole_rows(from, count, inputs, copy, rows);
    *rows = (int)round_up(count, TILE_ROWS);
    for (int64_t r = 0; r < count; r++) {
        const float *row = from + r * logit->width + term->first, *last = from + r * logit->width + term->last;
        float *to = copy + r * inputs;
        memcpy(to, row, sizeof(float) * (size_t)(inputs - 1));
        to[inputs - 1] = *last;
        if (!mix)
            continue;
        const float *other = others + (row - from), share = mix[r];
        for (int i = 0; i < inputs - 1; i++)
            to[i] = share * to[i] + (1 - share) * other[i];
        to[inputs - 1] = share * *last + (1 - share) * others[last - from];
    }
    memset(copy + count * inputs, 0, sizeof(float) * (size_t)((*rows - count) * inputs));
    return copy;
}

/* The loss of one block: `expert` tells the side. */
static inline void side_block(const DiscPass *p, Scratch *scratch, int64_t chunk, const float *rows_of_side,
                              int64_t count, bool expert, double *stats) {
    const Logit *logit = p->logit;
    const Kernels *k = p->pass[0].kernels;
    const float label = expert ? 1 - p->settings.label_smoothing : p->settings.label_smoothing;
    float weights[BLOCK], logits[BLOCK] = {0}, slopes[BLOCK];
    for (int64_t r = 0; r < BLOCK; r++)
        weights[r] = r < count ? 0.5f / (float)p->pass[0].rows : 0;
    const float *x[MAX_TERMS];
    int rows = 0;
    for (int t = 0; t < logit->terms; t++) {
        const Pass *pass = pass_of(p, t);
        Scratch *s = &scratch[t];
        x[t] = read_term(logit, &logit->term[t], pass->plan.inputs, rows_of_side, NULL, NULL, count, s->x, &rows);
        k->block_forward(&pass->plan, pass->packed, x[t], s->tape, s, rows);
        for (int64_t r = 0; r < count; r++)
            logits[r] += logit->term[t].weight * s->outputs[r];
    }
    for (int64_t r = 0; logit->offset >= 0 && r < count; r++)
        logits[r] -= rows_of_side[r * logit->width + logit->offset];
    double of_block[3] = {0, 0, 0};
    k->verdict_block(p->settings.loss, logits, expert ? 1 : -1, label, weights, p->settings.ent_coef, slopes, of_block);
    for (int t = 0; t < logit->terms; t++) {
        const Pass *pass = pass_of(p, t);
        for (int r = 0; r < BLOCK; r++)
            scratch[t].output_gradients[r] = logit->term[t].weight * slopes[r];
        k->block_backward(&pass->plan, pass->packed, x[t], scratch[t].tape, &scratch[t], sums_of(pass, chunk), false,
                          rows);
    }
    stats[DISC_LOSS] += of_block[0];
    stats[expert ? DISC_LOGIT_EXPERT : DISC_LOGIT_POLICY] += 2 * of_block[1];
    stats[expert ? DISC_RIGHT_EXPERT : DISC_RIGHT_POLICY] += 2 * of_block[2];
}

/* What a penalty on a gradient of this squared norm is multiplied with to be the gradient by it; adds to `stats`. */
static inline float penalty_slope(const DiscPass *p, float square, double *stats) {
    const double count = (double)p->pass[0].rows;
    const float norm = sqrtf(square), excess = norm - p->settings.penalty_target;
    const float factor = 2 * p->settings.penalty_coef / (float)p->pass[0].rows;
    stats[DISC_NORM] += norm / count;
    if (p->settings.penalty == ZERO_CENTRED) {
        stats[DISC_PENALTY] += square / count;
        return factor;
    }
    stats[DISC_PENALTY] += excess > 0 ? excess * excess / count : 0;
    return factor * (excess > 0 ? excess / norm : 0);
}

/* Penalty on the norm of the logit's gradient at one block of points. `slopes` (width,) is room for one. */
static inline void penalty_block(const DiscPass *p, Scratch *scratch, int64_t chunk, float *slopes, const float *expert,
                                 const float *policy, const float *mix, int64_t count, double *stats) {
    const Logit *logit = p->logit;
    const Kernels *k = p->pass[0].kernels;
    const float *x[MAX_TERMS];
    int rows = 0;
    for (int t = 0; t < logit->terms; t++) {
        const Pass *pass = pass_of(p, t);
        Scratch *s = &scratch[t];
        x[t] = read_term(logit, &logit->term[t], pass->plan.inputs, expert, policy, mix, count, s->x, &rows);
        for (int64_t r = 0; r < BLOCK; r++)
            s->output_gradients[r] = r < count ? logit->term[t].weight : 0;
        k->block_forward(&pass->plan, pass->packed, x[t], s->tape, s, rows);
        k->backward_data(&pass->plan, pass->packed, s->tape, s, rows);
        k->input_gradient(&pass->plan, pass->packed, s->d[0], s->input_gradient, rows);
        memset(s->tangent + count * pass->plan.inputs, 0, sizeof(float) * (size_t)((rows - count) * pass->plan.inputs));
    }
    for (int64_t r = 0; r < count; r++) {
        memset(slopes, 0, sizeof(float) * (size_t)logit->width);
        for (int t = 0; t < logit->terms; t++) {  // a column may be read by several
            const Plan *plan = &pass_of(p, t)->plan;
            const float *g = scratch[t].input_gradient + r * plan->input_width;
            float *to = slopes + logit->term[t].first;
            for (int i = 0; i < plan->inputs - 1; i++)
                to[i] += g[i];
            slopes[logit->term[t].last] += g[plan->inputs - 1];
        }
        float square = 0;
        for (int i = 0; i < logit->width; i++)
            square += slopes[i] * slopes[i];
        const float factor = penalty_slope(p, square, stats);
        for (int t = 0; t < logit->terms; t++) {
            const int inputs = pass_of(p, t)->plan.inputs;
            const float *of = slopes + logit->term[t].first;
            float *tangent = scratch[t].tangent + r * inputs;
            for (int i = 0; i < inputs - 1; i++)
                tangent[i] = factor * of[i];
            tangent[inputs - 1] = factor * slopes[logit->term[t].last];
        }
    }
    for (int t = 0; t < logit->terms; t++) {
        const Pass *pass = pass_of(p, t);
        k->block_double_backward(&pass->plan, pass->packed, x[t], scratch[t].tangent, scratch[t].tape, &scratch[t],
                                 sums_of(pass, chunk), false, false, rows);
    }
}

static void disc_chunk(void *context, int64_t chunk, int thread) {
    const DiscPass *p = context;
    const Logit *logit = p->logit;
    Scratch scratch[MAX_TERMS];
    for (int t = 0; t < logit->terms; t++)
        scratch[t] = scratch_of(pass_of(p, t), thread * logit->terms + t);
    for (int i = 0; i < logit->networks; i++)
        memset(sums_of(&p->pass[i], chunk), 0, sizeof(float) * (size_t)p->pass[i].plan.sums);
    double *stats = p->stats + chunk * DISC_STATS;
    memset(stats, 0, sizeof(double) * DISC_STATS);
    const int64_t size = p->pass[0].chunk, stop = least((chunk + 1) * size, p->pass[0].rows);
    for (int64_t first = chunk * size; first < stop; first += BLOCK) {
        const int64_t count = least(BLOCK, stop - first);
        const float *expert = p->expert + first * logit->width, *policy = p->policy + first * logit->width;
        side_block(p, scratch, chunk, expert, count, true, stats);
        side_block(p, scratch, chunk, policy, count, false, stats);
        if (p->settings.penalty != NO_PENALTY)
            penalty_block(p, scratch, chunk, p->slopes + (ptrdiff_t)thread * logit->width, expert, policy,
                          p->mix ? p->mix + first : NULL, count, stats);
    }
}

/* Gradients of the discriminator's loss on equally many expert and policy rows (rows, width); `mix` (rows,) are the
 * expert's shares in the points of an interpolated penalty, NULL without one. `stats` (DISC_STATS,). False if there is
 * no memory. */
static bool discriminator_gradients(const Kernels *kernels, const Logit *logit, DiscSettings settings,
                                    const float *expert, const float *policy, const float *mix, int64_t rows,
                                    double *stats, int threads) {
    DiscPass p = {.logit = logit, .settings = settings, .expert = expert, .policy = policy, .mix = mix};
    const int scratches = threads * logit->terms;  // terms of one network have each its own activations
    const size_t bytes = size_passes(kernels, logit->net, logit->networks, rows, scratches, p.pass);
    const int64_t chunks = p.pass[0].chunks;
    Work work = begin_work(threads, bytes + sizeof(double) * (size_t)(chunks * DISC_STATS) +
                                        sizeof(float) * (size_t)threads * (size_t)logit->width);
    const bool done = work.memory != NULL;
    if (done) {
        float *memory = work.memory;
        for (int i = 0; i < logit->networks; i++)
            memory = lay_pass(&p.pass[i], &logit->net[i], scratches, FOR_FORWARD | FOR_BACKWARD | FOR_INPUT_GRADIENT,
                              true, memory);
        p.stats = (double *)memory;
        p.slopes = (float *)(p.stats + chunks * DISC_STATS);
        run_tasks(&work, chunks, disc_chunk, &p);
        for (int i = 0; i < logit->networks; i++)
            finish_gradients(&p.pass[i], &work, &logit->net[i], &logit->gradients[i]);
        memset(stats, 0, sizeof(double) * DISC_STATS);
        for (int64_t chunk = 0; chunk < chunks; chunk++)
            for (int k = 0; k < DISC_STATS; k++)
                stats[k] += p.stats[chunk * DISC_STATS + k];
    }
    end_work(&work);
    return done;
}

#endif
