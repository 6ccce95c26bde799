/* What there is to see of traffic.h's vehicles: observations, states as numbers, pictures. */
#ifndef PUFFER_IL_TRAFFIC_VIEW_H
#define PUFFER_IL_TRAFFIC_VIEW_H

#include "traffic.h"

static const double SEEN_BEHIND = 2 * 5;  // m that a driver looks back; two cars
static const double SEEN_AHEAD = 200;     // m around that vehicles are seen at all, and the unit of positions along x
static const double SPEED_UNIT = 80;      // m/s, of velocities

/* Vehicle i as a row of highway-env's "Kinematics" table, relative to an origin; columns beyond the fifth are the
 * cosine and sine of its heading. */
static inline void observe_vehicle(const Traffic *t, int i, const double origin[4], double y_unit, int columns,
                                   Obs *row) {
    const double v = t->speed[i];
    const double values[7] = {1,
                              (t->x[i] - origin[0]) / SEEN_AHEAD,
                              (t->y[i] - origin[1]) / y_unit,
                              (v * t->cosine[i] - origin[2]) / SPEED_UNIT,
                              (v * t->sine[i] - origin[3]) / SPEED_UNIT,
                              t->cosine[i],
                              t->sine[i]};
    for (int k = 0; k < columns; k++)
        row[k] = (Obs)clip(values[k], -1, 1);
}

/* Own vehicle, its x counted from `start`, then the nearest along the road, as far as they are in sight; the rest of
 * the rows is zero. */
static inline void observe_table(const Traffic *t, int own, double start, double y_unit, int rows, int columns,
                                 Obs *out) {
    const double origin[4] = {start}, x = t->x[own], y = t->y[own], v = t->speed[own];
    const double here[4] = {x, y, v * t->cosine[own], v * t->sine[own]};
    observe_vehicle(t, own, origin, y_unit, columns, out);
    int row = 1;
    for (int front = t->rank[own] - 1, back = front + 2; row < rows;) {
        const double ahead = front >= 0 ? t->x[t->order[front]] - x : INFINITY;
        const double behind = back < VEHICLES ? x - t->x[t->order[back]] : INFINITY;
        if (!(ahead < SEEN_AHEAD || behind < SEEN_BEHIND))
            break;
        const int i = ahead <= behind ? t->order[front--] : t->order[back++];
        const double dx = t->x[i] - x, dy = t->y[i] - y;
        if (-dx < SEEN_BEHIND && dx * dx + dy * dy < SEEN_AHEAD * SEEN_AHEAD)
            observe_vehicle(t, i, here, y_unit, columns, out + row++ * columns);
    }
    memset(out + row * columns, 0, (size_t)((rows - row) * columns) * sizeof(Obs));
}

/* Two rows of one's own (position, velocity), then a row per ray, from straight along the road towards the right:
 * distance to what it hits and how fast that comes nearer (negative) or goes away, both in units of the range. */
static inline void observe_lidar(const Traffic *t, int own, double start, double y_unit, int rays, double range,
                                 Obs *out) {
    const double x = t->x[own], y = t->y[own], vx = t->speed[own] * t->cosine[own], vy = t->speed[own] * t->sine[own];
    const double mine[4] = {(x - start) / SEEN_AHEAD, y / y_unit, vx / SPEED_UNIT, vy / SPEED_UNIT};
    for (int k = 0; k < 4; k++)
        out[k] = (Obs)clip(mine[k], -1, 1);
    for (int ray = 0; ray < rays; ray++) {
        double sine, cosine, nearest_hit = range, speed = 0;
        sin_cos(2 * PI * ray / rays, &sine, &cosine);
        for (int i = 0; i < VEHICLES; i++) {
            if (i == own || fabs(t->x[i] - x) > range + CAR_LENGTH)
                continue;
            const Body b = body(t, i);
            const double distance = ray_hits(x, y, cosine, sine, nearest_hit, &b);
            if (distance < nearest_hit) {
                nearest_hit = distance;
                speed = (b.speed * b.cosine - vx) * cosine + (b.speed * b.sine - vy) * sine;
            }
        }
        out[4 + 2 * ray] = (Obs)(nearest_hit / range);
        out[5 + 2 * ray] = (Obs)(speed / range);
    }
}

