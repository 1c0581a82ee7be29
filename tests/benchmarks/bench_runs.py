"""How long the store of runs keeps people waiting when ten thousand runs are in it: the list of them, and a batch that has nothing to do.

One run is computed, the others are written as a batch would have left them. Each figure is the median of fresh processes, the start of Python included.
"""
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from table import record

N, RUNS = 10_000, 7
CALL = [sys.executable, '-c', 'import sys; from partvision.cli import main; sys.exit(main())']


def fill(root):
    "A workspace with N finished runs, and the batch file that asks for them."
    from partvision.experiments import execute_run, identify, plan, tiny_workspace
    batch = dict(name='many', runs=[dict(notebook='dice', grid=dict(sides=[6, 8], seed=list(range(N//2))))])
    first, *others = identify(plan(batch, tiny_workspace(root)), root)
    execute_run(first, root)
    runs = root/'reports'/'runs'
    made = {f.name: f.read_bytes() for f in (runs/first['id']).iterdir()}
    for run in others:
        files = dict(made, **{'run.json': json.dumps(dict(json.loads(made['run.json']), id=run['id'], identity=run['identity'])).encode(),
                              'params.yaml': yaml.safe_dump(run['params'], sort_keys=False).encode()})
        (runs/run['id']).mkdir()
        for name, content in files.items(): (runs/run['id']/name).write_bytes(content)
    (root/'many.yml').write_text(yaml.safe_dump(batch))


def seconds(root, *args):
    "Wall time of one call, and what it printed."
    began = time.perf_counter()
    done = subprocess.run([*CALL, *args], cwd=root, check=True, capture_output=True, text=True, env=dict(os.environ, TQDM_DISABLE='1'))
    return time.perf_counter() - began, done.stdout


def processor():
    "Seconds of processor time that finished child processes have used."
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as d:
        fill(Path(d))
        anew, listed = seconds(d, 'runs')
        if len(listed.splitlines()) != N: sys.exit(f'of {N} runs {len(listed.splitlines())} are listed')
        for name, args, limit in ((f'partvision runs with {N:,} runs', ['runs'], 1), (f'a batch of {N:,} runs with nothing to do', ['run', 'many.yml'], 2)):
            before = processor()
            times = [seconds(d, *args)[0] for _ in range(RUNS)]
            took, cpu = statistics.median(times), (processor() - before)/RUNS
            record(name, f'{took:.2f} s', f'at most {limit} s', took <= limit,
                   f'median of {RUNS} fresh processes, longest {max(times):.2f} s, {cpu:.2f} s of processor time; the table of runs made anew from the folders took {anew:.1f} s; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores')
