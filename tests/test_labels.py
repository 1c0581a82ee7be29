"""What the ledger of decisions promises: no decision is lost, none counts twice, the later wins; and what an audit promises on labels that are known to be wrong."""
import json
import shutil
import subprocess
import sys
import time
import warnings
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from partvision.catalog import read_catalog, straddling
from partvision.core import PartvisionError, shared_data
from partvision.labels.decisions import FIELDS, add_decision, apply_decisions, decide, history, ledger_file, read_decisions, undo
from partvision.labels.issues import audit, find_issues, out_of_sample_probs
from partvision.test_utils import tiny_catalog

ROOT = Path(__file__).resolve().parent.parent
WRITER = """
import sys
from partvision.labels.decisions import add_decision
path, who, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
for i in range(n): print(add_decision(path, f'{who}-{i}', 'label', 'nut ' * (i % 50) + 'nut', who=who)['id'], flush=True)
"""


@pytest.fixture
def catalog(tmp_path): return tiny_catalog(tmp_path/'set', n_parts=4, n_views=2, size=16)


@pytest.fixture
def ledger(catalog, tmp_path): return tmp_path/'set'/'decisions.jsonl'


def writer(path, who, n): return subprocess.Popen([sys.executable, '-c', WRITER, str(path), who, str(n)], stdout=subprocess.PIPE, text=True)


def label_of(catalog, image): return catalog.set_index('image').label[image]


def quiet(path):
    "The decisions, without the warning about unreadable lines."
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return read_decisions(path)


# The ledger

def test_three_processes_at_once_lose_nothing(ledger):
    writers = [writer(ledger, who, 150) for who in ('ana', 'ben', 'eva')]
    ids = [i for w in writers for i in w.communicate()[0].split()]
    found = read_decisions(ledger)
    assert len(ids) == 450 and set(found.id) == set(ids)
    assert found.attrs['unreadable'] == [] and found.time.is_monotonic_increasing
    for who in ('ana', 'ben', 'eva'): assert list(found.key[found.who == who]) == [f'{who}-{i}' for i in range(150)]


def test_killed_in_the_middle_everything_confirmed_is_there(ledger):
    w = writer(ledger, 'ana', 10**6)
    confirmed = [w.stdout.readline().strip() for _ in range(40)]
    w.kill()
    confirmed += [i for i in w.communicate()[0].split() if len(i) == 32]
    assert set(confirmed) <= set(quiet(ledger).id)


@pytest.mark.parametrize('cut', [1, 20, 60])
def test_torn_last_line_costs_only_itself(ledger, cut):
    ids = [add_decision(ledger, 'a.png', 'label', 'nut')['id'] for _ in range(3)]
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:-cut])
    with pytest.warns(UserWarning, match='line 3 cannot be read') if cut > 1 else warnings.catch_warnings(): found = read_decisions(ledger)
    assert list(found.id) == ids[:2] if cut > 1 else ids
    after = add_decision(ledger, 'b.png', 'label', 'bolt')['id']
    assert list(quiet(ledger).id) == list(found.id) + [after]


@pytest.mark.parametrize('line', ['<<<<<<< HEAD', '[1, 2]', '{"id": "x"}', '{"id": "x", "time": "yesterday", "key": "a", "field": "label"}', '"', '\x00\x00', '{"id": "x", "time": 5, "key": "a", "field": "label"}',
                                  '{"id": "x", "time": "2026-01-01T00:00:00Z", "key": "a", "field": "use", "new": "no"}', '{"id": ["x"], "time": "2026-01-01T00:00:00Z", "key": "a", "field": "label", "new": "nut"}'])
def test_a_line_of_nonsense_is_reported(ledger, line):
    first = add_decision(ledger, 'a.png', 'label', 'nut')['id']
    with ledger.open('a') as f: f.write(line + '\n')
    last = add_decision(ledger, 'a.png', 'label', 'bolt')['id']
    with pytest.warns(UserWarning, match='line 2 cannot be read and is left out; the other 2 decisions are all there'): found = read_decisions(ledger)
    assert list(found.id) == [first, last] and found.attrs['unreadable'] == [2]


