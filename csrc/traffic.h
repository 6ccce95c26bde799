/* Many vehicles on parallel straight lanes along x (lane l has its middle at y = 4 l): who is where, movement, collisions.
 * What their drivers do is in drivers.h. Equal to highway-env 1.12 (Leurent 2018) up to single precision, so that what is
 * learned here drives there.
 *
 * Before it, an environment defines VEHICLES; vehicles 0 … ENV_AGENTS - 1 are those of the agents. Everything is an array
 * by vehicle, of floats, padded, so that loops over all vehicles run eight at a time; vehicle NOBODY stands infinitely
 * far ahead, where there is nobody. */
#ifndef PUFFER_IL_TRAFFIC_H
#define PUFFER_IL_TRAFFIC_H

#include "driving.h"

enum { PADDED = (VEHICLES + 7) / 8 * 8, NOBODY = PADDED, SLOTS = PADDED + 1, MAX_LANES = 7 };
static const uint64_t EVERY_LANE = 0x0101010101010101;  // a byte for each lane, and one for who is on none

typedef struct {
    float x[SLOTS], y[SLOTS], heading[SLOTS], speed[SLOTS];
    float lane[SLOTS], target_lane[SLOTS];  // whole numbers
    float target_speed[SLOTS];
    float exponent[SLOTS];                  // δ of the IDM, the driver's own
    float timer[SLOTS];                     // s since the driver last thought about changing lanes
    float driven[SLOTS];                    // 1: an agent decides, 0: IDM and MOBIL
    float crashed[SLOTS];                   // 1: brakes, and stands
    float push_x[SLOTS], push_y[SLOTS];     // by a collision, in the next step
    float cosine[SLOTS], sine[SLOTS];       // of the heading, and all that follows from what is above:
    float vx[SLOTS], vy[SLOTS];
    float pace[SLOTS];                      // 1 / the speed that a driver of the background wants
    float pressure[SLOTS];                  // what the leader takes from the IDM's acceleration: a (s* / s)²
    uint64_t ahead[SLOTS];                  // the next vehicle on each lane
    uint8_t order[VEHICLES], rank[SLOTS];   // vehicles from the foremost, and their places among them
    bool wrecks;                            // whether anybody has crashed
} Traffic;

typedef struct {
    float acceleration[PADDED], slip[PADDED];  // see slip_of_steering
} Commands;

/* The drivers' parameters as floats, which loops over floats need. Treiber et al. keep a distance from a car's front to
 * the next one's rear, at least s0; highway-env one between their middles, which has no least. */
typedef struct {
    float lanes, speed_limit, hardest;
    float acceleration, jam_distance, time_gap, closing_weight;  // IDM: a, s0, T, 1 / (2 sqrt(a b))
    float politeness, gain, braking, delay;                      // MOBIL: p, Δa, b_safe, s between two thoughts
    float length, least_gap;                                     // m between two middles that are no distance; s* at least
} Model;

_Static_assert(VEHICLES < 248 && VEHICLES >= (int)ENV_AGENTS, "vehicles are numbered by bytes, agents first");

/* Brings `order` up to date; insertion, because few vehicles overtake in a step. */
ALWAYS_INLINE void sort_vehicles(Traffic *t) {
    float last = INFINITY;  // x of the vehicle before
    for (int k = 0; k < VEHICLES; k++) {
        const uint8_t i = t->order[k];
        const float x = t->x[i];
        if (x < last) {
            last = x;
            continue;
        }
        int place = k;
        for (; place > 0; place--) {
            const uint8_t j = t->order[place - 1];
            if (t->x[j] > x || (t->x[j] == x && j < i))
                break;
            t->order[place] = j;
        }
        t->order[place] = i;
    }
}

/* How far a lane's byte is shifted: 8 times the whole number, taken from a float's bits, which is vectorized. Whole bytes
 * for any other number too, so that what is found there is always a vehicle. */
