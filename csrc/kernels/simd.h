/* Vectors of LANES floats for one instruction set, and the few functions that networks need on them.
 *
 * Has no include guard: kernels.h includes it, and what is built on it, once per instruction set, with ISA (its name),
 * LANES, TILE (vectors of one register tile) and the compiler's target set. Arithmetic is the compiler's own vector
 * extension; products and sums may be fused. In `vmin` and `vmax` a NaN in the second operand is the result. */

#define V_(name, isa) name##_##isa
#define V__(name, isa) V_(name, isa)
#define V(name) V__(name, ISA)
#define F V(Floats)
#define I V(Ints)
#define INLINE static inline __attribute__((always_inline))

typedef float F __attribute__((vector_size(LANES * 4), may_alias));
typedef float V(FloatsAt) __attribute__((vector_size(LANES * 4), may_alias, aligned(4)));
typedef int32_t I __attribute__((vector_size(LANES * 4), may_alias));
typedef int32_t V(IntsAt) __attribute__((vector_size(LANES * 4), may_alias, aligned(4)));

INLINE F V(load)(const float *p) {
    return *(const V(FloatsAt) *)p;
}

INLINE void V(store)(float *p, F x) {
    *(V(FloatsAt) *)p = x;
}

INLINE I V(load_ints)(const int32_t *p) {
    return *(const V(IntsAt) *)p;
}

INLINE void V(store_ints)(int32_t *p, I x) {
    *(V(IntsAt) *)p = x;
}

#if LANES == 16
INLINE F V(all)(float a) { return (F)_mm512_set1_ps(a); }
INLINE F V(vmin)(F a, F b) { return (F)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE F V(vmax)(F a, F b) { return (F)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE F V(where_greater)(F x, F y, F a, F b) {  // x > y ? a : b
    return (F)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)x, (__m512)y, _CMP_GT_OQ), (__m512)b, (__m512)a);
}
INLINE F V(where_equal)(I x, I y, F a, F b) {
    return (F)_mm512_mask_blend_ps(_mm512_cmpeq_epi32_mask((__m512i)x, (__m512i)y), (__m512)b, (__m512)a);
}
INLINE F V(guess_reciprocal)(F x) { return (F)_mm512_rcp14_ps((__m512)x); }

/* Sums of the 16 vectors a[0] … a[15], side by side. */
INLINE F V(sums)(const F *a) {
    __m512 t[8], u[4];
    for (int i = 0; i < 8; i++) {
        const __m512 x = (__m512)a[2 * i], y = (__m512)a[2 * i + 1];
        t[i] = _mm512_add_ps(_mm512_unpacklo_ps(x, y), _mm512_unpackhi_ps(x, y));
    }
    for (int i = 0; i < 4; i++)
        u[i] = _mm512_add_ps(_mm512_shuffle_ps(t[2 * i], t[2 * i + 1], 0x44),
                             _mm512_shuffle_ps(t[2 * i], t[2 * i + 1], 0xee));
    for (int i = 0; i < 2; i++)
        t[i] = _mm512_add_ps(_mm512_shuffle_f32x4(u[2 * i], u[2 * i + 1], 0x88),
                             _mm512_shuffle_f32x4(u[2 * i], u[2 * i + 1], 0xdd));
    return (F)_mm512_add_ps(_mm512_shuffle_f32x4(t[0], t[1], 0x88), _mm512_shuffle_f32x4(t[0], t[1], 0xdd));
}

/* to[j * to_row + i] = from[i * from_row + j] for a square of LANES. */
INLINE void V(turn_square)(const float *from, ptrdiff_t from_row, float *to, ptrdiff_t to_row) {
    __m512 a[16], b[16];
    for (int i = 0; i < 16; i++)
        a[i] = _mm512_loadu_ps(from + i * from_row);
    for (int i = 0; i < 16; i += 4)
        for (int half = 0; half < 2; half++) {
            const __m512 low = half ? _mm512_unpackhi_ps(a[i], a[i + 1]) : _mm512_unpacklo_ps(a[i], a[i + 1]);
            const __m512 high = half ? _mm512_unpackhi_ps(a[i + 2], a[i + 3]) : _mm512_unpacklo_ps(a[i + 2], a[i + 3]);
            b[i + 2 * half] = _mm512_shuffle_ps(low, high, 0x44);
            b[i + 2 * half + 1] = _mm512_shuffle_ps(low, high, 0xee);
        }
    for (int j = 0; j < 4; j++) {  // b[4 g + j]: column j, 4 + j, 8 + j and 12 + j of the rows 4 g …
        const __m512 first = _mm512_shuffle_f32x4(b[j], b[4 + j], 0x88), second = _mm512_shuffle_f32x4(b[j], b[4 + j], 0xdd);
        const __m512 third = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0x88);
        const __m512 fourth = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0xdd);
        _mm512_storeu_ps(to + j * to_row, _mm512_shuffle_f32x4(first, third, 0x88));
        _mm512_storeu_ps(to + (4 + j) * to_row, _mm512_shuffle_f32x4(second, fourth, 0x88));
        _mm512_storeu_ps(to + (8 + j) * to_row, _mm512_shuffle_f32x4(first, third, 0xdd));
        _mm512_storeu_ps(to + (12 + j) * to_row, _mm512_shuffle_f32x4(second, fourth, 0xdd));
    }
}

