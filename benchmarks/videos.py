"""Read video files of many kinds, and compare each frame with the output of the ffmpeg program.

    pip install imageio-ffmpeg                                   # the ffmpeg that makes the files
    python benchmarks/videos.py                                  # about two minutes
    python benchmarks/videos.py --long --write docs/videos.md    # also a film of two hours

Each encoded frame shows its number as black and white blocks, and different colours in all four
corners. The number and the orientation of a frame can therefore be checked without trusting FFmpeg.
The exit status is 1 if any file was read wrongly.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import platform
import re
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import av
import numpy as np

from mmdfer.datasets.transforms.video_reader import VideoReader
from mmdfer.errors import DFERError, UnreadableClipError, one_line_errors
from mmdfer.tables import markdown_table

FRAMES, WIDTH, HEIGHT = 40, 128, 128
# The largest mean difference between the colours read and those of ffmpeg, in levels of 0..255.
MOST_DIFFERENCE = 1.0
MOST_SECONDS = 2.0  # for refusing a damaged file
ROWS, COLUMNS = 3, 6  # of the blocks that show a frame's number in 18 bits
LONG_FRAMES, LONG_MEGABYTES = 180_000, 200

X264 = ('-c:v', 'libx264', '-pix_fmt', 'yuv420p')
X265 = ('-c:v', 'libx265', '-preset', 'ultrafast', '-x265-params')
VP8 = ('-c:v', 'libvpx', '-b:v', '1M', '-deadline', 'realtime')
VP9 = ('-c:v', 'libvpx-vp9', '-b:v', '1M', '-cpu-used', 8)
MPEG4 = ('-c:v', 'mpeg4', '-q:v', 3)
# The values a, b, c, d of a display matrix in a track header (ISO/IEC 14496-12): the pixel (x, y)
# is shown at (a x + c y, b x + d y).
MATRICES = {
    'turned by 90 degrees': (0, 1, -1, 0),
    'turned by 180 degrees': (-1, 0, 0, -1),
    'turned by 270 degrees': (0, -1, 1, 0),
    'mirrored left to right': (-1, 0, 0, 1),
    'mirrored upside down': (1, 0, 0, -1),
    'mirrored along a diagonal': (0, 1, 1, 0),
    'mirrored along the other diagonal': (0, -1, -1, 0),
}


# ---------------------------------------------------------------- frames that carry a number


def draw(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Draw a frame with the bits of its number in the upper half and colours in the lower half.

    Args:
        number: The number of the frame, below 2 ** 18.
        width: The width of the frame in pixels.
        height: The height of the frame in pixels.

    Returns:
        The frame, RGB uint8 (height, width, 3).
    """
    image = np.empty((height, width, 3), np.uint8)
    upper = height // 2
    rows, columns = np.arange(upper) * ROWS // upper, np.arange(width) * COLUMNS // width
    image[:upper] = (number >> (rows[:, None] * COLUMNS + columns) & 1)[..., None] * 255
    image[upper:, :, 0] = np.arange(width) * 255 // width
    image[upper:, :, 1] = (np.arange(height - upper) * 255 // (height - upper))[:, None]
    image[upper:, :, 2] = number * 6 % 256
    return image


def read_number(image: np.ndarray) -> int:
    """Return the number that was drawn into a frame, which lossy compression may have changed."""
    height, width = image.shape[:2]
    upper, number = height // 2, 0
    for bit, (row, column) in enumerate(itertools.product(range(ROWS), range(COLUMNS))):
        y, x = int((row + 0.5) * upper / ROWS), int((column + 0.5) * width / COLUMNS)
        number |= int(image[y - 1 : y + 2, x - 1 : x + 2].mean() > 127) << bit
    return number


def turn(image: np.ndarray, matrix: Sequence[int]) -> np.ndarray:
    """Turn or mirror a frame by a display matrix.

    Args:
        image: The frame (H, W, 3).
        matrix: The values a, b, c, d. The pixel (x, y) moves to (a x + c y, b x + d y). Then all
            pixels are shifted so that no coordinate is negative.
    """
    a, b, c, d = matrix
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    to_x, to_y = a * x + c * y, b * x + d * y
    to_x, to_y = to_x - to_x.min(), to_y - to_y.min()
    turned = np.empty((to_y.max() + 1, to_x.max() + 1, *image.shape[2:]), image.dtype)
    turned[to_y, to_x] = image
    return turned


def is_upright(image: np.ndarray, number: int) -> bool:
    """Return whether a frame is closer to the drawn frame than to each turned or mirrored one."""
    height, width = image.shape[:2]
    brightness = (0.3, 0.6, 0.1)  # weights of red, green and blue, since a video may be grey

    def distance(other: np.ndarray) -> float:
        return float(np.abs(image @ brightness - other @ brightness).mean())

    upright = distance(draw(number, width, height))
    for matrix in MATRICES.values():
        size = (height, width) if matrix[0] == 0 else (width, height)
        if distance(turn(draw(number, *size), matrix)) < 2 * upright:
            return False
    return True


# ---------------------------------------------------------------- files


def find_ffmpeg() -> str:
    """Return the path of the ffmpeg program.

    Raises:
        DFERError: If imageio-ffmpeg is not installed.
    """
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise DFERError(
            'there is no ffmpeg to make the files; install one: pip install imageio-ffmpeg'
        ) from error
    return imageio_ffmpeg.get_ffmpeg_exe()


def run_ffmpeg(*arguments: object, data: bytes | None = None) -> bytes:
    """Run ffmpeg and return its standard output.

    Args:
        arguments: The command line arguments.
        data: The standard input.

    Raises:
        RuntimeError: If ffmpeg fails, for example because it was built without an encoder.
    """
    command = [find_ffmpeg(), '-v', 'error', '-y', *map(str, arguments)]
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors='replace').strip()[-300:])
    return done.stdout


