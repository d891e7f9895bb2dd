"An executed chapter holds a picture for every figure that it saves, as Jupyter's own backend draws it."

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'scripts'))


def execute(chapter: str, folder: Path) -> Path:
    "The executed copy of a chapter: quick, on generated sounds, in a kernel as Jupyter starts it."
    out = Path('runs') / 'test-pictures'
    target = folder / f'{chapter}.ipynb'
    papermill = [str(Path(sys.executable).parent / 'papermill'), f'nbs/{chapter}.ipynb', str(target)]
    words = [
        '--cwd',
        'nbs',
        '-k',
        'python3',
        '--no-progress-bar',
        '-p',
        'dataset',
        'synthetic',
        '-p',
        'out',
        str(out),
    ]
    environment = {k: v for k, v in os.environ.items() if k != 'MPLBACKEND'}
    environment |= {'SOUNDCLF_QUIET': '1', 'IN_TEST': '1'}
    try:
        subprocess.run(papermill + words, cwd=ROOT, check=True, capture_output=True, env=environment)
    finally:
        shutil.rmtree(ROOT / out, ignore_errors=True)
    return target


@pytest.mark.parametrize('chapter', ['01_data', '02_transforms'])
def test_every_saved_figure_is_seen(chapter, tmp_path):
    from report import missing_pictures

    executed = execute(chapter, tmp_path)
    assert missing_pictures(executed, full=True) == 0
    assert '"image/png"' in executed.read_text()


def test_a_missing_picture_is_noticed(tmp_path):
    from report import missing_pictures

    cell = {'cell_type': 'code', 'source': "save_figure(fig, 'x.png')", 'outputs': []}
    (tmp_path / 'x.ipynb').write_text(json.dumps({'cells': [cell]}))
    assert missing_pictures(tmp_path / 'x.ipynb', full=True) == 1
    assert missing_pictures(tmp_path / 'x.ipynb', full=False) == 1
    cell['source'] = "if len(table):\n    save_figure(fig, 'x.png')"
    (tmp_path / 'x.ipynb').write_text(json.dumps({'cells': [cell]}))
    assert missing_pictures(tmp_path / 'x.ipynb', full=True) == 1
    assert missing_pictures(tmp_path / 'x.ipynb', full=False) == 0
