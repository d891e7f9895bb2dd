"Keys: which changes of code make a new result, in files and in live notebooks, on every Python."

import inspect
import os
import re
import shutil
import subprocess
import sys
import types
from functools import cache
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

import soundclf
from soundclf.core import keys
from soundclf.core.keys import code_hash

PACKAGE = Path(soundclf.__file__).parent
VERSIONS = ('3.10', '3.11', '3.12', '3.13', '3.14')

# What the tree of a module is made of; the rest of core.keys needs more than the standard library.
PARSER = (
    keys._Code,
    keys._tree,
    keys._fields,
    keys._parsed,
    keys._names,
    keys._is_patch,
    keys._origin,
)
HEAD = f"""
import ast, hashlib, json, sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple
_IGNORED = {keys._IGNORED!r}
"""
TAIL = """
root = Path(sys.argv[1])
for file in sorted(root.rglob('*.py')):
    module = file.relative_to(root).with_suffix('').as_posix().replace('/', '.')
    code = _parsed(file.read_text(encoding='utf-8'), module)
    trees = {n: [_tree(p) for p in pieces.values()] for n, pieces in code.found.items()}
    text = json.dumps([trees, code.imported], sort_keys=True)
    print(module, hashlib.sha256(text.encode()).hexdigest())
"""


def find_python(version):
    "The interpreter of a version on the path or among pyenv's; None where there is none that runs."
    folder = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv')) / 'versions'
    found = [*folder.glob(f'{version}.*/bin/python'), shutil.which(f'python{version}')]
    for python in filter(None, found):
        asked = subprocess.run(
            [python, '-c', 'import sys; print(sys.version)'], capture_output=True, text=True
        )
        if asked.stdout.startswith(version + '.'):
            return python
    return None


@cache
def trees_by(python):
    "The hash of the trees of every module, as an interpreter makes it."
    script = '\n\n'.join([HEAD, *map(inspect.getsource, PARSER), TAIL])
    command = [python, '-I', '-c', script, str(PACKAGE)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize('version', VERSIONS)
def test_every_python_gives_the_same_trees(version):
    python = find_python(version)
    if python is None:
        pytest.skip(f'there is no Python {version} here')
    expected = trees_by(sys.executable)
    assert len(expected) > 40
    assert trees_by(python) == expected


BASE = '''
LIMIT = 3

def helper(x):
    return min(x, LIMIT)

class Base:
    def step(self, x):
        return x + 1
'''
STUDY = '''
from .core.base import Base, helper

class Mine(Base):
    "A study's own class."

    def run(self, x):
        return helper(self.step(x))  # one step

@patch
def twice(self: Mine, x):
    return self.run(self.run(x))

def other(x):
    return x
'''


@pytest.fixture
def package(monkeypatch):
    "A function that writes a module of a small package in place of soundclf's."

    texts = {}

    def write(module, text):
        texts[module] = text

    monkeypatch.setattr(keys, '_IMPORTED', texts)
    write('core.base', BASE)
    write('study', STUDY)
    return write


@pytest.mark.parametrize(
    ('module', 'old', 'new'),
    [
        ('core.base', 'x + 1', 'x + 2'),  # a method of the base class
        ('core.base', 'min(x', 'max(x'),  # a helper in another module
        ('core.base', 'LIMIT = 3', 'LIMIT = 4'),  # a constant that the helper uses
        ('study', 'self.step(x))', 'self.step(-x))'),  # a method
        ('study', 'self.run(self.run(x))', 'self.run(x)'),  # a patched method
    ],
)
def test_a_change_of_what_is_used_counts(package, module, old, new):
    before = code_hash('study.Mine')
    text = {'core.base': BASE, 'study': STUDY}[module]
    assert old in text
    package(module, text.replace(old, new))
    assert code_hash('study.Mine') != before


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('  # one step', '  # a step, and then some'),
        ('    "A study\'s own class."\n', '    "Other words."\n'),
        ('    "A study\'s own class."\n', ''),
        ('helper(self.step(x))', 'helper(\n            self.step(x),\n        )'),
        ('return x\n', 'return -x\n'),  # in `other`, which the class does not use
        ("# one step\n", "# one step\n\n    # to be continued\n"),
    ],
)
def test_a_change_of_words_or_of_what_is_not_used_does_not_count(package, old, new):
    before = code_hash('study.Mine')
    assert old in STUDY
    package('study', STUDY.replace(old, new))
    assert code_hash('study.Mine') == before


@pytest.fixture
def notebook(monkeypatch):
    "A function that runs cells as a notebook's kernel does."
    base = types.ModuleType('soundclf.core.base')
    exec(BASE, vars(base))
    monkeypatch.setitem(sys.modules, base.__name__, base)
    shell = InteractiveShell.instance()

    def run(*cells):
        for cell in cells:
            shell.run_cell(cell, store_history=True).raise_error()
        return shell.user_ns

    yield run
    InteractiveShell.clear_instance()


CLASS, PATCH = re.split(r'\n\n(?=class|@patch|def)', STUDY.strip())[1:3]
CELLS = (
    '#| default_exp study',
    '#| export\nfrom fastcore.basics import patch\nfrom soundclf.core.base import Base, helper',
    f'#| export\n{CLASS}',
    f'#| export\n{PATCH}',
)


def test_an_unchanged_notebook_has_the_key_of_its_module(package, notebook):
    exported = code_hash('study.Mine')
    names = notebook(*CELLS, 'helper, x = max, 1')  # what a study cell calls a thing is its own business
    assert code_hash('study.Mine') == exported
    assert code_hash(names['Mine']) == exported


def test_an_edited_export_cell_counts_until_it_is_edited_back(package, notebook):
    exported = code_hash('study.Mine')
    notebook(*CELLS, CELLS[2].replace('self.step(x)', 'self.step(2 * x)'))
    assert code_hash('study.Mine') != exported
    notebook(CELLS[2])
    assert code_hash('study.Mine') == exported
    notebook(CELLS[3].replace('self.run(self.run(x))', 'self.run(x)'))
    assert code_hash('study.Mine') != exported


def test_a_class_of_a_study_cell_counts_with_all_it_uses(package, notebook):
    quieter = 'class Quieter(Mine):\n    def step(self, x):\n        return x - 1'
    before = code_hash(notebook(*CELLS, quieter)['Quieter'])
    assert code_hash(notebook(quieter)['Quieter']) == before
    assert code_hash(notebook(quieter.replace('x - 1', 'x - 2'))['Quieter']) != before
    package('core.base', BASE.replace('x + 1', 'x + 2'))
    assert code_hash(notebook(quieter)['Quieter']) != before


def test_the_notebook_of_another_module_does_not_count(package, notebook):
    exported = code_hash('study.Mine')
    edited = CELLS[2].replace('self.step(x)', 'self.step(2 * x)')
    notebook('#| default_exp another', CELLS[1], edited)
    assert code_hash('study.Mine') == exported


def test_what_no_notebook_defines_is_hashed_by_its_source():
    class Typed:
        def step(self, x):
            return x + 1

    class Other:
        def step(self, x):
            return x + 2

    assert code_hash(Typed) == code_hash(Typed) != code_hash(Other)
