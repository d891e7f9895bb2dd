"""Says what more cores make of `make reproduce`, from the times of a full run: python scripts/cores.py [RUNS]

RUNS is the folder of a full run (default: runs/full). Executed chapters tell when each cell began and ended;
runs and trials tell the same of themselves. Each chapter becomes a row of steps: work that goes one after the
other, and runs that may go side by side. The steps go to figures/cores.json, together with how long they take
on other numbers of cores if each free core is given to whoever waits longest.
`python scripts/cores.py draw` computes and draws anew from the steps that are kept."""

import ast
import json
import re
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np

from soundclf.core.drawing import PALETTE, new_figure, save_figure
from soundclf.core.files import SoundclfError, read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / 'figures' / 'cores.json'
MEASURED_ON = 2  # cores
CORES = 1, 2, 4, 8, 16, 32, 64
MANY = 99  # chapters at once: as many as can go
MACHINES, EACH = 4, 16  # a cluster, and the cores of each of its machines
SEND = 1.0  # seconds for a job to reach a worker of the cluster
ALONE = {'latency', 'epoch_speedup'}  # functions that want the whole machine


@dataclass
class Span:
    "A run or a trial that was measured."

    chapter: str  # whose folder it lies in
    start: float  # seconds since 1970
    end: float
    alike: tuple  # what runs of about the same length have in common
    is_whole: bool = True  # false if it was interrupted, or made elsewhere
    wave: int = 0  # the next wave begins when this one has ended


@dataclass
class Cell:
    "A cell of an executed chapter."

    start: float
    end: float
    is_alone: bool  # it measures, with nothing beside it


# ---- what was measured ----


def makefile_chapters() -> dict[str, list[str]]:  # name -> the chapters that it waits for
    "The chapters in the order of the Makefile."
    text = (ROOT / 'Makefile').read_text(encoding='utf-8')
    lists = re.findall(r'^(?:GENERAL|SPECIAL) := (.*)$', text, re.M)
    rules = dict(re.findall(r'^\$\(RUNS\)/(\d\w+)\.ipynb:(.*)$', text, re.M))
    return {name: re.findall(r'\$\(RUNS\)/(\w+)\.ipynb', rules[name]) for name in ' '.join(lists).split()}


def calls(tree: ast.AST) -> set[str]:
    "The names of all functions that are called."
    return {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}


def lone_functions(trees: list[ast.Module]) -> set[str]:
    "The functions of a notebook that measure, by themselves or through others."
    defined = {n.name: calls(n) for t in trees for n in t.body if isinstance(n, ast.FunctionDef)}
    found = set(ALONE)
    while more := {name for name, called in defined.items() if called & found} - found:
        found |= more
    return found


def top_calls(tree: ast.Module) -> set[str]:
    "What a cell calls when it runs, without what its functions would."
    return set().union(*(calls(n) for n in tree.body if not isinstance(n, ast.FunctionDef)))


def executed_cells(file: Path) -> list[Cell]:
    "The cells of an executed chapter that took their time."
    cells = json.loads(file.read_text(encoding='utf-8'))['cells']
    cells = [c for c in cells if c['cell_type'] == 'code' and 'papermill' in c['metadata']]
    cells = [c for c in cells if c['metadata']['papermill'].get('end_time')]
    trees = [ast.parse(re.sub('^[%!].*', 'pass', ''.join(c['source']), flags=re.M)) for c in cells]
    lone, found = lone_functions(trees), []
    for cell, tree in zip(cells, trees):
        times = [cell['metadata']['papermill'][k] for k in ('start_time', 'end_time')]
        start, end = (datetime.fromisoformat(t).timestamp() for t in times)
        found.append(Cell(start, end, bool(top_calls(tree) & lone)))
    return found


def run_spans(runs: Path, chapters: dict[str, str]) -> Iterator[Span]:
    "The runs that left their weights; the lock is as old as their start, the configuration as their end."
    for lock in sorted(runs.rglob('run.lock')):
        config, (dataset, chapter, *_) = lock.with_name('config.json'), lock.relative_to(runs).parts
        if not config.exists() or chapter not in chapters:
            continue
        about = read_json(config)
        recipe = about.get('recipe') or {}
        kind = str(about.get('split')).split()[0], len(about['classes'])
        alike = dataset, about.get('kind'), about.get('network'), recipe.get('epochs'), *kind
        start, end = lock.stat().st_mtime, config.stat().st_mtime
        logs = [t for t in log_times(lock.with_name('tensorboard')) if t < end]
        is_whole = len(logs) < 2 and (end - start > 0.2 or not recipe)
        yield Span(chapters[chapter], start if len(logs) < 2 else logs[-1], end, alike, is_whole)


