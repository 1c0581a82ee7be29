"What a batch promises when the night does not go well: real kernels, real kills, real clusters, notebooks that take no time."
import contextlib, json, os, random, shutil, signal, subprocess, sys, time
from collections import Counter
from pathlib import Path

import psutil
import pytest

import partvision
from partvision.core import PartvisionError
from partvision.experiments import batch_schema, experiments, identify, load_runs, plan, run_batch, tiny_workspace

ROOT = Path(__file__).resolve().parent.parent

# A run notes that it has begun and that it has ended, so that one can count what was really computed.
SLOW = ["# How long does a nap take?\n\n> Sleeps.",
        "seconds = .3 # length of the nap\nseed = 0    # another seed, another run",
        "import os, time\nfrom partvision.experiments import record",
        "open('began', 'a').write(f'{seed} {os.getpid()}\\n')\ntime.sleep(seconds)\nopen('ended', 'a').write(f'{seed} {os.getpid()}\\n')",
        "record('Slept.', seed=seed)"]


@pytest.fixture
def root(tmp_path): return tiny_workspace(tmp_path/'a workspace {1} $HOME', 'nap', SLOW)


def nap(n, **params): return dict(name='nap', runs=[dict(notebook='nap', params=params, grid=dict(seed=list(range(n))))])


def counts(root, what='ended'):
    "How often each seed has begun or ended."
    return Counter(int(line.split()[0]) for line in (root/what).read_text().splitlines()) if (root/what).exists() else Counter()


def states(root): return Counter(load_runs(root).state)


