"Blocks instead of whole files, work that grows with the number of clips and not with its square."

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from soundclf.core import landmarks
from soundclf.core.audio import Features, decode, fit_clip, load_clip
from soundclf.core.checks import check_clips, drop_bad
from soundclf.core.clips import clips_table, read_headers
from soundclf.core.duplicates import merge_groups, near_duplicates
from soundclf.core.folders import folder, labelled_clips
from soundclf.core.landmarks import candidates
from soundclf.core.sound_files import find_audio, find_sounds

ROOT = Path(__file__).parents[1]
OURS = str(ROOT / 'soundclf')
RATE = 8000


def sound(seed: int, seconds: float = 1.0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def clips(folder: Path, waves: list[np.ndarray]):
    "A clips table of some waves."
    folder.mkdir(exist_ok=True)
    for i, wave in enumerate(waves):
        sf.write(folder / f'{i:04}.wav', wave, RATE)
    paths = sorted(folder.glob('*.wav'))
    return clips_table(paths, ['x'] * len(paths))


def peak_memory(code: str, *args: str) -> float:  # MB
    "The most memory that a process takes to run some code."
    measure = 'from soundclf.core.results import peak_memory; print(peak_memory())'
    env = os.environ | {'SOUNDCLF_QUIET': '1', 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-c', f'import sys\n{code}\n{measure}', *args]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


@pytest.fixture(scope='module')
def half_an_hour(tmp_path_factory) -> Path:
    "A small FLAC file that holds half an hour of silence, 690 MB as samples."
    file = tmp_path_factory.mktemp('long') / 'long.flac'
    with sf.SoundFile(file, 'w', 48000, 2) as f:
        for _ in range(30):
            f.write(np.zeros((60 * 48000, 2), 'int16'))
    return file


USES = {
    'check': 'from soundclf.core.checks import check_clips; check_clips(table)',
    'duplicates': 'from soundclf.core.duplicates import near_duplicates; near_duplicates(table)',
    'features': 'from soundclf.core.audio import Features, load_clip; load_clip(sys.argv[1], Features())',
}


START = """
from soundclf.core.clips import clips_table
import scipy.signal, scipy.ndimage, soxr
table = clips_table([sys.argv[1]] * 2, ["x"] * 2)
"""


@pytest.fixture(scope='module')
def idle(half_an_hour) -> float:
    "The memory of a process that has imported all and done nothing, in MB."
    return peak_memory(START, str(half_an_hour))


@pytest.mark.parametrize('use', USES)
def test_half_an_hour_takes_the_memory_of_a_few_seconds(use, idle, half_an_hour):
    assert half_an_hour.stat().st_size < 2e6
    assert peak_memory(START + USES[use], str(half_an_hour)) < idle + 200


def test_a_check_by_blocks_sees_the_last_sample(tmp_path):
    long = np.tile(sound(0), 20)
    last_nan, last_loud = long.copy(), long.copy()
    last_nan[-1], last_loud[-1] = np.nan, 1e7
    for name, wave in (('nan', last_nan), ('huge', last_loud), ('silent', long * 0), ('fine', long)):
        sf.write(tmp_path / f'{name}.wav', wave, RATE, subtype='FLOAT')
    paths = sorted(tmp_path.glob('*.wav'))
    report = check_clips(clips_table(paths, ['x'] * 4))
    assert {Path(p).stem: problem for p, problem in zip(report.path, report.problem)} == {
        name: name for name in ('nan', 'huge', 'silent')
    }


@pytest.mark.parametrize('suffix', ('wav', 'flac', 'ogg', 'mp3'))
@pytest.mark.parametrize('seconds', (0.4, 2.0, 2.0003, 31.7))
def test_a_clip_read_by_blocks_is_the_whole_one_cut(suffix, seconds, tmp_path):
    file = tmp_path / f'a.{suffix}'
    rate = 44100
    wave = np.random.default_rng(1).standard_normal((round(seconds * rate), 2)) * 0.1
    sf.write(file, wave, rate)
    for new_rate in (16000, 44100, 48000):
        for channels in (1, 2):
            f = Features(sample_rate=new_rate, duration=2.0, channels=channels)
            np.testing.assert_array_equal(load_clip(file, f), fit_clip(*decode(file), f))


def test_a_file_shorter_than_its_header_is_cut_in_its_own_middle(tmp_path):
    file = tmp_path / 'a.mp3'
    sf.write(file, sound(0, 60), 16000)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    f = Features(sample_rate=8000, duration=1.0)
    np.testing.assert_array_equal(load_clip(file, f), fit_clip(*decode(file), f))


def test_a_pipe_has_no_header_and_stops_nothing(tmp_path):
    os.mkfifo(tmp_path / 'x.wav')
    sf.write(tmp_path / 'y.wav', sound(0), RATE)
    headers = read_headers(sorted(tmp_path.iterdir()))
    assert headers.duration.isna().tolist() == [True, False]
    found = find_sounds(tmp_path)
    assert [(p.path.name, p.reason) for p in found.left_out] == [('x.wav', 'not a regular file')]
    table = clips_table(sorted(tmp_path.iterdir()), ['x', 'x'])
    report = check_clips(table)
    assert report.problem.tolist() == ['unreadable']
    assert len(drop_bad(table, report)) == 1


def test_what_could_not_be_read_is_counted_and_named(tmp_path, monkeypatch):
    for name in ('cats', 'dogs', 'elsewhere'):
        (tmp_path / name).mkdir()
        sf.write(tmp_path / name / 'a.wav', sound(0), RATE)
    folder = tmp_path / 'sounds'
    folder.mkdir()
    for name in ('cats', 'dogs'):
        (tmp_path / name).rename(folder / name)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert len(find_audio(folder)) == 2
    (folder / 'broken').symlink_to(tmp_path / 'nowhere')
    listdir = os.listdir

    def without_permission(path):
        if Path(path).name == 'dogs':
            raise PermissionError(13, 'Permission denied', str(path))
        return listdir(path)

    monkeypatch.setattr(os, 'listdir', without_permission)
    with pytest.warns(UserWarning, match=r'link broken \(leads nowhere\), folder dogs \(no permission\)'):
        assert [p.parent.name for p in find_audio(folder)] == ['cats']


def test_a_thousand_copies_make_one_group_by_linear_work(tmp_path):
    copies = clips(tmp_path / 'copies', [sound(0)] * 300)
    n = len(candidates(copies.path.tolist()))
    assert n <= 16 * 300
    pairs = near_duplicates(copies)
    assert len(pairs) < 12 * 300
    assert merge_groups(copies, pairs).group.nunique() == 1


def test_links_compared_in_batches_give_the_same_candidates(tmp_path, monkeypatch):
    waves = [sound(i) for i in range(40)]
    waves[30], waves[35] = 0.5 * waves[3], waves[3][: RATE // 2]
    paths = clips(tmp_path / 'some', waves).path.tolist()
    whole = candidates(paths)
    monkeypatch.setattr(landmarks, '_BATCH', 5)
    assert len(whole) and candidates(paths).tolist() == whole.tolist()


def test_copies_are_found_among_landmarks_that_all_clips_share(tmp_path):
    call = np.sin(2 * np.pi * 800 * np.arange(RATE // 2) / RATE) * np.hanning(RATE // 2)
    waves = [np.append(0.5 * call, sound(i)) for i in range(100)]
    waves[90] = 0.5 * waves[3]
    table = clips(tmp_path / 'calls', waves)
    pairs = near_duplicates(table)
    assert [Path(p).stem for p in (*pairs.path_a, *pairs.path_b)] == ['0003', '0090']


def test_a_recording_is_paired_with_each_of_its_cuts(tmp_path):
    minute = sound(0, 60)
    cuts = [minute[i * RATE : (i + 1) * RATE] for i in range(0, 60, 3)]
    table = clips(tmp_path / 'cuts', [minute, *cuts])
    pairs = near_duplicates(table)
    assert len(pairs) == len(cuts)
    assert merge_groups(table, pairs).group.nunique() == 1
    np.testing.assert_allclose(pairs.offset, np.arange(0, 60, 3), atol=1e-3)


def test_a_second_shared_by_two_minutes_is_found_and_nothing_else(tmp_path):
    minutes = [sound(i, 60) for i in range(8)]
    minutes[5][30 * RATE : 31 * RATE] = minutes[2][7 * RATE : 8 * RATE]
    table = clips(tmp_path / 'minutes', minutes)
    assert len(candidates(table.path.tolist())) <= 4
    pairs = near_duplicates(table)
    assert [Path(p).stem for p in (*pairs.path_a, *pairs.path_b)] == ['0002', '0005']


def test_growth_script_writes_a_table_that_it_adds_to(tmp_path):
    out = tmp_path / 'growth.csv'
    command = [sys.executable, ROOT / 'scripts' / 'growth.py', '--out', out, '--steps', 'read', 'check']
    for sizes in (['30', '60'], ['60', '90']):
        asked = [*command[:2], *sizes, *command[2:]]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
        assert 'slope' in done.stdout
    table = pd.read_csv(out)
    assert list(table) == ['length', 'step', 'clips', 'seconds', 'core_seconds', 'mb']
    assert table[table.step == 'read'].clips.tolist() == [30, 60, 90] and len(table) == 6
    assert (table.mb > 20).all() and (table.core_seconds > 0).all()
    assert out.with_suffix('.png').stat().st_size > 5000


def calls_of(work, *args) -> int:
    "How many functions our code calls, those of C and generators included; other threads are not seen."
    calls = 0

    def count(frame, event, arg):
        nonlocal calls
        ours = frame.f_code.co_filename.startswith(OURS)  # joblib's depend on time
        calls += ours and event in ('call', 'c_call')

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work(*args)
    finally:
        sys.setprofile(before)
    return calls


def two_class_folders(root: Path, n: int) -> Path:
    "A folder of two classes, half of its sounds with a text beside them."
    for i in range(n):
        file = root / 'ab'[i % 2] / f'{i:04}.wav'
        file.parent.mkdir(parents=True, exist_ok=True)
        sf.write(file, sound(i, 0.2), RATE)
        if i % 4 < 2:
            file.with_suffix('.txt').write_text('what is said in it')
    return root


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('work', [labelled_clips, folder])
def test_reading_a_folder_grows_with_its_files(work, tmp_path):
    folders = [two_class_folders(tmp_path / str(n), n) for n in (100, 200, 400)]
    work(folders[0])  # imports once
    quarter, half, whole = (calls_of(work, f) for f in folders)
    assert 0 < whole - half < 1.05 * 2 * (half - quarter)
