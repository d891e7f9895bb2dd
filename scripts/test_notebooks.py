"""Runs the examples of every notebook: `nbdev_test`, without the pictures that nobody sees.

nbdev's shell shows each figure as a notebook does, at twice its size: in some chapters that is half of the
work. Here a figure is drawn where a cell saves it. Two chapters are left out, because
tests/test_pictures.py runs them as Jupyter does, with all their pictures.
"""

import importlib
import sys

import execnb.shell
import nbdev.test
from matplotlib import pyplot as plt
from nbdev.test import test_nb

SKIPPED = r'^[_.]|^01_data|^02_transforms'


def test_and_close(*args, **kw):
    "What nbdev finds in one notebook; its figures are closed."
    with plt.rc_context({'figure.max_open_warning': 0}):
        found = test_nb(*args, **kw)
    plt.close('all')
    return found


def main(path: str = 'nbs'):
    "Tests one notebook, or a folder of them in two processes."
    execnb.shell.set_matplotlib_formats = None  # the shell leaves the backend as it is
    # A notebook's shell takes the place of `__main__`, so the processes find the function by its module.
    nbdev.test.test_nb = importlib.import_module('test_notebooks').test_and_close
    workers = 0 if path.endswith('.ipynb') else 2
    nbdev.test.nbdev_test(path=path, n_workers=workers, timing=True, skip_file_re=SKIPPED)


if __name__ == '__main__':
    main(*sys.argv[1:])
