"""The convolutional network of pictures, forward, backward and double-backward."""

cdef extern from "kernels/pictures.h" nogil:
    enum:
        PICTURE_FEATURES
        MOST_PLANES
    ctypedef struct PicturePlan:
        pass
    ctypedef struct PictureParameters:
        float **weights
        float **biases
        float *linear
        float *linear_bias
    PicturePlan plan_pictures(int32_t, int32_t, int32_t, bint, bint, float, float)
    int64_t picture_floats(const PicturePlan *, int64_t)
    bint pictures_forward(const CKernels *, const PicturePlan *, const PictureParameters *, const void *, Py_ssize_t,
                          int64_t, float *, float *, int)
    bint pictures_backward(const CKernels *, const PicturePlan *, const PictureParameters *, const void *, Py_ssize_t,
                           int64_t, const float *, const float *, const float *, const PictureParameters *, float *,
                           const float *, float *, int)

MOST_PICTURE_PLANES, FEATURES_OF_PICTURES = MOST_PLANES, PICTURE_FEATURES


cdef class PictureNetwork:
    """Shape of the network: three 3×3 convolutions with a stride of two, of 16, 32 and 32 channels, and a linear layer,
    all rectified. A pixel p, of uint8 or, without `is_bytes`, float32, counts (p - low)·scale.

    `parameters` are the addresses of weight and bias of every layer in order, as torch lays them out; so are
    `gradients`.
    """
    cdef PicturePlan plan
    cdef readonly tuple arguments

    def __init__(self, int planes, int height, int width, bint channels_last, bint is_bytes, float low, float scale):
        self.arguments = (planes, height, width, channels_last, is_bytes, low, scale)
        self.plan = plan_pictures(planes, height, width, channels_last, is_bytes, low, scale)

    def __reduce__(self):
        return PictureNetwork, self.arguments

    def saved_size(self, int64_t rows):
        """Floats that `forward` saves for `backward`."""
        return picture_floats(&self.plan, rows)

    def forward(self, tuple parameters, uintptr_t x, Py_ssize_t row_bytes, int64_t rows, uintptr_t out,
                uintptr_t saved):
        """Pictures `row_bytes` apart → out (rows, features); what `backward` needs into `saved`, if that is given."""
        cdef PictureParameters at = _picture_parameters(parameters)
        with nogil:
            _check(pictures_forward(kernels, &self.plan, &at, <const void *>x, row_bytes, rows, <float *>out,
                                    <float *>saved, threads))

    def backward(self, tuple parameters, uintptr_t x, Py_ssize_t row_bytes, int64_t rows, uintptr_t saved,
                 uintptr_t out, uintptr_t out_gradient, tuple gradients, uintptr_t dx):
        """Gradients of sum(out_gradient * out) into `gradients` (or None) and dx (rows, pixels), if that is given."""
        self._backward(parameters, x, row_bytes, rows, saved, out, out_gradient, gradients, dx, 0, 0)

    def double_backward(self, tuple parameters, int64_t rows, uintptr_t saved, uintptr_t out, uintptr_t out_gradient,
                        uintptr_t tangent, tuple gradients, uintptr_t dout):
        """Gradients of sum(tangent * dx(out_gradient)) into `gradients` (or None) and dout, if that is given; that by x
        is zero."""
        self._backward(parameters, 0, 0, rows, saved, out, out_gradient, gradients, 0, tangent, dout)

    cdef _backward(self, tuple parameters, uintptr_t x, Py_ssize_t row_bytes, int64_t rows, uintptr_t saved,
                   uintptr_t out, uintptr_t out_gradient, tuple gradients, uintptr_t dx, uintptr_t tangent,
                   uintptr_t dout):
        cdef PictureParameters at = _picture_parameters(parameters), to
        cdef const PictureParameters *wanted = NULL
        if gradients is not None:
            to = _picture_parameters(gradients)
            wanted = &to
        with nogil:
            _check(pictures_backward(kernels, &self.plan, &at, <const void *>x, row_bytes, rows, <const float *>saved,
                                     <const float *>out, <const float *>out_gradient, wanted, <float *>dx,
                                     <const float *>tangent, <float *>dout, threads))


cdef PictureParameters _picture_parameters(tuple addresses):
    cdef PictureParameters parameters
    cdef int i
    for i in range(3):
        parameters.weights[i] = <float *><uintptr_t>addresses[2 * i]
        parameters.biases[i] = <float *><uintptr_t>addresses[2 * i + 1]
    parameters.linear, parameters.linear_bias = <float *><uintptr_t>addresses[6], <float *><uintptr_t>addresses[7]
    return parameters
