"""What reading promises: all engines answer in one form, rows come in reading order, a broken picture or a crashing engine costs one answer, and clean-up never breaks what it gets."""
import csv
import json
import math
import os
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from partvision.core import PartvisionError, shared_data
from partvision.ocr import engines
from partvision.ocr.engines import Ours, Rapid, Tesseract, engine
from partvision.ocr.preprocess import PIPELINES, STEPS, as_steps, clean, clean_placed, load_steps, save_steps, tune_steps
from partvision.ocr.find import find_lines, read_lines, straighten
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
    "Puts a program named tesseract first in PATH that does what it is told, asked for its languages too if `always`."
    folder = tmp_path/'bin'
    folder.mkdir()
    monkeypatch.setenv('PATH', f"{folder}{os.pathsep}{os.environ['PATH']}")
    def write(does, always=False):
        languages = '' if always else '[ "$1" = --list-langs ] && echo eng && exit\n'
        (folder/'tesseract').write_text(f'#!/bin/sh\n{languages}{does}\n')
        (folder/'tesseract').chmod(0o755)
    return write


def box_at(x, y, w=40, h=10): return [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]


def line_at(text, x, y): return dict(text=text, confidence=.9, box=box_at(x, y))


def test_both_engines_answer_in_one_form(name):
    plate = draw_plate(['PUMP TYPE 4A', SERIAL])
    lines = engine(name).read(plate)
    assert lines
    for line in lines:
        assert set(line) == {'text', 'confidence', 'box', 'chars'} and isinstance(line['text'], str) and 0 <= line['confidence'] <= 1
        assert ''.join(c['text'] for c in line['chars']) == line['text'] and all(0 <= c['confidence'] <= 1 for c in line['chars'])
        for box in [line['box'], *(c['box'] for c in line['chars'] if c['text'] != ' ')]:
            assert len(box) == 4 and all(-1 <= x <= plate.width + 1 and -1 <= y <= plate.height + 1 for x, y in box)
        starts = [c['box'][0][0] for c in line['chars'] if c['text'] != ' ']
        assert starts == sorted(starts)
    assert SERIAL in ' '.join(l['text'] for l in reading_order(lines))


def test_both_engines_read_one_line(name):
    line = engine(name).read_line(draw_plate([SERIAL]))
    assert line['text'] == SERIAL and .5 < line['confidence'] <= 1
    assert ''.join(c['text'] for c in line['chars']) == SERIAL and 'box' not in line


@pytest.mark.parametrize('size', [(1, 1), (3, 200), (200, 3), (300, 1), (1, 300)])
def test_pictures_without_room_for_text_give_no_confident_text(name, size):
    engine_, picture = engine(name), Image.new('RGB', size, 'grey')
    try: answers = [*engine_.read(picture), engine_.read_line(picture)]
    except PartvisionError as e: assert name in str(e)
    else: assert all(a['confidence'] < .8 for a in answers)


@pytest.mark.parametrize('turn', [0, 90, 180, 270, 30, 210])
def test_rapidocr_begins_each_line_where_its_text_begins(turn):
    "So rows come in order however the plate lies."
    pytest.importorskip('rapidocr')
    plate = draw_plate(['PUMP TYPE 4A', SERIAL, 'MADE IN 2026']).rotate(turn, expand=True, fillcolor=(120, 120, 120))
    lines = reading_order(engine('rapidocr').read(plate))
    assert [l['text'].replace(' ', '') for l in lines] == ['PUMPTYPE4A', SERIAL.replace(' ', ''), 'MADEIN2026']
    for l in lines:
        first, last = (np.mean(next(c['box'] for c in chars if 'box' in c), axis=0) for chars in (l['chars'], l['chars'][::-1]))
        (x0, y0), (x1, y1) = l['box'][:2]
        assert np.dot(last - first, [x1 - x0, y1 - y0]) > 0