def start(root, batch, jobs=2):
    "The batch in a process of its own, as the command line would run it."
    code = 'import json, sys; from partvision.experiments import run_batch; s = run_batch(json.loads(sys.argv[1]), jobs=int(sys.argv[2]), root=sys.argv[3]); print(json.dumps(s))'
    def heed_interrupts(): signal.signal(signal.SIGINT, signal.SIG_DFL) # a shell that runs the tests in its background hands down that they are ignored
    return subprocess.Popen([sys.executable, '-X', 'faulthandler', '-c', code, json.dumps(batch), str(jobs), str(root)], preexec_fn=heed_interrupts, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kernels_of(root):
    "The processes that work in a workspace."
    found = []
    for p in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if p.cwd() == str(root): found.append(p)
    return found


def told(process, seconds=90):
    "What a process printed; one that does not end tells where its threads are, and fails the test."
    try: return process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        pytest.fail(f'not ended after {seconds} s:\n{process.communicate()[1]}')


def until(condition, seconds=30):
    "Wait until `condition()` holds."
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, 'waited too long'
        time.sleep(.05)
    return found


def alive(processes): return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def leftovers(root): return [p.name for p in (root/'reports'/'runs').glob('.*') if p.name != '.locks']


# --- the plan

@pytest.mark.parametrize('text, message', [
    ('runs:\n- notebook: nap\n  params: {sed: 1}', "night.yml, line 3: nap: no parameter 'sed'; did you mean 'seed'?"),
    ('runs:\n- notebook: nap\n  params: {seed: 1.5}', 'night.yml, line 3: nap: seed must be a whole number, not 1.5'),
    ('runs:\n- notebook: nap\n  params:\n    seed: yes', 'night.yml, line 4: nap: seed must be a whole number, not True'),
    ('runs:\n- notebook: nab', "night.yml, line 2: there is no experiment 'nab'; did you mean 'nap'?"),
    ('data: {secnds: 1}\nruns:\n- notebook: nap', "night.yml, line 1: no notebook of this batch has a parameter 'secnds'; did you mean 'seconds'?"),
    ('runs:\n- notebook: nap\n  grid:\n    seed: []', 'night.yml, line 4: the grid of seed is empty'),
    ('runs:\n- notebook: nap\n  grid: {seed: 3}', 'night.yml, line 3: the grid of seed must be a list'),
    ('runs:\n- notebook: nap\n  grid: {seed: [%s], seconds: [%s]}' % (('1, '*999 + '1',)*2), 'the grid has 1,000,000 combinations; at most 10,000'),
    ('runs:\n\t- notebook: nap', 'night.yml, line 2: found character'),
    ('name: x\nruns: []', 'night.yml: a batch needs `runs`'),
    ('', 'night.yml: a batch must be a mapping'),
    ('name: x\nrun:\n- notebook: nap', "night.yml, line 2: a batch has an unknown key 'run'; did you mean 'runs'?")])
def test_a_faulty_batch_is_refused_before_anything_runs(root, text, message):
    (root/'night.yml').write_text(text)
    with pytest.raises(PartvisionError) as e: run_batch(root/'night.yml', root=root)
    assert message in str(e.value) and '\n' not in str(e.value)
    assert not (root/'reports').exists()


def test_a_notebook_without_parameters_cell_is_refused(root):
    path = root/'nbs'/'experiments'/'nap.ipynb'
    path.write_text(path.read_text().replace('"parameters"', '"other"'))
    with pytest.raises(PartvisionError, match='no cell tagged `parameters`'): run_batch(nap(1), root=root)


def test_an_edit_elsewhere_recomputes_nothing(root):
    shutil.copytree(Path(partvision.__file__).parent, root/'partvision', ignore=shutil.ignore_patterns('__pycache__', '*.npz'))
    ids = lambda: [r['id'] for r in identify(plan(nap(2), root), root)]
    before, package = ids(), root/'partvision'
    def edit(name, text):
        path = package/name
        path.write_text(path.read_text() + text)
    edit('metrics.py', '\nunused = 1\n')
    edit('core.py', '\n# a remark\n')
    assert ids() == before
    edit('core.py', '\nused = 1\n')
    assert not set(ids()) & set(before)


def test_an_edited_notebook_or_other_parameters_are_other_runs(root):
    ids = lambda **params: [r['id'] for r in identify(plan(nap(2, **params), root), root)]
    before = ids()
    assert ids(seconds=.3) == before and not set(ids(seconds=.4)) & set(before)
    path = root/'nbs'/'experiments'/'nap.ipynb'
    path.write_text(path.read_text().replace("Sleeps.", "Sleeps well."))
    assert ids() == before
    path.write_text(path.read_text().replace("'Slept.'", "'Slept well.'"))
    assert not set(ids()) & set(before)


# --- the night

def test_one_failure_does_not_stop_the_rest(root):
    tiny_workspace(root, 'bad', ['# Bad', "how = 'sentence'", 'import os\nfrom partvision.core import PartvisionError\nprint("so far")',
                                 "if how == 'sentence': raise PartvisionError('the camera is unplugged; plug it in')\nif how == 'bug': 1/0\nif how == 'killed': os.kill(os.getpid(), 9)"])
    batch = dict(name='mixed', runs=[dict(notebook='bad', grid=dict(how=['sentence', 'bug', 'killed', 'fine'])), dict(notebook='nap')])
    summary = run_batch(batch, jobs=2, root=root)
    assert (summary['finished'], summary['failed'], summary['reused']) == (2, 3, 0)
    errors = [r['error'] for r in summary['runs']]
    assert errors[0] == 'the camera is unplugged; plug it in'
    assert errors[1] == 'ZeroDivisionError: division by zero (cell 4)'
    assert 'the kernel died' in errors[2] and errors[3:] == [None, None]
    for run in summary['runs'][:3]:
        folder = root/'reports'/'runs'/run['id']
        assert json.loads((folder/'run.json').read_text())['state'] == 'failed'
        assert 'so far' in (folder/'notebook.ipynb').read_text() and (folder/'metrics.json').exists()
    assert 'Traceback' not in (root/'reports'/'runs'/summary['runs'][0]['id']/'notebook.ipynb').read_text()
    again = run_batch(batch, jobs=2, root=root)
    assert (again['finished'], again['failed'], again['reused']) == (0, 3, 2) # failed ones are tried again
    assert counts(root) == {0: 1} and not leftovers(root)


def finished(root):
    "When each seed that is finished was started."
    table = load_runs(root)
    return dict(zip(table['params.seed'], table.started)) if len(table) else {}


def test_killed_at_any_moment_it_goes_on_from_there(root):
    batch, n, chance = nap(8), 8, random.Random(0)
    for round in range(4):
        had = finished(root)
        process = start(root, batch)
        if round: until(lambda: len(finished(root)) > len(had)) # the first is killed wherever its start-up has come to
        time.sleep(chance.uniform(0, 1.5))
        kernels = kernels_of(root)
        process.kill()
        process.communicate()
        until(lambda: not alive(kernels), 5)
    had = finished(root)
    summary = json.loads(told(start(root, batch))[0])
    assert (summary['finished'], summary['reused']) == (n - len(had), len(had)) and had
    assert dict(states(root)) == {'finished': n} and not leftovers(root)
    now = finished(root)
    assert sorted(now) == list(range(n)) and all(now[seed] == started for seed, started in had.items()) # none lost, none repeated


def test_a_run_that_was_complete_when_killed_is_kept(root):
    run_batch(nap(1), root=root)
    runs = root/'reports'/'runs'
    final, = runs.glob('[!.]*')
    final.rename(runs/f'.{final.name}')                         # killed just before the renaming
    (runs/('.' + '0'*16)).mkdir()                               # killed in a run that nobody asks for any more
    assert run_batch(nap(1), root=root)['reused'] == 1
    assert counts(root) == {0: 1} and not leftovers(root)


def test_interrupting_stops_the_kernels_and_marks_nothing_as_failed(root):
    process = start(root, nap(2, seconds=120.))
    until(lambda: len(counts(root, 'began')) == 2)
    kernels = kernels_of(root)
    process.send_signal(signal.SIGINT)
    told(process)
    assert process.returncode != 0 and not alive(kernels) and not len(load_runs(root))


def test_the_schema_beside_the_batches_is_that_of_the_code():
    assert json.loads((ROOT/'nbs/experiments/batches/schema.json').read_text()) == batch_schema(), 'write it anew: json.dumps(batch_schema(), indent=1)'


@pytest.mark.parametrize('file', sorted((ROOT/'nbs/experiments/batches').glob('*.yml')), ids=lambda f: f.stem)
def test_batches_that_ship_can_be_planned(file):
    import yaml
    from jsonschema import validate
    validate(yaml.safe_load(file.read_text()), batch_schema())
    runs = plan(file, ROOT, dict(catalog='data/mine'))
    recipes = {'recipes', 'robustness', 'self_supervised', 'imbalance', 'few_photos', 'fine_grained', 'multi_label'}
    photos = {'train', 'data_audit', 'label_audit', 'label_noise', 'multi_view'}
    assert {r['notebook'] for r in runs} == dict(demo=photos | {'recipes', 'ocr_benchmark'}, photos=photos, recipes=recipes)[file.stem]
    assert {r['params']['catalog'] for r in runs if r['notebook'] != 'ocr_benchmark'} == {'data/mine'}


def test_two_batches_at_once_share_the_work(root):
    both = [start(root, nap(6)), start(root, nap(6))]
    summaries = [json.loads(told(p)[0]) for p in both]
    assert counts(root) == dict.fromkeys(range(6), 1)
    assert all(s['finished'] + s['reused'] == 6 for s in summaries) and sum(s['finished'] for s in summaries) == 6
    assert dict(states(root)) == {'finished': 6} and not leftovers(root)


def test_kernels_share_the_cores(root):
    tiny_workspace(root, 'env', ['# Env', 'n = 0', 'import os\nfrom partvision.experiments import record\nrecord(threads=os.environ["OMP_NUM_THREADS"], folder=os.getcwd())'])
    run_batch(dict(runs=[dict(notebook='env', grid=dict(n=[0, 1]))]), jobs=2, root=root)
    table = load_runs(root)
    assert set(table['metrics.threads']) == {str(max(1, len(os.sched_getaffinity(0))//2))} and set(table['metrics.folder']) == {str(root)}


def test_on_a_cluster_with_a_worker_that_dies(root):
    distributed = pytest.importorskip('distributed', reason='extra `cluster` is not installed')
    import dask
    with dask.config.set({'distributed.comm.timeouts.connect': '10s'}), \
         distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        victim = next(iter(cluster.workers.values())).pid
        def kill():
            until(lambda: counts(root, 'began'))
            os.kill(victim, signal.SIGKILL)
        import threading
        killer = threading.Thread(target=kill)
        killer.start()
        summary = run_batch(nap(5, seconds=.5), root=root, scheduler=cluster.scheduler_address)
        killer.join()
    assert (summary['finished'], summary['failed']) == (5, 0)
    assert dict(states(root)) == {'finished': 5} and not leftovers(root)


def test_without_a_scheduler_it_says_so(root):
    pytest.importorskip('distributed', reason='extra `cluster` is not installed')
    with pytest.raises(PartvisionError, match='no Dask scheduler answers'): run_batch(nap(1), root=root, scheduler='tcp://127.0.0.1:1')


def test_the_table_takes_parameters_of_several_kinds(root):
    tiny_workspace(root, 'any', ['# Any', 'what = None', 'from partvision.experiments import record\nrecord(kind=type(what).__name__)'])
    run_batch(dict(runs=[dict(notebook='any', grid=dict(what=[1, 'a', [1, 2], None]))]), jobs=2, root=root)
    import pandas as pd
    stored = pd.read_parquet(root/'reports'/'runs.parquet')
    assert sorted(stored['metrics.kind']) == ['NoneType', 'int', 'list', 'str'] and len(stored) == 4


@pytest.mark.slow
def test_the_experiments_of_this_workspace_answer_from_their_defaults(tmp_path):
    for name in ('settings.ini', 'nbs', 'partvision'): (tmp_path/name).symlink_to(Path(__file__).parent.parent/name)
    summary = run_batch(dict(runs=[dict(notebook=n) for n in experiments(tmp_path)]), jobs=2, root=tmp_path)
    assert summary['failed'] == 0 and summary['finished'] >= 4
    table = load_runs(tmp_path)
    assert table[['verdict', 'metrics.data', 'metrics.split', 'metrics.n', 'metrics.pictures']].notna().all(axis=None)
    assert set(table['metrics.pictures']) == {'generated'}


def cell(*lines): return '\n'.join(lines)


def test_what_one_run_makes_the_next_one_uses(root):
    tiny_workspace(root, 'make', ['# Make', 'word = "nut"', cell('from partvision.experiments import record, results_folder', '(results_folder()/"word.txt").write_text(word)', 'record(made=word)')])
    tiny_workspace(root, 'use', ['# Use', 'source = ""', cell('from pathlib import Path', 'from partvision.experiments import record', 'record(read=Path(source).read_text())')])
    batch = dict(name='chain', runs=[dict(notebook='use', params=dict(source='$first/results/word.txt')), dict(notebook='make', name='first')])
    assert run_batch(batch, jobs=2, root=root)['finished'] == 2
    assert set(load_runs(root)['metrics.read'].dropna()) == {'nut'}
    assert run_batch(batch, root=root)['reused'] == 2
    batch['runs'][1]['params'] = dict(word='bolt')
    assert run_batch(batch, root=root)['finished'] == 2 # another first run is another second one
    assert set(load_runs(root)['metrics.read'].dropna()) == {'nut', 'bolt'}


def test_a_run_that_was_killed_finds_its_work_again(root):
    steps = cell('import time', 'from partvision.experiments import record, work_folder', 'work = work_folder()', 'had = len(list(work.iterdir()))',
                 'for k in range(had, 4): (work/str(k)).touch(); time.sleep(wait if k == 1 else 0)', 'record(had=had)')
    tiny_workspace(root, 'steps', ['# Steps', 'wait = 60', steps])
    batch = dict(name='steps', runs=[dict(notebook='steps')])
    process = start(root, batch, 1)
    until(lambda: list((root/'reports/runs/.work').glob('*/work/1')), 60)
    process.kill()
    process.communicate()
    assert run_batch(batch, root=root)['finished'] == 1 # from the third step on: it does not wait again
    assert load_runs(root)['metrics.had'].tolist() == [2] and not list((root/'reports/runs/.work').glob('*/*'))


def test_a_kernel_that_dies_is_tried_again_and_a_fault_of_the_input_is_not(root):
    once = cell('import os, signal', 'from partvision.core import PartvisionError', 'from partvision.experiments import record, work_folder', 'tries = work_folder()/"tries"', 'tries.open("a").write("x")',
                'if fault: raise PartvisionError(f"tried {len(tries.read_text())} times")', 'if len(tries.read_text()) < 2: os.kill(os.getpid(), signal.SIGKILL)', 'record(tries=len(tries.read_text()))')
    tiny_workspace(root, 'once', ['# Once', 'fault = False', once])
    summary = run_batch(dict(name='once', limits=dict(retries=3), runs=[dict(notebook='once', grid=dict(fault=[False, True]))]), jobs=2, root=root)
    assert [(r['state'], r['error']) for r in summary['runs']] == [('finished', None), ('failed', 'tried 1 times')]
    assert load_runs(root)['metrics.tries'].dropna().tolist() == [2]


def test_a_batch_that_is_to_stop_starts_nothing_after_a_failure(root):
    tiny_workspace(root, 'fail', ['# Fail', 'n = 0', 'raise ValueError("no")'])
    runs = [dict(notebook='fail'), *nap(6)['runs']]
    summary = run_batch(dict(name='stop', stop=True, runs=runs), root=root)
    assert (summary['failed'], summary['skipped'] + summary['finished']) == (1, 6) and summary['skipped'] >= 5
    assert run_batch(dict(name='go on', runs=runs), root=root)['finished'] >= 5
