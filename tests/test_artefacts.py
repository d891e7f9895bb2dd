"Models, runs and checkpoints that were damaged, mixed up or made to harm: a sentence, and never an answer."

import json
import os
import resource
import threading
import time
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import soundfile as sf
import torch
from processes import Started

from soundclf.core.artefact_schema import config_digest, read_config, write_config
from soundclf.core.esc50 import synthetic
from soundclf.core.files import SoundclfError, read_json
from soundclf.core.runs import finished_run, run_once, save_artefact, weight_hashes, write_state
from soundclf.core.splits import fold_splits
from soundclf.scratch_cnn import train_split
from soundclf.tools.classifier import Classifier
from soundclf.tools.engines import TorchEngine, export_onnx
from soundclf.tools.models import package_models
from soundclf.tools.onnx_files import OnnxEngine
from tiny_runs import COARSE, FAST, Killed, kill

ROOT = Path(__file__).resolve().parent.parent
@contextmanager
def told(sentence: str):
    "The block gives a warning that holds the sentence."
    with pytest.warns(UserWarning, match=sentence):
        yield


@pytest.fixture(autouse=True)
def unexpected_warnings_fail():
    with warnings.catch_warnings():
        warnings.filterwarnings('error', category=UserWarning, module='soundclf|tests|test_')
        yield


@pytest.fixture(scope='module')
def tiny():
    table = synthetic(per_fold=2)
    return table, fold_splits(table)[0]


@pytest.fixture(scope='module')
def trained(tiny, tmp_path_factory):
    "A finished run."
    return train_split(*tiny, FAST, COARSE, tmp_path_factory.mktemp('runs'))


@pytest.fixture(scope='module')
def exported(trained, tmp_path_factory):
    "A model with its export."
    folder = tmp_path_factory.mktemp('exported') / 'model'
    copytree(trained.folder, folder)
    export_onnx(folder)
    return folder


@pytest.fixture
def model(exported, tmp_path):
    "A copy to damage."
    return copytree(exported, tmp_path / 'model')


@pytest.fixture
def sound(tiny):
    return tiny[0].path[0]


def flip(file: Path, where: float = 0.5):
    "Flips one bit."
    data = bytearray(file.read_bytes())
    data[int(where * len(data))] ^= 1
    file.write_bytes(data)


