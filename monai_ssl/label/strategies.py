"""Strategies of MONAI Label's next sample, which answer at once from what was worked out beside the server."""

from __future__ import annotations

from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from monai_ssl.data.monai_label import study_path
from monai_ssl.label.suggestions import Suggestions, rank_studies
from monai_ssl.metrics.acquisition import choose_scans

__all__ = ["DESCRIPTIONS", "SuggestionStrategy"]

DESCRIPTIONS = {
    "uncertainty_coverage": "Of the studies that the model is unsure of, one unlike all labelled ones",
    "uncertainty": "The study that the model is most unsure of",
    "coverage": "The study most unlike all labelled ones",
    "random": "Any study",
    "first": "The first study by name",
}
_PLAIN = ("random", "first")


class SuggestionStrategy(Strategy):  # type: ignore[misc]
    """Gives the next study without a final label.

    A study that the strategy has given before, and that was not labelled, comes after those that it has not given.
    Before there is a ranking, or where the last one does not know a study yet, studies come by name, and the answer's
    ``note`` says so.

    Args:
        name: key of :data:`DESCRIPTIONS`.
        suggestions: the rankings.
    """

    def __init__(self, name: str, suggestions: Suggestions) -> None:
        super().__init__(DESCRIPTIONS[name])
        self.name = name
        self.suggestions = suggestions

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The answer, with ``uncertainty`` and ``distance`` to the nearest labelled study where they are known."""
        names = sorted(datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels")))
        if not names:
            return None
        given = {name: self._given(datastore, name) for name in names}
        answer: dict[str, Any] = {}
        ranking: dict[str, Any] = {}
        if self.name in _PLAIN:
            order = [names[row] for row in choose_scans(self.name, len(names), len(names), seed=len(names))]
        else:
            ranking = self.suggestions.read()
            paths = {name: str(study_path(datastore, name)) for name in names}
            order = rank_studies(self.name, ranking, paths)
            if not order:
                answer["note"] = "no model has ranked the studies yet: they come by name"
            order += [name for name in names if name not in set(order)]
        chosen = min(order, key=lambda name: (given[name], order.index(name)))
        path = str(study_path(datastore, chosen))
        scan: dict[str, Any] = next((scan for scan in ranking.get("scans", []) if scan["case"] == path), {})
        return {"id": chosen, **answer, **{key: value for key, value in scan.items() if key != "case"}}

    def _given(self, datastore: Datastore, name: str) -> float:
        """When this strategy gave the study last; 0 for never."""
        told = (datastore.get_image_info(name) or {}).get("strategy", {}).get(self.name, {})
        return float(told.get("ts", 0))
