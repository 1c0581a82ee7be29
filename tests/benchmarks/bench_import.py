"""How long `import partvision` and `partvision --help` take, in fresh processes, the start of Python included.

An empty Python process is timed in turn with them: where even that is slow, the machine is busy and the figure says little.
"""
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from table import record

RUNS = 7
EMPTY = [sys.executable, '-c', 'pass']
COMMANDS = {
    'import partvision': ([sys.executable, '-c', 'import partvision'], .3),
    'partvision --help': ([str(Path(sys.executable).with_name('partvision')), '--help'], .6)}


def seconds(command):
    "Wall-clock and processor time of one fresh process."
    used = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    start, before = time.perf_counter(), used()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, used() - before


if __name__ == '__main__':
    for name, (command, limit) in COMMANDS.items():
        seconds(command)
        times = [(*seconds(command), *seconds(EMPTY)) for _ in range(RUNS)]
        wall, cpu, empty, _ = map(statistics.median, zip(*times))
        record(name, f'{wall:.2f} s', f'at most {limit} s', wall <= limit,
               f'median of {RUNS} fresh processes after one to warm the disk; {cpu:.2f} s of processor time, an empty Python takes {empty:.2f} s, load {os.getloadavg()[0]:.0f}')
