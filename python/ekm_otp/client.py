"""The program that does the TPM's part."""

import json
import os
import shutil
import subprocess
import tempfile
from typing import Any, Dict, List, Optional, Tuple

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
        if timeout <= 0:
            raise ValueError("timeout is in seconds, and more than none")
        if policy_impl is not None and not isinstance(policy_impl, PolicyEval):
            raise TypeError("policy_impl is a PolicyEval, such as ekm_otp.policy.PCRPolicy")
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
            code, output, told = self._ended(words, environment)
        if code != 0:
            lines = told.decode(errors="replace").strip().splitlines()
            raise ClientError(lines[-1] if lines else f"ekm-otp-client ended with {code}", code)
        # What is wrong with it is not shown: it holds a secret.
        try:
            answer = json.loads(output)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ClientError("ekm-otp-client printed something else than one JSON object", 1)
        return answer


    def _ended(self, words: List[str], environment: Dict[str, str]) -> Tuple[int, bytes, bytes]:
        """Exit code, standard output and standard error of the program, which has its time."""
        pipes = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            # Without a terminal it asks nobody for a password.
            child = subprocess.Popen(words, env=environment, start_new_session=True, **pipes)
        except OSError as e:
            raise ClientError(f"{words[0]} cannot be run: {e.strerror}", 69) from None
        with child:
            try:
                output, told = child.communicate(timeout=self._timeout)
            except subprocess.TimeoutExpired:
                self._end(child)
                raise ClientError(f"ekm-otp-client has not answered within {self._timeout:g} s", 69) from None
            except BaseException:
                self._end(child)
                raise
        return child.returncode, output, told

    @staticmethod
    def _end(child: "subprocess.Popen[bytes]") -> None:
        # By this signal it first takes out of the TPM what it has loaded.
        child.terminate()
        try:
            child.wait(timeout=2)
        except subprocess.TimeoutExpired:
            child.kill()


def network_time(timeout: float) -> str:
    """What of `timeout` the cloud may take, so that the program itself says what it waited for: the rest is the TPM's."""
    return f"{max(1, int(timeout * 800))}ms"


def flags(**values: Any) -> List[str]:
    """`--name=value` for each that is given: a value that begins with a dash is none less."""
    given = ((name.replace("_", "-"), value) for name, value in values.items() if value not in (None, ""))
    return [f"--{name}={value}" for name, value in given]
