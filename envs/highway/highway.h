/* Driving between others on a straight road, equal to highway-env's highway-fast-v0 (Leurent 2018) step for step up to
 * rounding, with as many agents as one likes. An agent's action changes what its vehicle's controllers aim at, lane or
 * speed; in between, the simulation takes several steps. */
#include "env.h"

enum { VEHICLES = (ENV_STATE_SIZE - 1) / 12 };

#include "drivers.h"
#include "traffic_view.h"

static const float TARGET_SPEEDS[] = {20, 25, 30};  // m/s
static const float SPEED_RATE = 1 / 0.6f;           // 1/s, of the speed's controller

enum { LANE_LEFT, IDLE, LANE_RIGHT, FASTER, SLOWER };

/* The expert's own numbers: gains and pressures in m/s². */
static const float KEEP_LANE = 0.3f, TO_THE_RIGHT = 0.2f, BOLDNESS = 0.6f;
static const int LOOK_AHEAD = 4;  // s

typedef struct {
    Traffic traffic;
    double steps;  // of all agents in this episode, to average over
} Env;

static inline Model model_of(const Params *p) {
    return (Model){(float)p->lanes, (float)p->speed_limit, (float)p->max_acceleration, (float)p->acceleration,
                   (float)p->jam_distance, (float)p->time_gap,
                   (float)(0.5 / sqrt(p->acceleration * p->deceleration)), (float)p->politeness,
                   (float)p->lane_change_gain, (float)p->safe_braking, (float)p->lane_change_delay, 0, -INFINITY};
}

static inline void c_observe(const Env *env, Io io) {
    const Params *p = io.params;
    for (int a = 0; a < ENV_AGENTS; a++) {
        Obs *out = io.observations + a * ENV_OBS_SIZE;
        if (p->observation == OBSERVATION_LIDAR)
            observe_lidar(&env->traffic, a, 0, LANE_WIDTH * p->lanes, (int)p->rays, p->ray_range, out);
        else
            observe_table(&env->traffic, a, 0, LANE_WIDTH * p->lanes, (int)p->rows, 5, out);
    }
}

/* Each vehicle begins ahead of all those before it, each agent's followed by its share of the background. */
static inline void c_reset(Env *env, Io io) {
    const Params *p = io.params;
    const double shrink = exp(-5 * (double)p->lanes / 40);
    double x = 0;
    env->steps = 0;
    for (int a = 0, next = ENV_AGENTS; a < ENV_AGENTS; a++) {
        const int share = (int)(p->vehicles / ENV_AGENTS) + (a < p->vehicles % ENV_AGENTS);
        for (int k = 0; k <= share; k++) {
            const int i = k == 0 ? a : next++;
            const double y = LANE_WIDTH * rng_below(io.rng, (uint32_t)p->lanes);
            const double speed = k == 0 ? 25 : rng_uniform(io.rng, 0.7 * p->speed_limit, 0.8 * p->speed_limit);
            const double offset = (k == 0 ? p->ego_spacing : 1 / p->density) * (12 + speed) * shrink;
            x += offset * rng_uniform(io.rng, 0.9, 1.1) + (a == 0 && k == 0 ? 3 * offset : 0);
            place_vehicle(&env->traffic, i, x, y, speed, rng_uniform(io.rng, p->exponent_low, p->exponent_high), k == 0);
        }
    }
    const Model model = model_of(p);
    traffic_settle(&env->traffic, &model);
    c_observe(env, io);
}

/* The number of the target speed nearest to v. */
static inline int speed_index(float v) {
    return (int)clip(nearest((v - TARGET_SPEEDS[0]) / (TARGET_SPEEDS[1] - TARGET_SPEEDS[0])), 0, 2);
}

static inline void steer(Traffic *t, int a, int action, int lanes) {
    if (action == FASTER || action == SLOWER) {
        const int index = speed_index(t->speed[a]) + (action == FASTER ? 1 : -1);
        t->target_speed[a] = TARGET_SPEEDS[(int)clip(index, 0, 2)];
    } else if (action != IDLE) {
        const float lane = (float)clip(t->target_lane[a] + (action == LANE_RIGHT ? 1 : -1), 0, lanes - 1);
        if (fabsf(t->y[a] - LANE_WIDTH * lane) <= 2 * LANE_WIDTH)
            t->target_lane[a] = lane;
    }
}

CLONED static void simulate(Traffic *t, const Params *p) {
    const Model model = model_of(p);
    const float dt = 1.0f / (float)p->simulation_frequency;
    for (int64_t k = p->simulation_frequency / p->policy_frequency; k > 0; k--) {
        Commands commands;
        traffic_drive(t, &commands, &model);
        for (int a = 0; a < ENV_AGENTS; a++)
            commands.acceleration[a] = SPEED_RATE * (t->target_speed[a] - t->speed[a]);
        traffic_move(t, &commands, &model, dt);
        traffic_collide(t, p->traffic_collisions, dt);
    }
}

static inline bool on_road(const Traffic *t, int i, double lanes) {
    return t->y[i] >= -LANE_WIDTH / 2 && t->y[i] <= LANE_WIDTH * (lanes - 0.5);
}

