// The large view of the focused image: what decides it stands on top, and the evidence below, when it has arrived.

const BUTTONS = [
  ["keep", "K"],
  ["relabel", "R"],
  ["exclude", "X"],
  ["unsure", "U"],
];
const FIRST_SCORES = 6;

function keyCap(key) {
  return make("kbd", "", key);
}

function button(name, words, key, act) {
  const node = make("button", "act " + name);
  node.type = "button";
  node.append(make("span", "words", words), keyCap(key));
  node.setAttribute("aria-keyshortcuts", key);
  node.onclick = act;
  return node;
}

function heading(text, note = "") {
  const node = make("h3", "", text);
  if (note) node.append(make("small", "", note));
  return node;
}

function percent(share) {
  const value = share * 100;
  if (value > 0 && value < 1) return "<1 %";
  if (value > 99 && value < 100) return ">99 %";
  return `${Math.round(value)} %`;
}

// The four decisions, undo and redo, each with its key; `words` off leaves signs and keys only.
class Actions {
  constructor(grid, compact) {
    this.node = make("div", compact ? "actions compact" : "actions");
    this.compact = compact;
    this.four = BUTTONS.map(([action, key]) => button(action, "", key, () => grid.act(action)));
    const steps = make("div", "steps");
    this.undo = button("undo", "Undo", "Z", () => grid.turn("undo"));
    this.redo = button("redo", "Redo", "Y", () => grid.turn("redo"));
    this.undo.title = "Undo (Z)";
    this.redo.title = "Redo (Y or Shift+Z)";
    this.status = make("span", "status");
    this.help = button("help", "Keys", "?", () => grid.keys.showModal());
    this.help.title = "List of keys (?)";
    steps.append(this.undo, this.redo, this.help, this.status);
    this.node.append(...this.four, steps);
  }

  paint(row, now, many, locked, undos, redos, blind) {
    const none = blind ? "Suggestion hidden" : "No suggestion";
    const words = {
      keep: many > 1 ? `Keep ${many}` : `Keep ${row?.given ?? ""}`,
      relabel: many > 1 ? `Relabel ${many}` : row?.suggested ? `Relabel ${row.suggested}` : none,
      exclude: many > 1 ? `Exclude ${many}` : "Exclude",
      unsure: many > 1 ? `Unsure, ${many}` : "Unsure",
    };
    const short = { keep: "Keep", relabel: "Relabel", exclude: "Exclude", unsure: "Unsure" };
    BUTTONS.forEach(([action, key], index) => {
      const node = this.four[index];
      node.firstChild.textContent = (this.compact ? short : words)[action];
      node.title = `${words[action]} (${key})`;
      node.setAttribute("aria-label", words[action]);
      node.disabled = !row || locked || (action === "relabel" && many < 2 && !row.suggested);
      node.setAttribute("aria-pressed", String(now?.[0] === action && !(action === "relabel" && now[1] !== row?.suggested)));
    });
    this.undo.disabled = locked || !undos;
    this.redo.disabled = locked || !redos;
  }

  say([kind, text]) {
    if (this.status.textContent === text) return;
    this.status.className = "status " + kind;
    this.status.textContent = text;
  }
}

class Panel {
  constructor(grid) {
    this.grid = grid;
    this.node = make("section", "panel");
    this.node.setAttribute("aria-label", "The focused image");
    this.top = make("div", "top");
    this.headline = make("h2");
    this.reason = make("p", "reason");
    this.notice = make("p", "notice");
    this.actions = new Actions(grid, false);
    this.choices = make("div", "choices");
    this.more = make("div", "more");
    const deciding = make("div", "deciding");
    deciding.append(this.headline, this.reason, this.notice, this.actions.node);
    this.node.append(this.top, deciding, this.choices, this.more);
  }

