"""What ingest promises: bad input ends in a sentence, nothing is lost or changed, no group straddles a split, the same source gives the same catalog."""
import hashlib
import io
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from partvision.catalog import read_catalog, straddling, validate
from partvision.core import PartvisionError, read_json, shared_data
from partvision.ingest import ingest, summary_text
from partvision.test_utils import draw_part


def draw(path, shape='gear', part=0, view=0, size=48, **kw):
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_part(shape, size, np.random.default_rng(part), np.random.default_rng(view)).save(path, **kw)


@pytest.fixture
def tree(tmp_path):
    "Two classes of ten parts each, one picture a part."
    for k in range(10):
        for shape in ('gear', 'nut'): draw(tmp_path/'photos'/shape/f'{k}.png', shape, k, k)
    return tmp_path/'photos'


@pytest.fixture
def out(tmp_path): return tmp_path/'out'


def reasons(out): return {r['image']: r['reason'] for r in read_json(out/'ingest.json')['refused']}


def state(folder):
    "Names, bytes and times of all files below a folder."
    return {p.relative_to(folder).as_posix(): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in sorted(folder.rglob('*')) if p.is_file()}


# Pictures that cannot be read: left out with a reason

def huge_png(width, height):
    "A PNG header that promises a very large picture, with next to no data."
    chunk = lambda kind, data: struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(b'\0'*1000)) + chunk(b'IEND', b'')


def jpeg(im=None, **kw):
    f = io.BytesIO()
    (im or Image.effect_noise((120, 90), 60).convert('RGB')).save(f, 'JPEG', **kw)
    return f.getvalue()


def animation():
    frames, f = [Image.new('L', (20, 20), v) for v in (0, 99, 200)], io.BytesIO()
    frames[0].save(f, 'GIF', save_all=True, append_images=frames[1:])
    return f.getvalue()


UNREADABLE = {
    'empty.jpg': (b'', '0 bytes'),
    'cut.jpg': (jpeg()[:900], 'is damaged'),
    'notes.jpg': (b'call the supplier on Monday', 'not a picture'),
    'huge.png': (huge_png(30_000, 30_000), 'megapixels'),
    'moving.gif': (animation(), '3 frames')}


@pytest.mark.parametrize('name', UNREADABLE)
def test_unreadable_file_is_left_out_with_its_reason(tree, out, name):
    content, reason = UNREADABLE[name]
    (tree/'gear'/name).write_bytes(content)
    catalog = ingest(tree, out)
    assert len(catalog) == 20 and f'gear/{name}' not in set(catalog.image)
    assert reason in reasons(out)[f'gear/{name}']
    assert f'gear/{name}: ' in summary_text(out)


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='peak memory is read from /proc') # ru_maxrss would count what pytest itself holds
def test_huge_picture_is_refused_without_its_memory(tree, out):
    (tree/'gear'/'huge.png').write_bytes(huge_png(30_000, 30_000))
    code = f'from partvision.ingest import ingest; ingest({str(tree)!r}, {str(out)!r}); print(open("/proc/self/status").read())'
    status = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True).stdout
    assert int(re.search(r'VmHWM:\s+(\d+) kB', status)[1]) < 900*1024


def test_folder_of_nothing_but_damage_is_an_error(tmp_path, out):
    (tmp_path/'bad').mkdir()
    (tmp_path/'bad'/'a.jpg').write_bytes(b'no')
    with pytest.raises(PartvisionError, match='no picture that can be read.*a.jpg'): ingest(tmp_path/'bad', out)
    assert not out.exists()


def test_odd_modes_are_read(tmp_path, out):
    rgb = Image.effect_noise((60, 40), 80).convert('RGB')
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path/'odd').mkdir()
    rgb.convert('CMYK').save(tmp_path/'odd'/'cmyk.jpg')
    rgb.convert('P').save(tmp_path/'odd'/'palette.png')
    Image.fromarray(np.asarray(rgb.convert('L')).astype(np.uint16)*200).save(tmp_path/'odd'/'deep.png')
    rgb.save(tmp_path/'odd'/'lying.jpg', exif=exif)
    catalog = ingest(tmp_path/'odd', out).set_index('image')
    assert len(catalog) == 4
    assert (catalog.width['lying.jpg'], catalog.height['lying.jpg']) == (40, 60)
    assert (catalog.width['cmyk.jpg'], catalog.height['cmyk.jpg']) == (60, 40)


