"""Execute notebooks in place, clean them and stamp them, so that what is committed shows what the code does.

    python tests/notebooks.py                  every notebook whose outputs are older than its code
    python tests/notebooks.py nbs/00_core.ipynb …   these, whatever their stamp says
    python tests/notebooks.py --test [nbs/…]   execute without writing, two at a time, cells marked slow left out
"""
import hashlib, os, re, sys, time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbdev.clean import clean_nb

NBS = Path(__file__).resolve().parent.parent/'nbs'
MAX_KB = 200


def notebooks():
    "Every notebook under `nbs/`, in reading order."
    return sorted(p for p in NBS.rglob('*.ipynb') if not any(part.startswith(('.', '_')) for part in p.relative_to(NBS).parts))


def code_hash(nb):
    "Identifies the code cells of a notebook: what its outputs must be younger than."
    code = '\n%%\n'.join(c.source for c in nb.cells if c.cell_type == 'code')
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def is_stale(path):
    "Whether the outputs of the notebook at `path` were made by other code than it holds now."
    nb = nbformat.read(path, 4)
    return nb.metadata.get('partvision', {}).get('executed') != code_hash(nb)


def merge_streams(cell):
    "Join consecutive writes to one stream and drop progress bars, whose timing differs at every run."
    kept = []
    for out in cell.get('outputs', []):
        if out.output_type == 'stream' and out.name == 'stderr': continue
        if kept and out.output_type == 'stream' and kept[-1].output_type == 'stream': kept[-1].text += out.text
        else: kept.append(out)
    cell.outputs = kept


def size_kb(nb):
    return len(nbformat.writes(nb))//1024


def execute(path):
    "Run one notebook from the folder it lies in and write it back with outputs and stamp."
    nb = nbformat.read(path, 4)
    client = NotebookClient(nb, timeout=1800, kernel_name='python3', extra_arguments=['--log-level=CRITICAL'], resources={'metadata': {'path': str(path.parent)}})
    client.execute()
    for cell in nb.cells:
        if cell.cell_type == 'code': merge_streams(cell)
    for n, cell in enumerate(nb.cells): cell.id = f'cell-{n:03d}'
    nb.metadata = nbformat.from_dict(dict(
        kernelspec=dict(display_name='python3', language='python', name='python3'),
        partvision=dict(executed=code_hash(nb))))
    clean_nb(nb, allowed_metadata_keys=['partvision'], allowed_cell_metadata_keys=['tags'], clean_ids=True)
    tmp = path.with_suffix('.tmp')
    nbformat.write(nb, tmp)
    os.replace(tmp, path)
    return size_kb(nb)


def test(paths, workers=2):
    """Whether all notebooks run, as `nbdev_test` does it, which looks into one folder only.

    A worker imports torch and fastai once for all its notebooks: most of the time that these would need by themselves.
    """
    from nbdev.test import test_nb
    failed, start = [], time.monotonic()
    with ProcessPoolExecutor(workers) as pool:
        # the large ones first, so that none is left to run alone at the end
        todo = {pool.submit(test_nb, p, skip_flags=['slow'], basepath=NBS.parent): p for p in sorted(paths, key=lambda p: -p.stat().st_size)}
        for job in as_completed(todo):
            name = todo[job].relative_to(NBS)
            try: passed, seconds = job.result()
            except Exception as e: passed, seconds = print(f'{name}: {e}', file=sys.stderr), 0 # a worker that died
            if not passed: failed.append(str(name))
            print(f"{'passed' if passed else 'FAILED'}  {name}  {seconds:.0f} s", flush=True)
    print(f'{len(paths) - len(failed)} notebooks passed, {len(failed)} failed in {time.monotonic() - start:.0f} s', *failed, sep='\n  ')
    return int(bool(failed))


def main(args):
    os.environ.update(PYTHONHASHSEED='0', TQDM_DISABLE='1')
    if args[:1] == ['--test']: return test([Path(a).resolve() for a in args[1:]] or notebooks())
    todo = [Path(a).resolve() for a in args] or [p for p in notebooks() if is_stale(p)]
    failed = 0
    for path in todo:
        try: kb = execute(path)
        except CellExecutionError as e:
            failed += 1
            tail = re.sub(r'\x1b\[[0-9;]*m', '', str(e)).splitlines()[-30:]
            print(f'{path.name}: failed', *tail, sep='\n', file=sys.stderr)
            continue
        print(f'{path.name}: executed, {kb} KB' + (f' (more than {MAX_KB} KB)' if kb > MAX_KB else ''))
    return 1 if failed else 0


if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
