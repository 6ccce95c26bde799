/* Whole passes of the network of pictures over any number of rows, shared out to threads.
 *
 * Gradients are summed by parts whose size depends on the number of rows alone, so that they do not depend on how many
 * threads there are. */
#ifndef PUFFER_IL_PICTURES_H
#define PUFFER_IL_PICTURES_H

#include "passes.h"

enum {
    PICTURE_PARTS = 16,
    PICTURE_SPACE = 1 << 15,  // floats of the gradients of pictures that a thread goes back through at once
    LINEAR_COLUMNS = 96,      // of the linear layer's gradient at a time
};

/* Floats that `saved` must hold for `rows` rows: the first two activations of each, then the last ones. */
static inline int64_t picture_floats(const PicturePlan *plan, int64_t rows) {
    return plan->saved * rows + plan->flat * round_up(rows, TILE_ROWS);
}

typedef struct {
    const Kernels *kernels;
    const PicturePlan *plan;
    const PictureParameters *parameters;
    float *packed, *scratch;
    ptrdiff_t scratch_floats;
    const float *linear;  // where few rows read it as torch has it
    const char *x;
    ptrdiff_t row_bytes;
    int64_t rows, block;
    float *saved, *out;
} PictureForward;

static void picture_forward_block(void *context, int64_t number, int thread) {
    const PictureForward *f = context;
    const PicturePlan *plan = f->plan;
    const int64_t first = number * f->block, count = least(f->block, f->rows - first);
    float *space = f->scratch + thread * f->scratch_floats, *out = space + 2 * plan->flat + plan->layer[0].read;
    float *saved = out + PICTURE_BLOCK * PICTURE_FEATURES, *flat = saved + plan->saved;
    if (f->saved) {
        saved = f->saved + first * plan->saved;
        flat = f->saved + f->rows * plan->saved + first * plan->flat;
    }
    f->kernels->pictures_forward(plan, f->packed, f->linear, f->x + first * f->row_bytes, f->row_bytes, (int)count, saved,
                                 f->saved != NULL, flat, out, space);
    memcpy(f->out + first * PICTURE_FEATURES, out, sizeof(float) * (size_t)count * PICTURE_FEATURES);
}

/* Pictures `row_bytes` apart → out (rows, PICTURE_FEATURES); `saved` (picture_floats) is written for a backward pass, or
 * NULL. False if there is no memory. */
static bool pictures_forward(const Kernels *kernels, const PicturePlan *plan, const PictureParameters *parameters,
                             const void *x, ptrdiff_t row_bytes, int64_t rows, float *out, float *saved, int threads) {
    PictureForward f = {.kernels = kernels, .plan = plan, .parameters = parameters, .x = x, .row_bytes = row_bytes,
                        .rows = rows, .saved = saved, .out = out,
                        .linear = rows < FEW_PICTURES ? parameters->linear : NULL};
    f.block = least(PICTURE_BLOCK, round_up((rows + threads - 1) / threads, TILE_ROWS));
    f.scratch_floats = 2 * plan->flat + plan->layer[0].read + PICTURE_BLOCK * PICTURE_FEATURES + plan->saved +
                       PICTURE_BLOCK * plan->flat;
    Work work = begin_work(threads, sizeof(float) * (size_t)(plan->packed + threads * f.scratch_floats));
    if (work.memory) {
        f.packed = work.memory;
        f.scratch = f.packed + plan->packed;
        kernels->pack_pictures(plan, parameters, !f.linear, false, f.packed);
        run_tasks(&work, chunks_of(rows, f.block), picture_forward_block, &f);
    }
    const bool done = work.memory != NULL;
    end_work(&work);
    return done;
}

