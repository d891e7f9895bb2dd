"The pages of the app: each opens, answers, and shows errors as sentences."

import base64
import http.client
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import CHROMIUM, MOST, go, open_browser, record, serve, settle, turn_to
from processes import HANGS
from streamlit.testing.v1 import AppTest

from soundclf.core.decoding import decode
from soundclf.core.esc50 import synthetic
from soundclf.tools.answers import answer_text
from soundclf.tools.app import PAGES
from soundclf.tools.app_label import KEYS
from soundclf.tools.app_parts import plain, remembered
from soundclf.tools.app_start import EXAMPLE
from soundclf.tools.app_train import is_training, last_lines
from soundclf.tools.classifier import Classifier
from soundclf.tools.label_rows import stretches_of
from soundclf.tools.labels import load_labels
from soundclf.tools.models import model_names
from soundclf.tools.timeline import timeline
from soundclf.tools.training import train_model

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='module')
def app_home(lone_home):
    "A home folder with data, a trained model and its results."
    table = synthetic(per_fold=2)
    table = table[table.label.isin(['bell', 'noise', 'sawtooth', 'tone'])].reset_index(drop=True)
    train_model(table, 'synthetic', lone_home / 'models' / 'tiny', 'scratch', profile='quick')
    return lone_home, table


def usual() -> str:
    "The model that the app offers first."
    return 'scratch' if 'scratch' in model_names() else 'tiny'


def open_page(name: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / 'app.py'), default_timeout=HANGS).run()
    return app.sidebar.radio[0].set_value(name).run()


def press(app: AppTest, label: str):
    next(b for b in app.button if b.label == label).click().run()
    assert not app.exception


def has_caption(app: AppTest, words: str) -> bool:
    return any(words in c.value for c in app.caption)


@pytest.mark.parametrize('name', PAGES)
def test_every_page_opens(app_home, name):
    app = open_page(name)
    title = 'What is this sound?' if name == 'Start' else name
    assert not app.exception and app.header[0].value == title and not app.error


def test_the_start_page_answers_and_leads_on(app_home):
    app = AppTest.from_file(str(ROOT / 'app.py'), default_timeout=HANGS).run()
    press(app, 'Name this sound')
    expected = Classifier.load(usual()).predict(EXAMPLE)
    assert (expected.label or expected.note) in app.subheader[0].value
    press(app, 'Train')
    assert app.header[0].value == 'Train' and app.sidebar.radio[0].value == 'Train'


def test_explore_filters(app_home):
    app = open_page('Explore')
    app.selectbox[0].set_value('synthetic').run()
    assert not app.exception and has_caption(app, '200 of 200 clips')
    app.multiselect[0].set_value(['tone']).run()
    assert not app.exception and has_caption(app, '20 of 200 clips')
    assert app.selectbox[0].options[0] == 'a folder of mine'
    app.selectbox[0].set_value('a folder of mine').run()
    app.text_input[0].set_value('/nowhere/sounds').run()
    assert not app.exception and 'does not exist' in app.error[0].value


def test_evaluate_shows_intervals_and_clips(app_home):
    app = open_page('Evaluate')
    assert not app.exception
    results = app.dataframe[0].value
    assert results['clips'].tolist() == [40]
    assert (results['low'] <= results['accuracy %']).all()
    assert (results['accuracy %'] <= results['high']).all()
    app.selectbox[2].set_value('tone').run()
    app.selectbox[3].set_value('tone').run()
    assert not app.exception and has_caption(app, 'clips of tone predicted as tone')


