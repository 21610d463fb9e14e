"""Every setting of Hindsight: its name, type, default and limits, and where its value in force came from.

Order, strongest first: environment (`HINDSIGHT_KAFKA__BOOTSTRAP_SERVERS`), file (`hindsight.toml`, table `[kafka]`), what
the running local stack recorded, default. An unknown or impossible setting refuses to start and names itself. Secrets
are SecretStr: never printed, never logged.

Only `topology` reads settings; the packages below get values as arguments.
"""

import base64
import binascii
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

if TYPE_CHECKING:
    from processors.rollout.plan import Plan

ENVIRONMENT_PREFIX = "HINDSIGHT_"
NESTING = "__"
_MASTER_KEY_BYTES = 32
HOST_AND_PORT = r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$"


def _split(value: object) -> object:
    """A list as people write it in one variable: "a:1, b:2"; JSON is understood too by whoever sends a list."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _url(value: str, schemes: set[str]) -> str:
    parts = urlsplit(value)
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"is not an address such as {sorted(schemes)[0]}://host:port")
    return value


Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
HostAndPort = Annotated[str, StringConstraints(pattern=HOST_AND_PORT)]
HostsAndPorts = Annotated[tuple[HostAndPort, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
Share = Annotated[float, Field(gt=0, lt=1)]
Bytes = Annotated[int, Field(ge=1024, le=2**31 - 1)]


class Group(BaseModel):
    """One table of settings; unknown names in it are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class KafkaSettings(Group):
    """The log. The session timeout is how long a killed worker's partitions stand still."""

    bootstrap_servers: HostsAndPorts = ("127.0.0.1:19092",)
    partitions: Annotated[int, Field(ge=1, le=10_000)] = 4
    replication: Annotated[int, Field(ge=1, le=10)] = 1
    session_timeout_s: Seconds = 6.0
    heartbeat_interval_s: Seconds = 1.5
    request_timeout_s: Seconds = 12.0

    @model_validator(mode="after")
    def _heartbeats_fit(self) -> Self:
        if self.heartbeat_interval_s * 2 > self.session_timeout_s:
            raise ValueError("heartbeat_interval_s must be at most half of session_timeout_s, or healthy workers are expelled")
        if self.request_timeout_s <= self.session_timeout_s:
            raise ValueError("request_timeout_s must be longer than session_timeout_s")
        return self


class RegistrySettings(Group):
    """The Schema Registry, through its interface for Confluent clients."""

    url: str = "http://127.0.0.1:18081/apis/ccompat/v7"
    timeout_s: Seconds = 10.0

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return _url(value, {"http", "https"})


class RedisSettings(Group):
    """The view store. The password is a setting of its own, so that the URL can be shown."""

    url: str = "redis://127.0.0.1:16379/0"
    password: SecretStr = SecretStr("")
    timeout_s: Seconds = 5.0

    @field_validator("url")
    @classmethod
    def _has_no_password(cls, value: str) -> str:
        if urlsplit(value).password:
            raise ValueError("has a password in it: put that into redis.password")
        return _url(value, {"redis", "rediss"})


class S3Settings(Group):
    """The blob store."""

    endpoint: HostAndPort = "127.0.0.1:18333"
    access_key: str = ""
    secret_key: SecretStr = SecretStr("")
    secure: bool = False
    region: str = "us-east-1"
    timeout_s: Seconds = 10.0


class TritonSettings(Group):
    """Triton Inference Server: gRPC endpoints that share the frames, and are passed over while they are away.

    `timeout_s` covers one try of a frame, whatever is asked in it. After `hedge_after_s` without an answer another endpoint is
    asked beside; 0 never does. `repository` is the folder that they serve models from, as a worker sees it: it is filled with
    what is registered. Without one, whoever runs Triton fills it. `releases_loaded` stay loaded: the one in force, the one
    before, those that wait or are on trial, and the newest.
    """

    endpoints: HostsAndPorts = ("127.0.0.1:18001",)
    timeout_s: Seconds = 30.0
    calls_per_endpoint: Annotated[int, Field(ge=1, le=1024)] = 4
    hedge_after_s: Annotated[float, Field(ge=0, le=3600)] = 0.0
    releases_loaded: Annotated[int, Field(ge=2, le=1000)] = 4
    repository: str = ""


