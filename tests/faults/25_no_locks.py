"""25. No flock on the cluster's file system (filelock#6, #77; Lustre without -o flock).

Right: one line that names the folder and a remedy, or it works without locks; no endless waiting.
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
import errno, fcntl, threading


def flock(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


fcntl.flock = flock
import mmdfer
from mmdfer.features.bank import open_bank
from mmdfer.errors import DFERError


def late():
    say('FAIL', 'open_bank still waits for a lock after 25 s')
    shutil.rmtree(TMP, True)
    os._exit(1)


timer = threading.Timer(25, late)
timer.daemon = True
timer.start()
try:
    open_bank(TMP / 'bank', {}, ['x'], lambda: (1, 1, 16, 8))
    good, said = True, 'works without locks'
except DFERError as error:
    good, said = 'bank' in str(error), f'DFERError {error}'
except Exception as error:
    good, said = False, f'{type(error).__name__}: {error}'
timer.cancel()
verdict(good, said)
