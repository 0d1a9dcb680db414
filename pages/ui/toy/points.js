// The picture that can be changed: points are dragged, flipped by a click, and worked by keys.
const SIZE = [640, 480]
const NEAR = 4, STEP = 0.1, DIGITS = 4 // pixels before a press is a drag; data units of a key; of a place that is sent
const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}
const HELP = 'Drag a point, or click it to change its label. By keys: arrows choose a point, Shift and arrows move it, Enter changes its label.'
const mounts = new WeakMap()
const nonce = () => Math.random().toString(36).slice(2, 10) + Date.now().toString(36)
const nth = place => `${place}${['th', 'st', 'nd', 'rd'][place % 100 > 10 && place % 100 < 14 ? 0 : place % 10 < 4 ? place % 10 : 0]}`

class Points {
  constructor(root) {
    this.root = make('div', root, {class: 'toy'})
    this.stage = make('div', this.root, {class: 'stage', tabindex: 0, role: 'application', 'aria-roledescription': 'picture of points'})
    this.frame = new Frame(this.stage, SIZE, 6.5)
    this.line = make('p', this.root, {class: 'line'})
    this.live = make('p', this.root, {class: 'live', 'aria-live': 'polite'})
    this.mine = new Map() // row → [flipped, x, y], as Python has it or as it will have it
    this.chosen = null
    const {svg} = this.frame
    svg.addEventListener('pointerdown', e => this.down(e))
    svg.addEventListener('pointermove', e => this.move(e))
    svg.addEventListener('pointerup', e => this.up(e))
    svg.addEventListener('pointercancel', e => this.up(e, true))
    svg.addEventListener('pointerleave', () => { if (!this.held) this.point(null) })
    this.stage.addEventListener('keydown', e => this.key(e))
    this.stage.addEventListener('focus', () => { if (this.chosen == null) this.choose(0, true); else this.point(this.chosen, true) })
    this.stage.addEventListener('blur', () => this.point(null))
    this.onPoint = e => this.hear(e.detail)
    window.addEventListener('gradsift-toy', this.onPoint)
  }

  end() { window.removeEventListener('gradsift-toy', this.onPoint) }

  update({data, setStateValue}) {
    this.say = setStateValue
    const other = this.data?.owner !== data.owner
    this.data = data
    this.frame.frame = data.frame
    if (other) Object.assign(this, {waiting: null, held: null, chosen: null, later: false})
    if (this.waiting && data.heard === this.waiting) this.waiting = null
    if (!this.waiting && !this.held) this.mine = new Map(data.edits.map(([row, ...rest]) => [row, rest]))
    this.stage.setAttribute('aria-label', `${data.about} ${HELP}`)
    this.draw()
    if (this.later && !this.waiting) { this.later = false; this.send(Boolean(this.held)) }
  }

  at(row) {
    const [, x, y] = this.mine.get(row) ?? []
    return x == null ? this.data.xy[row] : [x, y]
  }

  // The label as it came, turned over where the person did: Python's answer may be one change behind.
  label(row) {
    const told = this.data.edits.find(each => each[0] === row)?.[1] ?? 0
    return this.data.labels[row] ^ told ^ (this.mine.get(row)?.[0] ?? 0)
  }

  isWrong(row) {
    const told = this.data.edits.find(each => each[0] === row)?.[1] ?? 0
    return this.wrong.has(row) !== Boolean(told ^ (this.mine.get(row)?.[0] ?? 0))
  }

  draw() {
    const {frame, data} = this, taken = new Set(data.taken)
    this.wrong = new Set(data.wrong)
    this.root.classList.toggle('dark', data.dark)
    for (const group of [frame.lines, frame.under, frame.dots]) group.replaceChildren()
    frame.border(data.border, data.after ? 'old' : 'new')
    frame.border(data.after, 'new')
    this.nodes = data.xy.map((_, row) => this.dot(row, taken.has(row)))
    this.point(this.shown ?? null)
  }

  dot(row, taken) {
    const [x, y] = this.frame.to(this.at(row)), kind = this.label(row), r = this.frame.radius
    const group = make('g', this.frame.dots, {class: taken ? 'dot taken' : 'dot', 'data-row': row})
    if (this.data.rings && this.isWrong(row)) make('circle', group, {cx: x, cy: y, r: r * 1.75, class: 'wrong'})
    make('path', group, {d: shape(kind, x, y, r), fill: taken ? 'none' : KIND[kind], stroke: KIND[kind], class: 'body'})
    if (taken) make('path', group, {d: `M${x - r},${y - r}l${2 * r},${2 * r}M${x + r},${y - r}l${-2 * r},${2 * r}`, class: 'cross'})
    make('circle', group, {cx: x, cy: y, r: 13, class: 'grip'})
    return group
  }

  redraw(row) {
    const fresh = this.dot(row, this.data.taken.includes(row))
    this.nodes[row].replaceWith(fresh)
    this.nodes[row] = fresh
    this.point(row)
  }