def crowded(n=500):
    "A photo with `n` short lines of text."
    photo = Image.new('RGB', (1600, 1300), 'white')
    draw, font = ImageDraw.Draw(photo), ImageFont.load_default(14)
    for k in range(n): draw.text((20 + k % 10*155, 10 + k//10*25), f'SN {k:04d}-{k*37 % 1000:03d}', fill=0, font=font)
    return photo


@pytest.mark.parametrize('maker', [lambda: Rapid(seconds=4), lambda: Tesseract(seconds=4), Ours], ids=['rapidocr', 'tesseract', 'partvision'])
def test_hundreds_of_lines_give_an_answer_or_a_sentence_in_time(maker):
    try: crowd = maker()
    except PartvisionError as e: pytest.skip(str(e))
    start = time.monotonic()
    try: assert len(crowd.read(crowded())) > 400
    except PartvisionError as e: assert ' 4 s' in str(e) and '\n' not in str(e)
    assert time.monotonic() - start < 60 # finding them is not counted by RapidOCR's limit


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


def test_the_next_engine_is_asked_where_one_fails(tmp_path, stand_in):
    pytest.importorskip('rapidocr')
    stand_in('kill -FPE $$')
    draw_plate([SERIAL]).save(tmp_path/'a.png')
    engines._made.cache_clear()
    [answer] = read(tmp_path/'a.png', 'tesseract+rapidocr')
    assert answer['text'] == SERIAL and 'error' not in answer
    [answer] = read(tmp_path/'a.png', 'tesseract+tesseract')
    assert 'a.png' in answer['error'] and 'signal 8' in answer['error'] and answer['text'] == ''


def test_missing_language_pack():
    if not shutil.which('tesseract'): pytest.skip('the program tesseract is not installed')
    with pytest.raises(PartvisionError, match='no language pack .kli.; install it .*tesseract-ocr-kli'): Tesseract(language='eng+kli')


@pytest.mark.parametrize('charset', ['0123456789', '"\'-./ 07', '§'])
def test_a_charset_is_heeded_whatever_is_in_it(charset):
    if not shutil.which('tesseract'): pytest.skip('the program tesseract is not installed')
    text = Tesseract(charset=charset).read_line(draw_plate([SERIAL]))['text']
    assert set(text) <= set(charset) | {' '}


def test_our_reader_gives_the_next_best_of_what_is_allowed():
    strip = draw_plate(['10B0S']).crop((0, 4, 240, 60))
    assert Ours(charset='0123456789').read_line(strip)['text'].isdigit()


@pytest.fixture
def azure(monkeypatch):
    "A server that answers in the documented shape as it is told; what the engine azure talks to."
    pytest.importorskip('azure.ai.vision.imageanalysis')
    answers = []
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers['Content-Length']))
            status, body = answers.pop(0)
            self.send_response(status)
            self.send_header('Content-Type', 'application/json')
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())
        def log_message(self, *args): pass
    server = HTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv('AZURE_VISION_ENDPOINT', f'http://127.0.0.1:{server.server_port}')
    monkeypatch.setenv('AZURE_VISION_KEY', 'a key')
    engines._made.cache_clear()
    yield answers
    server.shutdown(); server.server_close(); engines._made.cache_clear()


def azure_answer(*words):
    corners = [dict(x=x, y=y) for x, y in box_at(5, 5)]
    line = dict(text=' '.join(words), boundingPolygon=corners, words=[dict(text=w, boundingPolygon=corners, confidence=.9) for w in words])
    return dict(modelVersion='2023-10-01', metadata=dict(width=9, height=9), readResult=dict(blocks=[dict(lines=[line])] if words else []))


def test_a_batch_at_azure_goes_on_after_what_it_refuses(tmp_path, azure):
    azure += [(200, azure_answer('SN', '7041')), (401, dict(error=dict(code='401', message='Access denied due to invalid subscription key.'))), (500, b'<html>'), (200, b'not json'), (200, azure_answer())]
    for k in range(5): draw_plate([SERIAL]).save(tmp_path/f'{k}.png')
    answers = read([tmp_path/f'{k}.png' for k in range(5)], 'azure')
    assert answers[0]['text'] == 'SN 7041' and answers[0]['lines'][0]['text'] == 'SN 7041'
    for k, says in ((1, 'AZURE_VISION_KEY'), (2, '500'), (3, 'zure')): assert says in answers[k]['error'] and '\n' not in answers[k]['error']
    assert answers[4]['text'] == '' and 'error' not in answers[4] and answers[4]['lines'] == []


