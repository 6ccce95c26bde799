/* Behaviour cloning of whole sequences, of which some are padded: steps of which the table says -1 do not count. */
#ifndef PUFFER_IL_CLONE_SEQUENCES_H
#define PUFFER_IL_CLONE_SEQUENCES_H

#include "sequences.h"

static inline int64_t counted_steps(const Sequences *s) {
    int64_t counted = 0;
    for (int64_t column = 0; column < s->columns; column++)
        for (int64_t step = 0; step < s->steps; step++)
            counted += sequence_row(s, step, column) >= 0;
    return counted;
}

/* Actions and weights of a block; what pads a sequence has the first row's action and is not present. */
static inline void gather_shown(const SequencePass *p, const int64_t *at, int64_t count, RowBlock *block) {
    const CloningRows *shown = &p->cloning.rows;
    int64_t rows[BLOCK];
    memset(block->weights, 0, sizeof block->weights);
    memset(block->present, 0, sizeof block->present);
    for (int64_t r = 0; r < count; r++) {
        rows[r] = at[r] < 0 ? 0 : at[r];
        block->present[r] = at[r] >= 0;
        block->weights[r] = at[r] >= 0 && shown->weights ? shown->weights[at[r]] : block->present[r];
    }
    gather_actions(&p->dist, shown->actions, rows, count, block);
}

static void cloning_loss(const SequencePass *p, const int64_t *at, int64_t count, Scratch *actor, Scratch *critic,
                         double *stats, float *log_std) {
    (void)critic;
    RowBlock block;
    gather_shown(p, at, count, &block);
    p->memory.kernels->cloning_block(&p->dist, &p->cloning.loss, p->cloning.share, actor->outputs, &block,
                                     actor->output_gradients, stats, log_std);
}

static void cloning_score(const SequencePass *p, const int64_t *at, int64_t count, Scratch *actor, Scratch *critic,
                          double *stats, float *log_std) {
    RowBlock shown, modes;
    cloning_loss(p, at, count, actor, critic, stats, log_std);
    gather_shown(p, at, count, &shown);
    p->memory.kernels->mode_block(&p->dist, actor->outputs, &modes);
    compare_modes(&p->dist, &shown, &modes, count, stats + CLONING_STATS);
}

/* As clone_epoch: `s->index` is the order in which sequences are learned from, `batch` of them at a time. */
static bool clone_sequences(const Kernels *kernels, const Memory *memory, const MemoryGradients *to,
                            const ActorCritic *ac, const Sequences *s, const CloningRows *rows,
                            const Distribution *dist, const float *log_std, float *log_std_gradient,
                            const CloningLoss *loss, int64_t batch, Optimizer *optimizer, double means[3],
                            int threads) {
    SequencePass p = {.sequences = *s, .obs = rows->obs, .dist = *dist, .loss = cloning_loss, .learn = true};
    p.cloning = (ShownRows){*rows, *loss, 0};
    double stats[SEQUENCE_STATS];
    float unused[MAX_DIMS];
    p.sequences.columns = least(batch, s->columns);
    Work work = begin_work(threads, size_sequences(&p, kernels, memory, ac, threads));
    const bool done = work.memory != NULL;
    const int64_t batches = chunks_of(s->columns, batch);
    memset(means, 0, sizeof(double) * 3);
    for (int64_t first = 0; done && first < s->columns; first += batch) {
        p.sequences.index = s->index + first;
        p.sequences.columns = least(batch, s->columns - first);  // the last ones may be fewer, and need no more memory
        size_sequences(&p, kernels, memory, ac, threads);
        const int64_t counted = counted_steps(&p.sequences);
        p.cloning.share = counted ? 1.0f / (float)counted : 0;
        for (int k = 0; log_std && k < dist->dims; k++)
            p.dist.log_std[k] = log_std[k];
        run_sequences(&p, &work, memory, ac, stats, log_std_gradient ? log_std_gradient : unused, threads);
        finish_sequences(&p, &work, to, ac);
        means[0] += stats[CLONING_NLL] / (double)batches;
        means[1] += stats[CLONING_ENTROPY] / (double)batches;
        if (optimizer)
            means[2] += optimizer_step(kernels, optimizer) / (double)batches;
    }
    end_work(&work);
    return done;
}

/* As clone_score, of the sequences in `s->index`. */
static bool score_sequences(const Kernels *kernels, const Memory *memory, const ActorCritic *ac, const Sequences *s,
                            const CloningRows *rows, const Distribution *dist, const CloningLoss *loss,
                            double means[SCORE_STATS], int threads) {
    SequencePass p = {.sequences = *s, .obs = rows->obs, .dist = *dist, .loss = cloning_score};
    p.cloning = (ShownRows){*rows, *loss, 1};
    double stats[SEQUENCE_STATS];
    float unused[MAX_DIMS];
    Work work = begin_work(threads, size_sequences(&p, kernels, memory, ac, threads));
    const bool done = work.memory != NULL;
    if (done) {
        const int64_t counted = counted_steps(s);
        run_sequences(&p, &work, memory, ac, stats, unused, threads);
        for (int k = 0; k < SCORE_STATS; k++)
            means[k] = counted ? stats[k] / (double)counted : 0;
    }
    end_work(&work);
    return done;
}

/* ---- states between the sequences of an episode ---- */

typedef struct {
    MemoryPass memory;
    Sequences sequences;
    Observations obs;
    float *state;
} StatePass;

static void state_chunk(void *context, int64_t chunk, int thread) {
    const StatePass *p = context;
    const Sequences *s = &p->sequences;
    const MemoryPlan *plan = &p->memory.plan;
    const int64_t stop = least((chunk + 1) * p->memory.chunk, s->columns);
    for (int64_t first = chunk * p->memory.chunk; first < stop; first += p->memory.group) {
        Group g = group_of(&p->memory, s, thread, first, least(p->memory.group, stop - first));
        read_group(&p->memory, s, &p->obs, &g);
        unroll(&p->memory, s, &g);
        const MemoryStep last = step_of(plan, &g, s->steps - 1);
        for (int64_t c = 0; c < g.count; c++) {
            store_state(plan, last.hidden + c * plan->width, last.cell + c * plan->width,
                        p->state + (s->index[first + c] + 1) * plan->state);
        }
    }
}

/* Goes from the states (sequences, state) before the sequences in `s->index` to those after them, which are written
 * behind each: sequence i + 1 goes on where i ends. `state` is what `s->state` points to. */
static bool sequence_states(const Kernels *kernels, const Memory *memory, const Sequences *s, const Observations *obs,
                            float *state, int threads) {
    StatePass p = {.sequences = *s, .obs = *obs, .state = state};
    size_t bytes;
    p.memory = size_memory(kernels, memory, s, threads, &bytes);
    Work work = begin_work(threads, bytes);
    const bool done = work.memory != NULL;
    if (done) {
        lay_memory(&p.memory, memory, threads, false, work.memory);
        run_pass(&work, p.memory.chunks, state_chunk, &p, sequence_bytes(&p.memory, s, obs), obs->data, obs->mapped);
    }
    end_work(&work);
    return done;
}

#endif
