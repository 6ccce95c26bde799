"""An MLP's passes, forward, backward and double-backward."""

cdef extern from "kernels/passes.h" nogil:
    ctypedef struct CNetwork "Network":
        int32_t activation, num_hidden, num_heads, inputs, operands
        int32_t *hidden
        int32_t *head_outputs
        const float **weights
        const float **biases
        const float **head_weights
        const float **head_biases
    ctypedef struct Gradients:
        float **weights
        float **biases
        float **head_weights
        float **head_biases
    ctypedef struct Plan:
        pass
    Plan plan_network(const CNetwork *)
    int64_t saved_floats(const Plan *, int64_t)
    bint network_forward(const CKernels *, const CNetwork *, const float *, int64_t, float *, float *, int)
    bint network_backward(const CKernels *, const CNetwork *, const float *, float *, const float *, int64_t,
                          const Gradients *, float *, int)
    bint network_double_backward(const CKernels *, const CNetwork *, const float *, const float *, const float *,
                                 int64_t, const Gradients *, float *, float *, int)

cdef extern from "kernels/training.h" nogil:
    ctypedef struct ActorCritic:
        int32_t networks
        CNetwork *net
        Gradients *gradients

ACTIVATIONS = {"tanh": 1, "relu": 2, "silu": 3, "elu": 4}


cdef class Network:
    """Shape of an MLP: inputs, hidden widths, outputs of each head; parameters come with every call.

    `parameters` are the addresses of weight and bias of every layer in order, the heads last; so are `gradients`.
    """
    cdef CNetwork net
    cdef readonly int inputs, outputs
    cdef tuple arguments

    def __init__(self, int inputs, tuple hidden, tuple heads, str activation):
        cdef int i
        self.arguments = (inputs, hidden, heads, activation)
        memset(&self.net, 0, sizeof(CNetwork))
        self.net.activation, self.net.inputs = ACTIVATIONS[activation], inputs
        self.net.num_hidden, self.net.num_heads = len(hidden), len(heads)
        for i in range(self.net.num_hidden):
            self.net.hidden[i] = hidden[i]
        for i in range(self.net.num_heads):
            self.net.head_outputs[i] = heads[i]
        self.inputs, self.outputs = inputs, sum(heads)

    def __reduce__(self):
        return Network, self.arguments

    def saved_size(self, int64_t rows):
        """Floats that `forward` saves for `backward`."""
        cdef Plan plan = plan_network(&self.net)
        return saved_floats(&plan, rows)

    def forward(self, tuple parameters, uintptr_t x, int64_t rows, uintptr_t out, uintptr_t saved):
        """x (rows, inputs) → out (rows, outputs); what `backward` needs into `saved`, if that is given."""
        cdef CNetwork net = self._at(parameters)
        with nogil:
            _check(network_forward(kernels, &net, <const float *>x, rows, <float *>out, <float *>saved, threads))

    def backward(self, tuple parameters, uintptr_t x, uintptr_t saved, uintptr_t out_gradient, int64_t rows,
                 tuple gradients, uintptr_t dx):
        """Gradients of sum(out_gradient * out) into `gradients` (or None) and dx; without `saved` it is recomputed."""
        cdef CNetwork net = self._at(parameters)
        cdef Gradients to = self._to(gradients)
        cdef const Gradients *wanted = NULL if gradients is None else &to
        with nogil:
            _check(network_backward(kernels, &net, <const float *>x, <float *>saved, <const float *>out_gradient, rows,
                                    wanted, <float *>dx, threads))

    def double_backward(self, tuple parameters, uintptr_t x, uintptr_t out_gradient, uintptr_t tangent, int64_t rows,
                        tuple gradients, uintptr_t dx, uintptr_t dout):
        """Gradients of sum(tangent * dx(out_gradient)) into `gradients` (or None), dx and dout."""
        cdef CNetwork net = self._at(parameters)
        cdef Gradients to = self._to(gradients)
        cdef const Gradients *wanted = NULL if gradients is None else &to
        with nogil:
            _check(network_double_backward(kernels, &net, <const float *>x, <const float *>out_gradient,
                                           <const float *>tangent, rows, wanted, <float *>dx, <float *>dout, threads))

    cdef CNetwork _at(self, tuple parameters):
        cdef CNetwork net = self.net
        cdef int i
        net.operands = operands
        for i in range(net.num_hidden):
            net.weights[i] = <const float *><uintptr_t>parameters[2 * i]
            net.biases[i] = <const float *><uintptr_t>parameters[2 * i + 1]
        for i in range(net.num_heads):
            net.head_weights[i] = <const float *><uintptr_t>parameters[2 * (net.num_hidden + i)]
            net.head_biases[i] = <const float *><uintptr_t>parameters[2 * (net.num_hidden + i) + 1]
        return net

    cdef Gradients _to(self, tuple gradients):
        cdef Gradients to
        cdef int i
        memset(&to, 0, sizeof(Gradients))
        if gradients is None:
            return to
        for i in range(self.net.num_hidden):
            to.weights[i] = <float *><uintptr_t>gradients[2 * i]
            to.biases[i] = <float *><uintptr_t>gradients[2 * i + 1]
        for i in range(self.net.num_heads):
            to.head_weights[i] = <float *><uintptr_t>gradients[2 * (self.net.num_hidden + i)]
            to.head_biases[i] = <float *><uintptr_t>gradients[2 * (self.net.num_hidden + i) + 1]
        return to


cdef ActorCritic _actor_critic(tuple networks):
    cdef ActorCritic ac
    cdef Network network
    cdef int i
    memset(&ac, 0, sizeof(ActorCritic))
    ac.networks = len(networks)
    for i in range(ac.networks):
        network = networks[i][0]
        ac.net[i] = network._at(networks[i][1])
        ac.gradients[i] = network._to(networks[i][2])
    return ac
