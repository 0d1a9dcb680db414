"""The decision log's file: its tables, the queries that `core.review.log` asks, and whether a file is one at all.

`log` has one row per event. The triggers make it append-only for every program that opens the file, ours included;
the view `undone` holds the batches whose latest undo or redo is an undo.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from core.errors import ProjectError

VERSION = 1
_APPLICATION = 0x47534654  # "GSFT" in the file's header: tells our log from somebody else's database
_FIELDS = ("event_id", "batch", "kind", "target", "sample_id", "action", "label", "reviewer", "decided_at", "note")
FIELDS = (*_FIELDS, "suspicion")
INSERT = f"INSERT INTO log ({', '.join(FIELDS)}) VALUES ({', '.join(':' + name for name in FIELDS)})"
SAME = ("kind", "sample_id", "action", "label", "reviewer")  # an event sent twice must agree in these
_SCHEMA = f"""
CREATE TABLE log (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  event_id TEXT NOT NULL UNIQUE,
  batch TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('decide', 'undo', 'redo')),
  target TEXT CHECK ((kind = 'decide') = (target IS NULL)),
  sample_id TEXT CHECK ((kind = 'decide') = (sample_id IS NOT NULL)),
  action TEXT CHECK ((kind = 'decide') = (action IS NOT NULL)),
  label TEXT,
  reviewer TEXT NOT NULL,
  decided_at TEXT NOT NULL,
  note TEXT,
  suspicion REAL
);
CREATE INDEX log_sample ON log (sample_id, seq);
CREATE INDEX log_batch ON log (batch);
CREATE INDEX log_reviewer ON log (reviewer, kind, seq);
CREATE INDEX log_target ON log (target, seq) WHERE target IS NOT NULL;
CREATE VIEW undone AS
  SELECT target AS batch FROM (SELECT target, kind, MAX(seq) FROM log WHERE target IS NOT NULL GROUP BY target)
  WHERE kind = 'undo';
CREATE TRIGGER log_keeps_rows BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'the decision log only grows'); END;
CREATE TRIGGER log_keeps_values BEFORE UPDATE ON log BEGIN SELECT RAISE(ABORT, 'the decision log only grows'); END;
CREATE TRIGGER log_replaces_nothing BEFORE INSERT ON log
  WHEN EXISTS (SELECT 1 FROM log WHERE event_id = NEW.event_id OR seq = NEW.seq)
  BEGIN SELECT RAISE(ABORT, 'the decision log only grows'); END;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
"""
IN_EFFECT = """
SELECT sample_id, action, label, reviewer, decided_at, note, seq FROM log
WHERE kind = 'decide' AND batch NOT IN (SELECT batch FROM undone) ORDER BY seq
"""
IN_EFFECT_SINCE = """
SELECT sample_id, action, label, reviewer, decided_at, note, seq FROM log
WHERE seq > ? AND batch NOT IN (SELECT batch FROM undone) ORDER BY seq
"""
TURNED_SINCE = "SELECT EXISTS (SELECT 1 FROM log WHERE seq > ? AND kind != 'decide')"
OF_BATCH = "SELECT reviewer, kind FROM log WHERE batch = ? ORDER BY seq LIMIT 1"
IS_UNDONE = "SELECT kind = 'undo' FROM log WHERE target = ? ORDER BY seq DESC LIMIT 1"
DONE_PILE = """
SELECT batch FROM log WHERE kind = 'decide' AND reviewer = :reviewer AND batch NOT IN (SELECT batch FROM undone)
ORDER BY seq DESC
"""
UNDONE_PILE = """
SELECT target FROM log WHERE kind = 'undo' AND reviewer = :reviewer AND target IN (SELECT batch FROM undone)
AND seq > (SELECT COALESCE(MAX(seq), 0) FROM log WHERE kind = 'decide' AND reviewer = :reviewer)
ORDER BY seq DESC
"""
SIZE = "SELECT COUNT(DISTINCT sample_id) FROM log WHERE batch = ?"
OF_SAMPLES = """
SELECT batch, sample_id, action, label, batch NOT IN (SELECT batch FROM undone) AS in_effect FROM log
WHERE kind = 'decide' AND sample_id IN (SELECT value FROM json_each(?)) ORDER BY seq
"""
RECENT = """
SELECT * FROM (SELECT seq, batch, kind, reviewer, decided_at FROM log WHERE kind = 'decide' AND reviewer = ?
ORDER BY seq DESC LIMIT ?) ORDER BY seq
"""
STORED = "SELECT event_id FROM log WHERE event_id IN (SELECT value FROM json_each(?))"
_ANY_EVENT = "SELECT *, kind = 'decide' AND batch NOT IN (SELECT batch FROM undone) AS in_effect FROM log"
EVENTS = f"{_ANY_EVENT} ORDER BY seq"
OF_SAMPLE = f"""
{_ANY_EVENT} WHERE sample_id = :sample OR target IN (SELECT batch FROM log WHERE sample_id = :sample) ORDER BY seq
"""
BATCHES = """
SELECT batch, reviewer, decided_at, COUNT(*) AS decisions, GROUP_CONCAT(DISTINCT action) AS actions,
MIN(sample_id) AS sample_id, MAX(note) AS note, batch NOT IN (SELECT batch FROM undone) AS in_effect, MAX(seq) AS seq
FROM log WHERE kind = 'decide' GROUP BY batch ORDER BY seq DESC LIMIT ?
"""


def is_ours(db: sqlite3.Connection, path: Path) -> bool:
    """Whether `db` is a decision log; False for an empty file; ProjectError for anything else."""
    version, application, tables = (
        db.execute(query).fetchone()[0]
        for query in ("PRAGMA user_version", "PRAGMA application_id", "SELECT COUNT(*) FROM sqlite_master")
    )
    if not tables:
        return False
    if application != _APPLICATION:
        raise ProjectError(f"{path} is a database of another program, not a decision log. Move it out of the project.")
    if version > VERSION:
        raise ProjectError(
            f"{path} was written by a newer GradSift (log version {version}, this one reads {VERSION}). Update."
        )
    return True


def create(db: sqlite3.Connection) -> None:
    """Make the tables of a new log, in one transaction; another process may be doing the same."""
    with suppress(sqlite3.OperationalError):  # a file system without shared memory keeps the rollback journal
        db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN IMMEDIATE")
    if not db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:  # another process may have been first
        for statement in _statements(_SCHEMA):
            db.execute(statement)
    db.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    """Split a script into statements: `executescript` would commit in between, and a kill could leave half a schema."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
