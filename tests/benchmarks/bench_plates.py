"""How fast plates are generated, how many nobody could read, and how well our reader does on the frozen examination.

    python tests/benchmarks/bench_plates.py speed          plates a second on two processes
    python tests/benchmarks/bench_plates.py line           milliseconds a line, ours beside PP-OCRv6-small's recogniser
    python tests/benchmarks/bench_plates.py exam FOLDER    readers on a folder of plates, whole pictures and straightened boxes
"""
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from partvision.core import progress
from partvision.ocr.engines import engine
from partvision.ocr.read import cer, exact_match, reading_order
from partvision.ocr.recogniser import Recogniser, shipped, straighten, widen
from partvision.synth.marks import line_box, list_fonts
from partvision.synth.plates import read_plates, write_plates
from table import record

READERS = ('partvision', 'rapidocr', 'tesseract')
ASKED = {'stamped': .96, 'dot-peen': .90, 'engraved': .91}


def speed(n=2000):
    "Plates a second, files included."
    with tempfile.TemporaryDirectory() as d:
        list_fonts()
        write_plates(Path(d)/'warm', 64, workers=2) # processes started, shader compiled
        start = time.perf_counter()
        catalog = write_plates(Path(d)/'plates', n, workers=2)
        rate = n/(time.perf_counter() - start)
    record('generated plates a second', f'{rate:.0f}', 'at least 100', rate >= 100, f'{n} plates of 320×96 with mask, text and boxes written to disk, two processes')
    record('generated plates that nobody could read', f"{catalog.attrs['dropped']:.1%}", 'at most 10 %', catalog.attrs['dropped'] <= .1, f'{n} plates of all kinds and surfaces, contrast to noise of the known mask; these are made again')


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


def whole(reader, pictures):
    "Texts of whole pictures."
    return [' '.join(l['text'] for l in reading_order(reader.read(p)) if l['text']) for p in progress(pictures, 'reading')]


def straight(reader, pictures, boxes):
    "Texts of lines that were straightened by the known boxes."
    crops = [Image.fromarray(straighten(np.asarray(p), widen(line_box(b), .15, .15, .12, .12), 48, 640)) for p, b in zip(pictures, boxes)]
    return [reader.read_line(c)['text'] for c in progress(crops, 'straightened')]


def exam(folder):
    "Every reader on every kind; blanks do not count, since the marks of one text have no dependable gaps."
    truth = read_plates(folder)
    pictures = [Image.open(Path(folder)/i).convert('RGB') for i in truth.image]
    def bare(texts): return [''.join(t.split()) for t in texts]
    texts = bare(truth.text)
    on = f"{len(truth)} plates traced by Blender, fonts and surfaces held out from training, frozen seed"
    found = {name: (bare(whole(engine(name), pictures)), bare(straight(engine(name), pictures, truth.boxes))) for name in READERS}
    for name, (w, s) in found.items():
        for kind in (*ASKED, 'all'):
            k = np.flatnonzero((truth.kind == kind) | (kind == 'all'))
            def score(read): return exact_match([texts[i] for i in k], [read[i] for i in k]), cer([texts[i] for i in k], [read[i] for i in k])
            (e, c), (e2, c2) = score(w), score(s)
            target, good = ('', None) if name != 'partvision' else (f'at least {ASKED[kind]:.2f}', e >= ASKED[kind]) if kind in ASKED else ('straightened at least .96', e2 >= .96)
            record(f'plates, {kind}, {name}', f'exact {e:.3f} (CER {c:.3f}); straightened {e2:.3f} ({c2:.3f})', target, good, f'{len(k)} of {on}')


if __name__ == '__main__':
    what, *rest = sys.argv[1:] or ['speed']
    dict(speed=speed, line=line, exam=exam)[what](*rest)
