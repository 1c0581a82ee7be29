"What the store of runs promises: found by any beginning, kept when wanted, explained when computed again, and never fooled by what it remembers."
import json, os, re, shutil, subprocess, sys, threading
from pathlib import Path

import pandas as pd
import pytest

from partvision.cli import main
from partvision.core import PartvisionError
from partvision.experiments import _claimed, load_runs, run_batch, run_rows, tiny_workspace
from partvision.runs import compare_runs, explain_run, find_id, list_runs, pin_runs, remove_runs, runs_text, short_length

BATCH = dict(name='night', runs=[dict(notebook='dice', grid=dict(sides=[6, 8])), dict(notebook='dice', params=dict(sides=1))])


@pytest.fixture(scope='module')
def rolled(tmp_path_factory):
    "A workspace with two finished runs and a failed one."
    root = tiny_workspace(tmp_path_factory.mktemp('made'))
    assert run_batch(BATCH, jobs=2, root=root)['failed'] == 1
    return root


@pytest.fixture
def root(rolled, tmp_path):
    "A copy of it, to spoil."
    return Path(shutil.copytree(rolled, tmp_path/'copy'))


def run_of(root, **changed): return next(r['id'] for r in list_runs(root) if r['changed'] == changed)


def folder(root, id): return root/'reports'/'runs'/id


def called(capsys, root, *args):
    "Status, standard output and standard error of a call within the workspace."
    os.chdir(root)
    status = main(list(args))
    return status, *capsys.readouterr()


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path): monkeypatch.chdir(tmp_path) # back again afterwards


def sentence(err): return err.startswith('partvision: ') and len(err.strip().splitlines()) == 1 and 'Traceback' not in err


# --- the list

def test_the_list_says_what_was_set_and_what_came_out(root, capsys):
    found = list_runs(root)
    assert {json.dumps(r['changed']): r['state'] for r in found} == {'{}': 'finished', '{"sides": 8}': 'finished', '{"sides": 1}': 'failed'}
    assert [r['started'] for r in found] == sorted(r['started'] for r in found)
    status, out, _ = called(capsys, root, 'runs', '--state', 'failed')
    assert status == 0 and len(out.splitlines()) == 1 and 'a die with 1 sides does not roll' in out
    status, out, _ = called(capsys, root, 'runs', '--notebook', 'dice', '--json')
    assert [r['id'] for r in json.loads(out)] == [r['id'] for r in found]
    assert called(capsys, root, 'runs', '--notebook', 'dise')[1].startswith('no such runs')


def test_an_empty_workspace_has_no_runs_and_gets_no_folders(tmp_path, capsys):
    status, out, _ = called(capsys, tiny_workspace(tmp_path/'new'), 'runs')
    assert status == 0 and out.startswith('no such runs') and not (tmp_path/'new'/'reports').exists()


@pytest.mark.parametrize('file, content', [('metrics.json', '{"mean": 3.'), ('metrics.json', '[]'), ('params.yaml', 'sides: ['), ('run.json', ''), ('metrics.json', None), ('run.json', None)])
def test_a_damaged_run_is_incomplete_and_computed_again(root, file, content):
    id = run_of(root, sides=8)
    path = folder(root, id)/file
    if content is None: path.unlink()
    else: path.write_text(content)
    row = next(r for r in list_runs(root) if r['id'] == id)
    assert row['state'] == 'incomplete' and row['error'].startswith(f'{file} is ')
    assert len(load_runs(root)) == 2
    assert explain_run(id, root)['reasons'][0]['says'] == row['error']
    with pytest.raises(PartvisionError, match=f'run {id} is incomplete: {file} is '): compare_runs([id, run_of(root)], root)
    assert run_batch(BATCH, root=root)['finished'] == 1
    assert explain_run(id, root)['reused']


def test_what_a_killed_batch_left_is_incomplete_and_can_be_removed(root):
    left = folder(root, '.' + 'ab'*8)
    left.mkdir()
    (left/'run.json').write_text('{"state": "runn')
    run, = [r for r in list_runs(root, state='incomplete')]
    assert run['id'] == 'ab'*8 and 'left by a batch that was killed' in run['error']
    with _claimed(left.parent, 'ab'*8): assert subprocess.run([sys.executable, '-c', f'from partvision.runs import *; print(list_runs({str(root)!r}, state="incomplete")[0]["error"])'], capture_output=True, text=True).stdout == 'under way\n'
    remove_runs(['abab'], root=root)
    assert not left.exists() and not list_runs(root, state='incomplete')


def test_a_metric_that_is_no_number_is_shown_and_compared(root):
    a, b = run_of(root), run_of(root, sides=8)
    for id in (a, b): (folder(root, id)/'metrics.json').write_text('{"mean": NaN, "n": 20}')
    assert load_runs(root)['metrics.mean'].isna().all() and runs_text(list_runs(root))
    assert [d['name'] for d in compare_runs([a, b], root)['differ']] == ['sides']


