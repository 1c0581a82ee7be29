"The model folder under stress: killed while saving, damaged on the way, used without torch, fed with odd pictures."
import json, os, shutil, signal, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partvision.bundle import FILES, load_bundle, read_input, save_bundle
from partvision.catalog import class_names, image_paths, targets
from partvision.core import PartvisionError, file_sha256, open_picture
from partvision.evaluate import evaluate, predict_split
from partvision.predictor import Predictor
from partvision.test_utils import fit_tiny, tiny_catalog, tiny_model

MEAN, STD = [.5]*3, [.25]*3


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "A catalog, a network trained on it, and its bundle, below a folder with blanks in its name."
    root = tmp_path_factory.mktemp('line 3 models')
    catalog = tiny_catalog(root/'data', n_parts=8)
    x = np.stack([read_input(p, 32, MEAN, STD) for p in image_paths(catalog)])
    model = fit_tiny(tiny_model(3), x, targets(catalog), epochs=10)
    save_bundle(root/'model', model, class_names(catalog), 32, MEAN, STD, 'tiny', catalog=catalog, images=image_paths(catalog)[:8])
    return root, catalog, model


@pytest.fixture
def copy(made, tmp_path):
    "A bundle that a test may damage."
    return Path(shutil.copytree(made[0]/'model', tmp_path/'model'))


def edit(folder, **change):
    info = json.loads((folder/'bundle.json').read_text())
    (folder/'bundle.json').write_text(json.dumps({**info, **change}))


def test_folder_holds_what_the_handbook_says_and_no_pickle(made):
    names = {p.name for p in (made[0]/'model').iterdir()}
    assert names == {'model.safetensors', 'model.onnx', 'labels.txt', 'bundle.json'}
    assert not any((made[0]/'model'/n).read_bytes()[:2] in (b'PK', b'\x80\x02', b'\x80\x04') for n in names)


def test_bundle_json_names_what_it_was_made_from(made):
    info = json.loads((made[0]/'model'/'bundle.json').read_text())
    assert {'architecture', 'preprocessing', 'task', 'metrics', 'catalog', 'versions', 'parity', 'files'} <= set(info)
    assert set(info['files']) == set(FILES)
    assert str(made[0]) not in (made[0]/'model'/'bundle.json').read_text()


def test_onnx_gives_logits_features_and_head(made):
    predictor = Predictor(made[0]/'model', threads=1)
    for n in (1, 5):
        logits, features, weight = predictor.session.run(['logits', 'features', 'head_weight'], {'image': np.zeros((n, 3, 32, 32), np.float32)})
        assert logits.shape == (n, 3) and features.shape == (n, 32, 4, 4) and weight.shape == (3, 32)
    bias = made[2].head.bias.detach().numpy()
    assert np.allclose(features.mean((2, 3)) @ weight.T + bias, logits, atol=1e-4)


def test_same_network_same_bytes_and_the_callers_network_is_untouched(made, tmp_path):
    model = made[2].train()
    info = save_bundle(tmp_path/'again', model, class_names(made[1]), 32, MEAN, STD, 'tiny')
    assert model.training
    model.eval()
    assert info['files'] == load_bundle(made[0]/'model')['files']


@pytest.mark.parametrize('name', FILES)
def test_missing_and_changed_files_are_named(copy, name):
    content = (copy/name).read_bytes()
    (copy/name).write_bytes(content + b' ')
    with pytest.raises(PartvisionError, match=f'{name} is not the file that was saved'): load_bundle(copy)
    (copy/name).unlink()
    with pytest.raises(PartvisionError, match=f'lacks {name}'): load_bundle(copy)


def test_other_formats_and_damaged_facts_are_refused(copy):
    edit(copy, format=2, versions=dict(partvision='9.0'))
    with pytest.raises(PartvisionError, match=r'format 2.*\(9.0\)'): load_bundle(copy)
    edit(copy, format=1)
    facts = json.loads((copy/'bundle.json').read_text())
    (copy/'bundle.json').write_text(json.dumps({k: v for k, v in facts.items() if k != 'preprocessing'}))
    with pytest.raises(PartvisionError, match='lacks preprocessing'): load_bundle(copy)
    for text, says in (('{', 'not readable as JSON'), ('[]', 'does not describe a model'), ('{}', 'does not describe a model')):
        (copy/'bundle.json').write_text(text)
        with pytest.raises(PartvisionError, match=says): load_bundle(copy)


def test_a_file_hash_left_out_of_the_facts_does_not_pass(copy):
    edit(copy, files={'labels.txt': file_sha256(copy/'labels.txt')})
    with pytest.raises(PartvisionError, match='not the file that was saved'): load_bundle(copy)


KILLED = '''
import os, signal, sys
import partvision.bundle as bundle
from partvision.test_utils import tiny_model
def killed(*args, **kw): os.kill(os.getpid(), signal.SIGKILL)
setattr(bundle, sys.argv[2], killed)
bundle.save_bundle(sys.argv[1], tiny_model(3, seed=5), ['bolt', 'gear', 'nut'], 32, [.5]*3, [.25]*3, 'tiny')
'''

@pytest.mark.parametrize('where', ['export_onnx', 'write_json'])
def test_a_kill_while_saving_leaves_the_old_model(copy, where):
    before = load_bundle(copy)['files']
    assert subprocess.run([sys.executable, '-c', KILLED, copy, where]).returncode == -signal.SIGKILL
    assert load_bundle(copy)['files'] == before


