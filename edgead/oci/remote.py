"""The registry, spoken to by the package oras: logins, tokens and the protocol are its, time limits and clear words are ours.

The only file that knows oras. What comes is checked by its digest and bounded in size and time before anybody uses it.
Logins are those of Docker ($DOCKER_CONFIG or ~/.docker, with its helpers), or EDGEAD_REGISTRY_USER and
EDGEAD_REGISTRY_PASSWORD; they are kept out of every message. Proxies are those of the environment.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from edgead.errors import BadInput, BundleError, BundleMismatch, RegistryError
from edgead.oci.address import OciAddress
from edgead.oci.artefact import EMPTY, MANIFEST_TYPE, MOST_MANIFEST_BYTES, Blob, digest_of
from edgead.optional import require
from edgead.words import keep_secret

TIMEOUT_S = 30.0
"""For a connection, for an answer, and for each block of it."""

SLOWEST = 4096
"""Bytes a second on average, looked at from `PATIENCE_S` on: a registry that drips holds nobody for days."""

PATIENCE_S = 60.0
USER, PASSWORD = "EDGEAD_REGISTRY_USER", "EDGEAD_REGISTRY_PASSWORD"

_CHUNK = 16 << 20
"""Bytes of an upload in memory at once."""
_BLOCK = 1 << 15
_LOGIN = f"docker login REGISTRY on this machine as this user, or set {USER} and {PASSWORD}"


class Remote:
    """A registry, for one address. Close it.

    Args:
        plain_http: without encryption, also when it is not of this machine.
        timeout_s: see `TIMEOUT_S`.
        clock: monotonic seconds.

    Raises:
        MissingExtra: oras is not installed.
        BadInput: Docker's file of logins cannot be read.
        RegistryError: nobody answers there, or it wants a login that is not there.
    """

    def __init__(
        self,
        address: OciAddress,
        *,
        plain_http: bool = False,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        require("oras.provider", extra="oci", why="Speaking to a registry")
        logging.getLogger("oras.logger").setLevel(logging.CRITICAL)  # what it complains of is told here, once
        self._exceptions = require("requests.exceptions", extra="oci", why="Speaking to a registry")
        self._address, self._timeout_s, self._clock = address, timeout_s, clock
        self._plain = plain_http or address.is_loopback
        self._container = _container(address)
        self._registry = self._made("token")
        try:
            if self._wants_password():
                self.close()
                self._registry = self._made("basic")
                if not hasattr(self._registry.auth, "_basic_auth"):
                    raise RegistryError(f"{address.registry} wants a login, and there is none", hint=_LOGIN)
                with self._spoken():
                    self._check(self._registry.do_request(self._url(f"{address.registry}/v2/")))
        except BaseException:
            self.close()
            raise

    def manifest(self) -> bytes:
        """The manifest's bytes; of an address with a digest, those that it is of.

        Raises:
            RegistryError: it is not there, or cannot be read.
            BundleMismatch: it is another one than was asked for.
        """
        url = self._url(self._container.manifest_url())
        with self._asked(url, headers={"Accept": MANIFEST_TYPE}, stream=True) as answer:
            content = b"".join(self._blocks(answer, MOST_MANIFEST_BYTES))
        wanted = self._address.digest or answer.headers.get("Docker-Content-Digest", "")
        if wanted.startswith("sha256:") and digest_of(content) != wanted:
            raise BundleMismatch(
                f"what {self._address.registry} gives is not {self._address}: its digest is {digest_of(content)}",
                hint="the registry, or something on the way, changed it: pull it from another one",
            )
        return content

    def fetch(self, blob: Blob, file: BinaryIO, report: Callable[[int], None]) -> None:
        """Write the bytes of a blob.

        Args:
            report: told how many bytes there are.

        Raises:
            RegistryError: it is not there, or broke off.
            BundleError: it is something else.
            OSError: `file` cannot be written.
        """
        found, done, began = hashlib.sha256(), 0, self._clock()
        with self._asked(self._url(self._container.get_blob_url(blob.digest)), stream=True) as answer:
            for block in self._blocks(answer, blob.size):
                done += len(block)
                found.update(block)
                file.write(block)
                report(done)
                elapsed = self._clock() - began
                if elapsed > PATIENCE_S and done < SLOWEST * elapsed:
                    raise self._error(f"gives less than {SLOWEST} bytes a second", "try again later")
        if done < blob.size:
            raise self._error(f"broke off after {done:,} of {blob.size:,} bytes", "try again")
        if f"sha256:{found.hexdigest()}" != blob.digest:
            raise BundleError(
                f"{self._address} is damaged: a layer is not what its digest says", hint="push it again, or use another registry"
            )

    def upload(self, file: Path, blob: Blob) -> None:
        """Put a file there, unless it is there. Raises RegistryError."""
        layer = {"digest": blob.digest, "size": blob.size}
        with self._spoken():
            answer = self._registry.upload_blob(
                str(file), self._container, layer, do_chunked=blob.size > _CHUNK, chunk_size=_CHUNK
            )
            self._check(answer)

    def publish(self, manifest: bytes) -> None:
        """Put the manifest there, when all that it names is: from then on the tag leads to it. Raises RegistryError."""
        with contextlib.ExitStack() as stack:
            from tempfile import TemporaryDirectory

            empty = Path(stack.enter_context(TemporaryDirectory())) / "empty.json"
            empty.write_bytes(EMPTY)
            self.upload(empty, Blob(digest_of(EMPTY), len(EMPTY)))
        url = self._url(self._container.manifest_url())
        with self._spoken():
            self._check(self._registry.do_request(url, "PUT", data=manifest, headers={"Content-Type": MANIFEST_TYPE}))

    def close(self) -> None:
        self._registry.session.close()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _made(self, backend: str) -> Any:
        """oras's client, with time limits, without its tries again (two minutes of them), and with the login that is known."""
        provider = require("oras.provider", extra="oci", why="Speaking to a registry")
        adapters = require("requests.adapters", extra="oci", why="Speaking to a registry")
        timeout_s, refuse = self._timeout_s, self._refuse_plain

        class Patient(adapters.HTTPAdapter):  # type: ignore[misc, name-defined]
            def send(self, request: Any, **options: Any) -> Any:
                if request.url.lower().startswith("http:"):
                    refuse()
                return super().send(request, **{**options, "timeout": timeout_s})

        class Registry(provider.Registry):  # type: ignore[misc, name-defined]
            def do_request(self, *args: Any, **options: Any) -> Any:
                return provider.Registry.do_request.__wrapped__(self, *args, **options)

        registry = Registry(hostname=self._address.registry, insecure=self._plain, auth_backend=backend)
        for scheme in ("http://", "https://"):
            registry.session.mount(scheme, Patient())
        _log_in(registry.auth, self._container)
        return registry

    def _refuse_plain(self) -> None:
        if not self._plain:
            raise self._error("leads to an address without encryption", "--plain-http, if the network is your own")

    def _wants_password(self) -> bool:
        """Does it ask for user and password with each request, not for a token? Also: is anybody there?"""
        with self._spoken():
            answer = self._registry.session.get(self._url(f"{self._address.registry}/v2/"))
        asked: str = answer.headers.get("Www-Authenticate", "")
        return answer.status_code == 401 and asked.lower().startswith("basic")

    def _url(self, rest: str) -> str:
        return f"{self._registry.prefix}://{rest}"

    @contextlib.contextmanager
    def _asked(self, url: str, **options: Any) -> Iterator[Any]:
        """The answer of a registry that has it."""
        headers = {"Accept-Encoding": "identity", **options.pop("headers", {})}
        with self._spoken():
            answer = self._registry.do_request(url, "GET", headers=headers, **options)
        with answer:
            self._check(answer)
            yield answer

    def _blocks(self, answer: Any, most: int) -> Iterator[bytes]:
        """The answer's body; one that is longer than it may be is refused."""
        blocks, done = answer.iter_content(_BLOCK), 0
        while True:
            with self._spoken():
                block: bytes = next(blocks, b"")
            if not block:
                return
            done += len(block)
            if done > most:
                raise BundleError(
                    f"{self._address} is longer than its {most:,} bytes", hint="push it again, or use another registry"
                )
            yield block

    def _check(self, answer: Any) -> None:
        """Raises RegistryError: the registry refuses."""
        status = answer.status_code
        if status < 300:
            return
        if status == 404:
            raise self._error("is not there", "check registry, name, tag and digest; edgead push puts a bundle there")
        if status in (401, 403):
            raise self._error(f"is refused to this login ({status})", _LOGIN)
        raise self._error(
            f"is refused: the registry says {status} {_short(str(answer.reason or ''))}".rstrip(), "try again later"
        )

    @contextlib.contextmanager
    def _spoken(self) -> Iterator[None]:
        """Turn what goes wrong on the way into one clear line."""
        try:
            yield
        except self._exceptions.SSLError as error:
            raise self._error(
                f"cannot be reached: {_reason(error)}",
                "REQUESTS_CA_BUNDLE=FILE.pem names the CA of your own network; --plain-http if it has no encryption at all",
            ) from error
        except (self._exceptions.RequestException, OSError) as error:
            raise self._error(
                f"cannot be reached: {_reason(error)}",
                "check network, registry and proxy; what lies on this machine stays as it is",
            ) from error
        except (ValueError, AttributeError) as error:  # how oras says that a login did not work
            raise self._error(f"is refused ({_short(str(error))})", _LOGIN) from error

    def _error(self, what: str, hint: str) -> RegistryError:
        return RegistryError(f"{self._address} {what}", hint=hint)