def log_times(folder: Path) -> list[float]:
    "When a run began to write each of its logs: one that was broken off begins another when it goes on."
    return sorted(float(file.name.split('.')[3]) for file in folder.glob('events.out.tfevents.*'))


def trial_spans(runs: Path, chapters: dict[str, str]) -> Iterator[Span]:
    "The trials of the searches; a study lets a few go side by side, and waits for them."
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    from soundclf.core.studies import _WAVE, finished_trials, trial_index

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for journal in sorted(runs.rglob('*.journal')):
        chapter = journal.relative_to(runs).parts[1]
        with tempfile.TemporaryDirectory() as tmp:  # what is read stays as it is
            copy = str(shutil.copy(journal, tmp))
            study = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(copy)))
            for trial in finished_trials(study).values():
                times = trial.datetime_start.timestamp(), trial.datetime_complete.timestamp()
                wave = trial_index(trial) // _WAVE
                yield Span(chapters[chapter], *times, (journal.name,), wave=wave)


def seconds_of(span: Span, spans: list[Span]) -> float:
    "How long a run takes; where it was interrupted, as long as others like it."
    like = [s.end - s.start for s in spans if s.is_whole and s.alike == span.alike]
    return span.end - span.start if span.is_whole or not like else float(np.median(like))


def maker(span: Span, cells: dict[str, list[Cell]]) -> tuple[str, int]:  # (chapter, which of its cells or -1)
    "The chapter that made a run: the one of its folder, or a later one that came back to it."
    own = cells.get(span.chapter, [])
    for name, others in cells.items():
        if name == span.chapter or own and span.start > own[-1].end:
            for i, cell in enumerate(others):
                if cell.start <= span.start <= cell.end:
                    return name, i
    return span.chapter, -1


def rest_of(cell: Cell, mine: list[Span], spans: list[Span]) -> float:  # seconds of one core
    "What a cell does beside its runs; it shares the cores with other chapters, and may wait for them."
    inside = sorted({t for s in spans for t in (s.start, s.end) if cell.start < t < cell.end})
    rest = 0.0
    for a, b in pairwise([cell.start, *inside, cell.end]):
        others = sum(s.start <= a < s.end for s in spans)
        is_mine = any(s.start <= a < s.end for s in mine)
        waits = others > 0 if cell.is_alone else others >= MEASURED_ON and mine
        if not is_mine and not waits:
            rest += (b - a) * min(1, MEASURED_ON / (others + 1))
    return rest


def waves_of(spans: list[Span], everything: list[Span]) -> list[list]:
    "Runs as steps: those of one wave go side by side."
    waves = defaultdict(list)
    for span in sorted(spans, key=lambda s: s.start):
        waves[span.wave].append(round(seconds_of(span, everything), 1))
    return [['runs', seconds] for _, seconds in sorted(waves.items())]


def steps_of(cells: list[Cell], made: dict[int, list[Span]], spans: list[Span]) -> list[list]:
    "The steps of a chapter: [serial or alone, seconds] or [runs, [seconds of each]]."
    steps = []
    for i, cell in enumerate(cells):
        kind, rest = 'alone' if cell.is_alone else 'serial', rest_of(cell, made[i], spans)
        if steps and steps[-1][0] == kind == 'serial':
            steps[-1][1] = round(steps[-1][1] + rest, 1)
        else:
            steps.append([kind, round(rest, 1)])
        steps += waves_of(made[i], spans)
    at = next((i for i, step in enumerate(steps) if step[0] == 'runs'), len(steps))
    return steps[:at] + waves_of(made[-1], spans) + steps[at:]  # runs of a former try come first


def measured(runs: Path) -> dict[str, dict]:  # chapter -> after, measured_s, kept_s, steps
    "What a full run tells of each chapter; `kept_s` is the time of runs that were made elsewhere."
    wanted = makefile_chapters()
    files = {name: runs / 'auto' / f'{name}.ipynb' for name in wanted}
    cells = {name: executed_cells(file) for name, file in files.items() if file.exists()}
    if not cells:
        raise SoundclfError(f'{runs} holds no executed chapter: run `make reproduce` first.')
    folders = {name.split('_', 1)[1]: name for name in wanted}
    spans = [*run_spans(runs, folders), *trial_spans(runs, folders)]
    began = min(c[0].start for c in cells.values())
    made = defaultdict(lambda: defaultdict(list))
    for span in (s for s in spans if s.start >= began):
        name, cell = maker(span, cells)
        made[name][cell].append(span)
    return {name: chapter_of(wanted[name], c, made[name], spans, cells) for name, c in cells.items()}