def encode(
    target: Path | str,
    *arguments: object,
    frames: Iterable[int] = range(FRAMES),
    size: tuple[int, int] = (WIDTH, HEIGHT),
    stored: Callable[[np.ndarray], np.ndarray] = lambda image: image,
) -> bytes:
    """Draw frames and encode them.

    Args:
        target: The file to write, or ``-`` for a stream that cannot be rewound, like those that
            browsers record.
        arguments: The arguments of ffmpeg that choose the codec and the container.
        frames: The numbers of the frames.
        size: The width and the height of the drawn frames in pixels.
        stored: A function that changes each frame before it is encoded.

    Returns:
        The stream that was written to ``-``, which is empty if ``target`` is a file.
    """
    images = [stored(draw(number, *size)) for number in frames]
    height, width = images[0].shape[:2]
    source = ('-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', f'{width}x{height}', '-r', 25)
    return run_ffmpeg(*source, '-i', '-', *arguments, target, data=b''.join(map(bytes, images)))


def write_matrix(source: Path, target: Path, matrix: Sequence[int]) -> None:
    """Copy an MP4 file and write a display matrix into the track header (tkhd, version 0)."""
    content = bytearray(source.read_bytes())
    a, b, c, d = (value * 2**16 for value in matrix)
    place = content.index(b'tkhd') + 4 + 40
    content[place : place + 36] = struct.pack('>9i', a, b, 0, c, d, 0, 0, 0, 2**30)
    target.write_bytes(content)


@dataclass
class Film:
    """Describe a video file that was made.

    Attributes:
        name: The name of the file.
        special: What distinguishes the file from an ordinary video.
        numbers: The numbers of the frames that the file shows, or None for a damaged file.
    """

    name: str
    special: str
    numbers: Sequence[int] | None = field(default_factory=lambda: range(FRAMES))


