/* Merging: agents come down a ramp and must find gaps in the traffic of a highway before the ramp ends. The road is
 * that of highway-env's merge-v0 (Leurent 2018); the others drive by IDM and MOBIL as in traffic.h. */
#include "env.h"

enum { VEHICLES = (ENV_STATE_SIZE - 1) / 12 };

#include "traffic_view.h"

static const double CONVERGE = 150, PARALLEL = 230, RAMP_END = 310;  // x where the ramp turns, runs beside, ends; m
static const double AMPLITUDE = 3.25;                                // of the turn, m
static const double STRONGEST = 5, SHARPEST = PI / 4;                // acceleration, m/s², and steering, rad
static const double FASTEST = 40, SLOW_START = 20;                   // m/s

/* The expert's own numbers; m/s². */
static const float BOLDNESS = 0.4f, MOST_BRAKING = 4;

typedef struct {
    Traffic traffic;
    double steps;  // of all agents in this episode, to average over
} Env;

/* Middle of the ramp at x, and its angle to the highway. */
static inline double ramp(double x, double lanes, double *angle) {
    const double phase = PI * clip((x - CONVERGE) / (PARALLEL - CONVERGE), 0, 1);
    double sine, cosine;
    sin_cos(phase, &sine, &cosine);
    *angle = -atan(AMPLITUDE * PI / (PARALLEL - CONVERGE) * sine);
    return LANE_WIDTH * lanes + AMPLITUDE * (1 + cosine);
}

static inline bool on_ramp(const Traffic *t, int i, double lanes) {
    return t->y[i] > LANE_WIDTH * (lanes - 0.5);
}

static inline bool on_road(const Traffic *t, int i, double lanes) {
    double angle;
    if (!on_ramp(t, i, lanes))
        return t->y[i] >= -LANE_WIDTH / 2;
    const double lateral = t->y[i] - ramp(t->x[i], lanes, &angle);
    return t->x[i] <= RAMP_END && lateral <= LANE_WIDTH / 2 && (lateral >= -LANE_WIDTH / 2 || t->x[i] >= PARALLEL);
}

static inline void observe(const Env *env, Io io) {
    const Params *p = io.params;
    const double y_unit = LANE_WIDTH * ((double)p->lanes + 2);
    for (int a = 0; a < ENV_AGENTS; a++) {
        Obs *out = io.observations + a * ENV_OBS_SIZE;
        if (p->observation == OBSERVATION_LIDAR)
            observe_lidar(&env->traffic, a, RAMP_END, y_unit, (int)p->rays, p->ray_range, out);
        else
            observe_table(&env->traffic, a, RAMP_END, y_unit, (int)p->rows, 7, out);
    }
}

/* Agents one behind the other on the ramp; the others fill the lanes in turn, from where the agents are to the front. */
static inline void c_reset(Env *env, Io io) {
    const Params *p = io.params;
    const double lanes = (double)p->lanes;
    double angle, x = 115, lane_x[MAX_LANES];
    env->steps = 0;
    for (int a = 0; a < ENV_AGENTS; a++) {
        x -= a == 0 ? rng_uniform(io.rng, 0, 10) : rng_uniform(io.rng, 20, 30);
        place_vehicle(&env->traffic, a, x, ramp(x, lanes, &angle), SLOW_START, 4, true);
        env->traffic.target_lane[a] = (float)lanes - 1;
    }
    for (int lane = 0; lane < p->lanes; lane++)
        lane_x[lane] = x - rng_uniform(io.rng, 0.5, 2.5) * p->spacing;
    for (int i = ENV_AGENTS; i < VEHICLES; i++) {
        const int lane = i % (int)p->lanes;
        place_vehicle(&env->traffic, i, lane_x[lane], LANE_WIDTH * lane,
                      rng_uniform(io.rng, 0.8 * p->speed_limit, p->speed_limit),
                      rng_uniform(io.rng, p->exponent_low, p->exponent_high), false);
        lane_x[lane] += p->spacing * rng_uniform(io.rng, 2.0 / 3, 4.0 / 3);
    }
    traffic_settle(&env->traffic, p);
    observe(env, io);
}

/* Acceleration and slip are held for all steps of the simulation; nobody drives backwards, nor faster than FASTEST. */
VECTORIZED static void simulate(Traffic *t, const Action *actions, const Params *p) {
    const Model model = model_of(p);
    const float dt = 1.0f / (float)p->simulation_frequency;
    for (int64_t k = p->simulation_frequency / p->policy_frequency; k > 0; k--) {
        Commands commands;
        traffic_drive(t, &commands, &model);
        for (int a = 0; a < ENV_AGENTS; a++) {
            const double v = t->speed[a];
            commands.acceleration[a] = (float)clip(STRONGEST * actions[2 * a], -v / dt, (FASTEST - v) / dt);
            commands.slip[a] = slip_of_steering((float)SHARPEST * actions[2 * a + 1]);
        }
        traffic_move(t, &commands, &model, dt);
        traffic_collide(t, p->traffic_collisions, dt);
    }
}

static inline double reward(const Traffic *t, int i, const Params *p) {
    const double lanes = (double)p->lanes, v = t->speed[i];
    const double fast = (v - p->reward_speed_low) / (p->reward_speed_high - p->reward_speed_low);
    const double missing = on_ramp(t, i, lanes) ? clip(1 - v / p->speed_limit, 0, 1) : 0;
    double sum = p->collision_reward * t->crashed[i] + p->right_lane_reward * t->lane[i] / (lanes > 1 ? lanes - 1 : 1) +
                 p->high_speed_reward * (fast < 1 ? fast : 1) + p->merging_speed_reward * missing;
    const double worst = p->collision_reward + p->merging_speed_reward;
    if (p->normalize_reward)
        sum = (sum - worst) / (p->high_speed_reward + p->right_lane_reward - worst);
    return on_road(t, i, lanes) ? sum : 0;
}

