"""What a notebook defines works in the processes that it starts, and gives the same digits as in one.

A class of a notebook travels by value. So does what it names, and an exception of a library that travels by
value is another class over there."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import json, os, re, sys, tempfile
root = sys.argv[1]
for cell in json.load(open(f'{root}/nbs/04_fastai_transfer.ipynb'))['cells']:
    source = ''.join(cell['source'])
    if cell['cell_type'] == 'code' and source.startswith('#| export'):
        exec(source)  # the definitions are those of __main__, as in a notebook

from soundclf.core.esc50 import synthetic
from soundclf.core.runs import weight_hashes
from soundclf.core.splits import fold_splits

small = TransferRecipe('squeezenet1_1', pretrained=False, epochs=1, freeze_epochs=1, scale=1.0)
tiny = synthetic(per_fold=2)
tiny = tiny[tiny.label.isin(['bell', 'noise', 'tone'])].reset_index(drop=True)
assert fine_tune_split.__module__ == '__main__'
found = []
for jobs in ('1', '2'):
    os.environ['SOUNDCLF_JOBS'] = jobs
    _, runs = compare_transfers(tiny, fold_splits(tiny)[:2], {'': small}, tempfile.mkdtemp(), 42)['']
    found.append(weight_hashes(runs))
print('digits', json.dumps(found))
"""


def digits(home: Path) -> list[list[str]]:
    "The hashes of two runs of chapter 4, whose definitions belong to a script: in one process, and in two."
    (home / 'script.py').write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, home / 'script.py', ROOT],
        env=os.environ | {'SOUNDCLF_DATA': str(home), 'SOUNDCLF_QUIET': '1'},
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.split('digits ')[-1])


def test_callbacks_of_a_notebook_work_in_other_processes_with_the_same_digits(tmp_path):
    alone, side_by_side = digits(tmp_path)
    assert len(set(alone)) == 2
    assert side_by_side == alone
