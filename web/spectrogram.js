// Short-time spectra of a sound as columns of bytes, the lowest band first.

export const BANDS = 72
const SIZE = 1024
const LOWEST = 60 // Hz
const FRAMES = 4 // of a column that stands for more than one
const FLOOR = -100 // dB re full scale
const RANGE = 80 // dB

const window_ = Float32Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos(2 * Math.PI * i / SIZE))
const cosines = Float64Array.from({ length: SIZE / 2 }, (_, i) => Math.cos(2 * Math.PI * i / SIZE))
const sines = Float64Array.from({ length: SIZE / 2 }, (_, i) => -Math.sin(2 * Math.PI * i / SIZE))

/** One column for the samples that begin at a place; what is beyond the end is silence. */
export function column(wave, at, rate) {
  const re = new Float64Array(SIZE)
  const im = new Float64Array(SIZE)
  for (let i = 0; i < SIZE; i++) re[reversed(i)] = (wave[at + i] ?? 0) * window_[i]
  transform(re, im)
  const levels = new Uint8Array(BANDS)
  for (let b = 0; b < BANDS; b++) levels[b] = level(re, im, edge(b, rate), edge(b + 1, rate))
  return levels
}

/** At most so many columns, evenly over a sound. */
export function columns(wave, rate, most) {
  const count = Math.max(1, Math.min(most, Math.floor(wave.length / 256)))
  const place = (i) => Math.floor(i * wave.length / count)
  return Array.from({ length: count }, (_, i) => highest(framesOf(wave, place(i), place(i + 1)), wave, rate))
}

/** Where the frames of a stretch begin: a few, evenly spread, and the loudest one. */
function framesOf(wave, from, until) {
  if (until - from <= SIZE) return [from]
  const count = Math.min(FRAMES, Math.floor((until - from) / SIZE))
  const spread = Array.from({ length: count }, (_, i) => from + Math.floor(i * (until - from) / count))
  return [...spread, loudestFrame(wave, from, until)]
}

function loudestFrame(wave, from, until) {
  let loudest = from
  for (let i = from; i < until; i++) if (Math.abs(wave[i]) > Math.abs(wave[loudest])) loudest = i
  return Math.max(0, loudest - SIZE / 2)
}

/** The highest level of each band in some frames. */
function highest(places, wave, rate) {
  const [levels, ...others] = places.map((at) => column(wave, at, rate))
  for (const other of others) other.forEach((value, b) => (levels[b] = Math.max(levels[b], value)))
  return levels
}

/** The place of a band's lower edge among the bins. */
function edge(b, rate) {
  return LOWEST * (rate / 2 / LOWEST) ** (b / BANDS) * SIZE / rate
}

function level(re, im, low, high) {
  let most = 0
  const first = Math.min(SIZE / 2, Math.round(low))
  const last = Math.min(SIZE / 2, Math.max(first, Math.round(high) - 1))
  for (let k = first; k <= last; k++) most = Math.max(most, re[k] * re[k] + im[k] * im[k])
  const db = 10 * Math.log10(most / (SIZE / 4) ** 2 + 1e-14)
  return Math.max(0, Math.min(255, Math.round(255 * (db - FLOOR) / RANGE)))
}

function reversed(i) {
  let r = 0
  for (let n = SIZE; n > 1; n >>= 1) {
    r = (r << 1) | (i & 1)
    i >>= 1
  }
  return r
}

function transform(re, im) {
  for (let half = 1; half < SIZE; half *= 2) {
    const step = SIZE / 2 / half
    for (let start = 0; start < SIZE; start += 2 * half) {
      for (let k = 0; k < half; k++) butterfly(re, im, start + k, start + k + half, k * step)
    }
  }
}

function butterfly(re, im, a, b, w) {
  const x = re[b] * cosines[w] - im[b] * sines[w]
  const y = re[b] * sines[w] + im[b] * cosines[w]
  re[b] = re[a] - x
  im[b] = im[a] - y
  re[a] += x
  im[a] += y
}
