"""What the recipes reach on real pictures, beside stock fastai.

    python tests/benchmarks/bench_recipes.py tiles        good or defect, magnetic tiles, every tile by a model that never saw it (minutes; --recipe finetune: an hour)
    python tests/benchmarks/bench_recipes.py sets         several labels a picture: screws in four places, defects of steel (minutes)
    python tests/benchmarks/bench_recipes.py calibration  whether confidence can be believed, electronics, out-of-fold (minutes)
    python tests/benchmarks/bench_recipes.py peer         electronics, a quarter held out, beside stock fastai in the same time (an hour)
    python tests/benchmarks/bench_recipes.py speed        the frozen recipe on 3,000 pictures, cold and warm; the loader (minutes)
"""
import argparse
import os
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
from table import record

FOLDS = 5
LITES = 'efficientnet_lite0+efficientnet_lite1+efficientnet_lite2'


def shared(name):
    "The folder of a shared data set."
    from partvision.core import shared_data
    root = shared_data(name)
    if root is None: sys.exit(f'the set {name} is not on this machine; name the place of the data with PARTVISION_SHARED')
    return root


def catalog_of(name, rows, folder):
    "A catalog of rows with image and label, grouped as anybody's would be."
    from partvision.ingest import ingest
    pd.DataFrame(rows).to_csv(f'{folder}/{name}.csv', index=False)
    return ingest(f'{folder}/{name}.csv', f'{folder}/{name}', images=shared(name), seed=0)


def folds(kind, groups):
    "Fold number of every picture; all pictures of a group in one."
    from sklearn.model_selection import StratifiedGroupKFold
    of = np.empty(len(kind), int)
    for k, (_, held) in enumerate(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(kind, kind, groups)): of[held] = k
    return of


def out_of_fold(catalog, recipe, tta=False):
    "Labels, probabilities, thresholds of each picture by a model that saw nothing of its group; the next fold is its validation split. And the bundle's facts."
    from partvision.catalog import class_names, image_paths, is_multilabel, targets
    from partvision.predictor import Predictor
    from partvision.train import train
    classes, multi = class_names(catalog), is_multilabel(catalog)
    y, of = targets(catalog, classes, multi), folds(catalog.label.to_numpy(str), catalog.group.to_numpy(str))
    probs, thresholds, calls = (np.zeros((len(catalog), len(classes))) for _ in range(3))
    for k in range(FOLDS):
        split = np.where(of == k, 'test', np.where(of == (k + 1) % FOLDS, 'valid', 'train'))
        with tempfile.TemporaryDirectory() as d:
            info = train(catalog.assign(split=split), f'{d}/model', **recipe)
            p, columns = Predictor(f'{d}/model', tta=tta), [classes.index(c) for c in info['classes']]
            for s, out in (('test', probs), ('valid', calls)): out[np.ix_(split == s, columns)] = p.probs(image_paths(catalog[split == s]))
            thresholds[np.ix_(of == k, columns)] = p.thresholds
        print(f'fold {k + 1} of {FOLDS}', flush=True)
    return classes, y, probs, thresholds, calls, of, info


def named(recipe, tta):
    "What a row calls a recipe."
    knobs = {k: v for k, v in recipe.items() if k not in ('recipe', 'backbone')}
    n, own = recipe['backbone'].count('+') + 1, recipe['backbone']
    return ', '.join([recipe['recipe'], *([f'{n} backbones'] if n > 1 else [own] if own != 'efficientnet_lite0' else []), *(f'{k} {v}' for k, v in knobs.items()), *(['several looks'] if tta else [])])


