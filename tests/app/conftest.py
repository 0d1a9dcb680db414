"""The pages without a browser: Streamlit's own harness runs them, and what they draw is read as a person would.

One hand-made scored project is made per session and copied for each test, so that no test sees another's decisions.
What the pages ask in the background (the cost of a run) is answered at once by `Answered`; `real_asking` undoes that.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.runtime.context import ContextProxy
from streamlit.testing.v1 import AppTest

from core.commands import new
from core.data.thumbs import make_thumbs
from core.findings import Findings, Neighbours
from core.jobs import ask
from core.project import Project
from core.reasons import reasons
from core.serve import AppOptions
from pages.ui import cached
from tests.helpers import drawn

ROOT = Path(__file__).parents[2]
PAGES = ("load", "score", "map", "review", "verify", "export", "learn", "present")
IMG = "<img src=x onerror=alert(1)>"
MARK = "**bold** $x$ :material/home: [a](http://x)"
CLASSES = (MARK, IMG, "cat")  # in the order of their code points
PER_CLASS = 50
SCORES = ("oga_forest", "oga_l1", "oga_l2", "loss")
COST = {
    "seconds": {"scores": 60.0}, "memory_mb": 1234, "disk_mb": 56, "device": "cpu", "device_memory_mb": None,
}  # fmt: skip
MARKUP = r"\`*_{}[]()<>#+-.!|~$:&^="


class Answered:
    """A question whose answer is there."""

    def __init__(self, answer: dict[str, Any] | str | None) -> None:
        self.answer = answer

    def poll(self) -> dict[str, Any] | str | None:
        return self.answer

    def cancel(self) -> None:
        self.answer = None


@dataclass
class World:
    """Where the app lives during a test, and what it asked and started."""

    root: Path
    told: Callable[..., None]
    asked: list[list[str]] = field(default_factory=list)
    answer: dict[str, Any] | str | None = field(default_factory=lambda: dict(COST))
    cookies: dict[str, str] = field(default_factory=dict)

    def page(self, name: str, project: object = None, *, alone: bool = False, **query: object) -> AppTest:
        """Run a page, through the router or alone, and look at it for what no screen may show."""
        at = AppTest.from_file(str(ROOT / "pages" / f"{name}.py" if alone else ROOT / "app.py"), default_timeout=30)
        for key, value in ({"project": project} | query).items():
            if value is not None:
                at.query_params[key] = str(value.folder if isinstance(value, Project) else value)
        if not alone:
            at.switch_page(f"pages/{name}.py")
        return sound(at.run())


def sound(at: AppTest) -> AppTest:
    """The page, after a look: no exception, no failure inside, no name that Markdown would read."""
    assert not at.exception, [each.message for each in at.exception]
    told = words(at)
    assert not [text for text in told if "Something went wrong inside" in text], told
    for text in (*_markdown(at), *_labels(at)):
        assert not any(name in text for name in (IMG, MARK)), text
    for each in at.get("html"):
        assert not any(name in str(each.proto.body) for name in ("<img src=x", "<svg"))
    return at


def words(at: AppTest) -> list[str]:
    """Everything the page says, as a person reads it."""
    return [read(text) for text in (*_markdown(at), *(each.value for each in at.text))]


def read(text: str) -> str:
    """Markdown as it comes out where every sign is escaped."""
    text = re.sub(r"(?<!\\)`", "", text)  # what is shown as code
    for sign in MARKUP[1:]:
        text = text.replace(f"\\{sign}", sign)
    return text.replace("\\\\", "\\").replace("\u2060", "")


def says(at: AppTest, text: str) -> bool:
    """Whether the page says this somewhere."""
    return any(text in each for each in words(at))


def button(at: AppTest, start: str) -> Any:
    """The one button whose label starts so."""
    found = [each for each in at.button if read(each.label).startswith(start)]
    assert len(found) == 1, [each.label for each in at.button]
    return found[0]


def labels(at: AppTest) -> list[str]:
    """The labels of all buttons that can be pressed."""
    return [read(each.label) for each in at.button if not each.disabled]


def downloads(at: AppTest) -> list[str]:
    """The labels of the download buttons."""
    return [str(each.proto.label) for each in at.get("download_button")]


def _markdown(at: AppTest) -> list[str]:
    drawn_ = (at.markdown, at.caption, at.subheader, at.error, at.warning, at.info, at.success)
    found = [str(each.value) for kind in drawn_ for each in kind]
    return found + [str(each.proto.text) for each in at.get("progress")]


def _labels(at: AppTest) -> list[str]:
    kinds = ("button", "checkbox", "toggle", "radio", "selectbox", "multiselect", "text_input", "number_input")
    kinds = (*kinds, "slider", "select_slider", "download_button", "metric", "expander", "tab", "button_group")
    return [str(getattr(each, "label", "") or getattr(each.proto, "label", "")) for k in kinds for each in at.get(k)]


@contextmanager
def another_run(folder: Path) -> Iterator[None]:
    """A process that holds the project as a run started from Python code does."""
    code = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]):\n print('held', flush=True)\n sys.stdin.read()"
    command = [sys.executable, "-c", code, str(folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            process.kill()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An app that may read an empty folder; `told` starts it anew with other options."""

    def told(*roots: Path, read_only: bool = False, project: Path | None = None) -> None:
        for name, value in AppOptions(tuple(roots), read_only, project).environment().items():
            monkeypatch.setenv(name, value)
        forget()

    root = tmp_path / "root"
    root.mkdir()
    made = World(root, told)

    def answered(arguments: list[str], timeout: float = 0.0) -> Answered:
        made.asked.append(list(arguments))
        return Answered(made.answer)

    monkeypatch.setattr(cached, "ask", answered)
    monkeypatch.setattr(ContextProxy, "cookies", property(lambda _self: made.cookies))  # the harness has none
    told(root)
    yield made
    forget()


