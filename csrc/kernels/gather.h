/* Rows of any dtype as bytes: target row i becomes source row index[i]. */
#ifndef PUFFER_IL_GATHER_H
#define PUFFER_IL_GATHER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <immintrin.h>
#endif

enum {
    GATHER_AHEAD = 16,  // rows; those of no constant width come from memory, and its latency is hidden by asking early
    GATHER_WIDE = 2048,  // bytes of a row from which on it is copied in pieces
    GATHER_PAST = 4 << 20,  // bytes in all, from which on they are written past the caches
};

static inline void gather_width(ptrdiff_t n, ptrdiff_t width, const int64_t *restrict index,
                                const uint8_t *restrict source, uint8_t *restrict target) {
    for (ptrdiff_t i = 0; i < n; i++)
        memcpy(target + i * width, source + index[i] * width, (size_t)width);
}

/* One piece of a wide row, while the same piece of the next row is fetched into the second level of the cache: the
 * processor's own prefetching begins anew at every row, and a whole row at once is more than it can have on its way. */
static inline void gather_piece(ptrdiff_t size, const uint8_t *restrict row, const uint8_t *next,
                                uint8_t *restrict target, int past_caches) {
    for (ptrdiff_t line = 0; line < size; line += 64)
        __builtin_prefetch(next + line, 0, 2);
#ifdef __SSE2__
    if (past_caches) {
        for (ptrdiff_t i = 0; i < size; i += 16)
            _mm_stream_si128((__m128i *)(target + i), _mm_loadu_si128((const __m128i *)(row + i)));
        return;
    }
#endif
    memcpy(target, row, (size_t)size);
}

/* Rows of pictures. As memcpy does by itself, what is too large to be found in the caches later is written past them. */
static inline void gather_wide(ptrdiff_t n, ptrdiff_t width, const int64_t *restrict index,
                               const uint8_t *restrict source, uint8_t *restrict target) {
    const int past_caches = n * width >= GATHER_PAST && width % 16 == 0 && (uintptr_t)target % 16 == 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const uint8_t *row = source + index[i] * width, *next = source + index[i + 1 < n ? i + 1 : i] * width;
        uint8_t *to = target + i * width;
        ptrdiff_t j = 0;
        if (past_caches)
            for (; j + 1024 <= width; j += 1024)
                gather_piece(1024, row + j, next + j, to + j, 1);
        for (; j + 256 <= width; j += 256)
            gather_piece(256, row + j, next + j, to + j, past_caches);
        memcpy(to + j, row + j, (size_t)(width - j));
    }
#ifdef __SSE2__
    if (past_caches)
        _mm_sfence();
#endif
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
    if (width >= GATHER_WIDE) {
        gather_wide(n, width, index, source, target);
        return;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        if (i + GATHER_AHEAD < n)
            __builtin_prefetch(source + index[i + GATHER_AHEAD] * width);
        memcpy(target + i * width, source + index[i] * width, (size_t)width);
    }
}

#endif
