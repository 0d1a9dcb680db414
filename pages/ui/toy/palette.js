// What both components of this folder draw with: SVG nodes, the two kinds, and how strongly a point is marked.
const SVG = 'http://www.w3.org/2000/svg'
const KIND = ['#3f90da', '#ffa90e'] // circles, triangles
const INK = {
  light: {rest: '#B4BBC4', hot: '#D1480B', cold: '#2B78C2', line: '#1B1F24', old: '#8A929C'},
  dark: {rest: '#5A626C', hot: '#FF8F4A', cold: '#6DB3F8', line: '#E8EAED', old: '#8A929C'},
}

const make = (name, parent, attributes = {}, text) => {
  const one = /^(svg|g|path|circle|line|rect|text|title)$/.test(name) ? document.createElementNS(SVG, name) : document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) if (value != null) one.setAttribute(key, value)
  if (text != null) one.textContent = text
  parent?.append(one)
  return one
}

// A colour between two, as what a point of rest fades into.
const mix = (one, two, share) => '#' + [1, 3, 5].map(at => Math.round(
  parseInt(one.slice(at, at + 2), 16) * (1 - share) + parseInt(two.slice(at, at + 2), 16) * share,
).toString(16).padStart(2, '0')).join('')

const shape = (kind, x, y, r) => kind === 0
  ? `M${(x - r).toFixed(1)},${y.toFixed(1)}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`
  : `M${x.toFixed(1)},${(y - 1.2 * r).toFixed(1)}L${(x + 1.1 * r).toFixed(1)},${(y + 0.8 * r).toFixed(1)}L${(x - 1.1 * r).toFixed(1)},${(y + 0.8 * r).toFixed(1)}Z`
const path = line => 'M' + line.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join('L')
