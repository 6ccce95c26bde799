/* Greedy coupling of what environments do with demonstrated rows (Dadashi et al. 2021, algorithm 1). */
#ifndef PUFFER_IL_COUPLING_H
#define PUFFER_IL_COUPLING_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

/* Copies for wider vectors, chosen when the program is loaded. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define COUPLING_CLONED __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define COUPLING_CLONED
#endif

enum { MAX_ATOMS = 4096 };
#define SPENT 1e-4f  // of an atom; what rounding leaves over is nothing

typedef struct {
    const float *rows;   // (steps, envs, width)
    const float *atoms;  // (width, atoms)
    float *left;         // (envs, atoms) what no earlier step of the episode has used, of 1
    const bool *starts;  // (steps, envs) an episode begins before this step
    const bool *valid;   // (steps, envs)
    float *distances;    // (steps, envs) mean distance of what the step was coupled with, infinite if nothing was left
    int64_t steps, envs;
    int32_t count, width;
    float share;         // atoms that one step uses
} Coupling;

/* Distances of a row to all atoms, infinite to those that are used up. */
COUPLING_CLONED static void atom_distances(int width, int count, const float *row, const float *atoms,
                                           const float *left, float *to) {
    for (int j = 0; j < count; j++)
        to[j] = 0;
    for (int k = 0; k < width; k++) {
        const float x = row[k], *column = atoms + (int64_t)k * count;
        for (int j = 0; j < count; j++)
            to[j] += (x - column[j]) * (x - column[j]);
    }
    for (int j = 0; j < count; j++)
        to[j] = left[j] > SPENT ? to[j] : INFINITY;
}

static inline float couple_step(const Coupling *c, const float *row, float *left, float *squares) {
    atom_distances(c->width, c->count, row, c->atoms, left, squares);
    float wanted = c->share, cost = 0;
    while (wanted > SPENT) {
        int nearest = 0;
        for (int j = 1; j < c->count; j++)
            nearest = squares[j] < squares[nearest] ? j : nearest;
        if (squares[nearest] == INFINITY)
            return INFINITY;
        const float used = left[nearest] < wanted ? left[nearest] : wanted;
        cost += used * sqrtf(squares[nearest]);
        wanted -= used;
        left[nearest] -= used;
        if (left[nearest] <= SPENT)
            squares[nearest] = INFINITY;
    }
    return cost / c->share;
}

/* The environments [first, stop), each by itself. */
static void couple(const Coupling *c, int64_t first, int64_t stop) {
    float squares[MAX_ATOMS];
    for (int64_t i = first; i < stop; i++) {
        float *left = c->left + i * c->count;
        for (int64_t t = 0; t < c->steps; t++) {
            const int64_t at = t * c->envs + i;
            for (int j = 0; c->starts[at] && j < c->count; j++)
                left[j] = 1;
            c->distances[at] = c->valid[at] ? couple_step(c, c->rows + at * c->width, left, squares) : INFINITY;
        }
    }
}

#endif
