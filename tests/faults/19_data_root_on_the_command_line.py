"""19. data_root in --cfg-options has no effect, and the error asks for just that (mmengine#560,
mmdetection#2957, #6915).

Right: the line names MMDFER_DATA, or the key that works.
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


# ---- the test
(TMP / 'mine').mkdir()
done = tool('train.py', ROOT / 'configs/align_dfer_dfew.py', '--cfg-options', f'data_root={TMP / "mine"}',
            'model.backbone.arch=synth-clip', 'model.backbone.weights=None', MMDFER_DATA=str(TMP / 'nowhere'))
line = end(done)
helps = refused(done) and ('MMDFER_DATA' in line or 'dataloader.dataset.dataset.data_root' in line or str(TMP / 'mine') in line)
verdict(helps, line)