class GatewaySettings(Group):
    """The gRPC door: where it listens and what it lets in."""

    host: str = "127.0.0.1"
    port: Port = 15051
    max_message_bytes: Bytes = 16 * 2**20
    max_frames_per_stream: Annotated[int, Field(ge=1)] = 1_000_000
    max_streams: Annotated[int, Field(ge=1, le=100_000)] = 64
    queue_frames: Annotated[int, Field(ge=1, le=1_000_000)] = 32
    drain_timeout_s: Seconds = 20.0
    metrics_port: Port = 15052


class HttpSettings(Group):
    """The HTTP door: where it listens and how large an image may be."""

    host: str = "127.0.0.1"
    port: Port = 15080
    max_image_bytes: Bytes = 12 * 2**20
    max_pixels: Annotated[int, Field(ge=1, le=10**9)] = 50_000_000


class WorkerSettings(Group):
    """The processors: how much is in flight, how often something is tried again, and until when.

    `redrives` is how often the record of a dead letter may be redriven.
    """

    host: str = "127.0.0.1"
    metrics_port: Port = 15090
    window_per_partition: Annotated[int, Field(ge=1, le=1024)] = 8
    batch_records: Annotated[int, Field(ge=1, le=10_000)] = 512
    concurrent_calls: Annotated[int, Field(ge=1, le=1024)] = 4
    attempts: Annotated[int, Field(ge=1, le=100)] = 4
    retry_first_s: Seconds = 0.1
    retry_longest_s: Seconds = 2.0
    redrives: Annotated[int, Field(ge=1, le=100)] = 3

    @model_validator(mode="after")
    def _retries_fit(self) -> Self:
        if self.retry_first_s > self.retry_longest_s:
            raise ValueError("retry_first_s must not be longer than retry_longest_s")
        return self


class ChecksSettings(Group):
    """Views held against the log while workers work: how often, with how much of one core, and whether they are repaired.

    A view that differs again within `repair_once_in_s` of a repair is reported and not repaired again.
    """

    on: bool = True
    every_s: Seconds = 5.0
    share: Annotated[float, Field(gt=0, le=1)] = 0.05
    repair: bool = True
    repair_once_in_s: Seconds = 600.0


class RolloutSettings(Group):
    """How a release on trial is judged. `alpha` is the chance that one which is no worse is called failed, and that one which is
    worse by more than a margin is called successful, however often is looked.
    """

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    units_min: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    units_max: Annotated[int, Field(ge=1, le=10_000_000)] = 3000
    error_margin: Share = 0.02
    valid_margin: Share = 0.03
    readings_margin: Share = 0.03
    confidence_margin: Share = 0.05
    latency_margin: Share = 0.05
    readings_max: Annotated[int, Field(ge=1, le=1000)] = 4

    @model_validator(mode="after")
    def _units_fit(self) -> Self:
        if self.units_min > self.units_max:
            raise ValueError("units_min must not be greater than units_max")
        return self

    def plan(self, *, paired: bool) -> "Plan":
        """The plan of a shadow (both read the same frames) or of a canary."""
        from processors.rollout.plan import Limit, Plan

        return Plan(
            paired=paired,
            alpha=self.alpha,
            error=Limit(margin=self.error_margin, alpha=0.4 * self.alpha),
            valid=Limit(margin=self.valid_margin, alpha=0.2 * self.alpha),
            readings=Limit(margin=self.readings_margin, alpha=0.1 * self.alpha),
            confidence=Limit(margin=self.confidence_margin, alpha=0.1 * self.alpha),
            latency=Limit(margin=self.latency_margin, alpha=0.2 * self.alpha),
            units_min=self.units_min,
            units_max=self.units_max,
            readings_max=self.readings_max,
        )


class SnapshotSettings(Group):
    """Snapshots of the views, taken beside the processor `views`: when one is due, and how densely old ones are kept.

    A look back over fewer than `used_from_events` records of a partition reads them all, and looks for no snapshot.
    """

    taken: bool = True
    every_events: Annotated[int, Field(ge=2, le=10_000_000)] = 2000
    every_s: Annotated[float, Field(gt=0, le=30 * 86400)] = 900.0
    look_every_s: Seconds = 10.0
    used_from_events: Annotated[int, Field(ge=0)] = 2000
    keep_all_hours: Annotated[float, Field(ge=1)] = 24.0
    keep_hourly_days: Annotated[float, Field(ge=0)] = 7.0
    keep_daily_days: Annotated[float, Field(ge=0)] = 90.0


