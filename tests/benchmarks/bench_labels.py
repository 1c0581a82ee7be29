"""How well wrong labels are found, with cleanlab in the same run.

    python tests/benchmarks/bench_labels.py cut       published probabilities of CIFAR-10 and MNIST whose wrong labels are known (seconds)
    python tests/benchmarks/bench_labels.py planted   mistakes of four kinds planted in generated parts (ten minutes, most of it rendering)
    python tests/benchmarks/bench_labels.py gain      what fixing planted mistakes is worth on photos of electronic parts and of steel (half an hour)
    python tests/benchmarks/bench_labels.py speed     50,000 labels, five models (seconds)
"""
import json
import sys
import tempfile
import time

import numpy as np
from table import record

SEEDS = 10


def shared(name):
    "The folder of a shared data set."
    from partvision.core import shared_data
    root = shared_data(name)
    if root is None: sys.exit(f'the set {name} is not on this machine; name the place of the data with PARTVISION_SHARED')
    return root


def published(name):
    "Given labels, which are wrong, and the probabilities of five models."
    with np.load(shared('label_errors')/f'{name}.npz') as f: data = {k: f[k] for k in f}
    given, true = data.pop('given').astype(int), data.pop('true')
    return given, given != true, {k: p.astype(float)/p.sum(1, keepdims=True, dtype=float) for k, p in data.items()}


def best_cut(scores, wrong):
    "The largest F1 that any cut of a ranking reaches."
    order = np.argsort(scores, kind='stable')
    return (2*np.cumsum(wrong[order])/(np.arange(1, len(order) + 1) + wrong.sum())).max()


def peers(given, wrong, models):
    "F1 of cleanlab's default, of predicted ≠ given, of the best single model, and of the best cut of cleanlab's ranking."
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.metrics import f1_score
    mean = np.mean(models, axis=0)
    return dict(cleanlab=f1_score(wrong, find_label_issues(given, mean)), differs=f1_score(wrong, mean.argmax(1) != given),
                single=max(f1_score(wrong, p.argmax(1) != given) for p in models), ranking=best_cut(get_label_quality_scores(given, mean, method='normalized_margin'), wrong))


def judge(name, target, given, wrong, models):
    "One row: our cut beside the peers'."
    from partvision.labels.issues import find_issues
    from sklearn.metrics import average_precision_score, f1_score
    found, other = find_issues(given, models), peers(given, wrong, models)
    f1, ap = f1_score(wrong, found.is_label_issue), average_precision_score(wrong, -found.label_score)
    plain = average_precision_score(wrong, 1 - np.mean(models, axis=0)[np.arange(len(given)), given])
    low, high = found.attrs['interval']
    record(f'label errors, F1 of the cut: {name}', f'{f1:.4f}', f'at least {target}', f1 >= target,
           f"{len(given)} labels, {wrong.sum()} wrong; cleanlab's default {other['cleanlab']:.4f}, predicted ≠ given {other['differs']:.4f}, best single model {other['single']:.4f}, "
           f"best cut of cleanlab's ranking {other['ranking']:.4f}; area under precision and recall {ap:.4f}, by the plain mean's probability of the label {plain:.4f}; "
           f"estimated {found.attrs['estimated_errors']:.0f} wrong ({low:.0f} to {high:.0f})")


def mnist():
    "Ranking of the digits that five reviewers judged, against cleanlab's."
    from partvision.labels.issues import find_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.metrics import average_precision_score
    root = shared('label_errors')
    labels, probs = np.load(root/'mnist_test_set_original_labels.npy').astype(int), np.load(root/'mnist_test_set_pyx.npy')
    verdicts = json.loads((root/'mnist_mturk.json').read_text())
    ids = np.array([v['id'] for v in verdicts])
    votes = {k: np.array([v['mturk'][k] for v in verdicts]) for k in ('given', 'guessed')}
    ours = find_issues(labels, probs).label_score.to_numpy()[ids]
    theirs = {m: get_label_quality_scores(labels, probs, method=m)[ids] for m in ('self_confidence', 'normalized_margin')}
    for name, wrong in (('not confirmed by most', votes['given'] < 3), ('another class preferred', votes['guessed'] > votes['given'])):
        ap, others = average_precision_score(wrong, -ours), {m: average_precision_score(wrong, -s) for m, s in theirs.items()}
        record(f'label errors, ranking of reviewed MNIST digits, {name}', f'{ap:.3f}', "above cleanlab's", ap > max(others.values()),
               f"average precision on {len(ids)} test digits, {wrong.sum()} of them wrong by the verdicts of five reviewers; cleanlab {', '.join(f'{v:.3f} ({k})' for k, v in others.items())}")


