"""Writes the reference pages that say what the code says: events, topics, settings, commands, errors, metrics.

    python docs/reference/generate.py           writes them
    python docs/reference/generate.py --check   ends with 1 when one of them is not what it would write

Each page is made from the one place that the program itself uses. tests/docs/test_reference.py holds them up to date.
"""

import enum
import importlib
import inspect
import json
import pkgutil
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import typer
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

import schemas.errors
from schemas import avro_files
from schemas.catalogue import EVENT_BY_NAME, TOPICS, Topic, subject
from topology.cli import build_app
from topology.configuration import variable_of
from topology.settings import Settings

HERE = Path(__file__).parent
HEAD = "<!-- Made by docs/reference/generate.py; change the source that it names, then run that. -->\n"
DAY_MS = 24 * 3600 * 1000
WRITERS = ("streams", "processors", "topology")


def prose(text: str) -> str:
    """A paragraph, filled."""
    return textwrap.fill(" ".join(text.split()), 125, break_on_hyphens=False, break_long_words=False) + "\n"


def table(header: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in row)} |"


# --- events


def events() -> Iterator[str]:
    yield "# Events\n"
    yield prose(
        """Source: `schemas/avro/<event>/v<N>.avsc`, the newest version of each. Times are microseconds since the epoch
        (`timestamp-micros`), ids are UUIDs as text. A field with a default may be missing in older bytes. Parts that events
        share are at the end."""
    )
    yield prose("These have a schema, and nothing writes them yet: " + ", ".join(f"`{name}`" for name in never_written()) + ".")
    shared: dict[str, Any] = {}
    for topic in TOPICS.values():
        if not topic.events:
            continue
        yield f"## {topic.name}\n"
        for event in topic.events:
            schema = json.loads(avro_files.latest(event.__name__))
            yield f"### {event.__name__}\n"
            yield f"{schema['doc']} Version {avro_files.versions(event.__name__)[-1]}, subject `{subject(event)}`.\n"
            yield from _fields(schema, shared)
    yield "## Shared parts\n"
    done: set[str] = set()
    while missing := sorted(shared.keys() - done):
        for name in missing:
            done.add(name)
            yield f"### {name}\n"
            yield f"{shared[name]['doc']}\n"
            yield from _fields(shared[name], shared)


def never_written() -> list[str]:
    """Events and commands that no module makes."""
    root = HERE.parents[1]
    code = "\n".join(path.read_text() for name in WRITERS for path in sorted((root / name).rglob("*.py")))
    return [name for name in EVENT_BY_NAME if not re.search(rf"\b{name}\((?!\))", code)]


def _fields(schema: Any, shared: dict[str, Any]) -> Iterator[str]:
    rows = ((f"`{f['name']}`", _type(f["type"], shared), _default(f), f.get("doc", "")) for f in schema["fields"])
    yield from table(("field", "type", "default", "meaning"), rows)
    yield ""


def _type(kind: Any, shared: dict[str, Any]) -> str:
    match kind:
        case str():
            name = kind.rpartition(".")[2]
            return f"[{name}](#{name.lower()})" if name[0].isupper() else name
        case list():
            return " or ".join(_type(part, shared) for part in kind)
        case {"type": "record", "name": name}:
            shared.setdefault(name, kind)
            return f"[{name}](#{name.lower()})"
        case {"type": "array", "items": items}:
            return f"array of {_type(items, shared)}"
        case {"type": "map", "values": values}:
            return f"map of {_type(values, shared)}"
        case {"type": inner, "logicalType": logical}:
            return f"{inner} ({logical})"
        case _:
            return str(kind.get("type"))


def _default(field: Any) -> str:
    return f"`{json.dumps(field['default'])}`" if "default" in field else ""


# --- topics


def topics() -> Iterator[str]:
    yield "# Topics\n"
    yield prose(
        """Source: `schemas/catalogue.py`. A worker and both gateways make the topics that are missing when they start;
        auto-creation is off."""
    )
    yield prose(
        """All topics: timestamps are the broker's (`LogAppendTime`), compression as the producer chose (lz4), records up to 8
        MiB, cleanup by age. `chain` means `kafka.partitions` partitions (4 by default), the same for all of them. What Hindsight
        writes lies in the partition that murmur2 gives for its key; frames of others may lie by
        [another partitioner](../how-to/publish-frames.md#from-any-other-language)."""
    )
    yield from table(("topic", "key", "partitions", "kept", "events"), (_topic(t) for t in TOPICS.values()))
    yield ""
    yield prose(
        """`vision.dead-letters` holds records as they were, with their own headers and `hindsight_dlq_*` headers: `topic`,
        `partition`, `offset`, `appended_at_ms`, `processor`, `error_class`, `error_message`, `at`, and `key` where the record
        had one."""
    )
    yield "## Headers\n"
    yield prose(
        """CloudEvents in binary mode: `ce_specversion`, `ce_id`, `ce_type`, `ce_source`, `ce_time`, `ce_correlationid` (the frame
        or the command that began it), `ce_causationid` (what came just before), `content-type: application/avro`, and
        `traceparent` where a trace is recorded. Values are Avro in the Confluent wire format."""
    )