def test_classify_answers_uploads_and_recordings(app_home):
    _, table = app_home
    good, tone = Path(table.path[0]).read_bytes(), Path(table.path[1]).read_bytes()
    app = open_page('Classify')
    app.file_uploader[0].set_value(
        [('one.wav', good, 'audio/wav'), ('../bad.wav', b'RIFF', 'audio/wav')]
    ).run()
    assert not app.exception and '../bad.wav cannot be decoded' in app.error[0].value
    answers = app.dataframe[0].value
    assert answers['file'].tolist() == ['one.wav']
    assert answers['label'][0] == Classifier.load(usual()).predict(table.path[0]).label
    app = open_page('Classify')
    app.audio_input[0].set_value(('spoken.wav', tone, 'audio/wav')).run()
    assert not app.exception and app.dataframe[0].value['file'].tolist() == ['recording.wav']
    assert not app.error and not list(app_home[0].glob('**/*spoken*'))


def test_a_long_recording_is_answered_from_its_place(app_home):
    home, _ = app_home
    wave, rate = decode(EXAMPLE)
    soundfile.write(home / 'night.wav', np.tile(wave.mean(0), 4), rate)
    app = open_page('Classify')
    app.selectbox[0].set_value('scratch').run()
    assert '10 classes' in app.expander[0].label and 'church' in app.markdown[0].value
    app.text_input[0].set_value(str(home / 'night.wav')).run()
    assert not app.exception and not app.error
    clf = Classifier.load('scratch')
    found = timeline(clf.stream(home / 'night.wav'), clf.classes, clf.score_limit)
    assert app.dataframe[0].value.label.tolist() == found.label.tolist() != []
    app.text_input[0].set_value(str(home)).run()
    assert 'is not a file' in sentences(app)


def queue_of(home: Path, table, name: str, count: int = 3) -> Path:
    "A folder of a few clips to be named."
    folder = home / name
    folder.mkdir(exist_ok=True)
    for path in table.path[:count]:
        shutil.copy(path, folder)
    return folder


def open_labels(folder: Path, model: str, more: str = '') -> AppTest:
    app = open_page('Label')
    app.selectbox[0].set_value(model).run()
    app.text_input[0].set_value(str(folder)).run()
    if more:
        app.text_input[1].set_value(more).run()
    assert not app.exception
    return app


def test_a_label_is_taken_back(app_home):
    folder = queue_of(*app_home, 'undone')
    app = open_labels(folder, 'none', 'cat, dog')
    assert not [b for b in app.button if b.label.startswith('take back')]
    press(app, 'cat')
    press(app, 'dog')
    first, second = load_labels(folder / 'labels.csv')
    press(app, plain(f'take back: {Path(second).name} is dog'))
    assert load_labels(folder / 'labels.csv') == {first: 'cat'}
    press(app, plain(f'take back: {Path(first).name} is cat'))
    assert load_labels(folder / 'labels.csv') == {}


def test_only_own_labels_and_keys_past_nine(app_home):
    folder = queue_of(*app_home, 'mine-only')
    app = open_labels(folder, 'tiny', ', '.join(f'class {i}' for i in range(12)))
    assert 'tone' in [b.label for b in app.button]
    app.checkbox[0].set_value(True).run()
    buttons = [b.label for b in app.button]
    assert 'tone' not in buttons and 'class 11' in buttons
    assert not [b for b in buttons if b.endswith('%)')]  # no suggestion from another world
    assert len(set(KEYS)) == len(KEYS) > 12 and not set(KEYS) & set('crsz')


def test_stretches_are_labelled_one_by_one(app_home):
    folder = queue_of(*app_home, 'night', 1)
    file = folder / 'labels.csv'
    app = open_labels(folder, 'none', 'cat, dog')
    press(app, 'Mark stretches of it')
    for span, label in (((0.0, 0.5), 'cat'), ((0.5, 1.0), 'dog')):
        app.slider[0].set_value(span).run()
        press(app, label)
    sound = next(folder.glob('*.wav'))
    assert stretches_of(file, sound).values.tolist() == [[0.0, 0.5, 'cat'], [0.5, 1.0, 'dog']]
    press(app, next(b.label for b in app.button if b.label.startswith('take back')))
    assert stretches_of(file, sound).label.tolist() == ['cat']
    press(app, 'Finished with this sound')
    assert 'All named' in app.success[0].value


