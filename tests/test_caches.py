"Faults injected into caches: full disks, kills, power cuts, damage on the disk, many writers."

import errno
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from processes import HANGS, Started
from told import told

from soundclf.core import arrays, disk, embeddings, features, files, store
from soundclf.core.audio import Features
from soundclf.core.clips import clips_table
from soundclf.core.duplicates import known_pairs
from soundclf.core.files import SoundclfError, atomic_path, cached

MEL = Features(sample_rate=8000, duration=0.5, n_fft=512, hop_length=128, n_mels=16, f_max=4000.0)
FULL = 'No space is left on the disk'


@pytest.fixture(scope='module')
def sounds(tmp_path_factory):
    "Twelve short noises, each other than the rest."
    folder = tmp_path_factory.mktemp('sounds')
    paths = [folder / f'{i:02}.wav' for i in range(12)]
    for i, path in enumerate(paths):
        sf.write(path, np.random.default_rng(i).uniform(-0.5, 0.5, 4000), 8000)
    return paths


@pytest.fixture
def mounted():
    "Mounts a small disk; the options are those of `mount -o`."
    where = Path(tempfile.mkdtemp())
    told = {}

    def mount(options):
        command = ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(where)]
        try:
            told['failed'] = subprocess.run(command, capture_output=True, text=True).stderr
        except FileNotFoundError:
            told['failed'] = 'there is no mount command'
        if told['failed']:
            pytest.skip(f'a small disk needs the right to mount one: {told["failed"].strip()}')
        return where

    yield mount
    if told.get('failed') == '':
        subprocess.run(['umount', '-l', str(where)], check=True)
    where.rmdir()


def litter(folder):
    names = [p.name for p in Path(folder).rglob('*')]
    return [name for name in names if name.startswith('.') or name.endswith(('.part', '.done'))]


# ---- full disks


def _save_safetensors(path):
    from safetensors.torch import save_file

    save_file({'a': torch.zeros(400_000)}, path)


WRITERS = {
    'text.json': lambda p: p.write_text('x' * 2_000_000),
    'table.csv': lambda p: pd.DataFrame(np.zeros((300_000, 2))).to_csv(p),
    'array.npy': lambda p: np.save(p, np.zeros(400_000)),
    'weights.pt': lambda p: torch.save({'a': torch.zeros(400_000)}, p),
    'model.safetensors': _save_safetensors,
    'sound.wav': lambda p: sf.write(p, np.zeros(400_000), 8000, 'FLOAT'),
}


@pytest.mark.parametrize('name', WRITERS)
def test_a_full_disk_is_one_sentence_and_the_old_file_stays(mounted, name):
    file = mounted('size=1m') / name
    file.write_text('old')
    with pytest.raises(SoundclfError, match=f'{FULL} for .*{name}: free some'), atomic_path(file) as tmp:
        WRITERS[name](tmp)
    assert file.read_text() == 'old'
    assert os.listdir(file.parent) == [name]


def refused(make):
    with pytest.raises(SoundclfError, match='No space is left on the disk for'):
        make()


def _write_beyond_a_limit(where):
    import resource

    def save(path):
        with atomic_path(path) as tmp:
            np.save(tmp, np.zeros(400_000))

    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    file = where / 'x.npy'
    file.write_text('old')
    refused(lambda: save(file))
    assert file.read_text() == 'old'
    refused(lambda: arrays.PartialArray(where / 'y.npy', 400, (1000,)))
    del os.posix_fallocate  # as where the system has none
    refused(lambda: arrays.PartialArray(where / 'y.npy', 400, (1000,)))
    assert os.listdir(where) == ['x.npy'], os.listdir(where)


@pytest.mark.skipif(not hasattr(os, 'posix_fallocate'), reason='needs limits of POSIX')
def test_a_limit_of_file_sizes_is_the_same_sentence(tmp_path):
    assert Started(_write_beyond_a_limit, tmp_path).end() == (0, b'', b'')


def test_features_on_a_full_disk_are_one_sentence(mounted, sounds):
    "It was a bus error: the array was sparse. So it runs in a process of its own."
    where = mounted('size=64k')
    code, _, err = Started(features.cached_features, sounds * 4, MEL, where).end()
    assert code == 1 and f'SoundclfError: {FULL} for {where}' in err.decode()
    assert not list(where.glob('*.npy')) and not list(where.glob('*.part'))
    subprocess.run(['mount', '-o', 'remount,size=8m', str(where)], check=True)
    assert len(features.cached_features(sounds * 4, MEL, where)) == 48


