// The grid of labels.review: shows what the kernel sends, tells it what was pressed, and says "saved" only when the kernel does.

const WAIT = 6000 // ms without an answer after which the reader is told

const KEYS = [
  ['Enter, a', 'accept the suggestion'], ['k', 'keep the label as it is'], ['1 … 9', 'one of the numbered classes'], ['o', 'any other class'],
  ['x', 'set aside: shows nothing useful'], ['u, Ctrl-Z', 'undo'], ['j, →, ↓', 'next'], ['←, ↑', 'back'], ['n', 'next that is open'], ['?', 'these keys'], ['Esc', 'close a list']]

function make(tag, props = {}, ...children) {
  const node = document.createElement(tag)
  for (const [k, v] of Object.entries(props)) {
    if (k.startsWith('on')) node.addEventListener(k.slice(2), v)
    else if (k === 'class') node.className = v
    else if (v !== undefined && v !== null && v !== false) node.setAttribute(k, v)
  }
  node.append(...children.filter(c => c !== null && c !== undefined))
  return node
}

const named = label => label === '' ? '(none of the classes)' : label
const percent = x => `${Math.round(100*x)} %`

// ---- the parts of the page that stay; their content changes

function frame(act, view) {
  const button = (name, key, title, press) => make('button', { type: 'button', class: `pv-act pv-${name}`, title, onclick: press },
    make('kbd', {}, key), make('span', { class: 'pv-what' }, title))
  const at = {
    bar: make('div', { class: 'pv-done' }), count: make('span', { class: 'pv-count' }), stop: make('span', { class: 'pv-stop' }), note: make('p', { class: 'pv-note', hidden: '' }),
    title: make('h2', { class: 'pv-title', 'aria-live': 'polite' }), facts: make('p', { class: 'pv-facts' }), views: make('div', { class: 'pv-views' }), typical: make('div', { class: 'pv-typical' }),
    nine: make('div', { class: 'pv-nine', role: 'group', 'aria-label': 'Another class' }), said: make('p', { class: 'pv-said', role: 'status', 'aria-live': 'polite' }),
    strip: make('nav', { class: 'pv-strip', 'aria-label': 'Items in order' }),
    find: make('input', { type: 'text', class: 'pv-find', 'aria-label': 'Class', placeholder: 'type a part of the name', autocomplete: 'off', spellcheck: 'false', role: 'combobox', 'aria-expanded': 'true', 'aria-controls': `pv-found-${view}` }),
    found: make('ul', { class: 'pv-found', id: `pv-found-${view}`, role: 'listbox', 'aria-label': 'Classes' }),
    accept: button('accept', 'Enter', 'accept', () => act('accept')), keep: button('keep', 'k', 'keep', () => act('keep')),
    other: button('other', 'o', 'other …', () => act('other')), aside: button('aside', 'x', 'set aside', () => act('exclude')),
    undo: button('undo', 'u', 'undo', () => act('undo')), help: button('help', '?', 'keys', () => act('help')) }
  at.list = make('div', { class: 'pv-list', hidden: '' }, at.find, at.found)
  at.keys = make('dl', { class: 'pv-keys', hidden: '' }, ...KEYS.flatMap(([k, what]) => [make('dt', {}, ...k.split(', ').flatMap((x, i) => i ? [' ', make('kbd', {}, x)] : [make('kbd', {}, x)])), make('dd', {}, what)]))
  at.acts = make('div', { class: 'pv-acts', role: 'toolbar', 'aria-label': 'Decide' }, at.accept, at.keep, at.other, at.aside, make('span', { class: 'pv-gap' }), at.undo, at.help, at.list, at.keys)
  at.main = make('div', { class: 'pv-main' }, make('section', { class: 'pv-doubt', 'aria-label': 'In doubt' }, at.title, at.facts, at.views), at.typical)
  at.root = make('div', { class: 'pv-review', tabindex: '0', role: 'application', 'aria-label': 'Review of doubtful labels' },
    make('header', { class: 'pv-head' }, make('div', { class: 'pv-bar', 'aria-hidden': 'true' }, at.bar), make('p', { class: 'pv-progress' }, at.count, at.stop)),
    at.note, at.main, at.acts, at.nine, at.said, at.strip)
  return at
}

function picture(shown, buffers, urls, label) {
  const name = shown.image.split('/').pop()
  if (shown.at === undefined) return make('figure', { class: 'pv-broken', role: 'img', 'aria-label': `${label}: ${shown.reason}` }, make('span', {}, shown.reason))
  const url = URL.createObjectURL(new Blob([buffers[shown.at]], { type: 'image/jpeg' }))
  urls.push(url)
  return make('figure', { title: shown.image }, make('img', { src: url, alt: `${label}: ${name}`, draggable: 'false' }))
}

