"What repeating and handing on promise: the stored run is never touched, every metric is compared, other tools read what is written for them."
import hashlib, json, math, os, shutil
from pathlib import Path

import nbformat
import pytest
import yaml

from partvision.cli import main
from partvision.core import PartvisionError
from partvision.experiments import run_batch, tiny_workspace
from partvision.tracking import export_dvc, export_mlflow, reproduce

# What a metric can be, and one that comes out differently on request.
KINDS = ['# What can a metric be?\n\n> Records one of each kind.', "shift = .0   # share by which the float is off when `drift` is there\nwrong = False # fails\ncatalog = None # has no say",
         'import os\nimport matplotlib.pyplot as plt\nfrom partvision.core import PartvisionError\nfrom partvision.experiments import record',
         "if wrong: raise PartvisionError('nothing to record; set wrong to False')\ndrift = open('drift').read() if os.path.exists('drift') else ''\nfig, ax = plt.subplots(figsize=(2, 1))",
         "record('One of each.', figures=dict(empty=fig), accuracy=.9*(1 + (shift or .005)*('float' in drift)), n=20 + ('count' in drift), data='parts' + '!'*('text' in drift),\n"
         "       none=None, nan=float('nan'), flag=True, per_class={'IC (8 pin)': .5, 'a/b': 1.}, **(dict(extra=1) if 'extra' in drift else {}))"]


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "A workspace with a finished run of that notebook, one of the die, and a failed one."
    root = tiny_workspace(tmp_path_factory.mktemp('made')/'with {braces} and blanks', 'kinds', KINDS)
    tiny_workspace(root)
    run_batch(dict(name='all', runs=[dict(notebook='kinds', grid=dict(wrong=[False, True])), dict(notebook='dice')]), jobs=2, root=root)
    return root


@pytest.fixture
def root(made, tmp_path): return Path(shutil.copytree(made, tmp_path/'copy {1}'))


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path): monkeypatch.chdir(tmp_path) # back again afterwards


def folder_of(root, notebook='kinds', state='finished'):
    return next(f.parent for f in (root/'reports'/'runs').glob('*/run.json') if (i := json.loads(f.read_text()))['notebook'] == notebook and i['state'] == state)


def content(folder): return {p.relative_to(folder).as_posix(): (p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).hexdigest()) for p in folder.rglob('*') if p.is_file()}


def called(capsys, root, *args):
    os.chdir(root)
    status = main([str(a) for a in args])
    return status, *capsys.readouterr()


# --- repeated

def test_a_run_that_is_repeated_says_the_same_and_is_not_touched(root, capsys):
    folder = folder_of(root)
    before, runs = content(folder), sorted(os.listdir(folder.parent))
    status, out, _ = called(capsys, root, 'reproduce', folder.name[:8], '--json')
    found = json.loads(out)
    assert status == 0 and found['same'] and found['changed'] == []
    assert {m['name'] for m in found['metrics']} == {'accuracy', 'n', 'data', 'none', 'nan', 'flag', 'per_class.IC (8 pin)', 'per_class.a/b'}
    assert content(folder) == before and sorted(os.listdir(folder.parent)) == runs


@pytest.mark.parametrize('drift, tolerance, differs', [('float', '.01', []), ('float', '.001', ['accuracy']), ('count text extra', '.5', ['n', 'data', 'extra'])])
def test_every_metric_is_compared(root, capsys, drift, tolerance, differs):
    (root/'drift').write_text(drift)
    status, out, _ = called(capsys, root, 'reproduce', folder_of(root).name, '--tolerance', tolerance, '--json')
    assert [m['name'] for m in json.loads(out)['metrics'] if not m['same']] == differs and status == bool(differs)


def test_what_changed_since_is_told_beforehand(root, capsys):
    path = root/'nbs'/'experiments'/'dice.ipynb'
    path.write_text(path.read_text().replace('mean = sum(fell)/rolls', 'mean = sum(fell)/(rolls - 1)').replace('loaded = .0 ', 'biased = .0 ').replace('< loaded', '< biased'))
    info = folder_of(root, 'dice')/'run.json'
    info.write_text(json.dumps(json.loads(info.read_text()) | dict(versions=dict(json.loads(info.read_text())['versions'], torch='0.1'))))
    status, out, err = called(capsys, root, 'reproduce', info.parent.name)
    assert status == 1 and '1 of 2 metrics differ' in out and 'Traceback' not in err
    assert 'changed since, parameter: the notebook has no parameter loaded any more' in out and 'changed since, version: torch was 0.1, is ' in out and 'cell 3 changed: ' in out


