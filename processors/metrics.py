"""Prometheus metrics of the shell. Seconds are seconds, and buckets are set for them."""

from prometheus_client import Counter, Gauge, Histogram

_PLACE = ("processor", "partition")

RECORDS = Counter("hindsight_records_total", "Records committed.", _PLACE)
EVENTS_OUT = Counter("hindsight_events_emitted_total", "Events appended.", _PLACE)
REPEATS = Counter("hindsight_repeats_total", "Records dropped as repeats by their source.", _PLACE)
LEFT_OUT = Counter("hindsight_left_out_total", "Records that the consumer left out, read from the log instead.", _PLACE)
DEAD_LETTERS = Counter("hindsight_dead_letters_total", "Records kept aside.", _PLACE)
RETRIES = Counter("hindsight_retries_total", "Waits for something that was away.", (*_PLACE, "error"))
IN_FLIGHT = Gauge("hindsight_window_in_flight", "Records in the window.", _PLACE)
POSITION = Gauge("hindsight_position", "Next offset to commit.", _PLACE)
LAG_RECORDS = Gauge("hindsight_lag_records", "Records on the topic that are not committed.", _PLACE)
LAG_SECONDS = Gauge("hindsight_lag_seconds", "Age of the oldest record that is not committed; 0 when there is none.", _PLACE)
VIEW_CHECKS = Counter("hindsight_view_checks_total", "Looks at a view, held against the log.", ("view", "partition", "outcome"))
VIEW_DIFFERENCES = Counter("hindsight_view_differences_total", "Views found to differ from the log.", ("view", "partition"))
VIEW_REPAIRS = Counter("hindsight_view_repairs_total", "Views made anew from the log.", ("view", "partition", "outcome"))
VIEW_VERIFIED = Gauge(
    "hindsight_view_verified_position", "Next offset up to which the view was found equal to the log.", ("view", "partition")
)
SNAPSHOTS_TAKEN = Counter("hindsight_snapshots_taken_total", "Snapshots announced.", ("view",))
SNAPSHOT_TROUBLES = Counter(
    "hindsight_snapshot_troubles_total", "Looks that ended without the snapshot that was due.", ("view", "error")
)
BATCH_RECORDS = Histogram(
    "hindsight_commit_batch_records", "Records in a commit.", ("processor",), buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
CALL_SECONDS = Histogram(
    "hindsight_inference_call_seconds",
    "Calls to the inference server.",
    ("release", "outcome"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
FRAME_TO_RESULT_SECONDS = Histogram(
    "hindsight_frame_to_result_seconds",
    "From a frame's capture, by its device's clock, to its result.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
