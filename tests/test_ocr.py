"""What reading promises: both engines answer in one form, rows come in reading order, and a broken picture or a crashing engine costs one answer."""
import csv
import os
import shutil
import time

import pytest
from PIL import Image

from partvision.core import PartvisionError, shared_data
from partvision.ocr import engines
from partvision.ocr.engines import Tesseract, engine
from partvision.ocr.read import cer, exact_match, read, reading_order
from partvision.test_utils import draw_plate

SERIAL = 'SN 7041-22938'


@pytest.fixture(params=['rapidocr', 'tesseract'])
def name(request):
    "Each engine that this machine has."
    if request.param == 'tesseract' and not shutil.which('tesseract'): pytest.skip('the program tesseract is not installed')
    if request.param == 'rapidocr': pytest.importorskip('rapidocr')
    return request.param


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    "Puts a program named tesseract first in PATH that does what it is told, asked for its version too if `always`."
    pytest.importorskip('pytesseract')
    folder = tmp_path/'bin'
    folder.mkdir()
    monkeypatch.setenv('PATH', f"{folder}{os.pathsep}{os.environ['PATH']}")
    def write(does, always=False):
        version = '' if always else '[ "$1" = --version ] && echo "tesseract 5.3.0" && exit\n'
        (folder/'tesseract').write_text(f'#!/bin/sh\n{version}{does}\n')
        (folder/'tesseract').chmod(0o755)
    return write


def box_at(x, y, w=40, h=10): return [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]


def line_at(text, x, y): return dict(text=text, confidence=.9, box=box_at(x, y))


def test_both_engines_answer_in_one_form(name):
    plate = draw_plate(['PUMP TYPE 4A', SERIAL])
    lines = engine(name).read(plate)
    assert lines
    for line in lines:
        assert set(line) == {'text', 'confidence', 'box'} and isinstance(line['text'], str) and 0 <= line['confidence'] <= 1
        assert len(line['box']) == 4 and all(-1 <= x <= plate.width + 1 and -1 <= y <= plate.height + 1 for x, y in line['box'])
    assert SERIAL in ' '.join(l['text'] for l in reading_order(lines))


def test_both_engines_read_one_line(name):
    line = engine(name).read_line(draw_plate([SERIAL]))
    assert line['text'] == SERIAL and .5 < line['confidence'] <= 1


@pytest.mark.parametrize('size', [(1, 1), (3, 200), (200, 3)])
def test_pictures_without_room_for_text_give_no_confident_text(name, size):
    engine_, picture = engine(name), Image.new('RGB', size, 'grey')
    try: answers = [*engine_.read(picture), engine_.read_line(picture)]
    except PartvisionError as e: assert name in str(e)
    else: assert all(a['confidence'] < .8 for a in answers)


def test_rapidocr_needs_no_network(monkeypatch):
    "The first reading of a fresh engine, with every way out closed."
    pytest.importorskip('rapidocr')
    import socket
    def refuse(*args, **kw): raise AssertionError('the network was asked')
    monkeypatch.setattr(socket.socket, 'connect', refuse)
    assert ' '.join(l['text'] for l in reading_order(engines.Rapid().read(draw_plate([SERIAL])))) == SERIAL


def test_rapidocr_says_nothing_of_its_own(capfd):
    pytest.importorskip('rapidocr')
    fresh = engines.Rapid()
    fresh.read(draw_plate([' '*12]))
    assert capfd.readouterr() == ('', '')


def test_rows_from_top_to_bottom_and_left_to_right():
    pieces = [line_at('d', 60, 41), line_at('b', 60, 8), line_at('c', 0, 40), line_at('a', 0, 10)]
    assert [l['text'] for l in reading_order(pieces)] == ['a', 'b', 'c', 'd']
    assert reading_order([]) == [] and reading_order(pieces[:1]) == pieces[:1]


