"""A policy in JSON."""

import warnings
from typing import Any, Dict


class PolicyEval:
    """A policy in JSON, which the TPM is shown for each use of the key.

    Anything in the policy language that `ekm-otp-client … --policy` reads will do; a class of one's own may make it up in `__init__`.
    """

    def __init__(self, policy: Dict[str, Any], debug: bool = False):
        if not isinstance(policy, dict):
            raise TypeError("a policy is a dict, as the policy language has it")
        if callable(getattr(self, "policy_callback", None)):
            warnings.warn("policy_callback is not called: the TPM is shown what the policy says in JSON", stacklevel=2)
        self.policy = policy
        self.debug = debug
