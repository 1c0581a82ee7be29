"""The table of benchmark figures: one row a figure, `table.json` for programs and `table.md` for people.

A benchmark calls `record`; running one again replaces its row. `python tests/benchmarks/table.py` prints the table.
"""
import fcntl
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
MARKS = {True: 'yes', False: '**no**', None: ''}


def rows():
    "What has been recorded, by name."
    file = HERE/'table.json'
    return json.loads(file.read_text(encoding='utf-8')) if file.exists() else {}


def as_markdown(recorded):
    "The table, as it stands in `table.md`."
    lines = ['| what | measured | target | reached | on |', '|---|---|---|---|---|']
    lines += [f"| {name} | {r['measured']} | {r['target']} | {MARKS[r['reached']]} | {r['on']} |" for name, r in sorted(recorded.items())]
    return '\n'.join(lines) + '\n'


def record(
    name,     # what is measured, in words; the key of the row
    measured, # the figure, with its unit
    target,   # what it should be, in words
    reached,  # whether it is; None where there is nothing to reach, as for a peer's figure
    on        # data and conditions that it was measured on
):
    "Put one figure into the table, and print it."
    with open(__file__) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        recorded = rows()
        recorded[name] = dict(measured=measured, target=target, reached=None if reached is None else bool(reached), on=on)
        for file, text in (('table.json', json.dumps(dict(sorted(recorded.items())), indent=1, ensure_ascii=False) + '\n'), ('table.md', as_markdown(recorded))):
            (HERE/f'{file}.tmp').write_text(text, encoding='utf-8')
            (HERE/f'{file}.tmp').replace(HERE/file)
    verdict = {True: 'reached', False: 'NOT reached', None: 'for comparison'}[recorded[name]['reached']]
    print(f"{name}: {measured} ({target}; {verdict}; {on})")


if __name__ == '__main__': sys.stdout.write(as_markdown(rows()))
