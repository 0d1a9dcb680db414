"""Where a run stands, worked out from what it wrote: `JobState`, `state`, `fold` and `read_events`. Nothing is written.

`fold` is the rule, a function of values; `state` reads the folder for it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core.project import Project, held
from core.terminal import duration, shown

PATIENCE = 30.0  # seconds a started process may take until it holds the project
SILENCE = 15.0  # seconds without a beat that are worth a word
LAST_WORDS = 600  # characters
ENDS = ("finished", "stopped", "failed")
THUMBS = "thumbs"
_NUMBER = (int, float)
_FIELDS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "asked": {"run": str, "at": _NUMBER},
    "started": {"run": str, "at": _NUMBER, "kind": str, "tool": str, "settings": dict},
    "facts": {},
    "plan": {"at": _NUMBER, "keys": dict, "done": list},
    "stage": {"at": _NUMBER, "name": str},
    "epoch": {"epoch": int, "loss": _NUMBER, "accuracy": _NUMBER},
    "note": {"text": str},
    **{end: {"at": _NUMBER, "message": str} for end in ENDS},
}
_BEAT: Mapping[str, type | tuple[type, ...]] = {
    "run": str, "at": _NUMBER, "stage": str, "done": int, "total": int, "unit": str,
}  # fmt: skip


@dataclass(frozen=True)
class JobState:
    """Where a run stands; times are seconds since 1970, rates units per second, both None where they are not known."""

    phase: str = "none"  # none starting running stopping finished stopped failed died
    kind: str = ""
    run: str = ""
    stage: str = ""  # as the work reports it
    done: int = 0
    total: int = 0
    unit: str = ""
    rate: float | int | None = None
    seconds_left: float | int | None = None  # of this stage
    stages: tuple[tuple[str, str, float | int | None], ...] = ()  # (name, done | running | waiting, seconds)
    curve: tuple[Mapping[str, float | int], ...] = ()  # one entry per epoch: epoch, loss, accuracy
    notes: tuple[str, ...] = ()
    message: str = ""
    device: str = ""
    precision: str = ""
    memory_mb: int | None = None  # of the process
    device_memory_mb: int | None = None  # of the accelerator, where there is one
    started_at: float | int | None = None
    ended_at: float | int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    tool: str = ""

    @property
    def running(self) -> bool:
        """Whether it makes sense to look again in a second."""
        return self.phase in ("starting", "running", "stopping")


def state(project: Project) -> JobState:
    """Say where the last run stands. Cheap, reads only, and never raises because of what lies in the folder."""
    first = _look(project)
    # A run may take its lock and write its first line between the two looks at them; a dead one stays dead.
    return _look(project) if first.phase == "died" else first


def _look(project: Project) -> JobState:
    locked = held(lock_of(project))  # before the events: an end is written while the lock is held
    events = read_events(read_text(project.job / "events.jsonl"))
    beat = _sound(loads(read_text(project.job / "beat.json")), _BEAT)
    now = fold(events, time.time(), locked, beat, read_text(project.job / "stop").strip())
    if now.phase == "died":
        return replace(now, message=_last_words(project))
    if not now.running and held(project.folder / ".lock"):
        return JobState("running", kind="python", message="A run that Python code started works on this project.")
    return now


def fold(
    events: Sequence[Mapping[str, Any]],
    now: float | int,
    locked: bool,
    beat: Mapping[str, Any] | None = None,
    stop: str = "",
) -> JobState:
    """Work out a run's state from what it wrote.

    Args:
        events: as `read_events` gives them, oldest first.
        now: seconds since 1970.
        locked: whether a process holds the run's lock.
        beat: where the run said it stands, or None.
        stop: the id of the run that was asked to stop.
    """
    first = next((event for event in events if event["event"] in ("asked", "started")), None)
    if first is None:
        return JobState()
    begun, run = first["event"] == "started", str(first["run"])
    end = next((event for event in reversed(events) if event["event"] in ENDS), None)
    if end:
        phase = str(end["event"])
    elif locked or (not begun and now - first["at"] < PATIENCE):
        phase = "stopping" if stop == run else "running" if begun else "starting"
    else:
        phase = "died"
    found = JobState(
        phase, kind=str(first.get("kind", "sift")), run=run, started_at=first["at"], tool=str(first.get("tool", "")),
        settings=dict(first.get("settings", {})), message=str(end["message"]) if end else "",
        ended_at=end["at"] if end else None,
        stages=_stages(events, now, phase, first.get("kind") == "sift") if begun else (),
        curve=curve_of(events) if begun else (),
        notes=tuple(str(event["text"]) for event in events if event["event"] == "note"),
    )  # fmt: skip
    for event in events:
        if event["event"] == "facts":
            found = _with_facts(found, event)
    return _with_beat(found, beat, now) if beat and beat["run"] == run else found


def _with_facts(found: JobState, event: Mapping[str, Any]) -> JobState:
    texts = {name: event[name] for name in ("device", "precision") if isinstance(event.get(name), str)}
    settings = event.get("settings")
    return replace(found, settings=dict(settings) if isinstance(settings, dict) else found.settings, **texts)


def _with_beat(found: JobState, beat: Mapping[str, Any], now: float | int) -> JobState:
    now_at = next((name for name, status, _ in found.stages if status == "running"), "")
    found = replace(
        found, stage=beat["stage"] or now_at, done=beat["done"], total=beat["total"], unit=beat["unit"],
        memory_mb=_number(beat.get("memory_mb")), device_memory_mb=_number(beat.get("device_memory_mb")),
    )  # fmt: skip
    if not found.running:
        return replace(found, ended_at=beat["at"] if found.ended_at is None else found.ended_at)
    rate, silent = _number(beat.get("rate")), now - beat["at"]
    left = (beat["total"] - beat["done"]) / rate if rate else None
    quiet = f"No sign of life for {duration(silent)}: the machine slept, or the process is held." * (silent > SILENCE)
    return replace(found, rate=rate, seconds_left=left, message=quiet)


def _number(value: object) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _stages(
    events: Sequence[Mapping[str, Any]], now: float | int, phase: str, thumbs: bool = True
) -> tuple[tuple[str, str, float | int | None], ...]:
    """Return every stage of the plan, thumbnails before them where the run makes some, with its status.

    Those that were there already took 0 seconds.
    """
    plan = next((event for event in events if event["event"] == "plan"), None)
    if plan is None:
        return ()
    ends = {str(event["name"]): event["at"] for event in events if event["event"] == "stage"}
    rows: list[tuple[str, str, float | int | None]] = []
    begin, active = plan["at"], phase in ("running", "stopping")
    for name in (*((THUMBS,) if thumbs else ()), *map(str, plan["keys"])):
        if name in ends:
            rows.append((name, "done", max(ends[name] - begin, 0)))
            begin = ends[name]
        elif name in plan["done"] or phase == "finished":
            rows.append((name, "done", 0))
        else:
            rows.append((name, "running" if active else "waiting", max(now - begin, 0) if active else None))
            active = False
    return tuple(rows)


def curve_of(events: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, float | int], ...]:
    """Return one entry per epoch of the latest training; an epoch that was done over counts as it was done last."""
    found = [event for event in events if event["event"] == "epoch"]
    epochs = {event["epoch"]: event for event in found if _training(event) == _training(found[-1])}
    return tuple({name: epochs[epoch][name] for name in ("epoch", "loss", "accuracy")} for epoch in sorted(epochs))


def _training(event: Mapping[str, Any]) -> str:
    """Which training an epoch is of: scoring has one."""
    return str(event.get("training", "training"))


def read_events(text: str) -> list[dict[str, Any]]:
    """Return the events of a file's text; a line that is half written, damaged or unknown is left out."""
    found = []
    for line in text.split("\n"):
        event = loads(line)
        fields = _FIELDS.get(str(event.get("event"))) if isinstance(event, dict) else None
        if fields is not None and (sound := _sound(event, fields)) is not None:
            found.append(sound)
    return found


def _sound(value: object, fields: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any] | None:
    if isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in fields.items()):
        return value
    return None


def loads(text: str) -> Any:
    """Return what a JSON text holds; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_text(path: Path, last: int | None = None) -> str:
    """Return a file's text (its `last` bytes), or nothing where it cannot be read."""
    try:
        with path.open("rb") as handle:
            if last is not None:
                handle.seek(-min(last, path.stat().st_size), os.SEEK_END)
            return handle.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _last_words(project: Project) -> str:
    lines = [shown(line.strip()) for line in read_text(project.job / "output.txt", LAST_WORDS).splitlines()]
    words = " · ".join([line for line in lines if line][-3:])
    return f"Its last words: {words}" if words else "It was killed, or memory ran out."


def lock_of(project: Project) -> Path:
    """Return the file that a run holds locked."""
    return project.job / ".lock"
