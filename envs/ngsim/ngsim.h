/* A recorded scene with one vehicle driven by the agent: it starts where its human did, the others do what they did.
 * Its driver knows the route (the recorded path as a line, without its timing) and sees the nearest vehicles. The episode
 * ends with the human's recording (a truncation) or with a collision (a termination). */
#include "driving.h"

static const double CLOSE = 5;             // m from the human at which a step is worth 1 / e
static const double SPEED_UNIT = 10;       // m/s, of observations
static const double DISTANCE_UNIT = 20;    // m
static const double MARGIN = 0.3;          // m, how exactly vehicles are recorded
static const double AHEAD[] = {3, 6, 12};  // m along the route

typedef struct {
    double driver, frame, x, y, heading, speed;
    double apart;  // sum over the steps of the distance from the human
} Env;

/* Frame of a vehicle: x, y, heading, speed, there. */
static inline const double *track(Io io, int64_t vehicle, int64_t frame) {
    return io.data->tracks + (vehicle * io.params->frames + frame) * 5;
}

static inline const int64_t *driver_of(const Env *env, Io io) {
    return io.data->drivers + 3 * (int64_t)env->driver;
}

static inline Body recorded(Io io, int64_t vehicle, const double *at) {
    const double *size = io.data->sizes + 2 * vehicle;
    Body body = {.x = at[0], .y = at[1], .speed = at[3], .length = size[0], .width = size[1]};
    body.cosine = cos(at[2]);
    body.sine = sin(at[2]);
    return body;
}

static inline Body own_body(const Env *env, Io io) {
    const double at[4] = {env->x, env->y, env->heading, env->speed};
    return recorded(io, driver_of(env, io)[0], at);
}

/* A point as seen from the car: ahead, and to its left. */
static inline void from_car(const Body *car, double x, double y, double seen[2]) {
    seen[0] = (x - car->x) * car->cosine + (y - car->y) * car->sine;
    seen[1] = (y - car->y) * car->cosine - (x - car->x) * car->sine;
}

/* Where the recorded path is nearest to the car, and where it is AHEAD of that; it goes straight on after its end. */
static inline void observe_route(const Env *env, Io io, const Body *car, Obs *out) {
    const int64_t *driver = driver_of(env, io);
    int64_t at = driver[1];
    double nearest_square = INFINITY, seen[2];
    for (int64_t f = driver[1]; f <= driver[2]; f++) {
        const double *p = track(io, driver[0], f);
        const double square = (p[0] - env->x) * (p[0] - env->x) + (p[1] - env->y) * (p[1] - env->y);
        if (square < nearest_square) {
            nearest_square = square;
            at = f;
        }
    }
    const double *p = track(io, driver[0], at);
    from_car(car, p[0], p[1], seen);
    const double angle = remainder(p[2] - env->heading, 2 * PI);
    out[0] = (Obs)(seen[1] / CAR_WIDTH);
    out[1] = (Obs)angle;
    double gone = 0;
    for (int k = 0; k < 3; k++) {
        double step = 0;
        for (; at < driver[2]; at++) {
            const double *next = track(io, driver[0], at + 1);
            step = hypot(next[0] - p[0], next[1] - p[1]);
            if (gone + step > AHEAD[k])
                break;
            gone += step;
            p = next;
        }
        const double rest = AHEAD[k] - gone;
        from_car(car, p[0] + rest * cos(p[2]), p[1] + rest * sin(p[2]), seen);
        out[2 + 2 * k] = (Obs)(seen[0] / DISTANCE_UNIT);
        out[3 + 2 * k] = (Obs)(seen[1] / DISTANCE_UNIT);
    }
}

/* The nearest vehicles, nearest first; rows of zeros where there are fewer. */
static inline void observe_others(const Env *env, Io io, const Body *car, Obs *out) {
    enum { MOST = 50 };  // the largest `neighbours`
    const int64_t vehicles = io.data->sizes_size / 2, wanted = io.params->neighbours, own = driver_of(env, io)[0];
    double squares[MOST];
    int64_t found[MOST], count = 0;
    for (int64_t i = 0; i < vehicles; i++) {
        const double *p = track(io, i, (int64_t)env->frame);
        if (i == own || !(p[4] > 0))
            continue;
        const double square = (p[0] - env->x) * (p[0] - env->x) + (p[1] - env->y) * (p[1] - env->y);
        int64_t place = count < wanted ? count : wanted;
        while (place > 0 && squares[place - 1] > square)
            place--;
        if (place == wanted)
            continue;
        count += count < wanted;
        memmove(squares + place + 1, squares + place, (size_t)(count - place - 1) * sizeof *squares);
        memmove(found + place + 1, found + place, (size_t)(count - place - 1) * sizeof *found);
        squares[place] = square;
        found[place] = i;
    }
    memset(out, 0, (size_t)wanted * 5 * sizeof *out);
    for (int64_t k = 0; k < count; k++, out += 5) {
        const double *p = track(io, found[k], (int64_t)env->frame);
        const double angle = p[2] - env->heading;
        const double velocity[2] = {p[3] * cos(angle) - env->speed, p[3] * sin(angle)};
        double place[2];
        from_car(car, p[0], p[1], place);
        out[0] = 1;
        for (int axis = 0; axis < 2; axis++) {
            out[1 + axis] = (Obs)(place[axis] / DISTANCE_UNIT);
            out[3 + axis] = (Obs)(velocity[axis] / SPEED_UNIT);
        }
    }
}