@pytest.fixture
def real_asking(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages' questions are asked of the real command line."""
    monkeypatch.setattr(cached, "ask", ask)


def forget() -> None:
    """Empty what the app keeps over reruns, as a start of the app does."""
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """150 images of three classes with names that try to be markup, as a table; scored by hand, nothing decided."""
    root = tmp_path_factory.mktemp("made")
    data = root / "data"
    (data / "images").mkdir(parents=True)
    lines = []
    for code, label in enumerate(CLASSES):
        for row in range(PER_CLASS):
            name = f"{code}-{row:02d}.png"
            (data / "images" / name).write_bytes(drawn(code % 2, 100 * code + row))
            lines.append({"path": f"images/{name}", "label": label, "id": name})
    pd.DataFrame(lines).to_csv(data / "rows.csv", index=False)
    columns = {"path_column": "path", "label_column": "label", "id_column": "id"}
    new(root / "project", f"table:{data / 'rows.csv'}", columns=columns)
    project = Project.open(root / "project")
    found = findings_of(project)
    stages = {name: project.folder / "stages" / f"{name}-0" for name in ("scores", "map")}
    for folder in stages.values():
        folder.mkdir()
    found.save_scores(stages["scores"])
    for space, xy in found.maps.items():
        np.save(stages["map"] / f"{space}.npy", xy)
    project.remember(stages)
    make_thumbs(project.manifest(), project.folder / "thumbs")
    return project


@pytest.fixture
def scored(world: World, made: Project) -> Project:
    """A copy of the scored project inside the app's root; its images lie in another root."""
    shutil.copytree(made.folder, world.root / "scored")
    world.told(world.root, made.folder.parent / "data")
    return Project.open(world.root / "scored")


@pytest.fixture
def unscored(scored: Project) -> Project:
    """The project before its first run."""
    shutil.rmtree(scored.folder / "stages")
    (scored.folder / "stages").mkdir()
    return scored


def findings_of(project: Project) -> Findings:
    """Evidence made by hand: every fifth image is suggested the next class, with reasons of several kinds."""
    rows = project.manifest().rows
    n, rng = len(rows), np.random.default_rng(0)
    given = rows["given_label"].astype(str)
    codes = pd.Index(CLASSES).get_indexer(pd.Index(given))
    wrong = np.arange(n) % 5 == 0
    suggested = np.where(wrong, (codes + 1) % 3, codes)
    head = np.full((n, 3), 0.1, np.float32)
    head[np.arange(n), suggested] = 0.8
    names = np.array(CLASSES, object)
    evidence = pd.DataFrame({
        "sample_id": rows["sample_id"].astype(str), "filepath": rows["filepath"].astype(str),
        "split": rows["split"].astype(str), "given_label": given, "predicted_label": given, "predicted_prob": 0.9,
        "suggested_label": names[suggested], "suggested_prob": 0.8, "suspicion": rng.permutation(n) * 100.0 / (n - 1),
    })  # fmt: skip
    evidence["reason"] = reasons(evidence.assign(given_prob=np.where(wrong, 0.1, 0.8)))
    for name in SCORES:
        evidence[f"score_{name}"] = rng.permutation(n) * 100.0 / (n - 1)
        evidence[f"raw_{name}"] = rng.random(n)
    near = Neighbours(
        np.stack([(np.arange(n) + step) % n for step in range(1, 7)], axis=1).astype(np.int32),
        np.full((n, 6), 0.5, np.float32),
    )  # fmt: skip
    maps = {space: rng.normal(size=(n, 2)).astype(np.float32) for space in ("gradients", "features")}
    run = {
        "settings": {"seed": 0, "trees": 20}, "epochs": 2, "device": "cpu", "tool": "0", "manifest": "abc",
        "suspicion": {"scores": ["weighted_aum"], "memorised": False, "why": "by hand"},
    }  # fmt: skip
    return Findings(
        evidence.set_index("sample_id"), CLASSES, run, head, np.full((2, n), 0.5, np.float32),
        {"features": near, "gradients": near}, maps,
    )  # fmt: skip
