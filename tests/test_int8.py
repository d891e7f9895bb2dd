"A model in eight bits: its front end stays in float32, it is checked like any export, and loses little."

import logging
import shutil

import numpy as np
import pandas as pd
import pytest

from soundclf.core.artefact_schema import read_config
from soundclf.core.esc50 import synthetic
from soundclf.core.files import SoundclfError
from soundclf.tools import commands, quantisation
from soundclf.tools.classifier import Classifier
from soundclf.tools.engines import INT8_FILE
from soundclf.tools.models import package_models
from soundclf.tools.quantisation import (
    Measured,
    calibration_rows,
    export_int8,
    measured_lines,
    measured_rows,
    network_nodes,
)
from soundclf.tools.training_clips import keep_training_hashes

onnx = pytest.importorskip('onnx')
SHIPPED = package_models() / 'scratch'
is_there = (SHIPPED / 'model.onnx').is_file()
pytestmark = pytest.mark.skipif(not is_there, reason='no model comes with this tree')


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv('SOUNDCLF_DATA', str(tmp_path_factory.mktemp('data')))
    table = synthetic(per_fold=2).iloc[::10].reset_index(drop=True)
    names = dict(zip(sorted(table.label.unique()), read_config(SHIPPED)['classes']))
    yield table.assign(label=table.label.map(names))
    patch.undo()


def scores(monkeypatch, before: float, after: float):
    "Both files get an accuracy without being asked."
    found = iter([Measured(4, 0.1, 0.1, before), Measured(1, 0.1, 0.1, after)])
    monkeypatch.setattr(quantisation, 'measure', lambda file, table: next(found))


@pytest.fixture(scope='module')
def made(clips, tmp_path_factory):
    "A copy of the shipped model with a file in eight bits."
    folder = tmp_path_factory.mktemp('models') / 'scratch'
    shutil.copytree(SHIPPED, folder)
    patch = pytest.MonkeyPatch()
    scores(patch, 0.97, 0.961)
    file, found = export_int8(folder, clips)
    patch.undo()
    assert file == folder / INT8_FILE and found['int8'].score == 0.961
    return folder


@pytest.fixture
def model(made, tmp_path):
    return shutil.copytree(made, tmp_path / 'scratch')


def test_only_the_network_is_in_whole_numbers(made):
    small = onnx.load(made / INT8_FILE)
    source = onnx.load(made / 'model.onnx')
    chosen = set(network_nodes(source.graph))
    kinds = {n.op_type for n in source.graph.node if n.name in chosen}
    assert {'Conv', 'Gemm'} <= kinds and not kinds & {'STFT', 'MatMul', 'Log', 'Softmax'}
    held = {i.name: i.data_type for i in small.graph.initializer}
    mel = [n for n in held if n.endswith('fb')]
    assert mel and all(held[n] == onnx.TensorProto.FLOAT for n in mel)
    layers = [n for n in small.graph.node if n.op_type == 'Conv']
    fed = {o: n.op_type for n in small.graph.node for o in n.output}
    assert layers and all(fed[n.input[1]] == 'DequantizeLinear' for n in layers)
    assert (made / INT8_FILE).stat().st_size < 0.75 * (made / 'model.onnx').stat().st_size


def test_both_engines_answer_alike(made, clips):
    waves = next(quantisation._batches(clips, Classifier.load(made, 'onnx').features, 4))['waveform']
    float32, int8 = (Classifier.load(made, e).proba(waves) for e in ('onnx', 'int8'))
    assert np.abs(float32 - int8).max() < 0.2 and not np.array_equal(float32, int8)
    assert np.array_equal(Classifier.load(made / INT8_FILE).proba(waves), int8)