class Studio:
    """Make the video files.

    Args:
        folder: The folder in which to write the files.

    Attributes:
        films: The files that were made.
        missing: The names of the files that this ffmpeg cannot make, each with the reason.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.films: list[Film] = []
        self.missing: list[str] = []

    def make_all(self) -> None:
        """Make every file."""
        for make in (
            self._make_h264,
            self._make_colours,
            self._make_other_codecs,
            self._make_recorded,
            self._make_turned,
            self._make_trimmed,
            self._make_copies,
            self._make_joined,
            self._make_named,
            self._make_damaged,
        ):
            make()

    def _encode(self, name: str, special: str, *arguments: object, **options: object) -> None:
        """Encode frames to a file, or note in ``missing`` that this ffmpeg cannot."""
        try:
            encode(self.folder / name, *arguments, **options)
        except RuntimeError as error:
            self.missing.append(f'{name} ({str(error).splitlines()[0]})')
            return
        self.films.append(Film(name, special, options.get('frames', range(FRAMES))))

    def _write(self, name: str, special: str, content: bytes, numbers: Sequence[int]) -> None:
        (self.folder / name).write_bytes(content)
        self.films.append(Film(name, special, numbers))

    def _copy(self, name: str, special: str, *arguments: object, numbers: Sequence[int]) -> None:
        """Make a file by copying an encoded stream into another container."""
        run_ffmpeg(*arguments, '-c', 'copy', self.folder / name)
        self.films.append(Film(name, special, numbers))

    def _read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def _make_h264(self) -> None:
        add = self._encode
        add('plain.mp4', 'three B frames, one GOP', *X264, '-bf', 3, '-g', 250)
        add('plain.mov', 'three B frames', *X264, '-bf', 3)
        add('plain.mkv', 'three B frames', *X264, '-bf', 3)
        add('plain.flv', 'three B frames', *X264, '-bf', 3)
        add('plain.ts', 'three B frames', *X264, '-bf', 3)
        add('no_b.mp4', 'no B frames', *X264, '-bf', 0)
        add('no_b.avi', 'no B frames', *X264, '-bf', 0)
        add('b.avi', 'two B frames, which AVI cannot order', *X264, '-bf', 2)
        add('intra.mp4', 'key frames only', *X264, '-g', 1)
        add('gop.mp4', 'GOPs of 12 frames', *X264, '-g', 12)
        open_gop = ('-bf', 3, '-g', 12, '-x264-params', 'open-gop=1')
        add('open_gop.mp4', 'open GOPs of 12 frames', *X264, *open_gop)
        add('open_gop.mkv', 'open GOPs of 12 frames', *X264, *open_gop)
        add('faststart.mp4', 'index before the frames', *X264, '-movflags', '+faststart')
        fragments = '+frag_keyframe+empty_moov+default_base_moof'
        add('fragments.mp4', 'fragments', *X264, '-g', 12, '-movflags', fragments)
        add('interlaced.mp4', 'interlaced', *X264, '-flags', '+ilme+ildct')
        add('interlaced.mkv', 'interlaced', *X264, '-flags', '+ilme+ildct')
        uneven = ('-vf', "setpts='(N+5*floor(N/7))/25/TB'", '-fps_mode', 'vfr')
        add('uneven.mp4', 'variable frame rate', *uneven, *X264)
        add('uneven.mkv', 'variable frame rate', *uneven, *X264)
        add('one.mp4', 'one frame', *X264, frames=range(1))
        add('two.mp4', 'two frames', *X264, frames=range(2))
        add('small.mp4', '36 x 24 pixels', *X264, size=(36, 24))
        add('hd.mp4', '1280 x 720 pixels', *X264, size=(1280, 720))
        add('odd.mkv', '126 x 110 pixels, cropped from whole blocks', *X264, size=(126, 110))
        add('stream.264', 'no container', *X264)

    def _make_colours(self) -> None:
        def add(name: str, special: str, pix_fmt: str, *arguments: object, **options: object):
            codec = ('-c:v', 'libx264', '-pix_fmt', pix_fmt)
            self._encode(name, special, *codec, *arguments, **options)

        def matrix(name: str, matrix: str, out_range: str = 'tv') -> tuple[str, ...]:
            scale = f'scale=out_color_matrix={matrix}:out_range={out_range}'
            return ('-vf', scale, '-colorspace', name, '-color_range', out_range)

        add('ten_bit.mp4', '10 bits', 'yuv420p10le')
        add('odd_444.mp4', '4:4:4, 321 x 241 pixels', 'yuv444p', size=(321, 241))
        add('422.mp4', '4:2:2', 'yuv422p')
        add('grey.mp4', 'grey', 'gray')
        add('full.mp4', 'full range', 'yuvj420p', *matrix('smpte170m', 'bt601', 'pc'))
        add('bt601.mp4', 'BT.601', 'yuv420p', *matrix('smpte170m', 'bt601'))
        add('bt709.mp4', 'BT.709', 'yuv420p', *matrix('bt709', 'bt709'))
        add('bt709_full.mkv', 'BT.709, full range', 'yuvj420p', *matrix('bt709', 'bt709', 'pc'))
        add('bt2020.mp4', 'BT.2020, 10 bits', 'yuv420p10le', *matrix('bt2020nc', 'bt2020'))
        self._encode('rgb.mp4', 'RGB', '-c:v', 'libx264rgb', '-pix_fmt', 'rgb24', '-crf', 5)

    def _make_other_codecs(self) -> None:
        add = self._encode
        add('hevc.mp4', 'B frames', *X265, 'log-level=none', '-pix_fmt', 'yuv420p')
        add('hevc_10.mp4', '10 bits', *X265, 'log-level=none', '-pix_fmt', 'yuv420p10le')
        open_gop = 'log-level=none:open-gop=1:keyint=12:bframes=3'
        add('hevc_open_gop.mkv', 'open GOPs', *X265, open_gop, '-pix_fmt', 'yuv420p')
        add('av1.mp4', '', '-c:v', 'libsvtav1', '-crf', 30, '-pix_fmt', 'yuv420p')
        add('av1.webm', '', '-c:v', 'libsvtav1', '-crf', 30, '-pix_fmt', 'yuv420p')
        add('vp8.webm', 'hidden frames', *VP8[:4], '-auto-alt-ref', 1, '-lag-in-frames', 16)
        add('alpha.webm', 'alpha', *VP8, '-pix_fmt', 'yuva420p', '-auto-alt-ref', 0)
        hidden = ('-auto-alt-ref', 1, '-lag-in-frames', 16)
        add('vp9.webm', 'hidden frames', *VP9, *hidden)
        add('vp9.mp4', 'hidden frames', *VP9, *hidden)
        add('mpeg4.avi', 'no B frames', *MPEG4)
        for suffix in ('avi', 'mkv', 'mp4'):
            add(f'mpeg4_b.{suffix}', 'B frames', *MPEG4, '-bf', 2)
        add('divx.avi', 'B frames, marked as DivX', *MPEG4, '-bf', 2, '-vtag', 'DIVX')
        add('msmpeg4.avi', 'DivX 3', '-c:v', 'msmpeg4', '-q:v', 3)
        add('mpeg2.mpg', 'B frames', '-c:v', 'mpeg2video', '-bf', 2, '-q:v', 3)
        add('mpeg2.ts', 'B frames', '-c:v', 'mpeg2video', '-bf', 2, '-q:v', 3)
        add('mpeg1.mpg', '', '-c:v', 'mpeg1video', '-q:v', 3)
        add('mjpeg.avi', 'full range', '-c:v', 'mjpeg', '-q:v', 3, '-pix_fmt', 'yuvj420p')
        add('mjpeg.mov', '4:2:2', '-c:v', 'mjpeg', '-q:v', 3, '-pix_fmt', 'yuvj422p')
        add('h263.3gp', '352 x 288 pixels', '-c:v', 'h263', size=(352, 288))
        add('wmv2.wmv', '', '-c:v', 'wmv2', '-q:v', 3)
        add('flv1.flv', '', '-c:v', 'flv', '-q:v', 3)
        add('theora.ogv', '', '-c:v', 'libtheora', '-q:v', 8)
        add('prores.mov', '10 bits, 4:2:2', '-c:v', 'prores_ks', '-pix_fmt', 'yuv422p10le')
        prores = ('-c:v', 'prores_ks', '-pix_fmt', 'yuva444p10le')
        add('prores_alpha.mov', '10 bits, 4:4:4, alpha', *prores)
        add('dv.avi', '720 x 576 pixels', '-c:v', 'dvvideo', '-pix_fmt', 'yuv420p', size=(720, 576))
        add('jpeg2000.mov', '', '-c:v', 'jpeg2000', '-q:v', 3)
        add('ffv1.mkv', 'lossless', '-c:v', 'ffv1')
        add('huffyuv.avi', 'lossless RGB', '-c:v', 'huffyuv', '-pix_fmt', 'rgb24')
        add('raw.avi', 'RGB, not compressed', '-c:v', 'rawvideo', '-pix_fmt', 'bgr24')
        add('animation.mov', 'RGB', '-c:v', 'qtrle')
        add('png.mov', 'RGB', '-c:v', 'png')
        add('moving.gif', '256 colours')
        add('moving.apng', 'RGB', '-f', 'apng')

    def _make_recorded(self) -> None:
        """Make streams like those that browsers record, without a duration and without sizes."""
        for name, codec, container in (
            ('browser_vp8.webm', VP8, ('-f', 'webm', '-live', 1)),
            ('browser_vp9.webm', VP9, ('-f', 'webm', '-live', 1)),
            ('browser_h264.mkv', X264, ('-f', 'matroska', '-live', 1)),
        ):
            special = 'no duration, unknown sizes'
            self._write(name, special, encode('-', *codec, *container), range(FRAMES))

    def _make_turned(self) -> None:
        size = (160, 96)
        for index, (special, matrix) in enumerate(MATRICES.items()):
            a, b, c, d = matrix
            name = f'turned_{index}.mp4'
            stored = self.folder / 'stored.mp4'
            inverse = partial(turn, matrix=(a, c, b, d))
            encode(stored, *X264, size=size, stored=inverse)
            write_matrix(stored, self.folder / name, matrix)
            self.films.append(Film(name, special))
        stored.unlink()
        for suffix in ('mkv', 'mov'):
            source = ('-i', self.folder / 'turned_0.mp4')
            numbers = range(FRAMES)
            self._copy(f'turned.{suffix}', 'turned by 90 degrees', *source, numbers=numbers)

    def _make_trimmed(self) -> None:
        """Cut parts out of a video of ten seconds without encoding them again."""
        film = self.folder / 'film.mp4'
        every_50 = ('-g', 50, '-sc_threshold', 0)
        encode(film, *X264, *every_50, '-bf', 0, frames=range(250))
        source = ('-ss', 2, '-t', 3, '-i', film)
        special = 'trimmed to 2-5 s (edit list)'
        self._copy('trimmed_both.mov', special, *source, numbers=range(50, 125))
        films = {'closed': every_50, 'open': (*every_50, '-x264-params', 'open-gop=1')}
        for gop, arguments in films.items():
            encode(film, *X264, '-bf', 3, *arguments, frames=range(250))
            # The edit list of MP4 hides the frames between the key frame and the cut.
            special = f'trimmed from 4.4 s, {gop} GOP (edit list)'
            source = ('-ss', 4.4, '-i', film)
            self._copy(f'trimmed_{gop}.mp4', special, *source, numbers=range(110, 250))
        # Matroska has no edit list: the file begins with the key frame.
        source = ('-ss', 4.4, '-i', film)
        special = 'trimmed from 4.4 s, open GOP'
        self._copy('trimmed.mkv', special, *source, numbers=range(100, 250))
        film.unlink()

    def _make_copies(self) -> None:
        plain, cover = self.folder / 'plain.mp4', self.folder / 'cover.png'
        everything = range(FRAMES)
        sound = ('-f', 'lavfi', '-i', 'sine=d=4')
        both = ('-map', '0:a', '-map', '1:v', '-c:a', 'aac')
        for name, special in (
            ('sound.mp4', 'sound first, longer than the film'),
            ('sound.mkv', 'sound first, longer than the film'),
        ):
            run_ffmpeg(*sound, '-i', plain, *both, '-c:v', 'copy', self.folder / name)
            self.films.append(Film(name, special))
        run_ffmpeg('-f', 'lavfi', '-i', 'color=red:s=640x640', '-frames:v', 1, cover)
        inputs = ('-i', plain, '-i', cover, '-map', 1, '-map', 0)
        tag = ('-disposition:v:0', 'attached_pic')
        self._copy('cover.mp4', 'cover art, first and larger', *inputs, *tag, numbers=everything)
        cover.unlink()

    def _make_joined(self) -> None:
        first, second = self.folder / 'first.ts', self.folder / 'second.ts'
        halves = range(20), range(20, 40)
        for suffix, special in (('ts', 'joined'), ('264', 'no container, joined')):
            first, second = self.folder / f'first.{suffix}', self.folder / f'second.{suffix}'
            for size, name, what in (
                ((WIDTH, HEIGHT), 'joined', ''),
                ((192, 96), 'resized', '; the size changes'),
            ):
                encode(first, *X264, frames=halves[0])
                encode(second, *X264, frames=halves[1], size=size)
                content = first.read_bytes() + second.read_bytes()
                self._write(f'{name}.{suffix}', special + what, content, range(FRAMES))
            first.unlink()
            second.unlink()
        # The file begins between the key frames 12 and 24, so frame 24 is the first to be shown.
        source = self.folder / 'source.ts'
        tables = ('-mpegts_flags', '+pat_pmt_at_frames')
        encode(source, *X264, '-g', 12, '-sc_threshold', 0, '-bf', 0, *tables)
        with av.open(str(source)) as container:
            keys = [p.pos for p in container.demux(video=0) if p.is_keyframe]
        middle = (keys[1] + keys[2]) // 2 // 188 * 188
        content = source.read_bytes()[middle:]
        self._write('middle.ts', 'begins between key frames', content, range(24, FRAMES))
        source.unlink()

    def _make_named(self) -> None:
        content = self._read('plain.mp4')
        for name in (
            'with spaces.mp4',
            'at 12:30.mp4',
            'Gesicht_für_表情.mp4',
            '100%d_%03d.mp4',
            "it's, [a] #1.mp4",
            '-dash.mp4',
        ):
            self._write(name, 'its name', content, range(FRAMES))

    def _make_damaged(self) -> None:
        def add(name: str, special: str, content: bytes) -> None:
            (self.folder / name).write_bytes(content)
            self.films.append(Film(name, special, None))

        mp4, mkv, avi = map(self._read, ('faststart.mp4', 'plain.mkv', 'mpeg4_b.avi'))
        for content, suffix, shares in (
            (mp4, 'mp4', (10, 30, 50, 70, 90)),
            (mkv, 'mkv', (30, 90)),
            (avi, 'avi', (30, 90)),
        ):
            for share in shares:
                cut = content[: len(content) * share // 100]
                add(f'cut_{share}.{suffix}', f'cut at {share} %', cut)
            kept = len(content) * 8 // 10
            zeros = content[:kept] + bytes(len(content) - kept)
            add(f'zeros.{suffix}', 'the last fifth is zeros', zeros)
        sound = self.folder / 'sound.m4a'
        run_ffmpeg('-f', 'lavfi', '-i', 'sine=d=2', sound)
        add('sound_only.mp4', 'sound alone', sound.read_bytes())
        sound.unlink()
        add('text.mp4', 'a text', b'This is no film.\n' * 100)
        add('empty.mp4', 'no bytes', b'')


# ---------------------------------------------------------------- comparison


def read_by_ffmpeg(path: Path, sizes: Sequence[tuple[int, ...]]) -> Iterator[np.ndarray]:
    """Yield the frames of a file that ffmpeg shows.

    Args:
        path: The video file.
        sizes: The shape of each frame. ffmpeg writes raw bytes without the shapes.

    Raises:
        ValueError: If ffmpeg shows another number of bytes than the shapes require.
    """
    raw = ('-fps_mode', 'passthrough', '-noautoscale', '-pix_fmt', 'rgb24', '-f', 'rawvideo')
    shown = run_ffmpeg('-i', f'file:{path}', *raw, '-')
    if len(shown) != sum(map(np.prod, sizes)):
        raise ValueError
    place = 0
    for size in sizes:
        count = int(np.prod(size))
        yield np.frombuffer(shown, np.uint8, count, place).reshape(size)
        place += count


def count_by_ffmpeg(path: Path) -> int:
    """Return the number of frames of a video file that ffmpeg shows."""
    listed = ('-fps_mode', 'passthrough', '-an', '-c:v', 'rawvideo', '-f', 'framecrc')
    packets = run_ffmpeg('-i', f'file:{path}', *listed, '-')
    return sum(not line.startswith(b'#') for line in packets.splitlines())


@dataclass(frozen=True)
class Row:
    """Hold the cells of one line of a table, and whether the file was read correctly."""

    cells: tuple[str, ...]
    right: bool


WHOLE = ('file', 'codec', 'special', 'frames by ffmpeg', 'read', 'right by their number')
WHOLE += ('upright', 'colour difference', 'ms')
DAMAGED = ('file', 'special', 'refused', 'reason', 's')


def check_whole(path: Path, film: Film) -> Row:
    """Read an undamaged file, and compare its frames with the drawn ones and with ffmpeg's."""
    with av.open(f'file:{path}', metadata_errors='replace') as container:
        codec = container.streams.video[-1].codec_context.codec.canonical_name
    start = time.perf_counter()
    try:
        images = list(VideoReader(path))
    except DFERError as error:
        return Row((path.name, codec, film.special, '', f'ERROR: {error}', *[''] * 4), False)
    seconds = time.perf_counter() - start
    expected, shown = list(film.numbers), count_by_ffmpeg(path)
    exact = sum(read_number(i) == n for i, n in zip(images, expected))
    upright = all(is_upright(image, n) for image, n in zip(images, expected))
    try:
        theirs = read_by_ffmpeg(path, [image.shape for image in images])
        difference = max(np.abs(i.astype(int) - t).mean() for i, t in zip(images, theirs))
    except ValueError:
        difference = np.inf
    right = len(images) == shown == len(expected) == exact and upright
    right &= bool(difference <= MOST_DIFFERENCE)
    cells = (path.name, codec, film.special, shown, len(images), exact)
    cells += ('yes' if upright else 'NO', f'{difference:.2f}', f'{1000 * seconds:.0f}')
    return Row(tuple(map(str, cells)), right)


