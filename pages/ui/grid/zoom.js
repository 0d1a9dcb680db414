// The full-window view of the focused image, and the list of keys. Both are dialogs: Escape closes them.

const KEYS = [
  ["K", "keep the given label"],
  ["R", "relabel as suggested"],
  ["1 – 9", "relabel as the n-th likeliest class"],
  ["X", "exclude"],
  ["U", "unsure"],
  ["Z", "undo"],
  ["Shift+Z or Y", "redo"],
  ["← → ↑ ↓", "move"],
  ["Home, End", "first, last"],
  ["Shift+arrow, Shift+click", "choose a range"],
  ["Ctrl+click", "add one to the choice, or take it out"],
  ["Enter, double click", "enlarge"],
  ["+ − 0, wheel", "zoom in, out, back, while enlarged"],
  ["Escape", "close, or drop the choice"],
  ["?", "this list"],
];

function dialog(name, label, closed) {
  const node = make("dialog", name);
  node.setAttribute("aria-label", label);
  node.onclose = closed;
  node.onclick = (event) => event.target === node && node.close();
  return node;
}

function closer(node) {
  const close = make("button", "close");
  close.type = "button";
  close.append(make("span", "words", "Close"), keyCap("Esc"));
  close.onclick = () => node.close();
  return close;
}

class Zoom {
  constructor(grid) {
    this.grid = grid;
    this.scale = 1;
    this.node = dialog("zoom", "Enlarged image", () => grid.list.focus({ preventScroll: true }));
    this.node.tabIndex = -1;
    this.head = make("div", "head");
    this.title = make("h2");
    this.state = make("span", "state");
    this.head.append(this.title, this.state, closer(this.node));
    this.stage = make("div", "stage");
    this.reason = make("p", "reason");
    this.actions = new Actions(grid, false);
    const foot = make("div", "foot");
    foot.append(this.reason, this.actions.node);
    this.node.append(this.head, this.stage, foot);
    this.stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.stage.addEventListener("pointermove", (event) => this.point(event));
  }

  get shown() {
    return this.node.open;
  }

  open() {
    if (!this.grid.row) return;
    this.magnify(1);
    this.node.showModal();
    this.show();
    this.node.focus();
  }

  toggle() {
    if (this.shown) this.node.close();
    else this.open();
  }

  show() {
    if (!this.shown) return;
    const { row, detail, blind } = this.grid;
    if (!row) return this.node.close();
    const found = detail?.id === row.id ? detail : null;
    const images = found?.images ?? {};
    this.title.replaceChildren(pair(row.given, row.suggested));
    if (row.suggested) this.title.append(make("span", "arrow", "?"));
    this.reason.textContent = blind ? "" : row.reason;
    const list = trio(row, found, blind);
    const before = this.stage.dataset.id === row.id && this.stage.childElementCount === list.length;
    if (!before || found) {
      this.stage.dataset.id = row.id;
      this.stage.replaceChildren(
        ...list.map(([id, label, note, name]) => figure(images[id] ?? (id === row.id ? row.src : null), label, note, name)),
      );
    }
    this.paint();
  }

  paint() {
    if (!this.shown || !this.grid.row) return;
    const { grid } = this;
    const now = grid.book.now.get(grid.row.id);
    this.state.dataset.action = now?.[0] ?? "undecided";
    this.state.textContent = now ? `${SIGNS[now[0]]} ${told(now)}` : "";
    this.actions.paint(grid.row, now, grid.chosen.size, Boolean(grid.locked), grid.book.undos.length, grid.book.redos.length, grid.blind);
  }

  magnify(scale) {
    this.scale = Math.max(1, Math.min(12, scale));
    this.stage.style.setProperty("--zoom", String(this.scale));
  }

  wheel(event) {
    event.preventDefault();
    this.point(event);
    this.magnify(this.scale * Math.exp(-event.deltaY / 400));
  }

  // The point under the pointer stays where it is; the other images follow.
  point(event) {
    const frame = event.target.closest?.(".pic");
    if (!frame) return;
    const box = frame.getBoundingClientRect();
    this.stage.style.setProperty("--x", `${((event.clientX - box.left) / box.width) * 100}%`);
    this.stage.style.setProperty("--y", `${((event.clientY - box.top) / box.height) * 100}%`);
  }
}

function keyList(grid) {
  const node = dialog("keys", "Keys", () => grid.list.focus({ preventScroll: true }));
  const head = make("div", "head");
  head.append(make("h2", "", "Keys"), closer(node));
  const list = make("dl");
  KEYS.forEach(([key, meaning]) => {
    const name = make("dt");
    name.append(keyCap(key));
    list.append(name, make("dd", "", meaning));
  });
  node.append(head, list);
  return node;
}
