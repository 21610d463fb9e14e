"""Doctor's checks of what runs on the servers: topics, schemas, blobs, the models and what Triton has loaded of them."""

import asyncio

from schemas.errors import InferenceTimeoutError, ModelProcessDiedError, ReleaseNotReadyError
from topology.configuration import Configuration
from topology.findings import Check, Finding

_PROBE_S = 10.0


def check_topics(configuration: Configuration) -> Finding:
    from topology import wiring

    differences = wiring.topics(configuration.settings).differences()
    if not differences:
        return Finding("topics", "ok", "all as the catalogue says")
    missing = [d.topic for d in differences if d.what == "topic"]
    if missing and len(missing) == len(differences):
        return Finding("topics", "warn", f"{len(missing)} are missing", "start a worker or a gateway; each makes what is missing")
    first = next(d for d in differences if d.what != "topic")
    return Finding(
        "topics",
        "fail",
        f"{len(differences)} differences; {first.topic} has {first.what} {first.found}, not {first.wanted}",
        "hindsight topics lists them all",
    )


def check_schemas(configuration: Configuration) -> Finding:
    from schemas.catalogue import TOPIC_OF
    from topology import wiring

    known = wiring.schemas(configuration.settings)
    missing = [event.__name__ for event in TOPIC_OF if not known.is_registered(event)]
    if missing:
        seen = f"{len(missing)} of {len(TOPIC_OF)} are not in the registry: {', '.join(missing[:3])}"
        return Finding("schemas", "warn", seen, "start a worker or a gateway; each registers them")
    return Finding("schemas", "ok", f"all {len(TOPIC_OF)} are in the registry as they are here")


def check_models(configuration: Configuration) -> Finding:
    from topology import models

    if "triton" not in configuration.settings.stack.servers:
        return Finding("models", "ok", "Triton is not part of this stack")
    names = models.releases()
    for name in names:
        models.release_steps(configuration.home, name)
    return Finding("models", "ok", f"the repository has {', '.join(names)}")


def check_loaded(configuration: Configuration) -> Finding:
    from topology import commands

    settings = configuration.settings
    state = commands.releases_now(settings)
    if state.in_force is None:
        seen = f"none of {settings.pipeline.name} is in force"
        return Finding("release", "warn", seen, "hindsight releases register NAME, then hindsight releases promote NAME")
    troubles = asyncio.run(serving_troubles(settings.triton.endpoints, state.in_force))
    if troubles:
        seen = f"{state.in_force} is in force, and {'; '.join(troubles)}"
        return Finding(
            "release", "fail", seen, "see that a worker runs the release processor: it loads models and starts dead ones"
        )
    return Finding("release", "ok", f"{state.in_force} is in force, ready, and reads")


def check_pins(configuration: Configuration) -> Finding:
    """The files of the release in force are those that it pins; what another content reads is not recorded."""
    from topology import commands, models

    if "triton" not in configuration.settings.stack.servers:
        return Finding("pins", "ok", "Triton is not part of this stack")
    state = commands.releases_now(configuration.settings)
    if state.in_force is None or state.in_force not in state.releases:
        return Finding("pins", "ok", "no release is in force")
    changed = models.changed_since_pinned(configuration.home, state.releases[state.in_force].steps)
    if not changed:
        return Finding("pins", "ok", f"all files of {state.in_force} are as it pins them")
    what = ", ".join(f"{s.model}:{s.version} to {s.digest[:16]} and the folder holds {found[:16]}" for s, found in changed)
    return Finding(
        "pins",
        "fail",
        f"{state.in_force} pins {what}",
        "put the pinned files back and restart Triton, or register what is there as a new release and promote it; frames wait",
    )


async def serving_troubles(endpoints: tuple[str, ...], release: str) -> list[str]:
    """What is wrong with a release on each server that does not read a small picture by it."""
    from streams.triton_processes import TritonProcesses

    troubles = []
    for endpoint in endpoints:
        server = TritonProcesses(endpoint, probe_timeout_s=_PROBE_S)
        try:
            await server.probe(release)
        except ReleaseNotReadyError:
            troubles.append(f"it is not ready on {endpoint}")
        except ModelProcessDiedError as error:
            troubles.append(f"the process of {error.model} at {endpoint} is dead")
        except InferenceTimeoutError:
            troubles.append(f"{endpoint} does not read by it within {_PROBE_S:g} s")
        finally:
            await server.close()
    return troubles


PIPELINE_CHECKS: list[Check] = [check_topics, check_schemas, check_models, check_loaded, check_pins]
