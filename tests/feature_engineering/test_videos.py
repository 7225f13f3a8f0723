"""Decoding: seeking gives what decoding through gives, in the colours and the position a player shows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from feature_engineering.decoding import videos
from feature_engineering.decoding.videos import capture, read_index

av.logging.set_level(None)


def positions(count: int, frame_num: int) -> list[int]:
    """The published rule, and the last one repeated up to F."""
    found = np.unique(np.linspace(0, count - 1, frame_num).astype(int)).tolist()
    return found + found[-1:] * (frame_num - len(found))


def decode_all(path: Path, keep: set[int] | None = None) -> dict[int, av.VideoFrame]:
    """Every frame by its number, the plain way; those of `keep` alone are kept, the others are None."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return {k: f if keep is None or k in keep else None for k, f in enumerate(container.decode(stream))}


def assert_same(images: list, expected: list, path: Path) -> None:
    assert len(images) == len(expected), path.name
    for got, wanted in zip(images, expected, strict=True):
        assert got.dtype == np.uint8 and np.array_equal(got, wanted), path.name


def compare(path: Path) -> int:
    """The F = 10 frames of `path` are those of decoding through; returns how many frames it has."""
    count = len(read_index(path).pts)
    frames = decode_all(path, set(positions(count, 10)) if count > 100 else None)
    captured = capture(path, 10, threads=1)
    assert (captured.real, captured.note) == (min(10, len(frames)), ""), path.name
    assert_same(captured.images, [videos.to_rgb(frames[i]) for i in positions(len(frames), 10)], path)
    return len(frames)


@pytest.fixture(scope="module")
def clips(shared) -> list[Path]:
    found = sorted(path for path in shared.glob("clips/*") if path.suffix != ".md")
    if not found:
        pytest.skip(f"no clips in {shared}")
    return found


# ---- real clips ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_seeking_gives_the_frames_of_decoding_through_for_every_clip(clips):
    by_seeking = set()
    for path in clips:
        compare(path)
        index = read_index(path)
        assert not index.broken and index.declared in (0, len(index.pts)), path.name
        if index.exact:
            found = videos._seek(path, index, 3, lambda image: image[:1, :1], threads=1)
            assert found is not None, f"{path.name} was decoded through"
            with av.open(str(path)) as container:
                by_seeking.add(container.streams.video[0].codec_context.name)
    assert by_seeking == {"h264", "hevc", "vp9", "libdav1d", "mpeg2video"}


def opencv_frames(path: Path, frame_num: int) -> list[np.ndarray]:
    """The frames at the published positions, with the file read from its beginning to its end; RGB."""
    cv2 = pytest.importorskip("cv2")
    reader, count = cv2.VideoCapture(str(path)), 0
    while reader.grab():
        count += 1
    reader, images = cv2.VideoCapture(str(path)), {}
    for k in range(count):
        assert reader.grab()
        if k in positions(count, frame_num):
            images[k] = reader.retrieve()[1][..., ::-1]
    return [images[k] for k in positions(count, frame_num)] if count else []


@pytest.mark.slow
def test_frames_are_those_that_opencv_reads(clips):
    """Upright ones too: OpenCV rotates by itself. It maps no tones, and its wheels read no AV1."""
    worst = {}
    for path in clips:
        if "hdr" in path.name or "bt2020" in path.name or not (read := opencv_frames(path, 4)):
            continue
        for image, expected in zip(capture(path, 4, threads=1).images, read, strict=True):
            assert image.shape == expected.shape, path.name
            off = int(np.abs(image.astype(int) - expected).max())
            worst[path.name] = max(worst.get(path.name, 0), off)
    print(len(worst), "clips compared; not the same bits:", {name: off for name, off in worst.items() if off})
    assert len(worst) >= 70 and max(worst.values()) <= 8, worst  # the scaler rounds 10-bit and odd pictures otherwise
    assert sum(off == 0 for off in worst.values()) >= 66, worst


