"""Test that DFEW, FERV39k and MAFW read the same labels from all layouts and lists in use."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import trees
from conftest import ROOT
from mmengine.config import Config
from openpyxl import Workbook
from PIL import Image

from mmaction.registry import DATASETS

from mmdfer.datasets import DFEW, MAFW, ClipDecode, ClipInit, FERV39k, SampleSegments
from mmdfer.datasets.licensed.discovery import parse_fold, parse_split
from mmdfer.errors import DFERError
from mmdfer.levels import read_captions

KINDS = dict(dfew=DFEW, ferv39k=FERV39k, mafw=MAFW)
PIPELINE = [
    dict(type='ClipInit'),
    dict(type='SampleSegments', clip_len=16, test_mode=True),
    dict(type='ClipDecode'),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', meta_keys=('caption', 'caption_zh')),
]


@pytest.fixture(scope='module')
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, trees.Tree]:
    root = tmp_path_factory.mktemp('originals')
    return {name: make(root / name) for name, make in trees.MAKERS.items()}


@pytest.fixture
def tree(originals: dict[str, trees.Tree], tmp_path: Path) -> Callable[[str], trees.Tree]:
    """Return a function that copies a tree for a test to change."""

    def copy(name: str) -> trees.Tree:
        root = tmp_path / f'its root & all ({name})'
        shutil.copytree(originals[name].root, root)
        return trees.Tree(root, originals[name].truth, originals[name].counts)

    return copy


def read(name: str, root: Path, split: str, fold: int, **options: object) -> dict[str, int]:
    """Build a dataset as a user does, and return the label of each clip."""
    options |= dict(fold=fold) if fold else {}
    options['serialize_data'] = False  # serialising runs the garbage collector (0.25 s)
    dataset = DATASETS.build(
        dict(
            type=KINDS[name].__name__,
            data_root=str(root),
            split=split,
            pipeline=PIPELINE,
            **options,
        )
    )
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert all(Path(info['filename']).exists() for info in infos)
    if infos:
        assert dataset[0]['inputs'].shape[:3] == (1, 3, 16)
    return {info['clip']: info['label'] for info in infos}


def assert_same(name: str, tree: trees.Tree, **options: object) -> None:
    """Check the labels of a training and a test set; with folds, of two different folds."""
    for (split, fold), truth in tree.truth.items():
        if (split, fold) in (('train', 0), ('test', 0), ('train', 1), ('test', 4)):
            assert read(name, tree.root, split, fold, **options) == truth


# ------------------------------------------------------------------ layouts

Change = Callable[[trees.Tree], object]


def _move(old: str, new: str) -> Change:
    return lambda tree: trees.move(tree.root, old, new)


def _parts(old: str, new: str) -> Change:
    """Distribute the clips of a folder over several folders."""

    def change(tree: trees.Tree) -> None:
        for i, clip in enumerate(sorted((tree.root / old).iterdir())):
            trees.move(tree.root, f'{old}/{clip.name}', f'{new.format(i % 11 + 1)}/{clip.name}')
        (tree.root / old).rmdir() if not any((tree.root / old).iterdir()) else None

    return change


def _lists_to(pattern: str) -> Change:
    """Move the lists of DFEW."""

    def change(tree: trees.Tree) -> None:
        for split, fold in tree.truth:
            old = f'EmoLabel_DataSplit/{split}(single-labeled)/set_{fold}.csv'
            trees.move(tree.root, old, pattern.format(split=split, fold=fold))
        for split in ('train', 'test'):
            (tree.root / 'EmoLabel_DataSplit' / f'{split}(single-labeled)').rmdir()

    return change


def _both(*changes: Change) -> Change:
    return lambda tree: [change(tree) for change in changes]


FRAMES = 'Clip/clip_224x224'
LAYOUTS: dict[str, list[Change]] = {
    'dfew': [
        lambda tree: None,
        _move(FRAMES, 'clip_224x224/clip_224x224'),
        _move(FRAMES, 'Clip/jpg_256'),
        _move(FRAMES, 'clip_jpg_256'),
        _move(FRAMES, 'DFEW_Frame_Face'),
        _move(FRAMES, 'DFEW_Face'),
        _move(FRAMES, 'DFEW-part2/Clip/clip_224x224'),
        _move(FRAMES, 'data_affine/single_label/data'),
        _parts(FRAMES, 'clip_224x224/clip_224x224_part_{}'),
        _parts(FRAMES, 'Clip/clip_224x224_part_{}'),
        _parts(FRAMES, 'Clip/clip_224x224-{:03d}/clip_224x224'),
        _lists_to('EmoLabel_DataSplit/{split}(single_labeled)/set_{fold}.csv'),
        _lists_to('EmoLabel_DataSplit/{split}_single-labeled/set_{fold}.csv'),
        _lists_to('EmoLabel_DataSplit/{split}_single_label/set_{fold}.csv'),
        _lists_to('EmoLabel_DataSplit/{split}/set_{fold}.csv'),
        _lists_to('data_affine/single_label/label/single_{split}set_{fold}.csv'),
    ],
    'ferv39k': [
        lambda tree: None,
        _move('2_ClipsforFaceCrop', '2_ClipforFaceCrop'),
        _move('2_ClipsforFaceCrop', '2_ClipsforFaceCrop-002/2_ClipsforFaceCrop'),
        _move('2_ClipsforFaceCrop', 'extracted_faces/2_ClipsforFaceCrop'),
        _move('4_setups', 'drive-download-2022/4_setups'),
        _both(
            _move('4_setups/All_scenes', 'All_scenes'), lambda t: shutil.rmtree(t.root / '4_setups')
        ),
        _both(_move('4_setups/All_scenes', 'EmoLabel/EmoLabel')),
        lambda tree: shutil.rmtree(
            tree.root / '4_setups' / 'All_scenes'
        ),  # only the 44 lists are left
        lambda tree: shutil.copytree(  # pictures of whole scenes, in folders of the same names
            tree.root / '2_ClipsforFaceCrop', tree.root / '3_ClipsforScenImages'
        ),
    ],
    'mafw': [
        lambda tree: None,
        _move('Train & Test Set', 'split'),
        _move('Train & Test Set', 'anno'),
        _both(
            _move('Train & Test Set/single/no_caption', 'Train_Test_Set/single/no_caption_new'),
            _move('Train & Test Set/single/with_caption', 'Train_Test_Set/single/with_caption_new'),
        ),
        _move('data/frames', 'frames/frames'),
        _both(_move('data/frames', 'tmp'), _move('tmp', 'data/frames/frames')),
        _move('data/frames', 'data/faces'),
        _move('data/frames', 'mfaw/clips_faces'),
        _move('data/frames', 'frames_crop_aligned_224'),
    ],
}


@pytest.mark.parametrize(
    ('name', 'change'),
    [
        pytest.param(n, c, id=f'{n}-{i}')
        for n, changes in LAYOUTS.items()
        for i, c in enumerate(changes)
    ],
)
def test_every_layout_reads_alike(tree: Callable, name: str, change: Change) -> None:
    changed = tree(name)
    change(changed)
    assert_same(name, changed)


def _videos(tree: trees.Tree, name: Callable[[str], str]) -> None:
    """Write a file for each clip; its content is not read by these tests."""
    for clip in {clip for clips in tree.truth.values() for clip in clips}:
        trees.write(tree.root / name(clip), b'video')


@pytest.mark.parametrize(
    ('name', 'path'),
    [
        ('dfew', lambda c: f'Clip/original/part_{(int(c) - 1) // 1600 + 1}/{int(c)}.mp4'),
        ('dfew', lambda c: f'Clip/original/Part_{(int(c) - 1) // 1600 + 1}/{int(c)}.mp4'),
        ('dfew', lambda c: f'Clip/original/part{(int(c) - 1) // 1600 + 1}/{int(c)}.mp4'),
        ('dfew', lambda c: f'Clip/original/{int(c)}.mp4'),
        ('dfew', lambda c: f'clip_224x224_avi/{c}.avi'),
        ('ferv39k', lambda c: f'0_7_LabelClips/{c}.mp4'),
        ('mafw', lambda c: f'data/clips/{c}.mp4'),
    ],
)
def test_videos(tree: Callable, name: str, path: Callable[[str], str]) -> None:
    changed = tree(name)
    _videos(changed, path)
    for (split, fold), truth in list(changed.truth.items())[:2]:
        options = dict(fold=fold) if fold else {}
        dataset = KINDS[name](
            str(changed.root), split=split, media='videos', pipeline=[], test_mode=True, **options
        )
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        assert {info['clip']: info['label'] for info in infos} == truth
        assert all(info['filename'] == str(changed.root / path(info['clip'])) for info in infos)


@pytest.mark.parametrize('folder', ['clip_224x224_16f', 'clip_224x16f'])
def test_the_folder_of_16_frames_is_never_taken_for_all_frames(tree: Callable, folder: str) -> None:
    changed = tree('dfew')
    clips = {clip for clips in changed.truth.values() for clip in clips}
    for clip in clips:
        trees.pictures(changed.root / 'Clip' / folder / clip, [f'{i}.jpg' for i in range(1, 17)])
    assert_same('dfew', changed)
    dataset = DFEW(str(changed.root), media='frames16', pipeline=PIPELINE)
    assert Path(dataset.get_data_info(0)['filename']).parent.name == folder
    assert (
        Path(DFEW(str(changed.root), pipeline=[]).get_data_info(0)['filename']).parent.name
        != folder
    )
    shutil.rmtree(changed.root / 'Clip' / 'clip_224x224')
    with pytest.raises(DFERError, match=f'holds no frames .*frames16 in Clip/{folder}'):
        DFEW(str(changed.root), pipeline=[])


# ------------------------------------------------------------------ lists of other authors


def _dfew(line: str, end: str = '\n', header: str = '') -> Callable:
    return lambda clips: (
        header + ''.join(line.format(c=c, i=int(c), n=n) + end for c, n in clips.items())
    )


DFEW_LISTS = {
    'annotation/DFEW_set_{f}_{s}.txt': [
        _dfew('/data/EECS-IoannisLab/datasets/DFEW/DFEW_Frame_Face/{c} 144 {n}'),
        _dfew('D:\\my data\\Clip\\clip_224x224\\{c} 16 {n}', '\r\n'),
        _dfew('D:/Clip/clip_224x224/{c} 144 {n}'),
        _dfew('{c} 144 {n}'),
        _dfew('/a folder of/mine/{c}.mp4 144 {n}'),
    ],
    'annotation/set_{f}_{s}.txt': [
        _dfew('./dataset/{c} 144 {n}'),
        _dfew('get_features/x/{c}.npy 4 {n}'),
        _dfew('your_dataset_path/DFEW/train/{c} 144 {n}'),
    ],
    'saved/data/dfew/org/split0{f}/{s}.csv': [_dfew('/data/DFEW/Clip/jpg_256/{c} {n}')],
    'train(single-labeled)/{s}_set_{f}.csv': [
        _dfew('{c},{n}', header='video_name,label\n'),
        _dfew('{i},{n}', '\r\n', header='\ufeffvideo_name,label\r\n'),
    ],
}


@pytest.mark.parametrize(
    ('path', 'text'), [(path, text) for path, texts in DFEW_LISTS.items() for text in texts]
)
@pytest.mark.parametrize('given', [True, False], ids=['ann_file', 'found'])
def test_dfew_lists_of_other_authors(
    tree: Callable, path: str, text: Callable, given: bool
) -> None:
    changed = tree('dfew')
    if not given:
        shutil.rmtree(changed.root / 'EmoLabel_DataSplit')
    for (split, fold), clips in changed.truth.items():
        trees.write(changed.root / path.format(s=split, f=fold), text(clips))
    for split, fold in (('train', 2), ('test', 2)):
        ann_file = dict(ann_file=path.format(s=split, f=fold)) if given else {}
        assert read('dfew', changed.root, split, fold, **ann_file) == changed.truth[split, fold]


ALPHABETICAL = sorted(trees.DFEW)


def _to_alphabetical(label: int) -> int:
    return ALPHABETICAL.index(trees.DFEW[label])


FERV39K_LISTS = {
    'annotation/FERV39K_{s}.txt': [
        lambda c, n: f'/data/datasets/FERV39K/2_ClipsforFaceCrop/{c} 25 {n}',
        lambda c, n: f'D:\\FERV39K\\2_ClipsforFaceCrop\\{c.replace("/", chr(92))} 25 {n}',
        lambda c, n: f'{c} 25 {n}',
    ],
    'ferv39k/all_scenes/{s}.csv': [lambda c, n: f'/x/2_ClipsforFaceCrop/{c} {n}'],
    'FERV39K/Annotation/{s}.csv': [lambda c, n: f'{c},{_to_alphabetical(n)}'],
}


@pytest.mark.parametrize(
    ('path', 'line'), [(path, line) for path, lines in FERV39K_LISTS.items() for line in lines]
)
def test_ferv39k_lists_of_other_authors(tree: Callable, path: str, line: Callable) -> None:
    changed = tree('ferv39k')
    shutil.rmtree(changed.root / '4_setups')
    for (split, _), clips in changed.truth.items():
        rows = [line(clip, label) for clip, label in clips.items()]
        head = ['path,id'] if ',' in rows[0] else []
        trees.write(changed.root / path.format(s=split), '\r\n'.join([*head, *rows, '']))
    assert_same('ferv39k', changed)


DFEW_LIKE = (*trees.DFEW, 'contempt', 'anxiety', 'helplessness', 'disappointment')
MAFW_LISTS = {
    'annotation/MAFW_set_{f}_{s}.txt': [
        ('{p}/data/faces/{c} 47 {n}', DFEW_LIKE),
        ('{c} 47 {n}', DFEW_LIKE),
    ],
    'annotation/MAFW_set_{f}_{s}_faces.txt': [('/mfaw/clips_faces/{c} 46 {n}', DFEW_LIKE)],
    'mafw/single/split0{f}/{s}.csv': [
        ('/x/data/frames/{c} {n}', trees.MAFW),
        ('/x/frames/{c} /x/audio/{c}.wav {n}', trees.MAFW),
    ],
    'anno/set_{f}/{s}.csv': [('{c},{n}', tuple(sorted(trees.MAFW)))],
}


@pytest.mark.parametrize(
    ('path', 'line', 'order'),
    [(path, line, order) for path, lists in MAFW_LISTS.items() for line, order in lists],
)
def test_mafw_lists_of_other_authors(tree: Callable, path: str, line: str, order: tuple) -> None:
    changed = tree('mafw')
    shutil.rmtree(changed.root / 'Train & Test Set')
    for (split, fold), clips in changed.truth.items():
        rows = [
            line.format(p='/my data/MAFW', c=clip, n=order.index(trees.MAFW[label]))
            for clip, label in clips.items()
        ]
        head = ['video_name,labels'] if ',' in rows[0] else []
        trees.write(changed.root / path.format(s=split, f=fold), '\n'.join([*head, *rows, '']))
    assert_same('mafw', changed)


# ------------------------------------------------------------------ ten traps of the datasets
# Trap 3, gaps in the numbers of the frames, is tested in test_frames.py.
# Trap 9, the best epoch chosen on the test set, is tested in test_cross_validate.py.


def test_trap_1_the_base_of_dfews_labels(tree: Callable) -> None:
    changed = tree('dfew')
    truth = changed.truth['train', 1]
    path = changed.root / 'EmoLabel_DataSplit' / 'train(single-labeled)' / 'set_1.csv'
    for base in (1, 0):  # the header is the same for both
        rows = ''.join(f'{clip},{label + base}\n' for clip, label in truth.items())
        trees.write(path, 'video_name,label\n' + rows)
        assert read('dfew', changed.root, 'train', 1) == truth
    rows = ''.join(f'{clip},{label + 1}\n' for clip, label in truth.items())
    trees.write(path, 'video_name,label\n03201,0\n' + rows)  # 0: the annotators did not agree
    assert read('dfew', changed.root, 'train', 1) == truth
    # The labels have neither 0 nor 7, and there are no counts: the user has to decide.
    rows = ''.join(f'{c},{label + 1}\n' for c, label in truth.items() if label < 6)
    trees.write(changed.root / 'some.csv', 'video_name,label\n' + rows)
    options = dict(ann_file='some.csv', check_counts=False)
    with pytest.raises(DFERError, match='label_base') as error:
        read('dfew', changed.root, 'train', 1, **options)
    assert 'counted from 1 gives' in str(error.value) and 'counted from 0 gives' in str(error.value)
    right = {clip: label for clip, label in truth.items() if label < 6}
    assert read('dfew', changed.root, 'train', 1, label_base=1, **options) == right


def test_trap_2_unpadded_names_are_sorted_by_number(tmp_path: Path) -> None:
    clip = tmp_path / '00001'
    for i in range(1, 17):
        clip.mkdir(exist_ok=True)
        Image.new('RGB', (8, 8), (10 * i,) * 3).save(clip / f'{i}.jpg')
    results = SampleSegments(clip_len=16, test_mode=True)(ClipInit()(dict(filename=str(clip))))
    shades = [img.mean() for img in ClipDecode()(results)['imgs']]
    assert np.allclose(shades, 10 * np.arange(1, 17), atol=3)


def test_trap_4_words_win_over_numbers_and_orders_are_told_apart(tree: Callable) -> None:
    changed = tree('mafw')
    truth = changed.truth['test', 1]
    rows = ''.join(f'{c} 20 {DFEW_LIKE.index(trees.MAFW[n])}\n' for c, n in truth.items())
    trees.write(changed.root / 'list.txt', rows)
    assert read('mafw', changed.root, 'test', 1, ann_file='list.txt') == truth
    with pytest.raises(DFERError, match='instead of'):  # a wrong order that the user insists on
        read('mafw', changed.root, 'test', 1, ann_file='list.txt', class_order='official')
    with pytest.raises(DFERError, match='class_order') as error:
        read('mafw', changed.root, 'test', 1, ann_file='list.txt', check_counts=False)
    assert 'official order' in str(error.value) and 'alphabetical order' in str(error.value)


def test_trap_5_the_first_row_is_a_row(tree: Callable) -> None:
    changed = tree('ferv39k')
    path = changed.root / '4_setups' / 'All_scenes' / 'train_All.csv'
    first = path.read_text().split()[0]
    assert first in read('ferv39k', changed.root, 'train', 0)


def test_trap_6_the_number_of_frames_in_a_list_is_not_used(tree: Callable) -> None:
    changed = tree('dfew')
    truth = changed.truth['test', 2]
    trees.write(changed.root / 'x.txt', ''.join(f'{c} 9999 {n}\n' for c, n in truth.items()))
    dataset = DFEW(
        str(changed.root), split='test', fold=2, ann_file='x.txt', pipeline=PIPELINE, test_mode=True
    )
    assert len([dataset[i] for i in range(len(dataset))]) == len(truth)


def test_trap_7_compound_folds_are_their_own_and_captions_are_gb18030(tree: Callable) -> None:
    changed = tree('mafw')
    options = dict(data_root=str(changed.root), split='test', pipeline=PIPELINE, test_mode=True)
    single, compound = MAFW(**options), MAFW(labels='compound', **options)
    names = [{d.get_data_info(i)['clip'] for i in range(len(d))} for d in (single, compound)]
    assert names[0] != names[1] and names[0] & names[1]
    classes = compound.metainfo['classes']
    assert classes[:11] == trees.MAFW and set(classes[11:]) == set(trees.COMPOUND)
    for fold in range(1, 6):  # a class that a fold lacks keeps its number
        assert MAFW(labels='compound', fold=fold, **options).metainfo['classes'] == classes
    captioned = MAFW(captions=True, **options)
    sample = captioned[0]['data_samples']
    assert sample.caption_zh == '他在说话。' and sample.caption.startswith('A man, ')
    assert all(captioned.get_data_info(i)['label'] != 4 for i in range(len(captioned)))
    assert 'caption' not in single.get_data_info(0)


def test_the_captions_of_mafw_become_a_file_of_levels(tree: Callable, tmp_path: Path) -> None:
    changed, path = tree('mafw'), tmp_path / 'levels' / 'captions.jsonl'
    options = dict(data_root=str(changed.root), pipeline=PIPELINE, levels=str(path.parent))
    MAFW(**options)
    labels = changed.truth['train', 1] | changed.truth['test', 1]
    captioned = [clip for clip, label in labels.items() if label != 4]
    assert read_captions(path) == {clip: f'A man, {clip}, talks.' for clip in captioned}
    path.write_text('{"clip": "00001", "caption": "of my own"}\n')
    MAFW(split='test', **options)
    assert read_captions(path) == {'00001': 'of my own'}
    path.unlink()
    shutil.rmtree(changed.root / 'Train & Test Set' / 'single' / 'with_caption')
    with pytest.raises(DFERError, match='no label file with captions.*single/with_caption'):
        MAFW(**options)
    assert not path.exists()


def test_trap_8_two_kinds_of_frames_are_not_mixed_up(tree: Callable) -> None:
    changed = tree('dfew')
    shutil.copytree(changed.root / FRAMES, changed.root / 'Clip' / 'jpg_256')
    with pytest.raises(DFERError, match='more than one folder holds frames.*data_prefix') as error:
        read('dfew', changed.root, 'train', 1)
    assert 'Clip/clip_224x224' in str(error.value) and 'Clip/jpg_256' in str(error.value)
    for prefix in ('Clip/jpg_256', 'Clip/clip_224x224'):
        dataset = DFEW(str(changed.root), data_prefix=dict(img=prefix), pipeline=[])
        assert prefix in dataset.get_data_info(0)['filename']
        # Neither features nor levels of the other folder fit.
        assert dataset.source['prefix'] == prefix


@pytest.mark.parametrize('name', ['dfew', 'ferv39k', 'mafw'])
def test_trap_10_no_test_clip_is_dropped_and_test_views_are_fixed(
    name: str, tree: Callable
) -> None:
    config = Config.fromfile(ROOT / 'configs' / f'align_dfer_{name}.py')
    for loader in (config.val_dataloader, config.test_dataloader):
        assert not loader.get('drop_last', False) and loader.sampler.shuffle is False
        clips = loader.dataset.dataset
        assert clips.test_mode
        sampler = next(t for t in clips.pipeline if t.type == 'SampleSegments')
        assert sampler.test_mode
    dataset_options = dict(data_root=str(tree(name).root), test_mode=True, split='test')
    dataset = KINDS[name](
        pipeline=list(config.test_dataloader.dataset.dataset.pipeline), **dataset_options
    )
    assert torch.equal(dataset[0]['inputs'], dataset[0]['inputs'])


# ------------------------------------------------------------------ contradictions


def test_a_word_that_its_folder_contradicts(tree: Callable) -> None:
    changed = tree('ferv39k')
    path = changed.root / '4_setups' / 'All_scenes' / 'test_All.csv'
    lines = path.read_text().splitlines()
    lines[3] = lines[3].rsplit(' ', 1)[0] + ' Fear'
    trees.write(path, '\n'.join(lines) + '\n')
    with pytest.raises(DFERError, match=r'test_All.csv:4: .* according to its folder, but fear'):
        read('ferv39k', changed.root, 'test', 0)


def test_folds_that_disagree(tree: Callable) -> None:
    changed = tree('dfew')
    path = changed.root / 'EmoLabel_DataSplit' / 'test(single-labeled)' / 'set_3.csv'
    lines = path.read_text().splitlines()
    (a, x), (b, y) = lines[1].split(','), lines[-1].split(',')
    assert x != y
    lines[1], lines[-1] = f'{a},{y}', f'{b},{x}'  # the number of clips of each class is unchanged
    trees.write(path, '\n'.join(lines) + '\n')
    with pytest.raises(
        DFERError, match=r'set_\d.csv:\d+: clip \d+ has label \d, but \d at .*set_\d.csv'
    ):
        read('dfew', changed.root, 'train', 1)


def test_missing_clips(tree: Callable, caplog: pytest.LogCaptureFixture) -> None:
    changed = tree('dfew')
    lost = sorted(changed.truth['test', 1])[:2]
    shutil.rmtree(changed.root / FRAMES / lost[0])
    for picture in (changed.root / FRAMES / lost[1]).iterdir():
        picture.write_bytes(b'')
    truth = changed.truth['train', 2]
    left = {clip: label for clip, label in truth.items() if clip not in lost}
    assert len(left) == len(truth) - len([c for c in lost if c in truth]) < len(truth)
    assert read('dfew', changed.root, 'train', 2) == left
    with pytest.raises(DFERError, match='2 of 14 listed clips have no frames') as error:
        read('dfew', changed.root, 'test', 1, test_mode=True)
    assert all(clip in str(error.value) for clip in lost)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(fold=6), 'fold must be one of 1, 2, 3, 4, 5, got 6'),
        (dict(split='val'), "split must be one of train, test, got 'val'"),
        (dict(media='audio'), "media must be one of frames, frames16, videos, got 'audio'"),
        (dict(label_base=2), 'label_base must be 0, 1 or None, got 2'),
        (dict(data_prefix=dict(video='x')), 'data_prefix'),
        (dict(data_prefix=dict(img='nowhere')), 'nowhere: the folder holds no frames'),
        (dict(ann_file='nowhere.csv'), 'nowhere.csv: no such label file'),
        (dict(data_root='/nowhere'), '/nowhere: no such folder'),
        (dict(media='videos'), 'holds no videos of clips'),
        (dict(soft_labels=True), 'annotation.xlsx'),
    ],
)
def test_wrong_options_are_one_line(tree: Callable, options: dict, message: str) -> None:
    with pytest.raises(DFERError) as error:
        DFEW(**{'data_root': str(tree('dfew').root), 'pipeline': [], **options})
    assert message in str(error.value) and '\n' not in str(error.value)


def test_scenes(tree: Callable) -> None:
    changed = tree('ferv39k')
    truth = {c: n for c, n in changed.truth['train', 0].items() if c.startswith(('War', 'Action'))}
    assert read('ferv39k', changed.root, 'train', 0, scenes=['War', 'Action']) == truth
    shutil.rmtree(changed.root / '4_setups' / 'All_scenes')
    assert read('ferv39k', changed.root, 'train', 0, scenes=['War', 'Action']) == truth
    with pytest.raises(DFERError, match=r"got \['Moon'\]"):
        FERV39k(str(changed.root), scenes=['Moon'], pipeline=[])


# ------------------------------------------------------------------ soft labels


def _votes(tree: trees.Tree) -> dict[str, list[int]]:
    """Write an annotation.xlsx with unsorted rows, and return the votes for each clip."""
    book = Workbook()
    sheet = book.active
    names = ['1happy', '2sad', '3neutral', '4angry', '5surprise', '6disgust', '7fear']
    sheet.append([*names, 'order', 'label'])
    labels = {c: n for clips in tree.truth.values() for c, n in clips.items()}
    votes = {}
    for clip in sorted(labels, key=lambda c: c[::-1]):
        votes[clip] = [8 if i == labels[clip] else 0 for i in range(7)]
        votes[clip][(labels[clip] + 1) % 7] = 2
        sheet.append([*votes[clip], int(clip), labels[clip] + 1])
    (tree.root / 'Annotation').mkdir()
    book.save(tree.root / 'Annotation' / 'annotation.xlsx')
    return votes


def test_votes_are_packed_as_shares(tree: Callable) -> None:
    changed = tree('dfew')
    votes = _votes(changed)
    dataset = DFEW(str(changed.root), pipeline=PIPELINE, soft_labels=True)
    for i in range(0, len(dataset), 5):
        packed = dataset[i]['data_samples'].gt_label
        assert packed.dtype == torch.float32
        expected = torch.tensor(votes[dataset.get_data_info(i)['clip']]) / 10
        assert torch.allclose(packed, expected) and packed.sum() == pytest.approx(1)
    test = DFEW(
        str(changed.root), split='test', pipeline=PIPELINE, soft_labels=True, test_mode=True
    )
    assert test[0]['data_samples'].gt_label.dtype == torch.int64


@pytest.mark.parametrize(
    ('path', 'split', 'fold'),
    [
        ('EmoLabel_DataSplit/train(single-labeled)/set_3.csv', 'train', 3),
        ('Train & Test Set/single/no_caption/set_2/test.txt', 'test', 2),
        ('saved/data/dfew/org/split04/val.csv', 'val', 4),
        ('annotation/DFEW_set_5_validate.txt', 'val', 5),
        ('label/single_testset_1.csv', 'test', 1),
        ('4_setups/All_scenes/train_All.csv', 'train', None),
    ],
)
def test_what_a_path_says(path: str, split: str, fold: int | None) -> None:
    assert (parse_split(path), parse_fold(path)) == (split, fold)
