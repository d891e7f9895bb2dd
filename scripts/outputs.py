"""The short texts that the last full run printed, kept in the notebooks by cell id.

Pictures are not copied: they stand in `figures/`, and a Markdown cell shows each.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / 'runs' / 'full' / 'auto'
MOST = 3900  # bytes of text that one cell keeps
KEPT = ('text/plain', 'text/markdown')
ANSI = re.compile(r'\x1b\[[0-9;]*[A-Za-z]')
PASSING = ('warning', 'Warning')  # of libraries, said on the error stream


def shortened(output: dict) -> dict | None:
    "One output as it is kept: texts and tables; None for pictures, players, progress bars."
    if output['output_type'] == 'stream':
        text = ANSI.sub('', ''.join(output['text']))
        return {'name': 'stdout', 'output_type': 'stream', 'text': text.splitlines(keepends=True)}
    data = output.get('data', {})
    if any(kind.startswith(('image/', 'application/')) for kind in data):
        return None
    html = ''.join(data.get('text/html', ''))
    if '<audio' in html or 'Figure' in ''.join(data.get('text/plain', '')):
        return None
    kept = {k: v for k, v in data.items() if k in KEPT or (k == 'text/html' and '<table' in html)}
    if not kept:
        return None
    kind = {'execution_count': None} if output['output_type'] == 'execute_result' else {}
    return {'data': kept, 'metadata': {}, 'output_type': output['output_type']} | kind


def outputs_of(cell: dict) -> list[dict]:
    "What a cell keeps; tables lose their HTML and then everything where it would be too long."
    said = [o for o in cell.get('outputs', []) if o.get('name') != 'stderr']
    found = [o for o in map(shortened, said) if o]
    if len(json.dumps(found)) > MOST:
        for output in found:
            output.get('data', {}).pop('text/html', None)
    return found if len(json.dumps(found)) <= MOST else []


def keep(executed: Path, notebook: Path) -> bool:
    "Whether the notebook changed: its cells keep what the same cells printed in the executed copy."
    ran = json.loads(executed.read_text(encoding='utf-8'))['cells']
    by_id = {c['id']: c for c in ran if c['cell_type'] == 'code'}
    text = notebook.read_text(encoding='utf-8')
    book = json.loads(text)
    for cell in book['cells']:
        if cell['cell_type'] == 'code' and cell['id'] in by_id:
            same = ''.join(by_id[cell['id']]['source']) == ''.join(cell['source'])
            cell['outputs'] = outputs_of(by_id[cell['id']]) if same else []
    new = json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + '\n'
    new = new.replace(str(ROOT), '.')
    notebook.write_text(new, encoding='utf-8')
    return new != text


if __name__ == '__main__':
    for executed in sorted(RUNS.glob('[0-9]*.ipynb')):
        notebook = ROOT / 'nbs' / executed.name
        if notebook.exists() and keep(executed, notebook):
            print(f'{notebook.name} keeps the texts of its last full run')
