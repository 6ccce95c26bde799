/* The loops that find a processor's limits, once per instruction set. Has no include guard: yardstick.h includes it with
 * L(name), the names of this set, SET, the attribute that asks for it, and BYTES, the size of its vectors. */

typedef float L(Floats) __attribute__((vector_size(BYTES), may_alias, aligned(4)));

/* Independent chains: enough for two units that take four cycles each, few enough for 16 registers. */
#define EACH_CHAIN(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)

/* `rounds` multiply-adds per chain that touch nothing but registers. The sum keeps them from being optimised away. */
SET static float L(multiply_add)(int64_t rounds, float factor, float term) {
    typedef float V __attribute__((vector_size(BYTES)));
    const V f = factor - (V){0}, t = term - (V){0};
#define START(k) V c##k = t * (float)k;
#define GO_ON(k) c##k = c##k * f + t;
#define ADD(k) total += c##k;
    EACH_CHAIN(START)
    for (int64_t i = 0; i < rounds; i++) {
        EACH_CHAIN(GO_ON)
        __asm__ __volatile__("");  // the loop stays a loop
    }
    V total = t;
    EACH_CHAIN(ADD)
#undef START
#undef GO_ON
#undef ADD
    float sum = 0;
    for (unsigned k = 0; k < BYTES / sizeof(float); k++)
        sum += total[k];
    return sum;
}

/* One slice of a pass over memory; n is a multiple of 64. Returns something that depends on all that was read. */
SET static float L(stream)(int kind, float *a, const float *b, const float *c, int64_t n) {
    typedef L(Floats) V;
    enum { LANES = BYTES / sizeof(float) };
    V sums[4] = {{0}}, one = 1 - (V){0};
    V *to = (V *)a;
    const V *x = (const V *)b, *y = (const V *)c;
    const int64_t count = n / LANES;
    switch (kind) {
    case READ:
        for (int64_t i = 0; i < count; i += 4)
            for (int k = 0; k < 4; k++)
                sums[k] += x[i + k];
        break;
    case FILL:
        for (int64_t i = 0; i < count; i++) {
            to[i] = one;
            __asm__ __volatile__("" ::: "memory");  // no call of memset, which has tricks of its own
        }
        break;
    case COPY:
        for (int64_t i = 0; i < count; i++) {
            to[i] = x[i];
            __asm__ __volatile__("" ::: "memory");  // nor of memcpy
        }
        break;
    default:
        for (int64_t i = 0; i < count; i++)
            to[i] = x[i] + 0.5f * y[i];
    }
    return (sums[0] + sums[1] + sums[2] + sums[3])[0];
}

#undef EACH_CHAIN
#undef L
#undef SET
#undef BYTES