def test_no_ledger_yet_is_no_decision(catalog, ledger):
    found = read_decisions(ledger)
    assert len(found) == 0 and list(found.columns) == FIELDS
    pd.testing.assert_frame_equal(apply_decisions(catalog, found), catalog)


def test_unusual_text_survives(ledger):
    why = 'Zoë: «M8»\u2028 line\nbreak \\ "quoted" 螺母'
    add_decision(ledger, 'ä b.png', 'text', why, why=why)
    assert read_decisions(ledger)[['key', 'new', 'why']].values.tolist() == [['ä b.png', why, why]]


def test_order_is_by_time_whatever_the_zone(ledger):
    base = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    east = timezone(timedelta(hours=5))
    for key, at in (('third', base + timedelta(hours=2)), ('first', base), ('second', (base + timedelta(hours=1)).astimezone(east))): add_decision(ledger, key, 'label', 'nut', time=at)
    foreign = json.loads(ledger.read_text().splitlines()[0]) | dict(id='f', key='fourth', time='2026-01-01T20:00:00+05:00')
    with ledger.open('a') as f: f.write(json.dumps(foreign) + '\n' + json.dumps(foreign | dict(id='n', key='fifth', time='2026-01-01T15:30:00')) + '\n')
    assert list(read_decisions(ledger).key) == ['first', 'second', 'third', 'fourth', 'fifth']


@pytest.mark.skipif(shutil.which('git') is None, reason='no git on this machine')
def test_git_merges_two_reviewers(tmp_path):
    def git(*args): subprocess.run(['git', '-c', 'user.name=x', '-c', 'user.email=x@example.org', *args], cwd=tmp_path, check=True, capture_output=True)
    git('init', '-b', 'main')
    (tmp_path/'.gitattributes').write_text('*.jsonl merge=union\n')
    ledger = tmp_path/'decisions.jsonl'
    ids = [add_decision(ledger, 'a.png', 'label', 'nut')['id']]
    git('add', '.'); git('commit', '-m', 'start')
    for branch in ('ana', 'ben'):
        git('checkout', '-b', branch, 'main')
        ids += [add_decision(ledger, f'{branch}.png', 'label', 'bolt')['id'] for _ in range(2)]
        git('commit', '-am', branch)
    git('merge', 'ana', '-m', 'both')
    ledger.write_bytes(ledger.read_bytes() + ledger.read_bytes().splitlines(keepends=True)[1])
    found = read_decisions(ledger)
    assert list(found.id) == ids and found.attrs['unreadable'] == []


@pytest.mark.parametrize('change, message', [
    (dict(field='lable'), "no field 'lable'; did you mean 'label'?"), (dict(target='photo'), "no target 'photo'; choose from image, part, box"), (dict(status='decide'), "did you mean 'decided'?"),
    (dict(new=7), 'label is text or null, not 7'), (dict(new='nut;'), 'empty one'), (dict(new='nut ;bolt'), 'blanks'), (dict(field='use', new=None), 'use is true or false, not None'), (dict(key=''), 'needs the name of the image')])
def test_impossible_decisions_are_not_written(ledger, change, message):
    with pytest.raises(PartvisionError) as e: add_decision(ledger, **dict(key='a.png', field='label', new='nut') | change)
    assert message in str(e.value) and not ledger.exists()


def test_ledger_lies_beside_the_catalog(catalog, ledger):
    folder = ledger.parent
    for path in (folder, folder/'catalog.parquet', ledger, str(ledger)): assert ledger_file(path) == ledger


# Undoing

def test_undo_comes_after_what_it_undoes_even_with_a_slow_clock(catalog, ledger):
    ahead = datetime.now(timezone.utc) + timedelta(days=1)
    d = add_decision(ledger, catalog.image[0], 'label', 'gear', time=ahead)
    u = undo(ledger, d['id'])
    assert u['time'] > d['time'] and (u['old'], u['new'], u['undoes']) == ('gear', None, d['id'])
    assert label_of(apply_decisions(catalog, read_decisions(ledger)), catalog.image[0]) == catalog.label[0]
    undo(ledger, u['id'])
    assert label_of(apply_decisions(catalog, read_decisions(ledger)), catalog.image[0]) == 'gear'
    assert list(history(read_decisions(ledger), catalog.image[0]).stands) == [True, False, True]