ALWAYS_INLINE uint32_t lane_shift(float lane) {
    const float shifted = 8 * lane + 0x1p23f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits & 56;
}

/* The next vehicle ahead on a lane. */
ALWAYS_INLINE int leader(const Traffic *t, int i, float lane) {
    return (int)(t->ahead[i] >> lane_shift(lane) & 255);
}

/* The gap s* of the IDM that vehicle i wants to one of these velocities. */
ALWAYS_INLINE float desired_gap(const Traffic *t, int i, float vx, float vy, const Model *m) {
    const float v = t->speed[i], closing = v - (vx * t->cosine[i] + vy * t->sine[i]);
    return greater(m->jam_distance + v * m->time_gap + v * closing * m->closing_weight, m->least_gap);
}

ALWAYS_INLINE float gap_between(float behind, float ahead, const Model *m) {
    return greater(ahead - behind - m->length, 0.01f);
}

ALWAYS_INLINE float pace_of(float speed, const Model *m) {
    return 1 / greater(lesser(speed, m->speed_limit), 0.01f);
}

/* What follows from positions, headings and speeds: velocities, lanes, who is ahead, and how near. */
ALWAYS_INLINE void traffic_look(Traffic *t, const Model *m) {
    uint32_t own[PADDED], beside[PADDED];     // bytes of lanes: a vehicle less than 1 m from another is on both
    float x[PADDED], vx[PADDED], vy[PADDED];  // of the leaders
    for (int i = 0; i < PADDED; i++) {
        const float lane = lesser(greater(nearest(t->y[i] / LANE_WIDTH), 0), m->lanes - 1);
        const float lateral = t->y[i] - LANE_WIDTH * lane, away = fabsf(lateral);
        const float first = away <= LANE_WIDTH / 2 + 1 ? lane : MAX_LANES;
        const float second = away >= LANE_WIDTH / 2 - 1 ? greater(lane + copysignf(1, lateral), 0) : first;
        t->lane[i] = lane;
        own[i] = lane_shift(first);
        beside[i] = lane_shift(second);
    }
    sort_vehicles(t);
    uint64_t last = NOBODY * EVERY_LANE;  // vehicle on each lane, going from the foremost on
    for (int k = 0; k < VEHICLES; k++) {
        const uint64_t i = t->order[k], mask = (uint64_t)255 << own[i] | (uint64_t)255 << beside[i];
        t->rank[i] = (uint8_t)k;
        t->ahead[i] = last;
        last = (last & ~mask) | (i * EVERY_LANE & mask);
    }
    for (int i = 0; i < PADDED; i++) {
        t->vx[i] = t->speed[i] * t->cosine[i];
        t->vy[i] = t->speed[i] * t->sine[i];
    }
    for (int i = 0; i < PADDED; i++) {
        const int j = leader(t, i, t->lane[i]);
        x[i] = t->x[j], vx[i] = t->vx[j], vy[i] = t->vy[j];
    }
    for (int i = 0; i < PADDED; i++) {
        const float ratio = desired_gap(t, i, vx[i], vy[i], m) / gap_between(t->x[i], x[i], m);
        t->pressure[i] = m->acceleration * ratio * ratio;
    }
}

/* After x, y, heading, speed, lanes, drivers and crashes have been given to all: the rest. */
static inline void traffic_settle(Traffic *t, const Model *m) {
    t->wrecks = false;
    for (int i = 0; i < SLOTS; i++) {
        if (i >= VEHICLES) {
            t->x[i] = t->y[i] = t->heading[i] = t->speed[i] = t->timer[i] = t->target_lane[i] = 0;
            t->driven[i] = t->crashed[i] = t->push_x[i] = t->push_y[i] = t->vx[i] = t->vy[i] = 0;
            t->target_speed[i] = t->exponent[i] = 1;
            t->ahead[i] = NOBODY * EVERY_LANE;
        }
        direction(t->heading[i], &t->sine[i], &t->cosine[i]);
        t->pace[i] = pace_of(t->target_speed[i], m);
        t->wrecks |= t->crashed[i] != 0 || t->push_x[i] != 0 || t->push_y[i] != 0;
    }
    t->x[NOBODY] = INFINITY;
    for (int k = 0; k < VEHICLES; k++)
        t->order[k] = (uint8_t)k;
    traffic_look(t, m);
}

