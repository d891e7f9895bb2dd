"""The book as static HTML in site/: chapters, what they stand on, the reference of the module.

Sphinx with MyST-NB and Furo: all three are maintained and come from PyPI. Their pages need no network when
they are read, and search works on them. (Jupyter Book 2 and Quarto need tools from elsewhere. Material for
MkDocs, which mkdocs-jupyter needs for a like result, is in maintenance. nbconvert has no search.)

A chapter comes from its executed copy of the last full run where there is one, with its players and tables.
Its pictures are those in figures/, which Markdown cells show. The sound of a player is stored as Ogg.
"""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import soundfile as sf
from build_reference import write_reference

from soundclf.core.files import SoundclfError
from soundclf.tools.web_page import built_page, export_web

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / 'runs' / 'site'
SITE = ROOT / 'site'
EXECUTED = ROOT / 'runs' / 'full' / 'auto'
WAV = re.compile(r'data:audio/(?:x-)?wav;base64,([A-Za-z0-9+/=\s]+)')
QUIET = ('#| export', '#| hide', 'import ', 'from ')
TESTS = ('test_eq(', 'test_close(', 'test_fail(', 'test_ne(', 'assert ')


def ogg(found: re.Match) -> str:
    "A player's WAV as Ogg Vorbis, a tenth of the size."
    wave, rate = sf.read(io.BytesIO(base64.b64decode(found.group(1))), always_2d=True)
    target = io.BytesIO()
    sf.write(target, wave, rate, format='OGG', subtype='VORBIS')
    return 'data:audio/ogg;base64,' + base64.b64encode(target.getvalue()).decode()


def shown_output(output: dict) -> dict | None:
    "An output as the site shows it: no pictures, for they follow; no errors of libraries; players in Ogg."
    if output.get('name') == 'stderr':
        return None
    data = output.get('data')
    if data is None:
        return output
    if 'image/png' in data:
        return None
    if 'text/html' in data:
        data = data | {
            'text/html': WAV.sub(ogg, ''.join(data['text/html'])).replace('audio/wav', 'audio/ogg')
        }
    return output | {'data': data}


def is_quiet(source: str, cell: dict) -> bool:
    "Whether a cell is closed until it is asked for: exported code, imports, and tests that print nothing."
    tests = any(word in source for word in TESTS) and not cell['outputs']
    return source.startswith(QUIET) or tests


def shown_cells(cells: list[dict]) -> Iterator[dict]:
    for cell in cells:
        source = ''.join(cell['source'])
        if source.startswith('#| default_exp') or 'injected-parameters' in cell['metadata'].get('tags', []):
            continue
        if cell['cell_type'] == 'code':
            closed = is_quiet(source, cell)
            text = re.sub(r'^(#\|.*\n)+', '', source)
            outputs = [o for o in map(shown_output, cell['outputs']) if o]
            meta = {'tags': ['hide-input'] if closed else []}
            yield cell | {'source': text, 'outputs': outputs, 'metadata': meta, 'execution_count': None}
        else:
            yield cell | {'source': source}


def write_page(notebook: Path):
    "One notebook as a page; links to figures and other notebooks go to their places on the site."
    name = notebook.relative_to(ROOT / 'nbs')
    executed = EXECUTED / notebook.name
    book = json.loads((executed if executed.exists() else notebook).read_text(encoding='utf-8'))
    book['cells'] = list(shown_cells(book['cells']))
    text = json.dumps(book, ensure_ascii=False)
    up = '../' * (len(name.parts) - 1)
    text = re.sub(r'\]\((?:\.\./)+figures/', f']({up}figures/', text)
    target = PAGES / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding='utf-8')


def front_page() -> str:
    "The README as the first page, and the contents of the side bar."
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    text = text.replace('](nbs/', '](')
    text = re.sub(r'\]\((?!http|#|figures/)([\w./-]+)\)', _elsewhere, text)
    chapters = sorted(p.stem for p in (ROOT / 'nbs').glob('[0-9]*.ipynb'))
    parts = {'The book': chapters, 'What the chapters stand on': _names('core')}
    parts |= {'What is built on them': _names('tools'), 'Reference': ['reference/index']}
    tables = [toc(title, names) for title, names in parts.items()]
    if has_page():
        text = text.replace('\n## ', f'\n{TRY}\n\n## ', 1)
    return text + '\n' + '\n'.join(tables)


TRY = '<p><a href="try/index.html"><b>Try it</b>: name a sound in your browser. No sound leaves it.</a></p>'


def has_page() -> bool:
    "Whether `make web` has built the page of a model."
    try:
        return built_page().is_dir()
    except SoundclfError:
        return False


def write_try():
    "The page of the shipped model beside the book; its examples come from the clips of the last full run."
    if has_page():
        export_web('scratch', SITE / 'try', 'esc50-10' if EXECUTED.exists() else '')


def _elsewhere(found: re.Match) -> str:
    "A link from the README: a page of the site, or a file of the repository."
    target = found.group(1)
    if target.endswith('.ipynb'):
        return f']({target})'
    return f'](https://example.org/soundclf/blob/main/{target})'


def _names(folder: str) -> list[str]:
    return sorted(f'{folder}/{p.stem}' for p in (ROOT / 'nbs' / folder).glob('*.ipynb'))


def toc(title: str, names: list[str]) -> str:
    return '\n'.join([f'```{{toctree}}\n:hidden:\n:caption: {title}\n', *names, '```\n'])


def build():
    shutil.rmtree(PAGES, ignore_errors=True)
    (PAGES / '_static').mkdir(parents=True)
    shutil.copy(ROOT / 'scripts' / 'site_conf.py', PAGES / 'conf.py')
    shutil.copy(ROOT / 'scripts' / 'site.css', PAGES / '_static')
    shutil.copytree(ROOT / 'figures', PAGES / 'figures', ignore=shutil.ignore_patterns('*.csv', 'synthetic*'))
    for notebook in sorted((ROOT / 'nbs').rglob('*.ipynb')):
        if notebook.stem != 'index' and '.ipynb_checkpoints' not in notebook.parts:
            write_page(notebook)
    write_reference(PAGES / 'reference')
    (PAGES / 'index.md').write_text(front_page(), encoding='utf-8')
    sphinx = [sys.executable, '-m', 'sphinx', '-q', '-b', 'html', '-j', '2', str(PAGES), str(SITE)]
    subprocess.run(sphinx, check=True)
    write_try()
    print(f'The book is in {SITE.relative_to(ROOT)}/index.html')


if __name__ == '__main__':
    build()
