"""Test that a file of DFER-CLIP's or Former-DFER's authors gives their logits after the import.

The files hold random weights under the authors' names, written as their scripts write them.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trees
from authors import TEXTS, generator, small_clip
from mmengine.dataset import Compose
from PIL import Image
from references import dfer_clip, former_dfer, training_script
from torch import Tensor, nn

from mmaction.apis import inference_recognizer, init_recognizer

from mmdfer.cli.main import main
from mmdfer.compat import load_from_local

# The numbers of the classes in the authors' lists, as a comment of annotation/preprocessing.py in
# zengqunzhao/DFER-CLIP has them.
AUTHORS = ('happiness', 'sadness', 'neutral', 'anger', 'surprise', 'disgust', 'fear')
AUTHORS += ('contempt', 'anxiety', 'helplessness', 'disappointment')
CLASSES = dict(dfew=AUTHORS[:7], ferv39k=AUTHORS[:7], mafw=AUTHORS)
OURS = dict(dfew=trees.DFEW, ferv39k=AUTHORS[:7], mafw=trees.MAFW)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Return weights of a small CLIP, whose size DFER-CLIP's config then has."""
    return small_clip(monkeypatch)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError(f'a connection to {args} was tried')

    monkeypatch.setattr(socket.socket, 'connect', refuse)


def draw_clip(folder: Path, frames: int, height: int = 150, width: int = 230) -> Path:
    """Draw the frames of a clip as JPEG files, of coarse noise that each resize changes."""
    folder.mkdir()
    rng = np.random.default_rng(frames)
    shape = frames, height // 10, width // 10, 3
    noise = np.kron(rng.integers(0, 256, shape), np.ones((1, 10, 10, 1))).astype(np.uint8)
    for number, frame in enumerate(noise, 1):
        Image.fromarray(frame).save(folder / f'{number:05d}.jpg', quality=90)
    return folder


def run_import(method: str, file: Path, dataset: str, out: Path) -> None:
    main(['import-checkpoint', method, str(file), '--dataset', dataset, '--out', str(out)])


def our_logits(model: nn.Module, clip: Path) -> Tensor:
    """Compute logits (1, C) of a folder of frames with the test pipeline of a model's config."""
    pipeline = model.cfg.test_dataloader.dataset.pipeline
    item = Compose(pipeline)(dict(filename=str(clip), label=0, start_index=0))
    batch = dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
    with torch.no_grad():
        inputs = model.data_preprocessor(batch)['inputs']
        return model(inputs, stage='head')


def compare(out: Path, clip: Path, theirs: Tensor, dataset: str) -> float:
    """Compare an imported model with the authors' logits, and return the largest difference."""
    places = [CLASSES[dataset].index(name) for name in OURS[dataset]]
    expected = theirs[:, places]
    model = init_recognizer(str(out / 'config.py'), str(out / 'checkpoint.pth'), 'cpu')
    ours = our_logits(model, clip)
    spread = expected[0].sort()[0].diff().min()
    assert spread > 1e-3  # so that no two classes could be exchanged
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)
    score = inference_recognizer(model, str(clip)).pred_score
    torch.testing.assert_close(score, expected[0].softmax(0), rtol=0, atol=1e-4)
    return float((ours - expected).abs().max())


# ---------------------------------------------------------------- DFER-CLIP


def test_dfer_clip_of_full_size_gives_the_authors_logits(
    tmp_path: Path, capsys: pytest.CaptureFixture, record_property: Callable
) -> None:
    """Compare at the size of ViT-B/32 on MAFW, whose classes have another order."""
    clip = dfer_clip.clip_state(generator=generator())
    state = dfer_clip.model_state(TEXTS, clip, generator=generator(1))
    training_script.save(tmp_path / 'MAFW-set1-model_best.pth', state)
    run_import('dfer_clip', tmp_path / 'MAFW-set1-model_best.pth', 'mafw', tmp_path / 'out')
    lines = capsys.readouterr().out.splitlines()
    assert lines[:11] == [f'{name}: {TEXTS[AUTHORS.index(name)]}' for name in trees.MAFW]
    assert lines[11] == 'epoch 31, best accuracy 71.25 %, according to the file'
    assert {Path(line).name for line in lines[12:]} == {
        path.name for path in (tmp_path / 'out').iterdir()
    }
    frames = draw_clip(tmp_path / 'clip', 40)
    shown = dfer_clip.view_for_testing(dfer_clip.load_clip(str(frames)))
    theirs = dfer_clip.model_logits(shown, state, TEXTS)
    difference = compare(tmp_path / 'out', frames, theirs, 'mafw')
    record_property('largest difference of logits, DFER-CLIP with ViT-B/32', f'{difference:.1e}')


