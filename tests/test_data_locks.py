"A lock says which sounds a data set is made of, and what has changed; a model says which lock it knows."

import json
import re
import shutil
import warnings

import numpy as np
import pytest
import soundfile as sf

from soundclf.core.clips import clips_table
from soundclf.core.data_locks import (
    change_lines,
    lock_changes,
    lock_file,
    lock_note,
    lock_of,
    locked_clips,
    new_lock,
    read_lock,
    write_lock,
)
from soundclf.core.files import SoundclfError
from soundclf.tools import commands


def put(file, seed: int, seconds: float = 0.5):
    file.parent.mkdir(parents=True, exist_ok=True)
    sf.write(file, 0.2 * np.random.default_rng(seed).standard_normal(round(8000 * seconds)), 8000)


@pytest.fixture
def sounds(tmp_path, home):
    "Three cats and three dogs in class folders."
    for i, name in enumerate(('cat/a', 'cat/b', 'cat/c', 'dog/a', 'dog/b', 'dog/c')):
        put(tmp_path / 'sounds' / f'{name}.wav', i)
    return tmp_path / 'sounds'


@pytest.fixture
def listed(tmp_path, home):
    "A list of two recordings, the first with two stretches."
    put(tmp_path / 'rec' / 'one.wav', 1, 3)
    put(tmp_path / 'rec' / 'two.wav', 2, 3)
    rows = ['one.wav,cat,0,1,m', 'one.wav,dog,1,2,m', 'two.wav,dog,,,n']
    file = tmp_path / 'rec' / 'labels.csv'
    file.write_text('\n'.join(['path,label,start,end,group', *rows]) + '\n')
    return file


def shell(capsys, *words):
    code = commands.run(list(map(str, words)))
    told = capsys.readouterr()
    return code, told.out, told.err


def test_what_differs_is_counted_and_named(sounds, capsys):
    code, out, _ = shell(capsys, 'data', sounds, '--lock')
    assert code == 0 and '6 clips' in out and (sounds.parent / 'sounds.lock.json').is_file()
    code, out, _ = shell(capsys, 'data', sounds, '--verify')
    assert code == 0 and 'Nothing has changed' in out
    for i in range(5):
        put(sounds / 'cat' / f'new{i}.wav', 50 + i)
    put(sounds / 'cat' / 'a.wav', 99)
    (sounds / 'dog' / 'c.wav').unlink()
    (sounds / 'cat' / 'b.wav').rename(sounds / 'dog' / 'b2.wav')
    (sounds / 'cat' / 'c.wav').rename(sounds / 'cat' / 'renamed.wav')
    code, out, _ = shell(capsys, 'data', sounds, '--verify')
    assert code == 1
    assert 'added: 5 (cat/new0.wav, cat/new1.wav, cat/new2.wav and 2 more)' in out
    assert 'changed: 1 (cat/a.wav)' in out and 'removed: 1 (dog/c.wav)' in out
    assert 'relabelled: 1 (dog/b2.wav (cat, now dog))' in out
    assert 'moved: 1 (cat/renamed.wav (was cat/c.wav))' in out and 'regrouped' not in out


def test_a_list_keeps_stretches_labels_and_groups(listed, capsys):
    assert shell(capsys, 'data', listed, '--lock', listed.with_name('mine.json'))[0] == 0
    rows = json.loads(listed.with_name('mine.json').read_text())['clips']
    assert [r['path'] for r in rows] == ['one.wav', 'one.wav', 'two.wav']
    assert rows[1]['start'] == 1 and rows[1]['end'] == 2 and 'start' not in rows[2]
    assert all(set(r) >= {'path', 'sha256', 'size', 'label', 'group'} for r in rows)
    text = listed.read_text().replace('one.wav,dog', 'one.wav,bird').replace(',n', ',new')
    listed.write_text(text)
    code, out, _ = shell(capsys, 'data', listed, '--verify', listed.with_name('mine.json'))
    assert code == 1 and 'relabelled: 1 (one.wav#t=1.000000,2.000000 (dog, now bird))' in out
    assert 'regrouped: 1 (two.wav (n, now new))' in out and 'added' not in out


def test_a_folder_may_move_and_an_unchanged_lock_keeps_its_day(sounds, tmp_path, monkeypatch):
    lock = new_lock(locked_clips(str(sounds)))
    with monkeypatch.context() as then:
        then.setattr('soundclf.core.data_locks.time.strftime', lambda *args: '2020-01-01')
        file = write_lock(new_lock(lock['clips']), lock_file(str(sounds)))
    assert write_lock(lock, file) == file and read_lock(file)['made'] == '2020-01-01'
    shutil.move(sounds, tmp_path / 'elsewhere')
    assert locked_clips(str(tmp_path / 'elsewhere')) == lock['clips']


def test_parts_late_in_a_long_recording_are_clips_of_their_own():
    about = {'path': 'day.wav', 'sha256': 'x', 'size': 1, 'label': 'a', 'group': 'day.wav'}
    starts = [12345.67, 12345.71, 12345.670001]
    rows = [about | {'start': start, 'end': start + 1} for start in starts]
    assert lock_changes(rows, rows[1:]) == {'removed': ['day.wav#t=12345.670000,12346.670000']}
    assert lock_changes(rows[:2], rows) == {'added': ['day.wav#t=12345.670001,12346.670001']}