def test_the_hash_is_in_the_configuration(model):
    data = bytearray((model / INT8_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (model / INT8_FILE).write_bytes(data)
    with pytest.raises(SoundclfError, match='altered after it was exported.*--int8'):
        Classifier.load(model, 'int8')
    with pytest.raises(SoundclfError, match=INT8_FILE):
        Classifier.load(model / INT8_FILE)
    Classifier.load(model, 'onnx')


def test_other_weights_or_no_file_are_sentences(model):
    config = {k: v for k, v in read_config(model).items() if k not in ('int8_sha256', 'config_sha256')}
    quantisation.write_config(config, model)
    with pytest.raises(SoundclfError, match='exported from other weights'):
        Classifier.load(model, 'int8')
    (model / INT8_FILE).unlink()
    with pytest.raises(SoundclfError, match='has no model.int8.onnx'):
        Classifier.load(model, 'int8')


@pytest.mark.parametrize('lost, is_written', [(0.01, True), (0.012, False)])
def test_more_than_a_point_is_refused(model, clips, monkeypatch, lost, is_written):
    (model / INT8_FILE).write_bytes(b'old')
    before = (model / 'config.json').read_bytes()
    monkeypatch.setattr(quantisation, 'quantise', lambda file, target, table: target.write_bytes(b'new'))
    scores(monkeypatch, 0.97, 0.97 - lost)
    if is_written:
        export_int8(model, clips)
    else:
        with pytest.raises(SoundclfError, match='from 97.0 to 95.8 %.*no file was written'):
            export_int8(model, clips)
        assert (model / 'config.json').read_bytes() == before
    assert (model / INT8_FILE).read_bytes() == (b'new' if is_written else b'old')
    assert not [p for p in model.iterdir() if p.name.startswith('.')]


@pytest.mark.parametrize('several', [False, True])
def test_a_label_that_the_model_lacks_is_told_before_any_work(model, clips, monkeypatch, several):
    config = read_config(model)
    answers = config['answers'] | ({'thresholds': [0.5] * len(config['classes'])} if several else {})
    monkeypatch.setattr(quantisation, 'read_config', lambda folder: config | {'answers': answers})
    for work in ('current_export', 'quantise', 'measure'):
        monkeypatch.setattr(quantisation, work, lambda *_: pytest.fail('this is work'))
    with pytest.raises(SoundclfError, match='kettle'):
        export_int8(model, clips.assign(label=['kettle', *clips.label[1:]]))


def test_scales_come_from_all_classes_and_never_from_the_measured_clips():
    labels = ['a'] * 90 + ['b'] * 6 + ['c'] * 4
    chosen = calibration_rows(labels, range(100), 30)
    counts = {c: int(chosen[[x == c for x in labels]].sum()) for c in 'abc'}
    assert chosen.sum() == 30 and counts == {'a': 20, 'b': 6, 'c': 4}
    assert calibration_rows(labels[:10], range(10), 30).sum() == 5


def test_no_recording_gives_scales_and_is_measured():
    groups = np.array(['long'] * 30 + ['b'] * 5 + ['c'] * 5 + ['d'] * 25 + ['e'] * 25)
    labels = ['x' if g in ('long', 'b') else 'y' for g in groups]
    for most, wanted in ((100, {'long', 'c', 'b'}), (12, {'long'})):
        chosen = calibration_rows(labels, groups, most)
        measured = measured_rows(groups, chosen)
        assert set(groups[chosen]) == wanted and set(groups[measured]) == set(groups) - wanted
        assert chosen.sum() == min(most, 40) and measured.any()
    assert not calibration_rows(['x'] * 5, ['one'] * 5).any()


@pytest.mark.parametrize('rows', [[0], [0, 1, 2]])
def test_too_few_recordings_are_a_sentence(model, clips, rows):
    before = (model / INT8_FILE).read_bytes()
    table = clips.iloc[rows].assign(group='one')
    with pytest.raises(SoundclfError, match=r'too few recordings \(1\) to set scales'):
        export_int8(model, table)
    assert (model / INT8_FILE).read_bytes() == before


def measured(score: float, answers: str, metric: str = 'accuracy', trained: int = 0) -> Measured:
    return Measured(4, 0.1, 0.1, score, metric, tuple(answers), trained)


def test_the_number_of_clips_and_of_changed_answers_is_told():
    few = {'float32': measured(1, 'aabb' * 10, trained=3), 'int8': measured(1, 'aabb' * 9 + 'abab')}
    *table, count, resolved, trained = measured_lines(few)
    assert count == 'measured clips: 40, changed answers: 2' and 'too few to tell' in resolved
    assert 'trained on: 3' in trained and 'accuracy' in table[0]
    many = {name: measured(0.5, 'ab' * 50, 'mean average precision') for name in ('float32', 'int8')}
    head, *rows, count = measured_lines(many)
    assert 'mean average precision' in head and 'accuracy' not in head
    assert count == 'measured clips: 100, changed answers: 0'
    assert [len(row) for row in rows] == [len(head)] * 2


def test_the_name_of_the_measure_is_told_and_no_score_is_refused():
    lost = {'float32': 0.97, 'int8': 0.90}
    found = {name: measured(score, 'ab', 'mean average precision') for name, score in lost.items()}
    with pytest.raises(SoundclfError, match='the mean average precision falls from 97.0 to 90.0 %'):
        quantisation._check_loss(found)
    with pytest.raises(SoundclfError, match='give no accuracy: give clips'):
        quantisation._check_loss({'float32': measured(np.nan, 'a'), 'int8': measured(np.nan, 'a')})


def test_what_a_caller_disabled_of_logging_stays_so():
    before = logging.root.manager.disable
    try:
        for level in (logging.ERROR, logging.DEBUG):
            logging.disable(level)
            with quantisation._quiet():
                assert logging.root.manager.disable == max(level, logging.WARNING)
            assert logging.root.manager.disable == level
    finally:
        logging.disable(before)


@pytest.mark.filterwarnings('ignore:.*only one label')
def test_both_files_are_measured_on_the_same_clips(model, clips, monkeypatch):
    "Where the answers of float32 are the labels, the loss is the share of changed answers."
    monkeypatch.setattr(quantisation, 'latency', lambda call, repeats: 1.0)
    keep_training_hashes(clips.iloc[:2], model)
    answers = Classifier.load(model / 'model.onnx').predict_many(clips.path.tolist())
    table = clips.assign(label=answers.filter(like='p_').idxmax(axis=1).str.removeprefix('p_'))
    before, after = (quantisation.measure(model / name, table) for name in ('model.onnx', INT8_FILE))
    changed = sum(a != b for a, b in zip(before.answers, after.answers))
    assert before.score == 1 and after.score == pytest.approx(1 - changed / len(clips))
    assert before[4:] == ('accuracy', tuple(table.label), 2)


def test_a_model_of_several_labels_is_measured_by_its_own_measure(model, clips, monkeypatch):
    found = pd.DataFrame({'predicted': ['a', 'b']}), {'mean_average_precision': {'mean': 0.0}}
    monkeypatch.setattr(quantisation, 'evaluate_model', lambda clf, table: found)
    monkeypatch.setattr(quantisation, 'latency', lambda call, repeats: 1.0)
    m = quantisation.measure(model / 'model.onnx', clips.iloc[:2])
    assert m[3:] == (0.0, 'mean average precision', ('a', 'b'), 0)


def test_the_command_asks_for_clips(capsys):
    assert commands.run(['export', 'scratch', '--int8']) == 1
    assert 'needs labelled clips' in capsys.readouterr().err
    assert commands.run(['export', 'scratch', '--clips', 'sounds']) == 1
    assert '--clips goes with --int8 or --web: add one of them.' in capsys.readouterr().err


def test_a_graph_without_layers_is_a_sentence():
    value = onnx.helper.make_tensor_value_info('x', 1, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node('Relu', ['x'], ['y'])], 'g', [value], [])
    with pytest.raises(SoundclfError, match='use the float32 file'):
        network_nodes(graph)
