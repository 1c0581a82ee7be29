"""A real JupyterLab in a real browser, for tests and benchmarks: no network, nothing outside a folder of its own."""
import contextlib, json, os, secrets, shutil, subprocess, sys, time
from pathlib import Path

import nbformat
from nbformat import v4

ROOT = Path(__file__).resolve().parent.parent
FLAGS = '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split()
QUIET = {'@jupyterlab/apputils-extension:notification': dict(fetchNews='false', checkForUpdates=False, doNotDisturbMode=True),
         '@jupyterlab/docmanager-extension:plugin': dict(autosave=False)}


def why_not():
    "Why no browser or no JupyterLab can be had here, or None."
    if not shutil.which('chromium'): return 'no chromium on this machine'
    for name in ('playwright', 'jupyterlab', 'anywidget'):
        try: __import__(name)
        except ImportError: return f'{name} is not installed'


def notebook(file, *cells, kernel='python3'):
    "A notebook with these code cells."
    spec = dict(kernelspec=dict(display_name=kernel, language='python', name=kernel))
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell(c) for c in cells], metadata=spec), file)


@contextlib.contextmanager
def server(folder, theme='JupyterLab Light'):
    "JupyterLab on `folder`; yields the process and its address, which ends in a query with the token."
    home = Path(folder)/'.lab'
    (home/'settings').mkdir(parents=True)
    (home/'settings'/'overrides.json').write_text(json.dumps(QUIET | {'@jupyterlab/apputils-extension:themes': dict(theme=theme)}))
    env = os.environ | {f'JUPYTER_{name}_DIR': str(home/name.lower()) for name in ('CONFIG', 'DATA', 'RUNTIME')} | dict(
        JUPYTERLAB_WORKSPACES_DIR=str(home/'workspaces'), JUPYTERLAB_SETTINGS_DIR=str(home/'user'), IPYTHONDIR=str(home/'ipython'), PYTHONPATH=str(ROOT), TQDM_DISABLE='1')
    token = secrets.token_hex(16)
    command = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', '--ServerApp.ip=127.0.0.1', '--ServerApp.port=0', f'--IdentityProvider.token={token}',
               f'--ServerApp.root_dir={folder}', f'--LabApp.app_settings_dir={home/"settings"}', '--LabApp.extension_manager=readonly']
    with open(home/'log', 'w') as log: process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
    try: yield process, f'http://127.0.0.1:{_port(process, home)}/lab/tree/%s?token={token}'
    finally:
        process.terminate()
        try: process.wait(20)
        except subprocess.TimeoutExpired: process.kill()


def _port(process, home, patience=90):
    "The port that a server took."
    end = time.monotonic() + patience
    while time.monotonic() < end and process.poll() is None:
        for file in (home/'runtime').glob('jpserver-*.json'):
            with contextlib.suppress(ValueError, KeyError): return json.loads(file.read_text())['port']
        time.sleep(.2)
    raise RuntimeError(f'JupyterLab did not start: {(home/"log").read_text()[-2000:]}')


@contextlib.contextmanager
def browser():
    "A chromium."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which('chromium'), args=FLAGS)
        try: yield browser
        finally: browser.close()


def opened(browser, address, name, kernel='Python 3 (ipykernel)', **options):
    "A notebook opened in JupyterLab, its kernel ready, and all addresses that the page asked for."
    page, asked = browser.new_context(**(dict(viewport=dict(width=1366, height=900)) | options)).new_page(), []
    page.set_default_timeout(60_000)
    page.on('request', lambda r: asked.append(r.url))
    page.goto(address % name)
    ready(page, kernel)
    return page, asked


def ready(page, kernel='Python 3 (ipykernel)'):
    "Wait until the notebook and its kernel can be used."
    page.wait_for_selector('.jp-Notebook .jp-CodeCell')
    page.get_by_text(f'{kernel} | Idle').wait_for()


def run(page, cell=0):
    "Run one cell of the notebook that is open."
    page.locator('.jp-Notebook .jp-CodeCell .jp-InputArea-editor').nth(cell).click()
    page.keyboard.press('Control+Enter')
    page.wait_for_function("n => /[\\d*]/.test(document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')[n].textContent)", arg=cell)
