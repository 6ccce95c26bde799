/* Activations, products of matrices by tiles and the panels they read, for one instruction set (see simd.h, network.h). */

/* Slope of the activation from what the tape holds: its value, for SiLU the sum before it. */
INLINE F V(slope)(int activation, F h, F z) {
    const F zero = V(all)(0), one = V(all)(1);
    switch (activation) {
    case TANH: return one - h * h;
    case RELU: return V(where_greater)(h, zero, one, zero);
    case ELU: return V(where_greater)(h, zero, one, h + one);
    case SILU: {
        const F s = V(sigmoid)(z);
        return s * (one + z * (one - s));
    }
    }
    return one;
}

INLINE F V(curvature)(int activation, F h, F z) {
    const F zero = V(all)(0), one = V(all)(1);
    switch (activation) {
    case TANH: return V(all)(-2) * h * (one - h * h);
    case ELU: return V(where_greater)(h, zero, zero, h + one);
    case SILU: {
        const F s = V(sigmoid)(z);
        return s * (one - s) * (V(all)(2) + z * (one - s - s));
    }
    }
    return zero;
}

INLINE F V(activate)(int activation, F z) {
    const F zero = V(all)(0);
    switch (activation) {
    case TANH: return V(vtanh)(z);
    case RELU: return V(vmax)(zero, z);
    case ELU: return V(where_greater)(z, zero, z, V(vexpm1)(z));
    case SILU: return z * V(sigmoid)(z);
    }
    return z;
}

/* A tile of sums, whose first number goes to out[at], once the epilogue is done with them. */
INLINE void V(finish_tile)(F sum[TILE_ROWS][TILE], float *out, ptrdiff_t width, ptrdiff_t at, const int vectors,
                           const Epilogue *e) {
    if (e->kind == ACTIVATE && e->z)
        for (int i = 0; i < TILE_ROWS; i++)
            for (int j = 0; j < vectors; j++)
                V(store)(e->z + at + i * width + j * LANES, sum[i][j]);
#define EACH(value)                                                       \
    for (int i = 0; i < TILE_ROWS; i++)                                   \
        for (int j = 0; j < vectors; j++) {                               \
            const ptrdiff_t here = at + i * width + j * LANES;            \
            V(store)(out + here, value);                                  \
        }                                                                 \
    return
    const F none = V(all)(0);
    if (e->kind == ACTIVATE)
        switch (e->activation) {
        case TANH: EACH(V(vtanh)(sum[i][j]));
        case RELU: EACH(V(activate)(RELU, sum[i][j]));
        case ELU: EACH(V(activate)(ELU, sum[i][j]));
        case SILU: EACH(V(activate)(SILU, sum[i][j]));
        }
    else if (e->kind == TIMES_SLOPE)
        switch (e->activation) {
        case TANH: EACH(sum[i][j] * V(slope)(TANH, V(load)(e->slope_h + here), none));
        case RELU: EACH(sum[i][j] * V(slope)(RELU, V(load)(e->slope_h + here), none));
        case ELU: EACH(sum[i][j] * V(slope)(ELU, V(load)(e->slope_h + here), none));
        case SILU: EACH(sum[i][j] * V(slope)(SILU, none, V(load)(e->slope_z + here)));
        }
    EACH(sum[i][j]);
#undef EACH
}

/* out[r][j] = bias[j] + sum_k x[r * row + k * step] w[k][j] for TILE_ROWS rows and a few vectors of columns. */
INLINE void V(dense_tile)(const float *x, ptrdiff_t row, ptrdiff_t step, int n, const float *w, const float *bias,
                          float *out, ptrdiff_t width, ptrdiff_t at, const int vectors, const Epilogue *e) {
    F sum[TILE_ROWS][TILE];
    for (int i = 0; i < TILE_ROWS; i++)
        for (int j = 0; j < vectors; j++)
            sum[i][j] = bias ? V(load)(bias + j * LANES) : V(all)(0);
    for (int k = 0; k < n; k++) {
        F part[TILE];
        for (int j = 0; j < vectors; j++)
            part[j] = V(load)(w + j * LANES);
        w += vectors * LANES;
#pragma GCC unroll 6
        for (int i = 0; i < TILE_ROWS; i++) {
            const F factor = V(all)(x[i * row + k * step]);
            for (int j = 0; j < vectors; j++)
                sum[i][j] += factor * part[j];
        }
    }
    V(finish_tile)(sum, out, width, at, vectors, e);
}

/* (rows, n) times packed panels (n, width) → out (rows, width); x[r][k] stands at x[r * row + k * step]. */
static void V(dense)(const float *x, ptrdiff_t row, ptrdiff_t step, int n, const float *panels, const float *bias,
                     float *out, int width, int rows, Epilogue e) {
    for (int j = 0; j < width; j += TILE * LANES) {
        const int vectors = width - j < TILE * LANES ? (width - j) / LANES : TILE;
        for (int r = 0; r < rows; r += TILE_ROWS) {
#define CASE(count)                                                                                             \
    case count:                                                                                                 \
        V(dense_tile)(x + r * row, row, step, n, panels, bias ? bias + j : NULL, out, width, (ptrdiff_t)r * width + j, \
                      count, &e);                                                                               \
        break
            switch (vectors) {
            CASE(1);
            CASE(2);
#if TILE > 2
            CASE(3);
            CASE(4);
#endif
            }
#undef CASE
        }
        panels += (ptrdiff_t)n * vectors * LANES;
    }
}

