"""The device's key in a TPM 2.0, where no copy of the disk takes it along.

The key file is OpenSSL's "TSS2 PRIVATE KEY": the public key, and the private one sealed by this one
chip. Reading it asks no TPM; using it does, by `edge/tpm_openssl.py`. Nothing of this is imported
before a key file asks for it (`edge/trust.py`): a device without a TPM pays nothing.

A chip is slow, and slowest at a key's first use: too slow for a tap. So
an answer of ECDH is kept, as it is the same for ever, and whoever cannot wait has boxes opened
`Ahead` of their use.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from typing import Any, Final, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from edge.model import DeviceFault, SetupProblem
from edge.tpm_openssl import DEVICE, TURN, Crypto, Refused, crypto, named_tcti, where
from edge.trust import TPM_KEY, ChipKey

END: Final = b"-----END TSS2 PRIVATE KEY-----"
LOADABLE: Final = bytes.fromhex("06066781050a0103")  # DER of OID 2.23.133.10.1.3.
OCTETS: Final = 0x04  # DER: OCTET STRING;
SEQUENCE: Final = 0x30  # SEQUENCE.
ALGORITHM_ECC: Final = 0x0023  # TPM 2.0 library, part 2, 6.3: TPM_ALG_ECC;
ALGORITHM_NULL: Final = 0x0010  # TPM_ALG_NULL.
CURVE_P256: Final = 0x0003  # 6.4: TPM_ECC_NIST_P256.
FIXED: Final = 0x12  # 8.3: fixedTPM and fixedParent: no TPM gives it to another.
KEYS_KEPT: Final = 4  # Our choice: in use, candidate, former, and one more.
EXCHANGES_KEPT: Final = 256  # Our choice: four scopes' keys in ten versions, for three device keys.
NOT_TAKEN: Final = (  # One "; ", before all there is to do: a doctor cuts there.
    "this machine's TPM does not take the key ({}); if the TPM was cleared or the file is another "
    "machine's, put it aside, get a claim from the city and provision anew, else start the machine "
    "anew, and see that the TPM's owner has no password"
)


def why_not() -> str:
    """What keeps this machine from holding a key in its TPM; "" when chip, provider and daemon are
    there. Whether they do it shows the first key (`tried_key`)."""
    if not named_tcti() and not DEVICE.exists():
        return f"this machine has no TPM (no {DEVICE})"
    try:
        crypto()
    except SetupProblem as problem:
        return str(problem)
    return ""


def new_key() -> bytes:
    """A key made in the TPM, as its file. `SetupProblem` when there is none, or it refuses."""
    try:
        with TURN:
            data = crypto().generate()
    except Refused as refused:
        raise SetupProblem(
            f"the TPM makes no key ({refused}); if its owner has a password, take it off "
            '("tpm2_changeauth -c owner -p OLD"), or use a key in a file (--key file)'
        ) from refused
    key_of(data)  # As everybody will read it.
    return data


def tried_key() -> bytes:
    """A key made in the TPM that has signed something there, as its file. `SetupProblem` else."""
    data = new_key()
    try:
        key_of(data).sign(b"", ec.ECDSA(hashes.SHA256()))
    except DeviceFault as fault:
        raise SetupProblem(str(fault)) from fault
    return data


@lru_cache(maxsize=KEYS_KEPT)
def key_of(data: bytes) -> TpmKey:
    """The key of a key file's bytes; `ValueError` when they are none of ours. No TPM is asked."""
    return TpmKey(data)


class TpmKey(ChipKey):
    """As `cryptography` has it, so that a CSR is made with it like with any other. What the TPM
    refuses is a `DeviceFault`. May be used from any thread; each use may wait for the chip. It is
    given back to the TPM when the process ends: a device has a new key a few times a year."""

    def __init__(self, data: bytes) -> None:
        self._held: int | None = None  # OpenSSL's, once the chip has taken it.
        self._exchanges: OrderedDict[bytes, bytes] = OrderedDict()
        self._data = data
        self._public = _public_of(data)

    def load(self) -> None:
        """Have the TPM take it. `SetupProblem` when it does not: now, or never."""
        with TURN:
            self._load(crypto())

    def _load(self, library: Crypto) -> int:
        if self._held is None:
            try:
                self._held = library.read(self._data)
            except Refused as refused:
                raise SetupProblem(NOT_TAKEN.format(refused)) from refused
        return self._held

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, Prehashed) or not isinstance(algorithm, hashes.SHA256):
            raise ValueError("a device signs with SHA-256 alone")
        return self._use(lambda library, key: library.sign(key, bytes(data)))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        if not isinstance(peer_public_key.curve, ec.SECP256R1):
            raise ValueError("the other key is not on P-256")
        point = peer_public_key.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        secret = self._exchanges.get(point)
        if secret is None:
            secret = self._use(lambda library, key: library.derive(key, peer_public_key))
            self._exchanges[point] = secret
            if len(self._exchanges) > EXCHANGES_KEPT:
                self._exchanges.popitem(last=False)
        return secret

    def _use(self, do: Callable[[Crypto, int], bytes]) -> bytes:
        """With the key loaded; once more, loaded anew, should a resource manager have lost it. A
        key that the chip had taken is its own: if it does not now, the chip has a trouble."""
        try:
            with TURN:
                library = crypto()
                try:
                    return do(library, self._load(library))
                except Refused as refused:
                    first = refused
                self._forget(library)
                try:
                    self._load(library)
                except SetupProblem:
                    raise first from None
                return do(library, self._load(library))
        except Refused as refused:
            raise DeviceFault(f"the TPM refuses ({refused}): {where()}") from refused
        except SetupProblem as problem:
            raise DeviceFault(str(problem)) from problem

    def _forget(self, library: Crypto) -> None:
        if self._held is not None:
            library.free(self._held)
        self._held = None

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def private_numbers(self) -> NoReturn:
        raise TypeError("a key in a TPM never leaves it")

    def private_bytes(self, *_form: object, **_named: object) -> NoReturn:
        raise TypeError("a key in a TPM never leaves it")

    def __copy__(self) -> TpmKey:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TpmKey:
        return self


