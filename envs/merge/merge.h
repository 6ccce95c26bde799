/* Two lanes of a motorway (middles at y = 0 and 4 m) and an acceleration lane to their right that ends at x = ramp: the
 * agents come along it one behind the other, and have to be on the motorway before. Background vehicles keep their
 * distance by the IDM, from an agent too as soon as it reaches into their lane, and change lanes by MOBIL. An agent's
 * episode ends when it is 100 m past the lane's end, or by a crash. */
#include "env.h"

enum { VEHICLES = (ENV_STATE_SIZE - 1) / 6 };

#include "drivers.h"

static const double RIGHT = 4, MERGING = 8;    // y of the right lane and of the acceleration lane, m
static const double FINISH = 100;              // m past the end
static const double SIGHT = 100;               // m
static const double RUN_UP = 40;               // m before the end at which the expert stops if it must
static const double AWAY = -1e6;               // x of agents that have left
enum { THINKING = 10 };                        // steps between two thoughts of changing lanes

/* Agents come first. */
typedef struct {
    double x[VEHICLES], y[VEHICLES], heading[VEHICLES], speed[VEHICLES];
    double target[VEHICLES];                   // y of the lane that a driver keeps to
    double wanted[VEHICLES];                   // speed, m/s
    double step;
} Env;

static inline bool left(const Env *env, int i) {
    return env->x[i] <= AWAY / 2;
}

static inline Body body_of(const Env *env, int i) {
    return (Body){.x = env->x[i], .y = env->y[i], .cosine = cos(env->heading[i]), .sine = sin(env->heading[i]),
                  .speed = env->speed[i], .length = CAR_LENGTH, .width = CAR_WIDTH};
}

static inline Model model_of(const Params *p) {
    return (Model){.lanes = 3, .speed_limit = INFINITY, .hardest = 9, .acceleration = (float)p->acceleration,
                   .jam_distance = (float)p->jam_distance, .time_gap = (float)p->time_gap,
                   .closing_weight = (float)(0.5 / sqrt(p->acceleration * p->deceleration)),
                   .politeness = (float)p->politeness, .gain = (float)p->lane_change_gain,
                   .braking = (float)p->safe_braking, .length = (float)CAR_LENGTH,
                   .least_gap = (float)p->jam_distance};
}

/* All as their drivers see them: the acceleration lane is the third. */
static inline void look(const Env *env, Traffic *t, const Model *m) {
    for (int i = 0; i < VEHICLES; i++) {
        place_vehicle(t, i, env->x[i], env->y[i], env->speed[i], 4, i < ENV_AGENTS);
        t->heading[i] = (float)env->heading[i];
        t->target_lane[i] = (float)env->target[i] / LANE_WIDTH;
        t->target_speed[i] = (float)env->wanted[i];
        t->timer[i] = ((int64_t)clip(env->step, 0, 0x1p52) + i) % THINKING == 0;
    }
    traffic_settle(t, m);
}

/* The angle of the front wheels that leads to the middle of the lane at y. */
static inline double steering_to(const Env *env, int i, double y) {
    const double slip = lane_keeping((float)(env->y[i] - y), (float)env->heading[i], (float)env->speed[i]);
    return clip(atan(2 * slip / sqrt(1 - slip * slip)), -0.2, 0.2);
}

static inline void move(Env *env, int i, double acceleration, double steering, double dt) {
    const double slip = atan(tan(steering) / 2), distance = env->speed[i] * dt;
    env->x[i] += distance * cos(env->heading[i] + slip);
    env->y[i] += distance * sin(env->heading[i] + slip);
    env->heading[i] += distance * sin(slip) * 2 / CAR_LENGTH;
    env->speed[i] = fmax(env->speed[i] + acceleration * dt, 0);
}

static inline void observe_table(const Env *env, int own, int rows, Obs *out) {
    bool shown[VEHICLES] = {false};
    memset(out, 0, (size_t)rows * 5 * sizeof *out);
    for (int row = 0; row < rows; row++, out += 5) {
        int best = -1;
        for (int j = 0; j < VEHICLES; j++)
            if (j != own && !shown[j] && fabs(env->x[j] - env->x[own]) < SIGHT &&
                (best < 0 || fabs(env->x[j] - env->x[own]) < fabs(env->x[best] - env->x[own])))
                best = j;
        if (best < 0)
            return;
        shown[best] = true;
        out[0] = 1;
        out[1] = (Obs)((env->x[best] - env->x[own]) / 100);
        out[2] = (Obs)((env->y[best] - env->y[own]) / 8);
        out[3] = (Obs)((env->speed[best] * cos(env->heading[best]) - env->speed[own] * cos(env->heading[own])) / 20);
        out[4] = (Obs)((env->speed[best] * sin(env->heading[best]) - env->speed[own] * sin(env->heading[own])) / 10);
    }
}

