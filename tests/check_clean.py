"Fails when a notebook is not clean, a module differs from its notebook, or the README from its sources. Changes nothing."

import filecmp
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def untidy(path: Path) -> list[str]:
    "What is wrong with one notebook: execution counts, big outputs, stray metadata."
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    found = []
    for i, cell in enumerate(cells):
        if cell.get('execution_count'):
            found.append(f'{path.name} cell {i} has an execution count')
        if len(json.dumps(cell.get('outputs', []))) > 4000:
            found.append(f'{path.name} cell {i} has outputs over 4 KB')
        if extra := set(cell['metadata']) - {'tags'}:
            found.append(f'{path.name} cell {i} has metadata {sorted(extra)}')
    if (
        path.stem[:2].isdigit()
        and path.stem[2] == '_'
        and path.stem not in ('00_core', '12_app')
        and not any('parameters' in c['metadata'].get('tags', []) for c in cells)
    ):
        found.append(f'{path.name} has no cell tagged parameters')
    return found


def stale_files() -> list[str]:
    "Notebooks that `nbdev_clean` and modules that `nbdev_export` would change, found in a copy."
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp) / 'repo'
        for name in ('nbs', 'soundclf'):
            shutil.copytree(
                ROOT / name,
                copy / name,
                ignore=shutil.ignore_patterns('.ipynb_checkpoints', '__pycache__'),
            )
        for name in ('settings.ini', 'setup.py', 'pyproject.toml'):
            shutil.copy(ROOT / name, copy / name)
        for command in ('nbdev_clean', 'nbdev_export'):
            subprocess.run([str(Path(sys.executable).parent / command)], cwd=copy, check=True)
        names = {
            f'{p.parent.name}/{p.name}'
            for root in (ROOT, copy)
            for p in (*(root / 'soundclf').glob('*.py'), *(root / 'nbs').glob('*.ipynb'))
        }
        return [
            n
            for n in sorted(names)
            if not (
                (ROOT / n).exists()
                and (copy / n).exists()
                and filecmp.cmp(ROOT / n, copy / n, shallow=False)
            )
        ]


if __name__ == '__main__':
    problems = [p for nb in sorted((ROOT / 'nbs').glob('*.ipynb')) for p in untidy(nb)]
    problems += [
        f'{f} is not what nbdev_clean and nbdev_export make of it: run both' for f in stale_files()
    ]
    readme = subprocess.run(
        [sys.executable, str(ROOT / 'tests' / 'readme.py'), 'check'], capture_output=True, text=True
    )
    problems += [readme.stdout.strip() or readme.stderr.strip()[-500:]] if readme.returncode else []
    print('\n'.join(problems) or 'notebooks, modules and README agree')
    sys.exit(bool(problems))
