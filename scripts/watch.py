"""Counts what `soundclf drift` finds in 100 weeks, for each of three planted changes and for none.

Writes figures/drift.json: python scripts/watch.py
The seeds are others than those that its limits were set on."""

import sys
from pathlib import Path

from soundclf.core.files import write_json
from soundclf.core.runtime import progress

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'tests'))
from weeks import found  # noqa: E402

KINDS = {
    'a new microphone': ('microphone', 1),
    'noise': ('noise', 1),
    'a new class': ('class', 1),
    'no change': ('', 1),
    'no change, twenty answers per recording': ('', 20),
}


def main(weeks: int = 100):
    counted = {}
    for name, (change, each) in progress(KINDS.items(), 'kinds of weeks', len(KINDS)):
        counted[name] = found(change, weeks, each)
        print(name, counted[name], flush=True)
    write_json({'weeks': counted}, ROOT / 'figures' / 'drift.json')


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))
