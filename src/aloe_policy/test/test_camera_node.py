"""camera_node as a process, over DDS: one camera from a raw topic, one from a recording."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from aloe_policy.image_bridge import JPEG_FORMAT, decode_jpeg
from aloe_ros import qos, stamps
from aloe_ros.testing import Spinner, node_process, stop
from tiny_policy import CONTRACT

MODULE = "aloe_policy.nodes.camera_node"
COMPRESSED = "cameras/{}/image_raw/compressed"


class Viewer(Node):
    """Publishes raw images of `front`, hears everything the camera node says."""

    def __init__(self):
        super().__init__("viewer")
        self.front, self.wrist, self.infos, self.reports = [], [], [], []
        self.raw = self.create_publisher(Image, "cameras/front/image_raw", qos.IMAGE)
        self.create_subscription(CompressedImage, COMPRESSED.format("front"), self.front.append, qos.IMAGE)
        self.create_subscription(CompressedImage, COMPRESSED.format("wrist"), self.wrist.append, qos.IMAGE)
        self.create_subscription(CameraInfo, "cameras/front/camera_info", self.infos.append, qos.LATCHED)
        self.create_subscription(DiagnosticArray, "/diagnostics", self.reports.append, qos.DEFAULT)


@pytest.fixture
def viewer():
    rclpy.init()
    node = Viewer()
    yield node
    node.destroy_node()
    rclpy.shutdown()


def test_a_raw_topic_and_a_recording_come_out_as_jpeg_with_their_stamps(tmp_path, viewer):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CONTRACT))
    film = tmp_path / "film"
    film.mkdir()
    cv2.imwrite(str(film / "0.png"), np.full((48, 64, 3), 90, np.uint8))
    parameters = {
        "contract": tmp_path / "tiny.yaml",
        "lockstep": True,
        "source.wrist": f"file:{film}",
        "fit.wrist": "resize",
    }
    rgb = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    message = Image(height=24, width=32, encoding="rgb8", step=96, data=array("B", rgb.tobytes()))
    stamps.fill(message.header.stamp, 1_234_567_890)
    spinner = Spinner(viewer)
    with node_process(MODULE, parameters, tmp_path / "log") as process:
        spinner.until(viewer.raw.get_subscription_count, "the camera node listens")
        spinner.until(lambda: viewer.count_publishers(COMPRESSED.format("front")), "it publishes")
        spinner.until(lambda: viewer.wrist and viewer.reports, "it is heard")

        viewer.raw.publish(message)
        spinner.until(lambda: viewer.front, "the compressed frame")
        front = viewer.front[0]
        expected = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        assert front.data.tobytes() == expected, "the in-process simulator encodes the same bytes"
        assert stamps.to_ns(front.header.stamp) == 1_234_567_890
        assert (front.header.frame_id, front.format) == ("front_optical", JPEG_FORMAT)

        spinner.until(lambda: viewer.infos, "camera_info")
        info = viewer.infos[0]
        assert (info.width, info.height, info.header.frame_id) == (32, 24, "front_optical")
        assert not info.k.any(), "a camera that is not calibrated has a zero K"

        spinner.until(lambda: len(viewer.wrist) >= 3, "three frames of the recording")
        assert decode_jpeg(viewer.wrist[0].data.tobytes()).shape == (24, 32, 3)
        times = [stamps.to_ns(m.header.stamp) for m in viewer.wrist[:3]]
        assert times == sorted(set(times))

        viewer.raw.publish(Image(height=48, width=32, encoding="rgb8", step=96, data=array("B", bytes(96 * 48))))
        says = "front: Image is 32x48: expected 32x24"
        spinner.until(lambda: any(says in r.status[0].message for r in viewer.reports), "the report of a wrong size")
        assert len(viewer.front) == 1
        assert stop(process) == 0, (tmp_path / "log").read_text()
    spinner.close()


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"source.front": "usb:0"}, "Camera source 'usb:0': expected topic, v4l2:"),
        ({"fit.front": "squash"}, "fit.front = 'squash': expected one of exact, resize, crop"),
        ({"jpeg_quality": 0}, "jpeg_quality = 0: expected"),
        ({"calibration.front": "/nowhere.yaml"}, "/nowhere.yaml: cannot be read"),
    ],
)
def test_bad_parameters_end_the_node_with_one_sentence(tmp_path, parameters, says):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CONTRACT))
    given = {"contract": tmp_path / "tiny.yaml"} | parameters
    with node_process(MODULE, given, tmp_path / "log") as process:
        assert process.wait(30) == 2
    log = (tmp_path / "log").read_text()
    assert says in log
    assert "Traceback" not in log
