// Everything that computes: the model, windows, answers, timelines, taught classes. The page only draws.

import * as ort from './ort.js'
import { Resampler, SlidingWindows, fitLength, joined, levelNote, mixDown, wavOf } from './sound.js'
import { Timeline, limitOf, rulesOf, voted } from './answers.js'
import { column, columns } from './spectrogram.js'
import { farness, fit, loadedExamples, probabilities, savedText } from './teach.js'

const BETWEEN = 0.1 // seconds of new sound between two live answers
const FIRST = 0.5 // seconds before the first
const PER_SECOND = 50 // columns of the live spectrogram
const LONGEST_RECORDING = 60 // seconds

let model = null // what model.json tells, with `rules`
let session = null
let known = [] // examples of the model's own classes
let examples = [] // those of the person
let layer = null // fitted on both
let live = null
let last = null // the windows of the last file or recording
let threshold = 1
let turn = Promise.resolve() // the model answers one question at a time

const pause = () => new Promise((done) => setTimeout(done))
const tell = (type, more = {}, moved = []) => postMessage({ type, ...more }, moved)

/** The bytes of a file, unpacked if a server has not done it. */
async function bytesOf(name) {
  const answer = await fetch(name)
  if (!answer.ok) throw new Error(`${name} cannot be loaded (${answer.status}): export the page again.`)
  const bytes = new Uint8Array(await answer.arrayBuffer())
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))
  return new Uint8Array(await new Response(unpacked).arrayBuffer())
}

const jsonOf = async (name) => JSON.parse(new TextDecoder().decode(await bytesOf(name)))

async function load() {
  model = await jsonOf('model.json')
  model.rules = rulesOf(model.answers)
  threshold = model.answers.kept ?? 0.95
  const [runtime, network] = await Promise.all([bytesOf('ort-wasm.bin'), bytesOf('model.onnx')])
  ort.env.wasm.numThreads = 1 // more need headers that a plain server does not send
  ort.env.wasm.wasmBinary = runtime.buffer
  session = await ort.InferenceSession.create(network, { executionProviders: ['wasm'] })
  known = model.known ? knownExamples(await jsonOf('known.json')) : []
  const { name, classes, width } = model
  const rules = { hasScore: model.rules.quantiles.length > 0, threshold }
  tell('ready', { name, classes, width, rules, seconds: model.features.duration, known: known.length })
}

function knownExamples(saved) {
  const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer)
  const embeddings = floats(saved.embeddings)
  const logs = floats(saved.logs)
  const k = model.classes.length
  return saved.labels.map((label, i) => ({
    label: model.classes[label],
    source: `known ${i}`,
    embedding: embeddings.subarray(i * model.width, (i + 1) * model.width),
    logs: logs.subarray(i * k, (i + 1) * k),
  }))
}

/** What the model gives for one waveform of its length, channels after one another. */
function run(waves) {
  const shape = [1, waves.length, model.features.samples]
  const waveform = new ort.Tensor('float32', joined(waves), shape)
  const answer = turn.then(async () => outputsOf(await session.run({ waveform })))
  turn = answer.catch(() => {})
  return answer
}

function outputsOf(found) {
  const proba = Array.from(found.probabilities.data)
  if (!proba.every((p) => p >= 0 && p <= 1.001)) {
    throw new Error('The model gives values that are not probabilities for this sound: export it again.')
  }
  const logs = proba.map((p) => Math.log(Math.max(p, 1e-12)))
  return { proba, logs, score: found.unlike?.data[0] ?? NaN, embedding: found.embedding?.data.slice() }
}

/** The answer for a stretch of sound that the model can take at once. */
async function answered(waves, start, end) {
  const { samples, pad, channels } = model.features
  const fitted = waves.map((w) => fitLength(w, samples, pad))
  const all = fitted.length === channels ? fitted : Array(channels).fill(fitted[0])
  const note = levelNote(all)
  return { start, end, note, ...(await run(all)) }
}

