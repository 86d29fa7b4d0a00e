"""Checkpoints as training leaves them: wrapped, nested, with more than the network, in folders."""

import json
import logging
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import WeightsError, spec
from numlstm.spec import Network
from tests.cases import TOLERANCES
from tests.convert.test_torch import torch_run
from tests.lazy import nn, torch

LAYERS = "embed:Embedding lstm:LSTM head:Linear"
XS = np.arange(12, dtype=np.int32)


def make_net(**more: Any) -> Any:
    torch.manual_seed(0)
    modules = {"embed": nn.Embedding(30, 8), "lstm": nn.LSTM(8, 8), "head": nn.Linear(8, 30)}
    return nn.ModuleDict({**modules, **more})


def answers_of(net: Any) -> Any:
    return torch_run([net["embed"], net["lstm"], net["head"]], torch.from_numpy(XS).long())


def assert_converts(source: Any, **options: Any) -> None:
    """Convert what holds the tensors of `make_net`, and hold it to what that answers."""
    model = numlstm.from_torch(source, layers=LAYERS, **options)
    TOLERANCES["output"].check(model.run(XS), answers_of(make_net()))


def prefixed(prefix: str, state: Any) -> dict[str, Any]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def inside(wrapper: str, state: Any) -> dict[str, Any]:
    """Return a state dict of which every module is within a wrapper."""
    return {name.replace(".", f".{wrapper}."): tensor for name, tensor in state.items()}


@pytest.fixture
def said(caplog) -> Any:
    caplog.set_level(logging.INFO, "numlstm")
    return caplog


# Variants of one checkpoint -----------------------------------------------------------------------

# What training makes of a state dict, and what is said of it.
VARIANTS: dict[str, Any] = {
    "as it is": (lambda s: s, ""),
    "ordered": (lambda s: OrderedDict(s), ""),
    "arrays": (lambda s: {n: t.numpy() for n, t in s.items()}, ""),
    "arrays of big-endian": (lambda s: {n: t.numpy().astype(">f4") for n, t in s.items()}, ""),
    "float64": (lambda s: {n: t.double() for n, t in s.items()}, ""),
    "DataParallel": (lambda s: prefixed("module.", s), ""),
    "torch.compile": (lambda s: prefixed("_orig_mod.", s), ""),
    "both": (lambda s: prefixed("module._orig_mod.", s), ""),
    "compiled modules": (lambda s: inside("_orig_mod", s), ""),
    "FSDP": (lambda s: prefixed("_fsdp_wrapped_module.", inside("_fsdp_wrapped_module", s)), ""),
    "checkpointed": (lambda s: inside("_checkpoint_wrapped_module", s), ""),
    "attribute": (lambda s: prefixed("model.", s), 'begin with "model."'),
    "attribute of an attribute": (lambda s: prefixed("net.core.", s), 'begin with "net.core."'),
    "wrapped attribute": (lambda s: prefixed("module.model.", s), 'begin with "model."'),
    "Lightning": (
        lambda s: {
            "epoch": 3,
            "pytorch-lightning_version": "2.5.0",
            "state_dict": prefixed("model.", s) | {"criterion.weight": torch.ones(30)},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}],
            "hyper_parameters": {"lr": 0.1},
        },
        "under 'state_dict'",
    ),
    "nested": (lambda s: {"model": {"state": s, "step": 3}, "seed": 1}, "under 'model.state'"),
    "beside an optimizer": (
        lambda s: {"model_state": s, "optimizer_state": {"lstm": {"exp_avg": torch.ones(3)}}},
        "under 'model_state'",
    ),
    "beside a part of itself": (
        lambda s: {"encoder": s, "decoder": nn.ModuleDict({"lstm": nn.LSTM(3, 3)}).state_dict()},
        "under 'encoder'",
    ),
    "beside another network": (
        lambda s: {"generator": s, "discriminator": {"conv.weight": torch.ones(3, 4, 5)}},
        "under 'generator'",
    ),
    "modules by their names": (
        lambda s: {
            "step": 3,
            **{
                part: {n.removeprefix(f"{part}."): t for n, t in s.items() if n.startswith(part)}
                for part in ("embed", "lstm", "head")
            },
        },
        "",
    ),
    "keys that are no texts": (lambda s: {0: 1, ("a", "b"): 2, "net": s, None: 3}, "under 'net'"),
    "with a loss": (lambda s: s | {"criterion.weight": torch.ones(30)}, "criterion.weight"),
    "with losses": (
        lambda s: s
        | {
            "loss_fn.pos_weight": torch.ones(30),
            "lossFn.weight": torch.ones(30),
            "center_loss.centers": torch.ones(30, 8),
            "class_weights": torch.ones(30),
        },
        "center_loss.centers",
    ),
    "with metrics": (
        lambda s: (
            s | {"val_metrics.confusion": torch.ones(3, 3), "metrics.0.total": torch.ones(())}
        ),
        "metrics.0.total",
    ),
    "with a count": (lambda s: s | {"num_updates": torch.tensor(7)}, "num_updates"),
    "with what is no tensor": (
        lambda s: s | {"epoch": 3, "name": "x", "lstm._extra_state": None},
        "epoch",
    ),
}  # fmt: skip


