"""Audits every data set here: python scripts/audit.py [DATASET ...]

What is found goes to figures/audit.json and, drawn, to figures/audit.png. `python scripts/audit.py draw`
draws it anew. Data sets that are not named keep what was found before. The networks of the five folds are
those of results.json, from the runs of `make reproduce`; without them their part stays as it was."""

import os
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from soundclf.core.audit import audit, merged_clips
from soundclf.core.datasets import load_dataset
from soundclf.core.drawing import PALETTE, dot_with_interval, new_figure, save_figure
from soundclf.core.files import NoSource, SoundclfError, read_json, write_json
from soundclf.core.metrics import accuracy_interval
from soundclf.core.neutral import Way, common_values, low_passed, neutral_ways
from soundclf.core.predictions import load_predictions, relative_path
from soundclf.core.runtime import versions
from soundclf.core.shortcut_losses import answer_losses, model_answers, probe_losses
from soundclf.core.shortcuts import FACTS, file_facts, shortcut_probe, telling_facts
from soundclf.core.splits import fold_splits
from soundclf.core.stretches import sources
from soundclf.core.urban import urbansound8k
from soundclf.tools.classifier import Classifier

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / 'figures'
FILE = FIGURES / 'audit.json'
OURS = 'scratch-better'
TEN, ANIMALS, CITY = 'esc50-10', 'cats_dogs', 'urbansound8k'
NAMES = (TEN, 'fsdd', ANIMALS, 'fsdkaggle2018', CITY)
HIGH = 'without 16 kHz and above'


def ways_of(facts: pd.DataFrame, labels: pd.Series) -> tuple[dict, dict[str, Way]]:
    "What all clips are brought to, and the ways to do so; for high rates one more."
    common = common_values(facts, labels)
    ways = neutral_ways(common)
    if facts.rate.max() == common.rate:  # it would change nothing
        del ways['resampled']
    if common.rate > 32000:
        ways = {HIGH: partial(low_passed, edge=16000 / 0.9)} | ways
    return asdict(common), ways


def report_of(table: pd.DataFrame) -> tuple[dict, dict[str, Way]]:
    "The audit of a table, with a linear probe on clips without shortcuts; and the ways to take them away."
    facts = file_facts(table)
    report = audit(table, facts)
    del report['class_facts']
    report['common'], ways = ways_of(facts, table.label)
    report['probe'] = probe_losses(merged_clips(table), facts, ways)
    return report, ways


def city_report() -> dict:
    "UrbanSound8K, of which only features are here: what the lengths of its slices tell."
    table, _ = urbansound8k()
    facts = pd.DataFrame(0.0, table.index, list(FACTS)).assign(length=table.duration)
    probe, classes = shortcut_probe(table, facts), table.label.nunique()
    sizes = {'clips': len(table), 'classes': classes, 'recordings': table.group.nunique()}
    sizes |= {'folds': table.fold.nunique(), 'folds_given': True, 'chance': round(1 / classes, 6)}
    found = {'probes': probe.round(6).to_dict('records'), 'telling': telling_facts(probe, classes)}
    return sizes | found | {'note': 'No audio here: only the lengths of the slices are known.'}


def fold_networks(dataset: str) -> dict[str, Path]:
    "The runs whose weights results.json lists for our network, by the fold that each is tested on."
    model = read_json(FIGURES / dataset / 'results.json')['models'][OURS]
    wanted, found = set(model['protocols']['five_folds']['weights']), {}
    for file in sorted((ROOT / 'runs' / 'full' / dataset / 'scratch_cnn').glob('*/config.json')):
        config = read_json(file)
        if config['weights_sha256'][:16] in wanted:
            found[config['split']] = file.parent
    return found


def best_of(model: Classifier, wave: np.ndarray, rate: int) -> str:
    "The label that a model finds best."
    return model.predict(wave, rate).best


def network_losses(table: pd.DataFrame, ways: dict[str, Way]) -> dict:
    "What our network loses on the test clips of the five folds, each answered by the network of its fold."
    table = merged_clips(table)
    splits, networks, parts = fold_splits(table), fold_networks(TEN), []
    if len(networks) < len(splits):
        return {}
    for split in splits:
        model = Classifier.load(networks[split.name], 'torch')
        clips = table.iloc[split.test].reset_index(drop=True)
        parts.append(model_answers(partial(best_of, model), clips, ways))
    answers = {name: pd.concat([p[name] for p in parts], ignore_index=True) for name in parts[0]}
    return answer_losses(answers) | {'model': OURS, 'unlike_tracked': unlike_tracked(answers['plain'])}


def unlike_tracked(answers: pd.DataFrame) -> int:
    "How many answers on the clips as they are differ from the tracked predictions."
    tracked = load_predictions(FIGURES / TEN / 'predictions' / f'{OURS}.csv').set_index('path').predicted
    paths = answers.path.map(lambda path: relative_path(str(path)))
    return int((tracked.loc[paths].to_numpy() != answers.predicted.to_numpy()).sum())


def share(right: np.ndarray, group: pd.Series) -> dict[str, float]:
    "A share of right answers with its interval over recordings."
    low, high = accuracy_interval(right, group)
    return {k: round(float(v), 6) for k, v in (('mean', right.mean()), ('low', low), ('high', high))}


