"""Releases that are wrong on purpose: built into the session's model repository, beside those that are right."""

import shutil
from dataclasses import replace
from pathlib import Path

from schemas.events import RegisterRelease, ReleaseRegistered
from schemas.types import ReleaseStep
from streams.records import system_clock
from tests.e2e.deployment import Deployment
from topology import commands, models
from topology.stack.local import LocalStack
from triton_models.configuration import ensemble_config, model_config
from triton_models.digest import model_digest
from triton_models.repository import RELEASES

MISREADS, CRASHES = "gate_reader_misreads", "gate_reader_crashes"
_ROTATED = str.maketrans("0123456789", "1234567890")


def misreading(stack: LocalStack) -> tuple[ReleaseStep, ...]:
    """gate_reader_r1, but for a vocabulary whose digits are one too high: every code has a wrong check digit."""
    folder = _copied(stack, "postprocess", "postprocess_misreads")
    for path in folder.glob("vocabulary_*.txt"):
        path.write_text(path.read_text(encoding="utf-8").translate(_ROTATED), encoding="utf-8")
    return _ensemble(stack, MISREADS, "postprocess", "postprocess_misreads")


def crashing(stack: LocalStack) -> tuple[ReleaseStep, ...]:
    """gate_reader_r1, but for a classifier that fails on every frame that has a crop."""
    folder = _copied(stack, "classifier", "classifier_crashes")
    path = folder / "steps" / "classifier.py"
    takes = 'crops = tensors["CLASSIFIER_PIXELS"]\n'
    source = path.read_text()
    assert takes in source, "the step takes its crops so"
    path.write_text(source.replace(takes, f'{takes}        if len(crops):\n            raise RuntimeError("planted")\n'))
    return _ensemble(stack, CRASHES, "classifier", "classifier_crashes")


def register(deployment: Deployment, release: str, steps: tuple[ReleaseStep, ...]) -> None:
    """Register a planted release; its models are not stored."""
    command = RegisterRelease(
        command_id=commands.new_command_id(),
        pipeline=deployment.settings.pipeline.name,
        release=release,
        steps=steps,
        parameters=models.release_parameters(),
        issued_by="test",
        reason="planted",
        issued_at_us=system_clock(),
    )
    commands.send(deployment.settings, command, until=lambda e: isinstance(e, ReleaseRegistered), timeout_s=60)


def _copied(stack: LocalStack, model: str, name: str) -> Path:
    """A model's newest version under another name, as version 1."""
    repository = stack.layout.model_repository
    version = max(int(path.name) for path in (repository / model).iterdir() if path.is_dir() and path.name.isdigit())
    target = repository / name / "1"
    if not target.exists():
        shutil.copytree(repository / model / str(version), target)
        step = model
        (repository / name / "config.pbtxt").write_text(model_config(step, model=name, versions=(1,), threads=1))
    return target


def _ensemble(stack: LocalStack, release: str, step: str, model: str) -> tuple[ReleaseStep, ...]:
    repository = stack.layout.model_repository
    pins = tuple(replace(pin, model=model, version=1) if pin.step == step else pin for pin in RELEASES["gate_reader_r1"])
    (repository / release / "1").mkdir(parents=True, exist_ok=True)
    (repository / release / "config.pbtxt").write_text(ensemble_config(release, pins))
    return tuple(
        ReleaseStep(step=p.step, model=p.model, version=p.version, digest=model_digest(repository / p.model / str(p.version)))
        for p in pins
    )