# Sources and outputs that cannot be used: one sentence, and what was there stays

def bad_sources(tmp_path):
    (tmp_path/'empty').mkdir()
    (tmp_path/'file.zip').write_bytes(b'x')
    table = lambda name, text: (tmp_path/name).write_text(text) and tmp_path/name
    return {
        'empty folder': (dict(src=tmp_path/'empty'), 'holds no pictures'),
        'no such path': (dict(src=tmp_path/'fotos'), "does not exist; check the path; did you mean 'photos'"),
        'not a table': (dict(src=tmp_path/'file.zip'), 'neither a folder nor a table'),
        'CSV without the column': (dict(src=table('a.csv', 'imge,label\nphotos/gear/0.png,gear\n')), "no column image.*did you mean 'imge'"),
        'CSV without any like it': (dict(src=table('b.csv', 'x,y\n1,2\n')), 'name the column of the pictures image'),
        'CSV without rows': (dict(src=table('c.csv', 'image,label\n')), 'has no rows'),
        'CSV of absent files': (dict(src=table('d.csv', 'image\nnowhere.png\n')), 'say where they lie with --images'),
        'CSV with an unknown split': (dict(src=table('e.csv', 'image,split\nphotos/gear/0.png,tran\n')), "train, valid or test; did you mean 'train'"),
        'CSV that is none': (dict(src=table('f.csv', 'image,label\n"photos/gear/0.png,gear\n1,2,3,4\n')), 'not readable as a table'),
        'wrong images folder': (dict(src=tmp_path/'a.csv', images='foto'), 'no column|no folder'),
        'part expression that does not compile': (dict(part='(.+'), 'no regular expression'),
        'part expression without a group': (dict(part=r'.+_\d+'), 'no group'),
        'part expression that matches nothing': (dict(part=r'view(\d+)'), 'matches no file name')}


def test_bad_source_is_one_sentence_and_leaves_the_old_catalog(tree, out, tmp_path):
    ingest(tree, out)
    before = state(out)
    for what, (kw, sentence) in bad_sources(tmp_path).items():
        with pytest.raises(PartvisionError, match=sentence) as e: ingest(**{'src': tree, 'out': out, **kw})
        assert '\n' not in str(e.value), what
        assert state(out) == before, what


def test_output_below_a_file(tree, tmp_path):
    (tmp_path/'note').write_text('x')
    for out in (tmp_path/'note', tmp_path/'note'/'deeper'):
        with pytest.raises(PartvisionError, match='is a file'): ingest(tree, out)


@pytest.mark.skipif(os.geteuid() == 0, reason='root writes everywhere')
def test_read_only_output_folder(tree, out):
    out.mkdir()
    out.chmod(0o500)
    with pytest.raises(PartvisionError, match='not writable'): ingest(tree, out)
    with pytest.raises(PartvisionError, match='not writable'): ingest(tree, out/'new')


@pytest.mark.skipif(os.access('/proc', os.W_OK) and os.geteuid() != 0, reason='no read-only folder here')
def test_folder_that_takes_no_files(tree):
    with pytest.raises(PartvisionError, match='/proc'): ingest(tree, '/proc/partvision')


def test_a_full_disk_leaves_the_old_catalog(tree, out, monkeypatch):
    ingest(tree, out)
    before = state(out)
    def full(self, *a, **kw): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(pd.DataFrame, 'to_parquet', full)
    with pytest.raises(PartvisionError, match='disk is full'): ingest(tree, out)
    assert state(out) == before


# Labels

def test_class_of_one_picture_stays_in_train(tree, out):
    draw(tree/'bolt'/'only.png', 'bolt')
    catalog = ingest(tree, out)
    assert list(catalog.split[catalog.label == 'bolt']) == ['train']
    assert 'class bolt has a single picture' in summary_text(out)


def test_spellings_are_merged_to_the_commonest(tree, out):
    for folder in ('Gear', 'gear '): draw(tree/folder/'x.png', 'gear', ord(folder[0]), len(folder))
    catalog = ingest(tree, out)
    assert sorted(catalog.label.unique()) == ['gear', 'nut']
    merged = read_json(out/'ingest.json')['merged_labels']
    assert merged == [dict(label='gear', spellings={'gear': 10, 'Gear': 1, 'gear ': 1})]


def test_semicolon_in_a_class_folder_is_refused(tree, out):
    draw(tree/'bolt;nut'/'x.png')
    with pytest.raises(PartvisionError, match='joins several classes'): ingest(tree, out)


