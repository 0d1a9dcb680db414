"""The grid in a browser: no key is lost, what is shown is what is stored, and names stay text."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import streamlit as st

from core.review.decisions import Review
from core.review.inbox import Receipt
from core.review.log import DecisionLog
from pages.ui import cached, grid, large, session

HERE = Path(__file__).parent
HOSTILE = '<img src=x onerror="window.hit=1">'
SIGNS = {"keep": "✓ kept", "exclude": "✕ out", "unsure": "? unsure"}
# A server that is away on purpose.
LOST = r"WebSocket|ERR_CONNECTION_REFUSED|Failed to fetch|disconnected from server|not responding"
NAMES = (f"rev{number}" for number in itertools.count())

# When a key came in: the grid keeps the event to itself, so this has to be there first.
PRESSED = (
    "window.pressed = null; window.addEventListener('keydown', () => { window.pressed ??= performance.now() }, true)"
)
# From the key to the frame after its badge was written, in ms.
OBSERVER = """() => {
  window.paints = [];
  const seen = new MutationObserver((changes) => {
    const badge = (node) => node.nodeType === 1 && node.matches(".badge");
    if (window.pressed === null || !changes.some((one) => badge(one.target))) return;
    const from = window.pressed;
    window.pressed = null;
    requestAnimationFrame(() => setTimeout(() => window.paints.push(performance.now() - from)));
  });
  const hosts = [...document.querySelectorAll("[data-testid=stBidiComponentIsolated]")];
  const host = hosts.find((node) => node.shadowRoot?.querySelector(".list"));
  seen.observe(host.shadowRoot, { subtree: true, childList: true, attributes: true });
}"""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "decisions.sqlite"


@pytest.fixture(scope="module")
def app(serve: Callable[..., Any], log: Path) -> Any:
    return serve(HERE / "grid_app.py", str(log))


@pytest.fixture
def who() -> str:
    """A reviewer of its own for each test, who has decided nothing yet; see `held` for what others decided."""
    return next(NAMES)


@pytest.fixture
def open_grid(app: Any, log: Path, who: str) -> Callable[..., None]:
    def open_grid(page: Any, query: str = "") -> None:
        page.goto(f"{app}/?who={who}&{query}")
        page.locator(".card").first.wait_for()
        page.locator(".status.saved, .status:text-is('read-only')").first.wait_for()

    return open_grid


@pytest.fixture(autouse=True)
def clean(log: Path) -> None:
    """Each test begins with nothing decided."""
    for path in log.parent.glob(log.name + "*"):
        path.unlink()


def test_what_the_browser_says_is_read_with_care() -> None:
    event = {"event_id": "e"}
    said = grid.read({"outbox": [event, 3, None], "focus": "a.png", "opened": 7, "n": "t.1", "owner": "o", "more": 1})
    assert said == grid.Sent((event,), "a.png", None, "t.1", owner="o")
    assert grid.read(None) == grid.read([1]) == grid.read({"outbox": "x", "owner": 3}) == grid.Sent()
    assert grid.read({"opened": {"id": "a.png", "n": "1"}}) == grid.Sent(opened="a.png", opened_number="1")
    assert grid.read({"opened": {"id": 3, "n": ["1"]}}) == grid.read({"opened": "a.png"}) == grid.Sent()


def test_what_was_said_to_another_owner_is_not_heard() -> None:
    said = grid.Sent(({"event_id": "e"},), "a.png", "a.png", "t.1", "mine", "1")
    assert said.of("mine") is said
    assert said.of("another's") == grid.Sent().of("mine") == grid.Sent()


IDS = ("a.png", "b.png")


@pytest.fixture
def review(tmp_path: Path) -> Review:
    (tmp_path / "project").mkdir()
    return Review.of(
        ("cat", "dog"), dict.fromkeys(IDS, "cat"), (), tmp_path / "project" / "review.sqlite", reviewer="ann"
    )


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`says(owner)`: the browser has spoken, to the project and reviewer of that name."""
    state: dict[str, Any] = {}
    monkeypatch.setattr(session, "keep", state.__setitem__)
    monkeypatch.setattr(session, "kept", lambda name, default=None: state.get(name, default))
    monkeypatch.setattr(session, "query", lambda _name: "")
    monkeypatch.setattr(session, "set_query", lambda **_more: None)
    event = {"event_id": "e", "kind": "decide", "batch": "b", "sample_id": "a.png", "action": "exclude", "label": None}

    def says(owner: str) -> None:
        monkeypatch.setattr(grid, "sent", lambda _key: grid.Sent((event,), "b.png", "b.png", "t.1", owner, "1"))

    return says


