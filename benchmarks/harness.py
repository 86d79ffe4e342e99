"""The environments, the server and the measured processes. Each measurement has new processes."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from . import server

ROOT = Path(__file__).resolve().parents[1]
# The measured packages of each environment. The first is the current one, which also has the server and the floors; the
# others have only Airflow and this package in addition.
VENVS = {
    "provider": ["requests", "pydantic", "polytomic"],
    "airbyte": ["apache-airflow-providers-airbyte"],
    "dbt-cloud": ["apache-airflow-providers-dbt-cloud"],
    "fivetran": ["airflow-provider-fivetran-async"],
}
TIMEOUT = 900  # seconds for one measurement


def python_of(venv: str) -> Path:
    """Return the Python of an environment, which is made if necessary."""
    if venv == "provider":
        return Path(sys.executable)
    folder = f".venv-bench-{venv}"
    subprocess.run([sys._base_executable, "tools/make_venv.py", folder, *VENVS[venv]], cwd=ROOT, check=True)
    return ROOT / folder / "bin" / "python"


class Bench:
    """A folder with what the measured processes need: an Airflow home, and certificates for localhost."""

    def __init__(self, folder: Path) -> None:
        import certifi

        self.folder = folder
        self._pythons: dict[str, Path] = {}
        self.certificate, self._key = certificate(folder)
        # With all public certificates, so that loading them costs as much as in production.
        self.bundle = folder / "bundle.pem"
        self.bundle.write_text(Path(certifi.where()).read_text() + self.certificate.read_text())

    def python(self, venv: str) -> Path:
        if venv not in self._pythons:
            self._pythons[venv] = python_of(venv)
        return self._pythons[venv]

    @property
    def used(self) -> list[str]:
        """The environments that something was measured in."""
        return list(self._pythons)

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "_AIRFLOW", "PYTHON"))}
        return {
            **inherited,
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "NO_PROXY": "localhost,127.0.0.1",
            "PYTHONPATH": str(ROOT),
            "SSL_CERT_FILE": str(self.bundle),
            "REQUESTS_CA_BUNDLE": str(self.bundle),  # requests does not read the other
        }

    def measure(self, module: str, spec: dict[str, Any], venv: str = "provider") -> dict[str, Any]:
        """Run a module of this package in a process of its own, and read what it reports."""
        result: dict[str, Any] = json.loads(
            self.output_of(venv, "-m", f"benchmarks.{module}", json.dumps(spec)).splitlines()[-1]
        )
        return result

    def output_of(self, venv: str, *arguments: str) -> str:
        """Run the Python of an environment and return its output.

        :raises RuntimeError: when it fails.
        """
        command = [self.python(venv), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=TIMEOUT
        )
        if done.returncode:
            said = f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
            raise RuntimeError(f"{' '.join(arguments)} in {venv} exited with {done.returncode}:\n{said}")
        return done.stdout

    @contextlib.contextmanager
    def serving(self, *, tls: bool = True, **settings: Any) -> Iterator[Serving]:
        files = (str(self.certificate), str(self._key)) if tls else None
        command = [sys.executable, *server.arguments(server.Settings(tls=files, **settings))]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=ROOT, env=self.environment, stdin=pipe, stdout=pipe, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                serving = Serving(int(process.stdout.readline()))
                yield serving
                process.stdin.close()
                serving.report = json.loads(process.stdout.readline())
            finally:
                process.kill()


class Serving:
    """A running server: its port, and after its end its report."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.report: dict[str, Any] = {}


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        yield Bench(Path(folder))


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate for ``localhost`` and its key; return the paths."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return files
