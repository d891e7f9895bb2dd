"Pictures of every page on real data, for the README: `make screenshots`. Needs Chromium, the full run's results and ESC-50."

import shutil
import sys
from pathlib import Path

from browser import CHROMIUM, ROOT, go, open_browser, record, serve, settle

from soundclf.core.esc50 import ESC50_TEN, esc50

if __name__ == '__main__':
    if CHROMIUM is None:
        sys.exit('There is no Chromium here: install it (Debian: apt install chromium).')
    table = esc50(ESC50_TEN)
    held = table[table.fold == 1]
    clips = [held[held.label == label].path.iloc[0] for label in ('church_bells', 'dog')]
    out = ROOT / 'figures' / 'app'
    out.mkdir(parents=True, exist_ok=True)
    with serve(ROOT) as address, open_browser(Path(clips[0])) as context:
        sounds = ROOT / 'runs' / 'new sounds'
        shutil.rmtree(sounds, ignore_errors=True)
        sounds.mkdir(parents=True)
        for path in held.groupby('label').path.first():
            shutil.copy(path, sounds)
        page = context.new_page()
        page.set_viewport_size({'width': 1280, 'height': 1500})

        def shoot(name):
            settle(page)
            page.screenshot(path=str(out / f'{name}.png'))
            print(name)

        def fill(field, words):
            page.get_by_label(field).fill(words)
            page.keyboard.press('Enter')
            settle(page)

        go(page, address, 'Explore')
        page.get_by_role('combobox').first.click()
        page.get_by_role('option', name='esc50-10').click()
        page.locator('[data-testid="stImage"] img').nth(2).wait_for(timeout=60_000)
        shoot('explore')
        go(page, address, 'Evaluate')
        page.locator('[data-testid="stImage"] img').first.wait_for(timeout=60_000)
        shoot('evaluate')
        go(page, address, 'Label')
        fill('Folder of sounds', str(sounds.relative_to(ROOT)))
        page.locator('[data-testid="stImage"] img').first.wait_for(timeout=60_000)
        page.set_viewport_size({'width': 1280, 'height': 1100})
        shoot('label')
        go(page, address, 'Train')
        fill('Folder of class folders', 'my/sounds')
        page.set_viewport_size({'width': 1280, 'height': 700})
        shoot('train')
        go(page, address, 'Classify')
        page.locator('input[type=file]').set_input_files(clips)
        settle(page)
        print(
            'uploaded',
            [Path(c).name for c in clips],
            '->',
            page.get_by_role('heading', level=3).first.inner_text(),
        )
        page.set_viewport_size({'width': 1280, 'height': 1600})
        page.locator('[data-testid="stImage"] img').nth(1).wait_for(timeout=60_000)
        shoot('classify')
        go(page, address, 'Classify')
        record(page, 5.5)
        print(
            'recorded',
            Path(clips[0]).name,
            '->',
            page.get_by_role('heading', level=3).first.inner_text(),
        )
