"""Networks exported to TorchScript and ONNX, and weights of rsl_rl, rl_games, CleanRL and PufferLib: the actions are
those of the network that was saved, or the file is refused with a remedy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from puffer_il.core.errors import InputError
from puffer_il.core.spec import EnvSpec, ObsField
from puffer_il.rollout.policy_files import read_policy
from tests.support.policy_files import OBS, acted, given, mlp, named, spec


class Normalised(nn.Module):
    """As rsl_rl exports it: the normaliser belongs to the network."""

    def __init__(self, net):
        super().__init__()
        self.net, self.mean = net, nn.Parameter(torch.arange(4.0))

    def forward(self, x):
        return self.net((x - self.mean) / 1.5)


class Several(nn.Module):
    """As skrl's models answer: mean, log of the deviation."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x), torch.zeros(2)


@pytest.mark.parametrize("wrap", [Normalised, Several])
@pytest.mark.parametrize("how", [torch.jit.script, lambda net: torch.jit.trace(net, torch.zeros(3, 4))])
def test_torchscript_gives_the_networks_means(tmp_path, wrap, how):
    net = wrap(mlp(4, 8, 2))
    how(net).save(str(tmp_path / "policy.pt"))
    wanted = given(net.net, (OBS - np.arange(4, dtype=np.float32)) / np.float32(1.5)) if wrap is Normalised else given(
        net.net)
    np.testing.assert_allclose(acted(tmp_path / "policy.pt"), wanted, atol=1e-5)
    with pytest.raises(InputError, match="use its deterministic actions"):
        read_policy(tmp_path / "policy.pt", spec()).predict(OBS, deterministic=False)


def test_torchscript_of_choices_gives_the_highest_or_the_choice_itself(tmp_path):
    net = mlp(4, 8, 3)
    torch.jit.script(net).save(str(tmp_path / "logits.pt"))
    wanted = given(net).argmax(1)
    np.testing.assert_array_equal(acted(tmp_path / "logits.pt", spec(3, discrete=True))[:, 0], wanted)

    class Greedy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x).argmax(1)

    torch.jit.script(Greedy()).save(str(tmp_path / "choice.pt"))
    np.testing.assert_array_equal(acted(tmp_path / "choice.pt", spec(3, discrete=True))[:, 0], wanted)


class Remembers(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 2)
        self.register_buffer("hidden_state", torch.zeros(1, 1, 2))

    def forward(self, x):
        return self.net(x) + self.hidden_state[0]


