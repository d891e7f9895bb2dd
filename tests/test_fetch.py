"Fetching over real HTTP from a local server: whole, resumed, damaged, absent."

import functools
import hashlib
import http.server
import threading

import numpy as np
import pytest
import soundfile as sf

from soundclf.core import datasets, esc50
from soundclf.core.files import NoSource, SoundclfError


@pytest.fixture
def server(tmp_path):
    "(base URL, folder served, list of paths asked for)."
    folder, asked = tmp_path / 'www', []
    (folder / 'audio').mkdir(parents=True)
    (folder / 'meta').mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    httpd = http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), functools.partial(Handler, directory=str(folder))
    )
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{httpd.server_port}', folder, asked
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def tiny_esc50(server, monkeypatch):
    "A tree of ESC-50's layout with three clips, and its manifest."
    url, folder, _ = server
    rows = ['filename,fold,target,category,esc10,src_file,take']
    for i, category in enumerate(['dog', 'dog', 'cat']):
        sf.write(folder / 'audio' / f'{i}.wav', np.random.default_rng(i).uniform(-1, 1, 4000), 8000)
        rows.append(f'{i}.wav,{i + 1},{i},{category},True,{100 + i // 2},A')
    (folder / 'meta' / 'esc50.csv').write_text('\n'.join(rows) + '\n')
    names = ['meta/esc50.csv', *(f'audio/{i}.wav' for i in range(3))]
    digests = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in names}
    monkeypatch.setattr(esc50, 'manifest', lambda name: digests)
    return url, folder


def test_downloads_only_what_is_asked_for(home, tiny_esc50, server):
    table = esc50.esc50(['dog'], url=tiny_esc50[0])
    assert table.label.tolist() == ['dog', 'dog'] and table.group.nunique() == 1
    assert not any('2.wav' in path for path in server[2])


def test_an_unknown_category_gets_the_nearest_name(home, tiny_esc50):
    with pytest.raises(SoundclfError, match="did you mean 'dog'?"):
        esc50.esc50(['dgo'], url=tiny_esc50[0])


def test_an_interrupted_download_goes_on(home, tiny_esc50, server):
    url, folder = tiny_esc50
    held = (folder / 'audio' / '1.wav').read_bytes()
    (folder / 'audio' / '1.wav').unlink()
    with pytest.raises(SoundclfError, match='1.wav is not cached'):
        esc50.esc50(['dog'], url=url)
    (folder / 'audio' / '1.wav').write_bytes(held)
    server[2].clear()
    assert len(esc50.esc50(['dog'], url=url)) == 2
    assert [p for p in server[2] if 'audio' in p] == ['/audio/1.wav']


def test_a_damaged_download_is_named_and_not_kept(home, tiny_esc50):
    url, folder = tiny_esc50
    with open(folder / 'audio' / '2.wav', 'ab') as f:
        f.write(b'x')
    with pytest.raises(SoundclfError, match='2.wav does not match its checksum'):
        esc50.esc50(['cat'], url=url)
    assert not (home / 'data' / 'esc50' / 'audio' / '2.wav').exists()


def test_no_network_is_one_sentence(home):
    with pytest.raises(SoundclfError, match='connect to a network, or put the file at'):
        esc50.esc50(['dog'], url='http://127.0.0.1:9')


def test_auto_falls_back_to_synthetic_with_a_banner(home, monkeypatch, capsys):
    def gone(*args, **kw):
        raise NoSource('no network')

    monkeypatch.setattr(datasets, 'esc50', gone)
    assert datasets.dataset_name('auto') == 'synthetic' and 'SYNTHETIC DATA' in capsys.readouterr().out


def test_auto_does_not_hide_a_damaged_file(home, monkeypatch):
    def damaged(*args, **kw):
        raise SoundclfError('wrong hash')

    monkeypatch.setattr(datasets, 'esc50', damaged)
    with pytest.raises(SoundclfError, match='wrong hash'):
        datasets.dataset_name('auto')


def test_a_damaged_cache_is_named(home, tiny_esc50):
    esc50.esc50(['cat'], url=tiny_esc50[0])
    (home / 'data' / 'esc50' / 'audio' / '2.wav').write_bytes(b'')
    with pytest.raises(SoundclfError, match='delete it and run again'):
        esc50.esc50(['cat'], url=tiny_esc50[0])
