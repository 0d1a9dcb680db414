"""A run as a process of its own, `start` and `stop`; and `ask`, a short command that answers in JSON."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from core.errors import ProjectError
from core.jobs.reading import LAST_WORDS, fold, loads, lock_of, read_events, read_text, state
from core.jobs.record import RUN, line, make_folder, replace_file
from core.project import Project, exclusive, held
from core.terminal import duration, shown

_PROGRAM = (sys.executable, "-P", "-m", "core.cli")


def start(project: Project, arguments: Sequence[str], command: str = "sift") -> None:
    """Start a long command on the project in a session of its own: it outlives this process.

    Args:
        project: what to work on; a stopped or killed run goes on where it was.
        arguments: options of the command.
        command: `sift`, or another one that works under `recorded` with its own name as the kind.

    Raises:
        ProjectError: a run is working on the project, or its folder cannot be written to.
    """
    busy = ProjectError(f"Another run is working on {project.folder}. Wait for it, or stop it first.")
    if state(project).running:
        raise busy
    make_folder(project)
    run, events = uuid.uuid4().hex, project.job / "events.jsonl"
    try:
        with exclusive(lock_of(project), project.folder):
            before = read_events(read_text(events))
            if held(project.folder / ".lock") or fold(before, time.time(), locked=False).running:
                raise busy  # another start came first
            kept = [line(**event) for event in before if event["event"] in ("plan", "epoch")]
            (project.job / "stop").unlink(missing_ok=True)
            with (project.job / "output.txt").open("wb") as output:
                process = subprocess.Popen(  # it waits for the lock before it writes
                    [*_PROGRAM, command, str(project.folder), *arguments], stdin=subprocess.DEVNULL, stdout=output,
                    stderr=subprocess.STDOUT, env={**_environment(), RUN: run}, start_new_session=True,
                )  # fmt: skip
            replace_file(events, b"".join([line("asked", run=run, kind=command, arguments=list(arguments)), *kept]))
    except OSError as error:
        raise ProjectError(f"The run of {project.folder} cannot be started: {error}.") from error
    threading.Thread(target=_wait, args=(process, project, run), daemon=True).start()


def _wait(process: subprocess.Popen[bytes], project: Project, run: str) -> None:
    """Wait for the process, so that none is left a zombie; one that ended before it began has its words told."""
    process.wait()
    with suppress(OSError, ProjectError), exclusive(lock_of(project), project.folder):
        events = read_events(read_text(project.job / "events.jsonl"))
        if [event["event"] for event in events if event.get("run") == run] == ["asked"]:
            said = _answer(read_text(project.job / "output.txt", LAST_WORDS)) or f"It ended with {process.returncode}."
            with (project.job / "events.jsonl").open("ab") as file:
                file.write(line("failed", message=said))


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
            replace_file(project.job / "stop", now.run.encode())
        except OSError as error:
            raise ProjectError(f"{project.folder} cannot be written to: {error}.") from error


def _environment() -> dict[str, str]:
    """Return an environment in which a new process finds this `core` and no other."""
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH", "")])]
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
            answer = loads(_so_far(self._out)) if status == 0 else None
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
