// From what a browser decodes to windows of samples that a model takes: the rules of `soundclf.core.audio`,
// `soundclf.core.levels` and `soundclf.tools.windows`.

export const SILENT = 1e-4
export const QUIET = 10 ** (-50 / 20)
const BLOCK = 65536 // frames that are judged together

/** The mean of the channels; where they cancel each other, the first of the loudest. */
export function mixDown(channels) {
  if (channels.length === 1) return channels[0]
  const n = channels[0].length
  const mix = new Float32Array(n)
  for (let at = 0; at < n; at += BLOCK) {
    const part = channels.map((c) => c.subarray(at, at + BLOCK))
    mix.set(mixOf(part), at)
  }
  return mix
}

function mixOf(part) {
  const mix = new Float32Array(part[0].length)
  for (const channel of part) for (let i = 0; i < mix.length; i++) mix[i] += channel[i] / part.length
  const powers = part.map(power)
  const loudest = Math.max(...powers)
  if (power(mix) >= 0.01 * loudest) return mix
  return part[powers.findIndex((p) => p > loudest / 4)] ?? mix
}

function power(wave) {
  let sum = 0
  for (const x of wave) sum += x * x
  return sum / Math.max(1, wave.length)
}

// A windowed sinc with the edges of soxr's HQ: it passes 91.3 % of the lower band, and at its end it is
// down by 120 dB.
const PASS = 0.913
const STOPPED = 120 // dB
const MOST_PHASES = 8192

/** Another sample rate, block by block; what comes out does not depend on how the blocks are cut. */
export class Resampler {
  constructor(from, to) {
    this.same = from === to
    const shared = gcd(from, to)
    this.up = to / shared
    this.down = from / shared
    this.taken = 0 // samples in
    this.given = 0 // samples out
    if (!this.same) this.prepare(Math.min(1, to / from))
  }

  prepare(band) {
    const taps = (STOPPED - 8) / (2.285 * Math.PI * (1 - PASS))
    this.half = Math.ceil(taps / 2 / band)
    this.phases = Math.min(this.up, MOST_PHASES)
    this.table = sincTable(this.phases, this.half, band)
    this.held = new Float32Array(this.half)
    this.first = -this.half // where the held samples begin
  }

  push(block) {
    this.taken += block.length
    if (this.same) return block
    this.held = joined([this.held, block])
    return this.out(Math.floor((this.taken - this.half - 1) * this.up / this.down))
  }

  /** What is left at the end of the sound. */
  flush() {
    if (this.same) return new Float32Array(0)
    this.held = joined([this.held, new Float32Array(this.half + 1)])
    return this.out(Math.floor(this.taken * this.up / this.down + 0.5))
  }

  out(until) {
    const width = 2 * this.half
    const made = new Float32Array(Math.max(0, until - this.given))
    let start = this.first
    for (let n = 0; n < made.length; n++) {
      const at = (this.given + n) * this.down
      const whole = Math.floor(at / this.up)
      let phase = Math.round((at - whole * this.up) * this.phases / this.up)
      const shift = phase === this.phases ? 1 : 0
      phase -= shift * this.phases
      start = whole + shift - this.half + 1
      made[n] = dot(this.held, start - this.first, this.table, phase * width, width)
    }
    this.given += made.length
    if (made.length) this.drop(start)
    return made
  }

  drop(until) {
    this.held = this.held.slice(until - this.first)
    this.first = until
  }
}

function dot(a, i, b, j, n) {
  let sum = 0
  for (let k = 0; k < n; k++) sum += a[i + k] * b[j + k]
  return sum
}

function gcd(a, b) {
  return b ? gcd(b, a % b) : a
}

function sincTable(phases, half, band) {
  const beta = 0.1102 * (STOPPED - 8.7)
  const cut = band * (1 + PASS) / 2
  const table = new Float32Array(phases * 2 * half)
  for (let p = 0; p < phases; p++) {
    for (let k = 0; k < 2 * half; k++) {
      const t = p / phases + half - 1 - k
      const u = t / half
      const kaiser = Math.abs(u) > 1 ? 0 : bessel(beta * Math.sqrt(1 - u * u)) / bessel(beta)
      table[p * 2 * half + k] = sinc(cut * t) * cut * kaiser
    }
  }
  return table
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x)
}

/** The modified Bessel function of order 0. */
function bessel(x) {
  let sum = 1
  let term = 1
  for (let k = 1; term > 1e-12 * sum; k++) {
    term *= (x / 2 / k) ** 2
    sum += term
  }
  return sum
}

