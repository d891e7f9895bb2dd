"Every way to train: what lies in test rows never reaches the weights, what lies in training rows does."

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from soundclf import fastai_transfer
from soundclf.audio_tagging import fit_store_normalize, train_tagger
from soundclf.core import backbones, embeddings, esc50, second_probes, tags
from soundclf.core.audio import Features
from soundclf.core.backbones import has_weights
from soundclf.core.clips import class_names, targets
from soundclf.core.embeddings import VIEWS, fit_probe, probe_proba
from soundclf.core.esc50 import synthetic
from soundclf.core.fastai_table import FastaiTable
from soundclf.core.features import cached_features, features_key, fit_normalize
from soundclf.core.files import SoundclfError
from soundclf.core.folders import folder as folder_table
from soundclf.core.front_ends import audioset_features
from soundclf.core.keys import run_key
from soundclf.core.loop import Trainer, TrainingRecipe
from soundclf.core.predictions import example_predictions
from soundclf.core.runs import load_weights, save_artefact
from soundclf.core.segments import RATE, SegmentRecipe, fit_level, read_waves
from soundclf.core.splits import Split, assert_disjoint, fold_splits
from soundclf.core.store import extract_all
from soundclf.core.table_estimators import class_probabilities
from soundclf.core.table_models import Candidate, more_roster, predict_models, reference_roster
from soundclf.core.table_search import svm_objective, trained_svm
from soundclf.optuna_tuning import scratch_objective, transfer_objective
from soundclf.scratch_cnn import Recipe, train_split
from soundclf.tabular_baselines import cross_blend, greedy_families
from soundclf.tools import training
from soundclf.transforms import Augment
from soundclf.waveform_cnn import fit_focus, train_segments, vote

CLASSES = ['noise', 'pulse_train', 'tone']
FEATURES = Features(sample_rate=8000, duration=1.0, n_fft=256, hop_length=128, n_mels=16, f_max=4000.0)
AUGMENT = Augment(crop=40, mixup=0.4, masks=1)
RECIPE = Recipe(network='reference', epochs=2, batch_size=8, ema=0.9, bfloat16=False, augment=AUGMENT)
TAGS = replace(RECIPE, network='tags', augment=Augment(masks=1))
SEGMENTS = SegmentRecipe(epochs=2, steps=2, batch_size=4)
TUNE = fastai_transfer.TransferRecipe(pretrained=False, epochs=2, freeze_epochs=1, batch_size=8, scale=1.0)


@pytest.fixture(scope='module', autouse=True)
def clips(tmp_path_factory):
    "Thirty short clips of three classes in five folds; the test fold comes first in the table."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SOUNDCLF_DATA', str(tmp_path_factory.mktemp('data')))
        patch.setenv('SOUNDCLF_JOBS', '1')
        table = synthetic(per_fold=2, rate=8000)
        table = table[table.label.isin(CLASSES)].reset_index(drop=True)
        yield table.assign(manually_verified=np.arange(len(table)) % 2 == 0)


def three_way(table: pd.DataFrame) -> Split:
    "The first fold tests, the second validates."
    rows = [np.flatnonzero(table.fold.isin(folds)) for folds in ((3, 4, 5), (2,), (1,))]
    return Split('three ways', *rows)


