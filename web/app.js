// The page: buttons, messages to the worker, and what comes back.

import { csvOf, tracksOf } from './answers.js'
import { axis, clearSpectrogram, drawSpectrogram, rollSpectrogram } from './draw.js'
import { drawBars, drawTaught, drawTimeline } from './draw.js'
import { openMicrophone } from './microphone.js'
import { rateOf } from './sound.js'

const $ = (id) => document.getElementById(id)
const LONGEST = 30 * 60 // seconds that a browser can hold in memory
const LASTING = 4000 // milliseconds that a message stays while sound comes in
const worker = new Worker('worker.js', { type: 'module' })
let model = null
let about = '' // the model, in a sentence
let microphone = null
let purpose = '' // of what the microphone is open for
let shown = { name: '', segments: [], seconds: 0 }
let wav = null
let opened = 0 // files and microphones: a file that is decoded later than the next one comes is left out
let saidAt = 0
let spokenAt = 0
let drawnAt = 0 // seconds of a live sound

const send = (type, more = {}, moved = []) => worker.postMessage({ type, ...more }, moved)

function say(text, isError = false) {
  saidAt = performance.now()
  $('status').textContent = text
  $('status').classList.toggle('error', isError)
}

/** What was said of something else stays a while; an error stays until something is done. */
function sayListening() {
  const isError = $('status').classList.contains('error')
  const isSaid = $('status').textContent === 'Listening.'
  if (!isError && !isSaid && performance.now() - saidAt > LASTING) say('Listening.')
}

/** Whether a message is about a sound that another one has taken the place of. */
function isFormer(sound) {
  return sound !== undefined && sound !== opened
}

/** An event's work, whose errors become a sentence on the page. */
function guarded(work) {
  return async (...given) => {
    try {
      await work(...given)
    } catch (error) {
      say(error.message, true)
    }
  }
}

// What the worker tells.
const heard = {
  ready(told) {
    model = told
    const many = `${told.classes.length} sounds: ${told.classes.slice(0, 10).join(', ')}`
    about = `The model ${told.name} names ${many}${told.classes.length > 10 ? ', …' : ''}.`
    $('about').textContent = about
    for (const id of ['live', 'record', 'file', 'example', 'example-files', 'load']) $(id).disabled = false
    $('threshold-row').hidden = !told.rules.hasScore
    $('threshold').value = told.rules.threshold
    showThreshold()
    $('timeline-hint').textContent = timelineHint()
    $('card').hidden = !told.card
    $('teach').hidden = !told.width
    $('teach-hint').textContent = teachHint()
    drawBars(told.classes, told.classes.map(() => 0))
    say('Ready.')
    document.documentElement.dataset.ready = 'true'
  },

  progress({ done, total, sound }) {
    if (isFormer(sound)) return
    say(`Listening to the file: ${done} of ${total} windows.`)
  },

  answer({ name, seconds, columns, answer, segments, classes, isNew, sound }) {
    if (isFormer(sound)) return
    shown = { name, segments, seconds }
    drawSpectrogram(columns, seconds)
    axis('0 s', `${seconds.toFixed(1)} s`)
    showAnswer(answer, classes)
    speak(answer, true)
    showSegments()
    if (isNew) say(`${name}: ${seconds.toFixed(1)} seconds.`) // else the status tells what was changed
    document.documentElement.dataset.answer = JSON.stringify({ name, answer, segments, classes })
  },

  live({ seconds, answer, classes, segments, columns, took, sound }) {
    if (isFormer(sound)) return
    rollSpectrogram(columns, seconds)
    showAnswer(answer, classes)
    speak(answer)
    shown = { name: 'microphone', segments, seconds }
    if (seconds - drawnAt >= 0.5) {
      showSegments()
      drawnAt = seconds
      sayListening()
    }
    document.documentElement.dataset.live = JSON.stringify({ seconds, took, answer })
  },

  recorded({ seconds }) {
    if (!$('status').classList.contains('error')) say(`Recording: ${seconds.toFixed(1)} seconds.`)
    if (seconds >= model.seconds && purpose === 'example') send('stop')
  },

  stopped({ purpose: ended, seconds, segments, sound }) {
    closeMicrophone()
    if (ended !== 'live' || isFormer(sound)) return
    shown = { name: 'microphone', segments, seconds }
    showSegments()
    say(`Stopped after ${seconds.toFixed(1)} seconds.`)
  },

  recording({ wav: bytes, name, purpose: ended }) {
    if (ended === 'example') return
    wav = bytes
    $('wav').disabled = false
    showPlayer(new Blob([bytes], { type: 'audio/wav' }), name)
  },

  taught({ taught, used, fitted, forgot }) {
    drawTaught(taught, (label) => send('forget', { label }))
    $('fit').disabled = $('save').disabled = taught.length === 0
    $('unuse').disabled = !used.length
    $('about').textContent = used.length ? `${about} You taught it: ${used.join(', ')}.` : about
    $('taught-note').textContent = ''
    say(taughtText(taught, fitted, forgot))
    document.documentElement.dataset.taught = JSON.stringify({ taught, used })
  },

  teaching() {
    say('Teaching … Until it is done, the page answers as before.')
  },

  tested({ right, tested, alone }) {
    $('taught-note').textContent = [rightText(right, tested), aloneText(alone)].filter((t) => t).join(' ')
  },

  saved({ text }) {
    download(text, `${model.name}-taught.json`, 'application/json')
  },

  error({ text }) {
    say(text, true)
  },
}

