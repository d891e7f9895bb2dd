"Commands about models and places: nothing outside your places is touched, and no library warns you."

import json
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from processes import HANGS, Started

from soundclf.core.clips import clips_table
from soundclf.core.files import SoundclfError, home_dir, user_dir
from soundclf.tools import commands
from soundclf.tools.commands_train import check_replaced
from soundclf.tools.models import delete_model, model_lock, model_names, models_dir, own_model, rename_model

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def place(tmp_path, monkeypatch):
    "An empty place for models, from a directory outside the checkout."
    monkeypatch.setenv('SOUNDCLF_HOME', str(tmp_path / 'home'))
    monkeypatch.chdir(tmp_path)
    return models_dir()


def add(place: Path, name: str, classes=('cat', 'dog')) -> Path:
    features = {'sample_rate': 16000, 'duration': 1.0, 'kind': 'logmel'}
    config = {'classes': list(classes), 'kind': 'scratch', 'features': features, 'weights_sha256': 'x'}
    (place / name).mkdir(parents=True)
    (place / name / 'config.json').write_text(json.dumps(config))
    return place / name


def shell(capsys, *words):
    code = commands.run(list(words))
    told = capsys.readouterr()
    return code, told.out, told.err


def test_the_place_is_the_same_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.delenv('SOUNDCLF_HOME', raising=False)
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('XDG_DATA_HOME', str(tmp_path / 'data'))
    monkeypatch.chdir(ROOT)
    in_checkout = models_dir(), user_dir()
    monkeypatch.chdir(tmp_path)
    assert (models_dir(), user_dir()) == in_checkout and home_dir() == user_dir()
    assert user_dir().is_relative_to(tmp_path) and 'cache' not in user_dir().as_posix()


def test_list_show_and_a_damaged_model(place, capsys):
    add(place, 'mine', ['cat', 'dog\x1b[2J'])
    (add(place, 'hurt') / 'config.json').write_text('{')
    code, out, _ = shell(capsys, 'models')
    assert code == 0 and '\x1b' not in out and f'Your models: {place}' in out and 'Your data:' in out
    assert 'mine: 2 classes (cat, dog' in out and 'hurt: ' in out and 'is damaged' in out
    code, out, _ = shell(capsys, 'models', 'show', 'mine')
    assert code == 0 and '16000 Hz' in out and '\x1b' not in out
    code, _, err = shell(capsys, 'models', 'show', 'hurt')
    assert code == 1 and 'is damaged' in err
    code, _, err = shell(capsys, 'models', 'show', 'mien')
    assert code == 1 and "did you mean 'mine'" in err
    rows = json.loads(shell(capsys, 'models', '--json')[1])['models']
    assert {'mine', 'hurt'} <= {row['name'] for row in rows}


def test_delete_asks_first_and_takes_nothing_else(place, capsys):
    folder = add(place, 'mine')
    kept = add(place, 'other')
    code, _, err = shell(capsys, 'models', 'delete', 'mine')
    assert code == 1 and 'add --yes' in err and folder.is_dir()
    assert shell(capsys, 'models', 'delete', 'mine', '--yes')[0] == 0
    assert not folder.exists() and kept.is_dir() and not list(place.glob('.*'))


@pytest.mark.parametrize('name', ['../precious', '.', '..', '', '/tmp', 'a/b', 'scratch', '.hidden', '*'])
def test_no_name_leads_out_of_the_place(place, name):
    add(place, 'mine')
    precious = add(place.parent, 'precious')
    with pytest.raises(SoundclfError):
        delete_model(name)
    with pytest.raises(SoundclfError):
        rename_model('mine', name)
    assert precious.is_dir() and (place / 'mine').is_dir()


def test_of_a_link_the_link_alone_is_deleted(place, tmp_path):
    real = add(tmp_path, 'elsewhere')
    place.mkdir(parents=True)
    (place / 'linked').symlink_to(real)
    delete_model('linked')
    assert not (place / 'linked').is_symlink() and (real / 'config.json').is_file()


def hold(folder: Path):
    "Holds a model's lock, as a training does."
    with model_lock(folder):
        print('held', flush=True)
        time.sleep(HANGS)


def test_a_model_that_is_trained_is_neither_renamed_nor_deleted(place):
    training = Started(hold, add(place, 'mine'))
    assert training.line() == 'held\n'
    try:
        for change in (lambda: rename_model('mine', 'new'), lambda: delete_model('mine')):
            with pytest.raises(SoundclfError, match='A training is writing'):
                change()
    finally:
        training.kill()
    assert rename_model('mine', 'new').name == 'new' and model_names().count('new') == 1


