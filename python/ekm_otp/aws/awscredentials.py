"""AWS by IAM Roles Anywhere: the key of a certificate in a TPM."""

from typing import Optional

from ekm_otp.aws.session import TPMSession
from ekm_otp.client import Key, flags, network_time
from ekm_otp.policy import PolicyEval


class AWSCredentials(TPMSession):
    """`get_session()` makes a boto3 session.

    `public_certificate_file` is the key's certificate, alone or with those that lead to the trust anchor; `session_name` the role session's, where the profile accepts one. With
    `aws_access_key_id` and without a certificate, the key is a secret access key's, as for `AWSHMACCredentials`.
    """

    def __init__(
        self,
        tcti: Optional[str] = None,
        keyfile: str = "",
        ownerpassword: Optional[str] = None,
        password: Optional[str] = None,
        policy_impl: Optional[PolicyEval] = None,
        public_certificate_file: str = "",
        region: Optional[str] = None,
        duration_seconds: int = 3600,
        trust_anchor_arn: str = "",
        session_name: Optional[str] = None,
        role_arn: str = "",
        profile_arn: str = "",
        aws_access_key_id: Optional[str] = None,
        endpoint: Optional[str] = None,
        binary: Optional[str] = None,
        timeout: float = 30,
    ):
        arguments = flags(
            certificate=public_certificate_file,
            aws_access_key_id=aws_access_key_id,
            aws_region=region,
            duration=duration_seconds,
            trust_anchor_arn=trust_anchor_arn,
            profile_arn=profile_arn,
            role_arn=role_arn,
            aws_session_name=session_name,
            endpoint=endpoint,
            timeout=network_time(timeout),
        )
        key = Key(tcti, keyfile, ownerpassword, password, policy_impl, binary, timeout, arguments)
        super().__init__(key, ["aws", "process"], region, "tpm-roles-anywhere")
