"""The `gradsift` command: parses, calls `core.commands`, prints. Nothing is computed or decided here.

Exit status: 0 done, 1 a mistake that a person can mend (one line, no traceback), 130 stopped (the same command goes
on).
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from core import __version__, commands, looking, opening, proving
from core.commands import AUTO, FLAGGED, NETWORK_SETTINGS, Answer
from core.data.sources import SOURCES
from core.errors import GradSiftError, Stopped
from core.models.specs import MODELS
from core.opening import DEMO_SETTINGS
from core.progress import Progress
from core.project import Project
from core.retrain.run import VerifyOptions
from core.serve import LOCAL
from core.shortage import shortages
from core.terminal import Narrator, shown

STOPPED = 130
REFERENCE = "reference"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line and exits with 1, as every other mistake does."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse what is left over here, where it is known which command's help to name."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        """End with the message and where to find help."""
        self.exit(1, f"gradsift: {message}. See: {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is spelled out, not an error
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    options = parser().parse_args(arguments)
    narrator = Narrator.on(sys.stderr)
    try:
        with shortages():
            answer: Answer = options.run(options, Progress(narrator, note=narrator.note))
    except (Stopped, KeyboardInterrupt) as stop:
        narrator.close()
        print(
            f"gradsift: {str(stop) or 'Stopped. What is on disk is whole; the same command goes on.'}", file=sys.stderr
        )
        return STOPPED
    except GradSiftError as error:
        narrator.close()
        print(f"gradsift: {_one_line(error)}", file=sys.stderr)
        return 1
    except OSError as error:
        narrator.close()
        print(f"gradsift: {_one_line(error)}. What is on disk is whole; mend the cause and run again.", file=sys.stderr)
        return 1
    narrator.close()
    return _print(json.dumps(answer.data, ensure_ascii=False, indent=1) if options.json else answer.text)


def _print(text: str) -> int:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = None  # or the interpreter complains when it flushes at exit
    return 0


def _one_line(error: Exception) -> str:
    return shown(" ".join(str(error).split()))


def parser() -> argparse.ArgumentParser:
    """Build the parser: one entry per command, each with an example."""
    top = _Parser(
        prog="gradsift",
        description="Find the training images that hurt a classifier, decide one by one, export a cleaned manifest.",
    )
    top.add_argument("--version", action="version", version=f"gradsift {__version__}")
    entries = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for build in (
        _demo, _app, _new, _sift, _show, _copies, _groups, _facts, _scores, _problems, _decide, _undo, _redo, _export,
        _report, _status, _verify, _reproduce,
    ):  # fmt: skip
        build(entries)
    return top


def _command(
    entries: Any, name: str, meaning: str, example: str, run: Callable[[argparse.Namespace, Progress], Answer]
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = entries.add_parser(
        name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.", epilog=f"example: {example}"
    )
    command.add_argument("--json", action="store_true", help="print the result as JSON")
    command.set_defaults(run=run)
    return command


def _on_project(
    entries: Any, name: str, meaning: str, example: str, run: Callable[[Project, argparse.Namespace, Progress], Answer]
) -> argparse.ArgumentParser:
    command = _command(entries, name, meaning, example, lambda o, p: run(Project.open(o.project), o, p))
    command.add_argument("project", metavar="PROJECT", type=Path, help="the project's folder")
    return command


def _demo(entries: Any) -> None:
    command = _command(
        entries, "demo", "open the app on built-in data with planted errors, or count how many were found",
        "gradsift demo", _run_demo,
    )  # fmt: skip
    command.add_argument("project", metavar="PROJECT", type=Path, nargs="?", default=Path("gradsift-demo"))
    command.add_argument(
        "--data", default="pictograms", choices=list(DEMO_SETTINGS), help="drawn pictures or real digits"
    )
    command.add_argument("--headless", action="store_true", help="end after the figures, without the app")
    _listening(command)


def _run_demo(options: argparse.Namespace, progress: Progress) -> Answer:
    return opening.demo(
        options.project, options.data, headless=options.headless, host=options.host, port=options.port,
        browser=options.browser, progress=progress,
    )  # fmt: skip


def _listening(command: argparse.ArgumentParser) -> None:
    command.add_argument("--host", default=LOCAL, help=f"address to listen on (default: {LOCAL}, this machine only)")
    command.add_argument("--port", type=int, help="port (default: the first free one from 8501 on)")
    command.add_argument(
        "--browser", action=argparse.BooleanOptionalAction, default=True, help="open the browser (default: yes)"
    )


def _app(entries: Any) -> None:
    command = _command(entries, "app", "open the app in the browser", "gradsift app pets --root ~/photos", _run_app)
    command.add_argument("project", metavar="PROJECT", type=Path, nargs="?", help="the project to open with")
    command.add_argument(
        "--root", metavar="DIR", type=Path, action="append", default=[],
        help="a folder that the app may read (default: the current one); may be given several times",
    )  # fmt: skip
    command.add_argument(
        "--projects", metavar="DIR", type=Path, help="where new projects are made (default: ~/gradsift)"
    )
    command.add_argument("--read-only", action="store_true", help="show everything, change nothing")
    command.add_argument(
        "--allow-code", action="store_true", help="let projects of the app run code of yours (models of the kind code:)"
    )
    _listening(command)


def _run_app(options: argparse.Namespace, progress: Progress) -> Answer:
    return opening.app(
        options.project, options.root, read_only=options.read_only, projects=options.projects, host=options.host,
        port=options.port, browser=options.browser, allow_code=options.allow_code, progress=progress,
    )  # fmt: skip


def _new(entries: Any) -> None:
    command = _command(
        entries, "new", "read and check images and labels, and make a project of them",
        "gradsift new pets --source folder:photos/pets", _run_new,
    )  # fmt: skip
    command.add_argument("project", metavar="PROJECT", type=Path, help="a folder that does not exist yet")
    command.add_argument(
        "--source", required=True, metavar="SPEC", help="one of: " + ", ".join(kind.example for kind in SOURCES)
    )
    _network(command)
    command.add_argument("--labels", metavar="FILE[:COLUMN]", help="labels that replace the source's, joined by id")
    command.add_argument("--classes", metavar="FILE", type=Path, help="class names, one per line, in order")
    command.add_argument(
        "--val-fraction", type=float, default=0.1, metavar="F", help="held out if the source names no split but test"
    )
    command.add_argument("--limit", type=int, metavar="N", help="at most N images, chosen per class")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of every random choice (default: 0)")
    for column in ("id", "label", "path", "split", "group"):
        command.add_argument(f"--{column}-column", metavar="NAME", help=f"column of a table that holds the {column}")
    command.add_argument(
        "--meta-columns", metavar="A,B", action="append", default=[],
        help="columns of a table that travel along (annotator,batch,camera); gradsift groups compares their values",
    )  # fmt: skip
    command.add_argument("--dry-run", action="store_true", help="write nothing, say what a run would take")


def _network(command: argparse.ArgumentParser) -> None:
    """Add what says which network answers for what, to `new` and `sift` alike."""
    forms = ", ".join(kind.example for kind in MODELS.values())
    command.add_argument("--model", metavar="SPEC", help=f"the network (default: reference). One of: {forms}")
    command.add_argument(
        "--backbone", metavar="SPEC|auto",
        help="a pretrained network whose features judge labels beside the training, as --model (auto: none)",
    )  # fmt: skip
    command.add_argument(
        "--checkpoints", nargs="+", metavar="FILE",
        help="weights saved while the model was trained, first to last (auto: none)",
    )  # fmt: skip
    command.add_argument("--layer", metavar="NAME|auto", help="the layer that gives the logits (auto: found by a run)")
    command.add_argument(
        "--transform", metavar="TEXT|auto",
        help="how images become input: resize=256,crop=224,mean=0.485/0.456/0.406,std=... (auto: as the weights say)",
    )  # fmt: skip
    command.add_argument(
        "--reference", action=argparse.BooleanOptionalAction,
        help="train the reference network beside a finished model that has no history (default: yes)",
    )  # fmt: skip
    command.add_argument("--models", type=int, metavar="N", help="trainings with N seeds: mean and spread (default: 1)")
    command.add_argument(
        "--grand", nargs="+", metavar="EPOCH|last",
        help="gradient norms over all parameters at these epochs (auto: none)",
    )  # fmt: skip
    command.add_argument(
        "--download", action="store_true", help="allow this call to fetch data or weights over the network"
    )


def _run_new(options: argparse.Namespace, progress: Progress) -> Answer:
    columns = {
        f"{name}_column": getattr(options, f"{name}_column") for name in ("id", "label", "path", "split", "group")
    }
    told: dict[str, Any] = {
        "model": options.model or REFERENCE, "labels": options.labels, "classes": options.classes,
        "val_fraction": options.val_fraction, "limit": options.limit, "columns": columns, "seed": options.seed,
        "meta_columns": [name.strip() for text in options.meta_columns for name in text.split(",") if name.strip()],
        "settings": {name: getattr(options, name) for name in NETWORK_SETTINGS}, "download": options.download,
        "progress": progress,
    }  # fmt: skip
    if options.dry_run:
        return commands.cost_of_source(options.source, **told)
    return commands.new(options.project, options.source, **told)


def _sift(entries: Any) -> None:
    command = _on_project(
        entries, "sift", "score every image; goes on where it stopped", "gradsift sift pets", _run_sift
    )
    _network(command)
    command.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], help="where to compute (default: auto)")
    command.add_argument("--seed", type=int, metavar="N", help="of every random choice")
    command.add_argument(
        "--epochs", type=_count_or_auto, metavar="N|auto", help="of the reference training (auto: 20 or more)"
    )
    command.add_argument("--budget", metavar="5%|400", help="how many to flag: a share or a number of training images")
    switch = argparse.BooleanOptionalAction
    command.add_argument("--augment", action=switch, help="train on shifted and mirrored copies (default: yes)")
    command.add_argument("--flip", action=switch, help="mirror while training (default: as the source says)")
    command.add_argument("--flip-as-source", action="store_const", const=AUTO, dest="flip", help="as the source says")
    command.add_argument("--maps", action=switch, help="draw the two UMAPs (default: yes)")
    command.add_argument(
        "--image-size", type=_count_or_auto, metavar="PIXELS|auto", help="side at which the network sees images"
    )
    command.add_argument("--trees", type=int, metavar="N", help="of the isolation forest (default: 1000)")
    command.add_argument("--dry-run", action="store_true", help="say what it would cost, from a short probe")


def _count_or_auto(text: str) -> int | str:
    return AUTO if text == AUTO else int(text)


def _run_sift(project: Project, options: argparse.Namespace, progress: Progress) -> Answer:
    changes = {name: getattr(options, name) for name in FLAGGED}
    if options.dry_run:
        return commands.cost(project, changes, progress, options.model, download=options.download)
    return commands.sift(project, changes, options.budget, progress, options.model, download=options.download)


def _show(entries: Any) -> None:
    command = _on_project(
        entries, "show", "list the most suspicious training images with reasons",
        "gradsift show pets --top 20 --score oga_forest",
        lambda project, o, _: commands.show(project, o.top, o.score, o.budget),
    )  # fmt: skip
    command.add_argument("--top", type=int, default=50, metavar="N", help="how many (default: 50)")
    command.add_argument("--score", default="suspicion", metavar="NAME", help="rank by this score (default: suspicion)")
    command.add_argument("--budget", metavar="5%|400", help="how many to flag (default: the project's)")


def _copies(entries: Any) -> None:
    command = _on_project(
        entries, "copies", "list images that show one picture twice, those with different labels first",
        "gradsift copies pets --top 20", lambda project, o, p: looking.copies(project, o.top, p),
    )  # fmt: skip
    command.add_argument("--top", type=int, default=20, metavar="N", help="how many groups (default: 20)")


def _groups(entries: Any) -> None:
    command = _on_project(
        entries, "groups", "compare annotators, batches or classes: flagged and confirmed share of each",
        "gradsift groups pets --by annotator", lambda project, o, _: looking.groups(project, o.by, o.score, o.budget),
    )  # fmt: skip
    command.add_argument("--by", metavar="COLUMN", help="a meta column, group or class (default: each of them)")
    command.add_argument("--score", default="suspicion", metavar="NAME", help="rank by this score (default: suspicion)")
    command.add_argument("--budget", metavar="5%|400", help="how many to flag (default: the project's)")


def _facts(entries: Any) -> None:
    command = _on_project(
        entries, "facts", "list dark, blurry, near-uniform and oddly sized images (needs gradsift[facts])",
        "gradsift facts pets --top 20", lambda project, o, p: looking.facts(project, o.top, p),
    )  # fmt: skip
    command.add_argument("--top", type=int, default=50, metavar="N", help="how many images (default: 50)")


def _scores(entries: Any) -> None:
    command = _on_project(
        entries, "scores", "write one row per image with every score", "gradsift scores pets --out scores.csv",
        lambda project, o, _: commands.scores(project, o.out),
    )  # fmt: skip
    command.add_argument("--out", required=True, type=Path, metavar="FILE", help="ends in .csv, .parquet or .jsonl")


def _problems(entries: Any) -> None:
    _on_project(
        entries, "problems", "list every input that was set aside, with its reason", "gradsift problems pets --json",
        lambda project, _o, _p: commands.problems(project),
    )  # fmt: skip


def _decide(entries: Any) -> None:
    command = _on_project(
        entries, "decide", "record decisions; one call is one batch",
        "gradsift decide pets --sample cat/7.png --action relabel --label dog", _run_decide,
    )  # fmt: skip
    command.add_argument("--sample", nargs="+", action="extend", default=[], metavar="ID", help="which images")
    command.add_argument("--action", metavar="A", help="keep, relabel, exclude, unsure or undecided")
    command.add_argument("--label", metavar="L", help="the class to relabel to")
    command.add_argument(
        "--from", dest="table", type=Path, metavar="FILE.csv", help="columns sample_id, action[, label, note]"
    )
    command.add_argument("--reviewer", metavar="NAME", help="in whose name (default: the user logged in)")
    command.add_argument("--note", metavar="TEXT", help="why, in your words")


def _run_decide(project: Project, options: argparse.Namespace, _: Progress) -> Answer:
    return commands.decide(
        project, options.sample, options.action, options.label, options.table, options.reviewer, options.note
    )


def _undo(entries: Any) -> None:
    command = _on_project(
        entries, "undo", "take back the reviewer's own last batch", "gradsift undo pets",
        lambda project, o, _: commands.undo(project, o.reviewer),
    )  # fmt: skip
    command.add_argument("--reviewer", metavar="NAME", help="in whose name (default: the user logged in)")


def _redo(entries: Any) -> None:
    command = _on_project(
        entries, "redo", "bring back the batch the reviewer undid last", "gradsift redo pets",
        lambda project, o, _: commands.redo(project, o.reviewer),
    )  # fmt: skip
    command.add_argument("--reviewer", metavar="NAME", help="in whose name (default: the user logged in)")


def _export(entries: Any) -> None:
    command = _on_project(
        entries, "export", "write the cleaned manifest, run.json and decisions.jsonl into a new folder",
        "gradsift export pets --to cleaned --format csv parquet",
        lambda project, o, _: commands.export(project, o.to, o.format or ["csv"]),
    )  # fmt: skip
    command.add_argument("--to", type=Path, metavar="DIR", help="a new folder (default: one in the project's exports)")
    command.add_argument("--format", nargs="+", action="extend", metavar="F", help="csv, parquet, jsonl (default: csv)")


def _report(entries: Any) -> None:
    command = _on_project(
        entries, "report", "write a report to hand over: one HTML file with everything inside",
        "gradsift report pets --to pets.html",
        lambda project, o, _: commands.report(project, o.to, top=o.top, force=o.force),
    )  # fmt: skip
    command.add_argument("--to", required=True, type=Path, metavar="FILE.html", help="a file that does not exist yet")
    command.add_argument("--top", type=int, default=8, metavar="N", help="images of each class pair (default: 8)")
    command.add_argument("--force", action="store_true", help="replace the file if it is there")


def _status(entries: Any) -> None:
    _on_project(
        entries, "status", "say what is there, what runs and what is next", "gradsift status pets",
        lambda project, _o, _p: commands.status(project),
    )  # fmt: skip


def _verify(entries: Any) -> None:
    command = _on_project(
        entries, "verify", "say whether the decisions helped: train with and without them, and with random ones",
        "gradsift verify pets --full --arm remove:oga_l2:5%", _run_verify,
    )  # fmt: skip
    command.add_argument("--full", action="store_true", help="retrain; without it a head on recorded features, seconds")
    command.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each arm (default: 3)")
    command.add_argument(
        "--arm", action="append", default=[], metavar="ARM",
        help="also compare, may be given several times: remove:SCORE:K, relabel:SCORE:K, upweight:SCORE:K[:FACTOR] (K: "
        "500 or 5%%; :per-class at the end for a share of each class), or file:PATH, a table of decisions",
    )  # fmt: skip
    command.add_argument(
        "--test", metavar="NAME", help="the split to compare on, or training (default: test, else val, else training)"
    )
    command.add_argument("--network", metavar="SPEC", help="to retrain: reference, or train:ARCH[@WEIGHTS]")
    command.add_argument(
        "--groups", nargs="+", metavar="COLUMN", help="columns or cluster to look at apart; none: classes alone"
    )
    command.add_argument(
        "--controls", action=argparse.BooleanOptionalAction, default=True,
        help="compare with as many removed at random (default: yes)",
    )  # fmt: skip
    command.add_argument("--dry-run", action="store_true", help="say what it would take, from a short probe")


def _run_verify(project: Project, options: argparse.Namespace, progress: Progress) -> Answer:
    told = VerifyOptions(
        "full" if options.full else "quick", tuple(options.arm), options.seeds, options.test, options.network,
        None if options.groups is None else tuple(options.groups), options.controls,
    )  # fmt: skip
    return proving.verify(project, told, progress, dry_run=options.dry_run)


def _reproduce(entries: Any) -> None:
    command = _command(
        entries, "reproduce", "run a paper's experiment anew and put the figures beside the published ones",
        "gradsift reproduce oga-cifar10n --data ~/cifar --keep ~/oga --out oga.csv", _run_reproduce,
    )  # fmt: skip
    command.add_argument("name", metavar="NAME", help="which one: oga-cifar10n")
    command.add_argument("--data", required=True, type=Path, metavar="DIR", help="the folder with its data")
    command.add_argument("--labels", nargs="+", default=["worse", "aggre"], metavar="KIND", help="which human labels")
    command.add_argument("--rows", type=int, default=10_000, metavar="N", help="images to train on (default: 10000)")
    command.add_argument("--seeds", type=int, default=3, metavar="N", help="repetitions (default: 3)")
    command.add_argument(
        "--network", default="auto", metavar="NAME", help="reference, resnet34, or auto: the latter on a GPU (default)"
    )
    command.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep trainings there, so that a stopped call goes on"
    )
    command.add_argument("--out", type=Path, metavar="FILE.csv", help="write the table there")


def _run_reproduce(options: argparse.Namespace, progress: Progress) -> Answer:
    return proving.reproduce(
        options.name, options.data, labels=options.labels, rows=options.rows, seeds=options.seeds,
        network=options.network, out=options.out, keep=options.keep, progress=progress,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
