"""A run's `Config`: frozen dataclasses, one for each section, whose fields know what values are allowed.

The sections below are shared; a learner declares its own in its file. learners/experiment.py makes a Config of files.
"""

import dataclasses
import functools
import math
import re
import tomllib
import typing
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, NoReturn

from puffer_il.core.errors import InputError


def setting(default: Any, help: str, *, choices: tuple[Any, ...] = (), low: float | None = None,
            high: float | None = None, example: str = "84,84") -> Any:
    """A config field: its default, one sentence for --help, and what values are allowed; an example of a list that is
    empty by default."""
    metadata = {"help": help, "choices": choices, "low": low, "high": high, "example": example}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class EnvConfig:
    name: str = setting("", "environment: a folder under envs/, a Gymnasium id, or module:function")
    num_envs: int = setting(16, "rows of a vector step: environments times agents", low=1)
    backend: str = setting("auto", "how environments are stepped: native is one call for all of them, vector that of a "
                                   "Gymnasium id's own vector (its vector_entry_point)",
                           choices=("auto", "native", "vector", "serial", "multiprocessing"))
    num_workers: int = setting(0, "worker processes for multiprocessing; 0 chooses by the cores", low=0)
    num_groups: int = setting(0, "groups of workers that step while another is inferred, or with a GPU of environments "
                                 "in the run's own process; 0 chooses", low=0)
    clip_actions: bool = setting(True, "clip continuous actions to their range before the environment is given them; "
                                       "without, it may charge for what is beyond")
    resize: tuple[int, ...] = setting((), "height and width that pictures are resized to, such as 84,84; empty keeps "
                                      "theirs", low=1, high=8192)
    grey: bool = setting(False, "make colour pictures grey")
    stack: int = setting(1, "pictures of the last steps that an observation holds side by side as channels; before an "
                            "episode's beginning, its first one", low=1, high=256)
    channels: str = setting("auto", "where pictures have their channels; auto decides by their shape and says so",
                            choices=("auto", "first", "last"))
    on_nan: str = setting("stop", "what to do when the environment gives a NaN or infinite observation or reward: stop "
                                  "the run and name it, or mask the rows, which nothing then learns from",
                          choices=("stop", "mask"))
    timeout_s: float = setting(30.0, "seconds without an answer to a step or reset after which the environment, the "
                                     "step and the seed are reported; 0 never reports", low=0)
    on_timeout: str = setting("wait", "then: wait on; restart the worker process, whose rows begin new episodes; or "
                                      "stop the run, with a checkpoint. restart is also for a worker that has died",
                              choices=("wait", "restart", "stop"))
    kwargs: dict = setting({}, "keyword parameters of the environment (a TOML table)")

    @property
    def pictures(self) -> Any:
        """The four keys about pictures, as `core.frames.Pictures`."""
        from puffer_il.core.frames import Pictures  # NumPy, which --help does not wait for

        return Pictures(self.resize, self.grey, self.stack, self.channels)


@dataclass(frozen=True)
class DemosConfig:
    source: str = setting("", "demonstrations: a file, or 'shipped' for those that come with the environment")
    format: str = setting("auto", "format of a source that may be of several, as docs/demonstrations.md names them; "
                                  "auto tells it from the content")
    columns: str = setting("", "of a table (CSV, Parquet): a TOML file that says which columns are what; empty takes "
                               "the one beside the table")
    obs_columns: tuple[str, ...] = setting((), "of a LeRobot data set: the columns that make up the observation; empty "
                                               "takes all of observation.* that are numbers",
                                      example="observation.state")
    episodes: int = setting(0, "use only the first episodes; 0 uses all", low=0)
    clip_actions: bool = setting(False, "clip recorded continuous actions to the environment's range")
    subsample: int = setting(1, "keep every n-th transition, from a random offset per episode", low=1)
    fields: tuple[str, ...] = setting((), "names of the observation's parts in the order of a recording's columns, "
                                          "where these have no names; where it has names and the environment an "
                                          "array: those of the parts that it lays side by side",
                                      example="goal,position")
    weighting: str = setting("file", "weights of rows: those of the file (equal if it has none), all equal, by their "
                                     "episode's return or its rank, or by a classifier of good rows among mixed ones",
                             choices=("file", "none", "return", "rank", "classifier"))
    temperature: float = setting(0.0, "temperature of weights by return (in standard deviations) or rank (0 to 1): an "
                                      "episode lower by this much counts e times less; 0: 0.2, or as much more as "
                                      "leaves the weights worth five episodes, and a twentieth of all", low=0)
    good: str = setting("", "for the classifier: a file of demonstrations known to be good, which are learned from "
                            "too; empty takes the best episodes")
    good_share: float = setting(0.05, "for the classifier, without such a file: share of the episodes that count as "
                                      "good, those of the highest returns", low=0, high=1)


