"""Each kind of model through a whole run: which stages it takes, which evidence comes out, and what is said."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torchvision import models

from core.data.manifest import Manifest
from core.errors import InputError, ModelError, SettingsError
from core.findings import Findings
from core.models.load import load, model_digest
from core.models.recorder import Recorder
from core.models.specs import Permissions, parse_model
from core.pipeline import plan, sift
from core.project import Project, ProjectConfig, Stages
from tests.helpers import QUICK, drawn, drawn_folder

HISTORY, HEAD, GRADIENT = "score_aum", "score_loo_ridge_margin", "score_oga_l2"
AS_THEY_ARE = "resize=12,mean=0/0/0,std=1/1/1"
TINY = """
import torch
from torch import nn

def tiny(classes=2):
    body = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(16, classes))
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return Manifest.read(f"folder:{drawn_folder(tmp_path_factory.mktemp('images'))}")


@pytest.fixture(scope="module")
def files(rows: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, features and dynamics of networks that know left from top a little."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    torch.save(models.resnet18(num_classes=5).state_dict(), folder / "resnet-5.pt")
    (folder / "tiny.py").write_text(TINY)
    for step in range(3):
        torch.save(trained_tiny(rows, 60 * (step + 1)).state_dict(), folder / f"tiny-{step}.pt")
    rng = np.random.default_rng(0)
    seen = np.eye(2)[rows.labels] + rng.normal(0, 0.3, (len(rows), 2))
    features = np.hstack([seen, rng.normal(0, 1, (len(rows), 3))]).astype(np.float32)
    ids = np.array([str(sample) for sample in rows.ids])
    np.savez(folder / "features.npz", sample_id=ids, features=features)
    np.savez(folder / "logits.npz", sample_id=ids, features=features, logits=(4 * seen).astype(np.float32))
    lines = [
        json.dumps({"guid": sample, "gold": int(label), **{f"logits_epoch_{e}": list((e + 1) * row) for e in range(3)}})
        for sample, label, row in zip(ids, rows.labels, seen, strict=True)
    ]
    (folder / "dynamics.jsonl").write_text("\n".join(lines))
    return folder


def trained_tiny(rows: Manifest, steps: int) -> nn.Sequential:
    """The network of `TINY`, trained on pixels from 0 to 1 at their own size."""
    space: dict[str, Any] = {}
    exec(TINY, space)
    torch.manual_seed(0)
    network: nn.Sequential = space["tiny"]()
    pixels, labels = torch.from_numpy(_pixels(rows)), torch.from_numpy(rows.labels.astype(np.int64))
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(network(pixels), labels))
        optimiser.step()
    return network


def run(rows: Manifest, model: str, tmp_path: Path, **changes: Any) -> tuple[Findings, set[str]]:
    settings = dataclasses.replace(QUICK, **changes)
    found = sift(rows, model, settings, stages=Stages(tmp_path / "stages"))
    table = found.table()
    assert table.index.tolist() == rows.ids.tolist()
    assert np.isfinite(table["suspicion"]).all()
    assert table["reason"].str.len().min() > 10
    scores = [name for name in table if str(name).startswith("score_")]
    assert np.isfinite(table[scores]).all(axis=None)
    return found, {path.name.split("-")[0] for path in (tmp_path / "stages").glob("[!.]*-*")}


Kinds = Callable[[Path], str]
REFERENCE = {"pixels", "features"}