def test_azure_is_never_asked_without_a_key(monkeypatch):
    pytest.importorskip('azure.ai.vision.imageanalysis')
    for name in ('AZURE_VISION_ENDPOINT', 'AZURE_VISION_KEY'): monkeypatch.delenv(name, raising=False)
    with pytest.raises(PartvisionError, match='AZURE_VISION_ENDPOINT and AZURE_VISION_KEY'): engine('azure')


@pytest.mark.slow
def test_easyocr_needs_no_network_and_leaves_the_home_folder_alone(tmp_path, monkeypatch):
    pytest.importorskip('easyocr')
    pytest.importorskip('easyocr_en_models')
    import socket
    def refuse(*args, **kw): raise AssertionError('the network was asked')
    monkeypatch.setattr(socket.socket, 'connect', refuse)
    monkeypatch.setenv('HOME', str(tmp_path))
    easy = engines.Easy()
    assert easy.read_line(draw_plate([SERIAL]))['text'] == SERIAL and SERIAL in ' '.join(l['text'] for l in reading_order(easy.read(draw_plate([SERIAL]))))
    for size in ((1, 1), (300, 1), (1, 300)): assert easy.read(Image.new('RGB', size, 'grey')) == []
    assert not list(tmp_path.iterdir())


# --- clean-up

@pytest.mark.parametrize('name', [n for n in STEPS if n != 'perspective'])
@pytest.mark.parametrize('size', [(1, 1), (60, 1), (1, 60), (2, 2), (400, 30)])
def test_every_step_takes_any_size(name, size):
    for picture in (Image.new('RGB', size, 'grey'), Image.fromarray(np.random.default_rng(0).integers(0, 255, size[::-1], np.uint8))):
        cleaned = clean(picture, [name])
        assert cleaned.dtype == np.uint8 and cleaned.ndim == 2 and cleaned.size


@pytest.mark.parametrize('pipeline', PIPELINES)
def test_a_crop_one_pixel_high_reads_as_nothing_much(pipeline, tmp_path):
    pytest.importorskip('rapidocr')
    cleaned = engine('rapidocr', steps=pipeline)
    for size in ((300, 1), (1, 300)):
        assert cleaned.read_line(Image.new('RGB', size, 'grey'))['confidence'] < .8 and cleaned.read(Image.new('RGB', size, 'grey')) == []


@pytest.mark.parametrize('steps', [['deskew'], ['trim'], ['upscale'], [['margin', dict(room=.4)]], ['deskew', 'upscale', 'trim', 'margin', ['line_height', dict(pixels=300)]]])
def test_matrix_of_a_pipeline_says_where_things_went(steps):
    "A dark disc on a light ground is where the matrix puts its middle."
    picture = Image.new('L', (300, 160), 220)
    ImageDraw.Draw(picture).ellipse((180, 50, 220, 90), fill=20)
    cleaned, matrix = clean_placed(picture, steps)
    x, y, w = matrix@[200, 70, 1]
    assert np.allclose(np.argwhere(cleaned < 100).mean(0)[::-1], [x/w, y/w], atol=2)


def test_cleaning_changes_neither_picture_nor_pipeline():
    picture, steps = np.random.default_rng(0).integers(0, 255, (40, 90, 3), np.uint8), [['relief', dict(how='hats')], 'margin']
    before, listed = picture.copy(), json.dumps(steps)
    assert (clean(picture, steps) == clean(Image.fromarray(picture), steps)).all()
    assert (picture == before).all() and json.dumps(steps) == listed


def test_lines_are_carried_back_from_a_cleaned_picture(name):
    plate = draw_plate([SERIAL], tilt=5)
    lines = [l for l in engine(name, steps=['deskew', 'upscale']).read(plate) if '7041' in l['text']]
    assert lines and np.allclose(np.mean(lines[0]['box'], axis=0), [plate.width/2, plate.height/2], atol=.12*plate.width)


