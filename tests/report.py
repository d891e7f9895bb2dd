"What a full or quick run made, and where: the last lines of `make reproduce`."
import sys

from soundclf.core import figures_dir, read_json
from soundclf.data import dataset_name
from soundclf.eval_confusion import results_table

if __name__ == '__main__':
    dataset, profile, out = sys.argv[1:4]
    name = dataset_name(dataset)
    folder = figures_dir(name, profile, out)
    results = read_json(folder/'results.json')
    protocol = 'five_folds' if profile == 'full' else 'one_fold'
    print(results_table(results, (protocol, 'reference_validation', 'reference_test')).to_string(index=False))
    if name == 'synthetic': print('Synthetic data: these figures show that the code runs and say nothing about real sounds.')
    elif profile == 'quick': print('A quick run: one fold and a few epochs. These are not the results of the repository.')
    print(f'Made: {len(list(folder.glob("*.png")))} figures, results.json and predictions in {folder}; executed notebooks in {out}/{profile}.')
