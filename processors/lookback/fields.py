"""What a condition may ask of a result and its inference; `where` reads the condition, `sampling` asks it."""

from collections.abc import Mapping
from typing import Any

from processors.rules.contract import Rules
from schemas.events import InferenceCompleted, ResultDerived

FIELDS: Mapping[str, str] = {
    "outcome": "read, nothing_read, failed or skipped",
    "release": "the release that read the frame",
    "rules": "name and version of the rules",
    "detail": "why, when it failed or was skipped",
    "label": "text of the reading that the frame votes for; where none votes, of the surest one",
    "kind": "that reading's kind",
    "valid": "whether that reading verifies itself",
    "confidence": "that reading's confidence",
    "labels": "texts of all readings, as a list",
    "kinds": "kinds of all readings, as a list",
    "readings_count": "how many readings",
    "passage_label": "what the passage says with this frame counted",
    "passage_valid": "whether that verifies itself",
    "detection_score": "the detector's score of that reading's place",
    "observations_count": "how many observations of the models",
    "candidates_count": "how many candidates were left out",
    "duration_ms": "time of the call",
    "attempts": "calls made",
    "endpoint": "the inference server",
    "failed_step": "the step that failed",
    "error_class": "how it failed",
    "device": "the device",
    "session": "the device's session",
    "sequence": "the frame's number in it",
}


def fields_of(event: ResultDerived, inference: Any, rules: Rules | None) -> dict[str, Any]:
    """What a condition may ask of a result: `FIELDS`, and each threshold that was sent with its inference."""
    ballot = rules.ballot(event.readings) if rules is not None else None
    leading = ballot if ballot is not None else max(event.readings, key=lambda r: r.confidence, default=None)
    seen = inference.observations if isinstance(inference, InferenceCompleted) else ()
    score = next((o.detection_score for o in seen if leading is not None and o.index == leading.observation_index), None)
    concluded = event.conclusion
    duration_us = getattr(inference, "duration_us", None)
    thresholds = dict(getattr(inference, "parameters", {}))
    fields = {
        "outcome": event.outcome,
        "release": event.release,
        "rules": event.rules,
        "detail": event.detail,
        "label": leading.label if leading is not None else None,
        "kind": leading.kind if leading is not None else None,
        "valid": leading.valid if leading is not None else None,
        "confidence": leading.confidence if leading is not None else None,
        "labels": [r.label for r in event.readings],
        "kinds": [r.kind for r in event.readings],
        "readings_count": len(event.readings),
        "passage_label": concluded.label if concluded is not None else None,
        "passage_valid": concluded.valid if concluded is not None else None,
        "detection_score": score,
        "observations_count": len(seen) if inference is not None else None,
        "candidates_count": len(getattr(inference, "candidates", ())) if inference is not None else None,
        "duration_ms": duration_us / 1000 if duration_us is not None else None,
        "attempts": getattr(inference, "attempts", None),
        "endpoint": getattr(inference, "endpoint", None),
        "failed_step": getattr(inference, "failed_step", None),
        "error_class": getattr(inference, "error_class", None),
        "device": event.frame.device_id,
        "session": event.frame.session_id,
        "sequence": event.frame.sequence,
    }
    return {**fields, **{n: v for n, v in thresholds.items() if n not in FIELDS}}
