"""A folder of RL Baselines3 Zoo, logs/ppo/CartPole-v1_1: `CartPole-v1.zip` and `best_model.zip`, beside them a folder
`CartPole-v1` with `config.yml`, the hyperparameters, and `vecnormalize.pkl` where observations were normalised. In what
the Zoo puts on the Hub, and in copies, both lie beside the model itself.

Only one line of the YAML is looked at, as text: whether it says `normalize`.
"""

import re
from pathlib import Path

from puffer_il.core.errors import InputError
from puffer_il.rollout.policy_files import vecnormalize


def is_one(folder: Path) -> bool:
    """Whether a folder is such a one, and not a run of ours."""
    return folder.is_dir() and not (folder / "config.toml").exists() and any(folder.glob("*.zip"))


def model_in(folder: Path) -> Path:
    """Its model, as the Zoo's `enjoy` takes it: the last one, named as the environment. InputError where several could
    be meant, or where statistics are missing."""
    named = [path for path in sorted(folder.glob("*.zip")) if (folder / path.stem).is_dir()]
    models = named or sorted(folder.glob("*.zip"))
    if len(models) != 1:
        raise InputError(f"policy {folder}: holds {len(models)} models ({', '.join(path.name for path in models)}); "
                         "give the file of one of them")
    model = models[0]
    places = (folder / model.stem / "config.yml", folder / "config.yml")
    config = next((path for path in places if path.is_file()), None)
    text = config.read_text(errors="replace") if config is not None else ""
    said = re.search(r"""\bnormalize\b['"]?:?\s*-?\s*(.*)""", text)  # "normalize: true", "- - normalize\n    - true"
    how = said[1].strip() if said is not None else ""
    normalised = re.match(r"""true|['"]?(dict\(|\{)""", how) and not re.search(r"norm_obs\W{1,4}False", how)
    if normalised and vecnormalize.beside(model) is None:
        raise InputError(f"policy {folder}: config.yml says that observations were normalised ({how}), "
                         f"but there is no {model.stem}/vecnormalize.pkl; copy the whole folder")
    return model