@pytest.mark.parametrize(
    ("folder", "name", "mine"), [("project", "ann", True), ("elsewhere", "ann", False), ("project", "bea", False)]
)
def test_a_decision_goes_into_the_log_it_was_made_for(
    review: Review, says: Callable[[str], None], tmp_path: Path, folder: str, name: str, mine: bool
) -> None:
    findings: Any = SimpleNamespace(samples={"suspicion": None})
    says(large.owner(cast("Any", SimpleNamespace(folder=tmp_path / folder)), name))
    receipt = large.received("k", review, findings)
    assert receipt == (Receipt(stored=("e",)) if mine else Receipt())
    assert review.log.path.exists() == mine
    assert large.said("k", review).opened == ("b.png" if mine else None)
    assert large.focused("k", IDS) == ("b.png" if mine else "a.png")


@pytest.mark.parametrize("mine", [True, False])
def test_leftovers_go_into_the_log_they_were_made_for(
    review: Review, says: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, mine: bool
) -> None:
    project: Any = SimpleNamespace(folder=review.log.path.parent)
    drawn: list[Any] = []
    monkeypatch.setattr(session, "read_only", lambda: None)
    monkeypatch.setattr(session, "reviewer", lambda: "ann")
    monkeypatch.setattr(cached, "review", lambda *_told, **_more: review)
    monkeypatch.setattr(st, "fragment", lambda body: body)
    monkeypatch.setattr(st, "rerun", lambda: None)
    monkeypatch.setattr(grid, "pending", lambda *told: drawn.append(told))
    says(large.owner(project, "ann" if mine else "bea"))
    large.late("k", project, None)
    stored = ["e"] if mine else []
    assert drawn == [("k", large.owner(project, "ann"), {"stored": stored, "refused": {}, "failed": None})]
    assert review.log.path.exists() == mine


def test_decisions_are_packed_by_place() -> None:
    places, classes = {"a": 0, "b": 1, "c": 2}, ["cat", "dog"]
    values = {"b": ("relabel", "dog", "ann"), "a": ("keep", None, None), "elsewhere": ("keep", None)}
    assert grid.packed(values, places, classes) == [[1, "r", 1, "ann"], [0, "k"]]
    assert grid.packed({"c": ("relabel", "gone")}, places, classes) == [[2, "r", "gone"]]
    done = {"undo": [{"batch": "x", "count": 3, "before": {"a": ["undecided", None]}}], "redo": []}
    assert grid.batches(done, places, classes) == {"undo": [{"b": "x", "c": 3, "v": [[0, "n"]]}], "redo": []}


