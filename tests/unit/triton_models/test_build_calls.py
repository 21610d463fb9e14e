"""What a build asks of TensorRT and writes of it, held on a stand-in for the library; that real plans come out needs a GPU."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.errors import ConfigurationError
from tests.unit.triton_models.test_build_plan import MANIFEST
from triton_models.build import tensorrt_plan
from triton_models.build.tensorrt_plan import DETECTION_PROFILES, PlanManifest, build_plan
from triton_models.digest import file_sha256
from triton_models.repository import MODEL_VERSIONS
from triton_models.wiring import STEPS

OURS, ANOTHER_GPUS = b"times of this GPU", b"times of another GPU"


class StandIn:
    """As much of TensorRT 10 as a build calls; remembers what it was asked, and takes times of its own GPU only."""

    __version__ = "10.6.0"
    Logger = SimpleNamespace
    BuilderFlag = SimpleNamespace(FP16="fp16")
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")

    def __init__(self, *, reads: bool = True, builds: bool = True) -> None:
        self.flags: list[str] = []
        self.shapes: list[tuple[Any, ...]] = []
        self.cache: Any = None
        self.tensors = (SimpleNamespace(name="x"), SimpleNamespace(name="y"))
        self._reads, self._builds = reads, builds
        self.Logger = lambda severity: None  # type: ignore[assignment, misc]
        self.Logger.WARNING = 1  # type: ignore[attr-defined]

    def Builder(self, logger: Any) -> Any:  # noqa: N802  # TensorRT's own name
        config = SimpleNamespace(
            set_memory_pool_limit=lambda pool, size: None,
            set_flag=self.flags.append,
            add_optimization_profile=lambda profile: 0,
            create_timing_cache=lambda content: None if content == b"damaged" else SimpleNamespace(content=content),
            set_timing_cache=self._set_cache,
            get_timing_cache=lambda: SimpleNamespace(serialize=lambda: OURS),
        )
        network = SimpleNamespace(get_input=lambda at: self.tensors[0], get_output=lambda at: self.tensors[1])
        return SimpleNamespace(
            create_network=lambda flags: network,
            create_builder_config=lambda: config,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *shape: self.shapes.append(shape)),
            build_serialized_network=lambda network, config: b"plan" if self._builds else None,
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802  # TensorRT's own name
        return SimpleNamespace(parse=lambda content: self._reads, num_errors=1, get_error=lambda at: "no such operator")

    def _set_cache(self, cache: Any, *, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.content not in (b"", OURS):
            return False
        self.cache = cache.content
        return True


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    file = tmp_path / "net.onnx"
    file.write_bytes(b"network")
    return file


def built(onnx: Path, library: StandIn, monkeypatch: pytest.MonkeyPatch, **named: Any) -> PlanManifest:
    monkeypatch.setattr(tensorrt_plan, "tensorrt", lambda: library)
    monkeypatch.setattr(tensorrt_plan, "gpu_facts", lambda: MANIFEST.gpu)
    return build_plan(onnx, onnx.parent / "out", clock_s=iter((1.0, 3.5)).__next__, **named)


def test_a_build_asks_for_half_precision_and_each_batchs_profile(onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fp16 is set, each profile gets its shapes under the step's input name, and both tensors are named as Triton wants them."""
    library = StandIn()
    built(onnx, library, monkeypatch)
    assert library.flags == ["fp16"]
    assert library.shapes == [(STEPS["detection"].inputs[0], *profile.shapes()) for profile in DETECTION_PROFILES]
    assert tuple(t.name for t in library.tensors) == (*STEPS["detection"].inputs, *STEPS["detection"].outputs)
    plain = StandIn()
    built(onnx, plain, monkeypatch, precision="fp32")
    assert plain.flags == []
    assert any(version.step == "detection" for version in MODEL_VERSIONS)


def test_the_manifest_beside_the_plan_says_what_made_it(onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builder, GPU, both digests, precision and time; and nothing half written stays."""
    made = built(onnx, StandIn(), monkeypatch)
    out = onnx.parent / "out"
    assert PlanManifest.from_json((out / "model.plan.json").read_bytes()) == made
    assert (made.builder, made.gpu, made.built_in_s) == ("TensorRT 10.6.0", MANIFEST.gpu, 2.5)
    assert (made.onnx_sha256, made.plan_sha256) == (file_sha256(onnx), file_sha256(out / "model.plan"))
    assert sorted(p.name for p in out.iterdir()) == ["model.plan", "model.plan.json"]
    assert json.loads(made.to_json())["gpu"]["compute_capability"] == MANIFEST.gpu.compute_capability


@pytest.mark.parametrize(("there", "taken"), [(None, False), (OURS, True), (ANOTHER_GPUS, False), (b"damaged", False)])
def test_a_timing_cache_is_used_only_where_it_fits(
    there: bytes | None, taken: bool, onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times of another GPU or damaged ones are left aside, the manifest says so, and the file is written anew."""
    cache, library = onnx.parent / "timing.cache", StandIn()
    if there is not None:
        cache.write_bytes(there)
    made = built(onnx, library, monkeypatch, timing_cache=cache)
    assert (made.timing_cache, library.cache) == (taken, OURS if taken else b"")
    assert cache.read_bytes() == OURS


@pytest.mark.parametrize(
    ("library", "words"), [(StandIn(reads=False), "no such operator"), (StandIn(builds=False), "built no plan")]
)
def test_a_build_that_fails_leaves_no_plan(library: StandIn, words: str, onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What TensorRT said is in the error."""
    with pytest.raises(ConfigurationError, match=words):
        built(onnx, library, monkeypatch)
    assert not (onnx.parent / "out").exists()
