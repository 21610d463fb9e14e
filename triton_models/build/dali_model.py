"""The preprocessing as one file, model.dali, for Triton's DALI backend.

Owns the serialisation; the arithmetic is the step's own graph (`steps.dali_preprocess.detection_graph`), so there is
no second place where scaling or normalising is written down.

Guarantees: on a CPU the serialised graph gives the bits of the step. On a GPU ("mixed") the same operators run in
other implementations (nvJPEG decodes, the GPU scales), so results are close and not equal: another model version.
What the step refuses before decoding, a picture that claims too many pixels, this file does not: the frame's door does.

Next: the file goes into dali_preprocess/<version>/ beside a configuration of the variant "gpu".
"""

import argparse
import sys
from pathlib import Path
from typing import Any, Literal

from schemas.errors import ConfigurationError

DALI_FILE = "model.dali"

Device = Literal["cpu", "mixed"]


def serialised_preprocess(*, side_px_max: int, device: Device = "mixed", threads: int = 1) -> bytes:
    """The pipeline from IMAGE (uint8, the encoded bytes) to PIXELS and DETECTION_PIXELS, in this order.

    Args:
        side_px_max: Longest side for detection, a multiple of 32; the step's setting of the same name.
        device: "mixed" decodes on the GPU that the server gives; "cpu" is for tests.
        threads: CPU threads of the pipeline.
    Raises:
        ConfigurationError: DALI is not installed, or the side is not a multiple of 32.
    """
    if side_px_max < 32 or side_px_max % 32:
        raise ConfigurationError(f"side_px_max must be a multiple of 32, not {side_px_max}", setting="side_px_max")
    try:
        from triton_models.steps.dali_preprocess import dali, detection_graph, fn, types
    except ImportError as exc:
        raise ConfigurationError("DALI is not installed", do="install the extra `local`") from exc
    # Without a device id the file is made on any machine; the server sets its own.
    pipeline = dali.Pipeline(batch_size=1, num_threads=threads, device_id=None, prefetch_queue_depth=1)
    with pipeline:
        encoded = fn.external_source(name="IMAGE", dtype=types.UINT8, ndim=1, device="cpu")
        pixels, detection_pixels = detection_graph(encoded, side_px_max=side_px_max, device=device)
        pipeline.set_outputs(pixels, detection_pixels)
    content: bytes = pipeline.serialize()
    return content


def restored_pipeline(content: bytes, *, device_id: int | None = None) -> Any:
    """A serialised pipeline, ready to be fed IMAGE and run; `device_id` None for one that stays on the CPU."""
    from triton_models.steps.dali_preprocess import dali

    return dali.Pipeline.deserialize(
        serialized_pipeline=content, batch_size=1, num_threads=1, device_id=device_id, exec_async=False, exec_pipelined=False
    )


def main(arguments: list[str] | None = None) -> int:
    """Write model.dali into a folder."""
    parser = argparse.ArgumentParser(prog="python -m triton_models.build.dali_model", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the model version")
    parser.add_argument("--side-px-max", type=int, default=736)
    chosen = parser.parse_args(arguments)
    try:
        content = serialised_preprocess(side_px_max=chosen.side_px_max)
    except ConfigurationError as exc:
        print(f"{exc}. To do: {exc.do}", file=sys.stderr)
        return 2
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / DALI_FILE).write_bytes(content)
    print(f"{chosen.out / DALI_FILE}: {len(content)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
