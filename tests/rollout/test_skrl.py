"""Checkpoints of skrl: actions are those of its own policy, or the file is refused with a remedy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.rollout.policy_files import read_policy
from tests.support.policy_files import OBS, acted, given, mlp, named, spec


def skrl(folder, net, *, shared=False, scaler="state_preprocessor", log_std=True, config="", where="params"):
    """A checkpoint in skrl's layout, and the configuration that Isaac Lab lays beside it."""
    policy = {"log_std_parameter": torch.tensor([-0.5, 3.0])} if log_std else {}
    if shared:
        policy |= named(net[:-1], "net_container.") | named(net[-1], "policy_layer.") | named(
            nn.Linear(6, 1), "value_layer.")
    else:
        policy |= named(net, "net_container.")
    moments = {"running_mean": torch.arange(4.0).double(), "running_variance": torch.full((4,), 0.04).double(),
               "current_count": torch.tensor(5.0).double()}
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / where).mkdir(exist_ok=True)
    torch.save({"policy": policy, "value": {}, "optimizer": {}} | ({scaler: moments} if scaler else {}),
               folder / "checkpoints" / "agent_10.pt")
    (folder / where / "agent.yaml").write_text(config)
    return folder / "checkpoints" / "agent_10.pt"


def agent_yaml(activation="elu", output="ACTIONS", reads="STATES", more="", agent=""):
    """As Isaac Lab writes it; what stands outside of the policy must not matter."""
    policy = (f"    class: GaussianMixin\n    max_log_std: 2.0\n{more}    network:\n    - name: net\n"
              f"      input: {reads}\n      layers: [8, 6]\n      activations: {activation}\n    output: {output}\n")
    value = "    network:\n    - name: net\n      input: OTHER\n      activations: relu\n    output: ONE\n"
    return f"seed: 42\nmodels:\n  separate: false\n  policy:\n{policy}  value:\n{value}agent:\n  class: PPO\n{agent}"


SCALED = np.clip((OBS - np.arange(4, dtype=np.float32)) / np.float32(0.2 + 1e-8), -5, 5).astype(np.float32)


@pytest.mark.parametrize("shared", [False, True])
def test_a_checkpoint_of_skrl_acts_by_its_mean(tmp_path, shared):
    net = mlp(4, 8, 6, 2)
    path = skrl(tmp_path, net, shared=shared, config=agent_yaml())
    policy = read_policy(path, spec())
    np.testing.assert_allclose(policy.predict(OBS, deterministic=True)[0], given(net, SCALED), atol=1e-5)
    still = np.repeat(OBS[:1], 5000, 0)  # its deviations are clipped to max_log_std
    assert policy.predict(still, deterministic=False)[0].std(0) == pytest.approx(np.exp([-0.5, 2]), rel=0.1)
    assert "agent.yaml" in policy.notices[0]
    skrl(tmp_path, net, shared=shared, config=agent_yaml(output='"2.5 * tanh(ACTIONS)"'), scaler="")
    np.testing.assert_allclose(acted(path), 2.5 * np.tanh(given(net)), atol=1e-5)


def test_what_scales_the_observations_of_skrl_is_told_by_its_version(tmp_path):
    net, plain = mlp(4, 8, 6, 2), given(mlp(4, 8, 6, 2))
    read = agent_yaml(reads="OBSERVATIONS", agent="  observation_preprocessor: null\n")
    np.testing.assert_allclose(acted(skrl(tmp_path, net, config=read)), plain, atol=1e-5)  # states are not observed
    path = skrl(tmp_path, net, config=agent_yaml(reads="OBSERVATIONS"), scaler="observation_preprocessor")
    np.testing.assert_allclose(acted(path), given(net, SCALED), atol=1e-5)
    kwargs = "  observation_preprocessor: X\n  observation_preprocessor_kwargs:\n    clip_threshold: 1\n"
    path = skrl(tmp_path, net, config=agent_yaml(reads="OBSERVATIONS", agent=kwargs), scaler="observation_preprocessor")
    np.testing.assert_allclose(acted(path), given(net, SCALED.clip(-1, 1)), atol=1e-5)
    with pytest.raises(InputError, match=r"does not say whether those are the observations \(input: STATES\)"):
        acted(skrl(tmp_path, net, config=agent_yaml(reads="OBSERVATIONS")))


def test_choices_and_means_without_deviations_of_skrl(tmp_path):
    net = mlp(4, 8, 6, 3)
    path = skrl(tmp_path, net, log_std=False, config=agent_yaml())
    policy = read_policy(path, spec(3, discrete=True))
    np.testing.assert_array_equal(policy.predict(OBS, deterministic=True)[0][:, 0], given(net, SCALED).argmax(1))
    assert policy.head.samples
    with pytest.raises(InputError, match="use its deterministic actions"):
        read_policy(path, spec(3)).predict(OBS, deterministic=False)
    with pytest.raises(InputError, match="has 3 outputs but toy needs 2"):
        read_policy(path, spec())


