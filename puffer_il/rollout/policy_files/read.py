"""From a file of unknown format to its policy."""

from pathlib import Path

from puffer_il.core.spec import EnvSpec
from puffer_il.demos.npz import Npz
from puffer_il.rollout.policy_files import gail_paper, stable_baselines
from puffer_il.rollout.policy_files.file_policy import FilePolicy

WANTED = ("give the model.zip of a Stable-Baselines3 policy, an .npz of the GAIL paper (the arrays W0 b0 … Wout bout "
          "obs_mean obs_std act), or the run directory of a policy of ours")
FORMATS = (stable_baselines, gail_paper)


def read_policy(path: Path | str, spec: EnvSpec) -> FilePolicy:
    """The policy in a file, which acts in environments of `spec`.

    Knows the npz of the GAIL paper's experts (W0 b0 … Wout bout obs_mean obs_std act [logstd]) and a model.zip of
    Stable-Baselines3 or sb3_contrib. Raises InputError for anything else, and where its inputs or outputs are not those
    of `spec`.
    """
    with Npz(path, "policy", WANTED) as file:
        for kind in FORMATS:
            if kind.recognises(file):
                return kind.read(file, spec)
        file.refuse(f"holds {file.listing()}, no policy we know; {WANTED}")