@pytest.mark.parametrize("degrees", [0, 90, 180])
def test_rotated_clips_are_upright_as_a_player_shows_them(clips, degrees):
    cv2 = pytest.importorskip("cv2")
    path = next(path for path in clips if path.name == f"decord__video_{degrees}.mov")
    reader = cv2.VideoCapture(str(path))
    reader.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
    lying = [reader.read()[1][..., ::-1] for _ in range(3)]
    clockwise = int(reader.get(cv2.CAP_PROP_ORIENTATION_META))
    assert clockwise == degrees
    assert_same(capture(path, 3).images, [np.rot90(image, -clockwise // 90) for image in lying], path)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_rotated_copies_of_one_clip_are_the_same_pictures_turned(tmp_path, turns):
    """The matrix of the track header, ISO 14496-12 8.3.2, as phones write it: a quarter is clockwise."""
    path = write(tmp_path / "v.mp4", 12, size=(64, 49), pix_fmt="yuv444p")
    upright, data = capture(path, 3).images, bytearray(path.read_bytes())
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[turns]
    matrix = b"".join((v % 65536 << 16).to_bytes(4, "big") for v in (cos, sin, 0, -sin, cos, 0, 0, 0))
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 32] = matrix
    path.write_bytes(data)
    assert_same(capture(path, 3).images, [np.rot90(image, -turns) for image in upright], path)


# ---- clips made here -----------------------------------------------------------------------------


def write(
    path: Path,
    count: int,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (64, 48),
    pix_fmt: str = "yuv420p",
    options: dict | None = None,
    container_options: dict | None = None,
    time: Callable[[int], int] = lambda k: k,
    draw: Callable[[int], np.ndarray] | None = None,
    audio: bool = False,
) -> Path:
    """A clip of `count` frames, frame k at `time(k)` tenths of a second, noise of level 20 + 5k without `draw`."""
    width, height = size
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=10, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = Fraction(1, 10)
        for k in range(count):
            noise = rng.integers(0, 12, (height, width, 3), np.uint8) + np.uint8((20 + 5 * k) % 230)
            image = noise if draw is None else draw(k)
            frame = av.VideoFrame.from_ndarray(image, format="rgba" if image.shape[-1] == 4 else "rgb24")
            frame.pts, frame.time_base = time(k), Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    "options",
    [
        {"g": "1", "bf": "0"},
        {"g": "12", "bf": "0"},
        {"g": "12", "bf": "3"},
        {"g": "12", "bf": "3", "x264-params": "open-gop=1:b-pyramid=normal:scenecut=0"},
        {"g": "12", "x264-params": "intra-refresh=1:bframes=0"},
        {"g": "250", "bf": "16"},
        {"g": "2", "bf": "1", "x264-params": "open-gop=1:keyint=2:min-keyint=1"},
    ],
    ids=["key", "ip", "b", "open", "refresh", "long", "short"],
)
def test_every_way_to_refer_to_other_frames(tmp_path, suffix, options):
    assert compare(write(tmp_path / f"v{suffix}", 97, options=options)) == 97


@pytest.mark.parametrize("codec", ["libx265", "libvpx", "libvpx-vp9", "libsvtav1", "mpeg4", "mpeg2video", "mjpeg"])
def test_every_codec(tmp_path, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV is built without {codec}")
    quiet = {"libx265": {"x265-params": "log-level=none:keyint=12"}, "mpeg4": {"bf": "2"}, "mpeg2video": {"bf": "2"}}
    pix_fmt, suffix = "yuvj420p" if codec == "mjpeg" else "yuv420p", ".webm" if "vp" in codec else ".mkv"
    options = quiet.get(codec, {"g": "12"})
    assert compare(write(tmp_path / f"v{suffix}", 40, codec=codec, pix_fmt=pix_fmt, options=options)) == 40


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts", ".flv", ".mov"])
def test_every_container(tmp_path, suffix):
    assert compare(write(tmp_path / f"v{suffix}", 37, options={"g": "8", "bf": "2"})) in (37, 36)  # AVI may lose one


@pytest.mark.parametrize(
    "time", [lambda k: k * k, lambda k: 700 + 3 * k, lambda k: k + 40 * (k > 20)], ids=["vfr", "start", "gap"]
)
def test_any_time_line(tmp_path, time):
    assert compare(write(tmp_path / "v.mp4", 41, time=time, options={"g": "8", "bf": "2"})) == 41


@pytest.mark.parametrize(("count", "frame_num"), [(1, 10), (1, 1), (3, 10), (10, 10), (11, 10), (37, 4), (12, 1)])
def test_fewer_frames_than_asked(tmp_path, count, frame_num):
    path = write(tmp_path / "v.mp4", count, options={"g": "1", "crf": "5"})
    captured = capture(path, frame_num)
    assert captured.real == min(count, frame_num) and captured.note == ""
    levels = [round((float(image.mean()) - 25.5) / 5) for image in captured.images]
    assert levels == positions(count, frame_num)


@pytest.mark.parametrize("size", [(65, 49), (64, 49), (65, 48), (1, 1), (2, 300)])
@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv444p10le", "rgb24"])
def test_odd_sizes(tmp_path, size, pix_fmt):
    codec = "libx264rgb" if pix_fmt == "rgb24" else "libx264"
    path = write(tmp_path / "v.mkv", 12, codec=codec, size=size, pix_fmt=pix_fmt, options={"qp": "0"})
    compare(path)
    assert capture(path, 2).images[0].shape == (size[1], size[0], 3)


@pytest.mark.parametrize("declared", [3, 5000])
def test_a_wrong_frame_count_in_the_header_is_not_believed(tmp_path, declared):
    path = write(tmp_path / "v.avi", 37, codec="mjpeg", pix_fmt="yuvj420p")
    expected, data = capture(path, 10).images, bytearray(path.read_bytes())
    for at in (data.index(b"avih") + 8 + 16, data.index(b"strh") + 8 + 32):  # frames of the file, of the stream
        assert int.from_bytes(data[at : at + 4], "little") == 37
        data[at : at + 4] = declared.to_bytes(4, "little")
    path.write_bytes(data)
    captured = capture(path, 10)
    assert read_index(path).declared == declared and captured.real == 10
    assert captured.note == ("37 of 5000 frames are there" if declared > 37 else "")
    assert_same(captured.images, expected, path)


def test_a_wrong_duration_is_not_believed(tmp_path):
    path = write(tmp_path / "v.mp4", 37, options={"g": "8"})
    data = bytearray(path.read_bytes())
    for box in (b"mvhd", b"tkhd", b"mdhd"):
        at = data.index(box) + {b"mvhd": 20, b"tkhd": 24, b"mdhd": 20}[box]
        data[at : at + 4] = (7).to_bytes(4, "big")
    expected = capture(path, 10).images
    path.write_bytes(data)
    assert_same(capture(path, 10).images, expected, path)


def test_frames_that_an_edit_list_hides_are_not_shown(tmp_path):
    """As a cut without encoding anew leaves them: decoded for those that follow, but not a part of the film."""
    path = write(
        tmp_path / "v.mp4",
        40,
        options={"g": "40", "bf": "0"},
        time=lambda k: k - 10,
        container_options={"use_editlist": "1", "avoid_negative_ts": "disabled"},
    )
    shown = decode_all(path)
    assert len(shown) == 30
    assert compare(path) == 30
    assert capture(path, 10).note == ""  # nothing is wrong with it


def test_a_cover_picture_is_not_the_video(tmp_path):
    plain = write(tmp_path / "plain.mp4", 20, options={"g": "8"})
    cover = write(tmp_path / "cover.png", 1, codec="png", size=(300, 300), pix_fmt="rgb24", container_options=None)
    with av.open(str(tmp_path / "v.mp4"), "w") as out, av.open(str(cover)) as picture, av.open(str(plain)) as film:
        streams = [out.add_stream_from_template(source.streams.video[0]) for source in (picture, film)]
        streams[0].disposition = av.stream.Disposition.attached_pic
        for source, stream in zip((picture, film), streams, strict=True):
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    images = capture(tmp_path / "v.mp4", 5).images
    assert images[0].shape == (48, 64, 3)
    assert_same(images, capture(plain, 5).images, plain)


@pytest.mark.parametrize("codec", ["qtrle", "png"])
def test_what_is_transparent_is_black(tmp_path, codec):
    def draw(k: int) -> np.ndarray:
        image = np.full((48, 64, 4), (200, 100, 50, 255), np.uint8)
        image[:, :20, 3], image[:, 20:40, 3] = 0, 128
        return image

    pix_fmt = "argb" if codec == "qtrle" else "rgba"
    image = capture(write(tmp_path / "v.mov", 3, codec=codec, pix_fmt=pix_fmt, draw=draw), 2).images[0]
    assert (image[:, :20] == 0).all() and (image[:, 40:] == (200, 100, 50)).all()
    assert np.abs(image[:, 20:40].astype(int) - (100, 50, 25)).max() <= 1


@pytest.mark.parametrize("name", ["concat:v.mp4|v.mp4", "pipe:0.mp4", "http:v.mp4", "%d.mp4", "-i v.mp4"])
def test_a_name_that_looks_like_an_address_is_a_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    plain = write(Path("v.mp4"), 12)
    assert capture(Path(write(Path("w.mp4"), 30).rename(name)), 1).images[0].shape == (48, 64, 3)
    assert len(read_index(Path(name)).pts) == 30 and len(read_index(plain).pts) == 12


def test_frames_too_large_for_memory_are_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "v.mp4", 2)
    monkeypatch.setattr(videos, "MOST_PIXELS", 64 * 48)
    assert capture(path, 2).real == 2
    monkeypatch.setattr(videos, "MOST_PIXELS", 64 * 48 - 1)
    with pytest.raises(ValueError, match="frames of 64 x 48 are too large"):
        capture(path, 2)


# ---- HDR -----------------------------------------------------------------------------------------


def hdr_frame(planes: np.ndarray, transfer: int) -> av.VideoFrame:
    """(3, H, W) of 0 .. 1023 -> a frame in BT.2020 of full range."""
    _, height, width = planes.shape
    frame = av.VideoFrame(width, height, "yuv444p10le")
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((height, plane.line_size // 2), np.uint16)
        rows[:, :width] = values
        plane.update(rows.tobytes())
    frame.color_range, frame.colorspace = av.video.reformatter.ColorRange.JPEG, 9
    frame.color_trc, frame.color_primaries = transfer, videos.BT2020
    return frame


def grey_frame(levels: np.ndarray, transfer: int) -> av.VideoFrame:
    """Columns of grey `levels` (W,)."""
    planes = np.full((3, 16, len(levels)), 512, np.uint16)
    planes[0] = levels
    return hdr_frame(planes, transfer)


def to_xyz(primaries: list[tuple[float, float]]) -> np.ndarray:
    """Linear RGB -> XYZ of a screen whose white is D65."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    return columns * np.linalg.solve(columns, np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290]))


def test_colours_that_the_screen_has_survive_hdr():
    """BT.709 -> light -> BT.2020 -> PQ -> Y'CbCr by the standards' formulas here; back by the code."""
    colours = np.random.default_rng(0).uniform(30, 250, (3, 8, 32))
    light = 203 / 10000 * (colours / 255) ** 2.4
    bt709, bt2020 = [(0.64, 0.33), (0.3, 0.6), (0.15, 0.06)], [(0.708, 0.292), (0.17, 0.797), (0.131, 0.046)]
    light = np.einsum("ij,jhw->ihw", np.linalg.inv(to_xyz(bt2020)) @ to_xyz(bt709), light) ** 0.1593017578125
    red, green, blue = ((0.8359375 + 18.8515625 * light) / (1 + 18.6875 * light)) ** 78.84375
    luma = 0.2627 * red + 0.678 * green + 0.0593 * blue
    planes = np.stack([1023 * luma, 512 + 1023 * (blue - luma) / 1.8814, 512 + 1023 * (red - luma) / 1.4746])
    image = videos.to_rgb(hdr_frame(planes.round().astype(np.uint16), videos.PQ))
    off = np.abs(image.transpose(2, 0, 1) - colours)
    assert off.mean() < 1.5 and off.max() < 8, (off.mean(), off.max())  # 10 bits are coarser than 8 here


def grey_on_screen(signal: np.ndarray, transfer: int) -> np.ndarray:
    """BT.2100's own formulas, in cd/m2, on a screen of BT.1886 whose white is 203 cd/m2."""
    if transfer == videos.PQ:
        root = signal ** (1 / 78.84375)
        light = 10000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    else:
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        light = 1000 * scene**1.2
    return 255 * np.minimum(light / 203, 1) ** (1 / 2.4)


@pytest.mark.parametrize("transfer", [videos.PQ, videos.HLG])
def test_hdr_greys_are_those_of_the_standard(transfer):
    levels = np.linspace(0, 1023, 64).astype(np.uint16)
    image = videos.to_rgb(grey_frame(levels, transfer)).astype(float)
    assert np.abs(image - grey_on_screen(levels / 1023, transfer)[:, None]).max() <= 2.5
    white = videos.to_rgb(grey_frame(np.full(16, 594 if transfer == videos.PQ else 767, np.uint16), transfer))
    assert np.abs(white.astype(int) - 255).max() <= 2  # BT.2408: paper is 58 % of PQ and 75 % of HLG


def test_hdr_colours_are_those_of_ffmpegs_own_scaler(clips):
    path = next(path for path in clips if path.name == "torchcodec__nasa_13013_hdr.mp4")
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        graph = av.filter.Graph()
        source = graph.add_buffer(template=container.streams.video[0])
        bt709 = "out_transfer=bt709:out_primaries=bt709:out_color_matrix=bt709:out_range=pc"
        chain = [source, graph.add("scale", bt709), graph.add("format", "rgb24"), graph.add("buffersink")]
        for one, other in itertools.pairwise(chain):
            one.link_to(other)
        graph.configure()
        graph.push(frame)
        expected = graph.pull().to_ndarray()
    off, plain = (np.abs(i.astype(int) - expected) for i in (videos.to_rgb(frame), frame.to_ndarray(format="rgb24")))
    assert off.mean() < 2.5 and off.mean() < 0.6 * plain.mean()  # it bends colours that the screen does not have