static inline void observe_lidar(const Env *env, int own, int rays, Obs *out) {
    for (int ray = 0; ray < rays; ray++) {
        const double angle = env->heading[own] + 2 * PI * ray / rays, rx = cos(angle), ry = sin(angle);
        double near = SIGHT, speed = 0;
        for (int j = 0; j < VEHICLES; j++) {
            if (j == own || fabs(env->x[j] - env->x[own]) > SIGHT + CAR_LENGTH)
                continue;
            const Body other = body_of(env, j);
            const double distance = ray_hits(env->x[own], env->y[own], rx, ry, near, &other);
            if (distance < near) {
                near = distance;
                speed = (other.speed * other.cosine - env->speed[own] * cos(env->heading[own])) * rx +
                        (other.speed * other.sine - env->speed[own] * sin(env->heading[own])) * ry;
            }
        }
        out[2 * ray] = (Obs)(near / SIGHT);
        out[2 * ray + 1] = (Obs)(speed / 20);
    }
}

static inline void c_observe(const Env *env, Io io) {
    const Params *p = io.params;
    for (int a = 0; a < ENV_AGENTS; a++) {
        if (left(env, a))
            continue;  // the last observation stays
        Obs *out = io.observations + a * ENV_OBS_SIZE;
        out[0] = (Obs)(env->speed[a] / 30);
        out[1] = (Obs)((env->y[a] - RIGHT) / 4);
        out[2] = (Obs)env->heading[a];
        out[3] = (Obs)((p->ramp - env->x[a]) / 200);
        out[4] = env->y[a] > RIGHT + 2;
        if (p->observation == OBSERVATION_LIDAR)
            observe_lidar(env, a, (int)p->rays, out + 5);
        else
            observe_table(env, a, (int)p->rows, out + 5);
    }
}

static inline void place(Env *env, int i, double x, double y, double speed, double wanted) {
    env->x[i] = x, env->y[i] = env->target[i] = y, env->speed[i] = speed, env->wanted[i] = wanted;
    env->heading[i] = 0;
}

/* Traffic fills both lanes from before the acceleration lane's end backwards. */
static inline void c_reset(Env *env, Io io) {
    const Params *p = io.params;
    double x[2];
    for (int lane = 0; lane < 2; lane++)
        x[lane] = p->ramp / 2 + rng_uniform(io.rng, 0, p->gap);
    for (int i = ENV_AGENTS; i < VEHICLES; i++) {
        const int lane = i % 2;
        place(env, i, x[lane], RIGHT * lane, p->speed_limit * rng_uniform(io.rng, 0.8, 0.95),
              p->speed_limit * rng_uniform(io.rng, 0.9, 1.1));
        x[lane] -= p->gap * rng_uniform(io.rng, 0.6, 1.4);
    }
    env->step = 0;
    double along = -10;
    for (int a = 0; a < ENV_AGENTS; a++, along -= 25)
        place(env, a, along - rng_uniform(io.rng, 0, 15), MERGING, p->speed_limit * rng_uniform(io.rng, 0.7, 0.9),
              p->speed_limit);
    c_observe(env, io);
}

/* Whether agent `a` is in something, off the road, or past the end of the acceleration lane while still on it. */
static inline bool crashed(const Env *env, const Params *p, int a) {
    const Body own = body_of(env, a);
    if (env->y[a] < -2 || env->y[a] > MERGING + 2 || fabs(env->heading[a]) > 1.2 ||
        (env->x[a] > p->ramp && env->y[a] > RIGHT + 2))
        return true;
    for (int j = 0; j < VEHICLES; j++) {
        if (j == a || fabs(env->x[j] - env->x[a]) > CAR_DIAGONAL)
            continue;
        const Body other = body_of(env, j);
        bool will;
        double push[2];
        if (touch(&own, &other, 0, &will, push))
            return true;
    }
    return false;
}

static inline void c_step(Env *env, Io io) {
    const Params *p = io.params;
    double acceleration[VEHICLES], steering[VEHICLES], before[ENV_AGENTS];
    env->step += 1;
    Traffic traffic;
    Commands commands;
    Model model = model_of(p);
    look(env, &traffic, &model);
    model.lanes = 2;  // the acceleration lane is not for the background
    traffic_drive(&traffic, &commands, &model);
    for (int i = ENV_AGENTS; i < VEHICLES; i++) {
        env->target[i] = LANE_WIDTH * traffic.target_lane[i];
        acceleration[i] = commands.acceleration[i];
        steering[i] = steering_to(env, i, env->target[i]);
    }
    for (int a = 0; a < ENV_AGENTS; a++) {
        before[a] = env->x[a];
        acceleration[a] = io.actions[2 * a];
        steering[a] = io.actions[2 * a + 1];
    }
    for (int i = 0; i < VEHICLES; i++)
        if (!left(env, i))
            move(env, i, acceleration[i], steering[i], p->dt);

    bool over[ENV_AGENTS], hit[ENV_AGENTS];  // judged before anybody is taken off the road
    for (int a = 0; a < ENV_AGENTS; a++) {
        hit[a] = !left(env, a) && crashed(env, p, a);
        over[a] = hit[a] || (!left(env, a) && env->x[a] > p->ramp + FINISH);
        if (!left(env, a)) {
            io.rewards[a] = (float)(0.02 * (env->x[a] - before[a]) - 0.01 + (hit[a] ? -1 : over[a]));
            io.log->seconds += (float)p->dt / ENV_AGENTS;
        }
        io.terminations[a] = over[a];
        io.log->crashed += (float)hit[a] / ENV_AGENTS;
        io.log->merged += (float)(over[a] && !hit[a]) / ENV_AGENTS;
    }
    c_observe(env, io);
    for (int a = 0; a < ENV_AGENTS; a++)
        if (over[a])
            place(env, a, AWAY - 100 * a, MERGING, 0, p->speed_limit);
}

