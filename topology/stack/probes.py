"""The questions that decide whether a server is ready; each returns when it is, and raises when it is not.

They ask for what callers will need, not for an open port: the broker must list itself, the registry must answer a
Schema Registry call, Redis must have loaded its file, S3 must take a real object. Run by the supervisor in threads and
by `hindsight doctor`. Spoken with the standard library where that is short, so the supervisor stays small.
"""

import contextlib
import json
import socket
import struct
import urllib.error
import urllib.request

_TIMEOUT_S = 5.0


class NotReadyError(OSError):
    """The server answered, and it is not ready."""


def port_accepts(*, port: int, host: str = "127.0.0.1") -> None:
    """Accepts a TCP connection."""
    with socket.create_connection((host, port), timeout=_TIMEOUT_S):
        pass


def http_answers(*, url: str) -> None:
    """GET answers 2xx."""
    http_get(url)


def http_get(url: str, *, timeout_s: float = _TIMEOUT_S) -> bytes:
    """The body of a 2xx answer.

    Raises:
        NotReadyError: Another status.
        OSError: No answer.
    """
    # No proxy: these are local servers, and a proxy set in the environment must not be asked about them.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout_s) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as exc:
        raise NotReadyError(f"{url} answered {exc.code}") from exc


def kafka_lists_itself(*, host: str, port: int) -> None:
    """The broker answers DescribeCluster (version 0) with at least one broker that is not fenced.

    Source: https://kafka.apache.org/protocol#The_Messages_DescribeCluster
    """
    api_key, api_version, correlation = 60, 0, 1
    header = struct.pack(">hhih", api_key, api_version, correlation, -1) + b"\0"
    body = b"\0\0"
    with socket.create_connection((host, port), timeout=_TIMEOUT_S) as connection:
        connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        length = struct.unpack(">i", _exactly(connection, 4))[0]
        answer = _exactly(connection, length)
    # correlation (4), tags (1), throttle (4), error (2), message, cluster id, controller (4), brokers + 1
    (error,) = struct.unpack_from(">h", answer, 9)
    if error != 0:
        raise NotReadyError(f"DescribeCluster answered error {error}")
    at = 11
    for _ in ("error message", "cluster id"):
        at += 1 + max(0, answer[at] - 1)
    brokers = answer[at + 4] - 1
    if brokers < 1:
        raise NotReadyError("the broker is not registered yet")


def registry_lists_subjects(*, url: str) -> None:
    """The Schema Registry call /subjects answers a list; `url` is the registry's base for Confluent clients."""
    answer = json.loads(http_get(f"{url}/subjects"))
    if not isinstance(answer, list):
        raise NotReadyError(f"{url}/subjects answered {answer!r}")


def redis_answers(*, host: str, port: int, password: str = "") -> None:
    """PING is answered by PONG: the append-only file is loaded."""
    asked = (f"AUTH {password}\r\n" if password else "") + "PING\r\nQUIT\r\n"
    with socket.create_connection((host, port), timeout=_TIMEOUT_S) as connection:
        connection.sendall(asked.encode())
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    if b"+PONG" not in answer:
        raise NotReadyError(answer.decode(errors="replace").strip())


def s3_takes_an_object(*, endpoint: str, access_key: str, secret_key: str, bucket: str = "ready", secure: bool = False) -> None:
    """A real object is written, read back equal and removed. An open port is not enough: writes work later than that."""
    # Imported here: only the S3 probe needs a client library.
    import minio
    import urllib3

    pool = urllib3.PoolManager(timeout=_TIMEOUT_S, retries=False)
    client = minio.Minio(
        endpoint=endpoint, access_key=access_key, secret_key=secret_key, secure=secure, http_client=pool, region="us-east-1"
    )
    try:
        put_get_remove(client, bucket)
    except (minio.error.MinioException, urllib3.exceptions.HTTPError) as exc:
        raise NotReadyError(f"S3 at {endpoint}: {exc}") from exc
    finally:
        pool.clear()


def put_get_remove(client: "minio.Minio", bucket: str) -> None:  # type: ignore[name-defined]  # noqa: F821
    """One object through an S3 client: written, read back, compared, removed; the bucket is made if it is not there."""
    import io

    if not client.bucket_exists(bucket_name=bucket):
        client.make_bucket(bucket_name=bucket)
    content = b"a real object"
    client.put_object(bucket_name=bucket, object_name="probe", data=io.BytesIO(content), length=len(content))
    with contextlib.closing(client.get_object(bucket_name=bucket, object_name="probe")) as answer:
        if answer.read() != content:
            raise NotReadyError("an object came back different")
    client.remove_object(bucket_name=bucket, object_name="probe")


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = b""
    while len(parts) < count:
        chunk = connection.recv(count - len(parts))
        if not chunk:
            raise NotReadyError("the connection was closed in the middle of an answer")
        parts += chunk
    return parts
