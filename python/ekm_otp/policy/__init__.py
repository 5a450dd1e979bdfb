"""What a key's policy asks for, where its file does not say so (TCG TSS 2.0 JSON Data Types and Policy Language)."""

from typing import Any, Dict


class PolicyEval:
    """A policy in JSON, which the TPM is shown for each use of the key.

    Anything in the policy language that `ekm-otp-client … --policy` reads will do; a class of one's own may make it up in `__init__`.
    """

    def __init__(self, policy: Dict[str, Any], debug: bool = False):
        if not isinstance(policy, dict):
            raise TypeError("a policy is a dict, as the policy language has it")
        self.policy = policy
        self.debug = debug


class PCRPolicy(PolicyEval):
    """Registers (PCR) with their values, or as they are now: `{"policy": [{"type": "POLICYPCR", "pcrs": […]}]}`."""
