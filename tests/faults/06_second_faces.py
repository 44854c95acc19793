"""6. Pictures called <frame>_<face>.jpg (deepfakes/faceswap#491, facenet-pytorch) are put in a wrong order.

Right: in the order of the frames, or an error.
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


# ---- the test
from mmdfer.datasets.transforms.frame_reader import list_frames
from mmdfer.errors import DFERError


def frames_of(folder, names):
    (TMP / folder).mkdir()
    for name in names:
        (TMP / folder / name).write_bytes(b'x')
    try:
        return [int(name.split('.')[0].split('_')[0]) for name in list_frames(TMP / folder)]
    except DFERError:
        return []


first = frames_of('zero', [f'{i}_0.jpg' for i in range(12)])
second = frames_of('faces', [n for i in range(1, 7) for n in (f'{i:04d}.jpg', f'{i:04d}_2.jpg')])
bad = [order for order in (first, second) if order != sorted(order)]
verdict(not bad, f'frames in the order {bad[0]}' + (f' and {bad[1]}' if bad[1:] else '') if bad else 'in order, or refused')
