/* Gradients of losses through a recurrent layer and the networks on top of it: PPO's and behaviour cloning's. */
#ifndef PUFFER_IL_SEQUENCES_H
#define PUFFER_IL_SEQUENCES_H

#include "cloning.h"
#include "unroll.h"

enum { SEQUENCE_STATS = 8 };  // room for those of every loss

typedef struct SequencePass SequencePass;

/* What was demonstrated, and how it is learned from; `share` is a row's in the mean. */
typedef struct {
    CloningRows rows;  // whose observations and index are not read here
    CloningLoss loss;
    float share;
} ShownRows;

/* The loss of one block of rows, whose numbers in the data are `at`: from the networks' outputs to the gradients by
 * them. */
typedef void (*BlockLoss)(const SequencePass *, const int64_t *at, int64_t count, Scratch *actor, Scratch *critic,
                          double *stats, float *log_std);

struct SequencePass {
    MemoryPass memory;
    int networks;
    Pass pass[2];
    Sequences sequences;
    Observations obs;
    Distribution dist;
    BlockLoss loss;
    bool learn;      // back through time as well
    double *stats;   // (chunks, SEQUENCE_STATS)
    float *log_std;  // (chunks, MAX_DIMS)
    union {
        struct {
            PpoSettings settings;
            PpoRows rows;
        } ppo;
        ShownRows cloning;
    };
};

/* The networks on the rows of a group: outputs, loss and, in `g->hidden`, the gradients by what they read. */
static inline void judge_group(const SequencePass *p, const Group *g, Scratch *scratch, int64_t chunk) {
    const MemoryPlan *plan = &p->memory.plan;
    const Kernels *k = p->memory.kernels;
    double *stats = p->stats + chunk * SEQUENCE_STATS;
    float *log_std = p->log_std + chunk * MAX_DIMS;
    for (int64_t first = 0; first < g->rows; first += BLOCK) {
        const int64_t count = least(BLOCK, g->rows - first);
        float *hidden = g->hidden + first * plan->width;
        int rows;
        const float *x = whole_rows(hidden, count, plan->width, scratch[0].x, &rows);
        for (int i = 0; i < p->networks; i++) {
            k->block_forward(&p->pass[i].plan, p->pass[i].packed, x, scratch[i].tape, &scratch[i], rows);
            clear_tail(scratch[i].outputs, p->pass[i].plan.outputs, count);
        }
        p->loss(p, g->at + first, count, &scratch[0], &scratch[p->networks - 1], stats, log_std);
        if (!p->learn)
            continue;
        for (int i = 0; i < p->networks; i++)
            k->block_backward(&p->pass[i].plan, p->pass[i].packed, x, scratch[i].tape, &scratch[i],
                              sums_of(&p->pass[i], chunk), true, rows);
        memcpy(hidden, scratch[0].input_gradient, sizeof(float) * (size_t)(count * plan->width));
        for (int64_t j = 0; p->networks == 2 && j < count * plan->width; j++)
            hidden[j] += scratch[1].input_gradient[j];
    }
}

static void sequence_chunk(void *context, int64_t chunk, int thread) {
    const SequencePass *p = context;
    const Sequences *s = &p->sequences;
    Scratch scratch[2];
    float *sums = p->memory.sums + chunk * p->memory.plan.sums;
    memset(sums, 0, sizeof(float) * (size_t)p->memory.plan.sums);
    for (int i = 0; i < p->networks; i++) {
        scratch[i] = scratch_of(&p->pass[i], thread);
        memset(sums_of(&p->pass[i], chunk), 0, sizeof(float) * (size_t)p->pass[i].plan.sums);
    }
    memset(p->stats + chunk * SEQUENCE_STATS, 0, sizeof(double) * SEQUENCE_STATS);
    memset(p->log_std + chunk * MAX_DIMS, 0, sizeof(float) * MAX_DIMS);
    const int64_t stop = least((chunk + 1) * p->memory.chunk, s->columns);
    for (int64_t first = chunk * p->memory.chunk; first < stop; first += p->memory.group) {
        Group g = group_of(&p->memory, s, thread, first, least(p->memory.group, stop - first));
        read_group(&p->memory, s, &p->obs, &g);
        unroll(&p->memory, s, &g);
        judge_group(p, &g, scratch, chunk);
        if (p->learn)
            unroll_back(&p->memory, s, &g, sums);
    }
}

