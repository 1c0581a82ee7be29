"The command line as other programs call it: exit codes, one JSON document on standard output, resumed after a kill."
import json, os, re, shutil, signal, subprocess, sys, time
from pathlib import Path

import pytest

from partvision.cli import VERBS
from partvision.core import shared_data
from partvision.test_utils import tiny_catalog

CALL = [sys.executable, '-c', 'import sys; from partvision.cli import main; sys.exit(main())']
ENV = dict(os.environ, TQDM_DISABLE='1', OMP_NUM_THREADS='1')


def partvision(*args, cwd=None):
    "A finished call of the command, as a process of its own."
    return subprocess.run([*CALL, *map(str, args)], cwd=cwd, env=ENV, capture_output=True, text=True, timeout=600)


def answer(*args):
    "The JSON of a call that must succeed."
    done = partvision(*args, '--json')
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('photos with blanks')
    tiny_catalog(folder, n_classes=3, n_parts=8, n_views=3, size=96)
    (folder/'catalog.parquet').unlink()
    return folder


def test_help_lists_every_verb_and_no_other():
    out = partvision('--help').stdout
    assert {v for v in VERBS if re.search(rf'^    {v}\b', out, re.M)} == set(VERBS)
    assert set(VERBS) == {'ingest', 'quality', 'audit', 'synth', 'train', 'pretrain', 'evaluate', 'predict', 'read', 'run', 'runs', 'reproduce', 'site', 'demo'}


@pytest.mark.parametrize('verb', VERBS)
def test_each_verb_explains_itself(verb, capsys):
    from partvision.cli import main
    assert main([verb, '--help']) == 0
    out = capsys.readouterr().out
    example = out.partition('With --json:')[2].strip()
    assert example.startswith(('{', '[')), out


@pytest.mark.parametrize('args, status, says', [
    (['predct'], 2, "did you mean 'predict'?"),
    (['train', 'a'], 2, 'MODEL'),
    (['ingest', 'no/such/folder', 'out'], 1, 'does not exist'),
    (['train', 'no/such/catalog', 'model'], 1, 'partvision ingest'),
    (['evaluate', 'no/such/model', '.'], 1, 'does not exist'),
    (['synth', 'parts', 'out', '--faults', 'blured=0.1'], 1, "did you mean 'blurred'?"),
    (['read', 'no/such.png'], 1, 'does not exist'),
    (['site'], 1, 'workspace'),
    (['run', 'batch.yml'], 1, 'workspace')])
def test_faults_are_one_sentence(args, status, says, tmp_path):
    done = partvision(*args, cwd=tmp_path)
    assert done.returncode == status and says in done.stderr and not done.stdout, done.stderr
    assert 'Traceback' not in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_from_folder_to_answer(photos, tmp_path):
    data, model = tmp_path/'data', tmp_path/'model'
    assert answer('ingest', photos, data, '--part', r'([a-z]+\d+)_\d')['n'] == 72
    assert {i['issue'] for i in answer('quality', data)['issues']} >= {'blur', 'dark', 'bright', 'size'}
    assert answer('audit', data)['n'] == 72
    assert answer('train', data, model, '--recipe', 'frozen', '-p', 'size', '96')['metrics']['split'] == 'valid'
    one, parts = answer('evaluate', model, data), answer('evaluate', model, data, '--by', 'part')
    assert {'n', 'accuracy', 'top4', 'macro_f1', 'per_class', 'ece'} <= set(one) and one['n'] == 3*parts['n']
    pictures = sorted(photos.rglob('*.png'))[:3]
    for r in answer('predict', model, *pictures): assert r['top'][0] == [r['label'], r['probability']]
    fused, = answer('predict', model, *pictures, '--fuse')
    assert fused['label'] in ('bolt', 'gear', 'nut')
    broken = tmp_path/'broken.png'
    broken.write_bytes(pictures[0].read_bytes()[:60])
    done = partvision('predict', model, broken, pictures[0], '--json')
    bad, good = json.loads(done.stdout)
    assert done.returncode == 1 and 'broken.png' in bad['error'] and good['label']


def wait_for(path, process, seconds=240):
    "Wait until a file is there, while the process lives."
    end = time.time() + seconds
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.time() < end, f'{path} did not appear'
        time.sleep(.05)


