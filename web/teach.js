// A linear layer on a model's embedding, fitted in the page. It adds to the logarithms of the model's
// probabilities, so that what the model knows stays, and classes that it doesn't know get a place beside.

const STEPS = 400
const RIDGE = 1e-3 // of the squared weights
const REACH = 1.5 // times the largest distance between recordings of a class: what is farther is unknown
const FARTHEST = 1.2 // what is farther is unknown in any case: strangers are about √2 apart

/**
 * Fits the layer.
 * examples: {label, source, embedding, logs} each, of the person; known: the same of the model's own classes.
 */
export async function fit(examples, known, modelClasses, pause = async () => {}) {
  const rows = [...known, ...examples]
  const taught = [...new Set(examples.map((e) => e.label))]
  const own = known.length ? modelClasses : []
  const classes = [...own, ...taught.filter((label) => !own.includes(label))]
  if (classes.length < 2) throw new Error('One class alone cannot be told from others: teach a second one.')
  const layer = { classes, offsets: own.length, ...scaling(rows.map((r) => r.embedding)) }
  const x = rows.map((r) => scaled(layer, r.embedding))
  const offsets = rows.map((r) => offsetsOf(layer, r.logs))
  const y = rows.map((r) => classes.indexOf(r.label))
  layer.weights = await descend(x, y, offsets, classes.length, pause)
  layer.reaches = reachesOf(layer, examples, modelClasses)
  return layer
}

/** The probabilities of the layer's classes for one sound. */
export function probabilities(layer, embedding, logs) {
  return softmax(logits(layer.weights, scaled(layer, embedding), offsetsOf(layer, logs)))
}

/** For each class how far a sound is from its examples, 1 at the limit; null for the model's own classes. */
export function farness(layer, embedding) {
  const x = scaled(layer, embedding)
  return layer.reaches.map((r) => (r ? Math.min(...r.examples.map((e) => distance(e, x))) / r.limit : null))
}

/**
 * How many recordings of a person get their class from layers that were fitted without them, at most `most`
 * layers; and the classes with one recording, which no layer without it knows.
 */
export async function heldOut(given, known, modelClasses, pause = async () => {}, most = 4) {
  const examples = withoutCopies(given)
  const { turns, alone } = dealt(examples, most)
  let right = 0
  for (const turn of new Set(turns.values())) {
    const rest = examples.filter((e) => turns.get(e.source) !== turn)
    const layer = await fit(rest, known, modelClasses, pause)
    for (const [source] of [...turns].filter(([, t]) => t === turn)) {
      const windows = examples.filter((e) => e.source === source)
      if (nameOf(layer, windows) === windows[0].label) right++
    }
  }
  return { right, tested: turns.size, alone }
}

/** Examples without those that another recording has, too: a copy tells nothing. */
function withoutCopies(examples) {
  const first = new Map()
  return examples.filter((e) => {
    const key = String(rounded(e.embedding))
    if (!first.has(key)) first.set(key, e.source)
    return first.get(key) === e.source
  })
}

/** The turn in which each recording is left out; every class keeps some of its recordings. */
function dealt(examples, most) {
  const sources = {}
  for (const { label, source } of examples) (sources[label] ??= new Set()).add(source)
  const several = Object.values(sources).filter((own) => own.size > 1)
  const numbered = several.flatMap((own) => [...own].map((source, i) => [source, i % most]))
  const alone = Object.keys(sources).filter((label) => sources[label].size === 1)
  return { turns: new Map(numbered), alone }
}

/** The class of a recording; empty for one that is unlike the examples of the class. */
function nameOf(layer, windows) {
  const sums = layer.classes.map(() => 0)
  const far = layer.classes.map(() => 0)
  for (const { embedding, logs } of windows) {
    probabilities(layer, embedding, logs).forEach((p, k) => (sums[k] += p))
    farness(layer, embedding).forEach((f, k) => (far[k] += f ?? 0))
  }
  const best = sums.indexOf(Math.max(...sums))
  return far[best] / windows.length > 1 ? '' : layer.classes[best]
}

/** The mean of the columns, and what divides them: no column counts for much that hardly varies. */
function scaling(rows) {
  const width = rows[0].length
  const middle = Array.from({ length: width }, (_, j) => rows.reduce((s, r) => s + r[j], 0) / rows.length)
  const spread = middle.map((m, j) =>
    Math.sqrt(rows.reduce((s, r) => s + (r[j] - m) ** 2, 0) / rows.length))
  const floor = 0.1 * spread.reduce((s, v) => s + v, 0) / width + 1e-9
  return { middle, scale: spread.map((s) => Math.max(s, floor) * Math.sqrt(width)) }
}

/** A row with a mean square of about 1, and a 1 at its end for the bias. */
function scaled(layer, embedding) {
  const x = new Float64Array(embedding.length + 1)
  for (let j = 0; j < embedding.length; j++) x[j] = (embedding[j] - layer.middle[j]) / layer.scale[j]
  x[embedding.length] = 1
  return x
}

function offsetsOf(layer, logs) {
  return layer.classes.map((_, k) => (k < layer.offsets ? logs[k] : 0))
}

function logits(weights, x, offsets) {
  return weights.map((w, k) => {
    let sum = offsets[k]
    for (let j = 0; j < x.length; j++) sum += w[j] * x[j]
    return sum
  })
}

