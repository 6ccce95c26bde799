/* The picture of both mountain cars: a car in a valley, and a flag at the goal. */
#ifndef PUFFER_IL_VALLEY_H
#define PUFFER_IL_VALLEY_H

#include <math.h>

#include "canvas.h"

static inline double valley_height(double position) {
    return 0.45 * sin(3 * position) + 0.55;
}

static void draw_valley(Canvas *canvas, double position, double low, double high, double goal) {
    const double scale = canvas->width / (high - low), floor = canvas->height;
    double before = floor - scale * valley_height(low);
    for (int i = 0; i < canvas->width; i++) {
        const double y = floor - scale * valley_height(low + (i + 1) / scale);
        canvas_rect(canvas, i, y, 1, floor - y, CANVAS_LIGHT);
        canvas_line(canvas, i, before, i + 1, y, 3, CANVAS_GREY);
        before = y;
    }

    const double flag_x = scale * (goal - low), flag_y = floor - scale * valley_height(goal);
    canvas_line(canvas, flag_x, flag_y, flag_x, flag_y - 54, 3, CANVAS_INK);
    canvas_polygon(canvas, (double[]){flag_x + 1, flag_y - 54, flag_x + 1, flag_y - 32, flag_x + 30, flag_y - 43}, 3,
                   CANVAS_RED);

    /* The car stands on the slope: (a, b) is a pixels forwards and b above the ground. */
    const double angle = atan(1.35 * cos(3 * position)), forward_x = cos(angle), forward_y = -sin(angle);
    const double x = scale * (position - low), y = floor - scale * valley_height(position);
#define AT(a, b) x + (a) * forward_x + (b) * forward_y, y + (a) * forward_y - (b) * forward_x
    canvas_polygon(canvas, (double[]){AT(-22, 7), AT(-22, 19), AT(22, 19), AT(22, 7)}, 4, CANVAS_BLUE);
    canvas_polygon(canvas, (double[]){AT(-14, 19), AT(-9, 29), AT(7, 29), AT(14, 19)}, 4, CANVAS_BLUE);
    canvas_disc(canvas, AT(-13, 7), 7, CANVAS_INK);
    canvas_disc(canvas, AT(13, 7), 7, CANVAS_INK);
#undef AT
}

#endif
