"""`./aloe bench`: measurements, one module each in aloe_cli.bench."""

from __future__ import annotations

from aloe_cli.bench import BENCHMARKS
from aloe_cli.lazy import lazy_app

app = lazy_app("aloe_cli.bench", BENCHMARKS, {}, help="Measure how fast things are and how well they learn.")