def test_the_least_certain_line_counts(tmp_path, monkeypatch):
    class Two:
        def read(self, picture): return [line_at('below', 0, 40) | dict(confidence=.4), line_at('above', 0, 0)]
    monkeypatch.setitem(engines.ENGINES, 'two', Two)
    draw_plate(['x']).save(tmp_path/'a.png')
    [answer] = read([tmp_path/'a.png'], 'two')
    assert (answer['text'], answer['confidence'], len(answer['lines'])) == ('above below', .4, 2) and 'error' not in answer


def test_broken_pictures_cost_one_answer_each(tmp_path, name):
    draw_plate([SERIAL]).save(tmp_path/'good.png')
    (tmp_path/'cut.png').write_bytes((tmp_path/'good.png').read_bytes()[:400])
    Image.new('RGB', (300, 100), 'grey').save(tmp_path/'bare.png')
    before = (tmp_path/'good.png').read_bytes()
    answers = read([tmp_path/f for f in ('cut.png', 'gone.png', 'bare.png', 'good.png')], name, line=True)
    assert [a['image'] for a in answers] == [str(tmp_path/f) for f in ('cut.png', 'gone.png', 'bare.png', 'good.png')]
    assert 'cut.png' in answers[0]['error'] and 'does not exist' in answers[1]['error']
    assert answers[3]['text'] == SERIAL and 'error' not in answers[3]
    assert all((a['text'], a['confidence'], a['lines']) == ('', 0, []) for a in answers[:2])
    assert (tmp_path/'good.png').read_bytes() == before


@pytest.mark.parametrize('does, says', [('kill -FPE $$', 'crashed with signal 8'), ('echo no such language >&2; exit 1', 'no such language'), ('exec sleep 60', 'did not finish within 0.5 s')])
def test_tesseract_that_fails_costs_one_answer(tmp_path, monkeypatch, stand_in, does, says):
    stand_in(does)
    monkeypatch.setitem(engines.ENGINES, 'stand-in', lambda: Tesseract(seconds=.5))
    for f in ('a.png', 'b.png'): draw_plate([SERIAL]).save(tmp_path/f)
    engines._made.cache_clear()
    start = time.monotonic()
    answers = read([tmp_path/'a.png', tmp_path/'b.png'], 'stand-in')
    assert time.monotonic() - start < 10
    for a, f in zip(answers, ('a.png', 'b.png')):
        assert says in a['error'] and f in a['error'] and '\n' not in a['error'] and (a['text'], a['confidence']) == ('', 0)


@pytest.mark.parametrize('does', ['kill -FPE $$', 'exit 1', 'exec sleep 20'])
def test_tesseract_that_cannot_even_tell_its_version(stand_in, does):
    stand_in(does, always=True)
    start = time.monotonic()
    with pytest.raises(PartvisionError, match='tesseract'): Tesseract(seconds=.5).read(draw_plate([SERIAL]))
    assert time.monotonic() - start < 10


def test_unknown_engine_names_the_nearest(tmp_path):
    with pytest.raises(PartvisionError, match="did you mean 'rapidocr'"): read([tmp_path/'a.png'], 'rapidcor')


def test_measures():
    truths, texts = ['SN 7041', 'B55-10', 'LOT 9'], ['SN  7041', '855-10', '']
    assert exact_match(truths, texts) == pytest.approx(1/3) and cer(truths, texts) == pytest.approx(6/18)
    with pytest.raises(PartvisionError): cer(truths, texts[:2])


def test_real_dot_matrix_strings():
    "Five real strings: most characters are right."
    pytest.importorskip('rapidocr')
    root = shared_data('dot_matrix')
    if root is None: pytest.skip('the shared data is not on this machine')
    with open(root/'labels.csv', encoding='utf-8') as f: rows = list(csv.DictReader(f))[:5]
    answers = read([root/r['file'] for r in rows], line=True)
    assert cer([r['text'] for r in rows], [a['text'] for a in answers]) < .15
