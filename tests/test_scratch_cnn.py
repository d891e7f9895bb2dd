"Guards of chapter 3: what a reader need not see, and what must not break."

from dataclasses import replace

import pytest

from soundclf.core.esc50 import synthetic
from soundclf.core.files import SoundclfError
from soundclf.core.keys import code_hash
from soundclf.core.splits import fold_splits
from soundclf.scratch_cnn import ReferenceCNN, SmallCNN, train_split
from soundclf.transforms import Augment
from tiny_runs import COARSE, FAST, Killed, kill

@pytest.fixture(scope='module')
def tiny():
    table = synthetic(per_fold=2)
    return table, fold_splits(table)[0]


def test_accuracies_are_kept_of_the_epochs_that_were_watched(tiny, tmp_path):
    with pytest.raises(Killed):
        train_split(*tiny, FAST, COARSE, tmp_path / 'watched', watch=kill)
    run = train_split(*tiny, FAST, COARSE, tmp_path / 'watched', watch=lambda epoch, accuracy: None)
    assert len(run.accuracies) == 12
    with pytest.raises(Killed):
        train_split(*tiny, FAST, COARSE, tmp_path / 'alone', watch=kill)
    assert len(train_split(*tiny, FAST, COARSE, tmp_path / 'alone').accuracies) == 10


def test_an_optimizer_that_does_not_exist_is_named(tiny, tmp_path):
    with pytest.raises(SoundclfError, match="There is no optimizer 'adm'"):
        train_split(*tiny, replace(FAST, optimizer='adm'), COARSE, tmp_path)


def test_mixup_of_power_needs_log_mels(tiny, tmp_path):
    recipe = replace(FAST, augment=Augment(mixup=0.4))
    with pytest.raises(SoundclfError, match='needs log-mels'):
        train_split(*tiny, recipe, replace(COARSE, kind='mfcc'), tmp_path)


def test_an_artefact_refuses_classes_that_are_not_its_own(tiny, tmp_path):
    from soundclf.core.runs import load_artefact
    from soundclf.scratch_cnn import scratch_network

    run = train_split(*tiny, replace(FAST, epochs=1), COARSE, tmp_path)
    with pytest.raises(SoundclfError, match='not cat, dog'):
        load_artefact(run.folder, scratch_network, ['cat', 'dog'])


def test_networks_have_hashes_of_their_own():
    assert code_hash(ReferenceCNN) != code_hash(SmallCNN)
