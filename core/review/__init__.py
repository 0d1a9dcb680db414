"""From evidence to a decision: who is flagged, what a person decided, and what a screen shows of it.

`flags` ranks and flags, `log` keeps events on disk, `decisions` holds the rules of a decision, `present` gives plain
rows. Nothing here loads torch, and nothing here removes a sample: a flag proposes, a recorded decision disposes.
"""
