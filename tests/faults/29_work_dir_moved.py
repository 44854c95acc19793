"""29. A work dir that was moved: --resume takes the checkpoint before the newest (mmengine#80,
ray#28082: the file last_checkpoint holds a path).

Right: goes on from the newest in the folder.
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
import re

config('coop/coop_synth.py', coop(2), 'two.py')
config('coop/coop_synth.py', coop(3), 'three.py')
done = tool('train.py', TMP / 'two.py', '--work-dir', TMP / 'wd')
assert done[0] == 0, end(done)
(TMP / 'wd').rename(TMP / 'moved')
done = tool('train.py', TMP / 'three.py', '--work-dir', TMP / 'moved', '--resume')
found = re.search(r'resumed epoch: (\d+)', done[1])
verdict(done[0] == 0 and found and found[1] == '2', f'resumed from epoch {found and found[1]} of 2; {end(done)[:120]}')
