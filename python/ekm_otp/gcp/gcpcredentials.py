"""Google Cloud: tokens that the service account signs itself, by its key in a TPM (AIP-4111)."""

import datetime
import threading
from typing import List, Optional, Sequence, Union

from google.auth import credentials
from google.auth import exceptions

from ekm_otp.client import ClientError, Key, flags
from ekm_otp.policy import PolicyEval

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


class GCPCredentials(credentials.Scoped, credentials.CredentialsWithQuotaProject):
    """Credentials for the clients of Google Cloud.

    `email` is the service account's, `keyid` its key's id as Google knows it, `expire_in` the life of a token in seconds: 3600 at most.
    `binary` is the program `ekm-otp-client`, `timeout` the seconds that it has for each token.
    """

    def __init__(
        self,
        tcti: Optional[str] = None,
        keyfile: str = "",
        ownerpassword: Optional[str] = None,
        password: Optional[str] = None,
        policy_impl: Optional[PolicyEval] = None,
        email: str = "",
        scopes: Union[str, Sequence[str]] = CLOUD_PLATFORM,
        keyid: Optional[str] = None,
        expire_in: int = 3600,
        quota_project_id: Optional[str] = None,
        binary: Optional[str] = None,
        timeout: float = 30,
    ):
        super().__init__()
        if not email:
            raise ValueError("email is missing: the service account's")
        self._given = dict(tcti=tcti, keyfile=keyfile, ownerpassword=ownerpassword, password=password, policy_impl=policy_impl)
        self._given.update(email=email, keyid=keyid, expire_in=expire_in, binary=binary, timeout=timeout)
        self._scopes = scopes.split() if isinstance(scopes, str) else list(scopes)
        self._quota_project_id = quota_project_id
        arguments = flags(email=email, keyid=keyid, expire_in=expire_in, scopes=",".join(self._scopes), format="json")
        self._key = Key(tcti, keyfile, ownerpassword, password, policy_impl, binary, timeout, arguments)
        self._lock = threading.Lock()

    @property
    def service_account_email(self) -> str:
        return self._given["email"]

    @property
    def requires_scopes(self) -> bool:
        return False

    def with_scopes(self, scopes: Sequence[str], default_scopes: Optional[Sequence[str]] = None) -> "GCPCredentials":
        return GCPCredentials(scopes=list(scopes or default_scopes or [CLOUD_PLATFORM]), quota_project_id=self._quota_project_id, **self._given)

    def with_quota_project(self, quota_project_id: Optional[str]) -> "GCPCredentials":
        return GCPCredentials(scopes=list(self._scopes), quota_project_id=quota_project_id, **self._given)

    def refresh(self, request: object) -> None:
        """One signature by the TPM; no service is asked."""
        before = self.token
        with self._lock:
            # Another thread has made one meanwhile.
            if self.token is not before and self.valid:
                return
            try:
                made = self._key.run(["gcp", "jwt"])
            except ClientError as e:
                raise exceptions.RefreshError(str(e), retryable=e.exit_code == 69) from e
            self.token = made["access_token"]
            # google-auth keeps times in UTC without saying so.
            self.expiry = datetime.datetime.strptime(made["expires_at"], "%Y-%m-%dT%H:%M:%SZ")