enum { VEHICLE_STATE = 12 };

/* The arrays of Traffic that cannot be worked out from others. */
static inline void traffic_arrays(Traffic *t, float *arrays[VEHICLE_STATE]) {
    float *const all[VEHICLE_STATE] = {t->x,        t->y,     t->heading, t->speed,   t->target_lane, t->target_speed,
                                        t->exponent, t->timer, t->driven,  t->crashed, t->push_x,      t->push_y};
    memcpy(arrays, all, sizeof all);
}

/* VEHICLE_STATE numbers for each vehicle. */
static inline void traffic_get(const Traffic *t, double *state) {
    float *arrays[VEHICLE_STATE];
    traffic_arrays((Traffic *)t, arrays);
    for (int i = 0; i < VEHICLES; i++)
        for (int k = 0; k < VEHICLE_STATE; k++)
            *state++ = arrays[k][i];
}

static inline void traffic_set(Traffic *t, const Model *m, const double *state) {
    float *arrays[VEHICLE_STATE];
    traffic_arrays(t, arrays);
    for (int i = 0; i < VEHICLES; i++)
        for (int k = 0; k < VEHICLE_STATE; k++)
            arrays[k][i] = (float)*state++;
    for (int i = 0; i < VEHICLES; i++)  // a place among the lanes
        t->target_lane[i] = (float)clip(floor(t->target_lane[i]), 0, m->lanes - 1);
    traffic_settle(t, m);
}

/* Lines between lanes from x0 to x1, dashed, the outermost ones whole. */
static inline void draw_lanes(Canvas *canvas, Camera camera, int lanes, double x0, double x1) {
    double corners[8];
    for (int k = 0; k < 4; k++)
        to_pixels(canvas, camera, k % 3 ? x1 : x0, LANE_WIDTH * (k < 2 ? -0.5 : lanes - 0.5), corners + 2 * k);
    canvas_polygon(canvas, corners, 4, CANVAS_LIGHT);
    for (int line = 0; line <= lanes; line++) {
        const double y = LANE_WIDTH * (line - 0.5), period = line == 0 || line == lanes ? x1 - x0 : 9;
        const double first = period == 9 ? 9 * floor(x0 / 9) : x0;
        for (int k = 0; first + k * period < x1 && k <= (x1 - x0) / 9 + 1; k++) {  // very far away x + 9 is x
            const double x = first + k * period;
            draw_line(canvas, camera, x, y, period == 9 ? x + 3 : x1, y, 1.5, period == 9 ? CANVAS_PAPER : CANVAS_GREY);
        }
    }
}

/* All vehicles: agents blue, the first gold, the background grey, who has crashed red; and the first agent's rays. */
static inline void draw_traffic(Canvas *canvas, Camera camera, const Traffic *t, const Obs *lidar, int rays,
                                double range) {
    for (int ray = 0; ray < rays; ray++) {
        double sine, cosine;
        sin_cos(2 * PI * ray / rays, &sine, &cosine);
        const double length = lidar[4 + 2 * ray] * range;
        draw_line(canvas, camera, t->x[0], t->y[0], t->x[0] + length * cosine, t->y[0] + length * sine, 1,
                  length < range ? CANVAS_RED : CANVAS_GREY);
    }
    for (int i = VEHICLES - 1; i >= 0; i--) {
        const Body b = body(t, i);
        draw_car(canvas, camera, &b, t->crashed[i] > 0 ? CANVAS_RED : i == 0 ? CANVAS_GOLD
                                     : i < ENV_AGENTS  ? CANVAS_BLUE : CANVAS_GREY);
    }
}

#endif
