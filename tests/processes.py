"""Processes that are at work at once: each is a copy of one that has imported the package already.

A fresh interpreter takes seconds for that, on every test."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from threading import Timer

HANGS = 600  # seconds after which a process is no longer slow, and is killed
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload([
    'pytest',
    'soundclf.core.store',
    'soundclf.core.studies',
    'soundclf.tools.answer_log',
    'soundclf.tools.commands',
])


def _work(job: Callable, args: tuple, pipes: list, environment: dict[str, str]):
    "What the process does; it has the environment of the test, and its output goes to the test."
    os.environ.clear()
    os.environ.update(environment)
    for stream, pipe in zip((sys.stdout, sys.stderr), pipes):
        stream.flush()
        os.dup2(pipe.fileno(), stream.fileno())
        pipe.close()
    job(*args)


class Started:
    "A process that runs a function of a test's module; `out` and `err` are what it prints, as bytes."

    def __init__(self, job: Callable, *args, **settings: str):
        ends = [CONTEXT.Pipe(duplex=False) for _ in range(2)]
        written = [end for _, end in ends]
        self.out, self.err = (open(os.dup(end.fileno()), 'rb') for end, _ in ends)
        self.process = CONTEXT.Process(target=_work, args=(job, args, written, os.environ | settings))
        self.process.start()
        for end in (*written, *(end for end, _ in ends)):
            end.close()

    def line(self) -> str:
        "The next line that it prints; an empty one when it has ended."
        return self.out.readline().decode()

    def signal(self, number: int):
        os.kill(self.process.pid, number)

    def kill(self):
        self.process.kill()
        self.end()

    def end(self, hangs: float = HANGS) -> tuple[int, bytes, bytes]:
        "(exit code, the rest of what it printed, what it printed to the error stream)."
        timer = Timer(hangs, self.process.kill)
        timer.start()
        try:
            out, err = self.out.read(), self.err.read()
            self.process.join()
        finally:
            timer.cancel()
            self.out.close()
            self.err.close()
        return self.process.exitcode, out, err
