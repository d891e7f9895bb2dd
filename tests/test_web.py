"The page of a model: its rules are those of Python, and it answers the same in a real Chromium."

import contextlib
import hashlib
import json
import math
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import soxr
import torch
from browser import CHROMIUM, open_browser, static_server

from soundclf.core.artefact_schema import read_config, write_config
from soundclf.core.files import SoundclfError
from soundclf.core.heads import opened
from soundclf.core.levels import mix_down
from soundclf.core.unknown import (
    fit_reference,
    save_reference,
    scaled_reference,
    score_quantiles,
    unlike_scores,
    unlike_terms,
)
from soundclf.tools.answers import Rules, limit_of, voted
from soundclf.tools.classifier import Classifier
from soundclf.tools.commands import run
from soundclf.tools.engines import waveform_model
from soundclf.tools.models import package_models
from soundclf.tools.timeline import save_timeline, timeline
from soundclf.tools.web_page import PAGE, _check_target, built_page, export_web
from soundclf.tools.windows import Window, sliding_windows

ROOT = Path(__file__).resolve().parent.parent
NODE = shutil.which('node')
RATE = 44100
needs_node = pytest.mark.skipif(NODE is None, reason='no Node.js on this machine')


def page_is_built() -> bool:
    try:
        return bool(built_page())
    except SoundclfError:
        return False


needs_page = pytest.mark.skipif(not page_is_built(), reason='the page is not built: run `make web`')
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason='no Chromium on this machine')


