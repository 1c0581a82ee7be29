"""Generated plates and our own networks: what notebooks teach badly."""
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partvision.core import PartvisionError, read_json
from partvision.ocr.recogniser import ALPHABET, Recogniser, shipped, straighten, widen
from partvision.synth.marks import CHARSET, GRIDS, KINDS, MATRIX, SMALL, _snapped, line_box, list_fonts, list_pens, mark, serial
from partvision.synth.plates import EXAM_SURFACES, LEGIBLE, SURFACES, plate, read_plates, scene, shade, write_plates

SOME = dict(kinds=['stamped', 'dot-peen', 'printed'], seed=5)


def digest(folder):
    "One number for all pictures and texts of a folder."
    return hashlib.sha256(b''.join(f.read_bytes() for f in sorted(Path(folder).glob('*/*.*')) if f.name != 'synth.json')).hexdigest()


def test_same_seed_same_plates_in_any_number_of_processes(tmp_path):
    write_plates(tmp_path/'one', 36, workers=1, **SOME)
    write_plates(tmp_path/'two', 36, workers=2, **SOME)
    assert digest(tmp_path/'one') == digest(tmp_path/'two')


def test_a_killed_run_is_completed(tmp_path):
    code = "import sys; from partvision.synth.plates import write_plates; write_plates(sys.argv[1], 400, workers=1, seed=5, kinds=['stamped', 'dot-peen', 'printed'])"
    run = subprocess.Popen([sys.executable, '-c', code, str(tmp_path/'a')], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list((tmp_path/'a').glob('truth/[0-9]*.json'))) < 10:
        assert run.poll() is None
        time.sleep(.05)
    run.kill()
    run.wait()
    done = list((tmp_path/'a').glob('truth/[0-9]*.json'))
    assert 10 <= len(done) < 400 and all(json.loads(f.read_text())['text'] for f in done)
    catalog = write_plates(tmp_path/'a', 40, workers=1, **SOME)
    assert len(catalog) == 40 and not list((tmp_path/'a').rglob('.*'))
    write_plates(tmp_path/'b', 40, workers=1, **SOME)
    assert [(tmp_path/'a'/i).read_bytes() for i in catalog.image] == [(tmp_path/'b'/i).read_bytes() for i in catalog.image]


class Failing:
    "In Blender's place: fails on some plates."
    def __init__(self, bad): self.bad = bad
    def __enter__(self): return self
    def __exit__(self, *exc): pass
    def render(self, maps):
        if maps['seed'][1] in self.bad: raise PartvisionError('Blender failed on a plate')
        return Image.fromarray((np.clip(shade(maps, np.random.default_rng(0)), 0, 1)*255).astype(np.uint8)), np.eye(3)


def test_a_plate_on_which_blender_fails_costs_that_plate_only(tmp_path, monkeypatch):
    made = dict(renderer='blender', kinds=['printed'], seed=5)
    def with_failures(n, bad):
        monkeypatch.setattr('partvision.synth.blender.BlenderRenderer', lambda: Failing(bad))
        return write_plates(tmp_path/'a', n, **made)
    with pytest.raises(PartvisionError, match='2 of 6 plates could not be made, number 1 since: Blender failed on a plate; the others are kept'): with_failures(6, {1, 4})
    kept = {f.name: f.read_bytes() for f in tmp_path.glob('a/images/*.png')}
    assert len(kept) == 4
    assert len(with_failures(6, {})) == 6
    assert all((tmp_path/'a'/'images'/name).read_bytes() == data for name, data in kept.items())
    with pytest.raises(PartvisionError, match='5 of 24 plates could not be made.*after 5 failures in a row the rest was not tried'): with_failures(30, set(range(6, 30)))


def test_examinations_share_no_font_and_no_surface_with_training():
    assert not set(list_fonts()) & set(list_fonts(exam=True)) and not set(SURFACES) & set(EXAM_SURFACES)
    assert not set(list_pens()) & {*list_pens(exam=True), *list_fonts(exam=True)}


