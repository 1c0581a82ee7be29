"""What rendering with Blender promises: it says how to get Blender, outlives a process that crashes, hangs or babbles, and puts every mark where it says."""
import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from partvision.core import PartvisionError
from partvision.synth import blender_scene
from partvision.synth.blender import HOW, BlenderRenderer, find_blender, in_picture

SCRIPT = Path(blender_scene.__file__)
READY = 'import json, os, sys, time\ndef say(**kw): print(json.dumps(kw), flush=True)\nsay(id="ready")\n'
FLAT = '''
import numpy as np
def fill(line): return json.loads(line)['light']['fill']
def picture(line):
    job = json.loads(line)
    with np.load(job['maps']) as f: np.save(job['out'], f['albedo'])
    say(id=job['id'], homography=np.eye(3).tolist())
'''


def plate(seed=0, at=(60, 30), relief=0.):
    "A dark dull plate with a white rectangle, 90 × 30, for a mark."
    mask = np.zeros((96, 320), np.float32)
    mask[at[1]:at[1] + 30, at[0]:at[0] + 90] = 1
    return dict(relief=relief*mask, albedo=.04 + .8*mask[..., None]*np.ones(3), roughness=np.full((96, 320), .9), metallic=np.zeros((96, 320)), mask=mask,
                light=dict(azimuth=1., elevation=1., strength=1., fill=.3 + .01*seed), seed=seed)


def stand_in(code): return [sys.executable, '-c', READY + FLAT + code]


def fails(renderer, maps=None):
    with pytest.raises(PartvisionError) as e: renderer.render(maps or plate())
    assert '\n' not in str(e.value)
    return str(e.value)


# --- Blender absent

def test_absent_blender_is_told_with_the_way_to_get_it(monkeypatch):
    monkeypatch.delenv('PARTVISION_BLENDER', raising=False)
    monkeypatch.setenv('PATH', '/nowhere')
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(PartvisionError, match='python3.11 -m venv.*pip install.*bpy.*PARTVISION_BLENDER'): BlenderRenderer()


def test_a_wrong_variable_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv('PARTVISION_BLENDER', str(tmp_path/'python'))
    with pytest.raises(PartvisionError, match='PARTVISION_BLENDER names .*, which is no program'): find_blender()


def test_a_python_without_bpy_is_told(monkeypatch):
    import importlib.util
    if importlib.util.find_spec('bpy'): pytest.skip('this Python holds bpy')
    monkeypatch.setenv('PARTVISION_BLENDER', sys.executable)
    with BlenderRenderer() as renderer: assert "does not hold Blender's module bpy" in fails(renderer) and HOW in fails(renderer)


def test_the_program_blender_is_found_in_path(monkeypatch, tmp_path):
    monkeypatch.delenv('PARTVISION_BLENDER', raising=False)
    (tmp_path/'blender').write_text('#!/bin/sh\n')
    (tmp_path/'blender').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path))
    found = find_blender()
    assert found[0] == str(tmp_path/'blender') and '--background' in found and found[-2:] == ['--', 'serve']


def test_the_script_needs_only_numpy_until_it_renders():
    top = {a.name for n in ast.parse(SCRIPT.read_text()).body if isinstance(n, ast.Import) for a in n.names}
    assert top == {'json', 'os', 'sys', 'numpy'} and 'GPL-3.0-or-later' in SCRIPT.read_text()


# --- the protocol

def test_what_bpy_prints_does_not_reach_the_answers(tmp_path):
    "The real script with a bpy that babbles, from Python and from a process of its own."
    (tmp_path/'bpy.py').write_text('import os\nprint("from Python")\nos.system("echo from C")\n')
    code = f'import runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ["x", "serve"]; runpy.run_path({str(SCRIPT)!r}, run_name="__main__")'
    done = subprocess.run([sys.executable, '-c', code], input='{"id": 7, "maps": "nowhere.npz"}\n', capture_output=True, text=True, timeout=60)
    ready, answer = map(json.loads, done.stdout.splitlines())
    assert ready == dict(id='ready') and answer['id'] == 7 and 'nowhere.npz' in answer['error']
    assert 'from Python' in done.stderr and 'from C' in done.stderr


def test_lines_that_are_no_answer_are_skipped():
    code = 'for line in sys.stdin:\n  print("Fra:1 Mem:12M")\n  print("{broken"); print("[1]"); print("null"); say(id=-1, error="of another"); picture(line)'
    with BlenderRenderer(stand_in(code)) as renderer:
        for seed in range(3): assert renderer.render(plate(seed))[0].size == (320, 96)


def test_a_seed_is_a_number_or_several():
    with BlenderRenderer(stand_in('for line in sys.stdin: picture(line)')) as renderer:
        pictures = [renderer.render(plate() | dict(seed=seed))[0].tobytes() for seed in (7, [7], [7, 1], [0, 3, 1], np.int64(7))]
    assert pictures[0] == pictures[1] == pictures[4] and len(set(pictures)) == 3


def test_one_crash_costs_nothing(tmp_path):
    code = f'for line in sys.stdin:\n  if not os.path.exists({str(tmp_path/"once")!r}): open({str(tmp_path/"once")!r}, "w"); os.abort()\n  picture(line)'
    with BlenderRenderer(stand_in(code)) as renderer: assert renderer.render(plate())[0].size == (320, 96)


