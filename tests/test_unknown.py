"Sounds of no class, silence, temperatures and sets of labels, from the training to the command."

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from soundclf.core.artefact_schema import read_config, write_config
from soundclf.core.calibration import calibrated
from soundclf.core.conformal import measured_coverage
from soundclf.core.esc50 import synthetic
from soundclf.core.files import SoundclfError, read_json
from soundclf.core.metrics import calibration_error
from soundclf.core.predictions import example_predictions, load_predictions
from soundclf.core.splits import fold_splits
from soundclf.core.unknown import fit_reference
from soundclf.tools import left_out
from soundclf.tools.classifier import Classifier
from soundclf.tools.commands import run
from soundclf.tools.engines import export_onnx
from soundclf.tools.fitting import _temperature
from soundclf.tools.timeline import timeline
from soundclf.tools.training import train_model


@pytest.fixture(scope='module')
def sounds(tmp_path_factory) -> pd.DataFrame:
    "Generated sounds, one class of which is a background."
    data = tmp_path_factory.mktemp('data')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SOUNDCLF_DATA', str(data))
        table = synthetic(per_fold=2)
    return table.assign(label=table.label.replace(table.label.iloc[0], 'background'))


@pytest.fixture(scope='module')
def trained(sounds, tmp_path_factory) -> Path:
    "A model that was trained for a moment."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SOUNDCLF_DATA', str(tmp_path_factory.mktemp('cache')))
        folder = tmp_path_factory.mktemp('model')
        return train_model(sounds, 'made up', folder, 'scratch', profile='quick', epochs=10)


@pytest.fixture
def model(trained, tmp_path) -> Path:
    "A copy that a test may damage."
    return Path(shutil.copytree(trained, tmp_path / 'model', ignore=shutil.ignore_patterns('runs')))


@pytest.fixture
def silence(tmp_path) -> Path:
    sf.write(tmp_path / 'silence.wav', np.zeros(22050), 22050)
    return tmp_path / 'silence.wav'


def test_a_background_is_no_class_and_is_measured(trained, sounds):
    record = read_json(trained / 'results.json')['models']['scratch']['answers']
    assert 'background' not in read_config(trained)['classes']
    assert record['others'] == (sounds.label == 'background').sum()
    assert 0 <= record['auroc'] <= 1 and 0 <= record['let_in'] <= 1
    assert 'measured on' in record['rests_on']
    assert f'AUROC {record["auroc"]:.3f}' in (trained / 'CARD.md').read_text()


def test_a_temperature_changes_no_accuracy(trained, sounds):
    predictions = load_predictions(trained / 'predictions.csv')
    record = read_json(trained / 'results.json')['models']['scratch']
    protocol = record['protocols']['five_folds']
    right = (predictions.label == predictions.predicted).mean()
    assert protocol['accuracy']['mean'] == pytest.approx(right, abs=1e-6)
    assert protocol['ece'] == record['answers']['ece']
    assert protocol['ece'] == pytest.approx(calibration_error(predictions), abs=1e-4)
    clf = Classifier.load(trained, 'torch')
    flat = Classifier.load(trained, 'torch')
    flat.run.model.temperature = 1.0
    paths = sounds.path[:20].tolist()
    assert clf.predict_many(paths).best.tolist() == flat.predict_many(paths).best.tolist()


def test_torch_and_onnx_agree_on_all_that_they_give(model, sounds):
    paths = [*sounds.path[:12]]
    engines = Classifier.load(model, 'torch'), Classifier.load(model / 'model.onnx')
    by_torch, by_onnx = (clf.predict_many(paths) for clf in engines)
    assert by_torch.unlike.notna().all()
    assert np.abs(by_torch.filter(like='p_') - by_onnx.filter(like='p_')).max().max() < 1e-4
    assert np.abs(by_torch.unlike - by_onnx.unlike).max() < 1e-3
    assert by_torch.predicted.tolist() == by_onnx.predicted.tolist()
    assert [o.name for o in engines[1].run.session.get_outputs()] == ['probabilities', 'unlike']


def test_a_model_without_these_numbers_answers_as_before(model, sounds):
    config = read_config(model)
    write_config(config | {'answers': config['answers'] | {'temperature': 2.0}}, model)
    assert Classifier.load(model, 'torch').run.model.temperature == 2
    write_config({k: v for k, v in config.items() if k not in ('answers', 'onnx_sha256')}, model)
    (model / 'reference.safetensors').unlink()
    for engine in ('torch', 'onnx'):
        export_onnx(model)
        clf = Classifier.load(model, engine)
        table = clf.predict_many(sounds.path[:6].tolist())
        assert table.predicted.tolist() == table.best.tolist()
        assert table.unlike.isna().all() and (table.note == '').all()
        with pytest.raises(SoundclfError, match='train it again'):
            clf.label_set(clf.predict(sounds.path[0]))
    with pytest.raises(SoundclfError, match='has no score'):
        Classifier.load(model, threshold=0.9)


