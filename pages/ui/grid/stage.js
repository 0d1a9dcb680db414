// The grid itself: keys, focus, choice, and the way of a decision from a key to the outbox. The mount is constant for a
// page of rows; what changes arrives by the shim (wire.js) and calls `arrived`.

const LETTERS = { k: "keep", r: "relabel", x: "exclude", u: "unsure" };
const REST = 150; // ms of rest after which the focus is told to Python
const MOVED = 2000; // ms within which a grid that ends and begins is one that Streamlit moved

class Grid {
  constructor(root, data) {
    this.root = root;
    this.key = data.key;
    this.book = new Decisions();
    this.rows = [];
    this.cards = [];
    this.at = 0;
    this.chosen = new Set();
    this.notice = "";
    this.frame = make("div");
    this.main = make("div", "main");
    this.list = make("div", "list");
    this.list.tabIndex = 0;
    this.list.setAttribute("role", "listbox");
    this.list.setAttribute("aria-label", "Images");
    this.list.setAttribute("aria-multiselectable", "true");
    this.live = make("div", "live");
    this.live.setAttribute("aria-live", "polite");
    this.panel = new Panel(this);
    this.strip = new Actions(this, true);
    this.stripNotice = make("p", "notice");
    this.stripNow = make("div", "now");
    this.zoom = new Zoom(this);
    this.keys = keyList(this);
    this.main.append(this.list);
    this.frame.append(this.main, this.panel.node, this.live, this.zoom.node, this.keys);
    this.list.addEventListener("click", (event) => this.click(event));
    this.scrolled = 0; // a list that has left the page says 0
    this.list.addEventListener("scroll", () => (this.scrolled = this.list.scrollTop));
    this.list.addEventListener("dblclick", (event) => event.target.closest(".card") && this.zoom.open());
    this.onKey = (event) => this.press(event);
    this.onSize = () => this.fit();
    addEventListener("keydown", this.onKey, true);
    addEventListener("resize", this.onSize);
    root.append(this.frame);
  }

  get row() {
    return this.rows[this.at];
  }

  get part() {
    return post.parts[this.key + "/wire"];
  }

  get detail() {
    return post.parts[this.key + "/detail"]?.detail;
  }

  get locked() {
    return this.part?.readOnly ?? null;
  }

  // A mount, or the same mount again: builds only what is new. The same images in the same order stay as they are.
  mount(data) {
    const other = this.owner !== data.owner;
    if (other) {
      this.courier?.end();
      this.owner = data.owner;
      this.box = outboxOf(data.owner);
      this.courier = new Courier(this.key, this.box, () => this.status(), () => this.reset());
    }
    if (this.page === data.page) return;
    const first = this.page === undefined;
    const same = !first && !other && this.layout === data.layout && alike(this.rows, data.rows);
    const { rows, blind } = this;
    Object.assign(this, { page: data.page, rows: data.rows, classes: data.classes, blind: data.blind });
    Object.assign(this, { layout: data.layout, height: data.height });
    if (same) this.renew(rows, blind !== data.blind);
    else this.begin();
    if (first) this.courier.soon();
  }

  begin() {
    Object.assign(this, { at: 0, anchor: null, notice: "" });
    this.places = new Map(this.rows.map((row, index) => [row.id, index]));
    this.chosen = new Set();
    this.build();
    // the answer that is there may still be another project's: its image is not the one to look at here
    this.directed = (this.part?.owner === this.owner && this.part.focus) || null;
    this.focus(this.places.get(this.directed) ?? 0, { tell: this.rows.length > 0 });
    this.reset();
    this.fit();
    const busy = editable(deepFocus());
    if (!busy) this.list.focus({ preventScroll: true });
    this.regain();
  }

  // Where a person was before Streamlit took the grid out of the page and put it in again.
  regain() {
    const left = shared.left?.[this.key];
    if (!left || left.owner !== this.owner || performance.now() - left.when > MOVED || !alike(this.rows, left.rows)) return;
    delete shared.left[this.key];
    this.anchor = left.anchor;
    this.choose(left.chosen);
    this.focus(left.at);
    this.list.scrollTop = left.scrolled;
  }

