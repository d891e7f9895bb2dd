"What is said of a model rests on clips that the network in question did not know."

import numpy as np
import pandas as pd
import pytest

from soundclf.core import shortcut_losses
from soundclf.core.calibration import calibrated
from soundclf.core.drift import find_changes
from soundclf.core.predictions import example_predictions, probabilities
from soundclf.core.splits import fold_splits
from soundclf.core.unknown import fit_reference, scaled_reference, score_quantiles
from soundclf.tools import drift_report, fitting, left_out


def made_up(n: int, *labels: str) -> pd.DataFrame:
    "Clips of four folds, each a recording of its own."
    name = [f'{labels[0]}-{i}' for i in range(n)]
    table = {'path': name, 'label': np.resize(labels, n), 'fold': np.arange(n) * 4 // n + 1, 'group': name}
    return pd.DataFrame(table)


@pytest.fixture
def study(monkeypatch) -> left_out.Study:
    "Four runs that left a fold out each; a run's energies are its number, and 9 that of the final model."
    known, others = made_up(20, 'ant', 'bee'), made_up(8, 'background')
    rng = np.random.default_rng(0)
    embeddings = {n: rng.standard_normal((n, 6)) for n in (20, 8)}

    def opened(run, paths):
        return embeddings[len(paths)], np.full(len(paths), float(run))

    monkeypatch.setattr(left_out, 'opened_clips', opened)
    made = left_out.Study(known, others, fold_splits(known), [1, 2, 3, 4], 9, np.arange(20))
    made.embeddings = embeddings
    return made


def test_scores_of_known_clips_are_those_of_the_runs_that_left_them_out(study, monkeypatch):
    seen = []

    def noted(reference, terms):
        seen.append(terms)
        return scaled_reference(reference, terms)

    monkeypatch.setattr(left_out, 'scaled_reference', noted)
    _, known, others = left_out.fit_unlike(study)
    assert len(known) == 20 and len(others) == 8
    assert [terms[:, 0].tolist() for terms in seen] == [study.known.fold.tolist()]


def rows_of(parts: np.ndarray, whole: np.ndarray) -> np.ndarray:
    "Which rows of an array some rows are."
    return np.flatnonzero((whole[:, None] == parts).all(2).any(1))


@pytest.fixture
def references(study, monkeypatch) -> list[tuple[np.ndarray, np.ndarray]]:
    "The training clips and the examples of no class that each reference was fitted on."
    used = []

    def noted(train, y, others=None):
        used.append((train, others))
        return fit_reference(train, y, others)

    monkeypatch.setattr(left_out, 'fit_reference', noted)
    left_out.fit_unlike(study)
    return used


OTHER_FOLDS = [[2, 3, 4], [1, 3, 4], [1, 2, 4], [1, 2, 3], [1, 2, 3, 4]]


def test_a_reference_by_which_clips_are_judged_knows_none_of_them(study, references):
    rows = [rows_of(train, study.embeddings[20]) for train, _ in references]
    assert [sorted(set(study.known.fold[r])) for r in rows] == OTHER_FOLDS


def test_sounds_of_no_class_are_no_examples_where_they_are_measured(study, references):
    rows = [rows_of(others, study.embeddings[8]) for _, others in references]
    assert [sorted(set(study.others.fold[r])) for r in rows] == OTHER_FOLDS


def test_the_threshold_is_one_of_known_clips(study, monkeypatch):
    known, others = np.arange(10.0), np.arange(100.0, 140.0)
    monkeypatch.setattr(fitting, 'fit_unlike', lambda study: (None, known, others))
    fitted = fitting.fit_answers(study, example_predictions(clips=120))
    assert fitted.answers['quantiles'] == score_quantiles(known)
    assert fitted.record['let_in'] == 0 and fitted.record['auroc'] == 1


def test_coverage_is_measured_with_the_temperatures_of_other_folds(monkeypatch):
    predictions, seen = example_predictions(clips=120), []

    def noted(table, coverage, per_class=False):
        seen.append(probabilities(table)[0])
        return {'coverage': coverage, 'labels': 1.0}

    monkeypatch.setattr(fitting, 'measured_coverage', noted)
    fitting._sets(predictions, 0.2)
    honest = probabilities(calibrated(predictions))[0]
    assert seen and all(np.array_equal(proba, honest) for proba in seen)


def test_a_probe_of_shortcuts_has_not_seen_what_it_answers():
    table = made_up(80, 'ant', 'bee')
    noise = np.random.default_rng(0).standard_normal((80, 60))
    answers = shortcut_losses._probe_answers(table, {'plain': noise, 'other': noise})
    assert all((found == table.label).mean() < 0.7 for found in answers.values())


def test_a_reference_holds_no_answers_about_sounds_that_were_learned(monkeypatch):
    "A log of the training sounds is answered by heart: what models answered that left them out is compared."
    log = pd.DataFrame({'source': ['/a.wav', '/b.wav', '/new.wav'], 'unlike': [0.1, 0.2, 0.3]})
    log = log.assign(label='ant', best='ant', probability=0.99)
    kept = pd.DataFrame({'path': ['/a.wav', '/b.wav'], 'source': ['x', 'x']})
    kept = kept.assign(label='bee', best='bee', probability=0.6)
    monkeypatch.setattr(drift_report, 'left_out_answers', lambda model: kept)
    monkeypatch.setattr(drift_report, 'read_config', lambda folder: {})
    monkeypatch.setattr(drift_report, 'model_path', lambda model: model)
    found = drift_report.reference_of(drift_report.Path('/model'), log)
    assert found.best.tolist() == ['bee', 'bee'] and found.probability.eq(0.6).all()
    assert found.source.tolist() == ['x', 'x']


def test_many_comparisons_are_no_many_alarms(monkeypatch):
    "Each p-value alone would be an alarm; forty of them are what chance brings."
    rng = np.random.default_rng(0)
    day = pd.Timestamp('2026-03-01', tz='UTC')
    columns = {'label': 'ant', 'best': 'ant', 'rate': 8000, 'unlike': 0.5}
    answers = pd.DataFrame({'source': map(str, range(40)), 'time': day}).assign(**columns)
    answers = answers.assign(probability=rng.uniform(size=40), level=rng.normal(size=40))
    monkeypatch.setattr('soundclf.core.drift._p_values', lambda *_: dict.fromkeys(range(40), 0.02))
    monkeypatch.setattr('soundclf.core.drift._told', lambda *_: '')
    found = find_changes(answers, answers)
    assert len(found) == 40 and found.adjusted.eq(0.8).all() and not found.changed.any()
