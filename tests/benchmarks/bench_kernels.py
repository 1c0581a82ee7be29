"""What a notebook costs beyond its own work: forked kernels beside papermill's, in the same run on the same machine.

    python tests/benchmarks/bench_kernels.py one       one notebook that imports fastai, one after another (a minute)
    python tests/benchmarks/bench_kernels.py hundred   a hundred of them (minutes; papermill is measured on a few and extrapolated)
    python tests/benchmarks/bench_kernels.py lab       a restart in JupyterLab, in a real browser (a minute)
"""
import argparse
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import lab
from table import record

CELLS = ['# Does it import?\n\n> Imports fastai.', 'seed = 0 # another seed, another run', 'from fastai.vision.all import *\nfrom partvision.experiments import record', 'record("Imported.", seed=seed)']


def load(): return f'load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores'


def workspace(folder):
    "A workspace with the one notebook; its path."
    from partvision.experiments import tiny_workspace
    return tiny_workspace(folder, 'imports', CELLS)/'nbs'/'experiments'/'imports.ipynb'


def seconds(source, out, **kernel):
    "Wall time of a notebook through papermill, and that of its cells."
    import papermill
    began = time.perf_counter()
    nb = papermill.execute_notebook(str(source), str(out), progress_bar=False, **kernel)
    took = time.perf_counter() - began
    return took, sum(c.metadata.papermill.duration for c in nb.cells if c.cell_type == 'code')


def one(n=8):
    "Two rows: a notebook one after another, all of it and beyond its cells."
    from partvision.kernels import WarmKernel
    with tempfile.TemporaryDirectory() as d:
        source, out = workspace(d), f'{d}/out.ipynb'
        seconds(source, out); seconds(source, out, kernel_manager_class=WarmKernel) # files into memory, nursery ready
        stock, ours = [], []
        for _ in range(n):
            ours.append(seconds(source, out, kernel_manager_class=WarmKernel))
            if len(stock) < n//2: stock.append(seconds(source, out))
    theirs, own = (statistics.median(t for t, _ in s) for s in (stock, ours))
    beyond = statistics.median(t - c for t, c in ours)
    on = f'a notebook that imports fastai and does nothing, through papermill, one after another, medians of {len(ours)} and {len(stock)} in turn; {load()}'
    record('a notebook that imports fastai, forked kernel', f'{own:.2f} s ({theirs/own:.0f} × less than papermill: {theirs:.1f} s)', 'at most 1.0 s, 10 × less', own <= 1 and theirs/own >= 10, on)
    record('a notebook beyond the time of its cells, forked kernel', f'{beyond:.2f} s', 'at most .3 s', beyond <= .3, on)


def _stock(folder):
    "One notebook by papermill, in a process of a pool."
    return seconds(Path(folder)/'nbs/experiments/imports.ipynb', f'{folder}/out{os.getpid()}.ipynb')[0]


def hundred(n=100, few=4):
    "Two rows: a batch of ours beside papermill one after another, and in two processes."
    from partvision.experiments import run_batch
    with tempfile.TemporaryDirectory() as d:
        workspace(d)
        with ProcessPoolExecutor(1) as pool:
            list(pool.map(_stock, [d]))
            began = time.perf_counter(); list(pool.map(_stock, [d]*few)); serial = (time.perf_counter() - began)/few*n
        with ProcessPoolExecutor(2) as pool:
            list(pool.map(_stock, [d]*2))
            began = time.perf_counter(); list(pool.map(_stock, [d]*2*few)); double = (time.perf_counter() - began)/(2*few)*n
        began = time.perf_counter()
        done = run_batch(dict(runs=[dict(notebook='imports', grid=dict(seed=list(range(n))))]), jobs=2, root=d)
        ours = time.perf_counter() - began
    if done['finished'] != n: sys.exit(f'of {n} runs {done["finished"]} finished')
    on = f'{n} notebooks that import fastai, two at a time, all that a batch writes included: {ours:.0f} s; papermill extrapolated from {few} and {2*few} of them; {load()}'
    record(f'{n} notebooks against papermill, one after another', f'{serial/ours:.1f} × faster ({serial:.0f} s)', 'at least 8 ×', serial/ours >= 8, on)
    record(f'{n} notebooks against papermill in two processes', f'{double/ours:.1f} × faster ({double:.0f} s)', 'at least 4 ×', double/ours >= 4, on)


def restart(page):
    "Milliseconds from confirming a restart to the first output of a cell that needs fastai."
    said = page.locator('.jp-OutputArea-output pre').first.inner_text()
    page.locator('[data-command="notebook:restart-run-all"]').first.click()
    page.locator('.jp-Dialog .jp-mod-accept').wait_for()
    return page.evaluate("""said => new Promise(done => {
        const began = performance.now()
        const look = () => { const t = [...document.querySelectorAll('.jp-OutputArea-output pre')].map(p => p.textContent).find(t => t.startsWith('ready')); t && t.trim() !== said.trim() ? done(performance.now() - began) : requestAnimationFrame(look) }
        document.querySelector('.jp-Dialog .jp-mod-accept').click(); look() })""", said)


def in_lab(n=7):
    "One row: a restart in a real browser."
    if why := lab.why_not(): return print(f'not measured: {why}', file=sys.stderr)
    with tempfile.TemporaryDirectory() as d:
        lab.notebook(Path(d)/'a.ipynb', "from fastai.vision.all import *\nimport uuid\nprint('ready', uuid.uuid4())", kernel='partvision-warm')
        with lab.server(Path(d)) as (_, address), lab.browser() as browser:
            page, _ = lab.opened(browser, address, 'a.ipynb', 'partvision (warm)')
            lab.run(page)
            page.locator('.jp-OutputArea-output pre').first.wait_for()
            took = []
            for _ in range(n):
                page.wait_for_timeout(1500)
                took.append(restart(page)/1000)
    record('a restart in JupyterLab until fastai has been imported', f'{statistics.median(took):.2f} s (longest {max(took):.2f} s)', 'at most 1.5 s', statistics.median(took) <= 1.5,
           f'from the confirmation to the output of a cell that imports fastai, kernel partvision (warm), median of {n}, headless chromium; {load()}')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', nargs='?', choices=['one', 'hundred', 'lab'], help='all if left away')
    what = parser.parse_args().what
    for name, measure in dict(one=one, hundred=hundred, lab=in_lab).items():
        if what in (None, name): measure()
