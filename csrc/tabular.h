/* A Markov decision process given by tables: everything of an environment but its name. `<name>.h` includes this file,
 * and puffer_il/native/tabular.py makes the arrays of [data] that it reads:
 *
 *     row_starts int64    (states × actions + 1): where the successors of (state, action) begin in the next three
 *     next_states int32   those that can be reached, in rising order
 *     transitions float64 their probabilities, summed up within a row; the last one is 1
 *     rewards float64     of the step to each
 *     initial float64     (states,) probabilities of the first state, summed up
 *     terminal uint8      (states,) 1 where an episode ends
 *     expert float64      (states, actions) the expert's probabilities, summed up along each row
 *     values float64      (states,) how much each state is worth, to colour the picture
 *     places int32        (states,) the cell of each state in the picture, whose rows are io.params->grid_width long
 *
 * A draw inverts the distribution by bisection: O(log successors), and exact to the 2^-53 of a uniform number. */
#ifndef PUFFER_IL_TABULAR_H
#define PUFFER_IL_TABULAR_H

#include <stdio.h>

#include "env.h"

enum { TRAIL = 16 };  // a power of two

typedef struct {
    int32_t state;
    uint32_t steps;
    int32_t trail[TRAIL];  // the latest states, for the picture only
} Env;

/* The first place in [first, last] whose summed-up probability is above a uniform number. */
static inline int64_t draw(Rng *rng, const double *sums, int64_t first, int64_t last) {
    const double u = rng_double(rng);
    while (first < last) {
        const int64_t middle = first + (last - first) / 2;
        if (sums[middle] > u)
            last = middle;
        else
            first = middle + 1;
    }
    return first;
}

static inline int64_t num_actions(Io io) {
    return (int64_t)ACTION_HIGH(io.params, 0) + 1;
}

static inline void arrive(Env *env, Io io, int32_t state) {
    env->state = state;
    env->trail[env->steps % TRAIL] = state;
    io.observations[0] = state;
}

static inline void c_reset(Env *env, Io io) {
    env->steps = 0;
    arrive(env, io, (int32_t)draw(io.rng, io.data->initial, 0, io.data->initial_size - 1));
}

static inline void c_step(Env *env, Io io) {
    const Data *data = io.data;
    const int64_t row = env->state * num_actions(io) + io.actions[0];
    const int64_t place = draw(io.rng, data->transitions, data->row_starts[row], data->row_starts[row + 1] - 1);
    env->steps++;
    arrive(env, io, data->next_states[place]);
    io.rewards[0] = (float)data->rewards[place];
    io.terminations[0] = data->terminal[env->state] != 0;
}

static inline void c_expert(const Env *env, Io io, Action *actions) {
    const int64_t actions_of_state = num_actions(io), row = env->state * actions_of_state;
    actions[0] = (Action)(draw(io.rng, io.data->expert, row, row + actions_of_state - 1) - row);
}

static inline void c_get_state(const Env *env, Io io, double *state) {
    state[0] = env->state;
}

static inline void c_set_state(Env *env, Io io, const double *state) {
    env->steps = 0;
    arrive(env, io, (int32_t)clip(state[0], 0, (double)(io.data->terminal_size - 1)));
}

static inline uint32_t mix_colors(uint32_t from, uint32_t to, double share) {
    uint32_t color = 0;
    for (int shift = 0; shift <= 16; shift += 8) {
        const double a = from >> shift & 255, b = to >> shift & 255;
        color |= (uint32_t)(a + (b - a) * share + 0.5) << shift;
    }
    return color;
}

/* A cell per state, from red for the worst to green for the best; a ring where an episode ends, and a line along the
 * latest states. Cells between them that are no state are walls. */
static void c_render(const Env *env, Io io, Canvas *canvas) {
    enum { LEAST = 0xe6a5a0, MIDDLE = 0xf3e6c4, MOST = 0x9fcfae };
    const Data *data = io.data;
    const int64_t states = data->terminal_size, columns = io.params->grid_width;
    int64_t cells = 0;
    double least = data->values[0], most = least;
    for (int64_t s = 0; s < states; s++) {
        cells = data->places[s] >= cells ? data->places[s] + 1 : cells;
        least = fmin(least, data->values[s]);
        most = fmax(most, data->values[s]);
    }
    const int64_t rows = (cells + columns - 1) / columns;
    const double header = canvas->height * 0.075, margin = canvas->width * 0.02;
    const double size = fmin((canvas->width - 2 * margin) / (double)columns,
                             (canvas->height - header - margin) / (double)rows);
    const double left = (canvas->width - size * (double)columns) / 2, gap = size > 12 ? 1 : 0.5;
    const double top = header + (canvas->height - header - margin - size * (double)rows) / 2;
    canvas_rect(canvas, left - gap, top - gap, size * (double)columns + 2 * gap, size * (double)rows + 2 * gap,
                CANVAS_INK);
    canvas_rect(canvas, left + (double)(cells - (rows - 1) * columns) * size + gap,
                top + (double)(rows - 1) * size + gap, canvas->width, size + gap, CANVAS_PAPER);  // after the last one
    for (int64_t s = 0; s < states; s++) {
        const double x = left + (double)(data->places[s] % columns) * size;
        const double y = top + (double)(data->places[s] / columns) * size;
        const double worth = most > least ? (data->values[s] - least) / (most - least) : 0.5;
        canvas_rect(canvas, x + gap, y + gap, size - 2 * gap, size - 2 * gap,
                    worth < 0.5 ? mix_colors(LEAST, MIDDLE, 2 * worth) : mix_colors(MIDDLE, MOST, 2 * worth - 1));
        if (data->terminal[s])
            canvas_ring(canvas, x + size / 2, y + size / 2, size * 0.3, size * 0.1, CANVAS_GREY);
    }

    double x = 0, y = 0;
    const uint32_t first = env->steps < TRAIL ? 0 : env->steps - TRAIL + 1;
    for (uint32_t t = first; t <= env->steps; t++) {
        const int64_t place = data->places[env->trail[t % TRAIL]];
        const double to_x = left + ((double)(place % columns) + 0.5) * size;
        const double to_y = top + ((double)(place / columns) + 0.5) * size;
        if (t > first)
            canvas_line(canvas, x, y, to_x, to_y, fmax(size * 0.1, 2),
                        mix_colors(CANVAS_LIGHT, CANVAS_BLUE, (double)(t - first) / (env->steps - first)));
        x = to_x, y = to_y;
    }
    canvas_disc(canvas, x, y, size * 0.3, CANVAS_BLUE);

    char text[64];
    snprintf(text, sizeof text, "STATE %d   STEP %u", env->state, env->steps);
    canvas_text(canvas, margin, header * 0.3, header / 18, text, CANVAS_INK);
}

#endif