def test_stored_pipelines(tmp_path):
    for steps in PIPELINES.values():
        save_steps(steps, tmp_path/'a.json')
        assert load_steps(tmp_path/'a.json') == as_steps(steps) == as_steps(tmp_path/'a.json')
    (tmp_path/'b.json').write_text('{"steps": ["deskew", ["blur", {"width": 3}]]}')
    with pytest.raises(PartvisionError, match='b.json.*blur has no option .width.'): engine('rapidocr', steps=tmp_path/'b.json')


class Counting:
    "Reads a picture as the letter that its brightness stands for, unless it is stopped."
    def __init__(self, stop=None): self.seen, self.stop = 0, stop
    def read_line(self, picture):
        self.seen += 1
        if self.seen == self.stop: raise KeyboardInterrupt
        return dict(text='ABCDE'[int(np.asarray(picture).mean()//52)])


def test_an_interrupted_search_goes_on(tmp_path):
    rng = np.random.default_rng(0)
    pictures, texts = [rng.integers(0, 255, (12, 30), np.uint8) for _ in range(12)], list('AABBCCDDEEAB')
    few = dict(flatten=[{}], polarity=[{}], margin=[{}])
    whole, stopped, rest = Counting(), Counting(stop=25), Counting()
    expected = tune_steps(pictures, texts, whole, candidates=few)
    with pytest.raises(KeyboardInterrupt): tune_steps(pictures, texts, stopped, out=tmp_path/'read.json', candidates=few)
    assert tune_steps(pictures, texts, rest, out=tmp_path/'read.json', candidates=few) == expected
    assert rest.seen < whole.seen
    assert expected['cer'] <= expected['none_cer'] and expected['cv_cer'] <= expected['none_cer']


def test_luck_in_the_search_is_not_believed():
    "Texts that have nothing to do with the pictures: whatever is found, the figures for unseen ones are not better than guessing."
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, rng.integers(20, 255), (12, 30), np.uint8) for _ in range(40)]
    found = tune_steps(pictures, list(rng.permutation(list('ABCDE'*8))), Counting())
    assert found['cv_exact'] < .45 and found['cer'] <= found['none_cer']


def test_unknown_engine_names_the_nearest(tmp_path):
    with pytest.raises(PartvisionError, match="did you mean 'rapidocr'"): read([tmp_path/'a.png'], 'rapidcor')


def test_measures():
    truths, texts = ['SN 7041', 'B55-10', 'LOT 9'], ['SN  7041', '855-10', '']
    assert exact_match(truths, texts) == pytest.approx(1/3) and cer(truths, texts) == pytest.approx(6/18)
    with pytest.raises(PartvisionError): cer(truths, texts[:2])


def rapid(strips): return [(l['text'], l['confidence']) for l in map(engine('rapidocr').read_line, strips)]


@pytest.fixture
def plate():
    pytest.importorskip('rapidocr')
    return draw_plate(['PUMP TYPE 4A', SERIAL])


@pytest.mark.parametrize('turn', [0, 33, 90, 180, 251])
def test_a_plate_is_read_at_any_rotation(plate, turn):
    photo = plate.rotate(turn, Image.Resampling.BICUBIC, expand=True, fillcolor=(90, 90, 95))
    lines = reading_order(read_lines(photo, rapid))
    assert [l['text'] for l in lines] == ['PUMP TYPE 4A', SERIAL]
    along = [(l['box'][1][0] - l['box'][0][0], l['box'][0][1] - l['box'][1][1]) for l in lines]
    assert all(abs((math.degrees(math.atan2(y, x)) - turn + 180) % 360 - 180) < 5 for x, y in along)


def test_a_strip_shows_the_whole_line(plate):
    "Both ends of the line lie within the strip, at the height asked for."
    for place in find_lines(plate):
        strip = np.asarray(straighten(plate, place['box'], height=32).convert('L'), float)
        dark = np.flatnonzero((strip < 100).any(0))
        assert strip.shape[0] == 32 and dark[0] > 0 and dark[-1] < strip.shape[1] - 1


def test_perspective_is_taken_out():
    picture = Image.new('L', (60, 60), 0)
    picture.paste(255, (0, 0, 60, 30))
    strip = np.asarray(straighten(picture, [[10, 10], [50, 20], [50, 40], [10, 50]], height=40, margin=0), float)
    edge = (strip > 127).sum(0)
    assert strip.shape[0] == 40 and abs(int(edge[2]) - 20) <= 2 and abs(int(edge[-3]) - 20) <= 2


def test_lines_printed_together_agree_which_way_is_up(plate):
    "A recogniser that is as sure of one line upside down as upright is overruled by the other line."
    def wavering(strips):
        answers = rapid(strips)
        return [(text, .99 if p > .5 and len(text) == len(SERIAL) else p) for text, p in answers]
    assert SERIAL in [l['text'] for l in read_lines(plate, wavering)]


@pytest.mark.parametrize('picture', [Image.new('RGB', (1, 1)), Image.new('L', (3, 700), 128), Image.new('RGB', (700, 3)), draw_plate([' '*12])], ids=['pixel', 'column', 'row', 'bare plate'])
def test_where_there_is_no_text_nothing_is_invented(picture, tmp_path):
    pytest.importorskip('rapidocr')
    picture.save(tmp_path/'a.png')
    [answer] = read(tmp_path/'a.png')
    assert (answer['text'], answer['confidence'], answer['lines']) == ('', 0, []) and 'error' not in answer


def test_text_that_is_unsure_or_far_too_short_for_its_place_is_not_given(plate):
    n = [0]
    def dreaming(strips):
        n[0] += len(strips)
        return [('I', .99), ('I', .99)]*(len(strips)//2)
    assert read_lines(plate, dreaming) == [] and n[0]
    assert read_lines(plate, lambda strips: [(SERIAL, .4)]*len(strips)) == []


def test_a_slow_recogniser_costs_one_answer(plate):
    def slow(strips): return time.sleep(.2) or [('', 0.)]*len(strips)
    with pytest.raises(PartvisionError, match='not all that looks like text could be read in 0.1 s'): read_lines(plate, slow, seconds=.1)


def test_answers_have_exactly_the_promised_fields(plate, tmp_path):
    plate.save(tmp_path/'a.png')
    [answer], [ours] = read(tmp_path/'a.png', 'rapidocr'), read(tmp_path/'a.png')
    assert answer['text'] == f'PUMP TYPE 4A {SERIAL}'
    assert ours['text'].replace(' ', '') == answer['text'].replace(' ', '') # our own reader overlooks some blanks between words
    for a in (answer, ours):
        assert set(a) == {'image', 'text', 'confidence', 'lines'} and all(set(l) == {'text', 'confidence', 'box'} for l in a['lines'])


def test_part_numbers_on_real_chips():
    "Twelve photos at all rotations; RapidOCR as it comes misses the number in ten of them."
    pytest.importorskip('rapidocr')
    root = shared_data('ic_chips')
    if root is None: pytest.skip('the shared data is not on this machine')
    files = ['74LS05/74LS05_014.jpg', '74LS03/74LS03_101.jpg', '74LS123/74LS123_050.jpg', '74LS169/74LS169_105.jpg', '74LS191/74LS191_092.jpg', '74LS192/74LS192_046.jpg',
             '74LS42/74LS42_011.jpg', '74LS48/74LS48_004.jpg', '74LS83/74LS83_003.jpg', '74LS85/74LS85_114.jpg', '74LS06/74LS06_004.jpg', '74LS09/74LS09_098.jpg']
    answers = read([root/'crops'/f for f in files])
    found = [f.split('/')[0] in ''.join(a['text'].split()) for f, a in zip(files, answers)]
    assert sum(found) >= 11, [f for f, ok in zip(files, found) if not ok]


def test_real_dot_matrix_strings():
    "Five real strings: most characters are right."
    pytest.importorskip('rapidocr')
    root = shared_data('dot_matrix')
    if root is None: pytest.skip('the shared data is not on this machine')
    with open(root/'labels.csv', encoding='utf-8') as f: rows = list(csv.DictReader(f))[:5]
    answers = read([root/r['file'] for r in rows], line=True)
    assert cer([r['text'] for r in rows], [a['text'] for a in answers]) < .15
