"""Test checkpoints on other datasets: class names, the metric, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trees
from conftest import NUM_TEST, NUM_TRAIN, ROOT
from mmengine.config import Config
from sklearn.metrics import accuracy_score, recall_score

from mmaction.registry import DATASETS, MODELS

from mmdfer.cli.train import main as train
from mmdfer.cli.zero_shot import main as zero_shot
from mmdfer.datasets import DFEW, MAFW, FERV39k
from mmdfer.datasets.class_names import SPELLINGS, match_classes, standard_name
from mmdfer.engine.runner.other_dataset import (
    list_datasets,
    list_levels,
    read_dataset_config,
    take_clips,
)
from mmdfer.errors import DFERError
from mmdfer.evaluation import SharedClassesMetric, dfer_metric
from mmdfer.evaluation.report import overlap_note, read_fold, synthetic_note
from mmdfer.synthetic import CLASSES
from mmdfer.synthetic.benchmark import make_benchmark

SEVEN = ('happiness', 'sadness', 'neutral', 'anger', 'surprise', 'disgust', 'fear')
ELEVEN = trees.MAFW
OTHERS = ('contempt', 'anxiety', 'helplessness', 'disappointment')


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """Make small trees of DFEW and MAFW, and small benchmarks of both domains."""
    root = tmp_path_factory.mktemp('on')
    trees.dfew(root / 'DFEW')
    trees.mafw(root / 'MAFW')
    (root / 'synth').symlink_to(data_root / 'synth')
    sizes = dict(num_train=NUM_TRAIN, num_test=NUM_TEST)
    make_benchmark(root / 'synth_comic', **sizes, workers=1, domain='comic')
    return root


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: Path) -> None:
    """Work in a folder of the test, and skip the text of the config, which takes longest."""
    monkeypatch.setenv('MMDFER_DATA', str(data))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Config, 'pretty_text', property(lambda _: ''))


# Class names --------------------------------------------------------------------------------------


def test_seven_classes_in_eleven_and_back() -> None:
    there = match_classes(SEVEN, ELEVEN)
    # MAFW counts anger, disgust, fear, happiness, neutral, sadness, surprise, and four others.
    assert there.labels == (3, 5, 6, 0, 2, 1, 4, None, None, None, None)
    assert (there.shared, there.left_out, there.unused) == (SEVEN, OTHERS, ())
    back = match_classes(ELEVEN, SEVEN)
    assert back.labels == (3, 5, 4, 0, 6, 1, 2)
    assert (back.shared, back.left_out, back.unused) == (ELEVEN[:7], (), OTHERS)


def test_the_classes_of_all_datasets_match() -> None:
    for kind in (DFEW, FERV39k):
        assert match_classes(CLASSES, kind.METAINFO['classes']).labels == tuple(range(7))
    assert match_classes(ELEVEN, MAFW.METAINFO['classes']).labels == tuple(range(11))
    assert match_classes(trees.FERV39K, SEVEN).labels == tuple(range(7))


@pytest.mark.parametrize(
    ('names', 'expected'),
    [
        ('happiness Happy HAPPY', 'happiness'),
        ('sadness Sad', 'sadness'),
        ('neutral Neutral', 'neutral'),
        ('anger Angry', 'anger'),
        ('surprise Surprised', 'surprise'),
        ('disgust disgusted', 'disgust'),
        ('fear Fearful', 'fear'),
        ('contempt contemptuous', 'contempt'),
        ('anxiety anxious', 'anxiety'),
        ('helplessness Helpless', 'helplessness'),
        ('disappointment disappointed', 'disappointment'),
        ('anger_disgust Disgusted_Angry', 'anger_disgust'),
    ],
)
def test_every_spelling_is_known(names: str, expected: str) -> None:
    assert {standard_name(name) for name in names.split()} == {expected}


def test_the_documented_table_is_that_of_the_code() -> None:
    page = (ROOT / 'docs' / 'get_started.md').read_text()
    table = page.split('| name here | other words |')[1].split('\n\n')[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.split('|')[1:3]] for line in table]
    assert {name: tuple(filter(None, others.split(', '))) for name, others in cells} == SPELLINGS


def test_a_name_out_of_the_table_matches_only_itself() -> None:
    match = match_classes(['Boredom', 'sad', 'happy'], ['happiness', 'boredom', 'fear', 'sadness'])
    assert match.labels == (2, 0, None, 1) and match.left_out == ('fear',)


@pytest.mark.parametrize(
    ('model', 'dataset', 'said'),
    [
        (['boredom', 'sad', 'happy'], SEVEN, r"class 'boredom' of the model .* rename it"),
        (['sad', 'happy', 'joy', 'pride'], SEVEN, r"class 'joy', 'pride' of the model"),
        (
            SEVEN,
            ['joy', 'sad', 'angry'],
            r"class 'joy' of the dataset .* rename it in the classes of",
        ),
        (['happy', 'Happiness'], SEVEN, r"'happy' and 'Happiness' of the model are the same"),
        (SEVEN, ['sad', 'sadness'], r"'sad' and 'sadness' of the dataset are the same"),
        (SEVEN, ['happy', 'contempt'], r'share 1 classes, but a test requires at least two'),
    ],
)
def test_names_that_do_not_match_are_refused(model: list, dataset: list, said: str) -> None:
    with pytest.raises(DFERError, match=said) as error:
        match_classes(model, dataset)
    assert '\n' not in str(error.value)


# The metric ---------------------------------------------------------------------------------------


def test_the_metric_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores = torch.tensor(rng.dirichlet(np.ones(11), 400), dtype=torch.float32)
    truth = rng.integers(0, 7, 400)  # the first seven of MAFW are shared
    metric = SharedClassesMetric()
    metric.dataset_meta = dict(classes=ELEVEN, shared=ELEVEN[:7])
    samples = [dict(pred_score=s, gt_label=int(y)) for s, y in zip(scores, truth, strict=True)]
    metric.process(None, samples[:150])
    metric.process(None, samples[150:])
    found = metric.compute_metrics(metric.results)
    predicted = scores.numpy()[:, :7].argmax(1)
    assert found['WAR'] == pytest.approx(100 * accuracy_score(truth, predicted))
    assert found['UAR'] == pytest.approx(100 * recall_score(truth, predicted, average='macro'))
    assert found['other_classes'] == pytest.approx(100 * (scores.argmax(1) > 6).float().mean())
    assert metric.confusion is not None and metric.confusion.shape == (7, 7)
    assert metric.confusion.sum() == 400
    assert 30 < found['other_classes'] < 45  # 4 of 11 classes are 36 %


def test_shared_classes_may_be_scattered() -> None:
    metric = SharedClassesMetric()
    metric.dataset_meta = dict(classes=('a', 'b', 'c', 'd'), shared=('b', 'd'))
    scores = torch.tensor([[0.9, 0.05, 0.03, 0.02], [0.1, 0.2, 0.5, 0.2001], [0.0, 0.0, 0.0, 1.0]])
    truth = (1, 3, 1)
    metric.process(None, [dict(pred_score=s, gt_label=y) for s, y in zip(scores, truth)])
    found = metric.compute_metrics(metric.results)
    assert found['recall/b'] == 50 and found['recall/d'] == 100
    assert found['UAR'] == 75 and found['WAR'] == pytest.approx(200 / 3)


# The command --------------------------------------------------------------------------------------

SIZES = [f'num_train={NUM_TRAIN}', f'num_test={NUM_TEST}']


def synth_options(*loaders: str, inside: str = 'dataset') -> list[str]:
    """Return options that make the loaders read the small benchmark."""
    return [f'{loader}_dataloader.{inside}.{size}' for loader in loaders for size in SIZES]


ON_SYNTH = ['--on-options', *synth_options('test')]


def read(folder: str) -> dict[str, Any]:
    return json.loads(Path(folder, 'report.json').read_text())


def test_from_one_domain_to_the_other_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dfer_metric, 'save_confusion', lambda *_: None)
    loaders = ('train', 'val', 'test')
    small = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=16']
    small += ['train_dataloader.dataset.dataset.num_views=1']
    small += [f'{name}_dataloader.dataset.num_workers=0' for name in loaders]
    given = small + synth_options(*loaders, inside='dataset.dataset')
    train(['coop_synth', *given])
    train(['coop_synth', '--on', 'synth_comic', *given, '--on-options', *synth_options(*loaders)])
    trained = 'work_dirs/coop_synth_on_synth_comic'
    words = ['coop_synth', f'{trained}/epoch_1.pth', '--on', 'synth', *small, *ON_SYNTH]
    assert 'folder of a training' in fail([*words, '--work-dir', trained])
    ways = (
        ('coop_synth', 'synth', 'synth_comic'),
        ('coop_synth_on_synth_comic', 'synth_comic', 'synth'),
    )
    for run, source, target in ways:
        zero_shot(
            ['coop_synth', f'work_dirs/{run}/epoch_1.pth', '--on', target, *small, *ON_SYNTH]
            + ['--work-dir', target]
        )
        report = read(target)
        assert (report['trained_on'], report['tested_on']) == (source, target)
        assert report['clips'] == NUM_TEST and report['left_out'] == {}
        assert report['classes'] == list(CLASSES) and report['other_classes'] == 0
        assert report['note'] == 'synthetic data: not results on any real dataset'
        fold = read_fold(Path(target, 'report.json'))
        assert fold.last.epoch == 1 and fold.last.confusion.sum() == NUM_TEST


def test_a_model_of_seven_classes_on_eleven(capsys: pytest.CaptureFixture) -> None:
    zero_shot(
        ['clip_zero_shot_synth', '--on', 'MAFW', '--on-options', 'test_dataloader.dataset.fold=2']
    )
    report = read('work_dirs/clip_zero_shot_synth_zero_shot_on_mafw')
    truth = trees.mafw(Path('again'), media=False).truth['test', 2]
    counts = trees.tally(truth, 11)
    assert report['left_out'] == dict(zip(OTHERS, counts[7:], strict=True))
    assert report['clips'] == sum(counts[:7]) == np.sum(report['last']['confusion'])
    by_class = dict(zip(ELEVEN, counts, strict=True))
    rows = np.sum(report['last']['confusion'], 1).tolist()
    assert rows == [by_class[name] for name in SEVEN]
    assert report['trained_on'] is None and report['unused_classes'] == []
    text = capsys.readouterr().out
    assert 'Zero-shot, without training, tested on synthetic tree like MAFW: WAR' in text
    assert f'clips of contempt ({counts[7]}), anxiety' in text
    assert 'not results on MAFW' in text
    folder = Path('work_dirs/clip_zero_shot_synth_zero_shot_on_mafw')
    assert next(folder.glob('*/confusion_matrix.json')).is_file()


def save_net(path: str, classes: list[str]) -> Config:
    """Write the config and a checkpoint of an untrained net of other classes."""
    Path('net.py').write_text(
        "_base_ = ['mmdfer::r3d18/r3d18_synth.py']\n"
        f'model = dict(cls_head=dict(num_classes={len(classes)}))\n'
    )
    cfg = Config.fromfile('net.py')
    net = MODELS.build(cfg.model)
    meta = dict(epoch=3, dataset_meta=dict(classes=classes, dataset='MAFW'))
    torch.save(dict(state_dict=net.state_dict(), meta=meta), path)
    return cfg


def test_a_net_of_eleven_classes_on_seven(capsys: pytest.CaptureFixture, data: Path) -> None:
    names = ['Angry', 'Disgusted', 'Fearful', 'Happy', 'Neutral', 'Sad', 'Surprised', *OTHERS]
    cfg = save_net('net.pth', names)
    some = ['--on-options', 'test_dataloader.dataset.indices=24']
    zero_shot(['net.py', 'net.pth', '--on', 'dfew', '--work-dir', 'out', *some])
    report = read('out')
    assert report['classes'] == names[:7] and report['unused_classes'] == list(OTHERS)
    assert (report['trained_on'], report['last']['epoch']) == ('MAFW', 3)
    assert 'Zero-shot, trained on MAFW, tested on' in capsys.readouterr().out
    # The same figures, computed from the model and the dataset by hand.
    net = MODELS.build(cfg.model)
    net.load_state_dict(torch.load('net.pth')['state_dict'])
    clips = DATASETS.build(
        dict(
            type='DFEW',
            data_root=str(data / 'DFEW'),
            split='test',
            test_mode=True,
            indices=24,
            pipeline=cfg.test_dataloader.dataset.pipeline,
        )
    )
    items = [clips[i] for i in range(len(clips))]
    with torch.no_grad():
        samples = net.eval().val_step(
            dict(
                inputs=[item['inputs'] for item in items],
                data_samples=[item['data_samples'] for item in items],
            )
        )
    truth = [SEVEN[int(item['data_samples'].gt_label)] for item in items]
    scores = torch.stack([sample.pred_score for sample in samples])
    own = [standard_name(name) for name in names]
    predicted = [own[i] for i in scores[:, :7].argmax(1).tolist()]
    assert report['last']['WAR'] == pytest.approx(100 * accuracy_score(truth, predicted))
    macro = recall_score(truth, predicted, average='macro', labels=list(SEVEN))
    assert report['last']['UAR'] == pytest.approx(100 * macro)
    outside = (scores.argmax(1) > 6).float().mean()
    assert report['other_classes'] == pytest.approx(100 * float(outside))


def fail(arguments: list[str]) -> str:
    """Return the one line with which a zero-shot test ends."""
    with pytest.raises(SystemExit) as exit_:
        zero_shot(arguments)
    assert '\n' not in str(exit_.value.code)
    return str(exit_.value.code)


def test_errors_are_one_line() -> None:
    config = 'clip_zero_shot_synth'
    line = fail([config, '--on', 'dfww'])
    assert 'dfww: no such config' in line and 'ferv39k, mafw, synth, synth_comic' in line
    assert 'no such checkpoint' in fail([config, 'none.pth', '--on', 'synth'])
    line = fail(['r3d18_synth', '--on', 'synth', *ON_SYNTH])
    assert 'such as backbone.net.stem.0.weight; give the checkpoint of a training' in line
    assert 'reads no levels' in fail([config, '--on', 'synth', '--levels', 'x', *ON_SYNTH])
    save_net('net.pth', ['happy', 'sad', 'boredom'])
    assert "'boredom' of the model" in fail(['net.py', 'net.pth', '--on', 'dfew'])
    for key in ('test_dataloader.dataset.data_root', 'data_root'):
        assert 'nowhere' in fail([config, '--on', 'mafw', '--on-options', f'{key}=nowhere'])


def test_training_on_other_classes_is_refused() -> None:
    with pytest.raises(SystemExit) as exit_:
        train(['coop_synth', '--on', 'mafw'])
    assert 'to train on other classes, write a config' in str(exit_.value.code)


def test_the_datasets_are_those_of_the_help(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        zero_shot(['--help'])
    text = ' '.join(capsys.readouterr().out.split())
    assert all(name in text for name in list_datasets())
    assert 'synth_comic' in list_datasets() and 'dfew_112' not in list_datasets()


@pytest.mark.parametrize('name', ['synth', 'synth_comic', 'synthetic'])
def test_drawn_faces_are_no_results_on_a_real_dataset(name: str) -> None:
    assert synthetic_note(name) == 'synthetic data: not results on any real dataset'


def test_dfew_and_mafw_share_clips() -> None:
    assert '1,097 clips' in overlap_note('DFEW', 'MAFW') == overlap_note('MAFW', 'DFEW')
    assert overlap_note('DFEW', 'FERV39k') == overlap_note(None, 'MAFW') == ''


# Levels -------------------------------------------------------------------------------------------

LEVELS = """
_base_ = ['mmdfer::clip_zero_shot/clip_zero_shot_synth.py']
model = dict(
    type='FineCLIPER', levels=('frames', 'parts', 'caption'), fusion='mean',
    cls_head=dict(_delete_=True, type='TwoSidedHead', classes={{_base_.classes}}))
