"What a full or quick run made, and where: the last lines of `make reproduce`."

import sys

from soundclf.core.files import figures_dir, read_json
from soundclf.core.datasets import STAND_INS
from soundclf.core.datasets import dataset_name
from soundclf.core.results import results_table


def tell(name: str, profile: str, out: str):
    "Prints the table of one data set's results, if there are any."
    folder = figures_dir(name, profile, out)
    if not (folder / 'results.json').exists():
        return
    results = read_json(folder / 'results.json')
    protocols = list(dict.fromkeys(p for m in results['models'].values() for p in m['protocols']))
    print(f'\n{name}\n{results_table(results, protocols).to_string(index=False)}')
    print(
        f'Made: {len(list(folder.glob("*.png")))} figures, results.json and predictions in {folder}'
    )


if __name__ == '__main__':
    dataset, profile, out = sys.argv[1:4]
    name = dataset_name(dataset)
    pairs = STAND_INS | {'urbansound8k': 'synthetic-urban'}
    studies = (
        []
        if '/' in dataset
        else [
            fake if name == 'synthetic' else real
            for real, fake in pairs.items()
            if real != 'esc50-10'
        ]
    )
    for each in (name, *studies):
        tell(each, profile, out)
    if name == 'synthetic':
        print(
            'Synthetic data: these figures show that the code runs and say nothing about real sounds.'
        )
    elif profile == 'quick':
        print(
            'A quick run: one fold and a few epochs. These are not the results of the repository.'
        )
    print(f'Executed notebooks are in {out}/{profile}.')
