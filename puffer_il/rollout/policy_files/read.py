"""From a file of unknown format to its policy."""

from dataclasses import replace
from pathlib import Path

from puffer_il.core.checkpoint import fitting
from puffer_il.core.spec import EnvSpec
from puffer_il.demos.npz import Arrays, Npz
from puffer_il.rollout.policy_files import (
    cleanrl,
    gail_paper,
    onnx,
    pufferlib_weights,
    rl_games,
    rsl_rl,
    skrl,
    stable_baselines,
    torchscript,
)
from puffer_il.rollout.policy_files.file_policy import FilePolicy
from puffer_il.rollout.policy_files.networks import load_weights

WANTED = ("give the model.zip of a Stable-Baselines3 policy, a TorchScript or ONNX file, an .npz of the GAIL paper "
          "(the arrays W0 b0 … Wout bout obs_mean obs_std act), or the run directory of a policy of ours")
ARCHIVES = (stable_baselines, gail_paper)
WEIGHTS = (rsl_rl, rl_games, skrl, cleanrl, pufferlib_weights)


def read_policy(path: Path | str, spec: EnvSpec) -> FilePolicy:
    """The policy in a file, which acts in environments of `spec`.

    Knows a model.zip of Stable-Baselines3 or sb3_contrib, TorchScript, ONNX (.onnx), weights of rsl_rl, rl_games,
    CleanRL and PufferLib, and the npz of the GAIL paper's experts. Raises InputError for anything else, and where its
    inputs or outputs are not those of `spec`.
    """
    with fitting(f"policy {path}", WANTED):
        policy = replace(_read(Path(path), spec), action=spec.action)
        policy.predict(spec.blank(2), deterministic=True)  # it takes such observations
    return policy


def _read(path: Path, spec: EnvSpec) -> FilePolicy:
    if path.suffix == ".onnx" and path.is_file():
        return onnx.read(path, spec, Arrays({}, str(path), "policy", WANTED).refuse)
    with Npz(path, "policy", WANTED) as file:
        for kind in ARCHIVES:
            if kind.recognises(file):
                return kind.read(file, spec)
        if torchscript.recognises(file.keys):
            return torchscript.read(path, spec, file.refuse)
        if any(name.endswith("data.pkl") for name in file.keys):
            state = load_weights(path, file.refuse)
            for weights in WEIGHTS:
                if weights.recognises(state):
                    return weights.read(path, state, spec, file.refuse)
            file.refuse("holds weights alone, which do not say what network they are of; export it to TorchScript with "
                        "torch.jit.trace(net, observations).save('policy.pt') and give that")
        file.refuse(f"holds {file.listing()}, no policy we know; {WANTED}")