export function joined(parts) {
  const whole = new Float32Array(parts.reduce((n, p) => n + p.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

/** The middle of a long clip, or a short clip centred and padded. */
export function fitLength(wave, samples, pad) {
  if (wave.length >= samples) {
    const start = Math.floor((wave.length - samples) / 2)
    return wave.subarray(start, start + samples)
  }
  const before = Math.floor((samples - wave.length) / 2)
  const fitted = new Float32Array(samples)
  if (pad === 'wrap') {
    const n = wave.length
    return fitted.map((_, i) => wave[(((i - before) % n) + n) % n])
  }
  if (pad === 'noise') fillWithNoise(fitted, Math.sqrt(power(wave)))
  fitted.set(wave, before)
  return fitted
}

function fillWithNoise(wave, level) {
  for (let i = 0; i < wave.length; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - Math.random()))
    wave[i] = level * radius * Math.cos(2 * Math.PI * Math.random())
  }
}

/** What keeps a sound from being named by its level: silent, too quiet, or nothing. */
export function levelNote(waves) {
  let peak = 0
  for (const wave of waves) for (const x of wave) peak = Math.max(peak, Math.abs(x))
  if (peak < SILENT) return 'silent'
  return peak < QUIET ? 'too quiet' : ''
}

/** Overlapping windows [first sample, samples], views of the wave; the last one ends with the recording. */
export function slidingWindows(wave, samples, hop) {
  const last = Math.max(0, wave.length - samples)
  const firsts = []
  for (let first = 0; first < last; first += hop) firsts.push(first)
  if (wave.length) firsts.push(last)
  return firsts.map((first) => [first, wave.subarray(first, first + samples)])
}

/** The sample rate in the header of a file, in Hz; 48000 where it is not told there. */
export function rateOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const text = (at, n) => String.fromCharCode(...bytes.subarray(at, at + n))
  const rate = headerRate(bytes, view, text)
  return rate >= 8000 && rate <= 96000 ? rate : 48000 // what every browser can decode to
}

function headerRate(bytes, view, text) {
  if (text(0, 4) === 'RIFF' || text(0, 4) === 'RF64') return chunkRate(bytes, view, text)
  if (text(0, 4) === 'fLaC') return (bytes[18] << 12) | (bytes[19] << 4) | (bytes[20] >> 4)
  if (text(0, 4) === 'OggS') {
    const at = 27 + bytes[26]
    return text(at + 1, 6) === 'vorbis' ? view.getUint32(at + 12, true) : 48000
  }
  if (text(4, 4) === 'ftyp') return movieRate(bytes, view)
  return mpegRate(bytes, text)
}

function chunkRate(bytes, view, text) {
  for (let at = 12; at + 16 < bytes.length; at += chunkSize(view, at)) {
    if (text(at, 4) === 'fmt ') return view.getUint32(at + 12, true)
  }
  return 0
}

/** The bytes of a chunk, with its header and the byte that makes an odd one even. */
function chunkSize(view, at) {
  const size = view.getUint32(at + 4, true)
  return 8 + size + (size & 1)
}

function movieRate(bytes, view) {
  const name = [0x6d, 0x70, 0x34, 0x61] // mp4a
  for (let at = 0; at + 40 < bytes.length; at++) {
    if (bytes[at] === name[0] && name.every((c, i) => bytes[at + i] === c)) {
      const rate = view.getUint16(at + 28)
      if (rate >= 8000) return rate
    }
  }
  return 0
}

const AAC_RATES = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350]

/** The rate in the first frame of an MP3 file, or of AAC without a container (ADTS), whose layer is 0. */
function mpegRate(bytes, text) {
  let at = 0
  if (text(0, 3) === 'ID3') {
    at = 10 + ((bytes[6] << 21) | (bytes[7] << 14) | (bytes[8] << 7) | bytes[9])
  }
  if (bytes[at] !== 0xff || (bytes[at + 1] & 0xe0) !== 0xe0) return 0
  if (!(bytes[at + 1] & 6)) return AAC_RATES[(bytes[at + 2] >> 2) & 15]
  const rate = [44100, 48000, 32000][(bytes[at + 2] >> 2) & 3]
  const version = (bytes[at + 1] >> 3) & 3 // 3 is MPEG 1, 2 is MPEG 2, 0 is MPEG 2.5
  return rate / { 3: 1, 2: 2, 0: 4 }[version]
}

/** A WAV file of 32-bit floating-point samples: what was recorded, to the last bit. */
export function wavOf(wave, rate) {
  const view = new DataView(new ArrayBuffer(58 + 4 * wave.length))
  const put = (at, text) => [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)))
  put(0, 'RIFF')
  view.setUint32(4, 50 + 4 * wave.length, true)
  put(8, 'WAVEfmt ')
  view.setUint32(16, 18, true)
  view.setUint16(20, 3, true) // floating point
  view.setUint16(22, 1, true) // channels
  view.setUint32(24, rate, true)
  view.setUint32(28, 4 * rate, true)
  view.setUint16(32, 4, true)
  view.setUint16(34, 32, true)
  put(38, 'fact')
  view.setUint32(42, 4, true)
  view.setUint32(46, wave.length, true)
  put(50, 'data')
  view.setUint32(54, 4 * wave.length, true)
  wave.forEach((x, i) => view.setFloat32(58 + 4 * i, x, true))
  return view.buffer
}
