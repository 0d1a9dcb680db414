// Slides in a modal dialog. Their HTML comes escaped from `core.export`; handlers and links are taken off all the same.
const made = new WeakMap()

const inert = html => {
  const page = new DOMParser().parseFromString(html, 'text/html')
  page.querySelectorAll('script, iframe, object, embed, link, meta, base, form').forEach(each => each.remove())
  for (const each of page.querySelectorAll('*'))
    for (const {name, value} of [...each.attributes])
      if (/^on|^style$|^srcdoc$/i.test(name) || (/^(xlink:)?href$|^src$/i.test(name) && !/^data:image\//.test(value)))
        each.removeAttribute(name)
  return [...page.body.childNodes]
}

const node = (tag, text, about) => {
  const one = document.createElement(tag)
  one.textContent = text
  if (about) one.setAttribute('aria-label', about)
  return one
}

class Stage {
  constructor(dialog, {slides, at, dark}) {
    this.dialog = dialog
    this.body = document.createElement('div')
    this.count = node('span', '')
    this.count.setAttribute('aria-live', 'polite')
    this.back = node('button', '‹', 'Previous slide')
    this.on = node('button', '›', 'Next slide')
    const full = node('button', 'Full screen', 'Full screen (F)'), exit = node('button', 'Exit', 'Exit the presentation (Escape)')
    this.back.onclick = () => this.show(this.at - 1)
    this.on.onclick = () => this.show(this.at + 1)
    full.onclick = () => this.full()
    exit.onclick = () => this.end()
    const bar = node('div', '')
    bar.className = 'bar-of-stage'
    bar.append(this.back, this.count, this.on, full, exit)
    dialog.replaceChildren(this.body, bar)
    dialog.addEventListener('cancel', event => { event.preventDefault(); this.end() })
    dialog.addEventListener('keydown', event => this.key(event))
    this.at = at - 1
    this.update({slides, dark})
  }

  update({slides, dark}) {
    this.dialog.classList.toggle('dark', dark)
    this.dialog.classList.toggle('light', !dark)
    this.slides = slides
    this.show(this.at)
  }

  show(to) {
    this.at = Math.min(Math.max(Number.isFinite(to) ? to : 0, 0), this.slides.length - 1)
    const {title, part, html} = this.slides[this.at]
    this.body.className = `slide ${part}`
    const heading = node('h2', title)
    heading.tabIndex = -1
    this.body.replaceChildren(heading, ...inert(html))
    this.body.scrollTop = 0
    this.count.textContent = `${this.at + 1} / ${this.slides.length}`
    this.back.disabled = this.at === 0
    this.on.disabled = this.at === this.slides.length - 1
    if (!this.dialog.open) this.dialog.showModal()
    heading.focus({preventScroll: true})
    const address = new URL(location.href)
    address.searchParams.set('slide', this.at + 1)
    history.replaceState(history.state, '', address)
  }

  key(event) {
    event.stopPropagation() // the page below has keys of its own
    if (event.ctrlKey || event.altKey || event.metaKey) return
    const acts = {
      ArrowRight: () => this.show(this.at + 1), ArrowDown: () => this.show(this.at + 1),
      PageDown: () => this.show(this.at + 1), ArrowLeft: () => this.show(this.at - 1),
      ArrowUp: () => this.show(this.at - 1), PageUp: () => this.show(this.at - 1), Home: () => this.show(0),
      End: () => this.show(this.slides.length - 1), f: () => this.full(), F: () => this.full(),
      Escape: () => this.end(),
    }
    const onButton = event.target.closest?.('button')
    const act = event.key === ' ' && !onButton ? () => this.show(this.at + (event.shiftKey ? -1 : 1)) : acts[event.key]
    if (act) { event.preventDefault(); act() }
  }

  full() {
    if (document.fullscreenElement) document.exitFullscreen()
    else document.documentElement.requestFullscreen?.().catch(() => {})
  }

  end() {
    if (document.fullscreenElement) document.exitFullscreen()
    this.dialog.close()
    this.ended()
  }
}

export default function ({data, parentElement, setTriggerValue}) {
  const dialog = parentElement.querySelector('dialog')
  if (!dialog || !data?.slides?.length) return
  let stage = made.get(dialog)
  if (stage) stage.update(data)
  else made.set(dialog, stage = new Stage(dialog, data))
  stage.ended = () => setTriggerValue('ended', true)
  return () => { if (dialog.open) dialog.close() }
}
