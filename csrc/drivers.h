/* What the drivers among traffic.h's vehicles do, equal to highway-env 1.12's IDMVehicle (Leurent 2018).
 *
 *   distance      IDM, the Intelligent Driver Model: Treiber, Hennecke and Helbing (2000), doi:10.1103/PhysRevE.62.1805
 *   lane changes  MOBIL: Kesting, Treiber and Helbing (2007), doi:10.3141/1999-10 */
#ifndef PUFFER_IL_DRIVERS_H
#define PUFFER_IL_DRIVERS_H

#include "traffic.h"

/* The next vehicle behind on a lane. */
ALWAYS_INLINE int follower(const Traffic *t, int i, float lane) {
    for (int k = t->rank[i] + 1; k < VEHICLES; k++)
        if (fabsf(t->y[t->order[k]] - LANE_WIDTH * lane) <= LANE_WIDTH / 2 + 1)
            return t->order[k];
    return NOBODY;
}

/* The IDM's acceleration where nobody is ahead: a (1 - (v / v0)^δ). */
ALWAYS_INLINE float free_road(float speed, float pace, float exponent, const Model *m) {
    return m->acceleration * (1 - power(greater(speed, 0) * pace, exponent));
}

/* As `pressure` in traffic.h, by any vehicle j. */
ALWAYS_INLINE float pressure_of(const Traffic *t, int i, int j, const Model *m) {
    const float ratio = desired_gap(t, i, t->vx[j], t->vy[j], m) / gap_between(t->x[i], t->x[j], m);
    return m->acceleration * ratio * ratio;
}

/* What the driver of i gains in acceleration on another lane. */
ALWAYS_INLINE float gain_of(const Traffic *t, int i, float lane, const Model *m) {
    return t->pressure[i] - pressure_of(t, i, leader(t, i, lane), m);
}

/* MOBIL: whether a new follower need not brake too hard. (highway-env lets the driver of i judge that by an exponent of
 * his own.) */
ALWAYS_INLINE bool is_safe(const Traffic *t, int i, int behind, const Model *m) {
    return behind == NOBODY || !(free_road(t->speed[behind], pace_of(t->target_speed[behind], m), t->exponent[i], m) -
                                     pressure_of(t, behind, i, m) < -m->braking);
}

/* MOBIL: whether a change is safe and gains enough, those behind counting as much as politeness says. */
ALWAYS_INLINE bool worth_changing(const Traffic *t, int i, float lane, const Model *m) {
    const int behind = follower(t, i, lane);
    if (!is_safe(t, i, behind, m))
        return false;
    if (m->politeness == 0)
        return true;  // the gain has been looked at
    float gain = gain_of(t, i, lane, m);
    const int left_behind = follower(t, i, t->lane[i]);
    if (left_behind != NOBODY)
        gain += m->politeness * (pressure_of(t, left_behind, i, m) -
                                 pressure_of(t, left_behind, leader(t, i, t->lane[i]), m));
    if (behind != NOBODY)
        gain += m->politeness * (pressure_of(t, behind, leader(t, i, lane), m) - pressure_of(t, behind, i, m));
    return gain >= m->gain;
}

/* Whether somebody else ahead, too close, is on the way into the lane that i is changing to. */
ALWAYS_INLINE bool is_contested(const Traffic *t, int i, const Model *m) {
    float contested = 0;
    for (int j = 0; j < PADDED; j++) {
        const float gap = t->x[j] - t->x[i], near = desired_gap(t, i, t->vx[j], t->vy[j], m) + m->length;
        const float joins = t->target_lane[j] == t->target_lane[i] && t->lane[j] != t->target_lane[i] ? gap : 0;
        contested += joins > 0 && joins < near ? 1 : 0;
    }
    return contested > 0;
}

/* Which vehicles have something to decide, as a list: those that change lanes, and those whose drivers think about it,
 * at intervals, and have a reason to. Without branches, as is the next: they would be guessed wrong too often. */
ALWAYS_INLINE int list_deciders(Traffic *t, uint8_t *list, const Model *m) {
    const float reason = m->politeness == 0 ? m->gain : 0;  // less pressure is no reason
    float decides[PADDED];
    int count = 0;
    for (int i = 0; i < PADDED; i++) {
        const float changing = t->lane[i] != t->target_lane[i] ? 1 : 0;
        const float thinks = t->timer[i] > m->delay ? 1 - changing : 0;
        t->timer[i] = thinks > 0 ? 0 : t->timer[i];
        decides[i] = changing + (t->pressure[i] >= reason ? thinks : 0);
    }
    for (int i = 0; i < VEHICLES; i++) {
        list[count] = (uint8_t)i;
        count += decides[i] != 0;
    }
    return count;
}

/* One that changes lanes, or that would gain by a change to the left or right. */
typedef struct {
    uint8_t vehicle;
    int8_t side;  // 0: under way
} Decision;

ALWAYS_INLINE int list_decisions(const Traffic *t, const uint8_t *list, int count, Decision *decisions,
                                 const Model *m) {
    const float enough = m->politeness == 0 ? m->gain : -INFINITY;
    int n = 0;
    for (int k = 0; k < count; k++) {
        const int i = list[k];
        const float lane = t->lane[i];
        const bool able = t->driven[i] + t->crashed[i] == 0, changing = lane != t->target_lane[i];
        const bool thinks = able & !changing & (fabsf(t->speed[i]) >= 1);
        decisions[n] = (Decision){(uint8_t)i, 0};
        n += able & changing;
        decisions[n] = (Decision){(uint8_t)i, -1};
        n += thinks & (lane > 0) & (gain_of(t, i, lane - 1, m) >= enough);
        decisions[n] = (Decision){(uint8_t)i, 1};
        n += thinks & (lane < m->lanes - 1) & (gain_of(t, i, lane + 1, m) >= enough);
    }
    return n;
}

ALWAYS_INLINE float slip_of(const Traffic *t, int i) {
    return lane_keeping(t->y[i] - LANE_WIDTH * t->target_lane[i], t->heading[i], t->speed[i]);
}

/* What the drivers of the background do: they choose their lanes, one after the other, and keep to them and, by the
 * IDM, a distance from who is ahead in the present and the target lane. Agents are given the steering to their target
 * lanes, too. What concerns all comes first, so that processors are still at it during the decisions of a few. */
ALWAYS_INLINE void traffic_drive(Traffic *t, Commands *c, const Model *m) {
    uint8_t list[PADDED];
    Decision decisions[2 * PADDED + 2];
    for (int i = 0; i < PADDED; i++)
        c->acceleration[i] = free_road(t->speed[i], t->pace[i], t->exponent[i], m) - t->pressure[i];
    for (int i = 0; i < PADDED; i++)
        c->slip[i] = slip_of(t, i);
    const int count = list_deciders(t, list, m), n = list_decisions(t, list, count, decisions, m);
    for (int k = 0; k < n; k++) {
        const int i = decisions[k].vehicle, side = decisions[k].side;
        if (side ? worth_changing(t, i, t->lane[i] + (float)side, m) : is_contested(t, i, m)) {
            t->target_lane[i] = t->lane[i] + (float)side;
            c->slip[i] = slip_of(t, i);
        }
    }
    for (int k = 0; k < count; k++) {
        const int i = list[k];
        const float beside = pressure_of(t, i, leader(t, i, t->target_lane[i]), m) - t->pressure[i];
        c->acceleration[i] -= greater(beside, 0);  // nothing where both lanes are one
    }
    for (int i = 0; i < PADDED; i++)
        c->acceleration[i] = limit(c->acceleration[i], m->hardest);
}

#endif
