"""How many pictures of generated parts are taken in a second: whole scenes, written as JPEG, catalog included.

    python tests/benchmarks/bench_synth.py          a hundredth to a fifth of the full set, extrapolated
    python tests/benchmarks/bench_synth.py --full   12 classes × 25 parts × 8 views
"""
import os
import sys
import tempfile
import time

from partvision.synth.parts import make_parts, take

from table import record

FULL = 12*25*8
LIMIT = 360


def measure(parts, views, workers):
    "Pictures and seconds of one run."
    with tempfile.TemporaryDirectory() as d:
        start = time.perf_counter()
        n = len(make_parts(f'{d}/parts', classes=12, parts=parts, views=views, workers=workers))
        return n, time.perf_counter() - start


def main(full=False, workers=2):
    "Compile first, then measure; the table gets the time of the full set."
    start = time.perf_counter()
    take('hex_nut', 0, 0)
    first = time.perf_counter() - start
    n, seconds = measure(*((25, 8) if full else (5, 8)), workers)
    whole = seconds*FULL/n
    record('generated parts, 12 classes × 25 parts × 8 views', f'{whole/60:.1f} min', f'at most {LIMIT//60} min', whole <= LIMIT,
           f"{n} pictures of 224 px in {seconds:.0f} s on {workers} processes{'' if full else ', extrapolated'}; load {os.getloadavg()[0]:.1f}; the first picture {first:.1f} s")
    return dict(pictures=n, seconds=round(seconds, 1), per_second=round(n/seconds, 2), first_picture=round(first, 1), workers=workers)


if __name__ == '__main__': print(main('--full' in sys.argv))
