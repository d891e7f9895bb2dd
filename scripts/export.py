"""Modules from notebooks, and clean notebooks; touches only what changed, so that make repeats nothing.

`nbdev_clean` and `nbdev_export` run in a copy. What they change is copied back; `check.py` only names it.
"""

import filecmp
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns('.ipynb_checkpoints', '__pycache__')


def fresh_copy(copy: Path):
    "The notebooks and modules as nbdev makes them, under `copy`."
    for name in ('nbs', 'soundclf'):
        shutil.copytree(ROOT / name, copy / name, ignore=LEFT_OUT)
    for name in ('settings.ini', 'setup.py', 'pyproject.toml'):
        shutil.copy(ROOT / name, copy)
    for command in ('nbdev_clean', 'nbdev_export'):
        program = Path(sys.executable).parent / command
        subprocess.run([str(program)], cwd=copy, check=True)
    for file in (copy / 'soundclf').rglob('*.py'):
        if file.name not in ('_modidx.py', '__init__.py'):
            file.write_text(rewrapped(file.read_text(encoding='utf-8')), encoding='utf-8')


def rewrapped(module: str) -> str:
    "A module whose list of names and whose first sentence keep to the length of a line, which nbdev's don't."

    def names(found):
        return textwrap.fill(' '.join(found.group(0).split()), 110, subsequent_indent=' ' * 11)

    first, _, rest = module.partition('\n')
    first = textwrap.fill(first, 110) if first.startswith('"""') else first
    return re.sub(r'^__all__ = \[.*?\]$', names, f'{first}\n{rest}', flags=re.M | re.S)


def written(root: Path) -> set[str]:
    "The notebooks and modules below a folder, as relative names."
    files = [*(root / 'soundclf').rglob('*.py'), *(root / 'nbs').rglob('*.ipynb')]
    kept = [f for f in files if '.ipynb_checkpoints' not in f.parts]
    return {f.relative_to(root).as_posix() for f in kept}


def differences(copy: Path) -> list[str]:
    "The names of all files that differ between the checkout and the copy, or stand in one only."

    def same(name):
        here, there = ROOT / name, copy / name
        return here.exists() and there.exists() and filecmp.cmp(here, there, shallow=False)

    return [name for name in sorted(written(ROOT) | written(copy)) if not same(name)]


def stale_files() -> list[str]:
    "The notebooks that are not clean and the modules that are not what their notebooks export."
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp) / 'soundclf'
        fresh_copy(copy)
        return differences(copy)


def export() -> list[str]:
    "The names of the files brought up to date."
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp) / 'soundclf'
        fresh_copy(copy)
        changed = differences(copy)
        for name in changed:
            shutil.copy(copy / name, ROOT / name)
        return changed


if __name__ == '__main__':
    print('\n'.join(export()) or 'modules and notebooks agree')
