"""Test each fix of an upstream fault.

Where upstream has the fault, the fix works; where upstream is correct, the fix changes nothing.
"""

from __future__ import annotations

import functools
import os
import pickle
import socket
import subprocess
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import mmengine.runner.checkpoint as upstream
import numpy as np
import pytest
import torch
from mmengine import hub
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.infer import BaseInferencer
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, Runner
from safetensors.torch import save_file

from mmaction.models import BaseHead, BaseRecognizer, TSNHead
from mmaction.structures import ActionDataSample

from mmdfer import compat
from mmdfer.errors import DFERError
from mmdfer.features import default_encoder


class Reaches:
    """Pickle as a call of `function`, as a malicious file does."""

    def __init__(self, function, *args) -> None:
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def one_line(error: pytest.ExceptionInfo) -> str:
    line = str(error.value)
    assert '\n' not in line
    return line


# ---------------------------------------------------------------- packages


def test_mmcv_is_asked_for_only_where_it_is_missing(monkeypatch):
    compat.require_mmcv()
    monkeypatch.setattr(compat, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match='pip install "mmcv-lite') as error:
        compat.require_mmcv()
    assert isinstance(error.value, ValueError)
    one_line(error)


def test_mmcv_lites_warning_is_left_out_and_no_other():
    def warned(code):
        command = [sys.executable, '-c', code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr

    lite = find_spec('mmcv._ext') is None
    operator = 'MultiScaleDeformableAttention'
    assert (operator in warned('import mmcv.cnn.bricks.transformer')) == lite
    ours = warned('import mmdfer, warnings; warnings.warn("another")')
    assert operator not in ours and 'another' in ours


@pytest.fixture
def mmaction_wheel(tmp_path, monkeypatch):
    """Make a package folder like MMAction2's without drn, and find it as the installed one."""
    folder = tmp_path / 'mmaction' / 'models' / 'localizers'
    folder.mkdir(parents=True)
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path / 'mmaction')])
    monkeypatch.setattr(compat, 'find_spec', lambda name: spec)
    for name in [name for name in sys.modules if name.startswith('mmaction.models.localizers.drn')]:
        monkeypatch.delitem(sys.modules, name)
    yield folder
    for name in ('mmaction.models.localizers.drn', 'mmaction.models.localizers.drn.drn'):
        sys.modules.pop(name, None)


def test_drn_is_left_alone_where_the_wheel_has_it(mmaction_wheel):
    (mmaction_wheel / 'drn').mkdir()
    (mmaction_wheel / 'drn' / '__init__.py').touch()
    compat.stub_missing_drn()
    assert 'mmaction.models.localizers.drn' not in sys.modules


def test_drn_is_stubbed_where_the_wheel_lacks_it(mmaction_wheel):
    compat.stub_missing_drn()
    stub = sys.modules['mmaction.models.localizers.drn.drn'].DRN
    with pytest.raises(ImportError, match='source repository'):
        stub()


@pytest.mark.parametrize('kept', [True, False])
def test_vindlu_is_imported_only_where_transformers_has_what_it_needs(kept, tmp_path, monkeypatch):
    from mmaction.utils import dependency

    name = 'apply_chunking_to_forward' if kept else 'apply'
    (tmp_path / 'modeling_utils.py').write_text(f'from .pytorch_utils import {name}')
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(compat, 'find_spec', {'transformers': spec}.get)
    monkeypatch.setattr(dependency, 'WITH_MULTIMODAL', True)
    compat.skip_vindlu()
    assert dependency.WITH_MULTIMODAL is kept