def _container(address: OciAddress) -> Any:
    """As oras wants it; its own reading takes ``localhost/bolt`` for something on Docker Hub."""
    container = require("oras.container", extra="oci", why="Speaking to a registry").Container("bolt", registry=address.registry)
    container.namespace, container.repository = None, address.repository
    container.tag, container.digest = address.tag or address.reference, address.digest or None
    return container


def _log_in(auth: Any, container: Any) -> None:
    """Tell oras the login for this registry, if there is one.

    Raises:
        BadInput: the environment has a half of it, or Docker's file cannot be read.
    """
    user, password = os.environ.get(USER, ""), os.environ.get(PASSWORD, "")
    if bool(user) != bool(password):
        raise BadInput(f"{USER} and {PASSWORD} go together, and one is not set", hint="set both, or none")
    if user:
        auth.set_basic_auth(user, password)
    else:
        folder = os.environ.get("DOCKER_CONFIG", "")
        own = Path(folder) / "config.json" if folder else None
        try:
            auth.load_configs(container, configs=[str(own)] if own is not None and own.is_file() else None)
        except (OSError, ValueError, AttributeError, TypeError, LookupError) as error:
            raise BadInput(
                f"Docker's logins cannot be read ({type(error).__name__})",
                hint="mend or remove config.json in ~/.docker ($DOCKER_CONFIG)",
            ) from error
    known = getattr(auth, "_basic_auth", None)
    if isinstance(known, str):
        keep_secret(known)
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            keep_secret(base64.b64decode(known).decode().partition(":")[2])


def _reason(error: BaseException) -> str:
    """What the system says, without addresses of proxies, which may hold a password."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            break
        if isinstance(seen, OSError) and seen.strerror:
            return _short(seen.strerror)
        inner = getattr(seen, "reason", None) or (seen.args[0] if seen.args else None)
        seen = inner if isinstance(inner, BaseException) else (seen.__cause__ or seen.__context__)
    return _short(str(error)) or type(error).__name__


def _short(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", " ".join(text.split()))[:160]
