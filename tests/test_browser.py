"The app in a real Chromium, where one is installed (Debian: apt install chromium)."

from pathlib import Path

import pytest
import test_app
from browser import CHROMIUM, go, open_browser, record, serve, settle
from test_app import usual

from soundclf.tools.app import PAGES
from soundclf.tools.classifier import Classifier

app_home = test_app.app_home  # a fixture, for this file as well
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason='no Chromium on this machine')


def test_pages_uploads_and_the_microphone(app_home, tmp_path):
    home, table = app_home
    clip = Path(table.path[7])
    expected = Classifier.load(usual()).predict(clip)
    (tmp_path / 'broken.wav').write_bytes(b'RIFF1234WAVE')
    with serve(home) as address, open_browser(clip) as context:
        page = context.new_page()
        for name in PAGES:
            go(page, address, name)
        go(page, address, 'Classify')
        page.locator('input[type=file]').set_input_files([str(clip), str(tmp_path / 'broken.wav')])
        settle(page)
        assert 'broken.wav cannot be decoded' in page.locator('[data-testid="stAlert"]').inner_text()
        page.get_by_role('heading', name=f'{expected.label} ({100 * expected.probability:.0f} %)').wait_for(
            timeout=30_000
        )
        go(page, address, 'Classify')
        record(page, 2.5)
        page.get_by_text('recording.wav').first.wait_for(state='attached', timeout=30_000)
        assert page.get_by_role('heading', level=3).count() >= 1