/* The two halves of the 64-bit products x[i] * m. */
INLINE void V(multiply_wide)(I x, uint32_t m, I *high, I *low) {
    const __m512i factor = _mm512_set1_epi64(m), even = _mm512_mul_epu32((__m512i)x, factor);
    const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64((__m512i)x, 32), factor);
    *high = (I)_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
    *low = (I)_mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}
#elif LANES == 8
INLINE F V(all)(float a) { return (F)_mm256_set1_ps(a); }
INLINE F V(vmin)(F a, F b) { return (F)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE F V(vmax)(F a, F b) { return (F)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE F V(where_greater)(F x, F y, F a, F b) {
    return (F)_mm256_blendv_ps((__m256)b, (__m256)a, _mm256_cmp_ps((__m256)x, (__m256)y, _CMP_GT_OQ));
}
INLINE F V(where_equal)(I x, I y, F a, F b) {
    return (F)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)_mm256_cmpeq_epi32((__m256i)x, (__m256i)y));
}
INLINE F V(guess_reciprocal)(F x) { return (F)_mm256_rcp_ps((__m256)x); }

INLINE F V(sums)(const F *a) {
    __m256 t[4], u[2];
    for (int i = 0; i < 4; i++)
        t[i] = _mm256_hadd_ps((__m256)a[2 * i], (__m256)a[2 * i + 1]);
    for (int i = 0; i < 2; i++)
        u[i] = _mm256_hadd_ps(t[2 * i], t[2 * i + 1]);
    return (F)_mm256_add_ps(_mm256_permute2f128_ps(u[0], u[1], 0x20), _mm256_permute2f128_ps(u[0], u[1], 0x31));
}

INLINE void V(multiply_wide)(I x, uint32_t m, I *high, I *low) {
    const __m256i factor = _mm256_set1_epi64x(m), even = _mm256_mul_epu32((__m256i)x, factor);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)x, 32), factor);
    *high = (I)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    *low = (I)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
#else
INLINE F V(all)(float a) {
    F x;
    for (int i = 0; i < LANES; i++)
        x[i] = a;
    return x;
}
INLINE F V(vmin)(F a, F b) {
    F x;
    for (int i = 0; i < LANES; i++)
        x[i] = a[i] < b[i] ? a[i] : b[i];
    return x;
}
INLINE F V(vmax)(F a, F b) {
    F x;
    for (int i = 0; i < LANES; i++)
        x[i] = a[i] > b[i] ? a[i] : b[i];
    return x;
}
INLINE F V(select)(I mask, F a, F b) { return (F)((mask & (I)a) | (~mask & (I)b)); }
INLINE F V(where_greater)(F x, F y, F a, F b) { return V(select)(x > y, a, b); }
INLINE F V(where_equal)(I x, I y, F a, F b) { return V(select)(x == y, a, b); }
INLINE F V(guess_reciprocal)(F x) { return V(all)(1) / x; }

INLINE F V(sums)(const F *a) {
    F x;
    for (int i = 0; i < LANES; i++)
        x[i] = (a[i][0] + a[i][1]) + (a[i][2] + a[i][3]);
    return x;
}

INLINE void V(multiply_wide)(I x, uint32_t m, I *high, I *low) {
    for (int i = 0; i < LANES; i++) {
        const uint64_t product = (uint64_t)(uint32_t)x[i] * m;
        (*high)[i] = (int32_t)(product >> 32);
        (*low)[i] = (int32_t)product;
    }
}
#endif

#if LANES < 16
INLINE void V(turn_square)(const float *from, ptrdiff_t from_row, float *to, ptrdiff_t to_row) {
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++)
            to[j * to_row + i] = from[i * from_row + j];
}
#endif