def test_replacing_keeps_what_is_not_ours(made, copy):
    (copy/'notes.txt').write_text('good with flash')
    (copy/'model.int8.onnx').write_bytes(b'of the old network')
    save_bundle(copy, tiny_model(2), ['nut', 'washer'], 32, MEAN, STD, 'tiny')
    assert load_bundle(copy)['classes'] == ['nut', 'washer']
    assert (copy/'notes.txt').exists() and not (copy/'model.int8.onnx').exists()
    assert [p.name for p in copy.parent.iterdir()] == ['model']


def test_a_folder_of_pictures_is_never_replaced(made):
    before = sorted(made[0].rglob('*.png'))
    with pytest.raises(PartvisionError, match='holds other things'): save_bundle(made[0]/'data', made[2], class_names(made[1]), 32, MEAN, STD, 'tiny')
    with pytest.raises(PartvisionError, match='lies below a file'): save_bundle(made[0]/'model'/'labels.txt'/'x', made[2], class_names(made[1]), 32, MEAN, STD, 'tiny')
    assert sorted(made[0].rglob('*.png')) == before


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_read_only_folder_is_named(made, tmp_path):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(PartvisionError, match='not writable'): save_bundle(tmp_path/'model', made[2], class_names(made[1]), 32, MEAN, STD, 'tiny')
    finally: tmp_path.chmod(0o755)


WITHOUT = '''
import json, sys
for name in ('torch', 'torchvision', 'fastai', 'pandas', 'sklearn', 'matplotlib', 'timm'): sys.modules[name] = None
from partvision.predictor import Predictor
p = Predictor(sys.argv[1])
print(json.dumps([p.predict(sys.argv[2:]), p.predict_part(sys.argv[2:]), p.heatmap(sys.argv[2]).tolist()]))
'''

def test_prediction_needs_no_torch_and_no_pandas(made):
    paths = [str(p) for p in image_paths(made[1])[:3]]
    out = subprocess.run([sys.executable, '-c', WITHOUT, made[0]/'model', *paths], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    answers, part, heat = json.loads(out.stdout)
    assert [a['image'] for a in answers] == paths and part['images'] == paths and np.shape(heat) == (4, 4)


def test_the_same_picture_in_any_file_format_gets_the_same_answer(made, tmp_path):
    picture, exif = open_picture(image_paths(made[1])[0]), Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path/'a.png')
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path/'turned.png', exif=exif)
    picture.save(tmp_path/'a.webp', lossless=True)
    picture.save(tmp_path/'a.tif')
    probs = Predictor(made[0]/'model').probs([picture, *sorted(tmp_path.iterdir())])
    assert len(probs) == 5 and np.abs(probs - probs[0]).max() < 1e-6


def test_broken_pictures_among_many(made, tmp_path):
    good = image_paths(made[1])[:40]
    (tmp_path/'empty.jpg').touch()
    (tmp_path/'cut.png').write_bytes(good[0].read_bytes()[:500])
    mixed = [tmp_path/'empty.jpg', *good, tmp_path/'cut.png', tmp_path/'none.png']
    answers = Predictor(made[0]/'model').predict(mixed, batch_size=4)
    assert [i for i, a in enumerate(answers) if 'error' in a] == [0, 41, 42]
    assert [a['label'] for a in answers[1:41]] == [a['label'] for a in Predictor(made[0]/'model').predict(good)]
    with pytest.raises(PartvisionError, match=r'empty.jpg.*2 more'): Predictor(made[0]/'model').probs(mixed)


def test_several_labels_a_picture(made, tmp_path):
    root, catalog, _ = made
    several = catalog.assign(label=catalog.label.map({'bolt': 'long', 'gear': 'hole;round', 'nut': 'hole'}))
    several.loc[several.part == 'bolt00', 'label'] = ''
    x = np.stack([read_input(p, 32, MEAN, STD) for p in image_paths(several)])
    classes = class_names(several)
    model = fit_tiny(tiny_model(len(classes)), x, targets(several), epochs=15)
    save_bundle(tmp_path/'model', model, classes, 32, MEAN, STD, 'tiny', task='multi', catalog=several)
    result, fused = evaluate(tmp_path/'model', several), evaluate(tmp_path/'model', several, by='part')
    assert classes == ['hole', 'long', 'round'] and {'hamming', 'micro_f1', 'map'} <= set(result)
    assert result['n'] == (several.split == 'test').sum() and fused['n'] == several.part[several.split == 'test'].nunique()
    assert result['per_class']['hole']['n'] == 12
    predictor = Predictor(tmp_path/'model')
    assert predictor.predict(image_paths(several)[-1:])[0]['label'] in ('hole', '', 'hole;round')
    with pytest.raises(PartvisionError, match='several labels'): evaluate(root/'model', several.assign(label='bolt;gear'))


def test_fused_evaluation_counts_parts_whatever_the_order(made):
    root, catalog, _ = made
    shuffled = catalog.sample(frac=1, random_state=0)
    shuffled.attrs = catalog.attrs
    first, second = (evaluate(root/'model', c, 'train', by='part') for c in (catalog, shuffled))
    assert first['n'] == catalog.part[catalog.split == 'train'].nunique()
    assert first['accuracy'] == second['accuracy'] and first['data'] == second['data']
    alone = evaluate(root/'model', catalog.assign(part=None), 'train', by='part')
    assert alone['n'] == alone['views'] == (catalog.split == 'train').sum()
    rows, labels, probs = predict_split(root/'model', shuffled, 'train', by='part')
    assert [class_names(catalog)[i] for i in labels] == list(rows.label)
