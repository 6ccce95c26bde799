/* The network of pictures on some rows, for one instruction set (see picture_plan.h, convolution.h). */

/* Zeros where a border is: the first row and column, and what lies behind (height, width). */
static void V(clear_border)(const Convolution *layer, float *read) {
    const int in = layer->in, pitch = 2 * layer->columns + 1;
    memset(read, 0, sizeof(float) * (size_t)pitch * in);
    for (int y = 1; y <= 2 * layer->rows; y++) {
        float *row = read + (ptrdiff_t)y * pitch * in;
        const int filled = y <= layer->height ? layer->width : 0;
        for (int i = 0; i < in; i += LANES)
            V(store)(row + i, V(all)(0));
        for (int i = (1 + filled) * in; i < pitch * in; i += LANES)
            V(store)(row + i, V(all)(0));
    }
}

typedef uint8_t V(BytesAt) __attribute__((vector_size(LANES), may_alias, aligned(1)));

/* Pixels of a row that lie side by side, as floats. */
INLINE void V(read_row)(const uint8_t *from, int width, float low, float scale, float *to) {
    int x = 0;
    for (; x + LANES <= width; x += LANES)
        V(store)(to + x, (__builtin_convertvector(*(const V(BytesAt) *)(from + x), F) - low) * scale);
    if (x < width && width >= LANES) {  // the last ones, some of them twice
        x = width - LANES;
        V(store)(to + x, (__builtin_convertvector(*(const V(BytesAt) *)(from + x), F) - low) * scale);
        return;
    }
    for (; x < width; x++)
        to[x] = (from[x] - low) * scale;
}

/* One picture's pixels as floats, plane by plane, with their border; of a change of pixels none is `low`. */
static void V(read_pixels)(const PicturePlan *plan, const void *pixels, bool bytes, float low, float *to) {
    const int pitch = 2 * plan->layer[0].columns + 1, rows = 2 * plan->layer[0].rows + 1, planes = plan->planes;
    const int step = plan->channels_last ? planes : 1;
    for (int plane = 0; plane < planes; plane++, to += (ptrdiff_t)rows * pitch) {
        memset(to, 0, sizeof(float) * (size_t)pitch);
        memset(to + (ptrdiff_t)(rows - 1) * pitch, 0, sizeof(float) * (size_t)pitch);
        for (int y = 0; y < plan->height; y++) {
            float *row = to + (ptrdiff_t)(y + 1) * pitch + 1;
            row[-1] = row[pitch - 2] = 0;  // the last is read where the width is odd, and written again where it is even
            const ptrdiff_t at = plan->channels_last ? (ptrdiff_t)y * plan->width * planes + plane
                                                     : ((ptrdiff_t)plane * plan->height + y) * plan->width;
            if (bytes && step == 1)
                V(read_row)((const uint8_t *)pixels + at, plan->width, low, plan->scale, row);
            else if (bytes)
                for (int x = 0; x < plan->width; x++)
                    row[x] = (((const uint8_t *)pixels)[at + (ptrdiff_t)x * step] - low) * plan->scale;
            else
                for (int x = 0; x < plan->width; x++)
                    row[x] = (((const float *)pixels)[at + (ptrdiff_t)x * step] - low) * plan->scale;
        }
    }
}

static void V(pack_pictures)(const PicturePlan *plan, const PictureParameters *from, bool forward, bool backward,
                             float *packed) {
    float turned[TAPS * 32 * 32];
    for (int l = 0; l < CONVOLUTIONS; l++) {
        const Convolution *layer = &plan->layer[l];
        const int in = layer->in, out = layer->out;
        float *w = packed + layer->weights;
        memcpy(packed + layer->biases, from->biases[l], sizeof(float) * (size_t)out);
        if (l == 0) {
            V(transpose)(from->weights[l], TAPS * in, out, TAPS * in, w, out);
            continue;
        }
        V(transpose)(from->weights[l], TAPS * in, out, TAPS * in, turned, out);
        for (int c = 0; c < in; c++)
            for (int tap = 0; tap < TAPS; tap++)
                memcpy(w + (tap * in + c) * out, turned + (c * TAPS + tap) * out, sizeof(float) * (size_t)out);
        for (int i = 0; backward && i < TAPS; i++)
            V(transpose)(w + TURNED[i] * in * out, out, in, out, packed + layer->turned + i * in * out, in);
    }
    memcpy(packed + plan->linear_bias, from->linear_bias, sizeof(float) * PICTURE_FEATURES);
    if (forward)
        V(pack)(from->linear, true, plan->flat, PICTURE_FEATURES, plan->flat, PICTURE_FEATURES, packed + plan->linear);
    if (backward)
        V(pack)(from->linear, false, PICTURE_FEATURES, plan->flat, PICTURE_FEATURES, plan->flat,
                packed + plan->linear_turned);
}

