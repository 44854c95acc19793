"""3. A feature bank is reused for other pictures of the same clip names (gtad#16, pytorch/vision#6234).

Right: refused, or encoded anew.
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


# a drawn tree in DFEW's layout, read at 64 pixels over the small CLIP
FRAMES64 = """
model = dict(backbone=dict(arch='synth-clip', weights=None))
train_view = [
    dict(type='ClipInit'), dict(type='SampleSegments', clip_len=16), dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 69)), dict(type='RandomCrop', size=64),
    dict(type='Flip', flip_ratio=0.5), dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs')]
test_view = [
    dict(type='ClipInit'), dict(type='SampleSegments', clip_len=16, test_mode=True),
    dict(type='ClipDecode'), dict(type='Resize', scale=(-1, 69)), dict(type='CenterCrop', crop_size=64),
    dict(type='FormatShape', input_format='NCTHW'), dict(type='PackActionInputs')]
train_dataloader = dict(batch_size=8, num_workers=0, dataset=dict(
    num_workers=0, dataset=dict(num_views=2, pipeline=train_view)))
val_dataloader = dict(num_workers=0, dataset=dict(num_workers=0, dataset=dict(pipeline=test_view)))
test_dataloader = val_dataloader
"""


def tree(root, *flags):
    done = tool('make_synthetic.py', '--layout', 'dfew', root, '--clips', '35', '--size', '64', '--workers', '1', *flags)
    assert done[0] == 0, done[1][-300:]


# ---- the test
from PIL import Image, ImageOps

tree(TMP / 'one' / 'DFEW')
shutil.copytree(TMP / 'one', TMP / 'two', symlinks=False)
for path in (TMP / 'two').rglob('*.jpg'):
    with Image.open(path) as picture:
        other = ImageOps.invert(picture.convert('RGB'))
    path.unlink()
    other.save(path)
cfg = config('coop/coop_dfew.py', FRAMES64)
first = tool('extract_features.py', cfg, '--bank', 'bank', MMDFER_DATA=str(TMP / 'one'))
assert first[0] == 0, end(first)
file = TMP / 'bank' / 'test' / 'vectors.f16'
before = file.read_bytes()
second = tool('extract_features.py', cfg, '--bank', 'bank', MMDFER_DATA=str(TMP / 'two'))
if second[0] != 0:
    verdict(refused(second), end(second))
changed = file.read_bytes() != before
verdict(changed, 'encoded anew' if changed else 'the bank of the first pictures is taken for the second, inverted ones, without a word')