static inline void c_observe(const Env *env, Io io) {
    const Body car = own_body(env, io);
    io.observations[0] = (Obs)(env->speed / SPEED_UNIT);
    io.observations[1] = (Obs)((double)(driver_of(env, io)[2] - (int64_t)env->frame) / 100);
    observe_route(env, io, &car, io.observations + 2);
    observe_others(env, io, &car, io.observations + 10);
}

static inline void c_get_state(const Env *env, Io io, double *state) {
    memcpy(state, env, sizeof *env);
}

/* Of a driver that there is, in a frame in which it still drives. */
static inline void c_set_state(Env *env, Io io, const double *state) {
    memcpy(env, state, sizeof *env);
    env->driver = clip(floor(env->driver), 0, (double)(io.data->drivers_size / 3 - 1));
    const int64_t *driver = driver_of(env, io);
    env->frame = clip(floor(env->frame), (double)driver[1], (double)(driver[2] - 1));
    c_observe(env, io);
}

static inline void c_reset(Env *env, Io io) {
    const int64_t drivers = io.data->drivers_size / 3, wanted = io.params->vehicle;
    env->driver = (double)(wanted < 0 ? rng_below(io.rng, (uint32_t)drivers) : wanted % drivers);
    const int64_t *driver = driver_of(env, io);
    const double *start = track(io, driver[0], driver[1]);
    env->frame = (double)driver[1];
    env->x = start[0];
    env->y = start[1];
    env->heading = start[2];
    env->speed = start[3];
    env->apart = 0;
    c_observe(env, io);
}

/* What is known of a vehicle that is no box: see env.toml. */
static inline const int64_t *outline_of(Io io, int64_t vehicle) {
    return io.data->outlines + 5 * vehicle;
}

/* Whether a body overlaps a convex polygon (separating axes). */
static inline bool overlaps(const Body *car, const double *corners, int64_t count, const double *at) {
    const double cosine = cos(at[2]), sine = sin(at[2]);
    for (int64_t k = -2; k < count; k++) {  // the car's two directions, then those across each edge
        double nx = k == -1 ? -car->sine : car->cosine, ny = k == -1 ? car->cosine : car->sine;
        if (k >= 0) {
            const double *a = corners + 2 * k, *b = corners + 2 * ((k + 1) % count);
            const double ex = b[0] - a[0], ey = b[1] - a[1];
            nx = ey * cosine + ex * sine;
            ny = ey * sine - ex * cosine;
        }
        double low = INFINITY, high = -INFINITY;
        for (int64_t c = 0; c < count; c++) {
            const double x = at[0] + corners[2 * c] * cosine - corners[2 * c + 1] * sine - car->x;
            const double y = at[1] + corners[2 * c] * sine + corners[2 * c + 1] * cosine - car->y;
            low = fmin(low, x * nx + y * ny);
            high = fmax(high, x * nx + y * ny);
        }
        const double reach = extent(car, nx, ny);
        if (low > reach || high < -reach)
            return false;
    }
    return true;
}

static inline bool meets(const Body *car, Io io, int64_t vehicle, const double *at) {
    const int64_t *outline = outline_of(io, vehicle);
    for (int64_t k = outline[3]; k < outline[3] + outline[4]; k++)
        if (overlaps(car, io.data->corners + 2 * io.data->pieces[2 * k], io.data->pieces[2 * k + 1], at))
            return true;
    if (outline[1] > 0)
        return false;
    const Body other = recorded(io, vehicle, at);
    bool will;
    double push[2];
    return touch(car, &other, 0, &will, push);
}

static inline bool crashed(const Env *env, Io io) {
    const int64_t vehicles = io.data->sizes_size / 2, own = driver_of(env, io)[0], frame = (int64_t)env->frame;
    const Body car = own_body(env, io);
    Body human = recorded(io, own, track(io, own, frame)), core = human;
    human.length += 2 * MARGIN;
    human.width += 2 * MARGIN;
    core.length = fmax(core.length - 2 * MARGIN, 0);
    core.width = fmax(core.width - 2 * MARGIN, 0);
    for (int64_t i = 0; i < vehicles; i++) {
        const double *p = track(io, i, frame);
        const double far = 30 + io.data->sizes[2 * i] + io.data->sizes[2 * i + 1];  // too far to meet
        if (i == own || !(p[4] > 0) || hypot(p[0] - env->x, p[1] - env->y) > far)
            continue;
        // Recorded boxes touch here and there: that is the recording's error and nobody's accident. But nobody has
        // driven through the middle of what stands there.
        const bool stands = outline_of(io, i)[2] > 0;
        if (meets(&car, io, i, p) && (!meets(&human, io, i, p) || (stands && meets(&core, io, i, p))))
            return true;
    }
    return false;
}

