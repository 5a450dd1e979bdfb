"""AWS by a secret access key in a TPM."""

from typing import Dict, Optional, Union

from ekm_otp.aws.session import TPMSession
from ekm_otp.client import Key, flags, network_time
from ekm_otp.policy import PolicyEval


class AWSHMACCredentials(TPMSession):
    """`get_session()` makes a boto3 session: of the role where one is named, else of the user.

    The access key id goes by `access_key` or `aws_access_key_id`. `tags` are the role session's.
    """

    def __init__(
        self,
        tcti: Optional[str] = None,
        keyfile: str = "",
        ownerpassword: Optional[str] = None,
        password: Optional[str] = None,
        policy_impl: Optional[PolicyEval] = None,
        access_key: Optional[str] = None,
        aws_access_key_id: Optional[str] = None,
        region: Optional[str] = None,
        duration_seconds: int = 3600,
        get_session_token: Union[bool, str] = False,
        assume_role_arn: str = "",
        role_session_name: Optional[str] = None,
        tags: Optional[Dict[str, str]] = None,
        endpoint: Optional[str] = None,
        binary: Optional[str] = None,
        timeout: float = 30,
    ):
        if access_key and aws_access_key_id and access_key != aws_access_key_id:
            raise ValueError("access_key and aws_access_key_id differ: they name one thing")
        if not (access_key or aws_access_key_id):
            raise ValueError("aws_access_key_id is missing: whose secret is the key?")
        arguments = flags(
            aws_access_key_id=access_key or aws_access_key_id,
            aws_region=region,
            duration=duration_seconds,
            aws_arn=assume_role_arn,
            aws_session_name=role_session_name,
            endpoint=endpoint,
            timeout=network_time(timeout),
        )
        # As text, too, as a command line gives it.
        if str(get_session_token).lower() in ("true", "1", "yes"):
            arguments.append("--get-session-token=true")
        arguments += [f"--tags={key}={value}" for key, value in (tags or {}).items()]
        key = Key(tcti, keyfile, ownerpassword, password, policy_impl, binary, timeout, arguments)
        super().__init__(key, ["aws", "process"], region, "tpm-hmac")
