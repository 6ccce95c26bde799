/* A day of type 1 diabetes: an insulin pump's basal rate and boluses, every 5 minutes, around meals that come at random.
 *
 * The patient is the model of Kanderian, Weinzimer, Voskanyan and Steil (2009), "Identification of Intraday Metabolic
 * Profiles during Closed-Loop Glucose Control in Individuals with Type 1 Diabetes", doi:10.1177/193229680900300508:
 * Bergman's minimal model (1979, doi:10.1152/ajpendo.1979.236.6.E667) with two compartments each for insulin under the
 * skin and for meals, its parameters as identified for the paper's ten patients.
 *
 *     I_sc' = (u / CI − I_sc) / tau1            insulin under the skin, µU/mL; u: µU/min
 *     I_p'  = (I_sc − I_p) / tau2               in plasma, µU/mL
 *     X'    = p2 (SI I_p − X)                   its effect, 1/min
 *     G'    = −(GEZI + X) G + EGP + R_A         glucose in plasma, mg/dL
 *     R_A   = D2 / (tau_m V_G),  D1' = −D1 / tau_m,  D2' = (D1 − D2) / tau_m,  mg of carbohydrates eaten: into D1
 *     G_s'  = (G − G_s) / tau_s                 glucose under the skin, where the sensor is
 *
 * The reward of a step is 1 − r / 20, at least 0, with the risk r of Kovatchev and others (1997),
 * doi:10.2337/diacare.20.11.1655: 0 at 112.5 mg/dL, 7.7 at both ends of the target range, 70 and 180, and about 20 at 54
 * and 250, the limits of clinically significant hypo- and hyperglycaemia (Battelino and others 2019,
 * doi:10.2337/dci19-0028). The day ends early below 40 mg/dL or above 600. */
#include <stdio.h>

#include "env.h"
#include "trig.h"

enum { STEP_MINUTES = 5, SUBSTEPS = 2, DAY_STEPS = 24 * 60 / STEP_MINUTES };
enum { READINGS = 6, MEALS = 6 };
static const double SENSOR_MINUTES = 10;                        // tau_s
static const double SENSOR_LOW = 40, SENSOR_HIGH = 400;         // what it can show, mg/dL
static const double SENSOR_MEMORY = 0.7;                        // of its error, from one reading to the next
static const double LOW = 70, HIGH = 180;                       // the target range, mg/dL
static const double SIGNIFICANT_RISK = 20;
static const double FATAL_LOW = 40, FATAL_HIGH = 600;           // mg/dL
static const double TARGET = 110;                               // where the patient's basal rate holds glucose, mg/dL
static const double MICRO = 1e6;                                // µU in a U

typedef struct {
    double CI;          // clearance of insulin, mL/min
    double tau1, tau2;  // min
    double VG;          // volume in which glucose spreads, dL
    double p2;          // 1/min
    double EGP;         // the liver's production of glucose without insulin, mg/dL/min
    double GEZI;        // uptake of glucose without insulin, 1/min
    double SI;          // sensitivity to insulin, mL/µU/min
} Patient;

static const Patient PATIENTS[10] = {
    {2010, 49, 47, 253, 0.0106, 1.33, 0.0022, 8.11e-4},      {1281, 41, 10, 261, 0.0116, 0.6, 0.00438, 9.64e-5},
    {909, 71, 70, 199, 0.0233, 1.07, 0.0035, 4.63e-4},       {1813, 91, 70, 337, 0.00814, 0.98, 1.64e-5, 3.77e-4},
    {1535, 46, 46, 188, 0.00963, 0.6, 0.00433, 2.05e-4},     {588, 68, 30, 104, 0.00915, 0.603, 0.00101, 4.12e-4},
    {1806, 60, 60, 263, 0.0101, 1.11, 0.0023, 8.16e-4},      {540, 95, 37, 137, 0.0103, 1.3, 1e-8, 3.68e-4},
    {875, 131, 21, 193, 0.0103, 1.27, 0.00639, 2.56e-4},     {1309, 53, 53, 204, 0.0102, 0.611, 0.00104, 6.03e-4},
};

/* Chances, times (h) and sizes (g) of breakfast, lunch, dinner and snacks as in simglucose's random scenario (Xie 2018,
 * github.com/jxx123/simglucose): normal, the times within bounds. */
