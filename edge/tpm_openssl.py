"""OpenSSL's provider `tpm2`, in the very libcrypto that Python's `ssl` uses, by ctypes.

So `load_cert_chain` opens a key of the TPM like any other; here are, beside that, the few calls
for making a key, signing and ECDH. The functions and their order are those of OpenSSL 3.0; whose
key it is, and what a refusal means, is `edge/tpm.py`'s business.

Loading it changes this process for good, and nobody else's: the properties are all of libcrypto's,
and so of every `ssl` connection here. They prefer the provider for signatures alone: random
numbers, digests, ciphers and the keys of each TLS session stay in software. A signature of
*another's* is then checked in the chip too, with the kinds of keys that it knows, and RSA 4096 is
none: who asks a server of the web does it `in_software`.

The chip is shared by the daemon tpm2-abrmd. The kernel's own manager has three places for each
who opens it (Linux, `struct tpm_space`), and TLS that proves both sides needs more.

The provider (1.1.1) sends some commands without waiting for another thread's answer, and then one
of the two fails. So whoever uses the chip in this process, a TLS handshake too, has its `TURN`.
"""

from __future__ import annotations

import ctypes
import grp
import os
import shutil
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from edge.model import SetupProblem

DEVICE: Final = Path("/dev/tpmrm0")  # Where it is, there is a TPM; it is not opened.
DAEMON: Final = "tpm2-abrmd"
DAEMON_FOLDERS: Final = "/usr/sbin:/usr/bin:/usr/local/sbin"
DAEMON_LIBRARY: Final = "libtss2-tcti-tabrmd.so.0"
TCTI_VARIABLE: Final = "TPM2OPENSSL_TCTI"  # The provider's own; set by tests alone.
TCTI_DEFAULT: Final = "tabrmd:bus_type=system"
PACKAGE: Final = "tpm2-openssl"
PACKAGES: Final = f"{PACKAGE} {DAEMON} libtss2-tcti-tabrmd0"
GROUP: Final = "tss"  # Debian's D-Bus policy lets root and this group talk to the daemon.
PROPERTIES: Final = b"?tpm2.signature=yes,tpm2.digest!=yes,tpm2.cipher!=yes,tpm2.rand!=yes"
IN_SOFTWARE: Final = b"?provider=default"
PROVIDER: Final = b"provider=tpm2"
TURN: Final = threading.RLock()
COORDINATE_BYTES: Final = 32
SIGNATURE_BYTES_MAX: Final = 80  # DER of two 256-bit numbers: 72 at most.
MODULES_DIR: Final = 1003  # OpenSSL: OPENSSL_INFO_MODULES_DIR.
BIO_CTRL_INFO: Final = 3  # OpenSSL.
ERRORS_MAX: Final = 16