def test_letters_of_dots_differ_and_stay_on_their_grid():
    made = {(across, down): [g for pen in list_pens()[:40] if (g := _snapped(pen, across, down))] for across, down in GRIDS}
    for (across, down), fonts in made.items():
        assert fonts # some can be told apart on every grid
        for letters in fonts:
            assert set(letters) == set(CHARSET) < set(MATRIX) and len({d.tobytes() for c, d in letters.items() if c.isalnum()}) == 36
            needles = np.concatenate(list(letters.values()))*[across - 1, down - 1]
            assert np.allclose(needles, needles.round()) and needles.min(0).tolist() == [0, 1 - down] and needles.max(0).tolist() == [across - 1, 0]


@pytest.mark.parametrize('kind', KINDS)
def test_the_mark_is_where_its_boxes_are(kind):
    for k in range(8):
        m = mark(serial(np.random.default_rng(k)), kind, np.random.default_rng([k, 1]))
        changed = (np.abs(m['relief']) > .3) | (m['ink'] > .3)
        low, high = m['boxes'].reshape(-1, 2).min(0), m['boxes'].reshape(-1, 2).max(0)
        room = 8 + .15*(high - low)[1] # dots and rims reach out of their letters, the more the larger these are
        low, high = low - room, high + room
        y, x = np.nonzero(changed)
        assert len(x) and ((x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1])).mean() > .97


def test_at_most_one_in_ten_is_dropped(tmp_path):
    catalog = write_plates(tmp_path/'p', 210, seed=1)
    assert 0 < catalog.attrs['dropped'] <= .15 # one in ten, give or take what 210 plates can tell
    assert read_plates(tmp_path/'p').legibility.min() >= LEGIBLE


def test_lists_for_other_trainers(tmp_path):
    write_plates(tmp_path/'p', 3, workers=1, **SOME)
    truth = read_plates(tmp_path/'p')
    paddle = dict(l.split('\t') for l in (tmp_path/'p'/'rec_gt.txt').read_text().splitlines())
    assert paddle == dict(zip(truth.image, truth.text))
    for r in truth.itertuples():
        assert (tmp_path/'p'/r.image).with_suffix('.gt.txt').read_text() == r.text + '\n'
        assert Image.open(tmp_path/'p'/r.image).size == Image.open(tmp_path/'p'/'masks'/Path(r.image).name).size == (320, 96)


def test_wrong_settings_are_told_in_a_sentence(tmp_path):
    for given, text in ((dict(n=0), 'n is 0'), (dict(seed=-1), 'seed is -1'), (dict(surfaces=['brased']), "did you mean 'brushed'"), (dict(renderer='fats'), 'there are fast and blender')):
        with pytest.raises(PartvisionError, match=text): write_plates(tmp_path/'p', **given)
    assert not (tmp_path/'p').exists()


def test_scenes_say_where_lines_begin():
    made = [scene([2, k]) for k in range(20)]
    lines = np.concatenate([s['lines'] for s in made])
    assert sum(len(s['lines']) == 0 for s in made) and lines.shape[1:] == (4, 2)
    wide = np.linalg.norm(lines[:, 1] - lines[:, 0], axis=1) > np.linalg.norm(lines[:, 3] - lines[:, 0], axis=1)
    assert wide.mean() > .95


def test_shipped_networks_are_small_and_say_how_they_were_made():
    for name in ('recogniser', 'detector'):
        for kind in ('onnx', 'safetensors'): assert (shipped()/f'{name}.{kind}').stat().st_size <= 5*2**20
        assert 'seed' in read_json(shipped()/f'{name}.json')
    assert read_json(shipped()/'recogniser.json')['alphabet'] == ALPHABET == CHARSET + ' ' + SMALL


def test_our_reader_reads_held_out_fonts():
    made = [p for k in range(120) if (p := plate([77, k], exam=True))['legibility'] > 1.5]
    crops = [straighten(np.asarray(p['image'].convert('L')), widen(line_box(p['boxes']), .15, .15, .12, .12)) for p in made]
    right = np.mean([a['text'] == ' '.join(p['text'].split()) for a, p in zip(Recogniser()(crops), made)])
    assert right > .5