static const struct {
    double chance, earliest, latest, time, time_sd, grams, grams_sd;
} MENU[MEALS] = {
    {0.95, 5, 9, 7, 1, 45, 10},    {0.3, 9, 10, 9.5, 0.5, 10, 5},  {0.95, 10, 14, 12, 1, 70, 10},
    {0.3, 14, 16, 15, 0.5, 10, 5}, {0.95, 16, 20, 18, 1, 80, 10},  {0.3, 20, 23, 21.5, 0.5, 10, 5},
};

typedef struct {
    double glucose, effect, plasma, depot, stomach, gut, sensor;  // G, X, I_p, I_sc, D1, D2, G_s
} Body;

typedef struct {
    Body body;
    double patient;           // its place among PATIENTS
    double sensitivity;       // the day's SI as a share of the patient's
    double step;              // since midnight of the first day
    double sensor_error;      // mg/dL
    double readings[READINGS];
    double meal_step[MEALS];  // of the day
    double meal_grams[MEALS];  // 0: no such meal
} Day;

typedef struct {
    Day day;
    float glucose[DAY_STEPS], basal[DAY_STEPS], bolus[DAY_STEPS];  // since midnight, for the picture only
} Env;

_Static_assert(sizeof(Day) == ENV_STATE_SIZE * sizeof(double), "the state is the day");

/* What a clinic would settle on for a patient, here from the model around its target. */
typedef struct {
    double basal;   // rate that holds TARGET without meals, U/h
    double ratio;   // carbohydrates that a unit of insulin makes up for, g/U
    double factor;  // what a unit lowers glucose by, mg/dL/U
} Therapy;

static inline const Patient *patient_of(const Day *day) {
    return &PATIENTS[(int)day->patient];
}

/* The effect of insulin, and its concentration, at the basal rate. */
static inline double basal_effect(const Patient *p) {
    return p->EGP / TARGET - p->GEZI;
}

static inline double basal_plasma(const Patient *p) {
    return basal_effect(p) / p->SI;
}

static inline Therapy therapy_of(const Patient *p) {
    const double factor = TARGET * p->SI * MICRO / p->CI;
    return (Therapy){basal_plasma(p) * p->CI * 60 / MICRO, factor * p->VG / 1000, factor};
}

/* Units given beyond the basal rate whose effect is still to come, as a pump reckons from what it gave. */
static inline double insulin_on_board(const Day *day) {
    const Patient *p = patient_of(day);
    const double plasma = basal_plasma(p), effect = day->body.effect / day->sensitivity - basal_effect(p);
    return p->CI / MICRO * (p->tau1 * (day->body.depot - plasma) + p->tau2 * (day->body.plasma - plasma) +
                            effect / (p->p2 * p->SI));
}

static inline double step_of_day(const Day *day) {
    return fmod(day->step, DAY_STEPS);
}

/* Carbohydrates of the meals `steps` from now, g. */
static inline double meals_in(const Day *day, double steps) {
    const double then = step_of_day(day) + steps;
    double grams = 0;
    for (int k = 0; k < MEALS; k++)
        grams += day->meal_step[k] == then ? day->meal_grams[k] : 0;
    return grams;
}

static inline double announced_grams(const Day *day, const Params *params) {
    return params->announced ? meals_in(day, (double)(params->lead_minutes / STEP_MINUTES)) : 0;
}

static inline void c_observe(const Env *env, Io io) {
    const Day *day = &env->day;
    const Therapy therapy = therapy_of(patient_of(day));
    double sine, cosine;
    sin_cos(2 * PI * step_of_day(day) / DAY_STEPS, &sine, &cosine);
    Obs *o = io.observations;
    for (int k = 0; k < READINGS; k++)
        *o++ = (float)day->readings[k];
    *o++ = (float)insulin_on_board(day);
    *o++ = (float)announced_grams(day, io.params);
    *o++ = (float)sine;
    *o++ = (float)cosine;
    *o++ = (float)therapy.basal;
    *o++ = (float)therapy.ratio;
    *o++ = (float)therapy.factor;
}

static inline double draw_normal(Rng *rng) {  // Box and Muller (1958)
    double sine, cosine;
    const double radius = sqrt(-2 * log(1 - rng_double(rng)));
    sin_cos(2 * PI * rng_double(rng), &sine, &cosine);
    return radius * cosine;
}

