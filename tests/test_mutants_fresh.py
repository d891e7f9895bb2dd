"The lines that `make mutate` breaks are still there, and so are the tests that `make reliability` runs."

import ast
import json
import shlex
import subprocess
import sys

import pytest
from mutants import MUTANTS
from mutate import FIRST, MORE, ROOT, notebook_of, stale


@pytest.mark.parametrize('mutant', MUTANTS, ids=lambda m: f'{m.module}: {m.old[:40]}')
def test_a_line_is_there_once_and_what_replaces_it_is_python(mutant):
    assert not stale(mutant)
    module = (ROOT / 'soundclf' / f'{mutant.module}.py').read_text(encoding='utf-8')
    assert ast.dump(ast.parse(module)) != ast.dump(ast.parse(module.replace(mutant.old, mutant.new)))
    assert notebook_of(mutant.module)


def test_enough_lines_of_enough_modules():
    assert len(MUTANTS) >= 60 and len({m.module for m in MUTANTS}) >= 50
    assert len(set(MUTANTS)) == len(MUTANTS)


CHECKS = sorted({*FIRST.values(), *MORE.values()})


@pytest.fixture(scope='module')
def collected() -> list[str]:
    "The names of all tests that `make mutate` may run."
    files = sorted({word for check in CHECKS for word in check.split() if word.endswith('.py')})
    command = [sys.executable, '-m', 'pytest', '--collect-only', '-q', '-p', 'no:cacheprovider', *files]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.parametrize('check', [check for check in CHECKS if ' -k ' in check])
def test_a_check_selects_tests_that_exist(check, collected):
    *files, _, words = shlex.split(check)
    names = [name.partition('::')[2] for name in collected if name.startswith(tuple(files))]
    assert all(any(word in name for name in names) for word in words.split(' or ')), check


def test_every_fault_names_tests_that_exist():
    for row in json.loads((ROOT / 'tests' / 'faults.json').read_text(encoding='utf-8')):
        for name in row['tests']:
            file, *function = name.split('::')
            text = (ROOT / file).read_text(encoding='utf-8')
            found = not function or f'def {function[0].split("[")[0]}(' in text
            assert found, f'{row["fault"]}: {name} is not there'
