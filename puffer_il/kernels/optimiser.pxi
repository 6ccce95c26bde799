"""Adam over parameters in one piece."""

cdef extern from "kernels/training.h" nogil:
    ctypedef struct AdamSettings:
        float learning_rate, beta1, beta2, eps, weight_decay, max_grad_norm
    ctypedef struct Optimizer:
        AdamSettings settings
        int64_t count
        float *parameters
        float *gradient
        float *mean
        float *square
        double step
    double optimizer_step(const CKernels *, Optimizer *)


cdef class Adam:
    """One step of Adam over parameters that lie in one piece (count,), with its gradient and moments."""
    cdef Optimizer optimizer

    def __init__(self, int64_t count, uintptr_t parameters, uintptr_t gradient, uintptr_t mean, uintptr_t square):
        memset(&self.optimizer, 0, sizeof(Optimizer))
        self.optimizer.count, self.optimizer.parameters = count, <float *>parameters
        self.optimizer.gradient, self.optimizer.mean = <float *>gradient, <float *>mean
        self.optimizer.square = <float *>square

    def set(self, double step, float learning_rate, float beta1, float beta2, float eps, float weight_decay,
            float max_grad_norm):
        self.optimizer.step = step
        self.optimizer.settings = AdamSettings(learning_rate, beta1, beta2, eps, weight_decay, max_grad_norm)

    def step(self):
        """Clip the gradient's norm and take the step; returns the norm before."""
        cdef double norm
        with nogil:
            norm = optimizer_step(kernels, &self.optimizer)
        return norm