/* to[j * to_row + i] = from[i * from_row + j] for i < rows, j < columns. */
static void V(transpose)(const float *from, ptrdiff_t from_row, int rows, int columns, float *to, ptrdiff_t to_row) {
    const int whole_rows = rows / LANES * LANES, whole_columns = columns / LANES * LANES;
    for (int i = 0; i < whole_rows; i += LANES)
        for (int j = 0; j < whole_columns; j += LANES)
            V(turn_square)(from + i * from_row + j, from_row, to + j * to_row + i, to_row);
    for (int i = 0; i < rows; i++)
        for (int j = i < whole_rows ? whole_columns : 0; j < columns; j++)
            to[j * to_row + i] = from[i * from_row + j];
}

INLINE float V(sum)(F x) {
    float total = 0;
    for (int i = 0; i < LANES; i++)
        total += x[i];
    return total;
}

/* 1 / x to one unit in the last place or two: a guess and one step of Newton's, where a division takes twice as long. */
INLINE F V(reciprocal)(F x) {
    const F guess = V(guess_reciprocal)(x);
    return guess + guess * (V(all)(1) - x * guess);
}

/* e^x = 2^n e^r with |r| <= ln(2) / 2: scale 2^n and e^r - 1. x is bounded to what float holds, a NaN passes. */
INLINE F V(exp_parts)(F x, F *scale) {
    x = V(vmin)(V(all)(88.37f), V(vmax)(V(all)(-87.33f), x));
    const F rounder = V(all)(0x1.8p23f);  // the sum leaves the nearest whole number in the low bits
    const F shifted = x * 0x1.715476p0f + rounder, n = shifted - rounder;
    const F r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;  // ln 2 in two parts
    *scale = (F)((I)V(all)(1) + ((I)shifted << 23));
    const F p = V(all)(1.0f / 6) + r * (V(all)(1.0f / 24) + r * (V(all)(1.0f / 120) + r * (1.0f / 720)));
    return r + r * r * (V(all)(0.5f) + r * p);
}

INLINE F V(vexp)(F x) {
    F scale;
    const F less_one = V(exp_parts)(x, &scale);
    return scale + scale * less_one;
}

/* e^x - 1, exact for small x. */
INLINE F V(vexpm1)(F x) {
    F scale;
    const F less_one = V(exp_parts)(x, &scale);
    return scale * less_one + (scale - 1);
}

/* Natural logarithm of a positive, normal x, NaN of a NaN; polynomial of Cephes' logf (Moshier 1989) on [sqrt(1/2), sqrt(2)]. */
INLINE F V(vlog)(F x) {
    const I bits = (I)x;
    const I exponent = (bits - 0x3f3504f3) >> 23;
    const F f = (F)(bits - (exponent << 23)) - 1, e = __builtin_convertvector(exponent, F), z = f * f;
    F p = V(all)(7.0376836292e-2f);
    p = p * f - 1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f - 1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f - 1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f - 2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    // x - x, zero unless x is a NaN, whose bits have been taken apart like a number's
    return e * 0x1.62e4p-1f + (f + (e * 0x1.7f7d1cp-20f + (f * z * p - z * 0.5f))) + (x - x);
}

/* x P(x²) / Q(x²), the minimax quotient for |x| <= 7.9, where tanh is 1 - 3e-7: relative error below 5e-7. */
INLINE F V(vtanh)(F x) {
    x = V(vmin)(V(all)(7.9f), V(vmax)(V(all)(-7.9f), x));
    const F y = x * x;
    const F p = V(all)(0.9999998807907104f) + y * (V(all)(0.129344180226326f) +
                y * (V(all)(0.0029604732990264893f) + y * 1.1531839845702052e-05f));
    const F q = V(all)(1) + y * (V(all)(0.46267643570899963f) + y * (V(all)(0.023854082450270653f) +
                y * (V(all)(0.00024001205747481436f) + y * 2.492548105692549e-07f)));
    return x * p * V(reciprocal)(q);
}

INLINE F V(sigmoid)(F x) {
    return V(reciprocal)(V(all)(1) + V(vexp)(-x));
}

/* log(1 + e^x) without overflow. */
INLINE F V(softplus)(F x) {
    const F zero = V(all)(0), size = V(where_greater)(x, zero, x, -x);
    return V(where_greater)(x, zero, x, zero) + V(vlog)(V(all)(1) + V(vexp)(-size));
}
