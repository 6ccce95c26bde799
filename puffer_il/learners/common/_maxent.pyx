"""Soft backups and occupancies (csrc/maxent.h). They trust their arguments, which maxent.py has made, and hold no GIL.

S states, A actions. A model is its five arrays: row_starts (S·A + 1,), next_states and chances (successors,), places
(S,), and gamma.
"""

from libc.stdint cimport int32_t, int64_t

cdef extern from "maxent.h" nogil:
    ctypedef struct SoftModel:
        int64_t states, actions
        const int64_t *row_starts
        const int32_t *next_states
        const double *chances
        const int32_t *places
        double gamma
    double soft_backup(const SoftModel *m, const double *rewards, const double *values, double *backed_up,
                       double *policy)
    void soft_move(const SoftModel *m, const double *visits, const double *policy, double *after)
    void soft_system(const SoftModel *m, const double *policy, int64_t size, double *matrix)
    void soft_backups(const SoftModel *m, int64_t horizon, const double *rewards, double *values, double *policies)
    void soft_moves(const SoftModel *m, int64_t horizon, const double *policies, double *visits)


cdef class Model:
    """Holds the arrays of a model while C reads them."""

    cdef SoftModel model
    cdef tuple kept  # the memory that the model points into

    def __init__(self, const int64_t[::1] row_starts, const int32_t[::1] next_states, const double[::1] chances,
                 const int32_t[::1] places, double gamma):
        self.kept = (row_starts, next_states, chances, places)
        self.model.states = places.shape[0]
        self.model.actions = (row_starts.shape[0] - 1) // places.shape[0]
        self.model.row_starts, self.model.next_states = &row_starts[0], &next_states[0]
        self.model.chances, self.model.places = &chances[0], &places[0]
        self.model.gamma = gamma

    def backup(self, const double[:, ::1] rewards, const double[::1] values, double[::1] backed_up,
               double[:, ::1] policy):
        """One backup of `values` (S,) into `backed_up` and `policy` (S, A); the largest change."""
        cdef double change
        with nogil:
            change = soft_backup(&self.model, &rewards[0, 0], &values[0], &backed_up[0], &policy[0, 0])
        return change

    def move(self, const double[::1] visits, const double[:, ::1] policy, double[::1] after):
        """after (S,) += where `visits` (S,) go in a step, times gamma."""
        with nogil:
            soft_move(&self.model, &visits[0], &policy[0, 0], &after[0])

    def system(self, const double[:, ::1] policy, double[:, ::1] matrix):
        """matrix (n, n) = I − γ P_π over the n acting states."""
        with nogil:
            soft_system(&self.model, &policy[0, 0], matrix.shape[0], &matrix[0, 0])

    def backups(self, const double[:, ::1] rewards, double[:, ::1] values, double[:, :, ::1] policies):
        """All steps of a horizon, the last first: `values` (T + 1, S), whose last line is given, and policies."""
        with nogil:
            soft_backups(&self.model, policies.shape[0], &rewards[0, 0], &values[0, 0], &policies[0, 0, 0])

    def moves(self, const double[:, :, ::1] policies, double[:, ::1] visits):
        """All steps of a horizon: `visits` (T + 1, S) begin as what starts at each step."""
        with nogil:
            soft_moves(&self.model, policies.shape[0], &policies[0, 0, 0], &visits[0, 0])
