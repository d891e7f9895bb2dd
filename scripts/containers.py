"""Does the steps of containers/serve.Dockerfile in a fresh folder, and asks the server that they make.

For machines without Docker: python scripts/containers.py. COPY takes tracked files only. RUN and ENTRYPOINT
get the folder's paths for those of the image. The server runs as the image's user where that is possible."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / 'containers' / 'serve.Dockerfile'
TOKEN = 'a-token-for-this-test'
CLIP = ROOT / 'soundclf' / 'examples' / 'church_bells.ogg'


def steps(dockerfile: Path = FILE) -> list[tuple[str, str]]:
    "(instruction, its words) in order; continued lines are joined, comments left out."
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith('#')]
    joined = '\n'.join(lines).replace('\\\n', ' ')
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def listed(words: str) -> list[str]:
    "A command that stands as a list."
    return json.loads(words[words.index('[') :])


def here(text: str, image: Path) -> str:
    "Words of the image with the paths of the folder."
    for place in ('/src', '/venv', '/data'):
        text = text.replace(place, f'{image}{place}')
    return text


def copy(words: str, image: Path):
    "COPY: tracked files and folders into the image's working folder."
    *sources, target = words.split()
    place = image / 'src' / target
    for source in sources:
        if not subprocess.run(['git', 'ls-files', source], cwd=ROOT, capture_output=True).stdout:
            sys.exit(f'{FILE.name} copies {source}, which is not tracked.')
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, place)


def build(image: Path) -> dict[str, str]:
    "Does the steps that make files; the variables of the image. `PYTHON` names another Python."
    python = os.environ.get('PYTHON', sys.executable)
    (image / 'data').mkdir()
    variables = {}
    for instruction, words in steps():
        if instruction == 'COPY' and not words.startswith('--from'):
            copy(words, image)
        elif instruction == 'RUN' and 'useradd' not in words:
            command = here(words.replace('python -m venv', f'{python} -m venv'), image)
            subprocess.run(['bash', '-euc', command], cwd=image / 'src', check=True)
        elif instruction == 'ENV':
            variables |= dict(word.split('=', 1) for word in shlex.split(words))
    return variables


def start(image: Path, variables: dict[str, str]) -> subprocess.Popen:
    "The server, as the user of the image where this process may become another."
    command = listed(dict(steps())['ENTRYPOINT'])
    variables = {k: here(v, image).replace('$PATH', os.environ['PATH']) for k, v in variables.items()}
    shutil.rmtree(image / 'src')
    who = {}
    if os.geteuid() == 0:
        who = {'user': int(dict(steps())['USER']), 'extra_groups': []}
        os.chown(image / 'data', who['user'], -1)
        image.chmod(0o755)
    path = image / 'venv' / 'bin' / command[0]
    environment = variables | {'SOUNDCLF_TOKEN': TOKEN}
    return subprocess.Popen([path, *command[1:]], cwd=image / 'data', env=environment, **who)


def healthy(image: Path) -> bool:
    "Whether the image's own check is content."
    command = listed(dict(steps())['HEALTHCHECK'])
    found = subprocess.run([image / 'venv' / 'bin' / command[0], *command[1:]], capture_output=True)
    return found.returncode == 0


def answer() -> dict:
    "What the server says about the clip of the package."
    mark = 'part-of-a-form'
    head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{CLIP.name}"\r\n\r\n'
    body = head.encode() + CLIP.read_bytes() + f'\r\n--{mark}--\r\n'.encode()
    headers = {'Authorization': f'Bearer {TOKEN}', 'Content-Type': f'multipart/form-data; boundary={mark}'}
    with urlopen(Request('http://127.0.0.1:8000/predict', body, headers), timeout=30) as reply:
        return json.load(reply)


def main():
    with tempfile.TemporaryDirectory() as tmp:
        image = Path(tmp)
        variables = build(image)
        size = sum(f.stat().st_size for f in (image / 'venv').rglob('*') if f.is_file()) / 1e6
        torch = list((image / 'venv').glob('lib/*/site-packages/torch'))
        print(f'built: {size:.0f} MB, {"with" if torch else "without"} torch')
        server = start(image, variables)
        try:
            begun = time.monotonic()
            while not healthy(image):
                if server.poll() is not None or time.monotonic() - begun > 60:
                    sys.exit('The server does not answer its health check.')
                time.sleep(0.2)
            print(f'healthy after {time.monotonic() - begun:.1f} s\n{json.dumps(answer())[:300]}')
        finally:
            server.terminate()
            server.wait(20)


if __name__ == '__main__':
    main()
