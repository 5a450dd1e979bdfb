"""A policy of registers."""

from ekm_otp.policy.policy import PolicyEval


class PCRPolicy(PolicyEval):
    """Registers (PCR) with their values, or as they are now: `{"policy": [{"type": "POLICYPCR", "pcrs": […]}]}`."""