def test_same_file_name_in_two_folders(tree, out):
    catalog = ingest(tree, out)
    assert {'gear/0.png', 'nut/0.png'} <= set(catalog.image)


def test_flat_folder_is_unlabelled(tree, out):
    catalog = ingest(tree/'gear', out)
    assert catalog.label.isna().all() and read_json(out/'ingest.json')['unlabelled'] == 10


# Tables

def test_table_with_all_columns(tree, out):
    rows = [f'photos/{s}/{k}.png,{s},{k} mm,{s}{k // 2},{["train", "val", "test"][k // 2 % 3]},{k}' for s in ('gear', 'nut') for k in range(10)]
    table = tree.parent/'all.csv'
    table.write_text('path,label,text,group,split,shift\n' + '\n'.join(rows))
    catalog = ingest(table, out).set_index('image')
    row = catalog.loc['photos/gear/2.png']
    assert (row.label, row.text, row.part, row.split, row['shift']) == ('gear', '2 mm', 'gear1', 'valid', '2')
    assert catalog.groupby('part').group.nunique().eq(1).all()


def test_part_and_group_both_keep_together(tree, out):
    table = tree.parent/'both.csv'
    table.write_text('image,label,part,group\n' + '\n'.join(f'photos/gear/{k}.png,gear,p{k},lot{k // 5}' for k in range(10)))
    catalog = ingest(table, out)
    assert catalog.part.nunique() == 10 and catalog.group.nunique() == 2


def test_multi_label_table(tree, out):
    table = tree.parent/'multi.csv'
    table.write_text('image,label\nphotos/gear/0.png,worn; Cracked\nphotos/gear/1.png,cracked\nphotos/gear/2.png,\n')
    assert list(ingest(table, out).label) == ['cracked;worn', 'cracked', '']


def test_parquet_tells_null_from_empty(tree, out):
    pd.DataFrame(dict(image=[f'photos/gear/{k}.png' for k in range(3)], label=['worn', '', None])).to_parquet(tree.parent/'t.parquet')
    labels = list(ingest(tree.parent/'t.parquet', out).label)
    assert labels[:2] == ['worn', ''] and pd.isna(labels[2])


def test_a_catalog_is_a_table_too(tree, out, tmp_path):
    first = ingest(tree, out)
    again = ingest(out/'catalog.parquet', tmp_path/'again')
    assert again.attrs['root'] == first.attrs['root'] and list(again.split) == list(first.split) and list(again.sha256) == list(first.sha256)


def test_masks_are_no_pictures(tmp_path, out):
    for folder in ('images', 'masks'): draw(tmp_path/'tiles'/'crack'/folder/'a.png')
    assert list(ingest(tmp_path/'tiles', out).image) == ['crack/images/a.png']
    assert 'masks/ (1)' in summary_text(out)


def test_absent_and_contradicting_rows_are_refused_not_fatal(tree, out):
    table = tree.parent/'rows.csv'
    table.write_text('image,label\nphotos/gear/0.png,gear\nphotos/gear/0.png,gear\nphotos/gear/1.png,gear\nphotos/gear/1.png,nut\nphotos/gone.png,gear\n')
    assert list(ingest(table, out).image) == ['photos/gear/0.png']
    assert 'different labels (gear, nut)' in reasons(out)['photos/gear/1.png']
    assert 'does not exist' in reasons(out)['photos/gone.png']
    assert 'repeat a picture' in summary_text(out)


@pytest.mark.parametrize('text', [
    'Image;Label\r\nphotos\\gear\\0.png;Größe\r\n'.encode('cp1252'),
    '\ufeffimage,label\nphotos/gear/0.png,Größe\n'.encode(),
    'image\tlabel\n./photos/nut/../gear/0.png\tGröße\n'.encode()])
def test_csv_dialects(tree, out, text):
    (tree.parent/'dialect.csv').write_bytes(text)
    catalog = ingest(tree.parent/'dialect.csv', out)
    assert (catalog.image[0], catalog.label[0]) == ('photos/gear/0.png', 'Größe')


def test_files_above_the_table_and_absolute_paths(tree, out):
    (tree/'tables').mkdir()
    (tree/'tables'/'up.csv').write_text(f'image\n../gear/0.png\n{tree}/nut/0.png\n')
    catalog = ingest(tree/'tables'/'up.csv', out)
    assert list(catalog.image) == ['gear/0.png', 'nut/0.png'] and Path(catalog.attrs['root']) == tree.resolve()


