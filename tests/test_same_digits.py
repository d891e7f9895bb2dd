"Every kind of work that goes side by side has the same digits with one job at a time and with two."

import pytest
import test_leaks
from test_leaks import (
    FEATURES,
    RECIPE,
    SEGMENTS,
    TAGS,
    TUNE,
    digest_of,
    numbers,
    two_classes,
    waveform,
)

from soundclf.audio_tagging import cross_tag
from soundclf.core import embeddings
from soundclf.core.backbones import has_weights
from soundclf.core.features import cached_features
from soundclf.core.front_ends import audioset_features
from soundclf.core.jobs import job_count, side_by_side
from soundclf.core.predictions import probabilities
from soundclf.core.runs import weight_hashes
from soundclf.core.segments import read_waves
from soundclf.core.splits import fold_splits, validation_splits
from soundclf.core.store import extract_all
from soundclf.core.studies import finished_trials, open_study, run_study
from soundclf.core.table_models import Candidate, more_roster, predict_models, reference_roster
from soundclf.core.table_search import SPACE, SearchPlan, search_half
from soundclf.fastai_transfer import compare_transfers
from soundclf.optuna_tuning import scratch_objective
from soundclf.scratch_cnn import compare_recipes
from soundclf.tabular_baselines import bias_variance
from soundclf.waveform_cnn import compare_segments

clips = test_leaks.clips  # the fixture
TABLE_MODELS = 'forest 1', 'svm', 'fastai', 'mixup net', 'lda'


def told(found: tuple) -> list[str]:
    "The hashes of what was predicted and of the weights."
    predictions, runs = found
    return [digest_of(probabilities(predictions)[0]), *weight_hashes(runs)]


def scratch(table, folder):
    settings = {'': (RECIPE, FEATURES)}
    return told(compare_recipes(table, fold_splits(table)[:2], settings, folder)[''])


def transfer(table, folder):
    return told(compare_transfers(table, fold_splits(table)[:2], {'': TUNE}, folder)[''])


def segments(table, folder):
    pair = two_classes(waveform, table)
    setting = pair, fold_splits(pair)[:2], SEGMENTS
    return told(compare_segments(read_waves(pair), {'': setting}, folder)[''])


def tagging(table, folder):
    store, _ = extract_all(table, FEATURES, folder / 'store')
    frames = [digest_of(store.get(row)) for row in range(len(table))]
    return frames + told(cross_tag(table, store, fold_splits(table)[:2], TAGS, FEATURES, folder))


def features(table, folder):
    return [digest_of(cached_features(table.path, FEATURES, folder))]


def embedded(table, folder):
    "Every clip is a job of its own; the features lie in the folder, too, so that nothing is read back."
    net = embeddings._extractor('mn04_as').eval()
    x = cached_features(table.path, audioset_features(0.5), folder)
    jobs = [(net, (1,), x.filename, i, i + 10) for i in range(0, len(table), 10)]
    return [digest_of(*side_by_side(embeddings._embedded, jobs))]


def tables(table, folder):
    rows, X, _ = numbers()
    roster = reference_roster() | more_roster()
    models = [Candidate(roster[name].build, X) for name in TABLE_MODELS]
    found = predict_models(rows, models, fold_splits(rows)[:2])
    return [digest_of(*(probabilities(part)[0] for part in answers)) for answers, _ in found]


def resampled(table, folder):
    rows, X, split = numbers()
    y = rows.label.astype('category').cat.codes.to_numpy()
    models = {name: (X, more_roster()[name].build) for name in ('lda', 'svm')}
    return [digest_of(bias_variance(models, y, rows.group.to_numpy(), split, 3).to_numpy())]


def searched(table, folder):
    objective = scratch_objective(table, validation_splits(table)[0], RECIPE, FEATURES)
    study = run_study(open_study('tiny', folder), objective, 4)
    return [(i, t.state.name, t.value, t.params) for i, t in finished_trials(study).items()]


def searched_tables(table, folder):
    rows, X, _ = numbers()
    grid = {name: values[:1] for name, values in SPACE.items()} | {'C': SPACE['C'][:2]}
    jobs = [(rows, dict.fromkeys(SPACE['features'], X), half, SearchPlan(folder, grid, 3)) for half in (0, 1)]
    return [(w.name, w.accuracy, w.params) for w in side_by_side(search_half, jobs)]


KINDS = [scratch, transfer, segments, tagging, features, tables, resampled, searched, searched_tables]
KINDS += [embedded]


@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.__name__)
def test_one_job_and_two_give_the_same_digits(kind, clips, tmp_path, monkeypatch):
    if kind is embedded and not has_weights('mn04_as'):
        pytest.skip('the weights of mn04_as are not here')
    found = {}
    for jobs in (1, 2):
        monkeypatch.setenv('SOUNDCLF_JOBS', str(jobs))
        assert job_count() == jobs
        found[jobs] = kind(clips, tmp_path / str(jobs))
    assert found[1] == found[2]
    assert len(set(map(str, found[1]))) == len(found[1])  # no hash of nothing