static inline void draw_meals(Day *day, Io io) {
    for (int k = 0; k < MEALS; k++) {
        double hour = -1;
        while (hour < MENU[k].earliest || hour > MENU[k].latest)
            hour = MENU[k].time + MENU[k].time_sd * draw_normal(io.rng);
        const double grams = fmax(0, MENU[k].grams + MENU[k].grams_sd * draw_normal(io.rng));
        day->meal_step[k] = floor(hour * 60 / STEP_MINUTES);
        day->meal_grams[k] = rng_double(io.rng) < MENU[k].chance ? io.params->meal_scale * floor(grams + 0.5) : 0;
    }
}

static inline double sensed(const Day *day) {
    return clip(day->body.sensor + day->sensor_error, SENSOR_LOW, SENSOR_HIGH);
}

static inline void forget_picture(Env *env) {
    memset(env->glucose, 0, sizeof env->glucose);
    memset(env->basal, 0, sizeof env->basal);
    memset(env->bolus, 0, sizeof env->bolus);
    env->glucose[(int)step_of_day(&env->day)] = (float)env->day.body.glucose;
}

/* Midnight, insulin at its basal level, nothing eaten for long. */
static inline void c_reset(Env *env, Io io) {
    Day *day = &env->day;
    const Params *params = io.params;
    memset(day, 0, sizeof *day);
    day->patient = params->patient ? (double)params->patient - 1 : (double)rng_below(io.rng, 10);
    day->sensitivity = 1 + params->variation * rng_uniform(io.rng, -1, 1);
    const Patient *p = patient_of(day);
    day->body.glucose = day->body.sensor = rng_uniform(io.rng, 90, 160);
    day->body.effect = basal_effect(p) * day->sensitivity;
    day->body.depot = day->body.plasma = basal_plasma(p);
    if (params->cgm_noise > 0)
        day->sensor_error = params->cgm_noise * draw_normal(io.rng);
    for (int k = 0; k < READINGS; k++)
        day->readings[k] = sensed(day);
    draw_meals(day, io);
    forget_picture(env);
    c_observe(env, io);
}

/* The model's right-hand side; SI of the day, insulin in µU/min, tau_m in min. */
static inline Body slope(const Body *b, const Patient *p, double SI, double insulin, double tau_m) {
    return (Body){
        .glucose = -(p->GEZI + b->effect) * b->glucose + p->EGP + b->gut / (tau_m * p->VG),
        .effect = p->p2 * (SI * b->plasma - b->effect),
        .plasma = (b->depot - b->plasma) / p->tau2,
        .depot = (insulin / p->CI - b->depot) / p->tau1,
        .stomach = -b->stomach / tau_m,
        .gut = (b->stomach - b->gut) / tau_m,
        .sensor = (b->glucose - b->sensor) / SENSOR_MINUTES,
    };
}

static inline Body moved(Body b, Body by, double minutes) {
    return (Body){b.glucose + minutes * by.glucose, b.effect + minutes * by.effect, b.plasma + minutes * by.plasma,
                  b.depot + minutes * by.depot,     b.stomach + minutes * by.stomach, b.gut + minutes * by.gut,
                  b.sensor + minutes * by.sensor};
}

/* The classical Runge-Kutta method. */
static inline Body integrated(Body b, const Patient *p, double SI, double insulin, double tau_m) {
    const double h = (double)STEP_MINUTES / SUBSTEPS;
    for (int n = 0; n < SUBSTEPS; n++) {
        const Body k1 = slope(&b, p, SI, insulin, tau_m), b2 = moved(b, k1, h / 2);
        const Body k2 = slope(&b2, p, SI, insulin, tau_m), b3 = moved(b, k2, h / 2);
        const Body k3 = slope(&b3, p, SI, insulin, tau_m), b4 = moved(b, k3, h);
        const Body k4 = slope(&b4, p, SI, insulin, tau_m);
        b = moved(moved(moved(moved(b, k1, h / 6), k2, h / 3), k3, h / 3), k4, h / 6);
    }
    return b;
}

static inline double risk(double glucose) {
    const double f = 1.509 * (pow(log(glucose), 1.084) - 5.381);
    return 10 * f * f;
}

