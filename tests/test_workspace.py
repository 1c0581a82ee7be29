"What holds for the whole tree: notebooks and package in step, one direction of imports, light start, small clean outputs."
import ast, json, os, re, shutil, subprocess, sys
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/'tests'))
from notebooks import MAX_KB, is_stale, notebooks

NOTEBOOKS = notebooks()
MODULES = [p for p in sorted((ROOT/'partvision').rglob('*.py')) if p.name not in ('__init__.py', '_modidx.py')]
HEAVY = {'torch', 'fastai', 'pandas', 'matplotlib', 'sklearn', 'cv2', 'scipy', 'numba', 'timm', 'onnxruntime'}
TRACES = re.compile(r'(?<![\w.])/(?:work|tmp|home|root|usr|var)/|site-packages|Traceback \(most recent call last\)')


def name(path): return path.relative_to(ROOT).as_posix()


def cells(path): return [c for c in nbformat.read(path, 4).cells if c.cell_type == 'code']


def exported(path): return [c.source for c in cells(path) if re.match(r'\s*#\|\s*exporti?\b', c.source)]


def module(path):
    "The module that a notebook is exported to, or None."
    found = [m[1] for c in cells(path) if (m := re.search(r'^#\|\s*default_exp\s+(\S+)', c.source, re.M))]
    return found[0] if found else None


def imports(source, package='partvision'):
    "Absolute names of what `source` imports, wherever it stands in it."
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import): yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join([*package.split('.')[:len(package.split('.')) + 1 - node.level], *([node.module] if node.module else [])]) if node.level else node.module
            yield base
            yield from (f'{base}.{a.name}' for a in node.names)


