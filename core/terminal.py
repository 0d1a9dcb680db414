"""Progress for people: one moving line with rate and time left on a terminal, plain lines on a pipe.

Both write to standard error, so that standard output holds results only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from core.progress import Event

EVERY = 10.0  # seconds between two lines on a pipe
SETTLE = 0.5  # seconds before a rate is worth saying


@runtime_checkable
class Stream(Protocol):
    """What is written to: standard error, or anything like it."""

    def write(self, text: str, /) -> object:
        """Take a text."""
        ...

    def flush(self) -> None:
        """Show what was taken."""
        ...

    def isatty(self) -> bool:
        """Say whether a person watches."""
        ...


@dataclass
class Narrator:
    """Listens to `Event`s and writes them to a stream."""

    stream: Stream
    moving: bool
    _stage: str = ""
    _begin: float = 0.0
    _first: int = 0
    _shown: float = field(default=0.0)

    @classmethod
    def on(cls, stream: Stream) -> Narrator:
        """Make one that moves on a terminal and prints lines elsewhere."""
        return cls(stream, stream.isatty())

    def __call__(self, event: Event) -> None:
        """Write the event, if it is time to."""
        now = time.monotonic()
        if event.stage != self._stage:
            self.close()
            self._stage, self._begin, self._first, self._shown = event.stage, now, event.done, 0.0
        finished = event.done >= event.total
        if finished or now - self._shown >= (0.1 if self.moving else EVERY):
            self._shown = now
            self._write(describe(event, now - self._begin, event.done - self._first))

    def note(self, text: str) -> None:
        """Write a sentence on a line of its own."""
        self.close()
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def close(self) -> None:
        """End the moving line, if there is one."""
        if self.moving and self._stage:
            self.stream.write("\n")
            self.stream.flush()
        self._stage = ""

    def _write(self, text: str) -> None:
        self.stream.write(f"\r\x1b[2K{text}" if self.moving else f"{text}\n")
        self.stream.flush()


def describe(event: Event, seconds: float | int, done: int) -> str:
    """Say where a stage stands: share, count, rate, time left, figures.

    Args:
        event: the report.
        seconds: how long this stage has been running now.
        done: units done in that time (a resumed stage did not start at 0).
    """
    parts = [f"{event.stage:<16} {event.done:,} of {event.total:,} {event.unit}"]
    if done > 0 and seconds > SETTLE:
        rate = done / seconds
        parts.append(per_second(rate))
        left = (event.total - event.done) / rate
        parts.append(f"{duration(left)} left" if event.done < event.total else f"took {duration(seconds)}")
    if "epoch" in event.figures:
        parts.append(f"epoch {event.figures['epoch']:.0f} of {event.figures['epochs']:.0f}")
        parts.append(f"loss {event.figures['loss']:.3f}, accuracy on given labels {event.figures['accuracy']:.1%}")
    return " · ".join(parts)


def standing(
    stage: str, done: int, total: int, unit: str, rate: float | int | None, left: float | int | None
) -> list[str]:
    """Say where a run stands, in parts: count, rate, seconds left in the stage; what is unknown is left out."""
    return [
        f"{stage} {done:,} of {total:,} {unit}" if total else stage,
        *([per_second(rate)] if rate else []),
        *([f"{duration(left)} left in this stage"] if left is not None else []),
    ]


def per_second(rate: float | int) -> str:
    """Return a rate as a person says it: `2,300/s`, `0.4/s`."""
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def duration(seconds: float | int) -> str:
    """Return seconds as a person says them: `0.4 s`, `42 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def table(rows: list[dict[str, object]], columns: dict[str, str]) -> str:
    """Lay rows out in columns; `columns` maps keys to headings. Control characters are shown, never obeyed."""
    cells = [[shown(row.get(key)) for key in columns] for row in rows]
    widths = [max(len(line[i]) for line in [list(columns.values()), *cells]) for i in range(len(columns))]
    lines = [list(columns.values()), *cells]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def shown(value: object) -> str:
    """Return a value as text in which control characters are spelled out."""
    text = "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)
    if isinstance(value, bool):
        text = "yes" if value else ""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
