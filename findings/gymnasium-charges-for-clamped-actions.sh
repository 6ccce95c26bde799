#!/usr/bin/env bash
# What surprises: Gymnasium 1.4.0 takes actions beyond a task's declared Box without a word, and its tasks disagree about
#   what they cost. From the same state an action of 3 and its clipped form 1 move HalfCheetah-v5 alike, because MuJoCo
#   clamps the motors, but the reward charges for the 3: 4.8 more, several times what running fast earns in a step.
#   Pendulum-v1 clips before it charges, so the two cost the same. MountainCarContinuous-v0 clamps the force and charges
#   for the raw action, as HalfCheetah does.
# The guess before it was run: the Box is one contract; where the motion is that of the clipped action, so is the cost.
# What follows: a Gaussian policy's returns depend on who clips its samples. A stochastic expert of HalfCheetah scores some
#   200 more where its actions are clipped first, and published figures do not say which they are.
# Seen on 2026-11-30 (Python 3.11, gymnasium 1.4.0, mujoco 3.4.0, numpy 2.4.6):
#   HalfCheetah-v5: same motion True, reward of 3 less that of 1: -4.8
#   Pendulum-v1: same motion True, reward of 20 less that of 2: 0.0
#   MountainCarContinuous-v0: same motion True, reward of 3 less that of 1: -0.8
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'gymnasium[mujoco]==1.4.0' mujoco==3.4.0 numpy==2.4.6
cat > "$folder/show.py" <<'PYTHON'
import gymnasium
import numpy as np

for name, beyond, bound in (("HalfCheetah-v5", 3, 1), ("Pendulum-v1", 20, 2), ("MountainCarContinuous-v0", 3, 1)):
    seen = []
    for size in (beyond, bound):
        env = gymnasium.make(name).unwrapped
        env.reset(seed=1)
        seen.append(env.step(np.full(env.action_space.shape, size, np.float32))[:2])
    (obs, reward), (other_obs, other_reward) = seen
    print(f"{name}: same motion {np.array_equal(obs, other_obs)}, reward of {beyond} less that of {bound}: "
          f"{float(reward - other_reward) + 0.0:.1f}")
PYTHON
seen=$("$folder/venv/bin/python" -W ignore "$folder/show.py")
echo "$seen"
expected='HalfCheetah-v5: same motion True, reward of 3 less that of 1: -4.8
Pendulum-v1: same motion True, reward of 20 less that of 2: 0.0
MountainCarContinuous-v0: same motion True, reward of 3 less that of 1: -0.8'
[ "$seen" = "$expected" ] || { echo "CHANGED: gymnasium no longer behaves like this" >&2; exit 1; }
