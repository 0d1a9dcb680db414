// The same points in small, marked by each measure; one under the pointer is ringed in all pictures.
const SIZE = [320, 240]
const mounts = new WeakMap()

class Views {
  constructor(root) {
    this.root = make('div', root, {class: 'toy views'})
    this.tiles = new Map()
    this.onPoint = e => this.hear(e.detail)
    window.addEventListener('gradsift-toy', this.onPoint)
  }

  end() { window.removeEventListener('gradsift-toy', this.onPoint) }

  update({data}) {
    this.data = data
    this.root.classList.toggle('dark', data.dark)
    for (const view of data.views) this.tile(view)
  }

  tile(view) {
    let tile = this.tiles.get(view.name)
    if (!tile) {
      const node = make('figure', this.root, {'data-view': view.name}), title = make('h3', node)
      tile = {title, frame: new Frame(node, SIZE, 3.2), text: make('figcaption', node)}
      tile.frame.svg.addEventListener('pointermove', e => this.point(tile.frame, e))
      tile.frame.svg.addEventListener('pointerleave', () => this.send(null))
      tile.frame.svg.setAttribute('role', 'img')
      this.tiles.set(view.name, tile)
    }
    tile.title.textContent = view.title
    if (tile.text.textContent !== view.text) tile.text.textContent = view.text
    tile.frame.svg.setAttribute('aria-label', `${view.title} ${view.text}`)
    this.draw(tile.frame, view)
  }

  draw(frame, view) {
    const {data} = this, ink = INK[data.dark ? 'dark' : 'light'], wrong = new Set(data.wrong)
    frame.frame = data.frame
    for (const group of [frame.lines, frame.under, frame.dots]) group.replaceChildren()
    frame.border(data.border, 'old')
    if (!view.heat) return
    const rows = data.xy.map((_, row) => row).sort((a, b) => Math.abs(view.heat[a]) - Math.abs(view.heat[b]))
    for (const row of rows) {
      const heat = view.heat[row], strong = Math.abs(heat), [x, y] = frame.to(data.xy[row])
      const colour = mix(ink.rest, heat < 0 ? ink.cold : ink.hot, Math.min(1, strong * 1.15))
      if (data.rings && wrong.has(row)) make('circle', frame.dots, {cx: x, cy: y, r: 7.4, class: 'wrong'})
      if (view.arrows) this.arrow(frame, [x, y], view.arrows[row], strong, colour)
      else make('path', frame.dots, {d: shape(data.labels[row], x, y, 2.3 + 2.6 * strong), fill: colour})
    }
  }

  arrow(frame, [x, y], [dx, dy], strong, colour) {
    const long = 30 * strong, tip = [x + dx * long, y - dy * long]
    make('circle', frame.dots, {cx: x, cy: y, r: 1.6, fill: colour})
    if (long < 3) return
    const head = (turn) => `${(tip[0] - 5 * (dx * Math.cos(turn) + dy * Math.sin(turn))).toFixed(1)},${(tip[1] + 5 * (dy * Math.cos(turn) - dx * Math.sin(turn))).toFixed(1)}`
    make('path', frame.dots, {d: `M${x},${y}L${tip[0].toFixed(1)},${tip[1].toFixed(1)}M${head(0.45)}L${tip[0].toFixed(1)},${tip[1].toFixed(1)}L${head(-0.45)}`, stroke: colour, class: 'arrow'})
  }

  point(frame, e) {
    const [x, y] = frame.from(e.clientX, e.clientY)
    let best = null, least = 0.2
    this.data.xy.forEach(([px, py], row) => { const far = Math.hypot(px - x, py - y); if (far < least) { best = row; least = far } })
    this.send(best)
  }

  send(row) {
    if (row === this.last) return
    this.last = row
    window.dispatchEvent(new CustomEvent('gradsift-toy', {detail: {owner: this.data.owner, row, from: this}}))
  }

  hear({owner, row, at}) {
    if (owner !== this.data?.owner) return
    for (const {frame} of this.tiles.values()) frame.ring(row == null ? null : at ?? this.data.xy[row])
  }
}

export default function (parts) {
  const root = parts.parentElement
  let view = mounts.get(root)
  if (!view) mounts.set(root, view = new Views(root))
  view.update(parts)
  return () => { view.end(); mounts.delete(root) }
}
