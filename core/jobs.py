"""Long work as a process of its own: whoever looks at the project's folder sees it, and may stop it.

    <project>/job/events.jsonl  what happened, one line each; a new run replaces the file
                  beat.json     where the run stands, replaced twice a second
                  output.txt    what the process printed
                  stop          the id of the run that should stop
                  .lock         held by the run; the kernel frees it when the process dies

`recorded` writes all this around any long work, so a run started in a terminal is seen by the app and the other way
round. `start` begins a run that outlives its starter, `state` says where it is, `stop` asks it to end within a batch.
`ask` is for short commands that answer in JSON. Nothing here computes, and nothing loads torch.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from core import __version__
from core.errors import GradSiftError, ProjectError, Stopped
from core.progress import Event, Progress
from core.project import Project, exclusive, held
from core.terminal import duration, shown

RUN = "GRADSIFT_RUN"  # how `start` tells the process which run it is
BEAT = 0.5  # seconds between two beats
GLANCE = 0.1  # seconds between two looks at the stop file
PATIENCE = 30.0  # seconds a started process may take until it holds the project
SILENCE = 15.0  # seconds without a beat that are worth a word
WINDOW = 40  # beats that a rate is taken over
LAST_WORDS = 600  # characters
ENDS = ("finished", "stopped", "failed")
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
THUMBS = "thumbs"


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


# --- what is read -----------------------------------------------------------------------------------------------------


def state(project: Project) -> JobState:
    """Say where the last run stands. Cheap, reads only, and never raises because of what lies in the folder."""
    first = _look(project)
    # A run may take its lock and write its first line between the two looks at them; a dead one stays dead.
    return _look(project) if first.phase == "died" else first


def _look(project: Project) -> JobState:
    locked = held(_lock(project))  # before the events: an end is written while the lock is held
    events = read_events(_read(project.job / "events.jsonl"))
    beat = _sound(_loads(_read(project.job / "beat.json")), _BEAT)
    now = fold(events, time.time(), locked, beat, _read(project.job / "stop").strip())
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
        ended_at=end["at"] if end else None, stages=_stages(events, now, phase) if begun else (),
        curve=_curve(events) if begun else (),
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
    events: Sequence[Mapping[str, Any]], now: float | int, phase: str
) -> tuple[tuple[str, str, float | int | None], ...]:
    """Return every stage of the plan with its status; those that were there already took 0 seconds."""
    plan = next((event for event in events if event["event"] == "plan"), None)
    if plan is None:
        return ()
    ends = {str(event["name"]): event["at"] for event in events if event["event"] == "stage"}
    rows: list[tuple[str, str, float | int | None]] = []
    begin, active = plan["at"], phase in ("running", "stopping")
    for name in (THUMBS, *map(str, plan["keys"])):
        if name in ends:
            rows.append((name, "done", max(ends[name] - begin, 0)))
            begin = ends[name]
        elif name in plan["done"] or phase == "finished":
            rows.append((name, "done", 0))
        else:
            rows.append((name, "running" if active else "waiting", max(now - begin, 0) if active else None))
            active = False
    return tuple(rows)


def _curve(events: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, float | int], ...]:
    """Return one entry per epoch; an epoch that was done over counts as it was done last."""
    epochs = {event["epoch"]: event for event in events if event["event"] == "epoch"}
    return tuple({name: epochs[epoch][name] for name in ("epoch", "loss", "accuracy")} for epoch in sorted(epochs))


def read_events(text: str) -> list[dict[str, Any]]:
    """Return the events of a file's text; a line that is half written, damaged or unknown is left out."""
    found = []
    for line in text.split("\n"):
        event = _loads(line)
        fields = _FIELDS.get(str(event.get("event"))) if isinstance(event, dict) else None
        if fields is not None and (sound := _sound(event, fields)) is not None:
            found.append(sound)
    return found


def _sound(value: object, fields: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any] | None:
    if isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in fields.items()):
        return value
    return None


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _read(path: Path, last: int | None = None) -> str:
    """Return a file's text (its `last` bytes), or nothing where it cannot be read."""
    try:
        with path.open("rb") as handle:
            if last is not None:
                handle.seek(-min(last, path.stat().st_size), os.SEEK_END)
            return handle.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _last_words(project: Project) -> str:
    lines = [shown(line.strip()) for line in _read(project.job / "output.txt", LAST_WORDS).splitlines()]
    words = " · ".join([line for line in lines if line][-3:])
    return f"Its last words: {words}" if words else "It was killed, or memory ran out."


def _lock(project: Project) -> Path:
    return project.job / ".lock"