  // The same images with other pictures, figures or classes: focus, choice and scroll stay.
  renew(before, all) {
    const [held, { scrollTop }] = [deepFocus(), this.list];
    this.dress();
    this.rows = this.rows.map((row, index) => {
      if (!all && JSON.stringify(row) === JSON.stringify(before[index])) return before[index];
      const node = card(row, index, this.blind);
      this.cards[index].replaceWith(node);
      this.cards[index] = node;
      return row;
    });
    this.choose(this.chosen);
    this.cards[this.at]?.classList.add("cur");
    this.mark(this.rows.map((row) => row.id));
    this.zoom.stage.dataset.id = "";
    this.large();
    this.reset();
    this.fit();
    this.list.scrollTop = scrollTop;
    if (held && !held.isConnected) this.list.focus({ preventScroll: true });
  }

  dress() {
    this.frame.className = "gs " + this.layout + (this.blind ? " blind" : "");
  }

  build() {
    this.dress();
    this.panel.node.hidden = this.layout === "strip" || !this.rows.length;
    if (this.layout === "strip" && this.rows.length) this.main.append(this.stripNow, this.stripNotice, this.strip.node);
    else [this.stripNow, this.stripNotice, this.strip.node].forEach((node) => node.remove());
    this.cards = this.rows.map((row, index) => card(row, index, this.blind));
    this.list.replaceChildren(...(this.cards.length ? this.cards : [make("p", "empty", "Nothing here fits the filters.")]));
    this.list.scrollTop = 0;
    this.list.removeAttribute("aria-activedescendant");
    this.panel.show(this.row);
  }

  // The list takes the height that is left below it, and scrolls by itself.
  fit() {
    const scroller = document.querySelector('[data-testid="stMain"]');
    const top = this.frame.getBoundingClientRect().top + (scroller?.scrollTop ?? 0);
    const room = this.height ?? Math.max(460, Math.min(1200, innerHeight - top - 20));
    this.frame.style.setProperty("--height", `${Math.round(room)}px`);
  }

  // Called by the shim: an answer, or the evidence of an image.
  arrived(name) {
    if (name === "detail") {
      this.panel.evidence(this.detail);
      this.zoom.show();
      return;
    }
    const refused = this.courier.answer();
    if (refused.length) this.refuse(refused);
    this.reset();
    const { focus, echo, page } = this.part;
    if (page !== this.page || focus === this.directed) return;
    this.directed = focus;
    if (!echo && this.places.has(focus)) this.focus(this.places.get(focus));
  }

  refuse(refused) {
    const reasons = [...new Set(refused.map(([, reason]) => reason))];
    const count = refused.length === 1 ? "One decision was" : `${refused.length} decisions were`;
    this.notice = `${count} not recorded: ${reasons.join(" ")}`;
    this.announce(this.notice);
  }

  // Server's state plus outbox, painted.
  reset() {
    if (!this.part || this.part.page !== this.page) return;
    this.book.reset(this.part, this.rows, this.classes, this.box.events);
    this.mark(this.rows.map((row) => row.id));
    this.side();
  }

  mark(ids) {
    for (const id of ids) {
      const place = this.places.get(id);
      if (place !== undefined) mark(this.cards[place], this.rows[place], this.book.now.get(id), this.book.waiting.has(id));
    }
  }

  side() {
    this.panel.paint();
    const { row, book } = this;
    this.strip.paint(row, row && book.now.get(row.id), this.chosen.size, Boolean(this.locked), book.undos.length, book.redos.length, this.blind);
    this.stripNotice.textContent = this.locked || this.notice || "";
    this.stripNotice.hidden = !this.stripNotice.textContent;
    this.zoom.paint();
    this.status();
  }

  status() {
    const told = this.courier.status(this.locked && !this.box.events.length ? ["", "read-only"] : undefined);
    [this.panel.actions, this.strip, this.zoom.actions].forEach((actions) => actions.say(told));
  }

  announce(text) {
    this.live.textContent = this.live.textContent === text ? text + "\u00a0" : text;
  }

  // ---- focus and choice

  focus(index, { tell = true, choose = false } = {}) {
    if (!this.rows.length) return;
    const next = Math.max(0, Math.min(this.rows.length - 1, index));
    this.cards[this.at]?.classList.remove("cur");
    this.at = next;
    const node = this.cards[next];
    node.classList.add("cur");
    this.list.setAttribute("aria-activedescendant", node.id);
    this.reveal(node);
    if (choose) this.range();
    this.drawn ??= requestAnimationFrame(() => setTimeout(() => this.large()));
    if (tell) this.tell();
  }