static inline void c_step(Env *env, Io io) {
    const Params *p = io.params;
    Traffic *t = &env->traffic;
    const double lanes = (double)p->lanes;
    double lane_before[ENV_AGENTS];
    bool gone[ENV_AGENTS];
    for (int a = 0; a < ENV_AGENTS; a++) {
        lane_before[a] = t->lane[a] + on_ramp(t, a, lanes);
        gone[a] = t->crashed[a] > 0 || (p->offroad_terminal && !on_road(t, a, lanes));
    }
    simulate(t, io.actions, p);
    io.log->merged = 0;
    for (int a = 0; a < ENV_AGENTS; a++) {
        const bool off = !on_road(t, a, lanes), ramp = on_ramp(t, a, lanes);
        io.rewards[a] = (float)reward(t, a, p);
        io.terminations[a] = t->crashed[a] > 0 || (off && p->offroad_terminal);
        io.log->merged += (float)(!off && !ramp && t->crashed[a] == 0) / ENV_AGENTS;
        if (gone[a])
            continue;
        env->steps++;
        io.log->crashed += t->crashed[a] / ENV_AGENTS;
        io.log->lane_changes += (float)fabs(t->lane[a] + ramp - lane_before[a]) / ENV_AGENTS;
        io.log->offroad += (float)((off - io.log->offroad) / env->steps);
        io.log->speed += (float)((t->speed[a] - io.log->speed) / env->steps);
    }
    observe(env, io);
}

static inline void c_get_state(const Env *env, Io io, double *state) {
    traffic_get(&env->traffic, state);
    state[ENV_STATE_SIZE - 1] = env->steps;
}

static inline void c_set_state(Env *env, Io io, const double *state) {
    traffic_set(&env->traffic, io.params, state);
    env->steps = state[ENV_STATE_SIZE - 1];
    observe(env, io);
}

static inline int leader_on_ramp(const Traffic *t, int a, double lanes) {
    int best = NOBODY;
    for (int j = 0; j < ENV_AGENTS; j++)
        if (j != a && on_ramp(t, j, lanes) && t->x[j] > t->x[a] && t->x[j] < t->x[best])
            best = j;
    return best;
}

/* IDM, with smaller gaps than the background's, behind who is ahead on the ramp and beside it. Into the lane as soon as
 * the ramp runs beside it and neither oneself nor the new follower must brake hard; if nobody leaves a gap, stopping
 * before the ramp's end. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    const Traffic *t = &env->traffic;
    Model m = model_of(io.params);
    m.time_gap *= BOLDNESS, m.jam_distance *= BOLDNESS, m.braking = MOST_BRAKING;
    for (int a = 0; a < ENV_AGENTS; a++) {
        const float v = t->speed[a], lane = t->lane[a];
        float pressure = pressure_of(t, a, leader(t, a, lane), &m);
        double angle = 0, lateral = t->y[a] - LANE_WIDTH * lane;
        if (on_ramp(t, a, m.lanes) && lateral > LANE_WIDTH - 1) {
            const bool fits = pressure < MOST_BRAKING && worth_changing(t, a, lane, &m);
            const float stopping = v * v / (2 * (float)greater(RAMP_END - t->x[a], 0.1));
            pressure = lesser(pressure, MOST_BRAKING);
            if (!fits && stopping > 0.8 * STRONGEST)
                pressure = greater(pressure, m.acceleration + stopping);
            if (!fits || t->x[a] < PARALLEL)
                lateral = t->y[a] - ramp(t->x[a] + 0.1 * v, m.lanes, &angle);
            pressure = greater(pressure, pressure_of(t, a, leader_on_ramp(t, a, m.lanes), &m));
        }
        const float slip = lane_keeping((float)lateral, (float)(t->heading[a] - angle), v);
        const double tangent = slip / sqrt(1 - slip * slip);
        actions[2 * a] = (Action)clip((free_road(v, 1 / m.speed_limit, 4, &m) - pressure) / STRONGEST, -1, 1);
        actions[2 * a + 1] = (Action)clip(atan(2 * tangent) / SHARPEST, -1, 1);
    }
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    const Params *p = io.params;
    const double lanes = (double)p->lanes, half = canvas->width / 10.0;
    const Camera camera = {env->traffic.x[0] + 0.4 * half, LANE_WIDTH * (lanes + 0.5) / 2, 1, 0, 5};
    const double first = camera.x - half, end = camera.x + half < RAMP_END ? camera.x + half : RAMP_END;
    double angle;
    for (int pass = 0; pass < 2; pass++)  // the edges, then the surface
        for (double x = first; x < end; x += 2)
            draw_line(canvas, camera, x, ramp(x, lanes, &angle), x + 2, ramp(x + 2, lanes, &angle),
                      camera.scale * LANE_WIDTH + (pass ? 0 : 3), pass ? CANVAS_LIGHT : CANVAS_GREY);
    draw_lanes(canvas, camera, (int)p->lanes, first, camera.x + half);
    for (double x = 9 * ceil(PARALLEL / 9); x < end; x += 9)  // the line that may be crossed
        draw_line(canvas, camera, x, LANE_WIDTH * (lanes - 0.5), x + 6, LANE_WIDTH * (lanes - 0.5), 2.5, CANVAS_LIGHT);
    draw_traffic(canvas, camera, &env->traffic, io.observations,
                 p->observation == OBSERVATION_LIDAR ? (int)p->rays : 0, p->ray_range);
}
