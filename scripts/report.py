"What a full or quick run made, and where: the last lines of `make reproduce`."

import ast
import json
import sys
from pathlib import Path

from soundclf.core.datasets import STAND_INS, dataset_name
from soundclf.core.files import figures_dir, read_json
from soundclf.core.results import results_table

MADE_UP = 'Generated sounds: this shows that the code runs. It says nothing about real sounds.'
QUICK = 'A quick look: one fold and a few epochs. These are not the results of the repository.'


def names_of(dataset: str) -> list[str]:
    "The data sets whose results a run wrote."
    name = dataset_name(dataset)
    if '/' in dataset:
        return [name]
    pairs = STAND_INS | {'urbansound8k': 'synthetic-urban'}
    made_up = name == 'synthetic'
    return [name, *(fake if made_up else real for real, fake in pairs.items() if real != 'esc50-10')]


def show_results(name: str, profile: str, out: str):
    "Prints the table of one data set's results, if there are any."
    folder = figures_dir(name, profile, out)
    if not (folder / 'results.json').exists():
        return
    results = read_json(folder / 'results.json')
    protocols = dict.fromkeys(p for m in results['models'].values() for p in m['protocols'])
    print(f'\n{name}\n{results_table(results, list(protocols)).to_string(index=False)}')
    print(f'Made: {len(list(folder.glob("*.png")))} figures, results.json and predictions in {folder}')


def saves_always(source: str) -> bool:
    "Whether a cell saves a figure whatever the data are: not in a function, not under a condition."
    other = ast.If, ast.FunctionDef, ast.ClassDef
    always = [ast.unparse(s) for s in ast.parse(source).body if not isinstance(s, other)]
    return any('save_figure(' in statement for statement in always)


def missing_pictures(executed: Path, full: bool) -> int:
    "How many cells save a figure and show none; in a quick look, those that save one whatever the data are."
    cells = json.loads(executed.read_text(encoding='utf-8'))['cells']
    bare = 0
    for cell in cells:
        source = ''.join(cell['source'])
        if cell['cell_type'] != 'code' or 'save_figure(' not in source or 'export' in source[:12]:
            continue
        shown = any('image/png' in o.get('data', {}) for o in cell['outputs'])
        bare += not shown and (full or saves_always(source))
    return bare


if __name__ == '__main__':
    dataset, profile, out, executed = sys.argv[1:5]
    made_up = dataset_name(dataset) == 'synthetic'
    note = MADE_UP if made_up else QUICK if profile == 'quick' else ''
    print(f'\n{note}' if note else '\nA full run: these are the results.')
    for name in names_of(dataset):
        show_results(name, profile, out)
    folder = Path(executed)
    full = profile == 'full'
    bare = {f.name: n for f in sorted(folder.glob('[0-9]*.ipynb')) if (n := missing_pictures(f, full))}
    print(f'Executed chapters, with their pictures, are in {folder}.')
    if note:
        print(note)
    if bare:
        sys.exit(f'Cells that save a figure and show none: {bare}')
