/* One vehicle on a road: how it moves, how it keeps a lane and a distance, what it touches, what it looks like. Shared
 * by the environments that drive; csrc/traffic.h has the crowd of them.
 *
 *   movement     kinematic bicycle model: Polack, Altché, d'Andréa-Novel and de La Fortelle (2017),
 *                doi:10.1109/IVS.2017.7995816
 *   distance     Intelligent Driver Model: Treiber, Hennecke and Helbing (2000), doi:10.1103/PhysRevE.62.1805
 *   lane keeping, collisions, numbers: highway-env 1.12 (Leurent 2018), which it equals up to rounding
 *
 * Lengths are m, speeds m/s, angles rad from the x axis towards the y axis; y grows to the right of who drives along x.
 * Everything that runs for each vehicle is plain arithmetic without branches, so that it is vectorised. */
#ifndef PUFFER_IL_DRIVING_H
#define PUFFER_IL_DRIVING_H

#include "env.h"
#include "trig.h"

/* A function that is too large to become a part of vec_step must itself have a second copy for AVX2 (see vec_env.h),
 * and what it calls must become a part of it. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORIZED __attribute__((target_clones("avx2", "default")))
#else
#define VECTORIZED
#endif
#if defined(__GNUC__)
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE static inline
#endif

static const double CAR_LENGTH = 5, CAR_WIDTH = 2, CAR_DIAGONAL = 5.3851648071345040;
static const double LANE_WIDTH = 4;

ALWAYS_INLINE double lesser(double a, double b) {
    return a < b ? a : b;
}

ALWAYS_INLINE double greater(double a, double b) {
    return a > b ? a : b;
}

/* x within -size … size. (Two comparisons, as in clip, would be turned into branches and cost three times as much.) */
ALWAYS_INLINE double limit(double x, double size) {
    return copysign(lesser(fabs(x), size), x);
}

/* x, or as much as it takes to divide by it. */
ALWAYS_INLINE double not_zero(double x) {
    return copysign(greater(fabs(x), 0.01), x);
}

/* The nearest whole number, for |x| < 2^51. */
ALWAYS_INLINE double nearest(double x) {
    return (x + 0x1.8p52) - 0x1.8p52;
}

/* The angle within half a turn that points the same way. */
ALWAYS_INLINE double turn(double angle) {
    return angle - 2 * PI * nearest(angle * (0.5 / PI));
}

/* Sine and cosine of any angle, error below 1e-9: half the work of sin_cos in trig.h. */
ALWAYS_INLINE void direction(double angle, double *sine, double *cosine) {
    static const double S[] = {-0.1666666666638369,    0.008333333305226838,  -0.00019841265277810102,
                               2.755704094878932e-6,   -2.5044009134614146e-8, 1.5937507881285524e-10,
                               -6.733260478332521e-13};
    static const double C[] = {-0.49999999995246629,   0.041666666194523102,  -0.0013888881221588261,
                               2.4801119583968869e-5,  -2.7543697342797428e-7, 2.0672108818090752e-9,
                               -9.9281218356146934e-12};
    const double x = turn(angle), z = x * x, z2 = z * z, z4 = z2 * z2;
    *sine = x + x * z * (((S[0] + z * S[1]) + z2 * (S[2] + z * S[3])) + z4 * ((S[4] + z * S[5]) + z2 * S[6]));
    *cosine = 1 + z * (((C[0] + z * C[1]) + z2 * (C[2] + z * C[3])) + z4 * ((C[4] + z * C[5]) + z2 * C[6]));
}

/* arcsin x for |x| <= sin 45°, error below 1e-9: a polynomial through the Chebyshev points. */
ALWAYS_INLINE double arcsine(double x) {
    static const double P[] = {0.99999999976176845, 0.16666676172609561, 0.074993798646193986, 0.044798193377047443,
                               0.028430124194085364, 0.036231379358804489, -0.041153510825006927, 0.16101399410291243,
                               -0.19575479864715967, 0.14325005132793745};
    const double z = x * x, z2 = z * z, z4 = z2 * z2;
    return x * (((P[0] + z * P[1]) + z2 * (P[2] + z * P[3])) +
                z4 * (((P[4] + z * P[5]) + z2 * (P[6] + z * P[7])) + z4 * (P[8] + z * P[9])));
}

