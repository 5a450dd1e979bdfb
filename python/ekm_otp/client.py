"""The program that does the TPM's part."""

import json
import os
import shutil
import subprocess
import tempfile
from typing import Any, Dict, List, Optional

from ekm_otp.policy import PolicyEval


class ClientError(Exception):
    """The program failed: its one line says why.

    `exit_code` is 64 for wrong usage, 69 where TPM or service cannot be reached, 77 where one of them refuses, 1 otherwise.
    """

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class Key:
    """A key in the TPM, and what it takes to use it."""

    def __init__(
        self,
        tcti: Optional[str],
        keyfile: str,
        ownerpassword: Optional[str],
        password: Optional[str],
        policy_impl: Optional[PolicyEval],
        binary: Optional[str],
        timeout: float,
        arguments: List[str],
    ):
        if not keyfile:
            raise ValueError("keyfile is missing: a key file (TSS2 PEM), or handle:0x81…")
        self._tcti, self._keyfile, self._policy = tcti, keyfile, policy_impl
        self._ownerpassword, self._password = ownerpassword, password
        self._binary, self._timeout, self._arguments = binary, timeout, arguments

    def run(self, command: List[str]) -> Dict[str, Any]:
        """What the command prints, which is a JSON object."""
        binary = self._binary or os.environ.get("EKM_OTP_CLIENT") or shutil.which("ekm-otp-client")
        if not binary:
            raise ClientError("the program ekm-otp-client is not on the PATH: name it by binary=… or in $EKM_OTP_CLIENT", 69)
        # Passwords are not in the arguments, which everybody on this machine can read.
        environment = dict(os.environ)
        for name, value in (("TPM_KEY_AUTH", self._password), ("TPM_OWNER_AUTH", self._ownerpassword)):
            if value is not None:
                environment[name] = value
        words = [binary, *command, "--key", self._keyfile, *self._arguments]
        if self._tcti:
            words += ["--tcti", self._tcti]
        with tempfile.TemporaryDirectory(prefix="ekm-otp-") as folder:
            if self._policy is not None:
                path = os.path.join(folder, "policy.json")
                with open(path, "w", encoding="utf-8") as file:
                    json.dump(self._policy.policy, file)
                words += ["--policy", path]
            try:
                # A program without a terminal asks nobody for a password.
                ran = subprocess.run(
                    words,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    timeout=self._timeout,
                    start_new_session=True,
                )
            except subprocess.TimeoutExpired:
                raise ClientError(f"ekm-otp-client has not answered within {self._timeout} s", 69) from None
            except OSError as e:
                raise ClientError(f"{binary} cannot be run: {e.strerror}", 69) from None
        if ran.returncode != 0:
            told = ran.stderr.decode(errors="replace").strip().splitlines()
            raise ClientError(told[-1] if told else f"ekm-otp-client ended with {ran.returncode}", ran.returncode)
        # What is wrong with it is not shown: it holds a secret.
        try:
            answer = json.loads(ran.stdout)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ClientError("ekm-otp-client printed something else than one JSON object", 1)
        return answer


def flags(**values: Any) -> List[str]:
    """`--name=value` for each that is given: a value that begins with a dash is none less."""
    given = ((name.replace("_", "-"), value) for name, value in values.items() if value not in (None, ""))
    return [f"--{name}={value}" for name, value in given]