@pytest.mark.parametrize(
    ("kind", "changes", "stages", "there", "absent"),
    [
        (lambda f: "reference", {}, REFERENCE, {HISTORY, HEAD, GRADIENT}, set()),
        (lambda f: "train:shufflenet_v2_x0_5", {"image_size": 32, "epochs": 1}, REFERENCE, {HISTORY}, set()),
        (lambda f: f"train:resnet18@{f / 'resnet-5.pt'}", {"image_size": 32, "epochs": 1}, REFERENCE,
         {HISTORY, HEAD, GRADIENT}, set()),
        (lambda f: f"torchvision:resnet18@{f / 'resnet-5.pt'}", {}, REFERENCE | {"network"},
         {HISTORY, HEAD, GRADIENT, "score_loo_ridge_margin_reference"}, set()),
        (lambda f: f"torchvision:resnet18@{f / 'resnet-5.pt'}", {"reference": False}, {"network"},
         {HEAD, GRADIENT}, {HISTORY, "score_loo_ridge_margin_reference"}),
        (lambda f: f"code:{f / 'tiny.py'}:tiny@{f / 'tiny-2.pt'}", {"grand": ("last",), "transform": AS_THEY_ARE},
         REFERENCE | {"network", "grand"}, {HISTORY, HEAD, GRADIENT, "score_grand"}, set()),
        (lambda f: f"features:{f / 'features.npz'}", {"reference": False}, {"network"}, {HEAD, GRADIENT}, {HISTORY}),
        (lambda f: f"features:{f / 'logits.npz'}", {"reference": False}, {"network"},
         {HEAD, GRADIENT, "score_el2n"}, {HISTORY}),
        (lambda f: f"dynamics:{f / 'dynamics.jsonl'}", {"reference": False}, {"network"}, {HISTORY, GRADIENT}, set()),
        (lambda f: f"dynamics:{f / 'dynamics.jsonl'}", {}, REFERENCE | {"network"}, {HISTORY, HEAD, GRADIENT}, set()),
    ],
)  # fmt: skip
def test_a_run_of_each_kind(
    rows: Manifest, files: Path, tmp_path: Path, kind: Kinds, changes: dict[str, Any], stages: set[str],
    there: set[str], absent: set[str],
) -> None:  # fmt: skip
    found, made = run(rows, kind(files), tmp_path, **changes)
    assert made == stages | {"neighbours", "scores"}
    assert there <= set(found.table())
    assert not absent & set(found.table())


def test_a_backbone_gives_the_features_beside_the_reference_training(
    rows: Manifest, files: Path, tmp_path: Path
) -> None:
    found, made = run(rows, "reference", tmp_path, backbone=f"features:{files / 'features.npz'}")
    assert made == REFERENCE | {"backbone", "neighbours", "scores"}
    assert {HISTORY, HEAD, "score_loo_ridge_margin_reference"} <= set(found.table())
    alone, _ = run(rows, "reference", tmp_path)
    np.testing.assert_array_equal(found.samples["raw_aum"], alone.samples["raw_aum"])  # trained once
    np.testing.assert_allclose(
        found.samples["raw_loo_ridge_margin_reference"], alone.samples["raw_loo_ridge_margin"], atol=1e-9
    )
    assert (found.neighbours["features"].rows != alone.neighbours["features"].rows).any()


def test_saved_checkpoints_are_a_history(rows: Manifest, files: Path, tmp_path: Path) -> None:
    weights = tuple(str(files / f"tiny-{step}.pt") for step in range(3))
    model = f"code:{files / 'tiny.py'}:tiny@{weights[-1]}"
    found, made = run(rows, model, tmp_path, checkpoints=weights, transform=AS_THEY_ARE)
    assert made == {"network", "series", "neighbours", "scores"}
    assert found.curves.shape == (3, len(rows))
    assert {HISTORY, HEAD, GRADIENT} <= set(found.table())


