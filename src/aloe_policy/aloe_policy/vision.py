"""Images to keypoints."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KeypointEncoder(nn.Module):
    """A small convolutional net per camera whose feature maps are read out as expected positions (spatial softmax).

    Positions in the image are what manipulation needs, and they generalise from tens of demonstrations
    (Levine et al., arXiv 1504.00702).
    """

    def __init__(self, channels: tuple[int, int, int], keypoints: int) -> None:
        super().__init__()
        a, b, c = channels
        self.conv1 = nn.Conv2d(3, a, 8, stride=4, padding=2)
        self.conv2 = nn.Conv2d(a, b, 3, padding=1)
        self.conv3 = nn.Conv2d(b, c, 3, padding=1)
        self.out = nn.Conv2d(c, keypoints, 1)
        # No normalisation layers: on a CPU they would cost as much as the convolutions; He initialisation does.
        for layer in (self.conv1, self.conv2, self.conv3):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.log_temperature = nn.Parameter(torch.zeros(keypoints))

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] -> [B, 3 * keypoints]: x, y in [-1, 1] and how sure the peak is."""
        x = F.relu(self.conv1(images))
        x = F.relu(self.conv2(x))
        x = F.relu(self.conv3(x))
        maps = self.out(x).float()
        batch, points, height, width = maps.shape
        logits = maps.flatten(2) * self.log_temperature.exp()[:, None]
        p = logits.softmax(-1).view(batch, points, height, width)
        xs = torch.linspace(-1, 1, width, device=p.device)
        ys = torch.linspace(-1, 1, height, device=p.device)
        column, row = p.sum(2), p.sum(3)
        x_mean, y_mean = column @ xs, row @ ys
        spread = (column @ xs.square() - x_mean.square()) + (row @ ys.square() - y_mean.square())
        return torch.cat([x_mean, y_mean, (spread.clamp_min(0) + 1e-6).sqrt()], 1)
