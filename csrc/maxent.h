/* Soft (maximum causal entropy) backups and occupancies of a Markov decision process in compressed sparse rows
 * (Ziebart 2010, chapter 9):
 *
 *     Q(s, a) = r(s, a) + gamma * sum_s' P(s'|s, a) V(s')
 *     V(s)    = log sum_a exp Q(s, a)
 *     pi(a|s) = exp(Q(s, a) - V(s))
 *
 * Nothing is chosen in a state that does not act (terminal, or never reached): its value is what the caller wrote. */
#ifndef PUFFER_IL_MAXENT_H
#define PUFFER_IL_MAXENT_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    int64_t states, actions;
    const int64_t *row_starts;   // (states * actions + 1): where the successors of (s, a) begin
    const int32_t *next_states;  // successors
    const double *chances;       // and their probabilities
    const int32_t *places;       // (states): number among the acting states, -1 if it does not act
    double gamma;
} SoftModel;

/* One backup of all states; the largest change of a value. `policy` is (states, actions). */
static double soft_backup(const SoftModel *m, const double *rewards, const double *values, double *backed_up,
                          double *policy) {
    double change = 0;
    for (int64_t s = 0; s < m->states; s++) {
        if (m->places[s] < 0) {
            backed_up[s] = values[s];
            continue;
        }
        double *q = policy + s * m->actions, best = -INFINITY, sum = 0;
        for (int64_t a = 0; a < m->actions; a++) {
            const int64_t row = s * m->actions + a;
            double next = 0;
            for (int64_t k = m->row_starts[row]; k < m->row_starts[row + 1]; k++)
                next += m->chances[k] * values[m->next_states[k]];
            q[a] = rewards[row] + m->gamma * next;
            best = q[a] > best ? q[a] : best;
        }
        for (int64_t a = 0; a < m->actions; a++)
            sum += q[a] = exp(q[a] - best);  // the best one is 1: no overflow, and no sum of zeros
        for (int64_t a = 0; a < m->actions; a++)
            q[a] /= sum;
        backed_up[s] = best + log(sum);
        change = fmax(change, fabs(backed_up[s] - values[s]));
    }
    return change;
}

/* after(s') += gamma * sum_s,a visits(s) pi(a|s) P(s'|s, a). */
static void soft_move(const SoftModel *m, const double *visits, const double *policy, double *after) {
    for (int64_t s = 0; s < m->states; s++) {
        if (m->places[s] < 0 || visits[s] == 0)
            continue;
        for (int64_t row = s * m->actions; row < (s + 1) * m->actions; row++) {
            const double mass = m->gamma * visits[s] * policy[row];
            for (int64_t k = m->row_starts[row]; k < m->row_starts[row + 1]; k++)
                after[m->next_states[k]] += mass * m->chances[k];
        }
    }
}

/* I - gamma * P_pi over the `size` acting states, row by row. */
static void soft_system(const SoftModel *m, const double *policy, int64_t size, double *matrix) {
    memset(matrix, 0, (size_t)(size * size) * sizeof *matrix);
    for (int64_t s = 0; s < m->states; s++) {
        if (m->places[s] < 0)
            continue;
        double *line = matrix + m->places[s] * size;
        line[m->places[s]] = 1;
        for (int64_t row = s * m->actions; row < (s + 1) * m->actions; row++) {
            const double mass = m->gamma * policy[row];
            for (int64_t k = m->row_starts[row]; k < m->row_starts[row + 1]; k++) {
                const int32_t place = m->places[m->next_states[k]];
                if (place >= 0)
                    line[place] -= mass * m->chances[k];
            }
        }
    }
}

/* values (horizon + 1, states), whose last line is given, and policies (horizon, states, actions) of every step. */
static void soft_backups(const SoftModel *m, int64_t horizon, const double *rewards, double *values, double *policies) {
    for (int64_t t = horizon; t-- > 0;)
        soft_backup(m, rewards, values + (t + 1) * m->states, values + t * m->states,
                    policies + t * m->states * m->actions);
}

/* visits (horizon + 1, states) begin as what starts at each step, and have what arrives there added. */
static void soft_moves(const SoftModel *m, int64_t horizon, const double *policies, double *visits) {
    for (int64_t t = 0; t < horizon; t++)
        soft_move(m, visits + t * m->states, policies + t * m->states * m->actions, visits + (t + 1) * m->states);
}

#endif