def _topic(topic: Topic) -> tuple[str, ...]:
    kept = "for ever" if topic.retention_ms < 0 else f"{topic.retention_ms // DAY_MS} days"
    names = ", ".join(f"[{e.__name__}](events.md#{e.__name__.lower()})" for e in topic.events) or "any record, untouched"
    return f"`{topic.name}`", topic.key, "chain" if topic.chained else "1", kept, names


# --- settings


def settings() -> Iterator[str]:
    yield "# Settings\n"
    yield prose(
        """Source: `topology/settings.py`. Strongest first: environment variable, `hindsight.toml` (the nearest from the current
        folder upwards, or `HINDSIGHT_CONFIG`), what the local stack recorded about itself, default. A setting that is unknown or
        impossible ends the command with exit code 2 and names itself. `hindsight config show` prints what is in force and where
        it came from."""
    )
    yield prose(
        """Lists are comma separated in a variable. Variables that are no settings: `HINDSIGHT_HOME` (the local stack's folder),
        `HINDSIGHT_CONFIG` (the settings file), `HINDSIGHT_DEBUG=1` (errors with a trace)."""
    )
    yield "## Top level\n"
    yield from _setting_table("", {n: f for n, f in Settings.model_fields.items() if not _is_group(f)})
    for name, field in Settings.model_fields.items():
        if _is_group(field):
            group = field.annotation
            assert isinstance(group, type)
            assert issubclass(group, BaseModel)
            yield f"## {name}\n"
            yield f"{inspect.getdoc(group)}\n"
            yield from _setting_table(f"{name}.", group.model_fields)