/* Sums of the convolutions' gradients → torch's layout. */
static void V(unpack_pictures)(const PicturePlan *plan, const float *sums, const PictureParameters *to) {
    float turned[TAPS * 32 * 32];
    for (int l = 0; l < CONVOLUTIONS; l++) {
        const Convolution *layer = &plan->layer[l];
        const int in = layer->in, out = layer->out;
        const float *w = sums + layer->weight_sum;
        memcpy(to->biases[l], sums + layer->bias_sum, sizeof(float) * (size_t)out);
        for (int c = 0; l && c < in; c++)
            for (int tap = 0; tap < TAPS; tap++)
                memcpy(turned + (c * TAPS + tap) * out, w + (tap * in + c) * out, sizeof(float) * (size_t)out);
        V(transpose)(l ? turned : w, out, TAPS * in, out, to->weights[l], TAPS * in);
    }
}

/* The convolutions of one picture whose pixels have been read: what is saved of it, and its row of `flat`. With `masks`,
 * what was saved of it, the same of a change of pixels: without biases, and zero where those are. */
static void V(picture_forward)(const PicturePlan *plan, const float *packed, const float *pixels, float *saved, float *flat,
                               const float *masks, const float *flat_mask, float *space) {
    const Convolution *layer = plan->layer;
    const int last = layer[2].out, positions = layer[2].rows * layer[2].columns;
    float *second = saved, *third = saved + layer[1].read;
    const ptrdiff_t second_row = (ptrdiff_t)(2 * layer[1].columns + 1) * layer[1].in;
    const ptrdiff_t third_row = (ptrdiff_t)(2 * layer[2].columns + 1) * layer[2].in;
    const ptrdiff_t second_start = second_row + layer[1].in, third_start = third_row + layer[2].in;
    V(clear_border)(&layer[1], second);
    V(clear_border)(&layer[2], third);
    V(convolve)(&layer[0], true, packed, !masks, pixels, second + second_start, second_row,
                masks ? masks + second_start : NULL, second_row);
    V(convolve)(&layer[1], false, packed, !masks, second, third + third_start, third_row,
                masks ? masks + layer[1].read + third_start : NULL, third_row);
    if (masks)
        V(transpose)(flat_mask, positions, last, positions, space + plan->flat, last);
    V(convolve)(&layer[2], false, packed, !masks, third, space, layer[2].columns * last,
                masks ? space + plan->flat : NULL, layer[2].columns * last);
    V(transpose)(space, last, positions, last, flat, positions);
}

/* Features (count, PICTURE_FEATURES) of rows `row_bytes` apart. `saved` and `flat` take what a backward pass needs;
 * without one the first of them is room for one picture. `flat`, `out` have room for whole tiles of rows. */
