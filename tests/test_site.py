"""The report site: every link leads somewhere, nothing comes from the network, nothing a run holds can break a page."""
import json, os, re, shutil, subprocess, sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat, pytest, yaml
from nbformat import v4
from PIL import Image

from partvision.core import write_json
from partvision.reports import build_site, read_run, write_pages

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = '<b>Odd</b> & title `x` ``` {{< include /etc/passwd >}} _y_ $z$ <script>document.title = 1</script>'
ON = dict(data='parts', split='test', n=480, pictures='generated')


def workspace_copy(folder):
    "The site's sources, without any run."
    (folder/'nbs').mkdir(parents=True)
    (folder/'reports').mkdir()
    for name in ('settings.ini', '_quarto.yml', 'index.qmd'): shutil.copy(ROOT/name, folder)
    for name in ('theme', 'templates'): shutil.copytree(ROOT/'reports'/name, folder/'reports'/name)
    for page in (ROOT/'reports').glob('*.qmd'): shutil.copy(page, folder/'reports')
    return folder


def error_output(error):
    return v4.new_output('error', ename='ValueError', evalue=error, traceback=['Traceback (most recent call last):', f'ValueError: {error}'])


def add_run(root, id, metrics, params={}, error=None, title='How well are parts recognised?', **info):
    "A run's folder as an experiment leaves it."
    folder = root/'reports'/'runs'/id
    folder.mkdir(parents=True)
    Image.new('RGB', (60, 40), '#0a5c96').save(folder/'confusion.png')
    cells = [v4.new_markdown_cell(f'# {title}\n\nSome prose, `code` and $x$.'), v4.new_code_cell("recipe = 'frozen'\nseed = 0", metadata=dict(tags=['parameters'])),
             v4.new_code_cell('show()', outputs=[v4.new_output('display_data', data={'text/html': '<table><tr><td>1</td></tr></table><script src="https://cdn.example/x.js"></script>'})])]
    if error: cells.append(v4.new_code_cell('boom()', outputs=[error_output(error)]))
    nbformat.write(v4.new_notebook(cells=cells), folder/'notebook.ipynb')
    (folder/'params.yaml').write_text(yaml.safe_dump(dict(recipe='frozen', seed=0) | params))
    (folder/'metrics.json').write_text(json.dumps(metrics))
    write_json(folder/'run.json', dict(dict(id=id, notebook='train', title=title, verdict='The finer model is right more often.', state='failed' if error else 'finished',
        error=error, started='2026-11-21T05:00:00+00:00', seconds=7.5, catalog='data/parts', versions=dict(python='3.11'), figures=[dict(file='confusion.png', title='Bolts pass for screws')]), **info))
    return folder


def add_runs(root):
    "Runs of every kind: good, failed, without numbers, hostile, damaged, half written."
    for i, acc in enumerate([.852, .931, .874]): add_run(root, f'good{i}', dict(accuracy=acc, ece=.02*i, **ON), dict(seed=i))
    add_run(root, 'failed', {}, dict(seed=9), error='seed 9 brings bad luck; take another one')
    add_run(root, 'odd', dict(accuracy='n/a', loss=None, far=float('inf'), fine=1.5), title=HOSTILE, notebook='odd <x>', verdict=HOSTILE)
    add_run(root, 'bare', {}, notebook='odd <x>')
    for name in ('metrics.json', 'notebook.ipynb', 'confusion.png'): (root/'reports/runs/bare'/name).unlink()
    (root/'reports/runs/half').mkdir()
    (root/'reports/runs/half/run.json').write_text('{"id": "ha')
    write_json(root/'reports/batches/demo.json', dict(name='demo', created='2026-11-21T06:00:00+00:00', runs=['good0', 'good1', 'good2', 'failed', 'odd', 'gone']))
    (root/'reports/batches/broken.json').write_text('[')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = workspace_copy(tmp_path_factory.mktemp('site')/'with blank')
    add_runs(root)
    build_site(root)
    return root