def until(true: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def decided(log: Path) -> list[tuple[str, str, str | None]]:
    return [(e["sample_id"], e["action"], e["label"]) for e in DecisionLog(log).events() if e["kind"] == "decide"]


def held(log: Path) -> dict[str, tuple[str, str | None]]:
    return {e["sample_id"]: (e["action"], e["label"]) for e in DecisionLog(log).current()}


def saved(page: Any) -> None:
    """Wait until nothing is in the outbox."""
    page.wait_for_function("() => Object.keys(localStorage).every((key) => !key.startsWith('gradsift.outbox'))")
    page.locator(".status.saved").first.wait_for()


def badges(page: Any) -> list[str]:
    return page.locator(".badge").all_inner_texts()


def badge(page: Any, place: int, text: str) -> None:
    until(lambda: page.locator(".card").nth(place).locator(".badge").text_content() == text)


def ids(page: Any) -> list[str]:
    return page.locator(".card").evaluate_all("nodes => nodes.map((node) => node.dataset.id)")


def current(page: Any) -> int:
    return page.locator(".card").evaluate_all("nodes => nodes.findIndex((node) => node.classList.contains('cur'))")


def on_panel(page: Any, place: int) -> None:
    """Wait until the large view shows the image at `place`."""
    name = ids(page)[place]
    until(lambda: page.locator(".panel").get_attribute("data-id") == name)


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def bar(page: Any) -> Callable[[], None]:
    """Cut the page off from the server: what it sends is swallowed until the returned function is called."""
    open_again: list[bool] = []

    def between(socket: Any) -> None:
        server = socket.connect_to_server()
        socket.on_message(lambda message: server.send(message) if open_again else None)

    page.route_web_socket("**/_stcore/stream", between)
    open_again.append(True)
    return open_again.clear


def test_sixty_keys_at_ten_a_second_are_all_painted_and_stored(page: Any, open_grid: Any, log: Path) -> None:
    received: list[int] = []
    page.on("websocket", lambda ws: ws.on("framereceived", lambda frame: received.append(len(frame))))
    page.add_init_script(PRESSED)
    open_grid(page, "n=60")
    page.locator(".more .trio").wait_for()
    page.evaluate(OBSERVER)
    first_load, received[:] = sum(received), []
    keys = list(itertools.islice(itertools.cycle("kxu"), 60))
    began = time.monotonic()
    for number, key in enumerate(keys):
        page.keyboard.press(key)
        page.wait_for_timeout(max(0, (began + 0.1 * (number + 1) - time.monotonic()) * 1000))
    took, last = time.monotonic() - began, time.monotonic()
    until(lambda: len(decided(log)) == 60)
    stored_after = time.monotonic() - last
    saved(page)
    want = {"k": "keep", "x": "exclude", "u": "unsure"}
    assert decided(log) == [(i, want[key], None) for i, key in zip(ids(page), keys, strict=True)]
    assert badges(page) == [SIGNS[want[key]] for key in keys]
    paints = sorted(page.evaluate("window.paints"))
    assert len(paints) >= 55  # keys whose frames fell together count once
    assert paints[0] > 0
    middle, worst, size = paints[len(paints) // 2], paints[-1], sum(received) // 60
    print(f"\n60 keys in {took:.1f} s; key to paint: median {middle:.1f}, worst {worst:.1f} ms")
    print(f"last stored {stored_after * 1000:.0f} ms after it; first load {first_load:,} B, per key {size:,} B")


def test_a_key_is_acknowledged_soon(page: Any, open_grid: Any) -> None:
    page.add_init_script(PRESSED)
    open_grid(page, "n=60&plain=1")
    page.evaluate(
        """() => { window.acks = []; setInterval(() => {
          const waits = Object.keys(localStorage).some((key) => key.startsWith("gradsift.outbox"));
          if (window.pressed === null || waits) return;
          window.acks.push(performance.now() - window.pressed); window.pressed = null }, 2) }"""
    )
    for number in range(10):
        page.keyboard.press("k")
        page.wait_for_function(f"() => window.acks.length === {number + 1}")
    acks = sorted(page.evaluate("window.acks"))
    assert acks[0] > 0
    print(f"\nkey to acknowledged: median {acks[5]:.0f}, worst {acks[-1]:.0f} ms")


def test_keys_and_an_instant_reload(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page)
    press(page, *"kxukx")
    page.reload()
    page.locator(".card").first.wait_for()
    until(lambda: len(decided(log)) == 5)
    saved(page)
    assert badges(page)[:6] == ["✓ kept", "✕ out", "? unsure", "✓ kept", "✕ out", ""]


def test_keys_that_never_left_the_tab_come_in_with_the_next(new_page: Any, open_grid: Any, log: Path) -> None:
    page = new_page()
    shut = bar(page)
    open_grid(page)
    shut()
    press(page, *"kx")
    badge(page, 1, "✕ out")
    page.close()
    assert decided(log) == []
    again = new_page()
    open_grid(again)
    until(lambda: len(decided(log)) == 2)
    badge(again, 1, "✕ out")
    saved(again)


def test_leftovers_come_in_on_a_page_without_a_grid(
    new_page: Any, open_grid: Any, app: Any, log: Path, who: str
) -> None:
    page = new_page()
    shut = bar(page)
    open_grid(page)
    shut()
    press(page, *"kx")
    badge(page, 1, "✕ out")
    page.close()
    assert decided(log) == []
    other = new_page()
    other.goto(f"{app}/?who={who}&pending=1")
    until(lambda: len(decided(log)) == 2)
    other.wait_for_function("() => Object.keys(localStorage).every((key) => !key.startsWith('gradsift.outbox'))")


def test_leftovers_of_another_reviewer_stay(new_page: Any, open_grid: Any, app: Any, log: Path) -> None:
    page = new_page()
    shut = bar(page)
    open_grid(page)
    shut()
    press(page, "k")
    badge(page, 0, "✓ kept")
    page.close()
    other = new_page()
    other.goto(f"{app}/?who=somebody-else")
    other.locator(".card").nth(3).wait_for()
    press(other, "ArrowRight", "x")
    until(lambda: len(decided(log)) == 1)
    assert decided(log)[0][1] == "exclude"
    again = new_page()
    open_grid(again)
    until(lambda: len(decided(log)) == 2)


def test_a_server_killed_before_it_heard(page: Any, open_grid: Any, app: Any, log: Path, tolerated: list[str]) -> None:
    tolerated.append(LOST)
    open_grid(page)
    app.kill()
    press(page, *"kxu")
    page.locator(".status.late").first.wait_for()
    assert "kept in this browser" in page.locator(".panel .status").inner_text()
    assert page.locator(".card.waiting").count() == 3
    app.start()
    until(lambda: len(decided(log)) == 3, 40)
    page.locator(".status.saved").first.wait_for(timeout=30_000)
    assert page.locator(".card.waiting").count() == 0
    assert badges(page)[:4] == ["✓ kept", "✕ out", "? unsure", ""]


def test_a_server_killed_between_store_and_answer(
    page: Any, open_grid: Any, app: Any, log: Path, tolerated: list[str]
) -> None:
    tolerated.append(LOST)
    open_grid(page, "slow=1.5&plain=1")
    press(page, "x")
    until(lambda: len(decided(log)) == 1)
    app.kill()
    assert page.locator(".card.waiting").count() == 1
    app.start()
    page.locator(".status.saved").first.wait_for(timeout=40_000)
    assert len(DecisionLog(log).events()) == 1
    badge(page, 0, "✕ out")


def test_undo_and_redo_of_any_depth_after_a_reload(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page)
    press(page, *"kxurk")
    saved(page)
    press(page, "z")
    badge(page, 4, "")
    page.reload()
    page.locator(".status.saved").first.wait_for()
    label = next(e[2] for e in decided(log) if e[1] == "relabel")
    badge(page, 3, f"⇄ {label}")
    press(page, "z", "z", "z", "z")
    badge(page, 0, "")
    saved(page)
    assert held(log) == {}
    press(page, "y", "Shift+Z", "y", "y", "y")
    badge(page, 4, "✓ kept")
    saved(page)
    names = ids(page)
    want = [("keep", None), ("exclude", None), ("unsure", None), ("relabel", label), ("keep", None)]
    assert held(log) == dict(zip(names, want, strict=False))
    press(page, "y")
    page.get_by_text("There is nothing to redo.").first.wait_for()


def test_undo_before_the_acknowledgement(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page, "slow=0.4&plain=1")
    press(page, "k", "z", "x", "z", "y")
    saved(page)
    assert badges(page)[:2] == ["✕ out", ""]
    assert held(log) == {ids(page)[0]: ("exclude", None)}


def test_a_range_takes_a_decision_whole(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page)
    press(page, "ArrowRight", "ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight")
    assert page.locator(".card[aria-selected=true]").count() == 4
    press(page, "r")  # the image at place 4 has no suggestion
    saved(page)
    shown = badges(page)
    assert [text[:1] for text in shown[:7]] == ["", "", "⇄", "⇄", "", "⇄", ""]
    page.get_by_text("1 without a suggestion was left as it was.").first.wait_for()
    assert {e[1] for e in decided(log)} == {"relabel"}
    assert len({e["batch"] for e in DecisionLog(log).events()}) == 1
    assert current(page) == 6
    press(page, "z")
    saved(page)
    assert held(log) == {}


def test_digits_relabel_as_the_nth_likeliest(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page)
    label = page.locator(".digit .words").nth(2).inner_text()
    press(page, "3")
    badge(page, 0, f"⇄ {label}")
    on_panel(page, 1)
    second = page.locator(".digit .words").nth(0).inner_text()
    press(page, "Shift+ArrowRight", "1")
    saved(page)
    assert decided(log)[0][2] == label
    given = dict(zip(ids(page), page.locator(".given").all_inner_texts(), strict=False))
    assert decided(log)[1:] == [
        (i, "keep", None) if given[i] == second else (i, "relabel", second) for i in ids(page)[1:3]
    ]


def test_r_without_a_suggestion_says_so(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page)
    press(page, *["ArrowRight"] * 4)
    page.locator(".panel .act.relabel:disabled").wait_for()
    press(page, "r")
    page.locator(".live:text('No other label is suggested')").wait_for(state="attached")
    press(page, "x")
    until(lambda: len(decided(log)) == 1)
    assert decided(log)[0][0] == ids(page)[4]


def test_names_stay_text(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page, "hostile=1")
    assert page.locator(".card .given").filter(has_text=HOSTILE).count() > 0
    place = next(k for k, words in enumerate(page.locator(".caption").all_inner_texts()) if words.endswith(HOSTILE))
    page.locator(".card").nth(place).click()
    press(page, "r")
    badge(page, place, f"⇄ {HOSTILE}")
    page.locator(".card").nth(place).click()
    page.locator(".more .trio").wait_for()
    press(page, "Enter")
    page.locator("dialog.zoom .stage figure.self").wait_for()
    saved(page)
    assert held(log)[ids(page)[place]] == ("relabel", HOSTILE)
    assert page.evaluate("window.hit") is None
    assert page.locator("img[src=x]").count() == 0


def test_read_only_shows_and_changes_nothing(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page, "locked=1")
    assert page.locator(".panel .notice").inner_text() == "This project is open for reading only."
    press(page, *"kxur1z")
    assert current(page) == 0
    press(page, "ArrowRight")
    assert current(page) == 1
    assert set(badges(page)) == {""}
    assert all(page.locator(".panel .act").nth(k).is_disabled() for k in range(6))
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('gradsift.outbox')).length") == 0
    assert not log.exists()


def test_blind_hides_what_the_model_thinks(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page, "blind=1")
    page.locator(".more .file").wait_for()
    page.keyboard.press("Enter")
    page.locator("dialog.zoom .stage figure.self").wait_for()
    assert page.locator(".card b, .susp, .near, .score, .curve, .digit .meter, .trio .self + .side").count() == 0
    assert page.locator("dialog.zoom .stage .self + .side").count() == 0
    press(page, "Escape", "r")
    page.get_by_text("Suggestions are hidden: choose a class by digit.").first.wait_for()
    label = page.locator(".digit .words").nth(1).inner_text()
    press(page, "2")
    until(lambda: [e[1:] for e in decided(log)] == [("relabel", label)])


def test_two_hundred_rows(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page, "n=200")
    assert page.locator(".card").count() == 200
    press(page, "End", "x", "Home", "k")
    until(lambda: len(decided(log)) == 2)
    assert [e[0] for e in decided(log)] == [ids(page)[199], ids(page)[0]]
    press(page, "Home", "Shift+End", "u")
    until(lambda: len(decided(log)) == 202)
    saved(page)
    assert set(badges(page)) == {"? unsure"}


def test_by_keyboard_alone(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page, "typing=1")
    columns = page.locator(".list").evaluate("node => getComputedStyle(node).gridTemplateColumns.split(' ').length")
    assert columns == 8
    press(page, "ArrowDown", "ArrowDown", "ArrowUp", "ArrowLeft")
    assert current(page) == columns - 1
    active = page.locator(".list").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("data-id") == ids(page)[columns - 1]
    press(page, "Enter")
    page.locator("dialog.zoom[open] figure.side").first.wait_for()
    press(page, "+", "+")
    assert page.locator(".stage").evaluate("node => Number(node.style.getPropertyValue('--zoom'))") > 1.9
    press(page, "x", "ArrowRight", "k")
    press(page, "Escape")
    page.locator("dialog.zoom[open]").wait_for(state="detached")
    assert current(page) == columns + 2
    press(page, "?")
    page.locator("dialog.keys[open]").wait_for()
    press(page, "x", "Escape")
    press(page, "u")
    saved(page)
    assert [e[:2] for e in decided(log)] == [
        (ids(page)[columns - 1], "exclude"),
        (ids(page)[columns + 1], "keep"),
        (ids(page)[columns + 2], "unsure"),
    ]


def test_typing_is_not_deciding(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page, "typing=1")
    field = page.get_by_label("Search")
    field.click()
    press(page, *"xkr1z", "Backspace")
    assert field.input_value() == "xkr1"
    page.locator(".card").nth(2).click()
    press(page, "Control+k", "Alt+x", "Meta+u", "Backspace", "Delete")
    page.get_by_role("button", name="Press").click()
    press(page, "r")  # on a button of the page: not Streamlit's rerun, but the grid's
    until(lambda: len(decided(log)) == 1)
    assert decided(log)[0][:2] == (ids(page)[2], "relabel")


def test_mouse(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page)
    cards = page.locator(".card")
    cards.nth(1).click()
    cards.nth(3).click(modifiers=["Shift"])
    cards.nth(6).click(modifiers=["Control"])
    cards.nth(2).click(modifiers=["Control"])
    page.get_by_role("button", name="Exclude 3").click()
    saved(page)
    assert [k for k, text in enumerate(badges(page)) if text] == [1, 3, 6]
    page.locator(".panel .act.undo").click()
    saved(page)
    assert held(log) == {}
    cards.nth(9).dblclick()
    page.locator("dialog.zoom[open]").wait_for()


def test_two_tabs_agree_after_each_answer(new_page: Any, open_grid: Any, log: Path) -> None:
    one, two = new_page(), new_page()
    open_grid(one)
    open_grid(two)
    one.bring_to_front()
    press(one, "k", "x")
    saved(one)
    two.bring_to_front()
    press(two, "u")
    saved(two)
    assert badges(two)[:2] == ["? unsure", "✕ out"]
    one.bring_to_front()
    press(one, "ArrowRight")
    badge(one, 0, "? unsure")
    assert held(log) == {ids(one)[0]: ("unsure", None), ids(one)[1]: ("exclude", None)}


def test_a_refused_event_is_taken_back_and_told(page: Any, open_grid: Any, app: Any, log: Path, who: str) -> None:
    page.goto(f"{app}/_stcore/health")
    event = {
        "event_id": "e1",
        "kind": "decide",
        "batch": "b1",
        "sample_id": "nobody.png",
        "action": "keep",
        "label": None,
    }
    fine = {**event, "event_id": "e2", "batch": "b2", "sample_id": "train/key/00000.png", "action": "exclude"}
    place = f"gradsift.outbox.dead|sandbox|{who}"
    page.evaluate("([place, list]) => localStorage.setItem(place, list)", [place, json.dumps([event, fine])])
    page.goto(f"{app}/?who={who}")
    page.get_by_text("One decision was not recorded: unknown sample").first.wait_for()
    saved(page)
    assert held(log) == {"train/key/00000.png": ("exclude", None)}
    assert page.evaluate("place => localStorage.getItem(place)", place) is None


def test_a_log_that_cannot_be_written_now(page: Any, open_grid: Any, log: Path) -> None:
    Path(f"{log}.full").touch()
    open_grid(page, "full=1")
    press(page, "k")
    page.get_by_text("not saved yet: the disk is full, kept in this browser").first.wait_for()
    assert page.locator(".card.waiting").count() == 1
    Path(f"{log}.full").unlink()
    saved(page)
    assert page.locator(".card.waiting").count() == 0


def test_the_strip_has_five_columns_and_the_same_keys(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page, "layout=strip&n=30")
    assert not page.locator(".panel").is_visible()
    columns = page.locator(".list").evaluate("node => getComputedStyle(node).gridTemplateColumns.split(' ').length")
    assert columns == 5
    press(page, "ArrowDown", "x")
    saved(page)
    assert decided(log) == [(ids(page)[5], "exclude", None)]


def test_the_page_may_ask_for_an_image(page: Any, open_grid: Any) -> None:
    open_grid(page, "id=train/house/00007.png")
    names = ids(page)
    assert names[7] == "train/house/00007.png"
    assert current(page) == 7
    press(page, "ArrowRight")
    on_panel(page, 8)
    page.locator(".more:not(.old) .trio").wait_for()  # the page asks for place 7 still, and that is old news
    press(page, "x")
    saved(page)
    assert current(page) == 9


def test_no_fast_run_of_the_page_moves_what_is_seen(page: Any, open_grid: Any) -> None:
    open_grid(page)
    page.locator(".list").evaluate("node => { node.scrollTop = 300; window.kept = node.querySelector('.card') }")
    press(page, "k")
    saved(page)
    page.locator(".more .trio").wait_for()
    assert page.locator(".card").first.evaluate("node => node === window.kept")
    assert page.locator(".list").evaluate("node => node === node.getRootNode().activeElement")


# Whose decisions they are.


def waits(page: Any) -> str:
    """What is said about decisions of another owner."""
    page.locator(".panel .status.others").wait_for()
    return str(page.locator(".panel .status").inner_text())


def test_another_project_in_the_same_tab_gets_no_decision(page: Any, open_grid: Any, log: Path) -> None:
    other = Path(f"{log}.other")
    open_grid(page, "switch=1&plain=1")
    press(page, "x")
    badge(page, 0, "✕ out")
    saved(page)
    page.get_by_role("button", name="Project other").click()
    badge(page, 0, "")
    page.locator(".card").nth(5).click()
    press(page, "k")
    until(lambda: len(decided(other)) == 1)
    saved(page)
    assert decided(other) == [(ids(page)[5], "keep", None)]
    assert decided(log) == [(ids(page)[0], "exclude", None)]


def test_another_project_in_the_same_tab_starts_at_its_own_first_image(page: Any, open_grid: Any) -> None:
    """Its images may have the names of the first one's: the focus that was asked for there is not meant here."""
    open_grid(page, "switch=1&plain=1")
    asked = ids(page)[3]
    open_grid(page, f"switch=1&plain=1&id={asked}")
    page.locator(".card.cur").wait_for()
    assert page.locator(".card.cur").get_attribute("data-id") == asked
    press(page, "x")
    badge(page, 3, "✕ out")
    saved(page)
    page.locator(".card").nth(3).click()
    page.get_by_role("button", name="Project other").click()
    badge(page, 3, "")  # another project's cards
    assert page.locator(".card.cur").get_attribute("data-id") == ids(page)[0]


def test_another_name_in_the_same_tab_gets_no_decision(page: Any, open_grid: Any, log: Path, who: str) -> None:
    full = Path(f"{log}.full")
    full.touch()
    open_grid(page, f"switch=1&plain=1&full=1&who={who}")
    press(page, "x")
    page.get_by_text("not saved yet: the disk is full, kept in this browser").first.wait_for()
    page.get_by_role("button", name="As bea").click()
    assert waits(page) == "saved; 1 decision of another project or name waits in this browser"
    page.locator(".card").nth(5).click()
    press(page, "k")
    until(lambda: len(decided(log)) == 1)
    assert [(e["sample_id"], e["reviewer"]) for e in DecisionLog(log).events()] == [(ids(page)[5], "bea")]
    page.wait_for_function("() => Object.keys(localStorage).every((key) => !key.endsWith('|bea'))")
    full.unlink()
    page.reload()
    until(lambda: len(decided(log)) == 2)
    saved(page)
    assert [(e["sample_id"], e["reviewer"]) for e in DecisionLog(log).events()][1] == (ids(page)[0], who)


def test_unsent_decisions_of_another_owner_are_told_and_sent_when_it_is_back(
    page: Any, open_grid: Any, app: Any, log: Path, who: str
) -> None:
    page.goto(f"{app}/_stcore/health")
    event = {"kind": "decide", "sample_id": "train/key/00000.png", "action": "exclude", "label": None}
    lists = {f"dead|other|{who}": ["e1", "e2"], "dead|sandbox|another": ["e2", "e3"]}
    for place, names in lists.items():
        events = [{**event, "event_id": name, "batch": name} for name in names]
        page.evaluate(
            "([place, list]) => localStorage.setItem('gradsift.outbox.' + place, list)", [place, json.dumps(events)]
        )
    open_grid(page, "switch=1&plain=1")
    assert waits(page) == "saved; 3 decisions of another project or name wait in this browser"
    page.get_by_role("button", name="Project other").click()
    page.locator(".panel .status:text('saved; 2 decisions')").wait_for()
    assert {e["event_id"] for e in DecisionLog(Path(f"{log}.other")).events()} == {"e1", "e2"}
    page.evaluate("localStorage.removeItem('gradsift.outbox.dead|sandbox|another')")
    page.locator(".panel .status:text-is('saved')").wait_for()
    assert not log.exists()


def test_without_a_grid_a_change_of_project_brings_in_what_waits_for_it(
    page: Any, app: Any, log: Path, who: str
) -> None:
    page.goto(f"{app}/_stcore/health")
    event = {"kind": "decide", "sample_id": "train/key/00000.png", "action": "exclude", "label": None}
    kept = json.dumps([{**event, "event_id": "e1", "batch": "b1"}])
    page.evaluate("([place, list]) => localStorage.setItem(place, list)", [f"gradsift.outbox.dead|other|{who}", kept])
    page.goto(f"{app}/?who={who}&pending=1&switch=1")
    page.get_by_role("button", name="Project other").click()
    until(lambda: len(decided(Path(f"{log}.other"))) == 1)
    page.wait_for_function("() => Object.keys(localStorage).every((key) => !key.startsWith('gradsift.outbox'))")
    assert not log.exists()


# What arrives later.


def test_what_arrives_later_is_shown_and_moves_nothing(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page, "switch=1&n=120")
    cards = page.locator(".card")
    assert cards.nth(7).locator(".nopic").count() == 1
    names, label = ids(page), page.locator(".panel .act.relabel .words").inner_text().removeprefix("Relabel ")
    press(page, "r")
    saved(page)
    cards.nth(2).click()
    cards.nth(4).click(modifiers=["Shift"])
    on_panel(page, 4)
    page.locator(".list").evaluate("node => { node.scrollTop = 90; window.kept = [...node.querySelectorAll('.card')] }")
    page.get_by_role("button", name="Later").click()
    cards.nth(7).locator("img").wait_for()
    assert cards.nth(0).locator(".figure").inner_text() == "12.5"
    assert cards.nth(0).locator(".susp.calm").count() == 1
    page.locator(".panel .reason:text-is('Another reason.')").wait_for()
    assert page.locator(".panel .digit .words").nth(0).inner_text() != label
    badge(page, 0, f"⇄ {label}")
    assert ids(page) == names
    assert current(page) == 4
    assert page.locator(".card[aria-selected=true]").count() == 3
    assert page.locator(".list").evaluate("node => node.scrollTop") == 90
    same = "node => [...node.querySelectorAll('.card')].map((card, place) => card === window.kept[place])"
    assert page.locator(".list").evaluate(same) == [False] * 8 + [True] * 112
    cards.nth(2).click()
    cards.nth(4).click(modifiers=["Shift"])
    press(page, "x")
    saved(page)
    assert held(log) == {names[0]: ("relabel", label), **dict.fromkeys(names[2:5], ("exclude", None))}
    assert badges(page)[:6] == [f"⇄ {label}", "", "✕ out", "✕ out", "✕ out", ""]


def test_a_grid_that_streamlit_moves_stays_where_the_person_was(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page, "switch=1&n=120")
    cards, names = page.locator(".card"), ids(page)
    cards.nth(20).click()
    cards.nth(22).click(modifiers=["Shift"])
    on_panel(page, 22)
    page.locator(".list").evaluate("node => { node.scrollTop = 90; performance.now = () => 0 }")  # at once, that is
    for count in (0, 120):
        page.get_by_role("button", name="Take out").click()
        until(lambda count=count: cards.count() == count)  # type: ignore[misc]
    assert current(page) == 22
    assert page.locator(".card[aria-selected=true]").count() == 3
    assert page.locator(".list").evaluate("node => node.scrollTop") == 90
    press(page, "x")
    saved(page)
    assert held(log) == dict.fromkeys(names[20:23], ("exclude", None))


def test_each_click_is_told_also_the_second_on_the_same_image(page: Any, open_grid: Any) -> None:
    open_grid(page, "switch=1&plain=1")
    name, told = ids(page)[3], page.get_by_text("Opened ")
    page.locator(".card").nth(3).click()
    until(lambda: told.inner_text().startswith(f"Opened {name} "))
    first = told.inner_text()
    press(page, "ArrowRight", "k")
    saved(page)
    assert told.inner_text() == first
    page.locator(".card").nth(3).click()
    until(lambda: told.inner_text() != first)
    assert told.inner_text().startswith(f"Opened {name} ")


# Nothing is decided out of sight.

UNSEEN = "The image was out of sight and is shown now."
BLUR = """() => { let node = document.activeElement;
  while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement; node.blur() }"""


def scrolled(page: Any, place: int) -> float:
    """Where the page's scroller brought the top of a card, in pixels of the window."""
    return float(page.locator(".card").nth(place).evaluate("node => node.getBoundingClientRect().top"))


def to_top(page: Any) -> None:
    page.locator("[data-testid=stMain]").evaluate("node => { node.scrollTop = 0 }")


@pytest.mark.parametrize("layout", ["review", "strip"])
@pytest.mark.parametrize("where", ["page", "button", "grid"])
def test_a_key_on_an_image_out_of_sight_shows_it_first(
    page: Any, open_grid: Any, log: Path, where: str, layout: str
) -> None:
    open_grid(page, f"far=1&layout={layout}")
    to_top(page)
    if where == "page":
        page.evaluate(BLUR)
    elif where == "button":
        page.get_by_role("button", name="Far").focus()
    assert scrolled(page, 0) > 900
    press(page, "x")
    page.locator(f".live:text('{UNSEEN}')").wait_for(state="attached")
    page.locator(f".notice:visible:text('{UNSEEN}')").wait_for()
    assert 0 < scrolled(page, 0) < 800
    assert page.locator(".card.waiting, .badge:not(:empty)").count() == 0
    press(page, "k")
    until(lambda: len(decided(log)) == 1)
    saved(page)
    assert decided(log) == [(ids(page)[0], "keep", None)]


def test_a_key_on_another_control_is_that_control_s(page: Any, open_grid: Any, log: Path) -> None:
    open_grid(page, "far=1")
    page.locator("summary").first.focus()
    to_top(page)
    press(page, *"x1z")
    assert scrolled(page, 0) > 900
    page.locator(".card").nth(3).click()
    page.locator("summary").first.evaluate("node => node.focus({ preventScroll: true })")
    press(page, "x", "1")
    page.locator(".card").nth(4).click()
    press(page, "k")
    until(lambda: len(decided(log)) > 0)
    saved(page)
    assert decided(log) == [(ids(page)[4], "keep", None)]


def test_in_a_low_window_the_keys_stay_in_sight(page: Any, open_grid: Any, log: Path) -> None:
    page.set_viewport_size({"width": 1000, "height": 270})
    open_grid(page, "layout=strip&n=40")
    press(page, *["x"] * 40)
    saved(page)
    assert [sample for sample, _, _ in decided(log)] == ids(page)
