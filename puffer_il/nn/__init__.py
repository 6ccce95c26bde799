"""Networks, distributions, the policy, losses."""

from puffer_il.nn.chunks import targets
from puffer_il.nn.distributions import Categorical, Gaussian, Noise, make_distribution, total
from puffer_il.nn.flow import Flow
from puffer_il.nn.fused import FusedMLP, Layers, address
from puffer_il.nn.fused_policy import FusedPolicy, tell_size
from puffer_il.nn.heads import Head
from puffer_il.nn.losses import (
    bernoulli_entropy,
    categorical_loss,
    discriminator_loss,
    gradient_penalty,
    masked_mean,
    rarity,
)
from puffer_il.nn.mixture import Mixture
from puffer_il.nn.networks import ACTIVATIONS, Encoder, Tanh, mlp
from puffer_il.nn.numpy_policy import NumpyActorCritic, NumpyPolicy
from puffer_il.nn.observations import Flatten, RunningNorm, moments, obs_moments, one_hot
from puffer_il.nn.optim import FlatAdam, flatten
from puffer_il.nn.policy import Policy
from puffer_il.nn.random_shift import RandomShift, make_shift