def test_data_that_changed_is_told_and_data_that_is_gone_ends_in_a_sentence(root):
    from partvision.catalog import write_catalog
    from partvision.test_utils import tiny_catalog
    c = tiny_catalog(root/'parts', n_classes=2, n_parts=4, n_views=1, size=16)
    id = run_batch(dict(name='data', runs=[dict(notebook='dice', params=dict(catalog='parts'))]), root=root)['runs'][0]['id']
    c.loc[0, 'label'] = 'nut'
    write_catalog(c, root/'parts')
    found = reproduce(id, root)
    assert found['same'] and found['changed'] == [dict(what='data', says='catalog has changed')]
    shutil.rmtree(root/'parts')
    with pytest.raises(PartvisionError, match='does not exist'): reproduce(id, root)


def spoil(root, what):
    "The beginning of a run's id, after something was done to it."
    folder = folder_of(root)
    if what == 'metrics': (folder/'metrics.json').write_text('{"accuracy": ')
    if what == 'half': (folder/'run.json').unlink()
    if what == 'notebook': (root/'nbs'/'experiments'/'kinds.ipynb').unlink()
    if what == 'now fails': (root/'nbs'/'experiments'/'kinds.ipynb').write_text((root/'nbs'/'experiments'/'kinds.ipynb').read_text().replace('if wrong:', 'if True:'))
    if what == 'bare': (folder/'run.json').write_text('{"state": "finished"}')
    return folder.name if what in ('half', 'bare') else folder_of(root, state='failed').name if what == 'failed' else 'zzz' if what == 'unknown' else folder.name


@pytest.mark.parametrize('what, says', [('metrics', 'is incomplete: metrics.json is damaged'), ('half', 'is incomplete: run.json is missing'), ('bare', 'cannot be repeated'), ('notebook', 'there is no nbs/experiments/kinds.ipynb any more'),
    ('now fails', 'could not be repeated: nothing to record'), ('failed', 'failed, so there is nothing to compare with'), ('unknown', "there is no run 'zzz'")])
def test_what_cannot_be_repeated_is_one_sentence(root, capsys, what, says):
    status, out, err = called(capsys, root, 'reproduce', spoil(root, what))
    assert status == 1 and not out and says in err and len(err.strip().splitlines()) == 1 and 'Traceback' not in err, err


# --- handed on

def test_mlflow_reads_what_was_exported_and_twice_adds_nothing(root, capsys):
    pytest.importorskip('mlflow', reason='extra `tracking` is not installed')
    store = root/'store'
    status, out, _ = called(capsys, root, 'runs', 'export', '--mlflow', store, '--json')
    assert status == 0 and len(json.loads(out)) == 2
    assert export_mlflow(root, store) == []
    from mlflow import MlflowClient
    client, folder = MlflowClient(store.as_uri()), folder_of(root)
    run, = client.search_runs([client.get_experiment_by_name('kinds').experiment_id])
    assert math.isnan(run.data.metrics.pop('nan')) and math.isnan(run.data.metrics.pop('none'))
    assert run.data.metrics == {'accuracy': .9, 'n': 20., 'flag': 1., 'per_class.IC _8 pin_': .5, 'per_class.a_b': 1.}
    assert run.data.params == dict(shift='0.0', wrong='False', catalog='None')
    info = json.loads((folder/'run.json').read_text())
    assert {'partvision.run': folder.name, 'notebook': 'kinds', 'verdict': 'One of each.', 'metrics.data': 'parts', 'code': info['identity']['code']}.items() <= run.data.tags.items()
    assert sorted(a.path for a in client.list_artifacts(run.info.run_id)) == ['empty.png', 'notebook.ipynb'] and run.info.status == 'FINISHED'
    assert Path(client.download_artifacts(run.info.run_id, 'empty.png')).read_bytes() == (folder/'empty.png').read_bytes()
    assert round((run.info.end_time - run.info.start_time)/1000, 2) == info['seconds']


