"README.md from nbs/index.ipynb: executed, converted to Markdown, its table read from results.json."

import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
NO_INPUT = {'enabled': True, 'remove_input_tags': {'no-input'}}


def executed() -> nbformat.NotebookNode:
    "The index, run; hidden cells are left out, and `#| echo: false` leaves only what a cell prints."
    nb = nbformat.read(ROOT / 'nbs' / 'index.ipynb', as_version=4)
    nb.cells = [c for c in nb.cells if not c.source.startswith('#| hide')]
    place = {'metadata': {'path': str(ROOT / 'nbs')}}
    NotebookClient(nb, timeout=120, kernel_name='python3', resources=place).execute()
    for cell in nb.cells:
        if cell.cell_type == 'code' and cell.source.startswith('#| echo: false'):
            cell.metadata['tags'] = ['no-input']
    return nb


def render() -> str:
    "The README's text."
    os.environ['SOUNDCLF_QUIET'] = '1'
    config = Config({'TagRemovePreprocessor': NO_INPUT})
    config.MarkdownExporter.preprocessors = ['nbconvert.preprocessors.TagRemovePreprocessor']
    text, _ = MarkdownExporter(config=config).from_notebook_node(executed())
    text = re.sub(r'\]\((?=[\w/]+\.ipynb)', '](nbs/', text.replace('](../', ']('))
    text = re.sub(r'\n{3,}', '\n\n', '\n'.join(line.rstrip() for line in text.splitlines()))
    return text.strip() + '\n'


if __name__ == '__main__':
    target, fresh = ROOT / 'README.md', render()
    if sys.argv[1:] == ['write']:
        target.write_text(fresh, encoding='utf-8')
        print(f'wrote {target.name}')
    elif not target.exists() or target.read_text(encoding='utf-8') != fresh:
        print('README.md is stale: run `make readme`')
        sys.exit(1)