# --- what a run writes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recording(Progress):
    """Progress of a run that is written down, with what else a run can say about itself."""

    tell: Callable[..., None] = lambda **_facts: None  # device, precision, settings
    plan: Callable[[Mapping[str, str]], None] = lambda _keys: None  # the stages' names and keys
    ended: Callable[[str], None] = lambda _stage: None  # a stage that leaves no folder of its own
    gauge: Callable[[Callable[[], int]], None] = lambda _measure: None  # how to ask for the accelerator's memory (MB)


@contextmanager
def recorded(project: Project, kind: str, progress: Progress) -> Iterator[Recording]:
    """Hold the project's job and write down what the work inside reports, how it ends included.

    Ctrl-C, SIGTERM and a closed terminal end the work as a stop does.

    Raises:
        ProjectError: another run is working on the project; what it wrote is left alone.
    """
    _folder(project)
    with exclusive(_lock(project), project.folder):
        writer = _Writer(project, kind, progress)
        with _signals(), writer.beating():
            try:
                yield writer.recording()
            except (Stopped, KeyboardInterrupt) as stop:
                writer.end("stopped", one_line(stop) or "Stopped. What is on disk is whole.")
                raise
            except (GradSiftError, OSError) as error:
                writer.end("failed", one_line(error))
                raise
            except BaseException as error:
                if RUN not in os.environ:  # a terminal's own output is kept nowhere
                    (project.job / "output.txt").write_text("".join(traceback.format_exception(error)), "utf-8")
                what = one_line(f"{type(error).__name__}: {error}")
                writer.end("failed", f"Something went wrong inside GradSift ({what}). See job/output.txt.")
                raise
            writer.end("finished", "")


def one_line(error: object) -> str:
    """Return an error as the one line that the command line prints."""
    text = shown(" ".join(str(error).split()))
    mend = ". What is on disk is whole; mend the cause and run again."
    return text + mend if isinstance(error, OSError) and not isinstance(error, GradSiftError) else text


