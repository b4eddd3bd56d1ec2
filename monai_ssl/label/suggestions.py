"""Which study to label next, worked out beside the server while people go on."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ssl.label.progress import trained_weights
from monai_ssl.networks.student import has_teacher
from monai_ssl.utils.files import write_json
from monai_ssl.utils.keys import RunFiles

__all__ = ["State", "Suggestions", "rank_studies"]

logger = logging.getLogger(__name__)

State = Mapping[str, Mapping[str, str]]
"""Paths of the studies by name: those with a label under ``labeled``, the others under ``unlabeled``."""


class Suggestions:
    """Ranks the unlabelled studies by the newest model, again after every training and every label.

    The work is done by ``suggest.yaml`` of the bundle that was trained last, in a process of low priority. Until then
    the weights of the pretraining are taken, if there are any and a segmentation to put them into: then studies can be
    told to be unlike the labelled ones, but not how unsure the network is of them.

    Args:
        folder: gets ``suggestions.json``.
        bundles: folders of those that can suggest; the segmentation is the first.
        pretraining: folder of the bundle.
        state: what the server has now.
        busy: whether a training is on; nothing is ranked meanwhile.
        seconds: between two looks at the state.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        bundles: Sequence[str | os.PathLike[str]],
        pretraining: str | os.PathLike[str],
        state: Callable[[], State],
        busy: Callable[[], bool],
        seconds: float = 3.0,
    ) -> None:
        self.folder = Path(folder)
        self.bundles, self.pretraining = [Path(bundle) for bundle in bundles], Path(pretraining)
        self.state, self.busy = state, busy
        self.seconds = seconds
        self._failed: Any = None

    def start(self) -> None:
        """Look at the state from now on, in a thread that ends with the process."""
        threading.Thread(target=self._watch, name="suggestions", daemon=True).start()

    def read(self) -> dict[str, Any]:
        """The last ranking: see :func:`~monai_ssl.engines.suggestion.write_suggestions`; empty before there is one."""
        try:
            content: dict[str, Any] = json.loads((self.folder / "suggestions.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content

    def refresh(self) -> bool:
        """Rank now, if anything has changed since the last time; return whether it did."""
        state, found = self.state(), self._model()
        if found is None or not state["unlabeled"] or self.busy():
            return False
        weights = found[1]
        stamp = {
            "weights": [str(weights), weights.stat().st_mtime_ns],
            "labeled": sorted(state["labeled"]),
            "unlabeled": sorted(state["unlabeled"]),
        }
        if stamp in (self._last_stamp(), self._failed):
            return False
        start = time.perf_counter()
        problem = self._run(state, *found)
        self._failed = stamp if problem else None
        if problem:
            logger.warning(f"no new suggestions: {problem}")
        else:
            write_json(self.folder / "of.json", stamp)
            logger.info(f"ranked {len(state['unlabeled'])} studies by {weights} in {time.perf_counter() - start:.0f} s")
        return not problem

    def _watch(self) -> None:
        told = ""
        while True:
            time.sleep(self.seconds)
            try:
                self.refresh()
                told = ""
            except (
                Exception
            ) as error:  # whatever happens here, such as a DICOM server that is away, this server goes on
                if str(error) != told:
                    told = str(error)
                    logger.exception("no new suggestions")

    def _model(self) -> tuple[Path, Path] | None:
        """The bundle that suggests, and the weights that it does so with."""
        trained = [(bundle, trained_weights(bundle / "models")) for bundle in self.bundles]
        newest = max(
            ((bundle, weights) for bundle, weights in trained if weights is not None),
            key=lambda found: found[1].stat().st_mtime,
            default=None,
        )
        pretrained = trained_weights(self.pretraining / "models")
        if newest is None and pretrained is not None and self.bundles and "segmentation" in self.bundles[0].name:
            return self.bundles[0], pretrained
        return newest

    def _last_stamp(self) -> Any:
        try:
            return json.loads((self.folder / "of.json").read_text(encoding="utf-8")) if self.read() else None
        except (OSError, ValueError):
            return None

    def _run(self, state: State, bundle: Path, weights: Path) -> str:
        """Rank; what went wrong, in a line, or nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        studies = self.folder / "studies.json"
        # a list's training cases must have labels; suggest.yaml reads their images alone
        nothing: dict[str, Any] = {"box": [], "label": []} if "detection" in bundle.name else {}
        labeled = [{"image": path, "label": path, **nothing} for path in state["labeled"].values()]
        write_json(
            studies, {"training": labeled, "unlabeled": [{"image": path} for path in state["unlabeled"].values()]}
        )
        settings = {"datalist": studies, "output_dir": self.folder, "weights": weights, "overwrite": "true"}
        settings |= {"bundle_root": bundle, "count": len(state["unlabeled"]), **self._of(weights)}
        command = [sys.executable, "-m", "monai.bundle", "run", "--config_file"]
        command.append(str(bundle / "configs" / "suggest.yaml"))
        command += [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8", errors="replace"
        )
        with contextlib.suppress(OSError):  # it may have ended already
            os.setpriority(os.PRIO_PROCESS, process.pid, 15)
        told = process.communicate()[1]
        if process.returncode == 0:
            return ""
        lines = [line for line in told.splitlines() if line.strip()]
        return next((line for line in reversed(lines) if line.startswith("Error: ")), lines[-1] if lines else "killed")

    def _of(self, weights: Path) -> dict[str, Any]:
        """Settings for a trained bundle's weights or a pretraining's."""
        if weights.is_relative_to(self.pretraining):
            encoder = "$monai_ssl.networks.frozen_features.load_encoder(@network_def, @weights).to(@device)"
            return {"strategy": "coverage", "network": encoder}
        resume = weights.with_name(str(RunFiles.RESUME))
        student = {"student": resume} if resume.is_file() and has_teacher(resume) else {}
        return {"strategy": "uncertainty_coverage", **student}


def rank_studies(strategy: str, ranking: Mapping[str, Any], paths: Mapping[str, str]) -> list[str]:
    """Names of unlabelled studies, the one that teaches most first, as far as a ranking knows them.

    ``uncertainty_coverage`` has the ranking's own order. ``uncertainty`` and ``coverage`` order by the number of each
    study: exact for the next study; for those after it only a new ranking knows that the one before has a label.

    Args:
        strategy: ``uncertainty``, ``coverage`` or ``uncertainty_coverage``.
        ranking: see :meth:`Suggestions.read`.
        paths: of the unlabelled studies, by name.

    Returns:
        None at all where the ranking has not what the strategy asks for.
    """
    names = {path: name for name, path in paths.items()}
    if strategy == ranking.get("strategy"):
        order = ranking.get("suggested", [])
    else:
        number = {"uncertainty": "uncertainty", "coverage": "distance"}.get(strategy, "")
        scans = [scan for scan in ranking.get("scans", []) if scan.get(number) is not None]
        order = [scan["case"] for scan in sorted(scans, key=lambda scan: -scan[number])]
    return [names[path] for path in order if path in names]