class Page(HTMLParser):
    "What a page refers to, its anchors, and its text."
    def __init__(self, path):
        super().__init__()
        self.path, self.links, self.resources, self.ids, self.text, self.skip = path, [], [], set(), [], False
        self.feed(path.read_text(encoding='utf-8'))
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.skip = tag in ('script', 'style')
        self.ids.add(attrs.get('id'))
        if tag == 'a' and attrs.get('href'): self.links.append(attrs['href'])
        self.resources += [attrs[a] for a in ('src', 'href') if attrs.get(a) and tag != 'a']
    def handle_endtag(self, tag): self.skip = False
    def handle_data(self, data):
        if not self.skip: self.text.append(data)


def pages(root): return {p: Page(p) for p in sorted((root/'_site').rglob('*.html'))}


def words(root, name): return ' '.join(' '.join(Page(root/'_site'/name).text).split())


def test_every_link_and_asset_exists(root):
    all_pages, broken = pages(root), []
    for path, page in all_pages.items():
        for ref in page.links + page.resources:
            url = urlsplit(ref)
            if url.scheme == 'data' or not ref.strip('#'): continue
            target = (path.parent/unquote(url.path)).resolve() if url.path else path
            if url.scheme or not target.is_file(): broken.append((path.name, ref))
            elif url.fragment and target.suffix == '.html' and url.fragment not in all_pages[target].ids: broken.append((path.name, ref))
    assert not broken
    assert len(all_pages) == 13