class _Writer:
    """Writes a run's events and its beat. A disk that refuses ends neither the work nor the beat."""

    def __init__(self, project: Project, kind: str, progress: Progress) -> None:
        self.project, self.progress, self.job = project, progress, project.job
        self.before = read_events(_read(self.job / "events.jsonl"))
        ours = os.environ.get(RUN, "")
        self.run = ours if any(event.get("run") == ours for event in self.before[:1]) else uuid.uuid4().hex
        self.keys, self.over = dict[str, str](), set[str]()
        self.last, self.last_at = Event("", 0, 0, ""), time.monotonic()
        self.seen: deque[tuple[float, int]] = deque(maxlen=WINDOW)
        self.epoch, self.looked, self.asked = 0, 0.0, False
        self.measure: Callable[[], int] | None = None
        self.alone, self.over_and_out = threading.RLock(), threading.Event()  # against the thread that beats
        if RUN not in os.environ:
            (self.job / "output.txt").unlink(missing_ok=True)
        settings = project.config.settings.as_dict()
        _replace(
            self.job / "events.jsonl",
            _line("started", run=self.run, kind=kind, tool=__version__, settings=settings),
        )
        self.file = (self.job / "events.jsonl").open("ab", buffering=0)

    def recording(self) -> Recording:
        """Return the progress that the work reports to."""
        return Recording(
            self.listen, self.should_stop, self.note, tell=self.tell, plan=self.plan, ended=self.stage_ended,
            gauge=self.gauge,
        )  # fmt: skip

    def write(self, event: str, **facts: Any) -> None:
        """Append one event, whole."""
        with self.alone, suppress(OSError, ValueError):
            self.file.write(_line(event, **facts))

    def listen(self, event: Event) -> None:
        """Take a report: remember it for the next beat, write it down where a stage or an epoch ends."""
        self.progress.listen(event)
        with self.alone:
            if event.stage != self.last.stage or event.done < self.last.done:
                self.seen.clear()
                self.look_for_stages()
            self.last, self.last_at = event, time.monotonic()
            if not self.seen:
                self.seen.append((self.last_at, event.done))
        epoch = int(event.figures.get("epoch", 0))
        if epoch > self.epoch and event.done * event.figures.get("epochs", 0) >= epoch * event.total:
            self.epoch = epoch
            self.write("epoch", epoch=epoch, loss=event.figures["loss"], accuracy=event.figures["accuracy"])

    def should_stop(self) -> bool:
        """Say whether someone asked this run to stop."""
        now = time.monotonic()
        if not self.asked and now - self.looked >= GLANCE:
            self.looked, self.asked = now, _read(self.job / "stop").strip() == self.run
        return self.asked or self.progress.should_stop()

    def note(self, text: str) -> None:
        """Take a sentence."""
        self.progress.note(text)
        self.write("note", text=text)

    def tell(self, **facts: Any) -> None:
        """Take what became known about the run."""
        self.write("facts", **facts)

    def gauge(self, measure: Callable[[], int]) -> None:
        """Take the question for the accelerator's memory."""
        self.measure = measure

    def device_memory(self) -> int | None:
        """Return what the accelerator's memory holds, in MB; None where there is none or it does not say."""
        try:
            return self.measure() if self.measure else None
        except RuntimeError:
            return None

    def plan(self, keys: Mapping[str, str]) -> None:
        """Take the stages to come; the curve of a training that this run goes on with is kept."""
        done = [name for name, key in keys.items() if self.project.stages.find(name, key)]
        self.write("plan", keys=dict(keys), done=done)
        if _trained(self.before) == keys.get("features"):
            for entry in _curve(self.before):
                self.write("epoch", **entry)
        self.keys, self.over = dict(keys), set(done)

    def stage_ended(self, name: str) -> None:
        """Write down that a stage is whole."""
        if name not in self.over:
            self.over.add(name)
            self.write("stage", name=name)
            if self.last.done >= self.last.total:  # what it reported last is no longer where the run stands
                self.last = Event("", 0, 0, "")
                self.seen.clear()

    def look_for_stages(self) -> None:
        """Write down which stages have become whole."""
        for name, key in self.keys.items():
            if name not in self.over and self.project.stages.find(name, key):
                self.stage_ended(name)

    def beat(self) -> None:
        """Say where the run stands now."""
        with self.alone:
            self.look_for_stages()
            last = self.last
            if self.seen and self.seen[-1][1] != last.done:
                self.seen.append((self.last_at, last.done))
            (begin, first), (end, latest) = (self.seen[0], self.seen[-1]) if self.seen else ((0.0, 0), (0.0, 0))
        facts = {
            "run": self.run, "at": time.time(), "stage": last.stage, "done": last.done, "total": last.total,
            "unit": last.unit, "rate": (latest - first) / (end - begin) if end - begin > BEAT else None,
            "memory_mb": _resident_mb(), "device_memory_mb": self.device_memory(),
        }  # fmt: skip
        with suppress(OSError):
            _replace(self.job / "beat.json", json.dumps(facts).encode())

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Beat from a thread of its own, so that one long batch does not look like an end."""

        def go_on() -> None:
            while not self.over_and_out.wait(BEAT):
                self.beat()

        self.beat()
        thread = threading.Thread(target=go_on, name="gradsift-beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.over_and_out.set()
            thread.join()
            self.file.close()

    def end(self, how: str, message: str) -> None:
        """Write the last event."""
        self.over_and_out.set()
        self.beat()
        self.write(how, message=message)


def _trained(events: Sequence[Mapping[str, Any]]) -> object:
    """Return the key of the training that these events tell of."""
    return next((event["keys"].get("features", "") for event in events if event["event"] == "plan"), "")


def _line(event: str, **facts: Any) -> bytes:
    return f"{json.dumps({'event': event, 'at': time.time(), **facts})}\n".encode()


def _replace(path: Path, content: bytes) -> None:
    """Replace a file whole, so that a reader sees the old one or the new one."""
    aside = path.with_name(f".{path.name}.part")
    aside.write_bytes(content)
    aside.replace(path)


def _folder(project: Project) -> None:
    try:
        project.job.mkdir(exist_ok=True)
    except OSError as error:
        raise ProjectError(f"{project.folder} cannot be written to: {error}. Copy the project elsewhere.") from error


def _resident_mb() -> int:
    """Return the memory this process holds now (where the system does not say: the most it held), in MB."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 2**20
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // (2**20 if sys.platform == "darwin" else 2**10)


@contextmanager
def _signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the work as Ctrl-C does; handlers are left as found."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    ours = []
    if threading.current_thread() is threading.main_thread():
        ours = [kind for kind in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(kind) is signal.SIG_DFL]
    for kind in ours:
        signal.signal(kind, interrupt)
    try:
        yield
    finally:
        for kind in ours:
            signal.signal(kind, signal.SIG_DFL)


# --- what starts and stops a run --------------------------------------------------------------------------------------