def test_undoing_the_later_brings_the_earlier_back(catalog, ledger):
    image = catalog.image[0]
    decide(catalog, image, 'label', 'gear')
    later = decide(catalog, image, 'use', False)
    assert image not in set(apply_decisions(catalog, read_decisions(ledger)).image)
    undo(ledger, later['id'])
    assert label_of(apply_decisions(catalog, read_decisions(ledger)), image) == 'gear'


def test_undo_of_nothing(ledger):
    d = add_decision(ledger, 'a.png', 'label', 'nut')
    with pytest.raises(PartvisionError, match='has no decision'): undo(ledger, 'nothing')
    undo(ledger, d['id'])
    with pytest.raises(PartvisionError, match='is undone already'): undo(ledger, d['id'])
    assert len(read_decisions(ledger)) == 2


# Applying

def test_later_wins_whether_picture_or_part(catalog, ledger):
    before = catalog.copy()
    part, images = 'bolt01', list(catalog.image[catalog.part == 'bolt01'])
    decide(catalog, images[0], 'label', 'nut')
    decide(catalog, part, 'label', 'gear', target='part')
    decide(catalog, images[1], 'label', 'nut')
    after = apply_decisions(catalog, read_decisions(ledger))
    assert [label_of(after, i) for i in images] == ['gear', 'nut']
    assert (after.label != catalog.label).sum() == 2
    pd.testing.assert_frame_equal(catalog, before)
    pd.testing.assert_frame_equal(after.drop(columns='label'), catalog.drop(columns='label'))


def test_every_field_and_none(catalog, ledger):
    a, b, c, d = catalog.image[:4]
    decide(catalog, a, 'label', None); decide(catalog, b, 'text', 'M8'); decide(catalog, c, 'use', False); decide(catalog, d, 'label', 'gear;nut')
    after = apply_decisions(catalog, read_decisions(ledger)).set_index('image')
    assert pd.isna(after.label[a]) and after.text[b] == 'M8' and c not in after.index and after.label[d] == 'gear;nut'
    assert after.text.drop(b).isna().all() and len(after) == len(catalog) - 1


def test_only_what_people_decided(catalog, ledger):
    image = catalog.image[0]
    decide(catalog, image, 'label', 'gear', status='proposed', who='audit')
    assert label_of(apply_decisions(catalog, read_decisions(ledger)), image) == catalog.label[0]
    assert label_of(apply_decisions(catalog, read_decisions(ledger), status='proposed'), image) == 'gear'
    with pytest.raises(PartvisionError, match="did you mean 'proposed'"): apply_decisions(catalog, read_decisions(ledger), status='propose')


def test_void_decisions_are_named_and_the_rest_applied(catalog, ledger):
    gone, changed, kept = catalog.image[:3]
    for image in (gone, changed, kept): decide(catalog, image, 'label', 'gear')
    add_decision(ledger, kept, 'box', [0, 0, 5, 5], target='box')
    newer = catalog[catalog.image != gone].reset_index(drop=True)
    newer.loc[newer.image == changed, 'sha256'] = '0'*64
    with pytest.warns(UserWarning, match='2 of 3 decisions could not be applied'): after = apply_decisions(newer, read_decisions(ledger))
    assert {v['key']: v['reason'] for v in after.attrs['not_applied']} == {gone: f'there is no image {gone} any more', changed: 'the file was exchanged since the decision'}
    assert label_of(after, kept) == 'gear' and label_of(after, changed) == catalog.label[1]


def test_moving_a_view_to_another_part_leaves_no_leak(catalog, ledger):
    test_part, train_part = (catalog.part[catalog.split == s].iloc[0] for s in ('test', 'train'))
    image = catalog.image[catalog.part == test_part].iloc[0]
    decide(catalog, image, 'part', train_part)
    decide(catalog, train_part, 'label', 'ring', target='part')
    after = apply_decisions(catalog, read_decisions(ledger))
    assert straddling(after) == [] and after.set_index('image').part[image] == train_part
    assert list(after.label[after.part == train_part]) == ['ring']*3
    assert after.group[after.part == test_part].isin(after.group[after.part == train_part]).all()
    untouched = ~after.part.isin([test_part, train_part])
    assert (after.split[untouched] == catalog.split[untouched]).all()


