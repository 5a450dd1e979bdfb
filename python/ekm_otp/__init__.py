"""Credentials of AWS, Google Cloud and Entra ID from keys in a TPM, for the SDKs in Python.

The TPM's part is done by the program `ekm-otp-client`, run once for each set of credentials.
"""
