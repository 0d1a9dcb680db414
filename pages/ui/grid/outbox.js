// The outbox: decisions the server has not acknowledged. Each tab keeps one list in localStorage, so that a tab closed
// right after a key loses nothing; the lists of tabs that are gone are taken over. Sending an event twice is harmless.

const OUTBOX = "gradsift.outbox.";
const ALIVE = "gradsift.alive.";
const BEAT = 2000; // ms between two signs of life of a tab
const DEAD = 7000; // ms without one after which its list may be taken over
const MOST = 2000; // events in one message; the rest follows with the next

const post = (globalThis.gradsiftPost ??= { parts: {}, arrived: {} });
const shared = (globalThis.gradsift ??= { tab: newId(), boxes: {}, grids: {} });

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

class Outbox {
  constructor(owner) {
    this.owner = owner;
    this.events = [];
    this.kept = true; // false where the browser refuses to store
    this.place = OUTBOX + shared.tab + "|" + owner;
    this.listeners = new Set();
    this.beat();
    setInterval(() => this.beat(), BEAT);
    addEventListener("pagehide", () => this.leave());
    addEventListener("pageshow", (event) => event.persisted && this.beat());
  }

  beat() {
    try {
      localStorage.setItem(ALIVE + shared.tab, String(Date.now()));
    } catch {
      this.kept = false;
    }
    if (this.adopt()) this.listeners.forEach((told) => told());
  }

  leave() {
    try {
      this.store();
      localStorage.removeItem(ALIVE + shared.tab);
    } catch {
      this.kept = false;
    }
  }

  // Takes over what tabs that are gone left behind for the same owner; tells whether there was any.
  adopt() {
    let found = false;
    for (const place of places((owner) => owner === this.owner)) {
      const tab = place.slice(OUTBOX.length, place.indexOf("|"));
      const seen = Number(read(ALIVE + tab)) || 0;
      if (tab === shared.tab || Date.now() - seen < DEAD) continue;
      const known = new Set(this.events.map((event) => event.event_id));
      const left = parsed(read(place)).filter((event) => event?.event_id && !known.has(event.event_id));
      this.events = [...left, ...this.events];
      this.store();
      if (this.kept || !left.length) forget(place, ALIVE + tab);
      found ||= left.length > 0;
    }
    return found;
  }

  add(events) {
    this.events.push(...events);
    this.store();
  }

  // Drops the events whose ids are in `ids`, here and in the lists of other tabs.
  drop(ids) {
    if (!ids.size) return;
    const before = this.events.length;
    this.events = this.events.filter((event) => !ids.has(event.event_id));
    if (this.events.length !== before) this.store();
  }

  // What the next message carries: the oldest events, a batch whole or not at all.
  load() {
    if (this.events.length <= MOST) return this.events;
    let end = MOST;
    while (end > 0 && this.events[end].batch === this.events[end - 1].batch) end--;
    return this.events.slice(0, end || MOST);
  }

  store() {
    try {
      if (this.events.length) localStorage.setItem(this.place, JSON.stringify(this.events));
      else localStorage.removeItem(this.place);
      this.kept = true;
    } catch {
      this.kept = false; // storage is full or switched off: the list lives in memory only, and the status says so
    }
  }
}

function outboxOf(owner) {
  return (shared.boxes[owner] ??= new Outbox(owner));
}

// The lists in this browser whose owner fits.
function places(fits) {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(OUTBOX) && fits(ownerOf(key)));
  } catch {
    return [];
  }
}

// How many decisions lie in this browser for owners other than `owner`: nothing here may send them.
function others(owner) {
  const foreign = (one) => one !== owner;
  const boxes = Object.values(shared.boxes).filter((box) => foreign(box.owner));
  const known = new Set(boxes.map((box) => box.place));
  const stored = places(foreign).filter((place) => !known.has(place));
  const events = [...boxes.map((box) => box.events), ...stored.map((place) => parsed(read(place)))].flat();
  return new Set(events.map((event) => event?.event_id).filter(Boolean)).size;
}

