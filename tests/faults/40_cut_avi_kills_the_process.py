"""40. A truncated .avi kills the process: decord dies of SIGSEGV where it reads from memory, as
MMAction2's DecordInit has it (compare dmlc/decord#229, #156). A .avi is what datasets/licensed/discovery.py takes for a clip.

Right: UnreadableClipError, or the frames that are there.
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


# ---- videos whose frames carry their number as eight black or white blocks
def ffmpeg_binary():
    try:
        import imageio_ffmpeg
        return imageio_ffmpeg.get_ffmpeg_exe()
    except ImportError:
        if (found := shutil.which('ffmpeg')) is None:
            say('SCRIPT BROKEN', 'needs ffmpeg: pip install imageio-ffmpeg')
            os._exit(2)
        return found


FFMPEG = ffmpeg_binary()
X264 = ('-c:v', 'libx264', '-pix_fmt', 'yuv420p')


def ffmpeg(*args, data=None):
    done = subprocess.run([FFMPEG, '-v', 'error', '-y', *map(str, args)], input=data, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-200:]
    return done.stdout


def picture(number, width=128, height=128):
    grid = [[number >> (4 * row + column) & 1 for column in range(4)] for row in range(2)]
    rows, columns = np.arange(height) * 2 // height, np.arange(width) * 4 // width
    return np.repeat((np.array(grid)[rows][:, columns] * 255).astype(np.uint8)[..., None], 3, -1)


def video(name, *args, frames=40, width=128, height=128):
    raw = b''.join(picture(i, width, height).tobytes() for i in range(frames))
    ffmpeg('-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', f'{width}x{height}', '-r', 25, '-i', '-',
           *args, TMP / name, data=raw)
    return TMP / name


def number(image):
    image = np.asarray(image, float).mean(-1)
    height, width = image.shape
    total = 0
    for bit in range(8):
        y, x = int((bit // 4 + 0.5) * height / 2), int((bit % 4 + 0.5) * width / 4)
        total |= int(image[y - 3 : y + 4, x - 3 : x + 4].mean() > 127) << bit
    return total


def central(frames):
    """The numbers that the test view of a clip of so many frames should show."""
    edges = np.arange(17) * frames // 16
    return [int(e + n // 2) if frames > 16 else int(e) for e, n in zip(edges, np.diff(edges))]


def shown(answer):
    """The numbers read, or what happened, in words."""
    if answer[0] == 'ok':
        return [number(image) for image in answer[1]]
    return f'{answer[0]} {answer[1].split(" ")[0]} {" ".join(answer[2].split())[-150:]}'.strip()


# ---- the test
said, good = [], True
for name, codec in dict(mpeg4=('-c:v', 'mpeg4', '-q:v', 3), mjpeg=('-c:v', 'mjpeg', '-q:v', 3)).items():
    whole = video(f'{name}.avi', *codec, frames=250).read_bytes()
    cut = TMP / f'{name}_cut.avi'
    cut.write_bytes(whole[: len(whole) * 7 // 10])
    answer = read(cut)
    fine = answer[0] == 'ok' or 'DFERError' in answer[1]
    good &= fine
    said.append(f'{name}: {answer[0]} {answer[1].split()[0] if answer[0] != "ok" else ""}')
verdict(good, '; '.join(said))