/** A window as the taught layer sees it, if there is one. */
function withTaught(window) {
  if (!layer) return window
  const proba = probabilities(layer, window.embedding, window.logs)
  return { ...window, proba, far: farness(layer, window.embedding) }
}

const classesNow = () => layer?.classes ?? model.classes
const limitNow = () => limitOf(model.rules, threshold)

/** All windows of a recording, with the wave that they were cut from. */
async function windowsOf(channels, rate) {
  const f = model.features
  const seconds = channels[0].length / rate
  if (seconds > f.duration + 1e-3) return longWindows(mixDown(channels), rate)
  const fitting = channels.length === f.channels ? channels : [mixDown(channels)]
  const waves = []
  for (const channel of fitting) waves.push(await resampled(channel, rate, f.sample_rate))
  return { windows: [await answered(waves, 0, seconds)], wave: waves[0], seconds }
}

async function longWindows(mix, rate) {
  const { sample_rate: to, samples } = model.features
  const wave = await resampled(mix, rate, to)
  const cutter = new SlidingWindows(samples, Math.round(model.features.duration / 2 * to))
  const pieces = [...cutter.push(wave), ...cutter.flush()]
  const windows = []
  for (const [first, piece] of pieces) {
    windows.push(await answered([piece], first / to, (first + piece.length) / to))
    tell('progress', { done: windows.length, total: pieces.length })
    await pause()
  }
  return { windows, wave, seconds: mix.length / rate }
}

/** The same sound at another rate; others get their turn in between. */
async function resampled(wave, from, to) {
  if (from === to) return wave
  const resampler = new Resampler(from, to)
  const parts = []
  for (let at = 0; at < wave.length; at += 65536) {
    parts.push(resampler.push(wave.subarray(at, at + 65536)))
    await pause()
  }
  return joined([...parts, resampler.flush()])
}

async function analyse({ name, channels, rate }) {
  if (!channels[0].length) throw new Error(`${name} is empty: choose another file.`)
  const { windows, wave, seconds } = await windowsOf(channels, rate)
  last = { name, windows, seconds, columns: columns(wave, model.features.sample_rate, 600) }
  tellLast()
}

/** The answer for the last recording, as the settings of the moment want it. */
function tellLast() {
  const windows = last.windows.map(withTaught)
  const timeline = new Timeline(classesNow(), limitNow())
  windows.forEach((w) => timeline.add(w))
  const answer = voted(windows, classesNow(), model.rules, threshold)
  const { name, seconds, columns } = last
  tell('answer', { name, seconds, columns, answer, segments: timeline.finish(), classes: classesNow() })
}

/** Answers while sound comes in from a port; in a recording, the sound is kept. */
function listen({ port, rate, purpose, label }) {
  const { sample_rate: to } = model.features
  live = { port, rate, purpose, label, resampler: new Resampler(rate, to) }
  Object.assign(live, { kept: [], wave: new Float32Array(Math.max(model.features.samples, 2048)) })
  live.timeline = new Timeline(classesNow(), limitNow())
  Object.assign(live, { heard: 0, answeredAt: 0, drawnAt: 0, busy: false })
  port.onmessage = (e) => hear(live, e.data)
}

function hear(now, block) {
  if (now !== live) return
  if (now.purpose !== 'live') return keep(now, block)
  const fresh = now.resampler.push(block)
  now.heard += fresh.length
  const n = Math.min(fresh.length, now.wave.length)
  now.wave.copyWithin(0, n)
  now.wave.set(fresh.subarray(fresh.length - n), now.wave.length - n)
  const since = (now.heard - now.answeredAt) / model.features.sample_rate
  const isTime = since >= BETWEEN - 1e-3 && now.heard >= FIRST * model.features.sample_rate
  if (isTime && !now.busy) answerLive(now).catch(tellError)
}

function keep(now, block) {
  now.kept.push(block)
  now.heard += block.length
  tell('recorded', { seconds: now.heard / now.rate })
  if (now.heard >= LONGEST_RECORDING * now.rate) stop()
}