def test_label_saves_at_once(app_home):
    home, table = app_home
    folder = home / 'new'
    folder.mkdir(exist_ok=True)
    for path in table.path[:3]:
        shutil.copy(path, folder)
    app = open_page('Label')
    app.selectbox[0].set_value('tiny').run()
    app.text_input[0].set_value(str(folder)).run()
    assert not app.exception
    press(app, 'tone')
    assert (folder / 'labels.csv').read_text().count(',tone') == 1
    press(app, 'skip')
    assert (folder / 'labels.csv').read_text().count('\n') == 2


def test_a_late_press_names_the_clip_it_was_drawn_for(app_home):
    home, table = app_home
    folder = home / 'shared'
    folder.mkdir(exist_ok=True)
    for path in table.path[:3]:
        shutil.copy(path, folder)
    one, two = open_page('Label'), open_page('Label')
    for app in (one, two):
        app.selectbox[0].set_value('tiny').run()
        app.text_input[0].set_value(str(folder)).run()
    other = next(c for c in table.label if c != 'tone')
    press(one, 'tone')
    press(two, other)  # both windows showed the same clip
    assert list(load_labels(folder / 'labels.csv').values()) == [other]


def test_a_broken_file_does_not_stop_labelling(app_home):
    home, table = app_home
    folder = home / 'mixed'
    folder.mkdir(exist_ok=True)
    shutil.copy(table.path[0], folder)
    (folder / 'a.wav').write_bytes(b'RIFF')
    app = open_page('Label')
    app.selectbox[0].set_value('none').run()
    app.text_input[0].set_value(str(folder)).run()
    app.text_input[1].set_value('cat, dog').run()
    assert not app.exception and 'a.wav cannot be decoded' in app.warning[0].value
    press(app, 'skip')
    assert 'skipped' in app.info[0].value
    press(app, 'Show them again')
    press(app, 'dog')
    assert 'All named' in app.success[0].value


def test_classes_keep_their_place_and_errors_their_sentence(app_home):
    home, table = app_home
    folder = home / 'ordered'
    folder.mkdir(exist_ok=True)
    for path in table.path[:3]:
        shutil.copy(path, folder)
    app = open_page('Label')
    app.selectbox[0].set_value('none').run()
    app.text_input[0].set_value(str(folder)).run()
    app.text_input[1].set_value('dog, cat').run()
    press(app, 'cat')
    assert [b.label for b in app.button if b.label in ('dog', 'cat')] == ['dog', 'cat']
    (folder / 'labels.csv').write_text('path,label,fold\nx.wav,cat,1\n')
    press(app, 'dog')
    assert 'has folds' in app.error[0].value


def test_what_a_tab_remembers_is_made_anew_for_something_else(monkeypatch):
    monkeypatch.setattr('streamlit.session_state', {})
    first, again, other = (remembered('queue', about, object) for about in ('a.csv', 'a.csv', 'b.csv'))
    assert first is again and first is not other


def test_train_says_what_is_wrong(app_home):
    app = open_page('Train')
    app.text_input[0].set_value('../evil').run()
    assert not app.exception and 'cannot name a model' in app.error[0].value
    app = open_page('Train')
    app.text_input[1].set_value('/nowhere').run()
    press(app, 'Train')
    until = time.monotonic() + HANGS
    while is_training(app_home[0] / 'models' / 'mine'):
        assert time.monotonic() < until
        time.sleep(0.2)
    app.run()
    assert not app.exception and 'does not exist' in app.error[0].value


