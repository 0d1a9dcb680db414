// A suspect beside an ordinary image of its class: what the network got wrong, what it saw, where it lies. Names are text.
const mounts = new WeakMap()
const two = value => (Math.abs(value) < 0.005 ? '0' : (value > 0 ? '+' : '−') + Math.abs(value).toFixed(2))
const short = value => value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2)

class Lesson {
  constructor(root) { this.root = make('div', root, {class: 'lesson'}) }

  update({data}) {
    this.ink = INK[data.dark ? 'dark' : 'light']
    this.data = data
    this.root.classList.toggle('dark', data.dark)
    this.root.replaceChildren()
    data.looks.forEach((look, at) => this.look(look, at === 0))
    if (data.space) this.map()
  }

  look(look, suspect) {
    const card = make('section', this.root, {class: suspect ? 'look suspect' : 'look', 'data-id': look.id})
    make('h3', card, {}, suspect ? this.doubt(look) : `An ordinary ${look.given}`)
    const top = make('div', card, {class: 'top'})
    if (look.src) make('img', top, {src: look.src, alt: `${look.id}, labelled ${look.given}`})
    else make('div', top, {class: 'none'})
    const told = make('p', top)
    make('b', told, {}, `Labelled ${look.given}`)
    make('span', told, {}, ` · ${look.id}`)
    make('br', told)
    make('span', told, {}, suspect ? this.pull(look) : this.rest(look))
    this.bars(card, look)
    this.saw(card, look)
    this.product(card, look)
    this.near(card, look)
  }

  doubt({given, suggested}) { return suggested && suggested !== given ? `${given} → ${suggested}?` : given }

  pull({given, wants}) {
    const [most] = wants.slice(1)
    if (!most || most[1] < 0.05) return `The network agrees with its label.`
    return `The network said ${most[0]}; to learn ${given} from it, it would have to change.`
  }

  rest({wants}) { return Math.abs(wants[0][1]) < 0.1 ? 'The network already says so: nothing pulls.' : 'The network is not sure of it either.' }

  bars(card, look) {
    make('h4', card, {}, 'What the network got wrong')
    const list = make('div', card, {class: 'bars', role: 'img', 'aria-label': look.wants.map(([name, value]) => `${name} ${two(value)}`).join(', ')})
    for (const [name, value] of look.wants) {
      const row = make('div', list, {class: 'bar'})
      make('span', row, {class: 'name', title: name}, name)
      const track = make('span', row, {class: 'track'}), fill = make('span', track, {class: value < 0 ? 'less' : 'more'})
      fill.style.width = Math.abs(value) < 0.005 ? '0' : `${Math.min(50, Math.abs(value) * 50)}%`
      make('span', row, {class: 'number'}, two(value))
    }
    make('p', card, {class: 'note'}, `Right of the line: said too much of it; left: too little.${look.others ? ` ${look.others} more ${look.others === 1 ? 'class is' : 'classes are'} left out.` : ''}`)
  }

  saw(card, look) {
    if (!look.saw.length) return
    make('h4', card, {}, 'What the network saw')
    const svg = make('svg', card, {viewBox: `0 0 ${look.saw.length * 12} 60`, class: 'saw', preserveAspectRatio: 'none', role: 'img', 'aria-label': `${look.saw.length} of ${look.inputs} signals`})
    look.saw.forEach((value, at) => {
      const high = 56 * Math.abs(value) / this.data.largest
      make('rect', svg, {x: at * 12 + 1.5, y: 60 - high, width: 9, height: high, fill: value < 0 ? this.ink.cold : this.ink.old})
    })
    make('p', card, {class: 'note'}, `${look.saw.length} of the ${look.inputs} signals that the network reads off an image: those that are strongest in the suspect.`)
  }

  product(card, look) {
    const line = make('p', card, {class: 'product'})
    make('b', line, {}, `How hard it pushes: ${short(look.error_norm)} × ${short(look.input_norm)} = ${short(look.length)}`)
    make('span', line, {}, `, more than ${Math.floor(look.percentile)} % of the training images do.`)
  }

  near(card, look) {
    if (!look.near.length) return
    make('h4', card, {}, 'The images most like it, with their labels')
    const list = make('div', card, {class: 'near'})
    for (const each of look.near) {
      const one = make('figure', list)
      if (each.src) make('img', one, {src: each.src, alt: each.id})
      else make('div', one, {class: 'none'})
      make('figcaption', one, {class: each.label === look.given ? '' : 'other', title: each.label}, each.label)
    }
  }

  map() {
    const {dots, looks, space, dark} = this.data, [suspect, ordinary] = looks
    const card = make('section', this.root, {class: 'look place'})
    make('h3', card, {}, 'Where they lie')
    const all = [...dots, ...looks.filter(each => each.at).map(each => each.at)]
    const xs = all.map(each => each[0]), ys = all.map(each => each[1]), edge = 16, wide = 400, high = 400
    const [left, right, low, top] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)]
    const to = ([x, y]) => [edge + (x - left) / (right - left || 1) * (wide - 2 * edge), high - edge - (y - low) / (top - low || 1) * (high - 2 * edge)]
    const svg = make('svg', card, {viewBox: `0 0 ${wide} ${high}`, class: 'map', role: 'img', 'aria-label': `Map of the ${space}: images that the network sees alike lie together`})
    const colour = [this.ink.rest, KIND[0], KIND[1]]
    for (const kind of [0, 1, 2]) {
      const d = dots.filter(each => each[2] === kind).map(each => { const [x, y] = to(each); return `M${x.toFixed(1)},${y.toFixed(1)}h0` }).join('')
      if (d) make('path', svg, {d, stroke: colour[kind], class: kind ? 'dots own' : 'dots'})
    }
    looks.forEach((look, at) => {
      if (!look.at) return
      const [x, y] = to(look.at)
      make('circle', svg, {cx: x, cy: y, r: 9, class: 'halo'})
      make('circle', svg, {cx: x, cy: y, r: 9, class: 'ring'})
      make('text', svg, {x: x + (x > wide - 110 ? -14 : 14), y: y + 5, 'text-anchor': x > wide - 110 ? 'end' : 'start', class: 'word'}, at ? 'ordinary' : 'suspect')
    })
    const legend = make('p', card, {class: 'legend'})
    for (const [kind, name] of [[1, suspect.given], [2, suspect.suggested]]) {
      if (!name || (kind === 2 && name === suspect.given)) continue
      const item = make('span', legend, {class: 'item'})
      make('i', item).style.background = colour[kind]
      make('span', item, {}, `labelled ${name}`)
    }
    make('p', card, {class: 'note'}, 'A dot is a training image; the network sees neighbours alike. Distances across the map mean nothing.')
  }
}

export default function (parts) {
  const root = parts.parentElement
  let view = mounts.get(root)
  if (!view) mounts.set(root, view = new Lesson(root))
  view.update(parts)
  return () => mounts.delete(root)
}
