// The decisions as the person sees them: what the server said last, and the outbox played on top.

const WORDS = { keep: "kept", relabel: "relabelled", exclude: "excluded", unsure: "unsure" };
const SIGNS = { keep: "✓", relabel: "⇄", exclude: "✕", unsure: "?" };
const CODES = { k: "keep", r: "relabel", x: "exclude", u: "unsure", n: "undecided" };

class Decisions {
  constructor() {
    this.now = new Map(); // sample id -> [action, label, reviewer]
    this.undos = []; // newest first: {batch, values: {id: [action, label]}, count}
    this.redos = [];
    this.waiting = new Set(); // sample ids with an event that is not acknowledged
  }

  // Starts anew from the server's answer and plays the outbox on it.
  reset(part, rows, classes, events) {
    const named = (label) => (typeof label === "number" ? classes[label] : label) ?? null;
    const unpack = ([row, code, label, who]) => [rows[row].id, [CODES[code], named(label), who ?? null]];
    const batch = (entry) => ({ batch: entry.b, count: entry.c, values: Object.fromEntries(entry.v.map(unpack)) });
    this.now = new Map(part.decisions.map(unpack));
    this.undos = part.undo.map(batch);
    this.redos = part.redo.map(batch);
    this.waiting = new Set();
    this.play(events);
  }

  // Applies events of one or more batches; returns the sample ids they touch.
  play(events) {
    const touched = new Set();
    for (let start = 0; start < events.length; ) {
      const { kind, batch } = events[start];
      let end = start + 1;
      while (kind === "decide" && events[end]?.kind === kind && events[end].batch === batch) end++;
      const ids = kind === "decide" ? this.decide(batch, events.slice(start, end)) : this.turn(kind, batch);
      ids.forEach((id) => (touched.add(id), this.waiting.add(id)));
      start = end;
    }
    return touched;
  }

  decide(batch, events) {
    const ids = events.map((event) => event.sample_id);
    const known = this.undos.some((entry) => entry.batch === batch) || this.redos.some((entry) => entry.batch === batch);
    if (known) return ids; // the server has it already
    const before = Object.fromEntries(ids.map((id) => [id, this.now.get(id) ?? ["undecided", null]]));
    this.undos.unshift({ batch, values: before, count: ids.length });
    this.redos = [];
    events.forEach((event) => this.set(event.sample_id, [event.action, event.label]));
    return ids;
  }

  turn(kind, batch) {
    const [from, to] = kind === "undo" ? [this.undos, this.redos] : [this.redos, this.undos];
    const at = from.findIndex((entry) => entry.batch === batch);
    if (at < 0) return []; // the server has done it already
    const [entry] = from.splice(at, 1);
    const ids = Object.keys(entry.values);
    const values = Object.fromEntries(ids.map((id) => [id, this.now.get(id) ?? ["undecided", null]]));
    to.unshift({ ...entry, values });
    ids.forEach((id) => this.set(id, entry.values[id]));
    return ids;
  }

  set(id, value) {
    if (!value || value[0] === "undecided") this.now.delete(id);
    else this.now.set(id, value);
  }
}
