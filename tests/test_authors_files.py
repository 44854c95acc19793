"""Test that a file of other authors is read without executing code, or refused in one line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from authors import TEXTS, generator, small_clip
from mmengine.logging import HistoryBuffer
from references import dfer_clip, training_script
from torch import Tensor

from mmdfer.cli.main import main
from mmdfer.converters import import_checkpoint
from mmdfer.errors import DFERError

FORMATS = pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])


class Reaches:
    """Pickle as a call of `function`, as a malicious file does."""

    def __init__(self, function: Callable, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Callable, tuple]:
        return self.call


class Marks:
    """Write a file when an object of this class is built, also when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        Path(mark).touch()

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Marks, (self.mark,)


def recorder_with(value: Any) -> training_script.RecorderMeter:
    """Return an object of the training script that holds something else than numbers."""
    recorder = training_script.RecorderMeter(3)
    recorder.epoch_losses = value
    return recorder


def refused(capsys: pytest.CaptureFixture, file: Path, *args: str) -> str:
    """Run an import that fails, and return its line of output."""
    out = file.with_name('out')
    with pytest.raises(SystemExit) as exit_:
        main(['import_checkpoint', *args, str(file), '--out', str(out)])
    line = str(exit_.value.code)
    assert line.startswith(f'error: {file}: ') and '\n' not in line
    assert not out.exists() and not capsys.readouterr().out
    return line


# ---------------------------------------------------------------- code in a file

# A file names os.system by the module that defines it, and subprocess by its name in Python 2.
HOSTILE = {
    f'{os.system.__module__}.system': lambda mark: Reaches(os.system, f'touch {mark}'),
    'eval': lambda mark: Reaches(eval, f'open({mark!r}, "w")'),
    'commands.Popen': lambda mark: Reaches(subprocess.Popen, ['touch', mark]),
    'test_authors_files.Marks': Marks,
    # This package's own checkpoints may name these, and torch accepts the third in every file.
    'mmengine.logging.history_buffer.HistoryBuffer': lambda mark: HistoryBuffer([1.0], [1]),
    'getattr': lambda mark: Reaches(getattr, training_script.RecorderMeter, '__init__'),
    'SystemExit': lambda mark: Reaches(SystemExit, 3),
    'numpy.dtype': lambda mark: np.array([1, None], dtype=object),
}


