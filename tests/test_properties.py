"What holds for any table, recording, label and length, on examples that hypothesis makes up."

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from soundclf.audio_tagging import places, window
from soundclf.core.audio import (
    Features,
    decode,
    fit_clip,
    fit_length,
    load_clip,
    read_blocks,
    resample,
    resample_blocks,
)
from soundclf.core.duplicates import crossing, merge_groups
from soundclf.core.files import SoundclfError
from soundclf.core.metrics import accuracy_interval, calibration_error, metrics, wilson_interval
from soundclf.core.predictions import load_predictions, predictions_table, save_predictions
from soundclf.core.segments import RATE, cut, cut_seconds, loud_starts
from soundclf.core.splits import (
    Split,
    assert_disjoint,
    fold_splits,
    grouped_folds,
    inner_split,
    reference_split,
    validation_splits,
)
from soundclf.core.table_search import half_split, thinned, without_outliers
from soundclf.core.urban import official_splits
from soundclf.tools.labels import load_labels, save_label
from soundclf.tools.timeline import timeline
from soundclf.tools.windows import Window, sliding_windows, to_samples


def rows_of(split: Split) -> list[set[int]]:
    return [set(map(int, rows)) for rows in (split.train, split.valid, split.test)]


def leaks(table: pd.DataFrame, split: Split) -> bool:
    "Whether a row or a group is on two sides."
    sides = rows_of(split)
    sides += [set(table.group.iloc[list(rows)]) for rows in sides]
    pairs = ((0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5))
    return any(sides[a] & sides[b] for a, b in pairs)


@st.composite
def tables(draw, least: int = 12, whole: bool = False) -> pd.DataFrame:
    "Clips of two to four classes in groups of any size; with `whole`, a group has one fold."
    n = draw(st.integers(least, 40))
    numbers = st.lists(st.integers(0, 11), min_size=n, max_size=n)
    group = np.array(draw(numbers))
    table = pd.DataFrame({'path': [f'{i}.wav' for i in range(n)], 'group': group.astype(str)})
    table['label'] = [f'class {i % 4}' for i in draw(numbers)]
    fold = np.array(draw(st.lists(st.integers(1, 5), min_size=12, max_size=12)))[group]
    table['fold'] = fold if whole else [i % 5 + 1 for i in draw(numbers)]
    return table


def or_a_sentence(make, *args):
    "The result; a table from which it cannot be made is left out."
    try:
        return make(*args)
    except SoundclfError:
        assume(False)


# ---- splits ----


@given(tables(), st.integers(2, 5), st.integers(0, 3))
def test_grouped_folds_keep_groups_whole(table, k, seed):
    fold = or_a_sentence(grouped_folds, table, k, seed)
    assert set(fold) <= set(range(1, k + 1))
    assert (table.assign(fold=fold).groupby('group').fold.nunique() == 1).all()


@given(tables(whole=True))
def test_the_tests_of_folds_are_a_partition(table):
    splits = or_a_sentence(fold_splits, table)
    assert sorted(np.concatenate([s.test for s in splits])) == list(range(len(table)))
    for split in splits:
        train, valid, test = rows_of(split)
        assert not valid and train | test == set(range(len(table))) and not leaks(table, split)
        assert table.fold.iloc[split.test].nunique() == 1


@given(tables())
def test_folds_that_cut_a_group_are_refused(table):
    assume(table.fold.nunique() > 1)
    is_cut = table.groupby('group').fold.nunique().max() > 1
    if is_cut:
        with pytest.raises(SoundclfError, match='is in both train and test'):
            fold_splits(table, 'refuse')
    else:
        assert not any(leaks(table, split) for split in fold_splits(table, 'refuse'))