def test_a_store_on_a_full_disk_is_one_sentence(mounted):
    where = mounted('size=64k')
    with pytest.raises(SoundclfError, match=f'{FULL} for .*frames.npy'):
        store.open_store(where / 'store', [10.0] * 20, MEL)
    subprocess.run(['mount', '-o', 'remount,size=8m', str(where)], check=True)
    assert len(store.open_store(where / 'store', [10.0] * 20, MEL).todo()) == 20


def test_reserved_space_is_taken(tmp_path):
    array = arrays.new_array(tmp_path / 'x.npy', 'float32', (100, 1000))
    assert os.stat(array.filename).st_blocks * 512 >= array.nbytes
    assert not array.any()
    np.save(tmp_path / 'y.npy', np.zeros((100, 1000), 'float32'))
    assert (tmp_path / 'x.npy').read_bytes() == (tmp_path / 'y.npy').read_bytes()


def test_zeros_are_written_where_the_system_reserves_nothing(tmp_path, monkeypatch):
    def unsupported(*args):
        raise OSError(errno.EOPNOTSUPP, 'not supported')

    monkeypatch.setattr(os, 'posix_fallocate', unsupported, raising=False)
    array = arrays.new_array(tmp_path / 'x.npy', 'float32', (700, 1000))
    assert os.stat(array.filename).st_blocks * 512 >= array.nbytes and not array.any()


# ---- folders that may not be written to


def test_a_read_only_folder_gives_its_caches(mounted, sounds):
    where = mounted('size=8m')
    x = features.cached_features(sounds, MEL, where)
    table = clips_table(sounds, ['x'] * len(sounds))
    kept, _ = store.extract_all(table, MEL, where / 'store', n_jobs=1)
    expected = kept.get(3).copy()
    del kept  # it is open for writing
    subprocess.run(['mount', '-o', 'remount,ro', str(where)], check=True)
    assert np.array_equal(features.cached_features(sounds, MEL, where), x)
    again, _ = store.extract_all(table, MEL, where / 'store')
    assert np.array_equal(again.get(3), expected)
    for make in (
        lambda: features.cached_features(sounds[:3], MEL, where),
        lambda: store.open_store(where / 'new', [1.0], MEL),
        lambda: files.write_json({}, where / 'x.json'),
    ):
        with pytest.raises(SoundclfError, match='cannot be written .*: make its folder writable'):
            make()


def test_a_home_that_cannot_be_made_is_one_sentence(tmp_path, monkeypatch, sounds):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('SOUNDCLF_DATA', str(tmp_path / 'file' / 'data'))
    with pytest.raises(SoundclfError, match='cannot be written .*SOUNDCLF_DATA'):
        features.cached_features(sounds, MEL)
    monkeypatch.setattr(files, 'home_dir', lambda: tmp_path / 'file')
    with pytest.raises(SoundclfError, match='cannot be written'):
        files.run_dir('x', 'synthetic')


def test_a_source_that_cannot_be_read_is_not_blamed_on_the_target(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / 'x.txt') as tmp:
        shutil.copyfile('/nowhere/y.txt', tmp)


# ---- kills


def _write_half(file):
    with atomic_path(file) as tmp:
        tmp.write_text('half')
        print('writing', flush=True)
        time.sleep(HANGS)


def test_what_a_killed_process_left_is_removed_at_the_next_write(tmp_path):
    run = Started(_write_half, tmp_path / 'x.txt')
    assert run.line() == 'writing\n'
    assert len(litter(tmp_path)) == 1
    disk._sweep.cache_clear()
    files.write_json({}, tmp_path / 'a.json')
    assert len(litter(tmp_path)) == 1, 'it is still being written'
    run.kill()
    disk._sweep.cache_clear()
    files.write_json({}, tmp_path / 'a.json')
    assert os.listdir(tmp_path) == ['a.json']


def _make_features_slowly(sounds, folder):
    plain = features.extract

    def slow(*args):
        time.sleep(0.1)
        return plain(*args)

    features.extract = slow
    features.cached_features(sounds, MEL, folder)


