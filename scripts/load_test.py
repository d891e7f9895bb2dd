"""Loads `soundclf serve` on this machine with good and bad files: python scripts/load_test.py --minutes 10

Starts a server, sends it mixed requests from several clients, and kills a worker in the middle. Prints
throughput, latencies, memory, and the throughput as a ratio to `Classifier.predict_many` on the same files.
Ends with 1 if an answer was wrong or lost, or if memory grew by more than a tenth after the first minute.
A run of ten minutes writes figures/serve.json, which the notebook of the server shows."""

import argparse
import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil
import soundfile as sf
from joblib import cpu_count

ROOT = Path(__file__).parents[1]
COMMAND = 'from soundclf.tools.commands import main\nif __name__ == "__main__": main()\n'
RATE = 44100  # Hz


def make_sounds(folder: Path, n: int) -> list[Path]:
    "Clips of five seconds, of noise and tones of several levels."
    rng = np.random.default_rng(0)
    time = np.arange(5 * RATE) / RATE
    for i in range(n):
        wave = rng.uniform(0.01, 0.3) * rng.standard_normal(len(time))
        wave += rng.uniform(0, 0.5) * np.sin(2 * np.pi * rng.uniform(100, 8000) * time)
        sf.write(folder / f'{i:03}.wav', np.clip(wave, -1, 1), RATE)
    return sorted(folder.glob('*.wav'))


def wav_of(seconds: float, channels: int = 1, rate: int = 8000) -> bytes:
    out = io.BytesIO()
    sf.write(out, np.full((round(seconds * rate), channels), 0.1), rate, format='WAV')
    return out.getvalue()


def bad_requests() -> list[tuple[int, dict]]:
    "Requests that must be refused, with the status of the refusal."
    return [
        (422, {'files': {'file': ('text.wav', b'this is no sound')}}),
        (422, {'files': {'file': ('empty.wav', b'')}}),
        (422, {'files': {'file': ('cut.flac', b'fLaC' + bytes(100))}}),
        (413, {'files': {'file': ('long.wav', wav_of(700))}}),
        (413, {'files': {'file': ('many.wav', wav_of(0.1, channels=12))}}),
        (413, {'files': {'file': ('big.wav', bytes(21_000_000))}}),
        (404, {'files': {'file': ('good.wav', wav_of(1))}, 'params': {'model': '../scratch'}}),
        (400, {'content': b'--x\r\ncut', 'headers': {'Content-Type': 'multipart/form-data; boundary=x'}}),
    ]


class Load:
    "Clients that send requests until the time is over."

    def __init__(self, address: str, sounds: list[Path], expected: list[dict], files: int, bad: float):
        self.address, self.files, self.bad = address, files, bad
        self.sounds = [(p.name, p.read_bytes()) for p in sounds]
        self.expected = {row['path'].split('/')[-1]: row for row in expected}
        self.refusals = bad_requests()
        self.counts, self.seconds, self.wrong = Counter(), [], []
        self.over = threading.Event()

    def client(self, seed: int):
        "One client: it sends, checks, and sends again."
        draw = random.Random(seed)
        with httpx.Client(base_url=self.address, timeout=120) as client:
            while not self.over.is_set():
                try:
                    self.send_bad(client, draw) if draw.random() < self.bad else self.send_good(client, draw)
                except httpx.HTTPError as e:
                    self.wrong.append(f'lost: {type(e).__name__} {e}')

    def send_good(self, client: httpx.Client, draw: random.Random):
        chosen = draw.sample(self.sounds, min(self.files, len(self.sounds)))
        start = time.perf_counter()
        answer = client.post('/predict', files=[('file', sound) for sound in chosen])
        if answer.status_code == 503:
            self.counts['told to try again'] += 1
            time.sleep(float(answer.headers['Retry-After']))
            return
        self.seconds.append(time.perf_counter() - start)
        if answer.status_code != 200:
            self.wrong.append(f'{answer.status_code}: {answer.text[:200]}')
            return
        for (name, _), row in zip(chosen, answer.json()['answers'], strict=True):
            self.check(name, row)

    def check(self, name: str, row: dict):
        "Compares an answer to that of the classifier."
        wanted = self.expected[name]
        self.counts['clips'] += 1
        same = row.get('label') == wanted['predicted'] and row['file'] == name
        if not same or any(abs(p - wanted[f'p_{c}']) > 1e-4 for c, p in row['probabilities'].items()):
            self.wrong.append(f'{name}: {row}')

    def send_bad(self, client: httpx.Client, draw: random.Random):
        status, request = draw.choice(self.refusals)
        answer = client.post('/predict', **request)
        self.counts['refused'] += 1
        if answer.status_code not in (status, 503) or not answer.json()['error'].endswith('.'):
            self.wrong.append(f'{answer.status_code} in place of {status}: {answer.text[:200]}')