  // The nearest point within reach: where grips overlap, the top one is not the one that was meant.
  near(e) {
    const box = this.frame.svg.getBoundingClientRect(), scale = box.width / this.frame.width
    const here = [e.clientX - box.left, e.clientY - box.top]
    let best = null, least = Math.max(14, 13 * scale)
    this.data.xy.forEach((_, row) => {
      const [x, y] = this.frame.to(this.at(row)).map(each => each * scale), far = Math.hypot(x - here[0], y - here[1])
      if (far < least) { best = row; least = far }
    })
    return best
  }

  down(e) {
    const row = e.button === 0 ? this.near(e) : null
    if (row == null) return
    e.preventDefault()
    this.stage.focus({preventScroll: true})
    this.frame.svg.setPointerCapture(e.pointerId)
    this.held = {row, start: [e.clientX, e.clientY], far: false}
    this.choose(row)
  }

  move(e) {
    const {held} = this
    if (!held) return this.point(this.near(e))
    held.far ||= Math.hypot(e.clientX - held.start[0], e.clientY - held.start[1]) >= NEAR
    if (!held.far) return
    this.place(held.row, this.frame.from(e.clientX, e.clientY))
    this.send(true)
  }

  up(e, cancelled) {
    const {held} = this
    if (!held) return
    this.held = null
    if (cancelled && !held.far) return
    if (!held.far) this.flip(held.row)
    this.send(false)
  }

  place(row, at) {
    const [flipped = 0] = this.mine.get(row) ?? []
    this.mine.set(row, [flipped, ...at.map(each => Number(each.toFixed(DIGITS)))])
    this.redraw(row)
  }

  flip(row) {
    const [flipped = 0, ...at] = this.mine.get(row) ?? []
    this.mine.set(row, [1 - flipped, ...at])
    if (flipped && !at.length) this.mine.delete(row)
    this.redraw(row)
    this.live.textContent = `Point ${row + 1} is now labelled ${this.word(row)}.`
  }

  // All edits, every time. While a point is in the hand the next message waits for the answer to the last.
  send(live) {
    if (live && this.waiting) { this.later = true; return }
    this.later = false
    this.waiting = nonce()
    this.say('said', {
      owner: this.data.owner, nonce: this.waiting, live, edits: [...this.mine].map(([row, rest]) => [row, ...rest]),
    })
  }

  key(e) {
    if (e.ctrlKey || e.altKey || e.metaKey || this.chosen == null) return
    const way = ARROWS[e.key]
    if (way && e.shiftKey) {
      const [x, y] = this.at(this.chosen), [left, right, bottom, top] = this.data.frame
      this.place(this.chosen, [Math.min(Math.max(x + way[0] * STEP, left + 0.05), right - 0.05),
        Math.min(Math.max(y + way[1] * STEP, bottom + 0.05), top - 0.05)])
      this.send(false)
    } else if (way) this.choose(this.beside(way), true)
    else if (e.key === 'Enter' || e.key === ' ') { this.flip(this.chosen); this.send(false) }
    else if (e.key === 'Escape') this.stage.blur()
    else return
    e.preventDefault()
    e.stopPropagation()
  }

  // The nearest point that way, far ones aside counting double.
  beside([dx, dy]) {
    const [x, y] = this.at(this.chosen)
    let best = this.chosen, least = Infinity
    this.data.xy.forEach((_, row) => {
      const [px, py] = this.at(row), along = (px - x) * dx + (py - y) * dy, aside = Math.abs((px - x) * dy) + Math.abs((py - y) * dx)
      if (row !== this.chosen && along > 1e-6 && along + 2 * aside < least) { best = row; least = along + 2 * aside }
    })
    return best
  }

  choose(row, told) {
    this.chosen = row
    this.point(row, told)
  }

  word(row) { return this.label(row) ? 'orange' : 'blue' }

  // Ring a point here and in the other pictures, and say what is known of it.
  point(row, told) {
    this.shown = row
    this.tell(row, told)
    window.dispatchEvent(new CustomEvent('gradsift-toy', {detail: {owner: this.data.owner, row, at: row == null ? null : this.at(row), from: this}}))
    this.frame.ring(row == null ? null : this.at(row))
  }

  hear({owner, row, from}) {
    if (from === this || owner !== this.data?.owner || this.held) return
    this.shown = row
    this.tell(row)
    this.frame.ring(row == null ? null : this.at(row))
  }

  tell(row, told) {
    const text = row == null ? HELP : this.about(row)
    if (this.line.textContent !== text) this.line.textContent = text
    if (told && row != null) this.live.textContent = text
  }

  about(row) {
    const of = Object.entries(this.data.places).map(([name, places]) => `${nth(places[row])} by ${this.data.names[name]}`)
    const wrong = this.data.rings && this.isWrong(row) ? ' (wrong)' : ''
    return `Point ${row + 1}, labelled ${this.word(row)}${wrong}. Of ${this.data.xy.length}: ${of.join(', ')}.`
  }
}

export default function (parts) {
  const root = parts.parentElement
  let view = mounts.get(root)
  if (!view) mounts.set(root, view = new Points(root))
  view.update(parts)
  return () => { view.end(); mounts.delete(root) }
}