/* x to the power of y for 0 <= x < 2^1000, 0 < y < 100, relative error below 1e-10: 2^(y log2 x), both by polynomials. */
ALWAYS_INLINE double power(double x, double y) {
    static const double L[] = {2.885390081789987, 0.96179667345154847, 0.57708356600486586, 0.41167376623771059,
                               0.3407120415619086};
    static const double E[] = {0.99999999995956175, 0.69314718055683241, 0.24022651213498093, 0.055504109063258666,
                               0.0096180256133180342, 0.0013333478473685415, 0.00015469729214118297,
                               1.5303700711365694e-5};
    const uint64_t half_root = 0x3fe6a09e667f3bcdu, one = 0x3ff0000000000000u;  // bits of sqrt(1/2) and 1
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits += one - half_root;
    const uint64_t exponent_bits = (bits >> 52) | 0x4330000000000000u;  // as a double: 2^52 + the biased exponent
    const uint64_t fraction_bits = (bits & 0x000fffffffffffffu) + half_root;
    double exponent, fraction;
    memcpy(&exponent, &exponent_bits, sizeof exponent);
    memcpy(&fraction, &fraction_bits, sizeof fraction);
    const double t = (fraction - 1) / (fraction + 1), z = t * t, z2 = z * z;
    const double log2 = (exponent - (0x1p52 + 1023)) + t * ((L[0] + z * L[1]) + z2 * ((L[2] + z * L[3]) + z2 * L[4]));

    const double target = limit(y * log2, 1000), shifted = target + 0x1.8p52, f = target - (shifted - 0x1.8p52);
    const double f2 = f * f;
    const double mantissa = ((E[0] + f * E[1]) + f2 * (E[2] + f * E[3])) +
                            f2 * f2 * ((E[4] + f * E[5]) + f2 * (E[6] + f * E[7]));
    uint64_t scale, result_bits;
    memcpy(&scale, &shifted, sizeof scale);
    memcpy(&result_bits, &mantissa, sizeof result_bits);
    result_bits += scale << 52;
    double result;
    memcpy(&result, &result_bits, sizeof result);
    return result;
}

/* The bicycle model's steering enters as the sine of the slip angle β between heading and movement, tan β = tan δ / 2
 * for a steering angle δ and axles half a car from the middle: no other function of δ is ever needed. */
ALWAYS_INLINE double slip_of_steering(double angle) {
    double sine, cosine;
    direction(angle, &sine, &cosine);
    const double half = sine / (2 * cosine);
    return half / sqrt(1 + half * half);
}

/* Cascaded proportional control of lateral position, heading and heading's rate towards the middle of a lane, from the
 * distance to it and the angle to its direction; the slip's sine for at most 60° at the wheels. */
ALWAYS_INLINE double lane_keeping(double lateral, double angle, double speed) {
    const double LATERAL_RATE = 1 / 0.6, HEADING_RATE = 1 / 0.2;                     // 1/s
    const double SINE_45 = 0.70710678118654752, LARGEST_SLIP = 0.65465367070797714;  // sin(arctan(tan 60° / 2))
    const double inverse = 1 / not_zero(speed);
    const double wanted = arcsine(limit(-LATERAL_RATE * lateral * inverse, SINE_45));
    const double rate = HEADING_RATE * turn(wanted - angle);
    return limit(CAR_LENGTH / 2 * inverse * rate, LARGEST_SLIP);
}

/* One step of the bicycle model of a car `length` long; cosine and sine are those of the heading, and are renewed. */
ALWAYS_INLINE void bicycle(double *x, double *y, double *heading, double *speed, double *cosine, double *sine,
                           double slip, double acceleration, double length, double dt) {
    const double slip_cosine = sqrt(1 - slip * slip), distance = *speed * dt;
    *x += distance * (*cosine * slip_cosine - *sine * slip);
    *y += distance * (*sine * slip_cosine + *cosine * slip);
    *heading += distance * slip * (2 / length);
    *speed += acceleration * dt;
    direction(*heading, sine, cosine);
}

/* A rectangle that moves: a car, or anything solid. */
typedef struct {
    double x, y, cosine, sine, speed, length, width;
} Body;

/* Half the extent of a body along a direction. */
static inline double extent(const Body *b, double nx, double ny) {
    return b->length / 2 * fabs(nx * b->cosine + ny * b->sine) + b->width / 2 * fabs(ny * b->cosine - nx * b->sine);
}

