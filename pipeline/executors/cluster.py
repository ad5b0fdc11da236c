"""A running Ray cluster by its address: does one answer there, does it want a token, and how many runs fit on it?

Ray itself tries for minutes, and ends the process when it gives up; one question to the head says the same at once.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SECONDS = 5.0  # for the head to answer
TYPE = "accelerator_type:"  # what Ray calls the resource by which a node says what it has
ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"


class NoCluster(ValueError):
    """No cluster can be used at the address; the message says why and what to do."""


def find(address: str) -> str:
    """host:port of the cluster's head.

    Args:
        address: host:port, or auto: $RAY_ADDRESS, or else the cluster that was started last on this machine.

    Raises:
        NoCluster: none is known, or the address is not one.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or _started_here() or ""
        if not address:
            raise NoCluster(
                "no running Ray cluster is known on this machine, and RAY_ADDRESS is not set: start one with "
                "`ray start --head`, give its --address host:port, or leave --address out to train on this machine"
            )
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not host or not port.isdigit():
        raise NoCluster(f"{address!r} is not the address of a Ray cluster: give local, auto, or host:port of its head")
    return address


def _started_here() -> str | None:
    """What `ray start` left; whether it is still true has to be asked."""
    root = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("RAY_TEMP_DIR") or _temporary())
    try:
        return (root / "ray" / "ray_current_cluster").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _temporary() -> str:
    return os.sep + "tmp" if os.name == "posix" else tempfile.gettempdir()  # where Ray looks, whatever TMPDIR says


def check_answers(address: str) -> None:
    """Asks the head whether it is alive, with this user's token, and refuses what is not safe.

    Raises:
        NoCluster: nothing answers, what answers is not Ray, the token is wrong, or a head that other machines can reach
            asks for none.
    """
    given = token()
    status, detail = _ask(address, given)
    if status == "UNAUTHENTICATED":
        how = "the token of this machine is not its token" if given else "this machine has no token"
        raise NoCluster(
            f"the Ray cluster at {address} asks for a token, and {how}: copy the head's, which `ray get-auth-token` "
            "prints there, into RAY_AUTH_TOKEN or ~/.ray/auth_token"
        )
    if status in ("UNIMPLEMENTED", "INTERNAL", "UNKNOWN") or (status == "UNAVAILABLE" and "HTTP/2" in detail):
        raise NoCluster(f"what answers at {address} is not the head of a Ray cluster: give its host and port (6379)")
    if status != "OK":
        raise NoCluster(no_answer(address))
    if not is_loopback(address) and _ask(address, None)[0] == "OK":
        raise NoCluster(
            f"the Ray cluster at {address} asks for no token, so whoever reaches it can run any command there: start "
            "it with RAY_AUTH_MODE=token"
        )


def _ask(address: str, given: str | None) -> tuple[str, str]:
    import grpc

    metadata = (("authorization", f"Bearer {given}"),) if given else ()
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(ALIVE, request_serializer=bytes, response_deserializer=bytes)
        try:
            call(b"", timeout=SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            return error.code().name, str(error.details())
        return "OK", ""


def no_answer(address: str) -> str:
    return (
        f"no Ray cluster answers at {address!r}: start one with `ray start --head`, or leave --address out to train on "
        "this machine"
    )


def token() -> str | None:
    """This user's token, found where Ray looks for it."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return os.environ["RAY_AUTH_TOKEN"].strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(str(ip).split("%")[0]).is_loopback for ip in found)


def only_on_loopback(address: str) -> bool:
    """Whether a head with a loopback address answers there alone: Ray would look for it at this machine's other one."""
    if not is_loopback(address):
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing, but chooses the interface (an address for documentation)
            own = probe.getsockname()[0]
        except OSError:
            return True
    return _ask(f"{own}:{address.rpartition(':')[2]}", token())[0] == "UNAVAILABLE"


def accelerators(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """The types of accelerator that nodes which are alive say they have, by Ray's names, such as H100."""
    resources = {name for node in nodes if node.get("Alive") for name in node.get("Resources", {})}
    return sorted(name.removeprefix(TYPE) for name in resources if name.startswith(TYPE))


def workers(
    nodes: Iterable[Mapping[str, Any]], cpus: float, gpus: float, accelerator_type: str | None = None
) -> dict[str, int]:
    """Node id -> runs at once that fit there, of the nodes that are alive. A run is on one node."""
    found = {}
    for node in nodes:
        if not node.get("Alive"):
            continue
        has = node.get("Resources", {})
        fits = int(has.get("CPU", 0.0) // cpus)
        if accelerator_type is not None and f"{TYPE}{accelerator_type}" not in has:
            fits = 0
        if gpus:
            per_gpu = int(1 / gpus + 1e-9) if gpus <= 1 else 0  # Ray gives a fraction of one device, never of two
            whole = int(has.get("GPU", 0.0))
            fits = min(fits, whole * per_gpu if gpus <= 1 else int(whole // gpus))
        found[str(node["NodeID"])] = fits
    return found