# --- what the table remembers

def test_the_table_is_only_a_memory(root):
    file = root/'reports'/'runs.parquet'
    whole = load_runs(root)
    for content in (b'', b'PAR1 damaged', file.read_bytes()[:-30]):
        file.write_bytes(content)
        assert load_runs(root).equals(whole) and len(pd.read_parquet(file)) == len(whole)
    pd.DataFrame(dict(id=['x'])).to_parquet(file) # as another version may have left it
    assert load_runs(root).equals(whole)
    stored = pd.read_parquet(file)
    stored.loc[0, 'row'] = '{"id": '
    stored.to_parquet(file)
    assert load_runs(root).equals(whole)


def test_whatever_lies_there_the_list_is_told(root):
    runs = root/'reports'/'runs'
    (folder(root, run_of(root))/'metrics.json').write_text('{"n": %d, "mean": [1]}' % 10**30) # no file of columns takes it
    (runs/'notes.txt').touch()
    (runs/'empty').mkdir()
    (folder(root, run_of(root, sides=8))/'run.json').write_text('{"state": "finished"}')
    assert {r['state'] for r in list_runs(root)} == {'finished', 'failed', 'incomplete'} and len(runs_text(list_runs(root)).splitlines()) == 4
    for path in [p for p in runs.iterdir() if p.name not in ('empty', '.locks')]: shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert [r['error'] for r in list_runs(root)] == ['run.json is missing; start its batch again']
    remove_runs(['empty'], root=root)
    assert not list_runs(root) and not (root/'reports'/'runs.parquet').exists()


def test_only_what_changed_is_read_again(root, monkeypatch):
    from partvision import experiments
    load_runs(root)
    read, row = [], experiments._row
    monkeypatch.setattr(experiments, '_row', lambda f: read.append(f.name) or row(f))
    load_runs(root)
    assert not read
    id = run_of(root)
    (folder(root, id)/'metrics.json').write_text('{"mean": 1.5}')
    assert load_runs(root).set_index('id')['metrics.mean'][id] == 1.5 and read == [id]
    shutil.rmtree(folder(root, id))
    assert id not in set(load_runs(root).id) and read == [id]