/* Whether two bodies overlap, or will within dt if they go on (separating axes); if they will, `push` is the way that
 * the first has to move to be free again. */
static inline bool touch(const Body *a, const Body *b, double dt, bool *will, double push[2]) {
    const double dx = a->x - b->x, dy = a->y - b->y;
    const double moved_x = (a->speed * a->cosine - b->speed * b->cosine) * dt;
    const double moved_y = (a->speed * a->sine - b->speed * b->sine) * dt;
    double least = INFINITY;
    bool now = true;
    *will = true;
    for (int k = 0; k < 4; k++) {
        const Body *owner = k < 2 ? a : b;
        const double nx = k & 1 ? -owner->sine : -owner->cosine, ny = k & 1 ? owner->cosine : -owner->sine;
        const double apart = dx * nx + dy * ny, reach = extent(a, nx, ny) + extent(b, nx, ny);
        now &= fabs(apart) <= reach;
        // The first body's interval grows towards where it moves, and the nearer ends decide.
        const double moved = moved_x * nx + moved_y * ny, ea = extent(a, nx, ny), eb = extent(b, nx, ny);
        const double low_a = apart - ea + lesser(moved, 0), high_a = apart + ea + greater(moved, 0);
        const double gap = low_a < -eb ? -eb - high_a : low_a - eb;
        *will &= gap <= 0;
        if (!now && !*will)
            return false;
        if (fabs(gap) < least) {
            least = fabs(gap);
            push[0] = apart > 0 ? least * nx : -least * nx;
            push[1] = apart > 0 ? least * ny : -least * ny;
        }
    }
    return now;
}

/* Distance along a ray to a body, or `range`. */
static inline double ray_hits(double x, double y, double ray_x, double ray_y, double range, const Body *b) {
    const double dx = b->x - x, dy = b->y - y;
    const double along[2] = {dx * b->cosine + dy * b->sine, dy * b->cosine - dx * b->sine};
    const double ray[2] = {ray_x * b->cosine + ray_y * b->sine, ray_y * b->cosine - ray_x * b->sine};
    const double half[2] = {b->length / 2, b->width / 2};
    double enter = 0, leave = range;
    for (int k = 0; k < 2; k++) {
        const double step = fabs(ray[k]) > 1e-9 ? ray[k] : 1e-9;
        const double first = (along[k] - half[k]) / step, second = (along[k] + half[k]) / step;
        enter = greater(enter, lesser(first, second));
        leave = lesser(leave, greater(first, second));
    }
    return enter <= leave ? enter : range;
}

/* The part of the plane that a picture shows: the point (x, y) is in its middle, turned by an angle, in pixels per m. */
typedef struct {
    double x, y, cosine, sine, scale;
} Camera;

static inline void to_pixels(const Canvas *canvas, Camera camera, double x, double y, double pixel[2]) {
    const double dx = (x - camera.x) * camera.scale, dy = (y - camera.y) * camera.scale;
    pixel[0] = canvas->width / 2.0 + dx * camera.cosine + dy * camera.sine;
    pixel[1] = canvas->height / 2.0 + dy * camera.cosine - dx * camera.sine;
}

static inline void draw_line(Canvas *canvas, Camera camera, double x0, double y0, double x1, double y1,
                             double thickness, uint32_t color) {
    double a[2], b[2];
    to_pixels(canvas, camera, x0, y0, a);
    to_pixels(canvas, camera, x1, y1, b);
    canvas_line(canvas, a[0], a[1], b[0], b[1], thickness, color);
}

/* A car with its windscreen, so that one sees where it goes. */
static inline void draw_car(Canvas *canvas, Camera camera, const Body *b, uint32_t color) {
    static const double PARTS[2][4] = {{-0.5, 0.5, -0.5, 0.5}, {0.12, 0.28, -0.38, 0.38}};  // of length and width
    for (int part = 0; part < 2; part++) {
        double corners[8];
        for (int k = 0; k < 4; k++) {
            const double along = b->length * PARTS[part][k == 1 || k == 2], across = b->width * PARTS[part][2 + k / 2];
            to_pixels(canvas, camera, b->x + along * b->cosine - across * b->sine,
                      b->y + along * b->sine + across * b->cosine, corners + 2 * k);
        }
        canvas_polygon(canvas, corners, 4, part ? CANVAS_PAPER : color);
    }
}

#endif
