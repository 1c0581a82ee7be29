"""What the review grid promises: the right question first, every key on the disk before it is said to be saved, nothing lost by a reload, a kill or a second person."""
import json, os, re, shutil, subprocess, sys
from pathlib import Path

import numpy as np
import psutil
import pytest

import lab
from partvision.catalog import write_catalog
from partvision.core import PartvisionError
from partvision.labels.decisions import apply_decisions, decide, read_decisions, undo
from partvision.labels.review import Ledger, from_label_studio, review, review_queue, stop_rule, to_label_studio, _gone
from partvision.test_utils import tiny_catalog

WRONG = {f'gear/gear02_{v}.png': 'nut' for v in range(3)} | {'nut/nut05_1.png': 'gear', 'bolt/bolt03_0.png': 'gear', 'nut/nut01_2.png': 'bolt'}


def audited_set(folder, size=32):
    "A stored catalog of 54 pictures with six wrong labels, three of them a whole part, all found by an audit."
    c = tiny_catalog(folder, size=size)
    wrong = c.image.isin(WRONG)
    label = [WRONG.get(i, l) for i, l in zip(c.image, c.label)]
    a = c.assign(label=label, given_label=label, predicted_label=c.label, is_label_issue=wrong, label_score=np.where(wrong, .1, .9) + .001*(np.arange(len(c)) % 7))
    a.attrs = c.attrs
    return write_catalog(a, folder)


@pytest.fixture
def catalog(tmp_path): return audited_set(tmp_path/'set')


class Reader:
    "A reviewer without a browser."
    def __init__(self, catalog, who):
        self.grid, self.told = review(catalog, who), []
        self.grid.send = lambda message, buffers=None: self.told.append(message)
        self.press('start')
    def press(self, do, **more):
        at, is_open = (self.shown['at'], self.shown['item']['open']) if self.told else (0, True)
        n = len(self.told)
        self.grid._heard(None, dict(do=do, at=at, open=is_open, token=n) | more, [])
        return next((m for m in self.told[n:] if m['kind'] in ('saved', 'failed')), None)
    def go(self, key): self.press('show', at=[i['key'] for i in self.grid.items].index(key))
    @property
    def shown(self): return next(m for m in reversed(self.told) if m['kind'] == 'screen')


# ---- what is asked

def test_the_largest_expected_gain_comes_first_and_a_part_is_one_question(catalog):
    queue = review_queue(catalog)
    assert list(queue.target) == ['part', 'image', 'image', 'image'] and queue.key[0] == 'gear02'
    assert queue.gain.is_monotonic_decreasing
    assert queue.gain[0] == pytest.approx((1 - catalog.label_score[catalog.part == 'gear02']).sum())
    assert sorted(i for images in queue.pictures for i in images) == sorted(WRONG)


def test_a_sure_picture_may_outweigh_a_doubtful_part(catalog):
    catalog.loc[catalog.part == 'gear02', 'label_score'] = .75
    assert review_queue(catalog).target[0] == 'image'


@pytest.mark.parametrize('share, items', [(.8, 1), (.75, 1), (.5, 2)])
def test_a_part_mostly_in_doubt_is_one_question(share, items, tmp_path):
    c = tiny_catalog(tmp_path/'set', n_classes=2, n_views=20 if share == .8 else 4, n_parts=3, size=8)
    part = c.part == 'gear01'
    doubt = part & (part.cumsum() <= share*part.sum())
    c = c.assign(given_label=c.label, predicted_label='bolt', label_score=.5, is_label_issue=doubt)
    queue = review_queue(c)
    assert len(queue) == items and (items > 1 or len(queue.pictures[0]) == part.sum())


def test_views_without_a_label_belong_to_their_part(catalog):
    catalog.loc[catalog.image == 'gear/gear02_1.png', ['label', 'given_label', 'predicted_label']] = None
    catalog['is_label_issue'] = catalog.is_label_issue & catalog.label.notna()
    item = review_queue(catalog).iloc[0]
    assert len(item.pictures) == 3 and item.gain < 2


