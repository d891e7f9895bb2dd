"The descriptions of the data sets are current, and the library of the standard can read them."

import glob
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from soundclf.core import croissant
from soundclf.core.croissant import described, write_croissant
from soundclf.core.dataset_facts import FACTS
from soundclf.core.fetch import manifest
from soundclf.core.files import SoundclfError, sha256_file
from soundclf.core.sound_files import AUDIO_SUFFIXES
from soundclf.tools import commands

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / 'data' / 'croissant'

# Reads descriptions, and prints the first records of the clips of the last one; an invalid one is an error.
READER = """
import itertools, json, sys
import mlcroissant as mlc
for file in sys.argv[2:]:
    found = mlc.Dataset(jsonld=file)
    if found.metadata.ctx.issues.errors:
        sys.exit(f'{file}: {found.metadata.ctx.issues.report()}')
n = int(sys.argv[1])
rows = [*itertools.islice(found.records('clips'), n)] if n else []
text = lambda value: value.decode() if isinstance(value, bytes) else str(value)
print(json.dumps([dict(zip(row, map(text, row.values()))) for row in rows]))
"""


@pytest.fixture(scope='module')
def python() -> str:
    "A Python that has mlcroissant: this one, or the one that SOUNDCLF_MLCROISSANT names."
    if find_spec('mlcroissant'):
        return sys.executable
    named = os.environ.get('SOUNDCLF_MLCROISSANT')
    if not named:
        pytest.skip('mlcroissant is not installed, and SOUNDCLF_MLCROISSANT names no Python that has it')
    return named


def records(python: str, *files: Path, n: int = 0) -> list[dict]:
    command = [python, '-c', READER, str(n), *map(str, files)]
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


def test_the_library_of_the_standard_accepts_them(python):
    assert records(python, *[FOLDER / f'{name}.json' for name in FACTS]) == []


def test_names_of_files_tell_label_and_group(python):
    first = records(python, FOLDER / 'fsdd.json', n=1)[0]
    wanted = {'path': 'recordings/0_george_0.wav', 'label': '0', 'group': 'george', 'fold': 'None'}
    assert first == {f'clips/{name}': value for name, value in wanted.items()}


@pytest.mark.parametrize('name', FACTS)
def test_every_pattern_fits_from_the_beginning_of_a_name(name):
    fields, files = FACTS[name].fields, {'audiomnist': ['/any/where/data/01/3_01_7.wav']}
    lines = [f'{"0" * 64}  {p}' for p in manifest(FACTS[name].checksums)] if FACTS[name].checksums else []
    for source, pattern in (f for f in fields.values() if f[0] in ('checksums', 'audio')):
        for text in lines if source == 'checksums' else files[name]:
            assert re.match(pattern, text)[1]


@pytest.fixture
def pets(tmp_path, home):
    "A folder of two sounds, with another sound beside it."
    for i, label in enumerate(('cat', 'dog')):
        (tmp_path / 'pets' / label).mkdir(parents=True)
        sf.write(tmp_path / 'pets' / label / 'a.wav', np.full(800, 0.1 * i), 8000)
    sf.write(tmp_path / 'beside.wav', np.zeros(800), 8000)
    return tmp_path / 'pets'


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_a_list_is_kept_beside_its_description(pets):
    listed = pets.parent / 'my.csv'
    listed.write_text('path,label\npets/cat/a.wav,cat\npets/dog/a.wav,dog\n')
    before = listed.read_bytes()
    file, table = write_croissant(str(listed), pets.parent / 'my.json')
    assert listed.read_bytes() == before and table == pets.parent / 'my.clips.csv'
    assert json.loads(file.read_text())['distribution'][1]['contentUrl'] == 'my.clips.csv'
    first = contents(pets.parent)
    write_croissant(str(listed), file)
    assert contents(pets.parent) == first
    file.unlink()
    with pytest.raises(SoundclfError, match='my.clips.csv is no table of an earlier description: give'):
        write_croissant(str(table), file)


_WRITTEN = [('pets', 'x.json'), ('pets', 'x.clips.csv'), ('fsdd', 'x.json'), ('fsdd', 'fsdd.sha256')]


@pytest.mark.parametrize('dataset, name', _WRITTEN)
@pytest.mark.parametrize('text', ['', '{"results": 1}', '[]', '{"recordSet": []}', 'path,label\n'])
def test_files_of_others_are_kept(pets, monkeypatch, dataset, name, text):
    monkeypatch.chdir(pets.parent)
    Path(name).write_text(text)
    before = contents(pets.parent)
    with pytest.raises(SoundclfError, match=f'^{name} is .*: give another name or folder'):
        write_croissant(dataset, 'x.json')
    assert contents(pets.parent) == before


