"""The kernel of coupling.py, which has checked the arguments; it gives up the GIL."""

from libc.stdint cimport int32_t, int64_t, uint8_t

cdef extern from "stdbool.h":
    ctypedef bint cbool "bool"

cdef extern from "coupling.h" nogil:
    enum:
        MAX_ATOMS
    ctypedef struct Coupling:
        const float *rows
        const float *atoms
        float *left
        const cbool *starts
        const cbool *valid
        float *distances
        int64_t steps, envs
        int32_t count, width
        float share
    void c_couple "couple" (const Coupling *, int64_t, int64_t)

MOST_ATOMS = MAX_ATOMS


def couple(const float[:, :, ::1] rows, const float[:, ::1] atoms, float[:, ::1] left, const uint8_t[:, ::1] starts,
           const uint8_t[:, ::1] valid, float share, int64_t first, int64_t stop, float[:, ::1] distances):
    """Fill `distances` (steps, envs) for the environments [first, stop), and use up `left` (envs, atoms); `rows` is
    (steps, envs, width), `atoms` (width, atoms)."""
    cdef Coupling c
    if rows.shape[0] == 0 or first >= stop:
        return
    c.rows, c.atoms, c.left = &rows[0, 0, 0], &atoms[0, 0], &left[0, 0]
    c.starts, c.valid, c.distances = <const cbool *>&starts[0, 0], <const cbool *>&valid[0, 0], &distances[0, 0]
    c.steps, c.envs, c.width = rows.shape[0], rows.shape[1], rows.shape[2]
    c.count, c.share = atoms.shape[1], share
    with nogil:
        c_couple(&c, first, stop)
