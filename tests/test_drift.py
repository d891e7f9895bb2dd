"Planted changes are found, unchanged weeks are not called changed, and a log outlives its process."

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
import torch
from processes import HANGS, Started
from torch import nn

from soundclf.core.drift import find_changes, one_per_source
from soundclf.core.esc50 import synthetic
from soundclf.core.files import SoundclfError, read_json
from soundclf.tools.answer_log import AnswerLog, read_log
from soundclf.tools.answers import Prediction
from soundclf.tools.commands import run
from soundclf.tools.rows import answer_row
from soundclf.tools.summaries import KINDS, Summarized, projected

sys.path.insert(0, str(Path(__file__).parent))
from weeks import answers, found  # noqa: E402


@pytest.mark.parametrize('change', ['microphone', 'noise', 'class'])
def test_planted_changes_are_found(change):
    "A few of the weeks that `scripts/watch.py` counts."
    assert found(change, 3) == {'weeks': 3, 'found': 3, 'before_the_change': 0}


@pytest.mark.parametrize('each', [1, 20])
def test_unchanged_weeks_are_not_called_changed(each):
    "Twenty answers about one source are no twenty facts."
    assert found('', 3, each)['found'] == 0


def test_one_answer_of_a_source_counts():
    rng = np.random.default_rng(0)
    assert len(one_per_source(answers(rng, 30, each=20))) == 30
    with pytest.raises(SoundclfError, match='log more'):
        find_changes(answers(rng, 30), answers(rng, 3, each=20))


@pytest.mark.parametrize('odd', ['--top=0', '--top=-1', '--alpha=0', '--alpha=1'])
def test_settings_that_cannot_be_meant_are_refused(odd, tmp_path, capsys):
    assert run(['drift', str(tmp_path), 'scratch', odd]) == 1
    assert odd.partition('=')[0] in capsys.readouterr().err


def test_a_constant_rate_is_no_change_and_a_new_one_is():
    rng = np.random.default_rng(0)
    before, now = answers(rng, 200), answers(rng, 40)
    assert not find_changes(before, now).changed.any()
    changes = find_changes(before, now.assign(rate=16000))
    assert changes.aspect[changes.changed].tolist() == ['rate']


def log_answers(folder: Path, model: Path):
    "Logs a thousand and three answers, and waits."
    answer = Prediction('dog', 0.7, {'cat': 0.3, 'dog': 0.7}, 1, 'dog', '', 0.5, -20.0, (0.5,) * 16)
    log = AnswerLog(folder, model, 'embedding', batch=8, seconds=1e6)
    for i in range(1003):
        log.add(answer_row(f'{i}.wav', answer), (0, 5), 44100)
    print('logged', flush=True)
    time.sleep(HANGS)


def test_killed_processes_lose_their_last_batch_only(tmp_path):
    "Four processes write into one folder, and are killed."
    (tmp_path / 'm.onnx').write_bytes(b'stand-in')
    writers = [Started(log_answers, tmp_path / 'log', tmp_path / 'm.onnx') for _ in range(4)]
    for writer in writers:
        assert writer.line() == 'logged\n'
        writer.kill()
    table = read_log(tmp_path / 'log')
    assert len(table) == 4 * 1000
    assert table.groupby('source').size().eq(4).all()


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / '2026-03-01_1-ab_0_5.parquet').write_bytes(b'PAR1')
    with pytest.raises(SoundclfError, match='_0_5.parquet is damaged'):
        read_log(tmp_path)
    with pytest.raises(SoundclfError, match='predict --log'):
        read_log(tmp_path / 'none')


def test_without_pyarrow_there_is_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    sf.write(tmp_path / 'a.wav', np.zeros(8000), 8000)
    (tmp_path / 'm.onnx').write_bytes(b'stand-in')
    with pytest.raises(SoundclfError, match='extra `watch`'):
        AnswerLog(tmp_path / 'log', tmp_path / 'm.onnx')


@pytest.fixture(scope='module')
def sounds(tmp_path_factory) -> Path:
    "A folder of sounds in two parts, for the model of the package."
    folder = tmp_path_factory.mktemp('watched')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SOUNDCLF_DATA', str(folder / 'data'))
        table = synthetic(per_fold=8)
    table = table[table.label.isin(sorted(table.label.unique())[:4])].reset_index(drop=True)
    table['part'] = np.arange(len(table)) % 2
    for row in table.itertuples():
        place = folder / ('known' if row.part == 0 else 'new')
        place.mkdir(exist_ok=True)
        os.symlink(row.path, place / Path(row.path).name)
    return folder


def through_another_microphone(source: Path, target: Path):
    "Copies of sounds that are quieter and lack their high frequencies."
    target.mkdir()
    taps = np.ones(12) / 12
    for path in source.iterdir():
        wave, rate = sf.read(path)
        sf.write(target / path.name, 0.25 * np.convolve(wave, taps, 'same'), rate)


def watched(folder: Path, part: str, log: str) -> int:
    "The exit code of a day's report."
    assert run(['predict', str(folder / part), '--log', str(folder / log)]) != 1
    reference = ['--reference', str(folder / 'reference')] if log != 'reference' else []
    return run(['drift', str(folder / log), 'scratch', *reference])


def test_a_new_microphone_is_found_and_new_sounds_of_the_old_one_are_none(sounds, capsys):
    watched(sounds, 'known', 'reference')
    assert watched(sounds, 'new', 'unchanged') == 0, capsys.readouterr().out
    through_another_microphone(sounds / 'new', sounds / 'filtered')
    assert watched(sounds, 'filtered', 'changed') == 1
    shown = capsys.readouterr().out
    assert 'the level changed' in shown and 'label next: ' in shown
    record = read_json(sounds / 'changed' / 'report' / 'drift.json')
    assert record['changed'] and len(record['label_next']) == 20
    page = (sounds / 'changed' / 'report' / 'drift.html').read_text()
    assert 'data:image/png;base64,' in page and 'http' not in page
    table = read_log(sounds / 'changed')
    assert set(table.kind) <= set(KINDS) and table.summary.map(len).eq(16).all()


def test_summaries_are_of_the_embedding_where_there_is_one():
    layer = nn.Linear(8, 1)
    layer.mean, layer.matrix = torch.ones(8), 2 * torch.eye(8)

    def answer(waves):
        scores = layer(torch.from_numpy(waves))[:, 0]
        return np.full((len(waves), 2), 0.5), scores.detach().numpy()

    answer.model = SimpleNamespace(unlike=layer)
    summarized = Summarized(answer)
    x = np.random.default_rng(0).normal(size=(3, 8)).astype('float32')
    assert summarized.kind == 'embedding'
    np.testing.assert_allclose(summarized(x)[2], projected(2 * (x - 1)), rtol=1e-5)


def test_live_answers_are_logged_without_audio(sounds, tmp_path, capsys):
    sound = next((sounds / 'new').iterdir())
    words = ['live', '--listen', '--file', str(sound)]
    assert run([*words, '--log', str(tmp_path / 'log')]) == 0
    table = read_log(tmp_path / 'log')
    assert len(table) >= 2 and table.source.str.startswith(str(sound)).all()
    assert (table.rate == sf.info(sound).samplerate).all() and table.end.is_monotonic_increasing
    assert {p.suffix for p in (tmp_path / 'log').iterdir()} == {'.parquet'}