static inline void c_step(Env *env, Io io) {
    const int64_t *driver = driver_of(env, io);
    const double dt = io.params->dt, length = io.data->sizes[2 * driver[0]];
    // The kinematic bicycle model of driving.h, in double precision.
    const double slip = atan(tan(io.actions[1]) / 2), distance = env->speed * dt;
    env->x += distance * cos(env->heading + slip);
    env->y += distance * sin(env->heading + slip);
    env->heading += distance * sin(slip) * 2 / length;
    env->speed = fmax(env->speed + io.actions[0] * dt, 0);
    env->frame += 1;

    const double *human = track(io, driver[0], (int64_t)env->frame);
    const double apart = hypot(human[0] - env->x, human[1] - env->y);
    const bool hit = crashed(env, io);
    env->apart += apart;
    io.rewards[0] = hit ? 0 : (float)exp(-apart / CLOSE);
    io.terminations[0] = hit;
    io.truncations[0] = (int64_t)env->frame >= driver[2];
    io.log->ade = (float)(env->apart / (env->frame - (double)driver[1]));
    io.log->fde = (float)apart;
    io.log->crashed = hit;
    c_observe(env, io);
}

/* What the human did: the wheels and the acceleration that lead from where the car is to where the human was LOOK frames
 * later. The model's inverse over some frames instead of one, because positions are recorded with more noise than
 * a car can follow; and from the car's own place, so that it does not drift. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    enum { LOOK = 5 };
    const int64_t *driver = driver_of(env, io);
    const int64_t frame = (int64_t)env->frame, last = driver[2], to = frame + LOOK < last ? frame + LOOK : last;
    const double time = (double)(to - frame) * io.params->dt, *goal = track(io, driver[0], to);
    const Body car = own_body(env, io);
    double seen[2];
    from_car(&car, goal[0], goal[1], seen);
    const double distance2 = seen[0] * seen[0] + seen[1] * seen[1];
    actions[0] = (Action)clip(2 * (seen[0] / time - env->speed) / time, -8, 8);
    // The arc through the goal has the curvature 2 y / d², and the model's is 2 sin(slip) / length.
    const double slip = seen[0] > 0.3 ? clip(car.length * seen[1] / distance2, -0.4, 0.4) : 0;
    actions[1] = (Action)clip(atan(2 * tan(asin(slip))), -0.6, 0.6);
}

static void draw_outline(Canvas *canvas, Camera camera, Io io, int64_t vehicle, const double *at) {
    const double *corners = io.data->corners + 2 * outline_of(io, vehicle)[0];
    const int64_t count = outline_of(io, vehicle)[1];
    const double cosine = cos(at[2]), sine = sin(at[2]);
    double from[2] = {0};
    for (int64_t k = 0; k <= count; k++) {
        const double *corner = corners + 2 * (k % count);
        const double to[2] = {at[0] + corner[0] * cosine - corner[1] * sine, at[1] + corner[0] * sine + corner[1] * cosine};
        if (k > 0)
            draw_line(canvas, camera, from[0], -from[1], to[0], -to[1], 2, CANVAS_GREY);
        memcpy(from, to, sizeof from);
    }
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    const int64_t vehicles = io.data->sizes_size / 2, *driver = driver_of(env, io);
    const Camera camera = {.x = env->x, .y = -env->y, .cosine = 1, .sine = 0, .scale = 6};  // y grows upwards on maps
    for (int64_t k = 0; k + 3 < io.data->lanes_size; k += 4) {
        const double *line = io.data->lanes + k;
        draw_line(canvas, camera, line[0], -line[1], line[2], -line[3], 1.5, CANVAS_LIGHT);
    }
    for (int64_t f = driver[1]; f < driver[2]; f++) {
        const double *from = track(io, driver[0], f), *to = from + 5;
        draw_line(canvas, camera, from[0], -from[1], to[0], -to[1], 2, CANVAS_BLUE);
    }
    for (int64_t i = 0; i <= vehicles; i++) {
        const bool own = i == vehicles;
        if (!own && (i == driver[0] || !(track(io, i, (int64_t)env->frame)[4] > 0)))
            continue;
        const double *at = own ? NULL : track(io, i, (int64_t)env->frame);
        if (!own && outline_of(io, i)[1] > 0) {
            draw_outline(canvas, camera, io, i, at);
            continue;
        }
        Body body = own ? own_body(env, io) : recorded(io, i, at);
        body.y = -body.y;
        body.sine = -body.sine;
        draw_car(canvas, camera, &body, own ? CANVAS_GOLD : CANVAS_GREY);
    }
}
