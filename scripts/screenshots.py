"Pictures of every page on real data: `make screenshots`. Needs Chromium, full results and ESC-50."

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile as sf

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'tests'))

from browser import CHROMIUM, go, open_browser, record, serve, settle, static_server  # noqa: E402

from soundclf.core.esc50 import ESC50_TEN, esc50  # noqa: E402
from soundclf.tools.web_page import export_web  # noqa: E402

OUT = ROOT / 'figures' / 'app'


class Pages:
    "A browser on the app, and the pictures taken of it."

    def __init__(self, page, address: str):
        self.page, self.address = page, address

    def go(self, name: str):
        go(self.page, self.address, name)

    def fill(self, field: str, words: str):
        self.page.get_by_label(field).fill(words)
        self.page.keyboard.press('Enter')
        settle(self.page)

    def wait_for_picture(self, number: int = 0):
        self.page.locator('[data-testid="stImage"] img').nth(number).wait_for(timeout=60_000)

    def answer(self) -> str:
        return self.page.get_by_role('heading', level=3).first.inner_text()

    def shoot(self, name: str, height: int, below: str = ''):
        "A picture of the page, or of what stands below a text of it."
        self.page.set_viewport_size({'width': 1280, 'height': height})
        settle(self.page)
        part = {}
        if below:
            box = self.page.get_by_text(below, exact=True).first.bounding_box()
            left, top = box['x'] - 30, box['y'] - 10
            part['clip'] = {'x': left, 'y': top, 'width': 1280 - left, 'height': height - top}
        self.page.screenshot(path=str(OUT / f'{name}.png'), **part)
        print(name)


def shoot_explore(pages: Pages):
    pages.go('Explore')
    pages.page.get_by_role('combobox').first.click()
    pages.page.get_by_role('option', name='esc50-10').click()
    pages.wait_for_picture(2)
    pages.shoot('explore', 1500)


def shoot_evaluate(pages: Pages):
    pages.go('Evaluate')
    pages.wait_for_picture()
    pages.shoot('evaluate', 1800)


def shoot_label(pages: Pages, sounds: Path):
    pages.go('Label')
    pages.fill('Folder of sounds', str(sounds.relative_to(ROOT)))
    pages.wait_for_picture()
    pages.shoot('label', 1100)


def shoot_train(pages: Pages):
    pages.go('Train')
    pages.fill('Folder of class folders', 'my/sounds')
    pages.shoot('train', 700)


def shoot_classify(pages: Pages, clips: list[str]):
    pages.go('Classify')
    pages.page.locator('input[type=file]').set_input_files(clips)
    settle(pages.page)
    print('uploaded', [Path(c).name for c in clips], '->', pages.answer())
    pages.wait_for_picture(1)
    pages.shoot('classify', 1690, 'Look at')


def shoot_web(context, clips: list[str], home: Path):
    "The page of the packaged model, with a recording that is made of clips and of silence."
    waves = [sf.read(clip, dtype='float32')[0] for clip in clips]
    rate = sf.info(clips[0]).samplerate
    recording = home / 'a walk.wav'
    sf.write(recording, np.concatenate([*waves[:1], np.zeros(8 * rate, 'float32'), *waves[1:]]), rate)
    page = context.new_page()
    page.set_viewport_size({'width': 830, 'height': 1400})
    with static_server(export_web('scratch', home / 'page').parent) as address:
        page.goto(address)
        page.locator('html[data-ready]').wait_for(timeout=60_000)
        page.set_input_files('#file', str(recording))
        page.locator('html[data-answer]').wait_for(timeout=60_000)
        page.wait_for_timeout(500)
        box = page.locator('section', has=page.locator('#timeline')).bounding_box()
        page.screenshot(
            path=str(OUT / 'web.png'),
            full_page=True,
            clip={'x': 0, 'y': 0, 'width': 830, 'height': box['y'] + box['height'] + 10},
        )
    print('web', page.locator('#label').inner_text())


def main():
    if CHROMIUM is None:
        sys.exit('There is no Chromium here: install it (Debian: apt install chromium).')
    table = esc50(ESC50_TEN)
    held = table[table.fold == 1]
    clips = [held[held.label == label].path.iloc[0] for label in ('church_bells', 'dog')]
    OUT.mkdir(parents=True, exist_ok=True)
    sounds = ROOT / 'runs' / 'new sounds'
    shutil.rmtree(sounds, ignore_errors=True)
    sounds.mkdir(parents=True)
    for path in held.groupby('label').path.first():
        shutil.copy(path, sounds)
    with open_browser() as context, tempfile.TemporaryDirectory() as home:
        shoot_web(context, clips, Path(home))
    with serve(ROOT) as address, open_browser(Path(clips[0])) as context:
        pages = Pages(context.new_page(), address)
        pages.page.set_viewport_size({'width': 1280, 'height': 1500})
        shoot_explore(pages)
        shoot_evaluate(pages)
        shoot_label(pages, sounds)
        shoot_train(pages)
        shoot_classify(pages, clips)
        pages.go('Classify')
        record(pages.page, 5.5)
        print('recorded', Path(clips[0]).name, '->', pages.answer())


if __name__ == '__main__':
    main()
