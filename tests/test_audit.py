"The audit finds every leak and shortcut that is planted, and none where none is."

import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.ensemble
import soundfile as sf
from planted import RATE, SHORTCUTS, changed, clean_set, recall, softer, spoilt

from soundclf.core.audit import audit, merged_clips
from soundclf.core.clips import clips_table
from soundclf.core.neutral import common_values, neutral_ways
from soundclf.core.shortcut_losses import probe_losses
from soundclf.core.shortcuts import file_facts
from soundclf.tools import commands
from soundclf.tools.audit_report import save_audit


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


def test_a_clean_set_has_no_leak_and_no_shortcut(clean):
    report = audit(clean)
    assert report['leaks'] == 0 and not report['telling'] and not report['doubled']
    assert not report['near_duplicates']['across'] and not report['merged_groups']
    assert report['chance'] == 0.5 and report['not_probed'] == ''
    by_fact = {row['fact']: row for row in report['probes']}
    assert {'silence at end', 'silence at start', 'cutoff', 'level', 'DC offset'} & set(by_fact)
    assert all(row['low'] < 0.55 for row in report['probes'])
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_all_that_is_planted_is_found(clean):
    found = recall()
    kinds = found['by_kind']
    assert kinds['copy']['planted'] >= 8 and kinds['re-encoded']['planted'] >= 16
    assert kinds['shortcut']['planted'] == len(SHORTCUTS)
    assert found['recall'] == 1.0, found['missed']
    assert found['found_unplanted'] == 0


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
