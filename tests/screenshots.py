"Pictures of every page on real data, for the README: `make screenshots`. Needs Chromium, the full run's results and ESC-50."
import sys
from pathlib import Path

from browser import CHROMIUM, ROOT, go, open_browser, record, serve, settle

from soundclf.data import ESC50_TEN, esc50

if __name__ == '__main__':
    if CHROMIUM is None: sys.exit('There is no Chromium here: install it (Debian: apt install chromium).')
    table = esc50(ESC50_TEN); held = table[table.fold == 1]
    clips = [held[held.label == label].path.iloc[0] for label in ('dog', 'church_bells')]
    out = ROOT/'figures'/'app'; out.mkdir(parents=True, exist_ok=True)
    with serve(ROOT) as address, open_browser(Path(clips[0])) as context:
        page = context.new_page()
        for name in ('Explore', 'Evaluate', 'Label', 'Train'):
            go(page, address, name); page.screenshot(path=str(out/f'{name.lower()}.png')); print(name)
        go(page, address, 'Classify'); page.locator('input[type=file]').set_input_files(clips); settle(page)
        print('uploaded', [Path(c).name for c in clips], '->', page.get_by_role('heading', level=3).first.inner_text())
        page.set_viewport_size({'width': 1280, 'height': 1600}); page.locator('[data-testid="stImage"] img').nth(1).wait_for(timeout=60_000); settle(page); page.screenshot(path=str(out/'classify.png'))
        go(page, address, 'Classify'); record(page, 5.5)
        print('recorded', Path(clips[0]).name, '->', page.get_by_role('heading', level=3).first.inner_text())
