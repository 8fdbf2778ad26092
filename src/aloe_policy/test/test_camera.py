import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aloe_core.contract import Camera
from aloe_core.errors import AloeError
from aloe_policy.camera_calibration import load_calibration
from aloe_policy.camera_source import CameraThread, Recording, V4l2Device, acquisition_stamp, parse_source
from aloe_policy.camera_stats import CameraStats
from aloe_policy.image_bridge import decode_jpeg, encode_jpeg, fit, to_bgr, to_bgr_without_ros

CAMERA = Camera(name="top", topic="cameras/top", width=32, height=24, rate_hz=50, frame_id="top_optical")
RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def raw(image, encoding, padding=0):
    rows = image.reshape(image.shape[0], -1)
    padded = np.pad(rows, ((0, 0), (0, padding)))
    return SimpleNamespace(
        height=image.shape[0], width=image.shape[1], encoding=encoding, step=padded.shape[1], data=padded.tobytes()
    )


@pytest.mark.parametrize(
    ("encoding", "image"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("rgba8", np.dstack([RGB, RGB[..., :1]])),
        ("bgra8", np.dstack([RGB[..., ::-1], RGB[..., :1]])),
    ],
)
@pytest.mark.parametrize("padding", [0, 5])
def test_every_colour_encoding_gives_the_same_bgr(encoding, image, padding):
    assert np.array_equal(to_bgr_without_ros(raw(np.ascontiguousarray(image), encoding, padding)), RGB[..., ::-1])


def test_grey_images_become_three_equal_channels():
    bgr = to_bgr(raw(RGB[..., 0].copy(), "mono8"))
    assert all(np.array_equal(bgr[..., i], RGB[..., 0]) for i in range(3))


def test_jpeg_bytes_are_those_of_the_in_process_simulator():
    """Parity of bags and in-process episodes rests on this."""
    bgr = cv2.cvtColor(RGB, cv2.COLOR_RGB2BGR)
    expected = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    assert encode_jpeg(to_bgr(raw(RGB, "rgb8"))) == expected


def test_decoding_gives_rgb():
    red = np.zeros((24, 32, 3), np.uint8)
    red[..., 2] = 255  # BGR
    assert decode_jpeg(encode_jpeg(red)).mean(axis=(0, 1)) == pytest.approx([255, 0, 0], abs=3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"encoding": "bayer_rggb8"}, "encoding = 'bayer_rggb8'"),
        ({"data": b"12"}, "2 bytes"),
        ({"step": 3}, "step 3"),
    ],
)
def test_a_malformed_raw_image_is_refused(change, says):
    msg = raw(RGB, "rgb8")
    vars(msg).update(change)
    with pytest.raises(AloeError, match=says):
        to_bgr_without_ros(msg)


@pytest.mark.parametrize("jpeg", [b"", b"no picture", encode_jpeg(RGB)[:-200], b"\xff\xd8\xff\xd9"])
def test_what_is_no_whole_jpeg_is_refused(jpeg):
    with pytest.raises(AloeError, match="not a whole JPEG"):
        decode_jpeg(jpeg)


def test_frames_of_another_size_are_refused_resized_or_cropped_at_the_centre():
    wide = np.zeros((48, 128, 3), np.uint8)
    wide[:, 32:96] = 200
    with pytest.raises(AloeError, match="128x48: expected 32x24"):
        fit(wide, 32, 24, "exact")
    assert fit(wide, 32, 24, "crop").min() == 200
    assert fit(wide, 32, 24, "resize")[:, 0].max() == 0


@pytest.mark.parametrize("text", ["", "v4l2:", "file", "usb:0", "topic:x", "rtsp:host/1", "http://"])
def test_an_unknown_source_names_the_choices(text):
    with pytest.raises(AloeError, match=r"expected topic, v4l2:<index or path>, file:.* rtsp://"):
        parse_source(text)


def test_driver_stamps_are_used_when_they_are_plausible():
    now, monotonic = 5_000_000_000, 900_000_000_000
    assert acquisition_stamp(now, monotonic, 900_000.0 - 30) == now - 30_000_000
    assert acquisition_stamp(now, monotonic, 0.0) == now
    assert acquisition_stamp(now, monotonic, 900_000.0 - 2_000) == now
    assert acquisition_stamp(now, monotonic, 900_000.0 + 5) == now