def test_without_parts_a_group_gets_a_decision_for_each_picture(catalog):
    ana = Reader(catalog.assign(part=None), 'ana')
    assert ana.grid.items[0]['target'] == 'group'
    assert ana.press('accept')['kind'] == 'saved'
    found = read_decisions(catalog.attrs['path'])
    assert set(found.target) == {'image'} and sorted(found.key) == [f'gear/gear02_{v}.png' for v in range(3)] and found.sha256.notna().all()
    ana.press('undo')
    assert read_decisions(catalog.attrs['path']).undoes.notna().sum() == 3 and ana.grid.progress()['done'] == 0


def test_the_stop_rule_follows_what_was_found():
    as_expected, never, nothing = (stop_rule([.5]*100, found=f, expected=e) for f, e in ((20, 20), (0, 20), (0, 0)))
    assert as_expected['finds'] == pytest.approx(20) and as_expected['left'] == pytest.approx(50)
    assert never['finds'] == pytest.approx(20*5/25) and nothing['ratio'] == 1
    assert stop_rule([.9]*10, [1]*10, found=50, expected=5)['left'] == 10


def test_a_setting_aside_says_nothing_about_labels(catalog):
    ana = Reader(catalog, 'ana')
    before = ana.grid.progress()
    ana.press('exclude')
    assert ana.grid.progress()['changed'] == 0 and stop_text(ana) == 'reviewing 3 more is expected to find 3 wrong labels'
    assert before['stop'].endswith('find 5 wrong labels')


def stop_text(reader): return reader.grid.progress()['stop']


# ---- what is written

def test_the_lines_are_those_of_decide(catalog, tmp_path):
    other = audited_set(tmp_path/'other')
    ana, lines = Reader(catalog, 'ana'), lambda c: read_decisions(c.attrs['path']).drop(columns=['id', 'time']).to_dict('records')
    ana.press('accept')
    ana.go('nut/nut05_1.png')
    ana.press('keep')
    ana.go('bolt/bolt03_0.png')
    ana.press('exclude')
    decide(other, 'gear02', 'label', 'gear', target='part', who='ana', why='suggestion accepted in review')
    decide(other, 'nut/nut05_1.png', 'label', 'gear', who='ana', why='kept in review')
    decide(other, 'bolt/bolt03_0.png', 'use', False, who='ana', why='set aside in review')
    assert lines(catalog) == lines(other)


def test_what_is_shown_is_what_apply_decisions_does(catalog):
    "Random keys of two people, each with a grid open: the grid and the corrected catalog agree, and so does one opened anew."
    rng, readers = np.random.default_rng(0), [Reader(catalog, who) for who in ('ana', 'ben')]
    for _ in range(60):
        reader = readers[rng.integers(2)]
        reader.press('show', at=int(rng.integers(4)))
        reader.press(str(rng.choice(['accept', 'keep', 'exclude', 'undo', 'label'])), label=str(rng.choice(['bolt', 'gear', 'nut'])))
    corrected = apply_decisions(catalog, read_decisions(catalog.attrs['path']))
    label = dict(zip(corrected.image, corrected.label))
    for reader in (*readers, Reader(catalog, 'eva')):
        reader.press('show', at=0)
        for item, state in zip(reader.grid.items, reader.grid.states):
            now = {label.get(i) for i in item['pictures']}
            expect = dict(aside={None}, kept={item['given']}).get(state)
            assert now == expect if expect else state in ('open', 'changed') and None not in now and (state == 'open') <= (now == {item['given']})
    assert len(read_decisions(catalog.attrs['path'])) > 30