def start(project: Project, arguments: Sequence[str]) -> None:
    """Start `gradsift sift` on the project in a session of its own: it outlives this process.

    Args:
        project: what to sift; a stopped or killed run goes on where it was.
        arguments: options of `gradsift sift`.

    Raises:
        ProjectError: a run is working on the project, or its folder cannot be written to.
    """
    busy = ProjectError(f"Another run is working on {project.folder}. Wait for it, or stop it first.")
    if state(project).running:
        raise busy
    _folder(project)
    run, events = uuid.uuid4().hex, project.job / "events.jsonl"
    try:
        with exclusive(_lock(project), project.folder):
            before = read_events(_read(events))
            if held(project.folder / ".lock") or fold(before, time.time(), locked=False).running:
                raise busy  # another start came first
            kept = [_line(**event) for event in before if event["event"] in ("plan", "epoch")]
            (project.job / "stop").unlink(missing_ok=True)
            with (project.job / "output.txt").open("wb") as output:
                process = subprocess.Popen(  # it waits for the lock before it writes
                    [*_PROGRAM, "sift", str(project.folder), *arguments], stdin=subprocess.DEVNULL, stdout=output,
                    stderr=subprocess.STDOUT, env={**_environment(), RUN: run}, start_new_session=True,
                )  # fmt: skip
            _replace(events, b"".join([_line("asked", run=run, arguments=list(arguments)), *kept]))
    except OSError as error:
        raise ProjectError(f"The run of {project.folder} cannot be started: {error}.") from error
    threading.Thread(target=_wait, args=(process, project, run), daemon=True).start()


def _wait(process: subprocess.Popen[bytes], project: Project, run: str) -> None:
    """Wait for the process, so that none is left a zombie; one that ended before it began has its words told."""
    process.wait()
    with suppress(OSError, ProjectError), exclusive(_lock(project), project.folder):
        events = read_events(_read(project.job / "events.jsonl"))
        if [event["event"] for event in events if event.get("run") == run] == ["asked"]:
            said = _answer(_read(project.job / "output.txt", LAST_WORDS)) or f"It ended with {process.returncode}."
            with (project.job / "events.jsonl").open("ab") as file:
                file.write(_line("failed", message=said))


def stop(project: Project) -> None:
    """Ask the run to stop; it does so within a batch.

    Raises:
        ProjectError: Python code started the run, or its folder cannot be written to.
    """
    now = state(project)
    if now.running and not now.run:
        raise ProjectError("This run was started from Python code and has to be stopped there.")
    if now.running:
        try:
            _replace(project.job / "stop", now.run.encode())
        except OSError as error:
            raise ProjectError(f"{project.folder} cannot be written to: {error}.") from error


# --- short commands ---------------------------------------------------------------------------------------------------

_PROGRAM = (sys.executable, "-P", "-m", "core.cli")


def _environment() -> dict[str, str]:
    """Return an environment in which a new process finds this `core` and no other."""
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _answer(errors: str) -> str:
    """Return the last line of what a command said, without its name before it."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return shown(lines[-1].removeprefix("gradsift: ")) if lines else ""


class Asking:
    """A command that is at work in the background and will answer in JSON."""

    def __init__(self, arguments: Sequence[str], timeout: float | int) -> None:
        self._out: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the command has ended)
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._open = threading.Lock()
        self._result: dict[str, Any] | str | None = None
        self._process = subprocess.Popen(
            [*_PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._said,
            env={name: value for name, value in _environment().items() if name != RUN},
        )  # fmt: skip
        self._thread = threading.Thread(target=self._wait, args=(timeout,), daemon=True)
        self._thread.start()

    def poll(self) -> dict[str, Any] | str | None:
        """Return the answer, the one line that says what went wrong, or None while the command is at work."""
        return self._result

    def wait(self, seconds: float | int | None = None) -> dict[str, Any] | str | None:
        """Wait for the answer, at most so many seconds; return what `poll` does."""
        self._thread.join(seconds)
        return self._result

    @property
    def said(self) -> str:
        """The last line of its progress so far."""
        with self._open:
            return "" if self._said.closed else _answer(_so_far(self._said))

    def cancel(self) -> None:
        """End the command, if it is still at work."""
        self._process.kill()

    def _wait(self, timeout: float | int) -> None:
        try:
            status = self._process.wait(timeout)
            answer = _loads(_so_far(self._out)) if status == 0 else None
            said = _answer(_so_far(self._said)) or f"The command ended with {status}."
            self._result = answer if isinstance(answer, dict) else said
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self._result = f"No answer within {duration(timeout)}."
        finally:
            with self._open:
                self._out.close()
                self._said.close()


def _so_far(file: IO[bytes]) -> str:
    """Return what a process wrote into a file that it shares with this one, whose place is left alone."""
    number = file.fileno()
    return os.pread(number, os.fstat(number).st_size, 0).decode("utf-8", "replace")


def ask(arguments: Sequence[str], timeout: float | int = 60) -> Asking:
    """Run a short command in the background, such as `["sift", folder, "--dry-run", "--json"]` or `["new", …]`.

    Args:
        arguments: of `gradsift`, `--json` among them.
        timeout: seconds after which it is ended and counts as failed.
    """
    return Asking(arguments, timeout)