@given(tables())
def test_training_loses_what_shares_a_group_with_the_test(table):
    assume(table.fold.nunique() > 1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        splits = or_a_sentence(fold_splits, table)
    for split, whole in zip(splits, fold_splits(table, 'keep')):
        assert not leaks(table, split)
        assert split.test.tolist() == whole.test.tolist()
        lost = set(whole.train) - set(split.train)
        assert set(table.group.iloc[sorted(lost)]) <= set(table.group.iloc[split.test])


@given(tables(), st.data())
def test_disjoint_is_what_has_no_group_on_two_sides(table, data):
    side = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(table), max_size=len(table))))
    split = Split('any', *(np.flatnonzero(side == i) for i in range(3)))
    if leaks(table, split):
        with pytest.raises(SoundclfError):
            assert_disjoint(table, split)
    else:
        assert assert_disjoint(table, split) is split


@given(tables(whole=True))
def test_validation_splits_leave_their_fold_alone(table):
    splits = or_a_sentence(validation_splits, table)
    assert len(splits) == table.fold.nunique()
    for split, untouched in zip(splits, sorted(table.fold.unique())):
        train, valid, test = rows_of(split)
        assert not test and not leaks(table, split)
        assert train | valid == set(np.flatnonzero(table.fold != untouched))
        assert table.fold.iloc[split.valid].nunique() == 1


@given(tables(least=20), st.integers(0, 3))
def test_an_inner_split_stays_inside_the_training_rows(table, seed):
    rows = np.flatnonzero(table.group.astype(int) % 4 > 0)
    split = or_a_sentence(inner_split, table, rows, seed, 3)
    train, valid, test = rows_of(split)
    assert train | valid == set(rows) and train and valid and not test and not leaks(table, split)


@given(tables(whole=True), st.integers(0, 3))
def test_halves_are_of_one_fold(table, seed):
    assume(table.fold.nunique() > 1)
    split = or_a_sentence(reference_split, table, seed)
    train, valid, test = rows_of(split)
    held = set(np.flatnonzero(table.fold == table.fold.min()))
    assert valid | test == held and train == set(range(len(table))) - held and not leaks(table, split)


@given(tables(least=20), st.integers(0, 1))
def test_searches_and_official_folds_never_leak(table, half):
    assume(table.fold.nunique() >= 4)
    split = half_split(table, half)
    other = np.array_split(sorted(table.fold.unique()), 2)[1 - half]
    used = set(split.train) | set(split.valid)
    assert not len(split.test) and not leaks(table, split)
    assert not set(table.group.iloc[sorted(used)]) & set(table.group[table.fold.isin(other)])
    splits = official_splits(table)
    assert not any(leaks(table, s) for s in splits)
    assert sorted(np.concatenate([s.test for s in splits])) == list(range(len(table)))


@given(tables(), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=8))
def test_merged_groups_are_connected_clips(table, pairs):
    names = table.path.to_numpy()
    found = pd.DataFrame({'path_a': names[[a for a, _ in pairs]], 'path_b': names[[b for _, b in pairs]]})
    merged = merge_groups(table, found)
    group = dict(zip(table.path, merged.group))
    assert all(group[a] == group[b] for a, b in zip(found.path_a, found.path_b))
    assert (merged.groupby(table.group).group.nunique() == 1).all()  # what was together stays together
    parent = {g: g for g in table.group}

    def root(g):
        return g if parent[g] == g else root(parent[g])

    old = dict(zip(table.path, table.group))
    for a, b in zip(found.path_a, found.path_b):
        parent[root(old[a])] = root(old[b])
    assert merged.group.nunique() == len({root(g) for g in parent})  # and nothing else is joined
    cross = crossing(table, found)
    fold = dict(zip(table.path, table.fold))
    assert len(cross) == sum(fold[a] != fold[b] for a, b in zip(found.path_a, found.path_b))


@given(tables(), st.integers(0, 4), st.floats(0, 0.9))
def test_thinned_rows_are_training_rows(table, most, share):
    rows = np.flatnonzero(table.fold > 1)
    assume(len(rows))
    groups = table.group.to_numpy()
    kept = thinned(groups, rows, most)
    counts = pd.Series(groups[rows]).value_counts()
    assert set(kept) <= set(rows)
    assert len(kept) == (counts.clip(upper=most) if most else counts).sum()
    y = pd.factorize(table.label)[0]
    X = np.random.default_rng(0).standard_normal((len(table), 3))
    inside = without_outliers(X, y, rows, share)
    assert set(inside) <= set(rows) and set(y[inside]) == set(y[rows])