@pytest.mark.parametrize("as_file", [False, True], ids=["live", "file"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_checkpoint_is_converted_without_more_options(said, tmp_path, name, as_file):
    make, expected_words = VARIANTS[name]
    net = make_net()
    checkpoint = make(net.state_dict())
    if as_file:
        if "arrays" in name:
            pytest.skip("numpy arrays in a file are another matter")
        path = tmp_path / "checkpoint.pt"
        torch.save(checkpoint, path)
        checkpoint = path
    model = numlstm.from_torch(checkpoint, layers=LAYERS)
    TOLERANCES["output"].check(model.run(XS), answers_of(net))
    assert expected_words in said.text


def test_the_average_is_chosen_by_its_key(said):
    net, other = make_net(), make_net()
    nn.init.zeros_(other["head"].bias)
    checkpoint = {"model": other.state_dict(), "ema": {"decay": 0.9, "shadow": net.state_dict()}}
    model = numlstm.from_torch(checkpoint, layers=LAYERS, key="ema.shadow")
    TOLERANCES["output"].check(model.run(XS), answers_of(net))
    assert "under" not in said.text


def test_keys_may_have_dots():
    checkpoint = {"runs": {"a.b": {"net": make_net().state_dict(), "other": {"x": torch.ones(2)}}}}
    assert_converts(checkpoint, key="runs.a.b.net")
    assert_converts(checkpoint, key="runs.a.b")


@pytest.mark.parametrize("prefix", ["student", "student.", "module.student"])
def test_a_prefix_chooses_and_leaves_the_rest_out(said, prefix):
    net = make_net()
    state = prefixed("student.", net.state_dict()) | prefixed("teacher.", make_net().state_dict())
    if prefix.startswith("module"):
        state = prefixed("module.", state)
    model = numlstm.from_torch(state, layers=LAYERS, prefix=prefix)
    TOLERANCES["output"].check(model.run(XS), answers_of(net))
    assert "left out, other names than" in said.text
    assert "teacher.head.bias" in said.text


def test_a_prefix_need_not_end_with_a_dot():
    state = prefixed("net_", make_net().state_dict())
    assert_converts(state, prefix="net_")


def test_an_empty_prefix_searches_nothing():
    with pytest.raises(WeightsError, match="the state dict has no embed; like it: model"):
        numlstm.from_torch(prefixed("model.", make_net().state_dict()), layers=LAYERS, prefix="")


# What is left out ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ignore",
    [
        "critic.*, log_std",
        ["critic.*", "log_std"],
        ["critic", "log_*"],
        ("critic.0,critic.2", "log_std"),
        ["c*", "log_std", "nothing.*"],
    ],
    ids=str,
)
def test_patterns_leave_tensors_out_and_it_is_said(said, ignore):
    critic = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    state = make_net(critic=critic).state_dict() | {"log_std": torch.ones(2)}
    assert_converts(state, ignore=ignore)
    assert "left out, by ignore: critic.0.weight, critic.0.bias, critic.2.weight" in said.text


def test_a_pattern_may_be_of_names_behind_a_prefix():
    state = prefixed("model.", make_net(critic=nn.Linear(3, 4)).state_dict())
    for ignore in ("critic.*", "model.critic.*"):
        assert_converts(state, ignore=ignore)


def test_a_pattern_takes_nothing_from_a_layer():
    net = make_net(norm=nn.LayerNorm(8))
    model = numlstm.from_torch(net.state_dict(), layers=LAYERS, ignore="*")
    TOLERANCES["output"].check(model.run(XS), answers_of(net))


@pytest.mark.parametrize(
    "more",
    [
        {"fc2": lambda: nn.Linear(30, 3)},
        {"norm": lambda: nn.LayerNorm(8, bias=False)},
        {"loss_head": lambda: nn.Linear(8, 4)},
        {"metric": lambda: nn.Embedding(3, 4)},
        {"scale": lambda: nn.PReLU()},
        {"metrics_norm": lambda: nn.LayerNorm(8)},
        {"loss_bn": lambda: nn.BatchNorm1d(8, affine=False)},
        {"metrics_rms": lambda: nn.RMSNorm(8)},
    ],
    ids=lambda more: next(iter(more)),
)
def test_a_layer_that_was_forgotten_is_never_left_out(more):
    state = make_net(**{name: make() for name, make in more.items()}).state_dict()
    (name,) = more
    with pytest.raises(WeightsError, match=rf'leave it out: ignore="{name}\.\*"'):
        numlstm.from_torch(state, layers=LAYERS)


def test_what_is_proposed_leaves_out_all_of_it():
    critic = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    state = make_net(critic=critic, fc2=nn.Linear(2, 2)).state_dict() | {"std": torch.ones(2)}
    state["head.scale[0]"] = torch.ones(3)
    with pytest.raises(WeightsError) as caught:
        numlstm.from_torch(state, layers=LAYERS)
    proposal = str(caught.value).split('to leave out all of that: ignore="')[1].split('"')[0]
    assert proposal == "critic.*,fc2.*,std,head.scale?0]"
    assert_converts(state, ignore=proposal)


def test_patterns_are_texts():
    with pytest.raises(TypeError, match="expected patterns of names"):
        numlstm.from_torch(make_net().state_dict(), layers=LAYERS, ignore=[3])


# A head with the weight of the embedding ----------------------------------------------------------


def tied_net() -> Any:
    net = make_net()
    net["head"].weight = net["embed"].weight
    return net


@pytest.mark.parametrize(
    ("layers", "gone"),
    [
        (LAYERS, ["head.weight"]),
        (LAYERS.replace("Linear", "Linear(tied=embed)"), ["head.weight"]),
        (LAYERS.replace("Linear", "Linear(tied=embed)"), []),
        (LAYERS, ["embed.weight"]),
        (LAYERS.replace("Embedding", "Embedding(tied=head)"), ["embed.weight"]),
    ],
    ids=str,
)
def test_a_weight_that_was_left_out_is_that_of_the_embedding(said, layers, gone):
    net = tied_net()
    state = {name: tensor for name, tensor in net.state_dict().items() if name not in gone}
    model = numlstm.from_torch(prefixed("model.", state), layers=layers)
    TOLERANCES["output"].check(model.run(XS), answers_of(net))
    assert ("is not there: it is" in said.text) == ("tied" not in layers)


def test_a_head_without_any_tensor_is_the_embedding():
    net = make_net()
    net["head"] = nn.Linear(8, 30, bias=False)
    net["head"].weight = net["embed"].weight
    state = {n: t for n, t in net.state_dict().items() if not n.startswith("head")}
    model = numlstm.from_torch(state, layers=LAYERS)
    TOLERANCES["output"].check(model.run(XS), answers_of(net))


@pytest.mark.parametrize(
    ("lstm", "layers", "change", "message"),
    [
        (8, LAYERS, {"head.bias": (29,)}, "head:Linear: no tensor 'weight'"),
        (7, LAYERS, {}, "head:Linear: no tensor 'weight'"),
        (8, LAYERS.replace("Linear", "Linear(tied=em)"), {}, "tied=em, of which there is no"),
        (
            8,
            LAYERS.replace("Linear", "Linear(tied=embed)"),
            {"head.weight": (30, 8)},
            "its own weight is another",
        ),
    ],
    ids=str,
)
def test_a_weight_that_does_not_fit_is_not_tied(lstm, layers, change, message):
    net = make_net(lstm=nn.LSTM(8, lstm))
    state = {n: t for n, t in net.state_dict().items() if n != "head.weight"}
    state |= {name: torch.ones(shape) for name, shape in change.items()}
    with pytest.raises(WeightsError, match=message):
        numlstm.from_torch(state, layers=layers)


# Cells --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("suffix", ["", "Cell"])
@pytest.mark.parametrize(
    "make",
    [
        lambda kind: ([getattr(nn, f"{kind}Cell")(3, 4)], "rnn."),
        lambda kind: ([getattr(nn, f"{kind}Cell")(3, 4, bias=False)], "rnn.cell."),
        lambda kind: ([getattr(nn, kind)(3, 4, 2)], "rnn."),
        lambda kind: ([getattr(nn, kind)(3, 4, 2)], "rnn.inner.rnn."),
        lambda kind: (
            [getattr(nn, f"{kind}Cell")(3, 4), getattr(nn, f"{kind}Cell")(4, 5)],
            "rnn.{}.",
        ),
        lambda kind: ([getattr(nn, kind)(3, 4), getattr(nn, kind)(4, 5, 2)], "rnn.layers.{}."),
    ],
    ids=["cell", "cell within", "stack", "stack within", "list of cells", "list of stacks"],
)
def test_words_of_recurrent_layers_go_with_cells_and_stacks(kind, suffix, make):
    modules, prefix = make(kind)
    state: dict[str, Any] = {}
    for n, module in enumerate(modules):
        state |= prefixed(prefix.format(n), module.state_dict())
    model = numlstm.from_torch(state, layers=f"rnn:{kind}{suffix}")
    xs = torch.randn(20, 3)
    TOLERANCES["output"].check(model.run(xs.numpy()), torch_run(modules, xs))


def test_a_list_with_a_gap_is_no_stack():
    state = prefixed("rnn.0.", nn.LSTMCell(3, 4).state_dict())
    state |= prefixed("rnn.2.", nn.LSTMCell(4, 4).state_dict())
    with pytest.raises(WeightsError, match="rnn:LSTM: no tensor 'weight_ih_l0'"):
        numlstm.from_torch(state, layers="rnn:LSTM")


# safetensors and folders --------------------------------------------------------------------------


def save_file(state: Any, path: Path, **metadata: str) -> Path:
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(dict(state), path, metadata or None)
    return path


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_a_file_of_safetensors_is_converted(tmp_path, dtype):
    net = make_net().to(getattr(torch, dtype))
    state = net.state_dict() | {"steps": torch.tensor(3), "loss.mask": torch.ones(3).bool()}
    path = save_file(state, tmp_path / "model.safetensors", format="pt")
    for source in (path, str(path), tmp_path):
        model = numlstm.from_torch(source, layers=LAYERS)
        TOLERANCES["output"].check(model.run(XS), answers_of(net.float()))


def test_what_a_file_of_safetensors_shares_is_in_its_metadata(tmp_path, said):
    safetensors = pytest.importorskip("safetensors.torch")
    net = tied_net()
    path = tmp_path / "model.safetensors"
    safetensors.save_model(net, str(path))
    model = numlstm.from_torch(path, layers=LAYERS)
    TOLERANCES["output"].check(model.run(XS), answers_of(net))
    assert "shared, as the file says" in said.text


def _write_shards(folder: Path, state: Any, suffix: str = ".safetensors") -> Path:
    names = list(state)
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    places = {}
    for n, own in enumerate((names[:3], names[3:])):
        place = f"{stem}-0000{n + 1}-of-00002{suffix}"
        part = {name: state[name] for name in own}
        if suffix == ".safetensors":
            save_file(part, folder / place)
        else:
            torch.save(part, folder / place)
        places |= dict.fromkeys(own, place)
    index = folder / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    (folder / "config.json").write_text('{"model_type": "mine"}')
    return index


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_folder_of_several_files_is_converted(tmp_path, suffix):
    net = make_net()
    index = _write_shards(tmp_path, prefixed("model.", net.state_dict()), suffix)
    for source in (tmp_path, index):
        model = numlstm.from_torch(source, layers=LAYERS)
        TOLERANCES["output"].check(model.run(XS), answers_of(net))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "epoch_3.ckpt"])
