"What generated parts promise: the same bytes whoever takes the pictures, nothing lost by a kill, faults as many as asked for."
import os, signal, subprocess, sys, time, zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from partvision.catalog import read_catalog, straddling
from partvision.core import PartvisionError
from partvision.synth.meshes import RECIPES, classes, make_meshes, part_mesh, part_names
from partvision.synth.parts import FAULTS, look_alikes, make_parts, make_plan, read_faults, read_truth
from partvision.synth.scene import picture

SMALL = dict(classes=3, parts=4, views=2, size=64, seed=5, faults='wrong_label=0.1,dark=0.1,duplicate=0.1')


def files(out): return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(Path(out).rglob('*')) if p.is_file()}


def pictures(out): return {name: data for name, data in files(out).items() if name.endswith('.jpg')}


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
    "A data set taken by one process."
    out = tmp_path_factory.mktemp('synth')/'one process'
    make_parts(out, workers=1, **SMALL)
    return out


def start(out, workers=2, **settings):
    "The same in a process group of its own."
    code = 'import sys, json; from partvision.synth.parts import make_parts; make_parts(sys.argv[1], workers=int(sys.argv[2]), **json.loads(sys.argv[3]))'
    import json
    return subprocess.Popen([sys.executable, '-c', code, str(out), str(workers), json.dumps(SMALL | settings)], start_new_session=True, stderr=subprocess.PIPE)


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited too long'
        time.sleep(.02)


# --- the same bytes

def test_worker_processes_take_the_same_pictures(reference, tmp_path):
    make_parts(tmp_path/'two', workers=2, **SMALL)
    assert files(tmp_path/'two') == files(reference)


def test_a_picture_does_not_hang_on_how_many_there_are(reference, tmp_path):
    make_parts(tmp_path/'fewer', **SMALL | dict(parts=2, views=1, faults=None), workers=1)
    plan = pd.read_csv(tmp_path/'fewer'/'pictures.csv')
    shared = [i for i in plan.image if i.endswith('p0000_0.jpg') and (reference/i).exists()]
    assert shared and all((tmp_path/'fewer'/i).read_bytes() == (reference/i).read_bytes() for i in shared)


def test_other_seeds_take_other_pictures():
    assert (picture('hex_nut', 0, 0, seed=1, size=64) != picture('hex_nut', 0, 0, seed=2, size=64)).any()


# --- nothing is lost

@pytest.mark.parametrize('whole_group', [True, False], ids=['all processes', 'parent only'])
def test_resume_after_kill(reference, tmp_path, whole_group):
    out = tmp_path/'killed'
    run = start(out)
    until(lambda: len(list(out.glob('images/*/p*.jpg'))) >= 4)
    (os.killpg if whole_group else os.kill)(run.pid, signal.SIGKILL)
    run.wait()
    if not whole_group: time.sleep(2)
    there = {p: p.stat().st_mtime_ns for p in out.glob('images/*/p*.jpg')}
    assert 0 < len(there) <= 26 and not (out/'catalog.parquet').exists()
    for p in there: Image.open(p).load()
    make_parts(out, workers=1, **SMALL)
    assert files(out) == files(reference)
    assert all(p.stat().st_mtime_ns == t for p, t in there.items())


def test_parent_killed_workers_end(tmp_path):
    out = tmp_path/'killed'
    run = start(out, parts=40)
    until(lambda: len(list(out.glob('images/*/p*.jpg'))) >= 2)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    last = -1
    def still():
        nonlocal last
        last, now = len(list(out.glob('images/*/p*.jpg'))), last
        time.sleep(1.5)
        return now == last
    until(still, 30)
    assert last < 200


def test_complete_folder_is_left_alone(reference):
    before = {p: p.stat().st_mtime_ns for p in reference.rglob('*.jpg')}
    assert len(make_parts(reference, workers=2, **SMALL)) == len(before)
    assert {p: p.stat().st_mtime_ns for p in reference.rglob('*.jpg')} == before


# --- the catalog and its truth

def test_catalog_and_truth_agree(reference):
    catalog, truth = read_catalog(reference), read_truth(reference)
    assert set(catalog.image) == set(truth.image) and len(catalog) == 24 + 2
    assert not straddling(catalog)
    both = catalog.merge(truth)
    wrong = both.fault == 'wrong_label'
    assert ((both.label != both.true_label) == wrong).all() and wrong.sum() == 2
    assert (both.image.str.split('/').str[1] == both.label).all()
    sound = both[both.fault != 'duplicate']
    assert (sound.part == sound.true_part).all()
    assert not {'true_label', 'true_part', 'fault'} & set(catalog.columns)
    assert not (catalog.part.str.contains('|'.join(classes()))).any()