typedef struct {
    const Kernels *kernels;
    const PicturePlan *plan;
    const float *features, *out_gradient, *tangent;  // (rows, PICTURE_FEATURES) twice, (rows, pixels)
    const char *x;
    ptrdiff_t row_bytes;
    const float *saved;
    int64_t rows, part;
    float *packed, *scratch, *sums, *d, *flat_tangent;  // of all rows: d, flat_tangent
    ptrdiff_t scratch_floats;
    float *dx, *dout, *linear_gradient;
    bool gradients;
} PictureBackward;

static PictureSpace picture_space(const PicturePlan *plan, bool tangent, float *memory, ptrdiff_t *floats) {
    PictureSpace s = {0};
    ptrdiff_t each = plan->layer[0].read + (tangent ? plan->saved : 0), used = 0;
    for (int l = 0; l < CONVOLUTIONS; l++) {
        const Convolution *layer = &plan->layer[l];
        s.d_size[l] = round_up((ptrdiff_t)(layer->rows + 1) * (layer->columns + 1) * layer->out, 16);
        each += s.d_size[l];
    }
    s.at_once = each > PICTURE_SPACE ? 1 : (int)least(PICTURE_SPACE / each, PICTURE_BLOCK);
    s.flat = memory + picture_place(&used, (ptrdiff_t)PICTURE_BLOCK * plan->flat);
    s.space = memory + picture_place(&used, 2 * plan->flat);
    s.pixels = memory + picture_place(&used, s.at_once * plan->layer[0].read);
    s.tangent = memory + picture_place(&used, tangent ? s.at_once * plan->saved : 0);
    for (int l = 0; l < CONVOLUTIONS; l++)  // behind the first, positions that the gradient by pixels reads beyond it
        s.d[l] = memory + picture_place(&used, s.at_once * s.d_size[l] + (l ? 0 : 16 * 16));
    *floats = used;
    return s;
}

static void picture_backward_part(void *context, int64_t number, int thread) {
    const PictureBackward *b = context;
    const PicturePlan *plan = b->plan;
    float *memory = b->scratch + thread * b->scratch_floats, *sums = b->gradients ? b->sums + number * plan->sums : NULL;
    float *features = memory, *tangents = memory + PICTURE_BLOCK * PICTURE_FEATURES;
    ptrdiff_t floats;
    PictureSpace s = picture_space(plan, b->tangent != NULL, tangents + PICTURE_BLOCK * PICTURE_FEATURES, &floats);
    memset(memory, 0, sizeof(float) * (size_t)b->scratch_floats);
    if (sums)
        memset(sums, 0, sizeof(float) * (size_t)plan->sums);
    const ptrdiff_t pixels = (ptrdiff_t)plan->planes * plan->height * plan->width;
    const int64_t stop = least((number + 1) * b->part, b->rows);
    for (int64_t first = number * b->part; first < stop; first += PICTURE_BLOCK) {
        const int64_t count = least(PICTURE_BLOCK, stop - first), at = first * PICTURE_FEATURES;
        const int64_t tiles = round_up(count, TILE_ROWS);
        float *d = b->d + at;
        memset(d, 0, sizeof(float) * (size_t)tiles * PICTURE_FEATURES);
        for (int64_t i = 0; i < count * PICTURE_FEATURES; i++)
            d[i] = b->features[at + i] > 0 ? b->out_gradient[at + i] : 0;
        const PictureRows rows = {
            .x = b->x + first * b->row_bytes, .row_bytes = b->row_bytes, .dx_bytes = pixels * (ptrdiff_t)sizeof(float),
            .saved = b->saved + first * plan->saved, .flat = b->saved + b->rows * plan->saved + first * plan->flat, .d = d,
            .tangent = b->tangent ? b->tangent + first * pixels : NULL, .dx = b->dx ? b->dx + first * pixels : NULL,
            .flat_tangent = b->tangent ? b->flat_tangent + first * plan->flat : NULL};
        b->kernels->pictures_backward(plan, b->packed, &rows, (int)count, &s, sums);
        if (b->dout) {
            memcpy(features, b->features + at, sizeof(float) * (size_t)count * PICTURE_FEATURES);
            b->kernels->picture_tangents(plan, b->packed, rows.flat_tangent, features, (int)count, tangents);
            memcpy(b->dout + at, tangents, sizeof(float) * (size_t)count * PICTURE_FEATURES);
        }
    }
}