def test_classes_are_made_trained_and_tried_on_the_page(app_home):
    home, table = app_home
    app = open_page('Train')
    app.radio[0].set_value('classes made here').run()
    app.text_input[0].set_value('made-here').run()
    for i, label in enumerate(('tone', 'noise')):
        app.text_input[1 + i].set_value(label).run()
    assert next(b for b in app.button if b.label == 'Train').disabled
    for i, label in enumerate(('tone', 'noise')):
        paths = table.path[table.label == label][:6]
        files = [(Path(p).name, Path(p).read_bytes(), 'audio/wav') for p in paths]
        app.file_uploader[i].set_value([*files, ('note.wav', b'hello', 'audio/wav')]).run()
        assert 'note.wav' in sentences(app) and has_caption(app, f'{label}: 6 sounds')
    app.selectbox[0].set_value('scratch')
    app.checkbox[0].set_value(True)
    press(app, 'Train')
    until = time.monotonic() + HANGS
    while is_training(home / 'models' / 'made-here'):
        assert time.monotonic() < until
        time.sleep(0.5)
    app.run()
    assert not app.exception and 'trained' in app.success[0].value, last_lines(home / 'models' / 'made-here')
    tone = Path(table.path[table.label == 'tone'].iloc[6]).read_bytes()
    app.audio_input[-1].set_value(('try.wav', tone, 'audio/wav')).run()
    assert not app.exception and not app.subheader[1].value.startswith('Try')


def sentences(app: AppTest) -> str:
    "All that a page says is wrong; there is no traceback on it."
    assert not app.exception, app.exception[0].value
    return ' '.join(e.value for e in app.error)


@pytest.fixture
def hurt(app_home):
    "A copy of the trained model, to be damaged."
    folder = app_home[0] / 'models' / 'hurt'
    shutil.copytree(app_home[0] / 'models' / 'tiny', folder)
    yield folder
    shutil.rmtree(folder)


def without(data: dict, *keys: str) -> dict:
    "A copy of nested dictionaries without a value; '*' is any key."
    if len(keys) == 1:
        return {k: v for k, v in data.items() if k != keys[0]}
    return {k: without(v, *keys[1:]) if keys[0] in (k, '*') else v for k, v in data.items()}


def test_damaged_results_are_a_sentence(hurt):
    file = hurt / 'results.json'
    whole = json.loads(file.read_text())
    for damaged in (
        '[]',
        '{"models": {"m": null}}',
        file.read_text()[:200],
        json.dumps(without(whole, 'models', '*', 'bytes')),
        json.dumps(without(whole, 'models', '*', 'protocols', '*', 'accuracy', 'mean')),
        file.read_text().replace('"n": ', '"n_": '),
    ):
        file.write_text(damaged)
        app = open_page('Evaluate')
        app.selectbox[0].set_value('model hurt').run()
        assert 'results.json' in sentences(app), damaged[:80]


def test_damaged_predictions_are_a_sentence(hurt):
    file = hurt / 'predictions.csv'
    whole = file.read_text()
    for damaged in (b'', b'\x89PNG\0', whole.replace('p_tone', 'q').encode()):
        file.write_bytes(damaged)
        app = open_page('Evaluate')
        app.selectbox[0].set_value('model hurt').run()
        said = sentences(app).replace('\\', '')
        assert 'predictions.csv is ' in said, damaged[:40]
        assert 'damaged' in said or 'not a predictions table' in said, damaged[:40]


def test_a_damaged_model_is_a_sentence(hurt, app_home):
    config = (hurt / 'config.json').read_text()
    sound = Path(app_home[1].path[0]).read_bytes()
    (hurt / 'model.onnx').unlink(missing_ok=True)
    for damaged in ('[]', '{"weights_sha256": "a"}', config.replace('"n_mels"', '"n_mel"')):
        (hurt / 'config.json').write_text(damaged)
        app = open_page('Classify')
        app.selectbox[0].set_value('hurt').run()
        assert sentences(app), damaged
        app = open_page('Label')
        app.selectbox[0].set_value('hurt').run()
        app.text_input[0].set_value(str(Path(app_home[1].path[0]).parent)).run()
        assert sentences(app), damaged
    (hurt / 'config.json').write_text(config)
    (hurt / 'model.safetensors').write_bytes(b'no weights')
    app = open_page('Classify')
    app.selectbox[0].set_value('hurt').run()
    if not app.error:
        app.file_uploader[0].set_value([('one.wav', sound, 'audio/wav')]).run()
    assert sentences(app) or app.caption


