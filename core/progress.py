"""How long work reports where it is, and how it learns that it should stop.

Work calls `progress.report(stage, done, total, unit)` at least once per batch. The listener (a terminal, a log, a
page) gets an `Event`; where a stop was asked for, `report` raises `Stopped`, so that work ends within a batch. Work
itself never prints and never looks at a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from core.errors import Stopped


@dataclass(frozen=True)
class Event:
    """One report: `done` of `total` `unit`s of `stage`, with figures worth showing (loss, accuracy …)."""

    stage: str
    done: int
    total: int
    unit: str
    figures: Mapping[str, float | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Where long work reports to: events, a wish to stop, and now and then a sentence (`note`). The default is deaf."""

    listen: Callable[[Event], None] = lambda _event: None
    should_stop: Callable[[], bool] = lambda: False
    note: Callable[[str], None] = lambda _text: None

    def report(self, stage: str, done: int, total: int, unit: str, **figures: float | int) -> None:
        """Tell the listener, then raise `Stopped` if the person asked for it."""
        self.listen(Event(stage, done, total, unit, figures))
        if self.should_stop():
            raise Stopped(f"Stopped during {stage} at {done:,} of {total:,} {unit}. Run the same command to go on.")