def test_killed_features_go_on_and_give_the_same_bytes(tmp_path, sounds, monkeypatch):
    whole = features.cached_features(sounds, MEL, tmp_path / 'whole')
    run = Started(_make_features_slowly, sounds, tmp_path / 'cut')
    while not (sums := list((tmp_path / 'cut').glob('*.done'))) or np.load(sums[0])[:3].min() == 0:
        time.sleep(0.02)
        assert run.process.is_alive()
    run.kill()
    asked = []
    plain = features.extract
    monkeypatch.setattr(features, 'extract', lambda *args: asked.append(args[0]) or plain(*args))
    x = features.cached_features(sounds, MEL, tmp_path / 'cut')
    assert Path(x.filename).read_bytes() == Path(whole.filename).read_bytes()
    assert str(sounds[1]) not in asked and str(sounds[11]) in asked
    assert not litter(tmp_path)


# ---- power cuts


def test_bytes_are_on_the_disk_before_a_file_has_its_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(fd):
        done.append('fsync ' + Path(os.readlink(f'/proc/self/fd/{fd}')).suffix)
        fsync(fd)

    def noted_replace(a, b):
        done.append(f'replace {Path(b).name}')
        replace(a, b)

    if not os.path.exists('/proc/self/fd'):
        pytest.skip('needs /proc to see what is flushed')
    monkeypatch.setattr(os, 'fsync', noted_fsync)
    monkeypatch.setattr(os, 'replace', noted_replace)
    cached(tmp_path / 'x.npy', lambda tmp: np.save(tmp, np.zeros(3)))
    folder = 'fsync ' + tmp_path.suffix
    digest = ['fsync .sha256', 'replace x.npy.sha256', folder]
    assert done == [*digest, 'fsync .npy', 'replace x.npy', folder]


def left_half_way(folder, sounds):
    "What a run leaves that was stopped when six of twelve rows were done; (rows, sums)."
    whole = features.cached_features(sounds, MEL, folder)
    final = Path(whole.filename)
    expected = np.array(whole)
    final.unlink()
    half = arrays.PartialArray(final, len(sounds), expected.shape[1:])
    for row in range(6):
        half.put(row, expected[row])
    return half.part, half.sums, expected


def zero_rows(part, sums):
    "A power cut: rows 3 to 5 never reached the disk, but what says that they are done did."
    np.lib.format.open_memmap(part, 'r+')[3:6] = 0


def flip(path, place):
    with open(path, 'r+b') as f:
        f.seek(place)
        byte = f.read(1)
        f.seek(place)
        f.write(bytes([byte[0] ^ 4]))


LEFT = {
    'as it was': (lambda part, sums: None, 6),
    'rows are zero': (zero_rows, 3),
    'a row has a flipped bit': (lambda part, sums: flip(part, 5000), 5),
    'the flags are empty': (lambda part, sums: os.truncate(sums, 0), 0),
    'the flags are cut': (lambda part, sums: os.truncate(sums, 150), 0),
    'the flags are gone': (lambda part, sums: sums.unlink(), 0),
    'the rows are empty': (lambda part, sums: os.truncate(part, 0), 0),
    'the rows are cut': (lambda part, sums: os.truncate(part, 5000), 0),
    'the header of the rows is another': (lambda part, sums: flip(part, 70), 0),
    'the rows have another shape': (lambda part, sums: shutil.copyfile(sums, part), 0),
}


@pytest.mark.parametrize('fault', LEFT)
def test_rows_that_an_interruption_left_count_where_they_are_whole(tmp_path, sounds, fault, monkeypatch):
    part, sums, expected = left_half_way(tmp_path, sounds)
    harm, kept = LEFT[fault]
    harm(part, sums)
    asked = []
    plain = features.extract
    monkeypatch.setattr(features, 'extract', lambda *args: asked.append(args[0]) or plain(*args))
    x, said = told(lambda: features.cached_features(sounds, MEL, tmp_path))
    assert np.array_equal(x, expected)
    assert len(asked) == 1 + len(sounds) - kept  # one for the shape
    assert len(said) == (kept == 0 and 'gone' not in fault), said
    assert not litter(tmp_path)


# ---- damage on the disk

