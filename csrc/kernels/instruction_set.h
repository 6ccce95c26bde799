/* Everything that is compiled once per instruction set, and the table that offers it. Has no include guard. */
#include "simd.h"
#include "products.h"
#include "bf16.h"
#include "mlp.h"
#include "lstm.h"
#include "gru.h"
#include "recurrent.h"
#include "gaussian.h"
#include "losses.h"
#include "cloning_block.h"
#include "sampling.h"
#include "layer_norm.h"
#include "squash.h"
#include "convolution.h"
#include "picture_rows.h"

#define NAME_(isa) #isa
#define NAME(isa) NAME_(isa)
static const Kernels V(kernels) = {
    .name = NAME(ISA),
    .lanes = LANES,
    .pack_network = V(pack_network),
    .unpack_gradients = V(unpack_gradients),
    .block_forward = V(block_forward),
    .block_backward = V(block_backward),
    .block_double_backward = V(block_double_backward),
    .backward_data = V(backward_data),
    .input_gradient = V(input_gradient),
    .pack_memory = V(pack_memory),
    .unpack_memory = V(unpack_memory),
    .memory_forward = V(memory_forward),
    .memory_backward = V(memory_backward),
    .memory_inputs = V(memory_inputs),
    .memory_gradients = V(memory_gradients),
    .sample_block = V(sample_block),
    .mode_block = V(mode_block),
    .ppo_block = V(ppo_block),
    .cloning_block = V(cloning_block),
    .verdict_block = V(verdict_block),
    .adam = V(adam),
    .adam_followed = V(adam_followed),
    .square_sum = V(square_sum),
    .add_gradients = V(add_gradients),
    .pack_last_inputs = V(pack_last_inputs),
    .last_inputs_gradient = V(last_inputs_gradient),
    .normed_forward = V(normed_forward),
    .normed_backward = V(normed_backward),
    .squash_block = V(squash_block),
    .squash_gradient_block = V(squash_gradient_block),
    .anchor_block = V(anchor_block),
    .pack_pictures = V(pack_pictures),
    .unpack_pictures = V(unpack_pictures),
    .pictures_forward = V(pictures_forward),
    .pictures_backward = V(pictures_backward),
    .picture_tangents = V(picture_tangents),
    .linear_gradient = V(linear_gradient),
};

#undef NAME
#undef NAME_
#undef V
#undef V_
#undef V__
#undef F
#undef I
#undef INLINE
#undef CONV_TAKEN
#undef CONV_MOST_ONE
#undef CONV_MOST_TWO
#undef ISA
#undef LANES
#undef TILE
