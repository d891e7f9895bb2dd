"A tagging run that is stopped and started again."

import pytest

from soundclf.audio_tagging import train_tagger
from soundclf.core.audio import Features
from soundclf.core.runs import weight_hashes
from soundclf.core.splits import fold_splits
from soundclf.core.store import extract_all
from soundclf.core.tags import synthetic_tags
from soundclf.scratch_cnn import Recipe
from soundclf.transforms import Augment

EPOCHS = 11  # a checkpoint is written after ten


def stop_after_ten(epoch, _):
    if epoch == 10:
        raise KeyboardInterrupt


def test_a_stopped_run_ends_with_the_weights_of_one_that_was_not_stopped(tmp_path):
    table = synthetic_tags().query('usage == "train"').reset_index(drop=True)
    features = Features('mfcc', 22050, 1.0, n_fft=1024, hop_length=512, n_mels=64, f_max=11025.0)
    store, _ = extract_all(table, features, tmp_path / 'store')
    recipe = Recipe(network='tags', epochs=EPOCHS, batch_size=16, one_cycle=False, augment=Augment())
    split = fold_splits(table)[0]

    def train(name, **kw):
        return train_tagger(table, store, split, recipe, features, tmp_path / name, **kw)

    whole = train('whole')
    with pytest.raises(KeyboardInterrupt):
        train('stopped', watch=stop_after_ten)
    assert weight_hashes([train('stopped')]) == weight_hashes([whole])