static inline size_t size_sequences(SequencePass *p, const Kernels *kernels, const Memory *memory, const ActorCritic *ac,
                                    int threads) {
    size_t bytes;
    p->networks = ac->networks;
    p->memory = size_memory(kernels, memory, &p->sequences, threads, &bytes);
    for (int i = 0; i < ac->networks; i++)
        bytes += size_head(&p->memory, &ac->net[i], p->sequences.columns * p->sequences.steps, threads, &p->pass[i]);
    return bytes + (size_t)p->memory.chunks * (sizeof(double) * SEQUENCE_STATS + sizeof(float) * MAX_DIMS);
}

/* Of observations, that a task reads. */
static inline int64_t sequence_bytes(const MemoryPass *pass, const Sequences *s, const Observations *obs) {
    return pass->chunk * (s->steps * obs->bytes + AROUND);
}

/* Runs the pass in `work`'s memory; `stats` (SEQUENCE_STATS,) and `log_std` (dims,) are sums over the chunks. */
static inline void run_sequences(SequencePass *p, const Work *work, const Memory *memory, const ActorCritic *ac,
                                 double *stats, float *log_std, int threads) {
    const int use = FOR_FORWARD | (p->learn ? FOR_BACKWARD | FOR_INPUT_GRADIENT : 0);
    float *at = lay_memory(&p->memory, memory, threads, p->learn, work->memory);
    for (int i = 0; i < ac->networks; i++)
        at = lay_pass(&p->pass[i], &ac->net[i], threads, use, true, at);
    p->stats = (double *)at;
    p->log_std = (float *)(p->stats + p->memory.chunks * SEQUENCE_STATS);
    prepare_distribution(&p->dist);
    run_pass(work, p->memory.chunks, sequence_chunk, p, sequence_bytes(&p->memory, &p->sequences, &p->obs),
             p->obs.data, p->obs.mapped);
    memset(stats, 0, sizeof(double) * SEQUENCE_STATS);
    memset(log_std, 0, sizeof(float) * (size_t)(p->dist.gaussian ? p->dist.dims : 0));
    for (int64_t chunk = 0; chunk < p->memory.chunks; chunk++) {
        for (int k = 0; k < SEQUENCE_STATS; k++)
            stats[k] += p->stats[chunk * SEQUENCE_STATS + k];
        for (int k = 0; p->dist.gaussian && k < p->dist.dims; k++)
            log_std[k] += p->log_std[chunk * MAX_DIMS + k];
    }
}

static inline void finish_sequences(SequencePass *p, const Work *work, const MemoryGradients *to,
                                    const ActorCritic *ac) {
    finish_memory(&p->memory, work, to);
    for (int i = 0; i < ac->networks; i++)
        finish_gradients(&p->pass[i], work, &ac->net[i], &ac->gradients[i]);
}

/* ---- PPO ---- */

static void ppo_loss(const SequencePass *p, const int64_t *at, int64_t count, Scratch *actor, Scratch *critic,
                     double *stats, float *log_std) {
    const ptrdiff_t value_row = p->networks == 1 ? (ptrdiff_t)p->dist.num_params * BLOCK : 0;
    RowBlock block;
    gather_ppo(&p->ppo.rows, &p->dist, at, count, &block);
    p->memory.kernels->ppo_block(&p->dist, &p->ppo.settings, actor->outputs, critic->outputs + value_row, &block,
                                 actor->output_gradients, critic->output_gradients + value_row, stats, log_std);
}

/* As ppo_gradients, of whole sequences of a policy with a memory; `rows->selection` says which they are. */
static bool ppo_sequences(const Kernels *kernels, const Memory *memory, const MemoryGradients *to, const ActorCritic *ac,
                          const Sequences *sequences, const Observations *obs, const Distribution *dist,
                          PpoSettings settings, const PpoRows *rows, double *stats, float *log_std, int threads) {
    SequencePass p = {.sequences = *sequences, .obs = *obs, .dist = *dist, .loss = ppo_loss, .learn = true};
    p.ppo.settings = settings;
    p.ppo.rows = *rows;
    p.ppo.settings.share = share_of(rows);
    Work work = begin_work(threads, size_sequences(&p, kernels, memory, ac, threads));
    const bool done = work.memory != NULL;
    if (done) {
        run_sequences(&p, &work, memory, ac, stats, log_std, threads);
        finish_sequences(&p, &work, to, ac);
    }
    end_work(&work);
    return done;
}

#endif