  // The large view follows one frame after the cards: what a key did is seen first.
  large() {
    this.drawn = null;
    if (!this.row) return;
    if (this.layout === "strip") this.sayNow();
    else {
      this.panel.show(this.row);
      this.panel.evidence(this.detail);
    }
    this.side();
    this.zoom.show();
  }

  // In the strip: the sentence of the focused image, and what the digits mean for it.
  sayNow() {
    const { row, blind } = this;
    const choices = make("span", "choices-line");
    row.top.slice(0, 9).forEach(([label], index) => {
      const one = make("span", "choice");
      one.append(keyCap(String(index + 1)), label);
      choices.append(one);
    });
    this.stripNow.replaceChildren(make("span", "why", blind ? `Labelled ${row.given}.` : row.reason), choices);
  }

  // Brings the focused card into the window, where the person went there.
  follow() {
    const node = this.cards[this.at];
    if (node && !inSight(node, this.list)) node.scrollIntoView({ block: "nearest" });
  }

  reveal(node) {
    const [top, bottom] = [node.offsetTop - 8, node.offsetTop + node.offsetHeight + 8];
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    else if (bottom > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = bottom - this.list.clientHeight;
  }

  tell() {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => {
      if (this.courier.extra.focus === this.row?.id) return;
      this.courier.extra.focus = this.row?.id ?? null;
      this.courier.soon();
    }, REST);
  }

  choose(indices) {
    this.chosen = new Set(indices);
    this.cards.forEach((node, index) => {
      const on = this.chosen.has(index);
      node.classList.toggle("chosen", on);
      node.setAttribute("aria-selected", String(on));
    });
  }

  range() {
    this.anchor ??= this.at;
    const [from, to] = [Math.min(this.anchor, this.at), Math.max(this.anchor, this.at)];
    this.choose(Array.from({ length: to - from + 1 }, (_, step) => from + step));
    this.announce(`${this.chosen.size} chosen`);
  }

  // Moves the focus; with `extend` the range grows from where it began.
  move(index, extend) {
    if (extend) this.anchor ??= this.at;
    else {
      this.anchor = null;
      if (this.chosen.size) this.choose([]);
    }
    this.focus(index, { choose: extend });
    this.follow();
  }

  columns() {
    const top = this.cards[0]?.offsetTop;
    const found = this.cards.findIndex((node) => node.offsetTop !== top);
    return found < 0 ? Math.max(1, this.cards.length) : found;
  }

  click(event) {
    const node = event.target.closest(".card");
    if (!node) return;
    const index = this.cards.indexOf(node);
    if (event.ctrlKey || event.metaKey) {
      const chosen = new Set(this.chosen.size ? this.chosen : []);
      if (!chosen.delete(index)) chosen.add(index);
      this.choose(chosen);
      this.anchor = index;
      this.focus(index);
      this.announce(`${chosen.size} chosen`);
    } else this.move(index, event.shiftKey);
    Object.assign(this.courier.extra, { focus: this.row.id, opened: { id: this.row.id, n: newId() } });
    this.courier.soon();
    this.list.focus({ preventScroll: true });
  }

  // ---- keys

