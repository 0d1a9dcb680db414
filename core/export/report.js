// Present mode: the slides of this page one by one. Without script the page is whole all the same.
(() => {
  const slides = [...document.querySelectorAll('.slide')]
  const root = document.documentElement
  let at = 0
  const make = (tag, text, label) => Object.assign(document.createElement(tag), {textContent: text, ariaLabel: label ?? null})
  const open = make('button', 'Present')
  open.id = 'present'
  document.querySelector('header').append(open)
  const bar = make('div', '')
  bar.id = 'stage-bar'
  const back = make('button', '‹', 'Previous slide'), count = make('span', ''), on = make('button', '›', 'Next slide')
  const end = make('button', '✕', 'End the presentation')
  count.setAttribute('aria-live', 'polite')
  bar.append(back, count, on, end)
  document.body.append(bar)
  const showing = () => root.classList.contains('presenting')
  const show = to => {
    at = Math.min(Math.max(to, 0), slides.length - 1)
    slides.forEach((slide, i) => slide.classList.toggle('now', i === at))
    slides[at].tabIndex = -1
    slides[at].focus()
    slides[at].scrollTop = 0
    count.textContent = `${at + 1} / ${slides.length}`
    back.disabled = at === 0
    on.disabled = at === slides.length - 1
    history.replaceState(null, '', `#slide=${at + 1}`)
  }
  const start = to => { root.classList.add('presenting'); show(to) }
  const stop = () => {
    root.classList.remove('presenting')
    slides.forEach(slide => slide.classList.remove('now'))
    history.replaceState(null, '', location.pathname + location.search)
    if (document.fullscreenElement) document.exitFullscreen()
    slides[at].scrollIntoView()
    open.focus({preventScroll: true})
  }
  const full = () => document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen?.()
  open.onclick = () => start(0)
  back.onclick = () => show(at - 1)
  on.onclick = () => show(at + 1)
  end.onclick = stop
  const keys = {
    ArrowRight: () => show(at + 1), PageDown: () => show(at + 1), ArrowLeft: () => show(at - 1),
    PageUp: () => show(at - 1), Home: () => show(0), End: () => show(slides.length - 1), Escape: stop, f: full, F: full,
  }
  document.addEventListener('keydown', event => {
    if (!showing() || event.ctrlKey || event.altKey || event.metaKey) return
    const onButton = event.target.closest?.('button')
    const act = event.key === ' ' && !onButton ? () => show(at + (event.shiftKey ? -1 : 1)) : keys[event.key]
    if (act) { event.preventDefault(); act() }
  })
  const asked = /^#slide=(\d+)$/.exec(location.hash)
  if (asked && slides.length) start(asked[1] - 1)
})()
