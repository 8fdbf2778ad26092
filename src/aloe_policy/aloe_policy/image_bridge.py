"""The one seam between image messages, OpenCV arrays and JPEG; cv_bridge converts where it is installed."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from aloe_core.errors import AloeError

try:
    from cv_bridge import CvBridge, CvBridgeError
except ImportError:  # the wheels have no cv_bridge; the conversions it would do are below
    CvBridge = None

JPEG_QUALITY = 90
JPEG_FORMAT = "rgb8; jpeg compressed bgr8"

_CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "8UC1": 1, "8UC3": 3}
_TO_BGR = {
    "rgb8": cv2.COLOR_RGB2BGR,
    "rgba8": cv2.COLOR_RGBA2BGR,
    "bgra8": cv2.COLOR_BGRA2BGR,
    "mono8": cv2.COLOR_GRAY2BGR,
    "8UC1": cv2.COLOR_GRAY2BGR,
}


class RawImage(Protocol):
    """The fields of sensor_msgs/Image that are read."""

    height: int
    width: int
    encoding: str
    step: int
    data: object


def to_bgr(msg: RawImage) -> np.ndarray:
    """Return uint8 [height, width, 3] BGR of a raw image message; AloeError if it is malformed or of another kind."""
    if CvBridge is not None:
        try:
            return CvBridge().imgmsg_to_cv2(msg, "bgr8")
        except CvBridgeError as error:
            raise AloeError(f"Image: cannot be converted to bgr8 ({error}).") from error
    return to_bgr_without_ros(msg)


def to_bgr_without_ros(msg: RawImage) -> np.ndarray:
    """As `to_bgr`, with NumPy and OpenCV alone."""
    channels = _CHANNELS.get(msg.encoding)
    if channels is None:
        raise AloeError(f"Image: encoding = {msg.encoding!r}: expected one of {', '.join(_CHANNELS)}.")
    data = np.frombuffer(msg.data, np.uint8)
    if msg.step < msg.width * channels or data.size < msg.step * msg.height:
        raise AloeError(
            f"Image: {data.size} bytes and step {msg.step}: expected {msg.height} rows of {msg.width * channels} bytes."
        )
    rows = data[: msg.step * msg.height].reshape(msg.height, msg.step)[:, : msg.width * channels]
    image = np.ascontiguousarray(rows).reshape(msg.height, msg.width, channels)
    return cv2.cvtColor(image, _TO_BGR[msg.encoding]) if msg.encoding in _TO_BGR else image


def encode_jpeg(bgr: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """Return the JPEG of uint8 [height, width, 3] BGR; the same pixels always give the same bytes."""
    done, buffer = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise AloeError(f"Image of shape {bgr.shape} cannot be encoded as JPEG.")
    return buffer.tobytes()


def decode_jpeg(jpeg: bytes) -> np.ndarray:
    """Return uint8 [height, width, 3] RGB; AloeError if the bytes are not a whole image."""
    whole = jpeg.rstrip(b"\0").endswith(b"\xff\xd9")  # OpenCV fills up a torn image with grey
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if whole else None
    if bgr is None:
        raise AloeError(f"Image: {len(jpeg)} bytes are not a whole JPEG.")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def fit(bgr: np.ndarray, width: int, height: int, how: str) -> np.ndarray:
    """Return the image at the contract's size.

    `how`: exact (another size is an AloeError), resize (the aspect may change) or crop (its centre, then resize).
    """
    rows, columns = bgr.shape[:2]
    if (columns, rows) == (width, height):
        return bgr
    if how == "exact":
        raise AloeError(f"Image is {columns}x{rows}: expected {width}x{height}; set fit to crop or resize.")
    if how == "crop":
        scale = min(columns / width, rows / height)
        w, h = round(width * scale), round(height * scale)
        x, y = (columns - w) // 2, (rows - h) // 2
        bgr = bgr[y : y + h, x : x + w]
    return cv2.resize(bgr, (width, height), interpolation=cv2.INTER_AREA)