test_pipeline = _base_.test_pipeline
test_pipeline.insert(3, dict(type='LoadLevels', folder='nowhere'))
test_pipeline[-1] = dict(type='PackLevels')
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
default_hooks = dict(levels=dict(type='LevelsHook'))
"""


@pytest.mark.parametrize(
    ('name', 'folder', 'expected'),
    [
        ('mafw', 'x', ['frames', 'parts']),  # neutral clips have no caption
        ('fine_cliper_mafw', 'x', ['frames', 'parts']),
        ('fine_cliper_captions_mafw', 'x', ['frames', 'parts', 'caption']),
        ('fine_cliper_dfew', None, ['frames', 'parts', 'caption']),
        ('dfew', 'x', ['frames', 'parts', 'caption']),
        ('dfew', None, ['frames']),
    ],
)
def test_which_levels_are_loaded(name: str, folder: str | None, expected: list[str]) -> None:
    Path('levels.py').write_text(LEVELS)
    cfg, target = Config.fromfile('levels.py'), read_dataset_config(name)
    clips, lacks = take_clips(cfg, target, 'test_dataloader', folder)
    assert list_levels(clips['pipeline']) == expected and lacks == (expected == ['frames'])
    assert clips.get('levels') in (None, folder)  # where MAFW writes the captions of its release


def test_the_benchmark_has_a_default_folder() -> None:
    Path('levels.py').write_text(LEVELS)
    target = read_dataset_config('synth')
    del target.test_dataloader.dataset['data_root']
    clips, _ = take_clips(Config.fromfile('levels.py'), target, 'test_dataloader')
    assert clips['levels'] == 'data/synth/levels'


def test_a_model_of_levels(capsys: pytest.CaptureFixture, data: Path) -> None:
    Path('levels.py').write_text(LEVELS)
    zero_shot(['levels.py', '--on', 'synth_comic', '--work-dir', 'comic', *ON_SYNTH])
    assert read('comic')['levels'] == ['frames', 'parts', 'caption']
    assert f'Levels of {NUM_TEST} test clips: 0 lack masks, 0 lack' in capsys.readouterr().out
    assert (data / 'synth_comic' / 'levels' / 'captions.jsonl').is_file()
    zero_shot(['levels.py', '--on', 'dfew', '--work-dir', 'dfew'])
    report = read('dfew')
    assert (report['levels'], report['unused_levels']) == (['frames'], ['parts', 'caption'])
    assert 'Tested on frames only, because the test does not load' in capsys.readouterr().out
    only = ['--cfg-options', "model.levels=('caption',)"]
    assert 'reads only caption' in fail(['levels.py', '--on', 'dfew', *only])
