import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.data.sources.base import ROOTS
from core.errors import ModelError
from core.models.specs import ALLOW_CODE, MODELS, ModelSpec, Permissions, absolute_model, module_file, parse_model
from tests.helpers import ROOT

PARSED = {
    "reference": ModelSpec("reference"),
    "recorded": ModelSpec("recorded"),
    "train:resnet18": ModelSpec("train", "resnet18"),
    "train:resnet18@a/w.pt": ModelSpec("train", "resnet18", "a/w.pt"),
    "torchvision:resnet18@DEFAULT": ModelSpec("torchvision", "resnet18", "DEFAULT"),
    "torchvision:resnet18@/a@b/w:1.pt": ModelSpec("torchvision", "resnet18", "/a@b/w:1.pt"),
    "timm:resnet18.a1_in1k@w.safetensors": ModelSpec("timm", "resnet18.a1_in1k", "w.safetensors"),
    "code:nets.small:make": ModelSpec("code", "nets.small:make"),
    "code:/a@b/nets.py:Nets.make@w.pt": ModelSpec("code", "/a@b/nets.py:Nets.make", "w.pt"),
    "features:f.npz": ModelSpec("features", "", "f.npz"),
    "dynamics:a:b.jsonl": ModelSpec("dynamics", "", "a:b.jsonl"),
}

REFUSED = {
    "": "Unknown model ''. The forms are: reference, train:",
    "resnet": "Unknown model 'resnet'",
    "refrence": "Did you mean reference?",
    "weights.pt": "weights.pt is a file of weights. Say whose they are: torchvision:resnet18@weights.pt",
    "reference:x": "not of the form of reference network. Write it like this: reference",
    "torchvision": "not of the form of torchvision network",
    "torchvision:@w.pt": "not of the form of torchvision network",
    "torchvision:resnet18": "names no weights, and an untrained network says nothing of the labels. "
    "Write torchvision:resnet18@FILE, or torchvision:resnet18@DEFAULT",
    "torchvision:resnet18@": "not of the form",
    "code:nets": "not of the form of network from code. Write it like this: code:model.py:make@weights.pt",
    "code:nets:make@DEFAULT": "a network from code has no default weights",
    "features:": "Write it like this: features:features.npz",
    "dynamics": "Write it like this: dynamics:training_dynamics",
}


@pytest.mark.parametrize(("text", "spec"), PARSED.items())
def test_a_spec_is_taken_apart_and_put_together_again(text: str, spec: ModelSpec) -> None:
    assert parse_model(text) == spec
    assert str(spec) == text


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_spec_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(ModelError) as refused:
        parse_model(text)
    assert REFUSED[text] in str(refused.value)


def test_weights_without_a_kind_are_told_how_to_be_named() -> None:
    for text, suggested in (
        ("resnet18@r18.pt", "torchvision:resnet18@r18.pt, for"),
        ("resnet18@w@2/r18.pt", "torchvision:resnet18@w@2/r18.pt, for"),
        ("r18.pt", "torchvision:resnet18@r18.pt, for"),
        ("runs/a@2/r18.pt", "torchvision:resnet18@runs/a@2/r18.pt, for"),
        ("tourchvision:resnet18@r18.pt", "Did you mean torchvision?"),
    ):
        with pytest.raises(ModelError) as told:
            parse_model(text)
        assert suggested in str(told.value)


@pytest.mark.parametrize("kind", MODELS.values(), ids=lambda kind: kind.name)
def test_the_example_of_every_kind_is_of_its_form(kind) -> None:
    spec = parse_model(kind.example)
    assert spec.kind == kind.name
    assert kind.gives <= {"history", "logits", "features"}


def test_paths_become_absolute_and_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "small.py").write_text("raise SystemExit('imported')")
    assert absolute_model("torchvision:resnet18@w.pt") == f"torchvision:resnet18@{tmp_path}/w.pt"
    assert absolute_model("torchvision:resnet18@DEFAULT") == "torchvision:resnet18@DEFAULT"
    assert absolute_model("features:../f.npz") == f"features:{tmp_path.parent}/f.npz"
    assert absolute_model("code:nets.small:make@w.pt") == f"code:{tmp_path}/nets/small.py:make@{tmp_path}/w.pt"
    assert absolute_model("code:nets/small.py:make") == f"code:{tmp_path}/nets/small.py:make"
    assert absolute_model("code:json:loads") == "code:json:loads"
    assert absolute_model("features:~/f.npz") == f"features:{Path.home()}/f.npz"
    for text in ("reference", "train:resnet18", "recorded"):
        assert absolute_model(text) == text
    assert absolute_model(absolute_model("code:nets.small:make")) == absolute_model("code:nets.small:make")


def test_a_module_is_found_without_being_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "__init__.py").write_text("raise SystemExit('imported')")
    assert module_file("own") == tmp_path / "own" / "__init__.py"
    assert module_file("json") == Path(json.__file__)
    assert module_file("nowhere.at_all") is None
    assert module_file("missing.py") is None


def test_the_command_line_may_run_code_and_the_app_only_where_it_was_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = parse_model("code:nets:make")
    monkeypatch.delenv(ROOTS, raising=False)
    monkeypatch.delenv(ALLOW_CODE, raising=False)
    Permissions.from_environment().check(spec)
    for roots in ("", json.dumps(["/"])):
        monkeypatch.setenv(ROOTS, roots)
        with pytest.raises(ModelError, match="would run the code of nets, .* Start it with --allow-code"):
            Permissions.from_environment().check(spec)
    monkeypatch.setenv(ALLOW_CODE, "1")
    Permissions.from_environment().check(spec)
    assert not Permissions.from_environment().download
    assert Permissions.from_environment(download=True).download


@pytest.mark.parametrize(
    "form", ["torchvision:resnet18@{}", "features:{}", "dynamics:{}", "code:{}:make", "train:resnet18@{}"]
)
def test_files_lie_in_the_roots_links_followed(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "w.py").touch()
    (inside / "w.py").touch()
    (inside / "link.py").symlink_to(outside / "w.py")
    monkeypatch.setenv(ROOTS, json.dumps([str(inside)]))
    monkeypatch.setenv(ALLOW_CODE, "1")
    may = Permissions.from_environment()
    may.check(parse_model(form.format(inside / "w.py")))
    for path in (outside / "w.py", inside / "link.py", f"{inside}/../out/w.py"):
        with pytest.raises(ModelError, match="lies outside the folders this app may read"):
            may.check(parse_model(form.format(path)))


def test_specs_are_read_without_torch() -> None:
    code = "import sys, core.models.specs as s; s.absolute_model('train:resnet18@w'); print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
