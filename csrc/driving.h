/* One vehicle on a road: how it moves, how it keeps a lane and a distance, what it touches, what it looks like. Shared
 * by the environments that drive; traffic.h has the crowd of them, drivers.h those who drive by themselves.
 *
 *   movement     kinematic bicycle model: Polack, Altché, d'Andréa-Novel and de La Fortelle (2017),
 *                doi:10.1109/IVS.2017.7995816
 *   lane keeping, collisions, numbers: highway-env 1.12 (Leurent 2018), which it equals up to rounding
 *
 * Lengths are m, speeds m/s, angles rad from the x axis towards the y axis; y grows to the right of who drives along x.
 * Everything that runs for each vehicle is plain arithmetic in floats without branches, so that it is vectorized. */
#ifndef PUFFER_IL_DRIVING_H
#define PUFFER_IL_DRIVING_H

#include "env.h"
#include "trig.h"

/* What a CLONED function calls must become a part of it, or it is not a copy. */
#if defined(__GNUC__)
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE static inline
#endif

static const double CAR_LENGTH = 5, CAR_WIDTH = 2, CAR_DIAGONAL = 5.3851648071345040;
static const float LANE_WIDTH = 4;

ALWAYS_INLINE float lesser(float a, float b) {
    return a < b ? a : b;
}

ALWAYS_INLINE float greater(float a, float b) {
    return a > b ? a : b;
}

/* x within -size … size. (Two comparisons, as in clip, would be turned into branches and cost three times as much.) */
ALWAYS_INLINE float limit(float x, float size) {
    return copysignf(lesser(fabsf(x), size), x);
}

/* x, or as much as it takes to divide by it. */
ALWAYS_INLINE float not_zero(float x) {
    return copysignf(greater(fabsf(x), 0.01f), x);
}

/* The nearest whole number, for |x| < 2^22. */
ALWAYS_INLINE float nearest(float x) {
    return (x + 0x1.8p23f) - 0x1.8p23f;
}

/* The angle within half a turn that points the same way. */
ALWAYS_INLINE float turn(float angle) {
    return angle - (float)(2 * PI) * nearest(angle * (float)(0.5 / PI));
}

/* x² in polynomials (which run through the Chebyshev points), kept away from the smallest numbers that there are, with
 * which processors are slow. */
ALWAYS_INLINE float square(float x) {
    return x * x + 1e-15f;
}

/* Sine and cosine, error below 1e-6. */
ALWAYS_INLINE void direction(float angle, float *sine, float *cosine) {
    static const float S[] = {-0.166666666f,    0.00833333107f,   -0.000198410021f,
                              2.75456802e-6f,   -2.48222728e-8f,  1.39423443e-10f};
    static const float C[] = {-0.499999995f,    0.0416666333f,    -0.00138884929f,
                              2.47843616e-5f,   -2.72166732e-7f,  1.77299525e-9f};
    const float x = turn(angle), z = square(x), z2 = square(z), z4 = square(z2);
    *sine = x + x * z * (((S[0] + z * S[1]) + z2 * (S[2] + z * S[3])) + z4 * (S[4] + z * S[5]));
    *cosine = 1 + z * (((C[0] + z * C[1]) + z2 * (C[2] + z * C[3])) + z4 * (C[4] + z * C[5]));
}

/* arcsin x for |x| <= sin 45°, error below 1e-6. */
ALWAYS_INLINE float arcsine(float x) {
    static const float P[] = {0.166666171f, 0.0750709636f, 0.0430381757f, 0.0432184325f, -0.0214574563f, 0.0773823553f};
    const float z = square(x), z2 = square(z);
    return x + x * z * (((P[0] + z * P[1]) + z2 * (P[2] + z * P[3])) + square(z2) * (P[4] + z * P[5]));
}

/* x to the power of y for 0 <= x, 0 < y, relative error below 1e-5: 2^(y log2 x), both by polynomials. */
ALWAYS_INLINE float power(float x, float y) {
    static const float L[] = {2.88539042f, 0.961588947f, 0.595759607f};
    static const float E[] = {0.693147181f, 0.24022349f, 0.0555038101f, 0.00966636852f, 0.00133813025f};
    const uint32_t half_root = 0x3f3504f3u, one = 0x3f800000u;  // bits of sqrt(1/2) and 1
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits += one - half_root;
    const uint32_t exponent_bits = (bits >> 23) | 0x4b000000u;  // as a float: 2^23 + the biased exponent
    const uint32_t fraction_bits = (bits & 0x007fffffu) + half_root;
    float exponent, fraction;
    memcpy(&exponent, &exponent_bits, sizeof exponent);
    memcpy(&fraction, &fraction_bits, sizeof fraction);
    const float t = (fraction - 1) / (fraction + 1), z = t * t;
    const float log2 = (exponent - (0x1p23f + 127)) + t * ((L[0] + z * L[1]) + z * z * L[2]);

    const float target = limit(y * log2, 120), shifted = target + 0x1.8p23f, f = target - (shifted - 0x1.8p23f);
    const float f2 = f * f, mantissa = 1 + f * (((E[0] + f * E[1]) + f2 * (E[2] + f * E[3])) + f2 * f2 * E[4]);
    uint32_t scale, result_bits;
    memcpy(&scale, &shifted, sizeof scale);
    memcpy(&result_bits, &mantissa, sizeof result_bits);
    result_bits += scale << 23;
    float result;
    memcpy(&result, &result_bits, sizeof result);
    return result;
}

/* The bicycle model's steering enters as the sine of the slip angle β between heading and movement, tan β = tan δ / 2
 * for a steering angle δ and axles half a car from the middle: no other function of δ is ever needed. */
ALWAYS_INLINE float slip_of_steering(float angle) {
    float sine, cosine;
    direction(angle, &sine, &cosine);
    const float half = 0.5f * sine / cosine;
    return half / sqrtf(1 + half * half);
}

/* Cascaded proportional control of lateral position, heading and heading's rate towards the middle of a lane, from the
 * distance to it and the angle to its direction; the slip's sine for at most 60° at the wheels. */
ALWAYS_INLINE float lane_keeping(float lateral, float angle, float speed) {
    const float LATERAL_RATE = 1 / 0.6f, HEADING_RATE = 5;                // 1/s
    const float SINE_45 = 0.707106781f, LARGEST_SLIP = 0.654653671f;  // sin(arctan(tan 60° / 2))
    const float inverse = 1 / not_zero(speed);
    const float wanted = arcsine(limit(-LATERAL_RATE * lateral * inverse, SINE_45));
    const float rate = HEADING_RATE * turn(wanted - angle);
    return limit((float)CAR_LENGTH / 2 * inverse * rate, LARGEST_SLIP);
}

/* One step of the bicycle model; cosine and sine are those of the heading, and are renewed. */
ALWAYS_INLINE void bicycle(float *x, float *y, float *heading, float *speed, float *cosine, float *sine, float slip,
                           float acceleration, float dt) {
    const float slip_cosine = sqrtf(1 - slip * slip), distance = *speed * dt;
    *x += distance * (*cosine * slip_cosine - *sine * slip);
    *y += distance * (*sine * slip_cosine + *cosine * slip);
    *heading += distance * slip * (float)(2 / CAR_LENGTH);
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
        const double low_a = apart - ea + (moved < 0 ? moved : 0), high_a = apart + ea + (moved > 0 ? moved : 0);
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
        const double near = first < second ? first : second, far = first < second ? second : first;
        enter = near > enter ? near : enter;
        leave = far < leave ? far : leave;
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
