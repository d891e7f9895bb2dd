// Everything that computes: the model, windows, answers, timelines, taught classes. The page only draws.

import * as ort from './ort.js'
import { Resampler, fitLength, joined, levelNote, mixDown, slidingWindows, wavOf } from './sound.js'
import { Timeline, limitOf, rulesOf, voted } from './answers.js'
import { column, columns } from './spectrogram.js'
import { farness, fit, heldOut, loadedExamples, merged, probabilities, savedText } from './teach.js'

const BETWEEN = 0.09 // seconds of new sound between two live answers, on average
const FIRST = 0.5 // seconds before the first
const PER_SECOND = 50 // columns of the live spectrogram
const LONGEST_RECORDING = 60 // seconds
const LAST_BLOCKS = 500 // milliseconds that the end of a recording may take to come
const TOO_SHORT = 1000 // milliseconds in which a microphone need not have given anything

let model = null // what model.json tells, with `rules`
let session = null
let known = [] // examples of the model's own classes
let examples = [] // those of the person
let layer = null // fitted on both
let live = null
let last = null // the windows of the last file or recording
let threshold = 1
let sounds = 0 // that the page was given to name: the answer is for the newest one
let recordings = 0 // that gave examples
let fits = 0 // of layers, and what makes them worthless
let tests = 0 // of what was taught; new examples end one
let turn = Promise.resolve() // the model answers one question at a time

/** Ends the work on a sound that nobody waits for any more. */
class Superseded extends Error {}

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
  await check(network)
  ort.env.wasm.numThreads = 1 // more need headers that a plain server does not send
  ort.env.wasm.wasmBinary = runtime.buffer
  session = await ort.InferenceSession.create(network, { executionProviders: ['wasm'] })
  known = model.known ? knownExamples(await jsonOf('known.json')) : []
  const { name, classes, width, card } = model
  const rules = { hasScore: model.rules.quantiles.length > 0, threshold }
  tell('ready', { name, classes, width, card, rules, seconds: model.features.duration, known: known.length })
}

