#!/usr/bin/env bash
# What surprises: Gymnasium 1.4.0's Ant-v5 and Humanoid-v5 do not earn the same reward twice from the same state. A second
#   environment is set to the positions and velocities of the first (`set_state`) and takes the same action: every number
#   of the observation is equal to the bit, and the reward is another one. Hopper, HalfCheetah and Walker2d earn the same.
# Why: Ant and Humanoid measure their speed between places of bodies, which MuJoCo works out at the start of a step and so
#   are one physics step old when the next action comes, but fresh after `set_state` and after a reset, whose first step earns
#   the same. The others read the positions.
# The guess before it was run: positions and velocities are the whole state, as the equal observations say; one reward.
# What follows: logs with states cannot be given their rewards back by setting each state and stepping (relabelling, tree
#   search, a check of stored rewards) except to a tolerance. Only replaying an episode from its start gives them exactly.
# Seen on 2026-11-30 (Python 3.11, gymnasium 1.4.0, mujoco 3.4.0, numpy 2.4.6):
#   Ant-v5: same observations in 60 steps of 60, same rewards in 1, apart by up to 0.06
#   Humanoid-v5: same observations in 60 steps of 60, same rewards in 1, apart by up to 0.0008
#   Hopper-v5: same observations in 60 steps of 60, same rewards in 60, apart by up to 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'gymnasium[mujoco]==1.4.0' mujoco==3.4.0 numpy==2.4.6
cat > "$folder/show.py" <<'PYTHON'
import gymnasium
import numpy as np

STEPS = 60
for name in ("Ant-v5", "Humanoid-v5", "Hopper-v5"):
    walks, is_set = gymnasium.make(name).unwrapped, gymnasium.make(name).unwrapped
    walks.reset(seed=0)
    is_set.reset(seed=1)
    rng = np.random.default_rng(0)
    same_obs, apart = 0, []
    for _ in range(STEPS):
        qpos, qvel = walks.data.qpos.copy(), walks.data.qvel.copy()
        action = rng.uniform(walks.action_space.low, walks.action_space.high).astype(np.float32)
        obs, reward = walks.step(action)[:2]
        is_set.set_state(qpos, qvel)
        other_obs, other_reward = is_set.step(action)[:2]
        same_obs += np.array_equal(obs, other_obs)
        apart.append(abs(float(reward - other_reward)))
    print(f"{name}: same observations in {same_obs} steps of {STEPS}, same rewards in {apart.count(0)}, "
          f"apart by up to {max(apart):.1g}")
PYTHON
seen=$("$folder/venv/bin/python" -W ignore "$folder/show.py" 2> /dev/null)
echo "$seen"
expected='Ant-v5: same observations in 60 steps of 60, same rewards in 1, apart by up to 0.06
Humanoid-v5: same observations in 60 steps of 60, same rewards in 1, apart by up to 0.0008
Hopper-v5: same observations in 60 steps of 60, same rewards in 60, apart by up to 0'
[ "$seen" = "$expected" ] || { echo "CHANGED: gymnasium no longer behaves like this" >&2; exit 1; }
