"""`moskvenok city release`: has the reference city publish a bundle, and order it.

The city reads the file itself, so it is one on the city's machine. What comes out is what a device
takes: over the wire by order, or as one signed file (`moskvenok update take`).
"""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from edge.messages import MESSAGE_BYTES_MAX
from edge.model import SetupProblem

PATIENCE_S: Final = 60.0  # Our choice: 84 MiB are read and hashed within seconds.
ORDER_VALID_S: Final = 120  # Our choice: to be accepted; installing it may take its time.


def ask_city(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """One answer of the reference city; `SetupProblem` with its own words when it refuses."""
    place = urlsplit(url)
    if place.scheme != "http" or place.hostname is None:
        raise SetupProblem(f"--http {url!r:.100}: write http://HOST:PORT")
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=PATIENCE_S)
    try:
        connection.request("POST", path, json.dumps(body))
        answer = connection.getresponse()
        said = json.loads(answer.read(MESSAGE_BYTES_MAX))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SetupProblem(f"{url}: {error}; does the city run?") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise SetupProblem(f"the city refuses: {said.get('error')}; {said.get('do')}")
    assert isinstance(said, dict)
    return said


@click.command("release")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--http", "url", required=True, help="The running reference city, http://HOST:PORT.")
@click.option(
    "--stick",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it here, signed, for: moskvenok update take",
)
@click.option("--device", "devices", multiple=True, help="Order it for this one; repeat it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def release(
    file: Path, url: str, stick: Path | None, devices: tuple[str, ...], as_json: bool
) -> None:
    """Publish a bundle of `make release`, write it to a stick, order it for devices."""
    body = {"file": str(file.absolute())}
    if stick is not None:
        body["stick"] = str(stick.absolute())
    said = ask_city(url, "/releases", body)
    orders = []
    for device in devices:
        order = {"device": device, "order": "update", "valid_s": ORDER_VALID_S}
        order |= {name: said[name] for name in ("release", "sha256")}
        orders.append(ask_city(url, "/orders", order))
    if as_json:
        click.echo(json.dumps({"schema": 1, "ok": True, **said, "orders": orders}))
        return
    click.echo(f"{said['release']} for {said['platform']}, Python {said['python']}: published")
    click.echo(f"sha256 {said['sha256']}, {said['size_bytes']} bytes")
    if stick is not None:
        click.echo(f'written: {stick}; on the device: "moskvenok update take FILE"')
    for order in orders:
        click.echo(f"ordered: {order['device']}, order {order['counter']}")
