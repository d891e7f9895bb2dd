"""Injects every fault that `tests/faults.json` lists, and writes what was seen to figures/reliability.json.

The exit code is 1 where a fault had another end than expected."""

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from soundclf.core.files import read_json, write_json

ROOT = Path(__file__).resolve().parent.parent


def ends_of(tests: list[str]) -> dict[str, int]:
    "How many of some tests passed, failed and were skipped."
    with tempfile.TemporaryDirectory() as tmp:
        report = f'{tmp}/report.xml'
        command = [sys.executable, '-m', 'pytest', '-q', '-n', '2', f'--junitxml={report}', *tests]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        found = [case.find('*') for case in ElementTree.parse(report).iter('testcase')]
    ends = ['passed' if end is None else end.tag for end in found]
    failed = sum(end in ('failure', 'error') for end in ends)
    return {'passed': ends.count('passed'), 'failed': failed, 'skipped': ends.count('skipped')}


if __name__ == '__main__':
    rows = []
    for row in read_json(ROOT / 'tests' / 'faults.json'):
        seen = ends_of(row['tests'])
        right = seen['failed'] == 0 and seen['passed'] > 0
        print(f'{"as expected" if right else "NOT AS EXPECTED":<16} {row["fault"]}: {seen}', flush=True)
        rows.append(row | {'seen': 'as expected' if right else 'not as expected', 'checks': seen})
    write_json(rows, ROOT / 'figures' / 'reliability.json')
    sys.exit(any(row['seen'] != 'as expected' for row in rows))