@pytest.mark.parametrize('path', ['/' + 'a' * 300, '/x' * 3000, 'a\0b', '~nobody/x', '\x1b[31m'])
def test_a_path_that_cannot_be_is_a_sentence(app_home, path):
    app = open_page('Explore')
    app.selectbox[0].set_value('a folder of mine').run()
    app.text_input[0].set_value(path).run()
    assert sentences(app) and '\x1b' not in sentences(app)
    app = open_page('Label')
    app.selectbox[0].set_value('none').run()
    app.text_input[0].set_value(path).run()
    assert sentences(app)


def test_a_name_is_shown_as_it_is():
    for name in ('![x](http://elsewhere.example/x.png)', '<script>', '$\\frac$', ':red[x]', '# x'):
        shown = plain(name)
        for mark in '<$#[':
            assert shown.count(mark) == shown.count('\\' + mark), shown
    assert [plain(n)[:3] for n in ('- x', '1. x', ':red[x]')] == ['\\- ', '1\\.', '\\:r']
    assert plain('am_tone _x_') == 'am_tone \\_x\\_'
    assert plain('dog 3.wav cannot be decoded: remove it.') == 'dog 3.wav cannot be decoded: remove it.'


def opened(address: str, host: str, origin: str) -> int:
    "The answer to a request for a websocket."
    key = base64.b64encode(b'0123456789abcdef').decode()
    connection = http.client.HTTPConnection(address.removeprefix('http://'), timeout=HANGS)
    connection.putrequest('GET', '/_stcore/stream', skip_host=True)
    words = {'Upgrade': 'websocket', 'Connection': 'Upgrade', 'Sec-WebSocket-Version': '13'}
    for name, value in ({'Host': host, 'Origin': origin, 'Sec-WebSocket-Key': key} | words).items():
        connection.putheader(name, value)
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def test_only_this_machine_opens_the_app(tmp_path):
    "A page that has its own name lead to this machine (DNS rebinding) sends that name as Host and as Origin."
    with serve(tmp_path) as address:
        here = address.removeprefix('http://')
        port = here.split(':')[1]
        assert opened(address, here, address) == 101
        assert opened(address, f'localhost:{port}', f'http://localhost:{port}') == 101
        assert opened(address, f'evil.example:{port}', f'http://evil.example:{port}') == 403
        assert opened(address, here, 'http://evil.example') == 403


@pytest.mark.skipif(CHROMIUM is None, reason='no Chromium on this machine (Debian: apt install chromium)')
def test_pages_uploads_and_the_microphone(app_home, tmp_path):
    "The app in a real Chromium."
    home, table = app_home
    clip = Path(table.path[7])
    expected = Classifier.load(usual()).predict(clip)
    (tmp_path / 'broken.wav').write_bytes(b'RIFF1234WAVE')
    with serve(home) as address, open_browser(clip) as context:
        page = context.new_page()
        go(page, address)
        for name in PAGES:
            turn_to(page, name)
        turn_to(page, 'Classify')
        page.locator('input[type=file]').set_input_files([str(clip), str(tmp_path / 'broken.wav')])
        settle(page)
        assert 'broken.wav cannot be decoded' in page.locator('[data-testid="stAlert"]').inner_text()
        shown = answer_text(expected.label, expected.note, expected.probabilities)
        page.get_by_role('heading', name=shown).wait_for(timeout=MOST)
        go(page, address)
        turn_to(page, 'Classify')
        record(page, 2.5)
        page.get_by_text('recording.wav').first.wait_for(state='attached', timeout=MOST)
        assert page.get_by_role('heading', level=3).count() >= 1
