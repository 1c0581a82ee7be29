"""How well and how fast each OCR engine reads, as it comes and with clean-up: real dot-matrix strings, the part number on real chips, and generated plates.

    python tests/benchmarks/bench_ocr.py                   RapidOCR and Tesseract, as they come and with what the search for a clean-up liked best
    python tests/benchmarks/bench_ocr.py rapidocr easyocr  these engines
    python tests/benchmarks/bench_ocr.py --tune tesseract  search a pipeline for this engine on generated plates, and print it

Real and generated pictures are never mixed in one figure. The plates that a pipeline is tuned on are others than those it is measured on, and no real picture is used for tuning.
"""
import argparse
import csv
import os
import shutil
import sys
import time

from partvision.core import cache_dir, open_picture, progress, shared_data, to_json
from partvision.ocr.engines import engine
from partvision.ocr.preprocess import tune_steps
from partvision.ocr.read import cer, exact_match, reading_order
from partvision.synth.marks import KINDS
from partvision.synth.plates import read_plates, write_plates
from table import record

CHARSET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-./:# '
OPTIONS = dict(tesseract=dict(charset=CHARSET)) # what each engine is told
SEARCHED = dict(rapidocr=['trim', 'flatten'], tesseract='tesseract') # what the search liked best on plates for tuning, taken or not
TUNING, EXAM = dict(n=42, seed=101), dict(n=150, seed=202)


def rows(name):
    "The table of labels of a data set, and where its pictures lie."
    root = shared_data(name)
    if root is None: sys.exit(f'the set {name} is not on this machine; name the place of the data with PARTVISION_SHARED')
    with open(root/'labels.csv', encoding='utf-8') as f: return root, list(csv.DictReader(f))


def strings():
    "Pictures of the real dot-matrix strings, and what is written there."
    root, table = rows('dot_matrix')
    return [open_picture(root/r['file']) for r in table], [r['text'] for r in table]


def chips(n=100):
    "Every so many of the real chips, part numbers and cameras as they are mixed in the set."
    root, table = rows('ic_chips')
    chosen = table[::len(table)//n][:n]
    return [open_picture(root/'crops'/r['file']) for r in chosen], [r['label'] for r in chosen]


def plates(n, seed):
    "Generated plates of all kinds of mark in turn, made once and kept."
    folder = cache_dir()/'bench_ocr'/f'plates_{n}_{seed}'
    write_plates(folder, n, seed, kinds=list(KINDS))
    table = read_plates(folder)
    return [open_picture(folder/image) for image in table['image']], list(table['text'])


def timed(read, pictures, desc):
    "What is read in each picture, and ms a picture; what cannot be read counts as nothing."
    start, texts = time.perf_counter(), []
    for picture in progress(pictures, desc):
        try: texts.append(read(picture))
        except ValueError: texts.append('')
    return texts, 1000*(time.perf_counter() - start)/len(pictures)


def whole(chosen):
    "From a picture to all text in it."
    return lambda picture: ' '.join(l['text'] for l in reading_order(chosen.read(picture)))


def found(labels, texts):
    "Share of texts in which the part number stands; blanks do not count."
    return sum(label in ''.join(text.split()) for label, text in zip(labels, texts))/len(labels)


def pace(ms):
    "The time a picture took, unless others kept the machine busy."
    return f', {ms:.0f} ms each' if os.getloadavg()[0] < 1.5*os.cpu_count() else ''


def measure_lines(name, steps):
    "How well an engine reads lines with one pipeline, written into the table."
    told = ', told which characters can stand there' if name in OPTIONS else ''
    chosen, how = engine(name, steps, **OPTIONS.get(name, {})), 'clean-up tuned on other generated plates' if steps else 'as it comes'
    for what, (pictures, truths) in (('real dot-matrix strings', strings()), ('generated plates', plates(**EXAM))):
        texts, ms = timed(lambda p: chosen.read_line(p)['text'], pictures, f'{name}, {what}')
        record(f'{name}, {how}: {what}', f'exact {exact_match(truths, texts):.2f}, CER {cer(truths, texts):.3f}{pace(ms)}', 'for comparison', None,
               f'{len(truths)} {what}, each picture given as one line{told}')


def measure_photos(name, steps):
    "How often an engine finds the part number in a whole photo, with one pipeline, written into the table."
    pictures, labels = chips()
    texts, ms = timed(whole(engine(name, steps, **OPTIONS.get(name, {}))), pictures, f'{name}, chips')
    record(f"{name}, {f'clean-up {steps!r}' if steps else 'as it comes'}: part number found", f'{found(labels, texts):.2f}{pace(ms)}', 'for comparison', None,
           f'{len(labels)} real photos of chips, text found in the whole crop')


def tune(name):
    "Search a pipeline for an engine on generated plates, and print it."
    pictures, texts = plates(**TUNING)
    print(to_json(tune_steps(pictures, texts, engine(name, **OPTIONS.get(name, {})), out=cache_dir()/'bench_ocr'/f'tune_{name}.json')))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('engines', nargs='*', default=['rapidocr', *(['tesseract'] if shutil.which('tesseract') else [])])
    parser.add_argument('--tune', action='store_true', help='search a pipeline instead of measuring')
    a = parser.parse_args()
    for name in a.engines:
        if a.tune: tune(name)
        else:
            for steps in [None, SEARCHED[name]] if name in SEARCHED else [None]: measure_lines(name, steps)
            for steps in (None, 'faint'): measure_photos(name, steps)