function softmax(z) {
  const most = Math.max(...z)
  const parts = z.map((v) => Math.exp(v - most))
  const sum = parts.reduce((s, v) => s + v, 0)
  return parts.map((v) => v / sum)
}

/** Multinomial logistic regression by accelerated gradient descent; every class counts alike. */
async function descend(x, y, offsets, classes, pause) {
  const width = x[0].length
  const counts = Array.from({ length: classes }, (_, k) => y.filter((v) => v === k).length)
  const present = counts.filter((n) => n).length
  const share = y.map((k) => 1 / (present * counts[k]))
  const longest = Math.max(...x.map((row) => row.reduce((s, v) => s + v * v, 0)))
  const rate = 1 / (0.5 * longest + RIDGE)
  const zeros = () => Array.from({ length: classes }, () => new Float64Array(width))
  const weights = zeros()
  let before = zeros()
  for (let step = 0; step < STEPS; step++) {
    const speed = step / (step + 3)
    const ahead = weights.map((w, k) => w.map((v, j) => v + speed * (v - before[k][j])))
    before = weights.map((w) => w.slice())
    const slope = gradient(ahead, x, y, offsets, share)
    for (let k = 0; k < classes; k++) {
      for (let j = 0; j < width; j++) weights[k][j] = ahead[k][j] - rate * slope[k][j]
    }
    if (step % 20 === 19) await pause()
  }
  return weights
}

function gradient(weights, x, y, offsets, share) {
  const slope = weights.map((w) => w.map((v, j) => (j < w.length - 1 ? RIDGE * v : 0)))
  for (let i = 0; i < x.length; i++) {
    const p = softmax(logits(weights, x[i], offsets[i]))
    for (let k = 0; k < p.length; k++) {
      const by = share[i] * (p[k] - (k === y[i] ? 1 : 0))
      for (let j = 0; j < x[i].length; j++) slope[k][j] += by * x[i][j]
    }
  }
  return slope
}

/** For each taught class its examples, and how far from the nearest one a sound of it may be. */
function reachesOf(layer, examples, modelClasses) {
  return layer.classes.map((label) => {
    if (modelClasses.includes(label) && layer.offsets) return null
    const own = examples.filter((e) => e.label === label)
    const x = own.map((e) => Array.from(scaled(layer, e.embedding)))
    const gap = largestGap(x, own.map((e) => e.source))
    return { examples: x, limit: Math.min(FARTHEST, REACH * gap) }
  })
}

/** The largest distance from an example to the nearest one of another recording; infinite for one alone. */
function largestGap(x, sources) {
  const gaps = x.map((row, i) => {
    const others = x.filter((_, j) => sources[j] !== sources[i])
    const far = others.map((other) => distance(row, other)).filter((d) => d > 1e-9) // a copy tells nothing
    return Math.min(...far)
  })
  return Math.max(...gaps)
}

function distance(a, b) {
  let sum = 0
  for (let j = 0; j < a.length; j++) sum += (a[j] - b[j]) ** 2
  return Math.sqrt(sum)
}

const FORMAT = 'soundclf taught classes 1'

/**
 * What a person keeps: embeddings, logarithms of the model's probabilities, and the number of the recording
 * that they are of. There is no sound and no name of a file in it; the layer is fitted anew.
 */
export function savedText(examples, model) {
  const short = (e) => ({ ...e, embedding: rounded(e.embedding), logs: rounded(e.logs) })
  const rows = numbered(examples).map(short)
  return JSON.stringify({ format: FORMAT, model: model.sha256, name: model.name, examples: rows })
}

/** Examples whose recordings are called 1, 2, 3 … in their order. */
function numbered(examples) {
  const sources = [...new Set(examples.map((e) => e.source))]
  return examples.map((e) => ({ ...e, source: String(sources.indexOf(e.source) + 1) }))
}

/** Examples, and those of others that are not among them yet; recordings of the others stay apart. */
export function merged(examples, others) {
  const key = (e) => JSON.stringify([e.label, rounded(e.embedding)])
  const there = new Set(examples.map(key))
  const fresh = others.filter((e) => !there.has(key(e)))
  return numbered([...examples, ...fresh.map((e) => ({ ...e, source: `loaded ${e.source}` }))])
}

function rounded(values) {
  return Array.from(values, (v) => Number(v.toPrecision(7)))
}

/** The examples in a file; throws a sentence for one that does not fit the model. */
export function loadedExamples(text, model) {
  const saved = parsed(text)
  if (saved?.format !== FORMAT || !Array.isArray(saved.examples)) {
    throw new Error('This file holds no taught classes: choose one that this page has saved.')
  }
  if (saved.model !== model.sha256) {
    throw new Error(`This file is for another model (${saved.name}): open it in the page of that model.`)
  }
  if (!saved.examples.every((e) => isExample(e, model))) {
    throw new Error('This file is damaged: choose another one.')
  }
  return saved.examples
}

function parsed(text) {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

function isExample(e, model) {
  const numbers = (row, n) => Array.isArray(row) && row.length === n && row.every(Number.isFinite)
  const isNamed = typeof e?.label === 'string' && e.label && typeof e.source === 'string'
  return isNamed && numbers(e.embedding, model.width) && numbers(e.logs, model.classes.length)
}
