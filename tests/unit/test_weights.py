import argparse
import io
import os
import pathlib
import pickle
import subprocess
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from core.errors import ModelError
from core.models.weights import Weights, fit_weights, named_for, read_weights

MARK = "GRADSIFT_TEST_MARK"


def network(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), head=nn.Linear(4, classes)))


def saved(path: Path, held: object, **how: object) -> Path:
    torch.save(held, path, **how)
    return path


class Evil:
    """Unpickling this would write a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


class EvilEval(Evil):
    def __reduce__(self) -> tuple:
        return eval, (f"open({str(self.mark)!r}, 'w')",)


class EvilRun(Evil):
    def __reduce__(self) -> tuple:
        return subprocess.getoutput, (f"touch {self.mark}",)


def taken(path: Path) -> nn.Sequential:
    """A network of other weights, after those of a file were put into it."""
    net = network()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    fit_weights(net, read_weights(path), "the network")
    return net


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


WRAPPED = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3, "best": 0.5},
    "model": lambda s: {"model": s, "optimizer": {"state": {0: {"momentum": torch.ones(3)}}, "param_groups": []}},
    "model_state_dict": lambda s: {"epoch": 1, "model_state_dict": s, "loss": torch.tensor(0.1)},
    "deep": lambda s: {"checkpoint": {"model": s}},
    "unheard of": lambda s: {"my_net": s, "epoch": 2},
    "ddp": lambda s: {f"module.{k}": v for k, v in s.items()},
    "compiled": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "compiled inside": lambda s: {"state_dict": {f"module._orig_mod.{k}": v for k, v in s.items()}},
    "lightning": lambda s: {
        "state_dict": {**{f"model.{k}": v for k, v in s.items()}, "criterion.weight": torch.ones(3)},
        "pytorch-lightning_version": "2.0", "hyper_parameters": {"lr": 0.1}, "optimizer_states": [{"state": {}}],
    },
    "averaged": lambda s: {**{f"module.{k}": v for k, v in s.items()}, "n_averaged": torch.tensor(7)},
    "with its average": lambda s: {
        **{f"model.{k}": v for k, v in s.items()}, **{f"model_ema.{k}": torch.zeros_like(v) for k, v in s.items()},
    },
    "settings beside": lambda s: {
        "model": s, "args": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("a") and Path("runs/a")),
        "best_acc": np.float64(0.9), "confusion": np.eye(2), "scores": [np.float32(1)],
    },
    "parameters": lambda s: {k: nn.Parameter(v) if v.is_floating_point() else v for k, v in s.items()},
    "without counters": lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
    "half": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
}  # fmt: skip


@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_found_in_what_training_scripts_write(wrapped, zipped: bool, tmp_path: Path) -> None:
    original = network()
    if wrapped is WRAPPED["half"]:
        original = original.half().float()
    held = wrapped(dict(original.state_dict()))
    assert same(taken(saved(tmp_path / "w.pth", held, _use_new_zipfile_serialization=zipped)), original)


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin", "w"])
def test_safetensors_are_known_by_their_content(name: str, tmp_path: Path) -> None:
    save_file({f"model.{k}": v for k, v in network().state_dict().items()}, tmp_path / name)
    assert same(taken(tmp_path / name), network())


def test_which_entry_was_taken_and_what_was_left_out_is_said(tmp_path: Path) -> None:
    state = {**{f"model.{k}": v for k, v in network().state_dict().items()}, "loss.weight": torch.ones(3)}
    said = fit_weights(network(), read_weights(saved(tmp_path / "w.ckpt", {"state_dict": state})), "the network")
    assert said == (
        "w.ckpt: the weights are those in its entry state_dict.",
        "w.ckpt: the network is what its names call model.*; left out: loss.weight.",
    )


@pytest.mark.parametrize("evil", [Evil, EvilEval, EvilRun])
@pytest.mark.parametrize("how", ["zip", "legacy", "pickle", "old pickle", "inside"])
def test_a_file_that_holds_code_is_refused_and_the_code_is_not_run(evil, how: str, tmp_path: Path) -> None:
    mark, path = tmp_path / MARK, tmp_path / "w.pt"
    held = {**network().state_dict(), "extra": evil(mark)}
    if how in ("zip", "legacy"):
        saved(path, held, _use_new_zipfile_serialization=how == "zip")
    elif how == "inside":
        saved(path, {"args": argparse.Namespace(hook=evil(mark)), "model": network().state_dict()})
    else:
        path.write_bytes(pickle.dumps(held, protocol=0 if how == "old pickle" else 4))
    with pytest.raises(ModelError) as refused:
        read_weights(path)
    assert not mark.exists()
    assert "hold" in str(refused.value)
    assert "torch.save(model.state_dict(), 'weights.pt')" in str(refused.value)
    assert "weights_only" not in str(refused.value)
    if how in ("zip", "legacy", "inside"):
        assert "was not loaded" in str(refused.value)


def test_the_planted_code_would_have_run(tmp_path: Path) -> None:
    mark = tmp_path / MARK
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists()


def test_the_environment_cannot_lift_the_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = saved(tmp_path / "w.pt", {"a": Evil(tmp_path / MARK)})
    with pytest.raises(ModelError, match="can run any code"):
        read_weights(path)
    assert not (tmp_path / MARK).exists()


def test_a_whole_model_is_refused_by_the_name_of_its_class(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"loading it would call [\w.]*Sequential.* save its weights alone"):
        read_weights(saved(tmp_path / "w.pt", network()))


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", b"")
        archive.writestr("w/code/__torch__.py", "print('run')")
    with pytest.raises(ModelError, match="holds code \\(a TorchScript program\\)"):
        read_weights(path)


def test_reading_leaves_torchs_list_of_safe_classes_as_it_was(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    read_weights(saved(tmp_path / "w.pt", {"model": network().state_dict(), "args": argparse.Namespace()}))
    assert set(torch.serialization.get_safe_globals()) == before


def damaged(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def test_a_cut_file_is_said_to_be_cut(tmp_path: Path) -> None:
    save_file(network().state_dict(), tmp_path / "w.safetensors")
    for path in (saved(tmp_path / "w.pt", network().state_dict()), tmp_path / "w.safetensors",
                 saved(tmp_path / "l.pt", network().state_dict(), _use_new_zipfile_serialization=False)):  # fmt: skip
        for share in (0.99, 0.6, 0.3):
            with pytest.raises(ModelError, match="cut short or damaged"):
                read_weights(damaged(path, share))


def test_what_is_no_weights_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    for content, said in {
        b"": "is empty",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "pointer of Git LFS",
        b"<!DOCTYPE html><html>": "a web page",
        b"\x89HDF\r\n": "HDF5",
        b"hello": "no file of weights",
    }.items():
        path.write_bytes(content)
        with pytest.raises(ModelError, match=said):
            read_weights(path)
    target = io.BytesIO()
    np.savez(target, a=np.ones(3))
    path.write_bytes(target.getvalue())
    with pytest.raises(ModelError, match="an archive that torch.save did not write"):
        read_weights(path)
    with pytest.raises(ModelError, match="no such file"):
        read_weights(tmp_path / "none.pt")
    with pytest.raises(ModelError, match="a folder, not a file"):
        read_weights(tmp_path)


def test_an_archive_that_would_unpack_to_far_more_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", b"\x80\x02N.")
        archive.writestr("w/data/0", b"\0" * 20_000_000)
    with pytest.raises(ModelError, match="would unpack to many times its size"):
        read_weights(path)


def test_a_checkpoint_without_weights_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no weights by name, but only epoch, optimizer"):
        read_weights(saved(tmp_path / "w.pt", {"epoch": 1, "optimizer": {"state": {0: {"m": torch.ones(1)}}}}))
    with pytest.raises(ModelError, match="holds no weights by name, but a Tensor"):
        read_weights(saved(tmp_path / "w.pt", torch.ones(3)))
    with pytest.raises(ModelError, match=r"several sets of weights \(generator, critic\)"):
        read_weights(saved(tmp_path / "w.pt", {"generator": network().state_dict(), "critic": network().state_dict()}))


def test_two_networks_in_one_file_are_not_guessed_between(tmp_path: Path) -> None:
    state = {f"{who}.{k}": v for who in ("student", "teacher") for k, v in network().state_dict().items()}
    with pytest.raises(ModelError, match=r"holds several networks \(student\., teacher\.\)"):
        fit_weights(network(), read_weights(saved(tmp_path / "w.pt", state)), "the network")


def test_keys_and_shapes_that_differ_are_named() -> None:
    state = dict(network(classes=5).state_dict())
    state["extra.weight"] = state.pop("conv.bias")
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(ModelError) as refused:
        fit_weights(net, Weights("w.pt", state), "small")
    assert str(refused.value).startswith(
        "w.pt does not fit small. Of another shape: head.weight (5×4 in the file, 3×4 in the network), "
        "head.bias (5 in the file, 3 in the network). Missing in the file: conv.bias. "
        "In the file alone: extra.weight."
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    state = {name: tensor.clone() for name, tensor in network().state_dict().items()}
    state["conv.weight"][0, 0, 0, :2] = value
    with pytest.raises(ModelError, match="w.pt holds values that are not finite: 2 of 108 in conv.weight"):
        fit_weights(network(), Weights("w.pt", state), "small")


def test_names_that_fit_as_they_are_stay(tmp_path: Path) -> None:
    state = network().state_dict()
    found = named_for(state, Weights("w.pt", {**state, "model.conv.bias": torch.ones(4)}))
    assert set(found.tensors) == {*state, "model.conv.bias"}