@pytest.mark.parametrize('damage', ['missing', 'altered'])
def test_a_reference_that_is_not_the_models_is_refused(model, damage):
    file = model / 'reference.safetensors'
    if damage == 'missing':
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + b'!')
    with pytest.raises(SoundclfError, match='train the model again'):
        Classifier.load(model, 'torch')


def test_an_absurd_part_of_the_configuration_is_refused(model):
    config = read_config(model)
    file = model / 'config.json'
    for change in ({'temperature': -1}, {'quantiles': [1.0]}, {'limits': [0.5]}, {'kept': 2}):
        text = json.dumps(config | {'answers': config['answers'] | change})
        file.write_text(text)
        with pytest.raises(SoundclfError, match='answers'):
            read_config(model)


def answers(capsys, *words: str) -> tuple[int, list[dict]]:
    "(exit code, the JSON lines of `soundclf predict`)"
    code = run(['predict', *map(str, words), '--json'])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_silence_is_an_answer_with_a_code_of_its_own(model, silence, sounds, tmp_path, capsys):
    sf.write(tmp_path / 'quiet.wav', np.sin(np.arange(22050) / 9) * 1e-3, 22050)
    code, lines = answers(capsys, silence, tmp_path / 'quiet.wav', sounds.path[0], '--model', model)
    assert code == 3
    assert [line['note'] for line in lines[:2]] == ['silent', 'too quiet']
    assert [line['label'] for line in lines[:2]] == ['', ''] and lines[2]['label'] != ''
    (tmp_path / 'bad.wav').write_bytes(b'RIFF')
    assert answers(capsys, silence, tmp_path / 'bad.wav', '--model', model)[0] == 1
    assert answers(capsys, sounds.path[0], '--model', model)[0] == 0


def test_the_threshold_decides_what_is_unknown(model, sounds, capsys):
    for threshold, labels in (('0', {'unknown'}), ('1', set(sounds.label) - {'background'})):
        _, lines = answers(capsys, *sounds.path[:8], '--model', model, '--threshold', threshold)
        assert {line['label'] for line in lines} <= labels
        assert all(line['best'] != 'unknown' for line in lines)
    assert run(['predict', sounds.path[0], '--model', str(model), '--threshold', '95']) == 1
    assert 'share of known sounds' in capsys.readouterr().err


def test_sets_of_labels_in_every_form(model, sounds, tmp_path, capsys):
    out = tmp_path / 'sets.csv'
    words = [*sounds.path[:4], '--model', str(model), '--coverage', '0.9', '--out', str(out)]
    assert run(['predict', *words]) == 0
    shown = capsys.readouterr()
    assert 'measured' in shown.err and '{' in shown.out
    _, lines = answers(capsys, *words)
    assert pd.read_csv(out, keep_default_na=False).labels.tolist() == [' | '.join(x['labels']) for x in lines]
    wide = answers(capsys, *sounds.path[:4], '--model', model, '--coverage', '0.99')[1]
    assert all(set(a['labels']) <= set(b['labels']) for a, b in zip(lines, wide))
    assert run(['predict', *words, '--timeline']) == 1


def test_top_names_the_most_probable_classes(model, sounds, capsys):
    _, (line,) = answers(capsys, sounds.path[3], '--model', model, '--top', '3')
    ordered = sorted(line['probabilities'].values(), reverse=True)
    assert [p for _, p in line['top']] == ordered[:3]
    assert run(['predict', sounds.path[3], '--model', str(model), '--top', '0']) == 1


def test_a_timeline_has_gaps(model, sounds):
    clf = Classifier.load(model, 'torch', threshold=1.0)
    seconds = clf.features.duration
    wave, file_rate = sf.read(sounds.path[3], dtype='float32')
    pause = np.zeros(round(4 * seconds * file_rate), 'float32')
    long = np.concatenate([wave, pause, wave])
    found = timeline(clf.stream(long, sample_rate=file_rate), clf.classes, clf.score_limit)
    covered = (found.end - found.start).sum()
    assert len(found) >= 2 and covered < len(long) / file_rate - 2 * seconds
    clf.threshold = 0.0
    assert not len(timeline(clf.stream(long, sample_rate=file_rate), clf.classes, clf.score_limit))