def test_mmactions_own_train_py_imports_its_models_through_custom_imports(tmp_path):
    """Run in a new process, where mmaction.models is not imported yet."""
    import mmaction

    config = tmp_path / 'config.py'
    imports = "['mmdfer', 'mmaction.models.localizers', 'mmaction.models']"
    config.write_text(f'custom_imports = dict(imports={imports}, allow_failed_imports=False)\n')
    train = Path(mmaction.__file__).parent / '.mim' / 'tools' / 'train.py'
    path = str(Path(compat.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, str(train), str(config)],
        env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'},
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    # All imports succeed, and the first error is that the config has no model.
    assert "no attribute 'model'" in done.stderr or "KeyError: 'model'" in done.stderr, done.stderr


# ---------------------------------------------------------------- checkpoints


@pytest.fixture
def loaders():
    """Undo the patches of mmengine for one test, and restore them afterwards."""
    ours = dict(CheckpointLoader._schemes)
    names = [name for name in ('_safe_torch_load', 'load_url') if hasattr(upstream, name)]
    attributes = {name: getattr(upstream, name) for name in names}
    load_checkpoint = CheckpointLoader.__dict__['load_checkpoint']
    CheckpointLoader.register_scheme('', upstream.load_from_local, force=True)
    yield
    CheckpointLoader._schemes = upstream.OrderedDict(ours)
    CheckpointLoader.load_checkpoint = load_checkpoint
    for name, value in attributes.items():
        setattr(upstream, name, value)


def checkpoint() -> dict:
    """Return a checkpoint with every kind of object that mmengine 0.10.7 saves."""
    history = HistoryBuffer([1.0, 2.0, 6.0], [1, 1, 2])
    info = dict(best_score=np.float64(0.75), counts=np.arange(3), names=np.array(['a', 'bc']))
    return dict(
        meta=dict(epoch=3, iter=12, dataset_meta=dict(classes=('a', 'b'))),
        state_dict=dict(weight=torch.arange(4.0)),
        message_hub=dict(log_scalars={'train/loss': history}, runtime_info=info),
    )


def test_a_loader_that_is_whole_or_somebody_elses_is_left_in_place(loaders, monkeypatch):
    def theirs(filename, map_location):
        return {}

    CheckpointLoader.register_scheme('', theirs, force=True)
    compat.load_files_safely()
    assert CheckpointLoader._schemes[''] is theirs

    def load_from_local(filename, map_location):  # as in an mmengine without the fault
        with torch.serialization.safe_globals([HistoryBuffer]):
            return torch.load(filename, map_location=map_location, weights_only=True)

    monkeypatch.setattr(upstream, 'load_from_local', load_from_local)
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    compat.load_files_safely()
    assert CheckpointLoader._schemes[''] is load_from_local


def test_mmengines_own_checkpoint_loads_through_mmengine(loaders, tmp_path):
    path = tmp_path / 'epoch_3.pth'
    torch.save(checkpoint(), path)
    if not hasattr(upstream, '_safe_torch_load'):  # onedl's mmengine loads the file by executing it
        with pytest.raises(pickle.UnpicklingError):
            upstream._load_checkpoint(str(path))
    compat.load_files_safely()
    state = upstream._load_checkpoint(str(path), map_location='cpu')
    history = state['message_hub']['log_scalars']['train/loss']
    assert type(history) is HistoryBuffer
    # (1 + 2 + 6) / (1 + 1 + 2), by hand
    statistics = [history.statistics(name) for name in ('mean', 'max', 'min', 'current')]
    assert statistics == [2.25, 6, 1, 6]
    history.update(3.0, 2)
    assert history.data[0].tolist() == [1, 2, 6, 3]
    info = state['message_hub']['runtime_info']
    assert info['best_score'] == 0.75 and type(info['best_score']) is np.float64
    assert info['counts'].tolist() == [0, 1, 2] and info['names'].tolist() == ['a', 'bc']
    assert torch.equal(state['state_dict']['weight'], torch.arange(4.0))
    torch.save(state, path)  # what was loaded can be saved and loaded again
    assert compat.load_from_local(path)['meta']['epoch'] == 3


def test_map_location_reaches_torch(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(weight=torch.ones(2)), path)
    assert compat.load_from_local(path, 'meta')['weight'].device.type == 'meta'
    seen = []
    compat.load_from_local(path, lambda storage, where: seen.append(where) or storage)
    assert seen == ['cpu']


HOSTILE = {
    'eval': lambda mark: Reaches(eval, f'open({str(mark)!r}, "w")'),
    'system': lambda mark: Reaches(os.system, f'touch {mark}'),
    'Popen': lambda mark: Reaches(subprocess.Popen, ['touch', str(mark)]),
    '__init__': lambda mark: Reaches(getattr, HistoryBuffer, '__init__'),
    '__globals__': lambda mark: Reaches(
        getattr, Reaches(getattr, HistoryBuffer, 'mean'), '__globals__'
    ),
    'numpy.dtype': lambda mark: np.array([1, None], dtype=object),
    'Linear': lambda mark: torch.nn.Linear(1, 1),
}


@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
@pytest.mark.parametrize('name', HOSTILE)
def test_a_file_that_names_anything_else_is_refused_unexecuted(name, zipped, tmp_path):
    path, mark = tmp_path / 'hostile.pth', tmp_path / 'executed'
    torch.save(
        dict(state_dict={}, x=HOSTILE[name](mark)), path, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(DFERError) as error:
        upstream._load_checkpoint(str(path), map_location='cpu')
    line = one_line(error)
    assert str(path) in line and name in line and 'safetensors' in line
    assert not mark.exists()


def test_a_history_cannot_smuggle_a_statistic(tmp_path):
    history = HistoryBuffer([1.0], [1])
    history._statistics_methods = {'mean': HistoryBuffer.max}
    torch.save(dict(history=history), tmp_path / 'a.pth')
    loaded = compat.load_from_local(tmp_path / 'a.pth')['history']
    assert loaded._statistics_methods is HistoryBuffer._statistics_methods
    assert HistoryBuffer._statistics_methods['mean'] is HistoryBuffer.mean


def test_a_plain_pickle_is_refused_unexecuted(tmp_path):
    path, mark = tmp_path / 'model.pkl', tmp_path / 'executed'
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps(Reaches(os.system, f'touch {mark}'), protocol=protocol))
        with pytest.raises(DFERError, match='model.pkl'):
            compat.load_from_local(path)
    assert not mark.exists()


def test_what_is_no_checkpoint_ends_in_one_line_that_names_the_file(tmp_path):
    torch.save(checkpoint(), tmp_path / 'whole.pth')
    raw = (tmp_path / 'whole.pth').read_bytes()
    cases = {
        'empty': (b'', 'empty'),
        'truncated': (raw[: len(raw) // 2], 'truncated'),
        'cut short': (raw[:-200], 'truncated'),
        'text': (b'hello world\n' * 9, 'cannot be read'),
        'zeros': (bytes(99), 'cannot be read'),
    }
    for name, (content, said) in cases.items():
        path = tmp_path / f'{name}.pth'
        path.write_bytes(content)
        with pytest.raises(DFERError, match=said) as error:
            compat.load_from_local(path)
        assert str(path) in one_line(error)
    torch.save([torch.ones(1)], tmp_path / 'list.pth')
    with pytest.raises(DFERError, match='holds a list'):
        compat.load_from_local(tmp_path / 'list.pth')
    with pytest.raises(FileNotFoundError, match='absent.pth: no such checkpoint') as error:
        compat.load_from_local(tmp_path / 'absent.pth')
    assert isinstance(error.value, ValueError)


def test_safetensors_give_the_state_dict(tmp_path):
    path = tmp_path / 'weights.safetensors'
    save_file({'weight': torch.arange(3.0)}, path)
    model = torch.nn.Linear(3, 1, bias=False)
    model.weight.data.zero_()
    save_file({'weight': torch.tensor([[1.0, 2.0, 3.0]])}, path)
    upstream.load_checkpoint(model, str(path), map_location='cpu', strict=True)
    assert model.weight.tolist() == [[1.0, 2.0, 3.0]]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DFERError, match='weights.safetensors.*damaged'):
        compat.load_from_local(path)


# ---------------------------------------------------------------- downloads


def test_downloads_are_weights_only(loaders, tmp_path, monkeypatch):
    """Load a file:// address in place of a download; torch.hub caches it under model_dir."""
    mark, source = tmp_path / 'executed', tmp_path / 'hostile.pth'
    torch.save(dict(x=Reaches(os.system, f'touch {mark}')), source)
    monkeypatch.setattr(upstream, 'load_url', torch.hub.load_state_dict_from_url)
    upstream.load_url(source.as_uri(), str(tmp_path / 'stock'), progress=False)
    assert mark.exists(), 'torch.hub no longer has the fault: remove load_urls_safely'
    mark.unlink()
    compat.load_urls_safely()
    with pytest.raises(DFERError, match='system'):
        upstream.load_url(source.as_uri(), str(tmp_path / 'safe'), progress=False)
    assert not mark.exists()
    torch.save(checkpoint(), tmp_path / 'ours.pth')
    state = upstream.load_url((tmp_path / 'ours.pth').as_uri(), str(tmp_path / 'safe'))
    assert state['meta']['epoch'] == 3


def test_downloads_that_are_weights_only_already_stay_as_they_are(loaders, monkeypatch):
    def load_url(url, model_dir=None, weights_only=True):
        return {}

    monkeypatch.setattr(upstream, 'load_url', load_url)
    compat.load_urls_safely()
    assert upstream.load_url is load_url


# ---------------------------------------------------------------- the config in a checkpoint


def hostile_config(mark: Path) -> dict:
    text = f'open({str(mark)!r}, "w").close()\nmodel = dict(type="X")\n'
    state = checkpoint()
    state['meta'].update(config=text, cfg=text)
    state['message_hub']['runtime_info'].update(cfg=text)
    return state


@pytest.mark.parametrize('key', ['config', 'cfg', 'message_hub'])
def test_the_config_text_of_a_checkpoint_is_kept_but_not_executed(key, tmp_path):
    path, mark = tmp_path / 'a.pth', tmp_path / 'executed'
    text = hostile_config(mark)['meta']['cfg']
    state = checkpoint()
    holder = state['message_hub']['runtime_info'] if key == 'message_hub' else state['meta']
    holder['cfg' if key == 'message_hub' else key] = text
    torch.save(state, path)
    loaded = upstream._load_checkpoint(str(path))
    assert loaded['meta']['config_text'] == text
    assert 'cfg' not in loaded['meta'] and 'config' not in loaded['meta']
    assert 'cfg' not in loaded['message_hub']['runtime_info']
    assert not mark.exists()


def test_an_inferencer_given_only_such_a_file_does_not_run_its_config(tmp_path):
    path, mark = tmp_path / 'a.pth', tmp_path / 'executed'
    torch.save(hostile_config(mark), path)
    with pytest.raises(ValueError, match='Cannot find the config'):
        BaseInferencer._init_model(object(), {}, str(path))
    assert not mark.exists()


def test_a_runner_resumes_from_such_a_file_without_running_its_config(tmp_path):
    from mmengine.model import BaseModel

    class Point(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x, mode='tensor'):
            return dict(loss=(self.weight * x).sum())

    def runner(**kwargs) -> Runner:
        return Runner(
            Point(), str(tmp_path), train_dataloader=dict(
                dataset=[dict(x=torch.ones(1))], batch_size=1,
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='default_collate'),
            ), train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), log_level='ERROR',
            experiment_name=str(kwargs), default_scope='mmaction', **kwargs,
        )  # fmt: skip

    runner().train()
    path, mark = tmp_path / 'epoch_1.pth', tmp_path / 'executed'
    state = compat.load_from_local(path)
    state['meta']['config'] = hostile_config(mark)['meta']['config']
    torch.save(state, path)
    resumed = runner(resume=True, load_from=str(path))
    resumed.train()
    assert resumed.epoch == 2 and not mark.exists()
    assert resumed.model.weight.item() == pytest.approx(0.8)  # 1 - 0.1 - 0.1
    assert resumed.message_hub.get_info('cfg') == resumed.cfg.pretty_text