def tiles(recipe, tta):
    "Three rows: recall of defects at a precision, area under the ROC curve, accuracy."
    from partvision.metrics import group_bootstrap, operating_point
    from sklearn.metrics import roc_auc_score
    root = shared('magnetic_tiles')
    rows = [dict(image=p.relative_to(root).as_posix(), label='good' if 'MT_Free' in p.parts else 'defect') for p in sorted(root.rglob('*.jpg'))]
    with tempfile.TemporaryDirectory() as d:
        catalog = catalog_of('magnetic_tiles', rows, d)
        classes, y, probs, _, calls, of, info = out_of_fold(catalog, recipe, tta)
    k = classes.index('defect')
    hot, p = y == k, probs[:, k]
    line = np.array([operating_point(hot[of == (f + 1) % FOLDS], calls[of == (f + 1) % FOLDS, k], .9)['threshold'] for f in range(FOLDS)])[of] if not recipe.get('refit', True) else None
    best = operating_point(hot, p, .9)
    caught = p >= best['threshold']
    low, high = group_bootstrap(caught[hot], catalog.group[hot])
    on = f"{len(y)} photos of {catalog.group.nunique()} groups by likeness, {int(hot.sum())} with defects, each judged by a model that saw nothing of its group, {FOLDS} folds; {info['architecture']}, {info['preprocessing']['size']} px"
    name = named(recipe, tta)
    own = '' if line is None else f'; with the threshold of each fold from its validation pictures: recall {(p >= line)[hot].mean():.3f}, precision {hot[p >= line].mean():.3f}'
    record(f'magnetic tiles, recall of defects at a precision of .90, {name}', f"{best['recall']:.3f} ({low:.3f}–{high:.3f})", 'at least .95', best['recall'] >= .95, on + '; one threshold for all folds, chosen on these answers' + own)
    record(f'magnetic tiles, area under the ROC curve, {name}', f'{roc_auc_score(hot, p):.4f}', 'at least .995', roc_auc_score(hot, p) >= .995, on)


def screws_rows():
    "A label for each place that holds a screw."
    table = pd.read_csv(shared('screws')/'labels.csv')
    places = [c for c in table if c != 'file']
    return [dict(image=r.file, label=';'.join(p for p in places if r[p])) for _, r in table.iterrows()]


def steel_rows():
    "A label for each kind of defect in a picture."
    root, rows = shared('neu_det'), []
    for file in sorted((root/'annotations').glob('*.xml')):
        image = next((root/'images').rglob(file.stem + '.*'))
        rows.append(dict(image=image.relative_to(root).as_posix(), label=';'.join(sorted({o.findtext('name') for o in ET.parse(file).iter('object')}))))
    return rows


def sets(recipe, tta):
    "Subset accuracy of screws, mAP of steel."
    from partvision.metrics import group_bootstrap, scores
    for name, rows, own in (('screws', screws_rows(), dict(grid=2)), ('neu_det', steel_rows(), {})):
        with tempfile.TemporaryDirectory() as d:
            catalog = catalog_of(name, rows, d)
            classes, y, probs, thresholds, _, _, info = out_of_fold(catalog, recipe | own, tta)
        right, found = ((probs >= thresholds) == y).all(1), scores(y, probs, classes, thresholds)
        low, high = group_bootstrap(right, catalog.group)
        on = f"{len(y)} photos of {catalog.group.nunique()} groups by likeness, {len(classes)} classes, {int((y.sum(1) > 1).sum())} photos with several, each judged by a model that saw nothing of its group, {FOLDS} folds; {info['architecture']}, {info['preprocessing']['size']} px; mAP {found['map']:.3f}, micro-F1 {found['micro_f1']:.3f}, macro-F1 {found['macro_f1']:.3f}, Hamming loss {found['hamming']:.4f}"
        what = f'{name}, {named(recipe | own, tta)}'
        if name == 'screws': record(f'all places right on {what}', f'{int(right.sum())} of {len(right)} ({low:.3f}–{high:.3f})', 'at least .95', right.mean() >= .95, on)
        else:
            record(f'mean average precision on {what}', f"{found['map']:.3f}", 'at least .95', found['map'] >= .95, on)
            record(f'all classes right on {what}', f'{right.mean():.3f} ({low:.3f}–{high:.3f})', 'for comparison', None, on)


def calibration(recipe, tta):
    "One row: debiased calibration error with an interval by group."
    from partvision.ingest import ingest
    from partvision.metrics import ece_debiased
    with tempfile.TemporaryDirectory() as d:
        catalog = ingest(shared('electronics'), f'{d}/data', seed=0)
        _, y, probs, _, _, _, info = out_of_fold(catalog, recipe, tta)
    _, of = np.unique(catalog.group.to_numpy(str), return_inverse=True)
    members, rng = [np.flatnonzero(of == g) for g in range(of.max() + 1)], np.random.default_rng(0)
    draws = [ece_debiased(y[i], probs[i]) for i in (np.concatenate([members[g] for g in rng.integers(len(members), size=len(members))]) for _ in range(300))]
    found, (low, high) = ece_debiased(y, probs), np.quantile(draws, [.025, .975])
    record(f'calibration error on electronics, out-of-fold, {named(recipe, tta)}', f'{found:.3f} ({low:.3f}–{high:.3f})', 'at most .03', found <= .03,
           f"debiased, bins of equal mass; {len(y)} photos of {len(members)} groups, each judged by a model that saw nothing of its group, {FOLDS} folds, labels as given; accuracy {(probs.argmax(1) == y).mean():.3f}; {info['architecture']}, {info['preprocessing']['size']} px")


