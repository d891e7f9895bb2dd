"The server: right answers, refusals that keep its paths, workers that die, and trainings that go on."

import asyncio
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import soundfile as sf
from fastapi.testclient import TestClient
from processes import HANGS

from soundclf.core.esc50 import synthetic
from soundclf.core.files import SoundclfError
from soundclf.tools.archives import unzip
from soundclf.tools.classifier import Classifier
from soundclf.tools.commands import run
from soundclf.tools.models import package_models
from soundclf.tools.serve import make_app
from soundclf.tools.serve_answers import Server, Settings
from soundclf.tools.serve_limits import Limits, Refused
from soundclf.tools.serve_models import _told, model_key
from soundclf.tools.serve_uploads import Space
from soundclf.tools.serve_workers import Pool, Worker, WorkerDied

ROOT = Path(__file__).resolve().parent.parent
TOKEN = 'correct-horse-battery'


def noise(seconds: float, channels: int = 1, rate: int = 8000, seed: int = 0) -> bytes:
    "A wav file."
    out = io.BytesIO()
    wave = np.random.default_rng(seed).normal(0, 0.1, (round(seconds * rate), channels))
    sf.write(out, wave, rate, format='WAV')
    return out.getvalue()


@pytest.fixture(scope='module')
def home(lone_home):
    "A home folder with a damaged model, and a folder of folders to train on."
    home = lone_home
    (home / 'models' / 'broken').mkdir(parents=True)
    (home / 'models' / 'broken' / 'config.json').write_text('{')
    (home / 'sounds' / 'silence').mkdir(parents=True)
    return home


@pytest.fixture(scope='module')
def client(home):
    "A client of a server with small limits."
    limits = Limits(megabytes=0.5, files=4, seconds=20, channels=2)
    settings = Settings(workers=1, places=3, limits=limits, sounds=str(home / 'sounds'))
    with TestClient(make_app(settings), base_url='http://localhost') as client:
        yield client


def post(client, *files, page: str = '/predict', **kw) -> httpx.Response:
    return client.post(page, files=[('file', file) for file in files], **kw)


def test_answers_are_those_of_the_classifier(client, tmp_path):
    clf = Classifier.load('scratch')
    sounds = {'short.wav': noise(1), 'long.wav': noise(14, seed=1), 'two.wav': noise(2, channels=2)}
    for name, data in sounds.items():
        (tmp_path / name).write_bytes(data)
    rows = post(client, *sounds.items()).json()['answers']
    for name, row in zip(sounds, rows, strict=True):
        answer = clf.predict(tmp_path / name)
        assert (row['file'], row['label'], row['windows']) == (name, answer.label, answer.windows)
        assert row['probabilities'] == pytest.approx(answer.probabilities, abs=1e-5)
    whole = client.post('/predict', content=sounds['short.wav'], headers={'Content-Type': 'audio/wav'})
    assert whole.json()['answers'][0]['probabilities'] == pytest.approx(rows[0]['probabilities'], abs=1e-5)
    found = post(client, ('long.wav', sounds['long.wav']), page='/timeline', params={'hop': 1}).json()
    assert found['segments'][0].keys() == {'label', 'start', 'end', 'probability'}


