"""The part number on real chips, found in the whole photo at any rotation.

    python tests/benchmarks/bench_chips.py [N]   `read` with our engine and with RapidOCR's networks, beside RapidOCR as it comes: N photos drawn at random (default 220)
"""
import csv
import random
import sys
import time

from partvision.core import open_picture, progress, shared_data
from partvision.ocr.engines import engine
from partvision.ocr.read import read, reading_order
from table import record


def rows():
    "The table of labels, and where its pictures lie."
    root = shared_data('ic_chips')
    if root is None: sys.exit('the set ic_chips is not on this machine; name the place of the data with PARTVISION_SHARED')
    with open(root/'labels.csv', encoding='utf-8') as f: return root, list(csv.DictReader(f))


def found(labels, texts):
    "Share of pictures in whose text the part number stands; blanks do not count."
    return sum(label in ''.join(text.split()) for label, text in zip(labels, texts))/len(labels)


def as_it_comes(paths):
    "What RapidOCR reads in whole pictures without any help."
    return [' '.join(l['text'] for l in reading_order(engine('rapidocr').read(open_picture(path)))) for path in progress(paths, 'rapidocr as it comes')]


def timed(f, *args):
    "The texts, and seconds a picture."
    start = time.perf_counter()
    texts = f(*args)
    return texts, (time.perf_counter() - start)/len(texts)


def chosen(n):
    "Half of the photos from each camera where there are as many."
    root, table = rows()
    random.Random(0).shuffle(table)
    first, second = ([r for r in table if r['camera'] == c] for c in ('mv_gray', 'rgb_cam'))
    second = second[:n//2]
    some = first[:n - len(second)] + second
    return [root/'crops'/r['file'] for r in some], [r['label'] for r in some], len(second)


def measure(n=220):
    "The rows of the table."
    paths, labels, second = chosen(n)
    theirs, their_s = timed(as_it_comes, paths)
    for name in ('partvision', 'rapidocr'):
        engine(name)
        texts, s = timed(lambda: [a['text'] for a in read(paths, name)])
        share = found(labels, texts)
        record(f'read --engine {name}: part number found', f'{share:.3f}, {s:.2f} s a picture (RapidOCR as it comes {found(labels, theirs):.3f}, {their_s:.2f} s)', 'at least .98', share >= .98,
               f'{len(labels)} photos of chips drawn at random, {second} of them by the second camera, any rotation')


if __name__ == '__main__': measure(*map(int, sys.argv[1:]))