@pytest.mark.parametrize("inputs", [False, True])
def test_a_recorded_training(rows: Manifest, tmp_path: Path, inputs: bool) -> None:
    project = Project.create(tmp_path / "p", rows, ProjectConfig("", model="recorded", settings=QUICK))
    with pytest.raises(InputError, match="Nothing was recorded in this project"):
        sift(project)
    seen = np.eye(2)[rows.labels] + np.random.default_rng(0).normal(0, 0.6, (len(rows), 2))
    train = np.flatnonzero(rows.train)
    with Recorder(project) as recorder:
        for epoch in range(3):
            for some in np.array_split(train, 4):
                ids = [str(rows.ids[row]) for row in some]
                extra = {"inputs": seen[some]} if inputs else {}
                recorder.log(ids, (epoch + 1) * seen[some], rows.labels[some], epoch, **extra)
    found = sift(project)
    stages = {path.name.split("-")[0] for path in project.stages.folder.glob("[!.]*-*")}
    assert stages == {"network", "neighbours", "scores"} | (set() if inputs else REFERENCE)
    assert {HISTORY, HEAD, GRADIENT} <= set(found.table())
    scores = found.table().filter(like="score_")
    assert np.isfinite(scores[rows.train]).all(axis=None)
    assert np.isfinite(found.samples["suspicion"]).all()  # held-out rows too, which were never logged
    notes, why = " ".join(found.run["notes"]), found.run["suspicion"]["why"]
    held_out = int((~rows.train).sum())
    assert f"{held_out} held-out images were never logged" in notes
    assert "in evaluation mode, without training on them" in notes
    assert "the recorded training fits" not in why
    assert "the recorded training tell" not in why
    if inputs:  # without them the reference network stands beside it, and is judged by what it said itself
        assert f"none of the {held_out} held-out images was logged to weigh them by" in why
    assert found.run["held_out_accuracy"] is None
    assert found.run["suspicion"]["held_out_images"] == 0
    assert "no held-out row was logged" in found.run["window"]["why"]
    assert ("the features of the recorded training" in why) == inputs