def start_server(options: list[str]) -> tuple[subprocess.Popen, str]:
    "A server on a free port, and its address."
    command = [sys.executable, '-c', COMMAND, 'serve', '--port', '0', *options]
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    line = server.stdout.readline()
    if not line:
        sys.exit('the server did not start')
    return server, re.search(r'http://\S+', line).group()


def megabytes(process: psutil.Process) -> tuple[float, float]:
    "Memory of the server and of its workers."
    workers = 0.0
    for child in process.children(recursive=True):
        try:
            workers += child.memory_info().rss / 1e6
        except psutil.NoSuchProcess:
            continue
    return process.memory_info().rss / 1e6, workers


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    return [c for c in process.children() if 'spawn_main' in ' '.join(c.cmdline())]


def wait_for_workers(process: psutil.Process):
    "Returns when all workers have read their model and wait."
    idle = 0
    while idle < 4:
        before = [c.cpu_times().user for c in workers_of(process)]
        time.sleep(0.5)
        after = [c.cpu_times().user for c in workers_of(process)]
        idle = idle + 1 if before == after and all(after) else 0


def cpu_seconds(process: psutil.Process) -> float:
    "What a process, its children and those that it has lost have computed so far."
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in process.children():
        times = child.cpu_times()
        total += times.user + times.system
    return total


def kill_a_worker(process: psutil.Process):
    "kill -9 for the worker that has worked most."
    max(workers_of(process), key=lambda c: c.cpu_times().user).send_signal(signal.SIGKILL)


def run_load(load: Load, server: psutil.Process, minutes: float, clients: int) -> list[tuple]:
    "Runs the clients; rows of seconds and megabytes of the server and its workers."
    threads = [threading.Thread(target=load.client, args=(seed,)) for seed in range(clients)]
    start, rows, killed = time.perf_counter(), [], False
    for thread in threads:
        thread.start()
    while (now := time.perf_counter() - start) < 60 * minutes:
        time.sleep(0.6 * minutes)
        rows.append((now, *megabytes(server)))
        if not killed and now > 30 * minutes:
            kill_a_worker(server)
            killed = True
    load.over.set()
    for thread in threads:
        thread.join()
    return rows


def batch_size(text: str) -> float:
    "Mean number of sounds in a batch, from the server's counters."
    total, count = (re.search(rf'soundclf_batch_sounds_{k} (\S+)', text).group(1) for k in ('sum', 'count'))
    return float(total) / float(count)


@dataclass
class Speed:
    "How fast clips were answered."

    clips: int
    seconds: float
    cpu: float  # seconds of all cores


def baseline(clf, sounds: list[Path]) -> tuple[list[dict], Speed]:
    "The right answers, and how fast `predict_many` gives them."
    clf.predict_many(sounds[:16])
    start, cpu = time.perf_counter(), time.process_time()
    rows = clf.predict_many(sounds).to_dict('records')
    return rows, Speed(len(sounds), time.perf_counter() - start, time.process_time() - cpu)


def middle(rows: list[tuple], start: float, end: float) -> np.ndarray:
    "The medians of some rows, those between two shares of the time."
    part = rows[int(start * len(rows)) : max(1, int(end * len(rows)))]
    return np.median(part, axis=0)


