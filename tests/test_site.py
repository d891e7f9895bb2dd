"""The rendered book in a browser: pages load without the network, no link or picture is broken, search works.

Builds the site if it is not there. Skipped where Sphinx or Chromium is missing.
"""

import functools
import http.server
import importlib.util
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from browser import CHROMIUM

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / 'site'
MOST = 5_000_000  # bytes of a page with its pictures

pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec('furo'), reason='Sphinx is not installed: make site'),
    pytest.mark.skipif(CHROMIUM is None, reason='there is no Chromium'),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope='module')
def site():
    "The address of the built site, served from this machine."
    if not (SITE / 'index.html').is_file():
        subprocess.run([sys.executable, str(ROOT / 'scripts' / 'build_site.py')], check=True)
    handler = functools.partial(Quiet, directory=str(SITE))
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


@pytest.fixture(scope='module')
def page():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        opened = browser.new_page(viewport={'width': 1280, 'height': 900})
        yield opened
        browser.close()


def pages() -> list[str]:
    left_out = ('genindex', 'search')
    found = (p.relative_to(SITE).as_posix() for p in SITE.rglob('*.html'))
    return sorted(p for p in found if not p.startswith((*left_out, '_static')))


def local_targets(text: str) -> set[str]:
    "Where the links and pictures of a page point to, on the site itself."
    found = re.findall(r'(?:href|src)="([^"#?]+)', text)
    return {t for t in found if not re.match(r'[a-z]+:', t)}


def test_no_link_and_no_picture_is_broken(site):
    broken = []
    for name in pages():
        here = (SITE / name).parent
        for target in local_targets((SITE / name).read_text(encoding='utf-8')):
            if not (here / target).exists():
                broken.append(f'{name} -> {target}')
    assert not broken, broken[:20]


def test_no_page_is_heavy(site):
    for name in pages():
        text = (SITE / name).read_text(encoding='utf-8')
        pictures = [t for t in local_targets(text) if t.endswith('.png')]
        size = len(text) + sum(((SITE / name).parent / t).stat().st_size for t in pictures)
        assert size <= MOST, (name, size)


def test_pages_load_without_the_network(site, page):
    elsewhere, errors = [], []
    page.on('request', lambda r: None if r.url.startswith((site, 'data:')) else elsewhere.append(r.url))
    page.on('pageerror', lambda e: errors.append(str(e)))
    for name in [p for p in pages() if '/' not in p]:
        page.goto(f'{site}/{name}')
    assert not elsewhere and not errors, (elsewhere[:5], errors[:5])


def test_each_chapter_shows_a_picture_in_its_first_screen(site, page):
    chapters = [p for p in pages() if p[:2].isdigit()]
    assert len(chapters) == 12
    for name in chapters:
        page.goto(f'{site}/{name}')
        box = page.locator('article img').first.bounding_box()
        assert box['y'] + box['height'] <= 900 and box['height'] > 100, (name, box)


def test_search_finds_near_duplicates(site, page):
    page.goto(f'{site}/search.html?q=near-duplicate')
    first = page.locator('#search-results li a').first
    first.wait_for(timeout=600_000)
    found = page.locator('#search-results').inner_text()
    assert 'near-duplicate' in found.lower()
