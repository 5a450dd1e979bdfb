"""A boto3 session whose credentials are made anew in time."""

from typing import List, Optional

import boto3
from botocore.credentials import RefreshableCredentials
from botocore.session import get_session

from ekm_otp.client import Key


class TPMSession:
    """What the two kinds of credentials have in common."""

    def __init__(self, key: Key, command: List[str], region: Optional[str], method: str):
        self._key, self._command, self._region, self._method = key, command, region or None, method

    def _fetch(self) -> dict:
        made = self._key.run(self._command)
        return {
            "access_key": made["AccessKeyId"],
            "secret_key": made["SecretAccessKey"],
            "token": made["SessionToken"],
            "expiry_time": made["Expiration"],
        }

    def get_session(self) -> boto3.Session:
        """A session. botocore asks for new credentials before the old ones end, one thread at a time."""
        session = get_session()
        # Nothing that the environment or a profile says goes before.
        session._credentials = RefreshableCredentials.create_from_metadata(self._fetch(), self._fetch, self._method)
        if self._region:
            session.set_config_variable("region", self._region)
        return boto3.Session(botocore_session=session)
