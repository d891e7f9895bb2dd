// Pictures and lists of the page.

import { BANDS } from './spectrogram.js'

const $ = (id) => document.getElementById(id)
const MOST_BARS = 12
const LIVE_COLUMNS = 500

// From quiet to loud: black, violet, orange, white.
const STOPS = [[0, 0, 4], [80, 18, 123], [182, 54, 121], [251, 136, 97], [252, 253, 191]]
const COLOURS = Uint32Array.from({ length: 256 }, (_, i) => {
  const at = i / 255 * (STOPS.length - 1)
  const k = Math.min(STOPS.length - 2, Math.floor(at))
  const [red, green, blue] = STOPS[k].map((low, c) => Math.round(low + (STOPS[k + 1][c] - low) * (at - k)))
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0
})

let rolling = []

/** Columns of bytes as a picture, the lowest band at the bottom. */
export function drawSpectrogram(columns, seconds, width = columns.length) {
  const canvas = $('spectrogram')
  canvas.width = Math.max(1, width)
  canvas.height = BANDS
  const context = canvas.getContext('2d')
  const image = context.createImageData(canvas.width, BANDS)
  const pixels = new Uint32Array(image.data.buffer)
  columns.forEach((levels, x) => levels.forEach((level, band) => {
    pixels[(BANDS - 1 - band) * canvas.width + canvas.width - columns.length + x] = COLOURS[level]
  }))
  context.putImageData(image, 0, 0)
  canvas.setAttribute('aria-label', `Spectrogram of ${seconds.toFixed(1)} seconds, from 60 Hz at the bottom`)
}

/** New columns of a live sound, at the right end. */
export function rollSpectrogram(columns, seconds) {
  rolling = [...rolling, ...columns].slice(-LIVE_COLUMNS)
  drawSpectrogram(rolling, seconds, LIVE_COLUMNS)
  axis(`${Math.max(0, seconds - 10).toFixed(0)} s`, `${seconds.toFixed(1)} s`)
}

export function clearSpectrogram() {
  rolling = []
  drawSpectrogram([], 0, LIVE_COLUMNS)
  $('spectrogram').setAttribute('aria-label', 'Spectrogram: no sound yet')
  axis('0 s', '')
}

export function axis(start, end) {
  $('axis-start').textContent = start
  $('axis-end').textContent = end
}

/** A bar per class, always in the same order; of many classes the most probable ones. */
export function drawBars(classes, probabilities) {
  let shown = classes.map((label, i) => ({ label, p: probabilities[i] }))
  if (classes.length > MOST_BARS) shown = shown.sort((a, b) => b.p - a.p).slice(0, MOST_BARS)
  const list = $('bars')
  while (list.children.length > shown.length) list.lastChild.remove()
  while (list.children.length < shown.length) list.append(bar())
  shown.forEach(({ label, p }, i) => {
    const [name, track, share] = list.children[i].children
    name.textContent = name.title = label
    track.firstChild.style.transform = `scaleX(${p})`
    share.textContent = `${Math.round(100 * p)} %`
  })
}

function bar() {
  const item = document.createElement('li')
  const track = document.createElement('span')
  track.className = 'track'
  track.setAttribute('aria-hidden', 'true')
  track.append(document.createElement('i'))
  item.append(document.createElement('span'), track, document.createElement('span'))
  return item
}

/** Segments as blocks in a row per label, and as rows of the table. */
export function drawTimeline(segments, seconds, play) {
  const labels = [...new Set(segments.map((s) => s.label))]
  drawBlocks(labels, segments, seconds)
  const parts = segments.map((s) => `${s.label} from ${s.start.toFixed(1)} to ${s.end.toFixed(1)} seconds`)
  const told = parts.slice(0, 8).join(', ') + (parts.length > 8 ? ' and more' : '')
  $('timeline').setAttribute('aria-label', `Timeline: ${told || 'no segments'}`)
  $('segments').replaceChildren(...segments.slice(-200).map((s) => segmentRow(s, play)))
}

function drawBlocks(labels, segments, seconds) {
  const canvas = $('timeline')
  const scale = window.devicePixelRatio || 1
  const width = canvas.clientWidth || 600
  const height = 26 * Math.max(1, labels.length)
  Object.assign(canvas, { width: width * scale, height: height * scale })
  canvas.style.height = `${height}px`
  const context = canvas.getContext('2d')
  context.scale(scale, scale)
  const colours = getComputedStyle(document.documentElement)
  context.font = '14px system-ui, sans-serif'
  labels.forEach((label, row) => {
    context.fillStyle = colours.getPropertyValue('--bar-ground')
    context.fillRect(0, 26 * row + 2, width, 22)
    for (const s of segments.filter((part) => part.label === label)) {
      context.globalAlpha = 0.35 + 0.65 * s.probability
      context.fillStyle = colours.getPropertyValue('--bar')
      const left = s.start / seconds * width
      context.fillRect(left, 26 * row + 2, Math.max(2, s.end / seconds * width - left), 22)
    }
    context.globalAlpha = 1
    tag(context, label, row, colours)
  })
}

function tag(context, label, row, colours) {
  const width = context.measureText(label).width
  context.fillStyle = colours.getPropertyValue('--panel')
  context.fillRect(4, 26 * row + 5, width + 8, 16)
  context.fillStyle = colours.getPropertyValue('--text')
  context.fillText(label, 8, 26 * row + 18)
}

function segmentRow(segment, play) {
  const row = document.createElement('tr')
  const texts = [segment.start.toFixed(2), segment.end.toFixed(2), segment.label]
  for (const text of [...texts, `${Math.round(100 * segment.probability)} %`]) {
    const cell = document.createElement('td')
    cell.textContent = text
    row.append(cell)
  }
  if (play) row.firstChild.replaceChildren(playButton(segment, play))
  return row
}

function playButton(segment, play) {
  const button = document.createElement('button')
  button.type = 'button'
  button.textContent = `▶ ${segment.start.toFixed(2)}`
  button.setAttribute('aria-label', `Play from ${segment.start.toFixed(2)} seconds, ${segment.label}`)
  button.onclick = () => play(segment)
  return button
}

/** The classes that a person teaches, with a button to forget each. */
export function drawTaught(taught, forget) {
  $('taught').replaceChildren(...taught.map(({ label, recordings }) => {
    const item = document.createElement('li')
    const name = document.createElement('span')
    name.textContent = `${label}: ${recordings} ${recordings === 1 ? 'recording' : 'recordings'}`
    const button = document.createElement('button')
    button.type = 'button'
    button.textContent = 'Forget'
    button.setAttribute('aria-label', `Forget ${label}`)
    button.onclick = () => forget(label)
    item.append(name, button)
    return item
  }))
}
