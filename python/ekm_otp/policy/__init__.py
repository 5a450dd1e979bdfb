"""What a key's policy asks for, where its file does not say so (TCG TSS 2.0 JSON Data Types and Policy Language)."""

from ekm_otp.policy.pcr import PCRPolicy
from ekm_otp.policy.policy import PolicyEval

__all__ = ["PCRPolicy", "PolicyEval"]