def test_config_text_stays_where_upstream_does_not_execute_it(loaders, monkeypatch):
    ours = CheckpointLoader.load_checkpoint.__func__
    assert hasattr(ours, '__wrapped__')
    stock = classmethod(ours.__wrapped__)
    CheckpointLoader.load_checkpoint = stock
    monkeypatch.setattr(Runner, 'resume', lambda self, filename: None)
    monkeypatch.setattr(BaseInferencer, '_init_model', lambda self, cfg, weights: None)
    compat.disarm_config_text()
    assert CheckpointLoader.__dict__['load_checkpoint'] is stock
    monkeypatch.undo()
    compat.disarm_config_text()
    assert CheckpointLoader.__dict__['load_checkpoint'] is not stock
    wrapped = CheckpointLoader.__dict__['load_checkpoint']
    compat.disarm_config_text()
    assert CheckpointLoader.__dict__['load_checkpoint'] is wrapped


def test_the_metrics_of_a_test_are_written_by_one_rank(monkeypatch):
    hooks, written = compat.mmengine_logger_hook, []

    def dump(*what):
        written.append(what)

    monkeypatch.setattr(hooks, 'dump', dump)
    compat.write_test_metrics_once()
    for rank in (1, 0):
        monkeypatch.setattr('mmengine.dist.utils.get_rank', lambda group=None, rank=rank: rank)
        hooks.dump({'WAR': rank}, 'metrics.json')
    assert written == [({'WAR': 0}, 'metrics.json')]

    whole = type('Whole', (), {'after_test_epoch': lambda self: is_main_process()})
    monkeypatch.setattr(hooks, 'dump', dump)
    monkeypatch.setattr(compat, 'LoggerHook', whole)
    compat.write_test_metrics_once()
    assert hooks.dump is dump