class Counts(nn.Module):
    """A state by another name."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return self.net(x) * self.calls


@pytest.mark.parametrize(("net", "environment", "message"), [
    (mlp(5, 8, 2), spec(), r"does not take observations of shape \(4,\)"),
    (mlp(4, 8, 3), spec(), "has 3 outputs but toy needs 2"),
    (Remembers(), spec(), "keeps the recurrent state of one environment"),
    (Counts(), spec(), "gives different actions for the same observations"),
    (mlp(4, 8, 2), EnvSpec("eye", (4, 4, 3), np.dtype(np.uint8), spec().action), "takes one row of numbers"),
    (mlp(4, 8, 2), EnvSpec("parts", (4,), np.dtype(np.float32), spec().action, (
        ObsField("a", np.dtype(np.float32), (2,), path=("a",)),
        ObsField("b", np.dtype(np.float32), (2,), 8, path=("b",)))), "takes one row"),
])
def test_torchscript_that_does_not_fit_is_refused(tmp_path, net, environment, message):
    torch.jit.script(net).save(str(tmp_path / "policy.pt"))
    with pytest.raises(InputError, match=message):
        read_policy(tmp_path / "policy.pt", environment)


@pytest.mark.parametrize("dynamic", [True, False])
def test_onnx_gives_the_networks_means(tmp_path, dynamic):
    pytest.importorskip("onnxruntime", reason="pip install onnxruntime onnxscript")
    pytest.importorskip("onnxscript")
    net = mlp(4, 8, 2)
    shapes = {"dynamic_shapes": {"input": {0: torch.export.Dim.DYNAMIC}}} if dynamic else {}
    torch.onnx.export(net, (torch.zeros(2 if dynamic else 1, 4),), tmp_path / "policy.onnx", verbose=False, **shapes)
    np.testing.assert_allclose(acted(tmp_path / "policy.onnx", obs=OBS[:50]), given(net, OBS[:50]), atol=1e-5)
    with pytest.raises(InputError, match="does not take observations"):
        read_policy(tmp_path / "policy.onnx", spec(obs=5))


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_the_real_rsl_rls_recurrent_networks_agree_in_onnx(tmp_path, kind):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("rsl_rl", reason="pip install rsl-rl-lib")
    from rsl_rl.models import RNNModel
    from tensordict import TensorDict

    torch.manual_seed(0)
    model = RNNModel(TensorDict({"policy": torch.zeros(1, 4)}, [1]), {"actor": ["policy"]}, "actor", 2, [8], "elu",
                     True, {"class_name": "GaussianDistribution"}, rnn_type=kind, rnn_hidden_dim=6)
    model.eval()
    exported = model.as_onnx(False).eval()
    torch.onnx.export(exported, exported.get_dummy_inputs(), tmp_path / "policy.onnx", opset_version=18, verbose=False,
                      input_names=exported.input_names, output_names=exported.output_names)
    policy, state = read_policy(tmp_path / "policy.onnx", spec()), None
    assert not policy.memoryless
    starts = np.zeros((6, 3), bool)
    starts[0] = starts[4, 1] = True
    for obs, begins in zip(OBS[:18].reshape(6, 3, 4), starts, strict=True):
        model.reset(torch.from_numpy(begins.astype(np.float32)))
        with torch.no_grad():
            wanted = model(TensorDict({"policy": torch.from_numpy(obs)}, [3])).numpy()
        actions, state = policy.predict(obs, state, begins, deterministic=True)
        np.testing.assert_allclose(actions, wanted, atol=1e-5)


def test_an_onnx_file_without_its_package_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    (tmp_path / "policy.onnx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"pip install 'puffer-il\[onnx\]'"):
        read_policy(tmp_path / "policy.onnx", spec())


def normaliser(seed=3):
    torch.manual_seed(seed)
    return {"_mean": torch.randn(1, 4), "_var": torch.rand(1, 4) + 1, "_std": torch.rand(1, 4) + 1,
            "count": torch.tensor(9)}


def rsl_rl(net, version, norm):
    under = {f"{key}": value for key, value in norm.items()}
    if version == 5:
        return {"actor_state_dict": named(net, "mlp.") | {"distribution.std_param": torch.full((2,), 0.5)} | {
            f"obs_normalizer.{key}": value for key, value in under.items()}, "critic_state_dict": {}, "iter": 3}
    model = named(net, "actor.") | named(mlp(4, 3, 1), "critic.") | {"std": torch.full((2,), 0.5)}
    if version == 3:
        model |= {f"actor_obs_normalizer.{key}": value for key, value in under.items()}
        return {"model_state_dict": model, "optimizer_state_dict": {}, "iter": 3, "infos": None}
    return {"model_state_dict": model, "iter": 3, "infos": None} | ({"obs_norm_state_dict": norm} if norm else {})


@pytest.mark.parametrize("version", [2, 3, 5])
@pytest.mark.parametrize("normalised", [False, True])
def test_a_checkpoint_of_rsl_rl_acts_by_its_mean(tmp_path, version, normalised):
    net, norm = mlp(4, 8, 6, 2), normaliser() if normalised else {}
    torch.save(rsl_rl(net, version, norm), tmp_path / "model_10.pt")
    with pytest.raises(InputError, match=r"does not say its activation.*no params/agent\.yaml.*export_policy_to_jit"):
        read_policy(tmp_path / "model_10.pt", spec())
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "agent.yaml").write_text("policy:\n  activation: elu\n  init_noise_std: 1.0\n")
    obs = (OBS - norm["_mean"].numpy()) / (norm["_std"].numpy() + np.float32(0.01)) if norm else OBS
    policy = read_policy(tmp_path / "model_10.pt", spec())
    np.testing.assert_allclose(policy.predict(OBS, deterministic=True)[0], given(net, obs), atol=1e-5)
    still = np.repeat(OBS[:1], 5000, 0)
    assert policy.predict(still, deterministic=False)[0].std(0) == pytest.approx([0.5, 0.5], rel=0.1)
    assert "agent.yaml" in policy.notices[0]
    (tmp_path / "params" / "agent.yaml").write_text("actor:\n  activation: elu\ncritic:\n  activation: relu\n")
    with pytest.raises(InputError, match="names elu, relu"):
        read_policy(tmp_path / "model_10.pt", spec())


def test_the_real_rsl_rl_agrees(tmp_path):
    pytest.importorskip("rsl_rl", reason="pip install rsl-rl-lib")
    from rsl_rl.models import MLPModel
    from tensordict import TensorDict

    model = MLPModel(TensorDict({"policy": torch.zeros(1, 4)}, [1]), {"actor": ["policy"]}, "actor", 2, [8, 8], "selu",
                     True, {"class_name": "GaussianDistribution"})
    model.update_normalization(TensorDict({"policy": torch.randn(100, 4) * 3 + 1}, [100]))
    model.eval()
    torch.save({"actor_state_dict": model.state_dict(), "critic_state_dict": {}, "iter": 0}, tmp_path / "model_0.pt")
    (tmp_path / "agent.yaml").write_text("activation: selu\n")
    with torch.no_grad():
        wanted = model(TensorDict({"policy": torch.from_numpy(OBS)}, [1000])).numpy()
    np.testing.assert_allclose(acted(tmp_path / "model_0.pt"), wanted, atol=1e-5)
    torch.jit.script(model.as_jit()).save(str(tmp_path / "policy.pt"))
    np.testing.assert_allclose(acted(tmp_path / "policy.pt"), wanted, atol=1e-5)


def rl_games(net, head, norm):
    model = {f"a2c_network.{key}": value for key, value in (
        named(net, "actor_mlp.") | named(head, "mu." if head.out_features == 2 else "logits.")
        | named(nn.Linear(6, 1), "value.") | ({"sigma": torch.full((2,), -0.5)} if head.out_features == 2 else {})
    ).items()}
    model |= {f"running_mean_std.{key}": value for key, value in norm.items()}
    return {"model": model, "epoch": 3, "last_mean_rewards": np.float32(3.5), "env_state": None}


@pytest.mark.parametrize("clipped", [True, False])
def test_a_checkpoint_of_rl_games_acts_as_its_player(tmp_path, clipped):
    net, head = mlp(4, 8, 6, 6), nn.Linear(6, 2)
    net = net[:-1]  # its last layer is followed by an activation
    norm = {"running_mean": torch.arange(4.0).double(), "running_var": torch.full((4,), 0.04).double(),
            "count": torch.tensor(5.0).double()}
    torch.save(rl_games(net, head, norm), tmp_path / "toy.pth")
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "agent.yaml").write_text(
        "params:\n  network:\n    space:\n      continuous:\n        mu_activation: None\n    mlp:\n"
        f"      activation: elu\n      d2rl: False\n  config:\n    clip_actions: {clipped}\n")
    x = np.clip((OBS - np.arange(4, dtype=np.float32)) / np.float32(np.sqrt(0.04 + 1e-5)), -5, 5).astype(np.float32)
    wanted = given(nn.Sequential(net, head), x)
    if clipped:
        wanted = np.clip(wanted, -1, 1) * 2.5 + 0.5
    np.testing.assert_allclose(acted(tmp_path / "toy.pth"), wanted, atol=1e-4)


def test_the_real_rl_games_agrees(tmp_path):
    pytest.importorskip("rl_games", reason="pip install rl-games")
    from rl_games.algos_torch.model_builder import ModelBuilder

    params = {"algo": {"name": "a2c_continuous"}, "model": {"name": "continuous_a2c_logstd"}, "network": {
        "name": "actor_critic", "separate": False, "mlp": {"units": [8, 6], "activation": "tanh",
                                                         "initializer": {"name": "default"}},
        "space": {"continuous": {
            "mu_activation": "None", "sigma_activation": "None", "fixed_sigma": True, "mu_init": {"name": "default"},
            "sigma_init": {"name": "const_initializer", "val": 0}}}}}
    model = ModelBuilder().load(params).build({"actions_num": 2, "input_shape": (4,), "num_seqs": 1, "value_size": 1,
                                               "normalize_value": True, "normalize_input": True})
    model.running_mean_std(torch.randn(100, 4) * 3 + 1)
    model.eval()
    torch.save({"model": model.state_dict(), "epoch": 1}, tmp_path / "toy.pth")
    (tmp_path / "config.yaml").write_text("activation: tanh\nmu_activation: None\nclip_actions: False\n")
    with torch.no_grad():
        wanted = model({"is_train": False, "obs": torch.from_numpy(OBS), "prev_actions": None,
                        "rnn_states": None})["mus"]
    np.testing.assert_allclose(acted(tmp_path / "toy.pth"), wanted.numpy(), atol=1e-5)


def test_a_bias_of_another_shape_is_not_spread_over_the_rows(tmp_path):
    """A bias (2, 1) fits two rows of two choices, and would add its first number to all of the first row."""
    weights = named(mlp(4, 8, 6, 2, activation=nn.ReLU), "network.")
    last = list(weights)[-1]
    torch.save(weights | {last: weights[last][:, None]}, tmp_path / "dqn.cleanrl_model")
    with pytest.raises(InputError, match=r"has a bias of \(2, 1\)"):
        read_policy(tmp_path / "dqn.cleanrl_model", spec(2, discrete=True))


def test_cleanrls_networks_are_told_by_their_names(tmp_path):
    net = mlp(4, 8, 6, 3, activation=nn.ReLU)
    torch.save(named(net, "network."), tmp_path / "dqn.cleanrl_model")
    np.testing.assert_array_equal(acted(tmp_path / "dqn.cleanrl_model", spec(3, discrete=True))[:, 0],
                                  given(net).argmax(1))
    with pytest.raises(InputError, match="use its deterministic actions"):
        read_policy(tmp_path / "dqn.cleanrl_model", spec(3, discrete=True)).predict(OBS, deterministic=False)
    net = mlp(4, 8, 6, 2, activation=nn.ReLU)
    actor = {f"{layer}.{part}": net.state_dict()[f"{2 * i}.{part}"] for i, layer in enumerate(("fc1", "fc2", "fc_mu"))
             for part in ("weight", "bias")}
    actor |= {"action_scale": torch.tensor([2.5, 2.5]), "action_bias": torch.tensor([0.5])}
    torch.save((actor, {"fc1.weight": torch.zeros(1)}), tmp_path / "td3.cleanrl_model")
    np.testing.assert_allclose(acted(tmp_path / "td3.cleanrl_model"), np.tanh(given(net)) * 2.5 + 0.5, atol=1e-5)
    with pytest.raises(InputError, match="acts from -2 to 3, which is not the range of toy"):
        read_policy(tmp_path / "td3.cleanrl_model", spec(low=-1.0, high=1.0))


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("discrete", [False, True])
def test_pufferlibs_default_policy_agrees_with_pufferlib(tmp_path, recurrent, discrete):
    models = pytest.importorskip("pufferlib.models")
    import gymnasium

    class Env:
        single_observation_space = observation_space = gymnasium.spaces.Box(-1, 1, (4,))
        single_action_space = gymnasium.spaces.Discrete(3) if discrete else gymnasium.spaces.Box(-2, 3, (2,))
        env = None

    torch.manual_seed(0)
    Env.env = Env
    policy = models.Default(Env, hidden_size=16)
    net = models.LSTMWrapper(Env, policy, 16, 16) if recurrent else policy
    torch.save(net.state_dict(), tmp_path / "model.pt")
    ours = read_policy(tmp_path / "model.pt", spec(3, discrete=True) if discrete else spec())
    assert ours.memoryless is not recurrent
    state, theirs = None, {"lstm_h": None, "lstm_c": None}
    for obs in OBS.reshape(10, 100, 4):
        with torch.no_grad():
            logits, _ = net.forward_eval(torch.from_numpy(obs), theirs)
        wanted = logits.argmax(1).numpy() if discrete else logits.mean.numpy()
        actions, state = ours.predict(obs, state, np.zeros(100, bool), deterministic=True)
        np.testing.assert_allclose(actions.squeeze(1) if discrete else actions, wanted, atol=1e-5)


@pytest.mark.parametrize(("state", "message"), [
    ({"policy": {"net.0.weight": torch.zeros(3, 4)}, "value": {}, "optimizer": {}},
     r"checkpoint of skrl.* network of net\.0\.weight; .*torch\.jit\.trace"),
    ({"policy": {"a_container.0.weight": torch.zeros(3, 4), "b_container.0.weight": torch.zeros(2, 3)}, "value": {}},
     "checkpoint of skrl.* network of a, b"),
    ({"policy": {"net_container.0.weight": torch.zeros(2, 4)}, "value": {}},
     r"there is no params/agent\.yaml.* lay its"),
    ({"actor_mean.0.weight": torch.zeros(3, 4), "actor_logstd": torch.zeros(1, 2)}, "normalises observations"),
    ({"layer.weight": torch.zeros(3, 4)}, r"holds weights alone.*torch\.jit\.trace"),
    ({"model": {"a2c_network.rnn.rnn.weight_ih_l0": torch.zeros(3, 4)}}, "checkpoint of rl_games with rnn"),
    ({"model_state_dict": {"actor.0.weight": torch.zeros(3, 4), "memory_a.rnn.weight_ih_l0": torch.zeros(1)}},
     "checkpoint of rsl_rl with memory_a"),
])
def test_weights_that_do_not_say_enough_are_refused_with_the_remedy(tmp_path, state, message):
    torch.save(state, tmp_path / "agent.pt")
    with pytest.raises(InputError, match=message):
        read_policy(tmp_path / "agent.pt", spec())


def test_a_pickled_network_is_never_loaded(tmp_path):
    torch.save(mlp(4, 2), tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"cannot be read as plain weights.*state_dict\(\)"):
        read_policy(tmp_path / "net.pt", spec())