def test_training_learns_from_decisions(photos, tmp_path):
    from partvision.catalog import read_catalog
    from partvision.labels.decisions import decide
    data, model = tmp_path/'data', tmp_path/'model'
    answer('ingest', photos, data, '--part', r'([a-z]+\d+)_\d')
    catalog = read_catalog(data)
    for part in catalog.part[catalog.label == 'nut'].unique(): decide(catalog, part, 'label', 'gear', target='part', who='ana')
    assert answer('train', data, model, '--recipe', 'frozen', '-p', 'size', '64')['classes'] == ['bolt', 'gear']
    assert set(read_catalog(data).label) == {'bolt', 'gear', 'nut'}
    refused = partvision('evaluate', model, data) # nuts of the test split are nuts still, and the model knows none
    assert refused.returncode == 1 and "does not know the label 'nut'" in refused.stderr
    assert set(answer('evaluate', model, data, '--corrected')['per_class']) == {'bolt', 'gear'}


def test_what_a_decision_moves_is_not_judged_by_what_learned_from_it(photos, tmp_path):
    from partvision.catalog import read_catalog
    from partvision.labels.decisions import corrected, decide
    data, model = tmp_path/'data', tmp_path/'model'
    answer('ingest', photos, data, '--part', r'([a-z]+\d+)_\d')
    catalog = read_catalog(data)
    test, *train = (catalog.part[(catalog.label == 'bolt') & (catalog.split == split)].unique() for split in ('test', 'train'))
    for part in train[0][:2]: decide(catalog, part, 'part', test[0], target='part', who='ana') # three parts are one, and most of it was learned from
    moved = corrected(catalog)
    assert (moved.split != catalog.split).any()
    answer('train', data, model, '--recipe', 'frozen', '-p', 'size', '64')
    assert answer('evaluate', model, data)['n'] == (moved.split == 'test').sum() != (catalog.split == 'test').sum()


def test_training_goes_on_after_kill_9(photos, tmp_path):
    data = tmp_path/'data'
    answer('ingest', photos, data)
    knobs = ['-p', 'size', 64, '-p', 'epochs', 3, '-p', 'batch_size', 8]
    whole = answer('train', data, tmp_path/'whole', *knobs)
    command = [*CALL, 'train', *map(str, [data, tmp_path/'killed', *knobs])]
    process = subprocess.Popen(command, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path/'.killed.training'/'choose'/'state.json', process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path/'killed').exists()
    again = answer('train', data, tmp_path/'killed', *knobs)
    assert again['recipe']['history'] == whole['recipe']['history']
    assert (tmp_path/'killed'/'model.safetensors').read_bytes() == (tmp_path/'whole'/'model.safetensors').read_bytes()
    assert not (tmp_path/'.killed.training').exists()


def test_real_photos_from_folder_to_figures(tmp_path):
    real = shared_data('electronics')
    if real is None: pytest.skip('the shared data (electronics) is not on this machine')
    for kind in ('Diode', 'IC', 'Transformer'):
        (tmp_path/'photos'/kind).mkdir(parents=True)
        for f in sorted((real/kind).glob('*.jpg'))[:40]: shutil.copy(f, tmp_path/'photos'/kind)
    data, model = tmp_path/'data', tmp_path/'model'
    assert answer('ingest', tmp_path/'photos', data)['n'] == 120
    answer('train', data, model, '--recipe', 'frozen')
    found = answer('evaluate', model, data)
    assert found['n'] >= 20 and found['accuracy'] > .7, found


@pytest.mark.real
@pytest.mark.parametrize('name, args', [('electronics', []), ('mech_parts', ['--part', r'(.+)_\d+\.png$'])])
def test_whole_sets(name, args, tmp_path):
    real = shared_data(name)
    if real is None: pytest.skip(f'the shared data ({name}) is not on this machine')
    data, model = tmp_path/'data', tmp_path/'model'
    answer('ingest', real, data, *args)
    answer('quality', data)
    answer('audit', data)
    answer('train', data, model, '--recipe', 'frozen')
    split = 'test' if name == 'electronics' else 'valid'
    assert answer('evaluate', model, data, '--split', split)['accuracy'] > .75
    if args: assert answer('evaluate', model, data, '--split', split, '--by', 'part')['n'] > 10
