"""The README and `core/README.md` say what the code says: tables, commands, links, and every snippet is run."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core import cli
from core.data.sources import SOURCES
from core.export.manifest import COLUMNS
from core.models.specs import MODELS
from core.scores import SCORES
from tests.helpers import QUICK_FLAGS, drawn_folder

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
HOUSE = (ROOT / "core" / "README.md").read_text("utf-8")
DEMO = "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/gradsift demo"
TESTS = "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest -n 2 --dist worksteal"


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def row(*cells: str) -> str:
    assert not any("|" in cell for cell in cells)
    return f"| {' | '.join(cells)} |"


def scores_table() -> str:
    lines = [row("score", "meaning", "suspicious end", "who acts on it, and how", "source"), "|---|---|---|---|---|"]
    for name, score in SCORES.items():
        if name.removesuffix("_early") in SCORES and name.endswith("_early"):
            continue
        names = f"`{name}` `{name}_early`" if f"{name}_early" in SCORES else f"`{name}`"
        lines.append(row(names, score.meaning, "high" if score.sign > 0 else "low", score.acted_on, score.source))
    return "\n".join(lines)


def sources_table() -> str:
    lines = [row("`--source`", "opens"), "|---|---|"]
    return "\n".join(lines + [row(f"`{kind.example}`", kind.meaning) for kind in SOURCES])


def models_table() -> str:
    lines = [row("`--model`", "is"), "|---|---|"]
    return "\n".join(lines + [row(f"`{kind.example}`", kind.meaning) for kind in MODELS.values()])


def columns_table() -> str:
    lines = [row("column", "meaning"), "|---|---|"]
    return "\n".join(lines + [row(f"`{name}`", meaning) for name, meaning in COLUMNS.items()])


@pytest.mark.parametrize("table", [scores_table, sources_table, models_table, columns_table])
def test_tables_say_what_the_code_says(table) -> None:  # type: ignore[no-untyped-def]
    assert table() in README, f"Put this into README.md:\n{table()}"


def test_the_first_screen_is_in_order() -> None:
    signs = ["# GradSift", "<picture>", DEMO, TESTS, "gradsift new pets", "## The scores", "## Your own data",
             "## Your own model", "## From Python", "## The manifest's format", "## What it does *not* tell you",
             "## Measured",
             "## How it is built", "## Develop", "## Changes", "## References"]  # fmt: skip
    places = [README.index(sign) for sign in signs]
    assert places == sorted(places)
    assert [block for block in blocks("sh") if DEMO in block] == [f"{DEMO}\n"]
    assert [block for block in blocks("sh") if TESTS in block] == [f"{TESTS}\n"]
    assert len(first_use()) <= 5


def first_use() -> list[str]:
    return next(block for block in blocks("sh") if block.startswith("gradsift new")).splitlines()


def test_every_link_and_picture_is_there() -> None:
    targets = re.findall(r'\]\(([^)#]+)\)|(?:src|srcset)="([^"]+)"', README + HOUSE)
    local = [one or two for one, two in targets if not (one or two).startswith("http")]
    assert len(local) >= 4
    assert [target for target in local if not (ROOT / target).is_file()] == []


def test_every_command_it_names_is_one() -> None:
    told = re.findall(r"(?<![\w/.-])gradsift ((?:new|sift|show|scores|problems|decide|undo|redo|export|status|demo)\b"
                      r"[^`\n]*)", README)  # fmt: skip
    assert len(told) >= 9
    for line in told:
        if " " in line or line == "demo":
            assert cli.parser().parse_args(shlex.split(line)).run is not None


def test_every_command_of_the_parser_is_in_its_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(["--help"])
    assert done.value.code == 0
    named = set(re.findall(r"^ {4}(\w+) ", capsys.readouterr().out, flags=re.MULTILINE))
    assert {"demo", "new", "sift", "show", "scores", "problems", "decide", "undo", "redo", "export", "status"} <= named


@pytest.fixture(scope="module")
def after_first_use(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which the README's first use was carried out, on drawn images and with a short training."""
    folder = tmp_path_factory.mktemp("readme")
    drawn_folder(folder / "photos", names=("cat", "dog"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in first_use():
            words = shlex.split(line)[1:]
            assert cli.main([*words, *QUICK_FLAGS] if words[0] == "sift" else words) == 0
        yield folder


def test_the_first_use_leaves_a_cleaned_manifest(after_first_use: Path) -> None:
    lines = (after_first_use / "cleaned-pets" / "cleaned.csv").read_text("utf-8").splitlines()
    assert len(lines) == 61
    (changed,) = [line for line in lines if line.startswith("cat/024.png,")]
    assert changed.endswith(",train,dog")


@pytest.mark.parametrize("snippet", blocks("python"), ids=[block.splitlines()[-1][:40] for block in blocks("python")])
def test_snippets_run(snippet: str, after_first_use: Path) -> None:
    with torch.random.fork_rng():
        names: dict[str, object] = {}
        exec(compile(snippet, "README.md", "exec"), names)
    assert set(names) - {"__builtins__"}


def test_the_readme_names_no_place_of_a_machine() -> None:
    assert re.findall(r"(?:/home|/root|/tmp|/work|/Users|C:)[/\\]\S*", README + HOUSE) == []


def test_the_map_of_the_house_lists_every_file() -> None:
    """A file of `core` by its place in it, the screens by theirs; a component of several files as its folder."""
    files = {path.relative_to(ROOT / "core").as_posix() for path in (ROOT / "core").rglob("*.py")}
    files |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "pages").glob("*.py")} | {"app.py"}
    files |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "pages" / "ui").glob("*.py")}
    files |= {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in (ROOT / "pages" / "ui").glob("*/__init__.py")}
    listed = re.findall(r"^\| `([^`]+(?:\.py|/))` \| .+ \|$", HOUSE, flags=re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == files - {"pages/ui/__init__.py"}


def test_the_map_of_the_house_draws_the_allowed_arrows() -> None:
    from tests.test_architecture import ARROWS

    told = dict(re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+|nothing) \|$", HOUSE, flags=re.MULTILINE))
    drawn = {room: set(re.findall(r"`(\w+)`", rooms)) for room, rooms in told.items()}
    assert drawn == ARROWS
