"The page of a model: its rules are those of Python, and it answers the same in a real Chromium."

import contextlib
import json
import math
import re
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import soxr
import torch
from browser import CHROMIUM, open_browser

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
from soundclf.tools.web_page import built_page, export_web
from soundclf.tools.windows import Window

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


def in_node(script: str, data) -> dict | list:
    "What a script prints that imports from `web/` and reads `data`."
    head = f"const WEB = '{(ROOT / 'web').as_uri()}'\nconst data = JSON.parse(await text())\n"
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


def rows_around(rng, centre: np.ndarray, n: int, label: str, logs: list) -> list[dict]:
    rows = centre + rng.normal(0, 1, (n, len(centre)))
    return [
        {'label': label, 'source': f'{label} {i}', 'embedding': row.tolist(), 'logs': logs}
        for i, row in enumerate(rows)
    ]


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


# Refusals


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
    answers = {'temperature': 1.3, 'kept': 0.95, 'quantiles': score_quantiles(scores)}
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


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextlib.contextmanager
def static_server(folder: Path):
    "The address of a plain web server."
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f'http://127.0.0.1:{server.server_port}/'
    finally:
        server.shutdown()


SLOW = 150_000  # milliseconds


@contextlib.contextmanager
def opened_page(folder: Path, microphone: Path | None = None):
    "A tab with the page, ready; asserts in the end that it asked nobody else, and that nothing failed."
    with static_server(folder) as address, open_browser(microphone) as context:
        tab, asked, failures = context.new_page(), [], []
        context.on('request', lambda request: asked.append(request.url))
        tab.on('console', lambda m: failures.append(m.text) if m.type == 'error' else None)
        tab.on('pageerror', lambda error: failures.append(str(error)))
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
    return told(tab, 'answer')


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
