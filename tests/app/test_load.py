"""Load: the fields of each kind of source, what is checked while it is typed, and the project made of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core import jobs
from core.commands import new
from core.data.sources import SOURCES
from core.models.specs import MODELS
from core.preview import MODEL_FIELDS, SOURCE_FIELDS
from core.project import Project
from pages.ui import demos
from tests.app.conftest import IMG, World, button, forget, labels, read, says, sound, words
from tests.helpers import drawn_folder

KINDS = [kind.name for kind in SOURCES if kind.name not in ("digits", "pictograms")]


@pytest.mark.parametrize("kind", KINDS)
def test_the_fields_are_those_of_the_kind(world: World, kind: str) -> None:
    at = sound(world.page("load").radio(key="n-kind").set_value(kind).run())
    fields = SOURCE_FIELDS[kind]
    assert [each.key for each in at.text_input] == [f"n-{kind}-{field.key}" for field in fields]
    assert [each.label for each in at.text_input] == [field.label for field in fields]
    required = next(field.label for field in fields if field.required)
    assert says(at, f"Waits for: {required.lower()}.")
    assert "Use this data" not in labels(at)


def filled(world: World, folder: str, **more: str) -> object:
    """The page with a folder source typed in."""
    at = world.page("load")
    at.text_input(key="n-folder-path").set_value(folder)
    for key, value in more.items():
        at.text_input(key=f"n-folder-{key}").set_value(value)
    return sound(at.run())


MODEL_KINDS = [name for name in MODELS if name != "code"]


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_the_fields_of_a_model_are_those_of_its_kind(world: World, kind: str) -> None:
    drawn_folder(world.root / "pets", 10)
    at = filled(world, "pets")
    assert list(at.selectbox(key="n-model").options) == [MODELS[name].title for name in MODEL_KINDS]
    at = sound(at.selectbox(key="n-model").set_value(kind).run())
    keys = [each.key for each in at.text_input if str(each.key).startswith("n-model")]
    assert keys == [f"n-model-{kind}-{field.key}" for field in MODEL_FIELDS[kind]]
    required = [field.label for field in MODEL_FIELDS[kind] if field.required]
    assert says(at, f"Waits for: {required[0].lower()}." if required else "Use this data") or not required
    assert ("Use this data" in labels(at)) is not bool(required)


def test_code_of_ones_own_is_a_choice_only_where_that_was_allowed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert says(world.page("load"), "where the app was started with --allow-code")
    monkeypatch.setenv("GRADSIFT_ALLOW_CODE", "1")
    forget()
    at = world.page("load")
    assert MODELS["code"].title in at.selectbox(key="n-model").options


def test_a_model_goes_into_the_measuring_and_the_project(world: World) -> None:
    drawn_folder(world.root / "pets", 10)
    (world.root / "w.pt").write_bytes(b"x")
    at = filled(world, "pets").selectbox(key="n-model").set_value("torchvision").run()  # type: ignore[attr-defined]
    at.text_input(key="n-model-torchvision-name").set_value("resnet18")
    at = sound(at.text_input(key="n-model-torchvision-weights").set_value("w.pt").run())
    spec = f"torchvision:resnet18@{world.root}/w.pt"
    source = f"folder:{world.root}/pets"
    assert world.asked[-1] == ["new", "unused", "--source", source, "--model", spec, "--dry-run", "--json"]
    world.answer = None
    sound(button(at, "Use this data").click().run())
    assert world.asked[-1][:6] == ["new", str(world.root / "pets-2"), "--source", source, "--model", spec]
    at = at.text_input(key="n-model-torchvision-weights").set_value("/etc/passwd").run()
    assert "outside the folders" in read(at.error[0].value)


@pytest.mark.parametrize("relative", [False, True])
def test_a_folder_is_checked_as_it_is_typed(world: World, relative: bool) -> None:
    folder = drawn_folder(world.root / "pets", 30)
    (folder / "left" / "notes.txt").write_text("no image")
    at = filled(world, "pets" if relative else str(folder))
    assert not at.error
    figures = {each.label: each.value for each in at.metric}
    assert (figures["Images"], figures["Classes"]) == ("30", "2")
    strip = [str(each.proto.body) for each in at.get("html") if "gs-classes" in each.proto.body][-1]  # below the demos'
    assert strip.count("15 images") == 2
    assert strip.count("data:image/webp;base64,") == 12
    assert says(at, "A run takes about 1 min 00 s on cpu, 1,234 MB of memory and 56 MB of disk at most.")
    assert world.asked == [["new", "unused", "--source", f"folder:{folder}", "--dry-run", "--json"]]
    assert "Use this data" in labels(at)
    assert at.text_input(key=f"n-folder-folder:{'pets' if relative else folder}").value == str(world.root / "pets-2")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/etc", "/etc is outside the folders this app may read"),
        ("../..", "is outside the folders this app may read"),
        ("~root", "~root is another's home directory. Write the whole path."),
        ("http://example.org/pets", "is an address, not a path."),
        ("nowhere", "nowhere"),
        ("x" * 5000, "characters; 4,096 is the limit."),
        ("empty", "empty"),
        (IMG, IMG),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_words(world: World, path: str, told: str) -> None:
    (world.root / "empty").mkdir()
    at = filled(world, path)
    assert len(at.error) == 1
    assert told in read(at.error[0].value)
    assert "Use this data" not in labels(at)
    assert not world.asked


def test_a_link_out_of_the_roots_is_refused(world: World, tmp_path: Path) -> None:
    drawn_folder(tmp_path / "secret", 10)
    (world.root / "link").symlink_to(tmp_path / "secret")
    at = filled(world, "link")
    assert "outside the folders this app may read" in read(at.error[0].value)


def test_a_cost_that_cannot_be_measured_is_told(world: World) -> None:
    drawn_folder(world.root / "pets", 10)
    world.answer = "The disk is **full**."
    at = filled(world, "pets")
    assert says(at, "What a run will take could not be measured: The disk is **full**.")
    assert "Use this data" in labels(at)


def test_a_cost_is_waited_for(world: World) -> None:
    drawn_folder(world.root / "pets", 10)
    world.answer = None
    at = filled(world, "pets")
    assert says(at, "Measuring what a run will take")


def test_use_this_data_makes_a_project(world: World, real_asking: None) -> None:
    folder = drawn_folder(world.root / "pets", 30)
    at = filled(world, str(folder))
    at = button(at, "Use this data").click().run()
    asking, target = at.session_state["making"]
    assert says(at, "Reading and checking every image")
    assert isinstance(asking.wait(60), dict)
    at = sound(at.run())
    assert says(at, "pets-2: 30 images of 2 classes")
    assert at.query_params["project"] == str(target) == str(world.root / "pets-2")
    project = Project.open(target)
    assert project.classes == ("left", "top")
    assert project.config.source_spec == f"folder:{folder}"


@pytest.mark.parametrize(("typed", "inside"), [("/tmp/elsewhere", False), ("mine/first", True), ("../x", False)])
def test_the_place_of_a_project_lies_in_the_roots(
    world: World, monkeypatch: pytest.MonkeyPatch, typed: str, inside: bool
) -> None:
    drawn_folder(world.root / "pets", 10)
    at = filled(world, "pets")
    at.text_input(key="n-folder-folder:pets").set_value(typed)
    world.answer = None
    at = button(at, "Use this data").click().run()
    told = [each for each in world.asked if each[1] != "unused"]
    if inside:
        place = str(world.root / typed)
        assert told == [["new", place, "--source", f"folder:{world.root / 'pets'}", "--model", "reference", "--json"]]
    else:
        assert told == []
        assert says(at, "is outside the folders this app may read")


@pytest.mark.parametrize("column", ["", ":label"])
def test_files_that_are_filled_in_are_handed_on_by_their_whole_paths(world: World, column: str) -> None:
    folder = drawn_folder(world.root / "pets", 10)
    (world.root / "names.txt").write_text("left\ntop\n")
    lines = [f"{'left' if row % 2 == 0 else 'top'}/{row:03d}.png,left" for row in range(9)]
    (world.root / "labels.csv").write_text("\n".join(["id,label", *lines, "top/009.png,top"]))
    at = filled(world, "pets", classes="names.txt", labels=f"labels.csv{column}")
    assert not at.error, words(at)
    whole = ["--labels", f"{world.root / 'labels.csv'}{column}", "--classes", str(world.root / "names.txt")]
    assert world.asked == [["new", "unused", "--source", f"folder:{folder}", *whole, "--dry-run", "--json"]]
    world.answer = None
    button(at, "Use this data").click().run()
    assert world.asked[-1][-5:] == [*whole, "--json"]


@pytest.mark.parametrize("field", ["classes", "labels"])
def test_a_file_outside_the_roots_is_refused(world: World, tmp_path: Path, field: str) -> None:
    drawn_folder(world.root / "pets", 10)
    (tmp_path / "names.txt").write_text("left\ntop\n")
    at = filled(world, "pets", **{field: str(tmp_path / "names.txt")})
    assert "is outside the folders this app may read" in read(at.error[0].value)
    assert not world.asked


def test_a_project_that_could_not_be_made_says_why(world: World) -> None:
    drawn_folder(world.root / "pets", 10)
    at = filled(world, "pets")
    world.answer = "The disk is **full**."
    at = sound(button(at, "Use this data").click().run())
    at = at if at.error else sound(at.run())
    assert read(at.error[0].value) == "The disk is **full**."
    assert "Use this data" in labels(at)


@pytest.mark.parametrize(
    ("start", "data", "folder"),
    [("Open the digits", "digits", "gradsift-demo-digits"), ("Open the pictograms", "pictograms", "gradsift-demo")],
)
def test_a_demo_is_one_click(
    world: World, unscored: Project, monkeypatch: pytest.MonkeyPatch, start: str, data: str, folder: str
) -> None:
    calls: list[tuple[str, object]] = []

    def demo_project(where: Path, kind: str, _progress: object) -> Project:
        calls.append((kind, where))
        return unscored

    monkeypatch.setattr(demos.opening, "demo_project", demo_project)
    monkeypatch.setattr(jobs, "start", lambda project, arguments: calls.append(("start", arguments)))
    at = sound(button(world.page("load"), start).click().run())
    assert calls == [(data, world.root / folder), ("start", [])]
    assert at.query_params["project"] == str(unscored.folder)
    assert says(at, "No scores yet.")


def test_a_scored_demo_is_opened_and_not_run_again(
    world: World, scored: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demos.opening, "demo_project", lambda *_: scored)
    monkeypatch.setattr(jobs, "start", lambda *_: pytest.fail("it was started"))
    at = sound(button(world.page("load"), "Open the digits").click().run())
    assert says(at, "0 of 7 reviewed")


def test_a_folder_that_holds_another_project_is_told(world: World) -> None:
    other = world.root / "gradsift-demo-digits"
    new(other, f"folder:{drawn_folder(world.root / 'pets', 10)}")
    at = button(world.page("load"), "Open the digits").click().run()
    assert says(at, "holds another project")


def test_projects_are_listed_newest_first_and_opened(world: World, scored: Project) -> None:
    new(world.root / "b **bold**", f"folder:{drawn_folder(world.root / 'pets', 10)}")
    (world.root / "broken").mkdir()
    (world.root / "broken" / "project.toml").write_text("format = [")
    at = world.page("load", scored)
    titles = [each.value for each in at.text]
    assert sorted(titles) == ["b **bold**", "broken", "scored (open)"]
    assert titles[-1] == "scored (open)"
    assert says(at, "10 images, 2 classes, not scored yet, 0 decided")
    assert says(at, "project.toml cannot be read")
    opens = [each for each in at.button if each.label == "Open"]
    assert len(opens) == 2
    opened = sound(at.button(key=f"open-{world.root / 'b **bold**'}").click().run())
    assert says(opened, "b **bold**: 10 images of 2 classes")
    at = world.page("load", scored)
    assert says(sound(at.button(key=f"open-{scored.folder}").click().run()), "0 of 7 reviewed")


def test_of_many_projects_twelve_are_listed(world: World, unscored: Project) -> None:
    for number in range(13):
        shutil.copytree(unscored.folder, world.root / f"p{number}")
    at = world.page("load")
    assert says(at, "The 12 changed last of 14 are shown.")
    assert len([each for each in at.button if each.label == "Open"]) == 12