/* sums[k][j] += sum_r x[r][k] d[r][j] for `count` columns of x and a few vectors of columns of d. */
INLINE void V(outer_tile)(const float *x, ptrdiff_t row, ptrdiff_t step, const float *d, ptrdiff_t width, float *sums,
                          int rows, const int count, const int vectors) {
    F sum[TILE_ROWS][TILE];
    for (int i = 0; i < count; i++)
        for (int j = 0; j < vectors; j++)
            sum[i][j] = V(load)(sums + (i * vectors + j) * LANES);
    for (int r = 0; r < rows; r++) {
        F part[TILE];
        for (int j = 0; j < vectors; j++)
            part[j] = V(load)(d + r * width + j * LANES);
#pragma GCC unroll 6
        for (int i = 0; i < count; i++) {
            const F factor = V(all)(x[r * row + i * step]);
            for (int j = 0; j < vectors; j++)
                sum[i][j] += factor * part[j];
        }
    }
    for (int i = 0; i < count; i++)
        for (int j = 0; j < vectors; j++)
            V(store)(sums + (i * vectors + j) * LANES, sum[i][j]);
}

/* Panels (n, width) += x (rows, n) transposed times d (rows, width). */
static void V(outer)(const float *x, ptrdiff_t row, ptrdiff_t step, int n, const float *d, int width, float *sums,
                     int rows) {
    for (int j = 0; j < width; j += TILE * LANES) {
        const int vectors = width - j < TILE * LANES ? (width - j) / LANES : TILE;
        for (int k = 0; k < n;) {
            const int count = n - k >= 6 ? 6 : n - k >= 4 ? 4 : n - k >= 2 ? 2 : 1;
            float *target = sums + (ptrdiff_t)k * vectors * LANES;
#define CASE(c, v)                                                                                        \
    case 16 * c + v:                                                                                      \
        V(outer_tile)(x + k * step, row, step, d + j, width, target, rows, c, v);                         \
        break
            switch (16 * count + vectors) {
            CASE(6, 1); CASE(4, 1); CASE(2, 1); CASE(1, 1);
            CASE(6, 2); CASE(4, 2); CASE(2, 2); CASE(1, 2);
#if TILE > 2
            CASE(6, 3); CASE(4, 3); CASE(2, 3); CASE(1, 3);
            CASE(6, 4); CASE(4, 4); CASE(2, 4); CASE(1, 4);
#endif
            }
#undef CASE
            k += count;
        }
        sums += (ptrdiff_t)n * vectors * LANES;
    }
}

static void V(add_columns)(const float *d, int width, float *sums, int rows) {
    for (int j = 0; j < width; j += LANES) {
        F sum = V(load)(sums + j);
        for (int r = 0; r < rows; r++)
            sum += V(load)(d + (ptrdiff_t)r * width + j);
        V(store)(sums + j, sum);
    }
}

/* Columns of the panel at column j of `width`, and how many of them are among the first `columns`. */
INLINE int V(panel_at)(int j, int width, int columns, int *filled) {
    const int panel = width - j < TILE * LANES ? width - j : TILE * LANES;
    *filled = columns - j < panel ? (columns > j ? columns - j : 0) : panel;
    return panel;
}

/* Panels (padded_rows, width) of `source` (rows, columns) if they go along its rows, or of its transpose, `source` being
 * (columns, rows); zero beyond. */
static void V(pack)(const float *source, bool transposed, int rows, int columns, int padded_rows, int width,
                    float *panels) {
    for (int j = 0; j < width; j += TILE * LANES) {
        int filled;
        const int panel = V(panel_at)(j, width, columns, &filled);
        if (filled < panel || rows < padded_rows)
            memset(panels, 0, sizeof(float) * (size_t)padded_rows * panel);
        if (transposed)
            V(transpose)(source + (ptrdiff_t)j * rows, rows, filled, rows, panels, panel);
        else
            for (int i = 0; filled && i < rows; i++)
                memcpy(panels + (ptrdiff_t)i * panel, source + (ptrdiff_t)i * columns + j, sizeof(float) * (size_t)filled);
        panels += (ptrdiff_t)padded_rows * panel;
    }
}

/* The inverse of a transposed `pack`: `target` (columns, rows). */
static void V(unpack)(const float *panels, int rows, int columns, int padded_rows, int width, float *target) {
    for (int j = 0; j < width; j += TILE * LANES) {
        int filled;
        const int panel = V(panel_at)(j, width, columns, &filled);
        V(transpose)(panels, panel, rows, filled, target + (ptrdiff_t)j * rows, rows);
        panels += (ptrdiff_t)padded_rows * panel;
    }
}