def chapter_of(after: list[str], cells: list[Cell], made: dict, spans: list[Span], known: dict) -> dict:
    "One chapter as it was measured."
    whole = [s.is_whole and i >= 0 for i, found in made.items() for s in found]
    return {
        'after': [name for name in after if name in known],
        'measured_s': round(cells[-1].end - cells[0].start, 1),
        'is_whole': all(whole),  # no run of it was interrupted or made elsewhere
        'steps': steps_of(cells, made, spans),
    }


# ---- other numbers of cores ----


@dataclass
class Machine:
    "Where the work goes."

    cores: int  # of this machine
    workers: int = 0  # of a cluster, to which runs are sent; 0: they stay here


@dataclass(eq=False)
class Task:
    "A step that goes, or one of the runs of a step."

    chapter: str
    kind: str  # serial, alone or runs
    left: float  # seconds of one core


class Schedule:
    "Chapters that share a machine: whoever waits longest is given the core that is free."

    def __init__(
        self,
        chapters: dict[str, dict],  # from `measured`
        machine: Machine,
        at_once: int,  # chapters, as make's -j
        slower: Callable[[int], float],  # runs side by side on one machine -> seconds for a second
    ):
        self.chapters, self.machine, self.at_once, self.slower = chapters, machine, at_once, slower
        self.steps = {name: list(c['steps']) for name, c in chapters.items()}
        self.now, self.began, self.ended = 0.0, {}, {}
        self.going: list[Task] = []
        self.line: list[Task] = []

    def run(self) -> dict[str, list[float]]:  # chapter -> [start, end], seconds
        while len(self.ended) < len(self.chapters):
            while self.go_on() or self.begin():
                pass
            self.give_cores()
            self.pass_time()
        return {name: [round(self.began[name], 1), round(self.ended[name], 1)] for name in self.chapters}

    def begin(self) -> bool:
        "Starts the next chapter whose predecessors have ended."
        for name, chapter in self.chapters.items():
            is_free = len(self.began) - len(self.ended) < self.at_once
            if name not in self.began and is_free and all(a in self.ended for a in chapter['after']):
                self.began[name] = self.now
                return True
        return False

    def go_on(self) -> bool:
        "Takes the next step of a chapter that has nothing to do, or ends it."
        busy = {task.chapter for task in self.going + self.line}
        for name in [n for n in self.began if n not in self.ended and n not in busy]:
            if not self.steps[name]:
                self.ended[name] = self.now
                return True
            kind, seconds = self.steps[name].pop(0)
            if kind == 'serial' or kind == 'alone' and self.machine.workers:
                self.going.append(Task(name, 'serial', seconds))
            else:
                self.line += [Task(name, kind, s) for s in np.atleast_1d(seconds)]
            return True
        return False

    def give_cores(self):
        "Lets the first in line go while there is room."
        slots = self.machine.workers or self.machine.cores
        while self.line:
            held = [task.kind for task in self.going if task.kind != 'serial']
            most = 1 if self.line[0].kind == 'alone' else slots
            if 'alone' in held or len(held) >= most:
                return
            self.going.append(self.line.pop(0))
            if self.machine.workers:
                self.going[-1].left += SEND

    def speed(self, task: Task) -> float:
        "How much of one core's work a task does in a second."
        away = [t for t in self.going if self.machine.workers and t.kind == 'runs']
        if task in away:
            return 1 / self.slower(-(-len(away) // MACHINES))
        here, cores = len(self.going) - len(away), self.machine.cores
        return min(1, cores / here) / self.slower(min(here, cores))

    def pass_time(self):
        "Goes to the moment at which the next task ends."
        if not self.going:
            return
        speeds = [self.speed(task) for task in self.going]
        step = min(task.left / speed for task, speed in zip(self.going, speeds))
        self.now += step
        for task, speed in zip(self.going, speeds):
            task.left -= step * speed
        self.going = [task for task in self.going if task.left > 1e-6]


def measured_slowdown() -> Callable[[int], float]:
    "How runs side by side slow each other, against two of them: as measured on sixteen cores, and no more."
    machines = read_json(ROOT / 'figures' / 'esc50-10' / 'devices.json')['machines']
    by_jobs = next(m['epoch_by_jobs_s'] for m in machines if len(m['epoch_by_jobs_s']) > 2)
    jobs, seconds = [int(n) for n in by_jobs], list(by_jobs.values())
    two = np.interp(MEASURED_ON, jobs, seconds)
    return lambda n: float(np.interp(n, jobs, seconds) / two)


def minutes(spans: dict[str, list[float]]) -> float:
    return round(max(end for _, end in spans.values()) / 60, 1)


def longest_chain(chapters: dict[str, dict]) -> dict:
    "The chapters that wait for each other longest, if there are cores for everybody."
    spans = Schedule(chapters, Machine(10**6), MANY, lambda n: 1.0).run()
    name = max(spans, key=lambda n: spans[n][1])
    chain = [name]
    while chapters[name]['after']:
        name = max(chapters[name]['after'], key=lambda n: spans[n][1])
        chain.insert(0, name)
    return {'chapters': chain, 'minutes': minutes(spans)}


def answers(chapters: dict[str, dict]) -> dict:
    "Minutes of `make reproduce` by cores, on a cluster, and without an end of cores."
    missing = [name for name in makefile_chapters() if name not in chapters]
    slower, found = measured_slowdown(), {'not_measured': missing, 'minutes': {}}
    for words, at_once in (('two chapters at once', 2), ('all chapters at once', MANY)):
        spans = {n: Schedule(chapters, Machine(n), at_once, slower).run() for n in CORES}
        found['minutes'][words] = {str(n): minutes(s) for n, s in spans.items()}
    machine = Machine(MEASURED_ON, MACHINES * EACH)
    cluster = minutes(Schedule(chapters, machine, MANY, slower).run())
    found['cluster'] = {'machines': MACHINES, 'cores_of_each': EACH, 'send_s': SEND, 'minutes': cluster}
    by_cores = found['minutes']['all chapters at once']
    enough = [int(n) for n, m in by_cores.items() if m <= 1.05 * min(by_cores.values())]
    found |= {'enough_cores': min(enough), 'longest_chain': longest_chain(chapters)}
    found['spans'] = Schedule(chapters, Machine(min(enough)), MANY, slower).run()
    twice = Schedule(chapters, Machine(MEASURED_ON), 2, slower).run()
    found['check'] = {}
    for name in [name for name, c in chapters.items() if c['is_whole']]:
        simulated = round(twice[name][1] - twice[name][0], 1)
        found['check'][name] = {'measured_s': chapters[name]['measured_s'], 'simulated_s': simulated}
    return found


# ---- the picture ----


def draw(found: dict):
    "Minutes by cores, and when each chapter goes where there are enough of them."
    fig, (a, b) = new_figure(1, 2, size=(12, 4), width_ratios=[1, 1.2])
    for (words, by_cores), mark, color in zip(found['minutes'].items(), 'os', PALETTE):
        a.plot([int(n) for n in by_cores], list(by_cores.values()), f'{mark}-', color=color, label=words)
    cluster, chain = found['cluster'], found['longest_chain']
    n = cluster['machines'] * cluster['cores_of_each']
    a.plot(n, cluster['minutes'], 'D', color=PALETTE[3], label=f'a cluster of {n} workers')
    a.axhline(chain['minutes'], color='black', ls=':', label='the longest chain')
    n, missing = len(found['chapters']), len(found['not_measured'])
    title = f'{n} of {n + missing} chapters' if missing else 'all chapters'
    a.set(xscale='log', yscale='log', xlabel='cores', ylabel='make reproduce (min)', title=title)
    a.set_xticks(CORES, CORES)
    a.minorticks_off()
    slowest = max(max(by_cores.values()) for by_cores in found['minutes'].values())
    ticks = [t for t in (30, 60, 120, 240, 480, 960) if t < 1.2 * slowest]
    a.set_yticks(ticks, ticks)
    a.legend()
    for i, (name, (start, end)) in enumerate(found['spans'].items()):
        color = PALETTE[3] if name in chain['chapters'] else PALETTE[5]
        b.barh(i, (end - start) / 60, left=start / 60, color=color)
    b.set_yticks(range(len(found['spans'])), found['spans'])
    b.invert_yaxis()
    b.set(xlabel='minutes from the start', title=f'{found["enough_cores"]} cores (red: the longest chain)')
    save_figure(fig, FILE.with_suffix('.png'))


def main(runs: str = 'runs/full'):
    chapters = read_json(FILE)['chapters'] if runs == 'draw' else measured(Path(runs))
    found = {'chapters': chapters} | answers(chapters)
    write_json(found, FILE)
    draw(found)
    print(json.dumps({k: v for k, v in found.items() if k != 'chapters'}, indent=1))


if __name__ == '__main__':
    try:
        main(*sys.argv[1:])
    except SoundclfError as e:
        sys.exit(str(e))