@pytest.mark.parametrize(
    ('dataset', 'frames', 'model', 'saved'),
    [
        ('dfew', 5, {}, {}),
        ('ferv39k', 16, dict(shared=True), {}),
        ('mafw', 40, dict(layers=2, tokens=4), dict(_use_new_zipfile_serialization=False)),
    ],
)
def test_dfer_clip_gives_the_authors_logits(
    dataset: str, frames: int, model: dict, saved: dict, tmp_path: Path, tiny: dict[str, Tensor]
) -> None:
    texts = TEXTS[: len(CLASSES[dataset])]
    state = dfer_clip.model_state(texts, tiny, **model, generator=generator(1))
    training_script.save(tmp_path / 'model.pth', state, **saved)
    run_import('dfer_clip', tmp_path / 'model.pth', dataset, tmp_path / 'out')
    clip = draw_clip(tmp_path / 'clip', frames)
    shown = dfer_clip.view_for_testing(dfer_clip.load_clip(str(clip)))
    theirs = dfer_clip.model_logits(shown, state, texts)
    compare(tmp_path / 'out', clip, theirs, dataset)


# ---------------------------------------------------------------- Former-DFER


@pytest.mark.parametrize(
    ('dataset', 'frames', 'zipped'),
    [('dfew', 40, True), ('dfew', 9, False), ('ferv39k', 1, True), ('mafw', 10, True)],
)
def test_former_dfer_gives_the_authors_logits(
    dataset: str, frames: int, zipped: bool, tmp_path: Path, record_property: Callable
) -> None:
    state = former_dfer.state_dict(len(CLASSES[dataset]), generator=generator())
    path = tmp_path / 'model_set_1.pth'
    training_script.save(path, state, _use_new_zipfile_serialization=zipped)
    run_import('former_dfer', path, dataset, tmp_path / 'out')
    clip = draw_clip(tmp_path / 'clip', frames)
    theirs = former_dfer.logits(former_dfer.view(clip), state)
    difference = compare(tmp_path / 'out', clip, theirs, dataset)
    record_property(f'largest difference of logits, Former-DFER, {dataset}', f'{difference:.1e}')


# ---------------------------------------------------------------- the folder in use


@pytest.fixture
def imported(tmp_path: Path, tiny: dict[str, Tensor]) -> Iterator[Path]:
    """Import a file for MAFW, and move the folder to a name with quotes."""
    state = dfer_clip.model_state(TEXTS, tiny, generator=generator(1))
    training_script.save(tmp_path / 'model.pth', state)
    run_import('dfer_clip', tmp_path / 'model.pth', 'mafw', tmp_path / 'out')
    (tmp_path / 'model.pth').unlink()
    yield (tmp_path / 'out').rename(tmp_path / 'Anna\'s "best" modèle')


def test_a_moved_folder_is_tested_and_fine_tuned(
    imported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.MAKERS['mafw'](tmp_path / 'data' / 'MAFW')
    monkeypatch.setenv('MMDFER_DATA', str(tmp_path / 'data'))
    monkeypatch.chdir(tmp_path)
    config, checkpoint = imported / 'config.py', imported / 'checkpoint.pth'
    serial = [f'{loader}_dataloader.num_workers=0' for loader in ('train', 'val', 'test')]
    main(['test', str(config), str(checkpoint), '--cfg-options', *serial])
    (matrix,) = tmp_path.glob('work_dirs/config/*/confusion_matrix.json')
    assert np.sum(json.loads(matrix.read_text())['confusion']) > 10
    # With a learning rate of 0, an epoch of training ends with the weights that it begins with.
    options = [*serial, 'train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=0']
    options += ['train_dataloader.batch_size=16', 'default_hooks.report.baselines=False']
    main(['train', str(config), '--work-dir', 'tuned', '--cfg-options', *options])
    before, after = (
        load_from_local(path)['state_dict'] for path in (checkpoint, tmp_path / 'tuned/epoch_1.pth')
    )
    assert before.keys() == after.keys() and any('visual' in name for name in before)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
