/* Products of pairs of bf16, by the processor's instruction or by its emulation: bf16.h includes this once for each,
 * with B(name) for the names of one of the two and of its primitives pair, neighbours and add_pairs. With IN_HARDWARE
 * tiles are unrolled; the emulation is for tests, and its tiles are loops. */

#ifdef IN_HARDWARE
#define TILE_FUNCTION INLINE
#else
#define TILE_FUNCTION static __attribute__((noinline))
#endif

/* (rows, n) → (rows, pairs) of neighbours, with zeros behind the last number; pairs is a multiple of LANES. */
static void B(pair_columns)(const float *x, int n, int rows, uint32_t *to, int pairs) {
    for (int r = 0; r < rows; r++, x += n, to += pairs)
        for (int k = 0; k < pairs; k += LANES) {
            float some[2 * LANES] = {0};
            const float *from = x + 2 * k;
            if (2 * (k + LANES) > n) {
                memcpy(some, from, sizeof(float) * (size_t)(n > 2 * k ? n - 2 * k : 0));
                from = some;
            }
            V(store_ints)((int32_t *)to + k, B(neighbours)(V(load)(from), V(load)(from + LANES)));
        }
}

/* (rows, columns), `row` apart → (rows / 2, columns) of rows above each other, zeros below an odd one. */
static void B(pair_rows)(const float *x, ptrdiff_t row, int columns, int rows, uint32_t *to) {
    const int whole = columns / LANES * LANES;
    for (int r = 0; r + 1 < rows; r += 2, to += columns) {
        const float *first = x + r * row, *second = first + row;
        for (int k = 0; k < whole; k += LANES)
            V(store_ints)((int32_t *)to + k, B(pair)(V(load)(first + k), V(load)(second + k)));
        for (int k = whole; k < columns; k++)
            to[k] = (uint32_t)B(pair)(V(all)(first[k]), V(all)(second[k]))[0];
    }
    for (int k = 0; rows % 2 && k < columns; k++)
        to[k] = (uint32_t)B(pair)(V(all)(x[(rows - 1) * row + k]), V(all)(0))[0];
}

/* As dense_tile: x (rows, pairs), `row` apart, w (pairs, columns of the panel). */
TILE_FUNCTION void B(dense_tile)(const uint32_t *x, ptrdiff_t row, int pairs, const uint32_t *w, const float *bias,
                                 float *out, ptrdiff_t width, ptrdiff_t at, const int vectors, const Epilogue *e) {
    F sum[TILE_ROWS][TILE];
    for (int i = 0; i < TILE_ROWS; i++)
        for (int j = 0; j < vectors; j++)
            sum[i][j] = bias ? V(load)(bias + j * LANES) : V(all)(0);
    for (int k = 0; k < pairs; k++) {
        I part[TILE];
        for (int j = 0; j < vectors; j++)
            part[j] = V(load_ints)((const int32_t *)w + j * LANES);
        w += vectors * LANES;
#pragma GCC unroll 6
        for (int i = 0; i < TILE_ROWS; i++) {
            const I factor = V(all_ints)((int32_t)x[i * row + k]);
            for (int j = 0; j < vectors; j++)
                sum[i][j] = B(add_pairs)(sum[i][j], factor, part[j]);
        }
    }
    V(finish_tile)(sum, out, width, at, vectors, e);
}

/* As dense: rows of n numbers, one behind the other, times panels of pairs. */
static void B(dense)(const float *x, int n, const float *panels, const float *bias, float *out, int width, int rows,
                     Epilogue e) {
    const int used = (n + 1) / 2, pairs = (used + LANES - 1) / LANES * LANES;
    const int most = DENSE_PAIRS / pairs / TILE_ROWS * TILE_ROWS;
    uint32_t paired[DENSE_PAIRS];
    for (int first = 0; first < rows; first += most) {
        const int stop = rows - first < most ? rows : first + most;
        const uint32_t *w = (const uint32_t *)panels;
        B(pair_columns)(x + (ptrdiff_t)first * n, n, stop - first, paired, pairs);
        for (int j = 0; j < width; j += TILE * LANES) {
            const int vectors = width - j < TILE * LANES ? (width - j) / LANES : TILE;
            for (int r = first; r < stop; r += TILE_ROWS) {
#define TILE_OF(count)                                                                                              \
    B(dense_tile)(paired + (ptrdiff_t)(r - first) * pairs, pairs, used, w, bias ? bias + j : NULL, out, width,      \
                  (ptrdiff_t)r * width + j, count, &e)
#ifdef IN_HARDWARE
                switch (vectors) {
                case 1: TILE_OF(1); break;
                case 2: TILE_OF(2); break;
                case 3: TILE_OF(3); break;
                case 4: TILE_OF(4); break;
                }
#else
                TILE_OF(vectors);
#endif
#undef TILE_OF
            }
            w += (ptrdiff_t)used * vectors * LANES;
        }
    }
}

