"""Peak memory of ingest and features on many distinct small files, against the same on few.

    python tests/benchmarks/bench_memory.py                 1,000 and 100,000 files, ingest and features (an hour on 2 cores)
    python tests/benchmarks/bench_memory.py --no-features   ingest alone (minutes)
    python tests/benchmarks/bench_memory.py --size 32       features of the pictures as small as they are (a quarter of an hour)
    python tests/benchmarks/bench_memory.py -n 20000        another number of files
"""
import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

FEW, MANY, ROOM_MB = 1_000, 100_000, 300


def generate(folder, n):
    "Write `n` small pictures, no two alike, in ten class folders."
    import numpy as np
    from PIL import Image
    rng = np.random.default_rng(0)
    for k in range(10): (Path(folder)/f'class_{k}').mkdir(parents=True)
    for i in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(Path(folder)/f'class_{i % 10}'/f'{i:06d}.jpg', quality=80)


def work(folder, out, size):
    "What is measured: ingest and, with a size other than 0, the embeddings of all pictures."
    from partvision.ingest import ingest
    catalog = ingest(folder, out)
    if size:
        from partvision.features import embed
        assert len(embed(catalog, size=size)) == len(catalog)
    return len(catalog)


def child(*args):
    "Run one step in a process of its own, so that nothing of another counts; what it prints last."
    done = subprocess.run([sys.executable, __file__, '--child', *map(str, args)], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.split()


def peak_mb(n, size):
    "Peak resident memory in MB of `work` on `n` files, and how many ended up in the catalog."
    import os
    with tempfile.TemporaryDirectory() as d:
        os.environ['PARTVISION_CACHE'] = f'{d}/cache'
        child('generate', f'{d}/pictures', n)
        found, kilobytes = child('work', f'{d}/pictures', f'{d}/out', size)
    assert int(found) == n, f'{found} of {n} files in the catalog'
    return int(kilobytes)/1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-n', type=int, default=MANY, help=f'how many files to compare with {FEW} (default {MANY})')
    parser.add_argument('--size', type=int, default=192, help='pixels a side of the pictures that features are made of (default 192)')
    parser.add_argument('--no-features', action='store_true', help='ingest alone')
    args = parser.parse_args()
    few, many = (peak_mb(n, 0 if args.no_features else args.size) for n in (FEW, args.n))
    from table import record
    what = 'ingest' if args.no_features else f'ingest and features at {args.size} px'
    record(f'memory of {what}, {args.n:,} distinct small files over {FEW:,}', f'{many - few:+.0f} MB', f'at most +{ROOM_MB} MB', many - few <= ROOM_MB,
           f'generated 32-pixel JPEGs, peak resident memory {few:.0f} MB and {many:.0f} MB, one process each')


if __name__ == '__main__':
    if sys.argv[1:2] != ['--child']: main()
    elif sys.argv[2] == 'generate': generate(sys.argv[3], int(sys.argv[4]))
    else: print(work(sys.argv[3], sys.argv[4], int(sys.argv[5])), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