def test_an_interrupted_export_is_completed(root, monkeypatch):
    pytest.importorskip('mlflow', reason='extra `tracking` is not installed')
    from mlflow import MlflowClient
    from partvision import tracking
    def stop(*args): raise KeyboardInterrupt
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(tracking, '_artifacts', stop)
        export_mlflow(root, root/'store')
    assert len(export_mlflow(root, root/'store')) == 2
    client = MlflowClient((root/'store').as_uri())
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert len(runs) == 2 and {r.info.status for r in runs} == {'FINISHED'}


def test_data_hashes_are_tags(root):
    pytest.importorskip('mlflow', reason='extra `tracking` is not installed')
    from mlflow import MlflowClient
    from partvision.test_utils import tiny_catalog
    tiny_catalog(root/'parts', n_classes=2, n_parts=4, n_views=1, size=16)
    id = run_batch(dict(name='data', runs=[dict(notebook='dice', params=dict(catalog='parts'))]), root=root)['runs'][0]['id']
    export_mlflow(root, root/'store')
    client = MlflowClient((root/'store').as_uri())
    run, = client.search_runs([client.get_experiment_by_name('dice').experiment_id], f"tags.`partvision.run` = '{id}'")
    assert run.data.tags['data.catalog'] == json.loads((root/'reports/runs'/id/'run.json').read_text())['identity']['data']['catalog']


def test_without_mlflow_it_says_how_to_get_it(root, monkeypatch, capsys):
    monkeypatch.setitem(__import__('sys').modules, 'mlflow', None)
    status, out, err = called(capsys, root, 'runs', 'export', '--mlflow', 'store')
    assert status == 1 and "pip install 'partvision[tracking]'" in err and not (root/'store').exists()


@pytest.mark.parametrize('kind', ['mlflow', 'dvc'])
def test_a_file_is_no_folder(root, capsys, kind):
    if kind == 'mlflow': pytest.importorskip('mlflow', reason='extra `tracking` is not installed')
    (root/'file').touch()
    status, _, err = called(capsys, root, 'runs', 'export', f'--{kind}', 'file')
    assert status == 1 and 'file' in err and len(err.strip().splitlines()) == 1 and 'Traceback' not in err, err


def test_dvc_gets_files_that_it_reads(root, capsys):
    (folder_of(root, 'dice')/'metrics.json').write_text('{') # a damaged run is left out
    status, out, _ = called(capsys, root, 'runs', 'export', '--dvc', 'followed')
    assert status == 0 and 'runs: 1 → followed' in out
    folder = folder_of(root)
    to = root/'followed'/'kinds'/folder.name[:12]
    assert yaml.safe_load((to/'params.yaml').read_text()) == dict(shift=0., wrong=False, catalog=None)
    assert json.loads((to/'metrics.json').read_text())['per_class.a/b'] == 1. and sorted(p.name for p in to.iterdir()) == ['metrics.json', 'params.yaml']
    assert export_dvc(root, root/'followed') == [folder.name]


def test_the_executed_notebook_holds_the_metrics_as_scraps(root):
    folder = folder_of(root)
    outputs = [o for c in nbformat.read(folder/'notebook.ipynb', 4).cells for o in c.get('outputs', []) if 'application/scrapbook.scrap.json+json' in o.get('data', {})]
    scraps = [o.data['application/scrapbook.scrap.json+json'] for o in outputs]
    assert {s['name']: s['data'] for s in scraps} == json.loads((folder/'metrics.json').read_text())
    assert all(s['encoder'] == 'json' and s['version'] == 1 for s in scraps)
    assert [o.metadata['scrapbook'] for o in outputs] == [dict(name=s['name'], data=True, display=False) for s in scraps]


@pytest.mark.filterwarnings('ignore')
def test_scrapbook_itself_reads_them(root):
    scrapbook = pytest.importorskip('scrapbook', reason='not installed')
    folder = folder_of(root, 'dice')
    assert scrapbook.read_notebook(str(folder/'notebook.ipynb')).scraps.data_dict == json.loads((folder/'metrics.json').read_text())