@pytest.mark.parametrize('fault', FAULTS)
def test_rates(fault):
    plan = make_plan(classes()[:12], 25, 8, 0, read_faults({fault: .1}))
    hit = plan[plan.fault == fault]
    assert (hit.part.nunique() == 30 and len(hit) == 240) if fault == 'wrong_part' else len(hit) == 240
    assert plan.image.is_unique and len(plan) == 2400 + 240*(fault == 'duplicate')
    if fault.startswith('wrong'): assert .55 < np.mean([l in look_alikes(t) for l, t in zip(hit.label, hit.true_label)]) < .95
    if fault == 'wrong_part': assert (hit.groupby('part').label.nunique() == 1).all()
    if fault == 'duplicate': assert set(hit.duplicate_of) <= set(plan.image) and hit.part.nunique() == len(hit)


def test_all_faults_at_once():
    faults = read_faults({f: .05 for f in FAULTS})
    plan = make_plan(classes()[:12], 25, 8, 3, faults)
    assert all((plan.fault == f).sum() == 120 for f in FAULTS)
    pd.testing.assert_frame_equal(plan, make_plan(classes()[:12], 25, 8, 3, faults))
    assert not plan.equals(make_plan(classes()[:12], 25, 8, 4, faults))


# --- bad input

@pytest.mark.parametrize('settings, message', [
    (dict(faults='wrong_lable=0.1'), "there is no fault wrong_lable; did you mean 'wrong_label'?"),
    (dict(faults=dict(dark=.7)), 'fault dark=0.7: give a rate from 0 to 0.5'),
    (dict(faults=dict(dark='.1')), 'fault dark=.1: give a rate'),
    (dict(faults=dict(dark=float('nan'))), 'give a rate'),
    (dict(faults='dark'), "fault 'dark' is not of the form name=rate"),
    (dict(classes=1), 'classes is 1: give a whole number from 2'),
    (dict(classes=200), 'classes is 200: give a whole number from 2'),
    (dict(classes=['hex_nut', 'hex_blot']), "there is no class hex_blot; did you mean 'hex_bolt'?"),
    (dict(classes=['hex_nut', 'hex_nut']), 'names hex_nut twice'),
    (dict(parts=0), 'parts is 0'),
    (dict(views=2.5), 'views is 2.5'),
    (dict(size=5), 'size is 5'),
    (dict(seed=-1), 'seed is -1'),
    (dict(workers=0), 'workers is 0')])
def test_bad_settings(settings, message, tmp_path):
    with pytest.raises(PartvisionError) as e: make_parts(tmp_path/'out', **SMALL | settings)
    assert message in str(e.value) and '\n' not in str(e.value)
    assert not (tmp_path/'out').exists()


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path/'mine.txt').write_text('mine')
    with pytest.raises(PartvisionError, match='was not made by synth parts; choose a folder that is new or empty'): make_parts(tmp_path, **SMALL)
    with pytest.raises(PartvisionError, match='was not made by synth parts'): make_parts(tmp_path/'mine.txt', **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ['mine.txt']


def test_other_settings_are_refused(reference):
    before = files(reference)
    with pytest.raises(PartvisionError, match='seed 5 instead of 6'): make_parts(reference, **SMALL | dict(seed=6))
    with pytest.raises(PartvisionError, match='faults'): make_parts(reference, **SMALL | dict(faults=None))
    assert files(reference) == before


def test_no_truth_without_faults(tmp_path):
    with pytest.raises(PartvisionError, match='only parts made with faults have it'): read_truth(tmp_path)


# --- the shipped meshes

def test_shipped_meshes():
    import partvision
    file = Path(partvision.__file__).parent/'synth'/'meshes.npz'
    assert file.stat().st_size < 1.5e6
    assert not any('pkl' in n for n in zipfile.ZipFile(file).namelist())
    assert set(part_names()) == {f'{c}/{i}' for c, recipes in RECIPES.items() for i in range(len(recipes))}
    assert len(classes()) >= 14
    for name in part_names():
        m = part_mesh(name)
        assert len(m.faces) < 15_000 and m.faces.max() < len(m.vertices) and np.isfinite(m.vertices).all()


def test_meshes_made_anew_are_the_shipped_ones(tmp_path):
    pytest.importorskip('bd_warehouse', reason='needs the extra cad')
    make_meshes(tmp_path/'meshes.npz')
    with np.load(tmp_path/'meshes.npz', allow_pickle=False) as f: assert list(f['names']) == part_names()