def test_a_config_is_formatted_once_while_it_stays_the_same(monkeypatch):
    calls, upstream = [], compat.mmengine_config.FormatCode.__wrapped__

    def count(text, **options):
        calls.append(text)
        return upstream(text, **options)

    monkeypatch.setattr(compat.mmengine_config, 'FormatCode', count)
    config = Config(dict(model=dict(type='A', layers=[1, 2]), epochs=3))
    expected = config.pretty_text
    compat.format_configs_once()
    calls.clear()
    assert [config.pretty_text, config.pretty_text] == [expected, expected]
    assert len(calls) == 1
    config.epochs = 4
    assert config.pretty_text == expected.replace('3', '4')
    assert len(calls) == 2


def test_apply_twice_is_apply_once():
    compat.apply()
    before = dict(CheckpointLoader._schemes), upstream.load_url
    compat.apply()
    assert (dict(CheckpointLoader._schemes), upstream.load_url) == before
    assert CheckpointLoader._schemes[''] is compat.load_from_local


PATCHED = {
    'load_urls_safely': (upstream, 'load_url'),
    'disarm_config_text': (CheckpointLoader, 'load_checkpoint'),
    'write_test_metrics_once': (compat.mmengine_logger_hook, 'dump'),
    'score_bfloat16': (BaseHead, 'loss_by_feat'),
    'compare_our_metrics': (CheckpointHook, '_init_rule'),
    'hand_backbone_to_preprocessor': (BaseRecognizer, '__init__'),
    'hand_model_to_datasets': (Runner, '__init__'),
    'join_cpu_ranks': (Runner, 'setup_env'),
    'pass_on_folders': (Config, '_merge_a_into_b'),
    'find_own_configs': (Config, '_get_cfg_path'),
    'format_configs_once': (compat.mmengine_config, 'FormatCode'),
}