GOOD = ('a.wav', noise(0.5))
REFUSED = {
    'no sound': (422, [('a.wav', b'no sound')], {}),
    'empty': (422, [('a.wav', b'')], {}),
    'no frames': (422, [('a.wav', noise(0))], {}),
    'many bytes': (413, [('a.wav', bytes(500_001))], {}),
    'many files': (413, [GOOD] * 5, {}),
    'many seconds': (413, [('a.wav', noise(21))], {}),
    'many channels': (413, [('a.wav', noise(0.1, channels=3))], {}),
    'no model': (404, [GOOD], {'model': 'nothing'}),
    'a path for a model': (404, [GOOD], {'model': str(package_models() / 'scratch')}),
    'a way up': (404, [GOOD], {'model': '../models/broken'}),
    'a damaged model': (500, [GOOD], {'model': 'broken'}),
    'a bad window': (422, [GOOD], {'window': 99}),
    'a word for a window': (422, [GOOD], {'window': 'long'}),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refusals_are_sentences_with_their_status_and_no_path(client, home, case):
    status, files, params = REFUSED[case]
    page = '/timeline' if 'window' in params else '/predict'
    found = post(client, *files, page=page, params=params)
    sentence = found.json()['error']
    assert found.status_code == status, sentence
    assert sentence.endswith('.') and '\n' not in sentence
    sent = params.get('model', '')
    assert not re.search(r'(/\w+){2}', found.text.replace(sent, '')), found.text
    assert post(client, GOOD).status_code == 200  # and its place is free again


def test_pages_methods_and_bodies_that_are_none(client):
    assert client.get('/nothing').status_code == 404
    assert client.post('/predict', json={'a': 1}).status_code == 415
    assert client.post('/predict', data={'a': 'b'}, files={}).status_code == 415
    cut = {'Content-Type': 'multipart/form-data; boundary=x'}
    assert client.post('/predict', content=b'--x\r\nContent', headers=cut).status_code == 400
    long = {'Content-Type': f'multipart/form-data; boundary={"x" * 300}'}
    assert client.post('/predict', content=b'--x', headers=long).status_code == 400
    assert client.get('/openapi.json').json()['paths'].keys() >= {'/predict', '/timeline', '/train'}
    assert client.get('/docs').status_code == 200


WRONG = [('GET', '/predict', 'POST'), ('PUT', '/jobs/1', 'DELETE, GET')]


@pytest.mark.parametrize('method, page, takes', WRONG)
def test_a_wrong_method_is_told_the_right_one(client, method, page, takes):
    found = client.request(method, page)
    assert (found.status_code, found.headers['Allow']) == (405, takes)
    sentence = f'This page does not take {method}: send the request with {takes.replace(", ", " or ")}.'
    assert found.json() == {'error': sentence}


def test_the_part_of_a_sound_may_have_any_name(client):
    for page in ('/predict', '/timeline'):
        assert client.post(page, files={'audio': GOOD}).status_code == 200
        described = client.get('/openapi.json').json()['paths'][page]['post']
        form = described['requestBody']['content']['multipart/form-data']['schema']
        assert 'may have any name' in form['properties']['file']['description']


def test_where_all_sounds_are_bad_the_first_gives_the_status(client):
    found = post(client, ('a.wav', b'no sound'), ('b.wav', noise(21)))
    assert found.status_code == 422 and [r['status'] for r in found.json()['answers']] == [422, 413]
    assert found.json()['error'] == found.json()['answers'][0]['error']
    page = ' '.join(client.get('/docs').text.split())
    assert 'which is a 200. Where all are bad, the answer has the status and the error of the first.' in page


def test_the_description_has_the_address_and_a_model_of_the_server(home, tmp_path):
    shutil.copytree(package_models() / 'scratch', tmp_path / 'mine')
    settings = Settings(str(tmp_path / 'mine'), workers=1, token=TOKEN)
    with TestClient(make_app(settings), base_url='http://sounds.example:8123') as client:
        page, example = client.get('/docs').text, example_of(client, '/predict')
    classes = Classifier.load('scratch').classes
    assert 'Bearer $SOUNDCLF_TOKEN" http://sounds.example:8123/predict' in page
    assert '<code>403</code>' not in page and 'scratch&quot;' not in page
    assert example['model'] == 'mine' and set(example['answers'][0]['probabilities']) <= set(classes)


def test_the_page_that_describes_the_server_asks_no_other(client):
    found = client.get('/docs')
    assert 'curl -F file=@new.wav http://localhost/predict' in found.text
    assert 'Bearer' not in found.text and '<code>401</code>' not in found.text
    assert "default-src 'none'" in found.headers['content-security-policy']
    assert '://' not in found.text.replace('http://localhost/', '') and '<script' not in found.text
    spec = client.get('/openapi.json').json()
    for path, methods in spec['paths'].items():
        assert f' {path}</code>' in found.text
        for about in methods.values():
            assert about['description'].endswith('.')
            assert all(answer['description'] for answer in about['responses'].values())
    assert spec['components']['securitySchemes']['HTTPBearer']['scheme'] == 'bearer'
    assert all(p['description'] for p in spec['paths']['/timeline']['post']['parameters'])


def example_of(client, path: str, method: str = 'post', status: str = '200') -> dict:
    answer = client.get('/openapi.json').json()['paths'][path][method]['responses'][status]
    return answer['content']['application/json']['example']


def test_examples_are_like_the_answers(client):
    example, found = example_of(client, '/predict'), post(client, GOOD).json()
    assert example.keys() == found.keys() and example['answers'][0].keys() == found['answers'][0].keys()
    example, found = example_of(client, '/timeline'), post(client, GOOD, page='/timeline').json()
    assert example.keys() == found.keys()
    example, found = example_of(client, '/models', 'get'), client.get('/models').json()
    assert example['models'][0].keys() == found['models'][0].keys()
    assert example_of(client, '/healthz', 'get').keys() == client.get('/healthz').json().keys()


def test_a_form_of_many_empty_fields_is_refused(client):
    form = {'Content-Type': 'multipart/form-data; boundary=x'}
    field = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    found = client.post('/predict', content=field * 100 + b'--x--\r\n', headers=form)
    assert found.status_code == 413 and 'parts' in found.text


def test_one_bad_file_costs_its_own_row(client):
    found = post(client, GOOD, ('b.wav', b'no sound'), GOOD)
    assert found.status_code == 200
    assert [row.get('status') for row in found.json()['answers']] == [None, 422, None]


@pytest.mark.parametrize('page', ['/predict', '/timeline'])
def test_a_setting_that_comes_as_a_part_of_the_form_is_not_passed_over(client, page):
    found = post(client, GOOD, page=page, data={'model': 'another'})
    assert found.status_code == 400 and '?model=' in found.json()['error']
    found = post(client, GOOD, page=page, data={'file': 'dog.wav'})  # the @ was forgotten
    assert found.status_code == 400 and "'file' is no file" in found.json()['error']


def test_a_full_server_says_when_to_try_again(client):
    server = client.app.state.server
    server.counts['requests'] += server.settings.requests
    try:
        found = post(client, GOOD)
    finally:
        server.counts['requests'] -= server.settings.requests
    assert found.status_code == 503 and int(found.headers['Retry-After']) > 0
    assert post(client, GOOD).status_code == 200


def test_more_windows_than_places_are_answered(client):
    "Twenty windows of three recordings share three places, and none waits for another for ever."
    found = post(client, *[(f'{i}.wav', noise(18, seed=i)) for i in range(3)])
    assert [row['windows'] for row in found.json()['answers']] == [7, 7, 7]


def test_counters_and_models(client):
    post(client, GOOD)
    text = client.get('/metrics').text
    assert re.search(r'soundclf_requests_total\{route="/predict",status="200"\} [1-9]', text)
    assert re.search(r'soundclf_batch_sounds_count [1-9]', text)
    models = {m['name']: m for m in client.get('/models').json()['models']}
    assert models['scratch']['default'] and 'dog' in models['scratch']['classes']
    assert 'damaged' in models['broken']['error']


def test_a_token_is_asked_for_everywhere(home):
    client = TestClient(make_app(Settings(token=TOKEN)), base_url='http://sounds.example')
    pages = [('GET', p) for p in ('/models', '/jobs', '/jobs/1', '/metrics')]
    for method, page in [
        *pages,
        ('POST', '/predict'),
        ('POST', '/timeline'),
        ('POST', '/train'),
        ('DELETE', '/jobs/1'),
    ]:
        for header in ({}, {'Authorization': 'Bearer other'}, {'Authorization': TOKEN}):
            found = client.request(method, page, headers=header)
            assert found.status_code == 401 and found.json()['error'].endswith('.'), page
    assert client.get('/jobs', headers={'Authorization': f'Bearer {TOKEN}'}).status_code == 200


def test_without_a_token_it_is_for_this_machine(client, capsys):
    assert client.get('/jobs', headers={'Host': 'evil.example'}).status_code == 403
    assert client.get('/jobs', headers={'Origin': 'http://evil.example'}).status_code == 403
    assert run(['serve', '--host', '0.0.0.0']) == 1
    assert run(['serve', '--host', 'no.such.host.example']) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and all('--token' in line for line in errors)


def test_without_its_packages_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr('soundclf.tools.commands_serve.find_spec', lambda module: None)
    assert run(['serve']) == 1
    sentence = capsys.readouterr().err
    assert 'needs fastapi, uvicorn' in sentence and 'extra `serve`' in sentence and sentence.count('\n') == 1


def test_an_upload_that_does_not_end_is_refused(home):
    app = make_app(Settings(limits=Limits(wait=0.2)))

    async def slow():
        yield b'--x\r\n'
        await asyncio.sleep(1)

    async def send():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url='http://localhost') as client:
            kind = {'Content-Type': 'multipart/form-data; boundary=x'}
            return await client.post('/predict', content=slow(), headers=kind)

    assert asyncio.run(send()).status_code == 408
    assert app.state.server.counts['requests'] == 0