static inline void read_sensor(Day *day, Io io) {
    const double noise = io.params->cgm_noise;
    if (noise > 0)  // first-order autoregression, as Breton and Kovatchev (2008) found; doi:10.1177/193229680800200517
        day->sensor_error = SENSOR_MEMORY * day->sensor_error +
                            sqrt(1 - SENSOR_MEMORY * SENSOR_MEMORY) * noise * draw_normal(io.rng);
    memmove(day->readings + 1, day->readings, (READINGS - 1) * sizeof *day->readings);
    day->readings[0] = sensed(day);
}

static inline void c_step(Env *env, Io io) {
    Day *day = &env->day;
    const Patient *p = patient_of(day);
    const double basal = io.actions[0], bolus = io.actions[1] < io.params->min_bolus ? 0 : io.actions[1];
    const int now = (int)step_of_day(day);
    env->basal[now] = (float)basal;
    env->bolus[now] = (float)bolus;

    day->body.stomach += 1000 * meals_in(day, 0);
    day->body.depot += bolus * MICRO / (p->CI * p->tau1);
    day->body = integrated(day->body, p, p->SI * day->sensitivity, basal * MICRO / 60, io.params->meal_minutes);
    day->step++;
    read_sensor(day, io);

    const double glucose = day->body.glucose;
    io.rewards[0] = (float)fmax(1 - risk(clip(glucose, 20, 600)) / SIGNIFICANT_RISK, 0);
    io.terminations[0] = glucose < FATAL_LOW || glucose > FATAL_HIGH;
    const float share = (float)(1 / day->step);  // running means
    io.log->time_in_range += ((glucose >= LOW && glucose <= HIGH) - io.log->time_in_range) * share;
    io.log->time_below += ((glucose < LOW) - io.log->time_below) * share;
    io.log->mean_glucose += ((float)glucose - io.log->mean_glucose) * share;

    if (step_of_day(day) == 0) {
        draw_meals(day, io);
        forget_picture(env);
    }
    env->glucose[(int)step_of_day(day)] = (float)glucose;
    c_observe(env, io);
}