def test_a_failed_write_leaves_the_item_open_and_says_why(catalog, monkeypatch):
    ana = Reader(catalog, 'ana')
    def full(fd): raise OSError(28, 'No space left on device')
    with monkeypatch.context() as m:
        m.setattr(os, 'write', lambda fd, data: full(fd))
        told = ana.press('accept')
    assert told['kind'] == 'failed' and 'disk is full' in told['text']
    assert ana.grid.states[0] == 'open' and not any(m['kind'] == 'saved' for m in ana.told)
    assert ana.press('accept')['kind'] == 'saved' and len(read_decisions(catalog.attrs['path'])) == 1


def test_saved_is_said_after_fsync(catalog, monkeypatch):
    ana, order, fsync = Reader(catalog, 'ana'), [], os.fsync
    monkeypatch.setattr(os, 'fsync', lambda fd: order.append('fsync') or fsync(fd))
    ana.grid.send = lambda message, buffers=None: order.append(message['kind'])
    ana.grid._heard(None, dict(do='accept', at=0, open=True), [])
    assert order[:2] == ['fsync', 'saved']


def test_the_second_of_two_keys_does_not_count_until_its_owner_knows(catalog):
    ana, ben = Reader(catalog, 'ana'), Reader(catalog, 'ben')
    ana.press('accept')
    told = ben.press('keep')
    assert told['kind'] == 'failed' and told['text'].startswith('changed to gear by ana a moment ago')
    assert len(read_decisions(catalog.attrs['path'])) == 1
    assert ben.shown['at'] == 0 and ben.press('keep')['kind'] == 'saved'
    assert ana.press('show', at=0) is None and ana.shown['item']['says'] == 'kept as nut by ben'


def test_what_is_pressed_last_wins_though_a_clock_is_ahead(catalog):
    from datetime import datetime, timedelta, timezone
    decide(catalog, 'gear02', 'label', 'nut', target='part', who='ben', time=datetime.now(timezone.utc) + timedelta(days=1))
    ana = Reader(catalog, 'ana')
    ana.press('show', at=0)
    ana.press('accept')
    assert ana.grid.states[0] == 'changed'


def test_undo_works_after_a_crash_and_only_takes_back_one_s_own(catalog):
    Reader(catalog, 'ana').press('accept')
    ben, again = Reader(catalog, 'ben'), Reader(catalog, 'ana')
    assert ben.press('undo')['text'] == 'there is nothing to undo'
    assert again.shown['at'] != 0 and again.press('undo')['kind'] == 'saved' and again.shown['at'] == 0


def test_a_torn_ledger_loses_only_the_torn_line(catalog):
    ledger = Path(catalog.attrs['path']).with_name('decisions.jsonl')
    Reader(catalog, 'ana').press('accept')
    with open(ledger, 'ab') as f: f.write(b'{"id": "77", "time')
    with pytest.warns(UserWarning, match='line 2 cannot be read'): ana = Reader(catalog, 'ana')
    assert 'cannot be read' in ana.told[0]['note'] and ana.grid.states[0] == 'changed'
    assert ana.press('keep')['kind'] == 'saved' and ana.grid.progress()['done'] == 2


def test_the_ledger_read_on_equals_the_ledger_read_anew(catalog):
    path, ledger = catalog.attrs['path'], Ledger(catalog.attrs['path'])
    ids = [decide(catalog, 'gear02', 'label', l, target='part')['id'] for l in ('gear', 'nut', 'bolt')]
    ledger.news()
    back = undo(path, ids[1])
    undo(path, undo(path, back['id'])['id'])
    ledger.news()
    anew = Ledger(path)
    anew.news()
    assert [d['id'] for _, d in ledger.lines] == list(read_decisions(path).id) and ledger.gone == anew.gone == _gone(anew.lines)


def test_exchanged_pictures_are_asked_again(catalog):
    ana = Reader(catalog, 'ana')
    ana.go('nut/nut05_1.png')
    ana.press('accept')
    newer = catalog.copy()
    newer.loc[newer.image == 'nut/nut05_1.png', 'sha256'] = '0'*64
    assert Reader(catalog, 'ana').grid.states.count('open') == 3 and Reader(newer, 'ana').grid.states.count('open') == 4


