// Listens on a Plotly chart: lasso, box, click, ring. The only file that touches `_fullLayout`, which is Plotly's own.
// The hover card hears of the pointer by the window event "gradsift-hover" (hover.js).
const SVG = 'http://www.w3.org/2000/svg'
const KEEP = 2000, NEAR = 4, PAUSE = 60
const TOOLS = [['lasso', 'Lasso', 'L', 'Draw around images (L)'], ['box', 'Box', 'B', 'Drag a box over images (B)'],
  ['move', 'Move', 'L', 'Drag the map (L)']]
const mounts = new WeakMap()
const nonce = () => Math.random().toString(36).slice(2) + Date.now().toString(36)
const node = (name, parent, attributes = {}) => {
  const made = name === 'button' || name === 'div' || name === 'kbd' ? document.createElement(name) : document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  parent?.append(made)
  return made
}

class MapView {
  constructor(parent) {
    this.parent = parent
    this.tool = 'lasso'
    this.waiting = null // an outline that Python has not answered for
    this.watch = new MutationObserver(() => { this.later ??= setTimeout(() => { this.later = null; this.bind() }, PAUSE) })
    this.watch.observe(document.body, {childList: true, subtree: true})
    this.onKey = e => this.key(e)
    document.addEventListener('keydown', this.onKey)
  }

  end() {
    this.watch.disconnect()
    clearTimeout(this.later)
    document.removeEventListener('keydown', this.onKey)
    this.unbind()
  }

  unbind() {
    this.hover(null)
    for (const [name, call] of Object.entries(this.calls ?? {})) this.plot?.removeListener?.(name, call)
    this.root?.remove()
    this.plot = this.root = this.calls = null
  }

  bind() {
    const plot = document.querySelector(`.st-key-${CSS.escape(this.data.chart)} .js-plotly-plot`)
    const stage = plot?.querySelector('.svg-container')
    if (this.root?.isConnected && this.plot === plot) return
    const focused = this.root?.contains(document.activeElement) ? this.tool : null
    this.unbind()
    if (!stage || !plot._fullLayout?.xaxis || !plot.on) return
    this.plot = plot
    this.build(stage)
    this.calls = {
      plotly_hover: e => this.hover(e.points?.[0]), plotly_unhover: () => this.hover(null),
      plotly_click: e => this.click(e.points?.[0]?.customdata),
      plotly_relayout: () => this.draw(), plotly_relayouting: () => this.draw(), plotly_afterplot: () => this.draw(),
    }
    for (const [name, call] of Object.entries(this.calls)) plot.on(name, call)
    this.paint()
    if (focused) this.buttons[focused].focus()
  }

  build(stage) {
    const root = this.root = node('div', stage, {class: 'gs-map'})
    root.gradsift = this
    const style = getComputedStyle(this.parent)
    for (const name of ['text-color', 'background-color', 'secondary-background-color', 'primary-color', 'border-color', 'font'])
      root.style.setProperty(`--st-${name}`, style.getPropertyValue(`--st-${name}`))
    const svg = this.svg = node('svg', root, {class: 'gs-map-over', 'aria-hidden': 'true'})
    this.dots = node('path', svg, {class: 'gs-map-dots'})
    this.marks = ['gs-map-marks', 'gs-map-marks gs-inner'].map(name => node('path', svg, {class: name}))
    this.shape = node('path', svg, {class: 'gs-map-shape'})
    this.halo = node('circle', svg, {class: 'gs-map-halo', r: 9})
    this.ring = node('circle', svg, {class: 'gs-map-ring', r: 9})
    svg.addEventListener('pointerdown', e => this.down(e))
    svg.addEventListener('pointermove', e => this.move(e))
    svg.addEventListener('pointerup', e => this.up(e))
    svg.addEventListener('pointercancel', () => this.cancel())
    svg.addEventListener('pointerleave', () => { if (!this.path) this.hover(null) })
    svg.addEventListener('wheel', e => { e.preventDefault(); this.pass(WheelEvent, e) }, {passive: false})
    svg.addEventListener('dblclick', () => this.plot.querySelector('.modebar-btn[data-val="reset"], .modebar-btn[data-attr="zoom"][data-val="reset"]')?.click())
    const bar = node('div', root, {class: 'gs-map-tools', role: 'toolbar', 'aria-label': 'Map tools'})
    this.buttons = {}
    for (const [name, title, key, help] of TOOLS) {
      const button = this.buttons[name] = node('button', bar, {type: 'button', title: help, 'data-tool': name})
      button.textContent = title
      node('kbd', button).textContent = key
      button.addEventListener('click', () => this.take(name))
    }
    const clear = this.buttons.clear = node('button', bar, {type: 'button', title: 'Take the outline away (Esc)', 'data-tool': 'clear'})
    clear.textContent = 'Clear'
    node('kbd', clear).textContent = 'Esc'
    clear.addEventListener('click', () => this.clear())
  }

  // What the pointer does over the overlay that is not drawing is Plotly's to answer: it draws nothing itself.
  pass(Kind, e) {
    this.plot.querySelector('.nsewdrag')?.dispatchEvent(new Kind(Kind === WheelEvent ? 'wheel' : 'mousemove', {
      clientX: e.clientX, clientY: e.clientY, deltaX: e.deltaX, deltaY: e.deltaY, deltaMode: e.deltaMode,
      bubbles: true, cancelable: true, view: window,
    }))
  }

  take(tool) {
    this.tool = tool
    this.cancel()
    this.paint()
  }

