"""What Prometheus is told of a model server: verdicts, causes, time, and which bundle answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from edgead.optional import require
from edgead.serving.served import Served

_WHY = "Serving metrics"
_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """In a registry of its own; counts are read at each scrape.

    Raises:
        MissingExtra: prometheus_client is not installed.
    """

    def __init__(self, models: Sequence[Served]) -> None:
        client = require("prometheus_client", extra="serve", why=_WHY)
        self._core = require("prometheus_client.core", extra="serve", why=_WHY)
        self._exposition = require("prometheus_client.exposition", extra="serve", why=_WHY)
        self._models = tuple(models)
        self._registry = client.CollectorRegistry()
        self._registry.register(self)
        self._seconds = client.Histogram(
            "edgead_serve_request_seconds",
            "From a request's pictures to its verdicts, waiting for the engine included",
            ("model", "version"),
            buckets=_BOUNDS_S,
            registry=self._registry,
        )

    def answered(self, model: Served, seconds: float) -> None:
        """A request was answered after so long."""
        self._seconds.labels(model.wanted.name, model.wanted.version).observe(seconds)

    def render(self) -> tuple[str, bytes]:
        """Content type and body of ``/metrics``."""
        return str(self._exposition.CONTENT_TYPE_LATEST), bytes(self._exposition.generate_latest(self._registry))

    def collect(self) -> Iterator[Any]:
        """Called by the registry."""
        of = ("model", "version")
        verdicts = self._core.CounterMetricFamily("edgead_serve_verdicts", "Verdicts given", labels=(*of, "verdict"))
        causes = self._core.CounterMetricFamily("edgead_serve_causes", "Verdicts that have a cause", labels=(*of, "cause"))
        reloads = self._core.CounterMetricFamily(
            "edgead_serve_reloads", "Changed bundles that were taken, or refused while the former goes on", labels=(*of, "result")
        )
        info = self._core.GaugeMetricFamily(
            "edgead_serve_bundle_info", "Bundle and engine that answer now", labels=(*of, "sha256", "engine")
        )
        for model in self._models:
            labels, counts = (model.wanted.name, model.wanted.version), model.counts
            for family, found in ((verdicts, counts.verdicts), (causes, counts.causes)):
                for name, count in sorted(found.copy().items()):
                    family.add_metric((*labels, name), count)
            reloads.add_metric((*labels, "taken"), counts.exchanged)
            reloads.add_metric((*labels, "refused"), counts.refused)
            info.add_metric((*labels, model.bundle.digest, model.engine), 1)
        yield from (verdicts, causes, reloads, info)
