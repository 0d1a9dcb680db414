// One frame with its points: the screen lies between data and pixels here and nowhere else.
class Frame {
  constructor(parent, [width, height], radius) {
    Object.assign(this, {width, height, radius})
    this.svg = make('svg', parent, {viewBox: `0 0 ${width} ${height}`})
    this.lines = make('g', this.svg, {class: 'lines'})
    this.under = make('g', this.svg)
    this.dots = make('g', this.svg)
    this.over = make('g', this.svg, {class: 'over'})
  }

  to([x, y]) {
    const [left, right, bottom, top] = this.frame
    return [(x - left) / (right - left) * this.width, (top - y) / (top - bottom) * this.height]
  }

  from(clientX, clientY) {
    const box = this.svg.getBoundingClientRect(), [left, right, bottom, top] = this.frame, edge = 0.05
    const hold = (value, low, high) => Math.min(Math.max(value, low + edge), high - edge)
    return [hold(left + (clientX - box.left) / box.width * (right - left), left, right),
      hold(top - (clientY - box.top) / box.height * (top - bottom), bottom, top)]
  }

  border(lines, className) {
    for (const line of lines ?? []) make('path', this.lines, {d: path(line.map(each => this.to(each))), class: className})
  }

  // A point under the pointer, in this picture or another one.
  ring(at) {
    this.over.replaceChildren()
    if (!at) return
    const [x, y] = this.to(at)
    for (const name of ['halo', 'ring']) make('circle', this.over, {cx: x, cy: y, r: this.radius * 2.2, class: name})
  }
}
