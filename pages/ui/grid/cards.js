// The cards: built once per page of rows, then only their classes and texts change.

const TINY = 48; // pixels: smaller images are enlarged pixel by pixel, not blurred

function make(tag, name = "", text = null) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== null) node.textContent = text;
  return node;
}

function picture(src, alt) {
  if (!src) return make("div", "nopic", "no picture");
  const image = make("img");
  image.decoding = "async";
  image.draggable = false;
  image.alt = alt;
  image.onload = () => image.classList.toggle("tiny", Math.max(image.naturalWidth, image.naturalHeight) <= TINY);
  image.onerror = () => image.replaceWith(make("div", "nopic", "no picture"));
  image.src = src;
  return image;
}

// "given → suggested", or the given label alone.
function pair(given, suggested) {
  const line = make("span", "pair");
  line.append(make("span", "given", given));
  if (suggested) line.append(make("span", "arrow", " → "), make("b", "", suggested));
  return line;
}

// A step of the suspicion scale, 0 to 4.
function step(suspicion) {
  return Math.max(0, Math.min(4, Math.round(suspicion / 25)));
}

function meter(share, name = "") {
  const bar = make("span", "meter " + name);
  const fill = make("i");
  fill.style.width = Math.max(0, Math.min(100, share * 100)).toFixed(1) + "%";
  bar.append(fill);
  return bar;
}

function card(row, index, blind) {
  const node = make("div", "card");
  node.id = "card-" + index;
  node.dataset.id = row.id;
  node.setAttribute("role", "option");
  node.setAttribute("aria-selected", "false");
  const frame = make("div", "pic");
  frame.append(picture(row.src, row.alt), make("span", "badge"));
  const caption = make("div", "caption");
  caption.append(pair(row.given, row.suggested));
  caption.title = row.suggested ? `${row.given} → ${row.suggested}` : row.given;
  node.append(frame, caption);
  if (!blind && row.suspicion !== null) {
    const line = make("div", `susp s${step(row.suspicion)}` + (row.flagged ? "" : " calm"));
    line.title = `Suspicion ${row.suspicion.toFixed(1)} of 100, ${row.flagged ? "flagged" : "not flagged"}`;
    line.append(meter(row.suspicion / 100), make("span", "figure", row.suspicion.toFixed(1)));
    node.append(line);
  }
  return node;
}

// Shows decision `now` ([action, label, reviewer] or nothing) on a card.
function mark(node, row, now, waiting) {
  const [action, label, who] = now ?? ["undecided", null, null];
  const state = JSON.stringify([action, label, who, waiting]);
  if (node.dataset.state === state) return;
  node.dataset.state = state;
  const badge = node.querySelector(".badge");
  const word = { keep: "kept", relabel: label, exclude: "out", unsure: "unsure" }[action];
  node.dataset.action = action;
  node.classList.toggle("waiting", waiting);
  badge.textContent = word === undefined ? (waiting ? "…" : "") : `${SIGNS[action]} ${word}`;
  badge.title = who ? `by ${who}` : "";
  node.setAttribute("aria-label", `${row.alt}. ${told(now) || "not decided"}`);
}

// A decision in words: "relabelled dog".
function told(now) {
  if (!now) return "";
  return WORDS[now[0]] + (now[1] ? ` ${now[1]}` : "");
}
