"""Products noted in an MLflow store (https://mlflow.org), by its client package; the vendor's name appears only here."""

from __future__ import annotations

import os
from typing import Any

from edgead.errors import EngineError
from edgead.jobs.factory.made import Made
from edgead.optional import require
from edgead.runtime.redact import redact
from edgead.words import keep_secret, one_line

METRICS = ("auroc", "threshold", "p99_ms", "budget_ms", "train_s", "export_s", "pictures")


class Notes:
    """A run of an MLflow experiment for each product that was made or failed.

    Args:
        address: of the store: ``http://HOST:PORT``, or ``sqlite:///FILE`` (which needs SQLAlchemy and Alembic, too).
        experiment: its name.

    Attributes:
        failed: products that could not be noted, and why.

    Raises:
        MissingExtra: MLflow's client is not installed.
        EngineError: there is no store.
    """

    def __init__(self, address: str, experiment: str) -> None:
        mlflow = require("mlflow", extra="mlflow", why="Noting products in MLflow")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # of 7, which take minutes
        self.failed: dict[str, str] = {}
        if "@" in address:
            keep_secret(address.rpartition("@")[0].rpartition(":")[2])
        try:
            self._client: Any = mlflow.MlflowClient(tracking_uri=address)
            known = self._client.get_experiment_by_name(experiment)
            self._experiment = known.experiment_id if known is not None else self._client.create_experiment(experiment)
        except Exception as error:  # MLflow, its stores and its HTTP client raise many kinds
            told = f"no MLflow store at {redact(address)}: {one_line(str(error), 300)}"
            raise EngineError(
                told, hint="check --mlflow: http://HOST:PORT, or sqlite:///FILE with sqlalchemy and alembic installed"
            ) from error

    def note(self, one: Made) -> None:
        """Note a product; one that could not be is told in `failed`: a store that went away costs no model."""
        try:
            self._note(one)
        except Exception as error:  # noqa: BLE001 - see above
            self.failed[one.name] = one_line(str(error), 300) or type(error).__name__

    def _note(self, one: Made) -> None:
        client = self._client
        run = client.create_run(
            self._experiment, run_name=one.name, tags={"edgead.state": one.state, "edgead.bundle": one.sha256}
        )
        client.log_param(run.info.run_id, "product", one.name)
        client.log_param(run.info.run_id, "method", one.method)
        client.log_param(run.info.run_id, "size", f"{one.width} x {one.height}")
        client.log_param(run.info.run_id, "engine", one.engine or "-")
        client.log_param(run.info.run_id, "folder", str(one.folder))
        for name in METRICS:
            if (value := getattr(one, name)) is not None:
                client.log_metric(run.info.run_id, name, float(value))
        if one.why:
            client.set_tag(run.info.run_id, "edgead.failed", f"{one.step}: {one.why}")
        client.set_terminated(run.info.run_id, "FAILED" if one.state == "failed" else "FINISHED")
