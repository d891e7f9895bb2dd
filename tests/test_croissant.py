"The descriptions of the data sets are current, and the library of the standard can read them."

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from soundclf.core.croissant import described, write_croissant
from soundclf.core.dataset_facts import FACTS
from soundclf.core.fetch import manifest
from soundclf.core.files import sha256_file
from soundclf.tools import commands

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / 'data' / 'croissant'

# Reads a description and prints the first records of its clips; ends with an error if it is invalid.
READER = """
import itertools, json, sys
import mlcroissant as mlc
found = mlc.Dataset(jsonld=sys.argv[1])
if found.metadata.ctx.issues.errors:
    sys.exit(found.metadata.ctx.issues.report())
rows = []
if int(sys.argv[2]):
    rows = [*itertools.islice(found.records('clips'), int(sys.argv[2]))]
text = lambda value: value.decode() if isinstance(value, bytes) else str(value)
print(json.dumps([dict(zip(row, map(text, row.values()))) for row in rows]))
"""


def python_with_mlcroissant() -> str:
    "A Python that has mlcroissant: this one, or the one that SOUNDCLF_MLCROISSANT names."
    for python in (os.environ.get('SOUNDCLF_MLCROISSANT'), sys.executable):
        command = [python, '-c', 'import mlcroissant']
        if python and subprocess.run(command, capture_output=True).returncode == 0:
            return python
    pytest.skip('mlcroissant is not installed here, and SOUNDCLF_MLCROISSANT names no Python that has it')


def records(file: Path, n: int = 0) -> list[dict]:
    command = [python_with_mlcroissant(), '-c', READER, str(file), str(n)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_description_is_current():
    assert sorted(p.stem for p in FOLDER.glob('*.json')) == sorted(FACTS)
    for name in FACTS:
        assert json.loads((FOLDER / f'{name}.json').read_text()) == described(name), (
            f'{name}: run `python scripts/croissant.py`'
        )
        assert (FOLDER / f'{name}.json').stat().st_size < 10_000


@pytest.mark.parametrize('name', [n for n, f in FACTS.items() if f.checksums])
def test_hashes_are_those_of_the_files(name):
    files = {f['@id']: f for f in described(name)['distribution'] if f['@type'] == 'cr:FileObject'}
    listed = FOLDER / files.pop('checksums')['contentUrl']
    assert listed.resolve().is_file()
    found = {f['@id']: f for f in described(name)['distribution']}['checksums']
    assert found['sha256'] == sha256_file(listed)
    assert {path: f['sha256'] for path, f in files.items()}.items() <= manifest(FACTS[name].checksums).items()


@pytest.mark.parametrize('name', FACTS)
def test_the_library_of_the_standard_accepts_it(name):
    assert records(FOLDER / f'{name}.json') == []


def test_fields_of_a_folder_are_read_by_the_library(tmp_path, home):
    for i, label in enumerate(('cat', 'dog')):
        (tmp_path / 'pets' / label).mkdir(parents=True)
        sf.write(tmp_path / 'pets' / label / 'a.wav', np.full(800, 0.1 * i), 8000)
    file, table = write_croissant(str(tmp_path / 'pets'), tmp_path / 'pets.json')
    assert table == tmp_path / 'pets.csv'
    rows = records(file, 5)
    assert [(r['clips/path'], r['clips/label']) for r in rows] == [('cat/a.wav', 'cat'), ('dog/a.wav', 'dog')]
    assert rows[0]['clips/sha256'] == sha256_file(tmp_path / 'pets' / 'cat' / 'a.wav')


def test_the_command_writes_it_anywhere(tmp_path, home, capsys):
    assert commands.run(['data', 'fsdd', '--croissant', str(tmp_path / 'x.json')]) == 0
    made = json.loads((tmp_path / 'x.json').read_text())
    listed = next(f for f in made['distribution'] if f['@id'] == 'checksums')
    assert sha256_file(tmp_path / listed['contentUrl']) == listed['sha256']
    assert commands.run(['data', 'fsdd', '--croissant', str(tmp_path / 'x.txt')]) == 1
    assert 'ending' in capsys.readouterr().err