@dataclass(frozen=True)
class PolicyConfig:
    hidden: tuple[int, ...] = setting((64, 64), "units of each hidden layer", low=1)
    activation: str = setting("tanh", "nonlinearity of the hidden layers", choices=("tanh", "relu", "silu", "elu"))
    shared: bool = setting(False, "actor and critic share their hidden layers")
    obs_norm: bool = setting(True, "normalise observations by running mean and variance, frozen within an iteration")
    lstm: int = setting(0, "units of an LSTM between encoder and heads; 0 for none", low=0)
    gru: int = setting(0, "units of a GRU there instead; 0 for none", low=0)
    squash: bool = setting(False, "tanh-squash continuous actions into the environment's range")
    init_log_std: float = setting(-0.5, "initial log standard deviation of continuous actions")
    state_std: bool = setting(False, "let the spread of continuous actions depend on the observation")
    head: str = setting("plain", "distribution of actions: plain (a softmax, or a Gaussian), or for continuous ones of "
                                 "which several are right a mixture of Gaussians or a flow; for cloning",
                        choices=("plain", "mixture", "flow"))
    mixtures: int = setting(5, "Gaussians of a mixture", low=2)
    flow_steps: int = setting(8, "Euler steps from noise to an action of a flow", low=1)
    chunk: int = setting(1, "steps that are predicted at once; for cloning", low=1)
    execute: int = setting(0, "steps of a chunk that are done before the next one is predicted; 0 does half of them",
                           low=0)
    ensemble: float = setting(0.0, "predict at every step, and do the mean of all predictions for it, each exp(-this) "
                                   "times the one before (ACT: 0.01); 0 does not", low=0)

    @property
    def memory(self) -> int:
        """Units of the LSTM or GRU, 0 without one."""
        return self.lstm or self.gru

    @property
    def memory_setting(self) -> str:
        """The setting that gives the policy a memory, as "key = value"."""
        return f"policy.lstm = {self.lstm}" if self.lstm else f"policy.gru = {self.gru}"


@dataclass(frozen=True)
class MixConfig:
    """Demonstrations in on-policy learning (mixins.py); only for learners that hold PPO."""

    expert_resets: float = setting(0.0, "share of the training episodes that begin in demonstrated states; rollout/ "
                                   "includes their returns, evaluations never begin there", low=0, high=1)
    expert_rows: float = setting(0.0, "share of PPO's actor loss that is the likelihood of demonstrated actions", low=0,
                                 high=1)
    bc_coef: float = setting(0.0, "weight of a behaviour-cloning loss added to PPO's", low=0)
    bc_final: float = setting(0.01, "share of bc_coef that is left at the end of an exponential decay; 1 keeps it",
                              low=1e-6, high=1)
    batch_size: int = setting(256, "demonstrated rows beside each minibatch of PPO", low=1)
    expert_envs: float = setting(0.0, "share of the training environments that an expert drives when the run begins; "
                                      "what it does there is cloned, and rollout/ includes its returns", low=0,
                                 high=0.9)
    expert_envs_final: float = setting(0.0, "the same share at the end of the run, reached linearly", low=0, high=0.9)
    expert: str = setting("script", "who drives them: 'script' (the environment's c_expert), a run directory or policy "
                                    "file, or 'random' (a control)")