def check_damaged(path: Path, film: Film) -> Row:
    """Read a damaged file, which must be refused within ``MOST_SECONDS``."""
    start, reason = time.perf_counter(), ''
    try:
        VideoReader(path)
    except UnreadableClipError as error:
        reason = re.search(r'\((.*)\)', str(error))[1]
    seconds = time.perf_counter() - start
    refused = bool(reason) and seconds <= MOST_SECONDS
    cells = (path.name, film.special, 'yes' if refused else 'NO', reason, f'{seconds:.2f}')
    return Row(cells, refused)


def write_table(head: Sequence[str], rows: Sequence[Row]) -> str:
    """Return a table in Markdown, in which wrong rows are marked."""
    lines = [head]
    for row in rows:
        *cells, last = row.cells
        lines.append((*cells, last if row.right else f'{last} **WRONG**'))
    return markdown_table(lines, 'left')


def measure_kinds(folder: Path) -> tuple[str, bool]:
    """Make and read all files, and return the tables and whether every row is right."""
    studio = Studio(folder)
    studio.make_all()
    whole = [f for f in studio.films if f.numbers is not None]
    damaged = [f for f in studio.films if f.numbers is None]
    rows = [check_whole(folder / film.name, film) for film in whole]
    refusals = [check_damaged(folder / film.name, film) for film in damaged]
    text = [
        f'{sum(row.right for row in rows)} of {len(rows)} whole files are read as ffmpeg shows '
        f'them, and {sum(row.right for row in refusals)} of {len(refusals)} damaged ones are '
        f'refused. {describe_machine()}',
        write_table(WHOLE, rows),
        write_table(DAMAGED, refusals),
    ]
    if studio.missing:
        text.append(f'Not made, since this ffmpeg cannot: {"; ".join(studio.missing)}.')
    return '\n\n'.join(text), all(row.right for row in (*rows, *refusals))