def test_a_class_split_by_case_is_refused(catalog, ledger):
    with pytest.raises(PartvisionError, match="'Gear' differs from the class 'gear' only in case"): decide(catalog, catalog.image[0], 'label', 'Gear')
    add_decision(ledger, catalog.image[0], 'label', 'Gear')
    with pytest.raises(PartvisionError, match='differ only in case'): apply_decisions(catalog, read_decisions(ledger))
    assert len(read_decisions(ledger)) == 1


def test_thousands_of_decisions_take_seconds():
    n = 20_000
    c = pd.DataFrame(dict(image=[f'{i}.png' for i in range(n)], label='nut', part=[f'p{i//4}' for i in range(n)], source='x', frame=None, split='train', group=[f'p{i//4}' for i in range(n)], width=9, height=9, sha256='0'*64))
    d = pd.DataFrame([dict.fromkeys(FIELDS) | dict(id=str(i), time='2026-01-01T00:00:00+00:00', status='decided', target='image', key=f'{i % n}.png', field='label', new='bolt') for i in range(10_000)], columns=FIELDS, dtype=object)
    start = time.perf_counter()
    after = apply_decisions(c, d)
    assert (after.label == 'bolt').sum() == 10_000 and time.perf_counter() - start < 20


# Label issues

THREE = np.array([[.8, .1, .1], [.2, .7, .1], [.1, .1, .8], [.3, .4, .3]])
NAMES = ['nut', 'bolt', 'gear', 'nut']


@pytest.mark.parametrize('labels, probs, kw, message', [
    (NAMES, np.where(THREE > .7, np.nan, THREE), {}, 'not a number'), (NAMES, THREE*.5, {}, 'sums to 0.5, not to one'), (NAMES, THREE*2 - .3, {}, 'outside 0 to 1'),
    (NAMES[:3], THREE, {}, '3 labels but 4 rows'), (NAMES, THREE[:, 0], {}, 'shape'), (NAMES, [THREE, THREE[:, :2]/THREE[:, :2].sum(1, keepdims=True)], {}, 'shape'),
    (['nut']*4, THREE, dict(classes=['bolt', 'gear', 'nut']), "all labels are 'nut'"), (['nut', 'bolt', 'nut', 'bolt'], THREE, {}, '3 columns but there are 2 classes'),
    (NAMES, THREE, dict(classes=['nut', 'bolt', 'ring']), "'gear' is not among the classes"), ([0, 1, 2, 3], THREE, {}, 'class numbers go from 0 to 2'), ([-1, 1, 2, 0], THREE, {}, 'class numbers go from 0 to 2'),
    (['nut', None, 'gear', 'bolt'], THREE, {}, 'empty'), (NAMES, THREE, dict(groups=['a']), '4 labels but 1 groups'), (NAMES, THREE, dict(classes=['nut', 'nut', 'gear']), 'twice'),
    ([[1, 0, 2]]*4, THREE, {}, 'zeros and ones'), ([[1, 0]]*2 + [[0, 1]]*2, THREE, {}, 'columns'), ([], THREE[:0], {}, 'shape')])
def test_bad_input_is_one_sentence(labels, probs, kw, message):
    with pytest.raises(PartvisionError) as e: find_issues(labels, probs, **kw)
    assert message in str(e.value) and '\n' not in str(e.value)


def made_up(n=900, k=4, noise=.15, seed=0):
    "Labels, a fifth of them or so wrong by chance, and what a good model says."
    rng = np.random.default_rng(seed)
    truth = rng.integers(k, size=n)
    probs = np.exp(rng.normal(size=(n, k)) + 4*np.eye(k)[truth])
    wrong = rng.random(n) < noise
    return np.where(wrong, (truth + rng.integers(1, k, n)) % k, truth), probs/probs.sum(1, keepdims=True), truth