  press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || !this.frame.isConnected) return;
    const [target, inside] = [event.composedPath()[0], event.composedPath().includes(this.frame)];
    if (editable(target) || (!inside && !this.listens(target))) return;
    const idle = target === this.list || target === document.body || target === this.zoom.node;
    if (this.keys.open ? this.helped(event) : this.handle(event, inside ? null : target, idle)) {
      event.preventDefault();
      event.stopImmediatePropagation(); // R and C mean something to Streamlit, too
    }
  }

  // Whether a key pressed elsewhere on the page is meant for the grid.
  listens(target) {
    if (document.querySelector('[role="dialog"], [role="menu"], [data-baseweb="popover"]')) return false;
    return !target.closest?.('[role="slider"], [role="radiogroup"], [role="tablist"], [role="grid"], .js-plotly-plot, iframe');
  }

  helped(event) {
    if (event.key === "?") this.keys.close();
    return event.key === "?";
  }

  // `outside` is where the key was pressed, if not in the grid.
  handle(event, outside, idle) {
    const { key, shiftKey: shift } = event;
    const [near, decision] = [!outside || outside === document.body, this.decision(event)];
    if (decision) {
      if (outside && !plain(outside)) return false;
      if (!event.repeat && this.seen(outside)) decision();
      return true;
    }
    if (key === "?") return this.keys.showModal(), true;
    if (this.zoom.shown && ["+", "=", "-", "0"].includes(key)) {
      return this.zoom.magnify({ "+": 1.4, "=": 1.4, "-": 1 / 1.4, 0: 0 }[key] * this.zoom.scale), true;
    }
    if (!near || !this.rows.length) return false;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns(), ArrowDown: this.columns() };
    if (key in steps) {
      const to = this.at + steps[key];
      if (to >= 0 && to < this.rows.length) this.move(to, shift);
      else if (Math.abs(steps[key]) > 1 && to >= this.rows.length) this.move(this.rows.length - 1, shift);
      return true;
    }
    if (key === "Home" || key === "End") return this.move(key === "Home" ? 0 : this.rows.length - 1, shift), true;
    if (key === "Enter" && idle) return this.zoom.toggle(), true;
    if (key === "Escape" && !this.zoom.shown && this.chosen.size) return this.move(this.at, false), true;
    return false;
  }

  // What a letter or a digit asks for, or null.
  decision(event) {
    const letter = letterOf(event);
    if (letter in LETTERS) return () => this.act(LETTERS[letter]);
    if (letter === "z") return () => this.turn(event.shiftKey ? "redo" : "undo");
    if (letter === "y") return () => this.turn("redo");
    const place = /^(?:Digit|Numpad)([1-9])$/.exec(event.code)?.[1];
    const digit = /^[1-9]$/.test(event.key) ? event.key : !event.shiftKey && place;
    return digit ? () => this.digit(Number(digit) - 1) : null;
  }

  // Whether the person sees the image that a decision would fall on. Where not it is brought into the window, and the
  // key has to be pressed again. The large view counts for keys pressed in the grid.
  seen(outside) {
    const node = this.cards[this.at];
    if (!node || this.zoom.shown || inSight(node, this.list)) return true;
    if (!outside && this.layout !== "strip" && inSight(this.panel.top)) return true;
    node.scrollIntoView({ block: "center" });
    this.remark("The image was out of sight and is shown now. Nothing was decided: press the key again.");
    return false;
  }

  // ---- decisions

  targets() {
    if (this.chosen.size) return [...this.chosen].sort((a, b) => a - b);
    return this.rows.length ? [this.at] : [];
  }

  act(action) {
    if (this.refusesKeys()) return;
    const indices = this.targets();
    if (action !== "relabel") return this.decide(indices, () => [action, null]);
    const open = indices.filter((index) => this.rows[index].suggested);
    if (!open.length) {
      const why = this.blind ? "Suggestions are hidden: choose a class by digit." : "No other label is suggested: choose a class by digit.";
      return this.remark(why);
    }
    const left = indices.length - open.length;
    this.decide(open, (row) => ["relabel", row.suggested]);
    if (left) this.remark(`${left} without a suggestion ${left === 1 ? "was" : "were"} left as ${left === 1 ? "it was" : "they were"}.`);
  }

  // The n-th class of the focused image's list, for all that are chosen; where it is the given label, it is kept.
  digit(place) {
    if (this.refusesKeys() || !this.row) return;
    const label = this.row.top[place]?.[0];
    if (label === undefined) return this.remark(`There is no class ${place + 1} for this image.`);
    this.decide(this.targets(), (row) => (row.given === label ? ["keep", null] : ["relabel", label]));
  }

  decide(indices, choice) {
    if (!indices.length) return;
    const batch = newId();
    const events = indices.map((index) => {
      const [action, label] = choice(this.rows[index]);
      return { event_id: newId(), kind: "decide", batch, sample_id: this.rows[index].id, action, label };
    });
    this.push(events);
    const last = indices.at(-1);
    if (this.chosen.size) this.choose([]);
    this.anchor = null;
    const decided = this.rows.filter((row) => this.book.now.has(row.id)).length;
    const what = told(this.book.now.get(events[0].sample_id));
    const who = events.length === 1 ? events[0].sample_id : `${events.length} images`;
    this.announce(`${who}: ${what}. ${decided} of ${this.rows.length} on this page decided.`);
    this.focus(last + 1 < this.rows.length ? last + 1 : last);
    this.follow();
  }

  turn(kind) {
    if (this.refusesKeys()) return;
    const entry = (kind === "undo" ? this.book.undos : this.book.redos)[0];
    if (!entry) return this.remark(`There is nothing to ${kind}.`);
    const places = Object.keys(entry.values).map((id) => this.places.get(id)).filter((place) => place !== undefined);
    this.push([{ event_id: newId(), kind, batch: entry.batch }]);
    const word = kind === "undo" ? "Undone" : "Redone";
    const count = entry.count === 1 ? "one image" : `${entry.count} images`;
    if (places.length) {
      this.announce(`${word}: ${count}.`);
      this.move(Math.min(...places), false);
    } else this.remark(`${word}: ${count} on another page.`);
  }

  push(events) {
    this.notice = "";
    this.box.add(events);
    this.mark(this.book.play(events));
    this.drawn ??= requestAnimationFrame(() => setTimeout(() => this.large()));
    this.courier.soon();
  }

  refusesKeys() {
    if (this.locked) this.announce(this.locked);
    return Boolean(this.locked);
  }

  remark(text) {
    this.notice = text;
    this.announce(text);
    this.side();
  }

  end() {
    const { owner, rows, at, chosen, anchor, scrolled } = this;
    (shared.left ??= {})[this.key] = { owner, rows, at, chosen, anchor, scrolled, when: performance.now() };
    clearTimeout(this.resting);
    cancelAnimationFrame(this.drawn);
    this.courier?.end();
    removeEventListener("keydown", this.onKey, true);
    removeEventListener("resize", this.onSize);
    this.frame.remove();
  }
}