_POINTER = ctypes.c_void_p
_TEXT = ctypes.c_char_p
_INT = ctypes.c_int
_SIZE = ctypes.c_size_t
# OpenSSL 3.0's own declarations: what each returns, and takes.
_FUNCTIONS: Final[dict[str, tuple[Any, ...]]] = {
    "OPENSSL_info": (_TEXT, _INT),
    "ERR_clear_error": (None,),
    "ERR_get_error": (ctypes.c_ulong,),
    "ERR_error_string_n": (None, ctypes.c_ulong, _TEXT, _SIZE),
    "OSSL_PROVIDER_load": (_POINTER, _POINTER, _TEXT),
    "EVP_set_default_properties": (_INT, _POINTER, _TEXT),
    "EVP_KEYMGMT_fetch": (_POINTER, _POINTER, _TEXT, _TEXT),
    "EVP_KEYMGMT_free": (None, _POINTER),
    "BIO_s_mem": (_POINTER,),
    "BIO_new": (_POINTER, _POINTER),
    "BIO_new_mem_buf": (_POINTER, _TEXT, _INT),
    "BIO_ctrl": (ctypes.c_long, _POINTER, _INT, ctypes.c_long, _POINTER),
    "BIO_free": (_INT, _POINTER),
    "PEM_read_bio_PrivateKey": (_POINTER, _POINTER, _POINTER, _POINTER, _TEXT),
    "PEM_write_bio_PrivateKey": (
        *(_INT, _POINTER, _POINTER, _POINTER, _POINTER, _INT, _POINTER, _POINTER),
    ),
    "d2i_PUBKEY": (_POINTER, _POINTER, _POINTER, ctypes.c_long),
    "EVP_PKEY_free": (None, _POINTER),
    "EVP_PKEY_CTX_new_from_name": (_POINTER, _POINTER, _TEXT, _TEXT),
    "EVP_PKEY_CTX_new_from_pkey": (_POINTER, _POINTER, _POINTER, _TEXT),
    "EVP_PKEY_CTX_free": (None, _POINTER),
    "EVP_PKEY_CTX_set_group_name": (_INT, _POINTER, _TEXT),
    "EVP_PKEY_keygen_init": (_INT, _POINTER),
    "EVP_PKEY_generate": (_INT, _POINTER, _POINTER),
    "EVP_PKEY_derive_init": (_INT, _POINTER),
    "EVP_PKEY_derive_set_peer": (_INT, _POINTER, _POINTER),
    "EVP_PKEY_derive": (_INT, _POINTER, _TEXT, _POINTER),
    "EVP_MD_CTX_new": (_POINTER,),
    "EVP_MD_CTX_free": (None, _POINTER),
    "EVP_DigestSignInit_ex": (
        *(_INT, _POINTER, _POINTER, _TEXT, _POINTER, _TEXT, _POINTER, _POINTER),
    ),
    "EVP_DigestSign": (_INT, _POINTER, _TEXT, _POINTER, _TEXT, _SIZE),
    "EVP_DigestVerifyInit_ex": (
        *(_INT, _POINTER, _POINTER, _TEXT, _POINTER, _TEXT, _POINTER, _POINTER),
    ),
}


class Refused(Exception):
    """OpenSSL said no; why, in its words."""