def record(load: Load, rows: list, speed: Speed, direct: list[Speed], text: str) -> dict:
    "What was measured, for `figures/serve.json`."
    mean = sum(s.clips for s in direct) / sum(s.seconds for s in direct)
    p50, p95, p99 = (round(float(p), 3) for p in np.percentile(load.seconds, (50, 95, 99)))
    early, late = middle(rows, 0.05, 0.15), middle(rows, 0.9, 1)
    lost = sum(text.startswith('lost') for text in load.wrong)
    return {
        'cores': cpu_count(),
        'minutes': round(speed.seconds / 60, 1),
        'clips': speed.clips,
        'clips_per_s': round(speed.clips / speed.seconds, 1),
        'predict_many_clips_per_s': round(mean, 1),
        'ratio': round(speed.clips / speed.seconds / mean, 3),
        'cpu_ms_per_clip': round(1000 * speed.cpu / speed.clips, 2),
        'predict_many_cpu_ms_per_clip': round(1000 * direct[0].cpu / direct[0].clips, 2),
        'request_s': {'p50': p50, 'p95': p95, 'p99': p99},
        'mean_batch': round(batch_size(text), 1),
        'wrong': len(load.wrong) - lost,
        'lost': lost,
        'refused': load.counts['refused'],
        'told_to_try_again': load.counts['told to try again'],
        'workers_killed': 1,
        'server_mb': {'after_a_tenth': round(float(early[1])), 'at_the_end': round(float(late[1]))},
        'workers_mb': {'after_a_tenth': round(float(early[2])), 'at_the_end': round(float(late[2]))},
    }


def report(load: Load, found: dict) -> bool:
    "Prints what was measured; returns whether all is well."
    print(*load.wrong[:5], sep='\n')
    print(*(f'{k}: {v}' for k, v in found.items()), sep='\n')
    memory = found['server_mb']
    return not load.wrong and memory['at_the_end'] <= 1.1 * memory['after_a_tenth']


def measure(folder: Path, args: argparse.Namespace) -> bool:
    "Measures and reports; returns whether all is well."
    from soundclf.core.files import write_json
    from soundclf.tools.classifier import Classifier

    sounds = make_sounds(folder, args.sounds)
    clf = Classifier.load('scratch')
    expected, before = baseline(clf, sounds)
    server, address = start_server(args.serve.split())
    process = psutil.Process(server.pid)
    load = Load(address, sounds, expected, args.files, args.bad)
    wait_for_workers(process)
    start, cpu = time.perf_counter(), cpu_seconds(process)
    rows = run_load(load, process, args.minutes, args.clients)
    speed = Speed(load.counts['clips'], time.perf_counter() - start, cpu_seconds(process) - cpu)
    text = httpx.get(f'{address}/metrics').text
    server.send_signal(signal.SIGINT)
    print(f'the server ended with {server.wait(60)}')
    _, after = baseline(clf, sounds)
    found = record(load, rows, speed, [before, after], text)
    if args.minutes >= 10:
        write_json(settings_of(args) | found, ROOT / 'figures' / 'serve.json')
    return report(load, found)


def settings_of(args: argparse.Namespace) -> dict:
    "How the load was made."
    return {'clients': args.clients, 'files_per_request': args.files, 'share_of_bad_requests': args.bad}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--minutes', type=float, default=10.0, help='how long the clients send')
    parser.add_argument('--clients', type=int, default=8, help='clients that send at the same time')
    parser.add_argument('--files', type=int, default=8, help='sounds in a request')
    parser.add_argument('--sounds', type=int, default=64, help='different sounds')
    parser.add_argument('--bad', type=float, default=0.1, help='share of requests that must be refused')
    parser.add_argument('--serve', default='', help='options of `soundclf serve`, in one word')
    args = parser.parse_args()
    os.environ['SOUNDCLF_QUIET'] = '1'
    folder = Path(tempfile.mkdtemp(prefix='soundclf-load-'))
    try:
        good = measure(folder, args)
    finally:
        shutil.rmtree(folder)
    sys.exit(0 if good else 1)


if __name__ == '__main__':
    main()