  // Everything that depends on the row alone; built once per focus.
  show(row) {
    if (this.row === row) return;
    this.row = row;
    this.node.dataset.id = row?.id ?? "";
    this.top.replaceChildren();
    this.headline.replaceChildren();
    this.choices.replaceChildren();
    if (!row) return;
    const { blind } = this.grid;
    const view = make("button", "view");
    view.type = "button";
    view.title = "Enlarge (Enter)";
    view.setAttribute("aria-label", "Enlarge");
    view.append(picture(row.src, row.alt));
    view.onclick = () => this.grid.zoom.open();
    this.top.append(view, this.facts(row));
    this.headline.append(pair(row.given, row.suggested));
    this.headline.title = row.suggested ? `${row.given} → ${row.suggested}?` : row.given;
    if (row.suggested) this.headline.append(make("span", "arrow", "?"));
    this.reason.textContent = blind ? "Blind: the model's opinion is hidden." : row.reason;
    this.choices.append(heading("Relabel by digit", blind ? "in alphabetical order" : "likeliest first"));
    const list = make("div", "digits");
    row.top.slice(0, 9).forEach(([label, share], index) => {
      const node = make("button", "digit");
      node.type = "button";
      node.title = `Relabel ${label} (${index + 1})`;
      node.append(keyCap(String(index + 1)), make("span", "words", label));
      if (share !== null) node.append(make("span", "figure", percent(share)), meter(share));
      node.onclick = () => this.grid.digit(index);
      list.append(node);
    });
    this.choices.append(list);
    this.digits = [...list.children];
    this.more.classList.add("old");
  }

  facts(row) {
    const facts = make("dl", "facts");
    const fact = (name, value, ...rest) => {
      const box = make("div");
      const data = make("dd", "", value);
      data.append(...rest);
      box.append(make("dt", "", name), data);
      facts.append(box);
    };
    this.state = make("dd", "state");
    if (!this.grid.blind && row.suspicion !== null) {
      const bar = meter(row.suspicion / 100);
      fact("Suspicion", row.suspicion.toFixed(1), make("small", "", " of 100"), bar);
      facts.lastChild.className = `susp s${step(row.suspicion)}`;
      if (row.given_prob !== null) fact(`Model gives ${row.given}`, percent(row.given_prob));
    }
    if (row.rank !== null) fact("Rank", String(row.rank), make("small", "", row.flagged ? " flagged" : ""));
    const box = make("div");
    box.append(make("dt", "", "Decision"), this.state);
    facts.append(box);
    return facts;
  }

  // What depends on decisions and selection.
  paint() {
    const { grid, row } = this;
    const now = row && grid.book.now.get(row.id);
    const waiting = Boolean(row) && grid.book.waiting.has(row.id);
    this.actions.paint(row, now, grid.chosen.size, Boolean(grid.locked), grid.book.undos.length, grid.book.redos.length, grid.blind);
    if (row) {
      this.state.dataset.action = now?.[0] ?? "undecided";
      this.state.classList.toggle("waiting", waiting);
      this.state.textContent = now ? `${SIGNS[now[0]]} ${told(now)}` : "open";
      this.state.title = now?.[2] ? `by ${now[2]}` : "";
      this.digits.forEach((node, index) => {
        node.disabled = Boolean(grid.locked);
        node.setAttribute("aria-pressed", String(now?.[0] === "relabel" && now[1] === row.top[index][0]));
      });
    }
    this.notice.textContent = grid.locked || grid.notice || "";
    this.notice.hidden = !this.notice.textContent;
  }

