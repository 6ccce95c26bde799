"""Rows by their numbers, copied in C. It trusts its arguments, which rows.py has checked, and holds no GIL.

Arrays of any dtype come as bytes, uint8 (rows, width).
"""

from libc.stdint cimport int64_t, uint8_t

cdef extern from "kernels/gather.h" nogil:
    void gather_rows(Py_ssize_t n, Py_ssize_t width, const int64_t *index, const uint8_t *source, uint8_t *target)


def gather(const uint8_t[:, ::1] source, const int64_t[::1] index, uint8_t[:, ::1] target):
    """target[i] = source[index[i]]. Returns the place of the first number that is no row, before anything is copied,
    or -1."""
    cdef Py_ssize_t i, n = index.shape[0], rows = source.shape[0], width = source.shape[1]
    with nogil:
        for i in range(n):
            if index[i] < 0 or index[i] >= rows:
                break
        else:
            i = -1
            if n and width:
                gather_rows(n, width, &index[0], &source[0, 0], &target[0, 0])
    return i
