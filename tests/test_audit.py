"The audit finds every leak and shortcut that is planted, and none where none is."

import json
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.ensemble
import soundfile as sf
from scipy.signal import butter, sosfilt

from soundclf.core.audit import audit, merged_clips
from soundclf.core.audio import resample
from soundclf.core.clips import clips_table
from soundclf.core.esc50 import synthetic
from soundclf.core.neutral import common_values, neutral_ways
from soundclf.core.shortcut_losses import probe_losses
from soundclf.core.shortcuts import file_facts
from soundclf.tools import commands
from soundclf.tools.audit_report import save_audit

RATE = 8000
KINDS = ('noise', 'noise_burst', 'pulse_train', 'sawtooth')  # of the synthetic set; both classes have all


def clean_set(folder: Path, seed: int = 0) -> pd.DataFrame:
    "Clips of the synthetic set in two classes that say nothing: each has one take of every recording's kind."
    source = synthetic(seed, per_fold=4, rate=RATE)
    source = source[source.label.isin(KINDS)]
    recordings = source.drop_duplicates('group').sort_values(['label', 'fold', 'group'])
    takes = source.drop_duplicates('group').set_index('group')
    paths, labels, folds = [], [], []
    for i, group in enumerate(recordings.group):
        row = takes.loc[group]
        label = ['day', 'night'][(i + int(row.fold)) % 2]
        paths.append(folder / f'{label}-{i}.wav')
        labels.append(label)
        folds.append(int(row.fold))
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(row.path, paths[-1])
    return clips_table(paths, labels, folds)