/** Throws if the network is not the one that model.json speaks of; a page that is not secure cannot tell. */
async function check(network) {
  if (!globalThis.crypto?.subtle || !model.sha256) return
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', network))
  const text = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
  if (text !== model.sha256) {
    throw new Error('model.onnx and model.json are not of the same export: export the page again.')
  }
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

/** All windows of a recording, with the wave that they were cut from; `goOn` throws to end the work early. */
async function windowsOf(channels, rate, goOn = () => {}, sound = undefined) {
  const f = model.features
  const seconds = channels[0].length / rate
  if (seconds > f.duration + 1e-3) {
    const mix = mixDown(channels)
    channels.length = 0 // half an hour of stereo is 600 MB
    return longWindows(mix, rate, goOn, sound)
  }
  const fitting = channels.length === f.channels ? channels : [mixDown(channels)]
  const waves = []
  for (const channel of fitting) waves.push(await resampled(channel, rate, f.sample_rate, goOn))
  return { windows: [await answered(waves, 0, seconds)], wave: waves[0], seconds }
}

async function longWindows(mix, rate, goOn, sound) {
  const { sample_rate: to, samples, duration } = model.features
  const wave = await resampled(mix, rate, to, goOn)
  const pieces = slidingWindows(wave, samples, Math.round(duration / 2 * to))
  const windows = []
  for (const [first, piece] of pieces) {
    windows.push(await answered([piece], first / to, (first + piece.length) / to))
    goOn()
    tell('progress', { done: windows.length, total: pieces.length, sound })
    await pause()
    goOn()
  }
  return { windows, wave, seconds: mix.length / rate }
}

/** The same sound at another rate; others get their turn in between. */
async function resampled(wave, from, to, goOn) {
  if (from === to) return wave
  const resampler = new Resampler(from, to)
  const parts = []
  for (let at = 0; at < wave.length; at += 65536) {
    parts.push(resampler.push(wave.subarray(at, at + 65536)))
    await pause()
    goOn()
  }
  return joined([...parts, resampler.flush()])
}

/** Takes the place of all sounds before; what it gives throws once another sound has come. */
function newest() {
  const mine = ++sounds
  return () => {
    if (mine !== sounds) throw new Superseded()
  }
}

async function analyse({ name, channels, rate, sound }) {
  const goOn = newest()
  if (!channels[0].length) throw new Error(`${name} is empty: choose another file.`)
  const { windows, wave, seconds } = await windowsOf(channels, rate, goOn, sound)
  goOn()
  last = { sound, name, windows, seconds, columns: columns(wave, model.features.sample_rate, 600) }
  tellLast({ isNew: true })
}

/** The answer for the last recording, as the settings of the moment want it. */
function tellLast({ isNew = false } = {}) {
  const windows = last.windows.map(withTaught)
  const timeline = new Timeline(classesNow(), limitNow())
  windows.forEach((w) => timeline.add(w))
  const answer = voted(windows, classesNow(), model.rules, threshold)
  const { sound, name, seconds, columns } = last
  const segments = timeline.finish()
  tell('answer', { sound, name, seconds, columns, answer, segments, classes: classesNow(), isNew })
}

/** Answers while sound comes in from a port; in a recording, the sound is kept. */
function listen({ port, rate, purpose, label, sound }) {
  const { sample_rate: to } = model.features
  if (purpose !== 'example') clear()
  live = { port, rate, purpose, label, sound, resampler: new Resampler(rate, to) }
  Object.assign(live, { kept: [], wave: new Float32Array(Math.max(model.features.samples, 2048)) })
  live.timeline = new Timeline(classesNow(), limitNow())
  Object.assign(live, { heard: 0, answeredAt: 0, drawnAt: 0, busy: false, began: performance.now() })
  const now = live
  port.onmessage = (e) => hear(now, e.data)
}

function hear(now, block) {
  if (now !== live) return
  if (!block) return now.end?.()
  if (now.purpose !== 'live') return keep(now, block)
  const fresh = now.resampler.push(block)
  now.heard += fresh.length
  const n = Math.min(fresh.length, now.wave.length)
  now.wave.copyWithin(0, n)
  now.wave.set(fresh.subarray(fresh.length - n), now.wave.length - n)
  answerInTime(now)
}

/** Answers if enough is new. Blocks have a length of their own, which is no reason to be late again. */
function answerInTime(now) {
  const { sample_rate: rate } = model.features
  const step = BETWEEN * rate
  if (now !== live || now.busy || now.heard < FIRST * rate || now.heard - now.answeredAt < step) return
  now.answeredAt = Math.max(now.answeredAt + step, now.heard - step)
  answerLive(now).then(() => answerInTime(now), stopAndTell)
}

/** What goes wrong while sound comes in ends it. */
async function stopAndTell(error) {
  await stop()
  tellError(error)
}

function keep(now, block) {
  now.kept.push(block)
  now.heard += block.length
  tell('recorded', { seconds: now.heard / now.rate })
  if (now.heard >= LONGEST_RECORDING * now.rate) stop().catch(tellError)
}

async function answerLive(now) {
  const rate = model.features.sample_rate
  now.busy = true
  const end = now.heard / rate
  const held = now.wave.subarray(now.wave.length - Math.min(now.heard, model.features.samples))
  try {
    const began = performance.now()
    const window = withTaught(await answered([held], end - held.length / rate, end))
    if (now !== live) return
    now.timeline.add(window)
    const answer = voted([window], classesNow(), model.rules, threshold)
    const took = performance.now() - began
    const more = { took, sound: now.sound, segments: now.timeline.soFar(), columns: freshColumns(now) }
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

/** The end of a sound: blocks that are on their way still count. */
function lastBlocks(now) {
  return new Promise((done) => {
    now.end = done
    now.port.postMessage('end')
    setTimeout(done, LAST_BLOCKS)
  })
}

async function stop() {
  if (!live || live.end) return
  const now = live
  await lastBlocks(now)
  if (now !== live) return
  const { purpose, label, sound, kept, rate, port, timeline, heard, began } = live
  live = null
  port.close()
  const seconds = heard / (purpose === 'live' ? model.features.sample_rate : rate)
  tell('stopped', { purpose, sound, seconds, segments: purpose === 'live' ? timeline.finish() : [] })
  if (purpose === 'live') return
  const wave = joined(kept)
  if (!wave.length) throw new Error(performance.now() - began < TOO_SHORT + LAST_BLOCKS
    ? 'Nothing was recorded yet: record for a second or longer.'
    : 'The microphone gave no sound: plug it in again, or choose another one.')
  const name = purpose === 'example' ? label : 'recording.wav'
  const wav = wavOf(wave, rate)
  tell('recording', { wav, name, purpose }, [wav])
  await (purpose === 'example' ? learn : analyse)({ label, name, channels: [wave], rate, sound })
}

/** A sound becomes examples of a class, one per window that is loud enough. */
async function learn({ label, channels, rate }) {
  const { windows } = await windowsOf(channels, rate)
  const loud = windows.filter((w) => !w.note)
  if (!loud.length) {
    throw new Error(`This example of ${label} is ${windows[0].note}: record it again, louder.`)
  }
  const source = String(++recordings)
  for (const { embedding, logs } of loud) examples.push({ label, source, embedding, logs })
  tests++
  tellTaught()
}

function tellTaught(more = {}) {
  const counts = {}
  for (const { label, source } of examples) (counts[label] ??= new Set()).add(source)
  const taught = Object.entries(counts).map(([label, sources]) => ({ label, recordings: sources.size }))
  const used = layer ? layer.classes.filter((c) => layer.taught.has(c)) : []
  tell('taught', { taught, used, ...more })
}

async function teach() {
  const mine = ++fits
  const taught = [...examples]
  tell('teaching')
  const made = await fit(taught, known, model.classes, pause)
  if (mine !== fits) return // another one came, or a class was forgotten
  layer = { ...made, taught: new Set(taught.map((e) => e.label)) }
  tellTaught({ fitted: layer.classes.filter((c) => layer.taught.has(c)) })
  refresh()
  await test(taught, mine)
}

/** Tells how well recordings are named that the layer was not fitted on. */
async function test(taught, mine) {
  const own = ++tests
  const isFormer = () => mine !== fits || own !== tests
  const goOn = async () => {
    await pause()
    if (isFormer()) throw new Superseded()
  }
  const found = await heldOut(taught, known, model.classes, goOn)
  if (!isFormer()) tell('tested', found)
}

/** Other classes than before: for the last recording its answer, for a live sound what comes from now on. */
function refresh() {
  if (live) live.timeline.change(classesNow(), limitNow())
  else if (last) tellLast()
}

function forget({ label }) {
  examples = label === undefined ? [] : examples.filter((e) => e.label !== label)
  unuse({ forgot: label })
}

/** Back to the model's own classes; the examples stay. */
function unuse({ forgot } = {}) {
  fits++
  layer = null
  tellTaught({ forgot })
  refresh()
}

/** Examples from a file, added to those that are there. */
async function loadTaught({ text }) {
  examples = merged(examples, loadedExamples(text, model))
  recordings = examples.length
  tellTaught()
  await teach()
}

/** The sound before counts no more. */
function clear() {
  newest()
  last = null
}

function setThreshold({ share }) {
  threshold = share
  if (live) live.timeline.limit = limitNow()
  else if (last) tellLast()
}

const save = () => tell('saved', { text: savedText(examples, model) })
const taughtActions = { learn, teach, forget, unuse, save, loadTaught }
const actions = { load, analyse, clear, listen, stop, setThreshold, ...taughtActions }

function tellError(error) {
  if (error instanceof Superseded) return
  tell('error', { text: error?.message ?? String(error) })
}

onmessage = async ({ data }) => {
  try {
    await actions[data.type](data)
  } catch (error) {
    tellError(error)
  }
}
