"""The columns of the Parquet tables, and the rows that events give. Pure."""

from dataclasses import dataclass
from typing import Any

from processors.export.moments import Moment
from processors.export.stories import Story
from schemas.events import AlertRaised, FrameAccepted, FrameRejected, InferenceCompleted, InferenceFailed, ResultDerived
from streams.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`kind` is text, name (a text that repeats), whole, number, truth, time, numbers, texts or measures."""

    name: str
    kind: str
    doc: str
    nullable: bool = False


def _columns(*lines: str) -> tuple[Column, ...]:
    """One column a line: its name, its kind with a ? when there may be none, and what it says."""
    out = []
    for line in lines:
        name, kind, doc = line.split(maxsplit=2)
        out.append(Column(name=name, kind=kind.rstrip("?"), doc=doc, nullable=kind.endswith("?")))
    return tuple(out)


_FRAME = (
    "device_id       name      The device.",
    "frame_id        text      The frame's id.",
    "session_id      name      One run of the device's stream.",
    "sequence        whole     Place in the session, from 0.",
    "captured_at     time      The device's clock at capture; may be wrong.",
    "passage_id      text?     The passage, as the device said.",
)

READING_COLUMNS = _columns(
    *_FRAME,
    "appended_at     time      When the broker took the result, to the millisecond.",
    "pipeline        name      The pipeline.",
    "release         name?     The release that read the frame.",
    "rules           name      The rules that made the reading, with their version.",
    "reading         whole     Number of the reading in its frame, from 0.",
    "kind            name      What kind of thing was read.",
    "label           text      What was read.",
    "confidence      number    0 to 1.",
    "valid           truth?    Whether the reading verifies itself; none where it cannot.",
    "observation     whole     The observation that it rests on, by index.",
    "polygon_px      numbers   Corners x0 y0 x1 y1 ... in px of the frame.",
    "conclusion      text?     What the passage said so far.",
    "result_id       text      The event's id.",
    "inference_id    text      The inference's id.",
    "partition       whole     Partition of the result's record.",
    "offset          whole     Offset of the result's record.",
)

FRAME_COLUMNS = _columns(
    *_FRAME,
    "received_at     time      When the gateway took the frame.",
    "appended_at     time      When the broker took the frame, to the millisecond.",
    "channel         name      The door that it came in by.",
    "blob_sha256     text      Digest of the image.",
    "blob_size_bytes whole     Size of the encoded image.",
    "media_type      name      What the sender called the image.",
    "outcome         name      read, nothing_read, failed, skipped, rejected, unfinished.",
    "detail          text      Why, where it was not read.",
    "reasons         texts     Why it was rejected.",
    "warnings        texts     What the assessment warned of.",
    "width_px        whole?    Width as assessed.",
    "height_px       whole?    Height as assessed.",
    "measures        measures? Measures of the image, such as sharpness.",
    "release         name?     The release that read it.",
    "duration_us     whole?    How long the inference took.",
    "attempts        whole?    How often the ensemble was asked.",
    "observations    whole?    How many things the models reported.",
    "candidates      whole?    How many were left out.",
    "readings        whole?    How many readings the result has.",
    "conclusion      text?     What the passage said so far.",
    "valid           truth?    Whether the conclusion verifies itself.",
    "corrected_from  text?     What the passage said before this frame changed it.",
    "alerts          texts     Kinds of alerts that this frame raised.",
    "partition       whole     Partition of the frame's record.",
    "derived_partition whole?  Partition of what followed from it; another one where the sender chose by another hash.",
    "frame_offset    whole     Offset in vision.frames.",
    "assessed_offset whole?    Offset in vision.assessments.",
    "inferred_offset whole?    Offset in vision.inferences.",
    "result_offset   whole?    Offset in vision.results.",
)


def reading_rows(event: ResultDerived, record: Record) -> tuple[dict[str, Any], ...]:
    """A row for each reading of a result."""
    return tuple(
        {
            **_frame_fields(event),
            "appended_at": record.appended_at_ms * 1000,
            "pipeline": event.pipeline,
            "release": event.release,
            "rules": event.rules,
            "reading": number,
            "kind": reading.kind,
            "label": reading.label,
            "confidence": reading.confidence,
            "valid": reading.valid,
            "observation": reading.observation_index,
            "polygon_px": list(reading.polygon_px),
            "conclusion": event.conclusion.label if event.conclusion is not None else None,
            "result_id": event.event_id,
            "inference_id": event.inference_id,
            "partition": record.partition,
            "offset": record.offset,
        }
        for number, reading in enumerate(event.readings)
    )


def frame_row(story: Story) -> dict[str, Any]:
    """The row of a frame."""
    captured, record = story.captured.event, story.captured.record
    return {
        **_frame_fields(captured),
        "received_at": captured.received_at_us,
        "appended_at": record.appended_at_ms * 1000,
        "channel": captured.channel,
        "blob_sha256": captured.frame.blob.sha256,
        "blob_size_bytes": captured.frame.blob.size_bytes,
        "media_type": captured.frame.blob.media_type,
        "outcome": story.outcome,
        **_assessed(story),
        **_inferred(story),
        **_result(story),
        "alerts": [m.event.kind for m in story.alerts if isinstance(m.event, AlertRaised)],
        "partition": record.partition,
        "derived_partition": story.assessed.record.partition if story.assessed is not None else None,
        "frame_offset": record.offset,
        "assessed_offset": _offset(story.assessed),
        "inferred_offset": _offset(story.inferred),
        "result_offset": _offset(story.result),
    }


def _frame_fields(event: Any) -> dict[str, Any]:
    frame = event.frame
    return {
        "device_id": frame.device_id,
        "frame_id": frame.frame_id,
        "session_id": frame.session_id,
        "sequence": frame.sequence,
        "captured_at": frame.captured_at_us,
        "passage_id": frame.passage_id,
    }


def _assessed(story: Story) -> dict[str, Any]:
    event = story.assessed.event if story.assessed is not None else None
    accepted = event if isinstance(event, FrameAccepted) else None
    return {
        "reasons": list(event.reasons) if isinstance(event, FrameRejected) else [],
        "warnings": list(accepted.warnings) if accepted is not None else [],
        "width_px": accepted.width_px if accepted is not None else None,
        "height_px": accepted.height_px if accepted is not None else None,
        "measures": sorted(accepted.measures.items()) if accepted is not None else None,
    }


def _inferred(story: Story) -> dict[str, Any]:
    event = story.inferred.event if story.inferred is not None else None
    asked = event if isinstance(event, InferenceCompleted | InferenceFailed) else None
    completed = event if isinstance(event, InferenceCompleted) else None
    return {
        "release": event.release if event is not None else None,
        "duration_us": asked.duration_us if asked is not None else None,
        "attempts": asked.attempts if asked is not None else None,
        "observations": len(completed.observations) if completed is not None else None,
        "candidates": len(completed.candidates) if completed is not None else None,
    }


def _result(story: Story) -> dict[str, Any]:
    result = story.result.event if story.result is not None else None
    conclusion = result.conclusion if result is not None else None
    rejected = story.assessed.event if story.assessed is not None and story.outcome == "rejected" else None
    return {
        "detail": result.detail if result is not None else rejected.detail if rejected is not None else "",
        "readings": len(result.readings) if result is not None else None,
        "conclusion": conclusion.label if conclusion is not None else None,
        "valid": conclusion.valid if conclusion is not None else None,
        "corrected_from": story.corrected.event.previous.label if story.corrected is not None else None,
    }


def _offset(moment: Moment | None) -> int | None:
    return moment.record.offset if moment is not None else None
