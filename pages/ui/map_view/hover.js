// The card beside the pointer: asks Python for the image under it after a short pause, and shows its answer as text.
const PAUSE = 60, KEEP = 300
const mounts = new WeakMap()

class Card {
  constructor(parent) {
    this.card = parent.querySelector('.gs-card')
    this.known = new Map()
    this.onHover = e => this.hover(e.detail)
    window.addEventListener('gradsift-hover', this.onHover)
    window.addEventListener('scroll', this.onScroll = () => this.hover(null), {capture: true, passive: true})
  }

  end() {
    window.removeEventListener('gradsift-hover', this.onHover)
    window.removeEventListener('scroll', this.onScroll, {capture: true})
    clearTimeout(this.pause)
  }

  hover(place) {
    this.place = place
    clearTimeout(this.pause)
    if (place && this.known.has(place.id)) return this.show(this.known.get(place.id))
    if (!place) return void (this.card.hidden = true)
    this.pause = setTimeout(() => this.set('hover', place.id), PAUSE)
  }

  update({data, setStateValue}) {
    this.set = setStateValue
    const answer = data.answer
    if (answer) {
      this.known.delete(answer.id)
      if (answer.src) this.known.set(answer.id, answer) // one without its picture is asked for again
      if (this.known.size > KEEP) this.known.delete(this.known.keys().next().value)
    }
    if (this.stamp !== data.stamp) { // another run, colour or decision: what was heard before is old
      this.stamp = data.stamp
      this.known = new Map(answer?.src ? [[answer.id, answer]] : [])
    }
    if (this.place && answer?.id === this.place.id) this.show(answer)
  }

  show(answer) {
    const {card, place} = this
    const image = card.querySelector('img')
    card.querySelector('.gs-card-none').hidden = !!answer.src
    image.hidden = !answer.src
    if (answer.src) { image.src = answer.src; image.alt = answer.alt } else image.removeAttribute('src')
    for (const part of ['title', 'sub', 'text', 'id']) card.querySelector(`.gs-card-${part}`).textContent = answer[part] ?? ''
    card.dataset.id = answer.id
    card.hidden = false
    const {offsetWidth: w, offsetHeight: h} = card
    const left = place.x + 16 + w > innerWidth - 8 ? place.x - 16 - w : place.x + 16
    card.style.left = `${Math.max(8, left)}px`
    card.style.top = `${Math.min(Math.max(8, place.y - h / 2), innerHeight - h - 8)}px`
  }
}

export default function (parts) {
  let card = mounts.get(parts.parentElement)
  if (!card) mounts.set(parts.parentElement, card = new Card(parts.parentElement))
  card.update(parts)
  return () => { card.end(); mounts.delete(parts.parentElement) }
}