def test_a_folder_of_one_file_is_converted(tmp_path, name):
    state = make_net().state_dict()
    if name.endswith(".safetensors"):
        save_file(state, tmp_path / name)
    else:
        torch.save({"state_dict": state} if name.endswith(".ckpt") else state, tmp_path / name)
    (tmp_path / "optimizer.json").write_text("{}")
    assert_converts(tmp_path)


def test_a_snapshot_of_a_cache_has_links_to_its_blobs(tmp_path):
    blobs, snapshot = tmp_path / "model" / "blobs", tmp_path / "model" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    save_file(make_net().state_dict(), blobs / "1234")
    (snapshot / "model.safetensors").symlink_to("../../blobs/1234")
    assert_converts(snapshot)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("../secret.safetensors", "leads out of the folder"),
        ("{folder}/model/a.safetensors", "leads out of the folder"),
        ("link.safetensors", "leads out of the folder"),
        ("below/../../secret.safetensors", "leads out of the folder"),
        ("", "leads out of the folder"),
        (".", "leads out of the folder"),
        ("none.safetensors", "there is no file"),
        ("below", "there is no file"),
        ("pipe.safetensors", "there is no file"),
    ],
)
def test_an_index_names_files_of_its_folder_only(tmp_path, place, message):
    folder = tmp_path / "model"
    (folder / "below").mkdir(parents=True)
    state = make_net().state_dict()
    save_file(state, tmp_path / "secret.safetensors")
    save_file(state, folder / "a.safetensors")
    (folder / "link.safetensors").symlink_to("../secret.safetensors")
    os.mkfifo(folder / "pipe.safetensors")
    index = folder / "model.safetensors.index.json"
    places = dict.fromkeys(state, place.format(folder=tmp_path))
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(WeightsError, match=message):
        numlstm.from_torch(index, layers=LAYERS)


