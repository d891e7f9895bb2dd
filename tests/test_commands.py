"The commands under names that play tricks, under Ctrl-C, and with the CSVs of spreadsheets."

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st
from processes import HANGS

from soundclf.core.files import SoundclfError
from soundclf.core.folders import labelled_clips
from soundclf.core.label_lists import read_labels
from soundclf.core.runtime import progress
from soundclf.core.sheets import csv_line, from_cell, read_sheet, to_cell
from soundclf.tools.labels import label_queue, load_labels, save_label
from soundclf.tools.terminal import visible

ROOT = Path(__file__).resolve().parent.parent
# The command with a made-up model that takes its time.
COMMAND = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT / 'tests')!r})
from test_predict import stand_in
from soundclf.tools.classifier import Classifier
from soundclf.tools.commands import main

made = stand_in()
made.classes = ['=loud', 'quiet\\x1b[2J']
answer = made.run

def slow(waves):
    if os.environ['MARK']:
        open(os.environ['MARK'], 'w').close()
    time.sleep(float(os.environ['WAIT']))
    return answer(waves)

made.run = slow
Classifier.load = lambda *_: made
main()
"""


def start(*words, wait: float = 0.0, mark: str = '', **settings: str) -> subprocess.Popen:
    "The command at work."
    environment = os.environ | {'WAIT': str(wait), 'MARK': str(mark), 'SOUNDCLF_QUIET': '1'} | settings
    environment |= {'PYTHONPATH': str(ROOT)}
    return subprocess.Popen(
        [sys.executable, '-c', COMMAND, *map(os.fspath, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd='/',
        env=environment,
        bufsize=0,
    )


def write_sounds(folder: Path, names: list[bytes], seconds: float = 0.2):
    "Noise under names of any bytes."
    folder.mkdir(parents=True, exist_ok=True)
    sf.write(folder / 'one.wav', np.random.default_rng(0).normal(0, 0.1, round(8000 * seconds)), 8000)
    for name in names:
        shutil.copy(folder / 'one.wav', os.path.join(os.fsencode(folder), name))
    (folder / 'one.wav').unlink()


def numbers_are(sentence: str, found: bytes, *numbers: int) -> bool:
    "Whether a sentence tells these numbers; the line at which a signal came may count or not."
    told = re.fullmatch(sentence, found.decode())
    assert told, found
    return all(abs(int(n) - m) <= 1 for n, m in zip(told.groups(), numbers))


TRICKS = [
    b'ch\xeen.wav',
    b'a\x1b[31m.wav',
    b'b\nc.wav: dog (100 %).wav',
    b'd\re.wav',
    b'=cmd.wav',
    b"'=cmd.wav",
    b'-5.wav',
    b'm,n"o.wav',
    '\u202ev\u00e4w.wav'.encode(),
]


def test_every_name_has_one_line_that_plays_no_tricks(tmp_path):
    write_sounds(tmp_path / 'in', TRICKS)
    out, err = start('predict', tmp_path / 'in', '--out', tmp_path / 't.csv').communicate()
    lines = out.decode().splitlines()
    assert len(lines) == len(TRICKS) and not err
    assert all(line.isprintable() and line.startswith(f'{tmp_path}/in/') for line in lines)
    assert any(r'ch\xeen.wav: ' in line for line in lines)
    with open(tmp_path / 't.csv', newline='', errors='surrogateescape') as file:
        rows = list(csv.DictReader(file))
    expected = {os.path.join(os.fsencode(tmp_path), b'in', name) for name in TRICKS}
    assert {os.fsencode(from_cell(row['path'])) for row in rows} == expected
    assert {from_cell(row['predicted']) for row in rows} <= {'=loud', 'quiet\x1b[2J'}
    assert not any(cell.startswith(tuple('=+@\t\r\n')) for row in rows for cell in row.values())
    out, _ = start('predict', tmp_path / 'in', '--json').communicate()
    assert {os.fsencode(json.loads(line)['path']) for line in out.splitlines()} == expected


class Terminal(io.StringIO):
    "A standard error that somebody watches."

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_a_log_gets_lines(monkeypatch):
    monkeypatch.delenv('SOUNDCLF_QUIET', raising=False)
    told = []
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, 'stderr', stream)
        assert list(progress(range(3), 'clips')) == [0, 1, 2]
        told.append(stream.getvalue())
    assert '\r' in told[0] and told[1] == 'clips: 3 to do\n'


def test_a_command_writes_no_bar_into_a_log(tmp_path):
    write_sounds(tmp_path / 'in', [b'a.wav', b'b.wav'])
    out, err = start('predict', tmp_path / 'in', SOUNDCLF_QUIET='0').communicate()
    assert len(out.splitlines()) == 2 and b'\r' not in err
    assert b'predict: 2 to do' in err.splitlines()


def test_the_packaged_model_is_named_where_no_model_was(tmp_path):
    write_sounds(tmp_path / 'in', [b'a.wav'])
    words = ['predict', tmp_path / 'in', '--json']
    out, err = start(*words, SOUNDCLF_QUIET='0').communicate()
    assert err.startswith(b'model: scratch, which comes with soundclf; --model names another\n')
    assert start(*words).communicate() == (out, b'')
    named_out, named_err = start(*words, '--model', 'scratch', SOUNDCLF_QUIET='0').communicate()
    assert named_out == out and b'model' not in named_err


def test_names_need_not_be_letters_of_the_terminal(tmp_path):
    write_sounds(tmp_path / 'in', ['č.wav'.encode(), b'a.wav'])
    command = start('predict', tmp_path / 'in', '--out', tmp_path / 't.csv', PYTHONIOENCODING='cp1252')
    assert b'\\u010d.wav' in command.communicate()[0]
    assert command.returncode == 0 and len((tmp_path / 't.csv').read_text().splitlines()) == 3


@pytest.mark.parametrize('number, code', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_answers_come_at_once_and_stay_after_an_interruption(tmp_path, number, code):
    write_sounds(tmp_path / 'in', [f'{i:03}.wav'.encode() for i in range(400)])
    (tmp_path / 't.csv').write_text('an old table\n')
    command = start('predict', tmp_path / 'in', '--out', tmp_path / 't.csv', wait=0.3)
    first = command.stdout.readline()  # while the command is at work
    command.send_signal(number)
    out, err = command.communicate(timeout=HANGS)
    lines = [first, *out.splitlines()]
    rows = read_sheet(tmp_path / 't.csv', ('path', 'predicted', 'error')).rows
    assert command.returncode == code
    assert 1 <= len(lines) <= len(rows) < 400 and (tmp_path / 't.csv').read_bytes().endswith(b'\n')
    sentence = r'Stopped\. (\d+) of 400 files were answered; (\d+) are in .*\n'
    assert numbers_are(sentence, err, len(lines), len(rows))
    assert sorted(os.listdir(tmp_path)) == ['in', 't.csv']


@pytest.mark.parametrize('ending', ['csv', 'txt'])
def test_segments_come_as_they_end(tmp_path, ending):
    noise = 0.9 * np.sign(np.random.default_rng(0).normal(size=8000 * 600))
    noise[np.arange(len(noise)) // 40_000 % 2 == 0] *= 0.01  # five seconds loud, five quiet
    sf.write(tmp_path / 'long.wav', noise, 8000)
    out = tmp_path / f't.{ending}'
    command = start('predict', tmp_path / 'long.wav', '--timeline', '--out', out, wait=0.3)
    first = command.stdout.readline()
    command.send_signal(signal.SIGINT)
    printed, err = command.communicate(timeout=HANGS)
    lines = [first, *printed.splitlines()]
    kept = out.read_text().splitlines()[ending == 'csv' :]
    assert command.returncode == 130 and 1 <= len(lines) < 100
    assert len(kept) in (len(lines), len(lines) + 1)
    sentence = r'Stopped\. (\d+) segments were printed; (\d+) are in .*\n'
    assert numbers_are(sentence, err, len(lines), len(kept))


def test_an_interruption_before_the_work_is_a_sentence(tmp_path):
    write_sounds(tmp_path / 'in', [b'a.wav'])
    (tmp_path / 't.csv').write_text('an old table\n')
    words = ('predict', tmp_path / 'in', '--out', tmp_path / 't.csv')
    command = start(*words, wait=HANGS, mark=tmp_path / 'asked')
    while not (tmp_path / 'asked').exists():
        assert command.poll() is None
        time.sleep(0.05)
    command.send_signal(signal.SIGINT)
    err = command.communicate(timeout=HANGS)[1].decode()
    assert command.returncode == 130 and err.startswith('Stopped') and err.count('\n') == 1, err
    assert (tmp_path / 't.csv').read_text() == 'an old table\n'


FULL = """
import resource, sys
from soundclf.core.sheets import GrowingFile
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
file = GrowingFile(sys.argv[1], 'a,b\\n')
try:
    while True:
        file.add('1234567,1234567\\n')
