/* Docking: a craft drifts before a station, which it must reach and touch gently.
 *
 * A small task that is here to be replaced. What matters is its form: a struct, c_reset and c_step, and below them
 * functions that may be left out. The names Obs, Action, Params and Io come from env.toml and csrc/env.h. */
#include "env.h"

static const double STEP = 0.1;      // seconds per step
static const double FAR_AWAY = 3.0;  // metres at which the craft counts as lost

/* All that changes during an episode: plain values, and no pointers. There are thousands of these side by side.
 * Where all are doubles, as many as `state` in env.toml says, episodes can also begin in states that are given, which is
 * for tests, planning and demonstrations. With other types it takes c_get_state and c_set_state (csrc/env.h). */
typedef struct {
    double distance;  // from the station, m
    double speed;     // away from it, m/s
    double thrust;    // the last one, for the picture: towards the station (-1), off (0), away from it (1)
} Env;

/* What the policy sees. Keep the numbers near 1: divide by what is large. */
static inline void c_observe(const Env *env, Io io) {
    io.observations[0] = (float)env->distance;
    io.observations[1] = (float)env->speed;
}

/* An episode begins. Whatever is random comes from io.rng, so that the same seed gives the same episode. */
static inline void c_reset(Env *env, Io io) {
    env->distance = rng_uniform(io.rng, 1, 2);
    env->speed = rng_uniform(io.rng, -0.2, 0.2);
    env->thrust = 0;
    c_observe(env, io);
}

/* One step. Rewards and ends have been cleared before; the time limit of env.toml is kept for you. */
static inline void c_step(Env *env, Io io) {
    const Params *p = io.params;
    env->thrust = io.actions[0] - 1;
    env->speed += STEP * p->acceleration * env->thrust;
    env->distance += STEP * env->speed;

    const bool touched = env->distance <= 0, lost = env->distance > FAR_AWAY;
    const bool docked = touched && env->speed >= -p->gentle;
    io.rewards[0] = -0.01f;  // time is short
    if (touched || lost) {
        io.terminations[0] = true;  // the episode is over, for better or worse
        io.rewards[0] = docked ? 1 : touched ? (float)env->speed : -2;  // a crash costs its speed
    }
    io.log->docked = docked;  // the share of episodes that end so is reported as rollout/docked
    c_observe(env, io);
}

/* Optional: an expert, for demonstrations (`puffer-il demos collect my_env --expert`) and to show the task can be done.
 * This one slows down as it comes closer. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    const double wanted = -0.5 * io.params->gentle - 0.5 * env->distance;
    const double missing = wanted - env->speed;
    actions[0] = fabs(missing) < 0.05 ? 1 : missing > 0 ? 2 : 0;
}

/* Optional: a picture, for `puffer-il env play my_env`. What can be drawn is in csrc/canvas.h. */
static void c_render(const Env *env, Io io, Canvas *canvas) {
    const double metre = canvas->width / (FAR_AWAY + 0.8), middle = 0.5 * canvas->height;
    const double size = 0.12 * metre, craft = metre * (0.4 + env->distance) + 2 * size;
    canvas_clear(canvas, CANVAS_PAPER);
    canvas_line(canvas, 0, middle, canvas->width, middle, 1, CANVAS_LIGHT);
    canvas_rect(canvas, 0, middle - 4 * size, metre * 0.4, 8 * size, CANVAS_INK);  // the station and its port
    canvas_rect(canvas, metre * 0.4, middle - 0.6 * size, size, 1.2 * size, CANVAS_GOLD);
    if (env->thrust != 0)  // a flame, on the side away from where it pushes
        canvas_disc(canvas, craft - 2.2 * size * env->thrust, middle, 0.9 * size, CANVAS_RED);
    canvas_disc(canvas, craft, middle, 2 * size, CANVAS_BLUE);
    canvas_disc(canvas, craft, middle, 0.8 * size, CANVAS_PAPER);
    const double arrow = craft + metre * env->speed;  // where it will be in a second
    canvas_line(canvas, craft, middle + 3 * size, arrow, middle + 3 * size, 3,
                env->speed >= -io.params->gentle ? CANVAS_GREEN : CANVAS_GREY);
}
