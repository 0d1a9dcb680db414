"""The decision log on disk: one SQLite file that only ever grows.

`DecisionLog` knows SQLite and the arithmetic of undo and redo, and nothing about samples, classes or splits: use
`core.review.decisions.Review`, which checks a decision before it is written here. An undo or a redo is a row of its
own that names the batch it is about; the file itself refuses to change or delete a row. Every call opens the file,
does one short transaction and closes it again, so that several processes and threads may share one log; a call that
returned is on disk.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from core.errors import DecisionError, ProjectError
from core.review.schema import (
    BATCHES,
    CURRENT,
    EVENTS,
    FIELDS,
    INSERT,
    LAST_IN_EFFECT,
    LAST_UNDONE,
    OF_SAMPLE,
    SAME,
    create,
    is_ours,
)

T = TypeVar("T")

Row = dict[str, Any]


class DecisionLog:
    """An append-only log of decisions at `path`; the file is made by the first `append`, never by reading.

    Args:
        path: the SQLite file, in write-ahead mode where the file system can, else with a rollback journal.
        read_only: refuse to write, and leave no file beside the log while reading.
        timeout: seconds to wait for another process that is writing.

    Every method raises ProjectError where the file is damaged, of a newer version, or not a decision log, and
    DecisionError where it cannot be read or written now (busy, disk full, no permission); then nothing was recorded.
    """

    def __init__(self, path: Path, *, read_only: bool = False, timeout: float = 30.0) -> None:
        self.path = Path(path)
        self.read_only = read_only
        self.timeout = timeout

    def append(self, events: Sequence[Mapping[str, Any]], *, reviewer: str) -> str:
        """Record `events` as one batch; returns its id. Each has sample_id and action, and any other of `FIELDS`.

        An event whose id is already stored is passed over; where all are, the batch that holds the first is returned.
        Raises DecisionError where a stored event of the same id says something else.
        """
        if not events:
            raise DecisionError("A batch of no decisions was given. Name at least one sample.")
        batch, now = uuid.uuid4().hex, _now()
        rows = [_row(event, kind="decide", batch=batch, reviewer=reviewer, decided_at=now) for event in events]
        with self._writing() as db:
            stored: dict[str, Row] = {}
            fresh = [row for row in rows if not _is_stored(db, row, stored)]
            db.executemany(INSERT, fresh)
        return batch if fresh else str(stored[rows[0]["event_id"]]["batch"])

    def undo(self, *, reviewer: str, event_id: str | None = None) -> str:
        """Take back the last batch of `reviewer` in effect; returns its id. DecisionError where there is none."""
        return self._turn("undo", LAST_IN_EFFECT, (reviewer,), reviewer, event_id)

    def redo(self, *, reviewer: str, event_id: str | None = None) -> str:
        """Bring back the batch `reviewer` undid last; DecisionError where there is none, or they decided since."""
        return self._turn("redo", LAST_UNDONE, {"reviewer": reviewer}, reviewer, event_id)

    def snapshot(self) -> tuple[list[Row], list[Row]]:
        """The state of every sample ever decided and all events with `in_effect`, both as of the same instant."""
        nothing: tuple[list[Row], list[Row]] = ([], [])
        return self._read(lambda db: (_rows(db, CURRENT), _rows(db, EVENTS)), nothing)

    def current(self) -> list[Row]:
        """One row per sample whose decision is in effect, in the order of the decisions."""
        return self._read(lambda db: _rows(db, CURRENT), [])

    def events(self, sample_id: str | None = None) -> list[Row]:
        """Every event as a row with `in_effect`, oldest first; or those of one sample, undo and redo included."""
        if sample_id is None:
            return self._read(lambda db: _rows(db, EVENTS), [])
        return self._read(lambda db: _rows(db, OF_SAMPLE, {"sample": sample_id}), [])

    def batches(self, last: int) -> list[Row]:
        """The last batches of decisions, newest first."""
        return self._read(lambda db: _rows(db, BATCHES, (last,)), [])

    def _turn(self, kind: str, query: str, given: Any, reviewer: str, event_id: str | None) -> str:
        with self._writing() as db:
            sent = db.execute("SELECT kind, target FROM log WHERE event_id = ?", (event_id,)).fetchone()
            if sent and sent["kind"] != kind:
                raise DecisionError(
                    f"Event {event_id!r} is already recorded as {sent['kind']}. Give the {kind} its own id."
                )
            if sent:
                return str(sent["target"])
            found = db.execute(query, given).fetchone()
            if not found:
                left = (
                    "decision of theirs is in effect"
                    if kind == "undo"
                    else "undone decision waits, or a newer one came since"
                )
                raise DecisionError(f"There is nothing to {kind} for {reviewer!r}: no {left}.")
            event = {"event_id": event_id, "target": found[0]}
            row = _row(event, kind=kind, batch=uuid.uuid4().hex, reviewer=reviewer, decided_at=_now())
            db.execute(INSERT, row)
            return str(found[0])

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if self.read_only:
            raise DecisionError(
                f"{self.path.name} was opened for reading only. Open the project for writing to decide."
            )
        with self._plain_words(), closing(self._connect("rwc")) as db:
            if not is_ours(db, self.path):
                create(db)
            db.execute("PRAGMA synchronous = FULL")  # a decision that was acknowledged survives a power cut
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                if db.in_transaction:  # SQLite has already rolled back where the disk was full
                    db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def _read(self, work: Callable[[sqlite3.Connection], T], empty: T) -> T:
        if not self.path.exists():
            return empty
        with self._plain_words():
            quiet = self.read_only or not os.access(self.path.parent, os.W_OK)
            return self._quietly(work, empty) if quiet else self._at_once(work, empty, "rw")

    def _quietly(self, work: Callable[[sqlite3.Connection], T], empty: T) -> T:
        """Read without making the side files of write-ahead mode, unless a writer is at it right now."""
        before = self._stamp()
        if before[0]:
            with suppress(sqlite3.Error):
                found = self._at_once(work, empty, "ro&immutable=1")
                if self._stamp() == before:
                    return found
        return self._at_once(work, empty, "ro")

    def _stamp(self) -> tuple[bool, int, int]:
        at_rest = not any(self.path.with_name(self.path.name + end).exists() for end in ("-wal", "-journal"))
        return at_rest, self.path.stat().st_mtime_ns, self.path.stat().st_size

    def _at_once(self, work: Callable[[sqlite3.Connection], T], empty: T, mode: str) -> T:
        with closing(self._connect(mode)) as db:
            if not is_ours(db, self.path):
                return empty
            db.execute("BEGIN")  # one instant for all queries of `work`
            return work(db)

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"file:{quote(str(self.path.absolute()))}?mode={mode}"
        db = sqlite3.connect(uri, uri=True, timeout=self.timeout, isolation_level=None)
        db.row_factory = sqlite3.Row
        return db

    @contextmanager
    def _plain_words(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            hint = (
                "Another process is writing: try again."
                if "locked" in str(error)
                else "Check the disk and the permissions."
            )
            raise DecisionError(f"{self.path} cannot be used now ({error}); nothing was recorded. {hint}") from error
        except sqlite3.DatabaseError as error:
            raise ProjectError(
                f"{self.path} is damaged or no decision log ({error}). Put a copy of it back."
            ) from error


def _is_stored(db: sqlite3.Connection, row: Row, stored: dict[str, Row]) -> bool:
    """Whether the event of `row` is in the log or earlier in this batch; notes it in `stored` either way."""
    event_id = row["event_id"]
    known = stored.get(event_id) or db.execute("SELECT * FROM log WHERE event_id = ?", (event_id,)).fetchone()
    if known is None:
        stored[event_id] = row
        return False
    if any(known[name] != row[name] for name in SAME):
        raise DecisionError(
            f"Event {event_id!r} is already recorded as {known['action']} of {known['sample_id']!r}, now it says "
            f"{row['action']} of {row['sample_id']!r}. Give the new decision an event id of its own."
        )
    stored[event_id] = dict(known)
    return True


def _row(event: Mapping[str, Any], **fixed: str) -> Row:
    row = {name: event.get(name) for name in FIELDS} | fixed
    row["event_id"] = row["event_id"] or uuid.uuid4().hex
    return row


def _rows(db: sqlite3.Connection, query: str, given: Any = ()) -> list[Row]:
    return [
        {name: bool(row[name]) if name == "in_effect" else row[name] for name in row.keys()}  # noqa: SIM118
        for row in db.execute(query, given)
    ]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
