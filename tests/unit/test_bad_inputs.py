"""Every bad input on its own: what is said of it, what remains, and that it works when the cause is gone."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
import torch
import torchvision

from core import cli
from core.project import Project
from tests.accidents import told, unfinished
from tests.bad_inputs import BAD_INPUTS, GOOD, BadInput, good
from tests.helpers import QUICK_FLAGS

NETWORK = "shufflenet_v2_x0_5"  # small, and like many others


def listing(root: Path) -> list[tuple[bytes, int, int]]:
    """Every name below a folder with its size and time of change; nothing is opened, so a pipe does not hang."""
    found = sorted(os.fsencode(path) for path in root.rglob("*"))
    return [(name, os.lstat(name).st_size, os.lstat(name).st_mtime_ns) for name in found]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What the last command said of itself, in one line."""
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
def test_a_bad_input_is_told_and_costs_nothing_else(
    bad: BadInput, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good(tmp_path)
    command = ["new", str(tmp_path / "p"), *bad.put(tmp_path)]
    before = listing(tmp_path / "images")
    status = cli.main(command)
    assert listing(tmp_path / "images") == before
    if bad.refused:
        assert (status, said(capsys)) == (1, f"gradsift: {bad.refused.format(root=tmp_path)}")
        assert not list(tmp_path.glob("*p*.part"))
        assert not (tmp_path / "p").exists()
        bad.mend(tmp_path)
        assert cli.main(command) == 0, capsys.readouterr().err
    else:
        assert status == 0, said(capsys)
    manifest = Project.open(tmp_path / "p").manifest()
    assert len(manifest) == bad.taken
    assert dict(zip(manifest.problems["sample_id"], manifest.problems["reason"], strict=True)) == {
        **bad.aside,
        **bad.left,
    }
    assert bad.noted in capsys.readouterr().out
    assert cli.main(["problems", str(tmp_path / "p")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(bad.aside) + len(bad.left)


def test_every_name_is_given_once() -> None:
    names = [bad.name for bad in BAD_INPUTS]
    assert len(names) == len(set(names))


def test_whatever_is_taken_goes_through_to_the_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All odd images together, a class of one sample and one that train lacks among them."""
    good(tmp_path)
    for bad in BAD_INPUTS:
        if bad.taken > GOOD:
            bad.put(tmp_path)
            for path in (tmp_path / "images" / "left").glob("odd.*"):
                path.rename(path.with_stem(f"{bad.name}"))
    names = sorted(str(path.relative_to(tmp_path / "images")) for path in (tmp_path / "images").rglob("*.*"))
    labels = ["rare" if at == 0 else "late" if at == 1 else name.split("/")[0] for at, name in enumerate(names)]
    splits = ["test" if label == "late" else "train" for label in labels]
    table = pd.DataFrame({"path": names, "label": labels, "split": splits})
    table.to_csv(tmp_path / "images" / "t.csv", index=False)
    project = str(tmp_path / "p")
    assert cli.main(["new", project, "--source", f"table:{tmp_path / 'images' / 't.csv'}"]) == 0
    assert len(Project.open(project).manifest()) == len(names)
    assert cli.main(["sift", project, *QUICK_FLAGS]) == 0, said(capsys)
    capsys.readouterr()
    assert cli.main(["show", project, "--top", "100"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(names)  # a heading, and all but the one that is held out
    assert cli.main(["export", project, "--to", str(tmp_path / "out"), "--format", "csv", "jsonl", "parquet"]) == 0
    for ending in ("csv", "jsonl", "parquet"):
        again = str(tmp_path / ending)
        assert cli.main(["new", again, "--source", f"table:{tmp_path / 'out' / f'manifest.{ending}'}"]) == 0
        assert set(Project.open(again).manifest().ids) == set(names)


WEIGHTS = {
    "another architecture": (
        "resnet18",
        lambda state: state,
        "weights.pt does not fit resnet18. Of another shape: fc.weight (2×1024 in the file, 1000×512 in the network)",
    ),
    "values that are no numbers": (
        NETWORK,
        lambda state: {**state, "fc.weight": torch.full_like(state["fc.weight"], torch.nan)},
        "weights.pt holds values that are not finite: 2,048 of 2,048 in fc.weight. The training that wrote it",
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_cannot_be_used_are_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    architecture, spoil, expected = WEIGHTS[name]
    good(tmp_path)
    weights, project = tmp_path / "weights.pt", tmp_path / "p"
    state = torchvision.models.get_model(NETWORK, num_classes=2).state_dict()
    torch.save(spoil(state), weights)
    source = ["--source", f"folder:{tmp_path / 'images'}"]
    assert told("new", project, *source).status == 0
    sift = ["sift", project, *QUICK_FLAGS, "--no-reference", "--model"]
    found = told(*sift, f"torchvision:{architecture}@{weights}")
    assert found.status == 1
    assert found.said.startswith(f"gradsift: {expected}")
    assert not unfinished(project)
    torch.save(state, weights)
    assert told(*sift, f"torchvision:{NETWORK}@{weights}").status == 0