def asked(app, body: list[bytes], whole: bool) -> int:
    "The status of a request whose caller hangs up after its body, or in the middle of it."
    pieces = [{'type': 'http.request', 'body': b, 'more_body': not whole} for b in body]
    messages, sent = [*pieces, {'type': 'http.disconnect'}], []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    headers = [(b'host', b'localhost'), (b'content-type', b'audio/wav')]
    scope = {'type': 'http', 'method': 'POST', 'path': '/predict', 'query_string': b'', 'headers': headers}
    asyncio.run(app(scope, receive, send))
    return sent[0]['status']


def test_callers_that_hang_up_leave_nothing_behind(home, capsys):
    "No worker is there, so only the end of the request can free its place."
    app = make_app(Settings())
    server = app.state.server
    server.name, server.models[server.pool.first] = 'scratch', Classifier.load('scratch')
    left = server.space.left
    assert asked(app, [noise(1)[:1000]], whole=False) == 400
    assert asked(app, [noise(1)], whole=True) == 400
    assert all(item.future.cancelled() for item in server.pool.line.items)
    assert server.counts['requests'] == 0 and server.space.left == left
    assert server.places._value == server.settings.places
    assert not capsys.readouterr().err


def test_all_uploads_share_one_space():
    space = Space(1e-3)
    with space.part() as first, space.part() as second:
        first(600)
        with pytest.raises(Refused, match='Too much') as found:
            second(600)
        assert found.value.status == 503 and found.value.retry_after
    with space.part() as third:
        third(1000)