_WITHOUT_END = {'path': 'a', 'sha256': 'b', 'size': 1, 'label': 'c', 'group': 'd', 'start': 1}
_NO_LOCKS = ['{}', '[]', 'null', '{"a": ', '{"format": "soundclf data lock 1", "clips": 1}']
_NO_LOCKS.append(json.dumps(new_lock([_WITHOUT_END])))


@pytest.mark.parametrize('text', _NO_LOCKS)
def test_a_file_that_is_no_lock_is_refused_and_kept(sounds, tmp_path, text):
    file = tmp_path / 'results.json'
    file.write_text(text)
    with pytest.raises(SoundclfError, match='is not a data lock'):
        read_lock(file)
    with pytest.raises(SoundclfError, match='choose another file') as told:
        write_lock(new_lock(locked_clips(str(sounds))), file)
    assert file.read_text() == text and 'delete' not in str(told.value)


def test_a_lock_that_was_cut_off_can_be_made_anew(sounds, capsys):
    shell(capsys, 'data', sounds, '--lock')
    file = lock_file(str(sounds))
    good = file.read_text()
    for size in (len(good) // 2, 0):
        file.write_text(good[:size])
        code, _, err = shell(capsys, 'data', sounds, '--verify')
        assert code == 1 and 'is not whole: restore it, or make a new one with' in err and 'delete' not in err
        with pytest.raises(SoundclfError, match='is not whole'):
            lock_of(str(sounds))
        assert shell(capsys, 'data', sounds, '--lock')[0] == 0 and file.read_text() == good


@pytest.mark.parametrize('key, new', [('label', 'cow'), ('made', '2020-01-01'), ('group_by', '.*')])
def test_a_lock_that_was_changed_is_found_and_can_be_made_anew(sounds, capsys, key, new):
    shell(capsys, 'data', sounds, '--lock')
    file = lock_file(str(sounds))
    good = file.read_text()
    file.write_text(re.sub(f'"{key}": "[^"]*"', f'"{key}": "{new}"', good, count=1))
    code, _, err = shell(capsys, 'data', sounds, '--verify')
    assert code == 1 and 'was changed after it was written' in err
    assert shell(capsys, 'data', sounds, '--lock')[0] == 0 and file.read_text() == good
    file.unlink()
    code, _, err = shell(capsys, 'data', sounds, '--verify')
    assert code == 1 and '--lock' in err


def test_folds_of_a_list_are_locked(listed):
    rows = [row | {'fold': 1} for row in locked_clips(str(listed))]
    changes = lock_changes(rows, [row | {'fold': 2} for row in rows])
    assert list(changes) == ['refolded'] and len(changes['refolded']) == 3
    assert change_lines(changes, 1) == ['refolded: 3 (one.wav#t=0.000000,1.000000 (1, now 2) and 2 more)']


def test_data_sets_with_a_name_have_locks(home, capsys):
    assert shell(capsys, 'data', 'synthetic', '--lock')[0] == 0
    rows = read_lock(home / 'data' / 'synthetic.lock.json')['clips']
    assert rows[0]['path'].startswith('synthetic/') and {r['fold'] for r in rows} == {1, 2, 3, 4, 5}
    assert shell(capsys, 'data', 'synthetic', '--verify')[0] == 0
    code, _, err = shell(capsys, 'data', 'synthetic', '--lock', '--group-by', 'x')
    assert code == 1 and 'groups of its own' in err


def test_a_training_is_warned_of_other_data_and_notes_the_lock(sounds):
    assert lock_of(str(sounds)) == {}
    file = write_lock(new_lock(locked_clips(str(sounds))), lock_file(str(sounds)))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        noted = lock_of(str(sounds))
    assert noted == {k: read_lock(file)[k] for k in ('sha256', 'made')} | {'clips': 6, 'differences': 0}
    put(sounds / 'cat' / 'new.wav', 7)
    with pytest.warns(UserWarning, match='1 added.*--verify'):
        assert lock_of(str(sounds), file=file)['differences'] == 1
    with pytest.raises(SoundclfError, match='does not exist'):
        lock_of(str(sounds), file='no.json')
    table = clips_table([sounds / 'cat' / 'a.wav'], ['cat'])
    assert lock_note(table) == ''
    table.attrs['lock'] = noted
    assert lock_note(table[table.label == 'cat']).startswith(f'; data lock {noted["sha256"][:16]}')


def test_models_show_tells_the_lock(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('SOUNDCLF_HOME', str(tmp_path))
    features = {'sample_rate': 16000, 'duration': 1.0, 'kind': 'logmel'}
    config = {'classes': ['a', 'b'], 'kind': 'scratch', 'features': features, 'weights_sha256': 'x'}
    lock = {'sha256': 'ab' * 32, 'made': '2026-11-26', 'clips': 12, 'differences': 2}
    folder = tmp_path / 'models' / 'mine'
    folder.mkdir(parents=True)
    (folder / 'config.json').write_text(json.dumps(config | {'lock': lock}))
    code, out, _ = shell(capsys, 'models', 'show', 'mine')
    assert code == 0 and 'abababababababab… of 2026-11-26, 12 clips' in out and 'differences: 2' in out
