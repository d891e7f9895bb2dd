"The app in a real Chromium: a server on a free port, a page, and pictures of it."

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
MOST = 180_000  # milliseconds after which a page is no longer slow, but hangs
QUIET = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--no-first-run',
    '--use-fake-ui-for-media-stream',
    '--use-fake-device-for-media-stream',
]


@contextlib.contextmanager
def serve(home: Path):
    "The address of the app, served from a home folder."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    command = [
        sys.executable,
        '-m',
        'streamlit',
        'run',
        str(ROOT / 'app.py'),
        '--server.headless=true',
        '--server.address=127.0.0.1',
        f'--server.port={port}',
        '--browser.gatherUsageStats=false',
        '--server.maxUploadSize=20',
    ]
    process = subprocess.Popen(
        command,
        cwd=home,
        env=os.environ | {'PYTHONPATH': str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(1200):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f'http://127.0.0.1:{port}/_stcore/health', timeout=60)
                break
            time.sleep(0.5)
        yield f'http://127.0.0.1:{port}'
    finally:
        process.terminate()
        process.wait(MOST / 1000)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextlib.contextmanager
def static_server(folder: Path):
    "The address of a plain web server."
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f'http://127.0.0.1:{server.server_port}/'
    finally:
        server.shutdown()


@contextlib.contextmanager
def open_browser(microphone: Path | None = None):
    "A Chromium whose microphone hears a file."
    from playwright.sync_api import sync_playwright

    sound = [f'--use-file-for-fake-audio-capture={microphone}'] if microphone else []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=QUIET + sound)
        try:
            yield browser.new_context(viewport={'width': 1280, 'height': 900}, permissions=['microphone'])
        finally:
            browser.close()


def settle(page):
    "Waits until the page has stopped working; fails if it shows an exception."
    page.wait_for_timeout(700)
    page.wait_for_selector('[data-testid="stStatusWidget"]', state='detached', timeout=MOST)
    page.wait_for_selector('[data-testid="stSpinner"]', state='detached', timeout=MOST)
    page.wait_for_timeout(500)
    assert page.locator('[data-testid="stException"]').count() == 0, page.locator(
        '[data-testid="stException"]'
    ).first.inner_text()


def go(page, address: str, name: str = ''):
    "Opens the app anew, and one of its pages."
    page.goto(address)
    page.get_by_text('Classify', exact=True).first.wait_for(timeout=MOST)
    settle(page)
    if name:
        turn_to(page, name)


def turn_to(page, name: str):
    "Chooses a page of the app that is open."
    page.locator('section[data-testid="stSidebar"] label', has_text=name).click()
    settle(page)
    title = 'What is this sound?' if name == 'Start' else name
    page.get_by_role('heading', name=title, exact=True).wait_for(timeout=MOST)


def record(page, seconds: float):
    "Records with the page's microphone button."
    page.get_by_role('button', name='Record').click()
    page.wait_for_timeout(int(seconds * 1000))
    page.get_by_role('button', name='Stop recording').click()
    settle(page)