def test_a_zip_with_an_endless_list_of_files_is_refused_before_the_list_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as made:
        for i in range(12_000):
            made.writestr(f'{"x" * 150}{i}', b'')
    with pytest.raises(SoundclfError, match='list of files is too long'):
        unzip(tmp_path / 'a.zip', tmp_path / 'in', members=100)
    assert not (tmp_path / 'in').exists()


def test_an_error_of_the_server_costs_its_batch_and_no_other(monkeypatch):
    key = model_key(package_models() / 'scratch')
    pool = Pool(key, workers=1)
    pool.start()
    wave, hand_over = np.zeros((1, 220500), 'float32'), Pool._hand_over
    monkeypatch.setattr(Pool, '_hand_over', lambda *_: np.zeros(2**50))
    with pytest.raises(Refused, match='MemoryError') as found:
        pool.submit(key, wave, (0.0, 5.0)).result(60)
    assert found.value.status == 503
    monkeypatch.setattr(Pool, '_hand_over', hand_over)
    assert pool.submit(key, wave, (0.0, 5.0)).result(60).note == 'silent'
    pool.end()


@pytest.mark.parametrize('page', ['/predict', '/timeline'])
def test_a_lack_of_memory_in_a_worker_is_no_fault_of_the_sound(client, monkeypatch, page):
    def lacking(pool, batch, worker):
        for item in batch:
            item.settle(_told(MemoryError()))

    monkeypatch.setattr(Pool, '_hand_over', lacking)
    found = post(client, GOOD, page=page)
    assert found.status_code == 503 and int(found.headers['Retry-After']) > 0
    assert 'too little memory' in found.json()['error']


def test_sounds_that_took_too_long_are_asked_for_again_when_their_error_says(client, monkeypatch):
    async def late(server, model, upload):
        raise Refused(503, 'It took too long.', retry_after=5)

    monkeypatch.setattr(Server, '_answer', late)
    found = post(client, GOOD)
    assert (found.status_code, found.headers['Retry-After']) == (503, '5')
    assert found.json()['answers'][0]['retry_after'] == 5


def test_a_worker_that_hangs_is_a_dead_one():
    key = model_key(package_models() / 'scratch')
    worker = Worker('auto', None, seconds=1)
    os.kill(worker.process.pid, signal.SIGSTOP)
    with pytest.raises(WorkerDied):
        worker.ask(key, np.zeros((16, 1, 220500), 'float32'), [(0.0, 5.0)] * 16)
    assert not worker.process.is_alive()


def class_folders(classes: int = 3, per_class: int = 4) -> bytes:
    "A zip of class folders."
    out = io.BytesIO()
    table = synthetic()
    with zipfile.ZipFile(out, 'w') as made:
        for label, rows in list(table.groupby('label'))[:classes]:
            for path in rows.drop_duplicates('group').path[:per_class]:
                made.write(path, f'mine/{label}/{Path(path).name}')
    return out.getvalue()


def wait_for(client, job: int, what) -> dict:
    "The state of a job when it is as we want it, or when it has ended."
    until = time.monotonic() + HANGS
    while time.monotonic() < until:
        told = client.get(f'/jobs/{job}').json()
        if what(told) or told['state'] != 'running':
            return told
        time.sleep(0.2)
    raise AssertionError(told)