/* The IDM's acceleration behind whoever is ahead on a lane. */
static inline double follow(const Traffic *t, int i, float lane, const Model *m) {
    return limit(free_road(t->speed[i], t->pace[i], t->exponent[i], m) - pressure_of(t, i, leader(t, i, lane), m),
                 m->hardest);
}

/* MOBIL's safety: there is room on the right lane, and nobody would have to brake hard, were agent `a` there. */
static inline bool safe(const Traffic *t, int a, const Model *m) {
    const int front = leader(t, a, 1), back = follower(t, a, 1);
    return t->x[front] - t->x[a] > CAR_LENGTH + 1 && follow(t, a, 1, m) > -m->braking &&
           (back == NOBODY || (t->x[a] - t->x[back] > CAR_LENGTH + 1 && is_safe(t, a, back, m)));
}

/* IDM in the lane, and braking for the end of the acceleration lane when that becomes necessary; MOBIL's safety decides
 * when to go over. Until then the gap is chosen by following who will be ahead, moderately. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    const Params *p = io.params;
    const Model model = model_of(p);
    Traffic traffic;
    look(env, &traffic, &model);
    for (int a = 0; a < ENV_AGENTS; a++) {
        if (left(env, a)) {
            actions[2 * a] = actions[2 * a + 1] = 0;
            continue;
        }
        const bool merging = env->y[a] < MERGING - 0.4, ramp = env->y[a] > RIGHT + 2;
        double acceleration = follow(&traffic, a, traffic.lane[a], &model);
        double y = RIGHT;
        if (ramp) {
            const double room = fmax(p->ramp - env->x[a] - RUN_UP, 0.1);
            const double needed = env->speed[a] * env->speed[a] / (2 * room);
            const bool go = env->x[a] > 0 && safe(&traffic, a, &model);
            y = go || (merging && env->y[a] < RIGHT + 3) ? RIGHT : MERGING;
            acceleration = fmin(acceleration, fmax(follow(&traffic, a, 1, &model), y > RIGHT ? -1 : -9));
            if (y > RIGHT && needed > p->deceleration)
                acceleration = fmin(acceleration, -needed);
        }
        actions[2 * a] = (Action)clip(acceleration, -6, 3);
        actions[2 * a + 1] = (Action)steering_to(env, a, y);
    }
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    const Params *p = io.params;
    const double x = left(env, 0) ? p->ramp : env->x[0];
    const Camera camera = {.x = x + 25, .y = RIGHT, .cosine = 1, .sine = 0, .scale = 6};
    const double from = x - 60, to = x + 110;
    double road[8], lane[8];
    const double corners[8] = {from, -2, to, -2, to, RIGHT + 2, from, RIGHT + 2};
    const double end = fmin(p->ramp, to), ramp[8] = {from, RIGHT + 2, end, RIGHT + 2, end - 15, MERGING + 2, from, MERGING + 2};
    for (int k = 0; k < 4; k++) {
        to_pixels(canvas, camera, corners[2 * k], corners[2 * k + 1], road + 2 * k);
        to_pixels(canvas, camera, ramp[2 * k], ramp[2 * k + 1], lane + 2 * k);
    }
    canvas_polygon(canvas, road, 4, CANVAS_LIGHT);
    if (end > from)
        canvas_polygon(canvas, lane, 4, CANVAS_LIGHT);
    draw_line(canvas, camera, from, -2, to, -2, 1.5, CANVAS_GREY);
    draw_line(canvas, camera, end, RIGHT + 2, to, RIGHT + 2, 1.5, CANVAS_GREY);
    for (int k = 0; k < 20; k++) {  // a count, because very far away dash + 9 is dash
        const double dash = 9 * (floor(from / 9) + k);
        draw_line(canvas, camera, dash, 2, dash + 3, 2, 1.5, CANVAS_PAPER);
        if (dash + 3 < end)
            draw_line(canvas, camera, dash, RIGHT + 2, dash + 3, RIGHT + 2, 1.5, CANVAS_PAPER);
    }
    for (int i = VEHICLES - 1; i >= 0; i--) {
        const Body car = body_of(env, i);
        if (!left(env, i))
            draw_car(canvas, camera, &car, i == 0 ? CANVAS_GOLD : i < ENV_AGENTS ? CANVAS_BLUE : CANVAS_GREY);
    }
}