# ---- windows and timelines ----


@given(
    st.lists(st.integers(0, 50), max_size=12),
    st.integers(1, 40),
    st.integers(1, 40),
)
@example([41], 40, 40)
@example([80], 40, 40)
def test_windows_cover_every_sample(lengths, samples, hop):
    assume(hop <= samples)
    n = sum(lengths)
    wave = np.arange(n, dtype='float32')
    blocks = np.split(wave, np.cumsum(lengths)[:-1])
    found = list(sliding_windows(blocks, samples, hop))
    seen = np.zeros(n, bool)
    for first, part in found:
        assert np.array_equal(part, wave[first : first + len(part)])
        seen[first : first + len(part)] = True
    assert seen.all()
    starts = [first for first, _ in found]
    assert starts[:-1] == [i * hop for i in range(len(found) - 1)]
    assert {len(part) for _, part in found} <= {min(samples, n)}
    assert len(set(starts)) == len(starts)  # no window twice
    assert all(0 < b - a <= hop for a, b in zip(starts, starts[1:]))


def answers(draw, classes: int) -> np.ndarray:
    p = np.array(draw(st.lists(st.floats(0.01, 1), min_size=classes, max_size=classes)))
    return p / p.sum()


@st.composite
def windows(draw) -> list[Window]:
    "What `Classifier.stream` yields: windows on a grid, the last one ending with the recording."
    length = draw(st.integers(2, 12))
    hop = draw(st.integers(1, length))
    n = draw(st.integers(1, 60))
    first = [f for f, _ in sliding_windows([np.zeros(n, 'float32')], length, hop)]
    return [Window(f / 8, (f + min(length, n)) / 8, answers(draw, 3)) for f in first]


@given(windows())
def test_timelines_have_neither_gap_nor_overlap(found):
    segments = timeline(found, ['a', 'b', 'c'])
    assert segments.start.iloc[0] == 0 and segments.end.iloc[-1] == found[-1].end
    assert (segments.start[1:].to_numpy() == segments.end[:-1].to_numpy()).all()
    assert (segments.end > segments.start).all()
    assert (segments.label[1:].to_numpy() != segments.label[:-1].to_numpy()).all()
    assert segments.probability.between(1 / 3 - 1e-9, 1).all()


@given(windows(), st.integers(0, 200))
def test_a_moment_has_the_answer_of_the_windows_over_it(found, moment):
    at = (moment + 0.5) / 16
    over = [w.proba for w in found if w.start <= at < w.end]
    assume(over)
    mean = np.mean(over, 0)
    assume(np.sort(mean)[-1] - np.sort(mean)[-2] > 1e-9)
    segments = timeline(found, ['a', 'b', 'c'])
    here = segments[(segments.start <= at) & (at < segments.end)]
    assert here.label.tolist() == ['abc'[mean.argmax()]]


@given(st.integers(1, 5 * RATE // 2), st.floats(0.0, 2.0))
def test_seconds_cover_a_file_but_for_half_a_second(n, least):
    wave = np.random.default_rng(n).standard_normal(n).astype('float32')
    table = pd.DataFrame({'path': ['a'], 'label': ['x'], 'fold': [1], 'group': ['a']})
    rows, parts = cut_seconds(table, [wave], np.array([0]), 0.0)
    assert parts.shape == (len(rows), 1, RATE)
    ends = np.minimum(rows.start * RATE + RATE, n)
    assert rows.start[0] == 0 and ends.max() >= n - RATE / 2
    loud, _ = cut_seconds(table, [wave], np.array([0]), least)
    assert len(loud) >= 1 and (len(loud) == 1 or loud.peak.min() >= least)
    starts = loud_starts(wave, 400, least)
    assert len(starts) and (starts % 160 == 0).all()


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 70))
def test_a_cut_has_the_length_that_is_asked_for(n, samples, start):
    wave = np.arange(n, dtype='float32')
    part = cut(wave, start, samples)
    assert len(part) == samples and set(part) <= set(wave)
    if start + samples <= n:
        assert part[0] == start