def test_result_keeps_its_promises():
    given, probs, truth = made_up()
    found = find_issues(given, probs)
    assert list(found.columns) == ['label_score', 'is_label_issue', 'given_label', 'predicted_label'] and found.is_label_issue.dtype == bool
    assert found.label_score.between(0, 1).all() and found.label_score[found.is_label_issue].max() <= found.label_score[~found.is_label_issue].min()
    wrong, flagged = given != truth, found.is_label_issue.to_numpy()
    assert (wrong & flagged).sum()/flagged.sum() > .9 and (wrong & flagged).sum()/wrong.sum() > .9
    assert (found.predicted_label[wrong & flagged] == truth[wrong & flagged]).mean() > .95
    low, high = found.attrs['interval']
    assert low <= found.attrs['estimated_errors'] <= high and low <= wrong.sum()*1.1 and high >= wrong.sum()*.9


def test_names_numbers_and_order_of_classes_do_not_matter():
    given, probs, _ = made_up()
    names, turned = np.array(['a', 'b', 'c', 'd']), [2, 0, 3, 1]
    plain = find_issues(given, probs)
    named = find_issues(pd.Series(names[given], index=np.arange(len(given)) + 7), probs)
    other = find_issues(names[given], probs[:, turned], classes=list(names[turned]))
    listed = find_issues(given, [probs])
    assert list(named.index[:2]) == [7, 8]
    for found in (named, other): assert (found.predicted_label.to_numpy() == names[plain.predicted_label]).all()
    for found in (named, other, listed): np.testing.assert_allclose(found.label_score, plain.label_score, atol=1e-4)


def test_several_labels_a_picture():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (400, 3))
    probs = np.clip(.1 + .8*truth + rng.normal(0, .05, truth.shape), 0, 1)
    given = truth.copy()
    given[:20, 1] = 1 - given[:20, 1]
    found = find_issues(given, probs, classes=['bent', 'rusty', 'worn'])
    assert set(found.index[found.is_label_issue]) == set(range(20))
    assert found.predicted_label[0] == ';'.join(c for c, t in zip(['bent', 'rusty', 'worn'], truth[0]) if t)


@pytest.mark.parametrize('n, k, skill', [(12, 3, 4), (40, 10, 2), (500, 2, 3), (300, 30, 4), (200, 3, 0)])
def test_small_many_classes_and_no_skill_at_all(n, k, skill):
    rng = np.random.default_rng(0)
    given = np.arange(n) % k
    probs = np.exp(rng.normal(size=(n, k)) + skill*np.eye(k)[given])
    found = find_issues(given, probs/probs.sum(1, keepdims=True))
    assert np.isfinite(found.label_score).all() and np.isfinite(found.attrs['interval']).all()


# Wrong parts

def misfiled_parts(views=6, parts=60):
    "Features of parts that differ from one another more than their classes do, and labels with six whole parts in the wrong box."
    rng = np.random.default_rng(0)
    part = np.repeat(np.arange(parts), views)
    truth = part % 2
    features = .3*rng.normal(size=(2, 600))[truth] + rng.normal(size=(parts, 600))[part] + .3*rng.normal(size=(len(part), 600))
    return features, np.where(np.isin(part, [3, 12, 25, 33, 48, 59]), 1 - truth, truth), truth, part


def test_whole_parts_are_found_with_groups_and_not_without():
    features, filed, truth, part = misfiled_parts()
    wrong = filed != truth
    grouped = find_issues(filed, out_of_sample_probs(features, filed, part), part).is_label_issue
    alone = find_issues(filed, out_of_sample_probs(features, filed)).is_label_issue
    assert grouped[wrong].mean() >= .9 and wrong[grouped].mean() >= .9
    assert alone[wrong].mean() < .3


def test_folds_repeat_and_never_split_a_group():
    features, filed, _, part = misfiled_parts()
    probs = out_of_sample_probs(features, filed, part, seed=3)
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(probs, out_of_sample_probs(features, filed, part, seed=3))
    noise = np.random.default_rng(1).normal(size=features.shape)[part] # parts alike in nothing but themselves: a leak would show
    assert (out_of_sample_probs(noise, filed, part).argmax(1) == filed).mean() < .75
    assert (out_of_sample_probs(noise, filed).argmax(1) == filed).mean() > .95


