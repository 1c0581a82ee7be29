"""How long the review grid takes to its first screen, and from a key to "saved", in a real browser and JupyterLab.

    python tests/benchmarks/bench_review.py          50,000 rows, 10,000 doubtful labels
    python tests/benchmarks/bench_review.py --keys 20   fewer key presses

A few hundred generated photos stand in for all rows; each row has a file name of its own. The ledger holds 5,000 decisions already, as late in a review.
"""
import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import lab
from table import record

ROWS, DOUBTFUL, DECIDED, PHOTOS, SIDE = 50_000, 10_000, 5_000, 300, 640
FIRST, SAVED = 1000, 50 # ms
CELLS = ["from partvision.catalog import read_catalog\nfrom partvision.labels.review import review\naudited = read_catalog('set')", "review(audited, who='ana')"]
# runs in the page: the moment the first pictures are there, and the moment a key's decision is said to be saved
WATCH = """() => { window.pv = { drawn: null, saved: null, token: null }
new MutationObserver(() => {
  const grid = document.querySelector('.pv-review[data-at]'), image = [...document.querySelectorAll('.pv-views img')]
  if (grid && pv.drawn === null && image.length) Promise.all(image.map(i => i.decode())).then(() => { pv.drawn ??= performance.now() })
  if (grid && grid.dataset.saved && grid.dataset.saved !== pv.token) { pv.token = grid.dataset.saved; pv.saved = performance.now() }
}).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-saved', 'data-at'] })
window.addEventListener('keydown', () => { pv.key = performance.now(); pv.saved = null }, true) }"""


def generate(folder):
    "A stored catalog with wrong labels, on hard links to a few photos, and a ledger."
    import numpy as np, pandas as pd
    from PIL import Image
    from partvision.catalog import write_catalog
    from partvision.labels.decisions import add_decision
    from partvision.test_utils import SHAPES, draw_part
    rng = np.random.default_rng(0)
    (folder/'photo').mkdir(parents=True)
    for n in range(PHOTOS): draw_part(SHAPES[n % 5], 160, rng, rng).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder/'photo'/f'{n}.jpg')
    (folder/'view').mkdir()
    names = [f'view/{n:05d}.jpg' for n in range(ROWS)]
    for n, name in enumerate(names): os.link(folder/'photo'/f'{n % PHOTOS}.jpg', folder/name)
    c = pd.DataFrame(dict(image=names, label=[SHAPES[n % 5] for n in range(ROWS)], part=[f'p{n//5:05d}' if n % 4 else None for n in range(ROWS)], source='drawn', frame=pd.array([None]*ROWS, 'Int64'),
                          split='train', group=[f'p{n//5:05d}' for n in range(ROWS)], width=SIDE, height=SIDE, sha256=[f'{n:064x}' for n in range(ROWS)]))
    doubt = np.isin(np.arange(ROWS), rng.choice(ROWS, DOUBTFUL, replace=False))
    c = c.assign(given_label=c.label, predicted_label=np.where(doubt, [SHAPES[(n + 1) % 5] for n in range(ROWS)], c.label), is_label_issue=doubt, label_score=np.where(doubt, rng.uniform(.01, .5, ROWS), rng.uniform(.6, 1, ROWS)))
    c.attrs['root'] = str(folder)
    c = write_catalog(c, folder)
    sync, os.fsync = os.fsync, lambda fd: None # 5,000 lines one by one on the disk would be most of this benchmark
    for row in c[c.is_label_issue].head(DECIDED).itertuples(): add_decision(folder, row.image, 'label', row.label, old=row.label, sha256=row.sha256, why='kept in review', who='ben')
    os.fsync = sync


def measure(folder, keys):
    "Milliseconds from starting the cell to the first screen, and from each key to saved; decisions that are on the disk at the end."
    from partvision.labels.decisions import read_decisions
    lab.notebook(folder/'review.ipynb', *CELLS)
    with lab.server(folder) as (_, address), lab.browser() as browser:
        page, _ = lab.opened(browser, address, 'review.ipynb')
        lab.run(page, 0)
        page.wait_for_function("/\\d/.test(document.querySelector('.jp-Notebook .jp-CodeCell .jp-InputPrompt').textContent)")
        page.evaluate(WATCH)
        page.locator('.jp-Notebook .jp-CodeCell .jp-InputArea-editor').nth(1).click()
        page.keyboard.press('Control+Enter')
        page.wait_for_function('pv.drawn !== null')
        first = page.evaluate('pv.drawn - pv.key')
        page.locator('.pv-title').click()
        took = []
        for n in range(keys):
            page.wait_for_timeout(300) # as long as anybody looks at least, so that the next picture is there
            page.keyboard.press('uaakx'[n % 5] if n else 'a')
            page.wait_for_function('pv.saved !== null')
            took.append(page.evaluate('pv.saved - pv.key'))
        return first, took, len(read_decisions(folder/'set')) - DECIDED


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--keys', type=int, default=60, help='how many keys are pressed (default 60)')
    args = parser.parse_args()
    if why := lab.why_not(): sys.exit(f'cannot be measured here: {why}')
    with tempfile.TemporaryDirectory() as d:
        generate(Path(d)/'set')
        first, took, written = measure(Path(d), args.keys)
    assert written >= args.keys, f'{args.keys} keys were said to be saved, {written} lines are on the disk'
    on = f'{ROWS:,} generated {SIDE}-pixel photos, {DOUBTFUL:,} in doubt, {DECIDED:,} decisions before; JupyterLab and headless chromium on this machine, load {os.getloadavg()[0]:.1f}'
    record('review grid: from starting the cell to the first screen', f'{first:.0f} ms', f'at most {FIRST} ms', first <= FIRST, on)
    middle, slow = statistics.median(took), sorted(took)[int(.95*len(took))]
    record('review grid: from a key to saved', f'{middle:.0f} ms (95 % within {slow:.0f} ms)', f'at most {SAVED} ms', middle <= SAVED, f'{len(took)} keys (accept, keep, set aside, undo); {on}')


if __name__ == '__main__': main()