def test_silent_windows_do_not_vote(model, sounds):
    clf = Classifier.load(model, 'torch', threshold=1.0)
    wave, rate = sf.read(sounds.path[3], dtype='float32')
    longer = np.concatenate([wave, np.zeros(round(6 * clf.features.duration * rate), 'float32')])
    answer = clf.predict(longer, rate)
    windows = clf.windows(longer, rate)
    heard = [w.proba for w in windows if w.start < len(wave) / rate]
    assert answer.windows == len(heard) < len(windows)
    np.testing.assert_allclose(list(answer.probabilities.values()), np.mean(heard, 0), atol=1e-5)


def test_answers_come_before_all_files_are_read(model, sounds):
    clf, taken = Classifier.load(model, 'torch'), []

    def paths():
        for i in range(5000):
            taken.append(i)
            yield sounds.path[i % 10]

    rows = clf.predict_each(paths())
    next(rows)
    assert len(taken) <= 33
    for _ in range(60):
        next(rows)
    assert len(taken) <= 61 + 33
    rows.close()


def test_a_far_sound_has_a_larger_score_than_training_sounds(model, sounds):
    clf = Classifier.load(model, 'torch')
    rate = clf.features.sample_rate
    click = np.zeros(round(clf.features.duration * rate), 'float32')
    click[len(click) // 2] = 0.9
    known = clf.predict_many(sounds.path[sounds.label != 'background'].tolist())
    assert clf.predict(click, rate).unlike > known.unlike.median() + 0.1
    assert clf.windows(click, rate)[0].score > np.median(clf.rules.quantiles)


def test_a_fold_has_no_part_in_its_own_temperature_and_limits():
    predictions = example_predictions(clips=300)
    here = predictions.fold == 1
    wrong = predictions.assign(label=predictions.label.mask(here, 'ant'))
    columns = ['p_ant', 'p_bee', 'p_cow']
    assert calibrated(wrong)[here][columns].equals(calibrated(predictions)[here][columns])
    p = np.repeat([0.9, 0.1], 40)
    two = pd.DataFrame({'label': 'ant', 'fold': np.repeat([1, 2], 40), 'group': range(80)})
    two = two.assign(p_ant=p, p_bee=1 - p)
    assert measured_coverage(two, 0.9)['coverage'] == 0.5  # fold 1 covers itself with the limit of fold 2


def test_a_reference_is_fitted_on_training_clips_only(monkeypatch):
    known = pd.DataFrame({'path': map(str, range(20)), 'label': ['ant', 'bee'] * 10, 'group': range(20)})
    known['fold'] = np.arange(20) // 5 + 1
    seen, embeddings = [], np.random.default_rng(0).standard_normal((20, 6))

    def noted(train, y, others=None):
        seen.append(np.flatnonzero((embeddings[:, None] == train).all(2).any(1)).tolist())
        return fit_reference(train, y, others)

    monkeypatch.setattr(left_out, 'fit_reference', noted)
    monkeypatch.setattr(left_out, 'opened_clips', lambda run, paths: (embeddings, np.zeros(20)))
    splits = fold_splits(known)[1:]
    rows = np.flatnonzero(known.fold != 1)
    left_out.fit_unlike(left_out.Study(known, known[:0], splits, [None] * 3, None, rows))
    expected = [np.intersect1d(split.train, rows).tolist() for split in splits]
    assert seen == [*expected, rows.tolist()]


def sure(label: str, right: int, of: int, p: float, fold: int) -> pd.DataFrame:
    "Answers of one probability, of which some are right."
    predicted = np.where(np.arange(of) < right, label, 'b' if label == 'a' else 'a')
    p_a = np.where(predicted == 'a', p, 1 - p)
    groups = [f'{fold}-{label}-{i}' for i in range(of)]
    rows = {'path': groups, 'label': label, 'fold': fold, 'group': groups, 'predicted': predicted}
    return pd.DataFrame(rows | {'p_a': p_a, 'p_b': 1 - p_a})


def test_a_temperature_that_does_not_help_is_not_used():
    "Fold 1 is too sure and fold 2 not sure enough: what one asks for makes the other worse."
    odd = [sure(label, 12, 20, 0.99, 1) for label in 'ab'] + [sure(label, 20, 20, 0.6, 2) for label in 'ab']
    assert _temperature(pd.concat(odd, ignore_index=True)) == 1
    same = [sure(label, 12, 20, 0.99, fold) for label in 'ab' for fold in (1, 2)]
    assert _temperature(pd.concat(same, ignore_index=True)) > 2