def test_several_image_folders(tree, out):
    for folder in ('crops', 'frames'): draw(tree/folder/'a.png')
    (tree/'labels.csv').write_text('file,label\na.png,gear\n')
    with pytest.raises(PartvisionError, match=r'several folders \(crops, frames\).*--images'): ingest(tree/'labels.csv', out)
    assert Path(ingest(tree/'labels.csv', out, images='crops').attrs['root']).name == 'crops'


# Groups, splits, parts

@pytest.fixture
def parts(tmp_path):
    "Twelve parts a class with three views each, the views of one part in two split folders."
    for shape in ('gear', 'nut'):
        for p in range(12):
            for v in range(3): draw(tmp_path/'views'/('val' if p < 3 and v else 'train')/shape/f'{shape}{p}_{v}.png', shape, p, 10*p + v)
    return tmp_path/'views'


def test_a_part_in_two_split_folders_is_one_part(parts, out):
    catalog = ingest(parts, out, part=r'(.+)_\d+')
    assert catalog.part.nunique() == 24 and straddling(catalog) == [] and straddling(catalog, by='part') == []
    assert set(catalog.split[catalog.part == 'gear0']) == {'valid'}
    assert {m['image'] for m in read_json(out/'ingest.json')['moved']} >= {'train/gear/gear0_0.png', 'train/nut/nut2_0.png'}


def test_copies_in_two_classes_and_splits_stay_together(parts, out):
    (parts/'val'/'nut'/'copy.png').write_bytes((parts/'train'/'gear'/'gear7_0.png').read_bytes())
    catalog = ingest(parts, out, part=r'(.+)_\d+')
    both = catalog[catalog.image.isin(['val/nut/copy.png', 'train/gear/gear7_0.png'])]
    assert both.group.nunique() == both.split.nunique() == 1
    assert read_json(out/'ingest.json')['duplicates']['sets_with_several_labels'] == 1


def test_same_source_same_catalog_other_seed_other_splits(tree, tmp_path):
    a, b, c = (ingest(tree, tmp_path/name, seed=seed) for name, seed in (('a', 0), ('b', 0), ('c', 1)))
    assert (tmp_path/'a'/'ingest.json').read_bytes() == (tmp_path/'b'/'ingest.json').read_bytes()
    pd.testing.assert_frame_equal(a, b)
    assert (a.split != c.split).any()


def test_shares_and_strata(tree, out):
    catalog = ingest(tree, out)
    counts = pd.crosstab(catalog.label, catalog.split)
    assert counts.test.between(2, 3).all() and counts.train.between(5, 7).all()


def test_nothing_in_the_source_is_touched(tree, tmp_path):
    before = state(tree)
    catalog = ingest(tree, tree/'result')
    again = ingest(tree, tree/'result')
    assert {k: v for k, v in state(tree).items() if not k.startswith('result/')} == before
    assert list(catalog.image) == list(again.image)
    validate(read_catalog(tree/'result'))


# Real pictures

def real(name):
    place = shared_data(name)
    if place is None: pytest.skip(f'{name} is not on this machine')
    return place


def test_part_of_mech_parts(tmp_path, out):
    source, root = real('mech_parts'), tmp_path/'mech'
    for p in sorted(source.glob('*/nut/*.png')):
        link = root/p.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(p)
    catalog = ingest(root, out, part=r'(.+)_\d+')
    assert len(catalog) == 296 and straddling(catalog) == [] and catalog.part.notna().all()
    assert catalog.group.value_counts().iloc[0] < .5*len(catalog)


def test_chips_table_asks_which_folder(out):
    with pytest.raises(PartvisionError, match=r'crops, frames'): ingest(real('ic_chips')/'labels.csv', out)


@pytest.mark.real
@pytest.mark.parametrize('name, n, kw', [('electronics', 3015, {}), ('mech_parts', 1192, dict(part=r'(.+)_\d+')), ('ic_chips/labels.csv', 905, dict(images='crops'))])
def test_whole_sets(name, n, kw, out):
    catalog = ingest(real(name), out, **kw)
    assert len(catalog) == n and straddling(catalog) == [] and straddling(catalog, by='part') == []
    if name == 'electronics': assert abs((catalog.split == 'test').mean() - .25) < .01
