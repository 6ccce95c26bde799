/* Convolutions of one picture, their gradients, and packed weights, for one instruction set (see picture_plan.h).
 *
 * Vectors hold channels of the output; the sums of a row of positions stay in registers while the taps go by, so that each
 * value that is read is multiplied with one or two vectors of weights. */

#define CONV_TAKEN (LANES == 16 ? 1 : 2)  // vectors at a time of a layer of 16 channels; 2 of one of 32
#if LANES == 16
#define CONV_MOST_ONE 21
#define CONV_MOST_TWO 12
#else
#define CONV_MOST_ONE 5
#define CONV_MOST_TWO 5
#endif

/* Sums over segments of what is read, each contiguous, for every position of a grid. */
typedef struct {
    const float *x, *w, *bias;    // `bias` may be NULL
    ptrdiff_t x_row;              // from a position to the one below
    ptrdiff_t segment[3 * MOST_PLANES];
    int segments, length, channels, rows, columns;
    float *out;
    ptrdiff_t out_row, out_step;
    const float *mask;            // where it is not above zero the sum becomes zero; NULL: where the sum itself is not
    ptrdiff_t mask_row, mask_step;
} V(Sweep);

/* The sums of `count` neighbours in each of `height` rows. */
INLINE void V(sweep_tile)(const V(Sweep) *s, int row, int column, int channel, const int height, const int count,
                          const int vectors, const int step) {
    F sum[CONV_MOST_ONE > 2 * CONV_MOST_TWO ? CONV_MOST_ONE : 2 * CONV_MOST_TWO];
    const float *x = s->x + row * s->x_row + column * step, *w = s->w + channel;
#pragma GCC unroll 32
    for (int i = 0; i < height * count; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            sum[i * vectors + j] = s->bias ? V(load)(s->bias + channel + j * LANES) : V(all)(0);
    for (int part = 0; part < s->segments; part++) {
        const float *from = x + s->segment[part];
        for (int k = 0; k < s->length; k++, from++, w += s->channels) {
            F weight[2];
#pragma GCC unroll 2
            for (int j = 0; j < vectors; j++)
                weight[j] = V(load)(w + j * LANES);
#pragma GCC unroll 4
            for (int r = 0; r < height; r++)
#pragma GCC unroll 32
                for (int i = 0; i < count; i++) {
                    const F factor = V(all)(from[r * s->x_row + i * step]);
#pragma GCC unroll 2
                    for (int j = 0; j < vectors; j++)
                        sum[(r * count + i) * vectors + j] += factor * weight[j];
                }
            // What neighbours read again one step later must not be kept: there is no register for it.
            __asm__ volatile("" ::: "memory");
        }
    }
    const F zero = V(all)(0);
#pragma GCC unroll 4
    for (int r = 0; r < height; r++)
#pragma GCC unroll 32
        for (int i = 0; i < count; i++)
#pragma GCC unroll 2
            for (int j = 0; j < vectors; j++) {
                const F value = sum[(r * count + i) * vectors + j];
                float *out = s->out + (row + r) * s->out_row + (column + i) * s->out_step + channel + j * LANES;
                if (s->mask)
                    V(store)(out, V(where_greater)(V(load)(s->mask + (row + r) * s->mask_row +
                                                           (column + i) * s->mask_step + channel + j * LANES),
                                                   zero, value, zero));
                else
                    V(store)(out, V(vmax)(zero, value));
            }
}

/* Rows that fill the registers together where there are few columns. */
INLINE int V(sweep_height)(int columns) {
    return LANES < 16 || columns > 6 ? 1 : columns > 4 ? 2 : columns > 3 ? 3 : 4;
}

/* Tiles of a part of the columns, for all rows. */
INLINE void V(sweep_columns)(const V(Sweep) *s, int column, int count, int channel, const int vectors, const int step) {
    for (int row = 0; row < s->rows;) {
        const int most = V(sweep_height)(count), height = s->rows - row < most ? s->rows - row : most;
        switch (32 * height + count) {
#define CASE(h, c)                                                              \
    case 32 * h + c:                                                            \
        V(sweep_tile)(s, row, column, channel, h, c, vectors, step);            \
        break
        CASE(1, 1); CASE(1, 2); CASE(1, 3); CASE(1, 4); CASE(1, 5);
#if LANES == 16
        CASE(1, 6); CASE(1, 7); CASE(1, 8); CASE(1, 9); CASE(1, 10); CASE(1, 11); CASE(1, 12);
        CASE(2, 1); CASE(2, 2); CASE(2, 3); CASE(2, 4); CASE(2, 5); CASE(2, 6);
        CASE(3, 1); CASE(3, 2); CASE(3, 3); CASE(3, 4); CASE(4, 1); CASE(4, 2); CASE(4, 3);
        default:
            if (vectors == 1)
                switch (32 + count) {
                CASE(1, 13); CASE(1, 14); CASE(1, 15); CASE(1, 16); CASE(1, 17); CASE(1, 18); CASE(1, 19); CASE(1, 20);
                CASE(1, 21);
                }
#endif
#undef CASE
        }
        row += height;
    }
}

INLINE void V(sweep)(const V(Sweep) *s, const int vectors, const int step) {
    const int most = vectors == 1 ? CONV_MOST_ONE : CONV_MOST_TWO, parts = (s->columns + most - 1) / most;
    for (int channel = 0; channel < s->channels; channel += vectors * LANES)
        for (int part = 0, column = 0; part < parts; part++) {
            const int count = (s->columns - column) / (parts - part);
            V(sweep_columns)(s, column, count, channel, vectors, step);
            column += count;
        }
}

static void V(sweep_pixels)(const V(Sweep) *s) { V(sweep)(s, CONV_TAKEN, 2); }
static void V(sweep_sixteen)(const V(Sweep) *s) { V(sweep)(s, 2, 32); }
static void V(sweep_thirty_two)(const V(Sweep) *s) { V(sweep)(s, 2, 64); }
static void V(sweep_back)(const V(Sweep) *s) { V(sweep)(s, CONV_TAKEN, 32); }

/* sums[part][k] += sum over positions of what is read there times d, for `parts` segments of `count` values; the rows of
 * sums are of `channels` floats. */
INLINE void V(gradient_tile)(const float *x, ptrdiff_t x_picture, ptrdiff_t x_row, int step, ptrdiff_t segment,
                             const float *d, ptrdiff_t d_picture, ptrdiff_t d_row, int channels, int pictures, int rows,
                             int columns, float *sums, const int parts, const int count, const int vectors) {
    F sum[24];
#pragma GCC unroll 32
    for (int i = 0; i < parts * count; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            sum[i * vectors + j] = V(load)(sums + i * channels + j * LANES);
    for (int picture = 0; picture < pictures; picture++)
        for (int row = 0; row < rows; row++) {
            const float *from = x + picture * x_picture + row * x_row;
            const float *by = d + picture * d_picture + row * d_row;
            for (int column = 0; column < columns; column++, from += step, by += channels) {
                F gradient[2];
#pragma GCC unroll 2
                for (int j = 0; j < vectors; j++)
                    gradient[j] = V(load)(by + j * LANES);
#pragma GCC unroll 4
                for (int part = 0; part < parts; part++)
#pragma GCC unroll 16
                    for (int k = 0; k < count; k++) {
                        const F factor = V(all)(from[part * segment + k]);
#pragma GCC unroll 2
                        for (int j = 0; j < vectors; j++)
                            sum[(part * count + k) * vectors + j] += factor * gradient[j];
                    }
            }
        }
#pragma GCC unroll 32
    for (int i = 0; i < parts * count; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            V(store)(sums + i * channels + j * LANES, sum[i * vectors + j]);
}

/* Adds the gradient of a layer's weights and, where it is wanted, of its bias. `x` is what the layer has read, with its
 * border; rows of d, (rows, columns, out), are `d_row` apart, pictures of either `x_picture` and `d_picture`. */
static void V(weight_gradient)(const Convolution *layer, bool pixels, const float *x, ptrdiff_t x_picture, const float *d,
                               ptrdiff_t d_picture, ptrdiff_t d_row, int pictures, float *sums, float *bias) {
    const int out = layer->out, in = layer->in, pitch = 2 * layer->columns + 1;
    enum { AT_ONCE = LANES == 16 ? 12 : 4 };
    if (pixels)
        for (int plane = 0; plane < in; plane++)
            for (int c = 0; c < out; c += LANES)
                V(gradient_tile)(x + (ptrdiff_t)plane * pitch * (2 * layer->rows + 1), x_picture, 2 * pitch, 2, pitch, d + c,
                                 d_picture, d_row, out, pictures, layer->rows, layer->columns,
                                 sums + (ptrdiff_t)plane * TAPS * out + c, 3, 3, 1);
    else
        for (int row = 0; row < 3; row++)
            for (int k = 0; k < 3 * in; k += AT_ONCE)
                for (int c = 0; c < out; c += 2 * LANES)
                    V(gradient_tile)(x + row * pitch * in + k, x_picture, (ptrdiff_t)2 * pitch * in, 2 * in, 0, d + c,
                                     d_picture, d_row, out, pictures, layer->rows, layer->columns,
                                     sums + ((ptrdiff_t)row * 3 * in + k) * out + c, 1, AT_ONCE, 2);
    for (int picture = 0; bias && picture < pictures; picture++)
        for (int row = 0; row < layer->rows; row++)
            V(add_columns)(d + picture * d_picture + row * d_row, out, bias, layer->columns);
}

/* The layer's outputs, rectified; or, with a mask, (rows, columns, out) without a border, its sums where that is above
 * zero. `out` and `mask` are of `out_row` and `mask_row` floats a row. */
static void V(convolve)(const Convolution *layer, bool pixels, const float *packed, bool biased, const float *x, float *out,
                        ptrdiff_t out_row, const float *mask, ptrdiff_t mask_row) {
    const int pitch = 2 * layer->columns + 1;
    V(Sweep) s = {.x = x, .w = packed + layer->weights, .bias = biased ? packed + layer->biases : NULL,
                  .channels = layer->out, .rows = layer->rows, .columns = layer->columns, .out = out,
                  .out_row = out_row, .out_step = layer->out, .mask = mask, .mask_row = mask_row,
                  .mask_step = layer->out};
    if (pixels) {
        s.x_row = 2 * pitch, s.length = 3, s.segments = 3 * layer->in;
        for (int i = 0; i < s.segments; i++)
            s.segment[i] = ((ptrdiff_t)(i / 3) * (2 * layer->rows + 1) + i % 3) * pitch;
        V(sweep_pixels)(&s);
    } else {
        s.x_row = (ptrdiff_t)2 * pitch * layer->in, s.length = 3 * layer->in, s.segments = 3;
        for (int i = 0; i < 3; i++)
            s.segment[i] = (ptrdiff_t)i * pitch * layer->in;
        (layer->in == 16 ? V(sweep_sixteen) : V(sweep_thirty_two))(&s);
    }
}

/* The gradient by what the layer has read, `read` (which lies with its border), where that is above zero. `d` has a row
 * and a column of zeros behind (rows, columns, 32), and so has `out` behind (height, width, in). */
static void V(convolve_back)(const Convolution *layer, const float *packed, const float *d, const float *read,
                             float *out) {
    const int in = layer->in, pitch = 2 * layer->columns + 1, d_row = (layer->columns + 1) * layer->out;
    for (int parity = 0; parity < 4; parity++) {
        const int down = parity / 2, right = parity % 2, first = TURNED_FIRST[parity];
        V(Sweep) s = {.x = d, .w = packed + layer->turned + (ptrdiff_t)first * layer->out * in, .x_row = d_row,
                      .segments = TURNED_FIRST[parity + 1] - first, .length = layer->out, .channels = in,
                      .rows = (layer->height - down + 1) / 2, .columns = (layer->width - right + 1) / 2,
                      .out = out + (down * (layer->width + 1) + right) * in,
                      .out_row = (ptrdiff_t)2 * (layer->width + 1) * in, .out_step = 2 * in,
                      .mask = read + ((1 + down) * pitch + 1 + right) * in, .mask_row = (ptrdiff_t)2 * pitch * in,
                      .mask_step = 2 * in};
        for (int i = 0; i < s.segments; i++) {  // output o has read row 2 o - 1 by its first tap, 2 o + 1 by its last
            const int tap = TURNED[first + i];
            s.segment[i] = (tap / 3 == 0 ? d_row : 0) + (tap % 3 == 0 ? layer->out : 0);
        }
        (in == 16 ? V(sweep_back) : V(sweep_sixteen))(&s);
    }
}

/* The gradient by one picture's pixels, (planes, height, width) or with the planes last, as they lie at `dx`. `d` has a row
 * and a column of zeros behind it, and LANES positions that may be read. */
static void V(pixel_gradient)(const PicturePlan *plan, const float *packed, const float *d, float *dx) {
    const Convolution *layer = &plan->layer[0];
    const int out = layer->out, d_row = (layer->columns + 1) * out;
    const ptrdiff_t plane_step = plan->channels_last ? 1 : (ptrdiff_t)plan->height * plan->width;
    const ptrdiff_t step = plan->channels_last ? plan->planes : 1, row_step = step * plan->width;
    for (int plane = 0; plane < plan->planes; plane++)
        for (int parity = 0; parity < 4; parity++) {
            const int down = parity / 2, right = parity % 2;
            for (int y = down; y < plan->height; y += 2)
                for (int x = right; x < plan->width; x += 2 * LANES) {
                    F sum[LANES];
                    float sums[LANES];
                    for (int i = 0; i < LANES; i++)
                        sum[i] = V(all)(0);
                    for (int t = TURNED_FIRST[parity]; t < TURNED_FIRST[parity + 1]; t++) {
                        const int tap = TURNED[t];
                        const float *w = packed + layer->weights + ((ptrdiff_t)plane * TAPS + tap) * out;
                        const float *from = d + (y / 2 + (tap / 3 == 0)) * d_row + (x / 2 + (tap % 3 == 0)) * out;
                        for (int c = 0; c < out; c += LANES) {
                            const F weight = V(load)(w + c);
#pragma GCC unroll 16
                            for (int i = 0; i < LANES; i++)
                                sum[i] += V(load)(from + i * out + c) * weight;
                        }
                    }
                    V(store)(sums, V(sums)(sum));
                    for (int i = 0; i < LANES && x + 2 * i < plan->width; i++)
                        dx[plane * plane_step + y * row_step + (x + 2 * i) * step] = sums[i] * plan->scale;
                }
        }
}