worker.onmessage = ({ data }) => heard[data.type](data)
const CURRENT = 'use a current browser, and load the page anew'
worker.onerror = () => {
  say(`The model cannot be started here: ${CURRENT}.`, true)
  closeMicrophone()
}

function timelineHint() {
  const files = `In a file, a window is ${model.seconds} s long, and one begins every ${model.seconds / 2} s.`
  return `Which sound comes when. ${files} A gap is silent or unknown.`
}

function taughtText(taught, fitted, forgot) {
  if (fitted) return `Taught: ${fitted.join(', ')}. Answers take it into account now.`
  if (!taught.length) return 'Nothing is taught.'
  return forgot ? `${forgot} is forgotten. Press Teach to use the rest.` : 'Add examples, then press Teach.'
}

function rightText(right, tested) {
  if (!tested) return ''
  return `Test: left out of the teaching, ${right} of ${tested} recordings were named right.`
}

function aloneText(alone) {
  if (!alone.length) return ''
  return `Not tested, because each has one recording only: ${alone.join(', ')}.`
}

function teachHint() {
  const give = 'Name a class, give three examples or more, as different as they come, and press Teach.'
  const how = `${give} Examples stay in this page.`
  const own = model.known
    ? 'A new class stands beside those of the model.'
    : 'This model has no examples of its own classes: after teaching, only taught classes are told apart.'
  return `${how} ${own}`
}

// The answer.
function showAnswer(answer, classes) {
  const percent = Math.round(100 * answer.probability)
  $('label').textContent = answer.label || answer.note
  const nearest = `${answer.note}; nearest: ${answer.best} (${percent} %)`
  $('note').textContent = answer.label ? (answer.note ? nearest : `${percent} %`) : 'No sound to name.'
  drawBars(classes, answer.probabilities)
}

/** The answer for a screen reader: when it changes, and not more often than every two seconds. */
function speak(answer, always = false) {
  const text = answer.label || answer.note
  const isNew = !$('spoken').textContent.startsWith(`${text},`)
  if (!always && (!isNew || performance.now() - spokenAt < 2000)) return
  spokenAt = performance.now()
  $('spoken').textContent = `${text}, ${Math.round(100 * answer.probability)} percent`
}

function showSegments() {
  const isEmpty = !shown.segments.length
  drawTimeline(shown.segments, shown.seconds, $('player').src ? play : null)
  $('csv').disabled = $('audacity').disabled = isEmpty
  $('timeline-empty').hidden = !isEmpty || !shown.name || microphone !== null
}

/** Nothing of the sound before stays, whatever becomes of the next one. */
function clearAnswer() {
  send('clear')
  shown = { name: '', segments: [], seconds: 0 }
  wav = null
  $('wav').disabled = true
  hidePlayer()
  $('label').textContent = 'Nothing yet'
  $('note').textContent = $('spoken').textContent = ''
  const classes = [...$('bars').children].map((item) => item.firstChild.textContent)
  drawBars(classes, classes.map(() => 0))
  clearSpectrogram()
  showSegments()
  delete document.documentElement.dataset.answer
  delete document.documentElement.dataset.live
}

function play(segment) {
  const player = $('player')
  player.currentTime = segment.start
  player.ontimeupdate = () => {
    if (player.currentTime < segment.end) return
    player.pause()
    player.ontimeupdate = null
  }
  player.play()
}

function hidePlayer() {
  const player = $('player')
  if (!player.src) return
  player.pause()
  player.ontimeupdate = null
  URL.revokeObjectURL(player.src)
  player.removeAttribute('src')
  player.load()
  player.hidden = true
}

function showPlayer(blob, name) {
  const player = $('player')
  hidePlayer()
  player.src = URL.createObjectURL(blob)
  player.hidden = false
  player.setAttribute('aria-label', name)
}