function letterOf(event) {
  if (/^[a-z]$/i.test(event.key)) return event.key.toLowerCase();
  const foreign = event.key.length === 1 && event.key > "\u007f"; // a keyboard of another script: where the key lies
  return foreign ? (/^Key([A-Z])$/.exec(event.code)?.[1] ?? "").toLowerCase() : "";
}

// Whether at least half of `node` is in the window, below Streamlit's bar, and not cut off by `scroller`.
function inSight(node, scroller = null) {
  const box = node.getBoundingClientRect();
  const bar = document.querySelector('[data-testid="stHeader"]')?.getBoundingClientRect().bottom ?? 0;
  const [top, left, bottom, right] = [bar, 0, innerHeight, innerWidth];
  const cuts = [{ top, left, bottom, right }, ...(scroller ? [scroller.getBoundingClientRect()] : [])];
  const high = Math.min(box.bottom, ...cuts.map((cut) => cut.bottom)) - Math.max(box.top, ...cuts.map((cut) => cut.top));
  const wide = Math.min(box.right, ...cuts.map((cut) => cut.right)) - Math.max(box.left, ...cuts.map((cut) => cut.left));
  return box.height > 0 && high > 0 && wide > 0 && 2 * high * wide >= box.height * box.width;
}

// Whether a key pressed on `node`, outside the grid, may decide: the page itself, or a button that is only a button.
function plain(node) {
  const page = 'html, body, [data-testid="stApp"], [data-testid="stAppViewContainer"], [data-testid="stMain"]';
  return Boolean(node.matches?.(page + ', button:not([role]), button[role="button"]'));
}

function alike(rows, others) {
  return rows.length === others.length && rows.every((row, index) => row.id === others[index].id);
}

function editable(node) {
  if (!node?.matches) return false;
  const typed = 'input, textarea, select, [contenteditable=""], [contenteditable="true"]';
  return node.matches(typed + ', [role="textbox"], [role="combobox"], [role="searchbox"], [role="spinbutton"]');
}

function deepFocus() {
  let node = document.activeElement;
  while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement;
  return node;
}

export default function ({ data, parentElement }) {
  let grid = shared.grids[data.key];
  if (grid && grid.root !== parentElement) {
    grid.end();
    grid = null;
  }
  grid = shared.grids[data.key] = grid ?? new Grid(parentElement, data);
  const arrived = (name) => grid.arrived(name);
  post.arrived[data.key] = arrived;
  grid.mount(data);
  if (grid.part) grid.arrived("wire");
  if (grid.detail) grid.arrived("detail");
  return () => {
    if (post.arrived[data.key] !== arrived) return; // mounted again since
    grid.end();
    delete shared.grids[data.key];
    delete post.arrived[data.key];
  };
}