def cut():
    "Published probabilities."
    for name, one, five in (('cifar10n_worst', .920, .956), ('cifar10_synthetic20', .957, .988)):
        given, wrong, models = published(name)
        for p, who, target in (([models['resnet50d']], 'ResNet-50d', one), (list(models.values()), 'five models', five)): judge(f'{name}, {who}', target, given, wrong, p)
    mnist()


def planted(parts=25, views=8, noise=.15, seeds=5):
    "Mistakes of four kinds in generated parts, and cleanlab without groups beside it."
    from partvision.catalog import class_names, targets
    from partvision.features import embed
    from partvision.ingest import ingest
    from partvision.labels.issues import BACKBONES, audit_features, out_of_sample_probs
    from partvision.studies import KINDS, plant_errors
    from partvision.synth.parts import make_parts
    from cleanlab.filter import find_label_issues
    with tempfile.TemporaryDirectory() as d:
        make_parts(f'{d}/parts', parts=parts, views=views, seed=1)
        catalog = ingest(f'{d}/parts/pictures.csv', f'{d}/data', seed=0).assign(split='train')
        features, classes = embed(catalog, BACKBONES, 224), class_names(catalog)
    for kind in KINDS:
        counts = dict(partvision=np.zeros(3), cleanlab=np.zeros(3))
        for seed in range(seeds):
            c = plant_errors(catalog, noise, kind, seed, np.float32(features))
            y, wrong = targets(c, classes), (c.label != c.true_label).to_numpy()
            found = audit_features(c, features).is_label_issue.to_numpy()
            plain = find_label_issues(y, out_of_sample_probs(features, y))
            for name, flagged in dict(partvision=found, cleanlab=plain).items(): counts[name] += (flagged & wrong).sum(), flagged.sum(), wrong.sum()
        (hit, flagged, wrong), (h, f, w) = counts['partvision'], counts['cleanlab']
        f1, precision, recall = 2*hit/(flagged + wrong), hit/flagged, hit/wrong
        good = f1 >= .9 if kind != 'part' else min(precision, recall) >= .9
        record(f'planted label errors, {kind}', f'F1 {f1:.3f} (precision {precision:.3f}, recall {recall:.3f})', 'F1 at least .90' if kind != 'part' else 'precision and recall at least .90', good,
               f'{len(catalog)} generated pictures of {catalog.part.nunique()} parts, {len(classes)} classes, {noise:.0%} wrong, {seeds} seeds together, features of three frozen networks at 224 px, folds by part; '
               f'cleanlab, ungrouped folds: F1 {2*h/(f + w):.3f} (precision {h/max(f, 1):.3f}, recall {h/w:.3f})')


def photos():
    "Real photos with a class each: electronic parts from catalogues and the web, whose labels are partly wrong, and faults of steel strips, whose labels are clean."
    import pandas as pd
    from partvision.ingest import ingest
    steel = sorted((shared('neu_det')/'images').glob('*.jpg'))
    with tempfile.TemporaryDirectory() as d:
        pd.DataFrame(dict(image=[str(f) for f in steel], label=[f.stem.rsplit('_', 1)[0] for f in steel])).to_csv(f'{d}/steel.csv', index=False)
        for name, source in dict(neu_det=f'{d}/steel.csv', electronics=shared('electronics')).items(): yield name, ingest(source, f'{d}/{name}', seed=0)


def gain(noise=.2):
    "Accuracy lost to planted mistakes and won back, test labels as given."
    for name, catalog in photos():
        for kind in ('single', 'look-alike'): won_back(name, catalog, kind, noise)