def cut(file: Path):
    data = file.read_bytes()
    file.write_bytes(data[: 2 * len(data) // 3])


def empty(file: Path):
    file.write_bytes(b'')


def remove(file: Path):
    file.unlink()


def write_raw(folder: Path, config):
    "Writes a configuration as somebody would who wants it to pass: with a hash of its own, and no checks."
    if isinstance(config, dict):
        config = config | {'config_sha256': config_digest(config)}
    (folder / 'config.json').write_text(config if isinstance(config, str) else json.dumps(config))


def changed(config: dict, field: str, value) -> dict:
    "A configuration with another value, e.g. of `features.duration`; without the field for `...`."
    config = json.loads(json.dumps(config))
    *parts, last = field.split('.')
    place = config
    for part in parts:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return config


# A configuration that was changed


@pytest.mark.parametrize(
    'field', ['classes', 'features.sample_rate', 'input', 'network', 'kind', 'features.f_min']
)
def test_no_field_can_change_unnoticed(model, field):
    values = {
        'classes': read_json(model / 'config.json')['classes'][::-1],
        'network': 'small',
        'kind': 'tags',
    }
    values |= {'features.sample_rate': 22050 + 1, 'input': None, 'features.f_min': 20.0}
    config = changed(read_json(model / 'config.json'), field, values[field])
    (model / 'config.json').write_text(json.dumps(config))
    for engine in ('auto', 'torch', 'onnx'):
        with pytest.raises(SoundclfError, match='config.json was changed after it was written'):
            Classifier.load(model, engine)


def test_the_card_may_change(model):
    (model / 'CARD.md').write_text('another text')
    assert Classifier.load(model).classes


# A configuration that is absurd: as it would be if its author had given it a hash of its own

DEEP = '[' * 100_000
ABSURD = [
    ('kind', ['scratch']),
    ('kind', 'pickle'),
    ('kind', ...),
    ('classes', 'dog'),
    ('classes', []),
    ('classes', {'dog': 1}),
    ('classes', ['dog', 'dog']),
    ('classes', ['dog', 7]),
    ('classes', ['dog', '\ud800']),
    ('classes', ...),
    ('network', 7),
    ('network', '../../etc/passwd'),
    ('network', ...),
    ('input', 'wide'),
    ('input', [1, -32, 1]),
    ('input', [10**9, 1, 1]),
    ('input', [1024, 1024, 1]),
    ('input', [True, 32, 1]),
    ('input', None),
    ('features', []),
    ('features', ...),
    ('features.kind', 'os.system'),
    ('features.sample_rate', '44100'),
    ('features.sample_rate', 0),
    ('features.sample_rate', 10**9),
    ('features.duration', 1e9),
    ('features.duration', -1),
    ('features.duration', float('nan')),
    ('features.duration', 3600 * 24.0),
    ('features.channels', 10**6),
    ('features.n_mels', 10_000_000),
    ('features.n_fft', 10**9),
    ('features.n_fft', 32.5),
    ('features.hop_length', 0),
    ('features.f_max', 1e300),
    ('features.f_max', 0),
    ('features.pad', None),
    ('features.deltas', 10**6),
    ('features.unheard_of', 1),
    ('weights_sha256', 7),
    ('weights_sha256', ...),
    ('losses', 'falling'),
]


@pytest.mark.parametrize(('field', 'value'), ABSURD)
def test_an_absurd_configuration_is_a_sentence(model, field, value):
    (model / 'model.onnx').unlink()
    config = {k: v for k, v in read_json(model / 'config.json').items() if k != 'onnx_sha256'}
    write_raw(model, changed(config, field, value))
    with pytest.raises(SoundclfError) as found:
        Classifier.load(model)
    assert str(model) in str(found.value) or 'pickle' in str(found.value) or 'passwd' in str(found.value)
    assert '\n' not in str(found.value) and len(str(found.value)) < 600


@pytest.mark.parametrize(
    'text', ['', '{', 'null', '[]', '7', '"config"', DEEP, '{"a": ' * 5000, '{}', '\x00', '1' * 5000]
)
def test_a_configuration_that_is_none_is_a_sentence(model, text):
    (model / 'config.json').write_text(text)
    for engine in ('auto', 'torch', 'onnx'):
        with pytest.raises(SoundclfError, match='config.json'):
            Classifier.load(model, engine)


def test_fewer_classes_than_outputs(model):
    config = read_json(model / 'config.json')
    write_raw(model, changed(config, 'classes', config['classes'][:-1]))
    with pytest.raises(SoundclfError, match='does not fit its configuration'):
        Classifier.load(model, 'torch')


def test_files_that_are_none(model):
    for name in ('config.json', 'model.safetensors'):
        data = (model / name).read_bytes()
        (model / name).unlink()
        os.mkfifo(model / name)  # reading one waits for ever
        with pytest.raises(SoundclfError):
            Classifier.load(model, 'torch')
        (model / name).unlink()
        (model / name).write_bytes(data)
    assert Classifier.load(model, 'torch')


# ONNX files


def edited(file: Path, change, sealed: bool = True):
    "Changes an ONNX file as somebody would who wants it to pass: with a hash of its own."
    import onnx

    from soundclf.tools.onnx_files import seal_onnx

    graph = onnx.load(str(file))
    metadata = {p.key: p.value for p in graph.metadata_props}
    change(graph, metadata)
    del graph.metadata_props[:]
    for key, value in metadata.items():
        graph.metadata_props.add(key=key, value=value)
    if sealed:
        file.write_bytes(graph.SerializeToString().replace(metadata['sha256'].encode(), b'0' * 64))
        seal_onnx(file)
    else:
        file.write_bytes(graph.SerializeToString())


def set_weights(value: float):
    "A change of every large array of weights."

    def change(graph, metadata):
        for weights in graph.graph.initializer:
            if len(weights.raw_data) > 400 and weights.data_type == 1:
                weights.raw_data = np.full(len(weights.raw_data) // 4, value, '<f4').tobytes()

    return change


@pytest.mark.parametrize('where', [0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_flipped_bit_in_an_onnx_file_is_found(model, sound, where):
    before = Classifier.load(model)
    assert isinstance(before.run, OnnxEngine)
    flip(model / 'model.onnx', where)
    with pytest.raises(SoundclfError, match='model.onnx'):
        Classifier.load(model, 'onnx')
    with pytest.raises(SoundclfError, match='model.onnx'):
        Classifier.load(model / 'model.onnx')
    with told('was altered after it was exported, so torch answers'):
        clf = Classifier.load(model)
    assert isinstance(clf.run, TorchEngine)
    assert clf.predict(sound).label == before.predict(sound).label


def test_zeroed_weights_in_an_onnx_file_are_found(model):
    edited(model / 'model.onnx', set_weights(0.0), sealed=False)
    with pytest.raises(SoundclfError, match='was changed after it was exported'):
        Classifier.load(model / 'model.onnx')
    edited(model / 'model.onnx', set_weights(0.0))  # its own hash fits, that of the configuration does not
    with pytest.raises(SoundclfError, match='was altered after it was exported'):
        Classifier.load(model, 'onnx')


def test_an_export_of_older_weights_is_not_used(model):
    config = read_config(model)
    write_config({k: v for k, v in config.items() if k != 'onnx_sha256'}, model)  # as a new training does
    assert isinstance(Classifier.load(model).run, TorchEngine)
    with pytest.raises(SoundclfError, match='was exported from other weights'):
        Classifier.load(model, 'onnx')


METADATA = [(f, v) for f, v in ABSURD if f.split('.')[0] in ('classes', 'features')]


@pytest.mark.parametrize(('field', 'value'), METADATA)
def test_absurd_metadata_are_a_sentence(model, field, value):
    if value == ['dog', '\ud800']:
        value = ['dog', '']

    def change(graph, metadata):
        metadata['config'] = json.dumps(changed(json.loads(metadata['config']), field, value))

    edited(model / 'model.onnx', change)
    with pytest.raises(SoundclfError, match='The metadata of .*model.onnx'):
        Classifier.load(model / 'model.onnx')


@pytest.mark.parametrize('text', ['', '[]', 'null', DEEP, '7' * 5000])
def test_metadata_that_are_none_are_a_sentence(model, text):
    edited(model / 'model.onnx', lambda graph, metadata: metadata.update(config=text))
    with pytest.raises(SoundclfError, match='model.onnx'):
        Classifier.load(model / 'model.onnx')


def test_outputs_and_classes_must_be_as_many(model):
    def change(graph, metadata):
        config = json.loads(metadata['config'])
        metadata['config'] = json.dumps(config | {'classes': config['classes'][:-1]})

    edited(model / 'model.onnx', change)
    with pytest.raises(
        SoundclfError,
        match=r"gives \['probabilities', 10\] where its configuration means \['probabilities', 9\]",
    ):
        Classifier.load(model / 'model.onnx')


def test_metadata_that_do_not_fit_the_graph(model):
    def change(graph, metadata):
        config = json.loads(metadata['config'])
        metadata['config'] = json.dumps(changed(config, 'features.duration', 1.0))

    edited(model / 'model.onnx', change)
    with pytest.raises(SoundclfError, match=r"model.onnx takes \['waveform', 1, 44100\]"):
        Classifier.load(model / 'model.onnx')


def test_an_onnx_file_reads_no_other_file(model):
    def change(graph, metadata):
        weights = max(graph.graph.initializer, key=lambda t: len(t.raw_data))
        (model / 'beside.bin').write_bytes(weights.raw_data)
        weights.ClearField('raw_data')
        weights.data_location = 1
        weights.external_data.add(key='location', value='beside.bin')

    edited(model / 'model.onnx', change)
    with pytest.raises(SoundclfError, match='is not a model that ONNX Runtime can run'):
        Classifier.load(model / 'model.onnx')


# Values that are not numbers


def test_weights_that_are_not_numbers_are_refused(model):
    from types import SimpleNamespace

    from safetensors.torch import load_file, save_file

    from soundclf.core.files import sha256_weights

    weights = load_file(model / 'model.safetensors')
    weights['network.head.bias'][3] = float('nan')
    save_file(weights, model / 'model.safetensors')
    digest = sha256_weights(SimpleNamespace(state_dict=lambda: weights))
    write_config(read_config(model) | {'weights_sha256': digest}, model)
    with pytest.raises(SoundclfError, match='holds weights that are not numbers'):
        Classifier.load(model, 'torch')


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_outputs_that_are_not_numbers_are_errors(model, sound, value):
    edited(model / 'model.onnx', set_weights(value))
    clf = Classifier.load(model / 'model.onnx')
    with pytest.raises(SoundclfError, match='values that are not probabilities'):
        clf.predict(sound)
    with pytest.raises(SoundclfError, match='values that are not probabilities'):
        list(clf.stream(sound, window=1.0))
    table = clf.predict_many([sound, sound])
    assert table.error.str.contains('not probabilities').all()
    assert (table.predicted == '').all()


# Models of older versions


def test_a_model_without_hashes_loads_and_says_so(model, sound):
    answer = Classifier.load(model).predict(sound)

    def change(graph, metadata):
        config = json.loads(metadata['config'])
        metadata['config'] = json.dumps({k: v for k, v in config.items() if k != 'sealed'})
        del metadata['sha256']

    edited(model / 'model.onnx', change, sealed=False)
    config = {
        k: v for k, v in read_json(model / 'config.json').items() if k not in ('config_sha256', 'onnx_sha256')
    }
    (model / 'config.json').write_text(json.dumps(config))
    (model / 'model.onnx.json').write_text(json.dumps({'weights_sha256': config['weights_sha256']}))
    for engine, kind in (('auto', OnnxEngine), ('torch', TorchEngine)):
        with told('was written by an older version'):
            clf = Classifier.load(model, engine)
        assert isinstance(clf.run, kind)
        assert clf.predict(sound).label == answer.label
    (model / 'model.onnx.json').write_text('[]')
    with told('was written by an older version'):
        assert isinstance(Classifier.load(model).run, TorchEngine)


@pytest.mark.parametrize('folder', sorted(package_models().glob('*')), ids=lambda folder: folder.name)
def test_models_of_the_package_hold_their_hashes(folder):
    config = read_config(folder, ('config_sha256', 'onnx_sha256', 'weights_sha256'))
    assert isinstance(Classifier.load(folder, 'onnx').run, OnnxEngine)
    assert Classifier.load(folder / 'model.onnx').classes == config['classes']
    assert Classifier.load(folder, 'torch').classes == config['classes']


# Finished runs

DAMAGED_RUNS = {
    'predictions cut': ('predictions.csv', cut),
    'predictions empty': ('predictions.csv', empty),
    'predictions missing': ('predictions.csv', remove),
    'predictions other': ('predictions.csv', lambda f: f.write_text(f.read_text().replace(',0.0', ',0.1'))),
    'predictions binary': ('predictions.csv', lambda f: f.write_bytes(bytes(range(256)) * 9)),
    'a prediction left out': (
        'predictions.csv',
        lambda f: f.write_text(f.read_text().rsplit('\n', 2)[0] + '\n'),
    ),
    'config cut': ('config.json', cut),
    'config empty': ('config.json', empty),
    'config {}': ('config.json', lambda f: f.write_text('{}')),
    'config []': ('config.json', lambda f: f.write_text('[]')),
    'config flipped': ('config.json', lambda f: flip(f, 0.4)),
    'weights cut': ('model.safetensors', cut),
    'weights empty': ('model.safetensors', empty),
    'weights missing': ('model.safetensors', remove),
    'weights flipped': ('model.safetensors', lambda f: flip(f, 0.9)),
    'weights flipped in the header': ('model.safetensors', lambda f: flip(f, 0.0)),
}


@pytest.mark.parametrize('damage', DAMAGED_RUNS)
def test_a_damaged_run_is_not_a_finished_one(trained, tmp_path, damage):
    folder = copytree(trained.folder, tmp_path / 'run')
    assert finished_run(folder).predictions.equals(trained.predictions)
    name, change = DAMAGED_RUNS[damage]
    change(folder / name)
    with told('A damaged run is done again: .*(predictions.csv|config.json|model.safetensors)'):
        assert finished_run(folder) is None


def test_a_damaged_run_is_done_again_with_the_same_digits(tiny, trained, tmp_path):
    for name in ('predictions.csv', 'model.safetensors'):
        copytree(trained.folder, tmp_path / trained.folder.name, dirs_exist_ok=True)
        cut(tmp_path / trained.folder.name / name)
        with told('A damaged run is done again'):
            run = train_split(*tiny, FAST, COARSE, tmp_path)
        assert run.folder.name == trained.folder.name
        same_runs(run, trained)


def same_runs(run, other):
    assert weight_hashes([run]) == weight_hashes([other])
    assert run.losses == other.losses
    assert run.predictions.equals(other.predictions)


# Checkpoints

DAMAGED_CHECKPOINTS = {
    'flipped': ('checkpoint.pt', flip),
    'hash flipped': ('checkpoint.pt', lambda f: flip(f, 1 - 1e-9)),
    'cut': ('checkpoint.pt', cut),
    'a byte missing': ('checkpoint.pt', lambda f: f.write_bytes(f.read_bytes()[:-1])),
    'empty': ('checkpoint.pt', empty),
    'missing': ('checkpoint.pt', remove),
    'log cut': ('log.csv', cut),
    'log empty': ('log.csv', empty),
    'log missing': ('log.csv', remove),
}


@pytest.fixture(scope='module')
def killed(tiny, tmp_path_factory):
    "A run that was killed in its eleventh epoch, after its first checkpoint."
    folder = tmp_path_factory.mktemp('killed')
    with pytest.raises(Killed):
        train_split(*tiny, FAST, COARSE, folder, watch=kill)
    return folder


@pytest.mark.parametrize('damage', DAMAGED_CHECKPOINTS)
def test_a_damaged_checkpoint_gives_no_other_digits(tiny, trained, killed, tmp_path, damage):
    folder = copytree(killed, tmp_path / 'runs') / trained.folder.name
    name, change = DAMAGED_CHECKPOINTS[damage]
    change(folder / name)
    epochs = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        run = train_split(*tiny, FAST, COARSE, tmp_path / 'runs', watch=lambda epoch, _: epochs.append(epoch))
    same_runs(run, trained)
    sentences = [str(w.message) for w in seen]
    begun_again = name == 'checkpoint.pt'
    assert len(epochs) == (12 if begun_again else 2)
    spoken = begun_again and damage != 'missing'
    assert any('checkpoint.pt is damaged, so the run begins again' in s for s in sentences) == spoken


# A loss that is not a number


def test_a_clip_with_features_that_are_not_numbers_is_named(tiny, tmp_path, monkeypatch):
    from soundclf import scratch_cnn

    table, split = tiny
    spoilt = np.array(scratch_cnn.cached_features(table.path, COARSE))
    row = split.train[5]
    spoilt[row, 0, 3, 7] = np.nan
    monkeypatch.setattr(scratch_cnn, 'cached_features', lambda paths, features: spoilt)
    with pytest.raises(
        SoundclfError, match=f'The features of {table.path[row]} hold values that are not numbers'
    ):
        train_split(table, split, FAST, COARSE, tmp_path)


def test_a_learning_rate_that_is_too_high_is_blamed_for_itself(tiny, tmp_path):
    wild = replace(FAST, lr=1e30, optimizer='sgd', one_cycle=False)
    with pytest.raises(SoundclfError, match='lower the learning rate'):
        train_split(*tiny, wild, COARSE, tmp_path)


def test_a_judged_clip_without_numbers_is_named(tiny, tmp_path, monkeypatch):
    from soundclf import scratch_cnn

    table, split = tiny
    spoilt = np.array(scratch_cnn.cached_features(table.path, COARSE))
    spoilt[split.test[2], 0, 3, 7] = np.nan
    monkeypatch.setattr(scratch_cnn, 'cached_features', lambda paths, features: spoilt)
    with pytest.raises(
        SoundclfError, match=f'answers 1 clips .*{Path(table.path[split.test[2]]).name} first'
    ):
        train_split(table, split, FAST, COARSE, tmp_path)


# One process per run

def train(folder):
    "Trains the run, and prints how many epochs that took, and what came of it."
    table = synthetic(per_fold=2)
    epochs = []
    split = fold_splits(table)[0]
    run = train_split(table, split, FAST, COARSE, folder, watch=lambda epoch, _: epochs.append(epoch))
    print(len(epochs), weight_hashes([run])[0], len(run.losses), len(run.accuracies))


def test_two_processes_train_a_run_once(trained, tmp_path):
    pair = [Started(train, str(tmp_path)) for _ in range(2)]
    said = [out.decode().split() for _, out, _ in [process.end() for process in pair]]
    assert sorted(int(epochs) for epochs, *_ in said) == [0, 12]
    assert {digest for _, digest, *_ in said} == set(weight_hashes([trained]))
    assert said[0][2:] == said[1][2:] == ['12', '12']  # losses and accuracies of one course


def test_fine_tuning_and_probing_take_the_lock_of_their_run(tiny, trained, tmp_path, monkeypatch):
    from soundclf import fastai_transfer

    at_work, most = [], []

    def slow(*args):
        folder = next(a for a in args if isinstance(a, Path))
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.2)
        copytree(trained.folder, folder, dirs_exist_ok=True)
        at_work.pop()
        return finished_run(folder)

    monkeypatch.setattr(fastai_transfer, '_fine_tune', slow)
    recipe = fastai_transfer.TransferRecipe(pretrained=False)
    runs = []

    def work():
        runs.append(fastai_transfer.fine_tune_split(*tiny, recipe, tmp_path))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert most == [1] and len(runs) == 3


def test_a_run_that_fails_gives_its_lock_back(trained, tmp_path):
    with pytest.raises(ZeroDivisionError):
        run_once(tmp_path / 'run', lambda: 1 / 0)
    assert run_once(tmp_path / 'run', lambda: trained) is trained


# A full disk

def write_beyond_a_limit(folder):
    "Tries to write a checkpoint and an artefact that are too large; prints what is said."
    net = torch.nn.Linear(200, 200)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    for write in (
        lambda: write_state(net.state_dict(), folder / 'checkpoint.pt'),
        lambda: save_artefact(net, {'classes': ['a']}, folder),
    ):
        try:
            write()
            print('written')
        except SoundclfError as e:
            print(e)


def test_a_full_disk_is_a_sentence_and_the_old_files_stay(tmp_path):
    names = ('checkpoint.pt', 'model.safetensors', 'config.json')
    for name in names:
        (tmp_path / name).write_text('old')
    code, out, err = Started(write_beyond_a_limit, tmp_path).end()
    assert code == 0, err
    checkpoint, artefact = out.decode().splitlines()
    assert 'checkpoint.pt' in checkpoint and 'model.safetensors' in artefact
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
    assert all(p.read_text() == 'old' for p in tmp_path.iterdir())


# Samples whose full scale nobody can know


def test_samples_of_an_unknown_scale_are_refused(exported, sound):
    clf = Classifier.load(exported)
    whole, rate = sf.read(sound, dtype='int16')
    answer = clf.predict(whole, rate)
    unclear = [whole.astype(kind) for kind in ('int64', 'uint64', 'int32', 'float32', 'float64')]
    unclear += [whole * np.float32(0.77), whole.astype('complex64'), whole.astype(str)]
    for samples in unclear:
        with pytest.raises(SoundclfError, match='Samples'):
            clf.predict(samples, rate)
    clear = [
        whole / 32768,
        whole.astype('float32') / 32768,
        whole.astype('int32') * 2**16,
        whole / 32768 * 20,
    ]
    for samples in clear[:3]:
        assert clf.predict(samples, rate).probability == pytest.approx(answer.probability, abs=0.01)
    assert clf.predict(clear[3], rate)
    assert clf.predict(np.zeros(rate, 'int32'), rate) and clf.predict(np.zeros(rate), rate)


def test_unscaled_blocks_are_refused_too(exported, sound):
    clf = Classifier.load(exported)
    whole, rate = sf.read(sound, dtype='int16')
    for kind in ('int64', 'float32'):
        blocks = np.array_split(whole.astype(kind), 5)
        with pytest.raises(SoundclfError, match='full scale'):
            list(clf.stream(blocks, sample_rate=rate))
    quiet = (np.random.default_rng(0).standard_normal(2 * rate) * 100).astype('int32')  # a pause at 32 bits
    assert list(clf.stream([quiet], sample_rate=rate))