def relabelled(table: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    "The table with the labels of some rows moved on to the next class."
    classes = class_names(table)
    following = dict(zip(classes, [*classes[1:], classes[0]]))
    label = table.label.to_numpy().copy()
    label[rows] = [following[name] for name in label[rows]]
    return table.assign(label=label)


def absurd(table: pd.DataFrame, rows: np.ndarray, folder: Path) -> pd.DataFrame:
    "A copy of the clips in which some rows are the loudest noise, with other labels."
    folder.mkdir()
    paths = []
    for i, path in enumerate(table.path):
        wave, rate = sf.read(path)
        if i in rows:
            wave = np.sign(np.random.default_rng(i).standard_normal(len(wave)))
        paths.append(str(folder / Path(path).name))
        sf.write(paths[-1], wave, rate, subtype='PCM_16')
    flags = table.manually_verified.to_numpy().copy()
    flags[rows] = ~flags[rows]
    return relabelled(table, rows).assign(path=paths, manually_verified=flags)


def digest_of(*arrays) -> str:
    h = hashlib.sha256()
    for a in arrays:
        h.update(np.ascontiguousarray(a).tobytes())
    return h.hexdigest()


def learned(run) -> str:
    "The hash of all that a run has learned, normalisation included."
    tensors = load_file(run.folder / 'model.safetensors')
    return digest_of(*(t.float().numpy() for _, t in sorted(tensors.items())))


def scratch(table, split, folder, seed=42):
    return train_split(table, split, RECIPE, FEATURES, folder, seed)


def transfer(table, split, folder, seed=42):
    return fastai_transfer.fine_tune_split(table, split, TUNE, folder, seed)


def last_epoch(table, split, folder, seed=42):
    return fastai_transfer.fine_tune_split(table, split, TUNE, folder, seed, select=False)


def probe(table, split, folder, seed=42):
    if not has_weights('mn04_as'):
        pytest.skip('the weights of mn04_as are not here')
    return fastai_transfer.probe_split(table, split, folder)


def waveform(table, split, folder, seed=42):
    return train_segments(table, read_waves(table), split, SEGMENTS, folder, seed)


def tagger(table, split, folder, seed=42):
    store, _ = extract_all(table, FEATURES)
    return train_tagger(table, store, split, TAGS, FEATURES, folder, seed)


def one_call(table, split, folder, seed=42):
    "What `train_model` does with each fold."
    _, (run,) = training.run_splits(table, [split], 'scratch', folder, seed, 'quick')
    return run


SEEDED = [scratch, transfer, waveform, tagger]
PATHS = [*SEEDED, last_epoch, probe, one_call]


def two_classes(path: Callable, table: pd.DataFrame) -> pd.DataFrame:
    return table[table.label != 'tone'].reset_index(drop=True) if path is waveform else table


# ---- tables of numbers ----


def numbers(columns: int = 12) -> tuple[pd.DataFrame, np.ndarray, Split]:
    "Sixty rows of three classes in five folds, their features, and the split of the first fold."
    rng = np.random.default_rng(0)
    i = np.arange(60)
    table = pd.DataFrame({'path': [f'{n}.wav' for n in i], 'label': np.array(CLASSES)[i % 3]})
    table['group'] = [f'{n // 6}-{n % 3}' for n in i]
    table['fold'] = i // 12 + 1
    X = rng.standard_normal((60, columns)) + 2 * np.eye(3, columns)[i % 3]
    return table, X.astype('float32'), fold_splits(table)[0]


def spoilt(table: pd.DataFrame, X: np.ndarray, rows: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    "The rows with huge features and other labels."
    X = X.copy()
    X[rows] = 1e4 * np.random.default_rng(1).standard_normal(X[rows].shape)
    return relabelled(table, rows), X


def check(fit: Callable[[pd.DataFrame, np.ndarray, Split], str]):
    "Asserts that what is learned depends on the training rows and on no test row."
    table, X, split = numbers()
    before = fit(table, X, split)
    assert fit(*spoilt(table, X, split.test), split) == before
    assert fit(*spoilt(table, X, split.train[-6:]), split) != before


def test_a_linear_probe_learns_from_training_rows_only():
    def fit(table, X, split):
        views = np.stack([X + v for v in range(VIEWS)], 1)
        return digest_of(*fit_probe(views, targets(table), split.train, 0.1))

    check(fit)


ROSTER = [name for name in (*reference_roster(), *more_roster()) if name != 'random']


@pytest.mark.parametrize('name', ROSTER)
def test_models_of_tables_learn_from_training_rows_only(name):
    entry = (reference_roster() | more_roster())[name]
    points = numbers()[1]

    def fit(table, X, split):
        kept = []

        def build(seed):
            kept.append(entry.build(seed))
            return kept[-1]

        predict_models(table, [Candidate(build, X)], [split], n_jobs=1)
        return digest_of(class_probabilities(kept[0], points, 3))

    check(fit)


@pytest.mark.parametrize('params', [{}, {'outliers': 0.1}, {'slices': 1}], ids=str)
def test_a_searched_svm_learns_from_training_rows_only(params):
    def fit(table, X, split):
        model, rows = trained_svm(table, {'all': X}, split.train, 'all', **params)
        assert set(rows) <= set(split.train)
        scale, svc = model[0], model[1].svc_
        return digest_of(scale.mean_, scale.std_, svc.support_vectors_, svc.dual_coef_, svc.intercept_)

    check(fit)


def test_watched_rows_leave_fastai_s_network_alone():
    def fit(table, X, split):
        y = targets(table)
        watch = X[split.test], y[split.test]
        model = FastaiTable(epochs=2, watch=watch).fit(X[split.train], y[split.train])
        state = [t.numpy() for t in model.net_.state_dict().values()]
        return digest_of(model.mean_, model.std_, *state)

    check(fit)


def test_families_are_chosen_without_the_test_rows():
    def fit(table, X, split):
        groups = {f'family {i}': [i, i + 6] for i in range(6)}
        return str(greedy_families(table, X, split.train, groups, 3))

    check(fit)


def test_a_probe_of_seconds_learns_from_training_files_only(monkeypatch):
    found = {}

    def fit_and_keep(*args):
        found['probe'] = fit_probe(*args)
        return found['probe']

    monkeypatch.setattr(second_probes, 'fit_probe', fit_and_keep)
    rng = np.random.default_rng(2)
    quiet = [rng.standard_normal(RATE // 10).astype('float32') for _ in range(60)]

    def fit(table, X, split):
        loudness = np.abs(X).max(1)
        waves = [wave * loud for wave, loud in zip(quiet, loudness)]
        seconds = table.assign(start=0.0, peak=loudness)
        wanted = seconds.iloc[split.test].reset_index(drop=True)
        views = np.stack([X] * VIEWS, 1)
        second_probes.probe_seconds(table, waves, split, seconds, views, wanted, 0.1)
        return digest_of(*found['probe'])

    check(fit)


def test_a_probe_of_seconds_leaves_out_what_is_quiet_for_the_training_files(monkeypatch):
    table, X, split = numbers()
    rows = []

    def fit_and_keep(e, y, train, C):
        rows.extend(train)
        return fit_probe(e, y, train, C)

    monkeypatch.setattr(second_probes, 'fit_probe', fit_and_keep)
    waves = [np.where(np.arange(100) % 2, 1.0, -1.0).astype('float32') for _ in range(60)]
    seconds = table.assign(start=0.0, peak=np.where(np.arange(60) < 30, 1.0, 0.4))
    wanted = seconds.iloc[split.test].reset_index(drop=True)
    second_probes.probe_seconds(table, waves, split, seconds, np.stack([X] * VIEWS, 1), wanted)
    assert rows == [r for r in split.train if r < 30]


def test_the_weight_of_a_blend_comes_from_the_other_folds():
    a, b = example_predictions(60, 0.4, 1), example_predictions(60, 0.8, 2)
    first = (a.fold == 1).to_numpy()
    swapped = [relabelled(p, np.flatnonzero(first)) for p in (a, b)]
    weights, changed = cross_blend(a, b)[1], cross_blend(*swapped)[1]
    assert weights[0] == changed[0]
    assert weights[1:] != changed[1:]


def test_attention_is_fitted_to_the_seconds_that_it_is_given():
    clips = example_predictions(60, 0.7, 3)
    seconds = clips.drop(columns='p_cow').query('label != "cow" and predicted != "cow"')
    paths = [str(i // 3) for i in range(len(seconds))]
    seconds = seconds.assign(path=paths, peak=np.linspace(0.1, 3, len(seconds)))
    seconds['label'] = seconds.groupby('path').label.transform('first')
    part = seconds[['p_ant', 'p_bee']].sum(axis=1)
    seconds[['p_ant', 'p_bee']] = seconds[['p_ant', 'p_bee']].div(part, axis=0)

    def loss(focus):
        files = vote(seconds, 'attention', focus)
        p = np.where(files.label == 'ant', files.p_ant, files.p_bee)
        return -np.log(p.clip(1e-6)).mean()

    grid = (0, 0.5, 1, 2)
    losses = [loss((a, b)) for a in grid for b in grid]
    assert min(losses) < max(losses)
    assert loss(fit_focus(seconds)) == pytest.approx(min(losses))


def test_searches_refuse_test_rows(clips, tmp_path):
    table, X, split = numbers()
    for ask in (
        lambda: scratch_objective(clips, three_way(clips), RECIPE, FEATURES),
        lambda: transfer_objective(clips, three_way(clips), {'squeezenet1_1': TUNE}),
        lambda: svm_objective(table, {'all': X}, split, tmp_path),
    ):
        with pytest.raises(SoundclfError, match='has test clips'):
            ask()


# ---- values ----


def test_a_probe_is_scikit_learn_s_logistic_regression_on_standardised_views():
    rng = np.random.default_rng(3)
    y = np.repeat([0, 1, 2], 20)
    e = (5 + rng.standard_normal((60, VIEWS, 8)) * np.arange(1, 9) + y[:, None, None]).astype('float32')
    rows = np.arange(10, 60)
    flat = e[rows].reshape(-1, 8)
    scale = StandardScaler().fit(flat)
    model = LogisticRegression(C=0.1, max_iter=2000).fit(scale.transform(flat), np.repeat(y[rows], VIEWS))
    expected = model.predict_proba(scale.transform(e.reshape(-1, 8))).reshape(60, VIEWS, 3).mean(1)
    weight, bias = fit_probe(e, y, rows, 0.1)
    np.testing.assert_allclose(probe_proba(e, weight, bias), expected, atol=1e-3)


def test_two_classes_and_an_absent_one():
    rng = np.random.default_rng(4)
    y = np.arange(40) % 2 * 2
    e = (rng.standard_normal((40, VIEWS, 5)) + y[:, None, None]).astype('float32')
    flat = e.reshape(-1, 5)
    scale = StandardScaler().fit(flat)
    model = LogisticRegression(C=0.1, max_iter=2000).fit(scale.transform(flat), np.repeat(y, VIEWS))
    expected = model.predict_proba(scale.transform(flat)).reshape(40, VIEWS, 2).mean(1)
    proba = probe_proba(e, *fit_probe(e, y, np.arange(40), 0.1))
    np.testing.assert_allclose(proba[:, [0, 2]], expected, atol=1e-3)
    assert proba[:, 1].max() < 1e-6


@pytest.mark.parametrize('block', [256, 4])
def test_normalisation_is_that_of_exactly_the_training_rows(block):
    x = np.random.default_rng(5).uniform(1, 3, (20, 2, 4, 30)) * np.arange(1, 21)[:, None, None, None]
    rows = np.array([3, 17, 5, 6, 11, 12, 19])
    norm = fit_normalize(x, rows, block)
    mean, std = x[rows].mean((0, 3)), x[rows].std((0, 3))
    np.testing.assert_allclose(norm.mean[..., 0], mean, rtol=1e-5)
    np.testing.assert_allclose(norm.std[..., 0], std, rtol=1e-5)


def test_levels_and_stores_are_normalised_by_exactly_the_training_rows():
    rng = np.random.default_rng(6)
    rows = np.array([4, 1, 7])
    waves = [(i + rng.standard_normal(50 + 10 * i)).astype('float32') for i in range(9)]
    chosen = np.concatenate([waves[r] for r in rows])
    level = fit_level(waves, rows)
    assert (level.mean.item(), level.std.item()) == pytest.approx((chosen.mean(), chosen.std()), rel=1e-5)

    class Store:
        clips = [i + rng.standard_normal((3, 20 + i)) for i in range(9)]

        def get(self, row):
            return self.clips[row]

    norm = fit_store_normalize(Store(), rows)
    frames = np.concatenate([Store.clips[r] for r in rows], 1)
    np.testing.assert_allclose(norm.mean[0, :, 0], frames.mean(1), rtol=1e-5)
    np.testing.assert_allclose(norm.std[0, :, 0], frames.std(1), rtol=1e-5)


def test_the_average_of_the_weights_by_hand():
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 2)
    recipe = TrainingRecipe(optimizer='sgd', lr=0.5, ema=0.15, one_cycle=False, bfloat16=False)
    trainer = Trainer(net, recipe, 1)
    x, y = torch.randn(4, 3), torch.eye(2)[[0, 1, 1, 0]]
    steps = []
    for _ in range(3):
        trainer.step(x, y)
        steps.append(net.weight.detach().clone())
    kept = steps[0]  # the first step is kept whole; the memory is short at first
    for weight, share in zip(steps[1:], (0.15, 0.15)):
        kept = share * kept + (1 - share) * weight
    torch.testing.assert_close(trainer.best.weight.detach(), kept)
    assert not torch.equal(trainer.best.weight, net.weight)


def test_the_memory_of_the_average_grows():
    net = torch.nn.Linear(3, 2)
    trainer = Trainer(net, TrainingRecipe(optimizer='sgd', lr=0.5, one_cycle=False, bfloat16=False), 1)
    x, y = torch.randn(4, 3), torch.eye(2)[[0, 1, 1, 0]]
    steps = []
    for _ in range(3):
        trainer.step(x, y)
        steps.append(net.weight.detach().clone())
    kept = 2 / 11 * steps[0] + 9 / 11 * steps[1]
    kept = 3 / 12 * kept + 9 / 12 * steps[2]
    torch.testing.assert_close(trainer.best.weight.detach(), kept)


def changed_file(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    "The clips with one sample of one file changed."
    wave, rate = sf.read(table.path[0], dtype='int16')
    wave[100] += 1
    path = folder / 'other.wav'
    sf.write(path, wave, rate)
    return table.assign(path=[str(path), *table.path[1:]])


def test_a_run_key_names_all_that_makes_a_run(clips, tmp_path):
    split = three_way(clips)
    usual = {'table': clips, 'split': split, 'settings': [RECIPE, FEATURES], 'seed': 1, 'columns': ()}
    others = [
        {'table': changed_file(clips, tmp_path)},
        {'table': relabelled(clips, [0])},
        {'table': clips.assign(group=clips.path)},
        {'table': clips.assign(fold=1)},
        {'split': Split('s', split.train[1:], split.valid, split.test)},
        {'split': Split('s', split.train, split.valid[1:], split.test)},
        {'split': Split('s', split.train, split.valid, split.test[1:])},
        {'settings': [replace(RECIPE, lr=1e-4), FEATURES]},
        {'settings': [RECIPE, replace(FEATURES, n_mels=17)]},
        {'seed': 2},
        {'columns': ['manually_verified']},
        {'code': ['core.loop.Trainer']},
    ]
    keys = [run_key(**{'code': ['scratch_cnn.train_split']} | usual | other) for other in [{}, *others]]
    assert len(set(keys)) == len(keys)
    assert keys[0] == run_key(['scratch_cnn.train_split'], **usual)


def test_features_are_named_by_settings_files_and_code(clips, tmp_path):
    paths = clips.path.tolist()
    code = 'core.features.extract'
    keys = [
        features_key(paths, FEATURES, code),
        features_key(paths, replace(FEATURES, n_mels=17), code),
        features_key(paths, replace(FEATURES, pad='wrap'), code),
        features_key(changed_file(clips, tmp_path).path, FEATURES, code),
        features_key(paths[::-1], FEATURES, code),
        features_key(paths[1:], FEATURES, code),
        features_key(paths, FEATURES, 'core.front_ends.LogMel'),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == features_key(paths, FEATURES, code)


def test_a_file_that_changes_gives_other_features(clips, tmp_path):
    path = tmp_path / 'clip.wav'
    found = []
    for amount in (0.1, 0.2):
        sf.write(path, amount * np.sin(np.arange(8000)), 8000)
        found.append(np.array(cached_features([path], FEATURES, tmp_path)))
    found.append(np.array(cached_features([path], replace(FEATURES, top_db=20.0), tmp_path)))
    assert not np.array_equal(found[0], found[1]) and not np.array_equal(found[1], found[2])


def test_embeddings_are_named_by_the_weights_that_made_them(clips, monkeypatch):
    found = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        net = embeddings.MN04Features(pretrained=False)
        monkeypatch.setattr(embeddings, '_extractor', lambda backbone, net=net: net)
        features = audioset_features(0.5)
        found.append(np.array(embeddings.cached_embeddings(clips.path[:2], 'mn04_as', features)))
    assert not np.allclose(found[0], found[1])
    assert np.array_equal(found[0], found[2])


class Harmful:
    "What runs code where it is unpickled."

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_no_code_in_weights_is_run(tmp_path, monkeypatch):
    torch.save({'weight': Harmful(tmp_path / 'was run')}, tmp_path / 'weights.pt')
    monkeypatch.setattr(backbones, 'fetch_weights', lambda *args: tmp_path / 'weights.pt')
    with pytest.raises(Exception):  # noqa: B017 # torch's own; that nothing ran is what counts
        backbones.load_mn04()
    assert not (tmp_path / 'was run').exists()


def test_changed_weights_are_refused(tmp_path):
    net = torch.nn.Linear(3, 2)
    save_artefact(net, {'classes': ['a', 'b']}, tmp_path)
    load_weights(torch.nn.Linear(3, 2), tmp_path)
    state = load_file(tmp_path / 'model.safetensors')
    state['bias'][0] += 1
    save_file(state, tmp_path / 'model.safetensors')
    with pytest.raises(SoundclfError):
        load_weights(torch.nn.Linear(3, 2), tmp_path)


def test_groups_are_the_recordings_that_the_publishers_name(tmp_path, monkeypatch):
    listed = pd.DataFrame({'filename': [f'{i}.wav' for i in range(6)], 'fold': [1, 1, 2, 2, 3, 3]})
    listed = listed.assign(category='dog', src_file=[7, 7, 8, 8, 9, 9], take=list('ABABAB'))
    listed.to_csv(tmp_path / 'esc50.csv', index=False)
    monkeypatch.setattr(esc50, 'manifest', lambda name: {'meta/esc50.csv': ''})
    monkeypatch.setattr(esc50, 'fetch_file', lambda *args: tmp_path / 'esc50.csv')
    for module in (esc50, tags):
        monkeypatch.setattr(module, 'fetch_files', lambda names, *args: names)
    assert esc50.esc50(['dog']).group.tolist() == ['7', '7', '8', '8', '9', '9']
    meta = pd.DataFrame({'file': listed.filename, 'fname': listed.filename, 'label': list('abaabb')})
    meta = meta.assign(manually_verified='1', usage='train', freesound_id=[7, 7, 8, 8, 9, 9])
    table = tags._tagged(meta, tmp_path, {}, 3)
    assert table.group.tolist() == ['7', '7', '8', '8', '9', '9']
    assert (table.groupby('group').fold.nunique() == 1).all()


# ---- runs ----


@pytest.mark.parametrize('path', PATHS, ids=lambda path: path.__name__)
def test_only_training_rows_reach_the_weights(path, clips, tmp_path):
    table = two_classes(path, clips)
    split = fold_splits(table)[0]
    before = learned(path(table, split, tmp_path / 'runs'))
    for rows, name in ((split.test, 'test'), (split.train[-1:], 'train')):
        run = path(absurd(table, rows, tmp_path / name), split, tmp_path / 'runs')
        assert (learned(run) == before) == (name == 'test')


@pytest.mark.parametrize('path', [scratch, transfer], ids=lambda path: path.__name__)
def test_test_rows_stay_out_beside_validation_rows(path, clips, tmp_path):
    split = three_way(clips)
    before = learned(path(clips, split, tmp_path / 'runs'))
    run = path(absurd(clips, split.test, tmp_path / 'test'), split, tmp_path / 'runs')
    assert learned(run) == before
    assert set(run.predictions.fold) == {1}  # the test rows are what is predicted


class Watched:
    "Features that note which rows are read."

    def __init__(self, x):
        self.x, self.shape, self.ndim, self.seen = x, x.shape, x.ndim, set()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, rows):
        self.seen.update(np.atleast_1d(rows).tolist())
        return self.x[rows]


@pytest.mark.parametrize('validated', [True, False])
def test_fine_tuning_reads_no_test_clip_before_it_predicts(validated, clips, tmp_path, monkeypatch):
    split = three_way(clips) if validated else fold_splits(clips)[0]
    found = {}

    def watched(*args):
        found['x'] = Watched(cached_features(*args))
        return found['x']

    def predict(model, x, *args):
        found['seen'] = set(x.seen)
        return original(model, x, *args)

    original = fastai_transfer.predict_proba
    monkeypatch.setattr(fastai_transfer, 'cached_features', watched)
    monkeypatch.setattr(fastai_transfer, 'predict_proba', predict)
    transfer(clips, split, tmp_path)
    assert found['seen'] == {*split.train, *split.valid}
    assert found['x'].seen == {*split.train, *split.valid, *split.test}


@pytest.mark.parametrize('path', SEEDED, ids=lambda path: path.__name__)
def test_another_seed_is_another_run(path, clips, tmp_path):
    table = two_classes(path, clips)
    split = fold_splits(table)[0]
    a, b, again = (path(table, split, tmp_path, seed) for seed in (1, 2, 1))
    assert a.folder == again.folder != b.folder
    assert learned(a) != learned(b)


def test_a_model_is_measured_on_folds_that_its_training_left_out(clips, tmp_path, monkeypatch):
    class Seen(Exception):
        pass

    def stop(table, splits, *args):
        raise Seen(splits)

    monkeypatch.setattr(training, 'run_splits', stop)
    with pytest.raises(Seen) as found:
        training.train_model(clips, 'clips', tmp_path, 'scratch')
    splits = found.value.args[0]
    for split in splits:
        assert set(assert_disjoint(clips, split).train) == set(range(len(clips))) - set(split.test)
    assert sorted(np.concatenate([s.test for s in splits])) == list(range(len(clips)))


def test_a_run_keeps_the_constants_of_its_training_rows(clips, tmp_path):
    split = three_way(clips)
    x = np.asarray(cached_features(clips.path, FEATURES))
    kept = load_file(scratch(clips, split, tmp_path).folder / 'model.safetensors')
    np.testing.assert_allclose(kept['normalize.mean'][..., 0], x[split.train].mean((0, 3)), rtol=1e-4)


@pytest.mark.parametrize('path', [scratch, tagger], ids=lambda path: path.__name__)
def test_the_averaged_weights_are_those_that_are_kept(path, clips, tmp_path, monkeypatch):
    split = fold_splits(clips)[0]
    averaged = path(clips, split, tmp_path)
    for name in ('RECIPE', 'TAGS'):
        monkeypatch.setitem(globals(), name, replace(globals()[name], ema=0.0))
    raw = path(clips, split, tmp_path)
    assert averaged.losses == raw.losses  # the same steps
    assert learned(averaged) != learned(raw)


# ---- files of your own ----

def _sound(path: Path, seed: int, gain: float = 1.0):
    "A file of gliding tones, each seed with others."
    rng = np.random.default_rng(seed)
    t = np.arange(12000) / 8000
    glides = [np.sin(2 * np.pi * (f * t + g * t**2)) for f, g in rng.uniform(100, 1500, (8, 2))]
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, gain * 0.1 * np.sum(glides, 0) * rng.uniform(0.2, 1, len(t)), 8000)


def own_folder(root: Path) -> Path:
    "Two classes of five sounds, and one of them once more at another level."
    for label in ('cat', 'dog'):
        for i in range(5):
            _sound(root / label / f'{i}.wav', i + 5 * (label == 'dog'))
    _sound(root / 'dog' / 'copy.wav', 5, 0.4)  # dog/0.wav again
    return root


def test_a_copy_at_another_level_is_one_group_with_its_original(tmp_path):
    table = folder_table(own_folder(tmp_path / 'own'))
    names = table.path.map(lambda p: '/'.join(Path(p).parts[-2:]))
    copies = table[names.isin(['dog/0.wav', 'dog/copy.wav'])]
    assert len(copies) == 2 and copies.group.nunique() == copies.fold.nunique() == 1
    assert table.group.nunique() == len(table) - 1


def test_a_copy_in_another_fold_of_a_csv_is_warned_of(tmp_path):
    root = own_folder(tmp_path / 'own')
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob('*.wav'))
    rows = pd.DataFrame({'path': names, 'label': [n.split('/')[0] for n in names]})
    rows['fold'] = np.where(rows.path == 'dog/copy.wav', 1, np.arange(len(rows)) % 2 + 1)
    rows.loc[rows.path == 'dog/0.wav', 'fold'] = 2
    rows.to_csv(root / 'labels.csv', index=False)
    with pytest.warns(UserWarning, match='one sound in two folds'):
        folder_table(root / 'labels.csv')