@dataclass(frozen=True)
class TrainConfig:
    total_steps: int = setting(1_000_000, "environment steps of the whole run (BC: samples)", low=1)
    num_steps: int = setting(128, "steps per environment and rollout", low=1)
    seed: int = setting(1, "one seed decides everything", low=0)
    device: str = setting("auto", "where the learner runs", choices=("auto", "cpu", "cuda"))
    threads: int = setting(0, "threads of the C kernels and the C environments on the CPU; 0 takes every core. What is "
                              "learned does not depend on it", low=0)
    torch_threads: int = setting(1, "threads of torch's own operations on the CPU, for networks that the C kernels do "
                                    "not cover. Another number rounds otherwise: it belongs to the experiment", low=1)
    fused: bool = setting(True, "use the C kernels on the CPU where they cover the network; false uses torch for all")
    bf16: str = setting("off", "let the C kernels round the operands of wide layers' products to bfloat16, in rollouts "
                               "and updates alike; sums, weights and evaluations stay float32. auto does where the "
                               "processor has an instruction for it (AVX512_BF16), on insists on one",
                        choices=("off", "on", "auto"))
    precision: str = setting("float32", "precision of matrix products in torch; bfloat16 is faster on GPUs, and slower "
                                        "on CPUs, where train.bf16 is the key", choices=("float32", "bfloat16"))
    compile: bool = setting(False, "compile PPO's loss with torch.compile (instead of the C kernels on the CPU)")
    cuda_graphs: bool = setting(False, "replay the updates of PPO, discriminators, SAC and cloning as CUDA graphs, but "
                                       "those of an LSTM, a GRU or a flow, on a GPU")
    run_dir: str = setting("", "where the run is written; empty: runs/<env>-<algo>-<seed>-<time>")
    checkpoint_minutes: float = setting(0.5, "minutes between checkpoints, or more where these would take over 1% of "
                                             "the time; 0 writes only those of start and end", low=0)
    checkpoint_steps: int = setting(0, "environment steps between checkpoints; 0 for no such checkpoints", low=0)
    keep_checkpoints: int = setting(2, "how many checkpoints stay on disk", low=1)
    result: str = setting("best", "what the run gives: the policy that was evaluated best during the run, or the last; "
                                  "without evaluations, and of a learner without rollouts, it is the last",
                          choices=("best", "last"))
    policy_memory: int = setting(10, "of learners whose reward learns against the policy: iterations of whose policies "
                                     "the one that is evaluated is the average, from the expert's level or half of the "
                                     "run on; 1 for the latest alone", low=1)
    stop_at_expert: float = setting(0.0, "stop once an evaluation reaches this normalised score, and another one "
                                    "from other starting states too; 0 never stops", low=0)
    on_divergence: str = setting("rollback", "what to do when a loss, gradient or weight becomes NaN or infinite: go "
                                             "back to the last checkpoint with half the learning rates, or stop",
                                 choices=("rollback", "stop"))
    max_rollbacks: int = setting(3, "how often a run may go back before it stops", low=1)
    tensorboard: bool = setting(False, "write TensorBoard events too (extra 'tensorboard')")


@dataclass(frozen=True)
class EvalConfig:
    interval_steps: int = setting(0, "environment steps between evaluations; 0 evaluates at the end only", low=0)
    episodes: int = setting(20, "episodes of each evaluation during the run", low=1)
    final_episodes: int = setting(100, "episodes of the last evaluation", low=1)
    max_episode_steps: int = setting(0, "steps after which an episode of an evaluation is cut and counts as it stands; "
                                        "0 takes the environment's own limit, without one ten times the longest "
                                        "demonstration (at least 1,000), and without any 27,000", low=0)
    deterministic: bool = setting(True, "act greedily (the mode) when evaluated")


