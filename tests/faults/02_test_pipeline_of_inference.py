"""2. MMAction2's inference_recognizer takes cfg.test_pipeline (open-mmlab/mmaction2#2866).

Right: in every config that has one it is the pipeline of test_dataloader.
"""

# ---- common part: the product from PYTHONPATH, a folder of our own, one line of output
import atexit, importlib.util, os, shutil, subprocess, sys, tempfile, time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS='1', HF_HUB_OFFLINE='1')
PRODUCT = Path(importlib.util.find_spec('mmdfer').origin).resolve().parent
ROOT = PRODUCT / '.mim' if (PRODUCT / '.mim').is_dir() else PRODUCT.parent  # configs/ and tools/
TMP = Path(tempfile.mkdtemp(prefix='repro_'))
MAIN = os.getpid()
atexit.register(lambda: os.getpid() == MAIN and shutil.rmtree(TMP, True))
SAY = os.dup(1)
os.dup2(os.open(TMP / 'log', os.O_RDWR | os.O_CREAT | os.O_APPEND), 1)
os.dup2(1, 2)


def say(word, text):
    os.write(SAY, f'{Path(__file__).stem}: {word}: {" ".join(str(text).split())[:330]}\n'.encode())


def verdict(good, text):
    """Prints the line; ends with 0 where the product behaves rightly, else with 1."""
    say('PASS' if good else 'FAIL', text)
    sys.exit(0 if good else 1)


def broken(kind, error, trace):
    """The script itself failed, which tells nothing of the product: 2."""
    while trace.tb_next: trace = trace.tb_next
    say('SCRIPT BROKEN', f'{kind.__name__} in line {trace.tb_lineno}: {error}')
    shutil.rmtree(TMP, True)
    os._exit(2)


sys.excepthook = broken


import pickle, signal
import numpy as np
import torch
torch.set_num_threads(1)
import mmdfer
from mmengine.registry import init_default_scope
init_default_scope('mmaction')
from mmdfer.datasets.base import DFERDataset
from mmdfer.errors import DFERError


class Clips(DFERDataset):
    """Some clips by their paths."""

    METAINFO = dict(classes=('a', 'b'), dataset='repro')

    def __init__(self, paths, pipeline, **kwargs):
        self.paths = list(map(str, paths))
        super().__init__('', pipeline, **kwargs)

    def load_data_list(self):
        return [dict(filename=p, label=i % 2, clip=f'c{i}') for i, p in enumerate(self.paths)]


def sixteen(test):
    """The frames as they are, sixteen of them."""
    return [dict(type='ClipInit'), dict(type='SampleSegments', clip_len=16, test_mode=test),
            dict(type='ClipDecode'), dict(type='FormatShape', input_format='NCTHW'),
            dict(type='PackActionInputs')]


def guarded(call, seconds=15):
    """Calls in a process of its own: ('ok', value), ('error', exception's name, message),
    ('hang', '', '') or ('died', signal, '')."""
    file = TMP / f'answer{time.monotonic_ns()}'
    pid = os.fork()
    if pid == 0:
        try:
            answer = 'ok', call()
        except BaseException as error:
            names = [k.__name__ for k in type(error).__mro__]
            answer = 'error', ' '.join(names), str(error)
        file.write_bytes(pickle.dumps(answer))
        os._exit(0)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status):
                return 'died', signal.Signals(os.WTERMSIG(status)).name, ''
            return pickle.loads(file.read_bytes())
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 'hang', '', ''


def read(path, view=None, seconds=15):
    """The frames (16, H, W, 3) of the test view, or of a training view, of one clip."""
    def call():
        test = view is None
        data = Clips([path], sixteen(test), test_mode=test).read_view(0, view or 0)
        return data['inputs'][0].permute(1, 2, 3, 0).numpy()
    return guarded(call, seconds)


# ---- the test
from mmaction.apis import inference_recognizer, init_recognizer
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

odd = []
for path in sorted((ROOT / 'configs').rglob('*.py')):
    if '_base_' in path.parts:
        continue
    cfg = Config.fromfile(path)
    if cfg.get('test_pipeline') and cfg.get('test_dataloader'):
        dataset = cfg.test_dataloader.dataset
        if dataset.type == 'EncodedClips':
            dataset = dataset.dataset
        if cfg.test_pipeline != dataset.pipeline:
            odd.append(path.stem)
(TMP / 'clip').mkdir()
for i in range(20):
    Image.fromarray(np.full((120, 120, 3), 10 * i, np.uint8)).save(TMP / 'clip' / f'{i}.png')
cfg = Config.fromfile(ROOT / 'configs/r3d18/r3d18_dfew.py')
cfg.model.backbone.pretrained = None
model, given = init_recognizer(cfg, None, 'cpu'), []
model.test_step = lambda data: given.append(tuple(data['inputs'][0].shape)) or [ActionDataSample()]
inference_recognizer(model, str(TMP / 'clip'))
tested = Clips([TMP / 'clip'], cfg.test_dataloader.dataset.pipeline, test_mode=True).read_view(0, 0)
want = tuple(tested['inputs'].shape)
verdict(not odd and given[0] == want,
        f'{len(odd)} configs have another test_pipeline than they test with ({", ".join(odd[:4])}...); '
        f'r3d18_dfew is given {given[0]} by inference_recognizer, {want} in testing')
