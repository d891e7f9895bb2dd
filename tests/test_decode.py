"What a sound file says: lengths that lie, recordings in pieces, dents, and the formats of phones."

import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from soundclf.core.audio import Features, decode, fit_clip, load_clip, read_blocks, seconds_of
from soundclf.core.checks import check_clips, drop_bad
from soundclf.core.clips import clips_table, read_headers
from soundclf.core.encoding import encode
from soundclf.core.files import SoundclfError
from soundclf.core.headers import header_of

RATE = 16000


def noise(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    "A tone whose pitch rises, so that each moment is different."
    t = np.arange(round(seconds * rate)) / rate
    return 0.3 * np.sin(2 * np.pi * (300 * t + 100 * t**2))


@contextmanager
def told() -> Iterator[list[str]]:
    "The warnings of a block."
    texts = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        yield texts
    texts += [str(w.message) for w in caught]


def lag(a: np.ndarray, b: np.ndarray) -> int:
    "By how many samples `b` is late."
    n = max(len(a), len(b))
    product = np.fft.rfft(b, 2 * n) * np.conj(np.fft.rfft(a, 2 * n))
    best = int(np.argmax(np.fft.irfft(product)))
    return best if best < n else best - 2 * n


PHONES = {
    'm4a': ('aac', 44100),
    'mp4': ('aac', 44100),
    'aac': ('aac', 44100),
    'mov': ('pcm_s16le', 44100),
    'webm': ('libopus', 48000),
    'mka': ('aac', 44100),
    'wma': ('wmav2', 44100),
    'amr': ('libopencore_amrnb', 8000),
    '3gp': ('libopencore_amrnb', 8000),
}
LATE = {'aac': 1024, 'mka': 0, 'wma': None, 'amr': None, '3gp': None}  # samples; None for up to 0.1 s


@pytest.mark.parametrize('suffix', PHONES)
def test_what_phones_and_browsers_write_is_decoded(suffix, tmp_path):
    codec, rate = PHONES[suffix]
    wave = tone(3.0, rate)
    path = encode(tmp_path / f'a.{suffix}', wave, rate, codec, 12200 if 'amr' in codec else 64000)
    with told() as texts:
        found, found_rate = decode(path)
    assert (found_rate, len(found), texts) == (rate, 1, [])
    assert abs(found.shape[1] / rate - 3) < 0.1 and abs(seconds_of(path) - 3) < 0.1
    late = LATE.get(suffix, 0)
    assert abs(lag(wave, found[0])) < 0.1 * rate if late is None else abs(lag(wave, found[0]) - late) <= 48
    f = Features(sample_rate=16000, duration=1.0)
    np.testing.assert_array_equal(load_clip(path, f), fit_clip(found, rate, f))
    by_name = decode(path.rename(tmp_path / 'renamed.wav'))[0]  # the content counts
    np.testing.assert_array_equal(by_name, found)


def test_an_mp4_file_has_the_samples_of_its_sound_and_no_more(tmp_path):
    for seconds in (0.05, 1.0, 2.3456):
        wave = tone(seconds, 44100)
        path = encode(tmp_path / f'{seconds}.m4a', wave, 44100, 'aac')
        found, _ = decode(path)
        assert found.shape[0] == 1 and len(wave) - 32 <= found.shape[1] <= len(wave)
        assert seconds_of(path) == found.shape[1] / 44100
    middle = found[0, 5000:95000] - wave[5000:95000]
    assert np.sqrt(np.mean(middle**2)) < 0.2 * wave.std()


def test_a_stretch_of_a_long_mp4_file_is_the_cut_of_the_whole(tmp_path):
    path = encode(tmp_path / 'a.m4a', np.tile(tone(10, 44100), 6), 44100, 'aac')
    whole, rate = decode(path)
    for start, stop in ((0, 5000), (1, 70_000), (1_000_001, 1_200_000), (2_600_000, None), (2_645_990, 9**9)):
        cut, _ = decode(path, start, stop)
        assert cut.shape == whole[:, start:stop].shape
        assert np.abs(cut - whole[:, start:stop]).mean() < 2e-3  # AAC makes up faint noise
    assert decode(path, 9**9)[0].shape == (1, 0)


def test_a_recording_of_a_browser_has_no_length_and_is_counted(tmp_path):
    path = encode(tmp_path / 'live.webm', tone(3.0, 48000), 48000, 'libopus', live='1')
    assert abs(seconds_of(path) - 3) < 0.01
    assert abs(decode(path)[0].shape[1] / 48000 - 3) < 0.01


def test_lossless_formats_give_the_same_samples_by_both_libraries(tmp_path):
    wave = np.round(noise() * 32768) / 32768
    path = encode(tmp_path / 'a.mov', wave, RATE, 'pcm_s16le')
    np.testing.assert_array_equal(decode(path)[0][0], wave.astype('float32'))
    sf.write(tmp_path / 'a.flac', np.stack([wave, wave[::-1], wave], 1), RATE, subtype='PCM_24')
    whole, _ = decode(tmp_path / 'a.flac')
    head = (tmp_path / 'a.flac').read_bytes()
    (tmp_path / 'b.flac').write_bytes(without_length(head))
    assert header_of(tmp_path / 'b.flac').reader == 'ffmpeg'
    np.testing.assert_array_equal(decode(tmp_path / 'b.flac')[0], whole)


def without_length(flac: bytes, frames: int = 0) -> bytes:
    "A FLAC file as it comes from a pipe; or with another number of samples in its header."
    told = int.from_bytes(flac[18:26], 'big') >> 36 << 36 | frames
    return flac[:18] + told.to_bytes(8, 'big') + flac[26:]


def put(content: bytes, after: bytes, value: int, size: int = 4, order: str = 'little') -> bytes:
    "The content with another number behind a mark."
    at = content.index(after) + len(after)
    return content[:at] + value.to_bytes(size, order) + content[at + size :]


@pytest.mark.parametrize('subtype', ('PCM_16', 'PCM_24', 'FLOAT', 'PCM_U8', 'IMA_ADPCM'))
def test_a_recorder_that_lost_power_loses_nothing(subtype, tmp_path):
    sf.write(tmp_path / 'whole.wav', noise(), RATE, subtype=subtype)
    whole, _ = decode(tmp_path / 'whole.wav')
    content = (tmp_path / 'whole.wav').read_bytes()
    (tmp_path / 'dead.wav').write_bytes(put(put(content, b'RIFF', 0), b'data', 0))
    with told() as texts:
        found, _ = decode(tmp_path / 'dead.wav')
    n = whole.shape[1]
    assert abs(found.shape[1] - n) <= 2000  # ADPCM ends in whole blocks
    np.testing.assert_allclose(found[:, :30000], whole[:, :30000], atol=1e-4)
    assert abs(seconds_of(tmp_path / 'dead.wav') - 2) < 0.2
    assert any('tells a length of 0.0 s, and 2.0 s are there and used' in text for text in texts)


def test_samples_behind_a_length_that_is_too_small_are_used(tmp_path):
    sf.write(tmp_path / 'a.wav', noise(), RATE)
    whole, _ = decode(tmp_path / 'a.wav')
    content = (tmp_path / 'a.wav').read_bytes()
    (tmp_path / 'b.wav').write_bytes(put(content, b'data', RATE))
    np.testing.assert_array_equal(decode(tmp_path / 'b.wav')[0], whole)


def test_chunks_behind_the_samples_are_not_sound(tmp_path):
    sf.write(tmp_path / 'a.wav', noise(0.1), RATE)
    content = (tmp_path / 'a.wav').read_bytes()
    (tmp_path / 'b.wav').write_bytes(content + b'LIST' + (20000).to_bytes(4, 'little') + bytes(20000))
    assert header_of(tmp_path / 'b.wav').reader == 'libsndfile'
    assert decode(tmp_path / 'b.wav')[0].shape == (1, 1600)
    sf.write(tmp_path / 'none.wav', noise(0), RATE)
    empty = (tmp_path / 'none.wav').read_bytes()
    (tmp_path / 'c.wav').write_bytes(empty + b'LIST' + (20000).to_bytes(4, 'little') + bytes(20000))
    assert decode(tmp_path / 'c.wav')[0].shape == (1, 0)


@pytest.mark.parametrize('length', (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF - 36))
def test_a_stream_of_unknown_length_is_whole(length, tmp_path):
    sf.write(tmp_path / 'a.wav', noise(), RATE)
    content = (tmp_path / 'a.wav').read_bytes()
    (tmp_path / 'b.wav').write_bytes(put(put(content, b'RIFF', length), b'data', length))
    with told() as texts:
        assert decode(tmp_path / 'b.wav')[0].shape == (1, 32000)
    assert texts == []


TRUNCATED = ('wav', 'rf64', 'aiff', 'au', 'w64', 'flac', 'mp3')


@pytest.mark.parametrize('suffix', TRUNCATED)
def test_what_a_truncated_file_lacks_is_said_with_its_place(suffix, tmp_path):
    sf.write(tmp_path / f'a.{suffix}', noise(4), RATE, format=suffix)
    content = (tmp_path / f'a.{suffix}').read_bytes()
    path = tmp_path / f'half.{suffix}'
    path.write_bytes(content[: len(content) // 2])
    whole, _ = decode(tmp_path / f'a.{suffix}')
    with told() as texts:
        found, _ = decode(path)
    n = found.shape[1]
    assert 1.6 * RATE < n < 2.1 * RATE
    if suffix != 'mp3':
        np.testing.assert_array_equal(found, whole[:, :n])
    assert f'half.{suffix} is damaged (missing: from {n / RATE:.1f} s to 4.0 s)' in texts[-1]
    assert abs(seconds_of(path) - n / RATE) < 0.3
    report = check_clips(clips_table([path], ['x']))
    assert report.problem.tolist() == ['damaged'] and 'to 4.0 s' in report.detail[0]
    assert len(drop_bad(clips_table([path], ['x']), report)) == 1


WITHOUT_LENGTH = {'format': 'OGG'}, {'format': 'OGG', 'subtype': 'OPUS'}, {'format': 'CAF'}


@pytest.mark.parametrize('kinds', WITHOUT_LENGTH)
def test_a_truncated_file_without_a_length_is_known_by_its_end(kinds, tmp_path):
    sf.write(tmp_path / 'a', noise(4), RATE, **kinds)
    content = (tmp_path / 'a').read_bytes()
    (tmp_path / 'half').write_bytes(content[: len(content) // 2])
    with told() as texts:
        found, _ = decode(tmp_path / 'half')
    assert 0.5 * RATE < found.shape[1] < 2.5 * RATE
    assert 'breaks off after' in texts[-1] or 'is damaged' in texts[-1]
    with told() as texts:
        decode(tmp_path / 'a')
    assert texts == []


def test_a_truncated_mp4_file_gives_what_is_there_or_names_what_it_lacks(tmp_path):
    path = encode(tmp_path / 'index_first.mp4', tone(4.0), RATE, 'aac', movflags='faststart')
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with told() as texts:
        found, _ = decode(path)
    n = found.shape[1]
    assert 1 * RATE < n < 3 * RATE and abs(seconds_of(path) - n / RATE) < 0.2
    assert f'(missing: from {n / RATE:.1f} s to 4.0 s)' in texts[-1]
    path = encode(tmp_path / 'index_last.m4a', tone(4.0), RATE, 'aac')
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SoundclfError, match='without its index') as caught:
        decode(path)
    assert 'remove' not in str(caught.value) and 'replace' not in str(caught.value)


def test_flac_of_unknown_and_of_wrong_length(tmp_path):
    sf.write(tmp_path / 'a.flac', noise(), RATE)
    whole, _ = decode(tmp_path / 'a.flac')
    content = (tmp_path / 'a.flac').read_bytes()
    for frames, texts_wanted in ((0, 0), (10**9, 1)):
        path = tmp_path / f'{frames}.flac'
        path.write_bytes(without_length(content, frames))
        with told() as texts:
            np.testing.assert_array_equal(decode(path)[0], whole)
        assert seconds_of(path) == 2.0 and len(texts) == texts_wanted
        f = Features(sample_rate=8000, duration=0.5)
        np.testing.assert_array_equal(load_clip(path, f), load_clip(tmp_path / 'a.flac', f))
    assert 'missing: from 2.0 s to 62500.0 s' in texts[0]


@pytest.mark.parametrize('suffix', ('mp3', 'ogg', 'opus', 'flac'))
def test_recordings_put_one_behind_the_other_are_read_to_the_end(suffix, tmp_path):
    kinds = {'format': 'OGG', 'subtype': 'OPUS'} if suffix == 'opus' else {}
    parts = []
    for i, wave in enumerate((np.zeros(RATE), tone(5))):
        sf.write(tmp_path / f'{i}.{suffix}', wave, RATE, **kinds)
        parts.append((tmp_path / f'{i}.{suffix}').read_bytes())
    path = tmp_path / f'both.{suffix}'
    path.write_bytes(b''.join(parts))
    found, rate = decode(path)
    assert abs(found.shape[1] / rate - 6) < 0.25 and abs(seconds_of(path) - 6) < 0.25
    levels = [np.abs(found[0, round(a * rate) : round(b * rate)]).max() for a, b in ((0, 0.9), (5, 5.9))]
    assert levels[0] < 0.01 and levels[1] > 0.2
    path.write_bytes(parts[1] * 3)  # the same serial number in each link of a chain
    assert abs(seconds_of(path) - 15) < 0.5


def test_a_second_wav_file_behind_the_first_is_named(tmp_path):
    sf.write(tmp_path / 'a.wav', noise(1), RATE)
    (tmp_path / 'b.wav').write_bytes((tmp_path / 'a.wav').read_bytes() * 2)
    with told() as texts:
        np.testing.assert_array_equal(decode(tmp_path / 'b.wav')[0], decode(tmp_path / 'a.wav')[0])
    assert 'holds a second recording behind its first 1.0 s' in texts[0]


def test_an_mp3_file_without_a_length_is_read_to_its_end(tmp_path):
    loud, quiet = noise(4), 1e-3 * noise(4)
    for name, wave in (('a', np.append(loud, quiet)), ('b', np.append(quiet, loud))):
        path = tmp_path / f'{name}.mp3'
        sf.write(path, wave, RATE, bitrate_mode='VARIABLE')
        content = path.read_bytes()
        at = max(content.find(b'Xing'), content.find(b'Info'))
        first = content.index(content[:2], at + 40)
        path.write_bytes(content[first:])
        assert abs(decode(path)[0].shape[1] / RATE - 8) < 0.2, name
        assert abs(seconds_of(path) - 8) < 0.2
        (tmp_path / 'tagged.mp3').write_bytes(content + b'APETAGEX' + b'\xff\xfb\x90' * 2000)
        assert decode(tmp_path / 'tagged.mp3')[0].shape == (1, 8 * RATE)


def test_an_hour_with_a_dent_near_its_end_gives_all_the_rest(tmp_path):
    path = tmp_path / 'a.flac'
    with sf.SoundFile(path, 'w', RATE, 1) as f:
        for i in range(60):
            f.write(noise(10, i))
    content = bytearray(path.read_bytes())
    (tmp_path / 'whole.flac').write_bytes(content)
    at = round(len(content) * 0.97)
    content[at : at + 50] = bytes(50)
    path.write_bytes(content)
    with told() as texts:
        n = [(block.shape[1], block[0, -1]) for block, _ in read_blocks(path)]
        end, _ = decode(path, 595 * RATE)
    assert sum(frames for frames, _ in n) == 600 * RATE and seconds_of(path) == 600
    np.testing.assert_array_equal(end, decode(tmp_path / 'whole.flac', 595 * RATE)[0])
    assert any('missing: from 58' in text for text in texts)
    f = Features(sample_rate=RATE, duration=5.0)
    np.testing.assert_array_equal(load_clip(path, f), load_clip(tmp_path / 'whole.flac', f))


NO_SOUNDS = {
    'page.mp3': (b'<!DOCTYPE html>\n<html>404</html>', 'it holds an HTML page'),
    'bom.ogg': (b'\xef\xbb\xbf  <HTML>', 'it holds an HTML page'),
    'notes.wav': (b'no sound\n' * 99, 'it holds a text'),
    'archive.wav': (b'PK\x03\x04' + bytes(99), 'it holds a ZIP archive'),
    'zeros.wav': (bytes(9999), 'it holds a file of zeros'),
    'lfs.flac': (b'version https://git-lfs.github.com/spec/v1\n', 'it holds a pointer of Git LFS'),
    'cover.wma': (b'\xff\xd8\xff\xe0' + bytes(99), 'it holds a picture'),
    'noise.wav': (bytes(range(128, 256)) * 9, 'its first bytes are those of no format that we know'),
    'cut.flac': (b'fLaC\x00\x00', 'cannot be decoded'),
    'cut.mka': (b'\x1a\x45\xdf\xa3' + bytes(99), 'cannot be decoded'),
}


@pytest.mark.parametrize('name', NO_SOUNDS)
def test_what_is_no_sound_is_named(name, tmp_path):
    content, reason = NO_SOUNDS[name]
    (tmp_path / name).write_bytes(content)
    for use in (decode, seconds_of, lambda p: list(read_blocks(p)), lambda p: load_clip(p, Features())):
        with pytest.raises(SoundclfError) as caught:
            use(tmp_path / name)
        assert name in str(caught.value) and reason in str(caught.value)
        assert 'replace or remove' not in str(caught.value) and '\n' not in str(caught.value)
    assert read_headers([tmp_path / name]).duration.isna().all()


def test_nothing_that_can_be_decoded_is_one_sentence(tmp_path):
    for i in range(3):
        sf.write(tmp_path / f'{i}.wav', noise(1), 500)
    table = clips_table(sorted(tmp_path.iterdir()), ['x'] * 3)
    report = check_clips(table)
    assert report.problem.tolist() == ['unreadable'] * 3
    with pytest.raises(SoundclfError, match=r'None of 3 clips can be used; the first: .*0.wav .*500 Hz'):
        drop_bad(table, report)


def test_channels_in_opposite_phase_are_not_mixed_to_nothing(tmp_path):
    wave = noise()
    pairs = {'mono': wave[:, None], 'stereo': np.stack([wave, -0.97 * wave], 1)}
    pairs['four'] = np.stack([0 * wave, wave, -wave, 0 * wave], 1)
    f = Features(sample_rate=RATE, duration=1.0)
    clips = {}
    for name, channels in pairs.items():
        sf.write(tmp_path / f'{name}.wav', channels, RATE, subtype='FLOAT')
        with told() as texts:
            clips[name] = load_clip(tmp_path / f'{name}.wav', f)
        assert any('opposite phase' in text for text in texts) == (name != 'mono')
        np.testing.assert_array_equal(clips[name], clips['mono'])
    table = clips_table(sorted(tmp_path.iterdir()), ['x'] * 3)
    assert check_clips(table).problem.tolist() == ['crossed', 'crossed']


def test_ordinary_stereo_is_mixed_as_ever(tmp_path):
    stereo = np.stack([noise(seed=0), noise(seed=1)], 1).astype('float32')
    sf.write(tmp_path / 'a.wav', stereo, RATE, subtype='FLOAT')
    f = Features(sample_rate=RATE, duration=2.0)
    np.testing.assert_array_equal(load_clip(tmp_path / 'a.wav', f)[0], stereo.T.mean(0))


def test_floats_at_the_scale_of_integers_are_refused_in_one_sentence(tmp_path):
    whole = np.round(noise() * 32768)
    scales = {'16': noise() * 32768, '24': whole * 256, '32': whole * 65536, 'quiet': np.round(whole / 5000)}
    for name, wave in scales.items():
        sf.write(tmp_path / f'{name}.wav', wave, RATE, subtype='FLOAT')
        with pytest.raises(SoundclfError, match=f'{name}.wav holds samples up to .* and full scale is 1'):
            load_clip(tmp_path / f'{name}.wav', Features())
    sf.write(tmp_path / 'over.wav', noise() * 90, RATE, subtype='FLOAT')
    assert load_clip(tmp_path / 'over.wav', Features()).max() > 1
    report = check_clips(clips_table(sorted(tmp_path.iterdir()), ['x'] * 5))
    assert report.problem.tolist() == ['scale'] * 4


def test_silent_clips_do_not_stay_among_sounds(tmp_path, capsys):
    for name, level in (('dog0', 1), ('dog1', 0), ('dog2', 1e-3), ('hush0', 0), ('hush1', 0)):
        sf.write(tmp_path / f'{name}.wav', level * noise(1), RATE)
    paths = sorted(tmp_path.iterdir())
    table = clips_table(paths, [p.stem[:-1] for p in paths])
    report = check_clips(table)
    report = report[report.problem != 'duplicate']
    kept = drop_bad(table, report)
    assert [Path(p).stem for p in kept.path] == ['dog0', 'dog2', 'hush0', 'hush1']
    printed = capsys.readouterr().out
    assert 'left out: 1 silent' in printed and 'kept: 2 silent' in printed and 'kept: 1 quiet' in printed


WITHOUT_AV = '''
import sys
sys.modules['av'] = None
from soundclf.core.audio import decode
from soundclf.core.files import SoundclfError
for name in sys.argv[1:]:
    try:
        print(decode(name)[0].shape)
    except SoundclfError as e:
        print(e)
'''


def test_without_pyav_all_else_is_read_and_the_remedy_named(tmp_path):
    sf.write(tmp_path / 'a.wav', noise(), RATE)
    sf.write(tmp_path / 'a.mp3', noise(), RATE)
    phone = encode(tmp_path / 'a.m4a', tone(1), RATE, 'aac')
    names = [str(tmp_path / 'a.wav'), str(tmp_path / 'a.mp3'), str(phone)]
    done = subprocess.run([sys.executable, '-c', WITHOUT_AV, *names], capture_output=True, text=True)
    assert not done.stderr
    assert done.stdout.splitlines()[:2] == ['(1, 32000)', '(1, 32000)']
    assert 'pip install av' in done.stdout and 'a.m4a' in done.stdout


def test_a_file_that_changes_is_read_again(tmp_path):
    path = tmp_path / 'a.wav'
    sf.write(path, noise(1), RATE)
    assert seconds_of(path) == 1.0
    sf.write(path, noise(2), RATE)
    assert seconds_of(path) == 2.0
