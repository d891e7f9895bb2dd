"What is found in a folder: links, permissions, names, suffixes, and a line about all that is not used."

import os
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from processes import Started

from soundclf.core.checks import check_clips, drop_bad
from soundclf.core.clips import clips_table
from soundclf.core.decoding import decode
from soundclf.core.files import SoundclfError
from soundclf.core.sound_files import LeftOut, find_audio, find_sounds, left_out_text

RATE = 8000


def write(path: Path, **kinds) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.1 * np.random.default_rng(0).standard_normal(RATE // 2), RATE, **kinds)
    return path


def names(folder: Path) -> list[str]:
    return [str(p.relative_to(folder)) for p in find_sounds(folder).files]


def reasons(folder: Path) -> dict[str, str]:
    return {row.path.name: row.reason for row in find_sounds(folder).left_out}


@pytest.fixture
def sounds(tmp_path) -> Path:
    "A folder of two classes."
    folder = tmp_path / 'sounds'
    for name in ('cat/a.wav', 'cat/b.wav', 'dog/a.wav', 'dog/b.wav'):
        write(folder / name)
    return folder


UNLISTED = {
    'b.aif': {'format': 'AIFF'},
    'c.opus': {'format': 'OGG', 'subtype': 'OPUS'},
    'd.caf': {'format': 'CAF'},
    'e.au': {'format': 'AU'},
    'f.w64': {'format': 'W64'},
    'h.oga': {'format': 'OGG'},
    'i.WAV': {'format': 'WAV'},
    'j.Flac': {'format': 'FLAC'},
    'k.mp2': {'format': 'MP3'},
    'noext': {'format': 'WAV'},
    'wrong.txt': {'format': 'FLAC'},
    'REC.0001': {'format': 'MP3'},
}


def test_every_suffix_is_found_and_what_has_none_by_its_content(tmp_path):
    for name, kinds in UNLISTED.items():
        write(tmp_path / name, **kinds)
    for name in ('g.m4a', 'l.webm', 'm.amr', 'n.wma'):
        (tmp_path / name).touch()
    assert names(tmp_path) == sorted([*UNLISTED, 'g.m4a', 'l.webm', 'm.amr', 'n.wma'])
    assert find_sounds(tmp_path).left_out == []


def test_what_is_no_sound_is_counted(sounds):
    contents = {
        'labels.csv': b'path,label\n',
        'cover.jpg': b'\xff\xd8\xff\xe0' + bytes(100),
        'utf16.txt': 'notes\n'.encode('utf-16') * 9,
        'old.zip': b'PK\x03\x04' + bytes(100),
        'photo': b'\x00\x00\x00\x18ftypheic' + bytes(100),
    }
    for name, content in contents.items():
        (sounds / name).write_bytes(content)
    found = find_sounds(sounds)
    assert len(found.files) == 4
    assert left_out_text(found.left_out) == 'not used: 5 files without sound'


def test_litter_is_passed_over_without_a_word(sounds):
    for name in ('@eaDir/a.wav', 'cat/@eaDir/a.wav@SynoEAStream.wav', '__MACOSX/._a.wav', 'cat/._a.wav'):
        write(sounds / name, format='WAV')
    for name in ('.DS_Store', 'cat/Thumbs.db', '.hidden.wav'):
        (sounds / name).touch()
    found = find_sounds(sounds)
    assert (len(found.files), found.left_out) == (4, [])


def test_a_linked_class_is_followed(sounds):
    write(sounds.parent / 'elsewhere' / 'bird0.wav')
    (sounds / 'bird').symlink_to('../elsewhere')
    write(sounds.parent / 'one.wav')
    (sounds / 'dog' / 'one.wav').symlink_to(sounds.parent / 'one.wav')
    assert names(sounds)[0] == 'bird/bird0.wav' and 'dog/one.wav' in names(sounds)
    assert find_sounds(sounds).left_out == []


def test_links_that_lead_back_or_nowhere_end(sounds):
    (sounds / 'cat' / 'up').symlink_to('..')
    (sounds / 'a_first').symlink_to('dog')  # comes before dog, and must not take its sounds
    (sounds / 'root').symlink_to('/')
    (sounds / 'self').symlink_to('self')
    (sounds / 'gone.wav').symlink_to('nowhere.wav')
    elsewhere = sounds.parent / 'elsewhere'
    write(elsewhere / 'x.wav')
    (elsewhere / 'back').symlink_to(sounds)
    (sounds / 'bird').symlink_to(elsewhere)
    assert names(sounds) == ['bird/x.wav', 'cat/a.wav', 'cat/b.wav', 'dog/a.wav', 'dog/b.wav']
    back = dict.fromkeys(('up', 'a_first', 'root', 'back'), 'read already')
    assert reasons(sounds) == back | {'self': 'leads nowhere', 'gone.wav': 'leads nowhere'}


def test_a_diamond_of_links_is_read_once(tmp_path):
    folders = [tmp_path / f'd{i}' for i in range(24)]  # two to the power of 24 ways lead to the last
    for folder, below in zip(folders, folders[1:]):
        folder.mkdir()
        for name in 'xy':
            (folder / name).symlink_to(below)
    write(folders[-1] / 'a.wav')
    assert len(find_sounds(folders[0]).files) == 1


def test_a_thousand_folders_in_each_other_are_walked(tmp_path):
    folder = tmp_path / Path(*'x' * 900)
    folder.mkdir(parents=True)
    (folder / 'a.wav').touch()
    assert [p.name for p in find_sounds(tmp_path).files] == ['a.wav']


def test_only_regular_files_are_taken(sounds):
    os.mkfifo(sounds / 'pipe.wav')
    (sounds / 'null.wav').symlink_to('/dev/null')
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(sounds / 'socket.wav'))
        assert reasons(sounds) == dict.fromkeys(('pipe.wav', 'null.wav', 'socket.wav'), 'not a regular file')
    assert left_out_text(find_sounds(sounds).left_out) == 'not used: 3 special files'