def test_nothing_is_fetched_from_elsewhere(root):
    for path in (root/'_site').rglob('*.html'):
        assert not re.findall(r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)=["\']?(?:https?:)?//[^>]*>', path.read_text(encoding='utf-8')), path
    for path in (root/'_site').rglob('*.css'):
        assert not re.search(r'@import\s*(url\()?["\']?(https?:)?//', path.read_text(encoding='utf-8')), path


def test_a_failed_run_shows_its_reason_and_no_traceback(root):
    assert not [p for p, page in pages(root).items() if 'Traceback' in ' '.join(page.text)]
    for name in ('index.html', 'reports/experiments/train.html', 'reports/runs/failed/index.html'):
        assert 'seed 9 brings bad luck; take another one' in words(root, name)
        assert 'partvision run demo.yml' in words(root, name)


def test_what_is_missing_is_said(root):
    assert 'run.json is damaged: the run was interrupted' in words(root, 'reports/runs/half/index.html')
    bare = words(root, 'reports/runs/bare/index.html')
    for says in ('metrics.json is missing', 'notebook.ipynb is missing', 'The picture confusion.png is missing', 'recorded no numbers'): assert says in bare
    assert '1 more run of this batch is not there yet' in words(root, 'index.html')


def test_text_from_a_run_stays_text(root):
    page = words(root, 'reports/runs/odd/index.html')
    assert page.count(HOSTILE) >= 3                                    # of the browser's tab, of the page, and the verdict
    for name in ('index.html', 'reports/runs/odd/index.html', 'reports/experiments/odd-x-.html'):
        assert '<script>document.title' not in (root/'_site'/name).read_text(encoding='utf-8')
    assert re.search(r'far\W+–', page, re.I) and 'n/a' in page


def test_every_number_says_what_it_was_measured_on(root):
    says = 'parts · test split · n = 480 · generated pictures'
    for name in ('index.html', 'reports/experiments/train.html', 'reports/runs/good1/index.html'): assert says in words(root, name)


def test_numbers_come_from_the_files_of_a_run(tmp_path):
    root = workspace_copy(tmp_path/'ws')
    folder = add_run(root, 'one', dict(accuracy=.5, **ON))
    add_run(root, 'two', dict(accuracy=.25, **ON), dict(seed=1))
    build_site(root)
    kept = root/'reports/runs/two/index.qmd'
    before = kept.stat().st_mtime_ns
    (folder/'metrics.json').write_text(json.dumps(dict(accuracy=.625, **ON)))
    build_site(root)
    for name in ('index.html', 'reports/experiments/train.html', 'reports/runs/one/index.html'):
        assert '62.5 %' in words(root, name) and '50.0 %' not in words(root, name)
    assert kept.stat().st_mtime_ns == before                           # an unchanged run's page is left alone


def test_pages_of_what_is_gone_go(tmp_path):
    root = workspace_copy(tmp_path/'ws')
    add_run(root, 'one', dict(accuracy=.5))
    write_pages(root)
    assert (root/'reports/experiments/train.qmd').exists()
    shutil.rmtree(root/'reports/runs/one')
    write_pages(root)
    assert not (root/'reports/experiments/train.qmd').exists()


def test_without_runs_the_site_says_how_to_make_some(tmp_path):
    root = workspace_copy(tmp_path/'ws')
    assert build_site(root) == root/'_site'/'index.html'
    for name in ('index.html', 'reports/experiments/index.html'): assert 'No run has been recorded yet' in words(root, name)


@pytest.mark.parametrize('field', ['title', 'verdict', 'state', 'error', 'figures', 'identity', 'versions', 'started', 'seconds', 'notebook', 'question', 'catalog'])
def test_a_strange_value_in_run_json_breaks_no_page(tmp_path, field):
    root = workspace_copy(tmp_path/'ws')
    for i, value in enumerate([None, 7, 'x', ['a', {}], {'a': [1]}]):
        info = add_run(root, f'strange{i}', dict(accuracy=.5), {1: 'a number for a name'})/'run.json'
        write_json(info, dict(json.loads(info.read_text()), **{field: value}))
    write_json(root/'reports/batches/b.json', dict(name=None, created=3, runs=['strange0', 4, {}]))
    assert write_pages(root) == 5


def test_a_thousand_parameters_and_deep_nesting_are_folded(tmp_path):
    root = workspace_copy(tmp_path/'ws')
    add_run(root, 'many', {f'per_class.c{i}': i/1000 for i in range(1000)} | dict(accuracy=.5), {f'p{i}': i for i in range(1000)})
    build_site(root)
    page = (root/'_site/reports/runs/many/index.html').read_text(encoding='utf-8')
    assert '<summary>1000 parameters</summary>' in page
    assert read_run(root/'reports/runs/many')['key_metrics'] == ['accuracy']


def test_the_site_definition_keeps_to_what_both_renderers_support():
    site = yaml.safe_load((ROOT/'_quarto.yml').read_text(encoding='utf-8'))
    assert site['project']['output-dir'] == '_site' and site['execute'] == dict(enabled=False)
    assert not [p for p in site['project']['render'] if p.startswith('!')]
    for pattern in site['project']['render'] + site['project']['resources']: assert not any(part.startswith('_') for part in Path(pattern).parts)
    for page in [ROOT/'index.qmd', *(ROOT/'reports').glob('*.qmd')]:
        assert not re.search(r'^\s*```\s*\{(?!=html)|@(fig|tbl|sec)-|\$\$', page.read_text(encoding='utf-8'), re.M), page


def test_tables_are_kept_from_being_rewritten(root):
    for page in (root/'reports').rglob('*.qmd'):
        text = page.read_text(encoding='utf-8')
        assert text.count('<table') == text.count('data-quarto-disable-processing="true"'), page
        assert text.count('```') in (0, 2), page                       # nothing within can end the raw block


def test_what_a_renderer_adds_from_the_network_is_taken_out(tmp_path):
    shutil.copytree(ROOT/'reports'/'theme', tmp_path/'reports'/'theme')
    (tmp_path/'_site').mkdir()
    page, style = tmp_path/'_site/index.html', tmp_path/'_site/a.css'
    page.write_text('<script src="https://cdnjs.example/require.js" integrity="x"></script><script src="a.js"></script>'
                    "<script>define('jquery', [],function() {return window.jQuery;})</script><link href='//x.example/f.css' rel='stylesheet'><a href='https://x.example'>x</a>")
    style.write_text('@import"https://fonts.example/css2?family=Lato&display=swap";body{color:red}')
    subprocess.run([sys.executable, tmp_path/'reports/theme/after.py'], check=True, env=dict(os.environ, QUARTO_PROJECT_OUTPUT_DIR='_site'))
    assert page.read_text() == "<script src=\"a.js\"></script><a href='https://x.example'>x</a>"
    assert style.read_text() == 'body{color:red}'


def test_a_fresh_clone_renders_before_any_page_was_written(tmp_path):
    root = workspace_copy(tmp_path/'ws')
    subprocess.run([sys.executable, root/'reports/theme/before.py'], check=True)
    assert 'No batch has been run yet' in (root/'reports/experiments/_landing.qmd').read_text()
    (root/'reports/experiments/_landing.qmd').write_text('mine')
    subprocess.run([sys.executable, root/'reports/theme/before.py'], check=True)
    assert (root/'reports/experiments/_landing.qmd').read_text() == 'mine'


# ---- in a browser

FLAGS = '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split()
KINDS = ['index.html', 'reports/reading.html', 'reports/experiments/index.html', 'reports/experiments/train.html', 'reports/runs/good1/index.html',
         'reports/runs/failed/index.html', 'reports/runs/odd/index.html', 'reports/runs/half/index.html']


@pytest.fixture(scope='module')
def browser():
    chromium = shutil.which('chromium')
    if not chromium: pytest.skip('no chromium on this machine')
    playwright = pytest.importorskip('playwright.sync_api')
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


def opened(browser, root, name, **options):
    "A page opened from disk, and what it asked for or complained about."
    page, asked, wrong = browser.new_context(**options).new_page(), [], []
    page.on('request', lambda r: asked.append(r.url))
    page.on('requestfailed', lambda r: wrong.append(r.url))
    page.on('pageerror', lambda e: wrong.append(str(e)))
    page.on('console', lambda m: wrong.append(m.text) if m.type == 'error' else None)
    page.goto((root/'_site'/name).as_uri())
    return page, asked, wrong


def brightness(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number).reduce((a, b) => a + b)/3")


@pytest.mark.parametrize('name', KINDS)
def test_opens_from_disk_on_a_phone_light_and_dark(browser, root, name):
    for scheme in ('light', 'dark'):
        page, asked, wrong = opened(browser, root, name, color_scheme=scheme, viewport=dict(width=390, height=800))
        assert not wrong and all(url.startswith(('file:', 'data:')) for url in asked)
        assert page.evaluate('document.documentElement.scrollWidth <= innerWidth')
        assert (brightness(page) < 60) == (scheme == 'dark')
        page.context.close()


def test_the_reader_can_switch_to_dark(browser, root):
    page, _, _ = opened(browser, root, 'index.html', color_scheme='light')
    page.locator('.quarto-color-scheme-toggle').first.click()
    page.wait_for_function("getComputedStyle(document.body).backgroundColor.match(/\\d+/g)[0] < 60")
    page.locator('.quarto-color-scheme-toggle').first.click()
    page.wait_for_function("getComputedStyle(document.body).backgroundColor.match(/\\d+/g)[0] > 200")
    page.context.close()


def column(page, heading):
    "The cells of one column of the table of runs, as shown."
    heads = page.locator('table.pv-runs thead th').all_inner_texts()
    at = next(i for i, h in enumerate(heads) if h.startswith(heading)) + 1
    return page.locator(f'table.pv-runs tbody tr:not([hidden]) td:nth-child({at})').all_inner_texts()


def test_the_table_of_runs_sorts_and_filters(browser, root):
    page, _, _ = opened(browser, root, 'reports/experiments/train.html')
    head = page.locator('table.pv-runs thead th', has_text='Accuracy')
    head.locator('button').click()
    assert column(page, 'Accuracy') == ['93.1 %', '87.4 %', '85.2 %', '–']
    assert head.get_attribute('aria-sort') == 'descending'
    head.locator('button').click()
    assert column(page, 'Accuracy') == ['85.2 %', '87.4 %', '93.1 %', '–']
    page.get_by_label('Filter').fill('FAILED luck')
    assert column(page, 'seed') == ['9']
    assert page.locator('.pv-filter output').inner_text() == '1 of 4'
    page.context.close()


def test_without_scripts_the_table_is_a_plain_table(browser, root):
    page, _, _ = opened(browser, root, 'reports/experiments/train.html', java_script_enabled=False)
    assert page.locator('table.pv-runs tbody tr').count() == 4
    assert page.locator('.pv-filter, table.pv-runs button').count() == 0
    page.context.close()


def test_code_is_folded(browser, root):
    page, _, _ = opened(browser, root, 'reports/runs/good1/index.html')
    code = page.locator('details.pv-code pre').first
    assert not code.is_visible()
    page.locator('details.pv-code summary').first.click()
    assert code.is_visible()
    page.context.close()