@dataclass(frozen=True)
class Config:
    """One run: the algorithm's name and a frozen dataclass per section, also reachable as attributes.

    `chosen_because` are the reasons of `train auto`, if that chose the algorithm.
    """

    algo: str
    sections: dict[str, Any]
    chosen_because: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["sections"][name]
        except KeyError:
            raise AttributeError(name) from None

    def get(self, key: str) -> Any:
        """The value of "section.key", None where there is no such section."""
        section, _, name = key.partition(".")
        return getattr(self.sections.get(section), name, None)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        return {name: dataclasses.asdict(section) for name, section in self.sections.items()}

    def to_toml(self) -> str:
        import tomli_w

        reasons = {"chosen_because": list(self.chosen_because)} if self.chosen_because else {}
        return tomli_w.dumps({"algo": self.algo, **reasons, **self.to_dict()})


def convert(key: str, value: Any, owner: type, field: dataclasses.Field) -> Any:
    """`value` (from TOML, or a string from the command line) as the field's type; InputError names key and remedy."""
    wanted = _hints(owner)[field.name]
    try:
        result = _as_type(value, wanted)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{key} = {value!r}: expected {_in_words(wanted)}, such as {_example(field)}") from None
    choices, low, high = (field.metadata.get(name) for name in ("choices", "low", "high"))
    if choices and result not in choices:
        raise InputError(f"{key} = {value!r}: choose one of {', '.join(map(str, choices))}")
    numbers = result if isinstance(result, tuple) else (result,)
    if low is not None and any(x < low for x in numbers):
        raise InputError(f"{key} = {value!r}: must be at least {low}")
    if high is not None and any(x > high for x in numbers):
        raise InputError(f"{key} = {value!r}: must be at most {high}")
    if any(isinstance(x, int) and abs(x) >= 2**63 for x in numbers):
        raise InputError(f"{key} = {value!r}: is too large; give a number such as {_example(field)}")
    return result


@functools.cache
def _hints(owner: type) -> dict[str, Any]:
    return typing.get_type_hints(owner)


def _as_type(value: Any, wanted: Any) -> Any:
    """Strict for TOML values, lenient for command-line strings ('2e6' is an int, '64,64' a tuple)."""
    text = isinstance(value, str)
    if typing.get_origin(wanted) is tuple:
        parts = [p for p in value.strip("[]() ").split(",") if p.strip()] if text else value
        item = typing.get_args(wanted)[0]
        return tuple(_as_type(p, item) for p in parts) if isinstance(parts, list | tuple) else _no()
    if wanted is bool:
        named = {"true": True, "false": False}.get(value.lower()) if text else value
        return named if isinstance(named, bool) else _no()
    if isinstance(value, bool):
        _no()
    if wanted is int:
        number = (float(value) if re.search(r"[.eE]", value) else int(value)) if text else value
        return int(number) if int(number) == number else _no()
    if wanted is float:
        number = float(value)
        return number if math.isfinite(number) else _no()
    if wanted is dict:
        value = tomllib.loads(f"x = {value}")["x"] if text else value
        return value if isinstance(value, dict) else _no()
    if wanted is str:
        return value if text else _no()
    raise NotImplementedError(f"config fields of type {wanted} are not supported")


def _no() -> NoReturn:
    raise ValueError


def _in_words(wanted: Any) -> str:
    if typing.get_origin(wanted) is tuple:
        return f"a list, each {_in_words(typing.get_args(wanted)[0])}"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "a table"}[wanted]


def _example(field: dataclasses.Field) -> str:
    """The field's default as it would be typed; of a list that is empty, an example."""
    if isinstance(field.default, tuple):
        return ",".join(map(str, field.default)) or str(field.metadata["example"])
    if isinstance(field.default, str):
        return repr(field.default)
    return "{ name = 1.5 }" if field.default is MISSING else str(field.default).lower()


def as_option(key: str) -> str:
    """A key as it is typed on the command line: ppo.learning_rate → --ppo.learning-rate."""
    return f"--{key.replace('_', '-')}"


def read_toml(path: Path) -> dict[str, Any]:
    """Tables of a TOML file; InputError names the file and the line that cannot be read."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"config file {path} does not exist; check the path") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"config file {path} cannot be read: {error}") from None
