"""How well and how fast each OCR engine reads real pictures: dot-matrix strings, and the part number on chips.

    python tests/benchmarks/bench_ocr.py      all strings, and 60 chips, four of each part number
"""
import csv
import shutil
import sys
import time

from partvision.core import shared_data, to_json
from partvision.ocr.engines import engine
from partvision.ocr.read import cer, exact_match, read
from table import record

ENGINES = ('rapidocr', 'tesseract')


def rows(name):
    "The table of labels of a data set, and where its pictures lie."
    root = shared_data(name)
    if root is None: sys.exit(f'the set {name} is not on this machine; name the place of the data with PARTVISION_SHARED')
    with open(root/'labels.csv', encoding='utf-8') as f: return root, list(csv.DictReader(f))


def chips(each):
    "Paths and part numbers of the first `each` crops of every part number."
    root, table = rows('ic_chips')
    chosen = [r for k, r in enumerate(table) if sum(s['label'] == r['label'] for s in table[:k]) < each]
    return [root/'crops'/r['file'] for r in chosen], [r['label'] for r in chosen]


def found(labels, answers):
    "Share of pictures in whose text the part number stands; blanks do not count."
    return sum(label in ''.join(a['text'].split()) for label, a in zip(labels, answers))/len(labels)


def timed(*args, **kw):
    "The answers, and seconds a picture."
    start = time.perf_counter()
    answers = read(*args, **kw)
    return answers, (time.perf_counter() - start)/len(answers)


def measure(name, each=4):
    "All figures of one engine, as a dict."
    engine(name) # loading its networks is no part of reading
    root, table = rows('dot_matrix')
    paths, truths = [root/r['file'] for r in table], [r['text'] for r in table]
    lines, line_s = timed(paths, name, line=True)
    whole, _ = timed(paths, name)
    pictures, labels = chips(each)
    answers, chip_s = timed(pictures, name)
    texts, whole = [a['text'] for a in lines], [a['text'] for a in whole]
    return dict(engine=name, strings=len(paths), exact=exact_match(truths, texts), cer=cer(truths, texts), exact_whole=exact_match(truths, whole), cer_whole=cer(truths, whole),
                ms_a_line=1000*line_s, chips=len(labels), part_number_found=found(labels, answers), s_a_chip=chip_s)


if __name__ == '__main__':
    for name in [n for n in ENGINES if n != 'tesseract' or shutil.which('tesseract')]:
        m = measure(name)
        print(to_json(m))
        record(f'{name}: strings read without error', f"{m['exact']:.2f} (CER {m['cer']:.3f}), {m['ms_a_line']:.0f} ms a line", 'an engine as it comes', None,
               f"{m['strings']} real dot-matrix strings, given as lines")
        record(f'{name}: part number found', f"{m['part_number_found']:.2f}, {m['s_a_chip']:.2f} s a picture", 'an engine as it comes', None,
               f"{m['chips']} photos of chips, {m['chips']//15} of each part number, detection included")
