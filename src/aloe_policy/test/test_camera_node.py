"""camera_node as a process, over DDS: one camera from a raw topic, one from a recording."""

from __future__ import annotations

import json
from array import array

import cv2
import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")

from aloe_policy.image_bridge import JPEG_FORMAT, decode_jpeg
from aloe_ros import qos, stamps
from diagnostic_msgs.msg import DiagnosticArray
from graph import NodeProcess, Peer
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tiny_policy import CONTRACT

DOMAIN = 72
COMPRESSED = "cameras/{}/image_raw/compressed"


def test_a_raw_topic_and_a_recording_come_out_as_jpeg_with_their_stamps(tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(CONTRACT))))
    film = tmp_path / "film"
    film.mkdir()
    cv2.imwrite(str(film / "0.png"), np.full((48, 64, 3), 90, np.uint8))
    node = NodeProcess(
        ["-m", "aloe_policy.nodes.camera_node"],
        DOMAIN,
        tmp_path,
        {
            "contract": str(tmp_path / "tiny.yaml"),
            "lockstep": True,
            "source.wrist": f"file:{film}",
            "fit.wrist": "resize",
        },
    )
    peer = Peer(DOMAIN)
    try:
        front = peer.listen(CompressedImage, COMPRESSED.format("front"), qos.IMAGE)
        wrist = peer.listen(CompressedImage, COMPRESSED.format("wrist"), qos.IMAGE)
        infos = peer.listen(CameraInfo, "cameras/front/camera_info", qos.LATCHED)
        reports = peer.listen(DiagnosticArray, "/diagnostics", qos.DEFAULT)
        raw = peer.publisher(Image, "cameras/front/image_raw", qos.IMAGE)
        peer.until(lambda: peer.node.count_publishers(COMPRESSED.format("front")), "the compressed topic")

        rgb = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        message = Image(height=24, width=32, encoding="rgb8", step=96, data=array("B", rgb.tobytes()))
        stamps.fill(message.header.stamp, 1_234_567_890)
        raw.publish(message)
        peer.until(lambda: front, "the compressed frame")
        expected = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        assert front[0].data.tobytes() == expected, "the in-process simulator encodes the same bytes"
        assert stamps.to_ns(front[0].header.stamp) == 1_234_567_890
        assert (front[0].header.frame_id, front[0].format) == ("front_optical", JPEG_FORMAT)

        peer.until(lambda: infos, "camera_info")
        assert (infos[0].width, infos[0].height, infos[0].header.frame_id) == (32, 24, "front_optical")
        assert not infos[0].k.any(), "a camera that is not calibrated has a zero K"

        peer.until(lambda: len(wrist) >= 3, "three frames of the recording")
        assert decode_jpeg(wrist[0].data.tobytes()).shape == (24, 32, 3)
        times = [stamps.to_ns(m.header.stamp) for m in wrist[:3]]
        assert times == sorted(set(times))

        raw.publish(Image(height=48, width=32, encoding="rgb8", step=96, data=array("B", bytes(96 * 48))))
        says = "front: Image is 32x48: expected 32x24"
        peer.until(lambda: any(says in r.status[0].message for r in reports), "the report of a wrong size")
        assert len(front) == 1
    finally:
        code = node.stop()
        peer.close()
    assert code == 0, node.log


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
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(CONTRACT))))
    given = {"contract": str(tmp_path / "tiny.yaml")} | parameters
    node = NodeProcess(["-m", "aloe_policy.nodes.camera_node"], DOMAIN, tmp_path, given)
    assert node.process.wait(30) == 2
    assert says in node.log
    assert "Traceback" not in node.log