def test_many_writers_leave_one_sound_table(root):
    code = f'from partvision.experiments import load_runs\nfor _ in range(15):\n    open({str(root)!r} + "/reports/runs.parquet", "a").close()\n    assert len(load_runs({str(root)!r})) == 3'
    id = run_of(root)
    processes = [subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    while any(p.poll() is None for p in processes): os.utime(folder(root, id)) # has all of them write, again and again
    assert [p.communicate()[1] for p in processes] == ['']*3
    assert len(pd.read_parquet(root/'reports'/'runs.parquet')) == 3 and not list((root/'reports').glob('.*'))


def test_where_nobody_may_write_the_list_is_read_all_the_same(root, monkeypatch):
    from partvision import experiments
    def refused(*args): raise PermissionError(13, 'no')
    monkeypatch.setattr(experiments, '_claimed', refused)
    (root/'reports'/'runs.parquet').unlink()
    assert len(load_runs(root)) == 3 and not (root/'reports'/'runs.parquet').exists()


# --- names

@pytest.mark.parametrize('start, message', [('1a2b', '2 runs begin with'), ('1a2c3c', 'the nearest are 1a2b3c'), ('zzzz', 'partvision runs lists'), ('', '3 runs begin with')])
def test_an_unclear_id_is_one_sentence(start, message):
    with pytest.raises(PartvisionError) as e: find_id(start, ['1a2b3c4d', '1a2b9999', 'ffff0000'])
    assert message in str(e.value) and '\n' not in str(e.value)


def test_ids_are_as_short_as_they_may_be(root):
    ids = [r['id'] for r in list_runs(root)]
    length = short_length(ids)
    assert all(find_id(id[:length], ids) == id for id in ids)


@pytest.mark.parametrize('args, says', [(['compare', 'zzz', 'zzz'], 'there is no run'), (['explain', 'zzz'], 'there is no run'), (['pin', 'zzz'], 'there is no run'), (['remove', 'zzz', '--force'], 'there is no run')])
def test_the_command_says_it_in_a_sentence(root, capsys, args, says):
    status, out, err = called(capsys, root, 'runs', *args)
    assert status == 1 and not out and says in err and sentence(err)


# --- keeping and clearing away

def test_what_is_wanted_is_not_removed(root, capsys):
    id, other = run_of(root), run_of(root, sides=8)
    status, _, err = called(capsys, root, 'runs', 'remove', id)
    assert status == 1 and 'belongs to the batch night' in err and sentence(err)
    (root/'reports'/'batches'/'night.json').unlink()
    assert called(capsys, root, 'runs', 'pin', id[:8])[0] == 0
    status, _, err = called(capsys, root, 'runs', 'remove', other, id)
    assert status == 1 and 'is pinned' in err and sentence(err)
    assert folder(root, other).exists() # all are checked before the first goes
    assert [r['id'] for r in list_runs(root) if r['pinned']] == [id]
    assert called(capsys, root, 'runs', 'unpin', id)[0] == 0
    assert called(capsys, root, 'runs', 'remove', other, id)[0] == 0
    assert not folder(root, id).exists() and set(pd.read_parquet(root/'reports'/'runs.parquet').state) == {'failed'}


def test_a_failed_run_cannot_be_pinned_and_force_removes_a_pinned_one(root):
    with pytest.raises(PartvisionError, match='only finished runs can be pinned'): pin_runs([run_of(root, sides=1)], root=root)
    id, = pin_runs([run_of(root)], root=root)
    assert remove_runs([id], force=True, root=root) == [id]


def test_a_run_under_way_is_not_removed(root):
    id, held, done = run_of(root), threading.Event(), threading.Event()
    def hold():
        with _claimed(folder(root, ''), id): held.set(); done.wait(20)
    holder = threading.Thread(target=hold)
    holder.start(); held.wait(20)
    try:
        with pytest.raises(PartvisionError, match='is under way'): remove_runs([id], force=True, root=root)
    finally: done.set(); holder.join()


def test_a_damaged_batch_is_named(root):
    (root/'reports'/'batches'/'night.json').write_text('[]')
    with pytest.raises(PartvisionError, match='night.json needs cannot be told'): remove_runs([run_of(root)], root=root)


# --- why again

def says(root, id): return {(r['what'], r['says']) for r in explain_run(id, root)['reasons']}


def edit(root, *pairs):
    path = root/'nbs'/'experiments'/'dice.ipynb'
    text = path.read_text()
    for a, b in pairs:
        assert a in text
        text = text.replace(a, b)
    path.write_text(text)


def test_nothing_changed_is_said(root, capsys):
    assert explain_run(run_of(root), root) | dict(id='') == dict(id='', notebook='dice', reused=True, reasons=[])
    assert 'would be reused' in called(capsys, root, 'runs', 'explain', run_of(root))[1]


def test_an_edited_cell_and_a_renamed_parameter(root):
    id = run_of(root, sides=8)
    edit(root, ('rolls = 20 ', 'throws = 20 '), ('range(rolls)', 'range(throws)'))
    found = says(root, id)
    assert ('parameter', 'the notebook has no parameter rolls any more') in found and ('parameter', 'the notebook has a new parameter throws, 20 unless a batch sets it') in found
    assert any(what == 'cell' and text.startswith('dice.ipynb, cell 3 changed: `fell = ') for what, text in found), found


def test_a_changed_module(root):
    import partvision
    package = shutil.copytree(Path(partvision.__file__).parent, root/'partvision', ignore=shutil.ignore_patterns('__pycache__', '*.npz'))
    id = run_of(root)
    assert explain_run(id, root)['reused']
    with open(package/'core.py', 'a') as f: f.write('\nused = 1\n')
    assert says(root, id) == {('module', 'partvision.core has changed')}


def test_changed_and_vanished_data(root):
    from partvision.catalog import write_catalog
    from partvision.test_utils import tiny_catalog
    c = tiny_catalog(root/'parts', n_classes=2, n_parts=4, n_views=1, size=16)
    id = run_batch(dict(name='data', runs=[dict(notebook='dice', params=dict(catalog='parts'))]), root=root)['runs'][0]['id']
    assert explain_run(id, root)['reused']
    c.loc[0, 'label'] = 'nut'
    write_catalog(c, root/'parts')
    assert says(root, id) == {('data', 'catalog has changed')}
    shutil.rmtree(root/'parts')
    (what, text), = says(root, id)
    assert what == 'data' and 'does not exist' in text


def test_a_failed_run_and_a_notebook_that_is_gone(root):
    id, failed = run_of(root, sides=8), run_of(root, sides=1)
    assert {what for what, _ in says(root, failed)} == {'state'}
    (root/'nbs'/'experiments'/'dice.ipynb').unlink()
    assert says(root, id) == {('notebook', 'there is no nbs/experiments/dice.ipynb any more, so no batch can ask for it')}
    assert run_of(root, sides=8) == id # its knobs are known from what was executed
    (folder(root, id)/'notebook.ipynb').unlink()
    assert any('sides' in r['changed'] for r in list_runs(root) if r['id'] == id)


def test_a_notebook_that_cannot_be_read(root):
    (root/'nbs'/'experiments'/'dice.ipynb').write_text('{')
    assert says(root, run_of(root)) == {('notebook', 'dice.ipynb is not readable as a notebook; open it in Jupyter, mend it and save it')}