def test_a_plate_that_crashes_blender_costs_that_plate_only():
    code = 'for line in sys.stdin:\n  if fill(line) == .31: os.kill(os.getpid(), 11)\n  picture(line)'
    with BlenderRenderer(stand_in(code)) as renderer:
        renderer.render(plate(0))
        assert 'seed 1 (signal 11)' in fails(renderer, plate(1))
        renderer.render(plate(2))


def test_a_hang_ends_at_the_limit_and_its_late_answer_is_not_taken_for_another():
    code = 'for line in sys.stdin:\n  if fill(line) == .31: time.sleep(3)\n  picture(line)'
    with BlenderRenderer(stand_in(code), seconds=1) as renderer:
        start = time.monotonic()
        assert 'no answer within 1 s' in fails(renderer, plate(1))
        assert time.monotonic() - start < 8
        light, _ = renderer.light(plate(2, at=(200, 50)))
        assert light[60, 250].mean() > .5 > light[40, 80].mean()


def test_endless_babble_ends_at_the_limit():
    with BlenderRenderer(stand_in('while True: print("Fra:1"); time.sleep(.001)'), seconds=.5) as renderer: assert 'no answer within 0.5 s' in fails(renderer)


def test_an_error_of_the_script_is_told_and_the_process_kept(tmp_path):
    code = f'open({str(tmp_path/"starts")!r}, "a").write("x")\nfor line in sys.stdin: say(id=json.loads(line)["id"], error="MemoryError: 9 GB")'
    with BlenderRenderer(stand_in(code)) as renderer:
        for seed in (3, 4): assert f'seed {seed} (MemoryError: 9 GB)' in fails(renderer, plate(seed))
    assert (tmp_path/'starts').read_text() == 'x'


def test_nothing_stays_behind(tmp_path):
    code = f'open({str(tmp_path/"pid")!r}, "w").write(str(os.getpid()))\nfor line in sys.stdin: picture(line)'
    with BlenderRenderer(stand_in(code)) as renderer:
        renderer.render(plate())
        folder, pid = Path(renderer.folder.name), int((tmp_path/'pid').read_text())
        os.kill(pid, 0)
    assert not folder.exists()
    with pytest.raises(ProcessLookupError): os.kill(pid, 0)


@pytest.mark.parametrize('change, told', [
    (dict(albedo=np.ones((96, 320))), 'albedo'), (dict(relief=np.full((96, 320), np.inf)), 'relief'), (dict(mask=np.ones((9, 9))), 'mask')])
def test_maps_that_are_no_plate_are_refused(change, told):
    with BlenderRenderer(stand_in('for line in sys.stdin: picture(line)')) as renderer:
        assert told in fails(renderer, plate() | change)
        without = plate()
        del without[told]
        assert f'lacks {told}' in fails(renderer, without)


# --- Blender itself

@pytest.fixture(scope='module')
def blender():
    "A renderer in a process of Blender's."
    try: renderer = BlenderRenderer()
    except PartvisionError as e: pytest.skip(str(e))
    with renderer: yield renderer


def test_other_maps_give_another_picture_and_the_same_the_same(blender):
    first, other, again = (blender.render(p)[0] for p in (plate(5), plate(5, at=(150, 40)), plate(5)))
    assert first.tobytes() == again.tobytes()
    assert np.abs(np.asarray(first, float) - np.asarray(other, float))[30:60, 60:300].mean() > 20


@pytest.mark.parametrize('seed, at', [(0, (3, 3)), (1, (226, 62)), (6, (100, 20)), (11, (200, 60))])
def test_the_mask_lands_on_the_mark(blender, seed, at):
    maps = plate(seed, at)
    light, h = blender.light(maps)
    x, y = at
    mask, boxes = in_picture(maps['mask'], [[[x, y], [x + 90, y], [x + 90, y + 30], [x, y + 30]]], h, (320, 96))
    grey = light.mean(-1)
    seen, said = grey > np.median(grey[mask > .9])/2, mask > .5
    assert (seen & said).sum()/(seen | said).sum() > .98
    ys, xs = np.nonzero(seen)
    assert np.abs(boxes[0].min(0) - [xs.min(), ys.min()]).max() < 1.5 and np.abs(boxes[0].max(0) - [xs.max() + 1, ys.max() + 1]).max() < 1.5


def test_the_size_of_the_picture_is_free(blender):
    maps = plate(2)
    with BlenderRenderer(blender.command, size=(640, 192), samples=2) as large: picture, h = large.render(maps)
    mask, _ = in_picture(maps['mask'], [], h, picture.size)
    assert picture.size == (640, 192) and np.asarray(picture.convert('L'))[mask > .9].min() > np.asarray(picture.convert('L'))[mask < .01].max()


def test_light_comes_from_where_it_is_said_to(blender):
    "A dull dent is bright on the side that faces the lamp."
    y, x = np.mgrid[:96, :320]
    for azimuth, (dx, dy) in ((0, (1, 0)), (np.pi/2, (0, 1))):
        maps = plate(3) | dict(relief=-25*np.exp(-((x - 160)**2 + (y - 48)**2)/300), albedo=np.full((96, 320, 3), .5), mask=np.hypot(x - 160, y - 48) < 25)
        light, h = blender.light(maps | dict(light=dict(azimuth=azimuth, elevation=.7, strength=1., fill=.1)))
        cx, cy = blender_scene.project([160., 48.], h).astype(int)
        assert light[cy - 8*dy, cx - 8*dx].mean() > 1.3*light[cy + 8*dy, cx + 8*dx].mean()
