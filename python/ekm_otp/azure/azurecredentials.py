"""Entra ID (Azure): the key of an application's certificate in a TPM."""

import datetime
import threading
import time
from typing import Any, Dict, Optional, Tuple

from azure.core.credentials import AccessToken, AccessTokenInfo
from azure.core.exceptions import ClientAuthenticationError

from ekm_otp.client import ClientError, Key, flags, network_time
from ekm_otp.policy import PolicyEval


class AzureCredentials:
    """A TokenCredential for the clients of Azure.

    `certificate_path` is the certificate that is registered for the application, `authority` the cloud: public, usgov, china, or a URL.
    """

    # Clients ask for a new token from 5 minutes before the end on.
    _MARGIN = 300

    def __init__(
        self,
        tcti: Optional[str] = None,
        keyfile: str = "",
        ownerpassword: Optional[str] = None,
        password: Optional[str] = None,
        policy_impl: Optional[PolicyEval] = None,
        tenant_id: str = "",
        client_id: str = "",
        certificate_path: str = "",
        authority: Optional[str] = None,
        ca_file: Optional[str] = None,
        binary: Optional[str] = None,
        timeout: float = 30,
    ):
        arguments = flags(
            tenant_id=tenant_id,
            client_id=client_id,
            certificate=certificate_path,
            authority=authority,
            ca_file=ca_file,
            timeout=network_time(timeout),
            format="json",
        )
        self._tenant_id = tenant_id
        self._key = Key(tcti, keyfile, ownerpassword, password, policy_impl, binary, timeout, arguments)
        self._held: Dict[Tuple[str, ...], AccessToken] = {}
        self._lock = threading.Lock()

    def get_token(self, *scopes: str, claims: Optional[str] = None, tenant_id: Optional[str] = None, **_: Any) -> AccessToken:
        """A token for these scopes: one that is held, or a new one, made by one thread at a time.

        With `claims`, which a service asks for that takes the held one no longer, always a new one. `tenant_id` is the application's, or none.
        """
        if not scopes:
            raise ValueError("get_token wants a scope, such as https://storage.azure.com/.default")
        if _is_id(tenant_id) and _is_id(self._tenant_id) and tenant_id.lower() != self._tenant_id.lower():
            raise ClientAuthenticationError(message=f"tokens are of the tenant {self._tenant_id}, and one of {tenant_id} is asked for")
        with self._lock:
            held = self._held.get(scopes)
            if held and not claims and held.expires_on - self._MARGIN > time.time():
                return held
            try:
                made = self._key.run(["azure", "token", f"--scope={','.join(scopes)}"])
            except ClientError as e:
                # It is good until its end.
                if held and not claims and held.expires_on > time.time():
                    return held
                raise ClientAuthenticationError(message=str(e)) from e
            end = datetime.datetime.strptime(made["expires_at"] + "+0000", "%Y-%m-%dT%H:%M:%SZ%z")
            self._held[scopes] = AccessToken(made["access_token"], int(end.timestamp()))
            return self._held[scopes]

    def get_token_info(self, *scopes: str, options: Optional[Any] = None) -> AccessTokenInfo:
        """The same, as newer clients ask for it."""
        token = self.get_token(*scopes, **(options or {}))
        return AccessTokenInfo(token.token, token.expires_on)

    def close(self) -> None:
        """Forgets the tokens."""
        with self._lock:
            self._held.clear()

    def __enter__(self) -> "AzureCredentials":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _is_id(tenant: Optional[str]) -> bool:
    """Tenants go by id, or by a domain."""
    return bool(tenant) and "." not in tenant and tenant.count("-") == 4