def seconds_an_epoch(learner, n=6):
    "How long an epoch of full training will take, from some steps of a copy."
    import copy
    import torch
    model, loss, dls = copy.deepcopy(learner.model).train(), learner.loss_func, learner.dls
    for p in model.parameters(): p.requires_grad_(True)
    opt, times = torch.optim.SGD(model.parameters(), 1e-5), [time.perf_counter()]
    for (x, y), _ in zip(dls.train, range(n + 2)):
        opt.zero_grad(); loss(model(x), y).backward(); opt.step(); times.append(time.perf_counter())
    return (times[-1] - times[2])/n*(len(dls.train) + len(dls.valid)/3) # the first steps are slow; validation goes forward only


def stock_fastai(catalog, seconds, backbone='efficientnet_lite0', size=192):
    "Which test pictures stock fastai answers rightly, after as many epochs over train and valid as fit into the time; the epochs, and the seconds."
    from fastai.vision.all import ImageDataLoaders, Normalize, Resize, accuracy, vision_learner
    from partvision.catalog import image_paths
    from partvision.core import keep_memory
    from partvision.features import load_backbone
    keep_memory()
    table = pd.DataFrame(dict(path=[str(p) for p in image_paths(catalog)], label=catalog.label, split=catalog.split))
    learn, test = table[table.split != 'test'], table[table.split == 'test']
    rows = pd.concat([learn.assign(valid=False), learn[learn.split == 'valid'].assign(valid=True)]).reset_index(drop=True) # as ours, it may learn from both; nothing is chosen by the second
    body = load_backbone(backbone)
    dls = ImageDataLoaders.from_df(rows, path='/', fn_col='path', label_col='label', valid_col='valid', item_tfms=Resize(size), bs=32, batch_tfms=Normalize.from_stats(body.mean, body.std, cuda=False))
    learner = vision_learner(dls, backbone, pretrained=False, metrics=accuracy) # fastai would fetch the weights, and with them normalise as is done above
    learner.model[0].model.load_state_dict(body.net.state_dict())
    started = time.perf_counter()
    with learner.no_bar(), learner.no_logging():
        learner.freeze()
        learner.fit_one_cycle(1, slice(2e-3), pct_start=.99) # what fine_tune does, taken apart to know the time
        learner.unfreeze()
        frozen = time.perf_counter() - started
        epochs = max(1, round((seconds - frozen)/seconds_an_epoch(learner)))
        started = time.perf_counter() - frozen
        learner.fit_one_cycle(epochs, slice(1e-5, 1e-3), pct_start=.3, div=5.)
        took = time.perf_counter() - started
        probs = learner.get_preds(dl=dls.test_dl(test.path.tolist()))[0].numpy()
    return np.array(list(dls.vocab))[probs.argmax(1)] == test.label.to_numpy(), epochs, took