static void V(pictures_forward)(const PicturePlan *plan, const float *packed, const float *linear, const char *x,
                                ptrdiff_t row_bytes, int count, float *saved, bool keep, float *flat, float *out,
                                float *space) {
    float *pixels = space + 2 * plan->flat;
    for (int i = 0; i < count; i++) {
        V(read_pixels)(plan, x + i * row_bytes, plan->bytes, plan->low, pixels);
        V(picture_forward)(plan, packed, pixels, saved + (keep ? i * plan->saved : 0), flat + (ptrdiff_t)i * plan->flat,
                           NULL, NULL, space);
    }
    if (linear)
        V(direct_dense)(FLOATS, flat, plan->flat, linear, packed + plan->linear_bias, out, PICTURE_FEATURES,
                        (count + 1) / 2 * 2, RELU, NULL);
    else
        V(dense)(flat, plan->flat, 1, plan->flat, packed + plan->linear, packed + plan->linear_bias, out,
                 PICTURE_FEATURES, (count + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS,
                 (Epilogue){.kind = ACTIVATE, .activation = RELU});
}

/* Adds the convolutions' gradients, given those by the linear layer's outputs before they were rectified, d
 * (PICTURE_BLOCK, PICTURE_FEATURES). With a tangent, pixels (count, …) of floats, the gradients of the sum of that times the
 * gradient by the pixels; `flat_tangent` is then what it becomes before the linear layer. */
static void V(pictures_backward)(const PicturePlan *plan, const float *packed, const PictureRows *rows, int count,
                                 PictureSpace *s, float *sums) {
    const Convolution *layer = plan->layer;
    const int last = layer[2].out, positions = layer[2].rows * layer[2].columns;
    V(dense)(rows->d, PICTURE_FEATURES, 1, PICTURE_FEATURES, packed + plan->linear_turned, NULL, s->flat, plan->flat,
             (count + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS,
             (Epilogue){.kind = TIMES_SLOPE, .activation = RELU, .slope_h = rows->flat});
    for (int first = 0; first < count; first += s->at_once) {
        const int here = count - first < s->at_once ? count - first : s->at_once;
        for (int i = 0; i < here; i++) {
            const float *saved = rows->saved + (first + i) * plan->saved;
            float *d[CONVOLUTIONS], *pixels = s->pixels + i * layer[0].read;
            for (int l = 0; l < CONVOLUTIONS; l++)
                d[l] = s->d[l] + i * s->d_size[l];
            for (int c = 0; c < layer[2].rows; c++)  // a row of positions at a time: there is a column of zeros behind
                V(transpose)(s->flat + (ptrdiff_t)(first + i) * plan->flat + c * layer[2].columns, positions, last,
                             layer[2].columns, d[2] + (ptrdiff_t)c * (layer[2].columns + 1) * last, last);
            V(convolve_back)(&layer[2], packed, d[2], saved + layer[1].read, d[1]);
            V(convolve_back)(&layer[1], packed, d[1], saved, d[0]);
            if (rows->dx)
                V(pixel_gradient)(plan, packed, d[0], (float *)((char *)rows->dx + (first + i) * rows->dx_bytes));
            if (rows->tangent) {
                V(read_pixels)(plan, (const char *)rows->tangent + (first + i) * rows->dx_bytes, false, 0, pixels);
                V(picture_forward)(plan, packed, pixels, s->tangent + i * plan->saved,
                                   rows->flat_tangent + (ptrdiff_t)(first + i) * plan->flat, saved,
                                   rows->flat + (ptrdiff_t)(first + i) * plan->flat, s->space);
            } else if (sums) {
                V(read_pixels)(plan, rows->x + (first + i) * rows->row_bytes, plan->bytes, plan->low, pixels);
            }
        }
        if (!sums)
            continue;
        const float *read = rows->tangent ? s->tangent : rows->saved + first * plan->saved;
        for (int l = 0; l < CONVOLUTIONS; l++)
            V(weight_gradient)(&layer[l], l == 0, l ? read + (l - 1) * layer[1].read : s->pixels,
                               l ? plan->saved : layer[0].read, s->d[l], s->d_size[l],
                               (ptrdiff_t)(layer[l].columns + 1) * layer[l].out, here, sums + layer[l].weight_sum,
                               rows->tangent ? NULL : sums + layer[l].bias_sum);
    }
}

/* Columns [first, first + count) of the linear layer's gradient, given the sum over `rows` rows of flat times d. */
static void V(linear_gradient)(const PicturePlan *plan, const float *flat, const float *d, int rows, int first, int count,
                               float *panels, float *to) {
    memset(panels, 0, sizeof(float) * (size_t)count * PICTURE_FEATURES);
    V(outer)(flat + first, plan->flat, 1, count, d, PICTURE_FEATURES, panels, rows);
    for (int j = 0; j < PICTURE_FEATURES; j += TILE * LANES) {
        V(transpose)(panels, TILE * LANES, count, TILE * LANES, to + (ptrdiff_t)j * plan->flat + first, plan->flat);
        panels += (ptrdiff_t)count * TILE * LANES;
    }
}

/* What a tangent before the linear layer becomes behind it, zero where features are. */
static void V(picture_tangents)(const PicturePlan *plan, const float *packed, const float *flat, const float *features,
                                int count, float *out) {
    V(dense)(flat, plan->flat, 1, plan->flat, packed + plan->linear, NULL, out, PICTURE_FEATURES,
             (count + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS,
             (Epilogue){.kind = TIMES_SLOPE, .activation = RELU, .slope_h = features});
}
