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
        if cell.get('execution_count'): found.append(f'{path.name} cell {i} has an execution count')
        if len(json.dumps(cell.get('outputs', []))) > 4000: found.append(f'{path.name} cell {i} has outputs over 4 KB')
        if extra := set(cell['metadata']) - {'tags'}: found.append(f'{path.name} cell {i} has metadata {sorted(extra)}')
    if path.stem[0].isdigit() and path.stem not in ('00_core', '03b_backbones') and not any('parameters' in c['metadata'].get('tags', []) for c in cells):
        found.append(f'{path.name} has no cell tagged parameters')
    return found


def stale_modules() -> list[str]:
    "Modules that a fresh export would change."
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp)/'repo'
        for name in ('nbs', 'soundclf'): shutil.copytree(ROOT/name, copy/name, ignore=shutil.ignore_patterns('.ipynb_checkpoints', '__pycache__'))
        for name in ('settings.ini', 'setup.py', 'pyproject.toml'): shutil.copy(ROOT/name, copy/name)
        subprocess.run([str(Path(sys.executable).parent/'nbdev_export')], cwd=copy, check=True)
        files = {p.name for folder in (ROOT, copy) for p in (folder/'soundclf').glob('*.py')}
        return [f for f in sorted(files) if not ((ROOT/'soundclf'/f).exists() and (copy/'soundclf'/f).exists() and filecmp.cmp(ROOT/'soundclf'/f, copy/'soundclf'/f, shallow=False))]


if __name__ == '__main__':
    problems = [p for nb in sorted((ROOT/'nbs').glob('*.ipynb')) for p in untidy(nb)]
    problems += [f'soundclf/{f} differs from its notebook: run nbdev_export' for f in stale_modules()]
    readme = subprocess.run([sys.executable, str(ROOT/'tests'/'readme.py'), 'check'], capture_output=True, text=True)
    problems += [readme.stdout.strip()] if readme.returncode else []
    print('\n'.join(problems) or 'notebooks, modules and README agree')
    sys.exit(bool(problems))