def test_stats_count_the_frames_missing_in_a_gap():
    stats = CameraStats(rate_hz=10)
    for stamp in (0, 100, 200, 500, 600):  # 300 and 400 are missing
        stats.add(stamp * 1_000_000)
    assert (stats.frames, stats.dropped, stats.max_gap) == (5, 2, pytest.approx(0.3))
    assert stats.age(700_000_000) == pytest.approx(0.1)


@given(st.integers(1, 100), st.integers(2, 50))
def test_a_steady_camera_has_its_rate_and_no_drops(rate, frames):
    stats = CameraStats(rate)
    for i in range(frames):
        stats.add(round(i * 1e9 / rate))
    assert stats.rate == pytest.approx(rate, rel=1e-6)
    assert stats.dropped == 0


def collect(open_device, count):
    """Read `count` frames with a camera thread; returns them and the status at the end."""
    frames, enough = [], threading.Event()

    def on_frame(stamp, bgr):
        frames.append((stamp, bgr))
        if len(frames) >= count:
            enough.set()

    errors = []
    thread = CameraThread("test", open_device, on_frame, errors.append)
    assert enough.wait(20), thread.status
    thread.close()
    assert errors == []
    return frames, thread.status


def clock():
    ticks = iter(range(1, 1_000_000))
    return lambda: next(ticks)


def test_a_folder_of_images_plays_in_name_order_again_and_again(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((24, 32, 3), 50 * i, np.uint8))
    now = clock()
    frames, status = collect(lambda stop: Recording(str(tmp_path), CAMERA, now, stop), 5)
    assert [int(bgr[0, 0, 0]) for _, bgr in frames[:5]] == [0, 50, 100, 0, 50]
    assert [stamp for stamp, _ in frames[:5]] == [1, 2, 3, 4, 5]
    assert status.problem is None


def test_a_video_plays_again_and_again(tmp_path):
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 50, (32, 24))
    for i in range(3):
        writer.write(np.full((24, 32, 3), 20 + 80 * i, np.uint8))
    writer.release()
    now = clock()
    frames, _ = collect(lambda stop: Recording(str(path), CAMERA, now, stop), 5)
    assert [float(bgr.mean()) for _, bgr in frames[:5]] == pytest.approx([20, 100, 180, 20, 100], abs=4)


def test_a_lost_device_is_opened_again():
    opened = []

    class Flaky:
        def __init__(self):
            self.left = 2
            opened.append(self)

        def read(self):
            self.left -= 1
            return (len(opened), RGB) if self.left >= 0 else None

        def close(self):
            self.left = -1

    def open_device(stop):
        if len(opened) == 1 and not refused:
            refused.append(True)
            raise AloeError("Camera top: busy.")
        return Flaky()

    refused = []
    frames, status = collect(open_device, 4)
    assert [stamp for stamp, _ in frames[:4]] == [1, 1, 2, 2]
    assert status.reconnects == 1
    assert all(device.left < 0 for device in opened)


def test_a_missing_device_or_recording_is_one_sentence(tmp_path):
    with pytest.raises(AloeError, match="v4l2:/dev/nothing cannot be opened"):
        V4l2Device("/dev/nothing", CAMERA, clock())
    for argument in (str(tmp_path), str(tmp_path / "none.mp4")):
        with pytest.raises(AloeError, match="holds no video or images"):
            Recording(argument, CAMERA, clock(), threading.Event())


CALIBRATION = """
image_width: 32
image_height: 24
distortion_model: plumb_bob
distortion_coefficients: {data: [0.1, 0, 0, 0, 0]}
camera_matrix: {data: [30, 0, 16, 0, 30, 12, 0, 0, 1]}
rectification_matrix: {data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {data: [30, 0, 16, 0, 0, 30, 12, 0, 0, 0, 1, 0]}
"""


def test_a_calibration_is_read_and_a_foreign_one_refused(tmp_path):
    path = tmp_path / "top.yaml"
    path.write_text(CALIBRATION)
    assert load_calibration(str(path), CAMERA).k[0] == 30.0
    path.write_text(CALIBRATION.replace("image_width: 32", "image_width: 640"))
    with pytest.raises(AloeError, match="image_width = 640: expected 32, the size of camera top"):
        load_calibration(str(path), CAMERA)
    path.write_text(CALIBRATION.replace("30, 0, 16, 0, 30, 12, 0, 0, 1]", "1]", 1))
    with pytest.raises(AloeError, match=r"camera_matrix\.data"):
        load_calibration(str(path), CAMERA)
