"""How names in the catalogue become names on shared servers: a namespace in front, empty in production.

Two installations, or two test runs, that share a broker, a registry, a Redis or a bucket keep apart by it.
"""

from dataclasses import dataclass

from schemas.errors import ConfigurationError

_ALLOWED = set("abcdefghijklmnopqrstuvwxyz0123456789-")


@dataclass(frozen=True, slots=True)
class Namespace:
    """A prefix for topics, subjects, consumer groups, Redis keys and buckets; lower case, digits and dashes."""

    prefix: str = ""

    def __post_init__(self) -> None:
        if not set(self.prefix) <= _ALLOWED:
            raise ConfigurationError(
                f"namespace {self.prefix!r} may hold lower-case letters, digits and dashes only", setting="namespace"
            )

    def topic(self, name: str) -> str:
        return f"{self.prefix}.{name}" if self.prefix else name

    def catalogue_name(self, kafka_topic: str) -> str:
        return kafka_topic.removeprefix(f"{self.prefix}.") if self.prefix else kafka_topic

    def group(self, processor: str) -> str:
        return f"{self.prefix}.hindsight-{processor}" if self.prefix else f"hindsight-{processor}"

    def redis_key(self, *parts: str) -> str:
        return ":".join((f"hindsight.{self.prefix}" if self.prefix else "hindsight", *parts))

    def bucket(self, name: str) -> str:
        return f"{self.prefix}-{name}" if self.prefix else name