def other_collection(table: pd.DataFrame) -> dict:
    "What the packaged model answers about files of another collection: among its ten classes, and the two."
    model, right = Classifier.load('scratch'), {'ten_ways': [], 'two_ways': []}
    two = sorted(table.label.unique())
    confidence, unknown = [], []
    for source, label in zip(sources(table), table.label):
        answer = model.predict(source)
        proba = answer.probabilities
        right['ten_ways'].append(answer.best == label)
        right['two_ways'].append(max(two, key=proba.__getitem__) == label)
        confidence.append(max(proba.values()))
        unknown.append(answer.label != answer.best)
    found = {name: share(np.array(each), table.group) for name, each in right.items()}
    ten = found['ten_ways']
    ten['mean_confidence'] = round(float(np.mean(confidence)), 6)
    ten['called_unknown'] = share(np.array(unknown), table.group)
    sizes = {'clips': len(table), 'recordings': table.group.nunique(), 'dataset': ANIMALS}
    return sizes | {'model': 'packaged scratch'} | found


def audited(name: str, found: dict):
    "Adds the audit of one data set to what was found."
    if name == CITY:
        found['datasets'][name] = city_report()
        return
    table = load_dataset(name)
    found['datasets'][name], ways = report_of(table)
    if name == TEN:
        found['network'] = network_losses(table, ways) or found.get('network', {})
    if name == ANIMALS:
        found['other_collection'] = other_collection(table)


def planted() -> dict:
    "How many planted leaks and shortcuts the audit finds."
    sys.path.insert(0, str(ROOT / 'tests'))
    from planted import recall

    return recall()


def draw_probes(ax, datasets: dict):
    "What facts of the files tell about the classes of each data set."
    for at, report in enumerate(datasets.values()):
        rows = {row['fact']: row for row in report['probes']}
        together = rows.pop('all together', None)
        single = [100 * row['mean'] for row in rows.values()]
        first = at == 0
        label = 'one fact of the files' if first else None
        ax.plot(single, [at] * len(single), 'o', ms=4, color='#999999', label=label)
        if together:
            ends = (100 * together[k] for k in ('mean', 'low', 'high'))
            dot_with_interval(ax, *ends, at - 0.25, color=PALETTE[3], label='all together' if first else None)
        label = 'chance' if first else None
        ax.plot([100 * report['chance']] * 2, [at - 0.4, at + 0.3], color='black', lw=1.5, label=label)
    ax.set_yticks(range(len(datasets)), list(datasets))
    ax.set(xlim=(0, 101), ylim=(len(datasets) - 0.4, -0.6), title='Told by facts of the files')


def draw_losses(ax, series: dict[str, tuple[dict, str]]):
    "What is reached with and without each shortcut."
    ways = [row['way'] for row in next(iter(series.values()))[0]['ways']]
    places = ['as they are', *ways]
    for (label, (losses, key)), shift, color in zip(series.items(), (-0.2, 0, 0.2), PALETTE):
        rows = [losses['plain'], *(row[key] for row in losses['ways'])]
        for at, row in enumerate(rows):
            ends = (100 * row[k] for k in ('mean', 'low', 'high'))
            dot_with_interval(ax, *ends, at + shift, color=color, label=None if at else label)
    ax.set_yticks(range(len(places)), places)
    ax.set(xlim=(0, 101), ylim=(len(places) - 0.5, -0.5), title=f'Reached on {TEN} without each shortcut')


def draw(found: dict):
    "The figure of what was found."
    fig, (a, b) = new_figure(1, 2, size=(13, 4.6), width_ratios=[1, 1.3])
    draw_probes(a, found['datasets'])
    probe = found['datasets'][TEN]['probe']
    series = {'our network, tested without': (found['network'], 'tested')} if found.get('network') else {}
    series |= {'linear probe, tested without': (probe, 'tested')}
    draw_losses(b, series | {'linear probe, trained without, too': (probe, 'trained')})
    for ax in (a, b):
        ax.set_xlabel('balanced accuracy (%), 95 % over recordings')
        ax.grid(axis='x', alpha=0.3)
        ax.legend(loc='upper center', bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=9)
    save_figure(fig, FIGURES / 'audit.png')


def keep(found: dict):
    "Writes what was found so far, data sets in their usual order."
    found['datasets'] = {name: found['datasets'][name] for name in NAMES if name in found['datasets']}
    found['made_with'] = versions()
    write_json(found, FILE)


def main(*words: str):
    found = read_json(FILE) if FILE.is_file() else {'datasets': {}}
    names = () if words == ('draw',) else words or (*NAMES, 'planted')
    for name in names:
        print(name, flush=True)
        try:
            if name == 'planted':
                found['planted'] = planted()
            else:
                audited(name, found)
        except NoSource as e:
            print(f'{e} What was found before stays.')
        keep(found)
    if TEN in found['datasets']:
        draw(found)


if __name__ == '__main__':
    os.environ.setdefault('SOUNDCLF_QUIET', '1')
    try:
        main(*sys.argv[1:])
    except SoundclfError as e:
        sys.exit(str(e))
