"""How fast plates are generated, by the fast shader and by Blender, how many nobody could read, and how fast our recogniser reads a line.

    python tests/benchmarks/bench_plates.py speed          plates a second on two processes
    python tests/benchmarks/bench_plates.py blender        seconds a plate that Blender lights, where it is installed
    python tests/benchmarks/bench_plates.py line           milliseconds a line, ours beside PP-OCRv6-small's recogniser
"""
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from partvision.core import PartvisionError
from partvision.ocr.engines import engine
from partvision.ocr.recogniser import Recogniser, shipped
from partvision.synth.blender import find_blender
from partvision.synth.marks import KINDS, list_fonts
from partvision.synth.plates import write_plates
from table import record


def speed(n=6000):
    "Plates a second, files included."
    with tempfile.TemporaryDirectory() as d:
        list_fonts()
        write_plates(Path(d)/'warm', 64, workers=2) # processes started, shader compiled
        start = time.perf_counter()
        catalog = write_plates(Path(d)/'plates', n, workers=2)
        rate = n/(time.perf_counter() - start)
    record('generated plates a second', f'{rate:.0f}', 'at least 100', rate >= 100, f'{n} plates of 320×96 with mask, text and boxes written to disk, two processes')
    record('generated plates that nobody could read', f"{catalog.attrs['dropped']:.1%}", 'at most 10 %', catalog.attrs['dropped'] <= .1, f'{n} plates of all kinds and surfaces, contrast to noise of the known mask; these are made again')


def blender(n=42):
    "Seconds a plate, files and plates that nobody could read included."
    try: find_blender()
    except PartvisionError as e: return print(e)
    with tempfile.TemporaryDirectory() as d:
        write_plates(Path(d)/'warm', 1, renderer='blender')
        start = time.perf_counter()
        write_plates(Path(d)/'plates', n, renderer='blender', kinds=list(KINDS))
        each = (time.perf_counter() - start)/n
    record('plates lit by Blender, time for one', f'{each:.2f} s', 'at most 2 s', each <= 2, f'{n} plates of 320×96, all kinds in turn, start of Blender included')


def line(rounds=200):
    "Milliseconds a line of both recognisers, in turn."
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (48, 432, 3), dtype=np.uint8)) for _ in range(8)]
    ours, theirs, took = Recogniser(threads=2), engine('rapidocr'), ([], [])
    for k in range(rounds):
        for read, times in ((lambda p: ours([p]), took[0]), (theirs.read_line, took[1])):
            start = time.perf_counter()
            read(pictures[k % 8])
            times.append(time.perf_counter() - start)
    a, b = (1000*float(np.median(t[10:])) for t in took)
    size = (shipped()/'recogniser.onnx').stat().st_size/2**20
    record('our recogniser against PP-OCRv6-small, time for a line', f'{b/a:.1f} × faster ({a:.1f} ms and {b:.1f} ms)', 'at least 3 × faster', b/a >= 3, f'{rounds} lines of 432×48, one at a time, in turn, two threads, medians')
    record('our recogniser, size', f'{size:.1f} MB', 'at most 5 MB', size <= 5, 'ONNX file')


if __name__ == '__main__':
    for what in sys.argv[1:] or ['speed', 'blender', 'line']: dict(speed=speed, blender=blender, line=line)[what]()