def won_back(name, catalog, kind, noise):
    "One row: what a model loses to planted mistakes, and what fixing them by each cut brings back."
    from partvision.catalog import class_names, targets
    from partvision.features import embed
    from partvision.labels.issues import BACKBONES, audit_features, out_of_sample_probs
    from partvision.studies import plant_errors
    from partvision.train import fit_head, head_logits
    from cleanlab.filter import find_label_issues
    features, views, classes, truth = np.float32(embed(catalog)), embed(catalog, BACKBONES), class_names(catalog), targets(catalog)
    learn = (catalog.split != 'test').to_numpy()
    def right(labels, use): return (head_logits(features[~learn], **fit_head(features[learn][use], labels[use], len(classes))).argmax(1) == truth[~learn]).mean()
    clean, lost, won, found = right(truth[learn], slice(None)), [], {}, []
    for seed in range(SEEDS):
        planted = plant_errors(catalog, noise, kind, seed, features)[learn]
        given = targets(planted, classes)
        audited, probs, noisy = audit_features(planted, views[learn]), out_of_sample_probs(views[learn], given, planted.group), right(given, slice(None))
        doubt, theirs, wrong = audited.is_label_issue.to_numpy(), find_label_issues(given, probs), given != truth[learn]
        advised = targets(planted.assign(label=audited.predicted_label), classes)
        lost.append(clean - noisy)
        found.append([(doubt & wrong).sum(), doubt.sum(), (theirs & wrong).sum(), theirs.sum(), wrong.sum()])
        for way, labels, use in (('partvision', advised, slice(None)), ('cleanlab', np.where(theirs, probs.argmax(1), given), slice(None)), ('excluding', given, ~doubt)):
            won.setdefault(way, []).append(right(labels, use) - noisy)
        print(name, kind, seed, f'{lost[-1]:.3f}', {k: f'{v[-1]:.3f}' for k, v in won.items()}, flush=True)
    draws = np.random.default_rng(0).integers(SEEDS, size=(2000, SEEDS))
    lost, won, (hit, flagged, hit2, flagged2, wrong) = np.array(lost), {k: np.array(v) for k, v in won.items()}, np.sum(found, 0)
    share = {k: v.sum()/lost.sum() for k, v in won.items()}
    low, high = np.quantile(won['partvision'][draws].sum(1)/lost[draws].sum(1), [.025, .975])
    record(f'accuracy won back by the automatic cut, {name}, {noise:.0%} {kind}', f"{share['partvision']:.0%} ({low:.0%}–{high:.0%})", "at least 70 %, more than cleanlab's default and than excluding",
           share['partvision'] >= .7 and share['partvision'] == max(share.values()),
           f"linear head on frozen efficientnet_lite0 at 192 px, {learn.sum()} photos to learn from, {(~learn).sum()} test photos with labels as given, {SEEDS} seeds: {clean:.3f} with the labels as given, "
           f"{clean - lost.mean():.3f} with planted mistakes; cleanlab's default on the same features with its suggestions {share['cleanlab']:.0%}, doubtful ones excluded {share['excluding']:.0%}; "
           f"F1 of the cut {2*hit/(flagged + wrong):.3f} (cleanlab {2*hit2/(flagged2 + wrong):.3f})")


def speed():
    "50,000 labels and five models."
    from partvision.labels.issues import find_issues
    given, _, models = published('cifar10n_worst')
    times = []
    for _ in range(5):
        start = time.perf_counter()
        find_issues(given, list(models.values()))
        times.append(time.perf_counter() - start)
    record('label errors, time for 50,000 labels and five models', f'{np.median(times[1:]):.2f} s', 'at most 1 s', np.median(times[1:]) <= 1, 'ranked, cut and counted, interval included; median of 4 after one to warm up, 2 cores')


if __name__ == '__main__':
    names = sys.argv[1:] or ['cut', 'speed', 'planted', 'gain']
    jobs = dict(cut=cut, planted=planted, gain=gain, speed=speed)
    if set(names) - set(jobs): sys.exit(__doc__)
    for name in names: jobs[name]()
