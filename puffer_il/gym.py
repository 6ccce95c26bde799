"""The C environments under Gymnasium's own names. Importing this module registers them.

    import gymnasium, puffer_il.gym

    env = gymnasium.make("puffer_il/CartPole-v0", gravity=20.0)
    vec = gymnasium.make_vec("puffer_il/CartPole-v0", num_envs=4096)  # stepped by one call of C

An environment that equals one of Gymnasium's has that one's name (CartPole, MountainCarContinuous), any other its
folder's in CamelCase (Breakout, MyEnv); the version counts our own changes. Keyword arguments are the environment's
parameters. A vector begins a new episode in the step that ends the last one: `metadata["autoreset_mode"]` is SAME_STEP.
`gymnasium.register_envs(puffer_il.gym)` says that the import is meant, and does nothing more.
"""

import gymnasium

from puffer_il.native.catalogue import env_folders, gymnasium_names

for _folder in env_folders().values():
    gymnasium.register(gymnasium_names(_folder)[0], entry_point="puffer_il.native.gymnasium_env:GymnasiumEnv",
                       vector_entry_point="puffer_il.native.gymnasium_env:GymnasiumVectorEnv",
                       kwargs={"folder": str(_folder)})