@given(st.integers(1, 60), st.integers(1, 30), st.floats(0, 1), st.integers(1, 6))
def test_a_window_of_a_clip_has_its_length(n, frames, at, most):
    x = np.arange(2.0 * n).reshape(2, n) + 1
    found = window(x, frames, at)
    assert found.shape == (2, frames)
    inside = found if n >= frames else found[:, round(at * (frames - n)) :][:, :n]
    assert np.array_equal(np.diff(inside), np.ones((2, inside.shape[1] - 1)))
    where = places(n, frames, most)
    assert 1 <= len(where) <= most and where.min() >= 0 and where.max() <= 1
    if 1 < len(where) < most:
        covered = set()
        for place in where:
            covered |= set(window(x, frames, place)[0])
        assert covered >= set(x[0])


# ---- labels ----

LABELS = st.text(
    st.characters(exclude_categories=['Cs', 'Cc'], exclude_characters='|'), min_size=1, max_size=20
).filter(str.strip)


@given(st.lists(st.tuples(st.integers(0, 5), LABELS), min_size=1, max_size=6))
@example([(0, 'a,b'), (1, '"quoted"'), (2, 'NA'), (3, 'Grüße, 日本'), (4, '007'), (5, '=1+1')])
@example([(0, 'first'), (0, 'second')])
def test_label_files_give_back_any_text(given_labels):
    with tempfile.TemporaryDirectory() as tmp:
        file = Path(tmp).resolve() / 'labels.csv'
        expected = {}
        for number, label in given_labels:
            save_label(file, file.parent / f'{number} of, "six".wav', label)
            expected[str(file.parent / f'{number} of, "six".wav')] = label.strip()
        assert load_labels(file) == expected


@given(st.text(st.characters(exclude_categories=['Cs']), max_size=8))
@example('a\rb')
@example('a\nb')
@example('\r')
def test_a_label_comes_back_or_is_refused(label):
    with tempfile.TemporaryDirectory() as tmp:
        file = Path(tmp).resolve() / 'labels.csv'
        save_label(file, file.parent / 'a.wav', 'kept')
        expected = {str(file.parent / 'a.wav'): 'kept', str(file.parent / 'b.wav'): label.strip()}
        try:
            save_label(file, file.parent / 'b.wav', label)
        except SoundclfError:
            del expected[str(file.parent / 'b.wav')]
        assert load_labels(file) == expected


@given(st.lists(LABELS, min_size=2, max_size=4, unique=True), st.integers(1, 6))
def test_predictions_give_back_any_class(classes, n):
    classes = sorted({c.strip() for c in classes})
    table = pd.DataFrame({'path': [f'{i}.wav' for i in range(n)], 'fold': 1, 'group': 'g'})
    table['label'] = [classes[i % len(classes)] for i in range(n)]
    proba = np.random.default_rng(n).dirichlet(np.ones(len(classes)), n)
    made = predictions_table(table, np.arange(n), proba, classes)
    with tempfile.TemporaryDirectory() as tmp:
        read = load_predictions(save_predictions(made, Path(tmp) / 'p.csv'))
    pd.testing.assert_frame_equal(made, read, check_dtype=False)
    assert made.predicted.tolist() == [classes[i] for i in proba.argmax(1)]


# ---- samples ----

WAVES = arrays(
    'float32', st.tuples(st.integers(1, 3), st.integers(1, 400)), elements=st.floats(-1, 1, width=32)
)


