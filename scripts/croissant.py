"Writes the Croissant descriptions of the data sets with a name: python scripts/croissant.py"

from pathlib import Path

from soundclf.core.croissant import write_croissant
from soundclf.core.dataset_facts import FACTS

FOLDER = Path(__file__).resolve().parent.parent / 'data' / 'croissant'

if __name__ == '__main__':
    for name in FACTS:
        print(*write_croissant(name, FOLDER / f'{name}.json'))