# ---------------------------------------------------------------------------------- the file


def _public_of(data: bytes) -> ec.EllipticCurvePublicKey:
    """The public half in a key file (TSS2 PRIVATE KEY: DER in PEM). `ValueError` if it is none."""
    _, begin, rest = data.partition(TPM_KEY)
    body, end, _ = rest.partition(END)
    if not begin or not end:
        raise ValueError("no TSS2 PRIVATE KEY")
    try:
        der = base64.b64decode(b"".join(body.split()), validate=True)
        outer = dict(_parts(der))[SEQUENCE]
    except (binascii.Error, KeyError) as error:
        raise ValueError("a TSS2 PRIVATE KEY that is damaged") from error
    if not outer.startswith(LOADABLE):
        raise ValueError("a TSS2 PRIVATE KEY that is no loadable key")
    octets = [value for tag, value in _parts(outer) if tag == OCTETS]
    if len(octets) != 2:
        raise ValueError("a TSS2 PRIVATE KEY that is damaged")
    return _public_area(octets[0])


def _parts(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and value of each element, one after the other; lengths of at most two bytes."""
    at = 0
    while at < len(der):
        head = der[at : at + 4].ljust(4, b"\0")
        size, start = head[1], at + 2
        if size in (0x81, 0x82):
            more = size - 0x80
            size, start = int.from_bytes(head[2 : 2 + more], "big"), at + 2 + more
        elif size > 0x7F:
            raise ValueError("a TSS2 PRIVATE KEY that is damaged")
        if start + size > len(der):
            raise ValueError("a TSS2 PRIVATE KEY that is cut off")
        yield head[0], der[start : start + size]
        at = start + size


def _public_area(data: bytes) -> ec.EllipticCurvePublicKey:
    """Of TPM2B_PUBLIC (TPM 2.0 library, part 2, 12.2.5): a plain P-256 key of this chip alone."""
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        if at > len(data):
            raise ValueError("a TSS2 PRIVATE KEY whose public part is cut off")
        return data[at - size : at]

    def number(size: int = 2) -> int:
        return int.from_bytes(take(size), "big")

    number()  # Its size.
    kind, _name, attributes = number(), number(), number(4)
    take(number())  # Its policy.
    symmetric, scheme, curve, derivation = number(), number(), number(), number()
    plain = (ALGORITHM_NULL, ALGORITHM_NULL, CURVE_P256, ALGORITHM_NULL)
    if kind != ALGORITHM_ECC or (symmetric, scheme, curve, derivation) != plain:
        raise ValueError("a TPM's key that is no plain EC P-256 key")
    if attributes & FIXED != FIXED:
        raise ValueError("a TPM's key that may leave its TPM")
    x = number(number())
    y = number(number())
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


# -------------------------------------------------------------------------------------- TLS


def prepare_tls(data: bytes, authority: bytes) -> None:
    """Before `ssl` reads a key file with these bytes: the provider is loaded, the chip takes the
    key, and can check what the certificates in `authority` signed. `SetupProblem` otherwise."""
    try:
        key_of(data).load()
    except ValueError as error:
        raise SetupProblem(str(error)) from error
    try:
        trusted = x509.load_pem_x509_certificates(authority) if authority else []
    except ValueError:
        return  # Whoever reads that file says what is wrong with it.
    for certificate in trusted:
        public = certificate.public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            continue  # Checked in software.
        with TURN:
            why = crypto().why_not_checked(public)
        if why:
            name = certificate.subject.rfc4514_string()
            raise SetupProblem(
                f"the authority {name} has a key ({_kind(public)}) that this TPM cannot check "
                f"({why}); have the city issue from EC P-256 or RSA 2048, or use a key in a file "
                "(--key file)"
            )


def _kind(public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> str:
    kind = public.curve.name if isinstance(public, ec.EllipticCurvePublicKey) else "RSA"
    return f"{kind}, {public.key_size} bits"


# ------------------------------------------------------------------------------------ ahead


class Ahead:
    """Has slow work done in a thread, for one who may not wait and asks again. One job at a time;
    a job is known by its name."""

    def __init__(self) -> None:
        self._name: Hashable = None
        self._thread: threading.Thread | None = None
        self._fault: DeviceFault | None = None
        self._done: Hashable = None

    def is_done(self, name: Hashable, work: Callable[[], object], *, wait_s: float) -> bool:
        """Whether this job is done; begun if it is not. `DeviceFault` once for each time it failed:
        it is begun anew when asked for again."""
        if self._thread is None and self._done != name:
            self._name = name
            self._thread = threading.Thread(target=self._run, args=(work,), name="tpm", daemon=True)
            self._thread.start()
        if self._thread is not None:
            self._thread.join(wait_s)
            if self._thread.is_alive():
                return False
            self._thread = None
            fault, self._fault = self._fault, None
            if fault is not None:
                raise fault
            self._done = self._name
        return self._done == name

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        except DeviceFault as fault:
            self._fault = fault
        except Exception as error:  # Nobody else would hear of it in this thread.
            self._fault = DeviceFault(f"work for the TPM ended unexpectedly: {error!r}")
            self._fault.__cause__ = error