function ownerOf(place) {
  return place.slice(place.indexOf("|") + 1);
}

function read(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function forget(...keys) {
  keys.forEach((key) => localStorage.removeItem(key));
}

function parsed(text) {
  try {
    const list = JSON.parse(text ?? "[]");
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}

// Carries an outbox to Python and takes the answers: sends at once, again after an answer, and with a growing pause
// while no answer comes. `part` gives what the shim last brought: the answer and `say`, or nothing while it is away.
class Courier {
  constructor(key, box, changed, adopted = () => {}) {
    Object.assign(this, { key, box, changed, extra: {}, count: 0, tries: 0, failed: null, since: 0, ended: false });
    this.sentId = "";
    this.resendAt = 0;
    this.others = others(box.owner);
    this.adopted = () => (adopted(), this.soon());
    box.listeners.add(this.adopted);
    this.clock = setInterval(() => this.watch(), 500);
  }

  get part() {
    return post.parts[this.key + "/wire"];
  }

  // Whether the shim is there and speaks for this owner: after a change of project it may be the next one's.
  get mine() {
    return this.part?.owner === this.box.owner;
  }

  get waiting() {
    return this.sentId !== "" && this.part?.n !== this.sentId;
  }

  soon() {
    this.timer ??= setTimeout(() => this.send(), this.waiting ? 150 : 8);
  }

  send() {
    clearTimeout(this.timer);
    this.timer = null;
    const part = this.part;
    if (!this.mine || this.ended) return;
    this.sentId = shared.tab.slice(0, 8) + "." + this.key + "." + ++this.count;
    const outbox = part.readOnly ? [] : this.box.load();
    if (outbox.length && !this.since) this.since = Date.now();
    this.resendAt = Date.now() + Math.min(15000, 1500 * 2 ** this.tries++);
    part.say({ ...this.extra, n: this.sentId, owner: this.box.owner, outbox });
  }

  // Takes the answer; returns the refusals of events that were still waiting here.
  answer() {
    if (!this.mine) return [];
    const { stored, refused, failed } = this.part;
    const waiting = new Set(this.box.events.map((event) => event.event_id));
    const told = Object.entries(refused).filter(([id]) => waiting.has(id));
    const gone = new Set([...stored, ...told.map(([id]) => id)]);
    const progress = [...gone].some((id) => waiting.has(id));
    this.box.drop(gone);
    this.failed = failed;
    if (progress || !this.box.events.length) {
      this.tries = 0;
      this.since = this.box.events.length ? Date.now() : 0;
    }
    const unheard = !this.sentId || !this.part.n; // a new page, or a server that was started anew
    if (this.timer && !this.waiting) this.send();
    else if (this.box.events.length && !failed && (progress || unheard)) this.soon();
    return told;
  }

  watch() {
    if (this.box.events.length && !this.part?.readOnly && Date.now() >= this.resendAt) this.send();
    this.others = others(this.box.owner);
    this.changed();
  }

  // The state of the outbox in words: [kind, text]; `told` stands for that of the own events.
  status(told = this.own()) {
    if (!this.others) return told;
    const [count, wait] = this.others === 1 ? ["1 decision", "waits"] : [`${this.others} decisions`, "wait"];
    return [`${told[0]} others`, `${told[1]}; ${count} of another project or name ${wait} in this browser`];
  }

  own() {
    const count = this.box.events.length;
    if (!count) return ["saved", "saved"];
    if (this.part?.readOnly) return ["late", `${count} kept in this browser, not sent: read-only`];
    const where = this.box.kept ? "kept in this browser" : "keep this page open: the browser stores nothing";
    if (this.failed) return ["late", `not saved yet: ${this.failed}, ${where}`.replace(/\.,/, ",")];
    if (this.since && Date.now() - this.since > 4000) return ["late", `not saved yet: no answer, ${where}`];
    return ["saving", `saving ${count}…`];
  }

  end() {
    this.ended = true;
    clearInterval(this.clock);
    clearTimeout(this.timer);
    this.box.listeners.delete(this.adopted);
  }
}