static void picture_linear_part(void *context, int64_t number, int thread) {
    const PictureBackward *b = context;
    const PicturePlan *plan = b->plan;
    const int64_t first = number * LINEAR_COLUMNS;
    const float *flat = b->tangent ? b->flat_tangent : b->saved + b->rows * plan->saved;
    b->kernels->linear_gradient(plan, flat, b->d, (int)b->rows, (int)first, (int)least(LINEAR_COLUMNS, plan->flat - first),
                                b->scratch + thread * b->scratch_floats, b->linear_gradient);
}

/* What follows from `out_gradient` and what pictures_forward saved: gradients of the parameters (may be NULL) and of the
 * pixels, floats that lie one picture behind the other (`dx`, may be NULL). With a tangent (rows, pixels) the gradients of
 * sum(tangent * dx) instead, and that by out_gradient (`dout`, may be NULL). False if there is no memory. */
static bool pictures_backward(const Kernels *kernels, const PicturePlan *plan, const PictureParameters *parameters,
                              const void *x, ptrdiff_t row_bytes, int64_t rows, const float *saved, const float *features,
                              const float *out_gradient, const PictureParameters *gradients, float *dx,
                              const float *tangent, float *dout, int threads) {
    PictureBackward b = {.kernels = kernels, .plan = plan, .features = features, .out_gradient = out_gradient,
                         .tangent = tangent, .x = x, .row_bytes = row_bytes, .saved = saved, .rows = rows, .dx = dx,
                         .dout = dout, .gradients = gradients != NULL,
                         .linear_gradient = gradients ? gradients->linear : NULL};
    b.part = round_up((rows + PICTURE_PARTS - 1) / PICTURE_PARTS, TILE_ROWS);
    const int64_t parts = chunks_of(rows, b.part), tiles = round_up(rows, TILE_ROWS);
    picture_space(plan, tangent != NULL, NULL, &b.scratch_floats);
    b.scratch_floats += 2 * PICTURE_BLOCK * PICTURE_FEATURES;
    if (b.scratch_floats < LINEAR_COLUMNS * PICTURE_FEATURES)
        b.scratch_floats = LINEAR_COLUMNS * PICTURE_FEATURES;
    const int64_t floats = plan->packed + threads * b.scratch_floats + parts * plan->sums + tiles * PICTURE_FEATURES +
                           (tangent ? tiles * plan->flat : 0);
    Work work = begin_work(threads, sizeof(float) * (size_t)floats);
    if (work.memory) {
        b.packed = work.memory;
        b.scratch = b.packed + plan->packed;
        b.sums = b.scratch + threads * b.scratch_floats;
        b.d = b.sums + parts * plan->sums;
        b.flat_tangent = b.d + tiles * PICTURE_FEATURES;
        kernels->pack_pictures(plan, parameters, dout != NULL, true, b.packed);
        run_tasks(&work, parts, picture_backward_part, &b);
        if (gradients) {
            run_tasks(&work, chunks_of(plan->flat, LINEAR_COLUMNS), picture_linear_part, &b);
            add_chunks(&work, b.sums, plan->sums, parts);
            kernels->unpack_pictures(plan, b.sums, gradients);
            for (int j = 0; j < PICTURE_FEATURES; j++)
                gradients->linear_bias[j] = 0;
            for (int64_t i = 0; !tangent && i < rows; i++)
                add_sums(gradients->linear_bias, b.d + i * PICTURE_FEATURES, PICTURE_FEATURES);
        }
    }
    const bool done = work.memory != NULL;
    end_work(&work);
    return done;
}

#endif
