/* Shapes of a small convolutional network and where its packed parameters and activations lie.
 *
 * Three convolutions of 3x3 with a stride of two and a border of one pixel, each rectified, then a rectified linear layer.
 * Activations lie with the channels last, and with the border that the next convolution reads: of what a layer of `rows` x
 * `columns` outputs reads there are 2 rows + 1 by 2 columns + 1 positions. Pixels lie plane by plane, with such a border. */
#ifndef PUFFER_IL_PICTURE_PLAN_H
#define PUFFER_IL_PICTURE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CONVOLUTIONS = 3, TAPS = 9, PICTURE_FEATURES = 128, MOST_PLANES = 64, FEW_PICTURES = 24,
       PICTURE_BLOCK = 24 };  // pictures, a multiple of TILE_ROWS

typedef struct {
    int32_t in, out;               // channels
    int32_t height, width;         // of what it reads, without the border
    int32_t rows, columns;         // of what it puts out
    ptrdiff_t read;                // floats of what it reads, with the border
    ptrdiff_t weights, biases;     // packed: (taps, in, out), of the first layer (in, taps, out)
    ptrdiff_t turned;              // for gradients by its inputs: (taps in the order of TURNED, out, in)
    ptrdiff_t weight_sum, bias_sum;
} Convolution;

typedef struct {
    Convolution layer[CONVOLUTIONS];
    int32_t planes, height, width;
    bool channels_last, bytes;     // pixels of uint8, or floats
    float low, scale;              // a pixel p counts (p - low) * scale
    int32_t flat;                  // outputs of the last convolution
    ptrdiff_t linear, linear_bias, linear_turned, packed, sums;
    ptrdiff_t saved;               // floats of a picture's first two activations
} PicturePlan;

/* torch's own tensors. */
typedef struct {
    float *weights[CONVOLUTIONS], *biases[CONVOLUTIONS], *linear, *linear_bias;
} PictureParameters;

/* Some pictures of a backward pass: what the forward pass read, saved and put before the linear layer, and where the
 * gradient by the pixels (dx, may be NULL) goes. */
typedef struct {
    const char *x;
    ptrdiff_t row_bytes, dx_bytes;
    const float *saved, *flat, *d, *tangent;
    float *dx, *flat_tangent;
} PictureRows;

/* Work space of one thread; gradients by the layers' outputs lie with a row and a column of zeros behind them. */
typedef struct {
    int at_once;                   // pictures
    ptrdiff_t d_size[CONVOLUTIONS];
    float *flat, *pixels, *d[CONVOLUTIONS], *tangent, *space;
} PictureSpace;

/* Taps (3 row + column) by the parity of the input's row and column: those of an even one see its middle. */
static const int32_t TURNED[TAPS] = {4, 3, 5, 1, 7, 0, 2, 6, 8};
static const int32_t TURNED_FIRST[5] = {0, 1, 3, 5, 9};

static inline ptrdiff_t picture_place(ptrdiff_t *end, ptrdiff_t floats) {
    const ptrdiff_t start = *end;
    *end += (floats + 15) / 16 * 16;
    return start;
}

static inline PicturePlan plan_pictures(int32_t planes, int32_t height, int32_t width, bool channels_last, bool bytes,
                                        float low, float scale) {
    static const int32_t channels[CONVOLUTIONS] = {16, 32, 32};
    PicturePlan plan = {.planes = planes, .height = height, .width = width, .channels_last = channels_last,
                        .bytes = bytes, .low = low, .scale = scale};
    int32_t in = planes;
    for (int l = 0; l < CONVOLUTIONS; l++) {
        Convolution *layer = &plan.layer[l];
        layer->in = in, layer->out = channels[l], layer->height = height, layer->width = width;
        layer->rows = height = (height + 1) / 2;
        layer->columns = width = (width + 1) / 2;
        layer->read = ((ptrdiff_t)in * (2 * height + 1) * (2 * width + 1) + 15) / 16 * 16;
        layer->weights = picture_place(&plan.packed, (ptrdiff_t)TAPS * in * layer->out);
        layer->biases = picture_place(&plan.packed, layer->out);
        layer->turned = picture_place(&plan.packed, (ptrdiff_t)TAPS * in * layer->out);
        layer->weight_sum = picture_place(&plan.sums, (ptrdiff_t)TAPS * in * layer->out);
        layer->bias_sum = picture_place(&plan.sums, layer->out);
        in = layer->out;
    }
    plan.flat = in * height * width;
    plan.saved = plan.layer[1].read + plan.layer[2].read;
    plan.linear_bias = picture_place(&plan.packed, PICTURE_FEATURES);
    plan.linear = picture_place(&plan.packed, (ptrdiff_t)plan.flat * PICTURE_FEATURES);
    plan.linear_turned = picture_place(&plan.packed, (ptrdiff_t)plan.flat * PICTURE_FEATURES);
    return plan;
}

#endif