except OSError as e:
    print(file.lines, e.filename == str(file.path))
"""


def test_a_full_disk_leaves_whole_rows(tmp_path):
    command = [sys.executable, '-c', FULL, str(tmp_path / 't.csv')]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == '6 True\n', done.stderr
    assert (tmp_path / 't.csv').read_text() == 'a,b\n' + '1234567,1234567\n' * 6


@given(st.text(st.characters(exclude_categories=()), max_size=12))
def test_cells_keep_every_text_and_are_no_formulas(text):
    cell = to_cell(text)
    assert from_cell(cell) == text
    assert visible(text).isprintable()
    assert cell[:1] not in tuple('=@\t\r\n') or not cell
    line = csv_line([cell, 'x'])
    assert list(csv.reader(io.StringIO(line, newline=''), strict=True)) == [[cell, 'x']]


def test_labels_keep_names_of_every_kind(tmp_path):
    write_sounds(tmp_path, TRICKS)
    sounds = label_queue(tmp_path, None).path
    given_labels = {}
    for i, path in enumerate(sounds):
        given_labels[path] = ['a\rb', '=1+1', "'=x", 'naïve', '-5', 'x;y', 'p,q', '"', "'"][i]
        save_label(tmp_path / 'labels.csv', path, given_labels[path])
    assert load_labels(tmp_path / 'labels.csv') == given_labels
    assert label_queue(tmp_path, None).empty
    assert b'\n=' not in (tmp_path / 'labels.csv').read_bytes()
    table = labelled_clips(tmp_path / 'labels.csv')
    assert dict(zip(table.path, table.label)) == given_labels


def test_labels_keep_mode_and_link(tmp_path):
    write_sounds(tmp_path / 'in', [b'a.wav', b'b.wav'])
    (tmp_path / 'kept').mkdir()
    real, link = tmp_path / 'kept' / 'mine.csv', tmp_path / 'in' / 'labels.csv'
    real.write_text('path,label\n')
    real.chmod(0o600)
    link.symlink_to(real)
    save_label(link, tmp_path / 'in' / 'a.wav', 'cat')
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o600
    assert real.read_text() == 'path,label\n../in/a.wav,cat\n'
    assert label_queue(tmp_path / 'in', None).path.map(os.path.basename).to_list() == ['b.wav']
    assert labelled_clips(link).label.to_list() == ['cat']


@pytest.mark.parametrize('delimiter, encoding', [(';', 'utf-8-sig'), ('\t', 'utf-16'), (',', 'utf-8')])
def test_labels_go_on_in_the_form_of_the_spreadsheet(tmp_path, delimiter, encoding):
    write_sounds(tmp_path, [b'a.wav', b'b.wav'])
    rows = [['Path', 'Label', 'note'], ['a.wav', 'Bär', '=A1; "x"'], ['', '', '']]
    text = ''.join(csv_line(row, delimiter) for row in rows).replace('\n', '\r\n')
    (tmp_path / 'labels.csv').write_bytes(text.encode(encoding))
    save_label(tmp_path / 'labels.csv', tmp_path / 'b.wav', 'Kuh')
    found = (tmp_path / 'labels.csv').read_bytes().decode(encoding)
    rows[2] = ['b.wav', 'Kuh', '']
    assert found == ''.join(csv_line(row, delimiter) for row in rows)


def test_a_list_in_western_windows_and_names_that_are_not_utf8(tmp_path):
    write_sounds(tmp_path, ['größe.wav'.encode(), b'ch\xeen.wav', b'a.wav'])
    file = tmp_path / 'labels.csv'
    file.write_bytes('path;label\ngröße.wav;Bär\na.wav;cat\n'.encode('cp1252'))
    with pytest.warns(UserWarning, match='read as Windows-1252'):
        table = labelled_clips(file)
    assert dict(zip(map(os.path.basename, table.path), table.label)) == {'größe.wav': 'Bär', 'a.wav': 'cat'}
    file.write_bytes(b'path,label\nch\xeen.wav,' + 'Bär\n'.encode())
    assert os.fsencode(labelled_clips(file).path[0]).endswith(b'ch\xeen.wav')
    assert labelled_clips(file).label[0] == 'Bär'


@pytest.mark.parametrize(
    'data, sentence',
    [
        (b'', 'is empty'),
        (b'path,label\na.wav\nb.wav,cat,big\n', 'line 3 has 3 cells and the header has 2'),
        (b'path,label\na.wav,cat\n"b.wav,dog\nc.wav,dog\n', 'in line 3 a cell begins with a quotation mark'),
        (b'path,label\na.wav,cat\x81\n', 'is neither UTF-8 nor Windows-1252'),
        ('path,label\na.wav,cat\n'.encode('utf-16-le'), 'is not a text file'),
        ('path,label\na.wav,cat\n'.encode('utf-16')[:-1], 'is damaged UTF-16'),
        (b'file,label\na.wav,cat\n', 'lacks the column path'),
        (b'path,label,label\na.wav,cat,cat\n', "has the column 'label' twice"),
    ],
)
def test_a_table_that_cannot_be_meant_is_a_true_sentence(tmp_path, data, sentence):
    (tmp_path / 't.csv').write_bytes(data)
    with pytest.raises(SoundclfError, match=sentence):
        read_labels(tmp_path / 't.csv')


@pytest.mark.skipif(shutil.which('make') is None, reason='no make on this machine')
@pytest.mark.parametrize('name', ['my own sounds', "Bob's (old)  sounds"])
def test_make_takes_a_path_with_spaces(tmp_path, name):
    show = '\t@printf "%s\\n%s\\n" "$$DATASET" "$(words $(RUNS)) $(words $(DONE)) $(words $(CHAPTERS))"\n'
    (tmp_path / 'Makefile').write_text(f'include Makefile\nshow:\n{show}')
    command = ['make', '-s', '-f', str(tmp_path / 'Makefile'), 'show', f'DATASET=../{name}']
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == [str(ROOT.parent / name), '1 7 7']