def wrap(function):
    """Wrap a function as another package would that does not know this one."""

    @functools.wraps(function)
    def foreign(*args, **kwargs):
        return function(*args, **kwargs)

    return foreign


@pytest.mark.parametrize('name', PATCHED)
def test_a_patch_of_another_package_neither_hinders_nor_doubles_ours(name, monkeypatch):
    patch = getattr(default_encoder if name == 'hand_model_to_datasets' else compat, name)
    owner, attribute = PATCHED[name]
    for also, other in (
        (EarlyStoppingHook, '_init_rule'),
        *((module, get) for module in (hub, hub.hub) for get in ('get_config', 'get_model')),
    ):
        monkeypatch.setattr(also, other, getattr(also, other))  # restored afterwards

    def current():
        found = vars(owner)[attribute]
        return getattr(found, '__func__', found)

    kind = type(vars(owner)[attribute])
    bind = kind if kind in (staticmethod, classmethod) else lambda function: function
    below = wrap(current().__wrapped__)
    monkeypatch.setattr(owner, attribute, bind(below))
    patch()
    ours = current()
    assert ours is not below and ours.__wrapped__ is below
    patch()
    assert current() is ours
    above = wrap(ours)
    monkeypatch.setattr(owner, attribute, bind(above))
    patch()
    assert current() is above


