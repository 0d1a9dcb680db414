"""The sentence under each picture: what can be seen in it, counted afresh, so that it is true of what is shown."""

from __future__ import annotations

from core.toys.play import RANDOM, Answer, Errors
from core.toys.worlds import CHECK, FRESH

LOADING = "This one is being loaded; it appears in a moment."
FEW = 0.005  # share of the fresh points below which a difference is not spoken of
SLIGHT = 0.005  # the same of the mean surprise, in nats


def sentences(answer: Answer) -> dict[str, str]:
    """One sentence for each picture: "points" and every measure."""
    return {
        "points": _points(answer),
        "loss": f"Marked: the model expects the other label here. {_found(answer, 'loss')}",
        "push": f"An arrow: which way a point moves the border, and how hard. {_found(answer, 'push')}",
        "harm": _harm(answer),
        "unlike": _unlike(answer),
    }


def trimmed_sentence(answer: Answer) -> str:
    """Who was taken away, and what came of it against as many taken at random; "" where none were taken."""
    trimmed = answer.trimmed
    if trimmed is None:
        return ""
    taken, wrong = int(trimmed.taken.sum()), int(answer.world.wrong.sum())
    if wrong:
        told = f"{trimmed.hits} of the {_points_of(taken)} taken away had a wrong label."
    else:
        told = (
            f"No label is wrong here, so {_points_of(taken)} with a right label {'is' if taken == 1 else 'are'} gone."
        )
    return f"{told} {change(answer.errors, trimmed.errors, trimmed.random)}".strip()


def change(before: Errors, after: Errors, random: Errors | None) -> str:
    """What became of the model, in words that both figures bear out: against before, and against chance."""
    if random is None:
        return ""
    surer, righter = before.surprise - after.surprise > SLIGHT, before.wrong - after.wrong > FEW
    unsure, wronger = after.surprise - before.surprise > SLIGHT, after.wrong - before.wrong > FEW
    if (surer and wronger) or (righter and unsure):
        more = "more" if wronger else "fewer"
        other = "less" if surer else "more"
        return f"The model is {other} surprised by fresh points, but gets {more} of them wrong."
    if unsure or wronger:
        return "The model got worse: what was taken away is missed."
    if not (surer or righter):
        return "The model is about as good as before."
    chance = random.surprise - after.surprise > SLIGHT or random.wrong - after.wrong > FEW
    return f"The model got better, {'and better' if chance else 'but no better'} than with as many taken at random."


def fresh_points() -> str:
    """What errors are counted on."""
    return f"Counted on {FRESH:,} fresh points with right labels. At random: the mean of {RANDOM} draws."


def claim(answer: Answer) -> str:
    """What a well-known figure says of this world, and what is seen here; "" for a world that shows what it says."""
    wrong = int(answer.world.wrong.sum())
    if not answer.world.kind.hidden or not wrong or "unlike" not in answer.measured.values:
        return ""
    harm, unlike = (answer.measured.hits(name, answer.world.wrong) for name in ("harm", "unlike"))
    told = (
        "A well-known figure has it that on half-moons the estimate “what if it were not there” fails, and that unlike "
        f"pushes find the wrong labels. Here the two find {harm} and {unlike} of {wrong}"
    )
    return f"{told}: with check points that are right the estimate does not fail." if 2 * harm > wrong else f"{told}."


def _points(answer: Answer) -> str:
    wrong, share = int(answer.world.wrong.sum()), f"{answer.errors.wrong:.1%}".replace("%", " %")
    planted = {0: "every label is right", 1: "1 carries the wrong label"}.get(wrong, f"{wrong} carry the wrong label")
    return (
        f"{len(answer.world.xy)} points of two kinds; {planted}. The line is the border that a small model learned "
        f"from them: it gets {share} of fresh points wrong."
    )


def _found(answer: Answer, name: str) -> str:
    """How many of the wrong labels stand first, as many as there are wrong ones."""
    wrong = int(answer.world.wrong.sum())
    if not wrong:
        return "No label is wrong, and still some points come first."
    hits = answer.measured.hits(name, answer.world.wrong)
    return (
        f"Of its first {wrong}, {hits} have a wrong label."
        if wrong > 1
        else f"Its first is {'' if hits else 'not '}it."
    )


def _harm(answer: Answer) -> str:
    told = f"Orange: estimated to do harm (blue: good), judged by {CHECK} other points that are known to be right."
    if answer.agreement is None:
        return f"{told} {_found(answer, 'harm')}"
    near = f"{answer.agreement:.3f}" if answer.agreement < 0.9995 else "above 0.999"
    return f"{told} Really leaving each one out agrees (correlation {near}). {_found(answer, 'harm')}"


def _unlike(answer: Answer) -> str:
    if "unlike" not in answer.measured.values:
        return LOADING
    return f"Compares the pushes only; nobody tells it what is right. {_found(answer, 'unlike')}"


def _points_of(count: int) -> str:
    return "1 point" if count == 1 else f"{count} points"