static inline double reward(const Traffic *t, int i, const Params *p) {
    const double forward = t->speed[i] * t->cosine[i];
    const double fast = clip((forward - p->reward_speed_low) / (p->reward_speed_high - p->reward_speed_low), 0, 1);
    const double right = t->target_lane[i] / (p->lanes > 1 ? (double)p->lanes - 1 : 1);
    double sum = p->collision_reward * t->crashed[i] + p->right_lane_reward * right + p->high_speed_reward * fast;
    if (p->normalize_reward)
        sum = (sum - p->collision_reward) / (p->high_speed_reward + p->right_lane_reward - p->collision_reward);
    return on_road(t, i, (double)p->lanes) ? sum : 0;
}

static inline void c_step(Env *env, Io io) {
    const Params *p = io.params;
    Traffic *t = &env->traffic;
    double lane_before[ENV_AGENTS], crashed_before[ENV_AGENTS];
    for (int a = 0; a < ENV_AGENTS; a++) {
        lane_before[a] = t->lane[a], crashed_before[a] = t->crashed[a];
        steer(t, a, io.actions[a], (int)p->lanes);
    }
    simulate(t, p);
    for (int a = 0; a < ENV_AGENTS; a++) {
        const bool off = !on_road(t, a, (double)p->lanes);
        io.rewards[a] = (float)reward(t, a, p);
        io.terminations[a] = t->crashed[a] > 0 || (off && p->offroad_terminal);
        if (crashed_before[a] > 0)
            continue;
        env->steps++;
        io.log->crashed += (float)t->crashed[a] / ENV_AGENTS;
        io.log->lane_changes += (float)fabs(t->lane[a] - lane_before[a]) / ENV_AGENTS;
        io.log->offroad += (off - io.log->offroad) / (float)env->steps;
        io.log->speed += ((float)t->speed[a] - io.log->speed) / (float)env->steps;
    }
    c_observe(env, io);
}

/* Whether agent a crashes if it does this now and then nothing for some seconds, and the others keep their aims. */
static inline bool would_crash(Traffic future, int a, int action, const Params *p) {
    steer(&future, a, action, (int)p->lanes);
    for (int64_t k = 0; k < LOOK_AHEAD * p->policy_frequency && future.crashed[a] == 0; k++)
        simulate(&future, p);
    return future.crashed[a] > 0;
}

/* MOBIL, or else the target speed nearest to what the IDM would make of the present one until the next action. */
static inline int wish(const Traffic *t, int a, const Model *m, float period) {
    const float lane = t->target_lane[a], here = pressure_of(t, a, leader(t, a, lane), m);
    float most = KEEP_LANE;
    int best = IDLE;
    for (int side = 1; side >= -1 && lane == t->lane[a]; side -= 2) {
        const float beside = lane + (float)side;
        if (beside < 0 || beside > m->lanes - 1)
            continue;
        const float gain = here - pressure_of(t, a, leader(t, a, beside), m) + (float)side * TO_THE_RIGHT;
        if (gain > most && worth_changing(t, a, beside, m)) {
            most = gain;
            best = side > 0 ? LANE_RIGHT : LANE_LEFT;
        }
    }
    if (best != IDLE)
        return best;
    const float next = t->speed[a] + period * (free_road(t->speed[a], 1 / TARGET_SPEEDS[2], 4, m) - here);
    const int index = speed_index(next), current = speed_index(t->target_speed[a]);
    return index > current ? FASTER : index < current ? SLOWER : IDLE;
}

/* IDM and MOBIL, with smaller gaps than the background's, unless that ends in a crash and something else does not. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    static const int OTHERWISE[] = {SLOWER, IDLE, LANE_RIGHT, LANE_LEFT};
    const Params *p = io.params;
    Model m = model_of(p);
    m.time_gap *= BOLDNESS, m.jam_distance *= BOLDNESS;
    for (int a = 0; a < ENV_AGENTS; a++) {
        int action = wish(&env->traffic, a, &m, 1 / (float)p->policy_frequency);
        if (would_crash(env->traffic, a, action, p))
            for (int k = 3; k >= 0; k--)
                action = would_crash(env->traffic, a, OTHERWISE[k], p) ? action : OTHERWISE[k];
        actions[a] = (Action)action;
    }
}

static inline void c_get_state(const Env *env, Io io, double *state) {
    traffic_get(&env->traffic, state);
    state[ENV_STATE_SIZE - 1] = env->steps;
}

static inline void c_set_state(Env *env, Io io, const double *state) {
    const Model model = model_of(io.params);
    traffic_set(&env->traffic, &model, state);
    env->steps = state[ENV_STATE_SIZE - 1];
    c_observe(env, io);
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    const Params *p = io.params;
    const Traffic *t = &env->traffic;
    const double ahead = 0.3 * canvas->width / 6;
    const Camera camera = {t->x[0] + ahead, LANE_WIDTH * ((double)p->lanes - 1) / 2, 1, 0, 6};
    draw_lanes(canvas, camera, (int)p->lanes, camera.x - canvas->width / 12.0, camera.x + canvas->width / 12.0);
    draw_traffic(canvas, camera, t, io.observations, p->observation == OBSERVATION_LIDAR ? (int)p->rays : 0,
                 p->ray_range);
}