# ---------------------------------------------------------------- ranks without CUDA


@pytest.fixture
def joined(monkeypatch):
    """Record the process groups that init_cpu_ranks starts, as on a machine without a GPU."""
    backends = []
    monkeypatch.setattr(compat, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(torch.distributed, 'init_process_group', backends.append)
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.setenv(name, 'x')  # so that monkeypatch restores it
        monkeypatch.delenv(name)
    return backends


def test_ranks_are_left_to_mmengine_where_it_can(joined, monkeypatch):
    compat.init_cpu_ranks('none')
    monkeypatch.setattr(compat, 'is_distributed', lambda: True)
    compat.init_cpu_ranks('pytorch')
    monkeypatch.setattr(compat, 'is_distributed', lambda: False)
    monkeypatch.setattr(compat, 'get_device', lambda: 'cuda')
    compat.init_cpu_ranks('pytorch')
    assert joined == []


def test_slurm_ranks_join_over_gloo(joined, monkeypatch, tmp_path):
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text(f'#!/bin/sh\necho "$3" > {tmp_path}/asked\necho n1\necho n2\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    nodes = 'n[1-2]; touch ' + str(tmp_path / 'executed')
    slurm = dict(SLURM_PROCID='3', SLURM_NTASKS='4', SLURM_NODELIST=nodes)
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    compat.init_cpu_ranks('slurm')
    assert joined == ['gloo']
    found = [os.environ[name] for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')]
    assert found == ['3', '4', 'n1', '29500']
    assert (
        tmp_path / 'asked'
    ).read_text().strip() == nodes  # passed as one argument, not through a shell
    assert not (tmp_path / 'executed').exists()


def test_ranks_without_their_environment_end_in_one_line(joined, monkeypatch):
    with pytest.raises(DFERError, match="'pytorch'.*RANK.*dist_train.sh"):
        compat.init_cpu_ranks('pytorch')
    with pytest.raises(DFERError, match="'horovod' is unknown"):
        compat.init_cpu_ranks('horovod')
    monkeypatch.setenv('OMPI_COMM_WORLD_RANK', '0')
    monkeypatch.setenv('OMPI_COMM_WORLD_SIZE', '1')
    with pytest.raises(DFERError, match='MASTER_ADDR'):
        compat.init_cpu_ranks('mpi')
    assert joined == []


def test_a_taken_port_ends_in_one_line(monkeypatch):
    monkeypatch.setattr(compat, 'get_device', lambda: 'cpu')
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        ranks = dict(RANK='0', WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
        for name, value in ranks.items():
            monkeypatch.setenv(name, value)
        said = rf'^MASTER_PORT={port} on 127\.0\.0\.1: .*another program uses this port; set'
        with pytest.raises(DFERError, match=said) as caught:
            compat.init_cpu_ranks('pytorch')
    assert '\n' not in str(caught.value)


# ---------------------------------------------------------------- bf16 without a GPU


def test_heads_score_bfloat16_and_leave_the_rest_alone(monkeypatch):
    head = TSNHead(num_classes=3, in_channels=4)
    scores = torch.randn(2, 3).bfloat16()
    samples = [ActionDataSample().set_gt_label(label) for label in (0, 2)]
    ours = head.loss_by_feat(scores, samples)
    upstream = BaseHead.loss_by_feat.__wrapped__
    with pytest.raises(TypeError, match='BFloat16'):
        upstream(head, scores, samples)
    exact = upstream(head, scores.float(), samples)
    assert ours.keys() == exact.keys() and all(torch.equal(ours[k], exact[k]) for k in exact)
    assert head.loss_by_feat(scores.double(), samples)['loss_cls'].dtype == torch.float64
    monkeypatch.setattr(BaseHead, 'loss_by_feat', lambda self, scores, samples: {})
    whole = BaseHead.loss_by_feat
    compat.score_bfloat16()
    assert BaseHead.loss_by_feat is whole