def test_an_unfinished_training_can_be_deleted(place):
    (place / 'half').mkdir(parents=True)
    (place / 'half' / '.train.lock').touch()
    assert own_model('half') == place / 'half'
    delete_model('half')
    with model_lock(add(place, 'x')):
        pass


def test_a_model_of_other_classes_is_not_overwritten_unasked(place, capsys):
    folder = add(place, 'mine')
    same, other = clips_table(['a', 'b'], ['cat', 'dog']), clips_table(['a', 'b'], ['cat', 'cow'])
    check_replaced(folder, same, replace=False)
    assert 'will replace' in capsys.readouterr().out
    with pytest.raises(SoundclfError, match=r'other classes \(cat, dog\): add --replace'):
        check_replaced(folder, other, replace=False)
    check_replaced(folder, other, replace=True)
    (folder / 'config.json').write_text('[]')
    with pytest.raises(SoundclfError, match='cannot be read: add --replace'):
        check_replaced(folder, same, replace=False)


def test_version_and_dashes(capsys):
    import soundclf

    assert shell(capsys, '--version') == (0, f'soundclf {soundclf.__version__}\n', '')
    with pytest.raises(SystemExit):
        commands.run(['train', '--help'])
    told = capsys.readouterr().out
    assert '--group-by' in told and '--device' in told and '--replace' in told and '--epochs' in told


@pytest.mark.parametrize('form', ['--group-by', '--group_by'])
def test_both_forms_of_an_option_are_taken(monkeypatch, form):
    def data(name: str, group_by: str = ''):
        return group_by

    monkeypatch.setitem(commands.COMMANDS, 'data', data)
    assert commands.run(['data', 'x', form, 'abc']) == 'abc'


def test_wrong_use_of_options_is_a_sentence(place, capsys, tmp_path):
    for name in ('a', 'b'):
        (tmp_path / 'in' / name).mkdir(parents=True)
        for i in range(4):
            wave = np.random.default_rng([ord(name), i]).normal(0, 0.1, 4000)
            sf.write(tmp_path / 'in' / name / f'{name}{i}.wav', wave, 8000)
    code, _, err = shell(capsys, 'train', str(tmp_path / 'in'), '--epochs', '3')
    assert code == 1 and 'mn04 is a frozen network, which has no epochs' in err
    code, _, err = shell(capsys, 'train', str(tmp_path / 'in'), '--device', 'gpu')
    assert code == 1 and "There is no device 'gpu' here" in err
    code, _, err = shell(capsys, 'data', 'synthetic', '--group-by', 'x')
    assert code == 1 and 'leave --group-by out' in err
    code, _, err = shell(capsys, 'similar', str(tmp_path / 'no.wav'), str(tmp_path / 'in'), '--top', '0')
    assert code == 1 and '--top from 1 on' in err
    code, _, err = shell(capsys, 'embed', str(tmp_path / 'in'), '--out', str(tmp_path / 'v.txt'))
    assert code == 1 and "There is no ending of a table '.txt'" in err


@pytest.mark.skipif('scratch' not in model_names(), reason='no model in this package')
def test_embed_and_similar_take_bad_files_as_rows(place, capsys, tmp_path):
    (tmp_path / 'in').mkdir()
    for i in range(3):
        sf.write(tmp_path / 'in' / f'{i}.wav', np.random.default_rng(i).normal(0, 0.1, 8000), 8000)
    (tmp_path / 'in' / 'bad.wav').write_bytes(b'RIFF')
    out = tmp_path / 'v.parquet'
    code, told, err = shell(capsys, 'embed', str(tmp_path / 'in'), '--out', str(out), '--model', 'scratch')
    assert code == 1 and '(3 vectors of' in told and err.count('bad.wav') == 1
    import pandas as pd

    table = pd.read_parquet(out)
    assert list(table) == ['path', 'start', 'end', 'vector'] and len(table) == 3
    out.unlink()
    example, folder = tmp_path / 'in' / '0.wav', tmp_path / 'in'
    code, told, _ = shell(capsys, 'similar', str(example), str(folder), '--model', 'scratch')
    assert code == 1 and len(told.splitlines()) == 2 and '0.wav' not in told


def test_a_user_without_a_home_folder_reads_what_to_set(monkeypatch):
    monkeypatch.delenv('SOUNDCLF_HOME', raising=False)

    def homeless(*args, **kwargs):
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.setattr('platformdirs.user_data_path', homeless)
    with pytest.raises(SoundclfError, match='set SOUNDCLF_HOME'):
        user_dir()
