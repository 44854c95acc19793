"""7. --resume on a fresh run takes the config's load_from away (mmdetection#12454, mmyolo#245).

Right: the weights are loaded, or an error. Here tokens of 0.5 and a rate of 0: they must stay 0.5.
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


def tool(name, *args, timeout=50, **env):
    """Runs a tool of the product: its exit status ('hang' where it does not end), all it printed."""
    path = os.pathsep.join([str(PRODUCT.parent), str(TMP), os.environ.get('PYTHONPATH', '')])
    env = {**os.environ, 'MMDFER_DATA': str(TMP), 'PYTHONPATH': path, **env}
    command = [sys.executable, str(ROOT / 'tools' / name), *map(str, args)]
    try:
        done = subprocess.run(command, cwd=TMP, env=env, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=timeout)
    except subprocess.TimeoutExpired:
        return 'hang', ''
    return done.returncode, done.stdout.decode(errors='replace')


def refused(result):
    """Whether it ended as the product promises: status 1, one line 'error: ...', no traceback."""
    code, out = result
    return code == 1 and 'Traceback' not in out and any(l.startswith('error') for l in out.splitlines())


def end(result):
    """The exit status and the last line."""
    lines = [l for l in result[1].splitlines() if l.strip() and 'Warning' not in l] or ['']
    return f'exit {result[0]}: {lines[-1].strip()[:200]}'


def config(base, text, name='small.py'):
    """Writes a config that is based on one of the product's."""
    (TMP / name).write_text(f'_base_ = [{str(ROOT / "configs" / base)!r}]\n{text}')
    return TMP / name


# 32 training and 14 test clips of the synthetic benchmark, made by the product on first use
SYNTH = """
train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False, dataset=dict(
    num_workers=0, dataset=dict(num_train=32, num_test=14, num_views=2)))
val_dataloader = dict(num_workers=0, dataset=dict(
    num_workers=0, dataset=dict(num_train=32, num_test=14)))
test_dataloader = val_dataloader
default_hooks = dict(checkpoint=dict(max_keep_ckpts=-1), logger=dict(interval=1))
"""


def coop(epochs):
    """CoOp, the smallest thing that trains."""
    return SYNTH + f"""
train_cfg = dict(max_epochs={epochs}, val_interval=1)
param_scheduler = [dict(type='CosineAnnealingLR', T_max={epochs}, eta_min=0, by_epoch=True,
                        convert_to_iter_based=True)]
"""


# ---- the test
import torch
from mmdfer.compat import load_from_local
torch.save(dict(state_dict={'cls_head.tokens': torch.full((1, 16, 128), 0.5)}), TMP / 'begin.pth')
cfg = config('coop/coop_synth.py', coop(1) + f"""
load_from = {str(TMP / 'begin.pth')!r}
optim_wrapper = dict(optimizer=dict(lr=0.0))
""")


def tokens(*flags):
    done = tool('train.py', cfg, '--work-dir', 'wd' + str(len(flags)), *flags)
    if done[0] != 0:
        return done
    return load_from_local(TMP / f'wd{len(flags)}' / 'epoch_1.pth')['state_dict']['cls_head.tokens']


plain = tokens()
if isinstance(plain, tuple):  # another width of the small CLIP
    raise RuntimeError(end(plain))
assert torch.allclose(plain, torch.tensor(0.5)), f'without --resume load_from is not loaded either: {plain.shape}'
resumed = tokens('--resume')
if isinstance(resumed, tuple):
    verdict(refused(resumed), end(resumed))
kept = torch.allclose(resumed, torch.tensor(0.5))
verdict(kept, 'load_from is loaded' if kept else 'train.py --resume in a new work dir trains from random weights; load_from is dropped without a warning')