static inline void place_vehicle(Traffic *t, int i, double x, double y, double speed, double exponent, bool driven) {
    t->x[i] = (float)x, t->y[i] = (float)y, t->exponent[i] = (float)exponent, t->driven[i] = driven;
    t->speed[i] = t->target_speed[i] = (float)speed;
    t->heading[i] = t->crashed[i] = t->push_x[i] = t->push_y[i] = 0;
    t->target_lane[i] = nearest((float)y / LANE_WIDTH);
    t->timer[i] = (float)((x + y) * PI - floor((x + y) * PI));  // drivers do not all think at once
}

/* Who has crashed loses speed without steering, and is pushed out of the other. */
static inline void move_wrecks(Traffic *t, Commands *c) {
    for (int i = 0; i < VEHICLES; i++) {
        if (t->crashed[i] > 0)
            c->slip[i] = 0, c->acceleration[i] = -t->speed[i];
        t->x[i] += t->push_x[i];
        t->y[i] += t->push_y[i];
        if (t->push_x[i] != 0 || t->push_y[i] != 0)
            t->crashed[i] = 1;
        t->push_x[i] = t->push_y[i] = 0;
    }
}

/* Moves all for dt. */
ALWAYS_INLINE void traffic_move(Traffic *t, Commands *c, const Model *m, float dt) {
    if (t->wrecks)
        move_wrecks(t, c);
    for (int i = 0; i < PADDED; i++) {
        bicycle(&t->x[i], &t->y[i], &t->heading[i], &t->speed[i], &t->cosine[i], &t->sine[i], c->slip[i],
                c->acceleration[i], dt);
        t->timer[i] += dt;
    }
    traffic_look(t, m);
}

static inline Body body(const Traffic *t, int i) {
    return (Body){t->x[i], t->y[i], t->cosine[i], t->sine[i], t->speed[i], CAR_LENGTH, CAR_WIDTH};
}

/* Two vehicles near each other; highway-env asks the lower number whether it hits the other. */
static inline void collide(Traffic *t, int i, int j, double dt) {
    const int first = i < j ? i : j, second = i < j ? j : i;
    const Body a = body(t, first), b = body(t, second);
    const double dx = b.x - a.x, dy = b.y - a.y, reach = CAR_DIAGONAL + a.speed * dt;
    bool will;
    double push[2] = {0};
    if (dx * dx + dy * dy > reach * reach)
        return;
    if (touch(&a, &b, dt, &will, push)) {
        t->crashed[i] = t->crashed[j] = 1;
        t->wrecks = true;
    }
    if (will) {
        t->push_x[first] = (float)(push[0] / 2), t->push_y[first] = (float)(push[1] / 2);
        t->push_x[second] = -t->push_x[first], t->push_y[second] = -t->push_y[first];
        t->wrecks = true;
    }
}

/* Agents with all; if asked for, all with all. */
ALWAYS_INLINE void traffic_collide(Traffic *t, bool everybody, float dt) {
    const float reach = (float)CAR_DIAGONAL + 50 * dt;  // nobody drives faster
    for (int i = 0; i < (everybody ? VEHICLES : (int)ENV_AGENTS); i++) {
        for (int k = t->rank[i] + 1; k < VEHICLES && t->x[i] - t->x[t->order[k]] < reach; k++)
            collide(t, i, t->order[k], dt);
        for (int k = t->rank[i] - 1; k >= 0 && !everybody && t->x[t->order[k]] - t->x[i] < reach; k--)
            if (t->order[k] >= ENV_AGENTS)
                collide(t, i, t->order[k], dt);
    }
}

#endif