DAMAGE = {
    'empty': lambda file: os.truncate(file, 0),
    'cut': lambda file: os.truncate(file, file.stat().st_size - 10),
    'longer': lambda file: os.truncate(file, file.stat().st_size + 10),
    'a bit': lambda file: flip(file, file.stat().st_size // 2),
    'its header': lambda file: flip(file, 70),
    'another shape': lambda file: np.save(file, np.zeros(3)),
    'no checksum': lambda file: Path(f'{file}.sha256').unlink(),
    'an empty checksum': lambda file: os.truncate(f'{file}.sha256', 0),
    'a broken checksum': lambda file: Path(f'{file}.sha256').write_bytes(b'\xff\n'),
}


@pytest.mark.parametrize('fault', DAMAGE)
def test_damaged_features_are_made_again_and_you_are_told(tmp_path, sounds, fault):
    x = features.cached_features(sounds, MEL, tmp_path)
    expected, file = np.array(x), Path(x.filename)
    DAMAGE[fault](file)
    again, said = told(lambda: features.cached_features(sounds, MEL, tmp_path))
    assert np.array_equal(again, expected)
    assert len(said) == 1 and said[0].startswith(f'{file} ha') and said[0].endswith('it is made again.')
    assert told(lambda: features.cached_features(sounds, MEL, tmp_path))[1] == []


def test_a_bit_that_flips_without_a_change_of_time_is_found_by_the_next_process(tmp_path):
    file = cached(tmp_path / 'x.npy', lambda tmp: np.save(tmp, np.arange(100)))
    times = os.stat(file)
    flip(file, 400)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    files._digest.cache_clear()  # as in a new process
    _, said = told(lambda: cached(file, lambda tmp: np.save(tmp, np.arange(100))))
    assert len(said) == 1 and np.array_equal(np.load(file), np.arange(100))


def test_a_checksum_is_what_sha256sum_reads(tmp_path):
    file = cached(tmp_path / 'x.txt', lambda tmp: tmp.write_text('hello'))
    assert Path(f'{file}.sha256').read_text() == f'{files.sha256_file(file)}  x.txt\n'


def test_a_cache_is_hashed_once_in_a_process(tmp_path, monkeypatch):
    read = []
    plain = files.sha256_file
    monkeypatch.setattr(files, 'sha256_file', lambda p: read.append(str(p)) or plain(p))
    for _ in range(5):
        file = cached(tmp_path / 'x.txt', lambda tmp: tmp.write_text('hello'))
    assert read.count(str(file)) == 1


def test_a_cut_list_of_near_duplicates_is_searched_again(home, sounds):
    copies = [*sounds[:4], *(home / f'copy{i}.wav' for i in range(2))]
    for i in range(2):
        wave, rate = sf.read(sounds[i])
        sf.write(copies[4 + i], wave * 0.5, rate)
    table = clips_table(copies, ['x'] * 6)
    pairs = known_pairs(table)
    assert len(pairs) == 2
    (file,) = (home / 'data' / 'pairs').glob('*.csv')
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(''.join(lines[:-1]))
    again, said = told(lambda: known_pairs(table))
    pd.testing.assert_frame_equal(again, pairs)
    assert len(said) == 1 and 'has changed since it was written' in said[0]


def test_damaged_embeddings_are_made_again(tmp_path, home, sounds, monkeypatch):
    torch.manual_seed(0)
    net = embeddings.MN04Features(pretrained=False)
    monkeypatch.setattr(embeddings, '_extractor', lambda backbone: net)
    mel = embeddings.audioset_features()
    x = embeddings.cached_embeddings(sounds[:2], 'mn04_as', mel)
    expected, file = np.array(x), Path(x.filename)
    flip(file, file.stat().st_size // 2)
    again, said = told(lambda: embeddings.cached_embeddings(sounds[:2], 'mn04_as', mel))
    assert np.array_equal(again, expected)
    assert len(said) == 1 and file.name in said[0]


def test_features_that_are_not_finite_name_their_clip(tmp_path, sounds, monkeypatch):
    plain = features.extract

    def bad(path, *args):
        return plain(path, *args) * (np.nan if '07' in str(path) else 1)

    monkeypatch.setattr(features, 'extract', bad)
    with pytest.raises(SoundclfError, match='07.wav gives features that are not finite'):
        features.cached_features(sounds, MEL, tmp_path)


# ---- stores


@pytest.fixture
def filled(tmp_path, sounds):
    "(clips, a store that holds all of them, its values)"
    table = clips_table(sounds, ['x'] * len(sounds))
    kept, bad = store.extract_all(table, MEL, tmp_path / 'store', n_jobs=1)
    assert not bad
    return table, tmp_path / 'store', [kept.get(row).copy() for row in range(len(kept))]


STORE_DAMAGE = {
    'frames empty': lambda f: os.truncate(f / 'frames.npy', 0),
    'frames cut': lambda f: os.truncate(f / 'frames.npy', 1000),
    'frames gone': lambda f: (f / 'frames.npy').unlink(),
    'frames flipped': lambda f: flip(f / 'frames.npy', 1000),
    'index empty': lambda f: os.truncate(f / 'index.npy', 0),
    'index cut': lambda f: os.truncate(f / 'index.npy', 200),
    'a first frame flipped': lambda f: flip(f / 'index.npy', 128 + 24),
    'a length flipped': lambda f: flip(f / 'index.npy', 128 + 24 + 8),
    'a checksum flipped': lambda f: flip(f / 'index.npy', 128 + 24 + 16),
    'settings empty': lambda f: os.truncate(f / 'settings.json', 0),
    'settings of another kind': lambda f: (f / 'settings.json').write_text('[]'),
}


@pytest.mark.parametrize('fault', STORE_DAMAGE)
def test_a_damaged_store_is_mended_and_you_are_told(filled, fault):
    table, folder, expected = filled
    STORE_DAMAGE[fault](folder)
    (kept, bad), said = told(lambda: store.extract_all(table, MEL, folder, n_jobs=1))
    assert not bad and not len(kept.todo())
    assert all(np.array_equal(kept.get(row), x) for row, x in enumerate(expected))
    assert len(said) == 1 and 'damaged' in said[0] and 'again' in said[0], said


def test_frames_lost_in_a_power_cut_are_missing(filled):
    _, folder, _ = filled
    kept = store.FeatureStore(folder)
    start, n, _ = kept.index[5]
    kept.frames[start : start + n] = 0
    assert kept.todo().tolist() == [5]


# ---- many processes


def at_once(n, job, *args):
    "What a job gives in each of `n` processes that start together; exceptions as text."
    context = multiprocessing.get_context('fork')
    gate, results = context.Event(), context.SimpleQueue()

    def one(i):
        gate.wait()
        try:
            results.put(job(i, *args))
        except BaseException as e:
            results.put(repr(e))

    processes = [context.Process(target=one, args=(i,)) for i in range(n)]
    for process in processes:
        process.start()
    gate.set()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return found


needs_fork = pytest.mark.skipif(
    'fork' not in multiprocessing.get_all_start_methods(), reason='starts processes by fork'
)


def _write_together(i, file, log):
    def make(tmp):
        with open(log, 'a') as f:
            f.write(f'{i}\n')
        time.sleep(0.05)
        np.save(tmp, np.arange(1000))

    return int(np.load(cached(file, make)).sum())


@needs_fork
@pytest.mark.filterwarnings('ignore')
def test_ten_writers_of_one_cache_are_all_right(tmp_path):
    file, log = tmp_path / 'x.npy', tmp_path / 'log'
    for makes in (1, 2):
        assert at_once(10, _write_together, file, log) == [499500] * 10
        assert len(log.read_text().split()) == makes
        flip(file, 300)
        files._digest.cache_clear()


def _open_and_put(i, folder):
    "Opens a store and writes every sixth clip of it."
    kept = store.open_store(folder, [0.5] * 60, MEL)
    with files.locked(folder / 'store'):
        for row in range(i, 60, 6):
            kept.put(row, np.full((16, 20), row + 1.0, 'float32'))
    return 'right'


@needs_fork
def test_six_processes_that_open_a_new_store_at_once_are_all_right(tmp_path):
    for turn in range(5):
        folder = tmp_path / str(turn)
        assert at_once(6, _open_and_put, folder) == ['right'] * 6
        kept = store.FeatureStore(folder)
        assert not len(kept.todo())
        assert [kept.get(row).mean() for row in range(60)] == list(range(1, 61))


def _extract_together(i, folder, log):
    def computed(parts, paths, *args):
        for row in np.concatenate(parts) if parts else ():
            with open(log, 'a') as f:
                f.write(f'{row}\n')
            time.sleep(0.01)
            yield row, np.full((16, 20), row + 1.0, 'float16')

    store._computed = computed
    table = pd.DataFrame({'path': [f'{row}.wav' for row in range(20)], 'duration': 0.5})
    kept, bad = store.extract_all(table, MEL, folder)
    return [kept.get(row).mean() for row in range(20)] == list(range(1, 21)) and not bad


@needs_fork
def test_one_process_at_a_time_extracts_into_a_store(tmp_path):
    log = tmp_path / 'log'
    assert at_once(4, _extract_together, tmp_path / 'store', log) == [True] * 4
    assert sorted(map(int, log.read_text().split())) == list(range(20))


def _write_as_nobody(i, folder):
    if os.getuid() == 0:
        os.setuid(65534)
    files.write_json({}, folder / 'x.json')


@needs_fork
def test_a_folder_without_permission_is_one_sentence():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        (found,) = at_once(1, _write_as_nobody, Path(folder))
    assert found.startswith('SoundclfError') and 'x.json cannot be written (Permission denied)' in found
