// What some windows mean together: the rules of `soundclf.tools.answers` and `soundclf.tools.timeline`.

export const UNKNOWN = 'unknown'
export const UNLIKE = 'unlike the training sounds'
const UNLIKE_TAUGHT = 'unlike the examples of that class'
const NO_LABEL = 'no label reaches its threshold'

/** A model's rules, ready to use. */
export function rulesOf(answers) {
  let most = -Infinity
  const rising = (answers.quantiles ?? []).map((q) => (most = Math.max(most, q)))
  const shares = rising.map((_, i) => i / (rising.length - 1))
  return { quantiles: answers.quantiles ?? [], rising, shares, thresholds: answers.thresholds ?? [] }
}

/** The line through points (xs, ys) at x; xs rise. */
export function interpolated(x, xs, ys) {
  if (x >= xs[xs.length - 1]) return ys[ys.length - 1]
  let j = -1
  while (j + 1 < xs.length && xs[j + 1] <= x) j++
  if (j < 0) return ys[0]
  return ys[j] + (ys[j + 1] - ys[j]) * (x - xs[j]) / (xs[j + 1] - xs[j])
}

/** The share of known clips that are more like the training clips than a sound is. */
export function shareOf(rules, score) {
  if (!rules.quantiles.length || !Number.isFinite(score)) return NaN
  return interpolated(score, rules.rising, rules.shares)
}

/** The score above which a sound is unknown. */
export function limitOf(rules, threshold) {
  if (!rules.quantiles.length || threshold >= 1) return Infinity
  return interpolated(threshold, rules.shares, rules.quantiles)
}

export function mean(values) {
  return values.reduce((sum, v) => sum + v, 0) / values.length
}

/** The mean of tables of numbers, column by column. */
export function meanRow(rows) {
  return Array.from(rows[0], (_, i) => mean(rows.map((row) => row[i])))
}

export function argmax(values) {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i
  return best
}

/** The answer of some windows: the mean of their probabilities decides; silent and quiet ones don't vote. */
export function voted(windows, classes, rules, threshold) {
  const voting = windows.filter((w) => !w.note)
  const asked = voting.length ? voting : windows
  const probabilities = meanRow(asked.map((w) => w.proba))
  const best = argmax(probabilities)
  const chosen = { best: classes[best], probability: probabilities[best] }
  const answer = { probabilities, ...chosen, windows: voting.length }
  if (!voting.length) {
    const note = windows.map((w) => w.note).sort().at(-1)
    return { ...answer, label: '', note, unlike: NaN }
  }
  if (rules.thresholds.length) return { ...answer, ...severalOf(probabilities, classes, rules) }
  const unlike = shareOf(rules, mean(voting.map((w) => w.score)))
  const isTaught = voting[0].far && voting[0].far[best] !== null
  const isUnlike = isTaught ? mean(voting.map((w) => w.far[best])) > 1 : unlike > threshold
  const note = isUnlike ? (isTaught ? UNLIKE_TAUGHT : UNLIKE) : ''
  return { ...answer, label: note ? UNKNOWN : classes[best], note, unlike }
}

function severalOf(probabilities, classes, rules) {
  const above = classes
    .map((label, i) => ({ label, by: probabilities[i] - rules.thresholds[i] }))
    .filter((c) => c.by >= 0)
    .sort((a, b) => b.by - a.by)
  const label = above.map((c) => c.label).join('|') || UNKNOWN
  return { label, note: above.length ? '' : NO_LABEL, unlike: NaN }
}

/** Segments without overlaps, made of windows as they come; there are gaps where nothing can be named. */
export class Timeline {
  constructor(classes, limit) {
    this.classes = classes
    this.limit = limit
    this.recent = [] // windows that reach beyond what is decided
    this.segments = []
    this.open = null // stretches with one answer, joined, that may go on
  }

  add(window) {
    if (this.recent.length) this.decide(window.start)
    this.recent = [...this.recent.filter((w) => w.end > window.start), window]
  }

  finish() {
    if (this.recent.length) this.decide(Math.max(...this.recent.map((w) => w.end)))
    this.recent = []
    this.close()
    return this.segments
  }

  /** Goes on with other classes: what is decided stays; windows of the classes before vote no more. */
  change(classes, limit) {
    this.close()
    Object.assign(this, { classes, limit, recent: [] })
  }

  /** All segments so far, with the one that is not finished. */
  soFar() {
    return this.open ? [...this.segments, segmentOf(this.open)] : this.segments
  }

  decide(until) {
    const from = this.recent.at(-1).start
    const ends = this.recent.map((w) => w.end).filter((end) => from < end && end < until)
    const cuts = [...new Set([from, ...ends, until])].sort((a, b) => a - b)
    for (let i = 0; i + 1 < cuts.length; i++) {
      const voting = this.recent.filter((w) => w.end > cuts[i] && !w.note)
      this.stretch({ start: cuts[i], end: cuts[i + 1], ...this.named(voting) })
    }
  }

  named(voting) {
    if (!voting.length) return { label: '', probability: 0 }
    const proba = meanRow(voting.map((w) => w.proba))
    const best = argmax(proba)
    const isTaught = (voting[0].far?.[best] ?? null) !== null
    const isUnlike = isTaught
      ? mean(voting.map((w) => w.far[best])) > 1
      : mean(voting.map((w) => w.score)) > this.limit
    return isUnlike ? { label: '', probability: 0 } : { label: this.classes[best], probability: proba[best] }
  }

  stretch(stretch) {
    if (this.open?.label !== stretch.label) {
      this.close()
      this.open = stretch.label ? { ...stretch, total: 0, weighted: 0 } : null
    }
    if (!this.open) return
    const length = stretch.end - stretch.start
    this.open.total += length
    this.open.weighted += length * stretch.probability
    this.open.end = stretch.end
  }

  close() {
    if (this.open) this.segments.push(segmentOf(this.open))
    this.open = null
  }
}

/** Joined stretches as a segment; its probability is their mean over time. */
function segmentOf({ start, end, label, total, weighted }) {
  return { start, end, label, probability: weighted / total }
}

/** Segments as a table with the columns that `soundclf predict --timeline --out` writes. */
export function csvOf(rows) {
  const lines = rows.map((s) =>
    [cell(s.path), number(s.start), number(s.end), cell(s.label), number(s.probability)].join(','))
  return ['path,start,end,label,probability', ...lines].join('\n') + '\n'
}

/** Segments as a label track of Audacity. */
export function tracksOf(segments) {
  const row = (s) => [s.start.toFixed(6), s.end.toFixed(6), visible(s.label), s.probability.toFixed(4)]
  return segments.map((s) => row(s).join('\t') + '\n').join('')
}

function number(x) {
  const text = String(Math.round(x * 1e4) / 1e4)
  return /[.e]/.test(text) ? text : `${text}.0`
}

/** No spreadsheet takes the cell for a formula, and no comma or quote ends it. */
function cell(text) {
  const isFormula = /^'*[=+\-@\t\r\n＝＋－＠]/.test(text) && !/^[+-]?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(text)
  const safe = isFormula ? `'${text}` : text
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

function visible(text) {
  const code = (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, code)
}
