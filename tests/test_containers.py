"What the container files name is there; `scripts/containers.py` does their steps."

import json
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'scripts'))
import containers  # noqa: E402

FILES = sorted((ROOT / 'containers').glob('*.Dockerfile'))


@pytest.mark.parametrize('file', FILES, ids=lambda f: f.stem)
def test_nobody_is_root_and_what_is_copied_is_tracked(file):
    done = containers.steps(file)
    assert dict(done)['USER'] == '10001'
    for words in (words for instruction, words in done if instruction == 'COPY' and '--from' not in words):
        for source in [w for w in words.split()[:-1] if not w.startswith('--')]:
            tracked = subprocess.run(['git', 'ls-files', source], cwd=ROOT, capture_output=True, check=True)
            assert tracked.stdout, f'{file.name} copies {source}'


def test_the_extras_exist():
    config = ConfigParser(delimiters=['='])
    config.read(ROOT / 'settings.ini')
    text = FILES[1].read_text() + (ROOT / '.binder' / 'postBuild').read_text()
    extras = {e for group in re.findall(r'\.\[([\w,]+)\]', text) for e in group.split(',')}
    assert extras and all(f'{e}_requirements' in config['DEFAULT'] for e in extras)


def test_the_entry_point_is_a_command_and_needs_a_token(monkeypatch, capsys):
    from soundclf.tools.commands import run

    monkeypatch.delenv('SOUNDCLF_TOKEN', raising=False)
    program, *words = containers.listed(dict(containers.steps())['ENTRYPOINT'])
    assert program == 'soundclf' and run(words) == 1
    assert 'there is no token' in capsys.readouterr().err


def test_the_health_check_asks_for_a_page_that_exists():
    from soundclf.tools.serve import healthz

    command = containers.listed(dict(containers.steps())['HEALTHCHECK'])[-1]
    port = dict(containers.steps())['EXPOSE']
    assert f'127.0.0.1:{port}/{healthz.__name__}' in command


def test_the_development_container_opens_a_chapter():
    settings = json.loads((ROOT / '.devcontainer' / 'devcontainer.json').read_text())
    opened = settings['customizations']['codespaces']['openFiles']
    assert opened and all((ROOT / file).is_file() for file in opened)
    assert settings['postCreateCommand'] == 'make install'
