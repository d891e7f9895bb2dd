"README.md from nbs/index.ipynb: executed, converted to Markdown, with the results table read from results.json."

import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent


def render() -> str:
    "The README's text; code cells whose first line is `#| echo: false` show their output only."
    os.environ['SOUNDCLF_QUIET'] = '1'
    nb = nbformat.read(ROOT / 'nbs' / 'index.ipynb', as_version=4)
    nb.cells = [
        c for c in nb.cells if not (c.cell_type == 'code' and c.source.startswith('#| hide'))
    ]
    NotebookClient(
        nb, timeout=120, kernel_name='python3', resources={'metadata': {'path': str(ROOT / 'nbs')}}
    ).execute()
    for cell in nb.cells:
        if cell.cell_type == 'code' and cell.source.startswith('#| echo: false'):
            cell.metadata['tags'] = ['no-input']
    config = Config({'TagRemovePreprocessor': {'enabled': True, 'remove_input_tags': {'no-input'}}})
    config.MarkdownExporter.preprocessors = ['nbconvert.preprocessors.TagRemovePreprocessor']
    text, _ = MarkdownExporter(config=config).from_notebook_node(nb)
    text = re.sub(r'\]\((?=\w+\.ipynb)', '](nbs/', text.replace('](../', ']('))
    lines = [line.rstrip() for line in text.splitlines()]
    return (
        '\n'.join(line for i, line in enumerate(lines) if line or (i and lines[i - 1])).strip()
        + '\n'
    )


if __name__ == '__main__':
    target, fresh = ROOT / 'README.md', render()
    if sys.argv[1:] == ['write']:
        target.write_text(fresh, encoding='utf-8')
        print(f'wrote {target.name}')
    elif not target.exists() or target.read_text(encoding='utf-8') != fresh:
        sys.exit(print('README.md is stale: run `make readme`') or 1)
