"The pages of the app: each opens, answers, and shows errors as sentences."

import shutil
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from soundclf.tools.app import PAGES
from soundclf.tools.app_train import is_training
from soundclf.core.esc50 import synthetic
from soundclf.tools.labels import load_labels
from soundclf.tools.classifier import Classifier
from soundclf.tools.models import model_names
from soundclf.tools.training import train_model

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='module')
def app_home(tmp_path_factory):
    "A home folder with data, a trained model and its results."
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp('home')
    patch.chdir(home)
    patch.setenv('SOUNDCLF_DATA', str(home / 'data'))
    patch.delenv('SOUNDCLF_MIRROR', raising=False)
    (home / 'settings.ini').write_text('lib_name = soundclf\n')
    table = synthetic(per_fold=2)
    train_model(table, 'synthetic', home / 'models' / 'tiny', 'scratch', profile='quick')
    yield home, table
    patch.undo()


def usual() -> str:
    "The model that the app offers first."
    return 'scratch' if 'scratch' in model_names() else 'tiny'


def open_page(name: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / 'app.py'), default_timeout=120).run()
    return app.sidebar.radio[0].set_value(name).run()


def press(app: AppTest, label: str):
    next(b for b in app.button if b.label == label).click().run()
    assert not app.exception


def has_caption(app: AppTest, words: str) -> bool:
    return any(words in c.value for c in app.caption)


@pytest.mark.parametrize('name', PAGES)
def test_every_page_opens(app_home, name):
    app = open_page(name)
    assert not app.exception and app.header[0].value == name and not app.error


def test_explore_filters(app_home):
    app = open_page('Explore')
    app.selectbox[0].set_value('synthetic').run()
    assert not app.exception and has_caption(app, '200 of 200 clips')
    app.multiselect[0].set_value(['tone']).run()
    assert not app.exception and has_caption(app, '20 of 200 clips')
    app.selectbox[0].set_value('a folder of mine').run()
    app.text_input[0].set_value('/nowhere/sounds').run()
    assert not app.exception and 'does not exist' in app.error[0].value


def test_evaluate_shows_intervals_and_clips(app_home):
    app = open_page('Evaluate')
    assert not app.exception
    results = app.dataframe[0].value
    assert results['clips'].tolist() == [100]
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


def test_train_says_what_is_wrong(app_home):
    app = open_page('Train')
    app.text_input[1].set_value('../evil').run()
    assert not app.exception and 'cannot name a model' in app.error[0].value
    app = open_page('Train')
    app.text_input[0].set_value('/nowhere').run()
    press(app, 'Train')
    until = time.monotonic() + 120
    while is_training(app_home[0] / 'models' / 'mine'):
        assert time.monotonic() < until
        time.sleep(0.2)
    app.run()
    assert not app.exception and 'does not exist' in app.error[0].value
