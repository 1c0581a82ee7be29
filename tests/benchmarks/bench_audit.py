"""How long a label audit of the electronics set takes, against 5-fold cross-validation by fine-tuning with stock fastai.

    python tests/benchmarks/bench_audit.py               one fold is fine-tuned whole (10 minutes on 2 quiet cores)
    python tests/benchmarks/bench_audit.py --fraction .1 a tenth of its batches, the rest extrapolated

Both start from an ingested catalog; imports are excluded from both. Peer: one of the audit's three backbones, same weights and size, 1 frozen and 2 full epochs.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

BACKBONE, SIZE, BATCH, FOLDS = 'efficientnet_lite0', 192, 64, 5
FASTER, COLD, WARM = 20, 90, 5


def seconds(f):
    "Wall-clock time of one call."
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def audits(folder):
    "Seconds of an audit with nothing remembered, and of the same again."
    import cleanlab.count, cleanlab.filter, sklearn.kernel_approximation, sklearn.kernel_ridge, timm # noqa: imports do not count
    from partvision.catalog import read_catalog
    from partvision.features import load_backbone
    from partvision.labels.issues import BACKBONES, audit
    catalog = read_catalog(folder)
    load_backbone(BACKBONES)
    return [seconds(lambda: audit(catalog, size=SIZE)) for _ in range(2)]


def clock():
    "A callback that sums the time from one training batch to the next, and counts these steps."
    from fastai.callback.core import Callback
    class Clock(Callback):
        total, steps, last = 0, 0, None
        def before_train(self): self.last = None
        def after_batch(self):
            if not self.training: return
            now = time.perf_counter()
            if self.last: self.total, self.steps = self.total + now - self.last, self.steps + 1
            self.last = now
    return Clock()


def fine_tune(catalog, learn, held):
    "Seconds of one fold with stock fastai on the rows `learn`, judged on the rows `held`; those between training batches, and how many."
    import pandas as pd
    from fastai.vision.all import ImageDataLoaders, Resize, accuracy, vision_learner
    from partvision.catalog import image_paths
    from partvision.features import load_backbone
    rows, steps = [*learn, *held], clock()
    df = pd.DataFrame(dict(path=[str(p) for p in image_paths(catalog)], label=catalog.label)).iloc[rows].assign(valid=[i >= len(learn) for i in range(len(rows))]).reset_index(drop=True)
    dls = ImageDataLoaders.from_df(df, path='/', fn_col='path', label_col='label', valid_col='valid', item_tfms=Resize(SIZE), bs=BATCH)
    learner = vision_learner(dls, BACKBONE, pretrained=False, metrics=accuracy, cbs=steps)
    learner.model[0].model.load_state_dict(load_backbone(BACKBONE).net.state_dict())
    with learner.no_bar(), learner.no_logging(): return seconds(lambda: learner.fine_tune(2, freeze_epochs=1)), steps.total, steps.steps


def fold(folder, fraction):
    "Seconds of one whole fold, and how many of its training batches were measured; the rest, validation included, is measured whole."
    from sklearn.model_selection import StratifiedGroupKFold
    from partvision.catalog import read_catalog
    c = read_catalog(folder)
    learn, held = next(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(c.image, c.label, c.group))
    whole = len(learn)//BATCH
    n = whole if fraction == 1 else max(3, round(fraction*whole))
    sample = learn if n == whole else [learn[i*len(learn)//(n*BATCH)] for i in range(n*BATCH)]
    total, between, steps = fine_tune(c, sample, held)
    return total + between/steps*3*(whole - n), n, whole


def child(what, *args):
    "Run one half in a process of its own."
    done = subprocess.run([sys.executable, __file__, '--child', what, *map(str, args)], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--fraction', type=float, default=1, help="share of the fold's batches that is measured (default 1)")
    args = parser.parse_args()
    from partvision.core import shared_data
    from partvision.ingest import ingest
    from table import record
    source = shared_data('electronics')
    if source is None: sys.exit('the electronics set is not on this machine; name its place with PARTVISION_SHARED')
    with tempfile.TemporaryDirectory() as d:
        n = len(ingest(source, f'{d}/catalog'))
        os.environ['PARTVISION_CACHE'] = f'{d}/cache'
        cold, warm = child('audits', f'{d}/catalog')
        one, n_batches, whole = child('fold', f'{d}/catalog', args.fraction)
    how = 'one fold measured' if n_batches == whole else f'one fold extrapolated from {n_batches} of its {whole} batches an epoch'
    load = f'load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores'
    record('label audit of electronics, cold cache, against 5-fold fine-tuning with stock fastai', f'{FOLDS*one/cold:.0f} × faster', f'at least {FASTER} ×', FOLDS*one/cold >= FASTER,
           f'{n} photos: {cold:.0f} s against 5 × {one:.0f} s, {how}, three backbones against {BACKBONE}, {SIZE} px, 1 frozen + 2 full epochs; imports excluded; {load}')
    record('label audit of electronics, cold cache', f'{cold:.0f} s', f'under {COLD} s', cold < COLD, f'{n} photos from pixels, three backbones, {SIZE} px; {load}')
    record('label audit of electronics, warm cache', f'{warm:.1f} s', f'under {WARM} s', warm < WARM, f'{n} photos, embeddings remembered; {load}')


if __name__ == '__main__':
    if sys.argv[1:2] != ['--child']: main()
    elif sys.argv[2] == 'audits': print(json.dumps(audits(sys.argv[3])))
    else: print(json.dumps(fold(sys.argv[3], float(sys.argv[4]))))
