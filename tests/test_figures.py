"Figures that don't flatter: what a report says of lopsided, silent, betrayed and leaking clips."

import json

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from soundclf.core.balance import balanced_accuracy
from soundclf.core.clips import clips_table
from soundclf.core.learning_curve import learning_curve, training_part
from soundclf.core.predictions import predictions_table
from soundclf.core.shortcuts import file_facts, shortcut_probe, telling_facts
from soundclf.core.splits import fold_splits, grouped_folds
from soundclf.tools import commands_train
from soundclf.tools.training_clips import keep_training_hashes
from soundclf.tools.training_report import data_lines, data_report, report_lines, training_report


def noise(path, rate=8000, seconds=0.5, level=0.1, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.random.default_rng([seed, *path.name.encode()]).normal(0, level, round(rate * seconds))
    sf.write(path, wave, rate)
    return path


def table_of(paths, labels, group=None):
    table = clips_table(paths, labels, group=group)
    return table.assign(fold=grouped_folds(table, 4))


def test_a_rate_that_tells_the_class_is_named(tmp_path):
    rates = {'faulty': 8000, 'healthy': 16000}
    labels = [c for c in rates for _ in range(12)]
    paths = [noise(tmp_path / c / f'{i}.wav', rates[c]) for i, c in enumerate(labels)]
    table = table_of(paths, labels)
    report = data_report(table)
    assert report['telling'][0] in ('rate', 'band edge') and 'level' not in report['telling']
    assert any('tell the classes: ' in line and 'rate 100.0 %' in line for line in data_lines(report))
    same = table_of([noise(p, 8000) for p in paths], labels)
    assert not data_report(same)['telling']
    assert any('do not tell the classes' in line for line in data_lines(data_report(same)))


@pytest.mark.parametrize('fact, change', [('length', {'seconds': 0.8}), ('level', {'level': 0.02})])
def test_length_and_level_that_tell_the_class_are_named(tmp_path, fact, change):
    labels = ['cat'] * 12 + ['dog'] * 12
    paths = [noise(tmp_path / f'{i}.wav', **(change if c == 'dog' else {})) for i, c in enumerate(labels)]
    table = table_of(paths, labels)
    assert telling_facts(shortcut_probe(table), 2)[0] == fact


def test_groups_bound_the_interval_of_a_probe(tmp_path):
    "Cuts of four recordings with a level of their own: per clip all is told, per recording nothing."
    labels = np.repeat(['healthy', 'faulty'] * 4, 6)
    machine = np.repeat(np.arange(8), 6)
    levels = np.random.default_rng(1).permutation(np.linspace(0.02, 0.3, 8))
    paths = [noise(tmp_path / f'm{m}_{i}.wav', level=levels[m]) for i, m in enumerate(machine)]
    leaky, grouped = table_of(paths, labels), table_of(paths, labels, machine.astype(str))
    assert 'level' in telling_facts(shortcut_probe(leaky), 2)
    assert 'level' not in telling_facts(shortcut_probe(grouped), 2)


def test_facts_of_a_long_file_are_those_of_its_blocks(tmp_path):
    wave = np.concatenate([np.zeros(150_000), np.full(50_000, 0.5)])
    sf.write(tmp_path / 'long.wav', wave, 10_000, subtype='FLOAT')
    facts = file_facts(clips_table([tmp_path / 'long.wav'], ['x'])).iloc[0]
    assert (facts.rate, facts.length, facts.channels) == (10_000, 20, 1)
    assert facts.silence == pytest.approx(0.75, abs=1e-3)
    assert facts.level == pytest.approx(10 * np.log10(0.0625))
    (tmp_path / 'bad.wav').write_bytes(b'RIFF')
    assert file_facts(clips_table([tmp_path / 'bad.wav'], ['x'])).isna().iloc[0, 0]


def test_the_band_edge_is_where_the_power_ends(tmp_path):
    seconds = np.arange(16000) / 16000
    sf.write(tmp_path / 'tone.wav', 0.3 * np.sin(2 * np.pi * 2000 * seconds), 16000)
    edge = file_facts(clips_table([tmp_path / 'tone.wav'], ['x']))['band edge'].iloc[0]
    assert edge == pytest.approx(2000, abs=30)


def always(table, answer: str):
    classes = sorted(set(table.label))
    proba = np.tile([0.9 if c == answer else 0.1 / (len(classes) - 1) for c in classes], (len(table), 1))
    return predictions_table(table, np.arange(len(table)), proba, classes)


def test_the_accuracy_of_a_large_class_is_no_achievement(tmp_path):
    labels = ['noise'] * 38 + ['rare'] * 2
    table = table_of([noise(tmp_path / f'{i}.wav') for i in range(40)], labels)
    report = training_report(table, always(table, 'noise'))
    text = '\n'.join(report_lines(report))
    assert report['balanced_accuracy']['mean'] == 0.5 and report['macro_f1']['mean'] < 0.5
    assert report['balanced_accuracy']['high'] > 0.7  # two clips tell little
    assert 'balanced accuracy: 50.0 %' in text and 'largest class: noise, 95.0 % of the clips' in text
    assert 'not shown to be above it' in text and 'rare taken for noise (2 of 2)' in text
    assert 'not told, because the answers are not shown to be above chance' in text
    json.dumps(report)


def test_silent_clips_and_near_duplicates_are_told(tmp_path):
    labels = ['cat'] * 8 + ['dog'] * 8
    paths = [noise(tmp_path / f'{i:02}.wav', level=0 if i < 3 else 0.1) for i in range(16)]
    table = table_of(paths, labels)
    table.attrs['near_duplicates'] = [(str(paths[4]), str(paths[5]))]
    text = '\n'.join(data_lines(data_report(table)))
    assert '3 clips hold nothing but silence' in text and '00.wav' in text
    assert 'near-duplicates: 1 pairs' in text and '04.wav' in text


def test_a_swapped_label_comes_first(tmp_path):
    labels = ['cat', 'dog'] * 10
    table = table_of([noise(tmp_path / f'{i:02}.wav') for i in range(20)], labels)
    proba = np.where((table.label == 'cat').to_numpy()[:, None], [0.9, 0.1], [0.1, 0.9])
    table.loc[6, 'label'] = 'dog'
    predictions = predictions_table(table, np.arange(20), proba, ['cat', 'dog'])
    report = training_report(table, predictions)
    assert [row['path'] for row in report['label_issues']] == [predictions.path[6]]
    assert any('labelled dog, predicted cat' in line for line in report_lines(report))


def test_parts_of_a_curve_are_nested_and_stay_in_the_training_folds():
    labels = np.array(['a', 'b', 'c'] * 40)
    group = np.arange(120) // 3
    table = clips_table([f'{i}.wav' for i in range(120)], labels, group=group.astype(str))
    table['fold'] = grouped_folds(table)
    for split in fold_splits(table):
        parts = [set(training_part(table, split.train, share, draw=1)) for share in (0.25, 0.5, 1)]
        assert parts[0] < parts[1] < parts[2] == set(split.train) and not parts[2] & set(split.test)
        assert len(set(table.label.iloc[sorted(parts[0])])) == 3


def test_more_clips_help_where_they_do_and_not_where_nothing_can():
    "Forty kinds of sound, each of one class: a kind that was never seen is guessed."
    kind = np.random.default_rng(0).integers(0, 40, 160)
    table = pd.DataFrame({'label': np.where(kind % 2, 'odd', 'even'), 'fold': np.arange(160) % 5 + 1})
    table['path'] = table['group'] = [f'{i:03}' for i in range(160)]
    learnable = learning_curve(np.eye(40)[kind], table, C=1.0)
    means = [p['mean'] for p in learnable['points']]
    assert means[0] < means[1] < means[2] and learnable['points'][2]['clips'] == 128
    assert learnable['more']['more'] == 30 and learnable['more']['gain'] > 0
    noise = np.random.default_rng(0).normal(size=(160, 30))
    hopeless = learning_curve(noise, table, C=0.1)['more']
    assert hopeless['low'] < 0 < hopeless['high']


def test_balanced_intervals_grow_with_the_groups():
    table = clips_table([f'{i}.wav' for i in range(80)], ['a', 'b'] * 40)
    table['predicted'] = np.where(np.arange(80) // 10 % 4 == 0, 'a', table.label)
    single = balanced_accuracy(table)
    grouped = balanced_accuracy(table.assign(group=[str(i // 10) for i in range(80)]))
    assert single['mean'] == grouped['mean']
    assert grouped['high'] - grouped['low'] > 1.3 * (single['high'] - single['low'])


@pytest.fixture
def measured(tmp_path, monkeypatch):
    "`evaluate` with a made-up model that answers cat; returns its lines for so many known clips."
    from test_predict import stand_in

    paths = [noise(tmp_path / 'in' / ('cat' if i < 6 else 'dog') / f'{i}.wav') for i in range(12)]
    made = stand_in()
    made.classes = ['cat', 'dog']
    made.run = lambda waves: np.tile([0.8, 0.2], (len(waves), 1))
    monkeypatch.setattr('soundclf.tools.classifier.Classifier.load', lambda *_: made)
    monkeypatch.setattr(commands_train, 'model_path', lambda _: tmp_path / 'model')
    (tmp_path / 'model').mkdir()

    def lines(known: int, capsys):
        if known:
            keep_training_hashes(clips_table(paths[:known], ['cat'] * known), tmp_path / 'model')
        assert commands_train.evaluate('made', str(tmp_path / 'in')) == 0
        return capsys.readouterr().out

    return lines


def test_evaluate_tells_of_clips_that_the_model_was_trained_on(measured, capsys):
    assert 'trained on' not in measured(0, capsys)
    some = measured(4, capsys)
    assert 'was trained on 4 of the 12 clips' in some and 'accuracy of the 8 others: 25.0 %' in some
    assert 'balanced accuracy: 50.0 %' in some and 'largest class: cat, 50.0 %' in some
    assert 'trained on all of these clips' in measured(12, capsys)
