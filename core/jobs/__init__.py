"""Long work as a process of its own: whoever looks at the project's folder sees it, and may stop it.

    <project>/job/events.jsonl  what happened, one line each; a new run replaces the file
                  beat.json     where the run stands, replaced twice a second
                  output.txt    what the process printed
                  stop          the id of the run that should stop
                  .lock         held by the run; the kernel frees it when the process dies

`recorded` writes all this around any long work, so a run started in a terminal is seen by the app and the other way
round. `start` begins a run that outlives its starter, `state` says where it is, `stop` asks it to end within a batch.
`ask` is for short commands that answer in JSON. Nothing here computes, and nothing loads torch.

`reading` holds what is read, `record` what a run writes, `process` what starts and stops one.
"""

from __future__ import annotations

from core.jobs.process import Asking, ask, start, stop
from core.jobs.reading import THUMBS, JobState, fold, read_events, state
from core.jobs.record import BEAT, GLANCE, Recording, one_line, recorded

__all__ = [
    "BEAT", "GLANCE", "THUMBS", "Asking", "JobState", "Recording", "ask", "fold", "one_line", "read_events", "recorded",
    "start", "state", "stop",
]  # fmt: skip