def test_a_recorded_training_that_logged_its_held_out_rows_is_weighed_by_them(rows: Manifest, tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p", rows, ProjectConfig("", model="recorded", settings=QUICK))
    seen = np.eye(2)[rows.labels] + np.random.default_rng(0).normal(0, 0.3, (len(rows), 2))
    with Recorder(project) as recorder:
        for epoch in range(3):
            recorder.log(list(rows.ids), (epoch + 1) * seen, rows.labels, epoch, inputs=seen)
    found = sift(project)
    assert found.run["suspicion"]["held_out_images"] == (~rows.train).sum()
    assert found.run["held_out_accuracy"] > 0.8
    assert found.run["notes"] == []


def test_inputs_that_some_batches_lack_or_that_tell_nothing_are_refused(rows: Manifest, tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(len(rows), 2))
    for name, inputs, upto, said in [
        ("some", logits, 10, "training rows were logged without inputs, others with them"),
        ("same", np.ones((len(rows), 3)), len(rows), "recorded training has the same features for every"),
    ]:
        project = Project.create(tmp_path / name, rows, ProjectConfig("", model="recorded", settings=QUICK))
        with Recorder(project) as recorder:
            recorder.log(list(rows.ids), logits, rows.labels, 0)
            recorder.log(list(rows.ids[:upto]), logits[:upto], rows.labels[:upto], 0, inputs=inputs[:upto])
        with pytest.raises(InputError, match=said):
            sift(project)


def features_of(rows: Manifest, path: Path, **arrays: np.ndarray) -> str:
    np.savez(path, sample_id=np.array([str(sample) for sample in rows.ids]), **arrays)  # type: ignore[arg-type]
    return f"features:{path}"


@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_features_that_are_the_same_everywhere_are_refused(rows: Manifest, tmp_path: Path, noise: float) -> None:
    same = np.full((len(rows), 4), 3.0) + noise * np.random.default_rng(0).normal(size=(len(rows), 4))
    spec = features_of(rows, tmp_path / "same.npz", features=same)
    said = "same.npz holds the same features for every training image, which say nothing of any label"
    with pytest.raises(InputError, match=said):
        sift(rows, spec, dataclasses.replace(QUICK, reference=False))
    with pytest.raises(InputError, match=said):
        sift(rows, "reference", dataclasses.replace(QUICK, backbone=spec))
    same[rows.train.nonzero()[0][-1]] += 1  # one image that differs is something
    sift(rows, features_of(rows, tmp_path / "one.npz", features=same), dataclasses.replace(QUICK, reference=False))


def test_a_network_that_says_the_same_of_every_image_is_refused(rows: Manifest, files: Path, tmp_path: Path) -> None:
    weights = {name: 0 * value for name, value in torch.load(files / "tiny-2.pt").items()}
    torch.save(weights, tmp_path / "dead.pt")
    settings = dataclasses.replace(QUICK, reference=False, transform=AS_THEY_ARE)
    with pytest.raises(ModelError, match="gives the same features for every training image.*--transform"):
        sift(rows, f"code:{files / 'tiny.py'}:tiny@{tmp_path / 'dead.pt'}", settings)


def test_probabilities_in_a_file_give_what_their_logits_give_and_it_is_said(rows: Manifest, tmp_path: Path) -> None:
    rng, settings = np.random.default_rng(0), dataclasses.replace(QUICK, reference=False)
    features = np.eye(2)[rows.labels] + rng.normal(0, 0.5, (len(rows), 2))
    chances = np.exp(features) / np.exp(features).sum(1, keepdims=True)
    found = sift(rows, features_of(rows, tmp_path / "p.npz", features=features, logits=chances), settings)
    twin = sift(rows, features_of(rows, tmp_path / "z.npz", features=features, logits=features), settings)
    assert "The logits in p.npz are probabilities. Their logarithms are taken" in " ".join(found.run["notes"])
    assert "probabilities" not in " ".join(twin.run["notes"])
    np.testing.assert_allclose(found.samples["raw_el2n"], twin.samples["raw_el2n"], atol=1e-6)
    np.testing.assert_allclose(found.samples["raw_oga_l2"], twin.samples["raw_oga_l2"], atol=1e-6)


def test_several_seeds_give_means_and_spreads_and_go_on_one_by_one(rows: Manifest, tmp_path: Path) -> None:
    first, _ = run(rows, "reference", tmp_path)
    trained = {path.name for path in (tmp_path / "stages").glob("features-*")}
    found, _ = run(rows, "reference", tmp_path, models=3)
    after = {path.name for path in (tmp_path / "stages").glob("features-*")}
    assert trained < after
    assert len(after) == 3
    assert {"spread_suspicion", "spread_aum"} <= set(found.table())
    alone = [sift(rows, "reference", dataclasses.replace(QUICK, seed=seed)).samples["raw_aum"] for seed in range(3)]
    np.testing.assert_allclose(found.samples["raw_aum"], np.mean(alone, axis=0), rtol=1e-5)
    assert set(plan(rows, dataclasses.replace(QUICK, models=3)).keys) == set(plan(rows, QUICK).keys)
    np.testing.assert_array_equal(first.samples["raw_aum"], alone[0])


@pytest.mark.parametrize("when", ["1", "last", "2"])
def test_grand_of_any_kept_epoch(rows: Manifest, tmp_path: Path, when: str) -> None:
    found, made = run(rows, "reference", tmp_path, grand=(when,))
    assert "grand" in made
    assert (found.samples["raw_grand"] > 0).all()
    last, _ = run(rows, "reference", tmp_path, grand=("last",))
    assert np.allclose(found.samples["raw_grand"], last.samples["raw_grand"]) == (when != "1")


@pytest.mark.parametrize(
    ("kind", "changes", "error", "message"),
    [
        (lambda f: "reference", {"grand": ("7",)}, SettingsError, r"after epoch 7; weights are kept of epochs 1, 2"),
        (lambda f: f"features:{f / 'features.npz'}", {"grand": ("last",), "reference": False}, SettingsError,
         "GraNd needs a network"),
        (lambda f: f"torchvision:resnet18@{f / 'resnet-5.pt'}", {"grand": ("last",), "reference": False},
         SettingsError, "GraNd needs logits of the data's 2 classes"),
        (lambda f: "reference", {"checkpoints": ("a.pt",)}, SettingsError, "Checkpoints are weights of a network"),
        (lambda f: "reference", {"backbone": "reference"}, SettingsError, "reference is no backbone"),
        (lambda f: f"torchvision:resnet18@{f / 'gone.pt'}", {}, ModelError, "gone.pt"),
        (lambda f: "resnet", {}, ModelError, "Unknown model 'resnet'"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(
    rows: Manifest, files: Path, tmp_path: Path, kind: Kinds, changes: dict[str, Any], error: type[Exception],
    message: str,
) -> None:  # fmt: skip
    with pytest.raises(error, match=message):
        sift(rows, kind(files), dataclasses.replace(QUICK, **changes), stages=Stages(tmp_path / "stages"))


def test_a_head_whose_classes_are_in_another_order_is_stopped_and_the_order_is_printed(
    rows: Manifest, files: Path, tmp_path: Path
) -> None:
    network = trained_tiny(rows, 180)
    right = tmp_path / "right.pt"
    torch.save(network.state_dict(), right)
    with torch.no_grad():
        network[-1].weight.copy_(network[-1].weight.flip(0).clone())
        network[-1].bias.copy_(network[-1].bias.flip(0).clone())
    turned = tmp_path / "turned.pt"
    torch.save(network.state_dict(), turned)
    settings = dataclasses.replace(QUICK, reference=False, transform=AS_THEY_ARE)
    spec = f"code:{files / 'tiny.py'}:tiny"
    assert sift(rows, f"{spec}@{right}", settings).run["fitted"] > 0.8
    with pytest.raises(ModelError, match="left.*top"):
        sift(rows, f"{spec}@{turned}", settings)


def _pixels(rows: Manifest) -> np.ndarray:
    from core.data.images import decode

    found = dict(rows.source.read(list(rows.ids)))
    images = [np.asarray(decode(found[sample], 12)) for sample in rows.ids]  # type: ignore[arg-type]
    return np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255


def test_code_is_run_only_where_it_may(rows: Manifest, files: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "bad.py").write_text(f"open({str(mark)!r}, 'w').close()\n" + TINY)
    with pytest.raises(ModelError, match="--allow-code"):
        sift(rows, f"code:{tmp_path / 'bad.py'}:tiny@{files / 'tiny-2.pt'}", QUICK, permissions=Permissions(code=False))
    assert not mark.exists()


@pytest.mark.parametrize("model", ["reference", "features"])
def test_factors_too_large_to_hold_give_the_same_evidence(
    rows: Manifest, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    spec = model if model == "reference" else f"features:{files / 'features.npz'}"
    held, _ = run(rows, spec, tmp_path / "held", reference=False, maps=True)
    monkeypatch.setattr("core.pipeline.witnesses.HELD", 0)
    lazy, _ = run(rows, spec, tmp_path / "lazy", reference=False, maps=True)
    pd.testing.assert_frame_equal(held.table(), lazy.table())
    np.testing.assert_array_equal(held.maps["gradients"], lazy.maps["gradients"])
    np.testing.assert_array_equal(held.head_probabilities, lazy.head_probabilities)


def test_everything_that_changes_a_stage_reaches_its_key(rows: Manifest, files: Path) -> None:
    weights = [str(files / f"tiny-{step}.pt") for step in range(3)]
    spec = f"code:{files / 'tiny.py'}:tiny@{weights[-1]}"

    def series(*checkpoints: str) -> str:
        return plan(rows, dataclasses.replace(QUICK, checkpoints=checkpoints), spec).keys["series"]

    lists = [weights, weights[:2], weights[::-1], weights[1:]]
    assert len({series(*each) for each in lists}) == len(lists)

    def trained(**changes: Any) -> str:
        model = f"train:resnet18@{files / 'resnet-5.pt'}"
        return plan(rows, dataclasses.replace(QUICK, **changes), model).keys["features"]

    assert len({trained(), trained(transform=AS_THEY_ARE), trained(layer="fc"), trained(seed=1)}) == 4

    def passed(**changes: Any) -> str:
        return plan(rows, dataclasses.replace(QUICK, **changes), spec).keys["network"]

    assert len({passed(), passed(transform=AS_THEY_ARE), passed(layer="4")}) == 3
    assert passed() == passed(seed=1)


def test_a_network_sees_photographs_as_its_weights_say(tmp_path: Path, files: Path) -> None:
    for row in range(12):
        folder = tmp_path / "large" / ("left", "top")[row % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row}.png").write_bytes(drawn(row % 2, row, 300))
    large = Manifest.read(f"folder:{tmp_path / 'large'}")
    sift(large, f"torchvision:resnet18@{files / 'resnet-5.pt'}", dataclasses.replace(QUICK, reference=False),
         stages=Stages(tmp_path / "stages"))  # fmt: skip
    (folder,) = (tmp_path / "stages").glob("network-*")
    assert json.loads((folder / "run.json").read_text())["transform"].startswith("resize=256,crop=224")


def test_the_record_of_several_seeds_is_that_of_the_whole_run(rows: Manifest, tmp_path: Path) -> None:
    found, _ = run(rows, "reference", tmp_path, models=2, maps=True)
    assert found.run["settings"]["models"] == 2
    assert found.run["settings"]["maps"]
    assert set(found.run["stages"]) >= {"map", "scores", "features"}
    assert (tmp_path / "stages" / f"scores-{found.run['stages']['scores']}").is_dir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line, row: {**line, **{name: [*line[name], 0.0] for name in line if "epoch" in name}},
         "holds logits of 3 classes, the data has 2"),
        (lambda line, row: None if row % 5 == 1 else line, r"training rows lack logits .* the first: left/"),
    ],
)  # fmt: skip
def test_dynamics_that_do_not_fit(
    rows: Manifest, files: Path, tmp_path: Path, change: Callable[[Any, int], Any], message: str
) -> None:
    lines = [json.loads(line) for line in (files / "dynamics.jsonl").read_text().splitlines()]
    changed = [change(line, row) for row, line in enumerate(lines)]
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps(line) for line in changed if line))
    with pytest.raises(InputError, match=message):
        sift(rows, f"dynamics:{tmp_path / 'd.jsonl'}", dataclasses.replace(QUICK, reference=False))