  // The evidence Python brought for the focused image.
  evidence(detail) {
    const { grid, row } = this;
    if (!row || !detail || detail.id !== row.id) return;
    const images = detail.images ?? {};
    const blind = grid.blind;
    const own = images[row.id];
    const shown = this.top.querySelector(".view img");
    if (own && shown && shown.src !== own) shown.src = own;
    const parts = [];
    const examples = comparison(row, detail, images, blind);
    if (examples) parts.push(examples);
    if (!blind) {
      for (const [space, name] of [["features", "Nearest in feature space"], ["gradients", "Nearest in gradient space"]]) {
        const near = detail.neighbours?.[space] ?? [];
        if (near.length) parts.push(neighbours(name, near, images, row));
      }
      if (detail.copies?.length) parts.push(copies(detail.copies, images, row));
      if (detail.scores?.length) parts.push(scores(detail.scores, detail.spread));
      if (detail.curve?.filter(Number.isFinite).length > 1) parts.push(curve(detail.curve, row.given));
    }
    if (detail.history?.length) parts.push(history(detail.history));
    parts.push(paths(detail));
    this.more.classList.remove("old");
    const open = this.more.querySelector("details.all")?.open;
    this.more.replaceChildren(...parts);
    const all = this.more.querySelector("details.all");
    if (all && open) all.open = true;
  }
}

function figure(src, label, note, name = "") {
  const node = make("figure", name);
  const frame = make("div", "pic");
  frame.append(picture(src, `${note}: ${label}`));
  const caption = make("figcaption");
  caption.append(make("b", "", label), make("small", "", note));
  caption.title = `${label}, ${note}`;
  node.append(frame, caption);
  return node;
}

// The suspect between the surest image of the given and of the suggested class.
function trio(row, detail, blind) {
  const examples = detail?.examples ?? {};
  const list = [];
  if (examples.given) list.push([examples.given, row.given, "surest of its class", "side"]);
  list.push([row.id, row.given, "this image", "self"]);
  if (examples.suggested && !blind && row.suggested) {
    list.push([examples.suggested, row.suggested, "surest of its class", "side"]);
  }
  return list;
}

function comparison(row, detail, images, blind) {
  const list = trio(row, detail, blind);
  if (list.length < 2) return null;
  const section = make("div");
  const line = make("div", "trio");
  line.append(...list.map(([id, label, note, name]) => figure(images[id] ?? (id === row.id ? row.src : null), label, note, name)));
  section.append(heading("Compared with the surest images"), line);
  return section;
}

function neighbours(name, near, images, row) {
  const section = make("div");
  const same = near.filter((one) => one.label === row.given).length;
  const line = make("div", "near");
  near.slice(0, 6).forEach((one) => {
    const node = make("figure", one.label === row.suggested ? "other" : one.label === row.given ? "same" : "");
    const frame = make("div", "pic");
    frame.append(picture(images[one.id], `${one.id}, labelled ${one.label}`));
    node.append(frame, make("figcaption", "", one.label));
    node.title = `${one.id}, labelled ${one.label}` + (one.similarity == null ? "" : `, similarity ${one.similarity.toFixed(3)}`);
    line.append(node);
  });
  section.append(heading(name, `${same} of ${near.length} labelled ${row.given}`), line);
  return section;
}

// The other images that show the same picture; one that is labelled otherwise is marked as a suggestion is.
function copies(list, images, row) {
  const section = make("div");
  const line = make("div", "near");
  list.forEach((one) => {
    const node = make("figure", one.label === row.given ? "same" : "other");
    const frame = make("div", "pic");
    frame.append(picture(images[one.id], `${one.id}, labelled ${one.label}`));
    node.append(frame, make("figcaption", "", one.label));
    node.title = `${one.id}, ${one.kind} copy, labelled ${one.label}, in ${one.split}`;
    line.append(node);
  });
  const other = list.filter((one) => one.label !== row.given).length;
  section.append(heading("Copies of this image", other ? `${other} of ${list.length} labelled otherwise` : "labelled alike"), line);
  return section;
}

