# Arrays that are copied field by field, in the buffer and in the replay.

cdef enum:
    MAX_FIELDS = 16

cdef struct Field:
    uint8_t *target
    const uint8_t *source
    Py_ssize_t width  # bytes of a row


cdef Py_ssize_t _count(tuple targets, tuple sources) except -1:
    if len(targets) != len(sources) or len(targets) > MAX_FIELDS:
        raise ValueError(f"{len(sources)} arrays for {len(targets)} fields, of which at most {MAX_FIELDS} fit")
    return len(targets)
