"Fetching over real HTTP from a local server: whole, resumed, damaged, absent."

import functools
import hashlib
import http.server
import threading
import time
import zipfile

import numpy as np
import pytest
import soundfile as sf
from processes import HANGS, Started

from soundclf.core import datasets, disk, esc50, fetch
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


@pytest.fixture
def broken_server():
    "The URL of a file whose first half arrives, and what to do then: hang until told, or hang up."
    told = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header('Content-Length', '200000')
            self.end_headers()
            self.wfile.write(b'x' * 100000)
            self.wfile.flush()
            if 'hang' in self.path:
                told.wait(HANGS)

        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{httpd.server_port}'
    told.set()
    httpd.shutdown()
    httpd.server_close()


def test_a_download_that_breaks_off_leaves_nothing(tmp_path, broken_server):
    with pytest.raises(NoSource, match='x.zip is not cached'):
        fetch.fetch_file(tmp_path / 'x.zip', f'{broken_server}/x.zip')
    assert not list(tmp_path.iterdir())


def test_what_a_killed_download_left_is_removed_by_the_next(tmp_path, broken_server, server):
    url, folder, _ = server
    target = tmp_path / 'data' / 'x.zip'
    target.parent.mkdir()
    run = Started(fetch.fetch_file, target, f'{broken_server}/hang')
    while not (torn := list(target.parent.iterdir())) or not torn[0].stat().st_size:
        assert run.process.is_alive()
        time.sleep(0.05)
    run.kill()
    assert len(list(target.parent.iterdir())) == 1 and not target.exists()
    (folder / 'x.zip').write_bytes(b'whole')
    disk._sweep.cache_clear()
    assert fetch.fetch_file(target, f'{url}/x.zip').read_bytes() == b'whole'
    assert list(target.parent.iterdir()) == [target]


def _zip_of(file, text='sound', name='set/a.wav', **kw):
    with zipfile.ZipFile(file, 'w', **kw) as z:
        z.writestr(name, text)


def _with_flipped_bytes(file):
    _zip_of(file, 'sound' * 1000)
    data = bytearray(file.read_bytes())
    data[2000] ^= 1
    file.write_bytes(data)


def _with_torn_deflate(file):
    _zip_of(file, bytes(range(256)) * 40, compression=zipfile.ZIP_DEFLATED)
    data = bytearray(file.read_bytes())
    data[45:60] = b'\xff' * 15
    file.write_bytes(data)


def _with_end_cut(file):
    _zip_of(file, 'sound' * 1000)
    file.write_bytes(file.read_bytes()[:-30])


def _with_link(file):
    link = zipfile.ZipInfo('set/a.wav')
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(file, 'w') as z:
        z.writestr(link, '/etc/passwd')


def _encrypted(file):
    _zip_of(file)
    data = bytearray(file.read_bytes())
    data[6] |= 1
    data[data.index(b'PK\x01\x02') + 8] |= 1
    file.write_bytes(data)


BAD_ZIPS = {
    'a web page': lambda f: f.write_text('<html>'),
    'nothing': lambda f: f.write_bytes(b''),
    'flipped bytes': _with_flipped_bytes,
    'torn data': _with_torn_deflate,
    'its end cut': _with_end_cut,
    'a link': _with_link,
    'encrypted': _encrypted,
    'other content': lambda f: _zip_of(f, 'another sound'),
    'other files': lambda f: _zip_of(f, name='set/b.wav'),
    'a large member': lambda f: _zip_of(f, bytes(100_000_001), compression=zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize('fault', BAD_ZIPS)
def test_a_bad_archive_installs_nothing_and_a_good_one_works_afterwards(home, tmp_path, server, fault):
    url, folder, _ = server
    root, digests = tmp_path / 'set', {'a.wav': hashlib.sha256(b'sound').hexdigest()}
    BAD_ZIPS[fault](folder / 'set.zip')
    with pytest.raises(SoundclfError, match='was not a good zip file .* and is removed: try again'):
        fetch.fetch_zipped(['a.wav'], root, f'{url}/set.zip', digests, 'data/set')
    assert not list(root.iterdir())
    _zip_of(folder / 'set.zip')
    fetch.fetch_zipped(['a.wav'], root, f'{url}/set.zip', digests, 'data/set')
    assert [p.name for p in root.iterdir()] == ['a.wav'] and (root / 'a.wav').read_text() == 'sound'


def test_members_that_want_to_lie_elsewhere_do_not(home, tmp_path, server):
    url, folder, _ = server
    with zipfile.ZipFile(folder / 'set.zip', 'w') as z:
        for name in ('../../evil.wav', '/tmp/evil.wav', 'set/a.wav'):
            z.writestr(name, name)
    digests = {'a.wav': hashlib.sha256(b'set/a.wav').hexdigest()}
    fetch.fetch_zipped(['a.wav'], tmp_path / 'set', f'{url}/set.zip', digests, 'data/set')
    assert [p.name for p in (tmp_path / 'set').iterdir()] == ['a.wav']
    assert not list(tmp_path.parent.rglob('evil.wav'))
