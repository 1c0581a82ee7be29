"""How far the probabilities of ONNX Runtime and of torch lie apart, for a trained network on 200 real pictures.

    python tests/benchmarks/bench_parity.py           train a network on a tenth of the set first
    python tests/benchmarks/bench_parity.py MODEL     compare this one
"""
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from table import record

LIMIT, PICTURES = 1e-4, 200


def trained(pictures, folder):
    "A network fine-tuned for two epochs on every tenth picture."
    from partvision.ingest import ingest
    from partvision.train import train
    for p in pictures[::10]:
        (folder/'src'/p.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(p, folder/'src'/p.parent.name)
    return train(ingest(folder/'src', folder/'data'), folder/'model', epochs=2)


def largest_difference(model, pictures):
    "Over all pictures and classes, both ways from the file on disk to the probability."
    import torch
    from partvision.bundle import to_probabilities
    from partvision.models import load_model
    from partvision.predictor import Predictor
    predictor, net = Predictor(model), load_model(model)
    with torch.inference_mode():
        ours = [to_probabilities(net(torch.from_numpy(predictor.read(p)[None])).numpy(), predictor.task)[0] for p in pictures]
    return float(np.abs(predictor.probs(pictures) - ours).max()), predictor.info['architecture']


def main(model=None):
    from partvision.core import shared_data
    root = shared_data('electronics')
    if root is None: sys.exit('the electronics set is not on this machine; name its place with PARTVISION_SHARED')
    pictures = sorted(root.rglob('*.jpg'))
    with tempfile.TemporaryDirectory() as d:
        model = model or trained(pictures, Path(d))['folder']
        difference, name = largest_difference(model, pictures[::len(pictures)//PICTURES][:PICTURES])
    record('ONNX Runtime against torch, largest difference of a probability', f'{difference:.1e}', f'at most {LIMIT:.0e}', difference <= LIMIT,
           f'{PICTURES} pictures of electronics, fine-tuned {name}')


if __name__ == '__main__': main(*sys.argv[1:2])
