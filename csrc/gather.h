/* Rows of any dtype as bytes: target row i becomes source row index[i]. */
#ifndef PUFFER_IL_GATHER_H
#define PUFFER_IL_GATHER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    GATHER_AHEAD = 16,     // rows; wide ones come from memory, and its latency is hidden by asking early
    GATHER_WIDE = 4096,    // bytes of rows, such as pictures, that are as large as a page
    GATHER_LINES = 8192,   // bytes ahead in the rows to come that are asked for while wide ones are copied
    GATHER_PIECE = 256,    // bytes that are copied in turn with asking for as many
    GATHER_LARGE = 1 << 22  // bytes of a target from which on it does not pass through the caches
};

static inline void gather_width(ptrdiff_t n, ptrdiff_t width, const int64_t *restrict index,
                                const uint8_t *restrict source, uint8_t *restrict target) {
    for (ptrdiff_t i = 0; i < n; i++)
        memcpy(target + i * width, source + index[i] * width, (size_t)width);
}

#ifdef __SSE2__
typedef long long gather_vector __attribute__((vector_size(16)));

/* Wide rows into a large target. What is written is not read first, as it would be where it passed through the caches:
 * a copy of all rows at once by memcpy does the same. */
static inline void gather_streamed(ptrdiff_t n, ptrdiff_t width, const int64_t *restrict index,
                                   const uint8_t *restrict source, uint8_t *restrict target) {
    ptrdiff_t row = 0, place = GATHER_LINES;  // what is asked for next
    for (ptrdiff_t i = 0; i < n; i++) {
        const uint8_t *from = source + index[i] * width;
        uint8_t *to = target + i * width;
        ptrdiff_t at = -(intptr_t)to & 15;  // up to where stores are aligned
        memcpy(to, from, (size_t)at);
        for (; at + GATHER_PIECE <= width; at += GATHER_PIECE, place += GATHER_PIECE) {
            while (place >= width && row + 1 < n)
                place -= width, row++;
            for (ptrdiff_t k = 0; k < GATHER_PIECE && place + k < width; k += 64)
                __builtin_prefetch(source + index[row] * width + place + k);
            for (ptrdiff_t k = 0; k < GATHER_PIECE; k += 16) {
                gather_vector bytes;
                memcpy(&bytes, from + at + k, 16);
#ifdef __clang__
                __builtin_nontemporal_store(bytes, (gather_vector *)(to + at + k));
#else
                __builtin_ia32_movntdq((gather_vector *)(to + at + k), bytes);
#endif
            }
        }
        memcpy(to + at, from + at, (size_t)(width - at));
        place += width % GATHER_PIECE;
    }
    __builtin_ia32_sfence();
}
#endif

/* Constant widths turn memcpy into one load and one store: five times the rows per second. */
static inline void gather_rows(ptrdiff_t n, ptrdiff_t width, const int64_t *restrict index,
                               const uint8_t *restrict source, uint8_t *restrict target) {
    switch (width) {
    case 1: gather_width(n, 1, index, source, target); return;
    case 4: gather_width(n, 4, index, source, target); return;
    case 8: gather_width(n, 8, index, source, target); return;
    case 16: gather_width(n, 16, index, source, target); return;
    }
#ifdef __SSE2__
    if (width >= GATHER_WIDE && n * width >= GATHER_LARGE) {
        gather_streamed(n, width, index, source, target);
        return;
    }
#endif
    for (ptrdiff_t i = 0; i < n; i++) {
        if (i + GATHER_AHEAD < n)
            __builtin_prefetch(source + index[i + GATHER_AHEAD] * width);
        memcpy(target + i * width, source + index[i] * width, (size_t)width);
    }
}

#endif