@pytest.fixture(scope='module')
def clean(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp('audit')
        patch.setenv('SOUNDCLF_DATA', str(root / 'data'))
        yield clean_set(root / 'clean')


@pytest.fixture
def few_trees(monkeypatch):
    "Forests of a dozen trees, for tests that look at other things than what a forest can tell."
    forest = sklearn.ensemble.RandomForestClassifier
    monkeypatch.setattr('sklearn.ensemble.RandomForestClassifier', lambda _, **kw: forest(12, **kw))


def copied(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    "The same clips as files of their own."
    folder.mkdir(parents=True)
    paths = [shutil.copy(p, folder) for p in table.path]
    return clips_table(paths, table.label, table.fold)


def changed(table: pd.DataFrame, folder: Path, change: Callable) -> pd.DataFrame:
    "The clips, those of one class changed."
    table = copied(table, folder)
    for path in table.path[table.label == 'night']:
        wave, rate = sf.read(path)
        sf.write(path, np.clip(change(wave), -1, 1), rate)
    return table


def end_in_silence(wave):
    return np.concatenate([wave[: len(wave) * 3 // 4], np.zeros(len(wave) - len(wave) * 3 // 4)])


def begin_in_silence(wave):
    return end_in_silence(wave[::-1])[::-1]


def low_passed(wave):
    return sosfilt(butter(12, 2000, fs=RATE, output='sos'), wave)


def softer(wave):
    return 0.03 * wave / np.sqrt(np.mean(wave**2))


def with_offset(wave):
    return 0.9 * wave + 0.05


SHORTCUTS = {  # change -> (the fact that tells it, the way that takes it away)
    end_in_silence: ('silence at end', 'trimmed'),
    begin_in_silence: ('silence at start', 'trimmed'),
    low_passed: ('cutoff', 'low-passed'),
    softer: ('level', 're-levelled'),
    with_offset: ('DC offset', 'centred'),
}


def spoilt(table: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, list, list]:
    "The clips with copies and re-encoded ones in the next fold: (table, copies, re-encoded), pairs of paths."
    table = copied(table, folder)
    copies, encoded = [], []
    for i, (path, label, fold) in enumerate(zip(table.path[::3], table.label[::3], table.fold[::3])):
        wave, rate = sf.read(path)
        to, other = fold % 5 + 1, ['.wav', '.ogg', '.flac'][i % 3]
        made = folder / f'{label}-again-{i}{other}'
        if other == '.wav':
            shutil.copy(path, made)
            copies.append((path, str(made)))
        else:
            sf.write(made, 0.6 * resample(wave[None].astype('float32'), rate, 11025)[0], 11025)
            encoded.append((path, str(made)))
        row = clips_table([made], [label], [to])
        table = pd.concat([table, row], ignore_index=True)
    return table.sort_values('path', ignore_index=True), copies, encoded


def test_a_clean_set_has_no_leak_and_no_shortcut(clean):
    report = audit(clean)
    assert report['leaks'] == 0 and not report['telling'] and not report['doubled']
    assert not report['near_duplicates']['across'] and not report['merged_groups']
    assert report['chance'] == 0.5 and report['not_probed'] == ''
    by_fact = {row['fact']: row for row in report['probes']}
    assert {'silence at end', 'silence at start', 'cutoff', 'level', 'DC offset'} & set(by_fact)
    assert all(row['low'] < 0.55 for row in report['probes'])
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def leaks_found(clean: pd.DataFrame, folder: Path) -> dict[tuple, bool]:
    "Whether each planted leak is found; nothing else may be."
    table, copies, encoded = spoilt(clean, folder)
    report = audit(table)
    doubled = {frozenset(d['paths']) for d in report['doubled'] if d['crosses']}
    near = {frozenset((p['path_a'], p['path_b'])) for p in report['near_duplicates']['across']}
    assert near | doubled <= {frozenset(pair) for pair in copies + encoded}
    assert report['leaks'] == len(doubled) + len(near)
    found = {('copy', *pair): frozenset(pair) in doubled for pair in copies}
    return found | {('re-encoded', *pair): frozenset(pair) in near for pair in encoded}


def test_all_that_is_planted_is_found(clean, tmp_path):
    found = leaks_found(clean, tmp_path / 'leaks')
    found |= leaks_found(clean_set(tmp_path / 'other', seed=1), tmp_path / 'other leaks')
    for change, (fact, _) in SHORTCUTS.items():
        telling = audit(changed(clean, tmp_path / change.__name__, change))['telling']
        found[change.__name__, fact] = fact in telling
    kinds = [name[0] for name in found]
    assert kinds.count('copy') >= 8 and kinds.count('re-encoded') >= 16
    recall = sum(found.values()) / len(found)
    print(f'recall {recall:.3f} of {len(found)} planted')
    assert recall == 1.0, [name for name, is_found in found.items() if not is_found]


@pytest.mark.parametrize('change', SHORTCUTS)
def test_a_shortcut_that_is_taken_away_is_lost(clean, tmp_path, change):
    table = changed(clean, tmp_path / 'clips', change)
    facts = file_facts(table)
    losses = probe_losses(table, facts, neutral_ways(common_values(facts, table.label)))
    way = {row['way']: row for row in losses['ways']}
    name = SHORTCUTS[change][1]
    assert losses['plain']['low'] > 0.55
    for without in (way[name], way['all together']):
        assert without['tested']['low'] < 0.5 < without['tested']['high']
        assert without['tested_loss']['low'] > 0 and without['trained_loss']['low'] > 0
        assert without['trained']['low'] < 0.62  # a filter that starts from rest leaves a trace
    assert way['resampled']['trained_loss']['mean'] == 0  # all have one rate


def test_folds_are_made_where_there_are_none_and_keep_one_sound_whole(few_trees, clean, tmp_path):
    table, copies, encoded = spoilt(clean, tmp_path / 'leaks')
    report = audit(table.assign(fold=np.nan))
    assert report['leaks'] == 0 and not report['folds_given'] and report['doubled']
    folds = merged_clips(table.assign(fold=np.nan)).set_index('path').fold
    assert all(folds[a] == folds[b] for a, b in copies + encoded)


def test_broken_files_and_one_class_are_findings_not_crashes(tmp_path, home):
    rng, paths = np.random.default_rng(0), []
    for i in range(6):
        paths.append(tmp_path / f'{i}.wav')
        sf.write(paths[-1], rng.normal(0, 0.1, 4000), RATE)
    paths[0].write_bytes(b'RIFF')
    sf.write(paths[1], np.zeros(0), RATE)
    table = clips_table([*paths, tmp_path / 'missing.wav'], ['x'] * 7, [1, 2, 1, 2, 1, 2, 1])
    report = audit(table)
    kinds = {(p['path'], p['problem']) for p in report['problems']}
    assert {(str(paths[0]), 'unreadable'), (str(tmp_path / 'missing.wav'), 'unreadable')} <= kinds
    assert (str(paths[1]), 'empty') in kinds
    assert report['not_probed'] == 'There is one class.' and report['leaks'] == 0


def test_every_name_on_the_page_is_escaped_and_the_page_needs_nothing_else(few_trees, clean, tmp_path):
    evil = '<img src=x onerror=alert(1)>'
    table = changed(clean, tmp_path / 'clips', softer)
    table['label'] = table.label.replace('night', evil)
    page = save_audit(audit(table), evil, tmp_path / 'report').read_text()
    assert evil not in page and '&lt;img src=x' in page
    assert 'src="data:image/png;base64,' in page and '://' not in page and '<script' not in page
    assert json.loads((tmp_path / 'report/audit.json').read_text())['dataset'] == evil
    assert {p.name for p in (tmp_path / 'report').iterdir()} == {'audit.html', 'audit.json'}


def test_the_command_tells_leaks_by_its_exit_code(few_trees, clean, tmp_path, capsys):
    table, *_ = spoilt(clean, tmp_path / 'leaks')
    for name, clips, code in (('clean', clean, 0), ('leaky', table, 1)):
        clips[['path', 'label', 'fold']].to_csv(tmp_path / f'{name}.csv', index=False)
        out = tmp_path / f'{name} report'
        assert commands.run(['audit', str(tmp_path / f'{name}.csv'), '--out', str(out)]) == code
        told = capsys.readouterr().out
        assert ('leaks: none' in told) == (code == 0) and 'no fact of the files tells' in told
        assert (out / 'audit.html').exists() and json.loads((out / 'audit.json').read_text())['leaks'] >= code
    assert '  audit ' in commands.usage()


def test_a_model_is_measured_on_the_clips_without_shortcuts(few_trees, clean, tmp_path, capsys, monkeypatch):
    from soundclf.tools.classifier import Classifier

    class ByLevel:
        classes = ['day', 'night']
        rules = type('Rules', (), {'thresholds': ()})()

        def predict(self, wave, rate):
            best = 'night' if np.sqrt(np.mean(wave**2)) < 0.031 else 'day'
            return type('Answer', (), {'best': best})()

    monkeypatch.setattr(Classifier, 'load', lambda *_: ByLevel())
    monkeypatch.setattr('soundclf.tools.commands_audit.model_path', Path)
    changed(clean, tmp_path / 'clips', softer)[['path', 'label', 'fold']].to_csv(tmp_path / 'c.csv')
    assert commands.run(['audit', str(tmp_path / 'c.csv'), '--out', str(tmp_path), '--model', 'm']) == 0
    told = capsys.readouterr().out
    assert 'clips without shortcuts: 8000 Hz' in told
    assert 'the model, balanced accuracy on the clips as they are' in told
    model = json.loads((tmp_path / 'audit.json').read_text())['model']
    lost = {row['way']: row['tested_loss']['mean'] for row in model['ways']}
    assert lost['re-levelled'] > 0.3 and lost['centred'] == pytest.approx(0, abs=0.05)


def test_a_place_that_cannot_be_written_is_told_before_the_work(clean, tmp_path, capsys):
    (tmp_path / 'file').write_text('in the way')
    assert commands.run(['audit', 'synthetic', '--out', str(tmp_path / 'file' / 'x')]) == 1
    assert 'choose another --out' in capsys.readouterr().err


def test_each_way_keeps_the_shape_and_leaves_silence_alone():
    rng = np.random.default_rng(0)
    facts = pd.DataFrame({'rate': [8000.0], 'silence': [0.0], 'band edge': [3000.0], 'level': [-20.0]})
    ways = neutral_ways(common_values(facts, ['x']))
    for (name, way), n, channels in product(ways.items(), (0, 1, 63, 1000), (1, 2)):
        wave = rng.normal(0, 0.1, (channels, n)).astype('float32')
        offset = np.full_like(wave, 0.2)
        assert n == 0 or np.abs(ways['trimmed'](offset, 16000)).min() > 0.1
        new = way(wave, 16000)
        assert new.shape == wave.shape and new.dtype == wave.dtype, name
        assert np.isfinite(new).all() and not np.any(way(np.zeros_like(wave), 16000)), name