def describe_machine() -> str:
    """Return a sentence that names the processor and the versions of PyAV and ffmpeg."""
    names = re.findall(r'model name\s*: (.*)', _read_or_empty('/proc/cpuinfo'))
    version = re.search(rb'ffmpeg version (\S+)', run_ffmpeg('-version'))[1].decode()
    return (
        f'{names[0] if names else platform.machine()}, one thread, '
        f'PyAV {av.__version__}, compared with ffmpeg {version}.'
    )


def _read_or_empty(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ''


# ---------------------------------------------------------------- a film of two hours


def measure_long(folder: Path) -> tuple[str, bool]:
    """Make a video of two hours, and read 16 of its frames in a new process.

    Returns:
        A sentence with the result, and whether the result is right.
    """
    film = folder / 'long.mp4'
    source = ('-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', '96x64', '-r', 25, '-i', '-')
    command = [find_ffmpeg(), '-v', 'error', '-y', *source, *X264, '-preset', 'ultrafast']
    with subprocess.Popen([*map(str, command), film], stdin=subprocess.PIPE) as ffmpeg:
        for number in range(LONG_FRAMES):
            ffmpeg.stdin.write(draw(number, 96, 64).tobytes())
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        frames, exact, seconds, megabytes = pool.apply(_read_sixteen, (film,))
    right = frames == LONG_FRAMES and exact == 16 and megabytes < LONG_MEGABYTES
    return (
        f'16 frames of a film of {frames:,} frames ({frames / 25 / 3600:.1f} hours at 25 frames a '
        f'second, 96 x 64 pixels, H.264): {exact} of 16 are right, {seconds:.0f} s, '
        f'{megabytes:.0f} MB of memory above the start of the process. {describe_machine()}'
    ), right


def _read_sixteen(film: Path) -> tuple[int, int, float, float]:
    """Read 16 frames of a video, spread evenly.

    Returns:
        The number of frames of the video, how many of the 16 frames are right, the seconds that
        reading took, and the memory in MB that it added to the process.
    """
    before, start = _peak(), time.perf_counter()
    reader = VideoReader(film)
    numbers = [int((i + 0.5) * len(reader) / 16) for i in range(16)]
    images = reader.read(numbers)
    seconds, megabytes = time.perf_counter() - start, _peak() - before
    exact = sum(read_number(image) == number for image, number in zip(images, numbers))
    return len(reader), exact, seconds, megabytes


def _peak() -> float:
    """Return the peak memory of this process in MB."""
    # On Linux ru_maxrss begins with the peak of the parent process, so /proc is read instead.
    if peak := re.search(r'VmHWM:\s*(\d+) kB', _read_or_empty('/proc/self/status')):
        return int(peak[1]) / 1e3
    scale = 1e6 if sys.platform == 'darwin' else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


# ---------------------------------------------------------------- the command


def update_page(page: Path, name: str, text: str) -> None:
    """Replace the text of a page between two comments.

    Args:
        page: The Markdown file.
        name: The name in the comments ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.
        text: The new text.

    Raises:
        DFERError: If the page does not contain the two comments in this order.
    """
    begin, end = f'<!-- begin {name} -->\n', f'<!-- end {name} -->'
    content = page.read_text(encoding='utf-8')
    if content.find(begin) < 0 or content.find(end) < content.find(begin):
        raise DFERError(f'{page}: the comments {begin.strip()} and {end} are missing; add them')
    before, after = content.partition(begin)[0], content.partition(end)[2]
    page.write_text(f'{before}{begin}{text}\n{end}{after}', encoding='utf-8')


def main() -> None:
    """Read the files, print the tables, and exit with status 1 if a row is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, help='folder in which to keep the video files')
    parser.add_argument(
        '--write', type=Path, metavar='PAGE', help='Markdown file into which to write the results'
    )
    parser.add_argument('--long', action='store_true', help='also read a video of two hours')
    args = parser.parse_args()
    with one_line_errors(), tempfile.TemporaryDirectory() as temporary:
        find_ffmpeg()
        folder = args.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        measures = dict(kinds=measure_kinds) | (dict(long=measure_long) if args.long else {})
        right = True
        for name, measure in measures.items():
            text, fine = measure(folder)
            right &= fine
            print(text, flush=True)
            if args.write:
                update_page(args.write, name, text)
    sys.exit(not right)


if __name__ == '__main__':
    main()