class Crypto:
    """libcrypto, with the provider in it. For one thread at a time: whoever calls has `TURN`."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """`SetupProblem` when this is no OpenSSL 3."""
        try:
            for name, (result, *arguments) in _FUNCTIONS.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
        except AttributeError as error:
            raise SetupProblem(
                f"this Python's OpenSSL ({ssl.OPENSSL_VERSION}) can load no provider ({error}); "
                "use Debian's Python, or a key in a file (--key file)"
            ) from error
        self.call = library

    def load(self) -> None:
        """`SetupProblem` when the provider cannot be loaded, or finds no TPM."""
        call = self.call
        call.ERR_clear_error()
        default = call.OSSL_PROVIDER_load(None, b"default")  # First: then it is nobody's fallback.
        provider = default and call.OSSL_PROVIDER_load(None, b"tpm2")
        if not provider or not self.prefer(PROPERTIES):
            raise SetupProblem(self._why_not_loaded(self.errors()))

    def prefer(self, properties: bytes) -> bool:
        """For all of this process, from here on."""
        call = self.call
        if call.EVP_set_default_properties(None, properties) != 1:
            return False
        # Of two that are preferred alike OpenSSL takes what it has met first. Had it met the TPM's
        # keys first, by reading one, TLS would offer no P-256 of its own.
        call.EVP_KEYMGMT_free(call.EVP_KEYMGMT_fetch(None, b"EC", None))
        self.errors()
        return True

    def _why_not_loaded(self, found: str) -> str:
        folder = (modules_folder(self.call) or b"").decode(errors="replace")
        if not (Path(folder) / "tpm2.so").exists():
            return (
                f"OpenSSL's provider tpm2 is not in {folder} of this Python's {ssl.OPENSSL_VERSION}"
                f"; run: apt-get install {PACKAGES} (it serves Debian's own OpenSSL: use Debian's "
                "Python), or use a key in a file (--key file)"
            )
        return f"the TPM does not answer ({found}): {where()}"

    def errors(self) -> str:
        """What OpenSSL has to say of the last failure, and none of it stays behind for `ssl`."""
        said = []
        for _ in range(ERRORS_MAX):
            code = self.call.ERR_get_error()
            if not code:
                break
            text = ctypes.create_string_buffer(256)
            self.call.ERR_error_string_n(code, text, len(text))
            said.append(text.value.decode(errors="replace").rpartition("::")[2])
        self.call.ERR_clear_error()
        return ", ".join(dict.fromkeys(said)) or "no reason given"

    def refuse(self) -> NoReturn:
        raise Refused(self.errors())

    @contextmanager
    def held(self, made: int | None, free: str) -> Iterator[int]:
        """Something of OpenSSL's, given back at the end."""
        if not made:
            self.refuse()
        try:
            yield made
        finally:
            getattr(self.call, free)(made)

    def free(self, key: int) -> None:
        self.call.EVP_PKEY_free(key)

    # ------------------------------------------------------------------------------- keys

    def generate(self) -> bytes:
        call = self.call
        with self.held(
            call.EVP_PKEY_CTX_new_from_name(None, b"EC", PROVIDER), "EVP_PKEY_CTX_free"
        ) as context:
            key = ctypes.c_void_p()
            if (
                call.EVP_PKEY_keygen_init(context) != 1
                or call.EVP_PKEY_CTX_set_group_name(context, b"P-256") != 1
                or call.EVP_PKEY_generate(context, ctypes.byref(key)) != 1
            ):
                self.refuse()
        with (
            self.held(key.value, "EVP_PKEY_free") as made,
            self.held(call.BIO_new(call.BIO_s_mem()), "BIO_free") as buffer,
        ):
            if call.PEM_write_bio_PrivateKey(buffer, made, None, None, 0, None, None) != 1:
                self.refuse()
            data = ctypes.c_void_p()
            length = call.BIO_ctrl(buffer, BIO_CTRL_INFO, 0, ctypes.byref(data))
            if length <= 0 or not data.value:
                self.refuse()
            return ctypes.string_at(data.value, length)

    def read(self, pem: bytes) -> int:
        """The key, to be freed with `EVP_PKEY_free`."""
        with self.held(self.call.BIO_new_mem_buf(pem, len(pem)), "BIO_free") as buffer:
            # An empty passphrase: OpenSSL would ask at the terminal.
            key: int | None = self.call.PEM_read_bio_PrivateKey(buffer, None, None, b"")
            if not key:
                self.refuse()
            return key

    def sign(self, key: int, data: bytes) -> bytes:
        call = self.call
        with self.held(call.EVP_MD_CTX_new(), "EVP_MD_CTX_free") as context:
            signature = ctypes.create_string_buffer(SIGNATURE_BYTES_MAX)
            length = _SIZE(SIGNATURE_BYTES_MAX)
            if (
                call.EVP_DigestSignInit_ex(context, None, b"SHA256", None, None, key, None) != 1
                or call.EVP_DigestSign(context, signature, ctypes.byref(length), data, len(data))
                != 1
            ):
                self.refuse()
            return signature.raw[: length.value]

    def derive(self, key: int, peer: ec.EllipticCurvePublicKey) -> bytes:
        call = self.call
        with (
            self.public(peer) as other,
            self.held(
                call.EVP_PKEY_CTX_new_from_pkey(None, key, PROVIDER), "EVP_PKEY_CTX_free"
            ) as context,
        ):
            secret = ctypes.create_string_buffer(COORDINATE_BYTES)
            length = _SIZE(COORDINATE_BYTES)
            if (
                call.EVP_PKEY_derive_init(context) != 1
                or call.EVP_PKEY_derive_set_peer(context, other) != 1
                or call.EVP_PKEY_derive(context, secret, ctypes.byref(length)) != 1
            ):
                self.refuse()
            # A chip may leave out leading zeros; SEC 1, 2.3.5 has them.
            return secret.raw[: length.value].rjust(COORDINATE_BYTES, b"\0")

    def why_not_checked(self, public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> str:
        """What keeps the chip from checking with another's key; "" when it knows the kind."""
        call = self.call
        try:
            with (
                self.public(public) as key,
                self.held(call.EVP_MD_CTX_new(), "EVP_MD_CTX_free") as context,
            ):
                done = call.EVP_DigestVerifyInit_ex(context, None, b"SHA256", None, None, key, None)
                said = self.errors()
                return "" if done == 1 else said
        except Refused as refused:
            return str(refused)

    @contextmanager
    def public(self, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> Iterator[int]:
        """Another's key."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        der = key.public_bytes(serialization.Encoding.DER, form)
        at = ctypes.c_char_p(der)
        made = self.call.d2i_PUBKEY(None, ctypes.byref(at), len(der))
        with self.held(made, "EVP_PKEY_free") as pointer:
            yield pointer


_loaded: list[Crypto] = []  # One, from the first time on.


def modules_folder(call: ctypes.CDLL) -> bytes | None:
    """Where this OpenSSL looks for its providers."""
    found: bytes | None = call.OPENSSL_info(MODULES_DIR)
    return found


def named_tcti() -> str:
    """Another way to a TPM than the system's daemon, as tests have it; else ""."""
    named = os.environ.get(TCTI_VARIABLE, "")
    return "" if named == TCTI_DEFAULT else named


def where() -> str:
    """Which TPM is meant, and what stands between it and us, if that is plain."""
    if named := named_tcti():
        return named
    if not DEVICE.exists():
        return f"there is no {DEVICE}; switch the TPM on in the firmware or device tree"
    if not _has_daemon():
        return f"{DAEMON} is not installed; run: apt-get install {PACKAGES}"
    if os.geteuid() != 0 and not lets_in([os.getegid(), *os.getgroups()]):
        return f"{DAEMON} is closed to this user; run: adduser USER {GROUP}"
    return (
        f"{DEVICE} is there; run: systemctl start {DAEMON}, and if it is running, start the "
        "machine anew"
    )


def _has_daemon() -> bool:
    """And the library that speaks with it."""
    try:
        ctypes.CDLL(DAEMON_LIBRARY)
    except OSError:
        return False
    return shutil.which(DAEMON, path=DAEMON_FOLDERS) is not None


def lets_in(groups: Sequence[int]) -> bool:
    """Whether the daemon talks to somebody of these groups."""
    try:
        return grp.getgrnam(GROUP).gr_gid in groups
    except KeyError:
        return False


def crypto() -> Crypto:
    """libcrypto with the provider in it; `SetupProblem` when it cannot be had."""
    with TURN:
        if not _loaded:
            os.environ.setdefault(TCTI_VARIABLE, TCTI_DEFAULT)
            os.environ.setdefault("TSS2_LOG", "all+none")  # What goes wrong is told by us.
            import _ssl

            made = Crypto(ctypes.CDLL(getattr(_ssl, "__file__", None)))
            made.load()
            _loaded.append(made)
        return _loaded[0]


@contextmanager
def in_software() -> Iterator[None]:
    """While we speak with a server of the web, whose keys no TPM need know: nothing that a TPM's
    key is needed for. Nobody else has the chip meanwhile."""
    with TURN:
        library = _loaded[0] if _loaded else None
        if library is None:
            yield
            return
        _set(library, IN_SOFTWARE)
        try:
            yield
        finally:
            _set(library, PROPERTIES)


def _set(library: Crypto, properties: bytes) -> None:
    if not library.prefer(properties):
        raise SetupProblem(f"OpenSSL takes no properties ({library.errors()}); run it once more")