/* Basal and bolus with a bolus calculator's rules: carbohydrates by the ratio, glucose off target by the factor, less
 * what is on board; a correction when glucose is high all the same; and no basal insulin while glucose, going on like
 * this, would be low in half an hour, as pumps do that suspend before low. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    const Day *day = &env->day;
    const Therapy therapy = therapy_of(patient_of(day));
    const double reading = day->readings[0], in_half_an_hour = reading + 2 * (reading - day->readings[3]);
    const double grams = announced_grams(day, io.params), on_board = fmax(insulin_on_board(day), 0);
    const double off_target = (reading - TARGET) / therapy.factor;
    const double correction = off_target > 0 ? fmax(off_target - on_board, 0) : off_target;
    double bolus = 0;
    if (grams > 0)
        bolus = fmax(grams / therapy.ratio + correction, 0);
    else if (reading > HIGH && correction > 0.5)
        bolus = correction;
    actions[0] = (float)(in_half_an_hour < LOW + 10 ? 0 : therapy.basal);
    actions[1] = (float)bolus;
}

static inline void c_get_state(const Env *env, Io io, double *state) {
    memcpy(state, &env->day, sizeof env->day);
}

static inline void c_set_state(Env *env, Io io, const double *state) {
    memcpy(&env->day, state, sizeof env->day);
    env->day.patient = clip(floor(env->day.patient), 0, 9);
    env->day.step = clip(floor(env->day.step), 0, 0x1p52);
    forget_picture(env);
    c_observe(env, io);
}

typedef struct {
    double left, right, top, middle, floor, bottom;  // glucose lies between top and middle, insulin below floor
} Frame;

static inline double x_of(const Frame *f, double step) {
    return f->left + (f->right - f->left) * step / DAY_STEPS;
}

static inline double y_of(const Frame *f, double glucose) {
    const double least = 40, most = 320;
    return f->middle - (f->middle - f->top) * (clip(glucose, least, most) - least) / (most - least);
}

static void draw_axes(const Frame *f, Canvas *canvas) {
    enum { BAND = 0xe3f0e6 };
    char text[16];
    canvas_rect(canvas, f->left, y_of(f, HIGH), f->right - f->left, y_of(f, LOW) - y_of(f, HIGH), BAND);
    for (int hour = 0; hour <= 24; hour += 3) {
        const double x = x_of(f, hour * 60.0 / STEP_MINUTES);
        canvas_line(canvas, x, f->top, x, f->bottom, 1, CANVAS_LIGHT);
        snprintf(text, sizeof text, "%02d", hour);
        canvas_text(canvas, x - 9, f->bottom + 8, 1.6, text, CANVAS_GREY);
    }
    for (int glucose = 70; glucose <= 290; glucose += 110) {
        snprintf(text, sizeof text, "%3d", glucose);
        canvas_text(canvas, f->left - 36, y_of(f, glucose) - 5, 1.6, text, CANVAS_GREY);
        canvas_line(canvas, f->left, y_of(f, glucose), f->right, y_of(f, glucose), 1, CANVAS_LIGHT);
    }
    canvas_line(canvas, f->left, f->bottom, f->right, f->bottom, 1.5, CANVAS_GREY);
}

/* Meals as bars from below, in grey while they are to come; boluses and the basal rate in a panel of their own. */
static void draw_inputs(const Env *env, const Frame *f, Canvas *canvas) {
    char text[16];
    for (int k = 0; k < MEALS; k++) {
        const double grams = env->day.meal_grams[k], x = x_of(f, env->day.meal_step[k]), high = grams * 0.35;
        if (grams <= 0)
            continue;
        const uint32_t color = env->day.meal_step[k] < step_of_day(&env->day) ? CANVAS_GOLD : CANVAS_LIGHT;
        canvas_rect(canvas, x - 4, f->middle - high, 8, high, color);
        snprintf(text, sizeof text, "%.0fG", grams);
        canvas_text(canvas, x - 4.5 * (double)strlen(text), f->middle - high - 13, 1.5, text,
                    color == CANVAS_GOLD ? color : CANVAS_GREY);
    }
    const double width = (f->right - f->left) / DAY_STEPS, high = f->bottom - f->floor;
    for (int t = 0; t < DAY_STEPS; t++) {
        const double basal = env->basal[t] / 5.0 * high, bolus = fmin(env->bolus[t] / 12.0, 1) * high;
        canvas_rect(canvas, x_of(f, t), f->bottom - basal, width, basal, 0xa9c3e0);
        if (bolus <= 0)
            continue;
        canvas_rect(canvas, x_of(f, t) + width / 2 - 2.5, f->bottom - bolus, 5, bolus, CANVAS_BLUE);
        if (env->bolus[t] >= 1) {
            snprintf(text, sizeof text, "%.1f", env->bolus[t]);
            canvas_text(canvas, x_of(f, t) - 9, f->bottom - fmax(bolus, basal) - 13, 1.5, text, CANVAS_BLUE);
        }
    }
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    const Frame f = {canvas->width * 0.075, canvas->width * 0.975, canvas->height * 0.11,
                     canvas->height * 0.71, canvas->height * 0.76, canvas->height * 0.93};
    draw_axes(&f, canvas);
    draw_inputs(env, &f, canvas);
    const int now = (int)step_of_day(&env->day);
    int in_range = 0, seen = 0;
    for (int t = 0; t <= now; t++) {
        const double glucose = env->glucose[t];
        if (glucose <= 0)  // before the state was set
            continue;
        const bool fine = glucose >= LOW && glucose <= HIGH;
        in_range += fine;
        seen++;
        if (t > 0 && env->glucose[t - 1] > 0)
            canvas_line(canvas, x_of(&f, t - 1), y_of(&f, env->glucose[t - 1]), x_of(&f, t), y_of(&f, glucose), 3,
                        fine ? CANVAS_GREEN : CANVAS_RED);
    }
    canvas_disc(canvas, x_of(&f, now), y_of(&f, env->glucose[now]), 5, CANVAS_INK);

    char text[96];
    const int minutes = now * STEP_MINUTES;
    snprintf(text, sizeof text, "%02d:%02d  %.0f MG/DL  ON BOARD %.1f U  IN RANGE %.0f%%", minutes / 60, minutes % 60,
             env->day.body.glucose, insulin_on_board(&env->day), 100.0 * in_range / (seen ? seen : 1));
    canvas_text(canvas, f.left, canvas->height * 0.035, 1.9, text, CANVAS_INK);
}
