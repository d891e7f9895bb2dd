"Fails when notebooks, modules, figures and README don't agree, or a notebook isn't clean. Changes nothing."

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from export import ROOT, stale_files

MOST_OUTPUT = 4096  # bytes of text that one cell may keep
LONGEST_CELL = 25  # lines of an exported cell
LEAST_PROSE = 1 / 3  # cells of prose for one of code
PICTURE = re.compile(r'!\[[^\]]*\]\((?:\.\./)*(figures/[^)\s]+)\)')


def cells_of(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding='utf-8'))['cells']


def source(cell: dict) -> str:
    return ''.join(cell['source'])


def notebooks() -> list[Path]:
    found = sorted((ROOT / 'nbs').rglob('*.ipynb'))
    return [p for p in found if '.ipynb_checkpoints' not in p.parts]


def is_chapter(path: Path) -> bool:
    return path.name[:2].isdigit()


def untidy(path: Path) -> Iterator[str]:
    "What is wrong with one notebook."
    cells = cells_of(path)
    name = path.relative_to(ROOT).as_posix()
    for i, cell in enumerate(cells):
        for problem in untidy_cell(cell):
            yield f'{name} cell {i} {problem}'
    tagged = ['parameters' in c['metadata'].get('tags', []) for c in cells]
    if is_chapter(path) and not any(tagged):
        yield f'{name} has no cell tagged parameters'
    if is_chapter(path) and not any(PICTURE.search(source(c)) for c in cells[:3]):
        yield f'{name} shows no picture in its first cells'
    if not source(cells[0]).startswith('# '):
        yield f'{name} does not open with a title'
    kinds = Counter(c['cell_type'] for c in cells)
    if LEAST_PROSE * kinds['code'] > kinds['markdown']:
        yield f'{name} has {kinds["markdown"]} cells of prose for {kinds["code"]} of code: say what they do'


def untidy_cell(cell: dict) -> Iterator[str]:
    "What is wrong with one cell."
    if cell.get('execution_count'):
        yield 'has an execution count'
    if len(json.dumps(cell.get('outputs', []))) > MOST_OUTPUT:
        yield f'keeps outputs of more than {MOST_OUTPUT} bytes'
    if extra := set(cell['metadata']) - {'tags'}:
        yield f'has metadata {sorted(extra)}'
    code = cell['cell_type'] == 'code' and source(cell)
    if code and code.startswith('#| export') and len(code.splitlines()) > LONGEST_CELL:
        yield f'exports {len(code.splitlines())} lines, and {LONGEST_CELL} are the most'
    yield from nested_comprehensions(code or '')


def nested_comprehensions(code: str) -> Iterator[str]:
    kinds = ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp
    try:
        tree = ast.parse(code)
    except SyntaxError:  # a cell magic
        return
    for outer in (n for n in ast.walk(tree) if isinstance(n, kinds)):
        if any(isinstance(n, kinds) for n in ast.walk(outer) if n is not outer):
            yield f'has a comprehension inside a comprehension in its line {outer.lineno}'


def tracked(pattern: str) -> set[str]:
    "The files that git tracks, or is about to; all files that are there outside a checkout."
    command = ['git', 'ls-files', '--cached', '--others', '--exclude-standard', pattern]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        return {p.relative_to(ROOT).as_posix() for p in ROOT.glob(pattern)}
    return {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}


def picture_problems() -> Iterator[str]:
    "Figures that nothing shows, that chapters show twice, or that don't exist."
    shown, named = Counter(), set()
    for path in notebooks():
        for cell in cells_of(path):
            found = PICTURE.findall(source(cell)) if cell['cell_type'] == 'markdown' else []
            shown.update(found if is_chapter(path) else {})
            named.update(found)
            yield from (
                f'{path.name} shows {f}, which is not there' for f in found if not (ROOT / f).exists()
            )
    figures = tracked('figures/**/*.png')
    yield from (f'{f} is shown nowhere' for f in sorted(figures - named))
    yield from (f'{f} is shown {n} times' for f, n in sorted(shown.items()) if n > 1)


def long_modules(most: int = 300, widest: int = 110) -> Iterator[str]:
    "Modules of too many lines, or with lines that are too long."
    for path in sorted((ROOT / 'soundclf').rglob('*.py')):
        lines = path.read_text(encoding='utf-8').splitlines()
        if path.name == '_modidx.py':
            continue
        if len(lines) > most:
            yield f'{path.relative_to(ROOT)} has {len(lines)} lines, and {most} are the most'
        if max(map(len, lines), default=0) > widest:
            yield f'{path.relative_to(ROOT)} has a line of more than {widest} characters'


def start_readme() -> subprocess.Popen:
    "The check of the README, which runs while the rest is checked."
    command = [sys.executable, str(ROOT / 'scripts' / 'readme.py'), 'check']
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def readme_problem(check: subprocess.Popen) -> list[str]:
    out, err = check.communicate()
    return [out.strip() or err.strip()[-500:]] if check.returncode else []


if __name__ == '__main__':
    readme, problems = start_readme(), []
    for path in notebooks():
        problems += untidy(path)
    problems += [*picture_problems(), *long_modules()]
    problems += [f'{f} is not what `make export` makes of it: run it' for f in stale_files()]
    problems += readme_problem(readme)
    print('\n'.join(problems) or 'notebooks, modules, figures and README agree')
    sys.exit(bool(problems))