def test_empty_folders_are_counted(sounds):
    (sounds / 'bird').mkdir()
    (sounds / 'frog' / '@eaDir').mkdir(parents=True)
    assert left_out_text(find_sounds(sounds).left_out) == 'not used: 2 empty folders'


def look_as_nobody(folder):
    "Prints what a user without rights finds and decodes."
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    found = find_sounds(folder)
    print([p.name for p in found.files])
    print(left_out_text(found.left_out))
    for name in ('dog/a.wav', 'cat/a.wav'):
        try:
            decode(f'{folder}/{name}')
        except SoundclfError as e:
            print(e)


@pytest.mark.skipif(not hasattr(os, 'getuid') or os.getuid() != 0, reason='takes the rights of another user')
def test_what_may_not_be_read_is_named_and_is_no_damage():
    folder = Path('/tmp') / f'soundclf-{os.getpid()}'  # the folder of pytest is closed to others
    try:
        for name in ('cat/a.wav', 'dog/a.wav', 'dog/b.wav'):
            write(folder / name)
        os.chmod(folder, 0o755)
        os.chmod(folder / 'dog', 0o755)
        os.chmod(folder / 'cat', 0)
        os.chmod(folder / 'dog' / 'a.wav', 0)
        _, out, err = Started(look_as_nobody, str(folder)).end()
        assert not err
        files, left_out, *errors = out.decode().splitlines()
        assert files == "['b.wav']"
        assert left_out == 'not used: folder cat (no permission), file a.wav (no permission)'
        assert all('may not be read' in e and 'replace' not in e and 'remove' not in e for e in errors)
        assert len(errors) == 2
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(sys.platform != 'linux', reason='names are Unicode elsewhere')
def test_a_name_that_is_not_utf8_is_found_and_decoded(sounds):
    os.rename(os.fsencode(sounds / 'dog' / 'a.wav'), os.fsencode(sounds / 'dog') + b'/ch\xeen.wav')
    os.symlink(b'nowhere', os.fsencode(sounds) + b'/\xff')
    found = find_sounds(sounds)
    assert len(found.files) == 4
    [name] = [p.name for p in found.files if 'ch' in p.name]
    assert os.fsencode(name) == b'ch\xeen.wav'
    assert left_out_text(found.left_out).startswith('not used: link ')
    table = clips_table(found.files, [p.parent.name for p in found.files])
    assert table.duration.tolist() == [0.5] * 4
    report = check_clips(table)
    assert report.problem.tolist() == ['duplicate'] * 3
    assert len(drop_bad(table, report)) == 1


def test_the_line_names_one_and_counts_several():
    rows = [LeftOut(Path(n), 'outside class folders') for n in 'abc']
    rows.append(LeftOut(Path('sounds/cat'), 'no permission', 'folder'))
    rows += [LeftOut(Path(n), 'empty', 'folder') for n in 'xy']
    assert left_out_text(rows) == (
        'not used: 3 files outside class folders, folder cat (no permission), 2 empty folders'
    )
    assert left_out_text(rows[:1]) == 'not used: file a (outside class folders)'


def test_a_folder_without_sounds_says_what_it_holds(tmp_path):
    (tmp_path / 'notes.txt').write_text('nothing here')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(SoundclfError, match=r'no sounds \(not used: .*folder empty \(empty\)') as caught:
        find_audio(tmp_path)
    assert 'file notes.txt (no sound)' in str(caught.value)
    with pytest.raises(SoundclfError, match='is not a folder'):
        find_audio(tmp_path / 'none')


def test_big_files_that_are_no_sounds_cost_nothing(sounds):
    with open(sounds / 'disk.img', 'wb') as f:
        f.truncate(50_000_000_000)
    assert reasons(sounds) == {'disk.img': 'no sound'}