/* As outer_tile: x (pairs of rows, columns of x), d (pairs of rows, columns of the panel). */
TILE_FUNCTION void B(outer_tile)(const uint32_t *x, ptrdiff_t row, const uint32_t *d, float *sums, int pairs,
                                 const int count, const int vectors) {
    F sum[TILE_ROWS][TILE];
    for (int i = 0; i < count; i++)
        for (int j = 0; j < vectors; j++)
            sum[i][j] = V(load)(sums + (i * vectors + j) * LANES);
    for (int r = 0; r < pairs; r++) {
        I part[TILE];
        for (int j = 0; j < vectors; j++)
            part[j] = V(load_ints)((const int32_t *)d + (r * vectors + j) * LANES);
#pragma GCC unroll 6
        for (int i = 0; i < count; i++) {
            const I factor = V(all_ints)((int32_t)x[r * row + i]);
            for (int j = 0; j < vectors; j++)
                sum[i][j] = B(add_pairs)(sum[i][j], factor, part[j]);
        }
    }
    for (int i = 0; i < count; i++)
        for (int j = 0; j < vectors; j++)
            V(store)(sums + (i * vectors + j) * LANES, sum[i][j]);
}

/* As outer: rows of x (rows, n) and d (rows, width), each behind the other. They are paired in pieces that fit the
 * first cache levels. */
static void B(outer)(const float *x, int n, const float *d, int width, float *sums, int rows) {
    uint32_t left[OUTER_ROWS / 2 * OUTER_COLUMNS], right[OUTER_ROWS / 2 * TILE * LANES];
    for (int first = 0; first < rows; first += OUTER_ROWS) {
        const int some = rows - first < OUTER_ROWS ? rows - first : OUTER_ROWS, pairs = (some + 1) / 2;
        for (int begin = 0; begin < n; begin += OUTER_COLUMNS) {
            const int columns = n - begin < OUTER_COLUMNS ? n - begin : OUTER_COLUMNS;
            B(pair_rows)(x + (ptrdiff_t)first * n + begin, n, columns, some, left);
            for (int j = 0; j < width; j += TILE * LANES) {
                const int vectors = width - j < TILE * LANES ? (width - j) / LANES : TILE;
                B(pair_rows)(d + (ptrdiff_t)first * width + j, width, vectors * LANES, some, right);
                float *to = sums + (ptrdiff_t)n * j + (ptrdiff_t)begin * vectors * LANES;
                for (int k = 0; k < columns;) {
                    const int left_over = columns - k;
                    const int count = left_over >= 6 ? 6 : left_over >= 4 ? 4 : left_over >= 2 ? 2 : 1;
#define TILE_OF(c, v) B(outer_tile)(left + k, columns, right, to + (ptrdiff_t)k * vectors * LANES, pairs, c, v)
#ifdef IN_HARDWARE
#define CASE(c, v) case 16 * c + v: TILE_OF(c, v); break
                    switch (16 * count + vectors) {
                    CASE(6, 1); CASE(4, 1); CASE(2, 1); CASE(1, 1);
                    CASE(6, 2); CASE(4, 2); CASE(2, 2); CASE(1, 2);
                    CASE(6, 3); CASE(4, 3); CASE(2, 3); CASE(1, 3);
                    CASE(6, 4); CASE(4, 4); CASE(2, 4); CASE(1, 4);
                    }
#undef CASE
#else
                    TILE_OF(count, vectors);
#endif
#undef TILE_OF
                    k += count;
                }
            }
        }
    }
}

/* Panels (rows, width), as pack leaves them, become pairs of rows in place. */
static void B(pair_panels)(float *panels, int rows, int width) {
    uint32_t *to;
    for (int j = 0; j < width; j += TILE * LANES) {
        const int panel = width - j < TILE * LANES ? width - j : TILE * LANES;
        to = (uint32_t *)panels + (ptrdiff_t)j * ((rows + 1) / 2);
        B(pair_rows)(panels + (ptrdiff_t)j * rows, panel, panel, rows, to);
    }
}

#undef TILE_FUNCTION