@FORMATS
@pytest.mark.parametrize('inside', [False, True], ids=['recorder', 'in a recorder'])
@pytest.mark.parametrize('name', HOSTILE)
def test_a_file_that_names_code_is_refused_and_nothing_runs(
    name: str, inside: bool, zipped: bool, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    mark = tmp_path / 'executed'
    thing = HOSTILE[name](str(mark))
    mark.unlink(missing_ok=True)  # which Marks writes here, too
    state = {'s_former.conv1.weight': torch.ones(2)}
    recorder = recorder_with(thing) if inside else thing
    path = tmp_path / 'model.pth'
    training_script.save(path, state, recorder, _use_new_zipfile_serialization=zipped)
    line = refused(capsys, path, 'former_dfer', '--dataset=dfew')
    assert f'refused to load the file, because it names {name}' in line
    assert not mark.exists()


def test_the_files_of_this_test_do_execute_code_elsewhere(tmp_path: Path) -> None:
    training_script.save(tmp_path / 'model.pth', {}, HOSTILE['eval'](str(tmp_path / 'executed')))
    torch.load(tmp_path / 'model.pth', 'cpu', weights_only=False)
    assert (tmp_path / 'executed').exists()


def test_what_torch_accepts_is_accepted_again_afterwards(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    training_script.save(tmp_path / 'model.pth', {'weight': torch.ones(2)})
    with pytest.raises(DFERError, match='does not hold the weights of DFER-CLIP'):
        import_checkpoint('dfer_clip', tmp_path / 'model.pth', 'dfew', tmp_path / 'out')
    assert set(torch.serialization.get_safe_globals()) == before


# ---------------------------------------------------------------- damaged files


@FORMATS
def test_a_truncated_file_ends_in_one_line(
    zipped: bool, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    state = {'s_former.conv1.weight': torch.ones(200), 'fc.bias': torch.ones(7)}
    path = tmp_path / 'model.pth'
    training_script.save(path, state, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    ends = {*range(0, len(whole), len(whole) // 80), *range(len(whole) - 20, len(whole))}
    for end in sorted(ends):
        path.write_bytes(whole[:end])
        refused(capsys, path, 'former_dfer', '--dataset=dfew')


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (None, 'no such checkpoint'),
        (b'', 'empty'),
        (b'<!DOCTYPE html><html><head><title>Drive - Virus scan</title>', 'a web page'),
        (b'hello world\n' * 9, 'cannot be read'),
        ([torch.ones(1)], 'holds a list'),
        (dict(state_dict=dict(a=1)), 'no state dict'),
        (dict(epoch=3), 'no state dict'),
        (dict(state_dict={}), 'no state dict'),
        (dict(state_dict=dict(a=torch.ones(2).to_sparse())), 'no state dict'),
    ],
)
def test_a_file_without_a_model_ends_in_one_line(
    content: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / 'model.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    assert said in refused(capsys, path, 'dfer_clip', '--dataset=dfew')


# ---------------------------------------------------------------- another file than was said


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Return the weights of a small DFER-CLIP for seven classes."""
    return dfer_clip.model_state(TEXTS[:7], small_clip(monkeypatch), generator=generator(1))


def test_another_method_is_named(
    state: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / 'model.pth'
    training_script.save(path, state)
    line = refused(capsys, path, 'former_dfer', '--dataset=dfew')
    assert 'Former-DFER' in line and line.endswith('run mmdfer import-checkpoint dfer_clip')
    training_script.save(path, {'s_former.conv1.weight': torch.ones(1)})
    line = refused(capsys, path, 'dfer_clip', '--dataset=dfew')
    assert 'DFER-CLIP' in line and line.endswith('run mmdfer import-checkpoint former_dfer')


@pytest.mark.parametrize(
    ('classes', 'dataset', 'said'),
    [
        (7, 'mafw', 'the model has 7 classes, but MAFW has 11; give --dataset dfew or ferv39k'),
        (11, 'dfew', 'the model has 11 classes, but DFEW has 7; give --dataset mafw'),
        (8, 'ferv39k', 'the model has 8 classes, but FERV39k has 7; give another file'),
    ],
)
def test_another_number_of_classes_is_named(
    classes: int, dataset: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rows = torch.ones(classes, 2, 3)
    markers = {'prompt_learner.ctx': 'prompt_learner.token_suffix'}
    markers |= {'s_former.conv1.weight': 'fc.weight'}
    for method, (marker, by_class) in zip(('dfer_clip', 'former_dfer'), markers.items()):
        path = tmp_path / f'{method}.pth'
        training_script.save(path, {marker: rows, by_class: rows})
        assert refused(capsys, path, method, f'--dataset={dataset}').endswith(said)


def change(key: str, value: Callable[[Tensor], Tensor] | None) -> Callable[[dict], None]:
    """Return a function that changes a tensor of a state dict, or removes it."""

    def apply(state: dict[str, Tensor]) -> None:
        tensor = state.pop(key, torch.ones(1))
        if value is not None:
            state[key] = value(tensor)

    return apply


CLIP, LAYERS = 'clip_model_', 'temporal_net.temporal_transformer.layers'
CHANGED = {
    'lacks a layer of CLIP': (
        change(f'{CLIP}.visual.ln_post.bias', None),
        f"lacks the tensor '{CLIP}.visual.ln_post.bias'",
    ),
    'lacks the table of tokens': (
        change(f'{CLIP}.token_embedding.weight', None),
        f"lacks the tensor '{CLIP}.token_embedding.weight'",
    ),
    'lacks a part of the temporal net': (
        change(f'{LAYERS}.0.1.fn.fn.net.3.bias', None),
        f"lacks the tensor '{LAYERS}.0.1.fn.fn.net.3.bias'",
    ),
    'has another tensor': (
        change('adapter.weight', lambda tensor: tensor),
        "1 tensors are unknown, the first of them 'adapter.weight'",
    ),
    'is of another size': (
        change('temporal_net.pos_embedding', lambda tensor: torch.ones(1, 33, 64)),
        "'temporal_net.pos_embedding' of shape (1, 33, 64) does not fit neck.position of shape",
    ),
    'has too few axes': (
        change('temporal_net.cls_token', lambda tensor: torch.ones(64)),
        "'temporal_net.cls_token' of shape (64,) does not fit neck.class_token of shape (64,)",
    ),
    'has two image towers': (
        change('image_encoder.proj', lambda tensor: tensor + 1),
        f"'image_encoder.proj' and '{CLIP}.visual.proj' differ",
    ),
    'has texts that were trained': (
        change('prompt_learner.token_suffix', lambda tensor: tensor + 1e-6),
        'the class texts cannot be recovered',
    ),
    'has no start token': (
        change('prompt_learner.token_prefix', lambda tensor: tensor.roll(1, 2)),
        'the class texts cannot be recovered',
    ),
    'has texts without an end': (
        change('prompt_learner.token_suffix', lambda tensor: tensor[:, :3]),
        'the text of class 0 cannot be recovered',
    ),
    'has tokens of no class': (
        change('prompt_learner.ctx', lambda tensor: tensor[0, 0]),
        'has 1 axes in place of 2 or 3',
    ),
}


@pytest.mark.parametrize('name', CHANGED)
def test_a_file_that_was_changed_is_refused(
    name: str, state: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    apply, said = CHANGED[name]
    apply(state)
    path = tmp_path / 'model.pth'
    training_script.save(path, state)
    assert said in refused(capsys, path, 'dfer_clip', '--dataset=dfew')


def test_a_text_without_a_full_stop_is_refused(
    state: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    texts = ['a grin', *TEXTS[1:7]]
    clip = {k.removeprefix(f'{CLIP}.'): v for k, v in state.items() if k.startswith(CLIP)}
    training_script.save(tmp_path / 'model.pth', dfer_clip.model_state(texts, clip))
    line = refused(capsys, tmp_path / 'model.pth', 'dfer_clip', '--dataset=dfew')
    assert "the class text 'a grin' does not end in a full stop" in line


def test_a_folder_with_files_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture, state: dict[str, Tensor]
) -> None:
    training_script.save(tmp_path / 'model.pth', state)
    for out in (tmp_path, tmp_path / 'model.pth'):
        with pytest.raises(SystemExit, match='there are files already; give another folder'):
            main(
                ['import-checkpoint', 'dfer_clip', str(tmp_path / 'model.pth')]
                + ['--dataset=dfew', f'--out={out}']
            )
    assert list(tmp_path.iterdir()) == [tmp_path / 'model.pth']


# ---------------------------------------------------------------- what is read


@FORMATS
def test_a_recorder_is_read_and_dropped(
    zipped: bool, state: dict[str, Tensor], tmp_path: Path
) -> None:
    """Read a file with the training script's recorder, which holds arrays of numbers."""
    path = tmp_path / 'model.pth'
    training_script.save(path, state, _use_new_zipfile_serialization=zipped)
    done = import_checkpoint('dfer_clip', path, 'dfew', tmp_path / 'out')
    assert (done.epoch, done.best_accuracy) == (31, 71.25)
    assert list(done.texts.values()) == TEXTS[:7]


def test_arrays_of_an_older_numpy_are_read(state: dict[str, Tensor], tmp_path: Path) -> None:
    """Read a recorder whose arrays name numpy.core, as files from before numpy 2 do."""
    path = tmp_path / 'model.pth'
    training_script.save(path, state, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    older = content.replace(b'numpy._core', b'numpy.core')
    assert b'numpy.core' in older
    for each in (older, older.replace(b'numpy.core', b'numpy._core')):
        path.write_bytes(each)
        done = import_checkpoint('dfer_clip', path, 'dfew', tmp_path / str(len(each)))
        assert done.epoch == 31


@pytest.mark.parametrize('number', [70.5, np.float64(70.5), np.float32(70.5), torch.tensor([70.5])])
def test_an_accuracy_is_read(number: Any, state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(dict(state_dict=state, best_acc=number), tmp_path / 'model.pth')
    done = import_checkpoint('dfer_clip', tmp_path / 'model.pth', 'dfew', tmp_path / 'out')
    assert (done.epoch, done.best_accuracy) == (None, 70.5)


def test_a_bare_state_dict_in_half_precision_is_read(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    half = {name: tensor.half() for name, tensor in state.items()}
    torch.save(half, tmp_path / 'model.pth')
    done = import_checkpoint('dfer_clip', tmp_path / 'model.pth', 'dfew', tmp_path / 'out')
    assert (done.epoch, done.best_accuracy) == (None, None)
    assert list(done.texts.values()) == TEXTS[:7]
    written = torch.load(done.checkpoint, weights_only=True)['state_dict']
    assert torch.equal(written['cls_head.tokens'], half['prompt_learner.ctx'].float())