def test_a_training_is_watched_cancelled_and_found_again(client, home, monkeypatch):
    monkeypatch.delenv('SOUNDCLF_QUIET', raising=False)
    archive = ('mine.zip', class_folders())
    form = {'model': 'mine', 'recipe': 'scratch', 'quick': 'true'}
    first = post(client, archive, page='/train', data=form)
    assert first.status_code == 202, first.text
    again = post(client, archive, page='/train', data=form | {'model': 'other'})
    assert again.status_code == 409 and 'one at a time' in again.json()['error']
    job = first.json()['job']
    runs = home / 'models' / 'mine' / 'runs'
    wait_for(client, job, lambda told: list(runs.rglob('model.safetensors')))
    kept = {p: p.stat().st_mtime_ns for p in runs.rglob('model.safetensors')}
    assert kept, client.get(f'/jobs/{job}/log').text
    assert client.delete(f'/jobs/{job}').json()['state'] == 'cancelled'
    assert client.delete(f'/jobs/{job}').status_code == 409
    job = post(client, archive, page='/train', data=form).json()['job']
    stages = set()
    told = wait_for(client, job, lambda told: stages.add(told['stage']))
    assert len(stages - {''}) > 1, stages
    log = client.get(f'/jobs/{job}/log').text
    assert (told['state'], told['progress']) == ('done', 1.0), log
    assert str(home) not in log and 'Made: mine' in log
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    found = post(client, GOOD, params={'model': 'mine'}).json()
    assert found['model'] == 'mine' and len(found['answers'][0]['probabilities']) == 3
    assert post(client, archive, page='/train', data=form).status_code == 409  # the name is taken


@pytest.mark.parametrize(
    'status, form, file',
    [
        (400, {'model': 'new'}, None),
        (400, {'folder': 'silence'}, None),
        (400, {'folder': 'silence', 'model': 'new'}, b'a zip and a folder'),
        (404, {'folder': '../sounds', 'model': 'new'}, None),
        (422, {'folder': 'silence', 'model': '../new'}, None),
        (422, {'folder': 'silence', 'model': 'scratch'}, None),
        (422, {'folder': 'silence', 'model': 'new', 'recipe': 'magic'}, None),
        (422, {'model': 'new'}, b'no zip'),
    ],
)
def test_trainings_that_are_refused(client, home, status, form, file):
    parts = {name: (None, value) for name, value in form.items()}
    found = client.post('/train', files=parts | ({'file': ('a.zip', file)} if file else {}))
    assert found.status_code == status, found.text
    assert found.json()['error'].endswith('.') and str(home) not in found.text
    assert not (home / 'models' / 'new').exists()


def test_a_training_that_fails_says_why(client, home):
    form = {name: (None, value) for name, value in {'folder': 'silence', 'model': 'mute'}.items()}
    job = client.post('/train', files=form).json()['job']
    told = wait_for(client, job, lambda told: False)
    assert told['state'] == 'failed' and 'silence' in told['last_line'] and str(home) not in told['last_line']


@pytest.fixture
def server(tmp_path):
    "A server in a process of its own, and its address."
    command = 'from soundclf.tools.commands import main\nif __name__ == "__main__": main()'
    (tmp_path / 'tmp').mkdir()
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'TMPDIR': str(tmp_path / 'tmp')}
    with subprocess.Popen(
        [sys.executable, '-c', command, 'serve', '--port', '0', '--workers', '2'],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
        start_new_session=True,
    ) as process:
        line = process.stdout.readline()
        assert 'Listening' in line, process.stderr.read()
        yield process, re.search(r'http://\S+', line).group()
        if process.poll() is None:
            process.kill()


def test_a_killed_worker_costs_no_answer_and_ctrl_c_ends_with_a_sentence(server, tmp_path):
    process, address = server
    sound, found = noise(1), []

    def ask():
        with httpx.Client(base_url=address, timeout=HANGS) as client:
            for _ in range(4):
                found.append(post(client, ('a.wav', sound), ('b.wav', sound)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(found) < 2:
        time.sleep(0.01)
    workers = [c for c in psutil.Process(process.pid).children() if 'spawn_main' in ' '.join(c.cmdline())]
    assert len(workers) == 2
    workers[0].kill()
    for thread in threads:
        thread.join()
    assert [f.status_code for f in found] == [200] * 16
    proba = [row['probabilities'] for f in found for row in f.json()['answers']]
    assert all(p == pytest.approx(proba[0], abs=1e-4) for p in proba)
    segments = httpx.post(f'{address}/timeline', files={'file': ('c.wav', noise(12))}, timeout=HANGS)
    assert segments.status_code == 200
    assert httpx.get(f'{address}/healthz').json() == {'status': 'ok', 'workers': 2}
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    _, err = process.communicate(timeout=HANGS)
    assert process.returncode == 130
    assert err.splitlines() == ['A worker ended and was replaced.', 'Stopped. 17 requests were answered.']
    assert not list((tmp_path / 'tmp').glob('soundclf-*'))
    assert not any(w.is_running() for w in workers)
