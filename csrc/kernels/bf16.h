/* Products of operands rounded to bf16, summed in floats, for one instruction set (see simd.h), and the choice between
 * them and products of floats, layer by layer (see `operands` in network.h).
 *
 * A pair is two bf16 in 32 bits, the earlier one below. To a sum the processor's instruction adds the product of the
 * later ones first and that of the earlier ones second, each with a rounding of its own. A product of two bf16 is exact
 * in a float, so that floats multiplied and added in this order give the same bits wherever no result is subnormal:
 * that is the emulation. */

typedef uint32_t V(Unsigned) __attribute__((vector_size(LANES * 4), may_alias));

INLINE I V(all_ints)(int32_t a) { return (I){0} + a; }

/* The nearest bf16, ties to even, as a float. */
INLINE F V(round_number)(F x) {
    const I bits = (I)x;
    return (F)((bits + 0x7fff + ((bits >> 16) & 1)) & -65536);
}

/* The same as the processor's instruction does it: a subnormal number becomes zero, a NaN of any bits stays one. */
INLINE F V(round_bf16)(F x) {
    const I bits = (I)x, size = bits & 0x7fffffff, nan = size > 0x7f800000, zero = size < 0x00800000;
    const I quiet = (bits | 0x00400000) & -65536, sign = bits ^ size;
    return (F)((nan & quiet) | (zero & sign) | (~(nan | zero) & (I)V(round_number)(x)));
}

#define B(name) V(name##_emulated)
INLINE I V(pair_emulated)(F first, F second) {
    return (I)((V(Unsigned))V(round_bf16)(first) >> 16) | (I)V(round_bf16)(second);
}

INLINE I V(neighbours_emulated)(F x, F following) {
    float numbers[2 * LANES], first[LANES], second[LANES];
    V(store)(numbers, x);
    V(store)(numbers + LANES, following);
    for (int i = 0; i < LANES; i++) {
        first[i] = numbers[2 * i];
        second[i] = numbers[2 * i + 1];
    }
    return V(pair_emulated)(V(load)(first), V(load)(second));
}

INLINE F V(add_pairs_emulated)(F sum, I a, I b) {
    sum += (F)(a & -65536) * (F)(b & -65536);
    sum += (F)(a << 16) * (F)(b << 16);
    return sum;
}
#include "bf16_products.h"
#undef B

#if LANES == 16 && defined(HAVE_BF16)
END_TARGET  // of instruction_set.h, as clang's do not nest
BEGIN_TARGET("avx512bf16," AVX512)
#define B(name) V(name##_hardware)
#define IN_HARDWARE
INLINE I V(neighbours_hardware)(F x, F following) {
    return (I)(__m512i)_mm512_cvtne2ps_pbh((__m512)following, (__m512)x);
}

INLINE I V(pair_hardware)(F first, F second) {
    const __m512i mixed = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (I)_mm512_permutexvar_epi16(mixed, (__m512i)V(neighbours_hardware)(first, second));
}

INLINE F V(add_pairs_hardware)(F sum, I a, I b) {
    return (F)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}
#include "bf16_products.h"
#undef IN_HARDWARE
#undef B
END_TARGET
BEGIN_TARGET(AVX512)
#define BY_OPERANDS(name, ...)                                            \
    if (operands == BF16)                                                 \
        V(name##_hardware)(__VA_ARGS__);                                  \
    else                                                                  \
        V(name##_emulated)(__VA_ARGS__)
#else
#define BY_OPERANDS(name, ...) V(name##_emulated)(__VA_ARGS__)
#endif

/* dense of rows one behind the other, in panels that pack_as has packed for the same operands. */
static __attribute__((noinline)) void V(multiply)(int operands, const float *x, int n, const float *panels,
                                                  const float *bias, float *out, int width, int rows, Epilogue e) {
    if (operands == FLOATS) {
        V(dense)(x, n, 1, n, panels, bias, out, width, rows, e);
        return;
    }
    BY_OPERANDS(dense, x, n, panels, bias, out, width, rows, e);
}

/* outer of rows one behind the other. */
static __attribute__((noinline)) void V(multiply_rows)(int operands, const float *x, int n, const float *d, int width,
                                                       float *sums, int rows) {
    if (operands == FLOATS) {
        V(outer)(x, n, 1, n, d, width, sums, rows);
        return;
    }
    BY_OPERANDS(outer, x, n, d, width, sums, rows);
}

static void V(pack_as)(int operands, const float *source, bool transposed, int rows, int columns, int padded_rows,
                       int width, float *panels) {
    V(pack)(source, transposed, rows, columns, padded_rows, width, panels);
    if (operands == FLOATS)
        return;
    BY_OPERANDS(pair_panels, panels, padded_rows, width);
}

#undef BY_OPERANDS