def test_grand_of_a_named_layer_is_that_of_the_network_without_what_follows_it(
    rows: Manifest, files: Path, tmp_path: Path
) -> None:
    (tmp_path / "soft.py").write_text(
        TINY + "\ndef soft(classes=2):\n    return nn.Sequential(*tiny(classes), nn.Softmax(1))\n"
    )
    weights = files / "tiny-2.pt"
    told = {"grand": ("last",), "transform": AS_THEY_ARE, "reference": False}
    plain, _ = run(rows, f"code:{files / 'tiny.py'}:tiny@{weights}", tmp_path / "a", **told)
    soft, _ = run(rows, f"code:{tmp_path / 'soft.py'}:soft@{weights}", tmp_path / "b", **told, layer="4")
    np.testing.assert_allclose(plain.samples["raw_grand"], soft.samples["raw_grand"], rtol=1e-5)


def test_code_is_read_anew_and_known_by_all_its_files(rows: Manifest, files: Path, tmp_path: Path) -> None:
    inner = tmp_path / "nets" / "inner.py"
    inner.parent.mkdir()
    inner.write_text(TINY)
    (tmp_path / "own.py").write_text("from nets.inner import tiny\n")
    spec = parse_model(f"code:{tmp_path / 'own.py'}:tiny@{files / 'tiny-2.pt'}")
    before = model_digest(spec)
    allowed = (rows.classes, AS_THEY_ARE, Permissions(), 12)
    assert load(spec, *allowed).network[0].stride == (2, 2)
    inner.write_text(TINY.replace("stride=2", "stride=3"))
    assert model_digest(spec) != before
    assert load(spec, *allowed).network[0].stride == (3, 3)
    assert "nets" not in sys.modules


def test_a_network_trained_here_by_name_is_called_the_persons_own(rows: Manifest, tmp_path: Path) -> None:
    found, _ = run(rows, "train:shufflenet_v2_x0_5", tmp_path, image_size=32, epochs=1)
    assert set(found.run["heads"]) == {"model"}
    assert "reference" not in found.run["suspicion"]["why"]


def test_loading_a_network_leaves_the_global_generator_as_it_was(rows: Manifest, files: Path) -> None:
    before = torch.get_rng_state()
    load(parse_model(f"torchvision:resnet18@{files / 'resnet-5.pt'}"), rows.classes, None, Permissions(), 12)
    load(parse_model(f"code:{files / 'tiny.py'}:tiny"), rows.classes, None, Permissions(), 12)
    assert torch.equal(torch.get_rng_state(), before)
