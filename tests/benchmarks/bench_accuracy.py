"""How often real parts are named right, with the recipe as it comes.

    python tests/benchmarks/bench_accuracy.py electronics   a group-aware held-out quarter (ten minutes on 2 cores)
    python tests/benchmarks/bench_accuracy.py mech_parts    every part by a model that never saw it, 5 folds (half an hour)
    python tests/benchmarks/bench_accuracy.py --recipe frozen   both on frozen features (minutes)
    python tests/benchmarks/bench_accuracy.py --recipe frozen --backbone efficientnet_lite0+efficientnet_lite1+efficientnet_lite2 -p size 224
"""
import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from table import record

FOLDS = 5


def catalog_of(name, folder, part=None):
    "An ingested set, as anybody would get it."
    from partvision.core import shared_data
    from partvision.ingest import ingest
    root = shared_data(name)
    if root is None: sys.exit(f'the set {name} is not on this machine; name the place of the data with PARTVISION_SHARED')
    return ingest(root, folder, part=part, seed=0)


def electronics(name, recipe):
    "One row: a quarter held out, test labels as given."
    from partvision.evaluate import evaluate
    from partvision.train import train
    with tempfile.TemporaryDirectory() as d:
        catalog = catalog_of('electronics', f'{d}/data')
        info = train(catalog, f'{d}/model', **recipe)
        found = evaluate(f'{d}/model', catalog)
    low, high = found['interval']
    record(f'accuracy on electronics, {name}', f"{found['accuracy']:.3f} ({low:.3f}–{high:.3f})", 'at least .90', found['accuracy'] >= .9,
           f"{found['n']} photos of the test split (a quarter by near-duplicate group, seed 0), labels as given; top-4 {found['top4']:.3f}, macro-F1 {found['macro_f1']:.3f}, "
           f"ECE {found['ece']:.3f}; trained on the other {int(catalog.split.isin(['train', 'valid']).sum())}, {info['architecture']}, {info['preprocessing']['size']} px")


def folds(labels, parts):
    "Fold number of every picture; all pictures of a part in one."
    from sklearn.model_selection import StratifiedGroupKFold
    of = np.empty(len(labels), int)
    for k, (_, held) in enumerate(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(labels, labels, parts)): of[held] = k
    return of


def out_of_fold(catalog, of, recipe):
    "Probabilities of every picture by a model that saw no picture of its part; the next fold chooses the epoch."
    from partvision.catalog import class_names, image_paths
    from partvision.predictor import Predictor
    from partvision.train import train
    classes, probs = class_names(catalog), None
    for k in range(FOLDS):
        split = np.where(of == k, 'test', np.where(of == (k + 1) % FOLDS, 'valid', 'train'))
        with tempfile.TemporaryDirectory() as d:
            info = train(catalog.assign(split=split), f'{d}/model', **recipe)
            held = catalog[split == 'test']
            found = Predictor(f'{d}/model').probs(image_paths(held))
        probs = np.zeros((len(catalog), len(classes))) if probs is None else probs
        probs[np.ix_(of == k, [classes.index(c) for c in info['classes']])] = found
        print(f'fold {k + 1} of {FOLDS}: {(found.argmax(1) == [info["classes"].index(l) for l in held.label]).mean():.3f} of {len(held)} pictures right', flush=True)
    return probs, info


def mech_parts(name, recipe):
    "Two rows: one view, and all views of the part."
    from partvision.catalog import class_names, targets
    from partvision.evaluate import part_labels
    from partvision.metrics import group_bootstrap
    from partvision.predictor import fuse
    with tempfile.TemporaryDirectory() as d:
        catalog = catalog_of('mech_parts', f'{d}/data', part=r'(.+)_\d+\.png$')
        catalog = catalog[catalog.label.notna()]
        labels, parts = targets(catalog, class_names(catalog)), catalog.part.to_numpy(str)
        probs, info = out_of_fold(catalog, folds(labels, parts), recipe)
    right = probs.argmax(1) == labels
    ids, fused = fuse(probs, parts)
    wrong = np.asarray(ids)[fused.argmax(1) != part_labels(labels, parts)]
    on = f"{len(catalog)} renders of {len(ids)} CAD parts, each judged by a model that never saw the part, {FOLDS} folds; {info['architecture']}, {info['preprocessing']['size']} px"
    low, high = group_bootstrap(right, parts)
    record(f'accuracy on mech_parts, one view, {name}', f'{right.mean():.3f} ({low:.3f}–{high:.3f})', 'at least .95', right.mean() >= .95, on)
    record(f'parts of mech_parts wrong with all views, {name}', f'{len(wrong)} of {len(ids)}', 'at most 1', len(wrong) <= 1, f'{on}. Wrong: ' + ', '.join(wrong))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', nargs='?', choices=['electronics', 'mech_parts'], help='both if left away')
    parser.add_argument('--recipe', default='finetune', choices=['frozen', 'finetune'])
    parser.add_argument('--backbone', default='efficientnet_lite0')
    parser.add_argument('-p', nargs=2, action='append', default=[], metavar=('NAME', 'NUMBER'), help='a parameter of the recipe')
    args = parser.parse_args()
    recipe = dict(recipe=args.recipe, backbone=args.backbone, **{name: float(value) if '.' in value else int(value) for name, value in args.p})
    joined = args.backbone.count('+') + 1
    name = ', '.join([args.recipe, *([f'{joined} backbones'] if joined > 1 else []), *(f'{k} {v}' for k, v in sorted(args.p))])
    for data in [args.data] if args.data else ['electronics', 'mech_parts']: globals()[data](name, recipe)