@pytest.mark.parametrize('change, message', [(dict(groups=np.zeros(360)), 'one group'), (dict(labels=np.zeros(360, int)), 'two classes'), (dict(groups=np.zeros(3)), '3 groups'), (dict(features=np.full((360, 5), np.nan)), 'not finite')])
def test_impossible_folds_are_one_sentence(change, message):
    features, filed, _, part = misfiled_parts()
    with pytest.raises(PartvisionError, match=message): out_of_sample_probs(**dict(features=features, labels=filed, groups=part) | change)


def test_audit_adds_columns_and_touches_no_others(catalog):
    c = catalog.copy()
    c.loc[0, 'label'] = None
    audited = audit(c)
    pd.testing.assert_frame_equal(audited[c.columns], c)
    assert audited.loc[0, ['given_label', 'predicted_label', 'label_score']].isna().all()
    assert set(audited.columns) - set(c.columns) == {'given_label', 'predicted_label', 'label_score', 'is_label_issue'}


# Real data

@pytest.mark.skipif(shared_data('label_errors') is None, reason='the label_errors set is not on this machine')
@pytest.mark.parametrize('name', ['cifar10n_worst', 'cifar10_synthetic20'])
@pytest.mark.parametrize('several', [False, True], ids=['one model', 'five models'])
def test_cut_is_no_worse_than_the_usual_ones(name, several):
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.metrics import f1_score
    with np.load(shared_data('label_errors')/f'{name}.npz') as f: data = {k: f[k][:12_000] for k in f}
    given, wrong = data['given'].astype(int), data.pop('given') != data.pop('true')
    models = [p.astype(float)/p.sum(1, keepdims=True, dtype=float) for p in (data.values() if several else [data['resnet50d']])]
    mean = np.mean(models, axis=0)
    ours = f1_score(wrong, find_issues(given, models).is_label_issue)
    ranking = np.argsort(get_label_quality_scores(given, mean, method='normalized_margin'), kind='stable')
    best_cut = (2*np.cumsum(wrong[ranking])/(np.arange(1, len(given) + 1) + wrong.sum())).max()
    assert ours >= max(f1_score(wrong, find_label_issues(given, mean)), f1_score(wrong, mean.argmax(1) != given)) - .002
    assert ours >= best_cut - .01


@pytest.mark.real
@pytest.mark.skipif(shared_data('mech_parts') is None, reason='the mech_parts set is not on this machine')
def test_misfiled_real_parts(tmp_path):
    from partvision.ingest import ingest
    from partvision.studies import found_scores, plant_errors
    right = ingest(shared_data('mech_parts'), tmp_path, part=r'(.+)_\d+')
    def mean(catalogs): return pd.DataFrame([found_scores(audit(c)) for c in catalogs])[['precision', 'recall', 'f1']].mean()
    for kind, recall, f1 in (('part', .85, .75), ('single', .9, .8)):
        planted = [plant_errors(right, .1, kind, seed) for seed in range(3)]
        found = mean(planted)
        assert found.recall > recall and found.f1 > f1, (kind, found)
        if kind == 'part': assert found.f1 > mean([c.assign(part=None, group=c.image) for c in planted]).f1


@pytest.mark.real
@pytest.mark.skipif(shared_data('electronics') is None, reason='the electronics set is not on this machine')
def test_tutorial_runs_on_real_photos(tmp_path):
    import nbformat
    import papermill
    out = tmp_path/'tutorial.ipynb'
    papermill.execute_notebook(ROOT/'nbs/tutorials/find_the_wrong_labels.ipynb', out, parameters=dict(data=str(shared_data('electronics'))), progress_bar=False)
    said = ''.join(o.get('text', '') for c in nbformat.read(out, 4).cells if c.cell_type == 'code' for o in c.outputs)
    assert '3015 photos' in said and 'labels are in doubt' in said and '20 questions' in said