def _setting_table(prefix: str, fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    rows = (
        (f"`{prefix}{name}`", f"`{variable_of(prefix + name)}`", _shown(field.default), _allowed(field))
        for name, field in fields.items()
    )
    yield from table(("setting", "variable", "default", "allowed"), rows)
    yield ""


def _is_group(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return "none, secret"
    if isinstance(value, tuple):
        return f"`{', '.join(map(str, value))}`"
    return "none" if value in ("", {}) else f"`{value}`"


def _allowed(field: FieldInfo) -> str:
    if choices := get_args(field.annotation):
        if all(isinstance(choice, str) for choice in choices):
            return " or ".join(f"`{choice}`" for choice in choices)
        return "list" if choices[-1] is Ellipsis else "LISTENER = port"
    low = next((f"from {m.ge}" for m in field.metadata if hasattr(m, "ge")), "")
    low = low or next((f"over {m.gt}" for m in field.metadata if hasattr(m, "gt")), "")
    high = next((f"to {m.le}" for m in field.metadata if hasattr(m, "le")), "")
    pattern = next((f"matches `{m.pattern}`" for m in field.metadata if getattr(m, "pattern", None)), "")
    kind = field.annotation.__name__ if isinstance(field.annotation, type) else str(field.annotation)
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "SecretStr": "text"}
    return " ".join(part for part in (words.get(kind, kind), low, high, pattern) if part)


# --- command line


def commands() -> Iterator[str]:
    yield "# Command line\n"
    yield prose(
        """Source: `hindsight --help`, every command. Exit codes: 0 done, or the answer is yes; 1 the answer is no, or a check
        failed; 2 the command or a setting is wrong; 3 something is away, or unexpected; 130 interrupted."""
    )
    root = typer.main.get_command(build_app())
    yield from _command("hindsight", root)


def _command(name: str, command: Any) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if name != "hindsight":
        yield f"## {name}\n"
        yield f"{inspect.cleandoc(command.help or '')}\n"
    if children is None:
        shown = [p for p in command.params if not p.hidden]
        if shown:
            yield from table(("argument", "default", "meaning"), (_parameter(p) for p in shown))
            yield ""
        if command.epilog:
            yield f"{command.epilog.replace('Example: ', 'Example: `', 1)}`\n"
    for child, sub in (children or {}).items():
        yield from _command(f"{name} {child}", sub)


def _parameter(parameter: Any) -> tuple[str, ...]:
    if parameter.param_type_name == "argument":
        spelled = parameter.name.upper() + ("..." if parameter.nargs == -1 else "")
    else:
        spelled = ", ".join((*parameter.opts, *parameter.secondary_opts))
    default = parameter.default
    if parameter.required:
        shown = "required"
    elif default in (None, False, "", ()):
        shown = ""
    else:
        shown = f"`{default.value if isinstance(default, enum.Enum) else default}`"
    return f"`{spelled}`", shown, parameter.help or ""


# --- errors


def errors() -> Iterator[str]:
    yield "# Errors\n"
    yield prose(
        """Source: `schemas/errors.py`. An error is named by what must be done with it. A command prints it as one line,
        `error: ...`, and one line with what to do, `do: ...`."""
    )
    doc = inspect.getdoc(schemas.errors) or ""
    yield f"```\n{inspect.cleandoc(doc[doc.index('HindsightError') :].split(chr(10) * 2)[0])}\n```\n"
    found = [c for _, c in inspect.getmembers(schemas.errors, inspect.isclass) if issubclass(c, schemas.errors.HindsightError)]
    found.sort(key=lambda c: inspect.getsourcelines(c)[1])
    rows = ((f"`{c.__name__}`", f"`{c.__mro__[1].__name__}`", (inspect.getdoc(c) or "").replace("\n", " ")) for c in found)
    yield from table(("error", "is a", "meaning"), rows)
    yield ""


# --- metrics


def metrics() -> Iterator[str]:
    yield "# Metrics\n"
    yield prose(
        """Source: the `metrics` modules. Prometheus text under `GET /metrics`: of a worker and of the gRPC gateway on their
        metrics ports (`worker.metrics_port`, `gateway.metrics_port`), of the HTTP gateway on its own port."""
    )
    for title, found in (
        (
            "Worker",
            _of_modules("processors", "processors.infer", "processors.release.healing", "streams.breaker", "streams.fleet"),
        ),
        ("gRPC gateway", _of_modules("streams.grpc_gateway")),
    ):
        yield f"## {title}\n"
        yield from _metric_table(found)
    from streams.http_gateway.metrics import HttpMetrics

    yield "## HTTP gateway\n"
    yield from _metric_table(_in(HttpMetrics().registry))


def _of_modules(*names: str) -> list[MetricWrapperBase]:
    """Metrics that modules of these packages define at their top level."""
    found: dict[str, MetricWrapperBase] = {}
    for name in names:
        package = importlib.import_module(name)
        inside = (f"{name}.{m.name}" for m in pkgutil.iter_modules(getattr(package, "__path__", ())))
        for module in (name, *(m for m in inside if m.endswith("metrics"))):
            members = vars(importlib.import_module(module)).values()
            found.update({m._name: m for m in members if isinstance(m, MetricWrapperBase)})
    assert all(m in REGISTRY._collector_to_names for m in found.values())
    return list(found.values())


def _in(registry: CollectorRegistry) -> list[MetricWrapperBase]:
    return [m for m in registry._collector_to_names if isinstance(m, MetricWrapperBase)]


def _metric_table(found: list[MetricWrapperBase]) -> Iterator[str]:
    rows = (
        (f"`{m._name}{'_total' if m._type == 'counter' else ''}`", str(m._type), ", ".join(m._labelnames), m._documentation)
        for m in sorted(found, key=lambda m: m._name)
    )
    yield from table(("metric", "kind", "labels", "meaning"), rows)
    yield ""


PAGES: Mapping[str, Callable[[], Iterator[str]]] = {
    "events.md": events,
    "topics.md": topics,
    "settings.md": settings,
    "cli.md": commands,
    "errors.md": errors,
    "metrics.md": metrics,
}


def page(name: str) -> str:
    """The text of a page as it should stand in its file."""
    return HEAD + "\n" + "\n".join(PAGES[name]()).rstrip() + "\n"


def stale() -> list[str]:
    """Pages whose file is not what it should be."""
    return [name for name in PAGES if not (HERE / name).exists() or (HERE / name).read_text() != page(name)]


def main() -> int:
    if "--check" in sys.argv[1:]:
        for name in stale():
            print(f"docs/reference/{name} is out of date; run python docs/reference/generate.py")
        return 1 if stale() else 0
    for name in PAGES:
        (HERE / name).write_text(page(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
