// Chips are legend and filter at once: a sign, a name, a number; the ones that can be pressed choose.
const nonce = () => Math.random().toString(36).slice(2) + Date.now().toString(36)

export default function ({data, parentElement, setStateValue}) {
  const box = parentElement.querySelector('.gs-chips')
  const focused = box.contains(document.activeElement) ? document.activeElement.dataset.id : null
  box.replaceChildren(...data.chips.map(chip => {
    const made = document.createElement(chip.pressed === null ? 'span' : 'button')
    made.className = 'gs-chip'
    made.dataset.id = chip.id
    const sign = document.createElement('span')
    sign.className = 'gs-sign'
    sign.textContent = chip.sign
    if (chip.colour) sign.style.color = chip.colour
    const name = document.createElement('span')
    name.className = 'gs-name'
    name.textContent = chip.text
    const count = document.createElement('span')
    count.className = 'gs-count'
    count.textContent = chip.count === null ? '' : chip.count.toLocaleString('en')
    made.title = chip.text
    made.append(sign, name, count)
    if (chip.pressed !== null) {
      made.type = 'button'
      made.setAttribute('aria-pressed', String(chip.pressed))
      made.addEventListener('click', () => setStateValue('pressed', {nonce: nonce(), id: chip.id}))
    }
    return made
  }))
  if (focused) [...box.children].find(each => each.dataset.id === focused)?.focus()
}