  key(e) {
    const at = e.composedPath()[0]
    if (e.ctrlKey || e.altKey || e.metaKey || e.defaultPrevented || !this.root?.isConnected) return
    if (at?.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(at?.tagName) || document.querySelector('[role=dialog]')) return
    if (e.key === 'l' || e.key === 'L') this.take(this.tool === 'lasso' ? 'move' : 'lasso')
    else if (e.key === 'b' || e.key === 'B') this.take(this.tool === 'box' ? 'move' : 'box')
    else if (e.key === 'Escape') { if (this.path) this.cancel(); else if (this.selected()) this.clear(); else return }
    else return
    e.preventDefault()
  }

  at(e) {
    const box = this.svg.getBoundingClientRect()
    return [e.clientX - box.left, e.clientY - box.top]
  }

  down(e) {
    if (e.button !== 0) return
    e.preventDefault()
    this.svg.setPointerCapture(e.pointerId)
    this.path = [this.at(e)]
    this.far = false
  }

  move(e) {
    if (!this.path) return this.pass(MouseEvent, e)
    const here = this.at(e), start = this.path[0], last = this.path.at(-1)
    if (!this.far && Math.hypot(here[0] - start[0], here[1] - start[1]) < NEAR) return
    if (!this.far) { this.far = true; this.hover(null) }
    if (this.tool === 'box') this.path = [start, [here[0], start[1]], here, [start[0], here[1]]]
    else if (Math.hypot(here[0] - last[0], here[1] - last[1]) >= 2) this.path.push(here)
    if (this.path.length > KEEP) this.path = this.path.filter((_, row) => row % 2 === 0)
    if (this.tool === 'box') this.path.start = start
    this.sketch(this.path, true)
  }

  up(e) {
    const path = this.path, far = this.far
    this.path = null
    if (!path) return
    if (!far) { this.draw(); return this.click(this.under?.id) }
    if (path.length < 3) return this.draw()
    const {xaxis, yaxis, _size: size} = this.plot._fullLayout
    this.send(path.map(([x, y]) => [xaxis.p2d(x - size.l), yaxis.p2d(y - size.t)]))
  }

  cancel() {
    this.path = null
    this.draw()
  }

  send(points) {
    this.waiting = {nonce: nonce(), points}
    this.paint()
    this.parts.setStateValue('drawn', this.waiting)
  }

  clear() {
    this.send(null)
  }

  click(id) {
    if (typeof id === 'string') this.parts.setStateValue('clicked', {nonce: nonce(), id})
  }

  hover(point) {
    const id = point?.customdata
    if (id === this.under?.id) return
    this.under = typeof id === 'string' ? {id} : null
    if (this.svg) this.svg.style.cursor = this.under ? 'pointer' : ''
    let place = null
    if (this.under && this.plot?._fullLayout) {
      const {xaxis, yaxis, _size: size} = this.plot._fullLayout, box = this.svg.getBoundingClientRect()
      place = {id, x: box.left + size.l + xaxis.d2p(point.x), y: box.top + size.t + yaxis.d2p(point.y)}
    }
    window.dispatchEvent(new CustomEvent('gradsift-hover', {detail: place}))
  }

  outline() {
    return this.waiting ? this.waiting.points : this.data.outline
  }

  selected() { // an outline drawn in another space is not shown here, but can be taken away
    return this.waiting ? !!this.waiting.points : this.data.selected
  }

  sketch(path, live) {
    this.shape.setAttribute('d', path?.length ? `M${path.map(each => each.map(v => v.toFixed(1)).join(',')).join('L')}${live && this.tool !== 'box' ? '' : 'Z'}` : '')
    this.shape.classList.toggle('gs-live', !!live)
  }

  draw() {
    const layout = this.plot?._fullLayout
    if (!this.root || !layout?.xaxis) return
    const {xaxis, yaxis, _size: size} = layout
    const place = ([x, y]) => [size.l + xaxis.d2p(x), size.t + yaxis.d2p(y)]
    if (!this.path) this.sketch(this.outline()?.map(place))
    const dotted = each => (each ?? []).map(point => `M${place(point).map(v => v.toFixed(1)).join(',')}h0`).join('')
    this.dots.setAttribute('d', dotted(this.data.dots))
    for (const path of this.marks) path.setAttribute('d', dotted(this.data.marks))
    const ring = this.data.ring && place(this.data.ring)
    for (const circle of [this.halo, this.ring]) {
      circle.style.display = ring ? '' : 'none'
      if (ring) { circle.setAttribute('cx', ring[0]); circle.setAttribute('cy', ring[1]) }
    }
  }

  paint() {
    if (!this.root) return
    this.svg.classList.toggle('gs-draws', this.tool !== 'move')
    for (const [name, button] of Object.entries(this.buttons))
      if (name !== 'clear') button.setAttribute('aria-pressed', String(this.tool === name))
    // L is printed where pressing it leads
    this.buttons.lasso.querySelector('kbd').hidden = this.tool === 'lasso'
    this.buttons.move.querySelector('kbd').hidden = this.tool !== 'lasso'
    this.buttons.clear.hidden = !this.selected()
    this.draw()
  }

  update(parts) {
    this.parts = parts
    this.data = parts.data
    if (this.waiting && this.data.seen === this.waiting.nonce) this.waiting = null
    const said = this.parent.querySelector('.gs-map-said')
    if (said && said.textContent !== this.data.said) said.textContent = this.data.said
    this.bind()
    this.paint()
  }
}

export default function (parts) {
  let view = mounts.get(parts.parentElement)
  if (!view) {
    mounts.set(parts.parentElement, view = new MapView(parts.parentElement))
    if (!document.createElement('canvas').getContext('webgl')) parts.setStateValue('nogl', true)
  }
  view.update(parts)
  return () => { view.end(); mounts.delete(parts.parentElement) }
}
