/* Sine and cosine of a double in one go, inline and without tables or branches on the usual path: a fraction of the
 * cost of the C library's, and the same bits on every machine. Polynomials of fdlibm's __kernel_sin and __kernel_cos
 * (Sun Microsystems 1993) on [-pi/4, pi/4] after a Cody-Waite reduction; error below 2 ulp of 1 for |x| < 1e5. */
#ifndef PUFFER_IL_TRIG_H
#define PUFFER_IL_TRIG_H

#include <math.h>

#define PI 3.14159265358979323846

/* Nearest whole number for |x| < 2^51: the addition pushes the fraction out of the mantissa. */
static inline double nearest(double x) {
    return (x + 0x1.8p52) - 0x1.8p52;
}

static inline void sin_cos(double x, double *sine, double *cosine) {
    if (!(fabs(x) < 1e5)) {  // also NaN
        *sine = sin(x);
        *cosine = cos(x);
        return;
    }
    const double quarter = nearest(x * (2 / PI));
    const double r = (x - quarter * 0x1.921fb544p+0) - quarter * 0x1.0b4611a626331p-34;  // pi/2 in two parts
    const double z = r * r, w = z * z;
    const double s = r + r * z * ((-1.66666666666666324348e-01 + z * 8.33333333332248946124e-03) +
                                  w * ((-1.98412698298579493134e-04 + z * 2.75573137070700676789e-06) +
                                       w * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)));
    const double c = 1 - z * 0.5 + w * ((4.16666666666666019037e-02 + z * -1.38888888888741095749e-03) +
                                        w * ((2.48015872894767294178e-05 + z * -2.75573143513906633035e-07) +
                                             w * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)));
    const int turn = (int)quarter & 3;
    const double a = turn & 1 ? c : s, b = turn & 1 ? s : c;
    *sine = turn & 2 ? -a : a;
    *cosine = (turn + 1) & 2 ? -b : b;
}

/* The equivalent angle in [-pi, pi]. */
static inline double wrap_angle(double x) {
    return fabs(x) > PI ? x - 2 * PI * nearest(x / (2 * PI)) : x;
}

#endif