@pytest.mark.parametrize('message', [dict(do='label', label='Nut'), dict(do='label', label='nutt'), dict(do='label', label='nut;bolt'), dict(do='label', label=' nut')])
def test_impossible_labels_are_refused(catalog, message):
    ana = Reader(catalog, 'ana')
    assert ana.press(**message)['kind'] == 'failed' and not len(read_decisions(catalog.attrs['path']))


def test_missing_columns_and_paths_are_one_sentence(catalog):
    with pytest.raises(PartvisionError, match='no column predicted_label; run partvision audit first'): review(catalog.drop(columns='predicted_label'))
    lost = catalog.copy()
    lost.attrs = {}
    with pytest.raises(PartvisionError, match='does not say where it and its pictures lie'): review(lost)


def test_a_round_through_label_studio(catalog, tmp_path):
    file = tmp_path/'tasks.json'
    to_label_studio(catalog, file, prefix='https://pictures.example/a b/')
    tasks = json.loads(file.read_text())
    assert {t['data']['key'] for t in tasks} == set(WRONG)
    for n, task in enumerate(tasks): # as if every suggestion had been accepted, exported with its annotations
        task |= dict(id=n, annotations=[dict(completed_by=5, result=[], updated_at='2026-01-01'), dict(completed_by=5, result=task['predictions'][0]['result'], updated_at='2026-01-02')])
    file.write_text(json.dumps(tasks))
    assert len(from_label_studio(file, catalog)) == len(WRONG) and from_label_studio(file, catalog) == []
    corrected = apply_decisions(catalog, read_decisions(catalog.attrs['path']))
    assert all(image.startswith(label) for image, label in zip(corrected.image, corrected.label))
    assert to_label_studio(catalog) == [] and Reader(catalog, 'ana').grid.progress()['done'] == 4


# ---- in JupyterLab

def saved(page, key, says, patience=30_000):
    "Press a key and wait until the grid says what it should."
    page.keyboard.press(key)
    page.wait_for_function("says => document.querySelector('.pv-said').textContent.startsWith(says)", arg=says, timeout=patience)


def at_item(page, n): page.wait_for_selector(f'.pv-review[data-at="{n}"]')


def states(page): return page.locator('.pv-step').evaluate_all("steps => steps.map(s => s.className.match(/pv-is-(\\w+)/)[1])")


def decided(folder): return list(read_decisions(folder)[['who', 'key', 'field', 'new', 'why']].itertuples(index=False, name=None))