class TelemetrySettings(Group):
    """Traces and logs. No endpoint means that no trace leaves the process."""

    otlp_endpoint: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return _url(value, {"http", "https"}) if value else value


class PipelineSettings(Group):
    """Which pipeline reads the frames, and the module with its rules."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")] = "gate_reader"
    rules: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")] = "processors.rules.container_codes"


class BlobSettings(Group):
    """Where image bytes lie, and whether devices' frames are encrypted there, each device and day under a key of its own.

    `master_key` (32 bytes in base64) wraps those keys, and lies nowhere else: without it nothing encrypted can be read.
    Frames of up to `pack_up_to_bytes` that come at the same time share an object; 0 gives each its own.
    """

    bucket: BucketName = "hindsight-blobs"
    encrypt: Literal["off", "per_device_day"] = "off"
    master_key: SecretStr = SecretStr("")
    keys_bucket: BucketName = "hindsight-keys"
    pack_up_to_bytes: Annotated[int, Field(ge=0, le=2**20)] = 0

    @model_validator(mode="after")
    def _key_fits(self) -> Self:
        if self.encrypt != "off" and not self.master_key.get_secret_value():
            raise ValueError("encrypt needs a master_key: `openssl rand -base64 32` makes one")
        self.master_key_bytes()
        if self.bucket == self.keys_bucket:
            raise ValueError("keys_bucket must be another bucket: keys must not be backed up with what they open")
        return self

    def master_key_bytes(self) -> bytes:
        """The key; empty when there is none."""
        try:
            key = base64.b64decode(self.master_key.get_secret_value(), validate=True)
        except binascii.Error as error:
            raise ValueError("master_key is not base64") from error
        if len(key) not in (0, _MASTER_KEY_BYTES):
            raise ValueError(f"master_key is {len(key)} bytes, and not {_MASTER_KEY_BYTES}")
        return key


class DeviceSettings(Group):
    """Who may send frames: device ids, or patterns such as gate-*."""

    known: Names = ("*",)


class StackSettings(Group):
    """The local stack (`hindsight up`): which servers, and ports that must be these, by listener (`kafka`, `s3.filer`)."""

    servers: Names = ("kafka", "registry", "redis", "s3", "triton", "gateway", "http", "worker")
    ports: dict[str, Port] = {}


class Settings(BaseSettings):
    """All settings in force. Made by `topology.configuration.load`, which adds where each came from."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter=NESTING, extra="forbid", frozen=True, validate_default=True
    )

    timezone: str = "UTC"
    namespace: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{0,40}$")] = ""
    kafka: KafkaSettings = KafkaSettings()
    registry: RegistrySettings = RegistrySettings()
    redis: RedisSettings = RedisSettings()
    s3: S3Settings = S3Settings()
    triton: TritonSettings = TritonSettings()
    gateway: GatewaySettings = GatewaySettings()
    http: HttpSettings = HttpSettings()
    worker: WorkerSettings = WorkerSettings()
    checks: ChecksSettings = ChecksSettings()
    snapshots: SnapshotSettings = SnapshotSettings()
    rollouts: RolloutSettings = RolloutSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    pipeline: PipelineSettings = PipelineSettings()
    blobs: BlobSettings = BlobSettings()
    devices: DeviceSettings = DeviceSettings()
    stack: StackSettings = StackSettings()

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, OSError, ValueError) as exc:
            raise ValueError("is not a time zone such as Europe/Berlin") from exc
        return value

    @model_validator(mode="after")
    def _doors_do_not_collide(self) -> Self:
        listeners = {
            "gateway.port": (self.gateway.host, self.gateway.port),
            "gateway.metrics_port": (self.gateway.host, self.gateway.metrics_port),
            "http.port": (self.http.host, self.http.port),
            "worker.metrics_port": (self.worker.host, self.worker.metrics_port),
        }
        for name, listener in listeners.items():
            for other, another in listeners.items():
                # In containers each has a network of its own, and all listen on every address of it.
                if name < other and listener == another and listener[0] != "0.0.0.0":
                    raise ValueError(f"{name} and {other} are both {listener[0]}:{listener[1]}")
        if self.http.max_image_bytes > self.gateway.max_message_bytes:
            raise ValueError("http.max_image_bytes must not exceed gateway.max_message_bytes")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The layers are put together in `configuration.load`, which also remembers which one gave what.
        return (init_settings,)
