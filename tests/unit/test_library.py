"""The list of projects: quick, inside the roots, and what is wrong with one stands on its card."""

import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.data.manifest import Manifest
from core.errors import InputError, ProjectError
from core.library import card, open_project, projects
from core.project import Project
from core.review.decisions import Review
from core.roots import OUTSIDE, Roots
from tests.helpers import drawn_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "out").mkdir()
    drawn_folder(tmp_path / "root/images", 12)
    return tmp_path / "root"


def made(folder: Path, root: Path) -> Project:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Project.create(folder, Manifest.read(f"folder:{root}/images"))


def names(root: Path) -> list[str]:
    return [each.name for each in projects(Roots.parse([str(root)]))]


def test_a_card_says_what_is_there(root: Path) -> None:
    project = made(root / "pets", root)
    review = Review(project, reviewer="ann")
    held = project.manifest().train
    ids = [str(name) for name, train in zip(project.manifest().ids, held, strict=True) if train]
    review.decide(ids[:3], "keep")
    review.decide(ids[:1], "undecided")
    review.decide(ids[3:5], "exclude")
    review.undo()
    found = card(root / "pets", Roots.parse([str(root)]))
    assert (found.name, found.images, found.classes, found.decided) == ("pets", 12, 2, 2)
    assert (found.sifted, found.running, found.demo, found.error) == (False, False, False, None)
    assert found.source == f"folder:{root}/images"
    assert found.decided == (review.current()["action"] != "undecided").sum()


def test_a_project_of_built_in_data_is_a_demo(root: Path) -> None:
    Project.create(root / "demo", Manifest.read("digits", limit=20))
    assert card(root / "demo", Roots.parse([str(root)])).demo


def test_a_run_and_scores_are_seen(root: Path) -> None:
    project = made(root / "p", root)
    (project.folder / "stages/latest.json").write_text("{}")
    with project.lock():
        found = card(project.folder, Roots.parse([str(root)]))
    assert (found.sifted, found.running) == (True, True)
    assert not card(project.folder, Roots.parse([str(root)])).running


def test_projects_are_found_in_a_root_and_two_levels_below_newest_first(root: Path, tmp_path: Path) -> None:
    first = made(root / "images-project", root)
    for at, place in enumerate(("a", "b/c", "b/d/too-deep/e", ".hidden", "f/.hidden")):
        shutil.copytree(first.folder, root / place)
        os.utime(root / place / "project.toml", (2_000_000_000 - 10**8 * (at + 6),) * 2)
    os.utime(first.folder / "project.toml", (1_000_000_000,) * 2)
    (root / "link").symlink_to(root / "b")
    assert names(root) == ["a", "c", "images-project"]
    assert names(root / "b/d/too-deep/e") == ["e"]  # a root may be a project itself


def test_a_project_is_not_searched_for_others(root: Path) -> None:
    project = made(root / "p", root)
    shutil.copytree(project.folder, root / "copy")
    shutil.move(root / "copy", project.folder / "exports/inner")
    assert names(root) == ["p"]


def test_a_folder_in_two_roots_is_listed_once(root: Path) -> None:
    made(root / "a/p", root)
    assert len(projects(Roots((root, root / "a")))) == 1


def test_no_projects_is_an_empty_list(root: Path) -> None:
    assert names(root) == []


def damage(kind: str, folder: Path, out: Path) -> None:
    toml, manifest = folder / "project.toml", folder / "manifest.parquet"
    if kind == "toml damaged":
        toml.write_text("format = [")
    elif kind == "toml of a newer version":
        toml.write_text("format = 99")
    elif kind == "toml no text":
        toml.write_bytes(b"\xff\xfe\x00")
    elif kind == "toml large":
        with toml.open("ab") as file:
            file.truncate(2**40)
    elif kind == "toml a pipe":
        toml.unlink()
        os.mkfifo(toml)
    elif kind == "toml a folder":
        toml.unlink()
        toml.mkdir()
    elif kind == "toml a link out":
        toml.rename(out / "project.toml")
        toml.symlink_to(out / "project.toml")
    elif kind == "toml a device":
        toml.unlink()
        toml.symlink_to("/dev/zero")
    elif kind == "manifest missing":
        manifest.unlink()
    elif kind == "manifest damaged":
        manifest.write_bytes(b"PAR1 nothing PAR1")
    elif kind == "manifest a link out":
        manifest.rename(out / "manifest.parquet")
        manifest.symlink_to(out / "manifest.parquet")
    elif kind == "manifest a pipe":
        manifest.unlink()
        os.mkfifo(manifest)
    elif kind == "log damaged":
        (folder / "review.sqlite").write_bytes(b"no database" * 1000)
    else:
        with sqlite3.connect(folder / "review.sqlite") as db:
            db.execute("CREATE TABLE other (x)")