def in_node(script: str, data, web: Path = ROOT / 'web') -> dict | list:
    "What a script prints that imports from `web/` and reads `data`."
    head = f"const WEB = '{web.as_uri()}'\nconst data = JSON.parse(await text())\n"
    read = "async function text() { let s = ''; for await (const c of process.stdin) s += c; return s }\n"
    found = subprocess.run(
        [NODE, '--input-type=module', '-e', read + head + script],
        input=json.dumps(data),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    return json.loads(found.stdout)


# The rules


def some_windows(rng: np.random.Generator, classes: int) -> list[Window]:
    "Windows of a recording as a classifier gives them; some are silent, some unlike all."
    starts = np.cumsum(rng.choice([0.5, 1.25, 2.5], rng.integers(1, 12))).round(2)
    notes = rng.choice(['', '', '', 'silent', 'too quiet'], len(starts))
    proba = rng.dirichlet(np.ones(classes) / 2, len(starts)).astype('float32')
    return [
        Window(float(s), float(s) + 2.5, p, float(rng.normal(0, 2)), str(n))
        for s, p, n in zip(starts, proba, notes)
    ]


ASK = """
const { Timeline, limitOf, rulesOf, voted, csvOf, tracksOf } = await import(`${WEB}/answers.js`)
const found = data.cases.map(({ windows, threshold, answers }) => {
  const rules = rulesOf(answers)
  const timeline = new Timeline(data.classes, limitOf(rules, threshold))
  windows.forEach((w) => timeline.add(w))
  const segments = timeline.finish()
  return { ...voted(windows, data.classes, rules, threshold), segments, csv: csvOf(segments.map(
    (s) => ({ ...s, path: '=a, "b".wav' }))), tracks: tracksOf(segments) }
})
console.log(JSON.stringify(found))
"""


def a_case(seed: int) -> tuple[list[Window], float, Rules]:
    rng = np.random.default_rng(seed)
    quantiles = np.sort(rng.normal(0, 1, 101)).round(5).tolist() if seed % 3 else []
    thresholds = rng.uniform(0.1, 0.6, 4).tolist() if seed % 10 == 9 else []
    threshold = float(rng.choice([0.5, 0.95, 1.0]))
    return some_windows(rng, 4), threshold, Rules(quantiles=quantiles, thresholds=thresholds)


@needs_node
def test_labels_and_timelines_follow_the_rules_of_python(tmp_path):
    classes = ['a', 'b, "c"', '-d', 'e\x07']
    cases = [a_case(seed) for seed in range(60)]
    asked = [
        {
            'windows': [w.__dict__ | {'proba': w.proba.tolist(), 'level': 0} for w in windows],
            'threshold': threshold,
            'answers': {'quantiles': rules.quantiles, 'thresholds': rules.thresholds},
        }
        for windows, threshold, rules in cases
    ]
    for (windows, threshold, rules), told in zip(cases, in_node(ASK, {'classes': classes, 'cases': asked})):
        answer = voted(windows, classes, rules, threshold)
        assert (told['label'], told['note'], told['best']) == (answer.label, answer.note, answer.best)
        assert told['probability'] == pytest.approx(answer.probability, abs=1e-6)
        segments = timeline(windows, classes, limit_of(rules, threshold))
        page = pd.DataFrame(told['segments'], columns=['start', 'end', 'label', 'probability'])
        pd.testing.assert_frame_equal(page, segments.reset_index(drop=True), check_dtype=False, atol=1e-6)
        if len(segments):
            rows = page.round({'probability': 9})
            for name, text in (('a.csv', told['csv']), ('a.txt', told['tracks'])):
                written = save_timeline(rows, tmp_path / name, '=a, "b".wav').read_text(encoding='utf-8')
                assert text == written


RESAMPLE = """
const { Resampler, joined } = await import(`${WEB}/sound.js`)
const found = data.map(({ wave, from, to, block }) => {
  const resampler = new Resampler(from, to)
  const x = Float32Array.from(wave)
  const parts = []
  for (let at = 0; at < x.length; at += block) parts.push(resampler.push(x.subarray(at, at + block)))
  return Array.from(joined([...parts, resampler.flush()]))
})
console.log(JSON.stringify(found))
"""


@needs_node
@pytest.mark.parametrize('rates', [(48000, 44100), (44100, 32000), (16000, 44100), (44101, 44100)])
def test_the_page_resamples_as_python_does(rates):
    wave = np.random.default_rng(0).normal(0, 0.1, rates[0] // 4).astype('float32')
    asked = {'wave': wave.tolist(), 'from': rates[0], 'to': rates[1]}
    whole, pieces = in_node(RESAMPLE, [asked | {'block': 65536}, asked | {'block': 1001}])
    assert whole == pieces
    ours = soxr.resample(wave, *rates)
    assert len(whole) == len(ours)
    gap, sound = (np.abs(np.fft.rfft(x[500:-500])) for x in (np.array(whole) - ours, ours))
    heard = int(0.9 * min(1, rates[0] / rates[1]) * len(gap))
    assert np.linalg.norm(gap[:heard]) < 1e-3 * np.linalg.norm(sound[:heard])


PREPARE = """
const { fitLength, mixDown, rateOf, wavOf, levelNote } = await import(`${WEB}/sound.js`)
const f = (x) => Float32Array.from(x)
console.log(JSON.stringify({
  mixes: data.stereo.map((s) => Array.from(mixDown(s.map(f)))),
  fitted: [3, 4, 9, 10].map((n) => Array.from(fitLength(f([1, 2, 3, 4]), n, n === 10 ? 'wrap' : 'zero'))),
  rates: data.files.map((bytes) => rateOf(Uint8Array.from(bytes))),
  notes: [0, 1e-5, 1e-3, 0.5].map((x) => levelNote([f([x, -x])])),
  wav: Array.from(new Uint8Array(wavOf(f(data.stereo[0][0]), 22050))),
}))
"""


def adts_header(index: int) -> list[int]:
    "The first bytes of an AAC file without a container, whose rate is told by an index."
    return [0xFF, 0xF1, 1 << 6 | index << 2, 0x80, 0x2E, 0x7F, 0xFC] + [0] * 60


def odd_chunk(wav: bytes) -> list[int]:
    "A WAV file with a chunk of three bytes, and the byte that fills it up, before its format."
    return list(wav[:12] + b'LIST' + (3).to_bytes(4, 'little') + b'abc\0' + wav[12:])


@needs_node
def test_sounds_are_prepared_as_python_does(tmp_path):
    rng = np.random.default_rng(1)
    left = rng.normal(0, 0.2, 3000).astype('float32')
    stereo = [np.stack([left, other]) for other in (left / 2, -left, 0 * left, -1.2 * left)]
    files = []
    for kind, rate in (('wav', 11025), ('flac', 96000), ('ogg', 32000), ('mp3', 22050), ('mp3', 48000)):
        file = tmp_path / f'{rate}.{kind}'
        sf.write(file, left, rate)
        files.append((list(file.read_bytes()), rate))
    files += [(adts_header(4), 44100), (adts_header(7), 22050), (adts_header(12), 48000)]  # 7350 is too low
    files.append((odd_chunk((tmp_path / '11025.wav').read_bytes()), 11025))
    asked = {'stereo': [s.tolist() for s in stereo], 'files': [data for data, _ in files]}
    told = in_node(PREPARE, asked)
    for mix, sound in zip(told['mixes'], stereo):
        np.testing.assert_allclose(mix, mix_down(sound)[0], atol=1e-6)
    assert told['fitted'][:3] == [[1, 2, 3], [1, 2, 3, 4], [0, 0, 1, 2, 3, 4, 0, 0, 0]]
    assert told['fitted'][3] == np.pad([1, 2, 3, 4], (3, 3), mode='wrap').tolist()
    assert told['rates'] == [rate for _, rate in files]
    assert told['notes'] == ['silent', 'silent', 'too quiet', '']
    (tmp_path / 'page.wav').write_bytes(bytes(told['wav']))
    np.testing.assert_array_equal(sf.read(tmp_path / 'page.wav', dtype='float32')[0], left)


CUT = """
const { slidingWindows } = await import(`${WEB}/sound.js`)
const { columns } = await import(`${WEB}/spectrogram.js`)
const cut = ([n, samples, hop]) => slidingWindows(Float32Array.from({ length: n }, (_, i) => i), samples, hop)
const wave = new Float32Array(1800 * 8000)
const pieces = slidingWindows(wave, 40000, 20000)
wave.fill(0.5, 5_001_234, 5_001_240)
const levels = columns(wave, 8000, 600).map((c) => c.reduce((s, v) => s + v, 0))
console.log(JSON.stringify({
  cut: data.map((d) => cut(d).map(([first, piece]) => [first, piece.length ? piece[0] : -1, piece.length])),
  count: pieces.length, copied: pieces.filter(([, piece]) => piece.buffer !== wave.buffer).length,
  end: pieces.at(-1)[0] + pieces.at(-1)[1].length,
  loud: levels.map((v, i) => [v, i]).filter(([v]) => v > 0).map(([, i]) => i),
}))
"""


@needs_node
def test_half_an_hour_is_cut_without_copies_as_python_cuts_it():
    sizes = [(n, 8, hop) for n in (0, 1, 7, 8, 9, 12, 16, 17, 40, 41) for hop in (3, 4, 8)]
    told = in_node(CUT, sizes)
    for (n, samples, hop), found in zip(sizes, told['cut']):
        windows = sliding_windows([np.arange(n, dtype='float32')], samples, hop)
        assert found == [[first, int(piece[0]), len(piece)] for first, piece in windows], (n, samples, hop)
    assert (told['count'], told['copied'], told['end']) == (719, 0, 1800 * 8000)
    assert told['loud'] == [5_001_234 // 24000]  # six samples in three seconds are seen


# The worker, with a network of two lines

FAKE_ORT = """
export const env = { wasm: {} }
export class Tensor {
  constructor(type, data) {
    this.data = data
  }
}
const run = async ({ waveform: { data } }) => {
  const x = Math.abs(data[data.length >> 1])
  const values = { probabilities: [1 - x, x], embedding: [x, x * x, 1 - x] }
  return Object.fromEntries(Object.entries(values).map(([k, v]) => [k, { data: Float32Array.from(v) }]))
}
export const InferenceSession = { create: async () => ({ run }) }
"""

WORKER = """
const told = []
globalThis.postMessage = (message) => told.push(message)
globalThis.onmessage = null
globalThis.fetch = async (name) => new Response(data.files[name])
await import(`${WEB}/worker.js`)
const ask = (type, more = {}) => onmessage({ data: { type, ...more } })
const wait = (ms) => new Promise((done) => setTimeout(done, ms))
const tone = (level, seconds) => new Float32Array(8000 * seconds).fill(level)
const file = (name, level, seconds) => ({ name, label: name, channels: [tone(level, seconds)], rate: 8000 })
const types = (type) => told.filter((m) => m.type === type)
const port = (last) => ({
  close() {},
  postMessage() {
    if (last) this.onmessage({ data: last })
    this.onmessage({ data: null })
  },
})
async function hear(p, level, times) {
  for (let i = 0; i < times; i++) {
    p.onmessage({ data: tone(level, 0.5) })
    await wait(5)
  }
}
await ask('load')
"""


def in_worker(tmp_path: Path, script: str, digest: str = '', seconds: int = 1) -> dict | list:
    "What a script prints after `web/worker.js` has loaded a model of the classes a (quiet) and b (loud)."
    web = tmp_path / 'web'
    shutil.copytree(ROOT / 'web', web, ignore=shutil.ignore_patterns('node_modules'))
    (web / 'ort.js').write_text(FAKE_ORT)
    features = {'sample_rate': 8000, 'duration': seconds, 'samples': 8000 * seconds, 'channels': 1}
    model = {'name': 'm', 'classes': ['a', 'b'], 'width': 3, 'known': 0, 'answers': {}}
    model |= {'features': features | {'pad': 'zero'}, 'sha256': digest or hashlib.sha256(b'net').hexdigest()}
    files = {'model.json': json.dumps(model), 'model.onnx': 'net', 'ort-wasm.bin': 'runtime'}
    return in_node(WORKER + script, {'files': files}, web)


@needs_node
def test_files_of_two_exports_are_no_page(tmp_path):
    show = 'console.log(JSON.stringify(told))'
    [ready] = in_worker(tmp_path / 'one', show)
    assert ready['type'] == 'ready'
    [error] = in_worker(tmp_path / 'two', show, digest='0' * 64)
    assert 'not of the same export' in error['text']
    again = "Object.defineProperty(globalThis, 'crypto', { value: {} })\ntold.length = 0\nawait ask('load')\n"
    [ready] = in_worker(tmp_path / 'three', again + show, digest='0' * 64)
    assert ready['type'] == 'ready'  # a page that is not secure cannot tell


NEWEST = """
const long = ask('analyse', file('long', 0.2, 60))
await wait(20)
await ask('analyse', file('short', 0.9, 0.5))
await long
const again = ask('analyse', file('long', 0.2, 60))
await wait(20)
const p = port()
await ask('listen', { port: p, rate: 8000, purpose: 'live' })
await again
await ask('stop')
console.log(JSON.stringify({ answers: types('answer').map((m) => m.name), errors: types('error') }))
"""


@needs_node
def test_the_answer_is_for_the_newest_sound(tmp_path):
    assert in_worker(tmp_path, NEWEST) == {'answers': ['short'], 'errors': []}


LONG = """
await ask('analyse', file('long', 0.2, 1800))
const [{ seconds, segments, columns }] = types('answer')
console.log(JSON.stringify({ seconds, segments, windows: types('progress').length, columns: columns.length }))
"""


@needs_node
def test_half_an_hour_is_answered(tmp_path):
    told = in_worker(tmp_path, LONG, seconds=5)
    assert (told['seconds'], told['windows'], told['columns']) == (1800, 719, 600)
    assert [(s['start'], s['end'], s['label']) for s in told['segments']] == [(0, 1800, 'a')]


LIVE = """
await ask('analyse', file('before', 0.2, 1))
const p = port()
await ask('listen', { port: p, rate: 8000, purpose: 'live' })
await hear(p, 0.2, 6)
await ask('setThreshold', { share: 0.9 })
await ask('learn', file('quiet', 0.2, 1))
await ask('learn', file('loud', 0.9, 1))
await ask('teach')
await hear(p, 0.9, 6)
await ask('unuse')
await hear(p, 0.9, 6)
await ask('stop')
const [{ segments }] = types('stopped')
const live = types('live').map((m) => [m.classes.length, m.answer.probabilities.length, m.classes[0]])
console.log(JSON.stringify({ segments, live, answers: types('answer').length, errors: types('error') }))
"""


@needs_node
def test_a_class_that_is_taught_while_it_listens_is_in_the_timeline(tmp_path):
    told = in_worker(tmp_path, LIVE)
    assert told['answers'] == 1 and told['errors'] == []  # the file before does not come back
    labels = [s['label'] for s in told['segments']]
    assert labels[0] == 'a' and 'loud' in labels and labels[-1] == 'b' and None not in labels
    times = [t for s in told['segments'] for t in (s['start'], s['end'])]
    assert times == sorted(times)
    assert {tuple(row) for row in told['live']} == {(2, 2, 'a'), (2, 2, 'quiet')}


ANEW = """
await ask('analyse', file('before', 0.2, 1))
await ask('learn', file('quiet', 0.2, 1))
await ask('learn', file('loud', 0.9, 1))
await ask('teach')
await ask('setThreshold', { share: 0.9 })
console.log(JSON.stringify(types('answer').map((m) => [m.isNew, m.classes[0]])))
"""


@needs_node
def test_an_answer_that_changes_is_not_told_as_a_new_sound(tmp_path):
    "The page says what a new sound is; else its status keeps what was taught."
    assert in_worker(tmp_path, ANEW) == [[True, 'a'], [False, 'quiet'], [False, 'quiet']]


RATES = """
const found = []
for (const rate of [48000, 44100]) {
  told.length = 0
  const p = port()
  await ask('listen', { port: p, rate, purpose: 'live' })
  for (let n = 0; n < 5 * rate; n += 1024) {
    p.onmessage({ data: new Float32Array(1024).fill(0.5) })
    await wait(4)
  }
  await ask('stop')
  found.push(types('live').length)
}
console.log(JSON.stringify(found))
"""


@needs_node
def test_a_live_sound_is_answered_ten_times_a_second(tmp_path):
    "After the first half second, wherever the blocks of the microphone end."
    assert min(in_worker(tmp_path, RATES)) >= 45


BROKEN = """
const p = port()
await ask('listen', { port: p, rate: 8000, purpose: 'live' })
await hear(p, 2, 3)
const order = told.map((m) => m.type).filter((t) => t !== 'ready')
await ask('stop')
const q = port()
await ask('listen', { port: q, rate: 8000, purpose: 'record' })
q.onmessage({ data: tone(2, 60) })
await wait(100)
await ask('listen', { port: port(), rate: 8000, purpose: 'record' })
await ask('stop')
console.log(JSON.stringify({ order, errors: types('error').map((m) => m.text) }))
"""


@needs_node
def test_an_error_while_it_listens_ends_that(tmp_path):
    told = in_worker(tmp_path, BROKEN)
    assert told['order'] == ['stopped', 'error']
    words = ['not probabilities', 'not probabilities', 'record for a second']
    assert len(told['errors']) == 3
    assert all(word in text for word, text in zip(words, told['errors']))


LAST = """
await ask('listen', { port: port(tone(0.9, 2)), rate: 8000, purpose: 'record', sound: 7 })
await ask('stop')
await ask('clear')
await ask('setThreshold', { share: 0.9 })
const answers = types('answer').map((m) => [m.seconds, m.sound])
console.log(JSON.stringify({ answers, errors: types('error') }))
"""


@needs_node
def test_the_last_samples_of_a_recording_count_and_a_cleared_one_does_not_come_back(tmp_path):
    assert in_worker(tmp_path, LAST) == {'answers': [[2, 7]], 'errors': []}


TESTED = """
for (const level of [0.2, 0.21, 0.22]) await ask('learn', { ...file('quiet', level, 1) })
for (const level of [0.9, 0.92]) await ask('learn', { ...file('loud', level, 1) })
await ask('learn', file('middle', 0.55, 1))
await ask('teach')
const used = types('taught').map((m) => m.used.join())
console.log(JSON.stringify({ used, order: told.slice(-3).map((m) => m.type), found: types('tested') }))
"""


@needs_node
def test_the_page_says_how_many_recordings_it_names_right_without_them(tmp_path):
    told = in_worker(tmp_path, TESTED)
    assert told['order'] == ['teaching', 'taught', 'tested']
    assert told['used'] == ['', '', '', '', '', '', 'quiet,loud,middle']
    [found] = told['found']
    assert (found['tested'], found['alone']) == (5, ['middle'])
    assert 4 <= found['right'] <= 5


KEPT = """
await ask('learn', file('quiet', 0.2, 1))
await ask('learn', { ...file('secret name.wav', 0.5, 3), label: 'more' })
await ask('save')
const saved = types('saved')[0].text
await ask('learn', file('loud', 0.9, 1))
await ask('loadTaught', { text: saved })
await ask('forget', { label: 'quiet' })
const lists = types('taught').map((m) => m.taught.map((t) => `${t.label} ${t.recordings}`).join())
const forgot = types('taught').at(-1)
told.length = 0
await ask('forget')
await ask('loadTaught', { text: saved.replaceAll('"more"', '"quiet"') })
console.log(JSON.stringify({ saved, lists, forgot, end: told.map((m) => m.type), error: told.at(-1).text }))
"""


@needs_node
def test_what_is_loaded_comes_to_what_is_there(tmp_path):
    told = in_worker(tmp_path, KEPT)
    saved = json.loads(told['saved'])['examples']
    assert 'secret' not in told['saved'] and {e['source'] for e in saved} == {'1', '2'}
    assert [e['label'] for e in saved].count('more') == 5
    assert told['lists'][2] == told['lists'][3] == told['lists'][4] == 'quiet 1,more 1,loud 1'
    assert told['lists'][5] == 'more 1,loud 1' and told['forgot']['forgot'] == 'quiet'
    assert told['forgot']['used'] == []
    assert told['end'] == ['taught', 'taught', 'teaching', 'error']  # the list comes first
    assert 'One class alone' in told['error']


TEACH = """
const { fit, probabilities, farness, savedText, loadedExamples } = await import(`${WEB}/teach.js`)
const layer = await fit(data.examples, data.known, data.classes)
const model = { sha256: 'x', name: 'm', width: data.known[0].embedding.length, classes: data.classes }
const saved = savedText(data.examples, model)
const refused = []
const others = [[saved, { sha256: 'y' }], ['{}', {}], ['no', {}], [saved, { width: 1 }]]
for (const [text, change] of others) {
  try { loadedExamples(text, { ...model, ...change }) } catch (error) { refused.push(error.message) }
}
try { await fit(data.examples, [], data.classes) } catch (error) { refused.push(error.message) }
console.log(JSON.stringify({
  classes: layer.classes, refused, kept: loadedExamples(saved, model).length,
  found: data.asked.map((a) => probabilities(layer, a.embedding, a.logs)),
  far: data.asked.map((a) => farness(layer, a.embedding)),
}))
"""


UNSURE = [-0.7, -0.7]  # logarithms of two probabilities


def rows_around(rng, centre: np.ndarray, n: int, label: str, logs: list) -> list[dict]:
    rows = centre + rng.normal(0, 1, (n, len(centre)))
    return [
        {'label': label, 'source': f'{label} {i}', 'embedding': row.tolist(), 'logs': logs}
        for i, row in enumerate(rows)
    ]


def cats_and_dogs(rng, cat: np.ndarray, dog: np.ndarray) -> list[dict]:
    "Examples of two classes of a model, twenty each; the model is not sure of any."
    return rows_around(rng, cat, 20, 'cat', UNSURE) + rows_around(rng, dog, 20, 'dog', UNSURE)


@needs_node
def test_a_taught_class_stands_beside_those_of_the_model():
    rng = np.random.default_rng(0)
    cat, dog, owl, else_ = rng.normal(0, 2, (4, 30))
    sure = {'cat': [-0.05, -3.0], 'dog': [-3.0, -0.05], 'owl': [-0.2, -1.7]}
    places = {'cat': cat, 'dog': dog, 'owl': owl}

    def rows(label, n):
        return rows_around(rng, places[label], n, label, sure[label])

    strange = rows_around(rng, else_, 5, '?', [-0.7, -0.7])
    asked = [*rows('cat', 5), *rows('dog', 5), *rows('owl', 5), *strange]
    data = {'classes': ['cat', 'dog'], 'known': rows('cat', 20) + rows('dog', 20), 'examples': rows('owl', 4)}
    told = in_node(TEACH, data | {'asked': asked})
    assert told['classes'] == ['cat', 'dog', 'owl'] and told['kept'] == 4
    named = [told['classes'][int(np.argmax(p))] for p in told['found'][:15]]
    assert named == ['cat'] * 5 + ['dog'] * 5 + ['owl'] * 5
    np.testing.assert_allclose(np.sum(told['found'], 1), 1, atol=1e-9)
    far = [row[2] for row in told['far']]
    assert [row[:2] for row in told['far']] == [[None, None]] * 20
    assert max(far[10:15]) <= 1 < min(far[15:])
    words = ['another model', 'no taught classes', 'no taught classes', 'damaged', 'One class alone']
    assert len(told['refused']) == len(words)
    assert all(word in sentence for word, sentence in zip(words, told['refused']))


HELD_OUT = """
const { heldOut } = await import(`${WEB}/teach.js`)
const found = []
for (const examples of data.taught) found.push(await heldOut(examples, data.known, data.classes))
console.log(JSON.stringify(found))
"""


@needs_node
def test_recordings_are_named_by_layers_fitted_without_them():
    rng = np.random.default_rng(2)
    cat, dog, owl, bat = rng.normal(0, 2, (4, 30))
    known = cats_and_dogs(rng, cat, dog)
    owls, bats = rows_around(rng, owl, 6, 'owl', UNSURE), rows_around(rng, bat, 5, 'bat', UNSURE)
    scattered = [rows_around(rng, c, 1, 'all sorts', UNSURE)[0] for c in rng.normal(0, 2, (6, 30))]
    odd = [row | {'source': f'odd {i}'} for i, row in enumerate(scattered)]
    copies = [owls[0] | {'source': f'copy {i}'} for i in range(3)]
    taught = [owls + bats, odd, owls + bats[:1], copies]
    sure, none, one, alone = in_node(
        HELD_OUT, {'classes': ['cat', 'dog'], 'known': known, 'taught': taught}
    )
    assert sure == {'right': 11, 'tested': 11, 'alone': []}
    assert none['tested'] == 6 and none['right'] <= 2  # a layer that had seen them would name all
    assert one == {'right': 6, 'tested': 6, 'alone': ['bat']}
    assert alone == {'right': 0, 'tested': 0, 'alone': ['owl']}


ALONE = """
const { fit, farness } = await import(`${WEB}/teach.js`)
const found = []
for (const examples of data.taught) {
  const layer = await fit(examples, data.known, data.classes)
  found.push(data.asked.map((a) => farness(layer, a.embedding)[2]))
}
console.log(JSON.stringify(found))
"""


@needs_node
def test_what_is_far_from_one_recording_is_unknown_too():
    rng = np.random.default_rng(1)
    cat, dog, owl, else_ = rng.normal(0, 2, (4, 60))
    known = cats_and_dogs(rng, cat, dog)
    owls = rows_around(rng, owl, 6, 'owl', UNSURE)
    twice = [owls[0], owls[0] | {'source': 'a copy'}]
    strange = rows_around(rng, else_, 5, '?', UNSURE)
    outlier = owls[0] | {'source': 'another', 'embedding': strange[0]['embedding']}
    data = {'classes': ['cat', 'dog'], 'known': known, 'asked': owls[1:] + strange[1:]}
    for far in in_node(ALONE, data | {'taught': [owls[:1], twice]}):
        assert max(far[:5]) <= 1 < min(far[5:])
    [far] = in_node(ALONE, data | {'taught': [[owls[0], outlier]], 'asked': known})
    assert min(far) > 1  # one odd recording does not make everything near


# Refusals


def test_the_sources_of_the_page_are_readable():
    files = [f for kind in ('js', 'html', 'css', 'txt') for f in (ROOT / 'web').glob(f'*.{kind}')]
    rows = [(file.name, row) for file in files for row in file.read_text(encoding='utf-8').split('\n')]
    assert len(files) > 10 and [row for row in rows if len(row[1]) > 110] == []
    notices = (ROOT / 'web' / 'LICENSES.txt').read_text()
    version = json.loads((ROOT / 'web' / 'package.json').read_text())['dependencies']['onnxruntime-web']
    assert f'onnxruntime/blob/v{version}/ThirdPartyNotices.txt' in notices


def a_model_writer(name: str, card: bool, ends: bool = False):
    "Stands for the export of a model that is ended after its first file."

    def write(source: Path, target: Path, clips: str):
        target.mkdir()
        (target / 'model.onnx').write_text(name)
        if ends:
            raise KeyboardInterrupt
        (target / 'model.json').write_text(json.dumps({'name': name, 'card': card}))
        (target / 'known.json').write_text(name)
        if card:
            (target / 'CARD.md').write_text(name)

    return write


def texts_in(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_an_export_that_is_ended_early_leaves_the_earlier_page(tmp_path, monkeypatch):
    built, page = tmp_path / 'built', tmp_path / 'sub' / 'page'
    built.mkdir()
    for name in PAGE:
        (built / name).write_text(name)
    monkeypatch.setattr('soundclf.tools.web_page.built_page', lambda: built)

    def export(*how):
        monkeypatch.setattr('soundclf.tools.web_page._write_model', a_model_writer(*how))
        return export_web('scratch', page)

    with pytest.raises(KeyboardInterrupt):
        export('first', True, True)
    assert list(page.parent.iterdir()) == []  # nothing of it is left
    assert export('first', True) == page / 'index.html'
    whole = texts_in(page)
    assert {*PAGE, 'model.json', 'model.onnx', 'known.json', 'CARD.md'} == set(whole)
    with pytest.raises(KeyboardInterrupt):
        export('second', False, True)
    assert texts_in(page) == whole
    (page / '.htaccess').touch()  # of whoever serves it
    export('second', False)
    assert set(texts_in(page)) == {*whole, '.htaccess'} - {'CARD.md'}
    assert texts_in(page)['model.onnx'] == texts_in(page)['known.json'] == 'second'


@pytest.mark.parametrize('names', [['model.json'], ['model.json', 'model.onnx', 'app.js']])
def test_a_page_of_which_a_part_is_there_can_be_made_good(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()
    _check_target(tmp_path)
    (tmp_path / 'model.json').unlink()
    (tmp_path / 'index.html').touch()  # a page of the web, and none of ours
    with pytest.raises(SoundclfError, match='other files'):
        _check_target(tmp_path)


def test_a_page_needs_what_make_web_makes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('soundclf.tools.web_page.PAGE', ('index.html', 'nothing.js'))
    assert run(['export', 'scratch', '--web', str(tmp_path / 'page')]) == 1
    assert 'run `make web`' in capsys.readouterr().err
    assert not (tmp_path / 'page').exists()
    assert run(['export', 'scratch', '--web', 'page', '--int8']) == 1
    assert 'without --int8' in capsys.readouterr().err


# In the browser


def a_sound(kind: str, seconds: float, seed: int = 0) -> np.ndarray:
    "Ticks, a chirp, a hum or noise."
    rng, t = np.random.default_rng(seed), np.arange(round(seconds * RATE)) / RATE
    hiss = rng.normal(0, 0.01, len(t))
    waves = {
        'ticks': np.exp(-60 * (t % (0.2 + 0.01 * seed))) * rng.normal(0, 0.4, len(t)),
        'chirp': 0.4 * np.sin(2 * np.pi * (900 + 40 * seed + 700 * np.sin(9 * t)) * t / 3),
        'hum': 0.3 * np.sign(np.sin(2 * np.pi * (100 + 3 * seed) * t)),
        'noise': rng.normal(0, 0.2, len(t)),
    }
    return (waves[kind] + hiss).astype('float32')


def scored_copy(folder: Path) -> Path:
    "The shipped model with a score for sounds that are unlike some clips."
    shutil.copytree(package_models() / 'scratch', folder)
    (folder / 'model.onnx').unlink()
    model, features = waveform_model(folder)
    kinds = np.repeat(['ticks', 'chirp', 'noise'], 8)
    waves = np.stack([a_sound(kind, 5, i) for i, kind in enumerate(kinds)])[:, None]
    with torch.inference_mode():
        found = opened(model.network)(model.front(torch.from_numpy(waves)))
    e, energy = found.embedding.numpy(), found.energy.numpy()
    reference = fit_reference(e, np.repeat([0, 1, 2], 8))
    terms = unlike_terms(reference, e, energy)
    reference = scaled_reference(reference, terms)
    scores = unlike_scores(reference, terms)
    wide = [30 * q for q in score_quantiles(scores)]  # so that some mixtures of the clips are known too
    answers = {'temperature': 1.3, 'kept': 0.95, 'quantiles': wide}
    digest = save_reference(reference, folder)
    write_config(read_config(folder) | {'answers': answers | {'reference_sha256': digest}}, folder)
    return folder


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    "The folder of a page, the classifier that it stands for, and sounds."
    home = tmp_path_factory.mktemp('web')
    folder = scored_copy(home / 'ear')
    for kind, label in (('ticks', 'keyboard_typing'), ('noise', 'vacuum_cleaner')):
        (home / 'clips' / label).mkdir(parents=True)
        for i in range(6):
            sf.write(home / 'clips' / label / f'{i}.wav', a_sound(kind, 5, 20 + i), RATE)
    index = export_web(folder, home / 'page', str(home / 'clips'))
    return index.parent, Classifier.load(folder, 'torch'), home


SLOW = 150_000  # milliseconds


@contextlib.contextmanager
def opened_page(folder: Path, microphone: Path | None = None, script: str = ''):
    "A tab with the page, ready; asserts in the end that it asked nobody else, and that nothing failed."
    with static_server(folder) as address, open_browser(microphone) as context:
        tab, asked, failures = context.new_page(), [], []
        context.on('request', lambda request: asked.append(request.url))
        tab.on('console', lambda m: failures.append(m.text) if m.type == 'error' else None)
        tab.on('pageerror', lambda error: failures.append(str(error)))
        tab.add_init_script(script)
        tab.goto(address, timeout=SLOW)
        tab.locator('html[data-ready]').wait_for(timeout=SLOW)
        yield tab
        own = (address, f'blob:{address}')
        assert [url for url in asked if not url.startswith(own)] == []
        assert failures == []


def answer_of(tab, file: Path) -> dict:
    "What the page says about a file."
    tab.evaluate("delete document.documentElement.dataset.answer")
    tab.set_input_files('#file', str(file))
    while (answer := told(tab, 'answer'))['name'] != file.name:  # an earlier one, told anew
        tab.wait_for_timeout(50)
    return answer


def told(tab, name: str) -> dict:
    "What the page has written down of an answer; its policy forbids to wait by a script."
    tab.locator(f'html[data-{name}]').wait_for(timeout=SLOW)
    return json.loads(tab.evaluate(f"document.documentElement.dataset.{name}"))


def same(page: dict, clf: Classifier, file: Path) -> float:
    "The largest difference of a probability; asserts that label and note are those of Python."
    ours = clf.predict(file)
    assert (page['answer']['label'], page['answer']['note']) == (ours.label, ours.note)
    gaps = np.abs(np.subtract(page['answer']['probabilities'], list(ours.probabilities.values())))
    return float(gaps.max())


def nothing_is_shown(tab) -> bool:
    "Whether the page shows no answer: not even that of the sound before."
    texts = [tab.locator(f'#{name}').text_content() for name in ('label', 'note', 'spoken', 'segments')]
    bars = set(tab.locator('#bars span:last-child').all_text_contents())
    buttons = [tab.get_by_role('button', name=n) for n in ('Labels as CSV', 'Labels for Audacity')]
    is_off = all(b.is_disabled() for b in buttons) and tab.locator('#player').is_hidden()
    return is_off and texts == ['Nothing yet', '', '', ''] and bars == {'0 %'}


def nothing_to_take_along(tab, file: Path):
    "A silent file has no segments, and the page says so."
    sf.write(file, np.zeros(6 * RATE), RATE)
    answer = answer_of(tab, file)
    assert answer['answer']['note'] == 'silent' and not answer['segments']
    tab.get_by_text('No segment: all of it is silent or unknown.').wait_for(timeout=SLOW)
    assert tab.get_by_role('button', name='Labels as CSV').is_disabled()


@needs_page
@needs_chromium
def test_files_get_the_answers_of_python(page):
    folder, clf, home = page
    pieces = [a_sound('ticks', 5), np.zeros(3 * RATE, 'float32'), a_sound('noise', 6), a_sound('hum', 5)]
    both = np.stack([a_sound('noise', 5, 3), 0.5 * a_sound('ticks', 5, 4)], 1)
    sounds = {
        'ticks.wav': a_sound('ticks', 5),
        'short.wav': a_sound('noise', 1.7),
        'stereo.flac': both,
        'cancels.wav': both[:, :1] * [1, -1],
        'silent.wav': np.zeros(RATE),
        'hum.wav': a_sound('hum', 5),
        'long.wav': np.concatenate(pieces),
    }
    with opened_page(folder) as tab:
        for name, wave in sounds.items():
            file = home / name
            sf.write(file, wave, RATE, subtype='PCM_16')
            answer = answer_of(tab, file)
            assert same(answer, clf, file) <= 1e-3, name
        segments = timeline(clf.stream(home / 'long.wav'), clf.classes, clf.score_limit)
        found = pd.DataFrame(answer['segments'], columns=list(segments))
        pd.testing.assert_frame_equal(found, segments, check_dtype=False, atol=1e-3)
        assert len(segments) >= 2 and any(np.diff(np.ravel(segments[['start', 'end']])) > 0)
        for rate in (22050, 48000):
            file = home / f'{rate}.wav'
            sf.write(file, soxr.resample(a_sound('ticks', 5), RATE, rate), rate, subtype='FLOAT')
            gap = same(answer_of(tab, file), clf, file)
            print(f'{rate} Hz: largest difference of a probability {gap:.1e}')
            assert gap <= 5e-3
        (home / 'broken.wav').write_bytes(b'RIFF1234WAVE')
        tab.set_input_files('#file', str(home / 'broken.wav'))
        tab.get_by_text('broken.wav cannot be decoded').wait_for(timeout=SLOW)
        assert nothing_is_shown(tab)
        nothing_to_take_along(tab, home / 'silent.wav')


@needs_page
@needs_chromium
def test_the_policy_holds(page):
    with opened_page(page[0]) as tab:
        policy = tab.locator('meta[http-equiv=Content-Security-Policy]').get_attribute('content')
    rules = dict(part.split(None, 1) for part in policy.split(';'))
    assert rules['default-src'] == "'none'" and rules['connect-src'] == "'self'"
    assert rules['script-src'] == "'self' 'wasm-unsafe-eval'" and rules['worker-src'] == "'self'"
    with static_server(page[0]) as address, static_server(page[2]) as elsewhere, open_browser() as context:
        tab = context.new_page()
        tab.goto(address, timeout=SLOW)
        attempt = f"fetch('{elsewhere}').then(() => 'sent', (e) => String(e))"
        assert 'Failed to fetch' in tab.evaluate(attempt)
        assert "sent" == tab.evaluate(f"fetch('{address}model.json').then(() => 'sent')")


@needs_page
@needs_chromium
def test_the_microphone_gives_the_answer_of_python(page, tmp_path):
    folder, clf, home = page
    sf.write(home / 'played.wav', a_sound('ticks', 5, 2), 48000)
    with opened_page(folder, home / 'played.wav') as tab:
        tab.get_by_role('button', name='Record', exact=True).click()
        tab.get_by_text(re.compile('Recording: [2-9]')).wait_for(timeout=SLOW)
        tab.get_by_role('button', name='Stop recording').click()
        answer = told(tab, 'answer')
        with tab.expect_download() as download:
            tab.get_by_role('button', name='The recording as WAV').click()
        download.value.save_as(tmp_path / 'recording.wav')
        assert np.abs(sf.read(tmp_path / 'recording.wav')[0]).max() > 0.05
        assert same(answer, clf, tmp_path / 'recording.wav') <= 1e-3

        tab.get_by_role('button', name='Listen').click()
        live = told(tab, 'live')
        while live['seconds'] < 4:
            tab.wait_for_timeout(200)
            live = told(tab, 'live')
        print(f'an answer in {live["took"]:.0f} ms')
        assert live['answer']['note'] not in ('silent', 'too quiet')
        assert math.isclose(sum(live['answer']['probabilities']), 1, abs_tol=1e-3)
        tab.get_by_role('button', name='Stop', exact=True).click()
        tab.get_by_text('Stopped after').wait_for(timeout=SLOW)
        for button, ending in (('Labels as CSV', '.csv'), ('Labels for Audacity', '.txt')):
            with tab.expect_download() as download:
                tab.get_by_role('button', name=button).click()
            assert download.value.suggested_filename == f'microphone{ending}'


COUNT_ANSWERS = """
window.answers = []
const count = () => window.answers.push(performance.now())
document.addEventListener('DOMContentLoaded', () => new MutationObserver(count).observe(
  document.documentElement, { attributeFilter: ['data-live'] }))
"""


@needs_page
@needs_chromium
def test_what_the_first_answer_and_live_answers_take(page):
    folder, clf, home = page
    sf.write(home / 'first.wav', a_sound('ticks', 5), RATE)
    sf.write(home / 'heard.wav', a_sound('ticks', 5), 48000)
    with static_server(folder) as address, open_browser(home / 'heard.wav') as context:
        tab = context.new_page()
        tab.add_init_script(COUNT_ANSWERS)
        began = time.perf_counter()
        tab.goto(address, timeout=SLOW)
        tab.locator('html[data-ready]').wait_for(timeout=SLOW)
        ready = time.perf_counter() - began
        assert same(answer_of(tab, home / 'first.wav'), clf, home / 'first.wav') <= 1e-3
        print(f'ready in {ready:.2f} s, first answer {time.perf_counter() - began:.2f} s after the address')
        press(tab, 'Listen')
        while told(tab, 'live')['seconds'] < 8:
            tab.wait_for_timeout(500)
        times = tab.evaluate('window.answers')
        took = told(tab, 'live')['took']
    rates = [sum(a <= t < a + 1000 for t in times) for a in np.arange(times[0], times[-1] - 1000, 1000)]
    print(f'live answers in each second: {rates}, one in {took:.0f} ms')
    assert len(times) >= 2


COUNT_STREAMS = """
window.streams = []
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices)
navigator.mediaDevices.getUserMedia = async (wish) => {
  await new Promise((done) => setTimeout(done, 500)) // a person reads the question
  const stream = await open(wish)
  window.streams.push(stream)
  return stream
}
"""


@needs_page
@needs_chromium
def test_a_broken_file_leaves_nothing_of_the_live_sound(page):
    folder, _, home = page
    sf.write(home / 'live.wav', a_sound('ticks', 5), 48000)
    (home / 'not.wav').write_bytes(b'RIFF1234WAVE')
    with opened_page(folder, home / 'live.wav') as tab:
        press(tab, 'Listen')
        told(tab, 'live')
        tab.set_input_files('#file', str(home / 'not.wav'))
        tab.get_by_text('not.wav cannot be decoded').wait_for(timeout=SLOW)
        tab.get_by_role('button', name='Listen', exact=True).wait_for(timeout=SLOW)
        tab.wait_for_timeout(700)
        assert nothing_is_shown(tab)


@needs_page
@needs_chromium
def test_one_microphone_is_open_however_often_it_is_asked_for(page):
    folder, _, home = page
    sf.write(home / 'twice.wav', a_sound('ticks', 5), 48000)
    open_now = "window.streams.map((s) => s.getTracks().some((t) => t.readyState === 'live'))"
    with opened_page(folder, home / 'twice.wav', COUNT_STREAMS) as tab:
        tab.get_by_role('button', name='Listen').dblclick()
        press(tab, 'Record')
        told(tab, 'live')
        assert tab.evaluate(open_now) == [True]
        tab.set_input_files('#example-files', str(home / 'twice.wav'))
        tab.get_by_text('The class has no name yet').wait_for(timeout=SLOW)
        assert tab.evaluate(open_now) == [True]  # another error leaves it open
        press(tab, 'Stop')
        tab.get_by_text('Stopped after').wait_for(timeout=SLOW)
        assert tab.evaluate(open_now) == [False]
        press(tab, 'Record')
        tab.get_by_text('Recording').wait_for(timeout=SLOW)
        tab.set_input_files('#file', str(home / 'twice.wav'))
        tab.get_by_text('stop it, then open the file').wait_for(timeout=SLOW)
        press(tab, 'Stop recording')
        assert told(tab, 'answer')['name'] == 'recording.wav'


def press(tab, name: str):
    tab.get_by_role('button', name=name, exact=True).click()


def taught_page(tab, home: Path):
    "Teaches a page what a fridge sounds like, from three files."
    assert tab.get_by_role('button', name='Teach', exact=True).is_disabled()
    tab.set_input_files('#example-files', str(home / 'hum 0.wav'))
    tab.get_by_text('The class has no name yet').wait_for()
    tab.get_by_label('Class', exact=True).fill('fridge')
    tab.set_input_files('#example-files', [str(home / f'hum {i}.wav') for i in range(3)])
    tab.get_by_text('fridge: 3 recordings').wait_for(timeout=SLOW)
    press(tab, 'Teach')
    tab.get_by_text('Taught: fridge').wait_for(timeout=SLOW)
    assert tab.locator('#about').text_content().endswith('You taught it: fridge.')
    tab.get_by_text(re.compile('[0-3] of 3 recordings were named right')).wait_for(timeout=SLOW)
    assert tab.locator('#status').bounding_box()['y'] >= 0  # in sight, however far down Teach is


def forgetting(tab, file: Path):
    "Teaches a page one more class, which it forgets again."
    tab.get_by_label('Class', exact=True).fill('kettle')
    tab.set_input_files('#example-files', str(file))
    tab.get_by_text('kettle: 1 recording').wait_for(timeout=SLOW)
    press(tab, 'Forget kettle')
    tab.get_by_text('kettle is forgotten. Press Teach to use the rest.').wait_for(timeout=SLOW)
    press(tab, 'Teach')
    tab.get_by_text('Taught: fridge').wait_for(timeout=SLOW)


@needs_page
@needs_chromium
def test_it_can_be_taught_and_keeps_what_it_was_taught(page, tmp_path):
    folder, clf, home = page
    for i in range(4):
        sf.write(home / f'hum {i}.wav', a_sound('hum', 5, i), RATE)
    sf.write(home / 'known.wav', a_sound('ticks', 5, 9), RATE)
    with opened_page(folder) as tab:
        before = answer_of(tab, home / 'known.wav')
        taught_page(tab, home)
        taught = answer_of(tab, home / 'hum 3.wav')
        assert taught['answer']['label'] == 'fridge' and taught['classes'] == [*clf.classes, 'fridge']
        assert answer_of(tab, home / 'known.wav')['answer']['best'] == before['answer']['best']
        with tab.expect_download() as download:
            press(tab, 'Save what you taught')
        download.value.save_as(tmp_path / 'taught.json')
        forgetting(tab, home / 'known.wav')
        press(tab, 'Answer without it')
        assert same(answer_of(tab, home / 'hum 3.wav'), clf, home / 'hum 3.wav') <= 1e-3
    with opened_page(folder) as tab:
        tab.set_input_files('#load', str(tmp_path / 'taught.json'))
        tab.get_by_text('Taught: fridge').wait_for(timeout=SLOW)
        again = answer_of(tab, home / 'hum 3.wav')
        gaps = np.subtract(again['answer']['probabilities'], taught['answer']['probabilities'])
        assert np.abs(gaps).max() < 1e-4
        tab.set_input_files('#load', str(home / 'known.wav'))
        tab.get_by_text('This file holds no taught classes').wait_for()


@needs_page
@needs_chromium
def test_a_phone_and_a_keyboard_are_enough(page):
    folder, _, home = page
    sf.write(home / 'typed.wav', a_sound('ticks', 5), RATE)
    with opened_page(folder) as tab:
        tab.set_viewport_size({'width': 360, 'height': 740})
        answer_of(tab, home / 'typed.wav')
        assert tab.evaluate('document.documentElement.scrollWidth') <= 360
        heights = tab.evaluate(
            "[...document.querySelectorAll('main .buttons > *:not(.hint)')].map((e) => e.offsetHeight)"
        )
        assert min(h for h in heights if h) >= 44
        reached = set()
        for _ in range(40):
            tab.keyboard.press('Tab')
            reached.add(tab.evaluate('document.activeElement.id'))
        assert {'live', 'record', 'file', 'threshold', 'csv', 'audacity', 'new-label', 'example'} <= reached
        assert tab.locator('#spoken').get_attribute('aria-live') == 'polite'
        assert tab.locator('#spoken').inner_text()
        assert tab.get_by_role('img', name='Spectrogram of 5.0 seconds').count() == 1
        assert tab.get_by_role('img', name='Timeline').count() == 1
        assert tab.get_by_role('slider').count() == 1
        assert tab.get_by_text('95 % of the sounds of the training classes keep their label').count() == 1
        assert tab.get_by_text('a window is 5 s long, and one begins every 2.5 s').count() == 1
        assert tab.get_by_role('link', name='its card').get_attribute('href') == 'CARD.md'
    assert 'Licence' in (folder / 'CARD.md').read_text()
