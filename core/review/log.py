"""The decision log on disk: one SQLite file that only ever grows.

`DecisionLog` knows SQLite and the arithmetic of undo and redo, and nothing about samples, classes or splits: use
`core.review.decisions.Review`, which checks a decision before it is written here. An undo or a redo is a row of its
own that names the batch it is about; the file itself refuses to change or delete a row. Every call opens the file,
does one short transaction and closes it again, so that several processes and threads may share one log; a call that
returned is on disk.
"""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from core.errors import DecisionError, ProjectError
from core.review.schema import (
    BATCHES,
    DONE_PILE,
    EVENTS,
    FIELDS,
    IN_EFFECT,
    IN_EFFECT_SINCE,
    INSERT,
    IS_UNDONE,
    OF_BATCH,
    OF_SAMPLE,
    OF_SAMPLES,
    RECENT,
    SAME,
    SIZE,
    STORED,
    TURNED_SINCE,
    UNDONE_PILE,
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
        self._open: sqlite3.Connection | None = None

    def stay_open(self) -> None:
        """Keep the file open until this object is gone: then a write is four times as fast.

        The last connection that is closed brings the write-ahead file into the log, and flushes both. Meanwhile that
        file stays beside the log; whoever opens the log reads it too, also after a kill.
        """
        if self._open is not None or self.read_only or not self.path.exists():
            return
        with suppress(sqlite3.Error):  # only speed is lost
            self._open = sqlite3.connect(self.path, timeout=self.timeout, check_same_thread=False)
            weakref.finalize(self, self._open.close)
            self._open.execute("SELECT COUNT(*) FROM log").fetchone()

    def append(self, events: Sequence[Mapping[str, Any]], *, reviewer: str, batch: str | None = None) -> str:
        """Record `events` as one batch; returns its id. `Writing.append` tells the rules."""
        with self.writing() as writing:
            return writing.append(events, reviewer=reviewer, batch=batch)

    def undo(self, *, reviewer: str, event_id: str | None = None, target: str | None = None) -> str:
        """Take back a batch of `reviewer`; returns its id. `Writing.undo` tells the rules."""
        with self.writing() as writing:
            return writing.undo(reviewer=reviewer, event_id=event_id, target=target)

    def redo(self, *, reviewer: str, event_id: str | None = None, target: str | None = None) -> str:
        """Bring back a batch that `reviewer` undid; returns its id. `Writing.redo` tells the rules."""
        with self.writing() as writing:
            return writing.redo(reviewer=reviewer, event_id=event_id, target=target)

    @contextmanager
    def writing(self, timeout: float | None = None) -> Iterator[Writing]:
        """Yield one transaction for several calls: all of it is on disk once the block has ended, or none.

        A call that raises DecisionError inside the block has recorded nothing and leaves the rest as it is. What the
        block itself raises at its start or end means that nothing at all was recorded.

        Args:
            timeout: seconds to wait for another process that is writing, where it differs from the log's own.
        """
        with self._writing(self.timeout if timeout is None else timeout) as db:
            yield Writing(db)

    def snapshot(self) -> tuple[list[Row], list[Row]]:
        """The state of every sample ever decided and all events with `in_effect`, both as of the same instant."""
        nothing: tuple[list[Row], list[Row]] = ([], [])
        return self._read(lambda db: (_current(db), _rows(db, EVENTS)), nothing)

    def current(self) -> list[Row]:
        """One row per sample whose decision is in effect, in the order of the decisions."""
        return self._read(_current, [])

    def since(self, seq: int) -> list[Row] | None:
        """The decisions in effect that came after `seq`, in order; None where an undo or a redo came too."""
        return self._read(lambda db: _since(db, seq), None)

    def events(self, sample_id: str | None = None) -> list[Row]:
        """Every event as a row with `in_effect`, oldest first; or those of one sample, undo and redo included."""
        if sample_id is None:
            return self._read(lambda db: _rows(db, EVENTS), [])
        return self._read(lambda db: _rows(db, OF_SAMPLE, {"sample": sample_id}), [])

    def batches(self, last: int) -> list[Row]:
        """The last batches of decisions, newest first."""
        return self._read(lambda db: _rows(db, BATCHES, (last,)), [])

    def recent(self, reviewer: str, last: int) -> list[Row]:
        """The last decisions of `reviewer`, oldest first: seq, batch, kind, reviewer, decided_at."""
        return self._read(lambda db: _rows(db, RECENT, (reviewer, last)), [])

    def stored(self, event_ids: Sequence[str]) -> set[str]:
        """Which of `event_ids` are in the log."""
        return self._read(lambda db: {str(row[0]) for row in db.execute(STORED, (json.dumps(event_ids),))}, set())

    def piles(self, reviewer: str, ids: Sequence[str], depth: int) -> Piles:
        """What `reviewer` can undo and redo, and every decision of the samples `ids`, as of the same instant."""
        return self._read(lambda db: _piles(db, reviewer, ids, depth), Piles([], [], []))

    def mark(self) -> tuple[int, int]:
        """A pair that changes with every event: as the log only grows, equal marks mean equal logs."""
        last = self._read(lambda db: int(db.execute("SELECT COALESCE(MAX(seq), 0) FROM log").fetchone()[0]), 0)
        with suppress(FileNotFoundError):
            return (self.path.stat().st_ino, last)
        return (0, 0)

    @contextmanager
    def _writing(self, timeout: float) -> Iterator[sqlite3.Connection]:
        if self.read_only:
            raise DecisionError(
                f"{self.path.name} was opened for reading only. Open the project for writing to decide."
            )
        with self._plain_words(), closing(self._connect("rwc", timeout)) as db:
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

    def _connect(self, mode: str, timeout: float | None = None) -> sqlite3.Connection:
        uri = f"file:{quote(str(self.path.absolute()))}?mode={mode}"
        db = sqlite3.connect(uri, uri=True, timeout=self.timeout if timeout is None else timeout, isolation_level=None)
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


class Piles(NamedTuple):
    """What one reviewer can take back and bring back."""

    done: list[tuple[str, int]]  # their batches in effect, newest first, each with its number of samples
    undone: list[tuple[str, int]]  # the batches they may redo, the one undone last first
    decisions: list[Row]  # batch, sample_id, action, label, in_effect of the samples asked for, oldest first


class Writing:
    """One open transaction of a log; made by `DecisionLog.writing`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def append(self, events: Sequence[Mapping[str, Any]], *, reviewer: str, batch: str | None = None) -> str:
        """Record `events` as one batch; returns its id. Each has sample_id and action, and any other of `FIELDS`.

        An event whose id is already stored is passed over; where all are, the batch that holds the first is returned.

        Args:
            events: one per sample.
            reviewer: in whose name.
            batch: the batch's id, made up unless given; where this reviewer has such a batch, it takes the events in.

        Raises:
            DecisionError: a stored event of the same id says something else, or the batch is another reviewer's.
        """
        if not events:
            raise DecisionError("A batch of no decisions was given. Name at least one sample.")
        told = {"kind": "decide", "batch": batch or uuid.uuid4().hex, "reviewer": reviewer, "decided_at": _now()}
        rows = [_row(event, **told) for event in events]
        stored: dict[str, Row] = {}
        fresh = [row for row in rows if not _is_stored(self._db, row, stored)]
        if not fresh:
            return str(stored[rows[0]["event_id"]]["batch"])
        holder = self._db.execute(OF_BATCH, (batch,)).fetchone() if batch else None
        if holder and (holder["reviewer"], holder["kind"]) != (reviewer, "decide"):
            raise DecisionError(f"Batch {batch!r} is taken by {holder['reviewer']!r}. Give the batch an id of its own.")
        self._db.executemany(INSERT, fresh)
        return told["batch"]

    def undo(self, *, reviewer: str, event_id: str | None = None, target: str | None = None) -> str:
        """Take back the batch `target` of `reviewer`, by default their last in effect; returns its id.

        A target that is already undone stays so, and the event is noted.

        Raises:
            DecisionError: there is none, or it is another reviewer's.
        """
        return self._turn("undo", reviewer, event_id, target)

    def redo(self, *, reviewer: str, event_id: str | None = None, target: str | None = None) -> str:
        """Bring back the batch `target` that `reviewer` undid, by default the one undone last; returns its id.

        A target that is in effect stays so, and the event is noted.

        Raises:
            DecisionError: there is none, it is another reviewer's, or they decided since.
        """
        return self._turn("redo", reviewer, event_id, target)

    def _turn(self, kind: str, reviewer: str, event_id: str | None, target: str | None) -> str:
        sent = self._db.execute("SELECT * FROM log WHERE event_id = ?", (event_id,)).fetchone()
        if sent:
            same = (sent["kind"], sent["reviewer"]) == (kind, reviewer) and target in (None, sent["target"])
            if not same:
                said = _told(sent["kind"], sent["action"], sent["sample_id"])
                raise DecisionError(f"Event {event_id!r} is already recorded as {said}. Give the {kind} its own id.")
            return str(sent["target"])
        found = self._last(kind, reviewer) if target is None else self._named(kind, reviewer, target)
        event = {"event_id": event_id, "target": found}
        row = _row(event, kind=kind, batch=uuid.uuid4().hex, reviewer=reviewer, decided_at=_now())
        self._db.execute(INSERT, row)
        return found

    def _last(self, kind: str, reviewer: str) -> str:
        found = self._db.execute(DONE_PILE if kind == "undo" else UNDONE_PILE, {"reviewer": reviewer}).fetchone()
        if not found:
            raise _nothing(kind, reviewer)
        return str(found[0])

    def _named(self, kind: str, reviewer: str, target: str) -> str:
        holder = self._db.execute(OF_BATCH, (target,)).fetchone()
        if not holder or holder["kind"] != "decide":
            raise DecisionError(f"There is no batch {target!r} to {kind}: it was not recorded.")
        if holder["reviewer"] != reviewer:
            raise DecisionError(f"Batch {target!r} is {holder['reviewer']!r}'s. Each person can {kind} their own only.")
        latest = self._db.execute(IS_UNDONE, (target,)).fetchone()
        undone = bool(latest and latest[0])
        waiting = (row[0] for row in self._db.execute(UNDONE_PILE, {"reviewer": reviewer}))
        if kind == "redo" and undone and target not in waiting:
            raise _nothing(kind, reviewer)
        return target


def _nothing(kind: str, reviewer: str) -> DecisionError:
    left = "decision of theirs is in effect" if kind == "undo" else "undone decision waits, or a newer one came since"
    return DecisionError(f"There is nothing to {kind} for {reviewer!r}: no {left}.")


def _piles(db: sqlite3.Connection, reviewer: str, ids: Sequence[str], depth: int) -> Piles:
    done, undone = (_first_distinct(db, pile, reviewer, depth) for pile in (DONE_PILE, UNDONE_PILE))
    sized = [[(batch, int(db.execute(SIZE, (batch,)).fetchone()[0])) for batch in pile] for pile in (done, undone)]
    return Piles(sized[0], sized[1], _rows(db, OF_SAMPLES, (json.dumps(ids),)))


def _first_distinct(db: sqlite3.Connection, pile: str, reviewer: str, depth: int) -> list[str]:
    """The first `depth` different batches; reading ends there."""
    found: dict[str, None] = {}
    for row in db.execute(pile, {"reviewer": reviewer}):
        if row[0] not in found and len(found) >= depth:
            break
        found[row[0]] = None
    return list(found)


def _told(kind: str, action: Any, sample_id: Any) -> str:
    return f"{action} of {sample_id!r}" if kind == "decide" else kind


def _is_stored(db: sqlite3.Connection, row: Row, stored: dict[str, Row]) -> bool:
    """Whether the event of `row` is in the log or earlier in this batch; notes it in `stored` either way."""
    event_id = row["event_id"]
    known = stored.get(event_id) or db.execute("SELECT * FROM log WHERE event_id = ?", (event_id,)).fetchone()
    if known is None:
        stored[event_id] = row
        return False
    if any(known[name] != row[name] for name in SAME):
        before, now = (_told(each["kind"], each["action"], each["sample_id"]) for each in (known, row))
        by = "" if known["reviewer"] == row["reviewer"] else f" by {known['reviewer']!r}"
        raise DecisionError(
            f"Event {event_id!r} is already recorded as {before}{by}, now it says {now}. "
            "Give the new decision an event id of its own."
        )
    stored[event_id] = dict(known)
    return True


def _row(event: Mapping[str, Any], **fixed: str) -> Row:
    row = {name: event.get(name) for name in FIELDS} | fixed
    row["event_id"] = row["event_id"] or uuid.uuid4().hex
    return row


def _current(db: sqlite3.Connection) -> list[Row]:
    """The last decision in effect of each sample; one pass in order is twice as fast as letting SQLite group."""
    latest: dict[str, Row] = {}
    for row in _rows(db, IN_EFFECT):
        latest.pop(row["sample_id"], None)  # so that the order is that of the last decisions
        latest[row["sample_id"]] = row
    return list(latest.values())


def _since(db: sqlite3.Connection, seq: int) -> list[Row] | None:
    turned = bool(db.execute(TURNED_SINCE, (seq,)).fetchone()[0])
    return None if turned else _rows(db, IN_EFFECT_SINCE, (seq,))


def _rows(db: sqlite3.Connection, query: str, given: Any = ()) -> list[Row]:
    cursor = db.cursor()
    cursor.row_factory = None  # plain tuples: three times as fast
    cursor.execute(query, given)
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    if "in_effect" in names:
        for row in rows:
            row["in_effect"] = bool(row["in_effect"])
    return rows


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
