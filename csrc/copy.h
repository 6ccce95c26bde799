/* Copies into memory that is not read again soon. */
#ifndef PUFFER_IL_COPY_H
#define PUFFER_IL_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum { STREAMED_BYTES = 1 << 18 };  // from so many on, a rollout of such steps is far larger than the caches

/* memcpy; large pieces go past the caches, which spares the processor reading what it is about to overwrite. */
static inline void copy_out(uint8_t *restrict to, const uint8_t *restrict from, size_t bytes) {
#if defined(__SSE2__)
    if (bytes >= STREAMED_BYTES) {
        const size_t head = -(uintptr_t)to & 63;
        memcpy(to, from, head);
        size_t at = head;
        for (; at + 64 <= bytes; at += 64)
            for (size_t k = 0; k < 64; k += 16)
                _mm_stream_si128((__m128i *)(to + at + k), _mm_loadu_si128((const __m128i *)(from + at + k)));
        _mm_sfence();
        memcpy(to + at, from + at, bytes - at);
        return;
    }
#endif
    memcpy(to, from, bytes);
}

/* The rows in which ((a | b) & c) is set, flags of 0 or 1; `found` holds n. Eight rows at a time, as few are. */
static inline ptrdiff_t find_ends(ptrdiff_t n, const uint8_t *a, const uint8_t *b, const uint8_t *c, int64_t *found) {
    ptrdiff_t count = 0, i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t x, y, z;
        memcpy(&x, a + i, 8);
        memcpy(&y, b + i, 8);
        memcpy(&z, c + i, 8);
        if ((x | y) & z)
            for (ptrdiff_t k = i; k < i + 8; k++)
                if ((a[k] | b[k]) & c[k])
                    found[count++] = k;
    }
    for (; i < n; i++)
        if ((a[i] | b[i]) & c[i])
            found[count++] = i;
    return count;
}

#endif