async function answerLive(now) {
  const rate = model.features.sample_rate
  now.busy = true
  now.answeredAt = now.heard
  const end = now.heard / rate
  const held = now.wave.subarray(now.wave.length - Math.min(now.heard, model.features.samples))
  try {
    const began = performance.now()
    const window = withTaught(await answered([held], end - held.length / rate, end))
    if (now !== live) return
    now.timeline.add(window)
    const answer = voted([window], classesNow(), model.rules, threshold)
    const took = performance.now() - began
    const more = { took, segments: now.timeline.soFar(), columns: freshColumns(now) }
    tell('live', { seconds: end, answer, classes: classesNow(), ...more })
  } finally {
    await pause() // blocks that wait come first
    now.busy = false
  }
}

/** The columns since the last answer. */
function freshColumns(now) {
  const rate = model.features.sample_rate
  const hop = Math.round(rate / PER_SECOND)
  const begin = now.heard - now.wave.length
  const made = []
  now.drawnAt = Math.max(now.drawnAt, begin)
  while (now.drawnAt + 1024 <= now.heard) {
    made.push(column(now.wave, now.drawnAt - begin, rate))
    now.drawnAt += hop
  }
  return made
}

async function stop() {
  if (!live) return
  const { purpose, label, kept, rate, port, timeline, heard } = live
  live = null
  port.close()
  const seconds = heard / (purpose === 'live' ? model.features.sample_rate : rate)
  tell('stopped', { purpose, seconds, segments: purpose === 'live' ? timeline.finish() : [] })
  if (purpose === 'live') return
  const wave = joined(kept)
  if (!wave.length) throw new Error('The microphone gave no sound: plug it in again, or choose another one.')
  const name = purpose === 'example' ? label : 'recording.wav'
  const wav = wavOf(wave, rate)
  tell('recording', { wav, name, purpose }, [wav])
  await (purpose === 'example' ? learn({ label, name: `recording ${Date.now()}`, channels: [wave], rate }) :
    analyse({ name, channels: [wave], rate }))
}

/** A sound becomes examples of a class, one per window that is loud enough. */
async function learn({ label, name, channels, rate }) {
  const { windows } = await windowsOf(channels, rate)
  const loud = windows.filter((w) => !w.note)
  if (!loud.length) throw new Error(`This example of ${label} is ${windows[0].note}: record it again, louder.`)
  for (const { embedding, logs } of loud) examples.push({ label, source: name, embedding, logs })
  tellTaught()
}

function tellTaught(more = {}) {
  const counts = {}
  for (const { label, source } of examples) (counts[label] ??= new Set()).add(source)
  const taught = Object.entries(counts).map(([label, sources]) => ({ label, recordings: sources.size }))
  tell('taught', { taught, isUsed: layer !== null, ...more })
}

async function teach() {
  layer = await fit(examples, known, model.classes, pause)
  tellTaught({ fitted: layer.classes.filter((c) => examples.some((e) => e.label === c)) })
  if (last) tellLast()
}

function forget({ label }) {
  examples = label === undefined ? [] : examples.filter((e) => e.label !== label)
  unuse()
}

/** Back to the model's own classes; the examples stay. */
function unuse() {
  layer = null
  tellTaught()
  if (last) tellLast()
}

async function loadTaught({ text }) {
  examples = loadedExamples(text, model)
  await teach()
}

function setThreshold({ share }) {
  threshold = share
  if (live) live.timeline.limit = limitNow()
  if (last) tellLast()
}

const save = () => tell('saved', { text: savedText(examples, model) })
const actions = { load, analyse, listen, stop, learn, teach, forget, unuse, save, loadTaught, setThreshold }

function tellError(error) {
  tell('error', { text: error?.message ?? String(error) })
}

onmessage = async ({ data }) => {
  try {
    await actions[data.type](data)
  } catch (error) {
    tellError(error)
  }
}
