"""Every bad input and accident as a table, input | message | what remained: `python tests/bench/accidents.py`.

Inputs are those of `tests/bad_inputs.py`, each beside twelve good images. Then one run meets a full disk at each of its
stages (a disk of 64 MB in memory, which needs root) and a memory limit at two of them; in the end its scores are
compared, bit by bit, with those of an undisturbed run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from core import cli
from core.data.manifest import Manifest
from core.project import Project
from tests.accidents import SMALL, on_entering, scores_of, small_disk, starved, told, unfinished
from tests.bad_inputs import BAD_INPUTS, BadInput, good
from tests.helpers import drawn_folder

STAGES = ("pixels", "features", "neighbours", "scores", "map")
Line = tuple[str, str, str]  # input, message, what remained


def bad_input(bad: BadInput, root: Path) -> Line:
    """Put one bad input and say what came of it."""
    good(root)
    command = ["new", str(root / "p"), *bad.put(root)]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()) as errors:
        status = cli.main(command)
    if status:
        message = errors.getvalue().splitlines()[-1]
        bad.mend(root)
        again = told(*command)
        return bad.name, _plain(message, root), f"no project; once mended: {_count(root / 'p', again.status)}"
    reasons = Project.open(root / "p").manifest().problems["reason"].tolist()
    noted = [line for line in out.getvalue().splitlines() if " differ in case " in line]
    return bad.name, "; ".join([*reasons, *noted]) or "(taken)", _count(root / "p", status)


def _count(project: Path, status: int) -> str:
    return f"{len(Project.open(project).manifest())} images" if status == 0 else "nothing"


def _plain(message: str, root: Path) -> str:
    return message.replace(f"{root}/", "").removeprefix("gradsift: ")


def full_disks(root: Path) -> Iterator[Line]:
    """Fill the disk at each stage of one run."""
    images = drawn_folder(root / "images", 120)
    Project.create(root / "whole", Manifest.read(f"folder:{images}"))
    told("sift", root / "whole", *SMALL)
    with small_disk(64) as disk:
        if disk is None:
            yield "full disk", "(no small disk can be mounted here)", "not tried"
            return
        project = Project.create(disk.folder / "p", Manifest.read(f"folder:{images}"))
        for stage in STAGES:
            with on_entering(stage, lambda _: disk.leave(4096)):
                found = told("sift", project.folder, *SMALL)
            yield f"full disk at {stage}", _plain(found.said, disk.folder), _remains(project)
            disk.clear()
        status = told("sift", project.folder, *SMALL).status
        same = status == 0 and scores_of(project.folder) == scores_of(root / "whole")
        yield "the same command with room", "", "the bits of an undisturbed run" if same else "OTHER BITS"
        yield from _full_for(project, disk.folder, disk.leave, disk.clear)


def _full_for(project, root, leave, clear) -> Iterator[Line]:  # type: ignore[no-untyped-def]
    sample = next(iter(project.findings().samples.query("split == 'train'").index))
    pack = next((project.folder / "thumbs").glob("*.pack"))
    commands = {
        "thumbnails": ["sift", project.folder, *SMALL],
        "decisions": ["decide", project.folder, "--sample", sample, "--action", "exclude"],
        "export": ["export", project.folder, "--to", root / "out"],
        "report": ["report", project.folder, "--to", root / "r.html"],
        "scores": ["scores", project.folder, "--out", root / "s.csv"],
    }
    for name, words in commands.items():
        if name == "thumbnails":
            pack.unlink()
        leave(4096)
        found = told(*words)
        clear()
        left = unfinished(root)
        again = "works once there is room" if told(*words).status == 0 else "FAILS AGAIN"
        yield f"full disk for {name}", _plain(found.said, root), f"{again}{f'; left: {left}' if left else ''}"


def memory_limits(root: Path) -> Iterator[Line]:
    """Let memory run out in two stages of one run."""
    project = Project.create(root / "p", Manifest.read(f"folder:{drawn_folder(root / 'images', 200)}"))
    for stage, status, said in starved(project.folder, {"pixels": 1, "features": 2, "none": 0}):
        what = "the same command without a limit" if stage == "none" else f"memory limit at {stage}"
        yield what, _plain(said, root) if status else "", "scores" if status == 0 else "the stages before"


def _remains(project: Project) -> str:
    whole = {path.name.split("-")[0] for path in project.stages.folder.glob("[!.]*-*")}
    left = unfinished(project.folder)
    return ", ".join(stage for stage in STAGES if stage in whole) or "the project" + (f"; left: {left}" if left else "")


def lines() -> Iterator[Line]:
    """Everything, one line each."""
    for bad in BAD_INPUTS:
        with tempfile.TemporaryDirectory(prefix="gradsift-bad-") as folder:
            yield bad_input(bad, Path(folder))
    for accidents in (full_disks, memory_limits):
        with tempfile.TemporaryDirectory(prefix="gradsift-bad-") as folder:
            yield from accidents(Path(folder))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="a list of lists instead of a Markdown table")
    if parser.parse_args().json:
        print(json.dumps(list(lines()), ensure_ascii=False, indent=1))
        return 0
    print("| input | message | what remained |\n|---|---|---|")
    for line in lines():
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