def peer(recipe, tta):
    "Ours beside stock fastai on the same split: test labels as given."
    from partvision.evaluate import predict_split, score_rows
    from partvision.ingest import ingest
    from partvision.metrics import compare
    from partvision.predictor import Predictor
    from partvision.train import train
    with tempfile.TemporaryDirectory() as d:
        os.environ['PARTVISION_CACHE'] = f'{d}/cache' # cold
        catalog = ingest(shared('electronics'), f'{d}/data', seed=0)
        started = time.perf_counter()
        info = train(catalog, f'{d}/model', **recipe)
        ours = time.perf_counter() - started
        judged = {looks: predict_split(Predictor(f'{d}/model', tta=looks), catalog) for looks in (False, True)}
        theirs, epochs, took = stock_fastai(catalog, ours)
    for looks, (rows, y, probs) in judged.items():
        figures, right = score_rows(rows, y, probs, info['classes']), probs.argmax(1) == y
        gain, name = compare(theirs, right, rows.group), named(recipe, looks)
        low, high = figures['interval']
        record(f'electronics, {name}', f'{right.mean():.3f} ({low:.3f}–{high:.3f}), macro-F1 {figures["macro_f1"]:.3f}', 'at least .90 and F1 .90', right.mean() >= .9 and figures['macro_f1'] >= .9,
               f"{len(y)} photos of the test split (a quarter by near-duplicate group, seed 0), labels as given; trained on the other {int((catalog.split != 'test').sum())}, {info['architecture']}, {info['preprocessing']['size']} px, {ours/60:.1f} min; top-4 {figures['top4']:.3f}, debiased ECE {figures['ece_debiased']:.3f}")
        record(f'electronics, {name}, against stock fastai', f"{100*gain['difference']:+.1f} points ({100*gain['interval'][0]:+.1f} to {100*gain['interval'][1]:+.1f})", 'at least 2 points', gain['difference'] >= .02,
               f'same split and machine; efficientnet_lite0 at 192 px, 1 frozen and {epochs} full epochs in {took/60:.1f} min: {theirs.mean():.3f}; ours took {ours/60:.1f} min, features computed anew')


def speed(recipe, tta):
    "The frozen recipe from pixels and from remembered features; the loader against pictures in memory."
    import torch
    from partvision.data import dataloaders
    from partvision.evaluate import evaluate
    from partvision.ingest import ingest
    from partvision.losses import PartLoss
    from partvision.models import build_model
    from partvision.train import train
    with tempfile.TemporaryDirectory() as d:
        os.environ['PARTVISION_CACHE'] = f'{d}/cache'
        catalog = ingest(shared('electronics'), f'{d}/data', seed=0)
        took = []
        for k in range(2):
            started = time.perf_counter()
            train(catalog, f'{d}/model{k}', 'frozen')
            figures = evaluate(f'{d}/model{k}', catalog)
            took.append(time.perf_counter() - started)
        on = f"{len(catalog)} photos of electronics, efficientnet_lite0, 192 px, trained and evaluated ({figures['accuracy']:.3f}), mirror images included; imports excluded; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        record('frozen recipe on 3,000 pictures, cold', f'{took[0]:.0f} s', 'at most 90 s', took[0] <= 90, on)
        record('frozen recipe on 3,000 pictures, warm', f'{took[1]:.1f} s', 'at most 10 s', took[1] <= 10, on)
        model = build_model(n_classes=6).to(memory_format=torch.channels_last).train()
        dls, loss = dataloaders(catalog, mean=model.body.mean, std=model.body.std), PartLoss()
        opt = torch.optim.SGD(model.parameters(), 1e-4)
        def steps(batches):
            n, started = 0, time.perf_counter()
            for x, y in batches: opt.zero_grad(); loss(model(x.to(memory_format=torch.channels_last)), y).backward(); opt.step(); n += len(x)
            return n/(time.perf_counter() - started)
        def some(n=12): return (tuple(t.as_subclass(torch.Tensor) for t in b) for b, _ in zip(dls.train, range(n)))
        held = [*some(2)]*6
        steps(held[:2])
        rates = [(steps(some()), steps(held)) for _ in range(3)]
        ratio = float(np.median([a/b for a, b in rates]))
        record('loader: training from disk against pictures in memory', f'{ratio:.0%}', 'at least 85 %', ratio >= .85, f'same network and steps, efficientnet_lite0 at 192 px, batches of 32, photos of electronics; {np.median([a for a, _ in rates]):.0f} and {np.median([b for _, b in rates]):.0f} pictures a second, in turn, median of 3; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', nargs='?', choices=['tiles', 'sets', 'calibration', 'peer', 'speed'], help='all if left away')
    parser.add_argument('--recipe', default='frozen')
    parser.add_argument('--backbone', default=LITES)
    parser.add_argument('--tta', action='store_true')
    parser.add_argument('-p', nargs=2, action='append', default=[], metavar=('NAME', 'VALUE'), help='a parameter of the recipe')
    args = parser.parse_args()
    from partvision.cli import _read_params
    own = dict(tiles=dict(size=320, peaks=True), sets=dict(size=224), calibration=dict(size=224), peer=dict(size=288), speed={})
    for what in [args.what] if args.what else own:
        recipe = dict(recipe=args.recipe, backbone=args.backbone, **own[what] | _read_params(args.p))
        globals()[what](recipe, args.tta)
