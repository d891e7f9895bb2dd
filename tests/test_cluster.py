"Feature extraction on a real Dask cluster of two workers, one of which is killed half-way."

import os
import signal
import threading
import time

import numpy as np
import pytest
from processes import HANGS

distributed = pytest.importorskip('distributed')


@pytest.fixture(scope='module')
def cluster():
    "Two workers with one thread each."
    kind = {'n_workers': 2, 'threads_per_worker': 1, 'processes': True, 'dashboard_address': None}
    with distributed.LocalCluster(**kind) as cluster:
        yield cluster


def test_a_killed_worker_loses_nothing(cluster, tmp_path, monkeypatch):
    from soundclf.core.audio import Features
    from soundclf.core.digits import synthetic_digits
    from soundclf.core.store import extract_all

    monkeypatch.delenv('SOUNDCLF_SCHEDULER', raising=False)
    table = synthetic_digits()
    features = Features('mfcc', 8000, n_fft=512, hop_length=128, n_mels=64, f_max=4000.0)
    here, _ = extract_all(table, features, tmp_path / 'here')
    monkeypatch.setenv('SOUNDCLF_SCHEDULER', cluster.scheduler_address)
    found = {}
    work = threading.Thread(
        target=lambda: found.update(result=extract_all(table, features, tmp_path / 'there', chunk=4))
    )
    with distributed.Client(cluster) as client:
        pids = list(client.run(os.getpid).values())
    work.start()
    index = tmp_path / 'there' / 'index.npy'
    while work.is_alive() and not (index.exists() and 0 < (np.load(index)[:, 1] > 0).sum()):
        time.sleep(0.02)
    half = (np.load(index)[:, 1] > 0).sum()
    os.kill(pids[0], signal.SIGKILL)
    work.join(HANGS)
    assert not work.is_alive() and 0 < half < len(table), (
        f'killed after {half} of {len(table)} clips'
    )
    store, bad = found['result']
    assert not bad and not len(store.todo())
    assert all(np.array_equal(store.get(r), here.get(r)) for r in range(len(table)))


def test_folds_on_a_cluster_equal_folds_here(cluster, tmp_path, monkeypatch):
    from soundclf.audio_tagging import cross_tag
    from soundclf.core.audio import Features
    from soundclf.core.runs import weight_hashes
    from soundclf.core.splits import fold_splits
    from soundclf.core.store import extract_all
    from soundclf.core.tags import synthetic_tags
    from soundclf.scratch_cnn import Recipe
    from soundclf.transforms import Augment

    monkeypatch.delenv('SOUNDCLF_SCHEDULER', raising=False)
    table = synthetic_tags().query('usage == "train"').reset_index(drop=True)
    features = Features('mfcc', 22050, 1.0, n_fft=1024, hop_length=512, n_mels=64, f_max=11025.0)
    store, _ = extract_all(table, features, tmp_path / 'store')
    recipe = Recipe(
        network='tags',
        epochs=1,
        batch_size=16,
        optimizer='adam',
        lr=1e-3,
        weight_decay=0.0,
        one_cycle=False,
        label_smoothing=0.0,
        ema=0.0,
        bfloat16=False,
        augment=Augment(),
    )
    splits = fold_splits(table)[:2]
    _, here = cross_tag(table, store, splits, recipe, features, tmp_path / 'a')
    address = cluster.scheduler_address
    _, there = cross_tag(table, store, splits, recipe, features, tmp_path / 'b', scheduler=address)
    assert weight_hashes(here) == weight_hashes(there)