def python(code, cwd=ROOT):
    "What a fresh interpreter prints."
    done = subprocess.run([sys.executable, '-c', code], cwd=cwd, env=os.environ | dict(PYTHONPATH=str(cwd)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- notebooks and package

def test_export_and_clean_change_nothing(tmp_path):
    "In a copy: exporting gives the committed package, cleaning leaves the notebooks as they are."
    for folder in ('nbs', 'partvision'): shutil.copytree(ROOT/folder, tmp_path/folder, ignore=shutil.ignore_patterns('__pycache__', '.*', '_proc'))
    for file in ('settings.ini', 'pyproject.toml'): shutil.copy(ROOT/file, tmp_path/file)
    def content(): return {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob('*') if p.suffix in ('.py', '.ipynb') and '__pycache__' not in p.parts}
    before = content()
    python('from nbdev.clean import nbdev_clean; from nbdev.doclinks import nbdev_export; nbdev_export(); nbdev_clean(); nbdev_clean(fname="nbs/experiments"); nbdev_clean(fname="nbs/tutorials")', tmp_path)
    after = content()
    assert sorted(before) == sorted(after)
    changed = [f for f in before if before[f] != after[f]]
    assert not changed, f'run make notebooks; out of step: {changed}'


def test_every_module_has_its_notebook():
    made = {f'partvision/{m.replace(".", "/")}.py' for p in NOTEBOOKS if (m := module(p))}
    assert {name(p) for p in MODULES} == made


def test_readme_lists_every_notebook_with_its_own_words():
    text = (ROOT/'README.md').read_text()
    rows = [f'| [{p.stem}](nbs/{p.name}) | `{module(p)}` | {nbformat.read(p, 4).cells[0].source.split(chr(10) + "> ")[1].splitlines()[0]} |' for p in NOTEBOOKS if module(p)]
    missing = [r for r in rows if r not in text]
    assert rows and not missing, f'rows that the table of README.md lacks: {missing}'


def test_exported_cells_import_only_from_lower_numbers():
    numbered = [p for p in NOTEBOOKS if module(p)]
    order = {f'partvision.{module(p)}': (int(m[1]), m[2]) for p in numbered if (m := re.match(r'(\d\d)([a-z]?)_', p.name))}
    assert len(order) == len(numbered), 'a notebook of a module begins with its number'
    wrong = [f'{p.name} imports {target}' for p in numbered for source in exported(p)
             for target in imports(re.sub(r'^\s*[%!].*', '', source, flags=re.M), f'partvision.{module(p)}'.rpartition('.')[0])
             if target != f'partvision.{module(p)}' and order.get(target, (-1, '')) >= order[f'partvision.{module(p)}']]
    assert not wrong, wrong


@pytest.mark.parametrize('path', NOTEBOOKS, ids=name)
def test_outputs_are_fresh_small_and_clean(path):
    assert not is_stale(path), 'its outputs are older than its code: make notebooks'
    assert path.stat().st_size <= MAX_KB*1024
    for cell in cells(path):
        for out in cell.outputs:
            assert out.output_type != 'error', out.get('evalue')
            told = out.get('text', '') + json.dumps({k: v for k, v in out.get('data', {}).items() if not k.startswith('image/')}, ensure_ascii=False)
            assert not (m := TRACES.search(told)), f'{m[0]} in an output of: {cell.source[:200]}'


def test_a_notebook_opens_as_a_lesson():
    "A title, a sentence in a quote that becomes the docstring, and a why."
    for path in NOTEBOOKS:
        first = nbformat.read(path, 4).cells[0].source
        assert re.match(r'# .+\n\n> .+', first), f'{path.name} begins with {first[:80]!r}'


# --- code

def definitions(tree): return [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]


@pytest.mark.parametrize('path', MODULES, ids=name)
def test_functions_are_short_and_say_what_they_do(path):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    long = [f.name for f in definitions(tree) if f.end_lineno - f.lineno + 1 > 50]
    assert not long, f'over 50 lines: {long}'
    # a fastai callback's after_epoch and the like are the library's names, explained there
    public = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith(('_', 'after_', 'before_'))]
    unsaid = [n.name for n in public if not (doc := ast.get_docstring(n)) or '\n' in doc]
    assert not unsaid, f'without a one-line docstring: {unsaid}'
    assert ast.get_docstring(tree), 'the > sentence of the notebook is missing'


def test_the_habit_is_short():
    "Half of all functions under 7 lines with their documented parameters, nine in ten under 20."
    sizes = sorted(f.end_lineno - f.lineno + 1 - (ast.get_docstring(f) is not None) for p in MODULES for f in definitions(ast.parse(p.read_text(encoding='utf-8'))))
    assert sizes[len(sizes)//2] < 7 and sizes[len(sizes)*9//10] < 20


def test_the_patterns_find_what_they_look_for():
    assert TRACES.search('see /work/x') and TRACES.search('lib/site-packages/y') and not TRACES.search('data/work/x')
    assert PICKLE.search('import pickle') and PICKLE.search('np.load(f, allow_pickle=True)') and PICKLE.search('torch.load(f)')
    assert not PICKLE.search('torch.load(f, weights_only=True)')
    assert list(imports('def f(): from ..core import nearest', 'partvision.ocr')) == ['partvision.core', 'partvision.core.nearest']


PICKLE = re.compile(r'\b(?:import (?:c?pickle|joblib|dill)|from (?:pickle|dill) import|from joblib import (?!Parallel, delayed)|allow_pickle\s*=\s*True|read_pickle|to_pickle)\b|torch\.load\((?!.*weights_only=True)|\btorch\.save\(')


@pytest.mark.parametrize('path', MODULES, ids=name)
def test_no_pickle(path):
    assert not (m := PICKLE.search(path.read_text(encoding='utf-8'))), f'{m[0]}: a file from others must not be able to run code'


def test_starting_is_light_and_reaches_for_no_network():
    code = '''
import socket, sys
def refuse(*a, **k): raise OSError('network')
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import partvision, partvision.cli
print(*sys.modules)'''
    assert not HEAVY & {m.split('.')[0] for m in python(code).split()}


# --- packaging

def settings():
    config = ConfigParser(delimiters=['='])
    config.read(ROOT/'settings.ini', encoding='utf-8')
    return config['DEFAULT']


def plain(requirement): return re.sub(r'[-_.]+', '-', re.split(r'[<>=!~\[ ]', requirement)[0]).lower()


def test_what_is_imported_is_required():
    cfg, owners = settings(), packages_distributions()
    declared = {plain(r) for key in cfg if key.endswith('requirements') for r in cfg[key].split()}
    optional = {'OCP', 'build123d', 'bd_warehouse'} # come with the extra cad, which is not installed here
    optional |= {'bpy', 'mathutils'} # Blender's, in an environment of its own
    used = {m.split('.')[0] for p in MODULES for m in imports(p.read_text(encoding='utf-8'), '.'.join(p.relative_to(ROOT).parts[:-1]))} - set(sys.stdlib_module_names) - {'partvision'} - optional
    missing = [m for m in sorted(used) if not {plain(d) for d in owners.get(m, [])} & declared]
    assert not missing, f'imported, but not in settings.ini: {missing}'


def test_the_lock_covers_every_requirement():
    cfg = settings()
    locked = {plain(line) for line in (ROOT/'constraints.txt').read_text().splitlines() if '==' in line}
    wanted = {plain(r) for key in cfg if key.endswith('requirements') and not key.startswith(('cad', 'mobilenet')) for r in cfg[key].split()}
    assert wanted <= locked
    assert not re.search(r'@|://|^-', (ROOT/'constraints.txt').read_text(), re.M)
