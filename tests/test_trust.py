"What the audit and the page about trust say is what the tracked files hold."

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from soundclf.core.metrics import accuracy_interval
from soundclf.tools import commands

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / 'figures'
OURS = 'scratch-better'


def read(name: str):
    return json.loads((FIGURES / name).read_text(encoding='utf-8'))


def test_the_audit_of_the_folds_is_of_the_networks_of_the_results():
    model = read('esc50-10/results.json')['models'][OURS]['protocols']['five_folds']
    network = read('audit.json')['network']
    assert network['clips'] == model['n'] and network['model'] == OURS
    assert network['unlike_tracked'] == 0
    assert network['plain']['mean'] == pytest.approx(model['accuracy']['mean'], abs=1e-6)
    for row in network['ways']:
        lost = row['tested_loss']
        assert lost['low'] <= lost['mean'] <= lost['high']
        assert row['tested']['mean'] == pytest.approx(network['plain']['mean'] - lost['mean'])


def test_every_data_set_is_audited_and_what_is_planted_is_found():
    audit = read('audit.json')
    for name, report in audit['datasets'].items():
        assert report['probes'] and 0 < report['chance'] < 1, name
        assert all(0 <= row['low'] <= row['mean'] <= row['high'] <= 1 for row in report['probes'])
    ten = audit['datasets']['esc50-10']
    data = read('esc50-10/data.json')
    assert ten['clips'] == data['clips'] and ten['recordings'] <= data['merged_groups']  # it joins more
    assert audit['planted']['recall'] == 1.0 and audit['planted']['found_unplanted'] == 0


def test_no_path_of_a_machine_is_in_the_audit():
    text = (FIGURES / 'audit.json').read_text(encoding='utf-8')
    assert not re.search(r'[^\w./:]/\w|\\\\', text)  # nothing begins with a slash, and no folder of Windows


def test_the_page_reads_tracked_files_only_and_each_of_its_files_is_there():
    book = json.loads((ROOT / 'nbs' / '12_trust.ipynb').read_text(encoding='utf-8'))
    code = '\n'.join(''.join(c['source']) for c in book['cells'] if c['cell_type'] == 'code')
    named = set(re.findall(r"'([\w-]+\.(?:json|csv))'", code))
    assert {'results.json', 'claims.json', 'audit.json', 'unknown.json'} <= named
    for name in named:
        assert list(FIGURES.glob(name)) + list(FIGURES.glob(f'*/{name}')), name
    assert not re.search(r'load_dataset|train_|cross_', code)


def test_the_figures_of_the_doubts_follow_from_their_predictions():
    rows = read('esc50-10/doubts.json')['rows']
    assert [row['doubt'] for row in rows] == ['leaky folds', 'no bands above 16 kHz']
    for row in rows:
        table = pd.read_csv(ROOT / row['predictions'], dtype={'group': str})
        right = (table.label == table.predicted).to_numpy()
        low, high = accuracy_interval(right, table.group)
        expected = pytest.approx([right.mean(), low, high], abs=1e-6)
        assert [row[k] for k in ('accuracy', 'low', 'high')] == expected
        crosses = table.groupby('group').fold.nunique().max() > 1
        assert crosses == (row['doubt'] == 'leaky folds')


@pytest.fixture
def cut(tmp_path, home):
    "A CSV of generated clips whose folds cut recordings: a recording has a clip in each of two folds."
    from soundclf.core.esc50 import synthetic

    table = synthetic(per_fold=2, rate=8000)
    table = table[table.label.isin(('tone', 'noise'))].reset_index(drop=True)
    number = table.groupby('label').group.transform(lambda group: pd.factorize(group)[0])
    table['fold'] = number % 2 + 1
    table.loc[(number == 0) & table.duplicated('group'), 'fold'] = 2
    assert table.groupby('group').fold.nunique().max() == 2
    table[['path', 'label', 'fold', 'group']].to_csv(tmp_path / 'cut.csv', index=False)
    return tmp_path / 'cut.csv', table


def test_a_command_line_takes_folds_that_cut_recordings(cut, tmp_path, capsys):
    file, table = cut
    out = tmp_path / 'model'
    words = ['train', str(file), '--out', str(out), '--recipe', 'scratch', '--quick', '--device', 'cpu']
    assert commands.run(words) == 0
    told = capsys.readouterr().err
    assert 'Some recordings have clips in two folds' in told and 'left out of training' in told
    predictions = pd.read_csv(out / 'predictions.csv')
    assert len(predictions) == len(table)  # every test fold stays whole
    assert commands.run(['evaluate', str(out), str(file)]) == 0
    assert 'trained on all of these clips' in capsys.readouterr().out