function scores(list, spread) {
  const section = make("div", "scores");
  const several = Number.isFinite(spread) ? `; suspicion varies by ± ${spread.toFixed(1)} over trainings` : "";
  section.append(heading("Scores", "percentile, high is suspicious" + several));
  section.append(...list.slice(0, FIRST_SCORES).map(score));
  if (list.length > FIRST_SCORES) {
    const all = make("details", "all");
    all.append(make("summary", "", `${list.length - FIRST_SCORES} more`), ...list.slice(FIRST_SCORES).map(score));
    section.append(all);
  }
  return section;
}

function score(one) {
  const node = make("details", "score" + (one.percentile >= 95 ? " high" : ""));
  const line = make("summary");
  const known = Number.isFinite(one.percentile);
  line.append(make("span", "words", one.title), meter(known ? one.percentile / 100 : 0));
  const spread = Number.isFinite(one.spread) ? ` ± ${one.spread.toFixed(1)}` : "";
  line.append(make("span", "figure", known ? one.percentile.toFixed(1) + spread : "–"));
  const raw = typeof one.raw === "number" ? Number(one.raw.toPrecision(4)) : "none";
  const text = `${one.meaning} Raw value ${raw}; ${one.suspicious_end} values are suspicious.`;
  node.title = text;
  node.append(line, make("p", "", text));
  return node;
}

function svg(tag, attributes, text = null) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
  if (text !== null) node.textContent = text;
  return node;
}

// The probability of the given label after each epoch of training.
function curve(values, given) {
  values = values.filter(Number.isFinite);
  const [width, height, left, foot] = [360, 92, 34, 18];
  const x = (index) => left + (index / (values.length - 1)) * (width - left - 6);
  const y = (value) => 6 + (1 - value) * (height - foot - 6);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "curve", role: "img" });
  drawing.append(svg("title", {}, `${percent(values[0])} after epoch 1, ${percent(values.at(-1))} after epoch ${values.length}`));
  for (const share of [0, 0.5, 1]) {
    drawing.append(svg("line", { x1: left, x2: width - 6, y1: y(share), y2: y(share), class: "rule" }));
    drawing.append(svg("text", { x: left - 6, y: y(share) + 4, "text-anchor": "end" }, percent(share)));
  }
  const points = values.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`);
  drawing.append(svg("polygon", { points: `${x(0)},${y(0)} ${points.join(" ")} ${x(values.length - 1)},${y(0)}`, class: "area" }));
  drawing.append(svg("polyline", { points: points.join(" "), class: "line" }));
  drawing.append(svg("circle", { cx: x(values.length - 1), cy: y(values.at(-1)), r: 3, class: "dot" }));
  drawing.append(svg("text", { x: left, y: height - 3 }, "epoch 1"));
  drawing.append(svg("text", { x: width - 6, y: height - 3, "text-anchor": "end" }, `epoch ${values.length}`));
  const section = make("div");
  section.append(heading("While training", `probability of ${given}`), drawing);
  return section;
}

function history(list) {
  const section = make("div", "history");
  section.append(heading("Decisions so far"));
  list.forEach((one) => {
    const line = make("div", one.in_effect ? "event" : "event undone");
    line.append(make("b", "", one.what), make("span", "", [one.who, one.when].filter(Boolean).join(", ")));
    if (one.note) line.append(make("em", "", one.note));
    section.append(line);
  });
  return section;
}

function paths(detail) {
  const section = make("div", "file");
  section.append(heading("File"), make("code", "", detail.path || detail.id));
  const size = detail.size?.length === 2 && detail.size[0] ? `${detail.size[0]} × ${detail.size[1]} pixels` : "";
  const rest = [size, detail.split, detail.group ? `group ${detail.group}` : ""].filter(Boolean).join(" · ");
  if (rest) section.append(make("small", "", rest));
  const meta = Object.entries(detail.meta ?? {}).map(([name, value]) => `${name}: ${value}`);
  if (meta.length) section.append(make("small", "meta", meta.join(" · ")));
  if (detail.facts?.length) section.append(make("small", "meta", `This image is ${detail.facts.join(", ")}.`));
  return section;
}
