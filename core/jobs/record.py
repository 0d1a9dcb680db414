"""What a run writes into its project while it works: `recorded`, and the `Recording` that the work reports to."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import __version__
from core.errors import GradSiftError, ProjectError, Stopped
from core.jobs.reading import curve_of, lock_of, read_events, read_text
from core.progress import Event, Progress
from core.project import Project, exclusive
from core.shortage import shortages
from core.terminal import shown

RUN = "GRADSIFT_RUN"  # how `start` tells the process which run it is
BEAT = 0.5  # seconds between two beats
GLANCE = 0.1  # seconds between two looks at the stop file
WINDOW = 40  # beats that a rate is taken over


@dataclass(frozen=True)
class Recording(Progress):
    """Progress of a run that is written down, with what else a run can say about itself."""

    tell: Callable[..., None] = lambda **_facts: None  # device, precision, settings
    plan: Callable[..., None] = lambda _keys, **_more: None  # the stages' names and keys, see `_Writer.plan`
    ended: Callable[[str], None] = lambda _stage: None  # a stage that leaves no folder of its own
    gauge: Callable[[Callable[[], int]], None] = lambda _measure: None  # how to ask for the accelerator's memory (MB)


@contextmanager
def recorded(project: Project, kind: str, progress: Progress) -> Iterator[Recording]:
    """Hold the project's job and write down what the work inside reports, how it ends included.

    Ctrl-C, SIGTERM and a closed terminal end the work as a stop does.

    Raises:
        ProjectError: another run is working on the project; what it wrote is left alone.
    """
    make_folder(project)
    with exclusive(lock_of(project), project.folder):
        writer = _Writer(project, kind, progress)
        with _signals(), writer.beating():
            try:
                with shortages():
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
        self.before = read_events(read_text(self.job / "events.jsonl"))
        ours = os.environ.get(RUN, "")
        self.run = ours if any(event.get("run") == ours for event in self.before[:1]) else uuid.uuid4().hex
        self.keys, self.over = dict[str, str](), set[str]()
        self.last, self.last_at = Event("", 0, 0, ""), time.monotonic()
        self.seen: deque[tuple[float, int]] = deque(maxlen=WINDOW)
        self.epoch, self.training, self.of = 0, "", ""
        self.looked, self.asked = 0.0, False
        self.measure: Callable[[], int] | None = None
        self.alone, self.over_and_out = threading.RLock(), threading.Event()  # against the thread that beats
        if RUN not in os.environ:
            (self.job / "output.txt").unlink(missing_ok=True)
        settings = project.config.settings.as_dict()
        replace_file(
            self.job / "events.jsonl",
            line("started", run=self.run, kind=kind, tool=__version__, settings=settings),
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
            self.file.write(line(event, **facts))

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
        if epoch := int(event.figures.get("epoch", 0)):
            self.look_at_epoch(event, epoch)

    def look_at_epoch(self, event: Event, epoch: int) -> None:
        """Write down an epoch that has ended, with the training it is of: a run may consist of several."""
        if event.stage != self.training:
            self.training, self.epoch = event.stage, 0
        if epoch > self.epoch and event.done * event.figures.get("epochs", 0) >= epoch * event.total:
            self.epoch, figures = epoch, {name: event.figures[name] for name in ("loss", "accuracy")}
            self.write("epoch", epoch=epoch, **figures, training=event.stage)

    def should_stop(self) -> bool:
        """Say whether someone asked this run to stop."""
        now = time.monotonic()
        if not self.asked and now - self.looked >= GLANCE:
            self.looked, self.asked = now, read_text(self.job / "stop").strip() == self.run
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

    def plan(self, keys: Mapping[str, str], of: str = "", done: Sequence[str] = ()) -> None:
        """Take the stages to come; the curve of a training that this run goes on with is kept.

        Args:
            keys: name to key; a stage is done when its folder is there.
            of: the folders' name, where all share one and the names here are for people.
            done: names of stages that are there by other means.
        """
        self.of = of
        there = [name for name, key in keys.items() if name in done or self.is_there(name, key)]
        self.write("plan", keys=dict(keys), done=there)
        if _trained(self.before) == keys.get("features"):
            for entry in curve_of(self.before):
                self.write("epoch", **entry)
        self.keys, self.over = dict(keys), set(there)

    def is_there(self, name: str, key: str) -> bool:
        """Whether a stage is whole."""
        return self.project.stages.find(self.of or name, key) is not None

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
            if name not in self.over and self.is_there(name, key):
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
            replace_file(self.job / "beat.json", json.dumps(facts).encode())

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


def line(event: str, **facts: Any) -> bytes:
    """Return an event as a line of the file, with the time; facts may bring a time of their own."""
    return f"{json.dumps({'event': event, 'at': time.time(), **facts})}\n".encode()


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file whole, so that a reader sees the old one or the new one."""
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def make_folder(project: Project) -> None:
    """Make the job's folder where there is none; ProjectError where that cannot be."""
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