// Files.
async function decoded(file) {
  const bytes = await file.arrayBuffer()
  const rate = rateOf(new Uint8Array(bytes))
  let buffer
  try {
    buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes)
  } catch {
    throw new Error(`${file.name} cannot be decoded by this browser: convert it to WAV, MP3 or Ogg.`)
  }
  if (buffer.duration > LONGEST) {
    throw new Error(`${file.name} is longer than 30 minutes: use soundclf predict --timeline for it.`)
  }
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, c) => buffer.getChannelData(c).slice())
  return { name: file.name, channels, rate: buffer.sampleRate }
}

async function open(file) {
  if (!file || !model) return
  if (purpose && purpose !== 'live') throw new Error('The microphone records: stop it, then open the file.')
  if (microphone) send('stop')
  const mine = ++opened
  clearAnswer()
  say(`Decoding ${file.name} …`)
  const sound = await decoded(file)
  if (mine !== opened) return
  showPlayer(file, file.name)
  send('analyse', { ...sound, sound: mine }, sound.channels.map((c) => c.buffer))
}

async function addExamples(files) {
  const label = wantedLabel()
  for (const file of files) {
    const sound = await decoded(file)
    send('learn', { label, ...sound }, sound.channels.map((c) => c.buffer))
  }
}

function wantedLabel() {
  const label = $('new-label').value.trim()
  if (label) return label
  $('new-label').focus()
  throw new Error('The class has no name yet: type one first.')
}

// The microphone.
const BUTTONS = {
  live: ['Listen', 'Stop'],
  record: ['Record', 'Stop recording'],
  example: ['Record an example', 'Stop'],
}

async function toggle(wanted) {
  if (microphone) return send('stop')
  if (purpose) return // the browser asks whether it may open the microphone
  const label = wanted === 'example' ? wantedLabel() : ''
  purpose = wanted
  try {
    microphone = await openMicrophone()
  } catch (error) {
    closeMicrophone()
    throw error
  }
  if (wanted !== 'example') {
    opened++
    clearAnswer()
  }
  $(wanted).classList.add('on')
  $(wanted).textContent = BUTTONS[wanted][1]
  drawnAt = 0
  say(wanted === 'live' ? 'Listening.' : 'Recording.')
  const { port, rate } = microphone
  send('listen', { port, rate, purpose, label, sound: opened }, [port])
}

function closeMicrophone() {
  microphone?.close()
  microphone = null
  if (!purpose) return
  $(purpose).classList.remove('on')
  $(purpose).textContent = BUTTONS[purpose][0]
  purpose = ''
}

// What a person takes along.
function download(content, name, type) {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(new Blob([content], { type }))
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
}

const stem = () => shown.name.replace(/\.[^.]*$/, '') || 'sound'

function showThreshold() {
  const share = Number($('threshold').value)
  $('threshold-text').textContent = `${Math.round(100 * share)} %`
}

function connect() {
  for (const id of Object.keys(BUTTONS)) $(id).onclick = guarded(() => toggle(id))
  onFiles('file', ([file]) => open(file))
  onFiles('example-files', addExamples)
  onFiles('load', async ([file]) => send('loadTaught', { text: await file.text() }))
  const rows = () => shown.segments.map((s) => ({ ...s, path: shown.name }))
  $('csv').onclick = () => download(csvOf(rows()), `${stem()}.csv`, 'text/csv')
  $('audacity').onclick = () => download(tracksOf(shown.segments), `${stem()}.txt`, 'text/plain')
  $('wav').onclick = () => download(wav, 'recording.wav', 'audio/wav')
  $('fit').onclick = () => send('teach')
  $('save').onclick = () => send('save')
  $('unuse').onclick = () => send('unuse')
  $('threshold').oninput = () => {
    showThreshold()
    send('setThreshold', { share: Number($('threshold').value) })
  }
}

function onFiles(id, work) {
  $(id).onchange = guarded(async ({ target }) => {
    const files = [...target.files]
    target.value = ''
    if (files.length) await work(files)
  })
}

function takeDrops() {
  const holds = (event) => event.dataTransfer?.types.includes('Files')
  addEventListener('dragover', (event) => {
    if (!holds(event)) return
    event.preventDefault()
    document.body.classList.add('dropping')
  })
  addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) document.body.classList.remove('dropping')
  })
  addEventListener('drop', guarded(async (event) => {
    event.preventDefault()
    document.body.classList.remove('dropping')
    await open(event.dataTransfer.files[0])
  }))
}

connect()
takeDrops()
addEventListener('resize', showSegments)
say('Loading the model …')
send('load')