def test_a_description_of_other_data_is_kept(pets):
    file, _ = write_croissant(str(pets), pets.parent / 'x.json')
    (pets / 'cat').rename(pets.parent / 'cat')
    shutil.copytree(pets, pets.parent / 'others')
    (pets.parent / 'cat').rename(pets.parent / 'others' / 'cat')
    before = contents(pets.parent)
    for other in (pets.parent / 'others', 'fsdd'):
        with pytest.raises(SoundclfError, match='is no earlier description of'):
            write_croissant(str(other), file)
    assert contents(pets.parent) == before


def test_what_somebody_added_stays(pets, capsys):
    file = pets.parent / 'x.json'
    assert commands.run(['data', str(pets), '--croissant', str(file)]) == 0
    assert 'also asks for license, url, creator, datePublished: add them to' in capsys.readouterr().out
    added = {'license': 'https://l', 'url': 'https://u', 'creator': [{'@type': 'sc:Person', 'name': 'Me'}]}
    file.write_text(json.dumps(json.loads(file.read_text()) | added))
    sf.write(pets / 'dog' / 'b.wav', np.full(800, 0.3), 8000)
    assert commands.run(['data', str(pets), '--croissant', str(file)]) == 0
    made = json.loads(file.read_text())
    assert added.items() <= made.items() and made['description'].startswith('3 clips')
    assert 'also asks for datePublished: add' in capsys.readouterr().out


@pytest.mark.parametrize(
    'place, pattern',
    [('x.json', 'pets/**/*.wav'), ('pets/x.json', '**/*.wav'), ('pets/cat/x.json', '../**/*.wav')],
)
def test_the_sounds_are_named_from_the_description_on(pets, place, pattern):
    file, _ = write_croissant(str(pets), pets.parent / place)
    sounds = json.loads(file.read_text())['distribution'][0]
    assert sounds['includes'] == [pattern] and sounds['encodingFormat'] == ['audio/wav']
    found = glob.glob(pattern, root_dir=file.parent, recursive=True)
    assert sorted((file.parent / f).resolve() for f in found) == sorted(pets.rglob('*.wav'))


def test_files_beside_and_below_a_list_are_named(pets):
    listed = pets.parent / 'my[1]' / 'list.csv'
    listed.parent.mkdir()
    sf.write(listed.parent / 'near.wav', np.zeros(800), 8000)
    pets.rename(listed.parent / 'far')
    listed.write_text('path,label\nnear.wav,cat\nfar/dog/a.wav,dog\n')
    file, _ = write_croissant(str(listed), pets.parent / 'x.json')
    patterns = json.loads(file.read_text())['distribution'][0]['includes']
    found = {f for p in patterns for f in glob.glob(p, root_dir=file.parent, recursive=True)}
    assert {'my[1]/near.wav', 'my[1]/far/dog/a.wav'} <= found and 'beside.wav' not in found


def test_every_sound_has_a_mime_type():
    assert set(AUDIO_SUFFIXES) <= set(croissant._KINDS)
    assert all(re.fullmatch(r'(audio|video)/[\w.-]+', kind) for kind in croissant._KINDS.values())


def test_fields_of_a_folder_are_read_by_the_library(pets, tmp_path, python):
    file, table = write_croissant(str(tmp_path / 'pets'), tmp_path / 'pets.json')
    assert table == tmp_path / 'pets.clips.csv'
    rows = records(python, file, n=5)
    assert [(r['clips/path'], r['clips/label']) for r in rows] == [('cat/a.wav', 'cat'), ('dog/a.wav', 'dog')]
    assert rows[0]['clips/sha256'] == sha256_file(tmp_path / 'pets' / 'cat' / 'a.wav')


def test_the_command_writes_it_anywhere(tmp_path, home, capsys):
    assert commands.run(['data', 'fsdd', '--croissant', str(tmp_path / 'x.json')]) == 0
    made = json.loads((tmp_path / 'x.json').read_text())
    listed = next(f for f in made['distribution'] if f['@id'] == 'checksums')
    assert sha256_file(tmp_path / listed['contentUrl']) == listed['sha256']
    assert commands.run(['data', 'fsdd', '--croissant', str(tmp_path / 'x.txt')]) == 1
    assert 'ending' in capsys.readouterr().err
