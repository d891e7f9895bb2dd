"The reference of the module as Markdown pages: every public name, and what its parameters mean."

import importlib
import inspect
from pathlib import Path

from fastcore.docments import docments

ROOT = Path(__file__).resolve().parent.parent


def modules() -> list[str]:
    "The names of all exported modules inside the package, chapters first."
    files = [p.relative_to(ROOT / 'soundclf') for p in (ROOT / 'soundclf').rglob('*.py')]
    names = ['.'.join(p.with_suffix('').parts) for p in files if not p.stem.startswith('_')]
    return sorted(names, key=lambda n: (n.count('.'), n))


def notebook_of(module: str) -> str:
    "The page of the notebook that exports a module, from the reference's folder."
    *folder, stem = module.split('.')
    place = (ROOT / 'nbs').joinpath(*folder)
    found = [p for p in place.glob('*.ipynb') if p.stem == stem or p.stem.lstrip('0123456789_') == stem]
    return f'../{found[0].relative_to(ROOT / "nbs").as_posix()}'


def cell(text) -> str:
    "Text as one cell of a Markdown table."
    return ' '.join(str(text or '').split()).replace('|', '\\|')


def parameter_table(thing) -> list[str]:
    "One row per parameter: name, type, default, meaning."
    rows = []
    for name, about in docments(thing, full=True).items():
        if name in ('self', 'return'):
            continue
        kind = about['anno'] if about['anno'] is not inspect.Parameter.empty else ''
        kind = getattr(kind, '__name__', kind)
        default = about['default']
        default = '' if default is inspect.Parameter.empty else f'`{default!r}`'
        rows.append(f'| `{name}` | {cell(kind)} | {cell(default)} | {cell(about["docment"])} |')
    return ['| parameter | type | default | meaning |', '|---|---|---|---|', *rows, ''] if rows else []


def returned(thing) -> list[str]:
    about = docments(thing, full=True).get('return')
    text = about and about['docment']
    return [f'Returns: {cell(text)}', ''] if text else []


def entry(module, name: str) -> list[str]:
    "The Markdown of one public name."
    thing = getattr(module, name)
    if not (inspect.isfunction(thing) or inspect.isclass(thing)):
        return [f'## {name}', '', f'`{cell(repr(thing))[:300]}`', '']
    kind = 'class ' if inspect.isclass(thing) else ''
    lines = [f'## {name}', '', f'*{kind}{module.__name__}.{name}*', '', inspect.getdoc(thing) or '', '']
    try:
        lines += parameter_table(thing) + (returned(thing) if inspect.isfunction(thing) else [])
    except (SyntaxError, TypeError, ValueError, OSError):  # source that docments can't read
        lines += [f'`{name}{_signature(thing)}`', '']
    return lines + source_of(thing)


def _signature(thing) -> str:
    try:
        return str(inspect.signature(thing))
    except (TypeError, ValueError):
        return '()'


def source_of(thing) -> list[str]:
    try:
        code = inspect.getsource(thing)
    except (OSError, TypeError):
        return []
    return [
        '<details class="source"><summary>Source</summary>',
        '',
        '```python',
        code,
        '```',
        '',
        '</details>',
        '',
    ]


def page(name: str) -> str:
    "The Markdown of one module."
    module = importlib.import_module(f'soundclf.{name}')
    own = [
        n
        for n in getattr(module, '__all__', [])
        if getattr(getattr(module, n), '__module__', '') == module.__name__
    ]
    lines = [f'# {name}', '', inspect.getdoc(module) or '', '']
    lines += [f'Written in [the notebook of the same name]({notebook_of(name)}).', '']
    for each in own:
        lines += entry(module, each)
    return '\n'.join(lines)


def write_reference(folder: Path):
    "Writes one page per module and their index."
    folder.mkdir(parents=True, exist_ok=True)
    names = modules()
    for name in names:
        (folder / f'{name}.md').write_text(page(name), encoding='utf-8')
    start = '# Reference\n\nEvery public name of the module, with what its parameters mean.\n'
    listed = '\n'.join(['```{toctree}\n:maxdepth: 1\n', *names, '```\n'])
    (folder / 'index.md').write_text(f'{start}\n{listed}', encoding='utf-8')