DAMAGES = ["toml damaged", "toml of a newer version", "toml no text", "toml large", "toml a pipe", "toml a folder",
           "toml a link out", "toml a device", "manifest missing", "manifest damaged", "manifest a link out",
           "manifest a pipe", "log damaged", "log of another program"]  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGES)
def test_what_is_wrong_with_a_project_stands_on_its_card(kind: str, root: Path, tmp_path: Path) -> None:
    made(root / "good", root)
    damage(kind, made(root / "bad", root).folder, tmp_path / "out")
    found = {each.name: each for each in projects(Roots.parse([str(root)]))}
    assert found["bad"].error
    assert found["bad"].images == 0
    assert found["good"].error is None


def test_a_log_that_never_ends_is_given_up(root: Path) -> None:
    project = made(root / "p", root)
    with sqlite3.connect(project.review_path) as db:
        db.executescript(
            "CREATE VIEW undone AS SELECT 1 AS batch; CREATE VIEW log AS WITH RECURSIVE f(x) AS (SELECT 1 UNION ALL "
            "SELECT x + 1 FROM f) SELECT 'decide' AS kind, 2 AS batch, 'keep' AS action, x AS seq, 's' AS sample_id "
            "FROM f"
        )
    db.close()
    assert "cannot be counted now" in (card(project.folder, Roots.parse([str(root)])).error or "")


def test_a_log_or_lock_that_is_a_link_is_not_touched(root: Path, tmp_path: Path) -> None:
    project = made(root / "p", root)
    other = tmp_path / "out/precious"
    other.write_text("precious")
    for name in (".lock", "review.sqlite"):
        (project.folder / name).symlink_to(other)
    found = card(project.folder, Roots.parse([str(root)]))
    assert (found.decided, found.running, found.error) == (0, False, None)
    assert other.read_text() == "precious"


def test_listing_leaves_no_trace(root: Path) -> None:
    project = made(root / "p", root)
    Review(project, reviewer="ann").decide(
        [str(project.manifest().ids[int(project.manifest().train.argmax())])], "keep"
    )
    before = sorted(path.name for path in project.folder.iterdir())
    assert card(project.folder, Roots.parse([str(root)])).decided == 1
    assert sorted(path.name for path in project.folder.iterdir()) == before


def test_a_manifest_of_a_million_rows_is_not_parsed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = made(root / "p", root)
    pq.write_table(pa.table({"sample_id": pa.array(range(1_000_000))}), project.folder / "manifest.parquet")
    monkeypatch.setattr(Project, "manifest", lambda _self: pytest.fail("the manifest was parsed"))
    assert card(project.folder, Roots.parse([str(root)])).images == 1_000_000


# --- opening one ---


def test_a_project_is_opened_by_its_path(root: Path) -> None:
    made(root / "p", root)
    roots = Roots.parse([str(root)])
    for text in ("p", f"{root}/p", f"{root}/images/../p"):
        assert open_project(text, roots).folder == root / "p"


@pytest.mark.parametrize("text", ["../out/p", "link", "", "~root", "/", "p\0", "/proc/self/cwd"])
def test_a_project_outside_is_not_opened(text: str, root: Path, tmp_path: Path) -> None:
    made(tmp_path / "out/p", root)
    (root / "link").symlink_to(tmp_path / "out/p")
    with pytest.raises(InputError):
        open_project(text, Roots.parse([str(root)]))


def test_a_folder_without_a_project_is_told(root: Path) -> None:
    with pytest.raises(ProjectError, match="is no project"):
        open_project("images", Roots.parse([str(root)]))


@pytest.mark.parametrize(
    "name", ["project.toml", "manifest.parquet", "problems.parquet", "review.sqlite", "stages", "stages/scores-1",
             "exports", "thumbs", "job", "stages/latest.json"]
)  # fmt: skip
def test_a_project_with_a_link_out_is_not_opened(name: str, root: Path, tmp_path: Path) -> None:
    project = made(root / "p", root)
    path = project.folder / name
    outside = tmp_path / "out/target"
    if path.is_file():
        path.rename(outside)
    elif path.is_dir():
        shutil.move(path, outside)
    else:
        outside.write_text("{}")
    path.symlink_to(outside)
    with pytest.raises(InputError, match=OUTSIDE):
        open_project("p", Roots.parse([str(root)]))


def test_a_link_within_the_roots_is_good(root: Path) -> None:
    project = made(root / "p", root)
    (root / "elsewhere").mkdir()
    (project.folder / "thumbs").symlink_to(root / "elsewhere")
    assert open_project("p", Roots.parse([str(root)])).folder == project.folder


def test_listing_does_not_wait_for_a_pipe(root: Path, tmp_path: Path) -> None:
    damage("toml a pipe", made(root / "p", root).folder, tmp_path / "out")
    thread = threading.Thread(target=projects, args=(Roots.parse([str(root)]),), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
