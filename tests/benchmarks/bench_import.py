"""How long `import partvision` and `partvision --help` take, in fresh processes, the start of Python included."""
import statistics
import subprocess
import sys
import time
from pathlib import Path

from table import record

RUNS = 7
COMMANDS = {
    'import partvision': ([sys.executable, '-c', 'import partvision'], .3),
    'partvision --help': ([str(Path(sys.executable).with_name('partvision')), '--help'], .6)}


def seconds(command):
    "Wall-clock time of one fresh process."
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == '__main__':
    for name, (command, limit) in COMMANDS.items():
        seconds(command)
        times = [seconds(command) for _ in range(RUNS)]
        median = statistics.median(times)
        record(name, f'{median:.2f} s', f'at most {limit} s', median <= limit, f'median of {RUNS} fresh processes after one to warm the disk, slowest {max(times):.2f} s')