function render({ model, el }) {
  let now = null, busy = null, token = 0, classes = [], nine = [], choice = 0, timer = null
  let urls = [], stripUrls = []
  const view = Math.random().toString(36).slice(2), at = frame(act, view)
  el.append(at.root)

  // ---- what is said and shown

  const say = (text, kind = '') => { at.said.textContent = text; at.said.dataset.kind = kind }

  function release(list) { list.forEach(url => URL.revokeObjectURL(url)); list.length = 0 }

  function progress(p) {
    at.bar.style.width = `${p.total ? 100*p.done/p.total : 100}%`
    at.count.textContent = p.text
    at.stop.textContent = p.stop
  }

  function heading(item) {
    const given = make('b', { class: 'pv-given' }, named(item.given)), suggested = make('b', { class: 'pv-suggested' }, named(item.suggested))
    at.title.replaceChildren('Labelled ', given, ', looks like ', suggested)
    const of = { part: `part ${item.key}, ${item.n} pictures`, group: `${item.n} pictures of group ${item.key}`, image: item.key }[item.target]
    at.facts.replaceChildren(of, make('span', {}, `wrong with a chance of ${percent(item.chance)}`), ...(item.open ? [] : [make('em', { class: `pv-state pv-is-${item.state}` }, item.says)]))
    at.accept.querySelector('.pv-what').textContent = `accept ${named(item.suggested)}`
    at.keep.querySelector('.pv-what').textContent = `keep ${named(item.given)}`
  }

  function typical(block, buffers) {
    const pictures = block.pictures.map(p => picture(p, buffers, urls, `Typical ${named(block.label)}`))
    return make('section', { class: `pv-like pv-like-${block.role}`, 'aria-label': `Typical ${named(block.label)}` },
      make('h3', {}, `${block.role}: `, make('b', {}, named(block.label))),
      pictures.length ? make('div', { class: 'pv-thumbs' }, ...pictures) : make('p', { class: 'pv-none' }, 'No other picture of this class is beyond doubt.'))
  }

  function screen(m, buffers) {
    const old = urls
    urls = []
    now = m
    at.main.hidden = at.acts.hidden = false
    heading(m.item)
    at.views.dataset.n = Math.min(m.pictures.length, 5)
    at.views.replaceChildren(...m.pictures.map(p => picture(p, buffers, urls, 'In doubt')), ...(m.more ? [make('p', { class: 'pv-more' }, `and ${m.more} more`)] : []))
    at.typical.replaceChildren(...m.typical.map(b => typical(b, buffers)))
    progress(m.progress)
    at.root.dataset.at = m.at
    at.root.dataset.state = m.item.state
    release(old)
    model.send({ do: 'strip', at: m.at })
  }

  function strip(m, buffers) {
    const old = stripUrls
    stripUrls = []
    at.strip.replaceChildren(...m.items.map(i => {
      const label = `Item ${i.at + 1}, ${named(i.given)} or ${named(i.suggested)}, ${i.says}`
      const b = make('button', { type: 'button', class: `pv-step pv-is-${i.state}`, title: label, 'aria-label': label, 'aria-current': i.at === now?.at ? 'true' : null, onclick: e => { go(i.at); back(e) } })
      b.append(picture(i.picture, buffers, stripUrls, label), make('span', { 'aria-hidden': 'true' }, i.state === 'open' ? String(i.at + 1) : { kept: '✓', aside: '×' }[i.state] ?? '→'))
      return b
    }))
    release(old)
  }

  function start(m) {
    classes = m.classes
    nine = m.nine
    at.nine.replaceChildren(...nine.map((c, i) => make('button', { type: 'button', class: 'pv-pick', title: `label it ${named(c)}`, onclick: e => { send('label', { label: c }); back(e) } }, make('kbd', {}, String(i + 1)), named(c))))
    at.note.textContent = m.note
    at.note.hidden = !m.note
    progress(m.progress)
    at.main.hidden = at.acts.hidden = at.nine.hidden = at.strip.hidden = !m.progress.total
    if (m.progress.total) say('Click here or press Tab, then go on with the keyboard; ? shows the keys.')
  }

  // ---- what is pressed

  function waiting(text) {
    clearTimeout(timer)
    timer = setTimeout(() => say(text, 'bad'), WAIT)
  }

  function send(what, more = {}) {
    if (busy !== null || now === null) return
    busy = `${view}-${++token}` // several views may show one grid
    shut()
    say('saving …', 'wait')
    waiting('The kernel does not answer: this is not saved yet. Where it was stopped, run the cell again; all that was said to be saved is there.')
    model.send({ do: what, at: now.at, open: now.item.open, token: busy, ...more })
  }

  function go(to) {
    if (busy !== null || now === null) return
    model.send({ do: 'show', at: Math.max(0, Math.min(now.progress.total - 1, to)) })
  }

  function act(what, event) {
    if (what === 'other') open()
    else if (what === 'help') at.keys.hidden = !at.keys.hidden
    else if (what === 'next') model.send({ do: 'next', at: now?.at ?? 0 })
    else send(what)
    if (what !== 'other') back(event ?? window.event)
  }

  // after a click the keys shall work again; who came to a button with Tab stays there
  function back(event) { if (event?.detail > 0) at.root.focus({ preventScroll: true }) }

  // ---- the list of all classes

  function open() {
    if (now === null) return
    at.list.hidden = false
    at.find.value = ''
    choice = 0
    fill()
    at.find.focus({ preventScroll: true })
  }

  function shut() {
    if (at.list.hidden) return
    at.list.hidden = true
    at.root.focus({ preventScroll: true })
  }

  function matches() {
    const text = at.find.value.trim().toLowerCase(), all = classes.filter(c => named(c).toLowerCase().includes(text))
    return [...all.filter(c => c.toLowerCase().startsWith(text)), ...all.filter(c => !c.toLowerCase().startsWith(text))].slice(0, 50)
  }

  function fill() {
    const found = matches()
    choice = Math.max(0, Math.min(choice, found.length - 1))
    at.found.replaceChildren(...found.map((c, i) => make('li', { role: 'option', id: `pv-option-${view}-${i}`, 'aria-selected': String(i === choice), onmousedown: e => { e.preventDefault(); send('label', { label: c }) } }, named(c))))
    at.find.setAttribute('aria-activedescendant', `pv-option-${view}-${choice}`)
    at.found.children[choice]?.scrollIntoView?.({ block: 'nearest' })
  }

  at.find.addEventListener('input', () => { choice = 0; fill() })

  function typed(e) {
    const found = matches()
    if (e.key === 'Escape') shut()
    else if (e.key === 'ArrowDown') choice += 1
    else if (e.key === 'ArrowUp') choice -= 1
    else if (e.key === 'Enter') return found.length || at.find.value.trim() ? send('label', { label: found[choice] ?? at.find.value.trim() }) : undefined
    else return false
    fill()
  }

  // ---- keys

  const moves = { j: 1, ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }
  const acts = { Enter: 'accept', a: 'accept', k: 'keep', x: 'exclude', u: 'undo', o: 'other', n: 'next', '?': 'help' }

  function pressed(e) {
    const control = e.ctrlKey || e.metaKey, on = e.target.closest('button'), key = e.key.length === 1 ? e.key.toLowerCase() : e.key // whatever Caps Lock says
    if (on && (e.key === 'Enter' || e.key === ' ')) return false
    if (control) return key === 'z' && !e.shiftKey && !e.repeat ? act('undo', {}) : false
    if (e.altKey || (e.shiftKey && e.key !== '?')) return false
    if (e.key === 'Escape') at.keys.hidden = true
    else if (key in moves) go(now ? now.at + moves[key] : 0)
    else if (key in acts) { if (!e.repeat) act(acts[key], {}) }
    else if (/^[1-9]$/.test(key) && nine[key - 1] !== undefined) { if (!e.repeat) send('label', { label: nine[key - 1] }) }
    else return false
  }

  // at the window and before all others, as JupyterLab listens at the document: else a, x and others would be its commands on cells
  function keydown(e) {
    if (!e.composedPath().includes(at.root)) return
    const taken = (e.target === at.find ? typed(e) : pressed(e)) !== false
    if (taken) e.preventDefault()
    if (taken || (e.key.length === 1 && !(e.ctrlKey || e.metaKey || e.altKey))) e.stopPropagation()
  }

  window.addEventListener('keydown', keydown, true)

  // ---- what the kernel says

  function heard(m, buffers) {
    if (m.kind === 'start') start(m)
    else if (m.kind === 'screen') screen(m, buffers)
    else if (m.kind === 'strip') strip(m, buffers)
    else {
      clearTimeout(timer)
      if (m.token === busy) busy = null
      say(m.text, m.kind === 'saved' ? 'good' : 'bad')
      at.root.dataset.saved = m.kind === 'saved' ? m.token : ''
      if (m.progress) progress(m.progress)
    }
  }

  model.on('msg:custom', heard)
  model.send({ do: 'start' })
  return () => { window.removeEventListener('keydown', keydown, true); model.off('msg:custom', heard); clearTimeout(timer); release(urls); release(stripUrls) }
}

export default { render }