@given(WAVES, st.integers(1, 600), st.sampled_from(['zero', 'wrap', 'noise']))
def test_a_fitted_clip_has_the_length_that_is_asked_for(wave, samples, pad):
    fitted = fit_length(wave, samples, pad)
    n = wave.shape[1]
    assert fitted.shape == (len(wave), samples)
    if n >= samples:
        assert np.array_equal(fitted, wave[:, (n - samples) // 2 :][:, :samples])
    else:
        before = (samples - n) // 2
        assert np.array_equal(fitted[:, before : before + n], wave)


@given(WAVES, st.sampled_from([8000, 11025, 22050, 44100]), st.integers(1, 2))
def test_a_decoded_file_has_its_samples_and_a_loaded_clip_its_length(wave, rate, channels):
    features = Features('waveform', 8000, 0.02, channels)
    with tempfile.TemporaryDirectory() as tmp:
        path = f'{tmp}/a.wav'
        sf.write(path, wave.T, rate, subtype='FLOAT')
        read, found = decode(path)
        assert found == rate and np.array_equal(read, wave)
        half = wave.shape[1] // 2
        assert np.array_equal(decode(path, half)[0], wave[:, half:])
        assert np.array_equal(decode(path, 0, half)[0], wave[:, :half])
        blocks = [block for block, _ in read_blocks(path, 7)]
        assert np.array_equal(np.concatenate(blocks, 1), wave)
        if resample(wave, rate, 8000).shape[1] == 0:
            with pytest.raises(SoundclfError, match='remove it'):
                load_clip(path, features)
            return
        clip = load_clip(path, features)
    assert clip.shape == (channels, features.samples) and clip.dtype == np.float32
    np.testing.assert_allclose(clip, fit_clip(wave, rate, features), atol=1e-3)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=6), st.sampled_from([8000, 16000, 44100]))
def test_resampled_blocks_are_as_long_as_the_sound(lengths, rate):
    blocks = [np.zeros(n, 'float32') for n in lengths]
    n = sum(len(block) for block in resample_blocks(iter(blocks), rate, 16000))
    assert abs(n - sum(lengths) * 16000 / rate) <= 1


@given(st.integers(1, 2), st.integers(1, 50), st.sampled_from(['int16', 'int32', 'uint8']))
def test_full_scale_is_one_for_every_kind_of_integer(channels, n, kind):
    limits = np.iinfo(kind)
    values = np.random.default_rng(n).integers(
        limits.min, limits.max, (channels, n), dtype=kind, endpoint=True
    )
    wave = to_samples(values, 8000)
    assert wave.shape == (channels, n) and np.abs(wave).max() <= 1.01
    ends = to_samples(np.array([limits.min, limits.max], kind), 8000)[0]
    np.testing.assert_allclose(ends, [-1, 1], atol=0.01)


# ---- figures ----


@given(st.integers(1, 200), st.data())
def test_intervals_hold_the_accuracy_and_are_never_narrower_than_wilson_s(n, data):
    right = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    groups = np.arange(n) // data.draw(st.integers(1, 4))
    low, high = accuracy_interval(right, groups)
    narrow = wilson_interval(right.sum(), n)
    assert 0 <= low <= right.mean() + 1e-9 and right.mean() - 1e-9 <= high <= 1
    assert low <= narrow[0] + 1e-9 and high >= narrow[1] - 1e-9


@given(st.integers(3, 60), st.integers(2, 5))
def test_metrics_are_what_counting_gives(n, k):
    rng = np.random.default_rng([n, k])
    classes = [f'c{i}' for i in range(k)]
    table = pd.DataFrame({'path': [str(i) for i in range(n)], 'fold': 1, 'group': 'g'})
    table['label'] = rng.choice(classes, n)
    made = predictions_table(table, np.arange(n), rng.dirichlet(np.ones(k), n), classes)
    found = metrics(made)
    right = (made.label == made.predicted).to_numpy()
    assert found['accuracy'] == pytest.approx(right.mean()) and found['n'] == n
    p = made[[f'p_{c}' for c in classes]].to_numpy()
    rank = [(-row).argsort().tolist().index(classes.index(label)) for row, label in zip(p, made.label)]
    assert found['top3'] == pytest.approx(np.mean(np.array(rank) < 3))
    f1 = []
    for c in sorted(set(made.label)):
        hits = ((made.label == c) & (made.predicted == c)).sum()
        f1.append(2 * hits / ((made.label == c).sum() + (made.predicted == c).sum()))
    assert found['macro_f1'] == pytest.approx(np.mean(f1))
    number = np.minimum((p.max(1) * 10).astype(int), 9)
    gaps = [abs(right[number == b].sum() - p.max(1)[number == b].sum()) for b in set(number)]
    assert calibration_error(made) == found['ece'] == pytest.approx(sum(gaps) / n)