def test_a_q_network_of_skrl_takes_the_highest_value_and_is_not_sampled(tmp_path):
    net = mlp(4, 8, 6, 3)
    torch.save({"q_network": named(net, "net_container."), "target_q_network": {}, "optimizer": {}},
               tmp_path / "agent_5.pt")
    (tmp_path / "agent.yaml").write_text(agent_yaml(reads="OBSERVATIONS").replace("  policy:\n", "  q_network:\n"))
    policy = read_policy(tmp_path / "agent_5.pt", spec(3, discrete=True))
    np.testing.assert_array_equal(policy.predict(OBS, deterministic=True)[0][:, 0], given(net).argmax(1))
    with pytest.raises(InputError, match="use its deterministic actions"):
        policy.predict(OBS, deterministic=False)


@pytest.mark.parametrize(("config", "message"), [
    (agent_yaml(activation="[elu, tanh]"), r"says for activations elu, tanh; trace one"),
    (agent_yaml(activation="''"), "says for activations none"),
    (agent_yaml(output="ACTIONS + ONE"), r"says for output actions \+ one"),
    (agent_yaml(reads='"concatenate([STATES, ACTIONS])"'), r"says for input concatenate"),
    (agent_yaml(more="    clip_mean_actions: true\n"), "says for clip_mean_actions true"),
    (agent_yaml(agent="  state_preprocessor_kwargs: {epsilon: 1}\n"), r"has state_preprocessor_kwargs: \{epsilon: 1\}"),
])
def test_what_the_configuration_of_skrl_does_not_say_is_refused(tmp_path, config, message):
    with pytest.raises(InputError, match=message):
        acted(skrl(tmp_path, mlp(4, 8, 6, 2), config=config))


REAL_SKRL = {"continuous": ["gaussian", "shared", "deterministic"], "choices": ["categorical", "multicategorical"]}


def real_skrl(kind, folder):
    """A checkpoint that skrl's PPO agent writes (version 1 or 2) of models that its instantiators make, and what its
    own policy gives for OBS: means, or logits."""
    import gymnasium
    from skrl.agents.torch import ppo
    from skrl.resources.preprocessors.torch import RunningStandardScaler
    from skrl.utils.model_instantiators import torch as instantiators

    first = not hasattr(ppo, "PPO_CFG")
    torch.manual_seed(0)
    action = {"categorical": gymnasium.spaces.Discrete(3), "multicategorical": gymnasium.spaces.MultiDiscrete([3, 2])
              }.get(kind, gymnasium.spaces.Box(-2, 3, (2,)))
    spaces = {"observation_space": gymnasium.spaces.Box(-1, 1, (4,)), "action_space": action, "device": "cpu"}
    network = [{"name": "net", "input": "STATES" if first else "OBSERVATIONS", "layers": [16, 8],
                "activations": "selu"}]
    if kind == "shared":
        policy = value = instantiators.shared_model(**spaces, roles=["policy", "value"], parameters=[
            {"network": network, "output": "ACTIONS"}, {"network": network, "output": "ONE"}])
    else:
        policy = getattr(instantiators, f"{kind}_model")(**spaces, network=network, output="ACTIONS")
        value = instantiators.deterministic_model(**spaces, network=network, output="ONE")
    for role, model in (("policy", policy), ("value", value)):
        model.init_state_dict(role=role)
    name = "state_preprocessor" if first else "observation_preprocessor"
    cfg = {name: RunningStandardScaler, f"{name}_kwargs": {"size": 4, "device": "cpu"}}
    agent = ppo.PPO(models={"policy": policy, "value": value}, memory=None, **spaces, cfg=cfg if first else (
        ppo.PPO_CFG(**cfg)))
    scaler = agent.checkpoint_modules[name]
    scaler(torch.randn(500, 4) * 3 + 1, train=True)
    agent.save(str(folder / "agent_1.pt"))
    (folder / "agent.yaml").write_text(
        f"models:\n  policy:\n    network:\n      - name: net\n        input: {network[0]['input']}\n"
        "        activations: selu\n    output: ACTIONS\n")
    with torch.no_grad():
        seen = scaler(torch.from_numpy(OBS))
        sampled, *_, outputs = policy.act({"observations": seen, "states": seen}, role="policy")
    return outputs.get("net_output", outputs.get("mean_actions", sampled)).numpy()


@pytest.mark.parametrize("kind", REAL_SKRL["continuous"])
def test_the_real_skrl_agrees(tmp_path, kind):
    pytest.importorskip("skrl", reason="pip install skrl")
    wanted = real_skrl(kind, tmp_path)
    np.testing.assert_allclose(acted(tmp_path / "agent_1.pt"), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", REAL_SKRL["choices"])
def test_the_real_skrl_agrees_in_its_choices(tmp_path, kind):
    pytest.importorskip("skrl", reason="pip install skrl")
    logits, nvec = real_skrl(kind, tmp_path), (3,) if kind == "categorical" else (3, 2)
    environment = EnvSpec("toy", (4,), np.dtype(np.float32), ActionSpec(nvec, shape=(len(nvec),)))
    ours = acted(tmp_path / "agent_1.pt", environment)
    parts = np.split(logits, np.cumsum(nvec)[:-1], axis=1)
    np.testing.assert_array_equal(ours, np.stack([part.argmax(1) for part in parts], 1))
