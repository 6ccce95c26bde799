/* Sine and cosine of a double in one go, inline, without tables or branches: a fraction of the cost of the C
 * library's, vectorisable, and the same bits on every machine. Polynomials of fdlibm's __kernel_sin and __kernel_cos
 * (Sun Microsystems 1993) on [-pi/4, pi/4] after a Cody-Waite reduction. */
#ifndef PUFFER_IL_TRIG_H
#define PUFFER_IL_TRIG_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define PI 3.14159265358979323846

/* Absolute error below 1e-15 + 1e-16 |x| for |x| < 2^30; not a number beyond. */
static inline void sin_cos(double x, double *sine, double *cosine) {
    const double shifted = x * (2 / PI) + 0x1.8p52;  // the addition leaves the nearest whole number in the low bits
    const double quarters = shifted - 0x1.8p52;
    uint64_t turn;
    memcpy(&turn, &shifted, sizeof turn);

    double r = (x - quarters * 0x1.921fb544p+0) - quarters * 0x1.0b4611a626331p-34;  // pi/2 in two parts
    r = fabs(x) < 0x1p30 ? r : NAN;
    const double z = r * r, w = z * z;
    const double s = r + r * z * ((-1.66666666666666324348e-01 + z * 8.33333333332248946124e-03) +
                                  w * ((-1.98412698298579493134e-04 + z * 2.75573137070700676789e-06) +
                                       w * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)));
    const double c = 1 - z * 0.5 + w * ((4.16666666666666019037e-02 + z * -1.38888888888741095749e-03) +
                                        w * ((2.48015872894767294178e-05 + z * -2.75573143513906633035e-07) +
                                             w * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)));
    const double a = turn & 1 ? c : s, b = turn & 1 ? s : c;
    *sine = turn & 2 ? -a : a;
    *cosine = (turn + 1) & 2 ? -b : b;
}

/* The angle in [-pi, pi] that points the same way. */
static inline double wrap_angle(double x) {
    return fabs(x) > PI ? x - 2 * PI * ((x / (2 * PI) + 0x1.8p52) - 0x1.8p52) : x;
}

#endif