def test_a_file_below_the_folder_may_be_named(tmp_path):
    (tmp_path / "parts").mkdir()
    state = make_net().state_dict()
    save_file(state, tmp_path / "parts" / "a.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(state, "parts/a.safetensors")}))
    assert_converts(tmp_path)


# A file that load does not know -------------------------------------------------------------------


def test_load_says_the_command_that_converts_a_file_of_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = make_net(cells=nn.ModuleList([nn.GRUCell(8, 8)]), norm=nn.LayerNorm(8))
    save_file(net.state_dict(), Path("model.safetensors"))
    with pytest.raises(WeightsError) as caught:
        numlstm.load("model.safetensors")
    assert (
        "model.safetensors: not a numlstm model; this converts it: numlstm convert "
        "model.safetensors model.numlstm.safetensors --layers "
        '"embed:Embedding cells:GRUCell lstm:LSTM norm:LayerNorm head:Linear", '
    ) in str(caught.value)
    assert "lstm.weight_hh_l0 (32, 8)" in str(caught.value)


@pytest.mark.parametrize("name", ["m.pt", "m.keras", "m.onnx", "m.h5"])
def test_load_says_the_command_for_a_file_of_a_framework(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"PK" + bytes(100))
    with pytest.raises(WeightsError, match=rf"numlstm convert {path} m\.numlstm\.safetensors"):
        numlstm.load_parts(path)


# Networks -----------------------------------------------------------------------------------------

ENCODER = Network((spec.Embedding(9, 5, name="enc_emb"), spec.GRU(5, 6, name="enc")))
DECODER = Network(
    (spec.Embedding(7, 5, name="dec_emb"), spec.GRU(5, 6, name="dec"), spec.Linear(6, 7, name="fc"))
)


def both_parts() -> Any:
    torch.manual_seed(1)
    return nn.ModuleDict(
        {
            "enc_emb": nn.Embedding(9, 5),
            "enc": nn.GRU(5, 6),
            "dec_emb": nn.Embedding(7, 5),
            "dec": nn.GRU(5, 6),
            "fc": nn.Linear(6, 7),
        }
    )


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_network_takes_its_part_of_a_state_dict(said, prefix):
    net = both_parts()
    state = prefixed(prefix, net.state_dict())
    xs = torch.arange(7)
    for network, names in ((ENCODER, ["enc_emb", "enc"]), (DECODER, ["dec_emb", "dec", "fc"])):
        model = numlstm.from_torch(state, network=network)
        expected = torch_run([net[name] for name in names], xs)
        TOLERANCES["output"].check(model.run(xs.numpy()), expected)
    assert f"left out, of no layer of the network: {prefix}dec_emb.weight" in said.text


def test_what_is_left_of_a_module_that_a_layer_names_is_refused():
    state = nn.ModuleDict({"enc_emb": nn.Embedding(9, 5), "enc": nn.GRU(5, 6, 2)}).state_dict()
    with pytest.raises(WeightsError, match=r"enc: weight_ih_l1 \(18, 6\), .* no layer of the netw"):
        numlstm.from_torch(state, network=ENCODER)
    model = numlstm.from_torch(state, network=ENCODER, ignore="enc.*_l1")
    assert model.output_size == 6


def test_tensors_are_given_by_hand_beside_those_that_are_found():
    net = both_parts()
    layers = (*ENCODER.layers, spec.Linear(6, 3), spec.Linear(3, 2, False, name="out"))
    weight, bias, out = torch.randn(3, 6), np.ones(3), torch.randn(2, 3)
    given = {"layers.2.weight": weight, "layers.2.bias": bias, "layers.3.weight": out.numpy()}
    names = list(Network(layers).tensor_shapes())
    given = {name: given[f"layers.{2 + n}.{part}"] for name, (n, part) in zip(
        names[-3:], ((0, "weight"), (0, "bias"), (1, "weight")), strict=True
    )}  # fmt: skip
    model = numlstm.from_torch(net.state_dict(), network=Network(layers), tensors=given)
    xs = torch.arange(7)
    hs = torch.from_numpy(torch_run([net["enc_emb"], net["enc"]], xs))
    expected = (hs @ weight.T + 1) @ out.T
    TOLERANCES["output"].check(model.run(xs.numpy()), expected.numpy())


# rsl_rl -------------------------------------------------------------------------------------------


def test_a_recurrent_policy_of_rsl_rl_is_one_line():
    torch.manual_seed(0)
    memory, critic_memory = nn.LSTM(6, 16), nn.LSTM(6, 16)
    actor = nn.Sequential(nn.Linear(16, 12), nn.ELU(), nn.Linear(12, 8), nn.ELU(), nn.Linear(8, 4))
    critic = nn.Sequential(nn.Linear(16, 12), nn.ELU(), nn.Linear(12, 1))
    state = (
        {"std": torch.ones(4)}
        | prefixed("actor.", actor.state_dict())
        | prefixed("critic.", critic.state_dict())
        | prefixed("memory_a.rnn.", memory.state_dict())
        | prefixed("memory_c.rnn.", critic_memory.state_dict())
    )
    checkpoint = {
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []},
        "iter": 300,
        "infos": None,
    }
    model = numlstm.from_torch(
        checkpoint,
        layers="memory_a:LSTM actor.0:Linear elu actor.2:Linear elu actor.4:Linear",
        ignore="memory_c,critic,std",
    )
    xs = torch.randn(20, 6)
    TOLERANCES["output"].check(model.run(xs.numpy()), torch_run([memory, *actor], xs))
