"Runs on raw samples: kill and resume, the classifier's answers, and a table of three classes."

from dataclasses import replace

import pytest
from fastcore.test import test_close as close

from soundclf.core.animals import synthetic_animals
from soundclf.core.files import SoundclfError
from soundclf.core.runs import weight_hashes
from soundclf.core.segments import read_waves
from soundclf.core.splits import fold_splits
from soundclf.tools.cards import keep_model
from soundclf.tools.classifier import Classifier
from soundclf.waveform_cnn import SegmentRecipe, better_recipe, train_segments


@pytest.fixture
def animals(home):
    table = synthetic_animals(recordings=6)
    return table, read_waves(table), fold_splits(table)[0]


class Killed(Exception):
    pass


def kill(epoch, accuracy):
    if epoch == 10:
        raise Killed


def test_a_killed_run_goes_on_to_the_same_weights(animals, tmp_path):
    recipe = replace(better_recipe(), epochs=11, steps=1, batch_size=4, bfloat16=False)
    whole = train_segments(*animals, recipe, tmp_path / 'whole')
    with pytest.raises(Killed):
        train_segments(*animals, recipe, tmp_path / 'killed', watch=kill)
    resumed = train_segments(*animals, recipe, tmp_path / 'killed', watch=lambda *_: None)
    assert weight_hashes([resumed]) == weight_hashes([whole])


def test_the_classifier_answers_alike_with_both_engines(animals, tmp_path):
    table, _, _ = animals
    run = train_segments(*animals, SegmentRecipe(epochs=1, steps=2), tmp_path / 'runs')
    home = keep_model(run.folder, tmp_path / 'model', 'A card.')
    answers = [Classifier.load(home, engine).predict(table.path[0]) for engine in ('torch', 'onnx')]
    close(answers[0].probability, answers[1].probability, 1e-4)
    assert answers[0].windows == answers[1].windows > 1


def test_three_classes_are_refused(animals, tmp_path):
    table, waves, split = animals
    three = table.assign(label=[str(i % 3) for i in range(len(table))])
    with pytest.raises(SoundclfError, match='tells two classes apart'):
        train_segments(three, waves, split, SegmentRecipe(), tmp_path)