@pytest.mark.timeout(300)
def test_marks_survive_undo_reload_and_kill_in_jupyterlab(tmp_path):
    if why := lab.why_not(): pytest.skip(why)
    data = tmp_path/'set'
    audited_set(data, size=64)
    lab.notebook(tmp_path/'review.ipynb', "from partvision.catalog import read_catalog\nfrom partvision.labels.review import review\nreview(read_catalog('set'), who='ana')")
    with lab.server(tmp_path) as (server, address), lab.browser() as browser:
        page, asked = lab.opened(browser, address, 'review.ipynb')
        lab.run(page)
        at_item(page, 0)
        assert page.locator('.pv-views img').count() == 3 and page.locator('.pv-typical img').count() > 4
        assert page.locator('.pv-views img').first.evaluate('i => i.naturalWidth') == 64
        page.locator('.pv-title').click()
        saved(page, 'Enter', 'saved, changed to gear: gear02')
        assert decided(data) == [('ana', 'gear02', 'label', 'gear', 'suggestion accepted in review')]
        saved(page, 'u', 'saved, undone')
        at_item(page, 0)
        saved(page, 'a', 'saved, changed to gear: gear02')
        at_item(page, 1)
        saved(page, 'x', 'saved, set aside')
        at_item(page, 2)
        page.keyboard.press('o')
        page.keyboard.type('bol')
        saved(page, 'Enter', 'saved, changed to bolt')
        at_item(page, 3)
        assert page.locator('.jp-Notebook .jp-Cell').count() == 1       # a and x are not JupyterLab's here
        before = decided(data)
        assert len(before) == 5
        page.wait_for_function("document.querySelectorAll('.pv-step.pv-is-open').length == 1")
        marks = states(page)
        assert marks == ['changed', 'aside', 'changed', 'open']

        page.keyboard.press('Control+s')                                 # reaches JupyterLab: the output is kept with the notebook
        while 'widget-view' not in (tmp_path/'review.ipynb').read_text(): page.wait_for_timeout(100)
        page.reload()
        lab.ready(page)
        at_item(page, 3)
        page.wait_for_selector('.pv-step img')
        assert states(page) == marks and '3 of 4 items, 4 labels changed' in page.locator('.pv-count').inner_text()
        page.locator('.pv-title').click()
        saved(page, '3', 'saved, ')
        assert decided(data)[:5] == before and decided(data)[5][3] == 'nut'

        kernel = next(p for p in psutil.Process(server.pid).children(recursive=True) if 'ipykernel_launcher' in ' '.join(p.cmdline()))
        kernel.kill()
        page.locator('.pv-title').click(force=True)
        page.keyboard.press('k')
        page.wait_for_function("/does not answer|stopped/.test(document.querySelector('.pv-said').textContent)", timeout=30_000)
        assert len(decided(data)) == 6
        if page.get_by_role('button', name='Ok', exact=True).is_visible(): page.get_by_role('button', name='Ok', exact=True).click()
        lab.ready(page)
        lab.run(page)
        page.wait_for_function("document.querySelector('.pv-count')?.textContent.startsWith('4 of 4 items')")
        page.wait_for_selector('.pv-step.pv-is-aside img')
        assert len(decided(data)) == 6 and 'open' not in states(page)
        assert not [u for u in asked if not re.match(r'http://127\.0\.0\.1:|data:|blob:', u)]


def test_the_package_ships_script_and_style(tmp_path):
    "Built in a copy, as an installation builds it."
    for name in ('settings.ini', 'setup.py', 'MANIFEST.in', 'README.md', 'CHANGELOG.md', 'LICENSE', 'constraints.txt'): shutil.copy(lab.ROOT/name, tmp_path)
    shutil.copytree(lab.ROOT/'partvision', tmp_path/'partvision', ignore=shutil.ignore_patterns('__pycache__'))
    subprocess.run([sys.executable, 'setup.py', '-q', 'build_py', '--build-lib', 'built'], cwd=tmp_path, check=True, capture_output=True)
    for name in ('review.js', 'review.css'):
        text = (tmp_path/'built'/'partvision'/'labels'/name).read_text(encoding='utf-8')
        assert text and not re.search(r'https?://|@import|\bimport\b', text)


def test_several_classes_a_picture(catalog):
    label = catalog.label.where(catalog.part != 'bolt00', 'bolt;nut').where(catalog.part != 'bolt01', '')
    c = catalog.assign(label=label, given_label=label)
    c['is_label_issue'] = c.is_label_issue | (c.image == 'bolt/bolt01_1.png')
    ana = Reader(c, 'ana')
    ana.go('bolt/bolt01_1.png')
    assert ana.shown['item']['given'] == '' and ana.press('label', label='bolt;nut')['kind'] == 'saved'
    ana.go('bolt/bolt01_1.png')
    assert ana.press('keep')['text'] == 'saved, kept as (none of the classes): bolt/bolt01_1.png.'
    assert apply_decisions(c, read_decisions(c.attrs['path'])).set_index('image').label['bolt/bolt01_1.png'] == ''
    assert ana.press('label', label='bolt;nutt')['kind'] == 'failed'
