"""Small worlds in which the idea of the tool can be tried: points, a model of a moment, what its gradients say.

    answer = play(Ask("moons", seed=0, width=16, measure="push", count=20))

`worlds.py` the points, `models.py` the two models, `measures.py` what is read off them, `borders.py` the border as a
line, `play.py` one answer to one question, `words.py` the sentence under each picture. Needs numpy and scipy; the
forest of `core.scores` is loaded when it is first asked for.
"""

from core.toys.measures import MEASURES, ready, warm
from core.toys.models import WIDTH, WIDTHS
from core.toys.play import MOST, Answer, Ask, Errors, play
from core.toys.words import claim, fresh_points, sentences, trimmed_sentence
from core.toys.worlds import FRAME, KINDS, SEEDS, Edit, read, written

__all__ = [
    "FRAME", "KINDS", "MEASURES", "MOST", "SEEDS", "WIDTH", "WIDTHS", "Answer", "Ask", "Edit", "Errors", "claim",
    "fresh_points", "play", "read", "ready", "sentences", "trimmed_sentence", "warm", "written",
]  # fmt: skip
